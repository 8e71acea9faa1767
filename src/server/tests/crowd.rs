//! Many clients that ask for much, and one beside them that produces: what a turn has for them all.

use std::collections::HashMap;
use std::mem;
use std::path::Path;

use super::*;
use crate::base::align::PAGE_BYTES;
use crate::codec::batch_builder::BatchBuilder;
use crate::codec::compression::Compression;
use crate::group::testing::RULES;
use crate::io::file::{Disk, FileHandle};
use crate::io::op::RecvEnd;
use crate::io::sim::{SimDisk, SimWorld, block_on};
use crate::kafka::cost::{CALL_COST, TURN_COST};
use crate::kafka::protocol::Message;
use crate::kafka::protocol::frame::put_request;
use crate::kafka::protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use crate::kafka::protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopic};
use crate::kafka::protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use crate::kafka::protocol::messages::{
    DescribeGroupsRequest, HeartbeatRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest,
    OffsetFetchRequest, ProduceRequest,
};
use crate::log::recovery::{self, Options};
use crate::log::testing::SMALL;
use crate::log::{Log, LogConfig};
use crate::metadata::record::MetaRecord;
use crate::metrics::latency::Stage;
use crate::model::{LogId, TopicId};
use crate::partition::Partitions;
use crate::server::turn::PASSES_MAX;
use crate::shard::hosted::Hosted;
use crate::shard::testing::LOOKUPS_MAX;

const DIR: &str = "/data/log-1";
const BROKER: [u8; 16] = [7; 16];
const LOG: LogId = LogId(1);
pub(super) const TOPIC: &str = "t";
/// So many that a response about all of them costs four tenths of what a turn has.
pub(super) const PARTITIONS: i32 = 16_000;
const SEGMENT_BYTES: u64 = 4 << 20;

const CONFIG: LogConfig =
    LogConfig { segment_bytes: SEGMENT_BYTES, log_bytes_max: 2 * SEGMENT_BYTES, ..SMALL };

fn hosted(world: &SimWorld) -> Hosted {
    let disk = SimDisk::immediate(world);
    let made = block_on(async {
        disk.create_dir(Path::new("/data")).await?;
        recovery::format(&disk, Path::new(DIR), (BROKER, LOG), &[SEGMENT_BYTES; 2]).await
    });
    made.expect("a new disk");
    let options = Options {
        config: &CONFIG,
        broker: BROKER,
        log: LOG,
        now: START.wall,
        repair: false,
        progress: &mut |_, _| {},
    };
    let mut partitions = Partitions::default();
    let opened = block_on(recovery::open(&disk, Path::new(DIR), options, &mut partitions));
    let log = Log::new(CONFIG, opened.expect("a new log").0);
    partitions.finish_recovery(&log).expect("it is empty");
    Hosted::new(log, partitions, RULES)
}

pub(super) fn frame<'m, M: Message<'m>>(version: i16, request: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_request(&mut bytes, version, 1, Some("one of many"), request).expect("fits");
    bytes
}

/// All of the topic.
fn metadata() -> Vec<u8> {
    frame(9, &MetadataRequest::default())
}

fn heartbeat() -> Vec<u8> {
    frame(3, &HeartbeatRequest { group_id: "g", member_id: "m", ..Default::default() })
}

/// A record for the last partition.
pub(super) fn produce() -> Vec<u8> {
    produce_to(PARTITIONS - 1, 100)
}

pub(super) fn produce_to(partition: i32, bytes: usize) -> Vec<u8> {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(0, None, Some(&vec![7; bytes]), &[]);
    let batch = batch.finish();
    let data = PartitionProduceData { index: partition, records: Some(&batch) };
    let mut request = ProduceRequest { acks: -1, timeout_ms: 30_000, ..Default::default() };
    request.topic_data.push(TopicProduceData {
        name: TOPIC,
        partition_data: [data].into_iter().collect(),
        ..Default::default()
    });
    frame(9, &request)
}

/// A shard with one log, and its clients. Whatever it sends and writes is done before the next turn.
pub(super) struct Crowd {
    rig: Rig,
    /// How long each turn is after the last one.
    turn_ms: u64,
    /// For the next turn.
    events: Vec<Event>,
    /// Bytes that each was sent in the last turn.
    pub sent: Vec<usize>,
    /// The next turn comes at once.
    pub at_once: bool,
    /// Pages that were written, by file and offset.
    device: HashMap<(u64, u64), Vec<u8>>,
}

