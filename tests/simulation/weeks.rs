//! Groups of members that live for a fortnight, with a broker that does not: it is killed, loses its power, comes back
//! with another number of shards, and its disk fails. Members die, sleep, leave and come back meanwhile.
//!
//! ```text
//!   days of misfortunes -> calm: all share everything -> one dies, perhaps with the broker: the others take over -> ...
//! ```

use std::time::Duration;

use ringmq::io::sim::Rng;
use ringmq::kafka::protocol::ErrorCode;
use ringmq::kafka::protocol::api::Response;
use ringmq::kafka::protocol::messages::CreateTopicsRequest;
use ringmq::kafka::protocol::messages::create_topics::CreatableTopic;
use ringmq::model::Nanos;

use super::assignor::{Part, TOPICS, all_parts};
use super::coverage::{Coverage, Event};
use super::link::{Heard, Link, decode};
use super::machine::{Broker, Happened, PATIENCE, Setup};
use super::member::Member;
use super::onlooker::Onlooker;
use super::rollout::Rollout;
use super::roster::{GROUPS, Roster, group_name};
use super::stage::Stage;
use super::weather::Weather;

/// Times that misfortunes are followed by calm.
const ROUNDS: u64 = 5;
const HOUR: Duration = Duration::from_secs(3600);
const MISFORTUNES: Duration = HOUR.saturating_mul(64);
/// After faults everybody has its share within this time: sessions of half an hour end, rebalances of ten minutes.
const CALM: Duration = HOUR.saturating_mul(2);
/// So much of a quiet time is played in most stories; then nobody runs, as on a machine that is suspended, until a
/// client acts.
const PLAYED: Duration = Duration::from_secs(3);

struct Story {
    stage: Stage,
    setup: Setup,
    /// Quiet times are not played from second to second.
    suspends: bool,
    /// When a client last did or heard something.
    active_at: Nanos,
    ids: Rng,
    roster: Roster,
    rollouts: [Rollout; GROUPS],
    members: Vec<Member>,
    onlooker: Onlooker,
}

/// Play the fortnight of a seed. Panics when a promise was broken.
pub fn play(seed: u64, loud: bool) -> Coverage {
    play_with(seed, loud, None)
}

/// The same; `credits`: so many calls of one shard to another may be under way, whatever the seed says.
pub fn play_with(seed: u64, loud: bool, credits: Option<usize>) -> Coverage {
    let draw = |rng: &mut Rng| {
        let mut setup = Setup::draw(rng);
        setup.credits = credits.unwrap_or(setup.credits);
        setup
    };
    let (mut stage, setup) = Stage::set_up(seed, draw, loud);
    const BOTH: &[usize] = &[0, 1];
    let mut members = vec![
        Member::new(0, None, BOTH),
        Member::new(0, None, BOTH),
        Member::new(0, None, &[1]),
        Member::new(0, Some("first"), BOTH),
        Member::new(0, Some("second"), &[0]),
        Member::new(1, Some("third"), BOTH),
        Member::new(1, Some("fourth"), BOTH),
        Member::new(1, None, &[0]),
        // Another process that takes itself for the first.
        Member::new(0, Some("first"), BOTH),
    ];
    let last = members.len() - 1;
    (members[3].has_twin, members[last].has_twin) = (true, true);
    let mut story = Story {
        suspends: !stage.rng.one_in(4),
        active_at: Nanos(0),
        ids: stage.rng.fork(),
        stage,
        setup,
        roster: Roster::new(),
        rollouts: std::array::from_fn(|group| Rollout::of(seed, group)),
        members,
        onlooker: Onlooker::new(),
    };
    story.run();
    story.stage.coverage
}

impl Story {
    fn run(&mut self) {
        self.stage.tell(|| format!("{:?}, {:?}", self.setup, self.rollouts));
        self.configure();
        let began = self.now();
        let mut broker = self.start();
        self.make_topics(&mut broker);
        self.twin().acts_at = Nanos(u64::MAX);
        // Groups that have committed something are never forgotten.
        self.converge(&mut broker);
        for round in 0..ROUNDS {
            self.stage.calm = false;
            if round % 2 == 1 {
                // Everybody is as configured, and nobody is a member who is not there.
                self.rollouts.iter_mut().for_each(Rollout::go_on);
                self.configure();
            }
            let until = self.now().plus(MISFORTUNES);
            while self.now() < until {
                let next = self.next_misfortune();
                self.run_until(&mut broker, next);
                broker = self.misfortune(broker);
            }
            broker = self.calm_down(broker, None);
            self.converge(&mut broker);
            broker = self.lose_one(broker);
        }
        let days = self.now().since(began) / (24 * HOUR.as_nanos() as u64);
        self.stage.coverage.add(Event::Days, days);
        assert!(days >= 14, "only {days} days");
    }

