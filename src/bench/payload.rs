//! What a record of a run says about itself, so that the reader can tell lost, repeated, swapped and
//! damaged records apart.
//!
//! ```text
//! 0         4        12        16         24          32
//! | checksum |   run  | producer | sequence | intended ns | random bytes ... |
//! ```
//!
//! Big-endian. The checksum is the CRC-32C of the random bytes *followed by* bytes 4..32: the part
//! that differs from send to send comes last, so that stamping a record costs 28 bytes of checksum
//! whatever its size.

use std::sync::Arc;

use crate::base::crc::{crc32c, crc32c_append};

/// The least size of a record's value.
pub const HEADER_BYTES: usize = 32;

/// Sequence and time are stamped on every send; run and producer are part of the template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Told apart from earlier runs on the same topic.
    pub run: u64,
    pub producer: u32,
    /// Counts the records of one producer in one partition, from 0.
    pub sequence: u64,
    /// When the record was due, in nanoseconds of the run's clock.
    pub intended_ns: u64,
}

/// What stands behind a payload's header.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// This share of the bytes is random and the rest is zeros: about what a compressor leaves.
    Random { share: f64 },
    /// The bytes of a file, from the header's end on; the first are the header's.
    File(Arc<[u8]>),
}

impl Default for Body {
    fn default() -> Body {
        Body::Random { share: 1.0 }
    }
}

/// Random bytes and zeros take turns within so many bytes, so that no part of a body is all zeros.
const STRETCH_BYTES: usize = 64;

impl Body {
    fn fill(&self, body: &mut [u8], random: &mut Random) {
        match self {
            Body::Random { share } => {
                let random_bytes = (STRETCH_BYTES as f64 * share).round() as usize;
                for stretch in body.chunks_mut(STRETCH_BYTES) {
                    let (noise, zeros) = stretch.split_at_mut(random_bytes.min(stretch.len()));
                    random.fill(noise);
                    zeros.fill(0);
                }
            }
            Body::File(bytes) => body.copy_from_slice(&bytes[HEADER_BYTES..]),
        }
    }
}

/// Fill `value` with a body and the fields that never change; returns the body's checksum, which
/// [`stamp`] wants back.
pub fn prepare(value: &mut [u8], run: u64, producer: u32, body: &Body, random: &mut Random) -> u32 {
    assert!(value.len() >= HEADER_BYTES);
    value[4..12].copy_from_slice(&run.to_be_bytes());
    value[12..16].copy_from_slice(&producer.to_be_bytes());
    body.fill(&mut value[HEADER_BYTES..], random);
    crc32c(&value[HEADER_BYTES..])
}

/// Make a prepared `value` the record `sequence`.
#[inline]
pub fn stamp(value: &mut [u8], body_crc: u32, sequence: u64, intended_ns: u64) {
    value[16..24].copy_from_slice(&sequence.to_be_bytes());
    value[24..32].copy_from_slice(&intended_ns.to_be_bytes());
    let checksum = crc32c_append(body_crc, &value[4..HEADER_BYTES]);
    value[0..4].copy_from_slice(&checksum.to_be_bytes());
}

/// The payload of a record that was read, or `None` when it is damaged.
#[inline]
pub fn check(value: &[u8]) -> Option<Payload> {
    let (header, body) = value.split_at_checked(HEADER_BYTES)?;
    let checksum = u32::from_be_bytes(field(header, 0));
    if crc32c_append(crc32c(body), &header[4..]) != checksum {
        return None;
    }
    Some(Payload {
        run: u64::from_be_bytes(field(header, 4)),
        producer: u32::from_be_bytes(field(header, 12)),
        sequence: u64::from_be_bytes(field(header, 16)),
        intended_ns: u64::from_be_bytes(field(header, 24)),
    })
}

/// `N` bytes of a header that is known to be long enough.
#[inline]
fn field<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    header[at..at + N].try_into().expect("a slice of N bytes")
}

/// Bytes that do not compress; the same seed gives the same bytes (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            let random = self.next().to_le_bytes();
            word.copy_from_slice(&random[..word.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stamped_is_read_and_every_flipped_bit_is_seen() {
        let mut value = vec![0; 100];
        let body = prepare(&mut value, 7, 3, &Body::default(), &mut Random(1));
        stamp(&mut value, body, 41, 9);
        stamp(&mut value, body, 42, 10);
        assert_eq!(check(&value), Some(Payload { run: 7, producer: 3, sequence: 42, intended_ns: 10 }));
        for bit in 0..value.len() * 8 {
            value[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(&value), None, "bit {bit}");
            value[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(check(&value[..HEADER_BYTES - 1]), None);
    }

    #[test]
    fn a_body_is_as_random_as_asked_or_a_file() {
        for share in [0.0, 0.25, 0.5, 1.0] {
            let mut value = vec![1; HEADER_BYTES + 6400];
            prepare(&mut value, 0, 0, &Body::Random { share }, &mut Random(1));
            let zeros = value[HEADER_BYTES..].iter().filter(|&&byte| byte == 0).count() as f64;
            // A random byte is zero now and then.
            assert!((zeros / 6400.0 - (1.0 - share)).abs() < 0.01, "{share}: {zeros}");
        }
        let file: Arc<[u8]> = (0..100).collect();
        let mut value = vec![0; 100];
        let crc = prepare(&mut value, 0, 0, &Body::File(file.clone()), &mut Random(1));
        stamp(&mut value, crc, 3, 4);
        assert_eq!(value[HEADER_BYTES..], file[HEADER_BYTES..]);
        assert_eq!(check(&value).map(|payload| payload.sequence), Some(3));
    }

    #[test]
    fn the_smallest_record_has_no_body() {
        let mut value = [0; HEADER_BYTES];
        let body = prepare(&mut value, 1, 2, &Body::default(), &mut Random(1));
        stamp(&mut value, body, 0, 0);
        assert!(check(&value).is_some());
    }
}
