//! The groups of a hosted log: their state machines, fed with calls and time, and what these ask for.
//!
//! The machines (`crate::group`) are the pending level. What of them must survive goes to the log
//! like everything else, and whoever depends on it hears of it when it is durable.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::group::call::{Described, Listed, StateName};
use crate::group::{Action, GroupError, GroupRules, Groups, StoreId, record};
use crate::log::entry::EntryHeader;
use crate::log::{AppendError, Log, Room};
use crate::metadata::catalog::Catalog;
use crate::model::{Nanos, Now, Offset, PartitionKey, Position, WallMs};
use crate::partition::Partitions;
use crate::partition::group_offsets::CommittedOffset;

use super::acks::Acks;
use super::call::{Answer, CallError, GroupCall};
use super::hosted::{AckWaiter, Origin, Outbox, log_refused};

use unknown_topics::UnknownTopics;

mod unknown_topics;

/// Groups whose offsets are looked at in one step of expiry.
const EXPIRY_STEP: usize = 512;
/// As much of a client's name as goes into the ids of its members.
const NAME_BYTES_MAX: usize = 100;
/// A group without members and offsets is forgotten after this time, which begins anew with the broker: its
/// generation may matter to somebody who is just restarting.
const EMPTY_FOR: Duration = Duration::from_secs(600);
/// The operator is told this often that there is no room for more.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What a group call may need of the log that hosts the group.
pub struct Home<'a> {
    pub log: &'a mut Log,
    pub partitions: &'a mut Partitions,
    pub acks: &'a mut Acks<AckWaiter>,
}

pub struct GroupHost {
    groups: Groups<Origin>,
    members_named: u64,
    /// What the log has no room for yet, in order.
    to_store: VecDeque<(StoreId, Vec<u8>)>,
    /// Of all of it.
    to_store_bytes: usize,
    /// The first group that expiry has not looked at yet.
    expiry_from: String,
    unknown: UnknownTopics,
    /// Somebody was told to come again because all groups together have used up their memory.
    refused: bool,
    /// When the operator may be told so again.
    told_until: Nanos,
}

impl GroupHost {
    pub fn new(rules: GroupRules) -> GroupHost {
        GroupHost {
            groups: Groups::new(rules),
            members_named: 0,
            to_store: VecDeque::new(),
            to_store_bytes: 0,
            expiry_from: String::new(),
            unknown: UnknownTopics::default(),
            refused: false,
            told_until: Nanos(0),
        }
    }

    /// Go on with the groups that the log has kept.
    pub fn start(&mut self, partitions: &Partitions, now: Now) {
        self.groups.restore(partitions.stored_groups(), now);
    }

    /// Do a call. `None`: the answer comes later.
    pub fn call(
        &mut self,
        origin: Origin,
        group: String,
        call: GroupCall,
        home: &mut Home<'_>,
        now: Now,
    ) -> Option<Answer> {
        let answer = self.perform(origin, group, call, home, now);
        self.refused |= answer.as_ref().is_some_and(is_refused_for_others);
        answer
    }

