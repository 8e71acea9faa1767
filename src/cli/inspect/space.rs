//! `ringmq inspect space`: which partitions keep segments from being used again.
//!
//! Only the oldest segment of a log can be recycled, once nothing in it is alive and a checkpoint
//! lies behind it. So the holders of the oldest segment are those that pin all the dead bytes behind.

use std::fmt::Write;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::read_only::ReadOnlyDisk;
use super::text::{number, size, table, word};
use super::{Directory, Output, Progress, Target, topic_name};
use crate::io::blocking::block_on;
use crate::log::inspect::{LogFiles, SegmentSpace, SegmentState};
use crate::metadata::catalog::Catalog;
use crate::metadata::replay::MetadataReplay;
use crate::model::{LogId, Slot};
use crate::partition::Partitions;

/// Lines about the holders of one segment; `--all` shows the others.
const HOLDERS_SHOWN: usize = 10;

#[derive(Debug, Args)]
pub struct SpaceArgs {
    #[command(flatten)]
    target: Target,
    /// This log only; 0 is the metadata log
    #[arg(long, value_name = "N")]
    log: Option<u32>,
    /// Show all partitions that hold a segment, not only the largest
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct SpaceReport {
    logs: Vec<LogSpace>,
    #[serde(skip)]
    holders_shown: usize,
}

#[derive(Serialize)]
struct LogSpace {
    log: u32,
    bytes: u64,
    live_bytes: u64,
    /// In sealed segments, not alive, and not to be had while older bytes are.
    pinned_bytes: u64,
    checkpoint: u64,
    end: u64,
    segments: Vec<SegmentLine>,
}

#[derive(Serialize)]
struct SegmentLine {
    number: u32,
    base: u64,
    bytes: u64,
    state: &'static str,
    live_bytes: u64,
    /// Sealed, but a start would still need it to rebuild what is not checkpointed.
    needed_for_recovery: bool,
    /// The largest first.
    held_by: Vec<Holder>,
}

#[derive(Serialize)]
struct Holder {
    topic: String,
    partition: i32,
    bytes: u64,
    /// When its newest record in this segment was appended, seconds since 1970.
    newest_append_seconds: u32,
}

pub fn run(args: &SpaceArgs) -> anyhow::Result<()> {
    let directory = Directory::open(&args.target)?;
    let catalog = directory.catalog().context("reading the metadata log, for the topics' names")?;
    let mut logs = Vec::new();
    for log in directory.logs(args.log)? {
        let files = directory.log(log)?;
        logs.push(log_space(&files, &catalog).with_context(|| format!("reading log {log}"))?);
    }
    let holders_shown = if args.all { usize::MAX } else { HOLDERS_SHOWN };
    super::print(&args.target, &SpaceReport { logs, holders_shown })
}

fn log_space(files: &LogFiles, catalog: &Catalog) -> anyhow::Result<LogSpace> {
    let progress = &mut Progress::new(files.id).tell();
    let mut partitions = Partitions::default();
    let map = if files.id == LogId::METADATA {
        block_on(files.space(&ReadOnlyDisk, &mut MetadataReplay::default(), progress))?
    } else {
        block_on(files.space(&ReadOnlyDisk, &mut partitions, progress))?
    };
    let holder = |(slot, held): (&Slot, &crate::log::inspect::Held)| {
        let key = partitions.get(*slot).map(|partition| partition.key);
        Holder {
            topic: key.map_or_else(|| format!("slot {slot}"), |key| topic_name(catalog, key.topic)),
            partition: key.map_or(-1, |key| key.index),
            bytes: held.bytes,
            newest_append_seconds: held.append_seconds,
        }
    };
    let checkpoint = files.checkpoint_position();
    let line = |space: &SegmentSpace| {
        let mut held_by: Vec<Holder> = space.held.iter().map(holder).collect();
        held_by.sort_by_key(|holder| std::cmp::Reverse(holder.bytes));
        SegmentLine {
            number: space.segment.record.number,
            base: space.segment.base().0,
            bytes: space.segment.record.bytes,
            state: space.state.name(),
            live_bytes: space.live_bytes(),
            needed_for_recovery: space.state == SegmentState::Sealed && space.segment.end() > checkpoint,
            held_by,
        }
    };
    let sealed = map.segments.iter().filter(|space| space.state == SegmentState::Sealed);
    let pinned = sealed
        .skip_while(|space| space.held.is_empty() && space.segment.end() <= checkpoint)
        .map(|space| space.segment.record.bytes - space.live_bytes().min(space.segment.record.bytes));
    Ok(LogSpace {
        log: files.id.0,
        bytes: map.segments.iter().map(|space| space.segment.record.bytes).sum(),
        live_bytes: map.segments.iter().map(SegmentSpace::live_bytes).sum(),
        pinned_bytes: pinned.sum(),
        checkpoint: checkpoint.0,
        end: map.end.0,
        segments: map.segments.iter().map(line).collect(),
    })
}

impl Output for SpaceReport {
    fn text(&self) -> String {
        let mut out = String::new();
        for log in &self.logs {
            let _ = writeln!(
                out,
                "log {}: {} on disk, {} alive, {} dead but pinned by older records",
                log.log,
                size(log.bytes),
                size(log.live_bytes),
                size(log.pinned_bytes)
            );
            let rows: Vec<_> = log.segments.iter().map(row).collect();
            out += &table(["SEGMENT", "BASE", "SIZE", "STATE", "ALIVE", "HELD BY"], &rows);
            if let Some(oldest) = log.segments.iter().find(|segment| segment.state == "sealed") {
                out += &holders(oldest, self.holders_shown);
            }
            out.push('\n');
        }
        out.pop();
        out
    }
}

fn row(segment: &SegmentLine) -> [super::text::Cell; 6] {
    let held_by = match (&segment.held_by[..], segment.needed_for_recovery) {
        ([], true) => "the next start, until a checkpoint".to_owned(),
        ([], false) => "nobody".to_owned(),
        ([first], _) => format!("{}-{}", first.topic, first.partition),
        ([first, rest @ ..], _) => format!("{}-{} and {} more", first.topic, first.partition, rest.len()),
    };
    [
        number(segment.number),
        number(segment.base),
        number(size(segment.bytes)),
        word(segment.state),
        number(size(segment.live_bytes)),
        word(held_by),
    ]
}

/// Who must let go of the oldest segment before anything behind it can be used again.
fn holders(oldest: &SegmentLine, shown: usize) -> String {
    if oldest.held_by.is_empty() {
        return String::new();
    }
    let mut out = format!("segment {}, the oldest, is held by\n", oldest.number);
    for holder in oldest.held_by.iter().take(shown) {
        let _ = writeln!(out, "  {} partition {}: {}", holder.topic, holder.partition, size(holder.bytes));
    }
    if oldest.held_by.len() > shown {
        let _ = writeln!(out, "  and {} more partitions (--all)", oldest.held_by.len() - shown);
    }
    out
}
