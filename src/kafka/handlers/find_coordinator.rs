//! FindCoordinator: which broker a group belongs to. It is always this one; which *log* is decided here,
//! once for each group.

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::find_coordinator::{Coordinator, key_type};
use crate::kafka::protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::LogId;
use crate::shard::call::{AdminCall, Answer, Call};

/// First version that asks for many keys at once.
const MANY_SINCE: i16 = 4;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: FindCoordinatorRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let one = [request.key];
    let keys: &[&str] = if version < MANY_SINCE { &one } else { &request.coordinator_keys };
    // A retriable code would make producers wait for transactions in vain.
    let (code, text) = match request.key_type {
        key_type::GROUP => (ErrorCode::NONE, None),
        key_type::TRANSACTION => (ErrorCode::INVALID_REQUEST, Some("this broker has no transactions")),
        key_type::SHARE => (ErrorCode::INVALID_REQUEST, Some("this broker has no share groups")),
        _ => (ErrorCode::INVALID_REQUEST, Some("unknown key type")),
    };

    let mut calls = Vec::new();
    let mut pending =
        FindCoordinator { version, keys: Vec::with_capacity(keys.len()), text, asked: Vec::new() };
    for key in keys {
        if !code.is_error() && ctx.catalog.group_log(key).is_none() {
            let group = (*key).to_owned();
            calls.push((LogId::METADATA, Call::Admin(AdminCall::AssignGroup { group })));
            pending.asked.push(pending.keys.len());
        }
        pending.keys.push(((*key).to_owned(), code));
    }
    wait(ctx, calls, pending, out)
}

struct FindCoordinator {
    version: i16,
    keys: Vec<(String, ErrorCode)>,
    /// What is wrong with the request as a whole.
    text: Option<&'static str>,
    /// Which of the keys call `part` is about.
    asked: Vec<usize>,
}

impl Pending for FindCoordinator {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::AssignGroup(result) = answer else { unexpected(&answer) };
        if let Err(error) = result {
            self.keys[self.asked[part as usize]].1 = errors::of_assignment(&error);
        }
        Vec::new()
    }

    fn encode(&mut self, ctx: &Context<'_>, out: &mut Writer<'_>) {
        let mut coordinators = self.keys.iter().map(|(key, error_code)| {
            let coordinator = Coordinator {
                key,
                error_code: *error_code,
                error_message: self.text,
                node_id: -1,
                port: -1,
                ..Default::default()
            };
            if error_code.is_error() {
                return coordinator;
            }
            let (node_id, port) = (ctx.broker.node_id, ctx.broker.port.into());
            Coordinator { node_id, host: &ctx.broker.host, port, ..coordinator }
        });
        let response = if self.version < MANY_SINCE {
            let Coordinator { node_id, host, port, error_code, error_message, .. } =
                coordinators.next().expect("there is one key");
            FindCoordinatorResponse { error_code, error_message, node_id, host, port, ..Default::default() }
        } else {
            FindCoordinatorResponse { coordinators: coordinators.collect(), ..Default::default() }
        };
        response.encode(out, self.version);
    }
}
