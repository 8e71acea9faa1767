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
        ApiKey::CreateTopics => handle!(create_topics),
        ApiKey::DeleteTopics => handle!(delete_topics),
        ApiKey::DeleteRecords => handle!(delete_records),
        ApiKey::DescribeConfigs => handle!(describe_configs),
        ApiKey::DescribeCluster => handle!(describe_cluster),
        ApiKey::Produce | ApiKey::Fetch => panic!("{api:?} is not dispatched here"),
    })
}
