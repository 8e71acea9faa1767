//! A member of a consumer group, as clients play it: it joins, assigns if it leads, syncs, asks for what was
//! committed, commits and sends heartbeats. It dies, sleeps longer than its session and goes on as if nothing had
//! happened, leaves, and comes back.
//!
//! Who knows an eager protocol gives up everything before it joins. Who knows the cooperative one alone keeps what it
//! owns, gives up what its share lacks when it hears of that, and joins again at once, so that others may have it.

mod hearing;

use std::time::Duration;

use ringmq::kafka::protocol::messages::join_group::JoinGroupRequestProtocol;
use ringmq::kafka::protocol::messages::leave_group::MemberIdentity;
use ringmq::kafka::protocol::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ringmq::kafka::protocol::messages::sync_group::SyncGroupRequestAssignment;
use ringmq::kafka::protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, SyncGroupRequest,
};
use ringmq::model::Nanos;

use super::assignor::{Part, Peer, Protocol, TOPICS};
use super::coverage::Event;
use super::link::Link;
use super::metadata::{Subscription, assignment};
use super::roster::{Offsets, Roster, group_name, offsets_of};
use super::stage::Stage;

/// Between heartbeats, at most: sparse, so that weeks pass quickly, and far below the sessions.
const HEARTBEAT: Duration = Duration::from_secs(180);
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(600);
/// Who has waited so long for an answer connects again.
const PATIENCE: Duration = Duration::from_secs(1500);

#[derive(Clone)]
enum Doing {
    /// Its process is not running.
    Down,
    /// It is to join. It may still believe that it owns something.
    Out,
    Joining,
    /// The leader knows with whom.
    Joined {
        peers: Vec<Peer>,
    },
    Syncing,
    Member,
    /// A member that has something to give up: it is to own this, and no more.
    Revoking {
        share: Vec<Part>,
    },
    Leaving,
}

enum Note {
    Join {
        asked: Nanos,
    },
    /// The newest generation that anybody had been given when the request left.
    Sync {
        newest: i32,
    },
    Heartbeat,
    Commit {
        generation: i32,
        newest: i32,
        offsets: Offsets,
        slept: bool,
    },
    /// What was known to be committed when the request left.
    Offsets {
        generation: i32,
        known: Offsets,
    },
    Leave {
        id: String,
    },
}

/// A static member whose process has died while nothing else was going on.
struct Returning {
    generation: i32,
    /// The broker misses it from then on.
    session_end: Nanos,
    disturbances: u64,
}

pub struct Member {
    pub group: usize,
    instance: Option<&'static str>,
    topics: &'static [usize],
    /// There is another process with the same instance.
    pub has_twin: bool,
    session: Duration,
    /// What its process supports, the best first, and what it would if it were started now.
    supports: Vec<Protocol>,
    configured: Vec<Protocol>,
    link: Link<Note>,
    id: String,
    pub generation: i32,
    /// Of the generation in which it takes part, or took part last.
    protocol: Option<Protocol>,
    doing: Doing,
    pub owned: Vec<Part>,
    /// What it was given last, and in which generation.
    last_share: Vec<Part>,
    shared_in: i32,
    /// Where it goes on in what it owns, once it has asked.
    positions: Offsets,
    pub acts_at: Nanos,
    asked_at: Nanos,
    /// When it last was told that it is a member.
    heard_at: Nanos,
    asleep: bool,
    /// It has slept longer than a session or a rebalance takes, and does not know what has happened since.
    slept: bool,
    /// The generation in which a commit of it was last acknowledged.
    pub committed_in: i32,
    /// The last that it sent was a commit.
    committed_last: bool,
    /// The broker has restarted since it was given its share.
    restarted: bool,
    returning: Option<Returning>,
}

