//! What an operator writes: the configuration from its three sources, and (never by hand) broker.toml.

use std::path::Path;

use ringmq::broker::data_dir::BrokerFile;
use ringmq::config::{Assignment, Config, KEYS, Origin, Sources};

use crate::harness::{Memory, Target, no_fix};

/// TOML, YAML or JSON is parsed into a tree first.
pub const TREE: Memory = Memory { per_byte: 1024, bytes: 256 << 10 };

/// The file; behind a zero byte, variables and flags, one a line: `RINGMQ_...=value` or `key=value`.
pub const CONFIG: Target =
    Target { run: load, seeds: configs, fix: no_fix, memory: TREE, mutants_per_second: 5_000 };

pub const BROKER_FILE: Target = Target {
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let Ok(file) = BrokerFile::parse(text, Path::new("data")) else { return false };
        assert!(file.commit_mode().is_ok());
        let again = toml::to_string(&file).expect("it came from TOML");
        assert_eq!(BrokerFile::parse(&again, Path::new("data")).expect("just written"), file);
        true
    },
    seeds: || {
        let mut file = BrokerFile::new(uuid::Uuid::from_u128(7), "cluster".to_owned(), 2);
        file.measured = "dsync, depth 1: 20 us".to_owned();
        vec![toml::to_string(&file).expect("plain values").into_bytes()]
    },
    fix: no_fix,
    memory: TREE,
    mutants_per_second: 20_000,
};

fn load(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (file, lines) = text.split_once('\0').unwrap_or((&text, ""));
    let mut sources = Sources { file: Some(("ringmq.toml".into(), file.to_owned())), ..Sources::default() };
    for (name, value) in lines.lines().filter_map(|line| line.split_once('=')) {
        if name.starts_with(ringmq::config::source::ENV_PREFIX) {
            sources.env.push((name.to_owned(), value.to_owned()));
        } else {
            let origin = Origin::Flag { flag: "--set".to_owned() };
            sources.flags.push(Assignment { name: name.to_owned(), text: value.to_owned(), origin });
        }
    }
    match Config::load(&sources) {
        Ok(config) => {
            // What is shown can be written: it gives the same configuration.
            let origin = Origin::Flag { flag: "--set".to_owned() };
            let shown = |key: &str| config.show(key).expect("a key has a value");
            let flags = KEYS.iter().map(|key| Assignment {
                name: key.name.to_owned(),
                text: shown(key.name),
                origin: origin.clone(),
            });
            let sources = Sources { flags: flags.collect(), ..Sources::default() };
            let again = Config::load(&sources).expect("values that were accepted");
            for key in KEYS {
                assert_eq!(again.show(key.name).as_deref(), Some(&*shown(key.name)), "{}", key.name);
            }
            true
        }
        Err(error) => {
            assert!(!error.problems.is_empty() && !error.to_string().is_empty());
            false
        }
    }
}

fn configs() -> Vec<Vec<u8>> {
    let file = "# A comment.\n[server]\nshards = 2\ncpus = [0, 1, \"4-7\"]\npoll_spin = \"50us\"\n\n\
        [kafka]\nlisten = [\"127.0.0.1:9092\", \"[::1]:9092\"]\nmessage_bytes_max = \"1MiB\"\n\
        offsets_retention = \"7d\"\n\n[log]\nretention = \"unlimited\"\nsegment_bytes = \"64MiB\"\n\
        commit_depth = \"auto\"\nblock_bytes_max = \"1 MiB\"\n[telemetry]\nlog = \"info,ringmq=debug\"\n";
    let others = "RINGMQ_LOG__RETENTION=36h\nRINGMQ_KAFKA__NUM_PARTITIONS=8\nlog.segment_bytes=128MiB\n";
    vec![Vec::new(), file.as_bytes().to_vec(), format!("{file}\0{others}").into_bytes()]
}
