//! The ring through which the kernel is told which receive buffers are free.
//!
//! ```text
//!  ours: tail ->  | id 7 | id 3 | ...      each entry: address, length, id
//!                 the kernel takes from the other end, one buffer a receive
//! ```

use std::io;
use std::mem::{self, size_of};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use crate::io::buffer::{PageBuf, RecvPool};

/// The only group of provided buffers of a ring.
pub(super) const GROUP: u16 = 0;

pub(super) struct BufRing {
    pool: RecvPool,
    /// The kernel reads it until the io_uring is gone.
    memory: PageBuf,
    /// Entries written so far; the kernel's mask makes an index of it.
    tail: u16,
    /// Scratch space for ids on their way back.
    returned: Vec<u16>,
}

impl BufRing {
    /// Register a ring for the buffers of `pool`, and give them all to the kernel.
    ///
    /// # Safety
    /// The value outlives `ring`, or is leaked.
    pub unsafe fn register(ring: &IoUring, pool: RecvPool) -> io::Result<BufRing> {
        let mut memory = PageBuf::zeroed(usize::from(pool.count()) * size_of::<BufRingEntry>());
        let address = memory.as_mut_ptr() as u64;
        // SAFETY: the memory is page-aligned, holds `count` entries, and outlives the ring by the
        // caller's promise.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, pool.count(), GROUP, 0)? };
        let mut buffers =
            BufRing { returned: Vec::with_capacity(usize::from(pool.count())), pool, memory, tail: 0 };
        buffers.provide_returned();
        Ok(buffers)
    }

    pub fn pool(&self) -> &RecvPool {
        &self.pool
    }

    /// Give buffers that were dropped since the last call back to the kernel.
    pub fn provide_returned(&mut self) {
        self.pool.take_returned(&mut self.returned);
        if self.returned.is_empty() {
            return;
        }
        let mask = self.pool.count() - 1;
        let entries = self.memory.as_mut_ptr().cast::<BufRingEntry>();
        for id in self.returned.drain(..) {
            // SAFETY: the index is below `count`, the number of entries that the memory holds. At
            // most `count` buffers exist, so the kernel has consumed what this entry held before.
            // An entry is plain integers, valid in any state.
            let entry = unsafe { &mut *entries.add(usize::from(self.tail & mask)) };
            entry.set_addr(self.pool.address(id) as u64);
            entry.set_len(self.pool.buffer_bytes() as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: `entries` is the start of a registered ring; its tail is an aligned u16 that only
        // this thread writes and that the kernel reads, hence the atomic.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        // Release: the kernel sees the entries when it sees the tail.
        tail.store(self.tail, Ordering::Release);
    }

    /// Never free what the kernel may still write to.
    pub fn leak(&mut self) {
        mem::forget(self.pool.clone());
        mem::forget(mem::replace(&mut self.memory, PageBuf::zeroed(1)));
    }
}