impl Member {
    pub fn new(group: usize, instance: Option<&'static str>, topics: &'static [usize]) -> Member {
        Member {
            group,
            instance,
            topics,
            has_twin: false,
            session: Duration::from_secs(if instance.is_some() { 1800 } else { 600 }),
            supports: Vec::new(),
            configured: Vec::new(),
            link: Link::new(),
            id: String::new(),
            generation: -1,
            protocol: None,
            doing: Doing::Down,
            owned: Vec::new(),
            last_share: Vec::new(),
            shared_in: -1,
            positions: Offsets::new(),
            acts_at: Nanos(0),
            asked_at: Nanos(0),
            heard_at: Nanos(0),
            asleep: false,
            slept: false,
            committed_in: -1,
            committed_last: false,
            restarted: false,
            returning: None,
        }
    }

    pub fn socket(&self) -> Option<u64> {
        self.link.id()
    }

    pub fn is_down(&self) -> bool {
        matches!(self.doing, Doing::Down)
    }

    /// It believes to belong to a generation, and is awake.
    pub fn is_settled(&self) -> bool {
        matches!(self.doing, Doing::Member) && !self.asleep
    }

    pub fn is_rebalancing(&self) -> bool {
        matches!(self.doing, Doing::Joining | Doing::Joined { .. } | Doing::Syncing | Doing::Revoking { .. })
    }

    /// What its process supports from its next start on.
    pub fn configure(&mut self, protocols: Vec<Protocol>) {
        self.configured = protocols;
    }

    /// It runs with another configuration than it is to have.
    pub fn is_outdated(&self) -> bool {
        !self.is_down() && self.supports != self.configured
    }

    /// It keeps what it owns while it joins.
    fn cooperates(&self) -> bool {
        self.supports == [Protocol::Cooperative]
    }

    pub fn session(&self) -> Duration {
        self.session
    }

    /// Under which partitions are counted as its own: its instance, if it has one, or its id.
    pub fn name(&self) -> String {
        self.instance.map_or_else(|| self.id.clone(), str::to_owned)
    }

    fn again(&mut self, stage: &mut Stage, within: Duration) {
        let after = stage.rng.below(within.as_nanos() as u64);
        self.acts_at = Nanos(stage.world.now().mono.0 + after);
    }

    // --- What befalls it. ---

    /// Its process dies, and starts again after some time. `calm`: the group is settled otherwise.
    pub fn die(&mut self, down_for: Duration, calm: bool, stage: &Stage, roster: &mut Roster) {
        roster.disturb(self.group);
        let returns = calm && self.instance.is_some() && self.is_settled() && !self.has_twin;
        let returns = returns && !self.is_outdated();
        self.returning = returns.then(|| Returning {
            generation: self.generation,
            session_end: self.heard_at.plus(self.session),
            disturbances: roster.disturbances(self.group),
        });
        self.stop(down_for, stage);
    }

    fn stop(&mut self, down_for: Duration, stage: &Stage) {
        self.link.reset();
        self.link = Link::new();
        self.id.clear();
        (self.generation, self.protocol) = (-1, None);
        self.doing = Doing::Down;
        self.forget_share();
        self.last_share.clear();
        self.shared_in = -1;
        (self.asleep, self.slept) = (false, false);
        self.acts_at = stage.world.now().mono.plus(down_for);
    }

    /// It stands still, and believes what it did before.
    pub fn sleep(&mut self, duration: Duration, stage: &Stage, roster: &mut Roster) {
        if matches!(self.doing, Doing::Down | Doing::Leaving) {
            return;
        }
        roster.disturb(self.group);
        self.slept |= self.asleep || duration > REBALANCE_TIMEOUT;
        self.asleep = true;
        self.acts_at = stage.world.now().mono.plus(duration);
    }

    /// It says that it goes. Returns whether it could.
    pub fn leave(&mut self, stage: &mut Stage, roster: &mut Roster) -> bool {
        if !self.is_settled() || !self.link.ready(stage) || self.link.in_flight() > 0 {
            return false;
        }
        roster.disturb(self.group);
        let mut request = LeaveGroupRequest { group_id: group_name(self.group), ..Default::default() };
        request.members.push(MemberIdentity {
            member_id: &self.id,
            group_instance_id: self.instance,
            ..Default::default()
        });
        let version = *stage.rng.pick(&[3, 5]);
        self.link.ask(version, &request, Note::Leave { id: self.id.clone() });
        self.asked_at = stage.world.now().mono;
        self.doing = Doing::Leaving;
        true
    }

