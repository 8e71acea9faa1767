//! DescribeUserScramCredentials: nobody has any, and whoever is named is told so.

use super::Outcome;
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::protocol::messages::describe_user_scram_credentials::DescribeUserScramCredentialsResult;
use crate::kafka::protocol::messages::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{ErrorCode, Message};

// Kafka's words.
const NOT_THERE: (ErrorCode, &str) =
    (ErrorCode::RESOURCE_NOT_FOUND, "Attempt to describe a user credential that does not exist");
const TWICE: (ErrorCode, &str) = (
    ErrorCode::DUPLICATE_RESOURCE,
    "Cannot describe SCRAM credentials for the same user twice in a single request",
);

pub fn handle(
    ctx: &Context<'_>,
    version: i16,
    request: DescribeUserScramCredentialsRequest<'_>,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut names: Vec<&str> = request.users.iter().flatten().map(|user| user.name).collect();
    names.sort_unstable();
    let mut room = ctx.answer_room;
    // Each user once, as in Kafka.
    let told = names.chunk_by(|one, next| one == next).map(|same| {
        let (error_code, why) = if same.len() > 1 { TWICE } else { NOT_THERE };
        let text = errors::message(format_args!("{why}: {}", same[0]));
        // Texts may take many times as much as the names: where there is no room for one, the code says it.
        (same[0], error_code, room.take(text.len()).then_some(text))
    });
    let told: Vec<_> = told.collect();
    let results = told.iter().map(|(user, error_code, text)| DescribeUserScramCredentialsResult {
        user,
        error_code: *error_code,
        error_message: text.as_deref(),
        ..Default::default()
    });
    let response = DescribeUserScramCredentialsResponse { results: results.collect(), ..Default::default() };
    response.encode(out, version);
    Outcome::Reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::handlers::testing::{World, decode};
    use crate::kafka::protocol::messages::describe_user_scram_credentials::UserName;

    type Told = (String, ErrorCode, Option<String>);

    fn ask(world: &World, users: Option<&[&str]>) -> Vec<Told> {
        let users = users.map(|users| users.iter().map(|name| UserName { name }).collect());
        let body = world.reply(0, &DescribeUserScramCredentialsRequest { users });
        let response: DescribeUserScramCredentialsResponse<'_> = decode(&body, 0);
        assert_eq!((response.error_code, response.error_message), (ErrorCode::NONE, None));
        let told = response.results.iter().map(|result| {
            assert!(result.credential_infos.is_empty());
            (result.user.to_owned(), result.error_code, result.error_message.map(str::to_owned))
        });
        told.collect()
    }

    fn told(user: &str, error_code: ErrorCode, text: &str) -> Told {
        (user.to_owned(), error_code, Some(text.to_owned()))
    }

    #[test]
    fn nobody_has_credentials() {
        let world = World::default();
        assert!(ask(&world, None).is_empty());
        assert!(ask(&world, Some(&[])).is_empty());
        let not_there = |user: &str| {
            let text = format!("Attempt to describe a user credential that does not exist: {user}");
            told(user, ErrorCode::RESOURCE_NOT_FOUND, &text)
        };
        assert_eq!(ask(&world, Some(&["u"])), [not_there("u")]);
        assert_eq!(ask(&world, Some(&["u", ""])), [not_there(""), not_there("u")]);
        let text = "Cannot describe SCRAM credentials for the same user twice in a single request: v";
        let twice = told("v", ErrorCode::DUPLICATE_RESOURCE, text);
        assert_eq!(ask(&world, Some(&["v", "u", "v", "v"])), [not_there("u"), twice]);
    }

    #[test]
    fn an_answer_has_room_for_so_many_texts() {
        let mut world = World::default();
        let longest = "x".repeat(i16::MAX as usize);
        let texts = |world: &World| {
            let told = ask(world, Some(&["u", "v", longest.as_str()]));
            assert!(told.iter().all(|(_, code, _)| *code == ErrorCode::RESOURCE_NOT_FOUND));
            told.into_iter().map(|(_, _, text)| text.map(|text| text.len())).collect::<Vec<_>>()
        };
        assert_eq!(texts(&world), [Some(60), Some(60), Some(1024)]);
        world.answer_bytes = 119;
        assert_eq!(texts(&world), [Some(60), None, None]);
    }
}
