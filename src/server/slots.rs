//! The connections of a shard, each in its slot.
//!
//! What is for a connection may come after its end, when another has its slot: so an id says the slot's generation,
//! and nothing is found by one of an earlier.

use std::ops::Range;

use crate::io::op::ConnId;

use super::connection::Connection;

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

#[derive(Default)]
pub struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    connections: usize,
}

impl Slots {
    /// Connections that there are, those that are being closed included.
    pub fn connections(&self) -> usize {
        self.connections
    }

    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().filter_map(|slot| slot.connection.as_ref())
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slots.iter_mut().filter_map(|slot| slot.connection.as_mut())
    }

    /// All slots, used or not, for a walk in which connections act.
    pub fn indexes(&self) -> Range<usize> {
        0..self.slots.len()
    }

    /// The id of the slot's connection, if it has one.
    pub fn id_at(&self, index: usize) -> ConnId {
        ConnId { index: index as u32, generation: self.slots[index].generation }
    }

    #[inline]
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        slot.connection.as_mut().filter(|_| slot.generation == conn.generation)
    }

    /// Give a slot to the connection that is made with its id.
    pub fn insert(&mut self, make: impl FnOnce(ConnId) -> Connection) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.connection = Some(make(ConnId { index, generation: slot.generation }));
        self.connections += 1;
    }

    /// The connection has ended: its slot is free, and its id means nothing any more.
    pub fn remove(&mut self, conn: ConnId) -> Option<Connection> {
        let slot = &mut self.slots[conn.index as usize];
        assert_eq!(slot.generation, conn.generation, "a connection is closed once");
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(conn.index);
        self.connections -= 1;
        slot.connection.take()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::model::Nanos;
    use crate::server::connection::Limits;

    fn insert(slots: &mut Slots) -> ConnId {
        let limits = Limits { request_bytes_max: 1 << 20, in_flight_max: 5, memory_max: 1 << 20 };
        let mut id = None;
        slots.insert(|conn| {
            id = Some(conn);
            Connection::new(conn, IpAddr::V4(Ipv4Addr::LOCALHOST), None, limits, Nanos(0))
        });
        id.expect("it was made")
    }

    #[test]
    fn a_slot_that_is_used_again_is_not_found_by_its_old_id() {
        let mut slots = Slots::default();
        let (first, second) = (insert(&mut slots), insert(&mut slots));
        assert!(slots.get_mut(first).is_some() && slots.remove(first).is_some());
        assert!(slots.get_mut(first).is_none(), "it has ended");
        let third = insert(&mut slots);
        assert_eq!(third.index, first.index);
        assert!(slots.get_mut(first).is_none(), "another has its slot");
        assert!(slots.get_mut(second).is_some() && slots.get_mut(third).is_some());
        assert_eq!((slots.connections(), slots.iter().count()), (2, 2));
        assert_eq!(slots.indexes().map(|index| slots.id_at(index)).collect::<Vec<_>>(), [third, second]);
    }
}
