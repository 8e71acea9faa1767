//! The books of a run: what was acknowledged against what was read.
//!
//! One [`Ledger`] per load thread, because a partition belongs to one thread: no lock. It knows
//! partitions by their index in the thread's list, producers by their number.
//!
//! - An ack hands out offsets: those of a partition must be dense from where the run began, each
//!   once ([`DenseOffsets`]).
//! - A record that is read names its producer and sequence: per producer and partition these must
//!   come once each and in order ([`Sequences`]).
//! - What was acknowledged and never read is lost. What was refused with an error may be missing.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::payload::{self, Payload};

/// Holes kept per producer and partition; with more, the oldest is booked as lost at once.
const HOLES_MAX: usize = 1024;

/// What the books say. All but the first two must be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub acked: u64,
    pub read: u64,
    /// Acknowledged and never read. 0 where nothing was read back.
    pub lost: u64,
    pub duplicated: u64,
    /// Read after a record that was sent later.
    pub reordered: u64,
    /// The payload's checksum is wrong.
    pub corrupt: u64,
    /// Whole, but not of this run.
    pub foreign: u64,
    /// Offsets that no ack handed out, or that two did.
    pub ack_offsets_skipped: u64,
    pub ack_offsets_repeated: u64,
    /// Offsets that the reader was not given.
    pub read_offsets_skipped: u64,
}

impl Verdict {
    /// What another group of readers found; the acks are counted once.
    pub fn without_acks(self) -> Verdict {
        Verdict { acked: 0, ack_offsets_skipped: 0, ack_offsets_repeated: 0, ..self }
    }

    /// True when every acknowledged record is accounted for.
    pub fn passed(&self) -> bool {
        let Verdict { acked: _, read: _, lost, duplicated, reordered, corrupt, foreign, .. } = *self;
        let offsets = self.ack_offsets_skipped + self.ack_offsets_repeated + self.read_offsets_skipped;
        lost + duplicated + reordered + corrupt + foreign + offsets == 0
    }
}

impl Verdict {
    /// No record was read: whether those that were sent are there is not known.
    pub fn is_unread(&self) -> bool {
        self.read == 0
    }

    /// What the books come to, in words.
    pub fn finding(&self) -> String {
        match self.passed() {
            true if self.is_unread() && self.acked == 0 => {
                "nothing acknowledged, nothing read back".to_owned()
            }
            true if self.is_unread() => "acks dense, nothing read back".to_owned(),
            true => "complete".to_owned(),
            false => self.faults(),
        }
    }

    /// What is wrong, in words; empty when nothing is.
    pub fn faults(&self) -> String {
        let faults = [
            (self.lost, "lost"),
            (self.duplicated, "duplicated"),
            (self.reordered, "reordered"),
            (self.corrupt, "corrupt"),
            (self.foreign, "of another run"),
            (self.ack_offsets_skipped, "offsets skipped by acks"),
            (self.ack_offsets_repeated, "offsets acknowledged twice"),
            (self.read_offsets_skipped, "offsets skipped by the reader"),
        ];
        let faults = faults.iter().filter(|(count, _)| *count > 0);
        faults.map(|(count, name)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Verdict) {
        self.acked += other.acked;
        self.read += other.read;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        self.foreign += other.foreign;
        self.ack_offsets_skipped += other.ack_offsets_skipped;
        self.ack_offsets_repeated += other.ack_offsets_repeated;
        self.read_offsets_skipped += other.read_offsets_skipped;
    }
}

/// Which records the reader must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// This run's, from its first record on.
    Run(u64),
    /// This run's, but retention may have removed the oldest.
    RunTail(u64),
    /// Whatever runs wrote what is there; each from its first retained record on.
    Any,
}

/// The books of the partitions of one thread.
pub struct Ledger {
    expect: Expect,
    partitions: Vec<PartitionBook>,
    corrupt: u64,
    foreign: u64,
    acked: u64,
    read: u64,
}

struct PartitionBook {
    acks: DenseOffsets,
    /// The offset that the reader must be given next.
    read_next: i64,
    read_skipped: u64,
    streams: SmallVec<[Stream; 1]>,
    /// The stream met last: batches bring many records of one.
    recent: usize,
}

/// One producer's records in one partition.
struct Stream {
    run: u64,
    producer: u32,
    /// End of the sequences that were answered, well or not.
    answered: u64,
    refused: Vec<(u64, u64)>,
    /// A record of it was read.
    seen: bool,
    sequences: Sequences,
}

impl Ledger {
    /// `ends`: per partition the end offset before the first record of the run.
    pub fn new(expect: Expect, ends: &[i64]) -> Ledger {
        let partitions = ends.iter().map(|&end| PartitionBook {
            acks: DenseOffsets::new(end),
            read_next: end,
            read_skipped: 0,
            streams: SmallVec::new(),
            recent: 0,
        });
        Ledger { expect, partitions: partitions.collect(), corrupt: 0, foreign: 0, acked: 0, read: 0 }
    }

