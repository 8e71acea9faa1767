//! What each part of a broker is told of its configuration, in that part's own words.
//!
//! Keys are given for a broker as a whole: what its logs or shards share is parted here, what a key leaves open is
//! settled here, and no part below has to know the file.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::data_dir::BrokerFile;
use super::first_segments::METADATA_SEGMENT_BYTES;
use super::kafka_configs;
use crate::admin::connections::CONNECTIONS_MAX;
use crate::base::align::PAGE_BYTES;
use crate::config::{self, Config};
use crate::group::GroupRules;
use crate::kafka::context::KafkaSettings;
use crate::kafka::memory::MemoryLimits;
use crate::kafka::settings::LogDir;
use crate::log::{Log, LogConfig};
use crate::metadata::commands::TopicRules;
use crate::model::{CommitMode, LogId};
use crate::server::connection::Limits;
use crate::server::turn::ServerConfig;
use crate::shard::{Retention, ShardConfig};

/// Segments are made ahead in slices of this size: a few milliseconds of the device each.
const SLICE_BYTES: u64 = 4 << 20;
/// Dead segments that nobody needs are removed as late as Kafka's are (`file.delete.delay.ms`), at the earliest.
const DEAD_KEPT_FOR: Duration = Duration::from_secs(60);
/// A write to the device has at most this size: what disks take as one command, and what io_uring
/// submits without a worker thread.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// A write, and then its flush, wait for the piece of a cold read that the device is at. Measured, 50,000 records/s of
/// 1 KB beside a cold read: p50 of 4.7 ms with chunks of 2 MiB at once, which are read at 1.30 GB/s; 1.35 ms with
/// 512 KiB, 1.32 GB/s; 0.66 ms with this, 1.12 GB/s; 0.40 ms with 128 KiB, 0.82 GB/s.
const READ_PIECE_BYTES: usize = 256 << 10;
const _: () = assert!(READ_PIECE_BYTES.is_multiple_of(PAGE_BYTES));
/// Memory of the groups of all logs together, unless it is given for each.
const GROUPS_BYTES: u64 = 256 << 20;

pub fn kafka_settings(config: &Config, log_dir: Arc<LogDir>) -> KafkaSettings {
    KafkaSettings {
        auto_create_topics: config.kafka.auto_create_topics,
        num_partitions: config.kafka.num_partitions,
        message_bytes_max: config.kafka.message_bytes_max.0 as u32,
        fetch_bytes_max: config.kafka.fetch_bytes_max.0 as usize,
        fetch_session_bytes_max: config.kafka.fetch_session_bytes_max.0 as usize,
        described: kafka_configs::describe(config),
        log_dir,
    }
}

pub fn memory_limits(config: &Config) -> MemoryLimits {
    MemoryLimits {
        connection_max: config.connection_memory_max() as usize,
        shard_max: config.shard_memory_max() as usize,
    }
}

/// Descriptors that a broker needs beside its clients' connections: what glommio and the process have, the admin
/// port, each shard's ring and sockets, and of each log the first segments, the next ones and what its jobs open.
pub fn own_descriptors(shards: u16, logs: u32) -> u64 {
    64 + CONNECTIONS_MAX as u64 + 8 * u64::from(shards) + 16 * u64::from(logs + 1)
}

/// Connections that all shards may have together: as configured, unless the process may not have so many
/// descriptors. A quarter of them, and at least `own`, is left for segments, jobs and rings: when those find none,
/// producers are refused until there are some again.
pub fn connections_max(config: &Config, nofile: u64, own: u64) -> usize {
    let left = own.max(nofile / 4);
    let (wanted, possible) = (u64::from(config.kafka.connections_max), nofile.saturating_sub(left).max(1));
    if possible < wanted {
        warn!(
            "kafka.connections_max is {wanted}, but the process may have {nofile} descriptors: it accepts \
             {possible} connections; raise `ulimit -n`, or LimitNOFILE in the systemd unit"
        );
    }
    wanted.min(possible) as usize
}

/// Of a shard that may have so many connections.
pub fn server_config(config: &Config, connections_max: usize) -> ServerConfig {
    ServerConfig {
        limits: Limits {
            request_bytes_max: config.kafka.request_bytes_max.0 as usize,
            in_flight_max: config.kafka.connection_in_flight_max as usize,
            memory_max: memory_limits(config).connection_max,
        },
        connections_max,
        idle: Some(config.kafka.connection_idle).filter(|idle| !idle.is_zero()),
    }
}

