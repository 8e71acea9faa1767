//! What the engine asks of a protocol: requests that can be sent again, answers, and reading back.
//!
//! [`kafka`](super::kafka) is the first driver. A driver knows bytes and no sockets; frames are cut
//! by [`transport`](super::transport).

use super::payload::Random;

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

    /// The most records of a request.
    fn records(&self) -> u32;

    /// What has to become of a stamped request before it is sent; `None`: nothing.
    fn packer(&self) -> Option<Box<dyn Packer>>;

    /// Append a whole frame of `producer` with random bodies to `out`, and the checksum of every
    /// body to `body_crcs`. The frame's size is the same every time.
    fn encode_request(&self, producer: u32, random: &mut Random, out: &mut Vec<u8>, body_crcs: &mut Vec<u32>);

    /// Patch a frame made by [`encode_request`](Self::encode_request); returns its length, which is
    /// less than the whole when the stamp has fewer records.
    fn stamp_request(&self, request: &mut [u8], body_crcs: &[u32], stamp: &Stamp<'_>) -> usize;

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
