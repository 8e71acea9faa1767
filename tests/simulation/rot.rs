//! Rot, planted between two lives: bytes on the disk that are no longer what was written.
//!
//! ```text
//!   first segment      checkpoint          durable - window        durable
//!   |------ cold ---------|------- old ------------|- (young) ---------|---- tail ----
//! ```
//!
//! - *cold*: recovery does not look there; whoever reads it is told. What only a checkpoint covers that was
//!   being written is not cold: a power loss may take it, and recovery then reads from the older one on.
//! - *old*: recovery must refuse, and leave every byte as it is.
//! - *foreign*, also in the old part: a block that is whole, of this place and this term, but followed
//!   another past when it was written, as in a folder that was put together from two copies. Refuse, too.
//! - *tail*, blocks and the unused space behind them: nobody was told that they are safe; recovery must
//!   cut them off.
//! - the newer copies of *checkpoint* and *manifest*: recovery goes back to the older ones, or refuses.
//!
//! In the young part rot looks like a torn write, so nothing could be asserted; none is planted.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use ringmq::io::sim::{Rng, SimDisk, SimWorld, block_on};
use ringmq::log::Log;
use ringmq::log::block::{BLOCK_HEADER_BYTES, BlockHeader};
use ringmq::log::checkpoint::{self, checkpoint_path};
use ringmq::log::manifest::{Manifest, SegmentRecord, manifest_path};
use ringmq::log::recovery::RecoveryError;
use ringmq::log::segment::segment_path;
use ringmq::model::{LogId, Position};

use super::machine::log_dir;

/// Bytes of a block's header that are checked; zeros follow.
const BLOCK_CHECKED_BYTES: u64 = 76;
/// Bytes at the front of each file that its checksum covers, however short it is.
const CHECKPOINT_HEADER_BYTES: u64 = 44;
const MANIFEST_HEADER_BYTES: u64 = 60;
/// So many bytes of entries hold more than padding, wherever they begin.
const ENTRY_ROT_BYTES: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Cold,
    Old,
    Foreign,
    /// A block that was not acknowledged.
    Tail,
    /// Behind the log's end.
    Unused,
    Checkpoint,
    Manifest,
}

/// A log as its broker left it.
#[derive(Clone, Copy, Debug)]
pub struct LogEnd {
    pub log: LogId,
    /// Clients were told of what lies before.
    pub durable: Position,
    /// Recovery begins here, or at a newer checkpoint that was being written.
    checkpoint: Position,
    window_bytes: u64,
}

impl LogEnd {
    pub fn of(log: &Log) -> LogEnd {
        LogEnd {
            log: log.id(),
            durable: log.durable(),
            checkpoint: log.checkpoint(),
            window_bytes: log.config().window_bytes(),
        }
    }
}

pub struct Rot {
    pub kind: Kind,
    pub log: LogId,
    /// The block that it is in, or where it begins.
    block: Position,
    path: PathBuf,
    range: Range<u64>,
    /// The bits of `range` that are not what was written.
    mask: Vec<u8>,
    /// The bytes of `range` as they are now.
    rotten: Vec<u8>,
    /// The segments' durable bytes before they rotted.
    durable: Vec<(PathBuf, Vec<u8>)>,
}

impl Rot {
    /// Let bytes of this kind rot, in one of the logs that have any. The machine is down.
    pub fn plant(world: &SimWorld, ends: &[LogEnd], kind: Kind, rng: &mut Rng) -> Option<Rot> {
        let first = rng.below(ends.len() as u64) as usize;
        let mut logs = ends.iter().cycle().skip(first).take(ends.len());
        logs.find_map(|end| Rot::plant_in(world, end, kind, rng))
    }

