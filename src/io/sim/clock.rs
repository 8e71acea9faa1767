//! Virtual time: a clock that moves only when told, and what will happen when it does.

use std::collections::BTreeMap;

use crate::model::{Nanos, Now, WallMs};

/// An ordinary day in 2023: far from zero, so that tests meet realistic timestamps.
const WALL_START_MS: i64 = 1_700_000_000_000;

/// Not zero, so that "no time" and "the start" differ.
const MONO_START: Nanos = Nanos(1_000_000_000);

#[derive(Debug)]
pub(super) struct Clock {
    mono: Nanos,
    /// What the wall clock says when the monotonic one says 0.
    wall_at_zero_ms: i64,
}

impl Clock {
    pub fn new() -> Clock {
        Clock { mono: MONO_START, wall_at_zero_ms: WALL_START_MS }
    }

    pub fn now(&self) -> Now {
        let elapsed_ms = (self.mono.0 / 1_000_000) as i64;
        Now { mono: self.mono, wall: WallMs(self.wall_at_zero_ms + elapsed_ms) }
    }

    /// Move on to `time`; a time in the past changes nothing.
    pub fn advance_to(&mut self, time: Nanos) {
        self.mono = self.mono.max(time);
    }

    /// Somebody sets the wall clock, as NTP or an operator may: either way, at any time.
    pub fn step_wall(&mut self, by_ms: i64) {
        self.wall_at_zero_ms += by_ms;
    }
}

/// What is to happen, in the order of its time; equal times in the order of scheduling.
pub(super) struct Schedule<T> {
    queue: BTreeMap<(Nanos, u64), T>,
    sequence: u64,
}

impl<T> Default for Schedule<T> {
    fn default() -> Schedule<T> {
        Schedule { queue: BTreeMap::new(), sequence: 0 }
    }
}

impl<T> Schedule<T> {
    pub fn at(&mut self, time: Nanos, what: T) {
        self.queue.insert((time, self.sequence), what);
        self.sequence += 1;
    }

    pub fn next_time(&self) -> Option<Nanos> {
        self.queue.first_key_value().map(|(&(time, _), _)| time)
    }

    /// The first entry that is due, with its place in the order.
    pub fn pop_due(&mut self, now: Nanos) -> Option<((Nanos, u64), T)> {
        let first = self.queue.first_entry()?;
        (first.key().0 <= now).then(|| first.remove_entry())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_by_time_then_by_order() {
        let mut schedule = Schedule::default();
        for (time, name) in [(20, 'c'), (10, 'a'), (20, 'd'), (10, 'b')] {
            schedule.at(Nanos(time), name);
        }
        assert_eq!(schedule.next_time(), Some(Nanos(10)));
        assert!(schedule.pop_due(Nanos(9)).is_none());
        let got: String = std::iter::from_fn(|| schedule.pop_due(Nanos(20))).map(|(_, name)| name).collect();
        assert_eq!(got, "abcd");
    }

    #[test]
    fn the_wall_clock_can_be_set_and_the_monotonic_one_cannot_go_back() {
        let mut clock = Clock::new();
        let start = clock.now();
        clock.advance_to(Nanos(start.mono.0 + 5_000_000));
        clock.advance_to(start.mono);
        clock.step_wall(-1000);
        assert_eq!(clock.now().mono.since(start.mono), 5_000_000);
        assert_eq!(clock.now().wall.0 - start.wall.0, 5 - 1000);
    }
}
