//! What the data directories of this folder hold: every kind of entry, two terms, a checkpoint with a
//! log behind it, a recycled segment, and no orderly end.
//!
//! `write` tells the story to today's program; `check` asks a directory that some program wrote.

use std::path::Path;
use std::time::Duration;

use ringmq::broker::data_dir::{BrokerFile, DataDir, log_dir, read_broker_file};
use ringmq::codec::batch_builder::BatchBuilder;
use ringmq::codec::compression::Compression;
use ringmq::codec::record_batch::{ProducerStamp, RecordBatch};
use ringmq::codec::records::InflatedBatch;
use ringmq::io::blocking::{BlockingDisk, block_on};
use ringmq::log::LogConfig;
use ringmq::log::read::{Gather, ReadEnd, ReadLimits};
use ringmq::log::recovery::{self, Replay};
use ringmq::metadata::record::MetaRecord;
use ringmq::metadata::replay::MetadataReplay;
use ringmq::model::{CommitMode, LogId, Offset, PartitionKey, ProducerId, Slot, TopicId};
use ringmq::partition::group_offsets::CommittedOffset;
use ringmq::partition::{CheckedBatch, Partitions};
use ringmq::shard::hosted::Hosted;

use crate::rig::{Rig, TIME_MS};

/// Small, so that a few records fill blocks, chunks and segments.
pub const SEGMENT_BYTES: u64 = 64 << 10;

pub const CONFIG: LogConfig = LogConfig {
    chunk_bytes: 32 << 10,
    block_bytes_max: 16 << 10,
    block_target_bytes: 16 << 10,
    write_bytes_max: 1 << 20,
    commit_mode: CommitMode::Plain,
    commit_depth: 1,
    tail_cache_bytes: 64 << 10,
    read_cache_bytes: 64 << 10,
    segment_bytes: SEGMENT_BYTES,
    segments_ahead: 1,
    dead_kept_for: Duration::from_secs(60),
    read_piece_bytes: 16 << 10,
    slice_bytes: 1 << 20,
    checkpoint_bytes: 1 << 30,
    log_bytes_max: 0,
};

const BROKER: uuid::Uuid = uuid::Uuid::from_u128(0x52494e47_4d51_4000_8000_000000000001);
const DATA: LogId = LogId(1);
const ORDERS: TopicId = TopicId([1; 16]);
const CLICKS: TopicId = TopicId([2; 16]);
/// Deleted in the course of the story.
const GONE: TopicId = TopicId([3; 16]);
const GROUP: &str = "billing";
const INSTANCE: &str = "pump-1";
const PRODUCER: ProducerId = ProducerId(4000);

const RECORDS_PER_BATCH: i64 = 8;
const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// What readers find at the end: topic, partition, first offset, one past the last.
const PARTITIONS: [(TopicId, i32, i64, i64); 3] =
    [(ORDERS, 0, 160, 256), (ORDERS, 1, 0, 40), (CLICKS, 0, 0, 16)];

fn key(topic: TopicId, index: i32) -> PartitionKey {
    PartitionKey { topic, index }
}

/// The value of a record, from where it lies.
fn value(key: PartitionKey, offset: i64) -> Vec<u8> {
    let line = format!("topic {} partition {} offset {offset}; ", key.topic.0[0], key.index);
    line.into_bytes().repeat(14)
}

fn batch(key: PartitionKey, first: i64, codec: Compression, stamp: Option<ProducerStamp>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    if let Some(stamp) = stamp {
        builder = builder.producer(stamp);
    }
    for offset in first..first + RECORDS_PER_BATCH {
        let name = format!("key-{offset}");
        let record_key = (offset % 3 != 0).then_some(name.as_bytes());
        let headers: &[(&[u8], Option<&[u8]>)] =
            if offset % 2 == 0 { &[(b"h", Some(b"v")), (b"n", None)] } else { &[] };
        builder.push(TIME_MS + offset, record_key, Some(&value(key, offset)), headers);
    }
    builder.finish()
}

// --- Writing. ---

type OnDisk<R> = Rig<R, BlockingDisk>;
type Data = OnDisk<Partitions>;

fn open<R: Replay>(dir: &Path, log: LogId, layer: R) -> OnDisk<R> {
    let ids = (*BROKER.as_bytes(), log);
    Rig::try_open(BlockingDisk, CONFIG, dir, ids, layer, false).expect("the log opens").0
}

