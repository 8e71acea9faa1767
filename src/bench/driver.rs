//! What the engine asks of a protocol: requests that can be sent again, answers, and reading back.
//!
//! [`kafka`](super::kafka) is the first driver. A driver knows bytes and no sockets; frames are cut
//! by [`transport`](super::transport).

use super::payload::Random;

/// What makes a pre-encoded request another request.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub correlation: u32,
    pub partition: i32,
    /// Of the first record; the others follow.
    pub sequence: u64,
    pub intended_ns: u64,
}

/// The answer to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub correlation: u32,
    pub partition: i32,
    /// The base offset, or the protocol's error code.
    pub result: Result<i64, i16>,
}

/// Where to read a partition on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchFrom {
    pub partition: i32,
    pub offset: i64,
}

/// The peer sent bytes that are not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer's answer is malformed: {0}")]
pub struct Malformed(pub &'static str);

pub trait Driver: Sync {
    /// The run that the records name.
    fn run(&self) -> u64;

    /// Records of a request.
    fn records(&self) -> u32;

    /// Append a whole frame of `producer` with random bodies to `out`, and the checksum of every
    /// body to `body_crcs`. The frame's size is the same every time.
    fn encode_request(&self, producer: u32, random: &mut Random, out: &mut Vec<u8>, body_crcs: &mut Vec<u32>);

    /// Patch a frame made by [`encode_request`](Self::encode_request).
    fn stamp_request(&self, request: &mut [u8], body_crcs: &[u32], stamp: &Stamp);

    fn parse_ack(&self, frame: &[u8]) -> Result<Ack, Malformed>;

    /// Append a frame that asks for records of `from`. `wait`: the peer may hold the answer back
    /// until there is something.
    fn encode_fetch(&self, correlation: u32, from: &[FetchFrom], wait: bool, out: &mut Vec<u8>);

    /// Give every record of the answer to `record` (partition, offset, value) and every partition's
    /// error to `error`.
    fn parse_fetch(
        &self,
        frame: &[u8],
        correlation: u32,
        record: &mut dyn FnMut(i32, i64, &[u8]),
        error: &mut dyn FnMut(i32, i16),
    ) -> Result<(), Malformed>;
}
