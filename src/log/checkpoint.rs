//! A checkpoint: everything that would otherwise have to be rebuilt by reading the log from its start.
//!
//! Authoritative for what lies below its position; above it, recovery applies the log's entries. Two
//! generations, written in turn, each durable before any segment below it is recycled.
//!
//! ```text
//!  0       4         6          8            16       20           24         32
//!  | magic | version | reserved | generation | log id | chain      | position | body bytes (u64) |
//!  | u32   | u16     | u16 = 0  | u64        | u32    | u32        | u64      |
//!  40: body, then CRC-32C of all before it (u32), zeros up to a page
//!
//!  body: first chunk id (u32), chunk count (u32), chunks: { base u64, bytes u32 } ...
//!        slot count (u32), slots: { slot u32, end offset i64, run count u32,
//!              runs: { base offset i64, max timestamp i64, append seconds u32, chunk u32, bytes u32 } ... } ...
//!        state bytes (u32), state: what the layer above wrote (docs/FORMATS.md)
//! ```
//!
//! *chain* is the chain checksum of the block that ends at *position*. Little-endian.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::align::PAGE_BYTES;
use crate::base::bytes::{Fields, Truncated};
use crate::base::crc::crc32c;
use crate::base::mutant::{self, Mutant};
use crate::io::buffer::PageBuf;
use crate::io::file::Disk;
use crate::model::{LogId, Offset, Position, Slot};

use super::chunks::{ChunkId, ChunkSpan, Chunks};
use super::consume_queue::{ConsumeQueues, Run};

const MAGIC: u32 = u32::from_le_bytes(*b"RMQC");
pub const CHECKPOINT_VERSION: u16 = 1;
const HEADER_BYTES: usize = 40;
const CHUNK_BYTES: usize = 12;
const SLOT_BYTES: usize = 16;
const RUN_BYTES: usize = 28;

/// A checkpoint as it is read back.
pub struct Checkpoint {
    pub generation: u64,
    pub log: LogId,
    pub position: Position,
    pub chain: u32,
    pub first_chunk: ChunkId,
    pub spans: VecDeque<ChunkSpan>,
    pub queues: ConsumeQueues,
    /// What the layer above wrote.
    pub state: Vec<u8>,
}

pub fn checkpoint_path(dir: &Path, generation: u64) -> PathBuf {
    let copy = if mutant::is(Mutant::CheckpointInPlace) { 0 } else { generation % 2 };
    dir.join(format!("checkpoint-{copy}"))
}

