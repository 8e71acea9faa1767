//! The formats of a log's own files: blocks with their entries, the manifest, the checkpoint.

use std::collections::VecDeque;

use ringmq::base::crc::{crc32c, crc32c_append};
use ringmq::log::block::{BLOCK_HEADER_BYTES, BlockHeader, LocalPart};
use ringmq::log::checkpoint::{self, Head};
use ringmq::log::chunks::{ChunkId, Chunks};
use ringmq::log::consume_queue::{AppliedEntry, ConsumeQueues};
use ringmq::log::entry::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind};
use ringmq::log::manifest::{Manifest, SegmentRecord};
use ringmq::model::{LogId, Offset, Position, Slot, Term, WallMs};

use crate::harness::{Memory, SMALL, Target};

pub const PAGE_BYTES: usize = 4096;

pub const BLOCK: Target = Target {
    run: read_block,
    seeds: blocks,
    fix: |bytes| {
        seal_block(bytes, None);
    },
    memory: SMALL,
    mutants_per_second: 100_000,
};

pub const MANIFEST: Target = Target {
    run: read_manifest,
    seeds: || vec![manifest().encode()],
    fix: |bytes| seal_manifest(bytes),
    memory: SMALL,
    mutants_per_second: 100_000,
};

pub const CHECKPOINT: Target = Target {
    run: read_checkpoint,
    seeds: checkpoints,
    fix: |bytes| seal_checkpoint(bytes),
    // A queue for every slot up to the largest that is named.
    memory: Memory { per_byte: 256, bytes: 64 << 10 },
    mutants_per_second: 100_000,
};

// --- Blocks. ---

/// As recovery reads one.
fn read_block(bytes: &[u8]) -> bool {
    let Ok(header) = BlockHeader::decode(bytes) else { return false };
    assert!(header.stored_bytes() > 0 && header.end() > header.position, "a block moves the log on");
    let mut stored = bytes.to_vec();
    // A segment is as long as it says; a block's padding is not worth an input's bytes.
    if stored.len() < PAGE_BYTES {
        stored.resize(PAGE_BYTES, 0);
    }
    if stored.len() < header.stored_bytes() || header.check_entries(&stored).is_err() {
        return false;
    }
    let entries: Vec<_> = header.entries(&stored).collect::<Result<_, _>>().expect("checked above");
    assert_eq!(entries.len(), header.entry_count as usize);
    assert_eq!(BlockHeader::decode(&header.encode()), Ok(header));
    true
}

pub fn entry(kind: EntryKind, slot: u32, base_offset: i64, count: u32, payload: &[u8]) -> Vec<u8> {
    let header = EntryHeader {
        kind,
        slot: Slot(slot),
        base_offset: Offset(base_offset),
        count,
        max_timestamp: 1_700_000_000_000,
        payload_bytes: payload.len() as u32,
        payload_crc: kind.payload_crc(payload),
    };
    let mut out = header.encode().to_vec();
    out.extend_from_slice(payload);
    out.resize(header.stored_bytes(), 0);
    out
}

