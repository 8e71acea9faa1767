//! A second protocol, as unlike Kafka's as a broker's may be, to prove that the engine knows neither:
//! answers come in any order, a fetch pulls one queue and its answer does not name it, a connection
//! has many pulls in flight, and the client must be heard from time to time.
//!
//! ```text
//! request   | length | kind | correlation | queue | ... |
//! send      ... | count | records of one size |          pull   ... | offset | wait |
//! answer to a send: | length | correlation | queue | base |
//! answer to a pull: | length | correlation | base | count | records |
//! ```

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::driver::{Ack, Code, Control, Driver, End, FetchFrom, Fetched, Malformed, Packer, Stamp};
use super::engine::ReadBack;
use super::error::BenchError;
use super::leaders::Leaders;
use super::options::{Load, Options};
use super::payload::{self, Body, Random};
use super::report::Report;
use super::run::run_with;
use super::topics::Topics;

const SEND: u8 = 1;
const PULL: u8 = 2;
/// Of a send, up to its records.
const HEAD_BYTES: usize = 4 + 1 + 4 + 4 + 4;
const RECORD_BYTES: usize = 100;
const PULLS_MAX: usize = 64;
const RECORDS_MAX: usize = 500;
/// An answer waits so long for another one, whose place it takes.
const HOLD: Duration = Duration::from_millis(10);
/// A pull that may wait for records waits so long.
const PULL_WAIT: Duration = Duration::from_millis(50);

/// What the broker has, and what it saw.
#[derive(Default)]
struct Broker {
    queues: Vec<Vec<Vec<u8>>>,
    /// By queue, producer and first sequence: what was sent before is not stored again.
    bases: HashMap<(usize, u32, u64), i64>,
    /// Answers that overtook others.
    overtaken: usize,
    pulls_waiting_max: usize,
    ticks: usize,
    /// Close a connection that is owed answers, once it has been sent so many batches in all.
    cut_after: Option<usize>,
}

impl Broker {
    fn append(&mut self, queue: usize, records: &[u8]) -> i64 {
        let first = payload::check(&records[..RECORD_BYTES]).expect("it was stamped");
        let end = self.queues[queue].len() as i64;
        let base = *self.bases.entry((queue, first.producer, first.sequence)).or_insert(end);
        if base == end {
            self.queues[queue].extend(records.chunks(RECORD_BYTES).map(<[u8]>::to_vec));
        }
        base
    }

    /// Whether the time has come to cut; once.
    fn cuts(&mut self) -> bool {
        let cuts = self.cut_after.is_some_and(|batches| self.bases.len() >= batches);
        if cuts {
            self.cut_after = None;
        }
        cuts
    }
}

