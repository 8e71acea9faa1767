//! Looking at a log that nobody has opened: its blocks in order, their checksums, what holds its space.
//!
//! Changes nothing: no file is made, repaired, truncated or locked. Decodes with the same code as
//! recovery and asks the same judge whether the end is torn or corrupt, but begins at the oldest
//! segment instead of at the checkpoint, and goes on behind damage to say how far it reaches.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::base::align::PAGE_BYTES;
use crate::codec::record_batch::RecordBatch;
use crate::io::file::Disk;
use crate::model::{CommitMode, LogId, Offset, Position, Slot, Term};

use super::LogConfig;
use super::block::{BLOCK_HEADER_BYTES, BlockError, BlockHeader, FLAG_SEGMENT_END};
use super::checkpoint::{self, Checkpoint, CheckpointError, checkpoint_path};
use super::entry::{EntryHeader, EntryKind};
use super::manifest::{CopyError, Manifest, ManifestError, manifest_path};
use super::recovery::rebuild::{Rebuild, SegmentEnd};
use super::recovery::scan::Scan;
use super::recovery::tail::{Tail, Verdict, judge};
use super::recovery::{RecoveryError, Replay, read_checkpoint};
use super::segment::{Segment, segment_path};

/// Told now and then how far a scan has come: position, and where it ends at the latest.
pub type Progress<'a> = &'a mut dyn FnMut(Position, Position);

/// Progress is told after this many bytes: a fraction of a second of reading.
const PROGRESS_BYTES: u64 = 16 << 20;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The damaged positions, when it is about bytes of the log itself.
    pub range: Option<(Position, Position)>,
    pub what: String,
}

impl Problem {
    fn new(what: impl Into<String>) -> Problem {
        Problem { range: None, what: what.into() }
    }

    fn at(from: Position, to: Position, what: impl Into<String>) -> Problem {
        Problem { range: Some((from, to)), what: what.into() }
    }
}

/// The files of a log, found and opened for reading.
pub struct LogFiles {
    pub id: LogId,
    pub dir: PathBuf,
    /// Both copies, by their number.
    pub manifests: [Result<Manifest, CopyError>; 2],
    /// The copy that counts.
    pub manifest: Manifest,
    /// The checkpoint that counts.
    pub checkpoint: Option<Checkpoint>,
    /// By base; those of the manifest whose file is there.
    pub segments: Vec<Segment>,
    /// What is wrong with the files as such.
    pub problems: Vec<Problem>,
    /// What recovery copes with by itself.
    pub notes: Vec<String>,
}

impl LogFiles {
    /// Find what belongs to a log.
    ///
    /// # Errors
    /// As recovery: no manifest that counts, or that of another broker or log. A segment or checkpoint
    /// that cannot be used is a [`Problem`] instead.
    pub async fn open<D: Disk>(
        disk: &D,
        dir: &Path,
        broker: [u8; 16],
        id: LogId,
    ) -> Result<LogFiles, RecoveryError> {
        let manifest_error = |error: ManifestError| RecoveryError::Manifest { dir: dir.to_owned(), error };
        let manifest = Manifest::read(disk, dir).await.map_err(manifest_error)?;
        if manifest.broker != broker || manifest.log != id {
            return Err(RecoveryError::Foreign { dir: dir.to_owned(), found: manifest.log });
        }
        let manifests = [Manifest::read_copy(disk, dir, 0).await?, Manifest::read_copy(disk, dir, 1).await?];
        let mut files = LogFiles {
            id,
            dir: dir.to_owned(),
            manifests,
            manifest,
            checkpoint: None,
            segments: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
        };
        for (copy, manifest) in (0..).zip(&files.manifests) {
            if let Err(error) = manifest {
                files
                    .notes
                    .push(format!("{}: {error}; the other copy counts", name(&manifest_path(dir, copy))));
            }
        }
        files.open_segments(disk).await?;
        files.open_checkpoint(disk).await?;
        Ok(files)
    }

