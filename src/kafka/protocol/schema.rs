//! How messages are declared: `message!`, and what the types of fields can do.
//!
//! ```text
//! message! {
//!     /// What the struct is.
//!     pub struct PartitionReply<'a> {
//!         index: i32, 0+;                  // in every version
//!         leader_epoch: i32 = -1, 7+;      // since version 7; -1 is what its absence means
//!         name: Option<&'a str>, 0-12;     // up to version 12
//!     } tagged {
//!         0 => rack: &'a str, 10+;         // tag 0, written when it is not the default
//!     }
//! }
//! ```
//!
//! The ranges are written as in Kafka's own schemas. From the declaration follow the struct, its defaults,
//! borrowed decoding, encoding and a description ([`Kind`]) for tools and tests. Structs nest by naming
//! each other, never themselves, so the depth of a message is a property of the program, not of the bytes.
//!
//! A field that a version does not have is its default after decoding, and is dropped when encoding.

use smallvec::SmallVec;
use uuid::Uuid;

use super::error_code::ErrorCode;
use super::wire::{DecodeError, Reader, Writer};

/// An array of the protocol. Most have one element: one topic, one partition. That one is kept inline.
pub type Array<T> = SmallVec<[T; 1]>;

/// What the layout of a message depends on, besides its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub version: i16,
    /// Compact lengths, and tagged fields at the end of every struct.
    pub flexible: bool,
}

/// The versions that have a field, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    #[inline]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// The type of a field as the protocol sees it.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Float64,
    Uuid,
    String,
    NullableString,
    Bytes,
    NullableBytes,
    Array(&'static Kind),
    NullableArray(&'static Kind),
    Struct(&'static [FieldSchema]),
    NullableStruct(&'static [FieldSchema]),
}

/// A field of a struct, in the order of the wire.
#[derive(Clone, Copy, Debug)]
pub struct FieldSchema {
    pub name: &'static str,
    pub kind: Kind,
    pub versions: Versions,
    /// Tagged fields exist in flexible versions only.
    pub tag: Option<u32>,
}

/// A type that fields can have. `'a` is the received bytes that it borrows from.
pub trait Field<'a>: Sized {
    const KIND: Kind;

    /// The fewest bytes that a value takes: how many elements bytes can hold at most.
    fn bytes_min(form: Form) -> usize;
    fn read(reader: &mut Reader<'a>, form: Form) -> Result<Self, DecodeError>;
    fn write(&self, writer: &mut Writer<'_>, form: Form);
}

macro_rules! fixed_fields {
    ($($ty:ty: $kind:ident, $method:ident, $bytes:literal;)*) => {$(
        impl<'a> Field<'a> for $ty {
            const KIND: Kind = Kind::$kind;

            #[inline]
            fn bytes_min(_: Form) -> usize {
                $bytes
            }

            #[inline]
            fn read(reader: &mut Reader<'a>, _: Form) -> Result<Self, DecodeError> {
                reader.$method()
            }

            #[inline]
            fn write(&self, writer: &mut Writer<'_>, _: Form) {
                writer.$method(*self);
            }
        }
    )*};
}

fixed_fields! {
    bool: Bool, bool, 1;
    i8: Int8, i8, 1;
    i16: Int16, i16, 2;
    i32: Int32, i32, 4;
    i64: Int64, i64, 8;
    f64: Float64, f64, 8;
    Uuid: Uuid, uuid, 16;
}

impl<'a> Field<'a> for ErrorCode {
    const KIND: Kind = Kind::Int16;

    #[inline]
    fn bytes_min(_: Form) -> usize {
        2
    }

    #[inline]
    fn read(reader: &mut Reader<'a>, _: Form) -> Result<Self, DecodeError> {
        reader.i16().map(ErrorCode)
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>, _: Form) {
        writer.i16(self.0);
    }
}

macro_rules! sized_fields {
    ($($ty:ty: $kind:ident, $method:ident, $classic_length_bytes:literal;)*) => {$(
        impl<'a> Field<'a> for $ty {
            const KIND: Kind = Kind::$kind;

            #[inline]
            fn bytes_min(form: Form) -> usize {
                if form.flexible { 1 } else { $classic_length_bytes }
            }

            #[inline]
            fn read(reader: &mut Reader<'a>, form: Form) -> Result<Self, DecodeError> {
                reader.$method(form.flexible)
            }

            #[inline]
            fn write(&self, writer: &mut Writer<'_>, form: Form) {
                writer.$method(*self, form.flexible);
            }
        }
    )*};
}

sized_fields! {
    &'a str: String, string, 2;
    Option<&'a str>: NullableString, nullable_string, 2;
    &'a [u8]: Bytes, bytes, 4;
    Option<&'a [u8]>: NullableBytes, nullable_bytes, 4;
}

impl<'a, T: Field<'a>> Field<'a> for Array<T> {
    const KIND: Kind = Kind::Array(&T::KIND);

    #[inline]
    fn bytes_min(form: Form) -> usize {
        if form.flexible { 1 } else { 4 }
    }

    #[inline]
    fn read(reader: &mut Reader<'a>, form: Form) -> Result<Self, DecodeError> {
        Option::<Self>::read(reader, form)?.ok_or(DecodeError::UnexpectedNull)
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>, form: Form) {
        writer.length(Some(self.len()), form.flexible);
        for element in self {
            element.write(writer, form);
        }
    }
}

impl<'a, T: Field<'a>> Field<'a> for Option<Array<T>> {
    const KIND: Kind = Kind::NullableArray(&T::KIND);

    #[inline]
    fn bytes_min(form: Form) -> usize {
        Array::<T>::bytes_min(form)
    }

    #[inline]
    fn read(reader: &mut Reader<'a>, form: Form) -> Result<Self, DecodeError> {
        let Some(count) = reader.count::<T>(form.flexible, T::bytes_min(form))? else { return Ok(None) };
        let mut elements = Array::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(reader, form)?);
        }
        Ok(Some(elements))
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>, form: Form) {
        match self {
            Some(elements) => elements.write(writer, form),
            None => writer.length(None, form.flexible),
        }
    }
}

