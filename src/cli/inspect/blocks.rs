//! `ringmq inspect blocks`: the blocks of a log as they lie there, and what is in them.

use std::fmt::Write;
use std::io::Write as _;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::read_only::ReadOnlyDisk;
use super::text::{hex, hex_dump};
use super::{Directory, Target, WrongUsage};
use crate::base::bytes::Fields;
use crate::codec::record_batch::RecordBatch;
use crate::io::blocking::block_on;
use crate::log::block::{BLOCK_HEADER_BYTES, BlockHeader, FLAG_SEGMENT_END};
use crate::log::entry::{EntryHeader, EntryKind};
use crate::log::inspect::Step;
use crate::metadata::record::MetaRecord;
use crate::model::{Position, TopicId};

#[derive(Debug, Args)]
pub struct BlocksArgs {
    #[command(flatten)]
    target: Target,
    /// Which log; 0 is the metadata log
    #[arg(long, value_name = "N")]
    log: u32,
    /// From the block that holds this position on
    #[arg(long, value_name = "POS", default_value_t = 0)]
    from: u64,
    /// Up to this position
    #[arg(long, value_name = "POS", default_value_t = u64::MAX)]
    to: u64,
    /// Show the entries too
    #[arg(long)]
    entries: bool,
    /// Show the entries and the bytes of their payloads
    #[arg(long)]
    payload: bool,
}

#[derive(Serialize)]
struct BlockLine {
    position: u64,
    end: u64,
    log: u32,
    term: u32,
    append_time_ms: i64,
    /// The rest of the segment is unused.
    segment_end: bool,
    entries_bytes: u32,
    entry_count: u32,
    prev_chain: String,
    chain: String,
    durable: u64,
    window_bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entries: Vec<EntryLine>,
}

#[derive(Serialize)]
struct EntryLine {
    position: u64,
    kind: &'static str,
    slot: u32,
    base_offset: i64,
    count: u32,
    max_timestamp_ms: i64,
    payload_bytes: u32,
    payload_crc: String,
    /// What the payload says, in words.
    meaning: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(skip)]
    dump: String,
}

/// Writes while it reads: a log is larger than memory. As JSON that is an array, an element a line.
pub fn run(args: &BlocksArgs) -> anyhow::Result<()> {
    if args.from >= args.to {
        bail!(WrongUsage(format!("--from {} does not lie before --to {}", args.from, args.to)));
    }
    let directory = Directory::open(&args.target)?;
    let log = directory.logs(Some(args.log))?[0];
    let files = directory.log(log)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut walk = files.walk(&ReadOnlyDisk, Position(args.from));
    let (mut damaged, mut separator) = (0, "");
    if args.target.json {
        writeln!(out, "[")?;
    }
    while walk.at.0 < args.to {
        let at = walk.at;
        let problem = match block_on(walk.next())? {
            Step::Block(header, block) => {
                if header.end().0 > args.from {
                    let line = block_line(args, &header, block);
                    if args.target.json {
                        write!(out, "{separator}{}", serde_json::to_string(&line)?)?;
                        separator = ",\n";
                    } else {
                        out.write_all(line.text().as_bytes())?;
                    }
                }
                continue;
            }
            Step::End => break,
            Step::Missing => "its segment is missing".to_owned(),
            Step::Stopped(problem) => problem.to_string(),
        };
        let goes_on = block_on(walk.skip_damage(files.durable()))?;
        if at < files.durable() && walk.at.0 > args.from {
            damaged += 1;
            // On the error output: what is printed is blocks and nothing else.
            eprintln!("ringmq: positions {at} to {}: {problem}", walk.at);
        } else if !goes_on && !args.target.json {
            writeln!(out, "{at}  the log ends here: {problem}")?;
        }
        if !goes_on {
            break;
        }
    }
    if args.target.json {
        writeln!(out, "\n]")?;
    }
    out.flush()?;
    if damaged > 0 {
        bail!("{damaged} ranges of log {log} hold no valid blocks");
    }
    Ok(())
}

