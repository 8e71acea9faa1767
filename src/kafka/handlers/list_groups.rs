//! ListGroups: the groups of all logs; at the port of a log, those of that one. Clients ask every broker that
//! they know of, and some put the answers together without a second look.

use std::vec::IntoIter;

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::answer_room::AnswerRoom;
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::list_groups::ListedGroup;
use crate::kafka::protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::LogId;
use crate::shard::call::{Answer, Call, Listed, StateName};

/// The kind of every group here, as opposed to those of KIP-848 and KIP-932.
const CLASSIC: &str = "Classic";

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: ListGroupsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let wanted = |filter: &[&str], name: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let states = [StateName::Empty, StateName::Preparing, StateName::Completing, StateName::Stable];
    let states = states.into_iter().filter(|state| wanted(&request.states_filter, state_name(*state)));
    let states = states.collect();
    let mut calls = Vec::new();
    if wanted(&request.types_filter, CLASSIC) {
        let here = |log: &LogId| ctx.client.at.is_none_or(|at| at == *log);
        calls.extend(ctx.catalog.logs().keys().copied().filter(here).map(|log| (log, Call::ListGroups)));
    }
    // One log after the other: a small question may have very many groups for an answer.
    let mut calls = calls.into_iter();
    let first = calls.next().into_iter().collect();
    let (groups, failed) = (Vec::new(), ErrorCode::NONE);
    wait(ctx, first, ListGroups { version, states, groups, failed, calls, room: ctx.answer_room }, out)
}

/// What the protocol calls a group's state.
pub(super) fn state_name(state: StateName) -> &'static str {
    match state {
        StateName::Empty => "Empty",
        StateName::Preparing => "PreparingRebalance",
        StateName::Completing => "CompletingRebalance",
        StateName::Stable => "Stable",
    }
}

struct ListGroups {
    version: i16,
    states: Vec<StateName>,
    groups: Vec<Listed>,
    /// Why they are not told: all or none, or they would be taken for all.
    failed: ErrorCode,
    /// Logs to be asked.
    calls: IntoIter<(LogId, Call)>,
    room: AnswerRoom,
}

impl Pending for ListGroups {
    fn on_answer(&mut self, _: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::ListGroups(groups) = answer else { unexpected(&answer) };
        let before = self.groups.len();
        self.groups.extend(groups.into_iter().filter(|group| self.states.contains(&group.state)));
        if !self.room.take(self.groups[before..].iter().map(bytes_of).sum()) {
            self.failed = errors::no_room_of_coordinator(&self.room);
            self.groups = Vec::new();
            return Vec::new();
        }
        self.calls.next().into_iter().collect()
    }

    fn room(&mut self) -> Option<&mut AnswerRoom> {
        Some(&mut self.room)
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        self.groups.sort_unstable_by(|a, b| a.group.cmp(&b.group));
        let groups = self.groups.iter().map(|listed| ListedGroup {
            group_id: &listed.group,
            protocol_type: &listed.protocol_type,
            group_state: state_name(listed.state),
            group_type: CLASSIC,
        });
        let groups = groups.collect();
        ListGroupsResponse { error_code: self.failed, groups, ..Default::default() }
            .encode(out, self.version);
    }
}

/// What a group takes in memory, and in the response.
fn bytes_of(listed: &Listed) -> usize {
    size_of::<Listed>() + size_of::<ListedGroup<'_>>() + 2 * (listed.group.len() + listed.protocol_type.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};

    #[test]
    fn all_groups_or_an_error() {
        let listed = |index: usize| Listed {
            group: format!("group-{index:04}"),
            protocol_type: "consumer".into(),
            state: StateName::Stable,
        };
        let mut world = World::default();
        for (answer_bytes, code, count) in
            [(1 << 20, ErrorCode::NONE, 200), (20 << 10, ErrorCode::POLICY_VIOLATION, 0)]
        {
            world.answer_bytes = answer_bytes;
            let body = world.ask(5, &ListGroupsRequest::default(), |log, _| {
                Answer::ListGroups((0..100).map(|index| listed(1000 * log.0 as usize + index)).collect())
            });
            let response: ListGroupsResponse<'_> = decode(&body, 5);
            assert_eq!((response.error_code, response.groups.len()), (code, count));
        }
    }

    #[test]
    fn the_logs_that_are_asked() {
        for (at, expected) in [(None, vec![1, 2]), (Some(LogId(2)), vec![2])] {
            let mut world = World::default().advertise_logs();
            world.at = at;
            let mut asked = Vec::new();
            world.ask(5, &ListGroupsRequest::default(), |log, call| {
                assert!(matches!(call, Call::ListGroups));
                asked.push(log.0);
                Answer::ListGroups(Vec::new())
            });
            assert_eq!(asked, expected);
        }
    }
}
