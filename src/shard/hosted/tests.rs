//! One log with its partitions, on real files. What it asks of the device is done at once, unless the
//! device is broken.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

mod groups;
mod mail;

use super::*;
use crate::background::jobs;
use crate::base::align::PAGE_BYTES;
use crate::base::crc::crc32c;
use crate::codec::batch_builder::BatchBuilder;
use crate::codec::compression::Compression;
use crate::codec::record_batch::CRC_START;
use crate::io::blocking::{BlockingDisk, block_on, disk_folder};
use crate::io::buffer::PageBuf;
use crate::io::file::Disk;
use crate::io::op::{ConnId, Op};
use crate::log::LogConfig;
use crate::log::block::BLOCK_HEADER_BYTES;
use crate::log::recovery::{self, Options};
use crate::metadata::commands::{IdSource, TopicRules};
use crate::metadata::record::MetaRecord;
use crate::model::{CommitMode, LogId};
use crate::shard::call::{CommittedOffset, FoundOffset, GroupCall, MemberRef, OffsetSpec};
use crate::shard::mailbox::{Mailbox, PostOffice};
use crate::shard::{News, Shard, ShardConfig};

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
    block_target_bytes: 16 << 10,
    write_bytes_max: 1 << 20,
    commit_mode: CommitMode::Plain,
    commit_depth: 1,
    tail_cache_bytes: 32 << 10,
    read_cache_bytes: 64 << 10,
    segment_bytes: SEGMENT_BYTES,
    segments_ahead: 1,
    slice_bytes: 1 << 20,
    checkpoint_bytes: 1 << 30,
    log_bytes_max: 0,
};

