//! The checker of groups: who was given what, what was committed, and whether everything heard later agrees with it.
//!
//! - in a generation a partition has one owner, and generations that were handed out never go back;
//! - who has kept a partition while it joined a generation is its owner in it until it gives it up, unless it has
//!   missed a generation in which somebody else was;
//! - nobody commits in a generation after a later one was handed out, and nobody but the owner;
//! - an offset that was acknowledged, or that somebody has read, is never followed by an older one: not after a
//!   rebalance, not after a crash, and not after the last commit of a member that is none any more.

use std::collections::BTreeMap;

use ringmq::kafka::protocol::ErrorCode;
use ringmq::kafka::protocol::messages::offset_fetch::OffsetFetchRequestTopic;
use ringmq::kafka::protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use ringmq::model::Nanos;

use super::assignor::{Part, by_topic, topic_named};

/// Offsets by partition.
pub type Offsets = BTreeMap<Part, i64>;

#[derive(Default)]
struct Group {
    owners: BTreeMap<(i32, Part), String>,
    /// The same of generations that need not have been handed out: who owned something before, and kept it when it
    /// joined. Such a generation ends with the broker, and another may get its number.
    kept: BTreeMap<(i32, Part), String>,
    /// Who takes part in a generation, by instance or id.
    members: BTreeMap<i32, Vec<String>>,
    /// The newest generation that was handed out to anybody.
    newest: i32,
    acked: Offsets,
    /// The farthest that anybody has tried to commit.
    sent: Offsets,
    /// Who has left since the broker started, and when it was told that it has.
    left: BTreeMap<String, Nanos>,
    disturbances: u64,
}

/// The groups of the story.
pub const GROUPS: usize = 2;

pub struct Roster {
    groups: [Group; GROUPS],
    broker_began: Nanos,
}

pub fn group_name(group: usize) -> &'static str {
    const NAMES: [&str; GROUPS] = ["readers", "writers"];
    NAMES[group]
}

impl Roster {
    pub fn new() -> Roster {
        Roster { groups: Default::default(), broker_began: Nanos(0) }
    }

    pub fn newest(&self, group: usize) -> i32 {
        self.groups[group].newest
    }

    /// Something has happened to the group that may lead to a rebalance.
    pub fn disturb(&mut self, group: usize) {
        self.groups[group].disturbances += 1;
    }

    pub fn disturbances(&self, group: usize) -> u64 {
        self.groups[group].disturbances
    }

    /// The leader, who asked at `asked`, hears who takes part.
    pub fn gathered(&mut self, group: usize, generation: i32, asked: Nanos, members: &[(String, String)]) {
        let group = &mut self.groups[group];
        for (id, _) in members {
            let left = group.left.get(id).is_some_and(|at| *at < asked);
            assert!(!left, "{id} has left, and takes part in generation {generation}");
        }
        group.members.insert(generation, members.iter().map(|(_, who)| who.clone()).collect());
    }

    /// Who takes part in the newest generation, if that is known.
    pub fn members(&self, group: usize) -> Option<&[String]> {
        let group = &self.groups[group];
        group.members.get(&group.newest).map(Vec::as_slice)
    }

    /// `who` is given its share in a generation. `newest`: the newest when it asked.
    pub fn handed_out(&mut self, group: usize, generation: i32, newest: i32, who: &str, share: &[Part]) {
        let name = group_name(group);
        let group = &mut self.groups[group];
        assert!(generation >= newest, "{name}: {generation} is handed out after {newest}");
        group.newest = group.newest.max(generation);
        for part in share {
            let owner = group.owners.entry((generation, *part)).or_insert_with(|| who.to_owned());
            assert_eq!(owner, who, "{name}: two owners of {part:?} in generation {generation}");
            let keeper = group.kept.get(&(generation, *part)).map_or(who, String::as_str);
            assert_eq!(
                keeper, who,
                "{name}: {part:?} is kept, and given to {who} in generation {generation}"
            );
        }
    }

