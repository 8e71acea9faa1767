//! Idempotent producers of one partition: which batch is new, which was seen, which is out of order.
//!
//! A producer numbers its records; the partition remembers each producer's last five batches and so
//! recognises a retry of any request that can still be in flight. Like everything here the state has
//! two levels: batches are *pending* from their append until the log says that they are durable,
//! and the pending level can be dropped at any moment, leaving exactly what was before.
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
use crate::model::{Offset, Position, ProducerId, WallMs};

/// Batches in which a retry is recognised: clients keep at most as many requests in flight.
pub const WINDOW_BATCHES: usize = 5;

/// Sequences are 31 bits wide: after `i32::MAX` comes 0.
const SEQUENCE_MASK: u32 = i32::MAX as u32;

/// Beyond the cap, an eighth of the producers is forgotten at once, the longest idle first: finding
/// them means looking at all, and so costs a constant for each producer that comes.
const EVICTION_SHARE: usize = 8;

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

#[derive(Clone, Debug, Default)]
struct Producers {
    by_id: FxHashMap<ProducerId, Producer>,
    /// Every pending batch, in the log's order: where it ends and whose it is.
    pending: VecDeque<(Position, ProducerId)>,
}

#[derive(Clone, Debug, Default)]
struct Producer {
    /// Applied batches, at most [`WINDOW_BATCHES`] and of one epoch, then the pending ones.
    batches: VecDeque<Batch>,
    pending_count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    epoch: i16,
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    append_time: WallMs,
    /// Durable up to here, so is the batch. Meaningless once it is applied.
    end: Position,
}

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
        let producer = self.some.as_ref().and_then(|some| some.by_id.get(&stamp.id));
        let producer = producer.filter(|_| !mutant::is(Mutant::SkipDuplicateCheck));
        // An unknown producer may start anywhere: it can be one that was idle and forgotten.
        producer.map_or(Decision::Append, |producer| producer.check(stamp, record_count))
    }

    /// Records a batch that was appended at `base_offset` and will be durable at `end`.
    ///
    /// Does not judge it again: recovery replays what the log holds.
    pub fn append(
        &mut self,
        stamp: ProducerStamp,
        record_count: u32,
        base_offset: Offset,
        append_time: WallMs,
        end: Position,
    ) {
        let some = self.some.get_or_insert_default();
        assert!(some.pending.back().is_none_or(|(last, _)| *last <= end), "appends come in the log's order");
        some.pending.push_back((end, stamp.id));
        let producer = some.by_id.entry(stamp.id).or_default();
        producer.pending_count += 1;
        producer.batches.push_back(Batch {
            epoch: stamp.epoch,
            first_sequence: stamp.base_sequence,
            last_sequence: last_sequence(stamp.base_sequence, record_count),
            base_offset,
            append_time,
            end,
        });
    }

    /// The log is durable up to `up_to`: applies what ends there or before, then forgets the longest
    /// idle producers if there are more than `producers_max`.
    pub fn apply_durable(&mut self, up_to: Position, producers_max: usize) {
        let Some(some) = &mut self.some else { return };
        while let Some(&(end, id)) = some.pending.front()
            && end <= up_to
        {
            some.pending.pop_front();
            some.by_id.get_mut(&id).expect("a producer stays while a batch is pending").apply_first();
        }
        if some.by_id.len() > producers_max {
            some.evict(producers_max);
        }
    }

    /// Forgets every batch that is not applied.
    pub fn drop_pending(&mut self) {
        self.drop_pending_from(Position::ZERO);
    }

    /// Forgets the pending batches that end beyond `from`, where the log was cut.
    pub fn drop_pending_from(&mut self, from: Position) {
        let Some(some) = &mut self.some else { return };
        while let Some(&(end, id)) = some.pending.back()
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
        self.release_if_empty();
    }

    /// Forgets the producers whose last batch was appended before `oldest`
    /// (now minus `producer.id.expiration.ms`).
    pub fn expire(&mut self, oldest: WallMs) {
        let Some(some) = &mut self.some else { return };
        some.by_id.retain(|_, producer| producer.pending_count > 0 || producer.last().append_time >= oldest);
        self.release_if_empty();
    }

    /// The producers whose batches are applied, by id.
    pub fn active(&self) -> Vec<ActiveProducer> {
        let producers = self.some.iter().flat_map(|some| &some.by_id);
        let active = producers.filter_map(|(id, producer)| {
            let applied_count = producer.batches.len() - producer.pending_count;
            let last = producer.batches.get(applied_count.checked_sub(1)?)?;
            let Batch { epoch, last_sequence, append_time, .. } = *last;
            Some(ActiveProducer { id: *id, epoch, last_sequence, last_append: append_time })
        });
        let mut active: Vec<_> = active.collect();
        active.sort_unstable_by_key(|producer| producer.id);
        active
    }

    /// Producers remembered, with those that have pending batches only.
    pub fn producer_count(&self) -> usize {
        self.some.as_ref().map_or(0, |some| some.by_id.len())
    }

    /// Appends the applied level to a checkpoint. Little-endian, producers by ascending id:
    ///
    /// ```text
    /// u32 producer count
    ///   { i64 id, i16 epoch, u8 batch count 1..=5
    ///     { i32 first sequence, i32 last sequence, i64 base offset, i64 append time }* }*
    /// ```
    pub fn encode(&self, out: &mut Vec<u8>) {
        let applied = |producer: &Producer| producer.batches.len() > producer.pending_count;
        let mut producers: Vec<_> = self.some.iter().flat_map(|some| &some.by_id).collect();
        producers.retain(|(_, producer)| applied(producer));
        producers.sort_unstable_by_key(|(id, _)| **id);

        out.extend_from_slice(&(producers.len() as u32).to_le_bytes());
        for (id, producer) in producers {
            let applied_count = producer.batches.len() - producer.pending_count;
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

    /// Takes what [`encode`](Self::encode) wrote off the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<ProducerStates, ProducerStateError> {
        let producer_count = u32::from_le_bytes(take(bytes)?);
        let mut by_id = FxHashMap::default();
        let mut previous = ProducerId(-1);
        for _ in 0..producer_count {
            let id = ProducerId(i64::from_le_bytes(take(bytes)?));
            if id <= previous {
                return Err(ProducerStateError("ids do not ascend"));
            }
            previous = id;
            by_id.insert(id, Producer::decode(bytes)?);
        }
        let some = (!by_id.is_empty()).then(|| Box::new(Producers { by_id, pending: VecDeque::new() }));
        Ok(ProducerStates { some })
    }

    fn release_if_empty(&mut self) {
        self.some.take_if(|some| some.by_id.is_empty());
    }
}

