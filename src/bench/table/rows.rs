//! How each row is measured.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{RowName, RowResult, Setup};
use crate::bench::broker::{Broker, DeviceWrites, Launch};
use crate::bench::error::BenchError;
use crate::bench::folder::Folder;
use crate::bench::kafka::KafkaDriver;
use crate::bench::process::Usage;
use crate::bench::raw::{self, Direction};
use crate::bench::report::{Report, Second};
use crate::bench::sink::{Null, Sink};
use crate::bench::{Load, Options, Percentiles, ReadBack, run};

const GB: u64 = 1_000_000_000;
const BATCH_CONNECTIONS: usize = 16;
/// Of the rows that ask how fast batches of 16 KiB go at most: with 16 of 5 in flight the device is the limit, as
/// its writes are too small.
const SMALL_BATCH_CONNECTIONS: usize = 48;
/// Long enough for a rate to settle, short enough to find half of it.
const SHORT_S: u64 = 10;
const IDLE_LOOK: Duration = Duration::from_secs(10);

/// A broker that has taken no memory for so long takes none.
const STILL_FOR: Duration = Duration::from_secs(1);
const STILL_LOOKS_MAX: usize = 60;
const MANY_PARTITIONS: u32 = 100_000;
const COLD_PARTITIONS: u32 = 1_000;
const COLD_BYTES: u64 = 10 * GB;
const RECOVERY_BYTES: u64 = 10 * GB;
const MEMORY_BYTES: u64 = 20 * GB;
/// A retention that removes nothing.
const KEEP_ALL: u64 = i64::MAX as u64;
/// Of one run, when only the amount matters.
const WRITE_S: u64 = 1;

/// The cells of a line, and what they rest on.
struct Cells {
    result: String,
    beside: String,
    reports: Vec<Report>,
}

pub fn measure(setup: &Setup, folder: &Folder, raw: &[raw::Row], row: RowName) -> RowResult {
    let bench = Bench { setup, folder, raw };
    let gb = |bytes| setup.scaled(bytes) as f64 / GB as f64;
    let (work, cells) = match row {
        RowName::Kilobyte16 => {
            ("1 KB records, batches of 16 KiB".to_owned(), bench.maximum(&bench.small_batches(1024)))
        }
        RowName::Kilobyte64 => {
            ("1 KB records, batches of 64 KiB".to_owned(), bench.maximum(&bench.batches(1024, 64 << 10)))
        }
        RowName::Hundred => ("100 B records, batches of 16 KiB".to_owned(), bench.small_records()),
        RowName::Single => {
            ("one 128 B record a request, 64 x 16".to_owned(), bench.maximum(&bench.singles(128)))
        }
        RowName::Latency => {
            ("produce latency at half the maximum, 1 KB in 16 KiB".to_owned(), bench.latency())
        }
        RowName::Open100k => ("100 k records/s of 1 KB in batches of 10".to_owned(), bench.open_100k()),
        RowName::Partitions => (format!("{} partitions against 1", bench.many()), bench.partitions()),
        RowName::TailCpu => ("tail consumer, CPU per GB delivered".to_owned(), bench.tail_cpu()),
        RowName::Cold => (
            format!(
                "cold read of {:.2} GB over {COLD_PARTITIONS} partitions, producers running",
                gb(COLD_BYTES)
            ),
            bench.cold(),
        ),
        RowName::Memory => {
            (format!("{:.2} to {:.2} GB of single-record batches", gb(GB), gb(MEMORY_BYTES)), bench.memory())
        }
        RowName::Recovery => {
            (format!("ready after kill -9 with {:.2} GB of log", gb(RECOVERY_BYTES)), bench.recovery())
        }
        RowName::Idle => ("idle broker".to_owned(), bench.idle()),
    };
    let (cells, failure) = match cells {
        Ok(cells) => (cells, None),
        Err(error) => {
            let nothing = Cells { result: String::new(), beside: String::new(), reports: Vec::new() };
            (nothing, Some(error.to_string()))
        }
    };
    let Cells { result, beside, reports } = cells;
    RowResult { row, work, result, beside, reports, failure }
}

