//! A record as one line of JSON, both ways. What is no UTF-8 becomes `{"base64": "..."}`.

use anyhow::{Context, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::codec::records::Record;

/// Bytes that are text most of the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a text for key and value, as in {\"value\": \"5\"}; for bytes {\"base64\": \"...\"}; or null"
)]
enum Text {
    Plain(String),
    Binary { base64: String },
}

impl Text {
    fn of(bytes: &[u8]) -> Text {
        match str::from_utf8(bytes) {
            Ok(text) => Text::Plain(text.to_owned()),
            Err(_) => Text::Binary { base64: STANDARD.encode(bytes) },
        }
    }

    fn into_bytes(self) -> anyhow::Result<Vec<u8>> {
        match self {
            Text::Plain(text) => Ok(text.into_bytes()),
            Text::Binary { base64 } => STANDARD.decode(base64).context("base64"),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    key: Text,
    #[serde(default)]
    value: Option<Text>,
}

#[derive(Serialize)]
struct Written<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<Text>,
    value: Option<Text>,
    headers: Vec<Header>,
}

/// The line of a record, without its end.
pub fn write(topic: &str, partition: i32, record: &Record<'_>) -> anyhow::Result<String> {
    let headers =
        record.headers.map(|(key, value)| Header { key: Text::of(key), value: value.map(Text::of) });
    Ok(serde_json::to_string(&Written {
        topic,
        partition,
        offset: record.offset.0,
        timestamp: record.timestamp,
        key: record.key.map(Text::of),
        value: record.value.map(Text::of),
        headers: headers.collect(),
    })?)
}

/// Fields that a copy brings along and that are given anew are taken, and not used.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    #[serde(default, rename = "topic")]
    _topic: serde::de::IgnoredAny,
    #[serde(default, rename = "offset")]
    _offset: serde::de::IgnoredAny,
    #[serde(default)]
    partition: Option<i32>,
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(default)]
    key: Option<Text>,
    #[serde(default)]
    value: Option<Text>,
    #[serde(default)]
    headers: Vec<Header>,
}

/// A record to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    pub partition: Option<i32>,
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

pub fn read(line: &[u8]) -> anyhow::Result<Input> {
    // An array would be taken for the fields in their order.
    ensure!(line.trim_ascii_start().starts_with(b"{"), "no JSON object");
    let read: Read = serde_json::from_slice(line).map_err(|error| {
        // There is but one line; the caller knows which.
        let (told, place) =
            (error.to_string(), format!(" at line {} column {}", error.line(), error.column()));
        let column = if error.column() > 0 { format!(" (column {})", error.column()) } else { String::new() };
        anyhow!("{}{column}", told.strip_suffix(&place).unwrap_or(&told))
    })?;
    ensure!(read.timestamp.is_none_or(|ms| ms >= 0), "a timestamp is milliseconds since 1970");
    if read.partition.is_some_and(|partition| partition < 0) {
        bail!("a partition is a number from 0 on");
    }
    let mut headers = Vec::new();
    for header in read.headers {
        headers.push((header.key.into_bytes()?, header.value.map(Text::into_bytes).transpose()?));
    }
    Ok(Input {
        partition: read.partition,
        timestamp: read.timestamp,
        key: read.key.map(Text::into_bytes).transpose()?,
        value: read.value.map(Text::into_bytes).transpose()?,
        headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::batch_builder::BatchBuilder;
    use crate::codec::compression::Compression;
    use crate::codec::record_batch::RecordBatch;
    use crate::codec::records::InflatedBatch;

    #[test]
    fn what_is_written_can_be_read() {
        let mut batch = BatchBuilder::new(Compression::None);
        batch.push(7, Some(b"key"), Some(b"\xff\x00"), &[(b"h", Some(b"x")), (b"\xfe", None)]);
        batch.push(8, None, None, &[]);
        batch.push(9, Some(b""), Some("ü\n\"".as_bytes()), &[]);
        let bytes = batch.finish();
        let batch = RecordBatch::parse(&bytes).expect("our own");
        let batch = InflatedBatch::open(batch, 1 << 20).expect("our own");
        let lines: Vec<String> =
            batch.records().map(|record| write("t", 3, &record.expect("our own")).expect("writes")).collect();
        expect_test::expect![[r#"
            {"topic":"t","partition":3,"offset":0,"timestamp":7,"key":"key","value":{"base64":"/wA="},"headers":[{"key":"h","value":"x"},{"key":{"base64":"/g=="},"value":null}]}
            {"topic":"t","partition":3,"offset":1,"timestamp":8,"key":null,"value":null,"headers":[]}
            {"topic":"t","partition":3,"offset":2,"timestamp":9,"key":"","value":"ü\n\"","headers":[]}"#]]
        .assert_eq(&lines.join("\n"));
        let first = read(lines[0].as_bytes()).expect("reads");
        assert_eq!(
            first,
            Input {
                partition: Some(3),
                timestamp: Some(7),
                key: Some(b"key".to_vec()),
                value: Some(b"\xff\x00".to_vec()),
                headers: vec![(b"h".to_vec(), Some(b"x".to_vec())), (b"\xfe".to_vec(), None)],
            }
        );
        assert_eq!(read(lines[1].as_bytes()).expect("reads").value, None);
        assert_eq!(read(b"{}").expect("reads"), Input::default());
    }

    #[test]
    fn what_is_no_record() {
        for line in [
            "",
            "[]",
            "\"text\"",
            r#"{"keys": "k"}"#,
            r#"{"value": 5}"#,
            r#"{"value": {"base64": "?"}}"#,
            r#"{"partition": -1}"#,
            r#"{"timestamp": -1}"#,
            r#"{"headers": {"a": "b"}}"#,
            r#"{"headers": [{"value": "b"}]}"#,
        ] {
            assert!(read(line.as_bytes()).is_err(), "{line}");
        }
        let error = read(br#"{"value": 5}"#).expect_err("a number").to_string();
        assert!(
            error.starts_with("expected a text for key and value, as in") && !error.contains("line"),
            "{error}"
        );
        let error = read(br#"{"keys": "k"}"#).expect_err("unknown").to_string();
        assert!(
            error.starts_with("unknown field `keys`, expected one of") && error.ends_with("(column 7)"),
            "{error}"
        );
    }
}
