//! Whole logs as a start finds them: manifest copies, checkpoints and segments, all of them hostile.
//!
//! Recovery ends with a log or with a typed error. If with a log, then nothing was cut off that had
//! been durable; its records can be read, it takes new ones, and the next start finds it again.
//!
//! An input is an archive, sparse so that its bytes are those that mean something:
//!
//! ```text
//! file u8      0, 1 copies of the manifest; 2, 3 checkpoints; 4... segments 1...
//! pages u8     its size
//! count u8     { page u8, length u16 (little-endian), the page's first bytes } ...
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringmq::base::bytes::{Fields, Truncated};
use ringmq::codec::batch_builder::BatchBuilder;
use ringmq::codec::compression::Compression;
use ringmq::codec::record_batch::{ProducerStamp, RecordBatch};
use ringmq::io::blocking::block_on;
use ringmq::log::LogConfig;
use ringmq::log::block::BlockHeader;
use ringmq::log::checkpoint::checkpoint_path;
use ringmq::log::inspect::{LogFiles, Step};
use ringmq::log::manifest::manifest_path;
use ringmq::log::read::{Gather, ReadEnd, ReadLimits};
use ringmq::log::recovery::{self, RecoveryError, Replay, Report};
use ringmq::log::segment::segment_path;
use ringmq::metadata::replay::MetadataReplay;
use ringmq::model::{CommitMode, LogId, Offset, PartitionKey, Position, ProducerId, Slot, TopicId};
use ringmq::partition::group_offsets::CommittedOffset;
use ringmq::partition::{CheckedBatch, Partitions};
use ringmq::shard::hosted::Hosted;

use crate::disk::MemoryDisk;
use crate::harness::{Memory, Target};
use crate::log::{PAGE_BYTES, seal_block, seal_checkpoint, seal_manifest};
use crate::rig::{self, Rig};
use crate::state;

const BROKER: [u8; 16] = [9; 16];
const DIR: &str = "log";
const SEGMENT_BYTES: u64 = 16 << 10;
/// Larger files are not believed.
const FILE_PAGES_MAX: u8 = 16;

/// What a start appends.
const TERM_BLOCK_BYTES: u64 = PAGE_BYTES as u64;

/// Small, so that the window is smaller than the log.
const CONFIG: LogConfig = LogConfig {
    chunk_bytes: 8 << 10,
    block_bytes_max: 8 << 10,
    block_target_bytes: 4 << 10,
    write_bytes_max: 1 << 20,
    commit_mode: CommitMode::Plain,
    commit_depth: 1,
    tail_cache_bytes: 8 << 10,
    read_cache_bytes: 8 << 10,
    segment_bytes: SEGMENT_BYTES,
    segments_ahead: 1,
    dead_kept_for: Duration::from_secs(60),
    read_piece_bytes: 16 << 10,
    slice_bytes: 1 << 20,
    checkpoint_bytes: 1 << 30,
    log_bytes_max: 0,
};

/// The disk is part of what is measured, and so are the buffers of a log at work.
const MEMORY: Memory = Memory { per_byte: 256, bytes: 12 << 20 };

pub const RECOVERY: Target = target(recover);
pub const REPAIR: Target = target(|bytes| {
    let disk = unpack(bytes);
    open(&disk, LogId(1), Partitions::default(), true).is_ok()
});
pub const INSPECT: Target = target(inspect);
pub const METADATA: Target = Target {
    run: |bytes| {
        let disk = unpack(bytes);
        let Ok((_, report)) = open(&disk, LogId::METADATA, MetadataReplay::default(), false) else {
            return false;
        };
        let again = open(&disk, LogId::METADATA, MetadataReplay::default(), false);
        assert!(again.expect("what was opened can be opened again").1.end > report.end);
        true
    },
    seeds: || vec![pack(&metadata_story())],
    ..target(recover)
};

const fn target(run: fn(&[u8]) -> bool) -> Target {
    Target {
        run,
        seeds,
        fix: |bytes| *bytes = pack(&seal(&unpack(bytes))),
        memory: MEMORY,
        mutants_per_second: 1_500,
    }
}

fn open<R: Replay>(
    disk: &MemoryDisk,
    log: LogId,
    layer: R,
    repair: bool,
) -> Result<(Rig<R, MemoryDisk>, Report), RecoveryError> {
    Rig::try_open(disk.clone(), CONFIG, Path::new(DIR), (BROKER, log), layer, repair)
}

// --- Recovery. ---

