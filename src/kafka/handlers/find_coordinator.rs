//! FindCoordinator: which broker a group belongs to. Where each log is a broker of its own, it is that of the
//! group's log, which follows from its name: nothing is stored for a name that somebody asks about.

use super::Outcome;
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::find_coordinator::{Coordinator, key_type};
use crate::kafka::protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};

/// First version that asks for many keys at once.
const MANY_SINCE: i16 = 4;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: FindCoordinatorRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    // A retriable code would make producers wait for transactions in vain.
    let refused = match request.key_type {
        key_type::GROUP => None,
        key_type::TRANSACTION => Some("this broker has no transactions"),
        key_type::SHARE => Some("this broker has no share groups"),
        _ => Some("unknown key type"),
    };
    let error_code = if refused.is_some() { ErrorCode::INVALID_REQUEST } else { ErrorCode::NONE };
    let error_message = refused;
    let place = |group: &str| {
        if refused.is_some() {
            return (-1, "", -1);
        }
        let node = ctx.broker.of_log(ctx.catalog.group_log(group));
        (node.id, node.host, node.port.into())
    };
    let response = if version < MANY_SINCE {
        let (node_id, host, port) = place(request.key);
        FindCoordinatorResponse { error_code, error_message, node_id, host, port, ..Default::default() }
    } else {
        let mut room = ctx.answer_room;
        let coordinator = |key| {
            let (node_id, host, port) = place(key);
            let found = Coordinator { key, node_id, host, port, error_code, error_message };
            if room.take(size_of_val(&found) + key.len() + host.len() + error_message.map_or(0, str::len)) {
                return found;
            }
            let error_code = errors::no_room_of_coordinator(&room);
            Coordinator { key, node_id: -1, port: -1, error_code, ..Default::default() }
        };
        let coordinators = request.coordinator_keys.iter().copied().map(coordinator).collect();
        FindCoordinatorResponse { coordinators, ..Default::default() }
    };
    response.encode(out, version);
    Outcome::Reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};
    use crate::metadata::record::MetaRecord;
    use crate::model::LogId;

    #[test]
    fn every_group_is_here_and_nothing_is_stored() {
        let keys = ["one", "two", "", "one"];
        let request =
            FindCoordinatorRequest { coordinator_keys: keys.into_iter().collect(), ..Default::default() };
        for version in 4..=6 {
            // `reply` allows no call to the metadata log.
            let body = World::default().reply(version, &request);
            let response: FindCoordinatorResponse<'_> = decode(&body, version);
            let found = response
                .coordinators
                .iter()
                .map(|found| (found.key, found.error_code, found.node_id, found.host, found.port));
            let expected = keys.map(|key| (key, ErrorCode::NONE, 7, "broker.test", 9092));
            assert_eq!(found.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_group_is_at_its_log_and_a_new_one_where_everybody_is_sent() {
        let world = World::default().advertise_logs();
        let log = |log| LogId(log);
        world.apply(MetaRecord::GroupAssigned { group: "one".into(), log: log(2) });
        world.apply(MetaRecord::GroupAssigned { group: "two".into(), log: log(1) });
        let keys = ["one", "two", "new", "new"];
        let request =
            FindCoordinatorRequest { coordinator_keys: keys.into_iter().collect(), ..Default::default() };
        let body = world.reply(6, &request);
        let response: FindCoordinatorResponse<'_> = decode(&body, 6);
        let found = response.coordinators.iter().map(|found| (found.node_id, found.port));
        let new = world.with_context(|ctx| {
            let node = ctx.broker.of_log(ctx.catalog.group_log("new"));
            (node.id, i32::from(node.port))
        });
        assert_eq!(found.collect::<Vec<_>>(), [(102, 9202), (101, 9201), new, new]);
    }

    #[test]
    fn one_group_in_old_versions() {
        for version in 0..=3 {
            let request = FindCoordinatorRequest { key: "group", ..Default::default() };
            let body = World::default().reply(version, &request);
            let response: FindCoordinatorResponse<'_> = decode(&body, version);
            assert_eq!((response.error_code, response.node_id), (ErrorCode::NONE, 7));
            assert_eq!((response.host, response.port), ("broker.test", 9092));
        }
    }

    #[test]
    fn only_groups_have_a_coordinator() {
        for key_type in [key_type::TRANSACTION, key_type::SHARE, 3, -1] {
            let request = FindCoordinatorRequest { key: "group", key_type, ..Default::default() };
            let body = World::default().reply(2, &request);
            let response: FindCoordinatorResponse<'_> = decode(&body, 2);
            assert_eq!((response.error_code, response.node_id), (ErrorCode::INVALID_REQUEST, -1));
            assert!(response.error_message.is_some());
        }
    }
}
