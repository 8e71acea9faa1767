//! What a run found, and whether its numbers may be used.
//!
//! `result.json` is this, serialized; [`text`](super::text) prints it, [`output`](super::output)
//! draws it.

use std::ops::{AddAssign, RangeInclusive};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::groups::GroupWork;
use super::kafka::packing::Compression;
use super::ledger::Verdict;
use super::load_facts::LoadFacts;
use super::options::{Load, Options};
use super::process::Used;
use super::recording::Recording;
use super::schedule::Arrivals;
use super::sound::is_spoiled;
use super::stages::Stages;
use super::stats::{Interval, Percentiles};
use super::text::duration;

/// An open loop that sends less than this share of what was due has missed its rate.
const RATE_SHARE_MIN: f64 = 0.99;
/// Of an open loop's time the machine may stand still for this share: more, and p99 is the machine's.
const STALLED_SHARE_MAX: f64 = 0.01;
/// Of a closed loop's, whose rate is too low by about as much: more, and the rate is the machine's.
const STALLED_SHARE_CLOSED_MAX: f64 = 0.1;

/// One second of the timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    pub second: u64,
    pub requests: u64,
    pub records: u64,
    pub bytes: u64,
    pub errors: u64,
    pub read_records: u64,
    pub read_bytes: u64,
    pub in_flight: u64,
    #[serde(default)]
    pub in_flight_records: u64,
    pub reconnects: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p99_9_ns: u64,
    pub max_ns: u64,
    pub stalled_ns: u64,
}

impl Second {
    pub fn of(second: u64, interval: &Interval) -> Second {
        // From the intended time where there is one.
        let response = interval.response.percentiles();
        let latency = if response.samples > 0 { response } else { interval.service.percentiles() };
        Second {
            second,
            requests: interval.requests,
            records: interval.records,
            bytes: interval.bytes,
            errors: interval.errors,
            read_records: interval.read_records,
            read_bytes: interval.read_bytes,
            in_flight: interval.in_flight,
            in_flight_records: interval.in_flight_records,
            reconnects: interval.reconnects,
            p50_ns: latency.p50_ns,
            p99_ns: latency.p99_ns,
            p99_9_ns: latency.p99_9_ns,
            max_ns: latency.max_ns,
            stalled_ns: interval.stalled_ns,
        }
    }

    /// Requests that its percentiles rest on.
    pub fn answered(&self) -> u64 {
        self.requests + self.errors
    }

    pub fn add(&mut self, other: &Second) {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.read_records += other.read_records;
        self.read_bytes += other.read_bytes;
        self.reconnects += other.reconnects;
        self.max_ns = self.max_ns.max(other.max_ns);
        self.stalled_ns += other.stalled_ns;
    }
}

/// What the threads counted, added up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub ledger: Verdict,
    /// Requests of an open loop that were due in the measured time.
    pub due: u64,
    /// Their records.
    pub due_records: u64,
    pub unsent: u64,
    pub unanswered: u64,
}

/// What compressing cost and brought.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Packing {
    pub codec: Compression,
    /// Of the batches that were sent, before and after.
    pub plain_bytes: u64,
    pub packed_bytes: u64,
    pub requests: u64,
    /// Of a request, on the load's core.
    pub mean_ns: u64,
}

impl Packing {
    fn of(codec: Compression, measured: &Interval) -> Option<Packing> {
        let requests = measured.packed_requests;
        (codec != Compression::None).then(|| Packing {
            codec,
            plain_bytes: measured.plain_bytes,
            packed_bytes: measured.packed_bytes,
            requests,
            mean_ns: measured.packing_ns.checked_div(requests).unwrap_or_default(),
        })
    }

    /// Of what was there, what is left.
    pub fn ratio(&self) -> f64 {
        self.packed_bytes as f64 / self.plain_bytes.max(1) as f64
    }
}

/// What was there when the load began, and its reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// Read of it.
    pub records: u64,
    /// Of the answers that brought them.
    pub bytes: u64,
    /// From the load's begin to the last of them; `None`: the load ended before.
    pub read_after_ns: Option<u64>,
}

impl AddAssign for Backlog {
    /// What another thread has read of it.
    fn add_assign(&mut self, other: Backlog) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.read_after_ns = self.read_after_ns.zip(other.read_after_ns).map(|(a, b)| a.max(b));
    }
}

