//! What is kept of consumer groups: entries, as a log or a checkpoint holds them, and the machine that goes on with
//! them.

use std::time::Duration;

use bytes::Bytes;
use ringmq::base::bytes::Fields;
use ringmq::group::record::encode_gone;
use ringmq::group::{Action, GroupRules, Groups, JoinCall, Leaving, MemberRef, StoredGroups, SyncCall};
use ringmq::model::{Nanos, Now, Offset, PartitionKey, TopicId, WallMs};
use ringmq::partition::group_offsets::{CommittedOffset, GroupOffsets, encode_commit};

use crate::harness::{Memory, Target, no_fix};
use crate::meter::held_bytes;

pub const GROUP: &str = "billing";
pub const RULES: GroupRules = GroupRules {
    session_min: Duration::from_secs(6),
    session_max: Duration::from_secs(1800),
    initial_delay: Duration::from_secs(3),
    members_max: 100,
    bytes_max: 1 << 20,
    total_bytes_max: 16 << 20,
};
/// Hostile timeouts make long lives: so far a machine is followed.
const STEPS_MAX: usize = 200;

/// A list of entries, as in a checkpoint: each is applied to those before it.
pub const GROUP_STATE: Target = Target {
    run: |bytes| StoredGroups::decode(&mut Fields::new(bytes)).is_ok_and(|stored| survives(&stored)),
    seeds: || {
        let all = records();
        (0..=all.len()).map(|count| list(&all[..count])).collect()
    },
    fix: no_fix,
    // A member in the machine, with its names in three maps, beside what is stored.
    memory: Memory { per_byte: 256, bytes: 64 << 10 },
    mutants_per_second: 20_000,
};

fn at(seconds: u64) -> Now {
    Now { mono: Nanos(seconds * 1_000_000_000), wall: WallMs(seconds as i64 * 1000) }
}

/// What was read is what is written, and a machine goes on with it: its members are missed one by one.
fn survives(stored: &StoredGroups) -> bool {
    let mut bytes = Vec::new();
    stored.encode(&mut bytes);
    let again = StoredGroups::decode(&mut Fields::new(&bytes));
    assert_eq!(again.as_ref(), Ok(stored));

    let (mut now, mut again) = (at(1), again.expect("compared above"));
    let mut groups: Groups<u32> = Groups::new(RULES);
    groups.restore(stored, now);
    for _ in 0..STEPS_MAX {
        let Some(due) = groups.deadline() else { break };
        now.mono = now.mono.max(due);
        groups.on_time(now);
        for record in settle(&mut groups, now) {
            again.apply(&record).expect("what a group encodes decodes");
        }
    }
    true
}

/// Everything that is to be stored is durable at once; answers are dropped.
fn settle(groups: &mut Groups<u32>, now: Now) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some(action) = groups.poll_action() {
        if let Action::Store { id, record } = action {
            records.push(record);
            groups.on_stored(now, id, Ok(()));
        }
    }
    records
}

/// As in a checkpoint.
fn list(records: &[Vec<u8>]) -> Vec<u8> {
    let mut out = (records.len() as u32).to_le_bytes().to_vec();
    for record in records {
        out.extend_from_slice(&(record.len() as u32).to_le_bytes());
        out.extend_from_slice(record);
    }
    out
}

/// Every kind of entry, as the machine asks for it: a static member comes, is assigned everything, restarts
/// in peace and in a rebalance; all leave, and the group is deleted.
pub fn records() -> Vec<Vec<u8>> {
    let mut groups: Groups<u32> = Groups::new(RULES);
    let mut records = Vec::new();
    let join = |groups: &mut Groups<u32>, now, instance: Option<&str>, id: &str| {
        let join = JoinCall {
            member: String::new(),
            instance: instance.map(str::to_owned),
            client_id: "app".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(300),
            protocol_type: "consumer".into(),
            protocols: vec![
                ("range".into(), Bytes::from_static(&[0, 1, 0, 0])),
                ("sticky".into(), Bytes::new()),
            ],
            needs_id: false,
            can_skip: true,
        };
        groups.handle_join(now, GROUP, join, id.to_owned(), 0).expect("there is room");
        settle(groups, now)
    };
    let till = Some("till-1");
    records.extend(join(&mut groups, at(1), till, "first"));
    groups.on_time(at(4));
    let who = MemberRef { member: "first".into(), instance: till.map(str::to_owned), generation: 1 };
    let assignments = vec![("first".to_owned(), Bytes::from_static(&[0, 1, 2]))];
    let sync = SyncCall { who, protocol_type: None, protocol: None, assignments };
    groups.handle_sync(at(5), GROUP, sync, 0).expect("it leads");
    records.extend(settle(&mut groups, at(5)));
    records.extend(join(&mut groups, at(6), till, "second"));
    records.extend(join(&mut groups, at(7), None, "other"));
    records.extend(join(&mut groups, at(8), till, "third"));
    let leaving = [("third", till), ("other", None)].map(|(member, instance)| Leaving {
        member: member.to_owned(),
        instance: instance.map(str::to_owned),
    });
    groups.handle_leave(at(9), GROUP, &leaving).expect("a group");
    records.extend(settle(&mut groups, at(9)));
    records.push(encode_gone(GROUP));
    assert_eq!(records.len(), 6, "a member, a group, twice a member, a group without any, its end");
    records
}

