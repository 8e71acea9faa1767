//! One run: prepare the topic, start the load threads, follow them, judge the result.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{SystemTime, UNIX_EPOCH};

use super::driver::Driver;
use super::engine::{Outcome, Plan, ReadBack, Reporter, Worker};
use super::error::BenchError;
use super::kafka::control::{Control, End, resolve};
use super::kafka::{KafkaDriver, Shape};
use super::ledger::Verdict;
use super::payload::{HEADER_BYTES, Random};
use super::process::{self, Usage};
use super::report::{Progress, Report, Second};
use super::stats::{Clock, Interval};

/// Time for the threads to get ready before the schedule begins.
const LEAD_NS: u64 = 100_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// How the load is paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// As fast as the answers come.
    Closed,
    /// Records per second, on an absolute schedule.
    Open { records_per_s: f64 },
    /// Only read.
    None,
}

/// What to do; see `ringmq bench --help` for the meaning of each.
#[derive(Clone, Debug)]
pub struct Options {
    pub bootstrap: String,
    pub topic: String,
    pub topic_configs: Vec<(String, String)>,
    pub partitions: u32,
    pub acks: i16,
    pub record_bytes: usize,
    pub records_per_batch: u32,
    pub connections: usize,
    pub in_flight: usize,
    pub load: Load,
    pub seconds: u64,
    pub warmup_s: u64,
    pub consumers: usize,
    pub read_back: ReadBack,
    /// One load thread a core; empty: one thread that is not pinned.
    pub cpus: Vec<usize>,
    /// Its processor time and memory are measured with the run.
    pub broker_pid: Option<u32>,
    /// One line a second on the standard error.
    pub progress: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            bootstrap: "127.0.0.1:9092".to_owned(),
            topic: "bench".to_owned(),
            topic_configs: Vec::new(),
            partitions: 1,
            acks: -1,
            record_bytes: 1024,
            records_per_batch: 1,
            connections: 1,
            in_flight: 5,
            load: Load::Closed,
            seconds: 10,
            warmup_s: 2,
            consumers: 0,
            read_back: ReadBack::Nothing,
            cpus: Vec::new(),
            broker_pid: None,
            progress: false,
        }
    }
}

impl Options {
    fn threads(&self) -> usize {
        self.cpus.len().max(1)
    }

    /// Seconds from the schedule's begin to its end. Without a load it is over when all is read.
    fn end_s(&self) -> u64 {
        match self.load {
            Load::None => u64::from(u32::MAX),
            Load::Closed | Load::Open { .. } => self.warmup_s + self.seconds,
        }
    }

    /// The first measured second.
    pub fn measured_from_s(&self) -> u64 {
        if self.load == Load::None { 0 } else { self.warmup_s }
    }

    fn check(&self) -> Result<(), BenchError> {
        let fault = |reason: &str| Err(BenchError::Options(reason.to_owned()));
        let threads = self.threads();
        match () {
            () if self.record_bytes < HEADER_BYTES => {
                fault("a record has at least 32 bytes: the ledger's fields")
            }
            () if self.record_bytes > 64 << 20 => fault("a record has at most 64 MiB"),
            () if self.records_per_batch == 0 => fault("a batch has at least one record"),
            () if self.in_flight == 0 || self.connections == 0 => {
                fault("at least one connection and one request in flight")
            }
            () if self.seconds == 0 && self.load != Load::None => fault("a load takes at least one second"),
            () if (self.partitions as usize) < threads => {
                fault("every load core needs a partition of its own: more --partitions or fewer --cpus")
            }
            () if self.connections < threads => fault("every load core needs a connection of its own"),
            () if self.consumers > 0 && self.consumers < threads => {
                fault("every load core needs a consumer of its own, or there are none")
            }
            () if !matches!(self.acks, 1 | -1) => fault("acks are 1 or all: the ledger needs answers"),
            () => match self.load {
                Load::Open { records_per_s } if !(records_per_s.is_finite() && records_per_s > 0.0) => {
                    fault("a rate is above 0")
                }
                _ => Ok(()),
            },
        }
    }
}

