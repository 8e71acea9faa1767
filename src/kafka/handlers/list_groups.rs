//! ListGroups: the groups of all logs; at the port of a log, those of that one. Clients ask every broker that
//! they know of, and some put the answers together without a second look.

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::protocol::Message;
use crate::kafka::protocol::messages::list_groups::ListedGroup;
use crate::kafka::protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use crate::kafka::protocol::wire::Writer;
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
    let pending = ListGroups { version, states: states.collect(), groups: Vec::new() };
    let mut calls = Vec::new();
    if wanted(&request.types_filter, CLASSIC) {
        let here = |log: &LogId| ctx.client.at.is_none_or(|at| at == *log);
        calls.extend(ctx.catalog.logs().keys().copied().filter(here).map(|log| (log, Call::ListGroups)));
    }
    wait(ctx, calls, pending, out)
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
}

impl Pending for ListGroups {
    fn on_answer(&mut self, _: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::ListGroups(groups) = answer else { unexpected(&answer) };
        self.groups.extend(groups.into_iter().filter(|group| self.states.contains(&group.state)));
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        self.groups.sort_unstable_by(|a, b| a.group.cmp(&b.group));
        let groups = self.groups.iter().map(|listed| ListedGroup {
            group_id: &listed.group,
            protocol_type: &listed.protocol_type,
            group_state: state_name(listed.state),
            group_type: CLASSIC,
        });
        ListGroupsResponse { groups: groups.collect(), ..Default::default() }.encode(out, self.version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::World;

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
