//! The simulated network: pairs of sockets with bounded buffers, delays, and peers that misbehave.
//!
//! ```text
//! owner's outbox --room?--> travelling (delayed, cut anywhere) --> other end's inbox --> its reader
//! ```
//!
//! What travels and what lies in the inbox together never exceed the capacity: a peer that does not
//! read stops its sender. Bytes of one direction keep their order; everything else may overtake.
//! One end belongs to a shard and answers to [`Op`](crate::io::op::Op)s, the other to a test by
//! [`ClientSocket`](super::ClientSocket).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::{Buf, Bytes};

use super::Env;
use super::rng::Rng;
use crate::io::op::{ConnId, Event, ListenerId, Op, RecvEnd};
use crate::io::socket::SocketHandle;
use crate::model::{Nanos, ShardId};

/// How long bytes travel; now and then much longer.
const TRAVEL_NS: (u64, u64) = (5_000, 200_000);
const TRAVEL_SPIKE_NS: u64 = 20_000_000;
/// What the shard's own kernel needs for an answer.
const ANSWER_NS: u64 = 4_000;
/// Most bytes that travel together.
const SEGMENT_BYTES_MAX: usize = 64 << 10;

/// What has happened so far: a test that claims to cover something asserts that it is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkCoverage {
    pub connections: u64,
    pub accept_failures: u64,
    /// Sends that found the other end's buffer full.
    pub sends_blocked: u64,
    /// Received events that ended before what had arrived did.
    pub receives_split: u64,
    pub no_buffers: u64,
    pub resets: u64,
}

/// Things on their way.
pub(super) enum NetDue {
    Accept {
        listener: u64,
        socket: u64,
    },
    Arrive {
        from: u64,
        to: u64,
        bytes: Bytes,
    },
    End {
        to: u64,
        end: End,
    },
    /// Look whether a receive can be answered.
    Deliver {
        socket: u64,
    },
    /// The receive with this number stops.
    Stop {
        socket: u64,
        receive: u64,
    },
    /// The send with this number is over.
    SendDone {
        socket: u64,
        send: u64,
    },
    Close {
        socket: u64,
    },
}

/// How the bytes of a direction end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Fin,
    Reset,
}

struct Listener {
    addr: SocketAddr,
    /// Who accepts; nobody before `Op::Listen` and after a failure.
    active: Option<(ShardId, ListenerId)>,
    backlog: VecDeque<u64>,
}

enum Receive {
    Idle,
    /// Numbered, so that a late stop does not meet the next one.
    Multishot(u64),
    Into(u64, Vec<u8>),
}

struct Sending {
    number: u64,
    bytes: usize,
    /// All parts are on their way; the answer is too.
    answered: bool,
}

/// What a shard has under way on its end.
struct Served {
    shard: ShardId,
    conn: ConnId,
    receive: Receive,
    sending: Option<Sending>,
    closing: bool,
}

struct Socket {
    other: u64,
    addr: SocketAddr,
    /// Arrived and not yet read.
    inbox: VecDeque<u8>,
    end: Option<End>,
    /// Sent by the other end and not yet arrived.
    travelling_bytes: usize,
    /// No byte for this end arrives before this.
    arrival: Nanos,
    /// Wanted by the owner to be sent, no room yet.
    outbox: VecDeque<Bytes>,
    /// Nothing follows the outbox.
    fin_wanted: bool,
    fin_sent: bool,
    /// The owner reads no more: what arrives is answered by a reset.
    deaf: bool,
    /// `None` for a test's end, and for a shard's before `Op::Attach`.
    served: Option<Served>,
    client: bool,
}

pub(super) struct Network {
    sockets: BTreeMap<u64, Socket>,
    listeners: BTreeMap<u64, Listener>,
    conns: BTreeMap<(ShardId, ConnId), u64>,
    /// Clients with news, oldest first; each once.
    client_news: VecDeque<u64>,
    client_news_set: BTreeSet<u64>,
    pub buffer_bytes: usize,
    pub accepts_to_fail: u64,
    pub coverage: NetworkCoverage,
    next: u64,
}

