//! Opening a log: find its end, tell a torn tail from corruption, rebuild what was not checkpointed.
//!
//! ```text
//!  checkpoint            durable as far as anybody knew     E             E + window
//!  |--- valid blocks ------------|--- valid blocks ---------|--- torn? ---|--- never written ---
//! ```
//!
//! Blocks are valid while position, term, chain and all checksums fit. At the first that is not (E):
//!
//! - E lies before what is known to have been durable, or a block of this log lies further beyond E
//!   than writes can have been in flight: bytes that were acknowledged are rotten. Refuse.
//! - otherwise the machine stopped while those blocks were being written, and nobody was told that
//!   they are safe: the log ends at E.
//!
//! The last step, a block that opens the next term at E, is the first that changes the log; before
//! it is durable, recovery can be interrupted and repeated.
//!
//! A term must never be given twice: consumers know it as the leader epoch in which they have read,
//! and by it blocks that were cut off are told from those written in their place. The largest term
//! so far is the largest of
//!
//! - the blocks behind the checkpoint, and the checkpoint's own, which is that of the last block below;
//! - the manifest's, which is durable before the term's first block.
//!
//! One of them would do, if files did not rot and logs were not repaired. The older checkpoint has an
//! older term, but then the blocks are read from there on; the older manifest may be one of the term
//! before, and then the checkpoint and the blocks know better. A repair cuts off blocks of terms that
//! nobody but the manifest remembers. Checkpoints of format version 1 have no term: behind one that
//! covers all blocks of the last term, all hangs on the manifest, in which the programs of that time
//! wrote it only when a segment was made or freed, or the log was idle.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use crate::base::align::PAGE_BYTES;
use crate::base::mutant::{self, Mutant};
use crate::io::buffer::PageBuf;
use crate::io::file::{Disk, FileHandle};
use crate::model::{LogId, Offset, Position, Slot, Term, WallMs};

use super::block::{BLOCK_HEADER_BYTES, BlockError, BlockHeader, FLAG_SEGMENT_END, LocalPart};
use super::checkpoint::{self, Checkpoint, CheckpointError, Head};
use super::chunks::{ChunkId, Chunks};
use super::consume_queue::ConsumeQueues;
use super::entry::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind};
use super::manifest::{Manifest, ManifestError, SegmentRecord};
use super::segment::{self, Segment, Segments, segment_path};
use super::{LogConfig, Opened, apply_entry};

/// Blocks are looked for at most this far beyond the window: what lies there was written before.
const EVIDENCE_BYTES: u64 = 64 << 20;

/// The layer above, as its state is rebuilt.
pub trait Replay {
    /// What it wrote into the checkpoint. `Err` says what is wrong with it.
    fn restore(&mut self, state: &[u8]) -> Result<(), String>;
    /// A durable entry, in log order, and when its block was written. `Err` says what is wrong with it.
    fn apply(&mut self, header: &EntryHeader, appended: WallMs, payload: &[u8]) -> Result<(), String>;
}

#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("{dir}: {error}", dir = dir.display())]
    Manifest { dir: std::path::PathBuf, error: ManifestError },
    #[error(
        "{dir} belongs to another broker or log (found log {found}): put the folder back where it came from",
        dir = dir.display()
    )]
    Foreign { dir: std::path::PathBuf, found: LogId },
    #[error(
        "log {log} is corrupt from position {start} on, within what was durable (up to {durable}): {what}. \
         Acknowledged records are there. Restore the disk, or start once with --repair to cut the log off \
         at {start} and lose what follows"
    )]
    Corrupt { log: LogId, start: Position, durable: Position, what: String },
    #[error(
        "log {log}: no readable checkpoint reaches back to where the log starts now ({start}). Restore the \
         checkpoint files, or the folder, from a backup"
    )]
    NoCheckpoint { log: LogId, start: Position },
    #[error(
        "log {log}: the checkpoint is of position {position}, but the log's files hold {start} to {limit}: a newer \
         checkpoint, or files, are missing or damaged. Restore the folder from a backup"
    )]
    CheckpointOutside { log: LogId, position: Position, start: Position, limit: Position },
    #[error("log {log}: {error}")]
    Checkpoint { log: LogId, error: CheckpointError },
    #[error("log {log} was opened as often as a log can be: term {term} is the last")]
    LastTerm { log: LogId, term: Term },
    #[error("log {log}, position {position}: {what}")]
    Content { log: LogId, position: Position, what: String },
    #[error("{path}: {error}. Put it back where it was, or restore the folder from a backup", path = path.display())]
    File { path: std::path::PathBuf, error: io::Error },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What was found, for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub log: LogId,
    pub checkpoint: Position,
    pub end: Position,
    /// Bytes of un-acknowledged blocks that were cut off.
    pub torn: bool,
    /// The log was closed in order.
    pub clean: bool,
    pub term: Term,
}

