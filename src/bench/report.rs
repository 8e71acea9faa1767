//! What a run says: a line a second, a table at the end, a JSON file for machines.

use std::fmt;
use std::time::Instant;

use serde::Serialize;

use super::ledger::Verdict;
use super::process::Used;
use super::run::{Load, Options};
use super::stats::{Interval, Percentiles, SAMPLES_BEYOND_MIN};

/// The version of the JSON's schema.
const SCHEMA: u32 = 1;
/// An open loop that sends less than this share of its rate has missed it.
const RATE_SHARE_MIN: f64 = 0.99;
/// The generator's own delay at p99 must stay below this, or below a tenth of the response's p99:
/// more, and the percentiles are the generator's and not the broker's.
const OWN_DELAY_NS_MAX: u64 = 50_000;

/// One second of the timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    pub second: u64,
    pub requests: u64,
    pub records: u64,
    pub bytes: u64,
    pub errors: u64,
    pub read_records: u64,
    pub read_bytes: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
}

impl Second {
    pub fn of(second: u64, interval: &Interval) -> Second {
        let latency = headline(interval);
        Second {
            second,
            requests: interval.requests,
            records: interval.records,
            bytes: interval.bytes,
            errors: interval.errors,
            read_records: interval.read_records,
            read_bytes: interval.read_bytes,
            p99_ns: latency.p99_ns,
            max_ns: latency.max_ns,
        }
    }

    pub fn add(&mut self, other: &Second) {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.read_records += other.read_records;
        self.read_bytes += other.read_bytes;
        self.max_ns = self.max_ns.max(other.max_ns);
    }
}

/// From the intended time where there is one.
fn headline(interval: &Interval) -> Percentiles {
    let response = interval.response.percentiles();
    if response.samples > 0 { response } else { interval.service.percentiles() }
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema: u32,
    pub topic: String,
    pub partitions: u32,
    pub acks: i16,
    pub record_bytes: usize,
    pub records_per_batch: u32,
    /// That produce.
    pub connections: usize,
    pub in_flight: usize,
    pub consumers: usize,
    pub seconds: u64,
    /// `None`: a closed loop, whose tail latencies must not be compared with an open loop's.
    pub target_records_per_s: Option<f64>,
    pub records_per_s: f64,
    pub requests_per_s: f64,
    pub bytes_per_s: f64,
    pub read_records_per_s: f64,
    pub read_bytes_per_s: f64,
    pub response: Percentiles,
    pub service: Percentiles,
    pub delay: Percentiles,
    pub own_delay: Percentiles,
    pub end_to_end: Percentiles,
    pub stall_ns_max: u64,
    pub errors: u64,
    /// Of the last request that was refused.
    pub error_code: i16,
    pub unsent: u64,
    pub unanswered: u64,
    pub ledger: Verdict,
    pub broker: Option<Used>,
    /// Why the numbers must not be used; empty when they may.
    pub invalid: Vec<String>,
    pub timeline: Vec<Second>,
}

impl Report {
    pub fn new(
        options: &Options,
        measured: &Interval,
        in_time: Second,
        timeline: Vec<Second>,
        ledger: Verdict,
    ) -> Report {
        // A run that ended early (a cold read, a failure) is divided by the seconds it had.
        let seconds =
            timeline.iter().filter(|second| second.second >= options.measured_from_s()).count().max(1);
        let per_s = |count: u64| count as f64 / seconds as f64;
        Report {
            schema: SCHEMA,
            topic: options.topic.clone(),
            partitions: options.partitions,
            acks: options.acks,
            record_bytes: options.record_bytes,
            records_per_batch: options.records_per_batch,
            connections: if options.load == Load::None { 0 } else { options.connections },
            in_flight: options.in_flight,
            consumers: options.consumers,
            seconds: seconds as u64,
            target_records_per_s: match options.load {
                Load::Open { records_per_s } => Some(records_per_s),
                Load::Closed | Load::None => None,
            },
            records_per_s: per_s(in_time.records),
            requests_per_s: per_s(in_time.requests),
            bytes_per_s: per_s(in_time.bytes),
            read_records_per_s: per_s(in_time.read_records),
            read_bytes_per_s: per_s(in_time.read_bytes),
            response: measured.response.percentiles(),
            service: measured.service.percentiles(),
            delay: measured.delay.percentiles(),
            own_delay: measured.own_delay.percentiles(),
            end_to_end: measured.end_to_end.percentiles(),
            stall_ns_max: measured.stall_ns_max,
            errors: measured.errors,
            error_code: measured.error_code,
            unsent: 0,
            unanswered: 0,
            ledger,
            broker: None,
            invalid: Vec::new(),
            timeline,
        }
    }

