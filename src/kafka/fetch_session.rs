//! What a consumer need not repeat: incremental fetch sessions (KIP-227).
//!
//! A session remembers which partitions a consumer reads, and where. Its next fetches name only what has
//! changed and are answered with only what has; and only partitions with which something happened are looked
//! at, so that ten thousand quiet ones cost a fetch nothing.
//!
//! ```text
//!             named by a request, or woken by its log
//!   waiting ------------------------------------------> ready ---look---> records, error: told, ready again
//!      ^  at its end; the log knows that the connection waits    |
//!      +---------------------------------------------------------+------> its bounds moved: told once
//! ```
//!
//! A session belongs to its connection: it ends with it, with the next full fetch, or with one that wants no
//! session. That is why nobody else's request can meet it, and why there is nothing to evict: a consumer that
//! is gone has taken its session along. All sessions of a shard share a budget of bytes. When it is used up,
//! further consumers get no session, and name their partitions in every fetch.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::rc::Rc;

use uuid::Uuid;

use crate::base::mutant::{self, Mutant};
use crate::kafka::protocol::ErrorCode;
use crate::kafka::protocol::messages::FetchRequest;
use crate::kafka::protocol::messages::fetch::FetchPartition;
use budget::{FetchSessions, Lease};

pub mod budget;
#[cfg(test)]
mod tests;

/// Epoch of a fetch that wants no session, and ends the one there is.
const NO_SESSION: i32 = -1;
/// Epoch of a fetch that names all partitions and wants a session.
const FULL: i32 = 0;

/// What a session takes, to be on the safe side: itself, and what its parts have allocated.
const SESSION_BYTES: usize = 512;
/// Of each partition: its [`Entry`] and its places in the lists, twice, because a vector that grows keeps as
/// much in hand, and its place in the index.
const PARTITION_BYTES: usize = 192;
/// Of each topic, besides its name.
const TOPIC_BYTES: usize = 192;
const _: () = assert!(2 * (size_of::<Entry>() + 8) + 48 <= PARTITION_BYTES);

/// The session of a connection.
#[derive(Default)]
pub enum Held {
    #[default]
    Nothing,
    /// A fetch of this session is under way and has it.
    Lent {
        id: i32,
    },
    Here(Box<FetchSession>),
}

impl Held {
    /// What a fetch begins with: the session that it goes on with or opens, brought up to date; none if it
    /// is to be answered for itself; or the error that makes its client begin anew.
    pub fn begin(
        &mut self,
        request: &FetchRequest<'_>,
        by_id: bool,
        sessions: &mut FetchSessions,
    ) -> Result<Option<Box<FetchSession>>, ErrorCode> {
        let mut session = match (mem::take(self), request.session_epoch) {
            (_, NO_SESSION) => return Ok(None),
            (_, FULL) => Box::new(FetchSession::new(sessions, by_id)),
            (Held::Here(session), epoch) if session.id == request.session_id => {
                let refused = if session.by_id != by_id {
                    Some(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR)
                } else {
                    (session.epoch != epoch).then_some(ErrorCode::INVALID_FETCH_SESSION_EPOCH)
                };
                if let Some(code) = refused {
                    *self = Held::Here(session);
                    return Err(code);
                }
                session
            }
            (other, _) => {
                *self = other;
                return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
            }
        };
        session.update(request);
        if session.slots.is_empty() {
            return Ok(None);
        }
        if !session.lease.resize(session.bytes()) {
            sessions.refused += 1;
            // A full request can be answered without a session. Of another one we no longer know the rest.
            return if session.epoch == FULL { Ok(None) } else { Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND) };
        }
        session.epoch = if session.epoch == i32::MAX { 1 } else { session.epoch + 1 };
        *self = Held::Lent { id: session.id };
        Ok(Some(session))
    }

    /// A fetch is answered and its session waits for the next one, if it is still wanted.
    pub fn give_back(&mut self, session: Box<FetchSession>) {
        if matches!(self, Held::Lent { id } if *id == session.id) {
            *self = Held::Here(session);
        }
    }

    /// The log of this partition has news.
    pub fn wake(&mut self, slot: u32) {
        if let Held::Here(session) = self
            && !mutant::is(Mutant::ForgetWoken)
        {
            session.wake(slot);
        }
    }
}