    /// The reader of a partition begins at `offset` instead of at the run's first record.
    pub fn read_from(&mut self, partition: usize, offset: i64, expect: Expect) {
        self.partitions[partition].read_next = offset;
        self.expect = expect;
    }

    /// Retention has removed what lies before `offset`: go on there, if the reader is not further.
    pub fn skip_removed(&mut self, partition: usize, offset: i64) {
        let book = &mut self.partitions[partition];
        if offset <= book.read_next {
            return;
        }
        book.read_next = offset;
        // What comes next of each stream is its first again.
        book.streams.iter_mut().for_each(|stream| stream.seen = false);
        if let Expect::Run(run) = self.expect {
            self.expect = Expect::RunTail(run);
        }
    }

    /// The offset at which to read on.
    pub fn read_next(&self, partition: usize) -> i64 {
        self.partitions[partition].read_next
    }

    /// End of the offsets that acks handed out without a gap.
    pub fn acked_end(&self, partition: usize) -> i64 {
        self.partitions[partition].acks.next
    }

    /// Records `first..first + count` of `producer` got the offsets from `base` on.
    pub fn ack(&mut self, partition: usize, run: u64, producer: u32, first: u64, count: u32, base: i64) {
        let book = &mut self.partitions[partition];
        book.acks.add(base, base.saturating_add(i64::from(count)));
        let stream = book.stream(run, producer);
        stream.answered = stream.answered.max(first + u64::from(count));
        self.acked += u64::from(count);
    }

    /// Records `first..first + count` of `producer` were answered with an error.
    pub fn refuse(&mut self, partition: usize, run: u64, producer: u32, first: u64, count: u32) {
        let stream = self.partitions[partition].stream(run, producer);
        let end = first + u64::from(count);
        stream.answered = stream.answered.max(end);
        stream.refused.push((first, end));
    }

    /// A record was read. Returns its payload when it is whole and has not been read before.
    pub fn read(&mut self, partition: usize, offset: i64, value: &[u8]) -> Option<Payload> {
        let book = &mut self.partitions[partition];
        if offset < book.read_next {
            // A reader that starts inside a batch is given the whole batch.
            return None;
        }
        book.read_skipped += offset.abs_diff(book.read_next);
        book.read_next = offset.saturating_add(1);
        self.read += 1;
        let Some(payload) = payload::check(value) else {
            self.corrupt += 1;
            return None;
        };
        let from_the_first = match self.expect {
            Expect::Run(run) | Expect::RunTail(run) if run != payload.run => {
                self.foreign += 1;
                return None;
            }
            Expect::Run(_) => true,
            Expect::RunTail(_) | Expect::Any => false,
        };
        let stream = book.stream(payload.run, payload.producer);
        if !stream.seen && !from_the_first {
            stream.sequences.next = payload.sequence;
        }
        stream.seen = true;
        stream.sequences.see(payload.sequence);
        Some(payload)
    }

    /// Close the books. `to_acked_end`: the reader had to see everything that was acknowledged, not
    /// only what it came past.
    pub fn verdict(&self, to_acked_end: bool) -> Verdict {
        let mut verdict = Verdict {
            acked: self.acked,
            read: self.read,
            corrupt: self.corrupt,
            foreign: self.foreign,
            ..Verdict::default()
        };
        for book in &self.partitions {
            verdict.ack_offsets_skipped += book.acks.skipped();
            verdict.ack_offsets_repeated += book.acks.repeated;
            verdict.read_offsets_skipped += book.read_skipped;
            for stream in &book.streams {
                verdict.duplicated += stream.sequences.duplicated;
                verdict.reordered += stream.sequences.reordered;
                // A stream that retention removed as a whole is not lost.
                let to_the_end = to_acked_end && (stream.seen || matches!(self.expect, Expect::Run(_)));
                verdict.lost += stream.lost(to_the_end);
            }
        }
        verdict
    }
}

impl PartitionBook {
    fn stream(&mut self, run: u64, producer: u32) -> &mut Stream {
        let is_it = |s: &Stream| s.producer == producer && s.run == run;
        if self.streams.get(self.recent).is_some_and(is_it) {
            return &mut self.streams[self.recent];
        }
        self.recent = self.streams.iter().position(is_it).unwrap_or_else(|| {
            let sequences = Sequences::default();
            self.streams.push(Stream {
                run,
                producer,
                answered: 0,
                refused: Vec::new(),
                seen: false,
                sequences,
            });
            self.streams.len() - 1
        });
        &mut self.streams[self.recent]
    }
}

