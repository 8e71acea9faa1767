//! JoinGroup: a member takes part in a group's next generation.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks to be a member.
    pub struct JoinGroupRequest<'a> {
        group_id: &'a str, 0+;
        /// A member that is silent for so long is gone.
        session_timeout_ms: i32, 0+;
        /// How long a rebalance waits for the member; -1, before version 1, for the session timeout.
        rebalance_timeout_ms: i32 = -1, 1+;
        /// Empty for a new member.
        member_id: &'a str, 0+;
        /// The name of a static member.
        group_instance_id: Option<&'a str>, 5+;
        protocol_type: &'a str, 0+;
        protocols: Array<JoinGroupRequestProtocol<'a>>, 0+;
        reason: Option<&'a str>, 8+;
    }

    /// A way of assigning that the member knows, and what it says under it.
    pub struct JoinGroupRequestProtocol<'a> {
        name: &'a str, 0+;
        metadata: &'a [u8], 0+;
    }

    /// The generation that the member is in.
    pub struct JoinGroupResponse<'a> {
        throttle_time_ms: i32, 2+;
        error_code: ErrorCode, 0+;
        generation_id: i32 = -1, 0+;
        protocol_type: Option<&'a str>, 7+;
        /// Null, since version 7, where there is none.
        protocol_name: Option<&'a str>, 0+;
        leader: &'a str, 0+;
        /// The leader keeps the assignment that there is.
        skip_assignment: bool, 9+;
        member_id: &'a str, 0+;
        /// For the leader.
        members: Array<JoinGroupResponseMember<'a>>, 0+;
    }

    /// A member, and what it says under the chosen protocol.
    pub struct JoinGroupResponseMember<'a> {
        member_id: &'a str, 0+;
        group_instance_id: Option<&'a str>, 5+;
        metadata: &'a [u8], 0+;
    }
}
