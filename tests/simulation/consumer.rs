//! Consumers: they tail a topic, or start over from its beginning, and show the ledger what they get. Now and
//! then they ask whether what they have read was cut off, as clients do when a partition has moved.

use std::time::Duration;

use ringmq::kafka::protocol::ErrorCode;
use ringmq::kafka::protocol::Records;
use ringmq::kafka::protocol::api::Response;
use ringmq::kafka::protocol::messages::fetch::{FetchPartition, FetchTopic, PartitionData};
use ringmq::kafka::protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderPartition, OffsetForLeaderTopic, OffsetForLeaderTopicResult,
};
use ringmq::kafka::protocol::messages::{FetchRequest, FetchResponse, OffsetForLeaderEpochRequest};
use ringmq::model::Nanos;

use super::coverage::Event;
use super::ledger::{Known, Life, Place, TopicNo};
use super::link::{Heard, Link, decode};
use super::stage::{Actor, Stage};

/// A fetch that was answered with records after waiting so long was parked.
const PARKED: Duration = Duration::from_millis(2);

#[derive(Clone, Copy)]
struct Read {
    place: Place,
    offset: i64,
    known: Known,
}

enum Note {
    Fetch {
        reads: Vec<Read>,
        at: Nanos,
    },
    /// Of each partition, up to where which epoch was read.
    Epochs(Vec<(Place, (i64, i32))>),
}

pub struct Consumer {
    link: Link<Note>,
    topic: Option<TopicNo>,
    /// The next offset of each partition.
    next: Vec<i64>,
    /// Of each partition, as last heard.
    pub ends: Vec<Option<(i64, i64)>>,
    /// Stay with the topic and read it from its start once.
    thorough: bool,
}

impl Consumer {
    pub fn new() -> Consumer {
        Consumer { link: Link::new(), topic: None, next: Vec::new(), ends: Vec::new(), thorough: false }
    }

    /// Reads a topic from its beginning to its end.
    pub fn thorough(topic: TopicNo, partitions: usize) -> Consumer {
        let (next, ends) = (vec![0; partitions], vec![None; partitions]);
        Consumer { topic: Some(topic), next, ends, thorough: true, ..Consumer::new() }
    }

    /// Start over from the beginning of its topic.
    pub fn rewind(&mut self) {
        self.next.fill(0);
    }

    /// It has read up to the end of every partition.
    pub fn has_all(&self) -> bool {
        self.ends.iter().zip(&self.next).all(|(ends, next)| ends.is_some_and(|(_, high)| high == *next))
    }

    fn choose(&mut self, stage: &mut Stage) -> Option<TopicNo> {
        if self.thorough {
            return self.topic;
        }
        let living = |topic: &TopicNo| stage.ledger.topic(*topic).life == Life::Exists;
        if self.topic.is_none_or(|topic| !living(&topic)) || stage.rng.one_in(40) {
            let topics: Vec<TopicNo> = stage.ledger.living().collect();
            if topics.is_empty() {
                return None;
            }
            let topic = *stage.rng.pick(&topics);
            let count = stage.ledger.topic(topic).partitions.len();
            self.topic = Some(topic);
            let from_start = stage.rng.one_in(2);
            let start = |partition| {
                if from_start { 0 } else { stage.ledger.known(Place { topic, partition }).high }
            };
            self.next = (0..count).map(start).collect();
            self.ends = vec![None; count];
        }
        self.topic
    }

    /// Ask for the ends of the epochs in which it has read. Returns how many requests left.
    fn ask_epochs(&mut self, topic: TopicNo, stage: &Stage) -> u64 {
        let place = |partition| Place { topic, partition };
        let read = |(partition, &next)| {
            stage.ledger.epoch_before(place(partition), next).map(|read| (place(partition), read))
        };
        let asked: Vec<(Place, (i64, i32))> = self.next.iter().enumerate().filter_map(read).collect();
        let (name, _) = stage.ledger.names(topic);
        // The request knows topics by name only.
        if asked.is_empty() || name.is_empty() {
            return 0;
        }
        let partitions = asked.iter().map(|&(place, (_, leader_epoch))| OffsetForLeaderPartition {
            partition: place.partition as i32,
            leader_epoch,
            ..Default::default()
        });
        let mut request = OffsetForLeaderEpochRequest { replica_id: -1, ..Default::default() };
        request.topics.push(OffsetForLeaderTopic { topic: name, partitions: partitions.collect() });
        self.link.ask(4, &request, Note::Epochs(asked));
        1
    }

    fn on_epochs(asked: &[(Place, (i64, i32))], answer: &OffsetForLeaderTopicResult<'_>, stage: &mut Stage) {
        assert_eq!(answer.partitions.len(), asked.len(), "one answer for each partition");
        for (&(place, read), answer) in asked.iter().zip(&answer.partitions) {
            assert_eq!((answer.error_code, answer.partition), (ErrorCode::NONE, place.partition as i32));
            stage.ledger.epoch_end(place, read, answer.leader_epoch, answer.end_offset);
            stage.coverage.count(Event::EpochEndsFound);
        }
    }

