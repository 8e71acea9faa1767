//! Workload files: the options of `ringmq bench` as YAML, and those of the OpenMessaging Benchmark.
//!
//! A key is either a long option (`rate`, `record-bytes`) or a field of the OpenMessaging Benchmark's
//! workloads (`producerRate`, `messageSize`), which is translated into options. So a file can say
//! whatever the command line can, and means the same. What is on the command line counts there: the file's
//! option of that name is dropped, and so are those that exclude it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use yaml_serde::{Mapping, Value};

/// Different keys, and bytes of each, in the OpenMessaging Benchmark.
const OMB_KEYS: &str = "10000";
const OMB_KEY_BYTES: &str = "7";
/// The fields of its workloads.
const OMB_FIELDS: [&str; 18] = [
    "name",
    "topics",
    "partitionsPerTopic",
    "keyDistributor",
    "messageSize",
    "payloadFile",
    "useRandomizedPayloads",
    "randomBytesRatio",
    "randomizedPayloadPoolSize",
    "subscriptionsPerTopic",
    "consumerPerSubscription",
    "producersPerTopic",
    "producerRate",
    "consumerBacklogSizeGB",
    "backlogDrainRatio",
    "testDurationMinutes",
    "warmupDurationMinutes",
    "sampleRateMillis",
];

/// A file, as command line arguments.
#[derive(Debug, Default, PartialEq)]
pub struct Workload {
    pub arguments: Vec<String>,
    /// What is done in another way than the file's author may expect.
    pub notes: Vec<String>,
    /// So many different payloads there should be.
    pub payloads_wanted: Option<u64>,
}

/// Read a file. `options`: the long options that there are; `settled`: those about which the command line
/// says something, so that the file does not.
///
/// # Errors
/// It cannot be read, is no YAML, or says something that cannot be done.
pub fn read(path: &Path, options: &[&str], settled: &[String]) -> anyhow::Result<Workload> {
    let named = || format!("workload file {}", path.display());
    let text = fs::read_to_string(path).with_context(named)?;
    let fields: Mapping = yaml_serde::from_str(&text).with_context(named)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut workload = translate(&fields, folder, options).with_context(named)?;
    let is_settled = |argument: &String| {
        let name = argument.trim_start_matches("--");
        settled.iter().any(|settled| name.split('=').next() == Some(settled))
    };
    workload.arguments.retain(|argument| !is_settled(argument));
    if fastest(&fields) && workload.arguments.iter().any(|argument| argument == "--closed") {
        let note = "producerRate 0: a closed loop; --scenario find-max searches for a rate with an objective";
        workload.notes.push(note.to_owned());
    }
    Ok(workload)
}

/// Whether it asks for as much as goes.
fn fastest(fields: &Mapping) -> bool {
    fields.get("producerRate").and_then(Value::as_f64) == Some(0.0)
}

fn translate(fields: &Mapping, folder: &Path, options: &[&str]) -> anyhow::Result<Workload> {
    let mut workload = Workload::default();
    let mut omb = Omb { fields, folder, workload: &mut workload };
    omb.translate()?;
    for (key, value) in fields {
        let Some(key) = key.as_str() else { bail!("a key is {}, not a word", text(key)?) };
        if OMB_FIELDS.contains(&key) {
            continue;
        }
        if !options.contains(&key) || key == "workload" {
            let near = OMB_FIELDS.iter().chain(options).copied();
            let near = near.max_by(|a, b| strsim::jaro(a, key).total_cmp(&strsim::jaro(b, key)));
            let hint = near.filter(|near| strsim::jaro(near, key) > 0.8);
            let hint = hint.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            bail!("{key} is neither an option of ringmq bench nor a field of OpenMessaging Benchmark{hint}");
        }
        push_option(&mut workload.arguments, key, value)?;
    }
    Ok(workload)
}

/// `--key=value`; a list is one value with commas, a mapping is one option for each pair, `true` is the
/// option alone.
fn push_option(arguments: &mut Vec<String>, key: &str, value: &Value) -> anyhow::Result<()> {
    match value {
        Value::Bool(true) => arguments.push(format!("--{key}")),
        Value::Bool(false) | Value::Null => {}
        Value::Sequence(values) => {
            let values = values.iter().map(text).collect::<anyhow::Result<Vec<_>>>()?;
            arguments.push(format!("--{key}={}", values.join(",")));
        }
        Value::Mapping(pairs) => {
            for (name, value) in pairs {
                arguments.push(format!("--{key}={}={}", text(name)?, text(value)?));
            }
        }
        value => arguments.push(format!("--{key}={}", text(value)?)),
    }
    Ok(())
}

