//! One connection that produces: its requests in flight, its schedule, its acks.

use std::collections::VecDeque;

use super::driver::{Ack, Driver, Malformed, Stamp};
use super::error::BenchError;
use super::lateness::Lateness;
use super::ledger::Ledger;
use super::payload::Random;
use super::schedule::Schedule;
use super::slots::Slots;
use super::stats::{Clock, Interval};
use super::transport::Transport;

/// When requests are sent.
#[derive(Clone, Debug)]
pub enum Pace {
    /// The next one as soon as there is room.
    Closed,
    /// When they are due, whatever became of the others.
    Open(Schedule),
    /// It is records that are due. The first of a batch waits for others until the batch is full, or
    /// for so many nanoseconds.
    Linger(Schedule, u64),
}

impl Pace {
    /// When the next request is due; `None` for "now".
    #[inline]
    fn due_ns(&self) -> Option<u64> {
        match self {
            Pace::Closed => None,
            Pace::Open(schedule) | Pace::Linger(schedule, _) => Some(schedule.due_ns()),
        }
    }

    #[inline]
    fn advance(&mut self) {
        if let Pace::Open(schedule) | Pace::Linger(schedule, _) = self {
            schedule.advance();
        }
    }
}

/// The partitions that one connection writes, in turns, and the next sequence in each.
#[derive(Debug)]
struct Stream {
    /// Index in the thread's list.
    local: usize,
    partition: i32,
    sequence: u64,
}

/// Where answers keep no order: so many times the requests in flight have a slot, before a late answer
/// holds up the requests behind it.
const UNORDERED_SLOTS: usize = 4;

#[derive(Clone, Copy, Debug)]
struct InFlight {
    /// Of the connection's requests; the low half is the correlation id.
    number: u64,
    stream: u32,
    records: u32,
    sequence: u64,
    /// Of the first record; with a linger, those of all are in [`Producer::intended_ns`].
    intended_ns: u64,
    sent_ns: u64,
    /// Of the batch, as it was sent.
    bytes: u64,
}

pub struct Producer {
    pub transport: Transport,
    number: u32,
    slots: Slots,
    /// As they were sent.
    in_flight: VecDeque<InFlight>,
    in_flight_max: usize,
    /// How far the newest may be beyond the oldest: the slots.
    window: u64,
    streams: Vec<Stream>,
    /// Whose turn it is.
    turn: usize,
    pace: Pace,
    /// Requests sent so far: the next one's number.
    sent: u64,
    /// What of the requests' delays is ours.
    lateness: Lateness,
    /// Bytes of a request before its batch.
    overhead_bytes: usize,
    /// Requests that were due, and sent, at or after [`Turn::measured_from_ns`]; with a linger records.
    due: u64,
    due_records: u64,
    /// With a linger: when the records of the open batch were due, and those in flight.
    gathered_ns: Vec<u64>,
    intended_ns: VecDeque<u64>,
    /// The connection is lost; when to try again.
    retry_at_ns: Option<u64>,
}

/// What the connections of a thread share during a turn.
pub struct Turn<'a, D> {
    pub driver: &'a D,
    pub clock: &'a Clock,
    /// One for each group of readers; the acks go into all.
    pub ledgers: &'a mut [Ledger],
    pub interval: &'a mut Interval,
    /// Between the last two looks at the sockets, without work: what came meanwhile may have waited for us. 0 before
    /// this turn's look.
    pub gap_ns: u64,
    /// A recent time: the turn's begin, or when bytes last came or went.
    pub now_ns: u64,
    /// Nothing is sent that is due at or after this.
    pub end_ns: u64,
    /// The warm-up is over.
    pub measured_from_ns: u64,
    /// Records are read as they come. What is read back afterwards says only when it was asked for.
    pub is_end_to_end: bool,
    /// What may still be received by readers, and checked, in this turn.
    pub read_bytes_left: usize,
}

