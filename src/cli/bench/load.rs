//! `ringmq bench` itself: which broker, which load, which scenario; then the results on disk.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{Arg, Args, Command, CommandFactory, Parser, ValueEnum};

use super::signals::interrupt_on_signal;
use super::workload;
use super::{parse_bytes, parse_count, parse_pair, write_json};
use crate::bench::cores;
use crate::bench::scenario::{Scenario, Sweep};
use crate::bench::session::{self, Endpoint, Session, result_name};
use crate::bench::{
    Arrivals, BenchError, Body, Compression, Folder, KafkaDriver, KeyDistribution, Keys, Launch, Load,
    Options, ReadBack, Slo, output,
};

/// Of a broker that is started here, when no rate is given: a small part of what any device takes.
const RATE: f64 = 50_000.0;
/// Options that say something of the broker at --bootstrap.
const NEED_BOOTSTRAP: [&str; 2] = ["admin", "durability"];
/// Of the payloads' bytes, when they are compressed and nothing else is said.
const COMPRESSED_RANDOM_SHARE: f64 = 0.5;

#[derive(Args, Debug)]
pub struct RunArgs {
    /// Options from a YAML file, `record-bytes: 1KiB` for --record-bytes 1KiB; workload files of the
    /// OpenMessaging Benchmark, too. What stands on the command line counts: the same in the file, and what
    /// excludes it there, is passed over.
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
    /// Different payloads that the workload file wants.
    #[arg(skip)]
    payloads_wanted: Option<u64>,
    /// Names the runs in reports; `compare` matches runs by it.
    #[arg(long, default_value = "run", value_name = "NAME")]
    label: String,
    /// The broker, HOST:PORT, or several with commas; the load goes to the leaders of the partitions,
    /// wherever they are. Without it a broker is started here, and ended afterwards.
    #[arg(long, value_name = "ADDR")]
    bootstrap: Option<String>,
    /// The admin address of a RingMQ at --bootstrap: it says which stage took the time.
    #[arg(long, value_name = "ADDR", requires = "bootstrap")]
    admin: Option<String>,
    /// What an ack means at --bootstrap, for the report's title, when it does not say so itself.
    #[arg(long, value_name = "TEXT", requires = "bootstrap")]
    durability: Option<String>,
    /// The cores of the broker that is started here, one shard each.
    #[arg(long, value_delimiter = ',', value_name = "LIST", conflicts_with = "bootstrap")]
    broker_cpus: Vec<usize>,
    /// A setting of the broker that is started here; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_pair, conflicts_with = "bootstrap")]
    settings: Vec<(String, String)>,
    /// What to play.
    #[arg(long, default_value = "steady", value_name = "NAME")]
    scenario: ScenarioName,
    /// What find-max must meet.
    #[arg(long, default_value = "p99<5ms,p99.9<20ms", value_name = "LIMITS")]
    slo: Slo,
    /// What sweep varies: rate=10k,20k,50k or record-bytes=, partitions=, connections=.
    #[arg(long, value_name = "WHAT=LIST", value_parser = parse_sweep)]
    sweep: Option<Sweep>,
    /// Run everything so often, for `ringmq bench compare`.
    #[arg(long, default_value_t = 1, value_name = "N")]
    repeat: usize,
    /// Created when it does not exist. Several (--topics) are called TOPIC-0, TOPIC-1, ...
    #[arg(long, default_value = "bench")]
    topic: String,
    /// A configuration of the topic, when it is created; may be repeated.
    #[arg(long = "topic-config", value_name = "NAME=VALUE", value_parser = parse_pair)]
    topic_configs: Vec<(String, String)>,
    #[command(flatten)]
    load: LoadArgs,
    /// The cores of the load threads, one thread each: 1,2,3. Without it one thread, not pinned.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    cpus: Vec<usize>,
    /// Connections that read what is written, while it is written. At least one for each node that leads
    /// partitions; beyond one a partition they are idle.
    #[arg(long, value_name = "N")]
    consumers: Option<usize>,
    /// Groups of so many consumers, each of which reads everything.
    #[arg(long, default_value_t = 1, value_name = "N")]
    groups: usize,
    /// What a consumer is: a reader of assigned partitions, or a member of its group, which joins,
    /// heartbeats and commits what it has read once a second.
    #[arg(long, default_value = "assigned", value_name = "HOW")]
    group_protocol: GroupProtocol,
    /// The most that a consumer reads while the load runs.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    consumer_bytes_per_s: Option<u64>,
    /// Connect again when a connection is lost, and send again what was not answered; with
    /// --idempotent nothing is stored twice.
    #[arg(long)]
    reconnect: bool,
    /// Read everything of this run back afterwards, as far as it is retained.
    #[arg(long, conflicts_with = "consumers")]
    verify: bool,
    /// Read what the topic holds from its first offset on; with --rate or --closed producers run too.
    #[arg(long, conflicts_with = "verify")]
    cold: bool,
    /// Measure processor time and memory of this process with the run.
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,
    /// The results go into a folder below it, which is made and named by the time: TIME, or TIME-2 when
    /// another run has that.
    #[arg(long, default_value = "ringmq-bench-results", value_name = "DIR")]
    out: PathBuf,
    /// Write no results but what --json asks for.
    #[arg(long)]
    no_report: bool,
    /// No line a second.
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScenarioName {
    /// One rate, all the time
    Steady,
    /// Ten times the rate for one second of every five; not with --closed
    Burst,
    /// The same with one thing changed: --sweep
    Sweep,
    /// The highest rate that meets --slo, by bisection; --seconds must be enough for its percentiles
    FindMax,
    /// Five groups that each read everything
    FanOut,
    /// A reader from the first offset on, while producers and a reader of the tail go on
    CatchUp,
    /// Ten thousand partitions, and the usual ones beside them
    ManyPartitions,
    /// Five hundred connections, and the usual ones beside them
    ManyConnections,
    /// A consumer that takes a quarter of what is produced
    SlowConsumer,
    /// kill -9 and a restart in the middle
    RestartUnderLoad,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum GroupProtocol {
    /// No group is joined, no offset committed
    Assigned,
    /// JoinGroup, SyncGroup, Heartbeat, OffsetCommit, LeaveGroup
    Classic,
}

#[derive(Args, Debug)]
pub struct LoadArgs {
    #[arg(long, default_value_t = 1, value_name = "N")]
    topics: u32,
    /// Of each topic. A batch goes to one of them, all in turns [default: 1, 8 for the ceiling].
    #[arg(long, value_name = "N")]
    pub partitions: Option<u32>,
    /// When the broker answers. With 0 never: a record counts when it is sent, there are no latencies but
    /// those to a consumer, and the ledger checks what is read.
    #[arg(long, default_value = "all")]
    acks: Acks,
    /// Producers with ids and sequences, which a broker can tell repeated batches by.
    #[arg(long)]
    idempotent: bool,
    /// Of a record's key; 0 for none.
    #[arg(long, default_value = "0", value_name = "BYTES", value_parser = parse_bytes)]
    key_bytes: u64,
    /// Different keys, each of which belongs to one partition. Without it keys are random bytes.
    #[arg(long, default_value = "0", value_name = "N", value_parser = parse_key_count)]
    keys: u64,
    /// How often each of --keys comes.
    #[arg(long, default_value = "round-robin", value_name = "HOW")]
    key_distribution: KeyDistribution,
    /// Of a record's value, at least 32.
    #[arg(long, default_value = "1024", value_name = "BYTES", value_parser = parse_bytes)]
    record_bytes: u64,
    /// Of payloads the part that is random, from 0 to 1; the rest is zeros [default: 1, 0.5 with
    /// --compression].
    #[arg(long, value_name = "SHARE", conflicts_with = "payload_file")]
    random_bytes_ratio: Option<f64>,
    /// The payload of every record, of --record-bytes bytes; the ledger needs the first 32.
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
    /// Batches are compressed as they are sent, on the load's core.
    #[arg(long, default_value = "none", value_name = "CODEC")]
    compression: Compression,
    /// As many records a batch as fit; a request carries one batch.
    #[arg(long, default_value = "16KiB", value_name = "BYTES", value_parser = parse_bytes)]
    batch_bytes: u64,
    /// So many records a batch, whatever their size.
    #[arg(long, value_name = "N", conflicts_with = "batch_bytes")]
    batch_records: Option<u32>,
    /// It is records that are due: a batch is sent when it is full, or so long after its first record,
    /// and latency counts from each record's own moment.
    #[arg(long, value_name = "MS", conflicts_with = "closed")]
    linger_ms: Option<f64>,
    /// That produce: a producer each [default: 1, 8 for the ceiling]. At least one for each node that leads
    /// partitions; more go where there are more of these.
    #[arg(long, visible_alias = "producers", value_name = "N")]
    pub connections: Option<usize>,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 5, value_name = "N")]
    in_flight: usize,
    /// Records per second, on an absolute schedule (open loop).
    #[arg(long, value_name = "RECORDS", conflicts_with = "closed", value_parser = parse_count)]
    rate: Option<f64>,
    /// Random gaps of the same mean instead of equal ones.
    #[arg(long, conflicts_with = "closed")]
    poisson: bool,
    /// As fast as the answers come.
    #[arg(long)]
    closed: bool,
    #[arg(long, default_value_t = 30, value_name = "S")]
    seconds: u64,
    /// Seconds of load before the measured ones.
    #[arg(long, default_value_t = 2, value_name = "S")]
    warmup: u64,
    /// Write the result to this file, too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Acks {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

/// The arguments of a workload file and those that were typed.
#[derive(Parser, Debug)]
#[command(name = "ringmq bench", disable_version_flag = true)]
struct Merged {
    #[command(flatten)]
    run: RunArgs,
}

impl RunArgs {
    /// With the options of the workload file, if there is one.
    ///
    /// # Errors
    /// The file says something that cannot be done.
    pub fn with_workload(self) -> anyhow::Result<RunArgs> {
        let Some(path) = &self.workload else { return Ok(self) };
        let typed: Vec<String> =
            std::env::args().skip_while(|argument| argument != "bench").skip(1).collect();
        RunArgs::merge(path, &typed)
    }

