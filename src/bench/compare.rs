//! Two results side by side: what changed, and how sure that is.
//!
//! Runs are matched by their label; runs of one label are repeats. With repeats, the confidence is
//! that of an exact rank test (Mann and Whitney): of all ways in which the values could have been
//! dealt out to the two sides, how many look as one-sided as this one. It asks nothing of how the
//! values are distributed. Three repeats each reach 90 %, four 97 %.

use std::fmt;

use super::output::BenchResult;
use super::report::Report;
use super::text::duration;

/// A change is believed from this confidence on.
const CONFIDENCE_MIN: f64 = 0.9;
/// Repeats of a label that are looked at: of more, ranks could not all be counted out.
const REPEATS_MAX: usize = 10;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Records,
    P50,
    P99,
    P999,
    Max,
}

impl Metric {
    const ALL: [Metric; 5] = [Metric::Records, Metric::P50, Metric::P99, Metric::P999, Metric::Max];

    fn name(self) -> &'static str {
        match self {
            Metric::Records => "records/s",
            Metric::P50 => "p50",
            Metric::P99 => "p99",
            Metric::P999 => "p99.9",
            Metric::Max => "max",
        }
    }

    fn of(self, report: &Report) -> f64 {
        let ack = report.ack();
        match self {
            Metric::Records => report.records_per_s,
            Metric::P50 => ack.p50_ns as f64,
            Metric::P99 => ack.p99_ns as f64,
            Metric::P999 => ack.p99_9_ns as f64,
            Metric::Max => ack.max_ns as f64,
        }
    }

    /// Where more is worse.
    fn is_latency(self) -> bool {
        self != Metric::Records
    }

    /// A single sample decides the maximum: it is shown and never judged.
    fn is_judged(self) -> bool {
        self != Metric::Max
    }

    fn text(self, value: f64) -> String {
        if self.is_latency() { duration(value as u64) } else { format!("{value:.0}") }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Same,
    Better,
    Worse,
    /// Beyond the threshold, but the repeats do not bear it out.
    Unsure,
    /// Not judged.
    Shown,
}

/// One metric of one label.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub label: String,
    pub metric: Metric,
    /// Medians.
    pub before: f64,
    pub after: f64,
    /// After over before, less one.
    pub change: f64,
    /// `None` when a side has one run only.
    pub confidence: Option<f64>,
    pub judgement: Judgement,
}

#[derive(Clone, Debug, Default)]
pub struct Comparison {
    pub rows: Vec<Row>,
    /// What keeps the two from being compared, or makes it doubtful.
    pub warnings: Vec<String>,
    worse: bool,
}

impl Comparison {
    /// Something is worse, or the second result must not be used, or nothing could be compared.
    pub fn is_worse(&self) -> bool {
        self.worse
    }
}

/// `threshold`: the least share that counts as a change.
pub fn compare(before: &BenchResult, after: &BenchResult, threshold: f64) -> Comparison {
    let mut comparison = Comparison { warnings: warnings(before, after), ..Comparison::default() };
    if !after.passed {
        comparison.warnings.push("the second result is not valid".to_owned());
        comparison.worse = true;
    }
    let mut labels: Vec<&str> = Vec::new();
    for report in &before.runs {
        if !labels.contains(&report.label.as_str()) {
            labels.push(&report.label);
        }
    }
    for label in labels {
        let of = |result: &BenchResult, metric: Metric| -> Vec<f64> {
            let runs = result.runs.iter().filter(|report| report.label == label);
            runs.take(REPEATS_MAX).map(|report| metric.of(report)).collect()
        };
        for metric in Metric::ALL {
            let (old, new) = (of(before, metric), of(after, metric));
            if new.is_empty() {
                comparison.warnings.push(format!("only the first result has {label:?}"));
                break;
            }
            comparison.rows.push(judge(label, metric, &old, &new, threshold));
        }
    }
    comparison.worse |= comparison.rows.is_empty();
    comparison.worse |= comparison.rows.iter().any(|row| row.judgement == Judgement::Worse);
    comparison
}

fn judge(label: &str, metric: Metric, old: &[f64], new: &[f64], threshold: f64) -> Row {
    let (before, after) = (median(old), median(new));
    let change = if before > 0.0 { after / before - 1.0 } else { 0.0 };
    let confidence = (old.len() > 1 && new.len() > 1).then(|| 1.0 - chance(old, new));
    let judgement = match confidence {
        _ if !metric.is_judged() => Judgement::Shown,
        _ if change.abs() < threshold => Judgement::Same,
        Some(confidence) if confidence < CONFIDENCE_MIN => Judgement::Unsure,
        // One run each says how much, not how sure: a gate must not let it pass.
        _ if (change > 0.0) == metric.is_latency() => Judgement::Worse,
        _ => Judgement::Better,
    };
    Row { label: label.to_owned(), metric, before, after, change, confidence, judgement }
}

