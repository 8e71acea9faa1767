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
    /// Requests that were answered.
    Answers,
    Acks,
    RecordsRead,
    Crashes,
    Kills,
    OrderlyStops,
    /// Power loss between the request to stop and its end.
    CrashesWhileStopping,
    /// Power loss while recovery runs.
    CrashesInRecovery,
    /// The end came while a segment was being made, a manifest or a checkpoint written.
    EndsInPreparation,
    EndsInManifest,
    EndsInCheckpoint,
    /// The broker came back with another number of shards.
    ShardsChanged,
    /// Two shards, then one, then two, on the same data.
    ShardsTwoOneTwo,
    /// What power loss did to writes and names that no sync covered.
    WritesLost,
    WritesTorn,
    NamesLost,
    ShortWrites,
    TornTails,
    CleanStarts,
    /// Recovery began at a checkpoint.
    CheckpointsUsed,
    SegmentRolls,
    SegmentsRecycled,
    /// Calls that waited because a shard's box was full.
    CallsWaited,
    ColdReads,
    /// An idempotent batch whose first answer was lost, sent again.
    Retries,
    /// A retry that was answered with the offset of its first copy.
    DuplicatesAnswered,
    ParkedFetchesWoken,
    /// Fetches that went on with a session and named a part of its partitions, or none.
    IncrementalFetches,
    /// Answers to such fetches that were about partitions that they did not name.
    UnnamedPartitionsAnswered,
    /// Connections to the port of a log.
    ConnectionsToLogs,
    ConnectionsReset,
    TopicsCreated,
    TopicsDeleted,
    TopicsGrown,
    RecordsDeleted,
    /// The start of a partition moved although nobody asked for it.
    RetentionMoves,
    OffsetsFoundByTime,
    /// The end of an epoch in which records had been read.
    EpochEndsFound,
    GroupCommits,
    GroupFetches,
    /// The disk was full, and an append was refused.
    DiskFullRefusals,
    /// While the disk was full, records were read.
    DiskFullReads,
    /// Space came back, and a batch that had been refused was taken in the same life.
    DiskFullResumptions,
    /// A log stopped after a failed write or sync.
    FinalStops,
    /// The device failed to read, and the client was told.
    ReadErrors,
    /// Rot within what was durable, which recovery refused; nothing was cut off.
    RotRefused,
    /// A block of another past where the log was durable, which recovery refused as well.
    ForeignBlocksRefused,
    /// A log that was refused, and opened again without what had rotted and what followed.
    Repairs,
    /// Rot in bytes that were never acknowledged, which recovery cut off.
    RotCutOff,
    /// Rot below the checkpoint, which recovery does not look at.
    RotTolerated,
    /// Whoever asked for what lay there was told.
    RotTold,
    /// The newer copy of a checkpoint or manifest was rotten: recovery went back to the older one, or
    /// refused because it does not reach.
    RottenCopiesTolerated,
    RottenCopiesRefused,
    PlainCommits,
    DsyncCommits,
    WriteThenSyncCommits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
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