    fn perform(
        &mut self,
        origin: Origin,
        group: String,
        call: GroupCall,
        home: &mut Home<'_>,
        now: Now,
    ) -> Option<Answer> {
        if home.log.failed() {
            self.groups.stop(now, &GroupError::NotStored);
        }
        let offsets = home.partitions.groups();
        self.groups.note_kept(offsets.bytes() + self.to_store_bytes, offsets.bytes_of(&group));
        match call {
            GroupCall::Join(join) => {
                let new_id = self.name_member(&join.client_id, join.instance.as_deref(), home.log);
                let joined = self.groups.handle_join(now, &group, *join, new_id, origin);
                joined.map_err(CallError::from).transpose().map(|joined| Answer::Joined(Box::new(joined)))
            }
            GroupCall::Sync(sync) => {
                let synced = self.groups.handle_sync(now, &group, *sync, origin);
                synced.map_err(CallError::from).transpose().map(Answer::Synced)
            }
            GroupCall::Heartbeat(who) => {
                Some(Answer::Heartbeat(self.groups.handle_heartbeat(now, &group, &who).map_err(Into::into)))
            }
            GroupCall::Leave(leaving) => {
                Some(Answer::Left(self.groups.handle_leave(now, &group, &leaving).map_err(Into::into)))
            }
            GroupCall::Commit { who, offsets } => {
                let allowed = self.groups.handle_commit(now, &group, &who).map_err(|error| match error {
                    // The group is there, of which only offsets are kept: nobody is in it.
                    GroupError::UnknownGroup if home.partitions.groups().contains(&group) => {
                        GroupError::UnknownMember
                    }
                    error => error,
                });
                if offsets.is_empty() {
                    // Of all that the commit said nothing can be kept: it was only for the group to judge who says it.
                    return Some(Answer::CommitOffsets(allowed.map_err(CallError::from)));
                }
                let allowed = allowed.and_then(|()| self.check_room(&group, &offsets, home));
                let committed =
                    allowed.map_err(CallError::from).and_then(|()| home.commit(&group, &offsets, now));
                home.answer_durable(origin, committed, Answer::CommitOffsets(Ok(())), |error| {
                    Answer::CommitOffsets(Err(error))
                })
            }
            GroupCall::Describe => Some(Answer::DescribeGroup(self.describe(&group, home.partitions))),
            GroupCall::Delete => {
                let deleted = self.delete(&group, home, now);
                home.answer_durable(origin, deleted, Answer::DeleteGroup(Ok(())), |error| {
                    Answer::DeleteGroup(Err(error))
                })
            }
            GroupCall::DeleteOffsets(partitions) => {
                self.delete_offsets(origin, &group, &partitions, home, now)
            }
        }
    }

    /// May the group keep these? A commit that takes no more than it did always may.
    fn check_room(
        &self,
        group: &str,
        offsets: &[CommittedOffset],
        home: &Home<'_>,
    ) -> Result<(), GroupError> {
        match home.partitions.groups().added_bytes(group, offsets) {
            0 => Ok(()),
            added => self.groups.check_room(group, added).map_err(|error| match error {
                GroupError::GroupFull => GroupError::OffsetsTooLarge,
                others_have_it => others_have_it,
            }),
        }
    }

    /// An id that no member ever had: the log is never in the same term twice.
    fn name_member(&mut self, client: &str, instance: Option<&str>, log: &Log) -> String {
        self.members_named += 1;
        let name = instance.unwrap_or(client);
        let name = &name[..name.floor_char_boundary(NAME_BYTES_MAX)];
        format!("{name}-{}.{}.{}", log.id(), log.term(), self.members_named)
    }

    /// All groups of the log, by name.
    pub fn list(&self, partitions: &Partitions) -> Vec<Listed> {
        let mut listed: Vec<Listed> = self.groups.list().collect();
        let simple = self.simple(partitions).map(|name| Listed {
            group: name.to_owned(),
            protocol_type: String::new(),
            state: StateName::Empty,
        });
        listed.extend(simple);
        listed.sort_unstable_by(|a, b| a.group.cmp(&b.group));
        listed
    }

    /// Groups that nobody ever joined: they have committed something.
    fn simple<'a>(&'a self, partitions: &'a Partitions) -> impl Iterator<Item = &'a str> {
        partitions.groups().names().filter(|name| !self.groups.contains(name))
    }

    /// Groups that have members or had some lately.
    pub fn count(&self) -> usize {
        self.groups.count()
    }

    /// What all groups take of the log's budget.
    pub fn bytes(&self, partitions: &Partitions) -> usize {
        self.groups.held_bytes() + partitions.groups().bytes() + self.to_store_bytes
    }

    fn describe(&self, group: &str, partitions: &Partitions) -> Option<Described> {
        let simple = || Described {
            state: StateName::Empty,
            protocol_type: String::new(),
            protocol: String::new(),
            members: Vec::new(),
        };
        self.groups.describe(group).or_else(|| partitions.groups().contains(group).then(simple))
    }

    fn delete(&mut self, group: &str, home: &mut Home<'_>, now: Now) -> Result<Position, CallError> {
        match self.groups.check_delete(group) {
            Err(GroupError::UnknownGroup) if home.partitions.groups().contains(group) => {}
            checked => checked?,
        }
        // What is to be stored of the group may be waiting, and must not come after its end.
        if !self.to_store.is_empty() {
            return Err(CallError::Full("it is behind with what groups store"));
        }
        let gone =
            home.partitions.store_group(home.log, &record::encode_gone(group), now).map_err(log_refused)?;
        self.groups.forget(group);
        Ok(gone)
    }

