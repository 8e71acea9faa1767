//! Zigzag varints: the numbers inside a record.
//!
//! Seven bits a byte, lowest first, the top bit set on all but the last; the sign is folded into
//! the lowest bit, so that small negative numbers stay short.

/// Longest encoding of an `i32`.
pub(super) const VARINT_BYTES_MAX: usize = 5;
/// Longest encoding of an `i64`.
pub(super) const VARLONG_BYTES_MAX: usize = 10;

/// Takes an `i32` from the front of `bytes`; `None` when it is cut off, longer than
/// [`VARINT_BYTES_MAX`] or does not fit.
#[inline]
pub(super) fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    let raw = take_raw(bytes, VARINT_BYTES_MAX)?;
    let raw = u32::try_from(raw).ok()?;
    Some((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// Takes an `i64` from the front of `bytes`; `None` when it is cut off, longer than
/// [`VARLONG_BYTES_MAX`] or does not fit.
#[inline]
pub(super) fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    let raw = take_raw(bytes, VARLONG_BYTES_MAX)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

#[inline]
fn take_raw(bytes: &mut &[u8], bytes_max: usize) -> Option<u64> {
    let mut value = 0u64;
    for index in 0..bytes_max.min(bytes.len()) {
        let byte = bytes[index];
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * index as u32;
        // Only the tenth byte of an i64 can overflow: it has room for one bit.
        if (bits << shift) >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

/// Appends `value`.
pub(super) fn put_i32(out: &mut Vec<u8>, value: i32) {
    put_i64(out, i64::from(value));
}

/// Appends `value`. An `i32` has the same encoding at either width.
pub(super) fn put_i64(out: &mut Vec<u8>, value: i64) {
    let mut raw = (value << 1) as u64 ^ (value >> 63) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_encodings() {
        let table: [(i64, &[u8]); 8] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ];
        for (value, bytes) in table {
            let mut out = Vec::new();
            put_i64(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(take_i64(&mut &out[..]), Some(value));
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let too_long = [0x80u8; 11];
        for bytes in [&[][..], &[0x80], &too_long, &[0xff, 0xff, 0xff, 0xff, 0x1f]] {
            assert_eq!(take_i32(&mut &bytes[..]), None, "{bytes:x?}");
        }
        let eleven_bits_too_many = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(take_i64(&mut &eleven_bits_too_many[..]), None);
    }

    proptest! {
        #[test]
        fn round_trip(value: i64, small: i32, tail: [u8; 3]) {
            let mut out = Vec::new();
            put_i64(&mut out, value);
            put_i32(&mut out, small);
            out.extend(tail);
            let mut rest = &out[..];
            prop_assert_eq!(take_i64(&mut rest), Some(value));
            prop_assert_eq!(take_i32(&mut rest), Some(small));
            prop_assert_eq!(rest, tail);
        }
    }
}