struct Bench<'a> {
    setup: &'a Setup,
    folder: &'a Folder,
    raw: &'a [raw::Row],
}

impl Bench<'_> {
    fn fresh(&self, settings: &[(&str, &str)]) -> Result<Broker, BenchError> {
        let Setup { program, listen, broker_cpu, .. } = self.setup;
        let settings = settings.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        Broker::fresh(&Launch {
            program: program.clone(),
            dir: self.folder.clone(),
            listen: listen.clone(),
            shards: 1,
            cpus: vec![*broker_cpu],
            settings: settings.collect(),
        })
    }

    /// Partitions of the row that compares many with one.
    fn many(&self) -> u32 {
        self.setup.scaled(u64::from(MANY_PARTITIONS)) as u32
    }

    fn options(&self) -> Options {
        Options { cpus: vec![self.setup.load_cpu], seconds: self.setup.seconds, ..Options::default() }
    }

    /// A partition for each connection, 5 requests in flight on each.
    fn batches(&self, record_bytes: usize, batch_bytes: usize) -> Options {
        Options {
            record_bytes,
            records_per_batch: KafkaDriver::records_in(batch_bytes, record_bytes, 0),
            partitions: BATCH_CONNECTIONS as u32,
            connections: BATCH_CONNECTIONS,
            ..self.options()
        }
    }

    /// 16 KiB each, over as many connections as the device can use.
    fn small_batches(&self, record_bytes: usize) -> Options {
        Options {
            partitions: SMALL_BATCH_CONNECTIONS as u32,
            connections: SMALL_BATCH_CONNECTIONS,
            ..self.batches(record_bytes, 16 << 10)
        }
    }

    fn singles(&self, record_bytes: usize) -> Options {
        Options {
            record_bytes,
            records_per_batch: 1,
            partitions: 64,
            connections: 64,
            in_flight: 16,
            ..self.options()
        }
    }

    /// Run against `broker`, which keeps about the set-up's retention.
    fn run(&self, broker: &Broker, options: &Options) -> Result<Report, BenchError> {
        self.run_keeping(broker, options, self.setup.retention_bytes)
    }

    fn run_keeping(&self, broker: &Broker, options: &Options, keep: u64) -> Result<Report, BenchError> {
        let per_partition = (keep / u64::from(options.partitions)).max(1);
        run(&Options {
            topic_configs: vec![("retention.bytes".to_owned(), per_partition.to_string())],
            bootstrap: broker.address().to_string(),
            broker_pid: Some(broker.pid()),
            admin: Some(broker.admin()),
            ..options.clone()
        })
    }

    /// The same load against a sink that stores nothing, on the broker's core.
    fn run_against_null(&self, options: &Options) -> Result<Report, BenchError> {
        let sink = Sink::start(Null::default(), options.partitions, Some(self.setup.broker_cpu))?;
        run(&Options {
            bootstrap: sink.address().to_string(),
            read_back: ReadBack::Nothing,
            ..options.clone()
        })
    }

    /// Write at full speed until `bytes` are acknowledged; returns how many were.
    fn write(
        &self,
        broker: &Broker,
        options: &Options,
        bytes: u64,
        keep: u64,
    ) -> Result<(Vec<Report>, u64), BenchError> {
        let (mut reports, mut written) = (Vec::new(), 0);
        while written < bytes && reports.iter().all(Report::passed) {
            let part = Options { seconds: WRITE_S, warmup_s: 0, load: Load::Closed, ..options.clone() };
            let mut report = self.run_keeping(broker, &part, keep)?;
            if report.is_whole() {
                // How fast it went is not asked.
                report.invalid.clear();
            }
            written += bytes_of(&report);
            reports.push(report);
        }
        Ok((reports, written))
    }

    fn raw_bandwidth(&self, direction: Direction) -> f64 {
        let rates = self.raw.iter().filter(|row| row.direction == direction).map(|row| row.bytes_per_s);
        rates.fold(0.0, f64::max)
    }

    /// The durable write at depth 1 whose size is nearest to `bytes`.
    fn raw_write_near(&self, bytes: u64) -> Option<&raw::Row> {
        let writes = self.raw.iter().filter(|row| row.direction == Direction::DurableWrite && row.depth == 1);
        writes.min_by_key(|row| (row.bytes as u64).abs_diff(bytes))
    }

    /// As fast as it goes, alone and read back afterwards, then with a tailing consumer.
    fn maximum(&self, options: &Options) -> Result<Cells, BenchError> {
        self.maxima(options, options)
    }

    /// With other options where there is a consumer.
    fn maxima(&self, options: &Options, with_consumer: &Options) -> Result<Cells, BenchError> {
        let alone = {
            let broker = self.fresh(&[])?;
            self.run(&broker, &Options { read_back: ReadBack::Afterwards, ..options.clone() })?
        };
        let tailed = {
            let broker = self.fresh(&[])?;
            self.run(&broker, &Options { read_back: ReadBack::Tail, consumers: 1, ..with_consumer.clone() })?
        };
        let (first, recycled) = alone.phases(self.setup.retention_bytes);
        let raw = self.raw_bandwidth(Direction::DurableWrite);
        let null = self.run_against_null(&Options { seconds: SHORT_S, ..options.clone() })?;
        let beside = format!(
            "{:.2} x raw {:.0} MB/s; the generator's ceiling {} /s",
            alone.bytes_per_s / raw,
            raw / 1e6,
            thousands(null.records_per_s)
        );
        let result = format!(
            "{} /s, {:.0} MB/s (first fill {}, recycled {}); with a tail consumer {} /s; p99 {}",
            thousands(alone.records_per_s),
            alone.bytes_per_s / 1e6,
            megabytes(first),
            megabytes(recycled),
            thousands(tailed.records_per_s),
            micros(alone.ack().p99_ns),
        );
        Ok(Cells { result, beside, reports: vec![alone, tailed, null] })
    }

    /// Fewer connections where they are read, too: with more, twice of two times, retention overtook the consumer, which
    /// shares the load's core with the producers. That was with answers of 1 MiB.
    fn small_records(&self) -> Result<Cells, BenchError> {
        self.maxima(&self.small_batches(100), &self.batches(100, 16 << 10))
    }

    /// First in segments that are made meanwhile, then, when all are there, in recycled ones. Each at half of
    /// what the broker takes then.
    fn latency(&self) -> Result<Cells, BenchError> {
        let batches = self.batches(1024, 16 << 10);
        let short = Options { seconds: SHORT_S, ..batches.clone() };
        let half_of = |maximum: &Report, options: &Options| Options {
            load: Load::Open { records_per_s: maximum.records_per_s / 2.0 },
            read_back: ReadBack::Afterwards,
            ..options.clone()
        };
        let first_maximum = self.run(&self.fresh(&[])?, &short)?;
        let broker = self.fresh(&[])?;
        let first = self.run(&broker, &half_of(&first_maximum, &short))?;
        let keep = self.setup.retention_bytes;
        let (mut reports, _) = self.write(&broker, &batches, self.setup.scaled(keep), keep)?;
        let maximum = self.run(&broker, &short)?;
        let half = half_of(&maximum, &batches);
        let before = DeviceWrites::now(self.folder.path());
        let report = self.run(&broker, &half)?;
        let after = DeviceWrites::now(self.folder.path());
        drop(broker);
        let null = self.run_against_null(&half)?;
        let block = before.zip(after).and_then(|(before, after)| after.mean_since(&before));
        let beside = match block.and_then(|bytes| Some((bytes, self.raw_write_near(bytes)?))) {
            Some((bytes, raw)) => format!(
                "mean block {} KiB; raw {} KiB: {}; null sink: {}",
                bytes >> 10,
                raw.bytes >> 10,
                percentiles(&raw.latency),
                percentiles(null.ack())
            ),
            None => format!("mean block unknown; null sink: {}", percentiles(null.ack())),
        };
        let at = |report: &Report| {
            format!("at {} /s: {}", thousands(report.records_per_s), percentiles(report.ack()))
        };
        let result = format!("recycled, {}; first fill, {}", at(&report), at(&first));
        reports.extend([first_maximum, first, maximum, report, null]);
        Ok(Cells { result, beside, reports })
    }

    fn open_100k(&self) -> Result<Cells, BenchError> {
        let options = Options {
            records_per_batch: 10,
            load: Load::Open { records_per_s: 100_000.0 },
            read_back: ReadBack::Afterwards,
            ..self.batches(1024, 16 << 10)
        };
        let broker = self.fresh(&[])?;
        let report = self.run(&broker, &options)?;
        drop(broker);
        let null = self.run_against_null(&options)?;
        let text = |report: &Report| {
            format!("{:.2} % within 1 ms, {}", report.ack().within_1ms * 100.0, percentiles(report.ack()))
        };
        let (result, beside) = (text(&report), format!("null sink: {}", text(&null)));
        Ok(Cells { result, beside, reports: vec![report, null] })
    }

    fn partitions(&self) -> Result<Cells, BenchError> {
        let one = Options { partitions: 1, read_back: ReadBack::Afterwards, ..self.batches(1024, 16 << 10) };
        // The caches are not to be touched between the two looks at a broker's memory, nor with one and not with many.
        let untouched = [("log.pretouch", "false")];
        let broker = self.fresh(&untouched)?;
        let single = self.run(&broker, &one)?;
        drop(broker);

        let broker = self.fresh(&untouched)?;
        let empty = broker.usage()?.resident_bytes;
        let many = Options { partitions: self.many(), topic: "many".to_owned(), ..one };
        // Only made, not written: what an idle partition costs.
        self.run(&broker, &Options { load: Load::None, read_back: ReadBack::Cold, ..many.clone() })?;
        let made = broker.usage()?.resident_bytes;
        let report = self.run(&broker, &many)?;
        let result = format!(
            "{:.2} of the throughput ({} against {} /s), {} B per idle partition",
            report.records_per_s / single.records_per_s,
            thousands(report.records_per_s),
            thousands(single.records_per_s),
            made.saturating_sub(empty) / u64::from(self.many()),
        );
        Ok(Cells { result, beside: String::new(), reports: vec![single, report] })
    }

    /// At a rate that both hold, so that only the consumer differs.
    fn tail_cpu(&self) -> Result<Cells, BenchError> {
        let options =
            Options { load: Load::Open { records_per_s: 200_000.0 }, ..self.batches(1024, 16 << 10) };
        let alone = {
            let broker = self.fresh(&[("server.poll", "block")])?;
            self.run(&broker, &options)?
        };
        let tailed = {
            let broker = self.fresh(&[("server.poll", "block")])?;
            self.run(&broker, &Options { read_back: ReadBack::Tail, consumers: 1, ..options })?
        };
        let cpu = |report: &Report| report.broker.map_or(f64::NAN, |used| used.cpu_s);
        // The warm-up's processor time is not in it.
        let gigabytes = |report: &Report, per_s: f64| per_s * report.seconds as f64 / 1e9;
        let produced = |report: &Report| gigabytes(report, report.bytes_per_s);
        let produce = cpu(&alone) / produced(&alone);
        let delivered = gigabytes(&tailed, tailed.read_bytes_per_s);
        let consume = (cpu(&tailed) - produce * produced(&tailed)) / delivered;
        let result = format!("{consume:.3} CPU s per GB, {:.2} of produce's", consume / produce);
        let beside = format!("produce {produce:.3} CPU s per GB (poll = block)");
        Ok(Cells { result, beside, reports: vec![alone, tailed] })
    }

    fn cold(&self) -> Result<Cells, BenchError> {
        let options = Options { partitions: COLD_PARTITIONS, ..self.batches(1024, 16 << 10) };
        let broker = self.fresh(&[])?;
        let (mut reports, _) = self.write(&broker, &options, self.setup.scaled(COLD_BYTES), KEEP_ALL)?;
        // Nothing of it is in memory any more: the broker reads by direct IO.
        let broker = broker.restart()?;
        let steady = Options { load: Load::Open { records_per_s: 50_000.0 }, ..options };
        let undisturbed =
            self.run_keeping(&broker, &Options { seconds: SHORT_S, ..steady.clone() }, KEEP_ALL)?;
        let there: u64 = reports.iter().chain([&undisturbed]).map(|report| report.ledger.acked).sum();
        // Over with the read: producers that nothing disturbs any more would dilute the percentiles.
        let cold =
            Options { read_back: ReadBack::Cold, until_read: true, consumers: 4, warmup_s: 0, ..steady };
        let disturbed = self.run_keeping(&broker, &cold, KEEP_ALL)?;
        let Some(read) = ColdRead::of(&disturbed.timeline) else {
            return Err(BenchError::Options("nothing was read".to_owned()));
        };
        let raw = self.raw_bandwidth(Direction::Read);
        let share = disturbed.ledger.read as f64 / there.max(1) as f64;
        let part =
            if share < 1.0 { format!("ONLY {:.1} % of it was read; ", share * 100.0) } else { String::new() };
        let result = format!(
            "{part}{:.0} MB/s for {} s; producers' p99 in them {} against {} undisturbed",
            read.bytes_per_s / 1e6,
            read.seconds.clone().count(),
            micros(disturbed.ack_in(read.seconds).p99_ns),
            micros(undisturbed.ack().p99_ns)
        );
        let beside = format!("{:.2} x raw read {:.0} MB/s", read.bytes_per_s / raw, raw / 1e6);
        reports.extend([undisturbed, disturbed]);
        Ok(Cells { result, beside, reports })
    }

    fn memory(&self) -> Result<Cells, BenchError> {
        let broker = self.fresh(&[])?;
        // 1 KB each: 20 GB of 128 B records would take an hour and show the same.
        let options = self.singles(1024);
        let keep = self.setup.retention_bytes;
        let (mut reports, first) = self.write(&broker, &options, self.setup.scaled(GB), keep)?;
        let before = broker.usage()?.resident_bytes;
        let (rest, more) =
            self.write(&broker, &options, self.setup.scaled(MEMORY_BYTES).saturating_sub(first), keep)?;
        let after = broker.usage()?.resident_bytes;
        reports.extend(rest);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let result = format!(
            "resident {:.0} MiB after {:.1} GB, {:.0} MiB after {:.1} GB",
            mib(before),
            first as f64 / 1e9,
            mib(after),
            (first + more) as f64 / 1e9
        );
        Ok(Cells { result, beside: "1 KB a request".to_owned(), reports })
    }

    fn recovery(&self) -> Result<Cells, BenchError> {
        let options = self.batches(1024, 16 << 10);
        let broker = self.fresh(&[])?;
        let (reports, _) = self.write(&broker, &options, self.setup.scaled(RECOVERY_BYTES), KEEP_ALL)?;
        let acked: u64 = reports.iter().map(|report| report.ledger.acked).sum();
        let broker = broker.restart()?;
        let retained = broker.retained(&options.topic, options.partitions)?;
        if retained < acked {
            let reason = format!("{} acknowledged records are gone after kill -9", acked - retained);
            return Err(BenchError::Options(reason));
        }
        let result = format!("{:.2} s, {retained} records kept", broker.ready_after.as_secs_f64());
        Ok(Cells { result, beside: String::new(), reports })
    }

    fn idle(&self) -> Result<Cells, BenchError> {
        let mut parts = Vec::new();
        for mode in ["adaptive", "block", "busy"] {
            let broker = self.fresh(&[("server.poll", mode)])?;
            let before = still(&broker)?;
            // This is the measurement: nobody asks anything.
            std::thread::sleep(IDLE_LOOK);
            let after = broker.usage()?;
            let share = (after.cpu_s - before.cpu_s) / IDLE_LOOK.as_secs_f64() * 100.0;
            parts.push(format!("{mode}: {share:.1} % of a core, {} MiB", after.resident_bytes >> 20));
        }
        Ok(Cells { result: parts.join("; "), beside: String::new(), reports: Vec::new() })
    }
}

