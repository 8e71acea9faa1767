//! The entries of the metadata log, byte by byte.
//!
//! ```text
//! u8 version, 1     u8 kind     fields
//!
//! kind 1  TopicCreated          id[16] str name, list { str key, str value }, list { u32 log }
//! kind 2  TopicDeleted          id[16]
//! kind 3  TopicConfigsChanged   id[16] list { str key, str value }
//! kind 4  PartitionsAdded       id[16] u32 first index, list { u32 log }
//! kind 5  GroupAssigned         str group, u32 log
//! kind 6  ProducerIdBlock       i64 first, u32 count, u32 log
//! kind 7  LogAdded              u32 log
//!
//! str = u32 length, UTF-8      list = u32 count, items      all numbers little-endian
//! ```

use thiserror::Error;

use crate::model::{LogId, TopicId};

/// The version that this broker writes, and the only one there is.
pub const VERSION: u8 = 1;

/// One change of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaRecord {
    /// A topic with its partitions' logs, by partition index, and what its configs override.
    TopicCreated {
        id: TopicId,
        name: String,
        configs: Vec<(String, String)>,
        partitions: Vec<LogId>,
    },
    TopicDeleted {
        id: TopicId,
    },
    /// The topic's overrides from now on: all of them, not only those that changed.
    TopicConfigsChanged {
        id: TopicId,
        configs: Vec<(String, String)>,
    },
    /// Further partitions; `first_index` is the topic's partition count before.
    PartitionsAdded {
        id: TopicId,
        first_index: u32,
        partitions: Vec<LogId>,
    },
    /// The group's offsets and members live in this log, for ever. Not written any more: the log of a group
    /// follows from its name (decision 0012).
    GroupAssigned {
        group: String,
        log: LogId,
    },
    /// The shard of `log` hands out the producer ids `first .. first + count`. A count of 0 only
    /// says where the next block begins; a snapshot ends with it.
    ProducerIdBlock {
        first: i64,
        count: u32,
        log: LogId,
    },
    /// Another log for partitions and groups.
    LogAdded {
        log: LogId,
    },
}

/// Bytes that are no metadata record; they come from a disk.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("the metadata record is cut off")]
    Truncated,
    #[error("{extra} bytes follow the metadata record")]
    TrailingBytes { extra: usize },
    #[error("metadata record version {version} is unknown, a newer broker wrote it")]
    UnknownVersion { version: u8 },
    #[error("metadata record kind {kind} is unknown")]
    UnknownKind { kind: u8 },
    #[error("a name in a metadata record is not UTF-8")]
    NotUtf8,
}

impl MetaRecord {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self {
            MetaRecord::TopicCreated { id, name, configs, partitions } => {
                out.push(1);
                out.extend_from_slice(&id.0);
                put_str(out, name);
                put_configs(out, configs);
                put_logs(out, partitions);
            }
            MetaRecord::TopicDeleted { id } => {
                out.push(2);
                out.extend_from_slice(&id.0);
            }
            MetaRecord::TopicConfigsChanged { id, configs } => {
                out.push(3);
                out.extend_from_slice(&id.0);
                put_configs(out, configs);
            }
            MetaRecord::PartitionsAdded { id, first_index, partitions } => {
                out.push(4);
                out.extend_from_slice(&id.0);
                out.extend_from_slice(&first_index.to_le_bytes());
                put_logs(out, partitions);
            }
            MetaRecord::GroupAssigned { group, log } => {
                out.push(5);
                put_str(out, group);
                out.extend_from_slice(&log.0.to_le_bytes());
            }
            MetaRecord::ProducerIdBlock { first, count, log } => {
                out.push(6);
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
                out.extend_from_slice(&log.0.to_le_bytes());
            }
            MetaRecord::LogAdded { log } => {
                out.push(7);
                out.extend_from_slice(&log.0.to_le_bytes());
            }
        }
    }

    /// Reads a record that fills `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<MetaRecord, DecodeError> {
        let mut rest = bytes;
        let record = Self::take(&mut rest)?;
        if !rest.is_empty() {
            return Err(DecodeError::TrailingBytes { extra: rest.len() });
        }
        Ok(record)
    }

    /// Takes a record off the front of `bytes`.
    pub(super) fn take(bytes: &mut &[u8]) -> Result<MetaRecord, DecodeError> {
        let [version, kind] = take(bytes)?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion { version });
        }
        Ok(match kind {
            1 => MetaRecord::TopicCreated {
                id: TopicId(take(bytes)?),
                name: take_str(bytes)?,
                configs: take_configs(bytes)?,
                partitions: take_logs(bytes)?,
            },
            2 => MetaRecord::TopicDeleted { id: TopicId(take(bytes)?) },
            3 => MetaRecord::TopicConfigsChanged { id: TopicId(take(bytes)?), configs: take_configs(bytes)? },
            4 => MetaRecord::PartitionsAdded {
                id: TopicId(take(bytes)?),
                first_index: take_u32(bytes)?,
                partitions: take_logs(bytes)?,
            },
            5 => MetaRecord::GroupAssigned { group: take_str(bytes)?, log: LogId(take_u32(bytes)?) },
            6 => MetaRecord::ProducerIdBlock {
                first: i64::from_le_bytes(take(bytes)?),
                count: take_u32(bytes)?,
                log: LogId(take_u32(bytes)?),
            },
            7 => MetaRecord::LogAdded { log: LogId(take_u32(bytes)?) },
            kind => return Err(DecodeError::UnknownKind { kind }),
        })
    }
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("a text from a frame is far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_configs(out: &mut Vec<u8>, configs: &[(String, String)]) {
    out.extend_from_slice(&(configs.len() as u32).to_le_bytes());
    for (key, value) in configs {
        put_str(out, key);
        put_str(out, value);
    }
}

