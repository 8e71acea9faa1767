//! DeleteTopics: by name, since version 6 also by id.

use uuid::Uuid;

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

message! {
    /// Asks for topics to go.
    pub struct DeleteTopicsRequest<'a> {
        topics: Array<DeleteTopicState<'a>>, 6+;
        topic_names: Array<&'a str>, 0-5;
        timeout_ms: i32, 0+;
    }

    /// A topic by name, or by id where the name is null.
    pub struct DeleteTopicState<'a> {
        name: Option<&'a str>, 6+;
        topic_id: Uuid, 6+;
    }

    /// What became of each topic.
    pub struct DeleteTopicsResponse<'a> {
        throttle_time_ms: i32, 1+;
        responses: Array<DeletableTopicResult<'a>>, 0+;
    }

    /// Whether a topic is gone.
    pub struct DeletableTopicResult<'a> {
        /// Null since version 6 only, for an id that is unknown.
        name: Option<&'a str>, 0+;
        topic_id: Uuid, 6+;
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 5+;
    }
}
