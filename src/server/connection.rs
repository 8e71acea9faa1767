//! The transport of one connection: bytes in, frames out of them, sends in flight.
//!
//! Small requests arrive in the shard's shared buffers and are parsed where they lie; only what is
//! left of a frame that is cut off is copied. A connection that sends large frames receives into a
//! buffer of its own instead, contiguously, which grows with what has been received and never with
//! what was announced, and is given back when the connection falls silent.
//!
//! While it holds as much memory as it may, or as the shard can spare, it is read no further
//! ([`crate::kafka::memory`]).

use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::io::op::{ConnId, Op, RecvEnd};
use crate::kafka;
use crate::kafka::connection::Taken;
use crate::kafka::cost::TURN_COST;
use crate::kafka::front::{Close, Front, Turn};
use crate::kafka::memory::{FREE_BYTES, Memory};
use crate::kafka::protocol::frame::{Frame, first_request};
use crate::model::{LogId, Nanos};

use super::arrivals::Arrivals;

/// A frame larger than this is received into the connection's own buffer: half of a shared buffer,
/// above which most frames would be cut off and copied once more.
const LARGE_FRAME_BYTES: usize = 8 << 10;
/// What that buffer has at first: several requests of a busy producer fit.
const LARGE_BUFFER_BYTES: usize = 256 << 10;
/// Whoever is the only one that may receive has this long, and a second more for each MiB of its frame.
const TURN_WITHIN: Duration = Duration::from_secs(30);
/// A send that takes longer, while the shard's memory is used up, is to a client that does not read.
const SEND_WITHIN: Duration = Duration::from_secs(30);

/// Limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one request.
    pub request_bytes_max: usize,
    /// Requests that are not answered yet.
    pub in_flight_max: usize,
    /// Memory that the connection may hold, above the largest request.
    pub memory_max: usize,
}

/// Which receive is with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    Nothing,
    /// Multishot, into shared buffers.
    Shared,
    /// Whichever it was, it was told to end.
    Stopping,
    /// Into `input`, which is with the kernel.
    Own,
}

/// What the frame at the front waits for, other than its bytes, memory and answers before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    /// It found no room in its log.
    Room,
    /// This turn has been spent.
    NextTurn,
    /// A turn that has time for what may cost much: when that is, the server's line says.
    Line,
}

pub struct Connection {
    id: ConnId,
    pub session: kafka::connection::Connection,
    limits: Limits,
    receiving: Receiving,
    /// Received and not yet taken up.
    input: Vec<u8>,
    /// When that had come.
    arrivals: Arrivals,
    /// Size of the buffer that is with the kernel.
    lent_bytes: usize,
    /// What the frame at the front takes, as far as that is known.
    frame_bytes: usize,
    /// Large frames are on their way: receive into `input`.
    large: bool,
    waits: Waits,
    /// What was taken up in this turn has cost.
    spent: usize,
    /// The line has it.
    in_line: bool,
    /// The line of those whose fetches look on has it.
    in_past: bool,
    /// It would go on, had the shard the memory.
    waits_for_memory: bool,
    /// It may finish one frame, whatever memory the shard has, until then.
    turn_until: Option<Nanos>,
    /// It has the frame. Its turn lasts until what the request holds is back, or with a batch under way to
    /// another shard's log the next one would come on top.
    finishing: bool,
    /// The server's queue of those that wait for memory has it.
    queued: bool,
    /// The same of those whose fetches wait for it.
    starving: bool,
    /// What the shard's sum has of it.
    accounted_bytes: usize,
    /// When the server looks at its fetches.
    pub deadline: Option<Nanos>,
    sending_since: Option<Nanos>,
    /// The peer sends no more.
    eof: bool,
    closing: bool,
    /// No further request is taken up.
    draining: bool,
    pub last_active: Nanos,
}

