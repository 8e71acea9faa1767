//! Which record of a batch has a timestamp, found step by step: a batch may inflate to more than a turn of
//! a shard has time for.
//!
//! Only the front of each record is looked at, so that little is held of what comes out, however much it
//! is; of snappy, a block. What lies behind a front is skipped unread.

use std::io::Read;

use bytes::Bytes;

use super::compression::{Compression, CompressionError};
use super::record_batch::RecordBatch;
use super::records::RecordError;
use super::varint::{self, VARINT_BYTES_MAX, VARLONG_BYTES_MAX};
use crate::model::Offset;

/// So much is inflated at a time.
const WINDOW_BYTES: usize = 16 << 10;
/// What a record begins with: its length, attributes, timestamp and offset.
const FRONT_BYTES_MAX: usize = VARINT_BYTES_MAX + 1 + VARLONG_BYTES_MAX + VARINT_BYTES_MAX;

/// The record that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first at this time or a later one.
    AtOrAfter(i64),
    /// The first of those with the greatest timestamp.
    Newest,
}

/// A record's offset and timestamp; `None` where none fits.
pub type Found = Option<(Offset, i64)>;

/// A search among a batch's records, under way.
pub struct TimeScan {
    wanted: Wanted,
    from: Offset,
    base_offset: Offset,
    last_offset_delta: u32,
    record_count: u32,
    base_timestamp: i64,
    /// Every record has this one.
    log_append_time: Option<i64>,
    codec: Compression,
    /// What the records inflate to.
    input: Box<dyn Read + Send>,
    input_ended: bool,
    /// More than this is not inflated.
    inflated_bytes_max: usize,
    inflated_bytes: usize,
    /// Of what was inflated, `at..end` is not looked at yet.
    window: Box<[u8]>,
    at: usize,
    end: usize,
    /// What the record before this one has behind its front.
    skip: usize,
    index: u32,
    best: Found,
}

impl TimeScan {
    /// Search a batch, which is all of `bytes`, for a record of offset `from` or beyond.
    pub fn new(
        batch: RecordBatch<'_>,
        bytes: &Bytes,
        from: Offset,
        wanted: Wanted,
        inflated_bytes_max: usize,
    ) -> Result<TimeScan, RecordError> {
        let codec = batch.compression();
        let inflated_bytes_max = match codec {
            Compression::None => batch.payload().len(),
            _ => inflated_bytes_max,
        };
        Ok(TimeScan {
            wanted,
            from,
            base_offset: batch.base_offset(),
            last_offset_delta: batch.last_offset_delta(),
            record_count: batch.record_count(),
            base_timestamp: batch.base_timestamp(),
            log_append_time: batch.is_log_append_time().then(|| batch.max_timestamp()),
            codec,
            input: codec.reader(bytes.slice_ref(batch.payload()), inflated_bytes_max)?,
            input_ended: false,
            inflated_bytes_max,
            inflated_bytes: 0,
            window: vec![0; WINDOW_BYTES].into(),
            at: 0,
            end: 0,
            skip: 0,
            index: 0,
            best: None,
        })
    }

    /// Go on until the record is found, or about as many bytes are inflated as `bytes_left` says, which
    /// becomes less by them. `None`: there is more to do.
    pub fn step(&mut self, bytes_left: &mut usize) -> Option<Result<Found, RecordError>> {
        while self.index < self.record_count {
            let skipped = self.skip.min(self.end - self.at);
            self.at += skipped;
            self.skip -= skipped;
            let whole_front = self.input_ended || self.end - self.at >= FRONT_BYTES_MAX;
            if self.skip == 0 && whole_front {
                match self.take_front() {
                    Ok((offset, timestamp)) if self.is_it(offset, timestamp) => {
                        return Some(Ok(Some((offset, timestamp))));
                    }
                    Ok(_) => {}
                    Err(error) => return Some(Err(error)),
                }
            } else if self.input_ended {
                return Some(Err(self.malformed()));
            } else if *bytes_left == 0 {
                return None;
            } else if let Err(error) = self.inflate(bytes_left) {
                return Some(Err(error));
            }
        }
        Some(Ok(self.best))
    }

    /// Whether the search ends with this record.
    fn is_it(&mut self, offset: Offset, timestamp: i64) -> bool {
        if offset < self.from {
            return false;
        }
        match self.wanted {
            Wanted::AtOrAfter(wanted) => timestamp >= wanted,
            Wanted::Newest => {
                if self.best.is_none_or(|(_, best)| timestamp > best) {
                    self.best = Some((offset, timestamp));
                }
                false
            }
        }
    }

