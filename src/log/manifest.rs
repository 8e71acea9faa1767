//! The manifest of a log: which file holds which positions, and what else must be known before the
//! log can be read. Two copies, written in turn; the valid one with the higher sequence counts.
//!
//! ```text
//!  0       4         6          8          16          32       36     40         48         56
//!  | magic | version | flags    | sequence | broker id | log id | term | durable  | window   |
//!  | u32   | u16     | u16      | u64      | 16 bytes  | u32    | u32  | u64      | u64      |
//!  56                  60              64
//!  | next file number  | segment count | segments: { number u32, flags u32, base u64, bytes u64 } ...
//!  then CRC-32C of all before it (u32), zeros up to a page
//! ```
//!
//! `durable` is a lower bound of the durable position: an idle log records it here, so that rot of
//! its last blocks is not mistaken for a torn tail. Flag 1: the log was closed in order and ends at
//! `durable`. Segment flag 1: the file held older blocks before.
//! Little-endian.

use std::path::{Path, PathBuf};

use crate::base::align::PAGE_BYTES;
use crate::base::bytes::{Fields, Truncated};
use crate::base::crc::crc32c;
use crate::base::mutant::{self, Mutant};
use crate::io::buffer::PageBuf;
use crate::io::file::Disk;
use crate::model::{LogId, Position, Term};

const MAGIC: u32 = u32::from_le_bytes(*b"RMQM");
pub const MANIFEST_VERSION: u16 = 1;
const CLEAN: u16 = 1;
const SEGMENT_RECYCLED: u32 = 1;
const SEGMENT_RECORD_BYTES: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRecord {
    /// Names the file; never reused for another.
    pub number: u32,
    pub base: Position,
    pub bytes: u64,
    /// The file held older blocks before, so its first write is an overwrite of data, not of zeros.
    pub recycled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub sequence: u64,
    /// The broker that this log belongs to.
    pub broker: [u8; 16],
    pub log: LogId,
    /// The highest term in which the log was opened.
    pub term: Term,
    /// The log was closed in order and ends at `durable`; stale as soon as it was opened again.
    pub clean: bool,
    pub durable: Position,
    /// No block was begun so far beyond the durable position.
    pub window_bytes: u64,
    pub next_number: u32,
    /// By base, without gaps.
    pub segments: Vec<SegmentRecord>,
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("neither copy of the manifest is readable ({first}; {second})")]
    BothBroken { first: String, second: String },
    #[error(
        "the manifest has format version {0}, which is newer than this program: use the program that wrote it, or a newer one"
    )]
    Version(u16),
    #[error("the manifest lists segments that do not follow each other, or its numbers cannot be")]
    Segments,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Why a copy does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    #[error("missing")]
    Missing,
    #[error("{0}")]
    Broken(&'static str),
    #[error("format version {0} is newer than this program")]
    Version(u16),
}

impl From<Truncated> for CopyError {
    fn from(_: Truncated) -> CopyError {
        CopyError::Broken("cut short")
    }
}

pub fn manifest_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("manifest-{}", sequence % 2))
}

