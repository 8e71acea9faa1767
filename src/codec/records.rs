//! The records inside a batch, whole: for tools. Questions of clients are `time_scan`'s.
//!
//! ```text
//! varint  length of what follows
//! i8      attributes, unused
//! varlong timestamp - base timestamp
//! varint  offset - base offset
//! varint  key length, -1 none      key
//! varint  value length, -1 none    value
//! varint  header count             { varint key length, key, varint value length or -1, value }*
//! ```
//!
//! Off the hot path: produce and fetch pass batches on unopened. A batch's records are what its
//! producer wrote, checked by nobody before, so everything here can fail but nothing can panic.

use std::borrow::Cow;

use thiserror::Error;

use super::compression::{Compression, CompressionError};
use super::record_batch::RecordBatch;
use super::varint;
use crate::model::Offset;

#[derive(Debug, Error)]
pub enum RecordError {
    #[error(transparent)]
    Compression(#[from] CompressionError),
    #[error("record {index} of the batch is malformed")]
    Malformed { index: u32 },
    #[error("record {index} has offset delta {offset_delta}, outside the batch's 0..={last}")]
    OutsideBatch { index: u32, offset_delta: i32, last: u32 },
    #[error("{extra} bytes follow the batch's last record")]
    TrailingBytes { extra: usize },
}

/// A batch with its records inflated.
#[derive(Clone, Debug)]
pub struct InflatedBatch<'a> {
    batch: RecordBatch<'a>,
    payload: Cow<'a, [u8]>,
}

/// One record, borrowed from its [`InflatedBatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'b> {
    pub offset: Offset,
    /// Milliseconds since 1970 or -1: the producer's, or the broker's for log append time.
    pub timestamp: i64,
    pub key: Option<&'b [u8]>,
    pub value: Option<&'b [u8]>,
    pub headers: Headers<'b>,
}

/// A record's headers, in their order; keys may repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'b> {
    /// Walked once by [`take_headers`]: the iterator trusts it.
    bytes: &'b [u8],
    remaining: u32,
}

/// The records of a batch in their order. Yields at most one error, and nothing after it.
#[derive(Clone, Debug)]
pub struct Records<'b> {
    batch: RecordBatch<'b>,
    rest: &'b [u8],
    index: u32,
    failed: bool,
}

impl<'a> InflatedBatch<'a> {
    /// Inflates the records to at most `inflated_bytes_max` bytes; uncompressed ones stay where they are.
    pub fn open(batch: RecordBatch<'a>, inflated_bytes_max: usize) -> Result<InflatedBatch<'a>, RecordError> {
        let payload = match batch.compression() {
            Compression::None => Cow::Borrowed(batch.payload()),
            codec => Cow::Owned(codec.inflate(batch.payload(), inflated_bytes_max)?),
        };
        Ok(InflatedBatch { batch, payload })
    }

    pub fn records(&self) -> Records<'_> {
        Records { batch: self.batch, rest: &self.payload, index: 0, failed: false }
    }
}

impl<'b> Iterator for Records<'b> {
    type Item = Result<Record<'b>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = if self.index < self.batch.record_count() {
            Some(self.take_record())
        } else if !self.rest.is_empty() {
            Some(Err(RecordError::TrailingBytes { extra: self.rest.len() }))
        } else {
            None
        };
        self.index += 1;
        self.failed = !matches!(next, Some(Ok(_)));
        next
    }
}

impl<'b> Records<'b> {
    fn take_record(&mut self) -> Result<Record<'b>, RecordError> {
        let index = self.index;
        let parts = take_parts(&mut self.rest).ok_or(RecordError::Malformed { index })?;
        let last = self.batch.last_offset_delta();
        let offset_delta = u32::try_from(parts.offset_delta)
            .ok()
            .filter(|delta| *delta <= last)
            .ok_or(RecordError::OutsideBatch { index, offset_delta: parts.offset_delta, last })?;
        let timestamp = if self.batch.is_log_append_time() {
            self.batch.max_timestamp()
        } else {
            let base = self.batch.base_timestamp();
            base.checked_add(parts.timestamp_delta).ok_or(RecordError::Malformed { index })?
        };
        Ok(Record {
            offset: self.batch.base_offset().plus(offset_delta),
            timestamp,
            key: parts.key,
            value: parts.value,
            headers: parts.headers,
        })
    }
}

