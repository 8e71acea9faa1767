//! The checker: what clients were promised, and whether everything they see later agrees with it.
//!
//! It knows nothing of logs. Its facts are what went over the wire:
//!
//! - an acked record has its offset for ever, and so has a record that somebody has read: before and
//!   after every crash, once, in the order in which its producer sent it, with the bytes it had;
//! - offsets are dense: a fetch goes on where the one before ended;
//! - a high watermark that somebody has seen, or an ack below it, never goes back;
//! - a batch keeps its leader epoch, epochs do not fall from offset to offset, and the end of an epoch is
//!   never before a record that was read in it: consumers would believe that records were cut off;
//! - a partition's start moves only as far as retention or DeleteRecords allow.
//!
//! Responses overtake each other, so a response is measured by what was known when its request left.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ringmq::codec::record_batch::{Batches, HEADER_BYTES, ProducerStamp, RecordBatch};
use ringmq::codec::records::InflatedBatch;
use ringmq::codec::{batch_builder::BatchBuilder, compression::Compression};
use ringmq::io::sim::Rng;

/// A topic of the ledger: an incarnation, not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicNo(pub usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub topic: TopicNo,
    pub partition: usize,
}

/// Whether a topic is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Asked for; nobody has said that it exists.
    Maybe,
    Exists,
    /// Asked to go; nobody has said that it has.
    MaybeGone,
    Gone,
}

pub struct Topic {
    pub name: String,
    pub id: Option<uuid::Uuid>,
    pub life: Life,
    pub retention_bytes: Option<u64>,
    pub partitions: Vec<Partition>,
    /// Partitions that it shall have, or has without anybody having said so.
    pub growing: Option<usize>,
}

struct Record {
    timestamp: i64,
    value: Box<[u8]>,
    producer: u32,
    /// Once somebody knows it.
    offset: Option<i64>,
}

/// A batch that a producer has made, and may send many times.
#[derive(Clone, Debug)]
pub struct Batch {
    pub place: Place,
    /// Its records, as numbered by the partition's ledger.
    pub first: usize,
    pub count: usize,
    pub bytes: Vec<u8>,
}

#[derive(Default)]
pub struct Partition {
    records: Vec<Record>,
    at: BTreeMap<i64, usize>,
    /// Of each batch that was read, by its base offset: where it ends, and its leader epoch.
    batches: BTreeMap<i64, (i64, i32)>,
    /// Readers may see at least so far.
    high: i64,
    /// The start that DeleteRecords has been acked for.
    start: i64,
    /// The farthest start that anybody has asked for.
    start_asked: i64,
    /// The farthest start seen.
    start_seen: i64,
}

/// What is known of a partition at some moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    pub high: i64,
    pub start: i64,
}

#[derive(Default)]
pub struct Ledger {
    pub topics: Vec<Topic>,
    producer_ids: BTreeSet<i64>,
}

/// The value of a record: its number, then bytes of its own.
fn value(record: usize, bytes: usize) -> Box<[u8]> {
    let mut value = (record as u64).to_le_bytes().to_vec();
    value.extend((0..bytes).map(|index| ((record * 31 + index * 7) ^ (index >> 5)) as u8));
    value.into()
}

impl Ledger {
    pub fn topic(&self, topic: TopicNo) -> &Topic {
        &self.topics[topic.0]
    }

    pub fn topic_mut(&mut self, topic: TopicNo) -> &mut Topic {
        &mut self.topics[topic.0]
    }

    pub fn partition(&self, place: Place) -> &Partition {
        &self.topics[place.topic.0].partitions[place.partition]
    }

    fn partition_mut(&mut self, place: Place) -> &mut Partition {
        &mut self.topics[place.topic.0].partitions[place.partition]
    }

    pub fn add_topic(&mut self, name: &str, partitions: usize, retention_bytes: Option<u64>) -> TopicNo {
        self.topics.push(Topic {
            name: name.to_owned(),
            id: None,
            life: Life::Maybe,
            retention_bytes,
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            growing: None,
        });
        TopicNo(self.topics.len() - 1)
    }

    /// The topic has so many partitions now.
    pub fn grow(&mut self, topic: TopicNo, count: usize) {
        let topic = self.topic_mut(topic);
        assert!(topic.partitions.len() < count);
        topic.partitions.resize_with(count, Partition::default);
        topic.growing = None;
    }

    /// A producer got this id.
    pub fn producer_id(&mut self, id: i64) {
        assert!(self.producer_ids.insert(id), "producer id {id} was given twice");
    }

    /// What requests call a topic: those that come and go by their id, because another may take the name.
    pub fn names(&self, topic: TopicNo) -> (&str, uuid::Uuid) {
        let topic = self.topic(topic);
        if topic.name.starts_with("stays") {
            (&topic.name, uuid::Uuid::nil())
        } else {
            ("", topic.id.expect("a topic that exists has an id"))
        }
    }

