//! Producers: idempotent ones, which send until they hear, and plain ones, which send once.

use std::collections::VecDeque;

use ringmq::codec::record_batch::ProducerStamp;
use ringmq::kafka::protocol::ErrorCode;
use ringmq::kafka::protocol::api::Response;
use ringmq::kafka::protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use ringmq::kafka::protocol::messages::{InitProducerIdRequest, ProduceRequest, ProduceResponse};
use ringmq::model::ProducerId;

use super::coverage::Event;
use super::ledger::{Batch, Known, Life, Place};
use super::link::{Heard, Link, decode};
use super::stage::{Actor, Stage};

/// What clients allow, and what a broker remembers of a producer.
const IN_FLIGHT_MAX: usize = 5;
const LANES_MAX: usize = 3;
/// Batches of a partition that wait for the broker.
const BACKLOG_MAX: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be sent, or to be sent again.
    Waiting,
    InFlight,
    /// Refused; sent again when nothing of its partition is in flight.
    Refused,
}

struct Sent {
    batch: Batch,
    state: State,
    /// It went out before.
    again: bool,
    /// It was read by somebody before it was sent again.
    known: bool,
}

/// The batches for one partition, in order.
struct Lane {
    place: Place,
    next_sequence: i32,
    batches: VecDeque<Sent>,
    /// Before the broker knows the producer, a single batch is under way: it would take any for the first.
    begun: bool,
    /// An append was refused because the disk was full, and none has been taken since.
    refused: bool,
}

enum Note {
    Id,
    /// For each batch its partition, its first record, and what was known.
    Batches(Vec<(Place, usize, Known)>),
}

pub struct Producer {
    number: u32,
    /// Names this producer's order in the ledger; a plain one gets a new name with each connection.
    order: u32,
    idempotent: bool,
    id: Option<i64>,
    link: Link<Note>,
    lanes: Vec<Lane>,
}

impl Producer {
    pub fn new(number: u32, idempotent: bool) -> Producer {
        Producer { number, order: number, idempotent, id: None, link: Link::new(), lanes: Vec::new() }
    }

    /// Everything that it made has been acknowledged.
    pub fn is_done(&self) -> bool {
        self.lanes.iter().all(|lane| lane.batches.is_empty())
    }

    /// Something of it was refused because the disk was full, and is not taken yet.
    pub fn is_refused(&self) -> bool {
        self.lanes.iter().any(|lane| lane.refused)
    }

    fn pick_lane(&mut self, stage: &mut Stage) {
        self.lanes.retain(|lane| stage.ledger.topic(lane.place.topic).life == Life::Exists);
        let places = stage.ledger.places();
        if self.lanes.len() < LANES_MAX && !places.is_empty() && !stage.draining {
            let place = *stage.rng.pick(&places);
            if self.lanes.iter().all(|lane| lane.place != place) {
                self.lanes.push(Lane {
                    place,
                    next_sequence: 0,
                    batches: VecDeque::new(),
                    begun: false,
                    refused: false,
                });
            }
        }
    }

    /// A new batch for the lane.
    fn make(&mut self, lane: usize, stage: &mut Stage) {
        let Lane { place, next_sequence, .. } = self.lanes[lane];
        let stamp = self.id.filter(|_| self.idempotent).map(|id| ProducerStamp {
            id: ProducerId(id),
            epoch: 0,
            base_sequence: next_sequence,
        });
        let wall = stage.world.now().wall.0;
        let Stage { ledger, rng, heavy, .. } = stage;
        let batch = ledger.batch(place, self.order, stamp, wall, *heavy, rng);
        let lane = &mut self.lanes[lane];
        lane.next_sequence += batch.count as i32;
        lane.batches.push_back(Sent { batch, state: State::Waiting, again: false, known: false });
    }

    /// The batch of this lane that may go out now.
    fn sendable(&self, lane: usize) -> Option<usize> {
        let lane = &self.lanes[lane];
        let index = lane.batches.iter().position(|sent| sent.state != State::InFlight)?;
        let may = lane.batches.iter().all(|sent| sent.state != State::Refused);
        (may && (index == 0 || lane.begun)).then_some(index)
    }

    fn send(&mut self, stage: &mut Stage) -> u64 {
        let mut batches: Vec<Batch> = Vec::new();
        let first = stage.rng.below(self.lanes.len() as u64) as usize;
        // Of a request that is larger than the segments that a log has ready, a part is refused: no error is
        // to be heard when all is calm.
        let several = stage.rng.one_in(3) && !stage.calm;
        for step in 0..self.lanes.len() {
            let lane = (first + step) % self.lanes.len();
            if !stage.draining
                && self.lanes[lane].batches.len() < BACKLOG_MAX
                && self.sendable(lane).is_none()
            {
                self.make(lane, stage);
            }
            let place = self.lanes[lane].place;
            let same_kind = |batch: &Batch| {
                stage.ledger.names(batch.place.topic).0.is_empty()
                    == stage.ledger.names(place.topic).0.is_empty()
            };
            if !batches.iter().all(same_kind) {
                continue;
            }
            if let Some(index) = self.sendable(lane) {
                let sent = &mut self.lanes[lane].batches[index];
                sent.state = State::InFlight;
                stage.coverage.add(Event::Retries, u64::from(sent.again));
                sent.known = sent.again && stage.ledger.is_known(sent.batch.place, sent.batch.first);
                sent.again = true;
                batches.push(sent.batch.clone());
                if !several {
                    break;
                }
            }
        }
        if batches.is_empty() {
            return 0;
        }
        // Names up to version 12, ids since 13: a request has one kind.
        let by_id = stage.ledger.names(batches[0].place.topic).0.is_empty();
        let mut request = ProduceRequest { acks: -1, timeout_ms: 30_000, ..Default::default() };
        let mut note = Vec::new();
        for batch in &batches {
            note.push((batch.place, batch.first, stage.ledger.known(batch.place)));
            let (name, topic_id) = stage.ledger.names(batch.place.topic);
            request.topic_data.push(TopicProduceData {
                name,
                topic_id,
                partition_data: [PartitionProduceData {
                    index: batch.place.partition as i32,
                    records: Some(&batch.bytes),
                }]
                .into_iter()
                .collect(),
            });
        }
        self.link.ask(if by_id { 13 } else { 9 }, &request, Note::Batches(note));
        1
    }

