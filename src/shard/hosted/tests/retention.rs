//! What retention and DeleteRecords take away, and what becomes of its space.

use super::*;

#[test]
fn a_start_that_delete_records_reported_outlives_a_crash() {
    // Retention keeps the last batch alone, in memory only.
    let mut rig = Rig::new(&[("retention.bytes", "1")]);
    for timestamp in 0..3 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    rig.retain();
    assert_eq!(rig.start(), 2);
    assert_eq!(rig.delete_before(1), 2, "nothing is left to delete");

    let mut rig = rig.crash(&[]);
    assert_eq!(rig.start(), 2, "what was reported as deleted is back");
    assert_eq!(rig.delete_before(0), 2);
}

#[test]
fn retention_comes_to_the_same_end_before_anybody_looks() {
    let configs = [("retention.bytes", "1")];
    let mut rig = Rig::new(&configs);
    for timestamp in 0..3 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    rig.retain();
    assert_eq!(rig.start(), 2);

    let (mut shard, _folder) = rig.crash(&configs).into_shard();
    shard.start(NOW);
    let partitions = &shard.logs()[0].partitions;
    let slot = partitions.slot(KEY).unwrap();
    assert_eq!(partitions.get(slot).unwrap().log_start(), Offset(2));
}

#[test]
fn a_dead_segment_gets_its_checkpoint_at_once() {
    let mut rig = Rig::new(&[("retention.bytes", "1")]);
    for timestamp in 0..4 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    rig.retain();
    let (mut shard, _folder) = rig.into_shard();
    let (mut ops, mut news) = (Vec::new(), News::default());
    shard.submit(NOW, &mut ops, &mut news);
    let checkpoints = news.jobs.iter().filter(|job| matches!(job.job, Job::Checkpoint { .. }));
    assert_eq!(checkpoints.count(), 1, "{:?}", news.jobs);
}

#[test]
fn a_partition_takes_what_its_live_records_take() {
    let mut rig = Rig::new(&[("retention.bytes", "1")]);
    let sizes = |rig: &mut Rig, partitions| match rig.ask(Call::PartitionSizes { partitions }) {
        Answer::PartitionSizes(Ok(sizes)) => sizes,
        other => panic!("{other:?}"),
    };
    assert!(sizes(&mut rig, None).is_empty());
    for timestamp in 0..3 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    let of_three = sizes(&mut rig, None);
    let [(KEY, bytes)] = of_three[..] else { panic!("{of_three:?}") };
    assert!((3 * WHOLE_CHUNK as u64..4 * WHOLE_CHUNK as u64).contains(&bytes), "{bytes}");
    let other = PartitionKey { index: 1, ..KEY };
    assert_eq!(sizes(&mut rig, Some(vec![other, KEY])), of_three, "the other has none");
    rig.retain();
    assert_eq!(sizes(&mut rig, Some(vec![KEY])), [(KEY, bytes / 3)]);
}

#[test]
fn retention_finds_what_is_due_without_looking_at_the_rest() {
    let mut rig = Rig::new(&[("retention.ms", "1000")]);
    for age in [100, 50, 0] {
        rig.append(&[NOW.wall.0 - age], WHOLE_CHUNK);
    }
    let retain = |rig: &mut Rig, after: i64| {
        let now = WallMs(NOW.wall.0 + after);
        while !rig.hosted.retain(&rig.catalog, Retention::default(), now) {}
        rig.start()
    };
    // The second it was appended in counts in full, but these are older by their timestamps.
    assert_eq!(retain(&mut rig, 900), 0);
    assert_eq!(rig.hosted.retention.next(WallMs(NOW.wall.0 + 900)), None, "nothing has changed");
    assert_eq!((retain(&mut rig, 901), retain(&mut rig, 950), retain(&mut rig, 951)), (1, 1, 2));
    // What is configured anew is looked at without a record.
    rig.catalog = catalog(&[("retention.ms", "10")]);
    assert_eq!(retain(&mut rig, 951), 2, "nobody has said so");
    rig.hosted.on_configs_changed(TOPIC);
    assert_eq!(retain(&mut rig, 951), 3);
    // A clock that goes back keeps what comes.
    rig.append(&[NOW.wall.0 - 5], 100);
    assert_eq!((retain(&mut rig, 0), retain(&mut rig, 5), retain(&mut rig, 6)), (3, 3, 4));
}
