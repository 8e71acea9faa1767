//! Somebody wants the load to end before its time: a signal, or what the load cannot go on without.

use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use super::error::BenchError;

/// Shared by everybody who may set it and everybody who must look. Once set, it stays.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<State>);

#[derive(Debug, Default)]
struct State {
    reason: OnceLock<String>,
    /// For those who wait; the reason itself is read without a lock.
    lock: Mutex<()>,
    told: Condvar,
}

impl Interrupt {
    /// The first reason counts.
    pub fn set(&self, reason: impl Into<String>) {
        // Held, so that nobody misses it between its look and its wait.
        let _held = self.0.lock.lock();
        let _ = self.0.reason.set(reason.into());
        self.0.told.notify_all();
    }

    #[inline]
    pub fn is_set(&self) -> bool {
        self.0.reason.get().is_some()
    }

    pub fn reason(&self) -> Option<&str> {
        self.0.reason.get().map(String::as_str)
    }

    /// # Errors
    /// It is set.
    pub fn check(&self) -> Result<(), BenchError> {
        self.reason().map_or(Ok(()), |reason| Err(BenchError::Interrupted(reason.to_owned())))
    }

    /// Wait so long, or until it is set. True when it is.
    pub fn wait(&self, duration: Duration) -> bool {
        let held = self.0.lock.lock().expect("nobody panics while it holds this");
        let waited = self.0.told.wait_timeout_while(held, duration, |()| !self.is_set());
        drop(waited.expect("nobody panics while it holds this"));
        self.is_set()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_at_once_and_the_first_reason_counts() {
        let interrupt = Interrupt::default();
        assert!(!interrupt.wait(Duration::from_millis(1)) && interrupt.check().is_ok());
        let waiting = std::thread::spawn({
            let interrupt = interrupt.clone();
            move || interrupt.wait(Duration::from_secs(3600))
        });
        interrupt.set("SIGINT");
        interrupt.set("SIGTERM");
        assert!(waiting.join().unwrap());
        assert_eq!(interrupt.check().unwrap_err().to_string(), "SIGINT");
    }
}
