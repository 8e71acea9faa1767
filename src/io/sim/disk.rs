//! The simulated disk: open files, operations on their way, faults, space, and power loss.
//!
//! Every operation has two halves. `begin_*` is the submission: it decides the fate and says how
//! long the operation will take; `finish_*` is the completion and carries it out. What has begun and
//! not finished when the power fails is in flight: it happened, or not, or in part.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use super::content::{Content, Fates, Mood, Page, pages_of};
use super::names::{Names, Node};
use super::rng::Rng;
use crate::base::align::PAGE_BYTES;
use crate::io::file::FileHandle;
use crate::io::op::WriteSync;

/// Latencies in nanoseconds, of the size of an NVMe disk's; only their order and overlap matter.
const READ_NS: Range<u64> = 20_000..150_000;
const WRITE_NS: Range<u64> = 15_000..120_000;
const SYNC_NS: Range<u64> = 100_000..1_500_000;
const NAME_NS: Range<u64> = 5_000..50_000;
/// One operation in this many takes [`SPIKE_FACTOR`] times as long.
const SPIKE_ONE_IN: u64 = 128;
const SPIKE_FACTOR: u64 = 20;

/// What a [`Fault`] applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCall {
    Read,
    Write,
    Sync,
    /// Create, open, rename, remove, list, and the sync of a folder.
    Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// Each time with this chance.
    OneIn(u64),
    /// Only the n-th call from now on; 1 is the next.
    Nth(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The call fails with `EIO`. A failed write may have happened in part; a failed sync makes the
    /// kernel forget what it should have stored.
    Eio,
    /// The call takes this much longer.
    Slow(Duration),
    /// The kernel carries out a part of a write; the rest follows. Invisible but for the time.
    Short,
    /// The disk lies: a write is acknowledged and never happens.
    Lost,
    /// The disk lies: a sync (or a write with [`WriteSync::Dsync`]) is acknowledged and what it
    /// covers is still volatile.
    Unsynced,
}

/// Something that goes wrong, on files whose path contains `path_part` (empty: on all).
#[derive(Clone, Debug)]
pub struct Fault {
    pub path_part: String,
    pub call: DiskCall,
    pub when: When,
    pub kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(u64);

/// Completed calls on one file, or on all. They survive a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCounts {
    pub reads: u64,
    pub writes: u64,
    pub dsync_writes: u64,
    pub syncs: u64,
}

/// What has happened so far: a test that claims to cover something asserts that it is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCoverage {
    pub all: FileCounts,
    pub dir_syncs: u64,
    pub eio: u64,
    pub enospc: u64,
    pub slow: u64,
    pub short_writes: u64,
    pub lies: u64,
    pub rotten_ranges: u64,
    pub crashes: u64,
    pub writes_kept: u64,
    pub writes_lost: u64,
    pub writes_torn: u64,
    pub names_kept: u64,
    pub names_lost: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Verdict {
    errno: Option<i32>,
    slow_ns: u64,
    short: bool,
    lost: bool,
    unsynced: bool,
}

