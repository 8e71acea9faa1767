//! One configuration; every value knows where it came from.
//!
//! Defaults, then a TOML file, then the environment, then flags: each layer overrides the one before.
//! All mistakes are collected and reported together, each with its place and with what to do.
//!
//! - [`schema`]: the keys, declared once
//! - [`value`]: their types and how they are written
//! - [`source`]: file, environment, flags
//! - `identity`: what keys about the broker's identity must hold

mod identity;
pub mod schema;
pub mod source;
pub mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

pub use identity::NODE_IDS_PER_BROKER;
pub use schema::{Advertise, CommitMode, Flush, KEYS, Key, LogFormat, Poll, SECTIONS, Values};
pub use source::{Assignment, Origin};
pub use value::{Auto, ByteSize, CpuList, HostPort, Limit};

/// A checked configuration. Dereferences to its [`Values`]: `config.kafka.listen`.
#[derive(Clone, Debug, Default)]
pub struct Config {
    values: Values,
    /// Origins of the keys that are not at their default.
    origins: BTreeMap<&'static str, Origin>,
}

/// Everything that may set a key, already read: loading itself touches no file and no environment.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Path and content of the configuration file.
    pub file: Option<(PathBuf, String)>,
    /// Environment variables; those of others are passed over.
    pub env: Vec<(String, String)>,
    /// From the command line; a later one overrides an earlier one.
    pub flags: Vec<Assignment>,
}

/// One mistake in the configuration.
#[derive(Clone, Debug)]
pub struct Problem {
    pub origin: Origin,
    pub message: String,
}

