//! One connection that reads a share of the partitions and puts every record into the books.

use std::sync::Arc;

use super::driver::{Driver, FetchFrom, Malformed};
use super::error::BenchError;
use super::kafka::codes::Code;
use super::kafka::group::Positions;
use super::producer::Turn;
use super::transport::Transport;

/// Partitions named in one fetch. Of more, only those are named that are known to have something.
const FETCH_PARTITIONS: usize = 1000;
/// Partitions looked at in one turn to find these.
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
    /// Index in the thread's list and number of every partition it reads.
    partitions: Vec<(usize, i32)>,
    /// Where the next look for partitions begins.
    cursor: usize,
    /// Partitions in a row that had nothing to read.
    idle: usize,
    request: Vec<u8>,
    request_sent: usize,
    correlation: u32,
    waiting: bool,
    /// Which of the thread's ledgers it fills.
    group: usize,
    /// Where it tells the group's members how far it has read.
    positions: Option<Arc<Positions>>,
    /// The most it reads while it follows the tail.
    bytes_per_s: Option<f64>,
    /// When that lets it ask again.
    ask_at_ns: u64,
    /// The connection is lost; when to try again.
    retry_at_ns: Option<u64>,
}

impl PartitionReader {
    pub fn new(
        transport: Transport,
        partitions: Vec<(usize, i32)>,
        group: usize,
        bytes_per_s: Option<f64>,
        positions: Option<Arc<Positions>>,
    ) -> PartitionReader {
        PartitionReader {
            transport,
            group,
            positions,
            bytes_per_s,
            ask_at_ns: 0,
            retry_at_ns: None,
            partitions,
            cursor: 0,
            idle: 0,
            request: Vec::new(),
            request_sent: 0,
            correlation: 0,
            waiting: false,
        }
    }

    /// True when there is nothing left to ask for, and nothing is awaited.
    pub fn finished(&self) -> bool {
        !self.waiting && self.idle >= self.partitions.len()
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
        self.waiting = false;
        self.request.clear();
        self.request_sent = 0;
        self.idle = 0;
        self.retry_at_ns = None;
    }

    /// Take the answer that came, ask on. True when something happened.
    pub fn turn<D: Driver>(
        &mut self,
        turn: &mut Turn<'_, D>,
        goal: &Goal,
        local_of: impl Fn(i32) -> Option<usize>,
    ) -> Result<bool, BenchError> {
        let lost = |reason| BenchError::Connection { during: "reading", reason };
        let mut busy = false;
        if self.transport.readable() && self.transport.fill().map_err(lost)? {
            busy = true;
            turn.now_ns = turn.clock.now_ns();
            if let Some(frame) = self.transport.frame().map_err(lost)? {
                if !std::mem::take(&mut self.waiting) {
                    return Err(Malformed("an answer that nobody asked for").into());
                }
                turn.interval.read_bytes += frame.len() as u64;
                if let Some(bytes_per_s) = self.bytes_per_s {
                    let takes_ns = frame.len() as f64 / bytes_per_s * 1e9;
                    self.ask_at_ns = self.ask_at_ns.max(turn.now_ns) + takes_ns as u64;
                }
                let positions = self.positions.as_deref();
                read_answer(frame, self.correlation, turn, self.group, positions, local_of)?;
            }
        }
        let slowed = *goal == Goal::Tail && turn.now_ns < self.ask_at_ns;
        if !self.waiting && !slowed && self.find_partitions(turn, goal) {
            self.waiting = true;
            busy = true;
        }
        if self.request_sent < self.request.len() {
            let unsent = &self.request[self.request_sent..];
            self.request_sent += self.transport.write([unsent, &[]]).map_err(lost)?;
        }
        Ok(busy)
    }

    /// Encode the next fetch. False when no partition, of those looked at, has something to read.
    fn find_partitions<D: Driver>(&mut self, turn: &mut Turn<'_, D>, goal: &Goal) -> bool {
        let count = self.partitions.len();
        let few = count <= FETCH_PARTITIONS;
        let mut from = Vec::new();
        for _ in 0..count.min(SCAN_PARTITIONS) {
            let (local, partition) = self.partitions[self.cursor];
            self.cursor = if self.cursor + 1 == count { 0 } else { self.cursor + 1 };
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
            if from.len() == FETCH_PARTITIONS {
                break;
            }
        }
        if from.is_empty() {
            return false;
        }
        self.correlation = self.correlation.wrapping_add(1);
        self.request.clear();
        self.request_sent = 0;
        let wait = few && *goal == Goal::Tail;
        turn.driver.encode_fetch(self.correlation, &from, wait, &mut self.request);
        true
    }
}

fn read_answer<D: Driver>(
    frame: &[u8],
    correlation: u32,
    turn: &mut Turn<'_, D>,
    group: usize,
    positions: Option<&Positions>,
    local_of: impl Fn(i32) -> Option<usize>,
) -> Result<(), BenchError> {
    let Turn { driver, ledgers, interval, now_ns, .. } = turn;
    let ledger = &mut ledgers[group];
    let run = driver.run();
    let (mut stranger, mut failed) = (false, None);
    driver.parse_fetch(
        frame,
        correlation,
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
        Some(code) => Err(BenchError::Refused { api: "Fetch", code: Code(code) }),
        None => Ok(()),
    }
}
