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

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::rc::Rc;

use uuid::Uuid;

use crate::base::mutant::{self, Mutant};
use crate::kafka::protocol::ErrorCode;
use crate::kafka::protocol::messages::FetchRequest;
use crate::kafka::protocol::messages::fetch::FetchPartition;

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

/// The budget of a shard's sessions.
pub struct FetchSessions {
    budget: Rc<Budget>,
    /// Sessions that there ever were: they are numbered.
    opened: u32,
    /// Consumers that got none, for want of room.
    pub refused: u64,
}

struct Budget {
    bytes_max: usize,
    bytes: Cell<usize>,
    count: Cell<usize>,
}

impl FetchSessions {
    pub fn new(bytes_max: usize) -> FetchSessions {
        let budget = Budget { bytes_max, bytes: Cell::new(0), count: Cell::new(0) };
        FetchSessions { budget: Rc::new(budget), opened: 0, refused: 0 }
    }

    /// Sessions that there are.
    pub fn count(&self) -> usize {
        self.budget.count.get()
    }

    /// What they take together.
    pub fn bytes(&self) -> usize {
        self.budget.bytes.get()
    }

    fn open(&mut self, by_id: bool) -> FetchSession {
        self.opened = self.opened % (i32::MAX as u32) + 1;
        self.budget.count.set(self.count() + 1);
        FetchSession {
            id: self.opened as i32,
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
            lease: Lease { budget: self.budget.clone(), bytes: 0 },
        }
    }
}

/// A session's share of the budget, given back when it ends.
struct Lease {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Lease {
    /// Have so many bytes. False when there is no room, and nothing has changed.
    fn resize(&mut self, bytes: usize) -> bool {
        let total = self.budget.bytes.get() - self.bytes + bytes;
        // Less is always possible.
        if total > self.budget.bytes_max && bytes > self.bytes {
            return false;
        }
        self.budget.bytes.set(total);
        self.bytes = bytes;
        true
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.bytes.set(self.budget.bytes.get() - self.bytes);
        self.budget.count.set(self.budget.count.get() - 1);
    }
}

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
            (_, FULL) => Box::new(sessions.open(by_id)),
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

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::kafka::protocol::Array;
    use crate::kafka::protocol::messages::fetch::{FetchTopic, ForgottenTopic};

    /// A consumer and the partitions that it reads, whose high watermarks are 10 unless they are set.
    struct Rig {
        sessions: FetchSessions,
        held: Held,
        ends: BTreeMap<(Rc<str>, i32), i64>,
        told: String,
    }

    impl Rig {
        fn new(bytes_max: usize) -> Rig {
            let sessions = FetchSessions::new(bytes_max);
            Rig { sessions, held: Held::default(), ends: BTreeMap::new(), told: String::new() }
        }

        /// `id/epoch`, then partitions as `a0@7`, or `-a0` for one to forget; `!` for a request by ids.
        fn begin(&mut self, line: &str) -> Result<Option<Box<FetchSession>>, ErrorCode> {
            let mut words = line.split_whitespace();
            let (id, epoch) = words.next().expect("a session").split_once('/').expect("id and epoch");
            let mut request = FetchRequest {
                session_id: id.parse().expect("a number"),
                session_epoch: epoch.parse().expect("a number"),
                ..Default::default()
            };
            let mut by_id = false;
            for word in words {
                match word.strip_prefix('-') {
                    None if word == "!" => by_id = true,
                    None => {
                        let (at, offset) = word.split_once('@').expect("an offset");
                        let partition = FetchPartition {
                            partition: at[1..].parse().expect("a number"),
                            fetch_offset: offset.parse().expect("a number"),
                            ..Default::default()
                        };
                        let partitions = Array::from_elem(partition, 1);
                        let topic = FetchTopic { topic: &at[..1], partitions, ..Default::default() };
                        request.topics.push(topic);
                    }
                    Some(at) => {
                        let partitions = Array::from_elem(at[1..].parse().expect("a number"), 1);
                        let topic = ForgottenTopic { topic: &at[..1], partitions, ..Default::default() };
                        request.forgotten_topics_data.push(topic);
                    }
                }
            }
            self.held.begin(&request, by_id, &mut self.sessions)
        }

        /// Look at what is ready, with room for so many partitions with records.
        fn look(&mut self, session: &mut FetchSession, room: usize) -> Vec<u32> {
            let mut left = room;
            let ready: Vec<_> = session.take_ready().collect();
            let mut looks = Vec::new();
            for (slot, topic, index, wanted) in ready {
                let name = session.topic(topic).name.clone();
                write!(self.told, " look {name}{index}@{}", wanted.offset).expect("a string");
                let high_watermark = *self.ends.entry((name, index)).or_insert(10);
                let more = wanted.offset < high_watermark;
                let found = more && left > 0;
                left -= usize::from(found);
                let bounds = Bounds { start: 0, high_watermark };
                looks.push((slot, Look { bounds, found, waits: !more }));
            }
            session.on_looked(looks.iter().copied());
            looks.iter().filter(|(_, look)| look.found).map(|(slot, _)| *slot).collect()
        }

