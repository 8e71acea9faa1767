//! Committed offsets of consumer groups: the newest commit of each group and partition.
//!
//! A commit is one entry of the group's log:
//!
//! ```text
//!   group (string), count (u32), commits: { topic id (16), partition i32, offset i64,
//!       leader epoch i32, commit time i64, has metadata u8, metadata (string, if so) } ...
//! ```
//!
//! Strings have a `u32` length in front. Little-endian. An offset of -1 takes the commit back.

use std::collections::BTreeMap;
use std::ops::Bound;

use rustc_hash::FxHashMap;

use crate::base::bytes::{Fields, Truncated, put_string};
use crate::model::{Offset, PartitionKey, TopicId};

/// What a group committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub partition: PartitionKey,
    pub offset: Offset,
    /// The leader epoch that the client gave; -1 if none.
    pub leader_epoch: i32,
    pub metadata: Option<String>,
    /// When it was committed, milliseconds since 1970.
    pub commit_time: i64,
}

const COMMIT_BYTES_MIN: usize = 41;

/// What [`encode_commit`] makes is not larger.
pub fn commit_bytes_max(group: &str, offsets: &[CommittedOffset]) -> usize {
    let metadata: usize = offsets.iter().filter_map(|commit| commit.metadata.as_ref()).map(String::len).sum();
    group.len() + 8 + offsets.len() * (COMMIT_BYTES_MIN + 4) + metadata
}

pub fn encode_commit(group: &str, offsets: &[CommittedOffset]) -> Vec<u8> {
    let mut out = Vec::with_capacity(commit_bytes_max(group, offsets));
    put_string(&mut out, group);
    out.extend_from_slice(&(offsets.len() as u32).to_le_bytes());
    for commit in offsets {
        out.extend_from_slice(&commit.partition.topic.0);
        out.extend_from_slice(&commit.partition.index.to_le_bytes());
        out.extend_from_slice(&commit.offset.0.to_le_bytes());
        out.extend_from_slice(&commit.leader_epoch.to_le_bytes());
        out.extend_from_slice(&commit.commit_time.to_le_bytes());
        out.push(u8::from(commit.metadata.is_some()));
        if let Some(metadata) = &commit.metadata {
            put_string(&mut out, metadata);
        }
    }
    assert!(out.len() <= commit_bytes_max(group, offsets));
    out
}

fn decode_commit<'a>(fields: &mut Fields<'a>) -> Result<(&'a str, Vec<CommittedOffset>), Truncated> {
    let group = fields.string()?;
    let count = fields.count(COMMIT_BYTES_MIN)?;
    let mut offsets = Vec::with_capacity(count);
    for _ in 0..count {
        offsets.push(CommittedOffset {
            partition: PartitionKey { topic: TopicId(fields.array()?), index: fields.i32()? },
            offset: Offset(fields.i64()?),
            leader_epoch: fields.i32()?,
            commit_time: fields.i64()?,
            metadata: if fields.u8()? != 0 { Some(fields.string()?.to_owned()) } else { None },
        });
    }
    Ok((group, offsets))
}

/// What a group and a commit cost in memory beside their texts: their places in trees that are not full. A group's
/// own has room for eleven commits from the first one on, and most groups have few.
const GROUP_BYTES: usize = 1024;
const COMMIT_BYTES: usize = 176;

impl CommittedOffset {
    fn held_bytes(&self) -> usize {
        COMMIT_BYTES + self.metadata.as_ref().map_or(0, String::len)
    }
}

/// What a group has committed.
#[derive(Debug, PartialEq, Eq)]
struct Commits {
    newest: BTreeMap<PartitionKey, CommittedOffset>,
    /// What the group takes in memory, about.
    bytes: usize,
}

impl Commits {
    fn new(group: &str) -> Commits {
        Commits { newest: BTreeMap::new(), bytes: GROUP_BYTES + group.len() }
    }

    fn put(&mut self, commit: CommittedOffset) {
        let old = if commit.offset < Offset::ZERO {
            self.newest.remove(&commit.partition)
        } else {
            self.bytes += commit.held_bytes();
            self.newest.insert(commit.partition, commit)
        };
        self.bytes -= old.map_or(0, |old| old.held_bytes());
    }

