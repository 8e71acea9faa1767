//! `ringmq server`: runs a broker until it is told to stop.

use clap::Args;

use super::config_args::ConfigArgs;
use super::logging;
use crate::broker;

/// Run a broker
///
/// Without any flag it serves Kafka clients on 127.0.0.1:9092, keeps its data in ./ringmq-data and
/// answers /readyz and /metrics on 127.0.0.1:9644. SIGTERM or Ctrl-C stops it in good order.
#[derive(Debug, Args)]
#[command(after_help = "Every key of the configuration can be given in three ways; the first found counts:
  a flag                  --set kafka.num_partitions=8
  the environment         RINGMQ_KAFKA__NUM_PARTITIONS=8
  the file of --config    [kafka]
                          num_partitions = 8

Sizes and durations have units: 64MiB, 1GiB, 50us, 10ms, 5s, 7d.
See also: ringmq config template, ringmq config print")]
pub struct ServerCommand {
    #[command(flatten)]
    config: ConfigArgs,

    /// Cut logs off where they are corrupt, and lose what follows, instead of refusing to start
    ///
    /// In log 0 that is topics made since, with all of their records. See docs/DURABILITY.md before.
    #[arg(long)]
    repair: bool,
}

impl ServerCommand {
    pub fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        logging::init(&config.telemetry)?;
        broker::run(config, self.repair)
    }
}