impl Producers {
    /// Makes room below `producers_max`, but for producers with pending batches: those cannot be
    /// forgotten yet, and are counted again when their batches are applied.
    fn evict(&mut self, producers_max: usize) {
        let idle = self.by_id.iter().filter(|(_, producer)| producer.pending_count == 0);
        let mut idle: Vec<_> = idle.map(|(id, producer)| (producer.last().append_time, *id)).collect();
        let surplus = self.by_id.len() - producers_max;
        let count = (surplus + producers_max / EVICTION_SHARE).min(idle.len());
        // Ids break ties, so that a replay forgets the same producers.
        idle.sort_unstable();
        for (_, id) in &idle[..count] {
            self.by_id.remove(id);
        }
    }
}

impl Producer {
    fn check(&self, stamp: ProducerStamp, record_count: u32) -> Decision {
        let last = self.last();
        if stamp.epoch < last.epoch {
            return Decision::StaleEpoch { current: last.epoch };
        }
        if stamp.epoch == last.epoch
            && let Some(decision) = self.find_duplicate(stamp, record_count)
        {
            return decision;
        }
        let expected = if stamp.epoch > last.epoch { 0 } else { next_sequence(last.last_sequence) };
        if stamp.base_sequence != expected {
            return Decision::OutOfOrder { expected, got: stamp.base_sequence };
        }
        Decision::Append
    }

    /// A duplicate repeats a batch exactly; one that merely overlaps is out of order.
    fn find_duplicate(&self, stamp: ProducerStamp, record_count: u32) -> Option<Decision> {
        let last_sequence = last_sequence(stamp.base_sequence, record_count);
        for (back, batch) in self.batches.iter().rev().take(WINDOW_BATCHES).enumerate() {
            let same_sequences =
                (batch.first_sequence, batch.last_sequence) == (stamp.base_sequence, last_sequence);
            if batch.epoch == stamp.epoch && same_sequences {
                return Some(Decision::Duplicate {
                    base_offset: batch.base_offset,
                    append_time: batch.append_time,
                    pending_until: (back < self.pending_count && !mutant::is(Mutant::AckRetryEarly))
                        .then_some(batch.end),
                });
            }
        }
        None
    }

