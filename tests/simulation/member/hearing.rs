//! What a member hears, and what it makes of it.

use std::time::Duration;

use ringmq::kafka::protocol::ErrorCode;
use ringmq::kafka::protocol::api::Response;
use ringmq::kafka::protocol::messages::JoinGroupResponse;
use ringmq::model::Nanos;

use super::super::assignor::{Part, Peer, Protocol};
use super::super::coverage::Event;
use super::super::link::{Heard, decode};
use super::super::metadata::{Subscription, assigned};
use super::super::roster::Roster;
use super::super::stage::Stage;
use super::{Doing, HEARTBEAT, Member, Note};

impl Member {
    pub fn hear(&mut self, stage: &mut Stage, roster: &mut Roster) {
        while !self.asleep {
            match self.link.hear(stage) {
                Heard::Response { note, frame, api, version } => {
                    stage.coverage.count(Event::MemberAnswers);
                    self.on_answer(note, &decode(&frame, api, version), stage, roster);
                }
                Heard::Broken => {
                    match self.doing {
                        Doing::Joining | Doing::Syncing => self.doing = Doing::Out,
                        // Whether it is gone the broker knows.
                        Doing::Leaving => self.stop(HEARTBEAT, stage),
                        Doing::Down
                        | Doing::Out
                        | Doing::Joined { .. }
                        | Doing::Member
                        | Doing::Revoking { .. } => {}
                    }
                    if !self.is_down() {
                        self.again(stage, Duration::from_secs(10));
                    }
                }
                Heard::Nothing => return,
            }
        }
    }

    fn on_answer(&mut self, note: Note, response: &Response<'_>, stage: &mut Stage, roster: &mut Roster) {
        match (note, response) {
            (Note::Join { asked }, Response::JoinGroup(response)) => {
                self.on_joined(asked, response, stage, roster);
            }
            (Note::Sync { newest }, Response::SyncGroup(response)) => match response.error_code {
                ErrorCode::NONE => self.on_share(assigned(response.assignment), newest, stage, roster),
                error => self.refused(error, stage),
            },
            (Note::Heartbeat, Response::Heartbeat(response)) => match response.error_code {
                ErrorCode::NONE => self.on_accepted(stage),
                error => self.refused(error, stage),
            },
            (Note::Commit { generation, newest, offsets, slept }, Response::OffsetCommit(response)) => {
                let mut answers = response.topics.iter().flat_map(|topic| &topic.partitions);
                let error = answers.next().expect("one for each partition").error_code;
                assert!(answers.all(|answer| answer.error_code == error), "all partitions, or none");
                if error == ErrorCode::NONE {
                    roster.committed(self.group, generation, newest, &self.name(), &offsets);
                    self.committed_in = generation;
                    stage.coverage.count(Event::MemberCommits);
                    self.on_accepted(stage);
                    return;
                }
                let stale = [ErrorCode::ILLEGAL_GENERATION, ErrorCode::UNKNOWN_MEMBER_ID].contains(&error);
                stage.coverage.add(Event::ZombiesFenced, u64::from(slept && stale));
                stage.coverage.add(Event::CommitsOfOldGenerations, u64::from(newest > generation));
                stage.coverage.count(match error {
                    ErrorCode::ILLEGAL_GENERATION => Event::CommitsRefusedByGeneration,
                    ErrorCode::UNKNOWN_MEMBER_ID => Event::CommitsOfStrangers,
                    ErrorCode::FENCED_INSTANCE_ID => Event::CommitsOfReplaced,
                    ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => {
                        Event::CommitsNotStored
                    }
                    // Who owns something belongs to a generation that was assigned.
                    error => panic!("{self}: a commit: {error:?}"),
                });
                self.refused(error, stage);
            }
            (Note::Offsets { generation, known }, Response::OffsetFetch(response)) => {
                if response.error_code == ErrorCode::COORDINATOR_NOT_AVAILABLE {
                    return self.refused(response.error_code, stage);
                }
                assert_eq!(response.error_code, ErrorCode::NONE);
                let found = roster.fetched(self.group, &known, response);
                stage.coverage.count(Event::MemberOffsetFetches);
                if generation == self.generation && matches!(self.doing, Doing::Member) {
                    self.positions.extend(found.into_iter().map(|(part, offset)| (part, offset.max(0))));
                }
                self.again(stage, Duration::from_secs(30));
            }
            (Note::Leave { id }, Response::LeaveGroup(response)) => {
                let refused = response.members.first().map_or(response.error_code, |left| left.error_code);
                if refused == ErrorCode::NONE {
                    roster.left(self.group, &id, stage.world.now().mono);
                    stage.coverage.count(Event::MembersLeft);
                }
                self.stop(Duration::from_secs(stage.rng.below(7200)), stage);
            }
            _ => panic!("an answer of another kind"),
        }
    }