impl Connection {
    pub fn new(id: ConnId, address: IpAddr, at: Option<LogId>, limits: Limits, now: Nanos) -> Connection {
        Connection {
            id,
            session: kafka::connection::Connection::new(id, address, at),
            limits,
            receiving: Receiving::Nothing,
            input: Vec::new(),
            arrivals: Arrivals::default(),
            lent_bytes: 0,
            frame_bytes: 0,
            large: false,
            waits: Waits::Nothing,
            spent: 0,
            in_line: false,
            in_past: false,
            waits_for_memory: false,
            turn_until: None,
            finishing: false,
            queued: false,
            starving: false,
            accounted_bytes: 0,
            deadline: None,
            sending_since: None,
            eof: false,
            closing: false,
            draining: false,
            last_active: now,
        }
    }

    /// Waits for room in a log.
    pub fn is_stalled(&self) -> bool {
        self.waits == Waits::Room && !self.closing && !self.draining
    }

    /// Nothing of this connection is under way.
    pub fn is_idle(&self) -> bool {
        self.sending_since.is_none() && self.session.in_flight() == 0 && self.input.is_empty()
    }

    /// Memory that the connection holds, beyond constants.
    pub fn held_bytes(&self) -> usize {
        self.input.capacity() + self.lent_bytes + self.arrivals.held_bytes() + self.session.held_bytes()
    }

    /// Bring the shard's sum up to date.
    pub fn account(&mut self, memory: &mut Memory) {
        let held = self.held_bytes();
        memory.change(mem::replace(&mut self.accounted_bytes, held), held);
    }

    /// It is gone, and holds nothing.
    pub fn release(self, memory: &mut Memory) {
        memory.change(self.accounted_bytes, 0);
    }

    /// It belongs into the queue of those that wait for memory, and is not there.
    pub fn enters_queue(&mut self) -> bool {
        let waits = self.waits_for_memory && !self.closing && !self.draining;
        waits && !mem::replace(&mut self.queued, true)
    }

    pub fn leave_queue(&mut self) {
        self.queued = false;
    }

    /// The same of the line of those that wait for a turn which has time for them.
    pub fn enters_line(&mut self) -> bool {
        let waits = (self.waits == Waits::Line && !self.draining) || self.session.is_put_off();
        waits && !self.closing && !mem::replace(&mut self.in_line, true)
    }

    pub fn leave_line(&mut self) {
        self.in_line = false;
    }

    /// The same of those whose fetches look on.
    pub fn enters_past(&mut self) -> bool {
        self.session.looks_on() && !self.closing && !mem::replace(&mut self.in_past, true)
    }

    pub fn leave_past(&mut self) {
        self.in_past = false;
    }

    /// The same of those whose fetches wait for memory.
    pub fn is_newly_starved(&mut self) -> bool {
        self.session.is_starved() && !mem::replace(&mut self.starving, true)
    }

    pub fn end_starving(&mut self) {
        self.starving = false;
    }

    /// It could finish a frame: nothing of its own must leave first.
    pub fn can_use_turn(&self) -> bool {
        self.session.held_bytes() == 0 && !self.closing && !self.eof
    }

    /// It alone may receive now, until it has a whole frame.
    pub fn begin_turn(&mut self, now: Nanos) {
        let frame = Duration::from_secs((self.frame_bytes >> 20) as u64);
        self.turn_until = Some(now.plus(TURN_WITHIN + frame));
    }

    pub fn has_turn(&mut self) -> bool {
        let done = if self.finishing { self.session.held_bytes() <= FREE_BYTES } else { self.eof };
        if done {
            (self.turn_until, self.finishing) = (None, false);
        }
        self.turn_until.is_some() && !self.closing
    }

    /// It need not ask for memory.
    fn may_exceed(&self) -> bool {
        self.turn_until.is_some() && !self.finishing
    }

    /// Its turn has been long, and that is its client's doing. One that waits for its log keeps the turn:
    /// else all who have a frame for a full log would hold it in memory.
    pub fn is_late(&self, now: Nanos) -> bool {
        let by_client = if self.finishing { self.sending_since.is_some() } else { !self.has_frame() };
        !self.closing && by_client && self.turn_until.is_some_and(|until| now >= until)
    }

