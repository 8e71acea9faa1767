//! One run: prepare the topic, start the load threads, follow them, judge the result.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{SystemTime, UNIX_EPOCH};

use super::driver::Driver;
use super::engine::{Outcome, Plan, ReadBack, Reporter, Worker};
use super::error::BenchError;
use super::kafka::control::{Control, End, resolve};
use super::kafka::group::{GroupWork, Members, Positions, Share};
use super::kafka::topics::Topics;
use super::kafka::{KafkaDriver, Shape};
use super::options::{Load, Options};
use super::payload::Random;
use super::process;
use super::progress::Progress;
use super::recording::Recording;
use super::report::{Counts, Report, Second};
use super::stages::{self, Stages};
use super::stats::{Clock, Interval};
use super::transport::FRAME_BYTES_MAX;

/// Time for the threads to get ready before the schedule begins.
const LEAD_NS: u64 = 100_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Run it. `Ok` also when the run is invalid or the ledger fails: the report says so.
///
/// # Errors
/// The run could not begin.
pub fn run(options: &Options) -> Result<Report, BenchError> {
    options.check()?;
    let address = resolve(&options.bootstrap)?;
    let mut control = Control::connect(address)?;
    let topics = options.topics();
    control.prepare(&topics, &options.topic_configs)?;
    let latest = control.ends(&topics, End::Latest)?;
    let earliest = control.ends(&topics, End::Earliest)?;
    let producers = if options.idempotent { options.connections } else { 0 };
    let producer_ids = (0..producers).map(|_| control.producer_id()).collect::<Result<_, _>>()?;
    drop(control);

    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let driver = KafkaDriver::new(Shape {
        run: Random(since_epoch.as_nanos() as u64).next(),
        topics: topics.clone(),
        acks: options.acks,
        record_bytes: options.record_bytes,
        body: options.body.clone(),
        records: options.records_per_batch,
        keys: options.keys,
        compression: options.compression,
        unpacked_bytes_max: FRAME_BYTES_MAX,
        producer_ids,
        timestamp_ms: since_epoch.as_millis() as i64,
    });
    let clock = Clock::new();
    let plans = plans(options, topics, address, driver.batch_bytes(), earliest, latest);
    drive(options, &driver, clock, plans)
}

fn plans(
    options: &Options,
    topics: Topics,
    address: SocketAddr,
    batch_bytes: usize,
    earliest: Vec<i64>,
    latest: Vec<i64>,
) -> Vec<Plan> {
    let threads = options.threads();
    let joins = options.group_protocol && options.read_back == ReadBack::Tail;
    let groups = if joins { options.groups } else { 0 };
    let positions = (0..groups).map(|_| Arc::new(Positions::new(&latest))).collect();
    let interval_ns = match options.load {
        Load::Open { records_per_s } => {
            let records = if options.linger_ns.is_some() { 1 } else { options.records_per_batch };
            Some(1e9 * f64::from(records) / records_per_s)
        }
        Load::Closed | Load::None => None,
    };
    let plan = Plan {
        core: None,
        address,
        topics,
        thread: 0,
        threads,
        earliest,
        latest,
        producers: if options.load == Load::None { 0 } else { options.connections },
        in_flight: options.in_flight,
        batch_bytes,
        interval_ns,
        linger_ns: options.linger_ns,
        arrivals: options.arrivals,
        groups: options.groups,
        readers_per_thread: options.consumers.div_ceil(threads),
        reader_bytes_per_s: options.consumer_bytes_per_s,
        positions,
        read_back: options.read_back.clone(),
        reconnect: options.reconnect,
        // Set when it is known how long getting ready takes.
        start_ns: 0,
        measured_from_ns: 0,
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
    let members = join_groups(options, &plans)?;
    let stop = AtomicBool::new(false);
    let (full_sender, full) = channel();
    // Connecting and encoding takes longer with more connections.
    let connections = options.connections + options.consumers * options.groups;
    let start_ns = clock.now_ns() + LEAD_NS + connections as u64 * 1_000_000;
    for plan in &mut plans {
        plan.start_ns = start_ns;
        plan.measured_from_ns = start_ns + options.measured_from_s() * SECOND_NS;
        plan.end_ns = start_ns + options.end_s() * SECOND_NS;
    }
    let usage_before = options.broker_pid.and_then(process::usage);
    let stages_before = options.admin.and_then(|admin| stages::fetch(admin).ok());
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
    let work = members.map(Members::leave);
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut report = judge(options, outcomes, collected, work);
    let usage_after = options.broker_pid.and_then(process::usage);
    report.broker = usage_before.zip(usage_after).map(|(before, after)| after.since(&before));
    let stages_after = options.admin.and_then(|admin| stages::fetch(admin).ok());
    // A broker that was restarted in between has begun to count anew.
    report.stages =
        stages_before.zip(stages_after).and_then(|(before, after)| Stages::between(&before, &after));
    Ok(report)
}

/// The intervals, added up.
struct Collected {
    /// The measured seconds and what was answered after the end; without the warm-up.
    measured: Interval,
    /// Of the measured seconds alone: what rates are made of.
    in_time: Second,
    timeline: Vec<Second>,
    /// Second by second, the warm-up included.
    recording: Recording,
}

/// Receive intervals until every thread is done.
fn collect(options: &Options, full: &Receiver<Interval>, empties: &[Sender<Interval>]) -> Collected {
    let (measured_from_s, end_s) = (options.measured_from_s(), options.end_s());
    let mut collected = Collected {
        measured: Interval::new(),
        in_time: Second::default(),
        timeline: Vec::new(),
        recording: Recording::begin(),
    };
    let mut progress = Progress::new(options);
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
        if !complete {
            continue;
        }
        let (sum, _) = open.remove(&second).expect("its entry was met above");
        collected.recording.push(second, second < measured_from_s, &sum);
        // What was answered after the end counts, but makes no second.
        if second >= end_s {
            continue;
        }
        let line = Second::of(second, &sum);
        if second >= measured_from_s {
            collected.in_time.add(&line);
        }
        if options.progress {
            progress.print(&line);
        }
        collected.timeline.push(line);
    }
    collected
}

