//! The machine's clocks, as the turns of all shards see them.

use std::cell::Cell;
use std::time::SystemTime;

use crate::model::{Nanos, Now, WallMs};

/// Reads the time. One per thread.
#[derive(Debug, Default)]
pub struct Clock {
    /// The latest wall-clock time given out.
    wall: Cell<WallMs>,
}

impl Clock {
    /// Monotonic time is the same on all threads. Wall-clock time never goes back within this
    /// clock: when somebody sets the machine's clock back, it stands still until the time is reached
    /// again, so that append times of a log do not run backwards.
    pub fn now(&self) -> Now {
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let wall = WallMs(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)).max(self.wall.get());
        self.wall.set(wall);
        Now { mono: monotonic(), wall }
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub fn monotonic() -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result. The call cannot fail with this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back() {
        let clock = Clock::default();
        let first = clock.now();
        assert!(first.wall > WallMs(1_600_000_000_000), "after 2020");
        let later = WallMs(first.wall.0 + 1_000_000);
        clock.wall.set(later);
        let second = clock.now();
        assert_eq!(second.wall, later, "a clock that was set back stands still");
        assert!(second.mono >= first.mono);
    }
}
