//! CreatePartitions: topics grow. Every topic succeeds or fails on its own.

use std::collections::BTreeMap;

use super::replies::Refusal;
use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::create_partitions::{
    CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use crate::kafka::protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::{LogId, TopicId};
use crate::shard::call::{AdminCall, Answer, Call};

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: CreatePartitionsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut times_named: BTreeMap<&str, u32> = BTreeMap::new();
    for topic in &request.topics {
        *times_named.entry(topic.name).or_default() += 1;
    }
    let mut calls = Vec::new();
    let mut pending = CreatePartitions { version, topics: Vec::new(), asked: Vec::new() };
    for topic in &request.topics {
        let checked = match times_named.get_mut(topic.name) {
            Some(1) => check(ctx, topic),
            // Which of them is meant? The topic stays as it is, and is answered once.
            Some(times @ 2..) => {
                *times = 0;
                Err(Refusal::new(ErrorCode::INVALID_REQUEST, "the topic is named twice"))
            }
            Some(0) | None => continue,
        };
        let refusal = match checked {
            Ok(id) => {
                let (count, validate_only) = (topic.count, request.validate_only);
                let call = AdminCall::AddPartitions { topic: id, count, validate_only };
                calls.push((LogId::METADATA, Call::Admin(call)));
                pending.asked.push(pending.topics.len());
                None
            }
            Err(refusal) => Some(refusal),
        };
        pending.topics.push((topic.name.to_owned(), refusal));
    }
    wait(ctx, calls, pending, out)
}

/// The topic, as far as the request can be judged here; the metadata log judges the rest.
fn check(ctx: &Context<'_>, asked: &CreatePartitionsTopic<'_>) -> Result<TopicId, Refusal> {
    let Some(topic) = ctx.catalog.topic(asked.name) else {
        return Err(Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such topic"));
    };
    let current = topic.partitions.len() as i64;
    let added = i64::from(asked.count) - current;
    // A count that is no more than the current one is the greater mistake.
    if let Some(assignments) = &asked.assignments
        && added > 0
    {
        let refusal = |text| Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, text));
        if assignments.len() as i64 != added {
            return refusal(format!(
                "{added} partitions are to be added, {} are assigned",
                assignments.len()
            ));
        }
        if ctx.broker.logs.is_some() {
            return refusal(
                "the broker spreads partitions over its logs: leave the assignments out".to_owned(),
            );
        }
        let node_id = ctx.broker.node_id;
        if assignments.iter().any(|assignment| assignment.broker_ids.as_slice() != [node_id]) {
            return refusal(format!("partitions can only be on broker {node_id}, there is no other"));
        }
    }
    Ok(topic.id)
}

struct CreatePartitions {
    version: i16,
    topics: Vec<(String, Option<Refusal>)>,
    /// Which of the above call `part` grows.
    asked: Vec<usize>,
}

impl Pending for CreatePartitions {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::AddPartitions(result) = answer else { unexpected(&answer) };
        let refusal =
            result.err().map(|error| Refusal::new(errors::of_admin(&error), errors::message(error)));
        self.topics[self.asked[part as usize]].1 = refusal;
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let results = self.topics.iter().map(|(name, refusal)| {
            let (error_code, error_message) = Refusal::parts(refusal);
            CreatePartitionsTopicResult { name, error_code, error_message }
        });
        let response = CreatePartitionsResponse { results: results.collect(), ..Default::default() };
        response.encode(out, self.version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode, topic_id};
    use crate::kafka::protocol::messages::create_partitions::CreatePartitionsAssignment;
    use crate::shard::call::{AdminError, CallError};

