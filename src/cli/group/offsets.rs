//! What a group has committed: read, written, taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use anyhow::{Context, bail};
use serde::Serialize;

use super::unknown;
use crate::cli::client::check;
use crate::cli::cluster::Cluster;
use crate::cli::output::Output;
use crate::kafka::protocol::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::kafka::protocol::messages::offset_delete::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::kafka::protocol::messages::offset_fetch::OffsetFetchRequestGroup;
use crate::kafka::protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse,
};
use crate::kafka::protocol::{Array, ErrorCode};

/// `orders`, or `orders:0,3` for some of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPartitions {
    pub topic: String,
    pub partitions: Option<BTreeSet<i32>>,
}

impl FromStr for TopicPartitions {
    type Err = String;

    fn from_str(text: &str) -> Result<TopicPartitions, String> {
        let Some((topic, list)) = text.split_once(':') else {
            return Ok(TopicPartitions { topic: text.to_owned(), partitions: None });
        };
        let partition = |text: &str| text.trim().parse::<i32>().ok().filter(|partition| *partition >= 0);
        let partitions: Option<BTreeSet<i32>> = list.split(',').map(partition).collect();
        let partitions = partitions.ok_or("TOPIC or TOPIC:PARTITION,PARTITION,... is expected")?;
        Ok(TopicPartitions { topic: topic.to_owned(), partitions: Some(partitions) })
    }
}

/// Offsets by topic and partition.
pub type Offsets = BTreeMap<String, BTreeMap<i32, i64>>;

/// All that the group has committed.
pub fn committed(cluster: &mut Cluster, group: &str) -> anyhow::Result<Offsets> {
    // Up to version 7 for one group, since then for several; no topics stands for all.
    let asked = OffsetFetchRequestGroup { group_id: group, topics: None, ..Default::default() };
    let request = OffsetFetchRequest {
        group_id: group,
        topics: None,
        groups: Array::from_elem(asked, 1),
        ..Default::default()
    };
    cluster.of_group(group, |coordinator| fetched(coordinator.ask(&request)?, group))
}

fn fetched(response: OffsetFetchResponse<'_>, group: &str) -> anyhow::Result<Offsets> {
    let (code, topics) = match response.groups.first() {
        Some(group) => (group.error_code, &group.topics),
        None => (response.error_code, &response.topics),
    };
    let what = || format!("committed offsets of group {group:?}");
    check(code, None).with_context(what)?;
    let mut offsets = Offsets::new();
    for topic in topics {
        for partition in &topic.partitions {
            check(partition.error_code, None).with_context(what)?;
            if partition.committed_offset >= 0 {
                let of_topic = offsets.entry(topic.name.to_owned()).or_default();
                of_topic.insert(partition.partition_index, partition.committed_offset);
            }
        }
    }
    Ok(offsets)
}

/// Commits for a group without members.
pub fn commit(cluster: &mut Cluster, group: &str, offsets: &Offsets) -> anyhow::Result<()> {
    let topics = offsets.iter().map(|(name, partitions)| OffsetCommitRequestTopic {
        name,
        partitions: partitions
            .iter()
            .map(|(partition, offset)| OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: *offset,
                // Null is refused by old brokers.
                committed_metadata: Some(""),
                ..Default::default()
            })
            .collect(),
    });
    let request = OffsetCommitRequest { group_id: group, topics: topics.collect(), ..Default::default() };
    cluster.of_group(group, |coordinator| check_committed(&coordinator.ask(&request)?))
}

fn check_committed(response: &OffsetCommitResponse<'_>) -> anyhow::Result<()> {
    for topic in &response.topics {
        for partition in &topic.partitions {
            let place =
                || format!("commit for partition {} of topic {:?}", partition.partition_index, topic.name);
            if partition.error_code == ErrorCode::UNKNOWN_MEMBER_ID {
                return check(partition.error_code, Some("the group has got members meanwhile"))
                    .with_context(place);
            }
            check(partition.error_code, None).with_context(place)?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
pub struct DeletedOffsets {
    group: String,
    deleted: Vec<DeletedOffset>,
}

#[derive(Serialize)]
struct DeletedOffset {
    topic: String,
    partition: i32,
}

impl Output for DeletedOffsets {
    fn text(&self) -> String {
        if self.deleted.is_empty() {
            return format!("{} has committed nothing there\n", self.group);
        }
        let line = |one: &DeletedOffset| format!("{}:{} deleted\n", one.topic, one.partition);
        self.deleted.iter().map(line).collect()
    }
}

/// Takes back what the group has committed for these topics, as far as it has.
pub fn delete(
    cluster: &mut Cluster,
    group: &str,
    topics: &[TopicPartitions],
) -> anyhow::Result<DeletedOffsets> {
    let committed = committed(cluster, group)?;
    if committed.is_empty() && super::state_of(cluster, group)?.is_dead() {
        return unknown(cluster, group);
    }
    let mut asked: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for TopicPartitions { topic, partitions } in topics {
        let known = committed.get(topic).into_iter().flat_map(|known| known.keys().copied());
        let wanted = known.filter(|known| partitions.as_ref().is_none_or(|wanted| wanted.contains(known)));
        asked.entry(topic).or_default().extend(wanted);
    }
    asked.retain(|_, partitions| !partitions.is_empty());
    let mut result = DeletedOffsets { group: group.to_owned(), deleted: Vec::new() };
    if asked.is_empty() {
        return Ok(result);
    }
    let partition = |partition: &i32| OffsetDeleteRequestPartition { partition_index: *partition };
    let topics = asked.iter().map(|(name, partitions)| OffsetDeleteRequestTopic {
        name,
        partitions: partitions.iter().map(partition).collect(),
    });
    let request = OffsetDeleteRequest { group_id: group, topics: topics.collect() };
    result.deleted = cluster.of_group(group, |coordinator| deleted(&coordinator.ask(&request)?, group))?;
    Ok(result)
}

fn deleted(response: &OffsetDeleteResponse<'_>, group: &str) -> anyhow::Result<Vec<DeletedOffset>> {
    check(response.error_code, None).with_context(|| format!("delete offsets of group {group:?}"))?;
    let mut deleted = Vec::new();
    for topic in &response.topics {
        for one in &topic.partitions {
            if one.error_code == ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC {
                bail!(
                    "members of group {group:?} read topic {:?}: stop them first ({})",
                    topic.name,
                    one.error_code
                );
            }
            check(one.error_code, None).with_context(|| {
                format!("delete the offset of partition {} of topic {:?}", one.partition_index, topic.name)
            })?;
            deleted.push(DeletedOffset { topic: topic.name.to_owned(), partition: one.partition_index });
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_partitions() {
        let parsed = |text: &str| text.parse::<TopicPartitions>();
        let all = TopicPartitions { topic: "t".into(), partitions: None };
        let some = TopicPartitions { topic: "t".into(), partitions: Some([0, 3].into()) };
        assert_eq!(parsed("t"), Ok(all));
        assert_eq!(parsed("t:3,0,3"), Ok(some));
        for text in ["t:", "t:a", "t:1,", "t:-1", "t:99999999999"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
