//! DescribeConfigs: the settings of topics and of the broker, with their origins.
//!
//! Tools copy what they read here into what they write, so that everything is listed, defaults included.
//!
//! A resource is answered as often as it is named, as in Kafka: each time it may be for other configs. From
//! the first on that the answer has no room for, they are refused.

use std::collections::{BTreeMap, BTreeSet};

use super::Outcome;
use super::config_value::{BrokerValue, fallback, holds, is_read_only, type_of};
use crate::kafka::broker_configs::IDLE;
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::identity::Node;
use crate::kafka::protocol::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
    config_source, config_type, resource_type,
};
use crate::kafka::protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{Array, ErrorCode, Message};
use crate::kafka::settings::BrokerConfig;
use crate::metadata::topic::{Topic, validate_name};
use crate::metadata::topic_config::ConfigValue;

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: DescribeConfigsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let identities: BTreeMap<i32, [BrokerConfig; 3]> = request
        .resources
        .iter()
        .filter_map(|resource| match find(ctx, resource) {
            Ok(Found::Broker(node)) => Some((node.id, identity(node))),
            _ => None,
        })
        .collect();
    let (mut room, mut full) = (ctx.answer_room, false);
    let results = request.resources.iter().map(|resource| {
        // A set: there may be millions, most of them twice, and each of hundreds of configs is looked for in them.
        let mut keys = BTreeSet::new();
        keys.extend(resource.configuration_keys.iter().flat_map(|keys| keys.iter().copied()));
        let view = View {
            ctx,
            keys: &keys,
            synonyms: request.include_synonyms,
            documentation: request.include_documentation,
        };
        let result = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            ..Default::default()
        };
        let configs = match find(ctx, resource) {
            Ok(Found::AllBrokers) => Ok(Array::new()),
            // Not even looked at: that takes its time.
            Ok(_) if full => Err(errors::NO_ROOM),
            Ok(Found::Topic(topic)) => Ok(view.topic(topic)),
            Ok(Found::Broker(node)) => Ok(view.broker(&identities[&node.id])),
            Err(refused) => Err(refused),
        };
        let configs = configs.and_then(|configs| {
            full = full || !room.take(bytes_of(&configs));
            if full && !configs.is_empty() { Err(errors::NO_ROOM) } else { Ok(configs) }
        });
        match configs {
            Ok(configs) => DescribeConfigsResult { configs, ..result },
            Err((error_code, message)) => {
                DescribeConfigsResult { error_code, error_message: Some(message), ..result }
            }
        }
    });
    let response = DescribeConfigsResponse { results: results.collect(), ..Default::default() };
    response.encode(out, version);
    Outcome::Reply
}

/// What they hold in memory and, which is less, in the response.
fn bytes_of(configs: &[DescribeConfigsResourceResult<'_>]) -> usize {
    let text = |text: Option<&str>| text.map_or(0, str::len);
    let synonym = |one: &DescribeConfigsSynonym<'_>| size_of_val(one) + one.name.len() + text(one.value);
    let config = |one: &DescribeConfigsResourceResult<'_>| {
        let texts = one.name.len() + text(one.value) + text(one.documentation);
        size_of_val(one) + texts + one.synonyms.iter().map(synonym).sum::<usize>()
    };
    configs.iter().map(config).sum()
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
        resource_type::BROKER => match broker_named(ctx, name) {
            Some(node) => Ok(Found::Broker(node)),
            None => Err((ErrorCode::INVALID_REQUEST, "another broker than this is not known")),
        },
        _ => Err((ErrorCode::INVALID_REQUEST, "only topics and brokers have settings here")),
    }
}

/// This broker, if the name of a resource is one of its numbers.
pub(super) fn broker_named<'a>(ctx: &Context<'a>, name: &str) -> Option<Node<'a>> {
    name.parse().ok().and_then(|id| ctx.broker.find(id))
}

/// What of each setting the client wants to see.
#[derive(Clone, Copy)]
struct View<'c, 'k> {
    ctx: &'k Context<'c>,
    /// Empty for all.
    keys: &'k BTreeSet<&'k str>,
    synonyms: bool,
    documentation: bool,
}

