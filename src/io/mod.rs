//! The kernel, behind a seam.
//!
//! [`op`] is what a shard may ask and what it hears back; [`Io`](op::Io) has two implementations:
//! [`ring`] (io_uring) and [`sim`] (a seed, a virtual clock, an in-memory disk and sockets).
//! [`file`] is the same seam for work outside a turn: start-up, recovery, background jobs, tools.
//! `unsafe` stands only here and in `base/`.

pub mod blocking;
pub mod buffer;
pub mod clock;
pub mod file;
pub mod measure;
pub mod memory;
pub mod op;
pub mod probe;
pub mod ring;
pub mod sched;
pub mod sim;
pub mod socket;
pub mod wakeup;
