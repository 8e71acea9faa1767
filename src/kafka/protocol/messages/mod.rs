//! The messages, one file an API, as `message!` declares them.
//!
//! Field names and ranges are Kafka's. Requests and responses are re-exported here; the structs inside
//! them are found in their API's module.

pub mod api_versions;
pub mod fetch;
pub mod leader;
pub mod metadata;
pub mod produce;

pub use api_versions::{ApiVersionsRequest, ApiVersionsResponse};
pub use fetch::{FetchRequest, FetchResponse};
pub use metadata::{MetadataRequest, MetadataResponse};
pub use produce::{ProduceRequest, ProduceResponse};
