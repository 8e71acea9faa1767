//! Kafka's record batch, version 2: the unit that producers send, the log stores and consumers get.
//!
//! The broker reads its header, checks it once, patches two fields and passes the rest on verbatim.
//! All numbers are big-endian:
//!
//! ```text
//!   0  i64 base offset ............. patched by the broker
//!   8  i32 length of what follows
//!  12  i32 leader epoch ............ patched by the broker
//!  16  i8  magic, 2
//!  17  u32 CRC-32C of bytes 21.. ---.
//!  21  i16 attributes               |  bits 0-2 codec, 3 log append time, 4 transactional,
//!  23  i32 last offset delta        |       5 control, 6 delete horizon
//!  27  i64 base timestamp           |
//!  35  i64 max timestamp            |
//!  43  i64 producer id, -1 none     |
//!  51  i16 producer epoch           |
//!  53  i32 base sequence            |
//!  57  i32 record count             |
//!  61  records, compressed as one --'
//! ```
//!
//! **The log's checksum of a batch is rotated**, so that every byte is summed once. The producer's
//! CRC covers the tail; the log wants the head covered too, as patched. CRC-32C continues from any
//! state, so the log takes the tail *first* and appends the head:
//!
//! ```text
//!   stored bytes    [ head 0..21 ][ tail 21..len ]
//!   producer's CRC                 `-- crc32c --'            verified when the batch arrives
//!   log's checksum  crc32c( tail ++ head ) = append(producer's CRC, head)      21 bytes of work
//! ```

use thiserror::Error;

use super::compression::Compression;
use crate::base::crc::{crc32c, crc32c_append};
use crate::model::{Offset, ProducerId, Term, WallMs};

/// Bytes before the records.
pub const HEADER_BYTES: usize = 61;
/// The bytes in front of the length's own count: base offset and length.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// First byte that the batch's CRC covers; everything before is the head of the rotated checksum.
pub const CRC_START: usize = 21;
/// The only batch format that current clients send.
pub const MAGIC: i8 = 2;
/// "This record has no timestamp."
pub const NO_TIMESTAMP: i64 = -1;
/// Length, attributes, two deltas, key and value lengths, header count: a byte each.
pub const RECORD_BYTES_MIN: usize = 7;
/// No producer may send more records in a batch. Compressed, each claims an offset for next to nothing, and believed
/// to the last a client could use up a partition's with four billion batches. Inflated so many take 112 MiB at least.
pub const RECORDS_MAX: u32 = 1 << 24;

pub(super) const BASE_OFFSET_AT: usize = 0;
pub(super) const LENGTH_AT: usize = 8;
pub(super) const LEADER_EPOCH_AT: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const LAST_OFFSET_DELTA_AT: usize = 23;
pub(super) const BASE_TIMESTAMP_AT: usize = 27;
pub(super) const MAX_TIMESTAMP_AT: usize = 35;
pub(super) const PRODUCER_ID_AT: usize = 43;
pub(super) const PRODUCER_EPOCH_AT: usize = 51;
pub(super) const BASE_SEQUENCE_AT: usize = 53;
pub(super) const COUNT_AT: usize = 57;

const _: () = assert!(COUNT_AT + 4 == HEADER_BYTES);
const _: () = assert!(CRC_AT + 4 == CRC_START);

const CODEC_BITS: i16 = 0b111;
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
pub(super) const TRANSACTIONAL_BIT: i16 = 1 << 4;
pub(super) const CONTROL_BIT: i16 = 1 << 5;

