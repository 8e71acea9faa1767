//! How durable writes are fastest on this device: a short measurement, made when a data directory
//! is formatted. What sysfs says ([`DeviceClass`]) is only the first guess.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::buffer::ChunkBuf;
use super::file::FileHandle;
use super::op::{Event, Io, Op, Token, Wait, WriteSync};
use super::probe::DeviceClass;
use super::ring::{PollMode, Ring, RingConfig, Wakers};
use crate::model::CommitMode;
use crate::model::ShardId;

/// One write of a trial: near the middle of what group commit makes of small requests.
pub const WRITE_BYTES: usize = 64 * 1024;

/// 15 ms: some sixty writes on a device of 250 us, so that a median means something.
const TRIAL: Duration = Duration::from_millis(15);

/// No trial starts after this; with those of slow devices, the whole stays below 200 ms but for a
/// device on which a single write takes longer.
const TRIALS_MAX: Duration = Duration::from_millis(150);

/// A deeper or more complicated way must be this much better, in percent, to be worth it: the difference
/// between two runs of the same trial.
const GAIN_MIN_PERCENT: u64 = 10;

/// One way of writing, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    pub mode: CommitMode,
    /// Writes in flight.
    pub depth: usize,
    /// Writes of [`WRITE_BYTES`] that became durable.
    pub writes: usize,
    /// From a write's start until it was durable.
    pub median: Duration,
    pub bytes_per_second: u64,
}

/// What was measured, in the order of the trials.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The way to use.
    pub best: Trial,
    pub trials: Vec<Trial>,
}

/// Try all ways on the first `region_bytes` of `file`, which must have been really written, in
/// 64 KiB pages; their content is lost. Takes less than 200 ms. `poll`: how a shard waits under a load.
///
/// # Errors
/// The ring cannot be made, or a write fails.
pub fn measure_commit(
    file: &FileHandle,
    region_bytes: u64,
    class: DeviceClass,
    poll: PollMode,
) -> io::Result<Measured> {
    let mut ring = Ring::new(RingConfig {
        shard: ShardId(0),
        entries: 8,
        recv_buffers: 1,
        recv_buffer_bytes: 64,
        poll,
        wakers: Wakers::new(1)?,
        has_mail: Box::new(|| false),
    })?;
    measure_with(&mut ring, file, region_bytes, class)
}

fn measure_with(
    io: &mut impl Io,
    file: &FileHandle,
    region_bytes: u64,
    class: DeviceClass,
) -> io::Result<Measured> {
    let slots = region_bytes / WRITE_BYTES as u64;
    assert!(slots > 0, "the region holds at least one write");
    let mut chunk = ChunkBuf::unpooled(WRITE_BYTES);
    let mut bench = Bench { io, file, slots, next: 0, data: chunk.freeze(WRITE_BYTES).clone() };
    let modes = modes(class);
    let started = Instant::now();
    let mut trials = Vec::new();
    // Shallow ones first: they are the ones that a slow device has time for.
    for depth in [1, 2, 4] {
        for &mode in modes {
            if trials.is_empty() || started.elapsed() < TRIALS_MAX {
                trials.push(bench.trial(mode, depth)?);
            }
        }
    }
    Ok(Measured { best: best(&trials, class), trials })
}

/// Those to try, the one first that wins where the speed is the same.
fn modes(class: DeviceClass) -> &'static [CommitMode] {
    match class {
        DeviceClass::WriteThrough => &[CommitMode::Plain, CommitMode::Dsync, CommitMode::WriteThenSync],
        DeviceClass::Fua => &[CommitMode::Dsync, CommitMode::WriteThenSync],
        DeviceClass::Flush | DeviceClass::Unknown => &[CommitMode::WriteThenSync, CommitMode::Dsync],
    }
}

