//! Who waits for chunks that are being read.
//!
//! A reader of many partitions waits for many chunks, and looks at all of its partitions when it is woken. It
//! is woken when the last of them has come, and before that whenever so many have that the cache must not be
//! asked to keep more of them: a look for each chunk would cost more than the reading.

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
    /// In so many chunks.
    chunks: usize,
}

#[derive(Debug)]
pub struct ChunkWaiters {
    /// Each waiter once, however often it looks.
    by_chunk: FxHashMap<ChunkId, FxHashSet<Waiter>>,
    by_connection: FxHashMap<Connection, Wait>,
    /// So many chunks wake who still waits for others.
    together: usize,
}

impl ChunkWaiters {
    pub fn new(together: usize) -> ChunkWaiters {
        assert!(together > 0);
        let (by_chunk, by_connection) = Default::default();
        ChunkWaiters { by_chunk, by_connection, together }
    }

    pub fn wait(&mut self, chunk: ChunkId, waiter: Waiter) {
        if self.by_chunk.entry(chunk).or_default().insert(waiter) {
            self.by_connection.entry((waiter.shard, waiter.conn)).or_default().waiting += 1;
        }
    }

    /// The reading of a chunk is over.
    pub fn on_chunk(&mut self, chunk: ChunkId, woken: &mut Vec<Waiter>) {
        let mut came: Vec<Waiter> = self.by_chunk.remove(&chunk).into_iter().flatten().collect();
        came.sort_unstable();
        for waiters in came.chunk_by(|a, b| (a.shard, a.conn) == (b.shard, b.conn)) {
            let connection = (waiters[0].shard, waiters[0].conn);
            let wait = self.by_connection.get_mut(&connection).expect("counted when it began to wait");
            wait.waiting -= waiters.len();
            wait.came.extend(waiters);
            wait.chunks += 1;
            if wait.waiting == 0 || wait.chunks >= self.together {
                woken.append(&mut wait.came);
                wait.chunks = 0;
            }
            if wait.waiting == 0 {
                self.by_connection.remove(&connection);
            }
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
    fn who_waits_for_several_chunks_is_woken_by_the_last_or_by_many() {
        let mut waiters = ChunkWaiters::new(3);
        let on_chunk = |waiters: &mut ChunkWaiters, chunk| {
            let mut woken = Vec::new();
            waiters.on_chunk(ChunkId(chunk), &mut woken);
            woken.iter().map(|waiter| (waiter.conn.index, waiter.part)).collect::<Vec<_>>()
        };
        for chunk in 1..=5 {
            waiters.wait(ChunkId(chunk), waiter(0, chunk));
        }
        for _ in 0..2 {
            waiters.wait(ChunkId(2), waiter(1, 9));
        }
        assert_eq!(on_chunk(&mut waiters, 1), []);
        assert_eq!(on_chunk(&mut waiters, 2), [(1, 9)], "all that this one waits for");
        assert_eq!(on_chunk(&mut waiters, 7), [], "nobody's");
        assert_eq!(on_chunk(&mut waiters, 3), [(0, 1), (0, 2), (0, 3)], "three have come");
        assert_eq!(on_chunk(&mut waiters, 5), []);
        assert_eq!(on_chunk(&mut waiters, 4), [(0, 5), (0, 4)], "no others are to come");
        assert!(waiters.by_chunk.is_empty() && waiters.by_connection.is_empty());
    }
}