fn blocks() -> Vec<Vec<u8>> {
    let one = entry(EntryKind::TermOpen, 0, 0, 0, &1u32.to_le_bytes());
    let two =
        [entry(EntryKind::SlotOpen, 0, 0, 0, &[7; 20]), entry(EntryKind::LogStart, 0, 9, 0, &[])].concat();
    let end = Vec::new();
    let mut blocks = Vec::new();
    for (entries, count, flags) in [(one, 1, 0), (two, 2, 0), (end, 0, ringmq::log::block::FLAG_SEGMENT_END)]
    {
        let header = BlockHeader {
            log: LogId(1),
            term: Term(4),
            position: Position(8192),
            flags,
            block_bytes: PAGE_BYTES as u32,
            entries_bytes: entries.len() as u32,
            entry_count: count,
            entries_crc: 0,
            append_time: WallMs(1_700_000_000_000),
            prev_chain: 77,
            local: LocalPart { durable: Position(4096), window_bytes: 1 << 16 },
        };
        let mut block = [&header.encode()[..], &entries].concat();
        seal_block(&mut block, None);
        blocks.push(block);
    }
    blocks
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Make every checksum of the block at the front of `bytes` true, and tie it to the block before if
/// that one's chain is given. Returns its own chain and size, if it looks like a block.
pub fn seal_block(bytes: &mut [u8], prev_chain: Option<u32>) -> Option<(u32, usize)> {
    if bytes.len() < BLOCK_HEADER_BYTES || &bytes[..4] != b"RMQB" {
        return None;
    }
    let entries_bytes = u32_at(bytes, 28)? as usize;
    let end = bytes.len().min(BLOCK_HEADER_BYTES + entries_bytes);
    let entries_crc = seal_entries(&mut bytes[BLOCK_HEADER_BYTES..end]);
    put_u32(bytes, 36, entries_crc);
    if let Some(chain) = prev_chain {
        put_u32(bytes, 48, chain);
    }
    let chain = crc32c(&bytes[..52]);
    put_u32(bytes, 52, chain);
    let local = crc32c(&bytes[52..72]);
    put_u32(bytes, 72, local);
    Some((chain, u32_at(bytes, 24)? as usize))
}

/// Make the checksums of entries true; returns that of their headers.
pub fn seal_entries(mut entries: &mut [u8]) -> u32 {
    const BATCH_CRC_START: usize = 21;
    let mut crc = 0;
    while entries.len() >= ENTRY_HEADER_BYTES {
        let payload_bytes = u32_at(entries, 0).expect("a header is there") as usize;
        let stored = EntryHeader::entry_bytes(payload_bytes).min(entries.len());
        let (this, rest) = entries.split_at_mut(stored);
        if let Some(payload) = this[ENTRY_HEADER_BYTES..].get(..payload_bytes) {
            let sum = if this[4] == EntryKind::KafkaBatch as u8 && payload.len() >= BATCH_CRC_START {
                crc32c_append(crc32c(&payload[BATCH_CRC_START..]), &payload[..BATCH_CRC_START])
            } else {
                crc32c(payload)
            };
            put_u32(this, 32, sum);
        }
        let sum = crc32c(&this[..36]);
        put_u32(this, 36, sum);
        crc = crc32c_append(crc, &this[..ENTRY_HEADER_BYTES]);
        entries = rest;
    }
    crc
}

// --- The manifest. ---

fn manifest() -> Manifest {
    Manifest {
        sequence: 9,
        broker: [7; 16],
        log: LogId(2),
        term: Term(3),
        clean: true,
        durable: Position(4096),
        window_bytes: 1 << 22,
        next_number: 12,
        segments: vec![
            SegmentRecord { number: 4, base: Position(0), bytes: 8192, recycled: false },
            SegmentRecord { number: 11, base: Position(8192), bytes: 4096, recycled: true },
        ],
    }
}

fn read_manifest(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::decode(bytes) else { return false };
    assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    true
}

pub fn seal_manifest(bytes: &mut [u8]) {
    const COUNT_AT: usize = 60;
    const SEGMENT_BYTES: usize = 24;
    let Some(count) = u32_at(bytes, COUNT_AT) else { return };
    seal_at(bytes, (count as usize).saturating_mul(SEGMENT_BYTES).saturating_add(COUNT_AT + 4));
}

/// The checksum of all before it stands at `at`, if that is within `bytes`.
fn seal_at(bytes: &mut [u8], at: usize) {
    if at.checked_add(4).is_some_and(|end| end <= bytes.len()) {
        let crc = crc32c(&bytes[..at]);
        put_u32(bytes, at, crc);
    }
}

// --- The checkpoint. ---

fn checkpoints() -> Vec<Vec<u8>> {
    let head =
        |generation, log, position| Head { generation, log: LogId(log), position, chain: 99, term: Term(4) };
    let nothing = (Chunks::new(ChunkId(1), VecDeque::new(), 0), ConsumeQueues::default());
    let mut chunks = Chunks::new(ChunkId(3), VecDeque::new(), 0);
    let mut queues = ConsumeQueues::default();
    for (number, base) in [(0, 4096), (1, 12288)] {
        let id = chunks.append_on_disk(Position(base));
        chunks.extend(id, Position(base + 8192));
        for slot in [0, 2] {
            let applied = AppliedEntry {
                slot: Slot(slot),
                base_offset: Offset(10 * number),
                end_offset: Offset(10 * number + 10),
                position: Position(base + 96),
                payload_bytes: 61,
                stored_bytes: 104,
                max_timestamp: 1_700_000_000_000,
                append_seconds: 1_700_000_000,
                chunk: id,
            };
            queues.apply(&applied, false);
        }
    }
    vec![
        checkpoint::encode(head(1, 0, Position(0)), &nothing.0, &nothing.1, &[]),
        checkpoint::encode(head(5, 1, Position(20480)), &chunks, &queues, b"state"),
    ]
}

fn read_checkpoint(bytes: &[u8]) -> bool {
    let Ok(checkpoint) = checkpoint::decode(bytes) else { return false };
    // What recovery does with it: every run's bytes are alive in a chunk.
    let mut chunks = Chunks::new(checkpoint.first_chunk, checkpoint.spans, 0);
    for (_, queue) in checkpoint.queues.iter() {
        assert!(queue.start_offset() <= queue.end_offset());
        for run in queue.runs() {
            chunks.restore_live(run.chunk, run.bytes);
        }
    }
    true
}

pub fn seal_checkpoint(bytes: &mut [u8]) {
    const VERSION_AT: usize = 4;
    const BODY_BYTES_AT: usize = 32;
    // Version 1 lacks the term.
    let header_bytes =
        if bytes.get(VERSION_AT..).is_some_and(|rest| rest.starts_with(&[1, 0])) { 40 } else { 44 };
    let Some(&body_bytes) = bytes.get(BODY_BYTES_AT..).and_then(|rest| rest.first_chunk()) else { return };
    let body_bytes = usize::try_from(u64::from_le_bytes(body_bytes)).unwrap_or(usize::MAX);
    seal_at(bytes, body_bytes.saturating_add(header_bytes));
}
