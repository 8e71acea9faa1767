//! Files outside a turn: start-up, recovery, background jobs and tools.
//!
//! [`Disk`] is asynchronous, so that one job is written once and runs on the background executor,
//! on the simulator's virtual disk, or (blocking, at start-up and in tools) on [`BlockingDisk`].

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::buffer::PageBuf;

/// An open file that an operation keeps open until it completes.
#[derive(Clone)]
pub enum FileHandle {
    /// Opened with `O_DIRECT`.
    Os(Arc<OwnedFd>),
    /// A file of the simulated disk.
    Sim(u64),
}

impl FileHandle {
    /// Lock the file exclusively, waiting for the lock of a process that was killed: its lock lasts
    /// until its last write has ended, because each write in flight keeps the file open. Without
    /// this, such a write could land on top of what its successor has written.
    pub fn lock(&self) -> io::Result<()> {
        let FileHandle::Os(fd) = self else { return Ok(()) };
        // SAFETY: flock takes no memory; the descriptor is open while `self` lives.
        let result = unsafe { libc::flock(std::os::fd::AsRawFd::as_raw_fd(fd), libc::LOCK_EX) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl fmt::Debug for FileHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::fd::AsRawFd;
        match self {
            FileHandle::Os(fd) => write!(f, "fd {}", fd.as_raw_fd()),
            FileHandle::Sim(id) => write!(f, "sim file {id}"),
        }
    }
}

/// Files by path. All transfers are page-aligned direct IO; nothing is durable before its sync.
///
/// One job uses one `Disk` from one thread: futures are not `Send`.
#[allow(async_fn_in_trait)]
pub trait Disk {
    /// Make a new, empty file. `AlreadyExists` if there is one.
    async fn create(&self, path: &Path) -> io::Result<FileHandle>;
    /// Open an existing file for direct reading and writing.
    async fn open(&self, path: &Path) -> io::Result<FileHandle>;
    async fn size(&self, file: &FileHandle) -> io::Result<u64>;
    /// Fill `buf` from `offset`; returns how much there was before the end of the file.
    async fn read_at(&self, file: &FileHandle, offset: u64, buf: &mut PageBuf) -> io::Result<usize>;
    /// Write all of `buf` at `offset`; a short write is continued.
    async fn write_at(&self, file: &FileHandle, offset: u64, buf: &PageBuf) -> io::Result<()>;
    /// Give the file its size before it is filled, so that no write must make room: it may fail with
    /// `StorageFull`. A hint: where that cannot be, and in the simulator, the file stays as it is.
    async fn allocate(&self, _file: &FileHandle, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
    /// Write zeros at `offset`: whole pages, at least one.
    async fn write_zeros(&self, file: &FileHandle, offset: u64, bytes: usize) -> io::Result<()> {
        self.write_at(file, offset, &PageBuf::zeroed(bytes)).await
    }
    /// Make the file's data and size durable (and flush the device's cache).
    async fn sync(&self, file: &FileHandle) -> io::Result<()>;
    /// Make creations, renames and removals in the folder durable.
    async fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    async fn create_dir(&self, dir: &Path) -> io::Result<()>;
    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    async fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names of the folder's entries, sorted.
    async fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    async fn exists(&self, path: &Path) -> io::Result<bool>;
}
