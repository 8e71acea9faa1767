//! What a handler may see: the broker as it is in this turn. All of it is the shard's own.

use std::net::IpAddr;

use crate::group::GROUP_NAME_BYTES_MAX;
use crate::kafka::answer_room::AnswerRoom;
use crate::kafka::handlers::init_producer_id::ProducerIds;
use crate::kafka::identity::BrokerIdentity;
use crate::kafka::protocol::ErrorCode;
use crate::metadata::catalog::Catalog;
use crate::model::{LogId, Now, PartitionKey, Term};

pub use crate::kafka::settings::KafkaSettings;

/// "No leader epoch", in requests and responses.
pub const NO_LEADER_EPOCH: i32 = -1;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// What the client calls itself; empty once its request is under way.
    pub id: &'a str,
    pub address: IpAddr,
    /// The log at whose port it came in; none at the node's own.
    pub at: Option<LogId>,
}

#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub catalog: &'a Catalog,
    pub now: Now,
    pub broker: &'a BrokerIdentity,
    pub settings: &'a KafkaSettings,
    /// The term that each log is open in, by log id.
    pub log_terms: &'a [Term],
    pub producer_ids: &'a ProducerIds,
    pub client: Client<'a>,
    /// For an answer whose size does not follow from that of its request.
    pub answer_room: AnswerRoom,
}

impl Context<'_> {
    /// The leader epoch of a log's partitions; [`NO_LEADER_EPOCH`] while it is not known here.
    pub fn log_term(&self, log: LogId) -> i32 {
        let term = self.log_terms.get(log.0 as usize);
        term.map_or(NO_LEADER_EPOCH, |term| epoch_of(*term))
    }

    /// A partition by its topic's name, and the log that hosts it.
    pub fn partition(&self, topic: &str, index: i32) -> Result<(LogId, PartitionKey), ErrorCode> {
        let topic = self.catalog.topic(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let log = topic.log_of(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        Ok((log, PartitionKey { topic: topic.id, index }))
    }

    /// The log of a group that somebody is in, or wants to be.
    pub fn group(&self, group: &str) -> Result<LogId, ErrorCode> {
        if group.is_empty() {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        self.any_group(group)
    }

    /// The log of a group, which may have no name: consumers that are in none commit offsets under that, tools
    /// look at those, and DeleteGroups deletes them.
    pub fn any_group(&self, group: &str) -> Result<LogId, ErrorCode> {
        if group.len() > GROUP_NAME_BYTES_MAX {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        Ok(self.catalog.group_log(group))
    }

    /// Whether a client knows the present leader epoch of a log. Negative epochs mean that it has none
    /// (KIP-320).
    pub fn check_leader_epoch(&self, log: LogId, client_epoch: i32) -> Result<(), ErrorCode> {
        let epoch = self.log_term(log);
        if client_epoch < 0 || epoch == NO_LEADER_EPOCH || client_epoch == epoch {
            return Ok(());
        }
        if client_epoch < epoch {
            return Err(ErrorCode::FENCED_LEADER_EPOCH);
        }
        Err(ErrorCode::UNKNOWN_LEADER_EPOCH)
    }
}

/// A term as a leader epoch.
pub fn epoch_of(term: Term) -> i32 {
    // The protocol's integers are signed. No log is opened two billion times.
    i32::try_from(term.0).unwrap_or(i32::MAX)
}
