//! A partition of a fetch: what of it is still to be read, and what has been.

use crate::kafka::errors;
use crate::kafka::fetch_session::{Bounds, Look};
use crate::kafka::protocol::ErrorCode;
use crate::model::LogId;
use crate::shard::call::{CallError, ReadPart, ReadResult};

/// A partition that is looked at.
pub struct Part {
    /// Its slot in the session; [`NO_PART`](crate::partition::waiters::NO_PART) without one.
    pub slot: u32,
    /// Number of its topic, in the request or in the session.
    pub topic: u32,
    pub index: i32,
    /// What is still to be read, or why nothing is.
    pub target: Result<(LogId, ReadPart), ErrorCode>,
    /// What has been read.
    pub result: ReadResult,
}

impl Part {
    /// A further read has found this.
    pub fn add(&mut self, mut read: ReadResult) {
        if self.result.bytes > 0 && read.error.is_some() {
            // The records that there are, now; the error at the next fetch.
            (self.result.error, self.result.loading_bytes) = (read.error, 0);
            return;
        }
        if let Ok((_, rest)) = &mut self.target {
            rest.offset = read.next;
            rest.bytes_max = rest.bytes_max.saturating_sub(read.bytes);
        }
        let mut records = std::mem::take(&mut self.result.records);
        records.append(&mut read.records);
        let (bytes, fresh) = (self.result.bytes + read.bytes, self.result.fresh || read.fresh);
        self.result = ReadResult { records, bytes, fresh, ..read };
    }

    /// The same read, as if its records had not been given.
    pub fn without_room_for(&self, read: ReadResult) -> ReadResult {
        let next = self.target.as_ref().map_or(read.next, |(_, rest)| rest.offset);
        ReadResult { records: Vec::new(), bytes: 0, fresh: false, loading_bytes: 0, next, ..read }
    }

    pub fn failed(&self) -> bool {
        self.target.is_err() || self.result.error.is_some()
    }

    pub fn error(&self, by_id: bool) -> ErrorCode {
        match (&self.target, &self.result.error) {
            (Err(error), _) => *error,
            (_, Some(_)) if self.result.bytes > 0 => ErrorCode::NONE,
            (_, Some(CallError::UnknownPartition)) if by_id => ErrorCode::UNKNOWN_TOPIC_ID,
            (_, Some(error)) => errors::of_call(error),
            (Ok(_), None) => ErrorCode::NONE,
        }
    }

    pub fn bounds(&self) -> Bounds {
        let ReadResult { high_watermark, log_start, .. } = &self.result;
        match self.target {
            Ok(_) => Bounds { start: log_start.0, high_watermark: high_watermark.0 },
            Err(_) => Bounds::UNKNOWN,
        }
    }

    pub fn look(&self) -> Look {
        let failed = self.failed();
        let at_end = matches!(self.target, Ok((_, read)) if read.offset == self.result.high_watermark);
        Look {
            // After an error the partition is told of again, as in Kafka, whatever its bounds are.
            bounds: if failed { Bounds::UNKNOWN } else { self.bounds() },
            found: failed || self.result.bytes > 0,
            waits: !failed && at_end && !self.result.is_loading(),
        }
    }
}