impl Data {
    fn append(&mut self, key: PartitionKey, first: i64, codec: Compression, stamp: Option<ProducerStamp>) {
        let bytes = batch(key, first, codec, stamp);
        let batch = RecordBatch::parse(&bytes).expect("just built");
        let checked = CheckedBatch { batch, log_append_time: false };
        let accepted = self.layer.append(&mut self.log, key, checked, self.now).expect("there is room");
        assert_eq!(accepted.base_offset, Offset(first));
        self.commit_all();
    }

    fn append_range(&mut self, key: PartitionKey, offsets: std::ops::Range<i64>) {
        for first in offsets.step_by(RECORDS_PER_BATCH as usize) {
            self.append(key, first, Compression::None, None);
        }
    }

    fn commit_all(&mut self) {
        self.commit(|partitions, durable| partitions.on_durable(durable));
        while self.log.segments().ready_count() == 0 {
            self.housekeeping();
        }
    }

    fn checkpoint_partitions(&mut self) {
        let mut state = Vec::new();
        self.layer.encode(&mut state);
        self.checkpoint(&state);
    }

    fn store_group(&mut self, record: &[u8]) {
        self.layer.store_group(&mut self.log, record, self.now).expect("there is room");
        self.commit_all();
    }

    fn commit_group(&mut self, offset: i64) {
        let committed = CommittedOffset {
            partition: key(ORDERS, 0),
            offset: Offset(offset),
            leader_epoch: 1,
            metadata: Some("by night".to_owned()),
            commit_time: TIME_MS,
        };
        let now = self.now;
        self.layer.commit_offsets(&mut self.log, GROUP, &[committed], now).expect("there is room");
        self.commit_all();
    }
}