    fn topic<'a>(name: &'a str, count: i32, assigned: Option<&[&[i32]]>) -> CreatePartitionsTopic<'a> {
        let assignment =
            |brokers: &&[i32]| CreatePartitionsAssignment { broker_ids: brokers.iter().copied().collect() };
        let assignments = assigned.map(|assigned| assigned.iter().map(assignment).collect());
        CreatePartitionsTopic { name, count, assignments }
    }

    fn request<'a>(
        topics: impl IntoIterator<Item = CreatePartitionsTopic<'a>>,
    ) -> CreatePartitionsRequest<'a> {
        CreatePartitionsRequest { topics: topics.into_iter().collect(), ..Default::default() }
    }

    #[test]
    fn topics_grow_or_say_why_not() {
        // Whatever the count is, the metadata log judges it.
        let topics = [
            topic("a", 5, None),
            topic("b", i32::MAX, None),
            topic("c", 4, Some(&[&[7]])),
            topic("d", 0, Some(&[])),
            topic("e", i32::MIN, None),
            topic("z", 9, None),
        ];
        for (version, validate_only) in [(0, false), (1, true), (2, false), (3, true)] {
            let request = CreatePartitionsRequest { validate_only, ..request(topics.clone()) };
            let mut asked = Vec::new();
            let body = World::with_topics(&["a", "b", "c", "d", "e"]).ask(version, &request, |log, call| {
                assert_eq!(log, LogId::METADATA);
                let Call::Admin(AdminCall::AddPartitions { topic, count, validate_only: only }) = call else {
                    panic!("{call:?}")
                };
                assert_eq!(only, validate_only);
                asked.push((topic, count));
                Answer::AddPartitions(match count {
                    4 | 5 => Ok(()),
                    0 => Err(AdminError::Log(CallError::Storage)),
                    _ => Err(AdminError::InvalidPartitions("too many or too few".repeat(999))),
                })
            });
            let expected = [("a", 5), ("b", i32::MAX), ("c", 4), ("d", 0), ("e", i32::MIN)];
            assert_eq!(asked, expected.map(|(name, count)| (topic_id(name), count)));
            let response: CreatePartitionsResponse<'_> = decode(&body, version);
            let results: Vec<_> =
                response.results.iter().map(|topic| (topic.name, topic.error_code)).collect();
            let expected = [
                ("a", ErrorCode::NONE),
                ("b", ErrorCode::INVALID_PARTITIONS),
                ("c", ErrorCode::NONE),
                ("d", ErrorCode::KAFKA_STORAGE_ERROR),
                ("e", ErrorCode::INVALID_PARTITIONS),
                ("z", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ];
            assert_eq!(results, expected);
            for result in &response.results {
                assert_eq!(result.error_message.is_some(), result.error_code.is_error());
            }
        }
    }

    #[test]
    fn what_is_refused_at_once() {
        let twice: &[&[i32]] = &[&[7], &[7]];
        let table = [
            (topic("", 4, None), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (topic("a/b", 4, None), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (topic("z", 4, None), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (topic("a", 4, Some(&[])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (topic("a", 4, Some(twice)), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (topic("a", 6, Some(twice)), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (topic("a", i32::MAX, Some(twice)), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (topic("a", 4, Some(&[&[8]])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (topic("a", 4, Some(&[&[]])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (topic("a", 4, Some(&[&[7, 8]])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        ];
        for (topic, expected) in table {
            let body = World::with_topics(&["a"]).reply(3, &request([topic.clone()]));
            let response: CreatePartitionsResponse<'_> = decode(&body, 3);
            assert_eq!(response.results[0].error_code, expected, "{topic:?}");
        }
    }

    #[test]
    fn a_topic_named_twice_stays_as_it_is() {
        let request = request([topic("a", 4, None), topic("b", 4, None), topic("a", 5, None)]);
        let body = World::with_topics(&["a", "b"]).ask(3, &request, |_, call| {
            assert!(
                matches!(call, Call::Admin(AdminCall::AddPartitions { topic, .. }) if topic == topic_id("b"))
            );
            Answer::AddPartitions(Ok(()))
        });
        let response: CreatePartitionsResponse<'_> = decode(&body, 3);
        let results: Vec<_> = response.results.iter().map(|topic| (topic.name, topic.error_code)).collect();
        assert_eq!(results, [("a", ErrorCode::INVALID_REQUEST), ("b", ErrorCode::NONE)]);
    }
}
