//! What a failure is called in the Kafka protocol. Each error here has one `match`, without `_`.
//!
//! Which code is as much about what clients *do* with it as about its name: whether they try again, look
//! for another leader, or give up.

use std::fmt::Display;

use crate::codec::record_batch::BatchError;
use crate::kafka::answer_room::AnswerRoom;
use crate::kafka::protocol::ErrorCode;
use crate::shard::call::{AdminError, CallError, GroupError};

/// Longest text in a response. Texts quote what the client sent, which can be longer than a string of
/// the protocol may be.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Why a part of an answer is left out that would be larger than its connection may hold.
pub const NO_ROOM: (ErrorCode, &str) = (
    ErrorCode::POLICY_VIOLATION,
    "the answer would be larger than a connection may hold (kafka.connection_memory_max): ask for fewer at a time",
);

/// The same for the requests that go to a group's coordinator. While others hold the memory, clients wait.
pub fn no_room_of_coordinator(room: &AnswerRoom) -> ErrorCode {
    if room.is_short() { ErrorCode::COORDINATOR_LOAD_IN_PROGRESS } else { NO_ROOM.0 }
}

/// For the requests that go to a partition's leader.
pub fn of_call(error: &CallError) -> ErrorCode {
    match error {
        CallError::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        CallError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        CallError::SequenceGap { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        // PRODUCER_FENCED belongs to transactions; producers that get it from a leader do not expect it.
        CallError::StaleProducerEpoch => ErrorCode::INVALID_PRODUCER_EPOCH,
        // Makes producers split the batch.
        CallError::TooLarge => ErrorCode::MESSAGE_TOO_LARGE,
        CallError::OffsetsUsedUp => ErrorCode::INVALID_RECORD,
        // Retriable, and not persisted.
        CallError::Full(_) | CallError::Storage => ErrorCode::KAFKA_STORAGE_ERROR,
        CallError::Group(error) => of_group(error),
    }
}

/// For the requests that go to a group's coordinator, whose clients retry other codes than a leader's.
pub fn of_coordinator(error: &CallError) -> ErrorCode {
    match error {
        CallError::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        CallError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        CallError::TooLarge => ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
        CallError::Full(_) | CallError::Storage => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        // Answers to appends; a coordinator appends for no producer.
        CallError::SequenceGap { .. } | CallError::StaleProducerEpoch | CallError::OffsetsUsedUp => {
            ErrorCode::UNKNOWN_SERVER_ERROR
        }
        CallError::Group(error) => of_group(error),
    }
}

/// The same for SyncGroup, in whose answer not all clients take a coordinator that is loading for one to be
/// asked again: Java and kafka-python end. On REBALANCE_IN_PROGRESS, which Kafka says while it loads, they join
/// again at once, and again. Whoever is told to look for its coordinator joins again after a pause.
pub fn of_sync(error: &CallError) -> ErrorCode {
    let code = of_coordinator(error);
    if code == ErrorCode::COORDINATOR_LOAD_IN_PROGRESS { ErrorCode::NOT_COORDINATOR } else { code }
}

/// For what a group itself refuses.
pub fn of_group(error: &GroupError) -> ErrorCode {
    match error {
        GroupError::UnknownGroup => ErrorCode::GROUP_ID_NOT_FOUND,
        GroupError::UnknownMember => ErrorCode::UNKNOWN_MEMBER_ID,
        GroupError::FencedInstance => ErrorCode::FENCED_INSTANCE_ID,
        GroupError::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
        GroupError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
        GroupError::InconsistentProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        GroupError::InvalidSessionTimeout => ErrorCode::INVALID_SESSION_TIMEOUT,
        GroupError::MemberIdRequired { .. } => ErrorCode::MEMBER_ID_REQUIRED,
        // The end for a consumer of Java's.
        GroupError::GroupFull => ErrorCode::GROUP_MAX_SIZE_REACHED,
        // So it is not for what others may give back. To JoinGroup and OffsetCommit this is the one code on which
        // Java, librdkafka, franz-go, sarama, kafka-python, aiokafka and kafkajs all wait and then ask the same
        // coordinator again. COORDINATOR_NOT_AVAILABLE is an error to who uses sarama.
        GroupError::GroupsFull => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        // As Kafka does when its record of the commit is too large. Java and sarama tell their user, and go on.
        GroupError::OffsetsTooLarge => ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
        // As Kafka does when its record of the group is too large.
        GroupError::AssignmentTooLarge => ErrorCode::UNKNOWN_SERVER_ERROR,
        GroupError::NotEmpty => ErrorCode::NON_EMPTY_GROUP,
        GroupError::Subscribed => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
        GroupError::NotStored => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        GroupError::Stopping => ErrorCode::NOT_COORDINATOR,
    }
}

/// For the requests that change the metadata.
pub fn of_admin(error: &AdminError) -> ErrorCode {
    match error {
        AdminError::TopicExists => ErrorCode::TOPIC_ALREADY_EXISTS,
        AdminError::InvalidName(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        AdminError::InvalidPartitions(_) => ErrorCode::INVALID_PARTITIONS,
        AdminError::InvalidReplication(_) => ErrorCode::INVALID_REPLICATION_FACTOR,
        AdminError::InvalidConfig(_) => ErrorCode::INVALID_CONFIG,
        AdminError::Policy(_) => ErrorCode::POLICY_VIOLATION,
        AdminError::UnknownTopic => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        // A record of the metadata log is as long as its topic has partitions.
        AdminError::Log(CallError::TooLarge) => ErrorCode::INVALID_PARTITIONS,
        AdminError::Log(error) => of_call(error),
    }
}

/// For a batch that a producer sent.
pub fn of_batch(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::Truncated { .. }
        | BatchError::BadLength { .. }
        | BatchError::CrcMismatch { .. }
        | BatchError::BadOffsets { .. } => ErrorCode::CORRUPT_MESSAGE,
        BatchError::UnsupportedMagic { .. } => ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT,
        BatchError::UnknownCompression { .. } => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        BatchError::TrailingBytes { .. }
        | BatchError::BadCount { .. }
        | BatchError::TooManyRecords { .. }
        | BatchError::NonZeroBaseOffset { .. }
        | BatchError::CountMismatch { .. }
        | BatchError::ControlBatch
        | BatchError::MissingSequence { .. } => ErrorCode::INVALID_RECORD,
        BatchError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        BatchError::LogAppendTimeClaimed | BatchError::TimestampOutOfRange { .. } => {
            ErrorCode::INVALID_TIMESTAMP
        }
    }
}

/// An error in words, short enough for a response.
pub fn message(error: impl Display) -> String {
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_fits_whatever_it_quotes() {
        assert_eq!(message("short"), "short");
        let long = message("ü".repeat(40_000));
        assert_eq!(long.len(), MESSAGE_BYTES_MAX);
        assert_eq!(message("x".to_owned() + &long).len(), MESSAGE_BYTES_MAX - 1, "whole characters only");
    }

    #[test]
    fn what_may_pass_is_retriable() {
        for error in [CallError::Full("no space"), CallError::Storage] {
            // Codes that the Java client and librdkafka retry, by request.
            assert_eq!(of_call(&error), ErrorCode::KAFKA_STORAGE_ERROR, "{error}");
            let coordinator = ErrorCode::COORDINATOR_NOT_AVAILABLE;
            assert_eq!(of_coordinator(&error), coordinator, "{error}");
            assert_eq!(of_sync(&error), coordinator, "{error}");
        }
        let others_hold_it = GroupError::GroupsFull.into();
        assert_eq!(of_coordinator(&others_hold_it), ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
        assert_eq!(of_sync(&others_hold_it), ErrorCode::NOT_COORDINATOR, "which Java retries in SyncGroup");
        assert_eq!(of_coordinator(&GroupError::GroupFull.into()), ErrorCode::GROUP_MAX_SIZE_REACHED);
    }
}
