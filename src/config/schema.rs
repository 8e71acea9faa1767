//! Every key of the configuration, declared once: name, type, default, and what it means.
//!
//! From this declaration follow the structs that the broker reads, the list of [`KEYS`], and so the
//! file format, the environment variables, `ringmq config print`, `explain` and `template`.

use std::path::PathBuf;
use std::time::Duration;

use super::value::{Auto, ByteSize, CpuList, HostPort, Limit, Value, choice};

/// A key of the configuration, as its users see it.
#[derive(Debug)]
pub struct Key {
    /// `section.key`.
    pub name: &'static str,
    /// The default, in the textual form of the key's type.
    pub default: &'static str,
    /// What one may write.
    pub kind: fn() -> String,
    /// The text of the doc comment, line by line.
    pub doc: &'static [&'static str],
}

/// A section of the configuration: a table of the TOML file.
#[derive(Debug)]
pub struct Section {
    pub name: &'static str,
    pub doc: &'static [&'static str],
}

macro_rules! schema {
    ($(
        $(#[doc = $section_doc:literal])*
        $section:ident: $struct:ident {
            $($(#[doc = $doc:literal])* $key:ident: $type:ty = $default:literal,)*
        }
    )*) => {
        pub const SECTIONS: &[Section] = &[
            $(Section { name: stringify!($section), doc: &[$($section_doc),*] },)*
        ];

        pub const KEYS: &[Key] = &[$($(
            Key {
                name: concat!(stringify!($section), ".", stringify!($key)),
                default: $default,
                kind: <$type as Value>::kind,
                doc: &[$($doc),*],
            },
        )*)*];

        $(
            $(#[doc = $section_doc])*
            #[derive(Clone, Debug)]
            pub struct $struct {
                $($(#[doc = $doc])* #[doc = ""] #[doc = concat!("Default: `", $default, "`.")] pub $key: $type,)*
            }
        )*

        /// The values of all keys, typed.
        #[derive(Clone, Debug)]
        pub struct Values {
            $(pub $section: $struct,)*
        }

        impl Default for Values {
            fn default() -> Values {
                Values {$(
                    $section: $struct {$(
                        $key: <$type as Value>::parse($default).expect("defaults parse: a test reads them all"),
                    )*},
                )*}
            }
        }

        impl Values {
            /// Sets one key; `None` when there is no such key.
            pub(super) fn set(&mut self, name: &str, text: &str) -> Option<Result<(), String>> {
                match name {
                    $($(
                        concat!(stringify!($section), ".", stringify!($key)) => {
                            Some(Value::parse(text).map(|value| self.$section.$key = value))
                        }
                    )*)*
                    _ => None,
                }
            }

            /// The value of one key in its textual form; `None` when there is no such key.
            pub fn show(&self, name: &str) -> Option<String> {
                match name {
                    $($(
                        concat!(stringify!($section), ".", stringify!($key)) => {
                            Some(Value::show(&self.$section.$key))
                        }
                    )*)*
                    _ => None,
                }
            }
        }
    };
}

choice! {
    /// What a shard does when it has nothing to do.
    Poll {
        /// Sleep in the kernel at once. Least CPU; a wake-up costs some 75 µs.
        Block = "block",
        /// Spin for `poll_spin`, then sleep.
        Adaptive = "adaptive",
        /// Never sleep: one busy core per shard, and the lowest latency.
        Busy = "busy",
    }
}

choice! {
    /// Which brokers the clients are told of.
    Advertise {
        /// One broker; its connections are spread over the shards, and requests travel to the shard that hosts the log.
        Node = "node",
        /// One broker per data log, at a port of its own, which the shard that hosts the log serves.
        Log = "log",
    }
}

choice! {
    /// How a block becomes durable.
    CommitMode {
        /// As measured when the data directory was formatted.
        Auto = "auto",
        /// A plain direct write: only on devices without a volatile cache.
        Plain = "plain",
        /// A direct write with `RWF_DSYNC`.
        Dsync = "dsync",
        /// A direct write, then one `fdatasync`.
        WriteSync = "write-sync",
    }
}

choice! {
    /// When a record is acknowledged.
    Flush {
        /// When it is on stable storage.
        Sync = "sync",
        /// Before that. Not available yet: refused.
        Async = "async",
    }
}

choice! {
    /// The form of the broker's own log lines.
    LogFormat {
        Text = "text",
        Json = "json",
    }
}

schema! {
    /// The process: its data, its CPUs, its identity.
    server: Server {
        /// Directory of all data. Made at the first start; one process at a time may use it.
        data_dir: PathBuf = "./ringmq-data",
        /// Number of shards: threads that each own a core, a ring and some of the logs.
        /// Auto: one per CPU of `cpus`. May differ from start to start; nothing is lost.
        shards: Auto<u16> = "auto",
        /// CPUs that shards are pinned to, in ascending order.
        /// Auto: all that the process is allowed to use.
        cpus: Auto<CpuList> = "auto",
        /// What an idle shard does: `block` sleeps at once, `adaptive` spins for `poll_spin` and then
        /// sleeps, `busy` never sleeps and keeps one core per shard at 100 %.
        poll: Poll = "adaptive",
        /// How long an adaptive shard spins before it sleeps, unless its last eight waits were all longer
        /// than twice that; 0 behaves like `poll = "block"`.
        /// Auto: what a sleep and wake-up cost on its core, measured at every start.
        poll_spin: Auto<Duration> = "auto",
        /// The node id that clients see. Distinct for every broker of a cluster.
        broker_id: u32 = "1",
        /// The cluster id that clients see. Auto: made with the data directory and kept in it.
        cluster_id: Auto<String> = "auto",
    }

    /// The Kafka protocol: where it is served, and what one client may use.
    kafka: Kafka {
        /// Addresses to listen on. Port 0 takes a free port.
        /// Anything but loopback is open to the network: there is no authentication yet.
        listen: Vec<HostPort> = "127.0.0.1:9092",
        /// Which brokers clients are told of: `node` is one broker for the whole process, `log` is one
        /// for each data log, so that clients connect straight to the core that has what they want.
        /// The addresses of `listen` take any request either way: they are where clients begin.
        advertise: Advertise = "node",
        /// Host name or address that clients are told to connect to.
        /// Auto: the host of `listen`, or this machine's name when that is every interface.
        advertised_host: Auto<String> = "auto",
        /// Port that clients are told to connect to, with `advertise = "node"`. For a broker behind a
        /// router that maps ports. Auto: the first port of `listen`.
        advertised_port: Auto<u16> = "auto",
        /// With `advertise = "log"`, data log N listens on this port plus N, on every host of `listen`.
        /// Auto: the first port of `listen`. 0 takes free ports, other ones at every start: for tests.
        log_base_port: Auto<u16> = "auto",
        /// Port that, plus N, clients are told for data log N. Auto: as `log_base_port`.
        advertised_log_base_port: Auto<u16> = "auto",
        /// With `advertise = "log"`, clients know data log N by the node id that is this plus N.
        /// Distinct for every broker of a cluster. Auto: 1000 times `server.broker_id`.
        log_base_node_id: Auto<u32> = "auto",
        /// Largest request, as `socket.request.max.bytes` of Kafka. A larger one closes its connection.
        request_bytes_max: ByteSize = "100MiB",
        /// Most connections at a time, an equal share for each shard. Further ones are closed at once.
        /// Never more than three quarters of the descriptors that the process may have (`ulimit -n`), nor than
        /// the broker's own files leave of them.
        connections_max: u32 = "10000",
        /// Most requests of one connection that are being worked on. Above it the connection is not
        /// read from, and TCP slows the client down.
        connection_in_flight_max: u32 = "64",
        /// Memory that one connection may hold: requests being received or worked on, and responses that
        /// have not left. Above it the connection is not read from, and TCP slows the client down.
        /// Auto: room for the largest request and two of the largest fetch responses.
        connection_memory_max: Auto<ByteSize> = "auto",
        /// Memory that all connections of a shard may hold. From half of it on it is shared out: who holds
        /// less goes on; at the limit only small requests do, and one large one at a time, and fetches
        /// wait. A client that does not read its responses for 30 s is closed then.
        /// Auto: 512 MiB, or twice `connection_memory_max` if that is more.
        shard_memory_max: Auto<ByteSize> = "auto",
        /// A connection without requests is closed after this time; 0 keeps it for ever.
        connection_idle: Duration = "10m",
        /// Make a topic when a client asks for one that does not exist.
        auto_create_topics: bool = "true",
        /// Partitions of a topic that is made without saying how many.
        num_partitions: u32 = "1",
        /// Largest record batch, as `message.max.bytes` of Kafka. A topic may set its own.
        message_bytes_max: ByteSize = "1048588B",
        /// Most bytes of records in one fetch response, whatever the client asks for.
        fetch_bytes_max: ByteSize = "16MiB",
        /// Memory per shard for fetch sessions: consumers that have one name their partitions once
        /// instead of in every fetch, some 200 bytes each. Without room for it a consumer goes on
        /// without; 0 makes no sessions.
        fetch_session_bytes_max: ByteSize = "32MiB",
        /// Most partitions of all topics together. As many of one topic as fit into a record of the metadata
        /// log, some 260,000, can be made at a time; the others are added to it afterwards.
        partitions_max: u32 = "1000000",
        /// Most idempotent producers that one log remembers, counted once for each partition that they wrote
        /// to, some 150 to 500 bytes each. Beyond it the longest silent are forgotten, as all are after a day
        /// of silence. Who was forgotten writes on, but a retry of what it sent before is not recognised.
        producer_states_max: u32 = "200000",
        /// A consumer group's committed offsets are forgotten this long after their last commit, but
        /// not while the group has members that read the topic, nor this long after it had some.
        offsets_retention: Duration = "7d",
        /// The shortest session timeout that a member of a group may ask for.
        group_session_min: Duration = "6s",
        /// The longest session timeout that a member of a group may ask for.
        group_session_max: Duration = "30m",
        /// How long the first rebalance of a group waits for more members.
        group_initial_delay: Duration = "3s",
        /// Most members of one group.
        group_members_max: u32 = "10000",
        /// Most bytes that the members of one group may leave with the broker: what they say when
        /// they join, and their assignments. Never more than fits into half a segment.
        group_bytes_max: ByteSize = "8MiB",
        /// Memory of each data log for all of its groups: their names, their members twice, and what
        /// they have committed. Beyond it new groups, members and offsets are told to come again, until members
        /// leave or are missed, and groups are deleted or expire. What is there after a restart is kept.
        /// Auto: an equal share of 256 MiB, at least four times `group_bytes_max`.
        groups_bytes_max: Auto<ByteSize> = "auto",
    }

    /// Health, metrics and latency over HTTP.
    admin: Admin {
        /// Address to listen on. Keep it on loopback: there is no authentication. Serves 64 connections at a
        /// time, and closes those that are silent for 10 s.
        listen: HostPort = "127.0.0.1:9644",
    }

    /// The commit log: how records are stored, and for how long.
    log: Log {
        /// Size of a segment, the file that is written in full before use and recycled afterwards.
        /// For segments made from now on; existing ones keep their size.
        segment_bytes: ByteSize = "256MiB",
        /// What all segments of a fresh data directory take together, so that a first start is quick.
        /// Each segment holds two of the largest batches, so many shards take more: with the defaults from
        /// 42 on, some 6 MiB each.
        initial_bytes: ByteSize = "256MiB",
        /// Empty segments that are kept ready ahead of the one being written, per log.
        segments_ahead: u32 = "2",
        /// Largest block: one header, one durable write, the unit of recovery.
        /// A single batch that is larger gets a block of its own.
        block_bytes_max: ByteSize = "1MiB",
        /// While a block is being written, the next one waits for this size before it follows. Less makes
        /// records wait less for writes that are under way, until the device takes small writes too slowly. Auto:
        /// 256 KiB with `write-sync`, whose one sync is for all writes before it, 32 KiB else; at most
        /// `block_bytes_max`.
        block_target_bytes: Auto<ByteSize> = "auto",
        /// How a block becomes durable: `plain` (devices without a volatile cache only), `dsync`
        /// (`RWF_DSYNC`), `write-sync` (write, then `fdatasync`), or `auto`: what was best when
        /// the data directory was formatted.
        commit_mode: CommitMode = "auto",
        /// Blocks that may be in flight to the device at once, 1 to 8. Auto: as `commit_mode`.
        commit_depth: Auto<u8> = "auto",
        /// Size of the memory chunks that blocks are built in and tail consumers are served from.
        chunk_bytes: ByteSize = "2MiB",
        /// Memory of each data log for recently written records; slow readers may hold as much again.
        /// Auto: an equal share of 256 MiB, at least 16 MiB.
        tail_cache_bytes: Auto<ByteSize> = "auto",
        /// Memory of each data log for records read back from the device; as much again for batches
        /// that are larger than `chunk_bytes`. Auto: an equal share of 256 MiB, at least 16 MiB.
        read_cache_bytes: Auto<ByteSize> = "auto",
        /// Touch the memory of both caches once the broker has started, in the background. Without it memory is
        /// taken when it is first needed, and the shard that needs it waits for the kernel: up to a millisecond or
        /// more a chunk, in the first seconds of a load and of a consumer that catches up.
        pretouch: bool = "true",
        /// A checkpoint is made at least every so many bytes of a log: what a restart must read.
        checkpoint_bytes: ByteSize = "1GiB",
        /// Records older than this may be deleted. A topic may set its own (`retention.ms`).
        retention: Limit<Duration> = "7d",
        /// A partition's oldest records beyond this size may be deleted. A topic may set its own
        /// (`retention.bytes`).
        retention_bytes: Limit<ByteSize> = "unlimited",
        /// Most bytes of all segments of all logs together. When they are used up, producers get a
        /// retriable error until retention or deletion frees a segment.
        log_bytes_max: Limit<ByteSize> = "unlimited",
        /// When a record is acknowledged: `sync` is when it is on stable storage.
        flush: Flush = "sync",
    }

    /// What the broker says about itself on stderr.
    telemetry: Telemetry {
        /// Least level to write: error, warn, info, debug or trace; also per module, as in
        /// `info,ringmq::log=debug`.
        log: String = "info",
        /// `text` for people, `json` for machines: one object a line.
        format: LogFormat = "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_documented_default_that_shows_as_declared() {
        let values = Values::default();
        for key in KEYS {
            assert_eq!(values.show(key.name).as_deref(), Some(key.default), "{}", key.name);
            assert!(!key.doc.is_empty(), "{} has no doc", key.name);
            assert!(!(key.kind)().is_empty());
        }
        assert_eq!(values.show("log.nothing"), None);
    }
}
