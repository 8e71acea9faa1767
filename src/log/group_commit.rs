//! Group commit: when the next block goes out, and up to where the log is durable.
//!
//! Sans-IO. Commit when idle: whatever arrived while the last write was in flight goes out with the
//! next one; no timer. A further block starts while one is in flight only above a target size, so
//! that a busy log keeps the device's queue filled and an idle one commits at once.
//!
//! ```text
//!        durable            written (maybe with holes)          submitted
//!  --------|-- block done --|-- block in flight --|-- done --|------
//!          acks have left      acks wait: only the contiguous prefix counts
//! ```

use std::collections::VecDeque;

use crate::base::mutant::{self, Mutant};
use crate::model::{CommitMode, Nanos, Position};

/// Names one block's write between its submission and its completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlightId(pub u64);

/// What is in a block, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockContent {
    /// Written to the device: header, entries and padding.
    pub bytes: u64,
    pub padding_bytes: u64,
    pub entry_count: u64,
}

/// A block on its way to the device.
#[derive(Clone, Copy, Debug)]
pub struct Submitted {
    pub end: Position,
    /// The block's chain checksum.
    pub chain: u32,
    pub content: BlockContent,
    pub at: Nanos,
}

#[derive(Debug)]
struct Flight {
    id: FlightId,
    block: Submitted,
    /// When the write completed; the block is durable then, or after the next sync.
    written: Option<Nanos>,
}

/// A stretch of the log that has just become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub end: Position,
    /// Chain checksum of the block that ends here.
    pub chain: u32,
    pub content: BlockContent,
    pub submitted: Nanos,
    /// When the device reported it durable.
    pub completed: Nanos,
}

/// A write or sync failed. Final: nothing after it is ever acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an earlier write to the log failed")]
pub struct Failed;

#[derive(Debug)]
pub struct GroupCommit {
    mode: CommitMode,
    depth: usize,
    target_bytes: usize,
    /// No block is submitted that begins so far beyond the durable position: recovery relies on it.
    window_bytes: u64,
    flights: VecDeque<Flight>,
    next_flight: u64,
    /// End of the bytes that survive power loss. Invariant: `durable <= written <= submitted`.
    durable: Position,
    submitted: Position,
    /// The sync in flight covers what was written up to here.
    syncing: Option<Position>,
    failed: bool,
}

impl GroupCommit {
    /// `end`: the log is durable up to here.
    pub fn new(
        mode: CommitMode,
        depth: usize,
        target_bytes: usize,
        window_bytes: u64,
        end: Position,
    ) -> GroupCommit {
        assert!(depth > 0 && window_bytes > 0);
        GroupCommit {
            mode,
            depth,
            target_bytes,
            window_bytes,
            flights: VecDeque::with_capacity(depth),
            next_flight: 0,
            durable: end,
            submitted: end,
            syncing: None,
            failed: false,
        }
    }

    pub fn mode(&self) -> CommitMode {
        self.mode
    }

    pub fn durable(&self) -> Position {
        self.durable
    }

    /// The end of the last block that was given to the device.
    pub fn submitted(&self) -> Position {
        self.submitted
    }

    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Blocks whose write has not completed.
    pub fn in_flight(&self) -> usize {
        self.flights.iter().filter(|flight| flight.written.is_none()).count()
    }

