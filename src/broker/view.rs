//! The broker as the admin thread sees it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::admin::http::{Advertised, BoxFuture, BrokerInfo, BrokerView, ConfigValue, Disk, Health};
use crate::config::{Config, KEYS};
use crate::io::blocking::BlockingDisk;
use crate::io::ring::Wakers;
use crate::kafka::identity::Node;
use crate::kafka::protocol::ApiKey;
use crate::kafka::settings::LogDir;
use crate::metrics::ShardSnapshot;
use crate::model::ShardId;
use crate::server::outside::{Outside, OutsideQueue};

pub struct View {
    pub info: Mutex<BrokerInfo>,
    pub config: Vec<ConfigValue>,
    pub health: Mutex<Health>,
    pub data_dir: PathBuf,
    /// The same as requests see it.
    pub log_dir: Arc<LogDir>,
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

/// What a configuration is made of.
pub fn config_values(config: &Config) -> Vec<ConfigValue> {
    let value = |name: &'static str| ConfigValue {
        name: name.to_owned(),
        value: config.show(name).expect("a key of the schema"),
        origin: config.origin(name).to_string(),
    };
    KEYS.iter().map(|key| value(key.name)).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl BrokerView for View {
    fn info(&self) -> BrokerInfo {
        self.look_at_disk();
        let mut info = lock(&self.info).clone();
        if let (Some(disk), Some((_, free_bytes))) = (&mut info.disk, self.log_dir.space()) {
            *disk = Disk { free_bytes };
        }
        info
    }

    fn config(&self) -> &[ConfigValue] {
        &self.config
    }

    fn look_at_disk(&self) {
        if let Ok(space) = BlockingDisk::space(&self.data_dir) {
            self.log_dir.set_space(space.total_bytes, space.usable_bytes);
        }
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
