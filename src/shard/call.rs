//! What a front end asks of the shard that hosts a log, and what it hears back.
//!
//! A call travels by mail when the log is hosted elsewhere; the front end does not notice. It knows
//! no client protocol: error codes are the front ends' business.

use bytes::Bytes;

use crate::io::op::ConnId;
use crate::log::entry::EntryHeader;
use crate::log::read::PastWork;
use crate::metadata::topic_config::ConfigChange;
use crate::model::{Nanos, Offset, PartitionKey, ProducerId, Term, TopicId};
use crate::partition::group_offsets::commit_bytes_max;

/// Who waits for an answer: a part of a request of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub conn: ConnId,
    /// Numbers the requests of the connection.
    pub request: u64,
    /// Which of the request's calls.
    pub part: u32,
}

#[derive(Debug)]
pub enum Call {
    /// Append a batch that was checked at the edge; answered when it is durable.
    Append {
        partition: PartitionKey,
        batch: Bytes,
    },
    /// Read whole batches from several partitions of one log. Answered at once.
    Read {
        partitions: Vec<ReadPart>,
        bytes_max: usize,
        /// Of a batch that is larger than `bytes_max`, too.
        at_least_one: bool,
        /// Wake whoever asks when a partition that it has read to the end has more; and if all that was
        /// read is less than so many bytes, when any has.
        park: Option<usize>,
    },
    ListOffset {
        partition: PartitionKey,
        spec: OffsetSpec,
    },
    /// The end of the largest term at or below `term` (Kafka's OffsetForLeaderEpoch).
    TermEnd {
        partition: PartitionKey,
        term: Term,
    },
    /// Move the partition's start to `before` (`None`: its end).
    DeleteRecords {
        partition: PartitionKey,
        before: Option<Offset>,
    },
    /// How many bytes of the log partitions take; those of all its partitions if `None`.
    PartitionSizes {
        partitions: Option<Vec<PartitionKey>>,
    },
    /// The idempotent producers that a partition remembers.
    ListProducers {
        partition: PartitionKey,
    },
    /// What a group's coordinator does.
    Group {
        group: String,
        call: GroupCall,
    },
    /// All groups of the log.
    ListGroups,
    /// `None`: all that the group has.
    FetchOffsets {
        group: String,
        partitions: Option<Vec<PartitionKey>>,
    },
    /// To the metadata log: answered when every shard knows.
    Admin(AdminCall),
}

impl Call {
    /// The answer is about all that a log, a partition or a group has of something, however little was asked.
    pub fn is_about_all(&self) -> bool {
        matches!(
            self,
            Call::ListGroups
                | Call::PartitionSizes { partitions: None }
                | Call::ListProducers { .. }
                | Call::FetchOffsets { partitions: None, .. }
        )
    }

    /// If the call appends to the log: about how many bytes, for which there must be room. Groups wait
    /// by themselves for what they store.
    pub fn appended_bytes(&self) -> Option<usize> {
        match self {
            Call::Append { batch, .. } => Some(EntryHeader::entry_bytes(batch.len())),
            Call::Group { group, call: GroupCall::Commit { offsets, .. } } => {
                Some(EntryHeader::entry_bytes(commit_bytes_max(group, offsets)))
            }
            Call::DeleteRecords { .. }
            | Call::Group { call: GroupCall::Delete | GroupCall::DeleteOffsets(_), .. } => Some(0),
            Call::Group { .. }
            | Call::Read { .. }
            | Call::ListOffset { .. }
            | Call::TermEnd { .. }
            | Call::PartitionSizes { .. }
            | Call::ListProducers { .. }
            | Call::FetchOffsets { .. }
            | Call::ListGroups
            | Call::Admin(_) => None,
        }
    }

    /// Its answer may wait for what other clients do, or for their silence: for minutes.
    pub fn waits_for_others(&self) -> bool {
        matches!(self, Call::Group { call: GroupCall::Join(_) | GroupCall::Sync(_), .. })
    }

