//! A member of a group.

use std::time::Duration;

use bytes::Bytes;
use rustc_hash::FxHashSet;

use super::call::JoinCall;
use super::timers::Deadline;

/// What a member and a protocol cost beside their bytes.
const MEMBER_BYTES: usize = 352;
const PROTOCOL_BYTES: usize = 128;

/// A way of assigning, and what a member says under it.
pub type Protocol = (String, Bytes);

/// What a member tells of itself when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    /// The best first; no name twice.
    pub protocols: Vec<Protocol>,
}

impl Said {
    pub fn new(join: JoinCall) -> Said {
        // A name that is said twice counts once, and the first time.
        let mut names = FxHashSet::default();
        let mut protocols = join.protocols;
        protocols.retain(|(name, _)| names.insert(name.clone()));
        // One name said a million times is not to be kept room for.
        protocols.shrink_to_fit();
        Said {
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols,
        }
    }

    pub fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, metadata)| metadata)
    }

    /// What it takes of the group's budget.
    pub fn bytes(&self) -> usize {
        let protocols = self.protocols.iter();
        let protocols = protocols.map(|(name, metadata)| PROTOCOL_BYTES + name.len() + metadata.len());
        self.client_id.len() + self.client_host.len() + protocols.sum::<usize>()
    }
}

/// `W` stands for a request that waits for its answer.
#[derive(Debug)]
pub struct Member<W> {
    pub id: Box<str>,
    pub instance: Option<Box<str>>,
    pub said: Said,
    pub assignment: Bytes,
    /// Takes part in the next generation.
    pub joining: Option<W>,
    /// Waits for its assignment.
    pub syncing: Option<W>,
    /// The generation in which it last asked for its assignment; -1 for none.
    pub synced_in: i32,
    /// It was never told its id, and so cannot send heartbeats.
    pub is_new: bool,
    pub session: Deadline,
}

impl<W> Member<W> {
    pub fn new(id: Box<str>, instance: Option<Box<str>>, said: Said) -> Member<W> {
        Member {
            id,
            instance,
            said,
            assignment: Bytes::new(),
            joining: None,
            syncing: None,
            synced_in: -1,
            is_new: false,
            session: Deadline::default(),
        }
    }

    /// What the member takes of its group's budget.
    pub fn bytes(&self) -> usize {
        self.bytes_unassigned() + self.assignment.len()
    }

    /// The same without what it was assigned.
    pub fn bytes_unassigned(&self) -> usize {
        let instance = self.instance.as_deref().map_or(0, str::len);
        MEMBER_BYTES + self.id.len() + instance + self.said.bytes()
    }
}
