//! `ringmq inspect`: what a data directory holds, without a broker and without changing anything.
//!
//! Exit codes, for scripts: 0 all is well, 1 problems were found, 2 wrong usage: no data directory, no such
//! log, or one that this user may not read.

mod blocks;
mod read_only;
mod segments;
mod space;
mod summary;
mod text;
mod verify;

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::broker::data_dir::{self, BrokerFile};
use crate::io::blocking::block_on;
use crate::log::inspect::LogFiles;
use crate::log::manifest::manifest_path;
use crate::log::recovery::RecoveryError;
use crate::metadata::catalog::Catalog;
use crate::metadata::replay::MetadataReplay;
use crate::model::{LogId, Position, TopicId};

use super::WrongUsage;
use read_only::ReadOnlyDisk;

/// Show and verify what a data directory holds
///
/// Works offline and changes nothing. While a broker has the directory it works too, but the newest
/// blocks are then a matter of the moment. Exits with 0 when all is well, 1 when problems were found,
/// 2 on wrong usage: DIR is no data directory, it has no such log, or this user may not read it.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:
  ringmq inspect ./ringmq-data                           what there is
  ringmq inspect verify ./ringmq-data                    check every checksum
  ringmq inspect space ./ringmq-data                     who holds the disk's space
  ringmq inspect segments ./ringmq-data --log 1
  ringmq inspect blocks ./ringmq-data --log 1 --from 4096 --entries")]
pub struct InspectCommand {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    target: Option<Target>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the segments of the logs: where they lie, whether they are sealed, active or ready
    Segments(segments::SegmentsArgs),
    /// Dump the blocks of a log, and their entries
    Blocks(blocks::BlocksArgs),
    /// Check every checksum; tell a torn end, which is no loss, from damage
    Verify(verify::VerifyArgs),
    /// Show which topics keep segments from being used again
    Space(space::SpaceArgs),
}

/// What every action is told.
#[derive(Debug, Args)]
struct Target {
    /// The data directory
    #[arg(value_name = "DIR", value_parser = existing_folder)]
    dir: PathBuf,
    /// Print one JSON document, for scripts
    #[arg(long)]
    json: bool,
}

fn existing_folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() { Ok(path) } else { Err("there is no such folder".to_owned()) }
}

impl InspectCommand {
    pub fn run(self) -> anyhow::Result<()> {
        match self.action {
            None => summary::run(&self.target.context("DIR is missing")?),
            Some(Action::Segments(args)) => segments::run(&args),
            Some(Action::Blocks(args)) => blocks::run(&args),
            Some(Action::Verify(args)) => verify::run(&args),
            Some(Action::Space(args)) => space::run(&args),
        }
    }
}

/// What an action found out, for scripts as it is and for people in words.
trait Output: Serialize {
    fn text(&self) -> String;
}

fn print(target: &Target, output: &impl Output) -> anyhow::Result<()> {
    let text = if target.json { serde_json::to_string_pretty(output)? + "\n" } else { output.text() };
    super::print(&text)
}

/// A data directory that is looked at.
struct Directory {
    path: PathBuf,
    broker: BrokerFile,
    /// A broker has it open.
    in_use: bool,
}

impl Directory {
    fn open(target: &Target) -> anyhow::Result<Directory> {
        let path = target.dir.clone();
        may_be_read(&path)?;
        let Some(broker) = data_dir::read_broker_file(&path)? else {
            let dir = path.display();
            let log = data_dir::log_dir(&path, LogId::METADATA);
            if (0..2).any(|copy| manifest_path(&log, copy).exists()) {
                bail!(
                    "{dir} holds logs but no broker.toml: making it was interrupted before anything was stored, or \
                     the file was lost, and must be restored from a backup"
                );
            }
            bail!(WrongUsage(format!("{dir} has no broker.toml: it is no data directory")));
        };
        let in_use = in_use(&path);
        if in_use {
            eprintln!(
                "ringmq: a broker is using {}: what follows its last commit is a matter of the moment",
                path.display()
            );
        }
        Ok(Directory { path, broker, in_use })
    }

    fn log(&self, log: LogId) -> Result<LogFiles, RecoveryError> {
        let dir = data_dir::log_dir(&self.path, log);
        block_on(LogFiles::open(&ReadOnlyDisk, &dir, *self.broker.broker.as_bytes(), log))
    }

    /// The logs to look at: the one that was asked for, or all.
    fn logs(&self, wanted: Option<u32>) -> anyhow::Result<Vec<LogId>> {
        let all: Vec<LogId> = self.broker.log_ids().collect();
        match wanted.map(LogId) {
            None => Ok(all),
            Some(log) if all.contains(&log) => Ok(vec![log]),
            Some(log) => {
                bail!(WrongUsage(format!("there is no log {log}, only 0 (metadata) to {}", self.broker.logs)))
            }
        }
    }

    /// What the metadata log says.
    fn catalog(&self) -> anyhow::Result<Catalog> {
        let mut replay = MetadataReplay::default();
        let log = LogId::METADATA;
        let files = self.log(log)?;
        block_on(files.space(&ReadOnlyDisk, &mut replay, &mut Progress::new(log).tell()))?;
        Ok(replay.catalog)
    }
}

/// What this user may not read is not damaged. A log's files are made for the broker's user and group alone.
fn may_be_read(path: &Path) -> anyhow::Result<()> {
    let log = data_dir::log_dir(path, LogId::METADATA);
    for path in [path.join("broker.toml"), manifest_path(&log, 0), manifest_path(&log, 1)] {
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let what = format!("{}: {error}: run it as the broker's user", path.display());
                bail!(WrongUsage(what));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Is there a broker? The lock is asked for and given back at once.
fn in_use(path: &Path) -> bool {
    let Ok(lock) = File::open(path.join("LOCK")) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn topic_name(catalog: &Catalog, id: TopicId) -> String {
    catalog.topic_by_id(id).map_or_else(|| format!("deleted topic {id}"), |topic| topic.name.to_string())
}

/// Says on the error output how far a long scan has come.
struct Progress {
    log: LogId,
    told: Instant,
}

impl Progress {
    fn new(log: LogId) -> Progress {
        Progress { log, told: Instant::now() }
    }

    fn tell(mut self) -> impl FnMut(Position, Position) {
        move |at, limit| {
            if self.told.elapsed() >= Duration::from_secs(1) {
                self.told = Instant::now();
                let (at, limit) = (text::size(at.0), text::size(limit.0));
                eprintln!("ringmq: log {}: at {at}, at most up to {limit}", self.log);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::check_usage;

    #[test]
    fn a_folder_is_asked_for_once_and_must_exist() {
        check_usage::<InspectCommand>(
            &[".", ". --json", "verify . --json", "blocks . --log 1 --from 0 --entries"],
            &["", "verify", "./no-such-folder", "blocks .", ". verify ."],
        );
    }
}
