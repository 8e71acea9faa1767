//! The canonical rows: each a load against a broker of its own, beside the raw device and, for
//! latencies, beside the null sink.
//!
//! One shard on one core, the load on another, every ack durable, every record in the ledger. Each
//! row starts on an empty data directory, so that rows can be selected and repeated.

mod rows;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::broker;
use super::error::BenchError;
use super::folder::Folder;
use super::raw;
use super::report::Report;

/// What all rows share.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The `ringmq` binary.
    pub program: PathBuf,
    /// On the file system that is judged. The brokers get a folder of their own in it, which is removed when
    /// the table is done.
    pub dir: PathBuf,
    pub listen: String,
    pub broker_cpu: usize,
    pub load_cpu: usize,
    /// Of a measurement.
    pub seconds: u64,
    pub retention_bytes: u64,
    /// Share of the amounts that rows write and make: 1, or less for a rehearsal.
    pub scale: f64,
}

impl Setup {
    fn scaled(&self, amount: u64) -> u64 {
        ((amount as f64 * self.scale) as u64).max(1)
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum RowName {
    /// 1 KB records in batches of 16 KiB over 48 connections with 5 in flight, as fast as it goes.
    #[value(name = "1k-16k")]
    Kilobyte16,
    /// 1 KB records in batches of 64 KiB over 16 connections with 5 in flight, as fast as it goes.
    #[value(name = "1k-64k")]
    Kilobyte64,
    /// 100 B records in batches of 16 KiB over 48 connections, as fast as it goes.
    #[value(name = "100b")]
    Hundred,
    /// One 128 B record a request, 64 connections with 16 in flight.
    Single,
    /// Open loop at half the maximum, in recycled segments and in the first fill apart, beside the raw write and
    /// the null sink.
    Latency,
    /// 100,000 records/s of 1 KB in batches of 10, open loop, beside the null sink.
    Open100k,
    /// 100,000 partitions against one, same requests.
    Partitions,
    /// What a tailing consumer costs the broker per GB.
    TailCpu,
    /// A cold read of 10 GB over 1,000 partitions while producers run, until it is read; the producers' p99 of
    /// that time.
    Cold,
    /// Resident memory from 1 to 20 GB of single-record batches.
    Memory,
    /// Ready after `kill -9` with 10 GB of log.
    Recovery,
    /// An idle broker's processor time and memory, by poll mode.
    Idle,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct RowResult {
    pub row: RowName,
    pub work: String,
    pub result: String,
    pub beside: String,
    /// What every number of it rests on.
    pub reports: Vec<Report>,
    /// Why there is no result.
    pub failure: Option<String>,
}

impl RowResult {
    pub fn passed(&self) -> bool {
        self.failure.is_none() && self.reports.iter().all(Report::passed)
    }

    /// The line in Markdown. A run that must not be used is marked, never left out.
    fn line(&self) -> String {
        let faults: Vec<String> =
            self.reports.iter().filter(|report| !report.passed()).map(fault_of).collect();
        let mark = match (&self.failure, faults.is_empty()) {
            (Some(reason), _) => format!("**FAILED**: {reason} "),
            (None, false) => format!("**INVALID**: {} ", faults.join("; ")),
            (None, true) => String::new(),
        };
        format!("| {} | {mark}{} | {} | durable |", self.work, self.result, self.beside)
    }
}

fn fault_of(report: &Report) -> String {
    let ledger = if report.ledger.passed() { "" } else { "the ledger failed " };
    format!("{ledger}{}", report.invalid.join(", "))
}

/// Measure the raw device, then `rows`; `line` gets the table as it grows.
///
/// # Errors
/// The raw device could not be measured. A row that fails says so in its result and the next begins.
pub fn run(
    setup: &Setup,
    rows: &[RowName],
    mut line: impl FnMut(String),
) -> Result<Vec<RowResult>, BenchError> {
    let no_folder = BenchError::io("cannot make the table's folder");
    std::fs::create_dir_all(&setup.dir).map_err(no_folder)?;
    let raw_options = raw::Options { duration: Duration::from_secs(1), ..raw::Options::new(&setup.dir) };
    let raw = raw::run(&raw_options, |_| ())?;
    line(format!("Raw device under {}:\n\n```\n{}```\n", setup.dir.display(), raw::table(&raw)));
    // Not the user's own: what another table, or somebody else, keeps there is not ours to empty.
    let no_folder = BenchError::io("cannot make the brokers' folder");
    let folder = Folder::claim(&setup.dir, "table").map_err(no_folder)?;
    line("| work | result | beside it | acks |\n|---|---|---|---|".to_owned());
    let mut results = Vec::new();
    for &row in rows {
        let result = rows::measure(setup, &folder, &raw, row);
        line(result.line());
        results.push(result);
    }
    // Of a row that failed the broker's log says why.
    let failed = results.iter().any(|result| result.failure.is_some());
    let removed = if failed { broker::remove_data(&folder) } else { std::fs::remove_dir_all(folder.path()) };
    if let Err(error) = removed {
        line(format!("{} is left behind: {error}", folder.path().display()));
    }
    Ok(results)
}
