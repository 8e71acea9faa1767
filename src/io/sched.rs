//! How threads share cores: a shard's with the kernel's own threads, the others with shards, if they must.
//!
//! On a device without FUA the kernel completes a `RWF_DSYNC` write on a worker thread of the core that
//! the interrupt came to. A busy shard on that core keeps the worker waiting until its time slice ends, so a
//! shard asks for the shortest slices there are. They end with a tick of the kernel's clock all the same: beside a
//! thread that never sleeps, 3.8 ms were measured for a write that takes 0.1 ms (`broker::trial`). So a shard's ring
//! gives way with each turn in which a commit is under way.
//!
//! Threads that need no CPU of their own keep off the shards', where there are others: a shard that waits for one of
//! them is late with everything.

use std::io;
use std::mem;

/// The shortest slice that the kernel grants (`sched_setattr(2)`, since Linux 6.12).
const SLICE_NANOS: u64 = 100_000;

/// `struct sched_attr` of the kernel's `sched/types.h`, first version.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Ask for the shortest time slices for the calling thread.
///
/// # Errors
/// `EINVAL` before Linux 6.12, `ENOSYS`, `EPERM` under a strict seccomp filter: the thread goes on
/// with ordinary slices.
pub fn shorten_slices() -> io::Result<()> {
    set(SchedAttr { runtime: SLICE_NANOS, ..SchedAttr::default() })
}

/// Let the calling thread run only with what others leave of its CPU, or a small share of it (`nice` 19).
///
/// # Errors
/// `EPERM` under a strict seccomp filter: the thread goes on as it was.
pub fn step_back() -> io::Result<()> {
    set(SchedAttr { nice: 19, ..SchedAttr::default() })
}

/// Keep the calling thread, and whatever it starts, to these CPUs. None given: it stays where it may be.
///
/// # Errors
/// `EINVAL` when the process may use none of them by now: the thread goes on where it may.
pub fn keep_to(cpus: &[usize]) -> io::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    // SAFETY: a `cpu_set_t` is integers, for which zero is a valid value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    for &cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: the CPU is one of those that the set has room for.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: `set` is a valid `cpu_set_t` of that size, which the kernel only reads.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set(attr: SchedAttr) -> io::Result<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, policy: libc::SCHED_OTHER as u32, ..attr };
    // SAFETY: `attr` is a valid `sched_attr` of the size it names, which the kernel only reads.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &attr, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn allowed() -> Vec<usize> {
        core_affinity::get_core_ids().unwrap().into_iter().map(|core| core.id).collect()
    }

    #[test]
    fn a_thread_and_those_it_starts_stay_where_they_are_kept() {
        let all = allowed();
        let kept = thread::spawn(move || {
            keep_to(&[]).unwrap();
            assert_eq!(allowed(), all, "no CPU was named");
            let last = *all.last().unwrap();
            keep_to(&[last, libc::CPU_SETSIZE as usize]).unwrap();
            assert_eq!((allowed(), thread::spawn(allowed).join().unwrap()), (vec![last], vec![last]));
            assert!(keep_to(&[libc::CPU_SETSIZE as usize]).is_err(), "there is none of this number");
            assert_eq!(allowed(), [last]);
        });
        kept.join().unwrap();
    }
}
