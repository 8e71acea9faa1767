//! One run: prepare the topic, start the load threads, follow them, judge the result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::collector::{Collected, collect};
use super::cores;
use super::driver::{Driver, End};
use super::engine::{Outcome, Plan, ReadBack, Reporter, Worker};
use super::error::BenchError;
use super::groups::{GroupWork, Members, Positions, Share};
use super::kafka;
use super::leaders::{Controls, Leaders};
use super::options::{Load, Options};
use super::report::{Backlog, Counts, Report};
use super::stats::{Clock, Interval};
use super::topics::Topics;
use super::watch::Watch;

#[cfg(test)]
mod tests;

/// Time for the threads to get ready before the schedule begins.
const LEAD_NS: u64 = 100_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Run it. `Ok` also when the run is invalid or the ledger fails: the report says so.
///
/// # Errors
/// The run could not begin.
pub fn run(options: &Options) -> Result<Report, BenchError> {
    options.check()?;
    let (leaders, driver) = kafka::setup::prepare(options)?;
    run_with(options, &leaders, &driver)
}

/// The same with a driver that is ready: its topics are there.
pub(super) fn run_with<D: Driver>(
    options: &Options,
    leaders: &Leaders,
    driver: &D,
) -> Result<Report, BenchError> {
    let threads = options.threads();
    if options.load != Load::None {
        leaders.check(threads, options.connections, "--connections")?;
    }
    if options.consumers > 0 {
        leaders.check(threads, options.consumers, "--consumers")?;
    }
    let topics = options.topics();
    let mut controls = Controls::connect(driver, leaders)?;
    let latest = controls.ends(&topics, End::Latest)?;
    let earliest = controls.ends(&topics, End::Earliest)?;
    let plans = plans(options, topics, leaders, driver.batch_bytes(), earliest, latest);
    let mut report = drive(options, driver, controls, Clock::new(), plans)?;
    report.leaders = leaders.count();
    Ok(report)
}

fn plans(
    options: &Options,
    topics: Topics,
    leaders: &Leaders,
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
        leaders: leaders.clone(),
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
        readers: 0,
        reader_bytes_per_s: options.consumer_bytes_per_s,
        positions,
        read_back: options.read_back.clone(),
        reconnect: options.reconnect,
        interrupt: options.interrupt.clone(),
        // Set when it is known how long getting ready takes.
        start_ns: 0,
        measured_from_ns: 0,
        end_ns: 0,
        until_read: options.until_read,
        give_up_ns: 0,
    };
    // Thread `t` has the readers whose number leaves `t`, as with partitions and producers.
    let readers = |thread| options.consumers.saturating_sub(thread).div_ceil(threads);
    (0..threads)
        .map(|thread| Plan {
            thread,
            core: options.cpus.get(thread).copied(),
            readers: readers(thread),
            ..plan.clone()
        })
        .collect()
}

fn drive<D: Driver>(
    options: &Options,
    driver: &D,
    controls: Controls,
    clock: Clock,
    mut plans: Vec<Plan>,
) -> Result<Report, BenchError> {
    let members = join_groups(options, driver, &plans)?;
    let mut watch = Watch::new(options);
    let stop = AtomicBool::new(false);
    let (full_sender, full) = channel();
    // Connecting and encoding takes longer with more connections.
    let connections = options.connections + options.consumers * options.groups;
    let start_ns = clock.now_ns() + LEAD_NS + connections as u64 * 1_000_000;
    for plan in &mut plans {
        plan.start_ns = start_ns;
        plan.measured_from_ns = start_ns + options.measured_from_s() * SECOND_NS;
        plan.end_ns = start_ns + options.end_s() * SECOND_NS;
        plan.give_up_ns = plan.end_ns + options.drain_s.max(options.seconds) * SECOND_NS;
    }
    let (joined, ticked, collected) = std::thread::scope(|scope| {
        let (over, is_over) = channel();
        let stop = &stop;
        let ticker =
            driver.tick_every().map(|every| scope.spawn(move || tick(controls, every, &is_over, stop)));
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
            threads.push(scope.spawn(move || work(plan, driver, clock, stop, reporter)));
        }
        drop(full_sender);
        let collected = collect(options, &full, &empties, |second| watch.second_is_over(second));
        let joined: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        drop(over);
        let ticked = ticker.map_or(Ok(()), |ticker| ticker.join().unwrap_or(Err(BenchError::Panicked)));
        (joined, ticked, collected)
    });
    let group_work = members.map(|members| members.leave());
    let mut outcomes = Vec::new();
    let mut failures: Vec<String> = ticked.err().iter().map(BenchError::to_string).collect();
    for outcome in joined {
        match outcome {
            Ok(outcome) => outcomes.push(outcome?),
            Err(_) => failures.push(BenchError::Panicked.to_string()),
        }
    }
    let mut report = judge(options, outcomes, failures, collected, group_work);
    (report.broker, report.stages) = watch.found();
    Ok(report)
}

