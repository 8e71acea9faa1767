//! OffsetCommit: how far a group has come.
//!
//! Members commit as who they are, in the generation that they are in; who is stale is refused by the
//! group. Clients that assign partitions themselves, and tools, commit without generation and member.

use super::replies::Replies;
use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::kafka::protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::{LogId, Offset};
use crate::shard::call::{Answer, Call, CallError, CommittedOffset, GroupCall, GroupError, MemberRef};

/// Longest text that a client can leave with an offset; Kafka's default, which counts what Java takes for characters.
pub const METADATA_BYTES_MAX: usize = 4096;

/// First version whose clients know `GROUP_ID_NOT_FOUND` as an answer.
const GROUP_NOT_FOUND_SINCE: i16 = 9;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: OffsetCommitRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut replies = Replies::with_capacity(request.topics.len());
    let mut offsets = Vec::new();
    let mut any_known = false;
    for topic in &request.topics {
        replies.topic(topic.name);
        for partition in &topic.partitions {
            let error_code = match check(ctx, topic.name, partition) {
                Ok(offset) => {
                    offsets.push(offset);
                    ErrorCode::NONE
                }
                Err(error_code) => error_code,
            };
            any_known |= was_asked(error_code);
            let partition_index = partition.partition_index;
            replies.push(OffsetCommitResponsePartition { partition_index, error_code });
        }
    }

    let group = request.group_id.to_owned();
    let who = MemberRef {
        member: request.member_id.to_owned(),
        instance: request.group_instance_id.map(str::to_owned),
        generation: request.generation_id_or_member_epoch,
    };
    let mut pending = OffsetCommit { version, replies };
    let mut calls = Vec::new();
    // Also where nothing can be kept: who is no member is told that before anything else.
    if any_known {
        match ctx.any_group(&group) {
            Ok(log) => calls.push((log, Call::Group { group, call: GroupCall::Commit { who, offsets } })),
            Err(error_code) => pending.fail(error_code),
        }
    }
    wait(ctx, calls, pending, out)
}