/// Why bytes are not a batch, or not one that a producer may append.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    #[error("the batch is cut off: {got} bytes of {needed}")]
    Truncated { needed: usize, got: usize },
    #[error("the batch's length field says {length}, less than a header")]
    BadLength { length: i32 },
    #[error("{extra} bytes follow the batch; exactly one batch is allowed here")]
    TrailingBytes { extra: usize },
    #[error("record format {magic} is not supported, only 2")]
    UnsupportedMagic { magic: i8 },
    #[error("CRC-32C is {computed:08x}, the batch says {stored:08x}")]
    CrcMismatch { stored: u32, computed: u32 },
    #[error("base offset {base_offset} and last offset delta {last_offset_delta} make no offsets")]
    BadOffsets { base_offset: i64, last_offset_delta: i32 },
    #[error("{count} records cannot lie in a batch of {bytes} bytes")]
    BadCount { count: i32, bytes: usize },
    #[error("{count} records are more than the {RECORDS_MAX} that a batch may have")]
    TooManyRecords { count: u32 },
    #[error("compression codec {codec} is unknown")]
    UnknownCompression { codec: u8 },
    #[error("a producer's base offset must be 0, not {base_offset}")]
    NonZeroBaseOffset { base_offset: i64 },
    #[error("the batch holds {count} records but its last offset delta is {last_offset_delta}")]
    CountMismatch { count: i32, last_offset_delta: i32 },
    #[error("clients may not write control batches")]
    ControlBatch,
    #[error("producer id {producer_id} without a sequence or epoch ({base_sequence}, {epoch})")]
    MissingSequence { producer_id: i64, base_sequence: i32, epoch: i16 },
    #[error("the batch has {bytes} bytes, the topic allows {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("producers may not claim log append time")]
    LogAppendTimeClaimed,
    #[error("timestamp {timestamp} lies outside {earliest}..={latest}")]
    TimestampOutOfRange { timestamp: i64, earliest: i64, latest: i64 },
}

/// What an idempotent producer stamps on each of its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    pub id: ProducerId,
    pub epoch: i16,
    /// Sequence of the first record; the others follow, and wrap from `i32::MAX` to 0.
    pub base_sequence: i32,
}

/// The limits of a topic that a producer's batch must keep.
#[derive(Clone, Copy, Debug)]
pub struct ProduceRules {
    /// Largest batch, header included (`max.message.bytes`).
    pub batch_bytes_max: usize,
    /// The broker stamps the records (`message.timestamp.type=LogAppendTime`): theirs do not matter.
    pub log_append_time: bool,
    /// How far a timestamp may lie in the past (`message.timestamp.before.max.ms`).
    pub timestamp_before_max_ms: i64,
    /// How far a timestamp may lie in the future (`message.timestamp.after.max.ms`).
    pub timestamp_after_max_ms: i64,
    pub now: WallMs,
}

/// Exactly one batch whose length, magic, offsets and codec are known to be sound.
///
/// What [`parse`](Self::parse) does not do: sum it. Who takes bytes from a peer calls
/// [`verify_crc`](Self::verify_crc), once; who takes them from the log has the log's checksum.
#[derive(Clone, Copy, Debug)]
pub struct RecordBatch<'a> {
    bytes: &'a [u8],
    compression: Compression,
}

impl<'a> RecordBatch<'a> {
    /// Checks that `bytes` are one batch and nothing else.
    pub fn parse(bytes: &'a [u8]) -> Result<RecordBatch<'a>, BatchError> {
        let (batch, rest) = Self::split_first(bytes)?;
        if !rest.is_empty() {
            return Err(BatchError::TrailingBytes { extra: rest.len() });
        }
        Ok(batch)
    }

    /// Checks the batch at the front of `bytes` and returns what follows it.
    pub fn split_first(bytes: &'a [u8]) -> Result<(RecordBatch<'a>, &'a [u8]), BatchError> {
        let len = batch_bytes(bytes)?;
        if bytes.len() < len {
            return Err(BatchError::Truncated { needed: len, got: bytes.len() });
        }
        let (bytes, rest) = bytes.split_at(len);

        // Refused first: another format has other fields in other places.
        let magic = bytes[MAGIC_AT] as i8;
        if magic != MAGIC {
            return Err(BatchError::UnsupportedMagic { magic });
        }
        let codec = (get_i16(bytes, ATTRIBUTES_AT) & CODEC_BITS) as u8;
        let compression = Compression::from_code(codec).ok_or(BatchError::UnknownCompression { codec })?;

        let base_offset = get_i64(bytes, BASE_OFFSET_AT);
        let last_offset_delta = get_i32(bytes, LAST_OFFSET_DELTA_AT);
        let last_offset = base_offset.checked_add(i64::from(last_offset_delta));
        if base_offset < 0 || last_offset_delta < 0 || last_offset.is_none_or(|last| last == i64::MAX) {
            return Err(BatchError::BadOffsets { base_offset, last_offset_delta });
        }

        // Fewer records than offsets are legal in the log (compaction leaves gaps), more are not.
        let count = get_i32(bytes, COUNT_AT);
        let count_max = match compression {
            Compression::None => (len - HEADER_BYTES) / RECORD_BYTES_MIN,
            _ => usize::MAX,
        };
        if count < 0 || count as usize > count_max || i64::from(count) > i64::from(last_offset_delta) + 1 {
            return Err(BatchError::BadCount { count, bytes: len });
        }
        Ok((RecordBatch { bytes, compression }, rest))
    }

    /// The whole batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records as they lie in the batch, compressed or not.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    pub fn base_offset(&self) -> Offset {
        Offset(get_i64(self.bytes, BASE_OFFSET_AT))
    }

