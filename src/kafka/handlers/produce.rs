//! Produce: the hot path. Batches are checked where they lie in the receive buffer, appended to their
//! logs, and the response is staged before anything is durable.

use bytes::Bytes;
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use crate::codec::record_batch::{BatchError, ProduceRules, RecordBatch};
use crate::kafka::errors;
use crate::kafka::front::{Close, Turn};
use crate::kafka::protocol::ErrorCode;
use crate::kafka::protocol::Message;
use crate::kafka::protocol::header::RequestHeader;
use crate::kafka::protocol::messages::ProduceRequest;
use crate::kafka::protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use crate::kafka::protocol::produce_reply::{ProduceOutcome, ProduceReply, StagedPartition};
use crate::kafka::protocol::wire::Reader;
use crate::log::Room;
use crate::log::entry::EntryHeader;
use crate::metadata::topic::Topic;
use crate::metrics::latency::ProduceStamps;
use crate::model::{LogId, PartitionKey, TopicId};
use crate::partition::CheckedBatch;
use crate::shard::call::{Answer, AppendedBatch, Call, Ticket};

/// Appends that may wait for other shards before this connection is read no further.
const CALLS_WAITING_MAX: usize = 256;
/// First version in which topics are named by their ids.
const BY_ID_SINCE: i16 = 13;

/// What became of a request.
pub enum Produced {
    /// A log has no room; nothing was done.
    Later,
    /// Parts of it are not durable, or under way to another shard.
    Waits(ProduceState),
    /// Nothing to wait for. `None`: no response is wanted.
    Done(Option<Vec<u8>>),
}

/// A request that waits for its batches.
pub struct ProduceState {
    /// The response, staged; `None` if none is wanted.
    frame: Option<Vec<u8>>,
    /// By part: where its outcome is in the frame.
    staged: SmallVec<[StagedPartition; 1]>,
    waiting: u32,
    /// Of batches that were copied for other shards.
    mailed_bytes: usize,
}

impl ProduceState {
    /// Memory that the request holds.
    pub fn bytes(&self) -> usize {
        let staged = self.staged.len() * size_of::<StagedPartition>();
        self.frame.as_ref().map_or(0, Vec::len) + staged + self.mailed_bytes
    }

    /// One batch is durable. Returns the response when it was the last.
    pub fn on_acked(&mut self) -> Option<Option<Vec<u8>>> {
        self.waiting -= 1;
        (self.waiting == 0).then(|| self.frame.take())
    }

    /// An outcome that was not known when the response was staged. Returns the response when it was the last.
    pub fn on_answer(
        &mut self,
        part: u32,
        answer: Answer,
        stamps: &mut ProduceStamps,
        turn: &mut Turn<'_>,
    ) -> Result<Option<Option<Vec<u8>>>, Close> {
        let Answer::Appended(result) = answer else { unreachable!("an append is answered as one") };
        let outcome = match result {
            Ok(AppendedBatch { base_offset, log_append_time, log_start, stamps: there }) => {
                // Its shard takes the batch up and appends it at one stamp, that of its turn.
                stamps.routed = stamps.routed.max(there.appended);
                stamps.appended = stamps.appended.max(there.appended);
                stamps.submitted = stamps.submitted.max(there.submitted);
                stamps.written = stamps.written.max(there.completed);
                ProduceOutcome {
                    error_code: ErrorCode::NONE,
                    base_offset: base_offset.0,
                    log_append_time_ms: log_append_time,
                    log_start_offset: log_start.0,
                }
            }
            Err(error) => refuse(turn, errors::of_call(&error)),
        };
        match &mut self.frame {
            Some(frame) => {
                if let Some(staged) = self.staged.get(part as usize) {
                    staged.write(frame, outcome);
                }
            }
            None if outcome.error_code != ErrorCode::NONE => return Err(refused_silently()),
            None => {}
        }
        Ok(self.on_acked())
    }
}

/// Without a response this is the only way to tell the producer, as in Kafka.
fn refused_silently() -> Close {
    Close("a batch without acks was refused".to_owned())
}

