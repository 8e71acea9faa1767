//! The memory that all groups of a log share: who is refused, what is left alone, and what comes back.

use std::time::Duration;

use bytes::Bytes;

use super::super::call::{GroupError, JoinCall, Joined, Leaving, MemberRef, SyncCall};
use super::super::timers::SWEEP_MIN;
use super::super::{Action, GroupRules, Groups, StoredGroups, testing};
use crate::model::{Nanos, Now, WallMs};

const TOTAL: usize = 256 << 10;
const RULES: GroupRules = GroupRules {
    initial_delay: Duration::from_millis(1),
    bytes_max: 32 << 10,
    total_bytes_max: TOTAL,
    ..testing::RULES
};
const METADATA_BYTES: usize = 19 << 10;

fn at(seconds: u64) -> Now {
    Now { mono: Nanos(seconds * 1_000_000_000), wall: WallMs(seconds as i64 * 1000) }
}

fn join(metadata_bytes: usize) -> JoinCall {
    JoinCall {
        client_id: String::new(),
        client_host: String::new(),
        rebalance_timeout: Duration::from_secs(10),
        protocols: vec![("range".into(), vec![7; metadata_bytes].into())],
        ..testing::join()
    }
}

fn name(index: usize) -> String {
    format!("group {index}")
}

fn who(index: usize) -> MemberRef {
    MemberRef { member: format!("m{index}"), instance: None, generation: 1 }
}

struct Broker {
    groups: Groups<usize>,
    stored: StoredGroups,
    most: usize,
}

impl Broker {
    fn new() -> Broker {
        Broker { groups: Groups::new(RULES), stored: StoredGroups::default(), most: 0 }
    }

    fn join(&mut self, index: usize, join: JoinCall, now: Now) -> Result<Option<Joined>, GroupError> {
        let joined = self.groups.handle_join(now, &name(index), join, format!("m{index}"), index);
        self.settle(now);
        joined
    }

    /// What is to be stored is durable at once.
    fn settle(&mut self, now: Now) {
        self.groups.on_time(now);
        while let Some(action) = self.groups.poll_action() {
            if let Action::Store { id, record } = action {
                self.stored.apply(&record).expect("decodes");
                self.groups.on_stored(now, id, Ok(()));
            }
        }
        self.most = self.most.max(self.groups.bytes());
        assert_eq!(self.groups.bytes(), self.groups.recounted_bytes());
    }

    /// Groups of one large member each, assigned and stored, until one is refused. Returns how many.
    fn fill(&mut self) -> usize {
        for index in 0.. {
            match self.join(index, join(METADATA_BYTES), at(1)) {
                Ok(None) => {}
                Err(GroupError::GroupsFull) => return index,
                other => panic!("{other:?}"),
            }
            self.settle(at(2));
            let assignments = vec![(who(index).member, Bytes::from_static(b"mine"))];
            let sync = SyncCall { who: who(index), protocol_type: None, protocol: None, assignments };
            assert_eq!(self.groups.handle_sync(at(2), &name(index), sync, index), Ok(None));
            self.settle(at(2));
        }
        unreachable!()
    }
}

#[test]
fn groups_share_a_budget_and_give_it_back() {
    let mut broker = Broker::new();
    let count = broker.fill();
    // Each twice: as it is, and as it is stored.
    assert_eq!(count, TOTAL / (2 * METADATA_BYTES + 3000));
    assert!(broker.groups.describe(&name(count)).is_none(), "who is refused leaves nothing");

    // Those that are there go on, and may say the same again, or less, but not more.
    for index in 0..count {
        assert_eq!(broker.groups.handle_heartbeat(at(3), &name(index), &who(index)), Ok(()));
    }
    let again = |bytes| JoinCall { member: who(0).member, ..join(bytes) };
    assert_eq!(broker.join(0, again(METADATA_BYTES + (10 << 10)), at(3)), Err(GroupError::GroupsFull));
    assert_eq!(broker.join(0, again(METADATA_BYTES), at(3)), Ok(None));
    assert_eq!(broker.join(0, again(METADATA_BYTES - 1), at(3)).map(drop), Ok(()));
    assert!(broker.most <= TOTAL, "{} bytes of {TOTAL}", broker.most);

    // Nobody is heard of any more: what its members took is free again.
    for seconds in 4..400 {
        broker.settle(at(seconds));
    }
    assert!(broker.groups.list().all(|listed| listed.state == super::super::call::StateName::Empty));
    assert!(broker.groups.bytes() < count * 2500, "{} bytes of {count} names", broker.groups.bytes());
    assert_eq!(broker.join(count, join(METADATA_BYTES), at(400)), Ok(None));
    for index in 0..count {
        assert_eq!(broker.groups.check_delete(&name(index)), Ok(()));
        broker.groups.forget(&name(index));
    }
    broker.settle(at(401));
    assert_eq!(broker.groups.list().count(), 1, "the one that joined last");
}

