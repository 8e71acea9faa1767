//! The client program of the conformance runner for the rdkafka crate, which carries a librdkafka of its own.
//! `../../lib/worker.py` describes the lines that it reads and writes; the cases have the names that
//! `../../lib/cases.py` uses.

mod admin;
mod clients;
mod groups;
mod records;

use std::collections::HashMap;
use std::io::Write;
use std::panic;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Bounds everything a case waits for; the runner has a longer limit of its own.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// One run of a case: where it runs. A case fails by panicking.
pub struct Run {
    pub bootstrap: String,
    pub topic: String,
    pub args: HashMap<String, String>,
}

impl Run {
    pub fn arg(&self, name: &str) -> &str {
        &self.args[name]
    }

    /// Has the runner restart the broker: "term" or "kill".
    pub fn restart(&self, how: &str) {
        say(&format!("restart\t{how}"));
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("the runner is there");
        assert_eq!(line, "done\n", "the runner's answer");
    }

    /// Hands a result to the runner.
    pub fn value(&self, name: &str, text: &str) {
        say(&format!("value\t{name}\t{text}"));
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the runner is there");
}

/// Waits for a condition, which may poll.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The result of `call`, tried again while a leader or coordinator is not ready after a restart.
pub fn patient<T, E: std::fmt::Display>(mut call: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        match call() {
            Ok(found) => return found,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn case(name: &str) -> Option<fn(&Run)> {
    Some(match name {
        "roundtrip" => records::roundtrip,
        "idempotent" => records::idempotent,
        "too_large" => records::too_large,
        "auto_create" => records::auto_create,
        "long_poll" => records::long_poll,
        "recreated_topic" => records::recreated_topic,
        "timestamps" => records::timestamps,
        "write" => records::write,
        "read_digests" => records::read_digests,
        "topics" => admin::topics,
        "invalid_creations" => admin::invalid_creations,
        "metadata" => admin::metadata,
        "list_offsets" => admin::list_offsets,
        "delete_records" => admin::delete_records,
        "describe_configs" => admin::describe_configs,
        "create_partitions" => admin::create_partitions,
        "alter_configs" => admin::alter_configs,
        "restart_keeps" => admin::restart_keeps,
        "group_offsets" => groups::offsets,
        "group_members" => groups::members,
        "group_static" => groups::static_members,
        "group_static_killed" => groups::static_killed,
        "group_static_fenced" => groups::static_fenced,
        "group_commits" => groups::commits,
        _ => return None,
    })
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|word| word == "member") {
        groups::member_main(&args[2..]);
    }
    static WHY: Mutex<String> = Mutex::new(String::new());
    panic::set_hook(Box::new(|info| *WHY.lock().expect("no panic within") = info.to_string()));
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        let mut fields = line.trim_end_matches('\n').split('\t').skip(1).map(str::to_owned);
        let mut next = || fields.next().expect("the runner sends all fields");
        let (name, bootstrap, topic) = (next(), next(), next());
        let args = fields.filter_map(|pair| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())));
        let run = Run { bootstrap, topic, args: args.collect() };
        match case(&name) {
            None => say("fail\tnot a case of this client"),
            Some(body) => match panic::catch_unwind(|| body(&run)) {
                Ok(()) => say("ok"),
                Err(_) => {
                    let why = WHY.lock().expect("no panic within").clone();
                    say(&format!("fail\t{}", why.split_whitespace().collect::<Vec<_>>().join(" ")));
                }
            },
        }
        line.clear();
    }
}
