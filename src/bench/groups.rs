//! What a run knows of consumer groups, whatever the protocol: who reads which partitions, how far
//! they have read, and what came of it.

use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Serialize};

use super::error::BenchError;

/// One member's part.
#[derive(Clone, Debug)]
pub struct Share {
    pub group: usize,
    /// Counted through all topics.
    pub partitions: Vec<i32>,
}

/// How far a group has read, by counted partition: written by the load, committed by the members.
#[derive(Debug, Default)]
pub struct Positions(Vec<AtomicI64>);

impl Positions {
    pub fn new(offsets: &[i64]) -> Positions {
        Positions(offsets.iter().map(|&offset| AtomicI64::new(offset)).collect())
    }

    #[inline]
    pub fn set(&self, partition: i32, offset: i64) {
        self.0[partition as usize].store(offset, Ordering::Relaxed);
    }

    pub fn get(&self, partition: i32) -> i64 {
        self.0[partition as usize].load(Ordering::Relaxed)
    }
}

/// Everybody who has joined; dropped, they leave.
pub trait Members {
    /// Commit what was read, ask for it, leave.
    ///
    /// # Errors
    /// A member had to give up.
    fn leave(self: Box<Self>) -> Result<GroupWork, BenchError>;
}

/// What the members of all groups did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupWork {
    pub members: u64,
    pub heartbeats: u64,
    /// Requests that committed offsets.
    pub commits: u64,
    /// Times that a member had to join again after all were there.
    pub rebalances: u64,
    /// Partitions whose committed offset, asked for at the end, is not what was read.
    pub offsets_wrong: u64,
}
