//! Durability, faults and space.

use std::collections::BTreeSet;

use super::*;

#[test]
fn an_acknowledged_dsync_write_survives_and_a_plain_one_may_not() {
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let mut machine = Machine::new(seed);
        let file = machine.prepared("/log", 2);
        let events = machine
            .run([write(1, &file, 0, "d", WriteSync::Dsync), write(2, &file, 1, "p", WriteSync::Plain)]);
        assert_eq!(events.len(), 2);
        machine.world.crash();
        let machine = machine.reborn();
        let letters = machine.letters("/log");
        assert_eq!(&letters[..1], "d", "seed {seed}");
        seen.insert(letters);
    }
    assert!(seen.contains("d.") && seen.contains("dp"), "{seen:?}");
}

#[test]
fn a_write_in_flight_is_kept_lost_or_torn() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let mut machine = Machine::new(seed);
        let file = machine.prepared("/log", 3);
        machine.submit([write(1, &file, 0, "abc", WriteSync::Dsync)]);
        assert!(machine.events.is_empty());
        machine.world.crash();
        seen.insert(machine.reborn().letters("/log"));
    }
    for want in ["...", "abc", "a..", "..c", "a.c"] {
        assert!(seen.contains(want), "{want} not in {seen:?}");
    }
}

#[test]
fn a_sync_covers_what_had_completed_when_it_was_issued() {
    for seed in 0..50 {
        let mut machine = Machine::new(seed);
        let file = machine.prepared("/log", 2);
        machine.run([write(1, &file, 0, "a", WriteSync::Plain)]);
        let events = machine.run([
            Op::Sync { token: Token(2), file: file.clone() },
            write(3, &file, 1, "b", WriteSync::Plain),
        ]);
        assert!(told(&events).contains("2=synced ok"));
        let path = Path::new("/log");
        let durable = |range| machine.world.disk().is_durable(path, range).unwrap();
        assert!(durable(0..4096) && !durable(4096..8192), "seed {seed}");
        let counts = machine.world.disk().counts(path).unwrap();
        assert_eq!((counts.writes, counts.dsync_writes, counts.syncs), (3, 0, 2), "the preparation's too");
    }
}

#[test]
fn without_a_volatile_cache_an_overwrite_needs_no_sync() {
    let mut machine = Machine::new(1);
    let file = machine.prepared("/log", 1);
    machine.world.disk().set_write_through(true);
    machine.run([write(1, &file, 0, "ab", WriteSync::Plain)]);
    machine.run([write(2, &file, 0, "c", WriteSync::Plain)]);
    let durable = |range| machine.world.disk().is_durable(Path::new("/log"), range).unwrap();
    assert!(durable(0..4096));
    assert!(!durable(4096..8192), "growth needs one");
}

#[test]
fn faults_hit_their_file_and_their_call_when_they_should() {
    let mut machine = Machine::new(5);
    let (log, other) = (machine.prepared("/log", 1), machine.prepared("/other", 1));
    let sync = |token, file: &FileHandle| Op::Sync { token: Token(token), file: file.clone() };
    let id = machine.world.disk().add_fault(fault("log", DiskCall::Write, When::Nth(2), FaultKind::Eio));
    let plain = WriteSync::Plain;
    for (op, want) in [
        (write(1, &other, 0, "x", plain), "1=written ok"),
        (write(2, &log, 0, "x", plain), "2=written ok"),
        (write(3, &other, 0, "x", plain), "3=written ok"),
        (write(4, &log, 0, "x", plain), "4=written EIO"),
        (write(5, &log, 0, "x", plain), "5=written ok"),
        (sync(6, &log), "6=synced ok"),
        (write(7, &FileHandle::Sim(u64::MAX), 0, "x", plain), "7=written Uncategorized"),
    ] {
        assert_eq!(told(&machine.run([op])), want);
    }
    machine.world.disk().remove_fault(id);

    machine.world.disk().add_fault(fault("", DiskCall::Sync, When::Nth(1), FaultKind::Eio));
    machine.run([write(1, &log, 0, "y", plain)]);
    assert_eq!(told(&machine.run([sync(2, &log)])), "2=synced EIO");
    assert_eq!(told(&machine.run([sync(3, &log)])), "3=synced ok");
    assert!(!machine.world.disk().is_durable(Path::new("/log"), 0..1).unwrap(), "the retry stored nothing");
    assert_eq!(machine.world.disk().coverage().eio, 2);
}

#[test]
fn a_short_write_is_continued_and_may_be_cut_by_a_crash() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let mut machine = Machine::new(seed);
        let file = machine.prepared("/log", 4);
        machine.world.disk().add_fault(fault("", DiskCall::Write, When::Always, FaultKind::Short));
        let events = machine.run([write(1, &file, 0, "abcd", WriteSync::Dsync)]);
        assert_eq!(told(&events), "1=written ok");
        assert_eq!(machine.letters("/log"), "abcd");
        assert_eq!(machine.world.disk().coverage().short_writes, 1);

        machine.submit([write(2, &file, 0, "efgh", WriteSync::Dsync)]);
        machine.world.advance_to_next();
        assert!(machine.world.runnable().is_empty(), "half of it is no event");
        machine.world.crash();
        seen.insert(machine.reborn().letters("/log"));
    }
    assert!(!seen.contains("abcd"), "the first half was durable: {seen:?}");
    assert!(seen.contains("efgh") && seen.contains("ebcd"), "{seen:?}");
}

