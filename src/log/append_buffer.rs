//! The end of the log in memory: the open chunk, the open block in it, and blocks sealed but not
//! yet given to the device.
//!
//! ```text
//!   open chunk   | block | block | open block ...            |
//!                ^ frozen: on the device or on its way       ^ capacity
//! ```
//!
//! A payload is copied once, from the receive buffer to here. The device reads it here, and so do
//! consumers: a chunk stays in memory after the write ([`super::chunks`]).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::align::PAGE_BYTES;
use crate::base::crc::crc32c_append;
use crate::io::buffer::{ChunkBuf, ChunkPool};
use crate::model::{LogId, Offset, Position, Slot, Term, WallMs};

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, FLAG_SEGMENT_END, LocalPart};
use super::entry::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind};

/// A block that is complete and immutable, on its way to the device.
#[derive(Debug)]
pub struct SealedBlock {
    pub position: Position,
    pub end: Position,
    pub chain: u32,
    /// What must be written at `position`: the whole block, or the one page of a segment's end.
    pub data: Bytes,
    pub entry_count: u32,
    /// Of `data`, what is neither header nor entries.
    pub padding_bytes: u32,
}

/// An entry without its payload, as its writer describes it.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry {
    pub kind: EntryKind,
    pub slot: Slot,
    pub base_offset: Offset,
    pub count: u32,
    pub max_timestamp: i64,
}

/// What happened to the chunks of the buffer, in order.
#[derive(Debug)]
pub enum ChunkEvent {
    Opened {
        base: Position,
    },
    /// The newest chunk takes no more blocks; these are all of its bytes.
    Closed {
        bytes: Bytes,
    },
}

#[derive(Debug)]
struct OpenChunk {
    base: Position,
    buf: ChunkBuf,
}

#[derive(Debug)]
struct OpenBlock {
    position: Position,
    entries_bytes: usize,
    entry_count: u32,
    entries_crc: u32,
}

#[derive(Debug)]
pub struct AppendBuffer {
    log: LogId,
    term: Term,
    pool: ChunkPool,
    block_bytes_max: usize,
    /// Where the next block begins.
    position: Position,
    /// Where the active segment ends.
    segment_end: Position,
    prev_chain: u32,
    chunk: Option<OpenChunk>,
    block: Option<OpenBlock>,
    sealed: VecDeque<SealedBlock>,
    sealed_bytes: usize,
}

/// What an append must wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A chunk of memory: readers hold all of them.
    Memory,
    /// The active segment is full: call [`AppendBuffer::enter_segment`], when one is ready.
    Segment,
}

impl AppendBuffer {
    pub fn new(
        (log, term): (LogId, Term),
        pool: ChunkPool,
        block_bytes_max: usize,
        position: Position,
        segment_end: Position,
        prev_chain: u32,
    ) -> AppendBuffer {
        assert!(block_bytes_max.is_multiple_of(PAGE_BYTES) && block_bytes_max <= pool.chunk_bytes());
        AppendBuffer {
            log,
            term,
            pool,
            block_bytes_max,
            position,
            segment_end,
            prev_chain,
            chunk: None,
            block: None,
            sealed: VecDeque::new(),
            sealed_bytes: 0,
        }
    }

    /// Bytes that no device has been asked to write yet.
    pub fn pending_bytes(&self) -> usize {
        self.sealed_bytes + self.open_bytes()
    }

    pub fn pool(&self) -> &ChunkPool {
        &self.pool
    }

    /// Chunks of memory that somebody holds: the tail, and readers of what left it.
    pub fn chunks_out(&self) -> usize {
        self.pool.used()
    }

    /// Where the next block would begin if the open one were sealed now: everything appended lies before it.
    pub fn end(&self) -> Position {
        let open = self.block.as_ref().map_or(0, |block| BlockHeader::bytes_for(block.entries_bytes));
        self.position.plus(open as u64)
    }

    /// What is left of the active segment.
    pub fn segment_bytes_left(&self) -> u64 {
        self.segment_end.since(self.end())
    }

    /// What entries of so many bytes in sum take of a segment at most, however they fall into blocks.
    pub fn bytes_at_most(&self, entries_bytes: usize) -> u64 {
        // A block and the entry that did not fit in it fill one together. Each is padded to a page.
        let blocks = 2 * entries_bytes / (self.block_bytes_max - BLOCK_HEADER_BYTES) + 2;
        (entries_bytes + blocks * (BLOCK_HEADER_BYTES + PAGE_BYTES)) as u64
    }

