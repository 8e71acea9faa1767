//! The kernel itself: [`Io`] on one io_uring per shard.
//!
//! A turn queues the operations' entries, enters the kernel once to submit them all, and translates
//! completions into events. When nothing has happened it spins for a while, because a wake-up costs
//! more than most turns, and then sleeps until a completion, the time, or another thread's
//! [`Wakers::wake`].
//!
//! Memory that the kernel may touch is owned by the operation ([`in_flight`]) until its completion;
//! a ring that is dropped takes everything back first, or leaks it.

mod buf_ring;
mod completion;
mod in_flight;
mod setup;
mod slab;
mod spin;
#[cfg(test)]
mod tests;
mod wait;
mod wakers;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};

use self::buf_ring::BufRing;
use self::in_flight::{Accept, InFlight, Message, Read, Recv, RecvInto, Send, Write};
use self::setup::{FEATURES, Feature};
use self::slab::Slab;
use self::spin::SpinHistory;
pub use self::wakers::Wakers;
use super::buffer::RecvPool;
use super::clock::Clock;
use super::file::FileHandle;
use super::op::{ConnId, Event, Io, ListenerId, Op, Token, Wait};
use super::socket::SocketHandle;
use crate::model::{Now, ShardId};

/// The key of entries whose completion nobody waits for.
const NOBODY: u64 = u64::MAX;
/// The key of completions that are another ring's message: there is mail.
const MESSAGE: u64 = u64::MAX - 1;

/// How long a dropped ring waits for what the kernel is still working on.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// What to do while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollMode {
    /// Sleep at once: the least CPU, and the latency of a wake-up.
    Block,
    /// Look for this long, then sleep; while that has not paid lately, sleep at once.
    Adaptive(Duration),
    /// Never sleep: one core is always busy.
    Busy,
}

impl PollMode {
    /// 50 us: shorter than the cost of a wake-up where that is dear (90 us on virtual machines),
    /// so that spinning in vain at most doubles it.
    pub const DEFAULT: PollMode = PollMode::Adaptive(Duration::from_micros(50));
}

pub struct RingConfig {
    pub shard: ShardId,
    /// Entries submitted at a time; more in one turn cost one more system call.
    pub entries: u32,
    /// Shared receive buffers, a power of two.
    pub recv_buffers: u16,
    pub recv_buffer_bytes: usize,
    pub poll: PollMode,
    pub wakers: Arc<Wakers>,
    /// Is there mail for this shard? Asked while spinning and before sleeping.
    pub has_mail: Box<dyn Fn() -> bool>,
}

pub struct Ring {
    /// Before what it reads and writes: fields are dropped in this order.
    ring: IoUring,
    buffers: BufRing,
    in_flight: Slab<InFlight>,
    /// Of those, writes and syncs.
    commits: usize,
    /// Entries for the next submission.
    queued: VecDeque<squeue::Entry>,
    /// By the index of their id.
    conns: Vec<Option<Conn>>,
    /// Messages of past sends, for the next ones.
    #[expect(clippy::vec_box, reason = "the kernel knows a message's address while it is sent")]
    messages: Vec<Box<Message>>,
    /// Scratch space of [`Ring::reap`].
    completions: Vec<cqueue::Entry>,
    /// Of the completions before the last ones, and of those.
    received_bytes: (usize, usize),
    multishot_accept: bool,
    multishot_recv: bool,
    /// Wake others by messages to their rings.
    messages_rings: bool,
    features: Vec<&'static str>,
    clock: Clock,
    shard: ShardId,
    poll: PollMode,
    spins: SpinHistory,
    wakers: Arc<Wakers>,
    has_mail: Box<dyn Fn() -> bool>,
}

/// A socket of this ring, closed when dropped.
struct Conn {
    id: ConnId,
    socket: OwnedFd,
    /// The receive under way, of either kind.
    recv: Option<u64>,
    /// That receive is to end.
    stopping: bool,
    sending: bool,
    /// Close when neither is under way any more.
    closing: bool,
}

impl Conn {
    /// What no longer continues: the rest of a short send, the next receive of a multishot one.
    fn canceled(&self) -> Option<io::Error> {
        self.closing.then(|| io::Error::from_raw_os_error(libc::ECANCELED))
    }
}

impl Ring {
    /// A ring for the calling thread: only it may use the ring.
    ///
    /// # Errors
    /// The kernel refuses an io_uring, or has too little memory or too few descriptors for it; see
    /// [`crate::io::probe`] for causes and fixes.
    pub fn new(config: RingConfig) -> io::Result<Ring> {
        Ring::asking_for(&FEATURES, config)
    }

