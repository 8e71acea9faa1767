//! The kernel as a simulation: one seed decides everything that happens.
//!
//! [`SimWorld`] is a machine with its clock, disk and network, and the clients outside. [`SimIo`] is
//! the [`Io`] of one shard on it, [`SimDisk`] the [`Disk`](crate::io::file::Disk) of jobs and
//! recovery, [`SimExecutor`] runs jobs, [`ClientSocket`] is a client. There is no thread: a test
//! asks [`SimWorld::next_step`] whose turn it is, which also lets time pass.
//!
//! ```text
//! clock     virtual time, and the schedule of what will happen
//! rng       the seed
//! disk      open files, operations in flight, faults, space, power loss
//!   content   one file: durable, cached, pending pages
//!   names     folders: durable and pending names
//! network   sockets, bytes on their way
//!   client    a test's end of a connection
//! job       Disk, executor
//! ```
//!
//! The same seed and the same calls give the same run: [`SimWorld::trace`] is its fingerprint.

mod client;
mod clock;
mod content;
mod disk;
mod job;
mod names;
mod network;
mod rng;
#[cfg(test)]
mod tests;

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use clock::{Clock, Schedule};
use disk::{ReadTicket, SyncTicket, WriteProgress};
use network::{NetDue, Network};
use rng::mix;

pub use client::{ClientSocket, StreamState};
pub use disk::{
    CrashReport, DiskCall, DiskCoverage, Fault, FaultId, FaultKind, FileCounts, SimStorage, When,
};
pub use job::{JobId, SimDisk, SimExecutor, Sleep, block_on};
pub use network::NetworkCoverage;
pub use rng::Rng;

use super::buffer::{ChunkBuf, RecvPool};
use super::op::{Event, Io, Op, Token, Wait};
use super::socket::SocketHandle;
use crate::model::{Nanos, Now, ShardId};

/// A turn that does not wait takes this long, so that a spinning shard sees time pass.
const SPIN_NS: u64 = 1_000;

/// What a wake-up takes to reach another shard, at most.
const WAKE_NS: u64 = 5_000;

/// Steps without any time passing after which a run is stuck.
const STEPS_PER_INSTANT_MAX: u64 = 100_000;

/// Receive buffers of a [`SimIo`] that is not given any: few, so that they run out.
const RECV_BUFFERS: u16 = 64;
const RECV_BUFFER_BYTES: usize = 4096;

/// Something that will happen.
enum Due {
    Write {
        shard: ShardId,
        token: Token,
        write: u64,
    },
    Sync {
        shard: ShardId,
        token: Token,
        ticket: SyncTicket,
    },
    Read {
        shard: ShardId,
        token: Token,
        ticket: ReadTicket,
        offset: u64,
        buf: ChunkBuf,
        at: usize,
        len: usize,
    },
    Woken {
        shard: ShardId,
    },
    Waker(Waker),
    Net(NetDue),
}

/// A shard as the machine sees it.
struct ShardSide {
    recv_pool: RecvPool,
    /// Happened, and not yet collected.
    ready: VecDeque<Event>,
    /// When its last turn wants to be woken at the latest.
    deadline: Option<Nanos>,
    /// It was given something to do: it will have operations to submit.
    busy: bool,
}

impl ShardSide {
    fn next_due(&self, now: Nanos) -> Option<Nanos> {
        if self.busy || !self.ready.is_empty() { Some(now) } else { self.deadline.map(|time| time.max(now)) }
    }
}

/// What the network needs of the rest of the world.
struct Env<'a> {
    now: Nanos,
    rng: &'a mut Rng,
    schedule: &'a mut Schedule<Due>,
    shards: &'a mut BTreeMap<ShardId, ShardSide>,
}

impl Env<'_> {
    fn at(&mut self, time: Nanos, due: NetDue) {
        self.schedule.at(time, Due::Net(due));
    }

    fn after(&mut self, delay_ns: u64, due: NetDue) {
        self.at(Nanos(self.now.0 + delay_ns), due);
    }

    fn emit(&mut self, shard: ShardId, event: Event) {
        self.shards.get_mut(&shard).expect("events are for shards that run").ready.push_back(event);
    }

    fn recv_pool(&self, shard: ShardId) -> RecvPool {
        self.shards[&shard].recv_pool.clone()
    }
}

struct World {
    clock: Clock,
    rng: Rng,
    schedule: Schedule<Due>,
    disk: SimStorage,
    network: Network,
    shards: BTreeMap<ShardId, ShardSide>,
    boot: u64,
    trace: u64,
    /// Steps since time last moved.
    steps: u64,
}

