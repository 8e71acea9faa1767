//! The codec against another implementation of the protocol, which was generated from Kafka's schemas.
//!
//! Bytes alone cannot tell two neighbours of the same type apart, so values are compared by field name too,
//! through `Debug`, which both sides derive.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::Bytes;
use kafka_protocol::messages as kp;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use ringmq::kafka::protocol::api::schemas;
use ringmq::kafka::protocol::header::ResponseHeader;
use ringmq::kafka::protocol::schema::Kind;
use ringmq::kafka::protocol::{ApiKey, Reader, Request, RequestHeader, Response, Writer};

use crate::generator::generate;
use crate::random::Random;

const MESSAGES_PER_VERSION: u64 = 100;

/// What the oracle makes of a message.
struct Opinion {
    encoded_again: Vec<u8>,
    debug: String,
    header_version: i16,
}

fn ask<M: Decodable + Encodable + HeaderVersion + Debug>(bytes: &[u8], version: i16) -> Opinion {
    let mut bytes = Bytes::copy_from_slice(bytes);
    let message = M::decode(&mut bytes, version).expect("the oracle can decode it");
    assert!(bytes.is_empty(), "the oracle leaves {} bytes", bytes.len());
    let mut encoded_again = Vec::new();
    message.encode(&mut encoded_again, version).expect("the oracle can encode it");
    Opinion { encoded_again, debug: format!("{message:?}"), header_version: M::header_version(version) }
}

macro_rules! oracles {
    ($($api:ident: $request:ident, $response:ident;)*) => {
        fn ask_about_request(api: ApiKey, bytes: &[u8], version: i16) -> Opinion {
            match api {
                $(ApiKey::$api => ask::<kp::$request>(bytes, version),)*
            }
        }

        fn ask_about_response(api: ApiKey, bytes: &[u8], version: i16) -> Opinion {
            match api {
                $(ApiKey::$api => ask::<kp::$response>(bytes, version),)*
            }
        }
    };
}

oracles! {
    Produce: ProduceRequest, ProduceResponse;
    Fetch: FetchRequest, FetchResponse;
    ListOffsets: ListOffsetsRequest, ListOffsetsResponse;
    Metadata: MetadataRequest, MetadataResponse;
    OffsetCommit: OffsetCommitRequest, OffsetCommitResponse;
    OffsetFetch: OffsetFetchRequest, OffsetFetchResponse;
    FindCoordinator: FindCoordinatorRequest, FindCoordinatorResponse;
    ApiVersions: ApiVersionsRequest, ApiVersionsResponse;
    CreateTopics: CreateTopicsRequest, CreateTopicsResponse;
    DeleteTopics: DeleteTopicsRequest, DeleteTopicsResponse;
    DeleteRecords: DeleteRecordsRequest, DeleteRecordsResponse;
    InitProducerId: InitProducerIdRequest, InitProducerIdResponse;
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    DescribeConfigs: DescribeConfigsRequest, DescribeConfigsResponse;
    JoinGroup: JoinGroupRequest, JoinGroupResponse;
    SyncGroup: SyncGroupRequest, SyncGroupResponse;
    Heartbeat: HeartbeatRequest, HeartbeatResponse;
    LeaveGroup: LeaveGroupRequest, LeaveGroupResponse;
    ListGroups: ListGroupsRequest, ListGroupsResponse;
    DescribeGroups: DescribeGroupsRequest, DescribeGroupsResponse;
    DeleteGroups: DeleteGroupsRequest, DeleteGroupsResponse;
    OffsetDelete: OffsetDeleteRequest, OffsetDeleteResponse;
    DescribeCluster: DescribeClusterRequest, DescribeClusterResponse;
    CreatePartitions: CreatePartitionsRequest, CreatePartitionsResponse;
    AlterConfigs: AlterConfigsRequest, AlterConfigsResponse;
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    DescribeLogDirs: DescribeLogDirsRequest, DescribeLogDirsResponse;
    DescribeProducers: DescribeProducersRequest, DescribeProducersResponse;
    DescribeTopicPartitions: DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
    DescribeAcls: DescribeAclsRequest, DescribeAclsResponse;
    ListConfigResources: ListConfigResourcesRequest, ListConfigResourcesResponse;
    DescribeClientQuotas: DescribeClientQuotasRequest, DescribeClientQuotasResponse;
    DescribeUserScramCredentials: DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse;
    ListPartitionReassignments: ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
    ConsumerGroupDescribe: ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse;
}

/// The versions that the oracle knows: its schemas are those of Kafka 4.1.
fn known_versions(api: ApiKey) -> RangeInclusive<i16> {
    match api {
        // Version 11 has the fields of version 10.
        ApiKey::ListOffsets => *api.versions().start()..=10,
        _ => api.versions(),
    }
}

/// Generates messages of every version, and checks that we, and the oracle, decode them to the generated
/// values and encode those to the same bytes.
fn agree(
    schema: impl Fn(ApiKey) -> Kind,
    ours: impl Fn(ApiKey, &[u8], i16) -> (Vec<u8>, String),
    oracle: impl Fn(ApiKey, &[u8], i16) -> Opinion,
) {
    for &api in ApiKey::ALL.iter().chain(ApiKey::ASKED) {
        for version in known_versions(api) {
            let form = api.form(version).expect("in the range");
            for seed in 0..MESSAGES_PER_VERSION {
                let context = format!("{api:?} version {version} seed {seed}");
                let generated = generate(&mut Random::new(seed), schema(api), form);
                let (encoded_again, debug) = ours(api, &generated.bytes, version);
                assert_eq!(encoded_again, generated.bytes, "we, {context}");
                let opinion = oracle(api, &generated.bytes, version);
                assert_eq!(opinion.encoded_again, generated.bytes, "the oracle, {context}");
                assert_shows(&debug, &generated.fields, &format!("we, {context}"));
                assert_shows(&opinion.debug, &generated.fields, &format!("the oracle, {context}"));
            }
        }
    }
}