    fn on_produced(
        &mut self,
        asked: Vec<(Place, usize, Known)>,
        response: &ProduceResponse<'_>,
        stage: &mut Stage,
    ) {
        let answers = response.responses.iter().flat_map(|topic| {
            topic.partition_responses.iter().map(|partition| ((topic.name, topic.topic_id), partition))
        });
        let answers: Vec<_> = answers.collect();
        assert_eq!(answers.len(), asked.len(), "one answer for each batch");
        for ((place, first, known), (name, answer)) in asked.into_iter().zip(answers) {
            assert_eq!((name, answer.index), (stage.ledger.names(place.topic), place.partition as i32));
            let Some(lane) = self.lanes.iter().position(|lane| lane.place == place) else { continue };
            let lane = &mut self.lanes[lane];
            let index = lane.batches.iter().position(|sent| sent.batch.first == first);
            let index = index.expect("a batch stays until it is answered");
            match answer.error_code {
                ErrorCode::NONE => {
                    assert!(index == 0 || !self.idempotent, "{place:?}: acked before the batch before it");
                    let sent = lane.batches.remove(index).expect("found above");
                    stage.coverage.count(Event::Acks);
                    stage.coverage.add(Event::DuplicatesAnswered, u64::from(sent.known));
                    lane.begun = true;
                    let resumed = std::mem::take(&mut lane.refused) && !stage.disk_full;
                    stage.coverage.add(Event::DiskFullResumptions, u64::from(resumed));
                    stage.ledger.acked(&sent.batch, answer.base_offset);
                    stage.ledger.start(place, known, answer.log_start_offset);
                }
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID => {
                    let life = stage.ledger.topic(place.topic).life;
                    assert_ne!(life, Life::Exists, "{place:?} is unknown");
                    self.lanes.retain(|lane| lane.place != place);
                }
                error => {
                    let after_another = lane.batches.range(..index).any(|sent| sent.state == State::Refused);
                    match error {
                        ErrorCode::KAFKA_STORAGE_ERROR => {
                            stage.storage_error("produce");
                            stage.coverage.add(Event::DiskFullRefusals, u64::from(stage.disk_full));
                            lane.refused = stage.disk_full && self.idempotent;
                        }
                        ErrorCode::NOT_LEADER_OR_FOLLOWER => {}
                        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER if self.idempotent && after_another => {}
                        error => panic!("{place:?}: a batch was refused with {error:?}"),
                    }
                    if self.idempotent {
                        lane.batches[index].state = State::Refused;
                    } else {
                        lane.batches.remove(index);
                    }
                }
            }
        }
        for lane in &mut self.lanes {
            if lane.batches.iter().all(|sent| sent.state != State::InFlight) {
                lane.batches.iter_mut().for_each(|sent| sent.state = State::Waiting);
            }
        }
    }

    fn on_broken(&mut self) {
        for lane in &mut self.lanes {
            lane.refused = false;
            if self.idempotent {
                lane.batches.iter_mut().for_each(|sent| sent.state = State::Waiting);
            } else {
                lane.batches.retain(|sent| sent.state == State::Waiting);
            }
        }
        if !self.idempotent {
            // What was under way may still be appended, after what is sent next.
            self.order += 1000;
            self.lanes.clear();
        }
    }
}

impl Actor for Producer {
    fn socket(&self) -> Option<u64> {
        self.link.id()
    }

    fn act(&mut self, stage: &mut Stage) -> u64 {
        if !self.link.ready(stage) || self.link.in_flight() >= IN_FLIGHT_MAX {
            return 0;
        }
        if self.idempotent && self.id.is_none() {
            if self.link.in_flight() > 0 {
                return 0;
            }
            self.link.ask(4, &InitProducerIdRequest::default(), Note::Id);
            return 1;
        }
        self.pick_lane(stage);
        if self.lanes.is_empty() { 0 } else { self.send(stage) }
    }

    fn hear(&mut self, stage: &mut Stage) {
        loop {
            match self.link.hear(stage) {
                Heard::Response { note, frame, api, version } => match (note, decode(&frame, api, version)) {
                    (Note::Id, Response::InitProducerId(response)) => match response.error_code {
                        ErrorCode::NONE => {
                            stage.ledger.producer_id(response.producer_id);
                            self.id = Some(response.producer_id);
                        }
                        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => stage.storage_error("producer id"),
                        error => panic!("producer {}: no id: {error:?}", self.number),
                    },
                    (Note::Batches(asked), Response::Produce(response)) => {
                        self.on_produced(asked, &response, stage);
                    }
                    _ => panic!("an answer of another kind"),
                },
                Heard::Broken => self.on_broken(),
                Heard::Nothing => return,
            }
        }
    }

    fn reset(&mut self) {
        self.link.reset();
    }

    fn is_settled(&self) -> bool {
        self.link.in_flight() == 0 && self.is_done()
    }
}
