//! The loop of a shard: `step(events, now) -> operations`.
//!
//! The order of a turn: what was put off, what the kernel reports, the mail, deadlines, what became
//! durable, commit, sends. Handlers never enter the kernel; the driver submits once, at the end.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::io::op::{ConnId, Event, Io, ListenerId, Op, Wait};
use crate::io::socket::SocketHandle;
use crate::kafka::cost::TurnBudget;
use crate::kafka::front::{Close, Front, Turn};
use crate::kafka::memory::Memory;
use crate::model::{LogId, Nanos, Now, ShardId};
use crate::shard::{LogJob, News, Shard};

use super::connection::{Connection, Limits};
use super::outside::{Outside, OutsideQueue};

/// What a server is told when it starts.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    pub limits: Limits,
    /// Connections of this shard; further ones are turned away.
    pub connections_max: usize,
    /// A connection without any traffic for so long is closed.
    pub idle: Option<Duration>,
}

/// Answers that lead to further calls are followed so often in one turn.
pub(super) const PASSES_MAX: usize = 64;
/// Connections are looked through for silent ones this often.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// A shard that is asked to stop waits this long for what is under way.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Who has told that it is drained looks this often whether the others are: the last one wakes only those
/// that sleep already.
const DRAINED_EVERY: Duration = Duration::from_millis(10);
/// A listener that failed is started again after this time.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// The operator is told of it this often.
const LISTEN_TOLD_EVERY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

/// A socket that connections are accepted on.
struct Listener {
    socket: SocketHandle,
    /// The log whose port it is: its connections stay with this shard, which hosts the log. Those of the
    /// node's own port are dealt out.
    at: Option<LogId>,
    /// Accepting has failed: it begins again then.
    again_at: Option<Nanos>,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// No new requests; those under way are answered. `told`: this shard's are, and the others know.
    Draining {
        until: Nanos,
        told: bool,
    },
    /// Final checkpoints are being written.
    Checkpointing,
    /// The manifests are being written.
    Closing,
    Over,
}

/// A shard with its connections.
pub struct Server {
    shard: Shard,
    front: Front,
    config: ServerConfig,
    slots: Vec<Slot>,
    free: Vec<u32>,
    connections: usize,
    listeners: Vec<Listener>,
    /// When the operator may be told again that one of them failed.
    listen_told_until: Nanos,
    outside: OutsideQueue,
    /// Connections to be looked at again before the turn ends.
    touched: Vec<ConnId>,
    stalled: Vec<ConnId>,
    /// They asked for what may cost much when the turn had spent what it has for that; each once, in order.
    line: VecDeque<ConnId>,
    /// Something of theirs has left, and what waited for that can go on.
    unblocked: Vec<ConnId>,
    /// Not read from until there is memory again; each once, in order.
    waiting: VecDeque<ConnId>,
    /// Their fetches wait for memory.
    starved: VecDeque<ConnId>,
    /// Of those that wait, the one that may finish a frame although memory is short.
    turn_of: Option<ConnId>,
    /// The earliest deadline among the fetches of each connection that has some.
    fetch_deadlines: BTreeSet<(Nanos, ConnId)>,
    next_shard: usize,
    sweep_at: Nanos,
    phase: Phase,
    news: News,
    wakes: Vec<ShardId>,
}

impl Server {
    pub fn new(shard: Shard, front: Front, config: ServerConfig, outside: OutsideQueue) -> Server {
        let next_shard = usize::from(shard.id().0);
        Server {
            shard,
            front,
            config,
            slots: Vec::new(),
            free: Vec::new(),
            connections: 0,
            listeners: Vec::new(),
            listen_told_until: Nanos(0),
            outside,
            touched: Vec::new(),
            stalled: Vec::new(),
            line: VecDeque::new(),
            unblocked: Vec::new(),
            waiting: VecDeque::new(),
            starved: VecDeque::new(),
            turn_of: None,
            fetch_deadlines: BTreeSet::new(),
            next_shard,
            sweep_at: Nanos(0),
            phase: Phase::Running,
            news: News::default(),
            wakes: Vec::new(),
        }
    }

    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// What its connections hold.
    pub fn memory(&self) -> &Memory {
        &self.front.memory
    }

    /// Deadlines of fetches that it keeps: at most one for each connection.
    pub fn deadlines(&self) -> usize {
        self.fetch_deadlines.len()
    }

