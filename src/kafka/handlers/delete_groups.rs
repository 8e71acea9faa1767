//! DeleteGroups: groups without members are forgotten, with what they committed.

use std::collections::BTreeSet;

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::delete_groups::DeletableGroupResult;
use crate::kafka::protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::LogId;
use crate::shard::call::{Answer, Call, GroupCall};

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: DeleteGroupsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut calls = Vec::new();
    let mut pending = DeleteGroups { version, groups: Vec::new(), asked: Vec::new() };
    let mut seen = BTreeSet::new();
    // Each group once, as in Kafka: the second time it would be gone.
    for group in request.groups_names.iter().filter(|group| seen.insert(**group)) {
        let error_code = match ctx.any_group(group) {
            Ok(log) => {
                pending.asked.push(pending.groups.len());
                calls.push((log, Call::Group { group: (*group).to_owned(), call: GroupCall::Delete }));
                ErrorCode::NONE
            }
            Err(error_code) => error_code,
        };
        pending.groups.push(((*group).to_owned(), error_code));
    }
    wait(ctx, calls, pending, out)
}

struct DeleteGroups {
    version: i16,
    groups: Vec<(String, ErrorCode)>,
    /// The group that call `part` is about.
    asked: Vec<usize>,
}

impl Pending for DeleteGroups {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::DeleteGroup(result) = answer else { unexpected(&answer) };
        if let Err(error) = result {
            self.groups[self.asked[part as usize]].1 = errors::of_coordinator(&error);
        }
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let results = self.groups.iter();
        let results =
            results.map(|(group_id, error_code)| DeletableGroupResult { group_id, error_code: *error_code });
        DeleteGroupsResponse { results: results.collect(), ..Default::default() }.encode(out, self.version);
    }
}
