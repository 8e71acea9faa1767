//! `ringmq group`: look after the consumer groups of a running broker, of any Kafka cluster.

mod assignment;
mod describe;
mod offsets;
mod reset;

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::{Client, check, is_refusal, only};
use super::cluster::{Cluster, ClusterArgs};
use super::deleted::Deleted;
use super::output::{Output, did_you_mean, output, table};
use crate::kafka::protocol::messages::consumer_group_describe::ConsumerGroupMember;
use crate::kafka::protocol::messages::describe_groups::DescribedGroupMember;
use crate::kafka::protocol::messages::list_groups::ListedGroup;
use crate::kafka::protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, ListGroupsRequest, ListGroupsResponse,
};
use crate::kafka::protocol::{ApiKey, Array, ErrorCode};
use offsets::TopicPartitions;

/// List consumer groups, show how far they are behind, move or delete what they committed
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ringmq group list
  ringmq group describe billing                                  who reads what, and how far behind it is
  ringmq group reset-offsets billing --topic orders --to-earliest            only shows what would be done
  ringmq group reset-offsets billing --topic orders:0,3 --shift-by=-100 --execute
  ringmq group reset-offsets billing --all-topics --to-datetime 2026-11-25T08:00:00Z --execute
  ringmq group delete-offsets billing --topic orders
  ringmq group delete billing")]
pub struct GroupArgs {
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
    /// List all groups
    List,
    /// Show the members of a group, their partitions, and the lag of each partition
    Describe { group: String },
    /// Move a group's committed offsets; only shows what it would do, until --execute is given
    ResetOffsets(reset::ResetArgs),
    /// Delete groups, with what they committed
    Delete {
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
        /// A group that does not exist is no error
        #[arg(long)]
        if_exists: bool,
    },
    /// Delete what a group committed for a topic that it no longer reads
    DeleteOffsets {
        group: String,
        /// All partitions of the topic, or these; may be repeated
        #[arg(long = "topic", required = true, value_name = "TOPIC[:P,P]")]
        topics: Vec<TopicPartitions>,
    },
}

pub fn run(args: &GroupArgs) -> anyhow::Result<()> {
    let cluster = &mut Cluster::connect(&args.cluster.bootstrap)?;
    super::print(&match &args.action {
        Action::List => output(args.json, &list(cluster)?),
        Action::Describe { group } => output(args.json, &describe::describe(cluster, group)?),
        Action::ResetOffsets(reset) => output(args.json, &reset::reset(cluster, reset)?),
        Action::Delete { groups, if_exists } => output(args.json, &delete(cluster, groups, *if_exists)?),
        Action::DeleteOffsets { group, topics } => {
            output(args.json, &offsets::delete(cluster, group, topics)?)
        }
    }?)
}

#[derive(Serialize)]
struct GroupLine {
    group: String,
    state: String,
    protocol_type: String,
    /// Which protocol its members speak; empty where the broker does not say.
    #[serde(skip)]
    kind: String,
}

#[derive(Serialize)]
#[serde(transparent)]
struct GroupList(Vec<GroupLine>);

impl Output for GroupList {
    fn text(&self) -> String {
        let row = |line: &GroupLine| [line.group.clone(), line.state.clone(), line.protocol_type.clone()];
        table(["GROUP", "STATE", "TYPE"], self.0.iter().map(row))
    }
}

/// Each node knows those that it coordinates.
fn list(cluster: &mut Cluster) -> anyhow::Result<GroupList> {
    let of_nodes = cluster.of_groups(|node| {
        let response: ListGroupsResponse<'_> = node.ask(&ListGroupsRequest::default())?;
        check(response.error_code, None).context("list groups")?;
        let line = |group: &ListedGroup<'_>| GroupLine {
            group: group.group_id.to_owned(),
            state: group.group_state.to_owned(),
            protocol_type: group.protocol_type.to_owned(),
            kind: group.group_type.to_owned(),
        };
        Ok(response.groups.iter().map(line).collect::<Vec<_>>())
    })?;
    let mut groups: Vec<GroupLine> = of_nodes.into_iter().flatten().collect();
    groups.sort_by(|a, b| a.group.cmp(&b.group));
    groups.dedup_by(|a, b| a.group == b.group);
    Ok(GroupList(groups))
}

/// A group that does not exist: an error that helps.
fn unknown<T>(cluster: &mut Cluster, group: &str) -> anyhow::Result<T> {
    let known = list(cluster)?;
    // Shares and streams have groups of their own.
    let kind = known.0.iter().find(|line| line.group == group).map(|line| line.kind.to_lowercase());
    if let Some(kind) = kind.filter(|kind| !["", "classic", "consumer"].contains(&&**kind)) {
        bail!("group {group:?} of type {kind:?} is there, but this program knows only groups of consumers");
    }
    // It may have come since it was asked for, or its kind is off: it is not what was meant instead of it.
    let others = known.0.iter().map(|line| line.group.as_str()).filter(|other| *other != group);
    let nearest = did_you_mean(group, others);
    bail!("there is no group {group:?}{nearest}")
}

/// A group's members, as its coordinator sees them.
struct GroupState {
    state: String,
    protocol: String,
    members: Vec<Member>,
}

struct Member {
    member: String,
    instance: Option<String>,
    client: String,
    host: String,
    /// `None`: these are not the words of a consumer.
    assigned: Option<BTreeMap<String, Vec<i32>>>,
}