fn block_line(args: &BlocksArgs, header: &BlockHeader, block: &[u8]) -> BlockLine {
    let show_entries = args.entries || args.payload;
    // The walk has checked the entries, so none is an error.
    let entries = header.entries(block).flatten().filter(|_| show_entries);
    BlockLine {
        position: header.position.0,
        end: header.end().0,
        log: header.log.0,
        term: header.term.0,
        append_time_ms: header.append_time.0,
        segment_end: header.flags & FLAG_SEGMENT_END != 0,
        entries_bytes: header.entries_bytes,
        entry_count: header.entry_count,
        prev_chain: format!("{:08x}", header.prev_chain),
        chain: format!("{:08x}", header.chain()),
        durable: header.local.durable.0,
        window_bytes: header.local.window_bytes,
        entries: entries
            .map(|(at, entry, payload)| EntryLine {
                position: header.position.plus((BLOCK_HEADER_BYTES + at) as u64).0,
                kind: entry.kind.name(),
                slot: entry.slot.0,
                base_offset: entry.base_offset.0,
                count: entry.count,
                max_timestamp_ms: entry.max_timestamp,
                payload_bytes: entry.payload_bytes,
                payload_crc: format!("{:08x}", entry.payload_crc),
                meaning: meaning(&entry, payload),
                payload: args.payload.then(|| hex(payload)),
                dump: if args.payload { hex_dump(payload, "      ") } else { String::new() },
            })
            .collect(),
    }
}

impl BlockLine {
    fn text(&self) -> String {
        let mut out = format!(
            "{}  {} bytes, term {}, chain {} after {}, appended at {} ms, durable {}",
            self.position,
            self.end - self.position,
            self.term,
            self.chain,
            self.prev_chain,
            self.append_time_ms,
            self.durable
        );
        if self.segment_end {
            out += ", unused end of the segment\n";
            return out;
        }
        let _ = writeln!(out, ", {} entries of {} bytes", self.entry_count, self.entries_bytes);
        for entry in &self.entries {
            let _ = writeln!(out, "    {}  {}  {}", entry.position, entry.kind, entry.meaning);
            out += &entry.dump;
        }
        out
    }
}

/// What an entry says, in words.
fn meaning(entry: &EntryHeader, payload: &[u8]) -> String {
    let slot = entry.slot;
    let known = match entry.kind {
        EntryKind::TermOpen => Fields::new(payload).u32().ok().map(|term| format!("term {term}")),
        EntryKind::SlotOpen => {
            let mut fields = Fields::new(payload);
            let topic = fields.array().map(TopicId);
            let partition = fields.i32();
            topic
                .ok()
                .zip(partition.ok())
                .map(|(topic, partition)| format!("slot {slot} is partition {partition} of topic {topic}"))
        }
        EntryKind::KafkaBatch => RecordBatch::parse(payload).ok().map(|batch| batch_meaning(entry, &batch)),
        EntryKind::LogStart => Some(format!("slot {slot} starts at offset {}", entry.base_offset)),
        EntryKind::SlotClose => Some(format!("slot {slot} is closed")),
        EntryKind::GroupOffsets => {
            let mut fields = Fields::new(payload);
            let group = fields.string();
            let count = fields.u32();
            group.ok().zip(count.ok()).map(|(group, count)| format!("group {group:?}, {count} offsets"))
        }
        EntryKind::GroupState => {
            let mut fields = Fields::new(payload);
            fields.string().ok().map(|group| format!("members of group {group:?}"))
        }
        EntryKind::Metadata => MetaRecord::decode(payload).ok().map(|record| format!("{record:?}")),
    };
    known.unwrap_or_else(|| format!("{} bytes that this program does not understand", payload.len()))
}

fn batch_meaning(entry: &EntryHeader, batch: &RecordBatch<'_>) -> String {
    let mut out = format!(
        "slot {}, offsets {}..{}, {} bytes, {:?}, newest {} ms",
        entry.slot,
        entry.base_offset,
        entry.end_offset(),
        entry.payload_bytes,
        batch.compression(),
        entry.max_timestamp
    );
    if let Some(stamp) = batch.producer() {
        let _ = write!(out, ", producer {} epoch {} sequence {}", stamp.id, stamp.epoch, stamp.base_sequence);
    }
    out
}
