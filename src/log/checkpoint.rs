//! A checkpoint: everything that would otherwise have to be rebuilt by reading the log from its start.
//!
//! Authoritative for what lies below its position; above it, recovery applies the log's entries. Two
//! generations, written in turn, each durable before any segment below it is recycled.
//!
//! ```text
//!  0       4         6          8            16       20           24         32                 40
//!  | magic | version | reserved | generation | log id | chain      | position | body bytes (u64) | term  |
//!  | u32   | u16     | u16 = 0  | u64        | u32    | u32        | u64      |                  | u32   |
//!  44: body, then CRC-32C of all before it (u32), zeros up to a page
//!
//!  body: first chunk id (u32), chunk count (u32), chunks: { base u64, bytes u32 } ...
//!        slot count (u32), slots: { slot u32, end offset i64, run count u32,
//!              runs: { base offset i64, max timestamp i64, append seconds u32, chunk u32, bytes u32 } ... } ...
//!        state bytes (u32), state: what the layer above wrote (docs/FORMATS.md)
//! ```
//!
//! *chain* and *term* are those of the block that ends at *position*: what follows is tied to it.
//! Version 1 lacks the term, its body begins at 40. Little-endian.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::align::PAGE_BYTES;
use crate::base::bytes::{Fields, Truncated};
use crate::base::crc::crc32c;
use crate::base::mutant::{self, Mutant};
use crate::io::buffer::PageBuf;
use crate::io::file::Disk;
use crate::model::{LogId, Offset, Position, Slot, Term};

use super::chunks::{ChunkId, ChunkSpan, Chunks};
use super::consume_queue::{ConsumeQueues, Run};

const MAGIC: u32 = u32::from_le_bytes(*b"RMQC");
pub const CHECKPOINT_VERSION: u16 = 2;
const HEADER_BYTES: usize = 44;
/// Counts, with nothing to be counted.
const BODY_BYTES_MIN: usize = 16;
const CRC_BYTES: usize = 4;
const CHUNK_BYTES: usize = 12;
const SLOT_BYTES: usize = 16;
const RUN_BYTES: usize = 28;

/// Which checkpoint it is, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub generation: u64,
    pub log: LogId,
    /// Everything before is in the checkpoint.
    pub position: Position,
    /// Of the block that ends at `position`.
    pub chain: u32,
    /// Of the block that ends at `position`; 0 if the checkpoint is of version 1, which lacks it.
    pub term: Term,
}

/// A checkpoint as it is read back.
#[derive(Debug)]
pub struct Checkpoint {
    pub head: Head,
    pub first_chunk: ChunkId,
    pub spans: VecDeque<ChunkSpan>,
    pub queues: ConsumeQueues,
    /// What the layer above wrote.
    pub state: Vec<u8>,
}

/// Why a checkpoint cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("it is not a whole checkpoint of this log")]
    Broken,
    #[error(
        "the checkpoint has format version {0}, which is newer than this program: use the program that wrote it, or a newer one"
    )]
    Version(u16),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Truncated> for CheckpointError {
    fn from(_: Truncated) -> CheckpointError {
        CheckpointError::Broken
    }
}

pub fn checkpoint_path(dir: &Path, generation: u64) -> PathBuf {
    let copy = if mutant::is(Mutant::CheckpointInPlace) { 0 } else { generation % 2 };
    dir.join(format!("checkpoint-{copy}"))
}

