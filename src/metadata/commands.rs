//! Commands: what somebody wants of the catalog, judged and answered with the record to append.
//!
//! They change nothing: a record does, once it is durable and [applied](Catalog::apply).

use std::rc::Rc;

use thiserror::Error;

use super::catalog::Catalog;
use super::config_def::ConfigError;
use super::placement::place_partitions;
use super::record::{MetaRecord, PARTITION_BYTES};
use super::topic::{NameError, Topic, validate_name};
use super::topic_config::{ConfigChange, TopicConfig};
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
    /// Largest record that the metadata log takes: it names the log of each new partition.
    pub record_bytes_max: usize,
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
    #[error(
        "{wanted} partitions do not fit into one record of the metadata log: at most {count_max} are made at a \
         time; add the others to the topic afterwards"
    )]
    TooManyAtOnce { wanted: u32, count_max: usize },
    #[error("replication factor {factor} is not possible, there is one broker")]
    ReplicationFactor { factor: i16 },
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Catalog {
    /// A topic with a new id, spread over the data logs. There must be one.
    pub fn create_topic(
        &self,
        new: NewTopic<'_>,
        rules: &TopicRules,
        ids: &mut dyn IdSource,
    ) -> Result<MetaRecord, TopicError> {
        validate_name(new.name)?;
        if self.topic(new.name).is_some() {
            return Err(TopicError::AlreadyExists);
        }
        if let Some(other) = self.colliding_name(new.name) {
            return Err(TopicError::Collides { other: other.clone() });
        }
        let factor = new.replication_factor;
        if factor == 0 || factor < -1 {
            return Err(TopicError::ReplicationFactor { factor });
        }
        let count = match new.partition_count {
            -1 => rules.partition_count_default,
            count => rules.check_partition_count(count)?,
        };
        // More brokers than there are is the smaller mistake, as in Kafka.
        if factor > 1 {
            return Err(TopicError::ReplicationFactor { factor });
        }
        self.check_room(count, rules)?;
        let config = rules.check_configs(TopicConfig::new(new.configs.iter().copied())?)?;
        let record = |id, partitions| {
            let (name, configs) = (new.name.to_owned(), config.to_pairs());
            MetaRecord::TopicCreated { id, name, configs, partitions }
        };
        rules.check_record(&record(TopicId([0; 16]), Vec::new()), count)?;
        Ok(record(ids.next_topic_id(), place_partitions(self.logs(), &[], count)))
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
        let added = |partitions| MetaRecord::PartitionsAdded { id, first_index: current, partitions };
        rules.check_record(&added(Vec::new()), wanted - current)?;
        Ok(added(place_partitions(self.logs(), &topic.partitions, wanted - current)))
    }

    /// The next `count` producer ids, for the shard of `log` to hand out.
    pub fn allocate_producer_ids(&self, log: LogId, count: u32) -> MetaRecord {
        assert!(count > 0);
        MetaRecord::ProducerIdBlock { first: self.next_producer_id(), count, log }
    }

    /// Whether the broker takes so many partitions more.
    fn check_room(&self, wanted: u32, rules: &TopicRules) -> Result<(), TopicError> {
        let current = self.logs().values().map(|load| u64::from(load.partition_count)).sum();
        let count_max = rules.partition_count_max;
        if current + u64::from(wanted) > u64::from(count_max) {
            return Err(TopicError::TooManyPartitions { wanted, current, count_max });
        }
        Ok(())
    }

    fn known_topic(&self, id: TopicId) -> Result<&Rc<Topic>, TopicError> {
        self.topic_by_id(id).ok_or(TopicError::Unknown)
    }
}

impl TopicRules {
    fn check_partition_count(&self, count: i32) -> Result<u32, TopicError> {
        let count_max = self.partition_count_max;
        let fits = u32::try_from(count).ok().filter(|count| (1..=count_max).contains(count));
        fits.ok_or(TopicError::PartitionCount { count, count_max })
    }

    /// Whether the record still fits the metadata log when it has so many partitions.
    fn check_record(&self, without: &MetaRecord, wanted: u32) -> Result<(), TopicError> {
        let mut bytes = Vec::new();
        without.encode(&mut bytes);
        let count_max = self.record_bytes_max.saturating_sub(bytes.len()) / PARTITION_BYTES;
        if wanted as usize > count_max {
            return Err(TopicError::TooManyAtOnce { wanted, count_max });
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::super::testing::{Ids, RULES, create, new_topic, with_logs};
    use super::super::topic_config::ConfigOp;
    use super::*;

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
            (
                NewTopic { replication_factor: 2, partition_count: 0, ..new_topic("t") },
                "1 to 100 partitions, not 0",
            ),
            (
                NewTopic { replication_factor: -2, partition_count: 0, ..new_topic("t") },
                "replication factor -2",
            ),
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
    fn so_many_partitions_are_made_at_a_time_as_fit_into_a_record() {
        let (mut catalog, mut ids) = (with_logs(2), Ids(0));
        let rules = TopicRules { record_bytes_max: 100, ..RULES };
        let of = |partition_count| NewTopic { partition_count, ..new_topic("t") };
        let Err(TopicError::TooManyAtOnce { wanted: 90, count_max }) =
            catalog.create_topic(of(90), &rules, &mut ids)
        else {
            panic!("too many at once")
        };
        assert!(catalog.create_topic(of(count_max as i32 + 1), &rules, &mut ids).is_err());
        let created = catalog.create_topic(of(count_max as i32), &rules, &mut ids).expect("just fits");
        catalog.apply(&created).expect("fits");
        let id = catalog.topic("t").expect("is there").id;
        let mut bytes = Vec::new();
        created.encode(&mut bytes);
        assert!((97..=100).contains(&bytes.len()), "{} bytes", bytes.len());

        // The others are added, as the answer says.
        let refused = catalog.add_partitions(id, 90, &rules);
        let Err(TopicError::TooManyAtOnce { count_max: more, .. }) = refused else { panic!("{refused:?}") };
        let mut count = count_max;
        while count < 90 {
            count = (count + more).min(90);
            let added = catalog.add_partitions(id, count as i32, &rules).expect("few at a time");
            catalog.apply(&added).expect("fits");
        }
        assert_eq!(catalog.topic("t").expect("is there").partitions.len(), 90);
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
}
