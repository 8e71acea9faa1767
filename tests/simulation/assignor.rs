//! What members of type `consumer` tell each other through the broker: what they subscribe to, and what their leader
//! has assigned. In the layout of the clients (`ConsumerProtocolSubscription`, `ConsumerProtocolAssignment`).
//!
//! ```text
//!   version i16, count i32, { length i16, topic, [ count i32, partition i32 ... ] } ..., user data i32
//! ```

/// The topics of the story, and how many partitions each has.
pub const TOPICS: [(&str, i32); 2] = [("orders", 5), ("clicks", 3)];

const NO_USER_DATA: i32 = -1;

/// A partition, by the place of its topic in [`TOPICS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    pub topic: usize,
    pub index: i32,
}

/// All partitions of a topic.
fn parts(topic: usize) -> impl Iterator<Item = Part> {
    (0..TOPICS[topic].1).map(move |index| Part { topic, index })
}

pub fn all_parts() -> impl Iterator<Item = Part> {
    (0..TOPICS.len()).flat_map(parts)
}

/// The partitions by topic, as requests name them.
pub fn by_topic(parts: &[Part]) -> impl Iterator<Item = (&'static str, Vec<i32>)> {
    let of = |topic| parts.iter().filter(move |part| part.topic == topic).map(|part| part.index).collect();
    let topics = (0..TOPICS.len()).map(move |topic| (TOPICS[topic].0, of(topic)));
    topics.filter(|(_, indexes): &(_, Vec<i32>)| !indexes.is_empty())
}

pub fn topic_named(name: &str) -> usize {
    TOPICS.iter().position(|(topic, _)| *topic == name).expect("no other topic was ever named")
}

fn begin(count: usize) -> Vec<u8> {
    let mut bytes = 0_i16.to_be_bytes().to_vec();
    bytes.extend((count as i32).to_be_bytes());
    bytes
}

fn put_name(bytes: &mut Vec<u8>, name: &str) {
    bytes.extend((name.len() as i16).to_be_bytes());
    bytes.extend(name.as_bytes());
}

pub fn subscription(topics: &[usize]) -> Vec<u8> {
    let mut bytes = begin(topics.len());
    topics.iter().for_each(|topic| put_name(&mut bytes, TOPICS[*topic].0));
    bytes.extend(NO_USER_DATA.to_be_bytes());
    bytes
}

pub fn assignment(parts: &[Part]) -> Vec<u8> {
    let topics: Vec<_> = by_topic(parts).collect();
    let mut bytes = begin(topics.len());
    for (name, indexes) in topics {
        put_name(&mut bytes, name);
        bytes.extend((indexes.len() as i32).to_be_bytes());
        indexes.iter().for_each(|index| bytes.extend(index.to_be_bytes()));
    }
    bytes.extend(NO_USER_DATA.to_be_bytes());
    bytes
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
}

pub fn subscribed(bytes: &[u8]) -> Vec<usize> {
    let mut fields = Fields(bytes);
    assert_eq!(fields.i16(), 0, "the version");
    (0..fields.i32()).map(|_| fields.topic()).collect()
}

/// Nothing at all is an assignment as well: of a member that its leader did not know.
pub fn assigned(bytes: &[u8]) -> Vec<Part> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut fields = Fields(bytes);
    assert_eq!(fields.i16(), 0, "the version");
    let mut parts = Vec::new();
    for _ in 0..fields.i32() {
        let topic = fields.topic();
        for _ in 0..fields.i32() {
            parts.push(Part { topic, index: fields.i32() });
        }
    }
    parts
}

/// Each topic in ranges to those who subscribe to it, in the order of their names.
pub fn range(members: &[(&str, &[usize])]) -> Vec<Vec<Part>> {
    let mut shares = vec![Vec::new(); members.len()];
    for (topic, (_, count)) in TOPICS.iter().enumerate() {
        let mut readers: Vec<usize> =
            (0..members.len()).filter(|index| members[*index].1.contains(&topic)).collect();
        readers.sort_unstable_by_key(|index| members[*index].0);
        let mut rest = parts(topic);
        for (place, reader) in readers.iter().enumerate() {
            let (count, readers) = (*count as usize, readers.len());
            let share = count / readers + usize::from(place < count % readers);
            shares[*reader].extend(rest.by_ref().take(share));
        }
    }
    shares
}
