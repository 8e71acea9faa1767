//! What members of type `consumer` tell each other through the broker: what they subscribe to and own, and what their
//! leader has assigned. In the layout of the clients (`ConsumerProtocolSubscription`, `ConsumerProtocolAssignment`).
//!
//! ```text
//!   parts          count i32, { length i16, topic, count i32, partition i32 ... } ...
//!   assignment     version i16, parts, user data i32 + bytes
//!   subscription   version i16, count i32, { length i16, topic } ..., user data i32 + bytes, from version 1 on: parts
//! ```
//!
//! As user data `sticky` has the parts that a member had and their generation, `cooperative-sticky` the generation
//! alone, since the parts that a member keeps are in the subscription itself; others have none.

use super::assignor::{Part, Protocol, TOPICS, by_topic, topic_named};

const NO_USER_DATA: i32 = -1;

/// What a member says of itself.
#[derive(Clone)]
pub struct Subscription {
    pub topics: Vec<usize>,
    /// What it owns, or has owned last.
    pub owned: Vec<Part>,
    /// The generation in which it was given that.
    pub owned_in: i32,
}

fn begin(version: i16) -> Vec<u8> {
    version.to_be_bytes().to_vec()
}

fn put_i32(bytes: &mut Vec<u8>, number: i32) {
    bytes.extend(number.to_be_bytes());
}

fn put_name(bytes: &mut Vec<u8>, name: &str) {
    bytes.extend((name.len() as i16).to_be_bytes());
    bytes.extend(name.as_bytes());
}

fn put_parts(bytes: &mut Vec<u8>, parts: &[Part]) {
    let topics: Vec<_> = by_topic(parts).collect();
    put_i32(bytes, topics.len() as i32);
    for (name, indexes) in topics {
        put_name(bytes, name);
        put_i32(bytes, indexes.len() as i32);
        indexes.iter().for_each(|index| put_i32(bytes, *index));
    }
}

pub fn assignment(parts: &[Part]) -> Vec<u8> {
    let mut bytes = begin(0);
    put_parts(&mut bytes, parts);
    put_i32(&mut bytes, NO_USER_DATA);
    bytes
}

/// Nothing at all is an assignment as well: of a member that its leader did not know.
pub fn assigned(bytes: &[u8]) -> Vec<Part> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut fields = Fields(bytes);
    assert_eq!(fields.i16(), 0, "the version");
    let parts = fields.parts();
    assert_eq!(fields.i32(), NO_USER_DATA);
    parts
}

impl Subscription {
    pub fn encode(&self, protocol: Protocol) -> Vec<u8> {
        let mut bytes = begin(i16::from(protocol == Protocol::Cooperative));
        put_i32(&mut bytes, self.topics.len() as i32);
        self.topics.iter().for_each(|topic| put_name(&mut bytes, TOPICS[*topic].0));
        let mut user_data = Vec::new();
        match protocol {
            Protocol::Range | Protocol::RoundRobin => {
                put_i32(&mut bytes, NO_USER_DATA);
                return bytes;
            }
            Protocol::Sticky => put_parts(&mut user_data, &self.owned),
            Protocol::Cooperative => {}
        }
        put_i32(&mut user_data, self.owned_in);
        put_i32(&mut bytes, user_data.len() as i32);
        bytes.extend(user_data);
        if protocol == Protocol::Cooperative {
            put_parts(&mut bytes, &self.owned);
        }
        bytes
    }

    /// Everybody must have said something under the protocol that was chosen, and this is it.
    pub fn decode(bytes: &[u8], protocol: Protocol) -> Subscription {
        let mut fields = Fields(bytes);
        assert_eq!(fields.i16(), i16::from(protocol == Protocol::Cooperative), "the version");
        let topics = (0..fields.i32()).map(|_| fields.topic()).collect();
        let mut said = Subscription { topics, owned: Vec::new(), owned_in: -1 };
        let user_data_bytes = fields.i32();
        match protocol {
            Protocol::Range | Protocol::RoundRobin => assert_eq!(user_data_bytes, NO_USER_DATA),
            Protocol::Sticky => {
                said.owned = fields.parts();
                said.owned_in = fields.i32();
            }
            Protocol::Cooperative => {
                said.owned_in = fields.i32();
                said.owned = fields.parts();
            }
        }
        assert!(fields.0.is_empty(), "more than a subscription");
        said
    }
}

/// Reads what a member wrote: what comes back through the broker has not changed.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn i16(&mut self) -> i16 {
        let (first, rest) = self.0.split_first_chunk().expect("cut off");
        self.0 = rest;
        i16::from_be_bytes(*first)
    }

    fn i32(&mut self) -> i32 {
        let (first, rest) = self.0.split_first_chunk().expect("cut off");
        self.0 = rest;
        i32::from_be_bytes(*first)
    }

    fn topic(&mut self) -> usize {
        let len = self.i16() as usize;
        let (name, rest) = self.0.split_at(len);
        self.0 = rest;
        topic_named(std::str::from_utf8(name).expect("names are text"))
    }

    fn parts(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        for _ in 0..self.i32() {
            let topic = self.topic();
            for _ in 0..self.i32() {
                parts.push(Part { topic, index: self.i32() });
            }
        }
        parts
    }
}
