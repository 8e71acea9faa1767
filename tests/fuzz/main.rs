//! Hostile bytes: one target for each parser of what a peer sends, a disk returns or an operator writes, but for those
//! that docs/TESTING.md names.
//!
//! A target is a function of bytes. None may panic, hold more memory than a small multiple of its
//! input, or break the laws that it checks itself. Each runs on its corpus, on encodings that our own
//! encoders make, and on mutations of both, with checksums made true again so that what lies behind
//! them is reached. A seed decides a mutant, so a run repeats.
//!
//! ```text
//! cargo test --test fuzz                       all targets, about a second each
//! make fuzz FUZZ_SECONDS=600 TARGET=recovery   one target, for long
//! ```
//!
//! A file of `corpus/<target>/` is an input. One whose name begins with `ok-` must be accepted, with
//! `bad-` refused; a failure is written there as `failure-...`.

mod bench;
mod config;
mod consumers;
mod disk;
mod formatting;
mod groups;
mod harness;
mod image;
mod kafka;
mod log;
mod meter;
mod mutate;
mod operator;
mod records;
mod state;

#[expect(dead_code, reason = "fields are for the oracle to compare")]
#[path = "../property/generator.rs"]
mod generator;
#[path = "../property/random.rs"]
mod random;
#[path = "../formats/rig.rs"]
mod rig;

// Parsers that are a command's own. They are no part of the library's interface, so they are compiled into this
// program, tests and all; `codec` is where one of them looks for records.
#[path = "../../src/cli/group/assignment.rs"]
mod assignment;
#[path = "../../src/cli/record/json.rs"]
mod json;
#[path = "../../src/cli/bench/workload.rs"]
mod workload;

use ringmq::codec;

#[global_allocator]
static METER: meter::Meter = meter::Meter;

/// The table of targets, and a test for each.
macro_rules! targets {
    ($($name:ident: $target:expr;)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        mod targets {
            use super::*;

            $(
                #[test]
                fn $name() {
                    harness::check(stringify!($name), &$target);
                }
            )*
        }
    };
}

targets! {
    kafka_request: kafka::REQUEST;
    kafka_response: kafka::RESPONSE;
    record_batches: records::BATCHES;
    records: records::RECORDS;
    gzip: records::GZIP;
    snappy: records::SNAPPY;
    lz4: records::LZ4;
    zstd: records::ZSTD;
    block: log::BLOCK;
    manifest: log::MANIFEST;
    checkpoint: log::CHECKPOINT;
    entries: state::ENTRIES;
    partitions: state::PARTITIONS;
    producers: state::PRODUCERS;
    group_commit: state::GROUP_COMMIT;
    group_offsets: state::GROUP_OFFSETS;
    group_state: groups::GROUP_STATE;
    subscription: consumers::SUBSCRIPTION;
    assignment: consumers::ASSIGNMENT;
    metadata_record: state::METADATA_RECORD;
    catalog: state::CATALOG;
    recovery: image::RECOVERY;
    recovery_repair: image::REPAIR;
    recovery_metadata: image::METADATA;
    inspect: image::INSPECT;
    config: config::CONFIG;
    broker_file: config::BROKER_FILE;
    formatting: formatting::FORMATTING;
    record_line: operator::RECORD_LINE;
    workload: operator::WORKLOAD;
    bench_answers: bench::ANSWERS;
    bench_control: bench::CONTROL;
    bench_group: bench::GROUP;
    bench_latency: bench::LATENCY;
    bench_result: operator::RESULT;
}

#[test]
fn every_corpus_is_that_of_a_target() {
    for folder in std::fs::read_dir(harness::corpus()).expect("the corpus is in the tree") {
        let name = folder.expect("readable").file_name();
        assert!(NAMES.iter().any(|target| *target == name), "{name:?} is no target");
    }
}
