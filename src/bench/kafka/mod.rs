//! The Kafka driver: [`control`] prepares a topic over a blocking connection, [`KafkaDriver`] makes
//! the requests of the load and reads its answers.

pub mod control;
pub mod wire;

use super::driver::{Ack, Driver, FetchFrom, Malformed, Stamp};
use super::payload::{self, Random};
use crate::base::crc::crc32c;
use wire::{Api, Reader, Writer, request};

/// Bytes of a record batch before its first record.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Where a batch's CRC-32C lies, and where the bytes begin that it covers.
const BATCH_CRC_AT: usize = 17;
const BATCH_CRC_FROM: usize = 21;
/// Where its producer id lies, followed by the epoch, and its first record's sequence.
const BATCH_PRODUCER_AT: usize = 43;
const BATCH_SEQUENCE_AT: usize = 53;
/// Sequences count up to here and begin again at 0.
const SEQUENCE_MASK: u64 = i32::MAX as u64;
/// How long the broker may hold a produce request back, and a fetch that finds nothing.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;
const FETCH_WAIT_MS: i32 = 500;
/// Of one answer. Large enough to cost few round trips, small enough to stay in the cache.
const FETCH_BYTES: i32 = 1 << 20;

/// What every request of a run has in common.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    pub run: u64,
    pub topic: String,
    /// 1 or -1 (all).
    pub acks: i16,
    /// Of a record's value, at least [`payload::HEADER_BYTES`].
    pub record_bytes: usize,
    /// Records of a batch; a request carries one batch.
    pub records: u32,
    /// Of a record's key; 0 for none.
    pub key_bytes: usize,
    /// Of the records, since 1970.
    pub timestamp_ms: i64,
    /// By the producer's number; empty when producers are not idempotent.
    pub producer_ids: Vec<ProducerId>,
}

/// What makes a producer idempotent, as the broker handed it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerId {
    pub id: i64,
    pub epoch: i16,
}

impl Shape {
    /// Bytes of a record after its own length: attributes, time, offset, key, value, no headers.
    fn record_body_len(&self, index: u32) -> usize {
        let key = match self.key_bytes {
            0 => 1,
            bytes => varint_len(bytes as i64) + bytes,
        };
        let value = varint_len(self.record_bytes as i64) + self.record_bytes;
        1 + 1 + varint_len(i64::from(index)) + key + value + 1
    }

    fn record_len(&self, index: u32) -> usize {
        let body = self.record_body_len(index);
        varint_len(body as i64) + body
    }
}

/// Requests of one [`Shape`].
pub struct KafkaDriver {
    shape: Shape,
    layout: Layout,
}

/// Offsets of the patched fields inside a request's frame.
#[derive(Clone, Debug, Default)]
struct Layout {
    partition_at: usize,
    batch_at: usize,
    keys_at: Vec<usize>,
    values_at: Vec<usize>,
}

/// Where the correlation id lies in a frame, the length included.
const CORRELATION_AT: usize = 8;

impl KafkaDriver {
    pub fn new(shape: Shape) -> KafkaDriver {
        assert!(shape.record_bytes >= payload::HEADER_BYTES && shape.records > 0);
        let mut driver = KafkaDriver { shape, layout: Layout::default() };
        driver.layout = driver.encode(&mut Vec::new());
        driver
    }

    /// The most records of `record_bytes` whose batch has at most `batch_bytes`; at least one.
    pub fn records_in(batch_bytes: usize, record_bytes: usize, key_bytes: usize) -> u32 {
        let shape = Shape { record_bytes, key_bytes, ..Shape::default() };
        let mut total = BATCH_HEADER_BYTES;
        let mut count = 0;
        loop {
            total += shape.record_len(count);
            if total > batch_bytes && count > 0 {
                return count;
            }
            count += 1;
        }
    }

