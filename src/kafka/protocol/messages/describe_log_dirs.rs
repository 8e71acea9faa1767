//! DescribeLogDirs: how much space partitions take, and where.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for the sizes of partitions.
    pub struct DescribeLogDirsRequest<'a> {
        /// Null for all.
        topics: Option<Array<DescribableLogDirTopic<'a>>>, 0+;
    }

    /// A topic by name.
    pub struct DescribableLogDirTopic<'a> {
        topic: &'a str, 0+;
        partitions: Array<i32>, 0+;
    }

    /// The log directories.
    pub struct DescribeLogDirsResponse<'a> {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 3+;
        results: Array<DescribeLogDirsResult<'a>>, 0+;
    }

    /// A log directory.
    pub struct DescribeLogDirsResult<'a> {
        error_code: ErrorCode, 0+;
        log_dir: &'a str, 0+;
        topics: Array<DescribeLogDirsTopic<'a>>, 0+;
        /// Of the file system; -1 when unknown.
        total_bytes: i64 = -1, 4+;
        /// What is left of it; -1 when unknown.
        usable_bytes: i64 = -1, 4+;
    }

    /// A topic by name.
    pub struct DescribeLogDirsTopic<'a> {
        name: &'a str, 0+;
        partitions: Array<DescribeLogDirsPartition>, 0+;
    }

    /// A partition's size in bytes.
    pub struct DescribeLogDirsPartition {
        partition_index: i32, 0+;
        partition_size: i64, 0+;
        /// Records that a replica has not got yet.
        offset_lag: i64, 0+;
        /// The replica will take another's place when it is complete.
        is_future_key: bool, 0+;
    }
}
