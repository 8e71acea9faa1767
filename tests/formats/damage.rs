//! Planted damage of every kind: `ringmq inspect verify` finds it, says where, and agrees with a start.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ringmq::broker::data_dir::read_broker_file;
use ringmq::io::blocking::{BlockingDisk, block_on};
use ringmq::log::inspect::{LogFiles, Verified};
use ringmq::log::manifest::Manifest;
use ringmq::log::recovery::{self, Options};
use ringmq::model::{LogId, Position, Term};
use ringmq::partition::Partitions;

use crate::rig::now;
use crate::story::{CONFIG, SEGMENT_BYTES};
use crate::{copy, inspect_json, scratch, stored, story};

const DATA: LogId = LogId(1);
const BLOCK_HEADER_BYTES: u64 = 96;
/// Of the block header, what a checksum covers.
const BLOCK_COVERED_BYTES: u64 = 76;

/// A copy of the stored directory that a test may break.
struct Victim {
    folder: tempfile::TempDir,
}

impl Victim {
    fn new() -> Victim {
        let folder = scratch();
        copy(&stored("v1"), &folder.path().join("data"));
        Victim { folder }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_dir(&self) -> PathBuf {
        self.dir().join("log-1")
    }

    /// The file and offset of a position of the data log.
    fn place(&self, position: u64) -> (fs::File, u64) {
        let segments = inspect_json(&["segments", "--log", "1"], &self.dir(), 0);
        let holds = |line: &&serde_json::Value| {
            line["base"].as_u64() <= Some(position) && Some(position) < line["end"].as_u64()
        };
        let line = segments.as_array().expect("a list").iter().find(holds).expect("a position of the log");
        let (number, base) = (line["number"].as_u64().expect("one"), line["base"].as_u64().expect("one"));
        let path = self.log_dir().join(format!("{number:08}.segment"));
        let file = fs::File::options().read(true).write(true).open(path).expect("it is there");
        (file, position - base)
    }

    fn flip_bit(&self, position: u64) {
        let (file, offset) = self.place(position);
        flip_bit(&file, offset);
    }

    fn overwrite(&self, position: u64, bytes: &[u8]) {
        let (file, offset) = self.place(position);
        file.write_all_at(bytes, offset).expect("room");
    }

    fn page(&self, position: u64) -> Vec<u8> {
        let (file, offset) = self.place(position);
        let mut page = vec![0; 4096];
        file.read_exact_at(&mut page, offset).expect("a page");
        page
    }

    fn spoil(&self, name: &str) {
        let file = fs::File::options().read(true).write(true).open(self.log_dir().join(name));
        flip_bit(&file.expect("it is there"), 20);
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.log_dir().join(name)).expect("it is there");
    }

    /// Would a broker start on a copy of this? The error of recovery if not.
    fn start(&self) -> Result<(), String> {
        let twin = self.folder.path().join("twin");
        copy(&self.dir(), &twin);
        let broker = read_broker_file(&twin).expect("readable").expect("complete").broker;
        let options = Options {
            config: &CONFIG,
            broker: *broker.as_bytes(),
            log: DATA,
            now: now().wall,
            repair: false,
            progress: &mut |_, _| {},
        };
        let (log_dir, mut partitions) = (twin.join("log-1"), Partitions::default());
        let opened = block_on(recovery::open(&BlockingDisk, &log_dir, options, &mut partitions));
        let result = opened.map(drop).map_err(|error| error.to_string());
        fs::remove_dir_all(twin).expect("made above");
        result
    }
}

fn flip_bit(file: &fs::File, offset: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("within the file");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("room");
}

/// A block of the data log: position, end, and the positions and payload lengths of its entries.
type Block = (u64, u64, Vec<(u64, u64)>);

fn blocks(dir: &Path) -> Vec<Block> {
    let blocks = inspect_json(&["blocks", "--log", "1", "--entries"], dir, 0);
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    let entries = |block: &serde_json::Value| {
        let entries = block["entries"].as_array().into_iter().flatten();
        entries.map(|entry| (number(&entry["position"]), number(&entry["payload_bytes"]))).collect()
    };
    let line =
        |block: &serde_json::Value| (number(&block["position"]), number(&block["end"]), entries(block));
    blocks.as_array().expect("a list").iter().map(line).collect()
}

