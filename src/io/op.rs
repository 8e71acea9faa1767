//! Operations a shard asks of the kernel and the events it hears back.
//!
//! A turn is `step(events, now) -> operations`: handlers push [`Op`]s, the driver submits them at
//! the turn's end and comes back with [`Event`]s. Nothing here waits.
//!
//! Every operation that carries a token or a connection is answered by exactly one event, but for
//! the multishot ones ([`Op::Listen`], [`Op::RecvStart`]), which are answered until stopped.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::buffer::{ChunkBuf, RecvBuf};
use super::file::FileHandle;
use super::socket::SocketHandle;
use crate::model::{Now, ShardId};

/// A connection of this shard: an index into its connection table and the generation of that entry,
/// so that a late event of a closed connection meets nobody. Made by the server, not by the `Io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub index: u32,
    pub generation: u32,
}

/// A listening socket of this shard, numbered by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u16);

/// Comes back unchanged with the event that answers the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// How a write reaches stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteSync {
    /// The device has no volatile cache, or a data sync follows: just write.
    Plain,
    /// `RWF_DSYNC`: the completion means the bytes are on stable storage.
    Dsync,
}

#[derive(Debug)]
pub enum Op {
    /// Accept connections until the listener is dropped. Multishot.
    Listen { listener: ListenerId, socket: SocketHandle },
    /// Tie a socket to a connection id. No event.
    Attach { conn: ConnId, socket: SocketHandle },
    /// Receive into the shard's shared buffers until stopped, the peer closes, or the buffers run
    /// out ([`RecvEnd::NoBuffers`]: start again later). Multishot. At most one receive per connection.
    RecvStart { conn: ConnId },
    /// Stop the receive that is under way, after what was already received: a multishot one answers
    /// with [`RecvEnd::Stopped`], a single one with `ECANCELED` and its buffer.
    RecvStop { conn: ConnId },
    /// Receive once into the spare capacity of `buf` (`len..capacity`): for large frames.
    RecvInto { conn: ConnId, buf: Vec<u8> },
    /// Send all parts in order. The implementation continues a short send; one event at the end.
    /// At most one send per connection is in flight.
    Send { conn: ConnId, parts: Vec<Bytes> },
    /// Close the socket. Operations of the connection that are under way answer first (an error is
    /// an answer), then [`Event::Closed`]; nothing after it.
    Close { conn: ConnId },
    /// Write all of `data` (address, length and `offset` page-aligned). A short write is continued
    /// by the implementation.
    Write { token: Token, file: FileHandle, offset: u64, data: Bytes, sync: WriteSync },
    /// `fdatasync` of the file, and with it of the device's cache.
    Sync { token: Token, file: FileHandle },
    /// Read `len` bytes at `offset` (both page-aligned) into `buf[at..at + len]`, which must be
    /// writable. Fewer bytes than `len` is an error (`UnexpectedEof`).
    Read { token: Token, file: FileHandle, offset: u64, buf: ChunkBuf, at: usize, len: usize },
    /// Make another shard's wait return. Sent at most once per peer and turn, only while it sleeps.
    Wake { shard: ShardId },
}

#[derive(Debug)]
pub enum Event {
    Accepted {
        listener: ListenerId,
        socket: SocketHandle,
        peer: SocketAddr,
    },
    /// Accepting failed (`EMFILE`, `ENFILE`, `ENOBUFS`): the listener must be started again.
    AcceptFailed {
        listener: ListenerId,
        error: io::Error,
    },
    /// Bytes for a connection in the multishot receive.
    Received {
        conn: ConnId,
        data: RecvBuf,
    },
    /// The multishot receive is over.
    RecvEnded {
        conn: ConnId,
        end: RecvEnd,
    },
    /// Answer to [`Op::RecvInto`]: the buffer comes back with `result` more bytes in `len`; 0 is
    /// the end of the stream.
    ReceivedInto {
        conn: ConnId,
        buf: Vec<u8>,
        result: io::Result<usize>,
    },
    /// Answer to [`Op::Send`]. The parts are dropped before.
    Sent {
        conn: ConnId,
        result: io::Result<usize>,
    },
    Closed {
        conn: ConnId,
    },
    /// Answer to [`Op::Write`].
    Written {
        token: Token,
        result: io::Result<()>,
    },
    /// Answer to [`Op::Sync`].
    Synced {
        token: Token,
        result: io::Result<()>,
    },
    /// Answer to [`Op::Read`]; the buffer comes back either way.
    Read {
        token: Token,
        buf: ChunkBuf,
        result: io::Result<()>,
    },
    /// Somebody sent mail. The mailbox is read every turn anyway: this only ends a wait.
    Woken,
}

/// Why a multishot receive ended.
#[derive(Debug)]
pub enum RecvEnd {
    /// The peer closed its side.
    Eof,
    /// By [`Op::RecvStop`].
    Stopped,
    /// The shared buffers ran out; bytes wait in the socket.
    NoBuffers,
    Failed(io::Error),
}

/// How long [`Io::turn`] may wait when nothing has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Do not wait: there is work left.
    No,
    /// Until an event or this much time.
    For(Duration),
    /// Until an event.
    Forever,
}

/// The kernel as a shard sees it.
pub trait Io {
    /// The time, monotonic and wall clock.
    fn now(&self) -> Now;

    /// Submit `ops` (drained), then collect what has completed into `events`, waiting for the first
    /// as `wait` says. The only call that enters the kernel.
    ///
    /// # Errors
    /// The ring itself failed; the shard cannot go on.
    fn turn(&mut self, ops: &mut Vec<Op>, events: &mut Vec<Event>, wait: Wait) -> io::Result<()>;
}
