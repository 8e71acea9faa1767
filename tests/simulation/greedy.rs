//! Clients that hold the broker's memory: large requests side by side, frames that never end, responses
//! that nobody reads. Memory stays within its limit, and whoever behaves is served.

use std::time::Duration;

use ringmq::codec::batch_builder::BatchBuilder;
use ringmq::codec::compression::Compression;
use ringmq::io::sim::{ClientSocket, SimDisk, SimWorld, StreamState};
use ringmq::kafka::memory::{FREE_BYTES, MemoryLimits};
use ringmq::kafka::protocol::api::{ApiKey, Message, Response};
use ringmq::kafka::protocol::frame::{Frame, first_response, put_request};
use ringmq::kafka::protocol::messages::create_topics::CreatableTopic;
use ringmq::kafka::protocol::messages::fetch::{FetchPartition, FetchTopic};
use ringmq::kafka::protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use ringmq::kafka::protocol::messages::{CreateTopicsRequest, FetchRequest, ProduceRequest};
use ringmq::kafka::protocol::{ErrorCode, Records};
use ringmq::model::Nanos;

use super::link::decode;
use super::machine::{Broker, Happened, PATIENCE, REQUEST_BYTES_MAX, Setup, address, format};

const LIMITS: MemoryLimits =
    MemoryLimits { connection_max: REQUEST_BYTES_MAX + (64 << 10), shard_max: 2 * REQUEST_BYTES_MAX };
const LARGE_BYTES: usize = 600 << 10;
/// What a client's first burst brings before its receive has stopped, and what a buffer grows for it.
const SOCKET_BYTES: usize = 32 << 10;
const BURST_BYTES: usize = 2 * SOCKET_BYTES;
const SEEDS: u64 = 5;
const PRODUCE: i16 = 9;
const FETCH: i16 = 11;
const CREATE: i16 = 5;

/// A broker, and the most that its clients may hold.
pub struct Play {
    world: SimWorld,
    broker: Broker,
    clients: usize,
}

pub struct Client {
    socket: ClientSocket,
    received: Vec<u8>,
}

impl Play {
    pub fn new(seed: u64, shards: u16) -> Play {
        let world = SimWorld::new(seed);
        world.set_socket_buffer_bytes(SOCKET_BYTES);
        let setup = Setup::for_large(LIMITS);
        format(&world, &setup);
        let mut ids = world.fork_rng();
        let broker = Broker::start(&world, &SimDisk::immediate(&world), &setup, shards, &mut ids, false);
        let broker = broker.unwrap_or_else(|error| panic!("a new directory: {error}"));
        let mut play = Play { world, broker, clients: 0 };
        let mut client = play.connect();
        for (name, num_partitions) in [("small", 2), ("large", 2)] {
            let mut request = CreateTopicsRequest { timeout_ms: 1000, ..Default::default() };
            request.topics.push(CreatableTopic {
                name,
                num_partitions,
                replication_factor: 1,
                ..Default::default()
            });
            client.send(CREATE, &request);
            play.answer(&mut client);
        }
        play
    }

    pub fn connect(&mut self) -> Client {
        self.clients += 1;
        Client { socket: self.world.connect(address()).expect("the broker listens"), received: Vec::new() }
    }

    fn after(&self, duration: Duration) -> Nanos {
        self.world.now().mono.plus(duration)
    }

    /// One step of the world; false when nothing happens any more before `until`.
    fn step(&mut self, until: Nanos) -> bool {
        match self.broker.step(until) {
            Happened::Inside => {
                let beside = FREE_BYTES + BURST_BYTES;
                let most = LIMITS.shard_max + REQUEST_BYTES_MAX + beside * self.clients;
                for held in self.broker.client_bytes() {
                    assert!(held <= most, "{held} bytes are held where {most} are allowed");
                }
            }
            Happened::Client(_) => {}
            Happened::Nothing => return false,
        }
        true
    }

    fn run_for(&mut self, duration: Duration) {
        let until = self.after(duration);
        while self.step(until) {}
    }

    /// The next response.
    pub fn answer(&mut self, client: &mut Client) -> Vec<u8> {
        let until = self.after(PATIENCE);
        loop {
            if let Some(frame) = client.hear() {
                return frame;
            }
            assert!(self.step(until), "no answer within {PATIENCE:?}");
        }
    }

    /// A well-behaved client writes a small batch and reads it back.
    fn goes_on(&mut self, client: &mut Client, round: i64) {
        client.send(PRODUCE, &produce("small", 0, &batch(100)));
        assert_eq!(produced(&self.answer(client)), ErrorCode::NONE);
        client.send(FETCH, &fetch("small", 0, round, 1 << 20));
        assert!(fetched_bytes(&self.answer(client)) > 0, "what was written comes back");
    }
}

