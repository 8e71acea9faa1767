//! Cold reads: chunks that left memory, read back whole, parsed once, shared by all who lag there.
//!
//! A chunk interleaves many slots. Reading it whole and keeping a directory of it means that
//! consumers which catch up together read each byte of the device once, whatever their number. The
//! cache has its own memory, so that somebody who reads the past never pushes out the tail.

use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::align::PAGE_BYTES;
use crate::io::buffer::{ChunkBuf, ChunkPool};
use crate::model::{LogId, Nanos, Offset, Slot};

use super::block::{BLOCK_HEADER_BYTES, BlockHeader};
use super::chunks::{ChunkId, ChunkSpan};
use super::entry::EntryHeader;

/// One chunk of a log is read at a time, and one piece of it. A device that serves in order lets each write, and then
/// its flush, wait for the reads before it: three chunks at a time, not in pieces, cost commits 12 ms instead of 3, and
/// were read at 1.15 GB/s instead of 1.0.
///
/// But a read that takes longer than this has another beside it. A piece takes less than a millisecond, and tens of
/// them on a busy device: after a second it is the read that is stuck, at a place that the drive tries again and again,
/// and all others of the log would wait for it. There is never a third: what stops two of them is the device.
/// A shard without other work looks again within another second, when it sweeps.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Chunks that wait to be read ahead of somebody, at most.
const AHEAD_QUEUE_MAX: usize = 8;

/// [`ReadCache::unseen_loads`] of the smallest cache.
const UNSEEN_LOADS_MIN: u64 = 4;

/// However little memory it is given: those that nobody has seen, as many that are lent, one that a search looks
/// through, one to read into, and one more for a read that is stuck.
const CHUNKS_MIN: usize = 2 * UNSEEN_LOADS_MIN as usize + 3;

/// Chunks that are read ahead of somebody, at most: one answer of many partitions takes 16 MiB.
const AHEAD_CHUNKS_MAX: usize = 16;

/// Where an entry with records lies in its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DirectoryEntry {
    slot: Slot,
    base_offset: Offset,
    /// Of the entry's header, from the chunk's start.
    at: u32,
}

/// A chunk read back, with its directory.
#[derive(Debug)]
pub struct ColdChunk {
    bytes: Bytes,
    /// A clone lies in whatever was lent: `Bytes` do not say how many they are.
    lent: Arc<()>,
    /// By slot, then offset.
    directory: Vec<DirectoryEntry>,
}

/// The chunk is not what was written there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log {log}, position {}: {what}", span.base)]
pub struct ChunkError {
    pub log: LogId,
    pub span: ChunkSpan,
    pub what: String,
}

impl ColdChunk {
    /// Check block and entry headers and find the entries. Payloads are checked when they are served.
    fn parse(log: LogId, span: ChunkSpan, bytes: Bytes) -> Result<ColdChunk, ChunkError> {
        let error = |what: String| ChunkError { log, span, what };
        let mut directory = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let block = &bytes[at..];
            let header = BlockHeader::decode(block).map_err(|problem| error(problem.to_string()))?;
            let expected = span.base.plus(at as u64);
            if header.position != expected || header.log != log || header.stored_bytes() > block.len() {
                return Err(error(format!("found block {} of log {}", header.position, header.log)));
            }
            for entry in header.entries(block) {
                let (start, entry, _) = entry.map_err(|problem| error(problem.to_string()))?;
                if entry.kind.is_data() {
                    directory.push(DirectoryEntry {
                        slot: entry.slot,
                        base_offset: entry.base_offset,
                        at: (at + BLOCK_HEADER_BYTES + start) as u32,
                    });
                }
            }
            at += header.stored_bytes();
        }
        directory.sort_unstable();
        Ok(ColdChunk { bytes, lent: Arc::default(), directory })
    }

    /// The slot's entries in here from the one that holds `offset` on: where each lies, and its header; `None` if that
    /// is rotten.
    pub fn entries(&self, slot: Slot, offset: Offset) -> impl Iterator<Item = Option<(usize, EntryHeader)>> {
        let holds = |entry: &DirectoryEntry| (entry.slot, entry.base_offset) <= (slot, offset);
        let after = self.directory.partition_point(holds);
        let first = match after.checked_sub(1) {
            Some(before) if self.directory[before].slot == slot => before,
            _ => after,
        };
        let of_slot = self.directory[first..].iter().take_while(move |entry| entry.slot == slot);
        of_slot.map(|entry| {
            let at = entry.at as usize;
            Some((at, EntryHeader::decode(&self.bytes[at..]).ok()?))
        })
    }

    /// Readers hold parts of it.
    fn is_lent(&self) -> bool {
        Arc::strong_count(&self.lent) > 1
    }

    /// All of it, for readers: what they hold of this counts.
    pub fn lend(&self) -> Bytes {
        Bytes::from_owner(Lent { bytes: self.bytes.clone(), _counted: self.lent.clone() })
    }

    /// The payload of the entry at `at`, all of which is summed; `None` if it is rotten.
    pub fn payload(&self, at: usize, header: &EntryHeader) -> Option<Bytes> {
        let payload = header.payload(&self.bytes[at..]);
        header.check_payload(payload).ok()?;
        Some(self.bytes.slice_ref(payload))
    }
}

