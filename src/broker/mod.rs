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
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use crossbeam::queue::SegQueue;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::admin::http::{AdminServer, Advertised, BrokerInfo, Disk as DiskInfo, Health};
use crate::admin::signal::{Cause, Termination};
use crate::background::executor::{Executor, Jobs};
use crate::background::pretouch::{self, Pretouch, Stock};
use crate::config::{self, Config};
use crate::io::clock::monotonic;
use crate::io::ring::{PollMode, Ring, RingConfig, Wakers};
use crate::io::socket::SocketHandle;
use crate::io::{memory, probe, wakeup};
use crate::kafka::front::Front;
use crate::kafka::identity::BrokerIdentity;
use crate::kafka::settings::LogDir;
use crate::log::Log;
use crate::metadata::catalog::Catalog;
use crate::model::{CommitMode, LogId, ShardId, Term};
use crate::partition::Partitions;
use crate::server::outside::{Outside, OutsideQueue};
use crate::server::turn::{Server, run as run_turns};
use crate::shard::hosted::Hosted;
use crate::shard::mailbox::{Mailbox, PostOffice};
use crate::shard::{LogJob, Shard};

pub mod data_dir;
mod first_segments;
pub mod formatting;
mod ids;
mod kafka_configs;
mod listeners;
mod logs;
mod placement;
mod settings;
mod trial;
mod view;

use data_dir::{BrokerFile, DataDir};
use ids::RandomIds;
use listeners::{Listeners, resolve, retry_in_use};
use logs::{format, open_logs};
pub use placement::allowed_cpus;
use placement::{background_cpus, host_of, settle};
use settings::{
    connections_max, group_rules, kafka_settings, log_config, memory_limits, own_descriptors, server_config,
    shard_config,
};
use view::{View, config_values};

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
    let shard_cpus: Vec<usize> = (0..usize::from(shards)).map(|shard| cpus[shard % cpus.len()]).collect();
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
        None => format(&data_dir, &config, &shard_cpus)?,
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
    let background_cpus = background_cpus(&cpus, &shard_cpus);
    let admin = AdminServer::start(admin, view.clone(), background_cpus.clone())?;
    let opened = open_logs(&data_dir, &file, &config, repair)?;
    let log_terms: Vec<Term> = std::iter::once(opened.metadata.term())
        .chain(opened.data.iter().map(|(log, _)| log.term()))
        .collect();

    let hosts: Arc<[ShardId]> = file.log_ids().map(|log| host_of(log, shards)).collect();
    let jobs_max = JOBS_PER_LOG * hosts.len();
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
    let caches = opened.data.iter().flat_map(|(log, _)| {
        let cpu = placement::touching_cpu(
            shard_cpus[usize::from(hosts[log.id().0 as usize].0)],
            &shard_cpus,
            &background_cpus,
        );
        log.working_memory().map(|(pool, chunks)| Stock { pool, chunks, cpu })
    });
    let caches: Vec<Stock> = caches.collect();
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
    let pretouch = if config.log.pretouch { start_pretouch(caches) } else { None };
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
    pretouch.iter().for_each(Pretouch::stop);
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
    pretouch.into_iter().for_each(Pretouch::join);
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
    settle(parts.cpu);
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

// --- Threads. ---

/// `None`, and why, where it would do harm.
fn start_pretouch(caches: Vec<Stock>) -> Option<Pretouch> {
    let bytes = pretouch::bytes(&caches);
    let available = memory::available_bytes();
    if available.is_some_and(|available| bytes > available / 2) {
        warn!(
            "the memory of the caches is taken when it is needed, not at the start: they may take {} MiB, and {} MiB \
             are available. Lower log.tail_cache_bytes and log.read_cache_bytes, or set log.pretouch = false",
            bytes >> 20,
            available.unwrap_or_default() >> 20
        );
        return None;
    }
    Pretouch::spawn(caches).inspect_err(|error| warn!(%error, "the caches are not touched at the start")).ok()
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
}
