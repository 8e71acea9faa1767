//! Kafka's primitive types, as far as the generator needs them: fixed-width numbers, strings with a
//! 16-bit length, bytes and arrays with a 32-bit one, and the varints of records.
//!
//! A codec of its own, apart from the broker's: a generator that shared the broker's mistakes would
//! not find them. It speaks only versions before the compact encodings.

use crate::bench::driver::Malformed;

/// Borrowed decoding; every length is checked against what is there.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn i8(&mut self) -> Result<i8, Malformed> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// Null is empty.
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.i16()?;
        self.take(length.max(0) as usize)
    }

    /// Null is empty.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.i32()?;
        self.take(length.max(0) as usize)
    }

    /// The count of an array; null is empty. The elements' own decoding bounds it.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        Ok(self.i32()?.max(0) as usize)
    }

    /// A zigzag varint of at most 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<i64, Malformed> {
        let mut value = 0u64;
        for (index, &byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.0 = &self.0[index + 1..];
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Malformed("a varint does not end"))
    }
}

/// Encoding, appended to a buffer.
pub trait Writer {
    fn put(&mut self, bytes: &[u8]);

    fn i8(&mut self, value: i8) {
        self.put(&value.to_be_bytes());
    }

    fn i16(&mut self, value: i16) {
        self.put(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.put(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.put(&value.to_be_bytes());
    }

    fn string(&mut self, value: &str) {
        self.i16(i16::try_from(value.len()).expect("our own strings are short"));
        self.put(value.as_bytes());
    }

    fn null_string(&mut self) {
        self.i16(-1);
    }

    /// The count of an array, or the length of bytes.
    fn count(&mut self, count: usize) {
        self.i32(i32::try_from(count).expect("our own arrays are short"));
    }

    fn varint(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)) as u64;
        while rest >= 0x80 {
            self.put(&[rest as u8 | 0x80]);
            rest >>= 7;
        }
        self.put(&[rest as u8]);
    }
}

impl Writer for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// API keys and the version of each that we speak: the newest without compact encodings, or an older
/// one that says all we need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    pub key: i16,
    pub version: i16,
    pub name: &'static str,
}

impl Api {
    pub const PRODUCE: Api = Api { key: 0, version: 7, name: "Produce" };
    pub const FETCH: Api = Api { key: 1, version: 4, name: "Fetch" };
    pub const LIST_OFFSETS: Api = Api { key: 2, version: 1, name: "ListOffsets" };
    pub const METADATA: Api = Api { key: 3, version: 4, name: "Metadata" };
    pub const API_VERSIONS: Api = Api { key: 18, version: 0, name: "ApiVersions" };
    pub const CREATE_TOPICS: Api = Api { key: 19, version: 2, name: "CreateTopics" };
    pub const INIT_PRODUCER_ID: Api = Api { key: 22, version: 0, name: "InitProducerId" };
    pub const OFFSET_COMMIT: Api = Api { key: 8, version: 2, name: "OffsetCommit" };
    pub const OFFSET_FETCH: Api = Api { key: 9, version: 1, name: "OffsetFetch" };
    pub const FIND_COORDINATOR: Api = Api { key: 10, version: 0, name: "FindCoordinator" };
    pub const JOIN_GROUP: Api = Api { key: 11, version: 2, name: "JoinGroup" };
    pub const HEARTBEAT: Api = Api { key: 12, version: 1, name: "Heartbeat" };
    pub const LEAVE_GROUP: Api = Api { key: 13, version: 1, name: "LeaveGroup" };
    pub const SYNC_GROUP: Api = Api { key: 14, version: 1, name: "SyncGroup" };
    /// What it must offer for groups that are joined.
    pub const GROUPS: [Api; 7] = [
        Api::OFFSET_COMMIT,
        Api::OFFSET_FETCH,
        Api::FIND_COORDINATOR,
        Api::JOIN_GROUP,
        Api::HEARTBEAT,
        Api::LEAVE_GROUP,
        Api::SYNC_GROUP,
    ];
    /// What a server must offer to be loaded at all.
    pub const LOAD: [Api; 6] =
        [Api::PRODUCE, Api::FETCH, Api::LIST_OFFSETS, Api::METADATA, Api::API_VERSIONS, Api::CREATE_TOPICS];
    /// These, and what idempotent producers need: what the null sink offers.
    pub const ALL: [Api; 7] = [
        Api::PRODUCE,
        Api::FETCH,
        Api::LIST_OFFSETS,
        Api::METADATA,
        Api::API_VERSIONS,
        Api::CREATE_TOPICS,
        Api::INIT_PRODUCER_ID,
    ];
}

/// Append a frame: its length, the request header (version 1), and what `body` writes.
pub fn request(out: &mut Vec<u8>, api: Api, correlation: u32, body: impl FnOnce(&mut Vec<u8>)) {
    framed(out, |out| {
        out.i16(api.key);
        out.i16(api.version);
        out.i32(correlation as i32);
        out.string("ringmq-bench");
        body(out);
    });
}

/// Append a length and what `body` writes.
pub fn framed(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.i32(0);
    body(out);
    let length = i32::try_from(out.len() - start - 4).expect("our own frames are short");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back() {
        for value in [0, -1, 1, 63, 64, -64, -65, 300, i64::from(i32::MAX), i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            bytes.varint(value);
            let mut reader = Reader(&bytes);
            assert_eq!((reader.varint(), reader.0.len()), (Ok(value), 0));
            assert!(Reader(&bytes[..bytes.len() - 1]).varint().is_err());
        }
        assert!(Reader(&[0xff; 20]).varint().is_err());
    }

    #[test]
    fn lengths_beyond_the_frame_are_errors() {
        assert!(Reader(&[0x7f, 0xff, 0xff, 0xff, 0]).bytes().is_err());
        assert!(Reader(&[0x7f, 0xff, 0]).string().is_err());
        assert_eq!(Reader(&[0xff, 0xff]).string(), Ok(&[][..]));
    }
}