    /// The next record's offset and timestamp.
    fn take_front(&mut self) -> Result<(Offset, i64), RecordError> {
        let (index, last) = (self.index, self.last_offset_delta);
        let front = Front::take(&self.window[self.at..self.end]).ok_or(self.malformed())?;
        let offset_delta = u32::try_from(front.offset_delta)
            .ok()
            .filter(|delta| *delta <= last)
            .ok_or(RecordError::OutsideBatch { index, offset_delta: front.offset_delta, last })?;
        let timestamp = match self.log_append_time {
            Some(timestamp) => timestamp,
            None => self.base_timestamp.checked_add(front.timestamp_delta).ok_or(self.malformed())?,
        };
        self.at += front.bytes;
        self.skip = front.behind_bytes;
        self.index += 1;
        Ok((self.base_offset.plus(offset_delta), timestamp))
    }

    fn inflate(&mut self, bytes_left: &mut usize) -> Result<(), RecordError> {
        self.window.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        let malformed = |cause| CompressionError::Malformed { codec: self.codec, cause };
        let bytes = self.input.read(&mut self.window[self.end..]).map_err(malformed)?;
        self.input_ended = bytes == 0;
        self.end += bytes;
        self.inflated_bytes += bytes;
        *bytes_left = bytes_left.saturating_sub(bytes);
        if self.inflated_bytes > self.inflated_bytes_max {
            return Err(CompressionError::TooLarge { bytes_max: self.inflated_bytes_max }.into());
        }
        Ok(())
    }

    fn malformed(&self) -> RecordError {
        RecordError::Malformed { index: self.index }
    }
}

/// What a record begins with.
struct Front {
    timestamp_delta: i64,
    offset_delta: i32,
    bytes: usize,
    /// Of the record, so many follow.
    behind_bytes: usize,
}

