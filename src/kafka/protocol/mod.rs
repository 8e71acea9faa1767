//! The Kafka protocol: frames, headers, and messages that are declared once.
//!
//! ```text
//! bytes of a socket -> frame      where a frame begins and ends, never more than the limit
//!                      header     api key, version, correlation id
//!                      messages/* the body, declared in schema's words, one file an API
//!                      api        the table of APIs: key, versions, request and response
//!                      wire       primitives: everything above reads and writes through them
//! ```
//!
//! Bytes in, values that borrow from them out, and back. Both directions for requests and responses: the
//! broker, the load generator and the simulator speak through the same declarations. Bytes must be declared
//! before the values that borrow from them, because arrays have a destructor.
//!
//! ```
//! use ringmq::kafka::protocol::{Message, Reader, Writer, messages::MetadataRequest};
//!
//! let mut bytes = Vec::new();
//! let request = MetadataRequest { topics: None, ..Default::default() };
//! request.encode(&mut Writer::new(&mut bytes), 12);
//! assert_eq!(MetadataRequest::decode(&mut Reader::new(&bytes), 12), Ok(request));
//! ```

pub mod api;
pub mod error_code;
pub mod frame;
pub mod header;
pub mod messages;
pub mod operations;
pub mod produce_reply;
pub mod records;
pub mod schema;
pub mod wire;

pub use api::{ApiKey, Message, Request, Response};
pub use error_code::ErrorCode;
pub use header::{RequestHeader, ResponseHeader};
pub use produce_reply::{ProduceOutcome, ProduceReply, StagedPartition};
pub use records::Records;
pub use schema::Array;
pub use wire::{DecodeError, EncodeError, Reader, Writer};
