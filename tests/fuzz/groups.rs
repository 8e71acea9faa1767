//! What is kept of consumer groups: entries, as a log or a checkpoint holds them, and the machine that goes on with
//! them.

use std::time::Duration;

use bytes::Bytes;
use ringmq::base::bytes::Fields;
use ringmq::group::record::encode_gone;
use ringmq::group::{Action, GroupRules, Groups, JoinCall, Leaving, MemberRef, StoredGroups, SyncCall};
use ringmq::model::{Nanos, Now, WallMs};

use crate::harness::{Memory, Target, no_fix};

const GROUP: &str = "billing";
const RULES: GroupRules = GroupRules {
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
