//! Fetch: whole batches from an offset on, with a long poll.
//!
//! A fetch looks at all its partitions; if that is not enough it is parked and looks again when one of
//! them has more, when a chunk it needs has been read, or when its time is over. There are no fetch
//! sessions: every response carries session id 0, which tells the client to send full requests.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::kafka::connection::{Close, Turn};
use crate::kafka::context::epoch_of;
use crate::kafka::errors;
use crate::kafka::protocol::ErrorCode;
use crate::kafka::protocol::header::RequestHeader;
use crate::kafka::protocol::messages::fetch::{FetchableTopicResponse, PartitionData};
use crate::kafka::protocol::messages::{FetchRequest, FetchResponse};
use crate::kafka::protocol::records::Records;
use crate::kafka::protocol::wire::Reader;
use crate::kafka::protocol::{Message, frame};
use crate::metadata::topic::Topic;
use crate::model::{LogId, Nanos, Offset, PartitionKey, Term, TopicId};
use crate::shard::call::{Answer, Call, ReadPart, ReadResult, Ticket};

/// A client that does not want to wait still waits this long for the device.
const COLD_WAIT: Duration = Duration::from_secs(5);
/// No client needs a longer poll.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What one log of another shard is asked for.
struct RemoteRead {
    log: LogId,
    parts: Vec<ReadPart>,
    /// Where each belongs: topic and partition in the request's order.
    places: Vec<(usize, usize)>,
}

struct Part {
    /// Where to read, or why not.
    target: Result<(LogId, ReadPart), ErrorCode>,
    index: i32,
    result: ReadResult,
}

struct TopicParts {
    name: Rc<str>,
    id: Uuid,
    parts: Vec<Part>,
}

/// A fetch that is under way.
pub struct FetchRequestState {
    topics: Vec<TopicParts>,
    read_committed: bool,
    min_bytes: usize,
    max_bytes: usize,
    deadline: Nanos,
    /// Reading from the device may last until here.
    cold_deadline: Nanos,
    /// Calls to other shards that are not answered, and which parts each asked for.
    calls: Vec<Option<Vec<(usize, usize)>>>,
    outstanding: usize,
    /// Something happened since the last look.
    again: bool,
    /// At the last look the shard had memory for small batches only, if for any.
    limited: bool,
}

/// Read the request; the caller lets it run.
pub fn begin(
    turn: &mut Turn<'_>,
    header: &RequestHeader<'_>,
    body: &[u8],
) -> Result<Box<FetchRequestState>, Close> {
    let request = FetchRequest::decode(&mut Reader::new(body), header.version)
        .map_err(|error| Close(format!("Fetch request: {error}")))?;
    let wait = Duration::from_millis(request.max_wait_ms.max(0) as u64).min(WAIT_MAX);
    let max_bytes = (request.max_bytes.max(0) as usize).min(turn.front.settings.fetch_bytes_max);
    let mut topics = Vec::with_capacity(request.topics.len());
    for wanted in &request.topics {
        let catalog = turn.shard.catalog();
        let by_id = !wanted.topic_id.is_nil();
        let known = if by_id {
            catalog.topic_by_id(TopicId(wanted.topic_id.into_bytes()))
        } else {
            catalog.topic(wanted.topic)
        };
        let name = known.map_or_else(|| Rc::from(wanted.topic), |topic| topic.name.clone());
        let parts = wanted
            .partitions
            .iter()
            .map(|partition| {
                let unknown =
                    if by_id { ErrorCode::UNKNOWN_TOPIC_ID } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
                let target = known
                    .ok_or(unknown)
                    .and_then(|topic| {
                        find(
                            topic,
                            partition.partition,
                            &turn.front.log_terms,
                            partition.current_leader_epoch,
                        )
                    })
                    .map(|(log, key)| {
                        let bytes_max = partition.partition_max_bytes.max(0) as usize;
                        let offset = Offset(partition.fetch_offset);
                        (log, ReadPart { partition: key, offset, bytes_max })
                    });
                Part { target, index: partition.partition, result: ReadResult::default() }
            })
            .collect();
        topics.push(TopicParts { name, id: wanted.topic_id, parts });
    }
    Ok(Box::new(FetchRequestState {
        topics,
        read_committed: request.isolation_level == 1,
        min_bytes: (request.min_bytes.max(0) as usize).min(max_bytes),
        max_bytes,
        deadline: turn.now.mono.plus(wait),
        cold_deadline: turn.now.mono.plus(wait.max(COLD_WAIT)),
        calls: Vec::new(),
        outstanding: 0,
        again: true,
        limited: false,
    }))
}

