//! A broker of our own: started, timed, looked at, killed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::driver::End;
use super::error::BenchError;
use super::folder::Folder;
use super::kafka::control::KafkaControl;
use super::process::{self, Usage};
use crate::base::child::end_with_parent;

/// A broker that is not ready by then has failed.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const READY_POLL: Duration = Duration::from_millis(2);
/// A device that has done nothing for so long has done what was removed.
const QUIET: Duration = Duration::from_millis(500);
/// Others may use it all the time.
const SETTLE_MAX: Duration = Duration::from_secs(8);
/// How the last line of a broker's banner names its two addresses.
const BANNER_KAFKA: &str = "Kafka clients: ";
const BANNER_ADMIN: &str = "; admin: http://";

/// How to start a broker.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The `ringmq` binary.
    pub program: PathBuf,
    /// Its log goes here, its data into a folder below, which is emptied.
    pub dir: Folder,
    /// Port 0 takes a free one.
    pub listen: String,
    pub shards: usize,
    /// The cores of its shards; empty leaves that to it.
    pub cpus: Vec<usize>,
    /// Keys of its configuration and their values.
    pub settings: Vec<(String, String)>,
}

impl Launch {
    fn data_dir(&self) -> PathBuf {
        data_dir(&self.dir)
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("broker.log")
    }

    /// The flags that configure it.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut flag = |name: &str, value: OsString| arguments.extend([OsString::from(name), value]);
        flag("--data-dir", self.data_dir().into());
        flag("--kafka-listen", self.listen.clone().into());
        flag("--admin-listen", "127.0.0.1:0".into());
        flag("--shards", self.shards.to_string().into());
        if !self.cpus.is_empty() {
            let cpus: Vec<String> = self.cpus.iter().map(usize::to_string).collect();
            flag("--cpus", cpus.join(",").into());
        }
        // The banner must be there to be read, whatever this process's environment says.
        flag("--set", "telemetry.log=info".into());
        flag("--set", "telemetry.format=text".into());
        for (key, value) in &self.settings {
            flag("--set", format!("{key}={value}").into());
        }
        arguments
    }

    fn command(&self) -> std::io::Result<Command> {
        let log = File::create(self.log())?;
        let mut command = Command::new(&self.program);
        command.arg("server").args(self.arguments());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for the load, which then ends the broker: it must not lose it first.
        command.process_group(0);
        end_with_parent(&mut command);
        Ok(command)
    }
}

/// A running broker. Killed with `SIGKILL` when dropped, and when the thread that started it ends: every
/// run ends as a crash would.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    launch: Launch,
    address: SocketAddr,
    admin: SocketAddr,
    /// From `exec` to the first answer.
    pub ready_after: Duration,
}

impl Broker {
    /// Start on an empty data directory: what an earlier broker of this process left in it goes.
    ///
    /// # Errors
    /// The data directory cannot be emptied; the broker does not start: the end of its log is in the
    /// error.
    pub fn fresh(launch: &Launch) -> Result<Broker, BenchError> {
        let had_data = data_dir(&launch.dir).exists();
        remove_data(&launch.dir).map_err(BenchError::io("cannot empty the broker's data directory"))?;
        if had_data {
            settle(launch.dir.path());
        }
        Broker::start(launch.clone())
    }

    /// Kill it and start another on the same data, and on the same port.
    pub fn restart(self) -> Result<Broker, BenchError> {
        let launch = Launch { listen: self.address.to_string(), ..self.launch.clone() };
        drop(self);
        Broker::start(launch)
    }

    fn start(launch: Launch) -> Result<Broker, BenchError> {
        let began = Instant::now();
        let child = launch
            .command()
            .and_then(|mut command| command.spawn())
            .map_err(BenchError::io("cannot start a broker"))?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut broker =
            Broker { child, launch, address: nowhere, admin: nowhere, ready_after: Duration::ZERO };
        (broker.address, broker.admin) = broker.wait_until_ready(began)?;
        KafkaControl::connect(broker.address)?;
        broker.ready_after = began.elapsed();
        Ok(broker)
    }

    /// The addresses of the banner, which comes last.
    fn wait_until_ready(&mut self, began: Instant) -> Result<(SocketAddr, SocketAddr), BenchError> {
        loop {
            let ended = self.child.try_wait().map_err(BenchError::io("cannot wait for the broker"))?;
            let log = fs::read_to_string(self.launch.log()).unwrap_or_default();
            if let Some(addresses) = addresses_of(&log) {
                return Ok(addresses);
            }
            let last = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("its log is empty");
            if let Some(status) = ended {
                let log = self.launch.log();
                let reason = format!("the broker ended with {status}: {last} (see {})", log.display());
                return Err(BenchError::Options(reason));
            }
            if began.elapsed() > READY_TIMEOUT {
                let reason = format!("the broker is not ready after {} s: {last}", READY_TIMEOUT.as_secs());
                return Err(BenchError::Options(reason));
            }
            // A process that starts tells nobody: the only way is to look again.
            std::thread::sleep(READY_POLL);
        }
    }

