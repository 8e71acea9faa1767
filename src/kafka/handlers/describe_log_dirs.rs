//! DescribeLogDirs: how many bytes each partition takes. The data directory is the only log directory.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::IntoIter;

use rustc_hash::FxHashMap;

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::answer_room::AnswerRoom;
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::kafka::protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{Array, ErrorCode, Message};
use crate::metadata::topic::Topic;
use crate::model::{LogId, PartitionKey, TopicId};
use crate::shard::call::{Answer, Call};

/// What a partition takes: its size, as its log tells it and as it is kept, and its place in the response,
/// before and after that is encoded.
const PARTITION_BYTES: usize =
    2 * size_of::<(PartitionKey, u64)>() + 2 * size_of::<DescribeLogDirsPartition>();
/// Nanoseconds from a partition's log into the response, about.
const PARTITION_COST: usize = 100;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: DescribeLogDirsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    // What does not exist is not even remembered.
    let wanted = request.topics.map(|topics| {
        let mut wanted: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        for asked in &topics {
            let Some(topic) = ctx.catalog.topic(asked.topic) else { continue };
            let here = |index: &i32| topic.log_of(*index).is_some_and(|log| holds(ctx, log));
            let mut indexes = asked.partitions.iter().copied().filter(here).peekable();
            if indexes.peek().is_some() {
                wanted.entry(asked.topic.to_owned()).or_default().extend(indexes);
            }
        }
        wanted
    });
    let (mut room, mut partitions) = (ctx.answer_room, 0);
    // No further than there is room: the walk of a question that is refused is not counted.
    let mut take = |name: &str, indexes: usize| {
        partitions += indexes;
        room.take(size_of::<DescribeLogDirsTopic<'_>>() + 2 * name.len() + indexes * PARTITION_BYTES)
    };
    let fits = match &wanted {
        Some(wanted) => wanted.iter().all(|(name, indexes)| take(name, indexes.len())),
        None => ctx
            .catalog
            .topics()
            .all(|topic| take(&topic.name, topic.partitions().filter(|(_, log)| holds(ctx, *log)).count())),
    };
    let failed = (!fits).then_some(errors::NO_ROOM.0);
    let calls = if fits { questions(ctx, wanted.as_ref()) } else { Vec::new() };
    // One log after the other: a small question may have very many partitions for an answer.
    let mut calls = calls.into_iter();
    let first = calls.next().into_iter().collect();
    let sizes = FxHashMap::default();
    wait(ctx, first, DescribeLogDirs { version, wanted, sizes, failed, calls, partitions, room }, out)
}

/// What each log is asked.
fn questions(ctx: &Context<'_>, wanted: Option<&BTreeMap<String, BTreeSet<i32>>>) -> Vec<(LogId, Call)> {
    let call = |log, partitions| (log, Call::PartitionSizes { partitions });
    let Some(wanted) = wanted else {
        let logs = ctx.catalog.logs().keys().filter(|log| holds(ctx, **log));
        return logs.map(|log| call(*log, None)).collect();
    };
    let mut asked: BTreeMap<LogId, Vec<PartitionKey>> = BTreeMap::new();
    for (name, indexes) in wanted {
        let Some(topic) = ctx.catalog.topic(name) else { continue };
        for (index, log) in indexes.iter().filter_map(|index| Some((*index, topic.log_of(*index)?))) {
            asked.entry(log).or_default().push(PartitionKey { topic: topic.id, index });
        }
    }
    asked.into_iter().map(|(log, partitions)| call(log, Some(partitions))).collect()
}

/// At the port of a log, clients talk to a broker that has nothing else: a tool that asks each broker must
/// not add up a partition twice.
fn holds(ctx: &Context<'_>, log: LogId) -> bool {
    ctx.client.at.is_none_or(|at| at == log)
}

struct DescribeLogDirs {
    version: i16,
    /// Topics with their partitions, of those that were there; all if `None`.
    wanted: Option<BTreeMap<String, BTreeSet<i32>>>,
    /// By index, as far as the logs know the partitions.
    sizes: FxHashMap<TopicId, Vec<(i32, u64)>>,
    /// A log cannot say it, or there is no room for the answer.
    failed: Option<ErrorCode>,
    /// Logs to be asked.
    calls: IntoIter<(LogId, Call)>,
    /// In the answer.
    partitions: usize,
    room: AnswerRoom,
}

impl Pending for DescribeLogDirs {
    fn on_answer(&mut self, _: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::PartitionSizes(result) = answer else { unexpected(&answer) };
        match result {
            Ok(sizes) => {
                for (partition, bytes) in sizes {
                    self.sizes.entry(partition.topic).or_default().push((partition.index, bytes));
                }
                self.calls.next().into_iter().collect()
            }
            Err(error) => {
                self.failed = Some(errors::of_call(&error));
                Vec::new()
            }
        }
    }

