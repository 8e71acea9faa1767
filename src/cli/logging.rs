//! Where the broker's own log lines go: stderr, for people or for machines.

use std::io::{self, IsTerminal};

use anyhow::{Context, anyhow};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::LogFormat;
use crate::config::schema::Telemetry;

/// Starts logging for the whole process. Once per process.
pub fn init(telemetry: &Telemetry) -> anyhow::Result<()> {
    // Glommio calls it an error that a file system cannot poll; it then does without, and so do we.
    let quiet = "glommio::reactor=off".parse().context("a directive of our own")?;
    let filter = EnvFilter::try_new(&telemetry.log).context("telemetry.log")?.add_directive(quiet);
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match telemetry.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}
