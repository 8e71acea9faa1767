//! ApiVersions: what a broker speaks. The first request of nearly every connection.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for the APIs and versions of a broker.
    pub struct ApiVersionsRequest<'a> {
        client_software_name: &'a str, 3+;
        client_software_version: &'a str, 3+;
    }

    /// The answer; also to versions that the broker does not know, then as version 0.
    pub struct ApiVersionsResponse<'a> {
        error_code: ErrorCode, 0+;
        api_keys: Array<ApiVersion>, 0+;
        throttle_time_ms: i32, 1+;
    } tagged {
        0 => supported_features: Array<SupportedFeatureKey<'a>>, 3+;
        /// -1 when unknown.
        1 => finalized_features_epoch: i64 = -1, 3+;
        2 => finalized_features: Array<FinalizedFeatureKey<'a>>, 3+;
        3 => zk_migration_ready: bool, 3+;
    }

    /// An API of the broker, its versions included at both ends.
    pub struct ApiVersion {
        api_key: i16, 0+;
        min_version: i16, 0+;
        max_version: i16, 0+;
    }

    /// Levels of a feature that the broker could run at.
    pub struct SupportedFeatureKey<'a> {
        name: &'a str, 3+;
        min_version: i16, 3+;
        max_version: i16, 3+;
    }

    /// Levels of a feature that the cluster runs at.
    pub struct FinalizedFeatureKey<'a> {
        name: &'a str, 3+;
        max_version_level: i16, 3+;
        min_version_level: i16, 3+;
    }
}
