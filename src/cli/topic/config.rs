//! `ringmq topic config`: what is configured of a topic, and changes of it.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use crate::cli::client::{check, only};
use crate::cli::cluster::Cluster;
use crate::cli::output::{Output, did_you_mean, known, output, table};
use crate::kafka::protocol::Array;
use crate::kafka::protocol::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, config_source, resource_type,
};
use crate::kafka::protocol::messages::incremental_alter_configs::{
    IncrementalAlterConfigsResource, IncrementalAlterableConfig, config_operation,
};
use crate::kafka::protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use crate::metadata::config_def::NO_EFFECT;

/// Show what is configured of a topic, or change it
///
/// Without --set and --delete, prints every config with its value and where that comes from: `topic` was set for this
/// topic, `static-broker` comes from the broker's configuration, `default` is nobody's wish. Changes work at once;
/// what they do not name stays as it is. What is set without effect is said to be so.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    name: String,
    #[command(flatten)]
    changes: Changes,
    /// Only say whether it could be changed so
    #[arg(long, requires = "changes")]
    dry_run: bool,
}

// A doc comment here would become the command's.
#[derive(Debug, Args)]
#[group(id = "changes", multiple = true)]
struct Changes {
    /// Give a config a value for this topic; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = super::parse_pair)]
    set: Vec<(String, String)>,
    /// Take a config back to what the broker says; may be repeated
    #[arg(long, value_name = "KEY")]
    delete: Vec<String>,
}

impl Changes {
    fn are_seen(&self, configs: &[ConfigLine]) -> bool {
        let find = |name: &String| configs.iter().find(|config| config.name == *name);
        // A broker repeats a list without its spaces, and a secret not at all.
        let plain = |value: &str| value.replace(' ', "").to_lowercase();
        // And a number as it writes it.
        let number = |value: &str| value.trim().parse::<f64>().ok();
        let same = |told: &str, value: &str| {
            plain(told) == plain(value) || number(told).is_some_and(|told| number(value) == Some(told))
        };
        let is_set = |(name, value): &(String, String)| {
            find(name).is_none_or(|config| {
                !config.is_default && config.value.as_ref().is_none_or(|told| same(told, value))
            })
        };
        let is_deleted = |name: &String| find(name).is_none_or(|config| config.is_default);
        self.set.iter().all(is_set) && self.delete.iter().all(is_deleted)
    }
}

/// Does what is asked for and returns what is to be printed.
pub fn run(cluster: &mut Cluster, args: &ConfigArgs, json: bool) -> anyhow::Result<String> {
    let topic = cluster.topic(&args.name)?;
    if args.changes.set.is_empty() && args.changes.delete.is_empty() {
        return output(json, &ConfigList(configs(cluster, &topic.name)?));
    }
    output(json, &change(cluster, args)?)
}

#[derive(Serialize)]
pub struct ConfigLine {
    name: String,
    /// Null where it is kept secret.
    value: Option<String>,
    source: &'static str,
    /// Nothing was set for this topic.
    pub is_default: bool,
    read_only: bool,
}

/// A table of configs.
pub fn configs_text(configs: &[ConfigLine]) -> String {
    let row = |line: &ConfigLine| [line.name.clone(), known(line.value.as_ref()), line.source.to_owned()];
    table(["CONFIG", "VALUE", "SOURCE"], configs.iter().map(row))
}

#[derive(Serialize)]
#[serde(transparent)]
struct ConfigList(Vec<ConfigLine>);

impl Output for ConfigList {
    fn text(&self) -> String {
        configs_text(&self.0)
    }
}

/// All configs of a topic, in the broker's order.
pub fn configs(cluster: &mut Cluster, topic: &str) -> anyhow::Result<Vec<ConfigLine>> {
    described(cluster, topic, |config| ConfigLine {
        name: config.name.to_owned(),
        value: config.value.map(str::to_owned),
        source: source_name(config.config_source),
        is_default: config.config_source != config_source::DYNAMIC_TOPIC,
        read_only: config.read_only,
    })
}

