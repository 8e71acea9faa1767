//! The space of a log: segments made ahead, dead ones recycled, checkpoints, the manifest.
//!
//! Decides which background job is due; the jobs themselves run elsewhere (`background::jobs`) and
//! report back. One structural job at a time: the order *checkpoint durable, then manifest durable,
//! then the segment is used* is what recovery relies on.
//!
//! ```text
//!   prepare file -> zeros in slices, sync -> manifest with it -> ready
//!   oldest segment dead and below the checkpoint -> manifest with its new base -> ready (recycled)
//!                                                \-> or without it -> file removed (nobody has needed it for long)
//! ```

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tracing::debug;

use crate::base::mutant::{self, Mutant};
use crate::io::file::FileHandle;
use crate::model::{Nanos, Now, Position};

use super::Log;
use super::checkpoint::{self, Head};
use super::manifest::{Manifest, SegmentRecord};
use super::preparation::Preparation;
use super::segment::{Segment, Slice, segment_path};
use super::surplus::Surplus;

/// After a failed preparation, checkpoint or manifest (usually: the disk is full) the next attempt waits this long.
const RETRY: Duration = Duration::from_millis(500);
/// A log without writes for this long records its durable position in the manifest.
const IDLE: Duration = Duration::from_millis(10);

/// Work for the background, in the folder of one log.
#[derive(Debug)]
pub enum Job {
    /// Write a slice of a new segment's file.
    Prepare(Slice),
    Manifest {
        dir: PathBuf,
        manifest: Manifest,
    },
    Checkpoint {
        dir: PathBuf,
        generation: u64,
        bytes: Vec<u8>,
    },
    Remove {
        path: PathBuf,
    },
}

#[derive(Debug)]
pub enum JobDone {
    /// The slice is written, and with the last one the file synced; or nothing of the file is left.
    Prepared(io::Result<FileHandle>),
    Manifest(io::Result<()>),
    Checkpoint(io::Result<()>),
    Removed(io::Result<()>),
}

#[derive(Debug)]
enum State {
    Idle,
    /// The manifest with this segment at the new end is being written.
    Publishing(Segment),
    /// The manifest without this segment is being written; then its file goes.
    Retiring(Segment),
    /// The manifest is being written for its durable position alone.
    Recording,
    Removing,
    /// The manifest could not be written, and the disk is to blame. Nothing structural changes any more; the
    /// log lives on in the segments that it has.
    Failed,
}

#[derive(Debug)]
pub struct Space {
    dir: PathBuf,
    /// As it is on disk.
    manifest: Manifest,
    state: State,
    /// The manifest is not being written, for want of something that comes again: when to try the same once more.
    manifest_retry: Option<Nanos>,
    /// That is what `last_error` tells.
    manifest_missed: bool,
    /// The file that is being made, if one is. When it is whole it waits for its manifest.
    preparation: Option<Preparation>,
    retry_at: Nanos,
    /// Of the dead segments.
    surplus: Surplus,
    /// Recovery would start here.
    checkpoint: Position,
    generation: u64,
    /// The checkpoint that is being written.
    writing: Option<Position>,
    checkpoint_wanted: bool,
    /// When the next one may be tried, if the last one failed.
    checkpoint_retry: Option<Nanos>,
    /// The durable position when it last moved, and when that was.
    moved: (Position, Nanos),
    /// In a silent log the next slice waits until then.
    next_slice: Nanos,
    /// No segment is made any more.
    stopping: bool,
    /// Why no segment could be made, or no manifest written, for metrics and messages.
    last_error: Option<String>,
}

impl Space {
    pub fn new(dir: PathBuf, manifest: Manifest, checkpoint: Position, generation: u64) -> Space {
        Space {
            dir,
            moved: (manifest.durable, Nanos(0)),
            next_slice: Nanos(0),
            stopping: false,
            manifest,
            state: State::Idle,
            manifest_retry: None,
            manifest_missed: false,
            preparation: None,
            retry_at: Nanos(0),
            surplus: Surplus::default(),
            checkpoint,
            generation,
            writing: None,
            checkpoint_wanted: false,
            checkpoint_retry: None,
            last_error: None,
        }
    }
}

