//! Deadlines of all groups of a log, in one heap.
//!
//! A heartbeat only moves its member's deadline; the heap hears of that when the old one comes up.
//! So an idle member costs one look per session timeout, however often it says that it is there. Sessions end at
//! full ticks, so that these looks come together: each would be a turn of the shard that has nothing else to do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::model::Nanos;

/// A quarter of a second: far below any session, and a thousand members with sessions of 10 s make 4 turns a second
/// instead of 100, beside the 333 of their heartbeats.
const SESSION_TICK_NANOS: u64 = 250_000_000;

/// Fewer entries are not worth looking through: 100 KB.
pub const SWEEP_MIN: usize = 4096;

/// A group of this process; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey(pub u64);

/// A member or a pending member, unique in its group; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberKey(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The phase of a rebalance ends.
    Phase,
    /// A member was silent for too long.
    Member(MemberKey),
}

#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Nanos, GroupKey, Timer)>>,
    /// With so many entries it is time to drop those that mean nothing any more.
    sweep_at: usize,
}

impl Timers {
    pub fn arm(&mut self, at: Nanos, group: GroupKey, timer: Timer) {
        self.heap.push(Reverse((at, group, timer)));
    }

    /// Now and then drop the entries that are not `awaited`: whoever takes ids and gives them back at once leaves one
    /// each, until sessions end that it chose the length of. Costs a constant time for each entry ever made.
    pub fn sweep(&mut self, awaited: impl Fn(GroupKey, Timer, Nanos) -> bool) {
        if self.heap.len() < self.sweep_at.max(SWEEP_MIN) {
            return;
        }
        self.heap.retain(|Reverse((at, group, timer))| awaited(*group, *timer, *at));
        self.heap.shrink_to(SWEEP_MIN);
        self.sweep_at = 2 * self.heap.len();
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn next(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next that has come.
    pub fn pop(&mut self, now: Nanos) -> Option<(Nanos, GroupKey, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }
}

/// When a member is missed that is heard of now, and then no more: at the first tick after its session.
pub fn session_end(now: Nanos, session: Duration) -> Nanos {
    Nanos(now.plus(session).0.div_ceil(SESSION_TICK_NANOS).saturating_mul(SESSION_TICK_NANOS))
}

/// A deadline that may move, and the one entry of the heap that stands for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadline {
    at: Option<Nanos>,
    armed: Option<Nanos>,
}

/// What an entry of the heap meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The deadline has come.
    Now,
    /// It has moved: the heap must be told again.
    Later(Nanos),
    /// It was given up, or another entry stands for it.
    Never,
}

impl Deadline {
    /// Move the deadline. `Some`: an entry must be made for it.
    #[must_use]
    pub fn set(&mut self, at: Nanos) -> Option<Nanos> {
        self.at = Some(at);
        if self.armed.is_some_and(|armed| armed <= at) {
            return None;
        }
        self.armed = Some(at);
        Some(at)
    }

    pub fn clear(&mut self) {
        self.at = None;
    }

    /// The entry of the heap for `at` is the one that stands for it.
    pub fn is_armed(&self, at: Nanos) -> bool {
        self.armed == Some(at)
    }

    /// The entry made for `armed` came up.
    pub fn on_due(&mut self, armed: Nanos, now: Nanos) -> Due {
        if self.armed != Some(armed) {
            return Due::Never;
        }
        self.armed = None;
        match self.at {
            None => Due::Never,
            Some(at) if at <= now => {
                self.at = None;
                Due::Now
            }
            Some(at) => {
                self.armed = Some(at);
                Due::Later(at)
            }
        }
    }
}
