//! `ringmq config`: what is set and from where, what a key means, a file to begin with.

use std::fmt::Write;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::config_args::ConfigArgs;
use super::print;
use crate::broker;
use crate::config::source::env_name;
use crate::config::{Config, KEYS, Key, SECTIONS, find_key, unknown_key};

/// Show, explain and check the configuration
#[derive(Debug, Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print every key with its value and where that came from, as TOML
    #[command(after_help = "Example: RINGMQ_KAFKA__NUM_PARTITIONS=8 ringmq config print -c ringmq.toml")]
    Print(ConfigArgs),

    /// Explain a key, or all keys of a section
    #[command(
        after_help = "Examples:\n  ringmq config explain log.commit_mode\n  ringmq config explain kafka"
    )]
    Explain {
        /// section.key, or a section
        #[arg(value_name = "KEY")]
        name: String,
    },

    /// Print a configuration file with every key, its meaning and its default
    #[command(after_help = "Example: ringmq config template > ringmq.toml")]
    Template,

    /// Check the configuration for this machine without starting anything; exit code 78 when it is wrong
    #[command(after_help = "Example: ringmq config check -c ringmq.toml")]
    Check(ConfigArgs),
}

impl ConfigCommand {
    pub fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Print(args) => print(&listing(&args.load()?)),
            Action::Explain { name } => print(&explanation(&name)?),
            Action::Template => print(&template()),
            Action::Check(args) => {
                broker::allowed_cpus(&args.load()?)?;
                print("the configuration is good\n")
            }
        }
    }
}

/// The keys of a section, in the order of their declaration, with the name inside of the section.
fn keys_of(section: &str) -> impl Iterator<Item = (&'static str, &'static Key)> {
    KEYS.iter().filter_map(move |key| Some((key.name.strip_prefix(section)?.strip_prefix('.')?, key)))
}

/// A value as TOML writes it.
fn toml_value(text: &str) -> String {
    let is_bare = text.parse::<u64>().is_ok() || text.parse::<bool>().is_ok();
    if is_bare { text.to_owned() } else { toml::Value::from(text).to_string() }
}

fn listing(config: &Config) -> String {
    let mut out = String::new();
    for section in SECTIONS {
        let gap = if out.is_empty() { "" } else { "\n" };
        writeln!(out, "{gap}[{}]", section.name).expect("a string takes all");
        for (name, key) in keys_of(section.name) {
            let value = config.show(key.name).expect("a key of the schema");
            let line = format!("{name} = {}", toml_value(&value));
            writeln!(out, "{line:<48} # {}", config.origin(key.name)).expect("a string takes all");
        }
    }
    out
}

fn explanation(name: &str) -> anyhow::Result<String> {
    if let Some(key) = find_key(name) {
        return Ok(explain(key));
    }
    let keys: Vec<_> = keys_of(name).map(|(_, key)| explain(key)).collect();
    match keys.is_empty() {
        true => bail!("{}", unknown_key(name)),
        false => Ok(keys.join("\n")),
    }
}

fn explain(key: &Key) -> String {
    let mut out = format!("{}\n", key.name);
    for line in key.doc {
        writeln!(out, "  {}", line.trim()).expect("a string takes all");
    }
    let facts = [
        ("takes", (key.kind)()),
        ("default", key.default.to_owned()),
        ("environment", env_name(key.name)),
        ("flag", format!("--set {}=...", key.name)),
    ];
    for (what, fact) in facts {
        writeln!(out, "  {what:<12} {fact}").expect("a string takes all");
    }
    out
}

fn template() -> String {
    let mut out =
        "# Configuration of RingMQ. What stands behind a `#` is the default; remove the `#` to change it.\n\
                   # Sizes and durations have units: 64MiB, 1GiB, 50us, 10ms, 5s, 7d.\n"
            .to_owned();
    for section in SECTIONS {
        out.push('\n');
        comment(&mut out, section.doc);
        writeln!(out, "[{}]", section.name).expect("a string takes all");
        for (name, key) in keys_of(section.name) {
            out.push('\n');
            comment(&mut out, key.doc);
            writeln!(out, "#{name} = {}", toml_value(key.default)).expect("a string takes all");
        }
    }
    out
}

fn comment(out: &mut String, doc: &[&str]) {
    for line in doc {
        writeln!(out, "# {}", line.trim()).expect("a string takes all");
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::config::Sources;

    fn load(text: &str) -> Config {
        let file = Some(("ringmq.toml".into(), text.to_owned()));
        Config::load(&Sources { file, ..Sources::default() }).expect("a good file")
    }

    fn values(config: &Config) -> Vec<Option<String>> {
        KEYS.iter().map(|key| config.show(key.name)).collect()
    }

    #[test]
    fn the_template_is_the_defaults_and_every_line_of_it_can_be_used() {
        let text = template();
        assert_eq!(values(&load(&text)), values(&Config::default()));
        let used: String = text
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let config = load(&used);
        assert_eq!(values(&config), values(&Config::default()));
        for key in KEYS {
            assert_ne!(config.origin(key.name).to_string(), "default", "{} is in the template", key.name);
        }
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let config =
            load("[server]\ndata_dir = 'a \"quoted\" \\ path'\nshards = 2\n[log]\nretention = 'unlimited'\n");
        assert_eq!(values(&load(&listing(&config))), values(&config));
        assert!(
            listing(&config)
                .lines()
                .any(|line| line.starts_with("shards = 2 ") && line.ends_with("# ringmq.toml:3"))
        );
    }

    #[test]
    fn keys_and_sections_are_explained() {
        expect![[r#"
            server.poll
              What an idle shard does: `block` sleeps at once, `adaptive` spins for `poll_spin` and then
              sleeps, `busy` never sleeps and keeps one core per shard at 100 %.
              takes        one of block, adaptive, busy
              default      adaptive
              environment  RINGMQ_SERVER__POLL
              flag         --set server.poll=...
        "#]]
        .assert_eq(&explanation("server.poll").expect("a key"));
        assert_eq!(
            explanation("kafka").expect("a section").matches("environment").count(),
            keys_of("kafka").count()
        );
        expect!["unknown key `log.comit_mode`: did you mean `log.commit_mode`?"]
            .assert_eq(&explanation("log.comit_mode").expect_err("no key").to_string());
    }
}
