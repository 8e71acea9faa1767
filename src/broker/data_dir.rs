//! The data directory: whose it is, how many logs it has, how they commit. Locked while in use.
//!
//! ```text
//!   ringmq-data/
//!     LOCK          locked by the broker that runs; holds its process id
//!     FORMATTING    while the directory is made
//!     broker.toml   written once, when the directory is made
//!     log-0/        the metadata log
//!     log-1/ ...    logs of partitions
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::model::{CommitMode, LogId};

pub(super) const FILE: &str = "broker.toml";
pub(super) const LOCK: &str = "LOCK";
const FORMAT_VERSION: u32 = 1;
/// One for each shard, of which there are no more.
const LOGS_MAX: u32 = u16::MAX as u32;
/// As of the configuration's `log.commit_depth`.
const COMMIT_DEPTH_MAX: u8 = 8;

/// What `broker.toml` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerFile {
    pub format_version: u32,
    /// Names this broker's data in every manifest.
    pub broker: uuid::Uuid,
    /// What Kafka clients are told.
    pub cluster_id: String,
    /// Logs of partitions, besides the metadata log.
    pub logs: u32,
    /// How commits become durable, as measured when the directory was made.
    pub commit_mode: String,
    pub commit_depth: u8,
    /// The measurement in words.
    pub measured: String,
}

impl BrokerFile {
    pub fn new(broker: uuid::Uuid, cluster_id: String, logs: u32) -> BrokerFile {
        BrokerFile {
            format_version: FORMAT_VERSION,
            broker,
            cluster_id,
            logs,
            commit_mode: CommitMode::Dsync.name().to_owned(),
            commit_depth: 1,
            measured: String::new(),
        }
    }

    /// Read what `broker.toml` says.
    ///
    /// # Errors
    /// Another format; a value that no broker writes. The text names the file in `data_dir`.
    pub fn parse(text: &str, data_dir: &Path) -> anyhow::Result<BrokerFile> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let reading =
            || format!("{} is damaged: restore it from a backup, as it was", data_dir.join(FILE).display());
        let version: Version = toml::from_str(text).with_context(reading)?;
        if version.format_version != FORMAT_VERSION {
            bail!(
                "{} has data format {}, this program knows {FORMAT_VERSION}: use the program that wrote it, or a newer one",
                data_dir.display(),
                version.format_version
            );
        }
        let file: BrokerFile = toml::from_str(text).with_context(reading)?;
        file.commit_mode().with_context(reading)?;
        if file.logs == 0 || file.logs > LOGS_MAX || !(1..=COMMIT_DEPTH_MAX).contains(&file.commit_depth) {
            bail!(
                "{} names {} logs and commit depth {}: it is damaged, restore it from a backup",
                data_dir.join(FILE).display(),
                file.logs,
                file.commit_depth
            );
        }
        Ok(file)
    }

    pub fn commit_mode(&self) -> anyhow::Result<CommitMode> {
        Ok(match self.commit_mode.as_str() {
            "plain" => CommitMode::Plain,
            "dsync" => CommitMode::Dsync,
            "write-sync" => CommitMode::WriteThenSync,
            other => {
                bail!("broker.toml names the commit mode {other:?}: it must be plain, dsync or write-sync")
            }
        })
    }

    /// All logs, the metadata log first.
    pub fn log_ids(&self) -> impl Iterator<Item = LogId> {
        (0..=self.logs).map(LogId)
    }
}

/// A data directory that this process has to itself.
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Make the directory if it is missing, and lock it.
    pub fn lock(path: &Path) -> anyhow::Result<DataDir> {
        fs::create_dir_all(path).with_context(|| format!("making the data directory {}", path.display()))?;
        let lock = path.join(LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock)
            .with_context(|| format!("opening {}", lock.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(&lock).unwrap_or_default();
                bail!(
                    "{} is in use by another broker (process {}): stop that one first, or choose another \
                     folder with --data-dir",
                    path.display(),
                    owner.trim()
                );
            }
            Err(fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", lock.display()));
            }
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(DataDir { path: path.to_owned(), _lock: file })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn log_dir(&self, log: LogId) -> PathBuf {
        log_dir(&self.path, log)
    }

    /// What the directory says of itself; `None` if it is new.
    pub fn read(&self) -> anyhow::Result<Option<BrokerFile>> {
        read_broker_file(&self.path)
    }

    /// The last step of making a directory: without this file it is new.
    pub fn write(&self, file: &BrokerFile) -> anyhow::Result<()> {
        let text = format!(
            "# Written when this data directory was made. Not a configuration: see `ringmq config template`.\n{}",
            toml::to_string(file)?
        );
        write_durably(&self.path, FILE, text.as_bytes())
            .with_context(|| format!("writing broker.toml in {}", self.path.display()))
    }
}

pub fn log_dir(data_dir: &Path, log: LogId) -> PathBuf {
    data_dir.join(format!("log-{log}"))
}

/// What a data directory says of itself; `None` if there is none, or it is not complete.
pub fn read_broker_file(data_dir: &Path) -> anyhow::Result<Option<BrokerFile>> {
    let path = data_dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    BrokerFile::parse(&text, data_dir).map(Some)
}

pub(super) fn write_durably(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    // Opened as a file, a folder can be synced: its entries become durable.
    let folder = File::open(dir)?;
    folder.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_and_remembers_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let owner = DataDir::lock(&path).unwrap();
        assert_eq!(owner.read().unwrap(), None);
        let file = BrokerFile::new(uuid::Uuid::from_u128(7), "cluster".into(), 2);
        owner.write(&file).unwrap();
        assert_eq!(owner.read().unwrap(), Some(file.clone()));
        assert_eq!(file.log_ids().collect::<Vec<_>>(), [LogId(0), LogId(1), LogId(2)]);

        let second = DataDir::lock(&path).err().expect("one owner at a time").to_string();
        assert!(second.contains("in use by another broker"), "{second}");
        drop(owner);
        DataDir::lock(&path).unwrap();
    }

    #[test]
    fn another_version_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("broker.toml"), "format_version = 99\nnew = true\n").unwrap();
        let error = read_broker_file(folder.path()).unwrap_err().to_string();
        assert!(error.contains("data format 99") && error.contains("newer one"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let whole = toml::to_string(&BrokerFile::new(uuid::Uuid::nil(), "cluster".into(), 2)).unwrap();
        let depth = whole.replace("commit_depth = 1", "commit_depth = 9");
        let mode = whole.replace("dsync", "dsink");
        for text in ["", &whole[..whole.len() / 2], &depth, &mode] {
            fs::write(&path, text).unwrap();
            let error = format!("{:#}", read_broker_file(folder.path()).unwrap_err());
            assert!(error.contains(&path.display().to_string()) && error.contains("restore"), "{error}");
        }
    }
}