#[test]
fn names_alone_come_to_an_end_and_come_back_when_their_time_is_up() {
    let mut broker = Broker::new();
    let polite = || JoinCall { needs_id: true, ..join(10) };
    let mut count = 0;
    while let Err(GroupError::MemberIdRequired { .. }) = broker.join(count, polite(), at(1)) {
        count += 1;
    }
    assert_eq!(broker.join(count, polite(), at(1)), Err(GroupError::GroupsFull));
    assert!((100..400).contains(&count), "{count} groups in {TOTAL} bytes");
    assert!(broker.most <= TOTAL);
    broker.settle(at(20));
    assert_eq!((broker.groups.list().count(), broker.groups.bytes()), (0, 0), "nobody came");
    let invited = broker.join(count, polite(), at(20));
    assert!(matches!(invited, Err(GroupError::MemberIdRequired { .. })), "{invited:?}");
}

#[test]
fn a_group_at_its_own_limit_is_full_and_one_that_others_leave_no_room_may_come_again() {
    let mut broker = Broker::new();
    assert_eq!(broker.join(0, join(METADATA_BYTES), at(1)), Ok(None));
    broker.settle(at(2));
    let assign = |broker: &mut Broker, bytes| {
        let assignments = vec![(who(0).member, vec![7; bytes].into())];
        let sync = SyncCall { who: who(0), protocol_type: None, protocol: None, assignments };
        let synced = broker.groups.handle_sync(at(2), &name(0), sync, 0);
        broker.settle(at(2));
        synced
    };
    broker.groups.note_kept(TOTAL - broker.groups.bytes() - 1000, 0);
    assert_eq!(assign(&mut broker, RULES.bytes_max), Err(GroupError::AssignmentTooLarge));
    assert_eq!(assign(&mut broker, 1000), Err(GroupError::GroupsFull), "it is kept twice");
    let larger = |bytes| JoinCall { member: who(0).member, ..join(bytes) };
    assert_eq!(broker.join(0, larger(RULES.bytes_max), at(2)), Err(GroupError::GroupFull));
    assert_eq!(broker.join(0, larger(METADATA_BYTES + 1000), at(2)), Err(GroupError::GroupsFull));
    broker.groups.note_kept(0, 0);
    let kept = TOTAL - broker.groups.bytes() - 1000;
    broker.groups.note_kept(kept, kept);
    assert_eq!(assign(&mut broker, 1000), Err(GroupError::AssignmentTooLarge), "it is all its own");
    let refused = broker.join(0, larger(METADATA_BYTES + 1000), at(2));
    assert_eq!(refused, Err(GroupError::GroupFull), "for ever, too");
    assert_eq!(broker.groups.check_room(&name(0), 1001), Err(GroupError::GroupFull));
    assert_eq!(broker.groups.check_room(&name(0), 1000), Ok(()));
    broker.groups.note_kept(kept, kept - 2000);
    assert_eq!(assign(&mut broker, 1000), Err(GroupError::GroupsFull), "some is another's");
    broker.groups.note_kept(0, 0);
    assert_eq!(assign(&mut broker, 1000), Ok(None), "others have gone");

    // All by itself, but its log has no room for what one group may have.
    broker.groups = Groups::new(GroupRules { total_bytes_max: RULES.bytes_max, ..RULES });
    assert_eq!(broker.join(0, join(METADATA_BYTES), at(3)), Err(GroupError::GroupFull), "for ever");
}

