//! `ringmq topic create`.

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use crate::cli::client::{check, only};
use crate::cli::cluster::Cluster;
use crate::cli::output::Output;
use crate::kafka::protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use crate::kafka::protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use crate::kafka::protocol::{Array, ErrorCode};

/// Create a topic
#[derive(Debug, Args)]
pub struct CreateArgs {
    name: String,
    /// How many partitions; the broker's default if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A config of the topic; may be repeated
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = super::parse_pair)]
    configs: Vec<(String, String)>,
    /// A topic that exists already is no error, whatever its partitions and configs
    #[arg(long)]
    if_not_exists: bool,
    /// Only say whether it could be created
    #[arg(long, visible_alias = "validate-only")]
    dry_run: bool,
}

#[derive(Serialize)]
pub struct Created {
    name: String,
    /// `created`, `exists` or `valid`.
    result: &'static str,
}

impl Output for Created {
    fn text(&self) -> String {
        match self.result {
            "exists" => format!("{} exists already\n", self.name),
            "valid" => format!("{} could be created\n", self.name),
            _ => format!("{} created\n", self.name),
        }
    }
}

pub fn create(cluster: &mut Cluster, args: &CreateArgs) -> anyhow::Result<Created> {
    let configs = args.configs.iter().map(|(name, value)| CreatableTopicConfig { name, value: Some(value) });
    let topic = CreatableTopic {
        name: &args.name,
        num_partitions: args.partitions.unwrap_or(-1),
        replication_factor: -1,
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: Array::from_elem(topic, 1),
        validate_only: args.dry_run,
        ..Default::default()
    };
    let response: CreateTopicsResponse<'_> = cluster.controller().ask(&request)?;
    let result = only(&response.topics, "the topic")?;
    let name = args.name.clone();
    if result.error_code == ErrorCode::TOPIC_ALREADY_EXISTS && args.if_not_exists {
        return Ok(Created { name, result: "exists" });
    }
    check(result.error_code, result.error_message).with_context(|| format!("create topic {name:?}"))?;
    drop(response);
    if !args.dry_run {
        cluster.await_topic(&name, 1);
    }
    Ok(Created { name, result: if args.dry_run { "valid" } else { "created" } })
}
