//! The load generator.
//!
//! ```text
//! session    a broker, given or our own; a scenario against it; its result
//! scenario   runs that belong together, by name; slo: what find-max must meet
//! run        options -> topic, plans, threads; intervals -> report
//!   collector, watch      the threads' seconds added up; the broker, before and after
//!   engine   one spinning thread a core: epoll, producers, readers, books
//!     producer, reader   one connection each: in flight, acks; fetches
//!       schedule         when requests are due
//!       lateness         what of their delay is our own doing
//!       slots, transport requests encoded once; frames on a non-blocking socket
//!     ledger, payload    what was acknowledged against what was read
//!     driver             what a protocol must do; kafka is the first (setup, keys, packing)
//!     topics, groups     partitions counted through; members and how far they have read
//!     leaders            who leads which partitions; which connection goes to whom
//! sink       a server that stores nothing: the generator's own ceiling
//! raw        the device without a broker
//! broker     a broker of our own, started and killed; folder: one that nobody else has
//! table      the canonical rows against such brokers
//! report     what a run found; text, progress, recording: for terminals and other tools
//!   sound, load_facts     which of its percentiles say something; what must not be compared
//!   stages, environment   where the broker says the time went; the machine
//!   output                result.json, histograms, report.html
//! compare    two results: what changed, and how sure that is
//! ```
//!
//! It stands beside the broker, not on it: it imports `base` and `io`'s buffers and shares no codec
//! with the broker, so that a mistake of the one is found by the other.

mod broker;
mod collector;
pub mod compare;
pub mod cores;
mod driver;
mod engine;
mod environment;
mod error;
#[cfg(test)]
mod fake;
mod folder;
mod groups;
mod interrupt;
mod kafka;
mod lateness;
mod leaders;
mod ledger;
mod load_facts;
mod options;
pub mod output;
mod payload;
mod process;
mod producer;
mod progress;
pub mod raw;
mod reader;
mod recording;
mod report;
pub mod run;
pub mod scenario;
mod schedule;
pub mod session;
pub mod sink;
mod slo;
mod slots;
mod sound;
mod stages;
mod stats;
pub mod table;
mod text;
mod topics;
#[cfg(test)]
mod toy;
mod transport;
mod watch;

pub use broker::Launch;
pub use driver::{Driver, End, Fetched, Malformed};
pub use engine::ReadBack;
pub use error::BenchError;
pub use folder::Folder;
pub use interrupt::Interrupt;
pub use kafka::control::KafkaControl;
pub use kafka::group_answers;
pub use kafka::keys::{KeyDistribution, Keys};
pub use kafka::packing::Compression;
pub use kafka::{KafkaDriver, Shape};
pub use ledger::Verdict;
pub use options::{Load, Options};
pub use payload::Body;
pub use report::Report;
pub use run::run;
pub use schedule::{Arrivals, Burst};
pub use slo::Slo;
pub use stages::{Reading, Stages};
pub use stats::Percentiles;
pub use topics::Topics;
