//! Kafka's error codes by name, as far as a load meets them.

use crate::bench::driver::Code;

/// What a reader asked for is not there: retention has removed it.
pub const OFFSET_OUT_OF_RANGE: i16 = 1;

/// With its words: `56 (KAFKA_STORAGE_ERROR: the broker cannot write, see its log)`.
pub fn code(number: i16) -> Code {
    Code { number, words: words(number) }
}

fn words(code: i16) -> Option<&'static str> {
    Some(match code {
        -1 => "UNKNOWN_SERVER_ERROR: see the broker's log",
        OFFSET_OUT_OF_RANGE => "OFFSET_OUT_OF_RANGE: retention is faster than the reader",
        2 => "CORRUPT_MESSAGE",
        3 => "UNKNOWN_TOPIC_OR_PARTITION: was the topic deleted?",
        5 => "LEADER_NOT_AVAILABLE",
        6 => "NOT_LEADER_OR_FOLLOWER: partitions have moved",
        7 => "REQUEST_TIMED_OUT",
        10 => "MESSAGE_TOO_LARGE: smaller --batch-bytes or --record-bytes, or a larger limit of the broker",
        14 => "COORDINATOR_LOAD_IN_PROGRESS",
        15 => "COORDINATOR_NOT_AVAILABLE",
        16 => "NOT_COORDINATOR: the group lives on another node",
        17 => "INVALID_TOPIC_EXCEPTION",
        19 => "NOT_ENOUGH_REPLICAS",
        20 => "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
        22 => "ILLEGAL_GENERATION",
        25 => "UNKNOWN_MEMBER_ID",
        27 => "REBALANCE_IN_PROGRESS",
        29 => "TOPIC_AUTHORIZATION_FAILED",
        30 => "GROUP_AUTHORIZATION_FAILED",
        31 => "CLUSTER_AUTHORIZATION_FAILED",
        36 => "TOPIC_ALREADY_EXISTS",
        37 => "INVALID_PARTITIONS",
        38 => "INVALID_REPLICATION_FACTOR",
        40 => "INVALID_CONFIG",
        41 => "NOT_CONTROLLER",
        42 => "INVALID_REQUEST",
        44 => "POLICY_VIOLATION",
        45 => "OUT_OF_ORDER_SEQUENCE_NUMBER",
        46 => "DUPLICATE_SEQUENCE_NUMBER",
        47 => "INVALID_PRODUCER_EPOCH",
        56 => "KAFKA_STORAGE_ERROR: the broker cannot write, its disk may be full; see its log",
        76 => "UNSUPPORTED_COMPRESSION_TYPE",
        87 => "INVALID_RECORD",
        89 => "THROTTLING_QUOTA_EXCEEDED",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_its_number_and_its_name_where_there_is_one() {
        assert_eq!(code(7).to_string(), "7 (REQUEST_TIMED_OUT)");
        assert_eq!(code(999).to_string(), "999");
    }
}
