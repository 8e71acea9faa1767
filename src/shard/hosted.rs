//! A log and everything that lives on it: partitions, who waits for durability, who waits for data.

use std::collections::VecDeque;

use crate::base::mutant::{self, Mutant};
use crate::codec::record_batch::RecordBatch;
use crate::group::{GroupRules, StoreId};
use crate::log::append_buffer::NewEntry;
use crate::log::chunks::ChunkId;
use crate::log::consume_queue::Queue;
use crate::log::entry::{EntryHeader, EntryKind};
use crate::log::group_commit::{BlockContent, Committed};
use crate::log::space::Job;
use crate::log::{AppendError, Durable, Log, Room};
use crate::metadata::catalog::Catalog;
use crate::metrics::{LogGauges, ShardStats};
use crate::model::{Nanos, Now, Offset, PartitionKey, Position, ShardId, Slot, TopicId, WallMs};
use crate::partition::waiters::{NO_PART, Waiter, Waiters};
use crate::partition::{Accepted, BatchRefused, CheckedBatch, Partition, Partitions};

use super::acks::Acks;
use super::call::{Answer, AppendStamps, AppendedBatch, Call, CallError, Ticket};
use super::groups::{GroupHost, Home};
use chunk_waiters::ChunkWaiters;
use retention::RetentionQueue;
use search::Search;

mod chunk_waiters;
mod deletion;
mod list_offset;
mod read;
mod retention;
mod room;
mod search;
#[cfg(test)]
mod tests;

/// Silent producers that are forgotten once a second: half a millisecond of a turn at most.
const PRODUCERS_STEP: usize = 2048;

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub shard: ShardId,
    pub ticket: Ticket,
    /// Its answer, if not given at once, is a [`Mail::Late`](super::mailbox::Mail::Late).
    pub deferred: bool,
}

impl Origin {
    pub fn new(shard: ShardId, ticket: Ticket) -> Origin {
        Origin { shard, ticket, deferred: false }
    }
}

/// What happens when a position is durable.
#[derive(Debug)]
pub enum AckWaiter {
    /// A batch that arrived on this shard; its response is staged already.
    Batch(Ticket),
    /// This answer goes out.
    Answer(Origin, Answer),
    /// The next record of the metadata log that is being written.
    Metadata,
    /// The group that has stored this goes on.
    Group(StoreId),
}

/// A batch of this shard that is durable, and when its block was submitted and completed.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    pub ticket: Ticket,
    pub submitted: Nanos,
    pub completed: Nanos,
}

/// What a hosted log has to say after a step.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The shard that looks into this.
    pub me: ShardId,
    pub acked: Vec<Acked>,
    pub answers: Vec<(Origin, Answer)>,
    pub woken: Vec<Waiter>,
    /// How many more records of the metadata log are durable.
    pub metadata_durable: usize,
    /// The others never will be.
    pub metadata_failed: bool,
    /// What an operator should read.
    pub messages: Vec<String>,
}

pub struct Hosted {
    pub log: Log,
    pub partitions: Partitions,
    groups: GroupHost,
    acks: Acks<AckWaiter>,
    waiters: Waiters,
    /// Woken by something else than records: their partition is gone, or begins elsewhere.
    woken: Vec<Waiter>,
    chunk_waiters: ChunkWaiters,
    /// Searches that need a chunk which is being read.
    chunk_searches: Vec<(ChunkId, Search)>,
    /// Those that go on as far as each turn has time for it, in order.
    searches: VecDeque<Search>,
    /// What they may look through before the turn is over.
    search_bytes_left: usize,
    /// Nobody waits for them any more.
    stopping: bool,
    /// Calls that append and found no room, in order.
    held: VecDeque<(Origin, Call)>,
    /// What waits here takes the room that comes before this shard's clients do, or after them.
    held_first: bool,
    /// Whoever comes first has taken some.
    first_went: bool,
    /// Topics that are deleted but whose slots could not all be closed yet.
    closing: Vec<TopicId>,
    retention: RetentionQueue,
    /// Batches, records and bytes that other shards sent here, not counted yet.
    mailed: (u64, u64, u64),
    committed: Vec<Committed>,
}