    /// Bytes of a request's batch.
    pub fn batch_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + (0..self.shape.records).map(|index| self.shape.record_len(index)).sum::<usize>()
    }

    /// Append a request with zeros for keys and values.
    fn encode(&self, out: &mut Vec<u8>) -> Layout {
        let start = out.len();
        let mut layout = Layout::default();
        request(out, Api::PRODUCE, 0, |out| {
            out.null_string();
            out.i16(self.shape.acks);
            out.i32(PRODUCE_TIMEOUT_MS);
            out.count(1);
            out.string(&self.shape.topic);
            out.count(1);
            layout.partition_at = out.len() - start;
            out.i32(0);
            out.count(self.batch_bytes());
            layout.batch_at = out.len() - start;
            self.encode_batch(out, start, &mut layout);
        });
        layout
    }

    /// Append the batch; the offsets of `layout` count from `start`.
    fn encode_batch(&self, out: &mut Vec<u8>, start: usize, layout: &mut Layout) {
        let Shape { records, record_bytes, key_bytes, timestamp_ms, .. } = self.shape;
        out.i64(0);
        out.count(self.batch_bytes() - 12);
        out.i32(-1);
        out.i8(2);
        out.i32(0);
        out.i16(0);
        out.i32(records as i32 - 1);
        out.i64(timestamp_ms);
        out.i64(timestamp_ms);
        // No producer id, epoch or sequence: stamped when producers are idempotent.
        out.i64(-1);
        out.i16(-1);
        out.i32(-1);
        out.i32(records as i32);
        for index in 0..records {
            out.varint(self.shape.record_body_len(index) as i64);
            out.i8(0);
            out.varint(0);
            out.varint(i64::from(index));
            out.varint(if key_bytes == 0 { -1 } else { key_bytes as i64 });
            layout.keys_at.push(out.len() - start);
            out.resize(out.len() + key_bytes, 0);
            out.varint(record_bytes as i64);
            layout.values_at.push(out.len() - start);
            out.resize(out.len() + record_bytes, 0);
            out.varint(0);
        }
    }
}

/// Of a number that is not negative.
fn varint_len(value: i64) -> usize {
    let bits = 64 - ((value as u64) << 1).leading_zeros() as usize;
    bits.div_ceil(7).max(1)
}

impl Driver for KafkaDriver {
    fn run(&self) -> u64 {
        self.shape.run
    }

    fn records(&self) -> u32 {
        self.shape.records
    }

    fn encode_request(
        &self,
        producer: u32,
        random: &mut Random,
        out: &mut Vec<u8>,
        body_crcs: &mut Vec<u32>,
    ) {
        let start = out.len();
        self.encode(out);
        if let Some(ProducerId { id, epoch }) = self.shape.producer_ids.get(producer as usize) {
            let fields = &mut out[start + self.layout.batch_at + BATCH_PRODUCER_AT..];
            fields[..8].copy_from_slice(&id.to_be_bytes());
            fields[8..10].copy_from_slice(&epoch.to_be_bytes());
        }
        for &at in &self.layout.keys_at {
            random.fill(&mut out[start + at..][..self.shape.key_bytes]);
        }
        for &at in &self.layout.values_at {
            let value = &mut out[start + at..][..self.shape.record_bytes];
            body_crcs.push(payload::prepare(value, self.shape.run, producer, random));
        }
    }

    #[inline]
    fn stamp_request(&self, request: &mut [u8], body_crcs: &[u32], stamp: &Stamp) {
        request[CORRELATION_AT..][..4].copy_from_slice(&stamp.correlation.to_be_bytes());
        request[self.layout.partition_at..][..4].copy_from_slice(&stamp.partition.to_be_bytes());
        let sequences = stamp.sequence..;
        for ((&at, &body_crc), sequence) in self.layout.values_at.iter().zip(body_crcs).zip(sequences) {
            let value = &mut request[at..][..self.shape.record_bytes];
            payload::stamp(value, body_crc, sequence, stamp.intended_ns);
        }
        let batch = &mut request[self.layout.batch_at..];
        if !self.shape.producer_ids.is_empty() {
            let sequence = (stamp.sequence & SEQUENCE_MASK) as i32;
            batch[BATCH_SEQUENCE_AT..][..4].copy_from_slice(&sequence.to_be_bytes());
        }
        let crc = crc32c(&batch[BATCH_CRC_FROM..]);
        batch[BATCH_CRC_AT..][..4].copy_from_slice(&crc.to_be_bytes());
    }

