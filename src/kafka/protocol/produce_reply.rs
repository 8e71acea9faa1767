//! A produce response that is written before its outcome is known.
//!
//! The response is laid out when the request is appended, in the order of its partitions. Outcomes arrive
//! later, in any order and from other shards, and are written into their places; all of them have fixed
//! sizes. Nothing is kept per request but the frame and one [`StagedPartition`] for each partition.
//!
//! ```text
//! | index i32 | error_code i16 | base_offset i64 | log_append_time_ms i64 | log_start_offset i64, 5+ |
//!             ^ StagedPartition
//! ```
//!
//! What has no fixed size is staged as absent: `record_errors`, `error_message` and the tagged fields. A
//! response that needs them is a [`ProduceResponse`].

use uuid::Uuid;

use super::api::{ApiKey, Message};
use super::error_code::ErrorCode;
use super::frame;
use super::header::ResponseHeader;
use super::messages::ProduceResponse;
use super::schema::Form;
use super::wire::Writer;

/// What became of a partition's batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceOutcome {
    pub error_code: ErrorCode,
    /// -1 on error.
    pub base_offset: i64,
    /// -1 unless the topic is stamped by the broker.
    pub log_append_time_ms: i64,
    /// -1 on error.
    pub log_start_offset: i64,
}

impl ProduceOutcome {
    pub fn error(error_code: ErrorCode) -> Self {
        Self { error_code, base_offset: -1, log_append_time_ms: -1, log_start_offset: -1 }
    }
}

/// The place of a partition's outcome in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedPartition {
    /// Of `error_code`, counted from the frame's first byte, which is the first of its length.
    position: u32,
    version: i16,
}

impl StagedPartition {
    /// Writes the outcome. `frame` is the whole frame, its length included.
    pub fn write(self, frame: &mut [u8], outcome: ProduceOutcome) {
        let place = &mut frame[self.position as usize..];
        place[..2].copy_from_slice(&outcome.error_code.0.to_be_bytes());
        place[2..10].copy_from_slice(&outcome.base_offset.to_be_bytes());
        place[10..18].copy_from_slice(&outcome.log_append_time_ms.to_be_bytes());
        if self.version >= 5 {
            place[18..26].copy_from_slice(&outcome.log_start_offset.to_be_bytes());
        }
    }
}

/// Lays out the frame of a produce response: topics in order, each followed by its partitions.
#[derive(Debug)]
pub struct ProduceReply<'b> {
    writer: Writer<'b>,
    /// Where the frame begins in the buffer.
    start: usize,
    form: Form,
    topics_left: usize,
    partitions_left: usize,
}

impl<'b> ProduceReply<'b> {
    /// Begins a frame at the end of `out`.
    pub fn begin(out: &'b mut Vec<u8>, version: i16, correlation_id: i32, topic_count: usize) -> Self {
        let form = ProduceResponse::API.form(version).expect("the request was decoded in this version");
        let mut writer = Writer::new(out);
        let start = frame::begin(&mut writer);
        ResponseHeader { correlation_id }.encode(&mut writer, ApiKey::Produce, version);
        writer.length(Some(topic_count), form.flexible);
        Self { writer, start, form, topics_left: topic_count, partitions_left: 0 }
    }

    /// Begins the next topic. Of name and id the one that the version has is written.
    pub fn topic(&mut self, name: &str, topic_id: Uuid, partition_count: usize) {
        assert_eq!(self.partitions_left, 0, "the topic before is complete");
        assert!(self.topics_left > 0);
        self.topics_left -= 1;
        self.partitions_left = partition_count;
        if self.form.version <= 12 {
            self.writer.string(name, self.form.flexible);
        } else {
            self.writer.uuid(topic_id);
        }
        self.writer.length(Some(partition_count), self.form.flexible);
        if partition_count == 0 {
            self.no_tags();
        }
    }

