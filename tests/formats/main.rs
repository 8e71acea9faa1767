//! Data directories that released formats wrote: they must open, verify, and read back what went in.
//!
//! `v1/` was written by format 1 before members of groups were kept and checkpoints had version 2, `v1-members/`
//! afterwards. Neither is ever written again. For a new format, see docs/FORMATS.md:
//!
//! ```text
//! RINGMQ_WRITE_FORMAT=v2 cargo test --test formats write_todays_format
//! ```

mod damage;
mod rig;
mod story;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder that goes with the test, on a file system with direct IO: where cargo builds.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("room for a folder")
}

fn stored(format: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(format)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a new folder");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("room for a copy");
        }
    }
}

fn inspect(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    command.arg("inspect").args(args).arg(dir).output().expect("the program runs")
}

/// The document that an action prints; the exit code must be the expected one.
fn inspect_json(args: &[&str], dir: &Path, code: i32) -> serde_json::Value {
    let output = inspect(&[args, &["--json"]].concat(), dir);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {errors}"))
}

#[test]
fn format_1_opens_verifies_and_reads_back() {
    for (format, with_members) in [("v1", false), ("v1-members", true)] {
        let folder = scratch();
        let dir = folder.path().join("data");
        copy(&stored(format), &dir);
        let report = inspect_json(&["verify"], &dir, 0);
        assert_eq!(report["sound"], true);
        story::check(&dir, with_members);
        inspect_json(&["verify"], &dir, 0);
        // Opening began another term; a second start finds the same records.
        story::check(&dir, with_members);
    }
}

#[test]
fn write_todays_format() {
    let folder = scratch();
    let dir = folder.path().join("data");
    story::write(&dir);
    let opened = folder.path().join("opened");
    copy(&dir, &opened);
    inspect_json(&["verify"], &opened, 0);
    story::check(&opened, true);
    if let Ok(name) = std::env::var("RINGMQ_WRITE_FORMAT") {
        let stored = stored(&name);
        assert!(!stored.exists(), "{} exists: a released format is never written again", stored.display());
        copy(&dir, &stored);
    }
}

#[test]
fn looking_changes_nothing_and_says_what_is_there() {
    let folder = scratch();
    let dir = folder.path().join("data");
    copy(&stored("v1-members"), &dir);

    let summary = inspect_json(&[], &dir, 0);
    assert_eq!((&summary["broker"]["format_version"], &summary["in_use"]), (&1.into(), &false.into()));
    assert_eq!(summary["logs"].as_array().expect("a list").len(), 2);

    let segments = inspect_json(&["segments", "--log", "1"], &dir, 0);
    let states: Vec<_> =
        segments.as_array().expect("a list").iter().map(|line| line["state"].as_str()).collect();
    assert!(states.contains(&Some("active")) && states.contains(&Some("sealed")), "{states:?}");

    let blocks = inspect_json(&["blocks", "--log", "1", "--entries"], &dir, 0);
    let entries = blocks.as_array().expect("a list").iter().flat_map(|block| block["entries"].as_array());
    let kinds: std::collections::BTreeSet<_> =
        entries.flatten().filter_map(|entry| entry["kind"].as_str()).collect();
    for kind in
        ["kafka-batch", "group-offsets", "slot-open", "term-open", "log-start", "slot-close", "group-state"]
    {
        assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
    }

    let space = inspect_json(&["space"], &dir, 0);
    let held = space["logs"][1]["segments"].as_array().expect("a list").iter();
    let topics: std::collections::BTreeSet<_> = held
        .flat_map(|segment| segment["held_by"].as_array().expect("a list"))
        .filter_map(|holder| holder["topic"].as_str())
        .collect();
    assert_eq!(topics.into_iter().collect::<Vec<_>>(), ["clicks", "orders"]);

    let same =
        Command::new("diff").arg("-r").arg(stored("v1-members")).arg(&dir).status().expect("diff runs");
    assert!(same.success(), "inspecting has changed a file");
}

#[test]
fn a_directory_in_use_is_looked_at_with_a_warning() {
    let folder = scratch();
    let dir = folder.path().join("data");
    copy(&stored("v1"), &dir);
    let owner = ringmq::broker::data_dir::DataDir::lock(&dir).expect("nobody has it");
    let output = inspect(&["verify", "--json"], &dir);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("a broker is using"), "{output:?}");
    assert_eq!(inspect_json(&[], &dir, 0)["in_use"], true);
    drop(owner);
    assert_eq!(inspect_json(&[], &dir, 0)["in_use"], false);
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let folder = scratch();
    for (args, code) in [(&["verify"][..], 2), (&["verify", "--no-such-flag"], 2), (&["blocks"], 2)] {
        let output = inspect(args, folder.path());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    }
    assert_eq!(inspect(&[], &folder.path().join("missing")).status.code(), Some(2));
    let dir = folder.path().join("data");
    copy(&stored("v1"), &dir);
    for action in ["verify", "segments", "blocks", "space"] {
        assert_eq!(inspect(&[action, "--log", "9"], &dir).status.code(), Some(2), "{action}");
    }
    assert_eq!(inspect(&["blocks", "--log", "1", "--from", "8", "--to", "8"], &dir).status.code(), Some(2));
    // Logs without that file are not a typing error.
    std::fs::remove_file(dir.join("broker.toml")).expect("it is there");
    let output = inspect(&["verify"], &dir);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("restored from a backup"), "{output:?}");
}
