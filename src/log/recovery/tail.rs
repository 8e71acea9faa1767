//! What lies behind the last valid block: a torn tail, which nobody was told is safe, or corruption.

use std::io;

use super::scan::Scan;
use crate::base::align::PAGE_BYTES;
use crate::base::mutant::{self, Mutant};
use crate::io::file::Disk;
use crate::log::block::{BlockError, BlockHeader};
use crate::log::segment::Segment;
use crate::model::{LogId, Position, Term};

/// Blocks are looked for at most this far beyond the window: what lies there was written before.
const EVIDENCE_BYTES: u64 = 64 << 20;

/// Where the valid blocks end, and what is known of the time before.
pub struct Tail {
    pub log: LogId,
    pub end: Position,
    /// Of the last valid block.
    pub term: Term,
    /// Everything before this was on stable storage once.
    pub durable: Position,
    /// How far beyond the durable position writes may have been in flight.
    pub window_bytes: u64,
}

/// What the first invalid block means.
pub enum Verdict {
    /// The log ends there; `torn` if something was cut off that nobody was told is safe.
    End { torn: bool },
    /// Acknowledged bytes are rotten: something up to `durable`, or blocks up to `last` that were
    /// written later than what is in flight at one time.
    Corrupt { durable: Position, last: Position },
}

/// Tell a torn tail from corruption: see [recovery](super). Shared with `inspect`, which must say the same.
pub async fn judge<'a, D: Disk>(
    disk: &D,
    segments: impl Iterator<Item = &'a Segment>,
    tail: &Tail,
    problem: BlockError,
) -> io::Result<Verdict> {
    let evidence = look_beyond(disk, segments, tail).await?;
    let durable = tail.durable.max(evidence.durable);
    let window_bytes = if mutant::is(Mutant::RefuseTornTail) { 0 } else { tail.window_bytes };
    let written_since = evidence.last_block.is_some_and(|last| last.since(tail.end) >= window_bytes);
    if (tail.end < durable || written_since) && !mutant::is(Mutant::TruncateRot) {
        return Ok(Verdict::Corrupt { durable, last: evidence.last_block.unwrap_or(tail.end) });
    }
    Ok(Verdict::End { torn: evidence.last_block.is_some() || problem != BlockError::NoBlock })
}

/// What the bytes after the log's end say about the time before.
struct Evidence {
    durable: Position,
    /// Where the last block of the current term begins.
    last_block: Option<Position>,
}

/// Look for blocks of this log behind the first invalid one.
async fn look_beyond<'a, D: Disk>(
    disk: &D,
    segments: impl Iterator<Item = &'a Segment>,
    tail: &Tail,
) -> io::Result<Evidence> {
    let mut evidence = Evidence { durable: Position::ZERO, last_block: None };
    // The window is what a block or a manifest says.
    let limit = Position(tail.end.0.saturating_add(tail.window_bytes).saturating_add(EVIDENCE_BYTES));
    for segment in segments.filter(|segment| segment.end() > tail.end && segment.base() < limit) {
        let mut scan = Scan::new(disk, &segment.file, segment.base(), segment.end());
        let mut at = segment.base().max(tail.end);
        let end = segment.end().min(limit);
        while at < end {
            if let Ok(header) = BlockHeader::decode(scan.bytes(at, PAGE_BYTES).await?)
                && header.log == tail.log
                && (header.position == at || mutant::is(Mutant::SkipPositionCheck))
                && header.term >= tail.term
            {
                evidence.durable = evidence.durable.max(header.local.durable);
                evidence.last_block = Some(at);
            }
            at = at.plus(PAGE_BYTES as u64);
        }
    }
    Ok(evidence)
}
