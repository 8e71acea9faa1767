//! Consume queues: where the records of each slot lie. Offset and time to position.
//!
//! Two levels per slot, both in memory and rebuilt from the log and its checkpoint:
//!
//! - *tail*: every entry whose chunk is in memory, 24 bytes each; gone when the chunk leaves memory.
//! - *runs*: one per chunk in which the slot has entries, 32 bytes each: enough to know which chunk
//!   to read. Where in it is the directory of the chunk once it has been read ([`super::reader`]).
//!
//! So memory grows with (chunks × active slots), not with records or batches, and an idle slot costs
//! the two queues, empty, or with [`TAIL_KEPT`] places once it was written. Runs carry the largest
//! timestamp: they are the time index as well.

use std::cell::Cell;
use std::collections::VecDeque;

use crate::base::mutant::{self, Mutant};
use crate::base::prefetch::prefetch;
use crate::model::{Offset, Position, Slot};

use super::chunks::ChunkId;

/// Places that a slot keeps whose entries have left memory, 24 bytes each.
const TAIL_KEPT: usize = 4;

/// The entries of one slot in one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub base_offset: Offset,
    pub max_timestamp: i64,
    /// When the newest of them was appended, in seconds since 1970: a timestamp from the future
    /// must not keep it alive.
    pub append_seconds: u32,
    pub chunk: ChunkId,
    /// Of the log, entry headers included.
    pub bytes: u32,
}

/// One entry whose chunk is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailEntry {
    pub base_offset: Offset,
    pub position: Position,
    pub payload_bytes: u32,
    pub chunk: ChunkId,
}

/// A durable entry with records, as the log applies it.
#[derive(Clone, Copy, Debug)]
pub struct AppliedEntry {
    pub slot: Slot,
    pub base_offset: Offset,
    pub end_offset: Offset,
    pub position: Position,
    pub payload_bytes: u32,
    pub stored_bytes: u32,
    pub max_timestamp: i64,
    pub append_seconds: u32,
    pub chunk: ChunkId,
}

#[derive(Debug, Default)]
pub struct Queue {
    runs: VecDeque<Run>,
    /// Index of the run that was found last, or of one near it: who reads the past goes on from there, and a search
    /// among thousands of runs touches ten cache lines that nobody else does.
    found: Cell<u32>,
    tail: VecDeque<TailEntry>,
    end_offset: Offset,
    bytes: u64,
}

/// Where to look for an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// In memory, at this entry.
    Tail(TailEntry),
    /// In this chunk, which must be read.
    Chunk(ChunkId),
}

impl Queue {
    /// Bytes of the log that hold the slot's records, from its first run on.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// One past the last durable record.
    pub fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// The first offset that still lies in the log.
    pub fn start_offset(&self) -> Offset {
        self.runs.front().map_or(self.end_offset, |run| run.base_offset)
    }

    pub fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> + ExactSizeIterator {
        self.runs.iter()
    }

    /// Apply a durable entry. Returns whether it is the slot's first in its chunk.
    fn apply(&mut self, entry: &AppliedEntry, in_memory: bool) -> bool {
        assert!(entry.base_offset >= self.end_offset, "a slot's offsets only grow");
        self.end_offset = entry.end_offset;
        self.bytes += u64::from(entry.stored_bytes);
        if in_memory {
            self.tail.push_back(TailEntry {
                base_offset: entry.base_offset,
                position: entry.position,
                payload_bytes: entry.payload_bytes,
                chunk: entry.chunk,
            });
        }
        match self.runs.back_mut() {
            Some(run) if run.chunk == entry.chunk => {
                run.max_timestamp = run.max_timestamp.max(entry.max_timestamp);
                run.append_seconds = run.append_seconds.max(entry.append_seconds);
                run.bytes += entry.stored_bytes;
                false
            }
            _ => {
                self.runs.push_back(Run {
                    base_offset: entry.base_offset,
                    max_timestamp: entry.max_timestamp,
                    append_seconds: entry.append_seconds,
                    chunk: entry.chunk,
                    bytes: entry.stored_bytes,
                });
                true
            }
        }
    }

