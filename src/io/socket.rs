//! A connected or listening socket on its way to the ring that will drive it.

use std::os::fd::OwnedFd;

/// Owned: dropping it closes the socket. Can be mailed to another shard.
#[derive(Debug)]
pub enum SocketHandle {
    Os(OwnedFd),
    /// A socket of the simulated network.
    Sim(u64),
}
