//! Sockets: order, back-pressure, ends, and the contract of connections.

use super::*;
use crate::io::op::{ConnId, ListenerId};

const CONN: ConnId = ConnId { index: 0, generation: 0 };

fn addr() -> SocketAddr {
    ([127, 0, 0, 1], 9092).into()
}

/// A machine with one attached connection, and its client.
fn connected(seed: u64) -> (Machine, ClientSocket) {
    let mut machine = Machine::new(seed);
    let socket = machine.world.listener(addr());
    machine.run([Op::Listen { listener: ListenerId(0), socket }]);
    let client = machine.world.connect(addr()).unwrap();
    machine.settle();
    let events = std::mem::take(&mut machine.events);
    let [Event::Accepted { socket: SocketHandle::Sim(id), peer, .. }] = &events[..] else {
        panic!("{}", told(&events))
    };
    assert!(peer.ip().is_loopback());
    machine.submit([Op::Attach { conn: CONN, socket: SocketHandle::Sim(*id) }]);
    (machine, client)
}

fn send(bytes: &[u8]) -> Op {
    let (a, b) = bytes.split_at(bytes.len() / 2);
    Op::Send { conn: CONN, parts: vec![Bytes::copy_from_slice(a), Bytes::new(), Bytes::copy_from_slice(b)] }
}

/// Bytes whose order shows.
fn stream(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index / 251 + index) as u8).collect()
}