    async fn open_segments<D: Disk>(&mut self, disk: &D) -> io::Result<()> {
        for &record in &self.manifest.segments {
            let path = segment_path(&self.dir, record.number);
            let end = record.base.plus(record.bytes);
            let file = match disk.open(&path).await {
                Ok(file) => file,
                Err(error) => {
                    self.problems.push(Problem::at(record.base, end, format!("{}: {error}", name(&path))));
                    continue;
                }
            };
            let size = disk.size(&file).await?;
            if size == record.bytes {
                self.segments.push(Segment { record, file });
            } else {
                let what = format!("{} has {size} bytes instead of {}", name(&path), record.bytes);
                self.problems.push(Problem::at(record.base, end, what));
            }
        }
        for name in disk.list(&self.dir).await? {
            let number = name.strip_suffix(".segment").and_then(|number| number.parse::<u32>().ok());
            if number
                .is_some_and(|number| self.manifest.segments.iter().all(|record| record.number != number))
            {
                self.notes.push(format!("{name} is in no manifest; the next start removes it"));
            }
        }
        Ok(())
    }

    async fn open_checkpoint<D: Disk>(&mut self, disk: &D) -> io::Result<()> {
        for copy in 0..2 {
            let path = checkpoint_path(&self.dir, copy);
            match checkpoint::read_copy(disk, &self.dir, self.id, copy).await {
                Ok(Some(checkpoint)) => {
                    let best = self.checkpoint.as_ref();
                    if best.is_none_or(|best| best.head.generation < checkpoint.head.generation) {
                        self.checkpoint = Some(checkpoint);
                    }
                }
                Ok(None) => {}
                Err(CheckpointError::Io(error)) => return Err(error),
                Err(error @ CheckpointError::Broken) => {
                    self.notes.push(format!("{}: {error}", name(&path)));
                }
                Err(error @ CheckpointError::Version(_)) => {
                    self.problems.push(Problem::new(format!("{}: {error}", name(&path))));
                }
            }
        }
        let start = self.start();
        match &self.checkpoint {
            None if start > Position::ZERO => self.problems.push(Problem::new(format!(
                "no readable checkpoint, and the log no longer has its beginning (it starts at {start})"
            ))),
            Some(checkpoint) if checkpoint.head.position < start => {
                self.problems.push(Problem::new(format!(
                    "the checkpoint is of position {}, but the log starts at {start}",
                    checkpoint.head.position
                )))
            }
            Some(checkpoint) if checkpoint.head.position > self.limit() => {
                self.problems.push(Problem::new(format!(
                    "the checkpoint is of position {}, but the log's files end at {}",
                    checkpoint.head.position,
                    self.limit()
                )))
            }
            _ => {}
        }
        Ok(())
    }

    /// The oldest position that the log has.
    pub fn start(&self) -> Position {
        self.manifest.segments.first().map_or(Position::ZERO, |record| record.base)
    }

    /// Where the last segment ends.
    pub fn limit(&self) -> Position {
        self.manifest.segments.last().map_or(Position::ZERO, |record| record.base.plus(record.bytes))
    }

    /// What is known to have been durable without reading a block.
    pub fn durable(&self) -> Position {
        self.manifest.durable.max(self.checkpoint_position())
    }

    pub fn checkpoint_position(&self) -> Position {
        self.checkpoint.as_ref().map_or(Position::ZERO, |checkpoint| checkpoint.head.position)
    }

    /// Blocks from the beginning of the segment that holds `from` on.
    pub fn walk<'a, D: Disk>(&'a self, disk: &'a D, from: Position) -> Walk<'a, D> {
        let segment = self.segments.iter().rev().find(|segment| segment.base() <= from);
        Walk::new(disk, self, segment.map_or(self.start(), Segment::base), None)
    }

