//! The configs that a topic can have, under Kafka's names.
//!
//! Kafka's tools list, copy and alter every config that Apache Kafka has, so all are known here. Of
//! each one [`CONFIGS`] says what it does *here*: some work, some have nothing to act on in a shared
//! log and are kept without effect, and where ignoring a value would break a promise that the user
//! asked for, that value is refused. A config that is not in the table is an error.

use std::borrow::Cow;

use thiserror::Error;

use super::config_kind::{ConfigKind, GZIP_LEVEL, LZ4_LEVEL, ZSTD_LEVEL};

/// What a config does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Works,
    /// Kept and reported, but there is nothing here that it could change.
    None,
    /// Only the default is accepted, for this reason.
    Refused(&'static str),
}

/// One config that a topic can have.
#[derive(Debug, PartialEq)]
pub struct ConfigDef {
    pub name: &'static str,
    /// What Kafka calls the broker's config that holds for topics which say nothing; `None` where there is none.
    pub broker: Option<&'static str>,
    pub kind: ConfigKind,
    pub default: &'static str,
    pub effect: Effect,
    pub doc: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error("unknown topic config {name:?}{}", did_you_mean(*.nearest))]
    Unknown { name: String, nearest: Option<&'static str> },
    #[error("{value:?} is no value for {name}: {expected}")]
    Invalid { name: &'static str, value: String, expected: String },
    #[error("{name}={value} is not supported: {reason}")]
    Refused { name: &'static str, value: String, reason: &'static str },
    #[error("{name} is given twice")]
    Duplicate { name: &'static str },
    #[error("{name} is no list: nothing can be appended to it or subtracted from it")]
    NotAList { name: &'static str },
}

const NO_COMPACTION: &str = "compaction does not exist yet, cleanup.policy can only be delete";
const NO_RECOMPRESSION: &str = "batches are stored as producers compressed them";
const ALWAYS_SYNCED: &str = "every acknowledged record is on stable storage, there is no weaker mode";
const ONE_REPLICA: &str = "there is one replica of each partition";
const NO_TIERING: &str = "there is no remote storage";

/// What tools are told of a config that does nothing here, and why it does not.
macro_rules! no_effect {
    ($($why:literal)?) => {
        concat!("Has no effect here.", $(" ", $why)?)
    };
}

pub(crate) use no_effect;

/// So it begins.
pub const NO_EFFECT: &str = no_effect!();

/// Every topic config of Apache Kafka 4, by name. Defaults are Kafka's, but where ours is stricter,
/// and hold where the broker's config has no value.
pub static CONFIGS: [ConfigDef; 33] = {
    use ConfigKind::{Boolean, Choice, Int, List, Long, Ratio};
    const fn def(
        name: &'static str,
        broker: Option<&'static str>,
        kind: ConfigKind,
        default: &'static str,
        effect: Effect,
        doc: &'static str,
    ) -> ConfigDef {
        ConfigDef { name, broker, kind, default, effect, doc }
    }
    // What is declared to be idle says so to whoever asks what it does.
    macro_rules! idle {
        ($name:literal, $broker:expr, $kind:expr, $default:literal, $why:literal) => {
            def($name, $broker, $kind, $default, Effect::None, no_effect!($why))
        };
    }
    #[rustfmt::skip]
    let configs = [
        def("cleanup.policy", Some("log.cleanup.policy"), List, "delete", Effect::Refused(NO_COMPACTION),
            "How old records go."),
        idle!("compression.gzip.level", Some("compression.gzip.level"), GZIP_LEVEL, "-1",
            "Level of recompression with gzip."),
        idle!("compression.lz4.level", Some("compression.lz4.level"), LZ4_LEVEL, "9",
            "Level of recompression with lz4."),
        def("compression.type", Some("compression.type"), Choice(&["producer"]), "producer",
            Effect::Refused(NO_RECOMPRESSION), "The codec of stored batches."),
        idle!("compression.zstd.level", Some("compression.zstd.level"), ZSTD_LEVEL, "3",
            "Level of recompression with zstd."),
        idle!("delete.retention.ms", Some("log.cleaner.delete.retention.ms"), Long { min: 0 }, "86400000",
            "How long compaction keeps deletions."),
        idle!("file.delete.delay.ms", Some("log.segment.delete.delay.ms"), Long { min: 0 }, "60000",
            "Space is recycled, not deleted."),
        def("flush.messages", Some("log.flush.interval.messages"), Long { min: 1 }, "1",
            Effect::Refused(ALWAYS_SYNCED), "Records that may be acknowledged before a sync."),
        def("flush.ms", Some("log.flush.interval.ms"), Long { min: 0 }, "0", Effect::Refused(ALWAYS_SYNCED),
            "How long a record may stay without a sync."),
        idle!("follower.replication.throttled.replicas", None, List, "", "There are no followers."),
        idle!("index.interval.bytes", Some("log.index.interval.bytes"), Int { min: 0 }, "4096",
            "Every batch is indexed."),
        idle!("leader.replication.throttled.replicas", None, List, "", "There are no followers."),
        idle!("local.retention.bytes", Some("log.local.retention.bytes"), Long { min: -2 }, "-2",
            "All storage is local."),
        idle!("local.retention.ms", Some("log.local.retention.ms"), Long { min: -2 }, "-2",
            "All storage is local."),
        idle!("max.compaction.lag.ms", Some("log.cleaner.max.compaction.lag.ms"), Long { min: 1 },
            "9223372036854775807", "How long a record may stay uncompacted."),
        def("max.message.bytes", Some("message.max.bytes"), Int { min: 0 }, "1048588", Effect::Works,
            "Largest record batch, compressed as it is sent, header included."),
        def("message.timestamp.after.max.ms", Some("log.message.timestamp.after.max.ms"), Long { min: 0 }, "3600000",
            Effect::Works, "How far in the future a producer's timestamp may lie."),
        def("message.timestamp.before.max.ms", Some("log.message.timestamp.before.max.ms"), Long { min: 0 },
            "9223372036854775807", Effect::Works, "How far in the past a producer's timestamp may lie."),
        def("message.timestamp.type", Some("log.message.timestamp.type"), Choice(&["CreateTime", "LogAppendTime"]),
            "CreateTime", Effect::Works, "Whose time a record carries: the producer's or the broker's."),
        idle!("min.cleanable.dirty.ratio", Some("log.cleaner.min.cleanable.ratio"), Ratio, "0.5",
            "When compaction starts."),
        idle!("min.compaction.lag.ms", Some("log.cleaner.min.compaction.lag.ms"), Long { min: 0 }, "0",
            "How long a record stays uncompacted."),
        def("min.insync.replicas", Some("min.insync.replicas"), Int { min: 1 }, "1", Effect::Refused(ONE_REPLICA),
            "Replicas that acks=all waits for."),
        idle!("preallocate", Some("log.preallocate"), Boolean, "false",
            "The log is always written before it is used."),
        idle!("remote.log.copy.disable", None, Boolean, "false", "There is no remote storage."),
        idle!("remote.log.delete.on.disable", None, Boolean, "false", "There is no remote storage."),
        def("remote.storage.enable", None, Boolean, "false", Effect::Refused(NO_TIERING),
            "Whether old segments move to remote storage."),
        def("retention.bytes", Some("log.retention.bytes"), Long { min: -1 }, "-1", Effect::Works,
            "Bytes of a partition beyond which its oldest batches may go; -1 for no limit."),
        def("retention.ms", Some("log.retention.ms"), Long { min: -1 }, "604800000", Effect::Works,
            "How long records stay, by the earlier of timestamp and append; -1 for ever."),
        idle!("segment.bytes", Some("log.segment.bytes"), Int { min: 14 }, "1073741824",
            "Partitions share the log's segments."),
        idle!("segment.index.bytes", Some("log.index.size.max.bytes"), Int { min: 4 }, "10485760",
            "Partitions have no index files."),
        idle!("segment.jitter.ms", Some("log.roll.jitter.ms"), Long { min: 0 }, "0",
            "Partitions share the log's segments."),
        idle!("segment.ms", Some("log.roll.ms"), Long { min: 1 }, "604800000",
            "Partitions share the log's segments."),
        idle!("unclean.leader.election.enable", Some("unclean.leader.election.enable"), Boolean, "false",
            "There is one replica."),
    ];
    configs
};

impl ConfigDef {
    /// The config with this name.
    pub fn find(name: &str) -> Option<&'static ConfigDef> {
        find_index(name).map(|index| &CONFIGS[index])
    }

    /// Whether `value` may be set.
    pub fn validate(&self, value: &str) -> Result<(), ConfigError> {
        // Another of Kafka's codecs is a sound value that is refused below, for a reason.
        let is_judged_below = matches!((self.kind, self.effect), (ConfigKind::Choice(_), Effect::Refused(_)));
        if !is_judged_below && let Err(expected) = self.kind.check(value) {
            return Err(ConfigError::Invalid { name: self.name, value: value.to_owned(), expected });
        }
        match self.effect {
            Effect::Refused(reason) if value != self.default => {
                Err(ConfigError::Refused { name: self.name, value: value.to_owned(), reason })
            }
            _ => Ok(()),
        }
    }

    /// A value as it is kept, and one that is not valid as it is: every shard has it, so zeros before a number or
    /// behind it must not grow it.
    pub fn shortest<'v>(&self, value: &'v str) -> Cow<'v, str> {
        match self.kind {
            ConfigKind::Short { .. }
            | ConfigKind::Int { .. }
            | ConfigKind::IntIn(_)
            | ConfigKind::Long { .. } => {
                value.parse::<i64>().map_or(value.into(), |number| number.to_string().into())
            }
            ConfigKind::Double | ConfigKind::Ratio => {
                match value.parse::<f64>().map(|number| number.to_string()) {
                    Ok(short) if short.len() < value.len() => short.into(),
                    _ => value.into(),
                }
            }
            ConfigKind::Boolean
            | ConfigKind::Choice(_)
            | ConfigKind::Text
            | ConfigKind::List
            | ConfigKind::Class
            | ConfigKind::Password => value.into(),
        }
    }
}

