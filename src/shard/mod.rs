//! What one core owns.
pub mod call;