    fn merge(path: &Path, typed: &[String]) -> anyhow::Result<RunArgs> {
        let command = Merged::command();
        let names: Vec<&str> = command.get_arguments().flat_map(names_of).collect();
        let workload = workload::read(path, &names, &settled(&command, typed))?;
        let program = "ringmq bench".to_owned();
        let line = [program].into_iter().chain(workload.arguments.clone()).chain(typed.to_vec());
        let merged = Merged::try_parse_from(line).map_err(|error| {
            let from_file = workload.arguments.join(" ");
            anyhow::anyhow!("{}the file says: {from_file}", error.render())
        })?;
        workload.notes.iter().for_each(|note| eprintln!("note: {note}"));
        Ok(RunArgs { payloads_wanted: workload.payloads_wanted, ..merged.run })
    }

    /// # Errors
    /// The run could not be made, or its numbers must not be used: the report, which is printed and
    /// written first, says why.
    pub fn run(self) -> anyhow::Result<()> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = result_name(since_epoch.as_millis() as u64);
        let claim = || {
            let claimed = Folder::claim(&self.out, &name);
            claimed.map_err(|reason| BenchError::Io { what: "cannot write the results", reason })
        };
        let scenario = self.scenario()?;
        let mut options = self.options()?;
        self.notes(&options).iter().for_each(|note| eprintln!("note: {note}"));
        // Before a broker is started for nothing.
        cores::check(&self.cpus)?;
        cores::check(&self.broker_cpus)?;
        options.interrupt = interrupt_on_signal()?;
        let endpoint = match &self.bootstrap {
            Some(bootstrap) => Endpoint::Given {
                bootstrap: bootstrap.clone(),
                admin: self.admin.clone(),
                durability: self.durability.clone(),
            },
            None => {
                let (broker_cpus, load_cpus) = self.share_cpus();
                options.cpus = load_cpus;
                Endpoint::Own(Launch {
                    program: std::env::current_exe().context("cannot find this program's own file")?,
                    dir: claim()?,
                    listen: "127.0.0.1:0".to_owned(),
                    shards: broker_cpus.len().max(1),
                    cpus: broker_cpus,
                    settings: self.settings.clone(),
                })
            }
        };
        let session = Session {
            endpoint,
            scenario,
            options,
            repeat: self.repeat.max(1),
            command: std::env::args().collect(),
        };
        let result = session::run(&session, |report| println!("{}: {report}", report.label))?;
        if let Some(finding) = &result.finding {
            println!("{finding}");
        }
        let write_files = || -> Result<(), BenchError> {
            // A broker of ours has its log there already.
            let out = match &session.endpoint {
                Endpoint::Own(launch) => launch.dir.clone(),
                Endpoint::Given { .. } => claim()?,
            };
            let report = output::write(out.path(), &result)?;
            println!("report: {}", report.display());
            Ok(())
        };
        let written = match self.no_report {
            true => Ok(()),
            false => write_files(),
        };
        // Each is tried, whatever became of the other: they are all that is left of the run.
        let json = write_json(&result, self.load.json.clone());
        match (written, json) {
            (Err(written), Err(json)) => bail!("{written}; {json:#}"),
            (written, json) => (written?, json?),
        };
        if !result.passed {
            bail!("the run failed or must not be used: see above");
        }
        Ok(())
    }