impl Client {
    pub fn send<'m, M: Message<'m>>(&mut self, version: i16, request: &M) {
        self.socket.send(&frame(version, request));
    }

    fn hear(&mut self) -> Option<Vec<u8>> {
        self.received.extend(self.socket.recv());
        let Ok(Frame::Complete(range)) = first_response(&self.received, 64 << 20) else { return None };
        let frame = self.received[range.clone()].to_vec();
        self.received.drain(..range.end);
        Some(frame)
    }

    fn is_open(&self) -> bool {
        self.socket.state() == StreamState::Open
    }
}

fn frame<'m, M: Message<'m>>(version: i16, request: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_request(&mut bytes, version, 1, Some("greedy"), request).expect("fits");
    bytes
}

pub fn batch(bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(0, None, Some(&vec![7; bytes]), &[]);
    builder.finish()
}

pub fn produce<'a>(topic: &'a str, index: i32, records: &'a [u8]) -> ProduceRequest<'a> {
    let mut request = ProduceRequest { acks: -1, timeout_ms: 30_000, ..Default::default() };
    let data = PartitionProduceData { index, records: Some(records) };
    request.topic_data.push(TopicProduceData {
        name: topic,
        partition_data: [data].into_iter().collect(),
        ..Default::default()
    });
    request
}

fn produced(frame: &[u8]) -> ErrorCode {
    let Response::Produce(response) = decode(frame, ApiKey::Produce, PRODUCE) else {
        panic!("an answer of another kind")
    };
    response.responses[0].partition_responses[0].error_code
}

pub fn fetch(topic: &str, partition: i32, fetch_offset: i64, max_bytes: i32) -> FetchRequest<'_> {
    let mut request = FetchRequest { max_wait_ms: 500, min_bytes: 1, max_bytes, ..Default::default() };
    let wanted =
        FetchPartition { partition, fetch_offset, partition_max_bytes: max_bytes, ..Default::default() };
    request.topics.push(FetchTopic {
        topic,
        partitions: [wanted].into_iter().collect(),
        ..Default::default()
    });
    request
}

fn fetched_bytes(frame: &[u8]) -> usize {
    let Response::Fetch(response) = decode(frame, ApiKey::Fetch, FETCH) else {
        panic!("an answer of another kind")
    };
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::NONE);
    match partition.records {
        Records::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}

fn each_seed(shards: &[u16], play: impl Fn(u64, u16)) {
    for seed in super::seeds(0..SEEDS) {
        let command = format!("RINGMQ_SIM_SEED={seed} cargo test --test simulation greedy");
        for &shards in shards {
            super::replayed_by(&command, || play(seed, shards));
        }
    }
}

/// Six times what the shard may hold comes at once; all of it is taken, one after the other.
#[test]
fn large_requests_side_by_side_are_all_taken() {
    each_seed(&[1, 2], |seed, shards| {
        let mut play = Play::new(seed, shards);
        let mut neighbour = play.connect();
        let records = batch(LARGE_BYTES);
        let mut producers: Vec<Client> = (0..20).map(|_| play.connect()).collect();
        for (index, producer) in producers.iter_mut().enumerate() {
            producer.send(PRODUCE, &produce("large", index as i32 % 2, &records));
        }
        for round in 0..10 {
            play.goes_on(&mut neighbour, round);
        }
        for producer in &mut producers {
            assert_eq!(produced(&play.answer(producer)), ErrorCode::NONE, "seed {seed}");
        }
        assert_eq!(play.broker.stuck(), 0);
        play.run_for(Duration::from_secs(3));
        assert!(play.broker.client_bytes().all(|held| held == 0), "seed {seed}: something is held for ever");
    });
}

/// Who begins frames and does not go on holds up others that send large ones, and is closed for it.
#[test]
fn frames_that_never_end_hold_nobody_up_for_ever() {
    each_seed(&[1], |seed, shards| {
        let mut play = Play::new(seed, shards);
        let mut neighbour = play.connect();
        let records = batch(LARGE_BYTES);
        let whole = frame(PRODUCE, &produce("large", 0, &records));
        let greedy: Vec<Client> = (0..8).map(|_| play.connect()).collect();
        for client in &greedy {
            client.socket.send(&whole[..whole.len() - 1]);
        }
        play.run_for(Duration::from_secs(1));
        let mut honest: Vec<Client> = (0..3).map(|_| play.connect()).collect();
        for client in &honest {
            client.socket.send(&whole);
        }
        let until = play.after(Duration::from_secs(400));
        let mut round = 0;
        let mut answers = 0;
        while answers < honest.len() {
            assert!(play.world.now().mono < until, "seed {seed}: {answers} large requests were taken");
            play.goes_on(&mut neighbour, round);
            round += 1;
            play.run_for(Duration::from_secs(2));
            answers += honest.iter_mut().filter_map(Client::hear).count();
        }
        play.run_for(Duration::from_secs(1));
        let closed = greedy.iter().filter(|client| !client.is_open()).count();
        assert!(closed > 0 && play.broker.stuck() == closed as u64, "seed {seed}: {closed} closed");
        assert!(honest.iter().all(Client::is_open) && neighbour.is_open());
    });
}

