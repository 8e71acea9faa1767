//! The histograms of a run in the formats that HdrHistogram's own tools read.
//!
//! - `.hlog`, an interval log: one histogram a second and kind, named by its tag
//!   (`HistogramLogProcessor`, HdrHistogram's log analyser);
//! - `.hgrm`, a percentile distribution of the whole run (HdrHistogram's plotter).

use std::fmt::Write;
use std::io::Cursor;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer, V2Serializer};

use super::stats::{Interval, Latency};

/// The kinds of latency, in the order of [`Interval::latencies`].
pub const KINDS: [&str; 5] = ["response", "service", "delay", "own-delay", "end-to-end"];
/// Steps to each halving of what lies beyond a percentile, as HdrHistogram's tools write it.
const HGRM_TICKS: u32 = 5;
const NS_PER_MS: f64 = 1e6;

/// Every second of a run.
///
/// Kept encoded, a few kilobytes a second: as they are, the histograms of a long run would take more
/// memory than the load.
#[derive(Clone, Debug)]
pub struct Recording {
    began: SystemTime,
    seconds: Vec<RecordedSecond>,
}

#[derive(Clone, Debug)]
struct RecordedSecond {
    second: u64,
    warm_up: bool,
    /// Index in [`KINDS`], and the histogram in HdrHistogram's V2 encoding.
    kinds: Vec<(usize, Vec<u8>)>,
}

impl Default for Recording {
    fn default() -> Recording {
        Recording::begin()
    }
}

impl Recording {
    /// Begins now.
    pub fn begin() -> Recording {
        Recording { began: SystemTime::now(), seconds: Vec::new() }
    }

    pub fn began(&self) -> SystemTime {
        self.began
    }

    /// What belongs to the warm-up gets tags of its own, so that tools leave it out.
    pub fn push(&mut self, second: u64, warm_up: bool, interval: &Interval) {
        let mut serializer = V2Serializer::new();
        let latencies = interval.latencies().into_iter().enumerate();
        let kinds =
            latencies.filter(|(_, latency)| !latency.histogram().is_empty()).map(|(kind, latency)| {
                let mut bytes = Vec::new();
                serializer.serialize(latency.histogram(), &mut bytes).expect("a vector takes everything");
                (kind, bytes)
            });
        self.seconds.push(RecordedSecond { second, warm_up, kinds: kinds.collect() });
    }

    /// All of one of [`KINDS`] in these seconds.
    pub fn latency(&self, kind: usize, seconds: RangeInclusive<u64>) -> Latency {
        let mut deserializer = Deserializer::new();
        let mut sum = Latency::new();
        for second in self.seconds.iter().filter(|second| seconds.contains(&second.second)) {
            for (_, bytes) in second.kinds.iter().filter(|(of, _)| *of == kind) {
                let histogram =
                    deserializer.deserialize(&mut Cursor::new(bytes)).expect("it was encoded here");
                sum.add(&Latency::of(histogram));
            }
        }
        sum
    }

    /// The interval log.
    pub fn hlog(&self) -> Vec<u8> {
        let mut log = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut deserializer = Deserializer::new();
        let mut writer = IntervalLogWriterBuilder::new()
            .add_comment("[Latencies in nanoseconds, maxima in milliseconds, by ringmq bench]")
            .with_start_time(self.began)
            .with_base_time(self.began)
            .with_max_value_divisor(NS_PER_MS)
            .begin_log_with(&mut log, &mut serializer)
            .expect("a vector takes everything");
        for second in &self.seconds {
            for (kind, bytes) in &second.kinds {
                let histogram: Histogram<u64> =
                    deserializer.deserialize(&mut Cursor::new(bytes)).expect("it was encoded here");
                let start = Duration::from_secs(second.second);
                let phase = if second.warm_up { "warm-up-" } else { "" };
                let tag = format!("{phase}{}", KINDS[*kind]);
                let tag = Tag::new(&tag).expect("kinds have neither commas nor spaces");
                writer
                    .write_histogram(&histogram, start, Duration::from_secs(1), Some(tag))
                    .expect("a vector takes everything");
            }
        }
        log
    }
}

