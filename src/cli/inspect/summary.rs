//! `ringmq inspect DIR`: whose data it is, its logs, what a start would find. Reads no blocks.

use std::fmt::Write;

use serde::Serialize;

use super::text::{number, size, table, word};
use super::{Directory, Output, Target};
use crate::broker::data_dir::BrokerFile;
use crate::log::inspect::LogFiles;
use crate::model::LogId;

#[derive(Serialize)]
struct Summary {
    dir: String,
    in_use: bool,
    broker: BrokerFile,
    logs: Vec<LogLine>,
}

#[derive(Serialize)]
struct LogLine {
    log: u32,
    /// Why the log cannot be opened; all else is then missing.
    error: Option<String>,
    #[serde(flatten)]
    facts: Option<Facts>,
}

#[derive(Serialize)]
struct Facts {
    term: u32,
    /// Closed in order when it was last recorded.
    clean: bool,
    start: u64,
    /// A lower bound; the blocks themselves say more.
    durable: u64,
    window_bytes: u64,
    segments: usize,
    recycled: usize,
    bytes: u64,
    manifest_sequence: u64,
    checkpoint: Option<CheckpointLine>,
    problems: Vec<String>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct CheckpointLine {
    generation: u64,
    position: u64,
    slots: usize,
    state_bytes: usize,
}

pub fn run(target: &Target) -> anyhow::Result<()> {
    let directory = Directory::open(target)?;
    let logs: Vec<LogLine> = directory.broker.log_ids().map(|log| line(&directory, log)).collect();
    let broken = logs.iter().filter(|line| !line.is_sound()).count();
    let dir = directory.path.display().to_string();
    super::print(target, &Summary { dir, in_use: directory.in_use, broker: directory.broker, logs })?;
    if broken > 0 {
        anyhow::bail!("{broken} logs have problems");
    }
    Ok(())
}

fn line(directory: &Directory, log: LogId) -> LogLine {
    match directory.log(log) {
        Ok(files) => LogLine { log: log.0, error: None, facts: Some(facts(&files)) },
        Err(error) => LogLine { log: log.0, error: Some(error.to_string()), facts: None },
    }
}

fn facts(files: &LogFiles) -> Facts {
    let manifest = &files.manifest;
    Facts {
        term: manifest.term.0,
        clean: manifest.clean,
        start: files.start().0,
        durable: files.durable().0,
        window_bytes: manifest.window_bytes,
        segments: manifest.segments.len(),
        recycled: manifest.segments.iter().filter(|segment| segment.recycled).count(),
        bytes: manifest.segments.iter().map(|segment| segment.bytes).sum(),
        manifest_sequence: manifest.sequence,
        checkpoint: files.checkpoint.as_ref().map(|checkpoint| CheckpointLine {
            generation: checkpoint.head.generation,
            position: checkpoint.head.position.0,
            slots: checkpoint.queues.iter().filter(|(_, queue)| queue.end_offset().0 > 0).count(),
            state_bytes: checkpoint.state.len(),
        }),
        problems: files.problems.iter().map(|problem| problem.what.clone()).collect(),
        notes: files.notes.clone(),
    }
}

impl LogLine {
    fn is_sound(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.problems.is_empty())
    }
}

impl Output for Summary {
    fn text(&self) -> String {
        let BrokerFile { format_version, broker, cluster_id, logs, commit_mode, commit_depth, measured } =
            &self.broker;
        let mut out = format!(
            "{}: format {format_version}, broker {broker}, cluster {cluster_id}\n\
             {logs} logs besides the metadata log 0; commits by {commit_mode}, depth {commit_depth} ({measured})\n\n",
            self.dir
        );
        let sound = self.logs.iter().filter_map(|line| Some((line.log, line.facts.as_ref()?)));
        let rows: Vec<_> = sound
            .map(|(log, facts)| {
                let checkpoint = facts.checkpoint.as_ref();
                [
                    number(log),
                    number(facts.term),
                    word(if facts.clean { "in order" } else { "no" }),
                    number(facts.start),
                    number(facts.durable),
                    number(facts.segments),
                    number(facts.recycled),
                    number(size(facts.bytes)),
                    number(
                        checkpoint.map_or("none".to_owned(), |checkpoint| checkpoint.position.to_string()),
                    ),
                ]
            })
            .collect();
        let header =
            ["LOG", "TERM", "CLOSED", "START", "DURABLE>=", "SEGMENTS", "RECYCLED", "BYTES", "CHECKPOINT"];
        out += &table(header, &rows);
        for line in &self.logs {
            if let Some(error) = &line.error {
                let _ = writeln!(out, "log {}: problem: {error}", line.log);
            }
            let Some(facts) = &line.facts else { continue };
            for problem in &facts.problems {
                let _ = writeln!(out, "log {}: problem: {problem}", line.log);
            }
            for note in &facts.notes {
                let _ = writeln!(out, "log {}: note: {note}", line.log);
            }
        }
        out
    }
}
