//! Background jobs and recovery on the simulated disk: [`SimDisk`], and [`SimExecutor`] to run them.
//!
//! A job is a future. It becomes ready at the virtual time at which its operation completes, and it
//! ends with the machine: a crash drops all jobs where they stand.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::disk::{SimStorage, WriteProgress};
use super::rng::Rng;
use super::{Due, SimWorld};
use crate::io::buffer::PageBuf;
use crate::io::file::{Disk, FileHandle};
use crate::io::op::WriteSync;
use crate::model::Nanos;

/// The simulated disk as jobs, recovery and tools see it. Clones share their countdown.
#[derive(Clone)]
pub struct SimDisk {
    world: SimWorld,
    /// The machine's life that this belongs to; every later call is an error.
    boot: u64,
    /// Operations take no virtual time.
    immediate: bool,
    fuse: Rc<Fuse>,
}

#[derive(Default)]
struct Fuse {
    calls: Cell<u64>,
    /// Calls that still succeed, if the machine is to go down.
    rest: Cell<Option<u64>>,
    down: Cell<bool>,
}

fn crashed() -> io::Error {
    io::Error::other("the simulated machine went down")
}

impl SimDisk {
    /// Operations take their virtual time: for jobs on a [`SimExecutor`].
    pub fn new(world: &SimWorld) -> SimDisk {
        SimDisk { world: world.clone(), boot: world.boot(), immediate: false, fuse: Rc::default() }
    }

    /// Operations complete at once: for recovery at start, with [`block_on`].
    pub fn immediate(world: &SimWorld) -> SimDisk {
        SimDisk { immediate: true, ..SimDisk::new(world) }
    }

    /// The machine goes down during the call after the next `calls`: that one and all further ones
    /// are errors and do nothing, but a write that is cut off may turn out to have happened in part.
    /// To be followed by [`SimWorld::crash`].
    pub fn fail_after(&self, calls: u64) {
        self.fuse.rest.set(Some(calls));
    }

    /// True once [`SimDisk::fail_after`] has struck.
    pub fn has_failed(&self) -> bool {
        self.fuse.down.get()
    }

    /// Calls so far: run recovery once to learn how many there are, then crash it at each of them.
    pub fn calls(&self) -> u64 {
        self.fuse.calls.get()
    }

    fn with<R>(&self, f: impl FnOnce(&mut SimStorage, &mut Rng) -> R) -> R {
        let mut world = self.world.0.borrow_mut();
        let world = &mut *world;
        f(&mut world.disk, &mut world.rng)
    }

    /// The start of every call. True: the machine goes down during this very call.
    fn enter(&self) -> io::Result<bool> {
        if self.boot != self.world.boot() || self.has_failed() {
            return Err(crashed());
        }
        self.fuse.calls.set(self.fuse.calls.get() + 1);
        let rest = self.fuse.rest.get();
        self.fuse.down.set(rest == Some(0));
        self.fuse.rest.set(rest.map(|rest| rest.saturating_sub(1)));
        Ok(self.has_failed())
    }

    async fn pause(&self, delay_ns: u64) -> io::Result<()> {
        if !self.immediate {
            self.world.sleep(Duration::from_nanos(delay_ns)).await;
        }
        if self.boot == self.world.boot() { Ok(()) } else { Err(crashed()) }
    }

    /// A call that concerns names: wait, then do it at once.
    async fn name_call<R>(
        &self,
        path: &Path,
        call: impl FnOnce(&mut SimStorage) -> io::Result<R>,
    ) -> io::Result<R> {
        if self.enter()? {
            return Err(crashed());
        }
        let (verdict, delay_ns) = self.with(|disk, rng| disk.begin_name(path, rng));
        self.pause(delay_ns).await?;
        verdict?;
        self.with(|disk, _| call(disk))
    }
}

impl Disk for SimDisk {
    async fn create(&self, path: &Path) -> io::Result<FileHandle> {
        self.name_call(path, |disk| disk.create(path)).await
    }

    async fn open(&self, path: &Path) -> io::Result<FileHandle> {
        self.name_call(path, |disk| disk.open(path)).await
    }

    async fn size(&self, file: &FileHandle) -> io::Result<u64> {
        if self.enter()? {
            return Err(crashed());
        }
        self.with(|disk, _| disk.handle_size(file))
    }

    async fn read_at(&self, file: &FileHandle, offset: u64, buf: &mut PageBuf) -> io::Result<usize> {
        if self.enter()? {
            return Err(crashed());
        }
        let (ticket, delay_ns) = self.with(|disk, rng| disk.begin_read(file, buf.len(), rng));
        self.pause(delay_ns).await?;
        self.with(|disk, _| disk.finish_read(ticket, offset, buf))
    }

    async fn write_at(&self, file: &FileHandle, offset: u64, buf: &PageBuf) -> io::Result<()> {
        let last = self.enter()?;
        let (write, mut delay_ns) =
            self.with(|disk, rng| disk.begin_write(file, offset, buf, None, WriteSync::Plain, rng));
        if last {
            return Err(crashed());
        }
        loop {
            self.pause(delay_ns).await?;
            match self.with(|disk, rng| disk.finish_write(write, rng)) {
                WriteProgress::Done(result) => return result,
                WriteProgress::Short(rest_ns) => delay_ns = rest_ns,
            }
        }
    }

