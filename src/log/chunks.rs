//! Chunks: the log cut into pieces of whole blocks, each of which is read, cached and indexed as one.
//!
//! A chunk is what was once the append buffer. The newest ones stay in memory as the *tail*, which
//! is what nearly all consumers are served from; older ones are read back from their segment when
//! somebody asks ([`super::reader`]). The table of all chunks is 24 bytes per chunk.
//! It counts what is alive: a segment all of whose chunks are dead is recycled.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::model::{Position, Slot};

/// Numbers the chunks of a log, from 1 in its life; the index refers to chunks by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub u32);

/// Where a chunk lies, within one segment, and what of it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSpan {
    pub base: Position,
    /// Up to the end of its last durable block.
    pub bytes: u32,
    /// Runs of the consume queues in here. Without any the chunk is dead.
    pub live_runs: u32,
    pub live_bytes: u32,
}

impl ChunkSpan {
    pub fn end(&self) -> Position {
        self.base.plus(u64::from(self.bytes))
    }
}

/// A chunk that is in memory.
#[derive(Debug)]
struct TailChunk {
    id: ChunkId,
    base: Position,
    /// All of it, once it is closed for appends.
    bytes: Option<Bytes>,
    /// Slots with a durable entry in here, once each: whose index changes when the chunk leaves memory.
    slots: Vec<Slot>,
}

#[derive(Debug)]
pub struct Chunks {
    /// Spans of all chunks that the log still has, by id from `first`. A span reaches to the end of
    /// the chunk's durable blocks.
    spans: VecDeque<ChunkSpan>,
    first: ChunkId,
    /// The newest chunks; only the last may be open.
    tail: VecDeque<TailChunk>,
    tail_bytes: usize,
    tail_bytes_max: usize,
}

impl Chunks {
    /// `spans` are the chunks that the log has on disk, the first of which has the id `first`.
    pub fn new(first: ChunkId, spans: VecDeque<ChunkSpan>, tail_bytes_max: usize) -> Chunks {
        Chunks { spans, first, tail: VecDeque::new(), tail_bytes: 0, tail_bytes_max }
    }

    pub fn first(&self) -> ChunkId {
        self.first
    }

    pub fn spans(&self) -> impl ExactSizeIterator<Item = &ChunkSpan> {
        self.spans.iter()
    }

    fn index(&self, id: ChunkId) -> Option<usize> {
        Some(id.0.checked_sub(self.first.0)? as usize)
    }

    /// The durable part of a chunk.
    pub fn span(&self, id: ChunkId) -> Option<ChunkSpan> {
        self.spans.get(self.index(id)?).copied()
    }

    /// The chunk whose durable part holds `position`, if the log still has it.
    pub fn find(&self, position: Position) -> Option<(ChunkId, ChunkSpan)> {
        let after = self.spans.partition_point(|span| span.base <= position);
        let index = after.checked_sub(1)?;
        let span = self.spans[index];
        (position < span.end()).then_some((ChunkId(self.first.0 + index as u32), span))
    }

    /// A chunk that recovery found on disk; it is not in memory.
    pub fn append_on_disk(&mut self, base: Position) -> ChunkId {
        assert!(self.tail.is_empty(), "recovery is over when the first chunk is opened");
        let id = ChunkId(self.first.0 + self.spans.len() as u32);
        self.spans.push_back(ChunkSpan { base, bytes: 0, live_runs: 0, live_bytes: 0 });
        id
    }

    /// A run of `bytes` in chunk `id`, from a checkpoint.
    pub fn restore_live(&mut self, id: ChunkId, bytes: u32) {
        self.add_live(id, bytes, true);
    }

    /// A new chunk takes blocks from now on.
    pub fn open(&mut self, base: Position) -> ChunkId {
        let id = ChunkId(self.first.0 + self.spans.len() as u32);
        self.spans.push_back(ChunkSpan { base, bytes: 0, live_runs: 0, live_bytes: 0 });
        self.tail.push_back(TailChunk { id, base, bytes: None, slots: Vec::new() });
        id
    }

    /// The newest chunk takes no more blocks; it stays in memory for now.
    pub fn close(&mut self, bytes: Bytes) {
        let chunk = self.tail.back_mut().expect("a chunk is open");
        assert!(chunk.bytes.is_none());
        self.tail_bytes += bytes.len();
        chunk.bytes = Some(bytes);
    }

    /// The log is durable up to `end`, a block of which lies in chunk `id`.
    pub fn extend(&mut self, id: ChunkId, end: Position) {
        let index = self.index(id).expect("the chunk of a fresh block is there");
        let span = &mut self.spans[index];
        span.bytes = span.bytes.max(end.since(span.base) as u32);
    }

