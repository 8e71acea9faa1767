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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};
    use crate::metadata::record::MetaRecord;
    use crate::shard::call::{AdminError, CallError};

    fn world() -> World {
        let world = World::default();
        world.apply(MetaRecord::GroupAssigned { group: "known".into(), log: LogId(2) });
        world
    }

    #[test]
    fn a_new_group_is_assigned_first() {
        let keys = ["known", "new", "", "unlucky", "new"];
        let request =
            FindCoordinatorRequest { coordinator_keys: keys.into_iter().collect(), ..Default::default() };
        for version in 4..=6 {
            let mut assigned = Vec::new();
            let body = world().ask(version, &request, |log, call| {
                assert_eq!(log, LogId::METADATA);
                let Call::Admin(AdminCall::AssignGroup { group }) = call else { panic!("{call:?}") };
                assigned.push(group.clone());
                Answer::AssignGroup(match group.as_str() {
                    "unlucky" => Err(AdminError::Log(CallError::Full("no space"))),
                    _ => Ok(LogId(1)),
                })
            });
            assert_eq!(assigned, ["new", "", "unlucky", "new"]);
            let response: FindCoordinatorResponse<'_> = decode(&body, version);
            let found = response
                .coordinators
                .iter()
                .map(|found| (found.key, found.error_code, found.node_id, found.host, found.port));
            let expected = keys.map(|key| match key {
                "unlucky" => (key, ErrorCode::COORDINATOR_NOT_AVAILABLE, -1, "", -1),
                _ => (key, ErrorCode::NONE, 7, "broker.test", 9092),
            });
            assert_eq!(found.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn one_group_in_old_versions() {
        for version in 0..=3 {
            let request = FindCoordinatorRequest { key: "known", ..Default::default() };
            let body = world().reply(version, &request);
            let response: FindCoordinatorResponse<'_> = decode(&body, version);
            assert_eq!((response.error_code, response.node_id), (ErrorCode::NONE, 7));
            assert_eq!((response.host, response.port), ("broker.test", 9092));
        }
    }

    #[test]
    fn only_groups_have_a_coordinator() {
        for key_type in [key_type::TRANSACTION, key_type::SHARE, 3, -1] {
            let request = FindCoordinatorRequest { key: "known", key_type, ..Default::default() };
            let body = world().reply(2, &request);
            let response: FindCoordinatorResponse<'_> = decode(&body, 2);
            assert_eq!((response.error_code, response.node_id), (ErrorCode::INVALID_REQUEST, -1));
            assert!(response.error_message.is_some());
        }
    }
}
