//! One connection that reads a share of the partitions and puts every record into the books.
//!
//! It has as many fetches in flight as the protocol allows, each for as many partitions, and none is
//! named by two: one fetch of everything for Kafka, one a queue for a protocol of pulls.
//!
//! An answer may have megabytes. It is received and checked piece by piece, in an open loop a part of it in each turn of
//! the load: what is to be sent meanwhile, and acks, would wait for it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::driver::{Code, Driver, FetchFrom, Fetched, Malformed};
use super::error::BenchError;
use super::groups::Positions;
use super::ledger::Ledger;
use super::producer::Turn;
use super::transport::{FILL_BYTES_MAX, Transport};

/// Partitions looked at in one turn to find those that have something to read.
const SCAN_PARTITIONS: usize = 4096;

/// How far to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Follow the log's end.
    Tail,
    /// To the end of what was acknowledged.
    Acked,
    /// To these offsets, by index in the thread's list.
    Until(Vec<i64>),
}

pub struct PartitionReader {
    pub transport: Transport,
    partitions: Vec<Place>,
    /// Those that the last answers had nothing of: they are asked for first.
    again: VecDeque<usize>,
    /// Where the next look for others begins.
    cursor: usize,
    /// Partitions in a row that had nothing to read.
    idle: usize,
    /// Frames of fetches, and how much of them the socket has taken.
    requests: Vec<u8>,
    requests_sent: usize,
    /// Of the last fetch.
    correlation: u32,
    in_flight: Vec<Fetch>,
    /// What is being checked.
    answer: Option<FetchAnswer>,
    /// Which of the thread's ledgers it fills.
    group: usize,
    /// Where it tells the group's members how far it has read.
    positions: Option<Arc<Positions>>,
    /// The most it reads while it follows the tail.
    bytes_per_s: Option<f64>,
    /// When that lets it ask again.
    ask_at_ns: u64,
    /// Of answers, since it was made.
    read_bytes: u64,
    /// When the last bytes came. Nothing more is received until all of them are checked.
    received_ns: u64,
    /// The connection is lost; when to try again.
    retry_at_ns: Option<u64>,
}

/// A partition that it reads.
struct Place {
    /// Index in the thread's list.
    local: usize,
    partition: i32,
    /// Named by a fetch in flight.
    asked: bool,
}

/// An answer of which something is left.
struct FetchAnswer {
    fetch: Fetch,
    /// Where it lies among what the connection has received: nothing more is received until all is checked.
    frame: Range<usize>,
    /// Of these the first lacks what has been checked.
    parts: VecDeque<Fetched>,
    /// Of a partition that could not be read.
    error: Option<Code>,
}

struct Fetch {
    correlation: u32,
    from: Vec<FetchFrom>,
    /// Index in `partitions` of each.
    places: Vec<usize>,
}

impl PartitionReader {
    /// `partitions`: index in the thread's list and number of every partition it reads.
    pub fn new(
        transport: Transport,
        partitions: Vec<(usize, i32)>,
        group: usize,
        bytes_per_s: Option<f64>,
        positions: Option<Arc<Positions>>,
    ) -> PartitionReader {
        let place = |(local, partition)| Place { local, partition, asked: false };
        PartitionReader {
            transport,
            group,
            positions,
            bytes_per_s,
            ask_at_ns: 0,
            read_bytes: 0,
            received_ns: 0,
            retry_at_ns: None,
            partitions: partitions.into_iter().map(place).collect(),
            again: VecDeque::new(),
            cursor: 0,
            idle: 0,
            requests: Vec::new(),
            requests_sent: 0,
            correlation: 0,
            in_flight: Vec::new(),
            answer: None,
        }
    }

    pub fn group(&self) -> usize {
        self.group
    }

    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// True when there is nothing left to ask for, and nothing is awaited.
    pub fn finished(&self) -> bool {
        self.in_flight.is_empty() && self.answer.is_none() && self.idle >= self.partitions.len()
    }

    /// Look again at partitions that had nothing: the goal has moved.
    pub fn look_again(&mut self) {
        self.idle = 0;
    }

    /// The connection is lost: wait until `retry_at_ns`.
    pub fn disconnect(&mut self, retry_at_ns: u64) {
        self.retry_at_ns = Some(retry_at_ns);
    }

