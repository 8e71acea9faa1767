//! Heartbeat: a member is still there, and hears whether it must join again.

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::LogId;
use crate::shard::call::{Answer, Call, GroupCall, MemberRef};

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: HeartbeatRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut calls = Vec::new();
    let mut pending = Heartbeat { version, error_code: ErrorCode::NONE };
    match ctx.group(request.group_id) {
        Ok(log) => {
            let who = MemberRef {
                member: request.member_id.to_owned(),
                instance: request.group_instance_id.map(str::to_owned),
                generation: request.generation_id,
            };
            let group = request.group_id.to_owned();
            calls.push((log, Call::Group { group, call: GroupCall::Heartbeat(who) }));
        }
        Err(error_code) => pending.error_code = error_code,
    }
    wait(ctx, calls, pending, out)
}

struct Heartbeat {
    version: i16,
    error_code: ErrorCode,
}

impl Pending for Heartbeat {
    fn on_answer(&mut self, _: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::Heartbeat(result) = answer else { unexpected(&answer) };
        self.error_code = result.map_or_else(|error| errors::of_coordinator(&error), |()| ErrorCode::NONE);
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        HeartbeatResponse { error_code: self.error_code, ..Default::default() }.encode(out, self.version);
    }
}
