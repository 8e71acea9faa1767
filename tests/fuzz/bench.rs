//! What a broker answers to the load generator, which has a codec of its own.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use ringmq::bench::group_answers as group;
use ringmq::bench::{
    Driver, End, Fetched, KafkaControl, KafkaDriver, Malformed, Reading, Shape, Stages, Topics,
};
use ringmq::codec::batch_builder::BatchBuilder;
use ringmq::codec::compression::Compression;

use crate::config::TREE;
use crate::harness::{Memory, SMALL, Target, no_fix};

const CORRELATION: u32 = 7;
const TOPIC: &str = "t";

/// Frames under load: the same bytes as an ack and as a fetched answer.
pub const ANSWERS: Target = Target {
    run: |bytes| {
        let driver = driver();
        let ack = driver.parse_ack(bytes);
        let _ = driver.fetched_correlation(bytes);
        let fetched = read_fetched(&driver, bytes);
        if let Ok(ack) = ack {
            assert!(ack.result.is_ok_and(|base| base >= 0) || ack.result.is_err());
        }
        ack.is_ok() || fetched.is_ok()
    },
    seeds: answers,
    fix: |bytes| {
        if let Some(correlation) = bytes.get_mut(..4) {
            correlation.copy_from_slice(&CORRELATION.to_be_bytes());
        }
    },
    // The unpacked records, and a decoder's tables: two of LZ4's largest blocks, 4 MiB each.
    memory: Memory { per_byte: 64, bytes: 16 << 20 },
    mutants_per_second: 20_000,
};

/// A fetched answer, piece by piece.
fn read_fetched(driver: &KafkaDriver, frame: &[u8]) -> Result<(), Malformed> {
    let mut parts = VecDeque::new();
    driver.parse_fetch(frame, &[], &mut parts)?;
    for Fetched { mut records, .. } in parts {
        while !records.is_empty() {
            let piece = &frame[records.clone()];
            let read = driver.parse_records(piece, &mut 1, &mut |offset, _| assert!(offset >= 0))?;
            assert!(read > 0, "it comes to an end");
            records.start += read;
        }
    }
    Ok(())
}

/// Before the load: a broker's answers as they come from the socket, to the requests for versions, a new topic,
/// its leaders and its offsets, and a producer's id, until one of them ends the conversation.
pub const CONTROL: Target = Target {
    run: |bytes| {
        let Ok(mut control) = KafkaControl::over(Script { answers: bytes }) else { return false };
        let created = control.create_topic(TOPIC, 2, &[]);
        let leaders = control.metadata(TOPIC);
        let offsets = control.offsets(TOPIC, &[0, 1], End::Latest);
        let producer = control.producer_id();
        if let Ok(offsets) = &offsets {
            assert!(offsets.iter().all(|offset| *offset >= 0));
        }
        created.is_ok() && leaders.is_ok() && offsets.is_ok() && producer.is_ok()
    },
    seeds: || vec![conversation()],
    fix: no_fix,
    memory: SMALL,
    mutants_per_second: 50_000,
};

/// What a coordinator answers to members of groups: the first byte says to which of their requests.
pub const GROUP: Target = Target {
    run: |bytes| {
        let Some((request, answer)) = bytes.split_first() else { return false };
        match request {
            0 => group::coordinator(answer).is_ok(),
            1 => group::joining(answer).is_ok(),
            2 => group::assigned(answer).is_ok(),
            3 => group::code(answer).is_ok(),
            4 => group::commit_codes(answer).is_ok(),
            5 => group::committed(answer).is_ok(),
            _ => false,
        }
    },
    seeds: group_answers,
    fix: no_fix,
    memory: SMALL,
    mutants_per_second: 100_000,
};

/// Two readings of `/latency`, with a zero byte between them: where the time in between went.
pub const LATENCY: Target = Target {
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let Some((before, after)) = text.split_once('\0') else { return false };
        let read = serde_json::from_str::<Reading>;
        let (Ok(before), Ok(after)) = (read(before), read(after)) else { return false };
        if let Some(stages) = Stages::between(&before, &after) {
            for quantile in [0.5, 0.99, 0.999] {
                stages.tail(quantile).expect("no bucket is empty").slowest();
            }
        }
        true
    },
    seeds: || {
        let reading = |count: u64| {
            let bucket = |from_us: u64, to_us: &str| {
                let sums = format!(r#"{{"queue":{}.5,"device":{}}}"#, count * from_us, 2 * count);
                format!(r#"{{"from_us":{from_us},"to_us":{to_us},"count":{count},"stage_sum_us":{sums}}}"#)
            };
            format!(r#"{{"requests":1,"buckets":[{},{}]}}"#, bucket(0, "64"), bucket(64, "null"))
        };
        vec![format!("{}\0{}", reading(3), reading(10)).into_bytes()]
    },
    fix: no_fix,
    memory: TREE,
    mutants_per_second: 20_000,
};

/// A broker that says what it was told to say.
struct Script<'a> {
    answers: &'a [u8],
}

impl Read for Script<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.answers.read(buf)
    }
}