impl Log {
    /// Why no further segment could be made, or no manifest written, if that is so.
    pub fn space_error(&self) -> Option<&str> {
        self.space.last_error.as_deref()
    }

    /// Where recovery would start.
    pub fn checkpoint(&self) -> Position {
        self.space.checkpoint
    }

    /// No job is under way.
    pub fn space_is_quiet(&self) -> bool {
        let preparing = self.space.preparation.as_ref().is_some_and(Preparation::is_busy);
        let quiet = matches!(self.space.state, State::Idle | State::Failed);
        quiet && !preparing && self.space.writing.is_none()
    }

    /// When [`Log::poll_job`] should be asked again although nothing happened, if ever.
    pub fn space_deadline(&self) -> Option<Nanos> {
        if self.failed() {
            return None;
        }
        let checkpoint = self.space.checkpoint_retry.filter(|_| self.checkpoint_is_due());
        self.structural_deadline().into_iter().chain(self.space.manifest_retry).chain(checkpoint).min()
    }

    fn structural_deadline(&self) -> Option<Nanos> {
        if !matches!(self.space.state, State::Idle) {
            return None;
        }
        let begins =
            (self.space.preparation.is_none() && self.wants_segment()).then_some(self.space.retry_at);
        let preparing = self.space.preparation.as_ref().is_some_and(|preparation| !preparation.is_busy());
        let records_idle = self.is_idle() && self.durable() > self.space.manifest.durable;
        let silent = self.space.moved.1.plus(IDLE);
        let records = records_idle.then_some(silent);
        let slice = (preparing && self.is_idle()).then(|| silent.max(self.space.next_slice));
        // What dead segments wait for is no deadline: a shard looks each second at what dies.
        records.into_iter().chain(slice).chain(begins).min()
    }

    /// Too few segments are ready, and making one is the way out: what is dead waits only for a
    /// checkpoint, and a log at its limit for what dies.
    fn wants_segment(&self) -> bool {
        let short = self.segments.ready_count() < self.config.segments_ahead;
        short && self.may_grow() && !self.oldest_is_dead()
    }

    /// The structural job that is due now, if any.
    pub fn poll_job(&mut self, now: Now) -> Option<Job> {
        if self.durable() != self.space.moved.0 {
            self.space.moved = (self.durable(), now.mono);
        }
        if self.failed() || matches!(self.space.state, State::Failed) {
            return None;
        }
        if let Some(job) = self.poll_slice(now) {
            return Some(job);
        }
        if self.space.manifest_retry.take_if(|at| *at <= now.mono).is_some() {
            return Some(self.write_manifest());
        }
        if !matches!(self.space.state, State::Idle) {
            return None;
        }
        if let Some(whole) = self.space.preparation.take_if(|preparation| preparation.is_whole()) {
            return Some(self.publish(whole));
        }
        let short = self.segments.ready_count() < self.config.segments_ahead;
        let dead = self.oldest_is_dead();
        let covered = self.oldest_end() <= self.space.checkpoint;
        if dead && !covered && !mutant::is(Mutant::RecycleAboveCheckpoint) {
            self.space.checkpoint_wanted = true;
        } else if dead && (short || self.is_silent(now) && self.is_surplus(now)) {
            return Some(self.recycle_oldest(short));
        } else if !dead {
            self.space.surplus.clear();
        }
        if self.space.preparation.is_none() && now.mono >= self.space.retry_at && self.wants_segment() {
            self.begin_preparation();
            return self.poll_slice(now);
        }
        if self.is_silent(now) && self.durable() > self.space.manifest.durable {
            self.space.state = State::Recording;
            return Some(self.manifest_job(self.segments.records()));
        }
        None
    }

    /// Nothing has been written for a while.
    fn is_silent(&self, now: Now) -> bool {
        self.is_idle() && now.mono.since(self.space.moved.1) >= IDLE.as_nanos() as u64
    }

