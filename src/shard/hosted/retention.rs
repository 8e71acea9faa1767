//! Retention: which partitions it has to look at, and what it drops of them.
//!
//! It looks at those that changed, and at those whose oldest records are due. A partition that is idle is one entry
//! in a heap, and nobody looks at it before its time has come.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::base::prefetch::prefetch;
use crate::log::consume_queue::Run;
use crate::metadata::catalog::Catalog;
use crate::model::{Slot, TopicId, WallMs};
use crate::shard::Retention;

use super::Hosted;

/// Partitions looked at by retention in one turn.
const RETENTION_STEP: u32 = 512;

/// So many partitions before its turn the memory of one is asked for.
const LOOK_AHEAD: usize = 8;

/// Nothing of the slot will be due by time.
const NEVER: i64 = i64::MAX;

#[derive(Clone, Copy, Debug)]
struct State {
    /// The slot's entry in `due`; others that name it are out of date.
    due: i64,
    /// It is in `changed`, or in `looking`.
    changed: bool,
}

#[derive(Debug, Default)]
pub struct RetentionQueue {
    slots: Vec<State>,
    /// When the slot's oldest records will be too old, in milliseconds since 1970. An entry may be too
    /// early: whoever looks says the true time.
    due: BinaryHeap<Reverse<(i64, Slot)>>,
    /// Since the last pass began: appended to, cut off, configured anew.
    changed: Vec<Slot>,
    /// What had changed before, and is not looked at yet.
    looking: Vec<Slot>,
    in_pass: bool,
}

impl RetentionQueue {
    fn state(&mut self, slot: Slot) -> &mut State {
        let index = slot.0 as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, State { due: NEVER, changed: false });
        }
        &mut self.slots[index]
    }

    /// Something happened to the slot: the next pass looks at it.
    pub fn on_change(&mut self, slot: Slot) {
        if !std::mem::replace(&mut self.state(slot).changed, true) {
            self.changed.push(slot);
        }
    }

    /// The slot is about to change: see [`prefetch`].
    pub fn prefetch(&self, slot: Slot) {
        self.slots.get(slot.0 as usize).into_iter().for_each(prefetch);
    }

    /// The slot that will be next after some others, if it is known.
    fn soon(&self) -> Option<Slot> {
        self.looking.iter().rev().nth(LOOK_AHEAD).copied()
    }

    /// The next slot to look at in this pass; after `None` the next pass begins.
    pub fn next(&mut self, now: WallMs) -> Option<Slot> {
        if !std::mem::replace(&mut self.in_pass, true) {
            std::mem::swap(&mut self.changed, &mut self.looking);
        }
        if let Some(slot) = self.looking.pop() {
            self.state(slot).changed = false;
            return Some(slot);
        }
        while let Some(&Reverse((due, slot))) = self.due.peek()
            && due <= now.0
        {
            self.due.pop();
            let state = self.state(slot);
            if state.due == due {
                state.due = NEVER;
                return Some(slot);
            }
        }
        self.in_pass = false;
        None
    }

    /// The slot's oldest records will be due then, if nothing changes.
    pub fn due_at(&mut self, slot: Slot, due: i64) {
        let state = self.state(slot);
        if due < state.due {
            state.due = due;
            self.due.push(Reverse((due, slot)));
        }
    }
}

impl Hosted {
    /// One step of retention. Returns whether a pass over all that may be due has ended.
    pub fn retain(&mut self, catalog: &Catalog, default: Retention, now: WallMs) -> bool {
        for _ in 0..RETENTION_STEP {
            let Some(slot) = self.retention.next(now) else { return true };
            if let Some(soon) = self.retention.soon() {
                self.partitions.prefetch(soon);
                self.log.prefetch(soon);
            }
            self.retain_slot(slot, catalog, default, now);
        }
        false
    }

