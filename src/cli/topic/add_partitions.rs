//! `ringmq topic add-partitions`.

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use crate::cli::client::{check, only};
use crate::cli::cluster::Cluster;
use crate::cli::output::Output;
use crate::kafka::protocol::Array;
use crate::kafka::protocol::messages::create_partitions::CreatePartitionsTopic;
use crate::kafka::protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

/// Give a topic more partitions
///
/// Records with a key go to the partition that follows from the key and from how many there are. So the records of
/// a key may go to another partition from now on, and be read beside older ones that still wait where they are.
/// Partitions cannot be taken away again.
#[derive(Debug, Args)]
pub struct AddPartitionsArgs {
    name: String,
    /// How many it shall have in all, not how many are added
    #[arg(long, value_name = "TOTAL", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Only say whether it could be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
pub struct Grown {
    name: String,
    partitions: i32,
    before: usize,
    /// `grown` or `valid`.
    result: &'static str,
}

impl Output for Grown {
    fn text(&self) -> String {
        let Grown { name, partitions, before, result } = self;
        match *result {
            "valid" => format!("{name} could have {partitions} partitions, it has {before}\n"),
            _ => format!("{name} has {partitions} partitions, it had {before}\n"),
        }
    }
}

pub fn add_partitions(cluster: &mut Cluster, args: &AddPartitionsArgs) -> anyhow::Result<Grown> {
    let topic = cluster.topic(&args.name)?;
    let asked = CreatePartitionsTopic { name: &topic.name, count: args.partitions, assignments: None };
    let request = CreatePartitionsRequest {
        topics: Array::from_elem(asked, 1),
        timeout_ms: super::TIMEOUT_MS,
        validate_only: args.dry_run,
    };
    let response: CreatePartitionsResponse<'_> = cluster.controller().ask(&request)?;
    let result = only(&response.results, "the topic")?;
    check(result.error_code, result.error_message)
        .with_context(|| format!("add partitions to topic {:?}", topic.name))?;
    drop(response);
    if !args.dry_run {
        cluster.await_topic(&topic.name, args.partitions as usize);
    }
    Ok(Grown {
        partitions: args.partitions,
        before: topic.leaders.len(),
        result: if args.dry_run { "valid" } else { "grown" },
        name: topic.name.clone(),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::cli::topic::testing::Broker;

    #[test]
    fn a_topic_grows() {
        let mut broker = Broker::start();
        broker.check(
            "add-partitions orders --partitions 5 --dry-run",
            &expect![[r#"
            orders could have 5 partitions, it has 3
        "#]],
        );
        broker.check(
            "add-partitions orders --partitions 5",
            &expect![[r#"
            orders has 5 partitions, it had 3
        "#]],
        );
        broker.check(
            "add-partitions orders --partitions 7 --json",
            &expect![[r#"
            {
              "name": "orders",
              "partitions": 7,
              "before": 5,
              "result": "grown"
            }
        "#]],
        );
        broker.check("add-partitions orders --partitions 7", &expect![[r#"
            error: add partitions to topic "orders": the topic has 7 partitions already, 7 would be no more (INVALID_PARTITIONS(37))
        "#]]);
        broker.check(
            "add-partitions order --partitions 9",
            &expect![[r#"
            error: there is no topic "order", did you mean "orders"?
        "#]],
        );
    }
}