    pub fn last_offset(&self) -> Offset {
        self.base_offset().plus(self.last_offset_delta())
    }

    /// The offset that follows the batch.
    pub fn end_offset(&self) -> Offset {
        self.last_offset().plus(1)
    }

    /// Last offset minus base offset; at most `i32::MAX`.
    pub fn last_offset_delta(&self) -> u32 {
        get_i32(self.bytes, LAST_OFFSET_DELTA_AT) as u32
    }

    /// Records in the batch; 0 only where compaction has been.
    pub fn record_count(&self) -> u32 {
        get_i32(self.bytes, COUNT_AT) as u32
    }

    /// The leader epoch in which the batch was appended, -1 as sent by producers.
    pub fn leader_epoch(&self) -> i32 {
        get_i32(self.bytes, LEADER_EPOCH_AT)
    }

    /// The CRC-32C that the batch claims for bytes 21 and on.
    pub fn crc(&self) -> u32 {
        get_i32(self.bytes, CRC_AT) as u32
    }

    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// The broker stamped the batch: every record has [`max_timestamp`](Self::max_timestamp).
    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & LOG_APPEND_TIME_BIT != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL_BIT != 0
    }

    /// A transaction's marker instead of records.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL_BIT != 0
    }

    /// Timestamp of the first record, or [`NO_TIMESTAMP`].
    pub fn base_timestamp(&self) -> i64 {
        get_i64(self.bytes, BASE_TIMESTAMP_AT)
    }

    /// Greatest timestamp of the records, or [`NO_TIMESTAMP`]. The producer's claim, and not checked
    /// against the records.
    pub fn max_timestamp(&self) -> i64 {
        get_i64(self.bytes, MAX_TIMESTAMP_AT)
    }

    /// The age that retention counts from: the earlier of the newest record and the append, so that
    /// a timestamp of the future pins nothing; the append where the batch has no timestamp.
    pub fn retention_time(&self, appended: WallMs) -> WallMs {
        let newest = self.max_timestamp();
        if newest < 0 { appended } else { appended.min(WallMs(newest)) }
    }

    /// The producer's stamp; `None` without idempotence.
    pub fn producer(&self) -> Option<ProducerStamp> {
        let id = get_i64(self.bytes, PRODUCER_ID_AT);
        (id >= 0).then(|| ProducerStamp {
            id: ProducerId(id),
            epoch: get_i16(self.bytes, PRODUCER_EPOCH_AT),
            base_sequence: get_i32(self.bytes, BASE_SEQUENCE_AT),
        })
    }

    /// Sums the batch and compares.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let (stored, computed) = (self.crc(), crc32c(&self.bytes[CRC_START..]));
        if stored != computed {
            return Err(BatchError::CrcMismatch { stored, computed });
        }
        Ok(())
    }

    /// Whether a producer may append this batch, by its header alone.
    ///
    /// Apache Kafka also inflates every batch to compare the records with their header. That costs
    /// more than all the rest of a produce request and protects a producer from itself only, so it
    /// is not done here: the header is believed, and every reader bounds what it believes.
    pub fn validate_for_produce(&self, rules: &ProduceRules) -> Result<(), BatchError> {
        let base_offset = self.base_offset().0;
        if base_offset != 0 {
            return Err(BatchError::NonZeroBaseOffset { base_offset });
        }
        if self.bytes.len() > rules.batch_bytes_max {
            let bytes_max = rules.batch_bytes_max;
            return Err(BatchError::TooLarge { bytes: self.bytes.len(), bytes_max });
        }
        if self.record_count() != self.last_offset_delta() + 1 {
            return Err(BatchError::CountMismatch {
                count: self.record_count() as i32,
                last_offset_delta: self.last_offset_delta() as i32,
            });
        }
        if self.record_count() > RECORDS_MAX {
            return Err(BatchError::TooManyRecords { count: self.record_count() });
        }
        if self.is_control() {
            return Err(BatchError::ControlBatch);
        }
        if let Some(ProducerStamp { id, epoch, base_sequence }) = self.producer()
            && (base_sequence < 0 || epoch < 0)
        {
            return Err(BatchError::MissingSequence { producer_id: id.0, base_sequence, epoch });
        }
        if self.is_log_append_time() {
            return Err(BatchError::LogAppendTimeClaimed);
        }
        if !rules.log_append_time {
            self.validate_timestamps(rules)?;
        }
        Ok(())
    }

    /// The header's two timestamps stand for all: the first record's and the greatest.
    fn validate_timestamps(&self, rules: &ProduceRules) -> Result<(), BatchError> {
        // Nothing before 1970: -1 means "none", and below that Kafka's timestamps have no meaning.
        let earliest = rules.now.0.saturating_sub(rules.timestamp_before_max_ms).max(0);
        let latest = rules.now.0.saturating_add(rules.timestamp_after_max_ms);
        for timestamp in [self.base_timestamp(), self.max_timestamp()] {
            if timestamp != NO_TIMESTAMP && !(earliest..=latest).contains(&timestamp) {
                return Err(BatchError::TimestampOutOfRange { timestamp, earliest, latest });
            }
        }
        Ok(())
    }

    fn attributes(&self) -> i16 {
        get_i16(self.bytes, ATTRIBUTES_AT)
    }
}

