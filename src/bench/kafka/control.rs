//! What comes before the load and beside it, over one blocking connection: versions, the topic and
//! who leads it, its offsets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::ProducerId;
use super::codes::code;
use super::wire::{Api, Reader, Writer, request};
use crate::bench::driver::{Control, End, Malformed};
use crate::bench::error::BenchError;
use crate::bench::topics::Topics;
use crate::bench::transport::FRAME_BYTES_MAX;

const TIMEOUT: Duration = Duration::from_secs(10);
/// A new topic of many partitions takes a while to get its leaders.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(60);
const TOPIC_POLL: Duration = Duration::from_millis(20);
const CREATE_TIMEOUT_MS: i32 = TOPIC_TIMEOUT.as_millis() as i32;
/// Partitions asked for in one ListOffsets request.
const LIST_PARTITIONS: usize = 10_000;

const TOPIC_ALREADY_EXISTS: i16 = 36;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;

/// A blocking connection to a broker whose versions fit ours.
pub struct KafkaControl<S = TcpStream> {
    stream: S,
    correlation: u32,
    /// Key and versions of each API that the broker speaks.
    offered: Vec<(i16, i16, i16)>,
}

/// A broker as its cluster names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: i32,
    /// HOST:PORT.
    pub address: String,
}

/// What a broker says of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// All brokers.
    pub nodes: Vec<Node>,
    /// The leader's id, by partition of one topic or counted through several; -1: none.
    pub leaders: Vec<i32>,
}

/// Every address that a bootstrap names: `host:port`, or several with commas.
pub fn resolve(bootstrap: &str) -> Result<Vec<SocketAddr>, BenchError> {
    let (mut found, mut failure) = (Vec::new(), None);
    for server in bootstrap.split(',') {
        match server.trim().to_socket_addrs() {
            Ok(addresses) => found.extend(addresses),
            Err(reason) => failure = Some(reason),
        }
    }
    if found.is_empty() {
        let reason = failure.unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
        return Err(BenchError::Address { bootstrap: bootstrap.to_owned(), reason });
    }
    Ok(found)
}

/// Connect to the first of `addresses` that takes connections: a name may stand for several, and of a
/// cluster some may be down.
pub fn connect_any(addresses: &[SocketAddr]) -> Result<(SocketAddr, KafkaControl), BenchError> {
    let mut refused = None;
    for &address in addresses {
        match KafkaControl::connect(address) {
            Ok(control) => return Ok((address, control)),
            Err(error @ BenchError::Connect { .. }) => _ = refused.get_or_insert(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.expect("at least one address was resolved"))
}

/// Go to a node of the cluster as a client would, unless it is the one at `asked`. `what`: who it is.
pub fn follow(
    asked: SocketAddr,
    what: &'static str,
    node: &str,
) -> Result<Option<(SocketAddr, KafkaControl)>, BenchError> {
    let theirs = resolve(node);
    if theirs.as_ref().is_ok_and(|theirs| theirs.contains(&asked)) {
        return Ok(None);
    }
    theirs.and_then(|theirs| connect_any(&theirs)).map(Some).map_err(|error| BenchError::Node {
        what,
        node: node.to_owned(),
        reason: error.to_string(),
    })
}

impl KafkaControl {
    /// Connect and compare versions.
    pub fn connect(address: SocketAddr) -> Result<KafkaControl, BenchError> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            Ok(stream)
        };
        let stream = connect().map_err(|reason| BenchError::Connect { address, reason })?;
        let control = KafkaControl::over(stream).map_err(|error| match error {
            // The first answer tells a broker from other servers.
            BenchError::Connection { .. } | BenchError::Malformed(_) => {
                BenchError::NotKafka { address, reason: error.to_string() }
            }
            error => error,
        })?;
        // Creating many partitions is the slowest of the requests.
        let patient = control.stream.set_read_timeout(Some(TOPIC_TIMEOUT));
        patient.map_err(|reason| BenchError::Connect { address, reason })?;
        Ok(control)
    }
}