impl Write for Script<'_> {
    fn write(&mut self, request: &[u8]) -> io::Result<usize> {
        Ok(request.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn driver() -> KafkaDriver {
    KafkaDriver::new(Shape {
        run: 1,
        topics: Topics::new(TOPIC, 1, 2),
        acks: -1,
        record_bytes: 40,
        records: 3,
        timestamp_ms: 1_700_000_000_000,
        unpacked_bytes_max: 64 << 10,
        ..Shape::default()
    })
}

/// Big-endian fields behind each other: what a broker would write.
macro_rules! bytes {
    ($($field:expr),* $(,)?) => {
        [$(&$field.to_be_bytes()[..]),*].concat()
    };
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as i16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn answers() -> Vec<Vec<u8>> {
    let head =
        |partition: i32| [bytes![CORRELATION], bytes![1i32], text(TOPIC), bytes![1i32, partition]].concat();
    let ack = [head(0), bytes![0i16, 99i64, -1i64, 0i64, 0i32]].concat();
    let refused = [head(1), bytes![6i16, -1i64, -1i64, 0i64, 0i32]].concat();

    let fetched = Compression::ALL.map(|compression| {
        let mut builder = BatchBuilder::new(compression);
        builder.push(0, None, Some(b"first"), &[]).push(0, Some(b"key"), Some(b"second"), &[]);
        let batch = builder.finish();
        [
            bytes![CORRELATION, 0i32, 1i32],
            text(TOPIC),
            bytes![1i32, 0i32, 0i16, 50i64, 50i64, 1i32, 7i64, 3i64, batch.len() as i32],
            batch,
        ]
        .concat()
    });
    [vec![ack, refused], fetched.to_vec()].concat()
}

fn conversation() -> Vec<u8> {
    let versions: Vec<u8> =
        [0i16, 1, 2, 3, 18, 19, 22].iter().flat_map(|key| bytes![*key, 0i16, 9i16]).collect();
    let partition = |index: i32| bytes![0i16, index, 1i32, 1i32, 1i32, 1i32, 1i32];
    let created = [bytes![0i32, 1i32], text(TOPIC), bytes![0i16, -1i16]];
    let metadata = [
        bytes![0i32, 1i32, 1i32],
        text("localhost"),
        bytes![9092i32, -1i16, -1i16, 1i32, 1i32, 0i16],
        text(TOPIC),
        bytes![0i8, 2i32],
        partition(0),
        partition(1),
    ];
    let offsets = [bytes![1i32], text(TOPIC), bytes![2i32, 0i32, 0i16, -1i64, 5i64, 1i32, 0i16, -1i64, 0i64]];
    let producer = bytes![0i32, 0i16, 4000i64, 0i16];
    let bodies = [
        [bytes![0i16, 7i32], versions].concat(),
        created.concat(),
        metadata.concat(),
        offsets.concat(),
        producer,
    ];
    let frame = |(correlation, body): (i32, &Vec<u8>)| {
        [bytes![body.len() as i32 + 4, correlation], body.clone()].concat()
    };
    (1..).zip(&bodies).flat_map(frame).collect()
}

/// Answers to each request of a member, and refusals.
fn group_answers() -> Vec<Vec<u8>> {
    let subscription = [bytes![0i16, 1i32], text(TOPIC), bytes![3i32], b"all".to_vec()].concat();
    let member = |id: &str| [text(id), bytes![subscription.len() as i32], subscription.clone()].concat();
    let joined = [
        bytes![1i8, 0i32, 0i16, 3i32],
        text("ringmq-bench"),
        text("a"),
        text("a"),
        bytes![2i32],
        member("a"),
        member("b"),
    ];
    let commits = [bytes![4i8, 1i32], text(TOPIC), bytes![2i32, 0i32, 0i16, 1i32, 27i16]];
    let fetched = [bytes![5i8, 1i32], text(TOPIC), bytes![1i32, 0i32, 90i64, -1i16, 0i16]];
    vec![
        [bytes![0i8, 0i16, 1i32], text("localhost"), bytes![9092i32]].concat(),
        bytes![0i8, 15i16],
        joined.concat(),
        bytes![1i8, 0i32, 25i16],
        [bytes![2i8, 0i32, 0i16, 3i32], b"all".to_vec()].concat(),
        bytes![2i8, 0i32, 27i16],
        bytes![3i8, 0i32, 0i16],
        commits.concat(),
        fetched.concat(),
    ]
}
