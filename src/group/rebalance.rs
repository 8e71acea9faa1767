//! From one generation to the next: everybody joins, or time is up; then the leader is told who is there.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::call::{GroupError, Joined, JoinedMember};
use super::coordinator::Action;
use super::machine::{FirstRebalance, Group, Phase, Scene};
use super::member::Member;
use super::timers::{MemberKey, Timer};
use crate::base::mutant::{self, Mutant};
use crate::model::Nanos;

/// Static members of whom none is back are looked for no more often: they may have asked that a rebalance wait
/// for no time at all, and that would be without end.
const STATIC_WAIT_MIN: Duration = Duration::from_secs(1);

impl<W: Copy> Group<W> {
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

    fn rebalance_timeout(&self) -> Duration {
        let timeouts = self.members.values().map(|member| member.said.rebalance_timeout);
        timeouts.max().unwrap_or_default()
    }

    pub fn prepare(&mut self, scene: &mut Scene<'_, W>) {
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

    /// Nobody is missing? A first rebalance waits all the same.
    fn try_complete(&mut self, scene: &mut Scene<'_, W>) {
        let everybody = self.joining == self.members.len() && self.pending.is_empty();
        if everybody && self.phase == (Phase::Preparing { first: None }) {
            self.complete_join(scene);
        }
    }

    /// A new generation of those who have joined, and of static members, who may be restarting: these may
    /// come to it later.
    fn complete_join(&mut self, scene: &mut Scene<'_, W>) {
        let missing = |member: &Member<W>| member.joining.is_none() && member.instance.is_none();
        let gone: Vec<MemberKey> =
            self.members.iter().filter(|(_, member)| missing(member)).map(|(key, _)| *key).collect();
        for key in gone {
            self.remove(key, scene);
        }
        if self.joining == 0 && !self.members.is_empty() {
            // Static members alone, and none is back, or its id is not stored yet: until one is, or their
            // sessions end.
            self.phase = Phase::Preparing { first: None };
            let wait = self.rebalance_timeout().max(STATIC_WAIT_MIN);
            self.wait_until(scene.now.mono.plus(wait), scene);
            return;
        }
        if !mutant::is(Mutant::KeepGeneration) || self.generation == 0 {
            self.generation = self.generation.checked_add(1).unwrap_or(1);
        }
        if self.members.is_empty() {
            self.phase = Phase::Empty { since: scene.now.wall, began: scene.now.mono };
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
        let common = |name: &str| {
            self.supported.get(name) == Some(&self.members.len()) || mutant::is(Mutant::ChooseUnsupported)
        };
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
        let members = if with_members {
            self.members.values().map(|member| seen(member)).collect()
        } else {
            Vec::new()
        };
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

    pub fn on_phase_over(&mut self, scene: &mut Scene<'_, W>) {
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
}
