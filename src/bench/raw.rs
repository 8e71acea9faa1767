//! The device without a broker: durable sequential writes over a file that was really written
//! before, and reads, by size and depth.
//!
//! This is what a broker's numbers are compared with, so it must be measured on the same file
//! system in the same run. Depth comes from threads that share one sequence of offsets.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::BenchError;
use super::payload::Random;
use super::sound::Basis;
use super::stats::{Latency, Percentiles};
use super::text::write_latencies;
use crate::base::align::PAGE_BYTES;
use crate::io::buffer::PageBuf;

/// One transfer when the file is made.
const PREPARE_BYTES: usize = 1 << 20;

#[derive(Clone, Debug)]
pub struct Options {
    /// A folder on the file system to be measured.
    pub dir: PathBuf,
    /// Of the test file.
    pub file_bytes: u64,
    pub sizes: Vec<usize>,
    pub depths: Vec<usize>,
    /// Per row.
    pub duration: Duration,
}

impl Options {
    /// 4 KiB to 1 MiB, depth 1 to 4.
    pub fn new(dir: &Path) -> Options {
        Options {
            dir: dir.to_owned(),
            file_bytes: 1 << 30,
            sizes: vec![4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20],
            depths: vec![1, 2, 4],
            duration: Duration::from_secs(2),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// `O_DIRECT | O_DSYNC`: the return of the call means stable storage.
    DurableWrite,
    /// `O_DIRECT`.
    Read,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Row {
    pub direction: Direction,
    pub bytes: usize,
    pub depth: usize,
    pub bytes_per_s: f64,
    pub latency: Percentiles,
}

/// Measure every size and depth; `progress` sees each row as it is done.
pub fn run(options: &Options, mut progress: impl FnMut(&Row)) -> Result<Vec<Row>, BenchError> {
    let largest = options.sizes.iter().copied().max().unwrap_or(0) as u64;
    let aligned = options.sizes.iter().all(|&size| size > 0 && size.is_multiple_of(PAGE_BYTES));
    if !aligned || options.depths.contains(&0) || options.file_bytes < largest {
        return Err(BenchError::Options(
            "sizes are multiples of 4096 and at most the file's, depths are at least 1".to_owned(),
        ));
    }
    let probe = TestFile::prepare(&options.dir, options.file_bytes)
        .map_err(BenchError::io("cannot prepare the raw probe's file by direct IO"))?;
    let mut rows = Vec::new();
    for direction in [Direction::DurableWrite, Direction::Read] {
        for &bytes in &options.sizes {
            for &depth in &options.depths {
                let row = probe
                    .measure(direction, bytes, depth, options.duration)
                    .map_err(BenchError::io("the raw probe's transfer failed"))?;
                progress(&row);
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> String {
    let mut out = String::new();
    let label = |row: &Row| {
        let name = if row.direction == Direction::Read { "read" } else { "dsync" };
        format!("{name} {:>4}K x{} {:>6.0} MB/s", row.bytes >> 10, row.depth, row.bytes_per_s / 1e6)
    };
    let labels: Vec<String> = rows.iter().map(label).collect();
    let lines = labels.iter().zip(rows).map(|(label, row)| (label.as_str(), Basis::of_samples(&row.latency)));
    let lines: Vec<(&str, Basis<'_>)> = lines.collect();
    write_latencies(&mut out, &lines).expect("a string takes everything");
    out
}

/// A file that is removed when the probe is over.
struct TestFile {
    path: PathBuf,
    bytes: u64,
}

impl TestFile {
    /// Write it whole, so that no later write allocates.
    fn prepare(dir: &Path, bytes: u64) -> io::Result<TestFile> {
        let path = dir.join(format!("ringmq-raw-probe-{}", std::process::id()));
        let file =
            OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_DIRECT).open(&path)?;
        let probe = TestFile { path, bytes };
        let buffer = random_pages(PREPARE_BYTES);
        for offset in (0..bytes).step_by(PREPARE_BYTES) {
            file.write_all_at(&buffer, offset)?;
        }
        file.sync_all()?;
        Ok(probe)
    }

    fn open(&self, direction: Direction) -> io::Result<File> {
        let mut options = OpenOptions::new();
        match direction {
            Direction::DurableWrite => options.write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC),
            Direction::Read => options.read(true).custom_flags(libc::O_DIRECT),
        };
        options.open(&self.path)
    }

    fn measure(
        &self,
        direction: Direction,
        bytes: usize,
        depth: usize,
        duration: Duration,
    ) -> io::Result<Row> {
        let file = self.open(direction)?;
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let slots = self.bytes / bytes as u64;
        let began = Instant::now();
        let worker = || -> io::Result<Latency> {
            let mut buffer = random_pages(bytes);
            let mut latency = Latency::new();
            while !stop.load(Ordering::Relaxed) && began.elapsed() < duration {
                let offset = next.fetch_add(1, Ordering::Relaxed) % slots * bytes as u64;
                let before = Instant::now();
                let result = match direction {
                    Direction::DurableWrite => file.write_all_at(&buffer, offset),
                    Direction::Read => file.read_exact_at(&mut buffer, offset),
                };
                latency.record(before.elapsed().as_nanos() as u64);
                if result.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                result?;
            }
            Ok(latency)
        };
        let latencies = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..depth).map(|_| scope.spawn(worker)).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, io::Result<Latency>>| {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("a probe thread panicked")))
            };
            threads.into_iter().map(join).collect::<io::Result<Vec<Latency>>>()
        })?;
        let elapsed = began.elapsed().as_secs_f64();
        let mut all = Latency::new();
        for latency in &latencies {
            all.add(latency);
        }
        let latency = all.percentiles();
        let bytes_per_s = latency.samples as f64 * bytes as f64 / elapsed;
        Ok(Row { direction, bytes, depth, bytes_per_s, latency })
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        // What cannot be removed was named by the error that came before, or will be found by its name.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Bytes that a device cannot compress.
fn random_pages(bytes: usize) -> PageBuf {
    let mut pages = PageBuf::zeroed(bytes);
    Random(bytes as u64).fill(&mut pages);
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_each_size_and_depth_and_leaves_nothing() {
        // Beside the sources and not on a tmpfs: that is where direct IO works for certain.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let options = Options {
            file_bytes: 4 << 20,
            sizes: vec![4096, 65536],
            depths: vec![1, 2],
            duration: Duration::from_millis(20),
            ..Options::new(dir.path())
        };
        let mut seen = 0;
        let rows = run(&options, |_| seen += 1).unwrap();
        assert_eq!((rows.len(), seen), (8, 8));
        assert!(rows.iter().all(|row| row.latency.samples > 0 && row.bytes_per_s > 0.0));
        assert_eq!(table(&rows).lines().count(), 9);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn odd_sizes_are_refused() {
        let options = Options { sizes: vec![1000], ..Options::new(Path::new("/")) };
        assert!(matches!(run(&options, |_| ()), Err(BenchError::Options(_))));
    }
}
