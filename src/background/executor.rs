//! A thread that runs jobs on a disk: glommio's executor, or plain blocking calls where glommio
//! cannot start.
//!
//! ```text
//!  shard: jobs.send(job) --bounded queue--> executor: job.run(&disk) --done(result)--> mail + wake
//! ```

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::thread::{self, JoinHandle};

use glommio::sync::Semaphore;
use glommio::{CpuSet, LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};
use tokio::sync::mpsc;
use tracing::warn;

use super::GlommioDisk;
use crate::io::blocking::{BlockingDisk, block_on};
use crate::io::file::Disk;
use crate::io::sched;

/// Jobs that run at a time: they share the device, and each holds memory.
const JOBS_RUNNING_MAX: u64 = 8;

/// Registered memory of glommio's ring: its least. Ours is copied through ordinary memory, and
/// locked memory is scarce on some machines.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// A piece of background work. The same code runs on every [`Disk`], the simulated one included.
#[allow(async_fn_in_trait)]
pub trait Job: Send + 'static {
    /// What the shard gets back.
    type Done: Send + 'static;

    async fn run<D: Disk>(self, disk: &D) -> Self::Done;
}

/// Takes jobs from any thread.
pub struct Jobs<J> {
    queue: mpsc::Sender<J>,
}

impl<J> Jobs<J> {
    /// # Errors
    /// The job comes back when more wait than was agreed upon, or when the executor has stopped.
    pub fn send(&self, job: J) -> Result<(), J> {
        self.queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job) => job,
        })
    }
}

// By hand: a derive would ask for `J: Clone`.
impl<J> Clone for Jobs<J> {
    fn clone(&self) -> Jobs<J> {
        Jobs { queue: self.queue.clone() }
    }
}

/// The executor's thread. It ends when this and all [`Jobs`] are dropped and no job is left.
pub struct Executor<J> {
    jobs: Jobs<J>,
    thread: JoinHandle<()>,
}

impl<J: Job> Executor<J> {
    /// Start the thread, on the given CPUs (on any, when there is none of them). At most `jobs_max` jobs
    /// may wait for their turn. `done` gets each job's result on that thread: it puts the result where the
    /// shard finds it, and wakes the shard.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn spawn(
        name: &str,
        jobs_max: usize,
        cpus: &[usize],
        done: impl FnMut(J::Done) + Send + 'static,
    ) -> io::Result<Executor<J>> {
        let (sender, receiver) = mpsc::channel(jobs_max);
        let cpus = cpus.to_vec();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || match glommio_on(&cpus) {
            Ok(executor) => executor.run(run_jobs(receiver, done)),
            Err(error) => {
                warn!(
                    %error,
                    "background jobs run one after the other: glommio cannot start; \
                     is the limit of locked memory (ulimit -l) below 512 KiB?"
                );
                keep_to(&cpus);
                run_jobs_blocking(receiver, done);
            }
        })?;
        Ok(Executor { jobs: Jobs { queue: sender }, thread })
    }

    /// Where to send jobs.
    pub fn jobs(&self) -> Jobs<J> {
        self.jobs.clone()
    }

    /// Wait until all jobs sent are done and the thread has ended; the other [`Jobs`] must be
    /// dropped before or while this waits.
    ///
    /// # Panics
    /// When a job has.
    pub fn join(self) {
        drop(self.jobs);
        let result: Result<(), Box<dyn Any + Send>> = self.thread.join();
        result.unwrap_or_else(|panic| resume_unwind(panic));
    }
}

/// As glommio does by itself.
fn keep_to(cpus: &[usize]) {
    if let Err(error) = sched::keep_to(cpus) {
        warn!(%error, "background jobs run on any CPU, the shards' too");
    }
}

fn glommio_on(cpus: &[usize]) -> Result<LocalExecutor, glommio::GlommioError<()>> {
    let online = CpuSet::online()?.filter(|location| cpus.contains(&location.cpu));
    let (placement, helper) = if online.is_empty() {
        (Placement::Unbound, PoolPlacement::Unbound(1))
    } else {
        (Placement::Fenced(online.clone()), PoolPlacement::Fenced(1, online))
    };
    LocalExecutorBuilder::new(placement)
        .blocking_thread_pool_placement(helper)
        .io_memory(IO_MEMORY_BYTES)
        .make()
}

async fn run_jobs<J: Job>(mut queue: mpsc::Receiver<J>, done: impl FnMut(J::Done) + 'static) {
    let disk = Rc::new(GlommioDisk::default());
    let done = Rc::new(RefCell::new(done));
    let slots = Rc::new(Semaphore::new(JOBS_RUNNING_MAX));
    while let Some(job) = queue.recv().await {
        let slot = slots.acquire_static_permit(1).await.expect("the semaphore is never closed");
        let (disk, done) = (disk.clone(), done.clone());
        glommio::spawn_local(async move {
            let result = job.run(&*disk).await;
            (done.borrow_mut())(result);
            drop(slot);
        })
        .detach();
    }
    // All slots free: no job runs.
    let _all = slots.acquire_permit(JOBS_RUNNING_MAX).await.expect("the semaphore is never closed");
}

