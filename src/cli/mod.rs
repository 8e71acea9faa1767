//! The command line: one file a command. Help that teaches, errors that say what to do.
//!
//! Exit codes, for scripts: 0 done, 1 failed, 2 wrong usage, `EXIT_CONFIG` wrong configuration.

mod bench;
mod client;
mod cluster;
mod config;
mod config_args;
mod deleted;
mod group;
mod inspect;
mod logging;
mod output;
mod record;
mod server;
#[cfg(test)]
mod testing;
mod time;
mod topic;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use thiserror::Error;

use crate::config::ConfigError;

/// `EX_CONFIG` of sysexits.h. A supervisor should not restart a broker that ends so: it would again.
const EXIT_CONFIG: u8 = 78;
/// As clap ends for arguments that it does not take.
const EXIT_USAGE: u8 = 2;

/// Arguments that can be read, but name what there is not.
#[derive(Debug, Error)]
#[error("{0}")]
struct WrongUsage(String);

/// A message broker for Linux bare metal: an ack means "on stable storage".
#[derive(Debug, Parser)]
#[command(
    name = "ringmq",
    version,
    arg_required_else_help = true,
    after_help = "Examples:
  ringmq server                                 serve on loopback, data in ./ringmq-data
  ringmq server --data-dir /var/lib/ringmq --kafka-listen 0.0.0.0:9092
  ringmq config template > ringmq.toml          every key with its default and meaning
  ringmq config explain log.commit_mode
  ringmq topic create orders --partitions 8
  ringmq topic config orders --set retention.ms=86400000
  ringmq record produce orders < lines.txt
  ringmq record consume orders --from end --follow
  ringmq group describe billing                 members, offsets and lag

Help on a command: ringmq COMMAND --help"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Server(server::ServerCommand),
    // Boxed: it has by far the most flags.
    Bench(Box<bench::BenchCommand>),
    Config(config::ConfigCommand),
    Group(group::GroupArgs),
    Inspect(inspect::InspectCommand),
    Record(record::RecordArgs),
    Topic(topic::TopicArgs),
}

/// Runs the command of the process's arguments.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Server(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Group(args) => group::run(&args),
        Command::Inspect(command) => command.run(),
        Command::Record(args) => record::run(args),
        Command::Topic(args) => topic::run(&args),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    // Whoever reads our output may stop when they have seen enough: `ringmq config print | head`.
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    // Errors quote brokers.
    eprintln!("ringmq: {}", output::printable(&format!("{error:#}"), |c| matches!(c, '\n' | '\t')));
    if error.is::<ConfigError>() {
        ExitCode::from(EXIT_CONFIG)
    } else if error.is::<WrongUsage>() {
        ExitCode::from(EXIT_USAGE)
    } else {
        ExitCode::FAILURE
    }
}

/// Writes a command's output. Unlike `print!` it reports a closed pipe instead of panicking.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_flags_that_scripts_rely_on_exist() {
        let line = "ringmq server --data-dir D --kafka-listen a:1 --admin-listen b:2 --shards 2 --cpus 0-1 \
                    -c ringmq.toml --set log.segment_bytes=64MiB";
        Cli::try_parse_from(line.split_whitespace()).expect("a valid command line");
    }
}
