//! What the kernel is working on: each operation with the memory it lends to the kernel.
//!
//! A transfer that moves less than asked is continued here; the shard sees only the end.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use bytes::Bytes;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};

use super::{MESSAGE, buf_ring};
use crate::base::align::PAGE_BYTES;
use crate::io::buffer::ChunkBuf;
use crate::io::file::FileHandle;
use crate::io::op::{ConnId, ListenerId, Token, WriteSync};
use crate::model::ShardId;

/// Parts of one `sendmsg(2)`; more is `EMSGSIZE` (`UIO_MAXIOV`).
const MESSAGE_PARTS_MAX: usize = 1024;

/// One transfer: below the kernel's own limit of 2 GiB less a page, and a whole number of pages.
const TRANSFER_BYTES_MAX: usize = 1 << 30;
/// A send copies in the kernel, on the shard's thread, as far as the socket's buffer has room, which may be megabytes.
/// A call takes so much of it, about 30 microseconds on the machines at hand, and between two calls of a long answer
/// completions are looked at.
pub(super) const SEND_BYTES: usize = 128 << 10;
/// But it takes so many times what was received lately: producers at full speed must not leave their consumers behind,
/// who fall out of memory and then never catch up. With twice as much they did.
const SEND_PER_RECEIVED: usize = 16;

pub(super) enum InFlight {
    Accept(Accept),
    Recv(Recv),
    RecvInto(RecvInto),
    Send(Send),
    Write(Write),
    Sync {
        token: Token,
        /// Only to keep the descriptor open.
        _file: FileHandle,
    },
    Read(Read),
    /// Of the shard's own eventfd: what it reads is of no interest.
    Wake(Box<u64>),
    /// To the ring of this shard, which sleeps.
    Message(ShardId),
}

pub(super) struct Accept {
    pub listener: ListenerId,
    pub socket: OwnedFd,
    pub multishot: bool,
}

impl Accept {
    pub fn entry(&self) -> squeue::Entry {
        let socket = Fd(self.socket.as_raw_fd());
        if self.multishot {
            opcode::AcceptMulti::new(socket).flags(libc::SOCK_CLOEXEC).build()
        } else {
            opcode::Accept::new(socket, ptr::null_mut(), ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build()
        }
    }
}

/// A receive into the shared buffers.
pub(super) struct Recv {
    pub conn: ConnId,
    pub multishot: bool,
}

impl Recv {
    /// Each time, at most `buffer_bytes`.
    pub fn entry(&self, socket: RawFd, buffer_bytes: usize) -> squeue::Entry {
        if self.multishot {
            return opcode::RecvMulti::new(Fd(socket), buf_ring::GROUP).build();
        }
        opcode::Recv::new(Fd(socket), ptr::null_mut(), buffer_bytes as u32)
            .buf_group(buf_ring::GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT)
    }
}

pub(super) struct RecvInto {
    pub conn: ConnId,
    pub buf: Vec<u8>,
}

impl RecvInto {
    pub fn entry(&mut self, socket: RawFd) -> squeue::Entry {
        let spare = self.buf.spare_capacity_mut();
        let len = spare.len().min(TRANSFER_BYTES_MAX) as u32;
        opcode::Recv::new(Fd(socket), spare.as_mut_ptr().cast(), len).build()
    }

    /// The kernel has received `count` bytes.
    pub fn received(&mut self, count: usize) {
        assert!(count <= self.buf.capacity() - self.buf.len());
        // SAFETY: the kernel wrote `count` bytes behind the first `len`, within the capacity.
        unsafe { self.buf.set_len(self.buf.len() + count) };
    }
}

pub(super) struct Send {
    pub conn: ConnId,
    parts: Vec<Bytes>,
    /// What of `parts` is not sent yet: from byte `skip` of part `first`.
    first: usize,
    skip: usize,
    sent: usize,
    /// `Some` while several parts are with the kernel.
    pub message: Option<Box<Message>>,
}

/// What `sendmsg(2)` reads besides the bytes.
pub(super) struct Message {
    header: libc::msghdr,
    parts: Vec<libc::iovec>,
}

impl Message {
    pub fn new() -> Box<Message> {
        // SAFETY: a `msghdr` is integers and pointers, for which zero is a valid value: no name, no
        // parts, no control data.
        Box::new(Message { header: unsafe { std::mem::zeroed() }, parts: Vec::new() })
    }
}

impl Send {
    /// `None` when there is nothing to send.
    pub fn new(conn: ConnId, parts: Vec<Bytes>) -> Option<Send> {
        let mut send = Send { conn, parts, first: 0, skip: 0, sent: 0, message: None };
        send.skip_empty();
        (send.first < send.parts.len()).then_some(send)
    }

