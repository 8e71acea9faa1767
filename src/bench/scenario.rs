//! Scenarios: runs that belong together, each by a name.
//!
//! A scenario takes the user's options and changes in them what makes it that scenario; it ends with
//! reports and, where it looks for something, a finding in words.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::engine::ReadBack;
use super::error::BenchError;
use super::options::{Load, Options};
use super::output::Maximum;
use super::report::{Backlog, Report};
use super::schedule::{Arrivals, Burst};
use super::session::Target;
use super::slo::Slo;
use super::sound::Basis;
use super::text::{duration, plural};

/// Ten times the rate for a second: what a broker must take without losing what was due.
const BURST: Burst = Burst { every_s: 5, factor: 10.0 };
const FAN_OUT_GROUPS: usize = 5;
const MANY_PARTITIONS: u32 = 10_000;
const MANY_CONNECTIONS: usize = 500;
/// A slow consumer takes this share of what is produced.
const SLOW_SHARE: f64 = 0.25;
/// The backlog is written in this part of the time that there is for reading it.
const BACKLOG_PART: u64 = 3;
/// The search for a maximum ends when the bounds are so close.
const SEARCH_PRECISION: f64 = 0.05;
/// Rates are tried so often at most.
const SEARCH_STEPS: usize = 8;
/// How long the closed loop runs that bounds the search.
const CEILING_S: u64 = 5;

/// What is varied by a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Sweep {
    Rates(Vec<f64>),
    RecordBytes(Vec<usize>),
    Partitions(Vec<u32>),
    Connections(Vec<usize>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Scenario {
    /// One rate, all the time.
    Steady,
    /// Ten times the rate for one second of every five.
    Burst,
    /// The same again and again with one thing changed.
    Sweep(Sweep),
    /// The highest rate at which an objective is met.
    FindMax(Slo),
    /// Five groups that each read everything.
    FanOut,
    /// A reader from the first offset on, while producers and a reader of the tail go on.
    CatchUp,
    /// Ten thousand partitions beside the one that was asked for.
    ManyPartitions,
    /// Five hundred connections beside those that were asked for.
    ManyConnections,
    /// A consumer that takes a quarter of what is produced.
    SlowConsumer,
    /// `kill -9` and a restart in the middle, under idempotent producers.
    RestartUnderLoad,
}

impl Scenario {
    pub const FIND_MAX: &str = "find-max";

    pub fn name(&self) -> &'static str {
        match self {
            Scenario::Steady => "steady",
            Scenario::Burst => "burst",
            Scenario::Sweep(_) => "sweep",
            Scenario::FindMax(_) => Scenario::FIND_MAX,
            Scenario::FanOut => "fan-out",
            Scenario::CatchUp => "catch-up",
            Scenario::ManyPartitions => "many-partitions",
            Scenario::ManyConnections => "many-connections",
            Scenario::SlowConsumer => "slow-consumer",
            Scenario::RestartUnderLoad => "restart-under-load",
        }
    }
}

/// What came of a scenario.
#[derive(Debug, Default)]
pub struct Outcome {
    pub runs: Vec<Report>,
    pub finding: Option<String>,
    /// What each search for a highest rate found.
    pub maxima: Vec<Maximum>,
    /// All runs were made.
    pub complete: bool,
    /// Runs before this one were attempts, whose failure is no failure of the scenario.
    judged_from: usize,
}

impl Outcome {
    /// The runs on which the verdict rests.
    pub fn judged(&self) -> impl Iterator<Item = &Report> {
        self.runs[self.judged_from.min(self.runs.len())..].iter()
    }
}

/// Run it `repeat` times. What was measured before a failure is kept; the finding then says what failed.
pub fn run(
    scenario: &Scenario,
    repeat: usize,
    options: &Options,
    target: &mut Target,
    told: &mut dyn FnMut(&Report),
) -> Outcome {
    let mut stage = Stage { target, told, outcome: Outcome::default() };
    for _ in 0..repeat {
        match stage.play(scenario, options) {
            Ok(finding) => stage.outcome.finding = finding,
            Err(error) => {
                stage.outcome.finding = Some(format!("stopped: {error}"));
                return stage.outcome;
            }
        }
    }
    stage.outcome.complete = true;
    stage.outcome
}

struct Stage<'a> {
    target: &'a mut Target,
    told: &'a mut dyn FnMut(&Report),
    outcome: Outcome,
}

type Finding = Result<Option<String>, BenchError>;