        fn answer(&mut self, mut session: Box<FetchSession>, found: &[u32]) {
            write!(self.told, " | session {}", session.id()).expect("a string");
            let changed = session.take_changed(found.iter().copied());
            let name = |session: &FetchSession, slot: u32| {
                let entry = &session.entries[slot as usize];
                format!("{}{}", session.topic(entry.topic).name, entry.index)
            };
            for slot in found {
                write!(self.told, " records {}", name(&session, *slot)).expect("a string");
            }
            for (slot, _) in changed {
                let (_, bounds) = session.partition(slot);
                write!(self.told, " {}..{}", name(&session, slot), bounds.high_watermark).expect("a string");
            }
            self.held.give_back(session);
        }

        fn fetch(&mut self, line: &str) {
            write!(self.told, "{line}:").expect("a string");
            match self.begin(line) {
                Err(code) => write!(self.told, " {code:?}").expect("a string"),
                Ok(None) => self.told.push_str(" without session"),
                Ok(Some(mut session)) => {
                    let found = self.look(&mut session, 1);
                    self.answer(session, &found);
                }
            }
            self.told.push('\n');
        }

        /// Records become durable.
        fn append(&mut self, topic: &str, index: i32, high_watermark: i64) {
            self.ends.insert((topic.into(), index), high_watermark);
            if let Held::Here(session) = &self.held {
                let wakes = |entry: &Entry| {
                    entry.live && entry.index == index && &*session.topic(entry.topic).name == topic
                };
                let slot = session.entries.iter().position(wakes).expect("in the session");
                self.held.wake(slot as u32);
            }
        }

        fn check(&self, want: Expect) {
            want.assert_eq(&self.told);
        }
    }

    fn play(lines: &[&str], want: Expect) {
        let mut rig = Rig::new(1 << 20);
        for line in lines {
            match line.strip_prefix("append ") {
                None => rig.fetch(line),
                Some(what) => {
                    let (at, end) = what.split_once(' ').expect("where, and up to");
                    let (index, end) = (at[1..].parse().expect("a number"), end.parse().expect("a number"));
                    rig.append(&at[..1], index, end);
                }
            }
        }
        rig.check(want);
    }

