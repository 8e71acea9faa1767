//! DeleteGroups: groups without members go, with their offsets.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for groups to go.
    pub struct DeleteGroupsRequest<'a> {
        groups_names: Array<&'a str>, 0+;
    }

    /// What became of each.
    pub struct DeleteGroupsResponse<'a> {
        throttle_time_ms: i32, 0+;
        results: Array<DeletableGroupResult<'a>>, 0+;
    }

    /// Whether a group is gone.
    pub struct DeletableGroupResult<'a> {
        group_id: &'a str, 0+;
        error_code: ErrorCode, 0+;
    }
}
