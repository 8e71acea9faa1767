//! OffsetCommit: how far a group has come.
//!
//! There are no consumer groups with members yet. What works is the *simple* commit of clients that
//! assign partitions themselves, and of tools: without generation and member.

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
use crate::shard::call::{AdminCall, Answer, Call, CommittedOffset};

/// Longest text that a client can leave with an offset; Kafka's default.
pub const METADATA_BYTES_MAX: usize = 4096;

/// First version whose clients know `GROUP_ID_NOT_FOUND` as an answer.
const GROUP_NOT_FOUND_SINCE: i16 = 9;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: OffsetCommitRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let refused = check_member(version, &request);
    let mut replies = Replies::with_capacity(request.topics.len());
    let mut offsets = Vec::new();
    for topic in &request.topics {
        replies.topic(topic.name);
        for partition in &topic.partitions {
            let checked = match refused {
                Some(error_code) => Err(error_code),
                None => check(ctx, topic.name, partition),
            };
            let error_code = match checked {
                Ok(offset) => {
                    offsets.push(offset);
                    ErrorCode::NONE
                }
                Err(error_code) => error_code,
            };
            let partition_index = partition.partition_index;
            replies.push(OffsetCommitResponsePartition { partition_index, error_code });
        }
    }

    let group = request.group_id.to_owned();
    let mut pending = OffsetCommit { version, replies, state: State::Nothing };
    let mut calls = Vec::new();
    if !offsets.is_empty() {
        match ctx.catalog.group_log(&group) {
            Some(log) => {
                calls.push((log, Call::CommitOffsets { group, offsets }));
                pending.state = State::Committing;
            }
            None => {
                let assign = AdminCall::AssignGroup { group: group.clone() };
                calls.push((LogId::METADATA, Call::Admin(assign)));
                pending.state = State::Assigning { group, offsets };
            }
        }
    }
    wait(ctx, calls, pending, out)
}

/// What is wrong with who commits, if anything: no group has members or generations.
fn check_member(version: i16, request: &OffsetCommitRequest<'_>) -> Option<ErrorCode> {
    if request.generation_id_or_member_epoch >= 0 {
        let is_new = version >= GROUP_NOT_FOUND_SINCE;
        return Some(if is_new { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::ILLEGAL_GENERATION });
    }
    (!request.member_id.is_empty()).then_some(ErrorCode::UNKNOWN_MEMBER_ID)
}

fn check(
    ctx: &Context<'_>,
    topic: &str,
    asked: &OffsetCommitRequestPartition<'_>,
) -> Result<CommittedOffset, ErrorCode> {
    let (_, partition) = ctx.partition(topic, asked.partition_index)?;
    if asked.committed_metadata.is_some_and(|metadata| metadata.len() > METADATA_BYTES_MAX) {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    // -1 would read as "nothing committed".
    if asked.committed_offset < 0 {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    Ok(CommittedOffset {
        partition,
        offset: Offset(asked.committed_offset),
        leader_epoch: asked.committed_leader_epoch,
        metadata: asked.committed_metadata.map(str::to_owned),
        commit_time: ctx.now.wall.0,
    })
}

/// What is under way.
enum State {
    /// Every partition was refused.
    Nothing,
    /// The group gets its log first.
    Assigning {
        group: String,
        offsets: Vec<CommittedOffset>,
    },
    Committing,
}

struct OffsetCommit {
    version: i16,
    replies: Replies<OffsetCommitResponsePartition>,
    state: State,
}

impl OffsetCommit {
    /// What was not refused before fails now.
    fn fail(&mut self, code: ErrorCode) {
        for reply in self.replies.all().filter(|reply| !reply.error_code.is_error()) {
            reply.error_code = code;
        }
    }
}

impl Pending for OffsetCommit {
    fn on_answer(&mut self, _: u32, answer: Answer) -> Vec<(LogId, Call)> {
        match (std::mem::replace(&mut self.state, State::Committing), answer) {
            (State::Assigning { group, offsets }, Answer::AssignGroup(Ok(log))) => {
                return vec![(log, Call::CommitOffsets { group, offsets })];
            }
            (State::Assigning { .. }, Answer::AssignGroup(Err(error))) => {
                self.fail(errors::of_assignment(&error));
            }
            (State::Committing, Answer::CommitOffsets(Ok(()))) => {}
            (State::Committing, Answer::CommitOffsets(Err(error))) => {
                self.fail(errors::of_coordinator(&error));
            }
            (_, answer) => unexpected(&answer),
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