    fn open_bytes(&self) -> usize {
        self.block.as_ref().map_or(0, |block| BLOCK_HEADER_BYTES + block.entries_bytes)
    }

    /// Make room for an entry with this payload: seal what is full, open what is missing. What
    /// that does to the chunks is appended to `chunks`.
    ///
    /// # Errors
    /// What is missing; nothing has been lost, and the same call may be made again.
    pub fn reserve(
        &mut self,
        payload_bytes: usize,
        local: LocalPart,
        now: WallMs,
        chunks: &mut Vec<ChunkEvent>,
    ) -> Result<(), Need> {
        let entry_bytes = EntryHeader::entry_bytes(payload_bytes);
        if let Some(block) = &self.block {
            let bytes = BlockHeader::bytes_for(block.entries_bytes + entry_bytes);
            if bytes <= self.block_bytes_max && self.room(block.position) >= bytes {
                return Ok(());
            }
            self.seal(local, now);
        }
        let bytes = BlockHeader::bytes_for(entry_bytes);
        if self.segment_end.since(self.position) < bytes as u64 {
            return Err(Need::Segment);
        }
        if self.chunk.is_none() || self.room(self.position) < bytes {
            let buf = if bytes > self.pool.chunk_bytes() {
                ChunkBuf::unpooled(bytes)
            } else {
                self.pool.take().ok_or(Need::Memory)?
            };
            self.close_chunk(chunks);
            self.chunk = Some(OpenChunk { base: self.position, buf });
            chunks.push(ChunkEvent::Opened { base: self.position });
        }
        self.block =
            Some(OpenBlock { position: self.position, entries_bytes: 0, entry_count: 0, entries_crc: 0 });
        Ok(())
    }

    /// Bytes that a block starting at `position` may take in the open chunk and the active segment.
    fn room(&self, position: Position) -> usize {
        let Some(chunk) = &self.chunk else { return 0 };
        let in_chunk = chunk.buf.capacity() - position.since(chunk.base) as usize;
        in_chunk.min(self.segment_end.since(position) as usize)
    }

    /// Append an entry for which room was reserved. `finish` gets the payload where it will stay, may
    /// patch it, and returns its checksum. Returns where the entry begins and ends.
    pub fn append(
        &mut self,
        entry: NewEntry,
        payload: &[u8],
        finish: impl FnOnce(&mut [u8]) -> u32,
    ) -> (Position, Position) {
        let block = self.block.as_mut().expect("room was reserved");
        let chunk = self.chunk.as_mut().expect("a block is in a chunk");
        let at = BLOCK_HEADER_BYTES + block.entries_bytes;
        let entry_bytes = EntryHeader::entry_bytes(payload.len());
        let position = block.position.plus(at as u64);

        let bytes = &mut chunk.buf.tail_mut()[at..at + entry_bytes];
        let (head, rest) = bytes.split_at_mut(ENTRY_HEADER_BYTES);
        let (stored, padding) = rest.split_at_mut(payload.len());
        stored.copy_from_slice(payload);
        padding.fill(0);
        let header = EntryHeader {
            kind: entry.kind,
            slot: entry.slot,
            base_offset: entry.base_offset,
            count: entry.count,
            max_timestamp: entry.max_timestamp,
            payload_bytes: payload.len() as u32,
            payload_crc: finish(stored),
        }
        .encode();
        head.copy_from_slice(&header);

        block.entries_crc = crc32c_append(block.entries_crc, &header);
        block.entries_bytes += entry_bytes;
        block.entry_count += 1;
        (position, position.plus(entry_bytes as u64))
    }

