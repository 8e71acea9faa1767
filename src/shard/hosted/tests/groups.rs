//! What a log keeps of groups: within its budget, and no longer than the topics that it is about.

use super::*;
use crate::group::GroupError;
use crate::partition::group_offsets::CommittedOffset;

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
    let later = |ms: i64| Now { wall: WallMs(NOW.wall.0 + ms), ..NOW };
    for (ms, left) in [(1_000, 1), (120_000, 0)] {
        rig.hosted.expire(&rig.catalog, WallMs(0), WallMs(0), later(ms));
        rig.run();
        assert_eq!(rig.groups_and_offsets().1, left, "{ms} ms later");
    }
    let mut rig = rig.crash(&[]);
    assert_eq!(rig.groups_and_offsets(), (vec![], 0), "and that is durable");
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
    assert_eq!(refused, CallError::Group(GroupError::GroupFull));
    assert!((40..GROUP_RULES.total_bytes_max / 1000).contains(&count), "{count} commits of 1,000 bytes");

    let mut rig = rig.restart();
    assert_eq!(rig.groups_and_offsets().0.len(), count, "a restart refuses nothing");
    rig.commit(&group(0), 0).expect("takes no more than before");
    assert_eq!(rig.commit(&group(0), 1), Err(GroupError::GroupFull.into()), "another partition");
    let delete = Call::Group { group: group(1), call: GroupCall::Delete };
    assert!(matches!(rig.ask(delete), Answer::DeleteGroup(Ok(()))));
    rig.commit("another", 0).expect("there is room again");
}