    /// Drop what is too old, or too much, and note when the rest will be.
    fn retain_slot(&mut self, slot: Slot, catalog: &Catalog, default: Retention, now: WallMs) {
        let Some(partition) = self.partitions.get(slot) else { return };
        let Some(topic) = catalog.topic_by_id(partition.key.topic) else { return };
        let Some(queue) = self.log.queue(slot) else { return };
        let config = &topic.config;
        let own = |name| config.is_overridden(name);
        let age = if own("retention.ms") { config.retention_ms } else { default.ms };
        let bytes = if own("retention.bytes") { config.retention_bytes } else { default.bytes };
        let age = age.map(|age| i64::try_from(age).unwrap_or(i64::MAX));
        let start = queue.retained_from(|run, left| {
            age.is_some_and(|age| now.0.saturating_sub(newest(run)) > age)
                || bytes.is_some_and(|bytes| left >= bytes)
        });
        if let Some(start) = start {
            self.waiters.wake(partition.key, &mut self.woken);
            self.partitions.start_at(slot, start);
            self.log.drop_before(slot, start);
        }
        let oldest = self.log.queue(slot).and_then(|queue| queue.runs().next());
        if let (Some(oldest), Some(age)) = (oldest, age) {
            self.retention.due_at(slot, newest(oldest).saturating_add(age).saturating_add(1));
        }
    }

    /// The topic has other configs than before: they hold for what it has already.
    pub fn on_configs_changed(&mut self, topic: TopicId) {
        for (slot, partition) in self.partitions.iter() {
            if partition.key.topic == topic {
                self.retention.on_change(slot);
            }
        }
    }
}

/// When the newest record of a run was made, or appended if its timestamp lies in the future.
fn newest(run: &Run) -> i64 {
    let appended = i64::from(run.append_seconds) * 1000 + 999;
    if run.max_timestamp < 0 { appended } else { appended.min(run.max_timestamp) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(queue: &mut RetentionQueue, now: i64) -> Vec<u32> {
        std::iter::from_fn(|| queue.next(WallMs(now))).map(|slot| slot.0).collect()
    }

    #[test]
    fn a_slot_is_looked_at_when_it_changed_and_when_it_is_due() {
        let mut queue = RetentionQueue::default();
        assert!(pass(&mut queue, 0).is_empty());
        for slot in [3, 1, 3] {
            queue.on_change(Slot(slot));
        }
        assert_eq!(pass(&mut queue, 0), [1, 3]);
        queue.due_at(Slot(3), 100);
        queue.due_at(Slot(1), 50);
        // Too early is corrected by whoever looks, too late at once.
        queue.due_at(Slot(3), 200);
        queue.due_at(Slot(1), 40);
        assert!(pass(&mut queue, 39).is_empty());
        assert_eq!(pass(&mut queue, 100), [1, 3]);
        assert!(pass(&mut queue, 1000).is_empty(), "once");
    }

    #[test]
    fn what_changes_during_a_pass_is_left_to_the_next() {
        let mut queue = RetentionQueue::default();
        queue.on_change(Slot(1));
        assert_eq!(queue.next(WallMs(0)), Some(Slot(1)));
        queue.on_change(Slot(1));
        assert_eq!(queue.next(WallMs(0)), None, "a pass ends, however busy the log is");
        assert_eq!(pass(&mut queue, 0), [1]);
    }

    #[test]
    fn a_hundred_thousand_idle_partitions_are_not_looked_at() {
        const PARTITIONS: u32 = 100_000;
        let mut queue = RetentionQueue::default();
        for slot in (0..PARTITIONS).map(Slot) {
            queue.on_change(slot);
        }
        assert_eq!(pass(&mut queue, 0).len(), PARTITIONS as usize);
        for slot in 0..PARTITIONS {
            queue.due_at(Slot(slot), 1_000_000 + i64::from(slot));
        }
        for now in 0..1_000 {
            assert!(pass(&mut queue, now).is_empty(), "nothing is due");
        }
        queue.on_change(Slot(77_777));
        assert_eq!(pass(&mut queue, 1_000), [77_777], "only what has changed");
        assert_eq!(pass(&mut queue, 1_000_009).len(), 10, "only what is due");
    }
}