    fn on_joined(
        &mut self,
        asked: Nanos,
        response: &JoinGroupResponse<'_>,
        stage: &mut Stage,
        roster: &mut Roster,
    ) {
        match response.error_code {
            ErrorCode::NONE => {}
            ErrorCode::MEMBER_ID_REQUIRED => {
                self.id = response.member_id.to_owned();
                self.doing = Doing::Out;
                return self.again(stage, Duration::from_secs(1));
            }
            error => return self.refused(error, stage),
        }
        let protocol = Protocol::named(response.protocol_name.expect("there is one"));
        assert!(self.supports.contains(&protocol), "{self}: {protocol:?} is chosen");
        let before = self.protocol.replace(protocol);
        stage
            .coverage
            .add(Event::ProtocolChanges, u64::from(before.is_some_and(|before| before != protocol)));
        (self.id, self.generation) = (response.member_id.to_owned(), response.generation_id);
        self.heard_at = asked;
        if std::mem::take(&mut self.slept) {
            // Who knows what has happened to the generation since?
            self.forget_share();
        }
        stage.coverage.add(Event::PartitionsKept, self.owned.len() as u64);
        roster.kept(self.group, self.generation, asked, self.shared_in, &self.name(), &self.owned);
        let peers = response.members.iter().map(|member| Peer {
            id: member.member_id.to_owned(),
            name: member.group_instance_id.unwrap_or(member.member_id).to_owned(),
            said: Subscription::decode(member.metadata, protocol),
        });
        let peers: Vec<Peer> = peers.collect();
        if !peers.is_empty() {
            let members: Vec<_> = peers.iter().map(|peer| (peer.id.clone(), peer.name.clone())).collect();
            roster.gathered(self.group, self.generation, asked, &members);
        }
        let leads = response.leader == response.member_id;
        assert_eq!(leads, !peers.is_empty(), "the leader alone is told of the others");
        if let Some(returning) = self.returning.take()
            && returning.disturbances == roster.disturbances(self.group)
        {
            let found = self.generation;
            assert_eq!(
                found,
                returning.generation,
                "{} came back, and nothing else had happened",
                self.name()
            );
            stage.coverage.count(Event::StaticReturns);
        }
        stage.coverage.add(Event::AssignmentsSkipped, u64::from(response.skip_assignment));
        let assigns = leads && !response.skip_assignment;
        stage.coverage.add(Event::Rebalances, u64::from(assigns));
        self.doing = Doing::Joined { peers: peers.into_iter().filter(|_| assigns).collect() };
        // Now and then a leader thinks for long.
        let thinks = if assigns && stage.rng.one_in(4) { 300 } else { 20 };
        stage.tell(|| format!("{self}; it leads: {assigns}"));
        self.again(stage, Duration::from_secs(thinks));
    }

    fn on_share(&mut self, share: Vec<Part>, newest: i32, stage: &mut Stage, roster: &mut Roster) {
        let name = self.name();
        roster.handed_out(self.group, self.generation, newest, &name, &share);
        self.count_share(stage);
        let revoked: Vec<Part> = self.owned.iter().filter(|part| !share.contains(part)).copied().collect();
        if self.generation <= self.shared_in + 1 {
            // It is the owner until it has given them up.
            roster.handed_out(self.group, self.generation, newest, &name, &revoked);
        } else {
            // It knows nothing of the generations between: others may have committed.
            self.positions.clear();
        }
        (self.last_share, self.shared_in) = (share.clone(), self.generation);
        if revoked.is_empty() {
            self.give_up(share);
            self.doing = Doing::Member;
        } else {
            stage.coverage.count(Event::Revocations);
            self.doing = Doing::Revoking { share };
        }
        self.heard_at = self.asked_at;
        (self.slept, self.restarted) = (false, false);
        stage.tell(|| self.to_string());
        self.again(stage, Duration::from_secs(5));
    }

    fn count_share(&self, stage: &mut Stage) {
        let protocol = self.protocol.expect("it has joined");
        stage.coverage.count(Event::SharesHandedOut);
        stage.coverage.count(match protocol {
            Protocol::Range => Event::SharesByRange,
            Protocol::RoundRobin => Event::SharesByRoundRobin,
            Protocol::Sticky => Event::SharesBySticky,
            Protocol::Cooperative if self.cooperates() => Event::SharesByCooperative,
            Protocol::Cooperative => Event::CooperativeSharesOfEager,
        });
        stage.coverage.add(Event::SharesAmongSeveral, u64::from(self.supports.len() > 1));
    }

    /// It is a member, says the broker.
    fn on_accepted(&mut self, stage: &mut Stage) {
        self.heard_at = self.asked_at;
        if std::mem::take(&mut self.restarted) {
            stage.coverage.count(Event::MembersKeptByRestarts);
        }
    }

    fn refused(&mut self, error: ErrorCode, stage: &mut Stage) {
        stage.tell(|| format!("{self}: {error:?}"));
        let waits = matches!(self.doing, Doing::Joining | Doing::Syncing);
        match error {
            ErrorCode::COORDINATOR_NOT_AVAILABLE | ErrorCode::NOT_COORDINATOR => {
                stage.storage_error("a group");
                if waits {
                    self.doing = Doing::Out;
                }
            }
            // It joins anyway, as soon as it has given up what it is to.
            ErrorCode::REBALANCE_IN_PROGRESS if matches!(self.doing, Doing::Revoking { .. }) => {}
            ErrorCode::REBALANCE_IN_PROGRESS => self.doing = Doing::Out,
            ErrorCode::ILLEGAL_GENERATION | ErrorCode::UNKNOWN_MEMBER_ID => {
                // Some are stubborn, and commit once more.
                if waits || !self.believes() || !stage.rng.one_in(3) {
                    self.forget_share();
                    if error == ErrorCode::UNKNOWN_MEMBER_ID || stage.rng.one_in(2) {
                        self.id.clear();
                    }
                    self.doing = Doing::Out;
                }
            }
            ErrorCode::FENCED_INSTANCE_ID => {
                assert!(self.has_twin, "{} is fenced, and nobody else has its instance", self.name());
                stage.coverage.count(Event::InstancesFenced);
                // The next start of it is an operator's.
                self.stop(Duration::from_secs(12 * 3600), stage);
                return;
            }
            error => panic!("{}: {error:?} has no reason here", self.name()),
        }
        self.again(stage, Duration::from_secs(30));
    }
}
