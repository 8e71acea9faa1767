//! Record batches, the records in them, and the four codecs.

use bytes::Bytes;
use ringmq::codec::batch_builder::BatchBuilder;
use ringmq::codec::compression::Compression;
use ringmq::codec::record_batch::{
    Batches, HEADER_BYTES, LENGTH_PREFIX_BYTES, ProduceRules, ProducerStamp, RecordBatch,
};
use ringmq::codec::records::InflatedBatch;
use ringmq::codec::time_scan::{Found, TimeScan, Wanted};
use ringmq::model::{Offset, ProducerId, WallMs};

use crate::harness::{Memory, SMALL, Target, no_fix};
use crate::random::Random;

/// What a batch may inflate to here.
const INFLATED_BYTES_MAX: usize = 64 << 10;
/// The result, which doubles as it grows, and the decoder's own tables and windows. Of LZ4 those are
/// two of the largest blocks that a frame can name, 4 MiB each.
const INFLATING: Memory = Memory { per_byte: 64, bytes: 1 << 20 };
const INFLATING_LZ4: Memory = Memory { per_byte: 64, bytes: 16 << 20 };

/// Batches one behind the other, as a fetch returns them.
pub const BATCHES: Target = Target {
    run: read_batches,
    seeds: batches,
    fix: |bytes| fix_first_batch(bytes),
    memory: INFLATING_LZ4,
    mutants_per_second: 20_000,
};

/// A codec (u8), a count (u8), and records that are then packed into a sound batch: damage behind the
/// compression.
pub const RECORDS: Target = Target {
    run: |bytes| pack(bytes).is_some_and(|batch| read_batches(&batch)),
    seeds: plain_records,
    fix: no_fix,
    memory: INFLATING_LZ4,
    mutants_per_second: 10_000,
};

pub const GZIP: Target =
    codec(|bytes| inflate(Compression::Gzip, bytes), || packed(Compression::Gzip), INFLATING);
pub const LZ4: Target =
    codec(|bytes| inflate(Compression::Lz4, bytes), || packed(Compression::Lz4), INFLATING_LZ4);
pub const ZSTD: Target =
    codec(|bytes| inflate(Compression::Zstd, bytes), || packed(Compression::Zstd), INFLATING);
/// Raw and in snappy-java's frames.
pub const SNAPPY: Target = codec(
    |bytes| inflate(Compression::Snappy, bytes),
    || {
        let mut seeds = packed(Compression::Snappy);
        let raw = |text: Vec<u8>| snap::raw::Encoder::new().compress_vec(&text).expect("compresses");
        seeds.extend(texts().into_iter().map(raw));
        seeds
    },
    SMALL_INFLATING,
);
const SMALL_INFLATING: Memory = Memory { per_byte: 64, bytes: 512 << 10 };

const fn codec(run: fn(&[u8]) -> bool, seeds: fn() -> Vec<Vec<u8>>, memory: Memory) -> Target {
    Target { run, seeds, fix: no_fix, memory, mutants_per_second: 10_000 }
}

fn inflate(codec: Compression, bytes: &[u8]) -> bool {
    let Ok(inflated) = codec.inflate(bytes, INFLATED_BYTES_MAX) else { return false };
    assert!(inflated.len() <= INFLATED_BYTES_MAX);
    true
}

fn texts() -> Vec<Vec<u8>> {
    let mut random = Random::new(5);
    let noise = (0..300).map(|_| random.next() as u8).collect();
    vec![Vec::new(), b"to be, or not to be, ".repeat(9), noise, vec![0; INFLATED_BYTES_MAX]]
}

fn packed(codec: Compression) -> Vec<Vec<u8>> {
    texts().into_iter().map(|text| codec.deflate(&text)).collect()
}

/// Everything that the broker and its tools ask of a batch, of each that is found.
fn read_batches(bytes: &[u8]) -> bool {
    let mut batches = Batches::new(bytes);
    let sound = batches.by_ref().map(|batch| batch.is_ok_and(read_batch)).collect::<Vec<bool>>();
    !sound.is_empty() && sound.into_iter().all(|sound| sound) && batches.remainder().is_empty()
}

