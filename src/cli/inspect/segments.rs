//! `ringmq inspect segments`: where the bytes of the logs lie today.

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::read_only::ReadOnlyDisk;
use super::text::{number, size, table, word};
use super::{Directory, Output, Target};
use crate::io::blocking::block_on;
use crate::log::inspect::SegmentState;

#[derive(Debug, Args)]
pub struct SegmentsArgs {
    #[command(flatten)]
    target: Target,
    /// This log only; 0 is the metadata log
    #[arg(long, value_name = "N")]
    log: Option<u32>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct SegmentList(Vec<SegmentLine>);

#[derive(Serialize)]
struct SegmentLine {
    log: u32,
    /// The file is named after it.
    number: u32,
    /// First position, and one past the last.
    base: u64,
    end: u64,
    bytes: u64,
    recycled: bool,
    /// `sealed`, `active`, `ready`, or `missing` when there is no such file.
    state: &'static str,
}

pub fn run(args: &SegmentsArgs) -> anyhow::Result<()> {
    let directory = Directory::open(&args.target)?;
    let mut lines = Vec::new();
    for log in directory.logs(args.log)? {
        let files = directory.log(log)?;
        let end = block_on(files.find_end(&ReadOnlyDisk)).with_context(|| format!("reading log {log}"))?;
        for record in &files.manifest.segments {
            let there = files.segments.iter().find(|segment| segment.record == *record);
            lines.push(SegmentLine {
                log: log.0,
                number: record.number,
                base: record.base.0,
                end: record.base.plus(record.bytes).0,
                bytes: record.bytes,
                recycled: record.recycled,
                state: there.map_or("missing", |segment| SegmentState::of(segment, end).name()),
            });
        }
    }
    super::print(&args.target, &SegmentList(lines))
}

impl Output for SegmentList {
    fn text(&self) -> String {
        let row = |line: &SegmentLine| {
            [
                number(line.log),
                number(line.number),
                number(line.base),
                number(line.end),
                number(size(line.bytes)),
                word(if line.recycled { "yes" } else { "no" }),
                word(line.state),
            ]
        };
        let rows: Vec<_> = self.0.iter().map(row).collect();
        table(["LOG", "NUMBER", "BASE", "END", "SIZE", "RECYCLED", "STATE"], &rows)
    }
}