    /// The next slice of the file that is being made, when the appends ask for it or nobody else
    /// uses the device.
    fn poll_slice(&mut self, now: Now) -> Option<Job> {
        let appended = self.appended();
        // In a silent log there is a pause after each slice: others may share the device.
        let silent = self.is_silent(now) && now.mono >= self.space.next_slice;
        let preparation = self.space.preparation.as_mut()?;
        if !preparation.is_waiting() || !(silent || preparation.is_due(appended)) {
            return None;
        }
        Some(Job::Prepare(preparation.next(&self.space.dir, appended)))
    }

    fn oldest_end(&self) -> Position {
        self.segments.oldest_sealed().map_or(Position::ZERO, Segment::end)
    }

    /// Everything in the oldest segment is dead, and it is not where the log ends.
    fn oldest_is_dead(&self) -> bool {
        self.segments.oldest_sealed().is_some_and(|oldest| self.is_dead(oldest))
    }

    fn is_dead(&self, sealed: &Segment) -> bool {
        let dead = self.chunks.is_dead(sealed.base(), sealed.end()) || mutant::is(Mutant::RecycleLiveSegment);
        dead && sealed.end() <= self.durable()
    }

    /// How many could be recycled or removed, one after the other.
    fn dead_count(&self) -> usize {
        self.segments.sealed().take_while(|segment| self.is_dead(segment)).count()
    }

    /// The oldest segment, which is dead, has waited in vain to be recycled. Asked in silent moments: where the file
    /// system discards what is removed, the device does nothing else meanwhile.
    fn is_surplus(&mut self, now: Now) -> bool {
        if self.space.stopping {
            return false;
        }
        if self.space.surplus.is_due(now.mono, self.config.dead_kept_for) {
            self.space.surplus.begin(now.mono, self.dead_count());
        }
        self.space.surplus.take()
    }

    fn next_segment_bytes(&self) -> u64 {
        let newest = self.segments.newest().record.bytes;
        (newest * 2).min(self.config.segment_bytes).max(newest.min(self.config.segment_bytes))
    }

    fn may_grow(&self) -> bool {
        let max = self.config.log_bytes_max;
        !self.space.stopping && (max == 0 || self.segments.total_bytes() + self.next_segment_bytes() <= max)
    }

    /// More space is on its way, or could be.
    pub(super) fn may_get_space(&self) -> bool {
        match self.space.state {
            State::Failed => false,
            State::Publishing(_) => true,
            _ if self.space.preparation.is_some() => true,
            State::Idle | State::Retiring(_) | State::Recording | State::Removing => {
                self.may_grow() || self.oldest_is_dead()
            }
        }
    }

    /// The broker stops: nobody should wait for segments that it will not use. A file that was begun is left
    /// behind as by a crash, with all the space that it has taken, and a start removes it.
    pub fn stop_preparing(&mut self) {
        self.space.stopping = true;
        self.space.preparation.take_if(|preparation| preparation.is_waiting());
    }

    fn begin_preparation(&mut self) {
        let number = self.space.manifest.next_number;
        // The number is used up even if the preparation fails: a name never stands for two files.
        self.space.manifest.next_number += 1;
        let room = self.append.segment_bytes_left() + self.segments.ready_bytes();
        let (bytes, slice_bytes) = (self.next_segment_bytes(), self.config.slice_bytes);
        self.space.preparation = Some(Preparation::new(number, bytes, slice_bytes, self.appended(), room));
    }

    /// The file is whole: it becomes the newest segment.
    fn publish(&mut self, whole: Preparation) -> Job {
        let Preparation { number, bytes, .. } = whole;
        let record = SegmentRecord { number, base: self.segments.next_base(), bytes, recycled: false };
        let mut records = self.segments.records();
        records.push(record);
        let segment = Segment { record, file: whole.into_file() };
        if mutant::is(Mutant::UseSegmentBeforeManifest) {
            self.segments.push_ready(segment);
            self.space.state = State::Recording;
        } else {
            self.space.state = State::Publishing(segment);
        }
        self.manifest_job(records)
    }

