//! JoinGroup: a member takes part in a group's next generation. The answer waits for the others.

use std::time::Duration;

use bytes::Bytes;

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::join_group::JoinGroupResponseMember;
use crate::kafka::protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::LogId;
use crate::shard::call::{Answer, Call, CallError, GroupCall, GroupError, JoinCall, Joined};

/// First version with a timeout of its own for rebalances.
const REBALANCE_TIMEOUT_SINCE: i16 = 1;
/// First version whose clients come again with the id that they are given (KIP-394).
const MEMBER_ID_REQUIRED_SINCE: i16 = 4;
/// First version in which "no protocol" is null.
const NULL_PROTOCOL_SINCE: i16 = 7;
/// First version whose clients can be told to skip the assignment (KIP-814).
const SKIP_SINCE: i16 = 9;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: JoinGroupRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut pending = JoinGroup { version, result: Err(refusal(ErrorCode::NONE)) };
    let mut calls = Vec::new();
    match ctx.group(request.group_id) {
        Ok(log) => {
            let group = request.group_id.to_owned();
            let call = GroupCall::Join(Box::new(join_call(ctx, version, &request)));
            calls.push((log, Call::Group { group, call }));
        }
        Err(error_code) => pending.result = Err(refusal(error_code)),
    }
    wait(ctx, calls, pending, out)
}

fn join_call(ctx: &Context<'_>, version: i16, request: &JoinGroupRequest<'_>) -> JoinCall {
    // Negative timeouts are as short as can be.
    let millis = |ms: i32| Duration::from_millis(ms.max(0) as u64);
    let rebalance_timeout_ms = if version < REBALANCE_TIMEOUT_SINCE {
        request.session_timeout_ms
    } else {
        request.rebalance_timeout_ms
    };
    let protocols = request.protocols.iter();
    let protocols =
        protocols.map(|protocol| (protocol.name.to_owned(), Bytes::copy_from_slice(protocol.metadata)));
    JoinCall {
        member: request.member_id.to_owned(),
        instance: request.group_instance_id.map(str::to_owned),
        client_id: ctx.client.id.to_owned(),
        // As Java prints an address, which is what tools show.
        client_host: format!("/{}", ctx.client.address),
        session_timeout: millis(request.session_timeout_ms),
        rebalance_timeout: millis(rebalance_timeout_ms),
        protocol_type: request.protocol_type.to_owned(),
        protocols: protocols.collect(),
        needs_id: version >= MEMBER_ID_REQUIRED_SINCE,
        can_skip: version >= SKIP_SINCE,
    }
}

/// A code, and the member id that goes with it.
type Refusal = (ErrorCode, String);

fn refusal(code: ErrorCode) -> Refusal {
    (code, String::new())
}

struct JoinGroup {
    version: i16,
    result: Result<Joined, Refusal>,
}

impl Pending for JoinGroup {
    fn on_answer(&mut self, _: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::Joined(joined) = answer else { unexpected(&answer) };
        self.result = joined.map_err(|error| {
            let code = errors::of_coordinator(&error);
            match error {
                CallError::Group(GroupError::MemberIdRequired { member }) => (code, member),
                _ => refusal(code),
            }
        });
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let response = match &self.result {
            Ok(joined) => JoinGroupResponse {
                generation_id: joined.generation,
                protocol_type: Some(&joined.protocol_type),
                protocol_name: Some(&joined.protocol),
                leader: &joined.leader,
                skip_assignment: joined.skip_assignment,
                member_id: &joined.member,
                members: joined
                    .members
                    .iter()
                    .map(|member| JoinGroupResponseMember {
                        member_id: &member.member,
                        group_instance_id: member.instance.as_deref(),
                        metadata: &member.metadata,
                    })
                    .collect(),
                ..Default::default()
            },
            Err((error_code, member_id)) => JoinGroupResponse {
                error_code: *error_code,
                protocol_name: (self.version < NULL_PROTOCOL_SINCE).then_some(""),
                member_id,
                ..Default::default()
            },
        };
        response.encode(out, self.version);
    }
}
