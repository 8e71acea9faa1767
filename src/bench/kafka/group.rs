//! Members of consumer groups, by the classic protocol: they join, heartbeat, commit and leave as
//! clients do, each on an ordinary thread with a connection of its own.
//!
//! Records are read by the load threads, whose books of a partition need no lock because it stays
//! where it is. So the assignor is ours: a member's subscription says which partitions its thread
//! has, and the leader assigns each member just these.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::codes::code;
use super::control::{KafkaControl, follow};
use super::group_answers::{self as answers, Committed, Joining, Wish};
use super::wire::{Api, Writer};
use crate::bench::driver::Malformed;
use crate::bench::error::BenchError;
use crate::bench::groups::{GroupWork, Members, Positions, Share};
use crate::bench::topics::Topics;

/// As in Kafka's consumers.
const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 30_000;
const HEARTBEAT: Duration = Duration::from_secs(3);
const COMMIT: Duration = Duration::from_secs(1);
/// While members still come, they ask more often whether to join again.
const JOINING: Duration = Duration::from_millis(50);
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(100);
const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "ringmq-bench";

const COORDINATOR_LOADING: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;

/// What all members have in common.
struct Common {
    /// Of the broker that is asked who coordinates a group.
    address: SocketAddr,
    /// It may be another. A single node is the one that was asked, whatever it calls itself.
    several_nodes: bool,
    topics: Topics,
    /// Connect again when the connection is lost.
    reconnect: bool,
    /// The generation that each member is in, by group and member.
    generations: Mutex<Vec<Vec<Option<i32>>>>,
}

/// Everybody who has joined; dropped, they leave.
pub struct Joined {
    threads: Vec<JoinHandle<Result<GroupWork, BenchError>>>,
    leave: Vec<Sender<()>>,
}

impl Joined {
    /// Join all groups, and wait until each is complete and has its assignments.
    ///
    /// # Errors
    /// The broker speaks no group protocol; a group does not come together in time.
    pub fn join(
        address: SocketAddr,
        several_nodes: bool,
        topics: &Topics,
        shares: Vec<Share>,
        positions: &[Arc<Positions>],
        reconnect: bool,
    ) -> Result<Joined, BenchError> {
        KafkaControl::connect(address)?.require(&Api::GROUPS)?;
        let mut generations = vec![Vec::new(); positions.len()];
        let mut numbered = Vec::new();
        for share in shares {
            numbered.push((generations[share.group].len(), share.clone()));
            generations[share.group].push(None);
        }
        let topics = topics.clone();
        let generations = Mutex::new(generations);
        let common = Arc::new(Common { address, several_nodes, topics, reconnect, generations });
        let mut members = Joined { threads: Vec::new(), leave: Vec::new() };
        for (number, share) in numbered {
            let (leave, left) = channel();
            let common = common.clone();
            let positions = positions[share.group].clone();
            members.leave.push(leave);
            members
                .threads
                .push(std::thread::spawn(move || Member::new(common, number, share, positions, left)?.run()));
        }
        let deadline = Instant::now() + JOIN_TIMEOUT;
        while !common.is_complete() {
            if Instant::now() > deadline || members.threads.iter().any(JoinHandle::is_finished) {
                let reason = members.end().err().map_or("in time".to_owned(), |error| error.to_string());
                return Err(BenchError::Options(format!("the groups did not come together: {reason}")));
            }
            std::thread::sleep(JOINING);
        }
        Ok(members)
    }

