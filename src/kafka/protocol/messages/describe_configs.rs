//! DescribeConfigs: settings of topics and brokers, with their origins.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

/// Whose settings.
pub mod resource_type {
    pub const TOPIC: i8 = 2;
    pub const BROKER: i8 = 4;
    pub const BROKER_LOGGER: i8 = 8;
    pub const CLIENT_METRICS: i8 = 16;
    pub const GROUP: i8 = 32;
}

/// Where a value comes from.
pub mod config_source {
    pub const UNKNOWN: i8 = -1;
    pub const DYNAMIC_TOPIC: i8 = 1;
    pub const DYNAMIC_BROKER: i8 = 2;
    pub const DYNAMIC_DEFAULT_BROKER: i8 = 3;
    pub const STATIC_BROKER: i8 = 4;
    pub const DEFAULT: i8 = 5;
}

/// How a value is to be understood.
pub mod config_type {
    pub const UNKNOWN: i8 = 0;
    pub const BOOLEAN: i8 = 1;
    pub const STRING: i8 = 2;
    pub const INT: i8 = 3;
    pub const SHORT: i8 = 4;
    pub const LONG: i8 = 5;
    pub const DOUBLE: i8 = 6;
    pub const LIST: i8 = 7;
    pub const CLASS: i8 = 8;
    pub const PASSWORD: i8 = 9;
}

message! {
    /// Asks for settings.
    pub struct DescribeConfigsRequest<'a> {
        resources: Array<DescribeConfigsResource<'a>>, 0+;
        include_synonyms: bool, 1+;
        include_documentation: bool, 3+;
    }

    /// Whose settings, and which.
    pub struct DescribeConfigsResource<'a> {
        /// One of [`resource_type`].
        resource_type: i8, 0+;
        resource_name: &'a str, 0+;
        /// Null for all. Clients send an empty array for all as well.
        configuration_keys: Option<Array<&'a str>>, 0+;
    }

    /// The settings.
    pub struct DescribeConfigsResponse<'a> {
        throttle_time_ms: i32, 0+;
        results: Array<DescribeConfigsResult<'a>>, 0+;
    }

    /// The settings of one resource.
    pub struct DescribeConfigsResult<'a> {
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 0+;
        resource_type: i8, 0+;
        resource_name: &'a str, 0+;
        configs: Array<DescribeConfigsResourceResult<'a>>, 0+;
    }

    /// A setting.
    pub struct DescribeConfigsResourceResult<'a> {
        name: &'a str, 0+;
        /// Null when it is sensitive.
        value: Option<&'a str>, 0+;
        read_only: bool, 0+;
        /// One of [`config_source`].
        config_source: i8 = -1, 1+;
        is_sensitive: bool, 0+;
        /// Where the value would come from, the strongest first.
        synonyms: Array<DescribeConfigsSynonym<'a>>, 1+;
        /// One of [`config_type`].
        config_type: i8, 3+;
        documentation: Option<&'a str>, 3+;
    }

    /// A setting that this one falls back to.
    pub struct DescribeConfigsSynonym<'a> {
        name: &'a str, 1+;
        value: Option<&'a str>, 1+;
        /// One of [`config_source`].
        source: i8, 1+;
    }
}
