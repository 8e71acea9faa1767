//! The files of a result: `result.json`, histograms for HdrHistogram's tools, `report.html`.
//!
//! - [`html`]: the report, one file that needs no network
//! - [`plot`]: its charts

mod html;
mod plot;

pub use html::utc;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::error::BenchError;
use super::recording::hgrm;
use super::report::Report;

/// The version of `result.json`. It rises when a field changes its meaning or goes; new fields may
/// come without.
pub const SCHEMA: u32 = 2;
pub const RESULT_FILE: &str = "result.json";
pub const REPORT_FILE: &str = "report.html";

/// Everything that is known of one or several runs: `result.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BenchResult {
    pub schema: u32,
    pub generator: Generator,
    /// Of the first run.
    pub began_unix_ms: u64,
    /// As it was typed.
    pub command: Vec<String>,
    pub scenario: String,
    /// What a search found, in words.
    pub finding: Option<String>,
    /// The highest rates that `find-max` found, one for each repeat.
    #[serde(default)]
    pub maxima: Vec<Maximum>,
    pub environment: Environment,
    pub broker: BrokerFacts,
    /// True when all numbers may be used and no record was lost, repeated, reordered or damaged.
    pub passed: bool,
    pub runs: Vec<Report>,
}

/// The highest rate at which an objective is met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Maximum {
    pub slo: String,
    pub records_per_s: f64,
}

/// The program that made the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    pub name: String,
    pub version: String,
    /// Of the sources, where the build knew it.
    pub revision: Option<String>,
}

impl Generator {
    pub fn this() -> Generator {
        Generator {
            name: "ringmq bench".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: option_env!("RINGMQ_REVISION")
                .filter(|revision| !revision.is_empty())
                .map(str::to_owned),
        }
    }
}

/// The broker that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerFacts {
    pub endpoint: String,
    /// Started for these runs, on an empty data directory.
    pub own: bool,
    /// What an ack means: a number without it must not stand beside one with it.
    pub durability: String,
    /// Its `/info`.
    pub info: Option<serde_json::Value>,
    /// Its configuration, each value with its origin.
    pub config: Option<String>,
}

/// Write all files into `dir`, which is made. Returns the path of the report.
///
/// # Errors
/// A file cannot be written.
pub fn write(dir: &Path, result: &BenchResult) -> Result<PathBuf, BenchError> {
    let write_all = || -> std::io::Result<PathBuf> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join(RESULT_FILE), serde_json::to_vec_pretty(result)?)?;
        for (index, report) in result.runs.iter().enumerate() {
            let name = file_name(index, &report.label);
            fs::write(dir.join(format!("{name}.hlog")), report.recording.hlog())?;
            let latency = if report.response.samples > 0 {
                &report.measured.response
            } else {
                &report.measured.service
            };
            fs::write(dir.join(format!("{name}.hgrm")), hgrm(latency))?;
            if report.end_to_end.samples > 0 {
                fs::write(dir.join(format!("{name}-end-to-end.hgrm")), hgrm(&report.measured.end_to_end))?;
            }
        }
        let report = dir.join(REPORT_FILE);
        fs::write(&report, html::page(result))?;
        Ok(report)
    };
    write_all().map_err(BenchError::io("cannot write the results"))
}

/// Read a `result.json`, or the folder that it lies in.
///
/// # Errors
/// It cannot be read, or is of another schema.
pub fn read(path: &Path) -> Result<BenchResult, BenchError> {
    let path = if path.is_dir() { path.join(RESULT_FILE) } else { path.to_owned() };
    let fault = |reason: String| BenchError::Options(format!("{}: {reason}", path.display()));
    let text = fs::read_to_string(&path).map_err(|error| fault(error.to_string()))?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(schema) => return Err(fault(format!("its schema is {schema}, this program reads {SCHEMA}"))),
        None => return Err(fault("it is not a result of ringmq bench".to_owned())),
    }
    serde_json::from_value(value).map_err(|error| fault(error.to_string()))
}

