//! The catalog: every topic, group, log and producer-id block that the metadata log tells of.
//!
//! [Commands](super::commands) judge and return a record, and change nothing; [`Catalog::apply`]
//! changes, and only for records. A snapshot is a list of records that builds the same catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rustc_hash::FxHashMap;
use thiserror::Error;

use super::config_def::ConfigError;
use super::placement::{LogLoad, place_group};
use super::record::{DecodeError, MetaRecord};
use super::topic::{Topic, flat_name};
use super::topic_config::TopicConfig;
use crate::model::{LogId, TopicId};

/// A record that does not fit the catalog: the metadata log is damaged, or not this one's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CatalogError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("topic {name:?} or its id {id} is there already")]
    TopicExists { id: TopicId, name: String },
    #[error("there is no topic {id}")]
    UnknownTopic { id: TopicId },
    #[error("topic {id} has {expected} partitions, the record continues at {got}")]
    PartitionGap { id: TopicId, expected: u32, got: u32 },
    #[error("topic {id} would have no partition")]
    NoPartitions { id: TopicId },
    #[error("log {log} is not known")]
    UnknownLog { log: LogId },
    #[error("log {log} is there already, or cannot host partitions")]
    BadLog { log: LogId },
    #[error("group {group:?} is assigned already")]
    GroupExists { group: String },
    #[error("producer ids from {first} on were handed out, the next is {next}")]
    ProducerIds { first: i64, next: i64 },
    #[error("topic {id}: {cause}")]
    Config { id: TopicId, cause: ConfigError },
}

/// What one shard knows of the broker. A clone shares the topics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    by_name: FxHashMap<Rc<str>, Rc<Topic>>,
    by_id: FxHashMap<TopicId, Rc<Topic>>,
    /// The same topics once more, for lists.
    in_order: BTreeMap<Rc<str>, Rc<Topic>>,
    /// The names that have a '.' or a '_', by what metrics make of them.
    by_flat_name: FxHashMap<Box<str>, BTreeSet<Rc<str>>>,
    /// Groups whose log was written down, as earlier versions did for each.
    assigned_groups: FxHashMap<Box<str>, LogId>,
    /// The data logs, with what they host.
    logs: BTreeMap<LogId, LogLoad>,
    next_producer_id: i64,
}