    /// Where the first entry lies that ends after `offset`; `None` at or beyond the end.
    pub fn find(&self, offset: Offset) -> Option<Found> {
        if offset >= self.end_offset {
            return None;
        }
        if self.in_tail(offset) {
            let after = self.tail.partition_point(|entry| entry.base_offset <= offset);
            return Some(Found::Tail(self.tail[after - 1]));
        }
        Some(Found::Chunk(self.runs.get(self.index_of(offset))?.chunk))
    }

    /// Index of the run that holds `offset`, or of the first if that begins behind it: the begin of its entry may have
    /// been cut off. 0 also when there is none.
    fn index_of(&self, offset: Offset) -> usize {
        let from = self.found.get() as usize;
        let holds = |index: &usize| {
            self.runs.get(*index).is_some_and(|run| run.base_offset <= offset)
                && offset < self.run_end(*index)
        };
        let index = (from..from + 2).find(holds).unwrap_or_else(|| {
            let after = self.runs.partition_point(|run| run.base_offset <= offset);
            after.saturating_sub(1)
        });
        self.found.set(index as u32);
        index
    }

    /// Entries in memory from the one that holds `offset` on.
    pub fn tail_from(&self, offset: Offset) -> impl Iterator<Item = &TailEntry> {
        let after = self.tail.partition_point(|entry| entry.base_offset <= offset);
        self.tail.range(after.saturating_sub(1)..)
    }

    /// The entry that holds `offset` is in memory.
    pub fn in_tail(&self, offset: Offset) -> bool {
        self.tail.front().is_some_and(|entry| entry.base_offset <= offset)
    }

    /// The run's chunk is in memory. Those of its entries that lie before the queue's start need not be.
    pub fn run_in_tail(&self, run: &Run) -> bool {
        if mutant::is(Mutant::ReadOpenChunkFromDevice) {
            return self.tail.front().is_some_and(|entry| entry.chunk < run.chunk);
        }
        self.tail.front().is_some_and(|entry| entry.chunk <= run.chunk)
    }

    /// Runs from the one that holds `offset` on.
    pub fn runs_from(&self, offset: Offset) -> impl Iterator<Item = &Run> {
        self.runs.range(self.index_of(offset)..)
    }

    /// The first run with a record at or after `timestamp`, at or after `from`.
    pub fn run_at_or_after(&self, timestamp: i64, from: Offset) -> Option<Run> {
        self.runs_from(from).find(|run| run.max_timestamp >= timestamp).copied()
    }

    /// The first run behind `run` with a record at or after `timestamp`.
    pub fn run_after(&self, run: Run, timestamp: i64) -> Option<Run> {
        let after = self.runs.partition_point(|other| other.base_offset <= run.base_offset);
        self.runs.range(after..).find(|run| run.max_timestamp >= timestamp).copied()
    }

    /// One past the last record of the run with this index.
    fn run_end(&self, index: usize) -> Offset {
        self.runs.get(index + 1).map_or(self.end_offset, |next| next.base_offset)
    }

    /// The first offset that retention would keep: whole runs are dropped from the front while
    /// `expired` says so of the run, given the bytes that the queue would still have without it.
    pub fn retained_from(&self, mut expired: impl FnMut(&Run, u64) -> bool) -> Option<Offset> {
        let mut left = self.bytes;
        let mut keep = None;
        for (index, run) in self.runs.iter().enumerate() {
            left -= u64::from(run.bytes);
            if !expired(run, left) {
                break;
            }
            keep = Some(self.run_end(index));
        }
        keep
    }

    /// Records below `start` are dead: runs that hold nothing else are handed to `dead`.
    pub fn drop_before(&mut self, start: Offset, mut dead: impl FnMut(Run)) {
        let whole = mutant::is(Mutant::DropWholeRun);
        let dies = |queue: &Queue, run: &Run| queue.run_end(0) <= start || whole && run.base_offset < start;
        while self.runs.front().is_some_and(|run| dies(self, run)) {
            let run = self.runs.pop_front().expect("not empty");
            self.bytes -= u64::from(run.bytes);
            dead(run);
        }
        while self.tail.len() > 1 && self.tail[1].base_offset <= start {
            self.tail.pop_front();
        }
        if self.end_offset <= start {
            self.tail.clear();
        }
    }

