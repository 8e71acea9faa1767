//! A broker on the simulated machine: made, opened, run and stopped as `ringmq::broker` does it, with
//! sizes at which logs roll, recycle and evict within a few hundred requests.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::queue::SegQueue;
use ringmq::background::jobs;
use ringmq::group::GroupRules;
use ringmq::io::file::Disk;
use ringmq::io::op::{Event, Io, Op, Wait};
use ringmq::io::sim::{Rng, SimDisk, SimExecutor, SimIo, SimWorld, Step, block_on};
use ringmq::kafka::context::KafkaSettings;
use ringmq::kafka::front::Front;
use ringmq::kafka::identity::{BrokerIdentity, LogNodes};
use ringmq::kafka::memory::MemoryLimits;
use ringmq::log::recovery::{self, Options, RecoveryError, Replay, Report};
use ringmq::log::space::Job;
use ringmq::log::{Log, LogConfig};
use ringmq::metadata::catalog::Catalog;
use ringmq::metadata::commands::{IdSource, TopicRules};
use ringmq::metadata::record::MetaRecord;
use ringmq::metadata::replay::MetadataReplay;
use ringmq::model::{CommitMode, LogId, Nanos, ShardId, Term, TopicId};
use ringmq::partition::Partitions;
use ringmq::server::connection::Limits;
use ringmq::server::outside::{Outside, OutsideQueue};
use ringmq::server::turn::{Server, ServerConfig};
use ringmq::shard::hosted::Hosted;
use ringmq::shard::mailbox::{Mailbox, PostOffice};
use ringmq::shard::{Retention, Shard, ShardConfig};

const KIB: u64 = 1024;
const DATA_LOGS: u32 = 2;
const FIRST_SEGMENTS: usize = 3;
const BROKER: [u8; 16] = *b"simulated broker";
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Kafka's default.
const BATCH_BYTES_MAX: u32 = 1_048_588;
const GROUP_RULES: GroupRules = GroupRules {
    session_min: Duration::from_millis(1),
    session_max: Duration::from_secs(1800),
    initial_delay: Duration::from_millis(10),
    members_max: 100,
    bytes_max: 16 << 10,
    total_bytes_max: 1 << 20,
};

/// Where the node listens.
pub fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], PORT))
}

/// Where a data log does, if each is advertised as a broker of its own.
pub fn log_address(log: LogId) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], PORT + log.0 as u16))
}

const PORT: u16 = 9092;

/// The broker's configuration, as drawn from a seed.
#[derive(Clone, Debug)]
pub struct Setup {
    pub mode: CommitMode,
    depth: usize,
    chunk_bytes: usize,
    block_bytes_max: usize,
    first_segment_bytes: u64,
    segment_bytes: u64,
    checkpoint_bytes: u64,
    tail_cache_bytes: usize,
    segments_ahead: usize,
    dead_kept_for: Duration,
    slice_bytes: u64,
    pub log_bytes_max: u64,
    /// Calls of one shard to another that may be under way.
    pub credits: usize,
    /// What clients may hold: little, so that stories meet its end.
    pub memory: MemoryLimits,
    /// Each data log listens for itself.
    advertise_logs: bool,
}

impl Setup {
    pub fn draw(rng: &mut Rng) -> Setup {
        let chunk_bytes = (16 << rng.below(3)) * KIB as usize;
        Setup {
            mode: *rng.pick(&[CommitMode::Plain, CommitMode::Dsync, CommitMode::WriteThenSync]),
            depth: rng.between(1, 4) as usize,
            chunk_bytes,
            block_bytes_max: chunk_bytes.min((8 << rng.below(3)) * KIB as usize),
            first_segment_bytes: 64 * KIB,
            segment_bytes: (64 << rng.below(3)) * KIB,
            checkpoint_bytes: (32 << rng.below(4)) * KIB,
            tail_cache_bytes: chunk_bytes * rng.between(1, 3) as usize,
            segments_ahead: rng.between(1, 2) as usize,
            dead_kept_for: Duration::from_millis(*rng.pick(&[0, 20, 60_000])),
            slice_bytes: rng.between(2, 20) * 4 * KIB,
            log_bytes_max: *rng.pick(&[0, 0, 640 * KIB]),
            credits: *rng.pick(&[1, 2, 4, 1024]),
            memory: MemoryLimits {
                connection_max: REQUEST_BYTES_MAX + 64 * KIB as usize,
                shard_max: REQUEST_BYTES_MAX + 64 * KIB as usize,
            },
            advertise_logs: rng.one_in(3),
        }
    }

