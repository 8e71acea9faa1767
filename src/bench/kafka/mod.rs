//! The Kafka driver: [`setup`] prepares topics over a blocking connection ([`control`]),
//! [`KafkaDriver`] makes the requests of the load and reads its answers, [`group`] has the members of
//! groups, and [`group_answers`] reads what they are answered.

pub mod codes;
pub mod control;
pub mod group;
pub mod group_answers;
pub mod keys;
pub mod packing;
pub mod setup;
pub mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use super::driver::{Ack, Code, Control, Driver, FetchFrom, Fetched, Malformed, Packer, Stamp};
use super::error::BenchError;
use super::groups::{Members, Positions, Share};
use super::payload::{self, Body, Random};
use super::topics::Topics;
use codes::code;
use control::KafkaControl;
use group::Joined;
use keys::Keys;
use packing::{BatchPacker, Compression, seal};
use wire::{Api, Reader, Writer, request};

/// Bytes of a record batch before its first record.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Where the length of what follows it lies.
const BATCH_LENGTH_AT: usize = 8;
/// Where a batch's CRC-32C lies, and where the bytes begin that it covers.
const BATCH_CRC_AT: usize = 17;
const BATCH_CRC_FROM: usize = 21;
const BATCH_ATTRIBUTES_AT: usize = 21;
/// Where the difference between the last record's offset and the first's lies.
const BATCH_LAST_DELTA_AT: usize = 23;
/// Where its producer id lies, followed by the epoch, and its first record's sequence.
const BATCH_PRODUCER_AT: usize = 43;
const BATCH_SEQUENCE_AT: usize = 53;
const BATCH_COUNT_AT: usize = 57;
/// Attributes of a batch that is not the data of a producer.
const CONTROL: i16 = 0b10_0000;
/// Sequences count up to here and begin again at 0.
const SEQUENCE_MASK: u64 = i32::MAX as u64;
/// How long the broker may hold a produce request back, and a fetch that finds nothing.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;
const FETCH_WAIT_MS: i32 = 500;
/// Of one answer. Small enough to be checked in a few milliseconds, and large enough that one connection reads as
/// fast as many write: a round trip to a busy broker takes milliseconds, too.
const FETCH_BYTES: i32 = 4 << 20;
/// Of one partition in it, as with clients.
const FETCH_BYTES_OF_ONE: i32 = 1 << 20;
/// Of an answer that names more than so many partitions: as with clients, who ask for 50 MiB, it has room for some
/// of each.
const FETCH_BYTES_OF_MANY: i32 = 16 << 20;
const FEW_PARTITIONS: usize = 100;
/// Partitions named in one fetch. Of more, only those are named that are known to have something.
const FETCH_PARTITIONS_MAX: usize = 1000;