    /// An entry will be applied to this queue or leave it, which [`ConsumeQueues::prefetch`] has brought near.
    fn prefetch_ends(&self) {
        self.runs.back().into_iter().for_each(prefetch);
        self.tail.iter().take(1).for_each(prefetch);
        self.tail.back().into_iter().for_each(prefetch);
    }

    fn evict_before(&mut self, end: Position) {
        while self.tail.front().is_some_and(|entry| entry.position < end) {
            self.tail.pop_front();
        }
        // With many partitions most have one entry in memory at a time, whose place would be allocated and freed
        // with each append.
        if self.tail.is_empty() {
            self.tail.shrink_to(TAIL_KEPT);
        }
    }
}

/// The queues of all slots of a log.
#[derive(Debug, Default)]
pub struct ConsumeQueues {
    queues: Vec<Queue>,
}

impl ConsumeQueues {
    pub fn get(&self, slot: Slot) -> Option<&Queue> {
        self.queues.get(slot.0 as usize)
    }

    pub fn get_mut(&mut self, slot: Slot) -> &mut Queue {
        let index = slot.0 as usize;
        if index >= self.queues.len() {
            self.queues.resize_with(index + 1, Queue::default);
        }
        &mut self.queues[index]
    }

    /// Entries of these slots will be applied or leave memory: ask for what that touches, the queues first and then
    /// their ends.
    pub fn prefetch(&self, slots: impl Iterator<Item = Slot> + Clone) {
        slots.clone().filter_map(|slot| self.get(slot)).for_each(prefetch);
        slots.filter_map(|slot| self.get(slot)).for_each(Queue::prefetch_ends);
    }

    /// From a checkpoint.
    pub fn restore(&mut self, slot: Slot, runs: VecDeque<Run>, end_offset: Offset) {
        let bytes = runs.iter().map(|run| u64::from(run.bytes)).sum();
        *self.get_mut(slot) = Queue { runs, end_offset, bytes, ..Queue::default() };
    }

    /// Returns whether the entry is its slot's first in its chunk.
    pub fn apply(&mut self, entry: &AppliedEntry, in_memory: bool) -> bool {
        self.get_mut(entry.slot).apply(entry, in_memory)
    }

    /// The chunk that ended at `end` left memory; `slots` had entries in it.
    pub fn evict(&mut self, end: Position, slots: &[Slot]) {
        self.prefetch(slots.iter().copied());
        for &slot in slots {
            self.get_mut(slot).evict_before(end);
        }
    }

    /// The slot is closed, its partition deleted: all runs are handed to `dead`.
    pub fn remove(&mut self, slot: Slot, dead: impl FnMut(Run)) {
        std::mem::take(self.get_mut(slot)).runs.into_iter().for_each(dead);
    }

    /// Forget runs in chunks before `first`, whose segments are gone.
    pub fn drop_chunks_before(&mut self, first: ChunkId) {
        for queue in &mut self.queues {
            while queue.runs.front().is_some_and(|run| run.chunk < first) {
                let run = queue.runs.pop_front().expect("not empty");
                queue.bytes -= u64::from(run.bytes);
            }
        }
    }