/// The owner of what readers hold of a chunk.
struct Lent {
    bytes: Bytes,
    _counted: Arc<()>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[derive(Debug)]
enum Cached {
    /// Nobody waits for it yet.
    Ahead,
    Wanted,
    Loading {
        bytes: usize,
    },
    Loaded {
        chunk: ColdChunk,
        used: u64,
        /// Nobody has looked at it since it came; it was the load of this number.
        unseen: Option<u64>,
    },
    /// Reading it failed. `old`: [`ReadCache::forget_failures`] has seen it before.
    Failed {
        old: bool,
    },
}

impl Cached {
    /// Memory that the chunk takes, now or as soon as it is read.
    fn bytes(&self) -> usize {
        match self {
            Cached::Loading { bytes } => *bytes,
            Cached::Loaded { chunk, .. } => chunk.bytes.len(),
            Cached::Ahead | Cached::Wanted | Cached::Failed { .. } => 0,
        }
    }
}

/// What a reader finds.
#[derive(Debug)]
pub enum Lookup<'a> {
    Loaded(&'a ColdChunk),
    /// It will be read; ask again when told that it was.
    Loading,
    Failed,
}

/// A chunk that must be read now, into `buf`.
#[derive(Debug)]
pub struct Load {
    pub id: ChunkId,
    pub span: ChunkSpan,
    pub buf: ChunkBuf,
}

#[derive(Debug)]
pub struct ReadCache {
    log: LogId,
    pool: ChunkPool,
    /// Of chunks that are too large for the pool, which hold one outsized batch each.
    unpooled_bytes_max: usize,
    cached: FxHashMap<ChunkId, Cached>,
    /// Somebody waits for these.
    wanted: VecDeque<(ChunkId, ChunkSpan)>,
    /// These are read when nobody waits for another: [`Cached::Ahead`].
    ahead: VecDeque<(ChunkId, ChunkSpan)>,
    given_up: Vec<ChunkId>,
    /// What is being read, and since when its piece is.
    loading: Vec<(ChunkId, Nanos)>,
    /// Chunks that readers hold parts of, at most; counted anew when it reaches its limit.
    lent: usize,
    lent_max: usize,
    /// Counts look-ups: the least recently used goes first.
    clock: u64,
    /// Chunks read, for metrics.
    pub loads: u64,
}

impl ReadCache {
    /// Keeps at most `cache_bytes`, and as much again of chunks that are larger than `chunk_bytes`, or a few of
    /// those that nobody has looked at.
    pub fn new(log: LogId, chunk_bytes: usize, cache_bytes: usize) -> ReadCache {
        let chunks = (cache_bytes / chunk_bytes).max(CHUNKS_MIN);
        ReadCache {
            log,
            pool: ChunkPool::new(chunk_bytes, chunks),
            unpooled_bytes_max: cache_bytes,
            cached: FxHashMap::default(),
            wanted: VecDeque::new(),
            ahead: VecDeque::new(),
            given_up: Vec::new(),
            loading: Vec::new(),
            lent: 0,
            lent_max: chunks / 2,
            clock: 0,
            loads: 0,
        }
    }

