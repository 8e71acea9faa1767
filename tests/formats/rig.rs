//! Drives a log without a shard: its operations and jobs are carried out at once, on real files.

use std::path::Path;
use std::time::Duration;

use ringmq::background::jobs;
use ringmq::io::blocking::{BlockingDisk, block_on};
use ringmq::io::buffer::PageBuf;
use ringmq::io::file::Disk;
use ringmq::io::op::Op;
use ringmq::log::read::{Gather, ReadEnd};
use ringmq::log::recovery::{self, Options, Replay};
use ringmq::log::space::Job;
use ringmq::log::{Durable, Log, LogConfig};
use ringmq::model::{CommitMode, LogId, Nanos, Now, Offset, Slot, WallMs};

/// 2023-11-14, 22:13:20 UTC: when everything here happens.
pub const TIME_MS: i64 = 1_700_000_000_000;

/// Small, so that a few records fill blocks, chunks and segments.
pub const SEGMENT_BYTES: u64 = 64 << 10;

pub const CONFIG: LogConfig = LogConfig {
    chunk_bytes: 32 << 10,
    block_bytes_max: 16 << 10,
    block_target_bytes: 16 << 10,
    write_bytes_max: 1 << 20,
    commit_mode: CommitMode::Plain,
    commit_depth: 1,
    tail_cache_bytes: 64 << 10,
    read_cache_bytes: 64 << 10,
    segment_bytes: SEGMENT_BYTES,
    segments_ahead: 1,
    slice_bytes: 1 << 20,
    checkpoint_bytes: 1 << 30,
    log_bytes_max: 0,
};

pub fn now() -> Now {
    Now { mono: Nanos(0), wall: WallMs(TIME_MS) }
}

pub struct Rig<R> {
    pub log: Log,
    /// What the log's entries mean: partitions, or the catalog.
    pub layer: R,
    pub now: Now,
}

impl<R: Replay> Rig<R> {
    pub fn open(dir: &Path, broker: [u8; 16], id: LogId, mut layer: R) -> Rig<R> {
        let now = now();
        let options = Options {
            config: &CONFIG,
            broker,
            log: id,
            now: now.wall,
            repair: false,
            progress: &mut |_, _| {},
        };
        let opened = block_on(recovery::open(&BlockingDisk, dir, options, &mut layer));
        let (opened, _) = opened.expect("the log opens");
        Rig { log: Log::new(CONFIG, opened), layer, now }
    }

    /// Everything that was appended becomes durable; `apply` is told.
    pub fn commit(&mut self, mut apply: impl FnMut(&mut R, &Durable)) {
        let mut ops = Vec::new();
        while !self.log.is_idle() {
            self.log.submit(self.now, &mut ops);
            for op in ops.drain(..) {
                self.perform(op);
            }
            self.log.take_committed();
        }
        while let Some(durable) = self.log.poll_durable() {
            apply(&mut self.layer, &durable);
        }
        self.log.maintain();
    }

    fn perform(&mut self, op: Op) {
        match op {
            Op::Write { token, file, offset, data, .. } => {
                let written = block_on(BlockingDisk.write_at(&file, offset, &PageBuf::from_bytes(&data)));
                self.log.on_written(token, written, self.now.mono).expect("the disk works");
            }
            Op::Read { token, file, offset, mut buf, len, .. } => {
                let mut pages = PageBuf::zeroed(len);
                let read = block_on(BlockingDisk.read_at(&file, offset, &mut pages)).expect("the disk works");
                assert_eq!(read, len);
                buf.tail_mut()[..len].copy_from_slice(&pages);
                self.log.on_read(token, buf, Ok(()));
            }
            other => panic!("{other:?} is not expected here"),
        }
    }

    pub fn checkpoint(&mut self, state: &[u8]) {
        let job = self.log.begin_checkpoint(state);
        self.run(job);
    }

    /// Segments are made and recycled, and the idle log's durable position is recorded.
    pub fn housekeeping(&mut self) {
        while self.step() {}
        self.now.mono = self.now.mono.plus(Duration::from_secs(1));
        while self.step() {}
    }

    fn step(&mut self) -> bool {
        let job = self.log.poll_job(self.now);
        job.map(|job| self.run(job)).is_some()
    }

    fn run(&mut self, job: Job) {
        let mut next = Some(job);
        while let Some(job) = next {
            let done = block_on(jobs::run(&BlockingDisk, job));
            next = self.log.on_job(done, self.now).expect("the disk works");
        }
    }

    /// All batches of a slot from `from` on.
    pub fn read(&mut self, slot: Slot, from: Offset) -> Vec<u8> {
        loop {
            let mut gather = Gather::default();
            match self.log.read(slot, from, usize::MAX, true, &mut gather) {
                ReadEnd::Done => return gather.finish().concat(),
                ReadEnd::Failed => panic!("slot {slot} cannot be read"),
                ReadEnd::Missing(_) => {
                    let mut ops = Vec::new();
                    self.log.submit(self.now, &mut ops);
                    for op in ops {
                        self.perform(op);
                    }
                }
            }
        }
    }
}