    /// `who` asked at `asked`, has joined a generation, and owns still what it was given in the generation `since`.
    pub fn kept(
        &mut self,
        group: usize,
        generation: i32,
        asked: Nanos,
        since: i32,
        who: &str,
        parts: &[Part],
    ) {
        if asked < self.broker_began {
            return;
        }
        let name = group_name(group);
        let Group { owners, kept, .. } = &mut self.groups[group];
        for &part in parts {
            let of_another = |between| owners.get(&(between, part)).is_some_and(|owner| owner != who);
            if (since + 1..generation).any(of_another) {
                continue;
            }
            assert!(!of_another(generation), "{name}: {who} has kept {part:?} in generation {generation}");
            let keeper = kept.entry((generation, part)).or_insert_with(|| who.to_owned());
            assert_eq!(keeper, who, "{name}: two have kept {part:?} in generation {generation}");
        }
    }

    pub fn committing(&mut self, group: usize, offsets: &Offsets) {
        for (part, offset) in offsets {
            let sent = self.groups[group].sent.entry(*part).or_insert(-1);
            *sent = (*sent).max(*offset);
        }
    }

    /// A commit of `who` was acknowledged. `newest`: the newest generation when it was sent.
    pub fn committed(&mut self, group: usize, generation: i32, newest: i32, who: &str, offsets: &Offsets) {
        let name = group_name(group);
        let group = &mut self.groups[group];
        assert!(generation >= newest, "{name}: a commit of generation {generation} after {newest}");
        for (&part, &offset) in offsets {
            let owner = group.owners.get(&(generation, part)).map(String::as_str);
            assert_eq!(owner, Some(who), "{name}: {who} commits {part:?} in generation {generation}");
            let acked = group.acked.entry(part).or_insert(-1);
            *acked = (*acked).max(offset);
        }
    }

    /// What is known to be committed.
    pub fn acked(&self, group: usize) -> Offsets {
        self.groups[group].acked.clone()
    }

    /// Somebody hears what was committed. `known`: what was acknowledged when it asked.
    pub fn fetched(&mut self, group: usize, known: &Offsets, response: &OffsetFetchResponse<'_>) -> Offsets {
        let name = group_name(group);
        let mut found = Offsets::new();
        for topic in &response.topics {
            for answer in &topic.partitions {
                let part = Part { topic: topic_named(topic.name), index: answer.partition_index };
                assert_eq!(answer.error_code, ErrorCode::NONE);
                let offset = answer.committed_offset;
                let acked = known.get(&part).copied().unwrap_or(-1);
                assert!(offset >= acked, "{name}: {part:?}: {offset} after {acked} was acknowledged");
                let sent = self.groups[group].sent.get(&part).copied().unwrap_or(-1);
                assert!(offset <= sent, "{name}: {part:?}: {offset} was never committed");
                if offset >= 0 {
                    // Whoever read it relies on it.
                    let acked = self.groups[group].acked.entry(part).or_insert(-1);
                    *acked = (*acked).max(offset);
                }
                found.insert(part, offset);
            }
        }
        found
    }

    pub fn left(&mut self, group: usize, id: &str, at: Nanos) {
        self.groups[group].left.insert(id.to_owned(), at);
    }

    /// That somebody left is not stored before the next generation is, and that is not before it is assigned.
    pub fn restarted(&mut self, now: Nanos) {
        self.broker_began = now;
        for group in &mut self.groups {
            group.left.clear();
            group.kept.clear();
        }
    }
}

/// The question what a group has committed.
pub fn offsets_of(group: usize, parts: &[Part]) -> OffsetFetchRequest<'static> {
    let topics = by_topic(parts).map(|(name, indexes)| OffsetFetchRequestTopic {
        name,
        partition_indexes: indexes.into_iter().collect(),
    });
    OffsetFetchRequest { group_id: group_name(group), topics: Some(topics.collect()), ..Default::default() }
}