fn read_batch(batch: RecordBatch<'_>) -> bool {
    const RULES: ProduceRules = ProduceRules {
        batch_bytes_max: 1 << 20,
        log_append_time: false,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        now: WallMs(1_700_000_000_000),
    };
    let crc = batch.verify_crc();
    // A refusal concerns the producer; the batch may be in the log for another reason.
    let _ = batch.validate_for_produce(&RULES);
    assert!(batch.end_offset() > batch.base_offset());
    let newest = find(batch, Wanted::Newest);
    let first = find(batch, Wanted::AtOrAfter(i64::MIN));
    let Ok(inflated) = InflatedBatch::open(batch, INFLATED_BYTES_MAX) else { return false };
    let mut count = 0;
    for record in inflated.records() {
        let Ok(record) = record else { return false };
        assert!((batch.base_offset()..batch.end_offset()).contains(&record.offset));
        assert_eq!(record.headers.len(), record.headers.count());
        count += 1;
    }
    assert_eq!(count, batch.record_count());
    for found in [newest, first] {
        assert_eq!(found.expect("all records can be read").is_some(), count > 0);
    }
    crc.is_ok()
}

/// In small steps. `None` where the batch cannot be read as far as the record.
fn find(batch: RecordBatch<'_>, wanted: Wanted) -> Option<Found> {
    let bytes = Bytes::copy_from_slice(batch.bytes());
    let batch = RecordBatch::parse(&bytes).expect("parsed before");
    let mut scan = TimeScan::new(batch, &bytes, Offset::ZERO, wanted, INFLATED_BYTES_MAX).ok()?;
    loop {
        if let Some(found) = scan.step(&mut { 1 }) {
            return found.ok();
        }
    }
}

fn builder(codec: Compression) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec);
    let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"v")), (b"h", None), (b"", Some(b""))];
    builder.push(1_700_000_000_000, Some(b"key"), Some(&b"value ".repeat(20)), headers);
    builder.push(1_700_000_000_007, None, None, &[]);
    builder.push(1_699_999_999_999, Some(b""), Some(b""), &headers[..1]);
    builder
}

fn batches() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = Compression::ALL.map(|codec| builder(codec).finish()).into();
    let stamp = ProducerStamp { id: ProducerId(4000), epoch: 3, base_sequence: i32::MAX };
    seeds.push(builder(Compression::None).producer(stamp).transactional().finish());
    seeds.push(seeds.concat());
    seeds
}

fn plain_records() -> Vec<Vec<u8>> {
    let batch = builder(Compression::None).finish();
    Compression::ALL.map(|codec| [&[codec as u8, 3], &batch[HEADER_BYTES..]].concat()).into()
}

// Fields of a batch's header, as the drawing in `codec::record_batch` places them.
const LENGTH_AT: usize = 8;
const CRC_AT: usize = 17;
const CRC_START: usize = 21;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const COUNT_AT: usize = 57;

fn fix_first_batch(bytes: &mut [u8]) {
    if bytes.len() >= HEADER_BYTES {
        seal(bytes);
    }
}

/// All of it becomes one batch.
fn seal(batch: &mut [u8]) {
    let length = (batch.len() - LENGTH_PREFIX_BYTES) as i32;
    batch[LENGTH_AT..][..4].copy_from_slice(&length.to_be_bytes());
    let crc = ringmq::base::crc::crc32c(&batch[CRC_START..]);
    batch[CRC_AT..][..4].copy_from_slice(&crc.to_be_bytes());
}

/// A sound header, and the records compressed behind it.
fn pack(bytes: &[u8]) -> Option<Vec<u8>> {
    let (&[codec, count], records) = bytes.split_first_chunk()?;
    let codec = Compression::from_code(codec)?;
    let mut batch = builder(Compression::None).finish();
    batch.truncate(HEADER_BYTES);
    batch[ATTRIBUTES_AT + 1] = codec as u8;
    batch[LAST_OFFSET_DELTA_AT..][..4].copy_from_slice(&i32::from(count).to_be_bytes());
    batch[COUNT_AT..][..4].copy_from_slice(&i32::from(count).to_be_bytes());
    batch.extend(codec.deflate(records));
    seal(&mut batch);
    Some(batch)
}

#[test]
fn small_inputs_are_cheap() {
    // A batch of a few bytes costs nothing, whatever it claims: the bounds above are for decoders.
    let batch = builder(Compression::None).finish();
    let (_, peak) = crate::meter::peak_bytes(|| read_batches(&batch));
    assert!(peak <= SMALL.bytes, "{peak}");
}
