//! `ringmq topic`: look after the topics of a running broker, of any Kafka cluster.

mod add_partitions;
mod config;
mod create;
mod delete;
mod describe;
mod list;
mod sizes;
#[cfg(test)]
mod testing;

use clap::{Args, Subcommand};

use super::cluster::{Cluster, ClusterArgs};
use super::output::output;

/// What a broker may take for a change; a topic with very many partitions takes a while.
const TIMEOUT_MS: i32 = 60_000;

/// Create topics, look at them, let them grow, configure and delete them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ringmq topic create orders --partitions 8 --config retention.ms=86400000
  ringmq topic list --json                             partitions and bytes of each topic
  ringmq topic describe orders                         offsets and bytes of each partition
  ringmq topic add-partitions orders --partitions 12   12 in all
  ringmq topic config orders                           every config, its value and its source
  ringmq topic config orders --set retention.ms=3600000 --delete max.message.bytes
  ringmq topic delete orders --if-exists")]
pub struct TopicArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Print one JSON document, for scripts
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Create(create::CreateArgs),
    /// List all topics, with the bytes that they take
    List,
    Describe(describe::DescribeArgs),
    AddPartitions(add_partitions::AddPartitionsArgs),
    Config(config::ConfigArgs),
    Delete(delete::DeleteArgs),
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("KEY=VALUE is expected")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

pub fn run(args: &TopicArgs) -> anyhow::Result<()> {
    let mut cluster = Cluster::connect(&args.cluster.bootstrap)?;
    super::print(&execute(&mut cluster, args)?)
}

/// Does what is asked for and returns what is to be printed.
fn execute(cluster: &mut Cluster, args: &TopicArgs) -> anyhow::Result<String> {
    match &args.action {
        Action::Create(create) => output(args.json, &create::create(cluster, create)?),
        Action::List => output(args.json, &list::list(cluster)?),
        Action::Describe(describe) => output(args.json, &describe::describe(cluster, describe)?),
        Action::AddPartitions(add) => output(args.json, &add_partitions::add_partitions(cluster, add)?),
        Action::Config(config) => config::run(cluster, config, args.json),
        Action::Delete(delete) => output(args.json, &delete::delete(cluster, delete)?),
    }
}

