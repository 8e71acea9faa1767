//! OffsetFetch: how far groups have come. One group up to version 7, any number since version 8.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::IntoIter;

use super::{ASKED_AT_ONCE, Outcome, Pending, unexpected, wait};
use crate::kafka::answer_room::AnswerRoom;
use crate::kafka::context::{Context, NO_LEADER_EPOCH};
use crate::kafka::errors;
use crate::kafka::protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponseTopic,
};
use crate::kafka::protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{Array, ErrorCode, Message};
use crate::metadata::topic::NAME_BYTES_MAX;
use crate::model::{LogId, PartitionKey};
use crate::shard::call::{Answer, Call, CommittedOffset};

/// First version with many groups.
const MANY_SINCE: i16 = 8;
/// First version with an error of the group as a whole.
const GROUP_ERROR_SINCE: i16 = 2;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: OffsetFetchRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let one =
        OffsetFetchRequestGroup { group_id: request.group_id, topics: request.topics, ..Default::default() };
    let groups = if version < MANY_SINCE { Array::from_elem(one, 1) } else { request.groups };

    let mut calls = Vec::new();
    let (mut found, mut asked) = (Vec::with_capacity(groups.len()), Vec::new());
    for group in &groups {
        if let Some(call) = ask(ctx, group) {
            calls.push(call);
            asked.push(found.len());
        }
        found.push(Group::new(group));
    }
    // Few at a time: a name of three bytes may stand for a million offsets, and be repeated.
    let mut calls = calls.into_iter();
    let first = calls.by_ref().take(ASKED_AT_ONCE).collect();
    wait(ctx, first, OffsetFetch { version, groups: found, asked, calls, room: ctx.answer_room }, out)
}

/// The call that finds a group's offsets; `None` where it can have none.
fn ask(ctx: &Context<'_>, group: &OffsetFetchRequestGroup<'_>) -> Option<(LogId, Call)> {
    let log = ctx.catalog.group_log(group.group_id);
    let partitions = group.topics.as_ref().map(|topics| {
        let partitions = topics.iter().flat_map(|topic| {
            topic.partition_indexes.iter().filter_map(|index| ctx.partition(topic.name, *index).ok())
        });
        let mut seen = BTreeSet::new();
        partitions.map(|(_, partition)| partition).filter(|one| seen.insert(*one)).collect::<Vec<_>>()
    });
    if partitions.as_ref().is_some_and(Vec::is_empty) {
        return None;
    }
    Some((log, Call::FetchOffsets { group: group.group_id.to_owned(), partitions }))
}

/// A group of the request.
struct Group {
    id: String,
    /// Names and partition indexes that are asked for; `None` for all that there are.
    topics: Option<Vec<(String, Vec<i32>)>>,
    found: BTreeMap<PartitionKey, CommittedOffset>,
    /// Why nothing can be said.
    failed: ErrorCode,
}

impl Group {
    fn new(group: &OffsetFetchRequestGroup<'_>) -> Self {
        let owned =
            |topic: &OffsetFetchRequestTopic<'_>| (topic.name.to_owned(), topic.partition_indexes.to_vec());
        Self {
            id: group.group_id.to_owned(),
            topics: group.topics.as_ref().map(|topics| topics.iter().map(owned).collect()),
            found: BTreeMap::new(),
            failed: ErrorCode::NONE,
        }
    }

