//! What lies behind the last valid block: a torn tail, which nobody was told is safe, or corruption.

use std::io;

use super::rebuild::PROGRESS_BYTES;
use super::scan::Scan;
use crate::base::align::PAGE_BYTES;
use crate::base::mutant::{self, Mutant};
use crate::io::file::Disk;
use crate::log::block::{BlockError, BlockHeader};
use crate::log::segment::Segment;
use crate::model::{LogId, Position, Term};

/// Blocks are looked for this far beyond the window, and in the rest of the segment: what lies there was written.
const EVIDENCE_BYTES: u64 = 64 << 20;

/// Where the valid blocks end, and what is known of the time before.
pub struct Tail {
    pub log: LogId,
    pub end: Position,
    /// Of the last valid block.
    pub term: Term,
    /// Everything before this was on stable storage once.
    pub durable: Position,
    /// No block was begun so far beyond the durable position.
    pub window_bytes: u64,
    /// The log was closed in order when it ended here, in this term: nothing was in flight.
    pub closed_in: Option<Term>,
}

/// What the first invalid block means.
pub enum Verdict {
    /// The log ends there; `torn` if something was cut off that nobody was told is safe.
    End { torn: bool },
    /// Acknowledged bytes are rotten: something up to `durable`, or blocks up to `last` that were begun when
    /// those before them were durable.
    Corrupt { durable: Position, last: Position },
}

