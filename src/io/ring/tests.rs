//! The ring against the real kernel: loopback sockets, pipes between threads, files on a disk.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;

use super::*;
use crate::base::align::PAGE_BYTES;
use crate::io::blocking::{BlockingDisk, block_on, disk_folder};
use crate::io::buffer::ChunkPool;
use crate::io::file::Disk;
use crate::io::op::{RecvEnd, WriteSync};
use crate::io::socket;

const CONN: ConnId = ConnId { index: 3, generation: 7 };
const LISTENER: ListenerId = ListenerId(1);

/// Far more than any step of a test takes; reaching it is the failure.
const PATIENCE: Duration = Duration::from_secs(20);

fn ring_with(recv_buffers: u16, poll: PollMode) -> Ring {
    ring_asking_for(&FEATURES, recv_buffers, poll)
}

fn ring_asking_for(wanted: &[Feature], recv_buffers: u16, poll: PollMode) -> Ring {
    let config = RingConfig {
        shard: ShardId(0),
        // Few, so that a turn's entries do not fit.
        entries: 4,
        recv_buffers,
        recv_buffer_bytes: 64,
        poll,
        wakers: Wakers::new(1).unwrap(),
        has_mail: Box::new(|| false),
    };
    Ring::asking_for(wanted, config).unwrap()
}

fn ring() -> Ring {
    ring_with(64, PollMode::DEFAULT)
}

/// A connection of `ring` and its peer.
fn pair(ring: &mut Ring) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    run(ring, vec![Op::Attach { conn: CONN, socket: SocketHandle::Os(ours.into()) }]);
    theirs
}

/// One turn that does not wait.
fn run(ring: &mut Ring, mut ops: Vec<Op>) -> Vec<Event> {
    let mut events = Vec::new();
    ring.turn(&mut ops, &mut events, Wait::No).unwrap();
    assert!(ops.is_empty());
    events
}

/// Turns until `done` of all events so far.
fn run_until(ring: &mut Ring, mut ops: Vec<Op>, done: impl Fn(&[Event]) -> bool) -> Vec<Event> {
    let deadline = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    while !done(&events) {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "waited in vain: {events:?}");
        ring.turn(&mut ops, &mut events, Wait::For(left)).unwrap();
    }
    events
}

fn last(events: &[Event], is: fn(&Event) -> bool) -> bool {
    events.last().is_some_and(is)
}

fn received(events: &[Event]) -> Vec<u8> {
    let parts = events.iter().map(|event| match event {
        Event::Received { data, .. } => &data[..],
        Event::ReceivedInto { buf, .. } => &buf[..],
        _ => &[],
    });
    parts.flatten().copied().collect()
}

/// Bytes in which every position is recognisable.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ i >> 8 ^ i >> 16) as u8).collect()
}

#[test]
fn echoes_over_a_listening_socket_with_and_without_multishot() {
    for (multishot, poll) in
        [(true, PollMode::Block), (false, PollMode::Block), (true, PollMode::DEFAULT), (true, PollMode::Busy)]
    {
        let mut ring = ring_with(64, poll);
        ring.multishot_accept = multishot;
        ring.multishot_recv = multishot;
        assert_eq!(ring.features().contains(&"multishot_recv"), multishot);
        echoes(ring);
    }
}

