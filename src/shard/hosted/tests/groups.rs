//! What a log keeps of groups: within its budget, and no longer than the topics that it is about.

use super::*;
use crate::group::GroupError;
use crate::group::testing::join;
use crate::partition::group_offsets::CommittedOffset;
use crate::shard::call::{JoinCall, Leaving, SyncCall};

const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;

/// Nobody in `g` reads it.
const UNREAD: TopicId = TopicId([8; 16]);
const A_MS_LATER: WallMs = WallMs(NOW.wall.0 + 1);

fn group_call(call: GroupCall) -> Call {
    Call::Group { group: "g".into(), call }
}

fn commit_of(group: &str, index: i32, commit_time: WallMs) -> Call {
    let offset = CommittedOffset {
        partition: PartitionKey { topic: TOPIC, index },
        offset: Offset(5),
        leader_epoch: -1,
        metadata: Some("x".repeat(1000)),
        commit_time: commit_time.0,
    };
    let who = MemberRef { generation: -1, ..MemberRef::default() };
    Call::Group { group: group.into(), call: GroupCall::Commit { who, offsets: vec![offset] } }
}

impl Rig {
    fn commit(&mut self, group: &str, index: i32) -> Result<(), CallError> {
        match self.ask(commit_of(group, index, NOW.wall)) {
            Answer::CommitOffsets(result) => result,
            other => panic!("{other:?}"),
        }
    }

    /// The groups that are listed, and how many offsets `g` has.
    fn groups_and_offsets(&mut self) -> (Vec<String>, usize) {
        let Answer::ListGroups(listed) = self.ask(Call::ListGroups) else { panic!("no list") };
        let fetch = Call::FetchOffsets { group: "g".into(), partitions: None };
        let Answer::FetchOffsets(Ok(offsets)) = self.ask(fetch) else { panic!("no offsets") };
        (listed.into_iter().map(|listed| listed.group).collect(), offsets.len())
    }

    /// `g` gets a stable generation of one member that reads `t`. Returns the member's id.
    fn join_and_sync(&mut self) -> String {
        // Version 0, one topic.
        let said = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t");
        let join = JoinCall { protocols: vec![("range".into(), said)], ..join() };
        assert!(self.begin(group_call(GroupCall::Join(Box::new(join)))).is_none(), "others may come");
        let (mut out, later) = (Outbox::default(), NOW.mono.plus(RULES.initial_delay));
        self.hosted.apply_durable(Now { mono: later, ..NOW }, &self.catalog, &mut self.stats, &mut out);
        let [(_, Answer::Joined(joined))] = out.answers.as_slice() else { panic!("{:?}", out.answers) };
        let joined = (**joined).clone().expect("it has joined");
        let sync = SyncCall {
            who: MemberRef { member: joined.member.clone(), instance: None, generation: joined.generation },
            protocol_type: None,
            protocol: None,
            assignments: vec![(joined.member.clone(), Bytes::from_static(b"all"))],
        };
        let synced = self.ask(group_call(GroupCall::Sync(Box::new(sync))));
        assert!(matches!(synced, Answer::Synced(Ok(_))), "{synced:?}");
        joined.member
    }

    /// The only member of `g` leaves.
    fn leave(&mut self, member: String) {
        let left = self.ask(group_call(GroupCall::Leave(vec![Leaving { member, instance: None }])));
        assert!(matches!(left, Answer::Left(Ok(_))), "{left:?}");
        self.run();
    }

    /// A step of expiry that takes back what is older than this. Returns of which topics `g` has offsets then.
    fn expire_older(&mut self, oldest: WallMs) -> Vec<TopicId> {
        self.hosted.expire(&self.catalog, WallMs(i64::MIN), oldest, NOW);
        self.run();
        self.topics_committed()
    }

    fn topics_committed(&mut self) -> Vec<TopicId> {
        let fetch = Call::FetchOffsets { group: "g".into(), partitions: None };
        let Answer::FetchOffsets(Ok(offsets)) = self.ask(fetch) else { panic!("no offsets") };
        offsets.iter().map(|commit| commit.partition.topic).collect()
    }

    /// So many steps of expiry at this time, in which nothing is too old.
    fn expire(&mut self, steps: usize, now: Now) {
        for _ in 0..steps {
            self.hosted.expire(&self.catalog, WallMs(i64::MIN), WallMs(i64::MIN), now);
            self.run();
        }
    }

    fn delete_the_topic(&mut self) {
        self.catalog.apply(&MetaRecord::TopicDeleted { id: TOPIC }).unwrap();
        self.hosted.delete_topic(TOPIC, NOW);
        self.run();
    }