impl Hosted {
    pub fn new(log: Log, partitions: Partitions, rules: GroupRules) -> Hosted {
        let mut retention = RetentionQueue::default();
        let filled = log.queues().iter().filter(|(_, queue)| queue.runs().len() > 0);
        filled.for_each(|(slot, _)| retention.on_change(slot));
        let chunk_waiters = ChunkWaiters::new(log.unseen_reads() / 2);
        Hosted {
            log,
            partitions,
            groups: GroupHost::new(rules),
            acks: Acks::default(),
            waiters: Waiters::default(),
            woken: Vec::new(),
            chunk_waiters,
            chunk_searches: Vec::new(),
            searches: VecDeque::new(),
            search_bytes_left: search::TURN_BYTES,
            stopping: false,
            held: VecDeque::new(),
            held_first: false,
            first_went: false,
            closing: Vec::new(),
            retention,
            mailed: (0, 0, 0),
            committed: Vec::new(),
        }
    }

    /// Append a batch for a connection of this shard. Acknowledged through [`Outbox::acked`], or at
    /// once if `durable_at` is `None`.
    pub fn append(
        &mut self,
        key: PartitionKey,
        batch: CheckedBatch<'_>,
        ticket: Ticket,
        now: Now,
    ) -> Result<Accepted, CallError> {
        let accepted = self.partitions.append(&mut self.log, key, batch, now).map_err(refused)?;
        self.first_went |= !self.held_first && self.holds();
        if let Some(position) = accepted.durable_at {
            self.acks.push(position, AckWaiter::Batch(ticket));
        }
        Ok(accepted)
    }

    /// There will be an append to this partition.
    pub fn expect_append(&self, key: PartitionKey) {
        if self.partitions.are_many() {
            self.partitions.slot(key).into_iter().for_each(|slot| self.partitions.prefetch(slot));
        }
    }

    /// The turn is over: who came first and got something comes second in the next one.
    pub fn end_turn(&mut self) {
        self.held_first ^= std::mem::take(&mut self.first_went);
        self.search_bytes_left = search::TURN_BYTES;
    }

    /// Do a call. `None`: the answer comes later.
    pub fn call(&mut self, origin: Origin, call: Call, catalog: &Catalog, now: Now) -> Option<Answer> {
        let no_room = |bytes| !self.held.is_empty() || self.log.room(bytes) == Room::Wait;
        if call.appended_bytes().is_some_and(no_room) {
            self.held.push_back((origin, call));
            return None;
        }
        self.perform(origin, call, catalog, now)
    }

    /// Do a call for which the log has room, if it needs any.
    fn perform(&mut self, origin: Origin, call: Call, catalog: &Catalog, now: Now) -> Option<Answer> {
        match call {
            Call::Append { partition, batch } => self.append_call(origin, partition, batch, catalog, now),
            Call::Read { partitions, bytes_max, at_least_one, park } => {
                let (shard, conn) = (origin.shard, origin.ticket.conn);
                let park = park.map(|enough| (Waiter { shard, conn, part: NO_PART }, enough));
                Some(Answer::Read(self.read_all(&partitions, (bytes_max, at_least_one), park, catalog)))
            }
            Call::ListOffset { partition, spec } => {
                self.begin_search(Search::new(origin, partition, spec), catalog)
            }
            Call::TermEnd { partition, term } => Some(Answer::TermEnd(
                self.known(partition, catalog).map(|slot| self.partitions.get(slot?)?.term_end(term)),
            )),
            Call::DeleteRecords { partition, before } => {
                match self.delete_records(partition, before, catalog, now) {
                    Ok((start, Some(position))) => {
                        let answer = Answer::DeleteRecords(Ok(start));
                        self.acks.push(position, AckWaiter::Answer(origin, answer));
                        None
                    }
                    Ok((start, None)) => Some(Answer::DeleteRecords(Ok(start))),
                    Err(error) => Some(Answer::DeleteRecords(Err(error))),
                }
            }
            Call::PartitionSizes { partitions } => {
                Some(Answer::PartitionSizes(self.partition_sizes(partitions.as_deref())))
            }
            Call::ListProducers { partition } => {
                Some(Answer::Producers(self.known(partition, catalog).map(|slot| {
                    let partition = slot.and_then(|slot| self.partitions.get(slot));
                    partition.map(Partition::active_producers).unwrap_or_default()
                })))
            }
            Call::Group { group, call } => {
                let (groups, mut home) = self.groups();
                groups.call(origin, group, call, &mut home, now)
            }
            Call::ListGroups => Some(Answer::ListGroups(self.groups.list(&self.partitions))),
            Call::FetchOffsets { group, partitions } => Some(Answer::FetchOffsets(
                // A commit that was under way when the log failed may be there after a restart: what is
                // known now is perhaps not what holds.
                if self.log.failed() {
                    Err(CallError::Storage)
                } else {
                    Ok(self.partitions.groups().get(&group, partitions.as_deref()))
                },
            )),
            Call::Admin(_) => unreachable!("the shard keeps calls to the metadata log to itself"),
        }
    }

