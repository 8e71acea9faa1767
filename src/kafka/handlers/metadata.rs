//! Metadata: the brokers, the topics, and who leads which partition.
//!
//! A topic that is asked for by name and does not exist is made, if broker and client allow that, and is
//! in the response, ready for use. Each costs a record of the metadata log, so a request makes a limited
//! number of them; the others are not there yet, and their clients ask again.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::identity::Node;
use crate::kafka::protocol::messages::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::kafka::protocol::messages::{MetadataRequest, MetadataResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{Array, ErrorCode, Message, operations};
use crate::metadata::topic::{Topic, validate_name};
use crate::model::{LogId, TopicId};
use crate::shard::call::{AdminCall, AdminError, Answer, Call};

/// First version in which the topic ids of requests count, and names may be null. (Version 10 has both
/// fields already.)
const BY_ID_SINCE: i16 = 12;

/// Topics that one request may make. They share a few writes, but each is a record that every shard applies.
const CREATED_MAX: usize = 100;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: MetadataRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let allowed = Allowed::asked_by(&request);
    let topics = match request.topics {
        // Version 0 has no null: there, an empty array means all.
        Some(topics) if version > 0 || !topics.is_empty() => topics,
        _ => {
            let all = ctx.catalog.topics().map(|topic| describe(ctx, topic, allowed));
            respond(ctx, version, all.collect(), allowed, out);
            return Outcome::Reply;
        }
    };
    let may_create = request.allow_auto_topic_creation && ctx.settings.auto_create_topics;
    let asked = Vec::with_capacity(topics.len());
    let mut pending = Metadata { version, asked, created: Vec::new(), allowed };
    let mut calls = Vec::new();
    let mut seen = BTreeSet::new();
    for topic in &topics {
        let mut asked = Asked::new(version, topic);
        // Each topic once, however often it is named: it can be made only once, and may be large.
        if !seen.insert(asked.key.clone()) {
            continue;
        }
        if may_create && let Some(name) = asked.missing_name(ctx) {
            if calls.len() < CREATED_MAX {
                calls.push((LogId::METADATA, create(name)));
                pending.created.push(pending.asked.len());
            } else {
                asked.refused = Some(ErrorCode::LEADER_NOT_AVAILABLE);
            }
        }
        pending.asked.push(asked);
    }
    wait(ctx, calls, pending, out)
}

/// A topic that comes into being because somebody asked for it has the broker's defaults.
fn create(name: &str) -> Call {
    Call::Admin(AdminCall::CreateTopic {
        name: name.to_owned(),
        partitions: -1,
        replication: -1,
        configs: Vec::new(),
        validate_only: false,
    })
}

/// What the client may do with a topic and with the cluster, where it asks for that.
#[derive(Clone, Copy)]
struct Allowed {
    topic: i32,
    cluster: i32,
}

impl Allowed {
    fn asked_by(request: &MetadataRequest<'_>) -> Self {
        let (topic, cluster) =
            (request.include_topic_authorized_operations, request.include_cluster_authorized_operations);
        Self {
            topic: operations::if_asked(topic, operations::ALL_OF_TOPIC),
            cluster: operations::if_asked(cluster, operations::ALL_OF_CLUSTER),
        }
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Name(String),
    Id(TopicId),
}

/// A topic of the request.
struct Asked {
    key: Key,
    /// Why there is no use in looking for it.
    refused: Option<ErrorCode>,
}

impl Asked {
    fn new(version: i16, topic: &MetadataRequestTopic<'_>) -> Self {
        let has_id = !topic.topic_id.is_nil();
        if version < BY_ID_SINCE && (topic.name.is_none() || has_id) {
            let key = Key::Name(topic.name.unwrap_or_default().to_owned());
            return Self { key, refused: Some(ErrorCode::INVALID_REQUEST) };
        }
        match topic.name {
            Some(name) if !has_id => {
                let refused = validate_name(name).is_err().then_some(ErrorCode::INVALID_TOPIC_EXCEPTION);
                Self { key: Key::Name(name.to_owned()), refused }
            }
            _ => Self { key: Key::Id(TopicId(topic.topic_id.into_bytes())), refused: None },
        }
    }

    /// The name of a topic that does not exist but could.
    fn missing_name(&self, ctx: &Context<'_>) -> Option<&str> {
        match &self.key {
            Key::Name(name) if self.refused.is_none() && ctx.catalog.topic(name).is_none() => Some(name),
            Key::Name(_) | Key::Id(_) => None,
        }
    }