    #[inline]
    fn parse_ack(&self, frame: &[u8]) -> Result<Ack, Malformed> {
        let mut reader = Reader(frame);
        let correlation = reader.i32()? as u32;
        if reader.count()? != 1 {
            return Err(Malformed("a produce answer of another number of topics"));
        }
        reader.string()?;
        if reader.count()? != 1 {
            return Err(Malformed("a produce answer of another number of partitions"));
        }
        let partition = reader.i32()?;
        let error = reader.i16()?;
        let base = reader.i64()?;
        match error {
            0 if base < 0 => Err(Malformed("a negative base offset")),
            0 => Ok(Ack { correlation, partition, result: Ok(base) }),
            code => Ok(Ack { correlation, partition, result: Err(code) }),
        }
    }

    fn encode_fetch(&self, correlation: u32, from: &[FetchFrom], wait: bool, out: &mut Vec<u8>) {
        request(out, Api::FETCH, correlation, |out| {
            out.i32(-1);
            out.i32(if wait { FETCH_WAIT_MS } else { 0 });
            out.i32(1);
            out.i32(FETCH_BYTES);
            out.i8(0);
            out.count(1);
            out.string(&self.shape.topic);
            out.count(from.len());
            for partition in from {
                out.i32(partition.partition);
                out.i64(partition.offset);
                out.i32(FETCH_BYTES);
            }
        });
    }

    fn parse_fetch(
        &self,
        frame: &[u8],
        correlation: u32,
        record: &mut dyn FnMut(i32, i64, &[u8]),
        error: &mut dyn FnMut(i32, i16),
    ) -> Result<(), Malformed> {
        let mut reader = Reader(frame);
        if reader.i32()? as u32 != correlation {
            return Err(Malformed("an answer out of turn"));
        }
        let _throttle_ms = reader.i32()?;
        for _ in 0..reader.count()? {
            reader.string()?;
            for _ in 0..reader.count()? {
                let partition = reader.i32()?;
                let code = reader.i16()?;
                let _high_watermark = reader.i64()?;
                let _last_stable_offset = reader.i64()?;
                for _ in 0..reader.count()? {
                    let _aborted = (reader.i64()?, reader.i64()?);
                }
                let batches = reader.bytes()?;
                if code != 0 {
                    error(partition, code);
                }
                parse_batches(batches, &mut |offset, value| record(partition, offset, value))?;
            }
        }
        Ok(())
    }
}