/// Length of the batch at the front of `bytes`, which need not be there in full.
fn batch_bytes(bytes: &[u8]) -> Result<usize, BatchError> {
    if bytes.len() < HEADER_BYTES {
        return Err(BatchError::Truncated { needed: HEADER_BYTES, got: bytes.len() });
    }
    let length = get_i32(bytes, LENGTH_AT);
    if length < (HEADER_BYTES - LENGTH_PREFIX_BYTES) as i32 {
        return Err(BatchError::BadLength { length });
    }
    Ok(length as usize + LENGTH_PREFIX_BYTES)
}

/// Gives the batch its place in the partition. Outside the CRC.
pub fn patch_base_offset(batch: &mut [u8], base_offset: Offset) {
    assert!(base_offset >= Offset::ZERO);
    put(batch, BASE_OFFSET_AT, base_offset.0.to_be_bytes());
}

/// Marks the batch with the term of its append. Outside the CRC.
pub fn patch_leader_epoch(batch: &mut [u8], term: Term) {
    let epoch = i32::try_from(term.0).expect("a log is not opened two billion times");
    put(batch, LEADER_EPOCH_AT, epoch.to_be_bytes());
}

/// Stamps the batch with the broker's time and returns its new CRC.
///
/// Inside the CRC, so the batch is summed again; what the records say of themselves stays, and
/// readers ignore it.
pub fn patch_log_append_time(batch: &mut [u8], now: WallMs) -> u32 {
    let attributes = get_i16(batch, ATTRIBUTES_AT) | LOG_APPEND_TIME_BIT;
    put(batch, ATTRIBUTES_AT, attributes.to_be_bytes());
    put(batch, MAX_TIMESTAMP_AT, now.0.to_be_bytes());
    seal(batch)
}

/// Writes the CRC of a batch whose other fields are final, and returns it.
pub(super) fn seal(batch: &mut [u8]) -> u32 {
    let crc = crc32c(&batch[CRC_START..]);
    put(batch, CRC_AT, crc.to_be_bytes());
    crc
}

/// The log's checksum of a batch whose own, verified CRC is `batch_crc`: the rotated sum of the
/// module's drawing. Taken after the last patch.
pub fn stored_crc(batch: &[u8], batch_crc: u32) -> u32 {
    debug_assert_eq!(batch_crc, get_i32(batch, CRC_AT) as u32);
    crc32c_append(batch_crc, &batch[..CRC_START])
}

