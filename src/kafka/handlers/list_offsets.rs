//! ListOffsets: the offset at a time, or at one of a partition's ends.
//!
//! There are no transactions, so that readers of committed and of uncommitted records see the same.

use std::collections::BTreeSet;

use super::replies::Replies;
use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::{Context, epoch_of};
use crate::kafka::errors;
use crate::kafka::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopic, ListOffsetsTopicResponse, timestamp,
};
use crate::kafka::protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::LogId;
use crate::shard::call::{Answer, Call, OffsetSpec};

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: ListOffsetsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let topics = request.topics.iter().map(|topic| (topic.name, topic.partitions.as_slice()));
    let reply = |asked: &ListOffsetsPartition, error_code| ListOffsetsPartitionResponse {
        partition_index: asked.partition_index,
        error_code,
        ..Default::default()
    };
    let isolation_level = request.isolation_level;
    let twice = named_twice(&request);
    let find = |topic: &str, asked: &ListOffsetsPartition| {
        if twice.contains(&(topic, asked.partition_index)) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        find(ctx, version, isolation_level, topic, asked)
    };
    let (calls, replies) = Replies::ask(topics, find, reply);
    wait(ctx, calls, ListOffsets { version, replies }, out)
}

/// The partitions that the request names more than once: a response says too little to tell their
/// offsets apart.
fn named_twice<'a>(request: &ListOffsetsRequest<'a>) -> BTreeSet<(&'a str, i32)> {
    let mut seen = BTreeSet::new();
    let of_topic = |topic: &ListOffsetsTopic<'a>| {
        let name = topic.name;
        topic.partitions.iter().map(move |asked| (name, asked.partition_index)).collect::<Vec<_>>()
    };
    request.topics.iter().flat_map(of_topic).filter(|partition| !seen.insert(*partition)).collect()
}

