//! A broker in memory for the generator's tests, which breaks its promises on demand.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::sink::Store;

/// Bytes of one answer.
const READ_BYTES: usize = 256 << 10;
/// Batches of a partition among which a repeated one is looked for.
const REMEMBERED: usize = 100;
/// Where a batch has its producer's id and epoch, and its sequence.
const PRODUCER_TO_SEQUENCE: std::ops::Range<usize> = 43..57;

/// What goes wrong, once in every partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The batch of this index is acknowledged and never seen again.
    Lose(usize),
    /// It is stored twice.
    Repeat(usize),
    /// It changes places with the next one, under dense offsets.
    Swap(usize),
    /// A bit of its last record flips.
    Damage(usize),
    /// The broker stands still for so long before it takes it.
    Stall(usize, Duration),
    /// The connection is closed before this batch is answered; the batch is stored.
    Cut(usize),
}

#[derive(Debug)]
pub struct Memory {
    fault: Fault,
    cut: bool,
    partitions: FxHashMap<i32, Vec<Batch>>,
}

#[derive(Clone, Debug)]
struct Batch {
    base: i64,
    count: u32,
    bytes: Vec<u8>,
}

impl Memory {
    pub fn new(fault: Fault) -> Memory {
        Memory { fault, cut: false, partitions: FxHashMap::default() }
    }
}

/// Whether two batches are the same of one idempotent producer.
fn is_repeat(known: &[u8], batch: &[u8]) -> bool {
    known[PRODUCER_TO_SEQUENCE] == batch[PRODUCER_TO_SEQUENCE]
        && !batch[PRODUCER_TO_SEQUENCE].starts_with(&[0xff; 8])
}

fn end_of(batches: &[Batch]) -> i64 {
    batches.last().map_or(0, |last| last.base + i64::from(last.count))
}

impl Store for Memory {
    fn append(&mut self, partition: i32, batch: &[u8], count: u32) -> i64 {
        let batches = self.partitions.entry(partition).or_default();
        if let Some(known) =
            batches.iter().rev().take(REMEMBERED).find(|known| is_repeat(&known.bytes, batch))
        {
            return known.base;
        }
        let base = end_of(batches);
        self.cut = self.fault == Fault::Cut(batches.len());
        let mut bytes = batch.to_vec();
        if self.fault == Fault::Damage(batches.len()) {
            let at = bytes.len() - 3;
            bytes[at] ^= 1;
        }
        if let Fault::Stall(at, duration) = self.fault
            && at == batches.len()
        {
            std::thread::sleep(duration);
        }
        let repeat = self.fault == Fault::Repeat(batches.len());
        batches.push(Batch { base, count, bytes });
        if repeat {
            batches.push(Batch { base: end_of(batches), count, bytes: batch.to_vec() });
        }
        base
    }

    fn read(&mut self, partition: i32, offset: i64, out: &mut Vec<u8>) -> i64 {
        let batches = self.partitions.entry(partition).or_default();
        let start = out.len();
        let first = batches.partition_point(|batch| batch.base + i64::from(batch.count) <= offset);
        for index in first..batches.len() {
            let from = match self.fault {
                Fault::Lose(lost) if index == lost => continue,
                Fault::Swap(at) if index == at => at + 1,
                Fault::Swap(at) if index == at + 1 => at,
                _ => index,
            };
            // The second of a swap is not there yet.
            let Some(other) = batches.get(from) else { break };
            out.extend_from_slice(&batches[index].base.to_be_bytes());
            out.extend_from_slice(&other.bytes[8..]);
            if out.len() - start > READ_BYTES {
                break;
            }
        }
        end_of(batches)
    }

    fn cuts(&mut self) -> bool {
        std::mem::take(&mut self.cut)
    }

    fn end(&self, partition: i32) -> i64 {
        self.partitions.get(&partition).map_or(0, |batches| end_of(batches))
    }
}
