//! What one shard counts. Plain numbers of the shard's own thread: recording is a few additions.
//!
//! Nothing here is shared. Whoever wants to look asks by mail and gets a [`ShardSnapshot`]: a copy.
//! Counters only grow, so that rates are the reader's business and a lost scrape loses nothing.

use rustc_hash::FxHashMap;

pub mod distribution;
pub mod latency;

use crate::model::{LogId, Position, ShardId};
use distribution::Distribution;
use latency::{ProduceLatency, ProduceStamps};

/// A number as it is exposed.
#[derive(Clone, Copy, Debug)]
pub struct Exposed {
    pub name: &'static str,
    pub help: &'static str,
    pub value: u64,
}

/// Declares a struct of numbers that are exposed under a name and merge by adding.
macro_rules! numbers {
    ($(#[$struct_doc:meta])* $struct:ident { $(#[doc = $doc:literal] $field:ident => $name:literal,)* }) => {
        $(#[$struct_doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $struct {
            $(#[doc = $doc] pub $field: u64,)*
        }

        impl $struct {
            pub fn exposed(&self) -> impl Iterator<Item = Exposed> {
                [$(Exposed { name: $name, help: $doc.trim_ascii(), value: self.$field },)*].into_iter()
            }

            pub fn merge(&mut self, other: &$struct) {
                $(self.$field = self.$field.wrapping_add(other.$field);)*
            }
        }
    };
}

numbers! {
    /// Events since the shard started.
    Counters {
        /// Bytes received from clients.
        bytes_received => "ringmq_received_bytes_total",
        /// Bytes sent to clients.
        bytes_sent => "ringmq_sent_bytes_total",
        /// Connections accepted.
        connections_opened => "ringmq_connections_opened_total",
        /// Connections closed, by either side.
        connections_closed => "ringmq_connections_closed_total",
        /// Connections turned away because there were too many.
        connections_refused => "ringmq_connections_refused_total",
        /// Connections closed because they held memory, did not go on, and it had run short.
        connections_stuck => "ringmq_connections_stuck_total",
        /// Connections closed because of bytes that are not the protocol's.
        protocol_errors => "ringmq_protocol_errors_total",
        /// Requests with an API key or version that is not served.
        requests_unknown => "ringmq_requests_unknown_total",
        /// Records appended.
        records_produced => "ringmq_produced_records_total",
        /// Record batches appended.
        batches_produced => "ringmq_produced_batches_total",
        /// Bytes of record batches appended.
        produced_bytes => "ringmq_produced_bytes_total",
        /// Bytes of record batches sent to consumers.
        fetched_bytes => "ringmq_fetched_bytes_total",
        /// Fetch requests that got no session because its memory was used up.
        fetch_sessions_refused => "ringmq_fetch_sessions_refused_total",
        /// Entries written to logs.
        entries_written => "ringmq_log_entries_total",
        /// Blocks written to logs: one group commit each.
        blocks_written => "ringmq_log_blocks_total",
        /// Bytes of blocks written, padding included.
        block_bytes => "ringmq_log_block_bytes_total",
        /// Padding in blocks, up to the unit of direct IO.
        block_padding_bytes => "ringmq_log_block_padding_bytes_total",
        /// Reads from the device for consumers that are behind the tail.
        cold_reads => "ringmq_cold_reads_total",
        /// Bytes of such reads.
        cold_read_bytes => "ringmq_cold_read_bytes_total",
        /// Batches from clients with a wrong checksum.
        batch_crc_errors => "ringmq_batch_crc_errors_total",
        /// Stored bytes that were read back with a wrong checksum.
        stored_crc_errors => "ringmq_stored_crc_errors_total",
        /// Device operations that failed. A failed write stops its log.
        device_errors => "ringmq_device_errors_total",
        /// Turns of the shard's loop.
        turns => "ringmq_turns_total",
        /// Times the shard slept in the kernel.
        sleeps => "ringmq_sleeps_total",
    }
}

numbers! {
    /// How much there is now. The shard sets these when it takes a snapshot.
    Gauges {
        /// Connections that are open.
        connections => "ringmq_connections",
        /// Requests received and not yet answered.
        requests_in_flight => "ringmq_requests_in_flight",
        /// Fetch requests that wait for data.
        fetches_parked => "ringmq_fetches_parked",
        /// Fetch sessions: consumers that name their partitions once.
        fetch_sessions => "ringmq_fetch_sessions",
        /// Memory of fetch sessions.
        fetch_session_bytes => "ringmq_fetch_session_bytes",
        /// Bytes of requests and responses that connections hold.
        buffered_bytes => "ringmq_buffered_bytes",
        /// Most bytes that they may take (kafka.shard_memory_max).
        buffered_bytes_max => "ringmq_buffered_bytes_max",
        /// Connections that are not read from because memory is short.
        connections_waiting => "ringmq_connections_waiting",
        /// Partitions hosted.
        partitions => "ringmq_partitions",
        /// Memory of recently written records, and of those that readers still hold.
        tail_cache_bytes => "ringmq_tail_cache_bytes",
        /// Memory of records read back, likewise.
        read_cache_bytes => "ringmq_read_cache_bytes",
    }
}

/// The state of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogGauges {
    pub log: LogId,
    /// Ends of what was appended, and of what survives power loss.
    pub appended: Position,
    pub durable: Position,
    /// Bytes of all its segments, and of the entries in them that somebody can still read.
    pub segment_bytes: u64,
    pub live_bytes: u64,
    /// Segments, and how many of them are empty and ready.
    pub segments: u64,
    pub segments_ready: u64,
    /// Blocks on their way to the device.
    pub blocks_in_flight: u64,
    /// Idempotent producers remembered, once for each partition that they wrote to, and how many were forgotten
    /// because there are too many.
    pub producers: u64,
    pub producers_evicted: u64,
    /// Groups that have members or had some lately, those that have committed something, and the memory of all.
    pub groups: u64,
    pub groups_with_offsets: u64,
    pub groups_bytes: u64,
    /// The log stopped after a failed write.
    pub failed: bool,
}

/// Requests by API key and version. Fixed in size: what does not fit is no API of ours.
#[derive(Clone, Debug)]
struct RequestCounts(Vec<u64>);

impl RequestCounts {
    const API_KEYS: usize = 96;
    const VERSIONS: usize = 24;

    fn new() -> RequestCounts {
        RequestCounts(vec![0; RequestCounts::API_KEYS * RequestCounts::VERSIONS])
    }

    #[inline]
    fn slot(&mut self, api_key: i16, version: i16) -> Option<&mut u64> {
        let (api_key, version) = (usize::try_from(api_key).ok()?, usize::try_from(version).ok()?);
        if api_key >= RequestCounts::API_KEYS || version >= RequestCounts::VERSIONS {
            return None;
        }
        Some(&mut self.0[api_key * RequestCounts::VERSIONS + version])
    }
}

/// The numbers of one shard.
#[derive(Clone, Debug)]
pub struct ShardStats {
    pub counters: Counters,
    pub gauges: Gauges,
    requests: RequestCounts,
    /// By API key and wire error code. Both are ours, so their number is bounded.
    errors: FxHashMap<(i16, i16), u64>,
    produce: ProduceLatency,
    /// By API key, made at an API's first request.
    durations: Vec<Option<Box<Distribution>>>,
    device_write: Distribution,
    block_bytes: Distribution,
    cold_read: Distribution,
}

/// A copy of a shard's numbers.
#[derive(Clone, Debug)]
pub struct ShardSnapshot {
    pub shard: ShardId,
    pub stats: ShardStats,
    pub logs: Vec<LogGauges>,
}

impl Default for ShardStats {
    fn default() -> ShardStats {
        ShardStats {
            counters: Counters::default(),
            gauges: Gauges::default(),
            requests: RequestCounts::new(),
            errors: FxHashMap::default(),
            produce: ProduceLatency::default(),
            durations: vec![None; RequestCounts::API_KEYS],
            device_write: Distribution::of_nanos(),
            block_bytes: Distribution::of_bytes(),
            cold_read: Distribution::of_nanos(),
        }
    }
}

impl ShardStats {
    /// A request came in whose header could be read.
    #[inline]
    pub fn record_request(&mut self, api_key: i16, version: i16) {
        match self.requests.slot(api_key, version) {
            Some(count) => *count += 1,
            None => self.counters.requests_unknown += 1,
        }
    }

    /// A response carries an error code (not 0), once per code or once per partition, as it is sent.
    pub fn record_error(&mut self, api_key: i16, error_code: i16) {
        *self.errors.entry((api_key, error_code)).or_default() += 1;
    }

    /// A produce request that waited for durability was answered.
    #[inline]
    pub fn record_produce(&mut self, stamps: &ProduceStamps) {
        self.produce.record(stamps);
    }

    /// Any other request was answered, `nanos` after its last byte came in.
    #[inline]
    pub fn record_duration(&mut self, api_key: i16, nanos: u64) {
        let slot = usize::try_from(api_key).ok().and_then(|api_key| self.durations.get_mut(api_key));
        if let Some(slot) = slot {
            slot.get_or_insert_with(|| Box::new(Distribution::of_nanos())).record(nanos);
        }
    }

    /// A block is durable.
    #[inline]
    pub fn record_block(&mut self, block_bytes: u64, padding_bytes: u64, entry_count: u64, write_nanos: u64) {
        self.counters.blocks_written += 1;
        self.counters.block_bytes += block_bytes;
        self.counters.block_padding_bytes += padding_bytes;
        self.counters.entries_written += entry_count;
        self.block_bytes.record(block_bytes);
        self.device_write.record(write_nanos);
    }

    /// A read for consumers behind the tail completed.
    pub fn record_cold_read(&mut self, bytes: u64, nanos: u64) {
        self.counters.cold_reads += 1;
        self.counters.cold_read_bytes += bytes;
        self.cold_read.record(nanos);
    }

    /// A copy for whoever looks. Costs the shard about 20 µs: some 0.3 MB of distributions.
    pub fn snapshot(&self, shard: ShardId, logs: Vec<LogGauges>) -> ShardSnapshot {
        ShardSnapshot { shard, stats: self.clone(), logs }
    }

    /// Adds another shard's numbers.
    pub fn merge(&mut self, other: &ShardStats) {
        self.counters.merge(&other.counters);
        self.gauges.merge(&other.gauges);
        for (mine, theirs) in self.requests.0.iter_mut().zip(&other.requests.0) {
            *mine += theirs;
        }
        for (&key, count) in &other.errors {
            *self.errors.entry(key).or_default() += count;
        }
        self.produce.merge(&other.produce);
        for (mine, theirs) in self.durations.iter_mut().zip(&other.durations) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => mine.merge(theirs),
                (mine @ None, theirs) => mine.clone_from(theirs),
                (Some(_), None) => {}
            }
        }
        self.device_write.merge(&other.device_write);
        self.block_bytes.merge(&other.block_bytes);
        self.cold_read.merge(&other.cold_read);
    }

    pub fn produce(&self) -> &ProduceLatency {
        &self.produce
    }

    pub fn device_write(&self) -> &Distribution {
        &self.device_write
    }

    pub fn block_bytes(&self) -> &Distribution {
        &self.block_bytes
    }

    pub fn cold_read(&self) -> &Distribution {
        &self.cold_read
    }

    /// API key, version, count; in order, without zeros.
    pub fn requests(&self) -> impl Iterator<Item = (i16, i16, u64)> {
        let versions = RequestCounts::VERSIONS;
        let place = move |(index, &count)| ((index / versions) as i16, (index % versions) as i16, count);
        self.requests.0.iter().enumerate().map(place).filter(|&(.., count)| count > 0)
    }

    /// API key, error code, count; in order.
    pub fn errors(&self) -> Vec<(i16, i16, u64)> {
        let mut errors: Vec<_> =
            self.errors.iter().map(|(&(api_key, code), &count)| (api_key, code, count)).collect();
        errors.sort_unstable();
        errors
    }

    /// API key and how long its requests took; in order.
    pub fn durations(&self) -> impl Iterator<Item = (i16, &Distribution)> {
        self.durations
            .iter()
            .enumerate()
            .filter_map(|(api_key, slot)| Some((api_key as i16, slot.as_deref()?)))
    }
}

