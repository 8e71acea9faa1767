//! Writes random messages from their schemas, without the code under test that encodes structs.

use ringmq::kafka::protocol::Writer;
use ringmq::kafka::protocol::schema::{FieldSchema, Form, Kind};
use uuid::Uuid;

use crate::random::Random;

/// A random message.
pub struct Generated {
    pub bytes: Vec<u8>,
    /// Name and value of every field that is written and is no struct or bytes, as `Debug` shows the value.
    pub fields: Vec<(&'static str, String)>,
}

/// A message of the schema in the given form. Numbers and strings are such that no tagged field is its
/// default, since a default would not be written again.
pub fn generate(random: &mut Random, kind: Kind, form: Form) -> Generated {
    let mut bytes = Vec::new();
    let mut generator = Generator { random, form, tagged: false, fields: Vec::new() };
    generator.put(kind, &mut Writer::new(&mut bytes));
    Generated { bytes, fields: generator.fields }
}

struct Generator<'r> {
    random: &'r mut Random,
    form: Form,
    /// Inside a tagged field, where no value may be a default.
    tagged: bool,
    fields: Vec<(&'static str, String)>,
}

impl Generator<'_> {
    fn put_struct(&mut self, schema: &[FieldSchema], writer: &mut Writer<'_>) {
        let version = self.form.version;
        let in_version = || schema.iter().filter(|field| field.versions.contains(version));
        for field in in_version().filter(|field| field.tag.is_none()) {
            self.put_field(field, writer);
        }
        if !self.form.flexible {
            return;
        }
        let tagged = in_version().filter_map(|field| Some((field.tag?, field)));
        let tagged: Vec<_> = tagged.filter(|_| self.random.one_in(2)).collect();
        writer.unsigned_varint(tagged.len() as u32);
        let outer = std::mem::replace(&mut self.tagged, true);
        for (tag, field) in tagged {
            writer.tagged_field(tag, |writer| self.put_field(field, writer));
        }
        self.tagged = outer;
    }

    fn put_field(&mut self, field: &FieldSchema, writer: &mut Writer<'_>) {
        if let Some(shown) = self.put(field.kind, writer) {
            self.fields.push((field.name, shown));
        }
    }

    /// Writes a value and returns how it is shown, if it is no struct and no bytes.
    fn put(&mut self, kind: Kind, writer: &mut Writer<'_>) -> Option<String> {
        let flexible = self.form.flexible;
        match kind {
            Kind::Bool => {
                let value = self.tagged || self.random.one_in(2);
                writer.bool(value);
                Some(value.to_string())
            }
            Kind::Int8 => {
                let value = 1 + self.random.below(i8::MAX as usize) as i8;
                writer.i8(value);
                Some(value.to_string())
            }
            Kind::Int16 => {
                let value = 1 + self.random.below(i16::MAX as usize) as i16;
                writer.i16(value);
                Some(value.to_string())
            }
            Kind::Int32 => {
                let value = 1 + self.random.below(i32::MAX as usize) as i32;
                writer.i32(value);
                Some(value.to_string())
            }
            Kind::Int64 => {
                let value = 1 + self.random.below(i64::MAX as usize) as i64;
                writer.i64(value);
                Some(value.to_string())
            }
            Kind::Float64 => {
                let value = self.random.below(1 << 20) as f64 + 0.5;
                writer.f64(value);
                Some(value.to_string())
            }
            Kind::Uuid => {
                let value = Uuid::from_u64_pair(self.random.next(), self.random.next());
                writer.uuid(value);
                Some(value.to_string())
            }
            Kind::NullableString if self.may_be_null() => {
                writer.nullable_string(None, flexible);
                Some("None".into())
            }
            Kind::String | Kind::NullableString => {
                let value = self.string();
                writer.string(&value, flexible);
                Some(format!("{value:?}"))
            }
            Kind::NullableBytes if self.may_be_null() => {
                writer.nullable_bytes(None, flexible);
                None
            }
            Kind::Bytes | Kind::NullableBytes => {
                let count = self.random.below(200);
                let value: Vec<u8> = (0..count).map(|_| self.random.next() as u8).collect();
                writer.bytes(&value, flexible);
                None
            }
            Kind::NullableArray(_) if self.may_be_null() => {
                writer.length(None, flexible);
                Some("None".into())
            }
            Kind::Array(element) | Kind::NullableArray(element) => {
                let count = self.random.below(4).max(usize::from(self.tagged));
                writer.length(Some(count), flexible);
                let shown: Vec<String> = (0..count).filter_map(|_| self.put(*element, writer)).collect();
                (!shown.is_empty()).then(|| format!("[{}]", shown.join(", ")))
            }
            Kind::NullableStruct(_) if self.may_be_null() => {
                writer.i8(-1);
                Some("None".into())
            }
            Kind::NullableStruct(schema) => {
                writer.i8(1);
                self.put_struct(schema, writer);
                None
            }
            Kind::Struct(schema) => {
                self.put_struct(schema, writer);
                None
            }
        }
    }

    fn may_be_null(&mut self) -> bool {
        !self.tagged && self.random.one_in(4)
    }

    /// Letters; now and then so many that their length takes two bytes.
    fn string(&mut self) -> String {
        let length_max = if self.random.one_in(8) { 200 } else { 12 };
        let length = 1 + self.random.below(length_max);
        (0..length).map(|_| (b'a' + self.random.below(26) as u8) as char).collect()
    }
}