    /// Decide whether the numbers may be used.
    pub fn judge(&mut self, options: &Options, unsent: u64, unanswered: u64, failures: Vec<String>) {
        (self.unsent, self.unanswered) = (unsent, unanswered);
        self.invalid = failures;
        let mut fault = |reason: String| self.invalid.push(reason);
        if self.errors > 0 {
            fault(format!(
                "{} requests were refused, the last with error code {}",
                self.errors, self.error_code
            ));
        }
        if unanswered > 0 {
            fault(format!("{unanswered} requests were never answered"));
        }
        if options.load != Load::None && self.ledger.acked == 0 {
            fault("nothing was acknowledged".to_owned());
        }
        if let Some(target) = self.target_records_per_s {
            if self.records_per_s < target * RATE_SHARE_MIN {
                fault(format!("the rate was missed: {:.0} of {target:.0} records/s", self.records_per_s));
            }
            let (own, response) = (self.own_delay.p99_ns, self.response.p99_ns);
            if own > OWN_DELAY_NS_MAX.max(response / 10) {
                fault(format!("the generator itself was late: p99 {}", micros(own)));
            }
        }
    }

    /// True when the numbers may be used and the ledger agrees.
    pub fn passed(&self) -> bool {
        self.invalid.is_empty() && self.ledger.passed()
    }

    /// The ack latency to quote: from the intended time in an open loop.
    pub fn ack(&self) -> &Percentiles {
        if self.target_records_per_s.is_some() { &self.response } else { &self.service }
    }

    /// Split the timeline at the first `bytes` acknowledged; MB/s before and after.
    ///
    /// The first part writes segments for the first time, the second into recycled ones.
    pub fn phases(&self, bytes: u64) -> (Option<f64>, Option<f64>) {
        let mut total = 0;
        let (first, rest): (Vec<&Second>, Vec<&Second>) = self.timeline.iter().partition(|second| {
            total += second.bytes;
            total <= bytes
        });
        let mean = |seconds: &[&Second]| {
            let sum: u64 = seconds.iter().map(|second| second.bytes).sum();
            (!seconds.is_empty()).then(|| sum as f64 / seconds.len() as f64 / 1e6)
        };
        (mean(&first), mean(&rest))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { partitions, connections, in_flight, record_bytes, records_per_batch, .. } = self;
        match self.target_records_per_s {
            Some(rate) => write!(f, "open loop at {rate:.0} records/s")?,
            None if self.connections == 0 => write!(f, "reading only")?,
            None => write!(f, "closed loop (its tail is not comparable with an open loop's)")?,
        }
        writeln!(f, ", acks={}, {} s", if self.acks == -1 { "all" } else { "1" }, self.seconds)?;
        writeln!(
            f,
            "{record_bytes} B x {records_per_batch} a request, {partitions} partitions, \
             {connections} connections x {in_flight} in flight, {} consumers",
            self.consumers
        )?;
        writeln!(
            f,
            "\nacknowledged {:>12.0} records/s {:>10.0} requests/s {:>9.1} MB/s",
            self.records_per_s,
            self.requests_per_s,
            self.bytes_per_s / 1e6
        )?;
        if self.ledger.read > 0 {
            writeln!(
                f,
                "read         {:>12.0} records/s {:>30.1} MB/s",
                self.read_records_per_s,
                self.read_bytes_per_s / 1e6
            )?;
        }
        if let Some(used) = &self.broker {
            let (before, after) = (used.resident_bytes_before >> 20, used.resident_bytes_after >> 20);
            writeln!(f, "broker       {:>12.2} CPU s, resident {before} -> {after} MiB", used.cpu_s)?;
        }
        writeln!(f)?;
        write_latencies(
            f,
            &[
                ("response: ack - intended", &self.response),
                ("service: ack - sent", &self.service),
                ("delay: sent - intended", &self.delay),
                ("of it, the generator's", &self.own_delay),
                ("end to end", &self.end_to_end),
            ],
        )?;
        writeln!(f, "longest stall of the generator: {}", micros(self.stall_ns_max))?;
        write_verdict(f, &self.ledger)?;
        if self.invalid.is_empty() {
            writeln!(f, "valid")
        } else {
            writeln!(f, "INVALID: {}", self.invalid.join("; "))
        }
    }
}

