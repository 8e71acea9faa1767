//! Entering the kernel, and what to do while nothing happens.

use std::io;
use std::thread;
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

    /// With a commit under way, let the kernel's own threads run that work on it: they run on this CPU, and one that is
    /// woken while the shard is busy may wait for the tick that ends its slice, milliseconds (`crate::io::sched`). A
    /// call of 0.4 microseconds when there is none.
    pub(super) fn give_way(&self) {
        if self.commits > 0 {
            thread::yield_now();
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
        let deadline = match wait {
            Wait::No => Some(Instant::now()),
            Wait::For(time) => Instant::now().checked_add(time),
            Wait::Forever => None,
        };
        // When nothing had happened yet, and waiting began.
        let mut idle_since = None;
        // In `block` mode one call submits and waits.
        let mut spinning = self.poll != PollMode::Block;
        loop {
            if spinning {
                self.enter(None)?;
                self.give_way();
            } else {
                self.sleep(deadline)?;
            }
            self.reap(events);
            if events.len() > before || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
            if (self.has_mail)() {
                events.push(Event::Woken);
                break;
            }
            // Whatever was reaped without an event may have queued its continuation.
            if spinning && self.queued.is_empty() {
                let since = *idle_since.get_or_insert_with(Instant::now);
                spinning = self.spin(self.spin_until(since, deadline));
            }
        }
        if let (PollMode::Adaptive(spin), Some(since)) = (self.poll, idle_since) {
            self.spins.on_waited(since.elapsed(), spin);
        }
        Ok(())
    }

    /// When a wait that began at `since` goes over to sleeping (`None`: never).
    fn spin_until(&self, since: Instant, deadline: Option<Instant>) -> Option<Instant> {
        match self.poll {
            PollMode::Block => Some(since),
            PollMode::Adaptive(_) if !self.spins.pays() => Some(since),
            PollMode::Adaptive(spin) => Some(deadline.unwrap_or(since + spin).min(since + spin)),
            PollMode::Busy => deadline,
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
