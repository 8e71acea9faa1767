//! DescribeCluster: the brokers, without topics.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::operations;
use crate::kafka::protocol::schema::{Array, message};

/// Whose addresses.
pub mod endpoint_type {
    pub const BROKERS: i8 = 1;
    pub const CONTROLLERS: i8 = 2;
}

message! {
    /// Asks for the brokers.
    pub struct DescribeClusterRequest {
        include_cluster_authorized_operations: bool, 0+;
        /// One of [`endpoint_type`].
        endpoint_type: i8 = endpoint_type::BROKERS, 1+;
        include_fenced_brokers: bool, 2+;
    }

    /// The brokers.
    pub struct DescribeClusterResponse<'a> {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 0+;
        endpoint_type: i8 = endpoint_type::BROKERS, 1+;
        cluster_id: &'a str, 0+;
        controller_id: i32 = -1, 0+;
        brokers: Array<DescribeClusterBroker<'a>>, 0+;
        cluster_authorized_operations: i32 = operations::OMITTED, 0+;
    }

    /// A broker and where clients reach it.
    pub struct DescribeClusterBroker<'a> {
        broker_id: i32, 0+;
        host: &'a str, 0+;
        port: i32, 0+;
        rack: Option<&'a str>, 0+;
        is_fenced: bool, 2+;
    }
}
