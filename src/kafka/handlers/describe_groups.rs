//! DescribeGroups: who is in a group, and what each was assigned.

use super::list_groups::state_name;
use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::protocol::messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use crate::kafka::protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::LogId;
use crate::shard::call::{Answer, Call, Described, GroupCall};

/// First version in which a group that is not there is an error, and not a dead group.
const NOT_FOUND_SINCE: i16 = 6;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: DescribeGroupsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut calls = Vec::new();
    let mut pending = DescribeGroups { version, groups: Vec::new() };
    for group in &request.groups {
        let call = Call::Group { group: (*group).to_owned(), call: GroupCall::Describe };
        calls.push((ctx.catalog.group_log(group), call));
        pending.groups.push(((*group).to_owned(), None));
    }
    wait(ctx, calls, pending, out)
}

struct DescribeGroups {
    version: i16,
    /// In the order of the calls.
    groups: Vec<(String, Option<Described>)>,
}

impl Pending for DescribeGroups {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::DescribeGroup(described) = answer else { unexpected(&answer) };
        self.groups[part as usize].1 = described;
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let groups = self.groups.iter().map(|(group_id, described)| match described {
            Some(described) => present(group_id, described),
            None => absent(group_id, self.version),
        });
        DescribeGroupsResponse { groups: groups.collect(), ..Default::default() }.encode(out, self.version);
    }
}

fn present<'a>(group_id: &'a str, described: &'a Described) -> DescribedGroup<'a> {
    let members = described.members.iter().map(|member| DescribedGroupMember {
        member_id: &member.member,
        group_instance_id: member.instance.as_deref(),
        client_id: &member.client_id,
        client_host: &member.client_host,
        member_metadata: &member.metadata,
        member_assignment: &member.assignment,
    });
    DescribedGroup {
        group_id,
        group_state: state_name(described.state),
        protocol_type: &described.protocol_type,
        protocol_data: &described.protocol,
        members: members.collect(),
        ..Default::default()
    }
}

fn absent(group_id: &str, version: i16) -> DescribedGroup<'_> {
    let dead = DescribedGroup { group_id, group_state: "Dead", ..Default::default() };
    if version < NOT_FOUND_SINCE {
        return dead;
    }
    DescribedGroup {
        error_code: ErrorCode::GROUP_ID_NOT_FOUND,
        error_message: Some("there is no such group"),
        ..dead
    }
}
