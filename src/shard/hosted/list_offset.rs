//! Which offset lies at one of a partition's ends, or at a time.
//!
//! Times are found by runs, then batches, then records. Runs and batches know the largest timestamp of
//! all their records, as the producer says; where the partition's start lies within one, that may be of a
//! record before it.

use bytes::Bytes;

use crate::base::mutant::{self, Mutant};
use crate::codec::time_scan::{Found, Wanted};
use crate::log::consume_queue::Run;
use crate::log::entry::{EntryHeader, EntryKind};
use crate::metadata::catalog::Catalog;
use crate::model::{Offset, Slot};
use crate::shard::call::{CallError, FoundOffset, OffsetSpec};

use super::Hosted;
use super::search::{Search, Stop};

impl Hosted {
    /// Where the search leads, or why it does not go on in this turn.
    pub(super) fn list_offset(
        &mut self,
        search: &mut Search,
        catalog: &Catalog,
    ) -> Result<Result<Option<FoundOffset>, CallError>, Stop> {
        search.go_on(&mut self.search_bytes_left)?;
        let slot = match self.known(search.partition, catalog) {
            Ok(slot) => slot,
            Err(error) => return Ok(Err(error)),
        };
        let (start, end) = self.bounds(slot);
        let found = match (search.spec, slot) {
            (OffsetSpec::Earliest, _) => Some((start, -1)),
            (OffsetSpec::Latest, _) => Some((end, -1)),
            (_, None) => None,
            (OffsetSpec::AtOrAfter(timestamp), Some(slot)) => {
                self.first_at_or_after(search, slot, start, timestamp)?
            }
            (OffsetSpec::MaxTimestamp, Some(slot)) => self.newest(search, slot, start)?,
        };
        Ok(Ok(found.map(|(offset, timestamp)| {
            let partition = slot.and_then(|slot| self.partitions.get(slot));
            let term = partition.and_then(|partition| partition.term_at(offset));
            FoundOffset { offset, timestamp, term: term.unwrap_or(self.log.term()) }
        })))
    }

    fn first_at_or_after(
        &mut self,
        search: &mut Search,
        slot: Slot,
        start: Offset,
        timestamp: i64,
    ) -> Result<Found, Stop> {
        let wanted = Wanted::AtOrAfter(timestamp);
        let mut run = self.log.queue(slot).and_then(|queue| queue.run_at_or_after(timestamp, start));
        while let Some(candidate) = run {
            for (header, payload) in self.batches(slot, candidate, start)? {
                if header.max_timestamp >= timestamp
                    && let Some(found) = search.look(&payload, start, wanted, &mut self.search_bytes_left)?
                {
                    return Ok(Some(found));
                }
            }
            if mutant::is(Mutant::SearchOneRun) {
                break;
            }
            // What made the run a candidate lies before the partition's start: on to the next.
            run = self.log.queue(slot).and_then(|queue| queue.run_after(candidate, timestamp));
        }
        Ok(None)
    }

    fn newest(&mut self, search: &mut Search, slot: Slot, start: Offset) -> Result<Found, Stop> {
        let Some(queue) = self.log.queue(slot) else { return Ok(None) };
        let piece =
            |run: &Run| Piece { first: run.base_offset, max_timestamp: run.max_timestamp, what: *run };
        let runs: Vec<_> = queue.runs_from(start).map(piece).collect();
        self.charge(size_of_val(&runs[..]));
        newest_of(&runs, start, |run| {
            let piece = |(header, payload): (EntryHeader, Bytes)| Piece {
                first: header.base_offset,
                max_timestamp: header.max_timestamp,
                what: payload,
            };
            let batches: Vec<_> = self.batches(slot, *run, start)?.into_iter().map(piece).collect();
            newest_of(&batches, start, |payload| {
                search.look(payload, start, Wanted::Newest, &mut self.search_bytes_left)
            })
        })
    }

    /// The batches of a run that do not end before `start`.
    fn batches(&mut self, slot: Slot, run: Run, start: Offset) -> Result<Vec<(EntryHeader, Bytes)>, Stop> {
        // All of its headers are read, and nothing of most records.
        self.charge(run.bytes as usize / 4);
        let mut entries = self.log.read_run(slot, run)?;
        entries.retain(|(header, _)| header.kind == EntryKind::KafkaBatch && header.end_offset() > start);
        Ok(entries)
    }

    /// The turn has so much less time for searches.
    fn charge(&mut self, bytes: usize) {
        self.search_bytes_left = self.search_bytes_left.saturating_sub(bytes);
    }
}

/// A run, or a batch.
struct Piece<T> {
    first: Offset,
    /// Of all its records.
    max_timestamp: i64,
    what: T,
}

/// The record with the largest timestamp from `start` on, the first of equals. Only the first of
/// `pieces` may begin before `start`. `look` finds the record in one of them.
fn newest_of<T>(
    pieces: &[Piece<T>],
    start: Offset,
    mut look: impl FnMut(&T) -> Result<Found, Stop>,
) -> Result<Found, Stop> {
    let newest = |pieces: &[Piece<T>]| {
        (0..pieces.len()).reduce(|best, index| {
            if pieces[index].max_timestamp > pieces[best].max_timestamp { index } else { best }
        })
    };
    let Some(index) = newest(pieces) else { return Ok(None) };
    let found = look(&pieces[index].what)?;
    if pieces[index].first >= start {
        return Ok(found);
    }
    // Its largest timestamp may be of a record before `start`: then a later piece has the newest.
    let others = &pieces[index + 1..];
    match newest(others).map(|index| &others[index]) {
        Some(other) if found.is_none_or(|(_, timestamp)| other.max_timestamp > timestamp) => {
            look(&other.what)
        }
        _ => Ok(found),
    }
}
