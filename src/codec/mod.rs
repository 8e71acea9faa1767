//! The stored formats: read, check, patch. Knows bytes, not shards.

pub mod compression;
pub mod record_batch;
