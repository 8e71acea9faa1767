//! Two results side by side: what changed, and how sure that is.
//!
//! Runs are matched by their label; runs of one label are repeats, and must be of one load. With
//! repeats, the confidence is that of an exact rank test (Mann and Whitney): of all ways in which the
//! values could have been dealt out to the two sides, how many look as one-sided as this one. It asks
//! nothing of how the values are distributed. Three repeats each reach 90 %, four 97 %; fewer can
//! never bear a change out, so that it counts as it is.
//!
//! Of a search for the highest rate, what it found is compared: its steps are at other rates each
//! time.

use std::fmt;

use super::load_facts::difference;
use super::output::BenchResult;
use super::report::Report;
use super::scenario::Scenario;
use super::sound::Basis;
use super::stats::Percentiles;
use super::text::duration;

/// A change is believed from this confidence on.
const CONFIDENCE_MIN: f64 = 0.9;
/// Repeats of a label that are looked at: of more, ranks could not all be counted out.
const REPEATS_MAX: usize = 10;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Records,
    /// What a reader got, where nothing is produced.
    Read,
    P50,
    P99,
    P999,
    Max,
    /// From when a record was due to its reader.
    EndToEndP50,
    EndToEndP99,
    /// The highest rate that met an objective.
    Highest,
}

impl Metric {
    const ACK: [Metric; 4] = [Metric::P50, Metric::P99, Metric::P999, Metric::Max];
    const END_TO_END: [Metric; 2] = [Metric::EndToEndP50, Metric::EndToEndP99];

    /// What there is to compare in runs of one load.
    fn of_runs(runs: &[&Report]) -> Vec<Metric> {
        let has = |of: fn(&Report) -> &Percentiles| runs.iter().any(|report| of(report).samples > 0);
        if runs.iter().all(|report| report.connections == 0) {
            return vec![Metric::Read];
        }
        let mut metrics = vec![Metric::Records];
        // With acks 0 there are none.
        metrics.extend(Metric::ACK.iter().filter(|_| has(Report::ack)));
        metrics.extend(Metric::END_TO_END.iter().filter(|_| has(|report| &report.end_to_end)));
        metrics
    }

    fn name(self) -> &'static str {
        match self {
            Metric::Records => "records/s",
            Metric::Read => "read/s",
            Metric::P50 => "p50",
            Metric::P99 => "p99",
            Metric::P999 => "p99.9",
            Metric::Max => "max",
            Metric::EndToEndP50 => "end-to-end p50",
            Metric::EndToEndP99 => "end-to-end p99",
            Metric::Highest => "highest/s",
        }
    }

    /// What a latency rests on.
    fn basis(self, report: &Report) -> Basis<'_> {
        match Metric::END_TO_END.contains(&self) {
            true => report.end_to_end_basis(),
            false => report.ack_basis(),
        }
    }

    fn of(self, report: &Report) -> f64 {
        let latency = self.basis(report).latency;
        match self {
            Metric::Records | Metric::Highest => report.records_per_s,
            Metric::Read => report.read_records_per_s,
            Metric::P50 | Metric::EndToEndP50 => latency.p50_ns as f64,
            Metric::P99 | Metric::EndToEndP99 => latency.p99_ns as f64,
            Metric::P999 => latency.p99_9_ns as f64,
            Metric::Max => latency.max_ns as f64,
        }
    }

    /// Where more is worse.
    fn is_latency(self) -> bool {
        Metric::ACK.contains(&self) || Metric::END_TO_END.contains(&self)
    }

    fn quantile(self) -> Option<f64> {
        match self {
            Metric::P50 | Metric::EndToEndP50 => Some(0.5),
            Metric::P99 | Metric::EndToEndP99 => Some(0.99),
            Metric::P999 => Some(0.999),
            Metric::Records | Metric::Read | Metric::Max | Metric::Highest => None,
        }
    }

    /// Why it is shown and not judged, if it is not.
    fn not_judged(self, runs: &[&Report]) -> Option<&'static str> {
        if !self.is_latency() {
            return None;
        }
        if runs.iter().any(|report| report.target_records_per_s.is_none()) {
            return Some("of a closed loop");
        }
        // A single sample decides the maximum.
        let Some(quantile) = self.quantile() else { return Some("one sample") };
        let sound = |own: bool| {
            runs.iter().all(|report| {
                let basis = self.basis(report);
                let own_from = if own { basis.own_from } else { 1.0 };
                Basis { own_from, ..basis }.is_sound(quantile)
            })
        };
        match () {
            () if !sound(false) => Some("few samples"),
            () if !sound(true) => Some("the generator's own"),
            () => None,
        }
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
    /// Not judged, for this reason.
    Shown(&'static str),
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
    /// Of each side.
    pub runs: (usize, usize),
    /// `None` when there are so few runs that it could not reach [`CONFIDENCE_MIN`].
    pub confidence: Option<f64>,
    pub judgement: Judgement,
}

