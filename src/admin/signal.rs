//! SIGTERM and SIGINT: the first asks the broker to stop in good order, a second one to stop now. Two in the same
//! instant are one: `timeout` of coreutils, for one, signals its child and then the whole group.

use std::future::Future;
use std::io;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Of a process that a second signal ends: 128 + SIGINT, as shells report it.
pub const EXIT_CODE: i32 = 130;

/// No operator loses patience within this time.
const INSTANT: Duration = Duration::from_millis(100);

/// Why [`Termination::wait_or`] returned.
#[derive(Debug, PartialEq, Eq)]
pub enum Cause<T> {
    /// The name of the signal.
    Signal(&'static str),
    /// The other future was faster.
    Other(T),
}

/// From here on the process no longer dies of SIGTERM and SIGINT by itself.
#[derive(Debug)]
pub struct Termination {
    runtime: Runtime,
    sigterm: Signal,
    sigint: Signal,
}

impl Termination {
    /// Install before anything is started that would have to be stopped in order.
    pub fn install() -> io::Result<Termination> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (sigterm, sigint) = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        Ok(Termination { runtime, sigterm, sigint })
    }

    /// Blocks the thread until a signal comes or `other` is ready: a shard that failed, say.
    pub fn wait_or<T>(&mut self, other: impl Future<Output = T>) -> Cause<T> {
        let (sigterm, sigint) = (&mut self.sigterm, &mut self.sigint);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = sigterm.recv() => Cause::Signal("SIGTERM"),
                _ = sigint.recv() => Cause::Signal("SIGINT"),
                other = other => Cause::Other(other),
            }
        })
    }

    /// Ends the process at the next signal, as a crash would: for while the stop is under way and
    /// its operator loses patience. Recovery takes care of the rest.
    pub fn exit_at_next(mut self) -> io::Result<()> {
        let first = Instant::now();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            while let Cause::Signal(name) = self.wait_or(std::future::pending::<()>()) {
                if first.elapsed() >= INSTANT {
                    tracing::warn!("{name} again: ending now, without a clean-shutdown marker");
                    process::exit(EXIT_CODE);
                }
            }
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Signals themselves are tested with the whole process: they belong to no single test.
    #[test]
    fn something_else_ends_the_wait_too() {
        let mut termination = Termination::install().expect("signal handlers");
        assert_eq!(termination.wait_or(async { 7 }), Cause::Other(7));
    }
}
