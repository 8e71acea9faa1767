//! What tests of metadata, and of those above it, begin with.

use std::rc::Rc;

use super::catalog::Catalog;
use super::commands::{IdSource, NewTopic, TopicRules};
use super::record::MetaRecord;
use super::topic::Topic;
use crate::model::{LogId, TopicId};

pub const RULES: TopicRules = TopicRules {
    partition_count_default: 4,
    partition_count_max: 100,
    batch_bytes_max: 2_000_000,
    record_bytes_max: 1000,
};

/// Counts up.
pub struct Ids(pub u8);

impl IdSource for Ids {
    fn next_topic_id(&mut self) -> TopicId {
        self.0 += 1;
        TopicId([self.0; 16])
    }
}

/// A catalog with so many data logs, and nothing on them.
pub fn with_logs(count: u32) -> Catalog {
    let mut catalog = Catalog::default();
    for log in 1..=count {
        catalog.apply(&MetaRecord::LogAdded { log: LogId(log) }).expect("a new log");
    }
    catalog
}

pub fn new_topic(name: &str) -> NewTopic<'_> {
    NewTopic { name, partition_count: 3, replication_factor: 1, configs: &[] }
}

/// A topic, applied.
pub fn create(catalog: &mut Catalog, ids: &mut Ids, new: NewTopic<'_>) -> Rc<Topic> {
    let record = catalog.create_topic(new, &RULES, ids).expect("allowed");
    catalog.apply(&record).expect("fits");
    catalog.topic(new.name).expect("was created").clone()
}
