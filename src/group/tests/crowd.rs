//! Thousands of members in one group: everybody is answered once, only the leader sees them all, and one that
//! restarts has itself written, not all the others.

use std::time::Duration;

use bytes::Bytes;

use super::super::call::{GroupError, JoinCall, MemberRef, SyncCall};
use super::super::{Action, GroupRules, Groups, StoredGroups, testing};
use crate::model::{Nanos, Now, WallMs};

const MEMBERS: usize = 5_000;
const RULES: GroupRules =
    GroupRules { members_max: MEMBERS, bytes_max: 8 << 20, total_bytes_max: 64 << 20, ..testing::RULES };

fn at(seconds: u64) -> Now {
    Now { mono: Nanos(seconds * 1_000_000_000), wall: WallMs(seconds as i64 * 1000) }
}

fn who(index: usize) -> MemberRef {
    MemberRef { member: format!("m{index}"), instance: None, generation: 1 }
}

fn join(instance: Option<String>) -> JoinCall {
    let protocols = vec![("range".into(), Bytes::from_static(&[0; 100]))];
    JoinCall { instance, session_timeout: Duration::from_secs(45), protocols, ..testing::join() }
}

#[test]
fn a_crowd_is_rebalanced_and_stays() {
    let mut groups: Groups<usize> = Groups::new(RULES);
    for index in 0..MEMBERS {
        assert_eq!(groups.handle_join(at(1), "g", join(None), format!("m{index}"), index), Ok(None));
    }
    for seconds in [4, 7] {
        groups.on_time(at(seconds));
    }
    let mut answered = vec![0; MEMBERS];
    while let Some(action) = groups.poll_action() {
        let Action::Join(index, Ok(joined)) = action else { panic!("{action:?}") };
        assert_eq!(joined.members.len(), if index == 0 { MEMBERS } else { 0 });
        answered[index] += 1;
    }
    assert!(answered.iter().all(|count| *count == 1));

    for index in (0..MEMBERS).rev() {
        let assignments = (0..MEMBERS).map(|to| (who(to).member, Bytes::from(vec![to as u8; 16])));
        let assignments = if index == 0 { assignments.collect() } else { Vec::new() };
        let sync = SyncCall { who: who(index), protocol_type: None, protocol: None, assignments };
        assert_eq!(groups.handle_sync(at(8), "g", sync, index), Ok(None));
    }
    let Some(Action::Store { id, record }) = groups.poll_action() else { panic!("nothing is stored") };
    let mut stored = StoredGroups::default();
    stored.apply(&record).expect("decodes");
    groups.on_stored(at(8), id, Ok(()));
    let mut assigned = 0;
    while let Some(action) = groups.poll_action() {
        let Action::Sync(index, Ok(synced)) = action else { panic!("{action:?}") };
        assert_eq!(synced.assignment, vec![index as u8; 16]);
        assigned += 1;
    }
    assert_eq!(assigned, MEMBERS);

    // An hour of heartbeats, through a restart of the broker.
    for seconds in (10..3600).step_by(40) {
        groups.on_time(at(seconds));
        for index in 0..MEMBERS {
            assert_eq!(groups.handle_heartbeat(at(seconds), "g", &who(index)), Ok(()));
        }
        if seconds == 1810 {
            groups = Groups::new(RULES);
            groups.restore(&stored, at(seconds));
        }
    }
    assert_eq!(groups.poll_action(), None);
}

/// What the groups have stored, and how many bytes that takes. Answers are dropped.
fn store(groups: &mut Groups<usize>, stored: &mut StoredGroups, now: Now) -> usize {
    let mut bytes = 0;
    while let Some(action) = groups.poll_action() {
        if let Action::Store { id, record } = action {
            stored.apply(&record).expect("decodes");
            groups.on_stored(now, id, Ok(()));
            bytes += record.len();
        }
    }
    bytes
}

fn instance(index: usize) -> Option<String> {
    Some(format!("instance-{index}"))
}

/// A stable group of static members, and what is stored of it: all that was, in bytes.
fn static_crowd(members: usize) -> (Groups<usize>, StoredGroups, usize) {
    let (mut groups, mut stored) = (Groups::new(RULES), StoredGroups::default());
    for index in 0..members {
        let joined = groups.handle_join(at(1), "g", join(instance(index)), format!("m{index}"), index);
        assert_eq!(joined, Ok(None));
    }
    store(&mut groups, &mut stored, at(1));
    for seconds in [4, 7] {
        groups.on_time(at(seconds));
    }
    for index in 0..members {
        let assignments = (0..members).map(|to| (who(to).member, Bytes::from(vec![to as u8; 16])));
        let assignments = if index == 0 { assignments.collect() } else { Vec::new() };
        let who = MemberRef { instance: instance(index), ..who(index) };
        let sync = SyncCall { who, protocol_type: None, protocol: None, assignments };
        assert_eq!(groups.handle_sync(at(8), "g", sync, index), Ok(None));
    }
    let bytes = store(&mut groups, &mut stored, at(8));
    (groups, stored, bytes)
}

#[test]
fn a_rolling_restart_writes_each_member_once() {
    const STATIC: usize = 1_000;
    let (mut groups, mut stored, whole) = static_crowd(STATIC);
    assert!(whole > STATIC * 100, "the group takes {whole} bytes");
    let mut restarts = 0;
    for index in 0..STATIC {
        let joined = groups.handle_join(at(9), "g", join(instance(index)), format!("again{index}"), index);
        assert_eq!(joined, Ok(None));
        restarts += store(&mut groups, &mut stored, at(9));
    }
    assert!(restarts < 2 * whole, "{restarts} bytes for restarts of a group of {whole}");

    // All of them are known by their new ids afterwards, and by no other.
    groups = Groups::new(RULES);
    groups.restore(&stored, at(10));
    for index in 0..STATIC {
        let now = MemberRef { member: format!("again{index}"), instance: instance(index), generation: 1 };
        assert_eq!(groups.handle_heartbeat(at(10), "g", &now), Ok(()));
        let before = MemberRef { member: format!("m{index}"), ..now.clone() };
        assert_eq!(groups.handle_heartbeat(at(10), "g", &before), Err(GroupError::FencedInstance));
        let sync = SyncCall { who: now, protocol_type: None, protocol: None, assignments: Vec::new() };
        let synced = groups.handle_sync(at(10), "g", sync, index).expect("stable").expect("at once");
        assert_eq!(synced.assignment, vec![index as u8; 16]);
    }
}

#[test]
fn an_idle_crowd_lets_its_shard_sleep() {
    const IDLE: usize = 1_000;
    const SECONDS: u64 = 180;
    let (mut groups, ..) = static_crowd(IDLE);
    let members: Vec<_> =
        (0..IDLE).map(|index| MemberRef { instance: instance(index), ..who(index) }).collect();
    // One heartbeat of each every three seconds, evenly: turns that are made for nothing else.
    let mut turns = 0;
    for millis in (8_000..8_000 + SECONDS * 1_000).step_by(3) {
        let now = Now { mono: Nanos(millis * 1_000_000), wall: WallMs(millis as i64) };
        while groups.deadline().is_some_and(|due| due <= now.mono) {
            groups.on_time(now);
            turns += 1;
        }
        let member = &members[millis as usize / 3 % IDLE];
        assert_eq!(groups.handle_heartbeat(now, "g", member), Ok(()));
    }
    assert!(turns <= 4 * SECONDS, "{turns} turns for sessions in {SECONDS} s");
}
