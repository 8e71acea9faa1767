//! One seed: a data directory, and the lives of the brokers that serve it.
//!
//! ```text
//!   format -> life -> end -> recovery (perhaps interrupted) -> life -> ... -> all is calm: drain, read all
//!             |       power loss, kill -9, orderly stop, power loss while stopping
//!             clients act, weather strikes          rot is planted before, refused or cut off
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use ringmq::io::sim::{Rng, SimDisk};
use ringmq::log::Log;
use ringmq::log::recovery::{RecoveryError, Report};
use ringmq::model::{CommitMode, LogId, Nanos, Term};

use super::admin::Admin;
use super::committer::Committer;
use super::consumer::Consumer;
use super::coverage::{Coverage, Event};
use super::ledger::{Place, TopicNo};
use super::machine::{Broker, Happened, JobKind, PATIENCE, Setup};
use super::producer::Producer;
use super::rot::{Kind, LogEnd, Rot};
use super::stage::{Actor, Stage};
use super::weather::{Weather, forecast};

/// Operations of every story, at least: requests that were answered.
const OPERATIONS: u64 = 1_000;
/// Nanoseconds between what clients do, at most.
const ACT_NS: u64 = 60_000;
/// A life ends after this time, however little was asked.
const LIFE: Duration = Duration::from_secs(20);
const PRODUCERS: u32 = 4;
/// What producers do, at most, to fill the segments that a log has ready.
const FILL_ACTS: u32 = 400;
/// What clients do on a full disk.
const FULL_ACTS: u32 = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Crash,
    Kill,
    Stop,
    CrashWhileStopping,
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
    /// How many the broker has, and had in its life before.
    shards: [u16; 2],
    /// The logs as the last broker left them.
    ends: Vec<LogEnd>,
    /// The term in which each log was last opened.
    terms: BTreeMap<LogId, Term>,
    rot: Option<Rot>,
}

