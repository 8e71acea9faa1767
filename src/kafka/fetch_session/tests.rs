//! Sessions as a consumer and its partitions make them: a line a fetch.

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
