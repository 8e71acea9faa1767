//! Where the time of a produce request went.
//!
//! A request carries nine stamps; between them lie eight stages without a gap. The whole is not their sum but
//! the last stamp less the first. The two are the same as long as each stamp is taken, and in its place: one that is
//! missing or early makes the stages more than the whole, and is not smoothed over, so that tests can see it.
//!
//! Kept are a distribution of the whole and of each stage, and one table: per bucket of total latency the
//! time spent in each stage. The table is what explains a percentile, which the percentiles of the stages
//! cannot: they belong to different requests.

use serde::{Serialize, Serializer};

use super::distribution::Distribution;
use crate::model::Nanos;

/// A part of a produce request's time. Each begins where the one before ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting to be taken up: behind other requests, for room in the log, for memory, for a turn that has time.
    Admission,
    /// Decoding.
    Parse,
    /// Waiting for the shard that hosts the log.
    Queue,
    /// Checking the batches, their checksums too, and copying them into the append buffer.
    Append,
    /// Waiting for the block to be submitted: behind the blocks in flight, to the end of the turn.
    CommitWait,
    /// The device's write and sync.
    DeviceWrite,
    /// Waiting for earlier blocks to be durable as well, and for the shard to come back to it.
    Ack,
    /// Giving the response to the socket.
    Send,
}

impl Stage {
    pub const COUNT: usize = 8;

    pub const ALL: [Stage; Stage::COUNT] = [
        Stage::Admission,
        Stage::Parse,
        Stage::Queue,
        Stage::Append,
        Stage::CommitWait,
        Stage::DeviceWrite,
        Stage::Ack,
        Stage::Send,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Admission => "admission",
            Stage::Parse => "parse",
            Stage::Queue => "queue",
            Stage::Append => "append",
            Stage::CommitWait => "commit_wait",
            Stage::DeviceWrite => "device_write",
            Stage::Ack => "ack",
            Stage::Send => "send",
        }
    }
}

/// The moments of one produce request, in the order in which they come.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProduceStamps {
    /// The turn began in which its last byte was in memory.
    pub received: Nanos,
    /// It was its turn.
    pub taken: Nanos,
    /// Decoded.
    pub parsed: Nanos,
    /// The shard of its log took it up.
    pub routed: Nanos,
    /// In the append buffer.
    pub appended: Nanos,
    /// The write of its (last) block was submitted.
    pub submitted: Nanos,
    /// That write completed, sync included.
    pub written: Nanos,
    /// The log is durable past it and the response is encoded.
    pub acked: Nanos,
    /// The socket took the response's last byte.
    pub sent: Nanos,
}

impl ProduceStamps {
    /// The response is encoded: nothing is waited for any more.
    pub fn set_acked(&mut self, at: Nanos) {
        // What waited for no block has no stamps of one; and another shard may have written its part before all
        // parts were with theirs.
        self.submitted = self.submitted.max(self.appended);
        self.written = self.written.max(self.submitted);
        self.acked = at;
    }

    /// From the first stamp to the last, whatever lies between.
    #[inline]
    fn whole_nanos(&self) -> u64 {
        self.sent.since(self.received)
    }

    /// The time in each stage, of its own two stamps.
    #[inline]
    fn stage_nanos(&self) -> [u64; Stage::COUNT] {
        [
            self.taken.since(self.received),
            self.parsed.since(self.taken),
            self.routed.since(self.parsed),
            self.appended.since(self.routed),
            self.submitted.since(self.appended),
            self.written.since(self.submitted),
            self.acked.since(self.written),
            self.sent.since(self.acked),
        ]
    }
}

/// One bucket of total latency.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    count: u64,
    stage_nanos: [u64; Stage::COUNT],
}

/// Four buckets an octave of microseconds, up to 2^26 µs (67 s); the last one holds all above.
const BUCKET_COUNT: usize = 100;

fn bucket_of(total_nanos: u64) -> usize {
    let micros = total_nanos / 1000;
    if micros < 4 {
        return micros as usize;
    }
    let octave = micros.ilog2() as usize;
    let quarter = (micros >> (octave - 2)) as usize & 3;
    ((octave - 1) * 4 + quarter).min(BUCKET_COUNT - 1)
}

/// The least total, in microseconds, that falls into a bucket.
fn bucket_start_micros(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let octave = bucket / 4 + 1;
    let quarter = bucket as u64 % 4;
    (4 + quarter) << (octave - 2)
}

/// Latency of a shard's produce requests.
#[derive(Clone, Debug)]
pub struct ProduceLatency {
    whole: Distribution,
    stages: [Distribution; Stage::COUNT],
    buckets: Box<[Bucket; BUCKET_COUNT]>,
}