/// Three clients at a time.
fn echoes(mut ring: Ring) {
    let (socket, address) = socket::listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let clients: Vec<_> = (0..3u8)
        .map(|number| {
            thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let sent = vec![number; 1000];
                stream.write_all(&sent).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut got = Vec::new();
                stream.read_to_end(&mut got).unwrap();
                assert_eq!(got, sent);
            })
        })
        .collect();

    let mut ops = vec![Op::Listen { listener: LISTENER, socket }];
    let mut events = Vec::new();
    let mut stored: Vec<Vec<u8>> = Vec::new();
    let mut closed = 0;
    let started = Instant::now();
    while closed < clients.len() {
        assert!(started.elapsed() < PATIENCE, "waited in vain");
        ring.turn(&mut ops, &mut events, Wait::For(PATIENCE)).unwrap();
        for event in events.drain(..) {
            match event {
                Event::Accepted { listener, socket, peer } => {
                    assert_eq!(listener, LISTENER);
                    assert!(peer.ip().is_loopback());
                    let conn = ConnId { index: stored.len() as u32, generation: 0 };
                    stored.push(Vec::new());
                    ops.extend([Op::Attach { conn, socket }, Op::RecvStart { conn }]);
                }
                Event::Received { conn, data } => {
                    stored[conn.index as usize].extend_from_slice(&data);
                }
                Event::RecvEnded { conn, end: RecvEnd::Eof } => {
                    let parts = vec![Bytes::from(mem::take(&mut stored[conn.index as usize]))];
                    ops.push(Op::Send { conn, parts });
                }
                Event::RecvEnded { conn, end: RecvEnd::NoBuffers } => ops.push(Op::RecvStart { conn }),
                Event::Sent { conn, result } => {
                    assert_eq!(result.unwrap(), 1000);
                    ops.push(Op::Close { conn });
                }
                Event::Closed { .. } => closed += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn a_send_of_thousands_of_parts_arrives_in_order() {
    let mut ring = ring();
    let mut peer = pair(&mut ring);
    // More parts than one message takes, more bytes than the socket holds, some parts empty.
    let whole = Bytes::from(pattern(3 << 20));
    let parts: Vec<Bytes> = (0..3072).map(|i| whole.slice(i * 1024..(i + 1) * 1024)).collect();
    let parts = parts.into_iter().flat_map(|part| [part, Bytes::new()]).collect();
    let expected = whole.clone();
    let reader = thread::spawn(move || {
        let mut got = vec![0; expected.len()];
        peer.read_exact(&mut got).unwrap();
        assert!(got == expected);
        peer
    });
    let ops = vec![Op::Send { conn: CONN, parts }];
    let events = run_until(&mut ring, ops, |events| !events.is_empty());
    assert!(matches!(&events[..], [Event::Sent { conn: CONN, result: Ok(n) }] if *n == whole.len()));
    assert!(whole.is_unique() || !reader.is_finished(), "the parts are dropped before the event");
    reader.join().unwrap();
    assert!(whole.is_unique());

    let events = run(&mut ring, vec![Op::Send { conn: CONN, parts: vec![Bytes::new()] }]);
    assert!(matches!(&events[..], [Event::Sent { result: Ok(0), .. }]), "nothing to send is sent at once");
}

#[test]
fn a_long_answer_is_sent_piece_by_piece() {
    const PIECE: usize = super::in_flight::SEND_BYTES;
    // A piece ends between two parts of 64, and within one of 63.
    for parts in [1, 63, 64] {
        let mut ring = ring();
        let mut peer = pair(&mut ring);
        peer.set_nonblocking(true).unwrap();
        let bytes = 2 * PIECE / parts;
        let whole = Bytes::from(pattern(parts * bytes));
        let mut ops: Vec<_> = vec![Op::Send {
            conn: CONN,
            parts: (0..parts).map(|part| whole.slice(part * bytes..(part + 1) * bytes)).collect(),
        }];
        let (mut events, mut got) = (Vec::new(), Vec::new());
        ring.turn(&mut ops, &mut events, Wait::No).unwrap();
        let error = peer.read_to_end(&mut got).expect_err("the connection stays open");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(got.len() <= PIECE && events.is_empty(), "{} bytes, {events:?}", got.len());

        peer.set_nonblocking(false).unwrap();
        let events = run_until(&mut ring, Vec::new(), |events| !events.is_empty());
        assert!(
            matches!(&events[..], [Event::Sent { result: Ok(n), .. }] if *n == whole.len()),
            "{events:?}"
        );
        let mut rest = vec![0; whole.len() - got.len()];
        peer.read_exact(&mut rest).unwrap();
        assert!([got, rest].concat() == whole);
    }
}

#[test]
fn a_large_frame_is_received_where_it_is_wanted() {
    let mut ring = ring();
    let mut peer = pair(&mut ring);
    let frame = pattern(1 << 20);
    let sent = frame.clone();
    let writer = thread::spawn(move || {
        peer.write_all(&sent).unwrap();
        peer
    });
    let mut buf = Vec::with_capacity(frame.len());
    buf.extend_from_slice(b"");
    while buf.len() < frame.len() {
        let ops = vec![Op::RecvInto { conn: CONN, buf: mem::take(&mut buf) }];
        let events = run_until(&mut ring, ops, |events| !events.is_empty());
        let [Event::ReceivedInto { conn: CONN, buf: back, result: Ok(count) }] = &events[..] else {
            panic!("{events:?}");
        };
        assert!(*count > 0);
        buf = back.clone();
        buf.reserve_exact(frame.len() - buf.len());
    }
    assert!(buf == frame);
    drop(writer.join().unwrap());

    let ops = vec![Op::RecvInto { conn: CONN, buf: Vec::with_capacity(1) }];
    let events = run_until(&mut ring, ops, |events| !events.is_empty());
    assert!(matches!(&events[..], [Event::ReceivedInto { result: Ok(0), .. }]), "the stream's end");
}

#[test]
fn a_stopped_receive_leaves_the_rest_to_the_next() {
    let mut ring = ring();
    let mut peer = pair(&mut ring);
    peer.write_all(b"first").unwrap();
    let ops = vec![Op::RecvStart { conn: CONN }];
    let events = run_until(&mut ring, ops, |events| !events.is_empty());
    assert_eq!(received(&events), b"first");

    let ops = vec![Op::RecvStop { conn: CONN }];
    let events = run_until(&mut ring, ops, |events| !events.is_empty());
    assert!(matches!(&events[..], [Event::RecvEnded { conn: CONN, end: RecvEnd::Stopped }]));

    peer.write_all(b"second").unwrap();
    assert!(run(&mut ring, vec![Op::RecvStop { conn: CONN }]).is_empty(), "there is nothing to stop");
    let ops = vec![Op::RecvInto { conn: CONN, buf: Vec::with_capacity(64) }];
    let events = run_until(&mut ring, ops, |events| !events.is_empty());
    assert_eq!(received(&events), b"second");

    let ops = vec![Op::RecvInto { conn: CONN, buf: Vec::with_capacity(64) }, Op::RecvStop { conn: CONN }];
    let events = run_until(&mut ring, ops, |events| !events.is_empty());
    let [Event::ReceivedInto { result: Err(error), .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));

    peer.write_all(b"third").unwrap();
    let ops = vec![Op::RecvStart { conn: CONN }, Op::RecvStop { conn: CONN }];
    let ended = |event: &Event| matches!(event, Event::RecvEnded { end: RecvEnd::Stopped, .. });
    let mut events = run_until(&mut ring, ops, |events| last(events, ended));
    if events.len() == 1 {
        let ops = vec![Op::RecvStart { conn: CONN }];
        events = run_until(&mut ring, ops, |events| !events.is_empty());
    }
    assert_eq!(received(&events), b"third", "before the stop or after it, but not lost");
}

#[test]
fn a_receive_without_buffers_goes_on_when_they_are_back() {
    let mut ring = ring_with(2, PollMode::DEFAULT);
    let mut peer = pair(&mut ring);
    let sent = pattern(1000);
    peer.write_all(&sent).unwrap();
    let mut got = Vec::new();
    let mut starved = 0;
    while got.len() < sent.len() {
        let ops = vec![Op::RecvStart { conn: CONN }];
        let ended = |event: &Event| matches!(event, Event::RecvEnded { .. });
        // The buffers are out until the end of the turn.
        let run = run_until(&mut ring, ops, |events| {
            last(events, ended) || got.len() + received(events).len() == sent.len()
        });
        starved += usize::from(matches!(run.last(), Some(Event::RecvEnded { end: RecvEnd::NoBuffers, .. })));
        got.extend(received(&run));
    }
    assert!(got == sent);
    assert!(starved >= 1000 / (2 * 64) - 1, "{starved}");
}

#[test]
fn a_close_answers_everything_first_and_once() {
    let mut ring = ring();
    let mut peer = pair(&mut ring);
    let parts = vec![Bytes::from(pattern(8 << 20)), Bytes::from_static(b"never sent")];
    let ops = vec![Op::RecvStart { conn: CONN }, Op::Send { conn: CONN, parts }];
    assert!(run(&mut ring, ops).is_empty(), "the peer neither reads nor writes");

    let closed = |event: &Event| matches!(event, Event::Closed { conn: CONN });
    let events = run_until(&mut ring, vec![Op::Close { conn: CONN }], |events| last(events, closed));
    let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
    assert_eq!(events.len(), 3, "{events:?}");
    assert_eq!(count(|event| matches!(event, Event::Sent { result: Err(_), .. })), 1);
    assert_eq!(count(|event| matches!(event, Event::RecvEnded { end: RecvEnd::Failed(_), .. })), 1);

    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).unwrap();
    assert!(rest.len() < 8 << 20, "the socket is closed, with what it held");
    // The index is free for the next generation.
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let next = ConnId { generation: 8, ..CONN };
    let ops = vec![
        Op::Attach { conn: next, socket: SocketHandle::Os(ours.into()) },
        Op::RecvStart { conn: next },
        Op::Close { conn: next },
    ];
    let events = run_until(&mut ring, ops, |events| events.len() == 2);
    assert!(matches!(events[1], Event::Closed { conn } if conn == next));
    assert!(run(&mut ring, vec![]).is_empty(), "nothing comes after the close");
}

#[test]
fn a_send_to_a_dead_peer_fails_and_kills_nobody() {
    let mut ring = ring();
    drop(pair(&mut ring));
    let ops = vec![Op::Send { conn: CONN, parts: vec![Bytes::from_static(b"hello")] }];
    let events = run_until(&mut ring, ops, |events| !events.is_empty());
    assert!(matches!(&events[..], [Event::Sent { result: Err(error), .. }]
        if error.kind() == ErrorKind::BrokenPipe));
}

#[test]
fn durable_writes_are_read_back() {
    writes_and_reads(ring());
}

fn writes_and_reads(mut ring: Ring) {
    let folder = disk_folder();
    let file = block_on(BlockingDisk.create(&folder.path().join("log"))).unwrap();
    let pool = ChunkPool::new(16 * PAGE_BYTES, 4);
    let mut chunk = pool.take().unwrap();
    chunk.tail_mut().copy_from_slice(&pattern(16 * PAGE_BYTES));
    let data = chunk.freeze(16 * PAGE_BYTES).clone();

    let write = |token, offset: usize, len: usize, sync| Op::Write {
        token: Token(token),
        file: file.clone(),
        offset: offset as u64,
        data: data.slice(offset..offset + len),
        sync,
    };
    let half = 8 * PAGE_BYTES;
    let ops = vec![write(1, 0, half, WriteSync::Dsync), write(2, half, half, WriteSync::Plain)];
    let events = run_until(&mut ring, ops, |events| events.len() == 2);
    assert!(events.iter().all(|event| matches!(event, Event::Written { result: Ok(()), .. })));
    let ops = vec![Op::Sync { token: Token(3), file: file.clone() }];
    let events = run_until(&mut ring, ops, |events| !events.is_empty());
    assert!(matches!(&events[..], [Event::Synced { token: Token(3), result: Ok(()) }]));
    assert_eq!(ring.commits, 0, "for writes and syncs that are over it gives way no more");

    let read = |at: usize, offset: usize, len| Op::Read {
        token: Token(4),
        file: file.clone(),
        offset: offset as u64,
        buf: pool.take().unwrap(),
        at,
        len,
    };
    let ops = vec![read(PAGE_BYTES, 2 * PAGE_BYTES, half)];
    let mut events = run_until(&mut ring, ops, |events| !events.is_empty());
    let Some(Event::Read { token: Token(4), mut buf, result: Ok(()) }) = events.pop() else {
        panic!("{events:?}")
    };
    assert!(buf.tail_mut()[PAGE_BYTES..][..half] == data[2 * PAGE_BYTES..][..half]);

    // One page less than asked for.
    let events =
        run_until(&mut ring, vec![read(0, 15 * PAGE_BYTES, 2 * PAGE_BYTES)], |events| !events.is_empty());
    assert!(matches!(&events[..], [Event::Read { result: Err(error), .. }]
        if error.kind() == ErrorKind::UnexpectedEof));
}

#[test]
fn a_sleeping_shard_is_woken_by_another_thread() {
    for poll in [PollMode::Block, PollMode::DEFAULT, PollMode::Busy] {
        is_woken(&FEATURES, poll);
    }
}

/// Until it has been woken twice.
fn is_woken(wanted: &'static [Feature], poll: PollMode) {
    let wakers = Wakers::new(2).unwrap();
    let mail = Arc::new(AtomicBool::new(false));
    let (has_mail, their_mail, their_wakers) = (mail.clone(), mail.clone(), wakers.clone());
    let sleeper = thread::spawn(move || {
        let config = RingConfig {
            shard: ShardId(1),
            entries: 8,
            recv_buffers: 1,
            recv_buffer_bytes: 64,
            poll,
            wakers: their_wakers,
            has_mail: Box::new(move || has_mail.load(Ordering::Acquire)),
        };
        let mut ring = Ring::asking_for(wanted, config).unwrap();
        // Twice: the eventfd's read is armed again.
        for _ in 0..2 {
            let mut events = Vec::new();
            ring.turn(&mut Vec::new(), &mut events, Wait::Forever).unwrap();
            assert!(matches!(events[..], [Event::Woken]), "{events:?}");
            assert!(their_mail.swap(false, Ordering::AcqRel) || poll != PollMode::Busy);
        }
    });
    while !sleeper.is_finished() {
        if poll == PollMode::Busy || wakers.is_sleeping(ShardId(1)) {
            mail.store(true, Ordering::Release);
            wakers.wake(ShardId(1));
        }
        thread::yield_now();
    }
    sleeper.join().unwrap();
}

/// What is left where the kernel refuses the newest of them, and so on to none: as on older kernels.
#[test]
fn a_ring_works_with_whatever_features_it_gets() {
    for given_up in 1..=FEATURES.len() {
        let (refused, wanted) = FEATURES.split_at(given_up);
        for poll in [PollMode::Block, PollMode::DEFAULT] {
            let ring = || {
                let ring = ring_asking_for(wanted, 64, poll);
                let has = ring.features();
                assert!(refused.iter().all(|feature| !has.contains(&feature.name)), "{has:?}");
                // Kernels that grant no more are not trusted with it.
                assert!(!has.contains(&"msg_ring"), "{has:?}");
                ring
            };
            echoes(ring());
            writes_and_reads(ring());
            is_woken(wanted, poll);
        }
    }
}

#[test]
fn a_sleeping_shard_is_woken_by_another_ring() {
    for by_message in [false, true] {
        let wakers = Wakers::new(2).unwrap();
        let new = |shard, wakers: &Arc<Wakers>| {
            let config = RingConfig {
                shard: ShardId(shard),
                entries: 8,
                recv_buffers: 1,
                recv_buffer_bytes: 64,
                poll: PollMode::Block,
                wakers: wakers.clone(),
                has_mail: Box::new(|| false),
            };
            Ring::new(config).unwrap()
        };
        let their_wakers = wakers.clone();
        let sleeper = thread::spawn(move || {
            let mut ring = new(1, &their_wakers);
            for _ in 0..3 {
                let mut events = Vec::new();
                ring.turn(&mut Vec::new(), &mut events, Wait::For(PATIENCE)).unwrap();
                assert!(matches!(events[..], [Event::Woken]), "{events:?}");
            }
        });
        let mut ring = new(0, &wakers);
        ring.messages_rings &= by_message;
        while !sleeper.is_finished() {
            // Whoever does not sleep needs no waking.
            assert!(run(&mut ring, vec![Op::Wake { shard: ShardId(1) }]).is_empty());
            thread::yield_now();
        }
        sleeper.join().unwrap();
        assert_eq!(wakers.ring(ShardId(1)), None, "the ring is gone");
    }
}

#[test]
fn a_message_that_fails_becomes_the_bell() {
    let wakers = Wakers::new(2).unwrap();
    let mut ring = Ring::new(RingConfig {
        shard: ShardId(0),
        entries: 8,
        recv_buffers: 1,
        recv_buffer_bytes: 64,
        poll: PollMode::Block,
        wakers: wakers.clone(),
        has_mail: Box::new(|| false),
    })
    .unwrap();
    ring.messages_rings = true;
    // Not a ring.
    let (other, _) = UnixStream::pair().unwrap();
    wakers.set_ring(ShardId(1), Some(other.as_raw_fd()));
    wakers.fall_asleep(ShardId(1));
    run(&mut ring, vec![Op::Wake { shard: ShardId(1) }]);
    let mut rung = [0; 8];
    // SAFETY: the descriptor lives as long as `wakers`; the buffer is as long as said.
    let read = unsafe { libc::read(wakers.eventfd(ShardId(1)), rung.as_mut_ptr().cast(), rung.len()) };
    assert_eq!((read, u64::from_ne_bytes(rung)), (8, 1));
}

#[test]
fn a_wait_ends_with_its_time() {
    for poll in [PollMode::Block, PollMode::DEFAULT, PollMode::Busy] {
        let mut ring = ring_with(1, poll);
        let time = Duration::from_millis(5);
        let before = Instant::now();
        let mut events = Vec::new();
        ring.turn(&mut Vec::new(), &mut events, Wait::For(time)).unwrap();
        assert!(events.is_empty());
        assert!(before.elapsed() >= time);
    }
}

#[test]
fn a_dropped_ring_takes_its_memory_back() {
    let mut ring = ring();
    let mut peer = pair(&mut ring);
    let part = Bytes::from(pattern(8 << 20));
    let (listener, address) = socket::listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let ops = vec![
        Op::RecvStart { conn: CONN },
        Op::Send { conn: CONN, parts: vec![part.clone()] },
        Op::Listen { listener: LISTENER, socket: listener },
    ];
    assert!(run(&mut ring, ops).is_empty());
    assert!(!part.is_unique());
    let mut accepted = TcpStream::connect(address).unwrap();
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(ring);
    // The end, or a reset: not the patience's end.
    let end = accepted.read(&mut [0]).map_err(|error| error.kind());
    assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
    assert!(part.is_unique());
    assert!(TcpStream::connect(address).is_err(), "the listener is closed");
    peer.read_to_end(&mut Vec::new()).unwrap();
}
