//! The producers that all partitions of a log remember, by who wrote last: the one to be forgotten next is
//! the one that was silent longest.
//!
//! A list linked inside of a vector: coming, writing and going take constant time. Producers are in it
//! from their first durable batch on and move with each, in the log's order; what is pending does not
//! touch it. So who is forgotten follows from the durable log alone.
//!
//! ```text
//!   oldest                                           newest
//!   (slot 3, producer 7) <-> (slot 0, producer 9) <-> (slot 3, producer 8)
//! ```

use crate::model::{ProducerId, Slot};

/// A producer's place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat(u32);

impl Seat {
    pub const NONE: Seat = Seat(u32::MAX);
}

#[derive(Clone, Copy, Debug)]
struct Node {
    id: ProducerId,
    slot: Slot,
    older: Seat,
    /// Of a seat that is free: the next one that is.
    newer: Seat,
}

#[derive(Debug)]
pub struct ProducerLru {
    nodes: Vec<Node>,
    oldest: Seat,
    newest: Seat,
    free: Seat,
    count: usize,
}

impl Default for ProducerLru {
    fn default() -> ProducerLru {
        let (oldest, newest, free) = (Seat::NONE, Seat::NONE, Seat::NONE);
        ProducerLru { nodes: Vec::new(), oldest, newest, free, count: 0 }
    }
}

impl ProducerLru {
    /// Producers, once for each partition that remembers them.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Who was silent longest.
    pub fn oldest(&self) -> Option<(Slot, ProducerId)> {
        let node = self.nodes.get(self.oldest.0 as usize)?;
        Some((node.slot, node.id))
    }

    /// A producer of the partition at `slot` has written for the first time.
    pub fn enter(&mut self, slot: Slot, id: ProducerId) -> Seat {
        let node = Node { id, slot, older: Seat::NONE, newer: Seat::NONE };
        let seat = if self.free == Seat::NONE {
            self.nodes.push(node);
            Seat(self.nodes.len() as u32 - 1)
        } else {
            let seat = self.free;
            self.free = self.node(seat).newer;
            *self.node(seat) = node;
            seat
        };
        self.count += 1;
        self.link_newest(seat);
        seat
    }

    /// It has written again.
    pub fn touch(&mut self, seat: Seat) {
        if seat != self.newest {
            self.unlink(seat);
            self.link_newest(seat);
        }
    }

    /// It is forgotten.
    pub fn leave(&mut self, seat: Seat) {
        self.unlink(seat);
        self.count -= 1;
        self.node(seat).newer = self.free;
        self.free = seat;
    }

    fn link_newest(&mut self, seat: Seat) {
        let older = self.newest;
        let node = self.node(seat);
        (node.older, node.newer) = (older, Seat::NONE);
        match older {
            Seat::NONE => self.oldest = seat,
            older => self.node(older).newer = seat,
        }
        self.newest = seat;
    }

    fn unlink(&mut self, seat: Seat) {
        let Node { older, newer, .. } = *self.node(seat);
        match older {
            Seat::NONE => self.oldest = newer,
            older => self.node(older).newer = newer,
        }
        match newer {
            Seat::NONE => self.newest = older,
            newer => self.node(newer).older = older,
        }
    }

    fn node(&mut self, seat: Seat) -> &mut Node {
        &mut self.nodes[seat.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_oldest_is_who_wrote_longest_ago(steps in prop::collection::vec((0u8..3, 0usize..16), 1..200)) {
            let mut lru = ProducerLru::default();
            let mut model: Vec<(i64, Seat)> = Vec::new();
            let mut most = 0;
            for (number, (step, pick)) in (0i64..).zip(steps) {
                let picked = (!model.is_empty()).then(|| pick % model.len());
                match (step, picked) {
                    (0, Some(picked)) => lru.leave(model.remove(picked).1),
                    (1, Some(picked)) => {
                        let again = model.remove(picked);
                        lru.touch(again.1);
                        model.push(again);
                    }
                    _ => model.push((number, lru.enter(Slot(number as u32), ProducerId(number)))),
                }
                most = most.max(model.len());
                let oldest = model.first().map(|(number, _)| (Slot(*number as u32), ProducerId(*number)));
                prop_assert_eq!(lru.oldest(), oldest);
                prop_assert_eq!(lru.count(), model.len());
                prop_assert_eq!(lru.nodes.len(), most, "seats are taken again");
            }
        }
    }
}
