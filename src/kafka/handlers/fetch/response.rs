//! The response to a fetch: what it has found, topic by topic.

use bytes::Bytes;

use super::FetchRequestState;
use super::part::Part;
use crate::kafka::context::epoch_of;
use crate::kafka::fetch_session::{Bounds, FetchedTopic};
use crate::kafka::front::Turn;
use crate::kafka::protocol::messages::FetchResponse;
use crate::kafka::protocol::messages::fetch::{FetchableTopicResponse, PartitionData};
use crate::kafka::protocol::messages::leader::{LeaderIdAndEpoch, NodeEndpoint};
use crate::kafka::protocol::records::Records;
use crate::kafka::protocol::{ApiKey, Array, ErrorCode, frame};
use crate::model::TopicId;

/// First version whose clients take a hint where the leader is (KIP-951).
const HINTS_SINCE: i16 = 16;

impl FetchRequestState {
    /// Write the response. Returns its bytes.
    pub fn encode(
        &mut self,
        turn: &mut Turn<'_>,
        version: i16,
        correlation_id: i32,
        pieces: &mut Vec<Bytes>,
    ) -> usize {
        let by_id = self.by_id;
        turn.shard.stats.counters.fetched_bytes += self.bytes() as u64;
        let errors = self.parts.iter().map(|part| part.error(by_id)).chain(self.refused);
        for error in errors.filter(|error| *error != ErrorCode::NONE) {
            turn.shard.stats.record_error(ApiKey::Fetch.key(), error.0);
        }
        let found = |part: &&Part| part.look().found;
        let changed = self
            .session
            .as_mut()
            .map(|session| session.take_changed(self.parts.iter().filter(found).map(|part| part.slot)));
        let mut response = FetchResponse {
            error_code: self.refused.unwrap_or(ErrorCode::NONE),
            session_id: self.session.as_ref().map_or(0, |session| session.id()),
            ..FetchResponse::default()
        };
        let mut rows = Rows { last: None, responses: &mut response.responses };
        match &self.session {
            None => {
                for part in &self.parts {
                    rows.push(part.topic, &self.topics[part.topic as usize], self.data(part));
                }
            }
            Some(session) => {
                let found = self.parts.iter().filter(found).map(|part| (part.topic, Row::Found(part)));
                let changed = changed.into_iter().flatten().map(|(slot, topic)| (topic, Row::Changed(slot)));
                let mut all: Vec<_> = found.chain(changed).collect();
                // Each topic once.
                all.sort_by_key(|(topic, _)| *topic);
                for (topic, row) in all {
                    let data = match row {
                        Row::Found(part) => self.data(part),
                        Row::Changed(slot) => {
                            let (index, bounds) = session.partition(slot);
                            self.bounds_only(index, bounds)
                        }
                    };
                    rows.push(topic, session.topic(topic), data);
                }
            }
        }
        if version >= HINTS_SINCE {
            put_hints(turn, &mut response);
        }
        // Records are bounded by `kafka.fetch_bytes_max`, or are one batch; there is room for the rest besides.
        frame::put_response_pieces(pieces, version, correlation_id, &response).expect("fits into a frame")
    }

    fn data<'a>(&self, part: &'a Part) -> PartitionData<'a> {
        let records = Records::Shared(&part.result.records);
        let error_code = part.error(self.by_id);
        PartitionData { error_code, records, ..self.bounds_only(part.index, part.bounds()) }
    }

    fn bounds_only<'a>(&self, partition_index: i32, bounds: Bounds) -> PartitionData<'a> {
        PartitionData {
            partition_index,
            high_watermark: bounds.high_watermark,
            last_stable_offset: bounds.high_watermark,
            log_start_offset: bounds.start,
            // No transactions: nothing is ever aborted. Null where the reader did not ask.
            aborted_transactions: self.read_committed.then(Default::default),
            records: Records::Shared(&[]),
            ..PartitionData::default()
        }
    }
}

/// Who leads the partitions that the client knows in an older epoch. It would ask for that next.
fn put_hints<'a>(turn: &'a Turn<'_>, response: &mut FetchResponse<'a>) {
    let catalog = turn.shard.catalog();
    for topic in &mut response.responses {
        let Some(known) = catalog.topic_by_id(TopicId(topic.topic_id.into_bytes())) else { continue };
        let stale = |data: &&mut PartitionData<'_>| data.error_code == ErrorCode::FENCED_LEADER_EPOCH;
        for data in topic.partitions.iter_mut().filter(stale) {
            let Some(log) = known.log_of(data.partition_index) else { continue };
            let node = turn.front.broker.of_log(log);
            let term = turn.front.log_terms.get(log.0 as usize);
            data.current_leader = LeaderIdAndEpoch {
                leader_id: node.id,
                leader_epoch: term.map_or(-1, |term| epoch_of(*term)),
            };
            if response.node_endpoints.iter().all(|other| other.node_id != node.id) {
                let (node_id, host, port) = (node.id, node.host, node.port.into());
                response.node_endpoints.push(NodeEndpoint { node_id, host, port, rack: None });
            }
        }
    }
}

/// What a response says of a partition.
enum Row<'a> {
    /// Records, or an error.
    Found(&'a Part),
    /// Only where it begins and ends; the partition of the session in this slot.
    Changed(u32),
}

/// Partitions gathered by topic.
struct Rows<'r, 'a> {
    /// The topic of the last one.
    last: Option<u32>,
    responses: &'r mut Array<FetchableTopicResponse<'a>>,
}

impl<'a> Rows<'_, 'a> {
    fn push(&mut self, number: u32, topic: &'a FetchedTopic, data: PartitionData<'a>) {
        if self.last.replace(number) != Some(number) {
            let (topic, topic_id) = (&*topic.name, topic.id);
            self.responses.push(FetchableTopicResponse { topic, topic_id, partitions: Array::new() });
        }
        let topic = self.responses.last_mut().expect("pushed above");
        topic.partitions.push(data);
    }
}
