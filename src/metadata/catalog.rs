//! The catalog: every topic, group, log and producer-id block that the metadata log tells of.
//!
//! Commands (`create_topic`, ...) judge and return a record, and change nothing; [`Catalog::apply`]
//! changes, and only for records. A snapshot is a list of records that builds the same catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rustc_hash::FxHashMap;
use thiserror::Error;

use super::placement::{LogLoad, place_group, place_partitions};
use super::record::{DecodeError, MetaRecord};
use super::topic::{NameError, Topic, flat_name, validate_name};
use super::topic_config::{ConfigChange, ConfigError, TopicConfig};
use crate::model::{LogId, TopicId};

/// Draws ids; the catalog itself has no randomness.
pub trait IdSource {
    /// An id that no topic ever had: random, and not one that Kafka reserves (all zeros, or 1).
    fn next_topic_id(&mut self) -> TopicId;
}

/// A topic as somebody asks for it.
#[derive(Clone, Copy, Debug)]
pub struct NewTopic<'a> {
    pub name: &'a str,
    /// -1 for the broker's default.
    pub partition_count: i32,
    /// 1, or -1 for the broker's default, which is 1 too.
    pub replication_factor: i16,
    pub configs: &'a [(&'a str, &'a str)],
}

/// The broker's own limits for topics.
#[derive(Clone, Copy, Debug)]
pub struct TopicRules {
    pub partition_count_default: u32,
    /// Most partitions of all topics together.
    pub partition_count_max: u32,
    /// No topic may allow larger batches: they must fit into a block of the log.
    pub batch_bytes_max: u32,
}

