//! Whatever goes wrong: a message that says what, an exit code, and what was measured until then.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use ringmq::bench::sink::{Null, Sink};
use serde_json::Value;

use crate::{assert_ledger, bench, command, folder, result, results, text};

/// A broker that the test has started, as a user would.
struct Server {
    child: Child,
    address: String,
    admin: String,
}

impl Server {
    fn start(dir: &Path) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringmq"))
            .args(["server", "--kafka-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args([
                "--shards",
                "1",
                "--set",
                "telemetry.log=info",
                "--set",
                "telemetry.format=text",
                "--data-dir",
            ])
            .arg(dir.join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the broker starts");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let banner = lines.by_ref().map_while(Result::ok).find(|line| line.contains("Kafka clients: "));
        let banner = banner.expect("a banner");
        let (_, after) = banner.split_once("Kafka clients: ").unwrap();
        let (address, after) = after.split_once("; admin: http://").unwrap();
        let (address, admin) = (address.to_owned(), after.split('/').next().unwrap().to_owned());
        // It must be able to go on writing.
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, address, admin }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Run `ringmq bench`, and `interfere` when it has reported its first second.
fn bench_and(dir: &Path, line: &str, interfere: impl FnOnce()) -> Output {
    run_and(&mut command(dir, line), |_| interfere())
}

/// The same for any command of it; `interfere` is told the process.
fn run_and(command: &mut Command, interfere: impl FnOnce(u32)) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("rec/s") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "no progress: {said}");
    }
    interfere(child.id());
    // Before the other end: a few lines do not fill a pipe.
    stderr.read_to_string(&mut said).unwrap();
    let output = child.wait_with_output().unwrap();
    Output { stderr: said.into_bytes(), ..output }
}

fn send(process: u32, signal: &str) {
    let kill = Command::new("sh").args(["-c", &format!("kill -{signal} {process}")]).status();
    assert!(kill.unwrap().success());
}

/// It failed, said `reason`, and kept what it had: marked, in the result and in the report.
fn assert_partial(dir: &Path, output: &Output, reason: &str) -> Value {
    let said = text(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(reason) && said.contains("INVALID"), "{said}");
    let result = result(dir);
    assert_eq!(result["passed"], false, "{said}");
    let run = &result["runs"][0];
    let named = |value: &Value| value.as_str().is_some_and(|text| text.contains(reason));
    assert!(run["invalid"].as_array().is_some_and(|reasons| reasons.iter().any(named)), "{run}");
    assert!(run["timeline"].as_array().is_some_and(|seconds| !seconds.is_empty()), "{run}");
    assert!(run["response"]["samples"].as_u64().is_some_and(|samples| samples > 0), "{run}");
    let page = fs::read_to_string(results(dir).join("report.html")).unwrap();
    assert!(page.contains("INVALID") && page.contains(reason), "the report names it");
    result
}

#[test]
fn a_broker_that_is_killed_under_load_leaves_a_partial_result_that_is_marked() {
    for read_back in ["--consumers 1", "--verify"] {
        let (data, dir) = (folder(), folder());
        let mut server = Server::start(data.path());
        let line = format!("--bootstrap {} --rate 2k --seconds 60 --warmup 0 {read_back}", server.address);
        let output = bench_and(dir.path(), &line, || server.child.kill().unwrap());
        let result = assert_partial(dir.path(), &output, "did the broker end?");
        // What nobody could read any more is not lost; nor was missed what was due after that.
        let (run, said) = (&result["runs"][0], text(&output));
        assert_ledger(run, &said);
        assert_eq!(run["ledger"]["ack_offsets_skipped"], 0, "{said}");
        assert!(run["due_records"].as_f64().is_some_and(|due| due < 60_000.0), "{run}");
    }
}

#[test]
fn a_signal_ends_the_load_in_order_and_leaves_neither_a_broker_nor_its_data() {
    for signal in ["INT", "TERM"] {
        let dir = folder();
        let line = "--rate 2k --seconds 3600 --warmup 0 --partitions 2 --connections 2";
        let output = run_and(&mut command(dir.path(), line), |bench| {
            send(bench, signal);
        });
        let result = assert_partial(dir.path(), &output, &format!("stopped early: SIG{signal}"));
        assert_ledger(&result["runs"][0], &text(&output));
        assert!(!results(dir.path()).join("broker").exists(), "its data");
        let broker = result["broker"]["endpoint"].as_str().unwrap();
        assert!(TcpStream::connect(broker).is_err(), "it is gone");
    }
}

#[test]
fn a_broker_that_hangs_is_named_and_what_was_measured_until_then_is_kept() {
    let (data, dir) = (folder(), folder());
    let server = Server::start(data.path());
    let line = format!("--bootstrap {} --rate 2k --seconds 5 --warmup 0 --consumers 1", server.address);
    let output = bench_and(dir.path(), &line, || send(server.child.id(), "STOP"));
    let result = assert_partial(dir.path(), &output, "the broker has stopped answering");
    let run = &result["runs"][0];
    assert_ledger(run, &text(&output));
    assert!(run["unanswered"].as_u64().is_some_and(|count| count > 0), "{run}");
}

