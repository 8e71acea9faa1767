//! Single answers of a broker: why a produce or a fetch is refused.

use ringmq::kafka::protocol::api::{ApiKey, Response};
use ringmq::kafka::protocol::messages::metadata::MetadataRequestTopic;
use ringmq::kafka::protocol::messages::{FetchRequest, MetadataRequest};
use ringmq::kafka::protocol::{Array, ErrorCode, Records};
use uuid::Uuid;

use super::greedy::{Client, Play, batch, fetch, produce};
use super::link::decode;

const METADATA: i16 = 12;
/// First version in which a follower says so in a field of its own.
const REPLICA_STATE_SINCE: i16 = 15;

/// The id of a topic, and the leader epoch of its first partition.
fn find(play: &mut Play, client: &mut Client, name: &str) -> (Uuid, i32) {
    let topic = MetadataRequestTopic { name: Some(name), ..Default::default() };
    let request = MetadataRequest { topics: Some(Array::from_elem(topic, 1)), ..Default::default() };
    client.send(METADATA, &request);
    let frame = play.answer(client);
    let Response::Metadata(response) = decode(&frame, ApiKey::Metadata, METADATA) else {
        panic!("an answer of another kind")
    };
    let topic = &response.topics[0];
    let first = topic.partitions.iter().find(|partition| partition.partition_index == 0);
    (topic.topic_id, first.expect("a topic has one").leader_epoch)
}

fn produced(
    play: &mut Play,
    client: &mut Client,
    version: i16,
    (name, topic_id, index): (&str, Uuid, i32),
) -> ErrorCode {
    let records = batch(10);
    let mut request = produce(name, index, &records);
    request.topic_data[0].topic_id = topic_id;
    client.send(version, &request);
    let frame = play.answer(client);
    let Response::Produce(response) = decode(&frame, ApiKey::Produce, version) else {
        panic!("an answer of another kind")
    };
    response.responses[0].partition_responses[0].error_code
}

/// The error of the only partition, whether it has records, and the session.
fn fetched(
    play: &mut Play,
    client: &mut Client,
    version: i16,
    request: &FetchRequest<'_>,
) -> (ErrorCode, bool, i32) {
    client.send(version, request);
    let frame = play.answer(client);
    let Response::Fetch(response) = decode(&frame, ApiKey::Fetch, version) else {
        panic!("an answer of another kind")
    };
    let partition = &response.responses[0].partitions[0];
    let any = matches!(partition.records, Records::Bytes(bytes) if !bytes.is_empty());
    (partition.error_code, any, response.session_id)
}

/// Which code says it decides what a producer does next: look for the topic's new id, or for the topic.
#[test]
fn a_produce_by_id_and_by_name() {
    let mut play = Play::new(0, 2);
    let mut client = play.connect();
    let (id, _) = find(&mut play, &mut client, "small");
    let (nil, other) = (Uuid::nil(), Uuid::from_u128(7));
    let (no_topic, no_id) = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::UNKNOWN_TOPIC_ID);
    let table = [
        (12, ("small", nil, 0), ErrorCode::NONE),
        (12, ("small", nil, 7), no_topic),
        (12, ("no-such", nil, 0), no_topic),
        (12, ("", nil, 0), no_topic),
        (13, ("", id, 0), ErrorCode::NONE),
        (13, ("", id, 7), no_topic),
        (13, ("", other, 0), no_id),
        (13, ("", nil, 0), no_id),
    ];
    for (version, place, expected) in table {
        let answered = produced(&mut play, &mut client, version, place);
        assert_eq!(answered, expected, "version {version}, {place:?}");
    }
}

/// A broker that would follow is not taken for a consumer: its offsets would say that it has what it has not.
#[test]
fn a_fetch_by_a_replica() {
    let mut play = Play::new(0, 2);
    let mut client = play.connect();
    let (id, epoch) = find(&mut play, &mut client, "small");
    assert_eq!(produced(&mut play, &mut client, 9, ("small", id, 0)), ErrorCode::NONE);
    let (not_leader, no_epoch) = (ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::UNKNOWN_LEADER_EPOCH);
    for version in ApiKey::Fetch.versions() {
        // Older requests have no epoch.
        let at_epoch = if version < 9 { not_leader } else { no_epoch };
        let table = [
            // A consumer, and one that looks for mistakes.
            (-1, -1, ErrorCode::NONE),
            (-2, epoch, ErrorCode::NONE),
            (0, -1, not_leader),
            (i32::MAX, -1, not_leader),
            (1, epoch, at_epoch),
            (1, epoch + 1, at_epoch),
        ];
        for (replica, current_leader_epoch, expected) in table {
            // It would have a session if it got one.
            let mut request = FetchRequest { session_epoch: 0, ..fetch("small", 0, 0, 1 << 20) };
            request.topics[0].topic_id = id;
            request.topics[0].partitions[0].current_leader_epoch = current_leader_epoch;
            match version {
                REPLICA_STATE_SINCE.. => request.replica_state.replica_id = replica,
                _ => request.replica_id = replica,
            }
            let (code, any, session) = fetched(&mut play, &mut client, version, &request);
            assert_eq!(code, expected, "version {version}, replica {replica}");
            assert_eq!(any, replica < 0, "version {version}, replica {replica}");
            assert!(replica < 0 || session == 0, "version {version}: a session for replica {replica}");
        }
    }
}
