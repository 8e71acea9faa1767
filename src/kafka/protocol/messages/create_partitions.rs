//! CreatePartitions: more partitions for topics that exist.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for topics to grow.
    pub struct CreatePartitionsRequest<'a> {
        topics: Array<CreatePartitionsTopic<'a>>, 0+;
        timeout_ms: i32, 0+;
        validate_only: bool, 0+;
    }

    /// A topic and how large it shall be.
    pub struct CreatePartitionsTopic<'a> {
        name: &'a str, 0+;
        /// Of all its partitions, not only of the new ones.
        count: i32, 0+;
        /// Null: the broker places the new partitions.
        assignments: Option<Array<CreatePartitionsAssignment>>, 0+;
    }

    /// The brokers that a new partition shall be on.
    pub struct CreatePartitionsAssignment {
        broker_ids: Array<i32>, 0+;
    }

    /// What became of each topic.
    pub struct CreatePartitionsResponse<'a> {
        throttle_time_ms: i32, 0+;
        results: Array<CreatePartitionsTopicResult<'a>>, 0+;
    }

    /// Whether a topic has grown.
    pub struct CreatePartitionsTopicResult<'a> {
        name: &'a str, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 0+;
    }
}
