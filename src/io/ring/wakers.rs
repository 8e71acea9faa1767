//! Waking a shard that waits in the kernel, from any thread.
//!
//! The sender puts its mail into the mailbox and then looks whether the receiver sleeps; the
//! receiver says that it sleeps and then looks into its mailbox. With a sequentially consistent
//! fence between the two steps of both, at least one of them sees the other: no mail is slept over.
//!
//! A thread with a ring of its own sends the sleeper's ring a message, which goes with the turn's other
//! entries. Others write to its eventfd.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering, fence};

use crate::model::ShardId;

/// One bell per shard. Shared by all threads of the broker.
pub struct Wakers {
    shards: Box<[Bell]>,
}

struct Bell {
    /// An eventfd, blocking, so that a read in the ring waits for it.
    eventfd: File,
    /// The shard waits in the kernel, or is about to.
    sleeping: AtomicBool,
    /// Descriptor of the shard's ring, if that takes messages; else [`NO_RING`].
    ring: AtomicI32,
}

const NO_RING: RawFd = -1;

impl Wakers {
    /// # Errors
    /// `EMFILE`, `ENFILE`: no file descriptor left.
    pub fn new(shards: u16) -> io::Result<Arc<Wakers>> {
        let bell = |_| {
            let (sleeping, ring) = (AtomicBool::new(false), AtomicI32::new(NO_RING));
            Ok(Bell { eventfd: eventfd()?, sleeping, ring })
        };
        Ok(Arc::new(Wakers { shards: (0..shards).map(bell).collect::<io::Result<_>>()? }))
    }

    /// Make the shard's wait return, if it waits. Call it after the mail is in the mailbox.
    pub fn wake(&self, shard: ShardId) {
        if self.must_wake(shard) {
            self.ring_bell(shard);
        }
    }

    /// The shard sleeps, and nobody else is waking it: the caller must. Asked after the mail is in the
    /// mailbox.
    pub(super) fn must_wake(&self, shard: ShardId) -> bool {
        let bell = &self.shards[usize::from(shard.0)];
        fence(Ordering::SeqCst);
        // The swap lets one of several senders ring; a plain load first, because most often nobody
        // sleeps.
        bell.sleeping.load(Ordering::Relaxed) && bell.sleeping.swap(false, Ordering::Relaxed)
    }

    pub(super) fn ring_bell(&self, shard: ShardId) {
        // An eventfd's write fails only when its counter would overflow: then it rings already.
        let _ = (&self.shards[usize::from(shard.0)].eventfd).write(&1u64.to_ne_bytes());
    }

    /// Where a message for the shard goes, if it takes messages. The ring may be gone when one arrives:
    /// then the message fails, or ends another ring's wait for nothing.
    pub(super) fn ring(&self, shard: ShardId) -> Option<RawFd> {
        let fd = self.shards[usize::from(shard.0)].ring.load(Ordering::Relaxed);
        (fd != NO_RING).then_some(fd)
    }

    pub(super) fn set_ring(&self, shard: ShardId, ring: Option<RawFd>) {
        self.shards[usize::from(shard.0)].ring.store(ring.unwrap_or(NO_RING), Ordering::Relaxed);
    }

    /// The shard is about to wait. It looks into its mailbox between this and the wait.
    pub(super) fn fall_asleep(&self, shard: ShardId) {
        self.shards[usize::from(shard.0)].sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(super) fn awake(&self, shard: ShardId) {
        self.shards[usize::from(shard.0)].sleeping.store(false, Ordering::Relaxed);
    }

    /// The shard's eventfd, which lives as long as `self`.
    pub(super) fn eventfd(&self, shard: ShardId) -> RawFd {
        self.shards[usize::from(shard.0)].eventfd.as_raw_fd()
    }

    /// For tests that must know that somebody waits.
    #[cfg(test)]
    pub(super) fn is_sleeping(&self, shard: ShardId) -> bool {
        self.shards[usize::from(shard.0)].sleeping.load(Ordering::SeqCst)
    }
}

fn eventfd() -> io::Result<File> {
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}