    /// It does not read what it is sent.
    pub fn is_unread(&self, now: Nanos) -> bool {
        !self.closing && self.sending_since.is_some_and(|since| now >= since.plus(SEND_WITHIN))
    }

    /// What was received waits for something else than more bytes, and need wait no longer.
    pub fn has_frames(&self, memory: &Memory) -> bool {
        let goes_on_otherwise = matches!(self.waits, Waits::Room | Waits::Line);
        let ends = self.draining || self.closing;
        self.has_frame() && !goes_on_otherwise && !ends && self.may_take(memory)
    }

    /// A whole frame was received and is not taken up.
    fn has_frame(&self) -> bool {
        self.frame_bytes > 0 && self.input.len() >= self.frame_bytes
    }

    /// Bytes in a shared buffer.
    pub fn on_received(&mut self, data: &[u8], turn: &mut Turn<'_>) -> Result<(), Close> {
        self.last_active = turn.now.mono;
        if self.closing || self.draining {
            return Ok(());
        }
        turn.shard.stats.counters.bytes_received += data.len() as u64;
        if self.input.is_empty() && self.waits != Waits::Room {
            let used = self.take_frames(data, turn)?;
            if used < data.len() {
                self.input.extend_from_slice(&data[used..]);
            }
        } else {
            self.input.extend_from_slice(data);
            self.on_input(turn)?;
        }
        self.note_waiting(turn);
        Ok(())
    }

    /// The multishot receive is over.
    pub fn on_recv_ended(&mut self, end: RecvEnd) -> Result<(), Close> {
        self.receiving = Receiving::Nothing;
        match end {
            RecvEnd::Eof => self.eof = true,
            RecvEnd::Stopped | RecvEnd::NoBuffers => {}
            RecvEnd::Failed(error) => return Err(Close(format!("receiving failed: {error}"))),
        }
        Ok(())
    }

