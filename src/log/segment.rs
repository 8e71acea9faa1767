//! Segments: where the bytes of a log lie today.
//!
//! ```text
//!   sealed, oldest first        active            ready (really written, waiting)
//!   | 3 @ 0 | 1 @ 64M | 7 @ 128M | 2 @ 192M ->    | 8 @ 256M | 9 @ 512M |
//! ```
//!
//! Positions are consecutive: a ready segment knows its base before its first block, so that moving
//! on to it costs no IO. A segment at the old end whose bytes are all dead is taken off and becomes
//! the newest ready one, under a new base: positions only grow, so its old blocks are never mistaken
//! for new ones.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::base::align::PAGE_BYTES;
use crate::base::mutant::{self, Mutant};
use crate::io::file::{Disk, FileHandle};
use crate::model::Position;

use super::manifest::SegmentRecord;

#[derive(Clone, Debug)]
pub struct Segment {
    pub record: SegmentRecord,
    pub file: FileHandle,
}

impl Segment {
    pub fn base(&self) -> Position {
        self.record.base
    }

    pub fn end(&self) -> Position {
        self.record.base.plus(self.record.bytes)
    }

    pub fn contains(&self, position: Position) -> bool {
        (self.base()..self.end()).contains(&position)
    }
}

/// Zeros are written in pieces of this size, one after the other: a commit waits behind one of them
/// at most, some 100 µs on the devices measured.
const ZERO_BYTES: usize = 128 << 10;
/// The same when the appends are about to wait for the segment: small pieces one after the other are a third
/// of what the device can. Measured, first fill of 1 KB records in batches of 16 KiB at full speed: with pieces of
/// 512 KiB the appends waited, p99.9 of 51 and 52 ms against 5 and 6 ms, for a p99 of 2.5 and 3.4 against 3.0 and
/// 4.1 ms. Several pieces at a time cost more than they gain: p99 of 3.3 to 6.3 ms.
const PRESSED_ZERO_BYTES: usize = 1 << 20;

/// A part of a segment file that is being made.
#[derive(Debug)]
pub struct Slice {
    pub path: PathBuf,
    /// As the slice before left it; none for the first.
    pub file: Option<FileHandle>,
    pub range: Range<u64>,
    /// Of the whole file.
    pub file_bytes: u64,
    /// Somebody waits for the file, or is about to: speed comes before quiet neighbours.
    pub pressed: bool,
}

impl Slice {
    /// The file is complete with it.
    pub fn is_last(&self) -> bool {
        self.range.end == self.file_bytes
    }
}

/// Make a whole segment file.
pub async fn create<D: Disk>(disk: &D, path: &Path, bytes: u64) -> io::Result<FileHandle> {
    let slice =
        Slice { path: path.to_owned(), file: None, range: 0..bytes, file_bytes: bytes, pressed: true };
    prepare(disk, slice).await
}

/// Make a part of a segment file: really written, so that every later write is a pure overwrite; with
/// the last slice synced, and its name too. On failure nothing is left of the file.
pub async fn prepare<D: Disk>(disk: &D, slice: Slice) -> io::Result<FileHandle> {
    let file = match &slice.file {
        Some(file) => file.clone(),
        None => begin(disk, &slice.path).await?,
    };
    match fill(disk, &file, &slice).await {
        Ok(()) => Ok(file),
        Err(error) => {
            // Give the space back; what matters is the first error.
            let _ = disk.remove(&slice.path).await;
            Err(error)
        }
    }
}

async fn begin<D: Disk>(disk: &D, path: &Path) -> io::Result<FileHandle> {
    match disk.remove(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // What an earlier attempt left behind is in no manifest.
        Ok(()) | Err(_) => {}
    }
    let file = disk.create(path).await?;
    // For the process that comes after this one: see `FileHandle::lock`.
    file.lock()?;
    Ok(file)
}

async fn fill<D: Disk>(disk: &D, file: &FileHandle, slice: &Slice) -> io::Result<()> {
    let Range { start: mut at, end } = slice.range;
    if at == 0 {
        // A direct write that extends its file blocks, so the kernel hands it to a thread of its own, which
        // costs more than the write.
        disk.allocate(file, slice.file_bytes).await?;
    }
    let piece_bytes = if slice.pressed { PRESSED_ZERO_BYTES } else { ZERO_BYTES };
    while at < end {
        let bytes = (end - at).min(piece_bytes as u64);
        disk.write_zeros(file, at, bytes as usize).await?;
        at += bytes;
    }
    if !slice.is_last() || mutant::is(Mutant::SkipSegmentSync) {
        return Ok(());
    }
    disk.sync(file).await?;
    match slice.path.parent() {
        Some(dir) => disk.sync_dir(dir).await,
        None => Ok(()),
    }
}

