//! Frames: a length of four bytes, then so many bytes of header and body.
//!
//! ```text
//! | length i32 | header | body |       length counts header and body
//! ```

use std::ops::Range;

use bytes::Bytes;
use thiserror::Error;

use super::api::{ApiKey, Message, Request, Response};
use super::header::{RequestHeader, ResponseHeader};
use super::wire::{DecodeError, EncodeError, Gathered, Reader, Writer};

/// Bytes of the length before a frame.
pub const LENGTH_BYTES: usize = 4;

/// Api key, version and correlation id: no request is shorter.
pub const REQUEST_BYTES_MIN: usize = 8;

/// A correlation id: no response is shorter.
pub const RESPONSE_BYTES_MIN: usize = 4;

/// Where the first frame of received bytes lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// So many bytes, counted from the first, are needed at least: the length, or the whole frame.
    Incomplete { bytes_needed: usize },
    /// Header and body. The next frame begins at its end.
    Complete(Range<usize>),
}

/// A length that no frame has. Nothing that follows can be understood: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("frame of {length} bytes where {min} to {max} are allowed")]
pub struct FrameError {
    pub length: i32,
    pub min: usize,
    pub max: usize,
}

/// Finds the first request in `received`. A request has at most `bytes_max` bytes besides its length.
pub fn first_request(received: &[u8], bytes_max: usize) -> Result<Frame, FrameError> {
    first(received, REQUEST_BYTES_MIN, bytes_max)
}

/// Finds the first response in `received`, for the client's side.
pub fn first_response(received: &[u8], bytes_max: usize) -> Result<Frame, FrameError> {
    first(received, RESPONSE_BYTES_MIN, bytes_max)
}

#[inline]
fn first(received: &[u8], min: usize, max: usize) -> Result<Frame, FrameError> {
    let Some(length) = received.first_chunk::<LENGTH_BYTES>() else {
        return Ok(Frame::Incomplete { bytes_needed: LENGTH_BYTES });
    };
    let length = i32::from_be_bytes(*length);
    let bytes = usize::try_from(length).unwrap_or(0);
    if !(min..=max).contains(&bytes) {
        return Err(FrameError { length, min, max });
    }
    let end = LENGTH_BYTES + bytes;
    if received.len() < end {
        return Ok(Frame::Incomplete { bytes_needed: end });
    }
    Ok(Frame::Complete(LENGTH_BYTES..end))
}

/// Reads the whole of a request: what a [`Frame::Complete`] spans.
///
/// A broker on its hot path reads header and body one after the other instead; this is for tools, and it
/// is what the fuzz tests feed.
pub fn decode_request(frame: &[u8]) -> Result<(RequestHeader<'_>, Request<'_>), DecodeError> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader)?;
    let request = Request::decode(&mut reader, header.api, header.version)?;
    reader.finish()?;
    Ok((header, request))
}

/// Reads the whole of a response to a request of that API and version.
pub fn decode_response(
    frame: &[u8],
    api: ApiKey,
    version: i16,
) -> Result<(ResponseHeader, Response<'_>), DecodeError> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(&mut reader, api, version)?;
    let response = Response::decode(&mut reader, api, version)?;
    reader.finish()?;
    Ok((header, response))
}

/// Appends a request as a frame.
pub fn put_request<'m, M: Message<'m>>(
    out: &mut Vec<u8>,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &M,
) -> Result<(), EncodeError> {
    let mut writer = Writer::new(out);
    let start = begin(&mut writer);
    RequestHeader { api: M::API, version, correlation_id, client_id }.encode(&mut writer);
    request.encode(&mut writer, version);
    end(&mut writer, start, 0)
}

