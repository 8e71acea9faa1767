//! An administrator: makes, grows and deletes topics, deletes records, looks at offsets and metadata.

use ringmq::kafka::protocol::ErrorCode;
use ringmq::kafka::protocol::api::Response;
use ringmq::kafka::protocol::messages::create_partitions::CreatePartitionsTopic;
use ringmq::kafka::protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use ringmq::kafka::protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use ringmq::kafka::protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic, timestamp};
use ringmq::kafka::protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    ListOffsetsRequest, MetadataRequest, MetadataResponse,
};

use super::coverage::Event;
use super::ledger::{Known, Life, Place, Topic, TopicNo};
use super::link::{Heard, Link, decode};
use super::stage::{Actor, Stage};

const TOPICS_MAX: usize = 6;
const PARTITIONS_MAX: usize = 4;

enum Note {
    Create(Vec<TopicNo>),
    Delete(TopicNo),
    Grow(TopicNo, usize),
    /// The lives of all topics when the request left.
    Metadata(Vec<Life>),
    Truncate {
        place: Place,
        before: i64,
        start: i64,
    },
    List {
        place: Place,
        known: Known,
        time: i64,
    },
}

pub struct Admin {
    link: Link<Note>,
    made: usize,
}

impl Admin {
    pub fn new() -> Admin {
        Admin { link: Link::new(), made: 0 }
    }

    fn create(&mut self, stage: &mut Stage) {
        // One request for several: their changes of the metadata share a write.
        let count = if self.made < 2 { 1 } else { 1 + stage.rng.below(3) };
        let topics = (0..count).map(|_| self.invent(stage)).collect();
        self.ask_create(topics, stage);
    }

    fn invent(&mut self, stage: &mut Stage) -> TopicNo {
        let index = self.made;
        self.made += 1;
        // The first ones stay; later ones come and go, and take old names again.
        let retention = if index % 2 == 1 { Some(stage.rng.between(4_000, 60_000)) } else { None };
        let partitions = stage.rng.between(1, 3) as usize;
        let name = if index < 2 { format!("stays-{index}") } else { format!("passes-{index}") };
        let gone = |name: &String| {
            stage.ledger.topics.iter().any(|topic| topic.name == *name && topic.life == Life::Gone)
        };
        let used = |name: &String| {
            stage.ledger.topics.iter().any(|topic| topic.name == *name && topic.life != Life::Gone)
        };
        let old = (2..index).map(|old| format!("passes-{old}")).find(|name| gone(name) && !used(name));
        let name = old.filter(|_| stage.rng.one_in(2)).unwrap_or(name);
        stage.ledger.add_topic(&name, partitions, retention)
    }

    fn ask_create(&mut self, topics: Vec<TopicNo>, stage: &Stage) {
        let known = || topics.iter().map(move |topic| stage.ledger.topic(*topic));
        let retention: Vec<Option<String>> =
            known().map(|known| known.retention_bytes.map(|bytes| bytes.to_string())).collect();
        let creatable =
            known().zip(&retention).map(|(known, retention)| creatable(known, retention)).collect();
        let request = CreateTopicsRequest { topics: creatable, ..Default::default() };
        self.link.ask(7, &request, Note::Create(topics));
    }

    fn delete(&mut self, stage: &mut Stage) -> u64 {
        let passing: Vec<TopicNo> = (0..stage.ledger.topics.len())
            .map(TopicNo)
            .filter(|topic| {
                let known = stage.ledger.topic(*topic);
                known.name.starts_with("passes") && matches!(known.life, Life::Exists | Life::MaybeGone)
            })
            .collect();
        if passing.is_empty() {
            return 0;
        }
        let topic = *stage.rng.pick(&passing);
        stage.ledger.topic_mut(topic).life = Life::MaybeGone;
        let mut request = DeleteTopicsRequest { timeout_ms: 1000, ..Default::default() };
        request.topic_names.push(&stage.ledger.topic(topic).name);
        self.link.ask(4, &request, Note::Delete(topic));
        1
    }

    fn grow(&mut self, stage: &mut Stage) -> u64 {
        let small: Vec<TopicNo> = (0..stage.ledger.topics.len())
            .map(TopicNo)
            .filter(|topic| {
                let known = stage.ledger.topic(*topic);
                let may = known.life == Life::Exists && known.growing.is_none();
                may && known.partitions.len() < PARTITIONS_MAX
            })
            .collect();
        if small.is_empty() {
            return 0;
        }
        let topic = *stage.rng.pick(&small);
        let known = stage.ledger.topic_mut(topic);
        let count = known.partitions.len() + 1;
        known.growing = Some(count);
        let mut request = CreatePartitionsRequest { timeout_ms: 1000, ..Default::default() };
        let (name, assignments) = (known.name.as_str(), None);
        request.topics.push(CreatePartitionsTopic { name, count: count as i32, assignments });
        self.link.ask(3, &request, Note::Grow(topic, count));
        1
    }

