//! Room in the log, and who takes it.
//!
//! While there is none, calls that append wait here, in order, and groups with what they store. Batches of this
//! shard's clients stay at their connections instead, which ask again in every turn. Neither side may leave the other
//! nothing for ever, so they come first by turns.

use crate::log::Room;
use crate::metadata::catalog::Catalog;
use crate::model::Now;

use super::{Hosted, Outbox};

impl Hosted {
    /// Is there room for a batch of this shard's clients? They ask before what waits here does, in every
    /// turn, and would leave it nothing for ever: so each side takes what room comes by turns.
    pub fn room(&self, bytes: usize) -> Room {
        // Of a log with nothing under way no turn would follow in which the clients ask again.
        let short = !self.log.is_idle() && !self.log.failed();
        if short && self.held_first && self.held_finds_room() {
            return Room::Wait;
        }
        self.log.room(bytes)
    }

    /// Something waits for room.
    pub(super) fn holds(&self) -> bool {
        !self.held.is_empty() || self.groups.waiting_bytes().is_some()
    }

    /// Something waits for room, and there is some for it.
    fn held_finds_room(&self) -> bool {
        let call = self.held.front().map(|(_, call)| call.appended_bytes().unwrap_or(0));
        call.into_iter().chain(self.groups.waiting_bytes()).any(|bytes| self.log.room(bytes) == Room::Yes)
    }

    /// Do the calls that found no room and find some now. Returns whether there was one.
    pub(super) fn retry_held(&mut self, catalog: &Catalog, now: Now, out: &mut Outbox) -> bool {
        let mut any = false;
        while let Some((origin, call)) = self.held.pop_front() {
            if self.log.room(call.appended_bytes().unwrap_or(0)) == Room::Wait {
                self.held.push_front((origin, call));
                return any;
            }
            any = true;
            if let Some(answer) = self.perform(origin, call, catalog, now) {
                out.answers.push((origin, answer));
            }
        }
        while let Some(topic) = self.closing.pop() {
            if self.partitions.close_topic(&mut self.log, topic, now).is_err() {
                self.closing.push(topic);
                break;
            }
        }
        any
    }
}
