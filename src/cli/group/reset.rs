//! `ringmq group reset-offsets`: a plan, shown first and carried out on demand.

use std::collections::BTreeMap;

use anyhow::{bail, ensure};
use clap::Args;
use serde::Serialize;

use super::offsets::{self, Offsets, TopicPartitions};
use super::state_of;
use crate::cli::cluster::{Cluster, Topic};
use crate::cli::output::{Output, known, table};
use crate::cli::time;
use crate::kafka::protocol::messages::list_offsets::timestamp;

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("to").required(true)), group(clap::ArgGroup::new("where").required(true)))]
pub struct ResetArgs {
    group: String,
    /// All partitions of the topic, or these; may be repeated
    #[arg(long = "topic", group = "where", value_name = "TOPIC[:P,P]")]
    topics: Vec<TopicPartitions>,
    /// Everything that the group has committed
    #[arg(long, group = "where", conflicts_with = "topics")]
    all_topics: bool,
    /// To the first record
    #[arg(long, group = "to")]
    to_earliest: bool,
    /// Behind the last record
    #[arg(long, group = "to")]
    to_latest: bool,
    /// To this offset, or to the nearest that there is
    #[arg(long, group = "to", value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// To the first record of this time or later, like 2026-11-25T08:00:00Z
    #[arg(long, group = "to", value_name = "TIME", value_parser = time::parse)]
    to_datetime: Option<i64>,
    /// By so many records, back if negative
    #[arg(long, group = "to", value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// Do it; without this flag it is only shown
    #[arg(long)]
    execute: bool,
}

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Earliest,
    Latest,
    Offset(i64),
    Time(i64),
    Shift(i64),
}

impl ResetArgs {
    fn target(&self) -> Target {
        match *self {
            ResetArgs { to_offset: Some(offset), .. } => Target::Offset(offset),
            ResetArgs { to_datetime: Some(ms), .. } => Target::Time(ms),
            ResetArgs { shift_by: Some(count), .. } => Target::Shift(count),
            ResetArgs { to_latest: true, .. } => Target::Latest,
            _ => Target::Earliest,
        }
    }
}