impl Producer {
    /// `streams`: index in the thread's list and number of every partition it writes.
    pub fn new<D: Driver>(
        transport: Transport,
        driver: &D,
        number: u32,
        in_flight_max: usize,
        streams: &[(usize, i32)],
        pace: Pace,
        batch_bytes: usize,
    ) -> Producer {
        assert!(in_flight_max > 0 && !streams.is_empty());
        let streams = streams.iter().map(|&(local, partition)| Stream { local, partition, sequence: 0 });
        let mut random = Random(driver.run() ^ (u64::from(number) << 40));
        let lingers = matches!(pace, Pace::Linger(..));
        let window = if driver.answers_in_order() { in_flight_max } else { in_flight_max * UNORDERED_SLOTS };
        let slots = Slots::new(driver, number, window, lingers, &mut random);
        let records = if lingers { driver.records() as usize } else { 0 };
        Producer {
            transport,
            number,
            overhead_bytes: slots.request_bytes() - batch_bytes,
            slots,
            in_flight: VecDeque::with_capacity(in_flight_max),
            in_flight_max,
            window: window as u64,
            streams: streams.collect(),
            turn: 0,
            pace,
            sent: 0,
            lateness: Lateness::default(),
            due: 0,
            due_records: 0,
            gathered_ns: Vec::with_capacity(records),
            intended_ns: VecDeque::with_capacity(records * in_flight_max),
            retry_at_ns: None,
        }
    }

    /// Requests that are not answered.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Their records.
    pub fn in_flight_records(&self) -> u64 {
        self.in_flight.iter().map(|request| u64::from(request.records)).sum()
    }

    /// Requests that were due before `end_ns` and are not sent; with a linger, records.
    pub fn overdue(&self, end_ns: u64) -> u64 {
        match &self.pace {
            Pace::Closed => 0,
            Pace::Open(schedule) => schedule.due_before(end_ns),
            Pace::Linger(schedule, _) => schedule.due_before(end_ns) + self.gathered_ns.len() as u64,
        }
    }

    /// The same, but at once: about so many.
    pub fn about_overdue(&self, end_ns: u64) -> u64 {
        match &self.pace {
            Pace::Closed => 0,
            Pace::Open(schedule) | Pace::Linger(schedule, _) => schedule.about_due_before(end_ns),
        }
    }

    /// Whether there are any of these.
    pub fn has_overdue(&self, end_ns: u64) -> bool {
        !self.gathered_ns.is_empty() || self.pace.due_ns().is_some_and(|due_ns| due_ns < end_ns)
    }

    /// Requests sent so far that were due in the measured time; with a linger, records.
    pub fn due(&self) -> u64 {
        self.due
    }

    /// Records sent so far that were due in the measured time.
    pub fn due_records(&self) -> u64 {
        self.due_records
    }

    /// The connection is lost: wait until `retry_at_ns`, keep what is not answered.
    pub fn disconnect(&mut self, retry_at_ns: u64) {
        self.retry_at_ns = Some(retry_at_ns);
    }

    pub fn retry_at_ns(&self) -> Option<u64> {
        self.retry_at_ns
    }

    /// Go on over another connection: everything that is not answered is sent again, byte for byte.
    /// An idempotent producer's broker tells from the sequences what it has already.
    pub fn reconnect(&mut self, transport: Transport, now_ns: u64) {
        self.transport = transport;
        let oldest = self.oldest();
        let is_waiting = |number| self.in_flight.iter().any(|request| request.number == number);
        self.slots.rewind(oldest, |number| !is_waiting(number));
        self.retry_at_ns = None;
        self.lateness.on_connected(now_ns);
    }

    /// Take the acks that came, send what is due. True when something happened.
    #[inline]
    pub fn turn<D: Driver>(&mut self, turn: &mut Turn<'_, D>) -> Result<bool, BenchError> {
        let mut busy = false;
        if self.transport.readable() && self.transport.fill().map_err(lost)? {
            busy = true;
            turn.now_ns = turn.clock.now_ns();
            while let Some(frame) = self.transport.frame().map_err(lost)? {
                let ack = turn.driver.parse_ack(frame)?;
                self.take_ack(turn, &ack)?;
            }
        }
        Ok(self.send(turn)? | busy)
    }

