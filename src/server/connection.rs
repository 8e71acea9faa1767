//! The transport of one connection: bytes in, frames out of them, sends in flight.
//!
//! Small requests arrive in the shard's shared buffers and are parsed where they lie; only what is
//! left of a frame that is cut off is copied. A connection that sends large frames receives into a
//! buffer of its own instead, contiguously, which grows with what has been received and never with
//! what was announced, and is given back when the connection falls silent.

use std::mem;

use std::net::IpAddr;

use bytes::Bytes;

use crate::io::op::{ConnId, Op, RecvEnd};
use crate::kafka;
use crate::kafka::connection::{Close, Front, Taken, Turn};
use crate::kafka::protocol::frame::{Frame, first_request};
use crate::model::{LogId, Nanos};

/// A frame larger than this is received into the connection's own buffer: half of a shared buffer,
/// above which most frames would be cut off and copied once more.
const LARGE_FRAME_BYTES: usize = 8 << 10;
/// What that buffer has at first: several requests of a busy producer fit.
const LARGE_BUFFER_BYTES: usize = 256 << 10;

/// Limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one request.
    pub request_bytes_max: usize,
    /// Requests that are not answered yet.
    pub in_flight_max: usize,
}

/// Which receive is with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    Nothing,
    /// Multishot, into shared buffers.
    Shared,
    /// Whichever it was, it was told to end.
    Stopping,
    /// Into `input`, which is with the kernel.
    Own,
}

pub struct Connection {
    id: ConnId,
    pub session: kafka::connection::Connection,
    limits: Limits,
    receiving: Receiving,
    /// Received and not yet taken up.
    input: Vec<u8>,
    /// Large frames are on their way: receive into `input`.
    large: bool,
    /// The frame at the front found no room in its log.
    stalled: bool,
    sending: bool,
    /// The peer sends no more.
    eof: bool,
    closing: bool,
    /// No further request is taken up.
    draining: bool,
    pub last_active: Nanos,
}

impl Connection {
    pub fn new(id: ConnId, address: IpAddr, at: Option<LogId>, limits: Limits, now: Nanos) -> Connection {
        Connection {
            id,
            session: kafka::connection::Connection::new(id, address, at),
            limits,
            receiving: Receiving::Nothing,
            input: Vec::new(),
            large: false,
            stalled: false,
            sending: false,
            eof: false,
            closing: false,
            draining: false,
            last_active: now,
        }
    }

    /// Waits for room in a log.
    pub fn is_stalled(&self) -> bool {
        self.stalled && !self.closing && !self.draining
    }

    /// Nothing of this connection is under way.
    pub fn is_idle(&self) -> bool {
        !self.sending && self.session.in_flight() == 0 && self.input.is_empty()
    }

    /// Memory that the connection holds for requests.
    pub fn buffered_bytes(&self) -> usize {
        self.input.capacity()
    }

    /// Bytes in a shared buffer.
    pub fn on_received(&mut self, data: &[u8], turn: &mut Turn<'_>) -> Result<(), Close> {
        self.last_active = turn.now.mono;
        if self.closing || self.draining {
            return Ok(());
        }
        turn.shard.stats.counters.bytes_received += data.len() as u64;
        if self.input.is_empty() && !self.stalled {
            let used = self.take_frames(data, turn)?;
            self.input.extend_from_slice(&data[used..]);
        } else {
            self.input.extend_from_slice(data);
            self.on_input(turn)?;
        }
        Ok(())
    }

    /// The multishot receive is over.
    pub fn on_recv_ended(&mut self, end: RecvEnd) -> Result<(), Close> {
        self.receiving = Receiving::Nothing;
        match end {
            RecvEnd::Eof => self.eof = true,
            RecvEnd::Stopped | RecvEnd::NoBuffers => {}
            RecvEnd::Failed(error) => return Err(Close(format!("receiving failed: {error}"))),
        }
        Ok(())
    }

