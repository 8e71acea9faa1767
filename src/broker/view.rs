//! The broker as the admin thread sees it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::admin::http::{Advertised, BoxFuture, BrokerInfo, BrokerView, Disk, Health};
use crate::io::blocking::{BlockingDisk, block_on};
use crate::io::file::Disk as _;
use crate::io::ring::Wakers;
use crate::kafka::identity::Node;
use crate::kafka::protocol::ApiKey;
use crate::metrics::ShardSnapshot;
use crate::model::ShardId;
use crate::server::outside::{Outside, OutsideQueue};

pub struct View {
    pub info: Mutex<BrokerInfo>,
    pub health: Mutex<Health>,
    pub data_dir: PathBuf,
    pub shards: Vec<OutsideQueue>,
    pub wakers: Arc<Wakers>,
}

impl View {
    pub fn set_health(&self, health: Health) {
        *lock(&self.health) = health;
    }

    /// Tell a shard something.
    pub fn tell(&self, shard: ShardId, letter: Outside) {
        self.shards[usize::from(shard.0)].push(letter);
        self.wakers.wake(shard);
    }
}

impl From<Node<'_>> for Advertised {
    fn from(node: Node<'_>) -> Advertised {
        Advertised { node_id: node.id, host: node.host.to_owned(), port: node.port }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl BrokerView for View {
    fn info(&self) -> BrokerInfo {
        let free = block_on(BlockingDisk.free_bytes(&self.data_dir));
        let mut info = lock(&self.info).clone();
        if let (Some(disk), Ok(free_bytes)) = (&mut info.disk, free) {
            *disk = Disk { free_bytes };
        }
        info
    }

    fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    fn snapshots(&self) -> BoxFuture<'_, Vec<ShardSnapshot>> {
        let answers: Vec<_> = (0..self.shards.len() as u16)
            .map(|shard| {
                let (sender, receiver) = oneshot::channel();
                let answer = Box::new(|snapshot| drop(sender.send(snapshot)));
                self.tell(ShardId(shard), Outside::Snapshot(answer));
                receiver
            })
            .collect();
        Box::pin(async {
            let mut snapshots = Vec::new();
            for answer in answers {
                snapshots.extend(answer.await);
            }
            snapshots
        })
    }

    fn api_name(&self, api_key: i16) -> &'static str {
        ApiKey::from_key(api_key).map_or("unknown", ApiKey::name)
    }
}
