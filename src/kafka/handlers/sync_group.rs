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

/// First version whose clients must say which protocol they take for the group's (KIP-559).
const PROTOCOL_SINCE: i16 = 5;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: SyncGroupRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut calls = Vec::new();
    let mut pending = SyncGroup { version, result: Err(ErrorCode::NONE) };
    let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if version >= PROTOCOL_SINCE && !says_protocol {
        pending.result = Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        return wait(ctx, calls, pending, out);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};

    #[test]
    fn since_version_5_the_protocol_is_said() {
        let table = [
            (Some("consumer"), Some("range"), ErrorCode::NONE),
            (Some("consumer"), None, ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
            (None, Some("range"), ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
            (None, None, ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        ];
        for (protocol_type, protocol_name, expected) in table {
            let request = SyncGroupRequest {
                group_id: "g",
                member_id: "m",
                protocol_type,
                protocol_name,
                ..Default::default()
            };
            for version in [4, 5] {
                let synced = |_, _| {
                    Answer::Synced(Ok(Synced {
                        protocol_type: "consumer".into(),
                        protocol: "range".into(),
                        assignment: Bytes::new(),
                    }))
                };
                let body = World::default().ask(version, &request, synced);
                let response: SyncGroupResponse<'_> = decode(&body, version);
                let expected = if version < PROTOCOL_SINCE { ErrorCode::NONE } else { expected };
                assert_eq!(response.error_code, expected, "version {version}: {request:?}");
            }
        }
    }
}