    pub fn retry_at_ns(&self) -> Option<u64> {
        self.retry_at_ns
    }

    /// Ask again over another connection, from where the books stand.
    pub fn reconnect(&mut self, transport: Transport) {
        self.transport = transport;
        self.in_flight.clear();
        self.answer = None;
        self.again.clear();
        self.partitions.iter_mut().for_each(|place| place.asked = false);
        self.requests.clear();
        self.requests_sent = 0;
        self.idle = 0;
        self.retry_at_ns = None;
    }

    /// Take of the answers that came what this turn has time for, ask on. True when something happened.
    pub fn turn<D: Driver>(
        &mut self,
        turn: &mut Turn<'_, D>,
        goal: &Goal,
        local_of: impl Fn(i32) -> Option<usize>,
    ) -> Result<bool, BenchError> {
        let mut busy = false;
        while turn.read_bytes_left > 0 {
            if self.begin_answer(turn)? {
                busy = true;
                self.check_on(turn, &local_of)?;
                continue;
            }
            if !self.transport.readable() || !self.transport.fill().map_err(lost)? {
                break;
            }
            busy = true;
            turn.now_ns = turn.clock.now_ns();
            self.received_ns = turn.now_ns;
            if self.transport.readable() {
                turn.read_bytes_left = turn.read_bytes_left.saturating_sub(FILL_BYTES_MAX);
            }
        }
        let slowed = *goal == Goal::Tail && turn.now_ns < self.ask_at_ns;
        while !slowed && self.in_flight.len() < turn.driver.fetches_max() && self.ask(turn, goal) {
            busy = true;
        }
        if self.requests_sent < self.requests.len() {
            let unsent = &self.requests[self.requests_sent..];
            self.requests_sent += self.transport.write([unsent, &[]]).map_err(lost)?;
        }
        Ok(busy)
    }

    /// Have an answer to check, if one has come. What is named by its fetch is not asked for until it is checked.
    fn begin_answer<D: Driver>(&mut self, turn: &mut Turn<'_, D>) -> Result<bool, BenchError> {
        if self.answer.is_some() {
            return Ok(true);
        }
        let Some(place) = self.transport.take_frame().map_err(lost)? else { return Ok(false) };
        let frame = self.transport.received(place.clone());
        let fetch = answered(&mut self.in_flight, turn.driver.fetched_correlation(frame)?)?;
        let mut parts = VecDeque::new();
        turn.driver.parse_fetch(frame, &fetch.from, &mut parts)?;
        let error = parts.iter().rev().find_map(|part| part.error);
        self.read_bytes += frame.len() as u64;
        turn.interval.read_bytes += frame.len() as u64;
        if let Some(bytes_per_s) = self.bytes_per_s {
            let takes_ns = frame.len() as f64 / bytes_per_s * 1e9;
            self.ask_at_ns = self.ask_at_ns.max(turn.now_ns) + takes_ns as u64;
        }
        self.answer = Some(FetchAnswer { fetch, frame: place, parts, error });
        Ok(true)
    }

    /// Check records of the answer as far as this turn has time for it.
    fn check_on<D: Driver>(
        &mut self,
        turn: &mut Turn<'_, D>,
        local_of: impl Fn(i32) -> Option<usize>,
    ) -> Result<(), BenchError> {
        let Some(answer) = &mut self.answer else { return Ok(()) };
        let frame = self.transport.received(answer.frame.clone());
        while let Some(Fetched { partition, records, .. }) = answer.parts.front_mut() {
            if turn.read_bytes_left == 0 {
                return Ok(());
            }
            let positions = self.positions.as_deref();
            let local = local_of(*partition).ok_or(Malformed("a partition that was not asked for"))?;
            let place = (*partition, local, self.group);
            records.start +=
                check_records(&frame[records.clone()], place, self.received_ns, turn, positions)?;
            if records.start == records.end {
                answer.parts.pop_front();
            }
        }
        let Some(FetchAnswer { fetch, error, .. }) = self.answer.take() else { return Ok(()) };
        fetch.places.iter().for_each(|&place| self.partitions[place].asked = false);
        // There may be more of what it named.
        self.idle = 0;
        if let Some(code) = error {
            return Err(BenchError::Refused { api: "Fetch", code });
        }
        self.keep_unread(&fetch, &turn.ledgers[self.group]);
        Ok(())
    }

