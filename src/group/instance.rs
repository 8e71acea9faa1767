//! Static members: the place of an instance id belongs to the process that took it last.
//!
//! It takes the place under a new id, and is told when that is stored, whatever the group is doing. Else a
//! restart of the broker would bring back the instance with an older id, and the process that lives would be
//! fenced like the one that it has replaced, which to clients is the end. Until then it takes no part in a
//! rebalance, and nobody is told of its id but the leader.

use super::call::{GroupError, JoinCall, Joined};
use super::coordinator::{Action, StoreId};
use super::machine::{Group, Phase, Scene};
use super::member::Said;
use super::record::InstanceRecord;
use super::timers::MemberKey;
use crate::base::mutant::{self, Mutant};

/// A process that has taken an instance id, and hears so when that is durable.
#[derive(Debug)]
pub(super) struct Newcomer<W> {
    id: StoreId,
    pub member: MemberKey,
    pub who: W,
    /// Who it was before, if it led: a leader that cannot skip the assignment must believe that it
    /// does not lead.
    led_as: Option<Box<str>>,
    can_skip: bool,
}

impl<W: Copy> Group<W> {
    /// A static member has restarted: it takes its old place under a new id, and whoever still uses
    /// the old one is fenced.
    pub fn replace(
        &mut self,
        key: MemberKey,
        join: JoinCall,
        new_id: String,
        who: W,
        scene: &mut Scene<'_, W>,
    ) -> Result<Option<Joined>, GroupError> {
        let can_skip = join.can_skip;
        self.update(key, Said::new(join), scene)?;
        let member = self.members.get_mut(&key).expect("updated above");
        let old_id = std::mem::replace(&mut member.id, new_id.as_str().into());
        self.bytes = self.bytes + new_id.len() - old_id.len();
        if let Some(earlier) = member.joining.take() {
            self.joining -= 1;
            scene.actions.push_back(Action::Join(earlier, Err(GroupError::FencedInstance)));
        }
        if let Some(earlier) = member.syncing.take() {
            scene.actions.push_back(Action::Sync(earlier, Err(GroupError::FencedInstance)));
        }
        self.turn_away(key, &GroupError::FencedInstance, scene);
        if !mutant::is(Mutant::AdmitReplacedMember) {
            self.ids.remove(&old_id);
        }
        self.ids.insert(new_id.into(), key);
        self.touch(key, scene);
        let stays = self.phase == Phase::Stable && self.choose_protocol() == self.protocol;
        if !stays {
            // While the leader assigns, it does so for the old id: everybody must join once more.
            self.rebalance(scene);
        }
        let led_as = (self.leader == Some(key)).then_some(old_id);
        let id = self.next_store(scene);
        self.store_instance(Newcomer { id, member: key, who, led_as, can_skip }, stays, scene);
        Ok(None)
    }

    /// The member goes, or another takes its place: tell a process that has not even heard of the id that it
    /// was given. Later nobody may be there to do it: a group without members may be deleted.
    pub fn turn_away(&mut self, key: MemberKey, why: &GroupError, scene: &mut Scene<'_, W>) {
        self.newcomers.retain(|newcomer| {
            if newcomer.member == key {
                scene.actions.push_back(Action::Join(newcomer.who, Err(why.clone())));
            }
            newcomer.member != key
        });
        self.give_back_newcomers();
    }

    /// As maps are given back, when many have come at once.
    fn give_back_newcomers(&mut self) {
        if self.newcomers.capacity() > 4 * self.newcomers.len() + 16 {
            self.newcomers.shrink_to(2 * self.newcomers.len());
        }
    }

    /// Somebody has come under an instance id that the group does not know. What is stored may know it still,
    /// from a generation before.
    pub fn introduce(&mut self, key: MemberKey, who: W, scene: &mut Scene<'_, W>) {
        let id = self.next_store(scene);
        // Who has not been told its id leads no generation that is assigned, and so has nothing to skip.
        let newcomer = Newcomer { id, member: key, who, led_as: None, can_skip: false };
        self.store_instance(newcomer, false, scene);
    }

    /// Have the member written alone. `stays`: the generation goes on, and what the member says belongs to it.
    fn store_instance(&mut self, newcomer: Newcomer<W>, stays: bool, scene: &mut Scene<'_, W>) {
        let unstored = !stays && mutant::is(Mutant::TellUnstoredId);
        if unstored || mutant::is(Mutant::ForgetReplacement) {
            self.welcome(newcomer, scene);
            return;
        }
        let member = &self.members[&newcomer.member];
        let record = InstanceRecord {
            instance: member.instance.as_deref().unwrap_or_default().to_owned(),
            id: member.id.to_string(),
            said: stays.then(|| member.said.clone()),
        };
        let (id, record) = (newcomer.id, record.encode(&self.name));
        scene.actions.push_back(Action::Store { id, record });
        self.newcomers.push_back(newcomer);
    }

    /// The newcomer whose id was stored under this number, or was to be.
    pub fn take_newcomer(&mut self, id: StoreId) -> Option<Newcomer<W>> {
        // Nearly always the first: what is stored becomes durable in order.
        let at = self.newcomers.iter().position(|newcomer| newcomer.id == id)?;
        let newcomer = self.newcomers.remove(at);
        self.give_back_newcomers();
        newcomer
    }

    /// Its id is durable: it joins the rebalance, or hears of the generation that it belongs to already.
    pub fn welcome(&mut self, newcomer: Newcomer<W>, scene: &mut Scene<'_, W>) {
        let Newcomer { member: key, who, led_as, can_skip, .. } = newcomer;
        let member = self.members.get_mut(&key).expect("who goes is turned away");
        if let Phase::Preparing { .. } = self.phase {
            self.wait_to_join(key, who, scene);
            self.rebalance(scene);
            return;
        }
        // A generation that is still to be assigned is led by one who had joined: if it leads, the assignment holds.
        member.is_new = false;
        let leads = self.leader == Some(key);
        let mut joined = self.joined(key, leads && can_skip);
        joined.skip_assignment = leads && can_skip;
        if let Some(before) = led_as.filter(|_| leads && !can_skip) {
            joined.leader = before.into();
        }
        scene.actions.push_back(Action::Join(who, Ok(joined)));
        self.touch(key, scene);
    }
}
