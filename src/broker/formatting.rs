//! Making a data directory, over any number of tries that were interrupted.
//!
//! ```text
//!   FORMATTING durable -> log folders -> measure -> broker.toml durable -> FORMATTING removed, durably
//! ```
//!
//! `FORMATTING` claims the log folders that follow it. A start removes what it claims and nothing else: log folders
//! that lie there without it, or that a broker has opened, are somebody's data whose `broker.toml` was lost.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::data_dir::{BrokerFile, DataDir, FILE, LOCK, log_dir, write_durably};
use super::first_segments::FIRST_SEGMENTS;
use crate::io::blocking::block_on;
use crate::io::file::Disk;
use crate::log::manifest::{CopyError, Manifest, manifest_path};
use crate::log::recovery;
use crate::model::{LogId, Term};

const MARKER: &str = "FORMATTING";
/// What else may lie in a folder that becomes a data directory: ours, of an interrupted try, and the file system's.
const HARMLESS: [&str; 5] = [LOCK, MARKER, "FORMATTING.new", "broker.toml.new", "lost+found"];
/// So many names are told of what should not be there.
const NAMES_MAX: usize = 3;

/// What `FORMATTING` says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    /// Named in the manifests of the logs that are being made.
    broker: uuid::Uuid,
    logs: u32,
}

/// The log folders of an interrupted try: what a start may remove. None if the directory is complete or new.
///
/// # Errors
/// The folder holds what no try has left behind. Nothing was changed.
pub fn unfinished(data_dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let names = match names(data_dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.with_context(|| format!("reading the data directory {}", data_dir.display()))?,
    };
    if names.iter().any(|name| name == FILE) {
        return Ok(Vec::new());
    }
    let claim = Claim::read(data_dir)?;
    let (mut claimed, mut logs, mut others) = (Vec::new(), Vec::new(), Vec::new());
    // Hidden files are no reason: the folder may be the home of a service's user.
    for name in names.into_iter().filter(|name| !name.starts_with('.') && !HARMLESS.contains(&name.as_str()))
    {
        match (log_of(&name), &claim) {
            (Some(log), Some(claim)) if claim.covers(data_dir, log)? => claimed.push(log_dir(data_dir, log)),
            (Some(_), _) => logs.push(name),
            (None, _) => others.push(name),
        }
    }
    let dir = data_dir.display();
    if !logs.is_empty() {
        bail!(
            "{dir} holds logs ({}) but no broker.toml, which says whose they are: restore broker.toml from a backup; \
             or move these folders away, to begin anew without what they hold",
            list(&logs)
        );
    }
    if !others.is_empty() {
        bail!(
            "{dir} holds other files ({}) but no broker.toml: it is no data directory. Name an empty or a new folder \
             with --data-dir, or move the files away",
            list(&others)
        );
    }
    Ok(claimed)
}

/// Make the directory's logs with segments of these sizes, measure on them, and complete it.
pub fn format<D: Disk>(
    disk: &D,
    data_dir: &DataDir,
    mut file: BrokerFile,
    segment_bytes: impl Fn(LogId) -> u64,
    measure: impl FnOnce(&mut BrokerFile) -> anyhow::Result<()>,
) -> anyhow::Result<BrokerFile> {
    let path = data_dir.path();
    for dir in unfinished(path)? {
        fs::remove_dir_all(&dir).with_context(|| format!("removing the unfinished {}", dir.display()))?;
    }
    Claim { broker: file.broker, logs: file.logs }.write(path)?;
    for log in file.log_ids() {
        let sizes = [segment_bytes(log); FIRST_SEGMENTS as usize];
        let dir = data_dir.log_dir(log);
        block_on(recovery::format(disk, &dir, (*file.broker.as_bytes(), log), &sizes))
            .with_context(|| format!("making log {log} in {}", dir.display()))?;
    }
    measure(&mut file)?;
    data_dir.write(&file)?;
    finish(path)?;
    Ok(file)
}

/// The directory is complete: nothing in it may be removed any more. To be done before anything is stored in it.
pub fn finish(data_dir: &Path) -> anyhow::Result<()> {
    let marker = data_dir.join(MARKER);
    match fs::remove_file(&marker) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", marker.display()));
        }
        _ => {}
    }
    // Each time: the last process may have been killed between the two.
    let synced = fs::File::open(data_dir).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("syncing {}", data_dir.display()))
}

impl Claim {
    fn read(data_dir: &Path) -> anyhow::Result<Option<Claim>> {
        let path = data_dir.join(MARKER);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        let claim = toml::from_str(&text).with_context(|| {
            format!(
                "{} is damaged: remove it, and the log folders beside it if nothing was ever stored in them",
                path.display()
            )
        })?;
        Ok(Some(claim))
    }

    fn write(&self, data_dir: &Path) -> anyhow::Result<()> {
        let text = format!(
            "# This data directory is being made. If that was interrupted, the next start removes the log folders.\n{}",
            toml::to_string(self)?
        );
        write_durably(data_dir, MARKER, text.as_bytes())
            .with_context(|| format!("writing {MARKER} in {}", data_dir.display()))
    }

    /// Whether that log's folder is what an interrupted try has left: of this broker, and never opened.
    fn covers(&self, data_dir: &Path, log: LogId) -> anyhow::Result<bool> {
        let dir = log_dir(data_dir, log);
        let meta = fs::symlink_metadata(&dir).with_context(|| format!("reading {}", dir.display()))?;
        if log.0 > self.logs || !meta.is_dir() {
            return Ok(false);
        }
        for copy in 0..2 {
            let path = manifest_path(&dir, copy);
            let bytes = match fs::read(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                bytes => bytes.with_context(|| format!("reading {}", path.display()))?,
            };
            match Manifest::decode(&bytes) {
                Ok(manifest) if manifest.broker != *self.broker.as_bytes() || manifest.term > Term(0) => {
                    return Ok(false);
                }
                Err(CopyError::Version(_)) => return Ok(false),
                // A copy that is not whole was being written.
                Ok(_) | Err(CopyError::Broken(_) | CopyError::Missing) => {}
            }
        }
        Ok(true)
    }
}

/// In order. Names that are not UTF-8 are nobody's but to be told.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let mut names = fs::read_dir(dir)?.map(name).collect::<io::Result<Vec<String>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// The log whose folder has this name.
fn log_of(name: &str) -> Option<LogId> {
    let log = name.strip_prefix("log-")?.parse().ok().map(LogId)?;
    (name == format!("log-{log}")).then_some(log)
}

fn list(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    let told = names[..names.len() - more].join(", ");
    if more > 0 { format!("{told} and {more} more") } else { told }
}

#[cfg(test)]
mod tests;
