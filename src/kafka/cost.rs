//! What requests cost a turn: told by bytes and calls, not by a clock, so that a simulation repeats.

use crate::kafka::protocol::ApiKey;

/// A connection takes up requests that cost about so much in a turn, and the one that goes beyond. The others
/// are for the turns that follow: who asks for much at a time must not keep all others waiting for it.
pub const TURN_COST: usize = 1 << 20;

// In about nanoseconds. Each byte of a response costs one.

const REQUEST_COST: usize = 256;
/// Of a byte of a request about many things, which are named in a dozen bytes or more.
const BYTE_COST: usize = 16;
/// So many bytes of records cost one: they are summed and copied.
const PRODUCED_BYTES: usize = 4;
/// Of a call, whoever performs it.
const CALL_COST: usize = 4 << 10;

/// What it takes to come from a request to its answer, or to these calls. Records that a fetch will gather are
/// not touched.
pub fn of_request(api: ApiKey, request_bytes: usize, answer_bytes: usize, calls: usize) -> usize {
    let request = match api {
        ApiKey::Produce => request_bytes / PRODUCED_BYTES,
        _ => request_bytes * BYTE_COST,
    };
    REQUEST_COST + request + answer_bytes + calls * CALL_COST
}
