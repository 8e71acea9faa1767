//! Bytes from peers that mean harm: no bytes make a decoder panic, or take memory that they do not pay for.
//!
//! The mutation test is a fuzz target that runs on a stable toolchain: `RINGMQ_FUZZ_SECONDS` makes it longer.
//! Its corpus holds a frame of every API in its last classic and its last version, both directions. A
//! corpus file's name says how to read it: `Fetch-12-response`.

use std::fs;
use std::path::PathBuf;

use ringmq::kafka::protocol::api::schemas;
use ringmq::kafka::protocol::frame::{self, Frame};
use ringmq::kafka::protocol::{ApiKey, DecodeError, Reader, Request, RequestHeader, ResponseHeader, Writer};

use crate::generator::generate;
use crate::random::Random;

const FRAME_BYTES_MAX: usize = 1 << 20;

/// The test's second: about what a slow machine does in one. Counted, not timed, so that a seed repeats.
const MUTANTS_PER_SECOND: u64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Request,
    Response,
}

/// A frame, its length included, and what it is.
#[derive(Clone, Debug)]
struct Sample {
    direction: Direction,
    api: ApiKey,
    version: i16,
    bytes: Vec<u8>,
}

impl Sample {
    fn generate(random: &mut Random, direction: Direction, api: ApiKey, version: i16) -> Self {
        let (request, response) = schemas(api);
        let form = api.form(version).expect("in the range");
        let mut bytes = vec![0; frame::LENGTH_BYTES];
        let mut writer = Writer::new(&mut bytes);
        let kind = match direction {
            Direction::Request => {
                RequestHeader { api, version, correlation_id: 7, client_id: Some("corpus") }
                    .encode(&mut writer);
                request
            }
            Direction::Response => {
                ResponseHeader { correlation_id: 7 }.encode(&mut writer, api, version);
                response
            }
        };
        bytes.extend(generate(random, kind, form).bytes);
        let length = (bytes.len() - frame::LENGTH_BYTES) as i32;
        bytes[..frame::LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        Self { direction, api, version, bytes }
    }

    fn name(&self) -> String {
        format!("{}-{}-{}", self.api.name(), self.version, format!("{:?}", self.direction).to_lowercase())
    }

    /// Does what a receiver does with the bytes. What it accepts must survive being encoded and decoded.
    fn receive(&self) -> Result<(), DecodeError> {
        let found = match self.direction {
            Direction::Request => frame::first_request(&self.bytes, FRAME_BYTES_MAX),
            Direction::Response => frame::first_response(&self.bytes, FRAME_BYTES_MAX),
        };
        let range = match found {
            Ok(Frame::Complete(range)) => range,
            Ok(Frame::Incomplete { bytes_needed }) => {
                assert!(bytes_needed > self.bytes.len());
                assert!(bytes_needed <= frame::LENGTH_BYTES + FRAME_BYTES_MAX);
                // The sender stops here. Look into what came all the same.
                self.bytes.len().min(frame::LENGTH_BYTES)..self.bytes.len()
            }
            Err(_) => frame::LENGTH_BYTES..self.bytes.len(),
        };
        let body = &self.bytes[range];
        let mut encoded = Vec::new();
        match self.direction {
            Direction::Request => {
                let (header, request) = frame::decode_request(body)?;
                request.encode(&mut Writer::new(&mut encoded), header.version);
                let decoded = Request::decode(&mut Reader::new(&encoded), header.api, header.version);
                assert_eq!(decoded.as_ref(), Ok(&request));
            }
            Direction::Response => {
                let (header, response) = frame::decode_response(body, self.api, self.version)?;
                header.encode(&mut Writer::new(&mut encoded), self.api, self.version);
                response.encode(&mut Writer::new(&mut encoded), self.version);
                let decoded = frame::decode_response(&encoded, self.api, self.version);
                assert_eq!(decoded, Ok((header, response)));
            }
        }
        Ok(())
    }
}

/// A sample of every API: the last classic version and the last one, in both directions.
fn samples() -> Vec<Sample> {
    let mut random = Random::new(0);
    let mut samples = Vec::new();
    for &api in ApiKey::ALL {
        let last = *api.versions().end();
        let last_classic = api.flexible_since() - 1;
        for version in [last_classic, last] {
            if !api.versions().contains(&version) {
                continue;
            }
            for direction in [Direction::Request, Direction::Response] {
                // The richest of a few, but small.
                let candidates = (0..16).map(|_| Sample::generate(&mut random, direction, api, version));
                let candidates = candidates.filter(|sample| sample.bytes.len() < 1024);
                samples.extend(candidates.max_by_key(|sample| sample.bytes.len()));
            }
        }
    }
    samples
}

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/kafka_frames")
}

