//! A broker of our own: started, timed, looked at, killed.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Setup;
use crate::bench::error::BenchError;
use crate::bench::kafka::control::{Control, End, resolve};
use crate::bench::process::{self, Usage};

/// A broker that is not ready by then has failed.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const READY_POLL: Duration = Duration::from_millis(2);

/// One shard on one core. Killed with `SIGKILL` when dropped: every row ends as a crash would.
pub struct Broker {
    child: Child,
    address: SocketAddr,
    data_dir: PathBuf,
    /// From `exec` to the first answer.
    pub ready_after: Duration,
}

impl Broker {
    /// Start on an empty data directory.
    pub fn fresh(setup: &Setup, environment: &[(&str, &str)]) -> Result<Broker, BenchError> {
        let data_dir = setup.dir.join("broker");
        match fs::remove_dir_all(&data_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(BenchError::io("cannot empty the broker's data directory")(error));
            }
            _ => {}
        }
        Broker::start(setup, &data_dir, environment)
    }

    /// Kill it and start another on the same data.
    pub fn restart(self, setup: &Setup) -> Result<Broker, BenchError> {
        let data_dir = self.data_dir.clone();
        drop(self);
        Broker::start(setup, &data_dir, &[])
    }

    fn start(setup: &Setup, data_dir: &Path, environment: &[(&str, &str)]) -> Result<Broker, BenchError> {
        let address = resolve(&setup.listen)?;
        if Control::connect(address).is_ok() {
            let reason = format!("something serves {address} already; give another --listen");
            return Err(BenchError::Options(reason));
        }
        let spawn = || {
            fs::create_dir_all(&setup.dir)?;
            let log = File::create(setup.dir.join("broker.log"))?;
            Command::new(&setup.program)
                .arg("server")
                .arg("--data-dir")
                .arg(data_dir)
                .args(["--kafka-listen", &setup.listen, "--admin-listen", "127.0.0.1:0"])
                .args(["--shards", "1", "--cpus", &setup.broker_cpu.to_string()])
                .envs(environment.iter().copied())
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
        };
        let began = Instant::now();
        let child = spawn().map_err(BenchError::io("cannot start a broker"))?;
        let mut broker =
            Broker { child, address, data_dir: data_dir.to_owned(), ready_after: Duration::ZERO };
        broker.wait_until_ready(began)?;
        Ok(broker)
    }

    fn wait_until_ready(&mut self, began: Instant) -> Result<(), BenchError> {
        loop {
            match Control::connect(self.address) {
                Ok(_) => break,
                Err(error) if began.elapsed() > READY_TIMEOUT => return Err(error),
                Err(_) => {}
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let reason = format!("the broker ended with {status}; see broker.log beside its data");
                return Err(BenchError::Options(reason));
            }
            // A process that starts tells nobody: the only way is to ask again.
            std::thread::sleep(READY_POLL);
        }
        self.ready_after = began.elapsed();
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn usage(&self) -> Result<Usage, BenchError> {
        process::usage(self.pid()).ok_or_else(|| BenchError::Options("the broker is gone".to_owned()))
    }

    /// Records between the two ends of all partitions of a topic.
    pub fn retained(&self, topic: &str, partitions: u32) -> Result<u64, BenchError> {
        let mut control = Control::connect(self.address)?;
        let latest = control.offsets(topic, partitions, End::Latest)?;
        let earliest = control.offsets(topic, partitions, End::Earliest)?;
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
        let device = fs::metadata(dir).ok()?.dev();
        let path = format!("/sys/dev/block/{}:{}/stat", libc::major(device), libc::minor(device));
        DeviceWrites::parse(&fs::read_to_string(path).ok()?)
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
    fn the_mean_write_comes_from_the_fifth_and_seventh_field() {
        let before = DeviceWrites::parse("1 2 3 4 10 0 80 8 9 10 11").unwrap();
        let after = DeviceWrites::parse("  1 2 3 4 14 0 144 8 9 10 11\n").unwrap();
        assert_eq!(after.mean_since(&before), Some(8192));
        assert_eq!(before.mean_since(&before), None);
        assert_eq!(DeviceWrites::parse("1 2 3"), None);
    }
}
