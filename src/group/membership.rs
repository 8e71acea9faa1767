//! Who is in a group: members come and go, say that they are there, and are asked who they are.

use std::hash::Hash;

use rustc_hash::FxHashMap;

use super::call::{GroupError, Leaving, MemberRef};
use super::coordinator::Action;
use super::machine::{Group, Phase, Scene};
use super::member::Member;
use super::timers::{MemberKey, Timer, session_end};
use crate::base::mutant::{self, Mutant};

/// A map keeps the room that it once had, and a group would hold more than is counted, when many have left or said
/// many names. At a quarter, so that each removal pays for a few moves.
fn give_back<K: Eq + Hash, V>(map: &mut FxHashMap<K, V>) {
    if map.capacity() > 4 * map.len() + 16 {
        map.shrink_to(2 * map.len());
    }
}

impl<W: Copy> Group<W> {
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
        self.members.insert(key, Box::new(member));
        key
    }

    /// Take a member out; requests of it that wait hear that it is unknown.
    pub fn remove(&mut self, key: MemberKey, scene: &mut Scene<'_, W>) {
        let Some(member) = self.members.remove(&key) else { return };
        self.bytes -= member.bytes();
        self.forget_protocols(&member);
        self.ids.remove(&member.id);
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        give_back(&mut self.ids);
        give_back(&mut self.instances);
        self.turn_away(key, &GroupError::UnknownMember, scene);
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
        give_back(&mut self.supported);
    }

    pub fn remove_pending(&mut self, key: MemberKey) {
        if let Some((id, _)) = self.pending.remove(&key) {
            self.ids.remove(&id);
            give_back(&mut self.ids);
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

    pub fn validate_generation(&self, who: &MemberRef) -> Result<MemberKey, GroupError> {
        let key = self.validate(&who.member, who.instance.as_deref())?;
        if who.generation == self.generation { Ok(key) } else { Err(GroupError::IllegalGeneration) }
    }

    /// The member was heard of: its session begins anew.
    pub fn touch(&mut self, key: MemberKey, scene: &mut Scene<'_, W>) {
        let Some(member) = self.members.get_mut(&key) else { return };
        let at = session_end(scene.now.mono, member.said.session_timeout);
        if let Some(at) = member.session.set(at) {
            scene.timers.arm(at, self.key, Timer::Member(key));
        }
    }

    pub fn id_of_leader(&self) -> &str {
        self.leader.map_or("", |leader| &*self.members[&leader].id)
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
        let members = self.members.len();
        let results: Vec<_> = leaving.iter().map(|one| self.leave_one(one, scene)).collect();
        if self.members.len() < members {
            self.rebalance(scene);
        } else {
            self.miss_invited(scene);
        }
        results
    }

    /// Who was invited and is not to come was no member: a rebalance that waits for it can go on, and else nobody
    /// has to know.
    pub fn miss_invited(&mut self, scene: &mut Scene<'_, W>) {
        if let Phase::Preparing { .. } = self.phase {
            self.rebalance(scene);
        }
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

    pub fn on_silence(&mut self, key: MemberKey, scene: &mut Scene<'_, W>) {
        if mutant::is(Mutant::ForgetSilence) {
            return;
        }
        if let Some(member) = self.members.get(&key) {
            let is_newcomer = || self.newcomers.iter().any(|newcomer| newcomer.member == key);
            let waits = member.joining.is_some() || member.syncing.is_some() || is_newcomer();
            if waits && !member.is_new {
                // It is the group that is slow.
                self.touch(key, scene);
                return;
            }
            self.remove(key, scene);
            self.rebalance(scene);
        } else {
            self.remove_pending(key);
            self.miss_invited(scene);
        }
    }
}