    fn delete_offsets(
        &mut self,
        origin: Origin,
        group: &str,
        asked: &[(String, PartitionKey)],
        home: &mut Home<'_>,
        now: Now,
    ) -> Option<Answer> {
        if !self.groups.contains(group) && !home.partitions.groups().contains(group) {
            return Some(Answer::DeleteOffsets(Err(GroupError::UnknownGroup.into())));
        }
        let topics = asked.iter().map(|(topic, _)| topic.as_str());
        let results = match self.groups.check_offset_delete(group, topics) {
            Ok(results) => results,
            Err(error) => return Some(Answer::DeleteOffsets(Err(error.into()))),
        };
        let allowed = asked.iter().zip(&results).filter(|(_, result)| result.is_ok());
        let taken_back: Vec<_> = allowed.map(|((_, partition), _)| taken_back(*partition, now)).collect();
        if taken_back.is_empty() {
            return Some(Answer::DeleteOffsets(Ok(results)));
        }
        let committed = home.commit(group, &taken_back, now);
        home.answer_durable(origin, committed, Answer::DeleteOffsets(Ok(results)), |error| {
            Answer::DeleteOffsets(Err(error))
        })
    }

    // --- What happens. ---

    pub fn deadline(&self) -> Option<Nanos> {
        self.groups.deadline()
    }

    /// Of what is to be stored next and found no room.
    pub fn waiting_bytes(&self) -> Option<usize> {
        self.to_store.front().map(|(_, record)| EntryHeader::entry_bytes(record.len()))
    }

    /// Time has passed; requests have been made: do what the groups ask for. Returns whether something was
    /// stored.
    pub fn run(&mut self, home: &mut Home<'_>, now: Now, out: &mut Outbox) -> bool {
        let mut stored = false;
        if home.log.failed() {
            self.groups.stop(now, &GroupError::NotStored);
        }
        self.tell_of_refusals(home.log, now, out);
        self.groups.on_time(now);
        loop {
            while let Some(action) = self.groups.poll_action() {
                match action {
                    Action::Join(origin, joined) => {
                        let joined = joined.map_err(CallError::from);
                        out.answers.push((origin, Answer::Joined(Box::new(joined))));
                    }
                    Action::Sync(origin, synced) => {
                        out.answers.push((origin, Answer::Synced(synced.map_err(CallError::from))));
                    }
                    Action::Store { id, record } => {
                        self.to_store_bytes += record.len();
                        self.to_store.push_back((id, record));
                    }
                }
            }
            let Some((id, record)) = self.to_store.pop_front() else { return stored };
            if home.log.room(EntryHeader::entry_bytes(record.len())) == Room::Wait {
                self.to_store.push_front((id, record));
                return stored;
            }
            self.to_store_bytes -= record.len();
            match home.partitions.store_group(home.log, &record, now) {
                Ok(position) => {
                    stored = true;
                    home.acks.push(position, AckWaiter::Group(id));
                }
                Err(_) => self.groups.on_stored(now, id, Err(GroupError::NotStored)),
            }
        }
    }

    fn tell_of_refusals(&mut self, log: &Log, now: Now, out: &mut Outbox) {
        if std::mem::take(&mut self.refused) && now.mono >= self.told_until {
            self.told_until = now.mono.plus(TOLD_EVERY);
            out.messages.push(format!(
                "log {}: its groups have used up kafka.groups_bytes_max: who would take more of it is told to come \
                 again; delete groups that nobody needs (`ringmq group delete`), or raise it",
                log.id()
            ));
        }
    }

    /// What was to be stored is durable, or never will be.
    pub fn on_stored(&mut self, id: StoreId, durable: bool, now: Now) {
        let stored = if durable { Ok(()) } else { Err(GroupError::NotStored) };
        self.groups.on_stored(now, id, stored);
    }

    /// The broker stops: nobody waits for the others any longer.
    pub fn stop(&mut self, now: Now) {
        self.groups.stop(now, &GroupError::Stopping);
    }

