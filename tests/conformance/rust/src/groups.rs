//! Cases of groups: members that join, leave, crash, or are static; commits and resets.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::clients::{PARTITIONS, admin, consumer, create, offset_of, options, sample_records, send};
use crate::{Run, WAIT_MAX, patient, until};

const GROUP_PARTITIONS: i32 = 6;
const SESSION: Duration = Duration::from_secs(6);

/// Counts the assignments that a member gets.
#[derive(Default)]
struct OnRebalance(AtomicUsize);

impl ClientContext for OnRebalance {}

impl ConsumerContext for OnRebalance {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Member {
    consumer: BaseConsumer<OnRebalance>,
    topic: String,
    records: Vec<(i32, i64)>,
}

impl Member {
    fn new(bootstrap: &str, group: &str, topic: &str, strategy: &str, instance: Option<&str>) -> Member {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("group.id", group)
            .set("partition.assignment.strategy", strategy)
            .set("session.timeout.ms", SESSION.as_millis().to_string())
            .set("heartbeat.interval.ms", "500")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false");
        if let Some(instance) = instance {
            config.set("group.instance.id", instance);
        }
        let consumer: BaseConsumer<_> = config.create_with_context(OnRebalance::default()).expect("a member");
        consumer.subscribe(&[topic]).expect("subscribe");
        Member { consumer, topic: topic.to_owned(), records: Vec::new() }
    }

    fn assigned(&self) -> Vec<i32> {
        let found = self.consumer.assignment().expect("an assignment");
        let mut partitions: Vec<_> = found.elements().iter().map(|element| element.partition()).collect();
        partitions.sort_unstable();
        partitions
    }

    fn rebalances(&self) -> usize {
        self.consumer.context().0.load(Ordering::Relaxed)
    }

    fn poll(&mut self) {
        let mut wait = Duration::from_millis(10);
        while let Some(Ok(message)) = self.consumer.poll(wait) {
            self.records.push(offset_of(&message));
            wait = Duration::ZERO;
        }
    }

    fn commit(&self, offsets: &[(i32, i64)]) {
        let asked = list(&self.topic, offsets);
        patient(|| self.consumer.commit(&asked, CommitMode::Sync));
    }
}

fn list(topic: &str, offsets: &[(i32, i64)]) -> TopicPartitionList {
    let mut made = TopicPartitionList::new();
    for &(partition, offset) in offsets {
        made.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a partition");
    }
    made
}

/// Waits until these members own all partitions, each partition one of them.
fn await_shares(what: &str, members: &mut [&mut Member]) {
    until(what, || {
        members.iter_mut().for_each(|member| member.poll());
        let mut owned: Vec<i32> = members.iter().flat_map(|member| member.assigned()).collect();
        owned.sort_unstable();
        owned == (0..GROUP_PARTITIONS).collect::<Vec<_>>()
            && members.iter().all(|member| !member.assigned().is_empty())
    });
}

fn poll_for(members: &mut [&mut Member], time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        members.iter_mut().for_each(|member| member.poll());
    }
}

/// A member in a process of its own, made to be killed: it prints how many partitions it has.
pub fn member_main(bootstrap: &str, group: &str, topic: &str, strategy: &str) -> ! {
    let mut member = Member::new(bootstrap, group, topic, strategy, None);
    let mut told = 0;
    loop {
        member.poll();
        if member.assigned().len() != told {
            told = member.assigned().len();
            println!("{told}");
        }
    }
}

pub fn members(run: &Run) {
    create(run, GROUP_PARTITIONS, &[]);
    let (group, strategy) = (format!("{}-members", run.topic), run.arg("strategy"));
    let join = || Member::new(&run.bootstrap, &group, &run.topic, strategy, None);
    let (mut first, mut second) = (join(), join());
    await_shares("two members", &mut [&mut first, &mut second]);
    let program = std::env::current_exe().expect("this program");
    let mut third = Command::new(program)
        .args(["member", &run.bootstrap, &group, &run.topic, strategy])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the third member");
    let output = third.stdout.take().expect("piped");
    let (tell, told) = channel();
    let reader = spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).all(|line| tell.send(line).is_ok())
    });
    // The others are polled until it has told: a cooperative rebalance has more than one step.
    let mut last = String::new();
    until("a third member", || {
        first.poll();
        second.poll();
        last = told.try_iter().last().unwrap_or(std::mem::take(&mut last));
        last == "2" && first.assigned().len() + second.assigned().len() == 4
    });
    third.kill().expect("kill the third member");
    third.wait().expect("its end");
    reader.join().expect("the reader ends with it");
    await_shares("the third was killed", &mut [&mut first, &mut second]);
    drop(second);
    await_shares("the second has left", &mut [&mut first]);
    let listed = first.consumer.fetch_group_list(Some(&group), WAIT_MAX).expect("the group");
    assert_eq!(listed.groups().len(), 1, "the group is not listed");
    assert_eq!((listed.groups()[0].state(), listed.groups()[0].members().len()), ("Stable", 1));
    drop(first);
    let delete =
        || block_on(admin(run).delete_groups(&[&group], &options())).expect("delete groups").remove(0);
    assert!(delete().is_ok(), "delete the group");
    let gone = delete().map_err(|(_, code)| code);
    assert_eq!(gone, Err(RDKafkaErrorCode::GroupIdNotFound), "a group that is gone");
}