impl World {
    fn with_network<R>(&mut self, f: impl FnOnce(&mut Network, &mut Env<'_>) -> R) -> R {
        let mut env = Env {
            now: self.clock.now().mono,
            rng: &mut self.rng,
            schedule: &mut self.schedule,
            shards: &mut self.shards,
        };
        f(&mut self.network, &mut env)
    }

    fn note(&mut self, what: u64) {
        self.trace = mix(self.trace ^ what);
    }

    fn after(&mut self, delay_ns: u64, due: Due) {
        let time = Nanos(self.clock.now().mono.0 + delay_ns);
        self.schedule.at(time, due);
    }

    fn emit(&mut self, shard: ShardId, event: Event) {
        self.shards.get_mut(&shard).expect("events are for shards that run").ready.push_back(event);
    }

    fn submit(&mut self, shard: ShardId, op: Op) {
        match op {
            Op::Write { token, file, offset, data, sync } => {
                let lent = Some(data.clone());
                let (write, delay_ns) =
                    self.disk.begin_write(&file, offset, &data, lent, sync, &mut self.rng);
                self.after(delay_ns, Due::Write { shard, token, write });
            }
            Op::Sync { token, file } => {
                let (ticket, delay_ns) = self.disk.begin_sync(&file, &mut self.rng);
                self.after(delay_ns, Due::Sync { shard, token, ticket });
            }
            Op::Read { token, file, offset, buf, at, len } => {
                assert!(
                    at >= buf.frozen() && at + len <= buf.capacity(),
                    "a read into {at}..+{len} of {buf:?}"
                );
                assert!(at.is_multiple_of(crate::base::align::PAGE_BYTES), "a read to an unaligned address");
                let (ticket, delay_ns) = self.disk.begin_read(&file, len, &mut self.rng);
                self.after(delay_ns, Due::Read { shard, token, ticket, offset, buf, at, len });
            }
            Op::Wake { shard } => {
                let delay_ns = self.rng.below(WAKE_NS);
                self.after(delay_ns, Due::Woken { shard });
            }
            op => self.with_network(|network, env| network.submit(shard, op, env)),
        }
    }

    /// Let everything happen that is due.
    fn settle(&mut self) {
        while let Some(((time, sequence), due)) = self.schedule.pop_due(self.clock.now().mono) {
            self.note(time.0 ^ mix(sequence));
            self.apply(due);
        }
    }

    fn apply(&mut self, due: Due) {
        match due {
            Due::Write { shard, token, write } => match self.disk.finish_write(write, &mut self.rng) {
                WriteProgress::Done(result) => self.emit(shard, Event::Written { token, result }),
                WriteProgress::Short(delay_ns) => self.after(delay_ns, Due::Write { shard, token, write }),
            },
            Due::Sync { shard, token, ticket } => {
                let result = self.disk.finish_sync(ticket);
                self.emit(shard, Event::Synced { token, result });
            }
            Due::Read { shard, token, ticket, offset, mut buf, at, len } => {
                let start = at - buf.frozen();
                let into = &mut buf.tail_mut()[start..start + len];
                let result = match self.disk.finish_read(ticket, offset, into) {
                    Ok(got) if got < len => Err(io::ErrorKind::UnexpectedEof.into()),
                    result => result.map(drop),
                };
                self.emit(shard, Event::Read { token, buf, result });
            }
            // A shard that has not started, or that has ended, hears nothing.
            Due::Woken { shard } => {
                if let Some(side) = self.shards.get_mut(&shard) {
                    side.ready.push_back(Event::Woken);
                }
            }
            Due::Waker(waker) => waker.wake(),
            Due::Net(due) => self.with_network(|network, env| network.apply(due, env)),
        }
    }

    /// When something happens next, if ever.
    fn next_time(&self) -> Option<Nanos> {
        let now = self.clock.now().mono;
        let shards = self.shards.values().filter_map(|side| side.next_due(now));
        shards.chain(self.schedule.next_time()).min()
    }

    fn advance_to(&mut self, time: Nanos) {
        if time > self.clock.now().mono {
            self.clock.advance_to(time);
            self.steps = 0;
        }
        self.settle();
    }

    /// The end of this life of the machine: nothing that was under way goes on.
    fn end_life(&mut self) {
        self.boot += 1;
        self.schedule = Schedule::default();
        self.shards.clear();
        self.network.crash();
        self.note(self.boot);
    }
}

/// Who can go on. See [`SimWorld::next_step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Let this shard do a turn.
    Shard(ShardId),
    /// [`SimExecutor::run`] this job.
    Job(JobId),
    /// The client with this id has received bytes, or its connection has ended.
    Client(u64),
    /// Nothing happens until the given time, which it is now.
    Idle,
}