    fn response<'a>(
        &'a self,
        ctx: &Context<'a>,
        version: i16,
        room: &mut AnswerRoom,
    ) -> OffsetFetchResponseGroup<'a> {
        if self.failed.is_error() {
            return self.failure(version, self.failed);
        }
        if !room.take(self.response_bytes(ctx)) {
            return self.failure(version, errors::no_room_of_coordinator(room));
        }
        let topics = match &self.topics {
            Some(topics) => topics.iter().map(|(name, indexes)| self.topic(ctx, name, indexes)).collect(),
            None => self.all(ctx),
        };
        OffsetFetchResponseGroup { group_id: &self.id, topics, ..Default::default() }
    }

    /// The error is the group's, or every partition's where the response has no place for that.
    fn failure(&self, version: i16, error_code: ErrorCode) -> OffsetFetchResponseGroup<'_> {
        let asked = self.topics.as_deref().filter(|_| version < GROUP_ERROR_SINCE).unwrap_or_default();
        let topics = asked.iter().map(|(name, indexes)| {
            let failed = |index: &i32| OffsetFetchResponsePartition { error_code, ..partition(*index, None) };
            OffsetFetchResponseTopic { name, partitions: indexes.iter().map(failed).collect() }
        });
        OffsetFetchResponseGroup { group_id: &self.id, topics: topics.collect(), error_code }
    }

    /// What the response holds in memory and, which is less, as a message.
    fn response_bytes(&self, ctx: &Context<'_>) -> usize {
        let one = size_of::<OffsetFetchResponsePartition<'_>>();
        let note = |offset: &CommittedOffset| offset.metadata.as_ref().map_or(0, String::len);
        let Some(topics) = &self.topics else {
            return self.found.values().map(|offset| one + NAME_BYTES_MAX + note(offset)).sum();
        };
        let notes = self.found.values().any(|offset| note(offset) > 0);
        let topics = topics.iter().map(|(name, indexes)| {
            let topic = ctx.catalog.topic(name).filter(|_| notes);
            let found = |index: &i32| {
                let key = PartitionKey { topic: topic?.id, index: *index };
                self.found.get(&key)
            };
            one * indexes.len() + indexes.iter().filter_map(found).map(note).sum::<usize>()
        });
        topics.sum()
    }

    fn topic<'a>(
        &'a self,
        ctx: &Context<'a>,
        name: &'a str,
        indexes: &[i32],
    ) -> OffsetFetchResponseTopic<'a> {
        let topic = ctx.catalog.topic(name);
        let partitions = indexes.iter().map(|index| {
            let key = topic.map(|topic| PartitionKey { topic: topic.id, index: *index });
            partition(*index, key.and_then(|key| self.found.get(&key)))
        });
        OffsetFetchResponseTopic { name, partitions: partitions.collect() }
    }

    /// Everything that was found, but for topics that are no more.
    fn all<'a>(&'a self, ctx: &Context<'a>) -> Array<OffsetFetchResponseTopic<'a>> {
        let mut topics: Array<OffsetFetchResponseTopic<'a>> = Array::new();
        let mut topic_id = None;
        for (key, offset) in &self.found {
            let Some(topic) = ctx.catalog.topic_by_id(key.topic) else { continue };
            // In the order of the keys, a topic's partitions follow each other.
            if topic_id != Some(key.topic) {
                topic_id = Some(key.topic);
                topics.push(OffsetFetchResponseTopic { name: &topic.name, ..Default::default() });
            }
            let last = topics.last_mut().expect("pushed above");
            last.partitions.push(partition(key.index, Some(offset)));
        }
        topics
    }
}

/// What was committed for a partition. Nothing is no error.
fn partition(partition_index: i32, offset: Option<&CommittedOffset>) -> OffsetFetchResponsePartition<'_> {
    OffsetFetchResponsePartition {
        partition_index,
        committed_offset: offset.map_or(-1, |offset| offset.offset.0),
        committed_leader_epoch: offset.map_or(NO_LEADER_EPOCH, |offset| offset.leader_epoch),
        metadata: Some(offset.and_then(|offset| offset.metadata.as_deref()).unwrap_or_default()),
        ..Default::default()
    }
}

struct OffsetFetch {
    version: i16,
    groups: Vec<Group>,
    /// Which of the above call `part` is about.
    asked: Vec<usize>,
    /// Those to come.
    calls: IntoIter<(LogId, Call)>,
    room: AnswerRoom,
}

impl Pending for OffsetFetch {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::FetchOffsets(result) = answer else { unexpected(&answer) };
        let group = &mut self.groups[self.asked[part as usize]];
        match result {
            Ok(found) if self.room.take(found.iter().map(bytes_of).sum()) => {
                group.found = found.into_iter().map(|offset| (offset.partition, offset)).collect();
            }
            Ok(_) => {
                let failed = errors::no_room_of_coordinator(&self.room);
                // Those behind it are not asked for any more: that takes the shards' time.
                for index in &self.asked[part as usize..] {
                    self.groups[*index].failed = failed;
                }
                self.calls = Vec::new().into_iter();
            }
            Err(error) => group.failed = errors::of_coordinator(&error),
        }
        self.calls.next().into_iter().collect()
    }

    fn encode(&mut self, ctx: &Context<'_>, out: &mut Writer<'_>) {
        // For what becomes of the offsets that were found: those have their own.
        let mut room = ctx.answer_room;
        let version = self.version;
        let responses = self.groups.iter().map(|group| group.response(ctx, version, &mut room));
        let mut groups: Array<_> = responses.collect();
        let response = if self.version < MANY_SINCE {
            let group = groups.pop().expect("there is one group");
            OffsetFetchResponse { topics: group.topics, error_code: group.error_code, ..Default::default() }
        } else {
            OffsetFetchResponse { groups, ..Default::default() }
        };
        response.encode(out, self.version);
    }

    fn room(&mut self) -> Option<&mut AnswerRoom> {
        Some(&mut self.room)
    }
}

