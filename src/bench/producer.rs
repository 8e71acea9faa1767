//! One connection that produces: its requests in flight, its schedule, its acks.

use std::collections::VecDeque;

use super::driver::{Ack, Driver, Malformed, Stamp};
use super::error::BenchError;
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

#[derive(Clone, Copy, Debug)]
struct InFlight {
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
    in_flight: VecDeque<InFlight>,
    in_flight_max: usize,
    streams: Vec<Stream>,
    /// Whose turn it is.
    turn: usize,
    pace: Pace,
    /// Requests sent so far. The low half is the next correlation id.
    sent: u64,
    /// Since when there is room for a request.
    room_since_ns: u64,
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
    /// A recent time: the turn's begin, or when the last bytes came.
    pub now_ns: u64,
    /// Nothing is sent that is due at or after this.
    pub end_ns: u64,
    /// The warm-up is over.
    pub measured_from_ns: u64,
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
        let slots = Slots::new(driver, number, in_flight_max, lingers, &mut random);
        let records = if lingers { driver.records() as usize } else { 0 };
        Producer {
            transport,
            number,
            overhead_bytes: slots.request_bytes() - batch_bytes,
            slots,
            in_flight: VecDeque::with_capacity(in_flight_max),
            in_flight_max,
            streams: streams.collect(),
            turn: 0,
            pace,
            sent: 0,
            room_since_ns: 0,
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
        self.slots.rewind(self.in_flight.len() as u64);
        self.retry_at_ns = None;
        self.room_since_ns = now_ns;
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
        busy |= match self.pace {
            Pace::Linger(_, linger_ns) => self.stamp_gathered(turn, linger_ns),
            Pace::Closed | Pace::Open(_) => self.stamp_due(turn),
        };
        self.flush()?;
        Ok(busy)
    }

    /// Answers come in the order of the requests.
    #[inline]
    fn take_ack<D: Driver>(&mut self, turn: &mut Turn<'_, D>, ack: &Ack) -> Result<(), BenchError> {
        let expected = (self.sent - self.in_flight.len() as u64) as u32;
        let Some(request) = self.in_flight.pop_front() else {
            return Err(Malformed("an answer that nobody asked for").into());
        };
        let &Stream { local, partition, .. } = &self.streams[request.stream as usize];
        if (ack.correlation, ack.partition) != (expected, partition) {
            return Err(Malformed("an answer out of turn").into());
        }
        if self.in_flight.len() + 1 == self.in_flight_max {
            self.room_since_ns = turn.now_ns;
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
                for intended_ns in self.intended_ns.drain(..records as usize) {
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
        self.in_flight.len() < self.in_flight_max && self.slots.has_room()
    }

    /// `ready_ns`: when it could have been sent at the earliest, but for the connection's room.
    #[inline]
    fn book_delay<D: Driver>(&mut self, turn: &mut Turn<'_, D>, intended_ns: u64, ready_ns: u64) {
        turn.interval.delay.record(turn.now_ns.saturating_sub(intended_ns));
        let possible_ns = ready_ns.max(self.room_since_ns);
        turn.interval.own_delay.record(turn.now_ns.saturating_sub(possible_ns));
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
            turn.interval.packing_since_look_ns += turn.now_ns - before_ns;
            turn.interval.packed_requests += 1;
            turn.interval.plain_bytes += (sizes.plain_bytes - self.overhead_bytes) as u64;
            turn.interval.packed_bytes += (sizes.sent_bytes - self.overhead_bytes) as u64;
        }
        stream.sequence += u64::from(records);
        self.in_flight.push_back(InFlight {
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
    fn flush(&mut self) -> Result<(), BenchError> {
        loop {
            let unsent = self.slots.unsent();
            if unsent[0].is_empty() {
                return Ok(());
            }
            let taken = self.transport.write(unsent).map_err(lost)?;
            if taken == 0 {
                return Ok(());
            }
            self.slots.sent(taken);
        }
    }
}

fn lost(reason: std::io::Error) -> BenchError {
    BenchError::Connection { during: "the load", reason }
}
