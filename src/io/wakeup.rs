//! What a sleep costs: how long an idle shard rather spins.
//!
//! A thread that sleeps is running again only some time after the event that wakes it: 3 us on a
//! machine that keeps its cores awake, 90 us on one where a sleeping virtual core must be scheduled by
//! the host. Who spins for as long before sleeping is never worse off than twice the better choice.

use std::io;
use std::time::{Duration, Instant};

/// Sleeps measured, of which the median counts.
const SLEEPS: usize = 31;
const SLEEP: Duration = Duration::from_micros(50);
/// Below, the clock is as dear as the spinning; above, something else held the machine.
const PLAUSIBLE: std::ops::RangeInclusive<Duration> = Duration::from_micros(2)..=Duration::from_micros(200);

/// How much later than asked for a sleeping thread of this core runs again. Takes some milliseconds.
///
/// Leaves the calling thread without timer slack (`PR_SET_TIMERSLACK`), which would be measured too and
/// which a shard's deadlines can do without.
pub fn measure() -> Duration {
    without_slack();
    let mut late: Vec<Duration> = (0..SLEEPS).filter_map(|_| oversleep().ok()).collect();
    late.sort_unstable();
    let median = late.get(late.len() / 2).copied().unwrap_or(*PLAUSIBLE.end());
    median.clamp(*PLAUSIBLE.start(), *PLAUSIBLE.end())
}

fn without_slack() {
    // SAFETY: this option takes a number and changes only the calling thread's timers. A failure
    // leaves the slack as it was.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

fn oversleep() -> io::Result<Duration> {
    let time = libc::timespec { tv_sec: 0, tv_nsec: SLEEP.subsec_nanos().into() };
    let started = Instant::now();
    // SAFETY: no descriptors are given, and `time` outlives the call.
    let result = unsafe { libc::ppoll(std::ptr::null_mut(), 0, &time, std::ptr::null()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(started.elapsed().saturating_sub(SLEEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_costs_something() {
        assert!(oversleep().unwrap() > Duration::ZERO);
        assert!(PLAUSIBLE.contains(&measure()));
    }
}
