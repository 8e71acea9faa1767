//! One group: what it knows, and what is seen of it. What happens to it has files of its own:
//! [`super::membership`], [`super::join`], [`super::instance`], [`super::rebalance`], [`super::assignment`].

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::GroupRules;
use super::assignment::Storing;
use super::call::{Described, DescribedMember, GroupError, StateName};
use super::coordinator::Action;
use super::instance::Newcomer;
use super::member::Member;
use super::record::{MemberRecord, StateRecord};
use super::subscription;
use super::timers::{Deadline, Due, GroupKey, MemberKey, Timer, Timers};
use crate::base::mutant::{self, Mutant};
use crate::model::{Nanos, Now, WallMs};

/// What a group costs beside its members; and what one costs that was given an id, of which there are two copies.
const GROUP_BYTES: usize = 2048;
const PENDING_BYTES: usize = 512;

/// The protocol type of groups that read topics.
const CONSUMER: &str = "consumer";

/// What a new group takes of its log's budget. Its name is in two maps, and in what is stored.
pub(super) fn held_by_new(name: &str) -> usize {
    GROUP_BYTES + 3 * name.len()
}

/// Where a group is in its life; the picture is in [`super`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Empty {
        /// As it is stored.
        since: WallMs,
        /// Of this process.
        began: Nanos,
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

/// What a group's functions work with.
pub(super) struct Scene<'a, W> {
    pub now: Now,
    pub rules: &'a GroupRules,
    pub actions: &'a mut VecDeque<Action<W>>,
    pub timers: &'a mut Timers,
    pub next_store: &'a mut u64,
    /// What the other groups of the log take of its budget, and what is kept elsewhere.
    pub others_bytes: usize,
    /// So much of that is kept for this group.
    pub kept_bytes: usize,
}

impl<W> Scene<'_, W> {
    /// May the group take so much? It is full if it could not although nobody else had anything.
    fn check_total(&self, held_bytes: usize) -> Result<(), GroupError> {
        if self.kept_bytes + held_bytes > self.rules.total_bytes_max {
            return Err(GroupError::GroupFull);
        }
        let fits = self.others_bytes + held_bytes <= self.rules.total_bytes_max;
        if fits { Ok(()) } else { Err(GroupError::GroupsFull) }
    }
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
    /// By age. Boxed: a tree has room for eleven from the first one on, and most groups have few.
    pub members: BTreeMap<MemberKey, Box<Member<W>>>,
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
    pub unsynced: usize,
    /// What the members take of the group's budget.
    pub bytes: usize,
    /// The same, of those that were stored last.
    pub stored_bytes: usize,
    pub deadline: Deadline,
    pub storing: Option<Storing>,
    /// Who waits for its id to be stored, in the order of storing.
    pub newcomers: VecDeque<Newcomer<W>>,
}

impl<W: Copy> Group<W> {
    pub fn new(name: Box<str>, key: GroupKey, now: Now) -> Group<W> {
        Group {
            name,
            key,
            phase: Phase::Empty { since: now.wall, began: now.mono },
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
            stored_bytes: 0,
            deadline: Deadline::default(),
            storing: None,
            newcomers: VecDeque::new(),
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
        self.stored_bytes = self.bytes;
        self.phase = match self.members.is_empty() {
            true => Phase::Empty { since: record.since, began: scene.now.mono },
            false => Phase::Stable,
        };
    }

    /// Nothing would be lost with it.
    pub fn is_blank(&self) -> bool {
        self.generation == 0 && self.is_empty() && self.pending.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.phase, Phase::Empty { .. })
    }

    /// What the group takes of its log's budget.
    pub fn held_bytes(&self) -> usize {
        self.held_with(self.bytes)
    }

    /// The same if the members took so much. They are kept twice: as they are, and as they were stored.
    fn held_with(&self, bytes: usize) -> usize {
        let pending = self.pending.len() * PENDING_BYTES;
        held_by_new(&self.name)
            + 2 * self.protocol_type.len()
            + bytes
            + bytes.max(self.stored_bytes)
            + pending
    }

    /// May what takes `old` bytes take `new` ones? Nothing is refused that asks for no more.
    pub fn check_growth(&self, old: usize, new: usize, scene: &Scene<'_, W>) -> Result<(), GroupError> {
        if new <= old {
            return Ok(());
        }
        let bytes = self.bytes - old + new;
        if bytes > scene.rules.bytes_max {
            return Err(GroupError::GroupFull);
        }
        scene.check_total(self.held_with(bytes))
    }

    /// May one more be given an id?
    pub fn check_invited(&self, scene: &Scene<'_, W>) -> Result<(), GroupError> {
        if self.pending.len() >= scene.rules.members_max {
            return Err(GroupError::GroupFull);
        }
        scene.check_total(self.held_bytes() + PENDING_BYTES)
    }

    /// The timer made for `at` still means something.
    pub fn awaits(&self, timer: Timer, at: Nanos) -> bool {
        let deadline = match timer {
            Timer::Phase => Some(&self.deadline),
            Timer::Member(key) => {
                let member = self.members.get(&key).map(|member| &member.session);
                member.or_else(|| self.pending.get(&key).map(|(_, deadline)| deadline))
            }
        };
        deadline.is_some_and(|deadline| deadline.is_armed(at))
    }

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

    /// Nobody waits any longer.
    pub fn release(&mut self, why: &GroupError, scene: &mut Scene<'_, W>) {
        self.fail_syncing(why, scene);
        for member in self.members.values_mut() {
            if let Some(who) = member.joining.take() {
                scene.actions.push_back(Action::Join(who, Err(why.clone())));
            }
        }
        self.joining = 0;
        for newcomer in self.newcomers.drain(..) {
            scene.actions.push_back(Action::Join(newcomer.who, Err(why.clone())));
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
