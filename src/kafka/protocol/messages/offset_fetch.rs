//! OffsetFetch: how far groups have come. One group up to version 7, any number since version 8.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for the committed offsets of groups.
    pub struct OffsetFetchRequest<'a> {
        group_id: &'a str, 0-7;
        /// Null, since version 2, asks for all.
        topics: Option<Array<OffsetFetchRequestTopic<'a>>>, 0-7;
        groups: Array<OffsetFetchRequestGroup<'a>>, 8+;
        /// Answer with an error while a transaction may still change the offsets.
        require_stable: bool, 7+;
    }

    /// A group, and the topics that are asked for.
    pub struct OffsetFetchRequestGroup<'a> {
        group_id: &'a str, 8+;
        member_id: Option<&'a str>, 9+;
        member_epoch: i32 = -1, 9+;
        /// Null asks for all.
        topics: Option<Array<OffsetFetchRequestTopic<'a>>>, 8+;
    }

    /// A topic by name.
    pub struct OffsetFetchRequestTopic<'a> {
        name: &'a str, 0-9;
        partition_indexes: Array<i32>, 0+;
    }

    /// The committed offsets.
    pub struct OffsetFetchResponse<'a> {
        throttle_time_ms: i32, 3+;
        topics: Array<OffsetFetchResponseTopic<'a>>, 0-7;
        error_code: ErrorCode, 2-7;
        groups: Array<OffsetFetchResponseGroup<'a>>, 8+;
    }

    /// A group's offsets.
    pub struct OffsetFetchResponseGroup<'a> {
        group_id: &'a str, 8+;
        topics: Array<OffsetFetchResponseTopic<'a>>, 8+;
        error_code: ErrorCode, 8+;
    }

    /// A topic by name.
    pub struct OffsetFetchResponseTopic<'a> {
        name: &'a str, 0-9;
        partitions: Array<OffsetFetchResponsePartition<'a>>, 0+;
    }

    /// What was committed for a partition.
    pub struct OffsetFetchResponsePartition<'a> {
        partition_index: i32, 0+;
        /// -1 when nothing was committed, which is no error.
        committed_offset: i64, 0+;
        committed_leader_epoch: i32 = -1, 5+;
        metadata: Option<&'a str>, 0+;
        error_code: ErrorCode, 0+;
    }
}