    /// Send what is not sent, or a piece of it. `received_bytes`: lately, by all connections. A message is taken from
    /// `spare` if several parts are left.
    #[expect(clippy::vec_box, reason = "the kernel knows a message's address while it is sent")]
    pub fn entry(
        &mut self,
        socket: RawFd,
        spare: &mut Vec<Box<Message>>,
        received_bytes: usize,
    ) -> squeue::Entry {
        // No signal: a closed connection is an error of this send. Wait for all: the kernel goes on
        // by itself when the socket's buffer has room again.
        const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let bytes_max = SEND_BYTES.max(SEND_PER_RECEIVED * received_bytes).min(TRANSFER_BYTES_MAX);
        let parts = &self.parts[self.first..];
        if let [part] = parts {
            let rest = &part[self.skip..];
            let len = rest.len().min(bytes_max) as u32;
            return opcode::Send::new(Fd(socket), rest.as_ptr(), len).flags(FLAGS).build();
        }
        let message = self.message.get_or_insert_with(|| spare.pop().unwrap_or_else(Message::new));
        message.parts.clear();
        let (mut skip, mut left) = (self.skip, bytes_max);
        message.parts.extend(parts.iter().take(MESSAGE_PARTS_MAX).map_while(|part| {
            let rest = &part[std::mem::take(&mut skip)..];
            let len = rest.len().min(left);
            left -= len;
            let piece = libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: len };
            (len > 0 || rest.is_empty()).then_some(piece)
        }));
        message.header.msg_iov = message.parts.as_mut_ptr();
        message.header.msg_iovlen = message.parts.len();
        opcode::SendMsg::new(Fd(socket), &message.header).flags(FLAGS as u32).build()
    }

    /// The kernel's answer. `None`: there is more to send.
    pub fn advance(&mut self, result: io::Result<usize>) -> Option<io::Result<usize>> {
        match result {
            Ok(0) => return Some(Err(ErrorKind::WriteZero.into())),
            Ok(count) => {
                self.sent += count;
                self.skip += count;
                self.skip_empty();
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => return Some(Err(error)),
        }
        (self.first == self.parts.len()).then_some(Ok(self.sent))
    }

    fn skip_empty(&mut self) {
        while let Some(part) = self.parts.get_mut(self.first)
            && self.skip >= part.len()
        {
            self.skip -= part.len();
            self.first += 1;
            // Its memory is somebody's budget.
            *part = Bytes::new();
        }
        assert!(self.first < self.parts.len() || self.skip == 0, "sent more than there was");
    }
}

pub(super) struct Write {
    pub token: Token,
    file: FileHandle,
    offset: u64,
    data: Bytes,
    sync: WriteSync,
    done: usize,
}

impl Write {
    pub fn new(token: Token, file: FileHandle, offset: u64, data: Bytes, sync: WriteSync) -> Write {
        assert!(!data.is_empty(), "a write writes something");
        assert!(is_aligned(data.as_ptr() as u64) && is_aligned(data.len() as u64) && is_aligned(offset));
        Write { token, file, offset, data, sync, done: 0 }
    }

    pub fn entry(&self) -> squeue::Entry {
        let rest = &self.data[self.done..];
        let len = rest.len().min(TRANSFER_BYTES_MAX) as u32;
        let flags = match self.sync {
            WriteSync::Plain => 0,
            WriteSync::Dsync => libc::RWF_DSYNC,
        };
        opcode::Write::new(fd(&self.file), rest.as_ptr(), len)
            .offset(self.offset + self.done as u64)
            .rw_flags(flags)
            .build()
    }

    /// The kernel's answer. `None`: there is more to write.
    pub fn advance(&mut self, result: io::Result<usize>) -> Option<io::Result<()>> {
        advance(&mut self.done, self.data.len(), result, ErrorKind::WriteZero)
    }
}

pub(super) struct Read {
    pub token: Token,
    file: FileHandle,
    offset: u64,
    pub buf: ChunkBuf,
    at: usize,
    len: usize,
    done: usize,
}

impl Read {
    pub fn new(token: Token, file: FileHandle, offset: u64, buf: ChunkBuf, at: usize, len: usize) -> Read {
        assert!(len > 0, "a read reads something");
        assert!(at >= buf.frozen() && at + len <= buf.capacity(), "the range is writable");
        assert!(is_aligned(at as u64) && is_aligned(len as u64) && is_aligned(offset));
        Read { token, file, offset, buf, at, len, done: 0 }
    }

