//! When requests are due: an absolute schedule, which no answer can delay.
//!
//! A schedule counts in *even time*, in which requests come at a constant mean rate, and maps it to
//! real time. Poisson arrivals are random steps of even time; bursts are stretches of real time into
//! which more of the even time is pressed. So both can be had at once.

use serde::{Deserialize, Serialize};

use super::payload::Random;

const SECOND_NS: f64 = 1e9;

/// The pattern of an open loop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arrivals {
    /// Random gaps of an exponential distribution instead of equal ones.
    pub poisson: bool,
    pub burst: Option<Burst>,
}

/// The last second of every `every_s` seconds has `factor` times the rate of the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Burst {
    /// At least 2.
    pub every_s: u64,
    /// At least 1.
    pub factor: f64,
}

impl Arrivals {
    pub const EVEN: Arrivals = Arrivals { poisson: false, burst: None };

    /// Mean rate of a whole period, as a multiple of the rate outside of bursts.
    pub fn mean_factor(&self) -> f64 {
        self.burst.map_or(1.0, |Burst { every_s, factor }| (every_s as f64 - 1.0 + factor) / every_s as f64)
    }

    /// Real time since the begin at which even time reaches `even_ns`.
    fn real_ns(&self, even_ns: f64) -> f64 {
        let Some(Burst { every_s, factor }) = self.burst else { return even_ns };
        let calm_ns = (every_s as f64 - 1.0) * SECOND_NS;
        let period_even_ns = calm_ns + factor * SECOND_NS;
        let periods = (even_ns / period_even_ns).floor();
        let rest_ns = even_ns - periods * period_even_ns;
        let in_period_ns = if rest_ns < calm_ns { rest_ns } else { calm_ns + (rest_ns - calm_ns) / factor };
        periods * every_s as f64 * SECOND_NS + in_period_ns
    }
}

/// The due times of one connection, in order.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    start_ns: u64,
    /// Even time of the first request, and between two of them.
    first_ns: f64,
    interval_ns: f64,
    random: Random,
    /// Requests before the next one.
    index: u64,
    /// Even time of the next one.
    even_ns: f64,
    due_ns: u64,
}

impl Schedule {
    /// Begins at `start_ns`; `phase_ns` is where in its interval this connection sends, so that
    /// connections do not send all at once.
    pub fn new(arrivals: Arrivals, start_ns: u64, phase_ns: f64, interval_ns: f64, seed: u64) -> Schedule {
        assert!(interval_ns > 0.0);
        let mut schedule = Schedule {
            arrivals,
            start_ns,
            first_ns: phase_ns,
            interval_ns,
            random: Random(seed),
            index: 0,
            even_ns: phase_ns,
            due_ns: 0,
        };
        if arrivals.poisson {
            schedule.even_ns = schedule.gap_ns();
        }
        schedule.due_ns = schedule.to_due_ns();
        schedule
    }

    /// When the next request is due.
    #[inline]
    pub fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// The next request is sent: on to the one after it.
    #[inline]
    pub fn advance(&mut self) {
        self.index += 1;
        self.even_ns =
            if self.arrivals.poisson { self.even_ns + self.gap_ns() } else { self.even_ns_at(self.index) };
        self.due_ns = self.to_due_ns();
    }

    /// Requests from the next one on that are due before `end_ns`.
    pub fn due_before(&self, end_ns: u64) -> u64 {
        if self.due_ns >= end_ns {
            return 0;
        }
        if self.arrivals.poisson {
            // Chance has to be played out.
            let mut rest = self.clone();
            while rest.due_ns < end_ns {
                rest.advance();
            }
            return rest.index - self.index;
        }
        // Due times rise: double until one is too late, then halve. There may be hundreds of millions.
        let is_due = |count| self.due_ns_at(self.index + count) < end_ns;
        let mut late = 1;
        while is_due(late) {
            late *= 2;
        }
        let mut due = late / 2;
        while late - due > 1 {
            let middle = due + (late - due) / 2;
            if is_due(middle) {
                due = middle;
            } else {
                late = middle;
            }
        }
        late
    }

    /// The same, but at once: where chance decides, what is to be expected.
    pub fn about_due_before(&self, end_ns: u64) -> u64 {
        if !self.arrivals.poisson {
            return self.due_before(end_ns);
        }
        let ahead_ns = end_ns.saturating_sub(self.due_ns) as f64;
        (ahead_ns * self.arrivals.mean_factor() / self.interval_ns) as u64
    }