#[test]
fn what_waits_behind_a_generator_that_stood_still_is_its_own_doing_and_fails_the_run() {
    let sink = Sink::start(Null::default(), 1, None).unwrap();
    let dir = folder();
    let line = format!("--bootstrap {} --rate 5k --batch-records 1 --seconds 3 --warmup 0", sink.address());
    let output = run_and(&mut command(dir.path(), &line), |bench| {
        send(bench, "STOP");
        std::thread::sleep(Duration::from_millis(300));
        send(bench, "CONT");
    });
    // 1,500 of 15,000 requests are due in it. Five at a time are sent behind it, and it is all of them that it
    // has made late: 150 by 270 ms and more.
    let said = text(&output);
    let run = &result(dir.path())["runs"][0];
    let p99 = |kind: &str| run[kind]["p99_ns"].as_u64().unwrap();
    assert!(p99("response") > 200_000_000, "{said}");
    assert!(p99("own_delay") > p99("response") / 2, "{said}");
    assert!(said.contains("the generator itself was late"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[test]
fn a_broker_that_cannot_be_started_again_leaves_what_was_measured_until_then() {
    let (dir, binaries) = (folder(), folder());
    let binary = binaries.path().join("ringmq");
    fs::hard_link(env!("CARGO_BIN_EXE_ringmq"), &binary).unwrap();
    let line =
        "bench --scenario restart-under-load --rate 2k --seconds 6 --warmup 0 --partitions 2 --connections 2";
    let mut command = Command::new(&binary);
    command.args(line.split_whitespace()).arg("--out").arg(dir.path());
    // It is running; half of the seconds later there is nothing to be started.
    let output = run_and(&mut command, |_| fs::remove_file(&binary).unwrap());
    let result = assert_partial(dir.path(), &output, "the broker was not started again");
    assert_ledger(&result["runs"][0], &text(&output));
}

#[test]
fn a_topic_that_is_deleted_under_load_is_named_by_its_error() {
    let (data, dir) = (folder(), folder());
    let server = Server::start(data.path());
    let line = format!("--bootstrap {} --rate 500 --batch-records 1 --seconds 3 --warmup 0", server.address);
    let output = bench_and(dir.path(), &line, || {
        let mut delete = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        delete.args(["topic", "delete", "bench", "--bootstrap", &server.address]);
        assert!(delete.output().unwrap().status.success());
    });
    assert_partial(dir.path(), &output, "UNKNOWN_TOPIC_OR_PARTITION");
}

#[test]
fn a_full_log_is_named_by_its_error_and_what_was_acknowledged_is_there() {
    let dir = folder();
    let line = "--rate 100k --seconds 2 --warmup 0 --quiet --set log.log_bytes_max=64MiB \
                --set log.segment_bytes=16MiB --set log.initial_bytes=16MiB";
    let output = bench(dir.path(), line);
    let result = assert_partial(dir.path(), &output, "KAFKA_STORAGE_ERROR");
    let run = &result["runs"][0];
    assert_ledger(run, &text(&output));
    assert_eq!(run["ledger"]["read"], run["ledger"]["acked"], "{}", text(&output));
}

#[test]
fn a_topic_with_too_few_partitions_is_named() {
    let (data, dir) = (folder(), folder());
    let server = Server::start(data.path());
    let mut create = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    create.args(["topic", "create", "narrow", "--partitions", "2", "--bootstrap", &server.address]);
    assert!(create.output().unwrap().status.success());
    let line = format!("--bootstrap {} --topic narrow --partitions 3 --seconds 1", server.address);
    let output = bench(dir.path(), &line);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("narrow exists and has only 2 partitions"), "{}", text(&output));
}

#[test]
fn of_a_broker_that_runs_already_the_report_says_what_is_known_and_what_is_not() {
    let (data, dir) = (folder(), folder());
    let server = Server::start(data.path());
    let addresses = format!("--bootstrap {} --admin {}", server.address, server.admin);
    let said = text(&bench(dir.path(), &format!("{addresses} --rate 500 --seconds 1 --warmup 0 --quiet")));
    let result = result(dir.path());
    let config = result["broker"]["config"].as_str().expect(&said);
    for words in ["log.segment_bytes = ", "# flag --data-dir", "# default"] {
        assert!(config.contains(words), "{words}: {config}");
    }
    let page = fs::read_to_string(results(dir.path()).join("report.html")).unwrap();
    assert!(page.contains("<th>device</th><td>not known: the broker was not started here</td>"), "{page}");
}

#[test]
fn a_server_that_is_no_broker_is_told_from_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.read(&mut [0; 1024]);
        }
    });
    let dir = folder();
    let output = bench(dir.path(), &format!("--bootstrap {address} --seconds 1"));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("does not answer as a Kafka broker"), "{}", text(&output));
}

#[test]
fn results_that_cannot_be_written_are_said_and_the_others_are_kept() {
    let dir = folder();
    let output = bench(dir.path(), "--rate 1k --seconds 1 --warmup 0 --quiet --json /dev/full");
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(said.contains("cannot write /dev/full") && said.contains("No space left on device"), "{said}");
    assert_ledger(&result(dir.path())["runs"][0], &said);
    assert!(results(dir.path()).join("report.html").exists());
}

#[test]
fn a_report_that_cannot_be_written_does_not_take_the_json_with_it() {
    let (data, dir) = (folder(), folder());
    let server = Server::start(data.path());
    let (file, json) = (dir.path().join("file"), dir.path().join("result.json"));
    fs::write(&file, "").unwrap();
    let line = format!("--bootstrap {} --rate 1k --seconds 1 --warmup 0 --quiet --verify", server.address);
    let mut command = command(&file, &line);
    let output = command.arg("--json").arg(&json).current_dir(dir.path()).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write the results"), "{said}");
    let result: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_ledger(&result["runs"][0], &said);
}
