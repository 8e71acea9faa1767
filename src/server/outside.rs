//! What ordinary threads tell a shard: finished jobs, questions, the end.

use std::sync::Arc;

use crossbeam::queue::SegQueue;

use crate::log::space::JobDone;
use crate::metrics::ShardSnapshot;
use crate::model::LogId;

/// A letter from outside the shards.
pub enum Outside {
    JobDone {
        log: LogId,
        done: JobDone,
    },
    /// Somebody wants to look at the shard's numbers.
    Snapshot(Box<dyn FnOnce(ShardSnapshot) + Send>),
    /// Finish what is under way, close in order, end.
    Stop,
}

/// A shard's letter box for the outside. Unbounded, but its senders are not: a shard has as many jobs
/// under way as it asked for, and questions come from one admin thread that waits for each answer.
pub type OutsideQueue = Arc<SegQueue<Outside>>;
