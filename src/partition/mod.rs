//! Partitions of one log: the offsets they hand out, what readers see of them, their producers, and
//! what is kept of groups: the offsets that they committed, and their members.
//!
//! Everything has two levels. *Appended* is what was handed out; *durable* is what the device has
//! reported safe, and the only thing that readers, checkpoints and later restarts know. Dropping the
//! appended level leaves exactly what recovery would find.

use smallvec::SmallVec;

use crate::base::bytes::{Fields, Truncated};
use crate::base::mutant::{self, Mutant};
use crate::base::prefetch::prefetch;
use crate::codec::record_batch::{
    self, RecordBatch, patch_base_offset, patch_leader_epoch, patch_log_append_time,
};
use crate::group::StoredGroups;
use crate::log::append_buffer::NewEntry;
use crate::log::entry::{EntryHeader, EntryKind};
use crate::log::recovery::Replay;
use crate::log::{AppendError, Durable, Log};
use crate::model::{Now, Offset, PartitionKey, Position, ProducerId, Slot, Term, TopicId, WallMs};

pub mod group_offsets;
pub mod producer_lru;
pub mod producer_state;
pub mod slot_index;
#[cfg(test)]
mod tests;
pub mod waiters;

use group_offsets::{CommittedOffset, GroupOffsets, encode_commit};
use producer_lru::ProducerLru;
use producer_state::{ActiveProducer, Decision, ProducerStates};
use slot_index::SlotIndex;

/// So many partitions and their queues take some 500 KiB: a core's own cache.
const CACHED_PARTITIONS: usize = 2048;

/// A partition that has, or had, records in this log.
#[derive(Debug)]
pub struct Partition {
    pub key: PartitionKey,
    /// The first offset that readers get.
    log_start: Offset,
    /// The next offset to be handed out.
    end_offset: Offset,
    /// One past the last durable record: what readers see.
    high_watermark: Offset,
    /// In which term the partition was first appended to at which offset, ascending.
    terms: SmallVec<[(Term, Offset); 1]>,
    producers: ProducerStates,
    deleted: bool,
}

impl Partition {
    fn new(key: PartitionKey) -> Partition {
        Partition {
            key,
            log_start: Offset::ZERO,
            end_offset: Offset::ZERO,
            high_watermark: Offset::ZERO,
            terms: SmallVec::new(),
            producers: ProducerStates::default(),
            deleted: false,
        }
    }

    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    pub fn high_watermark(&self) -> Offset {
        if mutant::is(Mutant::ShowAppended) { self.end_offset } else { self.high_watermark }
    }

    fn note_term(&mut self, term: Term, offset: Offset) {
        if self.terms.last().is_none_or(|(last, _)| *last < term) {
            self.terms.push((term, offset));
        }
    }

    /// The idempotent producers that wrote to it, as far as that is durable.
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        self.producers.active()
    }

    /// The term in which the record at `offset` was appended.
    pub fn term_at(&self, offset: Offset) -> Option<Term> {
        self.terms.iter().rev().find(|(_, start)| *start <= offset).map(|(term, _)| *term)
    }

    /// The largest term at or below `term`, and the offset at which the next one began.
    pub fn term_end(&self, term: Term) -> Option<(Term, Offset)> {
        let next = self.terms.partition_point(|(known, _)| *known <= term);
        let (found, _) = *self.terms.get(next.checked_sub(1)?)?;
        let end = self.terms.get(next).map_or(self.high_watermark, |(_, start)| *start);
        Some((found, end.min(self.high_watermark)))
    }
}

