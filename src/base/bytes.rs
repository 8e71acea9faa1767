//! Little-endian fields of our own stored formats: a reader that never panics, and a writer.

/// The bytes ended before the field did, or a count promised more than they can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data ends too early")]
pub struct Truncated;

/// Reads fields from the front of a slice.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

macro_rules! field {
    ($($name:ident $type:ty),*) => {
        $(
            #[inline]
            pub fn $name(&mut self) -> Result<$type, Truncated> {
                let (bytes, rest) = self.rest.split_first_chunk().ok_or(Truncated)?;
                self.rest = rest;
                Ok(<$type>::from_le_bytes(*bytes))
            }
        )*
    };
}

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { rest: bytes }
    }

    field!(u8 u8, u16 u16, u32 u32, u64 u64, i32 i32, i64 i64);

    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Truncated> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// A count of elements of at least `element_bytes` each: never more than the rest can hold, so
    /// that it may size an allocation.
    pub fn count(&mut self, element_bytes: usize) -> Result<usize, Truncated> {
        let count = self.u32()? as usize;
        if count > self.rest.len() / element_bytes.max(1) {
            return Err(Truncated);
        }
        Ok(count)
    }

    /// A string with a `u32` length in front; invalid UTF-8 counts as truncation of meaning.
    pub fn string(&mut self) -> Result<&'a str, Truncated> {
        let len = self.count(1)?;
        std::str::from_utf8(self.bytes(len)?).map_err(|_| Truncated)
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Appends a `u32` length and the string.
pub fn put_string(out: &mut Vec<u8>, string: &str) {
    out.extend_from_slice(&(string.len() as u32).to_le_bytes());
    out.extend_from_slice(string.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order_and_a_short_rest_is_an_error() {
        let mut out = vec![7];
        out.extend_from_slice(&300u16.to_le_bytes());
        put_string(&mut out, "queue");
        let mut fields = Fields::new(&out);
        assert_eq!((fields.u8(), fields.u16(), fields.string()), (Ok(7), Ok(300), Ok("queue")));
        assert_eq!(fields.u8(), Err(Truncated));

        let mut hostile = Fields::new(&[0xff; 6]);
        assert_eq!(hostile.count(1), Err(Truncated), "a count beyond the bytes");
    }
}
