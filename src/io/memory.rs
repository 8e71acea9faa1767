//! What memory this machine has for us, and near which CPU.

use std::fs;
use std::path::Path;

/// Bytes that this process can still take, as far as the machine and its control groups say.
pub fn available_bytes() -> Option<u64> {
    available(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
}

/// `None` where neither says anything. Control groups of version 2 only (`memory.max` and `memory.current`, of the
/// group and those above it).
fn available(proc: &Path, cgroups: &Path) -> Option<u64> {
    let meminfo = fs::read_to_string(proc.join("meminfo")).unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let machine = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());

    let own = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let groups = Path::new(own).ancestors().filter_map(|group| {
        let number =
            |name| fs::read_to_string(cgroups.join(group).join(name)).ok()?.trim().parse::<u64>().ok();
        Some(number("memory.max")?.saturating_sub(number("memory.current")?))
    });
    machine.map(|kib| kib << 10).into_iter().chain(groups).min()
}

/// The node whose memory is near a CPU; `None` where all is equally near.
pub fn node_of(cpu: usize) -> Option<usize> {
    node(Path::new("/sys/devices/system/cpu"), cpu)
}

fn node(cpus: &Path, cpu: usize) -> Option<usize> {
    let entries = fs::read_dir(cpus.join(format!("cpu{cpu}"))).ok()?;
    entries.flatten().find_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::blocking::disk_folder;

    #[test]
    fn the_least_of_the_machine_and_the_control_groups_counts() {
        let folder = disk_folder();
        let (proc, cgroups) = (folder.path().join("proc"), folder.path().join("cgroup"));
        assert_eq!(available(&proc, &cgroups), None);
        fs::create_dir_all(proc.join("self")).unwrap();
        fs::create_dir_all(cgroups.join("system/broker")).unwrap();
        fs::write(proc.join("meminfo"), "MemTotal:  9 kB\nMemAvailable:    4096 kB\n").unwrap();
        assert_eq!(available(&proc, &cgroups), Some(4 << 20));
        fs::write(proc.join("self/cgroup"), "1:cpu:/x\n0::/system/broker\n").unwrap();
        let group = |group: &str, max: &str| {
            fs::write(cgroups.join(group).join("memory.max"), max).unwrap();
            fs::write(cgroups.join(group).join("memory.current"), "1000\n").unwrap();
        };
        group("system/broker", "max\n");
        assert_eq!(available(&proc, &cgroups), Some(4 << 20), "without a limit");
        group("system/broker", "3000\n");
        assert_eq!(available(&proc, &cgroups), Some(2000));
        group("system", "500\n");
        assert_eq!(available(&proc, &cgroups), Some(0), "the one above is full");
    }

    #[test]
    fn a_cpu_has_one_node() {
        let folder = disk_folder();
        fs::create_dir_all(folder.path().join("cpu3/topology")).unwrap();
        assert_eq!(node(folder.path(), 3), None);
        fs::create_dir_all(folder.path().join("cpu3/node1")).unwrap();
        assert_eq!((node(folder.path(), 3), node(folder.path(), 4)), (Some(1), None));
    }
}