/// A machine, its clock, and the clients around it. Clones are the same world.
#[derive(Clone)]
pub struct SimWorld(Rc<RefCell<World>>);

impl SimWorld {
    pub fn new(seed: u64) -> SimWorld {
        SimWorld(Rc::new(RefCell::new(World {
            clock: Clock::new(),
            rng: Rng::new(seed),
            schedule: Schedule::default(),
            disk: SimStorage::new(),
            network: Network::new(),
            shards: BTreeMap::new(),
            boot: 0,
            trace: mix(seed),
            steps: 0,
        })))
    }

    // --- time ---------------------------------------------------------------------------------

    pub fn now(&self) -> Now {
        self.0.borrow().clock.now()
    }

    /// Set the wall clock forward or back.
    pub fn step_wall_ms(&self, by_ms: i64) {
        self.0.borrow_mut().clock.step_wall(by_ms);
    }

    /// For jobs: ready after this much virtual time.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep { until: self.now().mono.plus(duration), world: self.clone(), scheduled: false }
    }

    /// When this shard has something to do: now, when it wants to be woken, or only after another
    /// event (`None`).
    pub fn next_due(&self, shard: ShardId) -> Option<Nanos> {
        let world = self.0.borrow();
        world.shards.get(&shard).and_then(|side| side.next_due(world.clock.now().mono))
    }

    /// Shards that have something to do now.
    pub fn runnable(&self) -> Vec<ShardId> {
        let world = self.0.borrow();
        let now = world.clock.now().mono;
        let due = |side: &ShardSide| side.next_due(now).is_some_and(|time| time <= now);
        world.shards.iter().filter(|(_, side)| due(side)).map(|(&shard, _)| shard).collect()
    }

    /// Move the clock to when something happens next, and let it happen. False when nothing ever
    /// will.
    pub fn advance_to_next(&self) -> bool {
        let mut world = self.0.borrow_mut();
        let Some(time) = world.next_time() else { return false };
        world.advance_to(time);
        true
    }

    /// Nobody runs until then, as when a machine is suspended or a process stopped: what is due meanwhile comes
    /// late.
    pub fn suspend_until(&self, time: Nanos) {
        self.0.borrow_mut().advance_to(time);
    }

    /// Choose who goes on, letting time pass up to `until` when nobody can.
    ///
    /// # Panics
    /// When the run is stuck: everybody is always busy and time does not pass.
    pub fn next_step(&self, executor: &SimExecutor, until: Nanos) -> Step {
        loop {
            let shards = self.runnable();
            let jobs = executor.ready();
            let mut world = self.0.borrow_mut();
            let clients = world.network.client_news_count();
            let count = shards.len() + jobs.len() + clients;
            if count > 0 {
                world.steps += 1;
                assert!(
                    world.steps < STEPS_PER_INSTANT_MAX,
                    "stuck at {}: {shards:?} {jobs:?}",
                    world.clock.now().mono
                );
                let choice = world.rng.below(count as u64) as usize;
                world.note(choice as u64);
                if let Some(&shard) = shards.get(choice) {
                    return Step::Shard(shard);
                }
                if let Some(&job) = jobs.get(choice - shards.len()) {
                    return Step::Job(job);
                }
                let index = choice - shards.len() - jobs.len();
                return Step::Client(world.network.take_client_news(index));
            }
            match world.next_time() {
                Some(time) if time <= until => world.advance_to(time),
                _ => {
                    world.advance_to(until);
                    return Step::Idle;
                }
            }
        }
    }

    // --- the machine --------------------------------------------------------------------------

    /// How often the machine, or the broker on it, has died.
    pub fn boot(&self) -> u64 {
        self.0.borrow().boot
    }

    /// Power loss. Every [`SimIo`], [`SimDisk`], file handle and socket of before is dead, jobs are
    /// dropped, and what was not synced may be gone. Clients keep what had reached them.
    pub fn crash(&self) -> CrashReport {
        let mut world = self.0.borrow_mut();
        let World { disk, rng, .. } = &mut *world;
        let report = disk.crash(rng);
        world.end_life();
        report
    }

    /// Death of the process (`kill -9`, or its orderly end): as [`SimWorld::crash`], but the machine
    /// goes on, so that completed writes and names stay, synced or not.
    pub fn kill(&self) {
        let mut world = self.0.borrow_mut();
        let World { disk, rng, .. } = &mut *world;
        disk.kill(rng);
        world.end_life();
    }

    /// The disk, to set faults and to ask. Not to be held across other calls.
    pub fn disk(&self) -> RefMut<'_, SimStorage> {
        RefMut::map(self.0.borrow_mut(), |world| &mut world.disk)
    }

    /// A generator for the test itself, so that its choices and the world's do not mix.
    pub fn fork_rng(&self) -> Rng {
        self.0.borrow_mut().rng.fork()
    }

    /// The fingerprint of all that has happened.
    pub fn trace(&self) -> u64 {
        self.0.borrow().trace
    }

    // --- the network --------------------------------------------------------------------------

    /// A listening socket, for [`Op::Listen`]. Several may share an address: connections are spread.
    pub fn listener(&self, addr: SocketAddr) -> SocketHandle {
        self.0.borrow_mut().network.listener(addr)
    }

    /// Connect a client.
    ///
    /// # Errors
    /// `ConnectionRefused` when no socket listens there.
    pub fn connect(&self, addr: SocketAddr) -> io::Result<ClientSocket> {
        self.connect_as(addr, None)
    }

    /// Connect a client to the listener of this shard.
    ///
    /// # Errors
    /// `ConnectionRefused` when the shard does not accept there.
    pub fn connect_shard(&self, addr: SocketAddr, shard: ShardId) -> io::Result<ClientSocket> {
        self.connect_as(addr, Some(shard))
    }

    fn connect_as(&self, addr: SocketAddr, shard: Option<ShardId>) -> io::Result<ClientSocket> {
        let mut world = self.0.borrow_mut();
        let id = world.with_network(|network, env| network.connect(addr, shard, env));
        let id = id.ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(ClientSocket { world: self.clone(), id })
    }

    /// Bytes that fit between a sender and a receiver that does not read; 256 KiB at first.
    pub fn set_socket_buffer_bytes(&self, bytes: usize) {
        self.0.borrow_mut().network.buffer_bytes = bytes;
    }

    /// Let the next `count` accepts fail for want of descriptors.
    pub fn fail_accepts(&self, count: u64) {
        self.0.borrow_mut().network.accepts_to_fail = count;
    }

    pub fn network_coverage(&self) -> NetworkCoverage {
        self.0.borrow().network.coverage
    }
}

