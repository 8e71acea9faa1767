//! A client's connection: requests out, responses back in their order, and the connection's end.

use std::collections::VecDeque;
use std::time::Duration;

use ringmq::io::sim::{ClientSocket, StreamState};
use ringmq::kafka::protocol::api::{ApiKey, Message, Response};
use ringmq::kafka::protocol::frame::{Frame, decode_response, first_response, put_request};
use ringmq::model::Nanos;

use super::coverage::Event;
use super::machine::address;
use super::stage::Stage;

/// After its connection broke a client waits this long: longer than a broker needs for what it had
/// received before, so that an old request is not done after a newer one.
const RECONNECT_AFTER: Duration = Duration::from_millis(50);

struct Asked<N> {
    correlation_id: i32,
    api: ApiKey,
    version: i16,
    note: N,
}

/// `N` is what the client remembers of a request until its response comes.
pub struct Link<N> {
    socket: Option<ClientSocket>,
    received: Vec<u8>,
    asked: VecDeque<Asked<N>>,
    correlation_id: i32,
    connect_at: Nanos,
    /// It broke the connection itself.
    was_reset: bool,
}

/// What a client finds when it looks.
pub enum Heard<N> {
    Response {
        note: N,
        frame: Vec<u8>,
        api: ApiKey,
        version: i16,
    },
    /// The connection is gone; what was asked will not be answered.
    Broken,
    Nothing,
}

impl<N> Link<N> {
    pub fn new() -> Link<N> {
        Link {
            socket: None,
            received: Vec::new(),
            asked: VecDeque::new(),
            correlation_id: 0,
            connect_at: Nanos(0),
            was_reset: false,
        }
    }

    /// Connected, or connecting; false if it is too early or nobody listens. A client goes anywhere: what it
    /// asks is done wherever it asks.
    pub fn ready(&mut self, stage: &mut Stage) -> bool {
        if self.socket.is_none() && stage.world.now().mono >= self.connect_at {
            let to = match stage.log_addresses.len() as u64 {
                0 => 0,
                count => stage.rng.below(count + 1) as usize,
            };
            let address = to.checked_sub(1).map_or_else(address, |log| stage.log_addresses[log]);
            self.socket = stage.world.connect(address).ok();
            stage.coverage.add(Event::ConnectionsToLogs, u64::from(to > 0));
        }
        self.socket.is_some()
    }

    pub fn id(&self) -> Option<u64> {
        self.socket.as_ref().map(ClientSocket::id)
    }

    pub fn in_flight(&self) -> usize {
        self.asked.len()
    }

    pub fn ask<'m, M: Message<'m>>(&mut self, version: i16, request: &M, note: N) {
        let socket = self.socket.as_ref().expect("asked while ready");
        let mut bytes = Vec::new();
        self.correlation_id += 1;
        put_request(&mut bytes, version, self.correlation_id, Some("simulation"), request).expect("fits");
        socket.send(&bytes);
        let correlation_id = self.correlation_id;
        self.asked.push_back(Asked { correlation_id, api: M::API, version, note });
    }

    /// Break the connection; [`Link::hear`] says so.
    pub fn reset(&mut self) {
        if let Some(socket) = &self.socket {
            socket.reset();
            self.was_reset = true;
        }
    }

    /// The next thing that the client hears.
    pub fn hear(&mut self, stage: &mut Stage) -> Heard<N> {
        let Some(socket) = &self.socket else { return Heard::Nothing };
        self.received.extend(socket.recv());
        match first_response(&self.received, 64 << 20).expect("the broker's frames are well-formed") {
            Frame::Complete(range) => {
                let frame = self.received[range.clone()].to_vec();
                self.received.drain(..range.end);
                let asked = self.asked.pop_front().expect("a response to nothing");
                let correlation_id = i32::from_be_bytes(*frame.first_chunk().expect("checked by the frame"));
                assert_eq!(correlation_id, asked.correlation_id, "responses come in the requests' order");
                stage.answered += 1;
                Heard::Response { note: asked.note, frame, api: asked.api, version: asked.version }
            }
            Frame::Incomplete { .. } if socket.state() == StreamState::Open && !self.was_reset => {
                Heard::Nothing
            }
            Frame::Incomplete { .. } => {
                socket.close();
                self.socket = None;
                self.was_reset = false;
                self.received.clear();
                self.connect_at = stage.world.now().mono.plus(RECONNECT_AFTER);
                self.asked.clear();
                Heard::Broken
            }
        }
    }
}

pub fn decode(frame: &[u8], api: ApiKey, version: i16) -> Response<'_> {
    decode_response(frame, api, version).expect("the broker's responses are well-formed").1
}