/// What `read` makes of each config that the broker knows.
fn described<T>(
    cluster: &mut Cluster,
    topic: &str,
    read: impl Fn(&DescribeConfigsResourceResult<'_>) -> T,
) -> anyhow::Result<Vec<T>> {
    let resource = DescribeConfigsResource {
        resource_type: resource_type::TOPIC,
        resource_name: topic,
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: Array::from_elem(resource, 1),
        include_documentation: true,
        ..Default::default()
    };
    let response: DescribeConfigsResponse<'_> = cluster.any().ask(&request)?;
    let result = only(&response.results, "the configs")?;
    check(result.error_code, result.error_message).with_context(|| format!("configs of topic {topic:?}"))?;
    Ok(result.configs.iter().map(read).collect())
}

/// Name and documentation of each config.
fn documentation(cluster: &mut Cluster, topic: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let told = described(cluster, topic, |config| {
        (config.name.to_owned(), config.documentation.unwrap_or_default().to_owned())
    })?;
    Ok(told.into_iter().collect())
}

/// Taking back what cannot be set is no error to a broker, so that a slip of the pen would seem to have worked; and
/// not every broker says what was meant by a name that it does not know.
fn refuse_unknown(known: &BTreeMap<String, String>, Changes { set, delete }: &Changes) -> anyhow::Result<()> {
    let mut names = delete.iter().chain(set.iter().map(|(name, _)| name));
    if let Some(name) = names.find(|name| !known.contains_key(*name)) {
        let nearest = did_you_mean(name, known.keys().map(String::as_str));
        bail!("nothing was changed: there is no topic config {name:?}{nearest}");
    }
    Ok(())
}

fn source_name(source: i8) -> &'static str {
    match source {
        config_source::DYNAMIC_TOPIC => "topic",
        config_source::DYNAMIC_BROKER => "dynamic-broker",
        config_source::DYNAMIC_DEFAULT_BROKER => "dynamic-default-broker",
        config_source::STATIC_BROKER => "static-broker",
        config_source::DEFAULT => "default",
        _ => "unknown",
    }
}