/// A `~` marks a percentile with too few samples beyond it.
pub fn write_latencies(f: &mut impl fmt::Write, rows: &[(&str, &Percentiles)]) -> fmt::Result {
    write!(f, "{:<26}", "microseconds")?;
    for name in ["p50", "p90", "p99", "p99.9", "p99.99", "max", "<= 1 ms"] {
        write!(f, "{name:>11}")?;
    }
    writeln!(f)?;
    for (name, row) in rows.iter().filter(|(_, row)| row.samples > 0) {
        write!(f, "{name:<26}")?;
        let values = [
            (0.5, row.p50_ns),
            (0.9, row.p90_ns),
            (0.99, row.p99_ns),
            (0.999, row.p99_9_ns),
            (0.9999, row.p99_99_ns),
        ];
        for (quantile, ns) in values {
            let beyond = row.samples as f64 * (1.0 - quantile);
            let mark = if beyond < SAMPLES_BEYOND_MIN as f64 { "~" } else { "" };
            write!(f, "{:>11}", format!("{mark}{:.1}", ns as f64 / 1e3))?;
        }
        writeln!(f, "{:>11.1}{:>10.3}%", row.max_ns as f64 / 1e3, row.within_1ms * 100.0)?;
    }
    Ok(())
}

fn write_verdict(f: &mut fmt::Formatter<'_>, ledger: &Verdict) -> fmt::Result {
    let word = if ledger.passed() { "ledger ok" } else { "LEDGER FAILED" };
    write!(f, "{word}: {} acknowledged, {} read", ledger.acked, ledger.read)?;
    let faults = [
        (ledger.lost, "lost"),
        (ledger.duplicated, "duplicated"),
        (ledger.reordered, "reordered"),
        (ledger.corrupt, "corrupt"),
        (ledger.foreign, "of another run"),
        (ledger.ack_offsets_skipped, "offsets skipped by acks"),
        (ledger.ack_offsets_repeated, "offsets acknowledged twice"),
        (ledger.read_offsets_skipped, "offsets skipped by the reader"),
    ];
    for (count, name) in faults.iter().filter(|(count, _)| *count > 0) {
        write!(f, ", {count} {name}")?;
    }
    writeln!(f)
}

fn micros(ns: u64) -> String {
    format!("{:.1} µs", ns as f64 / 1e3)
}

/// The line that shows once a second how it goes.
pub struct Progress {
    /// `None` when nobody knows how long it takes.
    end_s: Option<u64>,
    began: Instant,
}

impl Progress {
    pub fn new(end_s: Option<u64>) -> Progress {
        Progress { end_s, began: Instant::now() }
    }

    pub fn print(&mut self, second: &Second, interval: &Interval) {
        let latency = headline(interval);
        let of = self.end_s.map(|end_s| format!("/{end_s}")).unwrap_or_default();
        eprintln!(
            "{:>4.0}{of} s {:>10} rec/s {:>8.1} MB/s  read {:>8.1} MB/s  p50 {:>9} p99 {:>9} p99.9 {:>9} max {:>9}  errors {}",
            self.began.elapsed().as_secs_f64(),
            second.records,
            second.bytes as f64 / 1e6,
            second.read_bytes as f64 / 1e6,
            micros(latency.p50_ns),
            micros(latency.p99_ns),
            micros(latency.p99_9_ns),
            micros(latency.max_ns),
            second.errors,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(options: &Options, records: u64, own_delay_ns: u64) -> Report {
        let mut measured = Interval::new();
        for _ in 0..1000 {
            measured.response.record(100_000);
            measured.own_delay.record(own_delay_ns);
        }
        let line = Second { records, bytes: records * 1000, ..Second::default() };
        let ledger = Verdict { acked: records, ..Verdict::default() };
        Report::new(options, &measured, line, vec![line], ledger)
    }

    #[test]
    fn a_run_is_invalid_when_it_missed_its_rate_or_was_late_itself_or_met_errors() {
        let options =
            Options { load: Load::Open { records_per_s: 1000.0 }, warmup_s: 0, ..Options::default() };
        for (records, own_delay_ns, unanswered, faults) in [
            (1000, 1_000, 0, 0),
            (995, 49_000, 0, 0),
            (980, 1_000, 0, 1),
            (1000, 60_000, 0, 1),
            (1000, 1, 3, 1),
        ] {
            let mut report = report(&options, records, own_delay_ns);
            report.judge(&options, 0, unanswered, Vec::new());
            assert_eq!(report.invalid.len(), faults, "{:?}", report.invalid);
            assert_eq!(report.passed(), faults == 0);
        }
    }

    #[test]
    fn the_first_bytes_and_the_rest_are_apart() {
        let options = Options { warmup_s: 0, ..Options::default() };
        let mut report = report(&options, 1, 0);
        let second = |bytes| Second { bytes, ..Second::default() };
        report.timeline = vec![second(4_000_000), second(4_000_000), second(1_000_000)];
        assert_eq!(report.phases(8_000_000), (Some(4.0), Some(1.0)));
        assert_eq!(report.phases(0), (None, Some(3.0)));
        assert_eq!(report.phases(u64::MAX), (Some(3.0), None));
    }
}
