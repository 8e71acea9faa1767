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
use super::ledger::{Known, Ledger, Life, Place, TopicNo};
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

/// What a request said of its session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// It names all partitions and wants no session, or a new one.
    Alone,
    Opening,
    /// It names those with another offset than before.
    GoingOn,
}

struct Fetch {
    /// All partitions, those included that the session knows.
    reads: Vec<Read>,
    asked: Asked,
    /// The request names them.
    named: Vec<bool>,
    at: Nanos,
}

enum Note {
    Fetch(Fetch),
    /// Of each partition, up to where which epoch was read.
    Epochs(Vec<(Place, (i64, i32))>),
}

/// A session as the consumer knows it.
struct Session {
    id: i32,
    epoch: i32,
    /// The offset of each partition that the broker was told last.
    offsets: Vec<i64>,
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
    /// It fetches in sessions.
    in_sessions: bool,
    session: Option<Session>,
}

impl Consumer {
    pub fn new(in_sessions: bool) -> Consumer {
        Consumer {
            link: Link::new(),
            topic: None,
            next: Vec::new(),
            ends: Vec::new(),
            thorough: false,
            in_sessions,
            session: None,
        }
    }

    /// Reads a topic from its beginning to its end.
    pub fn thorough(topic: TopicNo, partitions: usize, in_sessions: bool) -> Consumer {
        let (next, ends) = (vec![0; partitions], vec![None; partitions]);
        Consumer { topic: Some(topic), next, ends, thorough: true, ..Consumer::new(in_sessions) }
    }

    /// Start over from the beginning of its topic.
    pub fn rewind(&mut self) {
        self.next.fill(0);
    }

    /// It has read up to the end of every partition.
    pub fn has_all(&self) -> bool {
        self.ends.iter().zip(&self.next).all(|(ends, next)| ends.is_some_and(|(_, high)| high == *next))
    }

    /// It has read all that anybody knows to be there.
    pub fn is_up_to_date(&self, ledger: &Ledger) -> bool {
        let Some(topic) = self.topic.filter(|topic| ledger.topic(*topic).life == Life::Exists) else {
            return ledger.living().next().is_none();
        };
        let mut next = self.next.iter().enumerate();
        next.all(|(partition, next)| *next >= ledger.known(Place { topic, partition }).high)
    }

