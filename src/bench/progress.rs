//! The line that says once a second how it goes: rewritten in place on a terminal, one after the
//! other in a file.

use std::io::{IsTerminal, Write};

use super::options::{Load, Options};
use super::report::Second;
use super::sound::is_sound;
use super::text::duration;

pub struct Progress {
    /// Records per second.
    target: Option<f64>,
    /// `None` when nobody knows how long it takes.
    end_s: Option<u64>,
    warmup_s: u64,
    in_place: bool,
    printed: bool,
}

impl Progress {
    pub fn new(options: &Options) -> Progress {
        Progress {
            target: match options.load {
                Load::Open { records_per_s } => Some(records_per_s * options.arrivals.mean_factor()),
                Load::Closed | Load::None => None,
            },
            end_s: (options.load != Load::None).then(|| options.end_s()),
            warmup_s: options.measured_from_s(),
            in_place: std::io::stderr().is_terminal(),
            printed: false,
        }
    }

    pub fn print(&mut self, second: &Second) {
        self.show(&self.line(second));
    }

    /// A second after the load's end; of what was due before it, `overdue` is not sent.
    pub fn print_rest(&mut self, second: &Second, overdue: u64) {
        self.show(&rest_line(second, overdue));
    }

    fn show(&mut self, line: &str) {
        let mut stderr = std::io::stderr().lock();
        // Nobody watches when this fails.
        let _ = if self.in_place { write!(stderr, "\r\x1b[2K{line}") } else { writeln!(stderr, "{line}") };
        let _ = stderr.flush();
        self.printed = true;
    }

    fn line(&self, second: &Second) -> String {
        let passed_s = second.second + 1;
        let left = match self.end_s {
            Some(end_s) => format!("{:>3} s left", end_s.saturating_sub(passed_s)),
            None => format!("{passed_s:>3} s"),
        };
        let phase = if passed_s <= self.warmup_s { " warm-up" } else { "" };
        let target = self.target.map(|target| format!(" of {target:.0}")).unwrap_or_default();
        let (read, errors) = (read_text(second), errors_text(second));
        format!(
            "{left}{phase}  {}{target} rec/s {:.1} MB/s{read}  in flight {}  \
             p50 {} p99 {} p99.9 {} max {}{errors}",
            second.records,
            second.bytes as f64 / 1e6,
            second.in_flight_records,
            percentile(second, 0.5, second.p50_ns),
            percentile(second, 0.99, second.p99_ns),
            percentile(second, 0.999, second.p99_9_ns),
            duration(second.max_ns),
        )
    }
}

fn rest_line(second: &Second, overdue: u64) -> String {
    let what = match (overdue, second.in_flight_records) {
        (0, 0) if second.read_bytes == 0 => "answered".to_owned(),
        (0, 0) => "reading back".to_owned(),
        (0, in_flight) => format!("draining, {in_flight} in flight"),
        (overdue, _) => format!("draining, {overdue} overdue"),
    };
    let rate = format!("{} rec/s {:.1} MB/s", second.records, second.bytes as f64 / 1e6);
    format!("{what}  {rate}{}{}", read_text(second), errors_text(second))
}

/// With a `~` when too few requests lie beyond it.
fn percentile(second: &Second, quantile: f64, ns: u64) -> String {
    let mark = if is_sound(second.answered(), quantile) { "" } else { "~" };
    format!("{mark}{}", duration(ns))
}

fn read_text(second: &Second) -> String {
    match second.read_bytes {
        0 => String::new(),
        bytes => format!("  read {:.1} MB/s", bytes as f64 / 1e6),
    }
}

fn errors_text(second: &Second) -> String {
    match second.errors {
        0 => String::new(),
        errors => format!("  ERRORS {errors}"),
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.in_place && self.printed {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_target_achieved_in_flight_percentiles_and_time_left() {
        let options = Options {
            load: Load::Open { records_per_s: 1000.0 },
            records_per_batch: 10,
            seconds: 8,
            warmup_s: 2,
            ..Options::default()
        };
        let second = Second {
            second: 1,
            requests: 99,
            records: 990,
            bytes: 1_200_000,
            in_flight: 2,
            in_flight_records: 20,
            p50_ns: 100_000,
            p99_ns: 1_000_000,
            p99_9_ns: 2_000_000,
            max_ns: 3_000_000,
            ..Second::default()
        };
        let line = |requests| Progress::new(&options).line(&Second { requests, ..second });
        let counts = "  8 s left warm-up  990 of 1000 rec/s 1.2 MB/s  in flight 20  ";
        let latencies = [
            (99, "p50 ~100 µs p99 ~1.00 ms p99.9 ~2.00 ms max 3.00 ms"),
            (1_330, "p50 100 µs p99 ~1.00 ms p99.9 ~2.00 ms max 3.00 ms"),
            (10_000, "p50 100 µs p99 1.00 ms p99.9 ~2.00 ms max 3.00 ms"),
            (100_000, "p50 100 µs p99 1.00 ms p99.9 2.00 ms max 3.00 ms"),
        ];
        for (requests, text) in latencies {
            assert_eq!(line(requests), format!("{counts}{text}"));
        }
    }

    #[test]
    fn after_the_end_it_says_what_is_waited_for() {
        let second = Second { records: 700, bytes: 1_000_000, in_flight_records: 5, ..Second::default() };
        assert_eq!(rest_line(&second, 90_000), "draining, 90000 overdue  700 rec/s 1.0 MB/s");
        assert_eq!(rest_line(&second, 0), "draining, 5 in flight  700 rec/s 1.0 MB/s");
        let reading = Second { read_bytes: 9_000_000, ..Second::default() };
        assert_eq!(rest_line(&reading, 0), "reading back  0 rec/s 0.0 MB/s  read 9.0 MB/s");
    }
}
