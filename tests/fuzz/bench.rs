//! What a broker answers to the load generator, which has a codec of its own.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use ringmq::bench::{Driver, End, Fetched, KafkaControl, KafkaDriver, Malformed, Shape, Topics};
use ringmq::codec::batch_builder::BatchBuilder;
use ringmq::codec::compression::Compression;

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

/// Before the load: a broker's answers as they come from the socket, to the requests for versions,
/// a topic's leaders and its offsets, until one of them ends the conversation.
pub const CONTROL: Target = Target {
    run: |bytes| {
        let Ok(mut control) = KafkaControl::over(Script { answers: bytes }) else { return false };
        let leaders = control.metadata(TOPIC);
        let offsets = control.offsets(TOPIC, &[0, 1], End::Latest);
        leaders.is_ok() && offsets.is_ok_and(|offsets| offsets.iter().all(|offset| *offset >= 0))
    },
    seeds: || vec![conversation()],
    fix: no_fix,
    memory: SMALL,
    mutants_per_second: 50_000,
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
    let bodies = [[bytes![0i16, 7i32], versions].concat(), metadata.concat(), offsets.concat()];
    let frame = |(correlation, body): (i32, &Vec<u8>)| {
        [bytes![body.len() as i32 + 4, correlation], body.clone()].concat()
    };
    (1..).zip(&bodies).flat_map(frame).collect()
}