    /// After a crash, with what the metadata log says now.
    fn restart(self) -> Rig {
        let catalog = self.catalog.clone();
        let mut rig = Rig { catalog, ..self.crash(&[]) };
        rig.hosted.start(&rig.catalog, NOW);
        rig.run();
        rig
    }
}

#[test]
fn what_was_committed_for_a_deleted_topic_stays_away() {
    let mut rig = Rig::new(&[]);
    rig.commit("g", 0).unwrap();
    let mut rig = rig.restart();
    assert_eq!(rig.groups_and_offsets(), (vec!["g".to_owned()], 1), "the topic is there");
    rig.delete_the_topic();
    assert_eq!(rig.groups_and_offsets(), (vec![], 0));
    for _ in 0..2 {
        rig = rig.restart();
        assert_eq!(rig.groups_and_offsets(), (vec![], 0), "it is back");
        rig.recycle();
    }
}

#[test]
fn a_commit_that_was_under_way_when_its_topic_went_is_taken_back() {
    let mut rig = Rig::new(&[]);
    rig.delete_the_topic();
    rig.commit("g", 0).unwrap();
    for (steps, left) in [(1, 1), (59, 1), (1, 0)] {
        rig.expire(steps, NOW);
        assert_eq!(rig.groups_and_offsets().1, left, "{steps} steps later");
    }
    let mut rig = rig.crash(&[]);
    assert_eq!(rig.groups_and_offsets(), (vec![], 0), "and that is durable");
}

#[test]
fn no_clock_takes_back_what_was_committed_for_a_topic_that_is_on_its_way() {
    let mut rig = Rig::new(&[]);
    let here_later = std::mem::take(&mut rig.catalog);
    rig.commit("g", 0).unwrap();
    // The wall clock is set, or the machine stood still for a week.
    rig.expire(5, Now { wall: WallMs(NOW.wall.0 + WEEK_MS), ..NOW });
    rig.expire(5, Now { wall: WallMs(-WEEK_MS), ..NOW });
    rig.expire(5, Now { mono: Nanos(1_000_000 * WEEK_MS as u64), wall: WallMs(NOW.wall.0 + WEEK_MS) });
    assert_eq!(rig.groups_and_offsets().1, 1);
    rig.catalog = here_later;
    rig.expire(100, NOW);
    assert_eq!(rig.groups_and_offsets().1, 1);
}

#[test]
fn what_was_committed_without_members_expires_by_its_age_and_stays_away() {
    let mut rig = Rig::new(&[]);
    rig.commit("g", 0).unwrap();
    rig.commit("another", 0).unwrap();
    rig.ask(commit_of("another", 0, A_MS_LATER));
    assert_eq!(rig.expire_older(NOW.wall), [TOPIC], "it is no older than that");
    let mut rig = rig.restart();
    assert_eq!(rig.topics_committed(), [TOPIC]);
    assert_eq!(rig.expire_older(A_MS_LATER), []);
    let mut rig = rig.restart();
    assert_eq!(rig.groups_and_offsets(), (vec!["another".to_owned()], 0), "its last commit is what counts");
}

#[test]
fn the_age_of_what_a_group_committed_begins_when_its_last_member_has_left() {
    let mut rig = Rig::new(&[]);
    rig.ask(commit_of("g", 0, WallMs(NOW.wall.0 - WEEK_MS)));
    let member = rig.join_and_sync();
    rig.leave(member);
    assert_eq!(rig.expire_older(NOW.wall), [TOPIC], "the group has been empty for less");
    let mut rig = rig.crash(&[]);
    rig.hosted.start(&rig.catalog, Now { wall: WallMs(NOW.wall.0 + WEEK_MS), ..NOW });
    assert_eq!(rig.expire_older(NOW.wall), [TOPIC], "nor does a restart make it older");
    assert_eq!(rig.expire_older(A_MS_LATER), [], "or younger");
    let mut rig = rig.restart();
    assert_eq!(rig.topics_committed(), []);
}

#[test]
fn what_members_read_stays_whatever_its_age_and_what_they_do_not_read_goes() {
    let mut rig = Rig::new(&[]);
    let (configs, partitions) = (Vec::new(), vec![LOG]);
    let unread = MetaRecord::TopicCreated { id: UNREAD, name: "unread".into(), configs, partitions };
    rig.catalog.apply(&unread).expect("fits");
    rig.commit("g", 0).unwrap();
    let mut other = commit_of("g", 0, NOW.wall);
    if let Call::Group { call: GroupCall::Commit { offsets, .. }, .. } = &mut other {
        offsets[0].partition.topic = UNREAD;
    }
    rig.ask(other);
    let member = rig.join_and_sync();
    assert_eq!(rig.topics_committed(), [TOPIC, UNREAD]);
    assert_eq!(rig.expire_older(NOW.wall), [TOPIC, UNREAD], "nobody reads it, but it is not old");
    assert_eq!(rig.expire_older(WallMs(i64::MAX)), [TOPIC]);
    let mut rig = rig.restart();
    assert_eq!(rig.expire_older(WallMs(i64::MAX)), [TOPIC], "a restart is no reason");
    rig.leave(member);
    assert_eq!(rig.expire_older(A_MS_LATER), []);
}

