//! One log with its partitions, on real files. What it asks of the device is done at once, unless the
//! device is broken.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

mod cold;
mod groups;
mod lookups;
mod mail;
mod retention;

use super::*;
use crate::background::jobs;
use crate::base::align::PAGE_BYTES;
use crate::codec::batch_builder::BatchBuilder;
use crate::codec::compression::Compression;
use crate::group::testing::RULES;
use crate::io::blocking::{BlockingDisk, block_on, disk_folder};
use crate::io::buffer::PageBuf;
use crate::io::file::Disk;
use crate::io::op::{ConnId, Op};
use crate::log::LogConfig;
use crate::log::block::BLOCK_HEADER_BYTES;
use crate::log::read::ReadLimits;
use crate::log::recovery::{self, Options};
use crate::log::testing::SMALL;
use crate::metadata::record::MetaRecord;
use crate::model::LogId;
use crate::shard::call::{
    CommittedOffset, FoundOffset, GroupCall, MemberRef, OffsetSpec, ReadPart, ReadResult,
};
use crate::shard::mailbox::PostOffice;
use crate::shard::testing::shard;
use crate::shard::{News, Retention, Shard};

const BROKER: [u8; 16] = [9; 16];
const LOG: LogId = LogId(1);
const TOPIC: TopicId = TopicId([7; 16]);
const KEY: PartitionKey = PartitionKey { topic: TOPIC, index: 0 };
const NOW: Now = Now { mono: Nanos(1), wall: WallMs(1_000_000) };
/// Another shard's client.
const ORIGIN: Origin = Origin {
    shard: ShardId(1),
    ticket: Ticket { conn: ConnId { index: 0, generation: 0 }, request: 0, part: 0 },
    deferred: false,
};
/// A batch of so many bytes has its chunk to itself.
const WHOLE_CHUNK: usize = 24 << 10;
const SEGMENT_BYTES: u64 = 64 << 10;

const CONFIG: LogConfig = LogConfig {
    chunk_bytes: 32 << 10,
    block_bytes_max: 32 << 10,
    tail_cache_bytes: 32 << 10,
    segment_bytes: SEGMENT_BYTES,
    ..SMALL
};

/// A batch of records with these timestamps.
fn batch(timestamps: &[i64], bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for timestamp in timestamps {
        builder.push(*timestamp, None, Some(&vec![1; bytes / timestamps.len()]), &[]);
    }
    Bytes::from(builder.finish())
}

fn append_call(batch: Bytes) -> Call {
    Call::Append { partition: KEY, batch }
}

struct Rig {
    folder: TempDir,
    hosted: Hosted,
    catalog: Catalog,
    stats: ShardStats,
    /// Reads and writes fail.
    broken: bool,
}

/// A topic of one partition with these configs.
fn catalog(configs: &[(&str, &str)]) -> Catalog {
    let mut catalog = Catalog::default();
    let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let topic = MetaRecord::TopicCreated { id: TOPIC, name: "t".into(), configs, partitions: vec![LOG] };
    for record in [MetaRecord::LogAdded { log: LOG }, topic] {
        catalog.apply(&record).expect("fits");
    }
    catalog
}

impl Rig {
    fn new(configs: &[(&str, &str)]) -> Rig {
        let folder = disk_folder();
        let sizes = [SEGMENT_BYTES; 8];
        block_on(recovery::format(&BlockingDisk, &folder.path().join("log"), (BROKER, LOG), &sizes)).unwrap();
        Rig::open(folder, catalog(configs))
    }

    fn open(folder: TempDir, catalog: Catalog) -> Rig {
        let (mut partitions, dir) = (Partitions::default(), folder.path().join("log"));
        let options = Options {
            config: &CONFIG,
            broker: BROKER,
            log: LOG,
            now: NOW.wall,
            repair: false,
            progress: &mut |_, _| {},
        };
        let (opened, _) = block_on(recovery::open(&BlockingDisk, &dir, options, &mut partitions)).unwrap();
        let log = Log::new(CONFIG, opened);
        partitions.finish_recovery(&log).unwrap();
        let hosted = Hosted::new(log, partitions, RULES);
        Rig { folder, hosted, catalog, stats: ShardStats::default(), broken: false }
    }

    /// As after a crash: with nothing but what is in the log. The topic has these configs from now on.
    fn crash(self, configs: &[(&str, &str)]) -> Rig {
        // A log that is open keeps its successor waiting.
        drop(self.hosted);
        Rig::open(self.folder, catalog(configs))
    }

