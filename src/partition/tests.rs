//! The bound on the producers of a log: over all its partitions, and across restarts.

use std::collections::VecDeque;

use bytes::Bytes;
use proptest::prelude::*;

use super::producer_state::WINDOW_BATCHES;
use super::*;
use crate::codec::batch_builder::BatchBuilder;
use crate::codec::compression::Compression;
use crate::codec::record_batch::ProducerStamp;

const PRODUCERS_MAX: usize = 4;
const SLOTS: u32 = 3;
/// Of each entry, from its first byte to the next one's.
const ENTRY_BYTES: u64 = EntryHeader::entry_bytes(0) as u64;

/// A batch of one record.
#[derive(Clone, Copy, Debug)]
struct Sent {
    slot: Slot,
    id: ProducerId,
    sequence: i32,
    base_offset: Offset,
}

impl Sent {
    fn stamp(self) -> ProducerStamp {
        ProducerStamp { id: self.id, epoch: 0, base_sequence: self.sequence }
    }
}

/// Partitions that remember few producers, and the log as it would be.
struct Rig {
    partitions: Partitions,
    log: Vec<Sent>,
    durable_count: usize,
}

fn key(slot: Slot) -> PartitionKey {
    PartitionKey { topic: TopicId([7; 16]), index: slot.0 as i32 }
}

fn time(nth: usize) -> WallMs {
    WallMs(nth as i64)
}

impl Partitions {
    /// As if so many records had been appended before.
    pub fn end_at(&mut self, slot: Slot, end: Offset) {
        let partition = &mut self.by_slot[slot.0 as usize];
        (partition.end_offset, partition.high_watermark) = (end, end);
    }
}

impl Rig {
    fn new() -> Rig {
        let mut partitions = Partitions::new(PRODUCERS_MAX);
        (0..SLOTS).map(Slot).for_each(|slot| partitions.insert(slot, key(slot)));
        partitions.durable_slots = SLOTS as usize;
        Rig { partitions, log: Vec::new(), durable_count: 0 }
    }

    /// The next batch of a producer, as [`Partitions::append`] takes it.
    fn send(&mut self, slot: Slot, id: ProducerId) {
        let before = self.log.iter().filter(|sent| (sent.slot, sent.id) == (slot, id)).count();
        let partition = &mut self.partitions.by_slot[slot.0 as usize];
        let sent = Sent { slot, id, sequence: before as i32, base_offset: partition.end_offset };
        assert_eq!(partition.producers.check(sent.stamp(), 1), Decision::Append, "known or not");
        let (nth, end) = (self.log.len(), Position((self.log.len() as u64 + 1) * ENTRY_BYTES));
        partition.end_offset = sent.base_offset.plus(1);
        partition.producers.append(slot, sent.stamp(), 1, sent.base_offset, time(nth), end);
        self.log.push(sent);
    }

    fn make_durable(&mut self, count: usize) {
        for _ in 0..count.min(self.log.len() - self.durable_count) {
            let header = header(self.log[self.durable_count]);
            let position = Position(self.durable_count as u64 * ENTRY_BYTES);
            self.partitions.on_durable(&Durable { header, position, payload: Bytes::new() });
            self.durable_count += 1;
        }
    }

    /// With a checkpoint at the end of what is durable, and without any.
    fn restart(&mut self, checkpoint: bool) {
        self.log.truncate(self.durable_count);
        let mut state = Vec::new();
        self.partitions.encode(&mut state);
        let operated = self.remembered();
        if checkpoint {
            self.partitions = Partitions::new(PRODUCERS_MAX);
            self.partitions.restore(&state).expect("ours");
        } else {
            self.partitions = Rig::new().partitions;
            for (nth, sent) in self.log.iter().enumerate() {
                let mut builder = BatchBuilder::new(Compression::None).producer(sent.stamp());
                builder.push(0, None, Some(b"v"), &[]);
                let mut payload = builder.finish();
                patch_base_offset(&mut payload, sent.base_offset);
                patch_leader_epoch(&mut payload, Term(1));
                self.partitions.apply(&header(*sent), time(nth), &payload).expect("ours");
            }
        }
        let recovered = self.remembered();
        assert_eq!(recovered, operated, "recovery and operation agree");
    }

    fn remembered(&self) -> Vec<Vec<ActiveProducer>> {
        self.partitions.by_slot.iter().map(Partition::active_producers).collect()
    }

