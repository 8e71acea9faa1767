//! What the leader has assigned: stored first, with the whole group, then handed out.

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::call::{GroupError, SyncCall, Synced};
use super::coordinator::{Action, StoreId};
use super::machine::{Group, Phase, Scene};
use super::record::{MemberRecord, StateRecord};
use super::timers::MemberKey;
use crate::base::mutant::{self, Mutant};

/// The leader's assignments, until they are durable.
#[derive(Debug)]
pub(super) struct Storing {
    id: StoreId,
    assignments: FxHashMap<MemberKey, Bytes>,
}

impl<W: Copy> Group<W> {
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
        match self.check_growth(old, new, scene) {
            Ok(()) => Ok(assignments),
            Err(GroupError::GroupFull) => Err(GroupError::AssignmentTooLarge),
            Err(error) => Err(error),
        }
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
    pub fn store(&mut self, assignments: &FxHashMap<MemberKey, Bytes>, scene: &mut Scene<'_, W>) -> StoreId {
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
        self.stored_bytes = self.members.values().map(|member| member.bytes_unassigned()).sum::<usize>()
            + assignments.values().map(Bytes::len).sum::<usize>();
        let id = self.next_store(scene);
        scene.actions.push_back(Action::Store { id, record: record.encode(&self.name) });
        id
    }

    /// A number for something that is to be stored.
    pub fn next_store(&self, scene: &mut Scene<'_, W>) -> StoreId {
        let id = StoreId { group: self.key, number: *scene.next_store };
        *scene.next_store += 1;
        id
    }

    /// What was to be stored is durable, or was not taken.
    pub fn on_stored(&mut self, id: StoreId, stored: Result<(), GroupError>, scene: &mut Scene<'_, W>) {
        if let Some(newcomer) = self.take_newcomer(id) {
            match stored {
                Ok(()) => self.welcome(newcomer, scene),
                Err(error) => scene.actions.push_back(Action::Join(newcomer.who, Err(error))),
            }
            return;
        }
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

    pub fn fail_syncing(&mut self, error: &GroupError, scene: &mut Scene<'_, W>) {
        for member in self.members.values_mut() {
            if let Some(who) = member.syncing.take() {
                scene.actions.push_back(Action::Sync(who, Err(error.clone())));
            }
        }
    }
}