    fn choose(&mut self, stage: &mut Stage) -> Option<TopicNo> {
        if self.thorough {
            return self.topic;
        }
        let living = |topic: &TopicNo| stage.ledger.topic(*topic).life == Life::Exists;
        if self.topic.is_none_or(|topic| !living(&topic)) || !stage.calm && stage.rng.one_in(40) {
            let topics: Vec<TopicNo> = stage.ledger.living().collect();
            if topics.is_empty() {
                return None;
            }
            let topic = *stage.rng.pick(&topics);
            let count = stage.ledger.topic(topic).partitions.len();
            self.topic = Some(topic);
            self.session = None;
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

    fn on_fetched(&mut self, note: Fetch, response: &FetchResponse<'_>, stage: &mut Stage) {
        let Fetch { reads, asked, named, at } = note;
        let waited = stage.world.now().mono.since(at) > PARKED.as_nanos() as u64;
        assert_eq!(response.error_code, ErrorCode::NONE);
        let answers: Vec<_> = response.responses.iter().flat_map(|topic| &topic.partitions).collect();
        if asked != Asked::GoingOn {
            assert_eq!(answers.len(), reads.len(), "one answer for each partition");
        }
        self.go_on(asked, response.session_id, &reads);
        let mut unanswered: Vec<Option<Read>> = reads.into_iter().map(Some).collect();
        for answer in answers {
            let index = answer.partition_index as usize;
            let read = unanswered[index].take().expect("each partition once");
            if asked == Asked::GoingOn && !named[index] {
                stage.coverage.count(Event::UnnamedPartitionsAnswered);
            }
            self.on_partition(read, answer, waited && read.offset == read.known.high, stage);
        }
    }

    /// The answer says whether there is a session to go on with.
    fn go_on(&mut self, asked: Asked, id: i32, reads: &[Read]) {
        let epoch = match (asked, &self.session) {
            (Asked::GoingOn, Some(session)) => {
                assert_eq!(id, session.id, "a session that is gone on with");
                session.epoch + 1
            }
            (Asked::GoingOn, None) => unreachable!("only a broken connection takes it away"),
            (Asked::Opening, _) if id != 0 => 1,
            (Asked::Opening | Asked::Alone, _) => {
                assert_eq!(id, 0, "a session that nobody has asked for");
                self.session = None;
                return;
            }
        };
        let offsets = reads.iter().map(|read| read.offset).collect();
        self.session = Some(Session { id, epoch, offsets });
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
                    // What it had read was removed, and more that it had not: only what follows can be complete.
                    self.ends[place.partition] = self.ends[place.partition].map(|_| (start, high));
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
        if !self.link.ready(stage) || self.link.in_flight() > 0 {
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
        let asked = match &self.session {
            _ if !self.in_sessions => Asked::Alone,
            // Now and then it wants another one, or none for once.
            Some(_) if !stage.calm && stage.rng.one_in(30) => {
                *stage.rng.pick(&[Asked::Alone, Asked::Opening])
            }
            Some(_) => Asked::GoingOn,
            None => Asked::Opening,
        };
        let (session_id, session_epoch) = match (asked, &self.session) {
            (Asked::Alone, _) => (self.session.as_ref().map_or(0, |session| session.id), -1),
            (_, None) => (0, 0),
            (Asked::Opening, Some(session)) => (session.id, 0),
            (Asked::GoingOn, Some(session)) => (session.id, session.epoch),
        };
        let told = self.session.as_ref().filter(|_| asked == Asked::GoingOn).map(|session| &session.offsets);
        let named = |(partition, read): (usize, &Read)| {
            // What has not changed may be named all the same.
            told.is_none_or(|told| told[partition] != read.offset) || !stage.calm && stage.rng.one_in(8)
        };
        let named: Vec<bool> = reads.iter().enumerate().map(named).collect();
        let max_bytes = *stage.rng.pick(&[1, 2_000, 20_000, 1_000_000]);
        let partitions = reads.iter().zip(&named).filter(|(_, named)| **named);
        let partitions = partitions.map(|(read, _)| FetchPartition {
            partition: read.place.partition as i32,
            fetch_offset: read.offset,
            partition_max_bytes: max_bytes,
            ..Default::default()
        });
        let mut request = FetchRequest {
            max_wait_ms: *stage.rng.pick(&[0, 5, 50]),
            // The larger ones are gathered in several looks, or never reached.
            min_bytes: *stage.rng.pick(&[1, 1, 1000, 20_000]),
            max_bytes,
            session_id,
            session_epoch,
            ..Default::default()
        };
        let (name, topic_id) = stage.ledger.names(topic);
        request.topics.push(FetchTopic { topic: name, topic_id, partitions: partitions.collect() });
        let at = stage.world.now().mono;
        let note = Note::Fetch(Fetch { reads, asked, named, at });
        stage.coverage.add(Event::IncrementalFetches, u64::from(asked == Asked::GoingOn));
        self.link.ask(if name.is_empty() { 13 } else { 11 }, &request, note);
        1
    }

    fn hear(&mut self, stage: &mut Stage) {
        loop {
            match self.link.hear(stage) {
                Heard::Response { note, frame, api, version } => match (note, decode(&frame, api, version)) {
                    (Note::Fetch(note), Response::Fetch(response)) => self.on_fetched(note, &response, stage),
                    (Note::Epochs(asked), Response::OffsetForLeaderEpoch(response)) => {
                        Consumer::on_epochs(&asked, &response.topics[0], stage);
                    }
                    _ => panic!("an answer of another kind"),
                },
                Heard::Broken => self.session = None,
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
