//! Joining a group: who is let in, who must come again, and for whom the group is rebalanced.

use std::time::Duration;

use super::call::{GroupError, JoinCall, Joined};
use super::coordinator::Action;
use super::machine::{Group, Phase, Scene};
use super::member::{Member, Said};
use super::timers::{Deadline, MemberKey, Timer};
use crate::base::mutant::{self, Mutant};

/// A new member sends no heartbeats before it is told its id, and nobody hears when its connection
/// breaks: after this time it counts as gone.
const NEW_MEMBER_PATIENCE: Duration = Duration::from_secs(300);

impl<W: Copy> Group<W> {
    /// `Ok(None)`: the answer comes when everybody has joined. `new_id` is for somebody new.
    pub fn join(
        &mut self,
        join: JoinCall,
        new_id: String,
        who: W,
        scene: &mut Scene<'_, W>,
    ) -> Result<Option<Joined>, GroupError> {
        self.check_room(&join, scene)?;
        self.check_protocols(&join)?;
        if join.member.is_empty() {
            return match join.instance.as_deref().map(|instance| self.instances.get(instance).copied()) {
                Some(Some(known)) => self.replace(known, join, new_id, who, scene),
                None if join.needs_id => Err(self.invite(&join, new_id, scene)),
                Some(None) | None => self.add(new_id, join, who, scene),
            };
        }
        if let Some(key) = self.ids.get(join.member.as_str()).copied()
            && self.pending.contains_key(&key)
        {
            if join.instance.is_some() {
                // Nobody was invited under an instance id, which another may have.
                return Err(GroupError::UnknownMember);
            }
            let id = join.member.clone();
            self.remove_pending(key);
            let joined = self.add(id, join, who, scene);
            if joined.is_err() {
                // It is forgotten, also where it may come again: the others would wait for one who may find no room
                // then either. Whoever comes again with its id is unknown, begins without one, and loses nothing.
                self.miss_invited(scene);
            }
            return joined;
        }
        let key = self.validate(&join.member, join.instance.as_deref())?;
        self.rejoin(key, join, who, scene)
    }

    /// May one more take part?
    fn check_room(&self, join: &JoinCall, scene: &Scene<'_, W>) -> Result<(), GroupError> {
        let key = match &join.instance {
            Some(instance) if join.member.is_empty() => self.instances.get(instance.as_str()),
            _ => self.ids.get(join.member.as_str()),
        };
        let member = key.and_then(|key| self.members.get(key));
        let taken = match self.phase {
            Phase::Preparing { .. } if member.is_none_or(|member| member.joining.is_none()) => {
                let others = self.newcomers.iter().filter(|newcomer| Some(&newcomer.member) != key);
                self.joining + others.count()
            }
            _ if member.is_some() => return Ok(()),
            _ => self.members.len(),
        };
        if taken < scene.rules.members_max { Ok(()) } else { Err(GroupError::GroupFull) }
    }

    fn check_protocols(&self, join: &JoinCall) -> Result<(), GroupError> {
        let fits = if self.members.is_empty() {
            !join.protocol_type.is_empty() && !join.protocols.is_empty()
        } else {
            let common = |name: &str| self.supported.get(name) == Some(&self.members.len());
            join.protocol_type == self.protocol_type && join.protocols.iter().any(|(name, _)| common(name))
        };
        if fits { Ok(()) } else { Err(GroupError::InconsistentProtocol) }
    }

    /// Somebody new must come again with the id that it is told (KIP-394): who never hears of it
    /// would be a member that all others wait for.
    fn invite(&mut self, join: &JoinCall, id: String, scene: &mut Scene<'_, W>) -> GroupError {
        if let Err(error) = self.check_invited(scene) {
            return error;
        }
        let key = MemberKey(self.next_member);
        self.next_member += 1;
        let mut deadline = Deadline::default();
        if let Some(at) = deadline.set(scene.now.mono.plus(join.session_timeout)) {
            scene.timers.arm(at, self.key, Timer::Member(key));
        }
        self.ids.insert(id.as_str().into(), key);
        self.pending.insert(key, (id.as_str().into(), deadline));
        GroupError::MemberIdRequired { member: id }
    }

    fn add(
        &mut self,
        id: String,
        join: JoinCall,
        who: W,
        scene: &mut Scene<'_, W>,
    ) -> Result<Option<Joined>, GroupError> {
        let protocol_type = join.protocol_type.clone();
        let instance = join.instance.as_deref().map(Box::from);
        let mut member = Member::new(id.into(), instance, Said::new(join));
        self.check_growth(0, member.bytes() + protocol_type.len(), scene)?;
        let is_static = member.instance.is_some();
        member.joining = Some(who).filter(|_| !is_static);
        member.is_new = true;
        if self.members.is_empty() {
            self.protocol_type = protocol_type;
        }
        if let Phase::Preparing { first: Some(first) } = &mut self.phase {
            first.somebody_came = true;
        }
        let key = self.insert(member);
        let until = scene.now.mono.plus(NEW_MEMBER_PATIENCE);
        let member = self.members.get_mut(&key).expect("inserted above");
        if let Some(at) = member.session.set(until) {
            scene.timers.arm(at, self.key, Timer::Member(key));
        }
        self.rebalance(scene);
        if is_static {
            self.introduce(key, who, scene);
        }
        Ok(None)
    }

    /// A member joins again.
    fn rejoin(
        &mut self,
        key: MemberKey,
        join: JoinCall,
        who: W,
        scene: &mut Scene<'_, W>,
    ) -> Result<Option<Joined>, GroupError> {
        let leads = self.leader == Some(key);
        let said = Said::new(join);
        let same = self.members[&key].said.protocols == said.protocols;
        match self.phase {
            // It did not hear of the generation that it belongs to, or asks once more.
            Phase::Completing if same => {
                self.touch(key, scene);
                return Ok(Some(self.joined(key, leads)));
            }
            Phase::Stable if same && !leads => {
                self.touch(key, scene);
                return Ok(Some(self.joined(key, false)));
            }
            Phase::Empty { .. } => return Err(GroupError::UnknownMember),
            // A leader that joins again has seen something that changes the assignment.
            Phase::Stable | Phase::Completing | Phase::Preparing { .. } => {}
        }
        self.update(key, said, scene)?;
        self.wait_to_join(key, who, scene);
        self.rebalance(scene);
        Ok(None)
    }

    pub fn wait_to_join(&mut self, key: MemberKey, who: W, scene: &mut Scene<'_, W>) {
        let member = self.members.get_mut(&key).expect("the caller has validated it");
        match member.joining.replace(who) {
            Some(earlier) => {
                scene.actions.push_back(Action::Join(earlier, Err(GroupError::RebalanceInProgress)));
            }
            None => self.joining += 1,
        }
    }

    /// What the member says now counts.
    pub fn update(&mut self, key: MemberKey, said: Said, scene: &Scene<'_, W>) -> Result<(), GroupError> {
        let before = &self.members[&key].said;
        let said = if mutant::is(Mutant::KeepMetadata) { before.clone() } else { said };
        let (old, new) = (before.bytes(), said.bytes());
        self.check_growth(old, new, scene)?;
        let mut member = self.members.remove(&key).expect("the caller has validated it");
        self.bytes = self.bytes - old + new;
        self.forget_protocols(&member);
        for (protocol, _) in &said.protocols {
            *self.supported.entry(protocol.clone()).or_default() += 1;
        }
        member.said = said;
        self.members.insert(key, member);
        Ok(())
    }
}
