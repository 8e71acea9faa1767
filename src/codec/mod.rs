//! The stored formats: read, check, patch. Knows bytes, not shards.
//!
//! ```text
//! record_batch   the 61-byte header of a Kafka batch: checked once, patched in place, summed once
//!   records      the records inside, whole
//!   time_scan    a search among them by timestamp, step by step
//!     compression  their codecs, with a bound on what they may inflate to
//!       snappy       the one that is ours, so that it can be read piece by piece
//! batch_builder  the other direction, for our own clients and tests
//! ```
//!
//! A produced batch only ever meets `record_batch`: its records are neither inflated nor copied.

pub mod batch_builder;
pub mod compression;
pub mod record_batch;
pub mod records;
mod snappy;
pub mod time_scan;
mod varint;
