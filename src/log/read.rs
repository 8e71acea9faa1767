//! Reading a slot's records: from the chunks in memory when they are there, else through the cache.
//!
//! Only durable entries are ever found: the consume queues know no others.

use bytes::{Bytes, BytesMut};

use crate::model::{Offset, Position, Slot};

use super::chunks::ChunkId;
use super::consume_queue::{Found, Run};
use super::entry::{EntryHeader, EntryKind};
use super::reader::Lookup;
use super::{LENT_CHUNKS, Log};

/// Below this, a batch is copied beside its neighbours instead of being sent from the chunk: an
/// entry of a vectored send costs about as much as copying 4 KiB, and each holds its chunk in memory.
const COPY_BELOW_BYTES: usize = 4096;

/// What a read may take.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// Whole batches, so much in sum,
    pub bytes_max: usize,
    /// but one whatever its size.
    pub at_least_one: bool,
    /// Also what has left the tail, which must be searched and summed.
    pub past: bool,
}

impl ReadLimits {
    /// One batch at least, wherever it lies.
    pub fn at_least(bytes_max: usize) -> ReadLimits {
        ReadLimits { bytes_max, at_least_one: true, past: true }
    }
}

/// What reading the past has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PastWork {
    /// Searches for a chunk, and within it.
    pub searches: u32,
    pub summed_bytes: usize,
}

/// Collects pieces of chunks for one vectored send.
#[derive(Debug, Default)]
pub struct Gather {
    parts: Vec<Bytes>,
    small: BytesMut,
    bytes: usize,
    /// Where the next read goes on.
    next: Offset,
    /// Some of it was in the tail.
    fresh: bool,
    past_work: PastWork,
}

impl Gather {
    /// For a read that begins at `from`.
    pub fn new(from: Offset) -> Gather {
        Gather { next: from, ..Gather::default() }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// One past the last record gathered.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Some of it was never read back from the device.
    pub fn fresh(&self) -> bool {
        self.fresh
    }

    pub fn past_work(&self) -> PastWork {
        self.past_work
    }

    /// `lent`: the piece may stay where it is for as long as its reader takes; otherwise it is copied.
    pub fn push(&mut self, piece: Bytes, lent: bool) {
        self.bytes += piece.len();
        if piece.len() < COPY_BELOW_BYTES || !lent {
            self.small.extend_from_slice(&piece);
        } else {
            self.flush();
            self.parts.push(piece);
        }
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.parts.push(self.small.split().freeze());
        }
    }

    /// The pieces in the order they were pushed.
    pub fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.parts
    }
}

/// How far a read came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// All there is, or all that was asked for.
    Done,
    /// The rest lies in a chunk that is being read: ask again when it was. There are about so many bytes
    /// in it, entry headers included.
    Missing(ChunkId, u32),
    /// The rest has left the tail, and was not to be looked for: [`ReadLimits::past`].
    Past,
    /// The device cannot read the rest, or it is not what was written.
    Failed,
}

impl Log {
    /// Bytes in memory at `position`, within one block. Nothing is anywhere, also behind the last chunk: what has
    /// no payload may end with it.
    pub(super) fn in_memory(&self, position: Position, len: usize) -> Option<Bytes> {
        if len == 0 {
            return Some(Bytes::new());
        }
        let (base, bytes) = match self.append.open_chunk() {
            Some((base, bytes)) if position >= base => (base, bytes),
            _ => self.chunks.in_tail(position)?,
        };
        let at = position.since(base) as usize;
        (at + len <= bytes.len()).then(|| bytes.slice(at..at + len))
    }

    /// Chunks that left the tail while readers still hold parts of them come out of the same memory as
    /// those to come: with many such, readers get copies, or slow ones would stop the producers.
    fn lends_tail(&self) -> bool {
        self.append.chunks_out().saturating_sub(self.chunks.in_memory()) < LENT_CHUNKS
    }

    fn tail_payload(&self, position: Position, payload_bytes: u32) -> Bytes {
        let start = position.plus(super::entry::ENTRY_HEADER_BYTES as u64);
        self.in_memory(start, payload_bytes as usize).expect("tail entries are in memory")
    }

