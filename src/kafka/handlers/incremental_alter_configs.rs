//! IncrementalAlterConfigs: changes single configs of a resource.

use super::Outcome;
use super::config_changes::{Resource, Results, alter, check_names, invalid, value_of};
use super::replies::Refusal;
use crate::kafka::context::Context;
use crate::kafka::protocol::Message;
use crate::kafka::protocol::messages::incremental_alter_configs::{
    IncrementalAlterConfigsResource, IncrementalAlterableConfig, config_operation,
};
use crate::kafka::protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::metadata::topic_config::{ConfigChange, ConfigOp};
use crate::shard::call::ConfigChanges;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: IncrementalAlterConfigsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let resources = request.resources.iter().map(|resource| Resource {
        resource_type: resource.resource_type,
        name: resource.resource_name,
        changes: read(resource),
    });
    let respond = |responses: Results<'_>, out: &mut Writer<'_>, version| {
        IncrementalAlterConfigsResponse { responses, ..Default::default() }.encode(out, version);
    };
    alter(ctx, version, resources.collect(), request.validate_only, respond, out)
}

fn read(resource: &IncrementalAlterConfigsResource<'_>) -> Result<ConfigChanges, Refusal> {
    check_names(resource.configs.iter().map(|config| config.name))?;
    resource.configs.iter().map(change).collect::<Result<_, _>>().map(ConfigChanges::Each)
}

