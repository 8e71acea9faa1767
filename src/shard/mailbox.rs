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
//! Some calls wait for other clients, for minutes. Such a call is *deferred*: its credit comes back at once, in the
//! place of its answer, and the answer is later a call of the other side, with a credit of that.
//!
//! ```text
//!   a  -- Call -->  b     a's credit is taken
//!   a  <- Deferred  b     and is back; others may follow
//!   a  <--- Late -  b     b's credit is taken
//!   a  -- Done -->  b     and is back
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
/// Calls of one shard that another defers, at most, for each credit: 65,536, whose answers take 9 MiB should
/// all of them wait for a credit together. Further ones keep theirs until they are answered.
const DEFERRED_PER_CREDIT: usize = 64;

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
    /// So many calls will be answered by a `Late` each: their credits are back. An answer.
    Deferred {
        calls: usize,
    },
    /// The answer to a call that was deferred. A call.
    Late {
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
    /// Credits that come back with it.
    fn credits(&self) -> usize {
        match self {
            Mail::Answer { .. } | Mail::Done { .. } => 1,
            Mail::Deferred { calls } => *calls,
            Mail::Call { .. }
            | Mail::Late { .. }
            | Mail::Ready { .. }
            | Mail::Apply { .. }
            | Mail::Connection { .. } => 0,
        }
    }

    fn is_answer(&self) -> bool {
        self.credits() > 0
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
    /// Late answers among them.
    late: usize,
    /// Calls of the peer that wait here for others, without a credit.
    deferred: usize,
    /// Those of them whose credits are still to be sent back.
    newly_deferred: usize,
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
        let peer = |_| Peer {
            credits: office.credits,
            waiting: VecDeque::new(),
            late: 0,
            deferred: 0,
            newly_deferred: 0,
            wake: false,
        };
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

    /// May a call of `from` that is to wait for others be deferred? One of this shard needs no credit.
    pub fn may_defer(&self, from: ShardId) -> bool {
        let peer = &self.peers[usize::from(from.0)];
        from != self.me && peer.deferred + peer.late < DEFERRED_PER_CREDIT * self.office.credits
    }

    /// A call of `from` waits for others: [`Mailbox::answer_late`] answers it.
    pub fn defer(&mut self, from: ShardId) {
        assert!(self.may_defer(from));
        let peer = &mut self.peers[usize::from(from.0)];
        peer.deferred += 1;
        peer.newly_deferred += 1;
    }

    /// Send back the credits of calls that were deferred. After all mail is read: what follows them is for
    /// the next turn.
    pub fn return_deferred(&mut self) {
        for index in 0..self.peers.len() {
            let calls = std::mem::take(&mut self.peers[index].newly_deferred);
            if calls > 0 {
                self.answer(ShardId(index as u16), Mail::Deferred { calls });
            }
        }
    }

    /// Answer a call that was deferred.
    pub fn answer_late(&mut self, to: ShardId, ticket: Ticket, answer: Answer) {
        let peer = &mut self.peers[usize::from(to.0)];
        peer.deferred = peer.deferred.checked_sub(1).expect("a call is answered once");
        peer.late += 1;
        self.call(to, Mail::Late { ticket, answer });
    }

    fn push(&mut self, to: ShardId, mail: Mail) {
        let peer = &mut self.peers[usize::from(to.0)];
        peer.late -= usize::from(matches!(mail, Mail::Late { .. }));
        peer.wake = true;
        let sent = self.office.queue(self.me, to).push(mail);
        assert!(sent.is_ok(), "credits bound what is in the queue");
    }

    /// The next letter, from whom. At most a queue's worth a turn and peer is there to be read.
    pub fn receive(&mut self) -> Option<(ShardId, Mail)> {
        for from in 0..self.peers.len() {
            let shard = ShardId(from as u16);
            if let Some(mail) = self.office.queue(shard, self.me).pop() {
                for _ in 0..mail.credits() {
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

    /// Calls that wait for a credit, towards everybody: a reason to read less from clients. Late answers are
    /// none, which others' clients have caused.
    pub fn waiting(&self) -> usize {
        self.peers.iter().map(|peer| peer.waiting.len() - peer.late).sum()
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
    use crate::io::op::ConnId;

    const A: ShardId = ShardId(0);
    const B: ShardId = ShardId(1);

    fn call(number: u64) -> Mail {
        Mail::Apply { number, records: Arc::from([]) }
    }

    fn answer_late(mailbox: &mut Mailbox, to: ShardId, number: u64) {
        let ticket = Ticket { conn: ConnId { index: 0, generation: 0 }, request: number, part: 0 };
        mailbox.answer_late(to, ticket, Answer::Heartbeat(Ok(())));
    }

    /// Two shards, and what became of the calls of each.
    struct Pair {
        ends: [Mailbox; 2],
        /// Those that wait at the other end.
        deferred: [Vec<u64>; 2],
        answered: [Vec<u64>; 2],
    }

    impl Pair {
        fn new(office: &Arc<PostOffice>) -> Pair {
            let ends = [A, B].map(|shard| Mailbox::new(shard, office.clone()));
            Pair { ends, deferred: Default::default(), answered: Default::default() }
        }

        fn call(&mut self, numbers: std::ops::RangeInclusive<u64>) {
            for number in numbers {
                self.ends[0].call(B, call(number));
                self.ends[1].call(A, call(number));
            }
        }

        /// Turns, until no mail is under way. Calls with even numbers wait for others.
        fn run(&mut self) {
            let mut progress = true;
            while std::mem::take(&mut progress) {
                for (me, peer) in [(0, B), (1, A)] {
                    let (mailbox, other) = (&mut self.ends[me], 1 - me);
                    while let Some((_, mail)) = mailbox.receive() {
                        progress = true;
                        match mail {
                            Mail::Apply { number, .. } if number % 2 == 0 => {
                                mailbox.defer(peer);
                                self.deferred[other].push(number);
                            }
                            Mail::Apply { number, .. } => mailbox.answer(peer, Mail::Done { number }),
                            Mail::Late { ticket, .. } => {
                                self.answered[me].push(ticket.request);
                                mailbox.answer(peer, Mail::Done { number: 0 });
                            }
                            Mail::Deferred { .. } | Mail::Done { number: 0 } => {}
                            Mail::Done { number } => self.answered[me].push(number),
                            mail => panic!("{mail:?} is not expected here"),
                        }
                    }
                    mailbox.return_deferred();
                }
            }
        }
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

    #[test]
    fn a_turn_wakes_each_shard_once_however_much_it_sends() {
        let office = PostOffice::new(3);
        let mut me = Mailbox::new(ShardId(0), office.clone());
        let wakes = |me: &mut Mailbox| {
            let mut wakes = Vec::new();
            me.take_wakes(&mut wakes);
            wakes
        };
        assert_eq!(wakes(&mut me), []);
        for number in 0..50 {
            me.call(ShardId(1), call(number));
        }
        me.answer(ShardId(2), Mail::Done { number: 1 });
        assert_eq!(wakes(&mut me), [ShardId(1), ShardId(2)]);
        assert_eq!(wakes(&mut me), []);
        me.call(ShardId(1), call(50));
        assert_eq!(wakes(&mut me), [ShardId(1)]);
    }

    #[test]
    fn calls_that_wait_for_others_keep_nobody_waiting() {
        for credits in [1, 2, 5] {
            let office = PostOffice::with_credits(2, credits);
            let mut pair = Pair::new(&office);
            pair.call(1..=40);
            pair.run();
            let odd: Vec<u64> = (1..=40).step_by(2).collect();
            let even: Vec<u64> = (2..=40).step_by(2).collect();
            assert_eq!(pair.answered, [odd.clone(), odd], "{credits} credits, 20 calls that wait");
            assert_eq!(pair.deferred, [even.clone(), even.clone()]);

            // They are answered while both sides are full.
            pair.call(101..=120);
            pair.answered = Default::default();
            for (me, peer) in [(0, B), (1, A)] {
                for number in std::mem::take(&mut pair.deferred[1 - me]) {
                    answer_late(&mut pair.ends[me], peer, number);
                }
                assert_eq!(pair.ends[me].waiting(), 20 - credits, "late answers are no calls of clients");
            }
            pair.run();
            for answered in &pair.answered {
                let late: Vec<u64> = answered.iter().copied().filter(|number| *number < 100).collect();
                assert_eq!(late, even, "each once, in order");
                assert_eq!(answered.iter().filter(|number| **number > 100).count(), 10);
            }
            for end in &pair.ends {
                let peers = end.peers.iter().map(|peer| (peer.credits, peer.waiting.len(), peer.late));
                assert!(peers.eq([(credits, 0, 0); 2]), "{credits} credits");
            }
            assert!(!office.has_mail(A) && !office.has_mail(B));
        }
    }

    #[test]
    fn no_more_are_deferred_than_there_is_memory_for() {
        let office = PostOffice::with_credits(2, 1);
        let (mut a, mut b) = (Mailbox::new(A, office.clone()), Mailbox::new(B, office));
        assert!(!b.may_defer(B), "it needs no credit of its own");
        for number in 0..DEFERRED_PER_CREDIT as u64 {
            a.call(B, call(number));
            assert!(b.may_defer(A) && b.receive().is_some());
            b.defer(A);
            b.return_deferred();
            assert!(matches!(a.receive(), Some((B, Mail::Deferred { calls: 1 }))));
        }
        assert!(!b.may_defer(A));
        // The answers wait for a credit.
        b.call(A, call(0));
        (0..DEFERRED_PER_CREDIT as u64).for_each(|number| answer_late(&mut b, A, number));
        assert!(!b.may_defer(A), "they take the memory as well");
        assert!(a.receive().is_some());
        a.answer(B, Mail::Done { number: 0 });
        assert!(b.receive().is_some() && b.may_defer(A));
    }
}