/// With its length in front, as records of groups have strings and bytes.
fn bytes(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// The state of a group with one static member, byte by byte as docs/FORMATS.md has it.
fn group_state(member: &str) -> Vec<u8> {
    let said = [
        bytes("pump"),                    // client id
        bytes("/10.0.0.7"),               // client host
        45_000u32.to_le_bytes().to_vec(), // session and
        60_000u32.to_le_bytes().to_vec(), // rebalance timeout
        1u32.to_le_bytes().to_vec(),      // protocols
        bytes("range"),
        bytes("metadata"),
    ];
    [
        bytes(GROUP),
        vec![1],
        TIME_MS.to_le_bytes().to_vec(), // since
        3i32.to_le_bytes().to_vec(),    // generation
        bytes("consumer"),
        [vec![1], bytes("range")].concat(), // protocol
        [vec![1], bytes(member)].concat(),  // leader
        1u32.to_le_bytes().to_vec(),        // members
        bytes(member),
        [vec![1], bytes(INSTANCE)].concat(),
        said.concat(),
        bytes("all of it"), // assignment
    ]
    .concat()
}

/// Another process has the member's place.
fn group_instance(member: &str) -> Vec<u8> {
    [bytes(GROUP), vec![2], bytes(INSTANCE), bytes(member), vec![0]].concat()
}

/// Write the whole directory. It must not exist.
pub fn write(dir: &Path) {
    let owner = DataDir::lock(dir).expect("a new folder");
    let mut file = BrokerFile::new(BROKER, "formats".to_owned(), 1);
    file.measured = "not measured".to_owned();
    for log in file.log_ids() {
        let (dir, count) = (log_dir(dir, log), if log == DATA { 3 } else { 2 });
        let sizes = vec![SEGMENT_BYTES; count];
        let made = recovery::format(&BlockingDisk, &dir, (*BROKER.as_bytes(), log), &sizes);
        block_on(made).expect("room for the logs");
    }
    owner.write(&file).expect("room for broker.toml");
    write_metadata(&log_dir(dir, LogId::METADATA));
    write_data(&log_dir(dir, DATA));
    drop(owner);
    std::fs::remove_file(dir.join("LOCK")).expect("the owner made it");
}

fn write_metadata(dir: &Path) {
    let mut rig = open(dir, LogId::METADATA, MetadataReplay::default());
    let created = |id, name: &str, count| MetaRecord::TopicCreated {
        id,
        name: name.to_owned(),
        configs: vec![("retention.ms".to_owned(), "-1".to_owned())],
        partitions: vec![DATA; count],
    };
    let before = [
        MetaRecord::LogAdded { log: DATA },
        created(ORDERS, "orders", 1),
        created(CLICKS, "clicks", 1),
        created(GONE, "gone", 1),
        MetaRecord::GroupAssigned { group: GROUP.to_owned(), log: DATA },
    ];
    let configs = vec![("max.message.bytes".to_owned(), "100000".to_owned())];
    let after = [
        MetaRecord::PartitionsAdded { id: ORDERS, first_index: 1, partitions: vec![DATA] },
        MetaRecord::TopicConfigsChanged { id: CLICKS, configs },
        MetaRecord::ProducerIdBlock { first: PRODUCER.0, count: 1000, log: DATA },
        MetaRecord::TopicDeleted { id: GONE },
    ];
    let append = |rig: &mut OnDisk<MetadataReplay>, records: &[MetaRecord]| {
        for record in records {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            Hosted::append_record(&mut rig.log, &bytes, rig.now).expect("there is room");
            rig.commit(|_, _| {});
            rig.layer.catalog.apply(record).expect("the records fit");
        }
    };
    append(&mut rig, &before);
    let snapshot = rig.layer.catalog.snapshot();
    rig.checkpoint(&snapshot);
    append(&mut rig, &after);
    rig.housekeeping();
}

fn write_data(dir: &Path) {
    let mut rig = open(dir, DATA, Partitions::default());
    rig.append_range(key(ORDERS, 0), 0..104);
    rig.append_range(key(GONE, 0), 0..8);
    rig.commit_group(42);
    rig.store_group(&group_state("first"));
    rig.append_range(key(ORDERS, 0), 104..200);
    // What the first segments hold dies; with a checkpoint behind it the oldest is used again.
    let slot = rig.layer.slot(key(ORDERS, 0)).expect("written to");
    let now = rig.now;
    rig.layer.delete_records(&mut rig.log, slot, Offset(160), now).expect("there is room");
    rig.layer.close_topic(&mut rig.log, GONE, now).expect("there is room");
    rig.commit_all();
    rig.log.drop_before(slot, Offset(160));
    rig.checkpoint_partitions();
    rig.housekeeping();
    drop(rig);

    let mut rig = open(dir, DATA, Partitions::default());
    for (number, codec) in (0..).zip(CODECS) {
        rig.append(key(ORDERS, 1), number * RECORDS_PER_BATCH, codec, None);
    }
    for number in 0..2 {
        let first = number * RECORDS_PER_BATCH;
        let stamp = ProducerStamp { id: PRODUCER, epoch: 3, base_sequence: first as i32 };
        rig.append(key(CLICKS, 0), first, Compression::None, Some(stamp));
    }
    rig.checkpoint_partitions();
    rig.append_range(key(ORDERS, 0), 200..256);
    rig.commit_group(240);
    rig.store_group(&group_instance("second"));
    rig.housekeeping();
}

/// Open the data log once more, and close it in order.
pub fn close(dir: &Path) {
    let mut rig = open(dir, DATA, Partitions::default());
    rig.checkpoint_partitions();
    rig.housekeeping();
    let job = rig.log.close().expect("nothing is under way");
    rig.run(job);
}

/// Open the data log once more and append to it, as a broker does that is then killed. The manifest
/// is not told.
pub fn append_after_the_end(dir: &Path, batches: i64) {
    let mut rig = open(dir, DATA, Partitions::default());
    rig.append_range(key(ORDERS, 0), 256..256 + batches * RECORDS_PER_BATCH);
}

// --- Reading. ---

/// Open the directory as a broker would, and compare all there is with the story. `with_members`: it was told when
/// members of groups were in it already.
pub fn check(dir: &Path, with_members: bool) {
    let file = read_broker_file(dir).expect("readable").expect("complete");
    assert_eq!((file.broker, &file.cluster_id[..], file.logs), (BROKER, "formats", 1));
    check_metadata(&log_dir(dir, LogId::METADATA));
    check_data(&log_dir(dir, DATA), with_members);
}

fn check_metadata(dir: &Path) {
    let rig = open(dir, LogId::METADATA, MetadataReplay::default());
    let catalog = &rig.layer.catalog;
    let topics: Vec<(&str, TopicId, usize)> =
        catalog.topics().map(|topic| (&*topic.name, topic.id, topic.partitions.len())).collect();
    assert_eq!(topics, [("clicks", CLICKS, 1), ("orders", ORDERS, 2)]);
    assert_eq!(catalog.topic("clicks").expect("listed").config.batch_bytes_max, Some(100_000));
    assert_eq!(catalog.group_log(GROUP), DATA);
    let next = catalog.allocate_producer_ids(DATA, 1);
    assert_eq!(next, MetaRecord::ProducerIdBlock { first: PRODUCER.0 + 1000, count: 1, log: DATA });
}

fn check_data(dir: &Path, with_members: bool) {
    let mut rig = open(dir, DATA, Partitions::default());
    let Rig { log, layer, .. } = &mut rig;
    layer.finish_recovery(log).expect("index and partitions agree");
    assert!(log.segments().iter().any(|segment| segment.record.recycled));
    assert_eq!(layer.slot(key(GONE, 0)), None, "the topic is deleted");
    let committed = layer.groups().get(GROUP, None);
    assert_eq!((committed.len(), committed[0].offset), (1, Offset(240)));
    assert_eq!(committed[0].metadata.as_deref(), Some("by night"));

    let mut members = Vec::new();
    layer.stored_groups().encode(&mut members);
    let expected: &[Vec<u8>] = if with_members { &[group_state("second")] } else { &[] };
    let mut encoded = (expected.len() as u32).to_le_bytes().to_vec();
    for state in expected {
        encoded.extend_from_slice(&(state.len() as u32).to_le_bytes());
        encoded.extend_from_slice(state);
    }
    assert_eq!(members, encoded);

    for (topic, index, start, end) in PARTITIONS {
        let key = key(topic, index);
        let slot = rig.layer.slot(key).expect("written to");
        let partition = rig.layer.get(slot).expect("has a slot");
        assert_eq!(
            (partition.log_start(), partition.high_watermark()),
            (Offset(start), Offset(end)),
            "{key:?}"
        );
        let bytes = read(&mut rig, slot, Offset(start));
        check_records(key, &bytes, start..end);
    }
    // The producer's last batch is known: sent again it is a duplicate, not a second copy.
    let stamp = ProducerStamp { id: PRODUCER, epoch: 3, base_sequence: RECORDS_PER_BATCH as i32 };
    let bytes = batch(key(CLICKS, 0), RECORDS_PER_BATCH, Compression::None, Some(stamp));
    let again =
        CheckedBatch { batch: RecordBatch::parse(&bytes).expect("just built"), log_append_time: false };
    let accepted =
        rig.layer.append(&mut rig.log, key(CLICKS, 0), again, rig.now).expect("a duplicate is taken");
    assert_eq!((accepted.base_offset, accepted.durable_at), (Offset(RECORDS_PER_BATCH), None));
}

fn check_records(key: PartitionKey, mut bytes: &[u8], mut offsets: std::ops::Range<i64>) {
    while !bytes.is_empty() {
        let (batch, rest) = RecordBatch::split_first(bytes).expect("a batch");
        bytes = rest;
        batch.verify_crc().expect("the client's own checksum");
        for record in InflatedBatch::open(batch, 1 << 20).expect("inflates").records() {
            let record = record.expect("well-formed");
            let offset = record.offset.0;
            assert_eq!(Some(offset), offsets.next(), "{key:?}");
            assert_eq!(record.timestamp, TIME_MS + offset);
            let expected_key = (offset % 3 != 0).then(|| format!("key-{offset}").into_bytes());
            assert_eq!(record.key, expected_key.as_deref());
            assert_eq!(record.value, Some(&value(key, offset)[..]));
            let headers: Vec<_> = record.headers.collect();
            let expected: &[(&[u8], Option<&[u8]>)] =
                if offset % 2 == 0 { &[(b"h", Some(b"v")), (b"n", None)] } else { &[] };
            assert_eq!(headers, expected);
        }
    }
    assert!(offsets.is_empty(), "{key:?}: {offsets:?} are missing");
}

/// All batches of a slot from `from` on. A read gives what it finds without waiting a second time.
fn read(rig: &mut Data, slot: Slot, mut from: Offset) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut gather = Gather::new(from);
        match rig.log.read(slot, from, ReadLimits::at_least(usize::MAX), &mut gather) {
            ReadEnd::Done if gather.bytes() == 0 => return all,
            ReadEnd::Done => {
                from = gather.next();
                all.extend(gather.finish().concat());
            }
            ReadEnd::Failed => panic!("slot {slot} cannot be read"),
            ReadEnd::Missing(..) => rig.submit(),
            ReadEnd::Past => unreachable!("it may look there"),
        }
    }
}