fn recover(bytes: &[u8]) -> bool {
    let disk = unpack(bytes);
    let before = Before::look(&disk);
    let (mut rig, report) = match open(&disk, LogId(1), Partitions::default(), false) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    before.assert_nothing_durable_is_lost(&report);

    let Rig { log, layer, .. } = &mut rig;
    if layer.finish_recovery(log).is_err() {
        return false;
    }
    for slot in (0..log.queues().iter().count() as u32).map(Slot) {
        read_all(&mut rig, slot);
    }
    append(&mut rig, key(7, 0), Compression::None, None);
    let appended = rig.log.appended();
    drop(rig);
    let (_, again) =
        open(&disk, LogId(1), Partitions::default(), false).expect("what was opened opens again");
    assert_eq!(again.end, appended.plus(TERM_BLOCK_BYTES));
    true
}

/// What is known of a log before it is opened.
struct Before {
    durable: Position,
    window_bytes: u64,
    /// The manifest says that the log was closed at `durable`.
    closed: bool,
    /// Positions and terms of what looks like a block of the log where it stands.
    blocks: Vec<(Position, u32)>,
}

impl Before {
    fn look(disk: &MemoryDisk) -> Before {
        let mut before = Before {
            durable: Position::ZERO,
            window_bytes: CONFIG.window_bytes(),
            closed: false,
            blocks: Vec::new(),
        };
        let Ok(files) = block_on(LogFiles::open(disk, Path::new(DIR), BROKER, LogId(1))) else {
            return before;
        };
        before.durable = files.durable();
        before.closed = files.manifest.closed_at(before.durable);
        before.window_bytes = before.window_bytes.max(files.manifest.window_bytes);
        let contents = disk.all();
        for segment in &files.segments {
            let path = segment_path(Path::new(DIR), segment.record.number);
            let (_, bytes) = contents.iter().find(|(name, _)| *name == path).expect("it was opened");
            for (index, page) in bytes.chunks(PAGE_BYTES).enumerate() {
                let at = segment.base().plus((index * PAGE_BYTES) as u64);
                if let Ok(header) = BlockHeader::decode(page)
                    && (header.log, header.position) == (LogId(1), at)
                    && header.local.durable <= at
                {
                    before.window_bytes = before.window_bytes.max(header.local.window_bytes);
                    before.blocks.push((at, header.term.0));
                }
            }
        }
        before
    }

    fn assert_nothing_durable_is_lost(&self, report: &Report) {
        let end = Position(report.end.0 - TERM_BLOCK_BYTES);
        assert!(end >= self.durable, "the log ends at {end}, but was durable up to {}", self.durable);
        for &(position, term) in &self.blocks {
            // The new term is above that of the last block which was found valid. Behind a log that was closed there is
            // nothing of its own terms.
            let newer = term + 1 >= report.term.0 + u32::from(self.closed && end == self.durable);
            let beyond = position >= end && position.since(end) >= self.window_bytes;
            assert!(!newer || !beyond, "the log ends at {end}, with a block at {position}");
        }
    }
}

/// Read as a consumer does. Rot below the checkpoint is met here, and is an error for it alone.
fn read_all(rig: &mut Rig<Partitions, MemoryDisk>, slot: Slot) {
    const ROUNDS_MAX: usize = 100;
    let Some(queue) = rig.log.queue(slot) else { return };
    let mut from = queue.start_offset();
    for _ in 0..ROUNDS_MAX {
        let mut gather = Gather::new(from);
        match rig.log.read(slot, from, ReadLimits::at_least(usize::MAX), &mut gather) {
            ReadEnd::Done if gather.bytes() > 0 => from = gather.next(),
            ReadEnd::Done | ReadEnd::Failed => return,
            ReadEnd::Missing(..) => rig.submit(),
            ReadEnd::Past => unreachable!("it may look there"),
        }
    }
    panic!("slot {slot} is never read to its end");
}

// --- Inspection. ---

/// `ringmq inspect` on the same files.
fn inspect(bytes: &[u8]) -> bool {
    let disk = unpack(bytes);
    let Ok(files) = block_on(LogFiles::open(&disk, Path::new(DIR), BROKER, LogId(1))) else { return false };
    let verified = block_on(files.verify(&disk, &mut Partitions::default(), &mut |_, _| {}));
    let space = block_on(files.space(&disk, &mut Partitions::default(), &mut |_, _| {}));
    let mut walk = files.walk(&disk, Position::ZERO);
    while let Ok(Step::Block(..)) = block_on(walk.next()) {}

    let sound = verified.is_ok_and(|verified| verified.problems.is_empty());
    if sound {
        assert!(space.is_ok(), "{:?}", space.err());
        let opened = open(&disk, LogId(1), Partitions::default(), false);
        assert!(opened.is_ok(), "nothing is wrong, but a start says {:?}", opened.err());
    }
    sound
}

