//! CreateTopics. Every topic succeeds or fails on its own.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::replies::Refusal;
use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::handlers::config_value::{effective, is_read_only};
use crate::kafka::identity::BrokerIdentity;
use crate::kafka::protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicConfigs,
    CreatableTopicResult,
};
use crate::kafka::protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{Array, ErrorCode, Message};
use crate::metadata::commands::TopicError;
use crate::metadata::topic::validate_name;
use crate::metadata::topic_config::TopicConfig;
use crate::model::LogId;
use crate::shard::call::{AdminCall, AdminError, Answer, Call, CreatedTopic};

/// "The broker's default", for the number of partitions and of replicas.
const DEFAULT: i32 = -1;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: CreateTopicsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut times_named: BTreeMap<&str, u32> = BTreeMap::new();
    for topic in &request.topics {
        *times_named.entry(topic.name).or_default() += 1;
    }
    let mut calls = Vec::new();
    let mut pending = CreateTopics { version, topics: Vec::new(), asked: Vec::new() };
    for topic in &request.topics {
        let checked = match times_named.get_mut(topic.name) {
            Some(1) => check(ctx, topic).map_err(|refusal| refused_name(ctx, topic.name).unwrap_or(refusal)),
            // Which of them is meant? None is made, and the name is answered once.
            Some(times @ 2..) => {
                *times = 0;
                Err(Refusal { code: ErrorCode::INVALID_REQUEST, text: "the topic is named twice".into() })
            }
            Some(0) | None => continue,
        };
        let result = match checked {
            Ok(new) => {
                pending.asked.push(pending.topics.len());
                calls.push((LogId::METADATA, new.call(topic.name, request.validate_only)));
                Progress::Asked { config: new.config }
            }
            Err(refusal) => Progress::Refused(refusal),
        };
        pending.topics.push((topic.name.to_owned(), result));
    }
    wait(ctx, calls, pending, out)
}

/// A topic as far as it can be judged here; the metadata log judges the rest.
struct New {
    partitions: i32,
    replication: i16,
    config: TopicConfig,
}

impl New {
    fn call(&self, name: &str, validate_only: bool) -> Call {
        let configs = self.config.overrides();
        Call::Admin(AdminCall::CreateTopic {
            name: name.to_owned(),
            partitions: self.partitions,
            replication: self.replication,
            configs: configs.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).collect(),
            validate_only,
        })
    }
}

fn check(ctx: &Context<'_>, topic: &CreatableTopic<'_>) -> Result<New, Refusal> {
    let config = check_configs(&topic.configs)?;
    if topic.assignments.is_empty() {
        let (partitions, replication) = (topic.num_partitions, topic.replication_factor);
        return Ok(New { partitions, replication, config });
    }
    if topic.num_partitions != DEFAULT || i32::from(topic.replication_factor) != DEFAULT {
        let text = "with assignments, the numbers of partitions and replicas must be -1".into();
        return Err(Refusal { code: ErrorCode::INVALID_REQUEST, text });
    }
    check_assignments(ctx.broker, &topic.assignments)?;
    let partitions = i32::try_from(topic.assignments.len()).expect("a frame is below 2 GiB");
    Ok(New { partitions, replication: 1, config })
}

/// What is wrong with the name: to say first where more is wrong, as Kafka does. Where nothing is, the metadata log
/// judges it, which knows the newest topics.
fn refused_name(ctx: &Context<'_>, name: &str) -> Option<Refusal> {
    let error = match validate_name(name) {
        Err(error) => AdminError::InvalidName(error.to_string()),
        Ok(()) if ctx.catalog.topic(name).is_some() => AdminError::TopicExists,
        Ok(()) => {
            let other = ctx.catalog.colliding_name(name)?.clone();
            AdminError::InvalidName(TopicError::Collides { other }.to_string())
        }
    };
    Some(Refusal::new(errors::of_admin(&error), errors::message(error)))
}