    /// Its pool, and the chunks of it that a full cache has.
    pub fn working_memory(&self) -> (ChunkPool, usize) {
        (self.pool.clone(), self.pool.chunks_max())
    }

    /// Find a chunk; if it is not here, it will be read.
    pub fn get(&mut self, id: ChunkId, span: ChunkSpan) -> Lookup<'_> {
        self.clock += 1;
        let clock = self.clock;
        let cached = self.cached.entry(id).or_insert(Cached::Ahead);
        if matches!(cached, Cached::Ahead) {
            *cached = Cached::Wanted;
            self.ahead.retain(|(ahead, _)| *ahead != id);
            self.wanted.push_back((id, span));
        }
        match cached {
            Cached::Loaded { chunk, used, unseen } => {
                (*used, *unseen) = (clock, None);
                Lookup::Loaded(chunk)
            }
            Cached::Ahead | Cached::Wanted | Cached::Loading { .. } => Lookup::Loading,
            Cached::Failed { .. } => Lookup::Failed,
        }
    }

    pub fn is_loaded(&self, id: ChunkId) -> bool {
        matches!(self.cached.get(&id), Some(Cached::Loaded { .. }))
    }

    /// Whether readers may hold parts of this chunk, or get copies. Half of the memory is never lent: slow
    /// readers would keep all others from reading.
    pub fn lend(&mut self, id: ChunkId) -> bool {
        match self.cached.get(&id) {
            Some(Cached::Loaded { chunk, .. }) if chunk.is_lent() => return true,
            Some(Cached::Loaded { .. }) => {}
            _ => return false,
        }
        if self.lent >= self.lent_max {
            self.lent = self.count_lent();
        }
        let lends = self.lent < self.lent_max;
        self.lent += usize::from(lends);
        lends
    }

    fn count_lent(&self) -> usize {
        let (mut here, mut lent) = (0, 0);
        for cached in self.cached.values() {
            here += usize::from((1..=self.pool.chunk_bytes()).contains(&cached.bytes()));
            lent += usize::from(matches!(cached, Cached::Loaded { chunk, .. } if chunk.is_lent()));
        }
        // Those that left the cache are with readers only.
        lent + self.pool.used().saturating_sub(here)
    }

    /// Memory of the cache, and of what left it while readers hold it.
    pub fn bytes(&self) -> u64 {
        (self.pool.used() * self.pool.chunk_bytes() + self.unpooled_bytes()) as u64
    }

    fn unpooled_bytes(&self) -> usize {
        self.cached.values().map(Cached::bytes).filter(|bytes| *bytes > self.pool.chunk_bytes()).sum()
    }

    /// How many chunks of the log behind the one that somebody reads are read ahead, at most. More than a
    /// part of the cache would push itself out before it is read.
    pub fn ahead_chunks(&self) -> u32 {
        (self.pool.chunks_max() / 4).min(AHEAD_CHUNKS_MAX) as u32
    }

    /// A chunk stays for so many loads after its own until somebody has looked at it: whoever waits for it may
    /// be on another shard, and would for ever find gone what it was told of.
    pub fn unseen_loads(&self) -> u64 {
        (self.pool.chunks_max() as u64 / 8).max(UNSEEN_LOADS_MIN)
    }

    /// Have this chunk read when nobody waits for another. Not if it is an outsized one: there is room for few.
    pub fn prefetch(&mut self, id: ChunkId, span: ChunkSpan) {
        if span.bytes as usize > self.pool.chunk_bytes() {
            return;
        }
        if self.ahead.len() < AHEAD_QUEUE_MAX && !self.cached.contains_key(&id) {
            self.cached.insert(id, Cached::Ahead);
            self.ahead.push_back((id, span));
        }
    }

