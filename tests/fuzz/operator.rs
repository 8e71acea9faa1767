//! What an operator gives to commands: lines of `ringmq record produce --json`, workloads and results of
//! `ringmq bench`.

use std::fs;
use std::path::Path;

use ringmq::bench::compare::compare;
use ringmq::bench::output;
use ringmq::codec::batch_builder::BatchBuilder;
use ringmq::codec::compression::Compression;
use ringmq::codec::record_batch::RecordBatch;
use ringmq::codec::records::InflatedBatch;
use tempfile::NamedTempFile;

use crate::config::TREE;
use crate::harness::{Target, no_fix};
use crate::json::{self, Input};
use crate::workload::{self, Workload};

/// What a record may inflate to here: it is not packed.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// What was read from a line gives a record, and that a line which gives the same.
pub const RECORD_LINE: Target = Target {
    run: |line| {
        let Ok(input) = json::read(line) else { return false };
        assert!(input.partition.is_none_or(|partition| partition >= 0));
        assert!(input.timestamp.is_none_or(|timestamp| timestamp >= 0));
        let (partition, timestamp) = (input.partition.unwrap_or(0), input.timestamp.unwrap_or(0));
        let headers: Vec<_> =
            input.headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
        let mut batch = BatchBuilder::new(Compression::None);
        batch.push(timestamp, input.key.as_deref(), input.value.as_deref(), &headers);
        let bytes = batch.finish();
        let batch = RecordBatch::parse(&bytes).expect("our own");
        let batch = InflatedBatch::open(batch, RECORD_BYTES_MAX).expect("our own");
        let record = batch.records().next().expect("one record").expect("our own");
        let again = json::write("t", partition, &record).expect("plain values");
        assert!(!again.contains('\n'), "more than a line: {again}");
        let expected = Input { partition: Some(partition), timestamp: Some(timestamp), ..input };
        assert_eq!(json::read(again.as_bytes()).expect("just written"), expected);
        true
    },
    seeds: || {
        let all = "{\"topic\":\"t\",\"partition\":3,\"offset\":9,\"timestamp\":1700000000000,\"key\":\"k\\u00fc\\n\",\
                   \"value\":{\"base64\":\"/wA=\"},\"headers\":[{\"key\":\"h\",\"value\":\"x\"},{\"key\":{\"base64\":\"/g==\"}}]}";
        [all, "{}", " {\"value\": \"5\"}", "{\"key\": null, \"value\": \"\", \"headers\": []}"]
            .map(|line| line.as_bytes().to_vec())
            .to_vec()
    },
    fix: no_fix,
    memory: TREE,
    mutants_per_second: 20_000,
};

/// Long options of `ringmq bench`: those that the fields of an OpenMessaging workload become, and some more.
const OPTIONS: [&str; 20] = [
    "topics",
    "partitions",
    "record-bytes",
    "connections",
    "seconds",
    "warmup",
    "label",
    "rate",
    "closed",
    "consumers",
    "groups",
    "group-protocol",
    "payload-file",
    "random-bytes-ratio",
    "key-bytes",
    "keys",
    "key-distribution",
    "set",
    "cpus",
    "workload",
];

thread_local! {
    static FILE: NamedTempFile = NamedTempFile::new().expect("room for a file");
}

/// A file becomes options that there are, and none about which the command line says something.
///
/// No seed has YAML's aliases: they repeat what they name, and the parser ends that late, so that memory is no small
/// multiple of such a file.
pub const WORKLOAD: Target = Target {
    run: |bytes| FILE.with(|file| load(file.path(), bytes)),
    seeds: || {
        let own = "# A comment.\nrate: 50k\nrecord-bytes: 100\nclosed: false\nset:\n  log.segment_bytes: 1GiB\n\
                   cpus: [1, 2]\nlabel: \"two words\"\n";
        let translated = "name: 2 topics\ntopics: 2\npartitionsPerTopic: 16\nmessageSize: 1024\n\
                          keyDistributor: KEY_ROUND_ROBIN\npayloadFile: p.data\nuseRandomizedPayloads: true\n\
                          randomBytesRatio: 0.5\nrandomizedPayloadPoolSize: 100\nsubscriptionsPerTopic: 3\n\
                          consumerPerSubscription: 2\nproducersPerTopic: 4\nproducerRate: 50000\n\
                          consumerBacklogSizeGB: 0\ntestDurationMinutes: 15\nwarmupDurationMinutes: 1\n";
        [own, translated, "producerRate: 0\nsubscriptionsPerTopic: 0\n"]
            .map(|text| text.as_bytes().to_vec())
            .to_vec()
    },
    fix: no_fix,
    memory: TREE,
    mutants_per_second: 1_000,
};

fn load(path: &Path, bytes: &[u8]) -> bool {
    fs::write(path, bytes).expect("writable");
    let Ok(said) = workload::read(path, &OPTIONS, &[]) else { return false };
    let name = |argument: &String| {
        let option = argument.strip_prefix("--").expect("a long option");
        option.split_once('=').map_or(option, |(name, _)| name).to_owned()
    };
    let names: Vec<String> = said.arguments.iter().map(name).collect();
    for name in &names {
        assert!(OPTIONS.contains(&name.as_str()) && name != "workload", "{name} is no option of a file");
    }
    assert!(said.notes.is_empty() || names.iter().any(|name| name == "closed"), "{:?}", said.notes);
    let settled = workload::read(path, &OPTIONS, &names).expect("it was read before");
    let nothing = Workload { payloads_wanted: said.payloads_wanted, ..Workload::default() };
    assert_eq!(settled, nothing, "the command line counts");
    true
}

/// A `result.json` is compared with itself, and nothing has changed.
pub const RESULT: Target = Target {
    run: |bytes| FILE.with(|file| compare_with_itself(file.path(), bytes)),
    // Those of the corpus: what makes one is a run.
    seeds: Vec::new,
    fix: no_fix,
    memory: TREE,
    mutants_per_second: 2_000,
};

fn compare_with_itself(path: &Path, bytes: &[u8]) -> bool {
    fs::write(path, bytes).expect("writable");
    let Ok(result) = output::read(path) else { return false };
    let comparison = compare(&result, &result, 0.05);
    assert!(!comparison.to_string().is_empty());
    true
}