#[test]
fn bytes_arrive_once_and_in_order_however_they_are_cut() {
    let mut split = 0;
    for seed in 0..30 {
        let (mut machine, client) = connected(seed);
        let mut rng = machine.world.fork_rng();
        let (want, mut got) = (stream(300_000), Vec::new());
        let mut rest = &want[..];
        let mut receiving = false;
        while got.len() < want.len() {
            let (now, later) = rest.split_at(rest.len().min(rng.between(1, 40_000) as usize));
            client.send(now);
            rest = later;
            if !receiving {
                let buf = Vec::with_capacity(rng.between(1, 50_000) as usize);
                let into = Op::RecvInto { conn: CONN, buf };
                machine.submit([if rng.one_in(2) { into } else { Op::RecvStart { conn: CONN } }]);
                receiving = true;
            } else if rng.one_in(3) {
                machine.submit([Op::RecvStop { conn: CONN }]);
            }
            machine.settle();
            for event in machine.events.drain(..) {
                match event {
                    Event::Received { data, .. } => got.extend_from_slice(&data),
                    Event::ReceivedInto { buf, result, .. } => {
                        match result {
                            Ok(bytes) => assert_eq!(bytes, buf.len()),
                            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ECANCELED)),
                        }
                        got.extend_from_slice(&buf);
                        receiving = false;
                    }
                    Event::RecvEnded { .. } => receiving = false,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(got == want, "seed {seed}");
        split += machine.world.network_coverage().receives_split;

        machine.submit([send(&want)]);
        let mut got = Vec::new();
        while got.len() < want.len() {
            machine.settle();
            got.extend(client.recv_at_most(rng.between(1, 70_000) as usize));
        }
        machine.settle();
        assert!(got == want, "seed {seed}");
        assert!(told(&machine.events).ends_with("sent ok"));
    }
    assert!(split > 30);
}

#[test]
fn a_client_that_does_not_read_stops_its_sender() {
    let (mut machine, client) = connected(4);
    machine.world.set_socket_buffer_bytes(10_000);
    assert_eq!(told(&machine.run([send(&stream(25_000))])), "", "no room for all of it");
    assert_eq!(client.recv_at_most(5_000).len(), 5_000);
    assert_eq!(told(&machine.run([])), "");
    assert_eq!(client.recv().len(), 10_000);
    assert_eq!(told(&machine.run([])), "sent ok");
    assert_eq!(client.recv().len(), 10_000);
    assert!(machine.world.network_coverage().sends_blocked > 0);
}

#[test]
fn a_shard_that_does_not_receive_stops_the_client() {
    let (mut machine, client) = connected(4);
    machine.world.set_socket_buffer_bytes(10_000);
    client.send(&stream(25_000));
    machine.settle();
    assert_eq!(client.unsent_bytes(), 15_000);
    let got: usize = machine
        .run([Op::RecvStart { conn: CONN }])
        .iter()
        .map(|event| if let Event::Received { data, .. } = event { data.len() } else { 0 })
        .sum();
    assert_eq!((got, client.unsent_bytes()), (25_000, 0));
}

#[test]
fn receive_buffers_run_out_and_bytes_wait() {
    let (mut machine, client) = connected(4);
    client.send(&stream(300_000));
    machine.settle();
    let held = machine.run([Op::RecvStart { conn: CONN }]);
    assert!(told(&held).ends_with("receive ended: NoBuffers"));
    assert_eq!(held.len(), usize::from(RECV_BUFFERS) + 1);
    drop(held);
    assert!(told(&machine.run([Op::RecvStart { conn: CONN }])).starts_with("got "));
}

#[test]
fn streams_end_as_they_are_ended() {
    type Act = fn(&ClientSocket);
    let cases: [(Act, &str); 4] = [
        (|client| client.close_write(), "receive ended: Eof"),
        (|client| client.close(), "receive ended: Eof"),
        (|client| client.reset(), "receive failed: ConnectionReset"),
        (|_| {}, ""),
    ];
    for (act, want) in cases {
        let (mut machine, client) = connected(2);
        machine.run([Op::RecvStart { conn: CONN }]);
        act(&client);
        assert_eq!(told(&machine.run([])), want);
    }

    let (mut machine, client) = connected(2);
    client.close_write();
    let buf = Vec::with_capacity(10);
    let events = machine.run([Op::RecvInto { conn: CONN, buf }]);
    assert!(matches!(&events[..], [Event::ReceivedInto { result: Ok(0), .. }]));
    assert_eq!(told(&machine.run([send(b"still here")])), "sent ok", "half-closed is not closed");
    assert_eq!(client.recv(), b"still here");
    assert_eq!(client.state(), StreamState::Open);
    assert_eq!(told(&machine.run([Op::Close { conn: CONN }])), "closed");
    assert_eq!(client.state(), StreamState::Finished);
}

#[test]
fn sending_to_a_closed_client_breaks_the_connection() {
    let (mut machine, client) = connected(3);
    machine.run([Op::RecvStart { conn: CONN }]);
    client.close();
    assert_eq!(told(&machine.run([])), "receive ended: Eof");
    assert_eq!(told(&machine.run([send(b"lost")])), "sent ok", "the first goes into the void");
    assert_eq!(told(&machine.run([send(b"lost")])), "sent ConnectionReset");
}

#[test]
fn closing_answers_what_is_under_way_and_closes_once() {
    for seed in 0..20 {
        let (mut machine, client) = connected(seed);
        machine.world.set_socket_buffer_bytes(1000);
        machine.run([Op::RecvStart { conn: CONN }]);
        let told = told(&machine.run([send(&stream(5000)), Op::Close { conn: CONN }]));
        assert_eq!(told.split("; ").count(), 3, "{told}");
        assert!(told.ends_with("closed"));
        assert!(told.contains("sent ") && told.contains("receive failed"), "{told}");
        assert_eq!(client.state(), StreamState::Broken, "a response that was cut off is no orderly end");

        // The id can be used again.
        let second = machine.world.connect_shard(addr(), SHARD).unwrap();
        machine.settle();
        let Some(Event::Accepted { socket, .. }) = machine.events.pop() else { panic!("not accepted") };
        machine.submit([Op::Attach { conn: CONN, socket }]);
        machine.run([send(b"hello")]);
        assert_eq!(second.recv(), b"hello");
    }
}

#[test]
fn closing_with_unread_bytes_is_a_reset() {
    let (mut machine, client) = connected(3);
    client.send(b"never read");
    machine.settle();
    machine.run([Op::Close { conn: CONN }]);
    assert_eq!(client.state(), StreamState::Broken);
}

#[test]
fn a_failed_accept_waits_for_the_next_listen() {
    let mut machine = Machine::new(1);
    let listener = machine.world.listener(addr());
    let SocketHandle::Sim(id) = listener else { unreachable!() };
    machine.world.fail_accepts(1);
    let listen = || Op::Listen { listener: ListenerId(7), socket: SocketHandle::Sim(id) };
    machine.run([listen()]);
    machine.world.connect(addr()).unwrap();
    assert_eq!(told(&machine.run([])), "accept failed");
    assert_eq!(told(&machine.run([listen()])), "accepted");
    let elsewhere: SocketAddr = ([127, 0, 0, 1], 1).into();
    let error = machine.world.connect(elsewhere).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn clients_keep_what_had_reached_them_when_the_machine_goes_down() {
    let (mut machine, client) = connected(1);
    machine.run([send(b"acknowledged")]);
    machine.submit([send(b"on its way")]);
    machine.world.crash();
    assert_eq!(client.recv(), b"acknowledged");
    assert_eq!(client.state(), StreamState::Broken);
    client.send(b"nobody hears");
    assert!(machine.world.connect(addr()).is_err());
}
