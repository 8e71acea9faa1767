//! The load thread: pinned, spinning, the only user of its connections, partitions and books.
//!
//! A thread owns the partitions `p` with `p % threads == thread`, so that the books of a partition
//! need no lock. It never sleeps: on its own core, waking up would be the largest part of the
//! latency that it is there to measure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token};
use serde::{Deserialize, Serialize};

use super::driver::{Driver, End};
use super::error::BenchError;
use super::groups::Positions;
use super::interrupt::Interrupt;
use super::leaders::{Controls, Leaders, Part};
use super::ledger::{Expect, Ledger, Verdict};
use super::producer::{Pace, Producer, Turn};
use super::reader::{Goal, PartitionReader};
use super::report::Backlog;
use super::schedule::{Arrivals, Schedule};
use super::stats::{Clock, Interval};
use super::topics::Topics;
use super::transport::Transport;

const SECOND_NS: u64 = 1_000_000_000;
/// After the load's end: how long to wait for an answer while none comes.
const SILENCE_NS_MAX: u64 = 10 * SECOND_NS;
const EVENTS: usize = 1024;
/// What is received and checked in a turn of an open loop, of all answers together: it takes about 90 microseconds on the
/// machines at hand. In a closed loop nothing is due, and who writes as fast as it goes must read as fast.
const READ_BYTES_MAX: usize = 256 << 10;
/// Between two attempts to connect again. A broker that starts must not be flooded.
const RETRY_NS: u64 = 10_000_000;

/// What is read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadBack {
    Nothing,
    /// New records, while they are written.
    Tail,
    /// What is retained of the run, after the load.
    Afterwards,
    /// What was there at the beginning, from the first offset on.
    Cold,
    /// That, by the first group; new records by the others, while they are written.
    CatchUp,
}

impl ReadBack {
    /// Whether the first group reads what was there at the beginning.
    fn begins_cold(&self) -> bool {
        matches!(self, ReadBack::Cold | ReadBack::CatchUp)
    }
}

/// What one thread is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The core to stay on.
    pub core: Option<usize>,
    pub leaders: Leaders,
    pub topics: Topics,
    pub thread: usize,
    pub threads: usize,
    /// Per partition of the whole run.
    pub earliest: Vec<i64>,
    pub latest: Vec<i64>,
    /// Of the whole run; this thread has those with `number % threads == thread`.
    pub producers: usize,
    pub in_flight: usize,
    pub batch_bytes: usize,
    /// Between two requests of the whole run, or with a linger two records; `None` for a closed loop.
    pub interval_ns: Option<f64>,
    pub linger_ns: Option<u64>,
    pub arrivals: Arrivals,
    /// Groups that each read everything.
    pub groups: usize,
    /// Of each group, in this thread.
    pub readers: usize,
    /// The most that one reader takes while the load runs.
    pub reader_bytes_per_s: Option<f64>,
    /// Of each group, when its members commit how far they have read.
    pub positions: Vec<Arc<Positions>>,
    pub read_back: ReadBack,
    /// Connect again when a connection is lost, and send again what was not answered.
    pub reconnect: bool,
    pub interrupt: Interrupt,
    pub start_ns: u64,
    /// The end of the warm-up.
    pub measured_from_ns: u64,
    pub end_ns: u64,
    /// The load ends with the cold read, if that is over before.
    pub until_read: bool,
    /// What was due before the end and is not sent by then is given up.
    pub give_up_ns: u64,
}

impl Plan {
    fn own_partitions(&self) -> Vec<i32> {
        (self.thread..self.topics.total() as usize).step_by(self.threads).map(|p| p as i32).collect()
    }

    /// What each reader of a group has.
    pub fn reader_parts(&self) -> Vec<Part> {
        let partitions = self.own_partitions();
        // What is read afterwards needs one for each leader.
        let leaders = self.leaders.count_of_thread(self.thread, self.threads);
        self.leaders.deal(self.readers.clamp(leaders, partitions.len()), &partitions)
    }