impl Front {
    /// `None` when it is malformed.
    fn take(bytes: &[u8]) -> Option<Front> {
        let mut rest = bytes;
        let length = usize::try_from(varint::take_i32(&mut rest)?).ok()?;
        let body_bytes = rest.len();
        let _attributes = rest.split_off_first()?;
        let timestamp_delta = varint::take_i64(&mut rest)?;
        let offset_delta = varint::take_i32(&mut rest)?;
        let behind_bytes = length.checked_sub(body_bytes - rest.len())?;
        Some(Front { timestamp_delta, offset_delta, bytes: bytes.len() - rest.len(), behind_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::batch_builder::BatchBuilder;
    use crate::codec::record_batch::{HEADER_BYTES, patch_base_offset, patch_log_append_time};
    use crate::codec::records::InflatedBatch;
    use crate::model::WallMs;
    use proptest::prelude::*;

    const BYTES_MAX: usize = 1 << 20;

    fn build(codec: Compression, timestamps: &[i64], value: &[u8]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for timestamp in timestamps {
            builder.push(*timestamp, None, Some(value), &[]);
        }
        let mut bytes = builder.finish();
        patch_base_offset(&mut bytes, Offset(100));
        bytes
    }

    fn begin(bytes: &[u8], from: i64, wanted: Wanted) -> Result<TimeScan, RecordError> {
        let bytes = Bytes::copy_from_slice(bytes);
        let batch = RecordBatch::parse(&bytes).expect("a sound header");
        TimeScan::new(batch, &bytes, Offset(from), wanted, BYTES_MAX)
    }

    fn scan(bytes: &[u8], from: i64, wanted: Wanted) -> Result<Found, RecordError> {
        begin(bytes, from, wanted)?.step(&mut { usize::MAX }).expect("it is not held up")
    }

    #[test]
    fn finds_records_by_timestamp() {
        for codec in Compression::ALL {
            let bytes = build(codec, &[50, 40, 70, 60, 70], b"value");
            let from = |offset, timestamp| scan(&bytes, offset, Wanted::AtOrAfter(timestamp)).unwrap();
            assert_eq!(from(100, 0), Some((Offset(100), 50)));
            assert_eq!(from(100, 51), Some((Offset(102), 70)));
            assert_eq!(from(100, 70), Some((Offset(102), 70)));
            assert_eq!(from(100, 71), None);
            assert_eq!(from(103, 51), Some((Offset(103), 60)), "what lies before was deleted");
            let newest = |from| scan(&bytes, from, Wanted::Newest).expect("readable");
            assert_eq!(newest(100), Some((Offset(102), 70)), "the first of the two");
            assert_eq!(newest(103), Some((Offset(104), 70)), "what lies before was deleted");
            assert_eq!(newest(105), None);
        }
    }

    #[test]
    fn log_append_time_is_every_records_time() {
        let mut bytes = build(Compression::None, &[50, 40, 70], b"value");
        patch_log_append_time(&mut bytes, WallMs(1000));
        let at = |timestamp| scan(&bytes, 0, Wanted::AtOrAfter(timestamp)).expect("readable");
        assert_eq!((at(60), at(1001)), (Some((Offset(100), 1000)), None));
    }

    #[test]
    fn each_step_inflates_what_it_may() {
        let value = vec![7; 300 << 10];
        for codec in Compression::ALL {
            let bytes = build(codec, &[1, 2, 3], &value);
            let mut scan = begin(&bytes, 0, Wanted::AtOrAfter(3)).expect("readable");
            let mut steps = 1;
            let found = loop {
                let mut left = WINDOW_BYTES;
                if let Some(found) = scan.step(&mut left) {
                    break found.expect("readable");
                }
                steps += 1;
                assert!(scan.inflated_bytes <= 2 * steps * WINDOW_BYTES, "{codec:?}");
            };
            assert_eq!(found, Some((Offset(102), 3)), "{codec:?}");
            assert!(steps > 600 / 32, "{codec:?}: {steps}");
            assert!(scan.inflated_bytes < 700 << 10, "{codec:?}: what lies behind it is left alone");
        }
    }

    #[test]
    fn what_lies_behind_the_record_that_is_found_is_not_looked_at() {
        let noise: Vec<u8> =
            (0..300u32 << 10).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for codec in Compression::ALL {
            let mut bytes = build(codec, &[1, 2, 3], &noise);
            let end = bytes.len();
            bytes[end - 10..].fill(0xff);
            let found = scan(&bytes, 0, Wanted::AtOrAfter(1)).expect("readable so far");
            assert_eq!(found, Some((Offset(100), 1)), "{codec:?}");
        }
    }

    #[test]
    fn what_does_not_inflate_or_to_too_much_is_an_error() {
        let too_large = vec![7; BYTES_MAX];
        for codec in Compression::ALL {
            let large = build(codec, &[1, 2], &too_large);
            let found = scan(&large, 0, Wanted::AtOrAfter(2));
            assert_eq!(found.is_err(), codec != Compression::None, "{codec:?}");
            let mut damaged = build(codec, &[1, 2], b"value");
            damaged[HEADER_BYTES..].fill(0xff);
            assert!(scan(&damaged, 0, Wanted::Newest).is_err(), "{codec:?}");
        }
    }

    proptest! {
        /// Where the batch can be read in full, both ways of reading it agree.
        #[test]
        fn it_finds_what_whole_records_say(
            codec in prop::sample::select(&Compression::ALL[..]),
            timestamps in prop::collection::vec(0i64..50, 1..60),
            value_bytes in 0usize..3000,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            from in 95i64..130,
            timestamp in -5i64..55,
            step_bytes in 1usize..100_000,
        ) {
            let mut bytes = build(codec, &timestamps, &vec![1; value_bytes]);
            for (at, byte) in damage {
                let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
                bytes[at] = byte;
            }
            let batch = RecordBatch::parse(&bytes).expect("its header is sound");
            let records = InflatedBatch::open(batch, BYTES_MAX)
                .and_then(|batch| batch.records().map(|record| record.map(|r| (r.offset, r.timestamp))).collect());
            let records: Result<Vec<(Offset, i64)>, RecordError> = records;
            for wanted in [Wanted::AtOrAfter(timestamp), Wanted::Newest] {
                let found = begin(&bytes, from, wanted).and_then(|mut scan| loop {
                    if let Some(found) = scan.step(&mut { step_bytes }) {
                        break found;
                    }
                });
                let Ok(records) = &records else { continue };
                let mut those = records.iter().filter(|(offset, _)| *offset >= Offset(from)).copied();
                let expected = match wanted {
                    Wanted::AtOrAfter(timestamp) => those.find(|(_, other)| *other >= timestamp),
                    Wanted::Newest => those.reduce(|best, next| if next.1 > best.1 { next } else { best }),
                };
                prop_assert_eq!(found.expect("all of it is readable"), expected);
            }
        }
    }
}