struct Server {
    address: SocketAddr,
    broker: Arc<Mutex<Broker>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(queues: usize, cut_after: Option<usize>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let broker = Broker { queues: vec![Vec::new(); queues], cut_after, ..Broker::default() };
        let (broker, stop) = (Arc::new(Mutex::new(broker)), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (broker, stop) = (broker.clone(), stop.clone());
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let broker = broker.clone();
                    // It ends with its connection.
                    std::thread::spawn(move || Connection::new(stream, broker).serve());
                }
            }
        });
        Server { address, broker, stop, thread: Some(thread) }
    }

    fn broker(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Pull {
    correlation: u32,
    queue: usize,
    offset: usize,
    until: Instant,
}

struct Connection {
    stream: TcpStream,
    broker: Arc<Mutex<Broker>>,
    input: Vec<u8>,
    /// Answers to sends that wait to be overtaken.
    held: Vec<Vec<u8>>,
    pulls: Vec<Pull>,
}

impl Connection {
    fn new(stream: TcpStream, broker: Arc<Mutex<Broker>>) -> Connection {
        Connection { stream, broker, input: Vec::new(), held: Vec::new(), pulls: Vec::new() }
    }

    fn serve(mut self) -> io::Result<()> {
        self.stream.set_read_timeout(Some(HOLD))?;
        self.stream.set_nodelay(true)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let quiet = match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    self.input.extend_from_slice(&buffer[..count]);
                    false
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => true,
                Err(error) => return Err(error),
            };
            self.take_requests();
            self.answer_sends(quiet)?;
            self.answer_pulls()?;
        }
    }

    fn take_requests(&mut self) {
        let mut broker = self.broker.lock().unwrap();
        while let Some(length) = self.input.first_chunk().map(|length| u32::from_be_bytes(*length) as usize)
            && self.input.len() >= 4 + length
        {
            let frame: Vec<u8> = self.input.drain(..4 + length).skip(4).collect();
            let (correlation, queue) = (u32_at(&frame, 1), u32_at(&frame, 5) as usize);
            if frame[0] == SEND {
                let base = broker.append(queue, &frame[HEAD_BYTES - 4..]);
                let queue = queue as u32;
                self.held.push(
                    [&correlation.to_be_bytes()[..], &queue.to_be_bytes(), &base.to_be_bytes()].concat(),
                );
            } else {
                let offset = u64::from_be_bytes(frame[9..17].try_into().unwrap()) as usize;
                let wait = if frame[17] == 1 { PULL_WAIT } else { Duration::ZERO };
                self.pulls.push(Pull { correlation, queue, offset, until: Instant::now() + wait });
            }
        }
        broker.pulls_waiting_max = broker.pulls_waiting_max.max(self.pulls.len());
    }

    /// The newest first.
    fn answer_sends(&mut self, quiet: bool) -> io::Result<()> {
        if self.held.len() < 2 && !quiet {
            return Ok(());
        }
        let mut broker = self.broker.lock().unwrap();
        broker.overtaken += self.held.len().saturating_sub(1);
        let cuts = self.held.len() > 1 && broker.cuts();
        drop(broker);
        let newest_first = std::mem::take(&mut self.held).into_iter().rev();
        for answer in newest_first {
            self.send(&answer)?;
            if cuts {
                // The older ones are stored, and nobody is told.
                return Err(ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(())
    }

    fn answer_pulls(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let broker = self.broker.clone();
        let broker = broker.lock().unwrap();
        let is_ready = |pull: &Pull| broker.queues[pull.queue].len() > pull.offset || pull.until <= now;
        let pulls = std::mem::take(&mut self.pulls);
        let (ready, waiting): (Vec<Pull>, Vec<Pull>) = pulls.into_iter().partition(is_ready);
        self.pulls = waiting;
        for pull in ready.into_iter().rev() {
            let queue = &broker.queues[pull.queue];
            let records: Vec<&[u8]> =
                queue.iter().skip(pull.offset).take(RECORDS_MAX).map(Vec::as_slice).collect();
            let (base, count) = (pull.offset as u64, records.len() as u32);
            let head =
                [&pull.correlation.to_be_bytes()[..], &base.to_be_bytes(), &count.to_be_bytes()].concat();
            self.send(&[head, records.concat()].concat())?;
        }
        Ok(())
    }

    fn send(&mut self, answer: &[u8]) -> io::Result<()> {
        self.stream.write_all(&[&(answer.len() as u32).to_be_bytes()[..], answer].concat())
    }
}

fn u32_at(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(frame[at..at + 4].try_into().unwrap())
}

/// The client's side.
struct Toy {
    records: u32,
    broker: Arc<Mutex<Broker>>,
    controls: AtomicUsize,
}

/// Asks the broker without a connection: what it is that is asked is not the engine's matter.
struct ToyControl(Arc<Mutex<Broker>>);

impl Control for ToyControl {
    fn ends(&mut self, _: &Topics, partitions: &[i32], end: End) -> Result<Vec<i64>, BenchError> {
        let broker = self.0.lock().unwrap();
        let end_of = |&partition: &i32| match end {
            End::Latest => broker.queues[partition as usize].len() as i64,
            End::Earliest => 0,
        };
        Ok(partitions.iter().map(end_of).collect())
    }

    fn tick(&mut self) -> Result<(), BenchError> {
        self.0.lock().unwrap().ticks += 1;
        Ok(())
    }
}

impl Driver for Toy {
    fn run(&self) -> u64 {
        7
    }

    fn records(&self) -> u32 {
        self.records
    }

    fn batch_bytes(&self) -> usize {
        self.records as usize * RECORD_BYTES
    }

    fn packer(&self) -> Option<Box<dyn Packer>> {
        None
    }

    fn encode_request(&self, producer: u32, random: &mut Random, out: &mut Vec<u8>, crcs: &mut Vec<u32>) {
        let start = out.len();
        out.resize(start + HEAD_BYTES, 0);
        out[start + 4] = SEND;
        for _ in 0..self.records {
            let at = out.len();
            out.resize(at + RECORD_BYTES, 0);
            crcs.push(payload::prepare(&mut out[at..], self.run(), producer, &Body::default(), random));
        }
    }

    fn stamp_request(&self, request: &mut [u8], body_crcs: &[u32], stamp: &Stamp<'_>) -> usize {
        let length = HEAD_BYTES + stamp.records as usize * RECORD_BYTES;
        request[..4].copy_from_slice(&(length as u32 - 4).to_be_bytes());
        request[5..9].copy_from_slice(&stamp.correlation.to_be_bytes());
        request[9..13].copy_from_slice(&(stamp.partition as u32).to_be_bytes());
        request[13..17].copy_from_slice(&stamp.records.to_be_bytes());
        let records = request[HEAD_BYTES..length].chunks_mut(RECORD_BYTES).zip(body_crcs);
        for (index, (record, &crc)) in records.enumerate() {
            payload::stamp(record, crc, stamp.sequence + index as u64, stamp.intended_of(index));
        }
        length
    }

    fn parse_ack(&self, frame: &[u8]) -> Result<Ack, Malformed> {
        let base = frame.get(8..16).ok_or(Malformed("it ends too early"))?;
        let base = i64::from_be_bytes(base.try_into().unwrap());
        Ok(Ack { correlation: u32_at(frame, 0), partition: u32_at(frame, 4) as i32, result: Ok(base) })
    }

    fn answers_in_order(&self) -> bool {
        false
    }

    fn fetch_partitions_max(&self) -> usize {
        1
    }

    fn fetches_max(&self) -> usize {
        PULLS_MAX
    }

    fn encode_fetch(&self, correlation: u32, from: &[FetchFrom], wait: bool, out: &mut Vec<u8>) {
        let [FetchFrom { partition, offset }] = from else { panic!("a pull is of one queue: {from:?}") };
        out.extend_from_slice(&18u32.to_be_bytes());
        out.push(PULL);
        out.extend_from_slice(&correlation.to_be_bytes());
        out.extend_from_slice(&partition.to_be_bytes());
        out.extend_from_slice(&offset.to_be_bytes());
        out.push(u8::from(wait));
    }

    fn fetched_correlation(&self, frame: &[u8]) -> Result<u32, Malformed> {
        Ok(u32_at(frame, 0))
    }

    fn parse_fetch(
        &self,
        frame: &[u8],
        from: &[FetchFrom],
        parts: &mut VecDeque<Fetched>,
    ) -> Result<(), Malformed> {
        parts.push_back(Fetched { partition: from[0].partition, error: None, records: 4..frame.len() });
        Ok(())
    }

    fn parse_records(
        &self,
        records: &[u8],
        left: &mut usize,
        record: &mut dyn FnMut(i64, &[u8]),
    ) -> Result<usize, Malformed> {
        let base = i64::from_be_bytes(records[..8].try_into().unwrap());
        for (offset, value) in (base..).zip(records[12..].chunks(RECORD_BYTES)) {
            record(offset, value);
        }
        *left = left.saturating_sub(records.len());
        Ok(records.len())
    }

    fn is_removed(&self, _: Code) -> bool {
        false
    }

    fn control(&self, _: SocketAddr) -> Result<Box<dyn Control>, BenchError> {
        self.controls.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(ToyControl(self.broker.clone())))
    }

    fn tick_every(&self) -> Option<Duration> {
        Some(Duration::from_millis(100))
    }
}

const QUEUES: u32 = 6;

fn run_against(server: &Server, change: impl FnOnce(&mut Options)) -> Report {
    let mut options = Options {
        partitions: QUEUES,
        record_bytes: RECORD_BYTES,
        records_per_batch: 7,
        connections: 2,
        consumers: 2,
        read_back: ReadBack::Tail,
        load: Load::Open { records_per_s: 7_000.0 },
        seconds: 1,
        warmup_s: 0,
        ..Options::default()
    };
    change(&mut options);
    let toy = Toy {
        records: options.records_per_batch,
        broker: server.broker.clone(),
        controls: AtomicUsize::new(0),
    };
    let report = run_with(&options, &Leaders::one(server.address, &options.topics()), &toy).unwrap();
    assert!(toy.controls.load(Ordering::Relaxed) > 0);
    report
}

#[test]
fn answers_in_any_order_and_pulls_of_one_queue_are_booked_like_any_others() {
    for read_back in [ReadBack::Tail, ReadBack::Afterwards] {
        let server = Server::start(QUEUES as usize, None);
        let report = run_against(&server, |options| options.read_back = read_back.clone());
        assert!(report.ledger.passed(), "{report}");
        assert_eq!((report.ledger.acked, report.ledger.read), (7000, 7000), "{report}");
        assert_eq!((report.response.samples, report.unanswered), (1000, 0), "{report}");
        let broker = server.broker();
        assert!(broker.overtaken > 100, "{} answers overtook others", broker.overtaken);
        assert!(broker.pulls_waiting_max > 1, "{} pulls in flight", broker.pulls_waiting_max);
        // A second and the time to begin and to end.
        assert!(broker.ticks >= 5, "{} ticks", broker.ticks);
    }
}

#[test]
fn a_linger_keeps_each_records_own_moment_whatever_the_order_of_the_answers() {
    let server = Server::start(QUEUES as usize, None);
    let report = run_against(&server, |options| {
        options.linger_ns = Some(5_000_000);
        options.records_per_batch = 100;
    });
    assert!(report.ledger.passed(), "{report}");
    assert_eq!((report.ledger.read, report.response.samples), (7000, 7000), "{report}");
}

#[test]
fn only_what_was_not_answered_is_sent_again() {
    let server = Server::start(QUEUES as usize, Some(100));
    let report = run_against(&server, |options| options.reconnect = true);
    assert!(report.reconnects >= 1, "{report}");
    assert!(report.ledger.passed() && report.errors == 0, "{report}");
    assert_eq!((report.ledger.acked, report.ledger.read, report.unanswered), (7000, 7000, 0), "{report}");
}
