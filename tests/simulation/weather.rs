//! What goes wrong in a life of the broker, and when.

use std::time::Duration;

use ringmq::io::sim::{DiskCall, Fault, FaultKind, Rng, When};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// The disk is full from now on.
    DiskFull,
    SpaceReturns,
    /// The disk fills, appends are refused, space returns, and they are taken: one after the other.
    DiskFills,
    /// A write to a segment fails.
    WriteFails,
    SyncFails,
    ReadsFail,
    ReadsWork,
    JobsFail,
    Slow,
    /// Towards the life's end syncs take long, and much is written meanwhile.
    SyncsStall,
    Short,
    Reset,
    TimeJumps,
}

/// What happens in the next life, each at a share of it.
pub fn forecast(rng: &mut Rng) -> Vec<(f64, Weather)> {
    let mut weather = Vec::new();
    for _ in 0..rng.below(4) {
        let share = rng.below(1000) as f64 / 1000.0;
        match rng.below(14) {
            0 => {
                weather.extend([(share * 0.5, Weather::DiskFull), (0.4 + share * 0.5, Weather::SpaceReturns)])
            }
            1 => weather.push((share, Weather::DiskFills)),
            2 => weather.push((share, Weather::WriteFails)),
            3 => weather.push((share, Weather::SyncFails)),
            4 | 5 => {
                weather.extend([(share * 0.7, Weather::ReadsFail), (share * 0.7 + 0.3, Weather::ReadsWork)])
            }
            6 => weather.push((share, Weather::JobsFail)),
            7 | 8 => weather.push((share, Weather::Slow)),
            9 => weather.push((share, Weather::Short)),
            10 => weather.push((0.8 + share * 0.2, Weather::SyncsStall)),
            11 | 12 => weather.push((share, Weather::Reset)),
            _ => weather.push((share, Weather::TimeJumps)),
        }
    }
    weather
}

impl Weather {
    /// The fault of the disk that this is, if it is one.
    pub fn fault(self, rng: &mut Rng) -> Option<Fault> {
        let nth = When::Nth(rng.between(1, 20));
        let log = *rng.pick(&["log-0", "log-1", "log-2"]);
        let (part, call, when, kind) = match self {
            Weather::WriteFails => (log, DiskCall::Write, nth, FaultKind::Eio),
            Weather::SyncFails => (log, DiskCall::Sync, nth, FaultKind::Eio),
            Weather::ReadsFail => ("segment", DiskCall::Read, When::OneIn(3), FaultKind::Eio),
            Weather::JobsFail => {
                let part = *rng.pick(&["manifest", "checkpoint", "segment"]);
                let call = *rng.pick(&[DiskCall::Write, DiskCall::Sync, DiskCall::Name]);
                (part, call, When::Nth(1), FaultKind::Eio)
            }
            Weather::Slow => {
                let call = *rng.pick(&[DiskCall::Write, DiskCall::Sync, DiskCall::Read]);
                let by = Duration::from_micros(rng.between(100, 20_000));
                ("", call, When::OneIn(10), FaultKind::Slow(by))
            }
            Weather::SyncsStall => {
                let by = Duration::from_millis(rng.between(10, 50));
                ("segment", DiskCall::Sync, When::Always, FaultKind::Slow(by))
            }
            Weather::Short => ("", DiskCall::Write, When::OneIn(3), FaultKind::Short),
            Weather::DiskFull
            | Weather::SpaceReturns
            | Weather::DiskFills
            | Weather::ReadsWork
            | Weather::Reset
            | Weather::TimeJumps => return None,
        };
        Some(Fault { path_part: part.to_owned(), call, when, kind })
    }
}
