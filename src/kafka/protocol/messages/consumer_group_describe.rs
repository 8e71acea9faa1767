//! ConsumerGroupDescribe: groups of the protocol of KIP-848 with their members. Only asked, of brokers that have it.

use uuid::Uuid;

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::operations;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for groups by name.
    pub struct ConsumerGroupDescribeRequest<'a> {
        group_ids: Array<&'a str>, 0+;
        include_authorized_operations: bool, 0+;
    }

    /// The groups.
    pub struct ConsumerGroupDescribeResponse<'a> {
        throttle_time_ms: i32, 0+;
        groups: Array<DescribedConsumerGroup<'a>>, 0+;
    }

    /// A group.
    pub struct DescribedConsumerGroup<'a> {
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 0+;
        group_id: &'a str, 0+;
        group_state: &'a str, 0+;
        group_epoch: i32, 0+;
        assignment_epoch: i32, 0+;
        assignor_name: &'a str, 0+;
        members: Array<ConsumerGroupMember<'a>>, 0+;
        authorized_operations: i32 = operations::OMITTED, 0+;
    }

    /// A member, what it reads, and what it was assigned.
    pub struct ConsumerGroupMember<'a> {
        member_id: &'a str, 0+;
        instance_id: Option<&'a str>, 0+;
        rack_id: Option<&'a str>, 0+;
        member_epoch: i32, 0+;
        client_id: &'a str, 0+;
        client_host: &'a str, 0+;
        subscribed_topic_names: Array<&'a str>, 0+;
        subscribed_topic_regex: Option<&'a str>, 0+;
        assignment: MemberAssignment<'a>, 0+;
        /// What it is to have when others have let go.
        target_assignment: MemberAssignment<'a>, 0+;
        member_type: i8 = -1, 1+;
    }

    /// Partitions of topics.
    pub struct MemberAssignment<'a> {
        topic_partitions: Array<AssignedTopic<'a>>, 0+;
    }

    /// Partitions of a topic.
    pub struct AssignedTopic<'a> {
        topic_id: Uuid, 0+;
        topic_name: &'a str, 0+;
        partitions: Array<i32>, 0+;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::protocol::wire::{Reader, Writer};
    use crate::kafka::protocol::{ApiKey, Message};

    /// One member in version 1, byte by byte as Kafka's schema has it.
    #[test]
    fn a_group_with_a_member() {
        let mut bytes = vec![0, 0, 0, 0, 2, 0, 0, 0, 2, b'g', 7];
        bytes.extend_from_slice(b"Stable");
        bytes.extend_from_slice(&[0, 0, 0, 3, 0, 0, 0, 3, 8]);
        bytes.extend_from_slice(b"uniform");
        bytes.extend_from_slice(&[2, 2, b'm', 0, 0, 0, 0, 0, 3, 2, b'c', 2, b'h', 2, 2, b't', 0]);
        // Assigned partition 5 of t, and nothing else to come.
        bytes.extend_from_slice(&[2]);
        bytes.extend_from_slice(&[9; 16]);
        bytes.extend_from_slice(&[2, b't', 2, 0, 0, 0, 5, 0, 0, 1, 0, 1, 0]);
        bytes.extend_from_slice(&[0x80, 0, 0, 0, 0, 0]);
        let reader = &mut Reader::new(&bytes);
        let response = ConsumerGroupDescribeResponse::decode(reader, 1).expect("decodes");
        assert_eq!(reader.left(), 0);
        let group = &response.groups[0];
        assert_eq!((group.group_id, group.group_state, group.assignor_name), ("g", "Stable", "uniform"));
        let member = &group.members[0];
        assert_eq!((member.member_id, member.client_id, member.client_host), ("m", "c", "h"));
        let assigned = &member.assignment.topic_partitions[0];
        assert_eq!((assigned.topic_name, &assigned.partitions[..]), ("t", &[5][..]));
        let mut again = Vec::new();
        response.encode(&mut Writer::new(&mut again), 1);
        assert_eq!(again, bytes);
    }

    #[test]
    fn nobody_may_ask_us() {
        let api = ApiKey::ConsumerGroupDescribe;
        assert_eq!(ApiKey::from_key(api.key()), None);
        assert!(!ApiKey::ALL.contains(&api));
    }
}