/// Quantile and nanoseconds, along an axis of nines, by kind of latency.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    pub response: Vec<(f64, u64)>,
    pub service: Vec<(f64, u64)>,
    pub end_to_end: Vec<(f64, u64)>,
}

/// For results that were written before there could be several.
fn one() -> u32 {
    1
}

fn one_node() -> usize {
    1
}

/// The result of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub label: String,
    /// Since 1970.
    pub began_unix_ms: u64,
    pub topic: String,
    #[serde(default = "one")]
    pub topics: u32,
    /// Of each topic.
    pub partitions: u32,
    /// Nodes that lead them.
    #[serde(default = "one_node")]
    pub leaders: usize,
    pub acks: i16,
    pub idempotent: bool,
    pub key_bytes: usize,
    /// Different keys; 0: random bytes.
    #[serde(default)]
    pub keys: u64,
    pub record_bytes: usize,
    #[serde(default)]
    pub compression: Option<Packing>,
    /// With a linger, the most of them.
    pub records_per_batch: u32,
    #[serde(default)]
    pub linger_ns: Option<u64>,
    /// That produce.
    pub connections: usize,
    pub in_flight: usize,
    /// The cores of the load threads; empty: one thread that was not pinned.
    #[serde(default)]
    pub load_cpus: Vec<usize>,
    /// Of each group.
    pub consumers: usize,
    pub groups: usize,
    /// That were measured: less than asked for when the run ended early.
    pub seconds: u64,
    pub warmup_s: u64,
    /// `None`: a closed loop, whose tail latencies must not be compared with an open loop's.
    pub target_records_per_s: Option<f64>,
    pub arrivals: Arrivals,
    /// `None`: of a version that did not write it.
    #[serde(default)]
    pub load: Option<LoadFacts>,
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
    pub curves: Curves,
    pub stall_ns_max: u64,
    /// Share of the measured time in stalls of more than a millisecond.
    pub stalled_share: f64,
    pub errors: u64,
    /// Of the last request that was refused.
    pub error_code: i16,
    pub reconnects: u64,
    /// Requests of an open loop; with a linger, records. `unsent` likewise.
    pub due: u64,
    #[serde(default)]
    pub due_records: u64,
    pub unsent: u64,
    pub unanswered: u64,
    pub ledger: Verdict,
    /// What the members of groups did, where consumers joined them.
    #[serde(default)]
    pub group_work: Option<GroupWork>,
    /// Where a reader had to catch up.
    #[serde(default)]
    pub backlog: Option<Backlog>,
    pub broker: Option<Used>,
    /// Where the broker says the time went.
    pub stages: Option<Stages>,
    /// Why the numbers must not be used; empty when they may.
    pub invalid: Vec<String>,
    pub timeline: Vec<Second>,
    /// For the files of histograms.
    #[serde(skip)]
    pub measured: Interval,
    #[serde(skip)]
    pub recording: Recording,
}

impl Report {
    pub fn new(
        options: &Options,
        measured: Interval,
        in_time: Second,
        timeline: Vec<Second>,
        recording: Recording,
        counts: Counts,
    ) -> Report {
        // A run that ended early (a cold read, a failure) is divided by the seconds it had.
        let seconds =
            timeline.iter().filter(|second| second.second >= options.measured_from_s()).count().max(1);
        let per_s = |count: u64| count as f64 / seconds as f64;
        let began = recording.began().duration_since(UNIX_EPOCH).unwrap_or_default();
        Report {
            label: options.label.clone(),
            began_unix_ms: began.as_millis() as u64,
            topic: options.topic.clone(),
            topics: options.topics,
            partitions: options.partitions,
            leaders: one_node(),
            acks: options.acks,
            idempotent: options.idempotent,
            key_bytes: options.keys.bytes,
            keys: options.keys.count,
            record_bytes: options.record_bytes,
            compression: Packing::of(options.compression, &measured),
            records_per_batch: options.records_per_batch,
            linger_ns: options.linger_ns,
            connections: if options.load == Load::None { 0 } else { options.connections },
            in_flight: options.in_flight,
            load_cpus: options.cpus.clone(),
            consumers: options.consumers,
            groups: options.groups,
            seconds: seconds as u64,
            warmup_s: options.measured_from_s(),
            target_records_per_s: match options.load {
                Load::Open { records_per_s } => Some(records_per_s * options.arrivals.mean_factor()),
                Load::Closed | Load::None => None,
            },
            arrivals: options.arrivals,
            load: Some(LoadFacts::of(options)),
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
            curves: Curves {
                response: measured.response.curve(),
                service: measured.service.curve(),
                end_to_end: measured.end_to_end.curve(),
            },
            stall_ns_max: measured.stall_ns_max,
            stalled_share: in_time.stalled_ns as f64 / 1e9 / (seconds * options.threads()) as f64,
            errors: measured.errors,
            error_code: measured.error_code.number,
            reconnects: measured.reconnects,
            due: counts.due,
            due_records: counts.due_records,
            unsent: counts.unsent,
            unanswered: counts.unanswered,
            ledger: counts.ledger,
            group_work: None,
            backlog: None,
            broker: None,
            stages: None,
            invalid: Vec::new(),
            timeline,
            measured,
            recording,
        }
    }

