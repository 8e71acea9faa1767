//! Which slot a partition has.
//!
//! A topic's partitions are numbered from zero, so eight neighbours share an entry: of a log that hosts most of a
//! topic, what every append looks up is a fourth of a map of partitions (7 bytes instead of 25), and of one that hosts
//! every eighth twice as much. An index from a peer or a disk sizes nothing.

use rustc_hash::FxHashMap;

use crate::model::{PartitionKey, Slot, TopicId};

const NEIGHBOURS: i32 = 8;
/// No slot has this number: 2^32 of them would not fit in memory.
const NONE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub struct SlotIndex {
    groups: FxHashMap<(TopicId, i32), [u32; NEIGHBOURS as usize]>,
}

impl SlotIndex {
    /// The entry that the partition is in, and where in it.
    #[inline]
    fn place(key: PartitionKey) -> ((TopicId, i32), usize) {
        ((key.topic, key.index.div_euclid(NEIGHBOURS)), key.index.rem_euclid(NEIGHBOURS) as usize)
    }

    #[inline]
    pub fn get(&self, key: PartitionKey) -> Option<Slot> {
        let (group, place) = SlotIndex::place(key);
        let slot = self.groups.get(&group)?[place];
        (slot != NONE).then_some(Slot(slot))
    }

    /// The partition has this slot from now on.
    pub fn insert(&mut self, key: PartitionKey, slot: Slot) {
        assert_ne!(slot.0, NONE);
        let (group, place) = SlotIndex::place(key);
        self.groups.entry(group).or_insert([NONE; NEIGHBOURS as usize])[place] = slot.0;
    }

    /// The partition has none any more.
    pub fn remove(&mut self, key: PartitionKey) {
        let (group, place) = SlotIndex::place(key);
        let Some(slots) = self.groups.get_mut(&group) else { return };
        slots[place] = NONE;
        if slots.iter().all(|slot| *slot == NONE) {
            self.groups.remove(&group);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_says_what_a_map_would() {
        let mut index = SlotIndex::default();
        let mut map = BTreeMap::new();
        let numbers = [0, 1, 7, 8, 9, 15, 16, 1000, i32::MAX, -1, -8, -9, i32::MIN];
        let keys = |topic: u8| numbers.map(|index| PartitionKey { topic: TopicId([topic; 16]), index });
        for (step, key) in [keys(1), keys(2), keys(1)].concat().into_iter().enumerate() {
            let slot = Slot(step as u32);
            index.insert(key, slot);
            map.insert(key, slot);
            if step % 3 == 0 {
                let gone = keys(1)[step % numbers.len()];
                index.remove(gone);
                map.remove(&gone);
            }
            for key in [keys(1), keys(2), keys(3)].concat() {
                assert_eq!(index.get(key), map.get(&key).copied(), "{key:?} after {step}");
            }
        }
        map.keys().for_each(|key| index.remove(*key));
        assert!(index.groups.is_empty(), "nothing is kept for what is gone");
    }
}
