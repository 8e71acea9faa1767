//! `ringmq bench`: load a broker, and measure what the load generator and the device can do alone.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};

use crate::bench::sink::{Null, Sink};
use crate::bench::table::{self, RowName};
use crate::bench::{self, KafkaDriver, Load, Options, ReadBack, Report, raw};

/// Load a Kafka endpoint, check every record, and report percentiles that mean something.
///
/// Open loop with `--rate` (latency counts from the moment a request was due), closed loop with
/// `--closed` (for the maximum; its tail latencies are flattering). Exits with 1 when the numbers
/// must not be used or a record was lost, repeated, reordered or damaged.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchCommand {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand, Debug)]
enum Mode {
    /// Load a sink that stores nothing: what this generator can do at most, and its own noise.
    Ceiling(CeilingArgs),
    /// Durable writes and reads on a file system, without a broker.
    Raw(RawArgs),
    /// The canonical rows, against brokers of its own, beside the raw device.
    Table(TableArgs),
}

#[derive(Args, Debug)]
struct RunArgs {
    /// The broker, HOST:PORT.
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "ADDR")]
    bootstrap: String,
    /// Created when it does not exist.
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
    /// Connections that read what is written, while it is written.
    #[arg(long, default_value_t = 0, value_name = "N")]
    consumers: usize,
    /// Read everything of this run back afterwards, as far as it is retained.
    #[arg(long, conflicts_with = "consumers")]
    verify: bool,
    /// Read what the topic holds from its first offset on; with --rate or --closed producers run too.
    #[arg(long, conflicts_with = "verify")]
    cold: bool,
    /// Measure processor time and memory of this process with the run.
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,
    /// No line a second.
    #[arg(long)]
    quiet: bool,
}

#[derive(Args, Debug)]
struct LoadArgs {
    #[arg(long, default_value_t = 1, value_name = "N")]
    partitions: u32,
    /// 1 or all: when the broker answers.
    #[arg(long, default_value = "all")]
    acks: Acks,
    /// Of a record's value, at least 32.
    #[arg(long, default_value = "1024", value_name = "BYTES", value_parser = parse_bytes)]
    record_bytes: u64,
    /// As many records a batch as fit; a request carries one batch.
    #[arg(long, default_value = "16KiB", value_name = "BYTES", value_parser = parse_bytes)]
    batch_bytes: u64,
    /// So many records a batch, whatever their size.
    #[arg(long, value_name = "N", conflicts_with = "batch_bytes")]
    batch_records: Option<u32>,
    #[arg(long, default_value_t = 1, value_name = "N")]
    connections: usize,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 5, value_name = "N")]
    in_flight: usize,
    /// Records per second, on an absolute schedule (open loop).
    #[arg(long, value_name = "RECORDS", conflicts_with = "closed")]
    rate: Option<f64>,
    /// As fast as the answers come.
    #[arg(long)]
    closed: bool,
    #[arg(long, default_value_t = 10, value_name = "S")]
    seconds: u64,
    /// Seconds of load before the measured ones.
    #[arg(long, default_value_t = 2, value_name = "S")]
    warmup: u64,
    /// Write the result to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Acks {
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

#[derive(Args, Debug)]
struct CeilingArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// The core of the sink.
    #[arg(long, default_value_t = 1, value_name = "CPU")]
    sink_cpu: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 0, value_name = "CPU")]
    load_cpu: usize,
}