fn refuse(turn: &mut Turn<'_>, error: ErrorCode) -> ProduceOutcome {
    turn.shard.stats.record_error(crate::kafka::protocol::ApiKey::Produce.key(), error.0);
    ProduceOutcome::error(error)
}

/// Where a partition of the request belongs.
struct Target {
    log: LogId,
    key: PartitionKey,
    rules: ProduceRules,
}

pub fn handle(
    turn: &mut Turn<'_>,
    ticket: Ticket,
    header: &RequestHeader<'_>,
    body: &[u8],
    stamps: &mut ProduceStamps,
) -> Result<Produced, Close> {
    let version = header.version;
    let request = ProduceRequest::decode(&mut Reader::new(body), version)
        .map_err(|error| Close(format!("Produce request: {error}")))?;
    if !has_room(turn, &request) {
        return Ok(Produced::Later);
    }
    stamps.parsed = (turn.clock)();
    stamps.routed = stamps.parsed;

    let silent = request.acks == 0;
    let refused = if !(-1..=1).contains(&request.acks) {
        Some(ErrorCode::INVALID_REQUIRED_ACKS)
    } else if request.transactional_id.is_some() {
        // No transaction can have been begun here.
        Some(ErrorCode::INVALID_TXN_STATE)
    } else {
        None
    };

    let mut frame = turn.front.frame();
    let mut reply = ProduceReply::begin(&mut frame, version, header.correlation_id, request.topic_data.len());
    let mut staged: SmallVec<[StagedPartition; 1]> = SmallVec::new();
    let mut known: SmallVec<[(u32, ProduceOutcome); 1]> = SmallVec::new();
    let (mut waiting, mut mailed_bytes) = (0, 0);
    let mut failed = false;
    let count: usize = request.topic_data.iter().map(|topic| topic.partition_data.len()).sum();
    let mut named = FxHashSet::default();
    for topic in &request.topic_data {
        reply.topic(topic.name, topic.topic_id, topic.partition_data.len());
        for partition in &topic.partition_data {
            let part = staged.len() as u32;
            staged.push(reply.partition(partition.index));
            let result = match (target(turn, topic, partition, version), refused) {
                // A frame has room for a million batches, a turn has not. Kafka takes the last one and forgets
                // the others; no client names a partition twice.
                (Ok(target), None) if count > 1 && !named.insert(target.key) => {
                    Err(ErrorCode::INVALID_REQUEST)
                }
                (Ok(target), None) => produce_one(turn, Ticket { part, ..ticket }, target, partition),
                (Ok(_), Some(error)) | (Err(error), _) => Err(error),
            };
            match result {
                Ok((outcome, waits)) => {
                    waiting += u32::from(waits);
                    if outcome.is_none() {
                        mailed_bytes += partition.records.map_or(0, <[u8]>::len);
                    }
                    known.extend(outcome.map(|outcome| (part, outcome)));
                }
                Err(error) => {
                    failed = true;
                    known.push((part, refuse(turn, error)));
                }
            }
        }
    }
    reply.finish(0);
    stamps.appended = (turn.clock)();
    turn.front.appended_at = Some(stamps.appended);
    for (part, outcome) in known {
        staged[part as usize].write(&mut frame, outcome);
    }
    if silent && failed {
        return Err(refused_silently());
    }
    let frame = (!silent).then_some(frame);
    if waiting > 0 {
        Ok(Produced::Waits(ProduceState { frame, staged, waiting, mailed_bytes }))
    } else {
        stamps.set_acked(stamps.appended);
        Ok(Produced::Done(frame))
    }
}