/// Make the folder of a new log, with segments of these sizes.
pub async fn format<D: Disk>(
    disk: &D,
    dir: &Path,
    (broker, log): ([u8; 16], LogId),
    segment_bytes: &[u64],
) -> io::Result<()> {
    disk.create_dir(dir).await?;
    let mut segments = Vec::new();
    let mut base = Position::ZERO;
    for (index, &bytes) in segment_bytes.iter().enumerate() {
        let number = index as u32 + 1;
        segment::create(disk, &segment_path(dir, number), bytes).await?;
        segments.push(SegmentRecord { number, base, bytes, recycled: false });
        base = base.plus(bytes);
    }
    let manifest = Manifest {
        sequence: 1,
        broker,
        log,
        term: Term(0),
        clean: false,
        durable: Position::ZERO,
        window_bytes: 0,
        next_number: segments.len() as u32 + 1,
        segments,
    };
    manifest.write(disk, dir).await?;
    disk.sync_dir(dir).await?;
    match dir.parent() {
        Some(parent) => disk.sync_dir(parent).await,
        None => Ok(()),
    }
}

/// How to open a log.
pub struct Options<'a> {
    pub config: &'a LogConfig,
    pub broker: [u8; 16],
    pub log: LogId,
    pub now: WallMs,
    /// Cut a corrupt log off instead of refusing it.
    pub repair: bool,
    /// Told now and then how far the scan has come: position, and where it may end.
    pub progress: &'a mut dyn FnMut(Position, Position),
}