    /// Where the log ends: the first position without a valid block, from the checkpoint on.
    pub async fn find_end<D: Disk>(&self, disk: &D) -> io::Result<Position> {
        let mut walk = match &self.checkpoint {
            Some(Checkpoint { head, .. }) => {
                Walk::new(disk, self, head.position, Some((head.chain, head.term)))
            }
            None => Walk::new(disk, self, self.start(), None),
        };
        while let Step::Block(..) = walk.next().await? {}
        Ok(walk.at)
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

// --- Blocks. ---

/// What a [`Walk`] meets next.
pub enum Step<'a> {
    /// A valid block, its payloads too, that follows the one before.
    Block(BlockHeader, &'a [u8]),
    /// No valid block: the log's end, or damage.
    Stopped(BlockError),
    /// The file of these positions cannot be read.
    Missing,
    /// All segments are full to the last byte.
    End,
}

/// Goes through the blocks of a log in order.
pub struct Walk<'a, D> {
    disk: &'a D,
    log: LogId,
    segments: &'a [Segment],
    limit: Position,
    scan: Option<Scan<'a, D>>,
    /// Where the next block is expected.
    pub at: Position,
    /// The chain checksum of the block before, if that is known.
    chain: Option<u32>,
    term: Term,
}

impl<'a, D: Disk> Walk<'a, D> {
    /// `before`: chain checksum and term of the block that ends at `at`, if they are known.
    fn new(disk: &'a D, files: &'a LogFiles, at: Position, before: Option<(u32, Term)>) -> Walk<'a, D> {
        let (chain, term) = before.map_or((None, Term(0)), |(chain, term)| (Some(chain), term));
        // The first block of a log follows nothing, which is a chain checksum of 0.
        let chain = if at == Position::ZERO { Some(0) } else { chain };
        let (log, segments, limit) = (files.id, &files.segments[..], files.limit());
        Walk { disk, log, segments, limit, scan: None, at, chain, term }
    }

    /// Read in the segment that holds `self.at`. Returns whether there is one.
    fn enter_segment(&mut self) -> bool {
        if self.scan.as_ref().is_some_and(|scan| scan.contains(self.at)) {
            return true;
        }
        let segment = self.segments.iter().find(|segment| segment.contains(self.at));
        self.scan = segment.map(|segment| Scan::new(self.disk, &segment.file, segment.base(), segment.end()));
        self.scan.is_some()
    }

    /// The next block. Does not move unless it is valid.
    pub async fn next(&mut self) -> io::Result<Step<'_>> {
        if self.at >= self.limit {
            return Ok(Step::End);
        }
        if !self.enter_segment() {
            return Ok(Step::Missing);
        }
        let (at, chain, term) = (self.at, self.chain, self.term);
        let header = match self.check(at).await? {
            Ok(header) => header,
            Err(problem) => return Ok(Step::Stopped(problem)),
        };
        if chain.is_some_and(|chain| chain != header.prev_chain) || header.term < term {
            return Ok(Step::Stopped(BlockError::NoBlock));
        }
        (self.at, self.chain, self.term) = (header.end(), Some(header.chain()), header.term);
        let scan = self.scan.as_mut().expect("entered above");
        Ok(Step::Block(header, scan.bytes(at, header.stored_bytes()).await?))
    }

    /// Check the block at `at`, all of it but what ties it to the one before.
    async fn check(&mut self, at: Position) -> io::Result<Result<BlockHeader, BlockError>> {
        let scan = self.scan.as_mut().expect("the caller has entered the segment");
        let header = match BlockHeader::decode(scan.bytes(at, PAGE_BYTES).await?) {
            Ok(header) => header,
            Err(problem) => return Ok(Err(problem)),
        };
        if (header.log, header.position) != (self.log, at) || header.end() > scan.end() {
            return Ok(Err(BlockError::NoBlock));
        }
        let block = scan.bytes(at, header.stored_bytes()).await?;
        Ok(header.check_entries(block).map(|()| header))
    }

    /// Go on behind damage: to the first valid block beyond `self.at` and before `limit`. Returns
    /// whether there is one; the chain cannot be followed across.
    pub async fn skip_damage(&mut self, limit: Position) -> io::Result<bool> {
        let came_from = self.at;
        self.chain = None;
        while self.at < limit.min(self.limit) {
            if !self.enter_segment() {
                let next = self.segments.iter().find(|segment| segment.base() > self.at);
                self.at = next.map_or(self.limit, Segment::base);
                continue;
            }
            if self.at > came_from
                && let Ok(header) = self.check(self.at).await?
                && header.term >= self.term
            {
                return Ok(true);
            }
            self.at = self.at.plus(PAGE_BYTES as u64);
        }
        self.at = self.at.min(limit).max(came_from);
        Ok(false)
    }
}

