//! What is kept of a group: one entry of its log each time that a generation or a member id must
//! not be lost. The newest of the whole group counts, with what came after it of single members.
//!
//! ```text
//!   group (string), what u8
//!     what 0: the group is gone, and its offsets with it
//!     what 1: since i64 (ms), generation i32, protocol type (string), protocol (optional),
//!             leader's id (optional), member count u32, members ...
//!     what 2: instance, id (strings), said (optional): the member of this instance has this id now, and where
//!             it says something, that holds in this generation. Without such a member nothing changes
//!   member: id (string), instance (optional), said, assignment (bytes)
//!   said:   client id, client host (strings), session timeout u32, rebalance timeout u32 (ms),
//!           protocol count u32, { name (string), metadata (bytes) } ...
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
const INSTANCE: u8 = 2;

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

/// A static member alone: another process has its place. Its group may have a thousand members, and all of
/// them may be restarted one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InstanceRecord {
    pub instance: String,
    pub id: String,
    /// What it says, if that holds in the generation that is stored. Not while there is a rebalance: what was
    /// assigned in that generation follows from what was said before.
    pub said: Option<Said>,
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
            protocol: optional(fields)?.map(str::to_owned),
            leader: optional(fields)?.map(str::to_owned),
            members: Vec::new(),
        };
        let count = fields.count(MEMBER_BYTES_MIN)?;
        record.members.reserve_exact(count);
        for _ in 0..count {
            record.members.push(MemberRecord::decode(fields)?);
        }
        Ok(record)
    }

    /// Another process has the place of one of the members, if there is such a one.
    fn change(&mut self, change: InstanceRecord) {
        let its = |member: &&mut MemberRecord| member.instance.as_ref() == Some(&change.instance);
        let Some(member) = self.members.iter_mut().find(its) else { return };
        if self.leader.as_ref() == Some(&member.id) {
            self.leader = Some(change.id.clone());
        }
        member.id = change.id;
        if let Some(said) = change.said {
            member.said = said;
        }
    }
}

impl MemberRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        put_string(out, &self.id);
        put_optional(out, self.instance.as_deref());
        put_said(out, &self.said);
        put_bytes(out, &self.assignment);
    }

    fn decode(fields: &mut Fields<'_>) -> Result<MemberRecord, Truncated> {
        Ok(MemberRecord {
            id: fields.string()?.to_owned(),
            instance: optional(fields)?.map(str::to_owned),
            said: take_said(fields)?,
            assignment: Bytes::copy_from_slice(take_bytes(fields)?),
        })
    }
}

impl InstanceRecord {
    pub fn encode(&self, group: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        put_string(&mut out, group);
        out.push(INSTANCE);
        put_string(&mut out, &self.instance);
        put_string(&mut out, &self.id);
        out.push(u8::from(self.said.is_some()));
        if let Some(said) = &self.said {
            put_said(&mut out, said);
        }
        out
    }

    fn decode(fields: &mut Fields<'_>) -> Result<InstanceRecord, Truncated> {
        Ok(InstanceRecord {
            instance: fields.string()?.to_owned(),
            id: fields.string()?.to_owned(),
            said: if fields.u8()? == 0 { None } else { Some(take_said(fields)?) },
        })
    }
}

fn put_said(out: &mut Vec<u8>, said: &Said) {
    let Said { client_id, client_host, session_timeout, rebalance_timeout, protocols } = said;
    put_string(out, client_id);
    put_string(out, client_host);
    out.extend_from_slice(&(session_timeout.as_millis() as u32).to_le_bytes());
    out.extend_from_slice(&(rebalance_timeout.as_millis() as u32).to_le_bytes());
    out.extend_from_slice(&(protocols.len() as u32).to_le_bytes());
    for (name, metadata) in protocols {
        put_string(out, name);
        put_bytes(out, metadata);
    }
}

