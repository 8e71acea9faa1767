//! DescribeGroups: groups with their members.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::operations;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for groups by name.
    pub struct DescribeGroupsRequest<'a> {
        groups: Array<&'a str>, 0+;
        include_authorized_operations: bool, 3+;
    }

    /// The groups.
    pub struct DescribeGroupsResponse<'a> {
        throttle_time_ms: i32, 1+;
        groups: Array<DescribedGroup<'a>>, 0+;
    }

    /// A group.
    pub struct DescribedGroup<'a> {
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 6+;
        group_id: &'a str, 0+;
        group_state: &'a str, 0+;
        protocol_type: &'a str, 0+;
        /// The protocol in use.
        protocol_data: &'a str, 0+;
        members: Array<DescribedGroupMember<'a>>, 0+;
        authorized_operations: i32 = operations::OMITTED, 3+;
    }

    /// A member, what it said, and what it was assigned.
    pub struct DescribedGroupMember<'a> {
        member_id: &'a str, 0+;
        group_instance_id: Option<&'a str>, 4+;
        client_id: &'a str, 0+;
        client_host: &'a str, 0+;
        member_metadata: &'a [u8], 0+;
        member_assignment: &'a [u8], 0+;
    }
}