    /// Take the oldest segment off; it becomes the newest, or goes.
    fn recycle_oldest(&mut self, reuse: bool) -> Job {
        let mut segment = self.segments.pop_oldest();
        self.chunks.drop_before(segment.end());
        self.cache.drop_before(self.chunks.first());
        let mut records = self.segments.records();
        if reuse {
            segment.record.base = self.segments.next_base();
            segment.record.recycled = true;
            debug!("log {}: recycles segment {}", self.id, segment.record.number);
            self.space.surplus.on_recycled(self.dead_count());
            records.push(segment.record);
            self.space.state = State::Publishing(segment);
        } else if mutant::is(Mutant::RemoveBeforeManifest) {
            self.space.state = State::Removing;
            return Job::Remove { path: segment_path(&self.space.dir, segment.record.number) };
        } else {
            debug!("log {}: removes segment {}", self.id, segment.record.number);
            self.space.state = State::Retiring(segment);
        }
        self.manifest_job(records)
    }

    fn manifest_job(&mut self, segments: Vec<SegmentRecord>) -> Job {
        self.prepare_manifest(segments);
        self.write_manifest()
    }

    fn prepare_manifest(&mut self, segments: Vec<SegmentRecord>) {
        let space = &mut self.space;
        space.manifest.sequence += 1;
        space.manifest.term = self.term;
        space.manifest.durable = self.commit.durable();
        space.manifest.window_bytes = self.config.window_bytes();
        space.manifest.clean = false;
        space.manifest.segments = segments;
    }

    fn write_manifest(&self) -> Job {
        Job::Manifest { dir: self.space.dir.clone(), manifest: self.space.manifest.clone() }
    }

    /// A job is done. Returns the job that must follow at once, if any.
    ///
    /// # Errors
    /// What went wrong, for the operator; the log has already adapted to it.
    pub fn on_job(&mut self, done: JobDone, now: Now) -> Result<Option<Job>, String> {
        if let JobDone::Prepared(result) = done {
            return self.on_slice(result, now);
        }
        if let JobDone::Checkpoint(result) = done {
            let position = self.space.writing.take().expect("a checkpoint was being written");
            return match result {
                Ok(()) => {
                    debug!("log {}: checkpoint {} is durable", self.id, self.space.generation);
                    self.space.checkpoint = position;
                    self.space.checkpoint_wanted = false;
                    self.space.checkpoint_retry = None;
                    Ok(None)
                }
                Err(error) => {
                    // The other generation is the one that counts: the next attempt rewrites this one.
                    self.space.generation -= 1;
                    let first = self.space.checkpoint_retry.is_none();
                    self.space.checkpoint_retry = Some(now.mono.plus(RETRY));
                    let message = format!("log {}: the checkpoint could not be written: {error}", self.id);
                    if first { Err(message) } else { Ok(None) }
                }
            };
        }
        let done = match done {
            JobDone::Manifest(Err(error)) => {
                return self.on_manifest_failed(error, now).map_or(Ok(None), Err);
            }
            JobDone::Manifest(Ok(())) if std::mem::take(&mut self.space.manifest_missed) => {
                self.space.last_error = None;
                done
            }
            done => done,
        };
        match (std::mem::replace(&mut self.space.state, State::Idle), done) {
            (State::Publishing(segment), JobDone::Manifest(Ok(()))) => {
                // Made or recycled: there is space again.
                self.space.last_error = None;
                debug!("log {}: segment {} is ready", self.id, segment.record.number);
                self.segments.push_ready(segment);
                Ok(None)
            }
            (State::Retiring(segment), JobDone::Manifest(Ok(()))) => {
                self.space.state = State::Removing;
                Ok(Some(Job::Remove { path: segment_path(&self.space.dir, segment.record.number) }))
            }
            (State::Recording, JobDone::Manifest(Ok(()))) => Ok(None),
            (State::Removing, JobDone::Removed(result)) => match result {
                Ok(()) => Ok(None),
                Err(error) => Err(format!("log {}: a segment could not be removed: {error}", self.id)),
            },
            (state, done) => panic!("job {done:?} was not asked for in {state:?}"),
        }
    }