#[test]
fn nobody_waits_for_one_who_was_invited_and_refused() {
    let mut broker = Broker::new();
    assert_eq!(broker.join(0, join(100), at(1)), Ok(None));
    broker.settle(at(2));
    let late = |broker: &mut Broker, join| broker.groups.handle_join(at(3), &name(0), join, "late".into(), 1);
    let invited = late(&mut broker, JoinCall { needs_id: true, ..join(100) });
    assert!(matches!(invited, Err(GroupError::MemberIdRequired { .. })), "{invited:?}");
    let again = JoinCall { member: who(0).member, ..join(101) };
    assert_eq!(broker.join(0, again, at(3)), Ok(None));
    let beats = |broker: &mut Broker, generation| {
        broker.groups.handle_heartbeat(at(3), &name(0), &MemberRef { generation, ..who(0) })
    };
    assert_eq!(beats(&mut broker, 1), Err(GroupError::RebalanceInProgress), "it waits for who is invited");
    let refused = late(&mut broker, JoinCall { member: "late".into(), ..join(RULES.bytes_max) });
    assert_eq!(refused, Err(GroupError::GroupFull));
    assert_eq!(beats(&mut broker, 2), Ok(()));
    broker.settle(at(3));
}

#[test]
fn ids_that_are_given_back_leave_no_timers() {
    let mut broker = Broker::new();
    let polite = JoinCall { needs_id: true, session_timeout: RULES.session_max, ..join(10) };
    // One that stays, and whose session must still end.
    assert!(broker.join(0, polite.clone(), at(1)).is_err());
    for index in 1..4 * SWEEP_MIN {
        let invited = broker.join(index, polite.clone(), at(1));
        assert!(matches!(invited, Err(GroupError::MemberIdRequired { .. })), "{invited:?}");
        let leaving = Leaving { member: who(index).member, instance: None };
        assert_eq!(broker.groups.handle_leave(at(1), &name(index), &[leaving]), Ok(vec![Ok(())]));
    }
    assert_eq!(broker.groups.list().count(), 1);
    assert!(broker.groups.timers_len() <= SWEEP_MIN, "{} timers", broker.groups.timers_len());
    let over = RULES.session_max.as_secs() + 2;
    broker.settle(at(over));
    assert_eq!((broker.groups.list().count(), broker.groups.timers_len()), (0, 0));
}

#[test]
fn what_is_refused_takes_nothing_however_often_it_is_asked() {
    let mut broker = Broker::new();
    let table = [
        (
            JoinCall { session_timeout: Duration::from_millis(1), ..join(10) },
            GroupError::InvalidSessionTimeout,
        ),
        (JoinCall { protocols: Vec::new(), ..join(10) }, GroupError::InconsistentProtocol),
        (JoinCall { protocol_type: String::new(), ..join(10) }, GroupError::InconsistentProtocol),
        (JoinCall { member: "nobody".into(), ..join(10) }, GroupError::UnknownMember),
        (join(RULES.bytes_max), GroupError::GroupFull),
        (JoinCall { protocol_type: "x".repeat(RULES.bytes_max), ..join(10) }, GroupError::GroupFull),
    ];
    for index in 0..1000 {
        for (join, error) in &table {
            assert_eq!(broker.join(index, join.clone(), at(1)), Err(error.clone()));
        }
    }
    assert_eq!((broker.groups.list().count(), broker.groups.bytes()), (0, 0));
}

#[test]
fn a_restart_keeps_what_there_is_and_counts_it() {
    let mut broker = Broker::new();
    let count = broker.fill();
    let before = broker.groups.bytes();
    // With less room than is taken already.
    broker.groups = Groups::new(GroupRules { total_bytes_max: TOTAL / 2, bytes_max: 1 << 10, ..RULES });
    broker.groups.restore(&broker.stored, at(3));
    broker.settle(at(3));
    assert_eq!(broker.groups.bytes(), before);
    for index in 0..count {
        assert_eq!(broker.groups.handle_heartbeat(at(4), &name(index), &who(index)), Ok(()));
    }
    let again = JoinCall { member: who(0).member, ..join(METADATA_BYTES) };
    assert!(matches!(broker.join(0, again, at(4)), Ok(None)), "the leader wants another assignment");
    assert_eq!(broker.join(count, join(10), at(4)), Err(GroupError::GroupsFull));
    broker.groups.note_kept(1 << 20, 0);
    assert_eq!(broker.groups.check_room("another", 0), Err(GroupError::GroupsFull));
    assert_eq!(
        broker.groups.check_room("another", TOTAL + 1),
        Err(GroupError::GroupFull),
        "that would never fit"
    );
}
