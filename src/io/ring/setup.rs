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
pub(super) struct Feature {
    pub name: &'static str,
    ask: fn(&mut Builder),
}

/// In the order in which they are given up. Versions: `io_uring_setup(2)`.
pub(super) static FEATURES: [Feature; 3] = [
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

/// A ring with `entries` submission entries, and the names of the features it has, of those that are `wanted`.
///
/// # Errors
/// As of `io_uring_setup(2)`: `EPERM` (disabled), `ENOSYS` (no io_uring), `ENOMEM` (memlock limit).
pub(super) fn build(entries: u32, wanted: &[Feature]) -> io::Result<(IoUring, Vec<&'static str>)> {
    build_by(wanted, |asked| {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(entries * COMPLETIONS_PER_ENTRY);
        for feature in asked {
            (feature.ask)(&mut builder);
        }
        builder.build(entries)
    })
}

/// The first ring that `set_up` makes, asked with ever fewer features.
fn build_by<R>(
    wanted: &[Feature],
    mut set_up: impl FnMut(&[Feature]) -> io::Result<R>,
) -> io::Result<(R, Vec<&'static str>)> {
    let mut given_up = 0;
    loop {
        let asked = &wanted[given_up..];
        match set_up(asked) {
            Ok(ring) => return Ok((ring, asked.iter().map(|feature| feature.name).collect())),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && given_up < wanted.len() => {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a kernel that refuses these features with this error is asked for, try by try, and what comes of it.
    fn tries(refused: &[&str], errno: i32) -> (Vec<String>, Result<Vec<&'static str>, Option<i32>>) {
        let mut tries = Vec::new();
        let built = build_by(&FEATURES, |asked| {
            let names: Vec<_> = asked.iter().map(|feature| feature.name).collect();
            tries.push(names.join(" "));
            match names.iter().any(|name| refused.contains(name)) {
                true => Err(io::Error::from_raw_os_error(errno)),
                false => Ok(()),
            }
        });
        (tries, built.map(|((), features)| features).map_err(|error| error.raw_os_error()))
    }

    #[test]
    fn features_are_given_up_newest_first_until_the_kernel_agrees() {
        let all = "no_sqarray defer_taskrun submit_all";
        for (refused, asked, has) in [
            (&[][..], &[all][..], &["no_sqarray", "defer_taskrun", "submit_all"][..]),
            // Linux 6.1 to 6.5.
            (
                &["no_sqarray"][..],
                &[all, "defer_taskrun submit_all"][..],
                &["defer_taskrun", "submit_all"][..],
            ),
            (
                &["no_sqarray", "defer_taskrun"],
                &[all, "defer_taskrun submit_all", "submit_all"],
                &["submit_all"],
            ),
            // An old one that is refused takes the newer ones with it.
            (&["submit_all"][..], &[all, "defer_taskrun submit_all", "submit_all", ""][..], &[][..]),
        ] {
            let (tried, built) = tries(refused, libc::EINVAL);
            assert_eq!(tried, asked, "without {refused:?}");
            assert_eq!(built.as_deref(), Ok(has), "without {refused:?}");
        }
    }

    #[test]
    fn other_errors_and_a_refusal_of_the_bare_ring_are_final() {
        for errno in [libc::EPERM, libc::ENOSYS, libc::ENOMEM] {
            let (tried, built) = tries(&["no_sqarray"], errno);
            assert_eq!((tried.len(), built), (1, Err(Some(errno))));
        }
        let mut tried = 0;
        let built = build_by(&FEATURES, |_| -> io::Result<()> {
            tried += 1;
            Err(io::Error::from_raw_os_error(libc::EINVAL))
        });
        assert_eq!(built.unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(tried, FEATURES.len() + 1);
    }

    #[test]
    fn a_real_ring_has_a_tail_of_the_features() {
        let (_, features) = build(8, &FEATURES).unwrap();
        let names = FEATURES.each_ref().map(|feature| feature.name);
        assert!(names.ends_with(&features), "{features:?}");
    }
}