impl Control for KafkaControl {
    fn ends(&mut self, topics: &Topics, partitions: &[i32], end: End) -> Result<Vec<i64>, BenchError> {
        let mut ends = Vec::new();
        for of_topic in partitions.chunk_by(|a, b| topics.place(*a).0 == topics.place(*b).0) {
            let (topic, _) = topics.place(of_topic[0]);
            let numbers: Vec<i32> = of_topic.iter().map(|&counted| topics.place(counted).1).collect();
            ends.extend(self.offsets(&topics.names()[topic], &numbers, end)?);
        }
        Ok(ends)
    }
}

impl<S: Read + Write> KafkaControl<S> {
    /// Compare versions with a broker that is connected.
    pub fn over(stream: S) -> Result<KafkaControl<S>, BenchError> {
        let mut control = KafkaControl { stream, correlation: 0, offered: Vec::new() };
        control.ask_versions()?;
        control.require(&Api::LOAD)?;
        Ok(control)
    }

    fn ask_versions(&mut self) -> Result<(), BenchError> {
        let answer = self.call(Api::API_VERSIONS, |_| ())?;
        let mut reader = Reader(&answer);
        refuse(Api::API_VERSIONS, reader.i16()?)?;
        for _ in 0..reader.count()? {
            self.offered.push((reader.i16()?, reader.i16()?, reader.i16()?));
        }
        Ok(())
    }

    /// # Errors
    /// The broker does not speak one of them in our version.
    pub fn require(&self, apis: &[Api]) -> Result<(), BenchError> {
        for api in apis {
            let fits =
                |&(key, min, max): &(i16, i16, i16)| key == api.key && (min..=max).contains(&api.version);
            if !self.offered.iter().any(fits) {
                return Err(BenchError::Version { api: api.name, version: api.version });
            }
        }
        Ok(())
    }

    /// [`prepare_topic`](Self::prepare_topic) for each. The leaders are those of the counted partitions.
    ///
    /// # Errors
    /// Those of one of them.
    pub fn prepare(&mut self, topics: &Topics, configs: &[(String, String)]) -> Result<Metadata, BenchError> {
        let mut all = Metadata::default();
        for name in topics.names() {
            let Metadata { nodes, leaders } = self.prepare_topic(name, topics.partitions(), configs)?;
            all.nodes = nodes;
            all.leaders.extend(leaders);
        }
        Ok(all)
    }

    /// Create the topic unless it exists, and wait until every partition has its leader.
    ///
    /// `configs`: names and values of the topic's configuration, used only when it is new.
    ///
    /// # Errors
    /// The topic exists with fewer partitions; a partition gets no leader.
    pub fn prepare_topic(
        &mut self,
        topic: &str,
        partitions: u32,
        configs: &[(String, String)],
    ) -> Result<Metadata, BenchError> {
        self.create_topic(topic, partitions, configs)?;
        self.wait_for_leaders(topic, partitions)
    }

    /// Create the topic unless it exists.
    pub fn create_topic(
        &mut self,
        topic: &str,
        partitions: u32,
        configs: &[(String, String)],
    ) -> Result<(), BenchError> {
        let answer = self.call(Api::CREATE_TOPICS, |out| {
            out.count(1);
            out.string(topic);
            out.i32(partitions as i32);
            out.i16(1);
            out.count(0);
            out.count(configs.len());
            for (name, value) in configs {
                out.string(name);
                out.string(value);
            }
            out.i32(CREATE_TIMEOUT_MS);
            out.i8(0);
        })?;
        let mut reader = Reader(&answer);
        let _throttle_ms = reader.i32()?;
        for _ in 0..reader.count()? {
            reader.string()?;
            let number = reader.i16()?;
            let message = String::from_utf8_lossy(reader.string()?).into_owned();
            if number != 0 && number != TOPIC_ALREADY_EXISTS {
                return Err(BenchError::Topic { topic: topic.to_owned(), code: code(number), message });
            }
        }
        Ok(())
    }