/// The bytes of a checkpoint of what is durable now. A turn waits for this: no byte is moved twice.
pub fn encode(head: Head, chunks: &Chunks, queues: &ConsumeQueues, state: &[u8]) -> Vec<u8> {
    let durable = || chunks.spans().take_while(|span| span.bytes > 0);
    let used = || queues.iter().filter(|(_, queue)| queue.end_offset() > Offset::ZERO);
    let (span_count, slot_count) = (durable().count(), used().count());
    let run_count: usize = used().map(|(_, queue)| queue.runs().len()).sum();
    let lists_bytes = span_count * CHUNK_BYTES + slot_count * SLOT_BYTES + run_count * RUN_BYTES;
    let body_bytes = BODY_BYTES_MIN + lists_bytes + state.len();

    let mut out = Vec::with_capacity(HEADER_BYTES + body_bytes + CRC_BYTES);
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&CHECKPOINT_VERSION.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&head.generation.to_le_bytes());
    out.extend_from_slice(&head.log.0.to_le_bytes());
    out.extend_from_slice(&head.chain.to_le_bytes());
    out.extend_from_slice(&head.position.0.to_le_bytes());
    out.extend_from_slice(&(body_bytes as u64).to_le_bytes());
    out.extend_from_slice(&head.term.0.to_le_bytes());

    out.extend_from_slice(&chunks.first().0.to_le_bytes());
    out.extend_from_slice(&(span_count as u32).to_le_bytes());
    for span in durable() {
        out.extend_from_slice(&span.base.0.to_le_bytes());
        out.extend_from_slice(&span.bytes.to_le_bytes());
    }
    out.extend_from_slice(&(slot_count as u32).to_le_bytes());
    for (slot, queue) in used() {
        out.extend_from_slice(&slot.0.to_le_bytes());
        out.extend_from_slice(&queue.end_offset().0.to_le_bytes());
        out.extend_from_slice(&(queue.runs().len() as u32).to_le_bytes());
        for run in queue.runs() {
            out.extend_from_slice(&encode_run(run));
        }
    }
    out.extend_from_slice(&(state.len() as u32).to_le_bytes());
    out.extend_from_slice(state);
    assert_eq!(out.len(), HEADER_BYTES + body_bytes);
    let crc = crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn encode_run(run: &Run) -> [u8; RUN_BYTES] {
    let mut out = [0; RUN_BYTES];
    out[0..8].copy_from_slice(&run.base_offset.0.to_le_bytes());
    out[8..16].copy_from_slice(&run.max_timestamp.to_le_bytes());
    out[16..20].copy_from_slice(&run.append_seconds.to_le_bytes());
    out[20..24].copy_from_slice(&run.chunk.0.to_le_bytes());
    out[24..28].copy_from_slice(&run.bytes.to_le_bytes());
    out
}

/// Read a checkpoint; what follows it in `bytes` is ignored.
///
/// # Errors
/// It is none, or contradicts itself; a newer format, which has its checksum where this one has it.
pub fn decode(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let mut fields = Fields::new(bytes);
    if fields.u32()? != MAGIC {
        return Err(CheckpointError::Broken);
    }
    let version = fields.u16()?;
    fields.u16()?;
    let generation = fields.u64()?;
    let log = LogId(fields.u32()?);
    let chain = fields.u32()?;
    let position = Position(fields.u64()?);
    let body_bytes = usize::try_from(fields.u64()?).map_err(|_| Truncated)?;
    let term = Term(if version == 1 { 0 } else { fields.u32()? });
    let body = fields.bytes(body_bytes)?;
    let covered = bytes.len() - fields.rest().len();
    if fields.u32()? != crc32c(&bytes[..covered]) {
        return Err(CheckpointError::Broken);
    }
    // Only now: a version is only believed when its checksum is right.
    if version > CHECKPOINT_VERSION {
        return Err(CheckpointError::Version(version));
    }
    // The generation must leave room to count on.
    let possible = position <= Position::MAX && generation <= u64::MAX / 2 && term <= Term::MAX;
    if version == 0 || !possible || !position.0.is_multiple_of(PAGE_BYTES as u64) {
        return Err(CheckpointError::Broken);
    }
    let mut fields = Fields::new(body);
    let first_chunk = ChunkId(fields.u32()?);
    let spans = decode_spans(&mut fields, position)?;
    first_chunk.0.checked_add(spans.len() as u32).ok_or(Truncated)?;
    // What may still be alive in each chunk: no more than it holds.
    let mut room: Vec<u32> = spans.iter().map(|span| span.bytes).collect();
    let mut queues = ConsumeQueues::default();
    for _ in 0..fields.count(SLOT_BYTES)? {
        let slot = Slot(fields.u32()?);
        // Slots ascend, and each has cost the layer above more than a byte of its state: a larger
        // number than there are bytes would size a table that nobody has paid for.
        let next = queues.iter().len();
        if (slot.0 as usize) < next || slot.0 as usize >= body.len() {
            return Err(CheckpointError::Broken);
        }
        let end_offset = Offset(fields.i64()?);
        let runs = decode_runs(&mut fields, end_offset, first_chunk, &mut room)?;
        queues.restore(slot, runs, end_offset);
    }
    let state_bytes = fields.count(1)?;
    let state = fields.bytes(state_bytes)?.to_vec();
    let head = Head { generation, log, position, chain, term };
    Ok(Checkpoint { head, first_chunk, spans, queues, state })
}

