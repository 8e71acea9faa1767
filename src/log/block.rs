//! A block: the unit of commit and of recovery. One header, whole entries, zeros up to a page.
//!
//! ```text
//!   0       4         6       8        12     16         24            28              32            36
//!   | magic | version | flags | log id | term | position | block bytes | entries bytes | entry count | entries CRC |
//!   | u32   |  u16    |  u16  |  u32   | u32  |   u64    |    u32      |      u32      |     u32     |     u32     |
//!  40              48           52      56                64              72          76
//!   | append time  | prev chain | chain | durable         | window bytes  | local CRC | zeros up to 96
//!   |  i64 (ms)    |    u32     |  u32  |  u64            |  u64          |   u32     |
//!  96: entries
//! ```
//!
//! *chain* is CRC-32C of bytes 0..52: of everything a replica would have to agree on, the previous
//! block's chain among it. Bytes 56..76 are *local*: what this machine knew when it sealed the block.
//! *entries CRC* covers the entries' headers, which in turn carry the checksums of their payloads:
//! every byte is checked, and the payloads are read once.
//!
//! A block is never rewritten. Little-endian.

use crate::base::align::{PAGE_BYTES, round_up};
use crate::base::bytes::{Fields, Truncated};
use crate::base::crc::{crc32c, crc32c_append};
use crate::model::{LogId, Position, Term, WallMs};

use super::entry::{ENTRY_HEADER_BYTES, Entries, EntryError};

pub const BLOCK_HEADER_BYTES: usize = 96;
/// "RMQB"
const MAGIC: u32 = u32::from_le_bytes(*b"RMQB");
pub const FORMAT_VERSION: u16 = 1;
const CHAIN_END: usize = 52;
const LOCAL_START: usize = 56;
const LOCAL_CRC_AT: usize = 72;

/// The rest of the segment after this block's first page is unused; the next block is the first of
/// the next segment. Only the first page of such a block is written.
pub const FLAG_SEGMENT_END: u16 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    pub log: LogId,
    pub term: Term,
    pub position: Position,
    pub flags: u16,
    /// From this block to the next, padding included: a multiple of the page.
    pub block_bytes: u32,
    pub entries_bytes: u32,
    pub entry_count: u32,
    pub entries_crc: u32,
    pub append_time: WallMs,
    /// [`BlockHeader::chain`] of the block before; 0 for the first of a log.
    pub prev_chain: u32,
    pub local: LocalPart,
}

/// What the machine that wrote the block knew; not part of the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalPart {
    /// Everything before this was on stable storage when the block was sealed.
    pub durable: Position,
    /// The log begins no block so far beyond its durable position.
    pub window_bytes: u64,
}

/// Why bytes are not the block that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("there is no block here")]
    NoBlock,
    #[error("the block header's checksum does not match")]
    HeaderCrc,
    #[error("block format version {0} is newer than this program knows")]
    Version(u16),
    #[error("the block's numbers cannot be, or contradict each other")]
    Numbers,
    #[error("the block's entry headers do not match their checksum")]
    EntriesCrc,
    #[error(transparent)]
    Entry(#[from] EntryError),
}

impl BlockHeader {
    /// Bytes of a block with this many bytes of entries.
    pub const fn bytes_for(entries_bytes: usize) -> usize {
        round_up(BLOCK_HEADER_BYTES + entries_bytes, PAGE_BYTES)
    }

    pub fn end(&self) -> Position {
        self.position.plus(u64::from(self.block_bytes))
    }

    /// Bytes of the block that are really on disk and are checked.
    pub fn stored_bytes(&self) -> usize {
        if self.flags & FLAG_SEGMENT_END != 0 { PAGE_BYTES } else { self.block_bytes as usize }
    }

    fn replicated_part(&self) -> [u8; CHAIN_END] {
        let mut out = [0; CHAIN_END];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[6..8].copy_from_slice(&self.flags.to_le_bytes());
        out[8..12].copy_from_slice(&self.log.0.to_le_bytes());
        out[12..16].copy_from_slice(&self.term.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.position.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.block_bytes.to_le_bytes());
        out[28..32].copy_from_slice(&self.entries_bytes.to_le_bytes());
        out[32..36].copy_from_slice(&self.entry_count.to_le_bytes());
        out[36..40].copy_from_slice(&self.entries_crc.to_le_bytes());
        out[40..48].copy_from_slice(&self.append_time.0.to_le_bytes());
        out[48..52].copy_from_slice(&self.prev_chain.to_le_bytes());
        out
    }

    /// The chain checksum: names this block and everything before it.
    pub fn chain(&self) -> u32 {
        crc32c(&self.replicated_part())
    }

    pub fn encode(&self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut out = [0; BLOCK_HEADER_BYTES];
        let replicated = self.replicated_part();
        out[..CHAIN_END].copy_from_slice(&replicated);
        out[CHAIN_END..LOCAL_START].copy_from_slice(&crc32c(&replicated).to_le_bytes());
        out[56..64].copy_from_slice(&self.local.durable.0.to_le_bytes());
        out[64..72].copy_from_slice(&self.local.window_bytes.to_le_bytes());
        let local_crc = crc32c(&out[CHAIN_END..LOCAL_CRC_AT]);
        out[72..76].copy_from_slice(&local_crc.to_le_bytes());
        out
    }