/// Whether stored bytes have the log's checksum `expected`. Sums all of them.
pub fn verify_stored(batch: &[u8], expected: u32) -> bool {
    let Some((head, tail)) = batch.split_at_checked(CRC_START) else {
        return false;
    };
    crc32c_append(crc32c(tail), head) == expected
}

/// The batches of a region as a fetch returns it: one behind the other, the last perhaps cut off.
///
/// Yields at most one error, and nothing after it.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
    failed: bool,
}

impl<'a> Batches<'a> {
    pub fn new(bytes: &'a [u8]) -> Batches<'a> {
        Batches { rest: bytes, failed: false }
    }

    /// What has not been yielded: at the end, a batch that is cut off, or nothing.
    pub fn remainder(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<RecordBatch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match RecordBatch::split_first(self.rest) {
            Ok((batch, rest)) => {
                self.rest = rest;
                Some(Ok(batch))
            }
            Err(BatchError::Truncated { .. }) => None,
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

fn get_i16(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(get(bytes, at))
}

fn get_i32(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(get(bytes, at))
}

fn get_i64(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(get(bytes, at))
}

#[inline]
fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a range of N bytes is N bytes long")
}

#[inline]
pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::batch_builder::BatchBuilder;
    use proptest::prelude::*;

    const NOW: WallMs = WallMs(1_000_000);
    const RULES: ProduceRules = ProduceRules {
        batch_bytes_max: 1000,
        log_append_time: false,
        timestamp_before_max_ms: 500,
        timestamp_after_max_ms: 100,
        now: NOW,
    };

    /// Two records of "k" = "v", stamped by producer 7, epoch 1, from sequence 40.
    fn sample() -> Vec<u8> {
        let stamp = ProducerStamp { id: ProducerId(7), epoch: 1, base_sequence: 40 };
        let mut builder = BatchBuilder::new(Compression::None).producer(stamp);
        builder.push(NOW.0, Some(b"k"), Some(b"v"), &[]);
        builder.push(NOW.0 + 5, Some(b"k"), Some(b"v"), &[]);
        builder.finish()
    }

    fn parse(bytes: &[u8]) -> RecordBatch<'_> {
        RecordBatch::parse(bytes).expect("a sound batch")
    }

    #[test]
    fn reads_every_field() {
        #[rustfmt::skip]
        let bytes = [
            0, 0, 0, 0, 0, 0, 0, 9,              // base offset
            0, 0, 0, 58,                         // length
            0, 0, 0, 3,                          // leader epoch
            2,                                   // magic
            0xca, 0xfe, 0xba, 0xbe,              // CRC, wrong
            0, 0b0001_1000,                      // transactional, log append time, no codec
            0, 0, 0, 4,                          // last offset delta
            0, 0, 0, 0, 0, 0, 0, 50,             // base timestamp
            0, 0, 0, 0, 0, 0, 0, 60,             // max timestamp
            0, 0, 0, 0, 0, 0, 1, 0,              // producer id
            0, 5,                                // producer epoch
            0x7f, 0xff, 0xff, 0xff,              // base sequence
            0, 0, 0, 1,                          // count
            16, 0, 0, 0, 2, b'k', 2, b'v', 0,    // one record
        ];
        let batch = parse(&bytes);
        assert_eq!(batch.base_offset(), Offset(9));
        assert_eq!(batch.last_offset(), Offset(13));
        assert_eq!(batch.end_offset(), Offset(14));
        assert_eq!(batch.record_count(), 1);
        assert_eq!(batch.leader_epoch(), 3);
        assert_eq!(batch.crc(), 0xcafe_babe);
        assert_eq!(batch.compression(), Compression::None);
        assert!(batch.is_transactional() && batch.is_log_append_time() && !batch.is_control());
        assert_eq!((batch.base_timestamp(), batch.max_timestamp()), (50, 60));
        let stamp = ProducerStamp { id: ProducerId(256), epoch: 5, base_sequence: i32::MAX };
        assert_eq!(batch.producer(), Some(stamp));
        assert_eq!(batch.payload(), &bytes[61..]);
        assert!(matches!(batch.verify_crc(), Err(BatchError::CrcMismatch { stored: 0xcafe_babe, .. })));
    }

    #[test]
    fn refuses_what_is_not_one_sound_batch() {
        type Damage = fn(&mut Vec<u8>);
        let table: [(&str, Damage, &str); 12] = [
            ("empty", |b| b.clear(), "cut off: 0 bytes of 61"),
            ("cut", |b| b.truncate(70), "cut off: 70 bytes of"),
            ("two", |b| b.extend_from_within(..), "bytes follow the batch"),
            ("negative length", |b| b[8] = 0xff, "length field says -"),
            ("short length", |b| b[11] = 48, "length field says 48"),
            ("magic", |b| b[MAGIC_AT] = 1, "format 1"),
            ("codec", |b| b[ATTRIBUTES_AT + 1] = 5, "codec 5"),
            ("negative base", |b| b[0] = 0x80, "make no offsets"),
            ("offset overflow", |b| put(b, 0, (i64::MAX - 1).to_be_bytes()), "make no offsets"),
            ("negative delta", |b| b[LAST_OFFSET_DELTA_AT] = 0x80, "make no offsets"),
            ("negative count", |b| b[COUNT_AT] = 0x80, "cannot lie in a batch"),
            ("count beyond offsets", |b| b[COUNT_AT + 3] = 3, "3 records cannot lie"),
        ];
        for (name, damage, expected) in table {
            let mut bytes = sample();
            damage(&mut bytes);
            let error = RecordBatch::parse(&bytes).expect_err(name).to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }

        let mut bytes = sample();
        put(&mut bytes, LAST_OFFSET_DELTA_AT, i32::MAX.to_be_bytes());
        put(&mut bytes, COUNT_AT, 1_000_000i32.to_be_bytes());
        let error = RecordBatch::parse(&bytes).expect_err("a million records in 18 bytes");
        assert!(matches!(error, BatchError::BadCount { count: 1_000_000, .. }), "{error}");
    }

    #[test]
    fn produce_rules() {
        type Change = fn(&mut Vec<u8>, &mut ProduceRules);
        /// Compressed, a batch may claim any count.
        fn claim(bytes: &mut [u8], count: u32) {
            bytes[ATTRIBUTES_AT + 1] |= 1;
            put(bytes, LAST_OFFSET_DELTA_AT, (count - 1).to_be_bytes());
            put(bytes, COUNT_AT, count.to_be_bytes());
        }
        let table: [(&str, Change, &str); 19] = [
            ("sound", |_, _| (), "ok"),
            ("most records", |b, _| claim(b, RECORDS_MAX), "ok"),
            ("more records", |b, _| claim(b, RECORDS_MAX + 1), "16777217 records are more than the 16777216"),
            ("largest", |b, r| r.batch_bytes_max = b.len(), "ok"),
            ("too large", |b, r| r.batch_bytes_max = b.len() - 1, "the topic allows"),
            ("base offset", |b, _| b[7] = 1, "must be 0, not 1"),
            ("gap", |b, _| b[LAST_OFFSET_DELTA_AT + 3] = 2, "holds 2 records"),
            ("control", |b, _| b[ATTRIBUTES_AT + 1] |= 0x20, "control"),
            ("no sequence", |b, _| b[BASE_SEQUENCE_AT] = 0xff, "without a sequence"),
            ("no epoch", |b, _| b[PRODUCER_EPOCH_AT] = 0xff, "without a sequence"),
            ("not idempotent", |b, _| put(b, PRODUCER_ID_AT, [0xff; 14]), "ok"),
            ("claims append time", |b, _| b[ATTRIBUTES_AT + 1] |= 8, "claim log append time"),
            (
                "claims it where it is stamped",
                |b, r| {
                    b[ATTRIBUTES_AT + 1] |= 8;
                    r.log_append_time = true
                },
                "claim log append time",
            ),
            (
                "any time when stamped",
                |b, r| {
                    put(b, MAX_TIMESTAMP_AT, [0x80; 8]);
                    r.log_append_time = true
                },
                "ok",
            ),
            ("late", |_, r| r.now = WallMs(NOW.0 - 96), "outside 999404..=1000004"),
            ("just not late", |_, r| r.now = WallMs(NOW.0 - 95), "ok"),
            ("early", |_, r| r.now = WallMs(NOW.0 + 501), "1000000 lies outside 1000001..="),
            ("none", |b, _| put(b, BASE_TIMESTAMP_AT, [0xff; 16]), "ok"),
            (
                "below none",
                |b, r| {
                    put(b, BASE_TIMESTAMP_AT, (-2i64).to_be_bytes());
                    r.timestamp_before_max_ms = i64::MAX
                },
                "-2 lies outside 0..=",
            ),
        ];
        for (name, change, expected) in table {
            let (mut bytes, mut rules) = (sample(), RULES);
            change(&mut bytes, &mut rules);
            let outcome = match parse(&bytes).validate_for_produce(&rules) {
                Ok(()) => "ok".to_string(),
                Err(error) => error.to_string(),
            };
            assert!(outcome.contains(expected), "{name}: {outcome}");
        }
    }

    #[test]
    fn patches_touch_the_crc_only_when_they_must() {
        let mut bytes = sample();
        let crc = parse(&bytes).crc();
        patch_base_offset(&mut bytes, Offset(123));
        patch_leader_epoch(&mut bytes, Term(9));
        let batch = parse(&bytes);
        assert_eq!((batch.base_offset(), batch.leader_epoch(), batch.crc()), (Offset(123), 9, crc));
        batch.verify_crc().expect("unchanged");

        let new_crc = patch_log_append_time(&mut bytes, WallMs(77));
        let batch = parse(&bytes);
        assert!(batch.is_log_append_time());
        assert_eq!((batch.max_timestamp(), batch.crc()), (77, new_crc));
        batch.verify_crc().expect("summed again");
        assert_ne!(new_crc, crc);
    }

    #[test]
    fn the_stored_checksum_covers_every_byte() {
        let mut bytes = sample();
        patch_base_offset(&mut bytes, Offset(5));
        let stored = stored_crc(&bytes, parse(&bytes).crc());
        assert!(verify_stored(&bytes, stored));
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            assert!(!verify_stored(&bytes, stored), "byte {at}");
            bytes[at] ^= 0x10;
        }
        assert!(!verify_stored(&bytes[..20], stored), "shorter than the head");
    }

