//! IncrementalAlterConfigs: single settings of resources.

use super::alter_configs::AlterConfigsResourceResponse;
use crate::kafka::protocol::schema::{Array, message};

/// What is done to a setting.
pub mod config_operation {
    pub const SET: i8 = 0;
    pub const DELETE: i8 = 1;
    /// Of a list.
    pub const APPEND: i8 = 2;
    /// Of a list.
    pub const SUBTRACT: i8 = 3;
}

message! {
    /// Asks for settings to be changed.
    pub struct IncrementalAlterConfigsRequest<'a> {
        resources: Array<IncrementalAlterConfigsResource<'a>>, 0+;
        validate_only: bool, 0+;
    }

    /// Whose settings.
    pub struct IncrementalAlterConfigsResource<'a> {
        /// As in `DescribeConfigs`.
        resource_type: i8, 0+;
        resource_name: &'a str, 0+;
        configs: Array<IncrementalAlterableConfig<'a>>, 0+;
    }

    /// A change of a setting.
    pub struct IncrementalAlterableConfig<'a> {
        name: &'a str, 0+;
        /// One of [`config_operation`].
        config_operation: i8, 0+;
        value: Option<&'a str>, 0+;
    }

    /// What became of each resource.
    pub struct IncrementalAlterConfigsResponse<'a> {
        throttle_time_ms: i32, 0+;
        responses: Array<AlterConfigsResourceResponse<'a>>, 0+;
    }
}