    /// The next chunk to be read, when one is wanted, memory for it is there, and it is its turn.
    pub fn poll_load(&mut self, now: Nanos) -> Option<Load> {
        let (id, span) = *match self.loading[..] {
            [] => self.wanted.front().or(self.ahead.front())?,
            // What is to be read ahead may lie beside what is stuck, where it would be stuck as well.
            [(_, since)] if now >= since.plus(STUCK_AFTER) => self.wanted.front()?,
            _ => return None,
        };
        let bytes = (span.bytes as usize).next_multiple_of(PAGE_BYTES);
        let buf = if bytes > self.pool.chunk_bytes() {
            self.free_unpooled(bytes);
            ChunkBuf::unpooled(bytes)
        } else {
            self.take_memory()?
        };
        self.wanted.pop_front().or_else(|| self.ahead.pop_front());
        self.cached.insert(id, Cached::Loading { bytes });
        self.loading.push((id, now));
        Some(Load { id, span, buf })
    }

    /// A free chunk of memory, making one free if need be. `None` while all are being read.
    fn take_memory(&mut self) -> Option<ChunkBuf> {
        let chunk_bytes = self.pool.chunk_bytes();
        loop {
            if let Some(buf) = self.pool.take() {
                return Some(buf);
            }
            self.drop_oldest(|bytes| bytes <= chunk_bytes)?;
        }
    }

    /// Make room for a chunk of so many bytes that the pool has none for. What readers hold of others, or
    /// is being read, is bounded by their number.
    fn free_unpooled(&mut self, bytes: usize) {
        let chunk_bytes = self.pool.chunk_bytes();
        while self.unpooled_bytes() + bytes > self.unpooled_bytes_max {
            if self.drop_oldest(|bytes| bytes > chunk_bytes).is_none() {
                return;
            }
        }
    }

    /// Drop the least recently used of the chunks of such a size, if there is one to drop.
    fn drop_oldest(&mut self, of_size: impl Fn(usize) -> bool) -> Option<()> {
        let unseen_loads = self.unseen_loads();
        let awaited = |unseen: &Option<u64>| unseen.is_some_and(|number| self.loads - number < unseen_loads);
        let used = |cached: &Cached| match cached {
            // What readers hold is not free when it leaves the cache.
            Cached::Loaded { used, chunk, unseen }
                if of_size(chunk.bytes.len()) && !chunk.is_lent() && !awaited(unseen) =>
            {
                Some(*used)
            }
            _ => None,
        };
        let oldest = self.cached.iter().filter_map(|(id, cached)| Some((used(cached)?, *id))).min()?;
        self.cached.remove(&oldest.1);
        Some(())
    }

    /// A piece of the chunk is asked of the device.
    pub fn begin_piece(&mut self, id: ChunkId, now: Nanos) {
        self.loading.iter_mut().filter(|(loading, _)| *loading == id).for_each(|(_, since)| *since = now);
    }

    /// The log no longer has the chunk that was being read.
    pub fn abandon(&mut self, id: ChunkId) {
        self.loading.retain(|(loading, _)| *loading != id);
        self.cached.remove(&id);
    }

    /// The read of a chunk is over.
    pub fn on_loaded(
        &mut self,
        id: ChunkId,
        span: ChunkSpan,
        mut buf: ChunkBuf,
        result: std::io::Result<()>,
    ) -> Result<(), ChunkError> {
        self.loading.retain(|(loading, _)| *loading != id);
        self.loads += 1;
        let parsed = match result {
            Ok(()) => {
                buf.freeze(buf.capacity());
                ColdChunk::parse(self.log, span, buf.slice(0..span.bytes as usize))
            }
            Err(error) => Err(ChunkError { log: self.log, span, what: error.to_string() }),
        };
        self.clock += 1;
        match parsed {
            Ok(chunk) => {
                let (used, unseen) = (self.clock, Some(self.loads));
                self.cached.insert(id, Cached::Loaded { chunk, used, unseen });
                Ok(())
            }
            Err(error) => {
                self.cached.insert(id, Cached::Failed { old: false });
                Err(error)
            }
        }
    }

    /// Called now and then. A failure is forgotten the second time, and whoever asks then has the chunk
    /// read again: waiters of other shards learn by mail that the read is over, and must still find how.
    pub fn forget_failures(&mut self) {
        self.cached.retain(|_, cached| match cached {
            Cached::Failed { old } => !std::mem::replace(old, true),
            Cached::Ahead | Cached::Wanted | Cached::Loading { .. } | Cached::Loaded { .. } => true,
        });
    }