/// Open a log: see the module. Afterwards it accepts appends in a new term.
pub async fn open<D: Disk, R: Replay>(
    disk: &D,
    dir: &Path,
    options: Options<'_>,
    replay: &mut R,
) -> Result<(Opened, Report), RecoveryError> {
    let Options { config, broker, log, now, repair, progress } = options;
    let manifest_error = |error| RecoveryError::Manifest { dir: dir.to_owned(), error };
    // The last process may have been killed between making a file and syncing its name.
    disk.sync_dir(dir).await.map_err(|error| RecoveryError::File { path: dir.to_owned(), error })?;
    let mut manifest = Manifest::read(disk, dir).await.map_err(manifest_error)?;
    if manifest.broker != broker || manifest.log != log {
        return Err(RecoveryError::Foreign { dir: dir.to_owned(), found: manifest.log });
    }
    // What was read may be in a cache only, because a sync failed or never came, and a later sync may
    // not store it: here and below, what recovery builds on is written once more.
    manifest.write(disk, dir).await?;
    let mut segments = open_segments(disk, dir, &manifest).await?;
    let start = segments[0].base();

    let checkpoint = read_checkpoint(disk, dir, log).await?;
    if let Some(checkpoint) = &checkpoint {
        checkpoint::write_back(disk, dir, checkpoint.head.generation).await?;
    }
    let limit = segments[segments.len() - 1].end();
    let mut state = Rebuild::begin(config, log, checkpoint, (start, limit), replay)?;
    let checkpoint = state.end;

    // Whatever the last process had written may still be in the device's cache: make it durable
    // before anything is concluded from it.
    for segment in segments.iter().filter(|segment| segment.end() > checkpoint) {
        disk.sync(&segment.file).await?;
    }

    let stopped = loop {
        let Some(segment) = segments.iter().find(|segment| segment.contains(state.end)) else {
            break None;
        };
        let mut scan = Scan::new(disk, &segment.file, segment.base(), segment.end());
        match state.scan_segment(&mut scan, log, replay, &mut |at| progress(at, limit)).await? {
            SegmentEnd::Full => continue,
            SegmentEnd::Stopped(problem) => break Some(problem),
        }
    };
    let mut torn = false;
    if let Some(problem) = stopped {
        let tail = Tail {
            log,
            end: state.end,
            term: state.term,
            durable: state.durable.max(manifest.durable).max(checkpoint),
            window_bytes: state.window_bytes.max(manifest.window_bytes).max(config.window_bytes()),
        };
        torn = match judge(disk, segments.iter(), &tail, problem).await? {
            Verdict::Corrupt { durable, .. } if !repair => {
                return Err(RecoveryError::Corrupt {
                    log,
                    start: tail.end,
                    durable,
                    what: problem.to_string(),
                });
            }
            Verdict::Corrupt { .. } => true,
            Verdict::End { torn } => torn,
        };
    } else if !segments.iter().any(|segment| segment.contains(state.end)) {
        // Full to the last byte: the machine stopped before the next segment was ready.
        let last = &segments[segments.len() - 1];
        assert_eq!(last.end(), state.end);
        let record = SegmentRecord {
            number: manifest.next_number,
            base: last.end(),
            bytes: last.record.bytes,
            recycled: false,
        };
        let file = segment::create(disk, &segment_path(dir, record.number), record.bytes).await?;
        manifest.sequence += 1;
        manifest.next_number += 1;
        manifest.segments.push(record);
        manifest.write(disk, dir).await?;
        segments.push_back(Segment { record, file });
    }

    write_back(disk, &segments, state.durable.max(manifest.durable).max(checkpoint), state.end).await?;
    let clean = manifest.clean && manifest.durable == state.end;
    let last = state.term.max(manifest.term);
    if last >= Term::MAX {
        return Err(RecoveryError::LastTerm { log, term: last });
    }
    let term = Term(last.0 + 1);
    // Durable before the term's first block. After a repair less is durable than the manifest says.
    manifest.sequence += 1;
    manifest.clean = false;
    manifest.durable = state.end;
    if !mutant::is(Mutant::ForgetManifestTerm) {
        manifest.term = term;
    }
    manifest.write(disk, dir).await?;
    let segments = Segments::new(segments, state.end);
    state.open_term(disk, &segments, (log, term), now, config, replay).await?;
    let report = Report { log, checkpoint, end: state.end, torn, clean, term };
    let opened = Opened {
        id: log,
        term,
        dir: dir.to_owned(),
        manifest,
        segments,
        end: state.end,
        chain: state.chain,
        chunks: state.chunks,
        queues: state.queues,
        checkpoint,
        checkpoint_generation: state.generation,
    };
    Ok((opened, report))
}

/// The checkpoint to begin at, if there is one.
pub(super) async fn read_checkpoint<D: Disk>(
    disk: &D,
    dir: &Path,
    log: LogId,
) -> Result<Option<Checkpoint>, RecoveryError> {
    checkpoint::read(disk, dir, log).await.map_err(|error| match error {
        CheckpointError::Io(error) => RecoveryError::Io(error),
        error => RecoveryError::Checkpoint { log, error },
    })
}

/// Open all segments that the manifest lists, and remove files that it does not.
async fn open_segments<D: Disk>(
    disk: &D,
    dir: &Path,
    manifest: &Manifest,
) -> Result<VecDeque<Segment>, RecoveryError> {
    let mut segments = VecDeque::new();
    for &record in &manifest.segments {
        let path = segment_path(dir, record.number);
        let opened = disk.open(&path).await;
        let file = opened.map_err(|error| RecoveryError::File { path: path.clone(), error })?;
        // The last process's writes may still be on their way when it has been killed: its files stay
        // locked until they have ended.
        file.lock()?;
        let size = disk.size(&file).await?;
        if size != record.bytes {
            let what = format!(
                "{} has {size} bytes instead of {}: restore the folder from a backup",
                path.display(),
                record.bytes
            );
            return Err(RecoveryError::Content { log: manifest.log, position: record.base, what });
        }
        let next = record.base.plus(PAGE_BYTES as u64);
        check_first_block(disk, &file, manifest.log, next, &path).await?;
        segments.push_back(Segment { record, file });
    }
    let end = manifest.segments.last().map_or(Position::ZERO, |last| last.base.plus(last.bytes));
    for name in disk.list(dir).await? {
        let number = name.strip_suffix(".segment").and_then(|number| number.parse::<u32>().ok());
        if number.is_some_and(|number| manifest.segments.iter().all(|record| record.number != number)) {
            let path = dir.join(&name);
            let file = disk.open(&path).await?;
            if disk.size(&file).await? > 0 {
                check_first_block(disk, &file, manifest.log, end, &path).await?;
            }
            disk.remove(&path).await?;
        }
    }
    Ok(segments)
}

