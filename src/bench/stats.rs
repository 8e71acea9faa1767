//! What is counted while a run goes on, and how it is added up.
//!
//! A load thread fills one [`Interval`] a second and sends it away; nothing else of its measurements
//! leaves the thread. Intervals are merged by adding histograms, never by averaging percentiles.

use std::time::Instant;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::driver::Code;

/// Latencies above an hour are booked as an hour; a run that has one is invalid.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Three digits: a percentile is exact to 0.1 %.
const DIGITS: u8 = 3;
/// A gap between two looks at the sockets that is longer counts as a stall of the machine.
pub const STALL_NS: u64 = 1_000_000;
/// A percentile with fewer samples beyond it is marked: it says little.
pub const SAMPLES_BEYOND_MIN: u64 = 100;

/// The clock that all threads of a run share: monotonic nanoseconds since its making.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn new() -> Clock {
        Clock(Instant::now())
    }

    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// Durations in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Latency {
    pub fn new() -> Latency {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS);
        Latency(histogram.expect("the bounds are constants in the allowed range"))
    }

    /// What another one held.
    pub fn of(histogram: Histogram<u64>) -> Latency {
        Latency(histogram)
    }

    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    pub fn add(&mut self, other: &Latency) {
        self.0 += &other.0;
    }

    /// Whether a sample was too long to be kept as it was.
    pub fn is_clipped(&self) -> bool {
        self.0.max() >= LATENCY_NS_MAX
    }

    /// For writers of standard formats.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// Quantile and value, along an axis of nines: enough points for a smooth line, none beyond what
    /// the samples can say.
    pub fn curve(&self) -> Vec<(f64, u64)> {
        let samples = self.0.len();
        if samples == 0 {
            return Vec::new();
        }
        let mut points = vec![(0.0, self.0.min())];
        for tenth_of_nine in 1..=70 {
            let beyond = 10f64.powf(-f64::from(tenth_of_nine) / 10.0);
            if beyond * (samples as f64) < 1.0 {
                break;
            }
            // Short enough for a decimal number to keep it exactly.
            let quantile = ((1.0 - beyond) * 1e8).round() / 1e8;
            points.push((quantile, self.0.value_at_quantile(quantile)));
        }
        points
    }

    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile);
        let samples = self.0.len();
        let within = if samples == 0 { 0 } else { self.0.count_between(0, 1_000_000) };
        Percentiles {
            samples,
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p99_9_ns: at(0.999),
            p99_99_ns: at(0.9999),
            max_ns: self.0.max(),
            within_1ms: within as f64 / samples.max(1) as f64,
        }
    }
}

/// A [`Latency`] in a few numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub samples: u64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p99_9_ns: u64,
    pub p99_99_ns: u64,
    pub max_ns: u64,
    /// Share of the samples of at most one millisecond.
    pub within_1ms: f64,
}

/// The counts of one thread in one second, or of several added up.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Seconds since the run began. They go on after the load's end, while answers and readers catch up.
    pub second: u64,
    pub requests: u64,
    pub records: u64,
    /// Of the acknowledged batches, on the wire.
    pub bytes: u64,
    /// Of the batches that were compressed: their bytes before and after, and the time that it took.
    pub plain_bytes: u64,
    pub packed_bytes: u64,
    pub packing_ns: u64,
    pub packed_requests: u64,
    /// Spent compressing, with answers to readers, or, in a closed loop, with any connection, since the last
    /// look at the sockets: work, and no stall.
    pub work_since_look_ns: u64,
    /// Requests that were refused, and the code of the last.
    pub errors: u64,
    pub error_code: Code,
    pub read_records: u64,
    /// Of fetch answers, on the wire.
    pub read_bytes: u64,
    /// Ack − intended. One sample a request, as for the others but `end_to_end`; with a linger, one a
    /// record.
    pub response: Latency,
    /// Ack − sent.
    pub service: Latency,
    /// Sent − intended.
    pub delay: Latency,
    /// The part of the delay for which the generator is to blame, see [`lateness`](super::lateness).
    pub own_delay: Latency,
    /// Received − intended. One sample a record.
    pub end_to_end: Latency,
    /// The longest time between two looks at the sockets, without work: how much the machine or we ourselves stalled.
    pub stall_ns_max: u64,
    /// Sum of these times where they are above [`STALL_NS`].
    pub stalled_ns: u64,
    /// Requests, and their records, without an answer when the interval ended.
    pub in_flight: u64,
    pub in_flight_records: u64,
    /// After the load's end: about how much of what was due before it was not sent when the interval
    /// ended.
    pub overdue: u64,
    /// Connections that were lost and made again.
    pub reconnects: u64,
}

impl Interval {
    pub fn new() -> Interval {
        Interval {
            second: 0,
            requests: 0,
            records: 0,
            bytes: 0,
            plain_bytes: 0,
            packed_bytes: 0,
            packing_ns: 0,
            packed_requests: 0,
            work_since_look_ns: 0,
            errors: 0,
            error_code: Code::default(),
            read_records: 0,
            read_bytes: 0,
            response: Latency::new(),
            service: Latency::new(),
            delay: Latency::new(),
            own_delay: Latency::new(),
            end_to_end: Latency::new(),
            stall_ns_max: 0,
            stalled_ns: 0,
            in_flight: 0,
            in_flight_records: 0,
            overdue: 0,
            reconnects: 0,
        }
    }

