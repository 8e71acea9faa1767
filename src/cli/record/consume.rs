//! `ringmq record consume`: the records of a topic as lines, up to its present end or for ever.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use anyhow::{Context, bail};
use clap::Args;

use super::json;
use crate::cli::client::check;
use crate::cli::cluster::{Cluster, Topic};
use crate::cli::time;
use crate::codec::record_batch::Batches;
use crate::codec::records::{InflatedBatch, Record};
use crate::kafka::protocol::messages::fetch::{FetchPartition, FetchTopic};
use crate::kafka::protocol::messages::list_offsets::timestamp;
use crate::kafka::protocol::messages::{FetchRequest, FetchResponse};
use crate::kafka::protocol::{Array, ErrorCode, Records};

/// Of one answer, and of one partition in it.
const FETCH_BYTES: i32 = 16 << 20;
const PARTITION_BYTES: i32 = 1 << 20;
/// How long a broker holds a request that it has nothing for.
const WAIT_MS: i32 = 500;
/// What the records of one batch may inflate to.
const INFLATED_BYTES_MAX: usize = 256 << 20;

/// Read records, up to the present end of the topic or for ever
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    topic: String,
    /// Where to begin: beginning, end, an offset, or a moment like 2026-11-25T08:00:00Z
    #[arg(long, default_value = "beginning", value_name = "WHERE", value_parser = parse_from)]
    from: From,
    /// Only this partition; may be repeated
    #[arg(long = "partition", value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partitions: Vec<i32>,
    /// Stop after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// Go on when everything is read, and wait for more
    #[arg(long)]
    follow: bool,
    /// One JSON object a line; binary safe
    #[arg(long)]
    json: bool,
    /// Print the key before the value
    #[arg(long, conflicts_with = "json")]
    keys: bool,
    /// Print the headers before the value, as name=value,...
    #[arg(long, conflicts_with = "json")]
    headers: bool,
    /// Print partition, offset and time before the value
    #[arg(long, conflicts_with = "json")]
    positions: bool,
    /// What stands between the parts of a line; a tab if not given
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "\t",
        hide_default_value = true,
        conflicts_with = "json"
    )]
    separator: String,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Beginning,
    End,
    Offset(i64),
    Time(i64),
}

fn parse_from(text: &str) -> Result<From, String> {
    match text {
        "beginning" => Ok(From::Beginning),
        "end" => Ok(From::End),
        _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map(From::Offset).map_err(|_| "no offset is so large".to_owned())
        }
        _ => time::parse(text)
            .map(From::Time)
            .map_err(|_| format!("expected beginning, end, an offset, or a moment like {}", time::FORMS)),
    }
}

pub fn run(bootstrap: &str, args: &ConsumeArgs) -> anyhow::Result<()> {
    let mut cluster = Cluster::connect(bootstrap)?;
    let mut topic = cluster.topic(&args.topic)?;
    let partitions: Vec<i32> = match &args.partitions[..] {
        [] => topic.leaders.keys().copied().collect(),
        some => some.to_vec(),
    };
    let ends = cluster.offsets(&topic, &partitions, timestamp::LATEST)?;
    let next = begin(&mut cluster, &topic, &partitions, &ends, args.from)?;
    let left = args.max.unwrap_or(u64::MAX);
    let printer = Printer { args, out: BufWriter::new(io::stdout().lock()), left };
    let mut reading = Reading { next, ends, printer };
    while cluster.of_topic(&mut topic, |cluster, topic| reading.round(cluster, topic))? {}
    Ok(())
}

/// The first offset to read of each partition.
fn begin(
    cluster: &mut Cluster,
    topic: &Topic,
    partitions: &[i32],
    ends: &BTreeMap<i32, i64>,
    from: From,
) -> anyhow::Result<BTreeMap<i32, i64>> {
    let starts = cluster.offsets(topic, partitions, timestamp::EARLIEST)?;
    Ok(match from {
        From::Beginning => starts,
        From::End => ends.clone(),
        From::Offset(offset) => {
            starts.iter().map(|(partition, start)| (*partition, offset.max(*start))).collect()
        }
        From::Time(ms) => {
            let found = cluster.offsets(topic, partitions, ms)?;
            // -1: all records are older.
            let or_end = |(partition, offset): (&i32, &i64)| {
                (*partition, if *offset < 0 { ends[partition] } else { *offset })
            };
            found.iter().map(or_end).collect()
        }
    })
}

struct Reading<'a> {
    next: BTreeMap<i32, i64>,
    /// Where the partitions ended when we began.
    ends: BTreeMap<i32, i64>,
    printer: Printer<'a>,
}