#[derive(Serialize)]
struct Changed {
    name: String,
    set: BTreeMap<String, String>,
    deleted: Vec<String>,
    /// `changed` or `valid`.
    result: &'static str,
    /// Of what was set, that which does nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

impl Output for Changed {
    fn text(&self) -> String {
        let notes = self.notes.iter().map(|note| format!("{note}\n"));
        if self.result == "valid" {
            return format!("{} could be changed so\n{}", self.name, notes.collect::<String>());
        }
        let set = self.set.iter().map(|(name, value)| format!("{name} is {value}\n"));
        let deleted = self.deleted.iter().map(|name| format!("{name} is what the broker says\n"));
        set.chain(deleted).chain(notes).collect()
    }
}

fn change(cluster: &mut Cluster, args: &ConfigArgs) -> anyhow::Result<Changed> {
    let Changes { set, delete } = &args.changes;
    let known = documentation(cluster, &args.name)?;
    refuse_unknown(&known, &args.changes)?;
    let to_set = set.iter().map(|(name, value)| IncrementalAlterableConfig {
        name,
        config_operation: config_operation::SET,
        value: Some(value),
    });
    let to_delete = delete.iter().map(|name| IncrementalAlterableConfig {
        name,
        config_operation: config_operation::DELETE,
        value: None,
    });
    let resource = IncrementalAlterConfigsResource {
        resource_type: resource_type::TOPIC,
        resource_name: &args.name,
        configs: to_set.chain(to_delete).collect(),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: Array::from_elem(resource, 1),
        validate_only: args.dry_run,
    };
    let response: IncrementalAlterConfigsResponse<'_> = cluster.any().ask(&request)?;
    let result = only(&response.responses, "the topic")?;
    check(result.error_code, result.error_message)
        .with_context(|| format!("change configs of topic {:?}", args.name))?;
    drop(response);
    if !args.dry_run {
        cluster.await_seen(|cluster| Ok(args.changes.are_seen(&configs(cluster, &args.name)?)));
    }
    let idle = set.iter().filter_map(|(name, _)| {
        known.get(name).filter(|doc| doc.starts_with(NO_EFFECT)).map(|doc| format!("{name}: {doc}"))
    });
    Ok(Changed {
        name: args.name.clone(),
        set: set.iter().cloned().collect(),
        deleted: delete.clone(),
        result: if args.dry_run { "valid" } else { "changed" },
        notes: idle.collect(),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::cli::topic::testing::Broker;

    #[test]
    fn changes_are_seen_when_the_broker_says_them() {
        let line = |name: &str, value: Option<&str>, is_default| ConfigLine {
            name: name.into(),
            value: value.map(str::to_owned),
            source: "some",
            is_default,
            read_only: false,
        };
        let changes = Changes {
            set: vec![("a".into(), "x, Y".into()), ("secret".into(), "s".into())],
            delete: vec!["b".into()],
        };
        let seen = |a: Option<&str>, a_default, b_default| {
            let told = [line("a", a, a_default), line("b", None, b_default), line("secret", None, false)];
            changes.are_seen(&told)
        };
        assert!(seen(Some("x,y"), false, true));
        assert!(!seen(Some("x,z"), false, true), "the value before");
        assert!(!seen(Some("x,y"), true, true));
        assert!(!seen(Some("x,y"), false, false));
    }

    /// The lines about these configs.
    fn shown(broker: &mut Broker, line: &str, names: &[&str]) -> Vec<String> {
        let told = broker.run(line);
        let lines =
            told.lines().filter(|line| names.iter().any(|name| line.starts_with(&format!("{name} "))));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn configs_are_shown_changed_and_taken_back() {
        let mut broker = Broker::start();
        let names = ["max.message.bytes", "retention.ms", "segment.bytes"];
        let before = ["max.message.bytes 2000000 static-broker", "retention.ms 604800000 default"];
        assert_eq!(shown(&mut broker, "config orders", &names[..2]), before);
        broker.check(
            "config orders --set retention.ms=5 --set max.message.bytes=700 --dry-run",
            &expect![[r#"
            orders could be changed so
        "#]],
        );
        assert_eq!(shown(&mut broker, "config orders", &names[..2]), before);
        broker.check(
            "config orders --set retention.ms=5 --set max.message.bytes=700",
            &expect![[r#"
            max.message.bytes is 700
            retention.ms is 5
        "#]],
        );
        let after = ["max.message.bytes 700 topic", "retention.ms 5 topic"];
        assert_eq!(shown(&mut broker, "config orders", &names[..2]), after);
        assert_eq!(shown(&mut broker, "describe orders", &names), after, "only what is set");
        broker.check(
            "config orders --delete retention.ms --set segment.bytes=1048576 --json",
            &expect![[r#"
            {
              "name": "orders",
              "set": {
                "segment.bytes": "1048576"
              },
              "deleted": [
                "retention.ms"
              ],
              "result": "changed",
              "notes": [
                "segment.bytes: Has no effect here. Partitions share the log's segments."
              ]
            }
        "#]],
        );
        let configs: serde_json::Value =
            serde_json::from_str(&broker.run("config orders --json")).expect("JSON");
        let retention = configs.as_array().expect("a list").iter().find(|one| one["name"] == "retention.ms");
        let expected = serde_json::json!({
            "name": "retention.ms",
            "value": "604800000",
            "source": "default",
            "is_default": true,
            "read_only": false,
        });
        assert_eq!(retention, Some(&expected));
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let mut broker = Broker::start();
        broker.check(
            "config orders --set segment.ms=5 --set retention.ms=7",
            &expect![[r#"
            retention.ms is 7
            segment.ms is 5
            segment.ms: Has no effect here. Partitions share the log's segments.
        "#]],
        );
    }

    #[test]
    fn what_is_refused() {
        let mut broker = Broker::start();
        broker.check(
            "config orders --delete retention.m --set retention.ms=7",
            &expect![[r#"
            error: nothing was changed: there is no topic config "retention.m", did you mean "retention.ms"?
        "#]],
        );
        let before = ["retention.ms 604800000 default"];
        assert_eq!(shown(&mut broker, "config orders", &["retention.ms"]), before);
        broker.check(
            "config orders --set retention.ns=5 --set retention.ms=7",
            &expect![[r#"
            error: nothing was changed: there is no topic config "retention.ns", did you mean "retention.ms"?
        "#]],
        );
        broker.check(
            "config orders --set retention.ms=5 --delete retention.ms",
            &expect![[r#"
            error: change configs of topic "orders": "retention.ms" is given twice (INVALID_REQUEST(42))
        "#]],
        );
        let long = "x".repeat(40_000);
        for line in [format!("config orders --set retention.ms={long}"), format!("config {long}")] {
            let told = broker.run(&line);
            assert!(
                told.ends_with(" request: a name or value of 40000 bytes: the protocol has room for 32767\n"),
                "{told:.200}"
            );
        }
        broker.check(
            "config orderz",
            &expect![[r#"
            error: there is no topic "orderz", did you mean "orders"?
        "#]],
        );
    }
}
