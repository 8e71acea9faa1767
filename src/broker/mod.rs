//! Start and stop of a broker: data directory, logs, shards, background, admin.
//!
//! ```text
//!   check machine -> lock directory -> (format, measure) -> recover logs -> shards -> admin: ready
//!   SIGTERM: no new requests -> answer what is under way -> checkpoints -> clean manifests -> end
//! ```

use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use crossbeam::queue::SegQueue;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::admin::connections::CONNECTIONS_MAX;
use crate::admin::http::{AdminServer, Advertised, BrokerInfo, Disk as DiskInfo, Health};
use crate::admin::signal::{Cause, Termination};
use crate::background::executor::{Executor, Jobs};
use crate::background::pretouch::Pretouch;
use crate::config::{self, Config, ConfigError};
use crate::group::GroupRules;
use crate::io::blocking::{BlockingDisk, block_on};
use crate::io::clock::monotonic;
use crate::io::file::Disk;
use crate::io::measure::measure_commit;
use crate::io::ring::{PollMode, Ring, RingConfig, Wakers};
use crate::io::socket::SocketHandle;
use crate::io::{probe, sched, wakeup};
use crate::kafka::connection::Front;
use crate::kafka::context::KafkaSettings;
use crate::kafka::identity::BrokerIdentity;
use crate::kafka::memory::MemoryLimits;
use crate::kafka::settings::LogDir;
use crate::log::recovery::{self, Options};
use crate::log::segment::segment_path;
use crate::log::{Log, LogConfig};
use crate::metadata::catalog::Catalog;
use crate::metadata::commands::TopicRules;
use crate::metadata::record::MetaRecord;
use crate::metadata::replay::MetadataReplay;
use crate::model::{CommitMode, LogId, Now, ShardId, Term};
use crate::partition::Partitions;
use crate::server::connection::Limits;
use crate::server::outside::{Outside, OutsideQueue};
use crate::server::turn::{Server, ServerConfig, run as run_turns};
use crate::shard::hosted::Hosted;
use crate::shard::mailbox::{Mailbox, PostOffice};
use crate::shard::{LogJob, Retention, Shard, ShardConfig};

pub mod data_dir;
mod first_segments;
mod formatting;
mod ids;
mod kafka_configs;
mod listeners;
mod view;

use data_dir::{BrokerFile, DataDir};
use first_segments::{FIRST_SEGMENTS, METADATA_SEGMENT_BYTES, first_segment_bytes};
use ids::RandomIds;
use listeners::{Listeners, resolve, retry_in_use};
use view::{View, config_values};

/// Segments are made ahead in slices of this size: a few milliseconds of the device each.
const SLICE_BYTES: u64 = 4 << 20;
/// A write to the device has at most this size: what disks take as one command, and what io_uring
/// submits without a worker thread.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// Memory of the groups of all logs together, unless it is given for each.
const GROUPS_BYTES: u64 = 256 << 20;
/// Jobs that a log may have under way: a slice of a segment, a checkpoint, and one that changes its structure.
const JOBS_PER_LOG: usize = 3;
/// Shared receive buffers of a shard.
const RECV_BUFFERS: u16 = 1024;
const RECV_BUFFER_BYTES: usize = 16 << 10;

