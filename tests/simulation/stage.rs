//! What all clients share: the machine around them, the ledger, and who they are.

use std::net::SocketAddr;

use ringmq::io::sim::{Rng, SimWorld};

use super::coverage::Coverage;
use super::ledger::Ledger;

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
    pub fn new(world: SimWorld, rng: Rng, log_addresses: Vec<SocketAddr>, loud: bool) -> Stage {
        Stage {
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
            log_addresses,
            loud,
        }
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
