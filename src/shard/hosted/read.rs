//! Reading records of a log's partitions, and waiting for those that are not there: at a partition's end until there
//! are more, where a chunk is not in memory until that is read.

use crate::log::read::{Gather, ReadEnd, ReadLimits};
use crate::metadata::catalog::Catalog;
use crate::model::{Offset, Slot};
use crate::partition::waiters::Waiter;
use crate::shard::call::{CallError, ReadPart, ReadResult};

use super::Hosted;

impl Hosted {
    /// Read from several partitions. `park`: who is woken when there is more of one that was read to its
    /// end; of any, if all of it is less than so many bytes.
    pub fn read_all(
        &mut self,
        parts: &[ReadPart],
        (bytes_max, at_least_one): (usize, bool),
        park: Option<(Waiter, usize)>,
        catalog: &Catalog,
    ) -> Vec<ReadResult> {
        let waiter = park.map(|(waiter, _)| waiter);
        let mut left = bytes_max;
        let mut results = Vec::with_capacity(parts.len());
        let mut any = !at_least_one;
        for part in parts {
            let limits = ReadLimits { bytes_max: left.min(part.bytes_max), at_least_one: !any, past: true };
            let result = self.read(part, limits, waiter, catalog);
            left = left.saturating_sub(result.bytes + result.loading_bytes);
            any |= result.bytes > 0 || result.is_loading();
            results.push(result);
        }
        if let Some((waiter, enough)) = park
            && results.iter().map(|result| result.bytes).sum::<usize>() < enough
        {
            for (part, result) in parts.iter().zip(&results) {
                self.await_more(part, result, waiter, catalog);
            }
        }
        results
    }

    /// What was read of a partition is not enough for `waiter`: wake it when there is more. It may have been read in
    /// an earlier turn: whoever found something looks once more before it waits, and then finds what came meanwhile.
    pub fn await_more(&mut self, part: &ReadPart, read: &ReadResult, waiter: Waiter, catalog: &Catalog) {
        // Who got nothing waits already: at the end, or for a chunk. Who could not take all that there is
        // has no use for more. What was deleted meanwhile never has more.
        let at_end = read.bytes > 0 && read.next == read.high_watermark;
        if at_end && self.known(part.partition, catalog).is_ok() {
            self.waiters.wait(part.partition, Waiter { part: part.waiter, ..waiter });
        }
    }

    /// Read whole batches of one partition. If `park` is given and there is nothing, that waiter is woken when
    /// there is, for the part that is asked for; where there is something, see [`Hosted::await_more`].
    pub fn read(
        &mut self,
        part: &ReadPart,
        limits: ReadLimits,
        park: Option<Waiter>,
        catalog: &Catalog,
    ) -> ReadResult {
        let slot = match self.known(part.partition, catalog) {
            Ok(slot) => slot,
            Err(error) => {
                return ReadResult { error: Some(error), next: part.offset, ..ReadResult::default() };
            }
        };
        let (start, end) = self.bounds(slot);
        let mut result =
            ReadResult { high_watermark: end, log_start: start, next: part.offset, ..ReadResult::default() };
        if part.offset < start || part.offset > end {
            result.error = Some(CallError::OutOfRange { start, end });
            return result;
        }
        let park = park.map(|waiter| Waiter { part: part.waiter, ..waiter });
        let mut gather = Gather::new(part.offset);
        let may_take = limits.bytes_max > 0 || limits.at_least_one;
        if let Some(slot) = slot.filter(|_| part.offset < end && may_take) {
            match self.log.read(slot, part.offset, limits, &mut gather) {
                ReadEnd::Done => {}
                ReadEnd::Past => result.past = true,
                ReadEnd::Failed if gather.bytes() == 0 => result.error = Some(CallError::Storage),
                ReadEnd::Failed => {}
                ReadEnd::Missing(chunk, bytes) => {
                    result.loading_bytes =
                        (bytes as usize).min(limits.bytes_max.saturating_sub(gather.bytes())).max(1);
                    if let Some(waiter) = park {
                        self.chunk_waiters.wait(chunk, waiter);
                    }
                }
            }
        }
        if let Some(waiter) = park.filter(|_| part.offset == end) {
            self.waiters.wait(part.partition, waiter);
        }
        (result.bytes, result.next, result.fresh) = (gather.bytes(), gather.next(), gather.fresh());
        result.past_work = gather.past_work();
        result.records = gather.finish();
        result
    }

    /// What readers see: the first offset and one past the last.
    pub(super) fn bounds(&self, slot: Option<Slot>) -> (Offset, Offset) {
        slot.and_then(|slot| self.partitions.get(slot)).map_or((Offset::ZERO, Offset::ZERO), |partition| {
            (partition.log_start(), partition.high_watermark())
        })
    }
}
