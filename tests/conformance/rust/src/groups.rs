//! Cases of groups: members that join, leave, crash, or are static; commits and resets.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
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
/// Of one that comes back in time: a program takes its time to start on a busy machine.
const LONG_SESSION: Duration = Duration::from_secs(30);

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
    /// `place`: the instance id of a static member, and its session timeout.
    fn new(
        bootstrap: &str,
        group: &str,
        topic: &str,
        strategy: &str,
        place: Option<(&str, Duration)>,
    ) -> Member {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("group.id", group)
            .set("partition.assignment.strategy", strategy)
            .set("session.timeout.ms", SESSION.as_millis().to_string())
            .set("heartbeat.interval.ms", "500")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false");
        if let Some((instance, session)) = place {
            config.set("group.instance.id", instance);
            config.set("session.timeout.ms", session.as_millis().to_string());
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

    fn is_fenced(&self) -> bool {
        matches!(self.consumer.client().fatal_error(), Some((RDKafkaErrorCode::FencedInstanceId, _)))
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

fn all_partitions() -> Vec<i32> {
    (0..GROUP_PARTITIONS).collect()
}

/// Waits until these members own all partitions, each partition one of them.
fn await_shares(what: &str, members: &mut [&mut Member]) {
    until(what, || {
        members.iter_mut().for_each(|member| member.poll());
        let mut owned: Vec<i32> = members.iter().flat_map(|member| member.assigned()).collect();
        owned.sort_unstable();
        owned == all_partitions() && members.iter().all(|member| !member.assigned().is_empty())
    });
}

fn poll_for(members: &mut [&mut Member], time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        members.iter_mut().for_each(|member| member.poll());
    }
}

/// A member in a process of its own, which dies with this value, and what it told last.
struct MemberProcess {
    child: Child,
    told: Receiver<Vec<i32>>,
    owned: Vec<i32>,
}

impl MemberProcess {
    fn start(run: &Run, group: &str, strategy: &str, place: Option<(&str, Duration)>) -> MemberProcess {
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new(program);
        command.args(["member", &run.bootstrap, group, &run.topic, strategy]);
        if let Some((instance, session)) = place {
            command.args([instance, &session.as_secs().to_string()]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a member");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (tell, told) = channel();
        // It ends when the process does.
        spawn(move || {
            output.lines().map_while(Result::ok).all(|line| {
                tell.send(line.split(',').filter_map(|number| number.parse().ok()).collect()).is_ok()
            })
        });
        MemberProcess { child, told, owned: Vec::new() }
    }

    fn owned(&mut self) -> &[i32] {
        if let Some(last) = self.told.try_iter().last() {
            self.owned = last;
        }
        &self.owned
    }
}

impl Drop for MemberProcess {
    fn drop(&mut self) {
        // SIGKILL. An error says that it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program of such a process: it prints which partitions it has, each time that they change.
pub fn member_main(args: &[String]) -> ! {
    let [bootstrap, group, topic, strategy, place @ ..] = args else { panic!("arguments of a member") };
    let place = match place {
        [instance, seconds] => {
            Some((instance.as_str(), Duration::from_secs(seconds.parse().expect("a session timeout"))))
        }
        _ => None,
    };
    let mut member = Member::new(bootstrap, group, topic, strategy, place);
    let mut told = Vec::new();
    loop {
        member.poll();
        let owned = member.assigned();
        if owned != told {
            told = owned;
            println!("{}", told.iter().map(i32::to_string).collect::<Vec<_>>().join(","));
        }
    }
}

/// Waits until two members and one in a process share the partitions.
fn await_third(what: &str, first: &mut Member, second: &mut Member, third: &mut MemberProcess) {
    until(what, || {
        first.poll();
        second.poll();
        let mut owned = [&first.assigned()[..], &second.assigned()[..], third.owned()].concat();
        owned.sort_unstable();
        owned == all_partitions() && !third.owned.is_empty()
    });
}

pub fn members(run: &Run) {
    create(run, GROUP_PARTITIONS, &[]);
    let (group, strategy) = (format!("{}-members", run.topic), run.arg("strategy"));
    let join = || Member::new(&run.bootstrap, &group, &run.topic, strategy, None);
    let (mut first, mut second) = (join(), join());
    await_shares("two members", &mut [&mut first, &mut second]);
    let mut third = MemberProcess::start(run, &group, strategy, None);
    // The others are polled until it has told: a cooperative rebalance has more than one step.
    await_third("a third member", &mut first, &mut second, &mut third);
    drop(third);
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
    let join = |name| Member::new(&run.bootstrap, &group, &run.topic, "range", Some((name, SESSION)));
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

/// Who comes back within its session finds its partitions, and nobody is rebalanced; who stays away loses them.
pub fn static_killed(run: &Run) {
    create(run, GROUP_PARTITIONS, &[]);
    let group = format!("{}-killed", run.topic);
    let join = |name| Member::new(&run.bootstrap, &group, &run.topic, "range", Some((name, SESSION)));
    let third = |session| MemberProcess::start(run, &group, "range", Some(("three", session)));
    let (mut one, mut two) = (join("one"), join("two"));
    let mut killed = third(LONG_SESSION);
    await_third("three static members", &mut one, &mut two, &mut killed);
    let (before, left) = ([one.rebalances(), two.rebalances()], killed.owned().to_vec());
    drop(killed);
    let mut again = third(SESSION);
    until("the third came back", || {
        one.poll();
        two.poll();
        again.owned() == left
    });
    assert_eq!([one.rebalances(), two.rebalances()], before, "rebalances of members that never went");
    await_third("after the third came back", &mut one, &mut two, &mut again);
    drop(again);
    await_shares("the third stayed away", &mut [&mut one, &mut two]);
}

/// Who comes with the instance id of one that lives takes its place, and the other is told so.
pub fn static_fenced(run: &Run) {
    create(run, GROUP_PARTITIONS, &[]);
    let group = format!("{}-fenced", run.topic);
    let join = |name| Member::new(&run.bootstrap, &group, &run.topic, "range", Some((name, SESSION)));
    let (mut one, mut two) = (join("one"), join("two"));
    await_shares("two static members", &mut [&mut one, &mut two]);
    let (place, before) = (one.assigned(), two.rebalances());
    let mut again = join("one");
    until("another one", || {
        [&mut one, &mut two, &mut again].into_iter().for_each(Member::poll);
        again.assigned() == place && one.is_fenced()
    });
    assert_eq!(two.rebalances(), before, "rebalances of a member that never went");
    await_shares("the first was told", &mut [&mut two, &mut again]);
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
