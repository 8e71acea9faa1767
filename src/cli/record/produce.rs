//! `ringmq record produce`: each line of stdin is a record, sent as soon as it is there.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::sync::mpsc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::json::{self, Input};
use super::partitioner;
use crate::cli::client::check;
use crate::cli::cluster::{Cluster, Topic};
use crate::cli::output::{Output, output};
use crate::codec::batch_builder::{BatchBuilder, Header};
use crate::codec::compression::Compression;
use crate::kafka::protocol::Array;
use crate::kafka::protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use crate::kafka::protocol::messages::{ProduceRequest, ProduceResponse};

/// Lines that are read ahead, and so the most records of one round.
const LINES_AHEAD: usize = 4096;
/// Bytes of one batch, beyond which it is sent; brokers take about a MiB.
const BATCH_BYTES: usize = 512 << 10;
/// How long the broker may wait for its replicas.
const TIMEOUT_MS: i32 = 30_000;

/// Write a record for each line of standard input
///
/// At least once: what a leader that is moving has refused is written again, and may be there twice.
#[derive(Debug, Args)]
pub struct ProduceArgs {
    topic: String,
    /// Each line is a JSON object with key, value, headers, partition, timestamp, all optional; the report is JSON, too
    #[arg(long)]
    json: bool,
    /// What stands between key and value in each line; without it there are only values
    #[arg(long, value_name = "TEXT", conflicts_with = "json", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key_separator: Option<String>,
    /// All records go to this partition. By default those with a key go where Kafka's clients send them, and others
    /// to one partition after the other
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Who must have a record before it counts as written
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Acks {
    All,
    #[value(name = "1")]
    Leader,
    #[value(name = "0")]
    Nobody,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Compression {
        match codec {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        }
    }
}

/// Where the records are now.
#[derive(Serialize)]
struct Report {
    topic: String,
    records: u64,
    /// Empty when nobody acknowledges.
    partitions: Vec<Written>,
}

#[derive(Serialize)]
struct Written {
    partition: i32,
    records: u64,
    /// Offsets of the first and of the last record. Between them may be those of others.
    first: i64,
    last: i64,
}

impl Output for Report {
    fn text(&self) -> String {
        let s = |count: u64| if count == 1 { "" } else { "s" };
        if self.partitions.is_empty() && self.records > 0 {
            return format!("{} record{} sent to {}\n", self.records, s(self.records), self.topic);
        }
        let mut text = format!("{} record{} written to {}\n", self.records, s(self.records), self.topic);
        for Written { partition, records, first, last } in &self.partitions {
            let offsets = if first == last { format!(" {first}") } else { format!("s {first} to {last}") };
            text += &format!("partition {partition}: {records} record{}, offset{offsets}\n", s(*records));
        }
        text
    }
}

pub fn run(bootstrap: &str, args: &ProduceArgs) -> anyhow::Result<()> {
    let mut cluster = Cluster::connect(bootstrap)?;
    let topic = cluster.topic(&args.topic)?;
    if let Some(partition) = args.partition {
        topic.find(partition)?;
    }
    let mut producer = Producer { cluster, topic, args, next: 0, written: BTreeMap::new(), records: 0 };
    let result = producer.run();
    let report = producer.report();
    if let Err(error) = result {
        // What was written is written, and the user has to know.
        bail!("{error:#}\n{}", report.text().trim_end());
    }
    crate::cli::print(&output(args.json, &report)?)
}

struct Producer<'a> {
    cluster: Cluster,
    topic: Topic,
    args: &'a ProduceArgs,
    /// Whose turn it is among the partitions, for records without a key.
    next: usize,
    written: BTreeMap<i32, Written>,
    records: u64,
}

impl Producer<'_> {
    /// Takes what has been typed until now, sends it, and takes again.
    fn run(&mut self) -> anyhow::Result<()> {
        let lines = lines();
        let mut number = 0_u64;
        while let Ok(first) = lines.recv() {
            let mut batches: BTreeMap<i32, Vec<Input>> = BTreeMap::new();
            let mut bytes = 0;
            let mut next = Some(first);
            // Those without a key share a partition, and with it a batch.
            self.next += 1;
            while let Some(line) = next {
                number += 1;
                let line = line.context("standard input")?;
                bytes += line.len();
                let input = input(&line, self.args).with_context(|| format!("line {number}"))?;
                batches.entry(self.partition(&input)?).or_default().push(input);
                next = if bytes < BATCH_BYTES { lines.try_recv().ok() } else { None };
            }
            for (partition, inputs) in batches {
                self.send(partition, &inputs)?;
            }
        }
        Ok(())
    }

    fn partition(&self, input: &Input) -> anyhow::Result<i32> {
        if let Some(partition) = self.args.partition.or(input.partition) {
            self.topic.find(partition)?;
            return Ok(partition);
        }
        let partitions: Vec<i32> = self.topic.leaders.keys().copied().collect();
        ensure!(!partitions.is_empty(), "topic {:?} has no partitions", self.topic.name);
        let index = match &input.key {
            Some(key) => partitioner::of_key(key, partitions.len()),
            None => self.next % partitions.len(),
        };
        Ok(partitions[index])
    }

    fn send(&mut self, partition: i32, inputs: &[Input]) -> anyhow::Result<()> {
        let batch = batch(inputs, self.args.compression.into());
        let acks = self.args.acks;
        let base_offset = self.cluster.of_topic(&mut self.topic, |cluster, topic| {
            write(cluster, topic, partition, &batch, acks)
                .with_context(|| format!("write to partition {partition} of topic {:?}", topic.name))
        })?;
        let count = inputs.len() as u64;
        let Some(first) = base_offset else {
            self.records += count;
            return Ok(());
        };
        let last = first + inputs.len() as i64 - 1;
        let written = self.written.entry(partition).or_insert(Written { partition, records: 0, first, last });
        written.records += count;
        written.last = last;
        self.records += count;
        Ok(())
    }

    fn report(self) -> Report {
        let partitions = self.written.into_values().collect();
        Report { topic: self.topic.name, records: self.records, partitions }
    }
}