/// Once it has touched the memory of its caches, which it does after its start.
fn still(broker: &Broker) -> Result<Usage, BenchError> {
    let mut last = broker.usage()?;
    for _ in 0..STILL_LOOKS_MAX {
        std::thread::sleep(STILL_FOR);
        let now = broker.usage()?;
        if now.resident_bytes == last.resident_bytes {
            return Ok(now);
        }
        last = now;
    }
    Err(BenchError::Options("the memory of an idle broker does not come to rest".to_owned()))
}

/// What a timeline tells of a cold read.
struct ColdRead {
    /// From its first answer to its last, whatever it waited for in between.
    seconds: RangeInclusive<u64>,
    /// In all of them but the last, in which it ended at some moment, unless there is no other.
    bytes_per_s: f64,
}

impl ColdRead {
    fn of(timeline: &[Second]) -> Option<ColdRead> {
        let mut reading = timeline.iter().filter(|second| second.read_bytes > 0).map(|second| second.second);
        let first = reading.next()?;
        let last = reading.next_back().unwrap_or(first);
        let whole = first..=last.max(first + 1) - 1;
        let read = timeline.iter().filter(|second| whole.contains(&second.second));
        let bytes: u64 = read.map(|second| second.read_bytes).sum();
        Some(ColdRead { seconds: first..=last, bytes_per_s: bytes as f64 / whole.count() as f64 })
    }
}

