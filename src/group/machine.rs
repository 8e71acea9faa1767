//! One group: its phases, from the first join to the last leave. Joins are judged in [`super::join`].

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::GroupRules;
use super::call::{
    Described, DescribedMember, GroupError, Joined, JoinedMember, Leaving, MemberRef, StateName, SyncCall,
    Synced,
};
use super::coordinator::{Action, StoreId};
use super::member::Member;
use super::record::{MemberRecord, StateRecord};
use super::subscription;
use super::timers::{Deadline, Due, GroupKey, MemberKey, Timer, Timers};
use crate::base::mutant::{self, Mutant};
use crate::model::{Nanos, Now, WallMs};

/// The protocol type of groups that read topics.
const CONSUMER: &str = "consumer";

/// Where a group is in its life; the picture is in [`super`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Empty {
        since: WallMs,
    },
    /// Members join. `Some`: the group was empty, and more members may be starting up.
    Preparing {
        first: Option<FirstRebalance>,
    },
    /// Everybody has joined; the leader assigns.
    Completing,
    Stable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstRebalance {
    /// The wait is not extended beyond this.
    pub until: Nanos,
    /// Somebody came since the wait was last extended.
    pub somebody_came: bool,
}

/// The leader's assignments, until they are durable.
#[derive(Debug)]
struct Storing {
    id: StoreId,
    assignments: FxHashMap<MemberKey, Bytes>,
}

/// A static member that came back under a new id, and hears so when that is durable.
#[derive(Debug)]
pub(super) struct Replacement<W> {
    pub id: StoreId,
    pub member: MemberKey,
    pub who: W,
    /// Who it was before, if it led: a leader that cannot skip the assignment must believe that it
    /// does not lead.
    pub led_as: Option<Box<str>>,
    pub can_skip: bool,
}

/// What a group's functions work with.
pub(super) struct Scene<'a, W> {
    pub now: Now,
    pub rules: &'a GroupRules,
    pub actions: &'a mut VecDeque<Action<W>>,
    pub timers: &'a mut Timers,
    pub next_store: &'a mut u64,
}

#[derive(Debug)]
pub(super) struct Group<W> {
    pub name: Box<str>,
    pub key: GroupKey,
    pub phase: Phase,
    pub generation: i32,
    /// Of the members, or of those that left last.
    pub protocol_type: String,
    pub protocol: Option<String>,
    pub leader: Option<MemberKey>,
    /// By age.
    pub members: BTreeMap<MemberKey, Member<W>>,
    /// Of members and of those pending.
    pub ids: FxHashMap<Box<str>, MemberKey>,
    pub instances: FxHashMap<Box<str>, MemberKey>,
    /// Who was given an id and is to come again with it.
    pub pending: BTreeMap<MemberKey, (Box<str>, Deadline)>,
    pub next_member: u64,
    /// How many members know each protocol.
    pub supported: FxHashMap<String, usize>,
    /// How many members take part in the next generation already.
    pub joining: usize,
    /// How many members have not yet asked for their assignment in this generation.
    unsynced: usize,
    /// What the members take of the group's budget.
    pub bytes: usize,
    deadline: Deadline,
    storing: Option<Storing>,
    pub replacements: Vec<Replacement<W>>,
}

impl<W: Copy> Group<W> {
    pub fn new(name: Box<str>, key: GroupKey, now: Now) -> Group<W> {
        Group {
            name,
            key,
            phase: Phase::Empty { since: now.wall },
            generation: 0,
            protocol_type: String::new(),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            ids: FxHashMap::default(),
            instances: FxHashMap::default(),
            pending: BTreeMap::new(),
            next_member: 0,
            supported: FxHashMap::default(),
            joining: 0,
            unsynced: 0,
            bytes: 0,
            deadline: Deadline::default(),
            storing: None,
            replacements: Vec::new(),
        }
    }

    /// The group as it was stored. Its members have their whole session to say that they are there.
    pub fn restore(&mut self, record: StateRecord, scene: &mut Scene<'_, W>) {
        self.generation = record.generation;
        self.protocol_type = record.protocol_type;
        self.protocol = record.protocol;
        for stored in record.members {
            let MemberRecord { id, instance, said, assignment } = stored;
            let is_leader = record.leader.as_deref() == Some(&*id);
            let mut member = Member::new(id.into(), instance.map(Box::from), said);
            member.assignment = assignment;
            member.synced_in = record.generation;
            let member = self.insert(member);
            if is_leader {
                self.leader = Some(member);
            }
            if !mutant::is(Mutant::ForgetRestoredSessions) {
                self.touch(member, scene);
            }
        }
        self.phase =
            if self.members.is_empty() { Phase::Empty { since: record.since } } else { Phase::Stable };
    }

