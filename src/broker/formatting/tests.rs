//! A directory whose making stops anywhere is made whole by the next start; what others left there stays.

use std::cell::Cell;

use anyhow::anyhow;

use super::*;
use crate::io::blocking::{BlockingDisk, block_on, disk_folder};
use crate::io::buffer::PageBuf;
use crate::io::file::FileHandle;

fn sizes(_: LogId) -> u64 {
    16 << 10
}

/// Does so many operations, then none any more, as the disk of a machine that stopped.
struct Stopping {
    left: Cell<usize>,
}

impl Stopping {
    fn step(&self) -> io::Result<()> {
        let left = self.left.get();
        self.left.set(left.checked_sub(1).ok_or_else(|| io::Error::other("the machine stopped"))?);
        Ok(())
    }
}

impl Disk for Stopping {
    async fn create(&self, path: &Path) -> io::Result<FileHandle> {
        self.step()?;
        BlockingDisk.create(path).await
    }
    async fn open(&self, path: &Path) -> io::Result<FileHandle> {
        self.step()?;
        BlockingDisk.open(path).await
    }
    async fn size(&self, file: &FileHandle) -> io::Result<u64> {
        self.step()?;
        BlockingDisk.size(file).await
    }
    async fn read_at(&self, file: &FileHandle, offset: u64, buf: &mut PageBuf) -> io::Result<usize> {
        self.step()?;
        BlockingDisk.read_at(file, offset, buf).await
    }
    async fn write_at(&self, file: &FileHandle, offset: u64, buf: &PageBuf) -> io::Result<()> {
        self.step()?;
        BlockingDisk.write_at(file, offset, buf).await
    }
    async fn allocate(&self, file: &FileHandle, bytes: u64) -> io::Result<()> {
        self.step()?;
        BlockingDisk.allocate(file, bytes).await
    }
    async fn sync(&self, file: &FileHandle) -> io::Result<()> {
        self.step()?;
        BlockingDisk.sync(file).await
    }
    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step()?;
        BlockingDisk.sync_dir(dir).await
    }
    async fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.step()?;
        BlockingDisk.create_dir(dir).await
    }
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        BlockingDisk.rename(from, to).await
    }
    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        BlockingDisk.remove(path).await
    }
    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.step()?;
        BlockingDisk.list(dir).await
    }
    async fn exists(&self, path: &Path) -> io::Result<bool> {
        self.step()?;
        BlockingDisk.exists(path).await
    }
}

fn new_file(logs: u32) -> BrokerFile {
    BrokerFile::new(uuid::Uuid::new_v4(), "cluster".to_owned(), logs)
}

/// A process that gets as far as `left` operations on its logs.
fn try_to_make(path: &Path, left: usize, logs: u32) -> anyhow::Result<BrokerFile> {
    let owner = DataDir::lock(path)?;
    format(&Stopping { left: Cell::new(left) }, &owner, new_file(logs), sizes, |_| Ok(()))
}

fn is_whole(path: &Path, file: &BrokerFile) {
    let mut expected: Vec<String> = file.log_ids().map(|log| format!("log-{log}")).collect();
    expected.extend([LOCK.to_owned(), FILE.to_owned()]);
    expected.sort_unstable();
    assert_eq!(names(path).unwrap(), expected);
    for log in file.log_ids() {
        let manifest = block_on(Manifest::read(&BlockingDisk, &log_dir(path, log))).unwrap();
        assert_eq!((manifest.broker, manifest.log), (*file.broker.as_bytes(), log));
    }
}

#[test]
fn interrupted_anywhere_it_is_made_by_the_next_start() {
    for left in 0.. {
        let folder = disk_folder();
        let path = folder.path().join("data");
        let made = try_to_make(&path, left, 2);
        let complete = made.is_ok();
        let file = match made {
            Ok(file) => file,
            // With fewer logs than the first time, and perhaps stopped once more on the way.
            Err(_) => try_to_make(&path, left / 2, 1)
                .or_else(|_| try_to_make(&path, usize::MAX, 1))
                .expect("a clean second start"),
        };
        is_whole(&path, &file);
        if complete {
            assert!(left > 20, "it has steps: {left}");
            return;
        }
    }
}

#[test]
fn interrupted_before_and_after_the_last_step() {
    let folder = disk_folder();
    let path = folder.path().join("data");
    let owner = DataDir::lock(&path).unwrap();
    let stopped = |_: &mut BrokerFile| Err(anyhow!("the machine stopped"));
    format(&BlockingDisk, &owner, new_file(3), sizes, stopped).expect_err("it stopped");
    fs::write(path.join("broker.toml.new"), "format_ver").unwrap();
    fs::write(path.join("FORMATTING.new"), "").unwrap();
    let file = format(&BlockingDisk, &owner, new_file(1), sizes, |_| Ok(())).unwrap();
    is_whole(&path, &file);

    // The marker outlived the step that completes the directory: nothing is claimed by it any more.
    Claim { broker: file.broker, logs: file.logs }.write(&path).unwrap();
    assert_eq!(unfinished(&path).unwrap(), Vec::<PathBuf>::new());
    finish(&path).unwrap();
    is_whole(&path, &file);
    finish(&path).unwrap();
}

#[test]
fn what_was_stored_or_is_not_ours_is_never_removed() {
    let told = |path: &Path| unfinished(path).expect_err("a refusal").to_string();
    let folder = disk_folder();
    let path = folder.path().join("data");
    assert_eq!(unfinished(&path).unwrap(), Vec::<PathBuf>::new());
    let file = try_to_make(&path, usize::MAX, 2).unwrap();
    fs::remove_file(path.join(FILE)).unwrap();
    assert!(told(&path).contains("log-0, log-1, log-2") && told(&path).contains("restore broker.toml"));

    // A claim, but of another broker; of fewer logs; of logs that were opened since.
    Claim { broker: uuid::Uuid::from_u128(1), logs: 2 }.write(&path).unwrap();
    assert!(told(&path).contains("log-0, log-1, log-2"));
    Claim { broker: file.broker, logs: 1 }.write(&path).unwrap();
    assert!(told(&path).contains("(log-2)"));
    Claim { broker: file.broker, logs: 2 }.write(&path).unwrap();
    assert_eq!(unfinished(&path).unwrap().len(), 3);
    let dir = log_dir(&path, LogId(1));
    let mut manifest = block_on(Manifest::read(&BlockingDisk, &dir)).unwrap();
    (manifest.term, manifest.sequence) = (Term(1), manifest.sequence + 1);
    block_on(manifest.write(&BlockingDisk, &dir)).unwrap();
    assert!(told(&path).contains("(log-1)"));

    fs::write(path.join(MARKER), "logs = ").unwrap();
    assert!(told(&path).contains("is damaged"));
}

#[test]
fn a_folder_of_others_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("lost+found")).unwrap();
    fs::write(path.join(".profile"), "").unwrap();
    assert_eq!(unfinished(path).unwrap(), Vec::<PathBuf>::new());
    for name in ["log-photos", "log-01", "log-+1", "a", "b"] {
        fs::write(path.join(name), "").unwrap();
    }
    let error = unfinished(path).expect_err("a refusal").to_string();
    assert!(error.contains("(a, b, log-+1 and 2 more)") && error.contains("--data-dir"), "{error}");
}