fn check(
    ctx: &Context<'_>,
    topic: &str,
    asked: &OffsetCommitRequestPartition<'_>,
) -> Result<CommittedOffset, ErrorCode> {
    let (_, partition) = ctx.partition(topic, asked.partition_index)?;
    let is_long =
        |text: &str| text.len() > METADATA_BYTES_MAX && text.encode_utf16().count() > METADATA_BYTES_MAX;
    if asked.committed_metadata.is_some_and(is_long) {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    Ok(CommittedOffset {
        partition,
        // Kafka takes what is no offset, too. kafkajs resets a group by committing -2 or -1, "earliest" and
        // "latest", and on reading starts where its settings say. To us that is a commit taken back.
        offset: Offset(asked.committed_offset.max(-1)),
        leader_epoch: asked.committed_leader_epoch,
        metadata: asked.committed_metadata.map(str::to_owned),
        commit_time: ctx.now.wall.0,
    })
}

/// The group hears of a partition that there is, whatever else is wrong with its commit.
fn was_asked(error_code: ErrorCode) -> bool {
    error_code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
}

struct OffsetCommit {
    version: i16,
    replies: Replies<OffsetCommitResponsePartition>,
}

impl OffsetCommit {
    fn code_of(&self, error: &CallError) -> ErrorCode {
        match error {
            CallError::Group(GroupError::UnknownGroup) if self.version < GROUP_NOT_FOUND_SINCE => {
                ErrorCode::ILLEGAL_GENERATION
            }
            _ => errors::of_coordinator(error),
        }
    }

    /// Everything fails, but for partitions that are not there, of which the group did not hear.
    fn fail(&mut self, code: ErrorCode) {
        for reply in self.replies.all().filter(|reply| was_asked(reply.error_code)) {
            reply.error_code = code;
        }
    }
}

impl Pending for OffsetCommit {
    fn on_answer(&mut self, _: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::CommitOffsets(committed) = answer else { unexpected(&answer) };
        if let Err(error) = committed {
            self.fail(self.code_of(&error));
        }
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let topics =
            self.replies.drain().map(|(name, partitions)| OffsetCommitResponseTopic { name, partitions });
        let response = OffsetCommitResponse { topics: topics.collect(), ..Default::default() };
        response.encode(out, self.version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GROUP_NAME_BYTES_MAX;
    use crate::kafka::handlers::testing::{World, decode, partition};
    use crate::kafka::protocol::messages::offset_commit::OffsetCommitRequestTopic;
    use crate::metadata::record::MetaRecord;

    fn offset(partition_index: i32, committed_offset: i64) -> OffsetCommitRequestPartition<'static> {
        OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            committed_leader_epoch: 5,
            committed_metadata: Some("note"),
        }
    }

    fn request<'a>(topics: &[(&'a str, &[OffsetCommitRequestPartition<'a>])]) -> OffsetCommitRequest<'a> {
        let topics = topics.iter().map(|(name, partitions)| OffsetCommitRequestTopic {
            name,
            partitions: partitions.iter().cloned().collect(),
        });
        OffsetCommitRequest { group_id: "g", topics: topics.collect(), ..Default::default() }
    }

    fn world() -> World {
        let world = World::with_topics(&["a", "b"]);
        world.apply(MetaRecord::GroupAssigned { group: "g".into(), log: LogId(2) });
        world
    }

    fn codes(body: &[u8], version: i16) -> Vec<(String, i32, i16)> {
        let response: OffsetCommitResponse<'_> = decode(body, version);
        let mut codes = Vec::new();
        for topic in &response.topics {
            for partition in &topic.partitions {
                codes.push((topic.name.to_owned(), partition.partition_index, partition.error_code.0));
            }
        }
        codes
    }

    #[test]
    fn what_can_be_stored_is_and_the_rest_is_told() {
        let longest = "ü".repeat(METADATA_BYTES_MAX);
        let too_long = "x".repeat(METADATA_BYTES_MAX + 1);
        let noted = |text| OffsetCommitRequestPartition { committed_metadata: text, ..offset(2, 1) };
        let request = request(&[
            ("a", &[offset(0, 10), offset(3, 1), offset(-1, 1), offset(1, -2), noted(Some(&longest))]),
            ("z", &[offset(0, 1)]),
            ("", &[offset(0, 1)]),
            ("b", &[noted(Some(&too_long)), noted(None)]),
        ]);
        for version in 2..=9 {
            let mut stored = Vec::new();
            let body = world().ask(version, &request, |log, call| {
                let Call::Group { group, call: GroupCall::Commit { offsets, .. } } = call else {
                    panic!("{call:?}")
                };
                assert_eq!((log, group.as_str()), (LogId(2), "g"));
                stored = offsets;
                Answer::CommitOffsets(Ok(()))
            });
            let leader_epoch = if version >= 6 { 5 } else { -1 };
            let first = CommittedOffset {
                partition: partition("a", 0),
                offset: Offset(10),
                leader_epoch,
                metadata: Some("note".into()),
                commit_time: 1_000,
            };
            assert_eq!(stored[0], first);
            let partitions: Vec<_> = stored.iter().map(|offset| offset.partition).collect();
            assert_eq!(partitions, [("a", 0), ("a", 1), ("a", 2), ("b", 2)].map(|(t, p)| partition(t, p)));
            assert_eq!(stored[1].offset, Offset(-1), "which takes back");
            assert_eq!((stored[2].metadata.as_deref(), &stored[3].metadata), (Some(longest.as_str()), &None));
            let expected = [
                ("a", 0, 0),
                ("a", 3, 3),
                ("a", -1, 3),
                ("a", 1, 0),
                ("a", 2, 0),
                ("z", 0, 3),
                ("", 0, 3),
                ("b", 2, ErrorCode::OFFSET_METADATA_TOO_LARGE.0),
                ("b", 2, 0),
            ];
            let expected = expected.map(|(topic, index, code)| (topic.to_owned(), index, code));
            assert_eq!(codes(&body, version), expected);
        }
    }

    #[test]
    fn a_group_is_at_its_log_whether_it_is_new_or_not_and_has_a_name_of_some_length() {
        let longest = "g".repeat(GROUP_NAME_BYTES_MAX);
        for group_id in ["new", "", &longest] {
            let expected = world().with_context(|ctx| ctx.catalog.group_log(group_id));
            let request = OffsetCommitRequest { group_id, ..request(&[("a", &[offset(0, 1)])]) };
            let mut logs = Vec::new();
            let body = world().ask(8, &request, |log, call| {
                let Call::Group { group, call: GroupCall::Commit { offsets, .. } } = call else {
                    panic!("{call:?}")
                };
                assert_eq!((group.as_str(), offsets.len()), (group_id, 1));
                logs.push(log);
                Answer::CommitOffsets(Ok(()))
            });
            assert_eq!(logs, [expected]);
            assert_eq!(codes(&body, 8), [("a".to_owned(), 0, 0)]);
        }
        let too_long = longest + "g";
        let request = OffsetCommitRequest { group_id: &too_long, ..request(&[("a", &[offset(0, 1)])]) };
        let refused = [("a".to_owned(), 0, ErrorCode::INVALID_GROUP_ID.0)];
        assert_eq!(codes(&world().reply(8, &request), 8), refused, "without a call");
    }

    #[test]
    fn a_commit_that_fails_leaves_the_verdict_on_partitions_that_are_not_there() {
        let too_long = "x".repeat(METADATA_BYTES_MAX + 1);
        let long = OffsetCommitRequestPartition { committed_metadata: Some(&too_long), ..offset(1, 1) };
        let alone = request(&[("a", std::slice::from_ref(&long))]);
        let request = request(&[("a", &[offset(0, 1), offset(9, 1), long.clone()])]);
        let table = [
            (CallError::Storage, ErrorCode::COORDINATOR_NOT_AVAILABLE),
            (GroupError::IllegalGeneration.into(), ErrorCode::ILLEGAL_GENERATION),
            (GroupError::GroupsFull.into(), ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
            (GroupError::OffsetsTooLarge.into(), ErrorCode::INVALID_COMMIT_OFFSET_SIZE),
        ];
        for (error, code) in table {
            let body = world().ask(8, &request, |_, _| Answer::CommitOffsets(Err(error.clone())));
            let of = |index, code| ("a".to_owned(), index, code);
            assert_eq!(codes(&body, 8), [of(0, code.0), of(9, 3), of(1, code.0)]);
            let body = world().ask(8, &alone, |_, call| {
                let Call::Group { call: GroupCall::Commit { offsets, .. }, .. } = call else {
                    panic!("{call:?}")
                };
                assert!(offsets.is_empty());
                Answer::CommitOffsets(Err(error.clone()))
            });
            assert_eq!(codes(&body, 8), [of(1, code.0)], "who may not commit is told so first");
        }
        let body = world().ask(8, &alone, |_, _| Answer::CommitOffsets(Ok(())));
        assert_eq!(codes(&body, 8), [("a".to_owned(), 1, ErrorCode::OFFSET_METADATA_TOO_LARGE.0)]);
    }

    #[test]
    fn who_commits_goes_to_the_group_and_no_member_is_in_a_group_that_is_not_there() {
        let by = |group_id, generation, member_id| OffsetCommitRequest {
            group_id,
            generation_id_or_member_epoch: generation,
            member_id,
            group_instance_id: Some("static"),
            ..request(&[("a", &[offset(0, 1)])])
        };
        for (version, error_code) in [(8, ErrorCode::ILLEGAL_GENERATION), (9, ErrorCode::GROUP_ID_NOT_FOUND)]
        {
            let body = world().ask(version, &by("g", 7, "me"), |_, call| {
                let Call::Group { call: GroupCall::Commit { who, .. }, .. } = call else {
                    panic!("{call:?}")
                };
                let (member, instance) = ("me".to_owned(), Some("static".to_owned()));
                assert_eq!(who, MemberRef { member, instance, generation: 7 });
                Answer::CommitOffsets(Err(GroupError::UnknownGroup.into()))
            });
            assert_eq!(codes(&body, version), [("a".to_owned(), 0, error_code.0)]);
        }
        let body = world()
            .ask(9, &by("g", 7, "me"), |_, _| Answer::CommitOffsets(Err(GroupError::FencedInstance.into())));
        assert_eq!(codes(&body, 9), [("a".to_owned(), 0, ErrorCode::FENCED_INSTANCE_ID.0)]);
        assert_eq!(codes(&world().reply(9, &request(&[])), 9), []);
    }
}