/// Would all of the request be taken now? Asked before anything is appended, because a request is
/// taken up whole or not at all.
fn has_room(turn: &mut Turn<'_>, request: &ProduceRequest<'_>) -> bool {
    if turn.shard.calls_waiting() > CALLS_WAITING_MAX {
        return false;
    }
    let mut needs: SmallVec<[(LogId, usize); 2]> = SmallVec::new();
    for topic in &request.topic_data {
        let Some(known) = find_topic(turn, topic) else { continue };
        for partition in &topic.partition_data {
            let (Some(log), Some(records)) = (known.log_of(partition.index), partition.records) else {
                continue;
            };
            let entry_bytes = EntryHeader::entry_bytes(records.len());
            match needs.iter_mut().find(|(other, _)| *other == log) {
                Some((_, bytes)) => *bytes += entry_bytes,
                None => needs.push((log, entry_bytes)),
            }
        }
    }
    needs.iter().all(|(log, bytes)| !turn.shard.is_local(*log) || turn.shard.room(*log, *bytes) == Room::Yes)
}

fn find_topic<'t>(turn: &'t Turn<'_>, topic: &TopicProduceData<'_>) -> Option<&'t Topic> {
    let catalog = turn.shard.catalog();
    let found = if topic.topic_id.is_nil() {
        catalog.topic(topic.name)
    } else {
        catalog.topic_by_id(TopicId(topic.topic_id.into_bytes()))
    };
    found.map(|topic| &**topic)
}

fn target(
    turn: &Turn<'_>,
    topic: &TopicProduceData<'_>,
    partition: &PartitionProduceData<'_>,
    version: i16,
) -> Result<Target, ErrorCode> {
    let Some(known) = find_topic(turn, topic) else {
        // A nil id is one that nobody knows, too.
        return Err(if version < BY_ID_SINCE {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        } else {
            ErrorCode::UNKNOWN_TOPIC_ID
        });
    };
    let log = known.log_of(partition.index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let config = &known.config;
    Ok(Target {
        log,
        key: PartitionKey { topic: known.id, index: partition.index },
        rules: ProduceRules {
            batch_bytes_max: config.batch_bytes_max.unwrap_or(turn.front.settings.message_bytes_max) as usize,
            log_append_time: config.log_append_time,
            timestamp_before_max_ms: config.timestamp_before_max_ms,
            timestamp_after_max_ms: config.timestamp_after_max_ms,
            now: turn.now.wall,
        },
    })
}

/// Check and append one partition's batch. Returns its outcome, if it is known, and whether the
/// response must wait for it.
fn produce_one(
    turn: &mut Turn<'_>,
    ticket: Ticket,
    Target { log, key, rules }: Target,
    partition: &PartitionProduceData<'_>,
) -> Result<(Option<ProduceOutcome>, bool), ErrorCode> {
    let records = partition.records.ok_or(ErrorCode::INVALID_RECORD)?;
    // The checks take as long as the memory does.
    turn.shard.expect_append(log, key);
    let batch = check(records, &rules).map_err(|error| {
        turn.shard.stats.counters.batch_crc_errors +=
            u64::from(matches!(error, BatchError::CrcMismatch { .. }));
        errors::of_batch(&error)
    })?;
    if batch.is_transactional() {
        return Err(ErrorCode::INVALID_TXN_STATE);
    }
    if !turn.shard.is_local(log) {
        // The other shard reads it when this receive buffer has long been used again.
        let batch = Bytes::copy_from_slice(batch.bytes());
        turn.shard.call(log, ticket, Call::Append { partition: key, batch }, turn.now);
        return Ok((None, true));
    }
    let accepted = turn
        .shard
        .append(log, key, CheckedBatch { batch, log_append_time: rules.log_append_time }, ticket, turn.now)
        .map_err(|error| errors::of_call(&error))?;
    let outcome = ProduceOutcome {
        error_code: ErrorCode::NONE,
        base_offset: accepted.base_offset.0,
        log_append_time_ms: accepted.log_append_time,
        log_start_offset: accepted.log_start.0,
    };
    Ok((Some(outcome), accepted.durable_at.is_some()))
}

fn check<'a>(records: &'a [u8], rules: &ProduceRules) -> Result<RecordBatch<'a>, BatchError> {
    let batch = RecordBatch::parse(records)?;
    batch.validate_for_produce(rules)?;
    batch.verify_crc()?;
    Ok(batch)
}