/// Run a broker until it is told to stop. `repair`: cut corrupt logs off instead of refusing them.
pub fn run(config: Config, repair: bool) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut termination = Termination::install()?;
    probe::check_io_uring()?;
    let nofile = probe::raise_nofile()?;
    let cpus = allowed_cpus(&config)?;
    // Before the lock: a folder of somebody else's gets not even that.
    formatting::unfinished(&config.server.data_dir)?;
    let data_dir = DataDir::lock(&config.server.data_dir)?;
    probe::check_data_dir(data_dir.path())?;

    let shards = config.server.shards.clone().or_else(|| cpus.len() as u16).max(1);
    // Bound before anything is written: a port that is taken must not leave a formatted folder.
    let admin_address = resolve(&config.admin.listen)?;
    let admin = retry_in_use(|| TcpListener::bind(admin_address))
        .with_context(|| format!("listening on {} for admin (--admin-listen)", config.admin.listen))?;
    let file = data_dir.read()?;
    let log_count = file.as_ref().map_or(u32::from(shards), |file| file.logs);
    let listeners = Listeners::bind(&config, log_count)?;

    let file = match file {
        Some(file) => {
            formatting::finish(data_dir.path())?;
            file
        }
        None => format(&data_dir, &config, shards)?,
    };
    let identity = listeners.identity(&config, &file.cluster_id)?;
    let connections_max = connections_max(&config, nofile, own_descriptors(shards, file.logs));
    let wakers = Wakers::new(shards)?;
    let outside: Vec<OutsideQueue> = (0..shards).map(|_| Arc::new(SegQueue::new())).collect();
    let view = Arc::new(View {
        info: Mutex::new(broker_info(&config, &file, &identity, data_dir.path(), shards)?),
        config: config_values(&config),
        health: Mutex::new(Health::NotReady("recovering".to_owned())),
        data_dir: data_dir.path().to_owned(),
        log_dir: Arc::new(LogDir::new(data_dir.path().display().to_string())),
        shards: outside.clone(),
        wakers: wakers.clone(),
    });
    let admin = AdminServer::start(admin, view.clone())?;
    let opened = open_logs(&data_dir, &file, &config, repair)?;
    let log_terms: Vec<Term> = std::iter::once(opened.metadata.term())
        .chain(opened.data.iter().map(|(log, _)| log.term()))
        .collect();

    let hosts: Arc<[ShardId]> = file.log_ids().map(|log| host_of(log, shards)).collect();
    let shard_cpus: Vec<usize> = (0..usize::from(shards)).map(|shard| cpus[shard % cpus.len()]).collect();
    let jobs_max = JOBS_PER_LOG * hosts.len();
    let background_cpus = background_cpus(&cpus, &shard_cpus);
    let executor = start_background(jobs_max, &background_cpus, outside.clone(), wakers.clone())?;
    let (failed_sender, mut failed) = mpsc::unbounded_channel();
    let (started_sender, all_started) = std::sync::mpsc::channel();
    let office = PostOffice::new(usize::from(shards));
    let address = listeners.address;
    let mut parts: Vec<ShardParts> = (0..shards)
        .map(|shard| ShardParts {
            id: ShardId(shard),
            cpu: shard_cpus[usize::from(shard)],
            logs: Vec::new(),
            sockets: Vec::new(),
            snapshot: opened.catalog.clone(),
            hosts: hosts.clone(),
            office: office.clone(),
            outside: outside[usize::from(shard)].clone(),
            wakers: wakers.clone(),
            jobs: executor.jobs(),
            identity: identity.clone(),
            log_terms: log_terms.clone(),
            // They are dealt out in turn.
            connections_max: connections_max.div_ceil(usize::from(shards)),
            view: view.clone(),
        })
        .collect();
    // The metadata log is small: it takes what it needs.
    let caches: Vec<_> = opened.data.iter().flat_map(|(log, _)| log.working_memory()).collect();
    parts[0].logs.push((opened.metadata, Partitions::default()));
    for (log, partitions) in opened.data {
        let host = hosts[log.id().0 as usize];
        parts[usize::from(host.0)].logs.push((log, partitions));
    }
    parts[0].sockets = listeners.node.into_iter().map(|socket| (socket, None)).collect();
    for (log, socket) in listeners.logs {
        let host = hosts[log.0 as usize];
        parts[usize::from(host.0)].sockets.push((socket, Some(log)));
    }

    let config = Arc::new(config);
    let threads: Vec<JoinHandle<()>> = parts
        .into_iter()
        .map(|parts| {
            let (config, failed) = (config.clone(), failed_sender.clone());
            let started = started_sender.clone();
            let name = format!("shard-{}", parts.id);
            thread::Builder::new().name(name).spawn(move || {
                if let Some(reason) = failure(parts.id, || run_shard(parts, &config, started)) {
                    let _ = failed.send(reason);
                }
            })
        })
        .collect::<Result<_, _>>()?;
    drop((started_sender, failed_sender));
    // Until every shard runs, or has said why it does not.
    if all_started.iter().take(usize::from(shards)).count() < usize::from(shards) {
        bail!(failed.blocking_recv().unwrap_or_else(|| "a shard could not start".to_owned()));
    }
    view.set_health(Health::Ready);
    // After recovery, which is waited for.
    let pretouch = match config.log.pretouch {
        true => {
            let cpu = background_cpus.into_iter().find(|cpu| !shard_cpus.contains(cpu));
            Some(Pretouch::spawn(caches, cpu)?)
        }
        false => None,
    };
    banner(&config, &file, &view, address, admin.local_addr(), started);

    let cause = termination.wait_or(failed.recv());
    let result = match cause {
        Cause::Signal(name) => {
            info!("{name}: stopping; answering what is under way, then closing the logs");
            view.set_health(Health::NotReady("stopping".to_owned()));
            Ok(())
        }
        Cause::Other(reason) => {
            let reason = reason.unwrap_or_else(|| "all shards ended".to_owned());
            view.set_health(Health::Dead(reason.clone()));
            Err(anyhow!(reason))
        }
    };
    termination.exit_at_next()?;
    for shard in 0..shards {
        view.tell(ShardId(shard), Outside::Stop);
    }
    for thread in threads {
        // It has said why it failed, if it did.
        let _ = thread.join();
    }
    // One may have done so on the way to its end.
    let result = result.and_then(|()| failed.try_recv().map_or(Ok(()), |reason| Err(anyhow!(reason))));
    executor.join();
    pretouch.into_iter().for_each(Pretouch::stop);
    admin.stop();
    if result.is_ok() {
        info!("stopped");
    }
    result
}

