//! The log's state while recovery rebuilds it: begun at a checkpoint, carried on block by block, ended by
//! the block that opens the next term.

use std::collections::VecDeque;

use super::scan::Scan;
use super::{RecoveryError, Replay};
use crate::base::align::PAGE_BYTES;
use crate::base::crc::crc32c;
use crate::base::mutant::{self, Mutant};
use crate::io::buffer::PageBuf;
use crate::io::file::Disk;
use crate::log::block::{BLOCK_HEADER_BYTES, BlockError, BlockHeader, FLAG_SEGMENT_END, LocalPart};
use crate::log::checkpoint::{Checkpoint, Head};
use crate::log::chunks::{ChunkId, Chunks};
use crate::log::consume_queue::ConsumeQueues;
use crate::log::entry::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind};
use crate::log::segment::Segments;
use crate::log::{LogConfig, apply_entry};
use crate::model::{LogId, Offset, Position, Slot, Term, WallMs};

/// Why the blocks of a segment ended.
pub enum SegmentEnd {
    /// The next block is the first of the next segment.
    Full,
    Stopped(BlockError),
}

/// The log's state while it is rebuilt.
pub struct Rebuild {
    pub end: Position,
    pub chain: u32,
    pub term: Term,
    /// The largest durable position that a block knew of.
    pub durable: Position,
    pub window_bytes: u64,
    pub chunks: Chunks,
    open_chunk: Option<(ChunkId, Position)>,
    pub queues: ConsumeQueues,
    /// Of the checkpoint that it began at.
    pub generation: u64,
    chunk_bytes: u64,
    /// How far the scan had come when its progress was told last.
    told: Position,
}

/// Between two tellings of progress: small against what a second reads, large against what a telling costs.
pub(in crate::log) const PROGRESS_BYTES: u64 = 1 << 20;

impl Rebuild {
    fn empty(config: &LogConfig) -> Rebuild {
        Rebuild {
            end: Position::ZERO,
            chain: 0,
            term: Term(0),
            durable: Position::ZERO,
            window_bytes: 0,
            chunks: Chunks::new(ChunkId(1), VecDeque::new(), config.tail_cache_bytes),
            open_chunk: None,
            queues: ConsumeQueues::default(),
            generation: 0,
            chunk_bytes: config.chunk_bytes as u64,
            told: Position::ZERO,
        }
    }

    /// Begin at the checkpoint that was read, or without one at the beginning of the log, which has
    /// segments from `start` to `limit`.
    pub fn begin<R: Replay>(
        config: &LogConfig,
        log: LogId,
        checkpoint: Option<Checkpoint>,
        (start, limit): (Position, Position),
        replay: &mut R,
    ) -> Result<Rebuild, RecoveryError> {
        match checkpoint {
            Some(checkpoint) if (start..=limit).contains(&checkpoint.head.position) => {
                Rebuild::from_checkpoint(config, checkpoint, start, replay)
            }
            // The newer copy is damaged, and segments have been recycled since the older one.
            Some(Checkpoint { head, .. }) => {
                Err(RecoveryError::CheckpointOutside { log, position: head.position, start, limit })
            }
            None if start == Position::ZERO => Ok(Rebuild::empty(config)),
            None => Err(RecoveryError::NoCheckpoint { log, start }),
        }
    }

    fn from_checkpoint<R: Replay>(
        config: &LogConfig,
        checkpoint: Checkpoint,
        start: Position,
        replay: &mut R,
    ) -> Result<Rebuild, RecoveryError> {
        let Head { generation, log, position, chain, term } = checkpoint.head;
        replay.restore(&checkpoint.state).map_err(|what| RecoveryError::Content { log, position, what })?;
        let mut chunks = Chunks::new(checkpoint.first_chunk, checkpoint.spans, config.tail_cache_bytes);
        let mut queues = checkpoint.queues;
        // Segments may have been recycled after the checkpoint: what they held was dead then.
        chunks.drop_before(start);
        queues.drop_chunks_before(chunks.first());
        for (_, queue) in queues.iter() {
            for run in queue.runs() {
                chunks.restore_live(run.chunk, run.bytes);
            }
        }
        Ok(Rebuild {
            end: position,
            chain,
            term: if mutant::is(Mutant::ForgetCheckpointTerm) { Term(0) } else { term },
            chunks,
            queues,
            durable: position,
            generation,
            told: position,
            ..Rebuild::empty(config)
        })
    }