    /// Accept connections on this socket, from the next turn on. `at`: it is the port of this log.
    pub fn listen(&mut self, socket: SocketHandle, at: Option<LogId>, ops: &mut Vec<Op>) -> io::Result<()> {
        assert!(at.is_none_or(|log| self.shard.is_local(log)), "a log's port belongs to the log's shard");
        let listener = ListenerId(self.listeners.len() as u16);
        ops.push(Op::Listen { listener, socket: socket.try_clone()? });
        self.listeners.push(Listener { socket, at, again_at: None });
        Ok(())
    }

    /// Before the first turn.
    pub fn start(&mut self, now: Now) {
        self.shard.start(now);
    }

    /// The shard has ended: its logs are closed.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Work for the background, and what an operator should read, since the last call.
    pub fn take_news(&mut self) -> (Vec<LogJob>, Vec<String>) {
        (std::mem::take(&mut self.news.jobs), std::mem::take(&mut self.news.messages))
    }

    /// One turn. Returns how long the next may wait for an event.
    pub fn step(
        &mut self,
        events: &mut Vec<Event>,
        now: Now,
        clock: &dyn Fn() -> Nanos,
        ops: &mut Vec<Op>,
    ) -> Wait {
        self.shard.stats.counters.turns += 1;
        // Before the events, so that who asks in them is behind who waits.
        self.serve_line(now, clock, ops);
        for event in events.drain(..) {
            self.on_event(event, now, clock, ops);
        }
        self.receive_outside(now, ops);
        if self.phase != Phase::Running {
            self.drain_fetches(now, clock, ops);
        }
        self.shard.receive(now, &mut self.news);
        // Before deadlines: a fetch whose time is over still gets what was there before it came.
        self.wake(now, clock, ops);
        self.expire(now, clock, ops);
        self.listen_again(now, ops);
        self.retry_stalled(now, clock, ops);
        self.resume_waiting(now, clock, ops);
        // Requests of this turn and answers of other shards may have made more; each pass is bounded
        // by what the last one did. Requests that ask on with each answer go on in the next turn: what is to be
        // written does not wait for the last of them.
        let mut more = true;
        for _ in 0..PASSES_MAX {
            self.shard.apply_durable(now, &mut self.news);
            more = self.deliver(now, clock, ops);
            if !more {
                break;
            }
        }
        // A block waited until here, not only until the turn began.
        self.shard.submit(Now { mono: clock(), ..now }, ops, &mut self.news);
        self.finish_connections(now, ops);
        self.advance_phase(now);
        self.shard.take_wakes(&mut self.wakes);
        ops.extend(self.wakes.drain(..).map(|shard| Op::Wake { shard }));
        if more { Wait::No } else { self.wait(now) }
    }

    fn wait(&self, now: Now) -> Wait {
        let has_work = !self.outside.is_empty() || !self.unblocked.is_empty() || !self.line.is_empty();
        if self.phase == Phase::Over || has_work {
            return Wait::No;
        }
        let mut deadline = self.shard.deadline().min(self.sweep_at);
        if let Some((at, _)) = self.fetch_deadlines.first() {
            deadline = deadline.min(*at);
        }
        if let Phase::Draining { until, told } = self.phase {
            deadline = deadline.min(if told { until.min(now.mono.plus(DRAINED_EVERY)) } else { until });
        }
        deadline = self.listeners.iter().filter_map(|listener| listener.again_at).fold(deadline, Nanos::min);
        match deadline.since(now.mono) {
            0 => Wait::No,
            nanos => Wait::For(Duration::from_nanos(nanos)),
        }
    }

    // --- Events. ---

    fn on_event(&mut self, event: Event, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) {
        match event {
            Event::Accepted { listener, socket, peer } => {
                match self.listeners.get(usize::from(listener.0)).and_then(|listener| listener.at) {
                    Some(log) => self.attach(socket, peer, Some(log), now, ops),
                    None => self.deal(socket, peer, now, ops),
                }
            }
            Event::AcceptFailed { listener, error } => self.on_listen_failed(listener, &error, now),
            Event::Received { conn, data } => {
                self.with(conn, now, clock, ops, |connection, turn| connection.on_received(&data, turn));
            }
            Event::RecvEnded { conn, end } => {
                self.with(conn, now, clock, ops, |connection, _| connection.on_recv_ended(end));
            }
            Event::ReceivedInto { conn, buf, result } => {
                self.with(conn, now, clock, ops, |connection, turn| {
                    connection.on_received_into(buf, result, turn)
                });
            }
            Event::Sent { conn, result } => {
                self.with(conn, now, clock, ops, |connection, turn| connection.on_sent(result, turn));
            }
            Event::Closed { conn } => self.on_closed(conn),
            Event::Woken => {}
            event @ (Event::Written { .. } | Event::Synced { .. } | Event::Read { .. }) => {
                self.shard.on_event(event, now, &mut self.news);
            }
        }
    }

