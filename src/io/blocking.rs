//! [`Disk`] by plain system calls, for where waiting hurts nobody: start-up, recovery, tools.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::buffer::PageBuf;
use super::file::{Disk, FileHandle};

/// Files of the operating system. Its futures are ready when they are first asked: see [`block_on`].
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockingDisk;

/// The result of a future that never waits, as those of [`BlockingDisk`] and of jobs on it.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a future on the blocking disk never waits"),
    }
}

/// The file, whose descriptor stays open as long as the handle.
pub(crate) fn os_file(file: &FileHandle) -> &Arc<OwnedFd> {
    match file {
        FileHandle::Os(fd) => fd,
        FileHandle::Sim(id) => panic!("file {id} of the simulated disk on a real one"),
    }
}

/// Run `work` on the descriptor as a [`File`].
fn with_file<T>(file: &FileHandle, work: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
    // A duplicate costs a system call or two; here, a disk's time is waited for anyway.
    work(&File::from(os_file(file).as_fd().try_clone_to_owned()?))
}

fn direct(options: &mut OpenOptions, path: &Path) -> io::Result<FileHandle> {
    let file = options.read(true).write(true).custom_flags(libc::O_DIRECT).open(path)?;
    Ok(FileHandle::Os(Arc::new(file.into())))
}

impl Disk for BlockingDisk {
    async fn create(&self, path: &Path) -> io::Result<FileHandle> {
        direct(OpenOptions::new().create_new(true).mode(0o640), path)
    }

    async fn open(&self, path: &Path) -> io::Result<FileHandle> {
        direct(&mut OpenOptions::new(), path)
    }

    async fn size(&self, file: &FileHandle) -> io::Result<u64> {
        with_file(file, |file| Ok(file.metadata()?.len()))
    }

    async fn read_at(&self, file: &FileHandle, offset: u64, buf: &mut PageBuf) -> io::Result<usize> {
        with_file(file, |file| {
            let mut done = 0;
            while done < buf.len() {
                match file.read_at(&mut buf[done..], offset + done as u64) {
                    Ok(0) => break,
                    Ok(count) => done += count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(done)
        })
    }

    async fn write_at(&self, file: &FileHandle, offset: u64, buf: &PageBuf) -> io::Result<()> {
        with_file(file, |file| file.write_all_at(buf, offset))
    }

    async fn sync(&self, file: &FileHandle) -> io::Result<()> {
        with_file(file, File::sync_data)
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    async fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| {
            entry?.file_name().into_string().map_err(|name| {
                io::Error::new(ErrorKind::InvalidData, format!("a file name that is not UTF-8: {name:?}"))
            })
        };
        let mut names = fs::read_dir(dir)?.map(name).collect::<io::Result<Vec<String>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    async fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: a `statvfs` is integers, for which zero is a valid value.
        let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: `path` ends with a zero byte, `stat` is a valid place for the result.
        if unsafe { libc::statvfs(path.as_ptr(), &mut stat) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
