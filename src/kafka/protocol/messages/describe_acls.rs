//! DescribeAcls: who may do what.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

/// A resource is named by all of its name, and not by a prefix of it.
const LITERAL: i8 = 3;

message! {
    /// Asks for the entries that a filter lets pass.
    pub struct DescribeAclsRequest<'a> {
        resource_type_filter: i8, 0+;
        /// Null for any.
        resource_name_filter: Option<&'a str>, 0+;
        pattern_type_filter: i8 = LITERAL, 1+;
        /// Null for any.
        principal_filter: Option<&'a str>, 0+;
        /// Null for any.
        host_filter: Option<&'a str>, 0+;
        operation: i8, 0+;
        permission_type: i8, 0+;
    }

    /// The entries by resource.
    pub struct DescribeAclsResponse<'a> {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 0+;
        resources: Array<DescribeAclsResource<'a>>, 0+;
    }

    /// A resource and its entries.
    pub struct DescribeAclsResource<'a> {
        resource_type: i8, 0+;
        resource_name: &'a str, 0+;
        pattern_type: i8 = LITERAL, 1+;
        acls: Array<AclDescription<'a>>, 0+;
    }

    /// Who may, or may not, do what.
    pub struct AclDescription<'a> {
        principal: &'a str, 0+;
        host: &'a str, 0+;
        operation: i8, 0+;
        permission_type: i8, 0+;
    }
}
