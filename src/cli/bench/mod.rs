//! `ringmq bench`: load a broker, and measure what the load generator and the device can do alone.

mod compare;
mod load;
mod signals;
mod workload;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use self::compare::CompareArgs;
use self::load::{LoadArgs, RunArgs};
use crate::bench::sink::{Null, Sink};
use crate::bench::table::{self, RowName};
use crate::bench::{self, Load, Options, Report, raw};

/// Load a Kafka endpoint, keep a ledger of its records, and report percentiles that mean something
///
/// Open loop (latency counts from the moment a request was due), or closed loop with `--closed` (for
/// the maximum; its tail latencies are flattering). Without `--bootstrap` it starts a broker of its
/// own and removes it afterwards. Writes result.json, report.html and histograms. Exits with 1 when
/// the numbers must not be used or a record was lost, repeated, reordered or damaged: which can only be
/// known of records that are read back, by --consumers (one, without --bootstrap) or --verify. Ctrl-C
/// ends the load, and keeps what was measured.
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
    /// Load a sink that stores nothing: what this generator can do at most, and how late it sends at
    /// half of that; exits with 1 above 50 µs at p99. --json has both runs; with --closed or --rate, the one
    /// that is asked for.
    Ceiling(CeilingArgs),
    /// Durable writes and reads on a file system, without a broker.
    Raw(RawArgs),
    /// Two results side by side; exits with 1 when the second is worse, or is not of the same load, or one of
    /// them is not valid.
    Compare(CompareArgs),
    /// The canonical rows, against brokers of its own, beside the raw device.
    Table(TableArgs),
}

/// Of the ceiling when nothing else is said: what a maximum is usually measured with.
const CEILING_CONNECTIONS: usize = 8;

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
    /// On the file system to be judged. The brokers' data goes into a folder that is made in it, and removed when
    /// the table is done.
    #[arg(long)]
    dir: PathBuf,
    /// The address that the brokers serve; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
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
    /// Share of the amounts that rows write and make (10 GB, 20 GB, 100,000 partitions): 0.01
    /// rehearses the table in minutes.
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    scale: f64,
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
            None => self.run.with_workload()?.run(),
            Some(Mode::Ceiling(args)) => run_ceiling(args),
            Some(Mode::Raw(args)) => run_raw(args),
            Some(Mode::Compare(args)) => args.run(),
            Some(Mode::Table(args)) => run_table(args),
        }
    }
}

/// Without a rate: the maximum, and then what the schedule is like at half of it.
fn run_ceiling(mut args: CeilingArgs) -> anyhow::Result<()> {
    let partitions = *args.load.partitions.get_or_insert(CEILING_CONNECTIONS as u32);
    args.load.connections.get_or_insert(CEILING_CONNECTIONS);
    let sink = Sink::start(Null::default(), partitions, Some(args.sink_cpu))?;
    let run = |load| {
        bench::run(&Options {
            bootstrap: sink.address().to_string(),
            cpus: vec![args.load_cpu],
            progress: true,
            ..args.load.options(load)?
        })
        .map_err(anyhow::Error::from)
    };
    println!("null sink on core {}: nothing is stored", args.sink_cpu);
    if let Some(load) = args.load.load() {
        return conclude(&run(load)?, args.load.json.clone());
    }
    let closed = run(Load::Closed)?;
    print!("{closed}");
    let half = run(Load::Open { records_per_s: closed.records_per_s / 2.0 })?;
    print!("{half}");
    let ceiling =
        Ceiling { records_per_s: closed.records_per_s, late_p99_ns: half.own_delay.p99_ns, closed, half };
    println!(
        "ceiling: {:.0} records/s; at half of it requests are sent {:.1} µs late at p99 (50 are allowed)",
        ceiling.records_per_s,
        ceiling.late_p99_ns as f64 / 1e3
    );
    write_json(&ceiling, args.load.json.clone())?;
    if !ceiling.closed.passed() || !ceiling.half.passed() {
        bail!("a run failed: see its last lines");
    }
    if !ceiling.half.is_on_time() {
        bail!("at half its ceiling the generator is later than the 50 µs at p99 that it promises");
    }
    Ok(())
}

/// What the generator can do.
#[derive(Serialize)]
struct Ceiling {
    records_per_s: f64,
    /// At half of it.
    late_p99_ns: u64,
    /// The run that found it, and the one at half of it.
    closed: Report,
    half: Report,
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
        scale: args.scale,
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

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A number above 0: 1000, 10k, 1.5M.
fn parse_count(text: &str) -> Result<f64, String> {
    let digits = text.trim_end_matches(['k', 'M']);
    let unit = match &text[digits.len()..] {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        unit => return Err(format!("{unit} is no unit; use k or M")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("{digits:?} is no number"))?;
    let count = number * unit;
    if count.is_finite() && count > 0.0 { Ok(count) } else { Err(format!("{text} is not above 0")) }
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

    #[test]
    fn counts_have_units() {
        for (text, count) in [("7", 7.0), ("10k", 1e4), ("1.5M", 1.5e6)] {
            assert_eq!(parse_count(text), Ok(count));
        }
        for text in ["", "k", "0", "-1", "1kk", "1G", "nan", "inf"] {
            assert!(parse_count(text).is_err(), "{text:?}");
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
