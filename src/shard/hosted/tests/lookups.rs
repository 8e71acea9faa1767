//! Lookups by timestamp: what they find, and that a long one keeps nobody waiting.

use super::*;
use crate::base::crc::crc32c;
use crate::codec::record_batch::CRC_START;

#[test]
fn the_newest_record_is_one_that_readers_can_have() {
    // One chunk with a batch of two and one of three records, then one of its own each.
    let mut rig = Rig::new(&[]);
    rig.append(&[90, 50], 100);
    rig.append(&[40, 70, 60], 100);
    rig.append(&[55], WHOLE_CHUNK);
    rig.append(&[65], WHOLE_CHUNK);
    rig.append(&[65], WHOLE_CHUNK);
    let table = [
        (0, Some((0, 90))),
        (1, Some((3, 70))),
        (3, Some((3, 70))),
        (4, Some((6, 65))),
        (6, Some((6, 65))),
        (7, Some((7, 65))),
        (8, None),
    ];
    for (start, newest) in table {
        rig.delete_before(start);
        assert_eq!(rig.find(OffsetSpec::MaxTimestamp), newest, "from {start}");
    }
}

#[test]
fn a_batch_that_lies_about_its_timestamps_ends_the_search() {
    let mut rig = Rig::new(&[]);
    let mut lies = batch(&[10, 20], 100).to_vec();
    // The largest timestamp.
    lies[35..43].copy_from_slice(&90_i64.to_be_bytes());
    rig.append_batch(sealed(lies));
    rig.append(&[95], 100);
    let mut find = |timestamp| rig.find(OffsetSpec::AtOrAfter(timestamp));
    assert_eq!(
        (find(15), find(21), find(90), find(91)),
        (Some((1, 20)), Some((1, 90)), Some((1, 90)), Some((2, 95)))
    );
    // Of a batch that begins before the start, the record may be one that is gone.
    rig.delete_before(1);
    assert_eq!(rig.find(OffsetSpec::AtOrAfter(21)), Some((2, 95)));
}

/// With a checksum that fits: it lies in front of what it covers.
fn sealed(mut batch: Vec<u8>) -> Bytes {
    let crc = crc32c(&batch[CRC_START..]);
    batch[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

#[test]
fn a_batch_that_does_not_inflate_is_taken_at_its_word() {
    let mut rig = Rig::new(&[]);
    let mut damaged = batch(&[10, 20], 100).to_vec();
    // The attributes.
    damaged[22] = Compression::Gzip as u8;
    rig.append_batch(sealed(damaged));
    rig.append(&[15], 100);
    let both = |rig: &mut Rig| (rig.find(OffsetSpec::AtOrAfter(5)), rig.find(OffsetSpec::MaxTimestamp));
    assert_eq!(both(&mut rig), (Some((1, 20)), Some((1, 20))));
    // Its last record may be one that is gone.
    rig.delete_before(1);
    assert_eq!(both(&mut rig), (Some((2, 15)), Some((2, 15))));
}

/// Has a batch that keeps a search busy for this many turns.
const LONG_TURNS: usize = 16;

fn rig_with_a_long_batch() -> Rig {
    let mut rig = Rig::new(&[]);
    let mut builder = BatchBuilder::new(Compression::Gzip);
    builder.push(1, None, Some(&vec![0; LONG_TURNS * search::TURN_BYTES]), &[]);
    builder.push(2, None, None, &[]);
    rig.append_batch(builder.finish().into());
    rig
}

const LONG_SEARCH: Call = Call::ListOffset { partition: KEY, spec: OffsetSpec::AtOrAfter(2) };

/// The offsets that searches were answered with.
fn found(answers: impl IntoIterator<Item = Answer>) -> Vec<Option<i64>> {
    let offset = |answer| match answer {
        Answer::ListOffset(result) => result.ok().flatten().map(|found| found.offset.0),
        other => panic!("{other:?}"),
    };
    answers.into_iter().map(offset).collect()
}

#[test]
fn a_search_goes_on_in_later_turns_and_keeps_nobody_waiting() {
    let mut rig = rig_with_a_long_batch();
    assert!(rig.begin(LONG_SEARCH).is_none() && rig.begin(LONG_SEARCH).is_none());
    let mut out = Outbox::default();
    let mut turns = 0;
    while rig.hosted.is_searching() {
        assert_eq!(rig.start(), 0, "answered at once");
        rig.hosted.apply_durable(NOW, &rig.catalog, &mut rig.stats, &mut out);
        rig.hosted.end_turn();
        turns += 1;
    }
    assert_eq!(found(out.answers.into_iter().map(|(_, answer)| answer)), [Some(1), Some(1)]);
    assert!((2 * LONG_TURNS - 2..=2 * LONG_TURNS + 3).contains(&turns), "{turns}");
}

#[test]
fn a_stop_does_not_wait_for_long_searches() {
    let mut rig = rig_with_a_long_batch();
    assert!(rig.begin(LONG_SEARCH).is_none());
    rig.hosted.stop_searches();
    let mut out = Outbox::default();
    rig.hosted.apply_durable(NOW, &rig.catalog, &mut rig.stats, &mut out);
    assert!(matches!(out.answers[..], [(_, Answer::ListOffset(Err(search::STOPPING)))]), "{:?}", out.answers);
    assert!(!rig.hosted.is_searching());
}

#[test]
fn searches_of_who_is_gone_are_not_begun_and_the_others_end() {
    let (mut shard, _folder) = rig_with_a_long_batch().into_shard();
    let (mut ops, mut news) = (Vec::new(), News::default());
    shard.submit(NOW, &mut ops, &mut news);
    let gone = ConnId { index: 1, generation: 0 };
    for part in 0..50 {
        for conn in [gone, ORIGIN.ticket.conn] {
            shard.call(LOG, Ticket { conn, part, ..ORIGIN.ticket }, LONG_SEARCH, NOW);
        }
    }
    shard.forget(gone);
    let mut turns = 0;
    while shard.deadline() == Nanos(0) {
        shard.apply_durable(NOW, &mut news);
        shard.submit(NOW, &mut ops, &mut news);
        turns += 1;
    }
    assert!(turns > 50 * (LONG_TURNS - 1), "{turns}");
    let (of_gone, answers): (Vec<_>, Vec<_>) =
        news.answers.into_iter().partition(|(ticket, _)| ticket.conn == gone);
    assert!(of_gone.len() < 10, "what was under way");
    assert_eq!(found(answers.into_iter().map(|(_, answer)| answer)), [Some(1); 50]);
}
