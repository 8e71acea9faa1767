//! What a run is to do; `ringmq bench --help` says what each means to its user.

use std::net::SocketAddr;

use super::cores;
use super::engine::ReadBack;
use super::error::BenchError;
use super::interrupt::Interrupt;
use super::kafka::keys::Keys;
use super::kafka::packing::Compression;
use super::payload::{Body, HEADER_BYTES};
use super::schedule::Arrivals;
use super::topics::Topics;

/// An idempotent Kafka producer may have so many requests in flight: what brokers remember.
const IDEMPOTENT_IN_FLIGHT_MAX: usize = 5;

/// How the load is paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// As fast as the answers come.
    Closed,
    /// Records per second, on an absolute schedule.
    Open { records_per_s: f64 },
    /// Only read.
    None,
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Names the run in reports, and says which runs may be compared.
    pub label: String,
    pub bootstrap: String,
    pub topic: String,
    /// Several have names that begin with `topic`.
    pub topics: u32,
    pub topic_configs: Vec<(String, String)>,
    /// Of each topic.
    pub partitions: u32,
    pub acks: i16,
    pub idempotent: bool,
    pub keys: Keys,
    pub record_bytes: usize,
    pub body: Body,
    pub compression: Compression,
    /// With a linger, the most of them.
    pub records_per_batch: u32,
    /// A batch waits so long for more records; `None`: it has all its records when it is due.
    pub linger_ns: Option<u64>,
    pub connections: usize,
    pub in_flight: usize,
    pub load: Load,
    pub arrivals: Arrivals,
    pub seconds: u64,
    pub warmup_s: u64,
    /// What is overdue at the load's end is sent for so long, or for as long as was measured if that is
    /// longer. Then it is given up.
    pub drain_s: u64,
    /// Connections that read, of each group.
    pub consumers: usize,
    /// Groups that each read everything.
    pub groups: usize,
    /// Their members join them and commit what they read, instead of only reading what is theirs.
    pub group_protocol: bool,
    /// The most that one consumer reads while the load runs.
    pub consumer_bytes_per_s: Option<f64>,
    pub read_back: ReadBack,
    /// The load ends as soon as a cold read does, if it is over before its time. For one load thread.
    pub until_read: bool,
    /// Connect again when a connection is lost.
    pub reconnect: bool,
    /// One load thread a core; empty: one thread that is not pinned.
    pub cpus: Vec<usize>,
    /// Its processor time and memory are measured with the run.
    pub broker_pid: Option<u32>,
    /// Where the broker says which stage took the time.
    pub admin: Option<SocketAddr>,
    /// One line a second on the standard error.
    pub progress: bool,
    /// Ends the load before its time.
    pub interrupt: Interrupt,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            label: "run".to_owned(),
            bootstrap: "127.0.0.1:9092".to_owned(),
            topic: "bench".to_owned(),
            topics: 1,
            topic_configs: Vec::new(),
            partitions: 1,
            acks: -1,
            idempotent: false,
            keys: Keys::default(),
            record_bytes: 1024,
            body: Body::default(),
            compression: Compression::None,
            records_per_batch: 1,
            linger_ns: None,
            connections: 1,
            in_flight: 5,
            load: Load::Closed,
            arrivals: Arrivals::EVEN,
            seconds: 10,
            warmup_s: 2,
            drain_s: 10,
            consumers: 0,
            groups: 1,
            group_protocol: false,
            consumer_bytes_per_s: None,
            read_back: ReadBack::Nothing,
            until_read: false,
            reconnect: false,
            cpus: Vec::new(),
            broker_pid: None,
            admin: None,
            progress: false,
            interrupt: Interrupt::default(),
        }
    }
}

impl Options {
    pub fn threads(&self) -> usize {
        self.cpus.len().max(1)
    }

    /// All that are written. Only for options that were [checked](Self::check).
    pub fn topics(&self) -> Topics {
        Topics::new(&self.topic, self.topics, self.partitions)
    }

    /// Partitions of all topics together.
    pub fn partitions_total(&self) -> u64 {
        u64::from(self.topics) * u64::from(self.partitions)
    }

    /// Consumers of a group that have a partition to read. The others are idle, as in any group: they are not
    /// even connected.
    pub fn readers(&self) -> usize {
        self.consumers.min(usize::try_from(self.partitions_total()).unwrap_or(usize::MAX))
    }

    /// Seconds from the schedule's begin to its end. Without a load it is over when all is read.
    pub fn end_s(&self) -> u64 {
        match self.load {
            Load::None => u64::from(u32::MAX),
            Load::Closed | Load::Open { .. } => self.warmup_s + self.seconds,
        }
    }

    /// The first measured second.
    pub fn measured_from_s(&self) -> u64 {
        if self.load == Load::None { 0 } else { self.warmup_s }
    }

