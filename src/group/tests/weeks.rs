//! Weeks of virtual time: members that come, go, crash and pause, and a broker that restarts, with a
//! disk that is slow or fails. Each client plays its part as real ones do, with an assignor of its own.
//!
//! What must hold: in a generation a partition has one owner; assigned generations never go back, and none that
//! is over may commit; who has left is no member, and who was replaced is none any more, while nobody else is ever
//! fenced, whenever the broker restarts; and when the faults end, everybody who is there owns a share of everything, and the others take over when
//! one dies, even with the broker.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::time::Duration;

use bytes::Bytes;

use super::super::call::{GroupError, JoinCall, Joined, Leaving, MemberRef, SyncCall, Synced};
use super::super::{Action, GroupRules, Groups, StoreId, StoredGroups, testing};
use crate::model::{Nanos, Now, WallMs};

const GROUP: &str = "g";
const PARTITIONS: u8 = 12;
const RULES: GroupRules = GroupRules { bytes_max: 1 << 20, total_bytes_max: 16 << 20, ..testing::RULES };
const SECOND: u64 = 1_000_000_000;
/// A client gives a request up after so long.
const PATIENCE: u64 = 300 * SECOND;
/// By then everything that a fault left behind has timed out, new members whose client is gone too.
const CALM: u64 = 1200 * SECOND;

/// The same numbers in every run of a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The request of a client that waits: client, and the number of its request.
type Waiter = (usize, u64);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Doing {
    Down,
    /// Is to join.
    Out,
    Joining {
        since: u64,
    },
    /// Has joined; of the leader, whom to assign to.
    Joined {
        members: Vec<String>,
    },
    Syncing {
        since: u64,
    },
    Member,
}

#[derive(Clone, Debug)]
struct Client {
    instance: Option<String>,
    id: String,
    generation: i32,
    doing: Doing,
    owned: Vec<u8>,
    request: u64,
    acts_at: u64,
}

