//! The CommitLog: one sequence of blocks for all partitions that it hosts.
//!
//! ```text
//!   append -> append_buffer -> block sealed -> group_commit -> device -> durable -> applied -> readers
//!             (pending level: positions, offsets)              |        (consume queues, live bytes)
//!             acks wait for the contiguous durable position ---+
//! ```
//!
//! Sans-IO: [`Log`] asks for writes, reads and background jobs and is told of their ends. It knows
//! slots, offsets and positions; what a slot stands for and what a payload means is known above.
//!
//! - format: [`block`], [`entry`], [`manifest`], [`checkpoint`]; docs/FORMATS.md
//! - the path of a write: [`append_buffer`], [`group_commit`], [`chunks`], [`consume_queue`]
//! - reads: [`read`], [`reader`]
//! - space: [`segment`], [`preparation`], [`surplus`], [`space`]
//! - start: [`recovery`]; looking without changing: [`inspect`]

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tracing::{Level, debug, enabled};

use crate::base::align::PAGE_BYTES;
use crate::base::mutant::{self, Mutant};
use crate::base::prefetch::prefetch;
use crate::io::buffer::ChunkPool;
use crate::io::op::{Op, Token, WriteSync};
use crate::model::{CommitMode, LogId, Nanos, Now, Offset, Position, Slot, Term};

pub mod append_buffer;
pub mod block;
pub mod checkpoint;
pub mod chunks;
pub mod consume_queue;
pub mod entry;
pub mod group_commit;
pub mod inspect;
mod loading;
pub mod manifest;
pub mod preparation;
pub mod read;
pub mod reader;
pub mod recovery;
pub mod segment;
pub mod space;
pub mod surplus;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use append_buffer::{AppendBuffer, ChunkEvent, Need, NewEntry, SealedBlock};
use block::{BlockHeader, LocalPart};
use chunks::{ChunkId, ChunkSpan, Chunks};
use consume_queue::{AppliedEntry, ConsumeQueues, Queue};
use entry::{EntryHeader, EntryKind};
use group_commit::{BlockContent, Committed, FlightId, GroupCommit, Submitted};
use loading::{Piece, Reading};
use reader::{ChunkError, ReadCache};
use segment::Segments;
use space::Space;

/// Of a log that has no further segment this share of the last one, and at most so many bytes, is kept
/// for entries that make room ([`EntryKind::may_use_reserve`]). Each takes a page at most: 256 deletions.
const RESERVE_SHARE: u64 = 16;
const RESERVE_BYTES_MAX: u64 = 1 << 20;

/// Readers may hold so many chunks that left the tail before they get copies. At that moment they may hold
/// the whole tail, too.
const LENT_CHUNKS: usize = 8;

/// What a log is told when it is opened. Sizes in bytes.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Memory and reading unit; every block but one of an outsized batch fits in.
    pub chunk_bytes: usize,
    /// A block is sealed at this size at the latest.
    pub block_bytes_max: usize,
    /// A block starts while another is in flight only above this size.
    pub block_target_bytes: usize,
    /// A block goes to the device in writes of at most this size.
    pub write_bytes_max: usize,
    pub commit_mode: CommitMode,
    pub commit_depth: usize,
    /// Closed chunks that stay in memory.
    pub tail_cache_bytes: usize,
    /// Chunks read back.
    pub read_cache_bytes: usize,
    /// A chunk is read back in pieces of this size, whole pages, one after the other.
    pub read_piece_bytes: usize,
    /// Segments grow up to this.
    pub segment_bytes: u64,
    /// Segments kept ready.
    pub segments_ahead: usize,
    /// Dead segments that nobody has needed for so long are removed.
    pub dead_kept_for: Duration,
    /// A segment's file is made in slices of this size.
    pub slice_bytes: u64,
    /// A checkpoint at least every so many bytes.
    pub checkpoint_bytes: u64,
    /// The most that all segments together may take; 0 is no limit.
    pub log_bytes_max: u64,
}

impl LogConfig {
    /// No block is begun so far beyond the durable position.
    pub fn window_bytes(&self) -> u64 {
        (self.commit_depth as u64 + 1) * self.chunk_bytes.max(self.block_bytes_max) as u64
    }

