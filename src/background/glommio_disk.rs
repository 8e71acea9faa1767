//! [`Disk`] on glommio: direct transfers of several jobs interleave on one thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use glommio::GlommioError;
use glommio::io::{DmaBuffer, DmaFile, OpenOptions};

use crate::base::align::PAGE_BYTES;
use crate::io::blocking::{BlockingDisk, block_on};
use crate::io::buffer::PageBuf;
use crate::io::file::{Disk, FileHandle};

/// Bytes of one transfer; larger ones are cut, so that jobs take turns on the device.
const TRANSFER_BYTES_MAX: usize = 1 << 20;
/// Sizes of zeros that are kept: several logs make segments at a time, some in a hurry.
const ZEROS_KEPT: usize = 4;

/// Usable only within a glommio executor.
///
/// Names and sizes are asked of the file system by glommio's helper thread; only transfers and data
/// syncs go through its ring.
#[derive(Default)]
pub struct GlommioDisk {
    /// Files that somebody has a handle of, by the handle's descriptor.
    open: RefCell<BTreeMap<RawFd, OpenFile>>,
    /// What was written as zeros, by size: a segment is thousands of pieces of one.
    zeros: RefCell<BTreeMap<usize, Rc<DmaBuffer>>>,
}

struct OpenFile {
    /// A descriptor's number is used again after its close; the handle tells files apart.
    handle: Weak<OwnedFd>,
    /// The same file, opened by glommio.
    dma: Rc<DmaFile>,
}

impl GlommioDisk {
    /// Glommio's view of the file.
    async fn dma(&self, file: &FileHandle) -> io::Result<Rc<DmaFile>> {
        let FileHandle::Os(fd) = file else { panic!("{file:?} on a real disk") };
        let number = fd.as_raw_fd();
        if let Some(known) = self.open.borrow().get(&number)
            && known.handle.ptr_eq(&Arc::downgrade(fd))
        {
            return Ok(known.dma.clone());
        }
        // The kernel's own name of the open file: it stays right when the file is renamed or removed.
        let name = format!("/proc/self/fd/{number}");
        // Glommio tries on the first file of a device whether its completions can be polled, by a read
        // at its start. On an empty file that read meets no device, succeeds, and every later one on
        // the device fails. A file that cannot be read settles it: no polling.
        drop(OpenOptions::new().write(true).dma_open(&name).await.map_err(plain)?);
        let dma = Rc::new(OpenOptions::new().read(true).write(true).dma_open(&name).await.map_err(plain)?);
        let mut open = self.open.borrow_mut();
        // Files whose last handle is gone are closed with glommio's next round.
        open.retain(|_, file| file.handle.strong_count() > 0);
        open.insert(number, OpenFile { handle: Arc::downgrade(fd), dma: dma.clone() });
        Ok(dma)
    }

    fn zeros(&self, dma: &DmaFile, bytes: usize) -> Rc<DmaBuffer> {
        let mut known = self.zeros.borrow_mut();
        if known.len() == ZEROS_KEPT && !known.contains_key(&bytes) {
            known.clear();
        }
        let make = || {
            let mut zeros = dma.alloc_dma_buffer(bytes);
            zeros.as_bytes_mut().fill(0);
            Rc::new(zeros)
        };
        known.entry(bytes).or_insert_with(make).clone()
    }

    /// On glommio's helper thread.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        glommio::executor().spawn_blocking(work).await
    }

    async fn with_path<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce(&PathBuf) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let path = path.to_owned();
        self.blocking(move || work(&path)).await
    }
}

/// The kernel's own error: glommio's words about it have no number, by which one knows what comes again.
fn plain(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}

impl Disk for GlommioDisk {
    async fn create(&self, path: &Path) -> io::Result<FileHandle> {
        self.with_path(path, |path| block_on(BlockingDisk.create(path))).await
    }

    async fn open(&self, path: &Path) -> io::Result<FileHandle> {
        self.with_path(path, |path| block_on(BlockingDisk.open(path))).await
    }

    async fn size(&self, file: &FileHandle) -> io::Result<u64> {
        self.dma(file).await?.file_size().await.map_err(plain)
    }

    async fn read_at(&self, file: &FileHandle, offset: u64, buf: &mut PageBuf) -> io::Result<usize> {
        let dma = self.dma(file).await?;
        let mut done = 0;
        // A transfer that is not whole pages has met the end of the file.
        while done < buf.len() && done % PAGE_BYTES == 0 {
            let len = (buf.len() - done).min(TRANSFER_BYTES_MAX);
            let read = dma.read_at_aligned(offset + done as u64, len).await.map_err(plain)?;
            if read.is_empty() {
                break;
            }
            buf[done..done + read.len()].copy_from_slice(&read);
            done += read.len();
        }
        Ok(done)
    }

    async fn write_at(&self, file: &FileHandle, offset: u64, buf: &PageBuf) -> io::Result<()> {
        let dma = self.dma(file).await?;
        let mut done = 0;
        while done < buf.len() {
            let part = &buf[done..buf.len().min(done + TRANSFER_BYTES_MAX)];
            let mut own = dma.alloc_dma_buffer(part.len());
            own.as_bytes_mut().copy_from_slice(part);
            match dma.write_at(own, offset + done as u64).await.map_err(plain)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    async fn allocate(&self, file: &FileHandle, bytes: u64) -> io::Result<()> {
        let file = file.clone();
        self.blocking(move || block_on(BlockingDisk.allocate(&file, bytes))).await
    }

    async fn write_zeros(&self, file: &FileHandle, offset: u64, bytes: usize) -> io::Result<()> {
        let dma = self.dma(file).await?;
        let mut done = 0;
        while done < bytes {
            let zeros = self.zeros(&dma, (bytes - done).min(TRANSFER_BYTES_MAX));
            match dma.write_rc_at(zeros, offset + done as u64).await.map_err(plain)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    async fn sync(&self, file: &FileHandle) -> io::Result<()> {
        self.dma(file).await?.fdatasync().await.map_err(plain)
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.with_path(dir, |dir| block_on(BlockingDisk.sync_dir(dir))).await
    }

    async fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.with_path(dir, |dir| block_on(BlockingDisk.create_dir(dir))).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = to.to_owned();
        self.with_path(from, move |from| block_on(BlockingDisk.rename(from, &to))).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.with_path(path, |path| block_on(BlockingDisk.remove(path))).await
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.with_path(dir, |dir| block_on(BlockingDisk.list(dir))).await
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        self.with_path(path, |path| block_on(BlockingDisk.exists(path))).await
    }
}
