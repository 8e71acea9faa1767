//! Fetches of what has left memory: a turn has so much time for them, and nobody else waits longer.

use super::crowd::{Crowd, PARTITIONS, TOPIC, frame, produce, produce_to};
use crate::kafka::protocol::messages::FetchRequest;
use crate::kafka::protocol::messages::fetch::{FetchPartition, FetchTopic};

/// More than a turn searches for, some 125, and their records lie in one chunk.
const FETCHED: i32 = 200;
const RECORD_BYTES: usize = 100;
/// Batches of another partition, more than the tail has room for.
const BATCHES: usize = 20;
const BATCH_BYTES: usize = 14 << 10;

/// Of partitions from an offset on.
fn fetch_of(partitions: impl Iterator<Item = (i32, i64)>, max_bytes: i32) -> Vec<u8> {
    let wanted = |(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic =
        FetchTopic { topic: TOPIC, partitions: partitions.map(wanted).collect(), ..Default::default() };
    let mut request = FetchRequest { max_wait_ms: 500, min_bytes: 1, max_bytes, ..Default::default() };
    request.topics.push(topic);
    frame(11, &request)
}

/// The first records of so many.
fn fetch_first(partitions: i32, max_bytes: i32) -> Vec<u8> {
    fetch_of((0..partitions).map(|partition| (partition, 0)), max_bytes)
}

fn fetch() -> Vec<u8> {
    fetch_first(FETCHED, 1 << 20)
}

/// What [`produce`] writes.
fn fetch_tail(offset: i64) -> Vec<u8> {
    fetch_of([(PARTITIONS - 1, offset)].into_iter(), 1 << 20)
}

/// Clients 0 and 1 fetch, client 2 produces, client 3 reads at the tail.
fn crowd() -> Crowd {
    let mut crowd = Crowd::new(4);
    let small: Vec<_> = (0..FETCHED).map(|partition| produce_to(partition, RECORD_BYTES)).collect();
    let large = vec![produce_to(PARTITIONS - 2, BATCH_BYTES); BATCHES];
    // As many as may be under way at a time, so that they share blocks.
    for requests in small.chunks(100).chain(large.chunks(1)) {
        crowd.send(2, &requests.concat());
        crowd.turn();
    }
    while crowd.answered() == [2] {
        crowd.turn();
    }
    crowd
}

/// Their chunk is in memory.
fn loaded() -> Crowd {
    let mut crowd = crowd();
    crowd.send(0, &fetch());
    crowd.turn();
    while crowd.sent[0] == 0 {
        crowd.turn();
    }
    crowd.turn();
    crowd
}

#[test]
fn a_fetch_of_much_that_was_read_back_looks_on_in_the_next_turn() {
    let mut crowd = crowd();
    crowd.send(0, &fetch());
    let mut waits = Vec::new();
    while crowd.sent[0] == 0 {
        crowd.send(2, &produce());
        crowd.turn();
        waits.push(crowd.at_once);
        assert!(waits.len() < 50, "it is never answered");
    }
    assert!(crowd.sent[0] > FETCHED as usize * RECORD_BYTES, "all in one answer: {} bytes", crowd.sent[0]);
    // It asks for the chunk, which comes in four pieces, and looks again.
    assert_eq!(waits, [true, false, false, false, false, true, false], "the next turn comes at once");
}

#[test]
fn fetches_of_the_past_take_turns_and_who_asks_again_comes_last() {
    let mut crowd = loaded();
    crowd.send(1, &fetch());
    crowd.send(0, &fetch());
    let (mut turns, mut answered) = (Vec::new(), Vec::new());
    while answered.len() < 4 {
        crowd.turn();
        assert!(turns.len() < 50, "no end: {turns:?}");
        turns.push(crowd.answered());
        for client in crowd.answered() {
            answered.push(client);
            crowd.send(client, &fetch());
        }
    }
    assert_eq!(answered, [1, 0, 1, 0], "{turns:?}");
    let longest = turns.chunk_by(|a, b| a.is_empty() && b.is_empty()).map(<[_]>::len).max();
    assert_eq!(
        longest,
        Some(1),
        "each takes two turns, and begins in the one that the other ends: {turns:?}"
    );
}

#[test]
fn who_reads_at_the_tail_does_not_wait_for_those_who_read_the_past() {
    let mut crowd = loaded();
    for client in [0, 1] {
        crowd.send(client, &fetch());
    }
    crowd.send(2, &produce());
    crowd.send(3, &fetch_tail(0));
    crowd.turn();
    assert!(crowd.answered().is_empty(), "both look on, and nothing is written");
    for offset in 1..4 {
        crowd.send(2, &produce());
        crowd.turn();
        assert!(crowd.at_once, "somebody looks on");
        assert!(crowd.sent[2] > 0 && crowd.sent[3] > 0, "record {offset}: {:?}", crowd.sent);
        crowd.send(3, &fetch_tail(offset));
        for client in crowd.answered().into_iter().filter(|client| *client < 2) {
            crowd.send(client, &fetch());
        }
    }
}

#[test]
fn a_search_that_finds_no_room_for_its_batch_costs_as_much() {
    let mut crowd = loaded();
    // Room for a few.
    crowd.send(0, &fetch_first(FETCHED, 1000));
    crowd.turn();
    assert!(crowd.answered().is_empty() && crowd.at_once, "the turn had time for all");
    crowd.turn();
    assert!((1..2 * 1000 + 100 * FETCHED as usize).contains(&crowd.sent[0]), "{} bytes", crowd.sent[0]);
}

#[test]
fn a_fetch_that_looks_on_gathers_nothing_while_an_answer_of_its_connection_is_large() {
    let mut crowd = loaded();
    // It begins beside the first, which has gathered little by then; what that finds at its end is large.
    let large = (PARTITIONS - 2, BATCHES as i64 - 5);
    let first = fetch_of((0..150).map(|partition| (partition, 0)).chain([large]), i32::MAX);
    crowd.send(0, &[first, fetch_first(50, i32::MAX)].concat());
    crowd.turn();
    assert!(crowd.answered().is_empty() && crowd.at_once);
    crowd.turn();
    let first_bytes = 150 * RECORD_BYTES + 5 * BATCH_BYTES;
    assert!(crowd.sent[0] > first_bytes, "{} bytes of the first", crowd.sent[0]);
    crowd.turn();
    assert!(
        crowd.sent[0] > 50 * RECORD_BYTES && crowd.sent[0] < first_bytes,
        "{} of the second",
        crowd.sent[0]
    );
}