/// Restarts of a static member, and of the broker, are no reason for anybody to be rebalanced.
pub fn static_members(run: &Run) {
    create(run, GROUP_PARTITIONS, &[]);
    let group = format!("{}-static", run.topic);
    let join = |name| Member::new(&run.bootstrap, &group, &run.topic, "range", Some(name));
    let (mut one, mut two) = (join("one"), join("two"));
    await_shares("two static members", &mut [&mut one, &mut two]);
    let (before, owned) = (two.rebalances(), one.assigned());
    drop(one);
    let mut one = join("one");
    await_shares("the first came back", &mut [&mut one, &mut two]);
    assert_eq!(one.assigned(), owned, "what it had");
    for member in [&one, &two] {
        let own: Vec<_> = member.assigned().into_iter().map(|p| (p, 10 + i64::from(p))).collect();
        member.commit(&own);
    }
    for how in ["kill", "term"] {
        run.restart(how);
        // Longer than a session: whoever was not recognised would be gone by then.
        poll_for(&mut [&mut one, &mut two], SESSION + Duration::from_secs(2));
        await_shares(how, &mut [&mut one, &mut two]);
    }
    assert_eq!(two.rebalances(), before, "rebalances of a member that never went");
    let expected: Vec<_> = (0..GROUP_PARTITIONS).map(|p| Some(10 + i64::from(p))).collect();
    assert_eq!(committed(run, &group, GROUP_PARTITIONS), expected);
}

fn committed(run: &Run, group: &str, partitions: i32) -> Vec<Option<i64>> {
    let consumer = consumer(run, &[("group.id", group)]);
    let asked: Vec<_> = (0..partitions).map(|p| (p, 0)).collect();
    let found = patient(|| consumer.committed_offsets(list(&run.topic, &asked), WAIT_MAX));
    found.elements().iter().map(|element| element.offset().to_raw().filter(|offset| *offset >= 0)).collect()
}

/// Commits under a group id, without members.
fn try_commit(run: &Run, group: &str, offsets: &[(i32, i64)]) -> rdkafka::error::KafkaResult<()> {
    let consumer = consumer(run, &[("group.id", group)]);
    consumer.commit(&list(&run.topic, offsets), CommitMode::Sync)
}

/// Offsets committed without members survive restarts of both kinds.
pub fn offsets(run: &Run) {
    create(run, PARTITIONS, &[]);
    send(run, &sample_records(90, PARTITIONS), &[]);
    let group = format!("{}-group", run.topic);
    assert_eq!(committed(run, &group, PARTITIONS), [None; 3], "before any commit");
    patient(|| try_commit(run, &group, &[(0, 5), (1, 7)]));
    assert_eq!(committed(run, &group, PARTITIONS), [Some(5), Some(7), None], "after the first commit");
    run.restart("term");
    assert_eq!(committed(run, &group, PARTITIONS), [Some(5), Some(7), None], "after a restart");
    patient(|| try_commit(run, &group, &[(0, 6), (1, 30), (2, 0)]));
    run.restart("kill");
    assert_eq!(committed(run, &group, PARTITIONS), [Some(6), Some(30), Some(0)], "after kill -9");
}

/// A group reads on where it committed, from the start when it was reset, and only its members commit.
pub fn commits(run: &Run) {
    create(run, PARTITIONS, &[]);
    send(run, &sample_records(90, PARTITIONS), &[]);
    let group = format!("{}-commits", run.topic);
    // A new, only member gets so many records, the first of each partition at these offsets.
    let expect = |count: usize, firsts: [i64; 3], before_leaving: &dyn Fn(&Member)| {
        let mut member = Member::new(&run.bootstrap, &group, &run.topic, "range", None);
        until("records of the group", || {
            member.poll();
            member.records.len() >= count
        });
        sleep(Duration::from_millis(50));
        member.poll();
        assert_eq!(member.records.len(), count, "records");
        let mut got = BTreeMap::new();
        for &(partition, offset) in &member.records {
            got.entry(partition).or_insert(offset);
        }
        assert_eq!(got.into_values().collect::<Vec<_>>(), firsts, "first offsets");
        before_leaving(&member);
    };
    expect(90, [0, 0, 0], &|member| member.commit(&[(0, 5), (1, 10), (2, 29)]));
    expect(46, [5, 10, 29], &|_| {
        let refused = try_commit(run, &group, &[(0, 0)]).map_err(|error| error.rdkafka_error_code());
        assert_eq!(refused, Err(Some(RDKafkaErrorCode::UnknownMemberId)), "into a group that has members");
    });
    patient(|| try_commit(run, &group, &[(0, 0), (1, 0), (2, 0)]));
    expect(90, [0, 0, 0], &|_| {});
}
