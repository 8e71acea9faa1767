//! Compressed batches: packed when they are sent, unpacked when they are read.
//!
//! The ledger's fields lie inside of what is compressed, so a batch cannot be packed once and patched
//! for each send. It is packed on the load's core, as a client would; what that costs is measured and
//! reported, and `ringmq bench ceiling` shows what is left.
//!
//! Kafka's forms: gzip (RFC 1952), snappy in the frames of snappy-java or raw, LZ4 frames of
//! independent blocks, Zstandard frames.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use super::{BATCH_ATTRIBUTES_AT, BATCH_CRC_AT, BATCH_CRC_FROM, BATCH_HEADER_BYTES, BATCH_LENGTH_AT};
use crate::base::crc::crc32c;
use crate::bench::driver::{Malformed, Packer};

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Of Kafka's producers for gzip and Zstandard.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;
/// The window that every decoder should allow (RFC 8878, 3.1.1.1.2).
const ZSTD_WINDOW_LOG_MIN: u32 = 23;
/// snappy-java's frame: this, two versions of four bytes, then length and raw block by turns.
const SNAPPY_MAGIC: &[u8] = b"\x82SNAPPY\0";
const SNAPPY_HEADER: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const SNAPPY_BLOCK_BYTES: usize = 32 << 10;
const CODEC_MASK: i16 = 0b111;

impl Compression {
    const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    pub fn name(self) -> &'static str {
        ["none", "gzip", "snappy", "lz4", "zstd"][self as usize]
    }

    /// By a batch's attributes.
    pub fn of(attributes: i16) -> Result<Compression, Malformed> {
        let known = Compression::ALL.get((attributes & CODEC_MASK) as usize).copied();
        known.ok_or(Malformed("a batch of an unknown compression"))
    }

    /// The packed bytes as they were.
    ///
    /// # Errors
    /// They are not of this compression, or would be more than `bytes_max`.
    pub fn unpack(self, packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, Malformed> {
        let fault = Malformed("a compressed batch that cannot be unpacked");
        let mut out = Vec::new();
        let mut read = |reader: &mut dyn Read| {
            // One byte more than allowed tells "exactly full" from "too much".
            let read = reader.take(bytes_max as u64 + 1).read_to_end(&mut out);
            read.ok().filter(|&bytes| bytes <= bytes_max).map(|_| ()).ok_or(fault)
        };
        match self {
            Compression::None => out.extend_from_slice(packed),
            Compression::Gzip => read(&mut flate2::read::MultiGzDecoder::new(packed))?,
            Compression::Lz4 => read(&mut lz4_flex::frame::FrameDecoder::new(packed))?,
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(|_| fault)?;
                let window_log = bytes_max.max(1).next_power_of_two().ilog2().max(ZSTD_WINDOW_LOG_MIN);
                decoder.window_log_max(window_log).map_err(|_| fault)?;
                read(&mut decoder)?;
            }
            Compression::Snappy if !packed.starts_with(SNAPPY_MAGIC) => {
                unpack_snappy(packed, &mut out, bytes_max)?;
            }
            Compression::Snappy => {
                let mut rest = packed.get(SNAPPY_HEADER.len()..).ok_or(fault)?;
                while let Some((length, tail)) = rest.split_first_chunk() {
                    let block = tail.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(fault)?;
                    unpack_snappy(block.0, &mut out, bytes_max)?;
                    rest = block.1;
                }
            }
        }
        Ok(out)
    }
}