/// Where [`CONFIGS`] has this config.
pub fn known_index(name: &str) -> Result<usize, ConfigError> {
    find_index(name).ok_or_else(|| ConfigError::Unknown { name: name.to_owned(), nearest: nearest(name) })
}

fn find_index(name: &str) -> Option<usize> {
    CONFIGS.binary_search_by_key(&name, |def| def.name).ok()
}

/// The known name that a typing error may have meant.
fn nearest(name: &str) -> Option<&'static str> {
    // Longer ones come from no human hand, and the distance takes quadratic time.
    if name.len() > 64 {
        return None;
    }
    let distances = CONFIGS.iter().map(|def| (strsim::damerau_levenshtein(name, def.name), def.name));
    distances.min().filter(|(distance, _)| *distance <= 3).map(|(_, name)| name)
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(", did you mean {name:?}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        assert!(CONFIGS.is_sorted_by_key(|def| def.name));
        for def in &CONFIGS {
            def.validate(def.default).expect("a default is allowed");
            assert!(def.doc.ends_with('.'), "{}", def.name);
        }
    }

    #[test]
    fn what_does_nothing_says_so() {
        for def in &CONFIGS {
            assert_eq!(def.doc.starts_with(NO_EFFECT), def.effect == Effect::None, "{}", def.name);
        }
    }
}
