//! A cluster as commands need it: whom to ask about a partition, and whom about a group.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use uuid::Uuid;

use super::client::{Client, check, only};
use super::output::did_you_mean;
use crate::kafka::protocol::messages::find_coordinator::key_type;
use crate::kafka::protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use crate::kafka::protocol::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use crate::kafka::protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, ListOffsetsRequest, ListOffsetsResponse,
    MetadataRequest, MetadataResponse,
};
use crate::kafka::protocol::{Array, ErrorCode};

/// A coordinator that is being loaded, or whose topic is being made, is asked again.
const COORDINATOR_TRIES: u32 = 50;
const COORDINATOR_PAUSE: Duration = Duration::from_millis(200);

// No doc comment: it would be the help of the commands that have this.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// A broker of the cluster to ask, or several with commas: the first that answers is asked
    #[arg(long, global = true, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    pub bootstrap: String,
}

/// Connections to the brokers of a cluster, made when they are needed.
pub struct Cluster {
    bootstrap: Client,
    controller: i32,
    addresses: BTreeMap<i32, String>,
    nodes: BTreeMap<i32, Client>,
}

/// A topic and who leads its partitions.
#[derive(Debug)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
    /// By partition.
    pub leaders: BTreeMap<i32, Leader>,
}

#[derive(Clone, Copy, Debug)]
pub struct Leader {
    /// -1 for none.
    pub node: i32,
    /// How often it has changed; -1 where the broker does not say.
    pub epoch: i32,
}

impl Topic {
    fn new(topic: &MetadataResponseTopic<'_>) -> Topic {
        let leaders = topic
            .partitions
            .iter()
            .map(|one| (one.partition_index, Leader { node: one.leader_id, epoch: one.leader_epoch }));
        let name = topic.name.unwrap_or_default().to_owned();
        Topic { name, id: topic.topic_id, leaders: leaders.collect() }
    }

    pub fn leader(&self, partition: i32) -> anyhow::Result<i32> {
        match self.leaders.get(&partition).map(|leader| leader.node) {
            None => bail!("topic {:?} has no partition {partition}, only {}", self.name, self.leaders.len()),
            Some(i32::MIN..0) => bail!("partition {partition} of topic {:?} has no leader now", self.name),
            Some(node) => Ok(node),
        }
    }

    /// Partitions by the node that leads them.
    pub fn by_leader(&self, partitions: &[i32]) -> anyhow::Result<BTreeMap<i32, Vec<i32>>> {
        let mut found: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            found.entry(self.leader(*partition)?).or_default().push(*partition);
        }
        Ok(found)
    }
}

impl Cluster {
    pub fn connect(bootstrap: &str) -> anyhow::Result<Cluster> {
        let mut bootstrap = Client::connect(bootstrap)?;
        let request = MetadataRequest { topics: Some(Array::new()), ..Default::default() };
        let response: MetadataResponse<'_> = bootstrap.ask(&request)?;
        let brokers = response.brokers.iter();
        let addresses = brokers.map(|broker| (broker.node_id, address(broker.host, broker.port))).collect();
        let controller = response.controller_id;
        drop(response);
        Ok(Cluster { bootstrap, controller, addresses, nodes: BTreeMap::new() })
    }

    /// The broker that we came to, for what any can answer.
    pub fn any(&mut self) -> &mut Client {
        &mut self.bootstrap
    }

    /// Who makes and unmakes topics. Brokers of today pass it on, so that it need not be within our reach; older
    /// ones refuse.
    pub fn controller(&mut self) -> &mut Client {
        if self.node(self.controller).is_err() {
            return &mut self.bootstrap;
        }
        self.node(self.controller).expect("connected above")
    }

    pub fn node_ids(&self) -> Vec<i32> {
        self.addresses.keys().copied().collect()
    }

