//! FindCoordinator: which broker a group or transactional id belongs to. One up to version 3, any number
//! since version 4.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

/// What a key names.
pub mod key_type {
    pub const GROUP: i8 = 0;
    pub const TRANSACTION: i8 = 1;
    /// Since version 6.
    pub const SHARE: i8 = 2;
}

message! {
    /// Asks for coordinators.
    pub struct FindCoordinatorRequest<'a> {
        key: &'a str, 0-3;
        /// One of [`key_type`].
        key_type: i8, 1+;
        coordinator_keys: Array<&'a str>, 4+;
    }

    /// The coordinators.
    pub struct FindCoordinatorResponse<'a> {
        throttle_time_ms: i32, 1+;
        error_code: ErrorCode, 0-3;
        error_message: Option<&'a str>, 1-3;
        node_id: i32, 0-3;
        host: &'a str, 0-3;
        port: i32, 0-3;
        coordinators: Array<Coordinator<'a>>, 4+;
    }

    /// The coordinator of a key.
    pub struct Coordinator<'a> {
        key: &'a str, 4+;
        node_id: i32, 4+;
        host: &'a str, 4+;
        port: i32, 4+;
        error_code: ErrorCode, 4+;
        error_message: Option<&'a str>, 4+;
    }
}
