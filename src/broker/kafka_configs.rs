//! The configuration under the names that Kafka's tools know.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Limit, Origin, Values};
use crate::kafka::handlers::describe_topic_partitions::PARTITIONS_MAX;
use crate::kafka::handlers::offset_commit::METADATA_BYTES_MAX;
use crate::kafka::protocol::messages::describe_configs::config_type::{BOOLEAN, INT, LIST, LONG, STRING};
use crate::kafka::settings::BrokerConfig;
use crate::shard::{PRODUCER_EXPIRY_MS, RETENTION_EVERY};

/// The default of `log.retention`.
const RETENTION_HOURS: &str = "168";

/// What of Kafka's broker settings has a meaning here. Those that say which broker this is are added by
/// who knows it, and those that do nothing are in [`broker_configs`](crate::kafka::broker_configs). By name.
pub fn describe(config: &Config) -> Arc<[BrokerConfig]> {
    let with_default = rows(config).into_iter().zip(rows(&Values::default()));
    let configs = with_default.map(|(row, default)| {
        let is_set = row.key.is_some_and(|key| !matches!(config.origin(key), Origin::Default));
        // Until it is set, its deputy says it.
        let speaks = row.deputy.is_none();
        BrokerConfig {
            name: row.name,
            kind: row.kind,
            value: (is_set || speaks).then_some(row.value),
            default: speaks.then_some(default.value),
            deputy: row.deputy,
            is_set,
            doc: row.doc,
        }
    });
    configs.collect()
}

struct Row {
    name: &'static str,
    /// Our name; `None` for what cannot be set.
    key: Option<&'static str>,
    kind: i8,
    value: String,
    /// As in [`BrokerConfig`].
    deputy: Option<(&'static str, &'static str)>,
    doc: &'static str,
}

