//! CreateTopics. Every topic succeeds or fails on its own.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::handlers::describe_configs::source_of;
use crate::kafka::protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicConfigs,
    CreatableTopicResult,
};
use crate::kafka::protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{Array, ErrorCode, Message};
use crate::metadata::topic_config::TopicConfig;
use crate::model::LogId;
use crate::shard::call::{AdminCall, Answer, Call, CreatedTopic};

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
            Some(1) => check(ctx, topic),
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

/// Why a topic is not made.
struct Refusal {
    code: ErrorCode,
    text: String,
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
    check_assignments(ctx.broker.node_id, &topic.assignments)?;
    let partitions = i32::try_from(topic.assignments.len()).expect("a frame is below 2 GiB");
    Ok(New { partitions, replication: 1, config })
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
fn check_assignments(node_id: i32, assignments: &[CreatableReplicaAssignment]) -> Result<(), Refusal> {
    let refusal = |text: String| Err(Refusal { code: ErrorCode::INVALID_REPLICA_ASSIGNMENT, text });
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

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let topics = self.topics.iter().map(|(name, progress)| match progress {
            Progress::Refused(refusal) => CreatableTopicResult {
                name,
                error_code: refusal.code,
                error_message: Some(&refusal.text),
                configs: Some(Array::new()),
                ..Default::default()
            },
            Progress::Created { config, topic } => CreatableTopicResult {
                name,
                topic_id: Uuid::from_bytes(topic.id.0),
                num_partitions: topic.partitions,
                replication_factor: 1,
                configs: Some(describe(config)),
                ..Default::default()
            },
            Progress::Asked { .. } => unreachable!("all calls are answered"),
        });
        let response = CreateTopicsResponse { topics: topics.collect(), ..Default::default() };
        response.encode(out, self.version);
    }
}

fn describe(config: &TopicConfig) -> Array<CreatableTopicConfigs<'_>> {
    let configs = config.describe().map(|config| CreatableTopicConfigs {
        name: config.def.name,
        value: Some(config.value),
        read_only: false,
        config_source: source_of(&config),
        is_sensitive: false,
    });
    configs.collect()
}
