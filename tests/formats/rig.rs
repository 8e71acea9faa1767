//! Drives a log without a shard: its operations and jobs are carried out at once, on any disk whose
//! futures never wait.

use std::io;
use std::path::Path;
use std::time::Duration;

use ringmq::background::jobs;
use ringmq::io::blocking::block_on;
use ringmq::io::buffer::PageBuf;
use ringmq::io::file::Disk;
use ringmq::io::op::Op;
use ringmq::log::recovery::{self, Options, RecoveryError, Replay, Report};
use ringmq::log::space::Job;
use ringmq::log::{Durable, Log, LogConfig};
use ringmq::model::{LogId, Nanos, Now, WallMs};

/// 2023-11-14, 22:13:20 UTC: when everything here happens.
pub const TIME_MS: i64 = 1_700_000_000_000;

pub fn now() -> Now {
    Now { mono: Nanos(0), wall: WallMs(TIME_MS) }
}

pub struct Rig<R, D> {
    disk: D,
    pub log: Log,
    /// What the log's entries mean: partitions, or the catalog.
    pub layer: R,
    pub now: Now,
}

impl<R: Replay, D: Disk> Rig<R, D> {
    /// Open the log in `dir` as a start does.
    pub fn try_open(
        disk: D,
        config: LogConfig,
        dir: &Path,
        (broker, id): ([u8; 16], LogId),
        mut layer: R,
        repair: bool,
    ) -> Result<(Rig<R, D>, Report), RecoveryError> {
        let now = now();
        let progress = &mut |_, _| {};
        let options = Options { config: &config, broker, log: id, now: now.wall, repair, progress };
        let (opened, report) = block_on(recovery::open(&disk, dir, options, &mut layer))?;
        Ok((Rig { disk, log: Log::new(config, opened), layer, now }, report))
    }

    /// Everything that was appended becomes durable; `apply` is told.
    pub fn commit(&mut self, mut apply: impl FnMut(&mut R, &Durable)) {
        while !self.log.is_idle() {
            self.submit();
            self.log.take_committed();
        }
        while let Some(durable) = self.log.poll_durable() {
            apply(&mut self.layer, &durable);
        }
        self.log.maintain();
    }

    /// What the log wants from the device is done.
    pub fn submit(&mut self) {
        let mut ops = Vec::new();
        self.log.submit(self.now, &mut ops);
        for op in ops {
            self.perform(op);
        }
    }

    fn perform(&mut self, op: Op) {
        match op {
            Op::Write { token, file, offset, data, .. } => {
                let written = block_on(self.disk.write_at(&file, offset, &PageBuf::from_bytes(&data)));
                self.log.on_written(token, written, self.now.mono).expect("the disk works");
            }
            Op::Read { token, file, offset, mut buf, at, len } => {
                let mut pages = PageBuf::zeroed(len);
                let read = match block_on(self.disk.read_at(&file, offset, &mut pages)) {
                    Ok(read) if read < len => Err(io::ErrorKind::UnexpectedEof.into()),
                    read => read.map(drop),
                };
                buf.tail_mut()[at..at + len].copy_from_slice(&pages[..len]);
                self.log.on_read(token, buf, read, self.now.mono);
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

    pub fn run(&mut self, job: Job) {
        let mut next = Some(job);
        while let Some(job) = next {
            let done = block_on(jobs::run(&self.disk, job));
            next = self.log.on_job(done, self.now).expect("the disk works");
        }
    }
}
