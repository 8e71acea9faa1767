//! LeaveGroup: members go, and the others are rebalanced.

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::leave_group::MemberResponse;
use crate::kafka::protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::LogId;
use crate::shard::call::{Answer, Call, GroupCall, Leaving};

/// First version with many members, each with its own result.
const MANY_SINCE: i16 = 3;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: LeaveGroupRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let leaving: Vec<Leaving> = if version < MANY_SINCE {
        vec![Leaving { member: request.member_id.to_owned(), instance: None }]
    } else {
        let members = request.members.iter().map(|identity| Leaving {
            member: identity.member_id.to_owned(),
            instance: identity.group_instance_id.map(str::to_owned),
        });
        members.collect()
    };
    let mut calls = Vec::new();
    let mut pending = LeaveGroup { version, error_code: ErrorCode::NONE, members: Vec::new() };
    match ctx.group(request.group_id) {
        Ok(log) => {
            let call = GroupCall::Leave(leaving.clone());
            calls.push((log, Call::Group { group: request.group_id.to_owned(), call }));
            pending.members = leaving.into_iter().map(|one| (one, ErrorCode::NONE)).collect();
        }
        Err(ErrorCode::UNKNOWN_MEMBER_ID) => {
            pending.members = leaving.into_iter().map(|one| (one, ErrorCode::UNKNOWN_MEMBER_ID)).collect();
        }
        Err(error_code) => pending.error_code = error_code,
    }
    wait(ctx, calls, pending, out)
}

struct LeaveGroup {
    version: i16,
    error_code: ErrorCode,
    members: Vec<(Leaving, ErrorCode)>,
}

impl Pending for LeaveGroup {
    fn on_answer(&mut self, _: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::Left(result) = answer else { unexpected(&answer) };
        let code = |result: Result<(), _>| result.map_or_else(|e| errors::of_group(&e), |()| ErrorCode::NONE);
        match result.map_err(|error| errors::of_coordinator(&error)) {
            Ok(results) => {
                for ((_, error_code), result) in self.members.iter_mut().zip(results) {
                    *error_code = code(result);
                }
            }
            // The group is not there: nobody is in it.
            Err(ErrorCode::UNKNOWN_MEMBER_ID) => {
                self.members.iter_mut().for_each(|member| member.1 = ErrorCode::UNKNOWN_MEMBER_ID);
            }
            Err(error_code) => {
                self.error_code = error_code;
                self.members.clear();
            }
        }
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let mut response = LeaveGroupResponse { error_code: self.error_code, ..Default::default() };
        if self.version < MANY_SINCE {
            if let Some((_, error_code)) = self.members.first() {
                response.error_code = *error_code;
            }
        } else {
            let members = self.members.iter().map(|(leaving, error_code)| MemberResponse {
                member_id: &leaving.member,
                group_instance_id: leaving.instance.as_deref(),
                error_code: *error_code,
            });
            response.members = members.collect();
        }
        response.encode(out, self.version);
    }
}
