//! What the seeds of a run have met. A simulation that claims to cover something asserts that it did.

macro_rules! events {
    ($($(#[$doc:meta])* $event:ident,)*) => {
        /// Something worth meeting.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Event {
            $($(#[$doc])* $event,)*
        }

        impl Event {
            pub const ALL: &[Event] = &[$(Event::$event,)*];
        }
    };
}

events! {
    Requests,
    Acks,
    RecordsRead,
    Crashes,
    Kills,
    OrderlyStops,
    /// Power loss between the request to stop and its end.
    CrashesWhileStopping,
    /// Power loss while recovery runs.
    CrashesInRecovery,
    /// The broker came back with another number of shards.
    ShardsChanged,
    TornTails,
    CleanStarts,
    /// Recovery began at a checkpoint.
    CheckpointsUsed,
    SegmentRolls,
    SegmentsRecycled,
    ColdReads,
    /// An idempotent batch whose first answer was lost, sent again.
    Retries,
    /// A retry that was answered with the offset of its first copy.
    DuplicatesAnswered,
    ParkedFetchesWoken,
    ConnectionsReset,
    TopicsCreated,
    TopicsDeleted,
    RecordsDeleted,
    /// The start of a partition moved although nobody asked for it.
    RetentionMoves,
    OffsetsFoundByTime,
    GroupCommits,
    GroupFetches,
    DiskFullRefusals,
    /// Appends were refused for want of space, and taken again later in the same life.
    DiskFullResumptions,
    /// A log stopped after a failed write or sync.
    FinalStops,
    /// A read failed and the client was told.
    ReadErrors,
    /// Rot that recovery refused.
    RotRefused,
    /// Rot that recovery did not look at: reads of it failed, or nobody needed it.
    RotTolerated,
    PlainCommits,
    DsyncCommits,
    WriteThenSyncCommits,
}

#[derive(Clone, Debug)]
pub struct Coverage {
    counts: Vec<u64>,
}

impl Coverage {
    pub fn new() -> Coverage {
        Coverage { counts: vec![0; Event::ALL.len()] }
    }

    pub fn count(&mut self, event: Event) {
        self.add(event, 1);
    }

    pub fn add(&mut self, event: Event, count: u64) {
        self.counts[event as usize] += count;
    }

    pub fn get(&self, event: Event) -> u64 {
        self.counts[event as usize]
    }

    pub fn merge(&mut self, other: &Coverage) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
    }

    pub fn missing(&self) -> Vec<Event> {
        Event::ALL.iter().copied().filter(|event| self.get(*event) == 0).collect()
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Event::ALL.iter().try_for_each(|event| writeln!(f, "  {:>12} {event:?}", self.get(*event)))
    }
}