/// Below a table: why cells of it are empty.
fn gaps_text(gaps: &[String]) -> String {
    if gaps.is_empty() { String::new() } else { format!("\n{}\n", gaps.join("\n")) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use expect_test::expect;

    use super::testing::Broker;
    use super::*;
    use crate::cli::testing::check_usage;

    #[test]
    fn the_life_of_a_topic() {
        let mut broker = Broker::start();
        broker.check(
            "create web-logs --partitions 3 --config retention.ms=5",
            &expect![[r#"
            web-logs created
        "#]],
        );
        broker.check(
            "create web-logs",
            &expect![[r#"
            error: create topic "web-logs": topic already exists (TOPIC_ALREADY_EXISTS(36))
        "#]],
        );
        broker.check(
            "create web-logs --if-not-exists",
            &expect![[r#"
            web-logs exists already
        "#]],
        );
        broker.check(
            "create other --dry-run",
            &expect![[r#"
            other could be created
        "#]],
        );
        broker.check("create other --config retention.ns=5", &expect![[r#"
            error: create topic "other": unknown topic config "retention.ns", did you mean "retention.ms"? (INVALID_CONFIG(40))
        "#]]);
        broker.check(
            "list",
            &expect![[r#"
            TOPIC     PARTITIONS  SIZE     ID
            orders    3           5.9 KiB  6f6f6f6f-6f6f-6f6f-6f6f-6f6f6f6f6f6f
            users     3           5.9 KiB  75757575-7575-7575-7575-757575757575
            web-logs  3           5.9 KiB  77777777-7777-7777-7777-777777777777
        "#]],
        );
        broker.check(
            "describe web-logs",
            &expect![[r#"
            topic web-logs, id 77777777-7777-7777-7777-777777777777, 5.9 KiB

            PARTITION  LEADER  EPOCH  START  END   SIZE
            0          7       5      0      1000  1000 B
            1          7       6      1      1001  2.0 KiB
            2          7       5      2      1002  2.9 KiB

            CONFIG        VALUE  SOURCE
            retention.ms  5      topic
        "#]],
        );
        broker.check(
            "describe web-log",
            &expect![[r#"
            error: there is no topic "web-log", did you mean "web-logs"?
        "#]],
        );
        broker.check(
            "describe ???",
            &expect![[r#"
            error: topic "???": INVALID_TOPIC_EXCEPTION(17)
        "#]],
        );
        broker.check(
            "delete web-logs",
            &expect![[r#"
            web-logs deleted
        "#]],
        );
        broker.check(
            "delete users web-logs",
            &expect![[r#"
            error: delete topic "web-logs": no such topic (UNKNOWN_TOPIC_OR_PARTITION(3))
            users deleted
        "#]],
        );
        broker.check(
            "delete web-logs --if-exists",
            &expect![[r#"
            web-logs did not exist
        "#]],
        );
        broker.check(
            "list",
            &expect![[r#"
            TOPIC   PARTITIONS  SIZE     ID
            orders  3           5.9 KiB  6f6f6f6f-6f6f-6f6f-6f6f-6f6f6f6f6f6f
        "#]],
        );
    }

    #[test]
    fn json_for_scripts() {
        let mut broker = Broker::start();
        broker.check(
            "create a --json",
            &expect![[r#"
            {
              "name": "a",
              "result": "created"
            }
        "#]],
        );
        broker.check(
            "--json list",
            &expect![[r#"
            [
              {
                "name": "a",
                "id": "61616161-6161-6161-6161-616161616161",
                "partitions": 3,
                "bytes": 6000
              },
              {
                "name": "orders",
                "id": "6f6f6f6f-6f6f-6f6f-6f6f-6f6f6f6f6f6f",
                "partitions": 3,
                "bytes": 6000
              },
              {
                "name": "users",
                "id": "75757575-7575-7575-7575-757575757575",
                "partitions": 3,
                "bytes": 6000
              }
            ]
        "#]],
        );
        broker.check(
            "delete a b --if-exists --json",
            &expect![[r#"
            {
              "deleted": [
                "a"
              ],
              "missing": [
                "b"
              ]
            }
        "#]],
        );
        let described: serde_json::Value =
            serde_json::from_str(&broker.run("describe orders --json --all-configs")).expect("JSON");
        assert_eq!(described["bytes"], 6_000);
        assert_eq!(described["partitions"][1]["end"], 1_001);
        assert_eq!(described["partitions"][1]["leader_epoch"], 6);
        assert_eq!(described["partitions"][1]["bytes"], 2_000);
        assert!(described["configs"].as_array().is_some_and(|configs| configs.len() > 30));
    }

    #[test]
    fn nobody_there() {
        // A port that was free a moment ago, and that nobody listens on.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let error = Cluster::connect(&address).err().expect("refused").to_string();
        assert!(error.contains(&address) && error.contains("ringmq server"), "{error}");
        assert!(Cluster::connect("no-port").is_err());
    }

    #[test]
    fn usage() {
        check_usage::<TopicArgs>(
            &[
                "create t --validate-only",
                "add-partitions t --partitions 5 --dry-run",
                "config t",
                "config t --set a=1 --set b= --delete c --dry-run",
                "config t --delete c --delete d --json",
            ],
            &[
                "",
                "create",
                "delete",
                "create t --partitions 0",
                "create t --config retention.ms",
                "describe",
                "add-partitions t",
                "add-partitions t --partitions 0",
                "config",
                "config t --set retention.ms",
                "config t --delete",
                "config t --dry-run",
            ],
        );
    }
}
