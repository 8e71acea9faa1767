use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const SLOT: Slot = Slot(3);

fn stamp(id: i64, epoch: i16, base_sequence: i32) -> ProducerStamp {
    ProducerStamp { id: ProducerId(id), epoch, base_sequence }
}

/// Appends batches of ten records; each ends a hundred bytes after the one before.
fn append(states: &mut ProducerStates, stamp: ProducerStamp, nth: u64) {
    let (offset, time) = (Offset(nth as i64 * 10), WallMs(nth as i64));
    states.append(SLOT, stamp, 10, offset, time, Position(nth * 100));
}

fn new() -> (ProducerStates, ProducerLru) {
    Default::default()
}

fn encoded(states: &ProducerStates) -> Vec<u8> {
    let mut out = Vec::new();
    states.encode(&mut out);
    out
}

#[test]
fn the_life_of_a_producer() {
    let (mut states, mut lru) = new();
    assert_eq!(states.check(stamp(7, 3, 500), 10), Decision::Append, "unknown: any sequence");
    append(&mut states, stamp(7, 3, 500), 1);
    append(&mut states, stamp(7, 3, 510), 2);
    states.apply_durable(&mut lru, Position(100));

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
    states.apply_durable(&mut lru, Position(200));
    assert_eq!(states.active(), [last(519, 2)]);
    states.drop_pending();
    assert_eq!(states.active(), [last(519, 2)]);
}

#[test]
fn a_batch_that_was_dropped_never_was() {
    let (mut states, mut lru) = new();
    append(&mut states, stamp(7, 3, 500), 1);
    append(&mut states, stamp(7, 3, 510), 2);
    states.apply_durable(&mut lru, Position(100));
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
    let (mut states, mut lru) = new();
    for nth in 0..6 {
        append(&mut states, stamp(1, 0, nth as i32 * 10), nth + 1);
    }
    for durable in [0, 300, 600] {
        states.apply_durable(&mut lru, Position(durable));
        let too_old = states.check(stamp(1, 0, 0), 10);
        assert_eq!(too_old, Decision::OutOfOrder { expected: 60, got: 0 });
        assert!(matches!(states.check(stamp(1, 0, 10), 10), Decision::Duplicate { .. }));
    }
}

#[test]
fn dropping_restores_what_a_new_epoch_replaced() {
    let (mut states, mut lru) = new();
    append(&mut states, stamp(1, 0, 0), 1);
    states.apply_durable(&mut lru, Position(100));
    append(&mut states, stamp(1, 1, 0), 2);
    assert_eq!(states.check(stamp(1, 0, 10), 10), Decision::StaleEpoch { current: 1 });
    states.drop_pending_from(Position(100));
    assert_eq!(states.check(stamp(1, 0, 10), 10), Decision::Append);
    assert!(matches!(states.check(stamp(1, 0, 0), 10), Decision::Duplicate { pending_until: None, .. }));
}

#[test]
fn forgotten_producers_cost_nothing() {
    assert_eq!(size_of::<ProducerStates>(), size_of::<usize>());
    let (mut states, mut lru) = new();
    append(&mut states, stamp(1, 0, 0), 1);
    append(&mut states, stamp(2, 0, 0), 2);
    assert_eq!((lru.count(), lru.oldest()), (0, None), "nothing of that is durable");
    states.apply_durable(&mut lru, Position(200));
    assert_eq!(lru.oldest(), Some((SLOT, ProducerId(1))));
    append(&mut states, stamp(1, 0, 10), 3);
    assert_eq!(lru.oldest(), Some((SLOT, ProducerId(1))), "its next may never be there");

    states.forget(&mut lru, ProducerId(1));
    assert_eq!((lru.count(), states.active().len()), (1, 1), "what is pending stays");
    assert!(matches!(states.check(stamp(1, 0, 0), 10), Decision::OutOfOrder { .. }));
    assert!(matches!(states.check(stamp(1, 0, 10), 10), Decision::Duplicate { .. }));
    states.apply_durable(&mut lru, Position(300));
    assert_eq!(lru.oldest(), Some((SLOT, ProducerId(2))));
    states.forget(&mut lru, ProducerId(2));
    assert_eq!(states.check(stamp(2, 0, 77), 10), Decision::Append, "forgotten: any sequence");
    states.forget(&mut lru, ProducerId(1));
    assert!(states.some.is_none() && lru.count() == 0, "the memory is given back");

    append(&mut states, stamp(1, 0, 0), 3);
    states.drop_pending();
    assert!(states.some.is_none());

    append(&mut states, stamp(1, 0, 0), 3);
    append(&mut states, stamp(2, 0, 0), 4);
    states.apply_durable(&mut lru, Position(300));
    states.clear(&mut lru);
    assert!(states.some.is_none());
    assert_eq!((lru.count(), lru.oldest()), (0, None));
}

