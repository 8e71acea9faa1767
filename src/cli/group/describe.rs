//! `ringmq group describe`: members, what they were assigned, and how far behind each partition is.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{GroupState, offsets, state_of, unknown};
use crate::cli::cluster::Cluster;
use crate::cli::output::{Output, known, printable, table};
use crate::kafka::protocol::messages::list_offsets::timestamp;

#[derive(Serialize)]
pub struct Described {
    group: String,
    state: String,
    protocol: String,
    members: Vec<MemberLine>,
    partitions: Vec<PartitionLine>,
    /// Of all partitions for which something was committed.
    lag: i64,
}

#[derive(Serialize)]
struct MemberLine {
    member: String,
    instance: Option<String>,
    client: String,
    host: String,
    /// Topics with their partitions; null where it is not the words of a consumer.
    assigned: Option<BTreeMap<String, Vec<i32>>>,
}

#[derive(Serialize)]
struct PartitionLine {
    topic: String,
    partition: i32,
    /// Null: nothing was committed.
    committed: Option<i64>,
    /// Null: the topic is gone.
    end: Option<i64>,
    lag: Option<i64>,
    member: Option<String>,
}

impl Output for Described {
    fn text(&self) -> String {
        // What a client made up stays in its line.
        let word = |text: &str| printable(text, |_| false);
        let mut text = format!("group {}, {}", word(&self.group), self.state);
        if !self.protocol.is_empty() {
            text += &format!(", protocol {}", word(&self.protocol));
        }
        text += "\n";
        if !self.members.is_empty() {
            let member = |line: &MemberLine| {
                let instance = known(line.instance.as_ref());
                [line.member.clone(), instance, line.client.clone(), line.host.clone(), assigned_text(line)]
            };
            text += "\n";
            text +=
                &table(["MEMBER", "INSTANCE", "CLIENT", "HOST", "ASSIGNED"], self.members.iter().map(member));
        }
        if !self.partitions.is_empty() {
            let partition = |line: &PartitionLine| {
                let [committed, end, lag] = [line.committed, line.end, line.lag].map(known);
                let member = known(line.member.as_ref());
                [line.topic.clone(), line.partition.to_string(), committed, end, lag, member]
            };
            text += "\n";
            let header = ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"];
            text += &table(header, self.partitions.iter().map(partition));
            text += &format!("\nlag {}\n", self.lag);
        }
        text
    }
}

/// `orders:0,1 users:2`.
fn assigned_text(line: &MemberLine) -> String {
    let Some(assigned) = &line.assigned else { return "?".to_owned() };
    let topics = assigned.iter().map(|(topic, partitions)| {
        let partitions: Vec<String> = partitions.iter().map(i32::to_string).collect();
        format!("{topic}:{}", partitions.join(","))
    });
    let topics: Vec<String> = topics.collect();
    if topics.is_empty() { "-".to_owned() } else { topics.join(" ") }
}

pub fn describe(cluster: &mut Cluster, group: &str) -> anyhow::Result<Described> {
    let state = state_of(cluster, group)?;
    let committed = offsets::committed(cluster, group)?;
    if state.is_dead() && committed.is_empty() {
        return unknown(cluster, group);
    }
    let ends = ends(cluster, &state, &committed)?;
    Ok(report(group, state, &committed, &ends))
}

/// The ends of all partitions that the group has to do with. A topic that is gone has none.
fn ends(
    cluster: &mut Cluster,
    state: &GroupState,
    committed: &offsets::Offsets,
) -> anyhow::Result<offsets::Offsets> {
    let mut wanted: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for (topic, partitions) in committed {
        wanted.entry(topic.clone()).or_default().extend(partitions.keys());
    }
    for member in &state.members {
        for (topic, partitions) in member.assigned.iter().flatten() {
            wanted.entry(topic.clone()).or_default().extend(partitions);
        }
    }
    let mut ends = offsets::Offsets::new();
    for (name, partitions) in wanted {
        let Some(topic) = cluster.find_topic(&name)? else { continue };
        let there: Vec<i32> =
            partitions.into_iter().filter(|partition| topic.leaders.contains_key(partition)).collect();
        ends.insert(name, cluster.offsets(&topic, &there, timestamp::LATEST)?);
    }
    Ok(ends)
}