/// Sums up all shards.
pub fn merged(snapshots: &[ShardSnapshot]) -> ShardStats {
    let mut sum = ShardStats::default();
    for snapshot in snapshots {
        sum.merge(&snapshot.stats);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_add_up() {
        let mut left = ShardStats::default();
        left.counters.bytes_received = 5;
        left.gauges.connections = 1;
        left.record_request(0, 9);
        left.record_request(0, 9);
        left.record_request(-1, 0);
        left.record_request(i16::MAX, i16::MAX);
        left.record_error(0, 3);
        left.record_duration(1, 1_000);
        let mut right = ShardStats::default();
        right.counters.bytes_received = 7;
        right.gauges.connections = 2;
        right.record_request(1, 12);
        right.record_error(0, 3);
        right.record_error(1, -1);
        right.record_duration(1, 3_000);
        right.record_duration(3, 3_000);
        right.record_block(8192, 100, 3, 90_000);

        let snapshots = [left.snapshot(ShardId(0), Vec::new()), right.snapshot(ShardId(1), Vec::new())];
        let sum = merged(&snapshots);

        assert_eq!(sum.counters.bytes_received, 12);
        assert_eq!(sum.counters.requests_unknown, 2);
        assert_eq!(sum.gauges.connections, 3);
        assert_eq!(sum.requests().collect::<Vec<_>>(), [(0, 9, 2), (1, 12, 1)]);
        assert_eq!(sum.errors(), [(0, 3, 2), (1, -1, 1)]);
        let durations: Vec<_> = sum.durations().map(|(api, all)| (api, all.count(), all.sum())).collect();
        assert_eq!(durations, [(1, 2, 4_000), (3, 1, 3_000)]);
        assert_eq!((sum.block_bytes().sum(), sum.device_write().count()), (8192, 1));
    }
}
