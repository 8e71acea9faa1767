//! SyncGroup: a member gets its assignment, and the leader brings everybody's.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for the member's assignment.
    pub struct SyncGroupRequest<'a> {
        group_id: &'a str, 0+;
        generation_id: i32, 0+;
        member_id: &'a str, 0+;
        group_instance_id: Option<&'a str>, 3+;
        /// What the member believes to be in use.
        protocol_type: Option<&'a str>, 5+;
        protocol_name: Option<&'a str>, 5+;
        /// Of the leader.
        assignments: Array<SyncGroupRequestAssignment<'a>>, 0+;
    }

    /// What a member is to do.
    pub struct SyncGroupRequestAssignment<'a> {
        member_id: &'a str, 0+;
        assignment: &'a [u8], 0+;
    }

    /// What this member is to do.
    pub struct SyncGroupResponse<'a> {
        throttle_time_ms: i32, 1+;
        error_code: ErrorCode, 0+;
        protocol_type: Option<&'a str>, 5+;
        protocol_name: Option<&'a str>, 5+;
        assignment: &'a [u8], 0+;
    }
}
