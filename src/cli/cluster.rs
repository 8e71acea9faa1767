//! A cluster as commands need it: whom to ask about a partition, and whom about a group.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use uuid::Uuid;

use super::client::{Client, check, is_refusal, only};
use super::output::did_you_mean;
use crate::kafka::protocol::messages::find_coordinator::key_type;
use crate::kafka::protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic, timestamp};
use crate::kafka::protocol::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use crate::kafka::protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, ListOffsetsRequest, ListOffsetsResponse,
    MetadataRequest, MetadataResponse,
};
use crate::kafka::protocol::{Array, ErrorCode};

/// What passes by itself is asked again, for ten seconds.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(200);

/// The coordinator is being loaded, or has moved, or the topic that it lives by is being made.
const COORDINATOR_SOON: [ErrorCode; 3] = [
    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode::COORDINATOR_NOT_AVAILABLE,
    ErrorCode::NOT_COORDINATOR,
];

/// The leader is being chosen, or has moved, or has not yet heard of what the controller has decided. Nothing was
/// read. What was to be written may be there nevertheless, if the leader moved before its replicas had it.
const LEADER_SOON: [ErrorCode; 9] = [
    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode::LEADER_NOT_AVAILABLE,
    ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ErrorCode::REPLICA_NOT_AVAILABLE,
    ErrorCode::FENCED_LEADER_EPOCH,
    ErrorCode::UNKNOWN_LEADER_EPOCH,
    ErrorCode::OFFSET_NOT_AVAILABLE,
    ErrorCode::UNKNOWN_TOPIC_ID,
    ErrorCode::INCONSISTENT_TOPIC_ID,
];

/// How long a command waits for what it has done to be seen. Brokers hear of a change after it was answered; most do
/// within milliseconds.
const SEEN_TRIES: u32 = 100;
const SEEN_PAUSE: Duration = Duration::from_millis(50);