    /// It looks into batches, which may take more than a turn.
    pub fn is_lookup(&self) -> bool {
        matches!(self, Call::ListOffset { spec, .. } if spec.is_lookup())
    }
}

/// What is asked of one group.
#[derive(Debug)]
pub enum GroupCall {
    /// Answered when the group's next generation begins.
    Join(Box<JoinCall>),
    /// Answered when the leader's assignments are durable.
    Sync(Box<SyncCall>),
    Heartbeat(MemberRef),
    Leave(Vec<Leaving>),
    /// Store offsets; answered when they are durable.
    Commit {
        who: MemberRef,
        offsets: Vec<CommittedOffset>,
    },
    Describe,
    /// Forget a group without members; answered when that is durable.
    Delete,
    /// Forget offsets of these partitions, which are given with their topics' names.
    DeleteOffsets(Vec<(String, PartitionKey)>),
}

/// Changes of the metadata log. Each is answered when it is durable and every shard has applied it.
#[derive(Debug)]
pub enum AdminCall {
    CreateTopic {
        name: String,
        /// -1: the broker's default.
        partitions: i32,
        /// 1, or -1 for the default.
        replication: i16,
        configs: Vec<(String, Option<String>)>,
        validate_only: bool,
    },
    DeleteTopic {
        topic: TopicId,
    },
    /// Grow the topic to `count` partitions.
    AddPartitions {
        topic: TopicId,
        count: i32,
        validate_only: bool,
    },
    AlterConfigs {
        topic: TopicId,
        changes: ConfigChanges,
        validate_only: bool,
    },
    /// A block of producer ids for the shard that asks.
    AllocateProducerIds,
}

/// What a topic's configs shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChanges {
    /// These are all that are set.
    Replace(Vec<(String, String)>),
    /// These change, the others stay.
    Each(Vec<ConfigChange>),
}

#[derive(Clone, Copy, Debug)]
pub struct ReadPart {
    pub partition: PartitionKey,
    pub offset: Offset,
    pub bytes_max: usize,
    /// Comes back when whoever asks is woken: [`Waiter::part`](crate::partition::waiters::Waiter::part).
    pub waiter: u32,
}

/// Which offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    Earliest,
    /// One past the last record that readers may see.
    Latest,
    /// Of the first record with this timestamp or a later one, in milliseconds since 1970.
    AtOrAfter(i64),
    /// Of the record with the largest timestamp.
    MaxTimestamp,
}

impl OffsetSpec {
    /// Only records can tell.
    pub fn is_lookup(self) -> bool {
        match self {
            OffsetSpec::AtOrAfter(_) | OffsetSpec::MaxTimestamp => true,
            OffsetSpec::Earliest | OffsetSpec::Latest => false,
        }
    }
}

pub use crate::group::call::{
    Described, GroupError, JoinCall, Joined, Leaving, Listed, MemberRef, StateName, SyncCall, Synced,
};
pub use crate::partition::group_offsets::CommittedOffset;
pub use crate::partition::producer_state::ActiveProducer;

