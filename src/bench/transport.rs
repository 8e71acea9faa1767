//! A non-blocking TCP connection that carries frames: a length of four bytes, big-endian, and as
//! many bytes. Kafka and RocketMQ remoting share this.
//!
//! The only place of the generator that reads and writes sockets, so that another way to the kernel
//! can take its place.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// The longest frame that is believed.
pub const FRAME_BYTES_MAX: usize = 128 << 20;
const LENGTH_BYTES: usize = 4;
/// What a client's receive buffer holds at first; it doubles while a frame does not fit.
const INPUT_BYTES: usize = 64 << 10;
/// What the kernel copies in one call: of a long answer it would be megabytes, for which acks would wait.
pub const FILL_BYTES_MAX: usize = 128 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Transport {
    stream: TcpStream,
    input: Vec<u8>,
    /// The received bytes that are not consumed: `input[start..end]`.
    start: usize,
    end: usize,
    readable: bool,
    writable: bool,
}

impl Transport {
    /// Connect, waiting for it, and go non-blocking.
    pub fn connect(address: SocketAddr) -> io::Result<Transport> {
        let stream = std::net::TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nonblocking(true)?;
        Transport::new(TcpStream::from_std(stream), INPUT_BYTES)
    }

    /// `input_bytes`: of the receive buffer at first.
    pub fn new(stream: TcpStream, input_bytes: usize) -> io::Result<Transport> {
        stream.set_nodelay(true)?;
        let input = vec![0; input_bytes];
        Ok(Transport { stream, input, start: 0, end: 0, readable: true, writable: true })
    }

    /// Edge-triggered readiness of this connection is reported as `token` from now on.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    pub fn on_event(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable();
    }

    /// Whether [`fill`](Self::fill) may find something.
    #[inline]
    pub fn readable(&self) -> bool {
        self.readable
    }

    /// Receive once, at most [`FILL_BYTES_MAX`]. False when there is nothing for now.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer has closed; what the socket reports.
    pub fn fill(&mut self) -> io::Result<bool> {
        if !self.readable {
            return Ok(false);
        }
        self.make_room();
        let room = self.input.len().min(self.end + FILL_BYTES_MAX);
        match self.stream.read(&mut self.input[self.end..room]) {
            Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the peer closed the connection")),
            Ok(count) => {
                // A short read has emptied the socket: a new edge will come (epoll(7), question 9).
                self.readable = count == room - self.end;
                self.end += count;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next whole frame, without its length.
    ///
    /// # Errors
    /// `InvalidData` when the peer announces more than [`FRAME_BYTES_MAX`].
    #[inline]
    pub fn frame(&mut self) -> io::Result<Option<&mut [u8]>> {
        Ok(self.take_frame()?.map(|frame| &mut self.input[frame]))
    }

    /// The next whole frame, as its place in [`received`](Self::received), where it stays until the next
    /// [`fill`](Self::fill).
    ///
    /// # Errors
    /// As [`frame`](Self::frame).
    #[inline]
    pub fn take_frame(&mut self) -> io::Result<Option<Range<usize>>> {
        let received = &self.input[self.start..self.end];
        let Some((length, rest)) = received.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let from = self.start + LENGTH_BYTES;
        self.start = from + length;
        Ok(Some(from..from + length))
    }

    /// What lies there.
    #[inline]
    pub fn received(&self, place: Range<usize>) -> &[u8] {
        &self.input[place]
    }

    /// Send from both parts in order, as much as the socket takes; 0 when it takes nothing for now.
    pub fn write(&mut self, parts: [&[u8]; 2]) -> io::Result<usize> {
        if !self.writable {
            return Ok(0);
        }
        let result = if parts[1].is_empty() {
            self.stream.write(parts[0])
        } else {
            self.stream.write_vectored(&parts.map(IoSlice::new))
        };
        match result {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            result => result,
        }
    }

    /// Move the rest to the front when that is cheap or needed; grow when one frame fills it all.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            if self.start >= self.input.len() / 2 {
                self.input.copy_within(self.start..self.end, 0);
            } else {
                // At most twice of what was received: a peer's length alone allocates nothing.
                let mut grown = vec![0; self.input.len() * 2];
                grown[..self.end - self.start].copy_from_slice(&self.input[self.start..self.end]);
                self.input = grown;
            }
            self.end -= self.start;
            self.start = 0;
        }
        assert!(self.end < self.input.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (std::net::TcpStream, Transport) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let transport = Transport::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, transport)
    }

    /// Frames until the peer closes.
    fn frames(transport: &mut Transport) -> (Vec<Vec<u8>>, ErrorKind) {
        let mut frames = Vec::new();
        loop {
            match transport.frame() {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Err(error) => return (frames, error.kind()),
                Ok(None) => match transport.fill() {
                    Ok(_) => transport.readable = true,
                    Err(error) => return (frames, error.kind()),
                },
            }
        }
    }

    #[test]
    fn frames_of_every_size_arrive_whole() {
        let sizes = [0, 1, 5, INPUT_BYTES - 4, INPUT_BYTES, 3 * INPUT_BYTES + 7, 2];
        let (mut peer, mut transport) = pair();
        let sender = std::thread::spawn(move || {
            for size in sizes {
                peer.write_all(&(size as u32).to_be_bytes()).unwrap();
                peer.write_all(&vec![size as u8; size]).unwrap();
            }
            // Half a frame: the end of the stream is an error, not a frame.
            peer.write_all(&[0, 0, 0, 9, 1]).unwrap();
        });
        let (frames, end) = frames(&mut transport);
        sender.join().unwrap();
        assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        assert!(frames.iter().zip(sizes).all(|(frame, size)| frame.iter().all(|&b| b == size as u8)));
        assert_eq!(end, ErrorKind::UnexpectedEof);
    }

    #[test]
    fn an_absurd_length_is_an_error_and_no_allocation() {
        let (mut peer, mut transport) = pair();
        peer.write_all(&[0xff; 8]).unwrap();
        assert_eq!(frames(&mut transport), (vec![], ErrorKind::InvalidData));
        assert_eq!(transport.input.len(), INPUT_BYTES);
    }
}