impl GroupState {
    /// What a group is called that nobody has ever heard of.
    fn is_dead(&self) -> bool {
        self.state == "Dead" || self.state.is_empty()
    }
}

fn state_of(cluster: &mut Cluster, group: &str) -> anyhow::Result<GroupState> {
    cluster.of_group(group, |coordinator| {
        let state = classic_state(coordinator, group)?;
        if !state.is_dead() || !coordinator.has(ApiKey::ConsumerGroupDescribe) {
            return Ok(state);
        }
        Ok(consumer_state(coordinator, group)?.unwrap_or(state))
    })
}

/// Of a group whose members share out the partitions among them.
fn classic_state(coordinator: &mut Client, group: &str) -> anyhow::Result<GroupState> {
    let request = DescribeGroupsRequest { groups: Array::from_elem(group, 1), ..Default::default() };
    let response: DescribeGroupsResponse<'_> = coordinator.ask(&request)?;
    let found = only(&response.groups, "the group")?;
    if found.error_code != ErrorCode::GROUP_ID_NOT_FOUND {
        check(found.error_code, found.error_message).with_context(|| format!("describe group {group:?}"))?;
    }
    let member = |member: &DescribedGroupMember<'_>| Member {
        member: member.member_id.to_owned(),
        instance: member.group_instance_id.map(str::to_owned),
        client: member.client_id.to_owned(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        assigned: assignment::decode(member.member_assignment).map(|topics| topics.into_iter().collect()),
    };
    Ok(GroupState {
        state: found.group_state.to_owned(),
        protocol: found.protocol_data.to_owned(),
        members: found.members.iter().map(member).collect(),
    })
}

/// Of a group whose coordinator does so: the protocol of KIP-848. `None`: there is no such group.
fn consumer_state(coordinator: &mut Client, group: &str) -> anyhow::Result<Option<GroupState>> {
    let request =
        ConsumerGroupDescribeRequest { group_ids: Array::from_elem(group, 1), ..Default::default() };
    let response: ConsumerGroupDescribeResponse<'_> = coordinator.ask(&request)?;
    let found = only(&response.groups, "the group")?;
    // A broker may know the request, and have the protocol switched off.
    if [ErrorCode::GROUP_ID_NOT_FOUND, ErrorCode::UNSUPPORTED_VERSION].contains(&found.error_code) {
        return Ok(None);
    }
    check(found.error_code, found.error_message).with_context(|| format!("describe group {group:?}"))?;
    let member = |member: &ConsumerGroupMember<'_>| Member {
        member: member.member_id.to_owned(),
        instance: member.instance_id.map(str::to_owned),
        client: member.client_id.to_owned(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        assigned: Some(
            member
                .assignment
                .topic_partitions
                .iter()
                .map(|topic| (topic.topic_name.to_owned(), topic.partitions.to_vec()))
                .collect(),
        ),
    };
    Ok(Some(GroupState {
        state: found.group_state.to_owned(),
        protocol: found.assignor_name.to_owned(),
        members: found.members.iter().map(member).collect(),
    }))
}

fn delete(cluster: &mut Cluster, groups: &[String], if_exists: bool) -> anyhow::Result<Deleted> {
    let mut result = Deleted::default();
    for group in groups {
        let request = DeleteGroupsRequest { groups_names: Array::from_elem(group.as_str(), 1) };
        let deleted = cluster.of_group(group, |coordinator| {
            let response: DeleteGroupsResponse<'_> = coordinator.ask(&request)?;
            check(only(&response.results, "the group")?.error_code, None)
        });
        match deleted {
            Ok(()) => result.deleted.push(group.clone()),
            Err(error) if if_exists && is_refusal(&error, &[ErrorCode::GROUP_ID_NOT_FOUND]) => {
                result.missing.push(group.clone());
            }
            Err(error) if is_refusal(&error, &[ErrorCode::GROUP_ID_NOT_FOUND]) => {
                let error = unknown::<()>(cluster, group).err();
                result.failures.extend(error.map(|error| error.to_string()));
            }
            Err(error) if is_refusal(&error, &[ErrorCode::NON_EMPTY_GROUP]) => {
                result.failures.push(format!("group {group:?} has members: stop them first ({error})"));
            }
            Err(error) => result.failures.push(format!("delete group {group:?}: {error:#}")),
        }
    }
    result.complete()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::check_usage;

    #[test]
    fn usage() {
        check_usage::<GroupArgs>(
            &[
                "list --json",
                "describe g",
                "delete g h --if-exists",
                "delete-offsets g --topic t:0,1 --topic u",
                "reset-offsets g --topic t --to-earliest",
                "reset-offsets g --all-topics --to-offset 5 --execute",
                "reset-offsets g --topic t --shift-by=-5",
                "reset-offsets g --topic t --shift-by -5",
                "reset-offsets g --topic t --to-datetime 2026-11-25T08:00Z",
            ],
            &[
                "",
                "describe",
                "delete",
                "delete-offsets g",
                "delete-offsets g --topic t:",
                "delete-offsets g --topic t:-1",
                "reset-offsets g --to-earliest",
                "reset-offsets g --topic t",
                "reset-offsets g --topic t --to-earliest --to-latest",
                "reset-offsets g --topic t --all-topics --to-latest",
                "reset-offsets g --topic t --to-offset -1",
                "reset-offsets g --topic t --to-datetime yesterday",
            ],
        );
    }
}