fn change(config: &IncrementalAlterableConfig<'_>) -> Result<ConfigChange, Refusal> {
    let value = || value_of(config.name, config.value);
    let op = match config.config_operation {
        config_operation::SET => ConfigOp::Set(value()?),
        config_operation::DELETE => ConfigOp::Delete,
        config_operation::APPEND => ConfigOp::Append(value()?),
        config_operation::SUBTRACT => ConfigOp::Subtract(value()?),
        other => return Err(invalid(format!("operation {other} is not known"))),
    };
    Ok(ConfigChange { name: config.name.to_owned(), op })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode, topic_id};
    use crate::kafka::protocol::ErrorCode;
    use crate::kafka::protocol::messages::describe_configs::resource_type::{
        BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC,
    };
    use crate::model::LogId;
    use crate::shard::call::{AdminCall, AdminError, Answer, Call, CallError};

    type Change<'a> = (&'a str, i8, Option<&'a str>);

    fn resource<'a>(
        resource_type: i8,
        resource_name: &'a str,
        configs: &[Change<'a>],
    ) -> IncrementalAlterConfigsResource<'a> {
        let config = |(name, config_operation, value): &Change<'a>| IncrementalAlterableConfig {
            name,
            config_operation: *config_operation,
            value: *value,
        };
        let configs = configs.iter().map(config).collect();
        IncrementalAlterConfigsResource { resource_type, resource_name, configs }
    }

    fn request<'a>(
        resources: impl IntoIterator<Item = IncrementalAlterConfigsResource<'a>>,
    ) -> IncrementalAlterConfigsRequest<'a> {
        IncrementalAlterConfigsRequest { resources: resources.into_iter().collect(), validate_only: false }
    }

    #[test]
    fn operations_reach_the_metadata_log() {
        let changes = [
            ("retention.ms", config_operation::SET, Some("5")),
            ("retention.bytes", config_operation::DELETE, None),
            ("segment.bytes", config_operation::DELETE, Some("ignored")),
            ("cleanup.policy", config_operation::APPEND, Some("delete")),
            ("leader.replication.throttled.replicas", config_operation::SUBTRACT, Some("0:1")),
        ];
        for (version, validate_only) in [(0, false), (1, true)] {
            let request =
                IncrementalAlterConfigsRequest { validate_only, ..request([resource(TOPIC, "a", &changes)]) };
            let body = World::with_topics(&["a"]).ask(version, &request, |log, call| {
                assert_eq!(log, LogId::METADATA);
                let Call::Admin(AdminCall::AlterConfigs { topic, changes: asked, validate_only: only }) =
                    call
                else {
                    panic!("{call:?}")
                };
                assert_eq!((topic, only), (topic_id("a"), validate_only));
                let ops = [
                    ConfigOp::Set("5".into()),
                    ConfigOp::Delete,
                    ConfigOp::Delete,
                    ConfigOp::Append("delete".into()),
                    ConfigOp::Subtract("0:1".into()),
                ];
                let expected = changes.iter().zip(ops);
                let expected = expected.map(|((name, ..), op)| ConfigChange { name: (*name).to_owned(), op });
                assert_eq!(asked, ConfigChanges::Each(expected.collect()));
                Answer::AlterConfigs(Ok(()))
            });
            let response: IncrementalAlterConfigsResponse<'_> = decode(&body, version);
            assert_eq!(response.responses[0].error_code, ErrorCode::NONE);
            assert_eq!(response.responses[0].error_message, None);
        }
    }

    #[test]
    fn what_the_metadata_log_refuses() {
        let table = [
            (AdminError::InvalidConfig("no number".into()), ErrorCode::INVALID_CONFIG),
            (AdminError::UnknownTopic, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (AdminError::Log(CallError::Storage), ErrorCode::KAFKA_STORAGE_ERROR),
        ];
        for (error, expected) in table {
            let request = request([resource(TOPIC, "a", &[]), resource(TOPIC, "z", &[])]);
            let body =
                World::with_topics(&["a"]).ask(1, &request, |_, _| Answer::AlterConfigs(Err(error.clone())));
            let response: IncrementalAlterConfigsResponse<'_> = decode(&body, 1);
            let codes: Vec<_> = response.responses.iter().map(|one| one.error_code).collect();
            assert_eq!(codes, [expected, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
            assert_eq!(response.responses[0].error_message, Some(&*error.to_string()));
        }
    }

    #[test]
    fn what_is_refused_at_once() {
        const SET: i8 = config_operation::SET;
        const DELETE: i8 = config_operation::DELETE;
        let longest = "x".repeat(i16::MAX as usize);
        let one = Some("1");
        let table = [
            (resource(TOPIC, "", &[]), ErrorCode::INVALID_REQUEST, "no defaults"),
            (resource(TOPIC, "z", &[]), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such topic"),
            (
                resource(TOPIC, "z", &[("retention.ms", SET, Some("x"))]),
                ErrorCode::INVALID_CONFIG,
                "retention.ms",
            ),
            (resource(TOPIC, "a/b", &[("x", SET, one)]), ErrorCode::INVALID_TOPIC_EXCEPTION, "not allowed"),
            (resource(TOPIC, "a/b", &[]), ErrorCode::INVALID_TOPIC_EXCEPTION, "not allowed"),
            (resource(TOPIC, &longest, &[]), ErrorCode::INVALID_TOPIC_EXCEPTION, "at most 249"),
            (resource(TOPIC, "a", &[("x", SET, None)]), ErrorCode::INVALID_REQUEST, "no value"),
            (resource(TOPIC, "a", &[("x", 2, None)]), ErrorCode::INVALID_REQUEST, "no value"),
            (resource(TOPIC, "a", &[("x", 3, None)]), ErrorCode::INVALID_REQUEST, "no value"),
            (resource(TOPIC, "a", &[("x", 4, one)]), ErrorCode::INVALID_REQUEST, "operation 4"),
            (resource(TOPIC, "a", &[("x", -1, one)]), ErrorCode::INVALID_REQUEST, "operation -1"),
            (
                resource(TOPIC, "a", &[(&longest, SET, one), (&longest, DELETE, None)]),
                ErrorCode::INVALID_REQUEST,
                "xxx",
            ),
            (
                resource(BROKER, "7", &[("num.partitions", SET, one), ("x", DELETE, None)]),
                ErrorCode::INVALID_REQUEST,
                "Cannot update these configs dynamically: num.partitions;",
            ),
            (resource(BROKER, "", &[("x", 2, one)]), ErrorCode::INVALID_REQUEST, "dynamically"),
            (
                resource(BROKER, "7", &[("background.threads", SET, one), ("broker.rack", SET, one)]),
                ErrorCode::INVALID_REQUEST,
                "Cannot update these configs dynamically: broker.rack;",
            ),
            (
                resource(BROKER, "7", &[("ssl.keystore.type", SET, one)]),
                ErrorCode::INVALID_REQUEST,
                "only for one listener, by its prefix: ssl.keystore.type;",
            ),
            (
                resource(BROKER, "", &[("principal.builder.class", SET, one)]),
                ErrorCode::INVALID_REQUEST,
                "for all brokers: principal.builder.class; say which one",
            ),
            (
                resource(BROKER, "7", &[("background.threads", SET, Some("many"))]),
                ErrorCode::INVALID_REQUEST,
                "is no value for background.threads: a number from 1",
            ),
            (
                resource(BROKER, "", &[("background.threads", SET, Some("0"))]),
                ErrorCode::INVALID_REQUEST,
                "a number from 1",
            ),
            (resource(BROKER, "7", &[("background.threads", 2, one)]), ErrorCode::INVALID_CONFIG, "no list"),
            (resource(BROKER, "8", &[]), ErrorCode::INVALID_REQUEST, "another broker"),
            (resource(BROKER_LOGGER, "7", &[]), ErrorCode::INVALID_REQUEST, "telemetry.log"),
            (resource(CLIENT_METRICS, "m", &[]), ErrorCode::INVALID_REQUEST, "not collected"),
            (resource(GROUP, "g", &[]), ErrorCode::INVALID_REQUEST, "groups"),
            (resource(0, "a", &[]), ErrorCode::INVALID_REQUEST, "resource type 0"),
            (resource(-1, "a", &[]), ErrorCode::INVALID_REQUEST, "resource type -1"),
        ];
        for (resource, expected, text) in table {
            let body = World::with_topics(&["a"]).reply(1, &request([resource.clone()]));
            let response: IncrementalAlterConfigsResponse<'_> = decode(&body, 1);
            let result = &response.responses[0];
            assert_eq!(result.error_code, expected, "{resource:.50?}");
            let message = result.error_message.expect("a reason");
            assert!(message.contains(text) && message.len() <= 1024, "{message}");
        }
    }

    /// Kafka can change them while it runs; here they do nothing.
    #[test]
    fn what_a_broker_accepts_without_effect() {
        const SET: i8 = config_operation::SET;
        let accepted = [
            resource(
                BROKER,
                "7",
                &[
                    ("background.threads", SET, Some("3")),
                    ("log.cleaner.min.cleanable.ratio", SET, Some("0.1")),
                    ("metric.reporters", config_operation::APPEND, Some("a.B")),
                ],
            ),
            resource(BROKER, "", &[("background.threads", SET, Some("3"))]),
        ];
        let body = World::default().reply(1, &request(accepted));
        let response: IncrementalAlterConfigsResponse<'_> = decode(&body, 1);
        assert!(response.responses.iter().all(|one| one.error_code == ErrorCode::NONE), "{response:?}");
        // Nothing of a broker is set, so that it can be deleted.
        let nothing =
            [resource(BROKER, "7", &[("x", config_operation::DELETE, None)]), resource(BROKER, "", &[])];
        let body = World::default().reply(1, &request(nothing));
        let response: IncrementalAlterConfigsResponse<'_> = decode(&body, 1);
        assert!(response.responses.iter().all(|one| one.error_code == ErrorCode::NONE));
    }

    #[test]
    fn a_resource_that_is_named_twice_is_refused_each_time() {
        let resources = ["a", "b", "a"].map(|name| resource(TOPIC, name, &[]));
        let body =
            World::with_topics(&["a", "b"]).ask(1, &request(resources), |_, _| Answer::AlterConfigs(Ok(())));
        let response: IncrementalAlterConfigsResponse<'_> = decode(&body, 1);
        let results: Vec<_> =
            response.responses.iter().map(|one| (one.resource_name, one.error_code)).collect();
        let twice = ErrorCode::INVALID_REQUEST;
        assert_eq!(results, [("a", twice), ("b", ErrorCode::NONE), ("a", twice)]);
    }
}
