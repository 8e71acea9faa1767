//! What all clients share: the machine around them, the ledger, and who they are.

use std::net::SocketAddr;

use ringmq::io::sim::{Rng, SimDisk, SimWorld};
use ringmq::log::recovery::RecoveryError;

use super::coverage::{Coverage, Event};
use super::ledger::Ledger;
use super::machine::{Broker, Setup, format};
use super::weather::Weather;

/// Capacity of the disk when it is not full.
const ROOMY_BYTES: u64 = 1 << 40;

pub struct Stage {
    pub world: SimWorld,
    pub rng: Rng,
    pub ledger: Ledger,
    pub coverage: Coverage,
    /// Requests that were answered.
    pub answered: u64,
    /// Nothing goes wrong on purpose any more: what clients ask must succeed.
    pub calm: bool,
    /// Nobody makes new batches.
    pub draining: bool,
    /// The disk is full, and nothing else is wrong with it.
    pub disk_full: bool,
    /// The device does not read everything.
    pub reads_fail: bool,
    /// Bytes that readers may ask for are rotten.
    pub rotten: bool,
    /// Producers make large batches.
    pub heavy: bool,
    /// Where each data log listens, if they are brokers of their own.
    pub log_addresses: Vec<SocketAddr>,
    /// Say what happens: a single seed is replayed.
    pub loud: bool,
}

impl Stage {
    /// The machine of a seed, with an empty data directory, and the configuration that was drawn.
    pub fn set_up(seed: u64, draw: impl FnOnce(&mut Rng) -> Setup, loud: bool) -> (Stage, Setup) {
        let world = SimWorld::new(seed);
        let mut rng = world.fork_rng();
        let setup = draw(&mut rng);
        format(&world, &setup);
        let stage = Stage {
            world,
            rng,
            ledger: Ledger::default(),
            coverage: Coverage::new(),
            answered: 0,
            calm: false,
            draining: false,
            disk_full: false,
            reads_fail: false,
            rotten: false,
            heavy: false,
            log_addresses: setup.log_addresses(),
            loud,
        };
        (stage, setup)
    }

    /// A broker opens the data directory. Of so many starts one is cut short, as by a loss of power, and begun
    /// again.
    pub fn start(
        &mut self,
        setup: &Setup,
        shards: u16,
        ids: &mut Rng,
        cut_short_one_in: u64,
    ) -> Result<Broker, RecoveryError> {
        loop {
            let disk = SimDisk::immediate(&self.world);
            if self.rng.one_in(cut_short_one_in) {
                disk.fail_after(self.rng.below(60));
            }
            match Broker::start(&self.world, &disk, setup, shards, ids, false) {
                Err(_) if disk.has_failed() => {
                    self.tell(|| format!("power loss in recovery, after {} calls", disk.calls()));
                    self.coverage.count(Event::CrashesInRecovery);
                    self.world.crash();
                }
                started => return started,
            }
        }
    }

    /// What of the weather concerns nothing but the disk and the clock.
    pub fn befall(&mut self, weather: Weather) {
        if let Some(fault) = weather.fault(&mut self.rng) {
            self.world.disk().add_fault(fault);
        }
        match weather {
            Weather::SpaceReturns => self.return_space(),
            Weather::TimeJumps => {
                let by = self.rng.between(0, 20_000) as i64 - 5_000;
                self.world.step_wall_ms(by);
            }
            _ => {}
        }
    }

    /// The disk is full but for so many bytes.
    pub fn fill_disk(&self, spare_bytes: u64) {
        let mut disk = self.world.disk();
        let used = disk.used_bytes();
        disk.set_capacity_bytes(used + spare_bytes);
    }

    pub fn return_space(&self) {
        self.world.disk().set_capacity_bytes(ROOMY_BYTES);
    }

    /// Nothing is wrong with the disk any more.
    pub fn repair_disk(&self) {
        self.world.disk().clear_faults();
        self.return_space();
    }

    /// For whoever replays a seed.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.loud {
            println!("{:>12} ns  {}", self.world.now().mono.0, what());
        }
    }

    /// A client was told that storage failed, or is full.
    pub fn storage_error(&self, what: &str) {
        assert!(!self.calm, "{what}: a storage error although nothing is wrong");
    }
}

/// A client of the simulation.
pub trait Actor {
    /// The connection that its news comes from.
    fn socket(&self) -> Option<u64>;
    /// Do something, if there is something to do. Returns how many requests left.
    fn act(&mut self, stage: &mut Stage) -> u64;
    /// Look at what came.
    fn hear(&mut self, stage: &mut Stage);
    /// Break the connection.
    fn reset(&mut self);
    /// The machine went down: nothing of what is under way will be answered any more.
    fn is_settled(&self) -> bool;
}