impl Manifest {
    /// The log was closed in order, and ended there.
    pub fn closed_at(&self, end: Position) -> bool {
        self.clean && self.durable == end
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.segments.len() * SEGMENT_RECORD_BYTES + 4);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&MANIFEST_VERSION.to_le_bytes());
        out.extend_from_slice(&(if self.clean { CLEAN } else { 0 }).to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.broker);
        out.extend_from_slice(&self.log.0.to_le_bytes());
        out.extend_from_slice(&self.term.0.to_le_bytes());
        out.extend_from_slice(&self.durable.0.to_le_bytes());
        out.extend_from_slice(&self.window_bytes.to_le_bytes());
        out.extend_from_slice(&self.next_number.to_le_bytes());
        out.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        for segment in &self.segments {
            let flags = if segment.recycled { SEGMENT_RECYCLED } else { 0 };
            out.extend_from_slice(&segment.number.to_le_bytes());
            out.extend_from_slice(&flags.to_le_bytes());
            out.extend_from_slice(&segment.base.0.to_le_bytes());
            out.extend_from_slice(&segment.bytes.to_le_bytes());
        }
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Read a copy; what follows it in `bytes` is ignored.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, CopyError> {
        let mut fields = Fields::new(bytes);
        if fields.u32()? != MAGIC {
            return Err(CopyError::Broken("not a manifest"));
        }
        let version = fields.u16()?;
        let clean = fields.u16()? & CLEAN != 0;
        let sequence = fields.u64()?;
        let broker = fields.array()?;
        let log = LogId(fields.u32()?);
        let term = Term(fields.u32()?);
        let durable = Position(fields.u64()?);
        let window_bytes = fields.u64()?;
        let next_number = fields.u32()?;
        let count = fields.count(SEGMENT_RECORD_BYTES)?;
        let mut segments = Vec::with_capacity(count);
        for _ in 0..count {
            let number = fields.u32()?;
            let recycled = fields.u32()? & SEGMENT_RECYCLED != 0;
            segments.push(SegmentRecord {
                number,
                recycled,
                base: Position(fields.u64()?),
                bytes: fields.u64()?,
            });
        }
        let covered = bytes.len() - fields.rest().len();
        if fields.u32()? != crc32c(&bytes[..covered]) {
            return Err(CopyError::Broken("its checksum does not match"));
        }
        // Only now: a version is only believed when its checksum is right.
        if version != MANIFEST_VERSION {
            return Err(CopyError::Version(version));
        }
        Ok(Manifest { sequence, broker, log, term, clean, durable, window_bytes, next_number, segments })
    }

    /// Read one of the two copies, whether it is the one that counts or not.
    pub async fn read_copy<D: Disk>(
        disk: &D,
        dir: &Path,
        copy: u64,
    ) -> std::io::Result<Result<Manifest, CopyError>> {
        let path = manifest_path(dir, copy);
        if !disk.exists(&path).await? {
            return Ok(Err(CopyError::Missing));
        }
        let file = disk.open(&path).await?;
        let size = disk.size(&file).await? as usize;
        let mut buf = PageBuf::zeroed(size);
        let read = disk.read_at(&file, 0, &mut buf).await?;
        Ok(Manifest::decode(&buf[..read]))
    }

    /// Read the copy that counts.
    ///
    /// # Errors
    /// Both copies broken or missing; a newer format; segments with gaps between them.
    pub async fn read<D: Disk>(disk: &D, dir: &Path) -> Result<Manifest, ManifestError> {
        let mut best: Option<Manifest> = None;
        let mut broken = Vec::new();
        for copy in 0..2 {
            match Manifest::read_copy(disk, dir, copy).await? {
                Ok(manifest) if best.as_ref().is_none_or(|best| best.sequence < manifest.sequence) => {
                    best = Some(manifest);
                }
                Ok(_) => {}
                Err(CopyError::Version(version)) => return Err(ManifestError::Version(version)),
                Err(error) => broken.push(format!("{}: {error}", manifest_path(dir, copy).display())),
            }
        }
        let Some(manifest) = best else {
            let second = broken.pop().unwrap_or_default();
            return Err(ManifestError::BothBroken { first: broken.pop().unwrap_or_default(), second });
        };
        if !manifest.is_possible() {
            return Err(ManifestError::Segments);
        }
        Ok(manifest)
    }

    /// There are segments of whole pages, one after the other, in files of their own; the next file's
    /// name is free, what is durable lies in them, and the counters can go on counting.
    fn is_possible(&self) -> bool {
        let possible = |segment: &SegmentRecord| {
            let end = segment.base.0.checked_add(segment.bytes);
            segment.bytes > 0
                && segment.bytes.is_multiple_of(PAGE_BYTES as u64)
                && segment.base.0.is_multiple_of(PAGE_BYTES as u64)
                && end.is_some_and(|end| end <= Position::MAX.0)
                && segment.number < self.next_number
        };
        let mut numbers: Vec<u32> = self.segments.iter().map(|segment| segment.number).collect();
        numbers.sort_unstable();
        self.segments.iter().all(possible)
            && self.segments.last().is_some_and(|last| self.durable <= last.base.plus(last.bytes))
            && self.segments.windows(2).all(|pair| pair[0].base.plus(pair[0].bytes) == pair[1].base)
            && numbers.windows(2).all(|pair| pair[0] != pair[1])
            && self.term <= Term::MAX
            && self.next_number <= u32::MAX / 2
            && self.sequence <= u64::MAX / 2
    }

    /// Write this manifest over the older copy and make it durable. Until that has returned, the
    /// other copy counts.
    pub async fn write<D: Disk>(&self, disk: &D, dir: &Path) -> std::io::Result<()> {
        let path = manifest_path(dir, self.sequence);
        let new = !disk.exists(&path).await?;
        let file = if new { disk.create(&path).await? } else { disk.open(&path).await? };
        disk.write_at(&file, 0, &PageBuf::from_bytes(&self.encode())).await?;
        if mutant::is(Mutant::SkipManifestSync) {
            return Ok(());
        }
        disk.sync(&file).await?;
        // Also of an old file: the attempt that made it may have failed before this.
        disk.sync_dir(dir).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_written_and_every_flipped_bit_is_noticed() {
        let manifest = Manifest {
            sequence: 9,
            broker: [7; 16],
            log: LogId(2),
            term: Term(3),
            clean: true,
            durable: Position(4096),
            window_bytes: 1 << 22,
            next_number: 12,
            segments: vec![
                SegmentRecord { number: 4, base: Position(0), bytes: 8192, recycled: false },
                SegmentRecord { number: 11, base: Position(8192), bytes: 4096, recycled: true },
            ],
        };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes).ok(), Some(manifest.clone()));
        let mut padded = bytes.clone();
        padded.resize(4096, 0);
        assert_eq!(Manifest::decode(&padded).ok(), Some(manifest));
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&broken).is_err(), "bit {bit}");
        }
    }
}
