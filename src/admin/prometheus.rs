//! Snapshots as Prometheus text, version 0.0.4: base units, counters end in `_total`.
//!
//! Counters and gauges keep their shard, so that one hot core can be seen; distributions are summed
//! over the shards, because a scraper would have to do just that.

use std::fmt::{Display, Write};

use super::http::{BrokerInfo, Health};
use crate::metrics::distribution::Distribution;
use crate::metrics::latency::Stage;
use crate::metrics::{Exposed, LogGauges, ShardSnapshot, merged};

/// Bounds of durations in nanoseconds: 1 µs, for the stages that only compute, to 10 s, above any
/// timeout that a client sets for good reason.
const DURATION_BOUNDS: [u64; 22] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Bounds of block sizes in bytes: from one page to the largest block with room above.
const BLOCK_BOUNDS: [u64; 12] = [
    4 << 10,
    8 << 10,
    16 << 10,
    32 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
    512 << 10,
    1 << 20,
    2 << 20,
    4 << 20,
    8 << 20,
];

const NANOS_PER_SECOND: f64 = 1e9;

/// Everything there is to scrape. `api_name` names API keys.
pub fn render(
    info: &BrokerInfo,
    health: &Health,
    snapshots: &[ShardSnapshot],
    api_name: impl Fn(i16) -> &'static str,
) -> String {
    let mut out = Exposition::default();
    broker(&mut out, info, health);
    shard_numbers(&mut out, snapshots);
    requests(&mut out, snapshots, &api_name);
    logs(&mut out, snapshots);
    distributions(&mut out, snapshots, &api_name);
    out.text
}

fn broker(out: &mut Exposition, info: &BrokerInfo, health: &Health) {
    out.family("ringmq_build_info", Kind::Gauge, "Which build this is; always 1.");
    out.sample("ringmq_build_info", &[("version", &info.version)], 1);

    out.family(
        "ringmq_durability_info",
        Kind::Gauge,
        "What an acknowledgement means and how it is reached; always 1.",
    );
    let depth = info.commit_depth.to_string();
    let labels: [(&str, &dyn Display); 4] = [
        ("mode", &info.durability_mode),
        ("commit_mode", &info.commit_mode),
        ("commit_depth", &depth),
        ("device_class", &info.device_class),
    ];
    out.sample("ringmq_durability_info", &labels, 1);

    out.gauge(
        "ringmq_durability_at_risk",
        "1 when commits are plain, as configured, on a device that may have a volatile cache.",
        u8::from(info.durability_at_risk),
    );
    out.gauge("ringmq_ready", "1 when clients are served.", u8::from(health.is_ready()));
    out.gauge("ringmq_shards", "Shards of this process.", info.shards);
    out.gauge("ringmq_logs", "Logs of the data directory.", info.logs);
    out.gauge(
        "ringmq_start_time_seconds",
        "When the process started, since 1970.",
        info.started_unix_seconds,
    );
    if let Some(disk) = info.disk {
        out.gauge("ringmq_disk_free_bytes", "Free on the data directory's file system.", disk.free_bytes);
    }
}

fn shard_numbers(out: &mut Exposition, snapshots: &[ShardSnapshot]) {
    let counters: Vec<Vec<Exposed>> =
        snapshots.iter().map(|snapshot| snapshot.stats.counters.exposed().collect()).collect();
    numbers(out, Kind::Counter, snapshots, &counters);
    let gauges: Vec<Vec<Exposed>> =
        snapshots.iter().map(|snapshot| snapshot.stats.gauges.exposed().collect()).collect();
    numbers(out, Kind::Gauge, snapshots, &gauges);
}

/// `numbers` has one row for each shard, with the same names in each.
fn numbers(out: &mut Exposition, kind: Kind, snapshots: &[ShardSnapshot], numbers: &[Vec<Exposed>]) {
    let Some(first) = numbers.first() else { return };
    for (column, Exposed { name, help, .. }) in first.iter().enumerate() {
        out.family(name, kind, help);
        for (snapshot, row) in snapshots.iter().zip(numbers) {
            out.sample(name, &[("shard", &snapshot.shard)], row[column].value);
        }
    }
}

fn requests(out: &mut Exposition, snapshots: &[ShardSnapshot], api_name: &impl Fn(i16) -> &'static str) {
    out.family("ringmq_requests_total", Kind::Counter, "Requests received.");
    for ShardSnapshot { shard, stats, .. } in snapshots {
        for (api_key, version, count) in stats.requests() {
            let labels: [(&str, &dyn Display); 3] =
                [("shard", shard), ("api", &api_name(api_key)), ("version", &version)];
            out.sample("ringmq_requests_total", &labels, count);
        }
    }
    out.family("ringmq_errors_total", Kind::Counter, "Errors answered, by the protocol's error code.");
    for ShardSnapshot { shard, stats, .. } in snapshots {
        for (api_key, code, count) in stats.errors() {
            let labels: [(&str, &dyn Display); 3] =
                [("shard", shard), ("api", &api_name(api_key)), ("code", &code)];
            out.sample("ringmq_errors_total", &labels, count);
        }
    }
}

