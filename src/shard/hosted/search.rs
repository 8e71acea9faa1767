//! A search for a record by its timestamp: how far it has come, and what it waits for.
//!
//! A batch may inflate to many times what it takes in the log, and a search begins anew wherever it had to
//! wait; so it keeps what it has found out of batches, and its place in the one it is at.

use bytes::Bytes;

use crate::codec::record_batch::RecordBatch;
use crate::codec::time_scan::{Found, TimeScan, Wanted};
use crate::log::chunks::ChunkId;
use crate::log::read::ReadEnd;
use crate::metadata::catalog::Catalog;
use crate::model::{Offset, PartitionKey};
use crate::shard::call::{Answer, CallError, OffsetSpec};

use super::{Hosted, Origin, Outbox};

/// A log looks through about so many bytes in a turn: a millisecond of gzip.
pub(super) const TURN_BYTES: usize = 512 << 10;
/// A batch inflates to at most this much when somebody looks into it.
const INFLATED_BYTES_MAX: usize = 64 << 20;

/// Answer to searches that a stop does not wait for.
pub(super) const STOPPING: CallError = CallError::Full("the broker is stopping");

/// Why a search does not go on.
pub(super) enum Stop {
    /// A chunk must be read first.
    Chunk(ChunkId),
    /// The turn has no time left for it.
    Turn,
    Failed,
}

impl From<ReadEnd> for Stop {
    fn from(end: ReadEnd) -> Stop {
        match end {
            ReadEnd::Missing(chunk, _) => Stop::Chunk(chunk),
            ReadEnd::Failed | ReadEnd::Done | ReadEnd::Past => Stop::Failed,
        }
    }
}

pub(super) struct Search {
    pub origin: Origin,
    pub partition: PartitionKey,
    pub spec: OffsetSpec,
    /// The batch that it is at.
    at: Option<Scanned<TimeScan>>,
    /// Those before, of which there are few.
    done: Vec<Scanned<Found>>,
}

/// A batch, and what there is of it.
struct Scanned<T> {
    base_offset: Offset,
    /// The partition began here.
    start: Offset,
    wanted: Wanted,
    /// The record that its header promises, if that is not gone.
    claimed: Found,
    what: T,
}

impl Search {
    pub fn new(origin: Origin, partition: PartitionKey, spec: OffsetSpec) -> Search {
        Search { origin, partition, spec, at: None, done: Vec::new() }
    }

    /// The record of a batch that is wanted. Where a batch has none although its header says so, or cannot
    /// be read, what it claims: an error would be answered for ever, and whoever wrote it could else have
    /// all that it ever wrote inflated by a single question.
    pub fn look(
        &mut self,
        bytes: &Bytes,
        start: Offset,
        wanted: Wanted,
        bytes_left: &mut usize,
    ) -> Result<Found, Stop> {
        let batch = RecordBatch::parse(bytes).map_err(|_| Stop::Failed)?;
        let base_offset = batch.base_offset();
        if let Some(done) =
            self.done.iter().find(|done| (done.base_offset, done.start) == (base_offset, start))
        {
            return Ok(done.what);
        }
        let claimed = (base_offset >= start).then(|| (batch.last_offset(), batch.max_timestamp()));
        let Ok(scan) = TimeScan::new(batch, bytes, start, wanted, INFLATED_BYTES_MAX) else {
            return Ok(claimed);
        };
        self.at = Some(Scanned { base_offset, start, wanted, claimed, what: scan });
        self.go_on(bytes_left)?;
        Ok(self.done.last().expect("it is done with the batch").what)
    }

    /// Come to the end of the batch that it is at.
    pub fn go_on(&mut self, bytes_left: &mut usize) -> Result<(), Stop> {
        let Some(mut at) = self.at.take() else { return Ok(()) };
        let Some(found) = at.what.step(bytes_left) else {
            self.at = Some(at);
            return Err(Stop::Turn);
        };
        let Scanned { base_offset, start, wanted, claimed, .. } = at;
        let what = match (found, wanted) {
            (Err(_), _) | (Ok(None), Wanted::AtOrAfter(_)) => claimed,
            (Ok(found), _) => found,
        };
        self.done.push(Scanned { base_offset, start, wanted, claimed, what });
        Ok(())
    }
}

impl Hosted {
    /// Begin a search, behind those that wait for their turn. `None`: the answer comes later.
    pub(super) fn begin_search(&mut self, search: Search, catalog: &Catalog) -> Option<Answer> {
        let waits = !self.searches.is_empty() || self.search_bytes_left == 0;
        if search.spec.is_lookup() && waits {
            self.searches.push_back(search);
            return None;
        }
        Some(self.search(search, catalog)?.1)
    }

    /// Go on as far as this turn has time for it.
    fn search(&mut self, mut search: Search, catalog: &Catalog) -> Option<(Origin, Answer)> {
        let result = match self.list_offset(&mut search, catalog) {
            Ok(result) => result,
            Err(Stop::Failed) => Err(CallError::Storage),
            Err(Stop::Turn) => {
                self.searches.push_front(search);
                return None;
            }
            Err(Stop::Chunk(chunk)) => {
                self.chunk_searches.push((chunk, search));
                return None;
            }
        };
        Some((search.origin, Answer::ListOffset(result)))
    }

    /// Go on with those that wait for their turn.
    pub(super) fn run_searches(&mut self, catalog: &Catalog, out: &mut Outbox) {
        if self.stopping {
            let stopped = self.searches.drain(..);
            out.answers.extend(stopped.map(|search| (search.origin, Answer::ListOffset(Err(STOPPING)))));
        }
        while self.search_bytes_left > 0
            && let Some(search) = self.searches.pop_front()
        {
            out.answers.extend(self.search(search, catalog));
        }
    }

    /// Some go on in the next turn.
    pub fn is_searching(&self) -> bool {
        !self.searches.is_empty()
    }

    /// The broker stops: those that take more than a turn are answered as they are.
    pub fn stop_searches(&mut self) {
        self.stopping = true;
    }
}