    /// Stages the next partition of the topic, as an error until its outcome is written: a response that
    /// went out too early must not look like an ack.
    pub fn partition(&mut self, index: i32) -> StagedPartition {
        assert!(self.partitions_left > 0);
        self.partitions_left -= 1;
        let Form { version, flexible } = self.form;
        self.writer.i32(index);
        let position = self.writer.position() - self.start;
        let outcome = ProduceOutcome::error(ErrorCode::UNKNOWN_SERVER_ERROR);
        self.writer.i16(outcome.error_code.0);
        self.writer.i64(outcome.base_offset);
        self.writer.i64(outcome.log_append_time_ms);
        if version >= 5 {
            self.writer.i64(outcome.log_start_offset);
        }
        if version >= 8 {
            self.writer.length(Some(0), flexible);
            self.writer.nullable_string(None, flexible);
        }
        self.no_tags();
        if self.partitions_left == 0 {
            self.no_tags();
        }
        StagedPartition { position: u32::try_from(position).expect("a frame is below 2 GiB"), version }
    }

    /// Completes the frame. Returns its bytes, the length's included.
    pub fn finish(mut self, throttle_time_ms: i32) -> usize {
        assert_eq!((self.topics_left, self.partitions_left), (0, 0), "all that was announced is staged");
        self.writer.i32(throttle_time_ms);
        self.no_tags();
        // Names as they were received, and some 40 bytes for each partition of a request, which has a million
        // at most.
        frame::end(&mut self.writer, self.start, 0).expect("a request is answered with about its own size");
        self.writer.position() - self.start
    }

    fn no_tags(&mut self) {
        if self.form.flexible {
            self.writer.unsigned_varint(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
    use super::*;

    fn outcome_of(index: i32) -> ProduceOutcome {
        match index {
            1 => ProduceOutcome::error(ErrorCode::MESSAGE_TOO_LARGE),
            _ => ProduceOutcome {
                error_code: ErrorCode::NONE,
                base_offset: 1000 + i64::from(index),
                log_append_time_ms: 2000,
                log_start_offset: 3000,
            },
        }
    }

    fn declared(topic: (&'static str, Uuid), indexes: &[i32]) -> TopicProduceResponse<'static> {
        let partition_responses = indexes.iter().map(|&index| {
            let outcome = outcome_of(index);
            PartitionProduceResponse {
                index,
                error_code: outcome.error_code,
                base_offset: outcome.base_offset,
                log_append_time_ms: outcome.log_append_time_ms,
                log_start_offset: outcome.log_start_offset,
                ..Default::default()
            }
        });
        TopicProduceResponse {
            name: topic.0,
            topic_id: topic.1,
            partition_responses: partition_responses.collect(),
        }
    }

    /// Staged and written in reverse, the frame is the one that the schema gives.
    #[test]
    fn a_staged_reply_is_what_the_schema_encodes() {
        let topics: [((&str, Uuid), &[i32]); 3] = [
            (("a", Uuid::from_u128(1)), &[0]),
            (("none", Uuid::from_u128(2)), &[]),
            (("b", Uuid::from_u128(3)), &[1, 2, 7]),
        ];
        for version in ApiKey::Produce.versions() {
            let response = ProduceResponse {
                responses: topics.iter().map(|&(topic, indexes)| declared(topic, indexes)).collect(),
                throttle_time_ms: 5,
                ..Default::default()
            };
            let mut expected = Vec::new();
            frame::put_response(&mut expected, version, 42, &response).expect("fits");

            let mut out = b"before".to_vec();
            let mut staged = Vec::new();
            let mut reply = ProduceReply::begin(&mut out, version, 42, topics.len());
            for ((name, id), indexes) in topics {
                reply.topic(name, id, indexes.len());
                staged.extend(indexes.iter().map(|&index| (index, reply.partition(index))));
            }
            let bytes = reply.finish(5);
            let frame = &mut out["before".len()..];
            assert_eq!(bytes, frame.len());
            for (index, staged) in staged.into_iter().rev() {
                staged.write(frame, outcome_of(index));
            }
            assert_eq!(frame, expected, "version {version}");
        }
    }
}
