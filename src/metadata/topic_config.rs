//! A topic's configs: what was set of those that it can have, and what follows from it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::config_def::{CONFIGS, ConfigDef, ConfigError, Effect, known_index};
use super::config_kind::ConfigKind;

/// A change of one config of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    pub name: String,
    pub op: ConfigOp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    Set(String),
    /// Back to the default.
    Delete,
    /// To a list, what it does not have yet.
    Append(String),
    /// From a list.
    Subtract(String),
}

/// The configs of a topic: what was overridden, and what follows from that, ready to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Index in [`CONFIGS`] and value, numbers without what says nothing; ascending.
    overrides: Vec<(usize, Box<str>)>,
    /// Records older than this may go; `None` keeps them for ever.
    pub retention_ms: Option<u64>,
    /// Bytes of a partition beyond which its oldest may go; `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// Largest batch, header included; `None` for the broker's limit.
    pub batch_bytes_max: Option<u32>,
    /// The broker's time replaces the producer's.
    pub log_append_time: bool,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
}

/// A config as it stands for a topic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConfigValue<'a> {
    pub def: &'static ConfigDef,
    pub value: &'a str,
    /// Set on the topic, even if to the default's value.
    pub overridden: bool,
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        let mut config = TopicConfig {
            overrides: Vec::new(),
            retention_ms: None,
            retention_bytes: None,
            batch_bytes_max: None,
            log_append_time: false,
            timestamp_before_max_ms: 0,
            timestamp_after_max_ms: 0,
        };
        for def in CONFIGS.iter().filter(|def| def.name != "max.message.bytes") {
            config.set(def.name, def.default);
        }
        config
    }
}

impl TopicConfig {
    /// The defaults with these overrides.
    pub fn new<'a>(
        overrides: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<TopicConfig, ConfigError> {
        TopicConfig::with(overrides, ConfigDef::validate)
    }

    /// The same of what was valid when it was stored. Ranges of what does nothing may have become narrower since,
    /// and that is no reason not to open a log.
    pub fn stored<'a>(
        overrides: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<TopicConfig, ConfigError> {
        TopicConfig::with(overrides, |def, value| match def.effect {
            Effect::None => Ok(()),
            Effect::Works | Effect::Refused(_) => def.validate(value),
        })
    }

    fn with<'a>(
        overrides: impl IntoIterator<Item = (&'a str, &'a str)>,
        check: impl Fn(&'static ConfigDef, &str) -> Result<(), ConfigError>,
    ) -> Result<TopicConfig, ConfigError> {
        let mut config = TopicConfig::default();
        for (name, value) in overrides {
            let index = known_index(name)?;
            let def = &CONFIGS[index];
            let value = value.trim();
            let value = &*def.shortest(value);
            check(def, value)?;
            match config.overrides.binary_search_by_key(&index, |(index, _)| *index) {
                Ok(_) => return Err(ConfigError::Duplicate { name: def.name }),
                Err(at) => config.overrides.insert(at, (index, value.into())),
            }
            config.set(def.name, value);
        }
        Ok(config)
    }

    /// These configs after some changes, one behind the other.
    pub fn altered(&self, changes: &[ConfigChange]) -> Result<TopicConfig, ConfigError> {
        let mut values: BTreeMap<&str, Cow<'_, str>> =
            self.overrides().map(|(name, value)| (name, Cow::Borrowed(value))).collect();
        for ConfigChange { name, op } in changes {
            match op {
                ConfigOp::Set(value) => {
                    values.insert(name, Cow::Borrowed(value));
                }
                // What is not known is not set either: as in Kafka, that is no error.
                ConfigOp::Delete => {
                    values.remove(name.as_str());
                }
                ConfigOp::Append(given) => {
                    let value = change_list(name, &values, |elements| {
                        for element in elements_of(given) {
                            if !elements.contains(&element) {
                                elements.push(element);
                            }
                        }
                    })?;
                    values.insert(name, Cow::Owned(value));
                }
                ConfigOp::Subtract(given) => {
                    let value = change_list(name, &values, |elements| {
                        elements.retain(|element| elements_of(given).all(|gone| gone != *element));
                    })?;
                    values.insert(name, Cow::Owned(value));
                }
            }
        }
        TopicConfig::new(values.iter().map(|(name, value)| (*name, &**value)))
    }

    /// What was set on the topic, by name.
    pub fn overrides(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.overrides.iter().map(|(index, value)| (CONFIGS[*index].name, &**value))
    }

    /// Whether the config of that name was set on the topic.
    pub fn is_overridden(&self, name: &str) -> bool {
        self.overrides().any(|(overridden, _)| overridden == name)
    }

