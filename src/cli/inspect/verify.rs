//! `ringmq inspect verify`: every checksum, from the start of each log to its end.

use std::fmt::Write;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::read_only::ReadOnlyDisk;
use super::text::{number, size, table, word};
use super::{Directory, Output, Progress, Target};
use crate::io::blocking::block_on;
use crate::log::inspect::{LogFiles, Problem, Verified};
use crate::metadata::replay::MetadataReplay;
use crate::model::LogId;
use crate::partition::Partitions;

#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    target: Target,
    /// This log only; 0 is the metadata log
    #[arg(long, value_name = "N")]
    log: Option<u32>,
}

#[derive(Serialize)]
struct Report {
    sound: bool,
    in_use: bool,
    logs: Vec<LogReport>,
}

#[derive(Serialize)]
struct LogReport {
    log: u32,
    /// Missing when the log could not be opened at all.
    #[serde(flatten)]
    scanned: Option<Scanned>,
    problems: Vec<ProblemLine>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Scanned {
    start: u64,
    end: u64,
    checkpoint: u64,
    term: u32,
    /// `closed in order`, `ends` (the broker was killed), or `torn`: unacknowledged blocks follow,
    /// which the next start cuts off.
    ending: &'static str,
    blocks: u64,
    bytes: u64,
    records: u64,
    entries: std::collections::BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct ProblemLine {
    /// Damaged positions, first and one past the last.
    from: Option<u64>,
    to: Option<u64>,
    what: String,
}

pub fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let directory = Directory::open(&args.target)?;
    let logs = directory.logs(args.log)?.into_iter().map(|log| verify(&directory, log));
    let logs: Vec<LogReport> = logs.collect::<anyhow::Result<_>>()?;
    let problems: usize = logs.iter().map(|log| log.problems.len()).sum();
    super::print(&args.target, &Report { sound: problems == 0, in_use: directory.in_use, logs })?;
    if problems > 0 {
        bail!("{problems} problems in {}", directory.path.display());
    }
    Ok(())
}

fn verify(directory: &Directory, log: LogId) -> anyhow::Result<LogReport> {
    let files = match directory.log(log) {
        Ok(files) => files,
        Err(error) => {
            let problem = ProblemLine { from: None, to: None, what: error.to_string() };
            return Ok(LogReport { log: log.0, scanned: None, problems: vec![problem], notes: Vec::new() });
        }
    };
    let progress = &mut Progress::new(log).tell();
    let found = if log == LogId::METADATA {
        block_on(files.verify(&ReadOnlyDisk, &mut MetadataReplay::default(), progress))?
    } else {
        block_on(files.verify(&ReadOnlyDisk, &mut Partitions::default(), progress))?
    };
    Ok(report(&files, found))
}

fn report(files: &LogFiles, found: Verified) -> LogReport {
    let ending = match (found.torn, found.clean) {
        (true, _) => "torn",
        (false, true) => "closed in order",
        (false, false) => "ends",
    };
    let line = |problem: Problem| ProblemLine {
        from: problem.range.map(|(from, _)| from.0),
        to: problem.range.map(|(_, to)| to.0),
        what: problem.what,
    };
    LogReport {
        log: files.id.0,
        problems: found.problems.into_iter().map(line).collect(),
        notes: files.notes.clone(),
        scanned: Some(Scanned {
            start: found.start.0,
            end: found.end.0,
            checkpoint: files.checkpoint_position().0,
            term: found.term.0,
            ending,
            blocks: found.blocks,
            bytes: found.bytes,
            records: found.records,
            entries: found.entries,
        }),
    }
}

impl Output for Report {
    fn text(&self) -> String {
        let scanned = self.logs.iter().filter_map(|log| Some((log, log.scanned.as_ref()?)));
        let rows: Vec<_> = scanned
            .map(|(log, scanned)| {
                [
                    number(log.log),
                    number(scanned.start),
                    number(scanned.end),
                    number(scanned.term),
                    number(scanned.blocks),
                    number(scanned.entries.values().sum::<u64>()),
                    number(scanned.records),
                    number(size(scanned.bytes)),
                    word(scanned.ending),
                    number(log.problems.len()),
                ]
            })
            .collect();
        let header =
            ["LOG", "START", "END", "TERM", "BLOCKS", "ENTRIES", "RECORDS", "READ", "ENDING", "PROBLEMS"];
        let mut out = table(header, &rows);
        for log in &self.logs {
            for problem in &log.problems {
                let place = match (problem.from, problem.to) {
                    (Some(from), Some(to)) => format!(", positions {from} to {to}"),
                    _ => String::new(),
                };
                let _ = writeln!(out, "log {}{place}: problem: {}", log.log, problem.what);
            }
            for note in &log.notes {
                let _ = writeln!(out, "log {}: note: {note}", log.log);
            }
        }
        out += if self.sound { "all checksums match\n" } else { "" };
        out
    }
}