    pub fn add(&mut self, other: &Interval) {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
        self.plain_bytes += other.plain_bytes;
        self.packed_bytes += other.packed_bytes;
        self.packing_ns += other.packing_ns;
        self.packed_requests += other.packed_requests;
        self.errors += other.errors;
        if other.errors > 0 {
            self.error_code = other.error_code;
        }
        self.read_records += other.read_records;
        self.read_bytes += other.read_bytes;
        self.stall_ns_max = self.stall_ns_max.max(other.stall_ns_max);
        self.stalled_ns += other.stalled_ns;
        self.in_flight += other.in_flight;
        self.in_flight_records += other.in_flight_records;
        self.overdue += other.overdue;
        self.reconnects += other.reconnects;
        let [response, service, delay, own_delay, end_to_end] = other.latencies();
        self.response.add(response);
        self.service.add(service);
        self.delay.add(delay);
        self.own_delay.add(own_delay);
        self.end_to_end.add(end_to_end);
    }

    /// Empty it for the interval `second`.
    pub fn reset(&mut self, second: u64) {
        let Interval { response, service, delay, own_delay, end_to_end, .. } = self;
        for latency in [&mut *response, service, delay, own_delay, end_to_end] {
            latency.0.reset();
        }
        self.second = second;
        (self.requests, self.records, self.bytes, self.errors) = (0, 0, 0, 0);
        (self.read_records, self.read_bytes) = (0, 0);
        (self.stall_ns_max, self.stalled_ns) = (0, 0);
        (self.in_flight, self.in_flight_records, self.overdue, self.reconnects) = (0, 0, 0, 0);
        (self.plain_bytes, self.packed_bytes) = (0, 0);
        (self.packing_ns, self.packed_requests, self.work_since_look_ns) = (0, 0, 0);
    }

    /// The time since the last look at the sockets was `gap_ns`. Returns what of it was no work.
    #[inline]
    pub fn look(&mut self, gap_ns: u64) -> u64 {
        let gap_ns = gap_ns.saturating_sub(std::mem::take(&mut self.work_since_look_ns));
        self.stall_ns_max = self.stall_ns_max.max(gap_ns);
        if gap_ns > STALL_NS {
            self.stalled_ns += gap_ns;
        }
        gap_ns
    }

    /// One connection was served in `took_ns`; `booked_ns` is the work that was booked before. That is work, too,
    /// unless it took so long that the machine must have stood still in it. Where that was for less, it is not seen.
    #[inline]
    pub fn book_step(&mut self, took_ns: u64, booked_ns: u64) {
        let booked_in_it_ns = self.work_since_look_ns - booked_ns;
        if took_ns.saturating_sub(booked_in_it_ns) <= STALL_NS {
            self.work_since_look_ns = booked_ns + took_ns.max(booked_in_it_ns);
        }
    }

    pub fn latencies(&self) -> [&Latency; 5] {
        [&self.response, &self.service, &self.delay, &self.own_delay, &self.end_to_end]
    }
}

impl Default for Interval {
    fn default() -> Interval {
        Interval::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_added_intervals_are_those_of_all_samples() {
        let (mut fast, mut slow) = (Interval::new(), Interval::new());
        for _ in 0..990 {
            fast.response.record(1_000);
        }
        for _ in 0..10 {
            slow.response.record(2_000_000);
        }
        slow.stall_ns_max = 7;
        fast.add(&slow);
        let all = fast.response.percentiles();
        assert_eq!((all.samples, all.p50_ns), (1000, 1_000));
        assert!(all.p99_ns < 1_010 && all.p99_9_ns > 1_990_000);
        assert_eq!(all.within_1ms, 0.99);
        assert_eq!(fast.stall_ns_max, 7);

        fast.reset(3);
        assert_eq!((fast.second, fast.stall_ns_max), (3, 0));
        assert_eq!(fast.response.percentiles(), Interval::new().response.percentiles());
    }

    #[test]
    fn work_is_no_stall() {
        let mut interval = Interval::new();
        interval.work_since_look_ns = 4 * STALL_NS;
        assert_eq!(interval.look(5 * STALL_NS), STALL_NS);
        assert_eq!((interval.stall_ns_max, interval.stalled_ns), (STALL_NS, 0));
        assert_eq!(interval.look(5 * STALL_NS), 5 * STALL_NS);
        assert_eq!((interval.stall_ns_max, interval.stalled_ns), (5 * STALL_NS, 5 * STALL_NS));
    }

    #[test]
    fn many_connections_served_are_work_and_one_that_takes_long_is_a_stall() {
        let mut interval = Interval::new();
        for _ in 0..4 {
            interval.book_step(STALL_NS / 2, interval.work_since_look_ns);
        }
        assert_eq!(interval.look(2 * STALL_NS), 0);
        interval.book_step(2 * STALL_NS, 0);
        assert_eq!(interval.look(2 * STALL_NS), 2 * STALL_NS);
        // Compressing has booked most of it already.
        interval.work_since_look_ns = 5 * STALL_NS;
        interval.book_step(4 * STALL_NS, 2 * STALL_NS);
        assert_eq!(interval.look(6 * STALL_NS), 0);
    }

    #[test]
    fn a_latency_beyond_the_bounds_is_kept_as_the_bound() {
        let mut latency = Latency::new();
        latency.record(LATENCY_NS_MAX / 2);
        assert!(!latency.is_clipped());
        latency.record(u64::MAX);
        assert!(latency.is_clipped() && latency.percentiles().max_ns >= LATENCY_NS_MAX);
    }
}
