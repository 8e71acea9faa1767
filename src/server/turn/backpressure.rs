//! Backpressure: which connections wait for what the shard is short of, and who goes on when there is some.
//!
//! ```text
//!   stalled    a log has no room for the first request     offered again in the next turn
//!   line       the turn has no time for what costs much    first in the next turn, as far as that has time
//!   past       nor for fetches of what was read back       likewise
//!   waiting    there is no memory to read on               read from when there is some
//!   starved    there is no memory for a fetch's records    looks again when there is some
//!   unblocked  nothing any more: what it waited for left   goes on in the next turn
//! ```

use std::collections::VecDeque;

use crate::io::op::{ConnId, Op};
use crate::kafka::cost::TurnBudget;
use crate::kafka::memory::Memory;
use crate::model::{Nanos, Now};
use crate::server::connection::Connection;

use super::Server;

#[derive(Default)]
pub(super) struct Queues {
    stalled: Vec<ConnId>,
    /// They asked for what may cost much when the turn had spent what it has for that; each once, in order.
    line: VecDeque<ConnId>,
    /// The same of their fetches of what was read back.
    past: VecDeque<ConnId>,
    /// Something of theirs has left, and what waited for that can go on.
    unblocked: Vec<ConnId>,
    /// Not read from until there is memory again; each once, in order.
    waiting: VecDeque<ConnId>,
    /// Their fetches wait for memory.
    starved: VecDeque<ConnId>,
    /// Of those that wait, the one that may finish a frame although memory is short.
    turn_of: Option<ConnId>,
}

impl Queues {
    /// A connection has acted: what it waits for now.
    pub fn on_acted(&mut self, conn: ConnId, connection: &mut Connection) {
        if connection.is_stalled() {
            self.stalled.push(conn);
        }
        if connection.enters_past() {
            self.past.push_back(conn);
        }
        if connection.is_newly_starved() {
            self.starved.push_back(conn);
        }
        if connection.enters_queue() {
            self.waiting.push_back(conn);
        }
    }

    /// The turn is over for a connection: what it goes on with in the next.
    pub fn on_finished(&mut self, conn: ConnId, connection: &mut Connection, memory: &Memory) {
        if connection.enters_queue() {
            self.waiting.push_back(conn);
        }
        if connection.enters_line() {
            self.line.push_back(conn);
        }
        if connection.session.has_unblocked() || connection.has_frames(memory) {
            self.unblocked.push(conn);
        }
    }

    /// Some go on in the next turn, whether something happens or not.
    pub fn has_work(&self) -> bool {
        !self.unblocked.is_empty() || !self.line.is_empty() || !self.past.is_empty()
    }

    /// Connections that are not read from until there is memory.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl Server {
    /// Who waits with what may cost much, by turns, as far as this turn has time for it.
    pub(super) fn serve_line(&mut self, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) {
        self.front.budget = TurnBudget::default();
        while !self.front.budget.is_spent()
            && let Some(conn) = self.queues.line.pop_front()
        {
            let Some(connection) = self.slots.get_mut(conn) else { continue };
            connection.leave_line();
            // It comes back to the end of the line if it still has to wait.
            self.with(conn, now, clock, ops, |connection, turn| connection.go_on(turn));
        }
        while !self.front.budget.are_reads_spent()
            && let Some(conn) = self.queues.past.pop_front()
        {
            let Some(connection) = self.slots.get_mut(conn) else { continue };
            connection.leave_past();
            self.with(conn, now, clock, ops, |connection, turn| {
                connection.look_on(turn);
                Ok(())
            });
        }
    }

    /// Connections whose request found no room: offer it again.
    pub(super) fn retry_stalled(&mut self, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) {
        for conn in std::mem::take(&mut self.queues.stalled) {
            self.with(conn, now, clock, ops, |connection, turn| connection.on_input(turn));
        }
    }

    /// Connections that waited for responses to leave, or for memory of the shard.
    pub(super) fn resume_waiting(&mut self, now: Now, clock: &dyn Fn() -> Nanos, ops: &mut Vec<Op>) {
        for conn in std::mem::take(&mut self.queues.unblocked) {
            self.with(conn, now, clock, ops, |connection, turn| {
                connection.session.run_blocked(turn);
                connection.on_input(turn)
            });
        }
        for _ in 0..self.queues.starved.len() {
            if self.front.memory.is_used_up() {
                break;
            }
            let Some(conn) = self.queues.starved.pop_front() else { break };
            let Some(connection) = self.slots.get_mut(conn) else { continue };
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
        self.queues.turn_of = self.queues.turn_of.take().filter(|conn| {
            let alone = self.queues.waiting.is_empty();
            let Some(connection) = self.slots.get_mut(*conn) else { return false };
            // It keeps the turn, as it keeps the memory, also while nobody waits for its end.
            let goes_on = connection.has_turn();
            if goes_on && alone {
                connection.begin_turn(now.mono);
            }
            goes_on
        });
        let mut refused = 0;
        for _ in 0..self.queues.waiting.len() {
            if refused == REFUSED_MAX {
                return;
            }
            let Some(conn) = self.queues.waiting.pop_front() else { return };
            let Some(connection) = self.slots.get_mut(conn) else { continue };
            if connection.is_refused(&self.front.memory) {
                if self.queues.turn_of.is_some() || !connection.can_use_turn() {
                    self.queues.waiting.push_back(conn);
                    refused += 1;
                    continue;
                }
                connection.begin_turn(now.mono);
                self.queues.turn_of = Some(conn);
            }
            connection.leave_queue();
            // It comes back into the queue if it still has to wait.
            self.with(conn, now, clock, ops, |connection, turn| connection.on_input(turn));
        }
    }

    /// Memory is wanted: close who has had its turn for too long, and when nothing is left, of those that
    /// do not read their responses the ones that hold most.
    pub(super) fn close_stuck(&mut self, now: Now, ops: &mut Vec<Op>) {
        let memory = &self.front.memory;
        let mut to_free = match memory.is_used_up() {
            true => memory.used() - memory.limits().shard_max / 2,
            false => 0,
        };
        let mut stuck: Vec<&mut Connection> = self
            .slots
            .iter_mut()
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
}