/// A percentile distribution, in milliseconds.
pub fn hgrm(latency: &Latency) -> String {
    let histogram = latency.histogram();
    let mut out = String::new();
    let line = |out: &mut String, value_ms: f64, quantile: f64, count: u64, inverse: Option<f64>| {
        write!(out, "{value_ms:12.6} {quantile:2.12} {count:10}").expect("a string takes everything");
        match inverse {
            Some(inverse) => writeln!(out, " {inverse:14.2}"),
            None => writeln!(out),
        }
        .expect("a string takes everything");
    };
    out.push_str("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let total = histogram.len();
    let (mut count, mut percent) = (0, 0.0);
    for step in histogram.iter_recorded() {
        count += step.count_at_value();
        while 100.0 * count as f64 / total as f64 >= percent {
            let value_ms = step.value_iterated_to() as f64 / NS_PER_MS;
            line(&mut out, value_ms, percent / 100.0, count, Some(1.0 / (1.0 - percent / 100.0)));
            percent += percent_step(percent);
            // The maximum stands there once more, as the whole.
            if count == total {
                line(&mut out, value_ms, 1.0, count, None);
                break;
            }
        }
    }
    let (mean, deviation) = (histogram.mean() / NS_PER_MS, histogram.stdev() / NS_PER_MS);
    let max = histogram.max() as f64 / NS_PER_MS;
    let buckets = histogram.buckets();
    // What the digits need, as HdrHistogram rounds it.
    let sub_buckets = (2 * 10u64.pow(u32::from(histogram.sigfig()))).next_power_of_two();
    write!(
        out,
        "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n\
         #[Max     = {max:12.3}, Total count    = {total:12}]\n\
         #[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]\n"
    )
    .expect("a string takes everything");
    out
}

/// So many steps to each halving of what lies beyond, in the arithmetic of HdrHistogram's Java package:
/// both make the same lines of the same samples.
fn percent_step(percent: f64) -> f64 {
    let halvings = ((100.0 / (100.0 - percent)).ln() / 2f64.ln()) as i32 + 1;
    100.0 / (f64::from(HGRM_TICKS) * 2f64.powi(halvings))
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    fn interval(responses_ns: &[u64]) -> Interval {
        let mut interval = Interval::new();
        responses_ns.iter().for_each(|&ns| interval.response.record(ns));
        interval
    }

    #[test]
    fn an_interval_log_is_read_back_second_by_second() {
        let mut recording = Recording::begin();
        recording.push(0, true, &interval(&[1_000_000, 2_000_000]));
        recording.push(1, false, &interval(&[]));
        recording.push(2, false, &interval(&[5_000_000]));
        let log = recording.hlog();
        let mut found = Vec::new();
        for entry in IntervalLogIterator::new(&log) {
            let LogEntry::Interval(line) = entry.expect("a well-formed line") else { continue };
            found.push((
                line.start_timestamp().as_secs(),
                line.tag().map(|tag| tag.as_str()),
                line.max().round(),
            ));
        }
        assert_eq!(found, [(0, Some("warm-up-response"), 2.0), (2, Some("response"), 5.0)]);
    }

    #[test]
    fn some_seconds_are_added_up() {
        let mut recording = Recording::begin();
        for second in 0..5 {
            recording.push(second, false, &interval(&[1_000_000 * (second + 1); 10]));
        }
        let of = |seconds| {
            let of = recording.latency(0, seconds).percentiles();
            (of.samples, of.max_ns.div_ceil(1_001_000), of.p50_ns.div_ceil(1_001_000))
        };
        assert_eq!(
            [of(0..=4), of(1..=3), of(4..=9), of(7..=9)],
            [(50, 5, 3), (30, 4, 3), (10, 5, 5), (0, 0, 0)]
        );
        assert_eq!(recording.latency(1, 0..=4).percentiles().samples, 0, "of another kind");
    }

    #[test]
    fn a_distribution_ends_with_the_maximum_and_counts_everything() {
        let interval = interval(&(1..=1000).map(|us| us * 1000).collect::<Vec<_>>());
        let text = hgrm(&interval.response);
        let rows: Vec<Vec<f64>> = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .skip(1)
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2], last.len()), (1.0, 1000.0, 3));
        assert!((last[0] - 1.0).abs() < 0.001, "{last:?}");
        let median = rows.iter().find(|row| row[1] >= 0.5).unwrap();
        assert!((median[0] - 0.5).abs() < 0.001, "{median:?}");
        assert!(text.ends_with("SubBuckets     =         2048]\n"), "{text}");
    }
}
