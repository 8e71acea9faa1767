//! What a result depends on besides the broker: the machine, its kernel and its storage.
//!
//! Read from `/proc` and `/sys`; what a machine does not say is absent.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    pub kernel: Option<String>,
    pub architecture: String,
    pub cpu: Option<String>,
    /// That this process may use.
    pub cpus: usize,
    pub governor: Option<String>,
    pub clock_source: Option<String>,
    pub memory_bytes: Option<u64>,
    pub transparent_hugepages: Option<String>,
    pub tcp_congestion_control: Option<String>,
    /// Runnable threads, mean of the last minute before the run: others at work spoil a measurement.
    pub load_average: Option<f64>,
    /// Where the broker's data lies; unknown for a broker that was not started here.
    pub storage: Option<Storage>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Storage {
    pub dir: PathBuf,
    pub file_system: Option<String>,
    pub mount_options: Option<String>,
    pub device: Option<String>,
    pub model: Option<String>,
    pub scheduler: Option<String>,
    pub write_cache: Option<String>,
    /// Whether one write can bypass the device's cache.
    pub fua: Option<bool>,
}

impl Environment {
    /// This machine, and the file system of `data`.
    pub fn read(data: Option<&Path>) -> Environment {
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Environment {
            kernel: line("/proc/sys/kernel/osrelease"),
            architecture: std::env::consts::ARCH.to_owned(),
            cpu: field(&cpu_info, "model name", ':'),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            clock_source: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            memory_bytes: field(&memory, "MemTotal", ':').and_then(|text| kib(&text)),
            transparent_hugepages: line("/sys/kernel/mm/transparent_hugepage/enabled")
                .map(|text| chosen(&text)),
            tcp_congestion_control: line("/proc/sys/net/ipv4/tcp_congestion_control"),
            load_average: line("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            storage: data.and_then(Storage::read),
        }
    }

    /// Name and value of everything that is known, and that a broker's storage is not.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let unknown = || Some("not known: the broker was not started here".to_owned());
        let storage = self.storage.clone().unwrap_or_else(|| Storage {
            file_system: unknown(),
            device: unknown(),
            ..Storage::default()
        });
        let known = [
            ("kernel", self.kernel.clone()),
            ("processor", self.cpu.clone().map(|cpu| format!("{cpu} ({})", self.architecture))),
            ("processors usable", Some(self.cpus.to_string())),
            (
                "governor",
                Some(self.governor.clone().unwrap_or_else(|| "none: no frequency scaling".to_owned())),
            ),
            ("clock source", self.clock_source.clone()),
            (
                "memory",
                self.memory_bytes.map(|bytes| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))),
            ),
            ("transparent huge pages", self.transparent_hugepages.clone()),
            ("TCP congestion control", self.tcp_congestion_control.clone()),
            ("load before the run", self.load_average.map(|load| format!("{load:.2}"))),
            ("data", self.storage.as_ref().map(|storage| storage.dir.display().to_string())),
            ("file system", storage.file_system),
            ("mount options", storage.mount_options),
            ("device", storage.device.map(|device| join(&device, storage.model.as_deref()))),
            ("I/O scheduler", storage.scheduler),
            ("write cache", storage.write_cache),
            ("FUA", storage.fua.map(|fua| if fua { "yes" } else { "no" }.to_owned())),
        ];
        known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl Storage {
    fn read(dir: &Path) -> Option<Storage> {
        let dir = dir.canonicalize().ok()?;
        let number = fs::metadata(&dir).ok()?.dev();
        let number = format!("{}:{}", libc::major(number), libc::minor(number));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount = Mount::find(&mounts, &number);
        let node = fs::canonicalize(format!("/sys/dev/block/{number}")).ok();
        // A partition's queue is its disk's.
        let disk = node.map(|node| if node.join("queue").exists() { node } else { node.join("..") });
        let of = |name: &str| disk.as_ref().and_then(|disk| line(disk.join(name)));
        Some(Storage {
            file_system: mount.as_ref().map(|mount| mount.file_system.clone()),
            mount_options: mount.as_ref().map(|mount| mount.options.clone()),
            device: mount.map(|mount| mount.source),
            model: of("device/model"),
            scheduler: of("queue/scheduler").map(|text| chosen(&text)),
            write_cache: of("queue/write_cache"),
            fua: of("queue/fua").map(|text| text == "1"),
            dir,
        })
    }
}

/// One line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    options: String,
    file_system: String,
    source: String,
}

impl Mount {
    fn find(mounts: &str, number: &str) -> Option<Mount> {
        mounts.lines().find_map(|line| {
            // Before the dash: id, parent, device, root, mount point, options and optional fields.
            let (before, after) = line.split_once(" - ")?;
            let before: Vec<&str> = before.split(' ').collect();
            if *before.get(2)? != number {
                return None;
            }
            let mut after = after.split(' ');
            let (file_system, source) = (after.next()?, after.next()?);
            let options = format!("{},{}", before.get(5)?, after.next().unwrap_or_default());
            Some(Mount { options, file_system: file_system.to_owned(), source: source.to_owned() })
        })
    }
}

fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned()).filter(|line| !line.is_empty())
}

/// The value of the first line that begins with `name`.
fn field(text: &str, name: &str, separator: char) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(separator)?.1.trim().to_owned())
}

fn kib(text: &str) -> Option<u64> {
    Some(text.strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The word in brackets, where a file of `/sys` lists the choices.
fn chosen(text: &str) -> String {
    let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(text, |(chosen, _)| chosen).to_owned()
}

fn join(first: &str, second: Option<&str>) -> String {
    second.map_or_else(|| first.to_owned(), |second| format!("{first} ({second})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_the_number_of_its_device() {
        let mounts = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
                      23 22 0:21 / /proc rw - proc proc rw\n";
        let found = Mount::find(mounts, "254:0").unwrap();
        assert_eq!(
            (found.options.as_str(), found.file_system.as_str(), found.source.as_str()),
            ("rw,relatime,rw,discard", "ext4", "/dev/vda")
        );
        assert_eq!(Mount::find(mounts, "9:9"), None);
    }

    #[test]
    fn the_choice_is_in_brackets() {
        assert_eq!(chosen("none [mq-deadline] kyber"), "mq-deadline");
        assert_eq!(chosen("none"), "none");
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_file_system() {
        let environment = Environment::read(Some(Path::new(env!("CARGO_MANIFEST_DIR"))));
        assert!(environment.kernel.is_some() && environment.cpus > 0);
        assert!(environment.storage.as_ref().is_some_and(|storage| storage.file_system.is_some()));
        let known = |environment: &Environment, wanted: &str| {
            let facts = environment.facts();
            facts.iter().any(|(name, value)| *name == wanted && !value.starts_with("not known"))
        };
        assert!(known(&environment, "file system") && known(&environment, "data"));
        let elsewhere = Environment::read(None);
        let said: Vec<_> =
            elsewhere.facts().into_iter().filter(|(_, value)| value.starts_with("not known")).collect();
        assert_eq!(said.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["file system", "device"]);
        assert!(!known(&elsewhere, "data"));
    }
}
