//! Idempotent producers of one partition: which batch is new, which was seen, which is out of order.
//!
//! A producer numbers its records; the partition remembers each producer's last five batches and so
//! recognises a retry of any request that can still be in flight. Like everything here the state has
//! two levels: batches are *pending* from their append until the log says that they are durable,
//! and the pending level can be dropped at any moment, leaving exactly what was before. How many
//! producers are remembered is bounded for all partitions of the log together ([`ProducerLru`]).
//!
//! ```text
//!   producer 7   [ 40..49 ][ 50..59 ][ 60..60 ] | [ 61..70 ][ 71..80 ]
//!                `------ applied, at most 5 --'   `---- pending ----'
//! ```

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use thiserror::Error;

use crate::base::mutant::{self, Mutant};
use crate::codec::record_batch::ProducerStamp;
use crate::model::{Offset, Position, ProducerId, Slot, WallMs};

use super::producer_lru::{ProducerLru, Seat};

#[cfg(test)]
mod tests;

/// Batches in which a retry is recognised: clients keep at most as many requests in flight.
pub const WINDOW_BATCHES: usize = 5;

/// Sequences are 31 bits wide: after `i32::MAX` comes 0.
const SEQUENCE_MASK: u32 = i32::MAX as u32;

/// Room for so many batches is kept by a silent producer; more comes back when it falls silent.
const IDLE_BATCHES_MAX: usize = 8;
/// The same for what a partition has pending, and for its map of producers.
const IDLE_ROOM_MAX: usize = 64;

/// What to do with a producer's batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is the next one.
    Append,
    /// It was appended before. The retry gets the first answer again, and while `pending_until` is
    /// given it must wait for that position as the first copy does: the copy may still be lost.
    Duplicate { base_offset: Offset, append_time: WallMs, pending_until: Option<Position> },
    /// A batch before it is missing, or it was seen too long ago.
    OutOfOrder { expected: i32, got: i32 },
    /// A newer incarnation of the producer has written already.
    StaleEpoch { current: i16 },
}

/// Bytes that are no producer state; they come from a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("producer state is malformed: {0}")]
pub struct ProducerStateError(&'static str);

/// The producers of a partition. Takes no memory beyond a pointer until there is one.
#[derive(Clone, Debug, Default)]
pub struct ProducerStates {
    some: Option<Box<Producers>>,
}

#[derive(Clone, Debug)]
struct Producers {
    slot: Slot,
    by_id: FxHashMap<ProducerId, Producer>,
    /// Every pending batch, in the log's order.
    pending: VecDeque<Pending>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    id: ProducerId,
    base_offset: Offset,
    /// Durable up to here, so is the batch.
    end: Position,
}

#[derive(Clone, Debug)]
struct Producer {
    /// Applied batches, at most [`WINDOW_BATCHES`] and of one epoch, then the pending ones.
    batches: VecDeque<Batch>,
    pending_count: u32,
    /// Taken while a batch is applied.
    seat: Seat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    epoch: i16,
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    append_time: WallMs,
}

// There are many of them: one of each for a producer that wrote once.
const _: () = assert!(size_of::<Producer>() == 40 && size_of::<Batch>() == 32);

/// A producer as a checkpoint would know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub id: ProducerId,
    pub epoch: i16,
    pub last_sequence: i32,
    /// When its last batch was appended.
    pub last_append: WallMs,
}

impl ProducerStates {
    /// Judges a batch of `record_count` records against everything appended so far.
    pub fn check(&self, stamp: ProducerStamp, record_count: u32) -> Decision {
        let known = self.some.as_ref().filter(|_| !mutant::is(Mutant::SkipDuplicateCheck));
        // An unknown producer may start anywhere, as in Kafka: it can be one that was idle and forgotten.
        known.map_or(Decision::Append, |known| known.check(stamp, record_count))
    }