/// Why a command on a topic is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("metrics could not tell the topic from {other:?}, which exists already")]
    Collides { other: Rc<str> },
    #[error("the topic exists already")]
    AlreadyExists,
    #[error("there is no such topic")]
    Unknown,
    #[error("a topic has 1 to {count_max} partitions, not {count}")]
    PartitionCount { count: i32, count_max: u32 },
    #[error("the topic has {current} partitions already, {count} would be no more")]
    PartitionsNotAdded { current: u32, count: i32 },
    #[error("{wanted} further partitions are too many: this broker has {current} and takes {count_max}")]
    TooManyPartitions { wanted: u32, current: u64, count_max: u32 },
    #[error("replication factor {factor} is not possible, there is one broker")]
    ReplicationFactor { factor: i16 },
    #[error(transparent)]
    Config(#[from] ConfigError),
}

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
    fn colliding_name(&self, name: &str) -> Option<&Rc<str>> {
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

    // --- Commands: judge, and answer with the record to append. ---

    /// A topic with a new id, spread over the data logs. There must be one.
    pub fn create_topic(
        &self,
        new: NewTopic<'_>,
        rules: &TopicRules,
        ids: &mut dyn IdSource,
    ) -> Result<MetaRecord, TopicError> {
        validate_name(new.name)?;
        if self.by_name.contains_key(new.name) {
            return Err(TopicError::AlreadyExists);
        }
        if let Some(other) = self.colliding_name(new.name) {
            return Err(TopicError::Collides { other: other.clone() });
        }
        if !matches!(new.replication_factor, 1 | -1) {
            return Err(TopicError::ReplicationFactor { factor: new.replication_factor });
        }
        let count = match new.partition_count {
            -1 => rules.partition_count_default,
            count => rules.check_partition_count(count)?,
        };
        self.check_room(count, rules)?;
        let config = rules.check_configs(TopicConfig::new(new.configs.iter().copied())?)?;
        Ok(MetaRecord::TopicCreated {
            id: ids.next_topic_id(),
            name: new.name.to_owned(),
            configs: config.to_pairs(),
            partitions: place_partitions(&self.logs, &[], count),
        })
    }

    pub fn delete_topic(&self, id: TopicId) -> Result<MetaRecord, TopicError> {
        self.known_topic(id)?;
        Ok(MetaRecord::TopicDeleted { id })
    }

    /// Replaces all overrides of a topic's configs.
    pub fn change_configs(
        &self,
        id: TopicId,
        configs: &[(&str, &str)],
        rules: &TopicRules,
    ) -> Result<MetaRecord, TopicError> {
        self.known_topic(id)?;
        let configs = rules.check_configs(TopicConfig::new(configs.iter().copied())?)?.to_pairs();
        Ok(MetaRecord::TopicConfigsChanged { id, configs })
    }

    /// Changes some of a topic's configs, and leaves the others.
    pub fn alter_configs(
        &self,
        id: TopicId,
        changes: &[ConfigChange],
        rules: &TopicRules,
    ) -> Result<MetaRecord, TopicError> {
        let config = self.known_topic(id)?.config.altered(changes)?;
        let configs = rules.check_configs(config)?.to_pairs();
        Ok(MetaRecord::TopicConfigsChanged { id, configs })
    }

    /// Grows a topic to `count` partitions.
    pub fn add_partitions(
        &self,
        id: TopicId,
        count: i32,
        rules: &TopicRules,
    ) -> Result<MetaRecord, TopicError> {
        let topic = self.known_topic(id)?;
        let current = topic.partitions.len() as u32;
        let wanted = rules.check_partition_count(count)?;
        if wanted <= current {
            return Err(TopicError::PartitionsNotAdded { current, count });
        }
        self.check_room(wanted - current, rules)?;
        let partitions = place_partitions(&self.logs, &topic.partitions, wanted - current);
        Ok(MetaRecord::PartitionsAdded { id, first_index: current, partitions })
    }

    /// The next `count` producer ids, for the shard of `log` to hand out.
    pub fn allocate_producer_ids(&self, log: LogId, count: u32) -> MetaRecord {
        assert!(count > 0);
        MetaRecord::ProducerIdBlock { first: self.next_producer_id, count, log }
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

    /// Whether the broker takes so many partitions more.
    fn check_room(&self, wanted: u32, rules: &TopicRules) -> Result<(), TopicError> {
        let current = self.logs.values().map(|load| u64::from(load.partition_count)).sum();
        let count_max = rules.partition_count_max;
        if current + u64::from(wanted) > u64::from(count_max) {
            return Err(TopicError::TooManyPartitions { wanted, current, count_max });
        }
        Ok(())
    }

    fn known_topic(&self, id: TopicId) -> Result<&Rc<Topic>, TopicError> {
        self.by_id.get(&id).ok_or(TopicError::Unknown)
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

impl TopicRules {
    fn check_partition_count(&self, count: i32) -> Result<u32, TopicError> {
        let count_max = self.partition_count_max;
        let fits = u32::try_from(count).ok().filter(|count| (1..=count_max).contains(count));
        fits.ok_or(TopicError::PartitionCount { count, count_max })
    }

    fn check_configs(&self, config: TopicConfig) -> Result<TopicConfig, TopicError> {
        match config.batch_bytes_max {
            Some(bytes) if bytes > self.batch_bytes_max => Err(TopicError::Config(ConfigError::Invalid {
                name: "max.message.bytes",
                value: bytes.to_string(),
                expected: format!("this broker stores batches of up to {} bytes", self.batch_bytes_max),
            })),
            _ => Ok(config),
        }
    }
}

fn parse_configs(id: TopicId, configs: &[(String, String)]) -> Result<TopicConfig, CatalogError> {
    let pairs = configs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    TopicConfig::new(pairs).map_err(|cause| CatalogError::Config { id, cause })
}

#[cfg(test)]
mod tests {
    use super::super::topic_config::ConfigOp;
    use super::*;
    use proptest::prelude::*;

    const RULES: TopicRules =
        TopicRules { partition_count_default: 4, partition_count_max: 100, batch_bytes_max: 2_000_000 };

    /// Counts up.
    struct Ids(u8);

    impl IdSource for Ids {
        fn next_topic_id(&mut self) -> TopicId {
            self.0 += 1;
            TopicId([self.0; 16])
        }
    }

    fn with_logs(count: u32) -> Catalog {
        let mut catalog = Catalog::default();
        for log in 1..=count {
            catalog.apply(&MetaRecord::LogAdded { log: LogId(log) }).expect("a new log");
        }
        catalog
    }

    fn new_topic(name: &str) -> NewTopic<'_> {
        NewTopic { name, partition_count: 3, replication_factor: 1, configs: &[] }
    }

    fn create(catalog: &mut Catalog, ids: &mut Ids, new: NewTopic<'_>) -> Rc<Topic> {
        let record = catalog.create_topic(new, &RULES, ids).expect("allowed");
        catalog.apply(&record).expect("fits");
        catalog.topic(new.name).expect("was created").clone()
    }

    #[test]
    fn the_life_of_a_topic() {
        let (mut catalog, mut ids) = (with_logs(2), Ids(0));
        let topic = create(&mut catalog, &mut ids, new_topic("b"));
        assert_eq!(topic.partitions, [LogId(1), LogId(2), LogId(1)]);
        assert_eq!((topic.log_of(1), topic.log_of(3), topic.log_of(-1)), (Some(LogId(2)), None, None));
        create(&mut catalog, &mut ids, NewTopic { partition_count: -1, ..new_topic("a") });
        let names: Vec<&str> = catalog.topics().map(|topic| &*topic.name).collect();
        assert_eq!(names, ["a", "b"]);
        let loads: Vec<u32> = catalog.logs().values().map(|load| load.partition_count).collect();
        assert_eq!(loads, [4, 3], "four more, the first where there were fewer");

        let more = catalog.add_partitions(topic.id, 5, &RULES).expect("allowed");
        catalog.apply(&more).expect("fits");
        let grown = catalog.topic("b").expect("is there").clone();
        assert_eq!(grown.partitions[..3], topic.partitions, "partitions stay where they are");
        assert_eq!(grown.partitions.len(), 5);

        let changed = catalog.change_configs(topic.id, &[("retention.ms", "5")], &RULES).expect("allowed");
        catalog.apply(&changed).expect("fits");
        let changed = catalog.topic_by_id(topic.id).expect("is there");
        assert_eq!(changed.config.retention_ms, Some(5));
        assert_eq!(changed.partitions, grown.partitions);
        assert_eq!(catalog.topic("b"), Some(changed), "by name and by id the same");

        catalog.apply(&catalog.delete_topic(topic.id).expect("allowed")).expect("fits");
        assert_eq!((catalog.topic("b"), catalog.topic_by_id(topic.id)), (None, None));
        let again = create(&mut catalog, &mut ids, new_topic("b"));
        assert_ne!(again.id, topic.id, "another topic under the same name");
        assert_eq!(again.config, TopicConfig::default(), "with nothing of its past");
    }

    #[test]
    fn commands_that_are_refused() {
        let (mut catalog, mut ids) = (with_logs(1), Ids(0));
        let taken = create(&mut catalog, &mut ids, new_topic("taken"));
        let too_large = [("max.message.bytes", "2000001")];
        let unknown = [("no.such", "1")];
        let table = [
            (new_topic("taken"), "exists already"),
            (new_topic("a/b"), "'/' is not allowed"),
            (NewTopic { partition_count: 0, ..new_topic("t") }, "1 to 100 partitions, not 0"),
            (NewTopic { partition_count: -2, ..new_topic("t") }, "not -2"),
            (NewTopic { partition_count: 101, ..new_topic("t") }, "not 101"),
            (NewTopic { replication_factor: 3, ..new_topic("t") }, "replication factor 3"),
            (NewTopic { replication_factor: 0, ..new_topic("t") }, "replication factor 0"),
            (NewTopic { configs: &unknown, ..new_topic("t") }, "unknown topic config"),
            (NewTopic { configs: &too_large, ..new_topic("t") }, "up to 2000000 bytes"),
        ];
        for (new, expected) in table {
            let error = catalog.create_topic(new, &RULES, &mut ids).expect_err(expected).to_string();
            assert!(error.contains(expected), "{new:?}: {error}");
        }
        let not_more = catalog.add_partitions(taken.id, 3, &RULES);
        assert_eq!(not_more, Err(TopicError::PartitionsNotAdded { current: 3, count: 3 }));
        assert_eq!(catalog.delete_topic(TopicId([9; 16])), Err(TopicError::Unknown));
        let too_large =
            [ConfigChange { name: "max.message.bytes".to_owned(), op: ConfigOp::Set("2000001".to_owned()) }];
        let error = catalog.alter_configs(taken.id, &too_large, &RULES).expect_err("too large").to_string();
        assert!(error.contains("up to 2000000 bytes"), "{error}");
        assert_eq!(catalog.alter_configs(TopicId([9; 16]), &[], &RULES), Err(TopicError::Unknown));
        assert_eq!(catalog.add_partitions(TopicId([9; 16]), 4, &RULES), Err(TopicError::Unknown));
    }

    #[test]
    fn the_broker_takes_so_many_partitions_in_all() {
        let (mut catalog, mut ids) = (with_logs(2), Ids(0));
        let of = |name, partition_count| NewTopic { partition_count, ..new_topic(name) };
        let first = create(&mut catalog, &mut ids, of("first", 60));
        let full = |wanted| TopicError::TooManyPartitions { wanted, current: 60, count_max: 100 };
        assert_eq!(catalog.create_topic(of("second", 41), &RULES, &mut ids), Err(full(41)));
        assert_eq!(catalog.add_partitions(first.id, 100, &RULES).map(drop), Ok(()));
        let second = create(&mut catalog, &mut ids, of("second", 40));
        assert!(catalog.add_partitions(first.id, 61, &RULES).is_err());
        catalog.apply(&catalog.delete_topic(second.id).expect("allowed")).expect("fits");
        assert_eq!(catalog.add_partitions(first.id, 61, &RULES).map(drop), Ok(()), "there is room again");
    }

    #[test]
    fn names_that_metrics_cannot_tell_apart_are_refused() {
        let (mut catalog, mut ids) = (with_logs(1), Ids(0));
        let topic = create(&mut catalog, &mut ids, new_topic("a.b"));
        let collides = Err(TopicError::Collides { other: "a.b".into() });
        assert_eq!(catalog.create_topic(new_topic("a_b"), &RULES, &mut ids), collides);
        assert_eq!(catalog.create_topic(new_topic("a.b"), &RULES, &mut ids), Err(TopicError::AlreadyExists));
        create(&mut catalog, &mut ids, new_topic("a-b"));
        assert_eq!(catalog, Catalog::restore(&catalog.snapshot()).expect("ours"));
        catalog.apply(&catalog.delete_topic(topic.id).expect("allowed")).expect("fits");
        create(&mut catalog, &mut ids, new_topic("a_b"));
    }

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