    /// The log no longer has chunks before `first`.
    pub fn drop_before(&mut self, first: ChunkId) {
        self.cached.retain(|id, cached| *id >= first || matches!(cached, Cached::Loading { .. }));
        self.ahead.retain(|(id, _)| *id >= first);
        let (kept, gone) = std::mem::take(&mut self.wanted).into_iter().partition(|(id, _)| *id >= first);
        self.wanted = kept;
        let gone: VecDeque<(ChunkId, ChunkSpan)> = gone;
        self.given_up.extend(gone.into_iter().map(|(id, _)| id));
    }

    /// Chunks that somebody wanted and that will not be read, since the last call.
    pub fn take_given_up(&mut self) -> Vec<ChunkId> {
        std::mem::take(&mut self.given_up)
    }
}

#[cfg(test)]
mod tests {
    use crate::model::Position;

    use super::*;

    fn span(id: u32) -> ChunkSpan {
        ChunkSpan { base: Position(u64::from(id) * 4096), bytes: 4096, live_runs: 1, live_bytes: 4096 }
    }

    #[test]
    fn what_somebody_waits_for_is_read_before_what_is_read_ahead() {
        let mut cache = ReadCache::new(LogId(1), 4096, 1 << 20);
        let id = ChunkId;
        for ahead in [2, 3, 4] {
            cache.prefetch(id(ahead), span(ahead));
        }
        for wanted in [9, 4, 9] {
            assert!(matches!(cache.get(id(wanted), span(wanted)), Lookup::Loading));
        }
        let mut order = Vec::new();
        while let Some(Load { id, span, buf }) = cache.poll_load(Nanos(0)) {
            assert!(cache.poll_load(Nanos(0)).is_none(), "one at a time");
            order.push(id.0);
            cache.on_loaded(id, span, buf, Err(std::io::ErrorKind::Other.into())).unwrap_err();
            cache.prefetch(id, span);
        }
        assert_eq!(order, [9, 4, 2, 3]);
    }

    #[test]
    fn a_read_that_is_stuck_lets_one_other_pass_at_a_time() {
        let mut cache = ReadCache::new(LogId(1), 4096, 1 << 20);
        let load = |cache: &mut ReadCache, now| cache.poll_load(Nanos(now));
        let end = |cache: &mut ReadCache, Load { id, span, buf }: Load| {
            cache.on_loaded(id, span, buf, Err(std::io::ErrorKind::Other.into())).unwrap_err();
        };
        let second = STUCK_AFTER.as_nanos() as u64;
        for wanted in 1..=5 {
            cache.get(ChunkId(wanted), span(wanted));
        }
        cache.prefetch(ChunkId(9), span(9));
        let stuck = load(&mut cache, 5).expect("the first");
        assert!(load(&mut cache, 4 + second).is_none(), "it may come yet");
        let passes = load(&mut cache, 5 + second).expect("another, beside it");
        assert_eq!((stuck.id, passes.id), (ChunkId(1), ChunkId(2)));
        assert!(load(&mut cache, 9 * second).is_none(), "never a third");
        end(&mut cache, passes);
        let passes = load(&mut cache, 9 * second).expect("the next");
        end(&mut cache, stuck);
        assert!(load(&mut cache, 10 * second - 1).is_none(), "one at a time again");
        end(&mut cache, passes);
        let stuck = load(&mut cache, 10 * second).expect("the fourth");
        let passes = load(&mut cache, 11 * second).expect("the last that somebody waits for");
        end(&mut cache, passes);
        assert!(load(&mut cache, 12 * second).is_none(), "what is read ahead does not pass");
        end(&mut cache, stuck);
        assert_eq!(load(&mut cache, 12 * second).map(|load| load.id), Some(ChunkId(9)));
    }

    #[test]
    fn what_is_read_ahead_of_a_log_that_moved_on_is_forgotten() {
        let mut cache = ReadCache::new(LogId(1), 4096, 1 << 20);
        cache.prefetch(ChunkId(2), span(2));
        cache.get(ChunkId(1), span(1));
        cache.drop_before(ChunkId(3));
        assert!(cache.poll_load(Nanos(0)).is_none());
        assert_eq!(cache.take_given_up(), [ChunkId(1)], "nobody waits for the other");
    }
}