    /// Of a topic that has more partitions, the first so many.
    fn wait_for_leaders(&mut self, topic: &str, partitions: u32) -> Result<Metadata, BenchError> {
        let deadline = Instant::now() + TOPIC_TIMEOUT;
        loop {
            match self.metadata(topic)? {
                Ok(Metadata { nodes, mut leaders }) if leaders.iter().all(|&leader| leader >= 0) => {
                    let found = leaders.len();
                    if found < partitions as usize {
                        return Err(BenchError::Partitions { topic: topic.to_owned(), found });
                    }
                    leaders.truncate(partitions as usize);
                    return Ok(Metadata { nodes, leaders });
                }
                Ok(_) | Err(UNKNOWN_TOPIC_OR_PARTITION | LEADER_NOT_AVAILABLE)
                    if Instant::now() < deadline =>
                {
                    std::thread::sleep(TOPIC_POLL);
                }
                Ok(_) => return Err(BenchError::NoLeader { topic: topic.to_owned() }),
                Err(number) => {
                    return Err(BenchError::Topic {
                        topic: topic.to_owned(),
                        code: code(number),
                        message: String::new(),
                    });
                }
            }
        }
    }

    /// The leader of every partition, or the topic's error code.
    pub fn metadata(&mut self, topic: &str) -> Result<Result<Metadata, i16>, BenchError> {
        let answer = self.call(Api::METADATA, |out| {
            out.count(1);
            out.string(topic);
            out.i8(0);
        })?;
        let mut reader = Reader(&answer);
        let _throttle_ms = reader.i32()?;
        let mut nodes = Vec::new();
        for _ in 0..reader.count()? {
            let id = reader.i32()?;
            let host = String::from_utf8_lossy(reader.string()?).into_owned();
            let port = reader.i32()?;
            let _rack = reader.string()?;
            nodes.push(Node { id, address: format!("{host}:{port}") });
        }
        let _cluster = reader.string()?;
        let _controller = reader.i32()?;
        if reader.count()? != 1 {
            return Err(Malformed("metadata of another number of topics").into());
        }
        let topic_code = reader.i16()?;
        reader.string()?;
        let _internal = reader.i8()?;
        // Their order is the broker's choice.
        let mut led = Vec::new();
        for _ in 0..reader.count()? {
            let _code = reader.i16()?;
            led.push((reader.i32()?, reader.i32()?));
            for _replicas_then_isr in 0..2 {
                let count = reader.count()?;
                reader.take(count.saturating_mul(4))?;
            }
        }
        if topic_code != 0 {
            return Ok(Err(topic_code));
        }
        led.sort_unstable();
        if (0..).zip(&led).any(|(index, (partition, _))| index != *partition) {
            return Err(Malformed("metadata of partitions that are not numbered through").into());
        }
        Ok(Ok(Metadata { nodes, leaders: led.into_iter().map(|(_, leader)| leader).collect() }))
    }

    /// The offset at one end of each of these partitions, which are sorted.
    ///
    /// Kafka announces the leaders of a new topic before they know that they lead: until then they refuse.
    pub fn offsets(&mut self, topic: &str, partitions: &[i32], end: End) -> Result<Vec<i64>, BenchError> {
        self.until_ready(
            &[UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER],
            |control| control.offsets_now(topic, partitions, end),
        )
    }

    /// Ask again while the answer is one of `codes`: a broker that has not finished what it began.
    fn until_ready<T>(
        &mut self,
        codes: &[i16],
        mut ask: impl FnMut(&mut KafkaControl<S>) -> Result<T, BenchError>,
    ) -> Result<T, BenchError> {
        let deadline = Instant::now() + TOPIC_TIMEOUT;
        loop {
            match ask(self) {
                Err(BenchError::Refused { code, .. })
                    if codes.contains(&code.number) && Instant::now() < deadline =>
                {
                    std::thread::sleep(TOPIC_POLL);
                }
                result => return result,
            }
        }
    }