    fn groups(&mut self) -> (&mut GroupHost, Home<'_>) {
        let Hosted { log, partitions, acks, groups, .. } = self;
        (groups, Home { log, partitions, acks })
    }

    /// The partition's slot, `Ok(None)` if nothing was ever written to it.
    fn known(&self, key: PartitionKey, catalog: &Catalog) -> Result<Option<Slot>, CallError> {
        let topic = catalog.topic_by_id(key.topic).ok_or(CallError::UnknownPartition)?;
        if topic.log_of(key.index) != Some(self.log.id()) {
            return Err(CallError::UnknownPartition);
        }
        Ok(self.partitions.slot(key))
    }

    fn append_call(
        &mut self,
        origin: Origin,
        key: PartitionKey,
        bytes: bytes::Bytes,
        catalog: &Catalog,
        now: Now,
    ) -> Option<Answer> {
        let done = |result| Some(Answer::Appended(result));
        let topic = match catalog.topic_by_id(key.topic) {
            Some(topic) if topic.log_of(key.index) == Some(self.log.id()) => topic,
            _ => return done(Err(CallError::UnknownPartition)),
        };
        // The edge has checked it; these are the same bytes.
        let Ok(batch) = RecordBatch::parse(&bytes) else { return done(Err(CallError::UnknownPartition)) };
        let checked = CheckedBatch { batch, log_append_time: topic.config.log_append_time };
        match self.partitions.append(&mut self.log, key, checked, now) {
            Ok(accepted) => {
                self.mailed.0 += 1;
                self.mailed.1 += u64::from(batch.record_count());
                self.mailed.2 += bytes.len() as u64;
                let Accepted { base_offset, log_append_time, log_start, durable_at } = accepted;
                let stamps = AppendStamps { appended: now.mono, ..AppendStamps::default() };
                let batch = AppendedBatch { base_offset, log_append_time, log_start, stamps };
                let answer = Answer::Appended(Ok(batch));
                match durable_at {
                    Some(position) => {
                        self.acks.push(position, AckWaiter::Answer(origin, answer));
                        None
                    }
                    None => Some(answer),
                }
            }
            Err(error) => done(Err(refused(error))),
        }
    }

    /// Bytes of the log that hold each partition's records, of those that have any.
    fn partition_sizes(
        &self,
        wanted: Option<&[PartitionKey]>,
    ) -> Result<Vec<(PartitionKey, u64)>, CallError> {
        if self.log.failed() {
            return Err(CallError::Storage);
        }
        let size = |slot| self.log.queue(slot).map_or(0, Queue::bytes);
        Ok(match wanted {
            Some(keys) => {
                keys.iter().filter_map(|key| Some((*key, size(self.partitions.slot(*key)?)))).collect()
            }
            None => self.partitions.iter().map(|(slot, partition)| (partition.key, size(slot))).collect(),
        })
    }

    /// Before the first call: groups go on, and deletions that were cut short are finished.
    pub fn start(&mut self, catalog: &Catalog, now: Now) {
        self.partitions.forget_offsets_of(|topic| catalog.topic_by_id(topic).is_none());
        self.groups.start(&self.partitions, now);
        self.close_orphans(catalog, now);
    }

    /// Append a record to the metadata log. Durable when the log is, up to the position returned.
    pub fn append_record(log: &mut Log, record: &[u8], now: Now) -> Result<Position, AppendError> {
        let kind = EntryKind::Metadata;
        let (slot, base_offset) = (Slot(0), Offset::ZERO);
        let entry = NewEntry { kind, slot, base_offset, count: 0, max_timestamp: now.wall.0 };
        Ok(log.append(entry, record, now, |stored| kind.payload_crc(stored))?.end)
    }

