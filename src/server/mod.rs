//! One shard's thread: the only submitter to its ring.
//!
//! ```text
//!   turn: events -> connections -> requests -> logs | mail | deadlines | commit, acks, sends -> operations
//! ```
//!
//! - [`turn`]: the loop and the order of a turn
//! - `slots`: its connections, `listeners`: where they come in
//! - [`connection`]: bytes of one socket, frames in, sends out
//! - [`arrivals`]: when requests that wait in it had come
//! - [`outside`]: what other threads tell a shard

mod arrivals;
pub mod connection;
mod listeners;
pub mod outside;
mod slots;
#[cfg(test)]
mod tests;
pub mod turn;
