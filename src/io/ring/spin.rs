//! Would spinning have paid? What an adaptive ring learns from how its waits ended.

use std::time::Duration;

/// How the last eight waits ended: those in which nothing had happened yet when they began.
///
/// Spinning pays when something comes within the time spun. A shard whose requests are milliseconds
/// apart, such as the heartbeats of idle consumers, would spin before each of its sleeps for nothing:
/// a thousand such members cost it 2 % of a core. So it spins only while one of the last waits was
/// short, and finds out by its sleeps when they become so again. Where a sleep comes later than was
/// measured none of them is short: now and then it spins all the same, to see.
#[derive(Debug)]
pub(super) struct SpinHistory {
    /// One bit a wait, the newest lowest: it was short.
    short: u8,
    /// Long waits since the last short one, or since the last try.
    long: u8,
}

/// After so many long waits one is spun for: 2 % of the spinning that history saves.
const TRY_EVERY: u8 = 64;

impl SpinHistory {
    /// Nothing is known: spin.
    pub(super) fn new() -> SpinHistory {
        SpinHistory { short: u8::MAX, long: 0 }
    }

    pub(super) fn pays(&self) -> bool {
        self.short != 0 || self.long == TRY_EVERY
    }

    /// A wait is over after `waited`, where `spin` is what is spun and, by
    /// [`wakeup::measure`](crate::io::wakeup::measure), about what a sleep comes late: so a sleep of
    /// twice as long may have been for something that a spinning shard would have seen.
    pub(super) fn on_waited(&mut self, waited: Duration, spin: Duration) {
        let short = waited <= 2 * spin;
        self.short = self.short << 1 | u8::from(short);
        self.long = if short || self.long == TRY_EVERY { 0 } else { self.long + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPIN: Duration = Duration::from_micros(50);

    #[test]
    fn it_spins_until_eight_waits_in_a_row_were_long() {
        let mut history = SpinHistory::new();
        for _ in 0..8 {
            assert!(history.pays());
            history.on_waited(2 * SPIN + Duration::from_nanos(1), SPIN);
        }
        assert!(!history.pays());
    }

    #[test]
    fn one_short_sleep_makes_it_spin_again() {
        let mut history = SpinHistory { short: 0, long: 0 };
        history.on_waited(2 * SPIN, SPIN);
        assert!(history.pays());
        for _ in 0..7 {
            history.on_waited(Duration::from_millis(3), SPIN);
            assert!(history.pays());
        }
        history.on_waited(Duration::from_millis(3), SPIN);
        assert!(!history.pays());
    }

    #[test]
    fn it_spins_now_and_then_although_all_waits_are_long() {
        let mut history = SpinHistory::new();
        let spun = (0..=650).filter(|_| {
            let spins = history.pays();
            history.on_waited(Duration::from_millis(3), SPIN);
            spins
        });
        assert_eq!(spun.count(), 8 + 10);
    }
}