/// The corpus in the tree: the samples, as they were when the file was written.
fn read_corpus() -> Vec<Sample> {
    let mut samples = samples();
    for sample in &mut samples {
        let path = corpus().join(sample.name());
        if std::env::var_os("RINGMQ_UPDATE_CORPUS").is_some() {
            fs::create_dir_all(corpus()).expect("the corpus is writable");
            fs::write(&path, &sample.bytes).expect("the corpus is writable");
        }
        sample.bytes = fs::read(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; run with RINGMQ_UPDATE_CORPUS=1 to write it", path.display())
        });
    }
    samples
}

#[test]
fn the_corpus_decodes() {
    for sample in read_corpus() {
        assert_eq!(sample.receive(), Ok(()), "{}", sample.name());
    }
}

#[test]
fn mutants_never_panic() {
    let seconds = std::env::var("RINGMQ_FUZZ_SECONDS").map_or(1, |value| {
        value.parse().unwrap_or_else(|_| panic!("RINGMQ_FUZZ_SECONDS={value} is no number"))
    });
    let corpus = read_corpus();
    let mut accepted = 0;
    let mut refused = 0;
    for seed in 0..seconds * MUTANTS_PER_SECOND {
        let mut random = Random::new(seed);
        let mut mutant = random.pick(&corpus).clone();
        for _ in 0..1 + random.below(4) {
            mutate(&mut mutant.bytes, &corpus, &mut random);
        }
        let result = std::panic::catch_unwind(|| mutant.receive());
        match result {
            Ok(Ok(())) => accepted += 1,
            Ok(Err(_)) => refused += 1,
            Err(_) => panic!("mutant {seed} of {} panics: {:02x?}", mutant.name(), mutant.bytes),
        }
    }
    // Both happen, else the mutations are too weak or too strong to find anything.
    assert!(accepted > 0 && refused > 0, "{accepted} accepted, {refused} refused");
}

fn mutate(bytes: &mut Vec<u8>, corpus: &[Sample], random: &mut Random) {
    const BYTES: [u8; 7] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff];
    const INTS: [i32; 8] = [i32::MIN, -2, -1, 0, 1, 0x7fff, 0x0100_0000, i32::MAX];
    if bytes.is_empty() {
        bytes.extend(1_i32.to_be_bytes());
    }
    let at = random.below(bytes.len());
    match random.below(7) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = *random.pick(&BYTES),
        2 => {
            let int = random.pick(&INTS).to_be_bytes();
            let end = bytes.len().min(at + int.len());
            bytes[at..end].copy_from_slice(&int[..end - at]);
        }
        3 => bytes.truncate(at),
        4 => {
            bytes.remove(at);
        }
        5 => {
            let more: Vec<u8> = (0..1 + random.below(8)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, more);
        }
        _ => {
            let other = &random.pick(corpus).bytes;
            let from = random.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
    // A third of them keep their length true, so that not only the frame is tested.
    if random.one_in(3) && bytes.len() > frame::LENGTH_BYTES {
        let length = (bytes.len() - frame::LENGTH_BYTES) as i32;
        bytes[..frame::LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }
}

#[test]
fn random_and_uniform_bytes_never_panic() {
    let mut random = Random::new(0);
    for &api in ApiKey::ALL {
        for version in -1..=*api.versions().end() + 1 {
            for length in [0, 1, 2, 3, 7, 8, 9, 64, 1000] {
                let bodies = [0x00, 0x01, 0x02, 0x7f, 0x80, 0xff].map(|byte| vec![byte; length]);
                let noise = (0..length).map(|_| random.next() as u8).collect();
                for body in bodies.into_iter().chain([noise]) {
                    let decoded = Request::decode(&mut Reader::new(&body), api, version);
                    assert!(decoded.is_err() || api.versions().contains(&version));
                    let _ = frame::decode_response(&body, api, version);
                }
            }
        }
    }
}

/// The most address space that this process has had. An allocation that is reserved but never touched
/// counts too.
fn address_space_peak_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("the kernel reports it");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kib * 1024
}

/// Every place of every sample is overwritten with the largest count that could stand there.
#[test]
fn counts_beyond_the_bytes_reserve_nothing() {
    const GROWTH_BYTES_MAX: usize = 256 << 20;
    let before = address_space_peak_bytes();
    for sample in samples() {
        for count in [&[0x7f, 0xff, 0xff, 0xff][..], &[0x7f, 0xff], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
            for at in frame::LENGTH_BYTES..sample.bytes.len() - count.len() {
                let mut hostile = sample.clone();
                hostile.bytes[at..at + count.len()].copy_from_slice(count);
                let _ = hostile.receive();
            }
        }
    }
    let growth = address_space_peak_bytes() - before;
    // The smallest of those counts would take gigabytes.
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
}
