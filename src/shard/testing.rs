//! A shard for tests that make no topics.

use std::sync::Arc;

use super::hosted::Hosted;
pub use super::lookups::UNDER_WAY_MAX as LOOKUPS_MAX;
use super::mailbox::{Mailbox, PostOffice};
use super::{Retention, Shard, ShardConfig};
use crate::metadata::catalog::Catalog;
use crate::metadata::commands::IdSource;
use crate::metadata::testing::RULES;
use crate::model::{ShardId, TopicId};

struct NoIds;

impl IdSource for NoIds {
    fn next_topic_id(&mut self) -> TopicId {
        unreachable!("nothing is made here")
    }
}

/// A shard with these logs; `hosts` says of each log of the catalog which shard has it.
pub fn shard(
    me: ShardId,
    office: &Arc<PostOffice>,
    hosts: &[ShardId],
    logs: Vec<Hosted>,
    catalog: Catalog,
) -> Shard {
    let config = ShardConfig { rules: RULES, offsets_retention_ms: 0, retention: Retention::default() };
    let mailbox = Mailbox::new(me, office.clone());
    Shard::new(me, config, catalog, hosts.into(), logs, mailbox, Box::new(NoIds))
}
