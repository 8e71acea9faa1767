//! Cases of writing and reading records.

use std::time::{Duration, Instant, SystemTime};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::clients::{
    Digest, PARTITIONS, Record, Sender, T0_MS, as_record, bounds, consumer, create, drop_topic, expect, offset_of, read,
    record, sample_records, send,
};
use crate::{Run, WAIT_MAX, until};

pub fn roundtrip(run: &Run) {
    create(run, PARTITIONS, &[]);
    let sent = sample_records(600, PARTITIONS);
    let settings = [("acks", run.arg("acks")), ("compression.type", run.arg("codec")), ("linger.ms", "20")];
    send(run, &sent, &settings);
    // With acks=0 nothing tells when the records have arrived, so the ends are polled.
    until("records sent with acks=0 did not arrive", || {
        bounds(run, PARTITIONS).iter().map(|(_, high)| high).sum::<i64>() == sent.len() as i64
    });
    expect(run, PARTITIONS, &sent, &[]);
    expect(run, PARTITIONS, &sent, &[("isolation.level", "read_uncommitted")]);
    drop_topic(run).expect("delete the topic");
}

/// An idempotent producer goes on while the broker is restarted under it, twice.
pub fn idempotent(run: &Run) {
    create(run, PARTITIONS, &[]);
    let settings =
        [("enable.idempotence", "true"), ("enable.gapless.guarantee", "true"), ("batch.size", "4000")];
    let sender = Sender::new(run, &settings);
    let count = 9_000;
    // Apache Kafka forgets a producer at a restart when its last record's timestamp is a day old.
    let now = now_ms();
    let sent: Vec<_> = (0..count)
        .map(|i| record(i % PARTITIONS, format!("value {i}").as_bytes(), now + i64::from(i)))
        .collect();
    for (i, record) in sent.iter().enumerate() {
        sender.start(&run.topic, record);
        if i == sent.len() / 3 || i == 2 * sent.len() / 3 {
            until("records are acknowledged", || sender.acked() >= i / 2);
            run.restart(run.arg("how"));
        }
    }
    let failed = sender.finish();
    assert!(failed.is_empty(), "records that failed: {failed:?}");
    expect(run, PARTITIONS, &sent, &[]);
    run.restart(run.arg("how"));
    expect(run, PARTITIONS, &sent, &[]);
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

pub fn too_large(run: &Run) {
    create(run, PARTITIONS, &[]);
    // Noise, so that no codec makes it small.
    let noise = |bytes: usize| -> Vec<u8> {
        sample_records(5 * bytes / 900, 1).into_iter().filter_map(|r| r.value).flatten().take(bytes).collect()
    };
    let largest = record(0, &noise(1_048_000), T0_MS);
    let settings = [("message.max.bytes", "3000000")];
    send(run, std::slice::from_ref(&largest), &settings);
    let sender = Sender::new(run, &settings);
    sender.start(&run.topic, &record(0, &noise(1_048_600), T0_MS));
    assert_eq!(sender.finish(), [RDKafkaErrorCode::MessageSizeTooLarge], "a record above the limit");
    let after = record(0, b"after", T0_MS);
    send(run, std::slice::from_ref(&after), &[]);
    let sent = [largest, after];
    expect(run, PARTITIONS, &sent, &[]);
    // A reader whose limit is far below the record must still get it, or it would stand still for ever.
    expect(run, PARTITIONS, &sent, &[("fetch.message.max.bytes", "1000")]);
}

pub fn auto_create(run: &Run) {
    let sent = [record(0, b"v", now_ms())];
    send(run, &sent, &[]);
    expect(run, 1, &sent, &[]);
}

/// A parked fetch is answered when a record becomes durable, not when its wait is over.
pub fn long_poll(run: &Run) {
    create(run, 1, &[]);
    let wait = Duration::from_secs(6);
    let consumer = consumer(run, &[("fetch.wait.max.ms", "6000")]);
    let mut assigned = TopicPartitionList::new();
    assigned.add_partition_offset(&run.topic, 0, Offset::Beginning).expect("a partition");
    consumer.assign(&assigned).expect("assign");
    for i in 0..5 {
        assert!(consumer.poll(Duration::from_millis(200)).is_none(), "a record out of nowhere");
        let sent_at = Instant::now();
        let value = format!("{i}");
        send(run, &[record(0, value.as_bytes(), T0_MS)], &[("linger.ms", "0")]);
        let message = consumer.poll(WAIT_MAX).expect("the record").expect("no error");
        assert_eq!(message.payload(), Some(value.as_bytes()));
        assert!(sent_at.elapsed() < wait / 2, "the record took {:?}", sent_at.elapsed());
    }
}

/// A producer and a consumer go on when their topic was deleted and created again.
pub fn recreated_topic(run: &Run) {
    create(run, PARTITIONS, &[]);
    let sender = Sender::new(run, &[("enable.idempotence", "true")]);
    let consumer = consumer(run, &[("auto.offset.reset", "earliest"), ("retry.backoff.ms", "20")]);
    let mut assigned = TopicPartitionList::new();
    for p in 0..PARTITIONS {
        assigned.add_partition_offset(&run.topic, p, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&assigned).expect("assign");
    // The second topic never gets as long as the first was: a position in that one is beyond its end.
    for count in [90, 30] {
        let sent = sample_records(count, PARTITIONS);
        for record in &sent {
            sender.start(&run.topic, record);
        }
        let failed = sender.finish();
        assert!(failed.is_empty(), "records that failed: {failed:?}");
        let mut got = vec![Vec::new(); PARTITIONS as usize];
        until("records are missing", || {
            // It tells of the partitions that were away.
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                let (partition, offset) = offset_of(&message);
                let partition = &mut got[partition as usize];
                assert_eq!(offset, partition.len() as i64, "offset");
                partition.push(as_record(&message));
            }
            got.iter().map(Vec::len).sum::<usize>() >= count
        });
        for (p, got) in (0..).zip(&got) {
            let expected: Vec<_> = sent.iter().filter(|record| record.partition == p).cloned().collect();
            assert_eq!(*got, expected, "records of partition {p}");
        }
        expect(run, PARTITIONS, &sent, &[]);
        drop_topic(run).expect("delete the topic");
        if count == 90 {
            create(run, PARTITIONS, &[]);
        }
    }
}

pub fn timestamps(run: &Run) {
    create(run, 1, &[]);
    let (count, step_ms) = (500, 1000);
    // Two records per timestamp: a lookup must find the first of them, inside a batch.
    let sent: Vec<_> = (0..count).map(|i| record(0, b"v", T0_MS + i / 2 * step_ms)).collect();
    send(run, &sent, &[("compression.type", run.arg("codec")), ("linger.ms", "50")]);
    let consumer = consumer(run, &[]);
    let lookup = |time_ms: i64| {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(&run.topic, 0, Offset::Offset(time_ms)).expect("a partition");
        let found = consumer.offsets_for_times(asked, WAIT_MAX).expect("offsets by time");
        found.elements()[0].offset()
    };
    for i in [0, 1, 17, 123, 249] {
        assert_eq!(lookup(T0_MS + i * step_ms), Offset::Offset(2 * i), "at the time of pair {i}");
        assert_eq!(lookup(T0_MS + i * step_ms - 1), Offset::Offset(2 * i), "just before pair {i}");
    }
    assert_eq!(lookup(T0_MS + count * step_ms), Offset::End, "after the last record");
    assert_eq!(lookup(T0_MS + 200 * step_ms), Offset::Offset(400));
    let mut next = 400;
    read(run, 1, next, &[], |offset, _| {
        assert_eq!(offset, next, "offset consumed from a timestamp");
        next += 1;
    });
    assert_eq!(next, count);
}

/// One side of the cross matrix; see `matrix_records` in `../../python/harness.py`.
pub fn write(run: &Run) {
    create(run, PARTITIONS, &[]);
    let binary: Vec<u8> = (0..=255).collect();
    let mut digests: Vec<_> = (0..PARTITIONS).map(|_| Digest::default()).collect();
    let mut records = Vec::new();
    for i in 0..300_usize {
        let text = format!("rdkafka {i} ").repeat(i % 50).into_bytes();
        let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
        let record = Record {
            partition: (i / 7) as i32 % PARTITIONS,
            key: [None, Some(vec![]), Some(format!("key-{i}").into_bytes())][i % 3].clone(),
            value: [None, Some(vec![]), Some(text), Some(binary.clone())][i % 4].clone(),
            headers: match i % 3 {
                0 => vec![],
                1 => vec![header("a", &i.to_string()), header("b", "")],
                _ => vec![header("a", "x"), header("a", "y")],
            },
            timestamp: T0_MS + i as i64,
        };
        digests[record.partition as usize].add(&record);
        records.push(record);
    }
    send(run, &records, &[("compression.type", run.arg("codec")), ("linger.ms", "20")]);
    tell(run, digests);
}

/// The other side: the digest of every partition, whoever wrote it.
pub fn read_digests(run: &Run) {
    let found = consumer(run, &[]).fetch_metadata(Some(&run.topic), WAIT_MAX).expect("metadata");
    let partitions = found.topics()[0].partitions().len() as i32;
    let mut digests: Vec<_> = (0..partitions).map(|_| Digest::default()).collect();
    read(run, partitions, 0, &[], |offset, record| {
        let digest = &mut digests[record.partition as usize];
        assert_eq!(offset, digest.count, "offset");
        digest.add(&record);
    });
    tell(run, digests);
}

fn tell(run: &Run, digests: Vec<Digest>) {
    for (p, digest) in digests.into_iter().enumerate() {
        run.value(&format!("p{p}"), &digest.text());
    }
}