/// A struct that `message!` has declared.
pub trait Struct<'a>: Field<'a> {
    const FIELDS: &'static [FieldSchema];
}

/// A signed byte in front says whether the struct is there: less than 0 means null.
impl<'a, T: Struct<'a>> Field<'a> for Option<T> {
    const KIND: Kind = Kind::NullableStruct(T::FIELDS);

    #[inline]
    fn bytes_min(_: Form) -> usize {
        1
    }

    #[inline]
    fn read(reader: &mut Reader<'a>, form: Form) -> Result<Self, DecodeError> {
        if reader.i8()? < 0 {
            return Ok(None);
        }
        T::read(reader, form).map(Some)
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>, form: Form) {
        match self {
            Some(value) => {
                writer.i8(1);
                value.write(writer, form);
            }
            None => writer.i8(-1),
        }
    }
}

/// Declares structs of the protocol; see the top of this file.
macro_rules! message {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident $(<$life:lifetime>)? {
            $(
                $(#[$field_meta:meta])*
                $field:ident: $ty:ty $(= $default:expr)?, $min:literal $(- $max:literal)? $(+)?;
            )*
        } $(tagged {
            $(
                $(#[$tagged_meta:meta])*
                $tag:literal => $tagged:ident: $tagged_ty:ty $(= $tagged_default:expr)?,
                    $tagged_min:literal $(- $tagged_max:literal)? $(+)?;
            )*
        })?
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name $(<$life>)? {
            $($(#[$field_meta])* pub $field: $ty,)*
            $($($(#[$tagged_meta])* pub $tagged: $tagged_ty,)*)?
        }

        impl $(<$life>)? Default for $name $(<$life>)? {
            fn default() -> Self {
                Self {
                    $($field: message!(@default $ty, $($default)?),)*
                    $($($tagged: message!(@default $tagged_ty, $($tagged_default)?),)*)?
                }
            }
        }

        impl<'a> $crate::kafka::protocol::schema::Struct<'a> for $name $(<$life>)? {
            const FIELDS: &'static [$crate::kafka::protocol::schema::FieldSchema] = &[
                    $($crate::kafka::protocol::schema::FieldSchema {
                        name: stringify!($field),
                        kind: <$ty as $crate::kafka::protocol::schema::Field<'a>>::KIND,
                        versions: message!(@versions $min $($max)?),
                        tag: None,
                    },)*
                    $($($crate::kafka::protocol::schema::FieldSchema {
                        name: stringify!($tagged),
                        kind: <$tagged_ty as $crate::kafka::protocol::schema::Field<'a>>::KIND,
                        versions: message!(@versions $tagged_min $($tagged_max)?),
                        tag: Some($tag),
                    },)*)?
                ];
        }

        impl<'a> $crate::kafka::protocol::schema::Field<'a> for $name $(<$life>)? {
            const KIND: $crate::kafka::protocol::schema::Kind = $crate::kafka::protocol::schema::Kind::Struct(
                <Self as $crate::kafka::protocol::schema::Struct<'a>>::FIELDS,
            );

            #[inline]
            fn bytes_min(form: $crate::kafka::protocol::schema::Form) -> usize {
                // A flexible struct ends with a count of tagged fields.
                let mut bytes = usize::from(form.flexible);
                $(if message!(@versions $min $($max)?).contains(form.version) {
                    bytes += <$ty as $crate::kafka::protocol::schema::Field<'a>>::bytes_min(form);
                })*
                bytes
            }

            #[inline]
            fn read(
                reader: &mut $crate::kafka::protocol::wire::Reader<'a>,
                form: $crate::kafka::protocol::schema::Form,
            ) -> Result<Self, $crate::kafka::protocol::wire::DecodeError> {
                $(let $field: $ty = if message!(@versions $min $($max)?).contains(form.version) {
                    $crate::kafka::protocol::schema::Field::read(reader, form)?
                } else {
                    message!(@default $ty, $($default)?)
                };)*
                $($(let mut $tagged: $tagged_ty = message!(@default $tagged_ty, $($tagged_default)?);)*)?
                if form.flexible {
                    reader.tagged_fields(|tag, _value| match tag {
                        $($($tag
                            if message!(@versions $tagged_min $($tagged_max)?).contains(form.version) =>
                        {
                            $tagged = $crate::kafka::protocol::schema::Field::read(_value, form)?;
                            Ok(true)
                        })*)?
                        _ => Ok(false),
                    })?;
                }
                Ok(Self { $($field,)* $($($tagged,)*)? })
            }

            #[inline]
            fn write(
                &self,
                writer: &mut $crate::kafka::protocol::wire::Writer<'_>,
                form: $crate::kafka::protocol::schema::Form,
            ) {
                $(if message!(@versions $min $($max)?).contains(form.version) {
                    $crate::kafka::protocol::schema::Field::write(&self.$field, writer, form);
                })*
                if form.flexible {
                    $($(let $tagged = message!(@versions $tagged_min $($tagged_max)?).contains(form.version)
                        && self.$tagged != message!(@default $tagged_ty, $($tagged_default)?);)*)?
                    writer.unsigned_varint(0 $($(+ u32::from($tagged))*)?);
                    $($(if $tagged {
                        writer.tagged_field($tag, |writer| {
                            $crate::kafka::protocol::schema::Field::write(&self.$tagged, writer, form);
                        });
                    })*)?
                }
            }
        }
    )*};

    (@default $ty:ty,) => { <$ty>::default() };
    (@default $ty:ty, $default:expr) => { $default };
    (@versions $min:literal) => { message!(@versions $min i16::MAX) };
    (@versions $min:literal $max:expr) => {
        $crate::kafka::protocol::schema::Versions { min: $min, max: $max }
    };
}

pub(super) use message;
