//! The Kafka front end.

pub mod protocol;