impl Crowd {
    pub fn new(clients: usize) -> Crowd {
        let mut catalog = Catalog::default();
        let topic = MetaRecord::TopicCreated {
            id: TopicId([7; 16]),
            name: TOPIC.to_owned(),
            configs: Vec::new(),
            partitions: vec![LOG; PARTITIONS as usize],
        };
        for record in [MetaRecord::LogAdded { log: LOG }, topic] {
            catalog.apply(&record).expect("fits");
        }
        let logs = vec![hosted(&SimWorld::new(1))];
        let shard = shard(ShardId(0), &PostOffice::new(1), &[ShardId(0); 2], logs, catalog);
        let memory = MemoryLimits { connection_max: 1 << 28, shard_max: 1 << 30 };
        let mut rig = Rig::with(shard, clients, memory);
        let peer = "127.0.0.1:1".parse().expect("an address");
        let accepted = |_| Event::Accepted { listener: ListenerId(0), socket: SocketHandle::Sim(2), peer };
        rig.step(0, (0..clients).map(accepted).collect());
        Crowd {
            rig,
            turn_ms: 0,
            events: Vec::new(),
            sent: vec![0; clients],
            at_once: false,
            device: HashMap::new(),
        }
    }

    pub fn send(&mut self, client: usize, bytes: &[u8]) {
        let conn = ConnId { index: client as u32, generation: 0 };
        let data = RecvPool::new(1, 1 << 16).copy_in(bytes).expect("a buffer");
        self.events.push(Event::Received { conn, data });
    }

    pub fn turn(&mut self) {
        let (_, wait) = self.rig.step(self.turn_ms, mem::take(&mut self.events));
        self.at_once = wait == Duration::ZERO;
        self.sent.fill(0);
        for op in self.rig.ops.drain(..) {
            self.events.extend(match op {
                Op::Send { conn, parts } => {
                    let bytes = parts.iter().map(|part| part.len()).sum();
                    self.sent[conn.index as usize] = bytes;
                    Some(Event::Sent { conn, result: Ok(bytes) })
                }
                Op::Write { token, file: FileHandle::Sim(file), offset, data, .. } => {
                    for (page, at) in data.chunks(PAGE_BYTES).zip((offset..).step_by(PAGE_BYTES)) {
                        self.device.insert((file, at), page.to_vec());
                    }
                    Some(Event::Written { token, result: Ok(()) })
                }
                Op::Read { token, file: FileHandle::Sim(file), offset, mut buf, at, len } => {
                    let into = buf.tail_mut()[at..at + len].chunks_mut(PAGE_BYTES);
                    for (page, at) in into.zip((offset..).step_by(PAGE_BYTES)) {
                        page.copy_from_slice(&self.device[&(file, at)]);
                    }
                    Some(Event::Read { token, buf, result: Ok(()) })
                }
                Op::RecvStop { conn } => Some(Event::RecvEnded { conn, end: RecvEnd::Stopped }),
                _ => None,
            });
        }
    }

    /// Those who were sent something.
    pub fn answered(&self) -> Vec<usize> {
        (0..self.sent.len()).filter(|client| self.sent[*client] > 0).collect()
    }
}

#[test]
fn a_producer_is_served_beside_many_who_ask_for_much_and_those_take_turns() {
    const MANY: usize = 10;
    const EACH: usize = 5;
    let (neighbour, member) = (MANY, MANY + 1);
    let mut crowd = Crowd::new(MANY + 2);
    crowd.send(0, &metadata());
    crowd.turn();
    let one_bytes = crowd.sent[0];
    assert!((TURN_COST / 3..TURN_COST / 2).contains(&one_bytes), "{one_bytes} bytes are one response");
    crowd.turn();
    assert!(!crowd.at_once);

    for client in 0..MANY {
        crowd.send(client, &metadata().repeat(EACH));
    }
    let mut answered = [0_usize; MANY];
    let mut turns = 0;
    while answered.iter().sum::<usize>() < MANY * EACH {
        crowd.send(neighbour, &produce());
        crowd.send(member, &heartbeat());
        crowd.turn();
        turns += 1;
        assert!(crowd.sent[member] > 0, "a heartbeat waited");
        // It was written in the turn before.
        assert_eq!(crowd.sent[neighbour] > 0, turns > 1, "a record waited");
        let sent = &crowd.sent[..MANY];
        let all: usize = sent.iter().sum();
        assert!(all > 0 && all < TURN_COST + one_bytes, "{all} bytes for all of them in one turn");
        for (count, bytes) in answered.iter_mut().zip(sent) {
            *count += bytes / one_bytes;
        }
        let (least, most) = (answered.iter().min(), answered.iter().max());
        assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 3), "{answered:?}");
    }
    // The last of a turn goes beyond what it has.
    let in_a_turn = TURN_COST.div_ceil(one_bytes);
    assert_eq!((answered, turns), ([EACH; MANY], (MANY * EACH).div_ceil(in_a_turn)), "{in_a_turn} in a turn");
    crowd.turn();
    crowd.turn();
    assert!(!crowd.at_once, "nobody waits any more");
}

