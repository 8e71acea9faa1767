//! Opening a log: find its end, tell a torn tail from corruption, rebuild what was not checkpointed.
//!
//! ```text
//!  checkpoint            durable as far as anybody knew     E             E + window
//!  |--- valid blocks ------------|--- valid blocks ---------|--- torn? ---|--- never written ---
//! ```
//!
//! Blocks are valid while position, term, chain and all checksums fit. `scan` reads them, `rebuild` applies
//! them, and `tail` judges the first that is not valid (E):
//!
//! - E lies before what is known to have been durable, or a block of this log begins a window or more beyond E,
//!   where none is begun before E is durable: bytes that were acknowledged are rotten. Refuse.
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
use crate::model::{LogId, Position, Term, WallMs};

use super::block::BlockHeader;
use super::checkpoint::{self, Checkpoint, CheckpointError};
use super::entry::EntryHeader;
use super::manifest::{Manifest, ManifestError, SegmentRecord};
use super::segment::{self, Segment, Segments, segment_path};
use super::{LogConfig, Opened};
use rebuild::{Rebuild, SegmentEnd};
use scan::Scan;
use tail::{Tail, Verdict, judge};

pub(super) mod rebuild;
pub(super) mod scan;
pub(super) mod tail;

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
    let clean = manifest.closed_at(state.end);
    let mut torn = false;
    if let Some(problem) = stopped {
        let tail = Tail {
            log,
            end: state.end,
            term: state.term,
            durable: state.durable.max(manifest.durable).max(checkpoint),
            window_bytes: state.window_bytes.max(manifest.window_bytes).max(config.window_bytes()),
            closed_in: clean.then_some(manifest.term),
        };
        let told = &mut |at| progress(at, limit);
        torn = match judge(disk, segments.iter(), &tail, problem, told).await? {
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
    let last = state.term.max(manifest.term);
    if last >= Term::MAX {
        return Err(RecoveryError::LastTerm { log, term: last });
    }
    let term = Term(last.0 + 1);
    // Durable before the term's first block. After a repair less is durable than the manifest says.
    manifest.sequence += 1;
    manifest.clean = false;
    manifest.durable = state.end;
    // Until the first block of this life says so itself; if there is none, the last one's writes are judged again.
    manifest.window_bytes = manifest.window_bytes.max(config.window_bytes());
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
