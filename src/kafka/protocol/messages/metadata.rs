//! Metadata: brokers, topics, and who leads which partition.

use uuid::Uuid;

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::operations;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for brokers and topics.
    pub struct MetadataRequest<'a> {
        /// Null asks for all topics and an empty array for none, but for version 0, where it asks for all.
        topics: Option<Array<MetadataRequestTopic<'a>>>, 0+;
        allow_auto_topic_creation: bool = true, 4+;
        include_cluster_authorized_operations: bool, 8-10;
        include_topic_authorized_operations: bool, 8+;
    }

    /// A topic by name, or by id where the name is null.
    pub struct MetadataRequestTopic<'a> {
        topic_id: Uuid, 10+;
        /// Null since version 10 only.
        name: Option<&'a str>, 0+;
    }

    /// Brokers and topics.
    pub struct MetadataResponse<'a> {
        throttle_time_ms: i32, 3+;
        brokers: Array<MetadataResponseBroker<'a>>, 0+;
        cluster_id: Option<&'a str>, 2+;
        controller_id: i32 = -1, 1+;
        topics: Array<MetadataResponseTopic<'a>>, 0+;
        cluster_authorized_operations: i32 = operations::OMITTED, 8-10;
        error_code: ErrorCode, 13+;
    }

    /// A broker and where clients reach it.
    pub struct MetadataResponseBroker<'a> {
        node_id: i32, 0+;
        host: &'a str, 0+;
        port: i32, 0+;
        rack: Option<&'a str>, 1+;
    }

    /// A topic, or why there is none.
    pub struct MetadataResponseTopic<'a> {
        error_code: ErrorCode, 0+;
        /// Null since version 12 only, for an id that is unknown.
        name: Option<&'a str>, 0+;
        topic_id: Uuid, 10+;
        is_internal: bool, 1+;
        partitions: Array<MetadataResponsePartition>, 0+;
        topic_authorized_operations: i32 = operations::OMITTED, 8+;
    }

    /// A partition and its replicas.
    pub struct MetadataResponsePartition {
        error_code: ErrorCode, 0+;
        partition_index: i32, 0+;
        leader_id: i32, 0+;
        leader_epoch: i32 = -1, 7+;
        replica_nodes: Array<i32>, 0+;
        isr_nodes: Array<i32>, 0+;
        offline_replicas: Array<i32>, 5+;
    }
}