    /// The broker's cores and the load's. On one core, or on cores that the user gave to neither,
    /// nobody is pinned.
    fn share_cpus(&self) -> (Vec<usize>, Vec<usize>) {
        let allowed = cores::allowed();
        let free_of =
            |taken: &[usize]| allowed.iter().copied().filter(|cpu| !taken.contains(cpu)).collect::<Vec<_>>();
        let broker = match self.broker_cpus.is_empty() {
            false => self.broker_cpus.clone(),
            true => free_of(&self.cpus).last().copied().filter(|_| allowed.len() > 1).into_iter().collect(),
        };
        let load = match self.cpus.is_empty() {
            false => self.cpus.clone(),
            true => free_of(&broker).first().copied().filter(|_| !broker.is_empty()).into_iter().collect(),
        };
        (broker, load)
    }

    fn scenario(&self) -> anyhow::Result<Scenario> {
        Ok(match self.scenario {
            ScenarioName::Steady => Scenario::Steady,
            ScenarioName::Burst => Scenario::Burst,
            ScenarioName::Sweep => match &self.sweep {
                Some(sweep) => Scenario::Sweep(sweep.clone()),
                None => bail!("a sweep needs --sweep, for example --sweep rate=10k,20k,50k"),
            },
            ScenarioName::FindMax => Scenario::FindMax(self.slo.clone()),
            ScenarioName::FanOut => Scenario::FanOut,
            ScenarioName::CatchUp => Scenario::CatchUp,
            ScenarioName::ManyPartitions => Scenario::ManyPartitions,
            ScenarioName::ManyConnections => Scenario::ManyConnections,
            ScenarioName::SlowConsumer => Scenario::SlowConsumer,
            ScenarioName::RestartUnderLoad => Scenario::RestartUnderLoad,
        })
    }