    /// Read and check the header at the front of `bytes` (at least a page); entries are not looked at.
    pub fn decode(bytes: &[u8]) -> Result<BlockHeader, BlockError> {
        let bytes = bytes.first_chunk::<BLOCK_HEADER_BYTES>().ok_or(BlockError::NoBlock)?;
        let mut fields = Fields::new(bytes);
        let mut read = || -> Result<_, Truncated> {
            let magic = fields.u32()?;
            let version = fields.u16()?;
            let flags = fields.u16()?;
            let header = BlockHeader {
                flags,
                log: LogId(fields.u32()?),
                term: Term(fields.u32()?),
                position: Position(fields.u64()?),
                block_bytes: fields.u32()?,
                entries_bytes: fields.u32()?,
                entry_count: fields.u32()?,
                entries_crc: fields.u32()?,
                append_time: WallMs(fields.i64()?),
                prev_chain: fields.u32()?,
                local: LocalPart::default(),
            };
            let chain = fields.u32()?;
            let local = LocalPart { durable: Position(fields.u64()?), window_bytes: fields.u64()? };
            Ok((magic, version, BlockHeader { local, ..header }, chain, fields.u32()?))
        };
        let (magic, version, header, chain, local_crc) = read().map_err(|_| BlockError::NoBlock)?;
        if magic != MAGIC {
            return Err(BlockError::NoBlock);
        }
        if crc32c(&bytes[..CHAIN_END]) != chain || crc32c(&bytes[CHAIN_END..LOCAL_CRC_AT]) != local_crc {
            return Err(BlockError::HeaderCrc);
        }
        if version != FORMAT_VERSION {
            return Err(BlockError::Version(version));
        }
        let stored = header.stored_bytes();
        if !(header.block_bytes as usize).is_multiple_of(PAGE_BYTES)
            || header.block_bytes == 0
            || !header.position.0.is_multiple_of(PAGE_BYTES as u64)
            || header.position > Position::MAX
            || header.term > Term::MAX
            || BLOCK_HEADER_BYTES + header.entries_bytes as usize > stored
            || header.entry_count as usize > header.entries_bytes as usize / ENTRY_HEADER_BYTES
        {
            return Err(BlockError::Numbers);
        }
        Ok(header)
    }

    /// The entries of this block, whose bytes start at the header.
    pub fn entries<'a>(&self, block: &'a [u8]) -> Entries<'a> {
        Entries::new(&block[BLOCK_HEADER_BYTES..BLOCK_HEADER_BYTES + self.entries_bytes as usize])
    }

    /// Check all entries of this block, payloads included.
    pub fn check_entries(&self, block: &[u8]) -> Result<(), BlockError> {
        let mut crc = 0;
        let mut count = 0;
        for entry in self.entries(block) {
            let (_, header, payload) = entry?;
            crc = crc32c_append(crc, &header.encode());
            header.check_payload(payload)?;
            count += 1;
        }
        if crc != self.entries_crc || count != self.entry_count {
            return Err(BlockError::EntriesCrc);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BlockHeader {
        BlockHeader {
            log: LogId(1),
            term: Term(4),
            position: Position(8192),
            flags: 0,
            block_bytes: 4096,
            entries_bytes: 0,
            entry_count: 0,
            entries_crc: 0,
            append_time: WallMs(1_700_000_000_000),
            prev_chain: 77,
            local: LocalPart { durable: Position(4096), window_bytes: 1 << 20 },
        }
    }

    #[test]
    fn comes_back_as_written_and_every_flipped_bit_is_noticed() {
        let bytes = header().encode();
        assert_eq!(BlockHeader::decode(&bytes), Ok(header()));
        for bit in 0..76 * 8 {
            let mut broken = bytes;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(BlockHeader::decode(&broken).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_chain_covers_the_past_but_not_what_only_this_machine_knew() {
        let other_past = BlockHeader { prev_chain: 78, ..header() };
        let other_machine = BlockHeader { local: LocalPart::default(), ..header() };
        assert_ne!(header().chain(), other_past.chain());
        assert_eq!(header().chain(), other_machine.chain());
    }

    #[test]
    fn numbers_that_contradict_each_other_are_refused() {
        for broken in [
            BlockHeader { block_bytes: 4095, ..header() },
            BlockHeader { block_bytes: 0, flags: FLAG_SEGMENT_END, ..header() },
            BlockHeader { position: Position(u64::MAX - 4095), ..header() },
            BlockHeader { term: Term(u32::MAX), ..header() },
            BlockHeader { entries_bytes: 4096, ..header() },
            BlockHeader { entries_bytes: 40, entry_count: 2, ..header() },
            BlockHeader { position: Position(1), ..header() },
        ] {
            assert_eq!(BlockHeader::decode(&broken.encode()), Err(BlockError::Numbers));
        }
    }
}
