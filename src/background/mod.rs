//! Work that must not disturb a shard, on its own executor.

pub mod jobs;