    pub fn options(&self) -> anyhow::Result<Options> {
        // A broker of our own is read from as well, so that the default says something of both.
        let consumers = self.consumers.unwrap_or(usize::from(self.bootstrap.is_none() && !self.verify));
        let read_back = match (self.cold, self.verify) {
            (true, _) => ReadBack::Cold,
            (_, true) => ReadBack::Afterwards,
            _ if consumers > 0 => ReadBack::Tail,
            _ => ReadBack::Nothing,
        };
        let load = match (self.load.load(), self.cold) {
            (Some(load), _) => load,
            (None, true) => Load::None,
            (None, false) => Load::Open { records_per_s: RATE },
        };
        let options = Options {
            label: self.label.clone(),
            topic: self.topic.clone(),
            topic_configs: self.topic_configs.clone(),
            cpus: self.cpus.clone(),
            consumers,
            groups: self.groups,
            group_protocol: self.group_protocol == GroupProtocol::Classic,
            consumer_bytes_per_s: self.consumer_bytes_per_s.map(|bytes| bytes as f64),
            reconnect: self.reconnect,
            read_back,
            broker_pid: self.broker_pid,
            progress: !self.quiet,
            ..self.load.options(load)?
        };
        Ok(options)
    }

    /// What is done in another way than was asked for.
    fn notes(&self, options: &Options) -> Vec<String> {
        let payloads =
            options.connections as u64 * options.in_flight as u64 * u64::from(options.records_per_batch);
        let pool = self.payloads_wanted.filter(|&wanted| wanted > payloads).map(|wanted| {
            format!(
                "randomizedPayloadPoolSize {wanted}: there are {payloads} different payloads, connections x \
                 in flight x records of a batch"
            )
        });
        let idle = options.consumers - options.readers();
        let idle = (idle > 0).then(|| {
            format!("{idle} of {} consumers are idle: there are more than partitions", options.consumers)
        });
        pool.into_iter().chain(idle).collect()
    }
}