    /// Of the tail cache, when it is full.
    fn tail_chunks(&self) -> usize {
        self.tail_cache_bytes.div_ceil(self.chunk_bytes)
    }

    /// Appends wait when more than this waits for the device: it would only lengthen the queue.
    fn undurable_bytes_max(&self) -> usize {
        (self.tail_cache_bytes / 2).max(2 * self.chunk_bytes)
    }
}

/// Why an append was not taken. Nothing of it remains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No memory for a chunk: readers or the device hold all. Try again when something completed.
    #[error("the log's memory is in use")]
    NoMemory,
    /// No segment is ready. Try again when one is, or answer that the disk is full.
    #[error("no segment of the log is ready")]
    NoSegment,
    #[error("the entry of {bytes} bytes does not fit in a segment of {segment_bytes} bytes")]
    TooLarge { bytes: usize, segment_bytes: u64 },
    /// An earlier write failed. Final.
    #[error("an earlier write to the log failed")]
    Failed,
}

/// Whether an append would be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Or it fails for a reason that waiting does not change.
    Yes,
    /// The device or the background is behind: try again soon.
    Wait,
}

/// Where an entry went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub position: Position,
    /// Durable once the log is durable up to here.
    pub end: Position,
}

#[derive(Debug)]
struct Pending {
    header: EntryHeader,
    position: Position,
    chunk: ChunkId,
    append_seconds: u32,
}

impl Pending {
    fn end(&self) -> Position {
        self.position.plus(self.header.stored_bytes() as u64)
    }
}

/// An entry that has become durable, in log order.
#[derive(Debug)]
pub struct Durable {
    pub header: EntryHeader,
    pub position: Position,
    /// Empty for record batches: nobody looks at them again on this way.
    pub payload: Bytes,
}

enum InFlight {
    Write {
        flight: FlightId,
        writes_left: usize,
        ok: bool,
    },
    /// The chunk is read up to `end` when that is over.
    Load {
        reading: Reading,
        end: usize,
    },
}

pub struct Log {
    id: LogId,
    term: Term,
    config: LogConfig,
    segments: Segments,
    append: AppendBuffer,
    /// The chunk that takes blocks now.
    open_chunk: ChunkId,
    commit: GroupCommit,
    durable_chain: u32,
    chunks: Chunks,
    queues: ConsumeQueues,
    pending: VecDeque<Pending>,
    cache: ReadCache,
    pieces: Vec<Piece>,
    space: Space,
    in_flight: rustc_hash::FxHashMap<u64, InFlight>,
    next_token: u64,
    /// Scratch, kept for its memory.
    chunk_events: Vec<ChunkEvent>,
    committed: Vec<Committed>,
    /// Errors of cold reads, for whoever logs them.
    read_errors: Vec<ChunkError>,
    /// Blocks and bytes written, for metrics.
    pub stats: LogStats,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct LogStats {
    pub blocks: u64,
    pub block_bytes: u64,
    pub entries_bytes: u64,
}

/// A log as recovery found it, ready to be opened for appends.
pub struct Opened {
    pub id: LogId,
    pub term: Term,
    pub dir: PathBuf,
    pub manifest: manifest::Manifest,
    pub segments: Segments,
    pub end: Position,
    pub chain: u32,
    pub chunks: Chunks,
    pub queues: ConsumeQueues,
    pub checkpoint: Position,
    pub checkpoint_generation: u64,
}

impl Log {
    pub fn new(config: LogConfig, opened: Opened) -> Log {
        let Opened { id, term, end, chain, .. } = opened;
        // The tail cache, what is being written, and what slow readers hold on to.
        let chunks_max = config.tail_chunks() * 2 + config.commit_depth + LENT_CHUNKS;
        let pool = ChunkPool::new(config.chunk_bytes, chunks_max);
        let segment_end = opened.segments.active().end();
        let cache = ReadCache::new(id, config.chunk_bytes, config.read_cache_bytes);
        Log {
            id,
            term,
            append: AppendBuffer::new((id, term), pool, config.block_bytes_max, end, segment_end, chain),
            open_chunk: ChunkId::default(),
            commit: GroupCommit::new(
                config.commit_mode,
                config.commit_depth,
                config.block_target_bytes,
                config.window_bytes(),
                end,
            ),
            durable_chain: chain,
            chunks: opened.chunks,
            queues: opened.queues,
            pending: VecDeque::new(),
            cache,
            pieces: Vec::new(),
            space: Space::new(opened.dir, opened.manifest, opened.checkpoint, opened.checkpoint_generation),
            segments: opened.segments,
            in_flight: Default::default(),
            next_token: 0,
            chunk_events: Vec::new(),
            committed: Vec::new(),
            read_errors: Vec::new(),
            stats: LogStats::default(),
            config,
        }
    }

