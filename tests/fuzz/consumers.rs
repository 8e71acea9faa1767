//! The words of consumers, which pass through a broker: what a member subscribes to, and what its leader assigned it.
//! Both layouts are the clients' own.

use std::time::Duration;

use bytes::Bytes;
use ringmq::group::{Action, Groups, JoinCall, MemberRef, SyncCall};
use ringmq::model::{Nanos, Now, WallMs};

use crate::assignment;
use crate::groups::{GROUP, RULES};
use crate::harness::{SMALL, Target, no_fix};

const MEMBER: &str = "app-1.1.0";

/// The metadata of a group's one member, which decide whose offsets are in use. Accepted: understood.
pub const SUBSCRIPTION: Target = Target {
    run: subscribe,
    seeds: || {
        let user_data = [0, 0, 0, 2, 7, 7];
        vec![
            subscription(0, &[], &[]),
            subscription(0, &["orders"], &[0xff; 4]),
            subscription(3, &["orders", "", "ü.bills", "orders-2"], &user_data),
        ]
    },
    fix: no_fix,
    memory: SMALL,
    mutants_per_second: 5_000,
};

/// What another broker says that a member was assigned.
pub const ASSIGNMENT: Target = Target {
    run: |bytes| {
        let Some(topics) = assignment::decode(bytes) else { return false };
        let again = assign(0, &topics);
        assert_eq!(assignment::decode(&again).as_ref(), Some(&topics));
        // The version is not looked at, and user data may follow.
        assert!(
            bytes.is_empty() || bytes[2..].starts_with(&again[2..]),
            "{topics:?} is not all that was there"
        );
        true
    },
    seeds: || {
        let topics =
            [("orders".to_owned(), vec![0, 1, 7]), ("ü.bills".to_owned(), vec![]), (String::new(), vec![-1])];
        let with_user_data = [assign(1, &topics), vec![0, 0, 0, 1, 7]].concat();
        vec![Vec::new(), assign(0, &[]), assign(0, &topics[..1]), with_user_data]
    },
    fix: no_fix,
    memory: SMALL,
    mutants_per_second: 50_000,
};

fn subscribe(bytes: &[u8]) -> bool {
    // No name among them is longer than all of them.
    let absent = "x".repeat(bytes.len() + 1);
    let groups = stable(bytes);
    let understood = !groups.is_subscribed(GROUP, &absent);
    let said = topics(bytes);
    assert_eq!(understood, said.is_some(), "{said:?}");
    let Some((topics, end)) = said else { return false };
    for name in topics.iter().filter_map(|name| std::str::from_utf8(name).ok()) {
        assert!(groups.is_subscribed(GROUP, name), "{name:?}");
        let longer = format!("{name}x");
        assert_eq!(groups.is_subscribed(GROUP, &longer), topics.contains(&longer.as_bytes()), "{longer:?}");
    }
    // Behind what was cut off may be any name.
    assert!(stable(&bytes[..end - 1]).is_subscribed(GROUP, &absent), "cut off at {}", end - 1);
    true
}

/// A group whose member has said this, and was assigned something: only then its subscription counts.
fn stable(metadata: &[u8]) -> Groups<u32> {
    let mut groups: Groups<u32> = Groups::new(RULES);
    let join = JoinCall {
        member: String::new(),
        instance: None,
        client_id: "app".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: Duration::from_secs(45),
        rebalance_timeout: Duration::from_secs(300),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::copy_from_slice(metadata))],
        needs_id: false,
        can_skip: false,
    };
    groups.handle_join(at(1), GROUP, join, MEMBER.to_owned(), 0).expect("there is room");
    // Somebody came in the first delay, but nobody in the second.
    for seconds in [4, 8] {
        groups.on_time(at(seconds));
        settle(&mut groups, at(seconds));
    }
    let who = MemberRef { member: MEMBER.to_owned(), instance: None, generation: 1 };
    let assignments = vec![(MEMBER.to_owned(), Bytes::from_static(b"mine"))];
    let sync = SyncCall { who, protocol_type: None, protocol: None, assignments };
    groups.handle_sync(at(8), GROUP, sync, 0).expect("it leads");
    settle(&mut groups, at(8));
    groups
}

fn at(seconds: u64) -> Now {
    Now { mono: Nanos(seconds * 1_000_000_000), wall: WallMs(seconds as i64 * 1000) }
}

/// What is to be stored is durable at once.
fn settle(groups: &mut Groups<u32>, now: Now) {
    while let Some(action) = groups.poll_action() {
        if let Action::Store { id, .. } = action {
            groups.on_stored(now, id, Ok(()));
        }
    }
}

/// As the layout says it: the names, and where their list ends.
fn topics(bytes: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
    let count = i32::from_be_bytes(bytes.get(2..6)?.try_into().expect("four bytes"));
    let (mut names, mut end) = (Vec::new(), 6);
    for _ in 0..u32::try_from(count).ok()? {
        let length = i16::from_be_bytes(bytes.get(end..end + 2)?.try_into().expect("two bytes"));
        let start = end + 2;
        end = start + usize::try_from(length).ok()?;
        names.push(bytes.get(start..end)?);
    }
    Some((names, end))
}

fn subscription(version: i16, topics: &[&str], behind: &[u8]) -> Vec<u8> {
    let mut out = [&version.to_be_bytes()[..], &(topics.len() as i32).to_be_bytes()].concat();
    topics.iter().for_each(|topic| out.extend(text(topic)));
    out.extend_from_slice(behind);
    out
}

fn assign(version: i16, topics: &[(String, Vec<i32>)]) -> Vec<u8> {
    let mut out = [&version.to_be_bytes()[..], &(topics.len() as i32).to_be_bytes()].concat();
    for (topic, partitions) in topics {
        out.extend(text(topic));
        out.extend_from_slice(&(partitions.len() as i32).to_be_bytes());
        partitions.iter().for_each(|partition| out.extend_from_slice(&partition.to_be_bytes()));
    }
    out
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as i16).to_be_bytes()[..], text.as_bytes()].concat()
}
