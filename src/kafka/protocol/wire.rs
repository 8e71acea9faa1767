//! The primitives of the Kafka protocol: a reader that borrows, a writer that appends.
//!
//! Everything that a peer sends goes through [`Reader`]. It hands out slices of the received bytes and
//! never allocates; a length is believed only when the bytes for it are there, and memory for elements of
//! arrays is granted in proportion to the bytes received.
//!
//! Integers are big-endian. A *flexible* message uses compact forms: the length of a string, of bytes
//! or of an array is an unsigned varint of length + 1, where 0 is null. The classic forms use an i16
//! (strings) or i32 (bytes, arrays), where -1 is null.

use bytes::Bytes;
use thiserror::Error;
use uuid::Uuid;

/// The protocol's limit of a string in either form. A string that was read can be written in any version.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// What the elements of arrays may take in memory, for each byte received: 16 times as much.
///
/// The densest of real messages (three-letter group ids, of which all topics are asked for) take less. The
/// worst that could be sent would take 32 times as much.
const HEAP_BYTES_PER_BYTE: usize = 16;

/// Granted besides, so that nothing small is ever refused.
const HEAP_BYTES_FREE: usize = 4096;

/// The elements of one message never take more than this, a million partitions of a Produce: what is made
/// of each while it is answered takes several times as much again.
const HEAP_BYTES_MAX: usize = 32 << 20;

/// Why bytes of a peer are no message. Always the peer's mistake: it costs the peer its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("{needed} bytes needed where {left} are left")]
    Truncated { needed: usize, left: usize },
    #[error("length {0} is negative")]
    NegativeLength(i32),
    #[error("null where a value must be")]
    UnexpectedNull,
    #[error("string of {0} bytes is longer than {STRING_BYTES_MAX}")]
    StringTooLong(usize),
    #[error("string is not UTF-8")]
    InvalidUtf8,
    #[error("varint does not fit its type")]
    VarintTooLong,
    /// Even the smallest elements would take more bytes than there are, or would be too many in memory.
    #[error("array of {count} elements is too much for {left} bytes")]
    CountBeyondBytes { count: usize, left: usize },
    #[error("{0} bytes follow the value")]
    TrailingBytes(usize),
    #[error("api key {0} is unknown")]
    UnknownApi(i16),
    #[error("{api:?} has no version {version}")]
    UnsupportedVersion { api: super::ApiKey, version: i16 },
}

/// Why a message cannot be written: the protocol has no room for what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    #[error("a name or value of {0} bytes: the protocol has room for {STRING_BYTES_MAX}")]
    StringTooLong(usize),
    #[error("a message of {0} bytes or more: the protocol has room for 2 GiB")]
    TooLarge(usize),
}

/// Reads primitives off the front of received bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    heap_bytes_left: usize,
}

macro_rules! read_int {
    ($($name:ident -> $int:ty;)*) => {$(
        #[inline]
        pub fn $name(&mut self) -> Result<$int, DecodeError> {
            Ok(<$int>::from_be_bytes(self.array()?))
        }
    )*};
}