    fn now(&self) -> Nanos {
        self.stage.world.now().mono
    }

    fn twin(&mut self) -> &mut Member {
        self.members.last_mut().expect("there are many")
    }

    fn configure(&mut self) {
        for (number, member) in self.members.iter_mut().enumerate() {
            member.configure(self.rollouts[member.group].supported(number));
        }
    }

    fn some_time(&mut self, below: Duration) -> Duration {
        Duration::from_nanos(self.stage.rng.below(below.as_nanos() as u64))
    }

    // --- Time. ---

    fn run_until(&mut self, broker: &mut Broker, until: Nanos) {
        loop {
            let acts = self.members.iter().map(|member| member.acts_at);
            let next = acts.min().expect("there are members").min(self.onlooker.acts_at).min(until);
            let now = self.now();
            if now < next {
                self.pass(broker, next);
                continue;
            }
            if now >= until {
                return;
            }
            let Story { stage, roster, members, onlooker, .. } = self;
            for member in members.iter_mut().filter(|member| member.acts_at <= now) {
                member.act(stage, roster);
            }
            if onlooker.acts_at <= now {
                onlooker.act(stage, roster);
            }
            self.active_at = now;
        }
    }

    /// Let time pass up to `until`, or until a client hears something. Of a long time little is played, unless
    /// something goes on in it.
    fn pass(&mut self, broker: &mut Broker, until: Nanos) {
        let played = if self.suspends { until.min(self.active_at.plus(PLAYED)) } else { until };
        while self.now() < played {
            let before = self.active_at;
            if !self.step(broker, played) || self.active_at > before {
                return;
            }
        }
        if played < until {
            self.stage.world.suspend_until(until);
            self.stage.coverage.count(Event::Suspensions);
        }
    }

    /// The next thing that happens before `until`. Returns whether there was one.
    fn step(&mut self, broker: &mut Broker, until: Nanos) -> bool {
        match broker.step(until) {
            Happened::Inside => {}
            Happened::Client(id) => {
                self.active_at = self.now();
                let Story { stage, roster, members, onlooker, .. } = self;
                for member in members.iter_mut().filter(|member| member.socket() == Some(id)) {
                    member.hear(stage, roster);
                }
                if onlooker.socket() == Some(id) {
                    onlooker.hear(stage, roster);
                }
            }
            Happened::Nothing => return false,
        }
        true
    }

    // --- Misfortunes. ---

    fn is_rebalancing(&self) -> bool {
        self.members.iter().any(Member::is_rebalancing)
    }

    /// They come more often while members are between two generations: these lose the most.
    fn next_misfortune(&mut self) -> Nanos {
        let within = if self.is_rebalancing() { Duration::from_secs(400) } else { 2 * HOUR };
        self.now().plus(self.some_time(within))
    }

    /// Every member of the newest generation is there, and knows.
    fn is_settled(&self, group: usize) -> bool {
        let newest = self.roster.newest(group);
        let mut there = self.members.iter().filter(|member| member.group == group);
        let everybody = there.all(|member| member.is_down() || member.is_settled());
        let is_there = |name: &String| {
            let there = |member: &&Member| member.is_settled() && member.generation == newest;
            self.members.iter().filter(there).any(|member| member.group == group && member.name() == *name)
        };
        everybody && self.roster.members(group).is_some_and(|members| members.iter().all(is_there))
    }

