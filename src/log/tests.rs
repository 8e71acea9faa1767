//! The log alone on the simulated machine: what its commits ask of the disk, what is left when that is full, and
//! what a start makes of what lies there.

use std::path::Path;
use std::time::Duration;

use super::block::BLOCK_HEADER_BYTES;
use super::checkpoint::checkpoint_path;
use super::entry::EntryKind;
use super::manifest::{Manifest, manifest_path};
use super::recovery::rebuild::PROGRESS_BYTES;
use super::recovery::{Options, RecoveryError, Replay};
use super::segment::segment_path;
use super::space::{Job, JobDone};
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
    config: LogConfig,
    io: SimIo,
    log: Log,
}

/// A new log of two segments, which gets no further ones.
fn machine(commit_mode: CommitMode) -> Machine {
    machine_of(commit_mode, 2)
}

fn machine_of(commit_mode: CommitMode, segments: usize) -> Machine {
    let world = SimWorld::new(1);
    let config = LogConfig {
        commit_mode,
        segment_bytes: SEGMENT_BYTES,
        log_bytes_max: segments as u64 * SEGMENT_BYTES,
        ..testing::SMALL
    };
    let disk = SimDisk::immediate(&world);
    let made = block_on(async {
        disk.create_dir(Path::new("/data")).await?;
        let sizes = vec![SEGMENT_BYTES; segments];
        recovery::format(&disk, Path::new(DIR), (BROKER, LogId(1)), &sizes).await
    });
    made.expect("a new disk");
    let log = open(&world, &config, false).expect("a new log");
    Machine { io: SimIo::new(&world, ShardId(0)), world, config, log }
}

fn open(world: &SimWorld, config: &LogConfig, repair: bool) -> Result<Log, RecoveryError> {
    open_telling(world, config, repair, &mut |_, _| {})
}

