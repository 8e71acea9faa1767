//! Static members: the place of an instance id belongs to the process that took it last.

use super::call::{GroupError, JoinCall, Joined};
use super::coordinator::{Action, StoreId};
use super::machine::{Group, Phase, Scene};
use super::member::Said;
use super::timers::MemberKey;
use crate::base::mutant::{self, Mutant};

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
        // A process that has not even heard of the id that it was given.
        self.replacements.retain(|earlier| {
            if earlier.member == key {
                scene.actions.push_back(Action::Join(earlier.who, Err(GroupError::FencedInstance)));
            }
            earlier.member != key
        });
        if !mutant::is(Mutant::AdmitReplacedMember) {
            self.ids.remove(&old_id);
        }
        self.ids.insert(new_id.into(), key);
        self.touch(key, scene);
        if self.phase == Phase::Stable && self.choose_protocol() == self.protocol {
            if mutant::is(Mutant::ForgetReplacement) {
                return Ok(Some(self.joined(key, false)));
            }
            // Nothing changes for the others. The new id must survive as the assignment does.
            let id = self.store_again(scene);
            let led_as = (self.leader == Some(key)).then_some(old_id);
            self.replacements.push(Replacement { id, member: key, who, led_as, can_skip });
            return Ok(None);
        }
        // While the leader assigns, it does so for the old id: everybody must join once more.
        self.wait_to_join(key, who, scene);
        self.rebalance(scene);
        Ok(None)
    }

    pub fn answer_replacements(
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
}
