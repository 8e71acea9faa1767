//! DeleteRecords: moves the start of partitions forward.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for records before an offset to go.
    pub struct DeleteRecordsRequest<'a> {
        topics: Array<DeleteRecordsTopic<'a>>, 0+;
        timeout_ms: i32, 0+;
    }

    /// A topic by name.
    pub struct DeleteRecordsTopic<'a> {
        name: &'a str, 0+;
        partitions: Array<DeleteRecordsPartition>, 0+;
    }

    /// The new start of a partition.
    pub struct DeleteRecordsPartition {
        partition_index: i32, 0+;
        /// -1 for the high watermark.
        offset: i64, 0+;
    }

    /// What became of each partition.
    pub struct DeleteRecordsResponse<'a> {
        throttle_time_ms: i32, 0+;
        topics: Array<DeleteRecordsTopicResult<'a>>, 0+;
    }

    /// A topic by name.
    pub struct DeleteRecordsTopicResult<'a> {
        name: &'a str, 0+;
        partitions: Array<DeleteRecordsPartitionResult>, 0+;
    }

    /// Where a partition starts now.
    pub struct DeleteRecordsPartitionResult {
        partition_index: i32, 0+;
        /// -1 on error.
        low_watermark: i64, 0+;
        error_code: ErrorCode, 0+;
    }
}
