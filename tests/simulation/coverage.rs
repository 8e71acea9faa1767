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
    SegmentsRemoved,
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

    // --- Weeks of groups. ---

    /// Days of virtual time.
    Days,
    /// Answers to members, and to who looks at their commits from outside.
    MemberAnswers,
    /// Leaders that were told to assign.
    Rebalances,
    SharesHandedOut,
    SharesByRange,
    SharesByRoundRobin,
    SharesBySticky,
    /// Of members that keep what they own while they join.
    SharesByCooperative,
    /// Of members that could do so, but know an eager protocol as well, and so do not.
    CooperativeSharesOfEager,
    /// Of members that know more than one protocol.
    SharesAmongSeveral,
    /// A process was in a generation of one protocol, and then in one of another.
    ProtocolChanges,
    /// Partitions that members owned while they joined.
    PartitionsKept,
    /// Members that were to give up some of them, and joined once more.
    Revocations,
    CommitsBeforeRevocation,
    MemberCommits,
    MemberOffsetFetches,
    /// Who is in no group asked what groups have committed.
    OffsetsLookedAt,
    MembersDied,
    MembersSlept,
    MembersLeft,
    /// A member whose broker had died was one afterwards, without joining again.
    MembersKeptByRestarts,
    /// Members that died with the broker.
    DiedWithBroker,
    /// The broker went while members joined or waited for their shares.
    EndsInRebalance,
    /// A static member came back to the generation that it had left, and nobody was rebalanced.
    StaticReturns,
    /// A static leader came back, and was told that what it had assigned holds.
    AssignmentsSkipped,
    /// Who had slept longer than its session, or than a rebalance takes, went on committing, and was refused.
    ZombiesFenced,
    /// Refused commits of who was in a generation that was over.
    CommitsOfOldGenerations,
    CommitsRefusedByGeneration,
    CommitsOfStrangers,
    /// Those of a process that another had replaced.
    CommitsOfReplaced,
    /// Its log did not take it, or the broker was stopping.
    CommitsNotStored,
    InstancesFenced,
    GroupLogsFailed,
    /// Nobody ran for a while, as on a machine that is suspended.
    Suspensions,
    /// The faults ended, and everybody had its share.
    Convergences,
    /// The same without one that had died, perhaps with the broker.
    TakeOvers,
}

impl Event {
    /// Is it met in the weeks of groups, and not in the other stories?
    pub fn is_of_weeks(self) -> bool {
        self as usize >= Event::Days as usize
    }
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

    /// Events of some kind that were not met.
    pub fn missing(&self, kind: impl Fn(Event) -> bool) -> Vec<Event> {
        Event::ALL.iter().copied().filter(|event| kind(*event) && self.get(*event) == 0).collect()
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut met = Event::ALL.iter().filter(|event| self.get(**event) > 0);
        met.try_for_each(|event| writeln!(f, "  {:>12} {event:?}", self.get(*event)))
    }
}
