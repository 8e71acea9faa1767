//! What tests of commands have in common: their arguments, read as from a shell.

use clap::{Args, Parser};

#[derive(Parser)]
struct Line<A: Args> {
    #[command(flatten)]
    args: A,
}

/// What a command is given by a line that begins behind its name.
pub fn parse<A: Args>(line: &str) -> Result<A, clap::Error> {
    let line = Line::try_parse_from(std::iter::once("command").chain(line.split_whitespace()))?;
    Ok(line.args)
}

/// Some lines are taken, others are wrong usage.
pub fn check_usage<A: Args>(taken: &[&str], refused: &[&str]) {
    for line in taken {
        if let Err(error) = parse::<A>(line) {
            panic!("{line}: {error}");
        }
    }
    for line in refused {
        assert!(parse::<A>(line).is_err(), "{line}");
    }
}