fn logs(out: &mut Exposition, snapshots: &[ShardSnapshot]) {
    type Column = (&'static str, Kind, &'static str, fn(&LogGauges) -> u64);
    let columns: [Column; 13] = [
        ("ringmq_log_appended_bytes_total", Kind::Counter, "End of what was appended.", |log| log.appended.0),
        ("ringmq_log_durable_bytes_total", Kind::Counter, "End of what survives power loss.", |log| {
            log.durable.0
        }),
        ("ringmq_log_segment_bytes", Kind::Gauge, "Size of all segments on disk.", |log| log.segment_bytes),
        ("ringmq_log_live_bytes", Kind::Gauge, "Bytes of entries that can still be read.", |log| {
            log.live_bytes
        }),
        ("ringmq_log_segments", Kind::Gauge, "Segments.", |log| log.segments),
        ("ringmq_log_segments_ready", Kind::Gauge, "Segments that are empty and ready.", |log| {
            log.segments_ready
        }),
        ("ringmq_log_blocks_in_flight", Kind::Gauge, "Blocks on their way to the device.", |log| {
            log.blocks_in_flight
        }),
        ("ringmq_log_producers", Kind::Gauge, "Idempotent producers remembered, by partition.", |log| {
            log.producers
        }),
        (
            "ringmq_log_producers_evicted_total",
            Kind::Counter,
            "Idempotent producers forgotten early: kafka.producer_states_max was reached.",
            |log| log.producers_evicted,
        ),
        ("ringmq_groups", Kind::Gauge, "Groups that have members or had some lately.", |log| log.groups),
        ("ringmq_groups_with_offsets", Kind::Gauge, "Groups that have committed offsets.", |log| {
            log.groups_with_offsets
        }),
        ("ringmq_groups_bytes", Kind::Gauge, "Memory of groups, limited by kafka.groups_bytes_max.", |log| {
            log.groups_bytes
        }),
        ("ringmq_log_failed", Kind::Gauge, "1 when the log stopped after a failed write.", |log| {
            u64::from(log.failed)
        }),
    ];
    for (name, kind, help, value) in columns {
        out.family(name, kind, help);
        for snapshot in snapshots {
            for log in &snapshot.logs {
                out.sample(name, &[("shard", &snapshot.shard), ("log", &log.log)], value(log));
            }
        }
    }
}