    /// With room for large batches, and so much memory for clients.
    pub fn for_large(memory: MemoryLimits) -> Setup {
        Setup {
            mode: CommitMode::Dsync,
            depth: 2,
            chunk_bytes: 64 << 10,
            block_bytes_max: 64 << 10,
            first_segment_bytes: 4096 * KIB,
            segment_bytes: 4096 * KIB,
            checkpoint_bytes: 4096 * KIB,
            tail_cache_bytes: 256 << 10,
            segments_ahead: 2,
            dead_kept_for: Duration::from_secs(60),
            slice_bytes: 256 * KIB,
            log_bytes_max: 0,
            credits: 1024,
            memory,
            advertise_logs: false,
        }
    }

    /// Where each data log listens, if they are brokers of their own.
    pub fn log_addresses(&self) -> Vec<SocketAddr> {
        data_logs().filter(|_| self.advertise_logs).map(log_address).collect()
    }

    pub fn log(&self, log: LogId) -> LogConfig {
        let metadata = log == LogId::METADATA;
        LogConfig {
            chunk_bytes: self.chunk_bytes,
            block_bytes_max: self.block_bytes_max,
            block_target_bytes: 4 << 10,
            write_bytes_max: 16 << 10,
            commit_mode: self.mode,
            commit_depth: self.depth,
            tail_cache_bytes: self.tail_cache_bytes,
            read_cache_bytes: 2 * self.chunk_bytes,
            segment_bytes: if metadata { 64 * KIB } else { self.segment_bytes },
            segments_ahead: self.segments_ahead,
            dead_kept_for: self.dead_kept_for,
            read_piece_bytes: 8 << 10,
            slice_bytes: self.slice_bytes,
            checkpoint_bytes: if metadata { 32 * KIB } else { self.checkpoint_bytes },
            log_bytes_max: if metadata { 0 } else { self.log_bytes_max },
        }
    }
}

pub fn log_ids() -> impl Iterator<Item = LogId> {
    (0..=DATA_LOGS).map(LogId)
}

pub fn data_logs() -> impl Iterator<Item = LogId> {
    log_ids().skip(1)
}

pub fn log_dir(log: LogId) -> PathBuf {
    PathBuf::from(format!("/data/log-{log}"))
}

/// Make the data directory.
pub fn format(world: &SimWorld, setup: &Setup) {
    world.disk().set_write_through(setup.mode == CommitMode::Plain);
    let disk = SimDisk::immediate(world);
    let made = block_on(async {
        disk.create_dir("/data".as_ref()).await?;
        for log in log_ids() {
            let sizes = [setup.first_segment_bytes; FIRST_SEGMENTS];
            recovery::format(&disk, &log_dir(log), (BROKER, log), &sizes).await?;
        }
        disk.sync_dir("/".as_ref()).await
    });
    made.expect("nothing fails yet");
}

struct Opened {
    logs: Vec<(Log, Partitions)>,
    catalog: Catalog,
}

/// Topic ids from the seed.
struct SimIds(Rng);

impl IdSource for SimIds {
    fn next_topic_id(&mut self) -> TopicId {
        let (high, low) = (self.0.next_u64(), self.0.next_u64());
        TopicId(uuid::Uuid::from_u64_pair(high, low).into_bytes())
    }
}

/// What a background job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    Prepare,
    Manifest,
    Checkpoint,
    Remove,
}

impl JobKind {
    fn of(job: &Job) -> JobKind {
        match job {
            Job::Prepare { .. } => JobKind::Prepare,
            Job::Manifest { .. } => JobKind::Manifest,
            Job::Checkpoint { .. } => JobKind::Checkpoint,
            Job::Remove { .. } => JobKind::Remove,
        }
    }
}

/// A shard and its end of the kernel.
struct Core {
    server: Server,
    io: SimIo,
    ops: Vec<Op>,
    events: Vec<Event>,
    wait: Wait,
    outside: OutsideQueue,
}

/// What happened next.
pub enum Happened {
    /// Something in the broker.
    Inside,
    /// The client with this socket has news.
    Client(u64),
    Nothing,
}

/// A broker that runs.
pub struct Broker {
    world: SimWorld,
    executor: SimExecutor,
    cores: Vec<Core>,
    /// What recovery said of each log.
    pub reports: Vec<Report>,
    /// What an operator would have read.
    pub messages: Vec<String>,
    /// Background jobs under way, by kind.
    jobs: Rc<[Cell<u64>; 4]>,
    /// Turns at whose end calls waited for a place in another shard's box.
    pub calls_waited: u64,
    /// Dead segments that were removed.
    pub removals: u64,
}

