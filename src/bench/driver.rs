//! What the engine asks of a protocol: requests that can be sent again, answers, reading back, and
//! what is asked beside the load.
//!
//! [`kafka`](super::kafka) is the first driver. A driver knows bytes and, but for [`Control`], no
//! sockets; frames are cut by [`transport`](super::transport).
//!
//! What differs between protocols is said by the driver: whether answers keep the order of requests,
//! how many partitions a fetch may name, and how many fetches a connection may have in flight. Kafka
//! answers in order, and one fetch names a thousand partitions; a protocol of pulls names one, has
//! many in flight, and answers when it can.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::error::BenchError;
use super::groups::{Members, Positions, Share};
use super::payload::Random;
use super::topics::Topics;

/// What makes a pre-encoded request another request.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    pub correlation: u32,
    /// Counted through all topics.
    pub partition: i32,
    /// Of the first record; the others follow.
    pub sequence: u64,
    /// Records of this request: at least one, at most [`Driver::records`].
    pub records: u32,
    /// When the records were due: one moment for all, or one for each.
    pub intended_ns: &'a [u64],
}

impl Stamp<'_> {
    /// When the record of this index was due.
    #[inline]
    pub fn intended_of(&self, index: usize) -> u64 {
        self.intended_ns[index.min(self.intended_ns.len() - 1)]
    }
}

/// Makes a stamped request the one that is sent: compresses its records.
pub trait Packer {
    /// Append what is to be sent to `out`.
    fn pack(&mut self, request: &[u8], out: &mut Vec<u8>);
}

/// An error code of the protocol, with its words where the driver has some: `7 (REQUEST_TIMED_OUT)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Code {
    pub number: i16,
    pub words: Option<&'static str>,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words {
            Some(words) => write!(f, "{} ({words})", self.number),
            None => write!(f, "{}", self.number),
        }
    }
}

/// The answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub correlation: u32,
    pub partition: i32,
    /// The base offset, or the protocol's error.
    pub result: Result<i64, Code>,
}

/// Where to read a partition on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchFrom {
    pub partition: i32,
    pub offset: i64,
}

/// What an answer has of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub partition: i32,
    pub error: Option<Code>,
    /// Where in the frame its records lie.
    pub records: Range<usize>,
}

/// Which end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Latest,
    Earliest,
}

/// The peer sent bytes that are not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer's answer is malformed: {0}")]
pub struct Malformed(pub &'static str);

/// A connection beside the load, which may wait for its answers.
pub trait Control: Send {
    /// The offset at one end of each of these partitions, which are sorted and led by this broker.
    ///
    /// # Errors
    /// The broker does not say.
    fn ends(&mut self, topics: &Topics, partitions: &[i32], end: End) -> Result<Vec<i64>, BenchError>;

    /// Say what the protocol wants to hear from a client from time to time, see
    /// [`Driver::tick_every`].
    ///
    /// # Errors
    /// The broker does not take it; the run is over then.
    fn tick(&mut self) -> Result<(), BenchError> {
        Ok(())
    }
}

pub trait Driver: Sync {
    /// The run that the records name.
    fn run(&self) -> u64;

    /// The most records of a request.
    fn records(&self) -> u32;

    /// Bytes of a request's records with what surrounds them as one: what counts as throughput. With
    /// all its records, before they are packed.
    fn batch_bytes(&self) -> usize;

    /// What has to become of a stamped request before it is sent; `None`: nothing.
    fn packer(&self) -> Option<Box<dyn Packer>>;

    /// Append a whole frame of `producer` with random bodies to `out`, and the checksum of every
    /// body to `body_crcs`. The frame's size is the same every time.
    fn encode_request(&self, producer: u32, random: &mut Random, out: &mut Vec<u8>, body_crcs: &mut Vec<u32>);

    /// Patch a frame made by [`encode_request`](Self::encode_request); returns its length, which is
    /// less than the whole when the stamp has fewer records.
    fn stamp_request(&self, request: &mut [u8], body_crcs: &[u32], stamp: &Stamp<'_>) -> usize;

    /// Whether requests are answered at all. Where they are not, one is over when it is sent.
    fn answers(&self) -> bool {
        true
    }

    fn parse_ack(&self, frame: &[u8]) -> Result<Ack, Malformed>;

    /// Whether the answers of a connection come in the order of its requests. Where they must, another
    /// order is a fault of the broker.
    fn answers_in_order(&self) -> bool;

    /// Partitions that one fetch may name.
    fn fetch_partitions_max(&self) -> usize;

    /// Fetches that a connection may have in flight.
    fn fetches_max(&self) -> usize;

    /// Append a frame that asks for records of `from`. `wait`: the peer may hold the answer back
    /// until there is something.
    fn encode_fetch(&self, correlation: u32, from: &[FetchFrom], wait: bool, out: &mut Vec<u8>);

    /// The correlation id of the fetch that a frame answers.
    fn fetched_correlation(&self, frame: &[u8]) -> Result<u32, Malformed>;

    /// What the answer has of each partition. `from`: what was asked for, as it was given to
    /// [`encode_fetch`](Self::encode_fetch).
    fn parse_fetch(
        &self,
        frame: &[u8],
        from: &[FetchFrom],
        parts: &mut VecDeque<Fetched>,
    ) -> Result<(), Malformed>;

    /// Give the first of these records to `record` (offset, value), until about `left` bytes of them, unpacked, are
    /// read; it is counted down. Returns how many bytes were read as they came, which is all of them at the end.
    fn parse_records(
        &self,
        records: &[u8],
        left: &mut usize,
        record: &mut dyn FnMut(i64, &[u8]),
    ) -> Result<usize, Malformed>;

    /// Whether an error of a fetch says that retention has removed what it asked for.
    fn is_removed(&self, code: Code) -> bool;

    /// A connection beside the load.
    ///
    /// # Errors
    /// Nobody answers at `address`, or not in this protocol.
    fn control(&self, address: SocketAddr) -> Result<Box<dyn Control>, BenchError>;

    /// How often [`Control::tick`] is called while the run goes on; `None`: never.
    fn tick_every(&self) -> Option<Duration> {
        None
    }

    /// Join the groups whose members read these shares. `address`: of any broker, which may name another
    /// that coordinates a group. `reconnect`: again when a connection is lost.
    ///
    /// # Errors
    /// The protocol or the broker has no groups that can be joined; they do not come together.
    fn join(
        &self,
        _address: SocketAddr,
        _shares: Vec<Share>,
        _positions: &[Arc<Positions>],
        _reconnect: bool,
    ) -> Result<Box<dyn Members>, BenchError> {
        Err(BenchError::Options("this protocol has no groups that can be joined".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_its_number_and_its_words_where_there_are_some() {
        assert_eq!(Code { number: 7, words: Some("LATE") }.to_string(), "7 (LATE)");
        assert_eq!(Code { number: 999, words: None }.to_string(), "999");
    }
}