    fn on_fetched(&mut self, reads: Vec<Read>, at: Nanos, response: &FetchResponse<'_>, stage: &mut Stage) {
        let waited = stage.world.now().mono.since(at) > PARKED.as_nanos() as u64;
        assert_eq!(response.error_code, ErrorCode::NONE);
        let answers: Vec<_> = response.responses.iter().flat_map(|topic| &topic.partitions).collect();
        assert_eq!(answers.len(), reads.len(), "one answer for each partition");
        for (read, answer) in reads.into_iter().zip(answers) {
            assert_eq!(read.place.partition as i32, answer.partition_index);
            self.on_partition(read, answer, waited && read.offset == read.known.high, stage);
        }
    }

    fn on_partition(&mut self, read: Read, answer: &PartitionData<'_>, waited: bool, stage: &mut Stage) {
        let Read { place, offset, known } = read;
        if [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::UNKNOWN_TOPIC_ID].contains(&answer.error_code) {
            assert_ne!(stage.ledger.topic(place.topic).life, Life::Exists, "{place:?} is unknown");
            return;
        }
        let (start, high) = (answer.log_start_offset, answer.high_watermark);
        stage.ledger.ends(place, known, high, start);
        let same = self.topic == Some(place.topic) && self.next[place.partition] == offset;
        match answer.error_code {
            ErrorCode::NONE => {
                let Records::Bytes(bytes) = answer.records else { return };
                let (next, count) = stage.ledger.fetched(place, offset, high, bytes);
                stage.coverage.add(Event::RecordsRead, count);
                stage.coverage.add(Event::DiskFullReads, if stage.disk_full { count } else { 0 });
                stage.coverage.add(Event::ParkedFetchesWoken, u64::from(waited && count > 0));
                if same {
                    self.next[place.partition] = next;
                    self.ends[place.partition] = Some((start, high));
                }
            }
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                assert!(offset < start, "{place:?}: {offset} is out of range of {start}..{high}");
                if same {
                    self.next[place.partition] = start;
                }
            }
            ErrorCode::KAFKA_STORAGE_ERROR => {
                stage.storage_error("fetch");
                stage.coverage.add(Event::ReadErrors, u64::from(stage.reads_fail && !stage.rotten));
                stage.coverage.add(Event::RotTold, u64::from(stage.rotten && !stage.reads_fail));
            }
            error => panic!("{place:?}: fetch: {error:?}"),
        }
    }
}

impl std::fmt::Display for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at {:?} of {:?}, {} in flight", self.next, self.ends, self.link.in_flight())
    }
}

impl Actor for Consumer {
    fn socket(&self) -> Option<u64> {
        self.link.id()
    }

    fn act(&mut self, stage: &mut Stage) -> u64 {
        if !self.link.ready(&stage.world) || self.link.in_flight() > 0 {
            return 0;
        }
        let Some(topic) = self.choose(stage) else { return 0 };
        if stage.rng.one_in(10) {
            return self.ask_epochs(topic, stage);
        }
        let mut reads = Vec::new();
        for (partition, &offset) in self.next.iter().enumerate() {
            let place = Place { topic, partition };
            reads.push(Read { place, offset, known: stage.ledger.known(place) });
        }
        let max_bytes = *stage.rng.pick(&[1, 2_000, 20_000, 1_000_000]);
        let partitions = reads.iter().map(|read| FetchPartition {
            partition: read.place.partition as i32,
            fetch_offset: read.offset,
            partition_max_bytes: max_bytes,
            ..Default::default()
        });
        let mut request = FetchRequest {
            max_wait_ms: *stage.rng.pick(&[0, 5, 50]),
            min_bytes: 1,
            max_bytes,
            ..Default::default()
        };
        let (name, topic_id) = stage.ledger.names(topic);
        request.topics.push(FetchTopic { topic: name, topic_id, partitions: partitions.collect() });
        let at = stage.world.now().mono;
        self.link.ask(if name.is_empty() { 13 } else { 11 }, &request, Note::Fetch { reads, at });
        1
    }

    fn hear(&mut self, stage: &mut Stage) {
        loop {
            match self.link.hear(stage) {
                Heard::Response { note, frame, api, version } => match (note, decode(&frame, api, version)) {
                    (Note::Fetch { reads, at }, Response::Fetch(response)) => {
                        self.on_fetched(reads, at, &response, stage);
                    }
                    (Note::Epochs(asked), Response::OffsetForLeaderEpoch(response)) => {
                        Consumer::on_epochs(&asked, &response.topics[0], stage);
                    }
                    _ => panic!("an answer of another kind"),
                },
                Heard::Broken => {}
                Heard::Nothing => return,
            }
        }
    }

    fn reset(&mut self) {
        self.link.reset();
    }

    fn is_settled(&self) -> bool {
        self.link.in_flight() == 0
    }
}