/// What an offset that was found holds, in its place among others.
fn bytes_of(offset: &CommittedOffset) -> usize {
    size_of::<(PartitionKey, CommittedOffset)>() + offset.metadata.as_ref().map_or(0, String::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode, partition};
    use crate::metadata::record::MetaRecord;
    use crate::model::{Offset, TopicId};
    use crate::shard::call::CallError;

    fn world() -> World {
        let world = World::with_topics(&["a", "b"]);
        for group in ["g", "h"] {
            world.apply(MetaRecord::GroupAssigned { group: group.into(), log: LogId(2) });
        }
        world
    }

    fn committed(partition: PartitionKey, offset: i64, metadata: Option<&str>) -> CommittedOffset {
        let metadata = metadata.map(str::to_owned);
        CommittedOffset { partition, offset: Offset(offset), leader_epoch: 3, metadata, commit_time: 0 }
    }

    fn topics<'a>(topics: &[(&'a str, &[i32])]) -> Array<OffsetFetchRequestTopic<'a>> {
        let topics = topics.iter().map(|(name, indexes)| OffsetFetchRequestTopic {
            name,
            partition_indexes: indexes.iter().copied().collect(),
        });
        topics.collect()
    }

    /// Topic, partition, offset, leader epoch and metadata of each.
    fn rows(topics: &[OffsetFetchResponseTopic<'_>]) -> Vec<String> {
        let mut rows = Vec::new();
        for topic in topics {
            for p in &topic.partitions {
                assert!(!p.error_code.is_error());
                let metadata = p.metadata.expect("is never null");
                rows.push(format!(
                    "{}-{} {} {} {metadata:?}",
                    topic.name, p.partition_index, p.committed_offset, p.committed_leader_epoch
                ));
            }
        }
        rows
    }

    #[test]
    fn asked_for_and_known_or_not() {
        let asked = topics(&[("a", &[1, 0, -1, i32::MAX]), ("z", &[0]), ("", &[0]), ("b", &[])]);
        let request = OffsetFetchRequest { group_id: "g", topics: Some(asked), ..Default::default() };
        for version in 1..=7 {
            let body = world().ask(version, &request, |log, call| {
                let Call::FetchOffsets { group, partitions } = call else { panic!("{call:?}") };
                assert_eq!((log, group.as_str()), (LogId(2), "g"));
                assert_eq!(partitions, Some(vec![partition("a", 1), partition("a", 0)]));
                Answer::FetchOffsets(Ok(vec![committed(partition("a", 1), 42, Some("note"))]))
            });
            let response: OffsetFetchResponse<'_> = decode(&body, version);
            assert!(!response.error_code.is_error());
            let epoch = if version >= 5 { 3 } else { -1 };
            let expected = [
                format!("a-1 42 {epoch} \"note\""),
                "a-0 -1 -1 \"\"".to_owned(),
                "a--1 -1 -1 \"\"".to_owned(),
                "a-2147483647 -1 -1 \"\"".to_owned(),
                "z-0 -1 -1 \"\"".to_owned(),
                "-0 -1 -1 \"\"".to_owned(),
            ];
            assert_eq!(rows(&response.topics), expected);
            let names: Vec<_> = response.topics.iter().map(|topic| topic.name).collect();
            assert_eq!(names, ["a", "z", "", "b"]);
        }
    }

    #[test]
    fn null_is_everything_but_what_was_deleted() {
        let gone = PartitionKey { topic: TopicId([1; 16]), index: 0 };
        let request = OffsetFetchRequest { group_id: "g", ..Default::default() };
        let body = world().ask(7, &request, |_, call| {
            assert!(matches!(call, Call::FetchOffsets { partitions: None, .. }));
            Answer::FetchOffsets(Ok(vec![
                committed(partition("b", 0), 3, None),
                committed(partition("a", 2), 2, Some("")),
                committed(gone, 9, None),
                committed(partition("a", 0), 1, None),
            ]))
        });
        let response: OffsetFetchResponse<'_> = decode(&body, 7);
        assert_eq!(rows(&response.topics), ["a-0 1 3 \"\"", "a-2 2 3 \"\"", "b-0 3 3 \"\""]);
        assert_eq!(response.topics.len(), 2);
    }

    #[test]
    fn many_groups() {
        let group = |group_id, topics| OffsetFetchRequestGroup { group_id, topics, ..Default::default() };
        let groups = [
            group("unknown", Some(topics(&[("a", &[0])]))),
            group("h", Some(topics(&[("a", &[0])]))),
            group("unknown", None),
            group("g", None),
            group("", Some(Array::new())),
        ];
        let request = OffsetFetchRequest { groups: groups.into_iter().collect(), ..Default::default() };
        for version in 8..=9 {
            let body = world().ask(version, &request, |_, call| {
                let Call::FetchOffsets { group, .. } = call else { panic!("{call:?}") };
                let offset = |offset| vec![committed(partition("a", 0), offset, None)];
                Answer::FetchOffsets(Ok(match &*group {
                    "g" => offset(7),
                    "h" => offset(8),
                    _ => Vec::new(),
                }))
            });
            let response: OffsetFetchResponse<'_> = decode(&body, version);
            let groups: Vec<_> =
                response.groups.iter().map(|group| (group.group_id, rows(&group.topics))).collect();
            let expected = [
                ("unknown", vec!["a-0 -1 -1 \"\"".to_owned()]),
                ("h", vec!["a-0 8 3 \"\"".to_owned()]),
                ("unknown", vec![]),
                ("g", vec!["a-0 7 3 \"\"".to_owned()]),
                ("", vec![]),
            ];
            assert_eq!(groups, expected);
        }
    }

    #[test]
    fn names_that_are_repeated_are_answered_while_there_is_room() {
        let mut world = world();
        world.answer_bytes = 1 << 20;
        let note = "n".repeat(4_000);
        let mut answer = |_: LogId, call: Call| {
            let Call::FetchOffsets { partitions, .. } = call else { panic!("{call:?}") };
            assert!(partitions.is_none_or(|partitions| partitions.len() == 1));
            Answer::FetchOffsets(Ok(vec![committed(partition("a", 0), 1, Some(&note))]))
        };
        // A partition many times, in the one group that old versions have.
        let indexes = vec![0; 1_000];
        let asked = topics(&[("a", &indexes)]);
        let one = OffsetFetchRequest { group_id: "g", topics: Some(asked.clone()), ..Default::default() };
        for version in 1..=7 {
            let body = world.ask(version, &one, &mut answer);
            assert!(body.len() < 100_000, "{} bytes", body.len());
            let response: OffsetFetchResponse<'_> = decode(&body, version);
            let code = match version {
                ..GROUP_ERROR_SINCE => response.topics[0].partitions[999].error_code,
                _ => response.error_code,
            };
            assert_eq!(code, ErrorCode::POLICY_VIOLATION);
        }
        // A group many times.
        let group = |topics| OffsetFetchRequestGroup { group_id: "g", topics, ..Default::default() };
        let few = || Some(topics(&[("a", &[0])]));
        for asked in [None, few()] {
            let groups = (0..1_000).map(|_| group(asked.clone())).collect();
            let request = OffsetFetchRequest { groups, ..Default::default() };
            let body = world.ask(9, &request, &mut answer);
            assert!(body.len() < 1_100_000, "{} bytes", body.len());
            let response: OffsetFetchResponse<'_> = decode(&body, 9);
            let refused =
                response.groups.iter().filter(|group| group.error_code == ErrorCode::POLICY_VIOLATION);
            assert!((700..800).contains(&refused.count()));
            assert_eq!(response.groups[0].topics[0].partitions[0].metadata, Some(note.as_str()));
        }
    }

    #[test]
    fn a_log_that_has_failed() {
        let failed = |_, _| Answer::FetchOffsets(Err(CallError::Storage));
        let asked = topics(&[("a", &[0, 9])]);
        let one = OffsetFetchRequest { group_id: "g", topics: Some(asked.clone()), ..Default::default() };
        let code = ErrorCode::COORDINATOR_NOT_AVAILABLE;
        for version in 1..=7 {
            let body = world().ask(version, &one, failed);
            let response: OffsetFetchResponse<'_> = decode(&body, version);
            if version >= 2 {
                assert_eq!((response.error_code, response.topics.len()), (code, 0));
            } else {
                let partitions = &response.topics[0].partitions;
                let codes: Vec<_> = partitions.iter().map(|p| (p.committed_offset, p.error_code)).collect();
                assert_eq!(codes, [(-1, code), (-1, code)]);
            }
        }
        let group = |group_id| OffsetFetchRequestGroup {
            group_id,
            topics: Some(asked.clone()),
            ..Default::default()
        };
        let many = ["g", "h"].map(group).into_iter().collect();
        let body = world().ask(8, &OffsetFetchRequest { groups: many, ..Default::default() }, |_, call| {
            let Call::FetchOffsets { group, .. } = call else { panic!("{call:?}") };
            Answer::FetchOffsets(if group == "g" { Err(CallError::Storage) } else { Ok(Vec::new()) })
        });
        let response: OffsetFetchResponse<'_> = decode(&body, 8);
        let codes: Vec<_> =
            response.groups.iter().map(|group| (group.error_code, group.topics.len())).collect();
        assert_eq!(codes, [(code, 0), (ErrorCode::NONE, 1)]);
    }
}
