//! Writes random messages from their schemas, without the code under test that encodes structs.

use ringmq::kafka::protocol::Writer;
use ringmq::kafka::protocol::schema::{FieldSchema, Form, Kind};
use uuid::Uuid;

use crate::random::Random;

/// A random message.
#[derive(Default)]
pub struct Generated {
    pub bytes: Vec<u8>,
    /// Name and value of every field that is written and is no struct or bytes, as `Debug` shows the value.
    pub fields: Vec<(&'static str, String)>,
}

/// A message of the schema in the given form. Numbers and strings are such that no tagged field is its
/// default, since a default would not be written again.
pub fn generate(random: &mut Random, kind: Kind, form: Form) -> Generated {
    let mut generated = Generated::default();
    let Kind::Struct(schema) = kind else { panic!("a message is a struct") };
    let mut bytes = Vec::new();
    put_struct(random, schema, form, &mut Writer::new(&mut bytes), &mut generated.fields);
    generated.bytes = bytes;
    generated
}

type Fields = Vec<(&'static str, String)>;

fn put_struct(
    random: &mut Random,
    schema: &[FieldSchema],
    form: Form,
    writer: &mut Writer<'_>,
    fields: &mut Fields,
) {
    let in_version = || schema.iter().filter(|field| field.versions.contains(form.version));
    for field in in_version().filter(|field| field.tag.is_none()) {
        if let Some(shown) = put(random, field.name, field.kind, form, false, writer, fields) {
            fields.push((field.name, shown));
        }
    }
    if !form.flexible {
        return;
    }
    let tagged: Vec<_> =
        in_version().filter_map(|field| Some((field.tag?, field))).filter(|_| random.one_in(2)).collect();
    writer.unsigned_varint(tagged.len() as u32);
    for (tag, field) in tagged {
        writer.tagged_field(tag, |writer| {
            if let Some(shown) = put(random, field.name, field.kind, form, true, writer, fields) {
                fields.push((field.name, shown));
            }
        });
    }
}

/// Writes a value and returns how it is shown, if it is no struct and no bytes.
fn put(
    random: &mut Random,
    name: &'static str,
    kind: Kind,
    form: Form,
    not_default: bool,
    writer: &mut Writer<'_>,
    fields: &mut Fields,
) -> Option<String> {
    let flexible = form.flexible;
    match kind {
        Kind::Bool => {
            let value = not_default || random.one_in(2);
            writer.bool(value);
            Some(value.to_string())
        }
        Kind::Int8 => {
            let value = 1 + random.below(i8::MAX as usize) as i8;
            writer.i8(value);
            Some(value.to_string())
        }
        Kind::Int16 => {
            let value = 1 + random.below(i16::MAX as usize) as i16;
            writer.i16(value);
            Some(value.to_string())
        }
        Kind::Int32 => {
            let value = 1 + random.below(i32::MAX as usize) as i32;
            writer.i32(value);
            Some(value.to_string())
        }
        Kind::Int64 => {
            let value = 1 + random.below(i64::MAX as usize) as i64;
            writer.i64(value);
            Some(value.to_string())
        }
        Kind::Float64 => {
            writer.f64(random.below(1 << 20) as f64 + 0.5);
            None
        }
        Kind::Uuid => {
            let value = Uuid::from_u64_pair(random.next(), random.next());
            writer.uuid(value);
            Some(value.to_string())
        }
        Kind::NullableString if !not_default && random.one_in(3) => {
            writer.nullable_string(None, flexible);
            Some("None".into())
        }
        Kind::String | Kind::NullableString => {
            // Long enough, now and then, for a length of two bytes.
            let length = if random.one_in(8) { 200 } else { 12 };
            let value: String =
                (0..1 + random.below(length)).map(|_| (b'a' + random.below(26) as u8) as char).collect();
            writer.string(&value, flexible);
            Some(format!("{value:?}"))
        }
        Kind::NullableBytes if random.one_in(4) => {
            writer.nullable_bytes(None, flexible);
            None
        }
        Kind::Bytes | Kind::NullableBytes => {
            let value: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
            writer.bytes(&value, flexible);
            None
        }
        Kind::NullableArray(_) if !not_default && random.one_in(4) => {
            writer.length(None, flexible);
            Some("None".into())
        }
        Kind::Array(element) | Kind::NullableArray(element) => {
            let count = random.below(4).max(usize::from(not_default));
            writer.length(Some(count), flexible);
            let shown: Vec<String> = (0..count)
                .filter_map(|_| put(random, name, *element, form, not_default, writer, fields))
                .collect();
            (!shown.is_empty()).then(|| format!("[{}]", shown.join(", ")))
        }
        Kind::Struct(schema) => {
            put_struct(random, schema, form, writer, fields);
            None
        }
    }
}