    fn room(&mut self) -> Option<&mut AnswerRoom> {
        Some(&mut self.room)
    }

    fn cost(&self) -> usize {
        self.partitions * PARTITION_COST
    }

    fn encode(&mut self, ctx: &Context<'_>, out: &mut Writer<'_>) {
        self.sizes.values_mut().for_each(|sizes| sizes.sort_unstable());
        let log_dir = &ctx.settings.log_dir;
        let (total_bytes, usable_bytes) =
            log_dir.space().map_or((-1, -1), |(total, usable)| (total as i64, usable as i64));
        let result = DescribeLogDirsResult {
            error_code: self.failed.unwrap_or_default(),
            log_dir: log_dir.path(),
            topics: if self.failed.is_some() { Array::new() } else { self.topics(ctx) },
            total_bytes,
            usable_bytes,
        };
        let response = DescribeLogDirsResponse { results: [result].into(), ..Default::default() };
        response.encode(out, self.version);
    }
}

impl DescribeLogDirs {
    /// Those that exist; what does not is left out, as in Kafka.
    fn topics<'a>(&self, ctx: &Context<'a>) -> Array<DescribeLogDirsTopic<'a>> {
        let Some(wanted) = &self.wanted else {
            return ctx.catalog.topics().map(|topic| self.topic(ctx, topic, topic.partitions())).collect();
        };
        let found = wanted.iter().filter_map(|(name, indexes)| Some((ctx.catalog.topic(name)?, indexes)));
        let found = found.map(|(topic, indexes)| {
            let partition = |index| Some((PartitionKey { topic: topic.id, index }, topic.log_of(index)?));
            self.topic(ctx, topic, indexes.iter().copied().filter_map(partition))
        });
        found.filter(|topic| !topic.partitions.is_empty()).collect()
    }

    fn topic<'a>(
        &self,
        ctx: &Context<'_>,
        topic: &'a Topic,
        partitions: impl Iterator<Item = (PartitionKey, LogId)>,
    ) -> DescribeLogDirsTopic<'a> {
        let sizes = self.sizes.get(&topic.id).map_or(&[][..], Vec::as_slice);
        // Nothing was written to a partition that its log does not know.
        let size = |index| match sizes.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(at) => sizes[at].1 as i64,
            Err(_) => 0,
        };
        let partitions = partitions.filter(|(_, log)| holds(ctx, *log));
        let partitions = partitions.map(|(partition, _)| DescribeLogDirsPartition {
            partition_index: partition.index,
            partition_size: size(partition.index),
            ..Default::default()
        });
        DescribeLogDirsTopic { name: &topic.name, partitions: partitions.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode, partition};
    use crate::kafka::protocol::messages::describe_log_dirs::DescribableLogDirTopic;
    use crate::shard::call::CallError;

    /// Topics with the sizes of their partitions.
    type Sizes = Vec<(String, Vec<(i32, i64)>)>;

    fn sizes_of(result: &DescribeLogDirsResult<'_>) -> Sizes {
        let of_topic = |topic: &DescribeLogDirsTopic<'_>| {
            assert!(topic.partitions.iter().all(|one| one.offset_lag == 0 && !one.is_future_key));
            let sizes = topic.partitions.iter().map(|one| (one.partition_index, one.partition_size));
            (topic.name.to_owned(), sizes.collect())
        };
        result.topics.iter().map(of_topic).collect()
    }

    #[test]
    fn all_partitions() {
        let world = World::with_topics(&["b", "a"]);
        world.settings.log_dir.set_space(1000, 400);
        for version in 1..=4 {
            let mut asked = Vec::new();
            let body = world.ask(version, &DescribeLogDirsRequest::default(), |log, call| {
                assert!(matches!(call, Call::PartitionSizes { partitions: None }), "{call:?}");
                asked.push(log.0);
                let sizes =
                    if log.0 == 1 { vec![(partition("a", 0), 7)] } else { vec![(partition("b", 1), 9)] };
                Answer::PartitionSizes(Ok(sizes))
            });
            assert_eq!(asked, [1, 2]);
            let response: DescribeLogDirsResponse<'_> = decode(&body, version);
            assert_eq!(response.error_code, ErrorCode::NONE);
            let [result] = response.results.as_slice() else { panic!("one directory") };
            assert_eq!((result.error_code, result.log_dir), (ErrorCode::NONE, "/data"));
            let space = if version >= 4 { (1000, 400) } else { (-1, -1) };
            assert_eq!((result.total_bytes, result.usable_bytes), space);
            let expected = vec![
                ("a".to_owned(), vec![(0, 7), (1, 0), (2, 0)]),
                ("b".to_owned(), vec![(0, 0), (1, 9), (2, 0)]),
            ];
            assert_eq!(sizes_of(result), expected);
        }
    }

    #[test]
    fn some_partitions() {
        let topic = |topic, indexes: &[i32]| DescribableLogDirTopic {
            topic,
            partitions: indexes.iter().copied().collect(),
        };
        let topics = [topic("b", &[2, 0, 3, -1]), topic("z", &[0]), topic("a", &[]), topic("b", &[0, 1])];
        let request = DescribeLogDirsRequest { topics: Some(topics.into_iter().collect()) };
        let body = World::with_topics(&["a", "b"]).ask(4, &request, |log, call| {
            let Call::PartitionSizes { partitions: Some(asked) } = call else { panic!("{call:?}") };
            let expected = if log.0 == 1 { vec![0, 2] } else { vec![1] };
            assert_eq!(asked, expected.into_iter().map(|index| partition("b", index)).collect::<Vec<_>>());
            let sizes = asked.into_iter().map(|partition| (partition, 100 + partition.index as u64));
            Answer::PartitionSizes(Ok(sizes.collect()))
        });
        let response: DescribeLogDirsResponse<'_> = decode(&body, 4);
        let result = &response.results[0];
        assert_eq!(sizes_of(result), [("b".to_owned(), vec![(0, 100), (1, 101), (2, 102)])]);
        assert_eq!((result.total_bytes, result.usable_bytes), (-1, -1), "nobody has looked yet");

        let nothing = DescribeLogDirsRequest { topics: Some(Array::new()) };
        let body = World::with_topics(&["a"]).reply(4, &nothing);
        let response: DescribeLogDirsResponse<'_> = decode(&body, 4);
        assert_eq!((response.results.len(), response.results[0].topics.len()), (1, 0));
    }

    #[test]
    fn a_log_that_has_failed() {
        let body = World::with_topics(&["a"]).ask(4, &DescribeLogDirsRequest::default(), |log, _| {
            Answer::PartitionSizes(if log.0 == 1 { Err(CallError::Storage) } else { Ok(Vec::new()) })
        });
        let response: DescribeLogDirsResponse<'_> = decode(&body, 4);
        let result = &response.results[0];
        assert_eq!((result.error_code, result.topics.len()), (ErrorCode::KAFKA_STORAGE_ERROR, 0));
    }

    #[test]
    fn what_the_answer_has_no_room_for_is_refused_before_a_log_is_asked() {
        let mut world = World::with_topics(&["a", "b"]);
        let asked = |topic| DescribableLogDirTopic { topic, partitions: Array::from_slice(&[0, 1, 2]) };
        let named = |names: &[&'static str]| DescribeLogDirsRequest {
            topics: Some(names.iter().map(|name| asked(*name)).collect()),
        };
        world.answer_bytes = 4 * PARTITION_BYTES + 200;
        for request in [DescribeLogDirsRequest::default(), named(&["b", "a"])] {
            let body = world.reply(4, &request);
            let response: DescribeLogDirsResponse<'_> = decode(&body, 4);
            let result = &response.results[0];
            assert_eq!((result.error_code, result.topics.len()), (ErrorCode::POLICY_VIOLATION, 0));
        }
        // Of these there is little to tell.
        let request = named(&["a", "a", "z", "a", "z"]);
        let body = world.ask(4, &request, |_, _| Answer::PartitionSizes(Ok(Vec::new())));
        let response: DescribeLogDirsResponse<'_> = decode(&body, 4);
        assert_eq!(sizes_of(&response.results[0]), [("a".to_owned(), vec![(0, 0), (1, 0), (2, 0)])]);
    }

    #[test]
    fn logs_are_asked_one_after_the_other_and_each_partition_has_its_cost() {
        let world = World::with_topics(&["a", "b"]);
        let topic =
            DescribableLogDirTopic { topic: "a", partitions: Array::from_slice(&[2, 0, 0, 1, 7, -1]) };
        let one = DescribeLogDirsRequest { topics: Some([topic].into()) };
        for (request, partitions) in [(DescribeLogDirsRequest::default(), 6), (one, 3)] {
            let outcome =
                world.with_context(|ctx| handle(ctx, 4, request, &mut Writer::new(&mut Vec::new())));
            let Outcome::Wait { calls, mut pending } = outcome else { panic!("it is not answered at once") };
            assert_eq!(calls.iter().map(|(log, _)| log.0).collect::<Vec<_>>(), [1]);
            assert_eq!(pending.cost(), partitions * PARTITION_COST);
            assert!(pending.room().expect("it may be much").used() >= partitions * PARTITION_BYTES);
            let more = pending.on_answer(0, Answer::PartitionSizes(Ok(Vec::new())));
            assert_eq!(more.iter().map(|(log, _)| log.0).collect::<Vec<_>>(), [2]);
            assert!(pending.on_answer(1, Answer::PartitionSizes(Ok(Vec::new()))).is_empty());
        }
    }
}