/// Run it. `Ok` also when the run is invalid or the ledger fails: the report says so.
///
/// # Errors
/// The run could not begin.
pub fn run(options: &Options) -> Result<Report, BenchError> {
    options.check()?;
    let address = resolve(&options.bootstrap)?;
    let mut control = Control::connect(address)?;
    control.prepare_topic(&options.topic, options.partitions, &options.topic_configs)?;
    let latest = control.offsets(&options.topic, options.partitions, End::Latest)?;
    let earliest = control.offsets(&options.topic, options.partitions, End::Earliest)?;
    drop(control);

    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let driver = KafkaDriver::new(Shape {
        run: Random(since_epoch.as_nanos() as u64).next(),
        topic: options.topic.clone(),
        acks: options.acks,
        record_bytes: options.record_bytes,
        records: options.records_per_batch,
        timestamp_ms: since_epoch.as_millis() as i64,
    });
    let clock = Clock::new();
    let plans = plans(options, address, driver.batch_bytes(), earliest, latest);
    drive(options, &driver, clock, plans)
}

fn plans(
    options: &Options,
    address: SocketAddr,
    batch_bytes: usize,
    earliest: Vec<i64>,
    latest: Vec<i64>,
) -> Vec<Plan> {
    let threads = options.threads();
    let interval_ns = match options.load {
        Load::Open { records_per_s } => Some(1e9 * f64::from(options.records_per_batch) / records_per_s),
        Load::Closed | Load::None => None,
    };
    let plan = Plan {
        core: None,
        address,
        topic: options.topic.clone(),
        thread: 0,
        threads,
        partitions: options.partitions,
        earliest,
        latest,
        producers: if options.load == Load::None { 0 } else { options.connections },
        in_flight: options.in_flight,
        batch_bytes,
        interval_ns,
        readers_per_thread: options.consumers.div_ceil(threads),
        read_back: options.read_back.clone(),
        // Set when every thread is connected.
        start_ns: 0,
        end_ns: 0,
    };
    (0..threads)
        .map(|thread| Plan { thread, core: options.cpus.get(thread).copied(), ..plan.clone() })
        .collect()
}

fn drive<D: Driver>(
    options: &Options,
    driver: &D,
    clock: Clock,
    mut plans: Vec<Plan>,
) -> Result<Report, BenchError> {
    let stop = AtomicBool::new(false);
    let (full_sender, full) = channel();
    // Connecting and encoding takes longer with more connections.
    let connections = options.connections + options.consumers;
    let start_ns = clock.now_ns() + LEAD_NS + connections as u64 * 1_000_000;
    for plan in &mut plans {
        plan.start_ns = start_ns;
        plan.end_ns = start_ns + options.end_s() * SECOND_NS;
    }
    let usage_before = options.broker_pid.and_then(process::usage);
    let (outcomes, collected) = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut empties = Vec::new();
        for plan in &plans {
            let (empty_sender, empty) = channel();
            // Two to fill while others are being added up: no thread allocates during the load.
            for _ in 0..2 {
                let _ = empty_sender.send(Interval::new());
            }
            empties.push(empty_sender);
            let reporter = Reporter { full: full_sender.clone(), empty };
            let stop = &stop;
            threads.push(scope.spawn(move || {
                if let Some(core) = plan.core {
                    core_affinity::set_for_current(core_affinity::CoreId { id: core });
                }
                Worker::new(plan, driver, clock, stop, reporter).map(Worker::run)
            }));
        }
        drop(full_sender);
        let collected = collect(options, &full, &empties);
        let join =
            |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or(Err(BenchError::Panicked));
        let outcomes: Vec<Result<Outcome, BenchError>> = threads.into_iter().map(join).collect();
        (outcomes, collected)
    });
    let usage_after = options.broker_pid.and_then(process::usage);
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(judge(options, outcomes, collected, usage_before.zip(usage_after)))
}

