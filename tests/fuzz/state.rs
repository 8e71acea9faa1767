//! What entries and checkpoints hold for the layers above the log: partitions, producers, group
//! offsets, and the records of the metadata log. Groups themselves: `groups.rs`.

use ringmq::base::bytes::Fields;
use ringmq::codec::batch_builder::BatchBuilder;
use ringmq::codec::compression::Compression;
use ringmq::codec::record_batch::{ProducerStamp, patch_base_offset, patch_leader_epoch};
use ringmq::log::entry::{Entries, EntryKind};
use ringmq::log::recovery::Replay;
use ringmq::metadata::catalog::Catalog;
use ringmq::metadata::record::MetaRecord;
use ringmq::model::{LogId, Offset, PartitionKey, Position, ProducerId, Slot, Term, TopicId, WallMs};
use ringmq::partition::Partitions;
use ringmq::partition::group_offsets::{CommittedOffset, GroupOffsets, encode_commit};
use ringmq::partition::producer_lru::ProducerLru;
use ringmq::partition::producer_state::ProducerStates;

use crate::harness::{Memory, SMALL, Target, no_fix};
use crate::log::{entry, seal_entries};

const TIME: WallMs = WallMs(1_700_000_000_000);
/// Maps of small things: each is kept, encoded, and built once more.
const MAPS: Memory = Memory { per_byte: 256, bytes: 64 << 10 };

/// Entries one behind the other, as the partitions replay them at a start: opened and closed slots,
/// batches, deleted records, group offsets, groups.
pub const ENTRIES: Target = Target {
    run: |bytes| replay(bytes).is_some_and(|partitions| survives(&partitions)),
    seeds: || vec![story(), story()[..60 + 4].to_vec()],
    fix: |bytes| {
        seal_entries(bytes);
    },
    memory: MAPS,
    mutants_per_second: 50_000,
};

/// What partitions write into a checkpoint.
pub const PARTITIONS: Target = Target {
    run: |bytes| {
        let mut partitions = Partitions::default();
        partitions.restore(bytes).is_ok() && survives(&partitions)
    },
    seeds: || {
        let some = replay(&story()).expect("the story is sound");
        vec![encoded(&Partitions::default()), encoded(&some)]
    },
    fix: no_fix,
    memory: MAPS,
    mutants_per_second: 100_000,
};

pub const PRODUCERS: Target = Target {
    run: |bytes| {
        let mut rest = bytes;
        let Ok(producers) = ProducerStates::decode(Slot(0), &mut rest) else { return false };
        let mut again = Vec::new();
        producers.encode(&mut again);
        assert_eq!(again, bytes[..bytes.len() - rest.len()], "there is one encoding of a state");
        true
    },
    seeds: || {
        let (mut producers, mut lru) = (ProducerStates::default(), ProducerLru::default());
        let mut none = Vec::new();
        producers.encode(&mut none);
        for number in 0..8 {
            let stamp =
                ProducerStamp { id: ProducerId(7 + number % 2), epoch: 1, base_sequence: number as i32 / 2 };
            producers.append(Slot(0), stamp, 1, Offset(number), TIME, Position::ZERO);
        }
        producers.apply_durable(&mut lru, Position::ZERO);
        let mut some = Vec::new();
        producers.encode(&mut some);
        vec![none, some]
    },
    fix: no_fix,
    memory: MAPS,
    mutants_per_second: 100_000,
};

/// The payload of an entry: what a group committed at one time.
pub const GROUP_COMMIT: Target = Target {
    run: |bytes| {
        let mut groups = GroupOffsets::default();
        groups.apply(bytes).is_ok() && groups_survive(&groups)
    },
    seeds: || vec![commit("g", 5), encode_commit("", &[])],
    fix: no_fix,
    memory: MAPS,
    mutants_per_second: 100_000,
};

/// What a checkpoint holds of groups.
pub const GROUP_OFFSETS: Target = Target {
    run: |bytes| GroupOffsets::decode(&mut Fields::new(bytes)).is_ok_and(|groups| groups_survive(&groups)),
    seeds: || {
        let mut groups = GroupOffsets::default();
        for (name, offset) in [("billing", 5), ("audit", 0)] {
            groups.apply(&commit(name, offset)).expect("just encoded");
        }
        let mut some = Vec::new();
        groups.encode(&mut some);
        vec![vec![0; 4], some]
    },
    fix: no_fix,
    memory: MAPS,
    mutants_per_second: 100_000,
};

pub const METADATA_RECORD: Target = Target {
    run: |bytes| {
        let Ok(record) = MetaRecord::decode(bytes) else { return false };
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again, bytes, "there is one encoding of a record");
        true
    },
    seeds: || metadata().iter().map(record_bytes).collect(),
    fix: no_fix,
    memory: SMALL,
    mutants_per_second: 100_000,
};

/// Records one behind the other: the snapshot in a checkpoint, and the metadata log's entries.
pub const CATALOG: Target = Target {
    run: |bytes| {
        let Ok(catalog) = Catalog::restore(bytes) else { return false };
        assert_eq!(Catalog::restore(&catalog.snapshot()).as_ref(), Ok(&catalog));
        true
    },
    seeds: || {
        let all: Vec<u8> = metadata().iter().flat_map(record_bytes).collect();
        let snapshot = Catalog::restore(&all).expect("the records fit").snapshot();
        vec![Vec::new(), all, snapshot]
    },
    fix: no_fix,
    // A topic's config is wide.
    memory: Memory { per_byte: 256, bytes: 64 << 10 },
    mutants_per_second: 50_000,
};

