//! Changes of the metadata, on the shard that hosts the metadata log.
//!
//! One at a time: judged by the catalog, written to the log, durable, applied by every shard, then
//! answered. So a change is judged by everything before it, and nobody hears of a topic that some
//! shard does not know yet.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::metadata::catalog::{Catalog, IdSource, NewTopic, TopicError, TopicRules};
use crate::metadata::record::MetaRecord;
use crate::model::{LogId, ProducerId, TopicId};

use super::call::{AdminCall, AdminError, Answer, CallError, CreatedTopic};
use super::hosted::Origin;

/// Producer ids handed to a shard at a time: a metadata record every so many new producers.
const PRODUCER_IDS: u32 = 1000;

/// What a judged call leads to.
pub enum Judged {
    /// Nothing to write.
    Answer(Answer),
    /// This record; then the answer.
    Write { record: MetaRecord, answer: Answer },
}

/// The change that is under way.
pub struct Change {
    pub origin: Origin,
    pub record: Arc<[u8]>,
    pub answer: Answer,
    /// Shards that have not applied it yet; `None` until it is durable.
    pub waiting: Option<usize>,
}

#[derive(Default)]
pub struct AdminQueue {
    calls: VecDeque<(Origin, AdminCall)>,
    pub current: Option<Change>,
    /// Counts changes, so that a late `Done` is told from one that is waited for.
    pub number: u64,
}

impl AdminQueue {
    pub fn push(&mut self, origin: Origin, call: AdminCall) {
        self.calls.push_back((origin, call));
    }

    /// The next call, when none is under way.
    pub fn begin_next(&mut self) -> Option<(Origin, AdminCall)> {
        if self.current.is_some() { None } else { self.calls.pop_front() }
    }

    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.current.is_none()
    }
}

/// Judge a call by what the catalog knows.
pub fn judge(call: AdminCall, catalog: &Catalog, rules: &TopicRules, ids: &mut dyn IdSource) -> Judged {
    match call {
        AdminCall::CreateTopic { name, partitions, replication, configs, validate_only } => {
            let given: Vec<(&str, &str)> =
                configs.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?))).collect();
            let new = NewTopic {
                name: &name,
                partition_count: partitions,
                replication_factor: replication,
                configs: &given,
            };
            match catalog.create_topic(new, rules, ids) {
                Err(error) => Judged::Answer(Answer::CreateTopic(Err(topic_error(error)))),
                Ok(record) => {
                    let MetaRecord::TopicCreated { id, partitions, .. } = &record else {
                        unreachable!("create_topic makes this record")
                    };
                    let partitions = partitions.len() as i32;
                    let id = if validate_only { TopicId([0; 16]) } else { *id };
                    let answer = Answer::CreateTopic(Ok(CreatedTopic { id, partitions }));
                    if validate_only { Judged::Answer(answer) } else { Judged::Write { record, answer } }
                }
            }
        }
        AdminCall::DeleteTopic { topic } => match catalog.delete_topic(topic) {
            Ok(record) => Judged::Write { record, answer: Answer::DeleteTopic(Ok(())) },
            Err(error) => Judged::Answer(Answer::DeleteTopic(Err(topic_error(error)))),
        },
        AdminCall::AssignGroup { group, at } => match catalog.assign_group(&group, at) {
            Err(error) => Judged::Answer(Answer::AssignGroup(Err(error.into()))),
            Ok((log, None)) => Judged::Answer(Answer::AssignGroup(Ok(log))),
            Ok((log, Some(record))) => Judged::Write { record, answer: Answer::AssignGroup(Ok(log)) },
        },
        AdminCall::AllocateProducerIds => {
            let record = catalog.allocate_producer_ids(LogId::METADATA, PRODUCER_IDS);
            let MetaRecord::ProducerIdBlock { first, count, .. } = record else {
                unreachable!("allocate_producer_ids makes this record")
            };
            let answer = Answer::ProducerIds(Ok((ProducerId(first), count)));
            Judged::Write { record, answer }
        }
    }
}

fn topic_error(error: TopicError) -> AdminError {
    let text = error.to_string();
    match error {
        TopicError::Name(_) => AdminError::InvalidName(text),
        TopicError::AlreadyExists => AdminError::TopicExists,
        TopicError::Unknown => AdminError::UnknownTopic,
        TopicError::PartitionCount { .. } | TopicError::PartitionsNotAdded { .. } => {
            AdminError::InvalidPartitions(text)
        }
        TopicError::ReplicationFactor { .. } => AdminError::InvalidReplication(text),
        TopicError::Config(_) => AdminError::InvalidConfig(text),
    }
}

/// The same answer, when the change could not be made.
pub fn failed(answer: Answer, error: CallError) -> Answer {
    match answer {
        Answer::CreateTopic(_) => Answer::CreateTopic(Err(error.into())),
        Answer::DeleteTopic(_) => Answer::DeleteTopic(Err(error.into())),
        Answer::AssignGroup(_) => Answer::AssignGroup(Err(error.into())),
        Answer::ProducerIds(_) => Answer::ProducerIds(Err(error.into())),
        other => other,
    }
}
