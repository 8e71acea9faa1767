//! One client's conversation: requests in their order, responses in the same order.
//!
//! Sans-IO: frames in, pieces to send out. Requests are taken up as they come and may finish in any
//! order; a response leaves when those before it have.
//!
//! ```text
//!   requests   | produce: staged, waits for its position | fetch: parked | metadata: done |
//!              ^ front: leaves first
//! ```

use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;

use bytes::{Bytes, BytesMut};

use crate::io::op::ConnId;
use crate::kafka::answer_room::AnswerRoom;
use crate::kafka::context::Client;
use crate::kafka::cost;
use crate::kafka::dispatch::dispatch;
use crate::kafka::fetch_session::Held;
use crate::kafka::front::{Close, Front, Turn};
use crate::kafka::handlers::produce::{self, Produced};
use crate::kafka::handlers::{Outcome, fetch};
use crate::kafka::protocol::header::{RequestHeader, ResponseHeader};
use crate::kafka::protocol::wire::{Reader, Writer};
use crate::kafka::protocol::{ApiKey, frame};
use crate::kafka::request::{Request, Response, State, call_all, finish_calls, unanswerable};
use crate::metrics::latency::ProduceStamps;
use crate::model::{LogId, Nanos};
use crate::partition::waiters::Waiter;
use crate::shard::Shard;
use crate::shard::call::{Answer, Ticket};
use crate::shard::hosted::Acked;

/// Responses are gathered into sends of about this size: more would hold memory for a slow reader.
const SEND_BYTES: usize = 1 << 20;

/// Besides so many bytes a fetch response of the largest size may be made: what others wait for, not with.
const BESIDE_FETCH_BYTES: usize = 64 << 10;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Yes {
        /// About the nanoseconds that it took, told by its size.
        cost: usize,
    },
    /// A log has no room now: offer the same frame again later.
    Later,
    /// It may cost much, and the turn has spent what it has for such: offer it again in one of the next.
    PutOff,
}

/// A client of the Kafka protocol.
pub struct Connection {
    id: ConnId,
    address: IpAddr,
    /// The log at whose port it was accepted.
    at: Option<LogId>,
    fetch_session: Held,
    /// In the order of arrival; the first has number `first`.
    requests: VecDeque<Request>,
    first: u64,
    /// What all requests hold, and the send under way.
    held_bytes: usize,
    sending_bytes: usize,
    /// Fetches among the requests.
    fetches: usize,
    /// One of them waits for earlier responses to leave.
    fetch_blocked: bool,
    /// One of them waits for memory of the shard.
    starved: bool,
    /// A request could ask on, or be answered, in a turn that has time for it.
    put_off: bool,
    /// A fetch could look on in a turn that has time for it.
    looks_on: bool,
    /// Produce requests whose responses are in the send under way.
    sending: Vec<ProduceStamps>,
    /// Other requests likewise: API and when the request came.
    sending_others: Vec<(ApiKey, Nanos)>,
}

impl Connection {
    pub fn new(id: ConnId, address: IpAddr, at: Option<LogId>) -> Connection {
        Connection {
            id,
            address,
            at,
            fetch_session: Held::default(),
            requests: VecDeque::new(),
            first: 0,
            held_bytes: 0,
            sending_bytes: 0,
            fetches: 0,
            fetch_blocked: false,
            starved: false,
            put_off: false,
            looks_on: false,
            sending: Vec::new(),
            sending_others: Vec::new(),
        }
    }

    /// Requests that are not answered yet.
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Memory held by requests that wait and by responses that have not left.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// A fetch waits for memory of the shard: [`Connection::on_memory`] when there is some.
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// A request waits for a turn that has time for it: [`Connection::go_on`] in that.
    pub fn is_put_off(&self) -> bool {
        self.put_off
    }

    /// A fetch waits for a turn that has time for it: [`Connection::look_on`] in that.
    pub fn looks_on(&self) -> bool {
        self.looks_on
    }

    /// A fetch waits for responses to leave that have left: [`Connection::run_blocked`].
    pub fn has_unblocked(&self) -> bool {
        // Not while another looks on, which would do so before its turn.
        let first = self.requests.front();
        self.fetch_blocked
            && self.sending_bytes == 0
            && !self.looks_on
            && first.is_some_and(|request| matches!(&request.state, State::Fetch(state) if state.is_unread()))
    }

