//! A disk in memory, without faults: what recovery finds is what an input says.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringmq::io::buffer::PageBuf;
use ringmq::io::file::{Disk, FileHandle};

use crate::log::PAGE_BYTES;

/// All files together. What asks for more has believed a number.
const DISK_BYTES: usize = 2 << 20;

/// Clones share the files.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    files: Rc<RefCell<Files>>,
}

#[derive(Default)]
struct Files {
    names: BTreeMap<PathBuf, u64>,
    contents: Vec<Vec<u8>>,
}

impl MemoryDisk {
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut files = self.files.borrow_mut();
        let id = files.contents.len() as u64;
        files.contents.push(bytes);
        files.names.insert(path.to_owned(), id);
    }

    /// Names and contents of all files.
    pub fn all(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = self.files.borrow();
        files.names.iter().map(|(path, id)| (path.clone(), files.contents[*id as usize].clone())).collect()
    }

    fn with<T>(&self, file: &FileHandle, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let FileHandle::Sim(id) = file else { panic!("{file:?} on a disk in memory") };
        work(&mut self.files.borrow_mut().contents[*id as usize])
    }
}

/// As the kernel answers to direct IO.
fn aligned(offset: u64) -> io::Result<usize> {
    match usize::try_from(offset) {
        Ok(offset) if offset.is_multiple_of(PAGE_BYTES) => Ok(offset),
        _ => Err(ErrorKind::InvalidInput.into()),
    }
}

impl Disk for MemoryDisk {
    async fn create(&self, path: &Path) -> io::Result<FileHandle> {
        if self.exists(path).await? {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.put(path, Vec::new());
        self.open(path).await
    }

    async fn open(&self, path: &Path) -> io::Result<FileHandle> {
        let files = self.files.borrow();
        files.names.get(path).map(|id| FileHandle::Sim(*id)).ok_or(ErrorKind::NotFound.into())
    }

    async fn size(&self, file: &FileHandle) -> io::Result<u64> {
        Ok(self.with(file, |bytes| bytes.len() as u64))
    }

    async fn read_at(&self, file: &FileHandle, offset: u64, buf: &mut PageBuf) -> io::Result<usize> {
        let offset = aligned(offset)?;
        Ok(self.with(file, |bytes| {
            let there = bytes.get(offset..).unwrap_or_default();
            let count = there.len().min(buf.len());
            buf[..count].copy_from_slice(&there[..count]);
            count
        }))
    }

    async fn write_at(&self, file: &FileHandle, offset: u64, buf: &PageBuf) -> io::Result<()> {
        let offset = aligned(offset)?;
        if offset + buf.len() > DISK_BYTES {
            return Err(ErrorKind::StorageFull.into());
        }
        self.with(file, |bytes| {
            bytes.resize(bytes.len().max(offset + buf.len()), 0);
            bytes[offset..offset + buf.len()].copy_from_slice(buf);
        });
        Ok(())
    }

    async fn sync(&self, _: &FileHandle) -> io::Result<()> {
        Ok(())
    }

    async fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.borrow_mut();
        let id = files.names.remove(from).ok_or(ErrorKind::NotFound)?;
        files.names.insert(to.to_owned(), id);
        Ok(())
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.files.borrow_mut().names.remove(path);
        removed.map(drop).ok_or(ErrorKind::NotFound.into())
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = self.files.borrow();
        let names = files.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.files.borrow().names.contains_key(path))
    }
}
