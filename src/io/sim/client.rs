//! A client of the simulation: the test's end of a connection.

use super::network::{End, Network};
use super::{Env, SimWorld};

/// How a client's stream stands, beyond the bytes that it can still read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    Open,
    /// The broker closed its side.
    Finished,
    /// The connection broke, or the machine went down.
    Broken,
}

/// A client's end of a connection. Dropping it changes nothing: close it.
#[derive(Clone)]
pub struct ClientSocket {
    pub(super) world: SimWorld,
    pub(super) id: u64,
}

impl ClientSocket {
    fn with<R>(&self, f: impl FnOnce(&mut Network, &mut Env<'_>) -> R) -> R {
        self.world.0.borrow_mut().with_network(f)
    }

    /// Names this client in [`Step::Client`](super::Step::Client).
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Queue bytes; they leave as the broker's buffer has room.
    pub fn send(&self, bytes: &[u8]) {
        self.with(|network, env| network.client_send(self.id, bytes, env));
    }

    /// Bytes that the broker's side has had no room for.
    pub fn unsent_bytes(&self) -> usize {
        self.with(|network, _| network.client_unsent_bytes(self.id))
    }

    /// All that has arrived.
    pub fn recv(&self) -> Vec<u8> {
        self.recv_at_most(usize::MAX)
    }

    pub fn recv_at_most(&self, bytes_max: usize) -> Vec<u8> {
        self.with(|network, env| network.client_receive(self.id, bytes_max, env))
    }

    pub fn state(&self) -> StreamState {
        self.with(|network, _| match network.client_end(self.id) {
            None => StreamState::Open,
            Some(End::Fin) => StreamState::Finished,
            Some(End::Reset) => StreamState::Broken,
        })
    }

    /// Half-close: send no more, go on reading.
    pub fn close_write(&self) {
        self.with(|network, env| network.client_close(self.id, false, env));
    }

    /// Close both sides. With unread bytes this is a reset, as in TCP.
    pub fn close(&self) {
        self.with(|network, env| network.client_close(self.id, true, env));
    }

    /// Break the connection; what was sent and not yet received is lost.
    pub fn reset(&self) {
        self.with(|network, env| network.client_reset(self.id, env));
    }
}