impl LoadArgs {
    /// What was asked for, if anything was.
    pub fn load(&self) -> Option<Load> {
        match (self.rate, self.closed) {
            (Some(records_per_s), _) => Some(Load::Open { records_per_s }),
            (None, true) => Some(Load::Closed),
            (None, false) => None,
        }
    }

    pub fn options(&self, load: Load) -> anyhow::Result<Options> {
        let (record_bytes, batch_bytes) = (self.record_bytes as usize, self.batch_bytes as usize);
        let key_bytes = self.key_bytes as usize;
        let fitting = KafkaDriver::records_in(batch_bytes, record_bytes, key_bytes);
        let linger_ns = match self.linger_ms {
            Some(ms) if !(ms.is_finite() && ms >= 0.0) => bail!("--linger-ms is a number of at least 0"),
            linger_ms => linger_ms.map(|ms| (ms * 1e6) as u64),
        };
        let body = match &self.payload_file {
            Some(path) => {
                let named = || format!("payload file {}", path.display());
                let bytes = std::fs::read(path).with_context(named)?;
                if bytes.len() != record_bytes {
                    bail!("{} has {} bytes, --record-bytes says {record_bytes}", named(), bytes.len());
                }
                Body::File(bytes.into())
            }
            None => {
                let usual = if self.compression == Compression::None { 1.0 } else { COMPRESSED_RANDOM_SHARE };
                Body::Random { share: self.random_bytes_ratio.unwrap_or(usual) }
            }
        };
        Ok(Options {
            topics: self.topics,
            partitions: self.partitions.unwrap_or(1),
            acks: match self.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            idempotent: self.idempotent,
            keys: Keys { bytes: key_bytes, count: self.keys, distribution: self.key_distribution },
            record_bytes,
            body,
            compression: self.compression,
            records_per_batch: self.batch_records.unwrap_or(fitting),
            linger_ns,
            connections: self.connections.unwrap_or(1),
            in_flight: self.in_flight,
            load,
            arrivals: Arrivals { poisson: self.poisson, burst: None },
            seconds: self.seconds,
            warmup_s: self.warmup,
            ..Options::default()
        })
    }
}

/// All names of the options that the command line decides on: those that were typed, those that exclude one
/// of them, and those that need what is excluded.
fn settled(command: &Command, typed: &[String]) -> Vec<String> {
    let words = typed.iter().filter_map(|argument| argument.strip_prefix("--")?.split('=').next());
    let words: Vec<&str> = words.collect();
    let is_typed = |option: &Arg| names_of(option).iter().any(|name| words.contains(name));
    let excludes = |one: &Arg, other: &Arg| {
        command.get_arg_conflicts_with(one).iter().any(|excluded| excluded.get_id() == other.get_id())
    };
    let is_excluded = |option: &Arg| {
        let mut typed = command.get_arguments().filter(|typed| is_typed(typed));
        typed.any(|typed| excludes(typed, option) || excludes(option, typed))
    };
    let mut names: Vec<&str> = command
        .get_arguments()
        .filter(|option| is_typed(option) || is_excluded(option))
        .flat_map(names_of)
        .collect();
    if names.contains(&"bootstrap") && !words.contains(&"bootstrap") {
        names.extend(NEED_BOOTSTRAP);
    }
    names.into_iter().map(str::to_owned).collect()
}

/// The long names of an option.
fn names_of(option: &Arg) -> Vec<&str> {
    option.get_long().into_iter().chain(option.get_all_aliases().unwrap_or_default()).collect()
}

/// A number of keys; 0 for none in particular.
fn parse_key_count(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { parse_count(text).map(|count| count as u64) }
}