/// Run a shard until it is told to stop. Why it ended before that, if it did: a panic is no end of the process
/// by itself, and nobody else would notice that a shard is gone.
fn failure(id: ShardId, run: impl FnOnce() -> anyhow::Result<()>) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("shard {id} ended: {error:#}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text =
                text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("for no reason given");
            Some(format!("shard {id} panicked, which is a mistake in RingMQ: {text}"))
        }
    }
}

/// What a shard's thread needs to start.
struct ShardParts {
    id: ShardId,
    cpu: usize,
    logs: Vec<(Log, Partitions)>,
    /// With the log whose port it is.
    sockets: Vec<(SocketHandle, Option<LogId>)>,
    snapshot: Vec<u8>,
    hosts: Arc<[ShardId]>,
    office: Arc<PostOffice>,
    outside: OutsideQueue,
    wakers: Arc<Wakers>,
    jobs: Jobs<LogJob>,
    identity: BrokerIdentity,
    log_terms: Vec<Term>,
    connections_max: usize,
    view: Arc<View>,
}

fn run_shard(parts: ShardParts, config: &Config, started: std::sync::mpsc::Sender<()>) -> anyhow::Result<()> {
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: parts.cpu });
    if !pinned {
        warn!(
            "shard {} could not be pinned to CPU {}: it runs where the kernel puts it",
            parts.id, parts.cpu
        );
    }
    if let Err(error) = sched::shorten_slices() {
        info!("shard {}: ordinary time slices ({error}); durable writes may wait for them", parts.id);
    }
    let (office, outside, me) = (parts.office.clone(), parts.outside.clone(), parts.id);
    let mut ring = Ring::new(RingConfig {
        shard: me,
        entries: 1024,
        recv_buffers: RECV_BUFFERS,
        recv_buffer_bytes: RECV_BUFFER_BYTES,
        poll: match config.server.poll {
            config::Poll::Block => PollMode::Block,
            config::Poll::Busy => PollMode::Busy,
            config::Poll::Adaptive => {
                PollMode::Adaptive(config.server.poll_spin.clone().or_else(wakeup::measure))
            }
        },
        wakers: parts.wakers.clone(),
        has_mail: Box::new(move || office.has_mail(me) || !outside.is_empty()),
    })
    .map_err(probe::explain_ring)?;
    if me == ShardId(0) {
        let features = ring.features().iter().map(|feature| (*feature).to_owned()).collect();
        parts.view.info.lock().map_err(|_| anyhow!("the admin view is poisoned"))?.ring_features = features;
    }

    let catalog = Catalog::restore(&parts.snapshot).context("the catalog")?;
    let data_logs = catalog.logs().len() as u64;
    let rules = group_rules(config, data_logs);
    let logs = parts.logs.into_iter().map(|(log, partitions)| Hosted::new(log, partitions, rules));
    let logs = logs.collect();
    let mailbox = Mailbox::new(me, parts.office);
    let ids = Box::new(RandomIds);
    let shard = Shard::new(me, shard_config(config), catalog, parts.hosts, logs, mailbox, ids);
    let settings = kafka_settings(config, parts.view.log_dir.clone());
    let front = Front::new(parts.identity, settings, memory_limits(config), parts.log_terms);
    let mut server = Server::new(shard, front, server_config(config, parts.connections_max), parts.outside);
    let mut ops = Vec::new();
    for (socket, at) in parts.sockets {
        server.listen(socket, at, &mut ops)?;
    }
    // Nobody listens any more if another shard has failed.
    let _ = started.send(());
    drop(started);
    run_turns(&mut server, &mut ring, ops, &monotonic, |jobs, messages| {
        for job in jobs {
            if parts.jobs.send(job).is_err() {
                error!("the background executor has stopped: no further segments or checkpoints");
            }
        }
        for message in messages {
            error!("{message}");
        }
    })?;
    Ok(())
}