/// Play the story of a seed. Panics when a promise was broken.
pub fn play(seed: u64, loud: bool) -> Coverage {
    let (mut stage, setup) = Stage::set_up(seed, Setup::draw, loud);
    let mut story = Story {
        ids: stage.rng.fork(),
        stage,
        setup,
        producers: (0..PRODUCERS).map(|number| Producer::new(number, number != 0)).collect(),
        consumers: (0..3).map(|number| Consumer::new(number > 0)).collect(),
        committers: (0..2).map(Committer::new).collect(),
        admin: Admin::new(),
        requests: 0,
        shards: [2, 2],
        ends: Vec::new(),
        terms: BTreeMap::new(),
        rot: None,
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
            let target = self.requests + OPERATIONS / lives;
            let weather = forecast(&mut self.stage.rng);
            self.live(&mut broker, target, &weather);
            if life == lives {
                // What clients still have to send must find room.
                self.setup.log_bytes_max = 0;
            }
            broker = self.end(broker, life == lives);
        }
        self.finish(broker);
        self.count_at_last();
        assert!(self.stage.answered >= OPERATIONS, "only {} operations", self.stage.answered);
    }

    fn count_at_last(&mut self) {
        let disk = self.stage.world.disk().coverage();
        let coverage = &mut self.stage.coverage;
        coverage.add(Event::Requests, self.requests);
        coverage.add(Event::Answers, self.stage.answered);
        coverage.add(Event::WritesLost, disk.writes_lost);
        coverage.add(Event::WritesTorn, disk.writes_torn);
        coverage.add(Event::NamesLost, disk.names_lost);
        coverage.add(Event::ShortWrites, disk.short_writes);
    }

    // --- A life. ---

    fn strike(&mut self, weather: Weather, broker: &mut Broker) {
        self.stage.tell(|| format!("{weather:?}, after {} requests", self.requests));
        self.stage.befall(weather);
        match weather {
            Weather::DiskFull => {
                let spare = self.stage.rng.below(3) * 40_000;
                self.stage.fill_disk(spare);
            }
            Weather::DiskFills => self.fill_disk(broker),
            Weather::ReadsFail => {
                self.stage.reads_fail = true;
                self.consumers.iter_mut().for_each(Consumer::rewind);
            }
            Weather::ReadsWork => {
                self.stage.reads_fail = false;
                self.stage.world.disk().clear_faults();
            }
            Weather::Reset => {
                let actors = self.actors();
                let index = self.stage.rng.below(actors as u64) as usize;
                let (actor, stage) = self.actor(index);
                actor.reset();
                actor.hear(stage);
                self.stage.coverage.count(Event::ConnectionsReset);
            }
            Weather::SyncsStall => self.stage.heavy = true,
            Weather::WriteFails
            | Weather::SyncFails
            | Weather::JobsFail
            | Weather::Slow
            | Weather::Short
            | Weather::SpaceReturns
            | Weather::TimeJumps => {}
        }
    }

    /// The disk fills until appends are refused; readers go on; space returns, and what was refused is
    /// taken, in this very life.
    fn fill_disk(&mut self, broker: &mut Broker) {
        if self.setup.log_bytes_max > 0 || broker.logs().any(Log::failed) {
            return;
        }
        self.stage.world.disk().clear_faults();
        self.stage.fill_disk(0);
        (self.stage.disk_full, self.stage.heavy, self.stage.reads_fail) = (true, true, false);
        for _ in 0..FILL_ACTS {
            if self.producers.iter().any(Producer::is_refused) {
                break;
            }
            let index = self.stage.rng.below(self.producers.len() as u64) as usize;
            self.act_and_run(index, broker);
        }
        self.stage.heavy = false;
        for _ in 0..FULL_ACTS {
            self.anybody_acts(broker);
        }
        self.stage.disk_full = false;
        self.stage.return_space();
        self.stage.tell(|| "space returns".to_owned());
        let until = self.stage.world.now().mono.plus(PATIENCE);
        while self.producers.iter().any(Producer::is_refused) {
            let now = self.stage.world.now().mono;
            assert!(now < until, "there is space, and appends are still not taken: {:?}", broker.messages);
            self.run_until(broker, now.plus(Duration::from_millis(20)));
            self.anybody_acts(broker);
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
                self.strike(weather, broker);
            }
            self.anybody_acts(broker);
        }
    }

    fn anybody_acts(&mut self, broker: &mut Broker) {
        let index = self.stage.rng.below(self.actors() as u64) as usize;
        self.act_and_run(index, broker);
    }

    /// A client does something; then the world goes on for a moment.
    fn act_and_run(&mut self, index: usize, broker: &mut Broker) {
        let (actor, stage) = self.actor(index);
        let asked = actor.act(stage);
        self.requests += asked;
        let pause = self.stage.rng.below(ACT_NS);
        let until = Nanos(self.stage.world.now().mono.0 + pause);
        self.run_until(broker, until);
    }

    fn run_until(&mut self, broker: &mut Broker, until: Nanos) {
        while self.stage.world.now().mono < until && self.step(broker, until) {}
    }

    /// The next thing that happens before `until`. Returns whether there was one.
    fn step(&mut self, broker: &mut Broker, until: Nanos) -> bool {
        match broker.step(until) {
            Happened::Inside => {}
            Happened::Client(id) => {
                for index in 0..self.actors() {
                    let (actor, stage) = self.actor(index);
                    if actor.socket() == Some(id) {
                        actor.hear(stage);
                    }
                }
            }
            Happened::Nothing => return false,
        }
        true
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
        coverage.add(Event::CallsWaited, broker.calls_waited);
        coverage.add(Event::SegmentsRemoved, broker.removals);
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

    fn end(&mut self, mut broker: Broker, last: bool) -> Broker {
        let end = match self.stage.rng.below(20) {
            0..=9 => End::Crash,
            10..=13 => End::Kill,
            14..=16 => End::CrashWhileStopping,
            _ => End::Stop,
        };
        self.end_as(&mut broker, end);
        drop(broker);
        self.heal();
        if self.stage.rng.one_in(3) {
            let Stage { world, rng, .. } = &mut self.stage;
            let kinds = [
                Kind::Old,
                Kind::Foreign,
                Kind::Tail,
                Kind::Unused,
                Kind::Checkpoint,
                Kind::Manifest,
                Kind::Cold,
            ];
            // At last everything must be readable.
            let kind = *rng.pick(&kinds[..kinds.len() - usize::from(last)]);
            self.rot = Rot::plant(world, &self.ends, kind, rng);
        }
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
        for (kind, event) in [
            (JobKind::Prepare, Event::EndsInPreparation),
            (JobKind::Manifest, Event::EndsInManifest),
            (JobKind::Checkpoint, Event::EndsInCheckpoint),
        ] {
            coverage.add(event, broker.jobs(kind));
        }
        self.ends = broker.logs().map(LogEnd::of).collect();
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
        (self.stage.reads_fail, self.stage.heavy) = (false, false);
        self.stage.repair_disk();
    }

    /// What readers were told of in the life that has ended is readable again.
    fn heal(&mut self) {
        if let Some(rot) = self.rot.take() {
            rot.heal(&self.stage.world);
            self.stage.rotten = false;
        }
    }

    fn start(&mut self) -> Broker {
        let shards = if self.stage.rng.one_in(3) { 1 } else { 2 };
        let [now, before] = self.shards;
        self.shards = [shards, now];
        self.stage.coverage.add(Event::ShardsChanged, u64::from(shards != now));
        self.stage.coverage.add(Event::ShardsTwoOneTwo, u64::from([before, now, shards] == [2, 1, 2]));
        let broker = loop {
            match self.stage.start(&self.setup, shards, &mut self.ids, 3) {
                Ok(broker) => break broker,
                Err(error) => self.refused(&error),
            }
        };
        self.look_at_rot();
        self.stage.tell(|| format!("{shards} shards; {:?}", broker.reports));
        self.note_terms(&broker.reports);
        for report in &broker.reports {
            let coverage = &mut self.stage.coverage;
            coverage.add(Event::TornTails, u64::from(report.torn));
            coverage.add(Event::CleanStarts, u64::from(report.clean));
            coverage.add(Event::CheckpointsUsed, u64::from(report.checkpoint.0 > 0));
            if let Some(end) = self.ends.iter().find(|end| end.log == report.log) {
                assert!(report.end >= end.durable, "{report:?}, but it was durable up to {}", end.durable);
            }
        }
        broker
    }

    /// A log is never in the same term twice.
    fn note_terms(&mut self, reports: &[Report]) {
        for report in reports {
            if let Some(before) = self.terms.insert(report.log, report.term) {
                assert!(report.term > before, "{report:?}, but it was in term {before} already");
            }
        }
    }

    /// Recovery has refused the data directory: because of what rotted, and without cutting off a byte.
    fn refused(&mut self, error: &RecoveryError) {
        let rot = self.rot.take().filter(|rot| rot.explains(error));
        let rot = rot.unwrap_or_else(|| panic!("recovery: {error}"));
        self.stage.tell(|| format!("refused: {error}"));
        self.stage.world.kill();
        rot.check_nothing_cut(&self.stage.world);
        rot.heal(&self.stage.world);
        self.stage.coverage.count(match rot.kind {
            Kind::Old => Event::RotRefused,
            Kind::Foreign => Event::ForeignBlocksRefused,
            _ => Event::RottenCopiesRefused,
        });
    }

    /// Recovery has taken the data directory as it is.
    fn look_at_rot(&mut self) {
        let Some(rot) = &self.rot else { return };
        match rot.kind {
            Kind::Old | Kind::Foreign => panic!("recovery took no notice of this: {rot}"),
            Kind::Cold => {
                self.stage.coverage.count(Event::RotTolerated);
                self.stage.rotten = true;
                self.consumers.iter_mut().for_each(Consumer::rewind);
            }
            kind => {
                self.stage.coverage.count(match kind {
                    Kind::Checkpoint | Kind::Manifest => Event::RottenCopiesTolerated,
                    _ => Event::RotCutOff,
                });
                self.rot = None;
            }
        }
    }

    // --- All is calm: what was promised must be there. ---

    fn finish(&mut self, mut broker: Broker) {
        self.stage.calm = true;
        self.stage.draining = true;
        let until = self.stage.world.now().mono.plus(PATIENCE);
        while self.stage.answered < OPERATIONS || !self.producers.iter().all(Actor::is_settled) {
            assert!(self.stage.world.now().mono < until, "a batch is never acknowledged");
            self.anybody_acts(&mut broker);
        }
        let until = self.stage.world.now().mono.plus(PATIENCE);
        while !self.consumers.iter().all(|consumer| consumer.is_up_to_date(&self.stage.ledger)) {
            assert!(self.stage.world.now().mono < until, "a consumer does not hear of what is there");
            self.anybody_acts(&mut broker);
        }
        self.read_all(&mut broker);
        self.end_as(&mut broker, End::Crash);
        let mut broker = self.start();
        self.read_all(&mut broker);
        self.end_as(&mut broker, End::Kill);
        self.give_up();
        self.lose_a_manifest();
        self.start();
    }

    /// A life leaves nothing behind its checkpoints, and the manifest that has heard of its term rots: the next
    /// one must not take that term again.
    fn lose_a_manifest(&mut self) {
        let mut broker = self.start();
        broker.begin_stop();
        let until = self.stage.world.now().mono.plus(PATIENCE);
        let mut begun = false;
        while !broker.is_over() && (!begun || broker.jobs(JobKind::Checkpoint) > 0) {
            begun |= broker.jobs(JobKind::Checkpoint) > 0;
            assert!(self.step(&mut broker, until), "an orderly stop does not come to its end");
        }
        self.end_as(&mut broker, End::Kill);
        let Stage { world, rng, .. } = &mut self.stage;
        self.rot = Rot::plant(world, &self.ends, Kind::Manifest, rng);
    }

    /// What was acknowledged has rotted, and the operator has no copy of it: the log is cut off there, goes
    /// on in a term that nothing of what was cut off was written in, and opens again.
    fn give_up(&mut self) {
        // Of this life nothing is left but the blocks that opened its terms.
        let mut broker = self.start();
        self.end_as(&mut broker, End::Kill);
        let Stage { world, rng, .. } = &mut self.stage;
        let Some(rot) = Rot::plant(world, &self.ends, Kind::Old, rng) else { return };
        let world = self.stage.world.clone();
        let start = |ids: &mut Rng, repair| {
            Broker::start(&world, &SimDisk::immediate(&world), &self.setup, 1, ids, repair)
        };
        match start(&mut self.ids, false) {
            Err(error) => assert!(rot.explains(&error), "{error}, because of this: {rot}"),
            Ok(_) => panic!("recovery took no notice of this: {rot}"),
        }
        world.kill();
        let repaired = start(&mut self.ids, true);
        let mut broker = repaired.unwrap_or_else(|error| panic!("{error}, although the rest may go: {rot}"));
        self.stage.tell(|| format!("repaired: {:?}", broker.reports));
        self.stage.coverage.count(Event::Repairs);
        self.note_terms(&broker.reports);
        self.end_as(&mut broker, End::Crash);
    }

    fn read_all(&mut self, broker: &mut Broker) {
        let topics: Vec<TopicNo> = self.stage.ledger.living().collect();
        for topic in topics {
            let partitions = self.stage.ledger.topic(topic).partitions.len();
            self.consumers = vec![Consumer::thorough(topic, partitions, self.stage.rng.one_in(2))];
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