    #[test]
    fn ids_and_epochs() {
        play(
            &[
                "0/-1 a0@10",
                "5/1 a0@10",
                "0/0 a0@10",
                "1/2",
                "2/1",
                "1/1 !",
                "1/1",
                "1/1",
                "1/2",
                "1/-1 a0@10",
                "1/3",
                "0/0",
                "0/0 a0@10",
                "3/0 b0@10",
                "3/1",
                "4/1",
                "4/-2",
                "4/2 -b0",
                "4/3",
            ],
            expect![[r#"
                0/-1 a0@10: without session
                5/1 a0@10: FETCH_SESSION_ID_NOT_FOUND(70)
                0/0 a0@10: look a0@10 | session 1 a0..10
                1/2: INVALID_FETCH_SESSION_EPOCH(71)
                2/1: FETCH_SESSION_ID_NOT_FOUND(70)
                1/1 !: FETCH_SESSION_TOPIC_ID_ERROR(106)
                1/1: | session 1
                1/1: INVALID_FETCH_SESSION_EPOCH(71)
                1/2: | session 1
                1/-1 a0@10: without session
                1/3: FETCH_SESSION_ID_NOT_FOUND(70)
                0/0: without session
                0/0 a0@10: look a0@10 | session 3 a0..10
                3/0 b0@10: look b0@10 | session 4 b0..10
                3/1: FETCH_SESSION_ID_NOT_FOUND(70)
                4/1: | session 4
                4/-2: INVALID_FETCH_SESSION_EPOCH(71)
                4/2 -b0: without session
                4/3: FETCH_SESSION_ID_NOT_FOUND(70)
            "#]],
        );
    }

    #[test]
    fn only_what_has_changed_is_told_and_only_what_is_ready_is_looked_at() {
        play(
            &[
                "0/0 a0@10 a1@10 b0@10",
                "1/1",
                "append a1 12",
                "1/2",
                "1/3",
                "1/4 a1@12",
                "1/5",
                "1/6 b0@3",
                "1/7 -b0",
                "append a0 11",
                "1/8 c5@10",
            ],
            expect![[r#"
                0/0 a0@10 a1@10 b0@10: look a0@10 look a1@10 look b0@10 | session 1 a0..10 a1..10 b0..10
                1/1: | session 1
                1/2: look a1@10 | session 1 records a1
                1/3: look a1@10 | session 1 records a1
                1/4 a1@12: look a1@12 | session 1
                1/5: | session 1
                1/6 b0@3: look b0@3 | session 1 records b0
                1/7 -b0: | session 1
                1/8 c5@10: look a0@10 look c5@10 | session 1 records a0 c5..10
            "#]],
        );
    }

    #[test]
    fn who_was_served_waits_behind_who_was_not() {
        play(
            &["0/0 a0@0 a1@0 a2@0", "1/1 a0@1", "1/2 a1@1", "1/3 a2@1", "1/4 a0@10 a1@10 a2@10", "1/5"],
            expect![[r#"
                0/0 a0@0 a1@0 a2@0: look a0@0 look a1@0 look a2@0 | session 1 records a0 a1..10 a2..10
                1/1 a0@1: look a1@0 look a2@0 look a0@1 | session 1 records a1
                1/2 a1@1: look a2@0 look a0@1 look a1@1 | session 1 records a2
                1/3 a2@1: look a0@1 look a1@1 look a2@1 | session 1 records a0
                1/4 a0@10 a1@10 a2@10: look a1@10 look a2@10 look a0@10 | session 1
                1/5: | session 1
            "#]],
        );
    }

    #[test]
    fn woken_while_it_is_looked_at() {
        let mut rig = Rig::new(1 << 20);
        let mut session = rig.begin("0/0 a0@10").expect("good").expect("room");
        let ready: Vec<_> = session.take_ready().collect();
        // The other shard has answered, and then woken us.
        assert!(session.wake(ready[0].0));
        let bounds = Bounds { start: 0, high_watermark: 10 };
        session.on_looked([(ready[0].0, Look { bounds, found: false, waits: true })].into_iter());
        assert_eq!(session.take_ready().count(), 1, "it is looked at again");
        assert!(!session.wake(7), "of an earlier session");
    }

    #[test]
    fn a_fetch_that_overtakes_gets_no_session_and_takes_none_away() {
        let mut rig = Rig::new(1 << 20);
        let first = rig.begin("0/0 a0@10").expect("good").expect("room");
        assert_eq!(rig.begin("1/1").err(), Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND), "it is under way");
        rig.held.give_back(first);
        let second = rig.begin("1/1").expect("good").expect("the same");
        let third = rig.begin("1/0 b0@10").expect("good").expect("another one");
        rig.held.give_back(second);
        rig.held.give_back(third);
        assert_eq!(rig.begin("1/2").err(), Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND));
        assert!(rig.begin("2/1").expect("good").is_some());
    }

    #[test]
    fn the_budget_holds_and_is_given_back() {
        let one = SESSION_BYTES + TOPIC_BYTES + 1 + PARTITION_BYTES;
        let mut rig = Rig::new(one + PARTITION_BYTES);
        rig.fetch("0/0 a0@10");
        assert_eq!((rig.sessions.count(), rig.sessions.bytes()), (1, one));
        rig.fetch("1/1 a1@10");
        rig.fetch("1/2 a2@10");
        assert_eq!((rig.sessions.count(), rig.sessions.bytes(), rig.sessions.refused), (0, 0, 1));
        rig.fetch("1/3");
        rig.fetch("0/0 a0@10 a1@10 a2@10");
        rig.fetch("0/0 a0@10 a1@10");
        // A slot that is free is there to be used, and paid for.
        let full = rig.sessions.bytes();
        rig.fetch("3/1 -a1");
        assert_eq!(rig.sessions.bytes(), full);
        rig.fetch("3/2 a2@10");
        assert_eq!((rig.sessions.count(), rig.sessions.bytes()), (1, full));
        rig.fetch("3/3 b0@10");
        assert_eq!((rig.sessions.count(), rig.sessions.bytes()), (0, 0));
        rig.fetch("0/0 a1@10");
        assert_eq!(rig.sessions.count(), 1);
        rig.check(expect![[r#"
            0/0 a0@10: look a0@10 | session 1 a0..10
            1/1 a1@10: look a1@10 | session 1 a1..10
            1/2 a2@10: FETCH_SESSION_ID_NOT_FOUND(70)
            1/3: FETCH_SESSION_ID_NOT_FOUND(70)
            0/0 a0@10 a1@10 a2@10: without session
            0/0 a0@10 a1@10: look a0@10 look a1@10 | session 3 a0..10 a1..10
            3/1 -a1: | session 3
            3/2 a2@10: look a2@10 | session 3 a2..10
            3/3 b0@10: FETCH_SESSION_ID_NOT_FOUND(70)
            0/0 a1@10: look a1@10 | session 4 a1..10
        "#]]);
        rig.held = Held::Nothing;
        assert_eq!((rig.sessions.count(), rig.sessions.bytes()), (0, 0));
    }

    #[test]
    fn ten_thousand_quiet_partitions_cost_nothing() {
        let mut rig = Rig::new(8 << 20);
        let names: Vec<String> = (0..10_000).map(|index| format!("a{index}@10")).collect();
        let mut session = rig.begin(&format!("0/0 {}", names.join(" "))).expect("good").expect("room");
        let found = rig.look(&mut session, 1);
        rig.answer(session, &found);
        for epoch in 1..100 {
            rig.append("a", 77, 10 + epoch);
            let mut session = rig.begin(&format!("1/{epoch} a77@{}", 9 + epoch)).expect("good").expect("it");
            assert_eq!(session.ready.len(), 1);
            let found = rig.look(&mut session, 1);
            assert_eq!((found.len(), session.changed.len()), (1, 1));
            rig.answer(session, &found);
        }
    }
}
