//! OffsetDelete: a group forgets how far it has come in some partitions.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for offsets to go.
    pub struct OffsetDeleteRequest<'a> {
        group_id: &'a str, 0+;
        topics: Array<OffsetDeleteRequestTopic<'a>>, 0+;
    }

    /// A topic by name.
    pub struct OffsetDeleteRequestTopic<'a> {
        name: &'a str, 0+;
        partitions: Array<OffsetDeleteRequestPartition>, 0+;
    }

    /// A partition.
    pub struct OffsetDeleteRequestPartition {
        partition_index: i32, 0+;
    }

    /// What became of each.
    pub struct OffsetDeleteResponse<'a> {
        error_code: ErrorCode, 0+;
        throttle_time_ms: i32, 0+;
        topics: Array<OffsetDeleteResponseTopic<'a>>, 0+;
    }

    /// A topic by name.
    pub struct OffsetDeleteResponseTopic<'a> {
        name: &'a str, 0+;
        partitions: Array<OffsetDeleteResponsePartition>, 0+;
    }

    /// Whether a partition's offset is gone.
    pub struct OffsetDeleteResponsePartition {
        partition_index: i32, 0+;
        error_code: ErrorCode, 0+;
    }
}
