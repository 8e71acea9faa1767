//! OffsetForLeaderEpoch: where an epoch of a partition ends, for a client that suspects truncation
//! (KIP-320).

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for the ends of epochs.
    pub struct OffsetForLeaderEpochRequest<'a> {
        /// -1 for a consumer, -2 for a replica that does not say which it is.
        replica_id: i32 = -2, 3+;
        topics: Array<OffsetForLeaderTopic<'a>>, 0+;
    }

    /// A topic by name.
    pub struct OffsetForLeaderTopic<'a> {
        topic: &'a str, 0+;
        partitions: Array<OffsetForLeaderPartition>, 0+;
    }

    /// An epoch of a partition.
    pub struct OffsetForLeaderPartition {
        partition: i32, 0+;
        current_leader_epoch: i32 = -1, 2+;
        leader_epoch: i32, 0+;
    }

    /// The ends of the epochs.
    pub struct OffsetForLeaderEpochResponse<'a> {
        throttle_time_ms: i32, 2+;
        topics: Array<OffsetForLeaderTopicResult<'a>>, 0+;
    }

    /// A topic by name.
    pub struct OffsetForLeaderTopicResult<'a> {
        topic: &'a str, 0+;
        partitions: Array<EpochEndOffset>, 0+;
    }

    /// The largest epoch that is not after the one that was asked for, and its end; -1 when unknown.
    pub struct EpochEndOffset {
        error_code: ErrorCode, 0+;
        partition: i32, 0+;
        leader_epoch: i32 = -1, 1+;
        end_offset: i64 = -1, 0+;
    }
}