    /// Take up one request. `received` is the turn in which its last byte came, which may be an earlier one.
    pub fn on_frame(&mut self, frame: &[u8], received: Nanos, turn: &mut Turn<'_>) -> Result<Taken, Close> {
        let mut reader = Reader::new(frame);
        let header =
            RequestHeader::decode(&mut reader).map_err(|error| Close(format!("request header: {error}")))?;
        let (api, version, correlation_id) = (header.api, header.version, header.correlation_id);
        if !api.versions().contains(&version) && api != ApiKey::ApiVersions {
            turn.shard.stats.counters.requests_unknown += 1;
            return Err(Close(format!("{} version {version} is not supported", api.name())));
        }
        let body = &frame[frame.len() - reader.left()..];
        let number = self.first + self.requests.len() as u64;
        let ticket = Ticket { conn: self.id, request: number, part: 0 };
        // Only of produce requests the time is parted into stages; behind another, nobody has read the clock.
        let taken = match turn.front.appended_at.take() {
            Some(at) => turn.now.mono.max(at),
            None if api == ApiKey::Produce => (turn.clock)(),
            None => turn.now.mono,
        };
        let mut stamps = ProduceStamps { received, taken, ..ProduceStamps::default() };
        let mut state = match api {
            ApiKey::Produce => match produce::handle(turn, ticket, &header, body, &mut stamps)? {
                Produced::Later => return Ok(Taken::Later),
                Produced::Waits(state) => State::Produce(state),
                Produced::Done(frame) => State::Ready(frame.map_or(Response::None, Response::Frame)),
            },
            ApiKey::Fetch => State::Fetch(fetch::begin(turn, &mut self.fetch_session, &header, body)?),
            _ => {
                let may_be_high = cost::may_be_high(api, body.len());
                if may_be_high && turn.front.budget.is_spent() {
                    return Ok(Taken::PutOff);
                }
                let state = self.dispatch(&header, body, ticket, turn)?;
                if may_be_high {
                    turn.front.budget.spend(state.cost(api, frame.len()));
                }
                state
            }
        };
        turn.shard.stats.record_request(api.key(), version);
        let cost = state.cost(api, frame.len());
        let bytes = state.bytes();
        self.held_bytes += bytes;
        self.requests.push_back(Request { api, version, correlation_id, stamps, state, bytes });
        if api == ApiKey::Fetch {
            self.fetches += 1;
            self.run_fetch(number, turn);
        }
        Ok(Taken::Yes { cost })
    }

    fn dispatch(
        &self,
        header: &RequestHeader<'_>,
        body: &[u8],
        ticket: Ticket,
        turn: &mut Turn<'_>,
    ) -> Result<State, Close> {
        // An unsupported ApiVersions is answered in version 0, whose body every client can read.
        let supported = header.is_supported();
        let version = if supported { header.version } else { 0 };
        let client = Client { id: header.client_id.unwrap_or_default(), address: self.address, at: self.at };
        let room = AnswerRoom::beside(self.held_bytes, &turn.front.memory);
        let mut bytes = turn.front.frame();
        let mut writer = Writer::new(&mut bytes);
        let start = frame::begin(&mut writer);
        ResponseHeader { correlation_id: header.correlation_id }.encode(&mut writer, header.api, version);
        let outcome = turn
            .with_context(client, room, |ctx| dispatch(ctx, header.api, header.version, body, &mut writer))
            .map_err(|error| Close(format!("{} request: {error}", header.api.name())))?;
        match outcome {
            Outcome::Reply => {
                frame::end(&mut writer, start, 0).map_err(|error| unanswerable(header.api, error))?;
                Ok(State::Ready(Response::Frame(bytes)))
            }
            Outcome::Wait { calls, pending } => {
                turn.front.recycle(bytes);
                let (waiting, calls_cost) = (calls.len() as u32, cost::of_calls(&calls));
                call_all(turn, ticket, 0, calls);
                let (further, request_bytes) = (Vec::new(), body.len());
                Ok(State::Calls { pending, waiting, next_part: waiting, calls_cost, further, request_bytes })
            }
            Outcome::Close(why) => Err(Close(why.to_owned())),
        }
    }

    fn request_mut(&mut self, number: u64) -> Option<&mut Request> {
        let index = number.checked_sub(self.first)?;
        self.requests.get_mut(usize::try_from(index).ok()?)
    }

    /// A batch of this connection is durable.
    pub fn on_acked(&mut self, acked: &Acked, now: Nanos) {
        let Some(request) = self.request_mut(acked.ticket.request) else { return };
        let State::Produce(state) = &mut request.state else { return };
        request.stamps.submitted = request.stamps.submitted.max(acked.submitted);
        request.stamps.written = request.stamps.written.max(acked.completed);
        if let Some(frame) = state.on_acked() {
            request.stamps.set_acked(now);
            request.state = State::Ready(frame.map_or(Response::None, Response::Frame));
        }
    }