/// The intervals, added up.
struct Collected {
    /// The measured seconds and what was answered after the end; without the warm-up.
    measured: Interval,
    /// Of the measured seconds alone: what rates are made of.
    in_time: Second,
    timeline: Vec<Second>,
}

/// Receive intervals until every thread is done.
fn collect(options: &Options, full: &Receiver<Interval>, empties: &[Sender<Interval>]) -> Collected {
    let (measured_from_s, end_s) = (options.measured_from_s(), options.end_s());
    let mut collected =
        Collected { measured: Interval::new(), in_time: Second::default(), timeline: Vec::new() };
    let mut progress = Progress::new((options.load != Load::None).then_some(end_s));
    // Seconds that not every thread has reported.
    let mut open: BTreeMap<u64, (Interval, usize)> = BTreeMap::new();
    for (received, interval) in full.iter().enumerate() {
        let second = interval.second;
        if second >= measured_from_s {
            collected.measured.add(&interval);
        }
        let (sum, reported) = open.entry(second).or_default();
        sum.add(&interval);
        *reported += 1;
        let complete = *reported == empties.len();
        // A thread that is done takes none back.
        let _ = empties[received % empties.len()].send(interval);
        if !complete || second >= end_s {
            continue;
        }
        let (sum, _) = open.remove(&second).expect("its entry was met above");
        let line = Second::of(second, &sum);
        if second >= measured_from_s {
            collected.in_time.add(&line);
        }
        if options.progress {
            progress.print(&line, &sum);
        }
        collected.timeline.push(line);
    }
    collected
}