    /// When the request of this index is due, if they come evenly.
    fn due_ns_at(&self, index: u64) -> u64 {
        self.start_ns + self.arrivals.real_ns(self.even_ns_at(index)) as u64
    }

    #[inline]
    fn even_ns_at(&self, index: u64) -> f64 {
        // A product, not a sum of rounded steps: exact to a nanosecond for months.
        self.first_ns + index as f64 * self.interval_ns
    }

    #[inline]
    fn to_due_ns(&self) -> u64 {
        self.start_ns + self.arrivals.real_ns(self.even_ns) as u64
    }

    /// A gap of mean `interval_ns`.
    fn gap_ns(&mut self) -> f64 {
        // In (0, 1]: its logarithm is finite.
        let uniform = ((self.random.next() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -uniform.ln() * self.interval_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_schedule_is_absolute_and_exact_for_months() {
        let mut schedule = Schedule::new(Arrivals::EVEN, 500, 0.0, 1e9 / 3.0, 1);
        assert_eq!(schedule.due_ns(), 500);
        (0..3).for_each(|_| schedule.advance());
        assert_eq!(schedule.due_ns(), 1_000_000_500);
        schedule.index = 3 * 86_400 * 30 - 1;
        schedule.advance();
        assert_eq!(schedule.due_ns(), 86_400 * 30 * 1_000_000_000 + 500);
    }

    #[test]
    fn what_is_due_is_counted_to_the_end_and_not_beyond() {
        let mut schedule = Schedule::new(Arrivals::EVEN, 0, 0.0, 1e6, 1);
        assert_eq!(
            (schedule.due_before(0), schedule.due_before(1), schedule.due_before(1_000_000_000)),
            (0, 1, 1000)
        );
        (0..10).for_each(|_| schedule.advance());
        assert_eq!(schedule.due_before(1_000_000_000), 990);
    }

    #[test]
    fn a_count_agrees_with_going_there_one_by_one() {
        let burst = Some(Burst { every_s: 3, factor: 4.5 });
        for (poisson, burst) in [(false, None), (false, burst), (true, None), (true, burst)] {
            let mut schedule = Schedule::new(Arrivals { poisson, burst }, 12_345, 1e5, 1e9 / 700.0, 3);
            schedule.advance();
            for end_ns in [0, 12_345, 1_500_000, 2_999_999_999, 3_000_012_345, 7_777_777_777] {
                let (mut walker, mut count) = (schedule.clone(), 0);
                while walker.due_ns() < end_ns {
                    walker.advance();
                    count += 1;
                }
                assert_eq!(schedule.due_before(end_ns), count, "{poisson} {burst:?} {end_ns}");
                // Five standard deviations of chance.
                let about = schedule.about_due_before(end_ns).abs_diff(count);
                let bound = if poisson { (count as f64).sqrt() * 5.0 + 5.0 } else { 0.0 };
                // A burst that has begun is not the mean: half of one period's difference.
                let burst_bound = if poisson && burst.is_some() { 700.0 * 3.0 } else { 0.0 };
                assert!(about as f64 <= bound + burst_bound, "{poisson} {burst:?} {end_ns}: {about}");
            }
        }
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let poisson = Arrivals { poisson: true, burst: None };
        let mut schedule = Schedule::new(poisson, 0, 0.0, 1e6, 7);
        let (mut before, mut gaps) = (0, Vec::new());
        for _ in 0..100_000 {
            gaps.push((schedule.due_ns() - before) as f64);
            before = schedule.due_ns();
            schedule.advance();
        }
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean / 1e6 - 1.0).abs() < 0.02 && (variance.sqrt() / mean - 1.0).abs() < 0.02);
    }

    #[test]
    fn a_burst_presses_its_requests_into_one_second() {
        let arrivals = Arrivals { poisson: false, burst: Some(Burst { every_s: 5, factor: 10.0 }) };
        let schedule = Schedule::new(arrivals, 0, 0.0, 1e6, 1);
        let second = 1_000_000_000;
        let counts: Vec<u64> = (0..10)
            .map(|s| schedule.due_before((s + 1) * second) - schedule.due_before(s * second))
            .collect();
        assert_eq!(counts, [1000, 1000, 1000, 1000, 10_000, 1000, 1000, 1000, 1000, 10_000]);
        assert_eq!(arrivals.mean_factor(), 2.8);
    }
}