impl<'a> Reader<'a> {
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        let granted = bytes.len().saturating_mul(HEAP_BYTES_PER_BYTE).saturating_add(HEAP_BYTES_FREE);
        Self { rest: bytes, heap_bytes_left: granted.min(HEAP_BYTES_MAX) }
    }

    /// Bytes not yet read.
    #[inline]
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Succeeds when everything was read.
    #[inline]
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes(self.left())) }
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(DecodeError::Truncated { needed: count, left: self.left() });
        };
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated { needed: N, left: self.left() });
        };
        self.rest = rest;
        Ok(*taken)
    }

    read_int! {
        i8 -> i8;
        u8 -> u8;
        i16 -> i16;
        u16 -> u16;
        i32 -> i32;
        u32 -> u32;
        i64 -> i64;
        f64 -> f64;
    }

    /// Any byte but 0 is true.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.u8()? != 0)
    }

    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        // Nearly all are lengths below 127.
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(u32::from(byte));
        }
        u32::try_from(self.base128(5)?).map_err(|_| DecodeError::VarintTooLong)
    }

    /// A zigzag varint of 32 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        let raw = self.unsigned_varint()?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A zigzag varint of 64 bits.
    #[inline]
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        let raw = u64::try_from(self.base128(10)?).map_err(|_| DecodeError::VarintTooLong)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// Groups of seven bits, the least significant first, in at most `bytes_max` bytes.
    fn base128(&mut self, bytes_max: u32) -> Result<u128, DecodeError> {
        let mut value = 0;
        for index in 0..bytes_max {
            let byte = self.u8()?;
            value |= u128::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    #[inline]
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok((self.unsigned_varint()? as usize).checked_sub(1))
    }

    /// Length of bytes or count of an array; `None` is null.
    #[inline]
    pub fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return self.compact_length();
        }
        match self.i32()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| DecodeError::NegativeLength(length)),
        }
    }

    #[inline]
    fn string_length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return match self.compact_length()? {
                Some(length) if length > STRING_BYTES_MAX => Err(DecodeError::StringTooLong(length)),
                length => Ok(length),
            };
        }
        match self.i16()? {
            -1 => Ok(None),
            length => {
                usize::try_from(length).map(Some).map_err(|_| DecodeError::NegativeLength(length.into()))
            }
        }
    }

    #[inline]
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<&'a str>, DecodeError> {
        let Some(length) = self.string_length(flexible)? else { return Ok(None) };
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| DecodeError::InvalidUtf8)
    }

    #[inline]
    pub fn string(&mut self, flexible: bool) -> Result<&'a str, DecodeError> {
        self.nullable_string(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    #[inline]
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, DecodeError> {
        self.length(flexible)?.map(|length| self.take(length)).transpose()
    }

    #[inline]
    pub fn bytes(&mut self, flexible: bool) -> Result<&'a [u8], DecodeError> {
        self.nullable_bytes(flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    /// The count of an array of `T`, whose elements take `element_bytes_min` of the bytes at least; `None`
    /// is null. The caller may reserve room for them.
    ///
    /// An element that takes no bytes counts as one: no message has such.
    #[inline]
    pub fn count<T>(
        &mut self,
        flexible: bool,
        element_bytes_min: usize,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.length(flexible)? else { return Ok(None) };
        let refused = DecodeError::CountBeyondBytes { count, left: self.left() };
        if count > self.left() / element_bytes_min.max(1) {
            return Err(refused);
        }
        if count > 1 {
            // A single element is kept inline, in its parent.
            let heap_bytes = count.saturating_mul(size_of::<T>());
            self.heap_bytes_left = self.heap_bytes_left.checked_sub(heap_bytes).ok_or(refused)?;
        }
        Ok(Some(count))
    }

    /// Reads the tagged fields that end every struct of a flexible message.
    ///
    /// `field` gets the tag and a reader of that field's bytes alone. It reads all of a field that it
    /// knows and returns true, or returns false: fields from the future are skipped.
    #[inline]
    pub fn tagged_fields(
        &mut self,
        mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        // The count is no promise: the loop ends with the bytes, as each field takes two at least.
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()?;
            let mut value = Reader { rest: self.take(size as usize)?, ..*self };
            if field(tag, &mut value)? {
                value.finish()?;
            }
            self.heap_bytes_left = value.heap_bytes_left;
        }
        Ok(())
    }
}

/// A slice that belongs between the bytes of a [`Writer`] but is not copied there.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// How many of the written bytes go out before it.
    pub position: usize,
    pub bytes: Bytes,
}

/// Appends primitives to a buffer.
///
/// Whatever a [`Reader`] returned can be written. A length that the protocol cannot express is remembered
/// instead, and the message is then none: [`Writer::check`], which ends every frame.
#[derive(Debug)]
pub struct Writer<'b> {
    out: &'b mut Vec<u8>,
    gathered: Option<&'b mut Vec<Gathered>>,
    failed: Option<EncodeError>,
}

macro_rules! write_int {
    ($($name:ident($int:ty);)*) => {$(
        #[inline]
        pub fn $name(&mut self, value: $int) {
            self.out.extend_from_slice(&value.to_be_bytes());
        }
    )*};
}

impl<'b> Writer<'b> {
    /// Appends to `out`, shared slices included.
    #[inline]
    pub fn new(out: &'b mut Vec<u8>) -> Self {
        Self { out, gathered: None, failed: None }
    }