    fn plant_in(world: &SimWorld, end: &LogEnd, kind: Kind, rng: &mut Rng) -> Option<Rot> {
        let dir = log_dir(end.log);
        let disk = SimDisk::immediate(world);
        let manifest = block_on(Manifest::read(&disk, &dir)).expect("a manifest is there");
        let checkpoint = block_on(checkpoint::read(&disk, &dir, end.log)).expect("no fault is set");
        let (scanned, generation) = match checkpoint {
            Some(checkpoint) => (checkpoint.head.position, Some(checkpoint.head.generation)),
            None => (Position::ZERO, None),
        };
        let blocks = |from, to| blocks(world, &manifest, from, to);
        let old = |rng: &mut Rng| {
            let blocks = blocks(scanned, end.durable);
            let last = blocks.last()?.position;
            let is_old = |block: &&BlockHeader| block.position.plus(end.window_bytes) <= last;
            let count = blocks.iter().take_while(is_old).count();
            one_of(&blocks[..count], rng).copied()
        };
        let mut foreign = None;
        let (block, path, range) = match kind {
            Kind::Cold => {
                let blocks = blocks(manifest.segments[0].base, end.checkpoint);
                in_block(&manifest, one_of(&blocks, rng)?, rng)
            }
            Kind::Old => in_block(&manifest, &old(rng)?, rng),
            Kind::Foreign => {
                let block = old(rng)?;
                let other = BlockHeader { prev_chain: !block.prev_chain, ..block };
                let mask = std::iter::zip(block.encode(), other.encode()).map(|(is, will)| is ^ will);
                foreign = Some(mask.collect());
                let (path, at) = place(&manifest, block.position);
                (block.position, path, at..at + BLOCK_HEADER_BYTES as u64)
            }
            Kind::Tail => {
                let blocks = blocks(end.durable, Position(u64::MAX));
                in_block(&manifest, one_of(&blocks, rng)?, rng)
            }
            Kind::Unused => {
                let behind =
                    blocks(end.durable, Position(u64::MAX)).last().map_or(end.durable, BlockHeader::end);
                let segment = manifest.segments.iter().find(|segment| contains(segment, behind))?;
                let from = behind.since(segment.base);
                let bytes = rng.between(1, (segment.bytes - from).min(end.window_bytes));
                (behind, segment_path(&dir, segment.number), from..from + bytes)
            }
            Kind::Checkpoint => {
                let byte = rng.below(CHECKPOINT_HEADER_BYTES);
                (scanned, checkpoint_path(&dir, generation?), byte..byte + 1)
            }
            Kind::Manifest => {
                let byte = rng.below(MANIFEST_HEADER_BYTES);
                (Position::ZERO, manifest_path(&dir, manifest.sequence), byte..byte + 1)
            }
        };
        let durable = manifest.segments.iter().filter(|segment| segment.base < end.durable).map(|segment| {
            let path = segment_path(&dir, segment.number);
            let mut bytes = world.disk().contents(&path).expect("the manifest names what is there");
            bytes.truncate(end.durable.since(segment.base).min(segment.bytes) as usize);
            (path, bytes)
        });
        let mut rot = Rot {
            kind,
            log: end.log,
            block,
            durable: durable.collect(),
            path,
            mask: foreign.unwrap_or_else(|| range.clone().map(|_| rng.between(1, 255) as u8).collect()),
            range,
            rotten: Vec::new(),
        };
        rot.flip(world);
        rot.rotten = rot.bytes(world).expect("the file was there a moment ago");
        Some(rot)
    }