    /// The answer to a call of this connection.
    pub fn on_answer(&mut self, ticket: Ticket, answer: Answer, turn: &mut Turn<'_>) -> Result<(), Close> {
        let number = ticket.request;
        let held_bytes = self.held_bytes;
        let Some(request) = self.request_mut(number) else { return Ok(()) };
        match &mut request.state {
            State::Produce(state) => {
                if let Some(frame) = state.on_answer(ticket.part, answer, &mut request.stamps, turn)? {
                    request.stamps.set_acked((turn.clock)());
                    request.state = State::Ready(frame.map_or(Response::None, Response::Frame));
                    self.weigh(number);
                }
            }
            State::Fetch(state) => {
                state.on_answer(ticket.part, answer);
                self.run_fetch(number, turn);
            }
            State::Calls { pending, waiting, further, .. } => {
                let room = AnswerRoom::beside(held_bytes - request.bytes, &turn.front.memory);
                if let Some(used) = pending.room() {
                    used.adjust(room);
                }
                let more = pending.on_answer(ticket.part, answer);
                *waiting = *waiting - 1 + more.len() as u32;
                further.extend(more);
                self.weigh(number);
                // What the answer brought was copied for it.
                turn.front.budget.spend(self.held_bytes.saturating_sub(held_bytes));
                self.proceed(number, turn)?;
            }
            State::Ready(_) => {}
        }
        Ok(())
    }

    /// This turn has time for requests that were put off.
    pub fn go_on(&mut self, turn: &mut Turn<'_>) -> Result<(), Close> {
        if !mem::take(&mut self.put_off) {
            return Ok(());
        }
        for number in self.first..self.next_number() {
            self.proceed(number, turn)?;
        }
        Ok(())
    }

    /// This turn has time for fetches that were put off.
    pub fn look_on(&mut self, turn: &mut Turn<'_>) {
        if !mem::take(&mut self.looks_on) {
            return;
        }
        for number in self.first..self.next_number() {
            if let Some(Request { state: State::Fetch(state), .. }) = self.request_mut(number)
                && state.is_put_off()
            {
                self.run_fetch(number, turn);
            }
        }
    }

    /// Let a request ask on, or answer it when all its calls are answered: later, if that may cost much and the
    /// turn has no time for it.
    fn proceed(&mut self, number: u64, turn: &mut Turn<'_>) -> Result<(), Close> {
        let client = Client { id: "", address: self.address, at: self.at };
        let (conn, held_bytes) = (self.id, self.held_bytes);
        let Some(request) = self.request_mut(number) else { return Ok(()) };
        let State::Calls { waiting, next_part, further, request_bytes, .. } = &mut request.state else {
            return Ok(());
        };
        if *waiting > 0 && further.is_empty() {
            return Ok(());
        }
        let may_be_high = cost::may_be_high(request.api, *request_bytes);
        if may_be_high && turn.front.budget.is_spent() {
            self.put_off = true;
            return Ok(());
        }
        let cost = if *waiting > 0 {
            let calls = mem::take(further);
            let (first, cost) = (*next_part, cost::of_calls(&calls));
            *next_part += calls.len() as u32;
            call_all(turn, Ticket { conn, request: number, part: 0 }, first, calls);
            cost
        } else {
            let room = AnswerRoom::beside(held_bytes - request.bytes, &turn.front.memory);
            finish_calls(request, client, room, turn)?
        };
        if may_be_high {
            turn.front.budget.spend(cost);
        }
        self.weigh(number);
        Ok(())
    }

    /// There may be records for this connection now.
    pub fn on_woken(&mut self, waiters: &[Waiter], turn: &mut Turn<'_>) {
        for waiter in waiters {
            self.fetch_session.wake(waiter.part);
        }
        self.starved = false;
        for number in self.first..self.first + self.requests.len() as u64 {
            if let Some(Request { state: State::Fetch(state), .. }) = self.request_mut(number) {
                state.on_woken(waiters);
                self.run_fetch(number, turn);
            }
        }
    }

    /// There may be memory for the fetches that waited for it.
    pub fn on_memory(&mut self, turn: &mut Turn<'_>) {
        self.starved = false;
        for number in self.first..self.next_number() {
            if let Some(Request { state: State::Fetch(state), .. }) = self.request_mut(number) {
                state.retry();
                self.run_fetch(number, turn);
            }
        }
    }

    /// The broker is stopping: answer fetches with what there is.
    pub fn drain(&mut self, turn: &mut Turn<'_>) {
        for number in self.first..self.next_number() {
            if let Some(Request { state: State::Fetch(state), .. }) = self.request_mut(number) {
                state.give_up();
                self.run_fetch(number, turn);
            }
        }
    }

    /// The deadline of a fetch has come.
    pub fn on_deadline(&mut self, turn: &mut Turn<'_>) {
        for number in self.first..self.next_number() {
            if let Some(Request { state: State::Fetch(state), .. }) = self.request_mut(number)
                && state.deadline() <= turn.now.mono
            {
                // Some of what it waits for may be there.
                if state.is_loading() {
                    state.retry();
                }
                self.run_fetch(number, turn);
            }
        }
    }

