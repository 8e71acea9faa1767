//! All groups of one log: requests by the group's name, timers, and what is to be done about both.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::GroupRules;
use super::call::{Described, GroupError, JoinCall, Joined, Leaving, Listed, MemberRef, SyncCall, Synced};
use super::machine::{Group, Phase, Scene, held_by_new};
use super::record::StoredGroups;
use super::timers::{GroupKey, Timers};
use crate::model::{Nanos, Now, WallMs};

/// Something that is to be stored. Unique in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreId {
    pub(super) group: GroupKey,
    pub(super) number: u64,
}

/// What the shard is to do. `W` is a request that waits for its answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<W> {
    Join(W, Result<Joined, GroupError>),
    Sync(W, Result<Synced, GroupError>),
    /// Append the record to the groups' log, and say with [`Groups::on_stored`] when it is durable,
    /// or that it was not taken.
    Store {
        id: StoreId,
        record: Vec<u8>,
    },
}

/// The groups of one log.
#[derive(Debug)]
pub struct Groups<W> {
    rules: GroupRules,
    names: BTreeMap<Box<str>, GroupKey>,
    groups: FxHashMap<GroupKey, Group<W>>,
    timers: Timers,
    actions: VecDeque<Action<W>>,
    next_group: u64,
    next_store: u64,
    /// What all groups take of the log's budget.
    held_bytes: usize,
    /// What is kept for groups elsewhere, and counts as well.
    kept_bytes: usize,
    /// So much of it for the group that asks.
    kept_of_caller: usize,
    /// No more requests are taken, because of this.
    stopped: Option<GroupError>,
}

impl<W: Copy> Groups<W> {
    pub fn new(rules: GroupRules) -> Groups<W> {
        Groups {
            rules,
            names: BTreeMap::new(),
            groups: FxHashMap::default(),
            timers: Timers::default(),
            actions: VecDeque::new(),
            next_group: 0,
            next_store: 0,
            held_bytes: 0,
            kept_bytes: 0,
            kept_of_caller: 0,
            stopped: None,
        }
    }

    /// Go on with these groups. Their members have their whole sessions to show up.
    pub fn restore(&mut self, stored: &StoredGroups, now: Now) {
        for (name, record) in stored.iter() {
            let key = self.insert(name, now);
            self.with(key, now, |group, scene| group.restore(record.clone(), scene));
        }
    }

    fn insert(&mut self, name: &str, now: Now) -> GroupKey {
        let key = GroupKey(self.next_group);
        self.next_group += 1;
        let group = Group::new(name.into(), key, now);
        self.held_bytes += group.held_bytes();
        self.names.insert(name.into(), key);
        self.groups.insert(key, group);
        key
    }

    fn key(&self, name: &str) -> Result<GroupKey, GroupError> {
        if let Some(error) = &self.stopped {
            return Err(error.clone());
        }
        self.names.get(name).copied().ok_or(GroupError::UnknownGroup)
    }

    fn find(&self, name: &str) -> Option<&Group<W>> {
        self.groups.get(self.names.get(name)?)
    }

