//! Which log a new partition or group goes to. Made once: neither ever moves, logs do.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::base::crc::crc32c;
use crate::model::LogId;

/// What a log hosts so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogLoad {
    pub partition_count: u32,
}

/// Logs for `count` further partitions of a topic that has `existing` ones.
///
/// First the topic is spread evenly, since one topic's traffic comes at the same time; among equals
/// the log with the fewest partitions wins, then the lowest id. There must be a log.
pub fn place_partitions(loads: &BTreeMap<LogId, LogLoad>, existing: &[LogId], count: u32) -> Vec<LogId> {
    let mut of_topic: BTreeMap<LogId, u32> = BTreeMap::new();
    for log in existing {
        *of_topic.entry(*log).or_default() += 1;
    }
    let candidates = loads.iter().map(|(log, load)| {
        let of_topic = of_topic.get(log).copied().unwrap_or_default();
        Reverse((of_topic, load.partition_count, *log))
    });
    let mut candidates: BinaryHeap<_> = candidates.collect();

    let mut placed = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let mut least = candidates.peek_mut().expect("a broker has a data log");
        let Reverse((of_topic, partition_count, log)) = &mut *least;
        *of_topic += 1;
        *partition_count += 1;
        placed.push(*log);
    }
    placed
}

/// The log of a group that was assigned to none: by its name, so that nothing is to be kept of it (docs/FORMATS.md).
/// The data logs of a directory are those that it was made with. There must be one.
pub fn place_group(loads: &BTreeMap<LogId, LogLoad>, group: &str) -> LogId {
    let index = crc32c(group.as_bytes()) as usize % loads.len().max(1);
    *loads.keys().nth(index).expect("a broker has a data log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn loads(partition_counts: &[u32]) -> BTreeMap<LogId, LogLoad> {
        let load = |partition_count| LogLoad { partition_count };
        (1..).map(LogId).zip(partition_counts.iter().copied().map(load)).collect()
    }

    fn place(partition_counts: &[u32], existing: &[u32], count: u32) -> Vec<u32> {
        let existing: Vec<LogId> = existing.iter().copied().map(LogId).collect();
        place_partitions(&loads(partition_counts), &existing, count).iter().map(|log| log.0).collect()
    }

    #[test]
    fn spreads_the_topic_then_the_load() {
        assert_eq!(place(&[0, 0, 0], &[], 5), [1, 2, 3, 1, 2], "round robin");
        assert_eq!(place(&[9, 0, 5], &[], 4), [2, 3, 1, 2], "starts where the load is least");
        assert_eq!(place(&[0, 9], &[1], 2), [2, 1], "the topic comes before the load");
        assert_eq!(place(&[7], &[], 3), [1, 1, 1]);
        assert_eq!(place(&[7], &[], 0), [0u32; 0]);
    }

    proptest! {
        #[test]
        fn a_topic_is_always_even(counts in prop::collection::vec(0u32..50, 1..9), count in 0u32..100) {
            let placed = place(&counts, &[], count);
            let on = |log| placed.iter().filter(|placed| **placed == log).count();
            let of_logs: Vec<usize> = (1..=counts.len() as u32).map(on).collect();
            let (min, max) = (of_logs.iter().min().expect("a log"), of_logs.iter().max().expect("a log"));
            prop_assert!(max - min <= 1, "{of_logs:?}");
        }
    }
}