// --- Verification. ---

/// What a verification found.
#[derive(Debug, Default)]
pub struct Verified {
    pub start: Position,
    pub end: Position,
    pub term: Term,
    /// Blocks behind the end, or a half of one, that nobody was told are safe: the next start cuts
    /// them off, which is no loss.
    pub torn: bool,
    /// The log was closed in order.
    pub clean: bool,
    pub blocks: u64,
    pub bytes: u64,
    /// Entries by kind.
    pub entries: BTreeMap<&'static str, u64>,
    pub records: u64,
    pub problems: Vec<Problem>,
}

impl LogFiles {
    /// Check every checksum from the log's start to its end, the chain of blocks, that offsets are
    /// dense, and that the layer above understands the checkpoint and what follows it. Notes and
    /// problems of the files themselves are included.
    pub async fn verify<D: Disk, R: Replay>(
        &self,
        disk: &D,
        replay: &mut R,
        progress: Progress<'_>,
    ) -> io::Result<Verified> {
        let mut found =
            Verified { start: self.start(), problems: self.problems.clone(), ..Verified::default() };
        let mut contents = Contents::new(self, replay, &mut found.problems);
        let (mut durable, mut window_bytes) = (self.durable(), self.manifest.window_bytes);
        let mut walk = Walk::new(disk, self, self.start(), None);
        let mut told = walk.at;
        loop {
            if walk.at.since(told) >= PROGRESS_BYTES {
                told = walk.at;
                progress(told, self.limit());
            }
            let at = walk.at;
            let problem = match walk.next().await? {
                Step::Block(header, block) => {
                    found.blocks += 1;
                    found.bytes += header.stored_bytes() as u64;
                    durable = durable.max(header.local.durable);
                    // As of the newest block: recovery takes it from there, too.
                    window_bytes = self.manifest.window_bytes.max(header.local.window_bytes);
                    contents.check_block(&header, block, &mut found);
                    continue;
                }
                Step::End => break,
                // Its problem was noted when it was opened.
                Step::Missing => None,
                Step::Stopped(problem) => Some(problem),
            };
            let limit = match problem {
                None => self.limit(),
                Some(problem) => {
                    let closed_in = self.manifest.closed_at(at).then_some(self.manifest.term);
                    let tail =
                        Tail { log: self.id, end: at, term: walk.term, durable, window_bytes, closed_in };
                    let told = &mut |at| progress(at, self.limit());
                    match judge(disk, self.segments.iter(), &tail, problem, told).await? {
                        Verdict::End { torn } => {
                            found.torn = torn;
                            break;
                        }
                        Verdict::Corrupt { durable, last } => durable.max(last.plus(PAGE_BYTES as u64)),
                    }
                }
            };
            let goes_on = walk.skip_damage(limit).await?;
            if let Some(problem) = problem {
                let what = format!("{problem}, within what was durable");
                found.problems.push(Problem::at(at, walk.at, what));
            }
            contents.after_damage(walk.at);
            if !goes_on {
                break;
            }
        }
        found.end = walk.at;
        found.term = walk.term;
        found.clean = self.manifest.closed_at(found.end);
        let checkpoint = self.checkpoint.as_ref().map_or(Term(0), |checkpoint| checkpoint.head.term);
        let term = found.term.max(self.manifest.term).max(checkpoint);
        if term >= Term::MAX {
            found.problems.push(Problem::new(RecoveryError::LastTerm { log: self.id, term }.to_string()));
        }
        Ok(found)
    }
}

