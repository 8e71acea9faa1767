//! Who waits for records of a partition: long polls, woken in the turn in which data becomes durable.
//!
//! A waiter is a connection of a shard. It is woken once and then looks for itself what there is; a
//! connection that waits again for the same partition replaces its earlier wait, so that the memory
//! is bounded by connections and partitions, not by how often clients poll. A wait outlives the request
//! that began it: the next one of a fetch session counts on it.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::io::op::ConnId;
use crate::model::{PartitionKey, ShardId, TopicId};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Waiter {
    pub shard: ShardId,
    pub conn: ConnId,
    /// The connection's own number for the partition, which comes back to it; [`NO_PART`] if it has none.
    pub part: u32,
}

/// The waiter does not want to know which partition has woken it.
pub const NO_PART: u32 = u32::MAX;

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

    /// Take everybody who waits for a partition of the topic.
    pub fn wake_topic(&mut self, topic: TopicId, woken: &mut Vec<Waiter>) {
        self.by_partition.retain(|key, waiters| {
            if key.topic == topic {
                woken.extend(waiters.drain(..));
            }
            key.topic != topic
        });
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

    #[test]
    fn a_connection_waits_once_for_a_partition_and_is_woken_once() {
        let key = PartitionKey { topic: TopicId([1; 16]), index: 0 };
        let waiter = |index, generation| Waiter {
            shard: ShardId(0),
            conn: ConnId { index, generation },
            part: 10 + generation,
        };
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

    #[test]
    fn a_topic_wakes_those_of_all_its_partitions() {
        let key = |topic, index| PartitionKey { topic: TopicId([topic; 16]), index };
        let waiter = |part| Waiter { shard: ShardId(0), conn: ConnId { index: 0, generation: 0 }, part };
        let mut waiters = Waiters::default();
        for (part, (topic, index)) in (0..).zip([(1, 0), (2, 0), (1, 1)]) {
            waiters.wait(key(topic, index), waiter(part));
        }
        let mut woken = Vec::new();
        waiters.wake_topic(TopicId([1; 16]), &mut woken);
        woken.sort_unstable();
        assert_eq!(woken, [waiter(0), waiter(2)]);
        waiters.wake(key(2, 0), &mut woken);
        assert!(waiters.is_empty());
    }
}