#[test]
fn a_lying_disk_loses_what_it_acknowledged() {
    for (kind, visible) in [(FaultKind::Lost, "."), (FaultKind::Unsynced, "a")] {
        let mut lost = 0;
        for seed in 0..50 {
            let mut machine = Machine::new(seed);
            let file = machine.prepared("/log", 1);
            machine.world.disk().add_fault(fault("", DiskCall::Write, When::Always, kind));
            assert_eq!(told(&machine.run([write(1, &file, 0, "a", WriteSync::Dsync)])), "1=written ok");
            assert_eq!(machine.letters("/log"), visible);
            machine.world.crash();
            lost += u32::from(machine.reborn().letters("/log") != "a");
        }
        assert!(lost > 5, "{kind:?}");
    }
}

#[test]
fn a_full_disk_refuses_growth_only_and_recovers_by_removal() {
    let mut machine = Machine::new(3);
    let log = machine.prepared("/log", 2);
    machine.prepared("/old", 3);
    assert_eq!(machine.world.disk().used_bytes(), 5 * 4096);
    machine.world.disk().set_capacity_bytes(6 * 4096);
    let plain = WriteSync::Plain;
    assert_eq!(told(&machine.run([write(1, &log, 1, "abc", plain)])), "1=written StorageFull");
    assert_eq!(told(&machine.run([write(2, &log, 0, "ab", plain)])), "2=written ok");
    let disk = SimDisk::immediate(&machine.world);
    block_on(disk.remove(Path::new("/old"))).unwrap();
    assert_eq!(machine.world.disk().free_bytes(), 4 * 4096);
    assert_eq!(told(&machine.run([write(3, &log, 1, "abc", plain)])), "3=written ok");

    // A removal that was not synced may be undone, and its space with it.
    let mut used = BTreeSet::new();
    for seed in 0..50 {
        let machine = Machine::new(seed);
        machine.prepared("/old", 3);
        block_on(SimDisk::immediate(&machine.world).remove(Path::new("/old"))).unwrap();
        machine.world.crash();
        used.insert(machine.world.disk().used_bytes());
    }
    assert_eq!(used.into_iter().collect::<Vec<_>>(), [0, 3 * 4096]);
}

#[test]
fn a_read_fills_its_part_of_the_chunk_or_fails_at_the_end_of_the_file() {
    let mut machine = Machine::new(1);
    let file = machine.prepared("/log", 2);
    machine.run([write(1, &file, 1, "r", WriteSync::Plain)]);
    let read = |page: u64| {
        let buf = ChunkBuf::unpooled(2 * PAGE_BYTES);
        let offset = page * PAGE_BYTES as u64;
        Op::Read { token: Token(page), file: file.clone(), offset, buf, at: PAGE_BYTES, len: PAGE_BYTES }
    };
    let mut events = machine.run([read(1)]);
    assert_eq!(told(&events), "1=read ok");
    let Event::Read { buf, .. } = &mut events[0] else { unreachable!() };
    assert_eq!((buf.tail_mut()[0], buf.tail_mut()[PAGE_BYTES]), (0, b'r'));
    assert_eq!(told(&machine.run([read(2)])), "2=read UnexpectedEof");
}

#[test]
fn rot_is_seen_by_readers() {
    let machine = Machine::new(1);
    machine.prepared("/log", 1);
    let mut rng = machine.world.fork_rng();
    machine.world.disk().rot(Path::new("/log"), 100..101, &mut rng).unwrap();
    let bytes = machine.world.disk().contents(Path::new("/log")).unwrap();
    assert_eq!(bytes.iter().filter(|&&byte| byte != 0).count(), 1);
}

#[test]
fn when_only_the_process_dies_completed_writes_and_names_stay() {
    for seed in 0..20 {
        let mut machine = Machine::new(seed);
        let file = machine.prepared("/log", 2);
        block_on(SimDisk::immediate(&machine.world).create(Path::new("/new"))).unwrap();
        machine.run([write(1, &file, 0, "a", WriteSync::Plain)]);
        machine.world.kill();
        assert_eq!(machine.letters("/log"), "a.");
        assert!(machine.world.disk().file_paths().iter().any(|path| path == Path::new("/new")));
        assert!(!machine.world.disk().is_durable(Path::new("/log"), 0..1).unwrap());
    }
}

#[test]
fn writes_overtake_each_other() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let mut machine = Machine::new(seed);
        let file = machine.prepared("/log", 2);
        let plain = WriteSync::Plain;
        seen.insert(told(&machine.run([write(1, &file, 0, "a", plain), write(2, &file, 1, "b", plain)])));
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}