    /// Records a batch that was appended to the partition of `slot` at `base_offset` and will be durable
    /// at `end`.
    ///
    /// Does not judge it again: recovery replays what the log holds.
    pub fn append(
        &mut self,
        slot: Slot,
        stamp: ProducerStamp,
        record_count: u32,
        base_offset: Offset,
        append_time: WallMs,
        end: Position,
    ) {
        let some = self.some.get_or_insert_with(|| Box::new(Producers::new(slot)));
        assert!(some.pending.back().is_none_or(|last| last.end <= end), "appends come in the log's order");
        some.pending.push_back(Pending { id: stamp.id, base_offset, end });
        // Most write once to a partition, and get no more memory than that.
        let new = || Producer { batches: VecDeque::with_capacity(1), pending_count: 0, seat: Seat::NONE };
        let producer = some.by_id.entry(stamp.id).or_insert_with(new);
        producer.pending_count += 1;
        producer.batches.push_back(Batch {
            epoch: stamp.epoch,
            first_sequence: stamp.base_sequence,
            last_sequence: last_sequence(stamp.base_sequence, record_count),
            base_offset,
            append_time,
        });
    }

    /// The log is durable up to `up_to`: applies what ends there or before. Whose batch that was is the last
    /// to be forgotten.
    pub fn apply_durable(&mut self, lru: &mut ProducerLru, up_to: Position) {
        let Some(some) = &mut self.some else { return };
        while let Some(&Pending { id, end, .. }) = some.pending.front()
            && end <= up_to
        {
            some.pending.pop_front();
            let producer = some.by_id.get_mut(&id).expect("a producer stays while a batch is pending");
            producer.apply_first();
            match producer.seat {
                Seat::NONE => producer.seat = lru.enter(some.slot, id),
                seat => lru.touch(seat),
            }
        }
        if some.pending.is_empty() && some.pending.capacity() > IDLE_ROOM_MAX {
            some.pending = VecDeque::new();
        }
    }

    /// Forgets every batch that is not applied.
    pub fn drop_pending(&mut self) {
        self.drop_pending_from(Position::ZERO);
    }

    /// Forgets the pending batches that end beyond `from`, where the log was cut.
    pub fn drop_pending_from(&mut self, from: Position) {
        let Some(some) = &mut self.some else { return };
        while let Some(&Pending { id, end, .. }) = some.pending.back()
            && end > from
        {
            some.pending.pop_back();
            let producer = some.by_id.get_mut(&id).expect("a producer stays while a batch is pending");
            producer.batches.pop_back();
            producer.pending_count -= 1;
            if producer.batches.is_empty() {
                some.by_id.remove(&id);
            }
        }
        self.release_room();
    }

    /// Forgets what is applied of a producer. If nothing is pending its next batch is a stranger's:
    /// accepted, whatever its sequence.
    pub fn forget(&mut self, lru: &mut ProducerLru, id: ProducerId) {
        let Some(some) = &mut self.some else { return };
        let Some(producer) = some.by_id.get_mut(&id) else { return };
        if producer.seat != Seat::NONE {
            lru.leave(std::mem::replace(&mut producer.seat, Seat::NONE));
        }
        let applied_count = producer.applied_count();
        producer.batches.drain(..applied_count);
        if producer.batches.is_empty() {
            some.by_id.remove(&id);
        }
        self.release_room();
    }

    /// The partition is gone.
    pub fn clear(&mut self, lru: &mut ProducerLru) {
        for producer in self.some.take().iter().flat_map(|some| some.by_id.values()) {
            if producer.seat != Seat::NONE {
                lru.leave(producer.seat);
            }
        }
    }

    /// When the last batch of a producer was appended.
    pub fn last_append(&self, id: ProducerId) -> Option<WallMs> {
        Some(self.some.as_ref()?.by_id.get(&id)?.last().append_time)
    }

    /// All producers, with when their last batch was appended, in no order.
    pub fn last_appends(&self) -> impl Iterator<Item = (WallMs, ProducerId)> {
        let producers = self.some.iter().flat_map(|some| &some.by_id);
        producers.map(|(id, producer)| (producer.last().append_time, *id))
    }

    /// Gives a producer that was just decoded its place in the log's list: the newest.
    pub fn seat(&mut self, lru: &mut ProducerLru, id: ProducerId) {
        let some = self.some.as_mut().expect("somebody was decoded");
        let producer = some.by_id.get_mut(&id).expect("it was decoded");
        assert_eq!(producer.seat, Seat::NONE, "seated once");
        producer.seat = lru.enter(some.slot, id);
    }