    /// No batch is taken twice that is one of the last five of a producer which is among those that wrote
    /// last, and was so without a break since.
    fn check(&self) {
        let mut recent: VecDeque<(Slot, ProducerId, Vec<Sent>)> = VecDeque::new();
        for sent in &self.log[..self.durable_count] {
            let at = recent.iter().position(|(slot, id, _)| (*slot, *id) == (sent.slot, sent.id));
            let mut batches = at.and_then(|at| recent.remove(at)).map_or(Vec::new(), |known| known.2);
            batches.push(*sent);
            recent.push_front((sent.slot, sent.id, batches));
            recent.truncate(PRODUCERS_MAX);
        }
        assert_eq!(self.partitions.producer_counts().0, recent.len());
        for sent in &self.log[self.durable_count..] {
            match recent.iter_mut().find(|(slot, id, _)| (*slot, *id) == (sent.slot, sent.id)) {
                Some((_, _, batches)) => batches.push(*sent),
                None => recent.push_back((sent.slot, sent.id, vec![*sent])),
            }
        }
        for (slot, _, batches) in recent {
            let states = &self.partitions.by_slot[slot.0 as usize].producers;
            for sent in batches.iter().rev().take(WINDOW_BATCHES) {
                let judged = states.check(sent.stamp(), 1);
                let again = matches!(judged, Decision::Duplicate { base_offset, .. } if base_offset == sent.base_offset);
                assert!(again, "{sent:?} would be there twice: {judged:?}");
            }
        }
    }
}

fn header(sent: Sent) -> EntryHeader {
    EntryHeader {
        kind: EntryKind::KafkaBatch,
        slot: sent.slot,
        base_offset: sent.base_offset,
        count: 1,
        max_timestamp: 0,
        payload_bytes: 0,
        payload_crc: 0,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send { slot: u32, id: i64 },
    Durable { count: usize },
    Restart { checkpoint: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..SLOTS, 0i64..4).prop_map(|(slot, id)| Step::Send { slot, id }),
        4 => (0usize..8).prop_map(|count| Step::Durable { count }),
        1 => any::<bool>().prop_map(|checkpoint| Step::Restart { checkpoint }),
    ]
}

proptest! {
    #[test]
    fn no_batch_of_those_that_wrote_last_is_taken_twice(steps in prop::collection::vec(step(), 1..150)) {
        let mut rig = Rig::new();
        for step in steps {
            match step {
                Step::Send { slot, id } => rig.send(Slot(slot), ProducerId(id)),
                Step::Durable { count } => rig.make_durable(count),
                Step::Restart { checkpoint } => rig.restart(checkpoint),
            }
            rig.check();
        }
    }
}

#[test]
fn the_longest_silent_are_forgotten_in_whatever_partition() {
    let mut rig = Rig::new();
    for id in 0..6 {
        rig.send(Slot(id % SLOTS), ProducerId(i64::from(id)));
    }
    rig.make_durable(4);
    assert_eq!(rig.partitions.producer_counts(), (4, 0), "what is pending is not counted");
    rig.make_durable(2);
    assert_eq!(rig.partitions.producer_counts(), (4, 2), "0 and 1 had to go");
    assert!(rig.partitions.by_slot[0].producers.last_append(ProducerId(0)).is_none());

    rig.partitions.expire_producers(1, WallMs(4));
    assert_eq!(rig.partitions.producer_counts(), (3, 2), "2 and 3 are old enough, but that is a step each");
    rig.partitions.expire_producers(9, WallMs(4));
    assert_eq!(rig.partitions.producer_counts(), (2, 2));
    rig.partitions.close(Slot(2));
    assert_eq!(rig.partitions.producer_counts(), (1, 2), "5 went with its partition");
}

/// A checkpoint of before there was a bound, or of a larger one.
#[test]
fn a_checkpoint_with_too_many_is_taken_and_cut() {
    let mut rig = Rig::new();
    rig.partitions.producers_max = usize::MAX;
    for id in 0..100 {
        rig.send(Slot(0), ProducerId(99 - id));
    }
    rig.make_durable(100);
    let mut state = Vec::new();
    rig.partitions.encode(&mut state);
    let mut restored = Partitions::new(PRODUCERS_MAX);
    restored.restore(&state).expect("ours");
    let left: Vec<i64> = restored.by_slot[0].active_producers().iter().map(|active| active.id.0).collect();
    assert_eq!(left, [0, 1, 2, 3], "who wrote last");
}