impl<'c> View<'c, '_> {
    fn wants(&self, name: &str) -> bool {
        self.keys.is_empty() || self.keys.contains(name)
    }

    fn topic(&self, topic: &'c Topic) -> Array<DescribeConfigsResourceResult<'c>> {
        let wanted = topic.config.describe().filter(|config| self.wants(config.def.name));
        wanted.map(|config| self.topic_config(&config)).collect()
    }

    fn topic_config(&self, config: &ConfigValue<'c>) -> DescribeConfigsResourceResult<'c> {
        let def = config.def;
        let from_broker = fallback(self.ctx, def);
        let (value, config_source) = holds(config, from_broker);
        let mut synonyms = Array::new();
        if self.synonyms {
            if config.overridden {
                let (value, source) = (Some(config.value), config_source::DYNAMIC_TOPIC);
                synonyms.push(DescribeConfigsSynonym { name: def.name, value, source });
            }
            synonyms.extend(from_broker.iter().flat_map(BrokerValue::synonyms));
        }
        // The broker's may be larger than a topic may ask for.
        let of_broker = from_broker.filter(|_| !config.overridden).map(|broker| broker.kind);
        DescribeConfigsResourceResult {
            name: def.name,
            value: Some(value),
            read_only: is_read_only(config),
            config_source,
            is_sensitive: false,
            synonyms,
            config_type: of_broker.unwrap_or(type_of(def.kind)),
            documentation: self.documentation.then_some(def.doc),
        }
    }

    fn broker<'a>(&self, identity: &'a [BrokerConfig]) -> Array<DescribeConfigsResourceResult<'a>>
    where
        'c: 'a,
    {
        let settings: &'c [BrokerConfig] = &self.ctx.settings.described;
        let here = identity.iter().chain(settings).map(BrokerValue::from);
        let all = here.chain(IDLE.iter().map(BrokerValue::from));
        let mut wanted: Array<DescribeConfigsResourceResult<'a>> =
            all.filter(|config| self.wants(config.name)).map(|config| self.broker_config(&config)).collect();
        wanted.sort_unstable_by_key(|config| config.name);
        wanted
    }

    fn broker_config<'a>(&self, config: &BrokerValue<'a>) -> DescribeConfigsResourceResult<'a> {
        let is_sensitive = config.kind == config_type::PASSWORD;
        DescribeConfigsResourceResult {
            name: config.name,
            value: config.value.filter(|_| !is_sensitive),
            read_only: config.read_only,
            config_source: config.source(),
            is_sensitive,
            synonyms: if self.synonyms { config.synonyms().collect() } else { Array::new() },
            config_type: config.kind,
            documentation: self.documentation.then_some(config.doc),
        }
    }
}

