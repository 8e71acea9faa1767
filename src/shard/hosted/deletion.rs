//! Deleting what somebody asks to have deleted: the records of a partition before an offset, all partitions of a
//! topic. Unlike what retention takes away, that is written to the log.

use crate::metadata::catalog::Catalog;
use crate::model::{Now, Offset, PartitionKey, Position, TopicId};
use crate::shard::call::CallError;

use super::{Hosted, log_refused};

impl Hosted {
    pub(super) fn delete_records(
        &mut self,
        key: PartitionKey,
        before: Option<Offset>,
        catalog: &Catalog,
        now: Now,
    ) -> Result<(Offset, Option<Position>), CallError> {
        let slot = self.known(key, catalog)?;
        let (start, end) = self.bounds(slot);
        let before = before.unwrap_or(end);
        if before > end || before < Offset::ZERO {
            return Err(CallError::OutOfRange { start, end });
        }
        // Written even if nothing is left to delete: retention may have moved the start, which it does
        // in memory only, and what is answered here must outlive a crash.
        let start = start.max(before);
        match slot {
            Some(slot) if start > Offset::ZERO => {
                let position = self.partitions.delete_records(&mut self.log, slot, start, now);
                Ok((start, Some(position.map_err(log_refused)?)))
            }
            _ => Ok((start, None)),
        }
    }

    /// A topic is deleted: its slots are closed as soon as the log has room for saying so.
    pub fn delete_topic(&mut self, topic: TopicId, now: Now) {
        self.waiters.wake_topic(topic, &mut self.woken);
        if self.partitions.close_topic(&mut self.log, topic, now).is_err() {
            self.closing.push(topic);
        }
    }

    /// Partitions whose topic is gone from the catalog were being deleted.
    pub(super) fn close_orphans(&mut self, catalog: &Catalog, now: Now) {
        let mut orphans: Vec<TopicId> = self
            .partitions
            .iter()
            .map(|(_, partition)| partition.key.topic)
            .filter(|topic| catalog.topic_by_id(*topic).is_none())
            .collect();
        orphans.dedup();
        for topic in orphans {
            self.delete_topic(topic, now);
        }
    }
}
