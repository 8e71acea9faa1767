//! DeleteTopics: by name, since version 6 also by id. Every topic succeeds or fails on its own.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicState};
use crate::kafka::protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::metadata::topic::Topic;
use crate::model::{LogId, TopicId};
use crate::shard::call::{AdminCall, Answer, Call};

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: DeleteTopicsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    // A version has the one array or the other.
    let by_name = request.topic_names.iter();
    let by_name = by_name.map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
    let states: Vec<_> = by_name.chain(request.topics.iter().cloned()).collect();
    let mut times_named: BTreeMap<(Option<&str>, Uuid), u32> = BTreeMap::new();
    for state in &states {
        *times_named.entry((state.name, state.topic_id)).or_default() += 1;
    }

    let mut calls = Vec::new();
    let mut pending = DeleteTopics { version, topics: Vec::with_capacity(states.len()), asked: Vec::new() };
    let mut seen = BTreeSet::new();
    for state in states {
        let found = match times_named.get_mut(&(state.name, state.topic_id)) {
            Some(1) => find(ctx, &state),
            // Perhaps one of them was meant to be another: none goes, and the topic is answered once.
            Some(times @ 2..) => {
                *times = 0;
                Err((ErrorCode::INVALID_REQUEST, "the topic is named twice"))
            }
            Some(0) | None => continue,
        };
        let (topic, failure) = match found {
            Ok(topic) if seen.insert(topic.id) => {
                calls.push((LogId::METADATA, Call::Admin(AdminCall::DeleteTopic { topic: topic.id })));
                pending.asked.push(pending.topics.len());
                (Some(topic), None)
            }
            Ok(topic) => (Some(topic), Some((ErrorCode::INVALID_REQUEST, "named by its id, too".to_owned()))),
            Err((code, text)) => (None, Some((code, text.to_owned()))),
        };
        pending.topics.push(Doomed {
            name: topic.map(|topic| &*topic.name).or(state.name).map(str::to_owned),
            id: topic.map_or(state.topic_id, |topic| Uuid::from_bytes(topic.id.0)),
            failure,
        });
    }
    wait(ctx, calls, pending, out)
}

fn find<'a>(ctx: &Context<'a>, state: &DeleteTopicState<'_>) -> Result<&'a Topic, (ErrorCode, &'static str)> {
    let (topic, absent) = match state.name {
        Some(name) if state.topic_id.is_nil() => {
            (ctx.catalog.topic(name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        }
        None if !state.topic_id.is_nil() => {
            let id = TopicId(state.topic_id.into_bytes());
            (ctx.catalog.topic_by_id(id), ErrorCode::UNKNOWN_TOPIC_ID)
        }
        _ => return Err((ErrorCode::INVALID_REQUEST, "a topic is given either by name or by id")),
    };
    topic.map(|topic| &**topic).ok_or((absent, "no such topic"))
}

/// A topic of the request.
struct Doomed {
    name: Option<String>,
    id: Uuid,
    failure: Option<(ErrorCode, String)>,
}

struct DeleteTopics {
    version: i16,
    topics: Vec<Doomed>,
    /// Which of the above call `part` deletes.
    asked: Vec<usize>,
}

impl Pending for DeleteTopics {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::DeleteTopic(result) = answer else { unexpected(&answer) };
        let failure = result.err().map(|error| (errors::of_admin(&error), errors::message(error)));
        self.topics[self.asked[part as usize]].failure = failure;
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let responses = self.topics.iter().map(|topic| {
            let (error_code, error_message) = match &topic.failure {
                Some((code, text)) => (*code, Some(text.as_str())),
                None => (ErrorCode::NONE, None),
            };
            let name = topic.name.as_deref();
            DeletableTopicResult { name, topic_id: topic.id, error_code, error_message }
        });
        let response = DeleteTopicsResponse { responses: responses.collect(), ..Default::default() };
        response.encode(out, self.version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode, topic_id};
    use crate::shard::call::AdminError;

    #[test]
    fn by_name() {
        let names = ["a", "z", "", "b", "c", "c", "c"];
        let request = DeleteTopicsRequest { topic_names: names.into_iter().collect(), ..Default::default() };
        for version in 1..=5 {
            let mut deleted = Vec::new();
            let body = World::with_topics(&["a", "b", "c"]).ask(version, &request, |log, call| {
                assert_eq!(log, LogId::METADATA);
                let Call::Admin(AdminCall::DeleteTopic { topic }) = call else { panic!("{call:?}") };
                deleted.push(topic);
                // Somebody else deletes the other at the same time.
                Answer::DeleteTopic(if topic == topic_id("a") {
                    Ok(())
                } else {
                    Err(AdminError::UnknownTopic)
                })
            });
            assert_eq!(deleted, [topic_id("a"), topic_id("b")]);
            let response: DeleteTopicsResponse<'_> = decode(&body, version);
            let results: Vec<_> =
                response.responses.iter().map(|topic| (topic.name, topic.error_code)).collect();
            let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            let codes = [ErrorCode::NONE, unknown, unknown, unknown, ErrorCode::INVALID_REQUEST];
            let once = names[..5].iter().copied().map(Some);
            assert_eq!(results, once.zip(codes).collect::<Vec<_>>());
            assert!(response.responses[0].error_message.is_none());
        }
    }

    #[test]
    fn one_topic_by_name_and_by_id() {
        let id = Uuid::from_bytes(topic_id("a").0);
        let by_id = DeleteTopicState { name: None, topic_id: id };
        let by_name = DeleteTopicState { name: Some("a"), ..Default::default() };
        let request =
            DeleteTopicsRequest { topics: [by_id, by_name].into_iter().collect(), ..Default::default() };
        let mut deleted = 0;
        let body = World::with_topics(&["a"]).ask(6, &request, |_, _| {
            deleted += 1;
            Answer::DeleteTopic(Ok(()))
        });
        let response: DeleteTopicsResponse<'_> = decode(&body, 6);
        let codes: Vec<_> = response.responses.iter().map(|topic| topic.error_code).collect();
        assert_eq!((deleted, codes), (1, vec![ErrorCode::NONE, ErrorCode::INVALID_REQUEST]));
    }

    #[test]
    fn by_name_or_by_id() {
        let (known, unknown, nil) =
            (Uuid::from_bytes(topic_id("a").0), Uuid::from_bytes([9; 16]), Uuid::nil());
        let table = [
            (None, known, Some("a"), known, ErrorCode::NONE),
            (Some("a"), nil, Some("a"), known, ErrorCode::NONE),
            (None, unknown, None, unknown, ErrorCode::UNKNOWN_TOPIC_ID),
            (Some("z"), nil, Some("z"), nil, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (Some("a"), known, Some("a"), known, ErrorCode::INVALID_REQUEST),
            (None, nil, None, nil, ErrorCode::INVALID_REQUEST),
        ];
        for (name, topic_id, name_expected, id_expected, code_expected) in table {
            let topics = [DeleteTopicState { name, topic_id }].into_iter().collect();
            let request = DeleteTopicsRequest { topics, ..Default::default() };
            let body = World::with_topics(&["a"]).ask(6, &request, |_, _| Answer::DeleteTopic(Ok(())));
            let response: DeleteTopicsResponse<'_> = decode(&body, 6);
            let result = &response.responses[0];
            assert_eq!(
                (result.name, result.topic_id, result.error_code),
                (name_expected, id_expected, code_expected)
            );
        }
    }
}