/// A batch as the edge has checked it.
#[derive(Clone, Copy)]
pub struct CheckedBatch<'a> {
    pub batch: RecordBatch<'a>,
    /// The broker's clock goes into the batch instead of the producer's.
    pub log_append_time: bool,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub base_offset: Offset,
    /// -1 unless the broker stamped it.
    pub log_append_time: i64,
    pub log_start: Offset,
    /// It may be acknowledged when the log is durable up to here; already so for a duplicate of a
    /// durable batch.
    pub durable_at: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchRefused {
    #[error("expected sequence {expected}, got {got}")]
    SequenceGap { expected: i32, got: i32 },
    #[error("the producer's epoch is older than {current}")]
    StaleEpoch { current: i16 },
    #[error("the partition is deleted")]
    Deleted,
    #[error("the partition has no offsets left for so many records")]
    OffsetsUsedUp,
    #[error(transparent)]
    Log(#[from] AppendError),
}

/// The partitions of one log, by slot. The default remembers all producers that it hears of.
#[derive(Debug)]
pub struct Partitions {
    by_slot: Vec<Partition>,
    producers: ProducerLru,
    /// Producers remembered, once for each partition that they wrote to; beyond it the longest silent are
    /// forgotten. What is pending is not counted: of that the log's memory bounds the number.
    producers_max: usize,
    /// How many were forgotten for that.
    producers_evicted: u64,
    /// How many slots the log durably knows of.
    durable_slots: usize,
    slots: SlotIndex,
    groups: GroupOffsets,
    members: StoredGroups,
}

impl Default for Partitions {
    fn default() -> Partitions {
        Partitions::new(usize::MAX)
    }
}

impl Partitions {
    pub fn new(producers_max: usize) -> Partitions {
        Partitions {
            by_slot: Vec::new(),
            producers: ProducerLru::default(),
            producers_max,
            producers_evicted: 0,
            durable_slots: 0,
            slots: SlotIndex::default(),
            groups: GroupOffsets::default(),
            members: StoredGroups::default(),
        }
    }

    pub fn slot(&self, key: PartitionKey) -> Option<Slot> {
        self.slots.get(key)
    }

    pub fn get(&self, slot: Slot) -> Option<&Partition> {
        self.by_slot.get(slot.0 as usize)
    }

    /// More than the processor's cache may be expected to hold: what is touched next has to come from memory.
    pub fn are_many(&self) -> bool {
        self.by_slot.len() > CACHED_PARTITIONS
    }

    /// The partition will be asked for: see [`prefetch`].
    #[inline]
    pub fn prefetch(&self, slot: Slot) {
        self.get(slot).into_iter().for_each(prefetch);
    }

    fn get_mut(&mut self, slot: Slot) -> Option<&mut Partition> {
        self.by_slot.get_mut(slot.0 as usize)
    }

    /// Partitions that are not deleted.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Partition)> {
        let slots = (0..).map(Slot).zip(&self.by_slot);
        slots.filter(|(_, partition)| !partition.deleted)
    }

    pub fn groups(&self) -> &GroupOffsets {
        &self.groups
    }

    /// The durable state of the groups that have, or had, members.
    pub fn stored_groups(&self) -> &StoredGroups {
        &self.members
    }

    /// The slot of a partition; its first append gives it one.
    fn open_slot(&mut self, log: &mut Log, key: PartitionKey, now: Now) -> Result<Slot, AppendError> {
        if let Some(slot) = self.slot(key) {
            return Ok(slot);
        }
        let closed = || self.by_slot.iter().position(|partition| partition.deleted);
        let reused = mutant::is(Mutant::ReuseSlot).then(closed).flatten();
        let slot = Slot(reused.unwrap_or(self.by_slot.len()) as u32);
        let mut payload = [0; 20];
        payload[..16].copy_from_slice(&key.topic.0);
        payload[16..].copy_from_slice(&key.index.to_le_bytes());
        append_control(log, EntryKind::SlotOpen, slot, Offset::ZERO, &payload, now)?;
        self.insert(slot, key);
        Ok(slot)
    }

    fn insert(&mut self, slot: Slot, key: PartitionKey) {
        self.slots.insert(key, slot);
        if mutant::is(Mutant::ReuseSlot)
            && let Some(partition) = self.by_slot.get_mut(slot.0 as usize)
        {
            partition.producers.clear(&mut self.producers);
            *partition = Partition::new(key);
            return;
        }
        assert_eq!(slot.0 as usize, self.by_slot.len(), "slots are given in order, and never twice");
        self.by_slot.push(Partition::new(key));
    }

    /// Append a batch that was checked at the edge. Sequence numbers are judged here, because only
    /// here is it known what came before.
    pub fn append(
        &mut self,
        log: &mut Log,
        key: PartitionKey,
        checked: CheckedBatch<'_>,
        now: Now,
    ) -> Result<Accepted, BatchRefused> {
        let CheckedBatch { batch, log_append_time } = checked;
        let slot = self.open_slot(log, key, now)?;
        let partition = &mut self.by_slot[slot.0 as usize];
        if partition.deleted {
            return Err(BatchRefused::Deleted);
        }
        let count = batch.record_count();
        let producer = batch.producer();
        let stamped = |append_time: WallMs| if log_append_time { append_time.0 } else { -1 };
        if let Some(stamp) = producer {
            match partition.producers.check(stamp, count) {
                Decision::Append => {}
                Decision::Duplicate { base_offset, append_time, pending_until } => {
                    return Ok(Accepted {
                        base_offset,
                        log_append_time: stamped(append_time),
                        log_start: partition.log_start,
                        durable_at: pending_until,
                    });
                }
                Decision::OutOfOrder { expected, got } => {
                    return Err(BatchRefused::SequenceGap { expected, got });
                }
                Decision::StaleEpoch { current } => return Err(BatchRefused::StaleEpoch { current }),
            }
        }

        let base_offset = partition.end_offset;
        let end_offset = base_offset.checked_plus(count).ok_or(BatchRefused::OffsetsUsedUp)?;
        let entry = NewEntry {
            kind: EntryKind::KafkaBatch,
            slot,
            base_offset,
            count,
            max_timestamp: if log_append_time { now.wall.0 } else { batch.max_timestamp() },
        };
        let term = log.term();
        let appended = log.append(entry, batch.bytes(), now, |stored| {
            if !mutant::is(Mutant::KeepClientOffsets) {
                patch_base_offset(stored, base_offset);
            }
            patch_leader_epoch(stored, term);
            let crc = if log_append_time { patch_log_append_time(stored, now.wall) } else { batch.crc() };
            record_batch::stored_crc(stored, crc)
        })?;
        partition.end_offset = end_offset;
        partition.note_term(term, base_offset);
        if let Some(stamp) = producer {
            partition.producers.append(slot, stamp, count, base_offset, now.wall, appended.end);
        }
        Ok(Accepted {
            base_offset,
            log_append_time: stamped(now.wall),
            log_start: partition.log_start,
            durable_at: (!mutant::is(Mutant::AckBeforeDurable)).then_some(appended.end),
        })
    }

    /// Delete the records of `slot` below `start`, which lies between its start and its end. Done, for
    /// ever, when the log is durable up to the position returned.
    pub fn delete_records(
        &mut self,
        log: &mut Log,
        slot: Slot,
        start: Offset,
        now: Now,
    ) -> Result<Position, AppendError> {
        append_control(log, EntryKind::LogStart, slot, start, &[], now)
    }

    /// Close the slots of a deleted topic; their records are dead when that is durable. Slots for
    /// which the log has no room now stay open; call again.
    pub fn close_topic(&mut self, log: &mut Log, topic: TopicId, now: Now) -> Result<(), AppendError> {
        self.groups.remove_topics(|deleted| deleted == topic);
        for index in 0..self.by_slot.len() {
            if self.by_slot[index].key.topic == topic && !self.by_slot[index].deleted {
                append_control(log, EntryKind::SlotClose, Slot(index as u32), Offset::ZERO, &[], now)?;
                self.by_slot[index].deleted = true;
            }
        }
        Ok(())
    }

    /// What was committed for topics that are gone goes with them, and groups that have nothing else. A deletion
    /// says so in the metadata log alone; the commits come back with each restart until a checkpoint is made
    /// without them.
    pub fn forget_offsets_of(&mut self, deleted: impl Fn(TopicId) -> bool) {
        self.groups.remove_topics(deleted);
    }

    /// Store offsets of a group; durable when the log is up to the position returned.
    pub fn commit_offsets(
        &mut self,
        log: &mut Log,
        group: &str,
        offsets: &[CommittedOffset],
        now: Now,
    ) -> Result<Position, AppendError> {
        let payload = encode_commit(group, offsets);
        append_control(log, EntryKind::GroupOffsets, Slot(0), Offset::ZERO, &payload, now)
    }

    /// Store what is to be kept of a group, encoded by [`crate::group`]; durable when the log is up to
    /// the position returned.
    pub fn store_group(&mut self, log: &mut Log, record: &[u8], now: Now) -> Result<Position, AppendError> {
        append_control(log, EntryKind::GroupState, Slot(0), Offset::ZERO, record, now)
    }

    /// A durable entry about a group.
    fn apply_group(&mut self, record: &[u8]) -> Result<(), Truncated> {
        if let Some(gone) = self.members.apply(record)? {
            self.groups.remove(gone);
        }
        Ok(())
    }

    /// An entry has become durable.
    pub fn on_durable(&mut self, durable: &Durable) {
        let Durable { header, position, payload } = durable;
        let end = position.plus(header.stored_bytes() as u64);
        match header.kind {
            EntryKind::KafkaBatch => {
                let partition = &mut self.by_slot[header.slot.0 as usize];
                partition.high_watermark = header.end_offset();
                partition.producers.apply_durable(&mut self.producers, end);
                self.evict_producers();
            }
            EntryKind::GroupOffsets => self.groups.apply(payload).expect("what was encoded here decodes"),
            EntryKind::GroupState => self.apply_group(payload).expect("what was encoded here decodes"),
            EntryKind::LogStart => self.start_at(header.slot, header.base_offset),
            EntryKind::SlotClose => self.close(header.slot),
            EntryKind::SlotOpen => self.durable_slots = header.slot.0 as usize + 1,
            EntryKind::TermOpen | EntryKind::Metadata => {}
        }
    }

    /// Readers get nothing below `start` any more.
    pub fn start_at(&mut self, slot: Slot, start: Offset) {
        if let Some(partition) = self.get_mut(slot) {
            partition.log_start = partition.log_start.max(start).min(partition.high_watermark);
        }
    }

    fn close(&mut self, slot: Slot) {
        if let Some(partition) = self.by_slot.get_mut(slot.0 as usize) {
            partition.deleted = true;
            partition.producers.clear(&mut self.producers);
            let key = partition.key;
            if self.slot(key) == Some(slot) {
                self.slots.remove(key);
            }
        }
    }

    /// Idempotent producers remembered, and how many were forgotten because they were too many.
    pub fn producer_counts(&self) -> (usize, u64) {
        (self.producers.count(), self.producers_evicted)
    }

    /// Forget at most `count` idempotent producers that were silent since before `oldest`. It is derived, as
    /// is the bound: a restart may remember those again that no checkpoint has forgotten yet.
    pub fn expire_producers(&mut self, count: usize, oldest: WallMs) {
        for _ in 0..count {
            // Should the clock have been ahead, all wait for the first.
            let Some((slot, id)) = self.producers.oldest() else { return };
            let states = &mut self.by_slot[slot.0 as usize].producers;
            if states.last_append(id).is_some_and(|last| last >= oldest) {
                return;
            }
            states.forget(&mut self.producers, id);
        }
    }

    /// Forget the longest silent producers, as many as are too many: one at most for each that came.
    fn evict_producers(&mut self) {
        while self.producers.count() > self.producers_max
            && let Some((slot, id)) = self.producers.oldest()
        {
            self.by_slot[slot.0 as usize].producers.forget(&mut self.producers, id);
            self.producers_evicted += 1;
        }
    }

    /// Put the producers of a checkpoint in order. Who wrote in the same millisecond is told apart by slot
    /// and id; who wrote before the clock was set back counts as newer than it is.
    fn seat_producers(&mut self) {
        let mut all: Vec<(WallMs, Slot, ProducerId)> = Vec::new();
        for (slot, partition) in (0..).map(Slot).zip(&self.by_slot) {
            all.extend(partition.producers.last_appends().map(|(last, id)| (last, slot, id)));
        }
        all.sort_unstable();
        for (_, slot, id) in all {
            self.by_slot[slot.0 as usize].producers.seat(&mut self.producers, id);
        }
    }

    /// The durable level, for the checkpoint (docs/FORMATS.md).
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.durable_slots as u32).to_le_bytes());
        for (slot, partition) in (0..).map(Slot).zip(&self.by_slot[..self.durable_slots]) {
            out.extend_from_slice(&partition.key.topic.0);
            out.extend_from_slice(&partition.key.index.to_le_bytes());
            out.push(u8::from(partition.deleted && self.slot(partition.key) != Some(slot)));
            out.extend_from_slice(&partition.log_start.0.to_le_bytes());
            out.extend_from_slice(&partition.high_watermark.0.to_le_bytes());
            let terms = partition.terms.iter().filter(|(_, start)| *start < partition.high_watermark);
            out.extend_from_slice(&(terms.clone().count() as u32).to_le_bytes());
            for (term, start) in terms {
                out.extend_from_slice(&term.0.to_le_bytes());
                out.extend_from_slice(&start.0.to_le_bytes());
            }
            if mutant::is(Mutant::ForgetProducers) {
                ProducerStates::default().encode(out);
            } else {
                partition.producers.encode(out);
            }
        }
        if mutant::is(Mutant::ForgetGroupOffsets) {
            GroupOffsets::default().encode(out);
        } else {
            self.groups.encode(out);
        }
        self.members.encode(out);
    }

    fn decode(bytes: &[u8]) -> Result<Partitions, String> {
        const PARTITION_BYTES_MIN: usize = 45;
        let short = |_| "the partitions' state ends too early".to_owned();
        let mut fields = Fields::new(bytes);
        let mut partitions = Partitions::default();
        let count = fields.count(PARTITION_BYTES_MIN).map_err(short)?;
        for index in 0..count {
            let topic = TopicId(fields.array().map_err(short)?);
            let key = PartitionKey { topic, index: fields.i32().map_err(short)? };
            let deleted = fields.u8().map_err(short)? != 0;
            let mut partition = Partition::new(key);
            partition.deleted = deleted;
            partition.log_start = Offset(fields.i64().map_err(short)?);
            partition.high_watermark = Offset(fields.i64().map_err(short)?);
            partition.end_offset = partition.high_watermark;
            if partition.log_start < Offset::ZERO || partition.log_start > partition.high_watermark {
                return Err(format!("slot {index} begins at {} and ends before", partition.log_start));
            }
            for _ in 0..fields.count(12).map_err(short)? {
                let term = Term(fields.u32().map_err(short)?);
                let start = Offset(fields.i64().map_err(short)?);
                let follows =
                    |(last_term, last_start): &(Term, Offset)| *last_term < term && *last_start < start;
                if start >= partition.high_watermark || !partition.terms.last().is_none_or(follows) {
                    return Err(format!("the terms of slot {index} are in no order"));
                }
                partition.terms.push((term, start));
            }
            let mut rest = fields.rest();
            let producers = ProducerStates::decode(Slot(index as u32), &mut rest);
            partition.producers = producers.map_err(|error| error.to_string())?;
            fields = Fields::new(rest);
            partitions.by_slot.push(partition);
            if !deleted {
                partitions.slots.insert(key, Slot(index as u32));
            }
        }
        partitions.durable_slots = count;
        partitions.seat_producers();
        partitions.groups = GroupOffsets::decode(&mut fields).map_err(short)?;
        // Checkpoints of before there were groups with members end here.
        if !fields.is_empty() {
            partitions.members = StoredGroups::decode(&mut fields).map_err(short)?;
        }
        Ok(partitions)
    }

    /// Recovery is over: what the log no longer has is not offered to readers.
    ///
    /// # Errors
    /// The log's index and the partitions, which checkpoints keep apart, tell different stories.
    pub fn finish_recovery(&mut self, log: &Log) -> Result<(), String> {
        for (slot, queue) in log.queues().iter() {
            let partition = self.get(slot);
            let known = partition.map_or(Offset::ZERO, |partition| partition.high_watermark);
            if queue.end_offset() != known && partition.is_none_or(|partition| !partition.deleted) {
                return Err(format!(
                    "slot {slot} ends at {} in the index, but at {known}",
                    queue.end_offset()
                ));
            }
        }
        for (slot, partition) in (0..).map(Slot).zip(&mut self.by_slot) {
            let held = log.queue(slot).map_or(partition.high_watermark, |queue| {
                if queue.runs().len() == 0 { partition.high_watermark } else { queue.start_offset() }
            });
            partition.log_start = partition.log_start.max(held);
        }
        Ok(())
    }
}

