//! One seed: a data directory, and the lives of the brokers that serve it.
//!
//! ```text
//!   format -> life -> end -> recovery (perhaps interrupted) -> life -> ... -> all is calm: drain, read all
//!             |       power loss, kill -9, orderly stop, power loss while stopping
//!             clients act, weather strikes
//! ```

use std::time::Duration;

use ringmq::io::sim::{DiskCall, Fault, FaultKind, Rng, SimDisk, SimWorld, Step, When};
use ringmq::model::{CommitMode, Nanos};

use super::admin::Admin;
use super::committer::Committer;
use super::consumer::Consumer;
use super::coverage::{Coverage, Event};
use super::ledger::{Ledger, Place, TopicNo};
use super::machine::{Broker, PATIENCE, Setup, format};
use super::producer::Producer;
use super::stage::{Actor, Stage};

/// Requests that every story has at least.
const REQUESTS: u64 = 1_000;
/// Nanoseconds between what clients do, at most.
const ACT_NS: u64 = 60_000;
/// A life ends after this time, however little was asked.
const LIFE: Duration = Duration::from_secs(20);
const PRODUCERS: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Crash,
    Kill,
    Stop,
    CrashWhileStopping,
}

/// What happens to a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    DiskFull,
    SpaceReturns,
    /// A write to a segment fails.
    WriteFails,
    SyncFails,
    ReadsFail,
    ReadsWork,
    JobsFail,
    Slow,
    Short,
    Reset,
    TimeJumps,
}

struct Story {
    stage: Stage,
    setup: Setup,
    ids: Rng,
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
    committers: Vec<Committer>,
    admin: Admin,
    requests: u64,
    shards: u16,
}

/// Play the story of a seed. Panics when a promise was broken.
pub fn play(seed: u64, loud: bool) -> Coverage {
    let world = SimWorld::new(seed);
    let mut rng = world.fork_rng();
    let setup = Setup::draw(&mut rng);
    format(&world, &setup);
    let mut story = Story {
        ids: rng.fork(),
        stage: Stage {
            world,
            rng,
            ledger: Ledger::default(),
            coverage: Coverage::new(),
            calm: false,
            draining: false,
            storage_fails: false,
            loud,
        },
        setup,
        producers: (0..PRODUCERS).map(|number| Producer::new(number, number != 0)).collect(),
        consumers: (0..3).map(|_| Consumer::new()).collect(),
        committers: (0..2).map(Committer::new).collect(),
        admin: Admin::new(),
        requests: 0,
        shards: 2,
    };
    story.run();
    story.stage.coverage
}

impl Story {
    fn run(&mut self) {
        self.stage.tell(|| format!("{:?}", self.setup));
        self.stage.coverage.count(match self.setup.mode {
            CommitMode::Plain => Event::PlainCommits,
            CommitMode::Dsync => Event::DsyncCommits,
            CommitMode::WriteThenSync => Event::WriteThenSyncCommits,
        });
        let lives = self.stage.rng.between(3, 7);
        let mut broker = self.start();
        for life in 1..=lives {
            let target = REQUESTS * life / lives;
            let weather = self.forecast();
            self.live(&mut broker, target, &weather);
            if life == lives {
                // What clients still have to send must find room.
                self.setup.log_bytes_max = 0;
            }
            broker = self.end(broker);
        }
        self.finish(broker);
        self.stage.coverage.add(Event::Requests, self.requests);
        assert!(self.requests >= REQUESTS, "only {} requests", self.requests);
    }

    // --- A life. ---

    /// What happens in the next life, each at a share of it.
    fn forecast(&mut self) -> Vec<(f64, Weather)> {
        let rng = &mut self.stage.rng;
        let mut weather = Vec::new();
        for _ in 0..rng.below(4) {
            let share = rng.below(1000) as f64 / 1000.0;
            match rng.below(12) {
                0 | 1 => weather
                    .extend([(share * 0.5, Weather::DiskFull), (0.4 + share * 0.5, Weather::SpaceReturns)]),
                2 => weather.push((share, Weather::WriteFails)),
                3 => weather.push((share, Weather::SyncFails)),
                4 => weather
                    .extend([(share * 0.8, Weather::ReadsFail), (share * 0.8 + 0.1, Weather::ReadsWork)]),
                5 => weather.push((share, Weather::JobsFail)),
                6 | 7 => weather.push((share, Weather::Slow)),
                8 => weather.push((share, Weather::Short)),
                9 | 10 => weather.push((share, Weather::Reset)),
                _ => weather.push((share, Weather::TimeJumps)),
            }
        }
        weather
    }

