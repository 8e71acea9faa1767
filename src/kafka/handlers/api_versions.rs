//! ApiVersions: what a broker speaks. The first request of nearly every connection.

use super::Outcome;
use crate::kafka::protocol::messages::api_versions::ApiVersion;
use crate::kafka::protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use crate::kafka::protocol::schema::Array;
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ApiKey, ErrorCode, Message};

pub fn handle(version: i16, request: ApiVersionsRequest<'_>, out: &mut Writer<'_>) -> Outcome {
    // Older clients have no name to say.
    let is_named = version < 3
        || (is_software_word(request.client_software_name)
            && is_software_word(request.client_software_version));
    let response = if is_named {
        ApiVersionsResponse { api_keys: api_keys(), ..Default::default() }
    } else {
        ApiVersionsResponse { error_code: ErrorCode::INVALID_REQUEST, ..Default::default() }
    };
    response.encode(out, version);
    Outcome::Reply
}

/// The answer to a version that is not known here: it is of version 0, which every client understands,
/// and tells which version to ask with (KIP-511).
pub fn handle_unsupported(out: &mut Writer<'_>) -> Outcome {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: api_keys(),
        ..Default::default()
    };
    response.encode(out, 0);
    Outcome::Reply
}

fn api_keys() -> Array<ApiVersion> {
    let advertised = ApiKey::ALL.iter().map(|api| {
        let versions = api.versions_advertised();
        ApiVersion { api_key: api.key(), min_version: *versions.start(), max_version: *versions.end() }
    });
    advertised.collect()
}

/// Letters, digits, dots and hyphens, the latter two neither first nor last: it goes into metrics.
fn is_software_word(word: &str) -> bool {
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = word.as_bytes();
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};

    #[test]
    fn every_api_is_advertised_in_every_version() {
        for version in ApiKey::ApiVersions.versions() {
            let request =
                ApiVersionsRequest { client_software_name: "ringmq-test", client_software_version: "0.1.0" };
            let body = World::default().reply(version, &request);
            let response: ApiVersionsResponse<'_> = decode(&body, version);
            assert_eq!(response.error_code, ErrorCode::NONE);
            assert_eq!(response.api_keys.len(), ApiKey::ALL.len());
            let produce = response.api_keys.iter().find(|api| api.api_key == 0).expect("is there");
            // Old librdkafka turns compression off when there is no version 0.
            assert_eq!((produce.min_version, produce.max_version), (0, 13));
        }
    }

    #[test]
    fn an_unknown_version_is_answered_with_version_0() {
        for version in [-1, 5, i16::MAX] {
            // The body of a version to come: anything.
            let body = World::default().reply_to_bytes(ApiKey::ApiVersions, version, &[0xff; 5]);
            let response: ApiVersionsResponse<'_> = decode(&body, 0);
            assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
            let own = response.api_keys.iter().find(|api| api.api_key == 18).expect("is there");
            assert_eq!((own.min_version, own.max_version), (0, 4));
        }
    }

    #[test]
    fn software_has_a_clean_name() {
        let table = [
            ("librdkafka", "2.15.0", true),
            ("a", "1", true),
            ("apache-kafka-java", "4.1.0-rc1", true),
            ("", "1", false),
            ("a", "", false),
            ("-a", "1", false),
            ("a", "1.", false),
            ("a b", "1", false),
            ("ü", "1", false),
        ];
        for (client_software_name, client_software_version, is_clean) in table {
            let request = ApiVersionsRequest { client_software_name, client_software_version };
            let body = World::default().reply(4, &request);
            let response: ApiVersionsResponse<'_> = decode(&body, 4);
            assert_eq!(response.error_code == ErrorCode::NONE, is_clean, "{request:?}");
            assert_eq!(response.api_keys.is_empty(), !is_clean);
            assert!(is_clean || response.error_code == ErrorCode::INVALID_REQUEST);
        }
    }
}