fn judge(
    options: &Options,
    outcomes: Vec<Outcome>,
    collected: Collected,
    usage: Option<(Usage, Usage)>,
) -> Report {
    let mut verdict = Verdict::default();
    let (mut unsent, mut unanswered, mut failures) = (0, 0, Vec::new());
    for outcome in outcomes {
        verdict += outcome.verdict;
        unsent += outcome.unsent;
        unanswered += outcome.unanswered;
        failures.extend(outcome.error.map(|error| error.to_string()));
    }
    let Collected { measured, in_time, timeline } = collected;
    let mut report = Report::new(options, &measured, in_time, timeline, verdict);
    report.broker = usage.map(|(before, after)| after.since(&before));
    report.judge(options, unsent, unanswered, failures);
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::fake::{Fault, Memory};
    use crate::bench::sink::{Null, Sink};

    /// One short run against a broker in memory.
    fn run_against(fault: Fault, change: impl FnOnce(&mut Options)) -> Report {
        let mut options = Options {
            partitions: 2,
            record_bytes: 100,
            records_per_batch: 7,
            connections: 3,
            load: Load::Open { records_per_s: 7_000.0 },
            seconds: 1,
            warmup_s: 0,
            ..Options::default()
        };
        change(&mut options);
        let sink = Sink::start(Memory::new(fault), options.partitions, None).unwrap();
        options.bootstrap = sink.address().to_string();
        run(&options).unwrap()
    }

    #[test]
    fn every_record_of_an_honest_broker_is_read_once_while_or_after_it_is_written() {
        for read_back in [ReadBack::Tail, ReadBack::Afterwards] {
            for load in [Load::Closed, Load::Open { records_per_s: 7_000.0 }] {
                let report = run_against(Fault::None, |options| {
                    options.read_back = read_back.clone();
                    options.load = load;
                    options.consumers = 2;
                });
                assert!(report.ledger.passed(), "{report}");
                assert!(report.ledger.acked > 0 && report.ledger.read == report.ledger.acked, "{report}");
                if load != Load::Closed {
                    // 1000 requests were due, and each of them was sent, however late.
                    assert_eq!(
                        (report.ledger.acked, report.unsent, report.response.samples),
                        (7000, 0, 1000)
                    );
                }
            }
        }
    }

    #[test]
    fn a_loss_a_duplicate_a_swap_and_damage_in_the_broker_fail_the_run() {
        for (fault, what) in [
            (Fault::Lose(5), "14 lost, 14 offsets skipped by the reader"),
            (Fault::Repeat(5), "14 duplicated, 14 offsets skipped by acks"),
            (Fault::Swap(6), "reordered"),
            (Fault::Damage(5), "2 lost, 2 corrupt"),
        ] {
            let report = run_against(fault, |options| {
                options.read_back = ReadBack::Afterwards;
                // One writer a partition, so that the neighbour of a batch is of the same producer.
                options.connections = 2;
            });
            assert!(!report.passed(), "{fault:?}");
            assert!(report.to_string().contains(what), "{fault:?}: {report}");
        }
    }

    #[test]
    fn a_stall_is_charged_to_every_request_that_was_due_in_it() {
        let stall = std::time::Duration::from_millis(400);
        let report = run_against(Fault::Stall(100, stall), |options| {
            options.partitions = 1;
            options.connections = 1;
        });
        // 1000 requests in a second; those due in the stall wait 400 ms, 399 ms, ...: the slowest
        // tenth of all waits 300 ms and more. A slow machine only adds to it.
        assert!(report.response.p90_ns >= 295_000_000, "{report}");
        // Only the few in flight were sent before the stall: a closed loop sees nothing else.
        assert!(report.service.p90_ns < report.response.p90_ns, "{report}");
        assert_eq!(report.response.samples, 1000);
    }

    #[test]
    fn a_cold_read_sees_what_another_run_wrote() {
        let sink = Sink::start(Memory::new(Fault::None), 3, None).unwrap();
        let options = Options {
            bootstrap: sink.address().to_string(),
            partitions: 3,
            record_bytes: 64,
            connections: 3,
            load: Load::Open { records_per_s: 3_000.0 },
            seconds: 1,
            warmup_s: 0,
            ..Options::default()
        };
        let written = run(&options).unwrap();
        let cold = Options { load: Load::None, read_back: ReadBack::Cold, seconds: 5, ..options };
        let report = run(&cold).unwrap();
        assert!(report.passed(), "{report}");
        assert_eq!((report.ledger.acked, report.ledger.read), (0, written.ledger.acked));
    }

    #[test]
    fn two_load_threads_share_the_partitions_and_the_schedule() {
        let report = run_against(Fault::None, |options| {
            // Any two cores, or the same one twice where there is only one.
            let cores = core_affinity::get_core_ids().unwrap_or_default();
            options.cpus = cores.iter().map(|core| core.id).cycle().take(2).collect();
            options.partitions = 5;
            options.consumers = 2;
            options.read_back = ReadBack::Tail;
        });
        assert!(report.ledger.passed(), "{report}");
        assert_eq!((report.ledger.acked, report.ledger.read), (7000, 7000));
    }

    #[test]
    fn a_broker_that_goes_away_leaves_a_partial_report_and_an_address_without_one_is_named() {
        let sink = Sink::start(Null::default(), 1, None).unwrap();
        let options =
            Options { bootstrap: sink.address().to_string(), seconds: 30, warmup_s: 0, ..Options::default() };
        let running = std::thread::spawn({
            let options = options.clone();
            move || run(&options)
        });
        // Wait for its first connections; the end may come at any moment after.
        while sink.accepted() < 2 {
            std::thread::yield_now();
        }
        drop(sink);
        match running.join().unwrap() {
            Ok(report) => assert!(!report.passed(), "{report}"),
            Err(error) => assert!(error.to_string().contains("connect"), "{error}"),
        }
        let error = run(&options).unwrap_err().to_string();
        assert!(error.contains(&options.bootstrap) && error.contains("is the broker up?"), "{error}");
    }

    #[test]
    fn options_that_cannot_work_are_refused() {
        let changes: [fn(&mut Options); 5] = [
            |options| options.record_bytes = 31,
            |options| options.cpus = vec![0, 1],
            |options| options.in_flight = 0,
            |options| options.acks = 0,
            |options| options.load = Load::Open { records_per_s: f64::NAN },
        ];
        for change in changes {
            let mut options = Options::default();
            change(&mut options);
            assert!(matches!(run(&options), Err(BenchError::Options(_))));
        }
    }
}