fn verify(dir: &Path) -> Verified {
    let broker = read_broker_file(dir).expect("readable").expect("complete").broker;
    let files = block_on(LogFiles::open(&BlockingDisk, &dir.join("log-1"), *broker.as_bytes(), DATA));
    let files = files.expect("the manifest is sound");
    block_on(files.verify(&BlockingDisk, &mut Partitions::default(), &mut |_, _| {})).expect("readable")
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is_and_its_block_named() {
    let victim = Victim::new();
    let dir = victim.dir();
    assert_eq!(verify(&dir).problems, []);
    for (position, end, entries) in blocks(&dir) {
        let mut places = vec![position + position / 4096 % BLOCK_COVERED_BYTES];
        for (entry, payload_bytes) in entries {
            places.push(entry + entry / 8 % 40);
            if payload_bytes > 0 {
                places.push(entry + 40 + entry / 8 % payload_bytes);
            }
        }
        for place in places {
            victim.flip_bit(place);
            let found = verify(&dir).problems;
            let (from, to) = found.first().and_then(|problem| problem.range).unwrap_or_default();
            assert_eq!(
                (found.len(), from, to),
                (1, Position(position), Position(end)),
                "byte {place}: {found:?}"
            );
            victim.flip_bit(place);
        }
    }
    assert_eq!(verify(&dir).problems, []);
}

#[test]
fn damage_of_every_kind() {
    let all = blocks(&Victim::new().dir());
    let summary = inspect_json(&[], &Victim::new().dir(), 0);
    let checkpoint = summary["logs"][1]["checkpoint"]["position"].as_u64().expect("one");
    let old = all.iter().find(|block| block.0 < checkpoint && block.2.len() == 1).expect("one").clone();
    let new = all.iter().find(|block| block.0 > checkpoint).expect("one").clone();
    let last = all.last().expect("one").clone();

    /// Whether a start would refuse the log: what lies below the checkpoint it does not read.
    type Case<'a> = (&'a str, Box<dyn Fn(&Victim) + 'a>, &'a str, bool);
    let table: Vec<Case<'_>> = vec![
        ("block header", Box::new(|v| v.flip_bit(new.0 + 9)), "block header's checksum", true),
        ("its local part", Box::new(|v| v.flip_bit(new.0 + 60)), "block header's checksum", true),
        ("entry header", Box::new(|v| v.flip_bit(new.2[0].0 + 17)), "entry header's checksum", true),
        ("payload", Box::new(|v| v.flip_bit(new.2[0].0 + 40 + 70)), "payload does not match", true),
        ("below the checkpoint", Box::new(|v| v.flip_bit(old.2[0].0 + 41)), "payload does not match", false),
        ("a write that was lost", Box::new(|v| v.overwrite(new.0, &[0; 4096])), "there is no block", true),
        (
            "a write in the wrong place",
            Box::new(|v| v.overwrite(new.0, &v.page(last.0))),
            "there is no block",
            true,
        ),
        ("the last block, recorded as durable", Box::new(|v| v.flip_bit(last.0 + 100)), "checksum", true),
        (
            "no manifest",
            Box::new(|v| (0..2).for_each(|n| v.spoil(&format!("manifest-{n}")))),
            "manifest",
            true,
        ),
        (
            "no checkpoint",
            Box::new(|v| (0..2).for_each(|n| v.spoil(&format!("checkpoint-{n}")))),
            "no readable checkpoint",
            true,
        ),
        ("the last term", Box::new(in_the_last_term), "as often as a log can be", true),
        ("a segment missing", Box::new(|v| v.remove("00000003.segment")), "00000003.segment", true),
        (
            "a segment cut short",
            Box::new(|v| cut(v, "00000003.segment", SEGMENT_BYTES / 2)),
            "instead of 65536",
            true,
        ),
    ];
    for (name, plant, expected, refused) in table {
        let victim = Victim::new();
        plant(&victim);
        let report = inspect_json(&["verify"], &victim.dir(), 1);
        let problems = report["logs"][1]["problems"].as_array().expect("a list");
        let whats: Vec<_> = problems.iter().filter_map(|problem| problem["what"].as_str()).collect();
        assert!(whats.iter().any(|what| what.contains(expected)), "{name}: {whats:?}");
        assert_eq!(report["logs"][0]["problems"], serde_json::json!([]), "{name}");
        assert_eq!(victim.start().is_err(), refused, "{name}: {:?}", victim.start());
    }
}