    /// Complete the open block, if there is one.
    pub fn seal(&mut self, local: LocalPart, now: WallMs) {
        let Some(block) = self.block.take() else { return };
        let chunk = self.chunk.as_mut().expect("a block is in a chunk");
        let bytes = BlockHeader::bytes_for(block.entries_bytes);
        let header = BlockHeader {
            log: self.log,
            term: self.term,
            position: block.position,
            flags: 0,
            block_bytes: bytes as u32,
            entries_bytes: block.entries_bytes as u32,
            entry_count: block.entry_count,
            entries_crc: block.entries_crc,
            append_time: now,
            prev_chain: self.prev_chain,
            local,
        };
        let start = chunk.buf.frozen();
        assert_eq!(chunk.base.plus(start as u64), block.position, "blocks follow each other in a chunk");
        let tail = chunk.buf.tail_mut();
        tail[..BLOCK_HEADER_BYTES].copy_from_slice(&header.encode());
        tail[BLOCK_HEADER_BYTES + block.entries_bytes..bytes].fill(0);
        chunk.buf.freeze(start + bytes);
        self.push_sealed(&header, chunk_slice(&self.chunk, start, bytes));
    }

    fn push_sealed(&mut self, header: &BlockHeader, data: Bytes) {
        self.prev_chain = header.chain();
        self.position = header.end();
        self.sealed_bytes += data.len();
        let (position, end, chain) = (header.position, header.end(), self.prev_chain);
        let padding_bytes = (data.len() - BLOCK_HEADER_BYTES) as u32 - header.entries_bytes;
        let entry_count = header.entry_count;
        self.sealed.push_back(SealedBlock { position, end, chain, data, entry_count, padding_bytes });
    }

    /// Go on in the segment `base..end`, which follows the active one. The unused rest of the active
    /// segment becomes a block of its own, so that the chain leads across.
    pub fn enter_segment(
        &mut self,
        base: Position,
        end: Position,
        local: LocalPart,
        now: WallMs,
        chunks: &mut Vec<ChunkEvent>,
    ) {
        assert!(self.block.is_none(), "the open block was sealed when it did not fit");
        assert_eq!(base, self.segment_end, "segments follow each other");
        self.close_chunk(chunks);
        let rest = self.segment_end.since(self.position);
        if rest > 0 {
            let header = BlockHeader {
                log: self.log,
                term: self.term,
                position: self.position,
                flags: FLAG_SEGMENT_END,
                block_bytes: rest as u32,
                entries_bytes: 0,
                entry_count: 0,
                entries_crc: 0,
                append_time: now,
                prev_chain: self.prev_chain,
                local,
            };
            let mut page = ChunkBuf::unpooled(PAGE_BYTES);
            page.tail_mut()[..BLOCK_HEADER_BYTES].copy_from_slice(&header.encode());
            let data = page.freeze(PAGE_BYTES).clone();
            self.push_sealed(&header, data);
        }
        assert_eq!(self.position, base);
        self.segment_end = end;
    }

    /// The next block for the device.
    pub fn pop_sealed(&mut self) -> Option<SealedBlock> {
        let block = self.sealed.pop_front()?;
        self.sealed_bytes -= block.data.len();
        Some(block)
    }