impl Verdict {
    fn error(&self) -> io::Result<()> {
        self.errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

struct File {
    path: PathBuf,
    /// Has a name. A file without one is still readable by those who have it open.
    linked: bool,
    content: Content,
    counts: FileCounts,
}

/// A write that was submitted and has not completed.
struct Write {
    file: u64,
    first_page: u64,
    pages: Vec<Page>,
    sync: WriteSync,
    verdict: Verdict,
    /// The submitter's memory: the kernel holds it until the completion.
    _lent: Option<Bytes>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SyncTicket {
    file: u64,
    mark: u64,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ReadTicket {
    file: u64,
    verdict: Verdict,
}

pub(super) enum WriteProgress {
    Done(io::Result<()>),
    /// A part has been written; finish again after this many nanoseconds.
    Short(u64),
}

/// What power loss left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashReport {
    pub writes_kept: u64,
    pub writes_lost: u64,
    pub writes_torn: u64,
    pub names_kept: u64,
    pub names_lost: u64,
}

/// The disk. Tests reach it by [`SimWorld::disk`](super::SimWorld::disk).
pub struct SimStorage {
    names: Names,
    files: BTreeMap<u64, File>,
    handles: BTreeMap<u64, u64>,
    writes: BTreeMap<u64, Write>,
    faults: BTreeMap<FaultId, Fault>,
    capacity_bytes: u64,
    /// Pages of files that have a name.
    used_pages: u64,
    write_through: bool,
    coverage: DiskCoverage,
    next: u64,
}

impl SimStorage {
    pub(super) fn new() -> SimStorage {
        SimStorage {
            names: Names::new(),
            files: BTreeMap::new(),
            handles: BTreeMap::new(),
            writes: BTreeMap::new(),
            faults: BTreeMap::new(),
            capacity_bytes: 1 << 40,
            used_pages: 0,
            write_through: false,
            coverage: DiskCoverage::default(),
            next: 1,
        }
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    // --- what tests set and ask ---------------------------------------------------------------

    pub fn add_fault(&mut self, fault: Fault) -> FaultId {
        let id = FaultId(self.next());
        self.faults.insert(id, fault);
        id
    }

    pub fn remove_fault(&mut self, id: FaultId) {
        self.faults.remove(&id);
    }

    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// Space for data, 1 TiB at first. A smaller value than what is used only stops growth.
    pub fn set_capacity_bytes(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
    }

    /// A device without a volatile cache: a completed write within the file's durable size is
    /// durable, with or without a sync. Off at first.
    pub fn set_write_through(&mut self, on: bool) {
        self.write_through = on;
    }

    pub fn used_bytes(&self) -> u64 {
        self.used_pages * PAGE_BYTES as u64
    }

    pub fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes())
    }

    pub fn coverage(&self) -> DiskCoverage {
        self.coverage
    }

    /// Calls on the file that has this name now.
    pub fn counts(&self, path: &Path) -> io::Result<FileCounts> {
        Ok(self.files[&self.names.file(path)?].counts)
    }

    /// Names of all files, sorted.
    pub fn file_paths(&self) -> Vec<PathBuf> {
        self.names.files().map(|(path, _)| path.to_owned()).collect()
    }

    pub fn size_bytes(&self, path: &Path) -> io::Result<u64> {
        Ok(self.files[&self.names.file(path)?].content.size_bytes())
    }

    /// True when a power loss now could not change a byte of `range`. (The file's name is another
    /// matter.)
    pub fn is_durable(&self, path: &Path, range: Range<u64>) -> io::Result<bool> {
        Ok(self.files[&self.names.file(path)?].content.is_durable(range))
    }

    /// All bytes of a file as a reader sees them now. For tests: takes no time, meets no fault.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let content = &self.files[&self.names.file(path)?].content;
        let mut bytes = vec![0; content.size_bytes() as usize];
        content.read(0, &mut bytes);
        Ok(bytes)
    }

    /// Change every byte of `range`, also where it is durable.
    pub fn rot(&mut self, path: &Path, range: Range<u64>, rng: &mut Rng) -> io::Result<()> {
        let mask: Vec<u8> = range.clone().map(|_| rng.between(1, 255) as u8).collect();
        self.flip(path, range.start, &mask)
    }

    /// Flip the bits of `mask` in the bytes from `offset` on, also where they are durable. Done twice, it
    /// changes nothing.
    pub fn flip(&mut self, path: &Path, offset: u64, mask: &[u8]) -> io::Result<()> {
        let file = self.names.file(path)?;
        self.file_mut(file).content.flip(offset, mask);
        self.coverage.rotten_ranges += 1;
        Ok(())
    }

    // --- faults and time ----------------------------------------------------------------------

    fn judge(&mut self, path: &Path, call: DiskCall, rng: &mut Rng) -> Verdict {
        let mut verdict = Verdict::default();
        let path = path.to_string_lossy();
        for fault in self.faults.values_mut() {
            if fault.call != call || !path.contains(&fault.path_part) {
                continue;
            }
            let hit = match &mut fault.when {
                When::Always => true,
                When::OneIn(count) => rng.one_in(*count),
                // 0: it has happened.
                When::Nth(rest) => {
                    let hit = *rest == 1;
                    *rest = rest.saturating_sub(1);
                    hit
                }
            };
            if !hit {
                continue;
            }
            match fault.kind {
                FaultKind::Eio => verdict.errno = Some(libc::EIO),
                FaultKind::Slow(by) => {
                    verdict.slow_ns += by.as_nanos() as u64;
                    self.coverage.slow += 1;
                }
                FaultKind::Short => verdict.short = true,
                FaultKind::Lost => verdict.lost = true,
                FaultKind::Unsynced => verdict.unsynced = true,
            }
        }
        self.coverage.eio += u64::from(verdict.errno.is_some());
        verdict
    }

    /// The verdict on a call for an open file, whose number is 0 when the handle is not open.
    fn judge_handle(&mut self, handle: &FileHandle, call: DiskCall, rng: &mut Rng) -> (u64, Verdict) {
        let FileHandle::Sim(handle) = handle else {
            panic!("a file of the real system on the simulated disk")
        };
        let Some(&file) = self.handles.get(handle) else {
            return (0, Verdict { errno: Some(libc::EBADF), ..Verdict::default() });
        };
        if self.faults.is_empty() {
            return (file, Verdict::default());
        }
        let path = self.files[&file].path.clone();
        (file, self.judge(&path, call, rng))
    }

    fn delay_ns(verdict: &Verdict, base: Range<u64>, rng: &mut Rng) -> u64 {
        let factor = if rng.one_in(SPIKE_ONE_IN) { SPIKE_FACTOR } else { 1 };
        rng.between(base.start, base.end) * factor + verdict.slow_ns
    }

    fn file_mut(&mut self, file: u64) -> &mut File {
        self.files.get_mut(&file).expect("a file stays while it has a name or a handle")
    }

    // --- data ---------------------------------------------------------------------------------

    /// Submit a write of whole pages. `lent` is kept until the completion.
    pub(super) fn begin_write(
        &mut self,
        handle: &FileHandle,
        offset: u64,
        data: &[u8],
        lent: Option<Bytes>,
        sync: WriteSync,
        rng: &mut Rng,
    ) -> (u64, u64) {
        assert!(offset.is_multiple_of(PAGE_BYTES as u64), "direct IO at {offset}");
        assert!((data.as_ptr() as usize).is_multiple_of(PAGE_BYTES), "direct IO from an unaligned address");
        assert!(!data.is_empty(), "a write of nothing");
        let (file, verdict) = self.judge_handle(handle, DiskCall::Write, rng);
        let mut delay_ns = Self::delay_ns(&verdict, WRITE_NS, rng) + data.len() as u64;
        if sync == WriteSync::Dsync {
            delay_ns += rng.between(SYNC_NS.start, SYNC_NS.end) / 4;
        }
        let id = self.next();
        let first_page = offset / PAGE_BYTES as u64;
        let write = Write { file, first_page, pages: pages_of(data), sync, verdict, _lent: lent };
        self.writes.insert(id, write);
        (id, delay_ns)
    }

    pub(super) fn finish_write(&mut self, id: u64, rng: &mut Rng) -> WriteProgress {
        let mut write = self.writes.remove(&id).expect("a write finishes once");
        if let Err(error) = write.verdict.error() {
            if write.file != 0 && rng.one_in(2) {
                write.pages.truncate(rng.below(write.pages.len() as u64) as usize);
                write.sync = WriteSync::Plain;
                // How much of a failed write happened is nobody's promise, a full disk included.
                let _ = self.store(&write, write.pages.clone());
            }
            return WriteProgress::Done(Err(error));
        }
        let short = write.verdict.short && write.pages.len() > 1;
        let rest = if short {
            let part = rng.between(1, write.pages.len() as u64 - 1) as usize;
            write.pages.split_off(part)
        } else {
            Vec::new()
        };
        let pages = std::mem::take(&mut write.pages);
        let done = pages.len() as u64;
        if let Err(error) = self.store(&write, pages) {
            return WriteProgress::Done(Err(error));
        }
        if short {
            self.coverage.short_writes += 1;
            write.first_page += done;
            write.pages = rest;
            write.verdict.short = false;
            self.writes.insert(id, write);
            return WriteProgress::Short(Self::delay_ns(&Verdict::default(), WRITE_NS, rng));
        }
        let dsync = u64::from(write.sync == WriteSync::Dsync);
        let counts = &mut self.file_mut(write.file).counts;
        counts.writes += 1;
        counts.dsync_writes += dsync;
        self.coverage.all.writes += 1;
        self.coverage.all.dsync_writes += dsync;
        WriteProgress::Done(Ok(()))
    }

    fn store(&mut self, write: &Write, pages: Vec<Page>) -> io::Result<()> {
        if write.verdict.lost {
            self.coverage.lies += 1;
            return Ok(());
        }
        let free_pages = self.free_bytes() / PAGE_BYTES as u64;
        let write_through = self.write_through;
        let file = self.file_mut(write.file);
        let end_bytes = (write.first_page + pages.len() as u64) * PAGE_BYTES as u64;
        let new_pages = match file.linked {
            true => file.content.unallocated_pages(write.first_page, pages.len() as u64),
            false => 0,
        };
        if new_pages > free_pages {
            self.coverage.enospc += 1;
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let overwrite = end_bytes <= file.content.durable_bytes();
        let dsync = write.sync == WriteSync::Dsync;
        if (dsync && !write.verdict.unsynced) || (write_through && overwrite) {
            file.content.write_durable(write.first_page, pages);
        } else {
            file.content.write(write.first_page, pages);
        }
        self.coverage.lies += u64::from(dsync && write.verdict.unsynced);
        self.used_pages += new_pages;
        Ok(())
    }

    /// Submit a sync: it covers what has completed by now.
    pub(super) fn begin_sync(&mut self, handle: &FileHandle, rng: &mut Rng) -> (SyncTicket, u64) {
        let (file, verdict) = self.judge_handle(handle, DiskCall::Sync, rng);
        let mark = self.files.get(&file).map_or(0, |file| file.content.mark());
        (SyncTicket { file, mark, verdict }, Self::delay_ns(&verdict, SYNC_NS, rng))
    }

    pub(super) fn finish_sync(&mut self, ticket: SyncTicket) -> io::Result<()> {
        if let Err(error) = ticket.verdict.error() {
            if let Some(file) = self.files.get_mut(&ticket.file) {
                file.content.sync_failed(ticket.mark);
            }
            return Err(error);
        }
        let file = self.file_mut(ticket.file);
        file.counts.syncs += 1;
        if ticket.verdict.unsynced {
            self.coverage.lies += 1;
        } else {
            file.content.sync(ticket.mark);
        }
        self.coverage.all.syncs += 1;
        Ok(())
    }

    pub(super) fn begin_read(&mut self, handle: &FileHandle, len: usize, rng: &mut Rng) -> (ReadTicket, u64) {
        let (file, verdict) = self.judge_handle(handle, DiskCall::Read, rng);
        (ReadTicket { file, verdict }, Self::delay_ns(&verdict, READ_NS, rng) + len as u64 / 2)
    }

    /// Returns how much there was before the end of the file.
    pub(super) fn finish_read(
        &mut self,
        ticket: ReadTicket,
        offset: u64,
        into: &mut [u8],
    ) -> io::Result<usize> {
        ticket.verdict.error()?;
        let file = self.file_mut(ticket.file);
        file.counts.reads += 1;
        let len = file.content.read(offset, into);
        self.coverage.all.reads += 1;
        Ok(len)
    }

    // --- names --------------------------------------------------------------------------------

    /// Every call below is preceded by this: its verdict, and how long the call takes.
    pub(super) fn begin_name(&mut self, path: &Path, rng: &mut Rng) -> (io::Result<()>, u64) {
        let verdict = self.judge(path, DiskCall::Name, rng);
        (verdict.error(), Self::delay_ns(&verdict, NAME_NS, rng))
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<FileHandle> {
        let file = self.next();
        let path = self.names.link(path, Node::File(file))?;
        let content = Content::default();
        self.files.insert(file, File { path, linked: true, content, counts: FileCounts::default() });
        Ok(self.new_handle(file))
    }

    pub(super) fn open(&mut self, path: &Path) -> io::Result<FileHandle> {
        let file = self.names.file(path)?;
        Ok(self.new_handle(file))
    }

    fn new_handle(&mut self, file: u64) -> FileHandle {
        let handle = self.next();
        self.handles.insert(handle, file);
        FileHandle::Sim(handle)
    }

    pub(super) fn handle_size(&self, handle: &FileHandle) -> io::Result<u64> {
        let FileHandle::Sim(handle) = handle else {
            panic!("a file of the real system on the simulated disk")
        };
        let file = self.handles.get(handle).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        Ok(self.files[file].content.size_bytes())
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        self.names.link(path, Node::Dir).map(drop)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (file, path, replaced) = self.names.rename(from, to)?;
        self.file_mut(file).path = path;
        if let Some(replaced) = replaced {
            self.unlinked(replaced);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let file = self.names.unlink(path)?;
        self.unlinked(file);
        Ok(())
    }

    /// The file's space is free from now on; its bytes stay for open handles, and for a crash that
    /// brings the name back.
    fn unlinked(&mut self, file: u64) {
        let file = self.file_mut(file);
        file.linked = false;
        self.used_pages -= file.content.allocated_pages();
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.names.list(dir)
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.names.get(path).is_ok()
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.names.sync_dir(dir)?;
        self.coverage.dir_syncs += 1;
        Ok(())
    }

    // --- the end ------------------------------------------------------------------------------

    /// Power loss: what was not synced is kept, lost or torn; whatever was open is closed.
    pub(super) fn crash(&mut self, rng: &mut Rng) -> CrashReport {
        let (names_kept, names_lost) = self.names.crash(rng);
        let mut in_flight: BTreeMap<u64, Vec<(u64, Vec<Page>)>> = BTreeMap::new();
        for write in std::mem::take(&mut self.writes).into_values().filter(|write| !write.verdict.lost) {
            in_flight.entry(write.file).or_default().push((write.first_page, write.pages));
        }
        let mood = Mood::draw(rng);
        let mut fates = Fates::default();
        for (id, file) in &mut self.files {
            file.content.crash(in_flight.remove(id).unwrap_or_default(), mood, rng, &mut fates);
        }
        self.forget_handles();
        let Fates { kept: writes_kept, lost: writes_lost, torn: writes_torn } = fates;
        self.coverage.crashes += 1;
        self.coverage.writes_kept += writes_kept;
        self.coverage.writes_lost += writes_lost;
        self.coverage.writes_torn += writes_torn;
        self.coverage.names_kept += names_kept;
        self.coverage.names_lost += names_lost;
        CrashReport { writes_kept, writes_lost, writes_torn, names_kept, names_lost }
    }

    /// The process dies and the machine lives: what completed stays, synced or not.
    pub(super) fn kill(&mut self, rng: &mut Rng) {
        for write in std::mem::take(&mut self.writes).into_values() {
            if write.file != 0 && !write.verdict.lost && write.verdict.errno.is_none() {
                self.file_mut(write.file).content.settle(write.first_page, write.pages, rng);
            }
        }
        self.forget_handles();
    }

    /// Nothing is open any more: files without a name are gone.
    fn forget_handles(&mut self) {
        self.handles.clear();
        let names: BTreeMap<u64, PathBuf> =
            self.names.files().map(|(path, file)| (file, path.to_owned())).collect();
        // A removal that is not durable yet may still be undone by a power loss.
        self.files.retain(|id, _| names.contains_key(id) || self.names.may_return(*id));
        self.used_pages = 0;
        for (id, file) in &mut self.files {
            file.linked = names.contains_key(id);
            if let Some(path) = names.get(id) {
                file.path = path.clone();
                self.used_pages += file.content.allocated_pages();
            }
        }
    }
}