/// Nothing is damaged, but there is no term left for a start.
fn in_the_last_term(victim: &Victim) {
    let dir = victim.log_dir();
    let mut manifest = block_on(Manifest::read(&BlockingDisk, &dir)).expect("a whole manifest");
    manifest.sequence += 1;
    manifest.term = Term::MAX;
    block_on(manifest.write(&BlockingDisk, &dir)).expect("room for it");
}

fn cut(victim: &Victim, name: &str, bytes: u64) {
    let file = fs::File::options().write(true).open(victim.log_dir().join(name)).expect("it is there");
    file.set_len(bytes).expect("shorter");
}

#[test]
fn what_a_start_copes_with_is_a_note_and_no_problem() {
    type Case = (&'static str, fn(&Victim));
    let table: [Case; 6] = [
        ("manifest-0: missing", |v| v.remove("manifest-0")),
        ("manifest-1: missing", |v| v.remove("manifest-1")),
        ("manifest-0: its checksum", |v| v.spoil("manifest-0")),
        ("manifest-1: its checksum", |v| v.spoil("manifest-1")),
        ("checkpoint-0: it is not a whole", |v| v.spoil("checkpoint-0")),
        ("checkpoint-1: it is not a whole", |v| v.spoil("checkpoint-1")),
    ];
    for (expected, plant) in table {
        let victim = Victim::new();
        plant(&victim);
        let report = inspect_json(&["verify"], &victim.dir(), 0);
        let notes = report["logs"][1]["notes"].as_array().expect("a list");
        assert_eq!(notes.len(), 1, "{expected}: {notes:?}");
        assert!(notes[0].as_str().is_some_and(|note| note.contains(expected)), "{expected}: {notes:?}");
        assert_eq!(victim.start(), Ok(()), "{expected}");
    }
}

#[test]
fn a_torn_tail_is_no_damage_but_a_torn_middle_is() {
    let victim = Victim::new();
    story::append_after_the_end(&victim.log_dir(), 2);
    let all = blocks(&victim.dir());
    let [.., middle, last] = &all[..] else { panic!("blocks were appended") };

    victim.flip_bit(last.0 + BLOCK_HEADER_BYTES + 200);
    let report = inspect_json(&["verify"], &victim.dir(), 0);
    let log = &report["logs"][1];
    assert_eq!((&log["ending"], &log["end"]), (&"torn".into(), &last.0.into()), "nobody was told of it");
    assert_eq!(victim.start(), Ok(()));

    // Healed again, the last block tells that the one before it had been durable.
    victim.flip_bit(last.0 + BLOCK_HEADER_BYTES + 200);
    victim.flip_bit(middle.0 + BLOCK_HEADER_BYTES + 200);
    let report = inspect_json(&["verify"], &victim.dir(), 1);
    let problem = &report["logs"][1]["problems"][0];
    assert_eq!((&problem["from"], &problem["to"]), (&middle.0.into(), &last.0.into()));
    assert!(victim.start().is_err_and(|error| error.contains("corrupt")));
}

#[test]
fn damage_where_a_log_was_closed_is_found_also_by_the_manifest_of_that_time() {
    let victim = Victim::new();
    story::close(&victim.log_dir());
    let end = blocks(&victim.dir()).last().expect("blocks").1;
    let report = inspect_json(&["verify"], &victim.dir(), 0);
    assert_eq!(
        (&report["logs"][1]["ending"], &report["logs"][1]["end"]),
        (&"closed in order".into(), &end.into())
    );

    let of_then = block_on(Manifest::read(&BlockingDisk, &victim.log_dir())).expect("a whole manifest");
    assert!(of_then.clean);

    // The next life is killed; its manifests are lost.
    story::append_after_the_end(&victim.log_dir(), 3);
    (0..2).for_each(|copy| victim.remove(&format!("manifest-{copy}")));
    block_on(of_then.write(&BlockingDisk, &victim.log_dir())).expect("room for it");
    assert_eq!(victim.start(), Ok(()), "the blocks tell");
    victim.flip_bit(end + 9);
    assert!(victim.start().is_err_and(|error| error.contains("corrupt")), "acknowledged records are behind");
    inspect_json(&["verify"], &victim.dir(), 1);
}
