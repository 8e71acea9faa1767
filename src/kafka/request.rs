//! A request of a connection, from being taken up until its response leaves: how it stands, what it holds.
//!
//! ```text
//!   Produce   until its batches are durable
//!   Fetch     until there are records, or no time is left   -> Ready: the response, whole -> leaves in its order
//!   Calls     until logs have answered, and asked no more
//! ```

use bytes::Bytes;

use crate::kafka::answer_room::AnswerRoom;
use crate::kafka::context::Client;
use crate::kafka::cost;
use crate::kafka::front::{Close, Turn};
use crate::kafka::handlers::Pending;
use crate::kafka::handlers::fetch::FetchRequestState;
use crate::kafka::handlers::produce::ProduceState;
use crate::kafka::protocol::header::ResponseHeader;
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ApiKey, EncodeError, frame};
use crate::metrics::latency::ProduceStamps;
use crate::model::LogId;
use crate::shard::call::{Call, Ticket};

/// A response frame that is complete.
pub enum Response {
    Frame(Vec<u8>),
    Pieces {
        pieces: Vec<Bytes>,
        bytes: usize,
    },
    /// The request wanted none (acks 0).
    None,
}

pub enum State {
    Ready(Response),
    Produce(ProduceState),
    Fetch(Box<FetchRequestState>),
    Calls {
        pending: Box<dyn Pending>,
        waiting: u32,
        next_part: u32,
        /// Of the calls that were made at once.
        calls_cost: usize,
        /// Calls that answers have led to and that are not made yet. They are waited for, too.
        further: Vec<(LogId, Call)>,
        /// Of the request: what the calls copied of it.
        request_bytes: usize,
    },
}

impl State {
    /// Memory that it holds.
    pub fn bytes(&mut self) -> usize {
        match self {
            State::Ready(Response::Frame(frame)) => frame.len(),
            State::Ready(Response::Pieces { bytes, .. }) => *bytes,
            State::Ready(Response::None) => 0,
            State::Produce(state) => state.bytes(),
            State::Fetch(state) => state.held_bytes(),
            State::Calls { pending, request_bytes, .. } => {
                *request_bytes + pending.room().map_or(0, |room| room.used())
            }
        }
    }

    /// What it took to come here.
    pub fn cost(&self, api: ApiKey, request_bytes: usize) -> usize {
        let (answer_bytes, more) = match self {
            State::Ready(Response::Frame(frame)) => (frame.len(), 0),
            State::Calls { pending, calls_cost, .. } => (0, pending.cost() + calls_cost),
            State::Ready(_) | State::Produce(_) | State::Fetch(_) => (0, 0),
        };
        cost::of_request(api, request_bytes, answer_bytes) + more
    }
}

pub struct Request {
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    pub stamps: ProduceStamps,
    pub state: State,
    /// Memory that it holds: what was copied of the request, or what there is of its response.
    pub bytes: usize,
}

pub fn call_all(turn: &mut Turn<'_>, ticket: Ticket, first: u32, calls: Vec<(LogId, Call)>) {
    for (part, (log, call)) in (first..).zip(calls) {
        turn.shard.call(log, Ticket { part, ..ticket }, call, turn.now);
    }
}

/// An answer that the protocol has no room for. There is none of the sort that all clients would understand.
#[cold]
pub fn unanswerable(api: ApiKey, error: EncodeError) -> Close {
    Close(format!("answer to {}: {error}", api.name()))
}

/// Answer a request. Returns what it has cost.
pub fn finish_calls(
    request: &mut Request,
    client: Client<'_>,
    room: AnswerRoom,
    turn: &mut Turn<'_>,
) -> Result<usize, Close> {
    let State::Calls { pending, .. } = &mut request.state else { return Ok(0) };
    let mut bytes = turn.front.frame();
    let mut writer = Writer::new(&mut bytes);
    let start = frame::begin(&mut writer);
    let header = ResponseHeader { correlation_id: request.correlation_id };
    header.encode(&mut writer, request.api, request.version);
    turn.with_context(client, room, |ctx| pending.encode(ctx, &mut writer));
    frame::end(&mut writer, start, 0).map_err(|error| unanswerable(request.api, error))?;
    let cost = bytes.len();
    request.state = State::Ready(Response::Frame(bytes));
    Ok(cost)
}
