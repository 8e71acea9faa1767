//! OffsetDelete: a group forgets how far it has come in partitions that it does not read.

use std::collections::BTreeSet;

use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::offset_delete::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::kafka::protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};
use crate::model::LogId;
use crate::shard::call::{Answer, Call, GroupCall};

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: OffsetDeleteRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut pending =
        OffsetDelete { version, error_code: ErrorCode::NONE, topics: Vec::new(), asked: Vec::new() };
    let log = match ctx.group(request.group_id) {
        Ok(log) => log,
        Err(error_code) => {
            OffsetDeleteResponse { error_code, ..Default::default() }.encode(out, version);
            return Outcome::Reply;
        }
    };
    let mut partitions = Vec::new();
    let mut seen = BTreeSet::new();
    for topic in &request.topics {
        let mut replies = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let partition_index = partition.partition_index;
            let error_code = match ctx.partition(topic.name, partition_index) {
                // Each once, however often it is named: a call has its topic's name for every partition.
                Ok((_, key)) if !seen.insert(key) => continue,
                Ok((_, key)) => {
                    pending.asked.push((pending.topics.len(), replies.len()));
                    partitions.push((topic.name.to_owned(), key));
                    ErrorCode::NONE
                }
                Err(error_code) => error_code,
            };
            replies.push(OffsetDeleteResponsePartition { partition_index, error_code });
        }
        pending.topics.push((topic.name.to_owned(), replies));
    }
    let call = GroupCall::DeleteOffsets(partitions);
    wait(ctx, vec![(log, Call::Group { group: request.group_id.to_owned(), call })], pending, out)
}

struct OffsetDelete {
    version: i16,
    error_code: ErrorCode,
    topics: Vec<(String, Vec<OffsetDeleteResponsePartition>)>,
    /// Topic and partition of what was asked for, as indexes into the above.
    asked: Vec<(usize, usize)>,
}

impl Pending for OffsetDelete {
    fn on_answer(&mut self, _: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::DeleteOffsets(result) = answer else { unexpected(&answer) };
        match result {
            Ok(results) => {
                for ((topic, partition), result) in self.asked.iter().zip(results) {
                    if let Err(error) = result {
                        self.topics[*topic].1[*partition].error_code = errors::of_group(&error);
                    }
                }
            }
            Err(error) => {
                self.error_code = errors::of_coordinator(&error);
                self.topics.clear();
            }
        }
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let topics = self.topics.iter().map(|(name, partitions)| OffsetDeleteResponseTopic {
            name,
            partitions: partitions.iter().cloned().collect(),
        });
        let response = OffsetDeleteResponse {
            error_code: self.error_code,
            topics: topics.collect(),
            ..Default::default()
        };
        response.encode(out, self.version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};

    #[test]
    fn what_no_group_can_be_called_has_nothing_to_delete() {
        let longer = "g".repeat(2000);
        for group_id in ["", &longer] {
            let request = OffsetDeleteRequest { group_id, ..Default::default() };
            let body = World::default().reply(0, &request);
            let response: OffsetDeleteResponse<'_> = decode(&body, 0);
            assert_eq!(response.error_code, ErrorCode::INVALID_GROUP_ID);
        }
    }
}