/// Of the mode that is never far behind, the first trial that none of its own beats by more than the noise.
///
/// A log commits one block at a time while little comes, and several at a time under a load. So a mode is judged by
/// the depth at which it is worst, as a share of what another one reaches there. Measured on class C, where the kernel
/// ends a `Dsync` write on a worker of the CPU that the interrupt came to: with a shard on that CPU, one at a time,
/// 18 to 41 MB/s where `WriteThenSync` has 250 to 640, but four at a time up to a third more than that; elsewhere more
/// than `WriteThenSync` one at a time, and about as much four at a time.
fn best(trials: &[Trial], class: DeviceClass) -> Trial {
    let fastest = |of: &dyn Fn(&Trial) -> bool| {
        trials.iter().filter(|trial| of(trial)).map(|trial| trial.bytes_per_second).max().unwrap_or(0)
    };
    // Per mille.
    let worst = |mode: CommitMode| {
        let own = trials.iter().filter(|trial| trial.mode == mode);
        own.map(|trial| share(trial.bytes_per_second, fastest(&|other| other.depth == trial.depth))).min()
    };
    let candidates = modes(class).iter().filter_map(|&mode| Some((mode, worst(mode)?)));
    let least_bad = candidates.clone().map(|(_, worst)| worst).max();
    let (mode, _) = candidates
        .into_iter()
        .find(|&(_, worst)| least_bad.is_some_and(|best| is_near(worst, best)))
        .expect("there was a trial");
    let own = fastest(&|trial| trial.mode == mode);
    let near = |trial: &&Trial| trial.mode == mode && is_near(trial.bytes_per_second, own);
    *trials.iter().find(near).expect("the fastest is near itself")
}

/// `of` as so many thousandths of `whole`.
fn share(of: u64, whole: u64) -> u64 {
    (u128::from(of) * 1000 / u128::from(whole.max(1))) as u64
}

/// Less than `best`, if at all, by no more than the noise.
fn is_near(speed: u64, best: u64) -> bool {
    u128::from(speed) * u128::from(100 + GAIN_MIN_PERCENT) >= u128::from(best) * 100
}

struct Bench<'a, I> {
    io: &'a mut I,
    file: &'a FileHandle,
    /// Places for a write; used in turn, from `next`.
    slots: u64,
    next: u64,
    data: Bytes,
}

