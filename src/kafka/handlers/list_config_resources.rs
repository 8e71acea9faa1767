//! ListConfigResources: the topics and brokers. Nothing else has configs here: loggers are set at the start,
//! metrics of clients are not collected, and groups have none of their own.

use super::Outcome;
use crate::kafka::context::Context;
use crate::kafka::protocol::messages::describe_configs::resource_type::{
    BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC,
};
use crate::kafka::protocol::messages::list_config_resources::ConfigResource;
use crate::kafka::protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};

/// The types that Kafka knows.
const TYPES: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: ListConfigResourcesRequest,
    out: &mut Writer<'_>,
) -> Outcome {
    let asked = &request.resource_types;
    let brokers: Vec<String> = ctx.broker.advertised().map(|node| node.id.to_string()).collect();
    let mut response = ListConfigResourcesResponse::default();
    if asked.iter().all(|asked| TYPES.contains(asked)) {
        // Version 0 has no place for a type: it is about metrics of clients.
        let wants = |kind: i8| version > 0 && (asked.is_empty() || asked.contains(&kind));
        let listed = &mut response.config_resources;
        if wants(BROKER) {
            let brokers = brokers.iter();
            listed.extend(brokers.map(|id| ConfigResource { resource_name: id, resource_type: BROKER }));
        }
        if wants(TOPIC) {
            let topics = ctx.catalog.topics();
            listed.extend(
                topics.map(|topic| ConfigResource { resource_name: &topic.name, resource_type: TOPIC }),
            );
        }
    } else {
        // Kafka's code for types that are still to come.
        response.error_code = ErrorCode::UNSUPPORTED_VERSION;
    }
    response.encode(out, version);
    Outcome::Reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};

    #[test]
    fn topics_and_brokers_have_configs() {
        let world = World::with_topics(&["b", "a"]).advertise_logs();
        let brokers = [("101", BROKER), ("102", BROKER)];
        let topics = [("a", TOPIC), ("b", TOPIC)];
        let all = [brokers, topics].concat();
        let none = ErrorCode::NONE;
        type Listed<'a> = &'a [(&'a str, i8)];
        let table: [(&[i8], Listed<'_>, ErrorCode); 8] = [
            (&[], &all, none),
            (&TYPES, &all, none),
            (&[TOPIC], &topics, none),
            (&[BROKER, BROKER], &brokers, none),
            (&[BROKER_LOGGER, CLIENT_METRICS, GROUP], &[], none),
            (&[TOPIC, 64], &[], ErrorCode::UNSUPPORTED_VERSION),
            (&[0], &[], ErrorCode::UNSUPPORTED_VERSION),
            (&[-1], &[], ErrorCode::UNSUPPORTED_VERSION),
        ];
        for (types, expected, error_code) in table {
            let request = ListConfigResourcesRequest { resource_types: types.iter().copied().collect() };
            let body = world.reply(1, &request);
            let response: ListConfigResourcesResponse<'_> = decode(&body, 1);
            assert_eq!(response.error_code, error_code, "{types:?}");
            let listed: Vec<_> = response
                .config_resources
                .iter()
                .map(|resource| (resource.resource_name, resource.resource_type))
                .collect();
            assert_eq!(listed, expected, "{types:?}");
        }
    }

    #[test]
    fn at_first_it_listed_metrics_of_clients_only() {
        let body = World::with_topics(&["a"]).reply(0, &ListConfigResourcesRequest::default());
        let response: ListConfigResourcesResponse<'_> = decode(&body, 0);
        assert_eq!(response, ListConfigResourcesResponse::default());
    }
}
