//! DescribeConfigs: the settings of topics and of the broker, with their origins.
//!
//! Tools copy what they read here into what they write, so that everything is listed, defaults included.

use std::collections::BTreeMap;

use super::Outcome;
use crate::kafka::context::Context;
use crate::kafka::handlers::offset_commit::METADATA_BYTES_MAX;
use crate::kafka::identity::Node;
use crate::kafka::protocol::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
    config_source, config_type, resource_type,
};
use crate::kafka::protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{Array, ErrorCode, Message};
use crate::metadata::topic::{Topic, validate_name};
use crate::metadata::topic_config::{ConfigKind, ConfigValue, Effect};

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: DescribeConfigsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let settings: BTreeMap<i32, Vec<BrokerSetting>> = request
        .resources
        .iter()
        .filter_map(|resource| match find(ctx, resource) {
            Ok(Found::Broker(node)) => Some((node.id, broker_settings(ctx, node))),
            _ => None,
        })
        .collect();
    let results = request.resources.iter().map(|resource| {
        let view = View {
            keys: resource.configuration_keys.as_deref().unwrap_or_default(),
            synonyms: request.include_synonyms,
            documentation: request.include_documentation,
        };
        let result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            ..Default::default()
        };
        match find(ctx, resource) {
            Ok(Found::Topic(topic)) => DescribeConfigsResult { configs: view.topic(topic), ..result },
            Ok(Found::Broker(node)) => {
                DescribeConfigsResult { configs: view.broker(&settings[&node.id]), ..result }
            }
            Ok(Found::AllBrokers) => result,
            Err((error_code, message)) => {
                DescribeConfigsResult { error_code, error_message: Some(message), ..result }
            }
        }
    });
    let response = DescribeConfigsResponse { results: results.collect(), ..Default::default() };
    response.encode(out, version);
    Outcome::Reply
}

enum Found<'a> {
    Topic(&'a Topic),
    /// This one, as it is known by this identity.
    Broker(Node<'a>),
    /// What was set for all brokers at run time: nothing can be.
    AllBrokers,
}

fn find<'a>(
    ctx: &Context<'a>,
    resource: &DescribeConfigsResource<'_>,
) -> Result<Found<'a>, (ErrorCode, &'static str)> {
    let name = resource.resource_name;
    match resource.resource_type {
        resource_type::TOPIC => match ctx.catalog.topic(name) {
            Some(topic) => Ok(Found::Topic(topic)),
            None if validate_name(name).is_err() => {
                Err((ErrorCode::INVALID_TOPIC_EXCEPTION, "no topic can have this name"))
            }
            None => Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such topic")),
        },
        resource_type::BROKER if name.is_empty() => Ok(Found::AllBrokers),
        resource_type::BROKER => match name.parse().ok().and_then(|id| ctx.broker.find(id)) {
            Some(node) => Ok(Found::Broker(node)),
            None => Err((ErrorCode::INVALID_REQUEST, "another broker than this is not known")),
        },
        _ => Err((ErrorCode::INVALID_REQUEST, "only topics and brokers have settings here")),
    }
}

/// What of each setting the client wants to see.
#[derive(Clone, Copy)]
struct View<'k> {
    /// Empty for all.
    keys: &'k [&'k str],
    synonyms: bool,
    documentation: bool,
}

impl View<'_> {
    fn wants(&self, name: &str) -> bool {
        self.keys.is_empty() || self.keys.contains(&name)
    }

    fn topic<'a>(&self, topic: &'a Topic) -> Array<DescribeConfigsResourceResult<'a>> {
        let wanted = topic.config.describe().filter(|config| self.wants(config.def.name));
        wanted.map(|config| self.topic_config(&config)).collect()
    }

    fn topic_config<'a>(&self, config: &ConfigValue<'a>) -> DescribeConfigsResourceResult<'a> {
        let def = config.def;
        let synonym = |value, source| DescribeConfigsSynonym { name: def.name, value: Some(value), source };
        let mut synonyms = Array::new();
        if self.synonyms && config.overridden {
            synonyms.push(synonym(config.value, config_source::DYNAMIC_TOPIC));
        }
        if self.synonyms {
            synonyms.push(synonym(def.default, config_source::DEFAULT));
        }
        DescribeConfigsResourceResult {
            name: def.name,
            value: Some(config.value),
            read_only: is_read_only(config),
            config_source: source_of(config),
            is_sensitive: false,
            synonyms,
            config_type: type_of(def.kind),
            documentation: self.documentation.then_some(def.doc),
        }
    }

    fn broker<'a>(&self, settings: &'a [BrokerSetting]) -> Array<DescribeConfigsResourceResult<'a>> {
        let wanted = settings.iter().filter(|setting| self.wants(setting.name));
        wanted.map(|setting| self.broker_setting(setting)).collect()
    }

    fn broker_setting<'a>(&self, setting: &'a BrokerSetting) -> DescribeConfigsResourceResult<'a> {
        let value = Some(setting.value.as_str());
        let source = config_source::STATIC_BROKER;
        let mut synonyms = Array::new();
        if self.synonyms {
            synonyms.push(DescribeConfigsSynonym { name: setting.name, value, source });
        }
        DescribeConfigsResourceResult {
            name: setting.name,
            value,
            read_only: true,
            config_source: source,
            is_sensitive: false,
            synonyms,
            config_type: setting.kind,
            documentation: self.documentation.then_some(setting.doc),
        }
    }
}

