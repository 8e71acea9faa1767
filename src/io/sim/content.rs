//! What one file of the simulated disk holds: bytes that survive power loss and bytes that may not.
//!
//! ```text
//! write completes ---> cached (reads see it) + pending (remembers which write it was)
//! sync completes  ---> durable, for what had completed when the sync was issued
//! power loss      ---> each pending write is kept, lost or torn; then cached is gone
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::rng::Rng;
use crate::base::align::PAGE_BYTES;

const SECTOR_BYTES: usize = 512;
const SECTORS_PER_PAGE: usize = PAGE_BYTES / SECTOR_BYTES;
const _: () = assert!(SECTORS_PER_PAGE == 8, "a page's sectors are the bits of a byte");

/// One page. `None` is a page of zeros: prepared segments are full of them and cost nothing here.
pub(super) type Page = Option<Rc<[u8; PAGE_BYTES]>>;

/// Cut `data` (whole pages) into pages.
pub(super) fn pages_of(data: &[u8]) -> Vec<Page> {
    let (pages, rest) = data.as_chunks::<PAGE_BYTES>();
    assert!(rest.is_empty(), "{} bytes are not whole pages", data.len());
    // Compared as a whole: in a test build that is many times faster than byte by byte.
    pages.iter().map(|page| (*page != [0; PAGE_BYTES]).then(|| Rc::new(*page))).collect()
}

/// What power loss does to writes that no sync covers. Drawn once a crash, so that some crashes
/// keep everything, some lose everything, and most are mixed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mood {
    keep: u64,
    lose: u64,
    tear: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fates {
    pub kept: u64,
    pub lost: u64,
    pub torn: u64,
}

impl Mood {
    pub fn draw(rng: &mut Rng) -> Mood {
        let [keep, lose, tear] =
            *rng.pick(&[[1, 1, 1], [1, 1, 1], [4, 1, 1], [1, 4, 1], [0, 1, 0], [1, 0, 0]]);
        Mood { keep, lose, tear }
    }

    #[cfg(test)]
    pub const LOSE: Mood = Mood { keep: 0, lose: 1, tear: 0 };
    #[cfg(test)]
    pub const TEAR: Mood = Mood { keep: 0, lose: 0, tear: 1 };

    /// For each page of a write the sectors that reach the medium, as bits.
    fn fate(self, page_count: usize, rng: &mut Rng, fates: &mut Fates) -> Vec<u8> {
        let draw = rng.below(self.keep + self.lose + self.tear);
        if draw < self.keep {
            fates.kept += 1;
            vec![0xff; page_count]
        } else if draw < self.keep + self.lose {
            fates.lost += 1;
            vec![0; page_count]
        } else {
            fates.torn += 1;
            torn_sectors(page_count, rng)
        }
    }
}

/// A random part of a write. Devices of today write 4 KiB at once, so most tears fall between
/// pages; 512 bytes are the smallest unit that any device promises.
fn torn_sectors(page_count: usize, rng: &mut Rng) -> Vec<u8> {
    let unit_sectors = if rng.one_in(4) { 1 } else { SECTORS_PER_PAGE };
    let sector_count = page_count * SECTORS_PER_PAGE;
    let cut = rng.below(sector_count as u64 + 1) as usize;
    let shape = rng.below(3);
    let mut masks = vec![0u8; page_count];
    for unit in (0..sector_count).step_by(unit_sectors) {
        let kept = match shape {
            0 => unit < cut,
            1 => unit >= cut,
            _ => rng.one_in(2),
        };
        if kept {
            for sector in unit..unit + unit_sectors {
                masks[sector / SECTORS_PER_PAGE] |= 1 << (sector % SECTORS_PER_PAGE);
            }
        }
    }
    masks
}

/// A write that completed and that no sync has covered yet.
struct Pending {
    sequence: u64,
    pages: Vec<(u64, Page)>,
    /// A sync of it failed: the kernel has dropped it, no later sync will store it.
    forgotten: bool,
}

