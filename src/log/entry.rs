//! An entry: one thing a log remembers. A header of 40 bytes and the payload as its writer sent it.
//!
//! ```text
//!  0         4     5      6         8      12      16            24             32            36
//!  | payload | kind| flags| reserved| slot | count | base offset | max timestamp| payload CRC | header CRC |
//!  |   u32   | u8  | u8=0 |  u16=0  | u32  |  u32  |     i64     |     i64 (ms) |     u32     |    u32     |
//!  40: payload, then zeros up to the next multiple of 8
//! ```
//!
//! The header's CRC covers bytes 0..36. The payload's CRC is CRC-32C of the payload; for a Kafka
//! batch it is *rotated* (`codec::record_batch::stored_crc`): the client's own checksum covers the
//! batch from byte 21, so continuing it over bytes 0..21 checks every byte and computes 21.
//! Little-endian. docs/FORMATS.md has the table of kinds.

use crate::base::align::round_up;
use crate::base::bytes::Fields;
use crate::base::crc::{crc32c, crc32c_append};
use crate::model::{Offset, Slot};

pub const ENTRY_HEADER_BYTES: usize = 40;
const ENTRY_ALIGN: usize = 8;
const _: () = assert!(ENTRY_HEADER_BYTES.is_multiple_of(ENTRY_ALIGN));

/// In a Kafka batch, the client's checksum covers everything from here on.
const BATCH_CRC_START: usize = 21;

/// What an entry is. The numbers are the format; they are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// The log was opened in a new term. Payload: term (u32).
    TermOpen = 1,
    /// Names the partition that a slot stands for, before the slot's first entry.
    /// Payload: topic id (16 bytes), partition index (i32).
    SlotOpen = 2,
    /// A Kafka record batch, verbatim but for base offset and leader epoch.
    KafkaBatch = 3,
    /// Records of the slot below `base_offset` are deleted. No payload.
    LogStart = 4,
    /// The partition is deleted and the slot is dead. No payload.
    SlotClose = 5,
    /// Committed offsets of a consumer group. Payload: `partition::group_offsets`.
    GroupOffsets = 6,
    /// A record of the metadata log. Payload: `metadata::record`.
    Metadata = 7,
    /// The members of a consumer group. Payload: `group::record`.
    GroupState = 8,
}

impl EntryKind {
    fn from_byte(byte: u8) -> Option<EntryKind> {
        Some(match byte {
            1 => EntryKind::TermOpen,
            2 => EntryKind::SlotOpen,
            3 => EntryKind::KafkaBatch,
            4 => EntryKind::LogStart,
            5 => EntryKind::SlotClose,
            6 => EntryKind::GroupOffsets,
            7 => EntryKind::Metadata,
            8 => EntryKind::GroupState,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            EntryKind::TermOpen => "term-open",
            EntryKind::SlotOpen => "slot-open",
            EntryKind::KafkaBatch => "kafka-batch",
            EntryKind::LogStart => "log-start",
            EntryKind::SlotClose => "slot-close",
            EntryKind::GroupOffsets => "group-offsets",
            EntryKind::Metadata => "metadata",
            EntryKind::GroupState => "group-state",
        }
    }

    /// The kind holds records of a partition: it takes offsets and lives until retention.
    pub fn is_data(self) -> bool {
        matches!(self, EntryKind::KafkaBatch)
    }

    /// Written to make room, or because nothing goes on without it: may take the last pages of a full log.
    pub fn may_use_reserve(self) -> bool {
        matches!(self, EntryKind::TermOpen | EntryKind::LogStart | EntryKind::SlotClose)
    }

    /// The checksum of a payload of this kind, computed in full.
    pub fn payload_crc(self, payload: &[u8]) -> u32 {
        match self {
            EntryKind::KafkaBatch if payload.len() >= BATCH_CRC_START => {
                let (head, covered) = payload.split_at(BATCH_CRC_START);
                crc32c_append(crc32c(covered), head)
            }
            _ => crc32c(payload),
        }
    }
}

/// The header of an entry, without its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    pub kind: EntryKind,
    pub slot: Slot,
    /// Offset of the first record; 0 for kinds without records.
    pub base_offset: Offset,
    /// How many offsets the entry takes.
    pub count: u32,
    /// Milliseconds since 1970; for data the largest of its records.
    pub max_timestamp: i64,
    pub payload_bytes: u32,
    pub payload_crc: u32,
}

/// Why bytes are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("the entry ends beyond its block")]
    Truncated,
    #[error("the entry header's checksum does not match")]
    HeaderCrc,
    #[error("the entry's payload does not match its checksum")]
    PayloadCrc,
    #[error("entry kind {0} is not known to this version")]
    UnknownKind(u8),
}

impl EntryHeader {
    /// Bytes that an entry with this many payload bytes takes in a block.
    pub const fn entry_bytes(payload_bytes: usize) -> usize {
        round_up(ENTRY_HEADER_BYTES + payload_bytes, ENTRY_ALIGN)
    }

    /// The most payload bytes of an entry that takes so many bytes in a block.
    pub const fn payload_bytes_max(entry_bytes: usize) -> usize {
        entry_bytes / ENTRY_ALIGN * ENTRY_ALIGN - ENTRY_HEADER_BYTES
    }

