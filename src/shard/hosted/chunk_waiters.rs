//! Who waits for chunks that are being read.
//!
//! A reader of many partitions waits for many chunks, and looks at all of its partitions when it is woken: a look
//! for each chunk would cost more than the reading. So it is woken when the last of them has come, or a few reads
//! after the first that it was not told of, as long as the cache surely keeps that.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::io::op::ConnId;
use crate::log::chunks::ChunkId;
use crate::model::ShardId;
use crate::partition::waiters::Waiter;

type Connection = (ShardId, ConnId);

/// What a connection waits for.
#[derive(Debug, Default)]
struct Wait {
    /// Those of its waiters whose chunk has not come.
    waiting: usize,
    /// Those whose chunk has, and who have not been told.
    came: Vec<Waiter>,
}

#[derive(Debug)]
pub struct ChunkWaiters {
    /// Each waiter once, however often it looks.
    by_chunk: FxHashMap<ChunkId, FxHashSet<Waiter>>,
    by_connection: FxHashMap<Connection, Wait>,
    /// Connections that have not been told of something, and the number of the read that was the first; in that
    /// order. Who was told meanwhile may be here still.
    untold: VecDeque<(u64, Connection)>,
    /// Nobody is told later than so many reads after the first.
    reads_max: u64,
    /// Reads that are over.
    reads: u64,
}

impl ChunkWaiters {
    pub fn new(reads_max: u64) -> ChunkWaiters {
        ChunkWaiters {
            by_chunk: FxHashMap::default(),
            by_connection: FxHashMap::default(),
            untold: VecDeque::new(),
            reads_max,
            reads: 0,
        }
    }

    pub fn wait(&mut self, chunk: ChunkId, waiter: Waiter) {
        if self.by_chunk.entry(chunk).or_default().insert(waiter) {
            self.by_connection.entry((waiter.shard, waiter.conn)).or_default().waiting += 1;
        }
    }

    /// The reading of a chunk is over.
    pub fn on_chunk(&mut self, chunk: ChunkId, woken: &mut Vec<Waiter>) {
        self.reads += 1;
        let mut came: Vec<Waiter> = self.by_chunk.remove(&chunk).into_iter().flatten().collect();
        came.sort_unstable();
        for waiters in came.chunk_by(|a, b| (a.shard, a.conn) == (b.shard, b.conn)) {
            let connection = (waiters[0].shard, waiters[0].conn);
            let wait = self.by_connection.get_mut(&connection).expect("counted when it began to wait");
            if wait.came.is_empty() {
                self.untold.push_back((self.reads, connection));
            }
            wait.waiting -= waiters.len();
            wait.came.extend(waiters);
            if wait.waiting == 0 {
                woken.append(&mut wait.came);
                self.by_connection.remove(&connection);
            }
        }
        while let Some((read, connection)) = self.untold.front()
            && read + self.reads_max <= self.reads
        {
            if let Some(wait) = self.by_connection.get_mut(connection) {
                woken.append(&mut wait.came);
            }
            self.untold.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(index: u32, part: u32) -> Waiter {
        Waiter { shard: ShardId(0), conn: ConnId { index, generation: 0 }, part }
    }

    #[test]
    fn who_waits_for_several_chunks_is_woken_by_the_last_or_after_a_few_reads() {
        let mut waiters = ChunkWaiters::new(2);
        let on_chunk = |waiters: &mut ChunkWaiters, chunk| {
            let mut woken = Vec::new();
            waiters.on_chunk(ChunkId(chunk), &mut woken);
            woken.iter().map(|waiter| (waiter.conn.index, waiter.part)).collect::<Vec<_>>()
        };
        for chunk in 1..=6 {
            waiters.wait(ChunkId(chunk), waiter(0, chunk));
        }
        for _ in 0..2 {
            waiters.wait(ChunkId(2), waiter(1, 9));
        }
        assert_eq!(on_chunk(&mut waiters, 1), []);
        assert_eq!(on_chunk(&mut waiters, 2), [(1, 9)], "all that this one waits for");
        assert_eq!(on_chunk(&mut waiters, 3), [(0, 1), (0, 2), (0, 3)], "two reads after the first");
        assert_eq!(on_chunk(&mut waiters, 5), []);
        assert_eq!(on_chunk(&mut waiters, 7), [], "nobody's");
        assert_eq!(on_chunk(&mut waiters, 8), [(0, 5)], "nobody's, but two reads after");
        assert_eq!(on_chunk(&mut waiters, 6), []);
        assert_eq!(on_chunk(&mut waiters, 4), [(0, 6), (0, 4)], "no others are to come");
        on_chunk(&mut waiters, 9);
        on_chunk(&mut waiters, 9);
        assert!(waiters.by_chunk.is_empty() && waiters.by_connection.is_empty() && waiters.untold.is_empty());
    }
}
