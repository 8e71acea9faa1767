//! The APIs: keys, versions, and which messages they exchange. One table, from which all of it follows.

use std::ops::RangeInclusive;

use super::messages::*;
use super::schema::{Field, Form};
use super::wire::{DecodeError, Reader, Writer};

/// A message of the protocol: the body of a request or of a response.
///
/// [`Field`] reads and writes parts of messages; whole ones go through here, where the version is checked.
pub trait Message<'a>: Field<'a> {
    const API: ApiKey;

    /// Reads a body of the given version, which may come from a peer as it is.
    #[inline]
    fn decode(reader: &mut Reader<'a>, version: i16) -> Result<Self, DecodeError> {
        let form =
            Self::API.form(version).ok_or(DecodeError::UnsupportedVersion { api: Self::API, version })?;
        Self::read(reader, form)
    }

    /// Appends a body of the given version, which the caller has checked.
    #[inline]
    fn encode(&self, writer: &mut Writer<'_>, version: i16) {
        let form = Self::API.form(version);
        let form = form.unwrap_or_else(|| panic!("{:?} has no version {version}", Self::API));
        self.write(writer, form);
    }
}

macro_rules! apis {
    ($(
        $(#[$meta:meta])*
        $api:ident = $key:literal, versions $versions:expr, $(advertised $advertised:expr,)?
            flexible $flexible:literal+, $request:ident $(<$request_life:lifetime>)?
            => $response:ident $(<$response_life:lifetime>)?;
    )* @asked {$(
        $(#[$asked_meta:meta])*
        $asked:ident = $asked_key:literal, versions $asked_versions:expr,
            flexible $asked_flexible:literal+, $asked_request:ident $(<$asked_request_life:lifetime>)?
            => $asked_response:ident $(<$asked_response_life:lifetime>)?;
    )*}) => {
        /// An API that this codec knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $($(#[$meta])* $api = $key,)*
            $($(#[$asked_meta])* $asked = $asked_key,)*
        }

        impl ApiKey {
            /// Every API that we serve, by rising key.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$api,)*];

            /// Every API that our command line asks other brokers for.
            pub const ASKED: &[ApiKey] = &[$(ApiKey::$asked,)*];

            /// One of those that we serve.
            pub fn from_key(key: i16) -> Option<ApiKey> {
                match key {
                    $($key => Some(ApiKey::$api),)*
                    _ => None,
                }
            }

            /// The protocol's name.
            pub fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$api => stringify!($api),)*
                    $(ApiKey::$asked => stringify!($asked),)*
                }
            }

            /// The versions that can be decoded and encoded.
            #[inline]
            pub fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(ApiKey::$api => $versions,)*
                    $(ApiKey::$asked => $asked_versions,)*
                }
            }

            /// The versions that `ApiVersions` tells to clients.
            pub fn versions_advertised(self) -> RangeInclusive<i16> {
                match self {
                    $($(ApiKey::$api => $advertised,)?)*
                    // An API advertises what it has unless the table says otherwise.
                    _ => self.versions(),
                }
            }

            /// The first version with compact lengths and tagged fields.
            #[inline]
            pub fn flexible_since(self) -> i16 {
                match self {
                    $(ApiKey::$api => $flexible,)*
                    $(ApiKey::$asked => $asked_flexible,)*
                }
            }
        }

        $(
            impl<'a> Message<'a> for $request $(<$request_life>)? {
                const API: ApiKey = ApiKey::$api;
            }

            impl<'a> Message<'a> for $response $(<$response_life>)? {
                const API: ApiKey = ApiKey::$api;
            }
        )*

        $(
            impl<'a> Message<'a> for $asked_request $(<$asked_request_life>)? {
                const API: ApiKey = ApiKey::$asked;
            }

            impl<'a> Message<'a> for $asked_response $(<$asked_response_life>)? {
                const API: ApiKey = ApiKey::$asked;
            }
        )*

        /// The body of any request.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request<'a> {
            $($api($request $(<$request_life>)?),)*
            $($asked($asked_request $(<$asked_request_life>)?),)*
        }

        impl<'a> Request<'a> {
            pub fn decode(reader: &mut Reader<'a>, api: ApiKey, version: i16) -> Result<Self, DecodeError> {
                match api {
                    $(ApiKey::$api => Message::decode(reader, version).map(Request::$api),)*
                    $(ApiKey::$asked => Message::decode(reader, version).map(Request::$asked),)*
                }
            }

            pub fn encode(&self, writer: &mut Writer<'_>, version: i16) {
                match self {
                    $(Request::$api(request) => request.encode(writer, version),)*
                    $(Request::$asked(request) => request.encode(writer, version),)*
                }
            }
        }

        /// The body of any response.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Response<'a> {
            $($api($response $(<$response_life>)?),)*
            $($asked($asked_response $(<$asked_response_life>)?),)*
        }

        impl<'a> Response<'a> {
            pub fn decode(reader: &mut Reader<'a>, api: ApiKey, version: i16) -> Result<Self, DecodeError> {
                match api {
                    $(ApiKey::$api => Message::decode(reader, version).map(Response::$api),)*
                    $(ApiKey::$asked => Message::decode(reader, version).map(Response::$asked),)*
                }
            }

            pub fn encode(&self, writer: &mut Writer<'_>, version: i16) {
                match self {
                    $(Response::$api(response) => response.encode(writer, version),)*
                    $(Response::$asked(response) => response.encode(writer, version),)*
                }
            }
        }

        /// The schemas of an API's request and response.
        pub fn schemas(api: ApiKey) -> (super::schema::Kind, super::schema::Kind) {
            match api {
                $(ApiKey::$api => (<$request as Field<'_>>::KIND, <$response as Field<'_>>::KIND),)*
                $(ApiKey::$asked => (<$asked_request as Field<'_>>::KIND, <$asked_response as Field<'_>>::KIND),)*
            }
        }
    };
}