#[derive(Clone, Debug, Default)]
pub struct Comparison {
    pub rows: Vec<Row>,
    /// What keeps the two from being compared, or makes it doubtful.
    pub warnings: Vec<String>,
    failed: bool,
}

impl Comparison {
    /// Something is worse, or one of the results must not be used, or the two cannot be compared.
    pub fn failed(&self) -> bool {
        self.failed
    }

    fn fault(&mut self, warning: String) {
        self.warnings.push(warning);
        self.failed = true;
    }
}

/// `threshold`: the least share that counts as a change.
pub fn compare(before: &BenchResult, after: &BenchResult, threshold: f64) -> Comparison {
    let mut comparison = Comparison { warnings: warnings(before, after), ..Comparison::default() };
    let durability = |result: &BenchResult| result.broker.durability.clone();
    if durability(before) != durability(after) {
        let (before, after) = (durability(before), durability(after));
        comparison.fault(format!("durability differs: {before} against {after}"));
    }
    // Against numbers that must not be used any others look good.
    for (result, which) in [(before, "first"), (after, "second")] {
        if !result.passed {
            comparison.fault(format!("the {which} result is not valid"));
        }
    }
    if before.scenario == Scenario::FIND_MAX {
        compare_searches(before, after, threshold, &mut comparison);
    } else {
        for label in labels(before) {
            compare_label(label, before, after, threshold, &mut comparison);
        }
        for label in labels(after) {
            if !labels(before).contains(&label) {
                comparison.warnings.push(format!("only the second result has {label:?}"));
            }
        }
    }
    if comparison.rows.is_empty() {
        comparison.fault("nothing could be compared".to_owned());
    }
    if comparison.rows.iter().any(|row| row.confidence.is_none() && row.is_judged()) {
        comparison.warnings.push(
            "a change counts as it is: three repeats a side (--repeat 3) are needed to say how sure it is"
                .to_owned(),
        );
    }
    comparison.failed |= comparison.rows.iter().any(|row| row.judgement == Judgement::Worse);
    comparison
}

fn labels(result: &BenchResult) -> Vec<&str> {
    let mut labels: Vec<&str> = Vec::new();
    for report in &result.runs {
        if !labels.contains(&report.label.as_str()) {
            labels.push(&report.label);
        }
    }
    labels
}

/// The runs of a label.
fn repeats<'a>(result: &'a BenchResult, label: &str) -> Vec<&'a Report> {
    result.runs.iter().filter(|report| report.label == label).take(REPEATS_MAX).collect()
}

fn compare_label(
    label: &str,
    before: &BenchResult,
    after: &BenchResult,
    threshold: f64,
    comparison: &mut Comparison,
) {
    let (old, new) = (repeats(before, label), repeats(after, label));
    if new.is_empty() {
        comparison.fault(format!("only the first result has {label:?}"));
        return;
    }
    let all = [&old[..], &new].concat();
    if let Some(difference) = all.iter().find_map(|report| difference(all[0], report)) {
        comparison.fault(format!("{label:?} is not the same load: {difference}"));
        return;
    }
    for metric in Metric::of_runs(&all) {
        let values = |runs: &[&Report]| runs.iter().map(|report| metric.of(report)).collect::<Vec<_>>();
        let not_judged = metric.not_judged(&all);
        comparison.rows.push(judge(label, metric, &values(&old), &values(&new), threshold, not_judged));
    }
}

fn compare_searches(before: &BenchResult, after: &BenchResult, threshold: f64, comparison: &mut Comparison) {
    let (Some(old), Some(new)) = (before.maxima.first(), after.maxima.first()) else {
        comparison.fault("one of the results has no highest rate that was found".to_owned());
        return;
    };
    if old.slo != new.slo {
        comparison.fault(format!("another objective: {} against {}", old.slo, new.slo));
        return;
    }
    // Its first run is the closed loop below whose rate it searches.
    let runs = before.runs.first().zip(after.runs.first());
    if let Some(difference) = runs.and_then(|(before, after)| difference(before, after)) {
        comparison.fault(format!("the searches are not of the same load: {difference}"));
        return;
    }
    let values = |result: &BenchResult| {
        result.maxima.iter().take(REPEATS_MAX).map(|found| found.records_per_s).collect::<Vec<_>>()
    };
    comparison.rows.push(judge(&old.slo, Metric::Highest, &values(before), &values(after), threshold, None));
}