/// A topic as a fetch names it: by id since version 13.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FetchedTopic {
    /// What requests and responses by id do not have.
    pub name: Rc<str>,
    pub id: Uuid,
}

/// The bounds of a partition, -1 where it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub start: i64,
    pub high_watermark: i64,
}

impl Bounds {
    pub const UNKNOWN: Bounds = Bounds { start: -1, high_watermark: -1 };
}

/// Where a consumer wants to read a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub offset: i64,
    pub bytes_max: i32,
    pub leader_epoch: i32,
}

impl Wanted {
    pub fn of(partition: &FetchPartition) -> Wanted {
        Wanted {
            offset: partition.fetch_offset,
            bytes_max: partition.partition_max_bytes,
            leader_epoch: partition.current_leader_epoch,
        }
    }
}

/// A partition of a session.
struct Entry {
    topic: u32,
    index: i32,
    wanted: Wanted,
    /// As last looked at.
    seen: Bounds,
    /// As the consumer knows it.
    told: Bounds,
    /// False while nobody uses this slot.
    live: bool,
    /// In [`FetchSession::ready`].
    ready: bool,
    /// In [`FetchSession::changed`].
    changed: bool,
}

struct SessionTopic {
    topic: FetchedTopic,
    partitions: u32,
}

/// What a look at a partition has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub bounds: Bounds,
    /// Records or an error: what the consumer must be told.
    pub found: bool,
    /// At its end: its log will wake the partition.
    pub waits: bool,
}

pub struct FetchSession {
    id: i32,
    /// Of the next fetch.
    epoch: i32,
    /// Topics are named by id, in all requests or in none.
    by_id: bool,
    topics: Vec<SessionTopic>,
    topic_slots: BTreeMap<FetchedTopic, u32>,
    free_topics: Vec<u32>,
    name_bytes: usize,
    entries: Vec<Entry>,
    /// By topic and partition.
    slots: BTreeMap<(u32, i32), u32>,
    free: Vec<u32>,
    /// Partitions to be looked at, the longest unserved first.
    ready: VecDeque<u32>,
    /// Partitions whose bounds have moved since the consumer heard of them.
    changed: Vec<u32>,
    lease: Lease,
}

impl FetchSession {
    fn new(sessions: &mut FetchSessions, by_id: bool) -> FetchSession {
        let (id, lease) = sessions.open();
        FetchSession {
            id,
            epoch: FULL,
            by_id,
            topics: Vec::new(),
            topic_slots: BTreeMap::new(),
            free_topics: Vec::new(),
            name_bytes: 0,
            entries: Vec::new(),
            slots: BTreeMap::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            changed: Vec::new(),
            lease,
        }
    }

    pub fn id(&self) -> i32 {
        self.id
    }

    fn bytes(&self) -> usize {
        SESSION_BYTES
            + self.entries.len() * PARTITION_BYTES
            + self.topics.len() * TOPIC_BYTES
            + self.name_bytes
    }

    /// Take over what a request says, first what it adds and changes, then what it forgets.
    fn update(&mut self, request: &FetchRequest<'_>) {
        for topic in &request.topics {
            let slot = (!topic.partitions.is_empty()).then(|| self.topic_slot(topic.topic, topic.topic_id));
            for partition in &topic.partitions {
                let topic = slot.expect("made for a topic with partitions");
                self.want(topic, partition.partition, Wanted::of(partition));
            }
        }
        for topic in &request.forgotten_topics_data {
            let known = FetchedTopic { name: topic.topic.into(), id: topic.topic_id };
            if let Some(&slot) = self.topic_slots.get(&known) {
                for partition in &topic.partitions {
                    self.forget(slot, *partition);
                }
            }
        }
    }

    fn topic_slot(&mut self, name: &str, id: Uuid) -> u32 {
        let topic = FetchedTopic { name: name.into(), id };
        if let Some(&slot) = self.topic_slots.get(&topic) {
            return slot;
        }
        self.name_bytes += name.len();
        let added = SessionTopic { topic: topic.clone(), partitions: 0 };
        let slot = match self.free_topics.pop() {
            Some(slot) => {
                self.topics[slot as usize] = added;
                slot
            }
            None => {
                self.topics.push(added);
                self.topics.len() as u32 - 1
            }
        };
        self.topic_slots.insert(topic, slot);
        slot
    }

