//! LeaveGroup: a member goes. Since version 3 any number of them, named by others too.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Takes members out of a group.
    pub struct LeaveGroupRequest<'a> {
        group_id: &'a str, 0+;
        member_id: &'a str, 0-2;
        members: Array<MemberIdentity<'a>>, 3+;
    }

    /// A member; one with an instance id may be named by that alone.
    pub struct MemberIdentity<'a> {
        member_id: &'a str, 3+;
        group_instance_id: Option<&'a str>, 3+;
        reason: Option<&'a str>, 5+;
    }

    /// What became of each.
    pub struct LeaveGroupResponse<'a> {
        throttle_time_ms: i32, 1+;
        error_code: ErrorCode, 0+;
        members: Array<MemberResponse<'a>>, 3+;
    }

    /// Whether a member is out.
    pub struct MemberResponse<'a> {
        member_id: &'a str, 3+;
        group_instance_id: Option<&'a str>, 3+;
        error_code: ErrorCode, 3+;
    }
}
