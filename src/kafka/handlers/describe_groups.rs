//! DescribeGroups: who is in a group, and what each was assigned.

use std::collections::BTreeSet;

use super::list_groups::state_name;
use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::answer_room::AnswerRoom;
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::describe_groups::{DescribedGroup, DescribedGroupMember};
use crate::kafka::protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message, operations};
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
    let allowed = operations::if_asked(request.include_authorized_operations, operations::ALL_OF_GROUP);
    let mut pending = DescribeGroups { version, groups: Vec::new(), allowed, room: ctx.answer_room };
    let mut seen = BTreeSet::new();
    // Each group once, however often it is named.
    for group in request.groups.iter().filter(|group| seen.insert(**group)) {
        let call = Call::Group { group: (*group).to_owned(), call: GroupCall::Describe };
        calls.push((ctx.catalog.group_log(group), call));
        pending.groups.push(((*group).to_owned(), Found::Nothing));
    }
    wait(ctx, calls, pending, out)
}

enum Found {
    Nothing,
    Group(Described),
    /// Larger than what the answer has room for.
    TooMuch(ErrorCode),
}

struct DescribeGroups {
    version: i16,
    /// In the order of the calls.
    groups: Vec<(String, Found)>,
    /// What the client may do with a group, if it asks for that.
    allowed: i32,
    room: AnswerRoom,
}

impl Pending for DescribeGroups {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::DescribeGroup(described) = answer else { unexpected(&answer) };
        self.groups[part as usize].1 = match described {
            None => Found::Nothing,
            Some(described) if self.room.take(bytes_of(&described)) => Found::Group(described),
            Some(_) => Found::TooMuch(errors::no_room_of_coordinator(&self.room)),
        };
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let groups = self.groups.iter().map(|(group_id, found)| match found {
            Found::Group(described) => present(group_id, described, self.allowed),
            Found::Nothing => absent(group_id, self.version, self.allowed),
            Found::TooMuch(error_code) => DescribedGroup {
                group_id,
                error_code: *error_code,
                error_message: Some(errors::NO_ROOM.1),
                ..Default::default()
            },
        });
        DescribeGroupsResponse { groups: groups.collect(), ..Default::default() }.encode(out, self.version);
    }

    fn room(&mut self) -> Option<&mut AnswerRoom> {
        Some(&mut self.room)
    }
}

/// What a group holds in memory, and in the response.
fn bytes_of(described: &Described) -> usize {
    let texts = described.protocol_type.len() + described.protocol.len();
    let members = described.members.iter().map(|member| {
        let names = member.member.len() + member.instance.as_ref().map_or(0, String::len);
        let client = member.client_id.len() + member.client_host.len();
        let bytes = member.metadata.len() + member.assignment.len();
        size_of_val(member) + size_of::<DescribedGroupMember<'_>>() + names + client + bytes
    });
    texts + members.sum::<usize>()
}

fn present<'a>(group_id: &'a str, described: &'a Described, allowed: i32) -> DescribedGroup<'a> {
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
        authorized_operations: allowed,
        ..Default::default()
    }
}

fn absent(group_id: &str, version: i16, allowed: i32) -> DescribedGroup<'_> {
    let dead = DescribedGroup { group_id, group_state: "Dead", ..Default::default() };
    if version < NOT_FOUND_SINCE {
        return DescribedGroup { authorized_operations: allowed, ..dead };
    }
    DescribedGroup {
        error_code: ErrorCode::GROUP_ID_NOT_FOUND,
        error_message: Some("there is no such group"),
        ..dead
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::group::call::DescribedMember;
    use crate::kafka::handlers::testing::{World, decode};
    use crate::shard::call::StateName;

    fn group(_: LogId, call: Call) -> Answer {
        let Call::Group { group, call: GroupCall::Describe } = call else { panic!("{call:?}") };
        let bytes = match &*group {
            "large" => 2_000_000,
            "small" => 10,
            _ => return Answer::DescribeGroup(None),
        };
        let member = DescribedMember {
            member: "m".into(),
            instance: None,
            client_id: "c".into(),
            client_host: "h".into(),
            metadata: Bytes::from(vec![7; bytes]),
            assignment: Bytes::new(),
        };
        Answer::DescribeGroup(Some(Described {
            state: StateName::Stable,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            members: vec![member],
        }))
    }

    #[test]
    fn each_group_once_and_no_more_than_there_is_room_for() {
        let mut world = World::default();
        let names = ["small", "large", "none"];
        let groups = std::iter::repeat_n(names, 300).flatten().collect();
        let request = DescribeGroupsRequest { groups, ..Default::default() };
        let states = |body: &[u8], version| {
            let response: DescribeGroupsResponse<'_> = decode(body, version);
            let groups = response.groups.iter();
            groups.map(|group| (group.group_id.to_owned(), group.error_code, group.members.len())).collect()
        };
        for version in 0..=6 {
            let absent =
                if version < NOT_FOUND_SINCE { ErrorCode::NONE } else { ErrorCode::GROUP_ID_NOT_FOUND };
            let expected = |code, members| {
                vec![
                    ("small".to_owned(), ErrorCode::NONE, 1),
                    ("large".to_owned(), code, members),
                    ("none".to_owned(), absent, 0),
                ]
            };
            world.answer_bytes = 100 << 20;
            let told: Vec<_> = states(&world.ask(version, &request, group), version);
            assert_eq!(told, expected(ErrorCode::NONE, 1), "version {version}");
            world.answer_bytes = 1 << 20;
            let told: Vec<_> = states(&world.ask(version, &request, group), version);
            assert_eq!(told, expected(ErrorCode::POLICY_VIOLATION, 0), "version {version}");
        }
    }

    #[test]
    fn what_is_allowed_is_told_when_asked() {
        let mut world = World::default();
        world.answer_bytes = 1 << 20;
        let groups = ["small", "large", "none"].into_iter().collect();
        let mut request = DescribeGroupsRequest { groups, ..Default::default() };
        for is_asked in [false, true] {
            request.include_authorized_operations = is_asked;
            for version in 0..=6 {
                let body = world.ask(version, &request, group);
                let response: DescribeGroupsResponse<'_> = decode(&body, version);
                for told in &response.groups {
                    let expected = is_asked && version >= 3 && !told.error_code.is_error();
                    let expected = operations::if_asked(expected, operations::ALL_OF_GROUP);
                    assert_eq!(told.authorized_operations, expected, "version {version}: {told:?}");
                }
            }
        }
    }
}
