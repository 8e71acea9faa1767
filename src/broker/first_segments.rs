//! The segments that a new data directory starts with: their sizes, so that a first start is quick.

use anyhow::bail;

use crate::base::align::PAGE_BYTES;
use crate::config::{self, Config};
use crate::io::measure::WRITE_BYTES;

/// Those of a log are small, so that a fresh broker is ready at once.
const FIRST_SEGMENT_BYTES: u64 = 32 << 20;
/// The metadata log is small.
pub const METADATA_SEGMENT_BYTES: u64 = 1 << 20;
/// Segments that a new log starts with: one to write to, and those ahead.
pub const FIRST_SEGMENTS: u64 = 3;
/// What a log takes besides its segments: its folder, two manifests, two checkpoints of a log that holds little.
const LOG_EXTRA_BYTES: u64 = 8 * PAGE_BYTES as u64;
/// The data directory itself, `LOCK`, `broker.toml`.
const DIRECTORY_EXTRA_BYTES: u64 = 4 * PAGE_BYTES as u64;

/// The size of a data log's first segments. The directory takes `log.initial_bytes` with them, but each holds two
/// of the largest batches at least: what fits in none is refused, and segments grow only as they are filled.
pub fn first_segment_bytes(config: &Config, shards: u16) -> u64 {
    let logs = u64::from(shards) + 1;
    let besides = FIRST_SEGMENTS * METADATA_SEGMENT_BYTES + logs * LOG_EXTRA_BYTES + DIRECTORY_EXTRA_BYTES;
    let budget = config.log.initial_bytes.0.saturating_sub(besides) / u64::from(shards);
    let least = 2 * (config.kafka.message_bytes_max.0 + PAGE_BYTES as u64);
    // The device is measured on one, too.
    let least = least.max(WRITE_BYTES as u64).next_multiple_of(PAGE_BYTES as u64);
    let bytes = FIRST_SEGMENT_BYTES.min(budget / FIRST_SEGMENTS) / PAGE_BYTES as u64 * PAGE_BYTES as u64;
    bytes.max(least).min(config.log.segment_bytes.0)
}

/// # Errors
/// They take more than `log.log_bytes_max`.
pub fn check(config: &Config, shards: u16) -> anyhow::Result<()> {
    let first_bytes = FIRST_SEGMENTS * first_segment_bytes(config, shards) * u64::from(shards);
    if let config::Limit::At(max) = &config.log.log_bytes_max
        && first_bytes > max.0
    {
        bail!(
            "log.log_bytes_max is {max}, but the first segments of {shards} shards take {}: each holds two batches \
             of kafka.message_bytes_max; raise the one, or lower the other or server.shards",
            config::ByteSize(first_bytes)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::config;
    use crate::log::block::BlockHeader;
    use crate::log::entry::EntryHeader;

    #[test]
    fn they_hold_the_largest_batch_however_many_there_are() {
        let little = ("log.initial_bytes", "4MiB");
        let table: [(&[(&str, &str)], u16); 7] = [
            (&[], 1),
            (&[], 8),
            (&[], 100),
            (&[little], 8),
            (&[("kafka.message_bytes_max", "1KiB"), little], 64),
            (&[("kafka.message_bytes_max", "512KiB"), ("log.segment_bytes", "1MiB")], 100),
            (&[("kafka.message_bytes_max", "64MiB")], 1),
        ];
        for (keys, shards) in table {
            let config = config(keys);
            let bytes = first_segment_bytes(&config, shards);
            let block =
                BlockHeader::bytes_for(EntryHeader::entry_bytes(config.kafka.message_bytes_max.0 as usize));
            assert!(bytes >= block as u64 && bytes >= WRITE_BYTES as u64, "{keys:?} on {shards}: {bytes}");
            assert!(
                bytes.is_multiple_of(PAGE_BYTES as u64) && bytes <= config.log.segment_bytes.0,
                "{bytes}"
            );
        }
        assert_eq!(first_segment_bytes(&config(&[]), 1), FIRST_SEGMENT_BYTES);
    }

    #[test]
    fn the_directory_stays_within_its_budget_where_that_is_enough() {
        let config = config(&[]);
        let all = |shards: u16| {
            let besides = u64::from(shards + 1) * LOG_EXTRA_BYTES + DIRECTORY_EXTRA_BYTES;
            let logs = u64::from(shards) * first_segment_bytes(&config, shards) + METADATA_SEGMENT_BYTES;
            FIRST_SEGMENTS * logs + besides
        };
        // Until the smallest segments take all of it, as the documentation of log.initial_bytes says.
        for shards in [1, 2, 3, 8, 16, 41] {
            assert!(all(shards) <= config.log.initial_bytes.0, "{shards}: {}", all(shards));
        }
        assert!(all(42) > config.log.initial_bytes.0);
    }
}