    /// One step of expiry: take back what was committed before `oldest` by groups without members
    /// since then, for topics that nobody in a group reads, and for topics that are gone.
    ///
    /// `oldest` is of the wall clock, as it has to be: it reckons in days, which go on while the broker is off.
    pub fn expire(&mut self, home: &mut Home<'_>, catalog: &Catalog, oldest: WallMs, now: Now) {
        let from = std::mem::take(&mut self.expiry_from);
        self.unknown.begin_step(from.is_empty());
        let mut names: BTreeSet<String> = BTreeSet::new();
        names.extend(home.partitions.groups().names_from(&from).take(EXPIRY_STEP + 1).map(str::to_owned));
        names.extend(self.groups.names_from(&from).take(EXPIRY_STEP + 1).map(str::to_owned));
        if let Some(next) = names.iter().nth(EXPIRY_STEP) {
            self.expiry_from.clone_from(next);
        }
        for group in names.into_iter().take(EXPIRY_STEP) {
            // A log without room is tried again when the turn comes round.
            if self.expire_group(&group, home, catalog, oldest, now).is_err() {
                return;
            }
        }
    }

    fn expire_group(
        &mut self,
        group: &str,
        home: &mut Home<'_>,
        catalog: &Catalog,
        oldest: WallMs,
        now: Now,
    ) -> Result<(), AppendError> {
        let GroupHost { groups, unknown, to_store, .. } = self;
        let since = groups.empty_since(group);
        let in_use = |commit: &CommittedOffset| match since {
            Some(since) => since >= oldest,
            None => catalog
                .topic_by_id(commit.partition.topic)
                .is_none_or(|topic| groups.is_subscribed(group, &topic.name)),
        };
        let is_old = |commit: &CommittedOffset| commit.commit_time < oldest.0 && !in_use(commit);
        // Of a commit that was under way when the topic went.
        let mut is_gone = |commit: &CommittedOffset| {
            let topic = commit.partition.topic;
            catalog.topic_by_id(topic).is_none() && unknown.is_gone(topic)
        };
        let commits = || home.partitions.groups().commits(group);
        let old = commits().filter(|commit| is_gone(commit) || is_old(commit));
        let old: Vec<_> = old.map(|commit| taken_back(commit.partition, now)).collect();
        let nothing_left = old.len() == commits().count();
        if !old.is_empty() {
            home.partitions.commit_offsets(home.log, group, &old, now)?;
        }
        let empty_long = groups.empty_for(group, now.mono).is_some_and(|time| time >= EMPTY_FOR);
        if nothing_left && empty_long && to_store.is_empty() && groups.check_delete(group).is_ok() {
            home.partitions.store_group(home.log, &record::encode_gone(group), now)?;
            groups.forget(group);
        }
        Ok(())
    }
}

impl Home<'_> {
    fn commit(&mut self, group: &str, offsets: &[CommittedOffset], now: Now) -> Result<Position, CallError> {
        self.partitions.commit_offsets(self.log, group, offsets, now).map_err(log_refused)
    }

    /// `answer` when the log is durable up to the position.
    fn answer_durable(
        &mut self,
        origin: Origin,
        position: Result<Position, CallError>,
        answer: Answer,
        refused: impl FnOnce(CallError) -> Answer,
    ) -> Option<Answer> {
        match position {
            Ok(position) => {
                self.acks.push(position, AckWaiter::Answer(origin, answer));
                None
            }
            Err(error) => Some(refused(error)),
        }
    }
}

/// Others have the memory that this would take.
fn is_refused_for_others(answer: &Answer) -> bool {
    let error = match answer {
        Answer::Joined(joined) => joined.as_ref().as_ref().err(),
        Answer::Synced(synced) => synced.as_ref().err(),
        Answer::CommitOffsets(committed) => committed.as_ref().err(),
        _ => None,
    };
    matches!(error, Some(CallError::Group(GroupError::GroupsFull)))
}

/// A commit that takes back what was committed.
fn taken_back(partition: PartitionKey, now: Now) -> CommittedOffset {
    let (offset, leader_epoch, metadata) = (Offset(-1), -1, None);
    CommittedOffset { partition, offset, leader_epoch, metadata, commit_time: now.wall.0 }
}
