//! OffsetCommit: how far a group has come.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Stores offsets of a group.
    pub struct OffsetCommitRequest<'a> {
        group_id: &'a str, 0+;
        /// -1 when the group has no members that it manages.
        generation_id_or_member_epoch: i32 = -1, 1+;
        member_id: &'a str, 1+;
        group_instance_id: Option<&'a str>, 7+;
        /// -1 for the broker's own.
        retention_time_ms: i64 = -1, 2-4;
        topics: Array<OffsetCommitRequestTopic<'a>>, 0+;
    }

    /// A topic by name.
    pub struct OffsetCommitRequestTopic<'a> {
        name: &'a str, 0-9;
        partitions: Array<OffsetCommitRequestPartition<'a>>, 0+;
    }

    /// The next offset to read, and what the client wants to remember with it.
    pub struct OffsetCommitRequestPartition<'a> {
        partition_index: i32, 0+;
        committed_offset: i64, 0+;
        committed_leader_epoch: i32 = -1, 6+;
        committed_metadata: Option<&'a str>, 0+;
    }

    /// Whether they were stored.
    pub struct OffsetCommitResponse<'a> {
        throttle_time_ms: i32, 3+;
        topics: Array<OffsetCommitResponseTopic<'a>>, 0+;
    }

    /// A topic by name.
    pub struct OffsetCommitResponseTopic<'a> {
        name: &'a str, 0-9;
        partitions: Array<OffsetCommitResponsePartition>, 0+;
    }

    /// Whether a partition's offset was stored.
    pub struct OffsetCommitResponsePartition {
        partition_index: i32, 0+;
        error_code: ErrorCode, 0+;
    }
}
