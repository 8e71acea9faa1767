//! One connection that reads a share of the partitions and puts every record into the books.
//!
//! It has as many fetches in flight as the protocol allows, each for as many partitions, and none is
//! named by two: one fetch of everything for Kafka, one a queue for a protocol of pulls.

use std::collections::VecDeque;
use std::sync::Arc;

use super::driver::{Driver, FetchFrom, Malformed};
use super::error::BenchError;
use super::groups::Positions;
use super::ledger::Ledger;
use super::producer::Turn;
use super::transport::Transport;

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
            retry_at_ns: None,
            partitions: partitions.into_iter().map(place).collect(),
            again: VecDeque::new(),
            cursor: 0,
            idle: 0,
            requests: Vec::new(),
            requests_sent: 0,
            correlation: 0,
            in_flight: Vec::new(),
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
        self.in_flight.is_empty() && self.idle >= self.partitions.len()
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
        self.again.clear();
        self.partitions.iter_mut().for_each(|place| place.asked = false);
        self.requests.clear();
        self.requests_sent = 0;
        self.idle = 0;
        self.retry_at_ns = None;
    }

    /// Take the answers that came, ask on. True when something happened.
    pub fn turn<D: Driver>(
        &mut self,
        turn: &mut Turn<'_, D>,
        goal: &Goal,
        local_of: impl Fn(i32) -> Option<usize>,
    ) -> Result<bool, BenchError> {
        let mut busy = false;
        if self.transport.readable() && self.transport.fill().map_err(lost)? {
            busy = true;
            turn.now_ns = turn.clock.now_ns();
        }
        while let Some(frame) = self.transport.frame().map_err(lost)? {
            busy = true;
            let fetch = answered(&mut self.in_flight, turn.driver.fetched_correlation(frame)?)?;
            fetch.places.iter().for_each(|&place| self.partitions[place].asked = false);
            // There may be more of what it named.
            self.idle = 0;
            self.read_bytes += frame.len() as u64;
            turn.interval.read_bytes += frame.len() as u64;
            if let Some(bytes_per_s) = self.bytes_per_s {
                let takes_ns = frame.len() as f64 / bytes_per_s * 1e9;
                self.ask_at_ns = self.ask_at_ns.max(turn.now_ns) + takes_ns as u64;
            }
            let positions = self.positions.as_deref();
            read_answer(frame, &fetch.from, turn, self.group, positions, &local_of)?;
            self.keep_unread(&fetch, &turn.ledgers[self.group]);
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

fn read_answer<D: Driver>(
    frame: &[u8],
    from: &[FetchFrom],
    turn: &mut Turn<'_, D>,
    group: usize,
    positions: Option<&Positions>,
    local_of: impl Fn(i32) -> Option<usize>,
) -> Result<(), BenchError> {
    let Turn { driver, ledgers, interval, now_ns, is_end_to_end, .. } = turn;
    let ledger = &mut ledgers[group];
    let run = driver.run();
    let (mut stranger, mut failed) = (false, None);
    driver.parse_fetch(
        frame,
        from,
        &mut |partition, offset, value| {
            let Some(local) = local_of(partition) else {
                stranger = true;
                return;
            };
            interval.read_records += 1;
            if let Some(positions) = positions {
                positions.set(partition, offset + 1);
            }
            if let Some(payload) = ledger.read(local, offset, value)
                && payload.run == run
                && *is_end_to_end
            {
                interval.end_to_end.record(now_ns.saturating_sub(payload.intended_ns));
            }
        },
        &mut |_, code| failed = Some(code),
    )?;
    if stranger {
        return Err(Malformed("records of a partition that was not asked for").into());
    }
    match failed {
        Some(code) => Err(BenchError::Refused { api: "Fetch", code }),
        None => Ok(()),
    }
}

fn lost(reason: std::io::Error) -> BenchError {
    BenchError::Connection { during: "reading", reason }
}
