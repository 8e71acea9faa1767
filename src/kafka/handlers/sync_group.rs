//! SyncGroup: a member gets its assignment. The answer waits until the leader's word is durable.

use bytes::Bytes;

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::LogId;
use crate::shard::call::{Answer, Call, GroupCall, MemberRef, SyncCall, Synced};

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: SyncGroupRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut calls = Vec::new();
    let mut pending = SyncGroup { version, result: Err(ErrorCode::NONE) };
    match ctx.group(request.group_id) {
        Ok(log) => {
            let group = request.group_id.to_owned();
            calls.push((log, Call::Group { group, call: GroupCall::Sync(Box::new(sync_call(&request))) }));
        }
        Err(error_code) => pending.result = Err(error_code),
    }
    wait(ctx, calls, pending, out)
}

fn sync_call(request: &SyncGroupRequest<'_>) -> SyncCall {
    let assignments = request.assignments.iter();
    let assignments = assignments
        .map(|assigned| (assigned.member_id.to_owned(), Bytes::copy_from_slice(assigned.assignment)));
    SyncCall {
        who: MemberRef {
            member: request.member_id.to_owned(),
            instance: request.group_instance_id.map(str::to_owned),
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type.map(str::to_owned),
        protocol: request.protocol_name.map(str::to_owned),
        assignments: assignments.collect(),
    }
}

struct SyncGroup {
    version: i16,
    result: Result<Synced, ErrorCode>,
}

impl Pending for SyncGroup {
    fn on_answer(&mut self, _: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::Synced(synced) = answer else { unexpected(&answer) };
        self.result = synced.map_err(|error| errors::of_sync(&error));
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let response = match &self.result {
            Ok(synced) => SyncGroupResponse {
                protocol_type: Some(&synced.protocol_type),
                protocol_name: Some(&synced.protocol),
                assignment: &synced.assignment,
                ..Default::default()
            },
            Err(error_code) => SyncGroupResponse { error_code: *error_code, ..Default::default() },
        };
        response.encode(out, self.version);
    }
}
