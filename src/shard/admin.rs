//! Changes of the metadata, on the shard that hosts the metadata log.
//!
//! Judged, written to the log, durable, applied by every shard, then answered: so nobody hears of a
//! topic that some shard does not know yet. Calls are judged as they come, by a catalog that has
//! what is still being written, and so changes that come together share a block. They are answered
//! in their order, also those that need no record: "exists already" may be about a topic that is
//! being made.
//!
//! ```text
//!   calls -> judge -> | writing: records, in the log's order | -> | spreading: groups that shards apply | -> answers
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use crate::metadata::catalog::Catalog;
use crate::metadata::commands::{IdSource, NewTopic, TopicError, TopicRules};
use crate::metadata::record::MetaRecord;
use crate::model::{LogId, ProducerId, TopicId};

use super::call::{AdminCall, AdminError, Answer, CallError, ConfigChanges, CreatedTopic};
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

/// A change that is being written, or an answer that waits for those before it.
struct Change {
    origin: Origin,
    answer: Answer,
    record: Option<Box<[u8]>>,
}

/// Changes that are durable, and are being applied.
struct Group {
    number: u64,
    /// Shards that have not applied them yet.
    waiting: usize,
    answers: Vec<(Origin, Answer)>,
}

#[derive(Default)]
pub struct AdminQueue {
    calls: VecDeque<(Origin, AdminCall)>,
    /// The catalog with all that is being written. Made from the shard's when a call comes.
    planned: Option<Catalog>,
    writing: VecDeque<Change>,
    spreading: VecDeque<Group>,
    /// Numbers the groups, from 1.
    groups: u64,
}

impl AdminQueue {
    pub fn push(&mut self, origin: Origin, call: AdminCall) {
        self.calls.push_back((origin, call));
    }

    /// The next call.
    pub fn pop(&mut self) -> Option<(Origin, AdminCall)> {
        self.calls.pop_front()
    }