/// Chunks in order of their positions, none of them empty, all before the checkpoint's.
fn decode_spans(fields: &mut Fields<'_>, position: Position) -> Result<VecDeque<ChunkSpan>, Truncated> {
    let count = fields.count(CHUNK_BYTES)?;
    let mut spans = VecDeque::with_capacity(count);
    let mut previous_end = Position::ZERO;
    for _ in 0..count {
        let span =
            ChunkSpan { base: Position(fields.u64()?), bytes: fields.u32()?, live_runs: 0, live_bytes: 0 };
        if span.base < previous_end || span.base > position || span.bytes == 0 || span.end() > position {
            return Err(Truncated);
        }
        previous_end = span.end();
        spans.push_back(span);
    }
    Ok(spans)
}

/// Runs of one slot in order of offsets and chunks; `room` is what the chunks have left for them.
fn decode_runs(
    fields: &mut Fields<'_>,
    end_offset: Offset,
    first_chunk: ChunkId,
    room: &mut [u32],
) -> Result<VecDeque<Run>, Truncated> {
    let count = fields.count(RUN_BYTES)?;
    let mut runs = VecDeque::with_capacity(count);
    let (mut previous_offset, mut previous_chunk) = (Offset(-1), None);
    for _ in 0..count {
        let run = Run {
            base_offset: Offset(fields.i64()?),
            max_timestamp: fields.i64()?,
            append_seconds: fields.u32()?,
            chunk: ChunkId(fields.u32()?),
            bytes: fields.u32()?,
        };
        let index = run.chunk.0.checked_sub(first_chunk.0).ok_or(Truncated)?;
        let room = room.get_mut(index as usize).ok_or(Truncated)?;
        *room = room.checked_sub(run.bytes).ok_or(Truncated)?;
        if run.base_offset <= previous_offset || previous_chunk >= Some(run.chunk) {
            return Err(Truncated);
        }
        (previous_offset, previous_chunk) = (run.base_offset, Some(run.chunk));
        runs.push_back(run);
    }
    if end_offset <= previous_offset { Err(Truncated) } else { Ok(runs) }
}

/// Read one of the two generations; `None` if there is no such file.
pub async fn read_copy<D: Disk>(
    disk: &D,
    dir: &Path,
    log: LogId,
    copy: u64,
) -> Result<Option<Checkpoint>, CheckpointError> {
    let path = checkpoint_path(dir, copy);
    if !disk.exists(&path).await? {
        return Ok(None);
    }
    let file = disk.open(&path).await?;
    let mut buf = PageBuf::zeroed(disk.size(&file).await? as usize);
    let read = disk.read_at(&file, 0, &mut buf).await?;
    let checkpoint = decode(&buf[..read])?;
    if checkpoint.head.log == log { Ok(Some(checkpoint)) } else { Err(CheckpointError::Broken) }
}

