//! The cores that this process may use, and staying on one of them.

use core_affinity::CoreId;

use super::error::BenchError;

/// By their numbers; those that a container or `taskset` has left.
pub fn allowed() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// # Errors
/// One of them is not allowed: a thread that was meant for it would run anywhere.
pub fn check(cores: &[usize]) -> Result<(), BenchError> {
    let allowed = allowed();
    match cores.iter().find(|core| !allowed.contains(core)) {
        Some(core) => Err(BenchError::Options(format!(
            "core {core} is none of those that this process may use: {}",
            listed(&allowed)
        ))),
        None => Ok(()),
    }
}

/// Keep this thread on `core`.
///
/// # Errors
/// The kernel does not let it.
pub fn pin(core: usize) -> Result<(), BenchError> {
    check(&[core])?;
    if core_affinity::set_for_current(CoreId { id: core }) {
        return Ok(());
    }
    Err(BenchError::Options(format!("no thread can be kept on core {core}")))
}

/// `0, 2, 3`.
pub fn listed(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_is_not_there_is_refused_by_its_number() {
        check(&allowed()).unwrap();
        let reason = check(&[1_000_000]).unwrap_err().to_string();
        assert!(reason.contains("core 1000000") && reason.contains(&listed(&allowed())), "{reason}");
        // In a thread of its own, which ends pinned.
        let core = allowed()[0];
        std::thread::spawn(move || pin(core).map_err(|error| error.to_string())).join().unwrap().unwrap();
    }
}
