//! What the broker knows of itself: topics, where their partitions lie, who was given what.
//!
//! The state machine of the metadata log, which is a log like any other with these records in its
//! entries. A [command](commands) looks at the [`Catalog`](catalog::Catalog) and answers with a
//! [`MetaRecord`](record::MetaRecord) or an error; the record is appended; once it is durable every
//! shard applies it to a catalog of its own. Nothing here does IO or draws ids.
//!
//! ```text
//!   command -> catalog.create_topic() -> MetaRecord -> metadata log -> catalog.apply(), every shard
//! ```
//!
//! A command is judged by what its catalog has applied. To judge several before the first is
//! durable, the owner of the metadata log plans on a clone and applies each record to it at once;
//! that needs no way back, since a log whose write fails is not written again.

pub mod catalog;
pub mod commands;
pub mod config_def;
pub mod config_kind;
pub mod placement;
pub mod record;
pub mod replay;
#[cfg(test)]
pub mod testing;
pub mod topic;
pub mod topic_config;
