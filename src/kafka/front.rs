//! What the connections of a shard share in the Kafka front end, and what the handlers of a turn work with.
//!
//! Below the connection, so that a handler which takes its calls to the shard by itself (produce, fetch) need not
//! know whose request it serves.

use crate::kafka::answer_room::AnswerRoom;
use crate::kafka::context::{Client, Context, KafkaSettings};
use crate::kafka::cost::TurnBudget;
use crate::kafka::fetch_session::budget::FetchSessions;
use crate::kafka::handlers::init_producer_id::ProducerIds;
use crate::kafka::identity::BrokerIdentity;
use crate::kafka::memory::{Memory, MemoryLimits};
use crate::model::{Nanos, Now, Term};
use crate::shard::Shard;

/// What the Kafka front end of a shard has for all its connections.
pub struct Front {
    pub broker: BrokerIdentity,
    pub settings: KafkaSettings,
    /// The term in which each log is open, by log id.
    pub log_terms: Vec<Term>,
    pub producer_ids: ProducerIds,
    pub fetch_sessions: FetchSessions,
    pub memory: Memory,
    /// Begins anew with each turn.
    pub budget: TurnBudget,
    /// When the last request was appended, if it was a produce request: the next one is taken up there.
    pub appended_at: Option<Nanos>,
    /// Frames of responses that were sent, for the next ones.
    spare_frames: Vec<Vec<u8>>,
}

impl Front {
    pub fn new(
        broker: BrokerIdentity,
        settings: KafkaSettings,
        limits: MemoryLimits,
        log_terms: Vec<Term>,
    ) -> Front {
        let fetch_sessions = FetchSessions::new(settings.fetch_session_bytes_max);
        Front {
            broker,
            settings,
            log_terms,
            producer_ids: ProducerIds::default(),
            fetch_sessions,
            memory: Memory::new(limits),
            budget: TurnBudget::default(),
            appended_at: None,
            spare_frames: Vec::new(),
        }
    }

    pub fn frame(&mut self) -> Vec<u8> {
        self.spare_frames.pop().unwrap_or_default()
    }

    pub fn recycle(&mut self, mut frame: Vec<u8>) {
        const SPARE_MAX: usize = 4096;
        const SPARE_BYTES_MAX: usize = 1024;
        if self.spare_frames.len() < SPARE_MAX && frame.capacity() <= SPARE_BYTES_MAX {
            frame.clear();
            self.spare_frames.push(frame);
        }
    }
}

/// What the handlers of a turn work with.
pub struct Turn<'a> {
    pub shard: &'a mut Shard,
    pub front: &'a mut Front,
    pub now: Now,
    /// The monotonic clock, for stages finer than a turn.
    pub clock: &'a dyn Fn() -> Nanos,
}

impl Turn<'_> {
    pub fn with_context<T>(
        &self,
        client: Client<'_>,
        answer_room: AnswerRoom,
        act: impl FnOnce(&Context<'_>) -> T,
    ) -> T {
        act(&Context {
            catalog: self.shard.catalog(),
            now: self.now,
            broker: &self.front.broker,
            settings: &self.front.settings,
            log_terms: &self.front.log_terms,
            producer_ids: &self.front.producer_ids,
            client,
            answer_room,
        })
    }
}

/// The peer broke the protocol, or asked for something that has no answer but this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Close(pub String);