    fn asking_for(wanted: &[Feature], config: RingConfig) -> io::Result<Ring> {
        let (ring, features) = setup::build(config.entries, wanted)?;
        let pool = RecvPool::new(config.recv_buffers, config.recv_buffer_bytes);
        // SAFETY: dropped after the ring, as fields of one struct in this order; or leaked by it.
        let buffers = unsafe { BufRing::register(&ring, pool)? };
        let messages_rings = setup::takes_messages(&ring, &features);
        let mut ring = Ring {
            ring,
            buffers,
            in_flight: Slab::new(),
            commits: 0,
            queued: VecDeque::new(),
            conns: Vec::new(),
            messages: Vec::new(),
            completions: Vec::new(),
            received_bytes: (0, 0),
            multishot_accept: true,
            multishot_recv: true,
            messages_rings,
            features,
            clock: Clock::default(),
            shard: config.shard,
            poll: config.poll,
            spins: SpinHistory::new(),
            wakers: config.wakers,
            has_mail: config.has_mail,
        };
        let key = ring.in_flight.reserve();
        ring.arm_wake(key, Box::new(0));
        ring.wakers.set_ring(ring.shard, messages_rings.then_some(ring.ring.as_raw_fd()));
        Ok(ring)
    }

    /// What of the kernel is in use, for the banner.
    pub fn features(&self) -> Vec<&'static str> {
        let mut features = self.features.clone();
        features.extend(self.multishot_accept.then_some("multishot_accept"));
        features.extend(self.multishot_recv.then_some("multishot_recv"));
        features.push("buffer_ring");
        features.extend(self.messages_rings.then_some("msg_ring"));
        features
    }

    // --- operations ---------------------------------------------------------------------------

    fn start(&mut self, op: Op, events: &mut Vec<Event>) {
        match op {
            Op::Listen { listener, socket } => {
                let key = self.in_flight.reserve();
                self.arm_accept(key, listener, socket.into_os());
            }
            Op::Attach { conn, socket } => self.attach(conn, socket),
            Op::RecvStart { conn } => {
                let key = self.in_flight.reserve();
                self.start_recv(conn, key);
                self.arm_recv(key, conn);
            }
            Op::RecvStop { conn } => self.stop_recv(conn),
            Op::RecvInto { conn, buf } => {
                assert!(buf.len() < buf.capacity(), "0 bytes received would read as the stream's end");
                let key = self.in_flight.reserve();
                self.start_recv(conn, key);
                self.arm_recv_into(key, RecvInto { conn, buf });
            }
            Op::Send { conn, parts } => {
                let entry = self.conn(conn);
                assert!(!entry.closing && !entry.sending, "one send at a time, none after the close");
                match Send::new(conn, parts) {
                    Some(send) => {
                        entry.sending = true;
                        let key = self.in_flight.reserve();
                        self.arm_send(key, send);
                    }
                    None => events.push(Event::Sent { conn, result: Ok(0) }),
                }
            }
            Op::Close { conn } => self.close(conn, events),
            Op::Write { token, file, offset, data, sync } => {
                let key = self.in_flight.reserve();
                self.commits += 1;
                self.arm_write(key, Write::new(token, file, offset, data, sync));
            }
            Op::Sync { token, file } => {
                let key = self.in_flight.reserve();
                self.commits += 1;
                self.arm_sync(key, token, file);
            }
            Op::Read { token, file, offset, buf, at, len } => {
                let key = self.in_flight.reserve();
                self.arm_read(key, Read::new(token, file, offset, buf, at, len));
            }
            Op::Wake { shard } => {
                if self.wakers.must_wake(shard) {
                    self.wake(shard);
                }
            }
        }
    }

    /// End another shard's sleep.
    fn wake(&mut self, shard: ShardId) {
        match self.wakers.ring(shard).filter(|_| self.messages_rings) {
            Some(ring) => {
                let key = self.in_flight.reserve();
                self.arm(key, InFlight::Message(shard), in_flight::message_entry(ring));
            }
            // A system call more.
            None => self.wakers.ring_bell(shard),
        }
    }

    fn attach(&mut self, id: ConnId, socket: SocketHandle) {
        let index = id.index as usize;
        if self.conns.len() <= index {
            self.conns.resize_with(index + 1, || None);
        }
        assert!(self.conns[index].is_none(), "a connection's index is free until it is closed");
        let socket = socket.into_os();
        let conn = Conn { id, socket, recv: None, stopping: false, sending: false, closing: false };
        self.conns[index] = Some(conn);
    }

    fn conn(&mut self, id: ConnId) -> &mut Conn {
        let conn = self.conns.get_mut(id.index as usize).and_then(Option::as_mut);
        let conn = conn.expect("operations are for attached connections");
        assert_eq!(conn.id, id, "nothing comes after a connection's close");
        conn
    }

    fn start_recv(&mut self, id: ConnId, key: u64) {
        let conn = self.conn(id);
        assert!(!conn.closing && conn.recv.is_none(), "one receive at a time, none after the close");
        conn.recv = Some(key);
        conn.stopping = false;
    }

    /// Without effect when the receive has just ended by itself: that end is then on its way.
    fn stop_recv(&mut self, id: ConnId) {
        let conn = self.conn(id);
        if let Some(key) = conn.recv
            && !mem::replace(&mut conn.stopping, true)
        {
            self.cancel(CancelBuilder::user_data(key));
        }
    }

    fn close(&mut self, id: ConnId, events: &mut Vec<Event>) {
        let conn = self.conn(id);
        assert!(!conn.closing, "closed once");
        conn.closing = true;
        if conn.recv.is_some() || conn.sending {
            let socket = Fd(conn.socket.as_raw_fd());
            self.cancel(CancelBuilder::fd(socket).all());
        }
        self.close_if_quiet(id, events);
    }

    /// The end of a close: the last operation has answered.
    fn close_if_quiet(&mut self, id: ConnId, events: &mut Vec<Event>) {
        let conn = self.conn(id);
        if conn.closing && conn.recv.is_none() && !conn.sending {
            self.conns[id.index as usize] = None;
            events.push(Event::Closed { conn: id });
        }
    }

    fn cancel(&mut self, what: CancelBuilder) {
        self.queued.push_back(opcode::AsyncCancel2::new(what).build().user_data(NOBODY));
    }

    // --- arming: an operation goes into its slot, its entry into the queue -----------------------

    fn arm(&mut self, key: u64, op: InFlight, entry: squeue::Entry) {
        self.in_flight.put(key, op);
        self.queued.push_back(entry.user_data(key));
    }

    fn arm_accept(&mut self, key: u64, listener: ListenerId, socket: OwnedFd) {
        let accept = Accept { listener, socket, multishot: self.multishot_accept };
        let entry = accept.entry();
        self.arm(key, InFlight::Accept(accept), entry);
    }

    fn arm_recv(&mut self, key: u64, conn: ConnId) {
        let recv = Recv { conn, multishot: self.multishot_recv };
        let entry = recv.entry(self.socket(conn), self.buffers.pool().buffer_bytes());
        self.arm(key, InFlight::Recv(recv), entry);
    }

    fn arm_recv_into(&mut self, key: u64, mut recv: RecvInto) {
        let entry = recv.entry(self.socket(recv.conn));
        self.arm(key, InFlight::RecvInto(recv), entry);
    }

    fn arm_send(&mut self, key: u64, mut send: Send) {
        let socket = self.socket(send.conn);
        let (before, now) = self.received_bytes;
        let entry = send.entry(socket, &mut self.messages, before.max(now));
        self.arm(key, InFlight::Send(send), entry);
    }

    fn arm_write(&mut self, key: u64, write: Write) {
        let entry = write.entry();
        self.arm(key, InFlight::Write(write), entry);
    }

    fn arm_sync(&mut self, key: u64, token: Token, file: FileHandle) {
        let entry = in_flight::sync_entry(&file);
        self.arm(key, InFlight::Sync { token, _file: file }, entry);
    }

    fn arm_read(&mut self, key: u64, mut read: Read) {
        let entry = read.entry();
        self.arm(key, InFlight::Read(read), entry);
    }

    fn arm_wake(&mut self, key: u64, mut counter: Box<u64>) {
        let entry = in_flight::wake_entry(self.wakers.eventfd(self.shard), &mut counter);
        self.arm(key, InFlight::Wake(counter), entry);
    }

    fn socket(&mut self, conn: ConnId) -> RawFd {
        self.conn(conn).socket.as_raw_fd()
    }
}

