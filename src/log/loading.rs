//! Chunks on their way into the read cache: piece by piece, and commits first.
//!
//! A device that serves in order lets a write, and then its flush, wait for what it reads. So a chunk is read in
//! pieces, and each of them lets the blocks pass that were on their way when the one before it had come. A block that
//! is made in the same turn goes beside it: those who lag must come forward, too.
//!
//! ```text
//!   device | piece | block  flush | piece | block  flush | piece | piece |
//! ```

use std::io;
use std::mem;
use std::time::Duration;

use crate::base::align::PAGE_BYTES;
use crate::io::buffer::ChunkBuf;
use crate::io::file::FileHandle;
use crate::io::op::{Op, Token};
use crate::model::{Nanos, Now, Position};

use super::chunks::{ChunkId, ChunkSpan};
use super::{InFlight, Log};

/// A piece waits for blocks at most so long: with depth above one there is always one on its way, and a slow device
/// takes milliseconds for a flush. Whoever lags must come forward, too.
const COMMITS_FIRST_FOR: Duration = Duration::from_micros(300);

/// A chunk that is being read back.
pub(super) struct Reading {
    id: ChunkId,
    span: ChunkSpan,
    since: Nanos,
    file: FileHandle,
    /// Of the chunk in the file.
    offset: u64,
    /// From the chunk's start, whole pages.
    read: usize,
}

impl Reading {
    /// Whole pages.
    fn bytes(&self) -> usize {
        (self.span.bytes as usize).next_multiple_of(PAGE_BYTES)
    }
}

/// A piece that is to be asked of the device.
pub(super) struct Piece {
    reading: Reading,
    buf: ChunkBuf,
    /// Not before this is durable,
    behind: Position,
    /// or this time has come.
    until: Nanos,
}

/// A read for the cache that is over, well or not.
#[derive(Clone, Copy, Debug)]
pub struct ChunkRead {
    pub chunk: ChunkId,
    /// Asked of the device: whole pages.
    pub bytes: u64,
    /// When its turn came: its pieces may have waited for commits.
    pub since: Nanos,
}

impl Log {
    /// The turn's end: ask for what readers want, as far as commits leave the device to them.
    pub(super) fn submit_reads(&mut self, now: Now, ops: &mut Vec<Op>) {
        while let Some(load) = self.cache.poll_load(now.mono) {
            let segment =
                self.segments.find(load.span.base).expect("a chunk that is wanted lies in a segment");
            let reading = Reading {
                id: load.id,
                span: load.span,
                since: now.mono,
                file: segment.file.clone(),
                offset: load.span.base.since(segment.base()),
                read: 0,
            };
            self.want_piece(reading, load.buf, now.mono);
        }
        for piece in mem::take(&mut self.pieces) {
            // After a failure nothing is on its way that could come.
            if self.commit.durable() < piece.behind && now.mono < piece.until && !self.commit.failed() {
                self.pieces.push(piece);
                continue;
            }
            let Piece { reading, buf, .. } = piece;
            let at = reading.read;
            let len = (reading.bytes() - at).min(self.config.read_piece_bytes);
            self.cache.begin_piece(reading.id, now.mono);
            let (file, offset) = (reading.file.clone(), reading.offset + at as u64);
            let token = self.token(InFlight::Load { reading, end: at + len });
            ops.push(Op::Read { token, file, offset, buf, at, len });
        }
    }

    fn want_piece(&mut self, reading: Reading, buf: ChunkBuf, now: Nanos) {
        let (behind, until) = (self.commit.submitted(), now.plus(COMMITS_FIRST_FOR));
        self.pieces.push(Piece { reading, buf, behind, until });
    }

    /// When a piece goes whatever is on its way.
    pub fn read_deadline(&self) -> Option<Nanos> {
        self.pieces.iter().map(|piece| piece.until).min()
    }

    /// A read for the cache completed. Returns the chunk when it is over: somebody may wait for it.
    pub fn on_read(
        &mut self,
        token: Token,
        buf: ChunkBuf,
        result: io::Result<()>,
        now: Nanos,
    ) -> Option<ChunkRead> {
        let number = token.0 & (u64::MAX >> 16);
        let Some(InFlight::Load { mut reading, end }) = self.in_flight.remove(&number) else {
            panic!("a read completes once");
        };
        let gone = reading.id < self.chunks.first();
        if result.is_ok() && end < reading.bytes() && !gone {
            reading.read = end;
            self.want_piece(reading, buf, now);
            return None;
        }
        let bytes = reading.bytes() as u64;
        let Reading { id, span, since, .. } = reading;
        if gone {
            // Its segment may hold other blocks by now: whoever waits looks again, and finds where the log begins.
            self.cache.abandon(id);
            return Some(ChunkRead { chunk: id, bytes, since });
        }
        if let Err(error) = self.cache.on_loaded(id, span, buf, result) {
            self.read_errors.push(error);
        }
        Some(ChunkRead { chunk: id, bytes, since })
    }
}
