//! AlterConfigs: all settings of resources at once. What is not named goes back to its default.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for settings to be replaced.
    pub struct AlterConfigsRequest<'a> {
        resources: Array<AlterConfigsResource<'a>>, 0+;
        validate_only: bool, 0+;
    }

    /// Whose settings.
    pub struct AlterConfigsResource<'a> {
        /// As in `DescribeConfigs`.
        resource_type: i8, 0+;
        resource_name: &'a str, 0+;
        configs: Array<AlterableConfig<'a>>, 0+;
    }

    /// A setting.
    pub struct AlterableConfig<'a> {
        name: &'a str, 0+;
        value: Option<&'a str>, 0+;
    }

    /// What became of each resource.
    pub struct AlterConfigsResponse<'a> {
        throttle_time_ms: i32, 0+;
        responses: Array<AlterConfigsResourceResponse<'a>>, 0+;
    }

    /// Whether a resource's settings were changed, in the response of IncrementalAlterConfigs, too.
    pub struct AlterConfigsResourceResponse<'a> {
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 0+;
        resource_type: i8, 0+;
        resource_name: &'a str, 0+;
    }
}
