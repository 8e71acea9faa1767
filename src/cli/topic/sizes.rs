//! How many bytes partitions take, as the brokers that have them say.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};

use crate::cli::client::check;
use crate::cli::cluster::{Cluster, Topic};
use crate::kafka::protocol::Array;
use crate::kafka::protocol::messages::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsTopic};
use crate::kafka::protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

/// Bytes by topic and partition, as far as they are known.
#[derive(Default)]
pub struct Sizes {
    bytes: BTreeMap<String, BTreeMap<i32, u64>>,
    /// Why some are not, a line each.
    pub gaps: Vec<String>,
}

impl Sizes {
    /// Of one topic, or of all. Every broker is asked; one that does not answer, or may not, leaves a gap, which
    /// is no reason to show nothing at all.
    pub fn ask(cluster: &mut Cluster, of: Option<&Topic>) -> Sizes {
        let mut sizes = Sizes::default();
        for node in cluster.node_ids() {
            if let Err(error) = sizes.ask_node(cluster, node, of) {
                sizes.gaps.push(format!("no sizes from node {node}: {error:#}"));
            }
        }
        sizes
    }

    fn ask_node(&mut self, cluster: &mut Cluster, node: i32, of: Option<&Topic>) -> anyhow::Result<()> {
        let topics = of.map(|topic| {
            let partitions = topic.leaders.keys().copied().collect();
            Array::from_elem(DescribableLogDirTopic { topic: &topic.name, partitions }, 1)
        });
        let response: DescribeLogDirsResponse<'_> =
            cluster.node(node)?.ask(&DescribeLogDirsRequest { topics })?;
        check(response.error_code, None)?;
        // What older brokers say to somebody who may not ask.
        ensure!(!response.results.is_empty(), "it names no log directory");
        for dir in &response.results {
            match check(dir.error_code, None).with_context(|| format!("log directory {}", dir.log_dir)) {
                Ok(()) => dir.topics.iter().for_each(|topic| self.add(topic)),
                Err(error) => self.gaps.push(format!("no sizes from node {node}: {error:#}")),
            }
        }
        Ok(())
    }

    fn add(&mut self, topic: &DescribeLogDirsTopic<'_>) {
        let known = self.bytes.entry(topic.name.to_owned()).or_default();
        // A copy that is to take another's place is no part of the topic yet.
        for one in topic.partitions.iter().filter(|one| !one.is_future_key) {
            let bytes = u64::try_from(one.partition_size).unwrap_or(0);
            // Of several replicas the largest: the others are behind.
            let known = known.entry(one.partition_index).or_default();
            *known = bytes.max(*known);
        }
    }

    pub fn partition(&self, topic: &str, partition: i32) -> Option<u64> {
        self.bytes.get(topic)?.get(&partition).copied()
    }

    /// `None` unless it is known of every partition.
    pub fn topic(&self, topic: &Topic) -> Option<u64> {
        let mut sizes = topic.leaders.keys().map(|partition| self.partition(&topic.name, *partition));
        sizes.try_fold(0_u64, |sum, bytes| Some(sum.saturating_add(bytes?)))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::cli::cluster::Leader;
    use crate::kafka::protocol::messages::describe_log_dirs::DescribeLogDirsPartition;

    fn told<'a>(name: &'a str, sizes: &[(i32, i64, bool)]) -> DescribeLogDirsTopic<'a> {
        let partition =
            |(partition_index, partition_size, is_future_key): &(i32, i64, bool)| DescribeLogDirsPartition {
                partition_index: *partition_index,
                partition_size: *partition_size,
                is_future_key: *is_future_key,
                ..Default::default()
            };
        DescribeLogDirsTopic { name, partitions: sizes.iter().map(partition).collect() }
    }

    #[test]
    fn replicas_count_once_and_a_topic_needs_all_its_partitions() {
        let topic = |name: &str, partitions: i32| Topic {
            name: name.into(),
            id: Uuid::nil(),
            leaders: (0..partitions).map(|partition| (partition, Leader { node: 1, epoch: 0 })).collect(),
        };
        let mut sizes = Sizes::default();
        sizes.add(&told("a", &[(0, 10, false), (1, 7, false)]));
        sizes.add(&told("a", &[(0, 9, false), (1, 8, false), (0, 99, true)]));
        sizes.add(&told("b", &[(0, i64::MAX, false), (1, i64::MAX, false), (2, i64::MAX, false)]));
        sizes.add(&told("c", &[(0, -1, false)]));
        assert_eq!([0, 1, 2].map(|partition| sizes.partition("a", partition)), [Some(10), Some(8), None]);
        let topics = [topic("a", 2), topic("a", 3), topic("b", 3), topic("c", 1), topic("d", 1)];
        let expected = [Some(18), None, Some(u64::MAX), Some(0), None];
        assert_eq!(topics.map(|topic| sizes.topic(&topic)), expected);
    }
}
