//! What requests cost a turn: told by bytes and calls, not by a clock, so that a simulation repeats.
//!
//! Producing and fetching, and what keeps a group alive, cost about what their bytes say, and are taken up as
//! they come. Whatever may cost far more has so much of each turn, for all connections together, and waits in
//! line for the next one when that is spent. So do fetches of what was read back from the device, with a share of
//! their own: it is searched and summed, and everybody's commit waits meanwhile.

use crate::kafka::protocol::ApiKey;
use crate::log::read::PastWork;
use crate::model::LogId;
use crate::shard::call::Call;

/// A connection takes up requests that cost about so much in a turn, and the one that goes beyond. The others
/// are for the turns that follow: who asks for much at a time must not keep all others waiting for it. Nor must
/// many: all connections together have the same for requests that may cost much.
pub const TURN_COST: usize = 1 << 20;

/// Up to this size, requests that members of groups live by cost little.
const SMALL_BYTES: usize = 4 << 10;

// In about nanoseconds. Each byte of a response costs one.

const REQUEST_COST: usize = 256;
/// Of a byte of a request about many things, which are named in a dozen bytes or more.
const BYTE_COST: usize = 16;
/// So many bytes of records cost one: they are summed and copied.
const PRODUCED_BYTES: usize = 4;
/// Of a call, whoever performs it.
pub const CALL_COST: usize = 4 << 10;

/// All fetches together have so much of a turn for what was read back.
const READS_COST: usize = 128 << 10;

/// To search for a place in the past: the queue, its run, the chunk and its directory are in nobody's cache.
const SEARCH_COST: usize = 1 << 10;

/// So many bytes that were read back cost one: they are summed, whether they are served or not.
const COLD_BYTES: usize = 8;

/// What it takes to come from a request to its answer, but for calls. Records that a fetch will gather are not
/// touched.
pub fn of_request(api: ApiKey, request_bytes: usize, answer_bytes: usize) -> usize {
    let request = match api {
        ApiKey::Produce => request_bytes / PRODUCED_BYTES,
        _ => request_bytes * BYTE_COST,
    };
    REQUEST_COST + request + answer_bytes
}

/// What these calls take. One about all that there is of something takes a turn's share: it is known only
/// afterwards how much that was, and then others would have been made.
pub fn of_calls(calls: &[(LogId, Call)]) -> usize {
    calls.iter().map(|(_, call)| if call.is_about_all() { TURN_COST } else { CALL_COST }).sum()
}

/// Whether a request, but one to produce or to fetch, may cost much. It is known before the request is decoded.
pub fn may_be_high(api: ApiKey, request_bytes: usize) -> bool {
    // What members that are late with it are thrown out for, and what every client begins with.
    let is_urgent = matches!(
        api,
        ApiKey::Heartbeat
            | ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::LeaveGroup
            | ApiKey::OffsetCommit
            | ApiKey::FindCoordinator
            | ApiKey::InitProducerId
            | ApiKey::ApiVersions
    );
    !is_urgent || request_bytes > SMALL_BYTES
}

/// What a turn has spent, over all connections, on requests that may cost much and on fetches of the past.
#[derive(Debug, Default)]
pub struct TurnBudget {
    spent: usize,
    spent_on_reads: usize,
}

impl TurnBudget {
    pub fn spend(&mut self, cost: usize) {
        self.spent += cost;
    }

    /// What else may cost much is for the turns that follow.
    pub fn is_spent(&self) -> bool {
        self.spent >= TURN_COST
    }

    /// A fetch has done this. What is new, and that there is nothing, costs little.
    pub fn spend_on_read(&mut self, work: PastWork) {
        self.spent_on_reads += work.searches as usize * SEARCH_COST + work.summed_bytes / COLD_BYTES;
    }

    /// Fetches of the past look on in the turns that follow.
    pub fn are_reads_spent(&self) -> bool {
        self.spent_on_reads >= READS_COST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PartitionKey, TopicId};

    #[test]
    fn a_call_about_all_that_a_group_has_takes_a_turns_share() {
        let fetch = |partitions| (LogId(1), Call::FetchOffsets { group: "g".into(), partitions });
        let one = fetch(Some(vec![PartitionKey { topic: TopicId([1; 16]), index: 0 }]));
        assert_eq!(of_calls(&[one]), CALL_COST);
        assert_eq!(of_calls(&[fetch(None)]), TURN_COST);
    }

    #[test]
    fn a_large_request_of_any_kind_may_cost_much_and_a_small_one_of_most() {
        let high = [(ApiKey::Metadata, 20), (ApiKey::ListOffsets, 60), (ApiKey::OffsetCommit, 1 << 20)];
        assert!(high.iter().all(|(api, bytes)| may_be_high(*api, *bytes)));
        let low = [(ApiKey::Heartbeat, 80), (ApiKey::JoinGroup, 500), (ApiKey::OffsetCommit, SMALL_BYTES)];
        assert!(!low.iter().any(|(api, bytes)| may_be_high(*api, *bytes)));
    }
}
