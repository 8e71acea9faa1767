//! Which offset lies at one of a partition's ends, or at a time.
//!
//! Times are found by runs, then batches, then records. Runs and batches know the largest timestamp of
//! all their records, as the producer says; where the partition's start lies within one, that may be of a
//! record before it.

use bytes::Bytes;

use crate::base::mutant::{self, Mutant};
use crate::codec::record_batch::RecordBatch;
use crate::codec::records::{first_record_at_or_after, record_with_max_timestamp};
use crate::log::chunks::ChunkId;
use crate::log::consume_queue::Run;
use crate::log::entry::{EntryHeader, EntryKind};
use crate::log::read::ReadEnd;
use crate::metadata::catalog::Catalog;
use crate::model::{Offset, PartitionKey, Slot};
use crate::shard::call::{Answer, CallError, FoundOffset, OffsetSpec};

use super::Hosted;

/// A batch inflates to at most this much when somebody looks into it for a timestamp.
const INFLATED_BYTES_MAX: usize = 64 << 20;

/// A record's offset and timestamp; `None` where no record fits. An error says what to wait for.
type Found = Result<Option<(Offset, i64)>, ReadEnd>;

impl Hosted {
    /// `Err` names a chunk that must be read first.
    pub(super) fn list_offset(
        &mut self,
        key: PartitionKey,
        spec: OffsetSpec,
        catalog: &Catalog,
    ) -> Result<Answer, ChunkId> {
        let slot = match self.known(key, catalog) {
            Ok(slot) => slot,
            Err(error) => return Ok(Answer::ListOffset(Err(error))),
        };
        let (start, end) = self.bounds(slot);
        let found = match (spec, slot) {
            (OffsetSpec::Earliest, _) => Ok(Some((start, -1))),
            (OffsetSpec::Latest, _) => Ok(Some((end, -1))),
            (_, None) => Ok(None),
            (OffsetSpec::AtOrAfter(timestamp), Some(slot)) => self.first_at_or_after(slot, start, timestamp),
            (OffsetSpec::MaxTimestamp, Some(slot)) => self.newest(slot, start),
        };
        let found = match found {
            Ok(found) => found,
            Err(ReadEnd::Missing(chunk, _)) => return Err(chunk),
            Err(ReadEnd::Failed | ReadEnd::Done) => return Ok(Answer::ListOffset(Err(CallError::Storage))),
        };
        Ok(Answer::ListOffset(Ok(found.map(|(offset, timestamp)| {
            let partition = slot.and_then(|slot| self.partitions.get(slot));
            let term = partition.and_then(|partition| partition.term_at(offset));
            FoundOffset { offset, timestamp, term: term.unwrap_or(self.log.term()) }
        }))))
    }

    fn first_at_or_after(&mut self, slot: Slot, start: Offset, timestamp: i64) -> Found {
        let mut run = self.log.queue(slot).and_then(|queue| queue.run_at_or_after(timestamp, start));
        while let Some(candidate) = run {
            for (header, payload) in self.batches(slot, candidate, start)? {
                if header.max_timestamp >= timestamp {
                    let batch = RecordBatch::parse(&payload).map_err(|_| ReadEnd::Failed)?;
                    let found = first_record_at_or_after(batch, start, timestamp, INFLATED_BYTES_MAX);
                    // A batch that has no such record although its producer says so ends the search. Else
                    // one that lies could have all that it ever wrote inflated in a single turn.
                    let claimed = || (batch.last_offset(), header.max_timestamp);
                    let claimed = (header.base_offset >= start).then(claimed);
                    if let Some(found) = found.map_err(|_| ReadEnd::Failed)?.or(claimed) {
                        return Ok(Some(found));
                    }
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

    fn newest(&mut self, slot: Slot, start: Offset) -> Found {
        let Some(queue) = self.log.queue(slot) else { return Ok(None) };
        let piece =
            |run: &Run| Piece { first: run.base_offset, max_timestamp: run.max_timestamp, what: *run };
        let runs: Vec<_> = queue.runs_from(start).map(piece).collect();
        newest_of(&runs, start, |run| {
            let piece = |(header, payload): (EntryHeader, Bytes)| Piece {
                first: header.base_offset,
                max_timestamp: header.max_timestamp,
                what: payload,
            };
            let batches: Vec<_> = self.batches(slot, *run, start)?.into_iter().map(piece).collect();
            newest_of(&batches, start, |payload| {
                let batch = RecordBatch::parse(payload).map_err(|_| ReadEnd::Failed)?;
                record_with_max_timestamp(batch, start, INFLATED_BYTES_MAX).map_err(|_| ReadEnd::Failed)
            })
        })
    }

    /// The batches of a run that do not end before `start`.
    fn batches(&mut self, slot: Slot, run: Run, start: Offset) -> Result<Vec<(EntryHeader, Bytes)>, ReadEnd> {
        let mut entries = self.log.read_run(slot, run)?;
        entries.retain(|(header, _)| header.kind == EntryKind::KafkaBatch && header.end_offset() > start);
        Ok(entries)
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
fn newest_of<T>(pieces: &[Piece<T>], start: Offset, mut look: impl FnMut(&T) -> Found) -> Found {
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