    /// The connection's own buffer comes back.
    pub fn on_received_into(
        &mut self,
        buf: Vec<u8>,
        result: std::io::Result<usize>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Close> {
        let stopped = mem::replace(&mut self.receiving, Receiving::Nothing) == Receiving::Stopping;
        self.input = buf;
        match result {
            Ok(0) => self.eof = true,
            Ok(bytes) => {
                self.last_active = turn.now.mono;
                turn.shard.stats.counters.bytes_received += bytes as u64;
            }
            Err(error) if stopped && error.raw_os_error() == Some(libc::ECANCELED) => {
                self.large = false;
                self.input.shrink_to_fit();
            }
            Err(error) => return Err(Close(format!("receiving failed: {error}"))),
        }
        if self.closing { Ok(()) } else { self.on_input(turn) }
    }

    /// Take up what waits in `input`.
    pub fn on_input(&mut self, turn: &mut Turn<'_>) -> Result<(), Close> {
        if self.receiving == Receiving::Own || self.input.is_empty() || self.draining {
            return Ok(());
        }
        let input = std::mem::take(&mut self.input);
        let used = self.take_frames(&input, turn);
        self.input = input;
        self.input.drain(..used?);
        if self.input.is_empty() && !self.large {
            self.input = Vec::new();
        }
        Ok(())
    }

    /// Take up all complete requests at the front of `bytes`. Returns how many bytes they had.
    fn take_frames(&mut self, bytes: &[u8], turn: &mut Turn<'_>) -> Result<usize, Close> {
        let received = turn.now.mono;
        let mut at = 0;
        self.stalled = false;
        while self.session.in_flight() < self.limits.in_flight_max {
            let frame = first_request(&bytes[at..], self.limits.request_bytes_max);
            match frame.map_err(|error| Close(error.to_string()))? {
                Frame::Incomplete { bytes_needed } => {
                    self.large |= bytes_needed > LARGE_FRAME_BYTES;
                    break;
                }
                Frame::Complete(range) => {
                    let end = at + range.end;
                    match self.session.on_frame(&bytes[at + range.start..end], received, turn)? {
                        Taken::Yes => at = end,
                        Taken::Later => {
                            self.stalled = true;
                            break;
                        }
                    }
                }
            }
        }
        Ok(at)
    }

    /// Read on, if there is room for more requests.
    pub fn poll_recv(&mut self, ops: &mut Vec<Op>) {
        if self.closing {
            return;
        }
        let full = self.stalled || self.session.in_flight() >= self.limits.in_flight_max;
        let conn = self.id;
        match self.receiving {
            Receiving::Nothing if self.eof || full => {}
            Receiving::Nothing if self.large => {
                let mut buf = std::mem::take(&mut self.input);
                // Doubled whenever full: the sender has paid for half of it by then.
                if buf.capacity() < LARGE_BUFFER_BYTES {
                    buf.reserve_exact(LARGE_BUFFER_BYTES - buf.len());
                } else if buf.len() == buf.capacity() {
                    buf.reserve_exact(buf.len());
                }
                self.receiving = Receiving::Own;
                ops.push(Op::RecvInto { conn, buf });
            }
            Receiving::Nothing => {
                self.receiving = Receiving::Shared;
                ops.push(Op::RecvStart { conn });
            }
            Receiving::Shared if full || self.large => {
                self.receiving = Receiving::Stopping;
                ops.push(Op::RecvStop { conn });
            }
            Receiving::Shared | Receiving::Stopping | Receiving::Own => {}
        }
    }

    /// Nothing has come for a while: give the own buffer back. Small requests, or the first of the
    /// next large ones, arrive in shared buffers again.
    pub fn on_silence(&mut self, ops: &mut Vec<Op>) {
        if self.receiving == Receiving::Own && !self.closing {
            self.receiving = Receiving::Stopping;
            ops.push(Op::RecvStop { conn: self.id });
        }
    }

    /// Take up no further request: the broker is stopping. What is under way is answered.
    pub fn drain(&mut self, ops: &mut Vec<Op>) {
        self.draining = true;
        if matches!(self.receiving, Receiving::Shared | Receiving::Own) && !self.closing {
            self.receiving = Receiving::Stopping;
            ops.push(Op::RecvStop { conn: self.id });
        }
    }

    /// Send what is complete, if no send is under way.
    pub fn poll_send(&mut self, front: &mut Front, ops: &mut Vec<Op>) {
        if self.sending || self.closing {
            return;
        }
        if let Some(parts) = self.session.poll_send(front) {
            let parts: Vec<Bytes> = parts;
            self.sending = true;
            ops.push(Op::Send { conn: self.id, parts });
        }
    }

    pub fn on_sent(&mut self, result: std::io::Result<usize>, turn: &mut Turn<'_>) -> Result<(), Close> {
        self.sending = false;
        self.last_active = turn.now.mono;
        let bytes = result.map_err(|error| Close(format!("sending failed: {error}")))?;
        turn.shard.stats.counters.bytes_sent += bytes as u64;
        self.session.on_sent(turn.now.mono, turn.shard);
        Ok(())
    }

    /// The peer has gone and everything it asked for is answered.
    pub fn is_over(&self) -> bool {
        self.eof && !self.sending && !self.closing && self.session.in_flight() == 0
    }

    pub fn close(&mut self, ops: &mut Vec<Op>) {
        if !self.closing {
            self.closing = true;
            ops.push(Op::Close { conn: self.id });
        }
    }
}