    fn truncate(&mut self, stage: &mut Stage) -> u64 {
        let places = stage.ledger.places();
        if places.is_empty() {
            return 0;
        }
        let place = *stage.rng.pick(&places);
        let Known { high, start } = stage.ledger.known(place);
        let before = stage.rng.between(start as u64, high as u64) as i64;
        stage.ledger.delete_asked(place, before);
        let mut request = DeleteRecordsRequest { timeout_ms: 1000, ..Default::default() };
        request.topics.push(DeleteRecordsTopic {
            name: &stage.ledger.topic(place.topic).name,
            partitions: [DeleteRecordsPartition { partition_index: place.partition as i32, offset: before }]
                .into_iter()
                .collect(),
        });
        self.link.ask(2, &request, Note::Truncate { place, before, start });
        1
    }

    fn list(&mut self, stage: &mut Stage) -> u64 {
        let places = stage.ledger.places();
        if places.is_empty() {
            return 0;
        }
        let place = *stage.rng.pick(&places);
        let time = match stage.rng.below(4) {
            0 => timestamp::LATEST,
            1 => timestamp::EARLIEST,
            _ => match stage.ledger.some_time(place, &mut stage.rng) {
                Some(time) => time,
                None => timestamp::LATEST,
            },
        };
        let known = stage.ledger.known(place);
        let mut request = ListOffsetsRequest::default();
        request.topics.push(ListOffsetsTopic {
            name: &stage.ledger.topic(place.topic).name,
            partitions: [ListOffsetsPartition {
                partition_index: place.partition as i32,
                timestamp: time,
                ..Default::default()
            }]
            .into_iter()
            .collect(),
        });
        self.link.ask(5, &request, Note::List { place, known, time });
        1
    }

    fn on_created(&mut self, topic: TopicNo, id: uuid::Uuid, error: ErrorCode, stage: &mut Stage) {
        match error {
            ErrorCode::NONE => stage.coverage.count(Event::TopicsCreated),
            ErrorCode::TOPIC_ALREADY_EXISTS => {}
            ErrorCode::KAFKA_STORAGE_ERROR => stage.storage_error("create"),
            error => panic!("{topic:?} was not created: {error:?}"),
        }
        if error == ErrorCode::NONE {
            let topic = stage.ledger.topic_mut(topic);
            (topic.life, topic.id) = (Life::Exists, Some(id));
        }
    }

    fn on_deleted(&mut self, topic: TopicNo, error: ErrorCode, stage: &mut Stage) {
        match error {
            ErrorCode::NONE | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                stage.coverage.count(Event::TopicsDeleted);
                stage.ledger.topic_mut(topic).life = Life::Gone;
            }
            ErrorCode::KAFKA_STORAGE_ERROR => stage.storage_error("delete"),
            error => panic!("{topic:?} was not deleted: {error:?}"),
        }
    }

    fn on_grown(&mut self, topic: TopicNo, count: usize, error: ErrorCode, stage: &mut Stage) {
        match error {
            ErrorCode::NONE => {
                stage.coverage.count(Event::TopicsGrown);
                stage.ledger.grow(topic, count);
            }
            ErrorCode::KAFKA_STORAGE_ERROR => stage.storage_error("grow"),
            error => panic!("{topic:?} did not grow to {count}: {error:?}"),
        }
    }

    fn on_metadata(&mut self, before: &[Life], response: &MetadataResponse<'_>, stage: &mut Stage) {
        for listed in &response.topics {
            assert_eq!(listed.error_code, ErrorCode::NONE);
            let name = listed.name.expect("a topic has a name");
            let id = listed.topic_id;
            let known = (0..stage.ledger.topics.len()).map(TopicNo).find(|topic| {
                let topic = stage.ledger.topic(*topic);
                topic.name == name
                    && (topic.id == Some(id) || (topic.id.is_none() && topic.life != Life::Gone))
            });
            let topic = known.unwrap_or_else(|| panic!("a topic that nobody made: {name} {id}"));
            let was = before.get(topic.0).copied().unwrap_or(Life::Maybe);
            assert_ne!(was, Life::Gone, "{name} was deleted");
            // Nobody has heard that it has grown, but it has.
            if stage.ledger.topic(topic).growing == Some(listed.partitions.len()) {
                stage.ledger.grow(topic, listed.partitions.len());
            }
            let known = stage.ledger.topic_mut(topic);
            known.id = Some(id);
            assert_eq!(known.partitions.len(), listed.partitions.len());
            if known.life == Life::Maybe {
                known.life = Life::Exists;
            }
        }
        for (topic, life) in before.iter().enumerate() {
            let known = &stage.ledger.topics[topic];
            let listed = response.topics.iter().any(|listed| listed.name == Some(&known.name));
            let must = *life == Life::Exists && known.life == Life::Exists;
            assert!(listed || !must, "topic {} is gone", known.name);
        }
    }
}