/// Why a call was not done. Each front end maps it to its own codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("this broker has no such partition")]
    UnknownPartition,
    #[error("offset is outside {start}..={end}")]
    OutOfRange { start: Offset, end: Offset },
    #[error("the batch does not continue the producer's sequence: expected {expected}, got {got}")]
    SequenceGap { expected: i32, got: i32 },
    #[error("the producer's epoch is older than the one known")]
    StaleProducerEpoch,
    #[error("the batch does not fit in a segment")]
    TooLarge,
    #[error("the partition has no offsets left for so many records")]
    OffsetsUsedUp,
    /// No space, or no memory; worth another try.
    #[error("the log cannot take more at the moment: {0}")]
    Full(&'static str),
    /// A write or read of the device failed, or what was read is not what was written.
    #[error("the log's storage failed")]
    Storage,
    #[error(transparent)]
    Group(#[from] GroupError),
}

/// Why a change of the metadata was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    #[error("topic already exists")]
    TopicExists,
    #[error("{0}")]
    InvalidName(String),
    #[error("{0}")]
    InvalidPartitions(String),
    #[error("{0}")]
    InvalidReplication(String),
    #[error("{0}")]
    InvalidConfig(String),
    /// Understood, but refused here.
    #[error("{0}")]
    Policy(String),
    #[error("no such topic")]
    UnknownTopic,
    #[error(transparent)]
    Log(#[from] CallError),
}

#[derive(Debug)]
pub enum Answer {
    Appended(Result<AppendedBatch, CallError>),
    /// One result for each partition asked for, in order.
    Read(Vec<ReadResult>),
    /// `None`: no record fits. The timestamp is -1 where it has no meaning.
    ListOffset(Result<Option<FoundOffset>, CallError>),
    /// The term found and the end of it; `None` if the partition knows no such term.
    TermEnd(Result<Option<(Term, Offset)>, CallError>),
    /// The partition's start afterwards.
    DeleteRecords(Result<Offset, CallError>),
    /// Of the partitions that have records here; the others take nothing.
    PartitionSizes(Result<Vec<(PartitionKey, u64)>, CallError>),
    /// By id.
    Producers(Result<Vec<ActiveProducer>, CallError>),
    CommitOffsets(Result<(), CallError>),
    Joined(Box<Result<Joined, CallError>>),
    Synced(Result<Synced, CallError>),
    Heartbeat(Result<(), CallError>),
    /// One result for each who leaves.
    Left(Result<Vec<Result<(), GroupError>>, CallError>),
    ListGroups(Vec<Listed>),
    /// `None`: there is no such group.
    DescribeGroup(Option<Described>),
    DeleteGroup(Result<(), CallError>),
    /// One result for each partition.
    DeleteOffsets(Result<Vec<Result<(), GroupError>>, CallError>),
    FetchOffsets(Result<Vec<CommittedOffset>, CallError>),
    CreateTopic(Result<CreatedTopic, AdminError>),
    DeleteTopic(Result<(), AdminError>),
    AddPartitions(Result<(), AdminError>),
    AlterConfigs(Result<(), AdminError>),
    /// First id and how many.
    ProducerIds(Result<(ProducerId, u32), AdminError>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedBatch {
    pub base_offset: Offset,
    /// Milliseconds since 1970 on topics with log-append time, else -1.
    pub log_append_time: i64,
    pub log_start: Offset,
    pub stamps: AppendStamps,
}

/// When a batch got on, by the clock that all shards share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendStamps {
    /// The log's shard appended it.
    pub appended: Nanos,
    /// Its block was submitted; 0 if it did not have to wait for one.
    pub submitted: Nanos,
    /// Its block was completed, likewise.
    pub completed: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    pub offset: Offset,
    pub timestamp: i64,
    pub term: Term,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Zero when it was only validated.
    pub id: TopicId,
    pub partitions: i32,
}

#[derive(Debug, Default)]
pub struct ReadResult {
    pub error: Option<CallError>,
    pub high_watermark: Offset,
    pub log_start: Offset,
    pub records: Vec<Bytes>,
    pub bytes: usize,
    /// One past the last record: where the next read goes on.
    pub next: Offset,
    /// Some of the records come from the tail.
    pub fresh: bool,
    /// About so many bytes more are there, but must be read from the device first; they are being read.
    pub loading_bytes: usize,
    /// Nothing was found because it has left the tail, and was not to be looked for
    /// ([`ReadLimits::past`](crate::log::read::ReadLimits)).
    pub past: bool,
    pub past_work: PastWork,
}

impl ReadResult {
    pub fn is_loading(&self) -> bool {
        self.loading_bytes > 0
    }
}