#[test]
fn requests_that_ask_on_with_each_answer_share_the_turn() {
    const MANY: usize = 4;
    const GROUPS: usize = 400;
    let names: Vec<String> = (0..GROUPS).map(|number| format!("{number:03}")).collect();
    let group = |name| {
        let topic = OffsetFetchRequestTopic { name: TOPIC, partition_indexes: vec![0].into() };
        let topics = Some([topic].into_iter().collect());
        OffsetFetchRequestGroup { group_id: name, topics, ..Default::default() }
    };
    let groups = names.iter().map(|name| group(name.as_str())).collect();
    let request = frame(8, &OffsetFetchRequest { groups, ..Default::default() });
    let mut crowd = Crowd::new(MANY);
    for client in 0..MANY {
        crowd.send(client, &request);
    }
    let least = (MANY * GROUPS).div_ceil(TURN_COST / CALL_COST);
    let mut turns = 0;
    let mut answered = Vec::new();
    while answered.len() < MANY {
        crowd.turn();
        turns += 1;
        answered.extend(crowd.answered());
        assert!(crowd.at_once || answered.len() == MANY, "{answered:?}");
    }
    answered.sort_unstable();
    assert_eq!(answered, [0, 1, 2, 3]);
    assert!((least..=least + 2).contains(&turns), "{} calls took {turns} turns", MANY * GROUPS);
}

#[test]
fn requests_about_all_groups_are_taken_up_one_a_turn() {
    const MANY: usize = 4;
    const EACH: usize = 5;
    let mut crowd = Crowd::new(MANY);
    for client in 0..MANY {
        crowd.send(client, &frame(4, &ListGroupsRequest::default()).repeat(EACH));
    }
    let (mut turns, mut answers) = (0, 0);
    while turns == 0 || crowd.at_once {
        crowd.turn();
        turns += 1;
        answers += crowd.answered().len();
    }
    assert_eq!(answers, MANY * EACH);
    assert!((MANY * EACH..=2 * MANY * EACH + 1).contains(&turns), "{turns} turns");
}

#[test]
fn answers_that_were_waited_for_are_made_as_turns_have_time() {
    const MANY: usize = 4;
    let names: Vec<String> = (0..300).map(|number| format!("{number:03}")).collect();
    let groups = names.iter().map(String::as_str).collect();
    let request = frame(5, &DescribeGroupsRequest { groups, ..Default::default() });
    let mut crowd = Crowd::new(MANY);
    for client in 0..MANY {
        crowd.send(client, &request);
    }
    let mut turns = Vec::new();
    for _ in 0..=MANY + 1 {
        crowd.turn();
        turns.push((crowd.answered(), crowd.at_once));
    }
    let table = [
        // One has asked for more than what a turn has.
        (vec![], true),
        // The answer, and what the next one has asked for.
        (vec![0], true),
        (vec![], true),
        (vec![], true),
        // Answers cost little here.
        (vec![1, 2, 3], false),
        (vec![], false),
    ];
    assert_eq!(turns, table);
}