/// The bytes of a checkpoint of what is durable now.
pub fn encode(
    (generation, log, position, chain): (u64, LogId, Position, u32),
    chunks: &Chunks,
    queues: &ConsumeQueues,
    state: &[u8],
) -> Vec<u8> {
    let mut body = Vec::new();
    let durable = || chunks.spans().take_while(|span| span.bytes > 0);
    body.extend_from_slice(&chunks.first().0.to_le_bytes());
    body.extend_from_slice(&(durable().count() as u32).to_le_bytes());
    for span in durable() {
        body.extend_from_slice(&span.base.0.to_le_bytes());
        body.extend_from_slice(&span.bytes.to_le_bytes());
    }
    let used = || queues.iter().filter(|(_, queue)| queue.end_offset() > Offset::ZERO);
    body.extend_from_slice(&(used().count() as u32).to_le_bytes());
    for (slot, queue) in used() {
        body.extend_from_slice(&slot.0.to_le_bytes());
        body.extend_from_slice(&queue.end_offset().0.to_le_bytes());
        body.extend_from_slice(&(queue.runs().len() as u32).to_le_bytes());
        for run in queue.runs() {
            body.extend_from_slice(&run.base_offset.0.to_le_bytes());
            body.extend_from_slice(&run.max_timestamp.to_le_bytes());
            body.extend_from_slice(&run.append_seconds.to_le_bytes());
            body.extend_from_slice(&run.chunk.0.to_le_bytes());
            body.extend_from_slice(&run.bytes.to_le_bytes());
        }
    }
    body.extend_from_slice(&(state.len() as u32).to_le_bytes());
    body.extend_from_slice(state);

    let mut out = Vec::with_capacity(HEADER_BYTES + body.len() + 4);
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&CHECKPOINT_VERSION.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&generation.to_le_bytes());
    out.extend_from_slice(&log.0.to_le_bytes());
    out.extend_from_slice(&chain.to_le_bytes());
    out.extend_from_slice(&position.0.to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.append(&mut body);
    let crc = crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Read a checkpoint; what follows it in `bytes` is ignored. `Truncated` if it is none, or contradicts
/// itself.
pub fn decode(bytes: &[u8]) -> Result<Checkpoint, Truncated> {
    let mut fields = Fields::new(bytes);
    if fields.u32()? != MAGIC || fields.u16()? != CHECKPOINT_VERSION {
        return Err(Truncated);
    }
    fields.u16()?;
    let generation = fields.u64()?;
    let log = LogId(fields.u32()?);
    let chain = fields.u32()?;
    let position = Position(fields.u64()?);
    let body_bytes = usize::try_from(fields.u64()?).map_err(|_| Truncated)?;
    let body = fields.bytes(body_bytes)?;
    let covered = bytes.len() - fields.rest().len();
    if fields.u32()? != crc32c(&bytes[..covered]) {
        return Err(Truncated);
    }
    // The generation must leave room to count on.
    let possible = position <= Position::MAX && generation <= u64::MAX / 2;
    if !possible || !position.0.is_multiple_of(PAGE_BYTES as u64) {
        return Err(Truncated);
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
            return Err(Truncated);
        }
        let end_offset = Offset(fields.i64()?);
        let runs = decode_runs(&mut fields, end_offset, first_chunk, &mut room)?;
        queues.restore(slot, runs, end_offset);
    }
    let state_bytes = fields.count(1)?;
    let state = fields.bytes(state_bytes)?.to_vec();
    Ok(Checkpoint { generation, log, position, chain, first_chunk, spans, queues, state })
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

/// Read one of the two generations; `None` if there is no such file, `Truncated` if it is no
/// checkpoint of this log, or not a whole one.
pub async fn read_copy<D: Disk>(
    disk: &D,
    dir: &Path,
    log: LogId,
    copy: u64,
) -> io::Result<Option<Result<Checkpoint, Truncated>>> {
    let path = checkpoint_path(dir, copy);
    if !disk.exists(&path).await? {
        return Ok(None);
    }
    let file = disk.open(&path).await?;
    let mut buf = PageBuf::zeroed(disk.size(&file).await? as usize);
    let read = disk.read_at(&file, 0, &mut buf).await?;
    let decoded = decode(&buf[..read]);
    Ok(Some(
        decoded.and_then(|checkpoint| if checkpoint.log == log { Ok(checkpoint) } else { Err(Truncated) }),
    ))
}

/// Read the newest readable checkpoint; `None` if there is none yet, or none that can be read.
pub async fn read<D: Disk>(disk: &D, dir: &Path, log: LogId) -> io::Result<Option<Checkpoint>> {
    let mut best: Option<Checkpoint> = None;
    for copy in 0..2 {
        if let Some(Ok(checkpoint)) = read_copy(disk, dir, log, copy).await?
            && best.as_ref().is_none_or(|best| best.generation < checkpoint.generation)
        {
            best = Some(checkpoint);
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

        let bytes = encode((5, LogId(1), Position(12288), 99), &chunks, &queues, b"state");
        let read = decode(&bytes).unwrap();
        assert_eq!(
            (read.generation, read.log, read.position, read.chain),
            (5, LogId(1), Position(12288), 99)
        );
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
            assert!(decode(&broken).is_err(), "byte {byte}");
        }
    }
}