fn take_said(fields: &mut Fields<'_>) -> Result<Said, Truncated> {
    let mut said = Said {
        client_id: fields.string()?.to_owned(),
        client_host: fields.string()?.to_owned(),
        session_timeout: Duration::from_millis(fields.u32()?.into()),
        rebalance_timeout: Duration::from_millis(fields.u32()?.into()),
        protocols: Vec::new(),
    };
    let count = fields.count(PROTOCOL_BYTES_MIN)?;
    said.protocols.reserve_exact(count);
    for _ in 0..count {
        let name = fields.string()?.to_owned();
        let protocol: Protocol = (name, Bytes::copy_from_slice(take_bytes(fields)?));
        said.protocols.push(protocol);
    }
    Ok(said)
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

fn take_bytes<'a>(fields: &mut Fields<'a>) -> Result<&'a [u8], Truncated> {
    let len = fields.count(1)?;
    fields.bytes(len)
}

fn optional<'a>(fields: &mut Fields<'a>) -> Result<Option<&'a str>, Truncated> {
    if fields.u8()? == 0 { Ok(None) } else { fields.string().map(Some) }
}

/// The durable level of a log's groups: the newest entry of each, as single members have changed it since.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StoredGroups {
    groups: BTreeMap<Box<str>, StateRecord>,
}

impl StoredGroups {
    /// Apply a durable entry. Returns the group if it is gone now.
    pub fn apply<'a>(&mut self, payload: &'a [u8]) -> Result<Option<&'a str>, Truncated> {
        let mut fields = Fields::new(payload);
        let group = fields.string()?;
        match fields.u8()? {
            GONE => {
                self.groups.remove(group);
                Ok(Some(group))
            }
            STATE => {
                self.groups.insert(group.into(), StateRecord::decode(&mut fields)?);
                Ok(None)
            }
            INSTANCE => {
                let change = InstanceRecord::decode(&mut fields)?;
                if let Some(state) = self.groups.get_mut(group) {
                    state.change(change);
                }
                Ok(None)
            }
            _ => Err(Truncated),
        }
    }

    /// For the checkpoint: a count, and each entry with a `u32` length in front.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.groups.len() as u32).to_le_bytes());
        for (group, state) in &self.groups {
            put_bytes(out, &state.encode(group));
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
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &StateRecord)> {
        self.groups.iter().map(|(group, state)| (&**group, state))
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
        assert_eq!(stored.iter().collect::<Vec<_>>(), [("g", &record())]);

        let mut bytes = Vec::new();
        stored.encode(&mut bytes);
        assert_eq!(StoredGroups::decode(&mut Fields::new(&bytes)), Ok(StoredGroups { ..stored }));
        for end in 0..bytes.len() {
            assert_eq!(StoredGroups::decode(&mut Fields::new(&bytes[..end])), Err(Truncated));
        }
    }

    #[test]
    fn a_static_member_changes_alone_and_in_its_place() {
        let mut group = record();
        let with = |member: &MemberRecord, id: &str, instance: &str| MemberRecord {
            id: id.into(),
            instance: Some(instance.into()),
            ..member.clone()
        };
        group.members = vec![
            group.members[0].clone(),
            with(&group.members[1], "b", "first"),
            with(&group.members[1], "c", "second"),
        ];
        group.leader = Some("b".into());
        let mut stored = StoredGroups::default();
        stored.apply(&group.encode("g")).expect("decodes");

        let said =
            Said { client_host: "/127.0.0.2".into(), protocols: Vec::new(), ..group.members[1].said.clone() };
        let of = |instance: &str, id: &str, said| InstanceRecord {
            instance: instance.into(),
            id: id.into(),
            said,
        };
        let changes = [
            of("first", "b-again", Some(said.clone())),
            of("second", "longer", None),
            of("third", "d", None),
        ];
        for (at, change) in changes.iter().enumerate() {
            let payload = change.encode("g");
            assert_eq!(stored.apply(&payload), Ok(None));
            assert_eq!(stored.apply(&change.encode("unknown")), Ok(None), "and no group comes of it");
            for end in 0..payload.len() {
                assert_eq!(stored.apply(&payload[..end]), Err(Truncated), "change {at} cut off at {end}");
            }
        }
        group.members[1].id = "b-again".into();
        group.members[1].said = said;
        group.members[2].id = "longer".into();
        group.leader = Some("b-again".into());
        assert_eq!(stored.iter().collect::<Vec<_>>(), [("g", &group)]);
    }
}
