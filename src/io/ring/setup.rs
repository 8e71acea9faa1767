//! Making an io_uring with the best set of features that the kernel grants.
//!
//! Features are asked for together and given up one by one, newest first, when the kernel answers
//! `EINVAL`. Every other error is the caller's to explain ([`crate::io::probe`]).

use std::io;

use io_uring::{Builder, IoUring, Probe, opcode};

/// Completion entries per submission entry: multishot operations complete many times, and a full
/// completion queue ends them.
const COMPLETIONS_PER_ENTRY: u32 = 4;

/// A set-up flag that makes things faster and nothing possible.
struct Feature {
    name: &'static str,
    ask: fn(&mut Builder),
}

/// In the order in which they are given up. Versions: `io_uring_setup(2)`.
const FEATURES: [Feature; 3] = [
    // 6.6: no indirection between the submission ring and its entries.
    Feature {
        name: "no_sqarray",
        ask: |builder| {
            builder.setup_no_sqarray();
        },
    },
    // 6.1: completions are processed when this thread asks for them, not by interrupting it. The
    // task-run flag tells a spinning thread that there is something to ask for.
    Feature {
        name: "defer_taskrun",
        ask: |builder| {
            builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        },
    },
    // 5.18: one entry that fails does not hold back those behind it.
    Feature {
        name: "submit_all",
        ask: |builder| {
            builder.setup_submit_all();
        },
    },
];

/// A ring with `entries` submission entries, and the names of the features it has.
///
/// # Errors
/// As of `io_uring_setup(2)`: `EPERM` (disabled), `ENOSYS` (no io_uring), `ENOMEM` (memlock limit).
pub(super) fn build(entries: u32) -> io::Result<(IoUring, Vec<&'static str>)> {
    let mut given_up = 0;
    loop {
        let asked = &FEATURES[given_up..];
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(entries * COMPLETIONS_PER_ENTRY);
        for feature in asked {
            (feature.ask)(&mut builder);
        }
        match builder.build(entries) {
            Ok(ring) => return Ok((ring, asked.iter().map(|feature| feature.name).collect())),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && given_up < FEATURES.len() => {
                given_up += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Can a ring like this one get messages from its like, and send them? Kernels before 6.6 are not trusted
/// with it: between rings with deferred task work it came after 6.1, which was not at hand to be tried.
pub(super) fn takes_messages(ring: &IoUring, features: &[&str]) -> bool {
    let mut probe = Probe::new();
    let probed = ring.submitter().register_probe(&mut probe).is_ok();
    probed && probe.is_supported(opcode::MsgRingData::CODE) && features.contains(&FEATURES[0].name)
}
