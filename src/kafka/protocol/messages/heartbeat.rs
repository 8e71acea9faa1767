//! Heartbeat: a member is still there.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::message;

message! {
    /// Says that the member is there.
    pub struct HeartbeatRequest<'a> {
        group_id: &'a str, 0+;
        generation_id: i32, 0+;
        member_id: &'a str, 0+;
        group_instance_id: Option<&'a str>, 3+;
    }

    /// Whether the member may go on.
    pub struct HeartbeatResponse {
        throttle_time_ms: i32, 1+;
        error_code: ErrorCode, 0+;
    }
}