/// Tick until `is_over` is hung up. A broker that does not take it ends the run.
fn tick(
    mut controls: Controls,
    every: Duration,
    is_over: &Receiver<()>,
    stop: &AtomicBool,
) -> Result<(), BenchError> {
    while let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(every) {
        if let Err(error) = controls.tick() {
            stop.store(true, Ordering::Relaxed);
            return Err(error);
        }
    }
    Ok(())
}

/// A load thread, from its first instruction to its last.
///
/// # Errors
/// It could not begin. The others then do not either.
fn work<D: Driver>(
    plan: &Plan,
    driver: &D,
    clock: Clock,
    stop: &AtomicBool,
    reporter: Reporter,
) -> Result<Outcome, BenchError> {
    /// A run without one of its threads is not the run that was asked for: the others stop.
    struct StopOnPanic<'a>(&'a AtomicBool);
    impl Drop for StopOnPanic<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.store(true, Ordering::Relaxed);
            }
        }
    }
    let _stops = StopOnPanic(stop);
    let pinned = plan.core.map_or(Ok(()), cores::pin);
    let worker = pinned.and_then(|()| Worker::new(plan, driver, clock, stop, reporter));
    if worker.is_err() {
        stop.store(true, Ordering::Relaxed);
    }
    worker.map(Worker::run)
}

/// The members of all groups, when there are any that join.
fn join_groups<D: Driver>(
    options: &Options,
    driver: &D,
    plans: &[Plan],
) -> Result<Option<Box<dyn Members>>, BenchError> {
    let plan = &plans[0];
    if plan.positions.is_empty() {
        return Ok(None);
    }
    let mut shares = Vec::new();
    for group in 0..plan.groups {
        for part in plans.iter().flat_map(Plan::reader_parts) {
            let partitions = part.partitions.into_iter().map(|(_, partition)| partition).collect();
            shares.push(Share { group, partitions });
        }
    }
    driver.join(plan.leaders.any(), shares, &plan.positions, options.reconnect).map(Some)
}

fn judge(
    options: &Options,
    outcomes: Vec<Outcome>,
    mut failures: Vec<String>,
    collected: Collected,
    group_work: Option<Result<GroupWork, BenchError>>,
) -> Report {
    let mut counts = Counts::default();
    let mut backlog: Option<Backlog> = None;
    if let Some(reason) = options.interrupt.reason()
        && outcomes.iter().any(|outcome| !outcome.finished)
    {
        failures.push(format!("stopped early: {reason}"));
    }
    let records_each = if options.linger_ns.is_some() { 1 } else { u64::from(options.records_per_batch) };
    for outcome in outcomes {
        counts.ledger += outcome.verdict;
        counts.due += outcome.due + outcome.unsent;
        counts.due_records += outcome.due_records + outcome.unsent * records_each;
        counts.unsent += outcome.unsent;
        counts.unanswered += outcome.unanswered;
        failures.extend(outcome.error.map(|error| error.to_string()));
        backlog = match (backlog, outcome.backlog) {
            (Some(mut sum), Some(more)) => {
                sum += more;
                Some(sum)
            }
            (sum, more) => sum.or(more),
        };
    }
    if let Some(Backlog { records, read_after_ns: None, .. }) = backlog
        && failures.is_empty()
    {
        failures.push(format!("the reader did not catch up: it came past {records} records of the backlog"));
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
    report.backlog = backlog;
    report.judge(options, failures);
    report
}
