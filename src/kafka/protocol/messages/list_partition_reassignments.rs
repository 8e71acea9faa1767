//! ListPartitionReassignments: partitions that are on their way to other brokers.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for what moves.
    pub struct ListPartitionReassignmentsRequest<'a> {
        timeout_ms: i32 = 60_000, 0+;
        /// Null for all.
        topics: Option<Array<ListPartitionReassignmentsTopics<'a>>>, 0+;
    }

    /// A topic by name.
    pub struct ListPartitionReassignmentsTopics<'a> {
        name: &'a str, 0+;
        partition_indexes: Array<i32>, 0+;
    }

    /// What moves.
    pub struct ListPartitionReassignmentsResponse<'a> {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 0+;
        topics: Array<OngoingTopicReassignment<'a>>, 0+;
    }

    /// A topic by name.
    pub struct OngoingTopicReassignment<'a> {
        name: &'a str, 0+;
        partitions: Array<OngoingPartitionReassignment>, 0+;
    }

    /// A partition that moves.
    pub struct OngoingPartitionReassignment {
        partition_index: i32, 0+;
        replicas: Array<i32>, 0+;
        adding_replicas: Array<i32>, 0+;
        removing_replicas: Array<i32>, 0+;
    }
}
