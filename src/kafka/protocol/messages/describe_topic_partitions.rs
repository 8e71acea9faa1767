//! DescribeTopicPartitions: what `Metadata` says of topics, page by page.

use uuid::Uuid;

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::operations;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for topics.
    pub struct DescribeTopicPartitionsRequest<'a> {
        /// Empty for all.
        topics: Array<TopicRequest<'a>>, 0+;
        /// Most partitions of one response.
        response_partition_limit: i32 = 2000, 0+;
        /// Where the former response ended.
        cursor: Option<Cursor<'a>>, 0+;
    }

    /// A topic by name.
    pub struct TopicRequest<'a> {
        name: &'a str, 0+;
    }

    /// The first partition that is wanted, in the order of topics' names.
    pub struct Cursor<'a> {
        topic_name: &'a str, 0+;
        partition_index: i32, 0+;
    }

    /// The topics.
    pub struct DescribeTopicPartitionsResponse<'a> {
        throttle_time_ms: i32, 0+;
        topics: Array<DescribedTopic<'a>>, 0+;
        /// Null when nothing follows.
        next_cursor: Option<Cursor<'a>>, 0+;
    }

    /// A topic.
    pub struct DescribedTopic<'a> {
        error_code: ErrorCode, 0+;
        name: Option<&'a str>, 0+;
        topic_id: Uuid, 0+;
        is_internal: bool, 0+;
        partitions: Array<DescribedPartition>, 0+;
        topic_authorized_operations: i32 = operations::OMITTED, 0+;
    }

    /// A partition and its replicas.
    pub struct DescribedPartition {
        error_code: ErrorCode, 0+;
        partition_index: i32, 0+;
        leader_id: i32, 0+;
        leader_epoch: i32 = -1, 0+;
        replica_nodes: Array<i32>, 0+;
        isr_nodes: Array<i32>, 0+;
        eligible_leader_replicas: Option<Array<i32>>, 0+;
        last_known_elr: Option<Array<i32>>, 0+;
        offline_replicas: Array<i32>, 0+;
    }
}
