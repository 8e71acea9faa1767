//! Rules that a test may break, to see whether it is noticed.
//!
//! Each [`Mutant`] is a broker that breaks one rule. Where the rule is kept, the code asks [`is`], which
//! is `false` at compile time but for the feature `mutants`; then it is what the thread has been told
//! by [`set`]. `make sim-mutants` plays each of them until it is caught: on the simulated machine, and those of
//! groups once more in the weeks of `group`'s tests.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` is for tests: a broker that is built with it can break its promises");

macro_rules! mutants {
    ($($(#[$doc:meta])* $mutant:ident,)*) => {
        /// A broken rule: what the broker does instead, and the promise that falls with it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[$doc])* $mutant,)*
        }

        impl Mutant {
            pub const ALL: &[Mutant] = &[$(Mutant::$mutant,)*];
        }
    };
}

mutants! {
    // --- Acks. ---

    /// Producers hear of a batch when it is appended: power loss takes what was acknowledged.
    AckBeforeDurable,
    /// A completed write counts for the oldest one in flight: what is acknowledged may lie behind a
    /// hole, where recovery ends.
    TakeWritesInOrder,
    /// A block counts as durable when it is written, not when it is synced.
    AckBeforeSync,
    /// Blocks of a log that commits by synchronous writes are written like any other.
    WriteWithoutDsync,
    /// The sync goes to the newest segment, although blocks of the one before wait for theirs.
    SyncNewestSegmentOnly,
    /// A failed write counts as written.
    IgnoreFailedWrite,
    /// A failed sync counts as done.
    IgnoreFailedSync,
    /// When a log has failed, those who wait hear that all went well.
    AckAfterFailure,
    /// The retry of a batch in flight is answered before that is durable.
    AckRetryEarly,
    /// Readers are told of what is appended: a high watermark goes back with the next power loss.
    ShowAppended,
    /// Changes of the metadata are applied and answered before they are durable: topics vanish, and
    /// producer ids are given twice.
    AnswerMetadataEarly,

    // --- Recovery. ---

    /// A block counts when its header is whole: torn entries are served.
    SkipBlockCrc,
    /// Blocks of a segment's life before it was recycled are taken for this log's later ones: a torn
    /// tail is refused as corruption.
    SkipPositionCheck,
    /// Whatever lies behind a torn block counts as corruption: a power loss makes the log unusable.
    RefuseTornTail,
    /// Recovery relies on blocks that only a cache has.
    SkipWriteBack,
    /// The block that opens a term is not synced: what follows it may lie behind a hole.
    OpenTermUnsynced,
    /// More is in flight than recovery assumes: lost blocks look like corruption.
    IgnoreWindow,
    /// Rot that lies farther back than writes can have been in flight is cut off like a torn tail.
    TruncateRot,
    /// A block counts whatever it followed when it was written. Within one past of a log, position and term
    /// tell blocks apart; the chain is what tells files that were put together from two.
    SkipChainCheck,
    /// What a checkpoint says of the last term is not read: where the manifest does not know it either, it
    /// is given again.
    ForgetCheckpointTerm,
    /// The manifest does not hear of a term before its first block: when a repair cuts its blocks off, it is
    /// given again.
    ForgetManifestTerm,
    /// Recovery does not read that records were deleted: they are back.
    ForgetLogStart,
    /// Checkpoints lack the producers: a retry after a restart is stored twice.
    ForgetProducers,
    /// Checkpoints lack what groups committed.
    ForgetGroupOffsets,

    // --- Space. ---

    /// A segment is recycled before a checkpoint covers what is gone with it.
    RecycleAboveCheckpoint,
    /// A segment is recycled although records in it are alive.
    RecycleLiveSegment,
    /// A segment is written to before the manifest that lists it is durable.
    UseSegmentBeforeManifest,
    /// A segment's file is removed before the manifest that lacks it is durable.
    RemoveBeforeManifest,
    /// A new segment is neither synced nor its name.
    SkipSegmentSync,
    /// The manifest counts as durable when it is written.
    SkipManifestSync,
    /// The checkpoint counts as durable when it is written: segments go that recovery then lacks.
    SkipCheckpointSync,
    /// A checkpoint overwrites the one that counts: torn, it leaves none.
    CheckpointInPlace,

    // --- Partitions. ---

    /// A new partition gets the slot of a deleted one, and meets its past.
    ReuseSlot,
    /// Retries of an idempotent producer are appended again.
    SkipDuplicateCheck,
    /// Batches keep the offsets that their producer gave them.
    KeepClientOffsets,
    /// Deleting a run's first records deletes all of them.
    DropWholeRun,
    /// The front of a chunk that is still in memory is read from the device, and later served in
    /// place of the whole.
    ReadOpenChunkFromDevice,
    /// The search for a time ends with the first run that may hold it.
    SearchOneRun,
    /// What became durable between two fetches of a session is not noticed: its consumer waits for ever.
    ForgetWoken,
    /// Other shards do not hear of changed metadata: they deny topics that a client was told of.
    ApplyOnOneShard,

    // --- Groups. ---

    /// A member syncs in a generation that is over, and takes the assignment of the present one for its own.
    SyncStaleGeneration,
    /// Members of a generation that is over commit over those that have their partitions now.
    CommitStaleGeneration,
    /// A generation keeps the number of the one before: a partition has two owners in it.
    KeepGeneration,
    /// Whoever syncs first assigns, not the leader: nobody has anything.
    AssignByAnyone,
    /// Members hear of assignments that are not durable: a restart forgets what they own.
    HandOutUnstored,
    /// The process that a static member has replaced goes on as if nothing had happened.
    AdmitReplacedMember,
    /// The new id of a static member is not stored: after a restart it is fenced as the older one.
    ForgetReplacement,
    /// It is stored only while the group is stable: a static member that is told of it in a rebalance is fenced if
    /// the broker restarts before that ends.
    TellUnstoredId,
    /// Nobody is missed: what a dead member had is read by nobody.
    ForgetSilence,
    /// Nobody is missed who has died before a restart.
    ForgetRestoredSessions,
    /// Who leaves stays a member until its session ends.
    KeepLeaver,
    /// The protocol that most prefer is chosen, whether or not all know it: the leader cannot read what some say.
    ChooseUnsupported,
    /// What a member said when it came counts for ever: the leader takes for free what it owns by now.
    KeepMetadata,
}

impl Mutant {
    /// Those of the group machine: only where groups have members can they be noticed.
    pub const OF_GROUPS: &[Mutant] = &[
        Mutant::SyncStaleGeneration,
        Mutant::CommitStaleGeneration,
        Mutant::KeepGeneration,
        Mutant::AssignByAnyone,
        Mutant::HandOutUnstored,
        Mutant::AdmitReplacedMember,
        Mutant::ForgetReplacement,
        Mutant::TellUnstoredId,
        Mutant::ForgetSilence,
        Mutant::ForgetRestoredSessions,
        Mutant::KeepLeaver,
    ];

    /// The same where members also say what they own, or know several protocols.
    pub const OF_PROTOCOLS: &[Mutant] = &[Mutant::ChooseUnsupported, Mutant::KeepMetadata];
}

/// Is this rule broken now?
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn is(_: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use switch::{is, now, set};

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        // A simulation stays on its thread, so several mutants are played side by side.
        static NOW: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Is this rule broken now, on this thread?
    pub fn is(mutant: Mutant) -> bool {
        now() == Some(mutant)
    }

    /// The rule that is broken on this thread.
    pub fn now() -> Option<Mutant> {
        NOW.get()
    }

    /// From now on this rule is broken on this thread, and no other.
    pub fn set(mutant: Option<Mutant>) {
        NOW.set(mutant);
    }
}