    /// Whether a request of an open loop could be sent by now. With a linger, whether a record is due.
    #[inline]
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.retry_at_ns.is_none()
            && self.pace.due_ns().is_some_and(|due_ns| due_ns <= now_ns)
            && self.has_room()
    }

    /// Send what is due, and what the socket did not take before. True when something was due.
    #[inline]
    pub fn send<D: Driver>(&mut self, turn: &mut Turn<'_, D>) -> Result<bool, BenchError> {
        let any = match self.pace {
            Pace::Linger(_, linger_ns) => self.stamp_gathered(turn, linger_ns),
            Pace::Closed | Pace::Open(_) => self.stamp_due(turn),
        };
        self.flush(turn)?;
        if !turn.driver.answers() {
            self.book_sent(turn);
        }
        Ok(any)
    }

    /// Requests that nobody answers are over when the socket has taken them.
    fn book_sent<D: Driver>(&mut self, turn: &mut Turn<'_, D>) {
        let sent = self.slots.requests_sent();
        while let Some(request) = self.in_flight.front().filter(|request| request.number < sent) {
            turn.interval.requests += 1;
            turn.interval.records += u64::from(request.records);
            turn.interval.bytes += request.bytes;
            if self.is_full() {
                self.lateness.on_room(turn.now_ns, turn.gap_ns);
            }
            self.in_flight.pop_front();
        }
        // With a linger: of what is still in flight.
        let waiting = self.in_flight_records() as usize;
        self.intended_ns.drain(..self.intended_ns.len().saturating_sub(waiting));
    }

    /// Which of the requests in flight is answered: the oldest, where the protocol keeps their order.
    #[inline]
    fn answered(&self, correlation: u32, in_order: bool) -> Result<usize, Malformed> {
        let is_it = |request: &InFlight| request.number as u32 == correlation;
        match self.in_flight.front() {
            Some(oldest) if is_it(oldest) => Ok(0),
            Some(_) if in_order => Err(Malformed("an answer out of turn")),
            _ => self.in_flight.iter().position(is_it).ok_or(Malformed("an answer that nobody asked for")),
        }
    }

    #[inline]
    fn take_ack<D: Driver>(&mut self, turn: &mut Turn<'_, D>, ack: &Ack) -> Result<(), BenchError> {
        let was_full = self.is_full();
        let index = self.answered(ack.correlation, turn.driver.answers_in_order())?;
        let older_records: usize =
            self.in_flight.iter().take(index).map(|request| request.records as usize).sum();
        let request = self.in_flight.remove(index).expect("its index was found above");
        let &Stream { local, partition, .. } = &self.streams[request.stream as usize];
        if ack.partition != partition {
            return Err(Malformed("an answer for another partition").into());
        }
        if was_full && !self.is_full() {
            self.lateness.on_room(turn.now_ns, turn.gap_ns);
        }
        let (run, records) = (turn.driver.run(), request.records);
        match ack.result {
            Ok(base) => {
                for ledger in turn.ledgers.iter_mut() {
                    ledger.ack(local, run, self.number, request.sequence, records, base);
                }
                turn.interval.requests += 1;
                turn.interval.records += u64::from(records);
                turn.interval.bytes += request.bytes;
            }
            Err(code) => {
                for ledger in turn.ledgers.iter_mut() {
                    ledger.refuse(local, run, self.number, request.sequence, records);
                }
                turn.interval.errors += 1;
                turn.interval.error_code = code;
            }
        }
        turn.interval.service.record(turn.now_ns.saturating_sub(request.sent_ns));
        match self.pace {
            Pace::Closed => {}
            Pace::Open(_) => turn.interval.response.record(turn.now_ns.saturating_sub(request.intended_ns)),
            Pace::Linger(..) => {
                for intended_ns in self.intended_ns.drain(older_records..older_records + records as usize) {
                    turn.interval.response.record(turn.now_ns.saturating_sub(intended_ns));
                }
            }
        }
        Ok(())
    }

    /// Stamp every request that is due and has room.
    #[inline]
    fn stamp_due<D: Driver>(&mut self, turn: &mut Turn<'_, D>) -> bool {
        let mut any = false;
        while self.has_room() {
            let due_ns = self.pace.due_ns();
            if due_ns.unwrap_or(turn.now_ns) >= turn.end_ns || due_ns > Some(turn.now_ns) {
                break;
            }
            let intended_ns = due_ns.unwrap_or(turn.now_ns);
            self.pace.advance();
            self.due += u64::from(intended_ns >= turn.measured_from_ns);
            if due_ns.is_some() {
                self.book_delay(turn, intended_ns, intended_ns);
            }
            let records = turn.driver.records();
            self.stamp(turn, records, &[intended_ns]);
            any = true;
        }
        any
    }

    /// Gather the records that are due, and stamp every batch of them that is full or has waited.
    fn stamp_gathered<D: Driver>(&mut self, turn: &mut Turn<'_, D>, linger_ns: u64) -> bool {
        let mut any = false;
        loop {
            let records = turn.driver.records() as usize;
            while self.gathered_ns.len() < records {
                let Some(due_ns) = self.pace.due_ns().filter(|&due_ns| due_ns <= turn.now_ns) else { break };
                if due_ns >= turn.end_ns {
                    break;
                }
                self.gathered_ns.push(due_ns);
                self.due += u64::from(due_ns >= turn.measured_from_ns);
                self.pace.advance();
            }
            let (Some(&first_ns), Some(&last_ns)) = (self.gathered_ns.first(), self.gathered_ns.last())
            else {
                return any;
            };
            let waited_ns = first_ns + linger_ns;
            let ready_ns = if self.gathered_ns.len() == records { last_ns.min(waited_ns) } else { waited_ns };
            if ready_ns > turn.now_ns || !self.has_room() {
                return any;
            }
            let gathered = std::mem::take(&mut self.gathered_ns);
            for &intended_ns in &gathered {
                self.book_delay(turn, intended_ns, ready_ns);
            }
            self.intended_ns.extend(&gathered);
            self.stamp(turn, gathered.len() as u32, &gathered);
            self.gathered_ns = gathered;
            self.gathered_ns.clear();
            any = true;
        }
    }

    #[inline]
    fn has_room(&self) -> bool {
        !self.is_full() && self.slots.has_room()
    }

    /// As many requests as may be are in flight, or the next one's slot is that of the oldest.
    #[inline]
    fn is_full(&self) -> bool {
        self.in_flight.len() == self.in_flight_max || self.sent - self.oldest() == self.window
    }

    /// Number of the oldest request that is not answered; of the next one when all are.
    #[inline]
    fn oldest(&self) -> u64 {
        self.in_flight.front().map_or(self.sent, |request| request.number)
    }

    /// `ready_ns`: when it could have been sent at the earliest, but for the connection's room.
    #[inline]
    fn book_delay<D: Driver>(&mut self, turn: &mut Turn<'_, D>, intended_ns: u64, ready_ns: u64) {
        turn.interval.delay.record(turn.now_ns.saturating_sub(intended_ns));
        let own_ns = self.lateness.of(turn.now_ns, ready_ns);
        turn.interval.own_delay.record(own_ns);
    }

    /// Make the next slot a request of `records` records for the partition whose turn it is.
    #[inline]
    fn stamp<D: Driver>(&mut self, turn: &mut Turn<'_, D>, records: u32, intended_ns: &[u64]) {
        let stream = &mut self.streams[self.turn];
        let (partition, sequence) = (stream.partition, stream.sequence);
        let stamp = Stamp { correlation: self.sent as u32, partition, sequence, records, intended_ns };
        let sizes = self.slots.stamp(turn.driver, &stamp);
        if self.slots.packs() {
            // What it took to compress is neither the schedule's delay nor the broker's service.
            let before_ns = std::mem::replace(&mut turn.now_ns, turn.clock.now_ns());
            turn.interval.packing_ns += turn.now_ns - before_ns;
            turn.interval.work_since_look_ns += turn.now_ns - before_ns;
            turn.interval.packed_requests += 1;
            turn.interval.plain_bytes += (sizes.plain_bytes - self.overhead_bytes) as u64;
            turn.interval.packed_bytes += (sizes.sent_bytes - self.overhead_bytes) as u64;
        }
        stream.sequence += u64::from(records);
        self.in_flight.push_back(InFlight {
            number: self.sent,
            stream: self.turn as u32,
            records,
            sequence,
            intended_ns: intended_ns[0],
            sent_ns: turn.now_ns,
            bytes: (sizes.sent_bytes - self.overhead_bytes) as u64,
        });
        self.sent += 1;
        let measured = |due_ns: &&u64| **due_ns >= turn.measured_from_ns;
        self.due_records += match intended_ns {
            [one] => u64::from(records) * u64::from(*one >= turn.measured_from_ns),
            each => each.iter().filter(measured).count() as u64,
        };
        self.turn = if self.turn + 1 == self.streams.len() { 0 } else { self.turn + 1 };
    }

    /// Hand the socket what it takes.
    #[inline]
    fn flush<D: Driver>(&mut self, turn: &mut Turn<'_, D>) -> Result<(), BenchError> {
        let mut wrote = false;
        loop {
            let unsent = self.slots.unsent();
            let taken = if unsent[0].is_empty() { 0 } else { self.transport.write(unsent).map_err(lost)? };
            if taken == 0 {
                break;
            }
            self.slots.sent(taken);
            wrote = true;
        }
        if wrote {
            // Each call takes microseconds: of hundreds of connections, the last is late by all of them.
            turn.now_ns = turn.clock.now_ns();
        }
        Ok(())
    }
}