fn canceled() -> io::Error {
    io::Error::from_raw_os_error(libc::ECANCELED)
}

fn reset() -> io::Error {
    io::Error::from_raw_os_error(libc::ECONNRESET)
}

fn travel_ns(rng: &mut Rng) -> u64 {
    if rng.one_in(100) { rng.below(TRAVEL_SPIKE_NS) } else { rng.between(TRAVEL_NS.0, TRAVEL_NS.1) }
}

/// How much of `len` goes together: mostly all, now and then a random part.
fn split(len: usize, rng: &mut Rng) -> usize {
    match rng.below(16) {
        0 => rng.between(1, len as u64) as usize,
        1 => rng.between(1, len.min(16) as u64) as usize,
        _ => len,
    }
}

impl Network {
    pub fn new() -> Network {
        Network {
            sockets: BTreeMap::new(),
            listeners: BTreeMap::new(),
            conns: BTreeMap::new(),
            client_news: VecDeque::new(),
            client_news_set: BTreeSet::new(),
            buffer_bytes: 256 << 10,
            accepts_to_fail: 0,
            coverage: NetworkCoverage::default(),
            next: 0,
        }
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn socket(&mut self, id: u64) -> &mut Socket {
        self.sockets.get_mut(&id).expect("a socket lives until both ends are closed")
    }

    pub fn listener(&mut self, addr: SocketAddr) -> SocketHandle {
        let id = self.next();
        self.listeners.insert(id, Listener { addr, active: None, backlog: VecDeque::new() });
        SocketHandle::Sim(id)
    }

    /// Returns the client's end, or nothing when nobody listens there.
    pub fn connect(&mut self, addr: SocketAddr, shard: Option<ShardId>, env: &mut Env<'_>) -> Option<u64> {
        let fits = |listener: &Listener| {
            listener.addr == addr
                && shard.is_none_or(|shard| listener.active.is_some_and(|(active, _)| active == shard))
        };
        let listeners: Vec<u64> =
            self.listeners.iter().filter(|(_, listener)| fits(listener)).map(|(&id, _)| id).collect();
        if listeners.is_empty() {
            return None;
        }
        let listener = *env.rng.pick(&listeners);
        let (client, server) = (self.next(), self.next());
        let client_addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 32_768 + (client % 28_000) as u16));
        let socket = |other, addr, client| Socket {
            other,
            addr,
            inbox: VecDeque::new(),
            end: None,
            travelling_bytes: 0,
            arrival: Nanos(0),
            outbox: VecDeque::new(),
            fin_wanted: false,
            fin_sent: false,
            deaf: false,
            served: None,
            client,
        };
        self.sockets.insert(client, socket(server, client_addr, true));
        self.sockets.insert(server, socket(client, addr, false));
        self.coverage.connections += 1;
        let delay_ns = travel_ns(env.rng);
        env.after(delay_ns, NetDue::Accept { listener, socket: server });
        Some(client)
    }

    // --- operations of a shard ----------------------------------------------------------------

    /// # Panics
    /// When the shard breaks the contract of [`Op`].
    pub fn submit(&mut self, shard: ShardId, op: Op, env: &mut Env<'_>) {
        match op {
            Op::Listen { listener, socket } => self.listen(shard, listener, socket, env),
            Op::Attach { conn, socket } => self.attach(shard, conn, socket),
            Op::RecvStart { conn } => {
                let receive = Receive::Multishot(self.next());
                self.start_receive(shard, conn, receive, env);
            }
            Op::RecvInto { conn, buf } => {
                assert!(buf.capacity() > buf.len(), "a receive into nothing");
                let receive = Receive::Into(self.next(), buf);
                self.start_receive(shard, conn, receive, env);
            }
            Op::RecvStop { conn } => {
                let id = self.open(shard, conn);
                // A receive that has ended by itself has already said so.
                if let Receive::Multishot(receive) | Receive::Into(receive, _) = self.served(id).receive {
                    let delay_ns = env.rng.below(ANSWER_NS);
                    env.after(delay_ns, NetDue::Stop { socket: id, receive });
                }
            }
            Op::Send { conn, parts } => self.send(shard, conn, parts, env),
            Op::Close { conn } => {
                let id = self.open(shard, conn);
                self.served(id).closing = true;
                let delay_ns = env.rng.below(ANSWER_NS);
                env.after(delay_ns, NetDue::Close { socket: id });
            }
            Op::Write { .. } | Op::Sync { .. } | Op::Read { .. } | Op::Wake { .. } => {
                unreachable!("not an operation of the network")
            }
        }
    }

    fn listen(&mut self, shard: ShardId, id: ListenerId, socket: SocketHandle, env: &mut Env<'_>) {
        let SocketHandle::Sim(socket) = socket else { panic!("a socket of the real system") };
        let listener = self.listeners.get_mut(&socket).expect("a listener of this machine's life");
        assert!(listener.active.is_none(), "{id:?} listens already");
        listener.active = Some((shard, id));
        for waiting in std::mem::take(&mut listener.backlog) {
            env.after(0, NetDue::Accept { listener: socket, socket: waiting });
        }
    }

    fn attach(&mut self, shard: ShardId, conn: ConnId, socket: SocketHandle) {
        let SocketHandle::Sim(id) = socket else { panic!("a socket of the real system") };
        let old = self.conns.insert((shard, conn), id);
        assert!(old.is_none(), "{conn:?} is attached already");
        let served = Served { shard, conn, receive: Receive::Idle, sending: None, closing: false };
        let socket = self.socket(id);
        assert!(socket.served.is_none() && !socket.client, "a socket is attached once");
        socket.served = Some(served);
    }

    /// The socket of a connection that has not been closed.
    fn open(&mut self, shard: ShardId, conn: ConnId) -> u64 {
        let id = *self.conns.get(&(shard, conn)).unwrap_or_else(|| panic!("{conn:?} is not attached"));
        assert!(!self.served(id).closing, "{conn:?} is being closed");
        id
    }

    fn served(&mut self, id: u64) -> &mut Served {
        self.socket(id).served.as_mut().expect("only attached sockets get here")
    }

    fn start_receive(&mut self, shard: ShardId, conn: ConnId, receive: Receive, env: &mut Env<'_>) {
        let id = self.open(shard, conn);
        let served = self.served(id);
        assert!(matches!(served.receive, Receive::Idle), "{conn:?} receives already");
        served.receive = receive;
        let delay_ns = env.rng.below(ANSWER_NS);
        env.after(delay_ns, NetDue::Deliver { socket: id });
    }

    fn send(&mut self, shard: ShardId, conn: ConnId, parts: Vec<Bytes>, env: &mut Env<'_>) {
        let id = self.open(shard, conn);
        let number = self.next();
        let bytes = parts.iter().map(Bytes::len).sum();
        let served = self.served(id);
        assert!(served.sending.is_none(), "{conn:?} sends already");
        served.sending = Some(Sending { number, bytes, answered: false });
        self.socket(id).outbox.extend(parts.into_iter().filter(|part| !part.is_empty()));
        self.pump(id, env);
    }

    // --- bytes on their way -------------------------------------------------------------------

    /// Send what there is room for.
    fn pump(&mut self, id: u64, env: &mut Env<'_>) {
        let buffer_bytes = self.buffer_bytes;
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let other_id = socket.other;
        let mut outbox = std::mem::take(&mut socket.outbox);
        let broken = socket.end == Some(End::Reset);
        if broken {
            outbox.clear();
        }
        while let Some(front) = outbox.front_mut() {
            // An other end that is gone takes everything, and answers the first of it with a reset.
            let mut arrival = Nanos(env.now.0 + travel_ns(env.rng));
            let mut room = usize::MAX;
            if let Some(other) = self.sockets.get_mut(&other_id) {
                room = buffer_bytes.saturating_sub(other.inbox.len() + other.travelling_bytes);
                arrival = arrival.max(other.arrival);
                other.arrival = arrival;
            }
            if room == 0 {
                self.coverage.sends_blocked += 1;
                break;
            }
            let len = split(front.len().min(room).min(SEGMENT_BYTES_MAX), env.rng);
            // Copied: the kernel's buffers are its own, the sender's memory is free again.
            let bytes = Bytes::copy_from_slice(&front[..len]);
            front.advance(len);
            if front.is_empty() {
                outbox.pop_front();
            }
            if let Some(other) = self.sockets.get_mut(&other_id) {
                other.travelling_bytes += len;
            }
            env.at(arrival, NetDue::Arrive { from: id, to: other_id, bytes });
        }
        let done = outbox.is_empty();
        let socket = self.socket(id);
        socket.outbox = outbox;
        if !done {
            return;
        }
        let sending = socket.served.as_mut().and_then(|served| served.sending.as_mut());
        if let Some(sending) = sending.filter(|sending| !sending.answered) {
            sending.answered = true;
            let due = NetDue::SendDone { socket: id, send: sending.number };
            let delay_ns = env.rng.below(ANSWER_NS);
            env.after(delay_ns, due);
        }
        if socket.fin_wanted && !socket.fin_sent && !broken {
            socket.fin_sent = true;
            self.send_end(other_id, End::Fin, env);
        }
    }

    /// A fin follows the bytes before it; a reset overtakes them.
    fn send_end(&mut self, to: u64, end: End, env: &mut Env<'_>) {
        let mut time = Nanos(env.now.0 + travel_ns(env.rng));
        if let (End::Fin, Some(socket)) = (end, self.sockets.get_mut(&to)) {
            time = time.max(socket.arrival);
            socket.arrival = time;
        }
        env.at(time, NetDue::End { to, end });
    }

    /// Something that was on its way has come.
    pub fn apply(&mut self, due: NetDue, env: &mut Env<'_>) {
        match due {
            NetDue::Accept { listener, socket } => self.accept(listener, socket, env),
            NetDue::Arrive { from, to, bytes } => self.arrive(from, to, &bytes, env),
            NetDue::End { to, end } => self.ended(to, end, env),
            NetDue::Deliver { socket } => self.deliver(socket, env),
            NetDue::Stop { socket, receive } => self.stop(socket, receive, env),
            NetDue::SendDone { socket, send } => self.send_done(socket, send, env),
            NetDue::Close { socket } => self.close(socket, env),
        }
    }

    fn accept(&mut self, id: u64, socket: u64, env: &mut Env<'_>) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        let Some((shard, name)) = listener.active else {
            listener.backlog.push_back(socket);
            return;
        };
        if self.accepts_to_fail > 0 {
            self.accepts_to_fail -= 1;
            self.coverage.accept_failures += 1;
            listener.active = None;
            listener.backlog.push_back(socket);
            let error = io::Error::from_raw_os_error(libc::EMFILE);
            env.emit(shard, Event::AcceptFailed { listener: name, error });
            return;
        }
        let client = self.socket(socket).other;
        let peer = self.socket(client).addr;
        env.emit(shard, Event::Accepted { listener: name, socket: SocketHandle::Sim(socket), peer });
    }

    fn arrive(&mut self, from: u64, to: u64, bytes: &[u8], env: &mut Env<'_>) {
        let Some(socket) = self.sockets.get_mut(&to) else {
            self.send_end(from, End::Reset, env);
            return;
        };
        socket.travelling_bytes -= bytes.len();
        if socket.end == Some(End::Reset) {
            return;
        }
        if socket.deaf {
            self.send_end(from, End::Reset, env);
            return;
        }
        socket.inbox.extend(bytes);
        self.deliver(to, env);
    }

    fn ended(&mut self, to: u64, end: End, env: &mut Env<'_>) {
        let Some(socket) = self.sockets.get_mut(&to) else { return };
        if socket.end == Some(End::Reset) {
            return;
        }
        socket.end = Some(end);
        if end == End::Reset {
            self.coverage.resets += 1;
            // A shard loses what it had not read; a client may have read it just before.
            if !socket.client {
                socket.inbox.clear();
            }
            self.pump(to, env);
        }
        self.deliver(to, env);
    }

    /// Answer the receive that is under way, if there is something to say.
    fn deliver(&mut self, id: u64, env: &mut Env<'_>) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let other = socket.other;
        if socket.client {
            if self.client_news_set.insert(id) {
                self.client_news.push_back(id);
            }
            return;
        }
        let Some(served) = socket.served.as_mut() else { return };
        let (shard, conn) = (served.shard, served.conn);
        let before = socket.inbox.len();
        match &mut served.receive {
            Receive::Idle => return,
            Receive::Multishot(_) => {
                let pool = env.recv_pool(shard);
                while !socket.inbox.is_empty() {
                    let (front, _) = socket.inbox.as_slices();
                    let len = split(front.len().min(pool.buffer_bytes()), env.rng);
                    let Some(data) = pool.copy_in(&front[..len]) else {
                        self.coverage.no_buffers += 1;
                        served.receive = Receive::Idle;
                        env.emit(shard, Event::RecvEnded { conn, end: RecvEnd::NoBuffers });
                        break;
                    };
                    socket.inbox.drain(..len);
                    self.coverage.receives_split += u64::from(!socket.inbox.is_empty());
                    env.emit(shard, Event::Received { conn, data });
                }
                if let (true, Some(end), Receive::Multishot(_)) =
                    (socket.inbox.is_empty(), socket.end, &served.receive)
                {
                    served.receive = Receive::Idle;
                    let end = match end {
                        End::Fin => RecvEnd::Eof,
                        End::Reset => RecvEnd::Failed(reset()),
                    };
                    env.emit(shard, Event::RecvEnded { conn, end });
                }
            }
            Receive::Into(_, buf) => {
                let result = if !socket.inbox.is_empty() {
                    let (front, _) = socket.inbox.as_slices();
                    let len = split(front.len().min(buf.capacity() - buf.len()), env.rng);
                    buf.extend_from_slice(&front[..len]);
                    socket.inbox.drain(..len);
                    self.coverage.receives_split += u64::from(!socket.inbox.is_empty());
                    Ok(len)
                } else {
                    match socket.end {
                        None => return,
                        Some(End::Fin) => Ok(0),
                        Some(End::Reset) => Err(reset()),
                    }
                };
                let buf = std::mem::take(buf);
                served.receive = Receive::Idle;
                env.emit(shard, Event::ReceivedInto { conn, buf, result });
            }
        }
        if socket.inbox.len() < before {
            self.pump(other, env);
        }
    }

    fn stop(&mut self, id: u64, receive: u64, env: &mut Env<'_>) {
        let Some(served) = self.sockets.get_mut(&id).and_then(|socket| socket.served.as_mut()) else {
            return;
        };
        let (shard, conn) = (served.shard, served.conn);
        match std::mem::replace(&mut served.receive, Receive::Idle) {
            Receive::Multishot(number) if number == receive => {
                env.emit(shard, Event::RecvEnded { conn, end: RecvEnd::Stopped });
            }
            Receive::Into(number, buf) if number == receive => {
                env.emit(shard, Event::ReceivedInto { conn, buf, result: Err(canceled()) });
            }
            other => served.receive = other,
        }
    }

    fn send_done(&mut self, id: u64, send: u64, env: &mut Env<'_>) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let broken = socket.end == Some(End::Reset);
        let Some(served) = socket.served.as_mut() else { return };
        if let Some(sending) = served.sending.take_if(|sending| sending.number == send) {
            let result = if broken { Err(reset()) } else { Ok(sending.bytes) };
            env.emit(served.shard, Event::Sent { conn: served.conn, result });
        }
    }

    fn close(&mut self, id: u64, env: &mut Env<'_>) {
        let mut socket = self.sockets.remove(&id).expect("a socket is closed once");
        let served = socket.served.take().expect("only attached sockets are closed");
        let (shard, conn) = (served.shard, served.conn);
        match served.receive {
            Receive::Idle => {}
            Receive::Multishot(_) => {
                env.emit(shard, Event::RecvEnded { conn, end: RecvEnd::Failed(canceled()) });
            }
            Receive::Into(_, buf) => {
                env.emit(shard, Event::ReceivedInto { conn, buf, result: Err(canceled()) });
            }
        }
        if served.sending.is_some() {
            env.emit(shard, Event::Sent { conn, result: Err(canceled()) });
        }
        self.conns.remove(&(shard, conn));
        env.emit(shard, Event::Closed { conn });
        // Closing with unread bytes tells the peer so (RFC 1122, 4.2.2.13), and a send that was cut
        // off must not look like an orderly end.
        let orderly = socket.inbox.is_empty() && socket.outbox.is_empty();
        self.send_end(socket.other, if orderly { End::Fin } else { End::Reset }, env);
    }

    // --- the test's end -----------------------------------------------------------------------

    /// Clients that have something new to read, and have not been told.
    pub fn client_news_count(&self) -> usize {
        self.client_news.len()
    }

    pub fn take_client_news(&mut self, index: usize) -> u64 {
        let id = self.client_news.remove(index).expect("an index below the count");
        self.client_news_set.remove(&id);
        id
    }

    pub fn client_send(&mut self, id: u64, bytes: &[u8], env: &mut Env<'_>) {
        let socket = self.socket(id);
        assert!(!socket.fin_wanted, "the client has closed this side");
        if !bytes.is_empty() {
            socket.outbox.push_back(Bytes::copy_from_slice(bytes));
        }
        self.pump(id, env);
    }

    pub fn client_receive(&mut self, id: u64, bytes_max: usize, env: &mut Env<'_>) -> Vec<u8> {
        let socket = self.socket(id);
        let len = socket.inbox.len().min(bytes_max);
        let bytes = socket.inbox.drain(..len).collect();
        let other = socket.other;
        self.pump(other, env);
        bytes
    }

    pub fn client_unsent_bytes(&self, id: u64) -> usize {
        self.sockets[&id].outbox.iter().map(Bytes::len).sum()
    }

    pub fn client_end(&self, id: u64) -> Option<End> {
        self.sockets[&id].end
    }

    pub fn client_close(&mut self, id: u64, reading_too: bool, env: &mut Env<'_>) {
        let socket = self.socket(id);
        socket.fin_wanted = true;
        if reading_too {
            socket.deaf = true;
            if !socket.inbox.is_empty() {
                return self.client_reset(id, env);
            }
        }
        self.pump(id, env);
    }

    pub fn client_reset(&mut self, id: u64, env: &mut Env<'_>) {
        let socket = self.socket(id);
        socket.fin_wanted = true;
        socket.fin_sent = true;
        socket.deaf = true;
        socket.inbox.clear();
        socket.outbox.clear();
        let other = socket.other;
        self.send_end(other, End::Reset, env);
    }

    /// The machine of the shards is gone. What has arrived at clients stays with them.
    pub fn crash(&mut self) {
        self.listeners.clear();
        self.conns.clear();
        self.sockets.retain(|_, socket| socket.client);
        for (&id, socket) in &mut self.sockets {
            socket.outbox.clear();
            socket.travelling_bytes = 0;
            socket.end = Some(End::Reset);
            if self.client_news_set.insert(id) {
                self.client_news.push_back(id);
            }
        }
    }
}
