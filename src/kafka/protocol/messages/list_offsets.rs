//! ListOffsets: the offset at a time, or at one of a partition's ends.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

/// Times that mean a place of the log.
pub mod timestamp {
    /// The end: the high watermark, or the last stable offset for a reader of committed records.
    pub const LATEST: i64 = -1;
    /// The log's start.
    pub const EARLIEST: i64 = -2;
    /// The record with the largest timestamp. Since version 7.
    pub const MAX_TIMESTAMP: i64 = -3;
    /// The start of what is on local disks. Since version 8.
    pub const EARLIEST_LOCAL: i64 = -4;
    /// The end of what is in tiered storage. Since version 9.
    pub const LATEST_TIERED: i64 = -5;
    /// The first offset that is not in tiered storage yet. Since version 11.
    pub const EARLIEST_PENDING_UPLOAD: i64 = -6;
}

message! {
    /// Asks for offsets by time.
    pub struct ListOffsetsRequest<'a> {
        /// -1 for a consumer.
        replica_id: i32 = -1, 0+;
        /// 0 reads uncommitted records, 1 committed ones only.
        isolation_level: i8, 2+;
        topics: Array<ListOffsetsTopic<'a>>, 0+;
        timeout_ms: i32, 10+;
    }

    /// A topic by name.
    pub struct ListOffsetsTopic<'a> {
        name: &'a str, 0+;
        partitions: Array<ListOffsetsPartition>, 0+;
    }

    /// A time in a partition.
    pub struct ListOffsetsPartition {
        partition_index: i32, 0+;
        current_leader_epoch: i32 = -1, 4+;
        /// Milliseconds since 1970, or one of [`timestamp`].
        timestamp: i64, 0+;
    }

    /// The offsets.
    pub struct ListOffsetsResponse<'a> {
        throttle_time_ms: i32, 2+;
        topics: Array<ListOffsetsTopicResponse<'a>>, 0+;
    }

    /// A topic by name.
    pub struct ListOffsetsTopicResponse<'a> {
        name: &'a str, 0+;
        partitions: Array<ListOffsetsPartitionResponse>, 0+;
    }

    /// The first record at or after the time; offset and timestamp -1 when there is none.
    pub struct ListOffsetsPartitionResponse {
        partition_index: i32, 0+;
        error_code: ErrorCode, 0+;
        timestamp: i64 = -1, 1+;
        offset: i64 = -1, 1+;
        leader_epoch: i32 = -1, 4+;
    }
}
