//! What is kept of a group: one entry of its log each time that a generation or a member id must
//! not be lost. The newest one counts.
//!
//! ```text
//!   group (string), what u8
//!     what 0: the group is gone, and its offsets with it
//!     what 1: since i64 (ms), generation i32, protocol type (string), protocol (optional),
//!             leader's id (optional), member count u32, members ...
//!   member: id (string), instance (optional), client id, client host (strings), session timeout u32,
//!           rebalance timeout u32 (ms), protocol count u32, { name (string), metadata (bytes) } ...,
//!           assignment (bytes)
//! ```
//!
//! Strings and bytes have a `u32` length in front; what is optional has a `u8` before it, 0 or 1.
//! Little-endian.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::member::{Protocol, Said};
use crate::base::bytes::{Fields, Truncated, put_string};
use crate::model::WallMs;

const GONE: u8 = 0;
const STATE: u8 = 1;

const MEMBER_BYTES_MIN: usize = 33;
const PROTOCOL_BYTES_MIN: usize = 8;

/// A group as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StateRecord {
    /// When it came into this state.
    pub since: WallMs,
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub members: Vec<MemberRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemberRecord {
    pub id: String,
    pub instance: Option<String>,
    pub said: Said,
    pub assignment: Bytes,
}

/// The entry that says that a group is gone.
pub fn encode_gone(group: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(group.len() + 5);
    put_string(&mut out, group);
    out.push(GONE);
    out
}

impl StateRecord {
    pub fn encode(&self, group: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + group.len() + self.members.len() * 256);
        put_string(&mut out, group);
        out.push(STATE);
        out.extend_from_slice(&self.since.0.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        put_string(&mut out, &self.protocol_type);
        put_optional(&mut out, self.protocol.as_deref());
        put_optional(&mut out, self.leader.as_deref());
        out.extend_from_slice(&(self.members.len() as u32).to_le_bytes());
        for member in &self.members {
            member.encode(&mut out);
        }
        out
    }

    fn decode(fields: &mut Fields<'_>) -> Result<StateRecord, Truncated> {
        let mut record = StateRecord {
            since: WallMs(fields.i64()?),
            generation: fields.i32()?,
            protocol_type: fields.string()?.to_owned(),
            protocol: optional(fields)?,
            leader: optional(fields)?,
            members: Vec::new(),
        };
        for _ in 0..fields.count(MEMBER_BYTES_MIN)? {
            record.members.push(MemberRecord::decode(fields)?);
        }
        Ok(record)
    }
}

impl MemberRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        let Said { client_id, client_host, session_timeout, rebalance_timeout, protocols } = &self.said;
        put_string(out, &self.id);
        put_optional(out, self.instance.as_deref());
        put_string(out, client_id);
        put_string(out, client_host);
        out.extend_from_slice(&(session_timeout.as_millis() as u32).to_le_bytes());
        out.extend_from_slice(&(rebalance_timeout.as_millis() as u32).to_le_bytes());
        out.extend_from_slice(&(protocols.len() as u32).to_le_bytes());
        for (name, metadata) in protocols {
            put_string(out, name);
            put_bytes(out, metadata);
        }
        put_bytes(out, &self.assignment);
    }

    fn decode(fields: &mut Fields<'_>) -> Result<MemberRecord, Truncated> {
        let id = fields.string()?.to_owned();
        let instance = optional(fields)?;
        let mut said = Said {
            client_id: fields.string()?.to_owned(),
            client_host: fields.string()?.to_owned(),
            session_timeout: Duration::from_millis(fields.u32()?.into()),
            rebalance_timeout: Duration::from_millis(fields.u32()?.into()),
            protocols: Vec::new(),
        };
        for _ in 0..fields.count(PROTOCOL_BYTES_MIN)? {
            let protocol: Protocol = (fields.string()?.to_owned(), take_bytes(fields)?);
            said.protocols.push(protocol);
        }
        Ok(MemberRecord { id, instance, said, assignment: take_bytes(fields)? })
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_optional(out: &mut Vec<u8>, string: Option<&str>) {
    out.push(u8::from(string.is_some()));
    if let Some(string) = string {
        put_string(out, string);
    }
}

fn take_bytes(fields: &mut Fields<'_>) -> Result<Bytes, Truncated> {
    let len = fields.count(1)?;
    Ok(Bytes::copy_from_slice(fields.bytes(len)?))
}

fn optional(fields: &mut Fields<'_>) -> Result<Option<String>, Truncated> {
    if fields.u8()? == 0 { Ok(None) } else { Ok(Some(fields.string()?.to_owned())) }
}

/// The durable level of a log's groups: the newest entry of each, as it was written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StoredGroups {
    entries: BTreeMap<Box<str>, Box<[u8]>>,
}

