//! Which CPU and which shard does what.

use tracing::{info, warn};

use crate::config::{Auto, Config, ConfigError};
use crate::io::{memory, sched};
use crate::model::{LogId, ShardId};

fn own_cpus() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// The CPUs for the shards.
///
/// # Errors
/// The configuration names one that this process may not use.
pub fn allowed_cpus(config: &Config) -> Result<Vec<usize>, ConfigError> {
    let allowed = own_cpus();
    match &config.server.cpus {
        Auto::Given(wanted) => {
            let wanted = wanted.as_slice();
            if let Some(missing) = wanted.iter().find(|cpu| !allowed.contains(cpu)) {
                let what = format!("this process may not use CPU {missing} (allowed: {allowed:?})");
                return Err(config.refuse("server.cpus", what));
            }
            Ok(wanted.to_vec())
        }
        Auto::Auto if allowed.is_empty() => Ok(vec![0]),
        Auto::Auto => Ok(allowed),
    }
}

/// Make the calling thread a shard's: on its CPU, in the shortest time slices.
pub fn settle(cpu: usize) {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        warn!("the shard of CPU {cpu} could not be pinned to it: it runs where the kernel puts it");
    }
    if let Err(error) = sched::shorten_slices() {
        info!("the shard of CPU {cpu} has ordinary time slices ({error}); durable writes may wait for them");
    }
}

pub fn host_of(log: LogId, shards: u16) -> ShardId {
    if log == LogId::METADATA { ShardId(0) } else { ShardId(((log.0 - 1) % u32::from(shards)) as u16) }
}

/// Where no shard runs, if there is such a CPU.
pub fn background_cpus(cpus: &[usize], shard_cpus: &[usize]) -> Vec<usize> {
    let free = |cpus: &[usize]| cpus.iter().copied().filter(|cpu| !shard_cpus.contains(cpu)).collect();
    let all = own_cpus();
    let choices: [Vec<usize>; 3] = [free(cpus), free(&all), all];
    choices.into_iter().find(|cpus| !cpus.is_empty()).unwrap_or_default()
}

/// Where memory of a shard is to be touched first: on a CPU without shard that is near the same memory, or on the
/// shard's own.
pub fn touching_cpu(shard_cpu: usize, shard_cpus: &[usize], background: &[usize]) -> usize {
    near(shard_cpu, shard_cpus, background, memory::node_of)
}

fn near(
    shard_cpu: usize,
    shard_cpus: &[usize],
    background: &[usize],
    node_of: impl Fn(usize) -> Option<usize>,
) -> usize {
    let node = node_of(shard_cpu);
    let near = |cpu: &usize| !shard_cpus.contains(cpu) && node_of(*cpu) == node;
    background.iter().copied().find(near).unwrap_or(shard_cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_touched_near_its_shard_and_on_no_other_shards_cpu() {
        let two_nodes = |cpu| Some(cpu / 4);
        let background = [2, 3, 6];
        assert_eq!(near(0, &[0, 1, 4, 5], &background, two_nodes), 2);
        assert_eq!(near(5, &[0, 1, 4, 5], &background, two_nodes), 6);
        assert_eq!(near(5, &[0, 1, 4, 5], &[2, 3], two_nodes), 5, "the others are far away");
        // Every CPU has a shard: the background runs on all of them.
        assert_eq!(near(1, &[0, 1, 2], &[0, 1, 2], |_| None), 1);
    }
}
