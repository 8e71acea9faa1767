//! Fetches of what has left memory: a turn has so much time for them, and who produces does not wait longer.

use super::crowd::{Crowd, PARTITIONS, TOPIC, frame, produce, produce_to};
use crate::kafka::protocol::messages::FetchRequest;
use crate::kafka::protocol::messages::fetch::{FetchPartition, FetchTopic};

/// More than a turn searches for, and their records lie in one chunk.
const FETCHED: i32 = 200;
const RECORD_BYTES: usize = 100;
/// Batches of another partition, more than the tail has room for.
const BATCHES: usize = 20;
const BATCH_BYTES: usize = 14 << 10;

/// Their first records.
fn fetch() -> Vec<u8> {
    let wanted = |partition| FetchPartition { partition, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic =
        FetchTopic { topic: TOPIC, partitions: (0..FETCHED).map(wanted).collect(), ..Default::default() };
    let mut request =
        FetchRequest { max_wait_ms: 500, min_bytes: 1, max_bytes: 1 << 20, ..Default::default() };
    request.topics.push(topic);
    frame(11, &request)
}

/// Clients 0 and 1 fetch, client 2 produces.
fn crowd() -> Crowd {
    let mut crowd = Crowd::new(3);
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

/// Who is answered in each turn, until nothing is to be done any more.
fn turns(crowd: &mut Crowd) -> Vec<Vec<usize>> {
    let mut turns = Vec::new();
    loop {
        crowd.send(2, &produce());
        crowd.turn();
        turns.push(crowd.answered());
        assert!(turns.len() < 50, "no end: {turns:?}");
        if !crowd.at_once && turns.len() > 1 && crowd.answered() == [2] {
            return turns;
        }
    }
}

#[test]
fn a_fetch_of_much_that_was_read_back_looks_on_in_the_next_turn() {
    let mut crowd = crowd();
    crowd.send(0, &fetch());
    let mut waits = Vec::new();
    while crowd.sent[0] == 0 {
        crowd.send(2, &produce());
        crowd.turn();
        assert_eq!(crowd.sent[2] > 0, !waits.is_empty(), "a record waited in turn {}", waits.len());
        waits.push(crowd.at_once);
        assert!(waits.len() < 50, "it is never answered");
    }
    assert!(crowd.sent[0] > FETCHED as usize * RECORD_BYTES, "all in one answer: {} bytes", crowd.sent[0]);
    // It asks for the chunk, which comes in four pieces, and looks again.
    assert_eq!(waits, [true, false, false, false, false, true, false], "the next turn comes at once");

    // It is in memory now, and both want it: 128 partitions a turn.
    crowd.turn();
    for client in [0, 1] {
        crowd.send(client, &fetch());
    }
    assert_eq!(turns(&mut crowd), [vec![], vec![0, 2], vec![2], vec![1, 2], vec![2]]);
}
