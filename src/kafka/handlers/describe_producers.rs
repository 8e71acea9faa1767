//! DescribeProducers: the idempotent producers that partitions remember.

use std::collections::BTreeSet;
use std::mem;
use std::vec::IntoIter;

use super::replies::Replies;
use super::{ASKED_AT_ONCE, Outcome, Pending, unexpected, wait};
use crate::kafka::answer_room::AnswerRoom;
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::describe_producers::{
    DescribeProducersPartition, DescribeProducersTopicResponse, ProducerState,
};
use crate::kafka::protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{Array, ErrorCode, Message};
use crate::metadata::topic::validate_name;
use crate::model::LogId;
use crate::shard::call::{ActiveProducer, Answer, Call};

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: DescribeProducersRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let topics = request.topics.iter().map(|topic| (topic.name, topic.partition_indexes.as_slice()));
    let mut seen = BTreeSet::new();
    let find = |topic: &str, index: &i32| {
        let (log, partition) =
            ctx.partition(topic, *index).map_err(|unknown| match validate_name(topic) {
                Ok(()) => unknown,
                Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
            })?;
        // A partition may have very many: they are told once.
        if !seen.insert(partition) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        Ok(Some((log, Call::ListProducers { partition })))
    };
    let reply = |index: &i32, error_code| Reply { index: *index, error_code, producers: Array::new() };
    let (calls, replies) = Replies::ask(topics, find, reply);
    // Few at a time: what there is no room for is not held by the others' answers either.
    let mut calls = calls.into_iter();
    let first = calls.by_ref().take(ASKED_AT_ONCE).collect();
    wait(ctx, first, DescribeProducers { version, replies, calls, room: ctx.answer_room }, out)
}

struct Reply {
    index: i32,
    error_code: ErrorCode,
    producers: Array<ProducerState>,
}

struct DescribeProducers {
    version: i16,
    replies: Replies<Reply>,
    /// Those to come.
    calls: IntoIter<(LogId, Call)>,
    room: AnswerRoom,
}

impl Pending for DescribeProducers {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::Producers(result) = answer else { unexpected(&answer) };
        let reply = self.replies.asked(part);
        match result {
            Ok(producers) if self.room.take(producers.len() * size_of::<ProducerState>()) => {
                reply.producers = producers.into_iter().map(state).collect();
            }
            Ok(_) => {
                reply.error_code = errors::NO_ROOM.0;
                // Those behind it are not asked for any more: that takes the shards' time.
                let unasked = mem::replace(&mut self.calls, Vec::new().into_iter());
                for reply in self.replies.asked_last(unasked.len()) {
                    reply.error_code = errors::NO_ROOM.0;
                }
            }
            Err(error) => reply.error_code = errors::of_call(&error),
        }
        self.calls.next().into_iter().collect()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let partition = |reply: Reply| DescribeProducersPartition {
            partition_index: reply.index,
            error_code: reply.error_code,
            active_producers: reply.producers,
            ..Default::default()
        };
        let topics = self.replies.drain().map(|(name, partitions)| DescribeProducersTopicResponse {
            name,
            partitions: partitions.into_iter().map(partition).collect(),
        });
        let response = DescribeProducersResponse { topics: topics.collect(), ..Default::default() };
        response.encode(out, self.version);
    }

    fn room(&mut self) -> Option<&mut AnswerRoom> {
        Some(&mut self.room)
    }
}

