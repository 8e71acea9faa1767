//! Random topic ids: the one source of randomness of a broker.

use crate::metadata::commands::IdSource;
use crate::model::TopicId;

pub struct RandomIds;

impl IdSource for RandomIds {
    fn next_topic_id(&mut self) -> TopicId {
        // Version and variant bits are set, so it is neither of the ids that Kafka reserves (0 and 1).
        TopicId(uuid::Uuid::new_v4().into_bytes())
    }
}
