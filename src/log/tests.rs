//! The log alone on the simulated machine: what its commits ask of the disk, and what is left when it is full.

use std::path::Path;

use super::entry::EntryKind;
use super::recovery::{Options, Replay};
use super::segment::segment_path;
use super::*;
use crate::io::file::Disk;
use crate::io::op::{Event, Io, Wait};
use crate::io::sim::{SimDisk, SimIo, SimWorld, block_on};
use crate::model::{ShardId, WallMs};

const DIR: &str = "/data/log-1";
const BROKER: [u8; 16] = [7; 16];
const SEGMENT_BYTES: u64 = 256 << 10;

/// Nothing lies above the log here.
struct Nobody;

impl Replay for Nobody {
    fn restore(&mut self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn apply(&mut self, _: &EntryHeader, _: WallMs, _: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

struct Machine {
    world: SimWorld,
    io: SimIo,
    log: Log,
}

/// A new log of two segments, which gets no further ones.
fn machine(commit_mode: CommitMode) -> Machine {
    let world = SimWorld::new(1);
    let config = LogConfig {
        chunk_bytes: 64 << 10,
        block_bytes_max: 16 << 10,
        block_target_bytes: 16 << 10,
        write_bytes_max: 1 << 20,
        commit_mode,
        commit_depth: 1,
        tail_cache_bytes: 128 << 10,
        read_cache_bytes: 64 << 10,
        segment_bytes: SEGMENT_BYTES,
        segments_ahead: 1,
        slice_bytes: 1 << 20,
        checkpoint_bytes: 1 << 30,
        log_bytes_max: 2 * SEGMENT_BYTES,
    };
    let options = Options {
        config: &config,
        broker: BROKER,
        log: LogId(1),
        now: world.now().wall,
        repair: false,
        progress: &mut |_, _| {},
    };
    let disk = SimDisk::immediate(&world);
    let (opened, _) = block_on(async {
        disk.create_dir(Path::new("/data")).await.expect("a new disk");
        let sizes = [SEGMENT_BYTES; 2];
        recovery::format(&disk, Path::new(DIR), (BROKER, LogId(1)), &sizes).await.expect("a new disk");
        recovery::open(&disk, Path::new(DIR), options, &mut Nobody).await.expect("a new log")
    });
    Machine { io: SimIo::new(&world, ShardId(0)), world, log: Log::new(config, opened) }
}

impl Machine {
    /// An entry that no index cares for.
    fn append(&mut self, kind: EntryKind, payload: &[u8]) -> Result<Appended, AppendError> {
        let entry = NewEntry { kind, slot: Slot(0), base_offset: Offset::ZERO, count: 0, max_timestamp: 0 };
        self.log.append(entry, payload, self.world.now(), |stored| kind.payload_crc(stored))
    }

    /// Until everything that was appended is durable.
    fn commit(&mut self) {
        let (mut ops, mut events) = (Vec::new(), Vec::new());
        while !self.log.is_idle() {
            self.log.submit(self.world.now(), &mut ops);
            self.io.turn(&mut ops, &mut events, Wait::No).expect("the machine runs");
            self.world.advance_to_next();
            for event in events.drain(..) {
                let now = self.world.now().mono;
                let done = match event {
                    Event::Written { token, result } => self.log.on_written(token, result, now),
                    Event::Synced { result, .. } => self.log.on_synced(result, now),
                    other => panic!("{other:?} was not asked for"),
                };
                done.expect("the disk works");
            }
            self.log.take_committed();
        }
        while self.log.poll_durable().is_some() {}
        self.log.maintain();
    }
}

#[test]
fn each_commit_is_made_durable_as_its_mode_says() {
    const COMMITS: u64 = 10;
    // Writes, of them dsync, and syncs.
    for (mode, expected) in [
        (CommitMode::Dsync, (COMMITS, COMMITS, 0)),
        (CommitMode::WriteThenSync, (COMMITS, 0, COMMITS)),
        (CommitMode::Plain, (COMMITS, 0, 0)),
    ] {
        let mut machine = machine(mode);
        let path = segment_path(Path::new(DIR), 1);
        let counts = |machine: &Machine| machine.world.disk().counts(&path).expect("the first segment");
        let before = counts(&machine);
        for number in 0..COMMITS {
            let start = machine.log.durable();
            machine.append(EntryKind::GroupOffsets, &number.to_le_bytes()).expect("there is room");
            machine.commit();
            let block = start.0..machine.log.durable().0;
            let survives = machine.world.disk().is_durable(&path, block).expect("the first segment");
            assert_eq!(survives, mode != CommitMode::Plain, "{mode:?}");
        }
        let after = counts(&machine);
        let counted = (
            after.writes - before.writes,
            after.dsync_writes - before.dsync_writes,
            after.syncs - before.syncs,
        );
        assert_eq!(counted, expected, "{mode:?}");
    }
}

#[test]
fn a_full_log_has_room_for_what_makes_room() {
    let mut machine = machine(CommitMode::Dsync);
    let payload = [1; 5000];
    while machine.append(EntryKind::GroupOffsets, &payload).is_ok() {
        machine.commit();
    }
    assert_eq!(machine.append(EntryKind::GroupOffsets, &[]).err(), Some(AppendError::NoSegment));
    // A page each.
    for _ in 0..SEGMENT_BYTES / RESERVE_SHARE / PAGE_BYTES as u64 {
        machine.append(EntryKind::TermOpen, &[0; 4]).expect("the reserve is for this");
        machine.commit();
    }
}