impl Broker {
    /// Open the data directory with so many shards. `disk` may make the machine go down on the way.
    pub fn start(
        world: &SimWorld,
        disk: &SimDisk,
        setup: &Setup,
        shards: u16,
        ids: &mut Rng,
        repair: bool,
    ) -> Result<Broker, RecoveryError> {
        let mut reports = Vec::new();
        let Opened { logs, catalog } = open(world, disk, setup, repair, &mut reports)?;
        let terms: Vec<Term> = logs.iter().map(|(log, _)| log.term()).collect();
        let host_of = |log: LogId| match log {
            LogId::METADATA => ShardId(0),
            LogId(number) => ShardId(((number - 1) % u32::from(shards)) as u16),
        };
        let hosts: Arc<[ShardId]> = log_ids().map(host_of).collect();
        let office = PostOffice::with_credits(usize::from(shards), setup.credits);
        let mut hosted: Vec<Vec<Hosted>> = (0..shards).map(|_| Vec::new()).collect();
        for (log, partitions) in logs {
            hosted[usize::from(host_of(log.id()).0)].push(Hosted::new(log, partitions, GROUP_RULES));
        }
        let mut cores = Vec::new();
        for (id, logs) in (0..).map(ShardId).zip(hosted) {
            let config = ShardConfig {
                rules: TopicRules {
                    partition_count_default: 2,
                    partition_count_max: 100,
                    batch_bytes_max: BATCH_BYTES_MAX,
                    record_bytes_max: Log::payload_bytes_max(setup.first_segment_bytes),
                },
                offsets_retention_ms: 7 * 24 * 3600 * 1000,
                retention: Retention::default(),
            };
            let catalog = Catalog::restore(&catalog.snapshot()).expect("a fresh snapshot");
            let mailbox = Mailbox::new(id, office.clone());
            let ids = Box::new(SimIds(ids.fork()));
            let shard = Shard::new(id, config, catalog, hosts.clone(), logs, mailbox, ids);
            let identity = BrokerIdentity {
                node_id: 1,
                host: address().ip().to_string(),
                port: address().port(),
                cluster_id: "simulation".to_owned(),
                logs: setup.advertise_logs.then(|| LogNodes {
                    id_base: 100,
                    ports: setup.log_addresses().iter().map(SocketAddr::port).collect(),
                }),
            };
            let settings = KafkaSettings {
                auto_create_topics: false,
                num_partitions: 2,
                message_bytes_max: BATCH_BYTES_MAX,
                fetch_bytes_max: 1 << 20,
                fetch_session_bytes_max: 64 << 10,
                ..KafkaSettings::default()
            };
            let config = ServerConfig {
                limits: Limits {
                    request_bytes_max: REQUEST_BYTES_MAX,
                    in_flight_max: 16,
                    memory_max: setup.memory.connection_max,
                },
                connections_max: 100,
                idle: None,
            };
            let outside: OutsideQueue = Arc::new(SegQueue::new());
            let front = Front::new(identity, settings, setup.memory, terms.clone());
            let mut server = Server::new(shard, front, config, outside.clone());
            let mut ops = Vec::new();
            if id == ShardId(0) {
                server
                    .listen(world.listener(address()), None, &mut ops)
                    .expect("no descriptors in a simulation");
            }
            for log in data_logs().filter(|log| setup.advertise_logs && host_of(*log) == id) {
                let listener = world.listener(log_address(log));
                server.listen(listener, Some(log), &mut ops).expect("no descriptors in a simulation");
            }
            server.start(world.now());
            let io = SimIo::new(world, id);
            cores.push(Core { server, io, ops, events: Vec::new(), wait: Wait::No, outside });
        }
        let executor = SimExecutor::new(world);
        Ok(Broker {
            world: world.clone(),
            executor,
            cores,
            reports,
            messages: Vec::new(),
            jobs: Rc::default(),
            calls_waited: 0,
            removals: 0,
        })
    }

    /// Let the next thing happen that does before `until`.
    pub fn step(&mut self, until: Nanos) -> Happened {
        match self.world.next_step(&self.executor, until) {
            Step::Shard(shard) => self.turn(shard),
            Step::Job(job) => {
                self.executor.run(job);
                self.deliver();
            }
            Step::Client(id) => return Happened::Client(id),
            Step::Idle => return Happened::Nothing,
        }
        Happened::Inside
    }