fn open_telling(
    world: &SimWorld,
    config: &LogConfig,
    repair: bool,
    progress: &mut dyn FnMut(Position, Position),
) -> Result<Log, RecoveryError> {
    let options = Options { config, broker: BROKER, log: LogId(1), now: world.now().wall, repair, progress };
    let disk = SimDisk::immediate(world);
    let (opened, _) = block_on(recovery::open(&disk, Path::new(DIR), options, &mut Nobody))?;
    Ok(Log::new(config.clone(), opened))
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

    fn append_and_commit(&mut self) {
        self.append(EntryKind::GroupOffsets, &[1; 100]).expect("there is room");
        self.commit();
    }

    /// A checkpoint of all there is, durable. The manifest is not touched. Returns its generation.
    fn checkpoint(&mut self) -> u64 {
        let Job::Checkpoint { dir, generation, bytes } = self.log.begin_checkpoint(&[]) else {
            panic!("a job of another kind")
        };
        let written = block_on(checkpoint::write(&SimDisk::immediate(&self.world), &dir, generation, &bytes));
        assert_eq!(self.log.on_job(JobDone::Checkpoint(written), self.world.now()).map(drop), Ok(()));
        generation
    }

    /// The log has been silent for a while, and says in its manifest what is durable.
    fn record_idle(&mut self) {
        let now = self.world.now();
        assert!(self.log.poll_job(now).is_none(), "it is silent from now on");
        let later = Now { mono: now.mono.plus(Duration::from_secs(1)), ..now };
        let Some(Job::Manifest { dir, manifest }) = self.log.poll_job(later) else {
            panic!("a job of another kind")
        };
        let written = block_on(manifest.write(&SimDisk::immediate(&self.world), &dir));
        assert_eq!(self.log.on_job(JobDone::Manifest(written), later).map(drop), Ok(()));
    }

    /// The process is killed, and the next one opens the log. Returns its term.
    fn restart(&mut self, repair: bool) -> Result<Term, RecoveryError> {
        self.world.kill();
        self.log = open(&self.world, &self.config, repair)?;
        self.io = SimIo::new(&self.world, ShardId(0));
        Ok(self.log.term())
    }

    fn rot(&mut self, path: &Path, first: u64) {
        let mut rng = self.world.fork_rng();
        self.world.disk().rot(path, first..first + 1, &mut rng).expect("the file is there");
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
fn a_long_recovery_tells_how_far_it_has_come_however_short_its_segments_are() {
    let mut machine = machine_of(CommitMode::Dsync, 20);
    while machine.append(EntryKind::GroupOffsets, &[1; 5000]).is_ok() {
        machine.commit();
    }
    let end = machine.log.durable();
    machine.world.kill();
    let mut told = Vec::new();
    open_telling(&machine.world, &machine.config, false, &mut |at, limit| told.push((at, limit)))
        .expect("a sound log");
    assert_eq!(told.len() as u64, end.0 / PROGRESS_BYTES, "{told:?}");
    let mut before = Position::ZERO;
    for (at, limit) in told {
        assert!(
            at.since(before) >= PROGRESS_BYTES && at < end && end <= limit,
            "{at} behind {before}, {limit}"
        );
        before = at;
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

/// A term is in the leader epochs that consumers read, and in the ids of members.
/// The place behind it belongs to no chunk where the rest of the segment is too small for what follows.
#[test]
fn an_entry_without_payload_may_be_the_last_of_a_segment() {
    let header = EntryHeader::entry_bytes(0);
    let all_but_one = vec![1; PAGE_BYTES - BLOCK_HEADER_BYTES - 2 * header];
    // Blocks of a page. That of this number is not durable when the next entry is appended.
    for number in 0..SEGMENT_BYTES / PAGE_BYTES as u64 {
        let mut machine = machine(CommitMode::Plain);
        for _ in 0..=number {
            machine.commit();
            machine.append(EntryKind::LogStart, &all_but_one).expect("there is room");
            machine.append(EntryKind::LogStart, &[]).expect("it fills the page");
        }
        machine.append(EntryKind::LogStart, &[1; 2 * PAGE_BYTES]).expect("there is room");
        machine.commit();
    }
}

#[test]
fn a_segment_has_room_for_the_largest_payload_that_is_said_to_fit() {
    let mut machine = machine(CommitMode::Plain);
    let largest = vec![1; Log::payload_bytes_max(SEGMENT_BYTES)];
    let refused = machine.append(EntryKind::Metadata, &[&largest[..], &[1]].concat());
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    machine.append(EntryKind::Metadata, &largest).expect("it just fits");
    machine.commit();
    let end = machine.log.segments().newest().end();
    assert_eq!((machine.log.durable(), machine.log.appended()), (end, end), "it fills the second segment");
}

#[test]
fn no_term_is_given_twice_whichever_copy_of_it_rots() {
    #[derive(Clone, Copy, Debug)]
    enum Rot {
        Nothing,
        Manifest,
        Checkpoint,
    }
    for rot in [Rot::Nothing, Rot::Manifest, Rot::Checkpoint] {
        let mut machine = machine(CommitMode::Dsync);
        let mut terms = vec![machine.log.term()];
        for _ in 0..4 {
            // The checkpoint covers all that the term wrote, and no segment was made or recycled in it.
            machine.append_and_commit();
            let generation = machine.checkpoint();
            match rot {
                Rot::Nothing => {}
                Rot::Manifest => {
                    let disk = SimDisk::immediate(&machine.world);
                    let newest = block_on(Manifest::read(&disk, Path::new(DIR))).expect("readable");
                    machine.rot(&manifest_path(Path::new(DIR), newest.sequence), 8);
                }
                // Without an older one beside it, the log is read from its beginning.
                Rot::Checkpoint => machine.rot(&checkpoint_path(Path::new(DIR), generation), 8),
            }
            terms.push(machine.restart(false).expect("an older copy is there"));
        }
        assert!(terms.is_sorted_by(|a, b| a < b), "{rot:?}: {terms:?}");
    }
}

#[test]
fn a_log_that_was_cut_off_opens_again_in_a_term_of_its_own() {
    let mut machine = machine(CommitMode::Dsync);
    machine.append_and_commit();
    let cut = machine.log.durable();
    machine.append_and_commit();
    machine.record_idle();
    // The newest term is known to none but its own blocks, which lie behind the cut.
    let newest = machine.restart(false).expect("sound");
    machine.append_and_commit();

    machine.rot(&segment_path(Path::new(DIR), 1), cut.0 + 100);
    match machine.restart(false) {
        Err(RecoveryError::Corrupt { start, .. }) => assert_eq!(start, cut),
        other => panic!("not refused: {other:?}"),
    }
    let repaired = machine.restart(true).expect("--repair cuts it off");
    assert!(repaired > newest, "term {repaired} after {newest}");
    let next = machine.restart(false).expect("what was cut off is no reason to refuse again");
    assert!(next > repaired);
}

#[test]
fn a_checkpoint_that_fails_is_tried_again_after_a_while_and_told_once() {
    let mut machine = machine(CommitMode::Dsync);
    machine.log.config.checkpoint_bytes = 1;
    let full = || JobDone::Checkpoint(Err(io::ErrorKind::StorageFull.into()));
    let mut now = machine.world.now();
    for _ in 0..2 {
        machine.append_and_commit();
        machine.record_idle();
        assert!(machine.log.wants_checkpoint(now));
        machine.log.begin_checkpoint(&[]);
        assert!(!machine.log.wants_checkpoint(now), "one is being written");
        let told = machine.log.on_job(full(), now).expect_err("the operator must know");
        assert!(told.contains("checkpoint"), "{told}");
        for _ in 0..3 {
            assert!(!machine.log.wants_checkpoint(now), "tried again at once");
            let at = machine.log.space_deadline().expect("somebody must ask again");
            assert!(at > now.mono);
            now.mono = at;
            assert!(machine.log.wants_checkpoint(now));
            machine.log.begin_checkpoint(&[]);
            machine.log.on_job(full(), now).expect("it was told");
        }
        now.mono = machine.log.space_deadline().expect("somebody must ask again");
        machine.checkpoint();
        assert_eq!((machine.log.space_deadline(), machine.log.wants_checkpoint(now)), (None, false));
    }
}

#[test]
fn a_full_disk_stops_nobody_from_waiting_for_the_device_and_is_told_each_time() {
    let mut machine = machine(CommitMode::Dsync);
    (machine.log.config.segments_ahead, machine.log.config.log_bytes_max) = (2, 0);
    let full = || JobDone::Prepared(Err(io::ErrorKind::StorageFull.into()));
    let mut now = machine.world.now();
    assert!(matches!(machine.log.poll_job(now), Some(Job::Prepare(_))));
    machine.log.on_job(full(), now).expect_err("the operator must know");

    while machine.log.appended().since(machine.log.durable()) <= 128 << 10 {
        assert_eq!(machine.log.room(5000), Room::Yes);
        machine.append(EntryKind::GroupOffsets, &[1; 5000]).expect("there is room");
    }
    assert_eq!(machine.log.room(5000), Room::Wait, "the device is behind");
    machine.commit();
    assert_eq!(machine.log.room(5000), Room::Yes);

    // What is dead makes room.
    while machine.log.segments().ready_count() > 0 {
        machine.append_and_commit();
    }
    machine.checkpoint();
    assert!(matches!(machine.log.poll_job(now), Some(Job::Manifest { .. })));
    assert!(machine.log.space_error().is_some());
    assert_eq!(machine.log.on_job(JobDone::Manifest(Ok(())), now).map(drop), Ok(()));
    assert_eq!((machine.log.space_error(), machine.log.segments().ready_count()), (None, 1));

    now.mono = now.mono.plus(Duration::from_secs(1));
    assert!(matches!(machine.log.poll_job(now), Some(Job::Prepare(_))));
    machine.log.on_job(full(), now).expect_err("it is full again");
}

#[test]
fn dead_segments_wait_to_be_recycled_and_go_when_nobody_has_needed_them_for_long() {
    let mut machine = machine_of(CommitMode::Dsync, 6);
    let segments = |machine: &Machine| machine.log.segments().records().len();
    // Of the manifest that is to be written, if one is.
    let polled = |machine: &mut Machine, now: Now| match machine.log.poll_job(now) {
        Some(Job::Manifest { manifest, .. }) => Some(manifest.segments.len()),
        other => other.map(|job| panic!("{job:?} was not asked for")),
    };
    while machine.log.segments().ready_count() > 1 {
        machine.append_and_commit();
    }
    machine.checkpoint();
    machine.record_idle();
    let at = |machine: &Machine, seconds| {
        let now = machine.world.now();
        Now { mono: now.mono.plus(Duration::from_secs(seconds)), ..now }
    };
    let (before, after) = (at(&machine, 59), at(&machine, 61));
    assert_eq!(polled(&mut machine, before), None, "four are dead");

    // One of them is needed meanwhile, and another one dies.
    while machine.log.segments().ready_count() > 0 {
        machine.append_and_commit();
    }
    assert_eq!(polled(&mut machine, before), Some(6));
    assert_eq!(machine.log.on_job(JobDone::Manifest(Ok(())), before).map(drop), Ok(()));
    assert_eq!((segments(&machine), machine.log.segments().ready_count()), (6, 1));
    machine.checkpoint();

    // There were always four. Nothing is removed while the log is written to.
    machine.append_and_commit();
    assert_eq!(polled(&mut machine, after), None);
    let after = at(&machine, 62);
    for left in [5, 4, 3] {
        assert_eq!(polled(&mut machine, after), Some(left));
        let removal = machine.log.on_job(JobDone::Manifest(Ok(())), after).expect("the disk works");
        assert!(matches!(removal, Some(Job::Remove { .. })));
        assert_eq!(machine.log.on_job(JobDone::Removed(Ok(())), after).map(drop), Ok(()));
    }
    machine.log.stop_preparing();
    assert!(polled(&mut machine, after).is_none_or(|segments| segments == 3), "a stop does not wait for it");
}

#[test]
fn a_manifest_for_which_the_machine_lacks_something_is_written_later_and_told_once() {
    let failed = |errno| JobDone::Manifest(Err(io::Error::from_raw_os_error(errno)));
    let mut machine = machine(CommitMode::Dsync);
    // First one for its durable position alone, then one with a segment that is used again.
    for recycles in [false, true] {
        let mut now = machine.world.now();
        if recycles {
            while machine.log.segments().ready_count() > 0 {
                machine.append_and_commit();
            }
            machine.checkpoint();
        } else {
            machine.append_and_commit();
            assert!(machine.log.poll_job(now).is_none(), "it is silent from now on");
            now.mono = now.mono.plus(Duration::from_secs(1));
        }
        let Some(Job::Manifest { manifest: first, .. }) = machine.log.poll_job(now) else {
            panic!("a job of another kind")
        };
        let told = machine.log.on_job(failed(libc::EMFILE), now).expect_err("the operator must know");
        assert!(told.contains("manifest"), "{told}");
        for errno in [libc::ENFILE, libc::ENOMEM, libc::ENOSPC, libc::EMFILE] {
            assert!(!machine.log.failed() && machine.log.space_error().is_some());
            assert_eq!(
                machine.log.segments().ready_count(),
                usize::from(!recycles),
                "nothing of it is used yet"
            );
            assert!(machine.log.poll_job(now).is_none(), "tried again at once");
            let at = machine.log.space_deadline().expect("somebody must ask again");
            assert!(at > now.mono);
            now.mono = at;
            let Some(Job::Manifest { manifest, .. }) = machine.log.poll_job(now) else {
                panic!("a job of another kind")
            };
            assert_eq!(manifest, first);
            machine.log.on_job(failed(errno), now).expect("it was told");
        }
        now.mono = machine.log.space_deadline().expect("somebody must ask again");
        let Some(Job::Manifest { dir, manifest }) = machine.log.poll_job(now) else {
            panic!("a job of another kind")
        };
        let disk = SimDisk::immediate(&machine.world);
        let written = block_on(manifest.write(&disk, &dir));
        assert_eq!(machine.log.on_job(JobDone::Manifest(written), now).map(drop), Ok(()));
        assert_eq!((machine.log.space_error(), machine.log.segments().ready_count()), (None, 1));
        assert_eq!(block_on(Manifest::read(&disk, Path::new(DIR))).expect("readable"), first);
        machine.append_and_commit();
    }

    // What the disk refuses is never tried again.
    let mut now = machine.world.now();
    machine.log.poll_job(now);
    now.mono = now.mono.plus(Duration::from_secs(1));
    assert!(matches!(machine.log.poll_job(now), Some(Job::Manifest { .. })));
    machine.log.on_job(failed(libc::EIO), now).expect_err("the operator must know");
    now.mono = now.mono.plus(Duration::from_secs(60));
    assert_eq!(machine.log.space_deadline(), None);
    assert!(machine.log.poll_job(now).is_none());
    machine.restart(false).expect("sound");
}

#[test]
fn a_silent_log_rests_between_slices_and_makes_none_when_it_stops() {
    let mut machine = machine(CommitMode::Dsync);
    machine.append_and_commit();
    machine.record_idle();
    (machine.log.config.segments_ahead, machine.log.config.log_bytes_max) = (2, 0);
    machine.log.config.slice_bytes = SEGMENT_BYTES / 4;
    let mut now = machine.world.now();
    let later = |now: Now, ms| Now { mono: now.mono.plus(Duration::from_millis(ms)), ..now };
    let sliced = || JobDone::Prepared(Ok(crate::io::file::FileHandle::Sim(1)));
    for slow_ms in [1, 50] {
        assert!(matches!(machine.log.poll_job(now), Some(Job::Prepare(_))));
        now = later(now, slow_ms);
        assert_eq!(machine.log.on_job(sliced(), now).map(drop), Ok(()));
        assert!(machine.log.poll_job(now).is_none(), "a slice of {slow_ms} ms leaves no pause");
        let at = machine.log.space_deadline().expect("somebody must ask again");
        assert!(at > now.mono);
        now.mono = at;
    }
    assert!(matches!(machine.log.poll_job(now), Some(Job::Prepare(_))));
    machine.log.stop_preparing();
    assert!(!machine.log.space_is_quiet(), "the background has a slice");
    assert_eq!(machine.log.on_job(sliced(), now).map(drop), Ok(()));
    assert!(machine.log.space_is_quiet());
    now = later(now, 1000);
    assert!(machine.log.poll_job(now).is_none());
    assert_eq!(machine.log.space_deadline(), None);
}

#[test]
fn a_chunk_is_read_piece_by_piece_for_as_long_as_the_log_has_it() {
    const PIECE: usize = testing::SMALL.read_piece_bytes;
    for gone_in in [None, Some(2), Some(4)] {
        let mut machine = machine(CommitMode::Dsync);
        for _ in 0..7 {
            machine.append(EntryKind::GroupOffsets, &[1; 11_000]).expect("there is room");
            machine.commit();
        }
        let (first, spans) = machine.log.chunk_spans();
        let chunks = (first.0..).map(ChunkId).zip(spans.copied());
        let (chunk, span) = chunks.max_by_key(|(_, span)| span.bytes).expect("something was written");
        let bytes = span.bytes as usize;
        assert!(bytes > 3 * PIECE && bytes < 4 * PIECE, "{bytes}");
        let pieces = [vec![PIECE; bytes / PIECE], vec![bytes % PIECE]].concat();
        machine.log.cache.get(chunk, span);
        let (mut read, mut asked, mut over) = (0, Vec::new(), None);
        while over.is_none() {
            let (mut ops, mut events) = (Vec::new(), Vec::new());
            machine.log.submit(machine.world.now(), &mut ops);
            let [Op::Read { at, len, .. }] = ops[..] else { panic!("one piece at a time, not {ops:?}") };
            assert_eq!(at, read);
            read += len;
            asked.push(len);
            while events.is_empty() {
                machine.io.turn(&mut ops, &mut events, Wait::No).expect("the machine runs");
                machine.world.advance_to_next();
            }
            if gone_in == Some(asked.len()) {
                machine.log.chunks.drop_before(span.end());
            }
            let Some(Event::Read { token, buf, result }) = events.pop() else {
                panic!("a read was asked for")
            };
            over = machine.log.on_read(token, buf, result, machine.world.now().mono);
        }
        assert_eq!(asked, pieces[..gone_in.unwrap_or(pieces.len())]);
        assert_eq!(over.map(|read| (read.chunk, read.bytes)), Some((chunk, bytes as u64)));
        assert_eq!(machine.log.cache.is_loaded(chunk), gone_in.is_none());
        assert!(machine.log.take_read_errors().is_empty());
    }
}

#[test]
fn a_piece_of_a_chunk_lets_the_blocks_pass_that_were_on_their_way() {
    enum Then {
        Durable,
        Late,
        Failed,
    }
    for then in [Then::Durable, Then::Late, Then::Failed] {
        let mut machine = machine(CommitMode::WriteThenSync);
        for _ in 0..7 {
            machine.append(EntryKind::GroupOffsets, &[1; 11_000]).expect("there is room");
            machine.commit();
        }
        let (first, spans) = machine.log.chunk_spans();
        let span = *spans.min_by_key(|span| span.base).expect("something was written");
        machine.append(EntryKind::GroupOffsets, &[2; 100]).expect("there is room");
        machine.log.cache.get(first, span);
        let start = machine.world.now();
        let mut ops = Vec::new();
        machine.log.submit(start, &mut ops);
        let [Op::Write { token, .. }] = ops[..] else { panic!("the block alone, not {ops:?}") };
        let until = machine.log.read_deadline().expect("the piece waits");
        let written = match then {
            Then::Failed => Err(io::Error::other("broken")),
            Then::Durable | Then::Late => Ok(()),
        };
        let _ = machine.log.on_written(token, written, start.mono);
        ops.clear();
        if !matches!(then, Then::Failed) {
            machine.log.submit(start, &mut ops);
            assert!(matches!(ops[..], [Op::Sync { .. }]), "written is not durable: {ops:?}");
            ops.clear();
        }
        let now = match then {
            Then::Late => Now { mono: until, ..start },
            Then::Durable | Then::Failed => start,
        };
        if let Then::Durable = then {
            machine.log.on_synced(Ok(()), start.mono).expect("the disk works");
        }
        machine.log.submit(now, &mut ops);
        assert!(matches!(ops[..], [Op::Read { at: 0, .. }]), "the piece goes: {ops:?}");
        assert_eq!(machine.log.read_deadline(), None);
    }
}
