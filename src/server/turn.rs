//! The loop of a shard: `step(events, now) -> operations`.
//!
//! The order of a turn: what was put off, what the kernel reports, the mail, deadlines, what became
//! durable, commit, sends. Handlers never enter the kernel; the driver submits once, at the end.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::io::op::{ConnId, Event, Io, Op, Wait};
use crate::io::socket::SocketHandle;
use crate::kafka::front::{Close, Front, Turn};
use crate::kafka::memory::Memory;
use crate::model::{LogId, Nanos, Now, ShardId};
use crate::shard::{LogJob, News, Shard};

use super::connection::{Connection, Limits};
use super::listeners::Listeners;
use super::outside::{Outside, OutsideQueue};
use super::slots::Slots;
use backpressure::Queues;

mod backpressure;

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
    slots: Slots,
    listeners: Listeners,
    outside: OutsideQueue,
    /// Connections to be looked at again before the turn ends.
    touched: Vec<ConnId>,
    queues: Queues,
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
            slots: Slots::default(),
            listeners: Listeners::default(),
            outside,
            touched: Vec::new(),
            queues: Queues::default(),
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
        self.listeners.listen(socket, at, ops)
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
        self.listeners.listen_again(now, ops, &mut self.news.messages);
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
        let has_work = !self.outside.is_empty() || self.queues.has_work();
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
        deadline = self.listeners.deadline().map_or(deadline, |at| deadline.min(at));
        match deadline.since(now.mono) {
            0 => Wait::No,
            nanos => Wait::For(Duration::from_nanos(nanos)),
        }
    }

    // --- Events. ---

    fn on_event(&mut self, event: Event, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) {
        match event {
            Event::Accepted { listener, socket, peer } => match self.listeners.log_of(listener) {
                Some(log) => self.attach(socket, peer, Some(log), now, ops),
                None => self.deal(socket, peer, now, ops),
            },
            Event::AcceptFailed { listener, error } => {
                self.listeners.on_failed(listener, &error, now, &mut self.news.messages);
            }
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
        let Some(connection) = self.slots.get_mut(conn) else { return };
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
        self.queues.on_acted(conn, connection);
        if let Err(Close(why)) = result {
            self.shard.stats.counters.protocol_errors += 1;
            tracing::debug!(conn = conn.index, why, "closing a connection");
            connection.close(ops);
        }
        self.touched.push(conn);
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
        let refused = self.slots.connections() >= self.config.connections_max || self.phase != Phase::Running;
        if refused {
            counters.connections_refused += 1;
        } else {
            counters.connections_opened += 1;
        }
        let (limits, touched) = (self.config.limits, &mut self.touched);
        self.slots.insert(|conn| {
            let mut connection = Connection::new(conn, peer.ip(), at, limits, now.mono);
            ops.push(Op::Attach { conn, socket });
            if refused {
                connection.close(ops);
            }
            touched.push(conn);
            connection
        });
    }

    fn on_closed(&mut self, conn: ConnId) {
        if let Some(connection) = self.slots.remove(conn) {
            if let Some(at) = connection.deadline {
                self.fetch_deadlines.remove(&(at, conn));
            }
            connection.release(&mut self.front.memory);
        }
        self.shard.forget(conn);
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
                    for connection in self.slots.iter_mut() {
                        connection.drain(ops);
                    }
                }
                Outside::Stop => {}
            }
        }
    }

    fn snapshot(&mut self) -> crate::metrics::ShardSnapshot {
        let open = self.slots.iter();
        let partitions = self.shard.logs().iter().map(|hosted| hosted.partitions.iter().count() as u64).sum();
        let (tail_cache_bytes, read_cache_bytes) = self.shard.cache_bytes();
        let gauges = &mut self.shard.stats.gauges;
        (gauges.tail_cache_bytes, gauges.read_cache_bytes) = (tail_cache_bytes, read_cache_bytes);
        gauges.connections = self.slots.connections() as u64;
        (gauges.requests_in_flight, gauges.fetches_parked) = (0, 0);
        for connection in open {
            gauges.requests_in_flight += connection.session.in_flight() as u64;
            gauges.fetches_parked += connection.session.fetches() as u64;
        }
        gauges.buffered_bytes = self.front.memory.used() as u64;
        gauges.buffered_bytes_max = self.front.memory.limits().shard_max as u64;
        gauges.connections_waiting = self.queues.waiting() as u64;
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
        for connection in self.slots.iter_mut() {
            let silent = now.mono.since(connection.last_active);
            if silent > idle && connection.session.in_flight() == 0 {
                connection.close(ops);
            } else if silent > SWEEP_EVERY.as_nanos() as u64 {
                connection.on_silence(ops);
            }
        }
        if self.front.memory.is_used_up() || self.queues.waiting() > 0 {
            self.close_stuck(now, ops);
        }
    }

    fn drain_fetches(&mut self, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) {
        for index in self.slots.indexes() {
            let conn = self.slots.id_at(index);
            self.with(conn, now, clock, ops, |connection, turn| {
                connection.session.drain(turn);
                Ok(())
            });
        }
    }

    /// Hand acks, answers and wake-ups to connections. Returns whether that may have led to more.
    fn deliver(&mut self, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) -> bool {
        let mut more = false;
        let at = if self.news.acked.is_empty() { now.mono } else { clock() };
        let mut acked = std::mem::take(&mut self.news.acked);
        for ack in acked.drain(..) {
            let conn = ack.ticket.conn;
            if let Some(connection) = self.slots.get_mut(conn) {
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
            let Some(connection) = self.slots.get_mut(conn) else { continue };
            connection.end_turn();
            connection.poll_send(&mut self.front, now.mono, ops);
            if connection.is_over() {
                connection.close(ops);
            } else if !draining {
                connection.poll_recv(&self.front.memory, ops);
            }
            connection.account(&mut self.front.memory);
            self.queues.on_finished(conn, connection, &self.front.memory);
        }
    }

    // --- The end. ---

    fn advance_phase(&mut self, now: Now) {
        match self.phase {
            Phase::Running | Phase::Over => {}
            Phase::Draining { until, told } => {
                let late = now.mono >= until;
                let mut connections = self.slots.iter();
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
