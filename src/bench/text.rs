//! A report as text: a table for the terminal.

use std::fmt;

use super::cores::listed;
use super::ledger::Verdict;
use super::report::Report;
use super::sound::Basis;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { connections, in_flight, record_bytes, records_per_batch, .. } = self;
        match self.target_records_per_s {
            Some(rate) => write!(f, "open loop at {rate:.0} records/s")?,
            None if self.connections == 0 => write!(f, "reading only")?,
            None => write!(f, "closed loop (its tail is not comparable with an open loop's)")?,
        }
        writeln!(f, ", acks={}, {} s", self.acks_text(), self.seconds)?;
        writeln!(
            f,
            "{record_bytes} B x {}{records_per_batch} a request, {}, {} x {in_flight} in flight, {}{}",
            if self.linger_ns.is_some() { "up to " } else { "" },
            self.places(),
            plural(*connections as u64, "connection"),
            self.readers(),
            if self.idempotent { ", idempotent" } else { "" },
        )?;
        writeln!(f, "{}", self.cores_text())?;
        let lines = [self.keys_text(), self.linger_text(), self.packing_text(), self.groups_text()];
        for line in lines.iter().flatten() {
            writeln!(f, "{line}")?;
        }
        writeln!(
            f,
            "\n{:<12} {:>12.0} records/s {:>10.0} requests/s {:>9.1} MB/s",
            if self.acks == 0 { "sent" } else { "acknowledged" },
            self.records_per_s,
            self.requests_per_s,
            self.bytes_per_s / 1e6
        )?;
        if self.ledger.read > 0 {
            writeln!(
                f,
                "read         {:>12.0} records/s {:>30.1} MB/s",
                self.read_records_per_s,
                self.read_bytes_per_s / 1e6
            )?;
        }
        if let Some(used) = &self.broker {
            let (before, after) = (used.resident_bytes_before >> 20, used.resident_bytes_after >> 20);
            writeln!(f, "broker       {:>12.2} CPU s, resident {before} -> {after} MiB", used.cpu_s)?;
        }
        writeln!(f)?;
        write_latencies(
            f,
            &[
                ("response: ack - intended", self.response_basis()),
                ("service: ack - sent", self.service_basis()),
                ("delay: sent - intended", self.delay_basis()),
                ("of it, the generator's", self.own_delay_basis()),
                ("end to end", self.end_to_end_basis()),
            ],
        )?;
        if let Some(text) = self.own_text() {
            writeln!(f, "{text}")?;
        }
        writeln!(
            f,
            "longest stall of the generator: {}; {:.2} % of the time in stalls above 1 ms",
            duration(self.stall_ns_max),
            self.stalled_share * 100.0
        )?;
        if self.reconnects > 0 {
            writeln!(f, "{} connections were lost and made again", self.reconnects)?;
        }
        if let Some(tail) = self.stages.as_ref().and_then(|stages| stages.tail(0.99)) {
            let (name, share) = tail.slowest();
            writeln!(f, "above p99 of the broker's own time, {:.0} % is {name}", share * 100.0)?;
        }
        write_verdict(f, &self.ledger)?;
        if self.invalid.is_empty() {
            writeln!(f, "valid")
        } else {
            writeln!(f, "INVALID: {}", self.invalid.join("; "))
        }
    }
}