/// What is counted must be what is held, or the limit of all groups is none: small ones take many times their bytes.
#[test]
fn groups_hold_what_is_counted_however_small_they_are() {
    let mut lines = Vec::new();
    let one = protocols(1);
    for (count, members, metadata_bytes, names) in [
        (500, 1, 0, &one),
        (500, 1, 2000, &one),
        (100, 3, 50, &one),
        (5, 100, 50, &one),
        (1, 1000, 200, &one),
        (20, 1, 0, &protocols(1000)),
        (20, 1, 0, &vec!["p".to_owned(); 10_000]),
    ] {
        let ((groups, _), held) = held_bytes(|| crowd(count, members, metadata_bytes, names));
        let said = names.len();
        let what =
            format!("{count} groups, {members} members, {said} protocols with {metadata_bytes} bytes each");
        lines.push((held, groups.bytes(), what));
    }
    for (count, commits, note) in
        [(500, 1, None), (500, 1, Some("x")), (100, 12, None), (5, 1000, Some("a note"))]
    {
        let (offsets, held) = held_bytes(|| committed(count, commits, note));
        lines.push((held, offsets.bytes(), format!("{count} groups, {commits} commits with {note:?}")));
    }
    let sound = |held: usize, counted: usize| held <= counted && counted <= 3 * held;
    assert!(lines.iter().all(|(held, counted, _)| sound(*held, *counted)), "held, counted: {lines:#?}");
}

/// Different names, as short as they can be.
fn protocols(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:x}")).collect()
}

/// Far above what a test says.
fn wide() -> GroupRules {
    GroupRules { members_max: 10_000, bytes_max: 1 << 30, total_bytes_max: 1 << 30, ..RULES }
}

fn join(member: usize, metadata_bytes: usize, protocols: &[String]) -> (JoinCall, String) {
    let said = |name: &String| (name.clone(), vec![7; metadata_bytes].into());
    let join = JoinCall {
        member: String::new(),
        instance: None,
        client_id: "app".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: RULES.session_max,
        rebalance_timeout: RULES.session_max,
        protocol_type: "consumer".into(),
        protocols: protocols.iter().map(said).collect(),
        needs_id: false,
        can_skip: false,
    };
    (join, format!("app-1.1.{member}"))
}

/// What many members and many names have taken is given back when they have gone, although the group stays.
#[test]
fn groups_keep_no_room_for_who_has_left() {
    let names = protocols(20_000);
    let mut groups: Groups<u32> = Groups::new(wide());
    let mut visit = |group: &str| {
        // They leave in the first delay. Static ones all wait for what is stored of them.
        for (members, names, is_static) in
            [(1, &names[..], false), (500, &names[..1], false), (1000, &names[..1], true)]
        {
            let instance = |member| is_static.then(|| format!("till-{member}"));
            for member in 0..members {
                let (mut join, id) = join(member, 0, names);
                join.instance = instance(member);
                groups.handle_join(at(1), group, join, id, 0).expect("there is room");
                if !is_static {
                    settle(&mut groups, at(1));
                }
            }
            settle(&mut groups, at(1));
            let leaving =
                |member| Leaving { member: format!("app-1.1.{member}"), instance: instance(member) };
            let all: Vec<_> = (0..members).map(leaving).collect();
            groups.handle_leave(at(1), group, &all).expect("a group");
            settle(&mut groups, at(1));
        }
    };
    // What all groups share has its size then.
    visit("before");
    let (_, held) = held_bytes(|| visit(GROUP));
    assert_eq!(groups.list().count(), 2);
    // Of those who left a timer each, until it is due.
    assert!(held < 100 << 10, "{held} bytes of a group without members");
}

/// Groups that are stable, in a machine and as they are stored.
fn crowd(
    count: usize,
    members: usize,
    metadata_bytes: usize,
    protocols: &[String],
) -> (Groups<u32>, StoredGroups) {
    let (mut groups, mut stored) = (Groups::new(wide()), StoredGroups::default());
    let mut settle = |groups: &mut Groups<u32>, now| {
        for record in settle(groups, now) {
            stored.apply(&record).expect("what a group encodes decodes");
        }
    };
    let names: Vec<String> = (0..count).map(|group| format!("group-{group:06}")).collect();
    for name in &names {
        for member in 0..members {
            let (join, id) = join(member, metadata_bytes, protocols);
            groups.handle_join(at(1), name, join, id, 0).expect("there is room");
        }
    }
    // Somebody came in the first delay, but nobody in the second.
    for seconds in [4, 8] {
        groups.on_time(at(seconds));
        settle(&mut groups, at(seconds));
    }
    for name in &names {
        let who = MemberRef { member: "app-1.1.0".into(), instance: None, generation: 1 };
        let assigned = |member| (format!("app-1.1.{member}"), Bytes::from_static(b"mine"));
        let assignments = (0..members).map(assigned).collect();
        let sync = SyncCall { who, protocol_type: None, protocol: None, assignments };
        groups.handle_sync(at(8), name, sync, 0).expect("it leads");
        settle(&mut groups, at(8));
    }
    assert_eq!(groups.list().count(), count);
    (groups, stored)
}

fn committed(count: usize, partitions: i32, note: Option<&str>) -> GroupOffsets {
    let mut offsets = GroupOffsets::default();
    for group in 0..count {
        let commit = |index| CommittedOffset {
            partition: PartitionKey { topic: TopicId([1; 16]), index },
            offset: Offset(7),
            leader_epoch: -1,
            metadata: note.map(str::to_owned),
            commit_time: 0,
        };
        let commits: Vec<_> = (0..partitions).map(commit).collect();
        offsets.apply(&encode_commit(&format!("group-{group:06}"), &commits)).expect("decodes");
    }
    offsets
}
