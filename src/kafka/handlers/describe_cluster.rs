//! DescribeCluster: the brokers, without topics.

use super::Outcome;
use crate::kafka::context::Context;
use crate::kafka::protocol::messages::describe_cluster::{DescribeClusterBroker, endpoint_type};
use crate::kafka::protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message, operations};

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: DescribeClusterRequest,
    out: &mut Writer<'_>,
) -> Outcome {
    let broker = ctx.broker;
    let mut response = DescribeClusterResponse {
        endpoint_type: request.endpoint_type,
        cluster_id: &broker.cluster_id,
        ..Default::default()
    };
    match request.endpoint_type {
        endpoint_type::BROKERS => {
            response.controller_id = broker.controller().id;
            let nodes = broker.advertised().map(|node| DescribeClusterBroker {
                broker_id: node.id,
                host: node.host,
                port: node.port.into(),
                ..Default::default()
            });
            response.brokers = nodes.collect();
            response.cluster_authorized_operations = operations::if_asked(
                request.include_cluster_authorized_operations,
                operations::ALL_OF_CLUSTER,
            );
        }
        endpoint_type::CONTROLLERS => {
            response.error_code = ErrorCode::MISMATCHED_ENDPOINT_TYPE;
            response.error_message = Some("this is a broker's address, not a controller's");
        }
        _ => {
            response.error_code = ErrorCode::UNSUPPORTED_ENDPOINT_TYPE;
            response.error_message = Some("unknown endpoint type");
        }
    }
    response.encode(out, version);
    Outcome::Reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};

    #[test]
    fn each_log_may_be_a_broker() {
        let request = DescribeClusterRequest { endpoint_type: endpoint_type::BROKERS, ..Default::default() };
        let body = World::default().advertise_logs().reply(2, &request);
        let response: DescribeClusterResponse<'_> = decode(&body, 2);
        let brokers: Vec<_> = response.brokers.iter().map(|broker| (broker.broker_id, broker.port)).collect();
        assert_eq!((response.controller_id, brokers), (101, vec![(101, 9201), (102, 9202)]));
    }

    #[test]
    fn there_is_one_broker_and_it_controls() {
        let table = [
            (endpoint_type::BROKERS, ErrorCode::NONE),
            (endpoint_type::CONTROLLERS, ErrorCode::MISMATCHED_ENDPOINT_TYPE),
            (0, ErrorCode::UNSUPPORTED_ENDPOINT_TYPE),
            (-1, ErrorCode::UNSUPPORTED_ENDPOINT_TYPE),
        ];
        for version in 1..=2 {
            for (endpoint_type, error_code) in table {
                let request = DescribeClusterRequest { endpoint_type, ..Default::default() };
                let body = World::default().reply(version, &request);
                let response: DescribeClusterResponse<'_> = decode(&body, version);
                assert_eq!(response.error_code, error_code);
                assert_eq!(response.cluster_id, "cluster");
                let brokers: Vec<_> = response
                    .brokers
                    .iter()
                    .map(|broker| (broker.broker_id, broker.host, broker.port))
                    .collect();
                if error_code.is_error() {
                    assert_eq!(brokers, []);
                } else {
                    assert_eq!((response.controller_id, brokers), (7, vec![(7, "broker.test", 9092)]));
                }
            }
        }
    }

    #[test]
    fn what_is_allowed_is_told_when_asked() {
        for version in 0..=2 {
            let told = |is_asked, endpoint_type| {
                let include = DescribeClusterRequest {
                    include_cluster_authorized_operations: is_asked,
                    endpoint_type,
                    ..Default::default()
                };
                let body = World::default().reply(version, &include);
                let response: DescribeClusterResponse<'_> = decode(&body, version);
                response.cluster_authorized_operations
            };
            assert_eq!(told(false, endpoint_type::BROKERS), operations::OMITTED);
            assert_eq!(told(true, endpoint_type::BROKERS), operations::ALL_OF_CLUSTER);
            if version >= 1 {
                assert_eq!(told(true, endpoint_type::CONTROLLERS), operations::OMITTED);
            }
        }
    }
}
