//! ListPartitionReassignments: there is one broker, so that no partition is on its way to another.

use super::Outcome;
use crate::kafka::context::Context;
use crate::kafka::protocol::Message;
use crate::kafka::protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use crate::kafka::protocol::wire::Writer;

pub fn handle(
    _: &Context<'_>,
    version: i16,
    _: ListPartitionReassignmentsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    ListPartitionReassignmentsResponse::default().encode(out, version);
    Outcome::Reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};
    use crate::kafka::protocol::messages::list_partition_reassignments::ListPartitionReassignmentsTopics;

    #[test]
    fn nothing_moves() {
        let topic = |name| ListPartitionReassignmentsTopics { name, ..Default::default() };
        for topics in [None, Some([topic("a"), topic("z")].into_iter().collect())] {
            let request = ListPartitionReassignmentsRequest { topics, ..Default::default() };
            let body = World::with_topics(&["a"]).reply(0, &request);
            let response: ListPartitionReassignmentsResponse<'_> = decode(&body, 0);
            assert_eq!(response, ListPartitionReassignmentsResponse::default());
        }
    }
}