    /// The memory that the log works with once its caches are full: pools, and how many chunks of each.
    pub fn working_memory(&self) -> [(ChunkPool, usize); 2] {
        let chunks = self.config.tail_chunks() + self.config.commit_depth;
        [(self.append.pool().clone(), chunks), self.cache.working_memory()]
    }

    pub fn id(&self) -> LogId {
        self.id
    }

    pub fn term(&self) -> Term {
        self.term
    }

    /// The largest payload for which a segment of so many bytes, whole pages, has room.
    pub const fn payload_bytes_max(segment_bytes: u64) -> usize {
        EntryHeader::payload_bytes_max(segment_bytes as usize - block::BLOCK_HEADER_BYTES)
    }

    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// End of the bytes that survive power loss.
    pub fn durable(&self) -> Position {
        self.commit.durable()
    }

    pub fn failed(&self) -> bool {
        self.commit.failed()
    }

    /// Memory of the tail and of what was read back, with what readers hold of both.
    pub fn cache_bytes(&self) -> (u64, u64) {
        ((self.append.chunks_out() * self.config.chunk_bytes) as u64, self.cache.bytes())
    }

    /// For so many reads after its own a chunk that was read back is kept until somebody looks.
    pub fn unseen_reads(&self) -> u64 {
        self.cache.unseen_loads()
    }

    pub fn blocks_in_flight(&self) -> usize {
        self.commit.in_flight()
    }

    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    pub fn queue(&self, slot: Slot) -> Option<&Queue> {
        self.queues.get(slot)
    }

    /// Nothing is waiting for the device.
    pub fn is_idle(&self) -> bool {
        self.commit.is_idle() && self.append.pending_bytes() == 0
    }

    fn local_part(&self) -> LocalPart {
        LocalPart { durable: self.commit.durable(), window_bytes: self.config.window_bytes() }
    }

    /// Append an entry. It is visible to nobody until it is durable. `finish` gets the payload where
    /// it will stay, may patch it, and returns its checksum.
    pub fn append(
        &mut self,
        entry: NewEntry,
        payload: &[u8],
        now: Now,
        finish: impl FnOnce(&mut [u8]) -> u32,
    ) -> Result<Appended, AppendError> {
        let block_bytes = BlockHeader::bytes_for(EntryHeader::entry_bytes(payload.len())) as u64;
        if !entry.kind.may_use_reserve() && !self.leaves_reserve(block_bytes) {
            return Err(AppendError::NoSegment);
        }
        self.reserve(payload.len(), now)?;
        let mut payload_crc = 0;
        let (position, end) = self.append.append(entry, payload, |stored| {
            payload_crc = finish(stored);
            payload_crc
        });
        let NewEntry { kind, slot, base_offset, count, max_timestamp } = entry;
        let payload_bytes = payload.len() as u32;
        self.pending.push_back(Pending {
            header: EntryHeader { kind, slot, base_offset, count, max_timestamp, payload_bytes, payload_crc },
            position,
            chunk: self.open_chunk,
            append_seconds: (now.wall.0 / 1000).clamp(0, i64::from(u32::MAX)) as u32,
        });
        Ok(Appended { position, end })
    }

