//! Produce: record batches into partitions.

use uuid::Uuid;

use super::leader::{LeaderIdAndEpoch, NodeEndpoint};
use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Record batches for partitions.
    pub struct ProduceRequest<'a> {
        /// Null unless the producer is transactional.
        transactional_id: Option<&'a str>, 3+;
        /// 0 for no response at all, 1 for the leader's ack, -1 for all in-sync replicas'.
        acks: i16, 0+;
        timeout_ms: i32, 0+;
        topic_data: Array<TopicProduceData<'a>>, 0+;
    }

    /// A topic by name, since version 13 by id.
    pub struct TopicProduceData<'a> {
        name: &'a str, 0-12;
        topic_id: Uuid, 13+;
        partition_data: Array<PartitionProduceData<'a>>, 0+;
    }

    /// Exactly one batch of format 2, else the partition's answer is an error.
    pub struct PartitionProduceData<'a> {
        index: i32, 0+;
        records: Option<&'a [u8]>, 0+;
    }

    /// What became of each partition's batch.
    pub struct ProduceResponse<'a> {
        responses: Array<TopicProduceResponse<'a>>, 0+;
        throttle_time_ms: i32, 1+;
    } tagged {
        0 => node_endpoints: Array<NodeEndpoint<'a>>, 10+;
    }

    /// A topic by name, since version 13 by id.
    pub struct TopicProduceResponse<'a> {
        name: &'a str, 0-12;
        topic_id: Uuid, 13+;
        partition_responses: Array<PartitionProduceResponse<'a>>, 0+;
    }

    /// Offsets of an accepted batch, or why it was refused.
    pub struct PartitionProduceResponse<'a> {
        index: i32, 0+;
        error_code: ErrorCode, 0+;
        /// Of the first record of the batch; -1 on error.
        base_offset: i64, 0+;
        /// -1 unless the topic is stamped by the broker.
        log_append_time_ms: i64 = -1, 2+;
        log_start_offset: i64 = -1, 5+;
        record_errors: Array<BatchIndexAndErrorMessage<'a>>, 8+;
        error_message: Option<&'a str>, 8+;
    } tagged {
        0 => current_leader: LeaderIdAndEpoch, 10+;
    }

    /// The record that made its batch be refused.
    pub struct BatchIndexAndErrorMessage<'a> {
        batch_index: i32, 8+;
        batch_index_error_message: Option<&'a str>, 8+;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::protocol::{ApiKey, Message, Reader, Writer};

    /// The hot path: one topic, one partition.
    #[test]
    fn a_produce_of_one_partition_is_borrowed_whole() {
        let records = [7; 100];
        for version in ApiKey::Produce.versions() {
            let mut bytes = Vec::new();
            let mut request = ProduceRequest { acks: -1, timeout_ms: 30_000, ..Default::default() };
            let partition = PartitionProduceData { index: 3, records: Some(&records) };
            let mut topic = TopicProduceData::default();
            topic.partition_data.push(partition);
            match version {
                13.. => topic.topic_id = Uuid::from_u128(1),
                _ => topic.name = "orders",
            }
            request.topic_data.push(topic);
            request.encode(&mut Writer::new(&mut bytes), version);

            let decoded = ProduceRequest::decode(&mut Reader::new(&bytes), version).expect("decodes");
            assert_eq!(decoded, request, "version {version}");
            assert!(!decoded.topic_data.spilled(), "no allocation for the topic");
            let partitions = &decoded.topic_data[0].partition_data;
            assert!(!partitions.spilled(), "no allocation for the partition");
            let records = partitions[0].records.expect("not null");
            assert!(bytes.as_ptr_range().contains(&records.as_ptr()), "no copy of the records");
        }
    }
}
