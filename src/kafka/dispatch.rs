//! From a request's header to the handler of its API.

use crate::kafka::context::Context;
use crate::kafka::handlers::{self, Outcome};
use crate::kafka::protocol::wire::{DecodeError, Reader, Writer};
use crate::kafka::protocol::{ApiKey, Message};

/// Decodes the body of a request and starts to answer it. An error costs the peer its connection.
///
/// A version that does not exist is an error, as in Kafka, but for `ApiVersions`, which tells the client
/// what does. Bytes behind the body are ignored, as in Kafka.
///
/// `Produce` and `Fetch` are not for here: the connection hands them over with the buffers that their
/// records lie in.
pub fn dispatch(
    ctx: &Context<'_>,
    api: ApiKey,
    version: i16,
    body: &[u8],
    out: &mut Writer<'_>,
) -> Result<Outcome, DecodeError> {
    if api == ApiKey::ApiVersions && !api.versions().contains(&version) {
        return Ok(handlers::api_versions::handle_unsupported(out));
    }
    let body = &mut Reader::new(body);
    macro_rules! handle {
        ($module:ident) => {
            handlers::$module::handle(ctx, version, Message::decode(body, version)?, out)
        };
    }
    Ok(match api {
        ApiKey::ApiVersions => handlers::api_versions::handle(version, Message::decode(body, version)?, out),
        ApiKey::Metadata => handle!(metadata),
        ApiKey::ListOffsets => handle!(list_offsets),
        ApiKey::OffsetForLeaderEpoch => handle!(offset_for_leader_epoch),
        ApiKey::InitProducerId => handle!(init_producer_id),
        ApiKey::FindCoordinator => handle!(find_coordinator),
        ApiKey::OffsetCommit => handle!(offset_commit),
        ApiKey::OffsetFetch => handle!(offset_fetch),
        ApiKey::JoinGroup => handle!(join_group),
        ApiKey::SyncGroup => handle!(sync_group),
        ApiKey::Heartbeat => handle!(heartbeat),
        ApiKey::LeaveGroup => handle!(leave_group),
        ApiKey::ListGroups => handle!(list_groups),
        ApiKey::DescribeGroups => handle!(describe_groups),
        ApiKey::DeleteGroups => handle!(delete_groups),
        ApiKey::OffsetDelete => handle!(offset_delete),
        ApiKey::CreateTopics => handle!(create_topics),
        ApiKey::DeleteTopics => handle!(delete_topics),
        ApiKey::DeleteRecords => handle!(delete_records),
        ApiKey::DescribeConfigs => handle!(describe_configs),
        ApiKey::AlterConfigs => handle!(alter_configs),
        ApiKey::IncrementalAlterConfigs => handle!(incremental_alter_configs),
        ApiKey::ListConfigResources => handle!(list_config_resources),
        ApiKey::CreatePartitions => handle!(create_partitions),
        ApiKey::DescribeCluster => handle!(describe_cluster),
        ApiKey::DescribeLogDirs => handle!(describe_log_dirs),
        ApiKey::DescribeProducers => handle!(describe_producers),
        ApiKey::DescribeTopicPartitions => handle!(describe_topic_partitions),
        ApiKey::DescribeAcls => handle!(describe_acls),
        ApiKey::DescribeClientQuotas => handle!(describe_client_quotas),
        ApiKey::DescribeUserScramCredentials => handle!(describe_user_scram_credentials),
        ApiKey::ListPartitionReassignments => handle!(list_partition_reassignments),
        ApiKey::Produce | ApiKey::Fetch => panic!("{api:?} is not dispatched here"),
        ApiKey::ConsumerGroupDescribe => return Err(DecodeError::UnknownApi(api.key())),
    })
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::kafka::handlers::testing::World;
    use crate::kafka::protocol::messages::MetadataRequest;

    #[test]
    fn an_unknown_version_is_an_error() {
        let world = World::default();
        for api in ApiKey::ALL.iter().copied().filter(|api| *api != ApiKey::ApiVersions) {
            if matches!(api, ApiKey::Produce | ApiKey::Fetch) {
                continue;
            }
            for version in [-1, api.versions().start() - 1, api.versions().end() + 1, i16::MAX] {
                let mut written = Vec::new();
                let out = &mut Writer::new(&mut written);
                let outcome = world.with_context(|ctx| dispatch(ctx, api, version, &[0; 64], out));
                assert_eq!(outcome.err(), Some(DecodeError::UnsupportedVersion { api, version }));
                assert!(written.is_empty());
            }
        }
    }

    #[test]
    fn bytes_behind_the_body_are_ignored() {
        let mut body = Vec::new();
        MetadataRequest::default().encode(&mut Writer::new(&mut body), 9);
        let clean = World::with_topics(&["a"]).reply_to_bytes(ApiKey::Metadata, 9, &body);
        body.extend_from_slice(b"more");
        assert_eq!(World::with_topics(&["a"]).reply_to_bytes(ApiKey::Metadata, 9, &body), clean);
    }

    /// Bodies that say something wrong in many ways: answered or refused, never a panic.
    #[test]
    fn no_body_makes_a_handler_panic() {
        let world = World::with_topics(&["a", "b"]);
        // A small generator of our own: the bodies must be the same in every run.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for api in ApiKey::ALL.iter().copied() {
            if matches!(api, ApiKey::Produce | ApiKey::Fetch) {
                continue;
            }
            for version in api.versions() {
                for _ in 0..2_000 {
                    // Small numbers are what lengths, counts, flags and names are made of.
                    let bytes = next() % 64;
                    let body: Vec<u8> = (0..bytes)
                        .map(|_| match next() % 8 {
                            0 => next() as u8,
                            1 => 0xff,
                            2 => b'a',
                            3 | 4 => 0,
                            _ => (next() % 4) as u8,
                        })
                        .collect();
                    let answered = catch_unwind(AssertUnwindSafe(|| {
                        let mut written = Vec::new();
                        let out = &mut Writer::new(&mut written);
                        let _ = world.with_context(|ctx| dispatch(ctx, api, version, &body, out));
                    }));
                    assert!(answered.is_ok(), "{api:?} {version} {body:?}");
                }
            }
        }
    }
}
