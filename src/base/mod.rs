//! Leaf utilities: words of the machine, not of the broker.
//!
//! Imports nothing of the crate. Together with `io/` the only place where `unsafe` may stand.

pub mod align;
pub mod bytes;
pub mod calendar;
pub mod child;
pub mod crc;
pub mod mutant;
pub mod prefetch;