#[derive(Default)]
pub(super) struct Content {
    durable: BTreeMap<u64, Page>,
    durable_bytes: u64,
    /// The newest content of pages that differ from `durable`, with the write it came from.
    cached: BTreeMap<u64, (u64, Page)>,
    size_bytes: u64,
    pending: Vec<Pending>,
    sequence: u64,
}

impl Content {
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Size after a power loss at this moment, when nothing un-synced is lucky.
    pub fn durable_bytes(&self) -> u64 {
        self.durable_bytes
    }

    pub fn allocated_pages(&self) -> u64 {
        let only_cached = self.cached.keys().filter(|page| !self.durable.contains_key(page)).count();
        (self.durable.len() + only_cached) as u64
    }

    /// How many of `count` pages from `first` take new space when written.
    pub fn unallocated_pages(&self, first: u64, count: u64) -> u64 {
        let range = first..first + count;
        let durable = self.durable.range(range.clone()).count();
        let only_cached =
            self.cached.range(range).filter(|(page, _)| !self.durable.contains_key(page)).count();
        count - (durable + only_cached) as u64
    }

    /// True when a power loss now could not change a byte of `range`.
    pub fn is_durable(&self, range: Range<u64>) -> bool {
        let pages = range.start / PAGE_BYTES as u64..range.end.div_ceil(PAGE_BYTES as u64);
        range.end <= self.durable_bytes && self.cached.range(pages).next().is_none()
    }

