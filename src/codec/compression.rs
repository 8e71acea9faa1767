//! The four codecs of a batch's records, with a bound on what may come out.
//!
//! Kafka's own choices: gzip (RFC 1952), snappy either raw or in the frames of snappy-java, LZ4
//! frames, Zstandard frames. What is inflated came from a peer, so memory follows the bytes that
//! really come out, never a length that the input merely claims, and stops at the caller's bound.

use std::io::{self, BufRead, Read, Write};

use bytes::{Buf, Bytes};
use thiserror::Error;

use super::snappy::{self, SnappyReader};

/// How the records of a batch are compressed: the attributes' lowest three bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

#[derive(Debug, Error)]
pub enum CompressionError {
    #[error("{codec:?} data is malformed: {cause}")]
    Malformed { codec: Compression, cause: io::Error },
    #[error("the records inflate to more than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
}

/// 8 MiB: the window that every Zstandard decoder should allow (RFC 8878, 3.1.1.1.2), and what
/// encoders that stream a batch of unknown size ask for at their usual levels.
const ZSTD_WINDOW_LOG_MIN: u32 = 23;

impl Compression {
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The codec with this number; `None` for 5 to 7, which nobody has defined.
    pub fn from_code(code: u8) -> Option<Compression> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Inflates `input` to at most `bytes_max` bytes.
    pub fn inflate(self, input: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
        match self {
            Compression::None if input.len() > bytes_max => Err(CompressionError::TooLarge { bytes_max }),
            Compression::None => Ok(input.to_vec()),
            Compression::Gzip => self.read_all(flate2::read::MultiGzDecoder::new(input), bytes_max),
            Compression::Snappy => self.read_all(self.snappy_reader(input)?, bytes_max),
            Compression::Lz4 => self.read_all(lz4_flex::frame::FrameDecoder::new(input), bytes_max),
            Compression::Zstd => self.read_all(self.zstd_decoder(input, bytes_max)?, bytes_max),
        }
    }

    /// What `input` inflates to, piece by piece. Whoever reads it stops at `bytes_max`.
    pub fn reader(self, input: Bytes, bytes_max: usize) -> Result<Box<dyn Read + Send>, CompressionError> {
        Ok(match self {
            Compression::None => Box::new(input.reader()),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input.reader())),
            Compression::Snappy => Box::new(self.snappy_reader(input)?),
            Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(input.reader())),
            Compression::Zstd => Box::new(self.zstd_decoder(input.reader(), bytes_max)?),
        })
    }

    fn snappy_reader<B: AsRef<[u8]>>(self, input: B) -> Result<SnappyReader<B>, CompressionError> {
        SnappyReader::new(input).map_err(|cause| self.malformed(cause))
    }

    fn zstd_decoder<R: BufRead>(
        self,
        input: R,
        bytes_max: usize,
    ) -> Result<zstd::stream::read::Decoder<'static, R>, CompressionError> {
        let malformed = |cause| self.malformed(cause);
        let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(malformed)?;
        // The frame's header may ask for a window of 2 GiB. None larger than the result is of use, so no
        // more is reserved; and of that, only what is written is touched.
        let window_log = bytes_max.max(1).next_power_of_two().ilog2();
        decoder.window_log_max(window_log.max(ZSTD_WINDOW_LOG_MIN)).map_err(malformed)?;
        Ok(decoder)
    }

    /// Compresses at the codec's usual level.
    pub fn deflate(self, input: &[u8]) -> Vec<u8> {
        match self {
            Compression::None => input.to_vec(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(input).expect("a Vec takes every byte");
                encoder.finish().expect("a Vec takes every byte")
            }
            Compression::Snappy => snappy::deflate(input),
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(input).expect("a Vec takes every byte");
                encoder.finish().expect("a Vec takes every byte")
            }
            Compression::Zstd => zstd::stream::encode_all(input, zstd::DEFAULT_COMPRESSION_LEVEL)
                .expect("reading and writing memory does not fail"),
        }
    }

    fn read_all(self, reader: impl Read, bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
        let mut out = Vec::new();
        // One byte more than allowed tells "exactly full" from "too much".
        let mut limited = reader.take(bytes_max as u64 + 1);
        limited.read_to_end(&mut out).map_err(|cause| self.malformed(cause))?;
        if out.len() > bytes_max {
            return Err(CompressionError::TooLarge { bytes_max });
        }
        Ok(out)
    }

    fn malformed(self, cause: io::Error) -> CompressionError {
        CompressionError::Malformed { codec: self, cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn inflates_to_the_bound_and_not_beyond() {
        let zeros = vec![0u8; 1 << 20];
        for codec in Compression::ALL {
            let packed = codec.deflate(&zeros);
            assert_eq!(codec.inflate(&packed, zeros.len()).expect("fits"), zeros, "{codec:?}");
            match codec.inflate(&packed, zeros.len() - 1) {
                Err(CompressionError::TooLarge { .. }) => {}
                other => panic!("{codec:?}: {:?}", other.map(|bytes| bytes.len())),
            }
        }
    }

    #[test]
    fn snappy_is_read_raw_and_framed() {
        let text = b"to be, or not to be, to be".repeat(4000);
        let raw = snap::raw::Encoder::new().compress_vec(&text).expect("compresses");
        assert_eq!(Compression::Snappy.inflate(&raw, text.len()).expect("raw"), text);

        let framed = Compression::Snappy.deflate(&text);
        assert!(framed.starts_with(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"));
        for cut in 1..4 {
            assert!(Compression::Snappy.inflate(&framed[..framed.len() - cut], text.len()).is_err());
        }
        assert!(Compression::Snappy.inflate(&framed[..10], text.len()).is_err(), "no header");
    }

    #[test]
    fn a_snappy_length_that_cannot_be_true_allocates_nothing() {
        // Claims 64 MiB in a varint, brings one literal.
        let bomb = [0x80, 0x80, 0x80, 0x20, 0x00, b'x'];
        assert_eq!(snap::raw::decompress_len(&bomb).ok(), Some(64 << 20));
        let error = Compression::Snappy.inflate(&bomb, 128 << 20).expect_err("malformed");
        assert!(matches!(error, CompressionError::Malformed { .. }), "{error}");
    }

    #[test]
    fn concatenated_gzip_members_are_one_stream() {
        let mut two = Compression::Gzip.deflate(b"ring");
        two.extend(Compression::Gzip.deflate(b"mq"));
        assert_eq!(Compression::Gzip.inflate(&two, 100).expect("both"), b"ringmq");
    }

    fn codec() -> impl Strategy<Value = Compression> {
        prop::sample::select(&Compression::ALL[..])
    }

    proptest! {
        #[test]
        fn round_trip(codec in codec(), bytes in prop::collection::vec(0u8..4, 0..100_000)) {
            let packed = codec.deflate(&bytes);
            prop_assert_eq!(codec.inflate(&packed, bytes.len()).map_err(|e| e.to_string()), Ok(bytes));
        }

        #[test]
        fn damaged_input_stays_within_the_bound(
            codec in codec(),
            bytes in prop::collection::vec(any::<u8>(), 1..2000),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut packed = codec.deflate(&bytes);
            for (at, byte) in damage {
                let at = at.index(packed.len());
                packed[at] = byte;
            }
            packed.truncate(cut.index(packed.len() + 1));
            if let Ok(out) = codec.inflate(&packed, 4096) {
                prop_assert!(out.len() <= 4096);
            }
        }

        #[test]
        fn random_input_never_panics(codec in codec(), bytes: Vec<u8>) {
            let _ = codec.inflate(&bytes, 4096);
        }
    }
}