    /// Bytes from this entry's first to the next entry's.
    pub fn stored_bytes(&self) -> usize {
        EntryHeader::entry_bytes(self.payload_bytes as usize)
    }

    pub fn end_offset(&self) -> Offset {
        self.base_offset.plus(self.count)
    }

    pub fn encode(&self) -> [u8; ENTRY_HEADER_BYTES] {
        let mut out = [0; ENTRY_HEADER_BYTES];
        out[0..4].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[4] = self.kind as u8;
        out[8..12].copy_from_slice(&self.slot.0.to_le_bytes());
        out[12..16].copy_from_slice(&self.count.to_le_bytes());
        out[16..24].copy_from_slice(&self.base_offset.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.max_timestamp.to_le_bytes());
        out[32..36].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32c(&out[0..36]);
        out[36..40].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Read the header at the front of `bytes`, which reach to the end of the block's entries.
    /// Checks the header's own checksum and that the payload is within `bytes`, not the payload.
    pub fn decode(bytes: &[u8]) -> Result<EntryHeader, EntryError> {
        let header = bytes.first_chunk::<ENTRY_HEADER_BYTES>().ok_or(EntryError::Truncated)?;
        let mut fields = Fields::new(header);
        let mut read = || -> Result<_, crate::base::bytes::Truncated> {
            let payload_bytes = fields.u32()?;
            let kind = fields.u8()?;
            fields.bytes(3)?;
            Ok((
                kind,
                EntryHeader {
                    kind: EntryKind::TermOpen,
                    slot: Slot(fields.u32()?),
                    count: fields.u32()?,
                    base_offset: Offset(fields.i64()?),
                    max_timestamp: fields.i64()?,
                    payload_bytes,
                    payload_crc: fields.u32()?,
                },
                fields.u32()?,
            ))
        };
        let (kind, mut entry, crc) = read().map_err(|_| EntryError::Truncated)?;
        if crc32c(&header[0..36]) != crc {
            return Err(EntryError::HeaderCrc);
        }
        entry.kind = EntryKind::from_byte(kind).ok_or(EntryError::UnknownKind(kind))?;
        if entry.stored_bytes() > bytes.len() {
            return Err(EntryError::Truncated);
        }
        Ok(entry)
    }

    /// The payload of the entry at the front of `bytes`, from which this header was decoded.
    pub fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[ENTRY_HEADER_BYTES..ENTRY_HEADER_BYTES + self.payload_bytes as usize]
    }

    /// Does the payload match its checksum? Reads all of it.
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), EntryError> {
        if self.kind.payload_crc(payload) == self.payload_crc { Ok(()) } else { Err(EntryError::PayloadCrc) }
    }
}

/// The entries of a block, in order: where each starts (relative to the first), its header and payload.
/// Ends after the first error.
pub struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Entries<'a> {
    /// `bytes` are the block's entries: after its header, without its padding.
    pub fn new(bytes: &'a [u8]) -> Entries<'a> {
        Entries { bytes, at: 0 }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(usize, EntryHeader, &'a [u8]), EntryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return None;
        }
        let start = self.at;
        Some(match EntryHeader::decode(rest) {
            Ok(header) => {
                self.at += header.stored_bytes();
                Ok((start, header, header.payload(rest)))
            }
            Err(error) => {
                self.at = self.bytes.len();
                Err(error)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(payload: &[u8]) -> Vec<u8> {
        let header = EntryHeader {
            kind: EntryKind::Metadata,
            slot: Slot(3),
            base_offset: Offset(17),
            count: 2,
            max_timestamp: -1,
            payload_bytes: payload.len() as u32,
            payload_crc: EntryKind::Metadata.payload_crc(payload),
        };
        let mut out = header.encode().to_vec();
        out.extend_from_slice(payload);
        out.resize(header.stored_bytes(), 0);
        out
    }

    #[test]
    fn entries_come_back_as_written() {
        let mut bytes = entry(b"first");
        bytes.extend(entry(b""));
        let read: Vec<_> = Entries::new(&bytes).map(|entry| entry.unwrap()).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].0, read[0].2), (0, &b"first"[..]));
        assert_eq!((read[1].0, read[1].2), (48, &b""[..]));
        assert_eq!(read[0].1.end_offset(), Offset(19));
        read[0].1.check_payload(b"first").unwrap();
        assert_eq!(read[0].1.check_payload(b"First"), Err(EntryError::PayloadCrc));
    }

    #[test]
    fn every_flipped_header_bit_is_noticed() {
        let bytes = entry(b"payload");
        for bit in 0..ENTRY_HEADER_BYTES * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(EntryHeader::decode(&broken).is_err(), "bit {bit}");
        }
        assert_eq!(EntryHeader::decode(&bytes[..47]), Err(EntryError::Truncated));
    }

    #[test]
    fn a_batch_is_checked_as_a_whole_although_its_crc_comes_from_the_client() {
        let mut batch = vec![0u8; 80];
        batch[60] = 9;
        let client_crc = crc32c(&batch[21..]);
        let stored = crc32c_append(client_crc, &batch[..21]);
        assert_eq!(EntryKind::KafkaBatch.payload_crc(&batch), stored);
        for byte in 0..batch.len() {
            let mut broken = batch.clone();
            broken[byte] ^= 0x40;
            assert_ne!(EntryKind::KafkaBatch.payload_crc(&broken), stored, "byte {byte}");
        }
    }
}
