//! AlterConfigs: says all configs of a resource; those that it leaves out go back to their defaults.

use super::Outcome;
use super::config_changes::{Resource, Results, alter, check_names, value_of};
use super::replies::Refusal;
use crate::kafka::context::Context;
use crate::kafka::protocol::Message;
use crate::kafka::protocol::messages::alter_configs::AlterConfigsResource;
use crate::kafka::protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::shard::call::ConfigChanges;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: AlterConfigsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let resources = request.resources.iter().map(|resource| Resource {
        resource_type: resource.resource_type,
        name: resource.resource_name,
        changes: read(resource),
    });
    let respond = |responses: Results<'_>, out: &mut Writer<'_>, version| {
        AlterConfigsResponse { responses, ..Default::default() }.encode(out, version);
    };
    alter(ctx, version, resources.collect(), request.validate_only, respond, out)
}

fn read(resource: &AlterConfigsResource<'_>) -> Result<ConfigChanges, Refusal> {
    check_names(resource.configs.iter().map(|config| config.name))?;
    let pairs = resource.configs.iter();
    let pairs = pairs.map(|config| Ok((config.name.to_owned(), value_of(config.name, config.value)?)));
    pairs.collect::<Result<_, _>>().map(ConfigChanges::Replace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode, topic_id};
    use crate::kafka::protocol::ErrorCode;
    use crate::kafka::protocol::messages::alter_configs::AlterableConfig;
    use crate::kafka::protocol::messages::describe_configs::resource_type::{BROKER, TOPIC};
    use crate::model::LogId;
    use crate::shard::call::{AdminCall, AdminError, Answer, Call};

    fn resource<'a>(
        resource_type: i8,
        resource_name: &'a str,
        configs: &[(&'a str, Option<&'a str>)],
    ) -> AlterConfigsResource<'a> {
        let configs = configs.iter().map(|(name, value)| AlterableConfig { name, value: *value }).collect();
        AlterConfigsResource { resource_type, resource_name, configs }
    }

    #[test]
    fn a_topic_gets_these_configs_and_no_others() {
        let resources = [
            resource(TOPIC, "a", &[("retention.ms", Some("5")), ("cleanup.policy", Some("delete"))]),
            resource(TOPIC, "b", &[]),
            resource(TOPIC, "c", &[("retention.ms", Some("soon"))]),
        ];
        for (version, validate_only) in [(0, false), (1, true), (2, false)] {
            let request =
                AlterConfigsRequest { resources: resources.iter().cloned().collect(), validate_only };
            let mut asked = Vec::new();
            let body = World::with_topics(&["a", "b", "c"]).ask(version, &request, |log, call| {
                assert_eq!(log, LogId::METADATA);
                let Call::Admin(AdminCall::AlterConfigs { topic, changes, validate_only: only }) = call
                else {
                    panic!("{call:?}")
                };
                assert_eq!(only, validate_only);
                asked.push((topic, changes));
                Answer::AlterConfigs(match topic {
                    topic if topic == topic_id("c") => Err(AdminError::InvalidConfig("no number".into())),
                    _ => Ok(()),
                })
            });
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let expected = [
                (topic_id("a"), vec![pair("retention.ms", "5"), pair("cleanup.policy", "delete")]),
                (topic_id("b"), vec![]),
                (topic_id("c"), vec![pair("retention.ms", "soon")]),
            ];
            assert_eq!(asked, expected.map(|(topic, pairs)| (topic, ConfigChanges::Replace(pairs))));
            let response: AlterConfigsResponse<'_> = decode(&body, version);
            let results: Vec<_> =
                response.responses.iter().map(|one| (one.resource_name, one.error_code)).collect();
            let invalid = ErrorCode::INVALID_CONFIG;
            assert_eq!(results, [("a", ErrorCode::NONE), ("b", ErrorCode::NONE), ("c", invalid)]);
            assert_eq!(response.responses[2].error_message, Some("no number"));
        }
    }

    #[test]
    fn what_is_refused_at_once() {
        let value = Some("1");
        let table = [
            (resource(TOPIC, "a", &[("x", None)]), ErrorCode::INVALID_REQUEST),
            (resource(TOPIC, "a", &[("x", value), ("x", value)]), ErrorCode::INVALID_REQUEST),
            (resource(TOPIC, "z", &[]), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (resource(BROKER, "7", &[("num.partitions", value)]), ErrorCode::INVALID_REQUEST),
            (resource(BROKER, "7", &[("background.threads", Some("0"))]), ErrorCode::INVALID_REQUEST),
            (resource(BROKER, "7", &[("background.threads", value)]), ErrorCode::NONE),
            (resource(BROKER, "7", &[]), ErrorCode::NONE),
        ];
        for (resource, expected) in table {
            let request = AlterConfigsRequest { resources: [resource.clone()].into(), validate_only: false };
            let body = World::with_topics(&["a"]).reply(2, &request);
            let response: AlterConfigsResponse<'_> = decode(&body, 2);
            assert_eq!(response.responses[0].error_code, expected, "{resource:?}");
        }
    }
}