fn put_logs(out: &mut Vec<u8>, logs: &[LogId]) {
    out.extend_from_slice(&(logs.len() as u32).to_le_bytes());
    for log in logs {
        out.extend_from_slice(&log.0.to_le_bytes());
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (first, rest) = bytes.split_first_chunk().ok_or(DecodeError::Truncated)?;
    *bytes = rest;
    Ok(*first)
}

fn take_u32(bytes: &mut &[u8]) -> Result<u32, DecodeError> {
    Ok(u32::from_le_bytes(take(bytes)?))
}

fn take_str(bytes: &mut &[u8]) -> Result<String, DecodeError> {
    let length = take_u32(bytes)? as usize;
    let (text, rest) = bytes.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    *bytes = rest;
    Ok(std::str::from_utf8(text).map_err(|_| DecodeError::NotUtf8)?.to_owned())
}

// A count is a claim: the lists below grow with what is really there.

fn take_configs(bytes: &mut &[u8]) -> Result<Vec<(String, String)>, DecodeError> {
    let mut configs = Vec::new();
    for _ in 0..take_u32(bytes)? {
        configs.push((take_str(bytes)?, take_str(bytes)?));
    }
    Ok(configs)
}

fn take_logs(bytes: &mut &[u8]) -> Result<Vec<LogId>, DecodeError> {
    let mut logs = Vec::new();
    for _ in 0..take_u32(bytes)? {
        logs.push(LogId(take_u32(bytes)?));
    }
    Ok(logs)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(record: &MetaRecord) -> Vec<u8> {
        let mut out = Vec::new();
        record.encode(&mut out);
        out
    }

    #[test]
    fn the_format_is_what_the_drawing_says() {
        let created = MetaRecord::TopicCreated {
            id: TopicId([0xaa; 16]),
            name: "t1".into(),
            configs: vec![("k".into(), "vv".into())],
            partitions: vec![LogId(1), LogId(0x0203)],
        };
        #[rustfmt::skip]
        let expected = [
            1, 1,
            0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
            2, 0, 0, 0, b't', b'1',
            1, 0, 0, 0, 1, 0, 0, 0, b'k', 2, 0, 0, 0, b'v', b'v',
            2, 0, 0, 0, 1, 0, 0, 0, 3, 2, 0, 0,
        ];
        assert_eq!(encoded(&created), expected);

        let block = MetaRecord::ProducerIdBlock { first: 258, count: 1000, log: LogId(9) };
        assert_eq!(encoded(&block), [1, 6, 2, 1, 0, 0, 0, 0, 0, 0, 0xe8, 3, 0, 0, 9, 0, 0, 0]);
    }

    #[test]
    fn rot_is_an_error() {
        let table: [(&[u8], DecodeError); 6] = [
            (&[], DecodeError::Truncated),
            (&[2, 7, 0, 0, 0, 0], DecodeError::UnknownVersion { version: 2 }),
            (&[1, 8], DecodeError::UnknownKind { kind: 8 }),
            (&[1, 7, 0, 0, 0, 0, 9], DecodeError::TrailingBytes { extra: 1 }),
            (&[1, 5, 1, 0, 0, 0, 0xff, 0, 0, 0, 0], DecodeError::NotUtf8),
            (&[1, 5, 0xff, 0xff, 0xff, 0xff, b'g'], DecodeError::Truncated),
        ];
        for (bytes, expected) in table {
            assert_eq!(MetaRecord::decode(bytes), Err(expected), "{bytes:?}");
        }
        let mut huge_count = vec![1, 4];
        huge_count.extend([0; 20]);
        huge_count.extend([0xff; 4]);
        assert_eq!(MetaRecord::decode(&huge_count), Err(DecodeError::Truncated));
    }

    pub fn record() -> impl Strategy<Value = MetaRecord> {
        let id = || any::<[u8; 16]>().prop_map(TopicId);
        let log = || any::<u32>().prop_map(LogId);
        let logs = || prop::collection::vec(any::<u32>().prop_map(LogId), 0..5);
        let configs = || prop::collection::vec((".{0,9}", ".{0,9}"), 0..3);
        prop_oneof![
            (id(), ".{0,9}", configs(), logs()).prop_map(|(id, name, configs, partitions)| {
                MetaRecord::TopicCreated { id, name, configs, partitions }
            }),
            id().prop_map(|id| MetaRecord::TopicDeleted { id }),
            (id(), configs()).prop_map(|(id, configs)| MetaRecord::TopicConfigsChanged { id, configs }),
            (id(), any::<u32>(), logs()).prop_map(|(id, first_index, partitions)| {
                MetaRecord::PartitionsAdded { id, first_index, partitions }
            }),
            (".{0,9}", log()).prop_map(|(group, log)| MetaRecord::GroupAssigned { group, log }),
            (any::<i64>(), any::<u32>(), log()).prop_map(|(first, count, log)| MetaRecord::ProducerIdBlock {
                first,
                count,
                log
            }),
            log().prop_map(|log| MetaRecord::LogAdded { log }),
        ]
    }

    proptest! {
        #[test]
        fn round_trip_and_no_prefix_is_a_record(record in record()) {
            let bytes = encoded(&record);
            prop_assert_eq!(MetaRecord::decode(&bytes), Ok(record));
            for cut in 0..bytes.len() {
                prop_assert_eq!(MetaRecord::decode(&bytes[..cut]), Err(DecodeError::Truncated));
            }
        }

        #[test]
        fn decoding_never_panics(kind in 0u8..9, tail: Vec<u8>) {
            let mut bytes = vec![VERSION, kind];
            bytes.extend(tail);
            let _ = MetaRecord::decode(&bytes);
        }
    }
}