    fn own(&self, offsets: &[i64]) -> Vec<i64> {
        offsets.iter().skip(self.thread).step_by(self.threads).copied().collect()
    }
}

/// What one thread found.
#[derive(Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    /// All that was sent is answered, and all that had to be read was asked for until it came.
    pub finished: bool,
    /// Requests that were due and could not be sent before the thread gave up.
    pub unsent: u64,
    /// Requests that were sent and never answered.
    pub unanswered: u64,
    /// Requests that were due in the measured time; with a linger, records.
    pub due: u64,
    /// Records that were.
    pub due_records: u64,
    /// What was there at the beginning, where others follow the tail beside its reader.
    pub backlog: Option<Backlog>,
    /// Why it stopped early; the rest is what was counted until then.
    pub error: Option<BenchError>,
}

/// How a thread sends its intervals and gets them back empty.
pub struct Reporter {
    pub full: Sender<Reported>,
    pub empty: Receiver<Interval>,
}

/// What a thread counted in a second, or until it ended in the middle of one.
pub struct Reported {
    pub thread: usize,
    pub interval: Interval,
    /// There will be no more of this thread.
    pub last: bool,
}

pub struct Worker<'a, D> {
    plan: &'a Plan,
    driver: &'a D,
    clock: Clock,
    stop: &'a AtomicBool,
    reporter: Reporter,
    poll: Poll,
    producers: Vec<Producer>,
    readers: Vec<PartitionReader>,
    /// Whose turn it is.
    next_reader: usize,
    /// Where the producers are connected, then the readers.
    addresses: Vec<SocketAddr>,
    /// One for each group of readers.
    ledgers: Vec<Ledger>,
    interval: Interval,
    /// When the sockets were looked at last.
    looked_ns: u64,
    /// When the load ends.
    end_ns: u64,
    /// What is overdue is not sent any more.
    gave_up: bool,
    /// The load is over; the readers' goal is final.
    draining: bool,
    /// Of each group.
    goals: Vec<Goal>,
    /// When the first group had read all that was there at the beginning, since the schedule's begin.
    caught_up_ns: Option<u64>,
}

