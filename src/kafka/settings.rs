//! The broker's configuration as requests notice it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The settings that requests notice.
#[derive(Clone, Debug, Default)]
pub struct KafkaSettings {
    /// A topic that a client asks for comes into being.
    pub auto_create_topics: bool,
    /// Of a topic whose creator does not say.
    pub num_partitions: u32,
    /// Largest record batch that any topic may allow.
    pub message_bytes_max: u32,
    /// Most bytes of records in one fetch response: it bounds what a reader that stops reading holds
    /// in memory.
    pub fetch_bytes_max: usize,
    /// Memory for the fetch sessions of all connections of a shard.
    pub fetch_session_bytes_max: usize,
    /// What tools are told of the configuration, by name.
    pub described: Arc<[BrokerConfig]>,
    pub log_dir: Arc<LogDir>,
}

/// A setting of the broker under the name that Kafka's tools know. All come from its start.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    pub name: &'static str,
    /// One of `config_type`, as the protocol numbers them.
    pub kind: i8,
    /// `None` where it has no value.
    pub value: Option<String>,
    pub default: Option<String>,
    /// Another config, and its default, which says as much where nobody has set this one.
    pub deputy: Option<(&'static str, &'static str)>,
    /// Whether somebody has set it.
    pub is_set: bool,
    pub doc: &'static str,
}

/// Where the data is. The space of its file system is as it was found last: handlers do not ask the
/// kernel, so whoever may do so tells this from time to time.
#[derive(Debug, Default)]
pub struct LogDir {
    path: String,
    total_bytes: AtomicU64,
    usable_bytes: AtomicU64,
}

impl LogDir {
    pub fn new(path: String) -> LogDir {
        LogDir { path, ..LogDir::default() }
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn set_space(&self, total_bytes: u64, usable_bytes: u64) {
        self.total_bytes.store(total_bytes, Relaxed);
        self.usable_bytes.store(usable_bytes, Relaxed);
    }

    /// Bytes of the file system, and how many of them are left; `None` as long as nobody has looked.
    pub fn space(&self) -> Option<(u64, u64)> {
        let total = self.total_bytes.load(Relaxed);
        (total > 0).then(|| (total, self.usable_bytes.load(Relaxed)))
    }
}
