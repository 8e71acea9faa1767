//! `ringmq bench` as its users run it: the built binary, against brokers that it starts itself, a
//! server with a known truth, and addresses that nobody serves.

mod failures;
mod histograms;
mod truth;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// In a folder beside the sources, where direct IO works for certain.
fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("bench-test-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

fn command(dir: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    command.arg("bench").args(line.split_whitespace()).arg("--out").arg(dir).current_dir(dir);
    command
}

fn bench(dir: &Path, line: &str) -> Output {
    command(dir, line).output().expect("the binary runs")
}

/// The one folder of results below `dir`.
fn results(dir: &Path) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn result(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(results(dir).join("result.json")).unwrap()).unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every record that was acknowledged was read, once, in order, whole. Not whether the run was valid:
/// that depends on what else the machine does.
fn assert_ledger(run: &Value, said: &str) {
    let ledger = &run["ledger"];
    for fault in ["lost", "duplicated", "reordered", "corrupt", "foreign", "read_offsets_skipped"] {
        assert_eq!(ledger[fault], 0, "{fault}: {said}");
    }
    assert!(ledger["acked"].as_u64().is_some_and(|acked| acked > 0), "{said}");
}

#[test]
fn without_a_broker_it_starts_one_and_leaves_a_report_and_nothing_else() {
    let dir = folder();
    let output = bench(dir.path(), "--rate 2k --seconds 1 --warmup 2 --partitions 3 --connections 3");
    let said = text(&output);
    let result = result(dir.path());
    assert_ledger(&result["runs"][0], &said);
    assert_eq!(result["runs"][0]["ledger"]["read"], result["runs"][0]["ledger"]["acked"], "{said}");
    // The exit code is the verdict.
    assert_eq!(output.status.success(), result["passed"].as_bool().unwrap(), "{said}");
    assert!(said.contains("response: ack - intended") && said.contains("report.html"), "{said}");

    assert!(result["broker"]["durability"].as_str().unwrap().starts_with("sync"), "{}", result["broker"]);
    assert_eq!(result["broker"]["info"]["shards"], 1);
    let config = result["broker"]["config"].as_str().unwrap();
    for key in ["segment_bytes", "flag --shards", "flag --kafka-listen", "flag --data-dir"] {
        assert!(config.contains(key), "{key}: {config}");
    }
    assert!(result["environment"]["storage"]["file_system"].is_string(), "{}", result["environment"]);
    let stages = &result["runs"][0]["stages"];
    assert_eq!(stages["names"][5], "device_write", "{stages}");
    let samples = result["runs"][0]["response"]["samples"].as_u64().unwrap();
    let staged = stages["buckets"].as_array().unwrap().iter().map(|bucket| bucket["count"].as_u64().unwrap());
    assert!((1..samples * 2).contains(&staged.sum()), "of the measured second, not of three: {stages}");
    // Each of them has a colour of its own in the report.
    let page = fs::read_to_string(results(dir.path()).join("report.html")).unwrap();
    let colour = |name: &Value| {
        let name = name.as_str().unwrap().replace('_', " ");
        let (before, _) = page.split_once(&format!("\"></i>{name}</span>")).expect(&name);
        before.rsplit_once("<i class=\"").unwrap().1
    };
    let stages = stages["names"].as_array().unwrap();
    let colours: BTreeSet<&str> = stages.iter().map(colour).collect();
    assert_eq!((colours.len(), stages.len()), (8, 8), "{colours:?}");

    let mut names: Vec<String> = fs::read_dir(results(dir.path()))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let histograms = ["01-run-end-to-end.hgrm", "01-run.hgrm", "01-run.hlog"];
    assert_eq!(names[..3], histograms, "{names:?}");
    assert_eq!(names[3..], ["broker.log", "report.html", "result.json"], "the broker's data is gone");
}

#[test]
fn a_broker_that_is_killed_in_the_middle_loses_nothing_that_was_acknowledged() {
    let dir = folder();
    let line =
        "--scenario restart-under-load --rate 2k --seconds 2 --warmup 0 --partitions 2 --connections 2";
    let said = text(&bench(dir.path(), line));
    let run = &result(dir.path())["runs"][0];
    assert!(run["reconnects"].as_u64().is_some_and(|count| count >= 3), "{said}");
    assert_ledger(run, &said);
    assert_eq!(run["ledger"]["read"], run["ledger"]["acked"], "{said}");
    assert!(said.contains("killed and ready again after"), "{said}");
}

#[test]
fn members_of_groups_join_commit_what_they_read_and_leave() {
    let dir = folder();
    let line = "--rate 2k --seconds 2 --warmup 0 --topics 2 --partitions 3 --consumers 2 --groups 2 \
                --group-protocol classic";
    let said = text(&bench(dir.path(), line));
    let run = &result(dir.path())["runs"][0];
    assert_ledger(run, &said);
    assert_eq!(
        run["ledger"]["read"].as_u64(),
        run["ledger"]["acked"].as_u64().map(|acked| acked * 2),
        "{said}"
    );
    let work = &run["group_work"];
    // The last commit of each member, at least, and each partition's offset asked for after it.
    assert_eq!((&work["members"], &work["offsets_wrong"]), (&4.into(), &0.into()), "{said}");
    assert!(work["commits"].as_u64().is_some_and(|commits| commits >= 4), "{said}");
    assert!(said.contains("4 members of groups"), "{said}");
}

#[test]
fn members_of_groups_survive_the_brokers_restart() {
    let dir = folder();
    let line =
        "--scenario restart-under-load --rate 1k --seconds 2 --warmup 0 --group-protocol classic --quiet";
    let said = text(&bench(dir.path(), line));
    let run = &result(dir.path())["runs"][0];
    assert_ledger(run, &said);
    assert_eq!(run["group_work"]["offsets_wrong"], 0, "{said}");
    assert_eq!(run["ledger"]["read"], run["ledger"]["acked"], "{said}");
}

#[test]
fn every_scenario_plays_and_names_its_runs() {
    for (line, labels) in [
        ("burst", &["run"][..]),
        ("sweep --sweep record-bytes=100,2KiB", &["100 B", "2048 B"]),
        ("fan-out", &["run"]),
        ("catch-up", &["backlog", "undisturbed", "catch-up"]),
        ("slow-consumer", &["usual", "slow consumer"]),
        ("many-partitions", &["usual", "many partitions"]),
        ("many-connections", &["usual", "many connections"]),
    ] {
        let dir = folder();
        let line = format!("--scenario {line} --rate 1k --seconds 1 --warmup 0 --quiet");
        let said = text(&bench(dir.path(), &line));
        let result = result(dir.path());
        let runs = result["runs"].as_array().unwrap();
        let found: Vec<&str> = runs.iter().map(|run| run["label"].as_str().unwrap()).collect();
        assert_eq!(found, labels, "{said}");
        runs.iter().for_each(|run| assert_ledger(run, &said));
    }
}

#[test]
fn the_search_for_a_maximum_ends_below_the_closed_loop() {
    let dir = folder();
    // An objective that every rate meets which is reached at all.
    let said = text(&bench(dir.path(), "--scenario find-max --slo p50<30s --seconds 1 --warmup 0 --quiet"));
    let result = result(dir.path());
    let runs = result["runs"].as_array().unwrap();
    assert_eq!(runs[0]["label"], "closed loop", "{said}");
    assert!(runs.len() > 2, "{said}");
    let finding = result["finding"].as_str().unwrap();
    assert!(finding.contains("p50<30s"), "{finding}");
}

#[test]
fn no_objective_is_met_by_a_percentile_that_nobody_measured() {
    let dir = folder();
    // A million requests a rate would be needed.
    let line = "--scenario find-max --slo p99.99<30s --batch-records 1 --seconds 1 --warmup 0 --quiet";
    let output = bench(dir.path(), line);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no rate that was tried is known to meet p99.99<30s"), "{said}");
    assert!(said.contains("too few requests for p99.99: run longer"), "{said}");
    assert_eq!(result(dir.path())["maxima"], Value::Array(Vec::new()), "{said}");
}

#[test]
fn two_at_a_time_leave_each_others_data_alone() {
    let dir = folder();
    let line = "--rate 500 --seconds 2 --warmup 0 --quiet";
    let both = [(); 2].map(|()| {
        let mut command = command(dir.path(), line);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
    });
    let said: Vec<String> = both.map(|child| text(&child.wait_with_output().unwrap())).into();
    let folders: Vec<PathBuf> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 2, "{said:?}");
    for folder in folders {
        let result: Value = serde_json::from_slice(&fs::read(folder.join("result.json")).unwrap()).unwrap();
        let run = &result["runs"][0];
        assert_ledger(run, &said.join("\n"));
        assert_eq!(run["ledger"]["read"], run["ledger"]["acked"], "{said:?}");
        assert!(folder.join("report.html").exists() && !folder.join("broker").exists(), "{said:?}");
    }
}

