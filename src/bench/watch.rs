//! The broker, looked at when the measured time begins and when it ends: what it used, and where it says
//! the time went. What a warm-up cost is in neither.

use std::net::SocketAddr;

use super::options::Options;
use super::process::{self, Usage, Used};
use super::stages::{self, Reading, Stages};

pub struct Watch {
    pid: Option<u32>,
    admin: Option<SocketAddr>,
    measured_from_s: u64,
    end_s: u64,
    begin: Look,
    usage_at_end: Option<Usage>,
}

/// What was seen at one moment.
#[derive(Default)]
struct Look {
    usage: Option<Usage>,
    stages: Option<Reading>,
}

impl Watch {
    /// Without a warm-up, the measured time begins with the load.
    pub fn new(options: &Options) -> Watch {
        let mut watch = Watch {
            pid: options.broker_pid,
            admin: options.admin,
            measured_from_s: options.measured_from_s(),
            end_s: options.end_s(),
            begin: Look::default(),
            usage_at_end: None,
        };
        if watch.measured_from_s == 0 {
            watch.begin = watch.look();
        }
        watch
    }

    /// To be called second by second, as they pass.
    pub fn second_is_over(&mut self, second: u64) {
        if second + 1 == self.measured_from_s {
            self.begin = self.look();
        } else if second + 1 == self.end_s {
            // Reading back comes after this, and is not what was measured.
            self.usage_at_end = self.usage();
        }
    }

    /// When everything is answered. `None` for what was not seen, or began anew in between.
    pub fn found(self) -> (Option<Used>, Option<Stages>) {
        let usage = self.usage_at_end.or_else(|| self.usage());
        let used = self.begin.usage.zip(usage).map(|(before, after)| after.since(&before));
        // Answered after the end, and due before it: these requests belong to it.
        let reading = self.admin.and_then(|admin| stages::fetch(admin).ok());
        let stages = self.begin.stages.zip(reading);
        (used, stages.and_then(|(before, after)| Stages::between(&before, &after)))
    }

    fn look(&self) -> Look {
        let stages = self.admin.and_then(|admin| stages::fetch(admin).ok());
        Look { usage: self.usage(), stages }
    }

    fn usage(&self) -> Option<Usage> {
        self.pid.and_then(process::usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_is_not_looked_at() {
        let options = |warmup_s| Options {
            broker_pid: Some(std::process::id()),
            warmup_s,
            seconds: 3,
            ..Options::default()
        };
        for (warmup_s, seconds, seen) in [
            (2, &[][..], false),
            (2, &[0], false),
            (2, &[0, 1], true),
            (2, &[0, 1, 2, 3, 4], true),
            (0, &[], true),
        ] {
            let mut watch = Watch::new(&options(warmup_s));
            seconds.iter().for_each(|&second| watch.second_is_over(second));
            assert_eq!(watch.usage_at_end.is_some(), seconds.contains(&4), "{seconds:?}");
            assert_eq!(watch.found().0.is_some(), seen, "{warmup_s} {seconds:?}");
        }
    }
}