// --- Configuration. ---

/// The CPUs for the shards.
///
/// # Errors
/// The configuration names one that this process may not use.
pub fn allowed_cpus(config: &Config) -> Result<Vec<usize>, ConfigError> {
    let allowed: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    match &config.server.cpus {
        config::Auto::Given(wanted) => {
            let wanted = wanted.as_slice();
            if let Some(missing) = wanted.iter().find(|cpu| !allowed.contains(cpu)) {
                let what = format!("this process may not use CPU {missing} (allowed: {allowed:?})");
                return Err(config.refuse("server.cpus", what));
            }
            Ok(wanted.to_vec())
        }
        config::Auto::Auto if allowed.is_empty() => Ok(vec![0]),
        config::Auto::Auto => Ok(allowed),
    }
}

fn kafka_settings(config: &Config, log_dir: Arc<LogDir>) -> KafkaSettings {
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

fn memory_limits(config: &Config) -> MemoryLimits {
    MemoryLimits {
        connection_max: config.connection_memory_max() as usize,
        shard_max: config.shard_memory_max() as usize,
    }
}

/// Descriptors that a broker needs beside its clients' connections: what glommio and the process have, the admin
/// port, each shard's ring and sockets, and of each log the first segments, the next ones and what its jobs open.
fn own_descriptors(shards: u16, logs: u32) -> u64 {
    64 + CONNECTIONS_MAX as u64 + 8 * u64::from(shards) + 16 * u64::from(logs + 1)
}

/// Connections that all shards may have together: as configured, unless the process may not have so many
/// descriptors. A quarter of them, and at least `own`, is left for segments, jobs and rings: when those find none,
/// producers are refused until there are some again.
fn connections_max(config: &Config, nofile: u64, own: u64) -> usize {
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
fn server_config(config: &Config, connections_max: usize) -> ServerConfig {
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

fn shard_config(config: &Config) -> ShardConfig {
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

fn group_rules(config: &Config, data_logs: u64) -> GroupRules {
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

fn log_config(config: &Config, file: &BrokerFile, log: LogId) -> anyhow::Result<LogConfig> {
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
        block_target_bytes: config.log.block_target_bytes.0 as usize,
        write_bytes_max: WRITE_BYTES_MAX,
        commit_mode,
        commit_depth: config.log.commit_depth.clone().or_else(|| file.commit_depth).into(),
        tail_cache_bytes: if metadata { 4 << 20 } else { cache(&config.log.tail_cache_bytes, 256 << 20) },
        read_cache_bytes: if metadata { 4 << 20 } else { cache(&config.log.read_cache_bytes, 256 << 20) },
        segment_bytes: if metadata { 4 * METADATA_SEGMENT_BYTES } else { config.log.segment_bytes.0 },
        segments_ahead: config.log.segments_ahead as usize,
        slice_bytes: SLICE_BYTES,
        checkpoint_bytes: if metadata { METADATA_SEGMENT_BYTES } else { config.log.checkpoint_bytes.0 },
        log_bytes_max: match config.log.log_bytes_max {
            config::Limit::At(bytes) => bytes.0 / logs,
            config::Limit::Unlimited => 0,
        },
    })
}

fn host_of(log: LogId, shards: u16) -> ShardId {
    if log == LogId::METADATA { ShardId(0) } else { ShardId(((log.0 - 1) % u32::from(shards)) as u16) }
}

// --- The data directory. ---

/// Make the logs of a new data directory and choose how they commit.
fn format(data_dir: &DataDir, config: &Config, shards: u16) -> anyhow::Result<BrokerFile> {
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
        let measured = measure_commit(&probed, bytes, probe::device_class(data_dir.path()))
            .context("measuring how the device commits")?;
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

struct OpenedLogs {
    metadata: Log,
    catalog: Vec<u8>,
    data: Vec<(Log, Partitions)>,
}

/// Recover all logs: the metadata log first, the others side by side.
fn open_logs(
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

// --- Threads. ---

/// Where no shard runs, if there is such a CPU.
fn background_cpus(cpus: &[usize], shard_cpus: &[usize]) -> Vec<usize> {
    let spare: Vec<usize> = cpus.iter().copied().filter(|cpu| !shard_cpus.contains(cpu)).collect();
    let all: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    let others: Vec<usize> = all.iter().copied().filter(|cpu| !shard_cpus.contains(cpu)).collect();
    [spare, others, all].into_iter().find(|cpus| !cpus.is_empty()).unwrap_or_default()
}

fn start_background(
    jobs_max: usize,
    cpus: &[usize],
    outside: Vec<OutsideQueue>,
    wakers: Arc<Wakers>,
) -> anyhow::Result<Executor<LogJob>> {
    Ok(Executor::spawn("background", jobs_max, cpus, move |(shard, log, done): (ShardId, LogId, _)| {
        outside[usize::from(shard.0)].push(Outside::JobDone { log, done });
        wakers.wake(shard);
    })?)
}

// --- What is told. ---

fn broker_info(
    config: &Config,
    file: &BrokerFile,
    identity: &BrokerIdentity,
    path: &Path,
    shards: u16,
) -> anyhow::Result<BrokerInfo> {
    let log = log_config(config, file, LogId(1))?;
    let device_class = probe::device_class(path);
    Ok(BrokerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        durability_mode: "sync".to_owned(),
        commit_mode: log.commit_mode.name().to_owned(),
        commit_depth: log.commit_depth as u32,
        device_class: device_class.describe().to_owned(),
        durability_at_risk: log.commit_mode == CommitMode::Plain && device_class.may_be_volatile(),
        shards: u32::from(shards),
        logs: file.logs,
        advertised: identity.advertised().map(Advertised::from).collect(),
        ring_features: Vec::new(),
        started_unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        disk: Some(DiskInfo { free_bytes: 0 }),
    })
}

fn banner(
    config: &Config,
    file: &BrokerFile,
    view: &View,
    kafka: SocketAddr,
    admin: SocketAddr,
    started: Instant,
) {
    let Ok(info) = view.info.lock().map(|info| info.clone()) else { return };
    info!("RingMQ {} is ready after {:?}", info.version, started.elapsed());
    info!("  acks mean: on stable storage (durability mode {})", info.durability_mode);
    info!(
        "  commit: {}, depth {}, device class {} ({})",
        info.commit_mode, info.commit_depth, info.device_class, file.measured
    );
    if info.durability_at_risk {
        warn!(
            "commits are plain, and the device is of class {}: acknowledged records may lie in a volatile \
             cache, and are lost when the power fails; set log.commit_mode to dsync",
            info.device_class
        );
    }
    info!(
        "  {} shards, {} logs, data in {}, io_uring: {}",
        info.shards,
        info.logs,
        config.server.data_dir.display(),
        info.ring_features.join(" ")
    );
    info!("  Kafka clients: {kafka}; admin: http://{admin}/");
    let brokers = info.advertised.iter().map(|broker| format!("{broker}")).collect::<Vec<_>>();
    info!("  clients are told of: {}", brokers.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Assignment, Origin, Sources};

    pub(super) fn config(keys: &[(&str, &str)]) -> Config {
        let flag = |(name, text): &(&str, &str)| Assignment {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
            origin: Origin::Flag { flag: "--set".to_owned() },
        };
        let flags = keys.iter().map(flag).collect();
        Config::load(&Sources { flags, ..Sources::default() }).expect("a good configuration")
    }

    #[test]
    fn a_shard_that_is_gone_is_missed() {
        let id = ShardId(3);
        assert_eq!(failure(id, || Ok(())), None);
        assert_eq!(failure(id, || Err(anyhow!("no ring"))).as_deref(), Some("shard 3 ended: no ring"));
        let number = 7;
        for (told, why) in
            [(failure(id, || panic!("of this")), "of this"), (failure(id, || panic!("of {number}")), "of 7")]
        {
            let told = told.expect("it did not end in order");
            assert!(told.starts_with("shard 3 panicked") && told.ends_with(why), "{told}");
        }
    }

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