    fn strike(&mut self, weather: Weather) {
        self.stage.tell(|| format!("{weather:?}, after {} requests", self.requests));
        let fault = |part: &str, call, when, kind| {
            let fault = Fault { path_part: part.to_owned(), call, when, kind };
            self.stage.world.disk().add_fault(fault);
        };
        let rng = &mut self.stage.rng;
        let nth = When::Nth(rng.between(1, 20));
        let log = *rng.pick(&["log-0", "log-1", "log-2"]);
        match weather {
            Weather::DiskFull => {
                let mut disk = self.stage.world.disk();
                let used = disk.used_bytes();
                disk.set_capacity_bytes(used + rng.below(3) * 40_000);
            }
            Weather::SpaceReturns => self.stage.world.disk().set_capacity_bytes(1 << 40),
            Weather::WriteFails => fault(log, DiskCall::Write, nth, FaultKind::Eio),
            Weather::SyncFails => fault(log, DiskCall::Sync, nth, FaultKind::Eio),
            Weather::ReadsFail => fault("segment", DiskCall::Read, When::OneIn(3), FaultKind::Eio),
            Weather::ReadsWork => self.stage.world.disk().clear_faults(),
            Weather::JobsFail => {
                let part = *rng.pick(&["manifest", "checkpoint", "segment"]);
                let call = *rng.pick(&[DiskCall::Write, DiskCall::Sync, DiskCall::Name]);
                fault(part, call, When::Nth(1), FaultKind::Eio);
            }
            Weather::Slow => {
                let call = *rng.pick(&[DiskCall::Write, DiskCall::Sync, DiskCall::Read]);
                let by = Duration::from_micros(rng.between(100, 20_000));
                fault("", call, When::OneIn(10), FaultKind::Slow(by));
            }
            Weather::Short => fault("", DiskCall::Write, When::OneIn(3), FaultKind::Short),
            Weather::Reset => {
                let actors = self.actors();
                let index = self.stage.rng.below(actors as u64) as usize;
                let (actor, stage) = self.actor(index);
                actor.reset();
                actor.hear(stage);
                self.stage.coverage.count(Event::ConnectionsReset);
            }
            Weather::TimeJumps => {
                let by = self.stage.rng.between(0, 20_000) as i64 - 5_000;
                self.stage.world.step_wall_ms(by);
            }
        }
    }

    /// Let clients act until so many requests were made since the story began.
    fn live(&mut self, broker: &mut Broker, target: u64, weather: &[(f64, Weather)]) {
        let (first, began) = (self.requests, self.stage.world.now().mono);
        let mut rest: Vec<(u64, Weather)> = weather
            .iter()
            .map(|(share, weather)| (first + (share * (target - first) as f64) as u64, *weather))
            .collect();
        while self.requests < target && self.stage.world.now().mono < began.plus(LIFE) {
            while let Some(index) = rest.iter().position(|(at, _)| *at <= self.requests) {
                let (_, weather) = rest.swap_remove(index);
                self.strike(weather);
            }
            self.act_and_run(broker);
        }
    }

    /// A client does something; then the world goes on for a moment.
    fn act_and_run(&mut self, broker: &mut Broker) {
        let index = self.stage.rng.below(self.actors() as u64) as usize;
        let (actor, stage) = self.actor(index);
        let asked = actor.act(stage);
        self.requests += asked;
        let pause = self.stage.rng.below(ACT_NS);
        let until = Nanos(self.stage.world.now().mono.0 + pause);
        self.run_until(broker, until);
    }

    fn run_until(&mut self, broker: &mut Broker, until: Nanos) {
        while self.stage.world.now().mono < until {
            match self.stage.world.next_step(&broker.executor, until) {
                Step::Shard(shard) => broker.turn(shard),
                Step::Job(job) => {
                    broker.executor.run(job);
                    broker.deliver();
                }
                Step::Client(id) => {
                    for index in 0..self.actors() {
                        let (actor, stage) = self.actor(index);
                        if actor.socket() == Some(id) {
                            actor.hear(stage);
                        }
                    }
                }
                Step::Idle => return,
            }
        }
    }

    fn actors(&self) -> usize {
        self.producers.len() + self.consumers.len() + self.committers.len() + 1
    }

    fn actor(&mut self, index: usize) -> (&mut dyn Actor, &mut Stage) {
        let (producers, consumers) = (self.producers.len(), self.consumers.len());
        let actor: &mut dyn Actor = if index < producers {
            &mut self.producers[index]
        } else if index < producers + consumers {
            &mut self.consumers[index - producers]
        } else {
            match self.committers.get_mut(index - producers - consumers) {
                Some(committer) => committer,
                None => &mut self.admin,
            }
        };
        (actor, &mut self.stage)
    }

    // --- Its end, and the next one's beginning. ---

    /// Count what the broker has met before it goes.
    fn look_back(&mut self, broker: &Broker) {
        let coverage = &mut self.stage.coverage;
        coverage.add(Event::ColdReads, broker.cold_reads());
        for log in broker.logs() {
            coverage.add(Event::SegmentRolls, u64::from(log.segments().active().base().0 > 0));
            let recycled = log.segments().records().iter().filter(|record| record.recycled).count();
            coverage.add(Event::SegmentsRecycled, recycled as u64);
            coverage.add(Event::FinalStops, u64::from(log.failed()));
        }
        for place in self.stage.ledger.places() {
            let moved = self.stage.ledger.retention_moved(place);
            self.stage.coverage.add(Event::RetentionMoves, u64::from(moved));
        }
    }

