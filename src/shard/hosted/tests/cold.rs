//! What is read back from the device, for whom, and how much of it stays in memory.

use super::*;

#[test]
fn who_is_told_by_mail_still_learns_that_a_read_failed() {
    let mut rig = Rig::new(&[]);
    for timestamp in 0..3 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    rig.broken = true;
    let part = ReadPart { partition: KEY, offset: Offset(0), bytes_max: 1, waiter: 7 };
    let read = |rig: &mut Rig| rig.hosted.read(&part, ReadLimits::at_least(1), Some(waiter()), &rig.catalog);
    for _ in 0..2 {
        let result = read(&mut rig);
        assert!(result.is_loading() && result.error.is_none(), "{result:?}");
    }
    assert_eq!(rig.run().woken, [waiter()], "once, however often it has asked");

    // Retention ends a pass before the other shard has read its mail.
    rig.hosted.log.forget_read_failures();
    assert_eq!(read(&mut rig).error, Some(CallError::Storage));

    rig.hosted.log.forget_read_failures();
    rig.broken = false;
    assert!(read(&mut rig).is_loading(), "whoever asks later has it read again");
    rig.run();
    assert!(read(&mut rig).bytes > 0);
}

#[test]
fn no_chunk_is_read_that_finds_no_room_in_the_answer() {
    let mut rig = Rig::new(&[]);
    for timestamp in 0..5 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    let part =
        |offset| ReadPart { partition: KEY, offset: Offset(offset), bytes_max: 1 << 20, waiter: NO_PART };
    let parts = [part(0), part(1), part(2)];
    let read = |rig: &mut Rig, room| rig.hosted.read_all(&parts, (room, true), None, &rig.catalog);
    let loading =
        |results: Vec<ReadResult>| -> Vec<bool> { results.iter().map(ReadResult::is_loading).collect() };
    assert_eq!(loading(read(&mut rig, WHOLE_CHUNK)), [true, false, false]);
    assert_eq!(loading(read(&mut rig, WHOLE_CHUNK + 1000)), [true, true, false], "a part of one is room");
    rig.run();
    let found = read(&mut rig, WHOLE_CHUNK + 1000);
    assert!(found[0].bytes > WHOLE_CHUNK && !found[0].fresh, "{:?}", found[0]);
}

#[test]
fn what_lies_far_behind_is_not_read_ahead() {
    let mut rig = Rig::new(&[]);
    for timestamp in 0..9 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    let part = ReadPart { partition: KEY, offset: Offset(0), bytes_max: 1 << 20, waiter: NO_PART };
    let read = |rig: &mut Rig, bytes_max| {
        rig.hosted.read(&part, ReadLimits::at_least(bytes_max), None, &rig.catalog);
        rig.run();
        rig.hosted.log.cache_bytes().1 / CONFIG.chunk_bytes as u64
    };
    assert_eq!(read(&mut rig, 1), 2, "what the next read begins with");
    assert_eq!(read(&mut rig, 1 << 20), 5, "the third of eight, and two that come next");
}

#[test]
fn who_waits_for_a_chunk_that_goes_is_answered() {
    let mut rig = Rig::new(&[("retention.bytes", "1")]);
    for timestamp in 0..4 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    let origin = Origin::new(ShardId(1), Ticket { conn: waiter().conn, request: 0, part: 0 });
    let call = Call::ListOffset { partition: KEY, spec: OffsetSpec::AtOrAfter(0) };
    assert!(rig.hosted.call(origin, call, &rig.catalog, NOW).is_none(), "the chunk must be read");
    let part = ReadPart { partition: KEY, offset: Offset(0), bytes_max: 1, waiter: 7 };
    assert!(rig.hosted.read(&part, ReadLimits::at_least(1), Some(waiter()), &rig.catalog).is_loading());

    // Before it is, its segment dies and is taken.
    rig.retain();
    rig.recycle();
    let out = rig.run();
    assert_eq!(out.woken, [waiter()]);
    let answers: Vec<_> = out.answers.into_iter().map(|(_, answer)| answer).collect();
    assert!(
        matches!(&answers[..], [Answer::ListOffset(Ok(Some(found)))] if found.offset == Offset(3)),
        "{answers:?}"
    );
}

/// What a reader gets at `offset` once it is in memory.
fn read_at(rig: &mut Rig, offset: i64) -> ReadResult {
    let part = ReadPart { partition: KEY, offset: Offset(offset), bytes_max: 1, waiter: NO_PART };
    for _ in 0..2 {
        let result = rig.hosted.read(&part, ReadLimits::at_least(1), None, &rig.catalog);
        // What comes next may be loading still.
        if result.bytes > 0 || !result.is_loading() {
            assert!(result.error.is_none() && result.bytes > WHOLE_CHUNK, "{result:?}");
            return result;
        }
        rig.run();
    }
    panic!("offset {offset} is never read");
}

/// More than the tail and the cold cache have room for.
const SLOW_READERS: i64 = 13;

#[test]
fn readers_that_hold_on_to_the_tail_do_not_stop_the_producers() {
    let mut rig = Rig::new(&[]);
    let mut held = Vec::new();
    for offset in 0..SLOW_READERS {
        rig.append(&[offset], WHOLE_CHUNK);
        let part = ReadPart { partition: KEY, offset: Offset(offset), bytes_max: 1, waiter: NO_PART };
        held.push(rig.hosted.read(&part, ReadLimits::at_least(1), None, &rig.catalog));
        assert!(!held.last().unwrap().is_loading(), "it is in the tail");
    }
    let values = held.iter().map(|result| result.records.concat().len());
    assert!(values.eq(std::iter::repeat_n(held[0].bytes, held.len())), "copies are whole");
}

#[test]
fn readers_that_hold_on_to_what_was_read_back_do_not_stop_other_readers() {
    let mut rig = Rig::new(&[]);
    for offset in 0..SLOW_READERS {
        rig.append(&[offset], WHOLE_CHUNK);
    }
    let mut held: Vec<ReadResult> = (0..SLOW_READERS).map(|offset| read_at(&mut rig, offset)).collect();
    assert!(rig.hosted.log.cache_bytes().1 <= 11 * (32 << 10));
    // When they let go, records are lent again: nothing is counted twice.
    for _ in 0..3 {
        held.clear();
        held.extend((0..SLOW_READERS).map(|offset| read_at(&mut rig, offset)));
    }
}

#[test]
fn batches_larger_than_a_chunk_do_not_pile_up_in_the_cold_cache() {
    const BYTES: usize = 40 << 10;
    let mut rig = Rig::new(&[]);
    for offset in 0..6 {
        rig.append(&[offset], BYTES);
    }
    for offset in 0..5 {
        read_at(&mut rig, offset);
        let cold = rig.hosted.log.cache_bytes().1 as usize;
        assert!((BYTES..=CONFIG.read_cache_bytes).contains(&cold), "{cold} after offset {offset}");
    }
}

#[test]
fn what_was_read_for_somebody_stays_until_they_look() {
    let mut rig = Rig::new(&[]);
    for offset in 0..5 {
        rig.append(&[offset], 40 << 10);
    }
    let read = |rig: &mut Rig, offset| {
        let part = ReadPart { partition: KEY, offset: Offset(offset), bytes_max: 1, waiter: NO_PART };
        rig.hosted.read(&part, ReadLimits::at_least(1), Some(waiter()), &rig.catalog).bytes
    };
    // The cache has room for one of these.
    assert!((0..3).all(|offset| read(&mut rig, offset) == 0));
    rig.run();
    assert!((0..3).all(|offset| read(&mut rig, offset) > 0), "one has pushed out the other");
}
