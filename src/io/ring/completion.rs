//! From the kernel's completions to the shard's events.

use std::io::{self, ErrorKind};
use std::mem;
use std::net::TcpStream;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use io_uring::cqueue;

use super::in_flight::{Accept, InFlight, Recv, RecvInto, Send, is_transient};
use super::{MESSAGE, NOBODY, Ring};
use crate::io::op::{ConnId, Event, ListenerId, RecvEnd};
use crate::io::socket::SocketHandle;

impl Ring {
    /// Translate what has completed.
    pub(super) fn reap(&mut self, events: &mut Vec<Event>) {
        self.received_bytes = (self.received_bytes.1, 0);
        let mut completions = mem::take(&mut self.completions);
        completions.extend(self.ring.completion());
        for completion in completions.drain(..) {
            self.complete(&completion, events);
        }
        self.completions = completions;
    }

    /// Free what has completed, without a word to anybody: the ring is being dropped.
    pub(super) fn abandon_completed(&mut self) {
        for completion in self.ring.completion() {
            let key = completion.user_data();
            if matches!(key, NOBODY | MESSAGE) {
                continue;
            }
            let op = self.in_flight.take(key);
            if let (InFlight::Accept(_), fd @ 0..) = (&op, completion.result()) {
                // SAFETY: the kernel has just made this descriptor for us.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            }
            if cqueue::more(completion.flags()) {
                self.in_flight.put(key, op);
            } else {
                self.in_flight.release(key);
            }
        }
    }

    fn complete(&mut self, completion: &cqueue::Entry, events: &mut Vec<Event>) {
        let key = completion.user_data();
        match key {
            NOBODY => return,
            MESSAGE => return events.push(Event::Woken),
            _ => {}
        }
        let result = usize::try_from(completion.result())
            .map_err(|_| io::Error::from_raw_os_error(-completion.result()));
        let flags = completion.flags();
        match self.in_flight.take(key) {
            InFlight::Accept(accept) => self.on_accept(key, accept, result, flags, events),
            InFlight::Recv(recv) => self.on_recv(key, recv, result, flags, events),
            InFlight::RecvInto(recv) => self.on_recv_into(key, recv, result, events),
            InFlight::Send(send) => self.on_send(key, send, result, events),
            InFlight::Write(mut write) => match write.advance(result) {
                None => self.arm_write(key, write),
                Some(result) => {
                    self.in_flight.release(key);
                    self.commits -= 1;
                    events.push(Event::Written { token: write.token, result });
                }
            },
            // Never tried again, whatever the error: after a failed sync the kernel may have
            // forgotten what was not written, and the next one would succeed.
            InFlight::Sync { token, .. } => {
                self.in_flight.release(key);
                self.commits -= 1;
                events.push(Event::Synced { token, result: result.map(drop) });
            }
            InFlight::Read(mut read) => match read.advance(result) {
                None => self.arm_read(key, read),
                Some(result) => {
                    self.in_flight.release(key);
                    events.push(Event::Read { token: read.token, buf: read.buf, result });
                }
            },
            InFlight::Message(shard) => {
                self.in_flight.release(key);
                if result.is_err() {
                    // The ring is gone, or has no room: the shard is still to be woken.
                    self.wakers.ring_bell(shard);
                }
            }
            InFlight::Wake(counter) => {
                events.push(Event::Woken);
                self.arm_wake(key, counter);
            }
        }
    }

    fn on_accept(
        &mut self,
        key: u64,
        accept: Accept,
        result: io::Result<usize>,
        flags: u32,
        events: &mut Vec<Event>,
    ) {
        let listener = accept.listener;
        let error = match result {
            Ok(fd) => {
                // SAFETY: the kernel has just made this descriptor for us.
                events.extend(accepted(listener, unsafe { OwnedFd::from_raw_fd(fd as RawFd) }));
                None
            }
            Err(error) => Some(error),
        };
        if cqueue::more(flags) {
            self.in_flight.put(key, InFlight::Accept(accept));
            return;
        }
        let again = match &error {
            None => true,
            // The connection died before it was taken; the next may live.
            Some(error) if is_transient(error) || error.kind() == ErrorKind::ConnectionAborted => true,
            Some(error) if accept.multishot && error.kind() == ErrorKind::InvalidInput => {
                self.multishot_accept = false;
                true
            }
            Some(_) => false,
        };
        if again {
            return self.arm_accept(key, listener, accept.socket);
        }
        self.in_flight.release(key);
        events.extend(error.map(|error| Event::AcceptFailed { listener, error }));
    }

    fn on_recv(
        &mut self,
        key: u64,
        recv: Recv,
        result: io::Result<usize>,
        flags: u32,
        events: &mut Vec<Event>,
    ) {
        let id = recv.conn;
        let len = *result.as_ref().unwrap_or(&0);
        self.received_bytes.1 += len;
        // SAFETY: the kernel has taken this buffer from its ring for this completion alone and is
        // done with it; it wrote the first `len` bytes.
        let data =
            cqueue::buffer_select(flags).map(|buffer| unsafe { self.buffers.pool().loan(buffer, len) });
        if len > 0 {
            let data = data.expect("bytes come in a buffer");
            events.push(Event::Received { conn: id, data });
        }
        if cqueue::more(flags) {
            self.in_flight.put(key, InFlight::Recv(recv));
            return;
        }
        let end = match result {
            Ok(0) => RecvEnd::Eof,
            // The kernel ends a multishot receive when it sees fit; the shard need not know.
            Ok(_) => match self.recv_interrupted(id) {
                None => return self.arm_recv(key, id),
                Some(end) => end,
            },
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => RecvEnd::NoBuffers,
            Err(error) => {
                let refused = recv.multishot && error.kind() == ErrorKind::InvalidInput;
                self.multishot_recv &= !refused;
                match self.recv_interrupted(id) {
                    None if refused || is_transient(&error) => return self.arm_recv(key, id),
                    Some(RecvEnd::Stopped) if error.raw_os_error() == Some(libc::ECANCELED) => {
                        RecvEnd::Stopped
                    }
                    _ => RecvEnd::Failed(error),
                }
            }
        };
        self.in_flight.release(key);
        self.conn(id).recv = None;
        events.push(Event::RecvEnded { conn: id, end });
        self.close_if_quiet(id, events);
    }

    /// Why a receive that ended by itself does not go on.
    fn recv_interrupted(&mut self, id: ConnId) -> Option<RecvEnd> {
        let conn = self.conn(id);
        match conn.canceled() {
            _ if conn.stopping => Some(RecvEnd::Stopped),
            error => error.map(RecvEnd::Failed),
        }
    }

    fn on_recv_into(
        &mut self,
        key: u64,
        mut recv: RecvInto,
        result: io::Result<usize>,
        events: &mut Vec<Event>,
    ) {
        let id = recv.conn;
        let conn = self.conn(id);
        let result = match result {
            Err(error) if is_transient(&error) && !conn.closing && !conn.stopping => {
                return self.arm_recv_into(key, recv);
            }
            result => result,
        };
        conn.recv = None;
        let len = *result.as_ref().unwrap_or(&0);
        recv.received(len);
        self.received_bytes.1 += len;
        self.in_flight.release(key);
        events.push(Event::ReceivedInto { conn: id, buf: recv.buf, result });
        self.close_if_quiet(id, events);
    }

    fn on_send(&mut self, key: u64, mut send: Send, result: io::Result<usize>, events: &mut Vec<Event>) {
        let id = send.conn;
        let result = match send.advance(result) {
            Some(result) => result,
            None => match self.conn(id).canceled() {
                Some(error) => Err(error),
                None => return self.arm_send(key, send),
            },
        };
        self.messages.extend(send.message.take());
        self.in_flight.release(key);
        self.conn(id).sending = false;
        drop(send);
        events.push(Event::Sent { conn: id, result });
        self.close_if_quiet(id, events);
    }
}

/// The event for a connection that was accepted; `None` when its peer has gone already.
fn accepted(listener: ListenerId, socket: OwnedFd) -> Option<Event> {
    let stream = TcpStream::from(socket);
    let peer = stream.peer_addr().ok()?;
    Some(Event::Accepted { listener, socket: SocketHandle::Os(OwnedFd::from(stream)), peer })
}
