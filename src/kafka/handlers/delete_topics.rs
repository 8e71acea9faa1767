//! DeleteTopics: by name, since version 6 also by id. Every topic succeeds or fails on its own.

use std::collections::BTreeSet;

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
    let count = request.topic_names.len() + request.topics.len();

    let mut calls = Vec::new();
    let mut pending = DeleteTopics { version, topics: Vec::with_capacity(count), asked: Vec::new() };
    let mut seen = BTreeSet::new();
    for state in by_name.chain(request.topics.iter().cloned()) {
        let (topic, failure) = match find(ctx, &state) {
            Ok(topic) if seen.insert(topic.id) => {
                calls.push((LogId::METADATA, Call::Admin(AdminCall::DeleteTopic { topic: topic.id })));
                pending.asked.push(pending.topics.len());
                (Some(topic), None)
            }
            Ok(topic) => (Some(topic), Some((ErrorCode::INVALID_REQUEST, "named twice".to_owned()))),
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