/// What every request of a run has in common.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    pub run: u64,
    pub topics: Topics,
    /// 0, 1 or -1 (all).
    pub acks: i16,
    /// Of a record's value, at least [`payload::HEADER_BYTES`].
    pub record_bytes: usize,
    pub body: Body,
    /// The most records of a batch; a request carries one batch.
    pub records: u32,
    pub keys: Keys,
    pub compression: Compression,
    /// The most that the records of a batch may be once they are unpacked.
    pub unpacked_bytes_max: usize,
    /// Of the records, since 1970.
    pub timestamp_ms: i64,
    /// By the producer's number; empty when producers are not idempotent.
    pub producer_ids: Vec<ProducerId>,
    /// The cluster has more than one: a group's coordinator is asked at its own address.
    pub several_nodes: bool,
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
        let key = match self.keys.bytes {
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
    topic_at: usize,
    partition_at: usize,
    batch_at: usize,
    keys_at: Vec<usize>,
    values_at: Vec<usize>,
    /// Where each record ends.
    ends_at: Vec<usize>,
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
        let keys = Keys { bytes: key_bytes, ..Keys::default() };
        let shape = Shape { record_bytes, keys, ..Shape::default() };
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

    /// Append a request with zeros for keys and values.
    fn encode(&self, out: &mut Vec<u8>) -> Layout {
        let start = out.len();
        let mut layout = Layout::default();
        request(out, Api::PRODUCE, 0, |out| {
            out.null_string();
            out.i16(self.shape.acks);
            out.i32(PRODUCE_TIMEOUT_MS);
            out.count(1);
            layout.topic_at = out.len() - start + 2;
            out.string(&self.shape.topics.names()[0]);
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
        let Shape { records, record_bytes, keys, timestamp_ms, .. } = self.shape;
        let key_bytes = keys.bytes;
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
            layout.ends_at.push(out.len() - start);
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

    fn batch_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + (0..self.shape.records).map(|index| self.shape.record_len(index)).sum::<usize>()
    }

    fn packer(&self) -> Option<Box<dyn Packer>> {
        let packer = BatchPacker::new(self.shape.compression, self.layout.batch_at)?;
        Some(Box::new(packer))
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
            random.fill(&mut out[start + at..][..self.shape.keys.bytes]);
        }
        for &at in &self.layout.values_at {
            let value = &mut out[start + at..][..self.shape.record_bytes];
            body_crcs.push(payload::prepare(value, self.shape.run, producer, &self.shape.body, random));
        }
    }

    #[inline]
    fn stamp_request(&self, request: &mut [u8], body_crcs: &[u32], stamp: &Stamp<'_>) -> usize {
        let Layout { topic_at, partition_at, batch_at, keys_at, values_at, ends_at } = &self.layout;
        let Shape { topics, keys, record_bytes, .. } = &self.shape;
        request[CORRELATION_AT..][..4].copy_from_slice(&stamp.correlation.to_be_bytes());
        let (topic, partition) = topics.place(stamp.partition);
        if topics.names().len() > 1 {
            let name = topics.names()[topic].as_bytes();
            request[*topic_at..][..name.len()].copy_from_slice(name);
        }
        request[*partition_at..][..4].copy_from_slice(&partition.to_be_bytes());
        let count = stamp.records as usize;
        let places = values_at[..count].iter().zip(body_crcs);
        for (index, ((&at, &body_crc), sequence)) in places.zip(stamp.sequence..).enumerate() {
            let value = &mut request[at..][..*record_bytes];
            payload::stamp(value, body_crc, sequence, stamp.intended_of(index));
        }
        if keys.are_stamped() {
            for (&at, sequence) in keys_at[..count].iter().zip(stamp.sequence..) {
                let key = &mut request[at..][..keys.bytes];
                keys.stamp(key, stamp.partition, topics.total(), self.shape.run, sequence);
            }
        }
        let request = &mut request[..ends_at[count - 1]];
        let batch = &mut request[*batch_at..];
        batch[BATCH_LAST_DELTA_AT..][..4].copy_from_slice(&(stamp.records - 1).to_be_bytes());
        batch[BATCH_COUNT_AT..][..4].copy_from_slice(&stamp.records.to_be_bytes());
        if !self.shape.producer_ids.is_empty() {
            let sequence = (stamp.sequence & SEQUENCE_MASK) as i32;
            batch[BATCH_SEQUENCE_AT..][..4].copy_from_slice(&sequence.to_be_bytes());
        }
        seal(request, *batch_at);
        request.len()
    }

    fn answers(&self) -> bool {
        self.shape.acks != 0
    }

    #[inline]
    fn parse_ack(&self, frame: &[u8]) -> Result<Ack, Malformed> {
        let mut reader = Reader(frame);
        let correlation = reader.i32()? as u32;
        if reader.count()? != 1 {
            return Err(Malformed("a produce answer of another number of topics"));
        }
        let topic = reader.string()?;
        if reader.count()? != 1 {
            return Err(Malformed("a produce answer of another number of partitions"));
        }
        let partition = self.shape.topics.count(topic, reader.i32()?)?;
        let error = reader.i16()?;
        let base = reader.i64()?;
        match error {
            0 if base < 0 => Err(Malformed("a negative base offset")),
            0 => Ok(Ack { correlation, partition, result: Ok(base) }),
            number => Ok(Ack { correlation, partition, result: Err(code(number)) }),
        }
    }

    fn answers_in_order(&self) -> bool {
        true
    }

    fn fetch_partitions_max(&self) -> usize {
        FETCH_PARTITIONS_MAX
    }

    fn fetches_max(&self) -> usize {
        1
    }

    fn encode_fetch(&self, correlation: u32, from: &[FetchFrom], wait: bool, out: &mut Vec<u8>) {
        request(out, Api::FETCH, correlation, |out| {
            out.i32(-1);
            out.i32(if wait { FETCH_WAIT_MS } else { 0 });
            out.i32(1);
            out.i32(if from.len() > FEW_PARTITIONS { FETCH_BYTES_OF_MANY } else { FETCH_BYTES });
            out.i8(0);
            let topics = &self.shape.topics;
            let mut by_topic: BTreeMap<usize, Vec<(i32, i64)>> = BTreeMap::new();
            for &FetchFrom { partition, offset } in from {
                let (topic, partition) = topics.place(partition);
                by_topic.entry(topic).or_default().push((partition, offset));
            }
            out.count(by_topic.len());
            for (topic, from) in by_topic {
                out.string(&topics.names()[topic]);
                out.count(from.len());
                for (partition, offset) in from {
                    out.i32(partition);
                    out.i64(offset);
                    out.i32(FETCH_BYTES_OF_ONE);
                }
            }
        });
    }

    fn fetched_correlation(&self, frame: &[u8]) -> Result<u32, Malformed> {
        Ok(Reader(frame).i32()? as u32)
    }

    fn parse_fetch(
        &self,
        frame: &[u8],
        _from: &[FetchFrom],
        parts: &mut VecDeque<Fetched>,
    ) -> Result<(), Malformed> {
        let mut reader = Reader(frame);
        let _correlation = reader.i32()?;
        let _throttle_ms = reader.i32()?;
        for _ in 0..reader.count()? {
            let topic = reader.string()?;
            for _ in 0..reader.count()? {
                let partition = self.shape.topics.count(topic, reader.i32()?)?;
                let number = reader.i16()?;
                let _high_watermark = reader.i64()?;
                let _last_stable_offset = reader.i64()?;
                for _ in 0..reader.count()? {
                    let _aborted = (reader.i64()?, reader.i64()?);
                }
                let bytes = reader.bytes()?.len();
                let end = frame.len() - reader.0.len();
                let error = (number != 0).then(|| code(number));
                parts.push_back(Fetched { partition, error, records: end - bytes..end });
            }
        }
        Ok(())
    }

    fn parse_records(
        &self,
        records: &[u8],
        left: &mut usize,
        record: &mut dyn FnMut(i64, &[u8]),
    ) -> Result<usize, Malformed> {
        parse_batches(records, left, self.shape.unpacked_bytes_max, record)
    }

    fn is_removed(&self, code: Code) -> bool {
        code.number == codes::OFFSET_OUT_OF_RANGE
    }

    fn control(&self, address: SocketAddr) -> Result<Box<dyn Control>, BenchError> {
        Ok(Box::new(KafkaControl::connect(address)?))
    }

    fn join(
        &self,
        address: SocketAddr,
        shares: Vec<Share>,
        positions: &[Arc<Positions>],
        reconnect: bool,
    ) -> Result<Box<dyn Members>, BenchError> {
        let Shape { several_nodes, topics, .. } = &self.shape;
        Ok(Box::new(Joined::join(address, *several_nodes, topics, shares, positions, reconnect)?))
    }
}

/// Give every record of whole batches to `record`, until about `left` bytes are read, as they are when unpacked; a batch
/// that is cut off at the end is legal and ignored. Returns how many bytes were read as they came, all at the end.
fn parse_batches(
    records: &[u8],
    left: &mut usize,
    unpacked_bytes_max: usize,
    record: &mut dyn FnMut(i64, &[u8]),
) -> Result<usize, Malformed> {
    let mut bytes = records;
    loop {
        if *left == 0 {
            return Ok(records.len() - bytes.len());
        }
        let mut header = Reader(bytes);
        let (Ok(base), Ok(length)) = (header.i64(), header.i32()) else { return Ok(records.len()) };
        let Ok(mut batch) = header.take(length.max(0) as usize).map(Reader) else { return Ok(records.len()) };
        bytes = header.0;
        let _leader_epoch = batch.i32()?;
        if batch.i8()? != 2 {
            return Err(Malformed("a batch that is not of magic 2"));
        }
        let _crc = batch.i32()?;
        let attributes = batch.i16()?;
        if attributes & CONTROL != 0 {
            return Err(Malformed("a control batch, which this run did not write"));
        }
        let _last_delta_times_and_producer = batch.take(4 + 8 + 8 + 8 + 2 + 4)?;
        let count = batch.count()?;
        let unpacked;
        match Compression::of(attributes)? {
            Compression::None => {}
            compression => {
                unpacked = compression.unpack(batch.0, unpacked_bytes_max)?;
                batch = Reader(&unpacked);
            }
        }
        *left = left.saturating_sub(batch.0.len());
        for _ in 0..count {
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
            topics: Topics::new("t", 1, 8),
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

        let none = Compression::None;
        for (record_bytes, room, records, compression) in [
            (32, 1, 1, none),
            (100, 143, 143, none),
            (1024, 63, 63, none),
            (9000, 3, 3, none),
            (100, 143, 1, none),
            (100, 143, 77, none),
            (100, 143, 77, Compression::Gzip),
            (100, 143, 143, Compression::Snappy),
            (1024, 63, 63, Compression::Lz4),
            (9000, 3, 2, Compression::Zstd),
        ] {
            let body = Body::Random { share: 0.5 };
            let driver = KafkaDriver::new(Shape { compression, body, ..driver(record_bytes, room).shape });
            let (mut whole, mut crcs) = (Vec::new(), Vec::new());
            driver.encode_request(3, &mut Random(1), &mut whole, &mut crcs);
            let stamp =
                Stamp { correlation: 77, partition: 5, sequence: 1000, records, intended_ns: &[8, 9] };
            let length = driver.stamp_request(&mut whole, &crcs, &stamp);
            assert_eq!(length == whole.len(), records == room);
            let mut frame = whole[..length].to_vec();
            if let Some(mut packer) = driver.packer() {
                let plain = std::mem::take(&mut frame);
                packer.pack(&plain, &mut frame);
                assert!(frame.len() < plain.len() * 3 / 4, "{compression:?}: {}", frame.len());
            }

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
            let (mut read, ours) = (Vec::new(), batch.to_vec());
            let mut left = usize::MAX;
            parse_batches(&ours, &mut left, 1 << 20, &mut |offset, value| read.push((offset, value.len())))
                .unwrap();
            assert!(
                usize::MAX - left >= records as usize * record_bytes,
                "{compression:?}: counted unpacked"
            );
            let expected: Vec<(i64, usize)> = (0..i64::from(records)).map(|at| (at, record_bytes)).collect();
            assert_eq!(read, expected, "{compression:?}");
            // Decoding checks the batch's CRC.
            let decoded = RecordBatchDecoder::decode(&mut batch).unwrap();
            assert_eq!(decoded.records.len(), records as usize);
            for (index, record) in decoded.records.iter().enumerate() {
                let value = record.value.as_ref().unwrap();
                assert_eq!(value.len(), record_bytes);
                let payload = payload::check(value).expect("the payload's own checksum");
                assert_eq!((payload.producer, payload.sequence), (3, 1000 + index as u64));
                assert_eq!(payload.intended_ns, 8 + u64::from(index > 0));
            }
        }
    }

    #[test]
    fn an_idempotent_batch_names_its_producer_and_first_sequence_and_records_have_keys() {
        use kafka_protocol::records::RecordBatchDecoder;

        let driver = KafkaDriver::new(Shape {
            keys: Keys { bytes: 16, ..Keys::default() },
            producer_ids: vec![ProducerId { id: 5, epoch: 0 }, ProducerId { id: 6, epoch: 2 }],
            ..driver(100, 3).shape
        });
        let (mut frame, mut crcs) = (Vec::new(), Vec::new());
        driver.encode_request(1, &mut Random(1), &mut frame, &mut crcs);
        // The first number after the largest is 0.
        let stamp =
            Stamp { correlation: 1, partition: 0, sequence: (1 << 31) + 9, records: 3, intended_ns: &[8] };
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
    fn a_request_is_patched_for_any_topic_and_keys_stay_in_their_partition() {
        use kafka_protocol::messages::{ProduceRequest, RequestHeader};
        use kafka_protocol::protocol::Decodable;
        use kafka_protocol::records::RecordBatchDecoder;

        let driver = KafkaDriver::new(Shape {
            topics: Topics::new("t", 3, 2),
            keys: Keys { bytes: 4, count: 60, ..Keys::default() },
            ..driver(100, 15).shape
        });
        let (mut frame, mut crcs) = (Vec::new(), Vec::new());
        driver.encode_request(0, &mut Random(1), &mut frame, &mut crcs);
        for counted in 0..6 {
            let stamp =
                Stamp { correlation: 1, partition: counted, sequence: 0, records: 15, intended_ns: &[8] };
            driver.stamp_request(&mut frame, &crcs, &stamp);
            let mut bytes = bytes::Bytes::from(frame.clone()).slice(4..);
            RequestHeader::decode(&mut bytes, 1).unwrap();
            let request = ProduceRequest::decode(&mut bytes, 7).unwrap();
            let topic = &request.topic_data[0];
            let partition = &topic.partition_data[0];
            assert_eq!(topic.name.as_str(), format!("t-{}", counted / 2));
            assert_eq!(partition.index, counted % 2);
            let decoded = RecordBatchDecoder::decode(&mut partition.records.clone().unwrap()).unwrap();
            let keys: Vec<u32> = decoded
                .records
                .iter()
                .map(|record| u32::from_be_bytes(record.key.as_ref().unwrap()[..].try_into().unwrap()))
                .collect();
            // Ten keys each, one after the other, and begun again.
            let expected: Vec<u32> = (0..15).map(|index| index % 10 * 6 + counted as u32).collect();
            assert_eq!(keys, expected);
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
            parse_batches(&two[..end], &mut { usize::MAX }, 0, &mut |offset, _| offsets.push(offset))
                .unwrap();
            assert_eq!(offsets.len(), end / batch.len() * 3);
        }
        // Batch by batch, whatever of one was asked for, and what is cut off behind them.
        let cut = &two[..two.len() - 1];
        let records = batch.len() - BATCH_HEADER_BYTES;
        for (left, from, read) in
            [(1, 0, batch.len()), (records + 1, 0, cut.len()), (1, batch.len(), cut.len() - batch.len())]
        {
            assert_eq!(parse_batches(&cut[from..], &mut { left }, 0, &mut |_, _| ()).unwrap(), read);
        }
        // Another magic, a compression that is none, an unknown one, a control batch, a record's length.
        for (at, value) in [(16, 1u8), (22, 1), (22, 7), (22, 0x20), (61, 0xff)] {
            let mut damaged = batch.clone();
            damaged[at] = value;
            assert!(
                parse_batches(&damaged, &mut { usize::MAX }, 1 << 20, &mut |_, _| ()).is_err(),
                "byte {at}"
            );
        }
    }
}