impl<I: Io> Bench<'_, I> {
    /// Rounds of `depth` writes that start together. The next round starts when the last is durable,
    /// but for modes without a sync, in which each write is replaced as soon as it completes.
    fn trial(&mut self, mode: CommitMode, depth: usize) -> io::Result<Trial> {
        let started = Instant::now();
        let mut latencies = Vec::new();
        let mut starts = vec![started; depth];
        let mut ops = Vec::new();
        let mut events = Vec::new();
        let mut in_flight = depth;
        for (i, start) in starts.iter_mut().enumerate() {
            self.write(mode, i, start, &mut ops);
        }
        while in_flight > 0 {
            self.io.turn(&mut ops, &mut events, Wait::Forever)?;
            for event in events.drain(..) {
                match event {
                    Event::Written { token, result } => {
                        result?;
                        in_flight -= 1;
                        if mode == CommitMode::WriteThenSync {
                            if in_flight == 0 {
                                ops.push(Op::Sync { token, file: self.file.clone() });
                                in_flight = 1;
                            }
                            continue;
                        }
                        let i = token.0 as usize;
                        latencies.push(starts[i].elapsed());
                        if started.elapsed() < TRIAL {
                            self.write(mode, i, &mut starts[i], &mut ops);
                            in_flight += 1;
                        }
                    }
                    Event::Synced { result, .. } => {
                        result?;
                        in_flight = 0;
                        latencies.extend(starts.iter().map(Instant::elapsed));
                        if started.elapsed() < TRIAL {
                            in_flight = depth;
                            for (i, start) in starts.iter_mut().enumerate() {
                                self.write(mode, i, start, &mut ops);
                            }
                        }
                    }
                    Event::Woken => {}
                    other => unreachable!("the answer to a write or a sync, not {other:?}"),
                }
            }
        }
        let nanos = started.elapsed().as_nanos().max(1);
        latencies.sort_unstable();
        let bytes = latencies.len() as u128 * WRITE_BYTES as u128;
        Ok(Trial {
            mode,
            depth,
            writes: latencies.len(),
            median: latencies[latencies.len() / 2],
            bytes_per_second: (bytes * 1_000_000_000 / nanos) as u64,
        })
    }

    fn write(&mut self, mode: CommitMode, number: usize, start: &mut Instant, ops: &mut Vec<Op>) {
        let sync = if mode == CommitMode::Dsync { WriteSync::Dsync } else { WriteSync::Plain };
        *start = Instant::now();
        ops.push(Op::Write {
            token: Token(number as u64),
            file: self.file.clone(),
            offset: self.next * WRITE_BYTES as u64,
            data: self.data.clone(),
            sync,
        });
        self.next = (self.next + 1) % self.slots;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::blocking::{BlockingDisk, block_on, disk_folder};
    use crate::io::buffer::PageBuf;
    use crate::io::file::Disk;

    fn trial(mode: CommitMode, depth: usize, bytes_per_second: u64) -> Trial {
        Trial { mode, depth, writes: 1, median: Duration::ZERO, bytes_per_second }
    }

    #[test]
    fn the_first_of_the_fast_ways_wins() {
        for (speeds, depth) in [([100, 105, 109], 1), ([100, 150, 160], 2), ([100, 200, 400], 4)] {
            let trials: Vec<Trial> =
                [1, 2, 4].into_iter().zip(speeds).map(|(d, s)| trial(CommitMode::Dsync, d, s)).collect();
            assert_eq!(best(&trials, DeviceClass::Fua).depth, depth, "{speeds:?}");
        }
        for (class, mode) in [
            (DeviceClass::WriteThrough, CommitMode::Plain),
            (DeviceClass::Fua, CommitMode::Dsync),
            (DeviceClass::Flush, CommitMode::WriteThenSync),
        ] {
            let same: Vec<Trial> = modes(class).iter().map(|&mode| trial(mode, 4, 100)).collect();
            assert_eq!(best(&same, class).mode, mode, "{class:?}");
        }
    }

    #[test]
    fn a_mode_that_is_bad_at_one_depth_loses() {
        let [sync, dsync] = [CommitMode::WriteThenSync, CommitMode::Dsync];
        // MB/s at depth 1, 2 and 4, of write-sync and of dsync.
        let table = [
            // As measured with the shard on the CPU that the disk interrupts, with shards on both, and on the other.
            ([404, 1095, 2009], [28, 213, 1149], (sync, 4)),
            ([509, 955, 1600], [40, 512, 1863], (sync, 4)),
            ([360, 679, 1012], [476, 832, 1325], (dsync, 4)),
            ([301, 679, 1513], [523, 952, 1364], (dsync, 4)),
            // As fast but for the noise.
            ([400, 700, 730], [420, 730, 760], (sync, 2)),
        ];
        for (of_sync, of_dsync, expected) in table {
            let trials: Vec<Trial> = [1, 2, 4]
                .into_iter()
                .zip(of_sync.into_iter().zip(of_dsync))
                .flat_map(|(depth, (one, other))| [trial(sync, depth, one), trial(dsync, depth, other)])
                .collect();
            let best = best(&trials, DeviceClass::Flush);
            assert_eq!((best.mode, best.depth), expected, "{of_sync:?} {of_dsync:?}");
        }
        // A slow device leaves time for little.
        assert_eq!(best(&[trial(sync, 1, 5)], DeviceClass::Flush).mode, sync);
        assert_eq!(best(&[trial(sync, 1, 0), trial(dsync, 1, 0)], DeviceClass::Flush).mode, sync);
    }

    #[test]
    fn measures_every_way_that_the_class_allows() {
        const REGION_BYTES: usize = 1 << 20;
        let folder = disk_folder();
        let file = block_on(BlockingDisk.create(&folder.path().join("region"))).unwrap();
        block_on(BlockingDisk.write_at(&file, 0, &PageBuf::zeroed(REGION_BYTES))).unwrap();
        block_on(BlockingDisk.sync(&file)).unwrap();
        for (class, plain) in [(DeviceClass::Flush, false), (DeviceClass::WriteThrough, true)] {
            let measured = measure_commit(&file, REGION_BYTES as u64, class, PollMode::DEFAULT).unwrap();
            let trials = &measured.trials;
            assert!(trials.contains(&measured.best));
            assert_eq!(trials.iter().any(|trial| trial.mode == CommitMode::Plain), plain);
            for trial in trials {
                assert!(trial.writes >= trial.depth && trial.median > Duration::ZERO, "{trial:?}");
            }
        }
        assert_eq!(block_on(BlockingDisk.size(&file)).unwrap(), REGION_BYTES as u64, "it only overwrites");
    }
}