/// The file of segment `number` in a log's folder.
pub fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.segment"))
}

#[derive(Debug)]
pub struct Segments {
    /// By base, without gaps. The active one is at `active`; those behind it are ready.
    all: VecDeque<Segment>,
    active: usize,
}

impl Segments {
    /// `all` by base without gaps, of which the one that holds (or begins at) `end` becomes active.
    pub fn new(all: VecDeque<Segment>, end: Position) -> Segments {
        for (a, b) in all.iter().zip(all.iter().skip(1)) {
            assert_eq!(a.end(), b.base(), "segments follow each other");
        }
        let active =
            all.iter().position(|segment| segment.contains(end)).expect("the log's end lies in a segment");
        Segments { all, active }
    }

    pub fn active(&self) -> &Segment {
        &self.all[self.active]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.all.iter()
    }

    pub fn records(&self) -> Vec<SegmentRecord> {
        self.all.iter().map(|segment| segment.record).collect()
    }

    /// The first segment that no block has touched yet.
    pub fn next_ready(&self) -> Option<&Segment> {
        self.all.get(self.active + 1)
    }

    pub fn newest(&self) -> &Segment {
        self.all.back().expect("a log has a segment")
    }

    /// Segments that no block has touched yet.
    pub fn ready_count(&self) -> usize {
        self.all.len() - 1 - self.active
    }

    /// Bytes that can be appended without another segment.
    pub fn ready_bytes(&self) -> u64 {
        self.all.iter().skip(self.active + 1).map(|segment| segment.record.bytes).sum()
    }

    pub fn total_bytes(&self) -> u64 {
        self.all.iter().map(|segment| segment.record.bytes).sum()
    }

    /// Where the next prepared segment will begin.
    pub fn next_base(&self) -> Position {
        self.newest().end()
    }

    /// The oldest byte that is still mapped to a file.
    pub fn start(&self) -> Position {
        self.all.front().expect("a log has a segment").base()
    }

    /// Go on to the first ready segment. The caller has checked that there is one.
    pub fn advance(&mut self) {
        assert!(self.ready_count() > 0, "a segment is ready before the log moves on to it");
        self.active += 1;
    }

    /// A prepared or recycled segment joins at the new end.
    pub fn push_ready(&mut self, segment: Segment) {
        assert_eq!(segment.base(), self.next_base());
        assert!(segment.record.bytes.is_multiple_of(PAGE_BYTES as u64));
        self.all.push_back(segment);
    }

    /// Those before the active one, oldest first.
    pub fn sealed(&self) -> impl Iterator<Item = &Segment> {
        self.all.iter().take(self.active)
    }

    /// The candidate for recycling.
    pub fn oldest_sealed(&self) -> Option<&Segment> {
        self.sealed().next()
    }

    /// Take the oldest segment off, to be recycled or removed.
    pub fn pop_oldest(&mut self) -> Segment {
        assert!(self.active > 0, "the active segment stays");
        self.active -= 1;
        self.all.pop_front().expect("counted above")
    }

