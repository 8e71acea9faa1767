//! The logs of a data directory: the first start makes them, every start recovers them.
//!
//! ```text
//!   format -> broker.toml: how many logs, how they commit -> open_logs: log-0 -> | log-1 | log-2 | ... side by side
//! ```
//!
//! The metadata log comes first, because it says which logs there are. What does not fit together ends the start
//! before a shard runs, and says what to restore.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use tracing::{debug, info};

use super::data_dir::{BrokerFile, DataDir};
use super::first_segments::{self, FIRST_SEGMENTS, METADATA_SEGMENT_BYTES, first_segment_bytes};
use super::formatting;
use super::settings::log_config;
use super::trial;
use crate::config::{self, Config};
use crate::io::blocking::{BlockingDisk, block_on};
use crate::io::file::Disk;
use crate::io::measure::Trial;
use crate::io::probe;
use crate::log::Log;
use crate::log::recovery::{self, Options};
use crate::log::segment::segment_path;
use crate::metadata::record::MetaRecord;
use crate::metadata::replay::MetadataReplay;
use crate::model::{LogId, Now};
use crate::partition::Partitions;
use crate::shard::hosted::Hosted;

/// Make the logs of a new data directory and choose how they commit, as it is best for shards on these CPUs.
pub fn format(data_dir: &DataDir, config: &Config, shard_cpus: &[usize]) -> anyhow::Result<BrokerFile> {
    let shards = shard_cpus.len() as u16;
    first_segments::check(config, shards)?;
    let cluster_id = match &config.server.cluster_id {
        config::Auto::Given(id) => id.clone(),
        config::Auto::Auto => uuid::Uuid::new_v4().simple().to_string(),
    };
    let file = BrokerFile::new(uuid::Uuid::new_v4(), cluster_id, u32::from(shards));
    let bytes = first_segment_bytes(config, shards);
    let sizes = |log| if log == LogId::METADATA { METADATA_SEGMENT_BYTES } else { bytes };
    formatting::format(&BlockingDisk, data_dir, file, sizes, |file| {
        // On the last segment of the first log, which is empty; what is written there is no block.
        let segment = segment_path(&data_dir.log_dir(LogId(1)), FIRST_SEGMENTS as u32);
        let probed = block_on(BlockingDisk.open(&segment))?;
        let class = probe::device_class(data_dir.path());
        let sleeps = matches!(config.server.poll, config::Poll::Block);
        let measured = trial::measure(&probed, bytes, class, shard_cpus, sleeps)
            .context("measuring how the device commits")?;
        for Trial { mode, depth, median, bytes_per_second, .. } in &measured.trials {
            debug!("{} {depth}: median {median:?}, {} MB/s", mode.name(), bytes_per_second / 1_000_000);
        }
        file.commit_mode = measured.best.mode.name().to_owned();
        file.commit_depth = measured.best.depth as u8;
        file.measured = format!(
            "64 KiB durable: median {:?}, {} MB/s",
            measured.best.median,
            measured.best.bytes_per_second / 1_000_000
        );
        Ok(())
    })
}

pub struct OpenedLogs {
    pub metadata: Log,
    pub catalog: Vec<u8>,
    pub data: Vec<(Log, Partitions)>,
}

/// Recover all logs: the metadata log first, the others side by side.
pub fn open_logs(
    data_dir: &DataDir,
    file: &BrokerFile,
    config: &Config,
    repair: bool,
) -> anyhow::Result<OpenedLogs> {
    if let Some(log) = file.log_ids().find(|log| !data_dir.log_dir(*log).is_dir()) {
        bail!(
            "{} is missing: broker.toml counts {} logs besides log-0. Restore the folder from a backup, or \
             broker.toml if its number was changed",
            data_dir.log_dir(log).display(),
            file.logs
        );
    }
    let mut replay = MetadataReplay::default();
    let mut metadata = open_log((data_dir, file, config, repair), LogId::METADATA, &mut replay)?;
    let mut catalog = replay.catalog;
    // Topics may have partitions there, and the shards would ask for them.
    if let Some((log, _)) = catalog.logs().last_key_value().filter(|(log, _)| log.0 > file.logs) {
        bail!(
            "broker.toml in {} says logs = {}, but this broker has a log {log}: restore broker.toml from a backup, \
             as it was",
            data_dir.path().display(),
            file.logs
        );
    }
    for log in file.log_ids().skip(1) {
        if !catalog.logs().contains_key(&log) {
            let record = MetaRecord::LogAdded { log };
            append_record(&mut metadata, &record).with_context(|| format!("adding log {log}"))?;
            catalog.apply(&record)?;
        }
    }
    let data = thread::scope(|scope| {
        let opening: Vec<_> = file
            .log_ids()
            .skip(1)
            .map(|log| {
                scope.spawn(move || {
                    let mut partitions = Partitions::new(config.kafka.producer_states_max as usize);
                    let opened = open_log((data_dir, file, config, repair), log, &mut partitions)?;
                    let consistent = partitions.finish_recovery(&opened);
                    consistent.map_err(|what| anyhow!("log {log}: {what}"))?;
                    Ok((opened, partitions))
                })
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, anyhow::Result<_>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("recovery panicked")))
        };
        opening.into_iter().map(join).collect::<anyhow::Result<Vec<_>>>()
    })?;
    Ok(OpenedLogs { metadata, catalog: catalog.snapshot(), data })
}

/// Written with the log's first commit.
fn append_record(log: &mut Log, record: &MetaRecord) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    Hosted::append_record(log, &bytes, now())?;
    Ok(())
}

fn now() -> Now {
    crate::io::clock::Clock::default().now()
}

fn open_log<R: recovery::Replay>(
    (data_dir, file, config, repair): (&DataDir, &BrokerFile, &Config, bool),
    log: LogId,
    replay: &mut R,
) -> anyhow::Result<Log> {
    let started = Instant::now();
    let mut told = started;
    let log_config = log_config(config, file, log)?;
    debug!("log {log}: is being opened");
    let options = Options {
        config: &log_config,
        broker: *file.broker.as_bytes(),
        log,
        now: now().wall,
        repair,
        progress: &mut |at, end| {
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                info!("log {log}: recovering, at position {at}, at most up to {end}");
            }
        },
    };
    let (opened, report) = block_on(recovery::open(&BlockingDisk, &data_dir.log_dir(log), options, replay))
        .with_context(|| format!("opening log {log}"))?;
    let scanned = report.end.since(report.checkpoint) >> 20;
    info!(
        "log {log}: {} at {}, term {}, {scanned} MiB read in {:?}{}",
        if report.clean { "closed in order" } else { "ends" },
        report.end,
        report.term,
        started.elapsed(),
        if report.torn { "; blocks that were never acknowledged were cut off" } else { "" },
    );
    Ok(Log::new(log_config, opened))
}
