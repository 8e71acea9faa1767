//! DeleteRecords: moves the start of partitions forward.

use super::replies::Replies;
use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use crate::kafka::protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::{LogId, Offset};
use crate::shard::call::{Answer, Call};

/// "Everything that readers can see", as an offset of the request.
const HIGH_WATERMARK: i64 = -1;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: DeleteRecordsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut calls = Vec::new();
    let mut replies = Replies::with_capacity(request.topics.len());
    for topic in &request.topics {
        replies.topic(topic.name);
        for asked in &topic.partitions {
            let reply = DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: -1,
                error_code: ErrorCode::NONE,
            };
            match find(ctx, topic.name, asked) {
                Ok((log, call)) => replies.push_asked(reply, &mut calls, log, call),
                Err(error_code) => replies.push(DeleteRecordsPartitionResult { error_code, ..reply }),
            }
        }
    }
    wait(ctx, calls, DeleteRecords { version, replies }, out)
}

fn find(ctx: &Context<'_>, topic: &str, asked: &DeleteRecordsPartition) -> Result<(LogId, Call), ErrorCode> {
    let (log, partition) = ctx.partition(topic, asked.partition_index)?;
    let before = match asked.offset {
        HIGH_WATERMARK => None,
        offset if offset >= 0 => Some(Offset(offset)),
        _ => return Err(ErrorCode::OFFSET_OUT_OF_RANGE),
    };
    Ok((log, Call::DeleteRecords { partition, before }))
}

struct DeleteRecords {
    version: i16,
    replies: Replies<DeleteRecordsPartitionResult>,
}

impl Pending for DeleteRecords {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::DeleteRecords(result) = answer else { unexpected(&answer) };
        let reply = self.replies.asked(part);
        match result {
            Ok(start) => reply.low_watermark = start.0,
            Err(error) => reply.error_code = errors::of_call(&error),
        }
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let topics =
            self.replies.drain().map(|(name, partitions)| DeleteRecordsTopicResult { name, partitions });
        let response = DeleteRecordsResponse { topics: topics.collect(), ..Default::default() };
        response.encode(out, self.version);
    }
}
