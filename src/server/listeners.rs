//! The ports that a shard accepts connections at, and what becomes of one where accepting fails.

use std::io;
use std::time::Duration;

use crate::io::op::{ListenerId, Op};
use crate::io::socket::SocketHandle;
use crate::model::{LogId, Nanos, Now};

/// A listener that failed is started again after this time.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// The operator is told of it this often.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// A socket that connections are accepted on.
struct Listener {
    socket: SocketHandle,
    /// The log whose port it is: its connections stay with this shard, which hosts the log. Those of the
    /// node's own port are dealt out.
    at: Option<LogId>,
    /// Accepting has failed: it begins again then.
    again_at: Option<Nanos>,
}

#[derive(Default)]
pub struct Listeners {
    listeners: Vec<Listener>,
    /// When the operator may be told again that one of them failed.
    told_until: Nanos,
}

impl Listeners {
    /// Accept connections on this socket. `at`: it is the port of this log.
    pub fn listen(&mut self, socket: SocketHandle, at: Option<LogId>, ops: &mut Vec<Op>) -> io::Result<()> {
        let listener = ListenerId(self.listeners.len() as u16);
        ops.push(Op::Listen { listener, socket: socket.try_clone()? });
        self.listeners.push(Listener { socket, at, again_at: None });
        Ok(())
    }

    /// The log whose port it is.
    pub fn log_of(&self, listener: ListenerId) -> Option<LogId> {
        self.listeners.get(usize::from(listener.0)).and_then(|listener| listener.at)
    }

    /// A listener accepts no more. It is usually for want of descriptors, which whoever tries again at once
    /// finds as wanting, or takes from others that need one.
    pub fn on_failed(
        &mut self,
        listener: ListenerId,
        error: &io::Error,
        now: Now,
        messages: &mut Vec<String>,
    ) {
        self.listeners[usize::from(listener.0)].again_at = Some(now.mono.plus(AGAIN_AFTER));
        if now.mono >= self.told_until {
            self.told_until = now.mono.plus(TOLD_EVERY);
            messages.push(format!(
                "accepting connections failed, and is tried again ten times a second: {error} (if files are \
                 too many, raise `ulimit -n` or lower kafka.connections_max)"
            ));
        }
    }

    /// Start those again whose time has come.
    pub fn listen_again(&mut self, now: Now, ops: &mut Vec<Op>, messages: &mut Vec<String>) {
        for index in 0..self.listeners.len() {
            let (listener, id) = (&mut self.listeners[index], ListenerId(index as u16));
            if listener.again_at.is_none_or(|at| now.mono < at) {
                continue;
            }
            match listener.socket.try_clone() {
                Ok(socket) => {
                    listener.again_at = None;
                    ops.push(Op::Listen { listener: id, socket });
                }
                Err(error) => self.on_failed(id, &error, now, messages),
            }
        }
    }

    /// When the first of those that failed begins again.
    pub fn deadline(&self) -> Option<Nanos> {
        self.listeners.iter().filter_map(|listener| listener.again_at).min()
    }
}