// --- Partitions. ---

/// The partitions after all entries; `None` at the first that does not fit.
fn replay(entries: &[u8]) -> Option<Partitions> {
    let mut partitions = Partitions::default();
    for entry in Entries::new(entries) {
        let (_, header, payload) = entry.ok()?;
        header.check_payload(payload).ok()?;
        partitions.apply(&header, TIME, payload).ok()?;
    }
    Some(partitions)
}

fn encoded(partitions: &Partitions) -> Vec<u8> {
    let mut out = Vec::new();
    partitions.encode(&mut out);
    out
}

/// A checkpoint brings back what it was made of.
fn survives(partitions: &Partitions) -> bool {
    for (_, partition) in partitions.iter() {
        assert!(Offset::ZERO <= partition.log_start());
        assert!(partition.log_start() <= partition.high_watermark());
    }
    let state = encoded(partitions);
    let mut again = Partitions::default();
    again.restore(&state).expect("what partitions wrote, they read");
    assert_eq!(encoded(&again), state);
    true
}

fn batch(base_offset: i64, stamp: Option<ProducerStamp>) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some(stamp) = stamp {
        builder = builder.producer(stamp);
    }
    builder.push(TIME.0, None, Some(b"first"), &[]).push(TIME.0, None, Some(b"second"), &[]);
    let mut bytes = builder.finish();
    patch_base_offset(&mut bytes, Offset(base_offset));
    patch_leader_epoch(&mut bytes, Term(1));
    bytes
}

/// Two partitions, a producer, a deletion, two groups; the second partition is closed at the end.
fn story() -> Vec<u8> {
    let group: Vec<u8> = crate::groups::records()[..4]
        .iter()
        .flat_map(|record| entry(EntryKind::GroupState, 0, 0, 0, record))
        .collect();
    let opened = |slot: u32| {
        let key = [&[slot as u8 + 1; 16][..], &0i32.to_le_bytes()].concat();
        entry(EntryKind::SlotOpen, slot, 0, 0, &key)
    };
    let stamp = |base_sequence| Some(ProducerStamp { id: ProducerId(4), epoch: 0, base_sequence });
    let data = |slot, base_offset, stamp| {
        entry(EntryKind::KafkaBatch, slot, base_offset, 2, &batch(base_offset, stamp))
    };
    [
        opened(0),
        data(0, 0, stamp(0)),
        data(0, 2, stamp(2)),
        opened(1),
        data(1, 0, None),
        entry(EntryKind::LogStart, 0, 1, 0, &[]),
        entry(EntryKind::GroupOffsets, 0, 0, 0, &commit("billing", 3)),
        group,
        entry(EntryKind::TermOpen, 0, 0, 0, &2u32.to_le_bytes()),
        entry(EntryKind::SlotClose, 1, 0, 0, &[]),
    ]
    .concat()
}

// --- Groups. ---

fn commit(group: &str, offset: i64) -> Vec<u8> {
    let committed = |index, metadata: Option<&str>| CommittedOffset {
        partition: PartitionKey { topic: TopicId([1; 16]), index },
        offset: Offset(offset),
        leader_epoch: -1,
        metadata: metadata.map(str::to_owned),
        commit_time: TIME.0,
    };
    encode_commit(group, &[committed(0, Some("by night")), committed(1, None)])
}

fn groups_survive(groups: &GroupOffsets) -> bool {
    let mut bytes = Vec::new();
    groups.encode(&mut bytes);
    let mut fields = Fields::new(&bytes);
    assert_eq!(GroupOffsets::decode(&mut fields).as_ref(), Ok(groups));
    assert!(fields.is_empty());
    true
}

// --- The metadata log. ---

fn record_bytes(record: &MetaRecord) -> Vec<u8> {
    let mut out = Vec::new();
    record.encode(&mut out);
    out
}

/// Every kind of record.
pub fn metadata() -> Vec<MetaRecord> {
    let (orders, clicks, log) = (TopicId([1; 16]), TopicId([2; 16]), LogId(1));
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let created = |id, name: &str, configs| MetaRecord::TopicCreated {
        id,
        name: name.to_owned(),
        configs,
        partitions: vec![log, log],
    };
    vec![
        MetaRecord::LogAdded { log },
        created(orders, "orders", vec![pair("retention.ms", "-1"), pair("max.message.bytes", "100000")]),
        created(clicks, "clicks", vec![]),
        MetaRecord::GroupAssigned { group: "billing".to_owned(), log },
        MetaRecord::PartitionsAdded { id: orders, first_index: 2, partitions: vec![log] },
        MetaRecord::TopicConfigsChanged {
            id: orders,
            configs: vec![pair("message.timestamp.type", "LogAppendTime"), pair("retention.bytes", "9")],
        },
        MetaRecord::ProducerIdBlock { first: 4000, count: 1000, log },
        MetaRecord::TopicDeleted { id: clicks },
    ]
}