    pub fn entry(&mut self) -> squeue::Entry {
        let start = self.at - self.buf.frozen();
        let rest = &mut self.buf.tail_mut()[start..start + self.len][self.done..];
        let len = rest.len().min(TRANSFER_BYTES_MAX) as u32;
        opcode::Read::new(fd(&self.file), rest.as_mut_ptr(), len)
            .offset(self.offset + self.done as u64)
            .build()
    }

    /// The kernel's answer. `None`: there is more to read.
    pub fn advance(&mut self, result: io::Result<usize>) -> Option<io::Result<()>> {
        advance(&mut self.done, self.len, result, ErrorKind::UnexpectedEof)
    }
}

/// `fdatasync(2)`.
pub(super) fn sync_entry(file: &FileHandle) -> squeue::Entry {
    opcode::Fsync::new(fd(file)).flags(FsyncFlags::DATASYNC).build()
}

/// A read of the eventfd into `counter`.
pub(super) fn wake_entry(eventfd: RawFd, counter: &mut u64) -> squeue::Entry {
    opcode::Read::new(Fd(eventfd), ptr::from_mut(counter).cast(), size_of::<u64>() as u32).build()
}

/// A message to another ring: a completion there, with the key [`MESSAGE`].
pub(super) fn message_entry(ring: RawFd) -> squeue::Entry {
    opcode::MsgRingData::new(Fd(ring), 0, MESSAGE, None).build()
}

/// Count `result` into `done`; `None` while less than `len` is done. `zero` is what no progress means.
fn advance(
    done: &mut usize,
    len: usize,
    result: io::Result<usize>,
    zero: ErrorKind,
) -> Option<io::Result<()>> {
    match result {
        Ok(0) => return Some(Err(zero.into())),
        Ok(count) => *done += count,
        Err(error) if is_transient(&error) => {}
        Err(error) => return Some(Err(error)),
    }
    assert!(*done <= len);
    (*done == len).then_some(Ok(()))
}

/// Says nothing about the operation: ask again.
pub(super) fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
}

fn is_aligned(value: u64) -> bool {
    value.is_multiple_of(PAGE_BYTES as u64)
}

fn fd(file: &FileHandle) -> Fd {
    match file {
        FileHandle::Os(file) => Fd(file.as_raw_fd()),
        FileHandle::Sim(id) => panic!("file {id} of the simulated disk in a real ring"),
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InFlight::Accept(_) => "accept",
            InFlight::Recv(_) => "receive",
            InFlight::RecvInto(_) => "receive into",
            InFlight::Send(_) => "send",
            InFlight::Write(_) => "write",
            InFlight::Sync { .. } => "sync",
            InFlight::Read(_) => "read",
            InFlight::Wake(_) => "wake",
            InFlight::Message(_) => "message",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONN: ConnId = ConnId { index: 0, generation: 0 };

    fn again() -> io::Error {
        ErrorKind::WouldBlock.into()
    }

    #[test]
    fn a_short_send_goes_on_where_it_stopped() {
        let parts = ["", "abc", "", "de", "f", ""].map(Bytes::from).to_vec();
        let mut send = Send::new(CONN, parts).unwrap();
        for (answer, rest) in [(Ok(2), "cdef"), (Err(again()), "cdef"), (Ok(2), "ef"), (Ok(1), "f")] {
            assert!(send.advance(answer).is_none());
            let left: String = send.parts[send.first..]
                .iter()
                .map(|part| std::str::from_utf8(part).unwrap())
                .collect::<String>()
                .split_off(send.skip);
            assert_eq!(left, rest);
        }
        assert_eq!(send.advance(Ok(1)).unwrap().unwrap(), 6);
    }

    #[test]
    fn a_send_of_nothing_is_none() {
        assert!(Send::new(CONN, vec![]).is_none());
        assert!(Send::new(CONN, vec![Bytes::new(); 3]).is_none());
    }

    #[test]
    fn no_progress_is_an_error() {
        let mut send = Send::new(CONN, vec![Bytes::from("a")]).unwrap();
        assert_eq!(send.advance(Ok(0)).unwrap().unwrap_err().kind(), ErrorKind::WriteZero);
        let mut done = 0;
        assert!(advance(&mut done, 8, Ok(5), ErrorKind::WriteZero).is_none());
        assert!(advance(&mut done, 8, Err(again()), ErrorKind::WriteZero).is_none());
        let end = advance(&mut done, 8, Ok(0), ErrorKind::UnexpectedEof);
        assert_eq!(end.unwrap().unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(matches!(advance(&mut done, 8, Ok(3), ErrorKind::WriteZero), Some(Ok(()))));
    }
}