/// Memory that a crowd needed for a moment is not kept: others take their turn in other partitions.
#[test]
fn a_crowd_leaves_no_room_behind() {
    let (mut states, mut lru) = new();
    for nth in 1..=10_000 {
        append(&mut states, stamp(nth as i64, 0, 0), nth);
    }
    for nth in 10_001..=10_100 {
        append(&mut states, stamp(1, 0, (nth - 10_000) as i32 * 10), nth);
    }
    states.apply_durable(&mut lru, Position(1_010_000));
    let some = states.some.as_ref().expect("all of them");
    assert!(some.pending.capacity() <= IDLE_ROOM_MAX);
    assert!(some.by_id[&ProducerId(1)].batches.capacity() <= IDLE_BATCHES_MAX);
    assert_eq!(some.by_id[&ProducerId(2)].batches.capacity(), 1, "that is all it wrote");
    for id in 2..=10_000 {
        states.forget(&mut lru, ProducerId(id));
    }
    let some = states.some.as_ref().expect("the last");
    assert!(some.by_id.capacity() <= IDLE_ROOM_MAX, "room for {}", some.by_id.capacity());
    assert!(matches!(states.check(stamp(1, 0, 1000), 10), Decision::Duplicate { pending_until: None, .. }));
}

#[test]
fn rotten_bytes_are_errors() {
    let (mut states, mut lru) = new();
    append(&mut states, stamp(1, 0, 0), 1);
    append(&mut states, stamp(2, 0, 0), 2);
    states.apply_durable(&mut lru, Position(200));
    let sound = encoded(&states);
    assert_eq!(sound.len(), 4 + 2 * (11 + 24));
    for cut in 0..sound.len() {
        assert!(ProducerStates::decode(SLOT, &mut &sound[..cut]).is_err(), "cut at {cut}");
    }
    // id, epoch, batch count (none, six), sequence, offset of the first; id of the second.
    for (at, byte) in [(11, 0x80), (13, 0x80), (14, 0), (14, 6), (18, 0x80), (30, 0x80), (39, 1)] {
        let mut bytes = sound.clone();
        bytes[at] = byte;
        assert!(ProducerStates::decode(SLOT, &mut &bytes[..]).is_err(), "byte {at}");
    }
    assert!(ProducerStates::decode(SLOT, &mut &[0xff; 4][..]).is_err(), "a huge count");
}

/// A batch, and where it ends in the log.
#[derive(Clone)]
struct Sent {
    batch: Batch,
    end: Position,
}

/// The rules without any cleverness: all history of every producer, and where durability ends.
#[derive(Clone, Default)]
struct Model {
    history: BTreeMap<i64, Vec<Sent>>,
    durable: Position,
}

impl Model {
    fn check(&self, stamp: ProducerStamp, count: u32) -> Decision {
        let Some(Sent { batch: last, .. }) = self.history.get(&stamp.id.0).and_then(|sent| sent.last())
        else {
            return Decision::Append;
        };
        let last_sequence = ((stamp.base_sequence as i64 + count as i64 - 1) % (1 << 31)) as i32;
        let expected =
            if stamp.epoch > last.epoch { 0 } else { ((last.last_sequence as i64 + 1) % (1 << 31)) as i32 };
        if stamp.epoch < last.epoch {
            return Decision::StaleEpoch { current: last.epoch };
        }
        let recent = self.history[&stamp.id.0].iter().rev().take(5);
        for Sent { batch, end } in recent.filter(|sent| sent.batch.epoch == stamp.epoch) {
            if batch.first_sequence == stamp.base_sequence && batch.last_sequence == last_sequence {
                return Decision::Duplicate {
                    base_offset: batch.base_offset,
                    append_time: batch.append_time,
                    pending_until: (*end > self.durable).then_some(*end),
                };
            }
        }
        if stamp.base_sequence == expected {
            return Decision::Append;
        }
        Decision::OutOfOrder { expected, got: stamp.base_sequence }
    }

    fn truncate(&mut self, from: Position) {
        for sent in self.history.values_mut() {
            sent.retain(|sent| sent.end <= from);
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
        let (mut states, mut lru) = new();
        let mut model = Model::default();
        let mut end = Position::ZERO;
        let mut offset = Offset(0);
        for step in steps {
            match step {
                Step::Send { id, epoch, behind, count } => {
                    // Starts close to the wrap, and goes back a little now and then.
                    let last = model.history.get(&id).and_then(|sent| sent.last()).map(|sent| sent.batch);
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
                        states.append(SLOT, stamp, count, offset, append_time, end);
                        let last_sequence = last_sequence(base_sequence, count);
                        let first_sequence = base_sequence;
                        let batch = Batch { epoch, first_sequence, last_sequence, base_offset: offset, append_time };
                        model.history.entry(id).or_default().push(Sent { batch, end });
                        offset = offset.plus(count);
                    }
                }
                Step::Durable { back } => {
                    let durable = Position(end.0.saturating_sub(back)).max(model.durable);
                    model.durable = durable;
                    states.apply_durable(&mut lru, durable);
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
                    states.clear(&mut lru);
                    prop_assert_eq!((lru.count(), lru.oldest()), (0, None));
                    states = ProducerStates::decode(SLOT, &mut rest).expect("ours");
                    prop_assert!(rest.is_empty());
                    let ids: Vec<ProducerId> = states.last_appends().map(|(_, id)| id).collect();
                    ids.into_iter().for_each(|id| states.seat(&mut lru, id));
                }
            }
            prop_assert_eq!(lru.count(), states.active().len());
        }
    }

    #[test]
    fn decoding_never_panics(bytes: Vec<u8>) {
        let _ = ProducerStates::decode(SLOT, &mut &bytes[..]);
    }
}