    pub fn break_connection(&mut self, stage: &mut Stage, roster: &mut Roster) {
        self.link.reset();
        self.hear(stage, roster);
    }

    pub fn broker_ended(&mut self, stage: &mut Stage, roster: &mut Roster) {
        self.restarted = matches!(self.doing, Doing::Member);
        self.hear(stage, roster);
    }

    /// No faults any more: it wakes up, or starts, soon.
    pub fn calm_down(&mut self, stage: &Stage) {
        let soon = stage.world.now().mono.plus(Duration::from_secs(30));
        self.acts_at = self.acts_at.min(soon);
    }

    // --- What it does. ---

    pub fn act(&mut self, stage: &mut Stage, roster: &mut Roster) {
        self.asleep = false;
        self.again(stage, HEARTBEAT);
        if self.is_down() {
            self.doing = Doing::Out;
            self.supports = self.configured.clone();
        }
        // What came while it slept.
        self.hear(stage, roster);
        if self.is_down() {
            return;
        }
        if !self.link.ready(stage) {
            self.again(stage, Duration::from_secs(1));
            return;
        }
        let now = stage.world.now().mono;
        if self.link.in_flight() > 0 {
            if now > self.asked_at.plus(PATIENCE) {
                self.break_connection(stage, roster);
            }
            return;
        }
        self.asked_at = now;
        match self.doing.clone() {
            // Before it gives up what it owns.
            Doing::Out if self.may_commit() && stage.rng.one_in(3) => self.commit(stage, roster),
            Doing::Out => self.join(stage, roster),
            Doing::Joined { peers } => self.sync(&peers, stage, roster),
            Doing::Member if !self.unknown().is_empty() => self.ask_offsets(roster),
            Doing::Member if self.may_commit() && (self.slept || stage.rng.one_in(3)) => {
                self.commit(stage, roster);
            }
            Doing::Member => self.beat(stage),
            Doing::Revoking { .. } if self.may_commit() && stage.rng.one_in(2) => {
                stage.coverage.count(Event::CommitsBeforeRevocation);
                self.commit(stage, roster);
            }
            Doing::Revoking { share } => {
                self.give_up(share);
                self.join(stage, roster);
            }
            Doing::Down | Doing::Joining | Doing::Syncing | Doing::Leaving => {
                unreachable!("an answer is to come, or the connection has broken")
            }
        }
    }

    /// What it owns without knowing where to go on.
    fn unknown(&self) -> Vec<Part> {
        self.owned.iter().filter(|part| !self.positions.contains_key(part)).copied().collect()
    }

    /// It owns something, as far as it knows.
    fn believes(&self) -> bool {
        !self.owned.is_empty() && self.unknown().is_empty()
    }

    /// After a commit it asks how its group is. In a generation of which it has no share it owns what it was given
    /// before, and whether it still does it is to hear.
    fn may_commit(&self) -> bool {
        self.believes() && !self.committed_last && self.generation == self.shared_in
    }

    fn forget_share(&mut self) {
        self.owned.clear();
        self.positions.clear();
    }

    fn give_up(&mut self, share: Vec<Part>) {
        self.positions.retain(|part, _| share.contains(part));
        self.owned = share;
    }

    fn says(&self, protocol: Protocol) -> Vec<u8> {
        let owned = match protocol {
            Protocol::Cooperative => self.owned.clone(),
            _ => self.last_share.clone(),
        };
        Subscription { topics: self.topics.to_vec(), owned, owned_in: self.shared_in }.encode(protocol)
    }

