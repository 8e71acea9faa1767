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
}

impl Pace {
    /// When the next request is due; `None` for "now".
    #[inline]
    fn due_ns(&self) -> Option<u64> {
        match self {
            Pace::Closed => None,
            Pace::Open(schedule) => Some(schedule.due_ns()),
        }
    }

    #[inline]
    fn advance(&mut self) {
        if let Pace::Open(schedule) = self {
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
    sequence: u64,
    intended_ns: u64,
    sent_ns: u64,
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
    batch_bytes: u64,
    /// Requests that were due, and sent, at or after [`Turn::measured_from_ns`].
    due: u64,
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
        Producer {
            transport,
            number,
            slots: Slots::new(driver, number, in_flight_max, &mut random),
            in_flight: VecDeque::with_capacity(in_flight_max),
            in_flight_max,
            streams: streams.collect(),
            turn: 0,
            pace,
            sent: 0,
            room_since_ns: 0,
            batch_bytes: batch_bytes as u64,
            due: 0,
            retry_at_ns: None,
        }
    }

    /// Requests that are not answered.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Requests that were due before `end_ns` and are not sent.
    pub fn overdue(&self, end_ns: u64) -> u64 {
        match &self.pace {
            Pace::Closed => 0,
            Pace::Open(schedule) => schedule.due_before(end_ns),
        }
    }

    /// Whether there are any of these.
    pub fn has_overdue(&self, end_ns: u64) -> bool {
        self.pace.due_ns().is_some_and(|due_ns| due_ns < end_ns)
    }

    /// Requests sent so far that were due in the measured time.
    pub fn due(&self) -> u64 {
        self.due
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
        busy |= self.stamp_due(turn);
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
        let (run, records) = (turn.driver.run(), turn.driver.records());
        match ack.result {
            Ok(base) => {
                for ledger in turn.ledgers.iter_mut() {
                    ledger.ack(local, run, self.number, request.sequence, records, base);
                }
                turn.interval.requests += 1;
                turn.interval.records += u64::from(records);
                turn.interval.bytes += self.batch_bytes;
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
        if matches!(self.pace, Pace::Open(_)) {
            turn.interval.response.record(turn.now_ns.saturating_sub(request.intended_ns));
        }
        Ok(())
    }

    /// Stamp every request that is due and has room.
    #[inline]
    fn stamp_due<D: Driver>(&mut self, turn: &mut Turn<'_, D>) -> bool {
        let mut any = false;
        while self.in_flight.len() < self.in_flight_max && self.slots.has_room() {
            let due_ns = self.pace.due_ns();
            if due_ns.unwrap_or(turn.now_ns) >= turn.end_ns || due_ns > Some(turn.now_ns) {
                break;
            }
            let sent_ns = turn.now_ns;
            let intended_ns = due_ns.unwrap_or(sent_ns);
            let stream = &mut self.streams[self.turn];
            let (partition, sequence) = (stream.partition, stream.sequence);
            self.slots.stamp(
                turn.driver,
                &Stamp { correlation: self.sent as u32, partition, sequence, intended_ns },
            );
            stream.sequence += u64::from(turn.driver.records());
            self.in_flight.push_back(InFlight { stream: self.turn as u32, sequence, intended_ns, sent_ns });
            self.sent += 1;
            self.pace.advance();
            self.due += u64::from(intended_ns >= turn.measured_from_ns);
            self.turn = if self.turn + 1 == self.streams.len() { 0 } else { self.turn + 1 };
            if due_ns.is_some() {
                turn.interval.delay.record(sent_ns - intended_ns);
                let possible_ns = intended_ns.max(self.room_since_ns);
                turn.interval.own_delay.record(sent_ns.saturating_sub(possible_ns));
            }
            any = true;
        }
        any
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
