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
/// How long the broker may hold a produce request back, and a fetch that finds nothing.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;
const FETCH_WAIT_MS: i32 = 500;
/// Of one answer. Large enough to cost few round trips, small enough to stay in the cache.
const FETCH_BYTES: i32 = 1 << 20;

/// What every request of a run has in common.
#[derive(Clone, Debug)]
pub struct Shape {
    pub run: u64,
    pub topic: String,
    /// 1 or -1 (all).
    pub acks: i16,
    /// Of a record's value, at least [`payload::HEADER_BYTES`].
    pub record_bytes: usize,
    /// Records of a batch; a request carries one batch.
    pub records: u32,
    /// Of the records, since 1970.
    pub timestamp_ms: i64,
}

/// Requests of one [`Shape`].
pub struct KafkaDriver {
    shape: Shape,
    /// Offsets of the patched fields inside a request's frame.
    partition_at: usize,
    batch_at: usize,
    values_at: Vec<usize>,
}

/// Where the correlation id lies in a frame, the length included.
const CORRELATION_AT: usize = 8;

impl KafkaDriver {
    pub fn new(shape: Shape) -> KafkaDriver {
        assert!(shape.record_bytes >= payload::HEADER_BYTES && shape.records > 0);
        let mut driver = KafkaDriver { shape, partition_at: 0, batch_at: 0, values_at: Vec::new() };
        let mut frame = Vec::new();
        (driver.partition_at, driver.batch_at, driver.values_at) = driver.layout(&mut frame);
        driver
    }

    /// The most records of `record_bytes` whose batch has at most `batch_bytes`; at least one.
    pub fn records_in(batch_bytes: usize, record_bytes: usize) -> u32 {
        let mut total = BATCH_HEADER_BYTES;
        let mut count = 0;
        loop {
            total += record_len(count, record_bytes);
            if total > batch_bytes && count > 0 {
                return count;
            }
            count += 1;
        }
    }

    /// Bytes of a request's batch.
    pub fn batch_bytes(&self) -> usize {
        let records = 0..self.shape.records;
        BATCH_HEADER_BYTES + records.map(|index| record_len(index, self.shape.record_bytes)).sum::<usize>()
    }

    /// Append a request with zeros for values; returns where partition, batch and values lie.
    fn layout(&self, out: &mut Vec<u8>) -> (usize, usize, Vec<usize>) {
        let start = out.len();
        let (mut partition_at, mut batch_at, mut values_at) = (0, 0, Vec::new());
        request(out, Api::PRODUCE, 0, |out| {
            out.null_string();
            out.i16(self.shape.acks);
            out.i32(PRODUCE_TIMEOUT_MS);
            out.count(1);
            out.string(&self.shape.topic);
            out.count(1);
            partition_at = out.len() - start;
            out.i32(0);
            out.count(self.batch_bytes());
            batch_at = out.len() - start;
            self.batch(out, |out| values_at.push(out.len() - start));
        });
        (partition_at, batch_at, values_at)
    }

    /// Append the batch; `value_begins` is told before every value.
    fn batch(&self, out: &mut Vec<u8>, mut value_begins: impl FnMut(&mut Vec<u8>)) {
        let Shape { records, record_bytes, timestamp_ms, .. } = self.shape;
        out.i64(0);
        out.count(self.batch_bytes() - 12);
        out.i32(-1);
        out.i8(2);
        out.i32(0);
        out.i16(0);
        out.i32(records as i32 - 1);
        out.i64(timestamp_ms);
        out.i64(timestamp_ms);
        // Not idempotent: no producer id, epoch or sequence.
        out.i64(-1);
        out.i16(-1);
        out.i32(-1);
        out.i32(records as i32);
        for index in 0..records {
            out.varint(record_body_len(index, record_bytes) as i64);
            out.i8(0);
            out.varint(0);
            out.varint(i64::from(index));
            out.varint(-1);
            out.varint(record_bytes as i64);
            value_begins(out);
            out.resize(out.len() + record_bytes, 0);
            out.varint(0);
        }
    }
}

/// Bytes of a record after its own length: attributes, time, offset, no key, value, no headers.
fn record_body_len(index: u32, record_bytes: usize) -> usize {
    1 + 1 + varint_len(i64::from(index)) + 1 + varint_len(record_bytes as i64) + record_bytes + 1
}

fn record_len(index: u32, record_bytes: usize) -> usize {
    let body = record_body_len(index, record_bytes);
    varint_len(body as i64) + body
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
        self.layout(out);
        for &at in &self.values_at {
            let value = &mut out[start + at..][..self.shape.record_bytes];
            body_crcs.push(payload::prepare(value, self.shape.run, producer, random));
        }
    }

    #[inline]
    fn stamp_request(&self, request: &mut [u8], body_crcs: &[u32], stamp: &Stamp) {
        request[CORRELATION_AT..][..4].copy_from_slice(&stamp.correlation.to_be_bytes());
        request[self.partition_at..][..4].copy_from_slice(&stamp.partition.to_be_bytes());
        let sequences = stamp.sequence..;
        for ((&at, &body_crc), sequence) in self.values_at.iter().zip(body_crcs).zip(sequences) {
            let value = &mut request[at..][..self.shape.record_bytes];
            payload::stamp(value, body_crc, sequence, stamp.intended_ns);
        }
        let batch = &mut request[self.batch_at..];
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
    fn batches_are_as_large_as_asked_and_not_larger() {
        for (batch_bytes, record_bytes) in [(16384, 1024), (65536, 1024), (16384, 100), (1, 128), (300, 100)]
        {
            let records = KafkaDriver::records_in(batch_bytes, record_bytes);
            assert!(records == 1 || driver(record_bytes, records).batch_bytes() <= batch_bytes);
            assert!(driver(record_bytes, records + 1).batch_bytes() > batch_bytes);
        }
    }

    #[test]
    fn a_batch_that_is_read_back_gives_its_records_and_no_prefix_panics() {
        let driver = driver(40, 3);
        let mut batch = Vec::new();
        driver.batch(&mut batch, |_| ());
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