#[test]
fn the_ceiling_is_in_its_json() {
    let dir = folder();
    let json = dir.path().join("ceiling.json");
    let mut ceiling = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    // On one core: how much it is does not matter here.
    ceiling.args("bench ceiling --sink-cpu 0 --load-cpu 0 --seconds 1 --warmup 0 --json".split(' '));
    let said = text(&ceiling.arg(&json).output().expect("the binary runs"));
    let ceiling: Value = serde_json::from_slice(&fs::read(&json).expect(&said)).unwrap();
    let most = ceiling["records_per_s"].as_f64().unwrap();
    assert!(most > 0.0 && ceiling["closed"]["records_per_s"] == ceiling["records_per_s"], "{said}");
    assert_eq!(ceiling["half"]["target_records_per_s"].as_f64(), Some(most / 2.0), "{said}");
    assert_eq!(ceiling["half"]["own_delay"]["p99_ns"], ceiling["late_p99_ns"], "{said}");
}

#[test]
fn repeats_can_be_compared_and_a_regression_fails() {
    let dir = folder();
    let said = text(&bench(dir.path(), "--rate 1k --seconds 1 --warmup 0 --repeat 2 --quiet"));
    let path = results(dir.path());
    let mut result = result(dir.path());
    assert_eq!(result["runs"].as_array().unwrap().len(), 2, "{said}");
    let compare = |before: &Path, after: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        command.args(["bench", "compare"]).arg(before).arg(after).output().expect("the binary runs")
    };
    // The machine may have spoiled the run: here it is the comparison that is tested.
    result["passed"] = true.into();
    for run in result["runs"].as_array_mut().unwrap() {
        // As of a run that was long enough, and on time itself, for its percentiles to be judged.
        run["response"]["samples"] = 1_000_000.into();
        for name in ["p99_ns", "p99_9_ns", "p99_99_ns"] {
            run["own_delay"][name] = 0.into();
        }
    }
    let (good, bad) = (path.join("good.json"), path.join("bad.json"));
    fs::write(&good, result.to_string()).unwrap();
    let same = compare(&good, &good);
    assert!(same.status.success(), "{}", text(&same));
    for run in result["runs"].as_array_mut().unwrap() {
        let slower = run["response"]["p99_ns"].as_u64().unwrap() * 3 + 1_000_000_000;
        run["response"]["p99_ns"] = slower.into();
    }
    // One run a side: how much is known, how sure is not, and a gate must not let it pass.
    result["runs"].as_array_mut().unwrap().truncate(1);
    fs::write(&bad, result.to_string()).unwrap();
    let worse = compare(&good, &bad);
    assert_eq!(worse.status.code(), Some(1), "{}", text(&worse));
    assert!(text(&worse).contains("WORSE"), "{}", text(&worse));
}