    #[test]
    fn retention_counts_from_the_earlier_time() {
        let mut bytes = sample();
        for (max_timestamp, appended, expected) in [(50, 60, 50), (i64::MAX, 60, 60), (-1, 60, 60)] {
            put(&mut bytes, MAX_TIMESTAMP_AT, i64::to_be_bytes(max_timestamp));
            assert_eq!(parse(&bytes).retention_time(WallMs(appended)), WallMs(expected));
        }
    }

    #[test]
    fn walks_a_fetched_region() {
        let one = sample();
        let mut region = one.repeat(3);
        region.truncate(region.len() - 10);
        let mut batches = Batches::new(&region);
        assert_eq!(batches.by_ref().filter(Result::is_ok).count(), 2);
        assert_eq!(batches.remainder().len(), one.len() - 10, "the third is cut off");

        region[one.len() + MAGIC_AT] = 0;
        let outcomes: Vec<bool> = Batches::new(&region).map(|batch| batch.is_ok()).collect();
        assert_eq!(outcomes, [true, false], "an error is the last item");
        assert_eq!(Batches::new(&[]).count(), 0);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            sound_head: bool,
        ) {
            if sound_head && bytes.len() >= HEADER_BYTES {
                let length = (bytes.len() - LENGTH_PREFIX_BYTES) as i32;
                put(&mut bytes, LENGTH_AT, length.to_be_bytes());
                put(&mut bytes, MAGIC_AT, [2]);
            }
            if let Ok(batch) = RecordBatch::parse(&bytes) {
                let _ = (batch.end_offset(), batch.producer(), batch.verify_crc());
                let _ = batch.validate_for_produce(&RULES);
            }
            let _ = Batches::new(&bytes).count();
        }

        #[test]
        fn stored_checksum_is_the_rotated_sum(bytes in prop::collection::vec(any::<u8>(), 61..300)) {
            let mut bytes = bytes;
            let crc = seal(&mut bytes);
            let mut rotated = bytes[CRC_START..].to_vec();
            rotated.extend_from_slice(&bytes[..CRC_START]);
            prop_assert_eq!(stored_crc(&bytes, crc), crc32c(&rotated));
            prop_assert!(verify_stored(&bytes, crc32c(&rotated)));
        }
    }
}