    /// Decide whether the numbers may be used. `failures`: why threads ended early.
    pub fn judge(&mut self, options: &Options, failures: Vec<String>) {
        self.invalid = failures;
        let mut fault = |reason: String| self.invalid.push(reason);
        if self.errors > 0 {
            fault(format!(
                "{} requests were refused, the last with error code {}",
                self.errors, self.measured.error_code
            ));
        }
        if self.unanswered > 0 {
            fault(format!("{} requests were never answered", self.unanswered));
        }
        if self.unsent > 0 {
            let what = if options.linger_ns.is_some() { "records" } else { "requests" };
            fault(format!("{} {what} were due and were never sent", self.unsent));
        }
        if options.load != Load::None && options.acks != 0 && self.ledger.acked == 0 {
            fault("nothing was acknowledged".to_owned());
        }
        if self.target_records_per_s.is_some() {
            let due = self.due_records as f64 / self.seconds as f64;
            if self.records_per_s < due * RATE_SHARE_MIN {
                fault(format!("the rate was missed: {:.0} of {due:.0} records/s", self.records_per_s));
            }
            let (own, response) = (self.own_delay.p99_ns, self.response.p99_ns);
            if is_spoiled(own, response) {
                fault(format!("the generator itself was late: p99 {}", duration(own)));
            }
        }
        let stalled_max = match options.load {
            Load::Open { .. } => STALLED_SHARE_MAX,
            Load::Closed => STALLED_SHARE_CLOSED_MAX,
            // How long it takes is measured by the clock, whoever took the time.
            Load::None => f64::INFINITY,
        };
        if self.stalled_share > stalled_max {
            fault(format!(
                "the machine stood still for {:.1} % of the time, at worst for {}",
                self.stalled_share * 100.0,
                duration(self.stall_ns_max)
            ));
        }
        if self.measured.latencies().iter().any(|latency| latency.is_clipped()) {
            fault("latencies above an hour were booked as an hour".to_owned());
        }
    }

    /// Every request was sent and answered well, and the ledger agrees; whatever the numbers are worth.
    pub fn is_whole(&self) -> bool {
        self.errors + self.unanswered + self.unsent == 0 && self.ledger.acked > 0 && self.ledger.passed()
    }

    /// True when the numbers may be used and the ledger agrees.
    pub fn passed(&self) -> bool {
        self.invalid.is_empty() && self.ledger.passed()
    }

    /// The ack latency to quote: from the intended time in an open loop.
    pub fn ack(&self) -> &Percentiles {
        if self.target_records_per_s.is_some() { &self.response } else { &self.service }
    }

    /// The same of some seconds only. For a report that was just made: files of results do not have it.
    pub fn ack_in(&self, seconds: RangeInclusive<u64>) -> Percentiles {
        let kind = if self.target_records_per_s.is_some() { 0 } else { 1 };
        self.recording.latency(kind, seconds).percentiles()
    }