#[test]
fn requests_agree_with_the_oracle() {
    let ours = |api, bytes: &[u8], version| {
        let mut reader = Reader::new(bytes);
        let request = Request::decode(&mut reader, api, version).expect("decodes");
        reader.finish().expect("to the end");
        let mut encoded = Vec::new();
        request.encode(&mut Writer::new(&mut encoded), version);
        (encoded, format!("{request:?}"))
    };
    agree(|api| schemas(api).0, ours, ask_about_request);
}

#[test]
fn responses_agree_with_the_oracle() {
    let ours = |api, bytes: &[u8], version| {
        let mut reader = Reader::new(bytes);
        let response = Response::decode(&mut reader, api, version).expect("decodes");
        reader.finish().expect("to the end");
        let mut encoded = Vec::new();
        response.encode(&mut Writer::new(&mut encoded), version);
        (encoded, format!("{response:?}"))
    };
    agree(|api| schemas(api).1, ours, ask_about_response);
}

#[test]
fn headers_agree_with_the_oracle() {
    for &api in ApiKey::ALL {
        for version in known_versions(api) {
            let context = format!("{api:?} version {version}");
            let form = api.form(version).expect("in the range");
            let (request, response) = schemas(api);

            let message = generate(&mut Random::new(0), request, form);
            let header_version = ask_about_request(api, &message.bytes, version).header_version;
            let header = kp::RequestHeader::default()
                .with_request_api_key(api.key())
                .with_request_api_version(version);
            let mut theirs = Vec::new();
            header.encode(&mut theirs, header_version).expect("encodes");
            let mut reader = Reader::new(&theirs);
            let decoded = RequestHeader::decode(&mut reader).expect("decodes");
            reader.finish().expect("to the end");
            assert_eq!((decoded.api, decoded.version), (api, version));
            let mut ours = Vec::new();
            decoded.encode(&mut Writer::new(&mut ours));
            assert_eq!(ours, theirs, "{context}");

            let message = generate(&mut Random::new(0), response, form);
            let header_version = ask_about_response(api, &message.bytes, version).header_version;
            let header = kp::ResponseHeader::default().with_correlation_id(7);
            let mut theirs = Vec::new();
            header.encode(&mut theirs, header_version).expect("encodes");
            let mut ours = Vec::new();
            ResponseHeader { correlation_id: 7 }.encode(&mut Writer::new(&mut ours), api, version);
            assert_eq!(ours, theirs, "{context}");
        }
    }
}

/// Checks that every generated field is found, with its name and value, in a `Debug` representation.
fn assert_shows(debug: &str, expected: &[(&'static str, String)], context: &str) {
    let mut shown = named_values(debug);
    for (name, value) in expected {
        let found = shown.iter().position(|(n, v)| n == name && v == value);
        let found = found.unwrap_or_else(|| panic!("{name}: {value} is missing, {context}: {debug}"));
        shown.swap_remove(found);
    }
}

/// Names and values of the fields in a `Debug` representation, without wrappers such as `Some(..)` and
/// newtypes. Values that are structs or arrays of them are left out; what is inside them is not.
fn named_values(debug: &str) -> Vec<(&str, String)> {
    let mut values = Vec::new();
    for (colon, _) in debug.match_indices(": ") {
        let name = debug[..colon].rsplit([' ', '{', '(', '[']).next().expect("rsplit gives one at least");
        if let Some(value) = plain_value(&debug[colon + 2..]) {
            values.push((name, value));
        }
    }
    values
}

/// The value at the start of `text`, if it is no struct: up to what cannot belong to it.
fn plain_value(text: &str) -> Option<String> {
    let end = if unwrapped(text).starts_with('[') { text.find(']')? } else { text.find([',', '}'])? };
    let value = &text[..end];
    if value.contains('{') {
        return None;
    }
    let value = unwrapped(value);
    match value.strip_prefix('[') {
        Some(elements) => {
            let elements: Vec<&str> = elements.split(", ").map(unwrapped).collect();
            Some(format!("[{}]", elements.join(", ")))
        }
        None => Some(value.to_string()),
    }
}

/// `Some(Name(5))` and ` Name(5)` become `5`.
fn unwrapped(value: &str) -> &str {
    let mut inner = value.trim();
    while let Some((wrapper, rest)) = inner.split_once('(')
        && wrapper.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    {
        inner = rest;
    }
    inner.trim_end_matches([')', ' '])
}

#[test]
fn values_are_found_in_debug_representations() {
    let debug = r#"M(A { x: Some(1), s: T("a"), e: NONE(0), l: [N(1), N(2)], n: [B { y: None }], "#;
    let debug = format!("{debug}{}", "o: Some([3]), b: B { z: true } })");
    let values = named_values(&debug);
    let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(
        values,
        [("x", "1"), ("s", "\"a\""), ("e", "0"), ("l", "[1, 2]"), ("y", "None"), ("o", "[3]"), ("z", "true")]
    );
}
