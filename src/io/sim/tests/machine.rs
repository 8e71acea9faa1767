//! Time, turns, jobs, crashes and repetition.

use std::cell::Cell;

use super::*;

#[test]
fn a_sleeping_shard_is_due_at_its_deadline_and_a_spinning_one_soon() {
    let mut machine = Machine::new(1);
    let start = machine.world.now().mono;
    let mut turn = |wait| machine.io.turn(&mut Vec::new(), &mut Vec::new(), wait).unwrap();
    let world = machine.world.clone();
    assert_eq!(world.runnable(), [SHARD], "a new shard has its first turn to do");

    turn(Wait::Forever);
    assert_eq!(world.next_due(SHARD), None);
    turn(Wait::No);
    assert_eq!(world.next_due(SHARD), Some(Nanos(start.0 + SPIN_NS)));
    turn(Wait::For(Duration::from_millis(5)));
    assert_eq!(world.next_due(SHARD), Some(Nanos(start.0 + 5_000_000)));
    assert!(world.runnable().is_empty());

    assert!(world.advance_to_next());
    assert_eq!(world.now().mono.since(start), 5_000_000);
    turn(Wait::Forever);
    assert_eq!(world.runnable(), [SHARD], "its timers have work, which the next turn submits");
    turn(Wait::Forever);
    assert!(world.runnable().is_empty());
    assert!(!world.advance_to_next(), "nothing will ever happen");
}

#[test]
fn shards_wake_each_other() {
    let mut machine = Machine::new(1);
    let mut second = SimIo::new(&machine.world, ShardId(1));
    second.turn(&mut vec![Op::Wake { shard: SHARD }], &mut Vec::new(), Wait::Forever).unwrap();
    assert_eq!(told(&machine.run([])), "woken");
}

#[test]
fn jobs_take_virtual_time_and_end_with_the_machine() {
    let mut machine = Machine::new(9);
    let done = Rc::new(Cell::new(0));
    let disk = SimDisk::new(&machine.world);
    let start = machine.world.now().mono;
    let executor = machine.executor.clone();
    machine.executor.spawn({
        let (disk, done, executor) = (disk.clone(), done.clone(), executor.clone());
        async move {
            let path = Path::new("/d/made");
            disk.create_dir(Path::new("/d")).await.unwrap();
            let file = disk.create(path).await.unwrap();
            disk.write_at(&file, 0, &PageBuf::from_bytes(b"hello")).await.unwrap();
            disk.sync(&file).await.unwrap();
            disk.sync_dir(Path::new("/d")).await.unwrap();
            assert_eq!(disk.list(Path::new("/d")).await.unwrap(), ["made"]);
            done.set(1);
            executor.spawn(async move {
                let mut page = PageBuf::zeroed(1);
                disk.read_at(&file, 0, &mut page).await.unwrap();
                assert_eq!(&page[..5], b"hello");
                done.set(2);
            });
        }
    });
    machine.settle();
    assert_eq!((done.get(), machine.executor.job_count()), (2, 0));
    assert!(machine.world.now().mono.since(start) > 200_000);

    let guard = done.clone();
    machine.executor.spawn(async move {
        let _held = guard;
        disk.create(Path::new("/d/late")).await.unwrap();
    });
    let job = machine.executor.ready()[0];
    machine.executor.run(job);
    assert_eq!(Rc::strong_count(&done), 2);
    machine.world.crash();
    assert_eq!(machine.executor.job_count(), 0);
    assert_eq!(Rc::strong_count(&done), 1, "what the job held is dropped");
    assert!(!machine.world.disk().exists(Path::new("/d/late")));
}

/// Make a file and put it in place under its name, the careful way.
async fn install(disk: &SimDisk) -> io::Result<()> {
    let file = disk.create(Path::new("/new")).await?;
    disk.write_at(&file, 0, &PageBuf::from_bytes(b"v2")).await?;
    disk.sync(&file).await?;
    disk.rename(Path::new("/new"), Path::new("/current")).await?;
    disk.sync_dir(Path::new("/")).await
}

#[test]
fn a_second_crash_can_strike_at_every_call() {
    let calls = {
        let disk = SimDisk::immediate(&SimWorld::new(0));
        block_on(install(&disk)).unwrap();
        disk.calls()
    };
    assert_eq!(calls, 5);
    for (seed, call) in (0..20).flat_map(|seed| (0..=calls).map(move |call| (seed, call))) {
        let machine = Machine::new(seed);
        let file = machine.prepared("/current", 1);
        drop(file);
        let disk = SimDisk::immediate(&machine.world);
        disk.fail_after(call);
        let result = block_on(install(&disk));
        assert_eq!(result.is_ok(), call == calls);
        assert_eq!(disk.has_failed(), call < calls);
        machine.world.crash();
        assert!(block_on(disk.exists(Path::new("/current"))).is_err(), "that machine is gone");
        let content = machine.world.disk().contents(Path::new("/current")).unwrap();
        let version = if content[..2] == *b"v2" { 2 } else { 1 };
        assert!(version == 2 || content.iter().all(|&byte| byte == 0), "one or the other");
        assert!(version == 2 || call < calls, "the result was a promise");
    }
}

#[test]
#[should_panic(expected = "outlived its machine")]
fn a_shard_of_before_the_crash_cannot_go_on() {
    let mut machine = Machine::new(1);
    machine.world.crash();
    machine.turn();
}

#[test]
#[should_panic(expected = "stuck")]
fn a_run_in_which_time_stands_still_ends() {
    let machine = Machine::new(1);
    // Nobody does the turn that is asked for.
    while machine.world.next_step(&machine.executor, Nanos(u64::MAX)) != Step::Idle {}
}

/// A bit of everything, as the trace of what happened.
fn trace(seed: u64) -> u64 {
    let mut machine = Machine::new(seed);
    let file = machine.prepared("/log", 8);
    machine.world.disk().add_fault(fault("", DiskCall::Write, When::OneIn(5), FaultKind::Short));
    let mut rng = machine.world.fork_rng();
    for token in 0..100 {
        let sync = *rng.pick(&[WriteSync::Plain, WriteSync::Dsync]);
        machine.submit([write(token, &file, rng.below(6), "xy", sync)]);
        if rng.one_in(4) {
            machine.settle();
        }
    }
    machine.world.crash();
    mix(machine.world.trace() ^ u64::from(crate::base::crc::crc32c(machine.letters("/log").as_bytes())))
}

#[test]
fn a_seed_is_a_run() {
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}