    /// The segment that holds `position`, if its bytes are still there.
    pub fn find(&self, position: Position) -> Option<&Segment> {
        let after = self.all.partition_point(|segment| segment.base() <= position);
        self.all.get(after.checked_sub(1)?).filter(|segment| segment.contains(position))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::io::blocking::block_on;
    use crate::io::buffer::PageBuf;

    /// Writes down what it is asked for; says that it is full at the call of that number.
    #[derive(Default)]
    struct Scribe {
        calls: RefCell<Vec<String>>,
        full_at: Cell<Option<usize>>,
    }

    impl Scribe {
        fn call(&self, call: String) -> io::Result<()> {
            let mut calls = self.calls.borrow_mut();
            calls.push(call);
            match self.full_at.get() {
                Some(at) if at == calls.len() => Err(io::ErrorKind::StorageFull.into()),
                _ => Ok(()),
            }
        }
    }

    impl Disk for Scribe {
        async fn create(&self, _: &Path) -> io::Result<FileHandle> {
            self.call("create".into()).map(|()| FileHandle::Sim(1))
        }
        async fn open(&self, _: &Path) -> io::Result<FileHandle> {
            unreachable!()
        }
        async fn size(&self, _: &FileHandle) -> io::Result<u64> {
            unreachable!()
        }
        async fn read_at(&self, _: &FileHandle, _: u64, _: &mut PageBuf) -> io::Result<usize> {
            unreachable!()
        }
        async fn write_at(&self, _: &FileHandle, offset: u64, buf: &PageBuf) -> io::Result<()> {
            assert!(buf.iter().all(|&byte| byte == 0));
            self.call(format!("{}K..{}K", offset >> 10, (offset + buf.len() as u64) >> 10))
        }
        async fn allocate(&self, _: &FileHandle, bytes: u64) -> io::Result<()> {
            self.call(format!("allocate {}K", bytes >> 10))
        }
        async fn sync(&self, _: &FileHandle) -> io::Result<()> {
            self.call("sync".into())
        }
        async fn sync_dir(&self, _: &Path) -> io::Result<()> {
            self.call("sync folder".into())
        }
        async fn create_dir(&self, _: &Path) -> io::Result<()> {
            unreachable!()
        }
        async fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
            unreachable!()
        }
        async fn remove(&self, _: &Path) -> io::Result<()> {
            self.call("remove".into())
        }
        async fn list(&self, _: &Path) -> io::Result<Vec<String>> {
            unreachable!()
        }
        async fn exists(&self, _: &Path) -> io::Result<bool> {
            unreachable!()
        }
    }

    /// The calls that make a file of 2500 KiB in slices that end there.
    fn made(slices: &[(u64, bool)], full_at: Option<usize>) -> String {
        let disk = Scribe::default();
        disk.full_at.set(full_at);
        let (mut file, mut start) = (None, 0);
        for &(end_kib, pressed) in slices {
            let range = start..end_kib << 10;
            start = range.end;
            let slice = Slice { path: "log/1.segment".into(), file, range, file_bytes: 2500 << 10, pressed };
            match block_on(prepare(&disk, slice)) {
                Ok(made) => file = Some(made),
                Err(_) => break,
            }
        }
        disk.calls.take().join(", ")
    }

    #[test]
    fn each_byte_of_a_segment_is_written_before_it_is_synced() {
        assert_eq!(
            made(&[(2500, true)], None),
            "remove, create, allocate 2500K, 0K..1024K, 1024K..2048K, 2048K..2500K, sync, sync folder"
        );
        assert_eq!(
            made(&[(300, false), (2000, true), (2300, false), (2500, true)], None),
            "remove, create, allocate 2500K, 0K..128K, 128K..256K, 256K..300K, 300K..1324K, 1324K..2000K, \
             2000K..2128K, 2128K..2256K, 2256K..2300K, 2300K..2500K, sync, sync folder"
        );
    }

    #[test]
    fn nothing_is_left_of_a_segment_that_has_no_room() {
        let slices = [(1024, true), (2500, true)];
        assert_eq!(made(&slices, Some(3)), "remove, create, allocate 2500K, remove");
        assert_eq!(made(&slices, Some(5)), "remove, create, allocate 2500K, 0K..1024K, 1024K..2048K, remove");
    }

    fn segment(number: u32, base: u64, bytes: u64) -> Segment {
        Segment {
            record: SegmentRecord { number, base: Position(base), bytes, recycled: false },
            file: FileHandle::Sim(u64::from(number)),
        }
    }

    #[test]
    fn positions_find_their_file_through_rolls_and_recycling() {
        let mut segments =
            Segments::new([segment(1, 0, 8192), segment(2, 8192, 4096)].into(), Position(4096));
        assert_eq!((segments.active().record.number, segments.ready_count()), (1, 1));
        assert!(segments.oldest_sealed().is_none());

        segments.advance();
        assert_eq!(segments.find(Position(8191)).unwrap().record.number, 1);
        assert_eq!(segments.find(Position(8192)).unwrap().record.number, 2);
        assert!(segments.find(Position(12288)).is_none());

        let old = segments.pop_oldest();
        assert!(segments.find(Position(0)).is_none(), "its bytes are gone");
        let base = segments.next_base();
        segments.push_ready(Segment { record: SegmentRecord { base, recycled: true, ..old.record }, ..old });
        assert_eq!((segments.next_base(), segments.ready_bytes()), (Position(20480), 8192));
    }
}
