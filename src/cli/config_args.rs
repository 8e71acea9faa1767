//! The flags that set configuration keys, shared by the commands that load a configuration.

use std::env;
use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::config::{Assignment, Config, ConfigError, Origin, Problem, Sources};

/// Names the configuration file when `--config` does not.
const CONFIG_VARIABLE: &str = "RINGMQ_CONFIG";

#[derive(Debug, Default, Args)]
pub struct ConfigArgs {
    /// Configuration file in TOML (default: the one that RINGMQ_CONFIG names, or none)
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Directory of all data, made at the first start (server.data_dir, default: ./ringmq-data)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,

    /// Where Kafka clients connect; several with commas (kafka.listen, default: 127.0.0.1:9092)
    #[arg(long, value_name = "HOST:PORT")]
    kafka_listen: Option<String>,

    /// Health, metrics and latency over HTTP (admin.listen, default: 127.0.0.1:9644)
    #[arg(long, value_name = "HOST:PORT")]
    admin_listen: Option<String>,

    /// Number of shards, one pinned thread each (server.shards, default: one per allowed CPU)
    #[arg(long, value_name = "N")]
    shards: Option<String>,

    /// CPUs for the shards, for example 0-3,8 (server.cpus, default: all that are allowed)
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,

    /// Set any key, for example --set log.segment_bytes=64MiB; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = parse_set)]
    set: Vec<(String, String)>,
}

fn parse_set(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("write section.key=value, for example log.segment_bytes=64MiB")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

/// The file with its text.
fn read(path: PathBuf, origin: Origin) -> Result<(PathBuf, String), ConfigError> {
    match fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) => {
            let message = format!("cannot read the configuration file {}: {error}", path.display());
            Err(ConfigError { problems: vec![Problem { origin, message }] })
        }
    }
}

impl ConfigArgs {
    /// Reads the file and the environment, and joins them with the flags.
    ///
    /// A mistake in the configuration is a [`ConfigError`], also a file that cannot be read.
    pub fn load(&self) -> anyhow::Result<Config> {
        // Variables that are not UTF-8 cannot be ours.
        let env = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let named = self.config.clone().map(|path| (path, Origin::Flag { flag: "--config".to_owned() }));
        let file = named.or_else(|| {
            let path = env::var_os(CONFIG_VARIABLE).map(PathBuf::from)?;
            Some((path, Origin::Env { variable: CONFIG_VARIABLE.to_owned() }))
        });
        let file = file.map(|(path, origin)| read(path, origin)).transpose()?;
        Ok(Config::load(&Sources { file, env, flags: self.assignments() })?)
    }

    /// The flags as assignments. A flag of its own is more deliberate than `--set` and comes last.
    fn assignments(&self) -> Vec<Assignment> {
        let flag = |flag: &str, name: &str, text: &str| Assignment {
            name: name.to_owned(),
            text: text.to_owned(),
            origin: Origin::Flag { flag: flag.to_owned() },
        };
        let own = [
            ("--data-dir", "server.data_dir", &self.data_dir),
            ("--kafka-listen", "kafka.listen", &self.kafka_listen),
            ("--admin-listen", "admin.listen", &self.admin_listen),
            ("--shards", "server.shards", &self.shards),
            ("--cpus", "server.cpus", &self.cpus),
        ];
        let set = self.set.iter().map(|(name, text)| flag("--set", name, text));
        set.chain(own.into_iter().filter_map(|(name, key, text)| Some(flag(name, key, text.as_deref()?))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_sets_its_key() {
        let text = |text: &str| Some(text.to_owned());
        let args = ConfigArgs {
            config: None,
            data_dir: text("/data"),
            kafka_listen: text("0.0.0.0:1,[::]:1"),
            admin_listen: text("127.0.0.1:2"),
            shards: text("2"),
            cpus: text("0-1"),
            set: vec![
                parse_set("server.shards=1").expect("good"),
                parse_set("log.retention = 1d").expect("good"),
            ],
        };
        let config =
            Config::load(&Sources { flags: args.assignments(), ..Sources::default() }).expect("good flags");
        let table = [
            ("server.data_dir", "/data", "flag --data-dir"),
            ("kafka.listen", "0.0.0.0:1,[::]:1", "flag --kafka-listen"),
            ("admin.listen", "127.0.0.1:2", "flag --admin-listen"),
            ("server.shards", "2", "flag --shards"),
            ("server.cpus", "0-1", "flag --cpus"),
            ("log.retention", "1d", "flag --set"),
        ];
        for (key, value, origin) in table {
            assert_eq!(config.show(key).as_deref(), Some(value), "{key}");
            assert_eq!(config.origin(key).to_string(), origin, "{key}");
        }
        assert!(parse_set("log.retention").is_err());
    }
}