/// Give every record of whole batches to `record`; a batch that is cut off at the end is legal and
/// ignored.
fn parse_batches(mut bytes: &[u8], record: &mut dyn FnMut(i64, &[u8])) -> Result<(), Malformed> {
    loop {
        let mut header = Reader(bytes);
        let (Ok(base), Ok(length)) = (header.i64(), header.i32()) else { return Ok(()) };
        let Ok(mut batch) = header.take(length.max(0) as usize).map(Reader) else { return Ok(()) };
        bytes = header.0;
        let _leader_epoch = batch.i32()?;
        if batch.i8()? != 2 {
            return Err(Malformed("a batch that is not of magic 2"));
        }
        let _crc = batch.i32()?;
        if batch.i16()? & 0b10_0111 != 0 {
            return Err(Malformed("a compressed or a control batch, which this run did not write"));
        }
        let _last_delta_times_and_producer = batch.take(4 + 8 + 8 + 8 + 2 + 4)?;
        for _ in 0..batch.count()? {
            let length = batch.varint()?;
            let length = usize::try_from(length).map_err(|_| Malformed("a record of negative length"))?;
            let mut fields = Reader(batch.take(length)?);
            let _attributes = fields.i8()?;
            let _time_delta = fields.varint()?;
            let offset_delta = fields.varint()?;
            let key_length = fields.varint()?;
            fields.take(key_length.max(0) as usize)?;
            let value_length = fields.varint()?;
            let value = fields.take(value_length.max(0) as usize)?;
            let offset = base.checked_add(offset_delta).filter(|offset| *offset >= 0);
            record(offset.ok_or(Malformed("an offset that cannot be"))?, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(record_bytes: usize, records: u32) -> KafkaDriver {
        KafkaDriver::new(Shape {
            run: 1,
            topic: "t".into(),
            acks: -1,
            record_bytes,
            records,
            timestamp_ms: 1_700_000_000_000,
            ..Shape::default()
        })
    }

    #[test]
    fn a_stamped_request_is_a_valid_batch_for_another_codec() {
        use kafka_protocol::messages::{ProduceRequest, RequestHeader};
        use kafka_protocol::protocol::Decodable;
        use kafka_protocol::records::RecordBatchDecoder;

        for (record_bytes, records) in [(32, 1), (100, 143), (1024, 63), (9000, 3)] {
            let driver = driver(record_bytes, records);
            let (mut frame, mut crcs) = (Vec::new(), Vec::new());
            driver.encode_request(3, &mut Random(1), &mut frame, &mut crcs);
            let stamp = Stamp { correlation: 77, partition: 5, sequence: 1000, intended_ns: 8 };
            driver.stamp_request(&mut frame, &crcs, &stamp);

            let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
            assert_eq!(length, frame.len() - 4);
            let mut bytes = bytes::Bytes::from(frame).slice(4..);
            let header = RequestHeader::decode(&mut bytes, 1).unwrap();
            assert_eq!((header.correlation_id, header.request_api_version), (77, 7));
            let request = ProduceRequest::decode(&mut bytes, 7).unwrap();
            assert!(bytes.is_empty());
            let partition = &request.topic_data[0].partition_data[0];
            assert_eq!(partition.index, 5);
            let mut batch = partition.records.clone().unwrap();
            assert_eq!(batch.len(), driver.batch_bytes());
            // Decoding checks the batch's CRC.
            let decoded = RecordBatchDecoder::decode(&mut batch).unwrap();
            assert_eq!(decoded.records.len(), records as usize);
            for (index, record) in decoded.records.iter().enumerate() {
                let value = record.value.as_ref().unwrap();
                assert_eq!(value.len(), record_bytes);
                let payload = payload::check(value).expect("the payload's own checksum");
                assert_eq!((payload.producer, payload.sequence), (3, 1000 + index as u64));
            }
        }
    }

    #[test]
    fn an_idempotent_batch_names_its_producer_and_first_sequence_and_records_have_keys() {
        use kafka_protocol::records::RecordBatchDecoder;

        let driver = KafkaDriver::new(Shape {
            key_bytes: 16,
            producer_ids: vec![ProducerId { id: 5, epoch: 0 }, ProducerId { id: 6, epoch: 2 }],
            ..driver(100, 3).shape
        });
        let (mut frame, mut crcs) = (Vec::new(), Vec::new());
        driver.encode_request(1, &mut Random(1), &mut frame, &mut crcs);
        // The first number after the largest is 0.
        let stamp = Stamp { correlation: 1, partition: 0, sequence: (1 << 31) + 9, intended_ns: 8 };
        driver.stamp_request(&mut frame, &crcs, &stamp);
        let mut batch = bytes::Bytes::from(frame).slice(driver.layout.batch_at..);
        let decoded = RecordBatchDecoder::decode(&mut batch).unwrap();
        for (record, sequence) in decoded.records.iter().zip(9..) {
            assert_eq!((record.producer_id, record.producer_epoch, record.sequence), (6, 2, sequence));
            assert_eq!(record.key.as_ref().map(|key| key.len()), Some(16));
            assert!(payload::check(record.value.as_ref().unwrap()).is_some());
        }
    }

    #[test]
    fn batches_are_as_large_as_asked_and_not_larger() {
        for (batch_bytes, record_bytes) in [(16384, 1024), (65536, 1024), (16384, 100), (1, 128), (300, 100)]
        {
            let records = KafkaDriver::records_in(batch_bytes, record_bytes, 0);
            assert!(records == 1 || driver(record_bytes, records).batch_bytes() <= batch_bytes);
            assert!(driver(record_bytes, records + 1).batch_bytes() > batch_bytes);
        }
    }

    #[test]
    fn a_batch_that_is_read_back_gives_its_records_and_no_prefix_panics() {
        let driver = driver(40, 3);
        let mut batch = Vec::new();
        driver.encode_batch(&mut batch, 0, &mut Layout::default());
        batch[..8].copy_from_slice(&100i64.to_be_bytes());
        let two = [&batch[..], &batch].concat();
        for end in 0..=two.len() {
            let mut offsets = Vec::new();
            parse_batches(&two[..end], &mut |offset, _| offsets.push(offset)).unwrap();
            assert_eq!(offsets.len(), end / batch.len() * 3);
        }
        for (at, value) in [(16, 1u8), (22, 1), (61, 0xff)] {
            let mut damaged = batch.clone();
            damaged[at] = value;
            assert!(parse_batches(&damaged, &mut |_, _| ()).is_err(), "byte {at}");
        }
    }
}