    /// Turns, until nothing is left to do.
    fn run(&mut self) -> Outbox {
        let mut out = Outbox { me: ShardId(0), ..Outbox::default() };
        let mut ops = Vec::new();
        loop {
            self.hosted.apply_durable(NOW, &self.catalog, &mut self.stats, &mut out);
            self.hosted.log.submit(NOW, &mut ops);
            self.hosted.log.maintain();
            self.hosted.end_turn();
            if ops.is_empty() && !self.hosted.is_searching() {
                return out;
            }
            for op in ops.drain(..) {
                self.perform(op, &mut out);
            }
        }
    }

    fn perform(&mut self, op: Op, out: &mut Outbox) {
        match op {
            Op::Write { token, file, offset, data, .. } => {
                let written = match self.broken {
                    false => block_on(BlockingDisk.write_at(&file, offset, &PageBuf::from_bytes(&data))),
                    true => Err(std::io::Error::other("broken")),
                };
                // The log has heard; the shard would tell the operator.
                let _ = self.hosted.log.on_written(token, written, NOW.mono);
            }
            Op::Read { token, file, offset, mut buf, at, len } => {
                let mut pages = PageBuf::zeroed(len);
                assert_eq!(block_on(BlockingDisk.read_at(&file, offset, &mut pages)).unwrap(), len);
                buf.tail_mut()[at..at + len].copy_from_slice(&pages);
                let result = if self.broken { Err(std::io::Error::other("broken")) } else { Ok(()) };
                if let Some(read) = self.hosted.log.on_read(token, buf, result, NOW.mono) {
                    self.hosted.on_chunk(read.chunk, out);
                }
            }
            other => panic!("{other:?} is not expected here"),
        }
    }

    /// What another shard hears at once.
    fn begin(&mut self, call: Call) -> Option<Answer> {
        self.hosted.call(ORIGIN, call, &self.catalog, NOW)
    }

    /// What another shard hears.
    fn ask(&mut self, call: Call) -> Answer {
        self.ask_and_wake(call).0
    }

    /// What another shard hears, and who is woken meanwhile.
    fn ask_and_wake(&mut self, call: Call) -> (Answer, Vec<Waiter>) {
        if let Some(answer) = self.begin(call) {
            return (answer, Vec::new());
        }
        let Outbox { mut answers, woken, .. } = self.run();
        assert_eq!(answers.len(), 1, "a call is answered");
        (answers.remove(0).1, woken)
    }

    /// Append a batch of records with these timestamps. Returns who is woken by it.
    fn append(&mut self, timestamps: &[i64], bytes: usize) -> Vec<Waiter> {
        self.append_batch(batch(timestamps, bytes))
    }

    fn append_batch(&mut self, batch: Bytes) -> Vec<Waiter> {
        let (answer, woken) = self.ask_and_wake(append_call(batch));
        assert!(matches!(answer, Answer::Appended(Ok(_))), "{answer:?}");
        woken
    }

    /// Batches of a client of this shard, as long as there is room. Returns how many.
    fn append_here(&mut self) -> usize {
        let bytes = batch(&[0], WHOLE_CHUNK);
        let mut count = 0;
        while self.hosted.room(EntryHeader::entry_bytes(bytes.len())) == Room::Yes {
            let checked = CheckedBatch { batch: RecordBatch::parse(&bytes).unwrap(), log_append_time: false };
            self.hosted.append(KEY, checked, ORIGIN.ticket, NOW).unwrap();
            count += 1;
        }
        count
    }

    /// The device writes the next block, and nobody has looked yet at what is durable now.
    fn write_block(&mut self) {
        let (mut ops, mut out) = (Vec::new(), Outbox::default());
        self.hosted.log.submit(NOW, &mut ops);
        for op in ops {
            self.perform(op, &mut out);
        }
    }

    /// A shard with this log alone, and the folder that it needs.
    fn into_shard(self) -> (Shard, TempDir) {
        let me = ShardId(0);
        (shard(me, &PostOffice::new(1), &[me; 2], vec![self.hosted], self.catalog), self.folder)
    }

    fn delete_before(&mut self, offset: i64) -> i64 {
        let before = Some(Offset(offset));
        match self.ask(Call::DeleteRecords { partition: KEY, before }) {
            Answer::DeleteRecords(Ok(start)) => start.0,
            other => panic!("{other:?}"),
        }
    }

