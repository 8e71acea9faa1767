//! The histograms that a run leaves behind, read back: by the hdrhistogram crate, and by the tool that
//! HdrHistogram's Java package brings.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;

use crate::{bench, folder, result, results, text};

/// The version of the Java package; Maven Central has it.
const JAVA_PACKAGE: &str = "org.hdrhistogram:HdrHistogram:2.2.2";
const DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// A run with a warm-up, whose samples must not be among the others. Its folder and first report.
fn run(dir: &Path) -> (PathBuf, Value) {
    let output = bench(dir, "--rate 3k --batch-records 1 --seconds 2 --warmup 1 --quiet");
    let said = text(&output);
    let mut result = result(dir);
    let run = result["runs"][0].take();
    assert!(run["response"]["samples"].as_u64().is_some_and(|samples| samples > 5000), "{said}");
    (results(dir), run)
}

/// Quantile and value in milliseconds and count, line by line of a percentile distribution.
fn distribution(text: &str) -> Vec<[f64; 3]> {
    let lines = text.lines().filter(|line| line.starts_with(' ') && !line.contains("Percentile"));
    let numbers = lines.map(|line| line.split_whitespace().map(|word| word.parse().unwrap_or(f64::NAN)));
    numbers.map(|mut n| std::array::from_fn(|_| n.next().expect("three columns and more"))).collect()
}

#[test]
fn an_interval_log_holds_every_sample_and_the_distribution_agrees_with_it() {
    let dir = folder();
    let (path, run) = run(dir.path());
    let log = fs::read(path.join("01-run.hlog")).unwrap();
    let mut deserializer = Deserializer::new();
    for (tag, kind) in [("response", "response"), ("service", "service"), ("end-to-end", "end_to_end")] {
        let mut all = Histogram::<u64>::new(3).unwrap();
        let (mut seconds, mut warm_up) = (0, 0);
        for entry in IntervalLogIterator::new(&log) {
            let LogEntry::Interval(line) = entry.expect("a line that the crate can read") else { continue };
            let encoded = base64::prelude::BASE64_STANDARD.decode(line.encoded_histogram()).unwrap();
            let histogram: Histogram<u64> = deserializer.deserialize(&mut Cursor::new(encoded)).unwrap();
            let found = line.tag().map_or("", |tag| tag.as_str());
            if found == tag {
                all += &histogram;
                seconds += 1;
            } else if found == format!("warm-up-{tag}") {
                warm_up += histogram.len();
            }
        }
        let percentiles = &run[kind];
        assert!(seconds >= 2, "{tag}: {seconds} seconds");
        assert!(warm_up > 0, "{tag}: the warm-up is there, too, by its own name");
        assert_eq!(all.len(), percentiles["samples"], "{tag}");
        for (name, quantile) in [("p50_ns", 0.5), ("p99_ns", 0.99), ("p99_9_ns", 0.999), ("max_ns", 1.0)] {
            assert_eq!(all.value_at_quantile(quantile), percentiles[name], "{tag} {name}");
        }
        let file = match tag {
            "response" => "01-run.hgrm",
            "end-to-end" => "01-run-end-to-end.hgrm",
            _ => continue,
        };
        let lines = distribution(&fs::read_to_string(path.join(file)).unwrap());
        assert!(lines.len() > 20, "{lines:?}");
        for [value_ms, quantile, count] in lines {
            let within = all.count_between(0, (value_ms * 1e6).round() as u64);
            assert_eq!(within as f64, count, "{file}: {value_ms} ms at {quantile}");
            assert!(count >= (quantile * all.len() as f64).floor(), "{file}: {value_ms} ms at {quantile}");
        }
    }
}

#[test]
fn the_java_tool_makes_the_same_distribution_of_the_log() {
    let Some(jar) = java_package() else { return };
    let dir = folder();
    let (path, run) = run(dir.path());
    let out = dir.path().join("java");
    let output = Command::new("java")
        .arg("-cp")
        .arg(jar)
        .arg("org.HdrHistogram.HistogramLogProcessor")
        .args(["-tag", "response", "-outputValueUnitRatio", "1000000", "-i"])
        .arg(path.join("01-run.hlog"))
        .arg("-o")
        .arg(&out)
        .output()
        .expect("java runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output));
    let java = fs::read_to_string(out.with_extension("hgrm")).unwrap();
    let ours = fs::read_to_string(path.join("01-run.hgrm")).unwrap();
    let (java_lines, our_lines) = (distribution(&java), distribution(&ours));
    assert_eq!(java_lines.last().map(|line| line[2]), run["response"]["samples"].as_f64(), "{java}");
    assert_eq!(java_lines.len(), our_lines.len(), "{java}\n{ours}");
    for (java_line, our_line) in java_lines.iter().zip(&our_lines) {
        // The tool prints three decimals.
        let [milliseconds, quantile, count] = std::array::from_fn(|at| (java_line[at] - our_line[at]).abs());
        assert!(milliseconds <= 0.0011 && quantile < 1e-9 && count == 0.0, "{java_line:?} {our_line:?}");
    }
    let footer = |text: &str, name: &str| -> Option<f64> {
        let (_, after) = text.split_once(name)?;
        after.trim_start_matches([' ', '=']).split([',', ']']).next()?.trim().parse().ok()
    };
    for name in ["Max", "Total count", "Buckets", "SubBuckets"] {
        let (theirs, ours) = (footer(&java, name), footer(&ours, name));
        let same = theirs.zip(ours).is_some_and(|(a, b)| (a - b).abs() <= 0.0011);
        assert!(same, "{name}: {theirs:?} {ours:?}\n{java}");
    }
}

/// The package's file, fetched once. Without Java and Maven the test is skipped by name, but in CI it
/// fails.
fn java_package() -> Option<PathBuf> {
    let skipped = |reason: &str| {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "must run in CI: {reason}");
        // Not by a macro: of a test that passes, the harness shows nothing of those.
        let line = format!("SKIP the_java_tool_makes_the_same_distribution_of_the_log ({reason})\n");
        std::io::stderr().write_all(line.as_bytes()).expect("stderr takes a line");
        None
    };
    for tool in ["java", "mvn"] {
        if Command::new(tool).arg("-version").output().is_err() {
            return skipped(&format!("{tool} is not installed"));
        }
    }
    let cache = std::env::var_os("RINGMQ_TEST_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("maven"));
    let (_, version) = JAVA_PACKAGE.rsplit_once(':').expect("a version");
    let jar = cache.join(format!("HdrHistogram-{version}.jar"));
    if !jar.exists() {
        let output = Command::new("mvn")
            .args(["--quiet", "--batch-mode", &format!("{DEPENDENCY_PLUGIN}:copy")])
            .arg(format!("-Dartifact={JAVA_PACKAGE}"))
            .arg(format!("-DoutputDirectory={}", cache.display()))
            .output()
            .expect("mvn was found above");
        if !output.status.success() {
            return skipped(&format!("mvn could not fetch {JAVA_PACKAGE}: {}", text(&output)));
        }
    }
    Some(jar)
}
