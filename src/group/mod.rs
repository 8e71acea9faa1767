//! Consumer groups: who is a member, which generation it is, what each member was assigned.
//!
//! The classic protocol of Kafka as a state machine. The broker does not assign: it gathers what the
//! members can do, lets one of them (the leader) decide, and hands the decision out.
//!
//! ```text
//!                join                 all have joined, or time is up        leader's sync is durable
//!   Empty ------------> Preparing ----------------------------> Completing ------------------> Stable
//!     ^                 ^   | nobody is left                        |                             |
//!     '-----------------|---'                                       |                             |
//!                       '------ join, leave, member is silent ------'-----------------------------'
//! ```
//!
//! Sans-IO: requests and the time come in, results and [`Action`]s go out. An action asks for an
//! answer that was held back, or for an entry to be written; nobody hears of an assignment before
//! its entry is durable. After a restart a group is what its newest entry says, and its members go on
//! with their heartbeats as if nothing had happened.
//!
//! - the words of a conversation: [`call`]
//! - all groups of one log, their timers, and the memory that they share: [`coordinator`]
//! - one group: [`machine`], and its [`member`]s
//! - what happens to it: [`join`], of static members [`instance`]; [`membership`], [`rebalance`], [`assignment`]
//! - what is kept: [`record`]; what members of type `consumer` read: [`subscription`]

mod assignment;
pub mod call;
pub mod coordinator;
mod instance;
mod join;
mod machine;
mod member;
mod membership;
mod rebalance;
pub mod record;
mod subscription;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod timers;

pub use call::{GroupError, JoinCall, Joined, Leaving, MemberRef, SyncCall, Synced};
pub use coordinator::{Action, Groups, StoreId};
pub use record::StoredGroups;

use std::time::Duration;

/// Longest name of a group.
pub const GROUP_NAME_BYTES_MAX: usize = 1024;

/// The broker's limits for groups.
#[derive(Clone, Copy, Debug)]
pub struct GroupRules {
    /// A member may ask to be missed after so long at the least, and at the most.
    pub session_min: Duration,
    pub session_max: Duration,
    /// How long the first rebalance of an empty group waits for more members.
    pub initial_delay: Duration,
    /// Members of one group; as many may be on their way in.
    pub members_max: usize,
    /// What the members of one group may leave here: metadata, assignments and what they cost to keep.
    pub bytes_max: usize,
    /// What all groups of one log may take in memory: their names, their members twice, as they are and as
    /// they are stored, and what they have committed.
    pub total_bytes_max: usize,
}