impl Stream {
    fn lost(&self, to_the_end: bool) -> u64 {
        let missing = |from: u64, to: u64| -> u64 {
            let refused = self.refused.iter().map(|&(a, b)| b.min(to).saturating_sub(a.max(from))).sum();
            to.saturating_sub(from).saturating_sub(refused)
        };
        let holes: u64 = self.sequences.holes.iter().map(|(&from, &to)| missing(from, to)).sum();
        let unread = if to_the_end { missing(self.sequences.next, self.answered) } else { 0 };
        holes + self.sequences.lost + unread
    }
}

/// Watches that numbers come once each and in order.
#[derive(Debug, Default)]
struct Sequences {
    /// The number that should come next.
    next: u64,
    /// What was jumped over and has not come since: start to end.
    holes: BTreeMap<u64, u64>,
    /// Holes that were given up, see [`HOLES_MAX`].
    lost: u64,
    duplicated: u64,
    reordered: u64,
}

impl Sequences {
    fn see(&mut self, sequence: u64) {
        // Saturating: the numbers come from a peer.
        if sequence == self.next {
            self.next = sequence.saturating_add(1);
        } else if sequence > self.next {
            self.holes.insert(self.next, sequence);
            self.next = sequence.saturating_add(1);
            if self.holes.len() > HOLES_MAX {
                let (from, to) = self.holes.pop_first().expect("more than HOLES_MAX holes");
                self.lost += to - from;
            }
        } else {
            self.see_late(sequence);
        }
    }

    /// A number from before: it fills a hole, or it was here already.
    fn see_late(&mut self, sequence: u64) {
        let hole = self.holes.range(..=sequence).next_back().map(|(&from, &to)| (from, to));
        match hole {
            Some((from, to)) if sequence < to => {
                self.reordered += 1;
                self.holes.remove(&from);
                if from < sequence {
                    self.holes.insert(from, sequence);
                }
                if sequence + 1 < to {
                    self.holes.insert(sequence + 1, to);
                }
            }
            _ => self.duplicated += 1,
        }
    }
}

/// Watches that ranges of offsets, in any order, cover everything from a start on exactly once.
#[derive(Debug)]
struct DenseOffsets {
    /// Everything below was handed out.
    next: i64,
    /// Ranges beyond `next`: start to end. Connections that share a partition are answered in any
    /// order, so there are about as many as requests in flight.
    ahead: BTreeMap<i64, i64>,
    repeated: u64,
}

impl DenseOffsets {
    fn new(next: i64) -> DenseOffsets {
        DenseOffsets { next, ahead: BTreeMap::new(), repeated: 0 }
    }

    fn add(&mut self, from: i64, to: i64) {
        if from == self.next && self.ahead.is_empty() {
            self.next = to;
            return;
        }
        let below = self.next.min(to).saturating_sub(from).max(0);
        let after = self.ahead.range(from..to).map(|(&a, &b)| b.min(to) - a).sum::<i64>();
        let before = self.ahead.range(..from).next_back().map_or(0, |(_, &b)| (b.min(to) - from).max(0));
        let repeated = below + after + before;
        if repeated > 0 {
            self.repeated += repeated.unsigned_abs();
            return;
        }
        self.ahead.insert(from, to);
        while let Some(range) = self.ahead.first_entry().filter(|range| *range.key() == self.next) {
            self.next = range.remove();
        }
    }

