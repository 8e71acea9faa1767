//! RingMQ: a message broker for Linux bare metal.
//!
//! The path of a produced record, and the map of this crate:
//!
//! ```text
//! server/connection   bytes of a socket, frames in order, responses in order
//!   kafka/protocol    frame -> borrowed request           (declared once, field by field)
//!   kafka/handlers    request -> calls to partitions      (one file an API)
//!     shard           which shard hosts the partition's log; mail if it is another
//!       partition     offsets, idempotence, who waits            (group: members of consumer groups)
//!         log         append buffer -> block; the turn's end commits: log/group_commit
//!           io        one durable write
//!   shard/acks        the write is durable: who waits for this position? -> response
//! ```
//!
//! Imports run down: `cli -> broker, config, admin, background -> server -> kafka -> shard ->
//! {partition, metadata} -> log -> {io, codec, group} -> model -> base`. State machines decide, the shard
//! acts; only `io` enters the kernel. See docs/ARCHITECTURE.md.

pub mod admin;
pub mod background;
pub mod base;
pub mod bench;
pub mod broker;
pub mod cli;
pub mod codec;
pub mod config;
pub mod group;
pub mod io;
pub mod kafka;
pub mod log;
pub mod metadata;
pub mod metrics;
pub mod model;
pub mod partition;
pub mod server;
pub mod shard;
