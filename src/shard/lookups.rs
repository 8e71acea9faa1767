//! What this shard's clients ask that only records can tell: the offset at a time.
//!
//! One such question may keep its log busy for some hundred turns. So few are under way at once, and clients
//! take turns: who asks much waits for its own, keeps no other client waiting, and leaves the mail its
//! credits. What a client that is gone has asked is forgotten.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use super::call::{Call, Ticket};
use crate::io::op::ConnId;
use crate::model::LogId;

/// At all logs together: enough to have chunks read side by side.
pub const UNDER_WAY_MAX: usize = 8;

#[derive(Default)]
pub struct Lookups {
    /// What each client waits for, in order.
    queues: FxHashMap<ConnId, VecDeque<(LogId, Ticket, Call)>>,
    /// Whose turn it is: each client that waits once, and some that are gone.
    clients: VecDeque<ConnId>,
    under_way: FxHashSet<Ticket>,
}

impl Lookups {
    pub fn push(&mut self, log: LogId, ticket: Ticket, call: Call) {
        let queue = self.queues.entry(ticket.conn).or_default();
        if queue.is_empty() {
            self.clients.push_back(ticket.conn);
        }
        queue.push_back((log, ticket, call));
    }

    /// The next one to be begun, if it may be.
    pub fn begin(&mut self) -> Option<(LogId, Ticket, Call)> {
        if self.under_way.len() == UNDER_WAY_MAX {
            return None;
        }
        while let Some(conn) = self.clients.pop_front() {
            let Some(queue) = self.queues.get_mut(&conn) else { continue };
            let next = queue.pop_front().expect("who waits for nothing has no queue");
            if queue.is_empty() {
                self.queues.remove(&conn);
            } else {
                self.clients.push_back(conn);
            }
            self.under_way.insert(next.1);
            return Some(next);
        }
        None
    }

    /// One that was under way, perhaps, is answered.
    pub fn on_answer(&mut self, ticket: Ticket) {
        self.under_way.remove(&ticket);
    }

    /// Nobody waits for what this client has asked.
    pub fn forget(&mut self, conn: ConnId) {
        self.queues.remove(&conn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PartitionKey, TopicId};
    use crate::shard::call::OffsetSpec;

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 0 }
    }

    fn ask(lookups: &mut Lookups, client: u32, count: u32) {
        for part in 0..count {
            let partition = PartitionKey { topic: TopicId([0; 16]), index: part as i32 };
            let call = Call::ListOffset { partition, spec: OffsetSpec::MaxTimestamp };
            lookups.push(LogId(1), Ticket { conn: conn(client), request: 0, part }, call);
        }
    }

    /// Whose are begun, one after the other, when each is answered at once.
    fn begun(lookups: &mut Lookups, count: usize) -> Vec<(u32, u32)> {
        let begin = |_| {
            let (_, ticket, _) = lookups.begin()?;
            lookups.on_answer(ticket);
            Some((ticket.conn.index, ticket.part))
        };
        (0..count).map_while(begin).collect()
    }

    #[test]
    fn clients_take_turns_and_few_are_under_way() {
        let mut lookups = Lookups::default();
        ask(&mut lookups, 1, 100);
        ask(&mut lookups, 2, 2);
        assert_eq!(begun(&mut lookups, 5), [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2)]);
        let under_way: Vec<Ticket> = std::iter::from_fn(|| lookups.begin()).map(|next| next.1).collect();
        assert_eq!(under_way.len(), UNDER_WAY_MAX);
        lookups.on_answer(under_way[0]);
        lookups.on_answer(under_way[0]);
        assert!(lookups.begin().is_some() && lookups.begin().is_none());
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten() {
        let mut lookups = Lookups::default();
        for client in 1..4 {
            ask(&mut lookups, client, 3);
        }
        lookups.forget(conn(2));
        assert_eq!(begun(&mut lookups, 3), [(1, 0), (3, 0), (1, 1)]);
        lookups.forget(conn(1));
        assert_eq!(begun(&mut lookups, 3), [(3, 1), (3, 2)]);
        ask(&mut lookups, 2, 1);
        assert_eq!(begun(&mut lookups, 2), [(2, 0)], "once");
    }
}
