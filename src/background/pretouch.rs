//! Memory of the caches, touched before a shard needs it.
//!
//! The first touch of a chunk makes the kernel find and clear its pages: measured in a virtual machine, 0.6 to 4 ms
//! for 2 MiB, in a turn that everybody waits for. At a gigabyte a second that is a third of a shard's time until the
//! caches have filled once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use core_affinity::CoreId;

use crate::io::buffer::ChunkPool;

/// A thread that stocks pools, chunk by chunk, and ends.
pub struct Pretouch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Pretouch {
    /// Stock each pool with as many chunks as stand beside it, on that CPU, or on any.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn spawn(pools: Vec<(ChunkPool, usize)>, cpu: Option<usize>) -> io::Result<Pretouch> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("pretouch".to_owned()).spawn(move || {
            if let Some(id) = cpu {
                // Elsewhere it costs a shard some of its time, no more.
                core_affinity::set_for_current(CoreId { id });
            }
            for (pool, chunks) in pools {
                while !stopped.load(Ordering::Relaxed) && pool.stock(chunks) {}
            }
        })?;
        Ok(Pretouch { stop, thread })
    }

    /// Leave the rest untouched, and wait for the thread's end.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // It can only have panicked for want of memory, which a shard would have met as well.
        let _ = self.thread.join();
    }
}
