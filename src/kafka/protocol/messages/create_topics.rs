//! CreateTopics.

use uuid::Uuid;

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for new topics.
    pub struct CreateTopicsRequest<'a> {
        topics: Array<CreatableTopic<'a>>, 0+;
        timeout_ms: i32 = 60_000, 0+;
        validate_only: bool, 1+;
    }

    /// A topic to be.
    pub struct CreatableTopic<'a> {
        name: &'a str, 0+;
        /// -1 for the broker's default, or when there are assignments.
        num_partitions: i32, 0+;
        /// -1 for the broker's default, or when there are assignments.
        replication_factor: i16, 0+;
        assignments: Array<CreatableReplicaAssignment>, 0+;
        configs: Array<CreatableTopicConfig<'a>>, 0+;
    }

    /// The brokers that a partition shall be on.
    pub struct CreatableReplicaAssignment {
        partition_index: i32, 0+;
        broker_ids: Array<i32>, 0+;
    }

    /// A setting of the topic.
    pub struct CreatableTopicConfig<'a> {
        name: &'a str, 0+;
        value: Option<&'a str>, 0+;
    }

    /// What became of each topic.
    pub struct CreateTopicsResponse<'a> {
        throttle_time_ms: i32, 2+;
        topics: Array<CreatableTopicResult<'a>>, 0+;
    }

    /// A topic that was created, or why it was not.
    pub struct CreatableTopicResult<'a> {
        name: &'a str, 0+;
        topic_id: Uuid, 7+;
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 1+;
        num_partitions: i32 = -1, 5+;
        replication_factor: i16 = -1, 5+;
        /// Null when the client may not see them; the reason is then in `topic_config_error_code`.
        configs: Option<Array<CreatableTopicConfigs<'a>>>, 5+;
    } tagged {
        0 => topic_config_error_code: ErrorCode, 5+;
    }

    /// A setting that the topic has.
    pub struct CreatableTopicConfigs<'a> {
        name: &'a str, 5+;
        value: Option<&'a str>, 5+;
        read_only: bool, 5+;
        /// As in `DescribeConfigs`.
        config_source: i8 = -1, 5+;
        is_sensitive: bool, 5+;
    }
}