fn run_jobs_blocking<J: Job>(mut queue: mpsc::Receiver<J>, mut done: impl FnMut(J::Done)) {
    while let Some(job) = queue.blocking_recv() {
        done(block_on(job.run(&BlockingDisk)));
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::mpsc as results;

    use super::*;
    use crate::io::blocking::disk_folder;
    use crate::io::buffer::PageBuf;

    const JOBS_MAX: usize = 64;

    /// Writes a file of `pages`, each with its number, and reads it back.
    struct Fill {
        number: usize,
        folder: PathBuf,
        pages: usize,
    }

    impl Job for Fill {
        type Done = (usize, io::Result<()>);

        async fn run<D: Disk>(self, disk: &D) -> Self::Done {
            (self.number, self.fill(disk).await)
        }
    }

    impl Fill {
        async fn fill<D: Disk>(&self, disk: &D) -> io::Result<()> {
            let (new, path) = (self.folder.join(format!("{}.new", self.number)), self.path());
            let file = disk.create(&new).await?;
            let mut pages = PageBuf::zeroed(self.pages * 4096);
            pages.chunks_mut(4096).enumerate().for_each(|(i, page)| page.fill((self.number + i) as u8));
            let (bytes, half) = ((self.pages + 1) * 4096, self.pages / 2 * 4096);
            disk.allocate(&file, bytes as u64).await?;
            // It is a hint.
            assert!([0, bytes as u64].contains(&disk.size(&file).await?));
            disk.write_at(&file, 4096, &pages).await?;
            disk.write_zeros(&file, 4096, half).await?;
            pages[..half].fill(0);
            disk.sync(&file).await?;
            disk.rename(&new, &path).await?;
            disk.sync_dir(&self.folder).await?;
            drop(file);

            assert!(disk.exists(&path).await? && !disk.exists(&new).await?);
            let file = disk.open(&path).await?;
            assert_eq!(disk.size(&file).await?, bytes as u64);
            let mut read = PageBuf::zeroed((self.pages + 2) * 4096);
            let len = disk.read_at(&file, 0, &mut read).await?;
            assert_eq!(len, bytes, "up to the file's end");
            assert!(read[..4096] == [0; 4096] && read[4096..len] == pages[..], "what was written");
            Ok(())
        }

        fn path(&self) -> PathBuf {
            self.folder.join(self.number.to_string())
        }
    }

    fn fill(number: usize, folder: &Path) -> Fill {
        // Some beyond one transfer, their zeros too.
        Fill { number, folder: folder.to_owned(), pages: 2 + number % 3 * 400 }
    }

    #[test]
    fn jobs_of_several_threads_run_and_answer() {
        const JOBS: usize = 60;
        let folder = disk_folder();
        let (sender, receiver) = results::channel();
        let executor =
            Executor::spawn("test", JOBS_MAX, &[0], move |done| sender.send(done).expect("the test listens"))
                .unwrap();
        thread::scope(|scope| {
            for first in [0, 1] {
                let (jobs, folder) = (executor.jobs(), folder.path());
                scope.spawn(move || {
                    for number in (first..JOBS).step_by(2) {
                        jobs.send(fill(number, folder)).ok().expect("room in the queue");
                        // Now and then let the executor go to sleep, to see it wake up.
                        if number % 8 == first {
                            thread::yield_now();
                        }
                    }
                });
            }
        });
        executor.join();
        let mut numbers: Vec<usize> = receiver
            .iter()
            .map(|(number, result)| {
                result.unwrap();
                number
            })
            .collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..JOBS), "every job answers once, and join waits for all");
        let names = block_on(BlockingDisk.list(folder.path())).unwrap();
        assert_eq!(names.len(), JOBS);
    }

    #[test]
    fn an_idle_executor_wakes_up_for_a_job() {
        let folder = disk_folder();
        let (sender, receiver) = results::channel();
        let executor =
            Executor::spawn("test", JOBS_MAX, &[], move |done| sender.send(done).expect("the test listens"))
                .unwrap();
        let jobs = executor.jobs();
        for number in 0..20 {
            jobs.send(fill(number, folder.path())).ok().expect("room in the queue");
            let (done, result) = receiver.recv().unwrap();
            result.unwrap();
            assert_eq!(done, number);
        }
        drop(jobs);
        executor.join();
    }

    #[test]
    fn the_same_jobs_run_without_glommio() {
        let folder = disk_folder();
        let (sender, receiver) = mpsc::channel(4);
        for number in 0..4 {
            sender.try_send(fill(number, folder.path())).ok().unwrap();
        }
        drop(sender);
        let mut numbers = Vec::new();
        run_jobs_blocking(receiver, |(number, result)| {
            result.unwrap();
            numbers.push(number);
        });
        assert_eq!(numbers, [0, 1, 2, 3]);
    }

    #[test]
    fn a_failed_job_answers_its_error() {
        let (sender, receiver) = results::channel();
        let executor =
            Executor::spawn("test", JOBS_MAX, &[], move |done| sender.send(done).expect("the test listens"))
                .unwrap();
        let job = fill(1, Path::new("/nonexistent"));
        executor.jobs().send(job).ok().expect("room in the queue");
        executor.join();
        let (_, result) = receiver.recv().unwrap();
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