/// Tell a torn tail from corruption: see [recovery](super). Shared with `inspect`, which must say the same.
pub async fn judge<'a, D: Disk>(
    disk: &D,
    segments: impl Iterator<Item = &'a Segment>,
    tail: &Tail,
    problem: BlockError,
    progress: &mut dyn FnMut(Position),
) -> io::Result<Verdict> {
    let evidence = look_beyond(disk, segments, tail, progress).await?;
    let durable = tail.durable.max(evidence.durable);
    let window_bytes = if mutant::is(Mutant::RefuseTornTail) { 0 } else { tail.window_bytes };
    let written_since = evidence.last_block.is_some_and(|last| last.since(tail.end) >= window_bytes);
    if (tail.end < durable || written_since) && !mutant::is(Mutant::TruncateRot) {
        return Ok(Verdict::Corrupt { durable, last: evidence.last_block.unwrap_or(tail.end) });
    }
    let cut_off = tail.closed_in.is_none() && problem != BlockError::NoBlock;
    Ok(Verdict::End { torn: evidence.last_block.is_some() || cut_off })
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
    progress: &mut dyn FnMut(Position),
) -> io::Result<Evidence> {
    let mut evidence = Evidence { durable: Position::ZERO, last_block: None };
    // A life that closed the log has written nothing behind. A later one may have, where the manifest is an older copy;
    // its term is higher, which a client that made a page look like a block of the life before did not know.
    let first_term = tail.closed_in.map_or(tail.term, |last| Term(last.max(tail.term).0 + 1));
    let mut told = tail.end;
    // The window is what a block or a manifest says.
    let mut limit = Position(tail.end.0.saturating_add(tail.window_bytes).saturating_add(EVIDENCE_BYTES));
    for segment in segments.filter(|segment| segment.end() > tail.end) {
        if segment.contains(tail.end) && tail.closed_in.is_none() {
            // The block here may be one large batch, or all that is left of the segment, and its header rotten: then
            // nobody knows where the next one is, but that it begins in this segment or with the next.
            limit = limit.max(segment.end().plus(PAGE_BYTES as u64));
        }
        let mut scan = Scan::new(disk, &segment.file, segment.base(), segment.end());
        let mut at = segment.base().max(tail.end);
        while at < segment.end().min(limit) {
            if at.since(told) >= PROGRESS_BYTES {
                told = at;
                progress(at);
            }
            if let Ok(header) = BlockHeader::decode(scan.bytes(at, PAGE_BYTES).await?)
                && header.log == tail.log
                && (header.position == at || mutant::is(Mutant::SkipPositionCheck))
                && header.term >= first_term
                && header.local.durable <= at
            {
                evidence.durable = evidence.durable.max(header.local.durable);
                evidence.last_block = Some(at);
                if at.since(tail.end) < tail.window_bytes {
                    // It may have been in flight itself. What follows it tells.
                    limit = limit.max(at.plus(u64::from(header.block_bytes) + PAGE_BYTES as u64));
                }
            }
            at = at.plus(PAGE_BYTES as u64);
        }
    }
    Ok(evidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::blocking::{BlockingDisk, block_on, disk_folder};
    use crate::log::block::LocalPart;
    use crate::log::manifest::SegmentRecord;
    use crate::model::WallMs;
    use std::collections::VecDeque;
    use std::os::unix::fs::FileExt;

    const LOG: LogId = LogId(1);
    const MIB: u64 = 1 << 20;
    const SEGMENT_BYTES: u64 = 128 * MIB;
    const WINDOW_BYTES: u64 = 6 * MIB;
    /// The log ends in the first of two segments.
    const END: Position = Position(8 * MIB);
    const TERM: Term = Term(5);

    fn header(position: Position, block_bytes: u64) -> BlockHeader {
        BlockHeader {
            log: LOG,
            term: TERM,
            position,
            flags: 0,
            block_bytes: block_bytes as u32,
            entries_bytes: 0,
            entry_count: 0,
            entries_crc: 0,
            append_time: WallMs(1),
            prev_chain: 1,
            local: LocalPart { durable: END, window_bytes: WINDOW_BYTES },
        }
    }

    /// What is told of a log that ends there and has these headers behind.
    fn verdict(end: Position, headers: &[BlockHeader], closed_in: Option<Term>) -> String {
        let folder = disk_folder();
        let mut segments = VecDeque::new();
        for number in 1..=2 {
            let path = folder.path().join(format!("{number}"));
            let (file, base) =
                (std::fs::File::create(&path).unwrap(), (u64::from(number) - 1) * SEGMENT_BYTES);
            // Holes read as zeros, and take no time to make.
            file.set_len(SEGMENT_BYTES).unwrap();
            for header in headers {
                if (base..base + SEGMENT_BYTES).contains(&header.position.0) {
                    file.write_all_at(&header.encode(), header.position.0 - base).unwrap();
                }
            }
            file.sync_all().unwrap();
            let record =
                SegmentRecord { number, base: Position(base), bytes: SEGMENT_BYTES, recycled: false };
            let file = block_on(BlockingDisk.open(&path)).unwrap();
            segments.push_back(Segment { record, file });
        }
        let tail = Tail { log: LOG, end, term: TERM, durable: end, window_bytes: WINDOW_BYTES, closed_in };
        let (problem, mut told) = (BlockError::NoBlock, end);
        let progress = &mut |at| {
            assert!(at >= told.plus(PROGRESS_BYTES) && at < Position(2 * SEGMENT_BYTES));
            told = at;
        };
        match block_on(judge(&BlockingDisk, segments.iter(), &tail, problem, progress)).unwrap() {
            Verdict::End { torn: true } => "torn".to_owned(),
            Verdict::End { torn: false } => "whole".to_owned(),
            Verdict::Corrupt { last, .. } => format!("corrupt up to {} MiB", last.0 / MIB),
        }
    }

    #[test]
    fn what_follows_a_block_of_any_size_tells_that_it_was_durable() {
        let at = |mib| Position(mib * MIB);
        let (end, second) = (END.0 / MIB, SEGMENT_BYTES / MIB);
        let large = header(END, 100 * MIB);
        let behind = header(at(end + 100), MIB);
        for (what, headers, expected) in [
            ("nothing", vec![], "whole"),
            ("a block that was in flight", vec![header(END, MIB)], "torn"),
            ("the next one, too", vec![header(at(end + 1), MIB)], "torn"),
            ("one that begins beyond the window", vec![header(at(end + 6), MIB)], "corrupt up to 14 MiB"),
            ("a large one that was in flight", vec![large], "torn"),
            ("one behind a large one", vec![large, behind], "corrupt up to 108 MiB"),
            ("one behind a large one without header", vec![behind], "corrupt up to 108 MiB"),
            ("the first of the next segment", vec![header(at(second), MIB)], "corrupt up to 128 MiB"),
        ] {
            assert_eq!(verdict(END, &headers, None), expected, "{what}");
        }
    }

    #[test]
    fn of_large_blocks_in_flight_the_one_behind_tells() {
        // The segment ends within the window, and the next one begins with a large block.
        let (near, next) = (Position(SEGMENT_BYTES - MIB), Position(SEGMENT_BYTES));
        let large = header(next, 100 * MIB);
        let behind = header(large.end(), MIB);
        assert_eq!(verdict(near, &[large], None), "torn");
        assert_eq!(verdict(near, &[large, behind], None), "corrupt up to 228 MiB");
    }

    #[test]
    fn a_page_that_cannot_be_a_block_of_the_log_is_no_evidence() {
        let at = Position(END.0 + WINDOW_BYTES);
        let sound = header(at, MIB);
        let ahead = LocalPart { durable: at.plus(4096), ..sound.local };
        for other in [
            BlockHeader { log: LogId(2), ..sound },
            BlockHeader { term: Term(4), ..sound },
            BlockHeader { local: ahead, ..sound },
        ] {
            assert_eq!(verdict(END, &[other], None), "whole", "{other:?}");
        }
        assert_eq!(verdict(END, &[sound], None), "corrupt up to 14 MiB");
        assert_eq!(verdict(END, &[sound], Some(TERM)), "whole", "its life has written nothing there");
        // The manifest is a copy of before; the next life's first block is rotten, and another one is there.
        let next = BlockHeader { term: Term(TERM.0 + 1), ..sound };
        assert_eq!(verdict(END, &[next], Some(TERM)), "corrupt up to 14 MiB");
        assert_eq!(verdict(END, &[next], Some(next.term)), "whole");
    }
}