    fn end(mut self) -> Result<GroupWork, BenchError> {
        self.leave.clear();
        let mut sum = GroupWork::default();
        let mut failure = None;
        for thread in self.threads.drain(..) {
            match thread.join().unwrap_or(Err(BenchError::Panicked)) {
                Ok(work) => {
                    sum.members += work.members;
                    sum.heartbeats += work.heartbeats;
                    sum.commits += work.commits;
                    sum.rebalances += work.rebalances;
                    sum.offsets_wrong += work.offsets_wrong;
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(sum), Err)
    }
}

impl Members for Joined {
    fn leave(self: Box<Self>) -> Result<GroupWork, BenchError> {
        (*self).end()
    }
}

impl Common {
    /// All members of each group are in the same generation.
    fn is_complete(&self) -> bool {
        let generations = self.generations.lock().expect("no member panics while it holds this");
        generations.iter().all(|group| group.iter().all(|member| member.is_some() && *member == group[0]))
    }

    fn set_generation(&self, group: usize, number: usize, generation: Option<i32>) {
        let mut generations = self.generations.lock().expect("no member panics while it holds this");
        generations[group][number] = generation;
    }
}

struct Member {
    common: Arc<Common>,
    number: usize,
    group: usize,
    name: String,
    /// Topic and partitions in it, and the same counted through.
    partitions: Vec<(usize, Vec<(i32, i32)>)>,
    positions: Arc<Positions>,
    left: Receiver<()>,
    control: KafkaControl,
    id: String,
    generation: i32,
    work: GroupWork,
}

/// What a request of a member came to.
enum Answer {
    Done,
    /// Join again, as the same member or as a new one.
    JoinAgain,
}

impl Member {
    fn new(
        common: Arc<Common>,
        number: usize,
        share: Share,
        positions: Arc<Positions>,
        left: Receiver<()>,
    ) -> Result<Member, BenchError> {
        let mut partitions: Vec<(usize, Vec<(i32, i32)>)> = Vec::new();
        for &counted in &share.partitions {
            let (topic, partition) = common.topics.place(counted);
            match partitions.last_mut().filter(|(last, _)| *last == topic) {
                Some((_, of_topic)) => of_topic.push((partition, counted)),
                None => partitions.push((topic, vec![(partition, counted)])),
            }
        }
        let control = KafkaControl::connect(common.address)?;
        Ok(Member {
            name: format!("{}-group-{}", common.topics.names()[0], share.group),
            group: share.group,
            common,
            number,
            partitions,
            positions,
            left,
            control,
            id: String::new(),
            generation: -1,
            work: GroupWork { members: 1, ..GroupWork::default() },
        })
    }

    fn run(mut self) -> Result<GroupWork, BenchError> {
        loop {
            match self.stay() {
                Err(
                    BenchError::Connection { .. }
                    | BenchError::NotKafka { .. }
                    | BenchError::Connect { .. }
                    | BenchError::Node { .. },
                ) if self.common.reconnect => {
                    // The load goes on as well, and ends in time.
                    if self.is_over(RETRY) {
                        return Ok(self.work);
                    }
                    if let Ok(control) = KafkaControl::connect(self.common.address) {
                        self.control = control;
                    }
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(self.work),
            }
        }
    }

    /// Whether it is time to leave; waits for that so long.
    fn is_over(&self, wait: Duration) -> bool {
        !matches!(self.left.recv_timeout(wait), Err(RecvTimeoutError::Timeout))
    }

    /// Be a member until it is time to leave.
    fn stay(&mut self) -> Result<(), BenchError> {
        self.find_coordinator()?;
        self.join()?;
        let (mut beat_at, mut commit_at) = (Instant::now() + HEARTBEAT, Instant::now() + COMMIT);
        loop {
            let complete = self.common.is_complete();
            let wait = if complete {
                beat_at.min(commit_at).saturating_duration_since(Instant::now())
            } else {
                JOINING
            };
            if self.is_over(wait) {
                break;
            }
            let now = Instant::now();
            let mut answer = Answer::Done;
            if !complete || now >= beat_at {
                answer = self.heartbeat()?;
                beat_at = now + HEARTBEAT;
            } else if now >= commit_at {
                answer = self.commit()?;
                commit_at = now + COMMIT;
            }
            if let Answer::JoinAgain = answer {
                self.work.rebalances += u64::from(complete);
                self.join()?;
            }
        }
        while let Answer::JoinAgain = self.commit()? {
            self.join()?;
        }
        self.work.offsets_wrong = self.count_wrong_offsets()?;
        self.leave()
    }

    /// Go to the group's coordinator. A broker gets ready for groups when it is first asked for one.
    fn find_coordinator(&mut self) -> Result<(), BenchError> {
        let deadline = Instant::now() + JOIN_TIMEOUT;
        loop {
            let answer = self.control.call(Api::FIND_COORDINATOR, |out| out.string(&self.name))?;
            match answers::coordinator(&answer)? {
                Ok(node) => {
                    if self.common.several_nodes
                        && let Some((_, control)) =
                            follow(self.common.address, "a group's coordinator", &node)?
                    {
                        self.control = control;
                    }
                    return Ok(());
                }
                Err(COORDINATOR_LOADING | COORDINATOR_NOT_AVAILABLE) if Instant::now() < deadline => {
                    std::thread::sleep(RETRY);
                }
                Err(code) => return Err(refused(Api::FIND_COORDINATOR, code)),
            }
        }
    }

    /// Join and get what was assigned, as often as it takes.
    fn join(&mut self) -> Result<(), BenchError> {
        let deadline = Instant::now() + JOIN_TIMEOUT;
        loop {
            self.common.set_generation(self.group, self.number, None);
            if let Some(assignments) = self.join_group()?
                && self.sync_group(&assignments)?
            {
                self.common.set_generation(self.group, self.number, Some(self.generation));
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(refused(Api::JOIN_GROUP, REBALANCE_IN_PROGRESS));
            }
        }
    }

    /// The leader gets what to assign to whom, the others nothing of that; `None`: begin again.
    fn join_group(&mut self) -> Result<Option<Vec<Wish>>, BenchError> {
        let subscription = subscription(&self.common.topics, &self.partitions);
        let answer = self.control.call(Api::JOIN_GROUP, |out| {
            out.string(&self.name);
            out.i32(SESSION_TIMEOUT_MS);
            out.i32(REBALANCE_TIMEOUT_MS);
            out.string(&self.id);
            out.string(PROTOCOL_TYPE);
            out.count(1);
            out.string(ASSIGNOR);
            out.count(subscription.len());
            out.put(&subscription);
        })?;
        match answers::joining(&answer)? {
            Ok(Joining { generation, id, wishes }) => {
                self.generation = generation;
                self.id = id;
                return Ok(Some(wishes));
            }
            Err(UNKNOWN_MEMBER) => self.id.clear(),
            Err(REBALANCE_IN_PROGRESS) => {}
            Err(COORDINATOR_LOADING | COORDINATOR_NOT_AVAILABLE) => std::thread::sleep(RETRY),
            // Kafka names the coordinator of a new group before that knows of it.
            Err(NOT_COORDINATOR) => {
                std::thread::sleep(RETRY);
                self.control = KafkaControl::connect(self.common.address)?;
                self.find_coordinator()?;
            }
            Err(code) => return Err(refused(Api::JOIN_GROUP, code)),
        }
        Ok(None)
    }

    /// False: begin again.
    fn sync_group(&mut self, assignments: &[Wish]) -> Result<bool, BenchError> {
        let answer = self.control.call(Api::SYNC_GROUP, |out| {
            out.string(&self.name);
            out.i32(self.generation);
            out.string(&self.id);
            out.count(assignments.len());
            for (member, assignment) in assignments {
                out.i16(member.len() as i16);
                out.put(member);
                out.count(assignment.len());
                out.put(assignment);
            }
        })?;
        match answers::assigned(&answer)? {
            Ok(assignment) if assignment == self.assignment() => Ok(true),
            Ok(_) => Err(Malformed("an assignment that this member did not ask for").into()),
            Err(code) => self.judge(Api::SYNC_GROUP, code).map(|_join_again| false),
        }
    }

    fn heartbeat(&mut self) -> Result<Answer, BenchError> {
        let answer = self.control.call(Api::HEARTBEAT, |out| {
            out.string(&self.name);
            out.i32(self.generation);
            out.string(&self.id);
        })?;
        let code = answers::code(&answer)?;
        self.work.heartbeats += 1;
        self.judge(Api::HEARTBEAT, code)
    }

    /// Commit how far each partition was read.
    fn commit(&mut self) -> Result<Answer, BenchError> {
        let answer = self.control.call(Api::OFFSET_COMMIT, |out| {
            out.string(&self.name);
            out.i32(self.generation);
            out.string(&self.id);
            out.i64(-1);
            out.count(self.partitions.len());
            for (topic, partitions) in &self.partitions {
                out.string(&self.common.topics.names()[*topic]);
                out.count(partitions.len());
                for &(partition, counted) in partitions {
                    out.i32(partition);
                    out.i64(self.positions.get(counted));
                    out.null_string();
                }
            }
        })?;
        self.work.commits += 1;
        for code in answers::commit_codes(&answer)? {
            if let Answer::JoinAgain = self.judge(Api::OFFSET_COMMIT, code)? {
                return Ok(Answer::JoinAgain);
            }
        }
        Ok(Answer::Done)
    }

    /// Partitions whose committed offset is not what was committed.
    fn count_wrong_offsets(&mut self) -> Result<u64, BenchError> {
        let answer = self.control.call(Api::OFFSET_FETCH, |out| {
            out.string(&self.name);
            out.count(self.partitions.len());
            for (topic, partitions) in &self.partitions {
                out.string(&self.common.topics.names()[*topic]);
                out.count(partitions.len());
                partitions.iter().for_each(|&(partition, _)| out.i32(partition));
            }
        })?;
        let mut right = 0;
        for Committed { topic, partition, offset, code } in answers::committed(&answer)? {
            let counted = self.common.topics.count(topic, partition)?;
            let ours = self.partitions.iter().flat_map(|(_, of_topic)| of_topic);
            let known = ours.into_iter().any(|&(_, own)| own == counted);
            right += u64::from(code == 0 && known && offset == self.positions.get(counted));
        }
        let all: usize = self.partitions.iter().map(|(_, of_topic)| of_topic.len()).sum();
        Ok((all as u64).saturating_sub(right))
    }

    fn leave(&mut self) -> Result<(), BenchError> {
        let answer = self.control.call(Api::LEAVE_GROUP, |out| {
            out.string(&self.name);
            out.string(&self.id);
        })?;
        match answers::code(&answer)? {
            // Whoever is unknown has left.
            0 | UNKNOWN_MEMBER => Ok(()),
            code => Err(refused(Api::LEAVE_GROUP, code)),
        }
    }

    fn judge(&mut self, api: Api, code: i16) -> Result<Answer, BenchError> {
        match code {
            0 => Ok(Answer::Done),
            REBALANCE_IN_PROGRESS | ILLEGAL_GENERATION => Ok(Answer::JoinAgain),
            UNKNOWN_MEMBER => {
                self.id.clear();
                Ok(Answer::JoinAgain)
            }
            COORDINATOR_LOADING | COORDINATOR_NOT_AVAILABLE => Ok(Answer::JoinAgain),
            code => Err(refused(api, code)),
        }
    }

    /// What it wants to be assigned.
    fn assignment(&self) -> Vec<u8> {
        assignment(&self.common.topics, &self.partitions)
    }
}

/// `ConsumerProtocolSubscription` of version 0: topics, and as user data the assignment wished for.
fn subscription(topics: &Topics, partitions: &[(usize, Vec<(i32, i32)>)]) -> Vec<u8> {
    let mut out = Vec::new();
    out.i16(0);
    out.count(partitions.len());
    partitions.iter().for_each(|(topic, _)| out.string(&topics.names()[*topic]));
    let assignment = assignment(topics, partitions);
    out.count(assignment.len());
    out.put(&assignment);
    out
}

/// `ConsumerProtocolAssignment` of version 0: topics with their partitions, no user data.
fn assignment(topics: &Topics, partitions: &[(usize, Vec<(i32, i32)>)]) -> Vec<u8> {
    let mut out = Vec::new();
    out.i16(0);
    out.count(partitions.len());
    for (topic, of_topic) in partitions {
        out.string(&topics.names()[*topic]);
        out.count(of_topic.len());
        of_topic.iter().for_each(|&(partition, _)| out.i32(partition));
    }
    out.i32(-1);
    out
}

fn refused(api: Api, number: i16) -> BenchError {
    BenchError::Refused { api: api.name, code: code(number) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::kafka::group_answers::wished;

    #[test]
    fn a_subscription_says_what_is_wished_for_and_no_prefix_of_it_panics() {
        let topics = Topics::new("t", 2, 4);
        let partitions = vec![(0, vec![(1, 1), (3, 3)]), (1, vec![(0, 4)])];
        let bytes = subscription(&topics, &partitions);
        assert_eq!(wished(&bytes).unwrap(), assignment(&topics, &partitions));
        for end in 0..bytes.len() {
            assert!(wished(&bytes[..end]).is_err(), "{end}");
        }
    }
}