fn creatable<'a>(known: &'a Topic, retention: &'a Option<String>) -> CreatableTopic<'a> {
    let configs =
        retention.iter().map(|bytes| CreatableTopicConfig { name: "retention.bytes", value: Some(bytes) });
    CreatableTopic {
        name: &known.name,
        num_partitions: known.partitions.len() as i32,
        replication_factor: 1,
        configs: configs.collect(),
        ..Default::default()
    }
}

impl Actor for Admin {
    fn socket(&self) -> Option<u64> {
        self.link.id()
    }

    fn act(&mut self, stage: &mut Stage) -> u64 {
        if !self.link.ready(stage) || self.link.in_flight() > 0 {
            return 0;
        }
        let topics = stage.ledger.topics.iter().filter(|topic| topic.life != Life::Gone).count();
        // A first creation whose outcome is unknown is asked again.
        let unsure = stage.ledger.topics.iter().position(|topic| topic.life == Life::Maybe);
        if let Some(topic) = unsure
            && stage.rng.one_in(2)
        {
            self.ask_create(vec![TopicNo(topic)], stage);
            return 1;
        }
        match stage.rng.below(12) {
            _ if self.made < 2 => self.create(stage),
            0 | 1 if topics < TOPICS_MAX && !stage.draining => self.create(stage),
            2 if !stage.draining => return self.delete(stage),
            3 | 4 => return self.truncate(stage),
            5..=8 => return self.list(stage),
            9 if !stage.draining => return self.grow(stage),
            _ => {
                let lives = stage.ledger.topics.iter().map(|topic| topic.life).collect();
                let request = MetadataRequest { topics: None, ..Default::default() };
                self.link.ask(12, &request, Note::Metadata(lives));
            }
        }
        1
    }

    fn hear(&mut self, stage: &mut Stage) {
        loop {
            match self.link.hear(stage) {
                Heard::Response { note, frame, api, version } => match (note, decode(&frame, api, version)) {
                    (Note::Create(topics), Response::CreateTopics(response)) => {
                        assert_eq!(topics.len(), response.topics.len());
                        for (topic, made) in topics.into_iter().zip(&response.topics) {
                            self.on_created(topic, made.topic_id, made.error_code, stage);
                        }
                    }
                    (Note::Delete(topic), Response::DeleteTopics(response)) => {
                        self.on_deleted(topic, response.responses[0].error_code, stage);
                    }
                    (Note::Grow(topic, count), Response::CreatePartitions(response)) => {
                        self.on_grown(topic, count, response.results[0].error_code, stage);
                    }
                    (Note::Metadata(before), Response::Metadata(response)) => {
                        self.on_metadata(&before, &response, stage);
                    }
                    (Note::Truncate { place, before, start }, Response::DeleteRecords(response)) => {
                        let answer = &response.topics[0].partitions[0];
                        match answer.error_code {
                            ErrorCode::NONE => {
                                assert!(answer.low_watermark >= before);
                                stage.coverage.add(Event::RecordsDeleted, u64::from(before > start));
                                stage.ledger.delete_acked(place, before);
                            }
                            ErrorCode::KAFKA_STORAGE_ERROR => stage.storage_error("delete records"),
                            error => panic!("{place:?}: records before {before}: {error:?}"),
                        }
                    }
                    (Note::List { place, known, time }, Response::ListOffsets(response)) => {
                        let answer = &response.topics[0].partitions[0];
                        match (answer.error_code, time) {
                            (ErrorCode::NONE, timestamp::LATEST) => {
                                stage.ledger.high(place, known, answer.offset);
                            }
                            (ErrorCode::NONE, timestamp::EARLIEST) => {
                                stage.ledger.start(place, known, answer.offset);
                            }
                            (ErrorCode::NONE, _) => {
                                let found = (answer.offset >= 0).then_some((answer.offset, answer.timestamp));
                                stage.coverage.add(Event::OffsetsFoundByTime, u64::from(found.is_some()));
                                stage.ledger.found_by_time(place, known, time, found);
                            }
                            (ErrorCode::KAFKA_STORAGE_ERROR, _) => stage.storage_error("list offsets"),
                            (error, _) => panic!("{place:?}: offset for {time}: {error:?}"),
                        }
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
