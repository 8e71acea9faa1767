//! Who waits for records of a partition: long polls, woken in the turn in which data becomes durable.
//!
//! A waiter is a connection of a shard. It is woken once and then looks for itself what there is; a
//! connection that waits again for the same partition replaces its earlier wait, so that the memory
//! is bounded by connections and partitions, not by how often clients poll.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::io::op::ConnId;
use crate::model::{PartitionKey, ShardId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Waiter {
    pub shard: ShardId,
    pub conn: ConnId,
}

#[derive(Debug, Default)]
pub struct Waiters {
    by_partition: FxHashMap<PartitionKey, SmallVec<[Waiter; 2]>>,
}

impl Waiters {
    pub fn is_empty(&self) -> bool {
        self.by_partition.is_empty()
    }

    pub fn wait(&mut self, key: PartitionKey, waiter: Waiter) {
        let waiters = self.by_partition.entry(key).or_default();
        let same = |other: &&mut Waiter| other.shard == waiter.shard && other.conn.index == waiter.conn.index;
        match waiters.iter_mut().find(same) {
            Some(earlier) => *earlier = waiter,
            None => waiters.push(waiter),
        }
    }

    /// Take everybody who waits for the partition.
    pub fn wake(&mut self, key: PartitionKey, woken: &mut Vec<Waiter>) {
        if let Some(waiters) = self.by_partition.remove(&key) {
            woken.extend(waiters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;

    #[test]
    fn a_connection_waits_once_for_a_partition_and_is_woken_once() {
        let key = PartitionKey { topic: TopicId([1; 16]), index: 0 };
        let waiter = |index, generation| Waiter { shard: ShardId(0), conn: ConnId { index, generation } };
        let mut waiters = Waiters::default();
        waiters.wait(key, waiter(1, 1));
        waiters.wait(key, waiter(2, 1));
        waiters.wait(key, waiter(1, 2));
        let mut woken = Vec::new();
        waiters.wake(key, &mut woken);
        assert_eq!(woken, [waiter(1, 2), waiter(2, 1)]);
        waiters.wake(key, &mut woken);
        assert_eq!(woken.len(), 2);
        assert!(waiters.is_empty());
    }
}