fn report(
    group: &str,
    state: GroupState,
    committed: &offsets::Offsets,
    ends: &offsets::Offsets,
) -> Described {
    let mut owners: BTreeMap<(String, i32), Option<String>> = BTreeMap::new();
    let mut members = Vec::new();
    for member in state.members {
        for (topic, partitions) in member.assigned.iter().flatten() {
            for partition in partitions {
                owners.insert((topic.clone(), *partition), Some(member.member.clone()));
            }
        }
        members.push(MemberLine {
            member: member.member,
            instance: member.instance,
            client: member.client,
            host: member.host,
            assigned: member.assigned,
        });
    }
    for (topic, partitions) in committed {
        for partition in partitions.keys() {
            owners.entry((topic.clone(), *partition)).or_insert(None);
        }
    }
    let find = |offsets: &offsets::Offsets, topic: &str, partition: i32| {
        offsets.get(topic).and_then(|partitions| partitions.get(&partition)).copied()
    };
    let partitions = owners.into_iter().map(|((topic, partition), member)| {
        let (committed, end) = (find(committed, &topic, partition), find(ends, &topic, partition));
        // What was deleted behind a group's back is no lag.
        let lag = committed.zip(end).map(|(committed, end)| (end - committed).max(0));
        PartitionLine { topic, partition, committed, end, lag, member }
    });
    let partitions: Vec<PartitionLine> = partitions.collect();
    let lag = partitions.iter().filter_map(|line| line.lag).sum();
    let GroupState { state, protocol, .. } = GroupState { members: Vec::new(), ..state };
    Described { group: group.to_owned(), state, protocol, members, partitions, lag }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::Member;
    use super::*;

    fn member(name: &str, instance: Option<&str>, assigned: Option<BTreeMap<String, Vec<i32>>>) -> Member {
        Member {
            member: name.into(),
            instance: instance.map(str::to_owned),
            client: "app".into(),
            host: "10.0.0.7".into(),
            assigned,
        }
    }

    fn orders(partitions: &[i32]) -> Option<BTreeMap<String, Vec<i32>>> {
        Some(BTreeMap::from([("orders".to_owned(), partitions.to_vec())]))
    }

    #[test]
    fn who_reads_what_and_how_far_behind_it_is() {
        let state = GroupState {
            state: "Stable".into(),
            protocol: "range".into(),
            members: vec![
                member("m-1", None, orders(&[0, 1])),
                member("m-2", Some("second"), orders(&[2])),
                member("m-3", None, Some(BTreeMap::new())),
                member("m-4", None, None),
            ],
        };
        let committed = BTreeMap::from([
            ("orders".to_owned(), BTreeMap::from([(0, 10), (2, 7)])),
            ("gone".to_owned(), BTreeMap::from([(0, 5)])),
        ]);
        let ends = BTreeMap::from([("orders".to_owned(), BTreeMap::from([(0, 15), (1, 3), (2, 6)]))]);
        let report = report("billing", state, &committed, &ends);
        expect![[r#"
            group billing, Stable, protocol range

            MEMBER  INSTANCE  CLIENT  HOST      ASSIGNED
            m-1     -         app     10.0.0.7  orders:0,1
            m-2     second    app     10.0.0.7  orders:2
            m-3     -         app     10.0.0.7  -
            m-4     -         app     10.0.0.7  ?

            TOPIC   PARTITION  COMMITTED  END  LAG  MEMBER
            gone    0          5          -    -    -
            orders  0          10         15   5    m-1
            orders  1          -          3    -    m-1
            orders  2          7          6    0    m-2

            lag 5
        "#]]
        .assert_eq(&report.text());
    }

    #[test]
    fn what_clients_made_up_stays_in_its_line() {
        let state =
            GroupState { state: "Stable".into(), protocol: "range\nlag 0".into(), members: Vec::new() };
        let report = report("a\nb", state, &BTreeMap::new(), &BTreeMap::new());
        assert_eq!(report.text(), "group a\\nb, Stable, protocol range\\nlag 0\n");
    }
}
