//! How the device commits, measured where the shards will run, and as under a load.
//!
//! ```text
//!   first shard's CPU:  writes, and looks for their ends without a pause
//!   CPUs of the others: look for work without a pause
//! ```
//!
//! What the kernel does for a write on the CPU of any shard waits for that shard, for milliseconds where it never
//! sleeps: a trial beside idle CPUs would not see it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{hint, io, thread};

use super::placement::settle;
use crate::io::file::FileHandle;
use crate::io::measure::{Measured, measure_commit};
use crate::io::probe::DeviceClass;
use crate::io::ring::PollMode;

/// Try all ways to commit on the first `region_bytes` of `file`: see [`measure_commit`]. `sleeps`: shards do when they
/// have nothing to do.
///
/// # Errors
/// The system has no thread left, the ring cannot be made, or a write fails.
pub fn measure(
    file: &FileHandle,
    region_bytes: u64,
    class: DeviceClass,
    shard_cpus: &[usize],
    sleeps: bool,
) -> io::Result<Measured> {
    let first = shard_cpus[0];
    let poll = if sleeps { PollMode::Block } else { PollMode::Busy };
    let others: BTreeSet<usize> = shard_cpus.iter().copied().filter(|cpu| !sleeps && *cpu != first).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // However this ends, the scope waits for its threads.
        let _over = SetOnDrop(&over);
        for cpu in others {
            let over = &over;
            thread::Builder::new().spawn_scoped(scope, move || {
                settle(cpu);
                while !over.load(Ordering::Relaxed) {
                    hint::spin_loop();
                }
            })?;
        }
        let trials = thread::Builder::new().spawn_scoped(scope, move || {
            settle(first);
            measure_commit(file, region_bytes, class, poll)
        })?;
        trials.join().map_err(|_| io::Error::other("the measurement panicked"))?
    })
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::blocking::{BlockingDisk, block_on, disk_folder};
    use crate::io::buffer::PageBuf;
    use crate::io::file::Disk;

    #[test]
    fn it_ends_with_shards_on_every_cpu_and_several_on_one() {
        const REGION_BYTES: usize = 1 << 20;
        let folder = disk_folder();
        let file = block_on(BlockingDisk.create(&folder.path().join("region"))).unwrap();
        block_on(BlockingDisk.write_at(&file, 0, &PageBuf::zeroed(REGION_BYTES))).unwrap();
        let all: Vec<usize> =
            core_affinity::get_core_ids().unwrap().into_iter().map(|core| core.id).collect();
        for shard_cpus in [all.clone(), [all.clone(), all.clone()].concat(), vec![all[0]]] {
            for sleeps in [false, true] {
                let measured =
                    measure(&file, REGION_BYTES as u64, DeviceClass::Unknown, &shard_cpus, sleeps).unwrap();
                assert!(measured.trials.contains(&measured.best), "{shard_cpus:?}, sleeps {sleeps}");
            }
        }
    }
}
