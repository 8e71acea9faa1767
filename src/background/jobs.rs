//! The jobs of a log, as they touch the disk. Written once; runs on the background executor, on the
//! simulated disk, and at start-up.

use super::executor;
use crate::io::file::Disk;
use crate::log::space::{Job, JobDone};
use crate::log::{checkpoint, segment};
use crate::model::{LogId, ShardId};
use crate::shard::LogJob;

impl executor::Job for LogJob {
    type Done = (ShardId, LogId, JobDone);

    async fn run<D: Disk>(self, disk: &D) -> Self::Done {
        (self.shard, self.log, run(disk, self.job).await)
    }
}

/// Do a job.
pub async fn run<D: Disk>(disk: &D, job: Job) -> JobDone {
    match job {
        Job::Prepare(slice) => JobDone::Prepared(segment::prepare(disk, slice).await),
        Job::Manifest { dir, manifest } => JobDone::Manifest(manifest.write(disk, &dir).await),
        Job::Checkpoint { dir, generation, bytes } => {
            JobDone::Checkpoint(checkpoint::write(disk, &dir, generation, &bytes).await)
        }
        Job::Remove { path } => JobDone::Removed(disk.remove(&path).await),
    }
}