    pub fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.writing.is_empty() && self.spreading.is_empty()
    }

    /// What calls are judged by; `catalog` is the shard's own.
    pub fn planned(&mut self, catalog: &Catalog) -> &mut Catalog {
        self.planned.get_or_insert_with(|| catalog.clone())
    }

    /// The record was appended, and will be durable or fail.
    pub fn written(&mut self, origin: Origin, record: Box<[u8]>, answer: Answer) {
        self.writing.push_back(Change { origin, answer, record: Some(record) });
    }

    /// An answer that needs no record. It comes back if nothing is before it.
    pub fn judged(&mut self, origin: Origin, answer: Answer) -> Option<Answer> {
        if !self.writing.is_empty() {
            self.writing.push_back(Change { origin, answer, record: None });
            return None;
        }
        match self.spreading.back_mut() {
            Some(group) => group.answers.push((origin, answer)),
            None => return Some(answer),
        }
        None
    }

    /// The next `count` records are durable: they become a group, which so many shards must apply.
    /// Returns its number and the records.
    pub fn durable(&mut self, count: usize, shards: usize) -> (u64, Arc<[Box<[u8]>]>) {
        let mut records = Vec::with_capacity(count);
        let mut answers = Vec::with_capacity(count);
        while let Some(next) = self.writing.front()
            && (records.len() < count || next.record.is_none())
        {
            let Change { origin, answer, record } = self.writing.pop_front().expect("looked at above");
            answers.push((origin, answer));
            records.extend(record);
        }
        assert_eq!(records.len(), count, "what is durable was being written");
        self.groups += 1;
        self.spreading.push_back(Group { number: self.groups, waiting: shards, answers });
        (self.groups, records.into())
    }

    /// The log has failed: what was being written may be there after a restart, or not.
    pub fn fail(&mut self) -> impl Iterator<Item = (Origin, Answer)> + '_ {
        self.planned = None;
        self.writing.drain(..).map(|change| (change.origin, failed(change.answer, CallError::Storage)))
    }

    /// A shard has applied the group of that number.
    pub fn applied(&mut self, number: u64) {
        let group = self.spreading.iter_mut().find(|group| group.number == number);
        group.expect("a group is there until all shards have applied it").waiting -= 1;
    }

    /// The answers of the next group that every shard has applied.
    pub fn pop_applied(&mut self) -> Option<Vec<(Origin, Answer)>> {
        if self.spreading.front()?.waiting > 0 {
            return None;
        }
        self.spreading.pop_front().map(|group| group.answers)
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
        AdminCall::DeleteTopic { topic } => {
            judged(catalog.delete_topic(topic), false, catalog, Answer::DeleteTopic)
        }
        AdminCall::AddPartitions { topic, count, validate_only } => {
            judged(catalog.add_partitions(topic, count, rules), validate_only, catalog, Answer::AddPartitions)
        }
        AdminCall::AlterConfigs { topic, changes, validate_only } => {
            let record = match changes {
                ConfigChanges::Replace(pairs) => {
                    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
                    catalog.change_configs(topic, &pairs, rules)
                }
                ConfigChanges::Each(changes) => catalog.alter_configs(topic, &changes, rules),
            };
            judged(record, validate_only, catalog, Answer::AlterConfigs)
        }
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

/// A change of a topic, of which nothing is to be said but whether it is made.
fn judged(
    record: Result<MetaRecord, TopicError>,
    validate_only: bool,
    catalog: &Catalog,
    answer: impl Fn(Result<(), AdminError>) -> Answer,
) -> Judged {
    match record {
        Ok(record) if validate_only || changes_nothing(&record, catalog) => Judged::Answer(answer(Ok(()))),
        Ok(record) => Judged::Write { record, answer: answer(Ok(())) },
        Err(error) => Judged::Answer(answer(Err(topic_error(error)))),
    }
}

/// Tools set what is set already: that is not worth a write.
fn changes_nothing(record: &MetaRecord, catalog: &Catalog) -> bool {
    match record {
        MetaRecord::TopicConfigsChanged { id, configs } => {
            catalog.topic_by_id(*id).is_some_and(|topic| topic.config.to_pairs() == *configs)
        }
        _ => false,
    }
}

fn topic_error(error: TopicError) -> AdminError {
    let text = error.to_string();
    match error {
        TopicError::Name(_) | TopicError::Collides { .. } => AdminError::InvalidName(text),
        TopicError::AlreadyExists => AdminError::TopicExists,
        TopicError::Unknown => AdminError::UnknownTopic,
        TopicError::PartitionCount { .. }
        | TopicError::PartitionsNotAdded { .. }
        | TopicError::TooManyPartitions { .. }
        | TopicError::TooManyAtOnce { .. } => AdminError::InvalidPartitions(text),
        TopicError::ReplicationFactor { .. } => AdminError::InvalidReplication(text),
        TopicError::Config(_) => AdminError::InvalidConfig(text),
    }
}

/// The same answer, when the change could not be made.
pub fn failed(answer: Answer, error: CallError) -> Answer {
    match answer {
        Answer::CreateTopic(_) => Answer::CreateTopic(Err(error.into())),
        Answer::DeleteTopic(_) => Answer::DeleteTopic(Err(error.into())),
        Answer::AddPartitions(_) => Answer::AddPartitions(Err(error.into())),
        Answer::AlterConfigs(_) => Answer::AlterConfigs(Err(error.into())),
        Answer::ProducerIds(_) => Answer::ProducerIds(Err(error.into())),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::op::ConnId;
    use crate::metadata::testing::{Ids, RULES};
    use crate::metadata::topic_config::{ConfigChange, ConfigOp};
    use crate::model::ShardId;
    use crate::shard::call::Ticket;

    fn origin(request: u64) -> Origin {
        let conn = ConnId { index: 0, generation: 0 };
        Origin::new(ShardId(0), Ticket { conn, request, part: 0 })
    }

    fn create(name: &str) -> AdminCall {
        AdminCall::CreateTopic {
            name: name.to_owned(),
            partitions: 2,
            replication: 1,
            configs: Vec::new(),
            validate_only: false,
        }
    }

    /// A queue with what its shard would do.
    struct Rig {
        queue: AdminQueue,
        catalog: Catalog,
        ids: Ids,
        /// Answers that came at once.
        at_once: Vec<u64>,
    }

    impl Rig {
        fn new() -> Rig {
            let mut catalog = Catalog::default();
            catalog.apply(&MetaRecord::LogAdded { log: LogId(1) }).expect("a new log");
            Rig { queue: AdminQueue::default(), catalog, ids: Ids(0), at_once: Vec::new() }
        }

        fn call(&mut self, request: u64, call: AdminCall) {
            let planned = self.queue.planned(&self.catalog);
            match judge(call, planned, &RULES, &mut self.ids) {
                Judged::Write { record, answer } => {
                    planned.apply(&record).expect("what was judged fits");
                    let mut bytes = Vec::new();
                    record.encode(&mut bytes);
                    self.queue.written(origin(request), bytes.into(), answer);
                }
                Judged::Answer(answer) => {
                    if self.queue.judged(origin(request), answer).is_some() {
                        self.at_once.push(request);
                    }
                }
            }
        }

        /// So many records are durable; `shards` others must apply them.
        fn durable(&mut self, count: usize, shards: usize) -> u64 {
            let (number, records) = self.queue.durable(count, shards);
            assert_eq!(records.len(), count);
            for record in &*records {
                self.catalog.apply(&MetaRecord::decode(record).expect("ours")).expect("fits");
            }
            number
        }

        /// Requests that are answered now; with an exclamation mark the refused ones.
        fn answered(&mut self) -> String {
            let mut out = Vec::new();
            while let Some(answers) = self.queue.pop_applied() {
                out.extend(answers.iter().map(show));
            }
            out.join(" ")
        }
    }

    fn show((origin, answer): &(Origin, Answer)) -> String {
        let refused = matches!(
            answer,
            Answer::CreateTopic(Err(_))
                | Answer::DeleteTopic(Err(_))
                | Answer::AddPartitions(Err(_))
                | Answer::AlterConfigs(Err(_))
        );
        format!("{}{}", origin.ticket.request, if refused { "!" } else { "" })
    }

    #[test]
    fn changes_share_a_write_and_are_judged_by_those_before_them() {
        let mut rig = Rig::new();
        let topic = TopicId([1; 16]);
        rig.call(1, create("a"));
        rig.call(2, create("a"));
        rig.call(3, AdminCall::AddPartitions { topic, count: 5, validate_only: false });
        rig.call(4, AdminCall::AddPartitions { topic, count: 5, validate_only: true });
        let op = ConfigOp::Set("5".to_owned());
        let changes = ConfigChanges::Each(vec![ConfigChange { name: "retention.ms".to_owned(), op }]);
        let alter = |changes, validate_only| AdminCall::AlterConfigs { topic, changes, validate_only };
        rig.call(5, alter(changes.clone(), true));
        rig.call(6, alter(changes.clone(), false));
        rig.call(7, alter(changes, false));
        rig.call(8, AdminCall::DeleteTopic { topic });
        rig.call(9, create("a"));
        assert_eq!(
            (rig.answered().as_str(), rig.at_once.len()),
            ("", 0),
            "nobody hears of what is not there"
        );

        let first = rig.durable(2, 1);
        let topic = rig.catalog.topic("a").expect("is there");
        assert_eq!((topic.partitions.len(), topic.config.overrides().count()), (5, 0));
        let second = rig.durable(3, 1);
        assert_ne!(rig.catalog.topic("a").expect("again").id, TopicId([1; 16]));
        assert_eq!(rig.answered(), "");
        rig.queue.applied(first);
        assert_eq!(rig.answered(), "1 2! 3 4! 5", "in their order");
        rig.queue.applied(second);
        assert_eq!(rig.answered(), "6 7 8 9", "setting what is set needs no record");
        assert!(rig.queue.is_empty());
        rig.call(10, create("a"));
        assert_eq!(rig.at_once, [10], "nothing is before it");
    }

    #[test]
    fn an_answer_waits_for_the_shards_that_apply_what_it_is_about() {
        let mut rig = Rig::new();
        rig.call(1, create("a"));
        let number = rig.durable(1, 2);
        rig.call(2, create("a"));
        rig.call(3, create("b"));
        rig.queue.applied(number);
        assert_eq!((rig.answered().as_str(), rig.at_once.len()), ("", 0));
        rig.queue.applied(number);
        assert_eq!(rig.answered(), "1 2!");
        rig.durable(1, 0);
        assert_eq!(rig.answered(), "3");
    }

    #[test]
    fn what_a_failed_log_did_not_keep_is_answered_so() {
        let mut rig = Rig::new();
        rig.call(1, create("a"));
        rig.call(2, create("b"));
        rig.call(3, create("b"));
        rig.durable(1, 0);
        assert_eq!(rig.answered(), "1");
        let failed: Vec<_> = rig.queue.fail().map(|answer| show(&answer)).collect();
        assert_eq!(failed, ["2!", "3!"]);
        assert!(rig.queue.is_empty());
        assert!(rig.queue.planned(&rig.catalog).topic("b").is_none(), "judged by what is there again");
    }
}