    fn offsets_now(&mut self, topic: &str, partitions: &[i32], end: End) -> Result<Vec<i64>, BenchError> {
        let mut offsets = vec![None; partitions.len()];
        // How the protocol names the ends among times.
        let time = match end {
            End::Latest => -1,
            End::Earliest => -2,
        };
        for some in partitions.chunks(LIST_PARTITIONS) {
            let answer = self.call(Api::LIST_OFFSETS, |out| {
                out.i32(-1);
                out.count(1);
                out.string(topic);
                out.count(some.len());
                for &partition in some {
                    out.i32(partition);
                    out.i64(time);
                }
            })?;
            let mut reader = Reader(&answer);
            for _ in 0..reader.count()? {
                reader.string()?;
                for _ in 0..reader.count()? {
                    let partition = reader.i32()?;
                    let code = reader.i16()?;
                    let _timestamp = reader.i64()?;
                    // -1 stands for "none".
                    let offset = reader.i64()?.max(0);
                    refuse(Api::LIST_OFFSETS, code)?;
                    let index = partitions
                        .binary_search(&partition)
                        .map_err(|_| Malformed("offsets of a partition that was not asked for"))?;
                    offsets[index] = Some(offset);
                }
            }
        }
        let missing = || Malformed("the offset of a partition is missing");
        Ok(offsets.into_iter().map(|offset| offset.ok_or_else(missing)).collect::<Result<_, _>>()?)
    }

    /// The id and epoch of a new idempotent producer.
    ///
    /// Kafka has none to give before it has fetched its first block of them.
    pub fn producer_id(&mut self) -> Result<ProducerId, BenchError> {
        self.until_ready(&[COORDINATOR_LOAD_IN_PROGRESS], KafkaControl::producer_id_now)
    }

    fn producer_id_now(&mut self) -> Result<ProducerId, BenchError> {
        let answer = self.call(Api::INIT_PRODUCER_ID, |out| {
            out.null_string();
            out.i32(CREATE_TIMEOUT_MS);
        })?;
        let mut reader = Reader(&answer);
        let _throttle_ms = reader.i32()?;
        refuse(Api::INIT_PRODUCER_ID, reader.i16()?)?;
        Ok(ProducerId { id: reader.i64()?, epoch: reader.i16()? })
    }

    /// One request and its answer, without header.
    pub(super) fn call(&mut self, api: Api, body: impl FnOnce(&mut Vec<u8>)) -> Result<Vec<u8>, BenchError> {
        self.correlation += 1;
        let mut frame = Vec::new();
        request(&mut frame, api, self.correlation, body);
        let lost = |reason| BenchError::Connection { during: api.name, reason };
        self.stream.write_all(&frame).map_err(lost)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(lost)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(Malformed("a frame that is far too long").into());
        }
        let mut answer = Vec::new();
        // `take` and not an allocation of the announced size.
        Read::by_ref(&mut self.stream).take(length as u64).read_to_end(&mut answer).map_err(lost)?;
        if answer.len() < length {
            return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
        }
        if Reader(&answer).i32()? as u32 != self.correlation {
            return Err(Malformed("an answer out of turn").into());
        }
        answer.drain(..4);
        Ok(answer)
    }
}