/// The offset of the first record, if somebody acknowledges it.
fn write(
    cluster: &mut Cluster,
    topic: &Topic,
    partition: i32,
    batch: &[u8],
    acks: Acks,
) -> anyhow::Result<Option<i64>> {
    let data = PartitionProduceData { index: partition, records: Some(batch) };
    let data =
        TopicProduceData { name: &topic.name, topic_id: topic.id, partition_data: Array::from_elem(data, 1) };
    let wire_acks = match acks {
        Acks::All => -1,
        Acks::Leader => 1,
        Acks::Nobody => 0,
    };
    let request = ProduceRequest {
        acks: wire_acks,
        timeout_ms: TIMEOUT_MS,
        topic_data: Array::from_elem(data, 1),
        ..Default::default()
    };
    let leader = cluster.node(topic.leader(partition)?)?;
    if acks == Acks::Nobody {
        leader.tell(&request)?;
        return Ok(None);
    }
    let response: ProduceResponse<'_> = leader.ask(&request)?;
    let answer = response.responses.first().and_then(|topic| topic.partition_responses.first());
    let answer = answer.context("the broker says nothing about the partition")?;
    check(answer.error_code, answer.error_message)?;
    Ok(Some(answer.base_offset))
}

/// The lines of standard input without their ends, read by a thread of their own: what is there can be
/// sent while the next line is being typed.
fn lines() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::sync_channel(LINES_AHEAD);
    std::thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n') {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn input(line: &[u8], args: &ProduceArgs) -> anyhow::Result<Input> {
    if args.json {
        return json::read(line);
    }
    let Some(separator) = args.key_separator.as_deref().map(str::as_bytes) else {
        return Ok(Input { value: Some(line.to_owned()), ..Default::default() });
    };
    let at = line.windows(separator.len()).position(|window| window == separator);
    let at =
        at.with_context(|| format!("no {:?} in it", args.key_separator.as_deref().unwrap_or_default()))?;
    let (key, value) = (line[..at].to_owned(), line[at + separator.len()..].to_owned());
    Ok(Input { key: Some(key), value: Some(value), ..Default::default() })
}

fn batch(inputs: &[Input], compression: Compression) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let mut batch = BatchBuilder::new(compression);
    for Input { timestamp, key, value, headers, .. } in inputs {
        let headers: Vec<Header<'_>> =
            headers.iter().map(|(key, value)| (&**key, value.as_deref())).collect();
        batch.push(timestamp.unwrap_or(now), key.as_deref(), value.as_deref(), &headers);
    }
    batch.finish()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn args(json: bool, key_separator: Option<&str>) -> ProduceArgs {
        ProduceArgs {
            topic: "t".into(),
            json,
            key_separator: key_separator.map(str::to_owned),
            partition: None,
            acks: Acks::All,
            compression: Codec::None,
        }
    }

    #[test]
    fn lines_become_records() {
        let plain = input(b"a:b", &args(false, None)).expect("a value");
        assert_eq!((plain.key, plain.value), (None, Some(b"a:b".to_vec())));
        let keyed = input(b"a::b::c", &args(false, Some("::"))).expect("a key and a value");
        assert_eq!((keyed.key, keyed.value), (Some(b"a".to_vec()), Some(b"b::c".to_vec())));
        assert!(input(b"ab", &args(false, Some(":"))).is_err());
        let json = input(br#"{"key": "k", "value": null}"#, &args(true, None)).expect("JSON");
        assert_eq!((json.key, json.value), (Some(b"k".to_vec()), None));
        assert!(input(b"a", &args(true, None)).is_err());
    }

    #[test]
    fn the_report() {
        let written = |partition, records, first, last| Written { partition, records, first, last };
        let partitions = vec![written(0, 2, 5, 6), written(3, 1, 0, 0)];
        let report = Report { topic: "t".into(), records: 3, partitions };
        expect![[r#"
            3 records written to t
            partition 0: 2 records, offsets 5 to 6
            partition 3: 1 record, offset 0
        "#]]
        .assert_eq(&report.text());
        let sent = Report { topic: "t".into(), records: 1, partitions: vec![] };
        assert_eq!(sent.text(), "1 record sent to t\n");
        let nothing = Report { topic: "t".into(), records: 0, partitions: vec![] };
        assert_eq!(nothing.text(), "0 records written to t\n");
    }
}