#[derive(Serialize)]
pub struct Plan {
    group: String,
    /// Whether it was carried out.
    executed: bool,
    partitions: Vec<Move>,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct Move {
    topic: String,
    partition: i32,
    /// Null: nothing was committed.
    from: Option<i64>,
    to: i64,
    /// What is then left to read.
    lag: i64,
}

impl Output for Plan {
    fn text(&self) -> String {
        let row = |one: &Move| {
            let from = known(one.from);
            [one.topic.clone(), one.partition.to_string(), from, one.to.to_string(), one.lag.to_string()]
        };
        let mut text = table(["TOPIC", "PARTITION", "FROM", "TO", "LAG"], self.partitions.iter().map(row));
        text += if self.executed { "\ndone\n" } else { "\nnothing was changed: --execute does it\n" };
        text
    }
}

pub fn reset(cluster: &mut Cluster, args: &ResetArgs) -> anyhow::Result<Plan> {
    let group = &args.group;
    refuse_active(cluster, group)?;
    let committed = offsets::committed(cluster, group)?;
    let wanted = if args.all_topics {
        ensure!(!committed.is_empty(), "group {group:?} has committed nothing; name topics with --topic");
        let all = |(topic, partitions): (&String, &BTreeMap<i32, i64>)| TopicPartitions {
            topic: topic.clone(),
            partitions: Some(partitions.keys().copied().collect()),
        };
        committed.iter().map(all).collect()
    } else {
        args.topics.clone()
    };

    let mut moves: BTreeMap<(String, i32), Move> = BTreeMap::new();
    for TopicPartitions { topic, partitions } in wanted {
        let topic = cluster.topic(&topic)?;
        let partitions = match partitions {
            Some(partitions) => partitions.into_iter().collect(),
            None => topic.leaders.keys().copied().collect::<Vec<_>>(),
        };
        for one in plan(cluster, &topic, &partitions, committed.get(&topic.name), args.target())? {
            moves.insert((one.topic.clone(), one.partition), one);
        }
    }
    let plan =
        Plan { group: group.clone(), executed: args.execute, partitions: moves.into_values().collect() };
    if args.execute {
        let mut offsets = Offsets::new();
        for Move { topic, partition, to, .. } in &plan.partitions {
            offsets.entry(topic.clone()).or_default().insert(*partition, *to);
        }
        offsets::commit(cluster, group, &offsets)?;
    }
    Ok(plan)
}

/// Members know their offsets and would commit over ours.
fn refuse_active(cluster: &mut Cluster, group: &str) -> anyhow::Result<()> {
    let state = state_of(cluster, group)?;
    if state.is_dead() || state.state == "Empty" {
        return Ok(());
    }
    let members = state.members.len();
    bail!(
        "group {group:?} is active ({}, {members} member{}): stop its members first, they would commit over it",
        state.state,
        if members == 1 { "" } else { "s" }
    )
}

fn plan(
    cluster: &mut Cluster,
    topic: &Topic,
    partitions: &[i32],
    committed: Option<&BTreeMap<i32, i64>>,
    target: Target,
) -> anyhow::Result<Vec<Move>> {
    let starts = cluster.offsets(topic, partitions, timestamp::EARLIEST)?;
    let ends = cluster.offsets(topic, partitions, timestamp::LATEST)?;
    let at_time = match target {
        Target::Time(ms) => cluster.offsets(topic, partitions, ms)?,
        _ => BTreeMap::new(),
    };
    let one = |partition: &i32| {
        let from = committed.and_then(|committed| committed.get(partition)).copied();
        let (start, end) = (starts[partition], ends[partition]);
        let to = destination(target, from, start, end, at_time.get(partition).copied());
        let Some(to) = to else {
            bail!("{}:{partition} has no committed offset that could be shifted", topic.name);
        };
        Ok(Move { topic: topic.name.clone(), partition: *partition, from, to, lag: end - to })
    };
    partitions.iter().map(one).collect()
}

/// Always where there is, or will be, a record. `None`: there is nothing to shift.
fn destination(target: Target, from: Option<i64>, start: i64, end: i64, at_time: Option<i64>) -> Option<i64> {
    let wanted = match target {
        Target::Earliest => start,
        Target::Latest => end,
        Target::Offset(offset) => offset,
        // -1: all records are older.
        Target::Time(_) => at_time.filter(|offset| *offset >= 0).unwrap_or(end),
        Target::Shift(count) => from?.saturating_add(count),
    };
    Some(wanted.max(start).min(end))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn destinations_lie_in_the_log() {
        let to = |target, from, at_time| destination(target, from, 10, 20, at_time);
        assert_eq!(to(Target::Earliest, None, None), Some(10));
        assert_eq!(to(Target::Latest, Some(12), None), Some(20));
        assert_eq!(to(Target::Offset(5), None, None), Some(10));
        assert_eq!(to(Target::Offset(15), None, None), Some(15));
        assert_eq!(to(Target::Offset(99), None, None), Some(20));
        assert_eq!(to(Target::Time(0), None, Some(13)), Some(13));
        assert_eq!(to(Target::Time(0), None, Some(-1)), Some(20));
        assert_eq!(to(Target::Shift(-3), Some(15), None), Some(12));
        assert_eq!(to(Target::Shift(i64::MAX), Some(15), None), Some(20));
        assert_eq!(to(Target::Shift(i64::MIN), Some(15), None), Some(10));
        assert_eq!(to(Target::Shift(1), None, None), None);
    }

    #[test]
    fn a_plan_says_that_it_is_one() {
        let one = |partition, from, to, lag| Move { topic: "orders".into(), partition, from, to, lag };
        let moves = vec![one(0, Some(7), 0, 12), one(1, None, 0, 3)];
        let mut plan = Plan { group: "g".into(), executed: false, partitions: moves };
        expect![[r#"
            TOPIC   PARTITION  FROM  TO  LAG
            orders  0          7     0   12
            orders  1          -     0   3

            nothing was changed: --execute does it
        "#]]
        .assert_eq(&plan.text());
        plan.executed = true;
        assert!(plan.text().ends_with("\ndone\n"));
    }
}