    fn want(&mut self, topic: u32, index: i32, wanted: Wanted) {
        let slot = match self.slots.get(&(topic, index)) {
            Some(&slot) => {
                self.entries[slot as usize].wanted = wanted;
                slot
            }
            None => {
                let slot = self.add(topic, index, wanted);
                self.slots.insert((topic, index), slot);
                slot
            }
        };
        self.wake(slot);
    }

    fn add(&mut self, topic: u32, index: i32, wanted: Wanted) -> u32 {
        self.topics[topic as usize].partitions += 1;
        let (seen, told) = (Bounds::UNKNOWN, Bounds::UNKNOWN);
        let mut entry = Entry { topic, index, wanted, seen, told, live: true, ready: false, changed: false };
        match self.free.pop() {
            Some(slot) => {
                // Whoever had the slot may have left it in the queues.
                let before = &self.entries[slot as usize];
                (entry.ready, entry.changed) = (before.ready, before.changed);
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        }
    }

    fn forget(&mut self, topic: u32, index: i32) {
        let Some(slot) = self.slots.remove(&(topic, index)) else { return };
        self.entries[slot as usize].live = false;
        self.free.push(slot);
        let left = &mut self.topics[topic as usize];
        left.partitions -= 1;
        if left.partitions == 0 {
            let nobody = FetchedTopic { name: Rc::from(""), id: Uuid::nil() };
            let gone = mem::replace(&mut left.topic, nobody);
            self.name_bytes -= gone.name.len();
            self.topic_slots.remove(&gone);
            self.free_topics.push(topic);
        }
    }

    /// Something may have happened with the partition. Returns whether it must be looked at again.
    pub fn wake(&mut self, slot: u32) -> bool {
        let Some(entry) = self.entries.get_mut(slot as usize).filter(|entry| entry.live) else {
            return false;
        };
        if !mem::replace(&mut entry.ready, true) {
            self.ready.push_back(slot);
        }
        true
    }

    /// Every partition that must be looked at: its slot, its topic's, its index and what is wanted of it.
    /// [`FetchSession::on_looked`] must follow.
    pub fn take_ready(&mut self) -> impl Iterator<Item = (u32, u32, i32, Wanted)> {
        let entries = &mut self.entries;
        self.ready.drain(..).filter_map(move |slot| {
            let entry = &mut entries[slot as usize];
            entry.ready = false;
            entry.live.then_some((slot, entry.topic, entry.index, entry.wanted))
        })
    }

    /// What came of looking at them. Who got nothing although there may be something goes first next time;
    /// who got something goes last, behind those that have waited meanwhile.
    pub fn on_looked(&mut self, looks: impl Iterator<Item = (u32, Look)>) {
        let (mut unserved, mut served) = (Vec::new(), Vec::new());
        for (slot, look) in looks {
            let entry = &mut self.entries[slot as usize];
            entry.seen = look.bounds;
            if entry.seen != entry.told && !mem::replace(&mut entry.changed, true) {
                self.changed.push(slot);
            }
            if look.waits && !look.found || mem::replace(&mut entry.ready, true) {
                continue;
            }
            if look.found {
                served.push(slot);
            } else {
                unserved.push(slot);
            }
        }
        for slot in unserved.into_iter().rev() {
            self.ready.push_front(slot);
        }
        self.ready.extend(served);
    }

    /// The partitions that the answer must name besides those with records or an error, which `found` says:
    /// the slots and topics of those whose bounds have moved. They are unknown at first, so the first answer
    /// names all.
    pub fn take_changed(&mut self, found: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
        for slot in found {
            let entry = &mut self.entries[slot as usize];
            entry.told = entry.seen;
        }
        let mut changed = Vec::new();
        for slot in mem::take(&mut self.changed) {
            let entry = &mut self.entries[slot as usize];
            entry.changed = false;
            if entry.live && entry.told != entry.seen {
                entry.told = entry.seen;
                changed.push((slot, entry.topic));
            }
        }
        changed
    }

    pub fn topic(&self, topic: u32) -> &FetchedTopic {
        &self.topics[topic as usize].topic
    }

    /// The number of a partition within its topic, and its bounds as last seen.
    pub fn partition(&self, slot: u32) -> (i32, Bounds) {
        let entry = &self.entries[slot as usize];
        (entry.index, entry.seen)
    }
}