    /// Moves the oldest pending batch to the applied level, and what it pushes out of the window out.
    fn apply_first(&mut self) {
        self.pending_count -= 1;
        let mut applied_count = self.batches.len() - self.pending_count;
        let epoch = self.batches[applied_count - 1].epoch;
        while applied_count > WINDOW_BATCHES || self.batches[0].epoch != epoch {
            self.batches.pop_front();
            applied_count -= 1;
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
                end: Position::ZERO,
            };
            if batch.first_sequence < 0 || batch.last_sequence < 0 || batch.base_offset < Offset::ZERO {
                return Err(ProducerStateError("a sequence or an offset is negative"));
            }
            batches.push_back(batch);
        }
        Ok(Producer { batches, pending_count: 0 })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const PRODUCERS_MAX: usize = 1000;

    fn stamp(id: i64, epoch: i16, base_sequence: i32) -> ProducerStamp {
        ProducerStamp { id: ProducerId(id), epoch, base_sequence }
    }

    /// Appends batches of ten records; each ends a hundred bytes after the one before.
    fn append(states: &mut ProducerStates, stamp: ProducerStamp, nth: u64) {
        let (offset, time) = (Offset(nth as i64 * 10), WallMs(nth as i64));
        states.append(stamp, 10, offset, time, Position(nth * 100));
    }

    fn encoded(states: &ProducerStates) -> Vec<u8> {
        let mut out = Vec::new();
        states.encode(&mut out);
        out
    }

    #[test]
    fn the_life_of_a_producer() {
        let mut states = ProducerStates::default();
        assert_eq!(states.check(stamp(7, 3, 500), 10), Decision::Append, "unknown: any sequence");
        append(&mut states, stamp(7, 3, 500), 1);
        append(&mut states, stamp(7, 3, 510), 2);
        states.apply_durable(Position(100), PRODUCERS_MAX);

        let duplicate = |nth: i64, pending_until| Decision::Duplicate {
            base_offset: Offset(nth * 10),
            append_time: WallMs(nth),
            pending_until,
        };
        let table = [
            ("next", stamp(7, 3, 520), 10, Decision::Append),
            ("durable duplicate", stamp(7, 3, 500), 10, duplicate(1, None)),
            ("pending duplicate", stamp(7, 3, 510), 10, duplicate(2, Some(Position(200)))),
            ("overlap", stamp(7, 3, 510), 9, Decision::OutOfOrder { expected: 520, got: 510 }),
            ("gap", stamp(7, 3, 530), 10, Decision::OutOfOrder { expected: 520, got: 530 }),
            ("stale", stamp(7, 2, 520), 10, Decision::StaleEpoch { current: 3 }),
            ("reborn", stamp(7, 4, 0), 10, Decision::Append),
            ("reborn wrongly", stamp(7, 4, 520), 10, Decision::OutOfOrder { expected: 0, got: 520 }),
            ("another", stamp(8, 0, 99), 10, Decision::Append),
        ];
        for (name, stamp, count, expected) in table {
            assert_eq!(states.check(stamp, count), expected, "{name}");
        }

        let last = |last_sequence, nth| ActiveProducer {
            id: ProducerId(7),
            epoch: 3,
            last_sequence,
            last_append: WallMs(nth),
        };
        append(&mut states, stamp(8, 0, 99), 3);
        assert_eq!(states.active(), [last(509, 1)], "what is pending is not told");
        states.apply_durable(Position(200), PRODUCERS_MAX);
        assert_eq!(states.active(), [last(519, 2)]);
        states.drop_pending();
        assert_eq!(states.active(), [last(519, 2)]);
    }

    #[test]
    fn a_batch_that_was_dropped_never_was() {
        let mut states = ProducerStates::default();
        append(&mut states, stamp(7, 3, 500), 1);
        append(&mut states, stamp(7, 3, 510), 2);
        states.apply_durable(Position(100), PRODUCERS_MAX);
        states.drop_pending();
        assert_eq!(states.check(stamp(7, 3, 510), 10), Decision::Append, "the second copy never was");
    }

    #[test]
    fn sequences_wrap() {
        let mut states = ProducerStates::default();
        append(&mut states, stamp(1, 0, i32::MAX - 4), 1);
        let next = states.check(stamp(1, 0, 5), 10);
        assert_eq!(next, Decision::Append, "MAX-4 ..= MAX, 0 ..= 4");
        let again = states.check(stamp(1, 0, i32::MAX - 4), 10);
        assert!(matches!(again, Decision::Duplicate { .. }));

        append(&mut states, stamp(2, 0, i32::MAX - 9), 2);
        assert_eq!(states.check(stamp(2, 0, 0), 10), Decision::Append, "just full");
    }