    /// Read from a page's start; returns how much there was before the end of the file.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> usize {
        assert!(offset.is_multiple_of(PAGE_BYTES as u64), "direct IO at {offset}");
        let len = self.size_bytes.saturating_sub(offset).min(into.len() as u64) as usize;
        for (index, part) in into[..len].chunks_mut(PAGE_BYTES).enumerate() {
            match self.page(offset / PAGE_BYTES as u64 + index as u64) {
                Some(page) => part.copy_from_slice(&page[..part.len()]),
                None => part.fill(0),
            }
        }
        len
    }

    fn page(&self, index: u64) -> &Page {
        let cached = self.cached.get(&index).map(|(_, page)| page);
        cached.or_else(|| self.durable.get(&index)).unwrap_or(&None)
    }

    /// A write completes into the cache.
    pub fn write(&mut self, first: u64, pages: Vec<Page>) {
        self.sequence += 1;
        self.grow(first + pages.len() as u64);
        let pages: Vec<(u64, Page)> = (first..).zip(pages).collect();
        for (index, page) in &pages {
            self.cached.insert(*index, (self.sequence, page.clone()));
        }
        self.pending.push(Pending { sequence: self.sequence, pages, forgotten: false });
    }

    /// A write completes on the medium, and with it the file size that it needs.
    pub fn write_durable(&mut self, first: u64, pages: Vec<Page>) {
        self.sequence += 1;
        self.grow(first + pages.len() as u64);
        let pages: Vec<(u64, Page)> = (first..).zip(pages).collect();
        for (index, _) in &pages {
            self.cached.remove(index);
        }
        self.store(self.sequence, pages);
    }

    fn grow(&mut self, end_page: u64) {
        self.size_bytes = self.size_bytes.max(end_page * PAGE_BYTES as u64);
    }

    /// Make the pages of one write durable. What earlier writes left for them must not come back.
    fn store(&mut self, sequence: u64, pages: Vec<(u64, Page)>) {
        let Some(&(first, _)) = pages.first() else { return };
        let (last, _) = pages[pages.len() - 1];
        for earlier in self.pending.iter_mut().filter(|earlier| earlier.sequence < sequence) {
            earlier.pages.retain(|(index, _)| {
                !(first..=last).contains(index)
                    || pages.binary_search_by_key(index, |(page, _)| *page).is_err()
            });
        }
        self.durable_bytes = self.durable_bytes.max((last + 1) * PAGE_BYTES as u64);
        self.durable.extend(pages);
    }

    /// The last completed write: what a sync that is issued now will cover.
    pub fn mark(&self) -> u64 {
        self.sequence
    }

    /// A sync that was issued at `mark` completes.
    pub fn sync(&mut self, mark: u64) {
        let (done, rest) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|write| write.sequence <= mark && !write.forgotten);
        self.pending = rest;
        let done: Vec<Pending> = done;
        for write in done {
            for (index, _) in &write.pages {
                if self.cached.get(index).is_some_and(|(sequence, _)| *sequence == write.sequence) {
                    self.cached.remove(index);
                }
            }
            self.store(write.sequence, write.pages);
        }
    }

    /// A sync fails: the kernel marks the pages clean, so the next sync reports success and stores
    /// nothing of them. (What Linux file systems do; the reason never to retry a sync.)
    pub fn sync_failed(&mut self, mark: u64) {
        for write in self.pending.iter_mut().filter(|write| write.sequence <= mark) {
            write.forgotten = true;
        }
    }

    /// Power loss. `in_flight` are writes that were issued and not completed: first page, pages.
    pub fn crash(&mut self, in_flight: Vec<(u64, Vec<Page>)>, mood: Mood, rng: &mut Rng, fates: &mut Fates) {
        let pending = std::mem::take(&mut self.pending).into_iter().map(|write| write.pages);
        let in_flight = in_flight.into_iter().map(|(first, pages)| (first..).zip(pages).collect());
        for pages in pending.chain(in_flight).filter(|pages: &Vec<_>| !pages.is_empty()) {
            let masks = mood.fate(pages.len(), rng, fates);
            for ((index, page), mask) in pages.into_iter().zip(masks) {
                self.store_sectors(index, page, mask);
            }
        }
        // The new size may be recorded although the data is not: the hole then reads as zeros.
        if self.size_bytes > self.durable_bytes && rng.one_in(4) {
            self.durable_bytes = self.size_bytes;
        }
        self.size_bytes = self.durable_bytes;
        self.cached.clear();
    }

    /// Death of the process only: what completed stays with the kernel; a write in flight may or
    /// may not have been carried out.
    pub fn settle(&mut self, first: u64, pages: Vec<Page>, rng: &mut Rng) {
        let kept = rng.below(pages.len() as u64 + 1) as usize;
        if kept > 0 {
            self.write(first, pages.into_iter().take(kept).collect());
        }
    }

    fn store_sectors(&mut self, index: u64, page: Page, mask: u8) {
        let page = match mask {
            0 => return,
            0xff => page,
            mask => {
                let zeros = [0; PAGE_BYTES];
                let old = self.durable.get(&index).and_then(|page| page.as_deref()).unwrap_or(&zeros);
                let mut mixed = *old;
                let new = page.as_deref().unwrap_or(&zeros);
                for sector in (0..SECTORS_PER_PAGE).filter(|sector| mask & (1 << sector) != 0) {
                    let bytes = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                    mixed[bytes.clone()].copy_from_slice(&new[bytes]);
                }
                Some(Rc::new(mixed))
            }
        };
        self.durable.insert(index, page);
        self.durable_bytes = self.durable_bytes.max((index + 1) * PAGE_BYTES as u64);
    }

    /// Flip the bits of `mask` in the bytes from `offset` on (up to the end of the file), on the medium and
    /// in the cache.
    pub fn flip(&mut self, offset: u64, mask: &[u8]) {
        for (byte, flip) in (offset..self.size_bytes).zip(mask) {
            let (index, at) = (byte / PAGE_BYTES as u64, (byte % PAGE_BYTES as u64) as usize);
            if let Some(page) = self.durable.get_mut(&index) {
                Rc::make_mut(page.get_or_insert_with(|| Rc::new([0; PAGE_BYTES])))[at] ^= flip;
            }
            if let Some((_, page)) = self.cached.get_mut(&index) {
                Rc::make_mut(page.get_or_insert_with(|| Rc::new([0; PAGE_BYTES])))[at] ^= flip;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One page filled with a letter, or with zeros.
    fn page(letter: u8) -> Page {
        pages_of(&[letter; PAGE_BYTES]).remove(0)
    }

    /// The first byte of every page; `.` is zero.
    fn letters(content: &Content) -> String {
        let mut bytes = vec![0; content.size_bytes() as usize];
        assert_eq!(content.read(0, &mut bytes), bytes.len());
        bytes.chunks(PAGE_BYTES).map(|page| if page[0] == 0 { '.' } else { char::from(page[0]) }).collect()
    }

    fn crash(content: &mut Content, in_flight: Vec<(u64, Vec<Page>)>, mood: Mood, seed: u64) -> Fates {
        let mut fates = Fates::default();
        content.crash(in_flight, mood, &mut Rng::new(seed), &mut fates);
        fates
    }

    #[test]
    fn only_what_a_sync_covers_survives() {
        for seed in 0..20 {
            let mut content = Content::default();
            content.write(0, vec![page(b'a'), page(b'a')]);
            let mark = content.mark();
            content.write(1, vec![page(b'b')]);
            content.sync(mark);
            content.write_durable(3, vec![page(b'd')]);
            assert_eq!(letters(&content), "ab.d");
            assert!(content.is_durable(0..4096) && !content.is_durable(0..4097));
            let fates = crash(&mut content, vec![(2, vec![page(b'c')])], Mood::LOSE, seed);
            assert_eq!(letters(&content), "aa.d");
            assert_eq!(fates, Fates { kept: 0, lost: 2, torn: 0 });
        }
    }

    #[test]
    fn an_older_write_never_comes_back_over_a_durable_one() {
        for seed in 0..50 {
            let mut content = Content::default();
            content.write(0, vec![page(b'a'), page(b'a')]);
            content.write_durable(0, vec![page(b'b')]);
            crash(&mut content, Vec::new(), Mood::draw(&mut Rng::new(seed)), seed);
            assert_eq!(&letters(&content)[..1], "b");
        }
    }

    #[test]
    fn a_failed_sync_is_not_made_good_by_the_next_one() {
        let mut content = Content::default();
        content.write(0, vec![page(b'a')]);
        content.sync_failed(content.mark());
        content.write(1, vec![page(b'b')]);
        content.sync(content.mark());
        assert_eq!(letters(&content), "ab", "reads still see it");
        crash(&mut content, Vec::new(), Mood::LOSE, 1);
        assert_eq!(letters(&content), ".b");
    }

    #[test]
    fn tears_fall_between_pages_and_between_sectors() {
        let (mut inside_page, mut between_pages) = (0, 0);
        for seed in 0..200 {
            let mut content = Content::default();
            content.write_durable(0, vec![page(b'o'), page(b'o')]);
            crash(&mut content, vec![(0, vec![page(b'n'), page(b'n')])], Mood::TEAR, seed);
            let mut bytes = vec![0; 2 * PAGE_BYTES];
            content.read(0, &mut bytes);
            for sector in bytes.chunks(SECTOR_BYTES) {
                assert!(sector.iter().all(|&byte| byte == sector[0]), "sectors are atomic");
            }
            let torn_page = bytes.chunks(PAGE_BYTES).any(|page| page.iter().any(|&byte| byte != page[0]));
            inside_page += u32::from(torn_page);
            between_pages += u32::from(!torn_page && bytes[0] != bytes[PAGE_BYTES]);
        }
        assert!(inside_page > 10 && between_pages > 30, "{inside_page} {between_pages}");
    }

    #[test]
    fn rot_changes_exactly_its_range() {
        let mut content = Content::default();
        content.write_durable(0, vec![page(b'a'), page(0)]);
        content.flip(4095, &[1, 2, 3]);
        let mut bytes = vec![0; 2 * PAGE_BYTES];
        content.read(0, &mut bytes);
        let changed: Vec<usize> =
            (0..bytes.len()).filter(|&at| bytes[at] != if at < PAGE_BYTES { b'a' } else { 0 }).collect();
        assert_eq!(changed, [4095, 4096, 4097]);
    }

    #[test]
    fn pages_are_counted_once() {
        let mut content = Content::default();
        content.write(0, vec![page(b'a'), page(0)]);
        content.write_durable(1, vec![page(b'b'), page(b'b')]);
        assert_eq!(content.allocated_pages(), 3);
        assert_eq!(content.unallocated_pages(0, 5), 2);
    }
}
