//! The load generator.
//!
//! ```text
//! run        options -> topic, plans, threads; intervals -> report
//!   engine   one spinning thread a core: epoll, producers, readers, books
//!     producer, reader   one connection each: schedule, in flight, acks; fetches
//!       slots, transport requests encoded once; frames on a non-blocking socket
//!     ledger, payload    what was acknowledged against what was read
//!     driver             what a protocol must do; kafka is the first
//! sink       a server that stores nothing: the generator's own ceiling
//! raw        the device without a broker
//! table      the canonical rows against a broker of our own
//! ```
//!
//! It stands beside the broker, not on it: it imports `base` and `io`'s buffers and shares no codec
//! with the broker, so that a mistake of the one is found by the other.

mod driver;
mod engine;
mod error;
#[cfg(test)]
mod fake;
mod kafka;
mod ledger;
mod payload;
mod process;
mod producer;
pub mod raw;
mod reader;
mod report;
pub mod run;
pub mod sink;
mod slots;
mod stats;
pub mod table;
mod transport;

pub use driver::Driver;
pub use engine::ReadBack;
pub use error::BenchError;
pub use kafka::control::{Control, End};
pub use kafka::{KafkaDriver, Shape};
pub use ledger::Verdict;
pub use report::Report;
pub use run::{Load, Options, run};
pub use stats::Percentiles;