impl Catalog {
    pub fn topic(&self, name: &str) -> Option<&Rc<Topic>> {
        self.by_name.get(name)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Rc<Topic>> {
        self.by_id.get(&id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Rc<Topic>> {
        self.in_order.values()
    }

    /// A topic with another name that metrics cannot tell from `name`.
    pub fn colliding_name(&self, name: &str) -> Option<&Rc<str>> {
        let same = self.by_flat_name.get(flat_name(name)?.as_str())?;
        same.iter().find(|other| &***other != name)
    }

    /// The log of a group, whether there is such a group or not. There must be a data log.
    pub fn group_log(&self, group: &str) -> LogId {
        self.assigned_groups.get(group).copied().unwrap_or_else(|| place_group(&self.logs, group))
    }

    /// The data logs, with what they host.
    pub fn logs(&self) -> &BTreeMap<LogId, LogLoad> {
        &self.logs
    }

    /// The first that was not handed out.
    pub(super) fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    // --- Records: the only way to change. ---

    /// Applies a record. An error leaves the catalog as it was.
    pub fn apply(&mut self, record: &MetaRecord) -> Result<(), CatalogError> {
        match record {
            MetaRecord::TopicCreated { id, name, configs, partitions } => {
                self.apply_created(*id, name, configs, partitions)
            }
            MetaRecord::TopicDeleted { id } => self.apply_deleted(*id),
            MetaRecord::TopicConfigsChanged { id, configs } => {
                let config = parse_configs(*id, configs)?;
                let topic = self.applied_topic(*id)?;
                self.insert(Topic { config, ..(*topic).clone() });
                Ok(())
            }
            MetaRecord::PartitionsAdded { id, first_index, partitions } => {
                self.apply_partitions(*id, *first_index, partitions)
            }
            MetaRecord::GroupAssigned { group, log } => self.apply_group(group, *log),
            MetaRecord::ProducerIdBlock { first, count, log: _ } => self.apply_ids(*first, *count),
            MetaRecord::LogAdded { log } => {
                if *log == LogId::METADATA || self.logs.contains_key(log) {
                    return Err(CatalogError::BadLog { log: *log });
                }
                self.logs.insert(*log, LogLoad::default());
                Ok(())
            }
        }
    }

    fn apply_created(
        &mut self,
        id: TopicId,
        name: &str,
        configs: &[(String, String)],
        partitions: &[LogId],
    ) -> Result<(), CatalogError> {
        if self.by_id.contains_key(&id) || self.by_name.contains_key(name) {
            return Err(CatalogError::TopicExists { id, name: name.to_owned() });
        }
        if partitions.is_empty() {
            return Err(CatalogError::NoPartitions { id });
        }
        let config = parse_configs(id, configs)?;
        self.count_partitions(partitions)?;
        let name: Rc<str> = name.into();
        if let Some(flat) = flat_name(&name) {
            self.by_flat_name.entry(flat.into()).or_default().insert(name.clone());
        }
        self.insert(Topic { id, name, config, partitions: partitions.to_vec() });
        Ok(())
    }

    fn apply_deleted(&mut self, id: TopicId) -> Result<(), CatalogError> {
        let topic = self.applied_topic(id)?;
        self.by_id.remove(&id);
        self.by_name.remove(&topic.name);
        self.in_order.remove(&topic.name);
        if let Some(flat) = flat_name(&topic.name)
            && let Some(same) = self.by_flat_name.get_mut(flat.as_str())
        {
            same.remove(&topic.name);
            if same.is_empty() {
                self.by_flat_name.remove(flat.as_str());
            }
        }
        for log in &topic.partitions {
            let load = self.logs.get_mut(log).expect("a topic lies in known logs");
            load.partition_count -= 1;
        }
        Ok(())
    }

    fn apply_partitions(&mut self, id: TopicId, first: u32, added: &[LogId]) -> Result<(), CatalogError> {
        let topic = self.applied_topic(id)?;
        let expected = topic.partitions.len() as u32;
        if first != expected {
            return Err(CatalogError::PartitionGap { id, expected, got: first });
        }
        self.count_partitions(added)?;
        let mut topic = (*topic).clone();
        topic.partitions.extend_from_slice(added);
        self.insert(topic);
        Ok(())
    }

    fn apply_group(&mut self, group: &str, log: LogId) -> Result<(), CatalogError> {
        if self.assigned_groups.contains_key(group) {
            return Err(CatalogError::GroupExists { group: group.to_owned() });
        }
        if !self.logs.contains_key(&log) {
            return Err(CatalogError::UnknownLog { log });
        }
        self.assigned_groups.insert(group.into(), log);
        Ok(())
    }

    fn apply_ids(&mut self, first: i64, count: u32) -> Result<(), CatalogError> {
        let end = first.checked_add(i64::from(count));
        match end.filter(|_| first >= self.next_producer_id) {
            Some(end) => self.next_producer_id = end,
            None => return Err(CatalogError::ProducerIds { first, next: self.next_producer_id }),
        }
        Ok(())
    }

    /// Counts partitions on their logs, if all are known.
    fn count_partitions(&mut self, partitions: &[LogId]) -> Result<(), CatalogError> {
        if let Some(log) = partitions.iter().find(|log| !self.logs.contains_key(log)) {
            return Err(CatalogError::UnknownLog { log: *log });
        }
        for log in partitions {
            self.logs.get_mut(log).expect("looked up above").partition_count += 1;
        }
        Ok(())
    }

    /// Puts a topic in, or in the place of its former self.
    fn insert(&mut self, topic: Topic) {
        let topic = Rc::new(topic);
        self.by_id.insert(topic.id, topic.clone());
        self.by_name.insert(topic.name.clone(), topic.clone());
        self.in_order.insert(topic.name.clone(), topic);
    }

    fn applied_topic(&self, id: TopicId) -> Result<Rc<Topic>, CatalogError> {
        self.by_id.get(&id).cloned().ok_or(CatalogError::UnknownTopic { id })
    }

    // --- Snapshots. ---

    /// The records that build this catalog, one behind the other: logs, topics and groups by name,
    /// the next producer id. Equal catalogs have equal snapshots.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for log in self.logs.keys() {
            MetaRecord::LogAdded { log: *log }.encode(&mut out);
        }
        for topic in self.topics() {
            let created = MetaRecord::TopicCreated {
                id: topic.id,
                name: topic.name.to_string(),
                configs: topic.config.to_pairs(),
                partitions: topic.partitions.clone(),
            };
            created.encode(&mut out);
        }
        let groups: BTreeMap<&str, LogId> =
            self.assigned_groups.iter().map(|(group, log)| (&**group, *log)).collect();
        for (group, log) in groups {
            MetaRecord::GroupAssigned { group: group.to_owned(), log }.encode(&mut out);
        }
        let (first, log) = (self.next_producer_id, LogId::METADATA);
        MetaRecord::ProducerIdBlock { first, count: 0, log }.encode(&mut out);
        out
    }

    /// The catalog of a snapshot.
    pub fn restore(snapshot: &[u8]) -> Result<Catalog, CatalogError> {
        let mut catalog = Catalog::default();
        let mut rest = snapshot;
        while !rest.is_empty() {
            catalog.apply(&MetaRecord::take(&mut rest)?)?;
        }
        Ok(catalog)
    }
}

fn parse_configs(id: TopicId, configs: &[(String, String)]) -> Result<TopicConfig, CatalogError> {
    let pairs = configs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    TopicConfig::stored(pairs).map_err(|cause| CatalogError::Config { id, cause })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{Ids, RULES, create, new_topic, with_logs};
    use super::super::topic_config::{ConfigChange, ConfigOp};
    use super::*;

    #[test]
    fn the_log_of_a_group_follows_from_its_name_and_takes_nothing() {
        let mut catalog = with_logs(3);
        // On disk this is a format: a group must be found where it was left.
        let logs = ["", "a", "readers", "wordcount", "\u{fc}"].map(|group| catalog.group_log(group).0);
        assert_eq!(logs, [1, 1, 3, 2, 3]);
        let before = catalog.clone();
        let mut counts = [0; 3];
        for number in 0..200_000 {
            counts[catalog.group_log(&format!("group-{number}")).0 as usize - 1] += 1;
        }
        assert!(counts.iter().all(|count| (60_000..74_000).contains(count)), "{counts:?}");
        assert_eq!(catalog, before, "however many names there are");

        let mut ids = Ids(0);
        create(&mut catalog, &mut ids, new_topic("t"));
        assert_eq!(["", "a", "readers", "wordcount", "\u{fc}"].map(|group| catalog.group_log(group).0), logs);
    }

    #[test]
    fn a_group_that_was_assigned_stays_where_it_is() {
        let mut catalog = with_logs(2);
        for log in [LogId(1), LogId(2)] {
            let group = format!("at {log}");
            catalog.apply(&MetaRecord::GroupAssigned { group, log }).expect("fits");
        }
        let elsewhere = LogId(3 - catalog.group_log("g").0);
        catalog.apply(&MetaRecord::GroupAssigned { group: "g".into(), log: elsewhere }).expect("fits");
        for catalog in [&catalog, &Catalog::restore(&catalog.snapshot()).expect("ours")] {
            assert_eq!(catalog.group_log("g"), elsewhere);
            assert_eq!((catalog.group_log("at 1"), catalog.group_log("at 2")), (LogId(1), LogId(2)));
        }
    }

    #[test]
    fn producer_ids_are_handed_out_once() {
        let mut catalog = with_logs(2);
        for expected in [0, 1000, 2000] {
            let block = catalog.allocate_producer_ids(LogId(1), 1000);
            assert_eq!(block, MetaRecord::ProducerIdBlock { first: expected, count: 1000, log: LogId(1) });
            catalog.apply(&block).expect("fits");
            catalog = Catalog::restore(&catalog.snapshot()).expect("ours");
        }
    }

    #[test]
    fn records_that_do_not_fit_change_nothing() {
        let (mut catalog, mut ids) = (with_logs(1), Ids(0));
        let topic = create(&mut catalog, &mut ids, new_topic("t"));
        catalog.apply(&MetaRecord::GroupAssigned { group: "g".into(), log: LogId(1) }).expect("the first");
        catalog.apply(&catalog.allocate_producer_ids(LogId(1), 10)).expect("fits");
        let created = |id, name: &str, partitions: &[u32]| MetaRecord::TopicCreated {
            id: TopicId([id; 16]),
            name: name.to_owned(),
            configs: Vec::new(),
            partitions: partitions.iter().copied().map(LogId).collect(),
        };
        let bad_config = vec![("no.such".to_owned(), "1".to_owned())];
        let unknown = TopicId([9; 16]);
        let log = LogId(1);
        let table = [
            created(1, "other", &[1]),
            created(8, "t", &[1]),
            created(8, "other", &[]),
            created(8, "other", &[1, 2]),
            created(8, "other", &[0]),
            MetaRecord::TopicDeleted { id: unknown },
            MetaRecord::TopicConfigsChanged { id: unknown, configs: Vec::new() },
            MetaRecord::TopicConfigsChanged { id: topic.id, configs: bad_config },
            MetaRecord::PartitionsAdded { id: topic.id, first_index: 2, partitions: vec![log] },
            MetaRecord::PartitionsAdded { id: topic.id, first_index: 3, partitions: vec![log, LogId(2)] },
            MetaRecord::GroupAssigned { group: "g".into(), log },
            MetaRecord::GroupAssigned { group: "h".into(), log: LogId(2) },
            MetaRecord::ProducerIdBlock { first: 9, count: 10, log },
            MetaRecord::ProducerIdBlock { first: i64::MAX, count: 1, log },
            MetaRecord::LogAdded { log },
            MetaRecord::LogAdded { log: LogId::METADATA },
        ];
        let before = catalog.clone();
        for record in table {
            catalog.apply(&record).expect_err("does not fit");
            assert_eq!(catalog, before, "{record:?}");
        }
    }

    /// What a random day of administration does.
    fn day() -> impl Strategy<Value = Vec<(u8, u8)>> {
        prop::collection::vec((0u8..7, 0u8..8), 0..60)
    }

    proptest! {
        #[test]
        fn a_snapshot_builds_the_same_catalog(day in day()) {
            let (mut catalog, mut ids) = (with_logs(1), Ids(0));
            for (command, number) in day {
                let name = format!("name.{number}");
                let topic = catalog.topic(&name).map_or(TopicId([0; 16]), |topic| topic.id);
                let retention = number.to_string();
                let record = match command {
                    0 => catalog.create_topic(new_topic(&name), &RULES, &mut ids).ok(),
                    1 => catalog.delete_topic(topic).ok(),
                    2 => catalog.change_configs(topic, &[("retention.ms", &retention)], &RULES).ok(),
                    6 => {
                        let op = ConfigOp::Set(retention);
                        let change = ConfigChange { name: "retention.bytes".to_owned(), op };
                        catalog.alter_configs(topic, &[change], &RULES).ok()
                    }
                    3 => catalog.add_partitions(topic, i32::from(number) + 2, &RULES).ok(),
                    4 if !catalog.assigned_groups.contains_key(name.as_str()) => {
                        Some(MetaRecord::GroupAssigned { group: name, log: LogId(1) })
                    }
                    _ if number == 0 => {
                        let log = LogId(catalog.logs().len() as u32 + 1);
                        Some(MetaRecord::LogAdded { log })
                    }
                    _ => Some(catalog.allocate_producer_ids(LogId(1), u32::from(number))),
                };
                if let Some(record) = record {
                    prop_assert_eq!(catalog.apply(&record), Ok(()), "what a command returns fits");
                }
            }
            let snapshot = catalog.snapshot();
            let restored = Catalog::restore(&snapshot).expect("ours");
            prop_assert_eq!(&restored, &catalog);
            prop_assert_eq!(restored.snapshot(), snapshot);
        }

        #[test]
        fn hostile_records_are_errors(records in prop::collection::vec(super::super::record::tests::record(), 0..20)) {
            let mut catalog = with_logs(1);
            for record in &records {
                let _ = catalog.apply(record);
            }
            let _ = catalog.snapshot();
        }

        #[test]
        fn restoring_rot_never_panics(bytes: Vec<u8>) {
            let _ = Catalog::restore(&bytes);
        }
    }
}