/// Checks what the blocks' checksums cannot: that the entries make sense.
struct Contents<'a, R> {
    /// The end offset of each slot as far as it has been seen.
    end_offsets: FxHashMap<Slot, Offset>,
    checkpoint: Position,
    checkpoint_chain: Option<u32>,
    /// Until it has met something that it does not understand.
    replay: Option<&'a mut R>,
}

impl<'a, R: Replay> Contents<'a, R> {
    fn new(files: &LogFiles, replay: &'a mut R, problems: &mut Vec<Problem>) -> Contents<'a, R> {
        let mut replay = Some(replay);
        if let (Some(checkpoint), Some(layer)) = (&files.checkpoint, &mut replay)
            && let Err(what) = layer.restore(&checkpoint.state)
        {
            problems.push(Problem::new(format!("the checkpoint's state: {what}")));
            replay = None;
        }
        if files.checkpoint.is_none() && files.start() > Position::ZERO {
            replay = None;
        }
        Contents {
            end_offsets: FxHashMap::default(),
            checkpoint: files.checkpoint_position(),
            checkpoint_chain: files.checkpoint.as_ref().map(|checkpoint| checkpoint.head.chain),
            replay,
        }
    }

    fn check_block(&mut self, header: &BlockHeader, block: &[u8], found: &mut Verified) {
        let (from, to) = (header.position, header.end());
        if to == self.checkpoint && self.checkpoint_chain.is_some_and(|chain| chain != header.chain()) {
            found.problems.push(Problem::at(from, to, "the checkpoint was made of another block"));
        }
        if header.flags & FLAG_SEGMENT_END != 0 {
            return;
        }
        // The walk has checked the entries, so none is an error.
        for (at, entry, payload) in header.entries(block).flatten() {
            *found.entries.entry(entry.kind.name()).or_default() += 1;
            found.records += u64::from(entry.count);
            let position = header.position.plus((BLOCK_HEADER_BYTES + at) as u64);
            let end = position.plus(entry.stored_bytes() as u64);
            if let Err(what) = self.check_entry(&entry, payload) {
                found.problems.push(Problem::at(position, end, what));
            }
            if from >= self.checkpoint
                && let Some(replay) = &mut self.replay
                && let Err(what) = replay.apply(&entry, header.append_time, payload)
            {
                found.problems.push(Problem::at(position, end, what));
                self.replay = None;
            }
        }
    }

    fn check_entry(&mut self, entry: &EntryHeader, payload: &[u8]) -> Result<(), String> {
        if entry.kind != EntryKind::KafkaBatch {
            return Ok(());
        }
        let batch = RecordBatch::parse(payload).map_err(|error| error.to_string())?;
        if (batch.base_offset(), batch.end_offset()) != (entry.base_offset, entry.end_offset()) {
            let (base, end) = (batch.base_offset(), batch.end_offset());
            let (entry_base, entry_end) = (entry.base_offset, entry.end_offset());
            return Err(format!("a batch of offsets {base}..{end} in an entry of {entry_base}..{entry_end}"));
        }
        let known = self.end_offsets.insert(entry.slot, entry.end_offset());
        match known.filter(|known| *known != entry.base_offset) {
            Some(known) => Err(format!("slot {}: offset {} follows {known}", entry.slot, entry.base_offset)),
            None => Ok(()),
        }
    }

    /// Blocks are missing up to `next`: what follows them cannot be tied to what was before.
    fn after_damage(&mut self, next: Position) {
        self.end_offsets.clear();
        if next > self.checkpoint {
            self.replay = None;
        }
    }
}

// --- Space. ---

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// Full; becomes free when it is the oldest and nothing in it is alive.
    Sealed,
    /// The log ends in here.
    Active,
    /// Made ahead, or recycled; holds nothing of the log yet.
    Ready,
}