fn find(topic: &Topic, index: i32, terms: &[Term], epoch: i32) -> Result<(LogId, PartitionKey), ErrorCode> {
    let log = topic.log_of(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let current = terms.get(log.0 as usize).map_or(-1, |term| epoch_of(*term));
    match epoch {
        epoch if epoch < 0 || epoch == current => Ok((log, PartitionKey { topic: topic.id, index })),
        epoch if epoch < current => Err(ErrorCode::FENCED_LEADER_EPOCH),
        _ => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
    }
}

impl FetchRequestState {
    pub fn deadline(&self) -> Nanos {
        if self.is_loading() && self.bytes() == 0 { self.cold_deadline } else { self.deadline }
    }

    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// There is something to look at, and nothing of it has been gathered.
    pub fn is_unread(&self) -> bool {
        self.again && self.outstanding == 0
    }

    /// It waits for memory of the shard.
    pub fn is_starved(&self) -> bool {
        self.limited && self.outstanding == 0 && self.bytes() == 0
    }

    /// Memory that the request holds: its partitions, and the records gathered so far.
    pub fn held_bytes(&self) -> usize {
        self.parts().count() * size_of::<Part>() + self.bytes()
    }

    /// Wait no longer: the broker is stopping.
    pub fn give_up(&mut self, now: Nanos) {
        (self.deadline, self.cold_deadline) = (now, now);
    }

    pub fn on_woken(&mut self) {
        self.again = true;
    }

    /// What another shard found.
    pub fn on_answer(&mut self, part: u32, answer: Answer) {
        let Answer::Read(results) = answer else { unreachable!("a read is answered as one") };
        let places = self.calls.get_mut(part as usize).and_then(Option::take);
        let places = places.expect("a call is answered once");
        self.outstanding -= 1;
        for ((topic, part), result) in places.into_iter().zip(results) {
            self.topics[topic].parts[part].result = result;
        }
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.topics.iter().flat_map(|topic| &topic.parts)
    }

    fn bytes(&self) -> usize {
        self.parts().map(|part| part.result.bytes).sum()
    }

    fn is_loading(&self) -> bool {
        self.parts().any(|part| part.result.loading)
    }

    /// Look, if there is a reason to; `held_bytes`: what the connection holds besides. Returns whether the
    /// response should leave now.
    pub fn run(&mut self, turn: &mut Turn<'_>, ticket: Ticket, held_bytes: usize) -> bool {
        if self.outstanding == 0 && self.again {
            self.again = false;
            self.look(turn, ticket, held_bytes);
        }
        if self.outstanding > 0 {
            return false;
        }
        let bytes = self.bytes();
        let failed = self.parts().any(|part| part.target.is_err() || part.result.error.is_some());
        let nothing_asked = self.parts().next().is_none();
        let enough = bytes >= self.min_bytes && !(bytes == 0 && self.is_loading());
        enough || failed || nothing_asked || turn.now.mono >= self.deadline()
    }

    /// Read all partitions: those of this shard at once, those of others by call.
    fn look(&mut self, turn: &mut Turn<'_>, ticket: Ticket, held_bytes: usize) {
        let mut left = turn.front.memory.response_bytes(held_bytes, self.max_bytes);
        self.limited = turn.front.memory.is_used_up();
        if left < self.max_bytes {
            // More than fits cannot be waited for.
            self.min_bytes = self.min_bytes.min(1);
        }
        // One batch is given whatever its size, so that readers get on, but not of memory that is not there.
        let mut any = self.limited;
        let mut remote: Vec<RemoteRead> = Vec::new();
        for (topic_index, topic) in self.topics.iter_mut().enumerate() {
            for (part_index, part) in topic.parts.iter_mut().enumerate() {
                part.result = ReadResult::default();
                let Ok((log, read)) = part.target else { continue };
                if turn.shard.is_local(log) {
                    let bytes_max = left.min(read.bytes_max);
                    part.result = turn.shard.read(log, &read, bytes_max, !any, Some(ticket.conn));
                    left = left.saturating_sub(part.result.bytes);
                    any |= part.result.bytes > 0;
                    continue;
                }
                let place = (topic_index, part_index);
                match remote.iter_mut().find(|other| other.log == log) {
                    Some(other) => {
                        other.parts.push(read);
                        other.places.push(place);
                    }
                    None => remote.push(RemoteRead { log, parts: vec![read], places: vec![place] }),
                }
            }
        }
        self.calls.clear();
        let share = left / remote.len().max(1);
        let at_least_one = !any;
        for RemoteRead { log, parts: partitions, places } in remote {
            let part = self.calls.len() as u32;
            self.calls.push(Some(places));
            self.outstanding += 1;
            let call = Call::Read { partitions, bytes_max: share, at_least_one, park: true };
            turn.shard.call(log, Ticket { part, ..ticket }, call, turn.now);
        }
    }

    /// Write the response. Returns its bytes.
    pub fn encode(
        &mut self,
        turn: &mut Turn<'_>,
        version: i16,
        correlation_id: i32,
        pieces: &mut Vec<Bytes>,
    ) -> usize {
        turn.shard.stats.counters.fetched_bytes += self.bytes() as u64;
        for part in self.parts() {
            let error = part.error();
            if error != ErrorCode::NONE {
                turn.shard.stats.record_error(crate::kafka::protocol::ApiKey::Fetch.key(), error.0);
            }
        }
        let responses = self
            .topics
            .iter()
            .map(|topic| FetchableTopicResponse {
                topic: &topic.name,
                topic_id: topic.id,
                partitions: topic.parts.iter().map(|part| part.response(self.read_committed)).collect(),
            })
            .collect();
        let response = FetchResponse { responses, ..FetchResponse::default() };
        frame::put_response_pieces(pieces, version, correlation_id, &response)
    }
}

impl Part {
    fn error(&self) -> ErrorCode {
        match (&self.target, &self.result.error) {
            (Err(error), _) => *error,
            (_, Some(error)) => errors::of_call(error),
            (Ok(_), None) => ErrorCode::NONE,
        }
    }

    fn response(&self, read_committed: bool) -> PartitionData<'_> {
        let error_code = self.error();
        let ReadResult { high_watermark, log_start, records, .. } = &self.result;
        let known = self.target.is_ok();
        PartitionData {
            partition_index: self.index,
            error_code,
            high_watermark: if known { high_watermark.0 } else { -1 },
            last_stable_offset: if known { high_watermark.0 } else { -1 },
            log_start_offset: if known { log_start.0 } else { -1 },
            // No transactions: nothing is ever aborted. Null where the reader did not ask.
            aborted_transactions: read_committed.then(Default::default),
            records: Records::Shared(records),
            ..PartitionData::default()
        }
    }
}