    /// Is there room for entries of so many bytes in sum? Where the disk is full there is nothing to wait
    /// for: the append says so.
    pub fn room(&self, entries_bytes: usize) -> Room {
        if self.commit.failed() {
            return Room::Yes;
        }
        let undurable = self.append.end().since(self.commit.durable()) as usize;
        let need = self.append.bytes_at_most(entries_bytes);
        let fits = self.append.segment_bytes_left() >= need || self.segments.ready_bytes() >= need;
        let space = fits && self.leaves_reserve(need);
        // With all segments ready that ever are, more will not come of waiting: some of it is taken.
        let short = self.segments.ready_count() < self.config.segments_ahead;
        let comes = short && self.may_get_space() && self.space_error().is_none();
        if !space && comes || undurable > self.config.undurable_bytes_max() { Room::Wait } else { Room::Yes }
    }

    /// After blocks of so many bytes there is still room for what makes room: a log that is full to its
    /// last page could not even be told what to delete.
    fn leaves_reserve(&self, block_bytes: u64) -> bool {
        if self.segments.ready_count() > 1 {
            return true;
        }
        let last = self.segments.newest();
        let reserve = (last.record.bytes / RESERVE_SHARE).min(RESERVE_BYTES_MAX);
        let end = self.append.end().max(last.base()).plus(block_bytes + reserve);
        // What no segment has room for is refused as such, further on.
        end <= last.end() || block_bytes + reserve > last.record.bytes
    }

    /// End of what was handed out: everything appended lies before it.
    pub fn appended(&self) -> Position {
        self.append.end()
    }

    /// Make room for an entry with this payload.
    fn reserve(&mut self, payload_bytes: usize, now: Now) -> Result<(), AppendError> {
        if self.commit.failed() {
            return Err(AppendError::Failed);
        }
        let bytes = BlockHeader::bytes_for(EntryHeader::entry_bytes(payload_bytes));
        let local = self.local_part();
        loop {
            let reserved = self.append.reserve(payload_bytes, local, now.wall, &mut self.chunk_events);
            self.apply_chunk_events();
            match reserved {
                Ok(()) => return Ok(()),
                Err(Need::Memory) => {
                    if !self.evict(true) {
                        return Err(AppendError::NoMemory);
                    }
                }
                Err(Need::Segment) => {
                    let Some(next) = self.segments.next_ready() else { return Err(AppendError::NoSegment) };
                    let next = next.record;
                    if (bytes as u64) > next.bytes {
                        return Err(AppendError::TooLarge {
                            bytes: payload_bytes,
                            segment_bytes: next.bytes,
                        });
                    }
                    let end = next.base.plus(next.bytes);
                    self.append.enter_segment(next.base, end, local, now.wall, &mut self.chunk_events);
                    self.segments.advance();
                    self.apply_chunk_events();
                    debug!("log {}: rolls into segment {}", self.id, next.number);
                }
            }
        }
    }

    fn apply_chunk_events(&mut self) {
        for event in self.chunk_events.drain(..) {
            match event {
                ChunkEvent::Opened { base } => self.open_chunk = self.chunks.open(base),
                ChunkEvent::Closed { bytes } => self.chunks.close(bytes),
            }
        }
    }

    /// The oldest chunk in memory leaves it, if it may. Returns whether one did.
    fn evict(&mut self, force: bool) -> bool {
        let durable = self.commit.durable();
        // Appends come before what is durable since this turn is applied, and applying it needs its chunk.
        let applied = self.pending.front().map_or(durable, |next| durable.min(next.position));
        let Some((end, slots)) = self.chunks.evict(applied, force) else { return false };
        self.queues.evict(end, &slots);
        true
    }

    /// The turn's end: give the device what it may have now, ask for chunks that readers want.
    pub fn submit(&mut self, now: Now, ops: &mut Vec<Op>) {
        while self.commit.wants_block(self.append.pending_bytes()) {
            if !self.append.has_sealed() {
                self.append.seal(self.local_part(), now.wall);
            }
            let block = self.append.pop_sealed().expect("bytes were pending");
            self.submit_block(block, now.mono, ops);
        }
        self.submit_sync(ops);
        self.submit_reads(now, ops);
    }