#[rustfmt::skip]
fn rows(values: &Values) -> Vec<Row> {
    let Values { server, kafka, log, .. } = values;
    let row = |name, key, kind, value: String, doc| Row { name, key: Some(key), kind, value, deputy: None, doc };
    let fixed = |name, kind, value: &str, doc| Row { name, key: None, kind, value: value.to_owned(), deputy: None, doc };
    let listeners: Vec<String> = kafka.listen.iter().map(|address| format!("PLAINTEXT://{address}")).collect();
    vec![
        row("auto.create.topics.enable", "kafka.auto_create_topics", BOOLEAN,
            kafka.auto_create_topics.to_string(), "Whether a topic that a client asks for comes into being."),
        fixed("compression.type", STRING, "producer", "Batches are stored as producers compressed them."),
        row("connections.max.idle.ms", "kafka.connection_idle", LONG,
            if kafka.connection_idle.is_zero() { "-1".to_owned() } else { millis(kafka.connection_idle) },
            "A connection without requests is closed after this time; -1 for never."),
        fixed("default.replication.factor", INT, "1", "There is one broker."),
        fixed("delete.topic.enable", BOOLEAN, "true", "Topics can be deleted."),
        row("fetch.max.bytes", "kafka.fetch_bytes_max", INT,
            kafka.fetch_bytes_max.0.to_string(), "Most bytes of records in one fetch response."),
        fixed("group.coordinator.rebalance.protocols", LIST, "classic", "The protocols that members of groups may speak."),
        row("group.initial.rebalance.delay.ms", "kafka.group_initial_delay", INT,
            millis(kafka.group_initial_delay), "How long the first rebalance of a group waits for more members."),
        row("group.max.session.timeout.ms", "kafka.group_session_max", INT,
            millis(kafka.group_session_max), "The longest session timeout of a member."),
        row("group.max.size", "kafka.group_members_max", INT,
            kafka.group_members_max.to_string(), "Most members of one group."),
        row("group.min.session.timeout.ms", "kafka.group_session_min", INT,
            millis(kafka.group_session_min), "The shortest session timeout of a member."),
        row("listeners", "kafka.listen", STRING, listeners.join(","), "Where this broker listens."),
        fixed("log.cleanup.policy", LIST, "delete", "Old records go; compaction does not exist yet."),
        row("log.dir", "server.data_dir", STRING,
            server.data_dir.display().to_string(), "The directory of all data."),
        row("log.dirs", "server.data_dir", STRING,
            server.data_dir.display().to_string(), "The directory of all data."),
        fixed("log.flush.interval.messages", LONG, "1", "An acknowledged record is on stable storage."),
        fixed("log.flush.interval.ms", LONG, "0", "An acknowledged record is on stable storage."),
        fixed("log.message.timestamp.after.max.ms", LONG, "3600000",
            "How far in the future a producer's timestamp may lie. A topic may set its own."),
        fixed("log.message.timestamp.before.max.ms", LONG, &i64::MAX.to_string(),
            "How far in the past a producer's timestamp may lie. A topic may set its own."),
        fixed("log.message.timestamp.type", STRING, "CreateTime", "Whose time a record carries. A topic may set its own."),
        row("log.retention.bytes", "log.retention_bytes", LONG,
            limit(&log.retention_bytes, |bytes| bytes.0.to_string()),
            "A partition's oldest records beyond this size may be deleted; -1 for no limit. A topic may set its own."),
        fixed("log.retention.check.interval.ms", LONG, &millis(RETENTION_EVERY), "How often records are looked for that may go."),
        fixed("log.retention.hours", INT, RETENTION_HOURS,
            "How long records stay if log.retention.ms is not set. A topic may set its own."),
        Row { deputy: Some(("log.retention.hours", RETENTION_HOURS)),
            ..row("log.retention.ms", "log.retention", LONG, limit(&log.retention, |age| millis(*age)),
                "Records older than this may be deleted; -1 for never. A topic may set its own.") },
        // Segments may be larger than Kafka's.
        row("log.segment.bytes", "log.segment_bytes", if log.segment_bytes.0 > i32::MAX as u64 { LONG } else { INT },
            log.segment_bytes.0.to_string(), "Size of a segment, which many partitions share."),
        fixed("max.connection.creation.rate", INT, &i32::MAX.to_string(), "Nothing limits how fast clients connect."),
        row("max.connections", "kafka.connections_max", INT,
            kafka.connections_max.to_string(), "Most connections at a time."),
        fixed("max.connections.per.ip", INT, &i32::MAX.to_string(), "One address may have all of max.connections."),
        fixed("max.connections.per.ip.overrides", STRING, "", "One address may have all of max.connections."),
        fixed("max.request.partition.size.limit", INT, &PARTITIONS_MAX.to_string(),
            "Most partitions in one answer to DescribeTopicPartitions."),
        row("message.max.bytes", "kafka.message_bytes_max", INT,
            kafka.message_bytes_max.0.to_string(), "Largest record batch. A topic may set less."),
        fixed("min.insync.replicas", INT, "1", "There is one replica of each partition."),
        row("num.partitions", "kafka.num_partitions", INT,
            kafka.num_partitions.to_string(), "Partitions of a topic whose creator does not say."),
        fixed("offset.metadata.max.bytes", INT, &METADATA_BYTES_MAX.to_string(),
            "Longest text that a client can leave with a committed offset."),
        row("offsets.retention.minutes", "kafka.offsets_retention", INT,
            (kafka.offsets_retention.as_secs() / 60).to_string(),
            "How long a group without members keeps its committed offsets."),
        fixed("producer.id.expiration.ms", INT, &PRODUCER_EXPIRY_MS.to_string(),
            "A producer that was silent for so long is forgotten."),
        row("socket.request.max.bytes", "kafka.request_bytes_max", INT,
            kafka.request_bytes_max.0.to_string(), "Largest request."),
        fixed("unclean.leader.election.enable", BOOLEAN, "false", "There is one replica of each partition."),
    ]
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn limit<T>(limit: &Limit<T>, show: impl Fn(&T) -> String) -> String {
    match limit {
        Limit::At(value) => show(value),
        Limit::Unlimited => "-1".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Assignment, ByteSize, Sources, find_key};
    use crate::kafka::broker_configs;
    use crate::kafka::handlers::config_value::type_of;
    use crate::metadata::config_def::{CONFIGS, ConfigDef};

    #[test]
    fn names_and_keys_are_known_ones() {
        let rows = rows(&Values::default());
        assert!(rows.is_sorted_by(|a, b| a.name < b.name));
        for Row { name, key, doc, value, .. } in rows {
            assert!(key.is_none_or(|key| find_key(key).is_some()), "{name}");
            assert!(doc.ends_with('.') && (!value.is_empty() || name.ends_with(".overrides")), "{name}");
        }
    }

    /// Each of Kafka's is either among these, says which broker this is, or does nothing here.
    #[test]
    fn nothing_that_has_a_meaning_is_called_idle() {
        let identity = ["advertised.listeners", "broker.id", "node.id"];
        for name in rows(&Values::default()).iter().map(|row| row.name).chain(identity) {
            assert!(broker_configs::find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn topics_have_the_types_and_defaults_of_the_brokers_configs() {
        let rows = rows(&Values::default());
        for def in &CONFIGS {
            let Some(name) = def.broker else { continue };
            let row = rows.iter().find(|row| row.name == name);
            let idle = broker_configs::find(name);
            let (kind, default) = match (row, idle) {
                (Some(row), None) => (row.kind, Some(row.value.as_str()).filter(|_| row.deputy.is_none())),
                (None, Some(idle)) => (type_of(idle.kind), idle.default),
                _ => panic!("{}: is {name} in one of the tables?", def.name),
            };
            assert_eq!(kind, type_of(def.kind), "{}", def.name);
            // A topic cannot choose how large the shared segments are, so that its own default is Kafka's.
            assert!(
                default.is_none_or(|default| default == def.default || name == "log.segment.bytes"),
                "{}",
                def.name
            );
        }
    }

    #[test]
    fn the_default_age_in_hours() {
        let age = Duration::from_secs(3600 * RETENTION_HOURS.parse::<u64>().expect("a number"));
        assert_eq!(Values::default().log.retention, Limit::At(age));
        assert_eq!(ConfigDef::find("retention.ms").map(|def| def.default), Some(millis(age).as_str()));
    }

    #[test]
    fn a_type_that_the_value_fits() {
        let mut values = Values::default();
        for (bytes, kind) in [(i32::MAX as u64, INT), (1 << 31, LONG)] {
            values.log.segment_bytes = ByteSize(bytes);
            let row = rows(&values).into_iter().find(|row| row.name == "log.segment.bytes").expect("listed");
            assert_eq!(row.kind, kind, "{bytes}");
        }
    }

    #[test]
    fn what_is_set_and_what_is_not() {
        let flag = |name: &str, text: &str| Assignment {
            name: name.to_owned(),
            text: text.to_owned(),
            origin: Origin::Flag { flag: "--set".to_owned() },
        };
        let flags = vec![
            flag("log.retention", "unlimited"),
            flag("log.retention_bytes", "1KiB"),
            flag("kafka.num_partitions", "1"),
        ];
        let config = Config::load(&Sources { flags, ..Sources::default() }).expect("valid");
        let described = describe(&config);
        let find = |name| {
            let config = described.iter().find(|config| config.name == name).expect("listed");
            (config.value.as_deref(), config.default.as_deref(), config.is_set)
        };
        assert_eq!(find("log.retention.ms"), (Some("-1"), None, true));
        assert_eq!(find("log.retention.bytes"), (Some("1024"), Some("-1"), true));
        assert_eq!(find("num.partitions"), (Some("1"), Some("1"), true), "set to its default is set");
        assert_eq!(find("message.max.bytes"), (Some("1048588"), Some("1048588"), false));
        assert_eq!(find("min.insync.replicas"), (Some("1"), Some("1"), false));
    }
}