    fn join(&mut self, stage: &mut Stage, roster: &mut Roster) {
        // Coming back in time is no disturbance.
        let asked_at = self.asked_at;
        if self.returning.take_if(|returning| asked_at >= returning.session_end).is_some()
            || self.returning.is_none()
        {
            roster.disturb(self.group);
        }
        // Who has not come to a rebalance in time knows that it is none any more that anybody waits for.
        if !self.cooperates() || self.slept {
            self.forget_share();
        }
        self.committed_last = false;
        let metadata: Vec<_> =
            self.supports.iter().map(|protocol| (protocol.name(), self.says(*protocol))).collect();
        let mut request = JoinGroupRequest {
            group_id: group_name(self.group),
            session_timeout_ms: self.session.as_millis() as i32,
            rebalance_timeout_ms: REBALANCE_TIMEOUT.as_millis() as i32,
            member_id: &self.id,
            group_instance_id: self.instance,
            protocol_type: "consumer",
            ..Default::default()
        };
        request
            .protocols
            .extend(metadata.iter().map(|(name, metadata)| JoinGroupRequestProtocol { name, metadata }));
        let version = *stage.rng.pick(&[5, 7, 9]);
        self.link.ask(version, &request, Note::Join { asked: self.asked_at });
        self.doing = Doing::Joining;
    }

    fn sync(&mut self, peers: &[Peer], stage: &mut Stage, roster: &Roster) {
        let protocol = self.protocol.expect("it has joined");
        let shares: Vec<Vec<u8>> = protocol.assign(peers).iter().map(|share| assignment(share)).collect();
        let assignments = peers
            .iter()
            .zip(&shares)
            .map(|(peer, share)| SyncGroupRequestAssignment { member_id: &peer.id, assignment: share });
        let request = SyncGroupRequest {
            group_id: group_name(self.group),
            generation_id: self.generation,
            member_id: &self.id,
            group_instance_id: self.instance,
            protocol_type: Some("consumer"),
            protocol_name: Some(protocol.name()),
            assignments: assignments.collect(),
        };
        let version = *stage.rng.pick(&[3, 5]);
        self.link.ask(version, &request, Note::Sync { newest: roster.newest(self.group) });
        self.doing = Doing::Syncing;
    }

    fn beat(&mut self, stage: &mut Stage) {
        self.committed_last = false;
        let request = HeartbeatRequest {
            group_id: group_name(self.group),
            generation_id: self.generation,
            member_id: &self.id,
            group_instance_id: self.instance,
        };
        let version = *stage.rng.pick(&[3, 4]);
        self.link.ask(version, &request, Note::Heartbeat);
    }

    fn ask_offsets(&mut self, roster: &Roster) {
        let note = Note::Offsets { generation: self.generation, known: roster.acked(self.group) };
        self.link.ask(6, &offsets_of(self.group, &self.unknown()), note);
    }

    fn commit(&mut self, stage: &mut Stage, roster: &mut Roster) {
        for position in self.positions.values_mut() {
            *position += stage.rng.below(50) as i64;
        }
        let offsets = self.positions.clone();
        self.committed_last = true;
        self.again(stage, Duration::from_secs(30));
        roster.committing(self.group, &offsets);
        let mut request = OffsetCommitRequest {
            group_id: group_name(self.group),
            generation_id_or_member_epoch: self.generation,
            member_id: &self.id,
            group_instance_id: self.instance,
            ..Default::default()
        };
        for (topic, (name, _)) in TOPICS.iter().enumerate() {
            let of_topic = offsets.iter().filter(|(part, _)| part.topic == topic);
            let partitions = of_topic.map(|(part, offset)| OffsetCommitRequestPartition {
                partition_index: part.index,
                committed_offset: *offset,
                ..Default::default()
            });
            request.topics.push(OffsetCommitRequestTopic { name, partitions: partitions.collect() });
        }
        request.topics.retain(|topic| !topic.partitions.is_empty());
        let (generation, newest) = (self.generation, roster.newest(self.group));
        self.link.ask(7, &request, Note::Commit { generation, newest, offsets, slept: self.slept });
    }
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let doing = match self.doing {
            Doing::Down => "is down",
            Doing::Out => "is to join",
            Doing::Joining => "joins",
            Doing::Joined { .. } => "has joined",
            Doing::Syncing => "syncs",
            Doing::Member => "is a member",
            Doing::Revoking { .. } => "is to give something up",
            Doing::Leaving => "leaves",
        };
        let (name, generation, owned) = (self.name(), self.generation, self.owned.len());
        let protocol = self.protocol.map_or("nothing", Protocol::name);
        let in_flight = self.link.in_flight();
        write!(f, "{name:?} {doing} in {generation} by {protocol} with {owned}, {in_flight} in flight")
    }
}
