//! DescribeClientQuotas: there are none, but a filter that makes no sense is told so.

use std::collections::BTreeSet;

use super::Outcome;
use super::replies::Refusal;
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::describe_client_quotas::{ComponentData, match_type};
use crate::kafka::protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{Array, ErrorCode, Message};

/// The types of entities that Kafka knows.
const TYPES: [&str; 3] = ["user", "client-id", IP];
const IP: &str = "ip";

pub fn handle(
    _: &Context<'_>,
    version: i16,
    request: DescribeClientQuotasRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let refusal = check(&request.components).err();
    let (error_code, error_message) = Refusal::parts(&refusal);
    let entries = refusal.is_none().then(Array::new);
    let response = DescribeClientQuotasResponse { error_code, error_message, entries, ..Default::default() };
    response.encode(out, version);
    Outcome::Reply
}

fn check(components: &[ComponentData<'_>]) -> Result<(), Refusal> {
    let invalid = |text: &str| Err(Refusal::new(ErrorCode::INVALID_REQUEST, text));
    let mut seen = BTreeSet::new();
    for component in components {
        if component.entity_type.is_empty() {
            return invalid("an entity has a type");
        }
        if !TYPES.contains(&component.entity_type) {
            let text = format_args!("entity type {:?} is not known", component.entity_type);
            return Err(Refusal::new(ErrorCode::UNSUPPORTED_VERSION, errors::message(text)));
        }
        if !seen.insert(component.entity_type) {
            return invalid("an entity type is there twice");
        }
        match (component.match_type, component._match) {
            (match_type::EXACT, Some(_)) | (match_type::DEFAULT | match_type::SPECIFIED, None) => {}
            (match_type::EXACT, None) => return invalid("an exact match needs a name"),
            (match_type::DEFAULT | match_type::SPECIFIED, Some(_)) => {
                return invalid("only an exact match has a name");
            }
            _ => return invalid("the type of match is not known"),
        }
    }
    if seen.contains(IP) && seen.len() > 1 {
        return invalid("addresses are not limited together with users or clients");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};

    #[test]
    fn filters() {
        use match_type::{DEFAULT, EXACT, SPECIFIED};
        let (none, invalid) = (ErrorCode::NONE, ErrorCode::INVALID_REQUEST);
        let longest = "x".repeat(i16::MAX as usize);
        type Component<'a> = (&'a str, i8, Option<&'a str>);
        let table: [(&[Component<'_>], ErrorCode); 14] = [
            (&[], none),
            (&[("user", EXACT, Some("u")), ("client-id", DEFAULT, None)], none),
            (&[("ip", SPECIFIED, None)], none),
            (&[("user", EXACT, Some(""))], none),
            (&[("", EXACT, Some("u"))], invalid),
            (&[("group", EXACT, Some("g"))], ErrorCode::UNSUPPORTED_VERSION),
            (&[(&longest, EXACT, Some("g"))], ErrorCode::UNSUPPORTED_VERSION),
            (&[("user", EXACT, Some("a")), ("user", DEFAULT, None)], invalid),
            (&[("user", EXACT, None)], invalid),
            (&[("user", DEFAULT, Some("a"))], invalid),
            (&[("user", SPECIFIED, Some("a"))], invalid),
            (&[("user", 3, None)], invalid),
            (&[("user", -1, None)], invalid),
            (&[("ip", EXACT, Some("10.0.0.7")), ("user", DEFAULT, None)], invalid),
        ];
        for (components, expected) in table {
            let components = components.iter().map(|(entity_type, match_type, name)| ComponentData {
                entity_type,
                match_type: *match_type,
                _match: *name,
            });
            let request = DescribeClientQuotasRequest { components: components.collect(), strict: true };
            for version in 0..=1 {
                let body = World::default().reply(version, &request);
                let response: DescribeClientQuotasResponse<'_> = decode(&body, version);
                assert_eq!(response.error_code, expected, "{request:.100?}");
                assert_eq!(response.error_message.is_some(), expected.is_error());
                assert_eq!(response.entries, (!expected.is_error()).then(Array::new));
            }
        }
    }
}