fn judge(
    label: &str,
    metric: Metric,
    old: &[f64],
    new: &[f64],
    threshold: f64,
    not_judged: Option<&'static str>,
) -> Row {
    let (before, after) = (median(old), median(new));
    let change = if before > 0.0 { after / before - 1.0 } else { 0.0 };
    // The most one-sided of all ways, and its mirror image.
    let reachable = 1.0 - 2.0 / ways(old.len() + new.len(), old.len());
    let confidence = (reachable >= CONFIDENCE_MIN).then(|| 1.0 - chance(old, new));
    let judgement = match (not_judged, confidence) {
        (Some(why), _) => Judgement::Shown(why),
        _ if change.abs() < threshold => Judgement::Same,
        (None, Some(confidence)) if confidence < CONFIDENCE_MIN => Judgement::Unsure,
        // Few runs say how much, not how sure: a gate must not let it pass.
        _ if (change > 0.0) == metric.is_latency() => Judgement::Worse,
        _ => Judgement::Better,
    };
    let runs = (old.len(), new.len());
    Row { label: label.to_owned(), metric, before, after, change, runs, confidence, judgement }
}

/// In how many ways `count` of `all` can be chosen.
fn ways(all: usize, count: usize) -> f64 {
    (0..count).map(|index| (all - index) as f64 / (index + 1) as f64).product()
}

impl Row {
    fn is_judged(&self) -> bool {
        !matches!(self.judgement, Judgement::Shown(_))
    }
}

