//! A child process that does not outlive its parent.

use std::io;
use std::os::unix::process::{CommandExt, parent_id};
use std::process::Command;

/// The kernel kills the child when the thread that spawned it ends, whatever ended it: `kill -9` of the
/// parent leaves no child behind.
///
/// The *thread*, not the process (prctl(2), `PR_SET_PDEATHSIG`): spawn it on one that lives as long as
/// the child shall.
pub fn end_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let bind = move || {
        // SAFETY: this option takes a signal's number and no address.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // It may have ended before the kernel was told.
        if parent_id() != parent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only what a signal handler may do is allowed: `bind` makes two
    // system calls, and neither allocates nor locks.
    unsafe { command.pre_exec(bind) };
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_child_is_killed_when_the_thread_that_spawned_it_is_gone() {
        let spawned = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            end_with_parent(command.arg("1000"));
            command.spawn().unwrap()
        });
        let mut child = spawned.join().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
