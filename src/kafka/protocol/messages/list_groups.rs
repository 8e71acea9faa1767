//! ListGroups: which groups there are.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for groups.
    pub struct ListGroupsRequest<'a> {
        /// Empty for all.
        states_filter: Array<&'a str>, 4+;
        /// Empty for all.
        types_filter: Array<&'a str>, 5+;
    }

    /// The groups.
    pub struct ListGroupsResponse<'a> {
        throttle_time_ms: i32, 1+;
        error_code: ErrorCode, 0+;
        groups: Array<ListedGroup<'a>>, 0+;
    }

    /// A group.
    pub struct ListedGroup<'a> {
        group_id: &'a str, 0+;
        protocol_type: &'a str, 0+;
        group_state: &'a str, 4+;
        group_type: &'a str, 5+;
    }
}