    /// Earlier responses have left: fetches that waited for that look for records.
    pub fn run_blocked(&mut self, turn: &mut Turn<'_>) {
        if !mem::take(&mut self.fetch_blocked) {
            return;
        }
        for number in self.first..self.next_number() {
            self.run_fetch(number, turn);
        }
    }

    /// Look for records; answer if there are enough, or no time is left.
    fn run_fetch(&mut self, number: u64, turn: &mut Turn<'_>) {
        let (conn, held_bytes) = (self.id, self.held_bytes);
        let is_next = number == self.first && self.sending_bytes == 0;
        let Some(request) = self.request_mut(number) else { return };
        let State::Fetch(state) = &mut request.state else { return };
        // Records are not gathered while earlier responses wait for a slow reader. The response that
        // leaves next waits for nobody, or those behind it could keep it waiting for ever.
        let beside = held_bytes - request.bytes;
        let limit = turn.front.settings.fetch_bytes_max + BESIDE_FETCH_BYTES;
        if state.is_unread() && !is_next && beside + state.max_bytes() > limit {
            self.fetch_blocked = true;
            return;
        }
        let ticket = Ticket { conn, request: number, part: 0 };
        if state.run(turn, ticket, beside) {
            let mut pieces = Vec::new();
            let bytes = state.encode(turn, request.version, request.correlation_id, &mut pieces);
            let session = state.take_session();
            request.state = State::Ready(Response::Pieces { pieces, bytes });
            self.fetches -= 1;
            if let Some(session) = session {
                self.fetch_session.give_back(session);
            }
        } else {
            let (starved, looks_on) = (state.is_starved(), state.is_put_off());
            self.starved |= starved;
            self.looks_on |= looks_on;
        }
        self.weigh(number);
    }

    /// Count anew what a request holds.
    fn weigh(&mut self, number: u64) {
        let Some(request) = self.request_mut(number) else { return };
        let after = request.state.bytes();
        let before = mem::replace(&mut request.bytes, after);
        self.held_bytes = self.held_bytes - before + after;
    }

    /// The earliest deadline among fetches that wait: one after `now`, or one that has come and that only a
    /// timer can still answer.
    pub fn next_deadline(&self, now: Nanos) -> Option<Nanos> {
        if self.fetches == 0 {
            return None;
        }
        let deadline = |request: &Request| match &request.state {
            State::Fetch(state) => Some(state.deadline()).filter(|at| *at > now || state.may_be_late()),
            _ => None,
        };
        self.requests.iter().filter_map(deadline).min()
    }

    /// Fetches that wait for records.
    pub fn fetches(&self) -> usize {
        self.fetches
    }

    /// The number that the next request will get.
    pub fn next_number(&self) -> u64 {
        self.first + self.requests.len() as u64
    }

    /// What can be sent now: complete responses, from the front.
    pub fn poll_send(&mut self, front: &mut Front) -> Option<Vec<Bytes>> {
        let mut parts = Vec::new();
        let mut small = BytesMut::new();
        let mut bytes = 0;
        while bytes < SEND_BYTES
            && let Some(Request { state: State::Ready(_), .. }) = self.requests.front()
        {
            let request = self.requests.pop_front().expect("looked at above");
            self.first += 1;
            self.sending_bytes += request.bytes;
            let State::Ready(response) = request.state else { unreachable!("looked at above") };
            match response {
                Response::None => continue,
                Response::Frame(frame) => {
                    bytes += frame.len();
                    small.extend_from_slice(&frame);
                    front.recycle(frame);
                }
                Response::Pieces { pieces, bytes: piece_bytes } => {
                    bytes += piece_bytes;
                    if !small.is_empty() {
                        parts.push(small.split().freeze());
                    }
                    parts.extend(pieces);
                }
            }
            if request.api == ApiKey::Produce {
                self.sending.push(request.stamps);
            } else {
                self.sending_others.push((request.api, request.stamps.received));
            }
        }
        if !small.is_empty() {
            parts.push(small.freeze());
        }
        if bytes == 0 {
            self.give_back();
            return None;
        }
        Some(parts)
    }

    /// What was being sent has left.
    fn give_back(&mut self) {
        self.held_bytes -= mem::take(&mut self.sending_bytes);
    }

    /// The send under way has ended.
    pub fn on_sent(&mut self, now: Nanos, shard: &mut Shard) {
        self.give_back();
        for mut stamps in self.sending.drain(..) {
            stamps.sent = now;
            shard.stats.record_produce(&stamps);
        }
        for (api, received) in self.sending_others.drain(..) {
            shard.stats.record_duration(api.key(), now.since(received));
        }
    }
}
