//! DescribeProducers: the idempotent and transactional producers that partitions remember.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for the producers of partitions.
    pub struct DescribeProducersRequest<'a> {
        topics: Array<DescribeProducersTopic<'a>>, 0+;
    }

    /// A topic by name.
    pub struct DescribeProducersTopic<'a> {
        name: &'a str, 0+;
        partition_indexes: Array<i32>, 0+;
    }

    /// The producers.
    pub struct DescribeProducersResponse<'a> {
        throttle_time_ms: i32, 0+;
        topics: Array<DescribeProducersTopicResponse<'a>>, 0+;
    }

    /// A topic by name.
    pub struct DescribeProducersTopicResponse<'a> {
        name: &'a str, 0+;
        partitions: Array<DescribeProducersPartition<'a>>, 0+;
    }

    /// The producers of a partition.
    pub struct DescribeProducersPartition<'a> {
        partition_index: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 0+;
        active_producers: Array<ProducerState>, 0+;
    }

    /// What the partition knows of a producer.
    pub struct ProducerState {
        producer_id: i64, 0+;
        producer_epoch: i32, 0+;
        last_sequence: i32 = -1, 0+;
        last_timestamp: i64 = -1, 0+;
        coordinator_epoch: i32, 0+;
        /// -1 outside of a transaction.
        current_txn_start_offset: i64 = -1, 0+;
    }
}