/// A segment is written under a base only after the manifest that says so is durable. A first block at
/// `limit` or beyond means that the newer copy of the manifest is lost, and with this one the log
/// would lose what lies there.
async fn check_first_block<D: Disk>(
    disk: &D,
    file: &FileHandle,
    log: LogId,
    limit: Position,
    path: &Path,
) -> Result<(), RecoveryError> {
    let mut page = PageBuf::zeroed(PAGE_BYTES);
    disk.read_at(file, 0, &mut page).await?;
    match BlockHeader::decode(&page) {
        Ok(header) if header.log == log && header.position >= limit => {
            let what = format!(
                "{} holds blocks from position {} on, of which the manifest does not know: its newer copy is \
                 damaged. Restore it, or the folder, from a backup",
                path.display(),
                header.position
            );
            Err(RecoveryError::Content { log, position: limit, what })
        }
        _ => Ok(()),
    }
}

/// Write the blocks once more that nobody knows to be durable. Their bytes stay the same, so that a
/// power loss meanwhile does no harm.
async fn write_back<D: Disk>(
    disk: &D,
    segments: &VecDeque<Segment>,
    durable: Position,
    end: Position,
) -> io::Result<()> {
    for segment in segments {
        let (from, to) = (segment.base().max(durable), segment.end().min(end));
        if from < to && !mutant::is(Mutant::SkipWriteBack) {
            let mut buf = PageBuf::zeroed(to.since(from) as usize);
            let offset = from.since(segment.base());
            disk.read_at(&segment.file, offset, &mut buf).await?;
            disk.write_at(&segment.file, offset, &buf).await?;
            disk.sync(&segment.file).await?;
        }
    }
    Ok(())
}

/// Reads blocks of one segment in order, in pieces.
pub(super) struct Scan<'a, D> {
    disk: &'a D,
    file: &'a FileHandle,
    base: Position,
    end: Position,
    buf: PageBuf,
    /// What `buf` holds.
    from: Position,
    len: usize,
}

impl<'a, D: Disk> Scan<'a, D> {
    const PIECE_BYTES: usize = 1 << 20;

    pub fn new(disk: &'a D, file: &'a FileHandle, base: Position, end: Position) -> Scan<'a, D> {
        Scan { disk, file, base, end, buf: PageBuf::zeroed(PAGE_BYTES), from: base, len: 0 }
    }

    pub fn contains(&self, position: Position) -> bool {
        (self.base..self.end).contains(&position)
    }

    pub fn end(&self) -> Position {
        self.end
    }

    /// At least `len` bytes at `position`, unless the segment ends before.
    pub async fn bytes(&mut self, position: Position, len: usize) -> io::Result<&[u8]> {
        let len = len.min(self.end.since(position) as usize);
        let held = position >= self.from && position.plus(len as u64) <= self.from.plus(self.len as u64);
        if !held {
            let want = len.max(Self::PIECE_BYTES).min(self.end.since(position) as usize);
            if self.buf.len() != want {
                self.buf = PageBuf::zeroed(want);
            }
            self.len = self.disk.read_at(self.file, position.since(self.base), &mut self.buf).await?;
            self.from = position;
            if self.len < len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let at = position.since(self.from) as usize;
        Ok(&self.buf[at..self.len])
    }
}

pub(super) enum SegmentEnd {
    /// The next block is the first of the next segment.
    Full,
    Stopped(BlockError),
}

