//! What comes before the load, over one blocking connection: versions, the topic, its offsets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::ProducerId;
use super::codes::Code;
use super::topics::Topics;
use super::wire::{Api, Reader, Writer, request};
use crate::bench::driver::Malformed;
use crate::bench::error::BenchError;
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

/// Which end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Latest = -1,
    Earliest = -2,
}

/// A blocking connection to a broker whose versions fit ours.
pub struct Control<S = TcpStream> {
    stream: S,
    correlation: u32,
    /// Key and versions of each API that the broker speaks.
    offered: Vec<(i16, i16, i16)>,
}

/// The first address that a bootstrap of `host:port` names.
pub fn resolve(bootstrap: &str) -> Result<SocketAddr, BenchError> {
    let unknown = |reason| BenchError::Address { bootstrap: bootstrap.to_owned(), reason };
    let found = bootstrap.to_socket_addrs().map_err(unknown)?.next();
    found.ok_or_else(|| unknown(std::io::ErrorKind::NotFound.into()))
}

impl Control {
    /// Connect and compare versions.
    pub fn connect(address: SocketAddr) -> Result<Control, BenchError> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            Ok(stream)
        };
        let stream = connect().map_err(|reason| BenchError::Connect { address, reason })?;
        let control = Control::over(stream).map_err(|error| match error {
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

impl<S: Read + Write> Control<S> {
    /// Compare versions with a broker that is connected.
    pub fn over(stream: S) -> Result<Control<S>, BenchError> {
        let mut control = Control { stream, correlation: 0, offered: Vec::new() };
        control.ask_versions()?;
        control.require(&Api::ALL)?;
        Ok(control)
    }

    fn ask_versions(&mut self) -> Result<(), BenchError> {
        let answer = self.call(Api::API_VERSIONS, |_| ())?;
        let mut reader = Reader(&answer);
        let code = reader.i16()?;
        if code != 0 {
            return Err(BenchError::Refused { api: Api::API_VERSIONS.name, code: Code(code) });
        }
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

    /// [`prepare_topic`](Self::prepare_topic) for each.
    pub fn prepare(&mut self, topics: &Topics, configs: &[(String, String)]) -> Result<(), BenchError> {
        topics.names().iter().try_for_each(|name| self.prepare_topic(name, topics.partitions(), configs))
    }

    /// The offset at one end of each partition of all topics, as they are counted.
    pub fn ends(&mut self, topics: &Topics, end: End) -> Result<Vec<i64>, BenchError> {
        let mut ends = Vec::new();
        for name in topics.names() {
            ends.extend(self.offsets(name, topics.partitions(), end)?);
        }
        Ok(ends)
    }

    /// Create the topic unless it exists, and wait until every partition has its leader.
    ///
    /// `configs`: names and values of the topic's configuration, used only when it is new.
    ///
    /// # Errors
    /// The topic exists with fewer partitions; it has leaders on several nodes.
    pub fn prepare_topic(
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
            let code = reader.i16()?;
            let message = String::from_utf8_lossy(reader.string()?).into_owned();
            if code != 0 && code != TOPIC_ALREADY_EXISTS {
                return Err(BenchError::Topic { topic: topic.to_owned(), code: Code(code), message });
            }
        }
        self.wait_for_leaders(topic, partitions)
    }

    fn wait_for_leaders(&mut self, topic: &str, partitions: u32) -> Result<(), BenchError> {
        let deadline = Instant::now() + TOPIC_TIMEOUT;
        loop {
            let found = self.leaders(topic)?;
            match found {
                Ok(leaders) if leaders.iter().all(|&leader| leader >= 0) => {
                    if leaders.len() < partitions as usize {
                        return Err(BenchError::Partitions { topic: topic.to_owned(), found: leaders.len() });
                    }
                    if leaders.iter().any(|leader| *leader != leaders[0]) {
                        return Err(BenchError::SeveralNodes);
                    }
                    return Ok(());
                }
                Ok(_) | Err(UNKNOWN_TOPIC_OR_PARTITION | LEADER_NOT_AVAILABLE)
                    if Instant::now() < deadline =>
                {
                    std::thread::sleep(TOPIC_POLL);
                }
                Ok(_) => return Err(BenchError::NoLeader { topic: topic.to_owned() }),
                Err(code) => {
                    return Err(BenchError::Topic {
                        topic: topic.to_owned(),
                        code: Code(code),
                        message: String::new(),
                    });
                }
            }
        }
    }

    /// The leader of every partition (-1: none), or the topic's error code.
    pub fn leaders(&mut self, topic: &str) -> Result<Result<Vec<i32>, i16>, BenchError> {
        let answer = self.call(Api::METADATA, |out| {
            out.count(1);
            out.string(topic);
            out.i8(0);
        })?;
        let mut reader = Reader(&answer);
        let _throttle_ms = reader.i32()?;
        for _ in 0..reader.count()? {
            let _node = reader.i32()?;
            reader.string()?;
            let _port = reader.i32()?;
            let _rack = reader.string()?;
        }
        let _cluster = reader.string()?;
        let _controller = reader.i32()?;
        if reader.count()? != 1 {
            return Err(Malformed("metadata of another number of topics").into());
        }
        let topic_code = reader.i16()?;
        reader.string()?;
        let _internal = reader.i8()?;
        let mut leaders = Vec::new();
        for _ in 0..reader.count()? {
            let _code = reader.i16()?;
            let _index = reader.i32()?;
            leaders.push(reader.i32()?);
            for _replicas_then_isr in 0..2 {
                let count = reader.count()?;
                reader.take(count.saturating_mul(4))?;
            }
        }
        Ok(if topic_code == 0 { Ok(leaders) } else { Err(topic_code) })
    }

    /// The offset at one end of each partition of `0..partitions`.
    ///
    /// Kafka announces the leaders of a new topic before they know that they lead: until then they refuse.
    pub fn offsets(&mut self, topic: &str, partitions: u32, end: End) -> Result<Vec<i64>, BenchError> {
        self.until_ready(
            &[UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER],
            |control| control.offsets_now(topic, partitions, end),
        )
    }

    /// Ask again while the answer is one of `codes`: a broker that has not finished what it began.
    fn until_ready<T>(
        &mut self,
        codes: &[i16],
        mut ask: impl FnMut(&mut Control<S>) -> Result<T, BenchError>,
    ) -> Result<T, BenchError> {
        let deadline = Instant::now() + TOPIC_TIMEOUT;
        loop {
            match ask(self) {
                Err(BenchError::Refused { code: Code(code), .. })
                    if codes.contains(&code) && Instant::now() < deadline =>
                {
                    std::thread::sleep(TOPIC_POLL);
                }
                result => return result,
            }
        }
    }

    fn offsets_now(&mut self, topic: &str, partitions: u32, end: End) -> Result<Vec<i64>, BenchError> {
        let mut offsets = vec![None; partitions as usize];
        for from in (0..partitions as usize).step_by(LIST_PARTITIONS) {
            let indices = from..offsets.len().min(from + LIST_PARTITIONS);
            let answer = self.call(Api::LIST_OFFSETS, |out| {
                out.i32(-1);
                out.count(1);
                out.string(topic);
                out.count(indices.len());
                for index in indices {
                    out.i32(index as i32);
                    out.i64(end as i64);
                }
            })?;
            let mut reader = Reader(&answer);
            for _ in 0..reader.count()? {
                reader.string()?;
                for _ in 0..reader.count()? {
                    let index = reader.i32()?;
                    let code = reader.i16()?;
                    let _timestamp = reader.i64()?;
                    // -1 stands for "none".
                    let offset = reader.i64()?.max(0);
                    if code != 0 {
                        return Err(BenchError::Refused { api: Api::LIST_OFFSETS.name, code: Code(code) });
                    }
                    let known = usize::try_from(index).ok().and_then(|index| offsets.get_mut(index));
                    *known.ok_or(Malformed("offsets of a partition that was not asked for"))? = Some(offset);
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
        self.until_ready(&[COORDINATOR_LOAD_IN_PROGRESS], Control::producer_id_now)
    }

    fn producer_id_now(&mut self) -> Result<ProducerId, BenchError> {
        let answer = self.call(Api::INIT_PRODUCER_ID, |out| {
            out.null_string();
            out.i32(CREATE_TIMEOUT_MS);
        })?;
        let mut reader = Reader(&answer);
        let _throttle_ms = reader.i32()?;
        let code = reader.i16()?;
        if code != 0 {
            return Err(BenchError::Refused { api: Api::INIT_PRODUCER_ID.name, code: Code(code) });
        }
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