/// `rate=10k,20k`, `record-bytes=100,1KiB`, `partitions=1,100`, `connections=1,10`.
fn parse_sweep(text: &str) -> Result<Sweep, String> {
    let (what, values) = text.split_once('=').ok_or("expected WHAT=LIST")?;
    let values = values.split(',');
    let counts = || values.clone().map(parse_count).collect::<Result<Vec<f64>, String>>();
    match what {
        "rate" => Ok(Sweep::Rates(counts()?)),
        "record-bytes" => {
            let bytes = values.map(|text| parse_bytes(text).map(|bytes| bytes as usize));
            Ok(Sweep::RecordBytes(bytes.collect::<Result<_, _>>()?))
        }
        "partitions" => Ok(Sweep::Partitions(counts()?.into_iter().map(|count| count as u32).collect())),
        "connections" => Ok(Sweep::Connections(counts()?.into_iter().map(|count| count as usize).collect())),
        what => Err(format!("{what} is none of rate, record-bytes, partitions, connections")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Typed {
        #[command(flatten)]
        run: RunArgs,
    }

    fn args(line: &str) -> Result<RunArgs, String> {
        let typed = Typed::try_parse_from(["bench"].into_iter().chain(line.split_whitespace()));
        typed.map(|typed| typed.run).map_err(|error| error.to_string())
    }

    fn options(line: &str) -> Result<Options, String> {
        args(line)?.options().map_err(|error| error.to_string())
    }

    #[test]
    fn the_load_is_what_the_flags_say() {
        let open = options("--rate 1k --record-bytes 100 --batch-bytes 16KiB").unwrap();
        assert_eq!(open.load, Load::Open { records_per_s: 1000.0 });
        assert!((140..150).contains(&open.records_per_batch), "{}", open.records_per_batch);
        assert_eq!(options("--closed --batch-records 1").unwrap().records_per_batch, 1);
        assert_eq!(options("--cold").unwrap().load, Load::None);
        for wrong in ["--rate 1 --closed", "--closed --batch-records 1 --batch-bytes 4", "--cold --verify"] {
            assert!(options(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn without_flags_it_is_an_open_loop_with_a_reader() {
        let default = options("").unwrap();
        assert_eq!((default.load, default.consumers), (Load::Open { records_per_s: RATE }, 1));
        assert_eq!(default.read_back, ReadBack::Tail);
        let given = options("--bootstrap h:1").unwrap();
        assert_eq!((given.consumers, given.read_back), (0, ReadBack::Nothing));
    }

    #[test]
    fn a_linger_bounds_how_long_a_batch_waits_and_the_bytes_how_large_it_gets() {
        let lingering = options("--rate 10M --linger-ms 0.5 --record-bytes 1000").unwrap();
        assert_eq!((lingering.linger_ns, lingering.records_per_batch), (Some(500_000), 16));
        let few = options("--rate 1k --linger-ms 5 --batch-records 3").unwrap();
        assert_eq!((few.linger_ns, few.records_per_batch), (Some(5_000_000), 3));
        for wrong in ["--closed --linger-ms 1", "--rate 1 --linger-ms=-1", "--rate 1 --linger-ms nan"] {
            assert!(options(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn payloads_and_keys_are_what_the_flags_say() {
        let line = "--topics 3 --keys 1k --key-bytes 8 --key-distribution zipf --compression zstd";
        let options_of = options(line).unwrap();
        let keys = Keys { bytes: 8, count: 1000, distribution: KeyDistribution::Zipf };
        assert_eq!((options_of.topics, options_of.keys), (3, keys));
        assert_eq!(options_of.compression, Compression::Zstd);
        assert_eq!(options_of.body, Body::Random { share: 0.5 });
        assert_eq!(options("").unwrap().body, Body::Random { share: 1.0 });
        let all = options("--compression lz4 --random-bytes-ratio 1").unwrap();
        assert_eq!(all.body, Body::Random { share: 1.0 });
        assert!(options("--payload-file Cargo.toml").unwrap_err().contains("--record-bytes says"));
    }

    #[test]
    fn the_workload_files_of_this_project_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/workloads");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let merged = RunArgs::merge(&path, &["--seconds".to_owned(), "7".to_owned()]);
            let options = merged.and_then(|merged| merged.options());
            let options = options.unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
            assert_eq!(options.seconds, 7, "{}: the command line counts", path.display());
            options.check().unwrap();
            names.push(path);
        }
        assert!(names.len() >= 2, "{names:?}");
    }

    #[test]
    fn producers_are_another_name_for_connections_that_produce() {
        assert_eq!(options("--producers 8").unwrap().connections, 8);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.yaml");
        for (file, typed) in [("connections: 4", "--producers=2"), ("producers: 4", "--connections=2")] {
            std::fs::write(&path, file).unwrap();
            let connections = |typed: &[String]| {
                RunArgs::merge(&path, typed).and_then(|merged| merged.options()).unwrap().connections
            };
            assert_eq!((connections(&[]), connections(&[typed.to_owned()])), (4, 2), "{file}, {typed}");
        }
    }

    #[test]
    fn what_a_workload_wants_and_does_not_get_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.yaml");
        // As the OpenMessaging Benchmark's own files have it.
        let fields = "topics: 1\npartitionsPerTopic: 1\nuseRandomizedPayloads: true\nrandomBytesRatio: 0.5\n\
                      randomizedPayloadPoolSize: 1000\nsubscriptionsPerTopic: 1\nproducersPerTopic: 4\n\
                      consumerPerSubscription: 4\nproducerRate: 50000\nconsumerBacklogSizeGB: 0\n";
        std::fs::write(&path, fields).unwrap();
        let notes = |typed: &[&str]| {
            let typed: Vec<String> = typed.iter().map(|word| (*word).to_owned()).collect();
            let merged = RunArgs::merge(&path, &typed).unwrap();
            let options = merged.options().unwrap();
            options.check().unwrap();
            merged.notes(&options)
        };
        let said = notes(&[]);
        assert!(said[0].contains("there are 300 different payloads"), "{said:?}");
        assert!(said[1].contains("3 of 4 consumers are idle"), "{said:?}");
        assert!(notes(&["--in-flight", "17", "--partitions", "4"]).is_empty());
    }

    #[test]
    fn what_is_typed_counts_where_the_file_says_what_excludes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.yaml");
        let merged = |fields: &str, typed: &str| {
            std::fs::write(&path, fields).unwrap();
            let typed: Vec<String> = typed.split(' ').map(str::to_owned).collect();
            let merged = RunArgs::merge(&path, &typed).unwrap_or_else(|error| panic!("{fields}: {error:#}"));
            merged.options().unwrap_or_else(|error| panic!("{fields}: {error:#}"))
        };
        let closed = merged("producerRate: 1000\npoisson: true\nlinger-ms: 5\n", "--closed");
        assert_eq!((closed.load, closed.arrivals.poisson, closed.linger_ns), (Load::Closed, false, None));
        let open = merged("producerRate: 0\n", "--rate 2k");
        assert_eq!(open.load, Load::Open { records_per_s: 2000.0 });
        assert_eq!(merged("batch-bytes: 1MiB\n", "--batch-records=7").records_per_batch, 7);
        assert_eq!(
            merged("batch-records: 7\nrecord-bytes: 1000\n", "--batch-bytes 2KiB").records_per_batch,
            1
        );
        let verified = merged("consumerPerSubscription: 2\nsubscriptionsPerTopic: 2\n", "--verify");
        assert_eq!((verified.read_back, verified.consumers), (ReadBack::Afterwards, 0));
        let file = merged("useRandomizedPayloads: true\n", "--payload-file /dev/null --record-bytes 0");
        assert!(matches!(&file.body, Body::File(bytes) if bytes.is_empty()), "{:?}", file.body);
        let own = "bootstrap: somewhere:1\nadmin: somewhere:2\ndurability: none\n";
        assert_eq!(merged(own, "--broker-cpus 1").read_back, ReadBack::Tail, "a broker of its own");
    }

    #[test]
    fn the_flags_that_scripts_rely_on_exist() {
        let line = "--bootstrap h:1 --topic t --partitions 4 --record-bytes 1KiB --batch-bytes 16KiB \
                    --connections 4 --in-flight 5 --closed --seconds 5 --cpus 0 --topic-config a=b";
        args(line).unwrap();
        args("--rate 1000 --warmup 1 --json f --quiet --verify --broker-pid 1").unwrap();
    }

    #[test]
    fn sweeps_name_what_they_vary() {
        assert_eq!(parse_sweep("rate=1k,2k"), Ok(Sweep::Rates(vec![1000.0, 2000.0])));
        assert_eq!(parse_sweep("record-bytes=100,1KiB"), Ok(Sweep::RecordBytes(vec![100, 1024])));
        for wrong in ["rate", "speed=1", "rate=x", "partitions=-1"] {
            assert!(parse_sweep(wrong).is_err(), "{wrong}");
        }
    }
}
