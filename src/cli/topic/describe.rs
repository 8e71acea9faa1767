//! `ringmq topic describe`: the partitions of a topic, what they hold, and what is configured.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::config::{self, ConfigLine};
use super::sizes::Sizes;
use crate::cli::cluster::{Cluster, Leader, Topic};
use crate::cli::output::{Output, known, size, table};
use crate::kafka::protocol::messages::list_offsets::timestamp;

/// Show the partitions of a topic, their offsets and sizes, and what is configured
#[derive(Debug, Args)]
pub struct DescribeArgs {
    name: String,
    /// Show the configs too that were not set for this topic
    #[arg(long)]
    all_configs: bool,
}

#[derive(Serialize)]
pub struct Described {
    name: String,
    id: String,
    /// Of all partitions; null where brokers do not say.
    bytes: Option<u64>,
    partitions: Vec<PartitionLine>,
    configs: Vec<ConfigLine>,
    #[serde(skip)]
    gaps: Vec<String>,
}

#[derive(Serialize)]
struct PartitionLine {
    partition: i32,
    leader: i32,
    leader_epoch: i32,
    /// Offset of the first record, and of the one to come; null when its leader did not say.
    start: Option<i64>,
    end: Option<i64>,
    /// What its records take, of one replica; null where brokers do not say.
    bytes: Option<u64>,
}

impl Output for Described {
    fn text(&self) -> String {
        let row = |line: &PartitionLine| {
            let [partition, leader, epoch] =
                [line.partition, line.leader, line.leader_epoch].map(|number| number.to_string());
            [partition, leader, epoch, known(line.start), known(line.end), known(line.bytes.map(size))]
        };
        let mut text = format!("topic {}, id {}", self.name, self.id);
        if let Some(bytes) = self.bytes {
            text += &format!(", {}", size(bytes));
        }
        text += "\n\n";
        text +=
            &table(["PARTITION", "LEADER", "EPOCH", "START", "END", "SIZE"], self.partitions.iter().map(row));
        if !self.configs.is_empty() {
            text += "\n";
            text += &config::configs_text(&self.configs);
        }
        text += &super::gaps_text(&self.gaps);
        text
    }
}

pub fn describe(cluster: &mut Cluster, args: &DescribeArgs) -> anyhow::Result<Described> {
    let topic = cluster.topic(&args.name)?;
    // Whoever tells offsets of a partition has it, and can tell its size.
    let mut gaps = Vec::new();
    let [starts, ends] = ends(cluster, &topic, &mut gaps);
    let sizes = Sizes::ask(cluster, Some(&topic));
    gaps.splice(0..0, sizes.gaps.iter().cloned());
    let partition = |(partition, leader): (&i32, &Leader)| PartitionLine {
        partition: *partition,
        leader: leader.node,
        leader_epoch: leader.epoch,
        start: starts.get(partition).copied(),
        end: ends.get(partition).copied(),
        bytes: sizes.partition(&topic.name, *partition),
    };
    let partitions = topic.leaders.iter().map(partition).collect();
    let mut configs = config::configs(cluster, &topic.name)?;
    configs.retain(|config| args.all_configs || !config.is_default);
    Ok(Described {
        id: topic.id.to_string(),
        bytes: sizes.topic(&topic),
        partitions,
        configs,
        gaps,
        name: topic.name,
    })
}

/// First and next offsets by partition, but for those without a leader, or with one out of reach.
fn ends(cluster: &mut Cluster, topic: &Topic, gaps: &mut Vec<String>) -> [BTreeMap<i32, i64>; 2] {
    let led: Vec<i32> = topic.leaders.keys().copied().filter(|index| topic.leader(*index).is_ok()).collect();
    let mut told = [BTreeMap::new(), BTreeMap::new()];
    for (at, timestamp) in [timestamp::EARLIEST, timestamp::LATEST].into_iter().enumerate() {
        match cluster.offset_answers(topic, &led, timestamp) {
            Ok(answers) => {
                let known = answers.into_iter().filter(|(_, (code, _))| !code.is_error());
                told[at] = known.map(|(partition, (_, offset))| (partition, offset)).collect();
            }
            // Whoever is out of reach is so for both.
            Err(error) => {
                gaps.push(format!("no offsets: {error:#}"));
                break;
            }
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_nobody_says_is_not_made_up() {
        let line = |partition, leader, start, end, bytes| PartitionLine {
            partition,
            leader,
            leader_epoch: 3,
            start,
            end,
            bytes,
        };
        let described = Described {
            name: "orders".into(),
            id: "some".into(),
            bytes: None,
            partitions: vec![line(0, 1, Some(5), Some(17), Some(2048)), line(1, -1, None, None, None)],
            configs: Vec::new(),
            gaps: vec!["no sizes from node 2: it is away".into()],
        };
        expect![[r#"
            topic orders, id some

            PARTITION  LEADER  EPOCH  START  END  SIZE
            0          1       3      5      17   2.0 KiB
            1          -1      3      -      -    -

            no sizes from node 2: it is away
        "#]]
        .assert_eq(&described.text());
        let json = serde_json::to_value(&described).expect("JSON");
        assert_eq!(json["partitions"][0]["bytes"], 2048);
        assert!(json["bytes"].is_null() && json["partitions"][1]["bytes"].is_null());
        assert_eq!(json.get("gaps"), None);
    }
}