/// What `text` and the report's page say alike.
impl Report {
    pub fn acks_text(&self) -> &'static str {
        match self.acks {
            0 => "0",
            1 => "1",
            _ => "all",
        }
    }

    pub fn places(&self) -> String {
        let partitions = plural(u64::from(self.partitions), "partition");
        let leaders = match self.leaders {
            0 | 1 => String::new(),
            leaders => format!(" led by {leaders} nodes"),
        };
        match self.topics {
            1 => format!("{partitions}{leaders}"),
            topics => format!("{topics} topics of {partitions}{leaders}"),
        }
    }

    pub fn readers(&self) -> String {
        let readers = plural((self.consumers * self.groups) as u64, "consumer");
        let groups = if self.groups > 1 { format!(" in {} groups", self.groups) } else { String::new() };
        // A group gives a partition to one of its members.
        let partitions = self.partitions as usize * self.topics as usize;
        let idle = match self.consumers.saturating_sub(partitions) * self.groups {
            0 => String::new(),
            idle => format!(" ({idle} idle: more than partitions)"),
        };
        format!("{readers}{groups}{idle}")
    }

    pub fn keys_text(&self) -> Option<String> {
        let bytes = self.key_bytes;
        match (bytes, self.keys) {
            (0, _) => None,
            (_, 0) => Some(format!("keys of {bytes} B, random")),
            (_, keys) => Some(format!("{keys} keys of {bytes} B")),
        }
    }

    pub fn cores_text(&self) -> String {
        match self.load_cpus.as_slice() {
            [] => "load not pinned to a core".to_owned(),
            [core] => format!("load on core {core}"),
            several => format!("load on cores {}", listed(several)),
        }
    }

    /// Why percentiles with enough samples beyond them are marked.
    pub fn own_text(&self) -> Option<String> {
        let ack = [(0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];
        let (_, name) = ack.into_iter().find(|(quantile, _)| *quantile == self.ack_basis().own_from)?;
        Some(format!("from {name} on it was the generator itself that was late"))
    }

    pub fn linger_text(&self) -> Option<String> {
        self.linger_ns.map(|linger_ns| format!("linger {}", duration(linger_ns)))
    }

    pub fn groups_text(&self) -> Option<String> {
        self.group_work.map(|work| {
            format!(
                "{} of groups: {}, {}, {}",
                plural(work.members, "member"),
                plural(work.commits, "commit"),
                plural(work.heartbeats, "heartbeat"),
                plural(work.rebalances, "rebalance")
            )
        })
    }

    pub fn packing_text(&self) -> Option<String> {
        self.compression.map(|packing| {
            format!(
                "{}: to {:.0} % of its size in {} a request, on the load's core",
                packing.codec.name(),
                packing.ratio() * 100.0,
                duration(packing.mean_ns)
            )
        })
    }
}

/// `1 topic`, `2 topics`.
pub fn plural(count: u64, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

/// A `~` marks a percentile that says nothing: too few requests lie beyond it, or the generator made it.
pub fn write_latencies(f: &mut impl fmt::Write, rows: &[(&str, Basis<'_>)]) -> fmt::Result {
    write!(f, "{:<26}", "microseconds")?;
    for name in ["p50", "p90", "p99", "p99.9", "p99.99", "max", "<= 1 ms"] {
        write!(f, "{name:>11}")?;
    }
    writeln!(f)?;
    for (name, basis) in rows.iter().filter(|(_, basis)| basis.latency.samples > 0) {
        let row = basis.latency;
        write!(f, "{name:<26}")?;
        let values = [
            (0.5, row.p50_ns),
            (0.9, row.p90_ns),
            (0.99, row.p99_ns),
            (0.999, row.p99_9_ns),
            (0.9999, row.p99_99_ns),
        ];
        for (quantile, ns) in values {
            let mark = if basis.is_sound(quantile) { "" } else { "~" };
            write!(f, "{:>11}", format!("{mark}{:.1}", ns as f64 / 1e3))?;
        }
        writeln!(f, "{:>11.1}{:>10.3}%", row.max_ns as f64 / 1e3, row.within_1ms * 100.0)?;
    }
    Ok(())
}

fn write_verdict(f: &mut fmt::Formatter<'_>, ledger: &Verdict) -> fmt::Result {
    let word = if ledger.passed() { "ledger ok" } else { "LEDGER FAILED" };
    writeln!(f, "{word}: {} acknowledged, {} read, {}", ledger.acked, ledger.read, ledger.finding())
}

/// Nanoseconds for people: three digits and a unit.
pub fn duration(ns: u64) -> String {
    let ns = ns as f64;
    let (value, unit) = match ns {
        _ if ns < 1e3 => (ns, "ns"),
        _ if ns < 1e6 => (ns / 1e3, "µs"),
        _ if ns < 1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    match value {
        _ if value < 10.0 && unit != "ns" => format!("{value:.2} {unit}"),
        _ if value < 100.0 && unit != "ns" => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_234, "1.23 µs"),
            (45_678, "45.7 µs"),
            (345_678, "346 µs"),
            (1_400_000_000, "1.40 s"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn consumers_without_a_partition_are_said_to_be_idle() {
        let mut run = super::super::output::tests::report("run", 10);
        for (consumers, groups, topics, text) in [
            (1, 1, 1, "1 consumer"),
            (4, 1, 1, "4 consumers (3 idle: more than partitions)"),
            (4, 2, 3, "8 consumers in 2 groups (2 idle: more than partitions)"),
        ] {
            (run.consumers, run.groups, run.topics) = (consumers, groups, topics);
            assert_eq!(run.readers(), text);
        }
    }
}