    fn submit_block(&mut self, block: SealedBlock, now: Nanos, ops: &mut Vec<Op>) {
        let segment = self.segments.find(block.position).expect("a block lies in a segment");
        let file = segment.file.clone();
        let base = block.position.since(segment.base());
        self.stats.blocks += 1;
        self.stats.block_bytes += block.data.len() as u64;
        let content = BlockContent {
            bytes: block.data.len() as u64,
            padding_bytes: u64::from(block.padding_bytes),
            entry_count: u64::from(block.entry_count),
        };
        let submitted = Submitted { end: block.end, chain: block.chain, content, at: now };
        let flight = self.commit.on_submitted(submitted);
        let sync = match self.commit.mode() {
            CommitMode::Dsync if mutant::is(Mutant::WriteWithoutDsync) => WriteSync::Plain,
            CommitMode::Dsync => WriteSync::Dsync,
            CommitMode::Plain | CommitMode::WriteThenSync => WriteSync::Plain,
        };
        let writes_left = block.data.len().div_ceil(self.config.write_bytes_max);
        // All writes of a block share its token: only how many are left counts.
        let token = self.token(InFlight::Write { flight, writes_left, ok: true });
        let mut at = 0;
        while at < block.data.len() {
            let end = (at + self.config.write_bytes_max).min(block.data.len());
            let data = block.data.slice(at..end);
            ops.push(Op::Write { token, file: file.clone(), offset: base + at as u64, data, sync });
            at = end;
        }
    }

    fn submit_sync(&mut self, ops: &mut Vec<Op>) {
        // A sync promises nothing of other files: what is not durable is synced segment by segment.
        let Some(mut segment) = self.segments.find(self.commit.durable()) else { return };
        if mutant::is(Mutant::SyncNewestSegmentOnly) {
            segment = self.segments.active();
        }
        if self.commit.poll_sync(segment.end()).is_some() {
            let file = segment.file.clone();
            ops.push(Op::Sync { token: self.token_of(u64::MAX >> 16), file });
        }
    }

    /// Tokens carry the log in their upper 16 bits; the lower 48 with all bits set is the sync's.
    fn token_of(&self, number: u64) -> Token {
        Token(u64::from(self.id.0) << 48 | number)
    }

    fn token(&mut self, what: InFlight) -> Token {
        self.next_token = (self.next_token + 1) % (u64::MAX >> 16);
        self.in_flight.insert(self.next_token, what);
        self.token_of(self.next_token)
    }

    /// The log that a token belongs to.
    pub fn of_token(token: Token) -> LogId {
        LogId((token.0 >> 48) as u32)
    }

    /// A write completed. Afterwards [`Log::poll_durable`] and [`Log::take_committed`] have news.
    pub fn on_written(&mut self, token: Token, result: io::Result<()>, now: Nanos) -> io::Result<()> {
        let number = token.0 & (u64::MAX >> 16);
        let Some(InFlight::Write { flight, writes_left, ok }) = self.in_flight.get_mut(&number) else {
            panic!("a write completes once for each time it was submitted");
        };
        *writes_left -= 1;
        *ok &= result.is_ok();
        if *writes_left == 0 {
            let (flight, ok) = (*flight, *ok);
            self.in_flight.remove(&number);
            self.commit.on_written(flight, ok, now, &mut self.committed);
        }
        result
    }

    /// A sync completed.
    pub fn on_synced(&mut self, result: io::Result<()>, now: Nanos) -> io::Result<()> {
        self.commit.on_synced(result.is_ok(), now, &mut self.committed);
        result
    }

    /// Blocks that became durable since the last call.
    pub fn take_committed(&mut self) -> std::vec::Drain<'_, Committed> {
        if let Some(last) = self.committed.last() {
            self.durable_chain = last.chain;
        }
        if enabled!(Level::DEBUG) {
            let active = self.segments.active();
            if self.committed.iter().any(|block| block.end == active.base().plus(block.content.bytes)) {
                debug!("log {}: has rolled into segment {}", self.id, active.record.number);
            }
        }
        self.committed.drain(..)
    }

    /// The slots of the entries that [`Log::poll_durable`] will return from now on, in that order.
    pub fn durable_slots(&self) -> impl Iterator<Item = Slot> + Clone {
        let durable = self.commit.durable();
        self.pending
            .iter()
            .take_while(move |pending| pending.end() <= durable)
            .map(|pending| pending.header.slot)
    }