// --- Stories. ---

fn key(topic: u8, index: i32) -> PartitionKey {
    PartitionKey { topic: TopicId([topic; 16]), index }
}

type Data = Rig<Partitions, MemoryDisk>;

fn commit(rig: &mut Data) {
    rig.commit(|partitions, durable| partitions.on_durable(durable));
    rig.housekeeping();
}

fn append(rig: &mut Data, key: PartitionKey, codec: Compression, stamp: Option<ProducerStamp>) {
    let mut builder = BatchBuilder::new(codec);
    if let Some(stamp) = stamp {
        builder = builder.producer(stamp);
    }
    for number in 0..3 {
        builder.push(rig::TIME_MS + number, Some(b"key"), Some(b"value"), &[]);
    }
    let bytes = builder.finish();
    let batch = RecordBatch::parse(&bytes).expect("just built");
    let (now, checked) = (rig.now, CheckedBatch { batch, log_append_time: false });
    rig.layer.append(&mut rig.log, key, checked, now).expect("there is room");
    commit(rig);
}

fn formatted(log: LogId, segments: usize) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let sizes = vec![SEGMENT_BYTES; segments];
    block_on(recovery::format(&disk, Path::new(DIR), (BROKER, log), &sizes)).expect("room for a log");
    disk
}

fn seeds() -> Vec<Vec<u8>> {
    let young = formatted(LogId(1), 2);
    let new = pack(&young);
    let mut rig = open(&young, LogId(1), Partitions::default(), false).expect("a new log").0;
    append(&mut rig, key(1, 0), Compression::None, None);
    vec![new, pack(&young), pack(&story())]
}

/// Slots opened and closed, deleted records, a checkpoint, a segment used again, two terms, and no
/// orderly end.
fn story() -> MemoryDisk {
    let disk = formatted(LogId(1), 3);
    let mut rig = open(&disk, LogId(1), Partitions::default(), false).expect("a new log").0;
    append(&mut rig, key(2, 0), Compression::None, None);
    for _ in 0..4 {
        append(&mut rig, key(1, 0), Compression::None, None);
    }
    let slot = rig.layer.slot(key(1, 0)).expect("written to");
    let now = rig.now;
    rig.layer.delete_records(&mut rig.log, slot, Offset(9), now).expect("there is room");
    rig.layer.close_topic(&mut rig.log, TopicId([2; 16]), now).expect("there is room");
    commit(&mut rig);
    rig.log.drop_before(slot, Offset(9));
    let mut state = Vec::new();
    rig.layer.encode(&mut state);
    rig.checkpoint(&state);
    rig.housekeeping();
    drop(rig);

    let mut rig = open(&disk, LogId(1), Partitions::default(), false).expect("it was there").0;
    for (number, codec) in (0..).zip([Compression::Gzip, Compression::Zstd]) {
        let stamp = ProducerStamp { id: ProducerId(4), epoch: 0, base_sequence: 3 * number };
        append(&mut rig, key(3, 1), codec, Some(stamp));
    }
    let committed = CommittedOffset {
        partition: key(1, 0),
        offset: Offset(9),
        leader_epoch: 1,
        metadata: Some("by night".to_owned()),
        commit_time: rig::TIME_MS,
    };
    rig.layer.commit_offsets(&mut rig.log, "billing", &[committed], now).expect("there is room");
    append(&mut rig, key(1, 0), Compression::None, None);
    disk
}

fn metadata_story() -> MemoryDisk {
    let disk = formatted(LogId::METADATA, 3);
    let mut rig = open(&disk, LogId::METADATA, MetadataReplay::default(), false).expect("a new log").0;
    for (number, record) in state::metadata().iter().enumerate() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        Hosted::append_record(&mut rig.log, &bytes, rig.now).expect("there is room");
        rig.commit(|_, _| {});
        rig.layer.catalog.apply(record).expect("the records fit");
        if number == 3 {
            let snapshot = rig.layer.catalog.snapshot();
            rig.checkpoint(&snapshot);
        }
        rig.housekeeping();
    }
    disk
}

// --- Archives. ---