fn append_control(
    log: &mut Log,
    kind: EntryKind,
    slot: Slot,
    base_offset: Offset,
    payload: &[u8],
    now: Now,
) -> Result<Position, AppendError> {
    let entry = NewEntry { kind, slot, base_offset, count: 0, max_timestamp: now.wall.0 };
    Ok(log.append(entry, payload, now, |stored| kind.payload_crc(stored))?.end)
}

impl Replay for Partitions {
    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        *self = Partitions { producers_max: self.producers_max, ..Partitions::decode(state)? };
        self.evict_producers();
        Ok(())
    }

    fn apply(&mut self, header: &EntryHeader, appended: WallMs, payload: &[u8]) -> Result<(), String> {
        let unknown = || format!("an entry for slot {}, which was never opened", header.slot);
        match header.kind {
            EntryKind::SlotOpen => {
                let mut fields = Fields::new(payload);
                let mut read = || Ok(PartitionKey { topic: TopicId(fields.array()?), index: fields.i32()? });
                let key = read().map_err(|error: Truncated| error.to_string())?;
                if header.slot.0 as usize != self.by_slot.len() {
                    return Err(format!("slot {} is opened out of order", header.slot));
                }
                self.insert(header.slot, key);
                self.durable_slots = self.by_slot.len();
            }
            EntryKind::KafkaBatch => {
                let batch = RecordBatch::parse(payload).map_err(|error| error.to_string())?;
                let partition = self.by_slot.get_mut(header.slot.0 as usize).ok_or_else(unknown)?;
                if header.base_offset != partition.end_offset {
                    return Err(format!("offset {} follows {}", header.base_offset, partition.end_offset));
                }
                let count = batch.last_offset_delta() + 1;
                if (batch.base_offset(), count) != (header.base_offset, header.count)
                    || batch.leader_epoch() < 0
                {
                    return Err("a batch contradicts the entry that it is in".to_owned());
                }
                partition.end_offset = header.end_offset();
                partition.high_watermark = header.end_offset();
                partition.note_term(Term(batch.leader_epoch() as u32), header.base_offset);
                if let Some(stamp) = batch.producer() {
                    if stamp.base_sequence < 0 || stamp.epoch < 0 {
                        return Err("a producer's batch without sequence or epoch".to_owned());
                    }
                    // Durable already: append and apply in one. Not at the records' own timestamps, which may
                    // be of any age.
                    let (EntryHeader { slot, count, base_offset, .. }, end) = (*header, Position::ZERO);
                    partition.producers.append(slot, stamp, count, base_offset, appended, end);
                    partition.producers.apply_durable(&mut self.producers, end);
                    self.evict_producers();
                }
            }
            EntryKind::LogStart | EntryKind::SlotClose if self.get(header.slot).is_none() => {
                return Err(unknown());
            }
            EntryKind::LogStart if mutant::is(Mutant::ForgetLogStart) => {}
            EntryKind::LogStart => self.start_at(header.slot, header.base_offset),
            EntryKind::SlotClose => self.close(header.slot),
            EntryKind::GroupOffsets => self.groups.apply(payload).map_err(|error| error.to_string())?,
            EntryKind::GroupState => self.apply_group(payload).map_err(|error| error.to_string())?,
            EntryKind::TermOpen => {}
            EntryKind::Metadata => return Err("a metadata record in a log of partitions".to_owned()),
        }
        Ok(())
    }
}
