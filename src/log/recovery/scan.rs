//! The bytes of a segment, read from its beginning to its end.

use std::io;

use crate::base::align::PAGE_BYTES;
use crate::io::buffer::PageBuf;
use crate::io::file::{Disk, FileHandle};
use crate::model::Position;

/// Reads blocks of one segment in order, in pieces.
pub struct Scan<'a, D> {
    disk: &'a D,
    file: &'a FileHandle,
    base: Position,
    end: Position,
    buf: PageBuf,
    /// What `buf` holds.
    from: Position,
    len: usize,
}

impl<'a, D: Disk> Scan<'a, D> {
    const PIECE_BYTES: usize = 1 << 20;

    pub fn new(disk: &'a D, file: &'a FileHandle, base: Position, end: Position) -> Scan<'a, D> {
        Scan { disk, file, base, end, buf: PageBuf::zeroed(PAGE_BYTES), from: base, len: 0 }
    }

    pub fn contains(&self, position: Position) -> bool {
        (self.base..self.end).contains(&position)
    }

    pub fn end(&self) -> Position {
        self.end
    }

    /// At least `len` bytes at `position`, unless the segment ends before.
    pub async fn bytes(&mut self, position: Position, len: usize) -> io::Result<&[u8]> {
        let len = len.min(self.end.since(position) as usize);
        let held = position >= self.from && position.plus(len as u64) <= self.from.plus(self.len as u64);
        if !held {
            let want = len.max(Self::PIECE_BYTES).min(self.end.since(position) as usize);
            if self.buf.len() != want {
                self.buf = PageBuf::zeroed(want);
            }
            self.len = self.disk.read_at(self.file, position.since(self.base), &mut self.buf).await?;
            self.from = position;
            if self.len < len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let at = position.since(self.from) as usize;
        Ok(&self.buf[at..self.len])
    }
}