/// The configuration cannot be used: all the reasons.
#[derive(Debug)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl Problem {
    fn new(origin: Origin, message: impl Into<String>) -> Problem {
        Problem { origin, message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the configuration has {}",
            if self.problems.len() == 1 { "a problem" } else { "problems" }
        )?;
        for Problem { origin, message } in &self.problems {
            write!(f, "\n  {origin}: {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Deref for Config {
    type Target = Values;

    fn deref(&self) -> &Values {
        &self.values
    }
}

impl Config {
    /// Joins the sources and checks the result.
    pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        let mut problems = Vec::new();
        let mut assignments = Vec::new();
        if let Some((path, text)) = &sources.file {
            assignments.extend(source::read_toml(path, text, &mut problems));
        }
        assignments.extend(source::read_env(&sources.env, &mut problems));
        assignments.extend(sources.flags.iter().cloned());
        for assignment in assignments {
            if let Err(problem) = config.assign(assignment) {
                problems.push(problem);
            }
        }
        // Values that did not parse are at their defaults here; judging those would confuse.
        if problems.is_empty() {
            problems = config.validate();
        }
        match problems.is_empty() {
            true => Ok(config),
            false => {
                // A file is read from the top; environment and flags stay behind it, as they came.
                problems.sort_by_key(|problem| match problem.origin {
                    Origin::File { line, .. } => line,
                    _ => usize::MAX,
                });
                Err(ConfigError { problems })
            }
        }
    }

    /// Where the value of a key came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// A key whose value cannot be used for a reason that the configuration alone does not show.
    pub fn refuse(&self, key: &str, message: impl fmt::Display) -> ConfigError {
        ConfigError { problems: vec![Problem::new(self.origin(key), format!("{key}: {message}"))] }
    }

    fn assign(&mut self, Assignment { name, text, origin }: Assignment) -> Result<(), Problem> {
        match self.values.set(&name, &text) {
            Some(Ok(())) => {
                let key = find_key(&name).expect("the schema has set it");
                self.origins.insert(key.name, origin);
                Ok(())
            }
            Some(Err(why)) => Err(Problem::new(origin, format!("{name}: `{text}` {why}"))),
            None => Err(Problem::new(origin, unknown_key(&name))),
        }
    }

    /// Memory that one connection may hold.
    pub fn connection_memory_max(&self) -> u64 {
        let auto =
            || self.kafka.request_bytes_max.0 + (2 * self.kafka.fetch_bytes_max.0).max(CONNECTION_BYTES);
        self.kafka.connection_memory_max.clone().or_else(|| ByteSize(auto())).0
    }

    /// Memory that the connections of a shard may hold together.
    pub fn shard_memory_max(&self) -> u64 {
        let auto = || SHARD_MEMORY_BYTES.max(2 * self.connection_memory_max());
        self.kafka.shard_memory_max.clone().or_else(|| ByteSize(auto())).0
    }

    /// Checks what a type cannot say: ranges, and keys that must fit together.
    fn validate(&self) -> Vec<Problem> {
        let mut check = Check { config: self, problems: Vec::new() };
        let Values { server, kafka, log, telemetry, .. } = &self.values;

        check.that("server.shards", server.shards != Auto::Given(0), "must be at least 1");
        if let (Auto::Given(shards), Auto::Given(cpus)) = (&server.shards, &server.cpus) {
            let fits = usize::from(*shards) <= cpus.as_slice().len();
            check.that(
                "server.shards",
                fits,
                "is more than server.cpus has: give more CPUs, or fewer shards",
            );
        }
        if let Auto::Given(spin) = server.poll_spin {
            check.that("server.poll_spin", spin <= Duration::from_secs(1), "must be at most 1s");
        }
        check.range("server.broker_id", server.broker_id, 0, i32::MAX as u32);

        identity::check(&mut check, server, kafka);
        check.size("kafka.request_bytes_max", kafka.request_bytes_max, 4 << 10, i32::MAX as u64);
        check.range("kafka.connections_max", kafka.connections_max, 1, 10_000_000);
        check.range("kafka.connection_in_flight_max", kafka.connection_in_flight_max, 1, 100_000);
        check.range("kafka.num_partitions", kafka.num_partitions, 1, kafka.partitions_max);
        check.range("kafka.partitions_max", kafka.partitions_max, 1, i32::MAX as u32);
        check.size("kafka.message_bytes_max", kafka.message_bytes_max, 1 << 10, 1 << 30);
        check.that(
            "kafka.message_bytes_max",
            kafka.message_bytes_max.0 + REQUEST_FRAME_BYTES <= kafka.request_bytes_max.0,
            "does not fit into a request: lower it, or raise kafka.request_bytes_max",
        );
        check.size("kafka.fetch_bytes_max", kafka.fetch_bytes_max, 1 << 10, 1 << 30);
        check.size("kafka.fetch_session_bytes_max", kafka.fetch_session_bytes_max, 0, 1 << 40);
        check.range("kafka.producer_states_max", kafka.producer_states_max, 1000, 100_000_000);
        let memory = self.connection_memory_max();
        check.that(
            "kafka.connection_memory_max",
            memory >= kafka.request_bytes_max.0 + CONNECTION_BYTES,
            "does not hold a request: raise it to 1MiB more than kafka.request_bytes_max, or lower that",
        );
        check.that(
            "kafka.shard_memory_max",
            self.shard_memory_max() >= memory,
            "is less than one connection may hold: raise it, or lower kafka.connection_memory_max",
        );
        check.that("kafka.offsets_retention", !kafka.offsets_retention.is_zero(), "must be above 0");
        check.that("kafka.group_session_min", !kafka.group_session_min.is_zero(), "must be above 0");
        check.that(
            "kafka.group_session_max",
            (kafka.group_session_min..=DAY).contains(&kafka.group_session_max),
            "must be from kafka.group_session_min to 1d",
        );
        check.that("kafka.group_initial_delay", kafka.group_initial_delay <= DAY, "must be at most 1d");
        check.range("kafka.group_members_max", kafka.group_members_max, 1, 1_000_000);
        check.size("kafka.group_bytes_max", kafka.group_bytes_max, 64 << 10, 256 << 20);
        if let Auto::Given(bytes) = kafka.groups_bytes_max {
            check.size("kafka.groups_bytes_max", bytes, 64 << 10, 1 << 40);
        }

        check.size("log.segment_bytes", log.segment_bytes, SEGMENT_BYTES_MIN, 16 << 30);
        check.pages("log.segment_bytes", log.segment_bytes);
        check.size("log.initial_bytes", log.initial_bytes, INITIAL_BYTES_MIN, 1 << 50);
        check.range("log.segments_ahead", log.segments_ahead, 1, 64);
        check.size("log.block_bytes_max", log.block_bytes_max, 4 << 10, 64 << 20);
        check.pages("log.block_bytes_max", log.block_bytes_max);
        if let Auto::Given(bytes) = log.block_target_bytes {
            check.that(
                "log.block_target_bytes",
                bytes <= log.block_bytes_max,
                "is above log.block_bytes_max: lower it, or raise the other",
            );
        }
        if let Auto::Given(depth) = log.commit_depth {
            check.range("log.commit_depth", u32::from(depth), 1, 8);
        }
        check.size("log.chunk_bytes", log.chunk_bytes, 64 << 10, 64 << 20);
        check.pages("log.chunk_bytes", log.chunk_bytes);
        let smallest_segment = log.segment_bytes.0.min(log.initial_bytes.0);
        check.that(
            "kafka.message_bytes_max",
            kafka.message_bytes_max.0 <= smallest_segment / 2,
            "does not fit well into a segment: raise log.segment_bytes and log.initial_bytes to twice its size",
        );
        for (key, cache) in
            [("log.tail_cache_bytes", &log.tail_cache_bytes), ("log.read_cache_bytes", &log.read_cache_bytes)]
        {
            if let Auto::Given(bytes) = cache {
                check.size(key, *bytes, 4 * log.chunk_bytes.0, 1 << 50);
            }
        }
        check.size("log.checkpoint_bytes", log.checkpoint_bytes, 1 << 20, 1 << 50);
        check.that(
            "log.retention",
            log.retention != Limit::At(Duration::ZERO),
            "would delete everything at once: give a time, or unlimited",
        );
        check.that(
            "log.retention_bytes",
            log.retention_bytes != Limit::At(ByteSize(0)),
            "would delete everything at once: give a size, or unlimited",
        );
        if let Limit::At(bytes) = log.log_bytes_max {
            let fits = bytes.0 >= log.initial_bytes.0.max(2 * log.segment_bytes.0);
            check.that(
                "log.log_bytes_max",
                fits,
                "leaves no room for two segments: raise it, or lower log.segment_bytes and log.initial_bytes",
            );
        }
        let available = log.flush != Flush::Async;
        check.that(
            "log.flush",
            available,
            "is not available yet: an ack always means on stable storage; use sync",
        );

        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&telemetry.log) {
            check.that("telemetry.log", false, &format!("is not a filter ({error}): write for example info"));
        }
        check.problems
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a produce request holds besides its records, generously: header, topic name, counts.
const REQUEST_FRAME_BYTES: u64 = 2 << 10;

/// What a connection may need besides the largest request.
const CONNECTION_BYTES: u64 = 1 << 20;

/// Of all connections of a shard, unless one needs more.
const SHARD_MEMORY_BYTES: u64 = 512 << 20;

/// Smaller segments would spend their time in being made.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// Room for the metadata log and one data log, two small segments each.
const INITIAL_BYTES_MIN: u64 = 4 << 20;

/// Collects what is wrong with the values.
struct Check<'a> {
    config: &'a Config,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn that(&mut self, key: &str, holds: bool, message: &str) {
        if !holds {
            let value = self.config.show(key).expect("checked keys are in the schema");
            self.problems.push(Problem::new(self.config.origin(key), format!("{key}: `{value}` {message}")));
        }
    }

    fn range(&mut self, key: &str, value: u32, min: u32, max: u32) {
        self.that(key, (min..=max).contains(&value), &format!("must be from {min} to {max}"));
    }

    fn size(&mut self, key: &str, value: ByteSize, min: u64, max: u64) {
        let message = format!("must be from {} to {}", ByteSize(min), ByteSize(max));
        self.that(key, (min..=max).contains(&value.0), &message);
    }

    fn pages(&mut self, key: &str, value: ByteSize) {
        self.that(key, value.0.is_multiple_of(4096), "must be a multiple of 4KiB, the unit of direct IO");
    }
}