    /// Let a connection act; an error closes it.
    fn with(
        &mut self,
        conn: ConnId,
        now: Now,
        clock: &dyn Fn() -> Nanos,
        ops: &mut Vec<Op>,
        act: impl FnOnce(&mut Connection, &mut Turn<'_>) -> Result<(), Close>,
    ) {
        let Some(slot) = self.slots.get_mut(conn.index as usize) else { return };
        if slot.generation != conn.generation {
            return;
        }
        let Some(connection) = &mut slot.connection else { return };
        let mut turn = Turn { shard: &mut self.shard, front: &mut self.front, now, clock };
        let result = act(connection, &mut turn);
        connection.account(&mut self.front.memory);
        // An entry that is too early is looked at and moved; only one that is too late must not be.
        if let Some(next) = connection.session.next_deadline(now.mono)
            && connection.deadline.is_none_or(|at| next < at)
        {
            if let Some(at) = connection.deadline.replace(next) {
                self.fetch_deadlines.remove(&(at, conn));
            }
            self.fetch_deadlines.insert((next, conn));
        }
        if connection.is_stalled() {
            self.stalled.push(conn);
        }
        if connection.is_newly_starved() {
            self.starved.push_back(conn);
        }
        if connection.enters_queue() {
            self.waiting.push_back(conn);
        }
        if let Err(Close(why)) = result {
            self.shard.stats.counters.protocol_errors += 1;
            tracing::debug!(conn = conn.index, why, "closing a connection");
            connection.close(ops);
        }
        self.touched.push(conn);
    }

    /// A listener accepts no more. It is usually for want of descriptors, which whoever tries again at once
    /// finds as wanting, or takes from others that need one.
    fn on_listen_failed(&mut self, listener: ListenerId, error: &io::Error, now: Now) {
        self.listeners[usize::from(listener.0)].again_at = Some(now.mono.plus(LISTEN_AGAIN_AFTER));
        if now.mono >= self.listen_told_until {
            self.listen_told_until = now.mono.plus(LISTEN_TOLD_EVERY);
            self.news.messages.push(format!(
                "accepting connections failed, and is tried again ten times a second: {error} (if files are \
                 too many, raise `ulimit -n` or lower kafka.connections_max)"
            ));
        }
    }

    fn listen_again(&mut self, now: Now, ops: &mut Vec<Op>) {
        for index in 0..self.listeners.len() {
            let (listener, id) = (&mut self.listeners[index], ListenerId(index as u16));
            if listener.again_at.is_none_or(|at| now.mono < at) {
                continue;
            }
            match listener.socket.try_clone() {
                Ok(socket) => {
                    listener.again_at = None;
                    ops.push(Op::Listen { listener: id, socket });
                }
                Err(error) => self.on_listen_failed(id, &error, now),
            }
        }
    }

    /// Connections are dealt out in turn: hashing would leave some cores with many and some idle.
    fn deal(&mut self, socket: SocketHandle, peer: SocketAddr, now: Now, ops: &mut Vec<Op>) {
        let shards = self.shard.shards();
        let to = ShardId((self.next_shard % shards) as u16);
        self.next_shard += 1;
        if to == self.shard.id() {
            self.attach(socket, peer, None, now, ops);
        } else {
            self.shard.hand_over(to, socket, peer);
        }
    }

    fn attach(
        &mut self,
        socket: SocketHandle,
        peer: SocketAddr,
        at: Option<LogId>,
        now: Now,
        ops: &mut Vec<Op>,
    ) {
        let counters = &mut self.shard.stats.counters;
        let refused = self.connections >= self.config.connections_max || self.phase != Phase::Running;
        if refused {
            counters.connections_refused += 1;
        } else {
            counters.connections_opened += 1;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        let conn = ConnId { index, generation: slot.generation };
        let mut connection = Connection::new(conn, peer.ip(), at, self.config.limits, now.mono);
        ops.push(Op::Attach { conn, socket });
        if refused {
            connection.close(ops);
        }
        slot.connection = Some(connection);
        self.connections += 1;
        self.touched.push(conn);
    }

    fn on_closed(&mut self, conn: ConnId) {
        let slot = &mut self.slots[conn.index as usize];
        assert_eq!(slot.generation, conn.generation, "a connection is closed once");
        if let Some(connection) = slot.connection.take() {
            if let Some(at) = connection.deadline {
                self.fetch_deadlines.remove(&(at, conn));
            }
            connection.release(&mut self.front.memory);
        }
        self.shard.forget(conn);
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(conn.index);
        self.connections -= 1;
        self.shard.stats.counters.connections_closed += 1;
    }

    // --- What is not an event of the kernel. ---

    fn receive_outside(&mut self, now: Now, ops: &mut Vec<Op>) {
        while let Some(letter) = self.outside.pop() {
            match letter {
                Outside::JobDone { log, done } => self.shard.on_job(log, done, now, &mut self.news),
                Outside::Snapshot(answer) => answer(self.snapshot()),
                Outside::Stop if self.phase == Phase::Running => {
                    self.phase = Phase::Draining { until: now.mono.plus(STOP_WITHIN), told: false };
                    self.shard.begin_drain(now);
                    for connection in self.slots.iter_mut().filter_map(|slot| slot.connection.as_mut()) {
                        connection.drain(ops);
                    }
                }
                Outside::Stop => {}
            }
        }
    }

    fn snapshot(&mut self) -> crate::metrics::ShardSnapshot {
        let open = self.slots.iter().filter_map(|slot| slot.connection.as_ref());
        let partitions = self.shard.logs().iter().map(|hosted| hosted.partitions.iter().count() as u64).sum();
        let (tail_cache_bytes, read_cache_bytes) = self.shard.cache_bytes();
        let gauges = &mut self.shard.stats.gauges;
        (gauges.tail_cache_bytes, gauges.read_cache_bytes) = (tail_cache_bytes, read_cache_bytes);
        gauges.connections = self.connections as u64;
        (gauges.requests_in_flight, gauges.fetches_parked) = (0, 0);
        for connection in open {
            gauges.requests_in_flight += connection.session.in_flight() as u64;
            gauges.fetches_parked += connection.session.fetches() as u64;
        }
        gauges.buffered_bytes = self.front.memory.used() as u64;
        gauges.buffered_bytes_max = self.front.memory.limits().shard_max as u64;
        gauges.connections_waiting = self.waiting.len() as u64;
        gauges.fetch_sessions = self.front.fetch_sessions.count() as u64;
        gauges.fetch_session_bytes = self.front.fetch_sessions.bytes() as u64;
        self.shard.stats.counters.fetch_sessions_refused = self.front.fetch_sessions.refused;
        gauges.partitions = partitions;
        self.shard.stats.snapshot(self.shard.id(), self.shard.gauges())
    }

    fn expire(&mut self, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) {
        while let Some(&(at, conn)) = self.fetch_deadlines.first()
            && at <= now.mono
        {
            self.fetch_deadlines.pop_first();
            self.with(conn, now, clock, ops, |connection, turn| {
                connection.deadline = None;
                connection.session.on_deadline(turn);
                Ok(())
            });
        }
        if now.mono >= self.sweep_at {
            self.sweep_at = now.mono.plus(SWEEP_EVERY);
            self.sweep(now, ops);
        }
    }

    /// Take memory from connections that are silent, and close those that have been so for too long.
    fn sweep(&mut self, now: Now, ops: &mut Vec<Op>) {
        let idle = self.config.idle.map_or(u64::MAX, |idle| idle.as_nanos() as u64);
        for connection in self.slots.iter_mut().filter_map(|slot| slot.connection.as_mut()) {
            let silent = now.mono.since(connection.last_active);
            if silent > idle && connection.session.in_flight() == 0 {
                connection.close(ops);
            } else if silent > SWEEP_EVERY.as_nanos() as u64 {
                connection.on_silence(ops);
            }
        }
        if self.front.memory.is_used_up() || !self.waiting.is_empty() {
            self.close_stuck(now, ops);
        }
    }

    /// Memory is wanted: close who has had its turn for too long, and when nothing is left, of those that
    /// do not read their responses the ones that hold most.
    fn close_stuck(&mut self, now: Now, ops: &mut Vec<Op>) {
        let memory = &self.front.memory;
        let mut to_free = match memory.is_used_up() {
            true => memory.used() - memory.limits().shard_max / 2,
            false => 0,
        };
        let mut stuck: Vec<&mut Connection> = self
            .slots
            .iter_mut()
            .filter_map(|slot| slot.connection.as_mut())
            .filter(|connection| connection.is_late(now.mono) || connection.is_unread(now.mono))
            .collect();
        stuck.sort_by_key(|connection| std::cmp::Reverse(connection.held_bytes()));
        let mut closed = 0;
        for connection in stuck {
            if to_free > 0 || connection.is_late(now.mono) {
                to_free = to_free.saturating_sub(connection.held_bytes());
                connection.close(ops);
                closed += 1;
            }
        }
        if closed > 0 {
            self.shard.stats.counters.connections_stuck += closed;
            self.news.messages.push(format!(
                "memory for clients is short (kafka.shard_memory_max): closed {closed} connections that \
                 neither sent nor read for 30 s what they hold it for"
            ));
        }
    }

    fn drain_fetches(&mut self, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) {
        for index in 0..self.slots.len() {
            let conn = ConnId { index: index as u32, generation: self.slots[index].generation };
            self.with(conn, now, clock, ops, |connection, turn| {
                connection.session.drain(turn);
                Ok(())
            });
        }
    }

    /// Who waits with what may cost much, by turns, as far as this turn has time for it.
    fn serve_line(&mut self, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) {
        self.front.budget = TurnBudget::default();
        while !self.front.budget.is_spent()
            && let Some(conn) = self.line.pop_front()
        {
            let Some(connection) = self.connection(conn) else { continue };
            connection.leave_line();
            // It comes back to the end of the line if it still has to wait.
            self.with(conn, now, clock, ops, |connection, turn| connection.go_on(turn));
        }
    }

    /// Connections whose request found no room: offer it again.
    fn retry_stalled(&mut self, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) {
        for conn in std::mem::take(&mut self.stalled) {
            self.with(conn, now, clock, ops, |connection, turn| connection.on_input(turn));
        }
    }

    /// Connections that waited for responses to leave, or for memory of the shard.
    fn resume_waiting(&mut self, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) {
        for conn in std::mem::take(&mut self.unblocked) {
            self.with(conn, now, clock, ops, |connection, turn| {
                connection.session.run_blocked(turn);
                connection.on_input(turn)
            });
        }
        for _ in 0..self.starved.len() {
            if self.front.memory.is_used_up() {
                break;
            }
            let Some(conn) = self.starved.pop_front() else { break };
            let Some(connection) = self.connection(conn) else { continue };
            connection.end_starving();
            self.with(conn, now, clock, ops, |connection, turn| {
                connection.session.on_memory(turn);
                Ok(())
            });
        }
        self.resume_reading(now, clock, ops);
    }

    /// Connections that were not read from: those for which there is memory now, and one for which there
    /// need not be, so that whoever holds a part of a frame comes to its end some time.
    fn resume_reading(&mut self, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) {
        // Of many that still have to wait, the next turn of the loop looks at more.
        const REFUSED_MAX: usize = 64;
        self.turn_of = self.turn_of.take().filter(|conn| {
            let alone = self.waiting.is_empty();
            let Some(connection) = self.connection(*conn) else { return false };
            // It keeps the turn, as it keeps the memory, also while nobody waits for its end.
            let goes_on = connection.has_turn();
            if goes_on && alone {
                connection.begin_turn(now.mono);
            }
            goes_on
        });
        let mut refused = 0;
        for _ in 0..self.waiting.len() {
            if refused == REFUSED_MAX {
                return;
            }
            let Some(conn) = self.waiting.pop_front() else { return };
            let slot = &mut self.slots[conn.index as usize];
            let Some(connection) = slot.connection.as_mut().filter(|_| slot.generation == conn.generation)
            else {
                continue;
            };
            if connection.is_refused(&self.front.memory) {
                if self.turn_of.is_some() || !connection.can_use_turn() {
                    self.waiting.push_back(conn);
                    refused += 1;
                    continue;
                }
                connection.begin_turn(now.mono);
                self.turn_of = Some(conn);
            }
            connection.leave_queue();
            // It comes back into the queue if it still has to wait.
            self.with(conn, now, clock, ops, |connection, turn| connection.on_input(turn));
        }
    }

    fn connection(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        slot.connection.as_mut().filter(|_| slot.generation == conn.generation)
    }

    /// Hand acks, answers and wake-ups to connections. Returns whether that may have led to more.
    fn deliver(&mut self, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) -> bool {
        let mut more = false;
        let at = if self.news.acked.is_empty() { now.mono } else { clock() };
        let mut acked = std::mem::take(&mut self.news.acked);
        for ack in acked.drain(..) {
            let conn = ack.ticket.conn;
            if let Some(slot) = self.slots.get_mut(conn.index as usize)
                && slot.generation == conn.generation
                && let Some(connection) = &mut slot.connection
            {
                connection.session.on_acked(&ack, at);
                self.touched.push(conn);
            }
        }
        self.news.acked = acked;
        for (ticket, answer) in std::mem::take(&mut self.news.answers) {
            more = true;
            self.with(ticket.conn, now, clock, ops, |connection, turn| {
                connection.session.on_answer(ticket, answer, turn)
            });
        }
        more |= self.wake(now, clock, ops);
        for (socket, peer) in std::mem::take(&mut self.news.connections) {
            self.attach(socket, peer, None, now, ops);
        }
        more
    }

    /// Let connections that waited for records look for them. Returns whether there were any.
    fn wake(&mut self, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) -> bool {
        let woken = std::mem::take(&mut self.news.woken);
        // Those of one connection lie together: it looks once.
        for waiters in woken.chunk_by(|a, b| a.conn == b.conn) {
            self.with(waiters[0].conn, now, clock, ops, |connection, turn| {
                connection.session.on_woken(waiters, turn);
                Ok(())
            });
        }
        !woken.is_empty()
    }

    /// For connections with which something happened: send, receive, close.
    fn finish_connections(&mut self, now: Now, ops: &mut Vec<Op>) {
        self.touched.sort_unstable();
        self.touched.dedup();
        let draining = self.phase != Phase::Running;
        for conn in self.touched.drain(..) {
            let Some(slot) = self.slots.get_mut(conn.index as usize) else { continue };
            if slot.generation != conn.generation {
                continue;
            }
            let Some(connection) = &mut slot.connection else { continue };
            connection.end_turn();
            connection.poll_send(&mut self.front, now.mono, ops);
            if connection.is_over() {
                connection.close(ops);
            } else if !draining {
                connection.poll_recv(&self.front.memory, ops);
            }
            connection.account(&mut self.front.memory);
            if connection.enters_queue() {
                self.waiting.push_back(conn);
            }
            if connection.enters_line() {
                self.line.push_back(conn);
            }
            if connection.session.has_unblocked() || connection.has_frames(&self.front.memory) {
                self.unblocked.push(conn);
            }
        }
    }

    // --- The end. ---

    fn advance_phase(&mut self, now: Now) {
        match self.phase {
            Phase::Running | Phase::Over => {}
            Phase::Draining { until, told } => {
                let late = now.mono >= until;
                let mut connections = self.slots.iter().filter_map(|slot| slot.connection.as_ref());
                if !told && (late || connections.all(|connection| connection.session.in_flight() == 0)) {
                    self.shard.tell_drained();
                    self.phase = Phase::Draining { until, told: true };
                }
                // A log that is closed while another shard's client waits for it would never answer.
                let quiet = self.shard.all_drained() && self.shard.is_quiet() && self.shard.jobs_done();
                if quiet || late {
                    self.shard.begin_close(&mut self.news);
                    self.phase = Phase::Checkpointing;
                }
            }
            Phase::Checkpointing if self.shard.jobs_done() => {
                self.shard.close(&mut self.news);
                self.phase = Phase::Closing;
                if self.shard.jobs_done() {
                    self.phase = Phase::Over;
                }
            }
            Phase::Closing if self.shard.jobs_done() => self.phase = Phase::Over,
            Phase::Checkpointing | Phase::Closing => {}
        }
    }
}

/// Run a server on its ring until it is over. `hand_out` gets the work for the background.
pub fn run<I: Io>(
    server: &mut Server,
    io: &mut I,
    mut ops: Vec<Op>,
    clock: &dyn Fn() -> Nanos,
    mut hand_out: impl FnMut(Vec<LogJob>, Vec<String>),
) -> io::Result<()> {
    let mut events = Vec::new();
    let mut wait = Wait::No;
    server.start(io.now());
    while !server.is_over() {
        io.turn(&mut ops, &mut events, wait)?;
        wait = server.step(&mut events, io.now(), clock, &mut ops);
        let (jobs, messages) = server.take_news();
        if !jobs.is_empty() || !messages.is_empty() {
            hand_out(jobs, messages);
        }
    }
    Ok(())
}