/// Acknowledged bytes of the whole run, the warm-up included.
fn bytes_of(report: &Report) -> u64 {
    report.timeline.iter().map(|second| second.bytes).sum()
}

fn thousands(rate: f64) -> String {
    format!("{:.0} k", rate / 1e3)
}

fn megabytes(rate: Option<f64>) -> String {
    rate.map_or("not reached".to_owned(), |rate| format!("{rate:.0} MB/s"))
}

fn micros(ns: u64) -> String {
    format!("{:.0} µs", ns as f64 / 1e3)
}

fn percentiles(of: &Percentiles) -> String {
    format!("p50 {}, p99 {}, p99.9 {}", micros(of.p50_ns), micros(of.p99_ns), micros(of.p99_9_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_read_is_judged_by_its_own_seconds() {
        let told = |read: &[u64]| {
            let seconds = (0..).zip(read).map(|(second, &read_bytes)| Second {
                second,
                read_bytes,
                ..Second::default()
            });
            let read = ColdRead::of(&seconds.collect::<Vec<_>>())?;
            Some((read.seconds, read.bytes_per_s))
        };
        let table: [(&[u64], _); 5] = [
            (&[], None),
            (&[0, 0], None),
            (&[70], Some((0..=0, 70.0))),
            // A second in which nothing came is the broker's as well, what follows the read is not.
            (&[0, 100, 0, 80, 10, 0, 0], Some((1..=4, 60.0))),
            (&[100, 3], Some((0..=1, 100.0))),
        ];
        for (read, expected) in table {
            assert_eq!(told(read), expected, "{read:?}");
        }
    }
}
