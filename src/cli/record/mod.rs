//! `ringmq record`: write records from a terminal or a script, and read them.

mod consume;
mod json;
mod partitioner;
mod produce;

use clap::{Args, Subcommand};

use super::cluster::ClusterArgs;

/// Produce records from lines, consume them as lines
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo hello | ringmq record produce greetings
  ringmq record produce orders --key-separator : < orders.txt        lines like 17:shipped
  ringmq record consume orders --max 10
  ringmq record consume orders --from end --follow --keys
  ringmq record consume orders --from 2026-11-25T08:00:00Z --partition 0
  ringmq record consume orders --json | ringmq record produce copy --json    binary safe, headers too

A record as --json writes and reads it, one a line; a text that is no UTF-8 is {\"base64\": \"...\"}:
  {\"partition\": 0, \"timestamp\": 1795644245678, \"key\": \"k\", \"value\": \"v\", \"headers\": [{\"key\": \"h\", \"value\": \"x\"}]}")]
pub struct RecordArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Produce(produce::ProduceArgs),
    Consume(consume::ConsumeArgs),
}

pub fn run(args: RecordArgs) -> anyhow::Result<()> {
    match args.action {
        Action::Produce(produce) => produce::run(&args.cluster.bootstrap, &produce),
        Action::Consume(consume) => consume::run(&args.cluster.bootstrap, &consume),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::check_usage;

    #[test]
    fn usage() {
        check_usage::<RecordArgs>(
            &[
                "produce t",
                "produce t --key-separator : --acks 1 --compression zstd --partition 3",
                "produce t --json --acks 0",
                "consume t",
                "consume t --from beginning --max 5 --follow",
                "consume t --from 17 --partition 0 --partition 1 --json",
                "consume t --from 2026-11-25 --keys --headers --positions",
            ],
            &[
                "",
                "produce",
                "produce t --acks 2",
                "produce t --compression rar",
                "produce t --json --key-separator :",
                "produce t --partition -1",
                "consume t --from yesterday",
                "consume t --from -5",
                "consume t --json --keys",
                "consume t --max 0",
            ],
        );
    }
}
