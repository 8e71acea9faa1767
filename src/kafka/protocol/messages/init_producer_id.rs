//! InitProducerId: an identity for an idempotent or transactional producer.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::message;

message! {
    /// Asks for a producer id, or for the next epoch of one.
    pub struct InitProducerIdRequest<'a> {
        /// Null for an idempotent producer without transactions.
        transactional_id: Option<&'a str>, 0+;
        transaction_timeout_ms: i32, 0+;
        /// -1 unless the producer has one.
        producer_id: i64 = -1, 3+;
        producer_epoch: i16 = -1, 3+;
    }

    /// The identity.
    pub struct InitProducerIdResponse {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        producer_id: i64 = -1, 0+;
        producer_epoch: i16, 0+;
    }
}
