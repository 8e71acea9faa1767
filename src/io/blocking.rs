//! [`Disk`] by plain system calls, for where waiting hurts nobody: start-up, recovery, tools.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::buffer::PageBuf;
use super::file::{Disk, FileHandle};
use crate::base::align::PAGE_BYTES;

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

/// Run `work` on the descriptor as a [`File`].
fn with_file<T>(file: &FileHandle, work: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
    let FileHandle::Os(fd) = file else { panic!("{file:?} on a real disk") };
    // A duplicate costs two system calls; the disk's time that follows costs more.
    work(&File::from(fd.try_clone()?))
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
            // A transfer that is not whole pages has met the end of the file.
            while done < buf.len() && done % PAGE_BYTES == 0 {
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

    async fn allocate(&self, file: &FileHandle, bytes: u64) -> io::Result<()> {
        let FileHandle::Os(fd) = file else { panic!("{file:?} on a real disk") };
        let bytes = libc::off_t::try_from(bytes).map_err(|_| ErrorKind::FileTooLarge)?;
        loop {
            // SAFETY: fallocate takes no memory; the descriptor is open while `file` lives.
            if unsafe { libc::fallocate(fd.as_raw_fd(), 0, 0, bytes) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => return Err(error),
                // The file system cannot, or may not be asked. Of everything else the writes will tell.
                _ => return Ok(()),
            }
        }
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
}

/// Space of a file system.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub total_bytes: u64,
    /// What ordinary processes may still use.
    pub usable_bytes: u64,
}

impl BlockingDisk {
    /// Of the file system that holds `path`.
    pub fn space(path: &Path) -> io::Result<Space> {
        let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: a `statvfs` is integers, for which zero is a valid value.
        let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: `path` ends with a zero byte, `stat` is a valid place for the result.
        if unsafe { libc::statvfs(path.as_ptr(), &mut stat) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Space {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            usable_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }
}

/// A folder for a test that needs direct IO, which `/tmp` may not have: beside the test program.
#[cfg(test)]
pub(crate) fn disk_folder() -> tempfile::TempDir {
    let program = std::env::current_exe().expect("a test knows its program");
    tempfile::tempdir_in(program.parent().expect("a program lies in a folder")).expect("room for a folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_made_filled_renamed_and_removed() {
        let folder = disk_folder();
        let path = |name: &str| folder.path().join(name);
        block_on(async {
            let disk = BlockingDisk;
            let file = disk.create(&path("b")).await.unwrap();
            let again = disk.create(&path("b")).await.unwrap_err();
            assert_eq!(again.kind(), ErrorKind::AlreadyExists);
            disk.write_at(&file, PAGE_BYTES as u64, &PageBuf::from_bytes(b"page one")).await.unwrap();
            disk.sync(&file).await.unwrap();
            assert_eq!(disk.size(&file).await.unwrap(), 2 * PAGE_BYTES as u64);

            disk.rename(&path("b"), &path("a")).await.unwrap();
            disk.create_dir(&path("c")).await.unwrap();
            disk.sync_dir(folder.path()).await.unwrap();
            assert_eq!(disk.list(folder.path()).await.unwrap(), ["a", "c"]);

            let file = disk.open(&path("a")).await.unwrap();
            let mut buf = PageBuf::zeroed(4 * PAGE_BYTES);
            assert_eq!(disk.read_at(&file, 0, &mut buf).await.unwrap(), 2 * PAGE_BYTES);
            assert_eq!(&buf[PAGE_BYTES..][..8], b"page one");
            let space = BlockingDisk::space(folder.path()).unwrap();
            assert!(space.usable_bytes > 0 && space.total_bytes > space.usable_bytes);

            disk.remove(&path("a")).await.unwrap();
            assert!(!disk.exists(&path("a")).await.unwrap());
            assert_eq!(disk.open(&path("a")).await.unwrap_err().kind(), ErrorKind::NotFound);
        });
    }

    #[test]
    fn a_file_of_odd_length_is_read_to_its_end() {
        let folder = disk_folder();
        let path = folder.path().join("odd");
        fs::write(&path, vec![7; PAGE_BYTES + 100]).unwrap();
        let file = block_on(BlockingDisk.open(&path)).unwrap();
        let mut buf = PageBuf::zeroed(4 * PAGE_BYTES);
        assert_eq!(block_on(BlockingDisk.read_at(&file, 0, &mut buf)).unwrap(), PAGE_BYTES + 100);
    }

    #[test]
    #[should_panic(expected = "never waits")]
    fn a_future_that_waits_is_a_mistake() {
        block_on(std::future::pending::<()>());
    }
}