impl Stage<'_> {
    fn play(&mut self, scenario: &Scenario, options: &Options) -> Finding {
        match scenario {
            Scenario::Steady => {
                self.once(options)?;
                Ok(None)
            }
            Scenario::Burst => {
                let arrivals = Arrivals { burst: Some(BURST), ..options.arrivals };
                self.once(&Options { arrivals, ..options.clone() })?;
                Ok(None)
            }
            Scenario::Sweep(sweep) => self.sweep(sweep, options),
            Scenario::FindMax(slo) => self.find_max(slo, options),
            Scenario::FanOut => {
                let consumers = options.consumers.max(1);
                self.once(&Options {
                    groups: FAN_OUT_GROUPS,
                    consumers,
                    read_back: ReadBack::Tail,
                    ..options.clone()
                })?;
                Ok(None)
            }
            Scenario::CatchUp => self.catch_up(options),
            Scenario::ManyPartitions => {
                let many = Options {
                    partitions: MANY_PARTITIONS,
                    topic: format!("{}-{MANY_PARTITIONS}", options.topic),
                    ..options.clone()
                };
                self.against_usual(options, "many partitions", &many)
            }
            Scenario::ManyConnections => {
                let many = Options {
                    connections: MANY_CONNECTIONS,
                    partitions: options.partitions.max(MANY_CONNECTIONS as u32),
                    topic: format!("{}-{MANY_CONNECTIONS}", options.topic),
                    ..options.clone()
                };
                self.against_usual(options, "many connections", &many)
            }
            Scenario::SlowConsumer => self.slow_consumer(options),
            Scenario::RestartUnderLoad => self.restart(options),
        }
    }

    fn once(&mut self, options: &Options) -> Result<&Report, BenchError> {
        options.interrupt.check()?;
        let report = super::run(&self.target.aim(options))?;
        self.keep(report);
        // No further run.
        options.interrupt.check()?;
        Ok(self.outcome.runs.last().expect("it was kept above"))
    }

    fn keep(&mut self, report: Report) {
        (self.told)(&report);
        self.outcome.runs.push(report);
    }

    /// One after the other; `what` in the labels says which is which.
    fn against_usual(&mut self, usual: &Options, what: &str, other: &Options) -> Finding {
        let usual = self.once(&Options { label: "usual".to_owned(), ..usual.clone() })?.clone();
        let other = self.once(&Options { label: what.to_owned(), ..other.clone() })?;
        Ok(Some(format!(
            "p99 {} with {what}, {} as usual; {:.2} of the records/s",
            duration(other.ack().p99_ns),
            duration(usual.ack().p99_ns),
            other.records_per_s / usual.records_per_s,
        )))
    }

    fn sweep(&mut self, sweep: &Sweep, options: &Options) -> Finding {
        let base = || options.clone();
        let steps: Vec<Options> = match sweep {
            Sweep::Rates(rates) => {
                let step = |&records_per_s| Options {
                    label: format!("rate {records_per_s}"),
                    load: Load::Open { records_per_s },
                    ..base()
                };
                rates.iter().map(step).collect()
            }
            Sweep::RecordBytes(sizes) => {
                let step =
                    |&record_bytes| Options { label: format!("{record_bytes} B"), record_bytes, ..base() };
                sizes.iter().map(step).collect()
            }
            Sweep::Partitions(counts) => {
                let step = |&partitions| Options {
                    label: format!("{partitions} partitions"),
                    topic: format!("{}-{partitions}", options.topic),
                    partitions,
                    ..base()
                };
                counts.iter().map(step).collect()
            }
            Sweep::Connections(counts) => {
                let step = |&connections| Options {
                    label: format!("{connections} connections"),
                    connections,
                    ..base()
                };
                counts.iter().map(step).collect()
            }
        };
        for step in &steps {
            self.once(step)?;
        }
        Ok(None)
    }

    /// Bisection between nothing and what a closed loop reaches.
    fn find_max(&mut self, slo: &Slo, options: &Options) -> Finding {
        let closed = Options {
            label: "closed loop".to_owned(),
            load: Load::Closed,
            seconds: CEILING_S.min(options.seconds),
            ..options.clone()
        };
        let ceiling = self.once(&closed)?.records_per_s;
        let (mut low, mut best, mut missed) = (0.0, None, ceiling);
        let (mut late, mut few, mut unsound) = (0, 0, "");
        for _ in 0..SEARCH_STEPS {
            if missed - low <= ceiling * SEARCH_PRECISION {
                break;
            }
            let records_per_s = ((low + missed) / 2.0).round().max(1.0);
            let label = format!("rate {records_per_s}");
            let step = Options { label, load: Load::Open { records_per_s }, ..options.clone() };
            let report = self.once(&step)?;
            // A percentile that the generator has made, or that hardly a request lies beyond, says neither that
            // the broker meets it nor that it does not.
            let basis = report.response_basis();
            let is_late = slo.unsound(&Basis { requests: u64::MAX, ..basis }).is_some();
            let unmeasured = slo.unsound(&Basis { own_from: 1.0, ..basis });
            late += u64::from(is_late);
            if let Some(name) = unmeasured {
                (few, unsound) = (few + 1, name);
            }
            let is_met = report.passed() && !is_late && slo.is_met(&report.response);
            match (is_met, unmeasured) {
                (false, _) => missed = records_per_s,
                // Of a lower rate there would be even fewer.
                (true, Some(_)) => low = records_per_s,
                (true, None) => (low, best) = (records_per_s, Some((records_per_s, report.clone()))),
            }
        }
        // The search is meant to go too far: only the best rate must be without fault.
        self.outcome.judged_from = self.outcome.runs.len();
        let mut but = match late {
            0 => String::new(),
            rates => format!("; at {} the generator itself was too late to say", plural(rates, "rate")),
        };
        if few > 0 {
            let rates = plural(few, "rate");
            but += &format!("; at {rates} there were too few requests for {unsound}: run longer (--seconds)");
        }
        let Some((met, best)) = best else {
            let reason = format!("no rate that was tried is known to meet {slo}{but}");
            return Err(BenchError::Options(reason));
        };
        let finding = format!(
            "{met:.0} records/s meet {slo}: p50 {}, p99 {}, p99.9 {}; the closed loop reached \
             {ceiling:.0}{but}",
            duration(best.response.p50_ns),
            duration(best.response.p99_ns),
            duration(best.response.p99_9_ns),
        );
        self.outcome.maxima.push(Maximum { slo: slo.to_string(), records_per_s: met });
        Ok(Some(finding))
    }

    fn catch_up(&mut self, options: &Options) -> Finding {
        let backlog = Options {
            label: "backlog".to_owned(),
            load: Load::Closed,
            seconds: (options.seconds / BACKLOG_PART).max(1),
            // How fast it is written is not asked.
            warmup_s: 0,
            read_back: ReadBack::Nothing,
            consumers: 0,
            ..options.clone()
        };
        self.once(&backlog)?;
        let undisturbed = Options {
            label: "undisturbed".to_owned(),
            read_back: ReadBack::Nothing,
            consumers: 0,
            ..options.clone()
        };
        let undisturbed = self.once(&undisturbed)?.ack().p99_ns;
        // The backlog is read from the load's first moment on: warmed up or not, it counts.
        let catch_up = Options {
            label: "catch-up".to_owned(),
            read_back: ReadBack::CatchUp,
            groups: 2,
            // A group would begin where it has committed.
            group_protocol: false,
            consumers: options.consumers.max(1),
            warmup_s: 0,
            ..options.clone()
        };
        let report = self.once(&catch_up)?;
        let caught_up = match report.backlog {
            Some(Backlog { records, read_after_ns: Some(ns), .. }) => {
                format!("{records} records of backlog read after {}", duration(ns))
            }
            Some(Backlog { records, .. }) => format!("NOT CAUGHT UP: {records} records of backlog read"),
            None => "no backlog".to_owned(),
        };
        Ok(Some(format!(
            "{caught_up}, beside producers and a reader of the tail; producers' p99 {}, {} undisturbed",
            duration(report.ack().p99_ns),
            duration(undisturbed),
        )))
    }

    fn slow_consumer(&mut self, options: &Options) -> Finding {
        let tail =
            Options { consumers: options.consumers.max(1), read_back: ReadBack::Tail, ..options.clone() };
        let usual = self.once(&Options { label: "usual".to_owned(), ..tail.clone() })?.clone();
        let bytes_per_s = usual.bytes_per_s * SLOW_SHARE / tail.readers() as f64;
        let slow = Options {
            label: "slow consumer".to_owned(),
            consumer_bytes_per_s: Some(bytes_per_s.max(1.0)),
            ..tail
        };
        let slow = self.once(&slow)?;
        Ok(Some(format!(
            "producers' p99 {} with a consumer that takes {:.1} MB/s, {} with one that keeps up",
            duration(slow.ack().p99_ns),
            bytes_per_s / 1e6,
            duration(usual.ack().p99_ns),
        )))
    }

    fn restart(&mut self, options: &Options) -> Finding {
        options.interrupt.check()?;
        let Some(broker) = self.target.own.take() else {
            let reason = "restart-under-load needs a broker of its own: leave --bootstrap out";
            return Err(BenchError::Options(reason.to_owned()));
        };
        let options = Options {
            reconnect: true,
            idempotent: true,
            in_flight: options.in_flight.min(5),
            consumers: options.consumers.max(1),
            read_back: ReadBack::Tail,
            broker_pid: None,
            ..options.clone()
        };
        let half = Duration::from_secs(options.warmup_s + options.seconds / 2);
        let aimed = Options { admin: None, ..self.target.aim(&options) };
        let (report, restarted) = std::thread::scope(|scope| {
            let loading = scope.spawn(|| super::run(&aimed));
            // On this thread: a broker ends with the one that started it. The moment is part of the
            // scenario, not a wait for something.
            let restarted = match options.interrupt.wait(half) {
                true => Ok(broker),
                false => broker.restart(),
            };
            if let Err(error) = &restarted {
                options.interrupt.set(format!("the broker was not started again: {error}"));
            }
            (loading.join().unwrap_or(Err(BenchError::Panicked)), restarted)
        });
        // What was measured is kept, whatever became of the broker.
        let measured = report.map(|report| {
            let seen = (report.ack().max_ns, report.reconnects);
            self.keep(report);
            seen
        });
        let restarted = restarted?;
        let (ready_after, admin) = (restarted.ready_after, restarted.admin());
        self.target.own = Some(restarted);
        self.target.admin = Some(admin);
        options.interrupt.check()?;
        let (slowest, connections) = measured?;
        Ok(Some(format!(
            "killed and ready again after {}; the longest ack took {}, {connections} connections made again",
            duration(ready_after.as_nanos() as u64),
            duration(slowest),
        )))
    }
}
