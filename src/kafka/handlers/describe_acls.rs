//! DescribeAcls: everybody may do everything here, which is another answer than that nobody was given a right.

use super::Outcome;
use crate::kafka::context::Context;
use crate::kafka::protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};

pub fn handle(_: &Context<'_>, version: i16, _: DescribeAclsRequest<'_>, out: &mut Writer<'_>) -> Outcome {
    // Kafka's code without an authorizer, by which tools know that there are no rights to be shown.
    let response = DescribeAclsResponse {
        error_code: ErrorCode::SECURITY_DISABLED,
        error_message: Some("there is no authorizer here: everybody may do everything"),
        ..Default::default()
    };
    response.encode(out, version);
    Outcome::Reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};

    #[test]
    fn nobody_judges_who_may_do_what() {
        for version in 1..=3 {
            let any = DescribeAclsRequest {
                resource_type_filter: 1,
                operation: 1,
                permission_type: 1,
                ..Default::default()
            };
            let one = DescribeAclsRequest {
                resource_type_filter: 2,
                resource_name_filter: Some("a"),
                principal_filter: Some("User:u"),
                ..any.clone()
            };
            for request in [any, one] {
                let body = World::with_topics(&["a"]).reply(version, &request);
                let response: DescribeAclsResponse<'_> = decode(&body, version);
                assert_eq!(response.error_code, ErrorCode::SECURITY_DISABLED);
                assert!(response.error_message.is_some() && response.resources.is_empty());
            }
        }
    }
}
