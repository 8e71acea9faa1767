//! Why a run could not be made, or could not go on.

use std::io;
use std::net::SocketAddr;

use super::driver::{Code, Malformed};

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("cannot resolve {bootstrap}: {reason}; give HOST:PORT")]
    Address { bootstrap: String, reason: io::Error },
    #[error("cannot connect to {address}: {reason}; is the broker up?")]
    Connect { address: SocketAddr, reason: io::Error },
    #[error("lost the connection during {during}: {reason}; did the broker end?")]
    Connection { during: &'static str, reason: io::Error },
    #[error("{address} takes connections but does not answer as a Kafka broker: {reason}; is it one?")]
    NotKafka { address: SocketAddr, reason: String },
    #[error("the broker does not speak {api} version {version}, which this generator needs")]
    Version { api: &'static str, version: i16 },
    #[error("the broker refused {api} with error code {code}")]
    Refused { api: &'static str, code: Code },
    #[error("topic {topic} cannot be used: error code {code} {message}")]
    Topic { topic: String, code: Code, message: String },
    #[error(
        "topic {topic} exists and has only {found} partitions; give another --topic or fewer --partitions"
    )]
    Partitions { topic: String, found: usize },
    #[error("topic {topic} did not get a leader for every partition")]
    NoLeader { topic: String },
    #[error(
        "the partitions are led by {leaders} nodes, and each load thread needs a connection to every one that \
         leads some of its own: give {option} {needed} or more, not {given}"
    )]
    TooFewConnections { leaders: usize, option: &'static str, given: usize, needed: usize },
    #[error("{what} is known as {node}, which cannot be used from here: {reason}")]
    Node { what: &'static str, node: String, reason: String },
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the broker has stopped answering")]
    Silence,
    #[error("{0}")]
    Options(String),
    #[error("{what}: {reason}")]
    Io { what: &'static str, reason: io::Error },
    #[error("a load thread panicked")]
    Panicked,
    /// Why the load was ended before its time.
    #[error("{0}")]
    Interrupted(String),
}

impl BenchError {
    /// For `map_err`: what was being done.
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> BenchError {
        move |reason| BenchError::Io { what, reason }
    }
}