fn lost(reason: std::io::Error) -> BenchError {
    BenchError::Connection { during: "the load", reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::kafka::{KafkaDriver, Shape};
    use crate::bench::ledger::Expect;
    use crate::bench::options::Options;
    use crate::bench::schedule::Arrivals;

    #[test]
    fn who_comes_after_a_write_is_late_by_the_time_that_it_took() {
        let topics = Options::default().topics();
        let driver =
            KafkaDriver::new(Shape { topics, acks: -1, record_bytes: 32, records: 1, ..Shape::default() });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let clock = Clock::new();
        let mut producers: Vec<Producer> = (0..2)
            .map(|number| {
                let transport = Transport::connect(listener.local_addr().unwrap()).unwrap();
                let pace = Pace::Open(Schedule::new(Arrivals::EVEN, 0, 0.0, 1e12, 1));
                Producer::new(transport, &driver, number, 1, &[(0, 0)], pace, driver.batch_bytes())
            })
            .collect();
        let (mut ledgers, mut interval) = ([Ledger::new(Expect::Run(0), &[0])], Interval::new());
        let mut turn = Turn {
            driver: &driver,
            clock: &clock,
            ledgers: &mut ledgers,
            interval: &mut interval,
            gap_ns: 0,
            // Both are due now, by a clock that is read once a turn.
            now_ns: 0,
            end_ns: 1,
            measured_from_ns: 0,
            is_end_to_end: true,
            read_bytes_left: 0,
        };
        for producer in &mut producers {
            assert!(producer.is_due(0));
            assert!(producer.send(&mut turn).unwrap() && producer.in_flight() == 1);
            assert!(!producer.is_due(u64::MAX), "there is no room for another");
        }
        let delay = interval.own_delay.percentiles();
        assert_eq!((delay.samples, delay.p50_ns), (2, 0), "the first is on time");
        assert!(delay.max_ns >= 1000, "a system call took {} ns", delay.max_ns);
    }
}
