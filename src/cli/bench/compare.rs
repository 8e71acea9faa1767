//! `ringmq bench compare A.json B.json`: is B worse than A?

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::bench::compare::compare;
use crate::bench::output;

#[derive(Args, Debug)]
pub struct CompareArgs {
    /// What it was: a result.json or its folder.
    before: PathBuf,
    /// What it is.
    after: PathBuf,
    /// A change of less is not called a change.
    #[arg(long, default_value_t = 5.0, value_name = "PERCENT")]
    threshold: f64,
}

impl CompareArgs {
    /// # Errors
    /// A result cannot be read; the second is worse than the first, or cannot be compared with it.
    pub fn run(self) -> anyhow::Result<()> {
        let (before, after) = (output::read(&self.before)?, output::read(&self.after)?);
        let comparison = compare(&before, &after, self.threshold / 100.0);
        print!("{comparison}");
        if comparison.failed() {
            let (before, after) = (self.before.display(), self.after.display());
            bail!("{after} is worse than {before} or must not be compared with it: see above");
        }
        Ok(())
    }
}
