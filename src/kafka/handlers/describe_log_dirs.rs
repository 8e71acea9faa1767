//! DescribeLogDirs: how many bytes each partition takes. The data directory is the only log directory.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::kafka::protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{Array, ErrorCode, Message};
use crate::metadata::topic::Topic;
use crate::model::{LogId, PartitionKey};
use crate::shard::call::{Answer, Call};

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: DescribeLogDirsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let wanted = request.topics.map(|topics| {
        let mut wanted: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        for topic in &topics {
            wanted.entry(topic.topic.to_owned()).or_default().extend(&topic.partitions);
        }
        wanted
    });
    let mut asked: BTreeMap<LogId, Vec<PartitionKey>> = BTreeMap::new();
    for (topic, indexes) in wanted.iter().flatten() {
        for (log, partition) in indexes.iter().filter_map(|index| ctx.partition(topic, *index).ok()) {
            if holds(ctx, log) {
                asked.entry(log).or_default().push(partition);
            }
        }
    }
    let call = |log, partitions| (log, Call::PartitionSizes { partitions });
    let calls: Vec<_> = match wanted {
        Some(_) => asked.into_iter().map(|(log, partitions)| call(log, Some(partitions))).collect(),
        None => {
            let logs = ctx.catalog.logs().keys().filter(|log| holds(ctx, **log));
            logs.map(|log| call(*log, None)).collect()
        }
    };
    let pending = DescribeLogDirs { version, wanted, sizes: FxHashMap::default(), failed: None };
    wait(ctx, calls, pending, out)
}

/// At the port of a log, clients talk to a broker that has nothing else: a tool that asks each broker must
/// not add up a partition twice.
fn holds(ctx: &Context<'_>, log: LogId) -> bool {
    ctx.client.at.is_none_or(|at| at == log)
}

struct DescribeLogDirs {
    version: i16,
    /// Topics with their partitions; all if `None`.
    wanted: Option<BTreeMap<String, BTreeSet<i32>>>,
    sizes: FxHashMap<PartitionKey, u64>,
    /// A log that cannot say it.
    failed: Option<ErrorCode>,
}

impl Pending for DescribeLogDirs {
    fn on_answer(&mut self, _: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::PartitionSizes(result) = answer else { unexpected(&answer) };
        match result {
            Ok(sizes) => self.sizes.extend(sizes),
            Err(error) => self.failed = Some(errors::of_call(&error)),
        }
        Vec::new()
    }

    fn encode(&mut self, ctx: &Context<'_>, out: &mut Writer<'_>) {
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
        let all = || ctx.catalog.topics().map(|topic| self.topic(ctx, topic, |_| true)).collect();
        let some = |wanted: &BTreeMap<String, BTreeSet<i32>>| {
            let found = wanted.iter().filter_map(|(name, indexes)| Some((ctx.catalog.topic(name)?, indexes)));
            let found =
                found.map(|(topic, indexes)| self.topic(ctx, topic, |index| indexes.contains(&index)));
            found.filter(|topic| !topic.partitions.is_empty()).collect()
        };
        self.wanted.as_ref().map_or_else(all, some)
    }

    fn topic<'a>(
        &self,
        ctx: &Context<'_>,
        topic: &'a Topic,
        wants: impl Fn(i32) -> bool,
    ) -> DescribeLogDirsTopic<'a> {
        let wanted = |(partition, log): &(PartitionKey, LogId)| wants(partition.index) && holds(ctx, *log);
        let partitions = topic.partitions().filter(wanted);
        let partitions = partitions.map(|(partition, _)| DescribeLogDirsPartition {
            partition_index: partition.index,
            // Nothing was written to a partition that its log does not know.
            partition_size: self.sizes.get(&partition).map_or(0, |bytes| *bytes as i64),
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
}