    /// Let a shard do a turn.
    fn turn(&mut self, shard: ShardId) {
        loop {
            let core = &mut self.cores[usize::from(shard.0)];
            core.io.turn(&mut core.ops, &mut core.events, core.wait).expect("the ring of a simulation works");
            if core.server.is_over() {
                // Its thread has ended.
                core.wait = Wait::Forever;
                return;
            }
            let clock = || self.world.now().mono;
            core.wait = core.server.step(&mut core.events, self.world.now(), &clock, &mut core.ops);
            self.calls_waited += u64::from(core.server.shard().calls_waiting() > 0);
            let (jobs, messages) = core.server.take_news();
            let outside: Vec<OutsideQueue> = self.cores.iter().map(|core| core.outside.clone()).collect();
            for job in jobs {
                let (disk, outside) = (SimDisk::new(&self.world), outside[usize::from(job.shard.0)].clone());
                let (under_way, kind) = (self.jobs.clone(), JobKind::of(&job.job));
                self.removals += u64::from(kind == JobKind::Remove);
                under_way[kind as usize].update(|count| count + 1);
                self.executor.spawn(async move {
                    let done = jobs::run(&disk, job.job).await;
                    under_way[kind as usize].update(|count| count - 1);
                    outside.push(Outside::JobDone { log: job.log, done });
                });
            }
            for message in messages {
                if self.messages.last() != Some(&message) {
                    self.messages.push(message);
                }
            }
            let core = &self.cores[usize::from(shard.0)];
            let now = self.world.now().mono;
            // What a turn asks for is submitted before its thread sleeps.
            if core.ops.is_empty() || self.world.next_due(shard).is_some_and(|due| due <= now) {
                return;
            }
        }
    }

    /// A background job has made a step: whoever got a letter from it wakes up.
    fn deliver(&mut self) {
        for shard in 0..self.cores.len() {
            if !self.cores[shard].outside.is_empty() {
                self.turn(ShardId(shard as u16));
            }
        }
    }

    pub fn begin_stop(&mut self) {
        for core in &self.cores {
            core.outside.push(Outside::Stop);
        }
        self.deliver();
    }

    pub fn is_over(&self) -> bool {
        self.cores.iter().all(|core| core.server.is_over())
    }

    pub fn logs(&self) -> impl Iterator<Item = &Log> {
        self.cores.iter().flat_map(|core| core.server.shard().logs()).map(|hosted| &hosted.log)
    }

    /// Jobs of this kind that have not ended.
    pub fn jobs(&self, kind: JobKind) -> u64 {
        self.jobs[kind as usize].get()
    }

    /// What the clients of each shard hold.
    pub fn client_bytes(&self) -> impl Iterator<Item = usize> {
        self.cores.iter().map(|core| core.server.memory().used())
    }

    /// Deadlines of fetches that are kept.
    pub fn deadlines(&self) -> usize {
        self.cores.iter().map(|core| core.server.deadlines()).sum()
    }

    /// Connections that were closed because they held on to memory.
    pub fn stuck(&self) -> u64 {
        self.cores.iter().map(|core| core.server.shard().stats.counters.connections_stuck).sum()
    }

    pub fn cold_reads(&self) -> u64 {
        self.cores.iter().map(|core| core.server.shard().stats.counters.cold_reads).sum()
    }
}

/// Recover all logs: the metadata log first.
fn open(
    world: &SimWorld,
    disk: &SimDisk,
    setup: &Setup,
    repair: bool,
    reports: &mut Vec<Report>,
) -> Result<Opened, RecoveryError> {
    let mut replay = MetadataReplay::default();
    let mut metadata = open_log(world, disk, setup, LogId::METADATA, repair, &mut replay, reports)?;
    let mut catalog = replay.catalog;
    for log in data_logs() {
        if !catalog.logs().contains_key(&log) {
            let record = MetaRecord::LogAdded { log };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            Hosted::append_record(&mut metadata, &bytes, world.now()).expect("a fresh log has room");
            catalog.apply(&record).expect("the catalog lacks this log");
        }
    }
    let mut logs = vec![(metadata, Partitions::default())];
    for log in data_logs() {
        let mut partitions = Partitions::default();
        let opened = open_log(world, disk, setup, log, repair, &mut partitions, reports)?;
        partitions.finish_recovery(&opened).expect("index and partitions agree");
        logs.push((opened, partitions));
    }
    Ok(Opened { logs, catalog })
}

fn open_log<R: Replay>(
    world: &SimWorld,
    disk: &SimDisk,
    setup: &Setup,
    log: LogId,
    repair: bool,
    replay: &mut R,
    reports: &mut Vec<Report>,
) -> Result<Log, RecoveryError> {
    let config = setup.log(log);
    let options = Options {
        config: &config,
        broker: BROKER,
        log,
        now: world.now().wall,
        repair,
        progress: &mut |_, _| {},
    };
    let (opened, report) = block_on(recovery::open(disk, &log_dir(log), options, replay))?;
    reports.push(report);
    Ok(Log::new(config, opened))
}

/// Longer than anything takes that is not broken.
pub const PATIENCE: Duration = Duration::from_secs(30);
