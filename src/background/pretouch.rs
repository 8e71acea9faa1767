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
use crate::io::sched;

/// A pool to stock.
pub struct Stock {
    pub pool: ChunkPool,
    /// This many chunks of it.
    pub chunks: usize,
    /// Memory comes from the node of the CPU that touches it first.
    pub cpu: usize,
}

/// A thread that stocks pools, chunk by chunk, and ends.
pub struct Pretouch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Pretouch {
    /// # Errors
    /// The system has no thread left.
    pub fn spawn(stocks: Vec<Stock>) -> io::Result<Pretouch> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("pretouch".to_owned()).spawn(move || {
            // Where it may not, or the CPU is not ours, it costs somebody some time.
            let _ = sched::step_back();
            for Stock { pool, chunks, cpu } in stocks {
                core_affinity::set_for_current(CoreId { id: cpu });
                while !stopped.load(Ordering::Relaxed) && pool.stock(chunks) {}
            }
        })?;
        Ok(Pretouch { stop, thread })
    }

    /// Leave the rest untouched.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Wait for the thread's end.
    pub fn join(self) {
        self.thread.join().expect("stocking a pool does not panic");
    }
}

/// Bytes that the stocks take.
pub fn bytes(stocks: &[Stock]) -> u64 {
    stocks.iter().map(|stock| (stock.chunks * stock.pool.chunk_bytes()) as u64).sum()
}