    /// The connection's own buffer comes back.
    pub fn on_received_into(
        &mut self,
        buf: Vec<u8>,
        result: std::io::Result<usize>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Close> {
        let stopped = mem::replace(&mut self.receiving, Receiving::Nothing) == Receiving::Stopping;
        (self.input, self.lent_bytes) = (buf, 0);
        match result {
            Ok(0) => self.eof = true,
            Ok(bytes) => {
                self.last_active = turn.now.mono;
                turn.shard.stats.counters.bytes_received += bytes as u64;
            }
            Err(error) if stopped && error.raw_os_error() == Some(libc::ECANCELED) => {
                self.large = false;
                self.input.shrink_to_fit();
            }
            Err(error) => return Err(Close(format!("receiving failed: {error}"))),
        }
        if !self.closing {
            self.on_input(turn)?;
            self.note_waiting(turn);
        }
        Ok(())
    }

    /// Bytes came, and some of them stay.
    fn note_waiting(&mut self, turn: &Turn<'_>) {
        if !self.input.is_empty() {
            self.arrivals.on_waiting(&self.input, self.limits.request_bytes_max, turn.now.mono);
        }
    }

    /// This turn has time for what was put off.
    pub fn go_on(&mut self, turn: &mut Turn<'_>) -> Result<(), Close> {
        if self.closing {
            return Ok(());
        }
        self.session.go_on(turn)?;
        self.on_input(turn)
    }

    /// This turn has time for fetches that were put off.
    pub fn look_on(&mut self, turn: &mut Turn<'_>) {
        if !self.closing {
            self.session.look_on(turn);
        }
    }

    /// Take up what waits in `input`.
    pub fn on_input(&mut self, turn: &mut Turn<'_>) -> Result<(), Close> {
        if self.receiving == Receiving::Own || self.input.is_empty() || self.draining {
            return Ok(());
        }
        let input = mem::take(&mut self.input);
        self.lent_bytes = input.capacity();
        let used = self.take_frames(&input, turn);
        (self.input, self.lent_bytes) = (input, 0);
        self.input.drain(..used?);
        if self.input.is_empty() && !self.large {
            self.input = Vec::new();
        }
        Ok(())
    }

    /// Take up the complete requests at the front of `bytes`, as far as limits and this turn allow. Returns
    /// how many bytes they had.
    fn take_frames(&mut self, bytes: &[u8], turn: &mut Turn<'_>) -> Result<usize, Close> {
        let mut at = 0;
        (self.waits, self.waits_for_memory, self.frame_bytes) = (Waits::Nothing, false, 0);
        loop {
            let frame = first_request(&bytes[at..], self.limits.request_bytes_max);
            match frame.map_err(|error| Close(error.to_string()))? {
                Frame::Incomplete { bytes_needed } => {
                    self.large |= bytes_needed > LARGE_FRAME_BYTES;
                    self.frame_bytes = bytes_needed;
                    break;
                }
                Frame::Complete(range) if !self.may_take(&turn.front.memory) => {
                    self.frame_bytes = range.end;
                    self.waits_for_memory = self.is_held_up(&turn.front.memory);
                    break;
                }
                Frame::Complete(range) if self.spent >= TURN_COST => {
                    self.frame_bytes = range.end;
                    self.waits = Waits::NextTurn;
                    break;
                }
                Frame::Complete(range) => {
                    let end = at + range.end;
                    let received = self.arrivals.time_of(end).unwrap_or(turn.now.mono);
                    match self.session.on_frame(&bytes[at + range.start..end], received, turn)? {
                        Taken::Yes { cost } => {
                            at = end;
                            self.spent += cost;
                            self.finishing = self.turn_until.is_some();
                        }
                        Taken::Later => {
                            self.frame_bytes = range.end;
                            self.waits = Waits::Room;
                            break;
                        }
                        Taken::PutOff => {
                            self.frame_bytes = range.end;
                            self.waits = Waits::Line;
                            break;
                        }
                    }
                }
            }
        }
        self.arrivals.on_taken(at);
        Ok(at)
    }

    /// Of its own limits, it may take up a further request.
    fn has_room(&self) -> bool {
        let session_bytes = self.session.held_bytes();
        self.session.in_flight() < self.limits.in_flight_max
            && (session_bytes == 0 || self.held_bytes() < self.limits.memory_max)
    }

    /// The shard cannot spare what a further request would take. The first one is always taken.
    fn is_held_up(&self, memory: &Memory) -> bool {
        let held = self.session.held_bytes();
        held > 0 && !self.may_exceed() && !memory.admits(held, 0)
    }

    fn may_take(&self, memory: &Memory) -> bool {
        self.has_room() && !self.is_held_up(memory)
    }

    /// Whether it goes no further because the shard has no memory for it.
    pub fn is_refused(&self, memory: &Memory) -> bool {
        if self.waits == Waits::Room || !self.has_room() {
            return false;
        }
        let more = match self.receiving {
            Receiving::Nothing if self.large && !self.eof && self.waits == Waits::Nothing => {
                self.growth_bytes(memory)
            }
            _ => 0,
        };
        let grows = more > 0 && self.fits(more);
        let no_memory = || !self.may_exceed() && !memory.admits(self.held_bytes(), more);
        self.is_held_up(memory) || (grows && no_memory())
    }

    /// Its own limit leaves so much. What it holds for requests before must leave first.
    fn fits(&self, more: usize) -> bool {
        self.session.held_bytes() == 0 || self.held_bytes() + more <= self.limits.memory_max
    }

    /// Read on, if there is room for more requests and memory for what comes.
    pub fn poll_recv(&mut self, memory: &Memory, ops: &mut Vec<Op>) {
        if self.closing {
            return;
        }
        self.waits_for_memory = self.is_refused(memory);
        let conn = self.id;
        let may_read = self.waits == Waits::Nothing && !self.waits_for_memory && self.has_room();
        match self.receiving {
            Receiving::Nothing if self.eof || !may_read => {}
            Receiving::Nothing if self.large => {
                self.give_back(memory);
                let more = self.growth_bytes(memory);
                if more > 0 && !self.fits(more) {
                    return;
                }
                let mut buf = mem::take(&mut self.input);
                buf.reserve_exact(buf.capacity() + more - buf.len());
                self.receiving = Receiving::Own;
                self.lent_bytes = buf.capacity();
                ops.push(Op::RecvInto { conn, buf });
            }
            Receiving::Nothing => {
                self.receiving = Receiving::Shared;
                ops.push(Op::RecvStart { conn });
            }
            Receiving::Shared if !may_read || self.large => {
                self.receiving = Receiving::Stopping;
                ops.push(Op::RecvStop { conn });
            }
            Receiving::Shared | Receiving::Stopping | Receiving::Own => {}
        }
    }

    /// The buffer was for larger frames than this one: what is not needed goes back, all of it when memory
    /// is short.
    fn give_back(&mut self, memory: &Memory) {
        let short = memory.is_short();
        let keep = self.frame_bytes.max(if short { FREE_BYTES } else { LARGE_BUFFER_BYTES });
        if self.input.capacity() > if short { keep } else { 4 * keep } {
            self.input.shrink_to(keep);
        }
    }

    /// By how much the own buffer grows for the next receive.
    fn growth_bytes(&self, memory: &Memory) -> usize {
        let (len, capacity) = (self.input.len(), self.input.capacity());
        let least = if memory.is_short() { FREE_BYTES } else { LARGE_BUFFER_BYTES };
        if len < capacity && capacity >= least {
            return 0;
        }
        // Doubled whenever full, up to the frame's end: the sender has paid for half of it by then.
        let wanted = (2 * len).clamp(least, self.frame_bytes.max(least)).max(len + 1);
        wanted.saturating_sub(capacity)
    }

    /// Nothing has come for a while: give the own buffer back. Small requests, or the first of the
    /// next large ones, arrive in shared buffers again.
    pub fn on_silence(&mut self, ops: &mut Vec<Op>) {
        if self.receiving == Receiving::Own && !self.closing {
            self.receiving = Receiving::Stopping;
            ops.push(Op::RecvStop { conn: self.id });
        }
    }

    /// Take up no further request: the broker is stopping. What is under way is answered.
    pub fn drain(&mut self, ops: &mut Vec<Op>) {
        self.draining = true;
        if matches!(self.receiving, Receiving::Shared | Receiving::Own) && !self.closing {
            self.receiving = Receiving::Stopping;
            ops.push(Op::RecvStop { conn: self.id });
        }
    }

    /// The next turn has time for more.
    pub fn end_turn(&mut self) {
        self.spent = 0;
    }

    /// Send what is complete, if no send is under way.
    pub fn poll_send(&mut self, front: &mut Front, now: Nanos, ops: &mut Vec<Op>) {
        if self.sending_since.is_some() || self.closing {
            return;
        }
        if let Some(parts) = self.session.poll_send(front) {
            let parts: Vec<Bytes> = parts;
            self.sending_since = Some(now);
            ops.push(Op::Send { conn: self.id, parts });
        }
    }

    pub fn on_sent(&mut self, result: std::io::Result<usize>, turn: &mut Turn<'_>) -> Result<(), Close> {
        self.sending_since = None;
        self.last_active = turn.now.mono;
        let bytes = result.map_err(|error| Close(format!("sending failed: {error}")))?;
        turn.shard.stats.counters.bytes_sent += bytes as u64;
        self.session.on_sent(turn.now.mono, turn.shard);
        self.session.run_blocked(turn);
        self.on_input(turn)
    }

    /// The peer has gone and everything it asked for is answered.
    pub fn is_over(&self) -> bool {
        let under_way = self.sending_since.is_some() || self.session.in_flight() > 0 || self.has_frame();
        self.eof && !under_way && !self.closing
    }

    pub fn close(&mut self, ops: &mut Vec<Op>) {
        if !self.closing {
            self.closing = true;
            ops.push(Op::Close { conn: self.id });
        }
    }
}
