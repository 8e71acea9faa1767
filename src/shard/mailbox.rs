//! Mail between shards: bounded, lock-free, never dropped, and without deadlock.
//!
//! Each ordered pair of shards has a queue. A *call* takes one of the pair's credits and gives it
//! back with its answer, so that the answer's place in the queue is reserved before the call leaves:
//! answers are always accepted, however full either side is. A call without a credit waits with its
//! sender, in order.
//!
//! ```text
//!   shard a  --[ calls of a: at most CREDITS | answers to b: at most CREDITS ]-->  shard b
//! ```
//!
//! A shard that sleeps is woken once a turn, by the driver ([`Mailbox::take_wakes`]).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::queue::ArrayQueue;

use super::call::{Answer, Call, Ticket};
use crate::io::socket::SocketHandle;
use crate::model::{LogId, ShardId};
use crate::partition::waiters::Waiter;

/// Calls of one shard to another that are not answered yet, at most.
pub const CREDITS: usize = 1024;
/// Those of a shard to all others together, once there are more than eight: a place takes some 140 bytes whether
/// a letter lies in it or not, and there are pairs as the square of the shards.
const CREDITS_OF_ALL: usize = 8 * CREDITS;

/// A letter to a shard.
#[derive(Debug)]
pub enum Mail {
    Call {
        log: LogId,
        ticket: Ticket,
        call: Call,
    },
    Answer {
        ticket: Ticket,
        answer: Answer,
    },
    /// Connections of the receiver that waited for records: they may look again. A call.
    Ready {
        waiters: Vec<Waiter>,
    },
    /// Records of the metadata log that have become durable together. A call.
    Apply {
        number: u64,
        records: Arc<[Box<[u8]>]>,
    },
    /// A connection that the sender accepted. A call.
    Connection {
        socket: SocketHandle,
        peer: SocketAddr,
    },
    /// Answer to a call that asks for nothing else.
    Done {
        number: u64,
    },
}

impl Mail {
    fn is_answer(&self) -> bool {
        match self {
            Mail::Answer { .. } | Mail::Done { .. } => true,
            Mail::Call { .. } | Mail::Ready { .. } | Mail::Apply { .. } | Mail::Connection { .. } => false,
        }
    }
}

/// All queues of a broker: made once, shared by its shards.
pub struct PostOffice {
    shards: usize,
    credits: usize,
    /// From shard `i` to shard `j`: at `i * shards + j`.
    queues: Vec<ArrayQueue<Mail>>,
    /// Shards that stop, and whose clients wait for nothing any more: when all do, no call is under way.
    drained: AtomicUsize,
}

impl PostOffice {
    pub fn new(shards: usize) -> Arc<PostOffice> {
        PostOffice::with_credits(shards, (CREDITS_OF_ALL / shards).clamp(1, CREDITS))
    }

    /// As [`PostOffice::new`], with other boxes than [`CREDITS`] large: a simulation fills small ones.
    pub fn with_credits(shards: usize, credits: usize) -> Arc<PostOffice> {
        assert!(shards > 0 && credits > 0);
        let queues = (0..shards * shards).map(|_| ArrayQueue::new(2 * credits)).collect();
        Arc::new(PostOffice { shards, credits, queues, drained: AtomicUsize::new(0) })
    }

    pub fn shards(&self) -> usize {
        self.shards
    }

    fn queue(&self, from: ShardId, to: ShardId) -> &ArrayQueue<Mail> {
        &self.queues[usize::from(from.0) * self.shards + usize::from(to.0)]
    }

    /// Something waits for `shard`.
    pub fn has_mail(&self, shard: ShardId) -> bool {
        (0..self.shards).any(|from| !self.queue(ShardId(from as u16), shard).is_empty())
    }
}

struct Peer {
    credits: usize,
    /// Calls that wait for a credit, in order.
    waiting: VecDeque<Mail>,
    /// Something was sent since the last turn's end.
    wake: bool,
}

/// One shard's end of the mail.
pub struct Mailbox {
    me: ShardId,
    office: Arc<PostOffice>,
    peers: Vec<Peer>,
}