/// A scalar as it was written.
fn text(value: &Value) -> anyhow::Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(bool) => Ok(bool.to_string()),
        _ => bail!("a value is neither a word nor a number"),
    }
}

/// The fields of the OpenMessaging Benchmark, on their way to become options.
struct Omb<'a> {
    fields: &'a Mapping,
    folder: &'a Path,
    workload: &'a mut Workload,
}

impl Omb<'_> {
    fn translate(&mut self) -> anyhow::Result<()> {
        let topics = self.number("topics")?.unwrap_or(1.0);
        for (field, option, factor) in [
            ("topics", "topics", 1.0),
            ("partitionsPerTopic", "partitions", 1.0),
            ("messageSize", "record-bytes", 1.0),
            // There they are counted for each topic, here for all.
            ("producersPerTopic", "connections", topics),
            ("testDurationMinutes", "seconds", 60.0),
            ("warmupDurationMinutes", "warmup", 60.0),
        ] {
            if let Some(value) = self.number(field)? {
                self.option(option, &(value * factor).round().to_string());
            }
        }
        if let Some(name) = self.fields.get("name") {
            let label = text(name)?;
            self.option("label", &label);
        }
        self.load()?;
        self.readers(topics)?;
        self.payload()?;
        self.keys()
    }

    fn load(&mut self) -> anyhow::Result<()> {
        match self.number("producerRate")? {
            Some(0.0) => self.workload.arguments.push("--closed".to_owned()),
            Some(rate) => self.option("rate", &rate.to_string()),
            None => {}
        }
        if self.number("consumerBacklogSizeGB")?.is_some_and(|bytes| bytes > 0.0) {
            bail!(
                "consumerBacklogSizeGB cannot be honoured: consumers are never stopped to build a backlog; \
                 remove it and use `scenario: catch-up`, which reads a backlog beside producers"
            );
        }
        if self.fields.get("backlogDrainRatio").is_some() {
            bail!("backlogDrainRatio cannot be honoured: there is no backlog to drain; remove it");
        }
        if self.fields.get("sampleRateMillis").is_some() {
            bail!("sampleRateMillis cannot be honoured: the timeline has a point a second; remove it");
        }
        Ok(())
    }

    fn readers(&mut self, topics: f64) -> anyhow::Result<()> {
        let subscriptions = self.number("subscriptionsPerTopic")?;
        let each = self.number("consumerPerSubscription")?;
        if subscriptions.is_none() && each.is_none() {
            return Ok(());
        }
        let (subscriptions, each) = (subscriptions.unwrap_or(1.0), each.unwrap_or(1.0));
        let consumers = if subscriptions == 0.0 { 0.0 } else { each * topics };
        self.option("consumers", &consumers.to_string());
        self.option("groups", &subscriptions.max(1.0).to_string());
        self.option("group-protocol", "classic");
        Ok(())
    }

    fn payload(&mut self) -> anyhow::Result<()> {
        if let Some(file) = self.fields.get("payloadFile") {
            let file = PathBuf::from(text(file)?);
            let beside = self.folder.join(&file);
            let file = if beside.exists() { beside } else { file };
            self.option("payload-file", &file.display().to_string());
        }
        let ratio = self.number("randomBytesRatio")?;
        if self.fields.get("useRandomizedPayloads").and_then(Value::as_bool) == Some(true) {
            self.option("random-bytes-ratio", &ratio.unwrap_or(1.0).to_string());
            self.workload.payloads_wanted = self.number("randomizedPayloadPoolSize")?.map(|size| size as u64);
        }
        Ok(())
    }

    fn keys(&mut self) -> anyhow::Result<()> {
        let Some(distributor) = self.fields.get("keyDistributor") else { return Ok(()) };
        let distribution = match text(distributor)?.as_str() {
            "NO_KEY" => return Ok(()),
            "KEY_ROUND_ROBIN" => "round-robin",
            "RANDOM_NANO" => "uniform",
            other => bail!("keyDistributor {other} is none of NO_KEY, KEY_ROUND_ROBIN, RANDOM_NANO"),
        };
        self.option("key-bytes", OMB_KEY_BYTES);
        self.option("keys", OMB_KEYS);
        self.option("key-distribution", distribution);
        Ok(())
    }

    fn option(&mut self, name: &str, value: &str) {
        self.workload.arguments.push(format!("--{name}={value}"));
    }

    fn number(&self, field: &str) -> anyhow::Result<Option<f64>> {
        let Some(value) = self.fields.get(field) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number.is_finite() && number >= 0.0 => Ok(Some(number)),
            _ => bail!("{field} is a number of at least 0"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: [&str; 8] =
        ["rate", "record-bytes", "closed", "set", "cpus", "scenario", "workload", "connections"];

    fn translated(text: &str) -> Result<Workload, String> {
        let fields: Mapping = yaml_serde::from_str(text).map_err(|error| error.to_string())?;
        translate(&fields, Path::new(""), &OPTIONS).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_written_as_on_the_command_line() {
        let text =
            "rate: 50k\nrecord-bytes: 100\nclosed: false\nset:\n  log.segment_bytes: 1GiB\ncpus: [1, 2]\n";
        let arguments = translated(text).unwrap().arguments;
        let expected = ["--rate=50k", "--record-bytes=100", "--set=log.segment_bytes=1GiB", "--cpus=1,2"];
        assert_eq!(arguments, expected);
    }

    #[test]
    fn fields_of_the_openmessaging_benchmark_become_options() {
        let text = "name: 2 topics\ntopics: 2\npartitionsPerTopic: 16\nmessageSize: 1024\n\
                    keyDistributor: KEY_ROUND_ROBIN\nuseRandomizedPayloads: true\nrandomBytesRatio: 0.5\n\
                    randomizedPayloadPoolSize: 100\nsubscriptionsPerTopic: 3\nconsumerPerSubscription: 2\n\
                    producersPerTopic: 4\nproducerRate: 50000\nconsumerBacklogSizeGB: 0\n\
                    testDurationMinutes: 15\nwarmupDurationMinutes: 1\n";
        let workload = translated(text).unwrap();
        let expected = [
            "--topics=2",
            "--partitions=16",
            "--record-bytes=1024",
            "--connections=8",
            "--seconds=900",
            "--warmup=60",
            "--label=2 topics",
            "--rate=50000",
            "--consumers=4",
            "--groups=3",
            "--group-protocol=classic",
            "--random-bytes-ratio=0.5",
            "--key-bytes=7",
            "--keys=10000",
            "--key-distribution=round-robin",
        ];
        assert_eq!(workload.arguments, expected);
        assert_eq!((workload.payloads_wanted, workload.notes.len()), (Some(100), 0));
        let fastest = translated("producerRate: 0\nsubscriptionsPerTopic: 0\n").unwrap();
        assert_eq!(
            fastest.arguments,
            ["--closed", "--consumers=0", "--groups=1", "--group-protocol=classic"]
        );
    }

    #[test]
    fn what_cannot_be_done_is_an_error_with_a_reason_and_what_is_unknown_one_with_a_suggestion() {
        for (text, reason) in [
            ("consumerBacklogSizeGB: 100", "scenario: catch-up"),
            ("sampleRateMillis: 10", "a point a second"),
            ("consumerBacklogSizeGB: 0\nbacklogDrainRatio: 1.0", "no backlog to drain"),
            ("keyDistributor: MINE", "none of NO_KEY"),
            ("messageSize: many", "messageSize is a number"),
            ("producerRates: 1", "did you mean producerRate?"),
            ("record-byte: 1", "did you mean record-bytes?"),
            ("workload: other.yaml", "workload is neither"),
            ("connections: [[1]]", "neither a word nor a number"),
            ("zzz: 1", "nor a field of OpenMessaging Benchmark"),
            ("- a list", "invalid type"),
        ] {
            let error = translated(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn the_command_line_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.yaml");
        fs::write(&path, "rate: 1k\nconnections: 4\n").unwrap();
        let workload = read(&path, &OPTIONS, &["rate".to_owned()]).unwrap();
        assert_eq!(workload.arguments, ["--connections=4"]);
        fs::write(&path, "producerRate: 0\n").unwrap();
        let fastest = read(&path, &OPTIONS, &[]).unwrap();
        assert!(fastest.arguments == ["--closed"] && fastest.notes[0].contains("closed loop"), "{fastest:?}");
        let settled = read(&path, &OPTIONS, &["closed".to_owned()]).unwrap();
        assert!(settled.arguments.is_empty() && settled.notes.is_empty(), "{settled:?}");
        fs::write(&path, "rate: [\n").unwrap();
        let error = format!("{:#}", read(&path, &OPTIONS, &[]).unwrap_err());
        assert!(error.contains("w.yaml") && error.contains("line"), "{error}");
    }
}