// No doc comment: it would be the help of the commands that have this.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// A broker of the cluster to ask, or several with commas: the first that answers is asked. Without TLS or SASL
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
#[derive(Clone, Debug)]
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

    /// Fails where there is no such partition.
    pub fn find(&self, partition: i32) -> anyhow::Result<Leader> {
        let found = self.leaders.get(&partition).copied();
        found.with_context(|| {
            format!("topic {:?} has no partition {partition}, only {}", self.name, self.leaders.len())
        })
    }

    pub fn leader(&self, partition: i32) -> anyhow::Result<i32> {
        let leader = self.find(partition)?.node;
        if leader < 0 {
            let says = format!("partition {partition} of topic {:?} has no leader now", self.name);
            check(ErrorCode::LEADER_NOT_AVAILABLE, Some(&says))?;
        }
        Ok(leader)
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
        patiently(&[ErrorCode::LEADER_NOT_AVAILABLE], || self.ask_topic(name))
    }

    /// The same, asked once: for what is asked again as a whole.
    pub fn ask_topic(&mut self, name: &str) -> anyhow::Result<Option<Topic>> {
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
        let topic = Topic { name: name.to_owned(), ..Topic::new(topic) };
        let brokers = response.brokers.iter().map(|one| (one.node_id, address(one.host, one.port)));
        let brokers: Vec<(i32, String)> = brokers.collect();
        drop(response);
        // One that has come since leads something, perhaps.
        self.addresses.extend(brokers);
        Ok(Some(topic))
    }

    /// Asks the coordinator of a group, whoever that is by then.
    pub fn of_group<T>(
        &mut self,
        group: &str,
        mut ask: impl FnMut(&mut Client) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        patiently(&COORDINATOR_SOON, || ask(self.coordinator(group)?))
    }

    /// Asks every node about the groups that it coordinates.
    pub fn of_groups<T>(
        &mut self,
        mut ask: impl FnMut(&mut Client) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<T>> {
        let nodes = self.node_ids().into_iter();
        nodes.map(|node| patiently(&COORDINATOR_SOON, || ask(self.node(node)?))).collect()
    }

    /// Asks leaders of a topic, and looks anew for them when one says that it is none.
    pub fn of_topic<T>(
        &mut self,
        topic: &mut Topic,
        mut ask: impl FnMut(&mut Cluster, &Topic) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut is_first = true;
        patiently(&LEADER_SOON, || {
            if !is_first {
                let known = self.ask_topic(&topic.name)?;
                let Some(known) = known.filter(|known| known.id == topic.id) else {
                    bail!("topic {:?} has been deleted", topic.name);
                };
                *topic = known;
            }
            is_first = false;
            ask(self, topic)
        })
    }

    /// Waits until a change can be seen. It is made, so that it is no failure if it cannot.
    pub fn await_seen(&mut self, mut seen: impl FnMut(&mut Cluster) -> anyhow::Result<bool>) {
        for attempt in 1..=SEEN_TRIES {
            match seen(self) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) if is_refusal(&error, &LEADER_SOON) => {}
                Err(_) => return,
            }
            if attempt < SEEN_TRIES {
                std::thread::sleep(SEEN_PAUSE);
            }
        }
    }

    /// Waits until a topic that was made or has grown can be used.
    pub fn await_topic(&mut self, name: &str, partitions: usize) {
        self.await_seen(|cluster| {
            let Some(topic) = cluster.ask_topic(name)? else { return Ok(false) };
            let all: Vec<i32> = topic.leaders.keys().copied().collect();
            let answers = cluster.ask_offsets(&topic, &all, timestamp::LATEST)?;
            Ok(all.len() >= partitions && answers.values().all(|(code, _)| !code.is_error()))
        });
    }

    /// The connection to the node that coordinates a group.
    fn coordinator(&mut self, group: &str) -> anyhow::Result<&mut Client> {
        let request = FindCoordinatorRequest {
            key: group,
            key_type: key_type::GROUP,
            coordinator_keys: Array::from_elem(group, 1),
        };
        let response: FindCoordinatorResponse<'_> = self.bootstrap.ask(&request)?;
        // Up to version 3 there is one, beside the array.
        let (code, message, node, address) = match response.coordinators.first() {
            Some(one) => (one.error_code, one.error_message, one.node_id, address(one.host, one.port)),
            None => {
                let FindCoordinatorResponse { node_id, host, port, .. } = response;
                (response.error_code, response.error_message, node_id, address(host, port))
            }
        };
        check(code, message).with_context(|| format!("find the coordinator of group {group:?}"))?;
        drop(response);
        self.addresses.insert(node, address);
        self.node(node)
    }

    /// The first offset at or after a time, or at one of the ends; -1 where there is none.
    pub fn offsets(
        &mut self,
        topic: &Topic,
        partitions: &[i32],
        timestamp: i64,
    ) -> anyhow::Result<BTreeMap<i32, i64>> {
        let answers = self.offset_answers(topic, partitions, timestamp)?;
        all_offsets(topic, partitions, &answers)
    }

    /// The same, asked once: for what is asked again as a whole.
    pub fn offsets_now(
        &mut self,
        topic: &Topic,
        partitions: &[i32],
        timestamp: i64,
    ) -> anyhow::Result<BTreeMap<i32, i64>> {
        let answers = self.ask_offsets(topic, partitions, timestamp)?;
        all_offsets(topic, partitions, &answers)
    }

    /// The same as the leaders say it: an error, or an offset.
    pub fn offset_answers(
        &mut self,
        topic: &Topic,
        partitions: &[i32],
        timestamp: i64,
    ) -> anyhow::Result<OffsetAnswers> {
        let mut answers = OffsetAnswers::new();
        let asked = self.of_topic(&mut topic.clone(), |cluster, topic| {
            let is_open =
                |partition: &&i32| answers.get(*partition).is_none_or(|(code, _)| LEADER_SOON.contains(code));
            let open: Vec<i32> = partitions.iter().filter(is_open).copied().collect();
            answers.extend(cluster.ask_offsets(topic, &open, timestamp)?);
            let mut codes = answers.values().map(|(code, _)| *code);
            codes.find(|code| LEADER_SOON.contains(code)).map_or(Ok(()), |code| check(code, None))
        });
        match asked {
            // It did not pass.
            Err(error) if is_refusal(&error, &LEADER_SOON) && answers.len() == partitions.len() => {
                Ok(answers)
            }
            asked => asked.map(|()| answers),
        }
    }

    fn ask_offsets(
        &mut self,
        topic: &Topic,
        partitions: &[i32],
        timestamp: i64,
    ) -> anyhow::Result<OffsetAnswers> {
        let mut answers = OffsetAnswers::new();
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

/// An offset for each partition, or what is wrong with one of them.
fn all_offsets(
    topic: &Topic,
    partitions: &[i32],
    answers: &OffsetAnswers,
) -> anyhow::Result<BTreeMap<i32, i64>> {
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

/// Tries until it succeeds, is refused for another reason than these, or has been refused for long.
fn patiently<T>(soon: &[ErrorCode], mut attempt: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if is_refusal(&error, soon) => std::thread::sleep(PAUSE),
            decided => return decided,
        }
    }
    attempt()
}

/// By partition.
type OffsetAnswers = BTreeMap<i32, (ErrorCode, i64)>;

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
    fn what_passes_by_itself_is_asked_again() {
        let mut asked = 0;
        let mut answer = |codes: &[ErrorCode]| {
            asked = 0;
            let result = patiently(&COORDINATOR_SOON, || {
                asked += 1;
                check(codes[asked - 1], None).context("asked").context("a group")
            });
            (asked, result.map_err(|error| format!("{error:#}")))
        };
        let (moved, denied) = (ErrorCode::NOT_COORDINATOR, ErrorCode::GROUP_AUTHORIZATION_FAILED);
        assert_eq!(answer(&[ErrorCode::NONE]), (1, Ok(())));
        let loading = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
        assert_eq!(answer(&[moved, loading, ErrorCode::NONE]), (3, Ok(())));
        let error = format!("a group: asked: {denied}");
        assert_eq!(answer(&[moved, denied]), (2, Err(error)));
    }

    #[test]
    fn addresses() {
        assert_eq!(address("::1", 9092), "[::1]:9092");
        assert_eq!(address("broker", 9092), "broker:9092");
    }
}