    /// Nothing would be lost with it.
    pub fn is_blank(&self) -> bool {
        self.generation == 0 && self.is_empty() && self.pending.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.phase, Phase::Empty { .. })
    }

    // --- Members. ---

    pub fn insert(&mut self, member: Member<W>) -> MemberKey {
        let key = MemberKey(self.next_member);
        self.next_member += 1;
        self.bytes += member.bytes();
        for (protocol, _) in &member.said.protocols {
            *self.supported.entry(protocol.clone()).or_default() += 1;
        }
        self.joining += usize::from(member.joining.is_some());
        self.ids.insert(member.id.clone(), key);
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), key);
        }
        self.leader.get_or_insert(key);
        self.members.insert(key, member);
        key
    }

    /// Take a member out; requests of it that wait hear that it is unknown.
    fn remove(&mut self, key: MemberKey, scene: &mut Scene<'_, W>) {
        let Some(member) = self.members.remove(&key) else { return };
        self.bytes -= member.bytes();
        self.forget_protocols(&member);
        self.ids.remove(&member.id);
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        if let Some(who) = member.joining {
            self.joining -= 1;
            scene.actions.push_back(Action::Join(who, Err(GroupError::UnknownMember)));
        }
        if let Some(who) = member.syncing {
            scene.actions.push_back(Action::Sync(who, Err(GroupError::UnknownMember)));
        }
        if matches!(self.phase, Phase::Completing | Phase::Stable) && member.synced_in != self.generation {
            self.unsynced -= 1;
        }
        if self.leader == Some(key) {
            self.leader = self.members.keys().next().copied();
        }
    }

    pub fn forget_protocols(&mut self, member: &Member<W>) {
        for (protocol, _) in &member.said.protocols {
            if let Some(count) = self.supported.get_mut(protocol) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(protocol);
                }
            }
        }
    }

    pub fn remove_pending(&mut self, key: MemberKey) {
        if let Some((id, _)) = self.pending.remove(&key) {
            self.ids.remove(&id);
        }
    }

    /// Who asks, if it is who it says.
    pub fn validate(&self, member: &str, instance: Option<&str>) -> Result<MemberKey, GroupError> {
        if let Some(instance) = instance {
            let known = self.instances.get(instance).ok_or(GroupError::UnknownMember)?;
            if *self.members[known].id != *member && !mutant::is(Mutant::AdmitReplacedMember) {
                return Err(GroupError::FencedInstance);
            }
        }
        let key = self.ids.get(member).ok_or(GroupError::UnknownMember)?;
        if self.members.contains_key(key) { Ok(*key) } else { Err(GroupError::UnknownMember) }
    }

    fn validate_generation(&self, who: &MemberRef) -> Result<MemberKey, GroupError> {
        let key = self.validate(&who.member, who.instance.as_deref())?;
        if who.generation == self.generation { Ok(key) } else { Err(GroupError::IllegalGeneration) }
    }

    /// The member was heard of: its session begins anew.
    pub fn touch(&mut self, key: MemberKey, scene: &mut Scene<'_, W>) {
        let Some(member) = self.members.get_mut(&key) else { return };
        let at = scene.now.mono.plus(member.said.session_timeout);
        if let Some(at) = member.session.set(at) {
            scene.timers.arm(at, self.key, Timer::Member(key));
        }
    }

    fn id_of_leader(&self) -> &str {
        self.leader.map_or("", |leader| &*self.members[&leader].id)
    }

    // --- Rebalances. ---

    /// The members have changed: begin a rebalance, or see whether the one under way can end.
    pub fn rebalance(&mut self, scene: &mut Scene<'_, W>) {
        match self.phase {
            Phase::Preparing { .. } => self.try_complete(scene),
            Phase::Empty { .. } | Phase::Completing | Phase::Stable => self.prepare(scene),
        }
    }

    fn wait_until(&mut self, at: Nanos, scene: &mut Scene<'_, W>) {
        if let Some(at) = self.deadline.set(at) {
            scene.timers.arm(at, self.key, Timer::Phase);
        }
    }

    fn rebalance_timeout(&self) -> std::time::Duration {
        let timeouts = self.members.values().map(|member| member.said.rebalance_timeout);
        timeouts.max().unwrap_or_default()
    }

    fn prepare(&mut self, scene: &mut Scene<'_, W>) {
        if self.phase == Phase::Completing {
            self.fail_syncing(&GroupError::RebalanceInProgress, scene);
        }
        self.storing = None;
        self.unsynced = 0;
        let now = scene.now.mono;
        let timeout = self.rebalance_timeout();
        if self.is_empty() {
            let delay = scene.rules.initial_delay;
            let until = now.plus(timeout.max(delay));
            self.phase = Phase::Preparing { first: Some(FirstRebalance { until, somebody_came: false }) };
            self.wait_until(now.plus(delay), scene);
            return;
        }
        self.phase = Phase::Preparing { first: None };
        self.wait_until(now.plus(timeout), scene);
        self.try_complete(scene);
    }

    fn fail_syncing(&mut self, error: &GroupError, scene: &mut Scene<'_, W>) {
        for member in self.members.values_mut() {
            if let Some(who) = member.syncing.take() {
                scene.actions.push_back(Action::Sync(who, Err(error.clone())));
            }
        }
    }

    /// Nobody is missing? A first rebalance waits all the same.
    fn try_complete(&mut self, scene: &mut Scene<'_, W>) {
        let everybody = self.joining == self.members.len() && self.pending.is_empty();
        if everybody && self.phase == (Phase::Preparing { first: None }) {
            self.complete_join(scene);
        }
    }

    /// A new generation of those who have joined, and of static members, who may be restarting.
    fn complete_join(&mut self, scene: &mut Scene<'_, W>) {
        let missing = |member: &Member<W>| member.joining.is_none() && member.instance.is_none();
        let gone: Vec<MemberKey> =
            self.members.iter().filter(|(_, member)| missing(member)).map(|(key, _)| *key).collect();
        for key in gone {
            self.remove(key, scene);
        }
        if self.joining == 0 && !self.members.is_empty() {
            // Static members alone, and none is back: until one is, or their sessions end.
            self.wait_until(scene.now.mono.plus(self.rebalance_timeout()), scene);
            return;
        }
        if !mutant::is(Mutant::KeepGeneration) || self.generation == 0 {
            self.generation = self.generation.checked_add(1).unwrap_or(1);
        }
        if self.members.is_empty() {
            self.phase = Phase::Empty { since: scene.now.wall };
            self.protocol = None;
            self.deadline.clear();
            self.store(&FxHashMap::default(), scene);
            return;
        }
        if self.leader.is_none_or(|leader| self.members[&leader].joining.is_none()) {
            self.leader = self.members.iter().find(|(_, m)| m.joining.is_some()).map(|(key, _)| *key);
        }
        self.protocol = self.choose_protocol();
        self.phase = Phase::Completing;
        self.unsynced = self.members.len();
        self.wait_until(scene.now.mono.plus(self.rebalance_timeout()), scene);
        let joined: Vec<MemberKey> = self.members.keys().copied().collect();
        for key in joined {
            let Some(who) = self.take_joining(key) else { continue };
            let joined = self.joined(key, self.leader == Some(key));
            scene.actions.push_back(Action::Join(who, Ok(joined)));
            self.touch(key, scene);
        }
    }

    pub fn take_joining(&mut self, key: MemberKey) -> Option<W> {
        let member = self.members.get_mut(&key)?;
        let who = member.joining.take()?;
        member.is_new = false;
        self.joining -= 1;
        Some(who)
    }

    /// The protocol that everybody knows and most prefer; among equals what the leader prefers.
    pub fn choose_protocol(&self) -> Option<String> {
        let common = |name: &str| self.supported.get(name) == Some(&self.members.len());
        let mut votes: FxHashMap<&str, usize> = FxHashMap::default();
        for member in self.members.values() {
            let favourite = member.said.protocols.iter().find(|(name, _)| common(name));
            if let Some((name, _)) = favourite {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max()?;
        let leader = &self.members[&self.leader?];
        let mut chosen = leader.said.protocols.iter().map(|(name, _)| name);
        chosen.find(|name| votes.get(name.as_str()) == Some(most)).cloned()
    }

    /// What a member hears of the present generation.
    pub fn joined(&self, key: MemberKey, with_members: bool) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let seen = |member: &Member<W>| JoinedMember {
            member: member.id.to_string(),
            instance: member.instance.as_deref().map(str::to_owned),
            metadata: member.said.metadata(&protocol).cloned().unwrap_or_default(),
        };
        let members = if with_members { self.members.values().map(seen).collect() } else { Vec::new() };
        Joined {
            member: self.members[&key].id.to_string(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            leader: self.id_of_leader().to_owned(),
            members,
            skip_assignment: false,
            protocol,
        }
    }

    // --- Assignments. ---

    /// `Ok(None)`: the answer comes when the assignments are durable.
    pub fn sync(
        &mut self,
        sync: SyncCall,
        who: W,
        scene: &mut Scene<'_, W>,
    ) -> Result<Option<Synced>, GroupError> {
        let key = if mutant::is(Mutant::SyncStaleGeneration) {
            self.validate(&sync.who.member, sync.who.instance.as_deref())?
        } else {
            self.validate_generation(&sync.who)?
        };
        let differs = |said: Option<String>, is: &str| said.is_some_and(|said| said != is);
        if differs(sync.protocol_type, &self.protocol_type)
            || differs(sync.protocol, self.protocol.as_deref().unwrap_or_default())
        {
            return Err(GroupError::InconsistentProtocol);
        }
        match self.phase {
            Phase::Empty { .. } => Err(GroupError::UnknownMember),
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Stable => {
                self.note_synced(key);
                self.touch(key, scene);
                Ok(Some(self.synced(key)))
            }
            Phase::Completing => {
                let leads = self.leader == Some(key) || mutant::is(Mutant::AssignByAnyone);
                let assigns = leads && self.storing.is_none();
                let assignments =
                    if assigns { Some(self.check_assignments(sync.assignments, scene)?) } else { None };
                self.note_synced(key);
                let member = self.members.get_mut(&key).expect("validated above");
                if let Some(earlier) = member.syncing.replace(who) {
                    scene.actions.push_back(Action::Sync(earlier, Err(GroupError::RebalanceInProgress)));
                }
                if let Some(assignments) = assignments {
                    let id = self.store(&assignments, scene);
                    self.storing = Some(Storing { id, assignments });
                    if mutant::is(Mutant::HandOutUnstored) {
                        self.on_stored(id, Ok(()), scene);
                    }
                }
                Ok(None)
            }
        }
    }

    fn check_assignments(
        &self,
        given: Vec<(String, Bytes)>,
        scene: &Scene<'_, W>,
    ) -> Result<FxHashMap<MemberKey, Bytes>, GroupError> {
        let given = given.into_iter();
        let known = given.filter_map(|(id, bytes)| Some((*self.ids.get(id.as_str())?, bytes)));
        let assignments: FxHashMap<MemberKey, Bytes> = known.collect();
        let old: usize = self.members.values().map(|member| member.assignment.len()).sum();
        let new: usize = assignments.values().map(Bytes::len).sum();
        if self.bytes - old + new > scene.rules.bytes_max {
            return Err(GroupError::AssignmentTooLarge);
        }
        Ok(assignments)
    }

    fn note_synced(&mut self, key: MemberKey) {
        let member = self.members.get_mut(&key).expect("the caller has validated it");
        if member.synced_in != self.generation {
            member.synced_in = self.generation;
            self.unsynced -= 1;
        }
        if self.unsynced == 0 {
            self.deadline.clear();
        }
    }

    fn synced(&self, key: MemberKey) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: self.members[&key].assignment.clone(),
        }
    }

    /// Have the group written as it would be with these assignments.
    fn store(&mut self, assignments: &FxHashMap<MemberKey, Bytes>, scene: &mut Scene<'_, W>) -> StoreId {
        let members = self.members.iter().map(|(key, member)| MemberRecord {
            id: member.id.to_string(),
            instance: member.instance.as_deref().map(str::to_owned),
            said: member.said.clone(),
            assignment: assignments.get(key).cloned().unwrap_or_default(),
        });
        let record = StateRecord {
            since: scene.now.wall,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.map(|leader| self.members[&leader].id.to_string()),
            members: members.collect(),
        };
        let id = StoreId { group: self.key, number: *scene.next_store };
        *scene.next_store += 1;
        scene.actions.push_back(Action::Store { id, record: record.encode(&self.name) });
        id
    }

    /// Have the group written as it is.
    pub fn store_again(&mut self, scene: &mut Scene<'_, W>) -> StoreId {
        let assignments = self.members.iter().map(|(key, member)| (*key, member.assignment.clone()));
        let assignments = assignments.collect();
        self.store(&assignments, scene)
    }

    /// What was to be stored is durable, or was not taken.
    pub fn on_stored(&mut self, id: StoreId, stored: Result<(), GroupError>, scene: &mut Scene<'_, W>) {
        self.answer_replacements(id, &stored, scene);
        let Some(storing) = self.storing.take_if(|storing| storing.id == id) else { return };
        assert_eq!(self.phase, Phase::Completing, "leaving the phase gives the assignments up");
        if let Err(error) = stored {
            self.fail_syncing(&error, scene);
            self.prepare(scene);
            return;
        }
        self.phase = Phase::Stable;
        let Storing { mut assignments, .. } = storing;
        let keys: Vec<MemberKey> = self.members.keys().copied().collect();
        for key in keys {
            let member = self.members.get_mut(&key).expect("listed above");
            let assignment = assignments.remove(&key).unwrap_or_default();
            self.bytes = self.bytes + assignment.len() - member.assignment.len();
            member.assignment = assignment;
            if let Some(who) = member.syncing.take() {
                scene.actions.push_back(Action::Sync(who, Ok(self.synced(key))));
                self.touch(key, scene);
            }
        }
    }

    fn answer_replacements(
        &mut self,
        id: StoreId,
        stored: &Result<(), GroupError>,
        scene: &mut Scene<'_, W>,
    ) {
        let mut index = 0;
        while index < self.replacements.len() {
            if self.replacements[index].id != id {
                index += 1;
                continue;
            }
            let Replacement { member, who, led_as, can_skip, .. } = self.replacements.remove(index);
            let answer = match stored {
                Err(error) => Err(error.clone()),
                Ok(()) if !self.members.contains_key(&member) => Err(GroupError::UnknownMember),
                Ok(()) => {
                    let leads = self.leader == Some(member);
                    let mut joined = self.joined(member, leads && can_skip);
                    joined.skip_assignment = leads && can_skip;
                    if let Some(before) = led_as.filter(|_| leads && !can_skip) {
                        joined.leader = before.into();
                    }
                    Ok(joined)
                }
            };
            scene.actions.push_back(Action::Join(who, answer));
        }
    }

    // --- Staying and leaving. ---

    pub fn heartbeat(&mut self, who: &MemberRef, scene: &mut Scene<'_, W>) -> Result<(), GroupError> {
        let key = self.validate_generation(who)?;
        match self.phase {
            Phase::Empty { .. } => Err(GroupError::UnknownMember),
            Phase::Preparing { .. } => {
                self.touch(key, scene);
                Err(GroupError::RebalanceInProgress)
            }
            Phase::Completing | Phase::Stable => {
                self.touch(key, scene);
                Ok(())
            }
        }
    }

    /// One result for each who leaves.
    pub fn leave(&mut self, leaving: &[Leaving], scene: &mut Scene<'_, W>) -> Vec<Result<(), GroupError>> {
        let results: Vec<_> = leaving.iter().map(|one| self.leave_one(one, scene)).collect();
        if results.iter().any(Result::is_ok) && !self.is_empty() {
            self.rebalance(scene);
        }
        results
    }

    fn leave_one(&mut self, one: &Leaving, scene: &mut Scene<'_, W>) -> Result<(), GroupError> {
        if let Some(key) = self.ids.get(one.member.as_str()).copied()
            && self.pending.contains_key(&key)
        {
            self.remove_pending(key);
            return Ok(());
        }
        let key = match (one.member.as_str(), &one.instance) {
            ("", Some(instance)) => {
                *self.instances.get(instance.as_str()).ok_or(GroupError::UnknownMember)?
            }
            (member, instance) => self.validate(member, instance.as_deref())?,
        };
        if !mutant::is(Mutant::KeepLeaver) {
            self.remove(key, scene);
        }
        Ok(())
    }

    /// May this one commit offsets? Doing so counts as a heartbeat.
    pub fn check_commit(&mut self, who: &MemberRef, scene: &mut Scene<'_, W>) -> Result<(), GroupError> {
        if who.generation < 0 && self.is_empty() {
            return Ok(());
        }
        // Tools and consumers without a group: only while it has no members.
        if who.generation < 0 && who.member.is_empty() && who.instance.is_none() {
            return Err(GroupError::UnknownMember);
        }
        let key = if mutant::is(Mutant::CommitStaleGeneration) {
            self.validate(&who.member, who.instance.as_deref())?
        } else {
            self.validate_generation(who)?
        };
        if self.phase == Phase::Completing {
            return Err(GroupError::RebalanceInProgress);
        }
        self.touch(key, scene);
        Ok(())
    }

    // --- Time. ---

    pub fn on_timer(&mut self, timer: Timer, at: Nanos, scene: &mut Scene<'_, W>) {
        let now = scene.now.mono;
        let deadline = match timer {
            Timer::Phase => &mut self.deadline,
            Timer::Member(key) => match (self.members.get_mut(&key), self.pending.get_mut(&key)) {
                (Some(member), _) => &mut member.session,
                (None, Some((_, deadline))) => deadline,
                (None, None) => return,
            },
        };
        match (deadline.on_due(at, now), timer) {
            (Due::Never, _) => {}
            (Due::Later(at), timer) => scene.timers.arm(at, self.key, timer),
            (Due::Now, Timer::Phase) => self.on_phase_over(scene),
            (Due::Now, Timer::Member(key)) => self.on_silence(key, scene),
        }
    }

    fn on_phase_over(&mut self, scene: &mut Scene<'_, W>) {
        match self.phase {
            Phase::Empty { .. } => {}
            Phase::Preparing { first: Some(FirstRebalance { until, somebody_came: true }) }
                if until > scene.now.mono =>
            {
                self.phase = Phase::Preparing { first: Some(FirstRebalance { until, somebody_came: false }) };
                self.wait_until(until.min(scene.now.mono.plus(scene.rules.initial_delay)), scene);
            }
            Phase::Preparing { .. } => self.complete_join(scene),
            // Who did not ask for its assignment is not there.
            Phase::Completing | Phase::Stable => {
                let silent = self.members.iter().filter(|(_, member)| member.synced_in != self.generation);
                let silent: Vec<MemberKey> = silent.map(|(key, _)| *key).collect();
                for key in silent {
                    self.remove(key, scene);
                }
                self.prepare(scene);
            }
        }
    }

    fn on_silence(&mut self, key: MemberKey, scene: &mut Scene<'_, W>) {
        if mutant::is(Mutant::ForgetSilence) {
            return;
        }
        if let Some(member) = self.members.get(&key) {
            let waits = member.joining.is_some() || member.syncing.is_some();
            if waits && !member.is_new {
                // It is the group that is slow.
                self.touch(key, scene);
                return;
            }
            self.remove(key, scene);
        } else {
            self.remove_pending(key);
        }
        if !self.is_empty() {
            self.rebalance(scene);
        }
    }

    /// Nobody waits any longer.
    pub fn release(&mut self, why: &GroupError, scene: &mut Scene<'_, W>) {
        self.fail_syncing(why, scene);
        for member in self.members.values_mut() {
            if let Some(who) = member.joining.take() {
                scene.actions.push_back(Action::Join(who, Err(why.clone())));
            }
        }
        self.joining = 0;
        for Replacement { who, .. } in self.replacements.drain(..) {
            scene.actions.push_back(Action::Join(who, Err(why.clone())));
        }
    }

    // --- What tools see. ---

    pub fn state(&self) -> StateName {
        match self.phase {
            Phase::Empty { .. } => StateName::Empty,
            Phase::Preparing { .. } => StateName::Preparing,
            Phase::Completing => StateName::Completing,
            Phase::Stable => StateName::Stable,
        }
    }

    pub fn describe(&self) -> Described {
        let stable = self.phase == Phase::Stable;
        let protocol = self.protocol.clone().filter(|_| stable).unwrap_or_default();
        let members = self.members.values().map(|member| DescribedMember {
            member: member.id.to_string(),
            instance: member.instance.as_deref().map(str::to_owned),
            client_id: member.said.client_id.clone(),
            client_host: member.said.client_host.clone(),
            metadata: member.said.metadata(&protocol).filter(|_| stable).cloned().unwrap_or_default(),
            assignment: if stable { member.assignment.clone() } else { Bytes::new() },
        });
        Described {
            state: self.state(),
            protocol_type: self.protocol_type.clone(),
            members: members.collect(),
            protocol,
        }
    }

    /// Whether members may be reading the topic.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let Some(protocol) = self.protocol.as_deref().filter(|_| self.protocol_type == CONSUMER) else {
            return !self.members.is_empty();
        };
        let mut said = self.members.values().map(|member| member.said.metadata(protocol));
        said.any(|metadata| metadata.is_none_or(|bytes| subscription::may_contain(bytes, topic)))
    }

    /// Members of a kind whose subscriptions are understood.
    pub fn reads_topics(&self) -> bool {
        self.protocol_type == CONSUMER
    }
}
