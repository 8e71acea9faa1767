//! What makes the load of a run: numbers of another load must not stand beside it.

use serde::{Deserialize, Serialize};

use super::engine::ReadBack;
use super::kafka::keys::KeyDistribution;
use super::options::Options;
use super::payload::Body;
use super::report::Report;
use crate::base::crc::crc32c;

/// The parts of a load that a report's own fields do not say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadFacts {
    pub payload: Payload,
    pub key_distribution: KeyDistribution,
    pub read_back: ReadBack,
    /// Consumers are members of their groups.
    pub group_protocol: bool,
    /// The most that one consumer reads.
    pub consumer_bytes_per_s: Option<f64>,
    /// Of the topics, if they were made for the run.
    pub topic_configs: Vec<(String, String)>,
    pub reconnect: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// This share of the bytes is random.
    Random(f64),
    /// The bytes of a file that has this checksum.
    FileCrc32c(u32),
}

impl LoadFacts {
    pub fn of(options: &Options) -> LoadFacts {
        let mut topic_configs = options.topic_configs.clone();
        topic_configs.sort();
        LoadFacts {
            payload: match &options.body {
                Body::Random { share } => Payload::Random(*share),
                Body::File(bytes) => Payload::FileCrc32c(crc32c(bytes)),
            },
            key_distribution: options.keys.distribution,
            read_back: options.read_back.clone(),
            group_protocol: options.group_protocol,
            consumer_bytes_per_s: options.consumer_bytes_per_s,
            topic_configs,
            reconnect: options.reconnect,
        }
    }

    fn named(&self) -> Vec<(&'static str, String)> {
        let configs = self.topic_configs.iter().map(|(name, value)| format!("{name}={value}"));
        vec![
            (
                "payload",
                match self.payload {
                    Payload::Random(share) => format!("{:.0} % random", share * 100.0),
                    Payload::FileCrc32c(crc) => format!("a file of checksum {crc:08x}"),
                },
            ),
            ("key distribution", format!("{:?}", self.key_distribution)),
            ("read back", format!("{:?}", self.read_back)),
            ("group protocol", if self.group_protocol { "classic" } else { "assigned" }.to_owned()),
            (
                "consumer throttle",
                self.consumer_bytes_per_s.map_or("none".to_owned(), |bytes| format!("{bytes:.0} B/s")),
            ),
            ("topic configs", format!("[{}]", configs.collect::<Vec<_>>().join(", "))),
            ("reconnect", self.reconnect.to_string()),
        ]
    }
}

/// In words, where two loads differ; `None` when they are the same. What one of them does not
/// [know](Report::load) is passed over.
pub fn difference(before: &Report, after: &Report) -> Option<String> {
    let facts = match (&before.load, &after.load) {
        (Some(before), Some(after)) => Some((before.named(), after.named())),
        _ => None,
    };
    let (old, new) = facts.unwrap_or_default();
    let both = named(before).into_iter().chain(old).zip(named(after).into_iter().chain(new));
    let words: Vec<String> = both
        .filter(|(old, new)| old != new)
        .map(|((name, old), (_, new))| format!("{name} {old} against {new}"))
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn named(report: &Report) -> Vec<(&'static str, String)> {
    let Report { arrivals, compression, .. } = report;
    let rate = report.target_records_per_s.map_or("as it goes".to_owned(), |rate| format!("{rate:.0}/s"));
    let codec = compression.map_or("none", |packing| packing.codec.name());
    vec![
        ("rate", rate),
        ("arrivals", format!("{arrivals:?}")),
        ("record bytes", report.record_bytes.to_string()),
        ("records a batch", report.records_per_batch.to_string()),
        ("linger ns", format!("{:?}", report.linger_ns)),
        ("acks", report.acks.to_string()),
        ("idempotence", report.idempotent.to_string()),
        ("topics", report.topics.to_string()),
        ("partitions", report.partitions.to_string()),
        ("connections", report.connections.to_string()),
        ("requests in flight", report.in_flight.to_string()),
        ("consumers", report.consumers.to_string()),
        ("groups", report.groups.to_string()),
        ("key bytes", report.key_bytes.to_string()),
        ("keys", report.keys.to_string()),
        ("compression", codec.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::report;
    use super::*;

    #[test]
    fn every_part_of_a_load_is_told_from_another() {
        type Change = (fn(&mut Options), &'static str);
        let changes: [Change; 8] = [
            (|to| to.body = Body::Random { share: 0.5 }, "payload 100 % random against 50 % random"),
            (|to| to.body = Body::File([7; 40].into()), "payload 100 % random against a file of checksum"),
            (|to| to.keys.distribution = KeyDistribution::Zipf, "key distribution RoundRobin against Zipf"),
            (|to| to.read_back = ReadBack::Cold, "read back Nothing against Cold"),
            (|to| to.group_protocol = true, "group protocol assigned against classic"),
            (|to| to.consumer_bytes_per_s = Some(1e6), "consumer throttle none against 1000000 B/s"),
            (
                |to| to.topic_configs = vec![("retention.bytes".to_owned(), "1".to_owned())],
                "topic configs [] against [retention.bytes=1]",
            ),
            (|to| to.reconnect = true, "reconnect false against true"),
        ];
        let before = report("run", 10);
        for (change, words) in changes {
            let (mut after, mut options) = (before.clone(), Options::default());
            change(&mut options);
            after.load = Some(LoadFacts::of(&options));
            let found = difference(&before, &after).unwrap_or_default();
            assert!(found.starts_with(words) && !found.contains(", "), "{found}");
            let text = serde_json::to_string(&after.load).unwrap();
            assert_eq!(serde_json::from_str::<Option<LoadFacts>>(&text).unwrap(), after.load, "{text}");
            // As an earlier version wrote it.
            after.load = None;
            assert_eq!(difference(&before, &after), None);
        }
    }

    #[test]
    fn the_order_of_topic_configs_is_no_difference() {
        let of = |names: [&str; 2]| {
            let topic_configs = names.map(|name| (name.to_owned(), "1".to_owned())).to_vec();
            LoadFacts::of(&Options { topic_configs, ..Options::default() })
        };
        assert_eq!(of(["a", "b"]), of(["b", "a"]));
    }
}