fn check_configs(configs: &[CreatableTopicConfig<'_>]) -> Result<TopicConfig, Refusal> {
    let refusal = |text| Refusal { code: ErrorCode::INVALID_CONFIG, text };
    let mut pairs = Vec::with_capacity(configs.len());
    for config in configs {
        let null = || refusal(errors::message(format_args!("{:?} has no value", config.name)));
        pairs.push((config.name, config.value.ok_or_else(null)?));
    }
    TopicConfig::new(pairs).map_err(|error| refusal(errors::message(error)))
}

/// Assignments are legal where they say what happens anyway: each partition on this broker.
fn check_assignments(
    broker: &BrokerIdentity,
    assignments: &[CreatableReplicaAssignment],
) -> Result<(), Refusal> {
    let refusal = |text: String| Err(Refusal { code: ErrorCode::INVALID_REPLICA_ASSIGNMENT, text });
    if broker.logs.is_some() {
        return refusal("the broker spreads partitions over its logs: leave the assignments out".into());
    }
    let node_id = broker.node_id;
    let mut indexes: Vec<i32> = assignments.iter().map(|assignment| assignment.partition_index).collect();
    indexes.sort_unstable();
    if !(0..).zip(&indexes).all(|(expected, index)| expected == *index) {
        return refusal("partitions must be numbered from 0, each once".into());
    }
    match assignments.iter().find(|assignment| assignment.broker_ids.as_slice() != [node_id]) {
        Some(assignment) => {
            let index = assignment.partition_index;
            refusal(format!("partition {index} can only be on broker {node_id}, there is no other"))
        }
        None => Ok(()),
    }
}

enum Progress {
    Refused(Refusal),
    Asked { config: TopicConfig },
    Created { config: TopicConfig, topic: CreatedTopic },
}

struct CreateTopics {
    version: i16,
    topics: Vec<(String, Progress)>,
    /// Which of the above call `part` makes.
    asked: Vec<usize>,
}

impl Pending for CreateTopics {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::CreateTopic(result) = answer else { unexpected(&answer) };
        let (_, progress) = &mut self.topics[self.asked[part as usize]];
        let Progress::Asked { config } = progress else { panic!("call {part} is answered twice") };
        *progress = match result {
            Ok(topic) => Progress::Created { config: config.clone(), topic },
            Err(error) => {
                let (code, text) = (errors::of_admin(&error), errors::message(error));
                Progress::Refused(Refusal { code, text })
            }
        };
        Vec::new()
    }

    fn encode(&mut self, ctx: &Context<'_>, out: &mut Writer<'_>) {
        let mut room = ctx.answer_room;
        let topics = self.topics.iter().map(|(name, progress)| match progress {
            Progress::Refused(refusal) => CreatableTopicResult {
                name,
                error_code: refusal.code,
                error_message: Some(&refusal.text),
                configs: Some(Array::new()),
                ..Default::default()
            },
            Progress::Created { config, topic } => {
                let configs = describe(ctx, config);
                let fits = room.take(configs.iter().map(bytes_of).sum());
                CreatableTopicResult {
                    name,
                    topic_id: Uuid::from_bytes(topic.id.0),
                    num_partitions: topic.partitions,
                    replication_factor: 1,
                    // The topic is made all the same.
                    configs: fits.then_some(configs),
                    topic_config_error_code: if fits { ErrorCode::NONE } else { errors::NO_ROOM.0 },
                    ..Default::default()
                }
            }
            Progress::Asked { .. } => unreachable!("all calls are answered"),
        });
        let response = CreateTopicsResponse { topics: topics.collect(), ..Default::default() };
        response.encode(out, self.version);
    }
}

/// What it holds in memory and, which is less, in the response.
fn bytes_of(config: &CreatableTopicConfigs<'_>) -> usize {
    size_of_val(config) + config.name.len() + config.value.map_or(0, str::len)
}