    /// [`overrides`](Self::overrides) as the metadata log keeps them.
    pub fn to_pairs(&self) -> Vec<(String, String)> {
        self.overrides().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Every config with its value, by name.
    pub fn describe(&self) -> impl Iterator<Item = ConfigValue<'_>> {
        CONFIGS.iter().enumerate().map(|(index, def)| {
            match self.overrides.binary_search_by_key(&index, |(index, _)| *index) {
                Ok(at) => ConfigValue { def, value: &self.overrides[at].1, overridden: true },
                Err(_) => ConfigValue { def, value: def.default, overridden: false },
            }
        })
    }

    /// Takes over a validated value, if it is one that works.
    fn set(&mut self, name: &str, value: &str) {
        let number = || value.parse::<i64>().expect("validated by its kind");
        // -1 means "no limit".
        let limit = || u64::try_from(number()).ok();
        match name {
            "retention.ms" => self.retention_ms = limit(),
            "retention.bytes" => self.retention_bytes = limit(),
            "max.message.bytes" => self.batch_bytes_max = Some(number() as u32),
            "message.timestamp.type" => self.log_append_time = value == "LogAppendTime",
            "message.timestamp.before.max.ms" => self.timestamp_before_max_ms = number(),
            "message.timestamp.after.max.ms" => self.timestamp_after_max_ms = number(),
            _ => {}
        }
    }
}

/// The value of a list, or else its default, with other elements.
fn change_list<'v>(
    name: &str,
    values: &'v BTreeMap<&str, Cow<'_, str>>,
    change: impl FnOnce(&mut Vec<&'v str>),
) -> Result<String, ConfigError> {
    let def = &CONFIGS[known_index(name)?];
    if def.kind != ConfigKind::List {
        return Err(ConfigError::NotAList { name: def.name });
    }
    let mut elements = elements_of(values.get(name).map_or(def.default, |value| &**value)).collect();
    change(&mut elements);
    Ok(elements.join(","))
}