impl Reading<'_> {
    /// Asks every leader once. Whether there is more to be read.
    fn round(&mut self, cluster: &mut Cluster, topic: &Topic) -> anyhow::Result<bool> {
        if self.printer.left == 0 {
            return Ok(false);
        }
        let follow = self.printer.args.follow;
        let unread = self.next.iter().filter(|(partition, next)| follow || **next < self.ends[partition]);
        let unread: Vec<i32> = unread.map(|(partition, _)| *partition).collect();
        if unread.is_empty() {
            return Ok(false);
        }
        let by_leader = topic.by_leader(&unread)?;
        // Every leader is waited for in turn.
        let wait_ms = WAIT_MS / by_leader.len() as i32;
        for (leader, partitions) in by_leader {
            self.fetch(cluster, topic, leader, &partitions, wait_ms)?;
        }
        Ok(true)
    }

    fn fetch(
        &mut self,
        cluster: &mut Cluster,
        topic: &Topic,
        leader: i32,
        partitions: &[i32],
        wait_ms: i32,
    ) -> anyhow::Result<()> {
        let asked = partitions.iter().map(|partition| FetchPartition {
            partition: *partition,
            fetch_offset: self.next[partition],
            partition_max_bytes: PARTITION_BYTES,
            ..Default::default()
        });
        let asked = FetchTopic { topic: &topic.name, topic_id: topic.id, partitions: asked.collect() };
        let request = FetchRequest {
            max_wait_ms: wait_ms,
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            topics: Array::from_elem(asked, 1),
            ..Default::default()
        };
        let mut gone = Vec::new();
        let response: FetchResponse<'_> = cluster.node(leader)?.ask(&request)?;
        check(response.error_code, None).with_context(|| format!("read topic {:?}", topic.name))?;
        for one in response.responses.iter().flat_map(|topic| &topic.partitions) {
            let partition = one.partition_index;
            let Some(next) = self.next.get_mut(&partition) else { continue };
            let place = || format!("read partition {partition} of topic {:?} at offset {next}", topic.name);
            if one.error_code == ErrorCode::OFFSET_OUT_OF_RANGE && *next < one.log_start_offset.max(0) {
                gone.push(partition);
                continue;
            }
            check(one.error_code, None).with_context(place)?;
            if let Records::Bytes(bytes) = one.records {
                *next = self.printer.batches(&topic.name, partition, *next, bytes).with_context(place)?;
            }
        }
        drop(response);
        self.printer.out.flush()?;
        if !gone.is_empty() {
            // Retention was faster than we.
            let starts = cluster.offsets_now(topic, &gone, timestamp::EARLIEST)?;
            for (partition, start) in starts {
                let next = self.next.insert(partition, start).unwrap_or_default();
                eprintln!("ringmq: partition {partition}: offsets {next} to {} are deleted", start - 1);
            }
        }
        Ok(())
    }
}

struct Printer<'a> {
    args: &'a ConsumeArgs,
    out: BufWriter<io::StdoutLock<'static>>,
    left: u64,
}

impl Printer<'_> {
    /// Prints the records from an offset on; the next one to read.
    fn batches(&mut self, topic: &str, partition: i32, from: i64, bytes: &[u8]) -> anyhow::Result<i64> {
        let mut next = from;
        let mut batches = Batches::new(bytes);
        for batch in &mut batches {
            let batch = batch?;
            batch.verify_crc()?;
            // Markers of transactions are not for readers.
            if !batch.is_control() {
                let batch = InflatedBatch::open(batch, INFLATED_BYTES_MAX)?;
                for record in batch.records() {
                    let record = record?;
                    if record.offset.0 < next {
                        continue;
                    }
                    if self.left == 0 {
                        return Ok(next);
                    }
                    self.record(topic, partition, &record)?;
                    self.left -= 1;
                    next = record.offset.0 + 1;
                }
            }
            next = next.max(batch.end_offset().0);
        }
        if next == from && !batches.remainder().is_empty() {
            bail!(
                "a batch larger than {PARTITION_BYTES} bytes was cut off; the broker is to send the first whole"
            );
        }
        Ok(next)
    }

    fn record(&mut self, topic: &str, partition: i32, record: &Record<'_>) -> anyhow::Result<()> {
        let ConsumeArgs { json, keys, headers, positions, separator, .. } = self.args;
        let (out, separator) = (&mut self.out, separator.as_bytes());
        if *json {
            out.write_all(json::write(topic, partition, record)?.as_bytes())?;
        } else {
            if *positions {
                write!(out, "{partition}")?;
                out.write_all(separator)?;
                write!(out, "{}", record.offset.0)?;
                out.write_all(separator)?;
                out.write_all(time::format(record.timestamp).as_bytes())?;
                out.write_all(separator)?;
            }
            if *keys {
                out.write_all(record.key.unwrap_or_default())?;
                out.write_all(separator)?;
            }
            if *headers {
                for (index, (name, value)) in record.headers.enumerate() {
                    out.write_all(if index > 0 { b"," } else { b"" })?;
                    out.write_all(name)?;
                    out.write_all(b"=")?;
                    out.write_all(value.unwrap_or_default())?;
                }
                out.write_all(separator)?;
            }
            out.write_all(record.value.unwrap_or_default())?;
        }
        Ok(out.write_all(b"\n")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin() {
        assert_eq!(parse_from("beginning"), Ok(From::Beginning));
        assert_eq!(parse_from("end"), Ok(From::End));
        assert_eq!(parse_from("17"), Ok(From::Offset(17)));
        assert_eq!(parse_from("1970-01-01T00:00:01Z"), Ok(From::Time(1000)));
        assert_eq!(parse_from("@5"), Ok(From::Time(5)));
        for text in ["", "-1", "start", "99999999999999999999"] {
            assert!(parse_from(text).is_err(), "{text}");
        }
    }
}
