//! The disk of a tool that only looks: what would change anything is refused.
//!
//! Files are opened without the right to write, so that a copy on a read-only file system can be
//! inspected too, and with direct IO, so that no page of a log's file stays in the page cache.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::io::blocking::BlockingDisk;
use crate::io::buffer::PageBuf;
use crate::io::file::{Disk, FileHandle};

#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnlyDisk;

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "an inspection changes nothing"))
}

impl Disk for ReadOnlyDisk {
    async fn open(&self, path: &Path) -> io::Result<FileHandle> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path)?;
        Ok(FileHandle::Os(Arc::new(file.into())))
    }

    async fn size(&self, file: &FileHandle) -> io::Result<u64> {
        BlockingDisk.size(file).await
    }

    async fn read_at(&self, file: &FileHandle, offset: u64, buf: &mut PageBuf) -> io::Result<usize> {
        BlockingDisk.read_at(file, offset, buf).await
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        BlockingDisk.list(dir).await
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        BlockingDisk.exists(path).await
    }

    async fn create(&self, _: &Path) -> io::Result<FileHandle> {
        refused()
    }

    async fn write_at(&self, _: &FileHandle, _: u64, _: &PageBuf) -> io::Result<()> {
        refused()
    }

    async fn allocate(&self, _: &FileHandle, _: u64) -> io::Result<()> {
        refused()
    }

    async fn sync(&self, _: &FileHandle) -> io::Result<()> {
        refused()
    }

    async fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    async fn create_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    async fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    async fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }
}