    /// The producers whose batches are applied, by id.
    pub fn active(&self) -> Vec<ActiveProducer> {
        let producers = self.some.iter().flat_map(|some| &some.by_id);
        let active = producers.filter_map(|(id, producer)| {
            let last = producer.batches.get(producer.applied_count().checked_sub(1)?)?;
            let Batch { epoch, last_sequence, append_time, .. } = *last;
            Some(ActiveProducer { id: *id, epoch, last_sequence, last_append: append_time })
        });
        let mut active: Vec<_> = active.collect();
        active.sort_unstable_by_key(|producer| producer.id);
        active
    }

    /// Appends the applied level to a checkpoint. Little-endian, producers by ascending id:
    ///
    /// ```text
    /// u32 producer count
    ///   { i64 id, i16 epoch, u8 batch count 1..=5
    ///     { i32 first sequence, i32 last sequence, i64 base offset, i64 append time }* }*
    /// ```
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut producers: Vec<_> = self.some.iter().flat_map(|some| &some.by_id).collect();
        producers.retain(|(_, producer)| producer.applied_count() > 0);
        producers.sort_unstable_by_key(|(id, _)| **id);

        out.extend_from_slice(&(producers.len() as u32).to_le_bytes());
        for (id, producer) in producers {
            let applied_count = producer.applied_count();
            assert!(applied_count <= WINDOW_BATCHES);
            out.extend_from_slice(&id.0.to_le_bytes());
            out.extend_from_slice(&producer.batches[0].epoch.to_le_bytes());
            out.push(applied_count as u8);
            for batch in producer.batches.range(..applied_count) {
                out.extend_from_slice(&batch.first_sequence.to_le_bytes());
                out.extend_from_slice(&batch.last_sequence.to_le_bytes());
                out.extend_from_slice(&batch.base_offset.0.to_le_bytes());
                out.extend_from_slice(&batch.append_time.0.to_le_bytes());
            }
        }
    }

    /// Takes what [`encode`](Self::encode) wrote of the partition of `slot` off the front of `bytes`. The
    /// producers have no seats yet.
    pub fn decode(slot: Slot, bytes: &mut &[u8]) -> Result<ProducerStates, ProducerStateError> {
        let producer_count = u32::from_le_bytes(take(bytes)?);
        let mut some = Box::new(Producers::new(slot));
        let mut previous = ProducerId(-1);
        for _ in 0..producer_count {
            let id = ProducerId(i64::from_le_bytes(take(bytes)?));
            if id <= previous {
                return Err(ProducerStateError("ids do not ascend"));
            }
            previous = id;
            some.by_id.insert(id, Producer::decode(bytes)?);
        }
        Ok(ProducerStates { some: (producer_count > 0).then_some(some) })
    }

    /// Gives back the memory of those that are gone, when it is most of it.
    fn release_room(&mut self) {
        let Some(some) = &mut self.some else { return };
        let (count, capacity) = (some.by_id.len(), some.by_id.capacity());
        if count == 0 {
            self.some = None;
        } else if capacity > IDLE_ROOM_MAX && count < capacity / 8 {
            some.by_id.shrink_to(2 * count);
        }
    }
}

impl Producers {
    fn new(slot: Slot) -> Producers {
        Producers { slot, by_id: FxHashMap::default(), pending: VecDeque::with_capacity(1) }
    }

    fn check(&self, stamp: ProducerStamp, record_count: u32) -> Decision {
        let Some(producer) = self.by_id.get(&stamp.id) else { return Decision::Append };
        let last = producer.last();
        if stamp.epoch < last.epoch {
            return Decision::StaleEpoch { current: last.epoch };
        }
        if stamp.epoch == last.epoch
            && let Some((batch, pending)) = producer.find_duplicate(stamp, record_count)
        {
            let pending = pending && !mutant::is(Mutant::AckRetryEarly);
            return Decision::Duplicate {
                base_offset: batch.base_offset,
                append_time: batch.append_time,
                pending_until: pending.then(|| self.pending_end(batch.base_offset)),
            };
        }
        let expected = if stamp.epoch > last.epoch { 0 } else { next_sequence(last.last_sequence) };
        if stamp.base_sequence != expected {
            return Decision::OutOfOrder { expected, got: stamp.base_sequence };
        }
        Decision::Append
    }