/// Read the newest readable checkpoint; `None` if there is none yet, or none that can be read.
///
/// # Errors
/// A newer format; the disk's.
pub async fn read<D: Disk>(disk: &D, dir: &Path, log: LogId) -> Result<Option<Checkpoint>, CheckpointError> {
    let mut best: Option<Checkpoint> = None;
    for copy in 0..2 {
        match read_copy(disk, dir, log, copy).await {
            Ok(Some(checkpoint))
                if best.as_ref().is_none_or(|best| best.head.generation < checkpoint.head.generation) =>
            {
                best = Some(checkpoint);
            }
            Ok(_) | Err(CheckpointError::Broken) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(best)
}

/// Write a checkpoint over the older generation and make it durable.
pub async fn write<D: Disk>(disk: &D, dir: &Path, generation: u64, bytes: &[u8]) -> io::Result<()> {
    let path = checkpoint_path(dir, generation);
    let new = !disk.exists(&path).await?;
    let file = if new { disk.create(&path).await? } else { disk.open(&path).await? };
    disk.write_at(&file, 0, &PageBuf::from_bytes(bytes)).await?;
    if mutant::is(Mutant::SkipCheckpointSync) {
        return Ok(());
    }
    disk.sync(&file).await?;
    // Also of an old file: the attempt that made it may have failed before this.
    disk.sync_dir(dir).await
}

/// Write the copy that was read once more: it may be in a cache only, and the next write replaces the
/// other one.
pub async fn write_back<D: Disk>(disk: &D, dir: &Path, generation: u64) -> io::Result<()> {
    let file = disk.open(&checkpoint_path(dir, generation)).await?;
    let mut buf = PageBuf::zeroed(disk.size(&file).await? as usize);
    disk.read_at(&file, 0, &mut buf).await?;
    disk.write_at(&file, 0, &buf).await?;
    disk.sync(&file).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::consume_queue::AppliedEntry;

    #[test]
    fn comes_back_as_written_and_rot_is_noticed() {
        let mut chunks = Chunks::new(ChunkId(3), VecDeque::new(), 1 << 20);
        let id = chunks.open(Position(8192));
        chunks.extend(id, Position(12288));
        chunks.open(Position(12288));
        let mut queues = ConsumeQueues::default();
        let entry = AppliedEntry {
            slot: Slot(2),
            base_offset: Offset(7),
            end_offset: Offset(9),
            position: Position(8288),
            payload_bytes: 61,
            stored_bytes: 104,
            max_timestamp: 1_700_000_000_000,
            append_seconds: 1_700_000_000,
            chunk: id,
        };
        queues.apply(&entry, true);

        let head = Head { generation: 5, log: LogId(1), position: Position(12288), chain: 99, term: Term(7) };
        let bytes = encode(head, &chunks, &queues, b"state");
        let read = decode(&bytes).unwrap();
        assert_eq!(read.head, head);
        assert_eq!(
            (read.first_chunk, read.spans.len()),
            (ChunkId(3), 1),
            "the open chunk has nothing durable"
        );
        let queue = read.queues.get(Slot(2)).unwrap();
        assert_eq!((queue.end_offset(), queue.bytes(), queue.runs().len()), (Offset(9), 104, 1));
        assert_eq!(read.state, b"state");

        for byte in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[byte] ^= 0x10;
            assert!(matches!(decode(&broken), Err(CheckpointError::Broken)), "byte {byte}");
        }
    }

    /// A checkpoint of nothing, as another version.
    fn of_version(version: u16, without_term: bool) -> Vec<u8> {
        let head = Head { generation: 1, log: LogId(1), position: Position(0), chain: 0, term: Term(7) };
        let chunks = Chunks::new(ChunkId(1), VecDeque::new(), 0);
        let mut bytes = encode(head, &chunks, &ConsumeQueues::default(), &[]);
        bytes[4..6].copy_from_slice(&version.to_le_bytes());
        if without_term {
            bytes.drain(40..44);
        }
        let covered = bytes.len() - 4;
        let crc = crc32c(&bytes[..covered]);
        bytes[covered..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn older_versions_are_read_and_newer_ones_named() {
        assert_eq!(decode(&of_version(1, true)).unwrap().head.term, Term(0));
        assert_eq!(decode(&of_version(2, false)).unwrap().head.term, Term(7));
        for (version, without_term) in [(1, false), (2, true)] {
            assert!(matches!(decode(&of_version(version, without_term)), Err(CheckpointError::Broken)));
        }
        for version in [3, u16::MAX] {
            let decoded = decode(&of_version(version, false));
            assert!(matches!(decoded, Err(CheckpointError::Version(found)) if found == version));
        }
    }
}