impl Io for Ring {
    fn now(&self) -> Now {
        self.clock.now()
    }

    fn turn(&mut self, ops: &mut Vec<Op>, events: &mut Vec<Event>, wait: Wait) -> io::Result<()> {
        let before = events.len();
        self.buffers.provide_returned();
        for op in ops.drain(..) {
            self.start(op, events);
        }

        if wait == Wait::No || events.len() > before {
            self.enter(None)?;
            self.give_way();
            self.reap(events);
            return Ok(());
        }
        self.wait(wait, events)
    }
}

impl Drop for Ring {
    /// Cancel and take back what the kernel works on; what it does not give back is leaked, since
    /// it may still be written to.
    fn drop(&mut self) {
        self.wakers.set_ring(self.shard, None);
        self.cancel(CancelBuilder::any());
        let deadline = Instant::now() + DRAIN_MAX;
        let mut drained = self.enter(None).is_ok();
        while drained && self.in_flight.len() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            drained = !left.is_zero() && self.enter(Some(Some(left))).is_ok();
            self.abandon_completed();
        }
        if !drained {
            mem::forget(mem::replace(&mut self.in_flight, Slab::new()));
            self.buffers.leak();
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ring of shard {}, {} operations in flight", self.shard, self.in_flight.len())
    }
}