    #[test]
    fn five_batches_are_remembered() {
        let mut states = ProducerStates::default();
        for nth in 0..6 {
            append(&mut states, stamp(1, 0, nth as i32 * 10), nth + 1);
        }
        for durable in [0, 300, 600] {
            states.apply_durable(Position(durable), PRODUCERS_MAX);
            let too_old = states.check(stamp(1, 0, 0), 10);
            assert_eq!(too_old, Decision::OutOfOrder { expected: 60, got: 0 });
            assert!(matches!(states.check(stamp(1, 0, 10), 10), Decision::Duplicate { .. }));
        }
    }

    #[test]
    fn dropping_restores_what_a_new_epoch_replaced() {
        let mut states = ProducerStates::default();
        append(&mut states, stamp(1, 0, 0), 1);
        states.apply_durable(Position(100), PRODUCERS_MAX);
        append(&mut states, stamp(1, 1, 0), 2);
        assert_eq!(states.check(stamp(1, 0, 10), 10), Decision::StaleEpoch { current: 1 });
        states.drop_pending_from(Position(100));
        assert_eq!(states.check(stamp(1, 0, 10), 10), Decision::Append);
        assert!(matches!(states.check(stamp(1, 0, 0), 10), Decision::Duplicate { pending_until: None, .. }));
    }

    #[test]
    fn idle_producers_are_forgotten_and_cost_nothing() {
        assert_eq!(size_of::<ProducerStates>(), size_of::<usize>());
        let mut states = ProducerStates::default();
        append(&mut states, stamp(1, 0, 0), 1);
        append(&mut states, stamp(2, 0, 0), 2);
        states.apply_durable(Position(100), PRODUCERS_MAX);
        states.expire(WallMs(3));
        assert_eq!(states.producer_count(), 1, "a pending batch keeps its producer");
        states.apply_durable(Position(200), PRODUCERS_MAX);
        states.expire(WallMs(2));
        assert_eq!(states.producer_count(), 1, "not old enough");
        states.expire(WallMs(3));
        assert!(states.some.is_none(), "the memory is given back");

        append(&mut states, stamp(1, 0, 0), 3);
        states.drop_pending();
        assert!(states.some.is_none());
    }

    #[test]
    fn the_longest_idle_producers_make_room() {
        let mut states = ProducerStates::default();
        for nth in 1..=17 {
            append(&mut states, stamp(nth as i64, 0, 0), nth);
            states.apply_durable(Position(nth * 100), 16);
        }
        assert_eq!(states.producer_count(), 14, "one too many, and an eighth of sixteen");
        assert_eq!(states.check(stamp(3, 0, 77), 10), Decision::Append, "forgotten");
        assert!(matches!(states.check(stamp(4, 0, 77), 10), Decision::OutOfOrder { .. }), "kept");

        for nth in 18..=40 {
            append(&mut states, stamp(nth as i64, 0, 0), nth);
        }
        states.apply_durable(Position(1700), 16);
        assert_eq!(states.producer_count(), 23, "pending ones stay, idle ones go");
        states.apply_durable(Position(4000), 16);
        assert_eq!(states.producer_count(), 14);
    }

    #[test]
    fn rotten_bytes_are_errors() {
        let mut states = ProducerStates::default();
        append(&mut states, stamp(1, 0, 0), 1);
        append(&mut states, stamp(2, 0, 0), 2);
        states.apply_durable(Position(200), PRODUCERS_MAX);
        let sound = encoded(&states);
        assert_eq!(sound.len(), 4 + 2 * (11 + 24));
        for cut in 0..sound.len() {
            assert!(ProducerStates::decode(&mut &sound[..cut]).is_err(), "cut at {cut}");
        }
        // id, epoch, batch count (none, six), sequence, offset of the first; id of the second.
        for (at, byte) in [(11, 0x80), (13, 0x80), (14, 0), (14, 6), (18, 0x80), (30, 0x80), (39, 1)] {
            let mut bytes = sound.clone();
            bytes[at] = byte;
            assert!(ProducerStates::decode(&mut &bytes[..]).is_err(), "byte {at}");
        }
        assert!(ProducerStates::decode(&mut &[0xff; 4][..]).is_err(), "a huge count");
    }

