//! Entering the kernel, and what to do while nothing happens.

use std::io;
use std::time::{Duration, Instant};

use io_uring::types::{SubmitArgs, Timespec};

use super::{PollMode, Ring};
use crate::io::op::{Event, Wait};

impl Ring {
    /// Submit everything queued and let the kernel post what has completed; with `wait`, until there
    /// is a completion or that time (`None`: for ever) is over. May return earlier.
    pub(super) fn enter(&mut self, wait: Option<Option<Duration>>) -> io::Result<()> {
        loop {
            let all = self.fill_submission_queue();
            let result = match wait.filter(|_| all) {
                None if all && !self.has_kernel_work() => return Ok(()),
                None => self.ring.submit(),
                Some(None) => self.ring.submit_and_wait(1),
                Some(Some(timeout)) => {
                    let timeout = Timespec::from(timeout);
                    self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
                }
            };
            match result.map_err(|error| (error.raw_os_error(), error)) {
                Ok(_) if all => return Ok(()),
                Ok(_) => {}
                // The time is over, or a signal came.
                Err((Some(libc::ETIME | libc::EINTR), _)) => return Ok(()),
                // No memory for a request just now, or completions must be taken first: the entries
                // stay and go with the next call.
                Err((Some(libc::EAGAIN | libc::EBUSY), _)) => return Ok(()),
                Err((_, error)) => return Err(error),
            }
        }
    }

    /// Move queued entries to where the kernel takes them from; true when none is left.
    fn fill_submission_queue(&mut self) -> bool {
        let mut submission = self.ring.submission();
        while !submission.is_full()
            && let Some(entry) = self.queued.pop_front()
        {
            // SAFETY: what the entry points to is owned by its operation in `in_flight` until the
            // completion has been reaped, and its descriptor by the operation or by `conns`, which
            // keeps it as long as it has operations. Cancel entries and messages point to nothing; a
            // message's descriptor is only a number, and may have become another file's.
            unsafe { submission.push(&entry) }.expect("the queue is not full");
        }
        self.queued.is_empty()
    }

    /// Is there something that only a call can bring forward: entries to submit, or completions that
    /// the kernel has deferred?
    fn has_kernel_work(&mut self) -> bool {
        let submission = self.ring.submission();
        !submission.is_empty() || submission.taskrun() || submission.cq_overflow()
    }

    /// Look for something to do until `until` (`None`: for ever); false when the time is over.
    fn spin(&mut self, until: Option<Instant>) -> bool {
        loop {
            if !self.ring.completion().is_empty() || self.has_kernel_work() || (self.has_mail)() {
                return true;
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return false;
            }
            std::hint::spin_loop();
        }
    }

    /// Submit what is queued and wait for the first event: spin, then sleep, as the mode says.
    pub(super) fn wait(&mut self, wait: Wait, events: &mut Vec<Event>) -> io::Result<()> {
        let before = events.len();
        let started = Instant::now();
        let deadline = match wait {
            Wait::No => Some(started),
            Wait::For(time) => started.checked_add(time),
            Wait::Forever => None,
        };
        let spin_until = match self.poll {
            // One call submits and waits.
            PollMode::Block => None,
            PollMode::Adaptive(spin) => Some(deadline.unwrap_or(started + spin).min(started + spin)),
            PollMode::Busy => deadline,
        };
        let mut spinning = self.poll != PollMode::Block;
        loop {
            if spinning {
                self.enter(None)?;
            } else {
                self.sleep(deadline)?;
            }
            self.reap(events);
            if events.len() > before || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(());
            }
            if (self.has_mail)() {
                events.push(Event::Woken);
                return Ok(());
            }
            // Whatever was reaped without an event may have queued its continuation.
            if spinning && self.queued.is_empty() {
                spinning = self.spin(spin_until);
            }
        }
    }

    /// Wait in the kernel at most until `deadline`, unless there is mail.
    fn sleep(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.wakers.fall_asleep(self.shard);
        let result = if (self.has_mail)() {
            Ok(())
        } else {
            self.enter(Some(deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))))
        };
        self.wakers.awake(self.shard);
        result
    }
}