    /// Offset and timestamp.
    fn find(&mut self, spec: OffsetSpec) -> Option<(i64, i64)> {
        match self.ask(Call::ListOffset { partition: KEY, spec }) {
            Answer::ListOffset(Ok(found)) => {
                found.map(|FoundOffset { offset, timestamp, .. }| (offset.0, timestamp))
            }
            other => panic!("{other:?}"),
        }
    }

    fn start(&mut self) -> i64 {
        self.find(OffsetSpec::Earliest).unwrap().0
    }

    /// A checkpoint, and what the log does with its segments after it.
    fn recycle(&mut self) {
        let mut next = Some(self.hosted.begin_checkpoint(None));
        while let Some(job) = next {
            let done = block_on(jobs::run(&BlockingDisk, job));
            next = self.hosted.log.on_job(done, NOW).unwrap().or_else(|| self.hosted.log.poll_job(NOW));
        }
    }

    fn retain(&mut self) {
        while !self.hosted.retain(&self.catalog, Retention::default(), NOW.wall) {}
    }
}

fn waiter() -> Waiter {
    Waiter { shard: ShardId(1), conn: ConnId { index: 3, generation: 0 }, part: 7 }
}

#[test]
fn no_batch_is_taken_for_whose_records_there_are_no_offsets() {
    let mut rig = Rig::new(&[]);
    rig.append(&[0], 100);
    let slot = rig.hosted.partitions.slot(KEY).unwrap();
    rig.hosted.partitions.end_at(slot, Offset(i64::MAX - 3));
    let append = |rig: &mut Rig, count| match rig.ask(append_call(batch(&vec![0; count], 100))) {
        Answer::Appended(result) => result.map(|appended| appended.base_offset),
        other => panic!("{other:?}"),
    };
    assert_eq!(append(&mut rig, 2), Ok(Offset(i64::MAX - 3)));
    assert_eq!(append(&mut rig, 2), Err(CallError::OffsetsUsedUp));
    assert_eq!(append(&mut rig, 1), Ok(Offset(i64::MAX - 1)));
    assert_eq!(append(&mut rig, 1), Err(CallError::OffsetsUsedUp));
    // As it was stored, it can be read: by consumers, and by the next start.
    let read = ReadPart { partition: KEY, offset: Offset(i64::MAX - 1), bytes_max: 1 << 20, waiter: 0 };
    let result = rig.hosted.read(&read, ReadLimits::at_least(1), None, &rig.catalog);
    let bytes: Vec<u8> = result.records.concat();
    assert_eq!(RecordBatch::parse(&bytes).unwrap().end_offset(), Offset(i64::MAX));
}

#[test]
fn who_waits_at_the_end_hears_of_a_new_start_and_that_the_topic_is_gone() {
    let mut rig = Rig::new(&[("retention.bytes", "1")]);
    for timestamp in 0..3 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    let end = ReadPart { partition: KEY, offset: Offset(3), bytes_max: 1, waiter: 7 };
    let wait = |rig: &mut Rig| {
        let result = rig.hosted.read(&end, ReadLimits::at_least(1), Some(waiter()), &rig.catalog);
        assert!(result.error.is_none() && result.bytes == 0, "{result:?}");
    };
    let woken = |rig: &mut Rig| {
        let mut woken = rig.run().woken;
        rig.hosted.take_woken(&mut woken);
        woken
    };
    wait(&mut rig);
    let origin = Origin::new(ShardId(1), Ticket { conn: waiter().conn, request: 0, part: 0 });
    let call = Call::DeleteRecords { partition: KEY, before: Some(Offset(1)) };
    assert!(rig.hosted.call(origin, call, &rig.catalog, NOW).is_none(), "it must be durable first");
    assert_eq!(woken(&mut rig), [waiter()]);
    wait(&mut rig);
    rig.retain();
    assert_eq!(woken(&mut rig), [waiter()]);
    wait(&mut rig);
    rig.hosted.delete_topic(TOPIC, NOW);
    assert_eq!(woken(&mut rig), [waiter()]);
}