#[test]
fn a_shard_takes_back_what_is_older_than_the_retention() {
    let mut rig = Rig::new(&[]);
    rig.commit("g", 0).unwrap();
    let (mut shard, _folder) = rig.into_shard();
    shard.config.offsets_retention_ms = WEEK_MS;
    let mut written_at = |age_ms: i64| {
        let mono = NOW.mono.plus(Duration::from_millis(age_ms as u64));
        let now = Now { mono, wall: WallMs(NOW.wall.0 + age_ms) };
        shard.submit(now, &mut Vec::new(), &mut News::default());
        shard.logs()[0].log.appended()
    };
    let before = written_at(0);
    assert_eq!(written_at(WEEK_MS), before, "it is a week old, and no older");
    assert!(written_at(WEEK_MS + 1000) > before);
}

#[test]
fn a_group_without_members_is_forgotten_after_a_while_and_not_when_a_clock_is_set() {
    let mut rig = Rig::new(&[]);
    let group = |call| Call::Group { group: "g".into(), call };
    let at = |seconds: u64, wall_ms: i64| Now {
        mono: NOW.mono.plus(Duration::from_secs(seconds)),
        wall: WallMs(NOW.wall.0 + wall_ms),
    };
    let join = JoinCall { rebalance_timeout: Duration::from_secs(10), ..join() };
    assert!(rig.begin(group(GroupCall::Join(Box::new(join)))).is_none(), "others may come");
    let mut out = Outbox::default();
    rig.hosted.apply_durable(at(4, 4_000), &rig.catalog, &mut rig.stats, &mut out);
    let [(_, Answer::Joined(joined))] = out.answers.as_slice() else { panic!("{:?}", out.answers) };
    let member = (**joined).as_ref().expect("it has joined").member.clone();
    let left = rig.ask(group(GroupCall::Leave(vec![Leaving { member, instance: None }])));
    assert!(matches!(left, Answer::Left(Ok(_))), "{left:?}");
    rig.run();
    for (seconds, wall_ms, listed) in [(5, WEEK_MS, 1), (500, -WEEK_MS, 1), (700, 700_000, 0)] {
        rig.expire(1, at(seconds, wall_ms));
        assert_eq!(rig.groups_and_offsets().0.len(), listed, "{seconds}");
    }
}

#[test]
fn offsets_share_the_budget_of_the_groups() {
    let mut rig = Rig::new(&[]);
    let group = |index: usize| format!("group {index}");
    let mut count = 0;
    let refused = loop {
        match rig.commit(&group(count), 0) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, CallError::Group(GroupError::GroupsFull));
    assert!((20..RULES.total_bytes_max / 1000).contains(&count), "{count} commits of 1,000 bytes");

    let mut rig = rig.restart();
    assert_eq!(rig.groups_and_offsets().0.len(), count, "a restart refuses nothing");
    rig.commit(&group(0), 0).expect("takes no more than before");
    let refused = (1..10).find_map(|index| rig.commit(&group(0), index).err());
    assert_eq!(refused, Some(GroupError::GroupsFull.into()), "more partitions");
    let delete = Call::Group { group: group(1), call: GroupCall::Delete };
    assert!(matches!(rig.ask(delete), Answer::DeleteGroup(Ok(()))));
    rig.commit("another", 0).expect("there is room again");
}

