//! How many of the dead segments nobody needs.
//!
//! Segments die in bursts (retention looks once a second, a topic is deleted) and are needed one by one. Those
//! that wait cost space; those that are removed and needed after all must be written with zeros again, which takes
//! as much of the device as their records. So the fewest that waited during a while are a surplus, and no others.

use std::time::Duration;

use crate::model::Nanos;

#[derive(Debug, Default)]
pub struct Surplus {
    /// Since when dead segments wait without a break, or are counted anew.
    since: Option<Nanos>,
    /// The fewest that were left since then.
    fewest: Option<usize>,
    /// Of these, what is not removed yet.
    count: usize,
}

impl Surplus {
    /// One was recycled, and so many wait behind it.
    pub fn on_recycled(&mut self, left: usize) {
        self.fewest = Some(self.fewest.map_or(left, |fewest| fewest.min(left)));
        self.count = self.count.min(left);
    }

    /// None waits.
    pub fn clear(&mut self) {
        *self = Surplus::default();
    }

    /// Some wait: should the oldest be removed now? `waiting` counts them.
    pub fn poll(&mut self, now: Nanos, kept_for: Duration, waiting: impl FnOnce() -> usize) -> bool {
        let since = *self.since.get_or_insert(now);
        if self.count == 0 && now >= since.plus(kept_for) {
            let waiting = waiting();
            self.count = self.fewest.map_or(waiting, |fewest| fewest.min(waiting));
            (self.since, self.fewest) = (Some(now), None);
        }
        let any = self.count > 0;
        self.count -= usize::from(any);
        any
    }

    /// When to ask again, while some wait.
    pub fn deadline(&self, kept_for: Duration) -> Nanos {
        match self.since {
            Some(since) if self.count == 0 => since.plus(kept_for),
            _ => Nanos(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT_FOR: Duration = Duration::from_secs(60);
    const SECOND: u64 = 1_000_000_000;

    /// Each second `die` become dead, and then so many are recycled as `needed` says. How many wait, and were
    /// removed, after so many seconds.
    fn play(seconds: u64, waiting: usize, die: usize, needed: impl Fn(u64) -> usize) -> (usize, usize) {
        let (mut surplus, mut waiting, mut removed) = (Surplus::default(), waiting, 0);
        for second in 0..seconds {
            waiting += die;
            for _ in 0..needed(second).min(waiting) {
                waiting -= 1;
                surplus.on_recycled(waiting);
            }
            while waiting > 0 && surplus.poll(Nanos(second * SECOND), KEPT_FOR, || waiting) {
                (waiting, removed) = (waiting - 1, removed + 1);
            }
            if waiting == 0 {
                surplus.clear();
            }
        }
        (waiting, removed)
    }

    #[test]
    fn what_nobody_needs_goes_after_a_while_and_not_before() {
        assert_eq!(play(60, 100, 0, |_| 0), (100, 0));
        assert_eq!(play(61, 100, 0, |_| 0), (0, 100));
    }

    #[test]
    fn what_comes_and_goes_stays() {
        assert_eq!(play(600, 0, 6, |_| 6), (0, 0));
        // As many are needed as die, but not evenly: five were always left.
        assert_eq!(play(600, 10, 5, |second| if second % 2 == 0 { 10 } else { 0 }), (5, 5));
    }

    #[test]
    fn of_a_hundred_that_died_at_once_those_go_that_were_not_needed_in_a_minute() {
        let needed = |second| usize::from(second % 2 == 0);
        let (waiting, removed) = play(61, 100, 0, needed);
        assert_eq!((waiting, removed), (0, 69), "31 were needed");
        // Others die later, and are all needed: of the hundred all go in time but what the unevenness needs.
        assert_eq!(play(1000, 100, 1, |second| 4 * usize::from(second % 4 == 0)), (3, 97));
    }

    #[test]
    fn a_deadline_is_the_end_of_the_while_or_at_once() {
        let mut surplus = Surplus::default();
        assert_eq!(surplus.deadline(KEPT_FOR), Nanos(0), "the while has not begun");
        assert!(!surplus.poll(Nanos(5), KEPT_FOR, || 2));
        let end = Nanos(5).plus(KEPT_FOR);
        assert_eq!(surplus.deadline(KEPT_FOR), end);
        assert!(surplus.poll(end, KEPT_FOR, || 2));
        assert_eq!(surplus.deadline(KEPT_FOR), Nanos(0), "another one goes");
        assert!(surplus.poll(end, KEPT_FOR, || unreachable!("it is counted once")));
        assert_eq!(surplus.deadline(KEPT_FOR), end.plus(KEPT_FOR));
    }
}
