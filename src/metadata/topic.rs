//! A topic, and what may be its name.

use std::rc::Rc;

use thiserror::Error;

use super::topic_config::TopicConfig;
use crate::model::{LogId, PartitionKey, TopicId};

/// Kafka's limit, which leaves room for a partition number in a file name of 255 bytes.
pub const NAME_BYTES_MAX: usize = 249;

/// What every shard knows of a topic. Never changes in place: a change makes another `Topic`.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    pub id: TopicId,
    pub name: Rc<str>,
    pub config: TopicConfig,
    /// The log of each partition, by partition index. Never empty.
    pub partitions: Vec<LogId>,
}

impl Topic {
    /// The log that hosts partition `index`; `None` when there is no such partition.
    pub fn log_of(&self, index: i32) -> Option<LogId> {
        self.partitions.get(usize::try_from(index).ok()?).copied()
    }

    /// All partitions by index, with their logs.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionKey, LogId)> + '_ {
        (0..).zip(&self.partitions).map(|(index, log)| (PartitionKey { topic: self.id, index }, *log))
    }
}

/// Why a text cannot name a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("a topic name must not be empty")]
    Empty,
    #[error("a topic name must not be \".\" or \"..\"")]
    Dots,
    #[error("a topic name has at most {NAME_BYTES_MAX} characters, not {bytes}")]
    TooLong { bytes: usize },
    #[error("{character:?} is not allowed in a topic name, only ASCII letters, digits, '.', '_' and '-'")]
    Character { character: char },
}

/// Kafka's rules for names, which every client knows.
pub fn validate_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name == "." || name == ".." {
        return Err(NameError::Dots);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { bytes: name.len() });
    }
    let allowed = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    match name.chars().find(|character| !allowed(*character)) {
        Some(character) => Err(NameError::Character { character }),
        None => Ok(()),
    }
}

/// A name as metrics write it, with '_' for '.'; `None` where that cannot be another topic's name.
/// Kafka refuses the second of two topics that are the same so.
pub(super) fn flat_name(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let (longest, too_long) = ("x".repeat(249), "x".repeat(250));
        let table = [
            ("a", Ok(())),
            ("...", Ok(())),
            ("Web-logs_2.raw", Ok(())),
            (longest.as_str(), Ok(())),
            (too_long.as_str(), Err(NameError::TooLong { bytes: 250 })),
            ("", Err(NameError::Empty)),
            (".", Err(NameError::Dots)),
            ("..", Err(NameError::Dots)),
            ("a/b", Err(NameError::Character { character: '/' })),
            ("a b", Err(NameError::Character { character: ' ' })),
            ("ü", Err(NameError::Character { character: 'ü' })),
            ("a\0", Err(NameError::Character { character: '\0' })),
        ];
        for (name, expected) in table {
            assert_eq!(validate_name(name), expected, "{name:?}");
        }
    }

    #[test]
    fn flat_names() {
        let table = [("a.b_c", Some("a_b_c")), ("a_b.c", Some("a_b_c")), ("a-b", None), ("abc", None)];
        for (name, expected) in table {
            assert_eq!(flat_name(name).as_deref(), expected, "{name}");
        }
    }
}