fn unpack_snappy(block: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Malformed> {
    let fault = Malformed("a snappy block that cannot be unpacked");
    let length = snap::raw::decompress_len(block).map_err(|_| fault)?;
    // What a block announces is believed as far as snappy can reach: 64 bytes of three.
    if length > block.len().saturating_mul(22) || out.len() + length > bytes_max {
        return Err(fault);
    }
    let start = out.len();
    out.resize(start + length, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(|_| fault)?;
    Ok(())
}

/// A [`Compression`] at work, with what it keeps from one batch to the next.
enum Codec {
    Gzip,
    Snappy(Box<snap::raw::Encoder>),
    Lz4,
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Codec {
    fn pack(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        const INTO_MEMORY: &str = "a vector takes everything";
        match self {
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
                encoder.write_all(plain).and_then(|()| encoder.finish().map(|_| ())).expect(INTO_MEMORY);
            }
            Codec::Snappy(encoder) => {
                out.extend_from_slice(SNAPPY_HEADER);
                for block in plain.chunks(SNAPPY_BLOCK_BYTES) {
                    let length_at = out.len();
                    let start = length_at + 4;
                    out.resize(start + snap::raw::max_compress_len(block.len()), 0);
                    let length = encoder.compress(block, &mut out[start..]).expect("there is room for it");
                    out[length_at..start].copy_from_slice(&(length as u32).to_be_bytes());
                    out.truncate(start + length);
                }
            }
            Codec::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
                encoder.write_all(plain).expect(INTO_MEMORY);
                encoder.finish().expect(INTO_MEMORY);
            }
            Codec::Zstd(compressor) => {
                let start = out.len();
                out.resize(start + zstd::zstd_safe::compress_bound(plain.len()), 0);
                let length = compressor.compress_to_buffer(plain, &mut out[start..]);
                out.truncate(start + length.expect("there is room for it"));
            }
        }
    }
}

/// Packs the batch of a produce request.
pub struct BatchPacker {
    compression: Compression,
    codec: Codec,
    /// Where the batch begins in the request. It is the last of it, with its length before it.
    batch_at: usize,
}

impl BatchPacker {
    /// `None` for no compression.
    pub fn new(compression: Compression, batch_at: usize) -> Option<BatchPacker> {
        let codec = match compression {
            Compression::None => return None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy(Box::new(snap::raw::Encoder::new())),
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => {
                let compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL);
                Codec::Zstd(Box::new(compressor.expect("a level that Zstandard has")))
            }
        };
        Some(BatchPacker { compression, codec, batch_at })
    }
}

impl Packer for BatchPacker {
    fn pack(&mut self, request: &[u8], out: &mut Vec<u8>) {
        let (start, records_at) = (out.len(), self.batch_at + BATCH_HEADER_BYTES);
        out.extend_from_slice(&request[..records_at]);
        self.codec.pack(&request[records_at..], out);
        let frame = &mut out[start..];
        let attributes = &mut frame[self.batch_at + BATCH_ATTRIBUTES_AT..][..2];
        attributes.copy_from_slice(&(self.compression as i16).to_be_bytes());
        seal(frame, self.batch_at);
    }
}

/// Make the lengths and the batch's checksum those of what is there.
#[inline]
pub fn seal(frame: &mut [u8], batch_at: usize) {
    let batch_bytes = frame.len() - batch_at;
    let length = |bytes: usize| (bytes as u32).to_be_bytes();
    let frame_bytes = frame.len() - 4;
    frame[..4].copy_from_slice(&length(frame_bytes));
    frame[batch_at - 4..batch_at].copy_from_slice(&length(batch_bytes));
    let batch = &mut frame[batch_at..];
    batch[BATCH_LENGTH_AT..][..4].copy_from_slice(&length(batch_bytes - BATCH_LENGTH_AT - 4));
    let crc = crc32c(&batch[BATCH_CRC_FROM..]);
    batch[BATCH_CRC_AT..][..4].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::payload::{Body, Random, prepare};

    #[test]
    fn what_is_packed_is_unpacked_and_damage_is_an_error_or_other_bytes() {
        let mut plain = vec![0; 100_000];
        prepare(&mut plain, 1, 2, &Body::Random { share: 0.5 }, &mut Random(3));
        for compression in Compression::ALL {
            let mut packed = Vec::new();
            let Some(mut packer) = BatchPacker::new(compression, 0) else { continue };
            packer.codec.pack(&plain, &mut packed);
            packer.codec.pack(&plain, &mut Vec::new());
            assert!(packed.len() < plain.len() * 7 / 10, "{compression:?}: {}", packed.len());
            assert_eq!(compression.unpack(&packed, plain.len()).unwrap(), plain, "{compression:?}");
            assert!(compression.unpack(&packed, plain.len() - 1).is_err(), "{compression:?}");
            assert_eq!(Compression::of(compression as i16), Ok(compression));
            // LZ4's last four bytes say only that it ends.
            for cut in [0, 1, 9, packed.len() / 2, packed.len() - 5] {
                let whole = compression.unpack(&packed[..cut], plain.len()).is_ok_and(|out| out == plain);
                assert!(!whole, "{compression:?} {cut}");
            }
        }
        assert!(Compression::of(5).is_err());
    }

    #[test]
    fn raw_snappy_is_read_and_a_false_length_allocates_nothing() {
        let raw = snap::raw::Encoder::new().compress_vec(&[7; 5000]).unwrap();
        assert_eq!(Compression::Snappy.unpack(&raw, 5000).unwrap(), [7; 5000]);
        assert!(Compression::Snappy.unpack(&[0x80, 0x80, 0x80, 0x20, 0, b'x'], 128 << 20).is_err());
    }
}