impl SegmentState {
    pub fn of(segment: &Segment, end: Position) -> SegmentState {
        if segment.end() <= end {
            SegmentState::Sealed
        } else if segment.base() <= end {
            SegmentState::Active
        } else {
            SegmentState::Ready
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            SegmentState::Sealed => "sealed",
            SegmentState::Active => "active",
            SegmentState::Ready => "ready",
        }
    }
}

/// What a slot holds alive in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Entry headers included.
    pub bytes: u64,
    /// When the newest of it was appended, in seconds since 1970.
    pub append_seconds: u32,
}

/// A segment, and who holds it.
#[derive(Clone, Debug)]
pub struct SegmentSpace {
    pub segment: Segment,
    pub state: SegmentState,
    pub held: BTreeMap<Slot, Held>,
}

impl SegmentSpace {
    pub fn live_bytes(&self) -> u64 {
        self.held.values().map(|held| held.bytes).sum()
    }
}

/// Where the log's bytes lie, as the next start would find it.
#[derive(Debug)]
pub struct SpaceMap {
    pub end: Position,
    pub segments: Vec<SegmentSpace>,
}

/// What rebuilding needs to know; nothing is kept in memory, and chunks are as broad as an index
/// entry of this tool may be.
const LOOKING: LogConfig = LogConfig {
    chunk_bytes: 4 << 20,
    block_bytes_max: 1 << 20,
    block_target_bytes: 1 << 20,
    write_bytes_max: 1 << 20,
    commit_mode: CommitMode::Dsync,
    commit_depth: 1,
    tail_cache_bytes: 0,
    read_cache_bytes: 0,
    segment_bytes: 0,
    segments_ahead: 0,
    dead_kept_for: Duration::ZERO,
    read_piece_bytes: 1 << 20,
    slice_bytes: 1,
    checkpoint_bytes: 0,
    log_bytes_max: 0,
};

impl LogFiles {
    /// Rebuild what is alive from the checkpoint and the blocks after it; `replay` learns what the
    /// slots stand for.
    ///
    /// # Errors
    /// As recovery, but for what it says about the log's end: the scan stops there.
    pub async fn space<D: Disk, R: Replay>(
        &self,
        disk: &D,
        replay: &mut R,
        progress: Progress<'_>,
    ) -> Result<SpaceMap, RecoveryError> {
        let (log, start) = (self.id, self.start());
        // Read once more: rebuilding takes its queues.
        let checkpoint = read_checkpoint(disk, &self.dir, log).await?;
        let limit = self.limit();
        let mut state = Rebuild::begin(&LOOKING, log, checkpoint, (start, limit), replay)?;
        while let Some(segment) = self.segments.iter().find(|segment| segment.contains(state.end)) {
            let mut scan = Scan::new(disk, &segment.file, segment.base(), segment.end());
            let end = state.scan_segment(&mut scan, log, replay, &mut |at| progress(at, limit)).await?;
            if let SegmentEnd::Stopped(_) = end {
                break;
            }
        }
        let state_of = |segment: &Segment| SegmentState::of(segment, state.end);
        let mut segments: Vec<SegmentSpace> = self
            .segments
            .iter()
            .map(|segment| SegmentSpace {
                segment: segment.clone(),
                state: state_of(segment),
                held: BTreeMap::new(),
            })
            .collect();
        for (slot, queue) in state.queues.iter() {
            for run in queue.runs() {
                let Some(span) = state.chunks.span(run.chunk) else { continue };
                let after = segments.partition_point(|space| space.segment.base() <= span.base);
                let Some(space) = after.checked_sub(1).and_then(|index| segments.get_mut(index)) else {
                    continue;
                };
                let held = space.held.entry(slot).or_default();
                held.bytes += u64::from(run.bytes);
                held.append_seconds = held.append_seconds.max(run.append_seconds);
            }
        }
        Ok(SpaceMap { end: state.end, segments })
    }
}