#[test]
fn a_workload_file_says_what_to_do_and_the_command_line_counts() {
    let (dir, files) = (folder(), folder());
    let file = files.path().join("w.yaml");
    let fields = "name: two topics\ntopics: 2\npartitionsPerTopic: 2\nmessageSize: 300\n\
                  useRandomizedPayloads: true\nrandomBytesRatio: 0.5\nkeyDistributor: RANDOM_NANO\n\
                  subscriptionsPerTopic: 2\nconsumerPerSubscription: 1\nproducersPerTopic: 1\n\
                  producerRate: 1000\ntestDurationMinutes: 60\nwarmupDurationMinutes: 0\n\
                  compression: zstd\nlinger-ms: 5\n";
    fs::write(&file, fields).unwrap();
    let said = text(&bench(dir.path(), &format!("--workload {} --seconds 1 --quiet", file.display())));
    let run = &result(dir.path())["runs"][0];
    assert_ledger(run, &said);
    assert_eq!(run["ledger"]["acked"], 1000, "{said}");
    assert_eq!(run["ledger"]["read"], 2000, "two groups: {said}");
    assert_eq!(
        (&run["label"], &run["topics"], &run["keys"]),
        (&"two topics".into(), &2.into(), &10_000.into())
    );
    assert_eq!(run["compression"]["codec"], "zstd", "{run}");
    let (plain, packed) = (&run["compression"]["plain_bytes"], &run["compression"]["packed_bytes"]);
    assert!(packed.as_f64() < plain.as_f64().map(|plain| plain * 0.8), "{run}");

    fs::write(&file, "messageSizes: 1\n").unwrap();
    let output = bench(dir.path(), &format!("--workload {}", file.display()));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("did you mean messageSize?"), "{}", text(&output));
}

#[test]
fn what_cannot_be_measured_is_said_and_fails() {
    let dir = folder();
    // A port that was free a moment ago, and is nobody's now.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (line, reason) in [
        (format!("--bootstrap {address} --seconds 1"), "is the broker up?"),
        ("--bootstrap nowhere --seconds 1".to_owned(), "give HOST:PORT"),
        ("--seconds 1 --record-bytes 8".to_owned(), "at least 32 bytes"),
        ("--seconds 1 --set log.nonsense=1".to_owned(), "log.nonsense"),
        ("--seconds 1 --topic bad/name".to_owned(), "bad/name"),
        ("--seconds 1 --cpus 1000000".to_owned(), "core 1000000 is none of those"),
        ("--scenario sweep".to_owned(), "a sweep needs --sweep"),
        ("--scenario burst --closed --seconds 1".to_owned(), "a burst needs a schedule"),
    ] {
        let output = bench(dir.path(), &line);
        assert_eq!(output.status.code(), Some(1), "{line}: {}", text(&output));
        assert!(text(&output).contains(reason), "{line}: {}", text(&output));
    }
}
