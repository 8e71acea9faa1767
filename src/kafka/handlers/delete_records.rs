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
    let topics = request.topics.iter().map(|topic| (topic.name, topic.partitions.as_slice()));
    let reply = |asked: &DeleteRecordsPartition, error_code| DeleteRecordsPartitionResult {
        partition_index: asked.partition_index,
        low_watermark: -1,
        error_code,
    };
    let (calls, replies) = Replies::ask(topics, |topic, asked| find(ctx, topic, asked), reply);
    wait(ctx, calls, DeleteRecords { version, replies }, out)
}

fn find(
    ctx: &Context<'_>,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> Result<Option<(LogId, Call)>, ErrorCode> {
    let (log, partition) = ctx.partition(topic, asked.partition_index)?;
    let before = match asked.offset {
        HIGH_WATERMARK => None,
        offset if offset >= 0 => Some(Offset(offset)),
        _ => return Err(ErrorCode::OFFSET_OUT_OF_RANGE),
    };
    Ok(Some((log, Call::DeleteRecords { partition, before })))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode, partition};
    use crate::kafka::protocol::messages::delete_records::DeleteRecordsTopic;
    use crate::shard::call::CallError;

    #[test]
    fn partitions_are_asked_and_answered_in_order() {
        let asked = |partition_index, offset| DeleteRecordsPartition { partition_index, offset };
        let topic = |name, partitions: &[DeleteRecordsPartition]| DeleteRecordsTopic {
            name,
            partitions: partitions.iter().cloned().collect(),
        };
        let topics = [
            topic("a", &[asked(0, 10), asked(-1, 0), asked(i32::MAX, 0), asked(1, -1), asked(2, -2)]),
            topic("", &[asked(0, 0)]),
            topic("b", &[asked(2, i64::MAX)]),
            topic("a", &[]),
        ];
        let request = DeleteRecordsRequest { topics: topics.into_iter().collect(), timeout_ms: -1 };
        for version in 0..=2 {
            let mut asked = Vec::new();
            let body = World::with_topics(&["a", "b"]).ask(version, &request, |log, call| {
                let Call::DeleteRecords { partition, before } = call else { panic!("{call:?}") };
                asked.push((log.0, partition, before.map(|before| before.0)));
                Answer::DeleteRecords(match before {
                    None => Ok(Offset(77)),
                    Some(Offset(i64::MAX)) => Err(CallError::OutOfRange { start: Offset(0), end: Offset(5) }),
                    Some(before) => Ok(before),
                })
            });
            let expected = [
                (1, partition("a", 0), Some(10)),
                (2, partition("a", 1), None),
                (1, partition("b", 2), Some(i64::MAX)),
            ];
            assert_eq!(asked, expected);

            let response: DeleteRecordsResponse<'_> = decode(&body, version);
            let summary = response.topics.iter().map(|topic| {
                let partition = |reply: &DeleteRecordsPartitionResult| {
                    (reply.partition_index, reply.low_watermark, reply.error_code.0)
                };
                (topic.name, topic.partitions.iter().map(partition).collect())
            });
            let expected: Vec<(_, Vec<_>)> = vec![
                ("a", vec![(0, 10, 0), (-1, -1, 3), (i32::MAX, -1, 3), (1, 77, 0), (2, -1, 1)]),
                ("", vec![(0, -1, 3)]),
                ("b", vec![(2, -1, 1)]),
                ("a", vec![]),
            ];
            assert_eq!(summary.collect::<Vec<_>>(), expected);
        }
    }
}
