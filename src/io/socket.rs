//! A connected or listening socket on its way to the ring that will drive it.

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Owned: dropping it closes the socket. Can be mailed to another shard.
#[derive(Debug)]
pub enum SocketHandle {
    /// In blocking mode: the ring waits for it by itself.
    Os(OwnedFd),
    /// A socket of the simulated network.
    Sim(u64),
}

impl SocketHandle {
    /// Another handle of the same socket: a listener's owner keeps one to start it again.
    ///
    /// # Errors
    /// `EMFILE`: no file descriptor left.
    pub fn try_clone(&self) -> io::Result<SocketHandle> {
        match self {
            SocketHandle::Os(fd) => fd.try_clone().map(SocketHandle::Os),
            SocketHandle::Sim(id) => Ok(SocketHandle::Sim(*id)),
        }
    }

    /// The descriptor, for the kernel.
    pub(super) fn into_os(self) -> OwnedFd {
        match self {
            SocketHandle::Os(fd) => fd,
            SocketHandle::Sim(id) => panic!("socket {id} of the simulated network in a real ring"),
        }
    }
}

/// A listening TCP socket, and the address it got (port 0 asks for any).
///
/// Its connections send without delay (`TCP_NODELAY`, which they inherit): a turn sends whole
/// responses. With `shared`, several sockets of this process listen at the address, one per shard,
/// and the kernel spreads the connections (`SO_REUSEPORT`).
///
/// # Errors
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`: as of `bind(2)`.
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<(SocketHandle, SocketAddr)> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers; the result is checked.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // A restarted broker takes its port although old connections linger.
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    if shared {
        set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT)?;
    }
    bind(fd, address)?;
    // SAFETY: no pointers; `fd` is open.
    check(unsafe { libc::listen(fd, BACKLOG) })?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((SocketHandle::Os(listener.into()), address))
}

fn bind(socket: RawFd, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(address) => bind_raw(
            socket,
            &libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            },
        ),
        SocketAddr::V6(address) => bind_raw(
            socket,
            &libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            },
        ),
    }
}

/// `T` is one of the `sockaddr` structs.
fn bind_raw<T>(socket: RawFd, address: &T) -> io::Result<()> {
    let len = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `address`, which the kernel only reads.
    check(unsafe { libc::bind(socket, std::ptr::from_ref(address).cast(), len) }).map(drop)
}

fn set_option(socket: RawFd, level: i32, option: i32) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = mem::size_of_val(&on) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `on`, which the kernel only reads.
    check(unsafe { libc::setsockopt(socket, level, option, (&raw const on).cast(), len) }).map(drop)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn listens_on_both_families_and_shares_a_port() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (_first, bound) = match listen(address.parse().unwrap(), true) {
                // A machine without IPv6 has no such address.
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => continue,
                result => result.unwrap(),
            };
            let (_second, again) = listen(bound, true).unwrap();
            assert_eq!(bound, again);
            TcpStream::connect(bound).unwrap();
        }
        let (_alone, bound) = listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
        assert_eq!(listen(bound, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