    /// What makes a run impossible, in words for its user.
    pub fn check(&self) -> Result<(), BenchError> {
        cores::check(&self.cpus)?;
        let fault = |reason: &str| Err(BenchError::Options(reason.to_owned()));
        let threads = self.threads();
        match () {
            () if self.record_bytes < HEADER_BYTES => {
                fault("a record has at least 32 bytes: the ledger's fields")
            }
            () if self.record_bytes > 64 << 20 => fault("a record has at most 64 MiB"),
            () if self.keys.bytes > 1 << 20 => fault("a key has at most 1 MiB"),
            () if self.keys.count > 0 && self.keys.bytes == 0 => fault("--keys needs --key-bytes"),
            () if self.keys.count > Keys::count_max(self.keys.bytes) => {
                fault("--keys are more than --key-bytes can tell apart")
            }
            () if self.keys.count > 0 && self.keys.count < self.partitions_total() => {
                fault("every partition needs a key of its own: more --keys or fewer --partitions")
            }
            () => match &self.body {
                Body::Random { share } if !(0.0..=1.0).contains(share) => {
                    fault("the share of random bytes is from 0 to 1")
                }
                Body::File(bytes) if bytes.len() != self.record_bytes => {
                    fault("the payload file's size must be --record-bytes")
                }
                _ => self.check_load(threads),
            },
        }
    }

    fn check_load(&self, threads: usize) -> Result<(), BenchError> {
        let fault = |reason: &str| Err(BenchError::Options(reason.to_owned()));
        match () {
            () if self.topics == 0 || self.partitions == 0 => fault("at least one topic and one partition"),
            () if self.partitions_total() > i32::MAX as u64 => fault("too many partitions"),
            () if self.linger_ns.is_some() && !matches!(self.load, Load::Open { .. }) => {
                fault("a linger needs a rate, which fills the batches")
            }
            () if self.records_per_batch == 0 => fault("a batch has at least one record"),
            () if self.in_flight == 0 || self.connections == 0 => {
                fault("at least one connection and one request in flight")
            }
            () if self.seconds == 0 && self.load != Load::None => fault("a load takes at least one second"),
            () if self.partitions_total() < threads as u64 => {
                fault("every load core needs a partition of its own: more --partitions or fewer --cpus")
            }
            () if self.until_read && threads > 1 => {
                fault("a load that ends with the cold read has one load thread")
            }
            () if self.connections < threads => fault("every load core needs a connection of its own"),
            () if self.consumers > 0 && self.consumers < threads => {
                fault("every load core needs a consumer of its own, or there are none")
            }
            () if self.groups == 0 => fault("at least one group"),
            () if self.group_protocol && self.consumers > 0 && self.read_back != ReadBack::Tail => {
                fault("members of groups read what is written: neither --verify nor --cold")
            }
            () if !(-1..=1).contains(&self.acks) => fault("acks are 0, 1 or all"),
            () if self.acks == 0 && self.read_back == ReadBack::Afterwards => {
                fault("with acks 0 nothing is acknowledged that could be verified; read it with --consumers")
            }
            () if self.acks == 0
                && matches!(self.read_back, ReadBack::Tail | ReadBack::CatchUp)
                && self.partitions_total() > 1000 =>
            {
                fault("with acks 0 nobody says which partitions have something to read: at most 1,000")
            }
            () if self.idempotent && self.acks != -1 => fault("idempotent producers need --acks all"),
            () if self.idempotent && self.in_flight > IDEMPOTENT_IN_FLIGHT_MAX => {
                fault("idempotent producers have at most 5 requests in flight")
            }
            () if self.arrivals.burst.is_some() && !matches!(self.load, Load::Open { .. }) => fault(
                "a burst needs a schedule, which a closed loop does not have: give --rate, not --closed",
            ),
            () if self.arrivals.burst.is_some_and(|burst| burst.every_s < 2 || burst.factor < 1.0) => {
                fault("a burst comes every 2 s or less often, and is at least 1 times the rate")
            }
            () if self.consumer_bytes_per_s.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) => {
                fault("a consumer's rate is above 0")
            }
            () => match self.load {
                Load::Open { records_per_s } if !(records_per_s.is_finite() && records_per_s > 0.0) => {
                    fault("a rate is above 0")
                }
                _ => Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::schedule::Burst;

    #[test]
    fn a_burst_without_a_schedule_is_refused() {
        let burst = Some(Burst { every_s: 5, factor: 10.0 });
        let arrivals = Arrivals { burst, ..Arrivals::EVEN };
        for load in [Load::Closed, Load::None] {
            let error = Options { load, arrivals, ..Options::default() }.check().unwrap_err().to_string();
            assert!(error.contains("a burst needs a schedule"), "{error}");
        }
        let load = Load::Open { records_per_s: 1.0 };
        Options { load, arrivals, ..Options::default() }.check().unwrap();
    }

    #[test]
    fn consumers_beyond_the_partitions_are_idle() {
        for (topics, partitions, consumers, readers) in
            [(1, 1, 4, 1), (2, 3, 7, 6), (1, 8, 4, 4), (1, 1, 0, 0)]
        {
            let options = Options { topics, partitions, consumers, ..Options::default() };
            options.check().unwrap();
            assert_eq!(options.readers(), readers);
        }
    }
}