/// The kernel of one shard.
pub struct SimIo {
    world: SimWorld,
    shard: ShardId,
    boot: u64,
}

impl SimIo {
    /// # Panics
    /// When the shard runs already in this life of the machine.
    pub fn new(world: &SimWorld, shard: ShardId) -> SimIo {
        SimIo::with_recv_pool(world, shard, RecvPool::new(RECV_BUFFERS, RECV_BUFFER_BYTES))
    }

    pub fn with_recv_pool(world: &SimWorld, shard: ShardId, recv_pool: RecvPool) -> SimIo {
        let mut inner = world.0.borrow_mut();
        let side = ShardSide { recv_pool, ready: VecDeque::new(), deadline: None, busy: true };
        let old = inner.shards.insert(shard, side);
        assert!(old.is_none(), "shard {shard} runs already");
        SimIo { world: world.clone(), shard, boot: inner.boot }
    }
}

impl Io for SimIo {
    fn now(&self) -> Now {
        self.world.now()
    }

    /// Never waits: where the real one would, it returns without events, and the world knows when
    /// the shard wants to go on ([`SimWorld::next_due`]).
    fn turn(&mut self, ops: &mut Vec<Op>, events: &mut Vec<Event>, wait: Wait) -> io::Result<()> {
        let mut world = self.world.0.borrow_mut();
        assert_eq!(self.boot, world.boot, "shard {} outlived its machine", self.shard);
        world.note(u64::from(self.shard.0) << 32 | ops.len() as u64);
        for op in ops.drain(..) {
            world.submit(self.shard, op);
        }
        world.settle();
        let now = world.clock.now().mono;
        let some_only = world.rng.one_in(8);
        let World { shards, rng, .. } = &mut *world;
        let side = shards.get_mut(&self.shard).expect("registered by `new`");
        let count = match side.ready.len() {
            0 => 0,
            len if some_only => rng.between(1, len as u64) as usize,
            len => len,
        };
        events.extend(side.ready.drain(..count));
        // After an event or at its deadline a shard acts, and its next call brings the operations.
        let woken = side.deadline.take().is_some_and(|deadline| deadline <= now);
        side.busy = woken || count > 0;
        if !side.busy {
            side.deadline = match wait {
                Wait::No => Some(Nanos(now.0 + SPIN_NS)),
                Wait::For(duration) => Some(now.plus(duration)),
                Wait::Forever => None,
            };
        }
        Ok(())
    }
}