fn elements_of(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults() {
        let config = TopicConfig::default();
        assert_eq!(config.retention_ms, Some(7 * 24 * 3600 * 1000));
        assert_eq!(config.retention_bytes, None);
        assert_eq!(config.batch_bytes_max, None);
        assert!(!config.log_append_time);
        assert_eq!(config.timestamp_before_max_ms, i64::MAX);
        assert_eq!(config.timestamp_after_max_ms, 3_600_000);
        assert_eq!(config.overrides().count(), 0);
    }

    #[test]
    fn overrides_are_kept_and_used() {
        let given = [
            ("retention.ms", " -1"),
            ("segment.bytes", "1048576"),
            ("message.timestamp.type", "LogAppendTime"),
            ("max.message.bytes", "5000"),
            ("retention.bytes", "77"),
        ];
        let config = TopicConfig::new(given).expect("valid");
        assert_eq!((config.retention_ms, config.retention_bytes), (None, Some(77)));
        assert_eq!(config.batch_bytes_max, Some(5000));
        assert!(config.log_append_time);
        let names: Vec<&str> = config.overrides().map(|(name, _)| name).collect();
        assert!(names.is_sorted() && names.len() == given.len());

        let pairs = config.to_pairs();
        let again = TopicConfig::new(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        assert_eq!(again.expect("valid"), config);

        let described: Vec<_> = config.describe().collect();
        assert_eq!(described.len(), CONFIGS.len());
        let value = |name| described.iter().find(|value| value.def.name == name).expect("known");
        assert_eq!((value("retention.ms").value, value("retention.ms").overridden), ("-1", true));
        assert_eq!((value("flush.messages").value, value("flush.messages").overridden), ("1", false));
    }

    #[test]
    fn a_number_is_kept_as_short_as_it_can_be() {
        let zeros = "0".repeat(30_000);
        let table = [
            ("retention.ms", format!("{zeros}5000"), "5000"),
            ("retention.ms", "+7".to_owned(), "7"),
            ("retention.bytes", "-01".to_owned(), "-1"),
            ("max.message.bytes", "007".to_owned(), "7"),
            ("min.cleanable.dirty.ratio", format!("0.5{zeros}"), "0.5"),
            ("min.cleanable.dirty.ratio", "1e-9".to_owned(), "1e-9"),
            // Only the default is accepted, but in any form.
            ("flush.messages", format!("{zeros}1"), "1"),
        ];
        for (name, given, kept) in table {
            let config = TopicConfig::new([(name, given.as_str())]).expect(name);
            assert_eq!(config.to_pairs(), [(name.to_owned(), kept.to_owned())]);
        }
    }

    #[test]
    fn alterations_come_one_behind_the_other() {
        let set = |value: &str| ConfigOp::Set(value.to_owned());
        let append = |value: &str| ConfigOp::Append(value.to_owned());
        let subtract = |value: &str| ConfigOp::Subtract(value.to_owned());
        let throttled = "leader.replication.throttled.replicas";
        let table = [
            (vec![], "retention.bytes=7 retention.ms=5"),
            (vec![("retention.ms", set(" 6 "))], "retention.bytes=7 retention.ms=6"),
            (vec![("retention.ms", ConfigOp::Delete)], "retention.bytes=7"),
            (vec![("retention.ns", ConfigOp::Delete)], "retention.bytes=7 retention.ms=5"),
            (vec![("retention.ms", set("1")), ("retention.ms", ConfigOp::Delete)], "retention.bytes=7"),
            (
                vec![
                    (throttled, append("0:1, 0:2")),
                    (throttled, append("0:2,0:3")),
                    (throttled, subtract("0:1,9")),
                ],
                "leader.replication.throttled.replicas=0:2,0:3 retention.bytes=7 retention.ms=5",
            ),
            (
                vec![("cleanup.policy", append("delete"))],
                "cleanup.policy=delete retention.bytes=7 retention.ms=5",
            ),
            (vec![("retention.ms", set("-2"))], "\"-2\" is no value for retention.ms"),
            (vec![("retention.ms", append("1"))], "retention.ms is no list"),
            (vec![("retention.ms", subtract("1"))], "retention.ms is no list"),
            (vec![("retention.ns", set("1"))], "unknown topic config \"retention.ns\", did you mean"),
            (vec![("no.such", append("1"))], "unknown topic config"),
            (vec![("cleanup.policy", append("compact"))], "cleanup.policy=delete,compact is not supported"),
            (vec![("cleanup.policy", subtract("delete"))], "cleanup.policy= is not supported"),
        ];
        let before = TopicConfig::new([("retention.ms", "5"), ("retention.bytes", "7")]).expect("valid");
        for (changes, expected) in table {
            let changes: Vec<_> =
                changes.into_iter().map(|(name, op)| ConfigChange { name: name.to_owned(), op }).collect();
            match before.altered(&changes) {
                Ok(after) => {
                    let pairs: Vec<_> =
                        after.overrides().map(|(name, value)| format!("{name}={value}")).collect();
                    assert_eq!(pairs.join(" "), expected, "{changes:?}");
                }
                Err(error) => assert!(error.to_string().contains(expected), "{changes:?}: {error}"),
            }
        }
    }

    #[test]
    fn what_is_refused_and_why() {
        let table = [
            ("retention.ns", "5", "unknown topic config \"retention.ns\", did you mean \"retention.ms\"?"),
            ("ration.bytes.of.mine", "5", "unknown topic config \"ration.bytes.of.mine\""),
            ("retention.ms", "-2", "\"-2\" is no value for retention.ms: a number from -1 to"),
            ("retention.ms", "soon", "\"soon\" is no value for retention.ms"),
            ("max.message.bytes", "2147483648", "to 2147483647"),
            ("preallocate", "TRUE", "true or false"),
            ("compression.gzip.level", "0", "a number from 1 to 9 or -1"),
            ("compression.lz4.level", "18", "a number from 1 to 17"),
            ("compression.zstd.level", "-131073", "a number from -131072 to 22"),
            ("min.cleanable.dirty.ratio", "NaN", "a number from 0 to 1"),
            ("message.timestamp.type", "createtime", "CreateTime or LogAppendTime"),
            ("cleanup.policy", "compact", "cleanup.policy=compact is not supported: compaction"),
            ("cleanup.policy", "compact,delete", "is not supported"),
            ("compression.type", "zstd", "compression.type=zstd is not supported: batches are stored"),
            ("flush.messages", "9223372036854775807", "every acknowledged record is on stable storage"),
            ("flush.ms", "1000", "every acknowledged record is on stable storage"),
            ("min.insync.replicas", "2", "one replica"),
            ("remote.storage.enable", "true", "no remote storage"),
        ];
        for (name, value, expected) in table {
            let error = TopicConfig::new([(name, value)]).expect_err(name).to_string();
            assert!(error.contains(expected), "{name}={value}: {error}");
        }
        let long = "x,".repeat(20_000);
        let error = TopicConfig::new([("leader.replication.throttled.replicas", long.as_str())]);
        assert!(matches!(error, Err(ConfigError::Invalid { .. })));
        let twice = TopicConfig::new([("flush.ms", "0"), ("flush.ms", "0")]);
        assert_eq!(twice, Err(ConfigError::Duplicate { name: "flush.ms" }));
    }

    #[test]
    fn a_log_opens_with_what_does_nothing_and_would_be_refused_by_now() {
        let level = ("compression.gzip.level", "77");
        let config = TopicConfig::stored([level, ("retention.ms", "5")]).expect("opens");
        assert_eq!((config.overrides().next(), config.retention_ms), (Some(level), Some(5)));
        let change = |name: &str, op| config.altered(&[ConfigChange { name: name.to_owned(), op }]);
        let error = change("retention.ms", ConfigOp::Delete).expect_err("is judged again").to_string();
        assert!(error.contains("compression.gzip.level"), "{error}");
        change("compression.gzip.level", ConfigOp::Delete).expect("is well again");
        for damaged in [("retention.ms", "soon"), ("flush.ms", "5"), ("no.such", "1")] {
            assert!(TopicConfig::stored([damaged]).is_err(), "{damaged:?}");
        }
    }
}