struct World {
    chance: Chance,
    now: u64,
    groups: Groups<Waiter>,
    clients: Vec<Client>,
    ids: u64,
    stored: StoredGroups,
    /// What is being written, and when that is done.
    writes: Vec<(u64, StoreId, Vec<u8>)>,
    /// Who owned a partition in a generation: the instance, or the member.
    owners: BTreeMap<(i32, u8), String>,
    last_assigned: i32,
    /// Of each instance, the newest id that was told to a process: it must outlive a restart, be the generation
    /// assigned or not. Ids are numbers in rising order.
    durable_ids: BTreeMap<String, u64>,
    faults: bool,
    rebalances: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let count = 3 + chance.below(5) as usize;
        let clients = (0..count).map(|index| Client {
            // The last two are processes that were given the same instance id by mistake.
            instance: match index {
                0 => None,
                _ if index + 2 >= count && count > 4 => Some("twin".into()),
                _ => chance.one_in(2).then(|| format!("static-{index}")),
            },
            id: String::new(),
            generation: -1,
            doing: Doing::Down,
            owned: Vec::new(),
            request: 0,
            acts_at: 0,
        });
        let clients = clients.collect();
        World {
            chance,
            now: SECOND,
            groups: Groups::new(RULES),
            clients,
            ids: 0,
            stored: StoredGroups::default(),
            writes: Vec::new(),
            owners: BTreeMap::new(),
            last_assigned: 0,
            durable_ids: BTreeMap::new(),
            faults: true,
            rebalances: 0,
        }
    }

    fn time(&self) -> Now {
        Now { mono: Nanos(self.now), wall: WallMs((self.now / 1_000_000) as i64) }
    }

    fn run(&mut self, until: u64) {
        while self.now < until {
            let acts = self.clients.iter().map(|client| client.acts_at).min();
            let writes = self.writes.iter().map(|(at, ..)| *at).min();
            let next = [acts, writes, self.groups.deadline().map(|at| at.0)].into_iter().flatten().min();
            self.now = next.map_or(until, |at| at.clamp(self.now, until));
            self.write();
            self.groups.on_time(self.time());
            self.settle();
            for index in 0..self.clients.len() {
                if self.clients[index].acts_at <= self.now {
                    self.act(index);
                    self.settle();
                }
            }
            // More often while some have heard of a generation that is not stored: these lose the most.
            let rebalances =
                |client: &Client| matches!(client.doing, Doing::Joined { .. } | Doing::Syncing { .. });
            let one_in = if self.clients.iter().any(rebalances) { 200 } else { 4000 };
            if self.faults && self.chance.one_in(one_in) {
                self.restart_broker();
            }
        }
    }

    fn restart_broker(&mut self) {
        self.writes.clear();
        self.groups = Groups::new(RULES);
        let now = self.time();
        self.groups.restore(&self.stored, now);
        // Connections break: who waits for an answer asks again.
        for client in &mut self.clients {
            client.request += 1;
            if matches!(client.doing, Doing::Joining { .. } | Doing::Syncing { .. }) {
                client.doing = Doing::Out;
            }
        }
    }

    /// Writes end in their order, most of them well.
    fn write(&mut self) {
        while self.writes.first().is_some_and(|(at, ..)| *at <= self.now) {
            let (_, id, record) = self.writes.remove(0);
            let fails = self.faults && self.chance.one_in(20);
            if !fails {
                self.stored.apply(&record).expect("what a group encodes decodes");
            }
            let now = self.time();
            self.groups.on_stored(now, id, if fails { Err(GroupError::NotStored) } else { Ok(()) });
        }
    }

    fn settle(&mut self) {
        assert_eq!(self.groups.bytes(), self.groups.recounted_bytes());
        while let Some(action) = self.groups.poll_action() {
            match action {
                Action::Join((index, request), joined) => {
                    if self.waits(index, request) {
                        self.on_joined(index, joined);
                    }
                }
                Action::Sync((index, request), synced) => {
                    if self.waits(index, request) {
                        self.on_synced(index, synced);
                    }
                }
                Action::Store { id, record } => {
                    let last = self.writes.last().map_or(self.now, |(at, ..)| *at);
                    let slow = if self.faults { self.chance.below(2 * SECOND) } else { SECOND / 1000 };
                    self.writes.push((last.max(self.now) + slow, id, record));
                }
            }
        }
    }

    /// Is there a client that still waits for this answer?
    fn waits(&self, index: usize, request: u64) -> bool {
        self.clients.get(index).is_some_and(|client| client.request == request)
    }

    fn act(&mut self, index: usize) {
        self.clients[index].acts_at = self.now + SECOND + self.chance.below(2 * SECOND);
        if self.faults && self.chance.one_in(200) {
            self.misbehave(index);
            return;
        }
        match self.clients[index].doing.clone() {
            Doing::Down if !self.faults || self.chance.one_in(20) => self.clients[index].doing = Doing::Out,
            Doing::Down => {}
            Doing::Out => self.join(index),
            Doing::Joining { since } | Doing::Syncing { since } if self.now > since + PATIENCE => {
                self.clients[index].request += 1;
                self.clients[index].doing = Doing::Out;
            }
            Doing::Joining { .. } | Doing::Syncing { .. } => {}
            Doing::Joined { members } => self.sync(index, &members),
            Doing::Member => self.stay(index),
        }
    }

    /// A heartbeat, or a commit, which counts as one.
    fn stay(&mut self, index: usize) {
        let who = self.who(index);
        let now = self.time();
        let commits = self.chance.one_in(4);
        let result = if commits {
            self.groups.handle_commit(now, GROUP, &who)
        } else {
            self.groups.handle_heartbeat(now, GROUP, &who)
        };
        if result.is_ok() {
            let (generation, newest) = (who.generation, self.last_assigned);
            assert!(!commits || generation >= newest, "a commit of generation {generation} after {newest}");
            let durable = who.instance.as_ref().and_then(|instance| self.durable_ids.get(instance));
            assert!(durable <= Some(&number(&who.member)), "{} was replaced by {durable:?}", who.member);
        }
        self.on_result(index, result);
    }

    fn misbehave(&mut self, index: usize) {
        match self.chance.below(4) {
            0 => {
                let who = self.who(index);
                let now = self.time();
                let leaving = Leaving { member: who.member.clone(), instance: who.instance };
                if let Ok(results) = self.groups.handle_leave(now, GROUP, &[leaving])
                    && results.iter().all(Result::is_ok)
                {
                    let left = self.groups.describe(GROUP);
                    let mut members = left.iter().flat_map(|group| &group.members);
                    assert!(members.all(|member| member.member != who.member), "{} has left", who.member);
                }
                self.go_down(index);
            }
            1 | 2 => self.go_down(index),
            // It stands still, and believes what it did before.
            _ => self.clients[index].acts_at = self.now + self.chance.below(100 * SECOND),
        }
    }

    fn go_down(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.request += 1;
        client.doing = Doing::Down;
        client.id.clear();
        client.generation = -1;
        client.owned.clear();
    }

    fn who(&self, index: usize) -> MemberRef {
        let Client { id, instance, generation, .. } = self.clients[index].clone();
        MemberRef { member: id, instance, generation }
    }

    fn join(&mut self, index: usize) {
        self.ids += 1;
        let client = &mut self.clients[index];
        client.request += 1;
        client.doing = Doing::Joining { since: self.now };
        let join = JoinCall {
            member: client.id.clone(),
            instance: client.instance.clone(),
            client_id: String::new(),
            client_host: String::new(),
            // A static member may sleep through a rebalance, and wake up in a generation that is over.
            session_timeout: Duration::from_secs(if client.instance.is_some() { 60 } else { 10 }),
            rebalance_timeout: Duration::from_secs(20),
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::new())],
            needs_id: true,
            can_skip: index.is_multiple_of(2),
        };
        let (who, new_id) = ((index, client.request), format!("m{}", self.ids));
        let now = self.time();
        match self.groups.handle_join(now, GROUP, join, new_id, who) {
            Ok(None) => {}
            Ok(Some(joined)) => self.on_joined(index, Ok(joined)),
            Err(error) => self.on_joined(index, Err(error)),
        }
    }

    fn on_joined(&mut self, index: usize, joined: Result<Joined, GroupError>) {
        match joined {
            Ok(joined) => {
                let client = &mut self.clients[index];
                client.generation = joined.generation;
                let leads = joined.leader == joined.member && !joined.skip_assignment;
                client.id = joined.member;
                let members = joined.members.into_iter().map(|member| member.member);
                client.doing = Doing::Joined { members: members.filter(|_| leads).collect() };
                self.note_durable(index);
            }
            Err(error) => self.on_result(index, Err(error)),
        }
    }

    fn note_durable(&mut self, index: usize) {
        let Client { instance: Some(instance), id, .. } = &self.clients[index] else { return };
        let durable = self.durable_ids.entry(instance.clone()).or_default();
        *durable = (*durable).max(number(id));
    }

    fn sync(&mut self, index: usize, members: &[String]) {
        let mut assignments: Vec<(String, Vec<u8>)> = members.iter().map(|id| (id.clone(), vec![])).collect();
        if !assignments.is_empty() {
            self.rebalances += 1;
            for partition in 0..PARTITIONS {
                let to = self.chance.below(assignments.len() as u64) as usize;
                assignments[to].1.push(partition);
            }
        }
        let client = &mut self.clients[index];
        client.request += 1;
        client.doing = Doing::Syncing { since: self.now };
        let who = (index, client.request);
        let sync = SyncCall {
            who: self.who(index),
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignments: assignments.into_iter().map(|(id, owned)| (id, owned.into())).collect(),
        };
        let now = self.time();
        match self.groups.handle_sync(now, GROUP, sync, who) {
            Ok(None) => {}
            Ok(Some(synced)) => self.on_synced(index, Ok(synced)),
            Err(error) => self.on_synced(index, Err(error)),
        }
    }

    fn on_synced(&mut self, index: usize, synced: Result<Synced, GroupError>) {
        let synced = match synced {
            Ok(synced) => synced,
            Err(error) => return self.on_result(index, Err(error)),
        };
        let client = &mut self.clients[index];
        client.doing = Doing::Member;
        client.owned = synced.assignment.to_vec();
        let generation = client.generation;
        assert!(generation >= self.last_assigned, "{generation} after {}", self.last_assigned);
        self.last_assigned = generation;
        let me = client.instance.clone().unwrap_or_else(|| client.id.clone());
        for partition in &self.clients[index].owned {
            let owner = self.owners.entry((generation, *partition)).or_insert_with(|| me.clone());
            assert_eq!(*owner, me, "partition {partition} in generation {generation}");
        }
    }

    fn on_result(&mut self, index: usize, result: Result<(), GroupError>) {
        let client = &mut self.clients[index];
        match result {
            Ok(()) => return,
            Err(GroupError::MemberIdRequired { member }) => client.id = member,
            Err(GroupError::RebalanceInProgress | GroupError::NotStored) => {}
            Err(GroupError::UnknownMember | GroupError::IllegalGeneration) => client.id.clear(),
            Err(GroupError::FencedInstance) => {
                let durable = client.instance.as_ref().and_then(|instance| self.durable_ids.get(instance));
                let own = durable == Some(&number(&client.id)) && client.instance.as_deref() != Some("twin");
                assert!(!own, "{} is fenced, and nobody else has its instance", client.id);
                return self.go_down(index);
            }
            Err(error) => panic!("{error:?} has no reason here"),
        }
        client.doing = Doing::Out;
        client.owned.clear();
    }

    /// The faults are over; afterwards everybody who is there has its share.
    fn converge(&mut self) {
        self.faults = false;
        if self.clients.len() > 4 {
            // Of the twins, one.
            let last = self.clients.len() - 1;
            self.go_down(last);
            self.clients.pop();
        }
        self.run(self.now + CALM);
        self.check_shares(None);
        // One of them dies, and perhaps the broker in the same moment.
        let dead = self.chance.below(self.clients.len() as u64) as usize;
        self.go_down(dead);
        self.clients[dead].acts_at = u64::MAX;
        if self.chance.one_in(2) {
            self.restart_broker();
        }
        self.run(self.now + CALM);
        self.check_shares(Some(dead));
        self.clients[dead].acts_at = self.now;
        assert!(self.rebalances > 0);
    }

    /// Everything has one owner, and all who live are in the same generation.
    fn check_shares(&self, dead: Option<usize>) {
        let living = || self.clients.iter().enumerate().filter(move |(index, _)| Some(*index) != dead);
        let newest = living().map(|(_, client)| client.generation).max();
        let mut owned: Vec<u8> = Vec::new();
        for (_, client) in living() {
            assert_eq!((&client.doing, Some(client.generation)), (&Doing::Member, newest), "{client:?}");
            owned.extend(&client.owned);
        }
        owned.sort_unstable();
        assert_eq!(owned, (0..PARTITIONS).collect::<Vec<_>>());
    }
}

/// `m7` is 7; no id is 0.
fn number(id: &str) -> u64 {
    id.trim_start_matches('m').parse().unwrap_or(0)
}

/// Days of one seed.
pub(super) fn play(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..3 {
        world.faults = true;
        world.run(world.now + 2 * 3600 * SECOND);
        let mut twin = (world.clients.len() > 4).then(|| world.clients[world.clients.len() - 1].clone());
        world.converge();
        world.clients.extend(twin.take());
    }
}

#[test]
fn many_days_end_with_everything_assigned_once() {
    let replayed = std::env::var("RINGMQ_SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in replayed.map_or(0..40, |seed: u64| seed..seed + 1) {
        let played = catch_unwind(|| play(seed));
        assert!(played.is_ok(), "replay with: RINGMQ_SIM_SEED={seed} cargo test --lib many_days_end");
    }
}

#[test]
fn a_fortnight() {
    let mut world = World::new(7);
    world.run(14 * 24 * 3600 * SECOND);
    world.converge();
    assert!(world.rebalances > 1000, "only {} rebalances", world.rebalances);
}