apis! {
    /// Versions below 3 carry message sets of before 2017 and are refused. They are advertised all the
    /// same, as Kafka does: some clients disable compression when version 0 is missing.
    Produce = 0, versions 3..=13, advertised 0..=13, flexible 9+,
        ProduceRequest<'a> => ProduceResponse<'a>;
    Fetch = 1, versions 4..=17, flexible 12+, FetchRequest<'a> => FetchResponse<'a>;
    ListOffsets = 2, versions 1..=11, flexible 6+, ListOffsetsRequest<'a> => ListOffsetsResponse<'a>;
    Metadata = 3, versions 0..=13, flexible 9+, MetadataRequest<'a> => MetadataResponse<'a>;
    OffsetCommit = 8, versions 2..=9, flexible 8+, OffsetCommitRequest<'a> => OffsetCommitResponse<'a>;
    OffsetFetch = 9, versions 1..=9, flexible 6+, OffsetFetchRequest<'a> => OffsetFetchResponse<'a>;
    FindCoordinator = 10, versions 0..=6, flexible 3+,
        FindCoordinatorRequest<'a> => FindCoordinatorResponse<'a>;
    JoinGroup = 11, versions 0..=9, flexible 6+, JoinGroupRequest<'a> => JoinGroupResponse<'a>;
    Heartbeat = 12, versions 0..=4, flexible 4+, HeartbeatRequest<'a> => HeartbeatResponse;
    LeaveGroup = 13, versions 0..=5, flexible 4+, LeaveGroupRequest<'a> => LeaveGroupResponse<'a>;
    SyncGroup = 14, versions 0..=5, flexible 4+, SyncGroupRequest<'a> => SyncGroupResponse<'a>;
    DescribeGroups = 15, versions 0..=6, flexible 5+,
        DescribeGroupsRequest<'a> => DescribeGroupsResponse<'a>;
    ListGroups = 16, versions 0..=5, flexible 3+, ListGroupsRequest<'a> => ListGroupsResponse<'a>;
    ApiVersions = 18, versions 0..=4, flexible 3+, ApiVersionsRequest<'a> => ApiVersionsResponse<'a>;
    CreateTopics = 19, versions 2..=7, flexible 5+, CreateTopicsRequest<'a> => CreateTopicsResponse<'a>;
    DeleteTopics = 20, versions 1..=6, flexible 4+, DeleteTopicsRequest<'a> => DeleteTopicsResponse<'a>;
    DeleteRecords = 21, versions 0..=2, flexible 2+, DeleteRecordsRequest<'a> => DeleteRecordsResponse<'a>;
    InitProducerId = 22, versions 0..=5, flexible 2+, InitProducerIdRequest<'a> => InitProducerIdResponse;
    OffsetForLeaderEpoch = 23, versions 2..=4, flexible 4+,
        OffsetForLeaderEpochRequest<'a> => OffsetForLeaderEpochResponse<'a>;
    DescribeAcls = 29, versions 1..=3, flexible 2+, DescribeAclsRequest<'a> => DescribeAclsResponse<'a>;
    DescribeConfigs = 32, versions 1..=4, flexible 4+,
        DescribeConfigsRequest<'a> => DescribeConfigsResponse<'a>;
    AlterConfigs = 33, versions 0..=2, flexible 2+, AlterConfigsRequest<'a> => AlterConfigsResponse<'a>;
    DescribeLogDirs = 35, versions 1..=4, flexible 2+,
        DescribeLogDirsRequest<'a> => DescribeLogDirsResponse<'a>;
    CreatePartitions = 37, versions 0..=3, flexible 2+,
        CreatePartitionsRequest<'a> => CreatePartitionsResponse<'a>;
    DeleteGroups = 42, versions 0..=2, flexible 2+, DeleteGroupsRequest<'a> => DeleteGroupsResponse<'a>;
    IncrementalAlterConfigs = 44, versions 0..=1, flexible 1+,
        IncrementalAlterConfigsRequest<'a> => IncrementalAlterConfigsResponse<'a>;
    ListPartitionReassignments = 46, versions 0..=0, flexible 0+,
        ListPartitionReassignmentsRequest<'a> => ListPartitionReassignmentsResponse<'a>;
    OffsetDelete = 47, versions 0..=0, flexible 1+, OffsetDeleteRequest<'a> => OffsetDeleteResponse<'a>;
    DescribeClientQuotas = 48, versions 0..=1, flexible 1+,
        DescribeClientQuotasRequest<'a> => DescribeClientQuotasResponse<'a>;
    DescribeUserScramCredentials = 50, versions 0..=0, flexible 0+,
        DescribeUserScramCredentialsRequest<'a> => DescribeUserScramCredentialsResponse<'a>;
    DescribeCluster = 60, versions 0..=2, flexible 0+, DescribeClusterRequest => DescribeClusterResponse<'a>;
    DescribeProducers = 61, versions 0..=0, flexible 0+,
        DescribeProducersRequest<'a> => DescribeProducersResponse<'a>;
    ListConfigResources = 74, versions 0..=1, flexible 0+,
        ListConfigResourcesRequest => ListConfigResourcesResponse<'a>;
    DescribeTopicPartitions = 75, versions 0..=0, flexible 0+,
        DescribeTopicPartitionsRequest<'a> => DescribeTopicPartitionsResponse<'a>;

    // By our command line, of other brokers. Nobody may ask us.
    @asked {
        ConsumerGroupDescribe = 69, versions 0..=1, flexible 0+,
            ConsumerGroupDescribeRequest<'a> => ConsumerGroupDescribeResponse<'a>;
    }
}

impl ApiKey {
    #[inline]
    pub fn key(self) -> i16 {
        self as i16
    }

    #[inline]
    pub fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_since()
    }

    /// The layout of a version, if there is such a version.
    #[inline]
    pub fn form(self, version: i16) -> Option<Form> {
        self.versions().contains(&version).then(|| Form { version, flexible: self.is_flexible(version) })
    }
}