    /// The rules without any cleverness: all history of every producer, and where durability ends.
    #[derive(Clone, Default)]
    struct Model {
        history: BTreeMap<i64, Vec<Batch>>,
        durable: Position,
    }

    impl Model {
        fn check(&self, stamp: ProducerStamp, count: u32) -> Decision {
            let Some(last) = self.history.get(&stamp.id.0).and_then(|batches| batches.last()) else {
                return Decision::Append;
            };
            let last_sequence = ((stamp.base_sequence as i64 + count as i64 - 1) % (1 << 31)) as i32;
            let expected = if stamp.epoch > last.epoch {
                0
            } else {
                ((last.last_sequence as i64 + 1) % (1 << 31)) as i32
            };
            if stamp.epoch < last.epoch {
                return Decision::StaleEpoch { current: last.epoch };
            }
            let recent = self.history[&stamp.id.0].iter().rev().take(5);
            for batch in recent.filter(|batch| batch.epoch == stamp.epoch) {
                if batch.first_sequence == stamp.base_sequence && batch.last_sequence == last_sequence {
                    return Decision::Duplicate {
                        base_offset: batch.base_offset,
                        append_time: batch.append_time,
                        pending_until: (batch.end > self.durable).then_some(batch.end),
                    };
                }
            }
            if stamp.base_sequence == expected {
                return Decision::Append;
            }
            Decision::OutOfOrder { expected, got: stamp.base_sequence }
        }

        fn truncate(&mut self, from: Position) {
            for batches in self.history.values_mut() {
                batches.retain(|batch| batch.end <= from);
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Send { id: i64, epoch: i16, behind: u32, count: u32 },
        Durable { back: u64 },
        Truncate { back: u64 },
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            10 => (0i64..3, 0i16..3, prop_oneof![4 => Just(0u32), 1 => 0u32..8], 1u32..3)
                .prop_map(|(id, epoch, behind, count)| Step::Send { id, epoch, behind, count }),
            2 => (0u64..600).prop_map(|back| Step::Durable { back }),
            1 => (0u64..600).prop_map(|back| Step::Truncate { back }),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_the_model(steps in prop::collection::vec(step(), 1..200)) {
            let mut states = ProducerStates::default();
            let mut model = Model::default();
            let mut end = Position::ZERO;
            let mut offset = Offset(0);
            for step in steps {
                match step {
                    Step::Send { id, epoch, behind, count } => {
                        // Starts close to the wrap, and goes back a little now and then.
                        let last = model.history.get(&id).and_then(|batches| batches.last());
                        let (epoch, next) = match last {
                            Some(last) if epoch > 0 => (last.epoch, last.last_sequence as u32 + 1),
                            Some(last) if behind == 0 => (last.epoch + 1, 0),
                            _ => (epoch, i32::MAX as u32 - 3),
                        };
                        let base_sequence = (next.wrapping_sub(behind) & SEQUENCE_MASK) as i32;
                        let stamp = stamp(id, epoch, base_sequence);
                        let decision = states.check(stamp, count);
                        prop_assert_eq!(decision, model.check(stamp, count));
                        if decision == Decision::Append {
                            end = end.plus(100);
                            let append_time = WallMs(end.0 as i64 + 7);
                            states.append(stamp, count, offset, append_time, end);
                            let last_sequence = last_sequence(base_sequence, count);
                            model.history.entry(id).or_default().push(Batch {
                                epoch, first_sequence: base_sequence, last_sequence,
                                base_offset: offset, append_time, end,
                            });
                            offset = offset.plus(count);
                        }
                    }
                    Step::Durable { back } => {
                        let durable = Position(end.0.saturating_sub(back)).max(model.durable);
                        model.durable = durable;
                        states.apply_durable(durable, PRODUCERS_MAX);
                    }
                    Step::Truncate { back } => {
                        end = Position(end.0.saturating_sub(back)).max(model.durable);
                        model.truncate(end);
                        states.drop_pending_from(end);
                    }
                    Step::Restart => {
                        let bytes = encoded(&states);
                        end = model.durable;
                        model.truncate(end);
                        states.drop_pending();
                        prop_assert_eq!(&encoded(&states), &bytes, "a checkpoint holds what is applied");
                        let mut rest = &bytes[..];
                        states = ProducerStates::decode(&mut rest).expect("ours");
                        prop_assert!(rest.is_empty());
                    }
                }
            }
        }

        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            let _ = ProducerStates::decode(&mut &bytes[..]);
        }
    }
}
