//! A server that answers produce requests at once and stores nothing: the load generator against it
//! shows the generator's own ceiling and noise. It answers the control requests too, so that the
//! generator meets it as it meets a broker.
//!
//! What becomes of a batch is the [`Store`]'s: [`Null`] hands out offsets; the tests have one that
//! keeps batches and loses, repeats and swaps them on demand.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rustc_hash::FxHashMap;

use super::cores;
use super::driver::Malformed;
use super::error::BenchError;
use super::kafka::wire::{Api, Reader, Writer, framed};
use super::transport::Transport;

const LISTENER: Token = Token(usize::MAX);
/// Longest time to notice that the server shall stop.
const STOP_POLL: Duration = Duration::from_millis(50);
/// Turns without an event before the server waits instead of spinning.
const SPINS: u32 = 20_000;
/// Room for several large requests, so that few are cut by the buffer's end and moved.
const INPUT_BYTES: usize = 256 << 10;
/// The error code of a produce request that cannot be parsed.
const CORRUPT_MESSAGE: i16 = 2;

/// Where batches go.
pub trait Store: Send + 'static {
    /// Take a batch of `count` records; returns its base offset. Partitions are counted through all
    /// topics.
    fn append(&mut self, partition: i32, batch: &[u8], count: u32) -> i64;

    /// Append batches from `offset` on to `out`; returns the end offset.
    fn read(&mut self, partition: i32, offset: i64, out: &mut Vec<u8>) -> i64;

    fn end(&self, partition: i32) -> i64;

    /// When what was just appended may be answered; `None`: at once. Answers of a connection keep
    /// their order.
    fn answer_at(&mut self) -> Option<Instant> {
        None
    }

    /// Whether the connection is to be closed instead of answering.
    fn cuts(&mut self) -> bool {
        false
    }
}

/// Stores nothing.
#[derive(Debug, Default)]
pub struct Null {
    ends: FxHashMap<i32, i64>,
}

impl Store for Null {
    fn append(&mut self, partition: i32, _batch: &[u8], count: u32) -> i64 {
        let end = self.ends.entry(partition).or_default();
        let base = *end;
        *end += i64::from(count);
        base
    }

    fn read(&mut self, partition: i32, _offset: i64, _out: &mut Vec<u8>) -> i64 {
        self.end(partition)
    }

    fn end(&self, partition: i32) -> i64 {
        self.ends.get(&partition).copied().unwrap_or_default()
    }
}

