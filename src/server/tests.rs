//! A shard without logs: when it accepts, and how long it waits. With one, and many clients: [`crowd`], [`past`].

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

mod crowd;
mod past;

use super::connection::Limits;
use super::outside::{Outside, OutsideQueue};
use super::turn::{Server, ServerConfig};
use crate::io::buffer::RecvPool;
use crate::io::op::{ConnId, Event, ListenerId, Op, Wait};
use crate::io::socket::SocketHandle;
use crate::kafka::front::Front;
use crate::kafka::identity::BrokerIdentity;
use crate::kafka::memory::MemoryLimits;
use crate::kafka::settings::KafkaSettings;
use crate::metadata::catalog::Catalog;
use crate::model::{Nanos, Now, ShardId, WallMs};
use crate::shard::Shard;
use crate::shard::mailbox::{Mailbox, PostOffice};
use crate::shard::testing::shard;

const START: Now = Now { mono: Nanos(1_000_000_000), wall: WallMs(0) };

struct Rig {
    server: Server,
    outside: OutsideQueue,
    now: Now,
    /// What passes with each look at the clock.
    tick: Duration,
    /// Of the last turn.
    ops: Vec<Op>,
    sent_bytes: usize,
}

impl Rig {
    fn new(office: &Arc<PostOffice>) -> Rig {
        Rig::with(
            shard(ShardId(0), office, &[], Vec::new(), Catalog::default()),
            1,
            MemoryLimits { connection_max: 1 << 20, shard_max: 1 << 20 },
        )
    }

    /// The shard listens on one socket.
    fn with(shard: Shard, connections_max: usize, memory: MemoryLimits) -> Rig {
        let identity = BrokerIdentity {
            node_id: 1,
            host: "broker.test".into(),
            port: 9092,
            cluster_id: "cluster".into(),
            logs: None,
        };
        let settings = KafkaSettings {
            message_bytes_max: 1 << 16,
            fetch_bytes_max: 1 << 20,
            ..KafkaSettings::default()
        };
        let front = Front::new(identity, settings, memory, Vec::new());
        let limits =
            Limits { request_bytes_max: 1 << 16, in_flight_max: 100, memory_max: memory.connection_max };
        let config = ServerConfig { limits, connections_max, idle: None };
        let outside = OutsideQueue::default();
        let mut server = Server::new(shard, front, config, outside.clone());
        server.listen(SocketHandle::Sim(1), None, &mut Vec::new()).expect("no descriptors in a simulation");
        server.start(START);
        Rig { server, outside, now: START, tick: Duration::ZERO, ops: Vec::new(), sent_bytes: 0 }
    }

    /// A turn some milliseconds after the last one. Returns whether it listens, and how long it may wait.
    fn step(&mut self, after_ms: u64, events: Vec<Event>) -> (bool, Duration) {
        self.now.mono = self.now.mono.plus(Duration::from_millis(after_ms));
        let (mut events, mut ops, time) = (events, Vec::new(), Cell::new(self.now.mono));
        let clock = || {
            time.set(time.get().plus(self.tick));
            time.get()
        };
        let wait = self.server.step(&mut events, self.now, &clock, &mut ops);
        self.now.mono = time.get();
        let wait = match wait {
            Wait::No => Duration::ZERO,
            Wait::For(time) => time,
            Wait::Forever => panic!("a shard looks up once a second"),
        };
        let bytes = |op: &Op| match op {
            Op::Send { parts, .. } => parts.iter().map(|part| part.len()).sum(),
            _ => 0,
        };
        self.sent_bytes = ops.iter().map(bytes).sum();
        let listens = ops.iter().any(|op| matches!(op, Op::Listen { listener: ListenerId(0), .. }));
        self.ops = ops;
        (listens, wait)
    }
}

#[test]
fn a_listener_that_fails_is_tried_again_and_again_but_not_at_once() {
    let mut rig = Rig::new(&PostOffice::new(1));
    let mut told = 0;
    // Two seconds.
    for _ in 0..20 {
        let error = io::Error::from_raw_os_error(libc::EMFILE);
        let failed = Event::AcceptFailed { listener: ListenerId(0), error };
        let (listens, wait) = rig.step(0, vec![failed]);
        assert!(!listens && wait <= Duration::from_millis(100), "{listens} {wait:?}");
        assert!(!rig.step(99, Vec::new()).0);
        assert!(rig.step(1, Vec::new()).0, "it never accepts again");
        assert!(!rig.step(0, Vec::new()).0, "twice");
        told += rig.server.take_news().1.len();
    }
    assert_eq!(told, 2, "once a second");
}

#[test]
fn a_shard_that_is_drained_looks_whether_the_others_are() {
    let office = PostOffice::new(2);
    let mut rig = Rig::new(&office);
    rig.step(0, Vec::new());
    rig.outside.push(Outside::Stop);
    // The other one may be the last in the moment before this one sleeps, and take it for awake.
    let (_, wait) = rig.step(0, Vec::new());
    assert!(wait <= Duration::from_millis(10), "{wait:?}");
    Mailbox::new(ShardId(1), office).tell_drained();
    for _ in 0..3 {
        rig.step(10, Vec::new());
    }
    assert!(rig.server.is_over());
}

#[test]
fn requests_that_cost_much_are_taken_up_in_turns() {
    let mut rig = Rig::new(&PostOffice::new(1));
    let peer = "127.0.0.1:1".parse().expect("an address");
    let conn = ConnId { index: 0, generation: 0 };
    rig.step(0, vec![Event::Accepted { listener: ListenerId(0), socket: SocketHandle::Sim(2), peer }]);
    let received = |bytes: &[u8]| {
        let data = RecvPool::new(1, 1 << 20).copy_in(bytes).expect("a buffer");
        Event::Received { conn, data }
    };
    // ApiVersions 0 by a client with a very long name: what it costs follows from the bytes.
    let name = [b'x'; 30_000];
    let mut request = vec![0, 18, 0, 0, 0, 0, 0, 1];
    request.extend_from_slice(&(name.len() as i16).to_be_bytes());
    request.extend_from_slice(&name);
    let frame = [&(request.len() as i32).to_be_bytes()[..], &request].concat();
    let (_, wait) = rig.step(0, vec![received(&frame)]);
    let one_bytes = rig.sent_bytes;
    assert!(one_bytes > 0 && wait > Duration::ZERO);

    let mut events = vec![Event::Sent { conn, result: Ok(one_bytes) }, received(&frame.repeat(9))];
    let mut turns = Vec::new();
    for _ in 0..3 {
        let (_, wait) = rig.step(0, events);
        turns.push((rig.sent_bytes / one_bytes, wait == Duration::ZERO));
        events = vec![Event::Sent { conn, result: Ok(rig.sent_bytes) }];
    }
    assert_eq!(
        turns,
        [(3, true), (3, true), (3, false)],
        "responses, and whether the next turn comes at once"
    );
}