    pub fn has_sealed(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// The open chunk's base and its immutable front.
    pub fn open_chunk(&self) -> Option<(Position, &Bytes)> {
        self.chunk.as_ref().map(|chunk| (chunk.base, chunk.buf.shared()))
    }

    fn close_chunk(&mut self, chunks: &mut Vec<ChunkEvent>) {
        if let Some(chunk) = self.chunk.take() {
            chunks.push(ChunkEvent::Closed { bytes: chunk.buf.shared().clone() });
        }
    }
}

fn chunk_slice(chunk: &Option<OpenChunk>, start: usize, bytes: usize) -> Bytes {
    chunk.as_ref().expect("the caller sealed a block in it").buf.slice(start..start + bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(chunk_bytes: usize, chunks: usize, segment_end: u64) -> AppendBuffer {
        let pool = ChunkPool::new(chunk_bytes, chunks);
        AppendBuffer::new((LogId(1), Term(1)), pool, 8192, Position(0), Position(segment_end), 0)
    }

    fn put(
        buffer: &mut AppendBuffer,
        payload: &[u8],
        chunks: &mut Vec<ChunkEvent>,
    ) -> Result<Position, Need> {
        buffer.reserve(payload.len(), LocalPart::default(), WallMs(5), chunks)?;
        let entry = NewEntry {
            kind: EntryKind::Metadata,
            slot: Slot(0),
            base_offset: Offset(0),
            count: 0,
            max_timestamp: 0,
        };
        Ok(buffer.append(entry, payload, |stored| EntryKind::Metadata.payload_crc(stored)).0)
    }

    /// All sealed blocks, checked as a reader would: header, chain, entries.
    fn sealed(buffer: &mut AppendBuffer, chain: &mut u32) -> Vec<(u64, Vec<Vec<u8>>)> {
        let mut out = Vec::new();
        while let Some(block) = buffer.pop_sealed() {
            let header = BlockHeader::decode(&block.data).unwrap();
            assert_eq!((header.position, header.end()), (block.position, block.end));
            assert_eq!(header.prev_chain, *chain);
            header.check_entries(&block.data).unwrap();
            *chain = header.chain();
            let payloads = header.entries(&block.data).map(|entry| entry.unwrap().2.to_vec()).collect();
            out.push((block.position.0, payloads));
        }
        out
    }

    #[test]
    fn entries_gather_in_a_block_until_it_is_sealed() {
        let mut buffer = buffer(8192, 2, 1 << 20);
        let (mut chain, mut closed) = (0, Vec::new());
        put(&mut buffer, b"a", &mut closed).unwrap();
        put(&mut buffer, b"b", &mut closed).unwrap();
        assert!(!buffer.has_sealed());
        buffer.seal(LocalPart::default(), WallMs(6));
        assert_eq!(sealed(&mut buffer, &mut chain), vec![(0, vec![b"a".to_vec(), b"b".to_vec()])]);
        assert_eq!(buffer.end(), Position(4096));
        assert_eq!(buffer.pending_bytes(), 0);
    }

    /// [`Log::room`](super::super::Log::room) promises on this that a request finds its segment.
    #[test]
    fn what_fits_in_the_rest_of_the_segment_is_taken() {
        for large in (100..9000).step_by(331) {
            for small in [0, 100, 3000, 4000] {
                let mut buffer = buffer(16384, 64, 1 << 18);
                let mut closed = Vec::new();
                let request = [large, small, large, small, small];
                let entries = request.map(EntryHeader::entry_bytes).iter().sum();
                while buffer.segment_bytes_left() >= buffer.bytes_at_most(entries) {
                    for payload_bytes in request {
                        put(&mut buffer, &vec![7; payload_bytes], &mut closed).unwrap();
                    }
                }
                let payload = vec![7; large];
                while put(&mut buffer, &payload, &mut closed).is_ok() {}
                assert_eq!(put(&mut buffer, &payload, &mut closed), Err(Need::Segment));
            }
        }
    }

    #[test]
    fn a_full_block_is_sealed_and_a_full_chunk_closed() {
        let mut buffer = buffer(8192, 2, 1 << 20);
        let (mut chain, mut closed) = (0, Vec::new());
        let big = vec![1; 5000];
        put(&mut buffer, &big, &mut closed).unwrap();
        put(&mut buffer, &big, &mut closed).unwrap();
        buffer.seal(LocalPart::default(), WallMs(6));
        assert_eq!(sealed(&mut buffer, &mut chain).len(), 2);
        assert!(
            matches!(&closed[..], [
            ChunkEvent::Opened { base: Position(0) },
            ChunkEvent::Closed { bytes },
            ChunkEvent::Opened { base: Position(8192) },
        ] if bytes.len() == 8192),
            "{closed:?}"
        );

        assert_eq!(put(&mut buffer, &big, &mut closed), Err(Need::Memory), "both chunks are out");
        closed.clear();
        put(&mut buffer, &big, &mut closed).unwrap();
    }

    #[test]
    fn the_chain_leads_across_the_unused_end_of_a_segment() {
        let mut buffer = buffer(16384, 4, 12288);
        let (mut chain, mut closed) = (0, Vec::new());
        put(&mut buffer, &[1; 5000], &mut closed).unwrap();
        assert_eq!(put(&mut buffer, &[2; 5000], &mut closed), Err(Need::Segment));
        buffer.enter_segment(
            Position(12288),
            Position(1 << 20),
            LocalPart::default(),
            WallMs(7),
            &mut closed,
        );
        put(&mut buffer, &[2; 5000], &mut closed).unwrap();
        buffer.seal(LocalPart::default(), WallMs(8));
        let positions: Vec<_> = sealed(&mut buffer, &mut chain).into_iter().map(|block| block.0).collect();
        assert_eq!(positions, [0, 8192, 12288]);
    }
}