    async fn sync(&self, file: &FileHandle) -> io::Result<()> {
        if self.enter()? {
            return Err(crashed());
        }
        let (ticket, delay_ns) = self.with(|disk, rng| disk.begin_sync(file, rng));
        self.pause(delay_ns).await?;
        self.with(|disk, _| disk.finish_sync(ticket))
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.name_call(dir, |disk| disk.sync_dir(dir)).await
    }

    async fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.name_call(dir, |disk| disk.create_dir(dir)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.name_call(from, |disk| disk.rename(from, to)).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.name_call(path, |disk| disk.remove(path)).await
    }

    async fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.name_call(dir, |disk| disk.list(dir)).await
    }

    async fn exists(&self, path: &Path) -> io::Result<bool> {
        self.name_call(path, |disk| Ok(disk.exists(path))).await
    }
}

/// Ready when the virtual clock reaches its time. Made by [`SimWorld::sleep`].
pub struct Sleep {
    pub(super) world: SimWorld,
    pub(super) until: Nanos,
    pub(super) scheduled: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.world.now().mono >= self.until {
            return Poll::Ready(());
        }
        if !self.scheduled {
            self.scheduled = true;
            let due = Due::Waker(context.waker().clone());
            self.world.0.borrow_mut().schedule.at(self.until, due);
        }
        Poll::Pending
    }
}

/// Run a future whose every step is immediate.
///
/// # Panics
/// When it waits for something: it was given a disk that takes time.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("an immediate future waits"),
    }
}

/// A job of a [`SimExecutor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(u64);

type Job = Pin<Box<dyn Future<Output = ()>>>;

/// Runs the jobs of one machine, one step at a time, as the driver of the simulation chooses.
#[derive(Clone)]
pub struct SimExecutor {
    world: SimWorld,
    inner: Rc<RefCell<Jobs>>,
    /// Jobs that can make a step. A `Mutex` because wakers must be `Send`; there is one thread.
    ready: Arc<Mutex<BTreeSet<JobId>>>,
}

struct Jobs {
    boot: u64,
    /// `None` while the job runs.
    jobs: BTreeMap<JobId, Option<Job>>,
    next: u64,
}

struct JobWaker {
    job: JobId,
    ready: Arc<Mutex<BTreeSet<JobId>>>,
}

impl Wake for JobWaker {
    fn wake(self: Arc<Self>) {
        self.ready.lock().expect("no thread panics holding it").insert(self.job);
    }
}

impl SimExecutor {
    pub fn new(world: &SimWorld) -> SimExecutor {
        let jobs = Jobs { boot: world.boot(), jobs: BTreeMap::new(), next: 0 };
        SimExecutor { world: world.clone(), inner: Rc::new(RefCell::new(jobs)), ready: Arc::default() }
    }

    /// Start a job; its first step comes when the driver runs it.
    pub fn spawn(&self, job: impl Future<Output = ()> + 'static) -> JobId {
        self.drop_dead();
        let mut inner = self.inner.borrow_mut();
        inner.next += 1;
        let id = JobId(inner.next);
        inner.jobs.insert(id, Some(Box::pin(job)));
        self.ready.lock().expect("no thread panics holding it").insert(id);
        id
    }

    /// Jobs that can make a step now.
    pub fn ready(&self) -> Vec<JobId> {
        self.drop_dead();
        let inner = self.inner.borrow();
        let ready = self.ready.lock().expect("no thread panics holding it");
        ready.iter().copied().filter(|job| inner.jobs.contains_key(job)).collect()
    }

    /// Jobs that have not ended.
    pub fn job_count(&self) -> usize {
        self.drop_dead();
        self.inner.borrow().jobs.len()
    }

    /// Let a job run until it waits again or ends.
    pub fn run(&self, id: JobId) {
        self.ready.lock().expect("no thread panics holding it").remove(&id);
        let slot = self.inner.borrow_mut().jobs.get_mut(&id).and_then(Option::take);
        let Some(mut job) = slot else { return };
        let waker = Waker::from(Arc::new(JobWaker { job: id, ready: self.ready.clone() }));
        // Nothing is borrowed here: the job may spawn others.
        let done = job.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut inner = self.inner.borrow_mut();
        if done {
            inner.jobs.remove(&id);
        } else if let Some(slot) = inner.jobs.get_mut(&id) {
            *slot = Some(job);
        }
    }

    /// Jobs of a machine that went down are gone.
    fn drop_dead(&self) {
        let boot = self.world.boot();
        let dead = {
            let mut inner = self.inner.borrow_mut();
            if inner.boot == boot {
                return;
            }
            inner.boot = boot;
            self.ready.lock().expect("no thread panics holding it").clear();
            std::mem::take(&mut inner.jobs)
        };
        // Outside the borrow: what a job owns may have a say when it is dropped.
        drop(dead);
    }
}