fn describe<'a>(ctx: &Context<'a>, config: &'a TopicConfig) -> Array<CreatableTopicConfigs<'a>> {
    let configs = config.describe().map(|config| {
        let (value, config_source) = effective(ctx, &config);
        CreatableTopicConfigs {
            name: config.def.name,
            value: Some(value),
            read_only: is_read_only(&config),
            config_source,
            is_sensitive: false,
        }
    });
    configs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode, topic_id};
    use crate::kafka::protocol::messages::describe_configs::config_source;
    use crate::model::TopicId;
    use crate::shard::call::CallError;

    fn topic(name: &str) -> CreatableTopic<'_> {
        CreatableTopic { name, num_partitions: 3, replication_factor: 1, ..Default::default() }
    }

    fn request<'a>(topics: impl IntoIterator<Item = CreatableTopic<'a>>) -> CreateTopicsRequest<'a> {
        CreateTopicsRequest { topics: topics.into_iter().collect(), ..Default::default() }
    }

    fn assigned<'a>(name: &'a str, brokers: &[(i32, &[i32])]) -> CreatableTopic<'a> {
        let assignments = brokers.iter().map(|(partition_index, broker_ids)| CreatableReplicaAssignment {
            partition_index: *partition_index,
            broker_ids: broker_ids.iter().copied().collect(),
        });
        let assignments = assignments.collect();
        CreatableTopic { name, num_partitions: -1, replication_factor: -1, assignments, ..Default::default() }
    }

    fn configured<'a>(name: &'a str, config: &'a str, value: Option<&'a str>) -> CreatableTopic<'a> {
        let configs = [CreatableTopicConfig { name: config, value }];
        CreatableTopic { configs: configs.into_iter().collect(), ..topic(name) }
    }

    /// Grants every topic as it was asked for.
    fn grant(log: LogId, call: Call) -> Answer {
        assert_eq!(log, LogId::METADATA);
        let Call::Admin(AdminCall::CreateTopic { name, partitions, validate_only, .. }) = call else {
            panic!("{call:?}")
        };
        let partitions = if partitions == -1 { 4 } else { partitions };
        let id = if validate_only { TopicId([0; 16]) } else { topic_id(&name) };
        Answer::CreateTopic(Ok(CreatedTopic { id, partitions }))
    }

    #[test]
    fn a_topic_is_answered_with_what_it_became() {
        for validate_only in [false, true] {
            let topics = [
                configured("a", "retention.ms", Some(" 5 ")),
                CreatableTopic { num_partitions: -1, replication_factor: -1, ..topic("b") },
                assigned("c", &[(1, &[7]), (0, &[7])]),
            ];
            let request = CreateTopicsRequest { validate_only, ..request(topics) };
            for version in 2..=7 {
                let body = World::default().ask(version, &request, grant);
                let response: CreateTopicsResponse<'_> = decode(&body, version);
                for (topic, (name, partitions)) in response.topics.iter().zip([("a", 3), ("b", 4), ("c", 2)])
                {
                    assert_eq!(
                        (topic.name, topic.error_code, topic.error_message),
                        (name, ErrorCode::NONE, None)
                    );
                    if version >= 5 {
                        assert_eq!((topic.num_partitions, topic.replication_factor), (partitions, 1));
                    }
                    let id = if version >= 7 && !validate_only { topic_id(name).0 } else { [0; 16] };
                    assert_eq!(topic.topic_id.into_bytes(), id);
                }
                if version >= 5 {
                    let configs = response.topics[0].configs.as_ref().expect("visible");
                    let config = |name| configs.iter().find(|config| config.name == name).expect("known");
                    assert_eq!(config("retention.ms").value, Some("5"));
                    assert_eq!(config("retention.ms").config_source, config_source::DYNAMIC_TOPIC);
                    assert_eq!(config("segment.bytes").config_source, config_source::DEFAULT);
                }
            }
        }
    }

    #[test]
    fn one_refused_topic_fails_no_other() {
        let longest = "\"".repeat(i16::MAX as usize);
        let refused = [
            (configured("r", "retention.ns", Some("1")), ErrorCode::INVALID_CONFIG),
            (configured("r", "retention.ms", None), ErrorCode::INVALID_CONFIG),
            (configured("r", "cleanup.policy", Some("compact")), ErrorCode::INVALID_CONFIG),
            (configured("r", &longest, Some(&longest)), ErrorCode::INVALID_CONFIG),
            (configured("r", "retention.ms", Some(&longest)), ErrorCode::INVALID_CONFIG),
            (assigned("r", &[(0, &[8])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (assigned("r", &[(0, &[])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (assigned("r", &[(0, &[7, 8])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (assigned("r", &[(0, &[7]), (0, &[7])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (assigned("r", &[(1, &[7])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (assigned("r", &[(i32::MIN, &[7])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (CreatableTopic { num_partitions: 1, ..assigned("r", &[(0, &[7])]) }, ErrorCode::INVALID_REQUEST),
        ];
        for (topic_refused, expected) in refused {
            let request = request([topic("a"), topic_refused.clone(), topic("b")]);
            let body = World::default().ask(7, &request, grant);
            let response: CreateTopicsResponse<'_> = decode(&body, 7);
            let codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
            assert_eq!(codes, [ErrorCode::NONE, expected, ErrorCode::NONE], "{topic_refused:?}");
            let result = &response.topics[1];
            assert!(result.error_message.is_some_and(|text| text.len() <= 1024));
            assert_eq!((result.num_partitions, result.replication_factor), (-1, -1));
        }
    }

    #[test]
    fn a_name_that_cannot_be_is_the_first_to_be_told() {
        let table = [
            (configured("a/b", "retention.ns", Some("1")), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (assigned("", &[(0, &[8])]), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (configured("taken", "retention.ns", Some("1")), ErrorCode::TOPIC_ALREADY_EXISTS),
            (assigned("taken", &[(0, &[8])]), ErrorCode::TOPIC_ALREADY_EXISTS),
            (configured("a_b", "retention.ns", Some("1")), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (configured("new", "retention.ns", Some("1")), ErrorCode::INVALID_CONFIG),
        ];
        for (topic, expected) in table {
            let body = World::with_topics(&["taken", "a.b"]).reply(7, &request([topic.clone()]));
            let response: CreateTopicsResponse<'_> = decode(&body, 7);
            assert_eq!(response.topics[0].error_code, expected, "{topic:?}");
        }
    }

    #[test]
    fn where_each_log_is_a_broker_partitions_are_not_placed_by_hand() {
        let world = World::default().advertise_logs();
        let body = world.reply(7, &request([assigned("a", &[(0, &[101])])]));
        let response: CreateTopicsResponse<'_> = decode(&body, 7);
        assert_eq!(response.topics[0].error_code, ErrorCode::INVALID_REPLICA_ASSIGNMENT);
        assert!(
            response.topics[0].error_message.is_some_and(|text| text.contains("leave the assignments out"))
        );
    }

    #[test]
    fn what_the_metadata_log_refuses() {
        let table = [
            (AdminError::TopicExists, ErrorCode::TOPIC_ALREADY_EXISTS),
            (AdminError::InvalidName("bad".into()), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (AdminError::InvalidPartitions("too many".repeat(9999)), ErrorCode::INVALID_PARTITIONS),
            (AdminError::Log(CallError::Storage), ErrorCode::KAFKA_STORAGE_ERROR),
        ];
        for (error, expected) in table {
            // The metadata log judges names and counts: whatever they are, they reach it.
            let hostile = CreatableTopic { num_partitions: i32::MIN, replication_factor: -9, ..topic("") };
            let body =
                World::default().ask(7, &request([hostile]), |_, _| Answer::CreateTopic(Err(error.clone())));
            let response: CreateTopicsResponse<'_> = decode(&body, 7);
            assert_eq!(response.topics[0].error_code, expected);
            let text = error.to_string();
            assert!(response.topics[0].error_message.is_some_and(|message| text.starts_with(message)));
        }
    }

    #[test]
    fn a_topic_named_twice_is_not_made_and_answered_once() {
        let request = request([topic("a"), topic("b"), topic("a"), topic("a")]);
        let body = World::default().ask(7, &request, grant);
        let response: CreateTopicsResponse<'_> = decode(&body, 7);
        let topics: Vec<_> = response.topics.iter().map(|topic| (topic.name, topic.error_code)).collect();
        assert_eq!(topics, [("a", ErrorCode::INVALID_REQUEST), ("b", ErrorCode::NONE)]);
    }
}