    /// Ask for the memory that applying those entries touches.
    pub fn prefetch_durable(&self) {
        self.queues.prefetch(self.durable_slots());
    }

    /// The slot's queue will be asked for.
    pub fn prefetch(&self, slot: Slot) {
        self.queues.get(slot).into_iter().for_each(prefetch);
    }

    /// The next entry that has become durable, after it was applied to the consume queues.
    pub fn poll_durable(&mut self) -> Option<Durable> {
        let durable = self.commit.durable();
        let end = self.pending.front()?.end();
        if end > durable {
            return None;
        }
        let Pending { header, position, chunk, append_seconds } = self.pending.pop_front()?;
        self.chunks.extend(chunk, self.block_end(end));
        self.stats.entries_bytes += header.stored_bytes() as u64;
        let payload = if header.kind.is_data() {
            Bytes::new()
        } else {
            let start = position.plus(entry::ENTRY_HEADER_BYTES as u64);
            self.in_memory(start, header.payload_bytes as usize).expect("what was just written is in memory")
        };
        apply_entry(&mut self.queues, &mut self.chunks, &header, (position, chunk, append_seconds), true);
        Some(Durable { header, position, payload })
    }

    /// The end of the durable block that holds the byte before `end`: chunks are made of whole blocks.
    fn block_end(&self, end: Position) -> Position {
        let page = PAGE_BYTES as u64;
        Position(end.0.next_multiple_of(page)).min(self.commit.durable())
    }

    /// Take chunks out of memory that are over its budget.
    pub fn maintain(&mut self) {
        while self.evict(false) {}
    }

    /// Errors of cold reads since the last call.
    pub fn take_read_errors(&mut self) -> Vec<ChunkError> {
        std::mem::take(&mut self.read_errors)
    }

    /// Chunks that readers wait for and that the log no longer has, since the last call: those readers
    /// must look again.
    pub fn take_given_up_reads(&mut self) -> Vec<ChunkId> {
        self.cache.take_given_up()
    }

    /// Called now and then, so that a chunk that could not be read is tried again some time.
    pub fn forget_read_failures(&mut self) {
        self.cache.forget_failures();
    }

    /// Records of `slot` below `start` are dead. Not durable by itself: see [`EntryKind::LogStart`].
    pub fn drop_before(&mut self, slot: Slot, start: Offset) {
        let chunks = &mut self.chunks;
        self.queues.get_mut(slot).drop_before(start, |run| chunks.remove_live(run.chunk, run.bytes));
    }

    pub fn chunk_spans(&self) -> (ChunkId, impl ExactSizeIterator<Item = &ChunkSpan>) {
        (self.chunks.first(), self.chunks.spans())
    }

    pub fn queues(&self) -> &ConsumeQueues {
        &self.queues
    }
}

/// What a durable entry does to the indexes, in operation and in recovery alike.
fn apply_entry(
    queues: &mut ConsumeQueues,
    chunks: &mut Chunks,
    header: &EntryHeader,
    (position, chunk, append_seconds): (Position, ChunkId, u32),
    in_memory: bool,
) {
    match header.kind {
        EntryKind::KafkaBatch => {
            let applied = AppliedEntry {
                slot: header.slot,
                base_offset: header.base_offset,
                end_offset: header.end_offset(),
                position,
                payload_bytes: header.payload_bytes,
                stored_bytes: header.stored_bytes() as u32,
                max_timestamp: header.max_timestamp,
                append_seconds,
                chunk,
            };
            let first = queues.apply(&applied, in_memory);
            chunks.add_live(chunk, applied.stored_bytes, first);
            if first && in_memory {
                chunks.note_slot(chunk, header.slot);
            }
        }
        EntryKind::LogStart => {
            let dead = |run: consume_queue::Run| chunks.remove_live(run.chunk, run.bytes);
            queues.get_mut(header.slot).drop_before(header.base_offset, dead);
        }
        EntryKind::SlotClose => queues.remove(header.slot, |run| chunks.remove_live(run.chunk, run.bytes)),
        EntryKind::TermOpen
        | EntryKind::SlotOpen
        | EntryKind::GroupOffsets
        | EntryKind::GroupState
        | EntryKind::Metadata => {}
    }
}