    /// Topics that are there, and that nobody wants gone.
    pub fn living(&self) -> impl Iterator<Item = TopicNo> {
        let living = |(_, topic): &(usize, &Topic)| topic.life == Life::Exists;
        self.topics.iter().enumerate().filter(living).map(|(index, _)| TopicNo(index))
    }

    /// All partitions of topics that are there.
    pub fn places(&self) -> Vec<Place> {
        let places =
            |topic: TopicNo| (0..self.topic(topic).partitions.len()).map(move |partition| (topic, partition));
        self.living().flat_map(places).map(|(topic, partition)| Place { topic, partition }).collect()
    }

    /// Make a batch of new records.
    pub fn batch(
        &mut self,
        place: Place,
        producer: u32,
        stamp: Option<ProducerStamp>,
        timestamp: i64,
        heavy: bool,
        rng: &mut Rng,
    ) -> Batch {
        let partition = self.partition_mut(place);
        let first = partition.records.len();
        let count = rng.between(1, 6) as usize;
        let compression = if rng.one_in(8) { Compression::Lz4 } else { Compression::None };
        let mut builder = BatchBuilder::new(compression);
        if let Some(stamp) = stamp {
            builder = builder.producer(stamp);
        }
        for record in first..first + count {
            let large = heavy || rng.one_in(30);
            let bytes = if large { rng.between(3000, 7000) } else { rng.between(0, 500) };
            let value = value(record, bytes as usize);
            builder.push(timestamp, Some(&producer.to_le_bytes()), Some(&value), &[]);
            partition.records.push(Record { timestamp, value, producer, offset: None });
        }
        Batch { place, first, count, bytes: builder.finish() }
    }

    /// What a request that leaves now may rely on.
    pub fn known(&self, place: Place) -> Known {
        let Partition { high, start, .. } = *self.partition(place);
        Known { high, start }
    }

    pub fn acked(&mut self, batch: &Batch, base_offset: i64) {
        let place = batch.place;
        for (index, record) in (batch.first..batch.first + batch.count).enumerate() {
            self.learn(place, base_offset + index as i64, record);
        }
        let partition = self.partition_mut(place);
        partition.high = partition.high.max(base_offset + batch.count as i64);
    }

    /// Was this record read although its producer has no ack for it?
    pub fn is_known(&self, place: Place, record: usize) -> bool {
        self.partition(place).records[record].offset.is_some()
    }

    fn learn(&mut self, place: Place, offset: i64, record: usize) {
        let partition = self.partition_mut(place);
        let there = *partition.at.entry(offset).or_insert(record);
        assert_eq!(there, record, "{place:?}: offset {offset} had record {there}, and now has {record}");
        let before = *partition.records[record].offset.get_or_insert(offset);
        assert_eq!(before, offset, "{place:?}: record {record} is there twice, at {before} and {offset}");
    }

    /// A partition's ends, as a response tells them.
    pub fn ends(&mut self, place: Place, known: Known, high: i64, start: i64) {
        self.high(place, known, high);
        self.start(place, known, start);
        assert!(start <= high, "{place:?}: starts at {start}, beyond its end {high}");
    }

    pub fn high(&mut self, place: Place, known: Known, high: i64) {
        assert!(high >= known.high, "{place:?}: the high watermark went back from {} to {high}", known.high);
        let partition = self.partition_mut(place);
        assert!(high <= partition.records.len() as i64, "{place:?}: more records than were ever sent");
        partition.high = partition.high.max(high);
    }

    pub fn start(&mut self, place: Place, known: Known, start: i64) {
        assert!(start >= known.start, "{place:?}: deleted records are back: {start} after {}", known.start);
        let retains = self.topic(place.topic).retention_bytes.is_some();
        let partition = self.partition_mut(place);
        let asked = partition.start_asked;
        assert!(retains || start <= asked, "{place:?}: starts at {start}, nobody asked beyond {asked}");
        partition.start_seen = partition.start_seen.max(start);
    }

    /// Retention has moved the start by itself.
    pub fn retention_moved(&self, place: Place) -> bool {
        self.partition(place).start_seen > self.partition(place).start_asked
    }

    pub fn delete_asked(&mut self, place: Place, before: i64) {
        let partition = self.partition_mut(place);
        partition.start_asked = partition.start_asked.max(before);
    }

    pub fn delete_acked(&mut self, place: Place, start: i64) {
        let partition = self.partition_mut(place);
        partition.start = partition.start.max(start);
    }

    /// Records that a fetch from `offset` returned. Returns the offset after them and their number.
    pub fn fetched(&mut self, place: Place, offset: i64, high: i64, bytes: &[u8]) -> (i64, u64) {
        let mut next = None;
        let mut records = 0;
        for batch in Batches::new(bytes) {
            let batch = batch.unwrap_or_else(|error| panic!("{place:?}: not a batch at {next:?}: {error}"));
            let (base, end) = (batch.base_offset().0, batch.end_offset().0);
            match next {
                None => assert!((base..end).contains(&offset), "{place:?}: {base}..{end} for {offset}"),
                Some(next) => assert_eq!(base, next, "{place:?}: a gap between batches"),
            }
            self.check_batch(place, batch);
            self.learn_epoch(place, base..end, batch.leader_epoch());
            records += u64::from(batch.record_count());
            next = Some(end);
        }
        let next = next.unwrap_or(offset);
        assert!(next <= high, "{place:?}: a record at {next} beyond the high watermark {high}");
        let partition = self.partition_mut(place);
        partition.high = partition.high.max(next);
        (next, records)
    }

