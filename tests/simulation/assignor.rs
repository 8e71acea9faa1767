//! The ways in which a leader shares the partitions out, as clients have them.

use std::collections::BTreeMap;

use super::metadata::Subscription;

/// The topics of the story, and how many partitions each has.
pub const TOPICS: [(&str, i32); 2] = [("orders", 5), ("clicks", 3)];

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

/// Who takes part in a generation, as its leader sees it.
#[derive(Clone)]
pub struct Peer {
    pub id: String,
    /// Its instance, or its id.
    pub name: String,
    pub said: Subscription,
}

impl Peer {
    fn reads(&self, part: Part) -> bool {
        self.said.topics.contains(&part.topic)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Range,
    RoundRobin,
    Sticky,
    /// The one under which members that know no other keep what they own while they join (KIP-429).
    Cooperative,
}

impl Protocol {
    const ALL: [Protocol; 4] =
        [Protocol::Range, Protocol::RoundRobin, Protocol::Sticky, Protocol::Cooperative];

    pub fn name(self) -> &'static str {
        match self {
            Protocol::Range => "range",
            Protocol::RoundRobin => "roundrobin",
            Protocol::Sticky => "sticky",
            Protocol::Cooperative => "cooperative-sticky",
        }
    }

    pub fn named(name: &str) -> Protocol {
        let mut all = Protocol::ALL.into_iter();
        all.find(|protocol| protocol.name() == name).expect("no other protocol was ever named")
    }

    /// What each of the peers gets.
    pub fn assign(self, peers: &[Peer]) -> Vec<Vec<Part>> {
        // The order in which they hear of the generation means nothing.
        let mut order: Vec<usize> = (0..peers.len()).collect();
        order.sort_unstable_by_key(|index| &peers[*index].name);
        match self {
            Protocol::Range => range(peers, &order),
            Protocol::RoundRobin => round_robin(peers, &order),
            Protocol::Sticky => sticky(peers, &order),
            Protocol::Cooperative => cooperative(peers, &order),
        }
    }
}

/// Each topic in ranges to those who subscribe to it.
fn range(peers: &[Peer], order: &[usize]) -> Vec<Vec<Part>> {
    let mut shares = vec![Vec::new(); peers.len()];
    for (topic, (_, count)) in TOPICS.iter().enumerate() {
        let reads = |index: &&usize| peers[**index].said.topics.contains(&topic);
        let readers: Vec<usize> = order.iter().filter(reads).copied().collect();
        let mut rest = parts(topic);
        for (place, reader) in readers.iter().enumerate() {
            let (count, readers) = (*count as usize, readers.len());
            let share = count / readers + usize::from(place < count % readers);
            shares[*reader].extend(rest.by_ref().take(share));
        }
    }
    shares
}

/// One partition to each in turn who reads it.
fn round_robin(peers: &[Peer], order: &[usize]) -> Vec<Vec<Part>> {
    let mut shares = vec![Vec::new(); peers.len()];
    let mut turn = 0;
    for part in all_parts() {
        let mut places = (turn..turn + order.len()).map(|place| place % order.len());
        if let Some(place) = places.find(|place| peers[order[*place]].reads(part)) {
            shares[order[place]].push(part);
            turn = place + 1;
        }
    }
    shares
}

/// Who owns what, as the peers say. Of two who say so, the one who was given it earlier has missed a generation.
fn owners(peers: &[Peer]) -> BTreeMap<Part, usize> {
    let mut owners: BTreeMap<Part, usize> = BTreeMap::new();
    for (index, peer) in peers.iter().enumerate() {
        for part in &peer.said.owned {
            let owner = owners.entry(*part).or_insert(index);
            let (before, now) = (&peers[*owner], peer.said.owned_in);
            assert!(
                *owner == index || before.said.owned_in != now,
                "{} and {} were both given {part:?} in {now}",
                before.name,
                peer.name
            );
            if before.said.owned_in < now {
                *owner = index;
            }
        }
    }
    owners
}

/// Everybody keeps what it has, as far as nobody has two less.
fn sticky(peers: &[Peer], order: &[usize]) -> Vec<Vec<Part>> {
    let mut shares = vec![Vec::new(); peers.len()];
    let owners = owners(peers);
    for (part, owner) in &owners {
        shares[*owner].push(*part);
    }
    for part in all_parts().filter(|part| !owners.contains_key(part)) {
        let readers = order.iter().filter(|index| peers[**index].reads(part));
        if let Some(reader) = readers.min_by_key(|index| shares[**index].len()) {
            shares[*reader].push(part);
        }
    }
    let pairs = || order.iter().flat_map(|from| order.iter().map(move |to| (*from, *to)));
    loop {
        let next = pairs().find_map(|(from, to)| {
            let unfair = shares[from].len() >= shares[to].len() + 2;
            let at = shares[from].iter().position(|part| unfair && peers[to].reads(*part))?;
            Some((from, to, at))
        });
        let Some((from, to, at)) = next else { break };
        let part = shares[from].remove(at);
        shares[to].push(part);
    }
    shares
}

/// The same, without what somebody else owns still: who is to give it up does so, and joins again.
fn cooperative(peers: &[Peer], order: &[usize]) -> Vec<Vec<Part>> {
    let owners = owners(peers);
    let mut shares = sticky(peers, order);
    for (index, share) in shares.iter_mut().enumerate() {
        share.retain(|part| owners.get(part).is_none_or(|owner| *owner == index));
    }
    shares
}