#[test]
fn who_has_too_little_hears_of_more() {
    let mut rig = Rig::new(&[]);
    rig.append(&[0], 100);
    let part = ReadPart { partition: KEY, offset: Offset(0), bytes_max: 1 << 20, waiter: waiter().part };
    let read = |rig: &mut Rig, enough| {
        let results = rig.hosted.read_all(&[part], (1 << 20, true), Some((waiter(), enough)), &rig.catalog);
        results[0].bytes
    };
    let one = read(&mut rig, 0);
    assert!(one > 100);
    assert_eq!(read(&mut rig, one), one);
    assert_eq!(rig.append(&[1], 100), [], "it had enough");
    assert_eq!(read(&mut rig, 2 * one + 1), 2 * one);
    assert_eq!(rig.append(&[2], 100), [waiter()]);
}

#[test]
fn blocks_are_counted_as_they_are_written() {
    let mut rig = Rig::new(&[]);
    for timestamp in 0..4 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    let counters = &rig.stats.counters;
    // A slot and four batches, two to a segment, the first of which ends in a page that says so.
    assert_eq!((counters.entries_written, counters.blocks_written), (5, 5));
    let page = PAGE_BYTES as u64;
    assert_eq!(counters.block_bytes, 4 * (WHOLE_CHUNK as u64 + page) + page);
    let headers = 5 * BLOCK_HEADER_BYTES as u64;
    let entries = rig.hosted.log.stats.entries_bytes;
    assert_eq!(counters.block_padding_bytes, counters.block_bytes - headers - entries);
}

#[test]
fn offsets_of_a_failed_log_are_not_told() {
    let mut rig = Rig::new(&[]);
    let fetch = || Call::FetchOffsets { group: "g".into(), partitions: None };
    assert!(matches!(rig.ask(fetch()), Answer::FetchOffsets(Ok(offsets)) if offsets.is_empty()));
    rig.broken = true;
    let offset = CommittedOffset {
        partition: KEY,
        offset: Offset(1),
        leader_epoch: -1,
        metadata: None,
        commit_time: 0,
    };
    let who = MemberRef { generation: -1, ..MemberRef::default() };
    let call = GroupCall::Commit { who, offsets: vec![offset] };
    let commit = Call::Group { group: "g".into(), call };
    assert!(matches!(rig.ask(commit), Answer::CommitOffsets(Err(CallError::Storage))));
    assert!(matches!(rig.ask(fetch()), Answer::FetchOffsets(Err(CallError::Storage))));
}

#[test]
fn what_is_durable_stays_in_memory_until_it_is_applied() {
    let mut rig = Rig::new(&[]);
    let mut held = Vec::new();
    // Of eleven chunks, readers hold nine.
    for offset in 0..9 {
        rig.append(&[offset], WHOLE_CHUNK);
        let part = ReadPart { partition: KEY, offset: Offset(offset), bytes_max: 1, waiter: NO_PART };
        held.push(rig.hosted.read(&part, ReadLimits::at_least(1), None, &rig.catalog));
    }
    let append = |rig: &mut Rig| rig.begin(append_call(batch(&[9], WHOLE_CHUNK)));
    // One turn: the device has written the tenth, and appends want the eleventh and one more.
    assert!(append(&mut rig).is_none());
    while !rig.hosted.log.is_idle() {
        rig.write_block();
    }
    assert!(append(&mut rig).is_none());
    let refused = append(&mut rig);
    assert!(matches!(refused, Some(Answer::Appended(Err(CallError::Full(_))))), "{refused:?}");
    assert_eq!(rig.run().answers.len(), 2, "what was taken is applied");
    held.clear();
    rig.append(&[9], WHOLE_CHUNK);
}

#[test]
fn calls_that_wait_and_clients_of_this_shard_share_what_room_comes() {
    let mut rig = Rig::new(&[]);
    assert!(rig.append_here() > 0);
    for _ in 0..2 {
        assert!(rig.begin(append_call(batch(&[0], WHOLE_CHUNK))).is_none());
    }
    let mut here = 0;
    for _ in 0..10 {
        rig.write_block();
        here += rig.append_here();
        rig.hosted.apply_durable(NOW, &rig.catalog, &mut rig.stats, &mut Outbox::default());
        rig.hosted.end_turn();
    }
    assert_eq!(rig.hosted.held.len(), 0, "they wait for ever");
    assert!(here >= 2, "{here} of this shard's clients");
}

#[test]
fn an_answer_by_mail_says_when_its_block_was_written() {
    let mut rig = Rig::new(&[]);
    let Answer::Appended(Ok(appended)) = rig.ask(append_call(batch(&[0], 5))) else {
        panic!("it is appended")
    };
    let at = NOW.mono;
    assert_eq!(appended.stamps, AppendStamps { appended: at, submitted: at, completed: at });
}