fn path(file: u8) -> PathBuf {
    let dir = Path::new(DIR);
    match file {
        0 | 1 => manifest_path(dir, u64::from(file)),
        2 | 3 => checkpoint_path(dir, u64::from(file - 2)),
        segment => segment_path(dir, u32::from(segment - 3)),
    }
}

/// The files of an archive, as far as it can be read.
fn unpack(bytes: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::default();
    let mut fields = Fields::new(bytes);
    let mut file = || -> Result<(u8, Vec<u8>), Truncated> {
        let (file, pages) = (fields.u8()?, fields.u8()?.min(FILE_PAGES_MAX));
        let mut content = vec![0; usize::from(pages) * PAGE_BYTES];
        for _ in 0..fields.u8()? {
            let page = usize::from(fields.u8()?);
            let length = usize::from(fields.u16()?);
            let stored = fields.bytes(length.min(fields.rest().len()))?;
            if let Some(room) = content.get_mut(page * PAGE_BYTES..) {
                let length = length.min(room.len()).min(PAGE_BYTES).min(stored.len());
                room[..length].copy_from_slice(&stored[..length]);
            }
        }
        Ok((file, content))
    };
    while let Ok((file, content)) = file() {
        disk.put(&path(file), content);
    }
    disk
}

fn pack(disk: &MemoryDisk) -> Vec<u8> {
    let mut out = Vec::new();
    let all = disk.all();
    let names = (0..=u8::MAX).map(|file| (file, path(file)));
    for (file, name) in names {
        let Some((_, content)) = all.iter().find(|(path, _)| *path == name) else { continue };
        let used = |page: &[u8]| page.iter().rposition(|byte| *byte != 0).map(|last| page[..=last].to_vec());
        let pages: Vec<_> = (0u8..)
            .zip(content.chunks(PAGE_BYTES))
            .filter_map(|(index, page)| Some((index, used(page)?)))
            .collect();
        out.extend([file, content.len().div_ceil(PAGE_BYTES) as u8, pages.len() as u8]);
        for (index, bytes) in pages {
            out.push(index);
            out.extend((bytes.len() as u16).to_le_bytes());
            out.extend(bytes);
        }
    }
    out
}

/// The same files with every checksum true, and blocks chained to the blocks before them.
fn seal(disk: &MemoryDisk) -> MemoryDisk {
    const POSITION_AT: usize = 16;
    let position = |bytes: &[u8]| {
        bytes.get(POSITION_AT..).and_then(|rest| rest.first_chunk()).map(|bytes| u64::from_le_bytes(*bytes))
    };
    let mut files = disk.all();
    // By position: a block's chain depends on the block before.
    files.sort_by_key(|(_, bytes)| position(bytes));
    let is = |path: &Path, kind: &str| path.to_str().is_some_and(|path| path.contains(kind));
    let mut chains = vec![(0, 0)];
    for (_, bytes) in files.iter_mut().filter(|(path, _)| is(path, ".segment")) {
        let mut at = 0;
        while let Some(block) = bytes.get_mut(at..)
            && let Some(position) = position(block)
        {
            let before = chains.iter().rev().find(|(end, _)| *end == position).map(|(_, chain)| *chain);
            let Some((chain, block_bytes)) = seal_block(block, before) else { break };
            chains.push((position.saturating_add(block_bytes as u64), chain));
            at = at.saturating_add(block_bytes.max(PAGE_BYTES));
        }
    }
    let sealed = MemoryDisk::default();
    for (path, mut bytes) in files {
        if is(&path, "manifest") {
            seal_manifest(&mut bytes);
        } else if is(&path, "checkpoint") {
            const CHAIN_AT: usize = 20;
            const POSITION_AT: usize = 24;
            let position = bytes
                .get(POSITION_AT..)
                .and_then(|rest| rest.first_chunk())
                .map(|bytes| u64::from_le_bytes(*bytes));
            if let Some((_, chain)) = chains.iter().rev().find(|(end, _)| Some(*end) == position) {
                bytes[CHAIN_AT..CHAIN_AT + 4].copy_from_slice(&chain.to_le_bytes());
            }
            seal_checkpoint(&mut bytes);
        }
        sealed.put(&path, bytes);
    }
    sealed
}

#[test]
fn an_archive_keeps_what_a_log_is() {
    let disk = story();
    assert_eq!(unpack(&pack(&disk)).all(), disk.all());
    assert_eq!(seal(&disk).all(), disk.all(), "sound files have the checksums that they should have");
}
