//! ListConfigResources: the names of what has settings. Its version 0 was called ListClientMetricsResources.

use super::describe_configs::resource_type;
use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for the names of resources.
    pub struct ListConfigResourcesRequest {
        /// As in `DescribeConfigs`; none for all. Version 0 is about metrics of clients alone.
        resource_types: Array<i8>, 1+;
    }

    /// The resources.
    pub struct ListConfigResourcesResponse<'a> {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        config_resources: Array<ConfigResource<'a>>, 0+;
    }

    /// A resource that has settings.
    pub struct ConfigResource<'a> {
        resource_name: &'a str, 0+;
        /// As in `DescribeConfigs`.
        resource_type: i8 = resource_type::CLIENT_METRICS, 1+;
    }
}
