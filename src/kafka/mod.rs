//! The Kafka front end: bytes of a connection in, calls to logs out, and their answers back as bytes.
//!
//! ```text
//! connection: requests in their order    request: one of them, until its response leaves
//!   protocol -> dispatch -> handlers/* -> calls to the shards that host the logs
//!                              front: what they share and work with    context: what a handler may see
//!                              errors: how a failure is called here    identity: who we are
//!                              fetch_session: what a consumer need not repeat
//! ```
//!
//! [`broker_configs`] are those of Kafka's that mean nothing here. [`memory`] bounds what all connections of a
//! shard hold together, [`answer_room`] one large answer, [`cost`] how long a turn is.

pub mod answer_room;
pub mod broker_configs;
pub mod connection;
pub mod context;
pub mod cost;
pub mod dispatch;
pub mod errors;
pub mod fetch_session;
pub mod front;
pub mod handlers;
pub mod identity;
pub mod memory;
pub mod protocol;
mod request;
pub mod settings;
