//! How many of the dead segments nobody needs.
//!
//! Segments die in bursts (retention looks once a second, a topic is deleted) and are needed one by one. Those
//! that wait cost space; those that are removed and needed after all must be written with zeros again, which takes
//! as much of the device as their records. So the fewest that waited during a while are a surplus, and no others.

use std::time::Duration;

use crate::model::Nanos;

#[derive(Debug, Default)]
pub struct Surplus {
    /// When the while began in which they are watched.
    since: Option<Nanos>,
    /// The fewest that waited since then, without those of `count`.
    fewest: usize,
    /// Of an earlier while: what is to be removed.
    count: usize,
}

impl Surplus {
    /// One was recycled, and so many wait behind it.
    pub fn on_recycled(&mut self, left: usize) {
        self.count = self.count.min(left);
        self.fewest = self.fewest.min(left - self.count);
    }

    /// None waits.
    pub fn clear(&mut self) {
        *self = Surplus::default();
    }

    /// A while is over, or the first begins: they are to be counted.
    pub fn is_due(&self, now: Nanos, kept_for: Duration) -> bool {
        self.count == 0 && self.since.is_none_or(|since| now >= since.plus(kept_for))
    }

    /// So many wait as the next while begins.
    pub fn begin(&mut self, now: Nanos, waiting: usize) {
        self.count = if self.since.is_some() { self.fewest.min(waiting) } else { 0 };
        (self.since, self.fewest) = (Some(now), waiting - self.count);
    }

    /// Should the oldest be removed now? Asked once for each.
    pub fn take(&mut self) -> bool {
        let any = self.count > 0;
        self.count -= usize::from(any);
        any
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
            while waiting > 0 {
                if surplus.is_due(Nanos(second * SECOND), KEPT_FOR) {
                    surplus.begin(Nanos(second * SECOND), waiting);
                }
                if !surplus.take() {
                    break;
                }
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
        // And what died later waits for as long.
        assert_eq!(play(61, 1, 1, |_| 0), (60, 2));
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
}
