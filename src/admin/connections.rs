//! The admin port's connections: few at a time, and none for long to who neither asks nor reads.
//!
//! Each takes a descriptor, of which a process may have a limited number. Without a bound whoever merely
//! connects takes those that segments and manifests need.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// So many scrapers and people ask at once, and no more.
pub const CONNECTIONS_MAX: usize = 64;

/// What clients are allowed.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// At once. Further ones wait in the kernel's queue, where they take no descriptor.
    pub connections: usize,
    /// For a request to begin, from then on for all of it, and for an answer to be read on.
    pub patience: Duration,
}

impl Allowed {
    pub const DEFAULT: Allowed = Allowed { connections: CONNECTIONS_MAX, patience: Duration::from_secs(10) };
}

/// Accepts connections as long as there are not too many.
pub struct Connections {
    listener: TcpListener,
    free: Arc<Semaphore>,
    patience: Duration,
}

impl Connections {
    pub fn new(listener: TcpListener, allowed: Allowed) -> Connections {
        let Allowed { connections, patience } = allowed;
        Connections { listener, free: Arc::new(Semaphore::new(connections)), patience }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = self.free.clone().acquire_owned().await.expect("nobody closes it");
        // It waits when there are no descriptors, and goes on.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let late = Box::pin(tokio::time::sleep(self.patience));
        (Connection { stream, late, patience: self.patience, asks: false, _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One of them. Fails when its client keeps it waiting.
pub struct Connection {
    stream: TcpStream,
    late: Pin<Box<Sleep>>,
    patience: Duration,
    /// A request has begun: more of it buys no more time, or a byte now and then would do.
    asks: bool,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn more_time(&mut self) {
        self.late.as_mut().reset(Instant::now() + self.patience);
    }

    /// What the socket says, unless it makes wait and the time is over.
    fn or_late<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Pending => self.late.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
            ready => ready,
        }
    }

    fn on_written(
        &mut self,
        polled: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.asks = false;
            self.more_time();
        }
        self.or_late(polled, cx)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before && !self.asks {
            self.asks = true;
            self.more_time();
        }
        self.or_late(polled, cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.on_written(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.on_written(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};

    use super::*;

    const ALLOWED: Allowed = Allowed { connections: 1, patience: Duration::from_millis(50) };
    const TEST_MAX: Duration = Duration::from_secs(10);

    /// Both ends of a connection, for `story`.
    fn play<F: Future<Output = io::Error>>(story: impl FnOnce(std::net::TcpStream, Connection) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let mut connections = Connections::new(listener, ALLOWED);
            let address = connections.local_addr().expect("it is bound");
            // The kernel makes it: nobody need accept.
            let client = std::net::TcpStream::connect(address).expect("a listening server");
            let began = Instant::now();
            let (connection, _) = connections.accept().await;
            let error =
                tokio::time::timeout(TEST_MAX, story(client, connection)).await.expect("no patience left");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(began.elapsed() >= ALLOWED.patience);
        });
    }

    async fn read(connection: &mut Connection) -> io::Result<usize> {
        let mut bytes = [0; 16];
        let mut buf = ReadBuf::new(&mut bytes);
        poll_fn(|cx| Pin::new(&mut *connection).poll_read(cx, &mut buf)).await?;
        Ok(buf.filled().len())
    }

    #[test]
    fn who_asks_nothing_loses_the_connection() {
        play(|client, mut connection| async move {
            let error = read(&mut connection).await.expect_err("nothing came");
            drop(client);
            error
        });
    }

    #[test]
    fn a_byte_now_and_then_buys_no_time() {
        play(|mut client, mut connection| async move {
            loop {
                client.write_all(b"x").expect("sent");
                match read(&mut connection).await {
                    Ok(count) => assert!(count > 0, "the client is still there"),
                    Err(error) => return error,
                }
            }
        });
    }

    #[test]
    fn who_does_not_read_loses_the_connection() {
        play(|client, mut connection| async move {
            let page = [0; 4096];
            let error = loop {
                if let Err(error) = poll_fn(|cx| Pin::new(&mut connection).poll_write(cx, &page)).await {
                    break error;
                }
            };
            drop(client);
            error
        });
    }

    #[test]
    fn an_answer_buys_the_next_request_its_time() {
        play(|mut client, mut connection| async move {
            let began = Instant::now();
            // Each time for as long as is allowed in all.
            while began.elapsed() < 3 * ALLOWED.patience {
                client.write_all(b"x").expect("sent");
                assert_eq!(read(&mut connection).await.expect("in time"), 1);
                let written = poll_fn(|cx| Pin::new(&mut connection).poll_write(cx, b"y")).await;
                assert_eq!(written.expect("in time"), 1);
                client.read_exact(&mut [0]).expect("the answer");
            }
            read(&mut connection).await.expect_err("nothing more came")
        });
    }
}