/// `01-rate-50000`: sorts as the runs were made, and has nothing that a shell minds.
fn file_name(index: usize, label: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
    format!("{:02}-{}", index + 1, label.chars().map(plain).collect::<String>())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::ledger::Verdict;
    use crate::bench::options::{Load, Options};
    use crate::bench::recording::Recording;
    use crate::bench::report::{Counts, Second};
    use crate::bench::stats::Interval;

    /// A run whose response times are `scale_us` to 1000 times that.
    pub fn report(label: &str, scale_us: u64) -> Report {
        let options = Options {
            label: label.to_owned(),
            load: Load::Open { records_per_s: 1000.0 },
            warmup_s: 0,
            ..Options::default()
        };
        let (mut measured, mut recording) = (Interval::new(), Recording::begin());
        for index in 1..=1000 {
            measured.response.record(index * scale_us * 1000);
            measured.service.record(index * scale_us * 900);
        }
        measured.records = 1000;
        measured.requests = 1000;
        recording.push(0, false, &measured);
        let line = Second::of(0, &measured);
        let ledger = Verdict { acked: 1000, ..Verdict::default() };
        let counts = Counts { ledger, due: 1000, due_records: 1000, ..Counts::default() };
        let mut report = Report::new(&options, measured, line, vec![line], recording, counts);
        report.judge(&options, Vec::new());
        report
    }

    pub fn result(runs: Vec<Report>) -> BenchResult {
        BenchResult {
            schema: SCHEMA,
            generator: Generator::this(),
            began_unix_ms: 1_700_000_000_000,
            command: vec!["ringmq".to_owned(), "bench".to_owned()],
            scenario: "steady".to_owned(),
            finding: None,
            maxima: Vec::new(),
            environment: Environment::read(None),
            broker: BrokerFacts { durability: "sync".to_owned(), ..BrokerFacts::default() },
            passed: runs.iter().all(Report::passed),
            runs,
        }
    }

    #[test]
    fn a_result_is_written_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let written = result(vec![report("a b/c", 1), report("d", 2)]);
        write(dir.path(), &written).unwrap();
        let mut names: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let expected =
            ["01-a-b-c.hgrm", "01-a-b-c.hlog", "02-d.hgrm", "02-d.hlog", "report.html", "result.json"];
        assert_eq!(names, expected);

        let back = read(dir.path()).unwrap();
        assert_eq!(serde_json::to_value(&back).unwrap(), serde_json::to_value(&written).unwrap());
    }

    #[test]
    fn the_schema_is_what_scripts_rely_on() {
        let json = serde_json::to_value(result(vec![report("a", 1)])).unwrap();
        assert_eq!((json["schema"].as_u64(), json["passed"].as_bool()), (Some(2), Some(true)));
        let run = &json["runs"][0];
        for name in ["p50_ns", "p90_ns", "p99_ns", "p99_9_ns", "p99_99_ns", "max_ns", "samples"] {
            assert!(run["response"][name].as_u64().is_some_and(|ns| ns > 0), "{name}");
        }
        for name in ["lost", "duplicated", "reordered", "corrupt"] {
            assert_eq!(run["ledger"][name], 0, "{name}");
        }
        for name in ["kernel", "cpu", "governor", "storage", "tcp_congestion_control"] {
            assert!(json["environment"].get(name).is_some(), "{name}");
        }
        assert_eq!(json["broker"]["durability"], "sync");
    }

    #[test]
    fn what_is_not_a_result_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        for (text, reason) in [("{", "EOF"), ("{}", "not a result"), (r#"{"schema":1}"#, "its schema is 1")] {
            let path = dir.path().join(RESULT_FILE);
            fs::write(&path, text).unwrap();
            let error = read(dir.path()).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(RESULT_FILE), "{error}");
        }
    }
}