impl<'a, D: Driver> Worker<'a, D> {
    /// Connect everything.
    pub fn new(
        plan: &'a Plan,
        driver: &'a D,
        clock: Clock,
        stop: &'a AtomicBool,
        reporter: Reporter,
    ) -> Result<Worker<'a, D>, BenchError> {
        let poll = Poll::new().map_err(BenchError::io("cannot make an epoll"))?;
        let expect = match plan.read_back {
            ReadBack::Cold => Expect::Any,
            ReadBack::Nothing | ReadBack::Tail | ReadBack::Afterwards | ReadBack::CatchUp => {
                Expect::Run(driver.run())
            }
        };
        let mut worker = Worker {
            plan,
            driver,
            clock,
            stop,
            reporter,
            poll,
            producers: Vec::new(),
            readers: Vec::new(),
            next_reader: 0,
            addresses: Vec::new(),
            ledgers: (0..plan.groups).map(|_| Ledger::new(expect, &plan.own(&plan.latest))).collect(),
            interval: Interval::new(),
            looked_ns: plan.start_ns,
            end_ns: plan.end_ns,
            gave_up: false,
            draining: false,
            goals: vec![Goal::Tail; plan.groups],
            caught_up_ns: None,
        };
        worker.connect_producers()?;
        match plan.read_back {
            ReadBack::Tail => worker.connect_readers()?,
            ReadBack::Cold | ReadBack::CatchUp => {
                let cold = if plan.read_back == ReadBack::Cold { plan.groups } else { 1 };
                worker.read_from(cold, &plan.own(&plan.earliest), Expect::Any);
                worker.goals[..cold].fill(Goal::Until(plan.own(&plan.latest)));
                worker.connect_readers()?;
            }
            ReadBack::Nothing | ReadBack::Afterwards => {}
        }
        Ok(worker)
    }

    /// The connection of this index, again or for the first time.
    fn connect(&self, index: usize) -> Result<Transport, BenchError> {
        let address = self.addresses[index];
        let connect = || {
            let mut transport = Transport::connect(address)?;
            transport.register(self.poll.registry(), Token(index))?;
            Ok(transport)
        };
        connect().map_err(|reason| BenchError::Connect { address, reason })
    }

    /// One more.
    fn connect_to(&mut self, address: SocketAddr) -> Result<Transport, BenchError> {
        self.addresses.push(address);
        self.connect(self.addresses.len() - 1)
    }

    fn connect_producers(&mut self) -> Result<(), BenchError> {
        let plan = self.plan;
        let numbers = (plan.thread..plan.producers).step_by(plan.threads);
        let parts = plan.leaders.deal(numbers.len(), &plan.own_partitions());
        for (number, Part { address, partitions }) in numbers.zip(parts) {
            let pace = match plan.interval_ns {
                None => Pace::Closed,
                Some(interval_ns) => {
                    let schedule = Schedule::new(
                        plan.arrivals,
                        plan.start_ns,
                        number as f64 * interval_ns,
                        interval_ns * plan.producers as f64,
                        self.driver.run() ^ number as u64,
                    );
                    match plan.linger_ns {
                        None => Pace::Open(schedule),
                        Some(linger_ns) => Pace::Linger(schedule, linger_ns),
                    }
                }
            };
            let transport = self.connect_to(address)?;
            self.producers.push(Producer::new(
                transport,
                self.driver,
                number as u32,
                plan.in_flight,
                &partitions,
                pace,
                plan.batch_bytes,
            ));
        }
        Ok(())
    }

    fn connect_readers(&mut self) -> Result<(), BenchError> {
        for group in 0..self.plan.groups {
            for Part { address, partitions } in self.plan.reader_parts() {
                let transport = self.connect_to(address)?;
                let positions = self.plan.positions.get(group).cloned();
                let bytes_per_s = self.plan.reader_bytes_per_s;
                self.readers.push(PartitionReader::new(transport, partitions, group, bytes_per_s, positions));
            }
        }
        Ok(())
    }

    /// The first so many groups begin to read here.
    fn read_from(&mut self, groups: usize, offsets: &[i64], expect: Expect) {
        for (local, &offset) in offsets.iter().enumerate() {
            self.ledgers[..groups].iter_mut().for_each(|ledger| ledger.read_from(local, offset, expect));
        }
    }

    /// Run until the load is over and everything is answered and read.
    pub fn run(mut self) -> Outcome {
        let ended = self.run_inner();
        if ended.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        // What was due after a run that stopped early was never missed.
        let until_ns = self.end_ns.min(self.clock.now_ns());
        let interval = std::mem::take(&mut self.interval);
        // Nobody listens only when the run was given up.
        let _ = self.reporter.full.send(Reported { thread: self.plan.thread, interval, last: true });
        let finished = matches!(ended, Ok(true));
        Outcome {
            backlog: self.backlog(),
            verdict: self.verdict(finished),
            finished,
            due: self.producers.iter().map(Producer::due).sum(),
            due_records: self.producers.iter().map(Producer::due_records).sum(),
            unsent: self.producers.iter().map(|producer| producer.overdue(until_ns)).sum(),
            unanswered: self.producers.iter().map(|producer| producer.in_flight() as u64).sum(),
            error: ended.err(),
        }
    }

    /// `finished`: see [`Outcome::finished`]. Otherwise only what was seen is judged: what was on its way
    /// is neither lost, nor are its offsets skipped.
    fn verdict(&self, finished: bool) -> Verdict {
        let to_acked_end = finished
            && matches!(self.plan.read_back, ReadBack::Tail | ReadBack::Afterwards | ReadBack::CatchUp);
        let mut verdict = self.ledgers[0].verdict(to_acked_end && !self.plan.read_back.begins_cold());
        for ledger in &self.ledgers[1..] {
            verdict += ledger.verdict(to_acked_end).without_acks();
        }
        if !finished {
            verdict.ack_offsets_skipped = 0;
        }
        verdict
    }

    fn backlog(&self) -> Option<Backlog> {
        (self.plan.read_back == ReadBack::CatchUp).then(|| Backlog {
            records: self.ledgers[0].verdict(false).read,
            bytes: self.readers_of(0).map(PartitionReader::read_bytes).sum(),
            read_after_ns: self.caught_up_ns,
        })
    }

    fn readers_of(&self, group: usize) -> impl Iterator<Item = &PartitionReader> {
        self.readers.iter().filter(move |reader| reader.group() == group)
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.plan.interrupt.is_set()
    }

    /// False when it was stopped before all was done.
    fn run_inner(&mut self) -> Result<bool, BenchError> {
        let mut events = Events::with_capacity(EVENTS);
        let start_ns = self.plan.start_ns;
        while self.clock.now_ns() < start_ns && !self.is_stopped() {
            std::thread::yield_now();
        }
        let mut busy_ns = start_ns;
        while !self.is_stopped() {
            let now_ns = self.clock.now_ns();
            let second = (now_ns - start_ns) / SECOND_NS;
            if second > self.interval.second {
                self.report(second, now_ns);
            }
            if self.plan.reconnect {
                self.reconnect(now_ns);
            }
            if self.turn(&mut events, now_ns)? {
                busy_ns = now_ns;
            } else {
                // The kernel completes durable writes on worker threads of its own, on this core too
                // where the disk interrupts it: a spinning load generator would measure itself.
                std::thread::yield_now();
            }
            if self.finished(now_ns)? {
                return Ok(true);
            }
            // While there is a load, a broker may take its time: that is what is measured.
            let patient_until_ns = if self.producers.is_empty() { 0 } else { self.end_ns };
            if now_ns.saturating_sub(busy_ns.max(patient_until_ns)) > SILENCE_NS_MAX {
                return Err(BenchError::Silence);
            }
        }
        Ok(false)
    }

    /// What is due at this moment or later is not sent.
    fn send_until_ns(&self) -> u64 {
        if self.gave_up { 0 } else { self.end_ns }
    }

    /// Send what is due, look at the sockets, and serve them. True when something happened.
    fn turn(&mut self, events: &mut Events, now_ns: u64) -> Result<bool, BenchError> {
        let end_ns = self.send_until_ns();
        let (thread, threads) = (self.plan.thread, self.plan.threads);
        let own = self.plan.topics.total() as usize;
        let local_of = |partition: i32| {
            let partition = usize::try_from(partition).ok().filter(|&partition| partition < own)?;
            (partition % threads == thread).then_some(partition / threads)
        };
        let closed = self.plan.interval_ns.is_none();
        let mut turn = Turn {
            driver: self.driver,
            clock: &self.clock,
            ledgers: &mut self.ledgers,
            interval: &mut self.interval,
            gap_ns: 0,
            now_ns,
            end_ns,
            measured_from_ns: self.plan.measured_from_ns,
            is_end_to_end: self.plan.read_back != ReadBack::Afterwards,
            read_bytes_left: if closed { usize::MAX } else { READ_BYTES_MAX },
        };
        let may_reconnect = self.plan.reconnect;
        let mut busy = false;
        // What is due goes before what can wait in its socket: answers would make it late, each by a system call.
        for producer in &mut self.producers {
            // By the clock of that moment: a write takes microseconds, in which others become due.
            if !producer.is_due(turn.now_ns) {
                continue;
            }
            match producer.send(&mut turn) {
                Err(BenchError::Connection { .. }) if may_reconnect => producer.disconnect(now_ns + RETRY_NS),
                sent => busy |= sent?,
            }
        }
        turn.gap_ns = turn.interval.look(turn.now_ns - self.looked_ns);
        self.looked_ns = turn.now_ns;
        poll(&mut self.poll, events, |index, event| match self.producers.get_mut(index) {
            Some(producer) => producer.transport.on_event(event),
            None => self.readers[index - self.producers.len()].transport.on_event(event),
        })?;
        for producer in self.producers.iter_mut().filter(|producer| producer.retry_at_ns().is_none()) {
            let (began_ns, booked_ns) = (turn.now_ns, turn.interval.work_since_look_ns);
            match producer.turn(&mut turn) {
                Err(BenchError::Connection { .. }) if may_reconnect => producer.disconnect(now_ns + RETRY_NS),
                turned => busy |= turned?,
            }
            // In a closed loop nothing is due while the connections are served one after the other.
            if closed {
                turn.interval.book_step(turn.now_ns - began_ns, booked_ns);
            }
        }
        let (driver, afterwards) = (self.driver, self.plan.read_back == ReadBack::Afterwards);
        let mut removed = false;
        turn.now_ns = turn.clock.now_ns();
        // By turns: a turn has time for one that reads much.
        let count = self.readers.len();
        for index in (0..count).map(|index| (self.next_reader + index) % count) {
            let reader = &mut self.readers[index];
            if reader.retry_at_ns().is_some() {
                continue;
            }
            if turn.read_bytes_left == 0 {
                self.next_reader = index;
                break;
            }
            let (began_ns, booked_ns) = (turn.now_ns, turn.interval.work_since_look_ns);
            let turned = reader.turn(&mut turn, &self.goals[reader.group()], local_of);
            if *turned.as_ref().unwrap_or(&true) {
                turn.now_ns = turn.clock.now_ns();
                let took_ns = turn.now_ns - began_ns;
                if closed {
                    // It may have checked megabytes.
                    turn.interval.work_since_look_ns += took_ns;
                } else {
                    turn.interval.book_step(took_ns, booked_ns);
                }
            }
            match turned {
                // Retention goes on while we read what it has left.
                Err(BenchError::Refused { code, .. }) if afterwards && driver.is_removed(code) => {
                    removed = true
                }
                Err(BenchError::Connection { .. }) if may_reconnect => reader.disconnect(now_ns + RETRY_NS),
                turned => busy |= turned?,
            }
        }
        if removed {
            self.skip_removed()?;
        }
        Ok(busy | removed)
    }

    /// Read on behind what retention has removed in the meantime.
    fn skip_removed(&mut self) -> Result<(), BenchError> {
        let earliest =
            Controls::connect(self.driver, &self.plan.leaders)?.ends(&self.plan.topics, End::Earliest)?;
        for (local, earliest) in self.plan.own(&earliest).into_iter().enumerate() {
            self.ledgers.iter_mut().for_each(|ledger| ledger.skip_removed(local, earliest));
        }
        self.readers.iter_mut().for_each(PartitionReader::look_again);
        Ok(())
    }

    /// Try the lost connections whose time has come.
    fn reconnect(&mut self, now_ns: u64) {
        for index in 0..self.producers.len() {
            if self.producers[index].retry_at_ns().is_some_and(|at_ns| at_ns <= now_ns) {
                match self.connect(index) {
                    Ok(transport) => {
                        self.producers[index].reconnect(transport, self.clock.now_ns());
                        self.interval.reconnects += 1;
                    }
                    Err(_) => self.producers[index].disconnect(now_ns + RETRY_NS),
                }
            }
        }
        for index in 0..self.readers.len() {
            if self.readers[index].retry_at_ns().is_some_and(|at_ns| at_ns <= now_ns) {
                match self.connect(self.producers.len() + index) {
                    Ok(transport) => {
                        self.readers[index].reconnect(transport);
                        self.interval.reconnects += 1;
                    }
                    Err(_) => self.readers[index].disconnect(now_ns + RETRY_NS),
                }
            }
        }
    }

    /// Whether all is done; moves from load to drain.
    fn finished(&mut self, now_ns: u64) -> Result<bool, BenchError> {
        let cold = self.plan.read_back == ReadBack::Cold;
        let caught_up = || self.readers_of(0).all(PartitionReader::finished);
        if self.plan.read_back == ReadBack::CatchUp && self.caught_up_ns.is_none() && caught_up() {
            self.caught_up_ns = Some(now_ns - self.plan.start_ns);
        }
        if cold && self.readers.iter().all(PartitionReader::finished) {
            if self.producers.is_empty() {
                return Ok(true);
            }
            if self.plan.until_read {
                self.end_ns = self.end_ns.min(now_ns);
            }
        }
        if now_ns < self.end_ns {
            return Ok(false);
        }
        // A broker that cannot keep up would be given its backlog for as long as that takes.
        self.gave_up |= now_ns >= self.plan.give_up_ns;
        let end_ns = self.send_until_ns();
        if self.producers.iter().any(|producer| producer.in_flight() > 0 || producer.has_overdue(end_ns)) {
            return Ok(false);
        }
        if !self.draining {
            self.draining = true;
            let before_ns = self.clock.now_ns();
            self.begin_drain()?;
            self.interval.work_since_look_ns += self.clock.now_ns() - before_ns;
        }
        // A cold read is over with its time; what it came past is in the books.
        let is_cold = |group: usize| group == 0 && self.plan.read_back.begins_cold();
        Ok(cold || self.readers.iter().all(|reader| is_cold(reader.group()) || reader.finished()))
    }

    /// Every request is answered: what must be read is known now.
    fn begin_drain(&mut self) -> Result<(), BenchError> {
        match self.plan.read_back {
            ReadBack::Nothing | ReadBack::Cold => return Ok(()),
            ReadBack::Tail | ReadBack::CatchUp => {}
            ReadBack::Afterwards => {
                let plan = self.plan;
                let mut controls = Controls::connect(self.driver, &plan.leaders)?;
                let earliest = controls.ends(&plan.topics, End::Earliest)?;
                let run_start = plan.own(&plan.latest);
                let from = plan.own(&earliest);
                let whole = from.iter().zip(&run_start).all(|(earliest, start)| earliest <= start);
                let run = self.driver.run();
                let expect = if whole { Expect::Run(run) } else { Expect::RunTail(run) };
                let from: Vec<i64> = from.iter().zip(&run_start).map(|(a, b)| *a.max(b)).collect();
                self.read_from(plan.groups, &from, expect);
                self.connect_readers()?;
            }
        }
        self.goals.iter_mut().filter(|goal| **goal == Goal::Tail).for_each(|goal| *goal = Goal::Acked);
        self.readers.iter_mut().for_each(PartitionReader::look_again);
        Ok(())
    }

    /// Send the interval away and go on with an empty one.
    fn report(&mut self, second: u64, now_ns: u64) {
        let end_ns = self.send_until_ns();
        if now_ns >= end_ns {
            self.interval.overdue =
                self.producers.iter().map(|producer| producer.about_overdue(end_ns)).sum();
        }
        self.interval.in_flight = self.producers.iter().map(|producer| producer.in_flight() as u64).sum();
        self.interval.in_flight_records = self.producers.iter().map(Producer::in_flight_records).sum();
        let mut next = self.reporter.empty.try_recv().unwrap_or_default();
        next.reset(second);
        next.work_since_look_ns = self.interval.work_since_look_ns;
        let interval = std::mem::replace(&mut self.interval, next);
        // Nobody listens only when the run was given up.
        let _ = self.reporter.full.send(Reported { thread: self.plan.thread, interval, last: false });
    }
}

/// Tell `on_event` of every connection with news, by its index; waits for none.
fn poll(
    poll: &mut Poll,
    events: &mut Events,
    mut on_event: impl FnMut(usize, &Event),
) -> Result<(), BenchError> {
    match poll.poll(events, Some(Duration::ZERO)) {
        Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
            return Err(BenchError::io("cannot poll")(error));
        }
        _ => {}
    }
    events.iter().for_each(|event| on_event(event.token().0, event));
    Ok(())
}