    /// May recovery refuse because of this, with this error?
    pub fn explains(&self, error: &RecoveryError) -> bool {
        match (self.kind, error) {
            (Kind::Old | Kind::Foreign, RecoveryError::Corrupt { log, start, .. }) => {
                (*log, *start) == (self.log, self.block)
            }
            (
                Kind::Checkpoint,
                RecoveryError::NoCheckpoint { log, .. } | RecoveryError::CheckpointOutside { log, .. },
            ) => *log == self.log,
            (
                Kind::Manifest,
                RecoveryError::Content { log, .. } | RecoveryError::CheckpointOutside { log, .. },
            ) => *log == self.log,
            (Kind::Manifest, RecoveryError::Manifest { .. }) => true,
            // A segment that only the older copy lists.
            (Kind::Manifest, RecoveryError::File { error, .. }) => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Recovery has refused: what was durable must be there, and rotten only where it was.
    pub fn check_nothing_cut(&self, world: &SimWorld) {
        self.flip(world);
        for (path, before) in &self.durable {
            let now = world.disk().contents(path).expect("recovery refused, and removed a segment");
            assert!(now.starts_with(before), "recovery refused, and changed {}", path.display());
        }
        self.flip(world);
    }

    /// Give the bytes back as they were, unless something new was written there.
    pub fn heal(&self, world: &SimWorld) {
        if self.bytes(world).is_some_and(|bytes| bytes == self.rotten) {
            self.flip(world);
        }
    }

    /// Changes each byte; done twice, it changes nothing.
    fn flip(&self, world: &SimWorld) {
        let flipped = world.disk().flip(&self.path, self.range.start, &self.mask);
        flipped.expect("the segment was there a moment ago");
    }

    /// `None` when the file is gone.
    fn bytes(&self, world: &SimWorld) -> Option<Vec<u8>> {
        let bytes = world.disk().contents(&self.path).ok()?;
        Some(bytes[self.range.start as usize..self.range.end as usize].to_vec())
    }
}

impl std::fmt::Display for Rot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Rot { kind, path, range, block, .. } = self;
        write!(f, "{kind:?} rot in bytes {range:?} of {}, block {block}", path.display())
    }
}

fn contains(segment: &SegmentRecord, position: Position) -> bool {
    (segment.base..segment.base.plus(segment.bytes)).contains(&position)
}

/// The blocks between two positions at which blocks begin, or up to the first that is none.
fn blocks(world: &SimWorld, manifest: &Manifest, from: Position, to: Position) -> Vec<BlockHeader> {
    let dir = log_dir(manifest.log);
    let mut found = Vec::new();
    let mut at = from;
    for segment in &manifest.segments {
        if !contains(segment, at) || at >= to {
            continue;
        }
        let bytes = world.disk().contents(&segment_path(&dir, segment.number));
        let bytes = bytes.expect("the manifest names what is there");
        while at < to && contains(segment, at) {
            let header = BlockHeader::decode(&bytes[at.since(segment.base) as usize..]);
            let Some(header) = header.ok().filter(|header| header.position == at) else { return found };
            at = header.end();
            found.push(header);
        }
    }
    found
}

fn one_of<'a>(blocks: &'a [BlockHeader], rng: &mut Rng) -> Option<&'a BlockHeader> {
    if blocks.is_empty() { None } else { Some(rng.pick(blocks)) }
}

/// Checked bytes of a block: which block, and where they are.
fn in_block(manifest: &Manifest, block: &BlockHeader, rng: &mut Rng) -> (Position, PathBuf, Range<u64>) {
    let entries_bytes = u64::from(block.entries_bytes);
    let (at, bytes) = if entries_bytes > ENTRY_ROT_BYTES && rng.one_in(2) {
        (BLOCK_HEADER_BYTES as u64 + rng.below(entries_bytes - ENTRY_ROT_BYTES), ENTRY_ROT_BYTES)
    } else {
        (rng.below(BLOCK_CHECKED_BYTES), 1)
    };
    let (path, start) = place(manifest, block.position);
    (block.position, path, start + at..start + at + bytes)
}

/// Where a block lies that was read: file and offset.
fn place(manifest: &Manifest, position: Position) -> (PathBuf, u64) {
    let segment = manifest.segments.iter().find(|segment| contains(segment, position));
    let segment = segment.expect("the block was read from it");
    (segment_path(&log_dir(manifest.log), segment.number), position.since(segment.base))
}