    fn response<'a>(&'a self, ctx: &Context<'a>, allowed: Allowed) -> MetadataResponseTopic<'a> {
        let (topic, absent) = match &self.key {
            Key::Name(name) => (ctx.catalog.topic(name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Key::Id(id) => (ctx.catalog.topic_by_id(*id), ErrorCode::UNKNOWN_TOPIC_ID),
        };
        if let Some(topic) = topic
            && self.refused.is_none()
        {
            return describe(ctx, topic, allowed);
        }
        let error_code = self.refused.unwrap_or(absent);
        match &self.key {
            Key::Name(name) => {
                let mut response =
                    MetadataResponseTopic { error_code, name: Some(name), ..Default::default() };
                // As Kafka does: of a topic that is not there, too, but not where the request is a mistake.
                if error_code != ErrorCode::INVALID_REQUEST {
                    response.topic_authorized_operations = allowed.topic;
                }
                response
            }
            Key::Id(id) => {
                let topic_id = Uuid::from_bytes(id.0);
                MetadataResponseTopic { error_code, topic_id, ..Default::default() }
            }
        }
    }
}

struct Metadata {
    version: i16,
    asked: Vec<Asked>,
    /// Which of the above call `part` makes.
    created: Vec<usize>,
    allowed: Allowed,
}

impl Pending for Metadata {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::CreateTopic(result) = answer else { unexpected(&answer) };
        self.asked[self.created[part as usize]].refused = match result {
            // Somebody else was faster: it is, or soon will be, in the catalog.
            Ok(_) | Err(AdminError::TopicExists) => None,
            // Clients ask again.
            Err(AdminError::Log(_)) => Some(ErrorCode::LEADER_NOT_AVAILABLE),
            Err(error) => Some(errors::of_admin(&error)),
        };
        Vec::new()
    }

    fn encode(&mut self, ctx: &Context<'_>, out: &mut Writer<'_>) {
        let topics = self.asked.iter().map(|asked| asked.response(ctx, self.allowed));
        respond(ctx, self.version, topics.collect(), self.allowed, out);
    }
}

fn respond<'a>(
    ctx: &Context<'a>,
    version: i16,
    topics: Array<MetadataResponseTopic<'a>>,
    allowed: Allowed,
    out: &mut Writer<'_>,
) {
    let broker = |node: Node<'a>| MetadataResponseBroker {
        node_id: node.id,
        host: node.host,
        port: node.port.into(),
        rack: None,
    };
    let response = MetadataResponse {
        brokers: ctx.broker.advertised().map(broker).collect(),
        cluster_id: Some(&ctx.broker.cluster_id),
        controller_id: ctx.broker.controller().id,
        topics,
        cluster_authorized_operations: allowed.cluster,
        ..Default::default()
    };
    response.encode(out, version);
}