    /// The curve of [`ack`](Self::ack).
    pub fn ack_curve(&self) -> &[(f64, u64)] {
        if self.target_records_per_s.is_some() { &self.curves.response } else { &self.curves.service }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn report(options: &Options, records: u64, own_delay_ns: u64, counts: Counts) -> Report {
        let mut measured = Interval::new();
        for _ in 0..1000 {
            measured.response.record(100_000);
            measured.own_delay.record(own_delay_ns);
        }
        report_of(options, records, measured, counts)
    }

    fn report_of(options: &Options, records: u64, measured: Interval, counts: Counts) -> Report {
        let line = Second { records, bytes: records * 1000, ..Second::default() };
        let ledger = Verdict { acked: records, ..Verdict::default() };
        let counts = Counts { ledger, due: 1000, due_records: 1000, ..counts };
        Report::new(options, measured, line, vec![line], Recording::begin(), counts)
    }

    #[test]
    fn a_run_is_invalid_when_it_missed_its_rate_or_was_late_itself_or_met_errors_or_a_stall() {
        let options =
            Options { load: Load::Open { records_per_s: 1000.0 }, warmup_s: 0, ..Options::default() };
        for (records, own_delay_ns, unanswered, unsent, stalled_share, faults) in [
            (1000, 1_000, 0, 0, 0.0, 0),
            (995, 49_000, 0, 0, 0.009, 0),
            (980, 1_000, 0, 0, 0.0, 1),
            (1000, 60_000, 0, 0, 0.0, 1),
            (1000, 1, 3, 0, 0.0, 1),
            (1000, 1, 0, 3, 0.0, 1),
            (1000, 1, 0, 0, 0.02, 1),
        ] {
            let mut report =
                report(&options, records, own_delay_ns, Counts { unanswered, unsent, ..Counts::default() });
            report.stalled_share = stalled_share;
            report.judge(&options, Vec::new());
            assert_eq!(report.invalid.len(), faults, "{:?}", report.invalid);
            assert_eq!(report.passed(), faults == 0);
        }
    }

    #[test]
    fn a_closed_loop_is_invalid_when_the_machine_stood_still_for_a_tenth_of_it() {
        let options = Options { load: Load::Closed, warmup_s: 0, ..Options::default() };
        for (stalled_share, faults) in [(0.09, 0), (0.11, 1)] {
            let mut report = report(&options, 1000, 0, Counts::default());
            report.stalled_share = stalled_share;
            report.judge(&options, Vec::new());
            assert_eq!(report.invalid.len(), faults, "{:?}", report.invalid);
        }
    }

    #[test]
    fn a_latency_that_was_cut_off_at_the_bound_makes_the_run_invalid() {
        let options =
            Options { load: Load::Open { records_per_s: 1000.0 }, warmup_s: 0, ..Options::default() };
        let mut measured = Interval::new();
        measured.response.record(u64::MAX);
        let mut report = report_of(&options, 1000, measured, Counts::default());
        report.judge(&options, Vec::new());
        assert!(report.invalid.iter().any(|fault| fault.contains("above an hour")), "{:?}", report.invalid);
    }

    #[test]
    fn a_percentile_that_the_generator_itself_has_made_is_not_sound() {
        let options =
            Options { load: Load::Open { records_per_s: 1000.0 }, warmup_s: 0, ..Options::default() };
        // One of 500 requests was late by that: far beyond p99, and more than p99.9 bears.
        for (late_ns, own_from, sound) in [(20_000, 1.0, true), (40_000_000, 0.999, false)] {
            let mut measured = Interval::new();
            for index in 0..1_000_000 {
                let own_ns = if index % 500 == 0 { late_ns } else { 100 };
                measured.own_delay.record(own_ns);
                measured.response.record(100_000 + own_ns);
            }
            let mut report = report_of(&options, 1000, measured, Counts::default());
            report.judge(&options, Vec::new());
            assert!(report.invalid.is_empty(), "{:?}", report.invalid);
            assert_eq!((report.ack_basis().own_from, report.is_sound(0.999)), (own_from, sound), "{report}");
            assert!(report.is_sound(0.99), "{report}");
            assert_eq!(report.to_string().contains('~'), !sound, "{report}");
        }
    }

    #[test]
    fn the_first_bytes_and_the_rest_are_apart() {
        let options = Options { warmup_s: 0, ..Options::default() };
        let mut report = report(&options, 1, 0, Counts::default());
        let second = |bytes| Second { bytes, ..Second::default() };
        report.timeline = vec![second(4_000_000), second(4_000_000), second(1_000_000)];
        assert_eq!(report.phases(8_000_000), (Some(4.0), Some(1.0)));
        assert_eq!(report.phases(0), (None, Some(3.0)));
        assert_eq!(report.phases(u64::MAX), (Some(3.0), None));
    }
}