impl Mailbox {
    pub fn new(me: ShardId, office: Arc<PostOffice>) -> Mailbox {
        let peer = |_| Peer { credits: office.credits, waiting: VecDeque::new(), wake: false };
        Mailbox { me, peers: (0..office.shards).map(peer).collect(), office }
    }

    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        (0..self.office.shards as u16).map(ShardId)
    }

    /// Send a call, or let it wait for a credit behind those that wait already.
    pub fn call(&mut self, to: ShardId, mail: Mail) {
        assert!(!mail.is_answer() && to != self.me);
        let peer = &mut self.peers[usize::from(to.0)];
        if peer.credits == 0 || !peer.waiting.is_empty() {
            peer.waiting.push_back(mail);
        } else {
            peer.credits -= 1;
            self.push(to, mail);
        }
    }

    /// Answer a call; there is always room.
    pub fn answer(&mut self, to: ShardId, mail: Mail) {
        assert!(mail.is_answer() && to != self.me);
        self.push(to, mail);
    }

    fn push(&mut self, to: ShardId, mail: Mail) {
        let sent = self.office.queue(self.me, to).push(mail);
        assert!(sent.is_ok(), "credits bound what is in the queue");
        self.peers[usize::from(to.0)].wake = true;
    }

    /// The next letter, from whom. At most a queue's worth a turn and peer is there to be read.
    pub fn receive(&mut self) -> Option<(ShardId, Mail)> {
        for from in 0..self.peers.len() {
            let shard = ShardId(from as u16);
            if let Some(mail) = self.office.queue(shard, self.me).pop() {
                if mail.is_answer() {
                    self.return_credit(shard);
                }
                return Some((shard, mail));
            }
        }
        None
    }

    fn return_credit(&mut self, to: ShardId) {
        let peer = &mut self.peers[usize::from(to.0)];
        peer.credits += 1;
        assert!(peer.credits <= self.office.credits, "a call is answered once");
        if let Some(mail) = peer.waiting.pop_front() {
            peer.credits -= 1;
            self.push(to, mail);
        }
    }

    /// Calls that wait for a credit, towards everybody: a reason to read less from clients.
    pub fn waiting(&self) -> usize {
        self.peers.iter().map(|peer| peer.waiting.len()).sum()
    }

    /// This shard will make no further call for a client. Once per shard.
    pub fn tell_drained(&mut self) {
        let before = self.office.drained.fetch_add(1, Ordering::Release);
        assert!(before < self.office.shards, "each shard tells it once");
        for (index, peer) in self.peers.iter_mut().enumerate() {
            peer.wake |= index != usize::from(self.me.0);
        }
    }

    /// No shard will make a further call for a client.
    pub fn all_drained(&self) -> bool {
        self.office.drained.load(Ordering::Acquire) == self.office.shards
    }

    /// Shards that got mail, or that another has drained, since the last call of this.
    pub fn take_wakes(&mut self, wakes: &mut Vec<ShardId>) {
        for (index, peer) in self.peers.iter_mut().enumerate() {
            if std::mem::take(&mut peer.wake) {
                wakes.push(ShardId(index as u16));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(number: u64) -> Mail {
        Mail::Apply { number, records: Arc::from([]) }
    }

    #[test]
    fn the_boxes_of_a_shard_do_not_grow_with_the_others() {
        let places = |shards| {
            let office = PostOffice::new(shards);
            (office.credits, office.queues.iter().map(ArrayQueue::capacity).sum::<usize>() / shards)
        };
        assert_eq!(places(2), (CREDITS, 2 * 2 * CREDITS));
        for shards in [8, 16, 64] {
            assert_eq!(places(shards), (8 * CREDITS / shards, 2 * CREDITS_OF_ALL), "{shards} shards");
        }
    }

    #[test]
    fn both_sides_full_and_nothing_is_lost_or_stuck() {
        let office = PostOffice::new(2);
        let mut a = Mailbox::new(ShardId(0), office.clone());
        let mut b = Mailbox::new(ShardId(1), office.clone());
        let many = 3 * CREDITS as u64;
        for number in 0..many {
            a.call(ShardId(1), call(number));
            b.call(ShardId(0), call(number));
        }
        assert_eq!(a.waiting(), 2 * CREDITS);

        // Each answers what it gets before it looks at anything else.
        let (mut at_a, mut at_b, mut done) = (Vec::new(), Vec::new(), 0);
        while at_a.len() < many as usize || at_b.len() < many as usize || done < 2 * many {
            let mut progress = false;
            for (me, peer, seen) in [(&mut a, ShardId(1), &mut at_a), (&mut b, ShardId(0), &mut at_b)] {
                while let Some((_, mail)) = me.receive() {
                    progress = true;
                    match mail {
                        Mail::Apply { number, .. } => {
                            seen.push(number);
                            me.answer(peer, Mail::Done { number });
                        }
                        _ => done += 1,
                    }
                }
            }
            assert!(progress, "a deadlock");
        }
        assert!(at_a.iter().copied().eq(0..many), "in order");
        assert!(at_b.iter().copied().eq(0..many));
        assert_eq!(
            (a.waiting(), office.has_mail(ShardId(0)), office.has_mail(ShardId(1))),
            (0, false, false)
        );
    }
}
