//! Fetch: record batches out of partitions, by offset, with a long poll.

use uuid::Uuid;

use super::leader::{LeaderIdAndEpoch, NodeEndpoint};
use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::records::Records;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for records of partitions.
    pub struct FetchRequest<'a> {
        /// -1 for a consumer; the id of a following broker otherwise.
        replica_id: i32 = -1, 0-14;
        max_wait_ms: i32, 0+;
        min_bytes: i32, 0+;
        max_bytes: i32 = i32::MAX, 3+;
        /// 0 reads uncommitted records, 1 committed ones only.
        isolation_level: i8, 4+;
        session_id: i32, 7+;
        /// -1 for no session, 0 to open one.
        session_epoch: i32 = -1, 7+;
        topics: Array<FetchTopic<'a>>, 0+;
        forgotten_topics_data: Array<ForgottenTopic<'a>>, 7+;
        rack_id: &'a str, 11+;
    } tagged {
        0 => cluster_id: Option<&'a str>, 12+;
        1 => replica_state: ReplicaState, 15+;
    }

    /// A following broker.
    pub struct ReplicaState {
        replica_id: i32 = -1, 15+;
        replica_epoch: i64 = -1, 15+;
    }

    /// A topic by name, since version 13 by id.
    pub struct FetchTopic<'a> {
        topic: &'a str, 0-12;
        topic_id: Uuid, 13+;
        partitions: Array<FetchPartition>, 0+;
    }

    /// From where on to read a partition.
    pub struct FetchPartition {
        partition: i32, 0+;
        current_leader_epoch: i32 = -1, 9+;
        fetch_offset: i64, 0+;
        last_fetched_epoch: i32 = -1, 12+;
        /// Of a following broker; -1 for a consumer.
        log_start_offset: i64 = -1, 5+;
        partition_max_bytes: i32, 0+;
    } tagged {
        0 => replica_directory_id: Uuid, 17+;
    }

    /// Partitions that leave an incremental session.
    pub struct ForgottenTopic<'a> {
        topic: &'a str, 7-12;
        topic_id: Uuid, 13+;
        partitions: Array<i32>, 7+;
    }

    /// Records of partitions.
    pub struct FetchResponse<'a> {
        throttle_time_ms: i32, 1+;
        error_code: ErrorCode, 7+;
        /// 0 when there is no session.
        session_id: i32, 7+;
        responses: Array<FetchableTopicResponse<'a>>, 0+;
    } tagged {
        0 => node_endpoints: Array<NodeEndpoint<'a>>, 16+;
    }

    /// A topic by name, since version 13 by id.
    pub struct FetchableTopicResponse<'a> {
        topic: &'a str, 0-12;
        topic_id: Uuid, 13+;
        partitions: Array<PartitionData<'a>>, 0+;
    }

    /// What a partition has from the offset on that was asked for.
    pub struct PartitionData<'a> {
        partition_index: i32, 0+;
        error_code: ErrorCode, 0+;
        high_watermark: i64, 0+;
        last_stable_offset: i64 = -1, 4+;
        log_start_offset: i64 = -1, 5+;
        /// By rising first offset; null for a reader of uncommitted records.
        aborted_transactions: Option<Array<AbortedTransaction>>, 4+;
        /// -1 for none.
        preferred_read_replica: i32 = -1, 11+;
        /// Whole batches. The first may begin before the offset that was asked for.
        records: Records<'a>, 0+;
    } tagged {
        0 => diverging_epoch: EpochEndOffset, 12+;
        1 => current_leader: LeaderIdAndEpoch, 12+;
        2 => snapshot_id: SnapshotId, 12+;
    }

    /// The largest epoch, and its end, in which the logs of leader and follower agree.
    pub struct EpochEndOffset {
        epoch: i32 = -1, 12+;
        end_offset: i64 = -1, 12+;
    }

    /// A snapshot of cluster metadata, between controllers.
    pub struct SnapshotId {
        end_offset: i64 = -1, 0+;
        epoch: i32 = -1, 0+;
    }

    /// A producer whose records from the offset on, up to its abort marker, are void.
    pub struct AbortedTransaction {
        producer_id: i64, 4+;
        first_offset: i64, 4+;
    }
}