#[test]
fn a_turn_does_not_wait_for_the_last_of_many_answers() {
    // Each pass follows the answers of those that were under way, and begins as many.
    const IN_A_TURN: usize = PASSES_MAX * LOOKUPS_MAX;
    let asked = |partition_index| ListOffsetsPartition { partition_index, ..Default::default() };
    let partitions = (0..4 * IN_A_TURN as i32 + 1).map(asked).collect();
    let topics = [ListOffsetsTopic { name: TOPIC, partitions }].into_iter().collect();
    let mut crowd = Crowd::new(2);
    crowd.send(0, &frame(7, &ListOffsetsRequest { topics, ..Default::default() }));
    crowd.send(1, &produce());
    let mut turns = Vec::new();
    for _ in 0..5 {
        crowd.turn();
        turns.push((crowd.answered(), crowd.at_once));
    }
    // The record was written at the end of the first.
    let table = [(vec![], true), (vec![1], true), (vec![], true), (vec![], true), (vec![0], false)];
    assert_eq!(turns, table);
}

#[test]
fn requests_that_wait_in_line_are_timed_from_when_they_came() {
    const MANY: usize = 6;
    const EACH: usize = 5;
    let mut crowd = Crowd::new(MANY);
    crowd.turn_ms = 1;
    crowd.send(0, &metadata());
    crowd.turn();
    let one_bytes = crowd.sent[0];
    for client in 0..MANY {
        crowd.send(client, &metadata().repeat(EACH));
    }
    crowd.turn();
    // Others of the same come while they wait, and wait behind them.
    for client in 0..MANY {
        crowd.send(client, &metadata());
    }
    // The first one was alone.
    let mut waited_ms = 1;
    let mut answered = vec![0; MANY];
    let mut turn = 1;
    loop {
        for (count, bytes) in answered.iter_mut().zip(&crowd.sent) {
            for _ in 0..bytes / one_bytes {
                // It left in this turn, which is seen in the next one.
                let came = if *count < EACH { 1 } else { 2 };
                waited_ms += turn + 1 - came;
                *count += 1;
            }
        }
        if answered == [EACH + 1; MANY] {
            break;
        }
        assert!(turn < 100, "{answered:?}");
        crowd.turn();
        turn += 1;
    }
    assert!(turn > 10, "nobody waited");
    crowd.turn();
    let stats = &crowd.rig.server.shard().stats;
    let durations: Vec<_> =
        stats.durations().map(|(api, all)| (api, all.count(), all.sum() / 1_000_000)).collect();
    assert_eq!(durations, [(3, (1 + MANY * (EACH + 1)) as u64, waited_ms)]);
}

#[test]
fn the_stages_of_produce_requests_sum_up_to_the_whole() {
    const CLIENTS: usize = 3;
    // More than a connection may have under way.
    const EACH: usize = 150;
    let mut crowd = Crowd::new(CLIENTS + 1);
    crowd.turn_ms = 1;
    crowd.rig.tick = Duration::from_micros(3);
    let began = crowd.rig.now.mono;
    let recorded = |crowd: &Crowd| crowd.rig.server.shard().stats.produce().whole().count();
    for client in 0..CLIENTS {
        crowd.send(client, &produce().repeat(EACH));
    }
    // Who asks for much stands in line beside them.
    crowd.send(CLIENTS, &metadata().repeat(10));
    let mut turns = 0;
    while recorded(&crowd) < (CLIENTS * EACH) as u64 {
        crowd.turn();
        turns += 1;
        assert!(turns < 100, "{} are answered", recorded(&crowd));
    }
    let produce = crowd.rig.server.shard().stats.produce();
    let sums = Stage::ALL.map(|stage| produce.stage(stage).sum());
    let (stages, whole) = (sums.iter().sum::<u64>(), produce.whole().sum());
    // The clock goes on by ticks only: not 5 %, but all of it.
    assert_eq!(stages, whole, "{sums:?}");
    let tick = crowd.rig.tick.as_nanos() as u64;
    assert!(
        produce.stage(Stage::Parse).max() <= 2 * tick,
        "what came before a request counts as decoding it"
    );
    // All came in the first turn; some were put off.
    let all_took = crowd.rig.now.mono.since(began);
    assert!(produce.whole().max() <= all_took && produce.whole().max() > all_took - 2_000_000);
    for stage in
        [Stage::Admission, Stage::Parse, Stage::Append, Stage::CommitWait, Stage::DeviceWrite, Stage::Send]
    {
        assert!(produce.stage(stage).sum() > 0, "{}: {sums:?}", stage.name());
    }
    assert!(produce.stage(Stage::Admission).max() >= 2_000_000, "nobody was put off: {sums:?}");
}