    /// Returns what the operator must be told, if he has not been.
    fn on_manifest_failed(&mut self, error: io::Error, now: Now) -> Option<String> {
        let message = format!("log {}: the manifest could not be written: {error}", self.id);
        self.space.last_error = Some(message.clone());
        if comes_again(&error) {
            // The same bytes over the same copy: whatever of them the first attempt has left is harmless.
            self.space.manifest_retry = Some(now.mono.plus(RETRY));
            let told = std::mem::replace(&mut self.space.manifest_missed, true);
            return (!told).then_some(message);
        }
        self.space.state = State::Failed;
        Some(message)
    }

    fn on_slice(&mut self, result: io::Result<FileHandle>, now: Now) -> Result<Option<Job>, String> {
        let preparation = self.space.preparation.as_mut().expect("a slice was being written");
        match result {
            Ok(file) => {
                preparation.on_slice(file);
                if preparation.is_whole() {
                    self.space.last_error = None;
                } else if self.space.stopping {
                    self.space.preparation = None;
                }
                self.space.next_slice = now.mono.plus(IDLE);
                Ok(None)
            }
            Err(error) => {
                self.space.preparation = None;
                self.space.retry_at = now.mono.plus(RETRY);
                let first = self.space.last_error.is_none();
                let message = format!("log {}: no further segment could be made: {error}", self.id);
                self.space.last_error = Some(message.clone());
                if first { Err(message) } else { Ok(None) }
            }
        }
    }

    /// Everything is durable and checkpointed: say in the manifest that the log was closed in order.
    pub fn close(&mut self) -> Option<Job> {
        let done = self.is_idle() && self.space_is_quiet() && !self.failed();
        if !done || matches!(self.space.state, State::Failed) || self.space.checkpoint != self.durable() {
            return None;
        }
        self.space.state = State::Recording;
        self.prepare_manifest(self.segments.records());
        self.space.manifest.clean = true;
        Some(self.write_manifest())
    }

    /// A checkpoint should be taken now.
    pub fn wants_checkpoint(&self, now: Now) -> bool {
        let waits = self.space.checkpoint_retry.is_some_and(|at| now.mono < at);
        self.checkpoint_is_due() && !waits && !self.failed()
    }

    /// Much has been written since the last one, or a segment waits for one; and none is being written.
    fn checkpoint_is_due(&self) -> bool {
        let behind = self.durable().since(self.space.checkpoint);
        let due = behind >= self.config.checkpoint_bytes || (self.space.checkpoint_wanted && behind > 0);
        due && self.space.writing.is_none()
    }

    /// Take a checkpoint of what is durable and applied now, with the `state` of the layer above.
    /// Every durable entry has been taken from [`Log::poll_durable`] before.
    pub fn begin_checkpoint(&mut self, state: &[u8]) -> Job {
        assert!(self.space.writing.is_none());
        let position = self.durable();
        self.space.generation += 1;
        self.space.writing = Some(position);
        let generation = self.space.generation;
        debug!("log {}: checkpoint {generation} begins, at {position}", self.id);
        // The block that opened the term is durable: the last block is of this term, whichever it is.
        let (log, chain, term) = (self.id, self.durable_chain, self.term);
        let head = Head { generation, log, position, chain, term };
        let bytes = checkpoint::encode(head, &self.chunks, &self.queues, state);
        Job::Checkpoint { dir: self.space.dir.clone(), generation, bytes }
    }
}

/// The machine lacked something that it will have again: descriptors, memory, space. The disk has refused nothing
/// that it had promised.
fn comes_again(error: &io::Error) -> bool {
    let lacked = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOSPC, libc::EDQUOT];
    error.raw_os_error().is_some_and(|errno| lacked.contains(&errno))
}