fn describe<'a>(ctx: &Context<'_>, topic: &'a Topic, allowed: Allowed) -> MetadataResponseTopic<'a> {
    let partitions = topic.partitions().map(|(partition, log)| {
        let leader_id = ctx.broker.of_log(log).id;
        MetadataResponsePartition {
            partition_index: partition.index,
            leader_id,
            leader_epoch: ctx.log_term(log),
            replica_nodes: Array::from_elem(leader_id, 1),
            isr_nodes: Array::from_elem(leader_id, 1),
            ..Default::default()
        }
    });
    MetadataResponseTopic {
        name: Some(&topic.name),
        topic_id: Uuid::from_bytes(topic.id.0),
        partitions: partitions.collect(),
        topic_authorized_operations: allowed.topic,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode, topic_id};
    use crate::kafka::protocol::ApiKey;
    use crate::metadata::record::MetaRecord;
    use crate::shard::call::{CallError, CreatedTopic};

    fn ask_for<'a>(names: &[&'a str]) -> MetadataRequest<'a> {
        let topics = names.iter().map(|name| MetadataRequestTopic { name: Some(name), ..Default::default() });
        MetadataRequest { topics: Some(topics.collect()), ..Default::default() }
    }

    /// Name, error and number of partitions of each topic.
    fn topics_of(body: &[u8], version: i16) -> Vec<(Option<String>, i16, usize)> {
        let response: MetadataResponse<'_> = decode(body, version);
        let topic = |topic: &MetadataResponseTopic<'_>| {
            (topic.name.map(str::to_owned), topic.error_code.0, topic.partitions.len())
        };
        response.topics.iter().map(topic).collect()
    }

    fn named(name: &str, error: i16, partitions: usize) -> (Option<String>, i16, usize) {
        (Some(name.to_owned()), error, partitions)
    }

    fn created(name: &str, id: TopicId) -> MetaRecord {
        let (name, partitions) = (name.to_owned(), vec![LogId(1)]);
        MetaRecord::TopicCreated { id, name, configs: Vec::new(), partitions }
    }

    #[test]
    fn all_or_none() {
        let world = World::with_topics(&["b", "a"]);
        let all = [named("a", 0, 3), named("b", 0, 3)];
        let null = MetadataRequest::default();
        for version in ApiKey::Metadata.versions() {
            let of_empty = topics_of(&world.reply(version, &ask_for(&[])), version);
            assert_eq!(of_empty, if version == 0 { &all[..] } else { &[] });
            assert_eq!(topics_of(&world.reply(version, &null), version), all);
        }
    }

    #[test]
    fn a_partition_is_led_here_in_its_logs_term() {
        let body = World::with_topics(&["a"]).reply(13, &ask_for(&["a"]));
        let response: MetadataResponse<'_> = decode(&body, 13);
        assert_eq!((response.cluster_id, response.controller_id), (Some("cluster"), 7));
        let broker = &response.brokers[0];
        assert_eq!((broker.node_id, broker.host, broker.port), (7, "broker.test", 9092));
        let topic = &response.topics[0];
        assert_eq!(topic.topic_id.into_bytes(), topic_id("a").0);
        assert_eq!((topic.is_internal, topic.topic_authorized_operations), (false, i32::MIN));
        let epochs: Vec<i32> = topic.partitions.iter().map(|partition| partition.leader_epoch).collect();
        assert_eq!(epochs, [5, 6, 5]);
        for (index, partition) in (0..).zip(&topic.partitions) {
            assert_eq!((partition.partition_index, partition.leader_id), (index, 7));
            assert_eq!(
                (partition.replica_nodes.as_slice(), partition.isr_nodes.as_slice()),
                (&[7][..], &[7][..])
            );
        }
    }

    #[test]
    fn each_log_is_a_broker_that_leads_its_partitions() {
        let body = World::with_topics(&["a"]).advertise_logs().reply(13, &ask_for(&["a"]));
        let response: MetadataResponse<'_> = decode(&body, 13);
        let brokers = response.brokers.iter().map(|broker| (broker.node_id, broker.host, broker.port));
        let brokers: Vec<_> = brokers.collect();
        assert_eq!(brokers, [(101, "broker.test", 9201), (102, "broker.test", 9202)]);
        assert_eq!(response.controller_id, 101);
        for (partition, (leader, epoch)) in
            response.topics[0].partitions.iter().zip([(101, 5), (102, 6), (101, 5)])
        {
            assert_eq!((partition.leader_id, partition.leader_epoch), (leader, epoch));
            assert_eq!(partition.replica_nodes.as_slice(), [leader]);
            assert_eq!(partition.isr_nodes.as_slice(), [leader]);
        }
    }

    #[test]
    fn a_missing_topic_is_made_and_answered_ready() {
        let world = World::with_topics(&["a"]);
        let request = ask_for(&["new", "a", "new", "x y", "", "busy", "other's"]);
        let mut made = Vec::new();
        let body = world.ask(9, &request, |log, call| {
            assert_eq!(log, LogId::METADATA);
            let Call::Admin(AdminCall::CreateTopic { name, partitions: -1, .. }) = call else {
                panic!("{call:?}")
            };
            made.push(name.clone());
            if name == "busy" {
                return Answer::CreateTopic(Err(AdminError::Log(CallError::Full("no space"))));
            }
            world.create(&name, &[]);
            Answer::CreateTopic(Ok(CreatedTopic { id: topic_id(&name), partitions: 3 }))
        });
        assert_eq!(made, ["new", "busy"]);
        let invalid = ErrorCode::INVALID_TOPIC_EXCEPTION.0;
        let expected = [
            named("new", 0, 3),
            named("a", 0, 3),
            named("x y", invalid, 0),
            named("", invalid, 0),
            named("busy", ErrorCode::LEADER_NOT_AVAILABLE.0, 0),
            named("other's", invalid, 0),
        ];
        assert_eq!(topics_of(&body, 9), expected);
    }

    #[test]
    fn a_request_makes_a_limited_number_of_topics() {
        let names: Vec<String> = (0..CREATED_MAX + 50).map(|number| format!("{number:03}")).collect();
        let mut wanted: Vec<&str> = names.iter().map(String::as_str).collect();
        // Neither names that cannot be nor those that are there count.
        wanted.splice(0..0, ["x y", "known", ""]);
        let world = World::default();
        world.apply(created("known", TopicId([255; 16])));
        let mut made = 0;
        let mut ask = || {
            let body = world.ask(9, &ask_for(&wanted), |_, call| {
                let Call::Admin(AdminCall::CreateTopic { name, .. }) = call else { panic!("{call:?}") };
                made += 1;
                let id = TopicId([made as u8; 16]);
                world.apply(created(&name, id));
                Answer::CreateTopic(Ok(CreatedTopic { id, partitions: 1 }))
            });
            topics_of(&body, 9)
        };
        let (invalid, later) = (ErrorCode::INVALID_TOPIC_EXCEPTION.0, ErrorCode::LEADER_NOT_AVAILABLE.0);
        let mut expected = vec![named("x y", invalid, 0), named("known", 0, 1), named("", invalid, 0)];
        expected.extend(names.iter().take(CREATED_MAX).map(|name| named(name, 0, 1)));
        let mut first = expected.clone();
        first.extend(names[CREATED_MAX..].iter().map(|name| named(name, later, 0)));
        assert_eq!(ask(), first);
        expected.extend(names[CREATED_MAX..].iter().map(|name| named(name, 0, 1)));
        assert_eq!(ask(), expected, "the client has asked again");
    }

    #[test]
    fn who_is_second_finds_the_topic_too() {
        for (is_applied, expected) in [(true, named("new", 0, 3)), (false, named("new", 3, 0))] {
            let world = World::default();
            let body = world.ask(9, &ask_for(&["new"]), |_, _| {
                if is_applied {
                    world.create("new", &[]);
                }
                Answer::CreateTopic(Err(AdminError::TopicExists))
            });
            assert_eq!(topics_of(&body, 9), [expected]);
        }
    }

    #[test]
    fn nothing_is_made_against_the_will_of_broker_or_client() {
        let unknown = [named("new", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0, 0)];
        let request = MetadataRequest { allow_auto_topic_creation: false, ..ask_for(&["new"]) };
        assert_eq!(topics_of(&World::default().reply(9, &request), 9), unknown);
        let mut world = World::default();
        world.settings.auto_create_topics = false;
        assert_eq!(topics_of(&world.reply(9, &ask_for(&["new"])), 9), unknown);
    }

    #[test]
    fn topics_by_id() {
        let by_id = |id: [u8; 16], name| MetadataRequestTopic { topic_id: Uuid::from_bytes(id), name };
        let request =
            |topic| MetadataRequest { topics: Some([topic].into_iter().collect()), ..Default::default() };
        let known = topic_id("a").0;
        let (unknown, invalid) = (ErrorCode::UNKNOWN_TOPIC_ID.0, ErrorCode::INVALID_REQUEST.0);
        let table = [
            (12, by_id(known, None), named("a", 0, 3)),
            (12, by_id(known, Some("zzz")), named("a", 0, 3)),
            (12, by_id([9; 16], None), (None, unknown, 0)),
            (12, by_id([0; 16], None), (None, unknown, 0)),
            (10, by_id(known, Some("a")), named("a", invalid, 0)),
            (10, by_id(known, None), named("", invalid, 0)),
            (11, by_id([0; 16], None), named("", invalid, 0)),
        ];
        for (version, topic, expected) in table {
            let body = World::with_topics(&["a"]).reply(version, &request(topic.clone()));
            assert_eq!(topics_of(&body, version), [expected], "{version} {topic:?}");
        }
    }

    #[test]
    fn what_is_allowed_is_told_when_asked() {
        let mut world = World::with_topics(&["a"]);
        world.settings.auto_create_topics = false;
        let told = |version, request: &MetadataRequest<'_>| {
            let body = world.reply(version, request);
            let response: MetadataResponse<'_> = decode(&body, version);
            let topics = response.topics.iter().map(|topic| topic.topic_authorized_operations);
            (response.cluster_authorized_operations, topics.collect::<Vec<_>>())
        };
        for version in ApiKey::Metadata.versions() {
            for (of_cluster, of_topics) in [(false, false), (true, false), (false, true)] {
                let include = MetadataRequest {
                    include_cluster_authorized_operations: of_cluster,
                    include_topic_authorized_operations: of_topics,
                    ..Default::default()
                };
                let cluster = operations::if_asked(
                    of_cluster && (8..=10).contains(&version),
                    operations::ALL_OF_CLUSTER,
                );
                let topic = operations::if_asked(of_topics && version >= 8, operations::ALL_OF_TOPIC);
                assert_eq!(told(version, &include), (cluster, vec![topic]), "version {version}");
                let named = MetadataRequest { topics: ask_for(&["a", "none", "x y"]).topics, ..include };
                assert_eq!(told(version, &named), (cluster, vec![topic; 3]), "version {version}");
            }
        }
        let by_id = |id| {
            let topic = MetadataRequestTopic { topic_id: Uuid::from_bytes(id), name: None };
            MetadataRequest {
                topics: Some([topic].into_iter().collect()),
                include_topic_authorized_operations: true,
                ..Default::default()
            }
        };
        let (known, unknown) = (by_id(topic_id("a").0), by_id([9; 16]));
        assert_eq!(told(12, &known), (operations::OMITTED, vec![operations::ALL_OF_TOPIC]));
        assert_eq!(told(12, &unknown), (operations::OMITTED, vec![operations::OMITTED]));
        assert_eq!(told(11, &known), (operations::OMITTED, vec![operations::OMITTED]), "no legal request");
    }
}