struct Parts<'b> {
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&'b [u8]>,
    value: Option<&'b [u8]>,
    headers: Headers<'b>,
}

/// Takes one record off the front; `None` when it is malformed in any way.
fn take_parts<'b>(rest: &mut &'b [u8]) -> Option<Parts<'b>> {
    let length = usize::try_from(varint::take_i32(rest)?).ok()?;
    let (mut body, tail) = rest.split_at_checked(length)?;
    *rest = tail;

    let body = &mut body;
    let _attributes = body.split_off_first()?;
    let parts = Parts {
        timestamp_delta: varint::take_i64(body)?,
        offset_delta: varint::take_i32(body)?,
        key: take_nullable(body)?,
        value: take_nullable(body)?,
        headers: take_headers(body)?,
    };
    body.is_empty().then_some(parts)
}

/// Walks the headers once, so that [`Headers`] can be trusted.
fn take_headers<'b>(body: &mut &'b [u8]) -> Option<Headers<'b>> {
    let remaining = u32::try_from(varint::take_i32(body)?).ok()?;
    let bytes = *body;
    for _ in 0..remaining {
        take_header(body)?;
    }
    Some(Headers { bytes: &bytes[..bytes.len() - body.len()], remaining })
}

fn take_header<'b>(bytes: &mut &'b [u8]) -> Option<(&'b [u8], Option<&'b [u8]>)> {
    let key = take_nullable(bytes)??;
    Some((key, take_nullable(bytes)?))
}

/// Outer `None`: malformed. Inner: absent, which is length -1.
fn take_nullable<'b>(bytes: &mut &'b [u8]) -> Option<Option<&'b [u8]>> {
    match varint::take_i32(bytes)? {
        -1 => Some(None),
        length => {
            let (value, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
            *bytes = rest;
            Some(Some(value))
        }
    }
}