/// Finds a key by its name.
pub fn find_key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// "Unknown key", with the key that was probably meant.
pub fn unknown_key(name: &str) -> String {
    match nearest_key(name) {
        Some(key) => format!("unknown key `{name}`: did you mean `{key}`?"),
        None => format!("unknown key `{name}`: `ringmq config template` lists all keys"),
    }
}

/// The key that resembles `name` most, if one does; also a key that is only in another section.
fn nearest_key(name: &str) -> Option<&'static str> {
    /// Below this Jaro-Winkler similarity a suggestion is a guess.
    const SIMILARITY_MIN: f64 = 0.85;

    let (section, word) = name.split_once('.').unwrap_or(("", name));
    let similarity = |key: &Key| {
        let (key_section, key_word) = key.name.split_once('.').expect("keys have a section");
        let word = strsim::jaro_winkler(word, key_word);
        // A key in the right section wins over an equal word elsewhere.
        let whole = strsim::jaro_winkler(name, key.name);
        if section == key_section { word.max(whole) } else { (word - 0.01).max(whole - 0.1) }
    };
    let (best, score) = KEYS.iter().map(|key| (key, similarity(key))).max_by(|a, b| a.1.total_cmp(&b.1))?;
    (score >= SIMILARITY_MIN).then_some(best.name)
}

#[cfg(test)]
mod tests;
