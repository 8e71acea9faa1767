//! `FORMATTING`: which log folders a start may remove, because the making of their data directory was interrupted.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ringmq::broker::data_dir::log_dir;
use ringmq::broker::formatting::unfinished;
use ringmq::log::manifest::{CopyError, Manifest, SegmentRecord, manifest_path};
use ringmq::model::{LogId, Position, Term};
use tempfile::TempDir;
use uuid::Uuid;

use crate::config::TREE;
use crate::harness::Target;
use crate::log::seal_manifest;

const BROKER: Uuid = Uuid::from_u128(7);

thread_local! {
    /// Two log folders, the first with a manifest: made once, because on some disks that takes milliseconds.
    static FOLDER: TempDir = {
        let folder = tempfile::tempdir().expect("room for a folder");
        let logs = logs(folder.path());
        logs.iter().for_each(|log| fs::create_dir(log).expect("a new folder"));
        fs::write(manifest_path(&logs[0], 0), made(LogId(0)).encode()).expect("writable");
        folder
    };
}

/// The file; behind a zero byte, a copy of log 1's manifest. Accepted: both logs may be removed.
pub const FORMATTING: Target = Target {
    run: |bytes| FOLDER.with(|folder| start(folder.path(), bytes)),
    seeds: || {
        let text = format!("# Interrupted.\nbroker = \"{BROKER}\"\nlogs = 1\n").into_bytes();
        let manifest = made(LogId(1)).encode();
        let with = |manifest: &[u8]| [&text[..], &[0], manifest].concat();
        // Of a copy that was being written there is a part.
        vec![text.clone(), with(&manifest), with(&manifest[..manifest.len() / 2])]
    },
    fix: |bytes| {
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            seal_manifest(&mut bytes[end + 1..]);
        }
    },
    memory: TREE,
    mutants_per_second: 1_000,
};

fn start(dir: &Path, bytes: &[u8]) -> bool {
    let (text, manifest) = match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => (&bytes[..end], Some(&bytes[end + 1..])),
        None => (bytes, None),
    };
    let logs = logs(dir);
    fs::write(dir.join("FORMATTING"), text).expect("writable");
    let path = manifest_path(&logs[1], 0);
    match manifest {
        Some(manifest) => fs::write(path, manifest).expect("writable"),
        None => match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("the manifest stays: {error}"),
            _ => {}
        },
    }

    let Ok(claimed) = unfinished(dir) else { return false };
    assert_eq!(claimed, logs, "the logs are claimed, or a start is refused");
    let text = std::str::from_utf8(text).expect("what is no text claims nothing");
    let claim: toml::Table = text.parse().expect("what is no TOML claims nothing");
    let broker = claim["broker"].as_str().and_then(|broker| Uuid::parse_str(broker).ok());
    assert_eq!(broker, Some(BROKER), "log 0 is this broker's");
    assert!(claim["logs"].as_integer().is_some_and(|logs| logs >= 1), "a claim that ends before log 1");
    let is_new = match manifest.map(Manifest::decode) {
        Some(Ok(manifest)) => manifest.broker == *BROKER.as_bytes() && manifest.term == Term(0),
        Some(Err(CopyError::Version(_))) => false,
        Some(Err(CopyError::Broken(_) | CopyError::Missing)) | None => true,
    };
    assert!(is_new, "somebody's log would be removed");
    true
}

fn logs(dir: &Path) -> [PathBuf; 2] {
    [LogId(0), LogId(1)].map(|log| log_dir(dir, log))
}

/// Of a log that was never opened.
fn made(log: LogId) -> Manifest {
    Manifest {
        sequence: 1,
        broker: *BROKER.as_bytes(),
        log,
        term: Term(0),
        clean: false,
        durable: Position(0),
        window_bytes: 1 << 20,
        next_number: 2,
        segments: vec![SegmentRecord { number: 1, base: Position(0), bytes: 16 << 10, recycled: false }],
    }
}