/// An error code other than 0 is an error.
fn refuse(api: Api, number: i16) -> Result<(), BenchError> {
    match number {
        0 => Ok(()),
        number => Err(BenchError::Refused { api: api.name, code: code(number) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker that answers the requests 1, 2, ... with these bodies.
    struct Script(std::io::Cursor<Vec<u8>>);

    impl Script {
        fn new(bodies: &[Vec<u8>]) -> Script {
            let mut answers = Vec::new();
            for (correlation, body) in (1..).zip(bodies) {
                answers.count(body.len() + 4);
                answers.i32(correlation);
                answers.put(body);
            }
            Script(std::io::Cursor::new(answers))
        }
    }

    impl Read for Script {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl Write for Script {
        fn write(&mut self, request: &[u8]) -> std::io::Result<usize> {
            Ok(request.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn versions(apis: &[Api]) -> Vec<u8> {
        let mut out = Vec::new();
        out.i16(0);
        out.count(apis.len());
        for api in apis {
            out.i16(api.key);
            out.i16(0);
            out.i16(api.version);
        }
        out
    }

    fn created(topic: &str) -> Vec<u8> {
        let mut out = Vec::new();
        out.i32(0);
        out.count(1);
        out.string(topic);
        out.i16(TOPIC_ALREADY_EXISTS);
        out.null_string();
        out
    }

    /// Nodes 1, 2, ... at ports 9001, 9002, ...; partitions and their leaders.
    fn metadata(topic: &str, nodes: i32, leaders: &[(i32, i32)]) -> Vec<u8> {
        let mut out = Vec::new();
        out.i32(0);
        out.i32(nodes);
        for id in 1..=nodes {
            out.i32(id);
            out.string("host");
            out.i32(9000 + id);
            out.null_string();
        }
        out.null_string();
        out.i32(1);
        out.count(1);
        out.i16(0);
        out.string(topic);
        out.i8(0);
        out.count(leaders.len());
        for (partition, leader) in leaders {
            out.i16(0);
            out.i32(*partition);
            out.i32(*leader);
            out.i32(0);
            out.i32(0);
        }
        out
    }

    fn prepare(count: u32, answers: &[Vec<u8>]) -> Result<Metadata, BenchError> {
        let bodies = [&[versions(&Api::LOAD)][..], answers].concat();
        KafkaControl::over(Script::new(&bodies))?.prepare(&Topics::new("t", count, 2), &[])
    }

    #[test]
    fn every_partition_has_its_own_leader_whatever_the_order_of_an_answer() {
        let node = |id| Node { id, address: format!("host:{}", 9000 + id) };
        // The topic has a partition more than is loaded.
        let one = prepare(1, &[created("t"), metadata("t", 2, &[(1, 2), (2, 1), (0, 1)])]).unwrap();
        assert_eq!(one, Metadata { nodes: vec![node(1), node(2)], leaders: vec![1, 2] });
        let (first, second) = ([(0, 1), (1, 1)], [(1, 1), (0, 3)]);
        let topics =
            [created("t-0"), metadata("t-0", 3, &first), created("t-1"), metadata("t-1", 3, &second)];
        assert_eq!(prepare(2, &topics).unwrap().leaders, [1, 1, 3, 1], "counted through");
        for wrong in [[(0, 1), (2, 1)], [(1, 1), (1, 1)]] {
            let answer = prepare(1, &[created("t"), metadata("t", 2, &wrong)]);
            assert!(matches!(answer, Err(BenchError::Malformed(_))), "{answer:?}");
        }
        let few = prepare(1, &[created("t"), metadata("t", 2, &[(0, 1)])]);
        assert!(matches!(few, Err(BenchError::Partitions { found: 1, .. })), "{few:?}");
    }

    #[test]
    fn producer_ids_are_asked_for_only_where_they_are_needed() {
        let control = KafkaControl::over(Script::new(&[versions(&Api::LOAD)])).unwrap();
        let missing = control.require(&[Api::INIT_PRODUCER_ID]).unwrap_err();
        assert!(missing.to_string().contains("does not speak InitProducerId"), "{missing}");
        let none = KafkaControl::over(Script::new(&[versions(&[])]));
        assert!(matches!(none, Err(BenchError::Version { .. })));
    }

    #[test]
    fn every_address_of_a_bootstrap_is_tried() {
        use crate::bench::sink::{Null, Sink};

        let sink = Sink::start(Null::default(), 1, None).unwrap();
        // A port that was free a moment ago, and is nobody's now.
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let addresses = resolve(&format!("{nobody}, {}", sink.address())).unwrap();
        assert_eq!(addresses, [nobody, sink.address()]);
        assert_eq!(connect_any(&addresses).unwrap().0, sink.address());
        let error = connect_any(&[nobody]).err().unwrap().to_string();
        assert!(error.contains(&nobody.to_string()) && error.contains("is the broker up?"), "{error}");
        for wrong in ["nowhere", "", ","] {
            assert!(matches!(resolve(wrong), Err(BenchError::Address { .. })), "{wrong:?}");
        }
    }
}