/// The source of a topic's config, as the protocol numbers it.
pub(super) fn source_of(config: &ConfigValue<'_>) -> i8 {
    if config.overridden { config_source::DYNAMIC_TOPIC } else { config_source::DEFAULT }
}

/// Whether only the default is accepted.
pub(super) fn is_read_only(config: &ConfigValue<'_>) -> bool {
    matches!(config.def.effect, Effect::Refused(_))
}

fn type_of(kind: ConfigKind) -> i8 {
    match kind {
        ConfigKind::Boolean => config_type::BOOLEAN,
        ConfigKind::Int { .. } => config_type::INT,
        ConfigKind::Long { .. } => config_type::LONG,
        ConfigKind::Ratio => config_type::DOUBLE,
        ConfigKind::Choice(_) => config_type::STRING,
        ConfigKind::List => config_type::LIST,
    }
}

/// A setting of the broker under the name that Kafka's tools know.
struct BrokerSetting {
    name: &'static str,
    value: String,
    /// One of [`config_type`].
    kind: i8,
    doc: &'static str,
}

/// What of Kafka's broker settings has a meaning here, by name. They come from the configuration file.
fn broker_settings(ctx: &Context<'_>, node: Node<'_>) -> Vec<BrokerSetting> {
    use config_type::{BOOLEAN, INT, LONG, STRING};
    let set = |name, kind, value: String, doc| BrokerSetting { name, value, kind, doc };
    let settings = ctx.settings;
    let listener = format!("PLAINTEXT://{}:{}", node.host, node.port);
    vec![
        set("advertised.listeners", STRING, listener, "Where clients reach this broker."),
        set(
            "auto.create.topics.enable",
            BOOLEAN,
            settings.auto_create_topics.to_string(),
            "Whether a topic that a client asks for comes into being.",
        ),
        set("broker.id", INT, node.id.to_string(), "The same as node.id."),
        set("default.replication.factor", INT, "1".into(), "There is one broker."),
        set("delete.topic.enable", BOOLEAN, "true".into(), "Topics can be deleted."),
        set("log.flush.interval.messages", LONG, "1".into(), "An acknowledged record is on stable storage."),
        set(
            "message.max.bytes",
            INT,
            settings.message_bytes_max.to_string(),
            "Largest record batch that a topic may allow.",
        ),
        set("min.insync.replicas", INT, "1".into(), "There is one replica of each partition."),
        set("node.id", INT, node.id.to_string(), "The number of this broker."),
        set(
            "num.partitions",
            INT,
            settings.num_partitions.to_string(),
            "Partitions of a topic whose creator does not say.",
        ),
        set(
            "offset.metadata.max.bytes",
            INT,
            METADATA_BYTES_MAX.to_string(),
            "Longest text that a client can leave with a committed offset.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};
    use crate::metadata::topic_config::CONFIGS;

    fn resource<'a>(
        resource_type: i8,
        name: &'a str,
        keys: Option<&[&'a str]>,
    ) -> DescribeConfigsResource<'a> {
        DescribeConfigsResource {
            resource_type,
            resource_name: name,
            configuration_keys: keys.map(|keys| keys.iter().copied().collect()),
        }
    }

    fn request<'a>(resources: &[DescribeConfigsResource<'a>]) -> DescribeConfigsRequest<'a> {
        DescribeConfigsRequest { resources: resources.iter().cloned().collect(), ..Default::default() }
    }

    #[test]
    fn every_config_of_a_topic() {
        let world = World::default();
        world.create("a", &[("retention.ms", "604800000")]);
        for keys in [None, Some(&[][..])] {
            let request = DescribeConfigsRequest {
                include_synonyms: true,
                include_documentation: true,
                ..request(&[resource(resource_type::TOPIC, "a", keys)])
            };
            let body = world.reply(4, &request);
            let response: DescribeConfigsResponse<'_> = decode(&body, 4);
            let configs = &response.results[0].configs;
            assert_eq!(configs.len(), CONFIGS.len());
            assert!(configs.iter().all(|config| config.value.is_some()
                && config.config_type != config_type::UNKNOWN
                && config.documentation.is_some()));
            let find = |name| configs.iter().find(|config| config.name == name).expect("listed");
            // Set to the default's value is still set.
            let retention = find("retention.ms");
            assert_eq!(
                (retention.config_source, retention.config_type),
                (config_source::DYNAMIC_TOPIC, config_type::LONG)
            );
            let sources: Vec<_> = retention.synonyms.iter().map(|synonym| synonym.source).collect();
            assert_eq!(sources, [config_source::DYNAMIC_TOPIC, config_source::DEFAULT]);
            let policy = find("cleanup.policy");
            assert_eq!((policy.config_source, policy.read_only), (config_source::DEFAULT, true));
            assert_eq!(policy.synonyms.len(), 1);
        }
    }

    #[test]
    fn keys_filter_and_extras_are_left_out() {
        let world = World::with_topics(&["a"]);
        for version in 1..=4 {
            let keys = ["retention.ms", "no.such", ""];
            let body = world.reply(version, &request(&[resource(resource_type::TOPIC, "a", Some(&keys))]));
            let response: DescribeConfigsResponse<'_> = decode(&body, version);
            let [config] = response.results[0].configs.as_slice() else { panic!("one is known") };
            assert_eq!((config.name, config.value), ("retention.ms", Some("604800000")));
            assert_eq!((config.synonyms.len(), config.documentation), (0, None));
        }
    }

    #[test]
    fn the_broker() {
        let body = World::default().reply(4, &request(&[resource(resource_type::BROKER, "7", None)]));
        let response: DescribeConfigsResponse<'_> = decode(&body, 4);
        let configs = &response.results[0].configs;
        assert!(configs.is_sorted_by_key(|config| config.name));
        assert!(configs.iter().all(|config| config.read_only));
        let value = |name| configs.iter().find(|config| config.name == name).and_then(|config| config.value);
        assert_eq!(value("num.partitions"), Some("4"));
        assert_eq!(value("node.id"), Some("7"));
        assert_eq!(value("auto.create.topics.enable"), Some("true"));
    }

    #[test]
    fn each_identity_says_who_it_is() {
        let resources = ["101", "102", "7"].map(|id| resource(resource_type::BROKER, id, None));
        let body = World::default().advertise_logs().reply(4, &request(&resources));
        let response: DescribeConfigsResponse<'_> = decode(&body, 4);
        let listeners =
            ["PLAINTEXT://broker.test:9201", "PLAINTEXT://broker.test:9202", "PLAINTEXT://broker.test:9092"];
        for ((id, listener), result) in ["101", "102", "7"].iter().zip(listeners).zip(&response.results) {
            let value = |name| {
                result.configs.iter().find(|config| config.name == name).and_then(|config| config.value)
            };
            assert_eq!(value("node.id"), Some(*id));
            assert_eq!(value("advertised.listeners"), Some(listener));
        }
    }

    #[test]
    fn what_has_no_configs() {
        let longest = "x".repeat(i16::MAX as usize);
        let table = [
            (resource_type::BROKER, "", ErrorCode::NONE),
            (resource_type::BROKER, "8", ErrorCode::INVALID_REQUEST),
            (resource_type::BROKER, "seven", ErrorCode::INVALID_REQUEST),
            (resource_type::BROKER, "99999999999", ErrorCode::INVALID_REQUEST),
            (resource_type::TOPIC, "z", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (resource_type::TOPIC, "", ErrorCode::INVALID_TOPIC_EXCEPTION),
            (resource_type::TOPIC, &longest, ErrorCode::INVALID_TOPIC_EXCEPTION),
            (resource_type::BROKER_LOGGER, "7", ErrorCode::INVALID_REQUEST),
            (resource_type::GROUP, "g", ErrorCode::INVALID_REQUEST),
            (0, "a", ErrorCode::INVALID_REQUEST),
            (-1, "a", ErrorCode::INVALID_REQUEST),
        ];
        let resources = table.map(|(kind, name, _)| resource(kind, name, None));
        let body = World::with_topics(&["a"]).reply(4, &request(&resources));
        let response: DescribeConfigsResponse<'_> = decode(&body, 4);
        assert_eq!(response.results.len(), table.len());
        for (result, (kind, name, error_code)) in response.results.iter().zip(table) {
            assert_eq!((result.resource_type, result.resource_name), (kind, name));
            assert_eq!(result.error_code, error_code, "{kind} {name:.20}");
            assert_eq!(result.error_message.is_some(), error_code.is_error());
            assert!(result.configs.is_empty());
        }
    }
}