    /// Appends to `out` everything but shared slices, whose places are noted in `gathered`.
    #[inline]
    pub fn gathering(out: &'b mut Vec<u8>, gathered: &'b mut Vec<Gathered>) -> Self {
        Self { out, gathered: Some(gathered), failed: None }
    }

    /// Index in the buffer of the byte that is written next: where to patch it later.
    #[inline]
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Whether all that was written so far could be.
    #[inline]
    pub fn check(&self) -> Result<(), EncodeError> {
        self.failed.map_or(Ok(()), Err)
    }

    #[cold]
    fn fail(&mut self, error: EncodeError) {
        self.failed.get_or_insert(error);
    }

    /// Overwrites an i32 that was written before.
    #[inline]
    pub fn patch_i32(&mut self, position: usize, value: i32) {
        self.out[position..position + 4].copy_from_slice(&value.to_be_bytes());
    }

    write_int! {
        i8(i8);
        u8(u8);
        i16(i16);
        u16(u16);
        i32(i32);
        u32(u32);
        i64(i64);
        f64(f64);
    }

    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.out.extend_from_slice(value.as_bytes());
    }

    #[inline]
    pub fn unsigned_varint(&mut self, value: u32) {
        self.base128(u64::from(value));
    }

    /// A zigzag varint of 32 bits.
    #[inline]
    pub fn varint(&mut self, value: i32) {
        self.base128(u64::from((value << 1 ^ value >> 31) as u32));
    }

    /// A zigzag varint of 64 bits.
    #[inline]
    pub fn varlong(&mut self, value: i64) {
        self.base128((value << 1 ^ value >> 63) as u64);
    }

    #[inline]
    fn base128(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    /// Length of bytes or count of an array; `None` is null.
    #[inline]
    pub fn length(&mut self, length: Option<usize>, flexible: bool) {
        // i32::MAX in both forms: the receiver's integers are signed.
        let length = length.map(|length| {
            i32::try_from(length).unwrap_or_else(|_| {
                self.fail(EncodeError::TooLarge(length));
                0
            })
        });
        match (length, flexible) {
            (Some(length), true) => self.unsigned_varint(length as u32 + 1),
            (Some(length), false) => self.i32(length),
            (None, true) => self.u8(0),
            (None, false) => self.i32(-1),
        }
    }

    #[inline]
    pub fn string(&mut self, value: &str, flexible: bool) {
        if value.len() > STRING_BYTES_MAX {
            return self.fail(EncodeError::StringTooLong(value.len()));
        }
        if flexible {
            self.unsigned_varint(value.len() as u32 + 1);
        } else {
            self.i16(value.len() as i16);
        }
        self.out.extend_from_slice(value.as_bytes());
    }

    #[inline]
    pub fn nullable_string(&mut self, value: Option<&str>, flexible: bool) {
        match value {
            Some(value) => self.string(value, flexible),
            None if flexible => self.u8(0),
            None => self.i16(-1),
        }
    }

    #[inline]
    pub fn nullable_bytes(&mut self, value: Option<&[u8]>, flexible: bool) {
        self.length(value.map(<[u8]>::len), flexible);
        self.out.extend_from_slice(value.unwrap_or_default());
    }

    #[inline]
    pub fn bytes(&mut self, value: &[u8], flexible: bool) {
        self.nullable_bytes(Some(value), flexible);
    }

    /// Bytes without a length, copied or noted, as the writer was made.
    pub fn shared(&mut self, bytes: &Bytes) {
        match &mut self.gathered {
            Some(gathered) => {
                gathered.push(Gathered { position: self.out.len(), bytes: bytes.clone() });
            }
            None => self.out.extend_from_slice(bytes),
        }
    }

    /// Bytes of all slices that were noted instead of copied.
    pub fn shared_bytes(&self) -> usize {
        self.gathered.iter().flat_map(|gathered| gathered.iter()).map(|slice| slice.bytes.len()).sum()
    }

    /// A tagged field. The caller has written the count of them.
    pub fn tagged_field(&mut self, tag: u32, value: impl FnOnce(&mut Writer<'_>)) {
        self.unsigned_varint(tag);
        // The size comes first and is known last. Tagged fields are rare and small: encode aside.
        let mut bytes = Vec::new();
        let mut aside = Writer::new(&mut bytes);
        value(&mut aside);
        if let Err(error) = aside.check() {
            self.fail(error);
        }
        let Ok(size) = u32::try_from(bytes.len()) else {
            return self.fail(EncodeError::TooLarge(bytes.len()));
        };
        self.unsigned_varint(size);
        self.out.extend_from_slice(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut Writer::new(&mut bytes));
        bytes
    }

    #[test]
    fn varints_are_zigzag_base_128() {
        let table: [(i64, &[u8]); 8] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (64, &[0x80, 0x01]),
            (-65, &[0x81, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in table {
            assert_eq!(written(|w| w.varlong(value)), bytes, "{value}");
            assert_eq!(written(|w| w.varint(value as i32)), bytes, "{value}");
            assert_eq!(Reader::new(bytes).varlong(), Ok(value));
            assert_eq!(Reader::new(bytes).varint(), Ok(value as i32));
        }
        for value in [i64::MIN, i64::MAX] {
            let bytes = written(|w| w.varlong(value));
            assert_eq!(bytes.len(), 10);
            assert_eq!(Reader::new(&bytes).varlong(), Ok(value));
        }
    }

    #[test]
    fn a_varint_beyond_its_type_is_refused() {
        use DecodeError::VarintTooLong;
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).unsigned_varint(), Ok(u32::MAX));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).unsigned_varint(), Err(VarintTooLong));
        assert_eq!(Reader::new(&[0x80; 16]).unsigned_varint(), Err(VarintTooLong));
        assert_eq!(Reader::new(&[0x80; 16]).varlong(), Err(VarintTooLong));
        let bit_64 = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(Reader::new(&bit_64).varlong(), Err(VarintTooLong));
        assert_eq!(
            Reader::new(&[0x80]).unsigned_varint(),
            Err(DecodeError::Truncated { needed: 1, left: 0 })
        );
    }

    #[test]
    fn strings_and_bytes_have_a_classic_and_a_compact_form() {
        let table: [(Option<&str>, &[u8], &[u8]); 3] = [
            (None, &[0xff, 0xff], &[0]),
            (Some(""), &[0, 0], &[1]),
            (Some("ab"), &[0, 2, b'a', b'b'], &[3, b'a', b'b']),
        ];
        for (value, classic, compact) in table {
            for (bytes, flexible) in [(classic, false), (compact, true)] {
                assert_eq!(written(|w| w.nullable_string(value, flexible)), bytes);
                assert_eq!(Reader::new(bytes).nullable_string(flexible), Ok(value));
                assert_eq!(
                    Reader::new(bytes).string(flexible),
                    value.ok_or(DecodeError::UnexpectedNull),
                    "flexible {flexible}"
                );
            }
        }
        assert_eq!(written(|w| w.bytes(b"a", false)), [0, 0, 0, 1, b'a']);
        assert_eq!(written(|w| w.bytes(b"a", true)), [2, b'a']);
        assert_eq!(Reader::new(&[0xff; 4]).nullable_bytes(false), Ok(None));
        assert_eq!(Reader::new(&[0xff; 4]).bytes(false), Err(DecodeError::UnexpectedNull));
    }

    #[test]
    fn what_the_protocol_has_no_room_for_is_an_error() {
        let longest = "x".repeat(STRING_BYTES_MAX);
        let too_long = "x".repeat(STRING_BYTES_MAX + 1);
        let error = Err(EncodeError::StringTooLong(STRING_BYTES_MAX + 1));
        for flexible in [false, true] {
            let mut bytes = Vec::new();
            let mut writer = Writer::new(&mut bytes);
            writer.string(&longest, flexible);
            assert_eq!(writer.check(), Ok(()));
            writer.tagged_field(0, |writer| writer.string(&too_long, flexible));
            assert_eq!(writer.check(), error);
            writer.length(Some(usize::MAX), flexible);
            assert_eq!(writer.check(), error, "the first one is told");
        }
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        writer.length(Some(1 << 31), true);
        assert_eq!(writer.check(), Err(EncodeError::TooLarge(1 << 31)));
    }

    #[test]
    fn a_length_is_believed_only_with_its_bytes() {
        use DecodeError::*;
        assert_eq!(Reader::new(&[0x80, 0, 0, 0]).bytes(false), Err(NegativeLength(i32::MIN)));
        assert_eq!(Reader::new(&[0xff, 0xfe]).string(false), Err(NegativeLength(-2)));
        assert_eq!(
            Reader::new(&[0x7f, 0xff, 0xff, 0xff, 9]).bytes(false),
            Err(Truncated { needed: i32::MAX as usize, left: 1 })
        );
        assert_eq!(Reader::new(&[0xff, 0xff, 3]).string(true), Err(StringTooLong(0xfffe)));
        assert_eq!(Reader::new(&[0, 1, 0xff]).string(false), Err(InvalidUtf8));
    }

    #[test]
    fn a_count_is_believed_only_with_the_bytes_of_its_elements() {
        let refused = |count, left| Err(DecodeError::CountBeyondBytes { count, left });
        let max = [0x7f, 0xff, 0xff, 0xff, 9];
        assert_eq!(Reader::new(&max).count::<u8>(false, 1), refused(i32::MAX as usize, 1));
        assert_eq!(Reader::new(&[0, 0, 0, 2, 9, 9, 9]).count::<u16>(false, 2), refused(2, 3));
        assert_eq!(Reader::new(&[0, 0, 0, 2, 9]).count::<()>(false, 0), refused(2, 1));
        assert_eq!(Reader::new(&[0, 0, 0, 2, 9, 9]).count::<u8>(false, 1), Ok(Some(2)));
        assert_eq!(Reader::new(&[0, 0, 0, 0]).count::<u8>(false, 1), Ok(Some(0)));
    }

    #[test]
    fn elements_get_memory_in_proportion_to_the_bytes() {
        type Large = [u8; 64];
        // Twice an array of 1000, among 2008 bytes: 4096 + 16 * 2008 bytes are granted, 64 * 1000 needed.
        let mut bytes = vec![0; 2008];
        bytes[..4].copy_from_slice(&1000_i32.to_be_bytes());
        let refused = DecodeError::CountBeyondBytes { count: 1000, left: 2004 };
        assert_eq!(Reader::new(&bytes).count::<Large>(false, 1), Err(refused));
        assert_eq!(Reader::new(&bytes).count::<[u8; 32]>(false, 1), Ok(Some(1000)));
        let mut many = vec![0; 3 << 20];
        many[..4].copy_from_slice(&(2_i32 << 20).to_be_bytes());
        assert_eq!(Reader::new(&many).count::<[u8; 16]>(false, 1), Ok(Some(2 << 20)));
        assert!(Reader::new(&many).count::<[u8; 17]>(false, 1).is_err());
        // What one array took, also inside a tagged field, the next does not get.
        let mut tagged = vec![1, 0, 0xd8, 0x0f];
        tagged.extend_from_slice(&bytes);
        let mut reader = Reader::new(&tagged);
        reader
            .tagged_fields(|_, value| {
                assert_eq!(value.count::<[u8; 32]>(false, 1), Ok(Some(1000)));
                value.take(2004).map(|_| true)
            })
            .expect("well-formed");
        assert!(reader.heap_bytes_left < 8192);
    }

    #[test]
    fn tagged_fields_are_read_by_size() {
        let bytes = [3, 7, 2, 0xaa, 0xbb, 0, 1, 5, 9, 0];
        let mut seen = Vec::new();
        let mut reader = Reader::new(&bytes);
        reader
            .tagged_fields(|tag, value| match tag {
                0 => value.u8().map(|value| seen.push(value)).map(|()| true),
                _ => Ok(false),
            })
            .expect("well-formed");
        assert_eq!(seen, [5]);
        reader.finish().expect("all read");
        // A known field that is longer than its type, and a count without fields.
        let too_long = Reader::new(&[1, 0, 2, 5, 6]).tagged_fields(|_, value| value.u8().map(|_| true));
        assert_eq!(too_long, Err(DecodeError::TrailingBytes(1)));
        let endless = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        let endless = Reader::new(&endless).tagged_fields(|_, _| Ok(false));
        assert_eq!(endless, Err(DecodeError::Truncated { needed: 1, left: 0 }));
        let tagged = written(|w| w.tagged_field(3, |w| w.i16(1)));
        assert_eq!(tagged, [3, 2, 0, 1]);
    }
}