/// Readers that ask for much and read nothing fill their share, and keep neither producers nor other
/// readers from going on, at the tail or behind it.
#[test]
fn responses_that_nobody_reads_hold_nobody_up() {
    each_seed(&[1, 2], |seed, shards| {
        let mut play = Play::new(seed, shards);
        let mut neighbour = play.connect();
        let records = batch(50 << 10);
        let mut offsets = 0;
        let mut grow = |play: &mut Play, neighbour: &mut Client| {
            neighbour.send(PRODUCE, &produce("large", 0, &records));
            assert_eq!(produced(&play.answer(neighbour)), ErrorCode::NONE);
            offsets += 1;
            offsets
        };
        while grow(&mut play, &mut neighbour) < 60 {}
        // What they ask for must not all fit into their sockets.
        play.world.set_socket_buffer_bytes(16 << 10);
        let mut hung: Vec<Client> = (0..60).map(|_| play.connect()).collect();
        for (index, client) in hung.iter_mut().enumerate() {
            for pipelined in 0..8 {
                client.send(FETCH, &fetch("large", 0, (index as i64 + pipelined * 7) % 60, 1 << 20));
            }
        }
        for round in 0..20 {
            play.goes_on(&mut neighbour, round);
            grow(&mut play, &mut neighbour);
            play.run_for(Duration::from_millis(100));
        }
        let used = play.broker.client_bytes().max().unwrap_or(0);
        assert!(used > LIMITS.shard_max / 2, "seed {seed}: only {used} bytes are held");
        // One reader behind the tail that reads what it gets; the others hold their memory until they
        // are closed for it.
        let mut reader = play.connect();
        let (mut offset, until) = (0, play.after(Duration::from_secs(600)));
        while offset < 60 {
            let (used, stuck) = (play.broker.client_bytes().max(), play.broker.stuck());
            let late = play.world.now().mono >= until;
            assert!(!late, "seed {seed}: reads only up to {offset}; {used:?} bytes held, {stuck} closed");
            reader.send(FETCH, &fetch("large", 0, offset, 1));
            offset += i64::from(fetched_bytes(&play.answer(&mut reader)) > 0);
        }
        assert!(neighbour.is_open() && reader.is_open());
        assert!(play.broker.stuck() > 0, "seed {seed}: nobody was closed");
    });
}

/// A fetch that may wait for a minute and is answered at once leaves nothing behind, and one that waits is
/// answered in time.
#[test]
fn deadlines_of_answered_fetches_are_forgotten() {
    let command = "cargo test --test simulation deadlines_of_answered_fetches_are_forgotten";
    super::replayed_by(command, || {
        let mut play = Play::new(0, 1);
        let mut client = play.connect();
        client.send(PRODUCE, &produce("small", 0, &batch(100)));
        assert_eq!(produced(&play.answer(&mut client)), ErrorCode::NONE);
        for round in 0..300 {
            let request = FetchRequest { max_wait_ms: 60_000 - round, ..fetch("small", 0, 0, 1 << 20) };
            client.send(FETCH, &request);
            assert!(fetched_bytes(&play.answer(&mut client)) > 0);
        }
        assert!(play.broker.deadlines() <= 1, "{} deadlines are kept", play.broker.deadlines());
        // The first in line waits longest; the later ones leave with it.
        for max_wait_ms in [900, 100, 500] {
            client.send(FETCH, &FetchRequest { max_wait_ms, ..fetch("small", 0, 1, 1 << 20) });
        }
        let asked = play.world.now().mono;
        for _ in 0..3 {
            assert_eq!(fetched_bytes(&play.answer(&mut client)), 0);
        }
        let waited_ms = play.world.now().mono.since(asked) / 1_000_000;
        assert!((900..1000).contains(&waited_ms), "{waited_ms} ms");
        client.socket.close();
        play.run_for(Duration::from_secs(1));
        assert_eq!(play.broker.deadlines(), 0);
    });
}