impl<'b> Iterator for Headers<'b> {
    /// Key, which Kafka's clients take for UTF-8 and we do not, and value.
    type Item = (&'b [u8], Option<&'b [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        Some(take_header(&mut self.bytes).expect("walked when the record was taken"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining as usize, Some(self.remaining as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::batch_builder::BatchBuilder;
    use crate::codec::record_batch::{
        ATTRIBUTES_AT, HEADER_BYTES, LAST_OFFSET_DELTA_AT, MAX_TIMESTAMP_AT, ProducerStamp,
        patch_base_offset, put,
    };
    use crate::model::ProducerId;
    use bytes::BytesMut;
    use kafka_protocol::indexmap::IndexMap;
    use kafka_protocol::protocol::StrBytes;
    use kafka_protocol::records as oracle;
    use proptest::prelude::*;

    const BYTES_MAX: usize = 1 << 20;

    #[derive(Clone, Debug, PartialEq)]
    struct Spec {
        timestamp: i64,
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        headers: Vec<(String, Option<Vec<u8>>)>,
    }

    fn build(codec: Compression, specs: &[Spec]) -> Vec<u8> {
        let stamp = ProducerStamp { id: ProducerId(3), epoch: 2, base_sequence: 1 };
        let mut builder = BatchBuilder::new(codec).producer(stamp).transactional();
        for spec in specs {
            let headers: Vec<_> =
                spec.headers.iter().map(|(key, value)| (key.as_bytes(), value.as_deref())).collect();
            builder.push(spec.timestamp, spec.key.as_deref(), spec.value.as_deref(), &headers);
        }
        builder.finish()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Spec>, RecordError> {
        let batch = RecordBatch::parse(bytes).expect("a sound header");
        let inflated = InflatedBatch::open(batch, BYTES_MAX)?;
        let mut specs = Vec::new();
        for (index, record) in inflated.records().enumerate() {
            let record = record?;
            assert_eq!(record.offset, batch.base_offset().plus(index as u32));
            specs.push(Spec {
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers
                    .map(|(key, value)| {
                        (String::from_utf8(key.to_vec()).expect("ours"), value.map(<[u8]>::to_vec))
                    })
                    .collect(),
            });
        }
        Ok(specs)
    }

    fn timestamps(codec: Compression, timestamps: &[i64]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for timestamp in timestamps {
            builder.push(*timestamp, None, Some(b"value"), &[]);
        }
        let mut bytes = builder.finish();
        patch_base_offset(&mut bytes, Offset(100));
        bytes
    }

    #[test]
    fn headers_repeat_in_order() {
        let header = |key: &str, value: &str| (key.to_string(), Some(value.as_bytes().to_vec()));
        let headers = vec![header("b", "1"), header("a", "2"), header("b", "3"), ("b".to_string(), None)];
        let specs = [Spec { timestamp: 5, key: None, value: Some(vec![]), headers }];
        assert_eq!(read(&build(Compression::None, &specs)).expect("readable"), specs);
    }

    #[test]
    fn records_that_contradict_their_header_are_errors() {
        type Damage = fn(&mut Vec<u8>);
        let table: [(&str, Damage, &str); 6] = [
            ("length", |b| b[HEADER_BYTES] = 1, "record 0 of the batch is malformed"),
            ("long", |b| b[HEADER_BYTES] = 0x7e, "record 0 of the batch is malformed"),
            ("delta", |b| b[HEADER_BYTES + 3] = 8, "record 0 has offset delta 4, outside"),
            ("negative delta", |b| b[HEADER_BYTES + 3] = 1, "record 0 has offset delta -1, outside"),
            ("key", |b| b[HEADER_BYTES + 4] = 3, "record 0 of the batch is malformed"),
            ("codec", |b| b[ATTRIBUTES_AT + 1] = 1, "Gzip data is malformed"),
        ];
        for (name, damage, expected) in table {
            let mut bytes = timestamps(Compression::None, &[1, 2]);
            damage(&mut bytes);
            let error = read(&bytes).expect_err(name).to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }

        let mut bytes = timestamps(Compression::None, &[1, 2]);
        put(&mut bytes, LAST_OFFSET_DELTA_AT, 0i32.to_be_bytes());
        put(&mut bytes, HEADER_BYTES - 4, 1i32.to_be_bytes());
        let error = read(&bytes).expect_err("one record more than counted").to_string();
        assert!(error.contains("follow the batch's last record"), "{error}");
    }

    #[test]
    fn bombs_are_refused() {
        let zeros = vec![0; BYTES_MAX + 1];
        for codec in Compression::ALL {
            if codec == Compression::None {
                continue;
            }
            let mut builder = BatchBuilder::new(codec);
            builder.push(0, None, Some(&zeros), &[]);
            let bytes = builder.finish();
            assert!(bytes.len() < BYTES_MAX / 10, "{codec:?} packs zeros");
            assert!(matches!(read(&bytes), Err(RecordError::Compression(_))), "{codec:?}");
        }
    }

    fn spec() -> impl Strategy<Value = Spec> {
        let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..40));
        let headers = prop::collection::vec(("[a-c]{0,3}", bytes()), 0..4);
        (0i64..1 << 40, bytes(), bytes(), headers).prop_map(|(timestamp, key, value, headers)| Spec {
            timestamp,
            key,
            value,
            headers,
        })
    }

    fn specs() -> impl Strategy<Value = Vec<Spec>> {
        prop::collection::vec(spec(), 1..30)
    }

    fn codec() -> impl Strategy<Value = Compression> {
        prop::sample::select(&Compression::ALL[..])
    }

    /// The oracle keeps headers in a map: of a repeated key, its first place and its last value.
    fn merge_headers(headers: &[(String, Option<Vec<u8>>)]) -> IndexMap<StrBytes, Option<bytes::Bytes>> {
        let pair = |(key, value): &(String, Option<Vec<u8>>)| {
            (StrBytes::from_string(key.clone()), value.clone().map(bytes::Bytes::from))
        };
        headers.iter().map(pair).collect()
    }

    fn oracle_codec(codec: Compression) -> oracle::Compression {
        match codec {
            Compression::None => oracle::Compression::None,
            Compression::Gzip => oracle::Compression::Gzip,
            Compression::Snappy => oracle::Compression::Snappy,
            Compression::Lz4 => oracle::Compression::Lz4,
            Compression::Zstd => oracle::Compression::Zstd,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn round_trip(codec in codec(), specs in specs()) {
            let bytes = build(codec, &specs);
            RecordBatch::parse(&bytes).expect("sound").verify_crc().expect("sealed");
            prop_assert_eq!(read(&bytes).map_err(|error| error.to_string()), Ok(specs));
        }

        #[test]
        fn the_oracle_reads_what_we_build(codec in codec(), specs in specs()) {
            let mut bytes = bytes::Bytes::from(build(codec, &specs));
            let set = oracle::RecordBatchDecoder::decode(&mut bytes).expect("a sound batch");
            prop_assert_eq!(set.compression, oracle_codec(codec));
            prop_assert_eq!(set.records.len(), specs.len());
            for (index, (record, spec)) in set.records.iter().zip(&specs).enumerate() {
                prop_assert_eq!(record.offset, index as i64);
                prop_assert_eq!(record.timestamp, spec.timestamp);
                prop_assert_eq!(record.key.as_deref(), spec.key.as_deref());
                prop_assert_eq!(record.value.as_deref(), spec.value.as_deref());
                prop_assert_eq!(&record.headers, &merge_headers(&spec.headers));
                prop_assert_eq!((record.producer_id, record.producer_epoch), (3, 2));
                prop_assert_eq!(record.sequence, 1 + index as i32);
                prop_assert!(record.transactional && !record.control);
            }
        }

        #[test]
        fn we_read_what_the_oracle_builds(codec in codec(), mut specs in specs()) {
            let mut records = Vec::new();
            for (index, spec) in specs.iter_mut().enumerate() {
                spec.headers.dedup_by(|a, b| a.0 == b.0);
                spec.headers.sort();
                spec.headers.dedup_by(|a, b| a.0 == b.0);
                records.push(oracle::Record {
                    transactional: false,
                    control: false,
                    delete_horizon: false,
                    partition_leader_epoch: 6,
                    producer_id: 11,
                    producer_epoch: 4,
                    timestamp_type: oracle::TimestampType::Creation,
                    offset: index as i64,
                    sequence: 70 + index as i32,
                    timestamp: spec.timestamp,
                    key: spec.key.clone().map(bytes::Bytes::from),
                    value: spec.value.clone().map(bytes::Bytes::from),
                    headers: merge_headers(&spec.headers),
                });
            }
            let options = oracle::RecordEncodeOptions { version: 2, compression: oracle_codec(codec) };
            let mut bytes = BytesMut::new();
            oracle::RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("encodes");

            let batch = RecordBatch::parse(&bytes).expect("sound");
            batch.verify_crc().expect("the same polynomial over the same bytes");
            prop_assert_eq!(batch.compression(), codec);
            prop_assert_eq!(batch.leader_epoch(), 6);
            prop_assert_eq!(batch.record_count() as usize, specs.len());
            prop_assert_eq!(Some(batch.max_timestamp()), specs.iter().map(|spec| spec.timestamp).max());
            let stamp = ProducerStamp { id: ProducerId(11), epoch: 4, base_sequence: 70 };
            prop_assert_eq!(batch.producer(), Some(stamp));
            prop_assert_eq!(read(&bytes).map_err(|error| error.to_string()), Ok(specs));
        }

        #[test]
        fn hostile_records_never_panic(
            specs in specs(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            last_offset_delta in 0i32..100,
            max_timestamp: i64,
        ) {
            let mut bytes = build(Compression::None, &specs);
            for (at, byte) in damage {
                let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
                bytes[at] = byte;
            }
            put(&mut bytes, LAST_OFFSET_DELTA_AT, last_offset_delta.to_be_bytes());
            put(&mut bytes, MAX_TIMESTAMP_AT, max_timestamp.to_be_bytes());
            if let Ok(batch) = RecordBatch::parse(&bytes) {
                for record in InflatedBatch::open(batch, BYTES_MAX).expect("not compressed").records() {
                    let _ = record.map(|record| record.headers.count());
                }
            }
        }
    }
}