    /// The connection to a node.
    pub fn node(&mut self, id: i32) -> anyhow::Result<&mut Client> {
        let address = self.addresses.get(&id);
        let address = address.with_context(|| format!("the cluster names no address of node {id}"))?;
        if address == self.bootstrap.address() {
            return Ok(&mut self.bootstrap);
        }
        match self.nodes.entry(id) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let client = Client::connect_to(address)
                    .with_context(|| format!("node {id} of the cluster says that it is at {address}"))?;
                Ok(unknown.insert(client))
            }
        }
    }

    /// A topic by its name; an error that helps if there is none.
    pub fn topic(&mut self, name: &str) -> anyhow::Result<Topic> {
        if let Some(topic) = self.find_topic(name)? {
            return Ok(topic);
        }
        let known = self.topics()?;
        let nearest = did_you_mean(name, known.iter().map(|topic| topic.name.as_str()));
        bail!("there is no topic {name:?}{nearest}")
    }

    /// All topics, by name.
    pub fn topics(&mut self) -> anyhow::Result<Vec<Topic>> {
        let response: MetadataResponse<'_> = self.bootstrap.ask(&MetadataRequest::default())?;
        let mut topics: Vec<Topic> = response.topics.iter().map(Topic::new).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// `None`: there is no such topic.
    pub fn find_topic(&mut self, name: &str) -> anyhow::Result<Option<Topic>> {
        let topic = MetadataRequestTopic { name: Some(name), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(Array::from_elem(topic, 1)),
            // Looking must not create.
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response: MetadataResponse<'_> = self.bootstrap.ask(&request)?;
        let topic = only(&response.topics, "the topic")?;
        if topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
            return Ok(None);
        }
        check(topic.error_code, None).with_context(|| format!("topic {name:?}"))?;
        Ok(Some(Topic { name: name.to_owned(), ..Topic::new(topic) }))
    }

    /// The connection to the node that coordinates a group.
    pub fn coordinator(&mut self, group: &str) -> anyhow::Result<&mut Client> {
        let request = FindCoordinatorRequest {
            key: group,
            key_type: key_type::GROUP,
            coordinator_keys: Array::from_elem(group, 1),
        };
        for attempt in 1.. {
            let response: FindCoordinatorResponse<'_> = self.bootstrap.ask(&request)?;
            // Up to version 3 there is one, beside the array.
            let (code, message, node, address) = match response.coordinators.first() {
                Some(one) => (one.error_code, one.error_message, one.node_id, address(one.host, one.port)),
                None => {
                    let FindCoordinatorResponse { node_id, host, port, .. } = response;
                    (response.error_code, response.error_message, node_id, address(host, port))
                }
            };
            let soon = [ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS];
            if soon.contains(&code) && attempt < COORDINATOR_TRIES {
                std::thread::sleep(COORDINATOR_PAUSE);
                continue;
            }
            check(code, message).with_context(|| format!("find the coordinator of group {group:?}"))?;
            drop(response);
            self.addresses.insert(node, address);
            return self.node(node);
        }
        unreachable!("the last attempt returns")
    }

    /// The first offset at or after a time, or at one of the ends; -1 where there is none.
    pub fn offsets(
        &mut self,
        topic: &Topic,
        partitions: &[i32],
        timestamp: i64,
    ) -> anyhow::Result<BTreeMap<i32, i64>> {
        let answers = self.offset_answers(topic, partitions, timestamp)?;
        let offset = |partition: &i32| {
            let answer = answers.get(partition).with_context(|| {
                format!("the broker says nothing about partition {partition} of topic {:?}", topic.name)
            })?;
            let (code, offset) = *answer;
            check(code, None)
                .with_context(|| format!("offsets of partition {partition} of topic {:?}", topic.name))?;
            Ok((*partition, offset))
        };
        partitions.iter().map(offset).collect()
    }

    /// The same as the leaders say it: an error, or an offset.
    pub fn offset_answers(
        &mut self,
        topic: &Topic,
        partitions: &[i32],
        timestamp: i64,
    ) -> anyhow::Result<BTreeMap<i32, (ErrorCode, i64)>> {
        let mut answers = BTreeMap::new();
        for (leader, partitions) in topic.by_leader(partitions)? {
            let asked = partitions.iter().map(|partition| ListOffsetsPartition {
                partition_index: *partition,
                timestamp,
                ..Default::default()
            });
            let asked = ListOffsetsTopic { name: &topic.name, partitions: asked.collect() };
            let request = ListOffsetsRequest { topics: Array::from_elem(asked, 1), ..Default::default() };
            let response: ListOffsetsResponse<'_> = self.node(leader)?.ask(&request)?;
            let answered = response.topics.iter().flat_map(|topic| &topic.partitions);
            answers.extend(answered.map(|one| (one.partition_index, (one.error_code, one.offset))));
        }
        Ok(answers)
    }
}

fn address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_have_leaders() {
        let leaders = [1, 2, 1, -1].map(|node| Leader { node, epoch: 7 });
        let topic = Topic { name: "t".into(), id: Uuid::nil(), leaders: (0..).zip(leaders).collect() };
        let found = topic.by_leader(&[2, 1, 0]).expect("they have leaders");
        assert_eq!(found, BTreeMap::from([(1, vec![2, 0]), (2, vec![1])]));
        for (partition, says) in [(3, "no leader now"), (4, "has no partition 4, only 4"), (-1, "-1")] {
            let error = topic.by_leader(&[partition]).expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(address("::1", 9092), "[::1]:9092");
        assert_eq!(address("broker", 9092), "broker:9092");
    }
}