#[test]
fn the_operator_is_told_once_a_minute_that_groups_have_used_up_their_memory() {
    let mut rig = Rig::new(&[]);
    let messages_at = |rig: &mut Rig, seconds: u64, group: &str| {
        let full = (0..100).find_map(|index| rig.commit(&format!("{group} {index}"), 0).err());
        assert_eq!(full, Some(GroupError::GroupsFull.into()), "{group}");
        let mono = NOW.mono.plus(Duration::from_secs(seconds));
        let mut out = Outbox::default();
        rig.hosted.apply_durable(Now { mono, ..NOW }, &rig.catalog, &mut rig.stats, &mut out);
        out.messages
    };
    let first = messages_at(&mut rig, 0, "a");
    assert!(first.len() == 1 && first[0].starts_with("log 1: "), "{first:?}");
    assert!(first[0].contains("kafka.groups_bytes_max") && first[0].contains("group delete"), "{first:?}");
    assert_eq!(messages_at(&mut rig, 59, "b"), [""; 0]);
    assert_eq!(rig.run().messages, [""; 0]);
    assert_eq!(messages_at(&mut rig, 60, "c"), first);

    let (mut shard, _folder) = rig.into_shard();
    let (ticket, mut news) = (ORIGIN.ticket, News::default());
    shard.call(LOG, ticket, commit_of("d", 0, NOW.wall), NOW);
    let later = Now { mono: NOW.mono.plus(Duration::from_secs(120)), ..NOW };
    shard.apply_durable(later, &mut news);
    assert_eq!(news.messages, first, "the shard passes it on");
}

#[test]
fn gauges_count_groups_and_all_that_they_take() {
    let mut rig = Rig::new(&[]);
    let gauges = |rig: &Rig| {
        let gauges = rig.hosted.gauges();
        ((gauges.groups, gauges.groups_with_offsets), gauges.groups_bytes)
    };
    assert_eq!(gauges(&rig), ((0, 0), 0));
    rig.commit("g", 0).unwrap();
    let (groups, with_offsets) = gauges(&rig);
    assert!(groups == (0, 1) && (1000..4000).contains(&with_offsets), "{groups:?} with {with_offsets}");
    rig.join_and_sync();
    let (groups, with_a_member) = gauges(&rig);
    assert!(groups == (1, 1) && with_a_member > with_offsets + 100, "{groups:?} with {with_a_member}");
    rig.commit("another", 0).unwrap();
    let (groups, all) = gauges(&rig);
    assert!(groups == (1, 2) && all > with_a_member + 1000, "{groups:?} with {all}");
    let rig = rig.restart();
    assert_eq!(gauges(&rig).0, (1, 2));
}

#[test]
fn a_group_that_fills_the_budget_by_itself_is_not_told_to_come_again() {
    let mut rig = Rig::new(&[]);
    let refused = (0..).find_map(|index| rig.commit("alone", index).err());
    assert_eq!(refused, Some(GroupError::OffsetsTooLarge.into()));
    rig.commit("alone", 0).expect("takes no more than before");
    assert_eq!(rig.commit("another", 0), Err(GroupError::GroupsFull.into()), "of it there is little");
    let join = JoinCall {
        member: String::new(),
        instance: None,
        client_id: "c".into(),
        client_host: "h".into(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(10),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), vec![7; 1000].into())],
        needs_id: false,
        can_skip: false,
    };
    for (name, error) in [("alone", GroupError::GroupFull), ("another", GroupError::GroupsFull)] {
        let call = GroupCall::Join(Box::new(join.clone()));
        match rig.ask(Call::Group { group: name.to_owned(), call }) {
            Answer::Joined(joined) => assert_eq!(*joined, Err(error.into()), "{name}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_commit_of_which_nothing_can_be_kept_is_judged_at_once_and_stores_nothing() {
    let mut rig = Rig::new(&[]);
    let member = rig.join_and_sync();
    let table = [
        (1, member.as_str(), Ok(())),
        (7, member.as_str(), Err(GroupError::IllegalGeneration.into())),
        (1, "stranger", Err(GroupError::UnknownMember.into())),
        (-1, "", Err(GroupError::UnknownMember.into())),
    ];
    for (generation, member, expected) in table {
        let who = MemberRef { member: member.to_owned(), instance: None, generation };
        let commit = group_call(GroupCall::Commit { who, offsets: Vec::new() });
        let Some(Answer::CommitOffsets(judged)) = rig.begin(commit) else { panic!("nothing to wait for") };
        assert_eq!(judged, expected, "{member} of {generation}");
    }
    assert_eq!(rig.groups_and_offsets(), (vec!["g".to_owned()], 0));
}

#[test]
fn a_group_of_which_only_offsets_are_kept_is_there_and_has_no_members() {
    let mut rig = Rig::new(&[]);
    let commit = || {
        let who = MemberRef { member: "m".to_owned(), instance: None, generation: 1 };
        group_call(GroupCall::Commit { who, offsets: Vec::new() })
    };
    let judged = |rig: &mut Rig| match rig.begin(commit()) {
        Some(Answer::CommitOffsets(judged)) => judged,
        other => panic!("{other:?}"),
    };
    assert_eq!(judged(&mut rig), Err(GroupError::UnknownGroup.into()));
    rig.commit("g", 0).unwrap();
    assert_eq!(judged(&mut rig), Err(GroupError::UnknownMember.into()));
}