    /// What an answer had no room for, or what was not in memory yet, comes first in the next one, as with
    /// clients that ask for everything each time and rotate. Passed over until its turn comes again, it would
    /// have to be read from the device once more.
    fn keep_unread(&mut self, fetch: &Fetch, ledger: &Ledger) {
        let unread = fetch
            .from
            .iter()
            .zip(&fetch.places)
            .filter(|(from, place)| ledger.read_next(self.partitions[**place].local) == from.offset);
        self.again.extend(unread.map(|(_, place)| *place));
    }

    /// The next partition to be looked at; `left`: of those that had their turn, so many.
    fn next_place(&mut self, left: &mut usize) -> Option<usize> {
        if let Some(place) = self.again.pop_front() {
            return Some(place);
        }
        *left = left.checked_sub(1)?;
        let place = self.cursor;
        self.cursor = if place + 1 == self.partitions.len() { 0 } else { place + 1 };
        Some(place)
    }

    /// Encode the next fetch. False when no partition, of those looked at, has something to read.
    fn ask<D: Driver>(&mut self, turn: &mut Turn<'_, D>, goal: &Goal) -> bool {
        let count = self.partitions.len();
        let each_max = turn.driver.fetch_partitions_max();
        // Whether every partition can be in a fetch that waits for it.
        let few = count <= each_max * turn.driver.fetches_max();
        let (mut from, mut places) = (Vec::new(), Vec::new());
        let mut left = count.min(SCAN_PARTITIONS);
        while let Some(index) = self.next_place(&mut left) {
            let Place { local, partition, asked } = self.partitions[index];
            if asked {
                continue;
            }
            let ledger = &turn.ledgers[self.group];
            let offset = ledger.read_next(local);
            let wanted = match goal {
                Goal::Tail => few || offset < ledger.acked_end(local),
                Goal::Acked => offset < ledger.acked_end(local),
                Goal::Until(ends) => offset < ends[local],
            };
            if !wanted {
                self.idle += 1;
                continue;
            }
            self.idle = 0;
            from.push(FetchFrom { partition, offset });
            places.push(index);
            self.partitions[index].asked = true;
            if from.len() == each_max {
                break;
            }
        }
        if from.is_empty() {
            return false;
        }
        if self.requests_sent == self.requests.len() {
            self.requests.clear();
            self.requests_sent = 0;
        }
        self.correlation = self.correlation.wrapping_add(1);
        let wait = few && *goal == Goal::Tail;
        turn.driver.encode_fetch(self.correlation, &from, wait, &mut self.requests);
        self.in_flight.push(Fetch { correlation: self.correlation, from, places });
        true
    }
}

/// Take the fetch that is answered out of those in flight.
fn answered(in_flight: &mut Vec<Fetch>, correlation: u32) -> Result<Fetch, Malformed> {
    let found = in_flight.iter().position(|fetch| fetch.correlation == correlation);
    Ok(in_flight.swap_remove(found.ok_or(Malformed("an answer that nobody asked for"))?))
}

/// Put records of a partition, its number and index in the thread's list, into the books of a group. Returns how many
/// bytes of them.
fn check_records<D: Driver>(
    records: &[u8],
    (partition, local, group): (i32, usize, usize),
    received_ns: u64,
    turn: &mut Turn<'_, D>,
    positions: Option<&Positions>,
) -> Result<usize, BenchError> {
    let Turn { driver, ledgers, interval, is_end_to_end, read_bytes_left, .. } = turn;
    let ledger = &mut ledgers[group];
    let run = driver.run();
    let read = driver.parse_records(records, read_bytes_left, &mut |offset, value| {
        interval.read_records += 1;
        if let Some(positions) = positions {
            positions.set(partition, offset + 1);
        }
        if let Some(payload) = ledger.read(local, offset, value)
            && payload.run == run
            && *is_end_to_end
        {
            interval.end_to_end.record(received_ns.saturating_sub(payload.intended_ns));
        }
    })?;
    Ok(read)
}

fn lost(reason: std::io::Error) -> BenchError {
    BenchError::Connection { during: "reading", reason }
}