/// The settings that say which broker this is.
fn identity(node: Node<'_>) -> [BrokerConfig; 3] {
    let set = |name, kind, value: String, default: Option<&str>, doc| BrokerConfig {
        name,
        kind,
        value: Some(value),
        default: default.map(str::to_owned),
        deputy: None,
        is_set: true,
        doc,
    };
    let listener = format!("PLAINTEXT://{}:{}", node.host, node.port);
    [
        set("advertised.listeners", config_type::STRING, listener, None, "Where clients reach this broker."),
        set("broker.id", config_type::INT, node.id.to_string(), Some("1"), "The same as node.id."),
        set("node.id", config_type::INT, node.id.to_string(), Some("1"), "The number of this broker."),
    ]
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::kafka::broker_configs::Update;
    use crate::kafka::handlers::testing::{World, decode};
    use crate::metadata::config_def::{CONFIGS, NO_EFFECT};

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
            assert!(configs.is_sorted_by_key(|config| config.name));
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
            assert_eq!(sources, [config_source::DYNAMIC_TOPIC], "the broker was not told how long");
            let policy = find("cleanup.policy");
            assert_eq!((policy.config_source, policy.read_only), (config_source::DEFAULT, true));
            assert_eq!(policy.synonyms[0].name, "log.cleanup.policy");
        }
    }

    /// Tools print it, and look for how it begins.
    #[test]
    fn what_is_said_of_configs_without_effect() {
        let request = DescribeConfigsRequest {
            include_documentation: true,
            ..request(&[resource(resource_type::TOPIC, "a", None)])
        };
        let body = World::with_topics(&["a"]).reply(4, &request);
        let response: DescribeConfigsResponse<'_> = decode(&body, 4);
        let told = response.results[0].configs.iter().map(|config| (config.name, config.documentation));
        let idle = told.filter_map(|(name, doc)| Some((name, doc.filter(|doc| doc.starts_with(NO_EFFECT))?)));
        let lines: String = idle.map(|(name, doc)| format!("{name}: {doc}\n")).collect();
        expect![[r#"
            compression.gzip.level: Has no effect here. Level of recompression with gzip.
            compression.lz4.level: Has no effect here. Level of recompression with lz4.
            compression.zstd.level: Has no effect here. Level of recompression with zstd.
            delete.retention.ms: Has no effect here. How long compaction keeps deletions.
            file.delete.delay.ms: Has no effect here. Space is recycled, not deleted.
            follower.replication.throttled.replicas: Has no effect here. There are no followers.
            index.interval.bytes: Has no effect here. Every batch is indexed.
            leader.replication.throttled.replicas: Has no effect here. There are no followers.
            local.retention.bytes: Has no effect here. All storage is local.
            local.retention.ms: Has no effect here. All storage is local.
            max.compaction.lag.ms: Has no effect here. How long a record may stay uncompacted.
            min.cleanable.dirty.ratio: Has no effect here. When compaction starts.
            min.compaction.lag.ms: Has no effect here. How long a record stays uncompacted.
            preallocate: Has no effect here. The log is always written before it is used.
            remote.log.copy.disable: Has no effect here. There is no remote storage.
            remote.log.delete.on.disable: Has no effect here. There is no remote storage.
            segment.bytes: Has no effect here. Partitions share the log's segments.
            segment.index.bytes: Has no effect here. Partitions have no index files.
            segment.jitter.ms: Has no effect here. Partitions share the log's segments.
            segment.ms: Has no effect here. Partitions share the log's segments.
            unclean.leader.election.enable: Has no effect here. There is one replica.
        "#]]
        .assert_eq(&lines);
    }

    #[test]
    fn what_the_answer_has_no_room_for_is_refused() {
        let mut world = World::default();
        let long = ["0:1"; 8_000].join(",");
        world.create("a", &[("leader.replication.throttled.replicas", &long)]);
        world.answer_bytes = 10 * long.len();
        let resources = vec![resource(resource_type::TOPIC, "a", None); 1_000];
        for version in 1..=4 {
            let body = world.reply(version, &request(&resources));
            assert!(body.len() < world.answer_bytes + 1_000 * 150, "{} bytes", body.len());
            let response: DescribeConfigsResponse<'_> = decode(&body, version);
            assert_eq!(response.results.len(), 1_000);
            let (told, refused) = response
                .results
                .split_at(response.results.partition_point(|result| !result.error_code.is_error()));
            assert!((2..10).contains(&told.len()), "{}", told.len());
            assert!(told.iter().all(|result| result.configs.len() == CONFIGS.len()));
            assert!(
                refused
                    .iter()
                    .all(|result| result.error_code == ErrorCode::POLICY_VIOLATION
                        && result.configs.is_empty())
            );
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
    fn a_topic_that_says_nothing_has_what_the_broker_says() {
        let keys = [
            "flush.ms",
            "index.interval.bytes",
            "max.message.bytes",
            "preallocate",
            "remote.storage.enable",
            "retention.ms",
            "segment.bytes",
            "segment.ms",
        ];
        let mut world = World::default();
        world.create("a", &[("max.message.bytes", "5000"), ("preallocate", "true"), ("retention.ms", "7")]);
        world.create("b", &[]);
        let mut told = String::new();
        let mut describe = |world: &World, topic: &str| {
            let resource = resource(resource_type::TOPIC, topic, Some(&keys));
            let request = DescribeConfigsRequest { include_synonyms: true, ..request(&[resource]) };
            let body = world.reply(4, &request);
            let response: DescribeConfigsResponse<'_> = decode(&body, 4);
            told.push_str(&format!("of {topic}\n"));
            for config in &response.results[0].configs {
                let (name, value) = (config.name, config.value.expect("a value"));
                let synonyms: Vec<_> = config.synonyms.iter().map(in_words).collect();
                assert_eq!(
                    config.config_source,
                    config.synonyms.first().map_or(config_source::DEFAULT, |one| one.source)
                );
                told.push_str(&format!("  {name}={value} [{}]\n", synonyms.join(" ")));
            }
        };
        describe(&world, "a");
        describe(&world, "b");
        let set = |config: &BrokerConfig| match config.name {
            "log.retention.ms" => {
                BrokerConfig { value: Some("60000".into()), is_set: true, ..config.clone() }
            }
            "log.segment.bytes" => BrokerConfig {
                value: Some("4294967296".into()),
                kind: config_type::LONG,
                is_set: true,
                ..config.clone()
            },
            _ => config.clone(),
        };
        world.settings.described = world.settings.described.iter().map(set).collect();
        describe(&world, "a");
        describe(&world, "b");
        expect![[r#"
            of a
              flush.ms=0 []
              index.interval.bytes=4096 [default:log.index.interval.bytes=4096]
              max.message.bytes=5000 [topic:max.message.bytes=5000 broker:message.max.bytes=2000000 default:message.max.bytes=1048588]
              preallocate=true [topic:preallocate=true default:log.preallocate=false]
              remote.storage.enable=false []
              retention.ms=7 [topic:retention.ms=7]
              segment.bytes=268435456 [default:log.segment.bytes=268435456]
              segment.ms=604800000 []
            of b
              flush.ms=0 []
              index.interval.bytes=4096 [default:log.index.interval.bytes=4096]
              max.message.bytes=2000000 [broker:message.max.bytes=2000000 default:message.max.bytes=1048588]
              preallocate=false [default:log.preallocate=false]
              remote.storage.enable=false []
              retention.ms=604800000 []
              segment.bytes=268435456 [default:log.segment.bytes=268435456]
              segment.ms=604800000 []
            of a
              flush.ms=0 []
              index.interval.bytes=4096 [default:log.index.interval.bytes=4096]
              max.message.bytes=5000 [topic:max.message.bytes=5000 broker:message.max.bytes=2000000 default:message.max.bytes=1048588]
              preallocate=true [topic:preallocate=true default:log.preallocate=false]
              remote.storage.enable=false []
              retention.ms=7 [topic:retention.ms=7 broker:log.retention.ms=60000 default:log.retention.hours=168]
              segment.bytes=4294967296 [broker:log.segment.bytes=4294967296 default:log.segment.bytes=268435456]
              segment.ms=604800000 []
            of b
              flush.ms=0 []
              index.interval.bytes=4096 [default:log.index.interval.bytes=4096]
              max.message.bytes=2000000 [broker:message.max.bytes=2000000 default:message.max.bytes=1048588]
              preallocate=false [default:log.preallocate=false]
              remote.storage.enable=false []
              retention.ms=60000 [broker:log.retention.ms=60000 default:log.retention.hours=168]
              segment.bytes=4294967296 [broker:log.segment.bytes=4294967296 default:log.segment.bytes=268435456]
              segment.ms=604800000 []
        "#]]
        .assert_eq(&told);
    }

    fn in_words(synonym: &DescribeConfigsSynonym<'_>) -> String {
        let source = match synonym.source {
            config_source::DYNAMIC_TOPIC => "topic",
            config_source::STATIC_BROKER => "broker",
            config_source::DEFAULT => "default",
            other => panic!("source {other}"),
        };
        format!("{source}:{}={}", synonym.name, synonym.value.expect("a value"))
    }

    #[test]
    fn the_broker() {
        let request = DescribeConfigsRequest {
            include_synonyms: true,
            include_documentation: true,
            ..request(&[resource(resource_type::BROKER, "7", None)])
        };
        let body = World::default().reply(4, &request);
        let response: DescribeConfigsResponse<'_> = decode(&body, 4);
        let configs = &response.results[0].configs;
        assert!(configs.is_sorted_by(|a, b| a.name < b.name));
        // Three say which broker it is, seven are what it says of itself in tests.
        assert_eq!(configs.len(), IDLE.len() + 10);
        for config in configs {
            assert_ne!(config.config_type, config_type::UNKNOWN, "{}", config.name);
            assert!(config.documentation.is_some_and(|doc| doc.ends_with('.')), "{}", config.name);
            assert_eq!(config.synonyms.is_empty(), config.value.is_none(), "{}", config.name);
            let idle = IDLE.iter().find(|idle| idle.name == config.name);
            let may_be_set = idle.is_some_and(|idle| matches!(idle.update, Update::Cluster | Update::Broker));
            assert_eq!(config.read_only, !may_be_set, "{}", config.name);
            assert_eq!(config.is_sensitive, config.config_type == config_type::PASSWORD, "{}", config.name);
        }
        let value = |name| configs.iter().find(|config| config.name == name).and_then(|config| config.value);
        assert_eq!(value("num.partitions"), Some("4"));
        assert_eq!(value("node.id"), Some("7"));
        assert_eq!(value("auto.create.topics.enable"), Some("true"));
        assert_eq!((value("background.threads"), value("broker.rack")), (Some("10"), None));
    }

    /// As in Kafka, what there is not is left out.
    #[test]
    fn configs_of_the_broker_by_name() {
        let keys = ["num.partitions", "no.such", "background.threads", ""];
        let body = World::default().reply(4, &request(&[resource(resource_type::BROKER, "7", Some(&keys))]));
        let response: DescribeConfigsResponse<'_> = decode(&body, 4);
        let names: Vec<_> = response.results[0].configs.iter().map(|config| config.name).collect();
        assert_eq!(names, ["background.threads", "num.partitions"]);
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