fn warnings(before: &BenchResult, after: &BenchResult) -> Vec<String> {
    let mut warnings = Vec::new();
    if [before, after].iter().any(|result| result.runs.iter().any(|report| report.load.is_none())) {
        warnings.push(
            "a result does not say all of its load (payload, key distribution, group protocol, consumer \
             throttle, topic configs): an earlier version wrote it"
                .to_owned(),
        );
    }
    let machine = |result: &BenchResult| (result.environment.cpu.clone(), result.environment.kernel.clone());
    if machine(before) != machine(after) {
        warnings.push("the machines or their kernels differ".to_owned());
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
            "{:<24}{:>16}{:>12}{:>12}{:>10}{:>12}",
            "run", "", "before", "after", "change", "confidence"
        )?;
        for row in &self.rows {
            let confidence = match (row.confidence, row.runs) {
                (Some(confidence), _) => format!("{:.0} %", confidence * 100.0),
                (None, (old, new)) => format!("{old}:{new} runs"),
            };
            let word = match row.judgement {
                Judgement::Same => String::new(),
                Judgement::Better => "better".to_owned(),
                Judgement::Worse => "WORSE".to_owned(),
                Judgement::Unsure => "unsure".to_owned(),
                Judgement::Shown(why) => format!("not judged: {why}"),
            };
            writeln!(
                f,
                "{:<24}{:>16}{:>12}{:>12}{:>+9.1}%{:>12}  {word}",
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
    use super::super::output::Maximum;
    use super::super::output::tests::{report, result};
    use super::*;

    /// Runs of one label, each with 100 times as many samples as a p99.9 needs at least.
    fn results(before_us: &[u64], after_us: &[u64]) -> (BenchResult, BenchResult) {
        let of = |scales: &[u64]| result(scales.iter().map(|&scale| sampled("steady", scale)).collect());
        (of(before_us), of(after_us))
    }

    fn sampled(label: &str, scale_us: u64) -> Report {
        let mut report = report(label, scale_us);
        report.response.samples = 10_000_000;
        report
    }

    fn row_of(comparison: &Comparison, metric: Metric) -> Row {
        comparison.rows.iter().find(|row| row.metric == metric).unwrap().clone()
    }

    fn p99(before_us: &[u64], after_us: &[u64]) -> Row {
        let (before, after) = results(before_us, after_us);
        row_of(&compare(&before, &after, 0.05), Metric::P99)
    }

    #[test]
    fn a_change_counts_when_it_is_large_and_the_repeats_bear_it_out() {
        use Judgement::{Better, Same, Unsure, Worse};
        let table: [(&[u64], &[u64], Judgement); 8] = [
            (&[100, 101, 102], &[100, 102, 103], Same),
            (&[100, 101, 102], &[150, 151, 152], Worse),
            (&[150, 151, 152], &[100, 101, 102], Better),
            (&[100, 200, 300], &[150, 250, 350], Unsure),
            (&[100], &[150], Worse),
            (&[100], &[101], Same),
            // Two repeats could never bear it out.
            (&[100, 101], &[1000, 1001], Worse),
            (&[100, 101, 102, 103], &[1000], Worse),
        ];
        for (before, after, judgement) in table {
            let row = p99(before, after);
            assert_eq!(row.judgement, judgement, "{before:?} {after:?}: {row:?}");
        }
    }

    #[test]
    fn too_few_repeats_are_said() {
        let (before, after) = results(&[100, 101], &[1000, 1001]);
        let comparison = compare(&before, &after, 0.05);
        assert!(comparison.failed() && row_of(&comparison, Metric::P99).confidence.is_none());
        let text = comparison.to_string();
        assert!(text.contains("2:2 runs") && text.contains("three repeats a side"), "{text}");
        let (before, after) = results(&[100, 101, 102], &[100, 101, 102]);
        assert!(!compare(&before, &after, 0.05).to_string().contains("three repeats"));
    }

    #[test]
    fn the_confidence_is_counted_out() {
        // 3 against 3 without overlap: 2 of 20 ways look like that.
        assert!((chance(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]) - 0.1).abs() < 1e-9);
        assert!((chance(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]) - 2.0 / 70.0).abs() < 1e-9);
        assert_eq!(chance(&[1.0, 1.0], &[1.0, 1.0]), 1.0);
        assert_eq!((ways(6, 3), ways(8, 4), ways(5, 1)), (20.0, 70.0, 5.0));
        let row = p99(&[100, 101, 102], &[150, 151, 152]);
        assert!((row.change - 0.495).abs() < 0.01 && row.confidence.is_some_and(|c| (c - 0.9).abs() < 1e-9));
    }

    #[test]
    fn less_throughput_is_worse_and_an_invalid_result_on_either_side_fails() {
        let (before, mut after) = results(&[100], &[100]);
        assert!(!compare(&before, &after, 0.05).failed());
        after.runs[0].records_per_s *= 0.5;
        assert!(compare(&before, &after, 0.05).failed());

        let (before, mut after) = results(&[100], &[100]);
        after.passed = false;
        for (before, after, which) in [(&before, &after, "second"), (&after, &before, "first")] {
            let comparison = compare(before, after, 0.05);
            let said = format!("the {which} result is not valid");
            assert!(comparison.failed() && comparison.to_string().contains(&said), "{comparison}");
        }
    }

    #[test]
    fn a_label_that_is_gone_fails_and_a_new_one_is_said() {
        let two = result(vec![sampled("steady", 100), sampled("burst", 100)]);
        let one = result(vec![sampled("steady", 100)]);
        let comparison = compare(&two, &one, 0.05);
        assert!(comparison.failed() && !comparison.rows.is_empty());
        assert!(comparison.to_string().contains("only the first result has \"burst\""), "{comparison}");
        let comparison = compare(&one, &two, 0.05);
        assert!(!comparison.failed(), "{comparison}");
        assert!(comparison.to_string().contains("only the second result has \"burst\""), "{comparison}");
    }

    #[test]
    fn another_load_under_the_same_label_is_not_compared() {
        type Change = (fn(&mut Report), &'static str);
        let changes: [Change; 5] = [
            (|run| run.record_bytes = 100, "record bytes 1024 against 100"),
            (|run| run.target_records_per_s = Some(2000.0), "rate 1000/s against 2000/s"),
            (|run| run.target_records_per_s = None, "rate 1000/s against as it goes"),
            (|run| (run.acks, run.connections) = (1, 8), "acks -1 against 1, connections 1 against 8"),
            (|run| run.records_per_batch = 2, "records a batch 1 against 2"),
        ];
        for (change, words) in changes {
            let (before, mut after) = results(&[100], &[100]);
            change(&mut after.runs[0]);
            let comparison = compare(&before, &after, 0.05);
            assert!(comparison.failed() && comparison.rows.is_empty(), "{comparison}");
            assert!(comparison.to_string().contains(words), "{comparison}");
        }
    }

    #[test]
    fn latencies_of_closed_loops_and_percentiles_of_few_samples_are_only_shown() {
        let (mut before, mut after) = results(&[100], &[200]);
        for run in before.runs.iter_mut().chain(&mut after.runs) {
            run.target_records_per_s = None;
        }
        let comparison = compare(&before, &after, 0.05);
        assert!(!comparison.failed(), "{comparison}");
        assert_eq!(row_of(&comparison, Metric::P99).judgement, Judgement::Shown("of a closed loop"));
        assert_eq!(row_of(&comparison, Metric::Records).judgement, Judgement::Same);

        let (mut before, after) = results(&[100], &[200]);
        before.runs[0].response.samples = 60_000;
        let comparison = compare(&before, &after, 0.05);
        assert_eq!(row_of(&comparison, Metric::P999).judgement, Judgement::Shown("few samples"));
        assert_eq!(row_of(&comparison, Metric::P99).judgement, Judgement::Worse);

        let (mut before, after) = results(&[100], &[200]);
        before.runs[0].own_delay.p99_9_ns = before.runs[0].response.p99_9_ns / 5;
        let comparison = compare(&before, &after, 0.05);
        assert_eq!(row_of(&comparison, Metric::P999).judgement, Judgement::Shown("the generator's own"));
    }

    #[test]
    fn of_a_search_the_rate_that_it_found_is_compared() {
        let search = |rate: f64, slo: &str| {
            let mut found = result(vec![sampled("closed loop", 100), sampled(&format!("rate {rate}"), 100)]);
            found.scenario = Scenario::FIND_MAX.to_owned();
            found.maxima = vec![Maximum { slo: slo.to_owned(), records_per_s: rate }];
            found
        };
        let before = search(50_000.0, "p99<5ms");
        assert!(!compare(&before, &search(49_000.0, "p99<5ms"), 0.05).failed());
        let worse = compare(&before, &search(40_000.0, "p99<5ms"), 0.05);
        assert!(worse.failed() && row_of(&worse, Metric::Highest).judgement == Judgement::Worse, "{worse}");
        let another = compare(&before, &search(50_000.0, "p99<9ms"), 0.05);
        assert!(another.failed() && another.to_string().contains("another objective"), "{another}");
        let mut nothing = search(1.0, "");
        nothing.maxima.clear();
        assert!(compare(&before, &nothing, 0.05).failed());
    }

    #[test]
    fn another_durability_fails() {
        let (before, mut after) = results(&[100], &[100]);
        after.broker.durability = "none".to_owned();
        let comparison = compare(&before, &after, 0.05);
        assert!(comparison.failed(), "{comparison}");
        assert!(comparison.to_string().contains("durability differs: sync against none"), "{comparison}");
    }

    #[test]
    fn what_an_earlier_version_did_not_write_is_said_and_the_rest_is_compared() {
        let (mut before, after) = results(&[100], &[100]);
        before.runs[0].load = None;
        let comparison = compare(&before, &after, 0.05);
        assert!(!comparison.failed() && !comparison.rows.is_empty(), "{comparison}");
        assert!(comparison.to_string().contains("does not say all of its load"), "{comparison}");
    }

    #[test]
    fn latencies_to_a_reader_are_compared_where_there_is_one() {
        let (mut before, mut after) = results(&[100], &[100]);
        let metrics =
            |comparison: Comparison| comparison.rows.iter().map(|row| row.metric).collect::<Vec<_>>();
        assert!(!metrics(compare(&before, &after, 0.05)).contains(&Metric::EndToEndP99));
        for run in before.runs.iter_mut().chain(&mut after.runs) {
            run.end_to_end = Percentiles { samples: 10_000, p50_ns: 100, p99_ns: 200_000, ..run.end_to_end };
        }
        after.runs[0].end_to_end.p99_ns = 300_000;
        let comparison = compare(&before, &after, 0.05);
        assert!(comparison.failed(), "{comparison}");
        assert_eq!(row_of(&comparison, Metric::EndToEndP50).judgement, Judgement::Same);
        assert_eq!(row_of(&comparison, Metric::EndToEndP99).judgement, Judgement::Worse);
        assert!(comparison.to_string().contains("end-to-end p99"), "{comparison}");
        // As many records, but of a tenth of the requests.
        (after.runs[0].records_per_s, after.runs[0].requests_per_s) = (1000.0, 100.0);
        let comparison = compare(&before, &after, 0.05);
        assert_eq!(row_of(&comparison, Metric::EndToEndP99).judgement, Judgement::Shown("few samples"));
    }

    #[test]
    fn medians_of_even_counts_lie_between() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
    }
}