fn state(producer: ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.id.0,
        producer_epoch: producer.epoch.into(),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_append.0,
        // No transaction, and nobody who coordinates one.
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode, partition};
    use crate::kafka::protocol::messages::describe_producers::DescribeProducersTopic;
    use crate::model::{ProducerId, WallMs};
    use crate::shard::call::CallError;

    #[test]
    fn a_partition_is_told_once_and_if_there_is_room() {
        let mut world = World::with_topics(&["a"]);
        let producer =
            |id| ActiveProducer { id: ProducerId(id), epoch: 0, last_sequence: 0, last_append: WallMs(0) };
        let topic =
            DescribeProducersTopic { name: "a", partition_indexes: Array::from_slice(&[0, 1, 0, 2, 1]) };
        let request = DescribeProducersRequest { topics: [topic].into() };
        let codes = |world: &World| {
            let body = world.ask(0, &request, |_, _| Answer::Producers(Ok((0..100).map(producer).collect())));
            let response: DescribeProducersResponse<'_> = decode(&body, 0);
            response.topics[0].partitions.iter().map(|reply| reply.error_code).collect::<Vec<_>>()
        };
        let (none, twice) = (ErrorCode::NONE, ErrorCode::INVALID_REQUEST);
        assert_eq!(codes(&world), [none, none, twice, none, twice]);
        world.answer_bytes = 150 * size_of::<ProducerState>();
        let full = ErrorCode::POLICY_VIOLATION;
        assert_eq!(codes(&world), [none, full, twice, full, twice]);
    }

    #[test]
    fn no_more_are_asked_for_when_one_has_no_room() {
        let mut world = World::with_topics(&["a", "b", "c", "d", "e", "f"]);
        world.answer_bytes = 2 * size_of::<ProducerState>();
        let topic = |name| DescribeProducersTopic { name, partition_indexes: Array::from_slice(&[0, 9, 1]) };
        let request = DescribeProducersRequest {
            topics: ["a", "b", "c", "d", "e", "f"].into_iter().map(topic).collect(),
        };
        let mut asked = 0;
        let body = world.ask(0, &request, |_, _| {
            asked += 1;
            let id = ProducerId(asked);
            let producer = ActiveProducer { id, epoch: 0, last_sequence: 0, last_append: WallMs(0) };
            // The first fits, and so does another one behind the second, which was asked for already.
            Answer::Producers(Ok(vec![producer; if asked == 2 { 2 } else { 1 }]))
        });
        let response: DescribeProducersResponse<'_> = decode(&body, 0);
        let replies = response.topics.iter().flat_map(|topic| &topic.partitions);
        let codes: Vec<_> = replies.map(|reply| (reply.error_code, reply.active_producers.len())).collect();
        let (told, none) = ((ErrorCode::NONE, 1), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 0));
        let full = (errors::NO_ROOM.0, 0);
        let at_once = ASKED_AT_ONCE as i64;
        assert!((3..11).contains(&at_once), "of twelve there are some to come");
        assert_eq!(asked, at_once + 1, "and the one after the first");
        assert_eq!(codes[..6], [told, none, full, told, none, full]);
        assert_eq!(codes[6..], [full, none, full].repeat(4));
    }

    #[test]
    fn a_topic_that_could_not_be_is_told_from_one_that_is_not_there() {
        for (name, expected) in [
            ("z", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("a/b", ErrorCode::INVALID_TOPIC_EXCEPTION),
            ("", ErrorCode::INVALID_TOPIC_EXCEPTION),
        ] {
            let topic = DescribeProducersTopic { name, partition_indexes: Array::from_slice(&[0]) };
            let request = DescribeProducersRequest { topics: [topic].into() };
            let body = World::with_topics(&["a"]).reply(0, &request);
            let response: DescribeProducersResponse<'_> = decode(&body, 0);
            assert_eq!(response.topics[0].partitions[0].error_code, expected, "{name:?}");
        }
    }

    #[test]
    fn partitions_say_who_wrote_to_them() {
        let topic = |name, indexes: &[i32]| DescribeProducersTopic {
            name,
            partition_indexes: indexes.iter().copied().collect(),
        };
        let topics = [topic("a", &[1, 0, 3, -1]), topic("z", &[0]), topic("b", &[2])];
        let request = DescribeProducersRequest { topics: topics.into_iter().collect() };
        let mut asked = Vec::new();
        let body = World::with_topics(&["a", "b"]).ask(0, &request, |log, call| {
            let Call::ListProducers { partition: key } = call else { panic!("{call:?}") };
            asked.push((log.0, key));
            Answer::Producers(match key {
                key if key == partition("a", 1) => Ok(vec![ActiveProducer {
                    id: ProducerId(9),
                    epoch: 2,
                    last_sequence: 77,
                    last_append: WallMs(1234),
                }]),
                key if key == partition("a", 0) => Ok(Vec::new()),
                _ => Err(CallError::UnknownPartition),
            })
        });
        assert_eq!(asked, [(2, partition("a", 1)), (1, partition("a", 0)), (1, partition("b", 2))]);
        let response: DescribeProducersResponse<'_> = decode(&body, 0);
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        let results: Vec<_> = response
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(move |reply| (topic.name, reply)))
            .map(|(name, reply)| {
                (name, reply.partition_index, reply.error_code, reply.active_producers.len())
            })
            .collect();
        let expected = [
            ("a", 1, ErrorCode::NONE, 1),
            ("a", 0, ErrorCode::NONE, 0),
            ("a", 3, unknown, 0),
            ("a", -1, unknown, 0),
            ("z", 0, unknown, 0),
            ("b", 2, unknown, 0),
        ];
        assert_eq!(results, expected);
        let expected = ProducerState {
            producer_id: 9,
            producer_epoch: 2,
            last_sequence: 77,
            last_timestamp: 1234,
            coordinator_epoch: -1,
            current_txn_start_offset: -1,
        };
        assert_eq!(response.topics[0].partitions[0].active_producers[0], expected);
    }
}
