//! What tests of logs, and of those above them, begin with.

use std::time::Duration;

use super::LogConfig;
use crate::model::CommitMode;

/// A log that few appends fill; tests say how large its segments are.
pub const SMALL: LogConfig = LogConfig {
    chunk_bytes: 64 << 10,
    block_bytes_max: 16 << 10,
    block_target_bytes: 16 << 10,
    write_bytes_max: 1 << 20,
    commit_mode: CommitMode::Plain,
    commit_depth: 1,
    tail_cache_bytes: 128 << 10,
    read_cache_bytes: 64 << 10,
    segment_bytes: 256 << 10,
    segments_ahead: 1,
    dead_kept_for: Duration::from_secs(60),
    read_piece_bytes: 16 << 10,
    slice_bytes: 1 << 20,
    checkpoint_bytes: 1 << 30,
    log_bytes_max: 0,
};