    /// Where the pending batch at `base_offset` ends in the log. A partition's offsets ascend.
    fn pending_end(&self, base_offset: Offset) -> Position {
        let found = self.pending.binary_search_by_key(&base_offset, |pending| pending.base_offset);
        self.pending[found.expect("it is pending")].end
    }
}

impl Producer {
    fn applied_count(&self) -> usize {
        self.batches.len() - self.pending_count as usize
    }

    /// The batch that this one repeats, and whether it is pending. A duplicate repeats a batch exactly;
    /// one that merely overlaps is out of order.
    fn find_duplicate(&self, stamp: ProducerStamp, record_count: u32) -> Option<(&Batch, bool)> {
        let last_sequence = last_sequence(stamp.base_sequence, record_count);
        let recent = self.batches.iter().rev().take(WINDOW_BATCHES).enumerate();
        let mut same = recent.filter(|(_, batch)| {
            let sequences = (batch.first_sequence, batch.last_sequence);
            batch.epoch == stamp.epoch && sequences == (stamp.base_sequence, last_sequence)
        });
        same.next().map(|(back, batch)| (batch, back < self.pending_count as usize))
    }

    /// Moves the oldest pending batch to the applied level, and what it pushes out of the window out.
    fn apply_first(&mut self) {
        self.pending_count -= 1;
        let mut applied_count = self.applied_count();
        let epoch = self.batches[applied_count - 1].epoch;
        while applied_count > WINDOW_BATCHES || self.batches[0].epoch != epoch {
            self.batches.pop_front();
            applied_count -= 1;
        }
        if self.pending_count == 0 && self.batches.capacity() > IDLE_BATCHES_MAX {
            self.batches.shrink_to(IDLE_BATCHES_MAX);
        }
    }

    fn last(&self) -> &Batch {
        self.batches.back().expect("a producer without a batch is removed")
    }

    fn decode(bytes: &mut &[u8]) -> Result<Producer, ProducerStateError> {
        let epoch = i16::from_le_bytes(take(bytes)?);
        let [batch_count] = take(bytes)?;
        if epoch < 0 || !(1..=WINDOW_BATCHES).contains(&usize::from(batch_count)) {
            return Err(ProducerStateError("epoch or batch count out of range"));
        }
        let mut batches = VecDeque::with_capacity(usize::from(batch_count));
        for _ in 0..batch_count {
            let batch = Batch {
                epoch,
                first_sequence: i32::from_le_bytes(take(bytes)?),
                last_sequence: i32::from_le_bytes(take(bytes)?),
                base_offset: Offset(i64::from_le_bytes(take(bytes)?)),
                append_time: WallMs(i64::from_le_bytes(take(bytes)?)),
            };
            if batch.first_sequence < 0 || batch.last_sequence < 0 || batch.base_offset < Offset::ZERO {
                return Err(ProducerStateError("a sequence or an offset is negative"));
            }
            batches.push_back(batch);
        }
        Ok(Producer { batches, pending_count: 0, seat: Seat::NONE })
    }
}

fn last_sequence(base_sequence: i32, record_count: u32) -> i32 {
    assert!(base_sequence >= 0, "validated with the batch's header");
    assert!((1..=SEQUENCE_MASK + 1).contains(&record_count), "validated with the batch's header");
    ((base_sequence as u32 + (record_count - 1)) & SEQUENCE_MASK) as i32
}

fn next_sequence(sequence: i32) -> i32 {
    ((sequence as u32 + 1) & SEQUENCE_MASK) as i32
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], ProducerStateError> {
    let (first, rest) = bytes.split_first_chunk().ok_or(ProducerStateError("it is cut off"))?;
    *bytes = rest;
    Ok(*first)
}