impl Default for ProduceLatency {
    fn default() -> ProduceLatency {
        ProduceLatency {
            whole: Distribution::of_nanos(),
            stages: std::array::from_fn(|_| Distribution::of_nanos()),
            buckets: Box::new([Bucket::default(); BUCKET_COUNT]),
        }
    }
}

impl ProduceLatency {
    #[inline]
    pub fn record(&mut self, stamps: &ProduceStamps) {
        let stage_nanos = stamps.stage_nanos();
        let total = stamps.whole_nanos();
        self.whole.record(total);
        let bucket = &mut self.buckets[bucket_of(total)];
        bucket.count += 1;
        for (stage, nanos) in stage_nanos.into_iter().enumerate() {
            self.stages[stage].record(nanos);
            bucket.stage_nanos[stage] += nanos;
        }
    }

    pub fn whole(&self) -> &Distribution {
        &self.whole
    }

    pub fn stage(&self, stage: Stage) -> &Distribution {
        &self.stages[stage as usize]
    }

    pub fn merge(&mut self, other: &ProduceLatency) {
        self.whole.merge(&other.whole);
        for (mine, theirs) in self.stages.iter_mut().zip(&other.stages) {
            mine.merge(theirs);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            mine.count += theirs.count;
            for (mine, theirs) in mine.stage_nanos.iter_mut().zip(theirs.stage_nanos) {
                *mine += theirs;
            }
        }
    }

    pub fn report(&self) -> LatencyReport {
        let bucket_report = |(index, bucket): (usize, &Bucket)| BucketReport {
            from_us: bucket_start_micros(index),
            to_us: (index + 1 < BUCKET_COUNT).then(|| bucket_start_micros(index + 1)),
            count: bucket.count,
            stage_sum_us: ByStage(bucket.stage_nanos.map(micros)),
        };
        let filled = self.buckets.iter().enumerate().filter(|(_, bucket)| bucket.count > 0);
        LatencyReport {
            requests: self.whole.count(),
            total: Percentiles::of(&self.whole),
            stages: ByStage(Stage::ALL.map(|stage| Percentiles::of(self.stage(stage)))),
            tails: [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)]
                .into_iter()
                .filter_map(|(name, share)| self.tail(name, share))
                .collect(),
            buckets: filled.map(bucket_report).collect(),
        }
    }

    /// What the slowest requests have in common: those in the bucket of a percentile and above.
    fn tail(&self, name: &'static str, share: f64) -> Option<Tail> {
        let start = bucket_of(self.whole.quantile(share));
        let tail = &self.buckets[start..];
        let count: u64 = tail.iter().map(|bucket| bucket.count).sum();
        if count == 0 {
            return None;
        }
        let stage_sum =
            |stage: Stage| tail.iter().map(|bucket| bucket.stage_nanos[stage as usize]).sum::<u64>();
        let slowest = Stage::ALL.into_iter().max_by_key(|&stage| stage_sum(stage)).expect("there are stages");
        Some(Tail {
            above: name,
            from_us: bucket_start_micros(start),
            count,
            slowest_stage: slowest.name(),
            stage_mean_us: ByStage(Stage::ALL.map(|stage| micros(stage_sum(stage)) / count as f64)),
        })
    }
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

/// `/latency`: all times in microseconds, everything since the start of the broker.
#[derive(Debug, Serialize)]
pub struct LatencyReport {
    /// Acknowledged produce requests.
    requests: u64,
    /// The whole request: last byte in to last byte out.
    total: Percentiles,
    stages: ByStage<Percentiles>,
    /// The requests at or above a percentile, and in which stage they spent their time.
    tails: Vec<Tail>,
    /// Every bucket of total latency that is not empty.
    buckets: Vec<BucketReport>,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    mean_us: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    #[serde(rename = "p99.9_us")]
    p99_9_us: f64,
    #[serde(rename = "p99.99_us")]
    p99_99_us: f64,
    max_us: f64,
}

#[derive(Debug, Serialize)]
struct Tail {
    above: &'static str,
    /// Start of the percentile's bucket: the tail begins here, at most a quarter early.
    from_us: u64,
    count: u64,
    slowest_stage: &'static str,
    stage_mean_us: ByStage<f64>,
}

#[derive(Debug, Serialize)]
struct BucketReport {
    from_us: u64,
    /// The bucket ends before this; the last one has no end.
    to_us: Option<u64>,
    count: u64,
    stage_sum_us: ByStage<f64>,
}

/// A value for each stage; an object in JSON, in the order of the stages.
#[derive(Debug)]
struct ByStage<T>([T; Stage::COUNT]);

impl<T: Serialize> Serialize for ByStage<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Stage::ALL.iter().map(|stage| stage.name()).zip(&self.0))
    }
}