fn distributions(out: &mut Exposition, snapshots: &[ShardSnapshot], api_name: &impl Fn(i16) -> &'static str) {
    let sum = merged(snapshots);

    let name = "ringmq_produce_seconds";
    out.family(name, Kind::Histogram, "Produce requests, from the last byte in to the last byte out.");
    out.durations(name, &[], sum.produce().whole());

    let name = "ringmq_produce_stage_seconds";
    out.family(
        name,
        Kind::Histogram,
        "Produce requests, by stage; the stages follow each other without a gap.",
    );
    for stage in Stage::ALL {
        out.durations(name, &[("stage", &stage.name())], sum.produce().stage(stage));
    }

    let name = "ringmq_request_seconds";
    out.family(name, Kind::Histogram, "Other requests; a fetch includes its wait for data.");
    for (api_key, distribution) in sum.durations() {
        out.durations(name, &[("api", &api_name(api_key))], distribution);
    }

    let name = "ringmq_log_write_seconds";
    out.family(name, Kind::Histogram, "Durable writes of blocks: the flush latency.");
    out.durations(name, &[], sum.device_write());

    let name = "ringmq_log_block_bytes";
    out.family(name, Kind::Histogram, "Sizes of blocks: one group commit each.");
    out.histogram(name, &[], sum.block_bytes(), &BLOCK_BOUNDS, 1.0);

    let name = "ringmq_cold_read_seconds";
    out.family(name, Kind::Histogram, "Reads from the device for consumers that are behind the tail.");
    out.durations(name, &[], sum.cold_read());
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

type Labels<'a> = [(&'a str, &'a dyn Display)];

/// Text in the making. Writing to a string cannot fail.
#[derive(Default)]
struct Exposition {
    text: String,
}

impl Exposition {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string takes all");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, Kind::Gauge, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &Labels<'_>, value: impl Display) {
        self.text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let value = value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let open = if index == 0 { '{' } else { ',' };
            write!(self.text, "{open}{label}=\"{value}\"").expect("a string takes all");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        writeln!(self.text, "{close} {value}").expect("a string takes all");
    }

    fn durations(&mut self, name: &str, labels: &Labels<'_>, distribution: &Distribution) {
        self.histogram(name, labels, distribution, &DURATION_BOUNDS, NANOS_PER_SECOND);
    }

    /// `scale`: how many of the distribution's units are one of the exposed unit.
    fn histogram(
        &mut self,
        name: &str,
        labels: &Labels<'_>,
        distribution: &Distribution,
        bounds: &[u64],
        scale: f64,
    ) {
        let bucket = format!("{name}_bucket");
        for (&bound, count) in bounds.iter().zip(distribution.cumulative(bounds)) {
            let bound = bound as f64 / scale;
            self.sample(&bucket, &[labels, &[("le", &bound)]].concat(), count);
        }
        self.sample(&bucket, &[labels, &[("le", &"+Inf")]].concat(), distribution.count());
        self.sample(&format!("{name}_sum"), labels, distribution.sum() as f64 / scale);
        self.sample(&format!("{name}_count"), labels, distribution.count());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::http::Disk;
    use super::*;
    use crate::metrics::ShardStats;
    use crate::metrics::latency::ProduceStamps;
    use crate::model::{LogId, Nanos, Position, ShardId};

    /// Samples by their name and labels, after checking what the format demands: every family is
    /// declared once and before its samples, which stand together; names and labels are well formed; no
    /// sample comes twice; histograms ascend up to `+Inf`, which equals the count.
    pub fn parse(text: &str) -> Result<BTreeMap<String, f64>, String> {
        assert!(text.ends_with('\n'), "the last line is ended");
        let mut families = BTreeSet::new();
        let mut family = (String::new(), String::new());
        let mut samples = BTreeMap::new();
        let mut rising: Option<(String, f64)> = None;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').ok_or(format!("no help: {line}"))?;
                let type_line = lines.next().unwrap_or_default();
                let kind =
                    type_line.strip_prefix(&format!("# TYPE {name} ")).ok_or(format!("no type: {line}"))?;
                let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                if !name.starts_with("ringmq_") || !name.chars().all(is_word) || help.is_empty() {
                    return Err(format!("not a good name: {line}"));
                }
                if (kind == "counter") != name.ends_with("_total") {
                    return Err(format!("counters end in _total, others do not: {type_line}"));
                }
                if !families.insert(name.to_owned()) {
                    return Err(format!("twice: {line}"));
                }
                family = (name.to_owned(), kind.to_owned());
                continue;
            }
            let (series, value) = line.rsplit_once(' ').ok_or(format!("no value: {line}"))?;
            let value: f64 = value.parse().map_err(|_| format!("no number: {line}"))?;
            let (name, labels) = match series.split_once('{') {
                Some((name, rest)) => (name, rest.strip_suffix('}').ok_or(format!("open labels: {line}"))?),
                None => (series, ""),
            };
            let suffix =
                name.strip_prefix(family.0.as_str()).ok_or(format!("outside of its family: {line}"))?;
            match (family.1.as_str(), suffix) {
                ("histogram", "_bucket") => {
                    let (others, le) = labels.rsplit_once("le=\"").ok_or(format!("no le: {line}"))?;
                    let series = format!("{name}{others}");
                    if let Some((before, count)) = &rising
                        && *before == series
                        && *count > value
                    {
                        return Err(format!("falls: {line}"));
                    }
                    rising = (le != "+Inf\"").then_some((series, value));
                    samples
                        .insert(format!("last bucket {}{{{}", family.0, others.trim_end_matches(',')), value);
                }
                ("histogram", "_count") => {
                    let last = samples.get(&format!("last bucket {}{{{labels}", family.0));
                    if rising.is_some() || last != Some(&value) {
                        return Err(format!("the last bucket is not all: {line}"));
                    }
                }
                ("histogram", "_sum") | ("counter" | "gauge", "") => {}
                _ => return Err(format!("not a sample of its family: {line}")),
            }
            if samples.insert(series.to_owned(), value).is_some() {
                return Err(format!("twice: {line}"));
            }
        }
        Ok(samples)
    }

    pub fn sample_info() -> BrokerInfo {
        BrokerInfo {
            version: "0.0.0 \"quoted\\\"".to_owned(),
            durability_mode: "sync".to_owned(),
            commit_mode: "dsync".to_owned(),
            commit_depth: 4,
            device_class: "volatile cache, no FUA".to_owned(),
            durability_at_risk: false,
            shards: 2,
            logs: 3,
            advertised: Vec::new(),
            ring_features: vec!["single-issuer".to_owned()],
            started_unix_seconds: 1,
            disk: Some(Disk { free_bytes: 7 }),
        }
    }

    pub fn sample_snapshots() -> Vec<ShardSnapshot> {
        let mut stats = ShardStats::default();
        stats.counters.bytes_received = 5;
        stats.gauges.requests_in_flight = 2;
        stats.record_request(0, 9);
        stats.record_request(1, 12);
        stats.record_error(1, 3);
        stats.record_duration(1, 2_000_000);
        stats.record_block(8192, 100, 3, 90_000);
        let at = |micros: u64| Nanos(micros * 1000);
        stats.record_produce(&ProduceStamps {
            received: at(0),
            taken: at(0),
            parsed: at(1),
            routed: at(3),
            appended: at(6),
            submitted: at(50),
            written: at(150),
            acked: at(155),
            sent: at(160),
        });
        let log = LogGauges {
            log: LogId(1),
            appended: Position(8192),
            durable: Position(4096),
            segment_bytes: 1 << 20,
            live_bytes: 3000,
            segments: 2,
            segments_ready: 1,
            blocks_in_flight: 1,
            producers: 3,
            producers_evicted: 0,
            groups: 4,
            groups_with_offsets: 3,
            groups_bytes: 5000,
            failed: false,
        };
        vec![
            stats.snapshot(ShardId(0), vec![log]),
            stats.snapshot(ShardId(1), vec![LogGauges { log: LogId(2), ..log }]),
        ]
    }

    #[test]
    fn what_is_rendered_is_well_formed_and_true() {
        let text = render(&sample_info(), &Health::Ready, &sample_snapshots(), |api_key| match api_key {
            0 => "Produce",
            _ => "Fetch",
        });
        let samples = parse(&text).expect("well-formed");
        let expected = [
            (r#"ringmq_build_info{version="0.0.0 \"quoted\\\""}"#, 1.0),
            ("ringmq_ready", 1.0),
            ("ringmq_disk_free_bytes", 7.0),
            (r#"ringmq_received_bytes_total{shard="0"}"#, 5.0),
            (r#"ringmq_requests_in_flight{shard="1"}"#, 2.0),
            (r#"ringmq_requests_total{shard="0",api="Produce",version="9"}"#, 1.0),
            (r#"ringmq_errors_total{shard="1",api="Fetch",code="3"}"#, 1.0),
            (r#"ringmq_log_durable_bytes_total{shard="1",log="2"}"#, 4096.0),
            (r#"ringmq_groups{shard="0",log="1"}"#, 4.0),
            (r#"ringmq_groups_bytes{shard="1",log="2"}"#, 5000.0),
            (r#"ringmq_produce_seconds_bucket{le="0.0001"}"#, 0.0),
            (r#"ringmq_produce_seconds_bucket{le="0.00025"}"#, 2.0),
            ("ringmq_produce_seconds_sum", 0.00032),
            (r#"ringmq_produce_stage_seconds_sum{stage="device_write"}"#, 0.0002),
            (r#"ringmq_request_seconds_count{api="Fetch"}"#, 2.0),
            (r#"ringmq_log_block_bytes_bucket{le="8192"}"#, 0.0),
            (r#"ringmq_log_block_bytes_bucket{le="16384"}"#, 2.0),
        ];
        for (series, value) in expected {
            assert_eq!(samples.get(series), Some(&value), "{series}");
        }
    }

    #[test]
    fn the_checker_refuses_what_is_malformed() {
        let table = [
            ("ringmq_x 1\n", "not a sample of its family"),
            ("# HELP ringmq_x Help.\n# TYPE ringmq_x gauge\nringmq_y 1\n", "outside of its family"),
            ("# HELP ringmq_x_total Help.\n# TYPE ringmq_x_total gauge\n", "counters end in _total"),
            ("# HELP ringmq_x Help.\n# TYPE ringmq_x gauge\nringmq_x 1\nringmq_x 2\n", "twice"),
            ("# HELP ringmq_x Help.\n# TYPE ringmq_x gauge\nringmq_x one\n", "no number"),
            (
                "# HELP ringmq_x Help.\n# TYPE ringmq_x histogram\n\
                 ringmq_x_bucket{le=\"1\"} 2\nringmq_x_bucket{le=\"+Inf\"} 1\n",
                "falls",
            ),
            (
                "# HELP ringmq_x Help.\n# TYPE ringmq_x histogram\n\
                 ringmq_x_bucket{le=\"+Inf\"} 1\nringmq_x_sum 1\nringmq_x_count 2\n",
                "the last bucket is not all",
            ),
        ];
        for (text, want) in table {
            let error = parse(text).expect_err("malformed");
            assert!(error.contains(want), "{error}");
        }
    }
}
