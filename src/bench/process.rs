//! What a process on this machine has used, from `/proc/PID/stat` and `/proc/PID/status` (proc(5)).

use std::fs;

use serde::{Deserialize, Serialize};

/// `USER_HZ`: the unit of processor times in `/proc` on every Linux architecture that we build for.
const TICKS_PER_S: f64 = 100.0;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// Processor time of all threads, user and system.
    pub cpu_s: f64,
    pub resident_bytes: u64,
}

/// What a process used between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Used {
    pub cpu_s: f64,
    pub resident_bytes_before: u64,
    pub resident_bytes_after: u64,
}

impl Usage {
    pub fn since(&self, before: &Usage) -> Used {
        Used {
            cpu_s: self.cpu_s - before.cpu_s,
            resident_bytes_before: before.resident_bytes,
            resident_bytes_after: self.resident_bytes,
        }
    }
}

/// `None` when the process is gone.
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(Usage { cpu_s: parse_cpu(&stat)?, resident_bytes: parse_resident(&status)? })
}

/// Fields 14 and 15 (utime, stime); the name, field 2, is in parentheses and may hold anything.
fn parse_cpu(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / TICKS_PER_S)
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_behind_an_awkward_name() {
        let stat = "12 (a) b (c) R 1 1 1 0 -1 4194560 90 0 0 0 250 50 0 0 20 0 3 0 99 1 1";
        assert_eq!(parse_cpu(stat), Some(3.0));
        assert_eq!(parse_resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert!(usage(std::process::id()).is_some_and(|usage| usage.resident_bytes > 0));
        assert_eq!(parse_cpu("nonsense"), None);
    }
}
