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
mod in_flight;
mod setup;
mod slab;
#[cfg(test)]
mod tests;
mod wakers;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use self::buf_ring::BufRing;
use self::in_flight::{Accept, InFlight, Message, Read, Recv, RecvInto, Send, Write, is_transient};
use self::slab::Slab;
pub use self::wakers::Wakers;
use super::buffer::RecvPool;
use super::clock::Clock;
use super::file::FileHandle;
use super::op::{ConnId, Event, Io, ListenerId, Op, RecvEnd, Token, Wait};
use super::socket::SocketHandle;
use crate::model::{Now, ShardId};

/// The key of entries whose completion nobody waits for.
const NOBODY: u64 = u64::MAX;

/// How long a dropped ring waits for what the kernel is still working on.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// What to do while nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollMode {
    /// Sleep at once: the least CPU, and the latency of a wake-up.
    Block,
    /// Look for this long, then sleep.
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
    /// Entries for the next submission.
    queued: VecDeque<squeue::Entry>,
    /// By the index of their id.
    conns: Vec<Option<Conn>>,
    /// Messages of past sends, for the next ones.
    messages: Vec<Box<Message>>,
    /// Scratch space of [`Ring::reap`].
    completions: Vec<cqueue::Entry>,
    multishot_accept: bool,
    multishot_recv: bool,
    features: Vec<&'static str>,
    clock: Clock,
    shard: ShardId,
    poll: PollMode,
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
        let (ring, features) = setup::build(config.entries)?;
        let pool = RecvPool::new(config.recv_buffers, config.recv_buffer_bytes);
        // SAFETY: dropped after the ring, as fields of one struct in this order; or leaked by it.
        let buffers = unsafe { BufRing::register(&ring, pool)? };
        let mut ring = Ring {
            ring,
            buffers,
            in_flight: Slab::new(),
            queued: VecDeque::new(),
            conns: Vec::new(),
            messages: Vec::new(),
            completions: Vec::new(),
            multishot_accept: true,
            multishot_recv: true,
            features,
            clock: Clock::default(),
            shard: config.shard,
            poll: config.poll,
            wakers: config.wakers,
            has_mail: config.has_mail,
        };
        let key = ring.in_flight.reserve();
        ring.arm_wake(key, Box::new(0));
        Ok(ring)
    }

    /// What of the kernel is in use, for the banner.
    pub fn features(&self) -> Vec<&'static str> {
        let mut features = self.features.clone();
        features.extend(self.multishot_accept.then_some("multishot_accept"));
        features.extend(self.multishot_recv.then_some("multishot_recv"));
        features.push("buffer_ring");
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
                self.arm_write(key, Write::new(token, file, offset, data, sync));
            }
            Op::Sync { token, file } => {
                let key = self.in_flight.reserve();
                self.arm_sync(key, token, file);
            }
            Op::Read { token, file, offset, buf, at, len } => {
                let key = self.in_flight.reserve();
                self.arm_read(key, Read::new(token, file, offset, buf, at, len));
            }
            // A system call, but only when the peer sleeps: its wake-up costs far more.
            Op::Wake { shard } => self.wakers.wake(shard),
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
        let entry = send.entry(socket, &mut self.messages);
        self.arm(key, InFlight::Send(send), entry);
    }

    fn arm_write(&mut self, key: u64, write: Write) {
        let entry = write.entry();
        self.arm(key, InFlight::Write(write), entry);
    }

    fn arm_sync(&mut self, key: u64, token: Token, file: FileHandle) {
        let entry = in_flight::sync_entry(&file);
        self.arm(key, InFlight::Sync { token, file }, entry);
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

    // --- completions ----------------------------------------------------------------------------

    /// Translate what has completed.
    fn reap(&mut self, events: &mut Vec<Event>) {
        let mut completions = mem::take(&mut self.completions);
        completions.extend(self.ring.completion());
        for completion in completions.drain(..) {
            self.complete(&completion, events);
        }
        self.completions = completions;
    }

    fn complete(&mut self, completion: &cqueue::Entry, events: &mut Vec<Event>) {
        let key = completion.user_data();
        if key == NOBODY {
            return;
        }
        let result = usize::try_from(completion.result())
            .map_err(|_| io::Error::from_raw_os_error(-completion.result()));
        let flags = completion.flags();
        match self.in_flight.take(key) {
            InFlight::Accept(accept) => self.on_accept(key, accept, result, flags, events),
            InFlight::Recv(recv) => self.on_recv(key, recv, result, flags, events),
            InFlight::RecvInto(recv) => self.on_recv_into(key, recv, result, events),
            InFlight::Send(send) => self.on_send(key, send, result, events),
            InFlight::Write(mut write) => match write.advance(result) {
                None => self.arm_write(key, write),
                Some(result) => {
                    self.in_flight.release(key);
                    events.push(Event::Written { token: write.token, result });
                }
            },
            InFlight::Sync { token, file } => match result {
                Err(error) if is_transient(&error) => self.arm_sync(key, token, file),
                result => {
                    self.in_flight.release(key);
                    events.push(Event::Synced { token, result: result.map(|_| ()) });
                }
            },
            InFlight::Read(mut read) => match read.advance(result) {
                None => self.arm_read(key, read),
                Some(result) => {
                    self.in_flight.release(key);
                    events.push(Event::Read { token: read.token, buf: read.buf, result });
                }
            },
            InFlight::Wake(counter) => {
                events.push(Event::Woken);
                self.arm_wake(key, counter);
            }
        }
    }

    fn on_accept(
        &mut self,
        key: u64,
        accept: Accept,
        result: io::Result<usize>,
        flags: u32,
        events: &mut Vec<Event>,
    ) {
        let listener = accept.listener;
        let error = match result {
            Ok(fd) => {
                // SAFETY: the kernel has just made this descriptor for us.
                events.extend(accepted(listener, unsafe { OwnedFd::from_raw_fd(fd as RawFd) }));
                None
            }
            Err(error) => Some(error),
        };
        if cqueue::more(flags) {
            self.in_flight.put(key, InFlight::Accept(accept));
            return;
        }
        let again = match &error {
            None => true,
            // The connection died before it was taken; the next may live.
            Some(error) if is_transient(error) || error.kind() == ErrorKind::ConnectionAborted => true,
            Some(error) if accept.multishot && error.kind() == ErrorKind::InvalidInput => {
                self.multishot_accept = false;
                true
            }
            Some(_) => false,
        };
        if again {
            return self.arm_accept(key, listener, accept.socket);
        }
        self.in_flight.release(key);
        events.extend(error.map(|error| Event::AcceptFailed { listener, error }));
    }

    fn on_recv(
        &mut self,
        key: u64,
        recv: Recv,
        result: io::Result<usize>,
        flags: u32,
        events: &mut Vec<Event>,
    ) {
        let id = recv.conn;
        let len = *result.as_ref().unwrap_or(&0);
        // SAFETY: the kernel has taken this buffer from its ring for this completion alone and is
        // done with it; it wrote the first `len` bytes.
        let data =
            cqueue::buffer_select(flags).map(|buffer| unsafe { self.buffers.pool().loan(buffer, len) });
        if len > 0 {
            let data = data.expect("bytes come in a buffer");
            events.push(Event::Received { conn: id, data });
        }
        if cqueue::more(flags) {
            self.in_flight.put(key, InFlight::Recv(recv));
            return;
        }
        let end = match result {
            Ok(0) => RecvEnd::Eof,
            // The kernel ends a multishot receive when it sees fit; the shard need not know.
            Ok(_) => match self.recv_interrupted(id) {
                None => return self.arm_recv(key, id),
                Some(end) => end,
            },
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => RecvEnd::NoBuffers,
            Err(error) => {
                let refused = recv.multishot && error.kind() == ErrorKind::InvalidInput;
                self.multishot_recv &= !refused;
                match self.recv_interrupted(id) {
                    None if refused || is_transient(&error) => return self.arm_recv(key, id),
                    Some(RecvEnd::Stopped) if error.raw_os_error() == Some(libc::ECANCELED) => {
                        RecvEnd::Stopped
                    }
                    _ => RecvEnd::Failed(error),
                }
            }
        };
        self.in_flight.release(key);
        self.conn(id).recv = None;
        events.push(Event::RecvEnded { conn: id, end });
        self.close_if_quiet(id, events);
    }

    /// Why a receive that ended by itself does not go on.
    fn recv_interrupted(&mut self, id: ConnId) -> Option<RecvEnd> {
        let conn = self.conn(id);
        match conn.canceled() {
            _ if conn.stopping => Some(RecvEnd::Stopped),
            error => error.map(RecvEnd::Failed),
        }
    }

    fn on_recv_into(
        &mut self,
        key: u64,
        mut recv: RecvInto,
        result: io::Result<usize>,
        events: &mut Vec<Event>,
    ) {
        let id = recv.conn;
        let conn = self.conn(id);
        let result = match result {
            Err(error) if is_transient(&error) && !conn.closing && !conn.stopping => {
                return self.arm_recv_into(key, recv);
            }
            result => result,
        };
        conn.recv = None;
        recv.received(*result.as_ref().unwrap_or(&0));
        self.in_flight.release(key);
        events.push(Event::ReceivedInto { conn: id, buf: recv.buf, result });
        self.close_if_quiet(id, events);
    }

    fn on_send(&mut self, key: u64, mut send: Send, result: io::Result<usize>, events: &mut Vec<Event>) {
        let id = send.conn;
        let result = match send.advance(result) {
            Some(result) => result,
            None => match self.conn(id).canceled() {
                Some(error) => Err(error),
                None => return self.arm_send(key, send),
            },
        };
        self.messages.extend(send.message.take());
        self.in_flight.release(key);
        self.conn(id).sending = false;
        drop(send);
        events.push(Event::Sent { conn: id, result });
        self.close_if_quiet(id, events);
    }

    // --- entering the kernel --------------------------------------------------------------------

    /// Submit everything queued and let the kernel post what has completed; with `wait`, until there
    /// is a completion or that time (`None`: for ever) is over. May return earlier.
    fn enter(&mut self, wait: Option<Option<Duration>>) -> io::Result<()> {
        loop {
            let all = self.fill_submission_queue();
            let result = match wait.filter(|_| all) {
                None if all && !self.has_kernel_work() => return Ok(()),
                None => self.ring.submit(),
                Some(None) => self.ring.submit_and_wait(1),
                Some(Some(timeout)) => {
                    let timeout = Timespec::from(timeout);
                    self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
                }
            };
            match result.map_err(|error| (error.raw_os_error(), error)) {
                Ok(_) if all => return Ok(()),
                Ok(_) => {}
                // The time is over, or a signal came.
                Err((Some(libc::ETIME | libc::EINTR), _)) => return Ok(()),
                // No memory for a request just now, or completions must be taken first: the entries
                // stay and go with the next call.
                Err((Some(libc::EAGAIN | libc::EBUSY), _)) => return Ok(()),
                Err((_, error)) => return Err(error),
            }
        }
    }

    /// Move queued entries to where the kernel takes them from; true when none is left.
    fn fill_submission_queue(&mut self) -> bool {
        let mut submission = self.ring.submission();
        while !submission.is_full()
            && let Some(entry) = self.queued.pop_front()
        {
            // SAFETY: what the entry points to is owned by its operation in `in_flight` until the
            // completion has been reaped, and its descriptor by the operation or by `conns`, which
            // keeps it as long as it has operations. Cancel entries point to nothing.
            unsafe { submission.push(&entry) }.expect("the queue is not full");
        }
        self.queued.is_empty()
    }

    /// Is there something that only a call can bring forward: entries to submit, or completions that
    /// the kernel has deferred?
    fn has_kernel_work(&mut self) -> bool {
        let submission = self.ring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    /// Look for something to do until `until` (`None`: for ever); false when the time is over.
    fn spin(&mut self, until: Option<Instant>) -> bool {
        loop {
            if !self.ring.completion().is_empty() || self.has_kernel_work() || (self.has_mail)() {
                return true;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return false;
            }
            std::hint::spin_loop();
        }
    }

    /// Submit what is queued and wait for the first event: spin, then sleep, as the mode says.
    fn wait(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        let before = events.len();
        let started = Instant::now();
        let deadline = match wait {
            Wait::No => Some(started),
            Wait::For(time) => started.checked_add(time),
            Wait::Forever => None,
        };
        let spin_until = match self.poll {
            // One call submits and waits.
            PollMode::Block => None,
            PollMode::Adaptive(spin) => Some(deadline.unwrap_or(started + spin).min(started + spin)),
            PollMode::Busy => deadline,
        };
        let mut spinning = self.poll != PollMode::Block;
        loop {
            if spinning {
                self.enter(None)?;
            } else {
                self.sleep(deadline)?;
            }
            self.reap(events);
            if events.len() > before || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(());
            }
            if (self.has_mail)() {
                events.push(Event::Woken);
                return Ok(());
            }
            // Whatever was reaped without an event may have queued its continuation.
            if spinning && self.queued.is_empty() {
                spinning = self.spin(spin_until);
            }
        }
    }

    /// Wait in the kernel at most until `deadline`, unless there is mail.
    fn sleep(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.wakers.fall_asleep(self.shard);
        let result = if (self.has_mail)() {
            Ok(())
        } else {
            self.enter(Some(deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))))
        };
        self.wakers.awake(self.shard);
        result
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
        self.cancel(CancelBuilder::any());
        let deadline = Instant::now() + DRAIN_MAX;
        let mut drained = self.enter(None).is_ok();
        while drained && self.in_flight.len() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            drained = !left.is_zero() && self.enter(Some(Some(left))).is_ok();
            for completion in self.ring.completion() {
                let key = completion.user_data();
                if key != NOBODY && !cqueue::more(completion.flags()) {
                    drop(self.in_flight.take(key));
                    self.in_flight.release(key);
                }
            }
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

/// The event for a connection that was accepted; `None` when its peer has gone already.
fn accepted(listener: ListenerId, socket: OwnedFd) -> Option<Event> {
    let stream = TcpStream::from(socket);
    let peer = stream.peer_addr().ok()?;
    Some(Event::Accepted { listener, socket: SocketHandle::Os(OwnedFd::from(stream)), peer })
}
