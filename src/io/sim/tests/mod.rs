//! Stories of one machine: what the simulated kernel promises to shards, jobs and clients.

mod disk;
mod machine;
mod network;

use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::base::align::PAGE_BYTES;
use crate::io::buffer::{ChunkBuf, PageBuf};
use crate::io::file::{Disk, FileHandle};
use crate::io::op::{RecvEnd, WriteSync};

const SHARD: ShardId = ShardId(0);

/// A world with one shard that only passes operations and events on.
struct Machine {
    world: SimWorld,
    executor: SimExecutor,
    io: SimIo,
    ops: Vec<Op>,
    events: Vec<Event>,
}

impl Machine {
    fn new(seed: u64) -> Machine {
        Machine::on(SimWorld::new(seed))
    }

    fn on(world: SimWorld) -> Machine {
        let io = SimIo::new(&world, SHARD);
        Machine { executor: SimExecutor::new(&world), io, world, ops: Vec::new(), events: Vec::new() }
    }

    /// The machine after its end.
    fn reborn(self) -> Machine {
        Machine::on(self.world)
    }

    fn submit(&mut self, ops: impl IntoIterator<Item = Op>) {
        self.ops.extend(ops);
        self.turn();
    }

    fn turn(&mut self) {
        self.io.turn(&mut self.ops, &mut self.events, Wait::Forever).unwrap();
    }

    /// Let everything happen that will happen by itself within the next second.
    fn settle(&mut self) {
        let until = self.world.now().mono.plus(Duration::from_secs(1));
        loop {
            match self.world.next_step(&self.executor, until) {
                Step::Shard(_) => self.turn(),
                Step::Job(job) => self.executor.run(job),
                Step::Client(_) => {}
                Step::Idle => return,
            }
        }
    }

    /// Submit, settle, and take the events.
    fn run(&mut self, ops: impl IntoIterator<Item = Op>) -> Vec<Event> {
        self.submit(ops);
        self.settle();
        std::mem::take(&mut self.events)
    }

    /// A file of zeros that a crash does not touch, opened.
    fn prepared(&self, path: &str, page_count: usize) -> FileHandle {
        let disk = SimDisk::immediate(&self.world);
        block_on(async {
            let path = Path::new(path);
            let file = disk.create(path).await?;
            disk.write_at(&file, 0, &PageBuf::zeroed(page_count * PAGE_BYTES)).await?;
            disk.sync(&file).await?;
            disk.sync_dir(path.parent().unwrap()).await?;
            Ok::<_, io::Error>(file)
        })
        .unwrap()
    }

    /// The first byte of every page of a file; `.` is zero.
    fn letters(&self, path: &str) -> String {
        let bytes = self.world.disk().contents(Path::new(path)).unwrap();
        bytes.chunks(PAGE_BYTES).map(|page| if page[0] == 0 { '.' } else { char::from(page[0]) }).collect()
    }
}

/// Pages, each filled with a letter, in memory as a log chunk has it.
fn pages(letters: &str) -> Bytes {
    let mut chunk = ChunkBuf::unpooled(letters.len() * PAGE_BYTES);
    for (page, letter) in chunk.tail_mut().chunks_mut(PAGE_BYTES).zip(letters.bytes()) {
        page.fill(letter);
    }
    chunk.freeze(letters.len() * PAGE_BYTES).clone()
}

fn write(token: u64, file: &FileHandle, page: u64, letters: &str, sync: WriteSync) -> Op {
    let offset = page * PAGE_BYTES as u64;
    Op::Write { token: Token(token), file: file.clone(), offset, data: pages(letters), sync }
}

fn fault(path_part: &str, call: DiskCall, when: When, kind: FaultKind) -> Fault {
    Fault { path_part: path_part.to_owned(), call, when, kind }
}

/// `ok`, or what went wrong.
fn outcome<T>(result: &io::Result<T>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) if error.raw_os_error() == Some(libc::EIO) => "EIO".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// Events in one line, in order.
fn told(events: &[Event]) -> String {
    let lines = events.iter().map(|event| match event {
        Event::Accepted { .. } => "accepted".to_owned(),
        Event::AcceptFailed { .. } => "accept failed".to_owned(),
        Event::Received { data, .. } => format!("got {}", data.len()),
        Event::RecvEnded { end, .. } => match end {
            RecvEnd::Failed(error) => format!("receive failed: {:?}", error.kind()),
            end => format!("receive ended: {end:?}"),
        },
        Event::ReceivedInto { result, .. } => format!("into {}", outcome(result)),
        Event::Sent { result, .. } => format!("sent {}", outcome(result)),
        Event::Closed { .. } => "closed".to_owned(),
        Event::Written { token, result } => format!("{}=written {}", token.0, outcome(result)),
        Event::Synced { token, result } => format!("{}=synced {}", token.0, outcome(result)),
        Event::Read { token, result, .. } => format!("{}=read {}", token.0, outcome(result)),
        Event::Woken => "woken".to_owned(),
    });
    lines.collect::<Vec<_>>().join("; ")
}
