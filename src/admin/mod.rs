//! What operators see: counters and latency by stage, health, HTTP.
//!
//! - [`metrics`]: what a shard counts, on its own thread; snapshots that add up
//! - [`distribution`]: a histogram that is cheap to record into
//! - [`latency`]: where the time of a produce request went
//! - [`prometheus`]: snapshots as text for a scraper
//! - [`http`]: the endpoints, on one ordinary thread; reaches shards through a [`http::BrokerView`]
//! - [`signal`]: SIGTERM and SIGINT, which stop the broker in good order

pub mod distribution;
pub mod http;
pub mod latency;
pub mod metrics;
pub mod prometheus;
pub mod signal;