/// The members of all groups, when there are any that join.
fn join_groups(options: &Options, plans: &[Plan]) -> Result<Option<Members>, BenchError> {
    let plan = &plans[0];
    if plan.positions.is_empty() {
        return Ok(None);
    }
    let mut shares = Vec::new();
    for group in 0..plan.groups {
        for share in plans.iter().flat_map(Plan::reader_shares) {
            let partitions = share.into_iter().map(|(_, partition)| partition).collect();
            shares.push(Share { group, partitions });
        }
    }
    Members::join(plan.address, &plan.topics, shares, &plan.positions, options.reconnect).map(Some)
}

fn judge(
    options: &Options,
    outcomes: Vec<Outcome>,
    collected: Collected,
    group_work: Option<Result<GroupWork, BenchError>>,
) -> Report {
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    let records_each = if options.linger_ns.is_some() { 1 } else { u64::from(options.records_per_batch) };
    for outcome in outcomes {
        counts.ledger += outcome.verdict;
        counts.due += outcome.due + outcome.unsent;
        counts.due_records += outcome.due_records + outcome.unsent * records_each;
        counts.unsent += outcome.unsent;
        counts.unanswered += outcome.unanswered;
        failures.extend(outcome.error.map(|error| error.to_string()));
    }
    let group_work = group_work.and_then(|work| match work {
        Ok(work) => Some(work),
        Err(error) => {
            failures.push(format!("a group's member: {error}"));
            None
        }
    });
    if let Some(GroupWork { offsets_wrong: wrong @ 1.., .. }) = group_work {
        failures.push(format!("{wrong} committed offsets are not what was read"));
    }
    let Collected { measured, in_time, timeline, recording } = collected;
    let mut report = Report::new(options, measured, in_time, timeline, recording, counts);
    report.group_work = group_work;
    report.judge(options, failures);
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::fake::{Fault, Memory};
    use crate::bench::kafka::keys::Keys;
    use crate::bench::kafka::packing::Compression;
    use crate::bench::payload::Body;
    use crate::bench::schedule::{Arrivals, Burst};
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
    fn every_group_reads_everything_and_a_slow_one_catches_up() {
        let report = run_against(Fault::None, |options| {
            options.read_back = ReadBack::Tail;
            options.consumers = 2;
            options.groups = 3;
            // After its first answer it has to wait for longer than the load runs.
            options.consumer_bytes_per_s = Some(1_000.0);
        });
        assert!(report.ledger.passed(), "{report}");
        assert_eq!((report.ledger.acked, report.ledger.read), (7000, 21_000));
        // Behind when the load ended: the last second before that has not delivered everything.
        assert!(report.read_records_per_s < 21_000.0 * 0.9, "{report}");
    }

    #[test]
    fn a_loss_is_found_by_the_second_group_too() {
        let report = run_against(Fault::Lose(5), |options| {
            options.read_back = ReadBack::Afterwards;
            options.groups = 2;
        });
        assert_eq!(report.ledger.lost, 28, "{report}");
    }

    #[test]
    fn connections_that_are_cut_are_made_again_and_nothing_is_lost() {
        let report = run_against(Fault::Cut(40), |options| {
            options.reconnect = true;
            options.idempotent = true;
            options.read_back = ReadBack::Tail;
            options.consumers = 1;
            options.keys.bytes = 8;
        });
        assert!(report.reconnects >= 2, "{report}");
        assert!(report.ledger.passed(), "{report}");
        assert_eq!((report.ledger.acked, report.ledger.read), (7000, 7000));
    }

    #[test]
    fn what_is_due_follows_bursts_and_chance() {
        let burst = Arrivals { poisson: false, burst: Some(Burst { every_s: 2, factor: 3.0 }) };
        let report = run_against(Fault::None, |options| {
            options.arrivals = burst;
            options.seconds = 2;
        });
        assert_eq!((report.due, report.target_records_per_s), (4000, Some(14_000.0)));
        let log = String::from_utf8(report.recording.hlog()).unwrap();
        let starts = |second| log.matches(&format!("Tag=response,{second}.000,1.000,")).count();
        assert_eq!((starts(0), starts(1)), (1, 1), "a line a second");
        let poisson = Arrivals { poisson: true, burst: None };
        let report = run_against(Fault::None, |options| options.arrivals = poisson);
        // Five standard deviations.
        assert!(report.due.abs_diff(1000) < 160, "{report}");
        assert_eq!(report.ledger.acked, report.due * 7);
    }

    #[test]
    fn several_topics_with_compressed_batches_and_keys_are_read_back_whole() {
        for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let report = run_against(Fault::None, |options| {
                options.topics = 3;
                options.compression = compression;
                options.body = Body::Random { share: 0.3 };
                options.keys = Keys { bytes: 8, count: 1000, ..Keys::default() };
                options.read_back = ReadBack::Tail;
                options.consumers = 2;
                options.idempotent = true;
            });
            assert!(report.ledger.passed(), "{report}");
            assert_eq!((report.ledger.acked, report.ledger.read), (7000, 7000));
            let packing = report.compression.unwrap();
            assert_eq!((packing.codec, packing.requests), (compression, 1000));
            assert!(packing.ratio() < 0.9 && packing.mean_ns > 0, "{packing:?}");
            assert!(report.to_string().contains("3 topics of 2 partitions"), "{report}");
        }
    }

    #[test]
    fn damage_in_a_compressed_batch_fails_the_run() {
        let report = run_against(Fault::Lose(5), |options| {
            options.compression = Compression::Lz4;
            options.read_back = ReadBack::Afterwards;
        });
        assert!(!report.passed() && report.ledger.lost == 14, "{report}");
    }

    #[test]
    fn a_linger_sends_what_came_in_its_time_and_charges_each_record() {
        let report = run_against(Fault::None, |options| {
            options.linger_ns = Some(10_000_000);
            options.records_per_batch = 100;
            options.connections = 2;
            options.read_back = ReadBack::Tail;
            options.consumers = 1;
        });
        assert!(report.ledger.passed(), "{report}");
        assert_eq!((report.ledger.acked, report.ledger.read, report.due_records), (7000, 7000, 7000));
        assert_eq!(report.response.samples, 7000, "a sample a record");
        // 3,500 records a second on a connection: 35 or 36 in 10 ms. A slow machine makes larger batches.
        assert!(report.requests_per_s <= 205.0, "{report}");
        // Each waits for half of the linger in the mean; only a batch's last record does not wait.
        assert!(report.response.p50_ns >= 4_500_000, "{report}");
        assert!(report.response.p90_ns >= 8_500_000, "{report}");
    }

    #[test]
    fn a_batch_that_is_full_waits_no_longer() {
        let report = run_against(Fault::None, |options| {
            options.linger_ns = Some(30_000_000_000);
            options.records_per_batch = 7;
            options.connections = 1;
            options.load = Load::Open { records_per_s: 700.0 };
        });
        assert_eq!((report.ledger.acked, report.service.samples), (700, 100), "{report}");
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
        let changes: [fn(&mut Options); 13] = [
            |options| options.topics = 0,
            |options| options.keys.count = 5,
            |options| options.keys = Keys { bytes: 1, count: 257, ..Keys::default() },
            |options| options.linger_ns = Some(1),
            |options| options.body = Body::Random { share: 1.5 },
            |options| options.body = Body::File(vec![0; 5].into()),
            |options| options.groups = 0,
            |options| (options.idempotent, options.in_flight) = (true, 6),
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