    /// Nothing is on its way: what was submitted is durable.
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.syncing.is_none()
    }

    /// May a block go out now, given that this many bytes wait?
    pub fn wants_block(&self, pending_bytes: usize) -> bool {
        let beyond = self.submitted.since(self.durable) >= self.window_bytes;
        if self.failed || pending_bytes == 0 || beyond && !mutant::is(Mutant::IgnoreWindow) {
            return false;
        }
        match self.in_flight() {
            0 => {
                self.mode != CommitMode::WriteThenSync
                    || self.syncing.is_none()
                    || pending_bytes >= self.target_bytes
            }
            flying => flying < self.depth && pending_bytes >= self.target_bytes,
        }
    }

    /// The next block was submitted.
    pub fn on_submitted(&mut self, block: Submitted) -> FlightId {
        assert!(!self.failed, "nothing is written after a failure");
        assert!(block.end > self.submitted, "blocks go out in order");
        self.submitted = block.end;
        let id = FlightId(self.next_flight);
        self.next_flight += 1;
        self.flights.push_back(Flight { id, block, written: None });
        id
    }

    /// A block's write completed. What has become durable is appended to `committed`.
    pub fn on_written(&mut self, id: FlightId, ok: bool, now: Nanos, committed: &mut Vec<Committed>) {
        if !ok && !mutant::is(Mutant::IgnoreFailedWrite) {
            // Never retried: after a failed write the device's word about anything later is worth nothing.
            self.failed = true;
        }
        if self.failed {
            return;
        }
        let in_order = mutant::is(Mutant::TakeWritesInOrder);
        let its = |flight: &&mut Flight| if in_order { flight.written.is_none() } else { flight.id == id };
        let flight = self.flights.iter_mut().find(its).expect("a write completes once");
        assert!(flight.written.is_none());
        flight.written = Some(now);
        if self.mode != CommitMode::WriteThenSync || mutant::is(Mutant::AckBeforeSync) {
            self.commit_prefix(None, now, committed);
        }
    }

    /// The sync that is due now, if any: it will cover everything written up to the position returned,
    /// which is at most `limit`, the end of the file that holds the durable position.
    pub fn poll_sync(&mut self, limit: Position) -> Option<Position> {
        if self.failed || self.mode != CommitMode::WriteThenSync || self.syncing.is_some() {
            return None;
        }
        let covered = |flight: &&Flight| flight.written.is_some() && flight.block.end <= limit;
        let written = self.flights.iter().take_while(covered).last()?.block.end;
        self.syncing = Some(written);
        Some(written)
    }

    /// The sync completed.
    pub fn on_synced(&mut self, ok: bool, now: Nanos, committed: &mut Vec<Committed>) {
        let upto = self.syncing.take().expect("a sync was in flight");
        self.failed |= !ok && !mutant::is(Mutant::IgnoreFailedSync);
        if !self.failed {
            self.commit_prefix(Some(upto), now, committed);
        }
    }

    fn commit_prefix(&mut self, upto: Option<Position>, now: Nanos, committed: &mut Vec<Committed>) {
        while let Some(flight) = self.flights.front() {
            let Some(written) = flight.written else { break };
            let Submitted { end, chain, content, at: submitted } = flight.block;
            if upto.is_some_and(|upto| end > upto) {
                break;
            }
            assert!(end > self.durable);
            self.durable = end;
            let completed = if upto.is_some() { now } else { written };
            committed.push(Committed { end, chain, content, submitted, completed });
            self.flights.pop_front();
        }
        assert!(self.durable <= self.submitted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Words: `s100` submit a block ending at 100, `w0`/`x0` write 0 done/failed, `f`/`F` sync done/failed,
    /// `?10` would a block go out with 10 bytes waiting. The first file ends at 25.
    fn check(mode: CommitMode, depth: usize, story: &str, expected: Expect) {
        let mut commit = GroupCommit::new(mode, depth, 64, 1000, Position(0));
        let mut out = String::new();
        for (time, word) in story.split(' ').enumerate() {
            let now = Nanos(time as u64);
            let number = word[1..].parse().unwrap_or(0);
            let mut committed = Vec::new();
            match word.as_bytes()[0] {
                b's' => {
                    let (end, content) = (Position(number), BlockContent::default());
                    commit.on_submitted(Submitted { end, chain: 0, content, at: now });
                }
                b'w' => commit.on_written(FlightId(number), true, now, &mut committed),
                b'x' => commit.on_written(FlightId(number), false, now, &mut committed),
                b'f' => commit.on_synced(true, now, &mut committed),
                b'F' => commit.on_synced(false, now, &mut committed),
                b'?' => out += if commit.wants_block(number as usize) { "yes " } else { "no " },
                _ => panic!("{word}"),
            }
            for block in committed {
                out += &format!("durable={} ", block.end);
            }
            if let Some(upto) = commit.poll_sync(Position(25)) {
                out += &format!("sync<{upto} ");
            }
        }
        if commit.failed() {
            out += "failed";
        }
        expected.assert_eq(out.trim_end());
    }

    #[test]
    fn commits_when_idle_and_deepens_only_above_the_target() {
        check(
            CommitMode::Dsync,
            2,
            "?1 s10 ?1 ?64 s80 ?64 w0 ?64 w1",
            expect!["yes no yes no durable=10 yes durable=80"],
        );
    }

    #[test]
    fn only_the_contiguous_prefix_is_durable() {
        check(CommitMode::Dsync, 4, "s10 s20 s30 w2 w1 w0", expect!["durable=10 durable=20 durable=30"]);
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_to_its_file() {
        check(
            CommitMode::WriteThenSync,
            4,
            "s10 s20 w0 s30 w1 w2 f f",
            expect!["sync<10 durable=10 sync<20 durable=20"],
        );
    }

    #[test]
    fn nothing_begins_beyond_the_window() {
        check(
            CommitMode::Dsync,
            4,
            "s999 ?64 s1010 w1 ?64 w0 ?64",
            expect!["yes no durable=999 durable=1010 yes"],
        );
    }

    #[test]
    fn a_failure_is_final() {
        check(CommitMode::Dsync, 4, "s10 s20 s30 w0 x1 w2 ?100", expect!["durable=10 no failed"]);
        check(CommitMode::WriteThenSync, 4, "s10 w0 s20 F w1 ?100", expect!["sync<10 no failed"]);
    }
}