pub fn shard_config(config: &Config) -> ShardConfig {
    ShardConfig {
        rules: TopicRules {
            partition_count_default: config.kafka.num_partitions,
            partition_count_max: config.kafka.partitions_max,
            batch_bytes_max: config.kafka.message_bytes_max.0 as u32,
            record_bytes_max: Log::payload_bytes_max(METADATA_SEGMENT_BYTES),
        },
        offsets_retention_ms: config.kafka.offsets_retention.as_millis() as i64,
        retention: Retention {
            ms: match config.log.retention {
                config::Limit::At(age) => Some(age.as_millis() as u64),
                config::Limit::Unlimited => None,
            },
            bytes: match config.log.retention_bytes {
                config::Limit::At(bytes) => Some(bytes.0),
                config::Limit::Unlimited => None,
            },
        },
    }
}

pub fn group_rules(config: &Config, data_logs: u64) -> GroupRules {
    let total = match config.kafka.groups_bytes_max {
        config::Auto::Given(bytes) => bytes.0,
        config::Auto::Auto => (GROUPS_BYTES / data_logs.max(1)).max(4 * config.kafka.group_bytes_max.0),
    };
    let segment_bytes = config.log.segment_bytes.0.min(config.log.initial_bytes.0);
    GroupRules {
        session_min: config.kafka.group_session_min,
        session_max: config.kafka.group_session_max,
        initial_delay: config.kafka.group_initial_delay,
        members_max: config.kafka.group_members_max as usize,
        bytes_max: config.kafka.group_bytes_max.0.min(segment_bytes / 2) as usize,
        total_bytes_max: total as usize,
    }
}

/// Measured without FUA, write-sync, depth 2, 32 KiB and 256 KiB by turns: 7 records of 128 B a request, closed loop, 4.0
/// and 4.6 M/s; 1 M/s of 1 KB in 16 KiB, open loop, p50 0.45 to 0.62 and 0.26 to 0.39 ms; 100 k/s, and 16 KiB at full
/// speed, the same.
fn block_target_bytes(config: &Config, mode: CommitMode) -> u64 {
    match (&config.log.block_target_bytes, mode) {
        (config::Auto::Given(bytes), _) => bytes.0,
        (config::Auto::Auto, CommitMode::WriteThenSync) => 256 << 10,
        (config::Auto::Auto, CommitMode::Plain | CommitMode::Dsync) => 32 << 10,
    }
}

pub fn log_config(config: &Config, file: &BrokerFile, log: LogId) -> anyhow::Result<LogConfig> {
    let logs = u64::from(file.logs).max(1);
    let cache = |given: &config::Auto<config::ByteSize>, auto: u64| match given {
        config::Auto::Given(bytes) => bytes.0 as usize,
        config::Auto::Auto => (auto / logs).max(16 << 20) as usize,
    };
    let commit_mode = match config.log.commit_mode {
        config::CommitMode::Auto => file.commit_mode()?,
        config::CommitMode::Plain => CommitMode::Plain,
        config::CommitMode::Dsync => CommitMode::Dsync,
        config::CommitMode::WriteSync => CommitMode::WriteThenSync,
    };
    let metadata = log == LogId::METADATA;
    Ok(LogConfig {
        chunk_bytes: config.log.chunk_bytes.0.max(config.log.block_bytes_max.0) as usize,
        block_bytes_max: config.log.block_bytes_max.0 as usize,
        block_target_bytes: block_target_bytes(config, commit_mode).min(config.log.block_bytes_max.0)
            as usize,
        write_bytes_max: WRITE_BYTES_MAX,
        commit_mode,
        commit_depth: config.log.commit_depth.clone().or_else(|| file.commit_depth).into(),
        tail_cache_bytes: if metadata { 4 << 20 } else { cache(&config.log.tail_cache_bytes, 256 << 20) },
        read_cache_bytes: if metadata { 4 << 20 } else { cache(&config.log.read_cache_bytes, 256 << 20) },
        read_piece_bytes: READ_PIECE_BYTES,
        segment_bytes: if metadata { 4 * METADATA_SEGMENT_BYTES } else { config.log.segment_bytes.0 },
        segments_ahead: config.log.segments_ahead as usize,
        dead_kept_for: DEAD_KEPT_FOR,
        slice_bytes: SLICE_BYTES,
        checkpoint_bytes: if metadata { METADATA_SEGMENT_BYTES } else { config.log.checkpoint_bytes.0 },
        log_bytes_max: match config.log.log_bytes_max {
            config::Limit::At(bytes) => bytes.0 / logs,
            config::Limit::Unlimited => 0,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::config;

    #[test]
    fn no_more_connections_than_descriptors() {
        let config = config(&[]);
        let own = own_descriptors(2, 2);
        assert!((128..256).contains(&own), "{own}: of the usual 1024 a quarter is enough");
        for (nofile, connections) in
            [(1 << 20, 10_000), (4096, 3072), (1024, 768), (256, 256 - own as usize), (own, 1), (1, 1)]
        {
            assert_eq!(connections_max(&config, nofile, own), connections);
        }
        let own = own_descriptors(64, 64);
        assert_eq!(connections_max(&config, 2048, own), 2048 - own as usize, "{own}");
    }
}