    /// Where it serves Kafka clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// End it and remove its data, which nobody will read again.
    ///
    /// # Errors
    /// The data cannot be removed.
    pub fn discard(self) -> Result<(), BenchError> {
        let folder = self.launch.dir.clone();
        drop(self);
        remove_data(&folder).map_err(BenchError::io("cannot remove the broker's data"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn usage(&self) -> Result<Usage, BenchError> {
        process::usage(self.pid()).ok_or_else(|| BenchError::Options("the broker is gone".to_owned()))
    }

    /// Records between the two ends of all partitions of a topic.
    pub fn retained(&self, topic: &str, partitions: u32) -> Result<u64, BenchError> {
        let mut control = KafkaControl::connect(self.address)?;
        let partitions: Vec<i32> = (0..partitions as i32).collect();
        let latest = control.offsets(topic, &partitions, End::Latest)?;
        let earliest = control.offsets(topic, &partitions, End::Earliest)?;
        Ok(latest.iter().zip(&earliest).map(|(latest, earliest)| latest.abs_diff(*earliest)).sum())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn data_dir(folder: &Folder) -> PathBuf {
    folder.path().join("broker")
}

/// Remove what brokers have left in a folder of ours, except for the log.
pub fn remove_data(folder: &Folder) -> std::io::Result<()> {
    match fs::remove_dir_all(data_dir(folder)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Until the device below `dir` has had nothing to do for a while, or it takes too long. A file system that discards
/// what was removed does so after its commit: the next broker would be charged for it.
fn settle(dir: &Path) {
    // Commits the removal. Where that is not possible, there is nothing to wait for.
    let _ = File::open(dir).and_then(|folder| folder.sync_all());
    let began = Instant::now();
    let mut seen = device_stat(dir);
    while seen.is_some() && began.elapsed() < SETTLE_MAX {
        std::thread::sleep(QUIET);
        let now = device_stat(dir);
        if now == seen {
            break;
        }
        seen = now;
    }
}

/// What the kernel has counted of the device that `dir` lies on (`Documentation/block/stat.rst`).
fn device_stat(dir: &Path) -> Option<String> {
    let device = fs::metadata(dir).ok()?.dev();
    let path = format!("/sys/dev/block/{}:{}/stat", libc::major(device), libc::minor(device));
    fs::read_to_string(path).ok()
}

/// The Kafka and the admin address of a broker that is ready, by its log.
fn addresses_of(log: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (_, after) = log.rsplit_once(BANNER_KAFKA)?;
    let (kafka, after) = after.split_once(BANNER_ADMIN)?;
    let (admin, _) = after.split_once('/')?;
    Some((kafka.parse().ok()?, admin.parse().ok()?))
}

/// Writes that the device under a folder has completed: their number and bytes.
///
/// `/sys/dev/block/MAJOR:MINOR/stat`, fields 5 and 7 (the kernel's
/// `Documentation/block/stat.rst`). `None` where the file system has no block device of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceWrites {
    count: u64,
    bytes: u64,
}

impl DeviceWrites {
    pub fn now(dir: &Path) -> Option<DeviceWrites> {
        DeviceWrites::parse(&device_stat(dir)?)
    }

    fn parse(stat: &str) -> Option<DeviceWrites> {
        let mut fields = stat.split_ascii_whitespace().skip(4);
        let count = fields.next()?.parse().ok()?;
        let sectors: u64 = fields.nth(1)?.parse().ok()?;
        Some(DeviceWrites { count, bytes: sectors * 512 })
    }

    /// Mean bytes of the writes since `before`: the broker's mean block when nobody else writes.
    pub fn mean_since(&self, before: &DeviceWrites) -> Option<u64> {
        (self.bytes - before.bytes).checked_div(self.count - before.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_both_addresses() {
        let banner = "INFO ringmq:   Kafka clients: 127.0.0.1:4711; admin: http://127.0.0.1:9644/\n";
        assert_eq!(
            addresses_of(&format!("INFO listening\n{banner}")),
            Some(("127.0.0.1:4711".parse().unwrap(), "127.0.0.1:9644".parse().unwrap()))
        );
        assert_eq!(addresses_of("INFO   Kafka clients: 127.0.0.1:47"), None, "a line that is not whole");
    }

    #[test]
    fn only_the_data_is_removed_and_none_is_no_mistake() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::claim(dir.path(), "f").unwrap();
        fs::create_dir(data_dir(&folder)).unwrap();
        fs::write(folder.path().join("broker.log"), "why").unwrap();
        remove_data(&folder).unwrap();
        remove_data(&folder).unwrap();
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["broker.log"]);
    }

    #[test]
    fn the_mean_write_comes_from_the_fifth_and_seventh_field() {
        let before = DeviceWrites::parse("1 2 3 4 10 0 80 8 9 10 11").unwrap();
        let after = DeviceWrites::parse("  1 2 3 4 14 0 144 8 9 10 11\n").unwrap();
        assert_eq!(after.mean_since(&before), Some(8192));
        assert_eq!(before.mean_since(&before), None);
        assert_eq!(DeviceWrites::parse("1 2 3"), None);
    }
}