    fn misfortune(&mut self, mut broker: Broker) -> Broker {
        let index = self.stage.rng.below(self.members.len() as u64) as usize;
        let is_twin = index == self.members.len() - 1;
        let failed = is_broken(&broker);
        match self.stage.rng.below(20) {
            _ if failed && self.stage.rng.one_in(2) => {
                self.stage.coverage.count(Event::GroupLogsFailed);
                return self.end(broker);
            }
            0..=4 if !self.members[index].is_down() => self.kill(index),
            5..=8 => {
                let member = &mut self.members[index];
                let within = 3 * member.session().as_nanos() as u64;
                let asleep = Duration::from_nanos(self.stage.rng.below(within));
                if !member.is_down() {
                    self.stage.tell(|| format!("{member}, and sleeps for {asleep:?}"));
                    self.stage.coverage.count(Event::MembersSlept);
                    member.sleep(asleep, &self.stage, &mut self.roster);
                    // Meanwhile others go.
                    let other = self.stage.rng.below(self.members.len() as u64) as usize;
                    if other != index && self.stage.rng.one_in(2) {
                        self.members[other].leave(&mut self.stage, &mut self.roster);
                    }
                }
            }
            9..=11 => {
                self.members[index].leave(&mut self.stage, &mut self.roster);
            }
            12 => self.members[index].break_connection(&mut self.stage, &mut self.roster),
            13..=15 => self.strike(),
            // An operator starts a process a second time.
            16 if self.twin().is_down() => self.twin().acts_at = self.now(),
            17..=19 => return self.end(broker),
            _ if self.members[index].is_down() && !is_twin => self.members[index].acts_at = self.now(),
            _ => {}
        }
        let soon = self.now().plus(Duration::from_secs(1));
        self.run_until(&mut broker, soon);
        broker
    }

    fn kill(&mut self, index: usize) {
        let settled = self.is_settled(self.members[index].group);
        let member = &mut self.members[index];
        let within = member.session().as_nanos() as u64 * 3 / 2;
        let down_for = Duration::from_nanos(self.stage.rng.below(within));
        self.stage.tell(|| format!("{member}, and dies for {down_for:?}"));
        member.die(down_for, settled, &self.stage, &mut self.roster);
        self.stage.coverage.count(Event::MembersDied);
    }

    fn strike(&mut self) {
        let weathers = [
            Weather::WriteFails,
            Weather::SyncFails,
            Weather::JobsFail,
            Weather::Slow,
            Weather::Short,
            Weather::SyncsStall,
            Weather::DiskFull,
            Weather::SpaceReturns,
            Weather::TimeJumps,
        ];
        let weather = *self.stage.rng.pick(&weathers);
        self.stage.tell(|| format!("{weather:?}"));
        self.stage.befall(weather);
        if weather == Weather::DiskFull {
            self.stage.fill_disk(0);
        }
    }

    /// The broker goes, and perhaps a member with it; then there is another one.
    fn end(&mut self, mut broker: Broker) -> Broker {
        self.stage.coverage.add(Event::EndsInRebalance, u64::from(self.is_rebalancing()));
        let stops = self.stage.rng.one_in(4);
        if stops {
            broker.begin_stop();
            let patience = if self.stage.rng.one_in(2) {
                PATIENCE
            } else {
                Duration::from_micros(self.stage.rng.below(20_000))
            };
            let until = self.now().plus(patience);
            while !broker.is_over() && self.step(&mut broker, until) {}
            assert!(broker.is_over() || patience < PATIENCE, "an orderly stop does not come to its end");
        }
        let crash = !broker.is_over() && self.stage.rng.one_in(2);
        self.stage.tell(|| {
            format!(
                "the broker goes, {}: {:?}",
                if crash { "as its power" } else { "alone" },
                broker.messages
            )
        });
        drop(broker);
        if crash {
            self.stage.world.crash();
        } else {
            self.stage.world.kill();
        }
        self.stage.coverage.count(if crash { Event::Crashes } else { Event::Kills });
        self.stage.repair_disk();
        for member in &mut self.members {
            member.broker_ended(&mut self.stage, &mut self.roster);
        }
        self.onlooker.hear(&mut self.stage, &mut self.roster);
        self.roster.restarted(self.stage.world.now().mono);
        if self.stage.rng.one_in(4) {
            let index = self.stage.rng.below(self.members.len() as u64) as usize;
            if !self.members[index].is_down() {
                self.kill(index);
                self.stage.coverage.count(Event::DiedWithBroker);
            }
        }
        self.start()
    }

    fn start(&mut self) -> Broker {
        // At last somebody looks at what is left.
        self.onlooker.acts_at = self.now().plus(Duration::from_secs(1));
        let shards = if self.stage.rng.one_in(3) { 1 } else { 2 };
        let started = self.stage.start(&self.setup, shards, &mut self.ids, 4);
        started.unwrap_or_else(|error| panic!("recovery: {error}"))
    }