/// Appends a response as a frame, record data included.
pub fn put_response<'m, M: Message<'m>>(
    out: &mut Vec<u8>,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<(), EncodeError> {
    let mut writer = Writer::new(out);
    let start = begin(&mut writer);
    ResponseHeader { correlation_id }.encode(&mut writer, M::API, version);
    response.encode(&mut writer, version);
    end(&mut writer, start, 0)
}

/// Appends a response as a frame in pieces, for a vectored send: shared record data is passed on, not
/// copied. Returns the bytes of all pieces.
pub fn put_response_pieces<'m, M: Message<'m>>(
    out: &mut Vec<Bytes>,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<usize, EncodeError> {
    let mut written = Vec::new();
    let mut gathered = Vec::new();
    let mut writer = Writer::gathering(&mut written, &mut gathered);
    let start = begin(&mut writer);
    ResponseHeader { correlation_id }.encode(&mut writer, M::API, version);
    response.encode(&mut writer, version);
    let shared_bytes = writer.shared_bytes();
    end(&mut writer, start, shared_bytes)?;

    let written = Bytes::from(written);
    let bytes_total = written.len() + shared_bytes;
    let mut sent = 0;
    for Gathered { position, bytes } in gathered {
        if sent < position {
            out.push(written.slice(sent..position));
            sent = position;
        }
        out.push(bytes);
    }
    if sent < written.len() {
        out.push(written.slice(sent..));
    }
    Ok(bytes_total)
}

/// Leaves room for the length of a frame. Returns what [`end`] needs.
pub fn begin(writer: &mut Writer<'_>) -> usize {
    let start = writer.position();
    writer.i32(0);
    start
}

/// Fills in the length of a frame of which `shared_bytes` are not among the written. After an error what was
/// written is no frame and must not be sent.
pub fn end(writer: &mut Writer<'_>, start: usize, shared_bytes: usize) -> Result<(), EncodeError> {
    writer.check()?;
    let bytes = writer.position() - start - LENGTH_BYTES + shared_bytes;
    let length = i32::try_from(bytes).map_err(|_| EncodeError::TooLarge(bytes))?;
    writer.patch_i32(start, length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
    use super::super::messages::{ApiVersionsRequest, ApiVersionsResponse};
    use super::super::{ErrorCode, Records};
    use super::*;

    #[test]
    fn a_frame_is_found_when_it_is_whole() {
        let frame = [0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 99];
        for received in 0..4 {
            let found = first_request(&frame[..received], 100);
            assert_eq!(found, Ok(Frame::Incomplete { bytes_needed: 4 }));
        }
        for received in 4..12 {
            let found = first_request(&frame[..received], 100);
            assert_eq!(found, Ok(Frame::Incomplete { bytes_needed: 12 }));
        }
        assert_eq!(first_request(&frame, 100), Ok(Frame::Complete(4..12)));
    }

    #[test]
    fn a_length_beyond_the_limits_is_refused_before_its_bytes_arrive() {
        for length in [i32::MIN, -1, 0, 7, 101, i32::MAX] {
            let error = FrameError { length, min: 8, max: 100 };
            assert_eq!(first_request(&length.to_be_bytes(), 100), Err(error));
        }
        assert_eq!(first_response(&4_i32.to_be_bytes(), 100), Ok(Frame::Incomplete { bytes_needed: 8 }));
    }

    #[test]
    fn a_frame_that_is_put_is_the_frame_that_is_found() {
        let request = ApiVersionsRequest { client_software_name: "me", client_software_version: "1" };
        let mut out = b"before".to_vec();
        put_request(&mut out, 3, 7, Some("id"), &request).expect("fits");
        let request_frame = &out["before".len()..];
        assert_eq!(first_request(request_frame, 100), Ok(Frame::Complete(4..request_frame.len())));
        let (header, decoded) = decode_request(&request_frame[4..]).expect("decodes");
        assert_eq!((header.correlation_id, header.client_id), (7, Some("id")));
        assert_eq!(decoded, Request::ApiVersions(request));

        let mut frame = Vec::new();
        let response =
            ApiVersionsResponse { error_code: ErrorCode::UNSUPPORTED_VERSION, ..Default::default() };
        put_response(&mut frame, 0, 7, &response).expect("fits");
        assert_eq!(frame, [0, 0, 0, 10, 0, 0, 0, 7, 0, 35, 0, 0, 0, 0]);
        assert_eq!(first_response(&frame, 100), Ok(Frame::Complete(4..frame.len())));
        let (header, decoded) = decode_response(&frame[4..], ApiKey::ApiVersions, 0).expect("decodes");
        assert_eq!((header.correlation_id, decoded), (7, Response::ApiVersions(response)));

        let trailing = [0, 0, 0, 7, 0, 35, 0, 0, 0, 0, 99];
        let decoded = decode_response(&trailing, ApiKey::ApiVersions, 0);
        assert_eq!(decoded, Err(DecodeError::TrailingBytes(1)));
    }

    #[test]
    fn what_no_frame_can_hold_is_an_error_and_no_panic() {
        let name = "x".repeat(40_000);
        let request = ApiVersionsRequest { client_software_name: &name, client_software_version: "1" };
        let too_long = Err(EncodeError::StringTooLong(40_000));
        assert_eq!(put_request(&mut Vec::new(), 3, 7, None, &request), too_long);
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        let start = begin(&mut writer);
        let shared_bytes = i32::MAX as usize + 1;
        assert_eq!(end(&mut writer, start, shared_bytes), Err(EncodeError::TooLarge(shared_bytes)));
        assert_eq!(end(&mut writer, start, shared_bytes - 1), Ok(()));
    }

    /// The pieces of a fetch response, joined, are the response with its records copied in.
    #[test]
    fn fetched_records_are_passed_on_uncopied() {
        let log = Bytes::from(vec![0xaa; 4096]);
        let slices = [log.slice(..100), log.slice(512..1024), log.slice(4000..)];
        let partition = |index, records| PartitionData {
            partition_index: index,
            high_watermark: 9,
            records,
            ..Default::default()
        };
        let topic = |partitions: Vec<PartitionData<'static>>| FetchableTopicResponse {
            topic: "t",
            partitions: partitions.into(),
            ..Default::default()
        };
        let slices: &'static [Bytes] = Box::leak(Box::new(slices));
        for version in ApiKey::Fetch.versions() {
            let first = topic(vec![partition(0, Records::Shared(&slices[..2])), partition(1, Records::Null)]);
            let second =
                topic(vec![partition(2, Records::Shared(&[])), partition(3, Records::Shared(slices))]);
            let responses = [first, second].into_iter().collect();
            let response = FetchResponse { responses, ..Default::default() };

            let mut whole = Vec::new();
            put_response(&mut whole, version, 7, &response).expect("fits");
            let mut pieces = Vec::new();
            let bytes = put_response_pieces(&mut pieces, version, 7, &response).expect("fits");
            assert_eq!(pieces.concat(), whole, "version {version}");
            assert_eq!(bytes, whole.len());
            let uncopied = pieces
                .iter()
                .filter(|piece| slices.iter().any(|slice| slice.as_ptr_range() == piece.as_ptr_range()));
            assert_eq!(uncopied.count(), 5, "every slice goes out as itself");
            assert!(pieces.iter().all(|piece| !piece.is_empty()), "no empty buffer is sent");
        }
    }
}
