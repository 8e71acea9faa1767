//! ListOffsets: the offset at a time, or at one of a partition's ends.
//!
//! There are no transactions, so that readers of committed and of uncommitted records see the same.

use super::replies::Replies;
use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::{Context, epoch_of};
use crate::kafka::errors;
use crate::kafka::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse, timestamp,
};
use crate::kafka::protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::{LogId, PartitionKey};
use crate::shard::call::{Answer, Call, OffsetSpec};

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: ListOffsetsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut calls = Vec::new();
    let mut replies = Replies::with_capacity(request.topics.len());
    for topic in &request.topics {
        replies.topic(topic.name);
        for asked in &topic.partitions {
            let reply =
                ListOffsetsPartitionResponse { partition_index: asked.partition_index, ..Default::default() };
            match find(ctx, version, request.isolation_level, topic.name, asked) {
                Ok(Some((log, partition, spec))) => {
                    replies.push_asked(reply, &mut calls, log, Call::ListOffset { partition, spec });
                }
                Ok(None) => replies.push(reply),
                Err(error_code) => replies.push(ListOffsetsPartitionResponse { error_code, ..reply }),
            }
        }
    }
    wait(ctx, calls, ListOffsets { version, replies }, out)
}

/// Which offset of which partition is meant; `None` for a place that no partition has.
fn find(
    ctx: &Context<'_>,
    version: i16,
    isolation_level: i8,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<Option<(LogId, PartitionKey, OffsetSpec)>, ErrorCode> {
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
        time if time >= 0 => OffsetSpec::AtOrAfter(time),
        // As Kafka says of places that a later version may have.
        _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
    };
    Ok(Some((log, partition, spec)))
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