/// A running server; dropping it stops its thread.
pub struct Sink {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Listen on a free loopback port, served by one thread on `core`. Each topic has `partitions`.
    ///
    /// # Errors
    /// There is no such core, or no port.
    pub fn start(store: impl Store, partitions: u32, core: Option<usize>) -> Result<Sink, BenchError> {
        cores::check(core.as_slice())?;
        let start = || {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let poll = Poll::new()?;
            let mut listener = mio::net::TcpListener::from_std(listener);
            poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
            Ok((address, listener, poll))
        };
        let (address, listener, poll) = start().map_err(BenchError::io("cannot start the null sink"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut server = Server {
            poll,
            listener,
            stop: stop.clone(),
            accepted: accepted.clone(),
            connections: FxHashMap::default(),
            next_token: 0,
            service: Service::new(store, partitions),
        };
        let thread = std::thread::spawn(move || {
            if let Some(core) = core
                && let Err(error) = cores::pin(core)
            {
                // It was allowed above, and is not any more.
                tracing::error!(%error, "the null sink runs where the kernel puts it");
            }
            if let Err(error) = server.serve() {
                tracing::error!(%error, "the null sink stopped");
            }
        });
        Ok(Sink { address, stop, accepted, thread: Some(thread) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; here it changes nothing.
            let _ = thread.join();
        }
    }
}

struct Server<S> {
    poll: Poll,
    listener: mio::net::TcpListener,
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    connections: FxHashMap<usize, Connection>,
    next_token: usize,
    service: Service<S>,
}

struct Connection {
    transport: Transport,
    out: Vec<u8>,
    sent: usize,
    /// Answers whose time has not come.
    held: VecDeque<(Instant, Vec<u8>)>,
}

impl<S: Store> Server<S> {
    fn serve(&mut self) -> std::io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut idle = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let wait = if idle < SPINS { Duration::ZERO } else { STOP_POLL };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let holds = self.release();
            idle = if events.is_empty() && !holds { idle + 1 } else { 0 };
            for event in events.iter() {
                if event.token() == LISTENER {
                    self.accept()?;
                } else if let Some(connection) = self.connections.get_mut(&event.token().0) {
                    connection.transport.on_event(event);
                    if connection.turn(&mut self.service).is_err() {
                        self.connections.remove(&event.token().0);
                    }
                }
            }
        }
        Ok(())
    }

    /// Send the held answers whose time has come. True while any are held.
    fn release(&mut self) -> bool {
        if !self.service.holds {
            return false;
        }
        let now = Instant::now();
        self.service.holds = false;
        let service = &mut self.service;
        self.connections.retain(|_, connection| {
            let sent = connection.release(now);
            service.holds |= !connection.held.is_empty();
            sent.is_ok()
        });
        self.service.holds
    }

    fn accept(&mut self) -> std::io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let mut transport = Transport::new(stream, INPUT_BYTES)?;
                    let token = self.next_token;
                    self.next_token += 1;
                    self.accepted.fetch_add(1, Ordering::Relaxed);
                    transport.register(self.poll.registry(), Token(token))?;
                    let held = VecDeque::new();
                    self.connections.insert(token, Connection { transport, out: Vec::new(), sent: 0, held });
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                // The peer gave up before it was accepted.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Connection {
    /// Answer everything that has come.
    fn turn<S: Store>(&mut self, service: &mut Service<S>) -> std::io::Result<()> {
        loop {
            while let Some(frame) = self.transport.frame()? {
                let start = self.out.len();
                service.answer(frame, &mut self.out).map_err(std::io::Error::other)?;
                let behind = self.held.back().map(|(at, _)| *at);
                if let Some(at) = service.store.answer_at().max(behind) {
                    self.held.push_back((at, self.out.split_off(start)));
                    service.holds = true;
                }
                if service.store.cuts() {
                    return Err(std::io::ErrorKind::ConnectionAborted.into());
                }
            }
            self.flush()?;
            if !self.transport.fill()? {
                return Ok(());
            }
        }
    }

    fn release(&mut self, now: Instant) -> std::io::Result<()> {
        while self.held.front().is_some_and(|(at, _)| *at <= now) {
            let (_, answer) = self.held.pop_front().expect("the front was met above");
            self.out.extend_from_slice(&answer);
        }
        self.flush()
    }

    fn flush(&mut self) -> std::io::Result<()> {
        while self.sent < self.out.len() {
            let taken = self.transport.write([&self.out[self.sent..], &[]])?;
            if taken == 0 {
                return Ok(());
            }
            self.sent += taken;
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }
}

/// The answers.
struct Service<S> {
    store: S,
    /// Of each topic.
    partitions: u32,
    /// Ids handed out.
    producers: i64,
    /// Topics met so far: a store knows partitions by one number.
    topics: FxHashMap<Vec<u8>, i32>,
    /// The topic met last, and its number.
    recent: (Vec<u8>, i32),
    /// Connections may hold answers back.
    holds: bool,
}

impl<S: Store> Service<S> {
    fn new(store: S, partitions: u32) -> Service<S> {
        let (topics, recent) = (FxHashMap::default(), (Vec::new(), 0));
        Service { store, partitions, producers: 0, topics, recent, holds: false }
    }

    /// How the store knows a topic's partition.
    #[inline]
    fn counted(&mut self, topic: &[u8], partition: i32) -> i32 {
        if self.recent.0 != topic {
            let next = self.topics.len() as i32;
            let number = *self.topics.entry(topic.to_vec()).or_insert(next);
            self.recent = (topic.to_vec(), number);
        }
        self.recent.1.wrapping_mul(self.partitions as i32).wrapping_add(partition)
    }

    fn answer(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let mut request = Reader(frame);
        let key = request.i16()?;
        let version = request.i16()?;
        let correlation = request.i32()?;
        let _client = request.string()?;
        let api = Api::ALL.into_iter().find(|api| (api.key, api.version) == (key, version));
        let api = api.ok_or(Malformed("a request that the null sink does not know"))?;
        let start = out.len();
        let is_answered = api != Api::PRODUCE || acks_of(request)? != 0;
        let mut result = Ok(());
        framed(out, |out| {
            out.i32(correlation);
            result = match api {
                Api::PRODUCE => self.produce(request, out),
                Api::FETCH => self.fetch(request, out),
                Api::LIST_OFFSETS => self.list_offsets(request, out),
                Api::METADATA => self.metadata(request, out),
                Api::CREATE_TOPICS => create_topics(request, out),
                Api::INIT_PRODUCER_ID => {
                    self.producer_id(out);
                    Ok(())
                }
                _ => {
                    api_versions(out);
                    Ok(())
                }
            };
        });
        if !is_answered {
            out.truncate(start);
        }
        result
    }

    fn produce(&mut self, mut request: Reader<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let _transactional_id = request.string()?;
        let _acks = request.i16()?;
        let _timeout_ms = request.i32()?;
        for_each_topic(request, out, |topic, request, out| {
            let partition = request.i32()?;
            let batch = request.bytes()?;
            let count = batch.get(57..61).and_then(|count| count.try_into().ok()).map(u32::from_be_bytes);
            let counted = self.counted(topic, partition);
            let base = count.map(|count| self.store.append(counted, batch, count));
            out.i32(partition);
            out.i16(if base.is_some() { 0 } else { CORRUPT_MESSAGE });
            out.i64(base.unwrap_or(-1));
            out.i64(-1);
            out.i64(0);
            Ok(())
        })?;
        out.i32(0);
        Ok(())
    }

    fn fetch(&mut self, mut request: Reader<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let _replica_wait_min_max = request.take(16)?;
        let _isolation = request.i8()?;
        out.i32(0);
        for_each_topic(request, out, |topic, request, out| {
            let partition = request.i32()?;
            let counted = self.counted(topic, partition);
            let offset = request.i64()?;
            let _bytes_max = request.i32()?;
            out.i32(partition);
            out.i16(0);
            let end_at = out.len();
            out.i64(0);
            out.i64(0);
            out.count(0);
            let length_at = out.len();
            out.count(0);
            let end = self.store.read(counted, offset, out);
            let length = (out.len() - length_at - 4) as u32;
            out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
            out[end_at..end_at + 8].copy_from_slice(&end.to_be_bytes());
            out[end_at + 8..end_at + 16].copy_from_slice(&end.to_be_bytes());
            Ok(())
        })
    }

    fn list_offsets(&mut self, mut request: Reader<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let _replica = request.i32()?;
        for_each_topic(request, out, |topic, request, out| {
            let partition = request.i32()?;
            let counted = self.counted(topic, partition);
            let latest = request.i64()? == -1;
            out.i32(partition);
            out.i16(0);
            out.i64(-1);
            out.i64(if latest { self.store.end(counted) } else { 0 });
            Ok(())
        })
    }

    fn producer_id(&mut self, out: &mut Vec<u8>) {
        out.i32(0);
        out.i16(0);
        out.i64(self.producers);
        out.i16(0);
        self.producers += 1;
    }

    fn metadata(&mut self, mut request: Reader<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let _one = request.count()?;
        let topic = request.string()?;
        out.i32(0);
        out.count(1);
        out.i32(0);
        out.string("127.0.0.1");
        out.i32(0);
        out.null_string();
        out.string("null-sink");
        out.i32(0);
        out.count(1);
        out.i16(0);
        out.i16(topic.len() as i16);
        out.put(topic);
        out.i8(0);
        out.i32(self.partitions as i32);
        for partition in 0..self.partitions as i32 {
            out.i16(0);
            out.i32(partition);
            out.i32(0);
            for _replicas_then_isr in 0..2 {
                out.count(1);
                out.i32(0);
            }
        }
        Ok(())
    }
}

/// Of a produce request.
fn acks_of(mut request: Reader<'_>) -> Result<i16, Malformed> {
    let _transactional_id = request.string()?;
    request.i16()
}

/// Copy the frame of topics and partitions, which requests and answers share; `partition` reads and
/// answers one partition of the topic it is given.
fn for_each_topic<'a>(
    mut request: Reader<'a>,
    out: &mut Vec<u8>,
    mut partition: impl FnMut(&[u8], &mut Reader<'a>, &mut Vec<u8>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let topics = request.i32()?;
    out.i32(topics);
    for _ in 0..topics {
        let topic = request.string()?;
        out.i16(topic.len() as i16);
        out.put(topic);
        let partitions = request.i32()?;
        out.i32(partitions);
        for _ in 0..partitions {
            partition(topic, &mut request, out)?;
        }
    }
    Ok(())
}

fn create_topics(mut request: Reader<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let _one = request.count()?;
    let topic = request.string()?;
    out.i32(0);
    out.count(1);
    out.i16(topic.len() as i16);
    out.put(topic);
    out.i16(0);
    out.null_string();
    Ok(())
}

fn api_versions(out: &mut Vec<u8>) {
    out.i16(0);
    out.count(Api::ALL.len());
    for api in Api::ALL {
        out.i16(api.key);
        out.i16(api.version);
        out.i16(api.version);
    }
}