    /// Let a group act; one that would lose nothing by it is forgotten afterwards.
    fn with<T>(
        &mut self,
        key: GroupKey,
        now: Now,
        act: impl FnOnce(&mut Group<W>, &mut Scene<'_, W>) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(&key)?;
        self.held_bytes -= group.held_bytes();
        let result = act(
            group,
            &mut Scene {
                now,
                rules: &self.rules,
                actions: &mut self.actions,
                timers: &mut self.timers,
                next_store: &mut self.next_store,
                others_bytes: self.held_bytes + self.kept_bytes,
                kept_bytes: self.kept_of_caller,
            },
        );
        if group.is_blank() {
            self.names.remove(&group.name);
            self.groups.remove(&key);
        } else {
            self.held_bytes += group.held_bytes();
        }
        let groups = &self.groups;
        self.timers.sweep(|key, timer, at| groups.get(&key).is_some_and(|group| group.awaits(timer, at)));
        Some(result)
    }

    fn act<T>(
        &mut self,
        name: &str,
        now: Now,
        act: impl FnOnce(&mut Group<W>, &mut Scene<'_, W>) -> Result<T, GroupError>,
    ) -> Result<T, GroupError> {
        let key = self.key(name)?;
        self.with(key, now, act).unwrap_or(Err(GroupError::UnknownGroup))
    }

    // --- Memory. ---

    /// So much is kept for these groups elsewhere: what they have committed, and what waits to be stored. Of
    /// that, `of_caller` is what the group that asks next has committed.
    pub fn note_kept(&mut self, bytes: usize, of_caller: usize) {
        (self.kept_bytes, self.kept_of_caller) = (bytes, of_caller);
    }

    /// May the group that asks have so much more kept? What is there already stays, also where a restart finds
    /// more than may be.
    pub fn check_room(&self, name: &str, bytes: usize) -> Result<(), GroupError> {
        let own = self.find(name).map_or(0, Group::held_bytes) + self.kept_of_caller;
        if own + bytes > self.rules.total_bytes_max {
            return Err(GroupError::GroupFull);
        }
        let fits = self.bytes() + bytes <= self.rules.total_bytes_max;
        if fits { Ok(()) } else { Err(GroupError::GroupsFull) }
    }

    /// What all groups take of the log's budget.
    pub fn bytes(&self) -> usize {
        self.held_bytes + self.kept_bytes
    }

    /// The same, without what is kept elsewhere.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    #[cfg(test)]
    pub fn timers_len(&self) -> usize {
        self.timers.len()
    }

    /// What all groups take of the log's budget, counted anew.
    #[cfg(test)]
    pub fn recounted_bytes(&self) -> usize {
        self.kept_bytes + self.groups.values().map(Group::held_bytes).sum::<usize>()
    }

    // --- Requests. ---

    /// `Ok(None)`: the answer comes as an [`Action`]. `new_id` was never given to anybody.
    pub fn handle_join(
        &mut self,
        now: Now,
        name: &str,
        join: JoinCall,
        new_id: String,
        who: W,
    ) -> Result<Option<Joined>, GroupError> {
        let (min, max) = (self.rules.session_min, self.rules.session_max);
        if !(min..=max).contains(&join.session_timeout) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let key = match self.key(name) {
            Ok(key) => key,
            Err(GroupError::UnknownGroup) if join.member.is_empty() => {
                self.check_room(name, held_by_new(name))?;
                self.insert(name, now)
            }
            Err(error) => return Err(member_error(error)),
        };
        let result = self.with(key, now, |group, scene| group.join(join, new_id, who, scene));
        result.unwrap_or(Err(GroupError::UnknownMember))
    }

    /// `Ok(None)`: the answer comes as an [`Action`].
    pub fn handle_sync(
        &mut self,
        now: Now,
        name: &str,
        sync: SyncCall,
        who: W,
    ) -> Result<Option<Synced>, GroupError> {
        self.act(name, now, |group, scene| group.sync(sync, who, scene)).map_err(member_error)
    }

    pub fn handle_heartbeat(&mut self, now: Now, name: &str, who: &MemberRef) -> Result<(), GroupError> {
        self.act(name, now, |group, scene| group.heartbeat(who, scene)).map_err(member_error)
    }

    /// One result for each who leaves.
    pub fn handle_leave(
        &mut self,
        now: Now,
        name: &str,
        leaving: &[Leaving],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let left = self.act(name, now, |group, scene| Ok(group.leave(leaving, scene)));
        left.map_err(member_error)
    }

    /// May this one commit offsets now? Whoever is in no group may while the group has no members.
    pub fn handle_commit(&mut self, now: Now, name: &str, who: &MemberRef) -> Result<(), GroupError> {
        match self.act(name, now, |group, scene| group.check_commit(who, scene)) {
            Err(GroupError::UnknownGroup) if who.generation < 0 => Ok(()),
            result => result,
        }
    }

    /// Only a group without members can go.
    pub fn check_delete(&self, name: &str) -> Result<(), GroupError> {
        let key = self.key(name)?;
        if self.groups[&key].is_empty() { Ok(()) } else { Err(GroupError::NotEmpty) }
    }

    /// The group is gone, and the caller stores that. Nobody waits for it, since it has no members.
    pub fn forget(&mut self, name: &str) {
        if let Some(key) = self.names.remove(name)
            && let Some(group) = self.groups.remove(&key)
        {
            self.held_bytes -= group.held_bytes();
        }
    }

    /// May the offsets of these topics be deleted?
    pub fn check_offset_delete<'a>(
        &self,
        name: &str,
        topics: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let Some(group) = self.find(name) else { return Ok(topics.map(|_| Ok(())).collect()) };
        if !group.is_empty() && !group.reads_topics() {
            return Err(GroupError::NotEmpty);
        }
        let check = |topic| if group.is_subscribed(topic) { Err(GroupError::Subscribed) } else { Ok(()) };
        Ok(topics.map(check).collect())
    }

    // --- What happens. ---

    /// When [`Groups::on_time`] has something to do.
    pub fn deadline(&self) -> Option<Nanos> {
        self.timers.next().filter(|_| self.stopped.is_none())
    }

    pub fn on_time(&mut self, now: Now) {
        if self.stopped.is_some() {
            return;
        }
        while let Some((at, key, timer)) = self.timers.pop(now.mono) {
            self.with(key, now, |group, scene| group.on_timer(timer, at, scene));
        }
    }

    pub fn on_stored(&mut self, now: Now, id: StoreId, stored: Result<(), GroupError>) {
        self.with(id.group, now, |group, scene| group.on_stored(id, stored, scene));
    }

    /// No group goes on: everybody who waits is told why, and so is whoever comes.
    pub fn stop(&mut self, now: Now, why: &GroupError) {
        if self.stopped.replace(why.clone()).is_some() {
            return;
        }
        let keys: Vec<GroupKey> = self.names.values().copied().collect();
        for key in keys {
            self.with(key, now, |group, scene| group.release(why, scene));
        }
    }

    pub fn poll_action(&mut self) -> Option<Action<W>> {
        self.actions.pop_front()
    }

    // --- What tools see, and what retention asks. ---

    /// All groups, by name.
    pub fn list(&self) -> impl Iterator<Item = Listed> {
        self.names.iter().map(|(name, key)| {
            let group = &self.groups[key];
            let protocol_type = group.protocol_type.clone();
            Listed { group: name.to_string(), protocol_type, state: group.state() }
        })
    }

    pub fn count(&self) -> usize {
        self.names.len()
    }

    pub fn describe(&self, name: &str) -> Option<Described> {
        self.find(name).map(Group::describe)
    }

    /// Names from this one on, in order.
    pub fn names_from(&self, from: &str) -> impl Iterator<Item = &str> {
        let from = (Bound::Included(from), Bound::Unbounded);
        self.names.range::<str, _>(from).map(|(name, _)| &**name)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Since when the group has had no members, by the wall clock; `None` while it has some. Groups that nobody ever
    /// joined have had none for ever.
    pub fn empty_since(&self, name: &str) -> Option<WallMs> {
        match self.find(name).map(|group| group.phase) {
            None => Some(WallMs(i64::MIN)),
            Some(Phase::Empty { since, .. }) => Some(since),
            Some(_) => None,
        }
    }

    /// How long the group has had no members, as far as this process knows, whatever the wall clock was set
    /// to meanwhile. `None` while it has some, and of groups that nobody ever joined.
    pub fn empty_for(&self, name: &str, now: Nanos) -> Option<Duration> {
        match self.find(name)?.phase {
            Phase::Empty { began, .. } => Some(Duration::from_nanos(now.since(began))),
            _ => None,
        }
    }

    /// Whether members may be reading the topic, so that what was committed for it is in use.
    pub fn is_subscribed(&self, name: &str, topic: &str) -> bool {
        self.find(name).is_some_and(|group| group.phase != Phase::Stable || group.is_subscribed(topic))
    }
}

/// To members, a group that is not there is one that does not know them.
fn member_error(error: GroupError) -> GroupError {
    if error == GroupError::UnknownGroup { GroupError::UnknownMember } else { error }
}
