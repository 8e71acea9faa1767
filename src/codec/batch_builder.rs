//! Encodes record batches: what a producer does. For our load generator, command line and tests;
//! the broker itself passes on what producers built.

use super::compression::Compression;
use super::record_batch::{
    ATTRIBUTES_AT, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, COUNT_AT, HEADER_BYTES, LAST_OFFSET_DELTA_AT,
    LEADER_EPOCH_AT, LENGTH_AT, LENGTH_PREFIX_BYTES, MAGIC, MAGIC_AT, MAX_TIMESTAMP_AT, NO_TIMESTAMP,
    PRODUCER_EPOCH_AT, PRODUCER_ID_AT, ProducerStamp, TRANSACTIONAL_BIT, put, seal,
};
use super::varint::{put_i32, put_i64};

/// A header of a record: key, and value or none.
pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// Collects records and seals them into a batch with base offset 0, as producers send it.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    compression: Compression,
    producer: Option<ProducerStamp>,
    transactional: bool,
    base_timestamp: i64,
    max_timestamp: i64,
    count: u32,
    records: Vec<u8>,
    /// The record in the making: its length goes in front of it.
    body: Vec<u8>,
}

impl BatchBuilder {
    pub fn new(compression: Compression) -> BatchBuilder {
        BatchBuilder {
            compression,
            producer: None,
            transactional: false,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            count: 0,
            records: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Stamps the batch as an idempotent producer does.
    pub fn producer(mut self, stamp: ProducerStamp) -> BatchBuilder {
        self.producer = Some(stamp);
        self
    }

    /// Marks the batch as part of its producer's open transaction.
    pub fn transactional(mut self) -> BatchBuilder {
        self.transactional = true;
        self
    }

    /// Adds a record. The first one's timestamp is the base of the others'.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> &mut BatchBuilder {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);

        let body = &mut self.body;
        body.clear();
        body.push(0);
        put_i64(body, timestamp - self.base_timestamp);
        put_i32(body, self.count as i32);
        put_nullable(body, key);
        put_nullable(body, value);
        put_i32(body, length(headers.len()));
        for (key, value) in headers {
            put_nullable(body, Some(key));
            put_nullable(body, *value);
        }

        put_i32(&mut self.records, length(body.len()));
        self.records.extend_from_slice(body);
        self.count += 1;
        self
    }

    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Seals the batch. There must be a record: an empty batch has no offsets.
    pub fn finish(&self) -> Vec<u8> {
        assert!(self.count > 0, "a producer's batch has at least one record");
        let mut batch = vec![0; HEADER_BYTES];
        match self.compression {
            Compression::None => batch.extend_from_slice(&self.records),
            codec => batch.extend_from_slice(&codec.deflate(&self.records)),
        }

        let mut attributes = self.compression as i16;
        if self.transactional {
            attributes |= TRANSACTIONAL_BIT;
        }
        let (producer_id, producer_epoch, base_sequence) = match self.producer {
            Some(stamp) => (stamp.id.0, stamp.epoch, stamp.base_sequence),
            None => (-1, -1, -1),
        };
        let length = length(batch.len() - LENGTH_PREFIX_BYTES);
        put(&mut batch, LENGTH_AT, length.to_be_bytes());
        put(&mut batch, LEADER_EPOCH_AT, (-1i32).to_be_bytes());
        put(&mut batch, MAGIC_AT, MAGIC.to_be_bytes());
        put(&mut batch, ATTRIBUTES_AT, attributes.to_be_bytes());
        put(&mut batch, LAST_OFFSET_DELTA_AT, (self.count as i32 - 1).to_be_bytes());
        put(&mut batch, BASE_TIMESTAMP_AT, self.base_timestamp.to_be_bytes());
        put(&mut batch, MAX_TIMESTAMP_AT, self.max_timestamp.to_be_bytes());
        put(&mut batch, PRODUCER_ID_AT, producer_id.to_be_bytes());
        put(&mut batch, PRODUCER_EPOCH_AT, producer_epoch.to_be_bytes());
        put(&mut batch, BASE_SEQUENCE_AT, base_sequence.to_be_bytes());
        put(&mut batch, COUNT_AT, (self.count as i32).to_be_bytes());
        seal(&mut batch);
        batch
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_i32(out, -1),
        Some(bytes) => {
            put_i32(out, length(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

fn length(len: usize) -> i32 {
    i32::try_from(len).expect("a batch is far below 2 GiB")
}
