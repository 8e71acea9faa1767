//! Record data of a fetch response: borrowed when it is read, passed by reference when it is written.

use bytes::Bytes;

use super::schema::{Field, Form, Kind};
use super::wire::{DecodeError, Reader, Writer};

/// Whole record batches, as one nullable byte field of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Records<'a> {
    #[default]
    Null,
    /// What decoding gives.
    Bytes(&'a [u8]),
    /// What a broker sends: slices of its log, which a gathering [`Writer`] does not copy.
    Shared(&'a [Bytes]),
}

impl<'a> Records<'a> {
    pub fn bytes_len(&self) -> usize {
        match self {
            Records::Null => 0,
            Records::Bytes(bytes) => bytes.len(),
            Records::Shared(slices) => slices.iter().map(Bytes::len).sum(),
        }
    }
}

impl<'a> Field<'a> for Records<'a> {
    const KIND: Kind = Kind::NullableBytes;

    #[inline]
    fn bytes_min(form: Form) -> usize {
        Option::<&[u8]>::bytes_min(form)
    }

    #[inline]
    fn read(reader: &mut Reader<'a>, form: Form) -> Result<Self, DecodeError> {
        Ok(reader.nullable_bytes(form.flexible)?.map_or(Records::Null, Records::Bytes))
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>, form: Form) {
        match self {
            Records::Null => writer.nullable_bytes(None, form.flexible),
            Records::Bytes(bytes) => writer.bytes(bytes, form.flexible),
            Records::Shared(slices) => {
                writer.length(Some(self.bytes_len()), form.flexible);
                for slice in *slices {
                    writer.shared(slice);
                }
            }
        }
    }
}