    /// An entry of `bytes` in chunk `id` is alive; `first` if it begins a run.
    pub fn add_live(&mut self, id: ChunkId, bytes: u32, first: bool) {
        let index = self.index(id).expect("the chunk of a fresh entry is there");
        let span = &mut self.spans[index];
        span.live_bytes += bytes;
        span.live_runs += u32::from(first);
    }

    /// A run of `bytes` in chunk `id` died.
    pub fn remove_live(&mut self, id: ChunkId, bytes: u32) {
        if let Some(index) = self.index(id) {
            let span = &mut self.spans[index];
            span.live_bytes -= bytes;
            span.live_runs -= 1;
        }
    }

    /// Is everything between these positions dead?
    pub fn is_dead(&self, start: Position, end: Position) -> bool {
        let first = self.spans.partition_point(|span| span.base < start);
        self.spans.range(first..).take_while(|span| span.base < end).all(|span| span.live_runs == 0)
    }

    /// The first durable entry of `slot` in chunk `id`, which is in memory.
    pub fn note_slot(&mut self, id: ChunkId, slot: Slot) {
        let chunk = self.tail.iter_mut().rev().find(|chunk| chunk.id == id);
        chunk.expect("a chunk stays in memory until it is applied").slots.push(slot);
    }

    /// The oldest chunk leaves memory when it is closed and applied and there are more bytes than
    /// the budget (or `force`). Returns where it ended and whose index it was part of.
    pub fn evict(&mut self, applied: Position, force: bool) -> Option<(Position, Vec<Slot>)> {
        let oldest = self.tail.front()?;
        let bytes = oldest.bytes.as_ref()?.len();
        let end = oldest.base.plus(bytes as u64);
        if end > applied || (self.tail_bytes <= self.tail_bytes_max && !force) {
            return None;
        }
        let chunk = self.tail.pop_front().expect("looked at above");
        self.tail_bytes -= bytes;
        Some((end, chunk.slots))
    }

    /// How many chunks are in memory, the open one included.
    pub fn in_memory(&self) -> usize {
        self.tail.len()
    }

    /// The bytes of the closed in-memory chunk that holds `position`, and its base.
    pub fn in_tail(&self, position: Position) -> Option<(Position, &Bytes)> {
        let after = self.tail.partition_point(|chunk| chunk.base <= position);
        let chunk = self.tail.get(after.checked_sub(1)?)?;
        let bytes = chunk.bytes.as_ref()?;
        (position.since(chunk.base) < bytes.len() as u64).then_some((chunk.base, bytes))
    }

    /// Drop what lies before `start`: the segment that held it is gone.
    pub fn drop_before(&mut self, start: Position) {
        while self.spans.front().is_some_and(|span| span.bytes > 0 && span.end() <= start) {
            self.spans.pop_front();
            self.first.0 += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_found_by_position_until_their_segment_is_gone() {
        let mut chunks = Chunks::new(ChunkId(5), VecDeque::new(), 0);
        let first = chunks.open(Position(0));
        assert_eq!(chunks.find(Position(0)), None, "nothing is durable yet");
        chunks.extend(first, Position(4096));
        chunks.extend(first, Position(8192));
        chunks.close(Bytes::from(vec![0; 8192]));
        let second = chunks.open(Position(8192));
        chunks.extend(second, Position(12288));
        assert_eq!((first, second), (ChunkId(5), ChunkId(6)));
        assert_eq!(chunks.find(Position(8191)).unwrap().0, first);
        assert_eq!(chunks.find(Position(8192)).unwrap().0, second);
        assert_eq!(chunks.find(Position(12288)), None);
        chunks.drop_before(Position(8192));
        assert_eq!((chunks.find(Position(0)), chunks.first()), (None, second));
        assert_eq!(chunks.span(second).unwrap().end(), Position(12288));
        assert_eq!(chunks.span(first), None);
    }

    #[test]
    fn the_oldest_chunk_leaves_memory_when_durable_and_over_budget() {
        let mut chunks = Chunks::new(ChunkId(1), VecDeque::new(), 4096);
        for base in [0, 4096] {
            let id = chunks.open(Position(base));
            chunks.extend(id, Position(base + 4096));
            chunks.note_slot(id, Slot(base as u32));
            chunks.close(Bytes::from(vec![0; 4096]));
        }
        assert!(chunks.evict(Position(0), false).is_none(), "not durable");
        assert_eq!(chunks.evict(Position(8192), false), Some((Position(4096), vec![Slot(0)])));
        assert!(chunks.evict(Position(8192), false).is_none(), "within the budget");
        assert!(chunks.in_tail(Position(0)).is_none());
        assert!(chunks.in_tail(Position(5000)).is_some());
        assert!(chunks.evict(Position(8192), true).is_some());
    }
}
