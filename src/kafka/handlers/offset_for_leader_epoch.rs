//! OffsetForLeaderEpoch: where an epoch of a partition ends, for a client that suspects truncation.

use super::replies::Replies;
use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::{Context, epoch_of};
use crate::kafka::errors;
use crate::kafka::protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use crate::kafka::protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::{LogId, Term};
use crate::shard::call::{Answer, Call};

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: OffsetForLeaderEpochRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let topics = request.topics.iter().map(|topic| (topic.topic, topic.partitions.as_slice()));
    let reply = |asked: &OffsetForLeaderPartition, error_code| EpochEndOffset {
        partition: asked.partition,
        error_code,
        ..Default::default()
    };
    let (calls, replies) = Replies::ask(topics, |topic, asked| find(ctx, topic, asked), reply);
    wait(ctx, calls, OffsetForLeaderEpoch { version, replies }, out)
}

/// What to ask whom; `None` for an epoch that no partition has.
fn find(
    ctx: &Context<'_>,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<Option<(LogId, Call)>, ErrorCode> {
    let (log, partition) = ctx.partition(topic, asked.partition)?;
    ctx.check_leader_epoch(log, asked.current_leader_epoch)?;
    let term = u32::try_from(asked.leader_epoch).ok().map(Term);
    Ok(term.map(|term| (log, Call::TermEnd { partition, term })))
}

struct OffsetForLeaderEpoch {
    version: i16,
    replies: Replies<EpochEndOffset>,
}

impl Pending for OffsetForLeaderEpoch {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::TermEnd(result) = answer else { unexpected(&answer) };
        let reply = self.replies.asked(part);
        match result {
            Ok(Some((term, end))) => {
                reply.leader_epoch = epoch_of(term);
                reply.end_offset = end.0;
            }
            // Epoch and end stay -1, which is no error.
            Ok(None) => {}
            Err(error) => reply.error_code = errors::of_call(&error),
        }
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let topics =
            self.replies.drain().map(|(topic, partitions)| OffsetForLeaderTopicResult { topic, partitions });
        let response = OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() };
        response.encode(out, self.version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode, partition};
    use crate::kafka::protocol::messages::offset_for_leader_epoch::OffsetForLeaderTopic;
    use crate::model::Offset;

    #[test]
    fn the_end_of_an_epoch() {
        // Partition, the epoch that the client knows, the epoch it asks for; error, epoch, end.
        let table = [
            ((0, 5, 4), (0, 3, 30)),
            ((0, -1, i32::MAX), (0, 3, 30)),
            // The log knows no such epoch, and none can be negative.
            ((0, -1, 0), (0, -1, -1)),
            ((0, -1, -1), (0, -1, -1)),
            ((0, -1, i32::MIN), (0, -1, -1)),
            ((0, 4, 4), (ErrorCode::FENCED_LEADER_EPOCH.0, -1, -1)),
            ((0, 6, 4), (ErrorCode::UNKNOWN_LEADER_EPOCH.0, -1, -1)),
            ((9, -1, 4), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0, -1, -1)),
            ((-9, -1, 4), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0, -1, -1)),
        ];
        let partitions = table.map(|((partition, current_leader_epoch, leader_epoch), _)| {
            OffsetForLeaderPartition { partition, current_leader_epoch, leader_epoch }
        });
        let topics = [OffsetForLeaderTopic { topic: "a", partitions: partitions.into_iter().collect() }];
        let request =
            OffsetForLeaderEpochRequest { topics: topics.into_iter().collect(), ..Default::default() };
        for version in 2..=4 {
            let body = World::with_topics(&["a"]).ask(version, &request, |log, call| {
                let Call::TermEnd { partition: asked, term } = call else { panic!("{call:?}") };
                assert_eq!((log, asked), (LogId(1), partition("a", 0)));
                Answer::TermEnd(Ok((term >= Term(3)).then_some((Term(3), Offset(30)))))
            });
            let response: OffsetForLeaderEpochResponse<'_> = decode(&body, version);
            for (reply, (asked, expected)) in response.topics[0].partitions.iter().zip(table) {
                assert_eq!(reply.partition, asked.0);
                assert_eq!((reply.error_code.0, reply.leader_epoch, reply.end_offset), expected, "{asked:?}");
            }
            assert_eq!(response.topics[0].partitions.len(), table.len());
        }
    }
}