impl Percentiles {
    fn of(distribution: &Distribution) -> Percentiles {
        let at = |share| micros(distribution.quantile(share));
        Percentiles {
            mean_us: micros(distribution.sum()) / distribution.count().max(1) as f64,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            p99_99_us: at(0.9999),
            max_us: micros(distribution.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamps(nanos: [u64; 9]) -> ProduceStamps {
        let [received, taken, parsed, routed, appended, submitted, written, acked, sent] = nanos.map(Nanos);
        ProduceStamps { received, taken, parsed, routed, appended, submitted, written, acked, sent }
    }

    fn stages_sum(latency: &ProduceLatency) -> u64 {
        Stage::ALL.iter().map(|&stage| latency.stage(stage).sum()).sum()
    }

    #[test]
    fn a_stamp_that_is_missing_or_early_is_seen_and_leaves_the_whole_alone() {
        let sound = [1, 2, 3, 4, 5, 6, 7, 8, 9].map(|at| at * 1_000_000);
        for missing in 1..8 {
            for early in [0, sound[0] / 2] {
                let mut nanos = sound;
                nanos[missing] = early;
                let mut latency = ProduceLatency::default();
                latency.record(&stamps(nanos));
                assert_eq!(latency.whole().sum(), 8_000_000);
                assert!(stages_sum(&latency) > 8_400_000, "stamp {missing} at {early}");
            }
        }
    }

    #[test]
    fn what_waited_for_no_block_has_none_of_its_stages() {
        let mut nanos = stamps([0, 1, 2, 3, 40, 0, 0, 0, 60]);
        nanos.set_acked(Nanos(50));
        assert_eq!(nanos.stage_nanos(), [1, 1, 1, 37, 0, 0, 10, 10]);
        // Another shard had written its part before this one had appended its own.
        let mut nanos = stamps([0, 1, 2, 3, 40, 20, 45, 0, 60]);
        nanos.set_acked(Nanos(50));
        assert_eq!(nanos.stage_nanos(), [1, 1, 1, 37, 0, 5, 5, 10]);
    }

    proptest! {
        #[test]
        fn the_stages_of_stamps_in_order_sum_up_to_the_whole(nanos: [u32; 9]) {
            let mut nanos = nanos.map(u64::from);
            nanos.sort_unstable();
            let mut latency = ProduceLatency::default();
            latency.record(&stamps(nanos));
            let stages = stages_sum(&latency);
            prop_assert_eq!(latency.whole().sum(), nanos[8] - nanos[0]);
            prop_assert_eq!(stages, latency.whole().sum());
            let table: u64 = latency.buckets.iter().flat_map(|bucket| bucket.stage_nanos).sum();
            prop_assert_eq!(stages, table);
        }

        #[test]
        fn a_total_lies_in_its_bucket(nanos in 0..(1u64 << 40)) {
            let bucket = bucket_of(nanos);
            prop_assert!(bucket_start_micros(bucket) * 1000 <= nanos);
            if bucket + 1 < BUCKET_COUNT {
                prop_assert!(nanos < bucket_start_micros(bucket + 1) * 1000);
            }
        }

        #[test]
        fn merging_equals_recording_into_one(left: Vec<[u32; 9]>, right: Vec<[u32; 9]>) {
            let record = |latency: &mut ProduceLatency, all: &[[u32; 9]]| {
                all.iter().for_each(|nanos| latency.record(&stamps(nanos.map(u64::from))));
            };
            let (mut one, mut sum, mut other) = Default::default();
            record(&mut one, &left);
            record(&mut one, &right);
            record(&mut sum, &left);
            record(&mut other, &right);
            sum.merge(&other);
            prop_assert_eq!(format!("{:?}", one.report()), format!("{:?}", sum.report()));
        }
    }

    #[test]
    fn the_tail_names_the_stage_that_makes_it() {
        let mut latency = ProduceLatency::default();
        for _ in 0..985 {
            latency.record(&stamps([0, 0, 1_000, 2_000, 3_000, 4_000, 100_000, 101_000, 102_000]));
        }
        for _ in 0..15 {
            latency.record(&stamps([0, 0, 1_000, 2_000, 3_000, 900_000, 1_000_000, 1_001_000, 1_002_000]));
        }
        let tails = latency.report().tails;
        let told: Vec<_> =
            tails.iter().map(|tail| (tail.above, tail.from_us, tail.count, tail.slowest_stage)).collect();
        assert_eq!(
            told,
            [
                ("p50", 96, 1000, "device_write"),
                ("p90", 96, 1000, "device_write"),
                ("p99", 896, 15, "commit_wait"),
                ("p99.9", 896, 15, "commit_wait"),
            ]
        );
    }
}