const GROUP_RULES: GroupRules = GroupRules {
    session_min: Duration::from_secs(6),
    session_max: Duration::from_secs(1800),
    initial_delay: Duration::from_secs(3),
    members_max: 100,
    bytes_max: 16 << 10,
    total_bytes_max: 64 << 10,
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
        let hosted = Hosted::new(log, partitions, GROUP_RULES);
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
            Op::Read { token, file, offset, mut buf, len, .. } => {
                let mut pages = PageBuf::zeroed(len);
                assert_eq!(block_on(BlockingDisk.read_at(&file, offset, &mut pages)).unwrap(), len);
                buf.tail_mut()[..len].copy_from_slice(&pages);
                let result = if self.broken { Err(std::io::Error::other("broken")) } else { Ok(()) };
                let read = self.hosted.log.on_read(token, buf, result);
                self.hosted.on_chunk(read.chunk, out);
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
        (shard(me, &PostOffice::new(1), me, vec![self.hosted], self.catalog), self.folder)
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

/// A shard with these logs; `host` has the log.
fn shard(me: ShardId, office: &Arc<PostOffice>, host: ShardId, logs: Vec<Hosted>, catalog: Catalog) -> Shard {
    let rules = TopicRules {
        partition_count_default: 1,
        partition_count_max: 1,
        batch_bytes_max: 1,
        record_bytes_max: 1000,
    };
    let config = ShardConfig { rules, offsets_retention_ms: 0, retention: Retention::default() };
    let mailbox = Mailbox::new(me, office.clone());
    Shard::new(me, config, catalog, [host, host].into(), logs, mailbox, Box::new(NoIds))
}

struct NoIds;

impl IdSource for NoIds {
    fn next_topic_id(&mut self) -> TopicId {
        unreachable!("nothing is made here")
    }
}

#[test]
fn the_newest_record_is_one_that_readers_can_have() {
    // One chunk with a batch of two and one of three records, then one of its own each.
    let mut rig = Rig::new(&[]);
    rig.append(&[90, 50], 100);
    rig.append(&[40, 70, 60], 100);
    rig.append(&[55], WHOLE_CHUNK);
    rig.append(&[65], WHOLE_CHUNK);
    rig.append(&[65], WHOLE_CHUNK);
    let table = [
        (0, Some((0, 90))),
        (1, Some((3, 70))),
        (3, Some((3, 70))),
        (4, Some((6, 65))),
        (6, Some((6, 65))),
        (7, Some((7, 65))),
        (8, None),
    ];
    for (start, newest) in table {
        rig.delete_before(start);
        assert_eq!(rig.find(OffsetSpec::MaxTimestamp), newest, "from {start}");
    }
}

#[test]
fn a_batch_that_lies_about_its_timestamps_ends_the_search() {
    let mut rig = Rig::new(&[]);
    let mut lies = batch(&[10, 20], 100).to_vec();
    // The largest timestamp.
    lies[35..43].copy_from_slice(&90_i64.to_be_bytes());
    rig.append_batch(sealed(lies));
    rig.append(&[95], 100);
    let mut find = |timestamp| rig.find(OffsetSpec::AtOrAfter(timestamp));
    assert_eq!(
        (find(15), find(21), find(90), find(91)),
        (Some((1, 20)), Some((1, 90)), Some((1, 90)), Some((2, 95)))
    );
    // Of a batch that begins before the start, the record may be one that is gone.
    rig.delete_before(1);
    assert_eq!(rig.find(OffsetSpec::AtOrAfter(21)), Some((2, 95)));
}

/// With a checksum that fits: it lies in front of what it covers.
fn sealed(mut batch: Vec<u8>) -> Bytes {
    let crc = crc32c(&batch[CRC_START..]);
    batch[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

#[test]
fn a_batch_that_does_not_inflate_is_taken_at_its_word() {
    let mut rig = Rig::new(&[]);
    let mut damaged = batch(&[10, 20], 100).to_vec();
    // The attributes.
    damaged[22] = Compression::Gzip as u8;
    rig.append_batch(sealed(damaged));
    rig.append(&[15], 100);
    let both = |rig: &mut Rig| (rig.find(OffsetSpec::AtOrAfter(5)), rig.find(OffsetSpec::MaxTimestamp));
    assert_eq!(both(&mut rig), (Some((1, 20)), Some((1, 20))));
    // Its last record may be one that is gone.
    rig.delete_before(1);
    assert_eq!(both(&mut rig), (Some((2, 15)), Some((2, 15))));
}

/// Has a batch that keeps a search busy for this many turns.
const LONG_TURNS: usize = 16;

fn rig_with_a_long_batch() -> Rig {
    let mut rig = Rig::new(&[]);
    let mut builder = BatchBuilder::new(Compression::Gzip);
    builder.push(1, None, Some(&vec![0; LONG_TURNS * search::TURN_BYTES]), &[]);
    builder.push(2, None, None, &[]);
    rig.append_batch(builder.finish().into());
    rig
}

const LONG_SEARCH: Call = Call::ListOffset { partition: KEY, spec: OffsetSpec::AtOrAfter(2) };

/// The offsets that searches were answered with.
fn found(answers: impl IntoIterator<Item = Answer>) -> Vec<Option<i64>> {
    let offset = |answer| match answer {
        Answer::ListOffset(result) => result.ok().flatten().map(|found| found.offset.0),
        other => panic!("{other:?}"),
    };
    answers.into_iter().map(offset).collect()
}

#[test]
fn a_search_goes_on_in_later_turns_and_keeps_nobody_waiting() {
    let mut rig = rig_with_a_long_batch();
    assert!(rig.begin(LONG_SEARCH).is_none() && rig.begin(LONG_SEARCH).is_none());
    let mut out = Outbox::default();
    let mut turns = 0;
    while rig.hosted.is_searching() {
        assert_eq!(rig.start(), 0, "answered at once");
        rig.hosted.apply_durable(NOW, &rig.catalog, &mut rig.stats, &mut out);
        rig.hosted.end_turn();
        turns += 1;
    }
    assert_eq!(found(out.answers.into_iter().map(|(_, answer)| answer)), [Some(1), Some(1)]);
    assert!((2 * LONG_TURNS - 2..=2 * LONG_TURNS + 3).contains(&turns), "{turns}");
}

#[test]
fn a_stop_does_not_wait_for_long_searches() {
    let mut rig = rig_with_a_long_batch();
    assert!(rig.begin(LONG_SEARCH).is_none());
    rig.hosted.stop_searches();
    let mut out = Outbox::default();
    rig.hosted.apply_durable(NOW, &rig.catalog, &mut rig.stats, &mut out);
    assert!(matches!(out.answers[..], [(_, Answer::ListOffset(Err(search::STOPPING)))]), "{:?}", out.answers);
    assert!(!rig.hosted.is_searching());
}

#[test]
fn searches_of_who_is_gone_are_not_begun_and_the_others_end() {
    let (mut shard, _folder) = rig_with_a_long_batch().into_shard();
    let (mut ops, mut news) = (Vec::new(), News::default());
    shard.submit(NOW, &mut ops, &mut news);
    let gone = ConnId { index: 1, generation: 0 };
    for part in 0..50 {
        for conn in [gone, ORIGIN.ticket.conn] {
            shard.call(LOG, Ticket { conn, part, ..ORIGIN.ticket }, LONG_SEARCH, NOW);
        }
    }
    shard.forget(gone);
    let mut turns = 0;
    while shard.deadline() == Nanos(0) {
        shard.apply_durable(NOW, &mut news);
        shard.submit(NOW, &mut ops, &mut news);
        turns += 1;
    }
    assert!(turns > 50 * (LONG_TURNS - 1), "{turns}");
    let (of_gone, answers): (Vec<_>, Vec<_>) =
        news.answers.into_iter().partition(|(ticket, _)| ticket.conn == gone);
    assert!(of_gone.len() < 10, "what was under way");
    assert_eq!(found(answers.into_iter().map(|(_, answer)| answer)), [Some(1); 50]);
}

fn waiter() -> Waiter {
    Waiter { shard: ShardId(1), conn: ConnId { index: 3, generation: 0 }, part: 7 }
}

#[test]
fn who_is_told_by_mail_still_learns_that_a_read_failed() {
    let mut rig = Rig::new(&[]);
    for timestamp in 0..3 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    rig.broken = true;
    let part = ReadPart { partition: KEY, offset: Offset(0), bytes_max: 1, waiter: 7 };
    let read = |rig: &mut Rig| rig.hosted.read(&part, 1, true, Some(waiter()), &rig.catalog);
    for _ in 0..2 {
        let result = read(&mut rig);
        assert!(result.is_loading() && result.error.is_none(), "{result:?}");
    }
    assert_eq!(rig.run().woken, [waiter()], "once, however often it has asked");

    // Retention ends a pass before the other shard has read its mail.
    rig.hosted.log.forget_read_failures();
    assert_eq!(read(&mut rig).error, Some(CallError::Storage));

    rig.hosted.log.forget_read_failures();
    rig.broken = false;
    assert!(read(&mut rig).is_loading(), "whoever asks later has it read again");
    rig.run();
    assert!(read(&mut rig).bytes > 0);
}

#[test]
fn no_chunk_is_read_that_finds_no_room_in_the_answer() {
    let mut rig = Rig::new(&[]);
    for timestamp in 0..5 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    let part =
        |offset| ReadPart { partition: KEY, offset: Offset(offset), bytes_max: 1 << 20, waiter: NO_PART };
    let parts = [part(0), part(1), part(2)];
    let read = |rig: &mut Rig, room| rig.hosted.read_all(&parts, (room, true), None, &rig.catalog);
    let loading =
        |results: Vec<ReadResult>| -> Vec<bool> { results.iter().map(ReadResult::is_loading).collect() };
    assert_eq!(loading(read(&mut rig, WHOLE_CHUNK)), [true, false, false]);
    assert_eq!(loading(read(&mut rig, WHOLE_CHUNK + 1000)), [true, true, false], "a part of one is room");
    rig.run();
    let found = read(&mut rig, WHOLE_CHUNK + 1000);
    assert!(found[0].bytes > WHOLE_CHUNK && !found[0].fresh, "{:?}", found[0]);
}

#[test]
fn what_lies_far_behind_is_not_read_ahead() {
    let mut rig = Rig::new(&[]);
    for timestamp in 0..9 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    let part = ReadPart { partition: KEY, offset: Offset(0), bytes_max: 1 << 20, waiter: NO_PART };
    let read = |rig: &mut Rig, bytes_max| {
        rig.hosted.read(&part, bytes_max, true, None, &rig.catalog);
        rig.run();
        rig.hosted.log.cache_bytes().1 / CONFIG.chunk_bytes as u64
    };
    assert_eq!(read(&mut rig, 1), 2, "what the next read begins with");
    assert_eq!(read(&mut rig, 1 << 20), 5, "the third of eight, and two that come next");
}

#[test]
fn who_waits_at_the_end_hears_of_a_new_start_and_that_the_topic_is_gone() {
    let mut rig = Rig::new(&[("retention.bytes", "1")]);
    for timestamp in 0..3 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    let end = ReadPart { partition: KEY, offset: Offset(3), bytes_max: 1, waiter: 7 };
    let wait = |rig: &mut Rig| {
        let result = rig.hosted.read(&end, 1, true, Some(waiter()), &rig.catalog);
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
fn who_waits_for_a_chunk_that_goes_is_answered() {
    let mut rig = Rig::new(&[("retention.bytes", "1")]);
    for timestamp in 0..4 {
        rig.append(&[timestamp], WHOLE_CHUNK);
    }
    let origin = Origin::new(ShardId(1), Ticket { conn: waiter().conn, request: 0, part: 0 });
    let call = Call::ListOffset { partition: KEY, spec: OffsetSpec::AtOrAfter(0) };
    assert!(rig.hosted.call(origin, call, &rig.catalog, NOW).is_none(), "the chunk must be read");
    let part = ReadPart { partition: KEY, offset: Offset(0), bytes_max: 1, waiter: 7 };
    assert!(rig.hosted.read(&part, 1, true, Some(waiter()), &rig.catalog).is_loading());

    // Before it is, its segment dies and is taken.
    rig.retain();
    rig.recycle();
    let out = rig.run();
    assert_eq!(out.woken, [waiter()]);
    let answers: Vec<_> = out.answers.into_iter().map(|(_, answer)| answer).collect();
    assert!(
        matches!(&answers[..], [Answer::ListOffset(Ok(Some(found)))] if found.offset == Offset(3)),
        "{answers:?}"
    );
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

/// What a reader gets at `offset` once it is in memory.
fn read_at(rig: &mut Rig, offset: i64) -> ReadResult {
    let part = ReadPart { partition: KEY, offset: Offset(offset), bytes_max: 1, waiter: NO_PART };
    for _ in 0..2 {
        let result = rig.hosted.read(&part, 1, true, None, &rig.catalog);
        // What comes next may be loading still.
        if result.bytes > 0 || !result.is_loading() {
            assert!(result.error.is_none() && result.bytes > WHOLE_CHUNK, "{result:?}");
            return result;
        }
        rig.run();
    }
    panic!("offset {offset} is never read");
}

/// More than the tail and the cold cache have room for.
const SLOW_READERS: i64 = 13;

#[test]
fn readers_that_hold_on_to_the_tail_do_not_stop_the_producers() {
    let mut rig = Rig::new(&[]);
    let mut held = Vec::new();
    for offset in 0..SLOW_READERS {
        rig.append(&[offset], WHOLE_CHUNK);
        let part = ReadPart { partition: KEY, offset: Offset(offset), bytes_max: 1, waiter: NO_PART };
        held.push(rig.hosted.read(&part, 1, true, None, &rig.catalog));
        assert!(!held.last().unwrap().is_loading(), "it is in the tail");
    }
    let values = held.iter().map(|result| result.records.concat().len());
    assert!(values.eq(std::iter::repeat_n(held[0].bytes, held.len())), "copies are whole");
}

#[test]
fn readers_that_hold_on_to_what_was_read_back_do_not_stop_other_readers() {
    let mut rig = Rig::new(&[]);
    for offset in 0..SLOW_READERS {
        rig.append(&[offset], WHOLE_CHUNK);
    }
    let mut held: Vec<ReadResult> = (0..SLOW_READERS).map(|offset| read_at(&mut rig, offset)).collect();
    assert!(rig.hosted.log.cache_bytes().1 <= 11 * (32 << 10));
    // When they let go, records are lent again: nothing is counted twice.
    for _ in 0..3 {
        held.clear();
        held.extend((0..SLOW_READERS).map(|offset| read_at(&mut rig, offset)));
    }
}

#[test]
fn batches_larger_than_a_chunk_do_not_pile_up_in_the_cold_cache() {
    const BYTES: usize = 40 << 10;
    let mut rig = Rig::new(&[]);
    for offset in 0..6 {
        rig.append(&[offset], BYTES);
    }
    for offset in 0..5 {
        read_at(&mut rig, offset);
        let cold = rig.hosted.log.cache_bytes().1 as usize;
        assert!((BYTES..=CONFIG.read_cache_bytes).contains(&cold), "{cold} after offset {offset}");
    }
}

#[test]
fn what_was_read_for_somebody_stays_until_they_look() {
    let mut rig = Rig::new(&[]);
    for offset in 0..5 {
        rig.append(&[offset], 40 << 10);
    }
    let read = |rig: &mut Rig, offset| {
        let part = ReadPart { partition: KEY, offset: Offset(offset), bytes_max: 1, waiter: NO_PART };
        rig.hosted.read(&part, 1, true, Some(waiter()), &rig.catalog).bytes
    };
    // The cache has room for one of these.
    assert!((0..3).all(|offset| read(&mut rig, offset) == 0));
    rig.run();
    assert!((0..3).all(|offset| read(&mut rig, offset) > 0), "one has pushed out the other");
}

#[test]
fn what_is_durable_stays_in_memory_until_it_is_applied() {
    let mut rig = Rig::new(&[]);
    let mut held = Vec::new();
    // Of eleven chunks, readers hold nine.
    for offset in 0..9 {
        rig.append(&[offset], WHOLE_CHUNK);
        let part = ReadPart { partition: KEY, offset: Offset(offset), bytes_max: 1, waiter: NO_PART };
        held.push(rig.hosted.read(&part, 1, true, None, &rig.catalog));
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

#[test]
fn an_answer_by_mail_says_when_its_block_was_written() {
    let mut rig = Rig::new(&[]);
    let Answer::Appended(Ok(appended)) = rig.ask(append_call(batch(&[0], 5))) else {
        panic!("it is appended")
    };
    let at = NOW.mono;
    assert_eq!(appended.stamps, AppendStamps { appended: at, submitted: at, completed: at });
}