    // --- Calm. ---

    /// The faults end: everybody is there who is to be.
    fn calm_down(&mut self, broker: Broker, dead: Option<usize>) -> Broker {
        let mut broker = if is_broken(&broker) { self.end(broker) } else { broker };
        self.stage.tell(|| "the faults end".to_owned());
        self.stage.repair_disk();
        let last = self.members.len() - 1;
        self.kill(last);
        self.twin().acts_at = Nanos(u64::MAX);
        // Misfortunes have restarted most; those who are left the operator restarts.
        for index in 0..last {
            if self.members[index].is_outdated() {
                self.kill(index);
            }
        }
        // Some are just leaving: they come back as well.
        let minute = Duration::from_secs(60);
        self.run_until(&mut broker, self.now().plus(minute));
        for (index, member) in self.members[..last].iter_mut().enumerate() {
            if Some(index) != dead {
                member.calm_down(&self.stage);
            }
        }
        // Answers to what was asked before are still to come.
        self.run_until(&mut broker, self.now().plus(minute));
        self.stage.calm = true;
        broker
    }

    fn converge(&mut self, broker: &mut Broker) {
        self.stage.calm = true;
        let until = self.now().plus(CALM);
        self.run_until(broker, until);
        self.check_shares();
        self.stage.coverage.count(Event::Convergences);
    }

    /// One dies for good, perhaps with the broker: the others take over.
    fn lose_one(&mut self, mut broker: Broker) -> Broker {
        let index = self.stage.rng.below(self.members.len() as u64 - 1) as usize;
        self.kill(index);
        self.members[index].acts_at = Nanos(u64::MAX);
        if self.stage.rng.one_in(2) {
            self.stage.calm = false;
            broker = self.end(broker);
            self.twin().acts_at = Nanos(u64::MAX);
        }
        broker = self.calm_down(broker, Some(index));
        let until = self.now().plus(CALM);
        self.run_until(&mut broker, until);
        self.check_shares();
        self.stage.coverage.count(Event::TakeOvers);
        self.members[index].acts_at = self.now();
        broker
    }

    /// Everything that somebody subscribes to has one owner, all who live are in the same generation, and have
    /// committed in it.
    fn check_shares(&self) {
        for group in 0..GROUPS {
            let newest = self.roster.newest(group);
            let mut owned: Vec<Part> = Vec::new();
            for member in self.members.iter().filter(|member| member.group == group && !member.is_down()) {
                let settled = member.is_settled() && member.generation == newest;
                assert!(settled, "{}: not in {newest} after {CALM:?}: {member}", group_name(group));
                let commits = member.owned.is_empty() || member.committed_in == newest;
                assert!(commits, "{}: no commit in {newest}: {member}", group_name(group));
                owned.extend(&member.owned);
            }
            owned.sort_unstable();
            assert_eq!(owned, all_parts().collect::<Vec<_>>(), "{}", group_name(group));
        }
    }

    // --- The beginning. ---

    fn make_topics(&mut self, broker: &mut Broker) {
        let mut link: Link<()> = Link::new();
        let mut request = CreateTopicsRequest { timeout_ms: 1000, ..Default::default() };
        request.topics.extend(TOPICS.iter().map(|(name, num_partitions)| CreatableTopic {
            name,
            num_partitions: *num_partitions,
            replication_factor: 1,
            ..Default::default()
        }));
        assert!(link.ready(&mut self.stage), "the broker listens");
        link.ask(5, &request, ());
        let until = self.now().plus(PATIENCE);
        loop {
            match link.hear(&mut self.stage) {
                Heard::Response { frame, api, version, .. } => {
                    let Response::CreateTopics(response) = decode(&frame, api, version) else {
                        panic!("an answer of another kind")
                    };
                    assert!(response.topics.iter().all(|topic| topic.error_code == ErrorCode::NONE));
                    return;
                }
                Heard::Broken => panic!("nothing goes wrong yet"),
                Heard::Nothing => assert!(self.step(broker, until), "no answer within {PATIENCE:?}"),
            }
        }
    }
}

/// A log takes nothing any more, or gets no more segments, until the broker is started again.
fn is_broken(broker: &Broker) -> bool {
    broker.logs().any(|log| log.failed() || log.space_error().is_some())
}