#[derive(Args, Debug)]
struct RawArgs {
    /// A folder on the file system to be measured.
    #[arg(long)]
    dir: PathBuf,
    /// Of the test file, which is written whole first.
    #[arg(long, default_value = "1GiB", value_name = "BYTES", value_parser = parse_bytes)]
    file_bytes: u64,
    /// Per size and depth.
    #[arg(long, default_value_t = 2, value_name = "S")]
    seconds: u64,
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct TableArgs {
    /// Where the brokers' data and the raw probe's file go; emptied by each row that needs it.
    #[arg(long)]
    dir: PathBuf,
    /// The address that the brokers serve.
    #[arg(long, default_value = "127.0.0.1:19092", value_name = "ADDR")]
    listen: String,
    /// Only these rows; all without it.
    #[arg(long, value_delimiter = ',', value_name = "ROWS")]
    rows: Vec<RowName>,
    /// Of each measurement.
    #[arg(long, default_value_t = 60, value_name = "S")]
    seconds: u64,
    /// The core of the broker's one shard. Where one core takes all interrupts of the disk, as
    /// /proc/interrupts shows, this is the one: the kernel completes durable writes there.
    #[arg(long, default_value_t = 1, value_name = "CPU")]
    broker_cpu: usize,
    /// The core of the load.
    #[arg(long, default_value_t = 0, value_name = "CPU")]
    load_cpu: usize,
    /// Bytes a broker keeps; what it writes beyond goes into recycled segments.
    #[arg(long, default_value = "8GiB", value_name = "BYTES", value_parser = parse_bytes)]
    retention: u64,
    /// Write every row's reports here, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl BenchCommand {
    /// # Errors
    /// The run could not be made, or its numbers must not be used: the report, which is printed
    /// first, says why.
    pub fn run(self) -> anyhow::Result<()> {
        match self.mode {
            None => run_load(self.run),
            Some(Mode::Ceiling(args)) => run_ceiling(args),
            Some(Mode::Raw(args)) => run_raw(args),
            Some(Mode::Table(args)) => run_table(args),
        }
    }
}

fn run_load(args: RunArgs) -> anyhow::Result<()> {
    let read_back = match (args.cold, args.verify) {
        (true, _) => ReadBack::Cold,
        (_, true) => ReadBack::Afterwards,
        _ if args.consumers > 0 => ReadBack::Tail,
        _ => ReadBack::Nothing,
    };
    let options = Options {
        bootstrap: args.bootstrap,
        topic: args.topic,
        topic_configs: args.topic_configs,
        cpus: args.cpus,
        consumers: args.consumers,
        broker_pid: args.broker_pid,
        progress: !args.quiet,
        ..args.load.options(args.cold)?
    };
    let report = bench::run(&Options { read_back, ..options })?;
    conclude(&report, args.load.json)
}

fn run_ceiling(args: CeilingArgs) -> anyhow::Result<()> {
    let sink = Sink::start(Null::default(), args.load.partitions, Some(args.sink_cpu))?;
    let options = Options {
        bootstrap: sink.address().to_string(),
        cpus: vec![args.load_cpu],
        progress: true,
        ..args.load.options(false)?
    };
    println!("null sink on core {}: nothing is stored", args.sink_cpu);
    conclude(&bench::run(&options)?, args.load.json)
}

fn run_raw(args: RawArgs) -> anyhow::Result<()> {
    let options = raw::Options {
        file_bytes: args.file_bytes,
        duration: Duration::from_secs(args.seconds),
        ..raw::Options::new(&args.dir)
    };
    let rows = raw::run(&options, |_| ())?;
    print!("{}", raw::table(&rows));
    write_json(&rows, args.json)
}

fn run_table(args: TableArgs) -> anyhow::Result<()> {
    let setup = table::Setup {
        program: std::env::current_exe().context("cannot find this program's own file")?,
        dir: args.dir,
        listen: args.listen,
        broker_cpu: args.broker_cpu,
        load_cpu: args.load_cpu,
        seconds: args.seconds,
        retention_bytes: args.retention,
    };
    let rows = if args.rows.is_empty() { RowName::value_variants().to_vec() } else { args.rows };
    let results = table::run(&setup, &rows, |line| println!("{line}"))?;
    write_json(&results, args.json)?;
    if !results.iter().all(table::RowResult::passed) {
        bail!("a row failed or must not be used: see the table");
    }
    Ok(())
}

fn conclude(report: &Report, json: Option<PathBuf>) -> anyhow::Result<()> {
    print!("{report}");
    write_json(report, json)?;
    if !report.passed() {
        bail!("the run failed: see its last lines");
    }
    Ok(())
}

fn write_json(value: &impl serde::Serialize, path: Option<PathBuf>) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let write = || -> anyhow::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
        serde_json::to_writer_pretty(&mut file, value)?;
        Ok(file.flush()?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

impl LoadArgs {
    /// `may_be_idle`: neither a rate nor a closed loop is needed.
    fn options(&self, may_be_idle: bool) -> anyhow::Result<Options> {
        let load = match (self.rate, self.closed) {
            (Some(records_per_s), _) => Load::Open { records_per_s },
            (None, true) => Load::Closed,
            (None, false) if may_be_idle => Load::None,
            (None, false) => bail!("give --rate RECORDS for an open loop, or --closed for the maximum"),
        };
        let (record_bytes, batch_bytes) = (self.record_bytes as usize, self.batch_bytes as usize);
        let fitting = || KafkaDriver::records_in(batch_bytes, record_bytes);
        Ok(Options {
            partitions: self.partitions,
            acks: match self.acks {
                Acks::Leader => 1,
                Acks::All => -1,
            },
            record_bytes,
            records_per_batch: self.batch_records.unwrap_or_else(fitting),
            connections: self.connections,
            in_flight: self.in_flight,
            load,
            seconds: self.seconds,
            warmup_s: self.warmup,
            ..Options::default()
        })
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A number of bytes, with a unit or without: 4096, 16KiB, 1MB.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        unit => return Err(format!("{unit} is no unit; use B, KiB, MiB, GiB, kB, MB or GB")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{digits:?} is no number"))?;
    number.checked_mul(unit).ok_or_else(|| "too many bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        bench: BenchCommand,
    }

    fn options(line: &str) -> Result<Options, String> {
        let cli = Cli::try_parse_from(["bench"].into_iter().chain(line.split_whitespace()));
        let args = cli.map_err(|error| error.to_string())?.bench.run;
        args.load.options(args.cold).map_err(|error| error.to_string())
    }

    #[test]
    fn the_load_is_what_the_flags_say() {
        let open = options("--rate 1000 --record-bytes 100 --batch-bytes 16KiB").unwrap();
        assert_eq!(open.load, Load::Open { records_per_s: 1000.0 });
        assert!((140..150).contains(&open.records_per_batch), "{}", open.records_per_batch);
        assert_eq!(options("--closed --batch-records 1").unwrap().records_per_batch, 1);
        assert_eq!(options("--cold").unwrap().load, Load::None);
        for wrong in
            ["", "--rate 1 --closed", "--closed --batch-records 1 --batch-bytes 4", "--cold --verify"]
        {
            assert!(options(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn bytes_have_units() {
        for (text, bytes) in [("7", 7), ("16KiB", 16384), ("2G", 2 << 30), ("1MB", 1_000_000)] {
            assert_eq!(parse_bytes(text), Ok(bytes));
        }
        for text in ["", "KiB", "1 KiB", "1XB", "99999999999G", "-1"] {
            assert!(parse_bytes(text).is_err(), "{text:?}");
        }
    }
}