    /// Apply blocks from `self.end` on.
    pub async fn scan_segment<D: Disk, R: Replay>(
        &mut self,
        scan: &mut Scan<'_, D>,
        log: LogId,
        replay: &mut R,
        progress: &mut dyn FnMut(Position),
    ) -> Result<SegmentEnd, RecoveryError> {
        while self.end < scan.end() {
            let expected = self.end;
            if expected.since(self.told) >= PROGRESS_BYTES {
                self.told = expected;
                progress(expected);
            }
            let header = match BlockHeader::decode(scan.bytes(expected, PAGE_BYTES).await?) {
                Ok(header) => header,
                Err(problem) => return Ok(SegmentEnd::Stopped(problem)),
            };
            let chained = header.prev_chain == self.chain || mutant::is(Mutant::SkipChainCheck);
            let follows = header.log == log && header.position == expected && chained;
            if !follows || header.term < self.term || header.end() > scan.end() {
                return Ok(SegmentEnd::Stopped(BlockError::NoBlock));
            }
            let block = scan.bytes(expected, header.stored_bytes()).await?;
            if let Err(problem) = header.check_entries(block)
                && !mutant::is(Mutant::SkipBlockCrc)
            {
                return Ok(SegmentEnd::Stopped(problem));
            }
            self.apply_block(&header, block, replay).map_err(|what| RecoveryError::Content {
                log,
                position: expected,
                what,
            })?;
        }
        // A segment of the next base follows, if there is one; no chunk reaches across.
        self.open_chunk = None;
        Ok(SegmentEnd::Full)
    }

    fn apply_block<R: Replay>(
        &mut self,
        header: &BlockHeader,
        block: &[u8],
        replay: &mut R,
    ) -> Result<(), String> {
        self.end = header.end();
        self.chain = header.chain();
        self.term = header.term;
        self.durable = self.durable.max(header.local.durable);
        self.window_bytes = header.local.window_bytes;
        if header.flags & FLAG_SEGMENT_END != 0 {
            return Ok(());
        }
        let chunk = self.chunk_for(header);
        let append_seconds = (header.append_time.0 / 1000).clamp(0, i64::from(u32::MAX)) as u32;
        for entry in header.entries(block) {
            let (at, entry, payload) = entry.map_err(|problem| problem.to_string())?;
            let position = header.position.plus((BLOCK_HEADER_BYTES + at) as u64);
            let known = self.queues.get(entry.slot).map_or(Offset::ZERO, |queue| queue.end_offset());
            if entry.kind.is_data() && entry.base_offset < known {
                return Err(format!("slot {} goes back from {known} to {}", entry.slot, entry.base_offset));
            }
            let place = (position, chunk, append_seconds);
            // The layer above first: it knows which slots there are.
            replay.apply(&entry, header.append_time, payload)?;
            apply_entry(&mut self.queues, &mut self.chunks, &entry, place, false);
        }
        Ok(())
    }

    /// Blocks are gathered into chunks again as they once were: whole, within a segment.
    fn chunk_for(&mut self, header: &BlockHeader) -> ChunkId {
        let id = match self.open_chunk {
            Some((id, base)) if header.end().since(base) <= self.chunk_bytes => id,
            _ => {
                let id = self.chunks.append_on_disk(header.position);
                self.open_chunk = Some((id, header.position));
                id
            }
        };
        self.chunks.extend(id, header.end());
        id
    }

    /// Open the next term at the log's end, durably.
    pub async fn open_term<D: Disk, R: Replay>(
        &mut self,
        disk: &D,
        segments: &Segments,
        (log, term): (LogId, Term),
        now: WallMs,
        config: &LogConfig,
        replay: &mut R,
    ) -> Result<(), RecoveryError> {
        let payload = term.0.to_le_bytes();
        let entry = EntryHeader {
            kind: EntryKind::TermOpen,
            slot: Slot(0),
            base_offset: Offset::ZERO,
            count: 0,
            max_timestamp: now.0,
            payload_bytes: payload.len() as u32,
            payload_crc: EntryKind::TermOpen.payload_crc(&payload),
        };
        let encoded = entry.encode();
        let header = BlockHeader {
            log,
            term,
            position: self.end,
            flags: 0,
            block_bytes: PAGE_BYTES as u32,
            entries_bytes: entry.stored_bytes() as u32,
            entry_count: 1,
            entries_crc: crc32c(&encoded),
            append_time: now,
            prev_chain: self.chain,
            local: LocalPart { durable: self.end, window_bytes: config.window_bytes() },
        };
        let mut page = PageBuf::zeroed(PAGE_BYTES);
        page[..BLOCK_HEADER_BYTES].copy_from_slice(&header.encode());
        page[BLOCK_HEADER_BYTES..][..ENTRY_HEADER_BYTES].copy_from_slice(&encoded);
        page[BLOCK_HEADER_BYTES + ENTRY_HEADER_BYTES..][..payload.len()].copy_from_slice(&payload);

        let segment = segments.active();
        disk.write_at(&segment.file, self.end.since(segment.base()), &page).await?;
        if !mutant::is(Mutant::OpenTermUnsynced) {
            disk.sync(&segment.file).await?;
        }
        self.apply_block(&header, &page, replay).map_err(|what| RecoveryError::Content {
            log,
            position: header.position,
            what,
        })
    }
}