    /// Whole batches of `slot` from the one that holds `from` on. An offset at or beyond the end finds nothing. It
    /// waits for one chunk at most: where something was found, it ends before a chunk that is not there, and whoever
    /// reads on waits for that. What lies near behind is read ahead.
    pub fn read(&mut self, slot: Slot, from: Offset, limits: ReadLimits, out: &mut Gather) -> ReadEnd {
        let ReadLimits { bytes_max, at_least_one, past } = limits;
        let before = out.bytes();
        let fits = |out: &Gather, len: usize| {
            let taken = out.bytes() - before;
            taken + len <= bytes_max || (at_least_one && taken == 0)
        };
        let mut from = from;
        let lends_tail = self.lends_tail();
        loop {
            let Some(queue) = self.queues.get(slot) else { return ReadEnd::Done };
            match queue.find(from) {
                None => return ReadEnd::Done,
                Some(Found::Tail(_)) => {
                    let mut next = queue.end_offset();
                    for entry in queue.tail_from(from) {
                        if !fits(out, entry.payload_bytes as usize) {
                            next = entry.base_offset;
                            break;
                        }
                        out.push(self.tail_payload(entry.position, entry.payload_bytes), lends_tail);
                        out.fresh = true;
                    }
                    // A batch that does not fit may begin before what was asked for.
                    out.next = next.max(from);
                    return ReadEnd::Done;
                }
                Some(Found::Chunk(_)) if !past => return ReadEnd::Past,
                Some(Found::Chunk(id)) => {
                    out.past_work.searches += 1;
                    let Some(span) = self.chunks.span(id) else { return ReadEnd::Failed };
                    let run_bytes = queue.runs_from(from).next().map_or(0, |run| run.bytes);
                    self.read_ahead(slot, from, id, bytes_max);
                    if out.bytes() > before && !self.cache.is_loaded(id) {
                        return ReadEnd::Done;
                    }
                    let lent = self.cache.lend(id);
                    match self.cache.get(id, span) {
                        Lookup::Loading => return ReadEnd::Missing(id, run_bytes),
                        Lookup::Failed => return ReadEnd::Failed,
                        Lookup::Loaded(chunk) => {
                            let start = from;
                            let owner = lent.then(|| chunk.lend());
                            for entry in chunk.entries(slot, from) {
                                let Some((at, header)) = entry else { return ReadEnd::Failed };
                                if !fits(out, header.payload_bytes as usize) {
                                    return ReadEnd::Done;
                                }
                                out.past_work.summed_bytes += header.payload_bytes as usize;
                                let Some(payload) = chunk.payload(at, &header) else {
                                    return ReadEnd::Failed;
                                };
                                match &owner {
                                    Some(owner) => out.push(owner.slice_ref(&payload), true),
                                    None => out.push(payload, false),
                                }
                                from = header.end_offset();
                                out.next = from;
                            }
                            if from == start {
                                // The index named a chunk that does not hold the offset.
                                return ReadEnd::Failed;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Ask for the chunks after `id` that the next read will need, if they lie near. What lies far off would
    /// be gone again when its turn comes: until then the others are read that are between here and there.
    fn read_ahead(&mut self, slot: Slot, from: Offset, id: ChunkId, bytes_max: usize) {
        let Some(queue) = self.queues.get(slot) else { return };
        let last = id.0.saturating_add(self.cache.ahead_chunks());
        let mut bytes = 0;
        for run in queue.runs_from(from).skip_while(|run| run.chunk <= id) {
            if run.chunk.0 > last || bytes > bytes_max || queue.run_in_tail(run) {
                return;
            }
            if let Some(span) = self.chunks.span(run.chunk) {
                self.cache.prefetch(run.chunk, span);
            }
            bytes += run.bytes as usize;
        }
    }

    /// All entries of one run, headers and payloads. `Err` says what to wait for.
    pub fn read_run(&mut self, slot: Slot, run: Run) -> Result<Vec<(EntryHeader, Bytes)>, ReadEnd> {
        let Some(queue) = self.queues.get(slot) else { return Ok(Vec::new()) };
        if queue.run_in_tail(&run) {
            let of_run = queue.tail_from(run.base_offset).take_while(|entry| entry.chunk == run.chunk);
            return of_run
                .map(|entry| {
                    let header = self.in_memory(entry.position, super::entry::ENTRY_HEADER_BYTES);
                    let payload = self.tail_payload(entry.position, entry.payload_bytes);
                    let mut bytes = header.expect("tail entries are in memory").to_vec();
                    bytes.resize(EntryHeader::entry_bytes(payload.len()), 0);
                    let header = EntryHeader::decode(&bytes).map_err(|_| ReadEnd::Failed)?;
                    Ok((header, payload))
                })
                .collect();
        }
        let Some(span) = self.chunks.span(run.chunk) else { return Err(ReadEnd::Failed) };
        match self.cache.get(run.chunk, span) {
            Lookup::Loading => Err(ReadEnd::Missing(run.chunk, run.bytes)),
            Lookup::Failed => Err(ReadEnd::Failed),
            Lookup::Loaded(chunk) => chunk
                .entries(slot, run.base_offset)
                .map(|entry| {
                    let (at, header) = entry.filter(|(_, header)| header.kind == EntryKind::KafkaBatch)?;
                    Some((header, chunk.payload(at, &header)?))
                })
                .map(|entry| entry.ok_or(ReadEnd::Failed))
                .collect(),
        }
    }
}
