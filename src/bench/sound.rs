//! Which percentiles say something of the broker, and which do not: too few requests lie beyond them, or it
//! was the generator itself that was late.
//!
//! It is requests that are counted, not samples. The records of a batch are acknowledged together, and read
//! together: fifteen samples of one batch are one observation, fifteen times.

use super::report::Report;
use super::stats::{Percentiles, SAMPLES_BEYOND_MIN};

/// The generator's own delay at p99 must stay below this, or below a tenth of the response's p99:
/// more, and the percentiles are the generator's and not the broker's.
pub const OWN_DELAY_NS_MAX: u64 = 50_000;

/// One kind of latency, and what its percentiles rest on.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'a> {
    pub latency: &'a Percentiles,
    /// That the samples belong to.
    pub requests: u64,
    /// The quantile from which on the generator itself was late; 1: nowhere.
    pub own_from: f64,
}

impl<'a> Basis<'a> {
    /// Of samples that have nothing to do with each other.
    pub fn of_samples(latency: &'a Percentiles) -> Basis<'a> {
        Basis { latency, requests: latency.samples, own_from: 1.0 }
    }

    pub fn is_sound(&self, quantile: f64) -> bool {
        is_sound(self.requests, quantile) && quantile < self.own_from
    }

    /// The quantile from which on it is not.
    pub fn sound_to(&self) -> f64 {
        (1.0 - SAMPLES_BEYOND_MIN as f64 / self.requests.max(1) as f64).min(self.own_from)
    }
}

impl Report {
    pub fn response_basis(&self) -> Basis<'_> {
        let latency = &self.response;
        Basis { latency, requests: self.requests_due(latency), own_from: self.own_from(latency) }
    }

    pub fn service_basis(&self) -> Basis<'_> {
        Basis::of_samples(&self.service)
    }

    pub fn delay_basis(&self) -> Basis<'_> {
        Basis { requests: self.requests_due(&self.delay), ..Basis::of_samples(&self.delay) }
    }

    pub fn own_delay_basis(&self) -> Basis<'_> {
        Basis { requests: self.requests_due(&self.own_delay), ..Basis::of_samples(&self.own_delay) }
    }

    pub fn end_to_end_basis(&self) -> Basis<'_> {
        let latency = &self.end_to_end;
        // Each group reads the same batches; the one that catches up has none of this run's.
        let groups = self.groups.saturating_sub(usize::from(self.backlog.is_some())).max(1);
        let requests = self.batches(latency.samples / groups as u64);
        Basis { latency, requests, own_from: self.own_from(latency) }
    }

    /// Of the ack latency to quote: what counts from the send is never the generator's own.
    pub fn ack_basis(&self) -> Basis<'_> {
        if self.target_records_per_s.is_some() { self.response_basis() } else { self.service_basis() }
    }

    /// Whether a percentile of [`ack`](Self::ack) says something of the broker.
    pub fn is_sound(&self, quantile: f64) -> bool {
        self.ack_basis().is_sound(quantile)
    }

    /// Of samples that count from when something was due: with a linger that is each record.
    fn requests_due(&self, of: &Percentiles) -> u64 {
        if self.linger_ns.is_some() { self.batches(of.samples) } else { of.samples }
    }

    /// In how many batches so many records came.
    fn batches(&self, records: u64) -> u64 {
        let mean = match self.requests_per_s > 0.0 {
            true => self.records_per_s / self.requests_per_s,
            false => f64::from(self.records_per_batch),
        };
        (records as f64 / mean.max(1.0)).round() as u64
    }

    /// The quantile from which on the percentiles of `of`, which count from the moment that something
    /// was due, are the generator's own: it was late there by more than 50 µs and a tenth of them. 1:
    /// nowhere.
    fn own_from(&self, of: &Percentiles) -> f64 {
        let own = &self.own_delay;
        let pairs = [
            (0.99, own.p99_ns, of.p99_ns),
            (0.999, own.p99_9_ns, of.p99_9_ns),
            (0.9999, own.p99_99_ns, of.p99_99_ns),
        ];
        let first = pairs.into_iter().find(|&(_, own_ns, ns)| is_spoiled(own_ns, ns));
        first.map_or(1.0, |(quantile, ..)| quantile)
    }

    /// Whether the schedule's error is what this generator promises: at most 50 µs at p99.
    pub fn is_on_time(&self) -> bool {
        self.own_delay.p99_ns <= OWN_DELAY_NS_MAX
    }
}

/// Whether a delay of the generator itself made a latency what it is.
pub fn is_spoiled(own_ns: u64, latency_ns: u64) -> bool {
    own_ns > OWN_DELAY_NS_MAX.max(latency_ns / 10)
}

/// Whether so many requests say something about a quantile.
pub fn is_sound(requests: u64, quantile: f64) -> bool {
    // A hair less: 1 - 0.99 is below a hundredth in binary.
    requests as f64 * (1.0 - quantile) >= SAMPLES_BEYOND_MIN as f64 * 0.999_999
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::report;
    use super::*;

    #[test]
    fn a_percentile_needs_a_hundred_requests_beyond_it() {
        for (requests, quantile, sound) in
            [(10_000, 0.99, true), (9_999, 0.99, false), (100_000, 0.999, true), (100_000, 0.9999, false)]
        {
            assert_eq!(is_sound(requests, quantile), sound, "{requests} {quantile}");
        }
    }

    /// A run of 8,000 requests of 15 records each, all acknowledged and read.
    fn batched() -> Report {
        let mut run = report("run", 10);
        (run.records_per_batch, run.records_per_s, run.requests_per_s) = (15, 15_000.0, 1_000.0);
        (run.service.samples, run.end_to_end.samples) = (8_000, 120_000);
        run.response.samples = 8_000;
        run
    }

    #[test]
    fn the_records_of_a_batch_are_one_observation() {
        let run = batched();
        assert_eq!((run.response_basis().requests, run.end_to_end_basis().requests), (8_000, 8_000));
        assert!(!run.end_to_end_basis().is_sound(0.99), "neither is the response, of the same requests");
        assert!(!run.is_sound(0.99) && run.end_to_end_basis().is_sound(0.9));

        let mut lingering = batched();
        (lingering.linger_ns, lingering.response.samples) = (Some(1_000_000), 120_000);
        assert!(!lingering.is_sound(0.99), "{}", lingering.response_basis().requests);
        lingering.response.samples = 150_000;
        assert!(lingering.is_sound(0.99), "{}", lingering.response_basis().requests);
    }

    #[test]
    fn a_batch_that_several_groups_read_is_still_one() {
        let mut run = batched();
        (run.groups, run.end_to_end.samples) = (5, 600_000);
        assert_eq!(run.end_to_end_basis().requests, 8_000);
        run.groups = 2;
        run.backlog = Some(super::super::report::Backlog::default());
        run.end_to_end.samples = 120_000;
        assert_eq!(run.end_to_end_basis().requests, 8_000, "the first group reads what was there before");
    }

    #[test]
    fn what_is_pale_begins_where_a_percentile_ceases_to_be_sound() {
        let run = batched();
        let basis = run.end_to_end_basis();
        assert!(basis.is_sound(basis.sound_to() - 1e-6) && !basis.is_sound(basis.sound_to() + 1e-6));
    }
}