/// The log's state while it is rebuilt.
pub(super) struct Rebuild {
    pub end: Position,
    chain: u32,
    term: Term,
    /// The largest durable position that a block knew of.
    durable: Position,
    window_bytes: u64,
    pub chunks: Chunks,
    open_chunk: Option<(ChunkId, Position)>,
    pub queues: ConsumeQueues,
    generation: u64,
    chunk_bytes: u64,
}

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
        const PROGRESS_BYTES: u64 = 64 << 20;
        let mut told = self.end;
        while self.end < scan.end {
            let expected = self.end;
            if expected.since(told) >= PROGRESS_BYTES {
                told = expected;
                progress(expected);
            }
            let header = match BlockHeader::decode(scan.bytes(expected, PAGE_BYTES).await?) {
                Ok(header) => header,
                Err(problem) => return Ok(SegmentEnd::Stopped(problem)),
            };
            let chained = header.prev_chain == self.chain || mutant::is(Mutant::SkipChainCheck);
            let follows = header.log == log && header.position == expected && chained;
            if !follows || header.term < self.term || header.end() > scan.end {
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
    async fn open_term<D: Disk, R: Replay>(
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
            entries_crc: crate::base::crc::crc32c(&encoded),
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

/// Where the valid blocks end, and what is known of the time before.
pub(super) struct Tail {
    pub log: LogId,
    pub end: Position,
    /// Of the last valid block.
    pub term: Term,
    /// Everything before this was on stable storage once.
    pub durable: Position,
    /// How far beyond the durable position writes may have been in flight.
    pub window_bytes: u64,
}

/// What the first invalid block means.
pub(super) enum Verdict {
    /// The log ends there; `torn` if something was cut off that nobody was told is safe.
    End { torn: bool },
    /// Acknowledged bytes are rotten: something up to `durable`, or blocks up to `last` that were
    /// written later than what is in flight at one time.
    Corrupt { durable: Position, last: Position },
}

/// Tell a torn tail from corruption: see the module. Shared with `inspect`, which must say the same.
pub(super) async fn judge<'a, D: Disk>(
    disk: &D,
    segments: impl Iterator<Item = &'a Segment>,
    tail: &Tail,
    problem: BlockError,
) -> io::Result<Verdict> {
    let evidence = look_beyond(disk, segments, tail).await?;
    let durable = tail.durable.max(evidence.durable);
    let window_bytes = if mutant::is(Mutant::RefuseTornTail) { 0 } else { tail.window_bytes };
    let written_since = evidence.last_block.is_some_and(|last| last.since(tail.end) >= window_bytes);
    if (tail.end < durable || written_since) && !mutant::is(Mutant::TruncateRot) {
        return Ok(Verdict::Corrupt { durable, last: evidence.last_block.unwrap_or(tail.end) });
    }
    Ok(Verdict::End { torn: evidence.last_block.is_some() || problem != BlockError::NoBlock })
}

/// What the bytes after the log's end say about the time before.
struct Evidence {
    durable: Position,
    /// Where the last block of the current term begins.
    last_block: Option<Position>,
}

/// Look for blocks of this log behind the first invalid one.
async fn look_beyond<'a, D: Disk>(
    disk: &D,
    segments: impl Iterator<Item = &'a Segment>,
    tail: &Tail,
) -> io::Result<Evidence> {
    let mut evidence = Evidence { durable: Position::ZERO, last_block: None };
    // The window is what a block or a manifest says.
    let limit = Position(tail.end.0.saturating_add(tail.window_bytes).saturating_add(EVIDENCE_BYTES));
    for segment in segments.filter(|segment| segment.end() > tail.end && segment.base() < limit) {
        let mut scan = Scan::new(disk, &segment.file, segment.base(), segment.end());
        let mut at = segment.base().max(tail.end);
        let end = segment.end().min(limit);
        while at < end {
            if let Ok(header) = BlockHeader::decode(scan.bytes(at, PAGE_BYTES).await?)
                && header.log == tail.log
                && (header.position == at || mutant::is(Mutant::SkipPositionCheck))
                && header.term >= tail.term
            {
                evidence.durable = evidence.durable.max(header.local.durable);
                evidence.last_block = Some(at);
            }
            at = at.plus(PAGE_BYTES as u64);
        }
    }
    Ok(evidence)
}