fn warnings(before: &BenchResult, after: &BenchResult) -> Vec<String> {
    let mut warnings = Vec::new();
    if before.broker.durability != after.broker.durability {
        warnings.push(format!(
            "durability differs: {} against {}",
            before.broker.durability, after.broker.durability
        ));
    }
    let machine = |result: &BenchResult| (result.environment.cpu.clone(), result.environment.kernel.clone());
    if machine(before) != machine(after) {
        warnings.push("the machines or their kernels differ".to_owned());
    }
    if !before.passed {
        warnings.push("the first result is not valid".to_owned());
    }
    let closed =
        |result: &BenchResult| result.runs.iter().any(|report| report.target_records_per_s.is_none());
    if closed(before) || closed(after) {
        warnings.push("latencies of closed loops depend on the throughput".to_owned());
    }
    warnings
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The probability, when there is no difference, that the two sides differ as much as they do.
fn chance(old: &[f64], new: &[f64]) -> f64 {
    let all: Vec<f64> = old.iter().chain(new).copied().collect();
    // Mean ranks: equal values share theirs. Doubled, so that they are whole numbers.
    let rank = |value: f64| -> u64 {
        let below = all.iter().filter(|&&other| other < value).count() as u64;
        let equal = all.iter().filter(|&&other| other == value).count() as u64;
        2 * below + equal + 1
    };
    let ranks: Vec<u64> = all.iter().map(|&value| rank(value)).collect();
    let mean = ranks.iter().sum::<u64>() as f64 * old.len() as f64 / all.len() as f64;
    let distance = |sum: u64| (sum as f64 - mean).abs();
    let seen = distance(ranks[..old.len()].iter().sum());
    let (mut as_far, mut ways) = (0u64, 0u64);
    for_each_choice(&ranks, old.len(), 0, &mut |sum| {
        ways += 1;
        as_far += u64::from(distance(sum) >= seen - 1e-9);
    });
    as_far as f64 / ways as f64
}

/// Give the sum of every choice of `count` of `ranks`, plus `sum`, to `each`.
fn for_each_choice(ranks: &[u64], count: usize, sum: u64, each: &mut dyn FnMut(u64)) {
    if count == 0 {
        return each(sum);
    }
    for index in 0..=ranks.len() - count {
        for_each_choice(&ranks[index + 1..], count - 1, sum + ranks[index], each);
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24}{:>10}{:>12}{:>12}{:>10}{:>12}",
            "run", "", "before", "after", "change", "confidence"
        )?;
        for row in &self.rows {
            let confidence = match row.confidence {
                Some(confidence) => format!("{:.0} %", confidence * 100.0),
                None => "one run".to_owned(),
            };
            let word = match row.judgement {
                Judgement::Same | Judgement::Shown => "",
                Judgement::Better => "better",
                Judgement::Worse => "WORSE",
                Judgement::Unsure => "unsure",
            };
            writeln!(
                f,
                "{:<24}{:>10}{:>12}{:>12}{:>+9.1}%{:>12}  {word}",
                row.label,
                row.metric.name(),
                row.metric.text(row.before),
                row.metric.text(row.after),
                row.change * 100.0,
                confidence
            )?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "note: {warning}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::{report, result};
    use super::*;

    fn results(before_us: &[u64], after_us: &[u64]) -> (BenchResult, BenchResult) {
        let of = |scales: &[u64]| result(scales.iter().map(|&scale| report("steady", scale)).collect());
        (of(before_us), of(after_us))
    }

    fn p99(before_us: &[u64], after_us: &[u64]) -> Row {
        let (before, after) = results(before_us, after_us);
        let rows = compare(&before, &after, 0.05).rows;
        rows.into_iter().find(|row| row.metric == Metric::P99).unwrap()
    }

    #[test]
    fn a_change_counts_when_it_is_large_and_the_repeats_bear_it_out() {
        use Judgement::{Better, Same, Unsure, Worse};
        let table: [(&[u64], &[u64], Judgement); 6] = [
            (&[100, 101, 102], &[100, 102, 103], Same),
            (&[100, 101, 102], &[150, 151, 152], Worse),
            (&[150, 151, 152], &[100, 101, 102], Better),
            (&[100, 200, 300], &[150, 250, 350], Unsure),
            (&[100], &[150], Worse),
            (&[100], &[101], Same),
        ];
        for (before, after, judgement) in table {
            let row = p99(before, after);
            assert_eq!(row.judgement, judgement, "{before:?} {after:?}: {row:?}");
        }
    }

    #[test]
    fn the_confidence_is_counted_out() {
        // 3 against 3 without overlap: 2 of 20 ways look like that.
        assert!((chance(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]) - 0.1).abs() < 1e-9);
        assert!((chance(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]) - 2.0 / 70.0).abs() < 1e-9);
        assert_eq!(chance(&[1.0, 1.0], &[1.0, 1.0]), 1.0);
        let row = p99(&[100, 101, 102], &[150, 151, 152]);
        assert!((row.change - 0.495).abs() < 0.01 && row.confidence.is_some_and(|c| (c - 0.9).abs() < 1e-9));
    }

    #[test]
    fn less_throughput_is_worse_and_so_is_an_invalid_result() {
        let (before, mut after) = results(&[100], &[100]);
        assert!(!compare(&before, &after, 0.05).is_worse());
        after.runs[0].records_per_s *= 0.5;
        assert!(compare(&before, &after, 0.05).is_worse());

        let (before, mut after) = results(&[100], &[100]);
        after.passed = false;
        assert!(compare(&before, &after, 0.05).is_worse());
        after.runs[0].label = "another".to_owned();
        after.passed = true;
        let nothing = compare(&before, &after, 0.05);
        assert!(nothing.is_worse() && nothing.to_string().contains("only the first result has"));
    }

    #[test]
    fn different_durability_is_said() {
        let (before, mut after) = results(&[100], &[100]);
        after.broker.durability = "none".to_owned();
        let text = compare(&before, &after, 0.05).to_string();
        assert!(text.contains("durability differs: sync against none"), "{text}");
    }

    #[test]
    fn medians_of_even_counts_lie_between() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
    }
}
