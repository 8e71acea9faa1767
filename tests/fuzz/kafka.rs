//! Kafka's frames, both directions: what clients send to the broker, and what a broker answers to the
//! commands that ask one.

use ringmq::kafka::protocol::api::schemas;
use ringmq::kafka::protocol::frame::{self, Frame};
use ringmq::kafka::protocol::{ApiKey, Reader, Request, RequestHeader, Response, ResponseHeader, Writer};

use crate::generator::generate;
use crate::harness::{Memory, Target};
use crate::meter;
use crate::random::Random;

const FRAME_BYTES_MAX: usize = 1 << 20;
/// Decoded arrays are wider than their bytes, and each message is encoded and decoded once more.
const MEMORY: Memory = Memory { per_byte: 256, bytes: 64 << 10 };

pub const REQUEST: Target = Target {
    run: receive_request,
    seeds: requests,
    fix: |bytes| put_length(bytes),
    memory: MEMORY,
    mutants_per_second: 100_000,
};

/// The first four bytes say what was asked: API key and version.
pub const RESPONSE: Target = Target {
    run: receive_response,
    seeds: responses,
    fix: |bytes| put_length(bytes.get_mut(ASKED_BYTES..).unwrap_or_default()),
    memory: MEMORY,
    mutants_per_second: 50_000,
};

const ASKED_BYTES: usize = 4;

fn put_length(frame: &mut [u8]) {
    if let Some(length) = frame.len().checked_sub(frame::LENGTH_BYTES) {
        frame[..frame::LENGTH_BYTES].copy_from_slice(&(length as i32).to_be_bytes());
    }
}

/// Header and body of a found frame. Where none was found, a receiver stops; look into what came all
/// the same.
fn body(bytes: &[u8], found: Result<Frame, frame::FrameError>) -> &[u8] {
    match found {
        Ok(Frame::Complete(range)) => &bytes[range],
        Ok(Frame::Incomplete { bytes_needed }) => {
            assert!(bytes_needed > bytes.len());
            assert!(bytes_needed <= frame::LENGTH_BYTES + FRAME_BYTES_MAX);
            &bytes[bytes.len().min(frame::LENGTH_BYTES)..]
        }
        Err(_) => &bytes[frame::LENGTH_BYTES..],
    }
}

/// What is accepted must survive being encoded and decoded.
fn receive_request(bytes: &[u8]) -> bool {
    let mut encoded = Vec::new();
    let Ok((header, request)) =
        frame::decode_request(body(bytes, frame::first_request(bytes, FRAME_BYTES_MAX)))
    else {
        return false;
    };
    request.encode(&mut Writer::new(&mut encoded), header.version);
    let decoded = Request::decode(&mut Reader::new(&encoded), header.api, header.version);
    assert_eq!(decoded.as_ref(), Ok(&request));
    true
}

fn receive_response(bytes: &[u8]) -> bool {
    let Some((&[k0, k1, v0, v1], bytes)) = bytes.split_first_chunk::<ASKED_BYTES>() else { return false };
    let version = i16::from_be_bytes([v0, v1]);
    let mut apis = ApiKey::ALL.iter().chain(ApiKey::ASKED);
    let Some(&api) = apis.find(|api| api.key() == i16::from_be_bytes([k0, k1])) else {
        return false;
    };
    let mut encoded = Vec::new();
    let body = body(bytes, frame::first_response(bytes, FRAME_BYTES_MAX));
    let Ok((header, response)) = frame::decode_response(body, api, version) else { return false };
    header.encode(&mut Writer::new(&mut encoded), api, version);
    response.encode(&mut Writer::new(&mut encoded), version);
    // As text: a quota that is not a number is not equal to itself.
    let again = frame::decode_response(&encoded, api, version);
    assert!(again.is_ok_and(|again| format!("{again:?}") == format!("{:?}", (header, response))));
    true
}

/// A request of every API in every version.
fn requests() -> Vec<Vec<u8>> {
    samples(ApiKey::ALL, |random, api, version| {
        let mut bytes = vec![0; frame::LENGTH_BYTES];
        RequestHeader { api, version, correlation_id: 7, client_id: Some("corpus") }
            .encode(&mut Writer::new(&mut bytes));
        let form = api.form(version).expect("in the range");
        bytes.extend(generate(random, schemas(api).0, form).bytes);
        put_length(&mut bytes);
        bytes
    })
}

/// A response of every API in every version.
fn responses() -> Vec<Vec<u8>> {
    samples(&[ApiKey::ALL, ApiKey::ASKED].concat(), |random, api, version| {
        let mut frame = vec![0; frame::LENGTH_BYTES];
        ResponseHeader { correlation_id: 7 }.encode(&mut Writer::new(&mut frame), api, version);
        let form = api.form(version).expect("in the range");
        frame.extend(generate(random, schemas(api).1, form).bytes);
        put_length(&mut frame);
        [&api.key().to_be_bytes()[..], &version.to_be_bytes(), &frame].concat()
    })
}

fn samples(apis: &[ApiKey], sample: impl Fn(&mut Random, ApiKey, i16) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut random = Random::new(0);
    let mut samples = Vec::new();
    for &api in apis {
        for version in api.versions() {
            // The richest of a few, but small.
            let candidates = (0..16).map(|_| sample(&mut random, api, version));
            samples.extend(candidates.filter(|bytes| bytes.len() < 1024).max_by_key(Vec::len));
        }
    }
    samples
}

#[test]
fn random_and_uniform_bytes_never_panic() {
    let mut random = Random::new(0);
    for &api in ApiKey::ALL.iter().chain(ApiKey::ASKED) {
        for version in -1..=*api.versions().end() + 1 {
            for length in [0, 1, 2, 3, 7, 8, 9, 64, 1000] {
                let bodies = [0x00, 0x01, 0x02, 0x7f, 0x80, 0xff].map(|byte| vec![byte; length]);
                let noise = (0..length).map(|_| random.next() as u8).collect();
                for body in bodies.into_iter().chain([noise]) {
                    let decoded = Request::decode(&mut Reader::new(&body), api, version);
                    assert!(decoded.is_err() || api.versions().contains(&version));
                    let decoded = Response::decode(&mut Reader::new(&body), api, version);
                    assert!(decoded.is_err() || api.versions().contains(&version));
                }
            }
        }
    }
}

/// Every place of every sample is overwritten with the largest count that could stand there.
#[test]
fn counts_beyond_the_bytes_reserve_nothing() {
    let run_all = |samples: Vec<Vec<u8>>, run: fn(&[u8]) -> bool| {
        for sample in samples {
            for count in [&[0x7f, 0xff, 0xff, 0xff][..], &[0x7f, 0xff], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
                for at in frame::LENGTH_BYTES..sample.len() - count.len() {
                    let mut hostile = sample.clone();
                    hostile[at..at + count.len()].copy_from_slice(count);
                    let (_, peak) = meter::peak_bytes(|| run(&hostile));
                    assert!(peak <= MEMORY.bytes + MEMORY.per_byte * hostile.len(), "{peak}: {hostile:02x?}");
                }
            }
        }
    };
    run_all(requests(), receive_request);
    run_all(responses(), receive_response);
}
