//! `ringmq topic delete`.

use clap::Args;

use crate::cli::client::check;
use crate::cli::cluster::Cluster;
use crate::cli::deleted::Deleted;
use crate::kafka::protocol::ErrorCode;
use crate::kafka::protocol::messages::delete_topics::DeleteTopicState;
use crate::kafka::protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

/// Delete topics, with all their records
#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// A topic that does not exist is no error
    #[arg(long)]
    if_exists: bool,
}

pub fn delete(cluster: &mut Cluster, args: &DeleteArgs) -> anyhow::Result<Deleted> {
    // By name, in the field of whichever version it will be.
    let topics = args.names.iter().map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
    let request = DeleteTopicsRequest {
        topics: topics.collect(),
        topic_names: args.names.iter().map(String::as_str).collect(),
        timeout_ms: super::TIMEOUT_MS,
    };
    let response: DeleteTopicsResponse<'_> = cluster.controller().ask(&request)?;
    let mut result = Deleted::default();
    for topic in &response.responses {
        let name = topic.name.unwrap_or_default().to_owned();
        if topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION && args.if_exists {
            result.missing.push(name);
        } else if let Err(error) = check(topic.error_code, topic.error_message) {
            result.failures.push(format!("delete topic {name:?}: {error}"));
        } else {
            result.deleted.push(name);
        }
    }
    drop(response);
    for name in &result.deleted {
        cluster.await_seen(|cluster| Ok(cluster.ask_topic(name)?.is_none()));
    }
    result.complete()
}