    fn learn_epoch(&mut self, place: Place, offsets: Range<i64>, epoch: i32) {
        let batches = &mut self.partition_mut(place).batches;
        let Range { start: base, end } = offsets;
        let before = batches.range(..base).next_back().map_or(epoch, |(_, &(_, before))| before);
        assert!(before <= epoch, "{place:?}: epoch {epoch} at {base}, after {before}");
        let after = batches.range(end..).next().map_or(epoch, |(_, &(_, after))| after);
        assert!(epoch <= after, "{place:?}: epoch {epoch} at {base}, before {after}");
        let there = *batches.entry(base).or_insert((end, epoch));
        assert_eq!(there, (end, epoch), "{place:?}: the batch at {base} is another one now");
    }

    /// The last batch before `offset` that anybody has read: its end, and its leader epoch.
    pub fn epoch_before(&self, place: Place, offset: i64) -> Option<(i64, i32)> {
        self.partition(place).batches.range(..offset).next_back().map(|(_, &batch)| batch)
    }

    /// The end of an `epoch` in which records up to `read` were read, as a response tells it.
    pub fn epoch_end(&self, place: Place, (read, epoch): (i64, i32), found: i32, end: i64) {
        assert_eq!(found, epoch, "{place:?}: epoch {epoch} is forgotten");
        assert!(end >= read, "{place:?}: epoch {epoch} ends at {end}, but was read up to {read}");
        let later = self.partition(place).batches.range(read..).find(|(_, (_, other))| *other > epoch);
        let limit = later.map_or(end, |(&base, _)| base);
        assert!(end <= limit, "{place:?}: epoch {epoch} ends at {end}, but a later one begins at {limit}");
    }

    fn check_batch(&mut self, place: Place, batch: RecordBatch<'_>) {
        assert!(batch.bytes().len() > HEADER_BYTES);
        batch.verify_crc().unwrap_or_else(|error| panic!("{place:?}: {error}"));
        let inflated = InflatedBatch::open(batch, 1 << 20).expect("what was sent inflates");
        for (offset, record) in (batch.base_offset().0..).zip(inflated.records()) {
            let record = record.expect("what was sent parses");
            assert_eq!(record.offset.0, offset);
            let bytes = record.value.expect("every record has a value");
            let number = u64::from_le_bytes(*bytes.first_chunk().expect("every value has a number")) as usize;
            let sent = self.partition(place).records.get(number);
            let sent = sent.unwrap_or_else(|| panic!("{place:?}: record {number} was never sent"));
            assert_eq!(record.key, Some(&sent.producer.to_le_bytes()[..]));
            assert_eq!(record.timestamp, sent.timestamp);
            assert!(bytes == &*sent.value, "{place:?}: record {number} is not what was sent");
            self.learn(place, offset, number);
        }
    }

    /// The first record at or after `timestamp`, as a response tells it.
    pub fn found_by_time(&self, place: Place, known: Known, timestamp: i64, found: Option<(i64, i64)>) {
        let partition = self.partition(place);
        let end = found.map_or(known.high, |(offset, _)| offset);
        let retains = self.topic(place.topic).retention_bytes.is_some();
        for (offset, record) in partition.at.range(partition.start_asked..end.max(partition.start_asked)) {
            let missed = !retains && partition.records[*record].timestamp >= timestamp;
            assert!(!missed, "{place:?}: {found:?} for time {timestamp}, but {offset} is of that time");
        }
        if let Some((offset, time)) = found {
            assert!(time >= timestamp);
            let record = partition.at.get(&offset).map(|record| &partition.records[*record]);
            assert!(record.is_none_or(|record| record.timestamp == time));
        }
    }

    /// A time of this partition, to ask for.
    pub fn some_time(&self, place: Place, rng: &mut Rng) -> Option<i64> {
        let records = &self.partition(place).records;
        (!records.is_empty()).then(|| records[rng.below(records.len() as u64) as usize].timestamp)
    }

    /// Everything was read from `start` to `high`: nothing may be missing, nothing out of order.
    pub fn check_complete(&self, place: Place, start: i64, high: i64) {
        let partition = self.partition(place);
        let mut last: BTreeMap<u32, usize> = BTreeMap::new();
        let mut expected = start;
        for (&offset, &record) in partition.at.range(start..) {
            assert_eq!(offset, expected, "{place:?}: nobody has read this offset");
            expected += 1;
            let before = last.insert(partition.records[record].producer, record);
            assert!(before.is_none_or(|before| before < record), "{place:?}: out of order at {offset}");
        }
        assert_eq!(expected, high, "{place:?}: the end");
    }
}