impl StoredGroups {
    /// Apply a durable entry. Returns the group if it is gone now.
    pub fn apply<'a>(&mut self, payload: &'a [u8]) -> Result<Option<&'a str>, Truncated> {
        let mut fields = Fields::new(payload);
        let group = fields.string()?;
        match fields.u8()? {
            GONE => {
                self.entries.remove(group);
                Ok(Some(group))
            }
            STATE => {
                StateRecord::decode(&mut fields)?;
                self.entries.insert(group.into(), payload.into());
                Ok(None)
            }
            _ => Err(Truncated),
        }
    }

    /// For the checkpoint: a count, and each entry with a `u32` length in front.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        for entry in self.entries.values() {
            put_bytes(out, entry);
        }
    }

    pub fn decode(fields: &mut Fields<'_>) -> Result<StoredGroups, Truncated> {
        let mut stored = StoredGroups::default();
        for _ in 0..fields.count(9)? {
            let len = fields.count(1)?;
            stored.apply(fields.bytes(len)?)?;
        }
        Ok(stored)
    }

    /// Every group that is kept.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, StateRecord)> {
        self.entries.iter().map(|(group, payload)| {
            let mut fields = Fields::new(payload);
            let mut read = || {
                fields.string()?;
                fields.u8()?;
                StateRecord::decode(&mut fields)
            };
            (&**group, read().expect("it was decoded when it was applied"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> StateRecord {
        let said = Said {
            client_id: "app".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(300),
            protocols: vec![("range".into(), Bytes::from_static(b"meta")), ("sticky".into(), Bytes::new())],
        };
        let member = |id: &str, instance: Option<&str>| MemberRecord {
            id: id.into(),
            instance: instance.map(str::to_owned),
            said: said.clone(),
            assignment: Bytes::from_static(b"partitions"),
        };
        StateRecord {
            since: WallMs(7),
            generation: 3,
            protocol_type: "consumer".into(),
            protocol: Some("range".into()),
            leader: Some("a".into()),
            members: vec![member("a", None), member("b", Some("static"))],
        }
    }

    #[test]
    fn the_newest_entry_counts_and_survives_a_checkpoint() {
        let mut stored = StoredGroups::default();
        let older = StateRecord { generation: 2, members: Vec::new(), ..record() };
        for payload in [older.encode("g"), record().encode("g"), older.encode("gone")] {
            assert_eq!(stored.apply(&payload), Ok(None));
        }
        assert_eq!(stored.apply(&encode_gone("gone")), Ok(Some("gone")));
        assert_eq!(stored.iter().collect::<Vec<_>>(), [("g", record())]);

        let mut bytes = Vec::new();
        stored.encode(&mut bytes);
        assert_eq!(StoredGroups::decode(&mut Fields::new(&bytes)), Ok(StoredGroups { ..stored }));
        for end in 0..bytes.len() {
            assert_eq!(StoredGroups::decode(&mut Fields::new(&bytes[..end])), Err(Truncated));
        }
    }
}
