//! Headers: what stands between a frame's length and its body.

use super::api::ApiKey;
use super::wire::{DecodeError, Reader, Writer};

/// The header of a request, versions 1 and 2.
///
/// (Version 0 belongs to an API between brokers which is gone since Kafka 4.0.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    pub api: ApiKey,
    /// As the peer sent it: it need not be supported.
    pub version: i16,
    /// Chosen by the client, returned in the response.
    pub correlation_id: i32,
    pub client_id: Option<&'a str>,
}

impl<'a> RequestHeader<'a> {
    /// Reads the header of a frame and leaves the reader at the body.
    ///
    /// An unknown API is an error, since the layout of its header is unknown too. An unknown version is
    /// not: the caller checks [`is_supported`](Self::is_supported), as `ApiVersions` has an answer to it
    /// (version 0, with `UNSUPPORTED_VERSION`) where all others close the connection.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let key = reader.i16()?;
        let version = reader.i16()?;
        let correlation_id = reader.i32()?;
        let api = ApiKey::from_key(key).ok_or(DecodeError::UnknownApi(key))?;
        // The client id keeps its classic form in header version 2, so that it can always be read.
        let client_id = reader.nullable_string(false)?;
        if api.is_flexible(version) {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(Self { api, version, correlation_id, client_id })
    }

    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.i16(self.api.key());
        writer.i16(self.version);
        writer.i32(self.correlation_id);
        writer.nullable_string(self.client_id, false);
        if self.api.is_flexible(self.version) {
            writer.unsigned_varint(0);
        }
    }

    /// Whether the body can be decoded.
    pub fn is_supported(&self) -> bool {
        self.api.versions().contains(&self.version)
    }
}

/// The header of a response, versions 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// Of the request that is answered.
    pub correlation_id: i32,
}

impl ResponseHeader {
    pub fn decode(reader: &mut Reader<'_>, api: ApiKey, version: i16) -> Result<Self, DecodeError> {
        let correlation_id = reader.i32()?;
        if Self::is_flexible(api, version) {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(Self { correlation_id })
    }

    #[inline]
    pub fn encode(&self, writer: &mut Writer<'_>, api: ApiKey, version: i16) {
        writer.i32(self.correlation_id);
        if Self::is_flexible(api, version) {
            writer.unsigned_varint(0);
        }
    }

    /// Version 1 has tagged fields. `ApiVersions` answers with version 0 always: a client that asks does
    /// not know yet what the broker speaks.
    fn is_flexible(api: ApiKey, version: i16) -> bool {
        api != ApiKey::ApiVersions && api.is_flexible(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(api: ApiKey, version: i16) -> RequestHeader<'static> {
        RequestHeader { api, version, correlation_id: 7, client_id: Some("me") }
    }

    #[test]
    fn the_request_header_is_flexible_with_its_body() {
        let classic: &[u8] = &[0, 0, 0, 8, 0, 0, 0, 7, 0, 2, b'm', b'e'];
        let flexible: &[u8] = &[0, 0, 0, 9, 0, 0, 0, 7, 0, 2, b'm', b'e', 0];
        for (version, expected) in [(8, classic), (9, flexible)] {
            let mut bytes = Vec::new();
            header(ApiKey::Produce, version).encode(&mut Writer::new(&mut bytes));
            assert_eq!(bytes, expected);
            let mut reader = Reader::new(&bytes);
            assert_eq!(RequestHeader::decode(&mut reader), Ok(header(ApiKey::Produce, version)));
            assert_eq!(reader.left(), 0);
        }
    }

    #[test]
    fn tags_of_a_header_are_skipped() {
        let mut reader = Reader::new(&[0, 18, 0, 3, 0, 0, 0, 7, 0xff, 0xff, 1, 5, 2, 8, 8, 99]);
        let header = RequestHeader::decode(&mut reader).expect("well-formed");
        assert_eq!((header.api, header.client_id), (ApiKey::ApiVersions, None));
        assert_eq!(reader.left(), 1);
    }

    #[test]
    fn an_unknown_version_is_told_from_an_unknown_api() {
        let unknown_version = [0, 18, 0, 99, 0, 0, 0, 7, 0, 0, 0];
        let header = RequestHeader::decode(&mut Reader::new(&unknown_version)).expect("well-formed");
        assert!(!header.is_supported());
        let unknown_api = [0x7f, 0, 0, 0, 0, 0, 0, 7, 0, 0];
        let error = RequestHeader::decode(&mut Reader::new(&unknown_api));
        assert_eq!(error, Err(DecodeError::UnknownApi(0x7f00)));
        for length in 0..10 {
            assert!(RequestHeader::decode(&mut Reader::new(&unknown_version[..length])).is_err());
        }
    }

    #[test]
    fn the_response_header_of_api_versions_is_never_flexible() {
        let table = [(ApiKey::ApiVersions, 4, 4), (ApiKey::Produce, 8, 4), (ApiKey::Produce, 9, 5)];
        for (api, version, bytes_expected) in table {
            let mut bytes = Vec::new();
            ResponseHeader { correlation_id: 3 }.encode(&mut Writer::new(&mut bytes), api, version);
            assert_eq!(bytes.len(), bytes_expected, "{api:?} {version}");
            let mut reader = Reader::new(&bytes);
            let decoded = ResponseHeader::decode(&mut reader, api, version);
            assert_eq!(decoded, Ok(ResponseHeader { correlation_id: 3 }));
            assert_eq!(reader.left(), 0);
        }
    }
}