    fn remove_topics(&mut self, deleted: impl Fn(TopicId) -> bool) {
        let bytes = &mut self.bytes;
        self.newest.retain(|key, commit| {
            let stays = !deleted(key.topic);
            *bytes -= if stays { 0 } else { commit.held_bytes() };
            stays
        });
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct GroupOffsets {
    groups: BTreeMap<String, Commits>,
    /// What all that takes in memory, about.
    bytes: usize,
}

impl GroupOffsets {
    /// Apply a durable commit.
    pub fn apply(&mut self, payload: &[u8]) -> Result<(), Truncated> {
        let (group, offsets) = decode_commit(&mut Fields::new(payload))?;
        self.put(group, offsets);
        Ok(())
    }

    fn put(&mut self, group: &str, offsets: Vec<CommittedOffset>) {
        self.bytes -= self.bytes_of(group);
        let commits = self.groups.entry(group.to_owned()).or_insert_with(|| Commits::new(group));
        offsets.into_iter().for_each(|commit| commits.put(commit));
        self.bytes += commits.bytes;
        if commits.newest.is_empty() {
            self.remove(group);
        }
    }

    /// What all groups take in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What this one does.
    pub fn bytes_of(&self, group: &str) -> usize {
        self.groups.get(group).map_or(0, |commits| commits.bytes)
    }

    /// How much more all would take with these commits. Of a partition that is named again the last one counts.
    pub fn added_bytes(&self, group: &str, offsets: &[CommittedOffset]) -> usize {
        let commits = self.groups.get(group);
        let old = |partition| commits?.newest.get(partition).map(CommittedOffset::held_bytes);
        let last: FxHashMap<PartitionKey, &CommittedOffset> =
            offsets.iter().map(|commit| (commit.partition, commit)).collect();
        let kept = || last.values().filter(|commit| commit.offset >= Offset::ZERO);
        let new = if commits.is_none() && kept().next().is_some() { GROUP_BYTES + group.len() } else { 0 };
        let added: usize = kept().map(|commit| commit.held_bytes()).sum();
        (new + added).saturating_sub(last.keys().filter_map(old).sum())
    }

    /// What the group committed: for these partitions, or for all.
    pub fn get(&self, group: &str, partitions: Option<&[PartitionKey]>) -> Vec<CommittedOffset> {
        let Some(commits) = self.groups.get(group) else { return Vec::new() };
        match partitions {
            Some(keys) => keys.iter().filter_map(|key| commits.newest.get(key)).cloned().collect(),
            None => commits.newest.values().cloned().collect(),
        }
    }

    /// All that the group committed.
    pub fn commits(&self, group: &str) -> impl Iterator<Item = &CommittedOffset> {
        self.groups.get(group).into_iter().flat_map(|commits| commits.newest.values())
    }

    /// Topics are deleted, and with them what was committed for them.
    pub fn remove_topics(&mut self, deleted: impl Fn(TopicId) -> bool) {
        let bytes = &mut self.bytes;
        self.groups.retain(|_, commits| {
            *bytes -= commits.bytes;
            commits.remove_topics(&deleted);
            let left = !commits.newest.is_empty();
            *bytes += if left { commits.bytes } else { 0 };
            left
        });
    }

    /// The group is gone.
    pub fn remove(&mut self, group: &str) {
        if let Some(commits) = self.groups.remove(group) {
            self.bytes -= commits.bytes;
        }
    }

    pub fn contains(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// Groups that have committed something.
    pub fn count(&self) -> usize {
        self.groups.len()
    }

    /// The same, by name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names_from("")
    }

    /// The same, from this name on.
    pub fn names_from(&self, from: &str) -> impl Iterator<Item = &str> {
        let from = (Bound::Included(from), Bound::Unbounded);
        self.groups.range::<str, _>(from).map(|(name, _)| name.as_str())
    }

    /// For the checkpoint: a count and then each group as one commit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.groups.len() as u32).to_le_bytes());
        for (group, commits) in &self.groups {
            let commits: Vec<_> = commits.newest.values().cloned().collect();
            out.extend_from_slice(&encode_commit(group, &commits));
        }
    }

    pub fn decode(fields: &mut Fields<'_>) -> Result<GroupOffsets, Truncated> {
        let mut groups = GroupOffsets::default();
        for _ in 0..fields.count(8)? {
            let (group, offsets) = decode_commit(fields)?;
            groups.put(group, offsets);
        }
        Ok(groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(topic: u8, offset: i64, metadata: Option<&str>) -> CommittedOffset {
        CommittedOffset {
            partition: PartitionKey { topic: TopicId([topic; 16]), index: 3 },
            offset: Offset(offset),
            leader_epoch: -1,
            metadata: metadata.map(str::to_owned),
            commit_time: 1000,
        }
    }

    #[test]
    fn the_newest_commit_counts_and_survives_a_checkpoint() {
        let mut groups = GroupOffsets::default();
        groups.apply(&encode_commit("g", &[commit(1, 5, Some("meta")), commit(2, 6, None)])).unwrap();
        groups.apply(&encode_commit("g", &[commit(1, 9, Some(""))])).unwrap();
        assert_eq!(groups.get("g", None), [commit(1, 9, Some("")), commit(2, 6, None)]);
        assert_eq!(groups.get("other", None), []);

        let mut bytes = Vec::new();
        groups.encode(&mut bytes);
        assert_eq!(GroupOffsets::decode(&mut Fields::new(&bytes)), Ok(GroupOffsets { ..groups }));
        for end in 0..bytes.len() {
            assert_eq!(GroupOffsets::decode(&mut Fields::new(&bytes[..end])), Err(Truncated));
        }
    }

    #[test]
    fn commits_go_with_their_topic_their_group_or_when_taken_back() {
        let mut groups = GroupOffsets::default();
        groups.apply(&encode_commit("g", &[commit(1, 5, None), commit(2, 6, None)])).unwrap();
        groups.remove_topics(|topic| topic == TopicId([1; 16]));
        assert_eq!(groups.get("g", None), [commit(2, 6, None)]);
        groups.apply(&encode_commit("gone", &[commit(2, 6, None)])).unwrap();
        groups.remove("gone");
        groups.apply(&encode_commit("g", &[commit(2, -1, None)])).unwrap();
        assert_eq!(groups, GroupOffsets::default());
    }

    #[test]
    fn what_is_held_is_counted_on_every_way_in_and_out() {
        let mut groups = GroupOffsets::default();
        let take = |groups: &mut GroupOffsets, group: &str, offsets: &[CommittedOffset]| {
            let (before, added) = (groups.bytes(), groups.added_bytes(group, offsets));
            groups.apply(&encode_commit(group, offsets)).unwrap();
            assert_eq!(groups.bytes().saturating_sub(before), added, "{group}: {offsets:?}");
            assert_eq!(groups.bytes(), groups.bytes_of("g") + groups.bytes_of("h"));
            added
        };
        let first = [commit(1, 5, Some("meta")), commit(2, 6, None)];
        assert_eq!(take(&mut groups, "g", &first), GROUP_BYTES + 1 + 2 * COMMIT_BYTES + 4);
        assert_eq!(take(&mut groups, "g", &first), 0, "once more");
        assert_eq!(take(&mut groups, "g", &[commit(1, 7, Some("longer"))]), 2);
        assert_eq!(take(&mut groups, "g", &[commit(1, 7, None)]), 0, "shorter");
        assert_eq!(take(&mut groups, "g", &[commit(2, -1, None)]), 0, "taken back");
        assert_eq!(take(&mut groups, "none", &[commit(2, -1, None)]), 0, "what was never there");
        assert_eq!(take(&mut groups, "h", &[commit(3, 1, None)]), GROUP_BYTES + 1 + COMMIT_BYTES);
        // A partition that is named again gives back what it held once.
        let again =
            [commit(1, 8, None), commit(1, 8, Some("longest")), commit(2, 1, None), commit(1, 8, None)];
        assert_eq!(take(&mut groups, "g", &[commit(1, 7, Some("long"))]), 4);
        assert_eq!(take(&mut groups, "g", &again), COMMIT_BYTES - 4);
        assert_eq!(take(&mut groups, "none", &[commit(2, 5, None), commit(2, -1, None)]), 0);
        assert_eq!(take(&mut groups, "g", &[commit(2, -1, None)]), 0);

        let mut bytes = Vec::new();
        groups.encode(&mut bytes);
        let decoded = GroupOffsets::decode(&mut Fields::new(&bytes)).unwrap();
        assert_eq!(decoded.bytes(), groups.bytes(), "after a restart, too");
        groups.remove_topics(|topic| topic == TopicId([1; 16]));
        assert_eq!(groups.bytes(), GROUP_BYTES + 1 + COMMIT_BYTES);
        assert_eq!((groups.bytes_of("g"), groups.bytes_of("h")), (0, groups.bytes()));
        groups.remove("h");
        groups.remove("h");
        assert_eq!(groups.bytes(), 0);
    }
}
