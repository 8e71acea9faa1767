//! What one partition knows: offsets, idempotence, who waits.

pub mod producer_state;