    /// The same; [`Outbox::metadata_durable`] counts it when it is durable.
    pub fn append_metadata(&mut self, record: &[u8], now: Now) -> Result<(), CallError> {
        let position = Hosted::append_record(&mut self.log, record, now).map_err(log_refused)?;
        self.acks.push(position, AckWaiter::Metadata);
        Ok(())
    }

    /// The reading of a chunk is over: whoever waited for it looks again.
    pub fn on_chunk(&mut self, chunk: ChunkId, out: &mut Outbox) {
        self.chunk_waiters.on_chunk(chunk, &mut out.woken);
        let ready = self.chunk_searches.extract_if(.., |(waits_for, _)| *waits_for == chunk);
        self.searches.extend(ready.map(|(_, search)| search));
    }

    /// Apply what has become durable, and say who waited for it.
    pub fn apply_durable(&mut self, now: Now, catalog: &Catalog, stats: &mut ShardStats, out: &mut Outbox) {
        let (batches, records, bytes) = std::mem::take(&mut self.mailed);
        stats.counters.batches_produced += batches;
        stats.counters.records_produced += records;
        stats.counters.produced_bytes += bytes;
        self.committed.extend(self.log.take_committed());
        if self.partitions.are_many() {
            for slot in self.log.durable_slots() {
                self.partitions.prefetch(slot);
                self.retention.prefetch(slot);
            }
            self.log.prefetch_durable();
        }
        while let Some(durable) = self.log.poll_durable() {
            self.partitions.on_durable(&durable);
            let EntryHeader { kind, slot, .. } = durable.header;
            if kind.is_data() || kind == EntryKind::LogStart {
                self.retention.on_change(slot);
            }
            self.wake(&durable, out);
        }
        for block in self.committed.drain(..) {
            let BlockContent { bytes, padding_bytes, entry_count } = block.content;
            let write_nanos = block.completed.since(block.submitted);
            stats.record_block(bytes, padding_bytes, entry_count, write_nanos);
            while let Some(waiter) = self.acks.pop(block.end) {
                match waiter {
                    AckWaiter::Batch(ticket) => out.acked.push(Acked {
                        ticket,
                        submitted: block.submitted,
                        completed: block.completed,
                    }),
                    AckWaiter::Answer(origin, mut answer) => {
                        if let Answer::Appended(Ok(AppendedBatch { stamps, .. })) = &mut answer {
                            (stamps.submitted, stamps.completed) = (block.submitted, block.completed);
                        }
                        out.answers.push((origin, answer));
                    }
                    AckWaiter::Metadata => out.metadata_durable += 1,
                    AckWaiter::Group(id) => self.groups.on_stored(id, true, now),
                }
            }
        }
        for chunk in self.log.take_given_up_reads() {
            self.on_chunk(chunk, out);
        }
        self.run_searches(catalog, out);
        if self.log.failed() {
            self.fail(now, out);
        }
        let (groups, mut home) = self.groups();
        let stored = groups.run(&mut home, now, out);
        let done = self.retry_held(catalog, now, out);
        self.first_went |= self.held_first && (stored || done);
    }

    fn wake(&mut self, durable: &Durable, out: &mut Outbox) {
        let kind = durable.header.kind;
        if !self.waiters.is_empty()
            && (kind.is_data() || kind == EntryKind::LogStart)
            && let Some(partition) = self.partitions.get(durable.header.slot)
        {
            self.waiters.wake(partition.key, &mut out.woken);
        }
    }

    /// Who is woken by something else than records, since the last call of this.
    pub fn take_woken(&mut self, woken: &mut Vec<Waiter>) {
        woken.append(&mut self.woken);
    }

    /// A write failed: everybody who waits hears that nothing is certain.
    fn fail(&mut self, now: Now, out: &mut Outbox) {
        for waiter in self.acks.fail_all() {
            match waiter {
                AckWaiter::Batch(ticket) if mutant::is(Mutant::AckAfterFailure) => {
                    out.acked.push(Acked { ticket, submitted: Nanos(0), completed: Nanos(0) });
                }
                AckWaiter::Batch(ticket) => {
                    // Through the answers, which can carry an error.
                    let origin = Origin::new(out.me, ticket);
                    out.answers.push((origin, Answer::Appended(Err(CallError::Storage))));
                }
                AckWaiter::Answer(origin, answer) => out.answers.push((origin, failed(answer))),
                AckWaiter::Metadata => out.metadata_failed = true,
                AckWaiter::Group(id) => self.groups.on_stored(id, false, now),
            }
        }
    }