    fn end(&mut self, mut broker: Broker) -> Broker {
        let end = match self.stage.rng.below(20) {
            0..=9 => End::Crash,
            10..=13 => End::Kill,
            14..=16 => End::CrashWhileStopping,
            _ => End::Stop,
        };
        self.end_as(&mut broker, end);
        drop(broker);
        self.start()
    }

    fn end_as(&mut self, broker: &mut Broker, end: End) {
        self.look_back(broker);
        self.stage.tell(|| format!("{end:?}, after {} requests; {:?}", self.requests, broker.messages));
        if matches!(end, End::Stop | End::CrashWhileStopping) {
            broker.begin_stop();
            let patience = match end {
                End::Stop => PATIENCE,
                _ => Duration::from_micros(self.stage.rng.below(20_000)),
            };
            let until = self.stage.world.now().mono.plus(patience);
            while !broker.is_over() && self.stage.world.now().mono < until {
                let next = Nanos(self.stage.world.now().mono.0 + ACT_NS).min(until);
                self.run_until(broker, next);
            }
            assert!(end != End::Stop || broker.is_over(), "an orderly stop does not come to its end");
        }
        let coverage = &mut self.stage.coverage;
        match end {
            End::Crash | End::CrashWhileStopping => {
                self.stage.world.crash();
                coverage.count(Event::Crashes);
                coverage.add(Event::CrashesWhileStopping, u64::from(end == End::CrashWhileStopping));
            }
            End::Kill | End::Stop => {
                self.stage.world.kill();
                coverage.count(if end == End::Kill { Event::Kills } else { Event::OrderlyStops });
            }
        }
        for index in 0..self.actors() {
            let (actor, stage) = self.actor(index);
            actor.hear(stage);
        }
    }

    fn start(&mut self) -> Broker {
        self.stage.world.disk().clear_faults();
        self.stage.world.disk().set_capacity_bytes(1 << 40);
        let shards = self.stage.rng.between(1, 2) as u16;
        self.stage.coverage.add(Event::ShardsChanged, u64::from(shards != self.shards));
        self.shards = shards;
        let broker = loop {
            let disk = SimDisk::immediate(&self.stage.world);
            if self.stage.rng.one_in(3) {
                disk.fail_after(self.stage.rng.below(60));
            }
            match Broker::start(&self.stage.world, &disk, &self.setup, shards, &mut self.ids) {
                Ok(broker) => break broker,
                Err(_) if disk.has_failed() => {
                    self.stage.tell(|| format!("power loss in recovery, after {} calls", disk.calls()));
                    self.stage.coverage.count(Event::CrashesInRecovery);
                    self.stage.world.crash();
                }
                Err(error) => panic!("recovery: {error}"),
            }
        };
        self.stage.tell(|| format!("{shards} shards; {:?}", broker.reports));
        for report in &broker.reports {
            let coverage = &mut self.stage.coverage;
            coverage.add(Event::TornTails, u64::from(report.torn));
            coverage.add(Event::CleanStarts, u64::from(report.clean));
            coverage.add(Event::CheckpointsUsed, u64::from(report.checkpoint.0 > 0));
        }
        broker
    }

    // --- All is calm: what was promised must be there. ---

    fn finish(&mut self, mut broker: Broker) {
        self.stage.calm = true;
        self.stage.draining = true;
        let until = self.stage.world.now().mono.plus(PATIENCE);
        while self.requests < REQUESTS || !self.producers.iter().all(Actor::is_settled) {
            assert!(self.stage.world.now().mono < until, "a batch is never acknowledged");
            self.act_and_run(&mut broker);
        }
        self.read_all(&mut broker);
        self.end_as(&mut broker, End::Crash);
        let mut broker = self.start();
        self.read_all(&mut broker);
    }

    fn read_all(&mut self, broker: &mut Broker) {
        let topics: Vec<TopicNo> = self.stage.ledger.living().collect();
        for topic in topics {
            let partitions = self.stage.ledger.topic(topic).partitions.len();
            self.consumers = vec![Consumer::thorough(topic, partitions)];
            let until = self.stage.world.now().mono.plus(PATIENCE);
            while !self.consumers[0].has_all() {
                let waits = self.stage.world.now().mono < until;
                assert!(waits, "{topic:?} cannot be read to its end: {}", self.consumers[0]);
                let stage = &mut self.stage;
                self.requests += self.consumers[0].act(stage);
                let next = Nanos(self.stage.world.now().mono.0 + ACT_NS);
                self.run_until(broker, next);
            }
            let ends = self.consumers[0].ends.clone();
            for (partition, ends) in ends.into_iter().enumerate() {
                let (start, high) = ends.expect("read to the end");
                self.stage.ledger.check_complete(Place { topic, partition }, start, high);
            }
        }
    }
}
