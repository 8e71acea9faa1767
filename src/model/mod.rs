//! The words that every layer shares. Distinct types for things that must not be confused.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Numbers the records of a partition, from 0.
    Offset(i64)
}
number! {
    /// A byte of a log, counted from the log's first. An identity, not a place: it never changes,
    /// and in which file its byte lies today is the manifest's knowledge alone.
    Position(u64)
}
number! {
    /// A log of this data directory. Log 0 is the metadata log; the others hold partitions.
    LogId(u32)
}
number! {
    /// A shard: one thread, one ring. Unlike a [`LogId`] it means nothing after a restart.
    ShardId(u16)
}
number! {
    /// Names a partition inside one log. Never reused, so that a topic which was deleted and made
    /// again cannot meet its past.
    Slot(u32)
}
number! {
    /// How often a log was opened: the raft term to come, and the leader epoch that Kafka clients see.
    Term(u32)
}
number! {
    /// Monotonic time in nanoseconds since an arbitrary start: for durations and deadlines.
    Nanos(u64)
}
number! {
    /// Wall-clock time in milliseconds since 1970, UTC: for timestamps of records and retention.
    WallMs(i64)
}
number! {
    /// An idempotent producer, as handed out by `InitProducerId`.
    ProducerId(i64)
}

/// Identifies a topic for ever; a topic that is deleted and made again gets another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

/// A partition of a topic. A RocketMQ queue is the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    pub topic: TopicId,
    pub index: i32,
}

impl LogId {
    /// Topics, placement, producer-id blocks.
    pub const METADATA: LogId = LogId(0);
}

impl Offset {
    pub const ZERO: Offset = Offset(0);

    /// The offset `count` records further on.
    #[inline]
    pub fn plus(self, count: u32) -> Offset {
        Offset(self.0 + i64::from(count))
    }

    /// The same, for whoever follows a count that a peer claims; `None` where there are no offsets any more.
    #[inline]
    pub fn checked_plus(self, count: u32) -> Option<Offset> {
        self.0.checked_add(i64::from(count)).map(Offset)
    }
}

impl Position {
    pub const ZERO: Position = Position(0);

    /// No log gets this far: at 10 GB a second it takes 29 years. What claims more is rotten, and sums
    /// of believed positions do not overflow.
    pub const MAX: Position = Position(1 << 63);

    #[inline]
    pub fn plus(self, bytes: u64) -> Position {
        Position(self.0 + bytes)
    }

    /// Bytes from `earlier` to here.
    #[inline]
    pub fn since(self, earlier: Position) -> u64 {
        assert!(self >= earlier, "{earlier} is not before {self}");
        self.0 - earlier.0
    }
}

impl Term {
    /// Clients see terms as signed numbers, and every start begins another. What claims a later one is
    /// rotten.
    pub const MAX: Term = Term(i32::MAX as u32 - 1);
}

impl Nanos {
    #[inline]
    pub fn plus(self, duration: std::time::Duration) -> Nanos {
        Nanos(self.0.saturating_add(duration.as_nanos() as u64))
    }

    /// The next multiple of `step` from here on, which may be here.
    pub fn round_up(self, step: std::time::Duration) -> Nanos {
        let step = step.as_nanos() as u64;
        Nanos(self.0.div_ceil(step).saturating_mul(step))
    }

    /// Nanoseconds from `earlier` to here; 0 when `earlier` is later.
    #[inline]
    pub fn since(self, earlier: Nanos) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The time of a turn: every handler of the turn sees the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub mono: Nanos,
    pub wall: WallMs,
}

/// How a commit becomes durable; chosen by measurement when the data directory is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// The device has no volatile write cache: a completed write is durable.
    Plain,
    /// Each write carries `RWF_DSYNC`.
    Dsync,
    /// Writes, then one data sync for all that have completed.
    WriteThenSync,
}

impl CommitMode {
    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            CommitMode::Plain => "plain",
            CommitMode::Dsync => "dsync",
            CommitMode::WriteThenSync => "write-sync",
        }
    }
}
