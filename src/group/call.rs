//! What members ask of their group, and what they hear.

use std::time::Duration;

use bytes::Bytes;

/// A member wants to take part in the next generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinCall {
    /// Empty for somebody new.
    pub member: String,
    /// The name that a static member keeps over its restarts.
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// A member that is silent for so long is gone.
    pub session_timeout: Duration,
    /// How long a rebalance waits for this member.
    pub rebalance_timeout: Duration,
    /// What kind of group it is: `consumer`, `connect`.
    pub protocol_type: String,
    /// Ways of assigning, the best first, each with what the member says under it.
    pub protocols: Vec<(String, Bytes)>,
    /// Somebody new is told its id and must come again with it (KIP-394).
    pub needs_id: bool,
    /// A static leader that comes back can be told to keep the assignment (KIP-814).
    pub can_skip: bool,
}

/// Who somebody says to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRef {
    pub member: String,
    pub instance: Option<String>,
    pub generation: i32,
}

/// A member of a generation, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member: String,
    pub instance: Option<String>,
    /// What it says under the chosen protocol.
    pub metadata: Bytes,
}

/// The member belongs to this generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub member: String,
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    /// For the leader alone.
    pub members: Vec<JoinedMember>,
    /// The leader need not assign: what was assigned holds.
    pub skip_assignment: bool,
}

/// A member waits for its assignment; the leader brings everybody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncCall {
    pub who: MemberRef,
    /// What the member believes; refused if it is wrong.
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// Of the leader: by member id.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

/// A member leaves, or somebody sends away a static one: then `member` is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    pub member: String,
    pub instance: Option<String>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub group: String,
    /// Empty where only offsets are kept.
    pub protocol_type: String,
    pub state: StateName,
}

/// A group as tools show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub state: StateName,
    pub protocol_type: String,
    /// Empty unless the group is stable, as are the members' metadata and assignments.
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateName {
    Empty,
    Preparing,
    Completing,
    Stable,
}

/// Why a group did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("there is no such group")]
    UnknownGroup,
    #[error("the group does not know this member")]
    UnknownMember,
    #[error("another member has taken over the instance id")]
    FencedInstance,
    #[error("the group is in another generation")]
    IllegalGeneration,
    #[error("the group is being rebalanced: join again")]
    RebalanceInProgress,
    #[error("the member shares no protocol with the group")]
    InconsistentProtocol,
    #[error("the session timeout is outside of what the broker allows")]
    InvalidSessionTimeout,
    /// Not a refusal: the id to come again with.
    #[error("join again as {member}")]
    MemberIdRequired { member: String },
    /// For ever: it would be so without all other groups.
    #[error("the group has as many members, or as much metadata, as it may")]
    GroupFull,
    /// Worth another try: others may go.
    #[error("all groups of the log together take as much memory as they may")]
    GroupsFull,
    #[error("the assignments are larger than a group may keep")]
    AssignmentTooLarge,
    #[error("the offsets are more than a group may keep, together with its members")]
    OffsetsTooLarge,
    #[error("the group has members")]
    NotEmpty,
    #[error("the group is subscribed to the topic")]
    Subscribed,
    /// The group's log did not take the change. Worth another try.
    #[error("the change of the group could not be stored")]
    NotStored,
    #[error("the broker is stopping")]
    Stopping,
}
