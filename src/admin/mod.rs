//! What operators see: the shards' numbers ([`crate::metrics`]) and health, by HTTP.
//!
//! - [`prometheus`]: snapshots as text for a scraper
//! - [`http`]: the endpoints, on one ordinary thread; reaches shards through a [`http::BrokerView`]
//! - [`connections`]: how many may connect there, and for how long
//! - [`signal`]: SIGTERM and SIGINT, which stop the broker in good order

pub mod connections;
pub mod http;
pub mod prometheus;
pub mod signal;