    /// Forget what nobody uses: producers that were silent since before `producers`, and what groups
    /// committed before `offsets`.
    pub fn expire(&mut self, catalog: &Catalog, producers: WallMs, offsets: WallMs, now: Now) {
        self.partitions.expire_producers(PRODUCERS_STEP, producers);
        let (groups, mut home) = self.groups();
        groups.expire(&mut home, catalog, offsets, now);
    }

    /// When the groups want to be looked at although nothing happens.
    pub fn group_deadline(&self) -> Option<Nanos> {
        self.groups.deadline()
    }

    /// The broker stops: members that wait for others hear so.
    pub fn stop_groups(&mut self, now: Now) {
        self.groups.stop(now);
    }

    /// The checkpoint that is due, if one is.
    pub fn checkpoint(&mut self, catalog: Option<&Catalog>, now: Now) -> Option<Job> {
        if !self.log.wants_checkpoint(now) {
            return None;
        }
        Some(self.begin_checkpoint(catalog))
    }

    /// A checkpoint of what is durable; `catalog` for the metadata log.
    pub fn begin_checkpoint(&mut self, catalog: Option<&Catalog>) -> Job {
        let state = match catalog {
            Some(catalog) => catalog.snapshot(),
            None => {
                let mut state = Vec::new();
                self.partitions.encode(&mut state);
                state
            }
        };
        self.log.begin_checkpoint(&state)
    }

    /// Nobody waits for this log any more.
    pub fn is_quiet(&self) -> bool {
        (self.log.is_idle() || self.log.failed()) && self.acks.is_empty() && self.held.is_empty()
    }

    pub fn gauges(&self) -> LogGauges {
        let segments = self.log.segments();
        let (producers, producers_evicted) = self.partitions.producer_counts();
        LogGauges {
            log: self.log.id(),
            appended: self.log.appended(),
            durable: self.log.durable(),
            segment_bytes: segments.total_bytes(),
            live_bytes: self.log.chunk_spans().1.map(|span| u64::from(span.live_bytes)).sum(),
            segments: segments.iter().count() as u64,
            segments_ready: segments.ready_count() as u64,
            blocks_in_flight: self.log.blocks_in_flight() as u64,
            producers: producers as u64,
            producers_evicted,
            groups: self.groups.count() as u64,
            groups_with_offsets: self.partitions.groups().count() as u64,
            groups_bytes: self.groups.bytes(&self.partitions) as u64,
            failed: self.log.failed(),
        }
    }
}

fn refused(error: BatchRefused) -> CallError {
    match error {
        BatchRefused::SequenceGap { expected, got } => CallError::SequenceGap { expected, got },
        BatchRefused::StaleEpoch { .. } => CallError::StaleProducerEpoch,
        BatchRefused::Deleted => CallError::UnknownPartition,
        BatchRefused::OffsetsUsedUp => CallError::OffsetsUsedUp,
        BatchRefused::Log(error) => log_refused(error),
    }
}

pub(super) fn log_refused(error: AppendError) -> CallError {
    match error {
        AppendError::NoMemory => CallError::Full("its memory is in use"),
        AppendError::NoSegment => CallError::Full("no segment is ready; is the disk full?"),
        AppendError::TooLarge { .. } => CallError::TooLarge,
        AppendError::Failed => CallError::Storage,
    }
}

/// The same answer, as it is when the log has failed.
fn failed(answer: Answer) -> Answer {
    match answer {
        Answer::Appended(_) => Answer::Appended(Err(CallError::Storage)),
        Answer::DeleteRecords(_) => Answer::DeleteRecords(Err(CallError::Storage)),
        Answer::CommitOffsets(_) => Answer::CommitOffsets(Err(CallError::Storage)),
        Answer::DeleteGroup(_) => Answer::DeleteGroup(Err(CallError::Storage)),
        Answer::DeleteOffsets(_) => Answer::DeleteOffsets(Err(CallError::Storage)),
        other => other,
    }
}