/// Which offset of which partition is meant; `None` for a place that no partition has.
fn find(
    ctx: &Context<'_>,
    version: i16,
    isolation_level: i8,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<Option<(LogId, Call)>, ErrorCode> {
    if !matches!(isolation_level, 0 | 1) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let (log, partition) = ctx.partition(topic, asked.partition_index)?;
    ctx.check_leader_epoch(log, asked.current_leader_epoch)?;
    let spec = match asked.timestamp {
        timestamp::LATEST => OffsetSpec::Latest,
        timestamp::EARLIEST => OffsetSpec::Earliest,
        timestamp::MAX_TIMESTAMP if version >= 7 => OffsetSpec::MaxTimestamp,
        // All storage is local, none is tiered.
        timestamp::EARLIEST_LOCAL if version >= 8 => OffsetSpec::Earliest,
        timestamp::LATEST_TIERED if version >= 9 => return Ok(None),
        timestamp::EARLIEST_PENDING_UPLOAD if version >= 11 => return Ok(None),
        time if time >= 0 => OffsetSpec::AtOrAfter(time),
        // As Kafka says of places that a later version may have.
        _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
    };
    Ok(Some((log, Call::ListOffset { partition, spec })))
}

struct ListOffsets {
    version: i16,
    replies: Replies<ListOffsetsPartitionResponse>,
}

impl Pending for ListOffsets {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::ListOffset(result) = answer else { unexpected(&answer) };
        let reply = self.replies.asked(part);
        match result {
            Ok(Some(found)) => {
                reply.offset = found.offset.0;
                reply.timestamp = found.timestamp;
                reply.leader_epoch = epoch_of(found.term);
            }
            // Offset and timestamp stay -1, which is no error.
            Ok(None) => {}
            Err(error) => reply.error_code = errors::of_call(&error),
        }
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let topics =
            self.replies.drain().map(|(name, partitions)| ListOffsetsTopicResponse { name, partitions });
        let response = ListOffsetsResponse { topics: topics.collect(), ..Default::default() };
        response.encode(out, self.version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode, partition};
    use crate::model::{Offset, Term};
    use crate::shard::call::{CallError, FoundOffset};

    fn one(topic: &str, asked: ListOffsetsPartition) -> ListOffsetsRequest<'_> {
        let partitions = [asked].into_iter().collect();
        let topics = [ListOffsetsTopic { name: topic, partitions }];
        ListOffsetsRequest { topics: topics.into_iter().collect(), ..Default::default() }
    }

    fn only(body: &[u8], version: i16) -> ListOffsetsPartitionResponse {
        let response: ListOffsetsResponse<'_> = decode(body, version);
        assert_eq!((response.topics.len(), response.topics[0].partitions.len()), (1, 1));
        response.topics[0].partitions[0].clone()
    }

    #[test]
    fn times_become_specs() {
        let latest = (1, timestamp::LATEST, OffsetSpec::Latest);
        let table = [
            latest,
            (1, timestamp::EARLIEST, OffsetSpec::Earliest),
            (1, 0, OffsetSpec::AtOrAfter(0)),
            (1, i64::MAX, OffsetSpec::AtOrAfter(i64::MAX)),
            (7, timestamp::MAX_TIMESTAMP, OffsetSpec::MaxTimestamp),
            (8, timestamp::EARLIEST_LOCAL, OffsetSpec::Earliest),
        ];
        for (version, timestamp, expected) in table {
            let asked = ListOffsetsPartition { partition_index: 1, timestamp, ..Default::default() };
            let body = World::with_topics(&["a"]).ask(version, &one("a", asked), |log, call| {
                let Call::ListOffset { partition: asked, spec } = call else { panic!("{call:?}") };
                assert_eq!((log, asked, spec), (LogId(2), partition("a", 1), expected));
                let found = FoundOffset { offset: Offset(42), timestamp: 99, term: Term(3) };
                Answer::ListOffset(Ok(Some(found)))
            });
            let leader_epoch = if version >= 4 { 3 } else { -1 };
            let expected = ListOffsetsPartitionResponse {
                partition_index: 1,
                offset: 42,
                timestamp: 99,
                leader_epoch,
                ..Default::default()
            };
            assert_eq!(only(&body, version), expected);
        }
    }

    #[test]
    fn what_needs_no_log() {
        let asked = ListOffsetsPartition { timestamp: timestamp::LATEST, ..Default::default() };
        let at = |timestamp| ListOffsetsPartition { timestamp, ..asked.clone() };
        let index = |partition_index| ListOffsetsPartition { partition_index, ..asked.clone() };
        let epoch = |current_leader_epoch| ListOffsetsPartition { current_leader_epoch, ..asked.clone() };
        let table = [
            ("b", 10, asked.clone(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("", 10, asked.clone(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("a", 10, index(3), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("a", 10, index(-1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("a", 10, index(i32::MAX), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("a", 10, index(i32::MIN), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("a", 10, epoch(4), ErrorCode::FENCED_LEADER_EPOCH),
            ("a", 10, epoch(6), ErrorCode::UNKNOWN_LEADER_EPOCH),
            ("a", 6, at(timestamp::MAX_TIMESTAMP), ErrorCode::UNSUPPORTED_VERSION),
            ("a", 7, at(timestamp::EARLIEST_LOCAL), ErrorCode::UNSUPPORTED_VERSION),
            ("a", 8, at(timestamp::LATEST_TIERED), ErrorCode::UNSUPPORTED_VERSION),
            ("a", 9, at(timestamp::LATEST_TIERED), ErrorCode::NONE),
            ("a", 10, at(timestamp::EARLIEST_PENDING_UPLOAD), ErrorCode::UNSUPPORTED_VERSION),
            ("a", 11, at(timestamp::EARLIEST_PENDING_UPLOAD), ErrorCode::NONE),
            ("a", 11, at(-7), ErrorCode::UNSUPPORTED_VERSION),
            ("a", 10, at(i64::MIN), ErrorCode::UNSUPPORTED_VERSION),
        ];
        for (topic, version, asked, error_code) in table {
            let body = World::with_topics(&["a"]).reply(version, &one(topic, asked.clone()));
            let partition_index = asked.partition_index;
            let expected = ListOffsetsPartitionResponse { partition_index, error_code, ..Default::default() };
            assert_eq!(only(&body, version), expected, "{topic} {asked:?}");
        }
        let request = ListOffsetsRequest { isolation_level: 2, ..one("a", asked) };
        let body = World::with_topics(&["a"]).reply(10, &request);
        assert_eq!(only(&body, 10).error_code, ErrorCode::INVALID_REQUEST);
    }

    #[test]
    fn a_partition_that_is_named_twice_is_refused_each_time() {
        let asked = |partition_index| ListOffsetsPartition { partition_index, ..Default::default() };
        let topic = |name, indexes: &[i32]| ListOffsetsTopic {
            name,
            partitions: indexes.iter().map(|index| asked(*index)).collect(),
        };
        let topics = [topic("a", &[0, 1]), topic("b", &[0]), topic("a", &[0, 2])];
        let request = ListOffsetsRequest { topics: topics.into_iter().collect(), ..Default::default() };
        let body = World::with_topics(&["a", "b"]).ask(10, &request, |_, _| Answer::ListOffset(Ok(None)));
        let response: ListOffsetsResponse<'_> = decode(&body, 10);
        let codes = response.topics.iter().flat_map(|topic| &topic.partitions).map(|reply| reply.error_code);
        let (twice, none) = (ErrorCode::INVALID_REQUEST, ErrorCode::NONE);
        assert_eq!(codes.collect::<Vec<_>>(), [twice, none, none, twice, none]);
    }

    #[test]
    fn no_record_at_a_time_is_no_error_and_a_failure_is_one() {
        let table = [(Ok(None), ErrorCode::NONE), (Err(CallError::Storage), ErrorCode::KAFKA_STORAGE_ERROR)];
        for (answer, error_code) in table {
            let asked = ListOffsetsPartition { timestamp: 5, current_leader_epoch: 5, ..Default::default() };
            let body = World::with_topics(&["a"])
                .ask(9, &one("a", asked), |_, _| Answer::ListOffset(answer.clone()));
            let expected = ListOffsetsPartitionResponse { error_code, ..Default::default() };
            assert_eq!(only(&body, 9), expected);
        }
    }
}