    /// All slots that ever had an entry.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Slot, &Queue)> {
        self.queues.iter().enumerate().map(|(slot, queue)| (Slot(slot as u32), queue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(base: i64, count: u32, position: u64, chunk: u32, timestamp: i64) -> AppliedEntry {
        AppliedEntry {
            slot: Slot(1),
            base_offset: Offset(base),
            end_offset: Offset(base).plus(count),
            position: Position(position),
            payload_bytes: 60,
            stored_bytes: 100,
            max_timestamp: timestamp,
            append_seconds: timestamp as u32,
            chunk: ChunkId(chunk),
        }
    }

    fn queue() -> Queue {
        let mut queue = Queue::default();
        assert!(queue.apply(&entry(0, 10, 96, 1, 50), true));
        assert!(!queue.apply(&entry(10, 5, 196, 1, 40), true));
        assert!(queue.apply(&entry(15, 5, 4192, 2, 90), true));
        assert!(queue.apply(&entry(20, 1, 8288, 3, 60), true));
        queue
    }

    #[test]
    fn offsets_are_found_in_memory_and_then_by_chunk() {
        let mut queue = queue();
        let found = |queue: &Queue, offset| match queue.find(Offset(offset)) {
            Some(Found::Tail(entry)) => format!("tail {}", entry.base_offset),
            Some(Found::Chunk(chunk)) => format!("chunk {}", chunk.0),
            None => "none".into(),
        };
        assert_eq!(found(&queue, 12), "tail 10");
        queue.evict_before(Position(4096));
        assert_eq!(found(&queue, 0), "chunk 1");
        assert_eq!(found(&queue, 14), "chunk 1");
        assert_eq!(found(&queue, 15), "tail 15");
        assert_eq!(found(&queue, 20), "tail 20");
        assert_eq!(found(&queue, 21), "none");
    }

    #[test]
    fn a_run_is_found_wherever_one_has_looked_before() {
        const RUNS: i64 = 40;
        let mut queue = Queue::default();
        for run in 0..RUNS {
            // Of one record to three.
            let (base, count) = (queue.end_offset().0, 1 + run as u32 % 3);
            queue.apply(&entry(base, count, 0, run as u32, run), false);
        }
        for dropped in [0, 3, 20] {
            queue.drop_before(Offset(dropped), |_| ());
            let holds = |run: &Run, offset| run.base_offset <= offset;
            for (offset, before) in
                (0..queue.end_offset().0).flat_map(|at| (0..RUNS as u32).map(move |b| (at, b)))
            {
                queue.found.set(before);
                let offset = Offset(offset);
                let expected = queue.runs().rfind(|run| holds(run, offset)).or(queue.runs().next());
                let expected = expected.map(|run| Found::Chunk(run.chunk));
                assert_eq!(queue.find(offset), expected, "offset {offset} after {before}, {dropped} dropped");
                assert_eq!(queue.runs_from(offset).next().map(|run| Found::Chunk(run.chunk)), expected);
            }
        }
    }

    #[test]
    fn a_run_whose_front_is_dead_stays_in_memory_with_its_chunk() {
        let mut queue = queue();
        queue.drop_before(Offset(12), |_| panic!("the run holds more"));
        let in_tail = |queue: &Queue| queue.runs().map(|run| queue.run_in_tail(run)).collect::<Vec<_>>();
        assert_eq!(in_tail(&queue), [true, true, true]);
        queue.evict_before(Position(4096));
        assert_eq!(in_tail(&queue), [false, true, true]);
    }

    #[test]
    fn time_finds_the_first_run_that_reaches_it() {
        let queue = queue();
        let run = |timestamp| queue.run_at_or_after(timestamp, Offset(0)).map(|run| run.chunk.0);
        assert_eq!((run(45), run(51), run(91)), (Some(1), Some(2), None));
    }

    #[test]
    fn retention_drops_whole_runs_from_the_front() {
        let mut queue = queue();
        assert_eq!(queue.bytes(), 400);
        assert_eq!(queue.retained_from(|run, _| run.max_timestamp < 55), Some(Offset(15)));
        assert_eq!(queue.retained_from(|_, left| left >= 100), Some(Offset(20)));
        assert_eq!(queue.retained_from(|_, _| false), None);
        let mut dead = Vec::new();
        queue.drop_before(Offset(15), |run| dead.push(run.chunk.0));
        assert_eq!((queue.bytes(), queue.runs().len()), (200, 2));
        queue.drop_before(Offset(21), |run| dead.push(run.chunk.0));
        assert_eq!((queue.bytes(), queue.find(Offset(20))), (0, None));
        assert_eq!(dead, [1, 2, 3]);
    }
}