    fn skipped(&self) -> u64 {
        let mut next = self.next;
        let mut skipped = 0;
        for (&from, &to) in &self.ahead {
            skipped += from.abs_diff(next);
            next = to;
        }
        skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::payload::{Body, Random, prepare, stamp};

    const RUN: u64 = 5;

    fn value(run: u64, sequence: u64) -> Vec<u8> {
        let mut value = vec![0; 40];
        let body = prepare(&mut value, run, 0, &Body::default(), &mut Random(sequence));
        stamp(&mut value, body, sequence, 0);
        value
    }

    /// Ten records acknowledged; the reader is given `sequences` one after the other.
    fn verdict_of(sequences: &[u64]) -> Verdict {
        let mut ledger = Ledger::new(Expect::Run(RUN), &[100]);
        ledger.ack(0, RUN, 0, 0, 10, 100);
        for (offset, &sequence) in (100..).zip(sequences) {
            ledger.read(0, offset, &value(RUN, sequence));
        }
        ledger.verdict(true)
    }

    #[test]
    fn a_loss_a_duplicate_and_a_swap_are_each_caught() {
        let cases: [(&str, &[u64], [u64; 3]); 6] = [
            ("all well", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [0, 0, 0]),
            ("a loss inside", &[0, 1, 2, 4, 5, 6, 7, 8, 9], [1, 0, 0]),
            ("a loss at the end", &[0, 1, 2, 3, 4, 5, 6, 7], [2, 0, 0]),
            ("a duplicate", &[0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9], [0, 1, 0]),
            ("a swap", &[0, 1, 3, 2, 4, 5, 6, 7, 8, 9], [0, 0, 1]),
            ("a block of three late by one", &[0, 4, 1, 2, 3, 3, 5, 6, 8, 9], [1, 1, 3]),
        ];
        for (name, sequences, expected) in cases {
            let verdict = verdict_of(sequences);
            assert_eq!([verdict.lost, verdict.duplicated, verdict.reordered], expected, "{name}");
            assert_eq!(verdict.passed(), expected == [0; 3], "{name}");
        }
    }

    #[test]
    fn books_in_which_nothing_was_read_do_not_call_themselves_complete() {
        for (acked, read, lost, finding) in [
            (10, 10, 0, "complete"),
            (0, 10, 0, "complete"),
            (10, 0, 0, "acks dense, nothing read back"),
            (0, 0, 0, "nothing acknowledged, nothing read back"),
            (10, 0, 10, "10 lost"),
        ] {
            let verdict = Verdict { acked, read, lost, ..Verdict::default() };
            assert_eq!(verdict.finding(), finding);
        }
    }

    #[test]
    fn what_retention_removes_while_it_is_read_is_not_lost_but_what_comes_after_is() {
        for (resumed, lost) in [(&[6, 7, 8, 9][..], 0), (&[6, 8, 9], 1), (&[6, 7], 2)] {
            let mut ledger = Ledger::new(Expect::Run(RUN), &[100]);
            ledger.ack(0, RUN, 0, 0, 10, 100);
            ledger.read(0, 100, &value(RUN, 0));
            ledger.skip_removed(0, 106);
            ledger.skip_removed(0, 50);
            for (offset, &sequence) in (106..).zip(resumed) {
                ledger.read(0, offset, &value(RUN, sequence));
            }
            assert_eq!(ledger.verdict(true).lost, lost, "{resumed:?}");
        }
    }

    #[test]
    fn damage_strangers_and_missing_offsets_are_caught() {
        let mut ledger = Ledger::new(Expect::Run(RUN), &[0]);
        ledger.ack(0, RUN, 0, 0, 2, 0);
        let mut damaged = value(RUN, 0);
        damaged[35] ^= 1;
        assert_eq!(ledger.read(0, 0, &damaged), None);
        assert_eq!(ledger.read(0, 2, &value(RUN + 1, 0)), None);
        let verdict = ledger.verdict(true);
        assert_eq!((verdict.corrupt, verdict.foreign, verdict.read_offsets_skipped), (1, 1, 1));
        assert_eq!(verdict.lost, 2, "neither of the acknowledged records was read");
    }

    #[test]
    fn refused_records_may_be_missing_and_may_be_there() {
        for read in [&[0, 1, 2, 3, 4][..], &[0, 1, 4]] {
            let mut ledger = Ledger::new(Expect::Run(RUN), &[0]);
            ledger.ack(0, RUN, 0, 0, 2, 0);
            ledger.refuse(0, RUN, 0, 2, 2);
            ledger.ack(0, RUN, 0, 4, 1, 2);
            for (offset, &sequence) in (0..).zip(read) {
                ledger.read(0, offset, &value(RUN, sequence));
            }
            assert!(ledger.verdict(true).passed(), "{read:?}");
        }
    }

    #[test]
    fn a_reader_behind_retention_starts_where_the_log_does() {
        let mut ledger = Ledger::new(Expect::Run(RUN), &[0]);
        ledger.ack(0, RUN, 0, 0, 10, 0);
        ledger.read_from(0, 6, Expect::RunTail(RUN));
        for offset in 4..10 {
            ledger.read(0, offset, &value(RUN, offset as u64));
        }
        assert_eq!(ledger.verdict(true).read, 4);
        assert!(ledger.verdict(true).passed(), "{:?}", ledger.verdict(true));
    }

    #[test]
    fn offsets_of_acks_are_dense_in_any_order() {
        for (ranges, next, skipped, repeated) in [
            (&[(10, 12), (12, 15)][..], 15, 0, 0),
            (&[(12, 15), (10, 12), (15, 16)], 16, 0, 0),
            (&[(10, 12), (13, 15)], 12, 1, 0),
            (&[(10, 12), (11, 13)], 12, 0, 1),
            (&[(14, 16), (12, 15), (8, 11)], 10, 4, 3),
        ] {
            let mut offsets = DenseOffsets::new(10);
            for &(from, to) in ranges {
                offsets.add(from, to);
            }
            let got = (offsets.next, offsets.skipped(), offsets.repeated);
            assert_eq!(got, (next, skipped, repeated), "{ranges:?}");
        }
    }
}
