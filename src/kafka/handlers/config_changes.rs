//! What the two requests that alter configs share: one says all configs of a resource, the other single
//! ones. Every resource succeeds or fails on its own.
//!
//! Topics' configs change at once, on every shard. The broker's come from its start, and none that has a meaning
//! here can be changed while it runs. Of the others, those that Kafka can change are judged, and then forgotten.

use std::collections::BTreeSet;

use super::replies::Refusal;
use super::{Outcome, Pending, unexpected, wait};
use crate::kafka::broker_configs::{Update, find};
use crate::kafka::context::Context;
use crate::kafka::errors;
use crate::kafka::handlers::describe_configs::broker_named;
use crate::kafka::protocol::messages::alter_configs::AlterConfigsResourceResponse;
use crate::kafka::protocol::messages::describe_configs::resource_type;
use crate::kafka::protocol::wire::Writer;
use crate::kafka::protocol::{Array, ErrorCode};
use crate::metadata::config_def::ConfigError;
use crate::metadata::topic::validate_name;
use crate::metadata::topic_config::{ConfigOp, TopicConfig};
use crate::model::LogId;
use crate::shard::call::{AdminCall, Answer, Call, ConfigChanges};

/// A resource of a request.
pub(super) struct Resource<'a> {
    pub resource_type: i8,
    pub name: &'a str,
    /// What its configs shall be, if that can be understood.
    pub changes: Result<ConfigChanges, Refusal>,
}

/// What became of a request's resources, as both responses say it.
pub(super) type Results<'a> = Array<AlterConfigsResourceResponse<'a>>;

/// Writes the response of one of the two requests, in this version.
type Respond = fn(Results<'_>, &mut Writer<'_>, i16);

/// Asks for the changes of all resources that can be judged, and answers when they are made.
pub(super) fn alter(
    ctx: &Context<'_>,
    version: i16,
    resources: Vec<Resource<'_>>,
    validate_only: bool,
    respond: Respond,
    out: &mut Writer<'_>,
) -> Outcome {
    let mut seen = BTreeSet::new();
    let named = |resource: &Resource<'_>| (resource.resource_type, resource.name.to_owned());
    let twice: BTreeSet<_> = resources.iter().map(named).filter(|name| !seen.insert(name.clone())).collect();

    let mut calls = Vec::new();
    let mut pending = Alterations { version, respond, resources: Vec::new(), asked: Vec::new() };
    for resource in resources {
        let (resource_type, name) = named(&resource);
        let call = if twice.contains(&(resource_type, name.clone())) {
            Err(invalid("the resource is named twice"))
        } else {
            judge(ctx, resource, validate_only)
        };
        let refusal = match call {
            Ok(Some(call)) => {
                pending.asked.push(pending.resources.len());
                calls.push((LogId::METADATA, Call::Admin(call)));
                None
            }
            Ok(None) => None,
            Err(refusal) => Some(refusal),
        };
        pending.resources.push(Altered { resource_type, name, refusal });
    }
    wait(ctx, calls, pending, out)
}

/// What became of a resource.
struct Altered {
    resource_type: i8,
    name: String,
    refusal: Option<Refusal>,
}

/// The resources of a request, in its order, while calls for some are under way.
struct Alterations {
    version: i16,
    respond: Respond,
    resources: Vec<Altered>,
    /// Which of the above call `part` alters.
    asked: Vec<usize>,
}

impl Pending for Alterations {
    fn on_answer(&mut self, part: u32, answer: Answer) -> Vec<(LogId, Call)> {
        let Answer::AlterConfigs(result) = answer else { unexpected(&answer) };
        let refusal =
            result.err().map(|error| Refusal::new(errors::of_admin(&error), errors::message(error)));
        self.resources[self.asked[part as usize]].refusal = refusal;
        Vec::new()
    }

    fn encode(&mut self, _: &Context<'_>, out: &mut Writer<'_>) {
        let results = self.resources.iter().map(|altered| {
            let (error_code, error_message) = Refusal::parts(&altered.refusal);
            let (resource_type, resource_name) = (altered.resource_type, altered.name.as_str());
            AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
        });
        (self.respond)(results.collect(), out, self.version);
    }
}

/// The names of a resource's configs: an error if one is there twice.
pub(super) fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(invalid(errors::message(format_args!("{name:?} is given twice"))));
        }
    }
    Ok(())
}

/// The value of a config that must have one.
pub(super) fn value_of(name: &str, value: Option<&str>) -> Result<String, Refusal> {
    let null = || invalid(errors::message(format_args!("{name:?} has no value")));
    value.map(str::to_owned).ok_or_else(null)
}

pub(super) fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::INVALID_REQUEST, text)
}

/// What to ask the metadata log for; `None` where nothing is to be done.
fn judge(
    ctx: &Context<'_>,
    resource: Resource<'_>,
    validate_only: bool,
) -> Result<Option<AdminCall>, Refusal> {
    let Resource { resource_type, name, changes } = resource;
    let changes = changes?;
    match resource_type {
        resource_type::TOPIC if name.is_empty() => Err(invalid("topics have no defaults of their own")),
        resource_type::TOPIC => match ctx.catalog.topic(name) {
            Some(topic) => Ok(Some(AdminCall::AlterConfigs { topic: topic.id, changes, validate_only })),
            None => Err(match validate_name(name) {
                Err(error) => Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, errors::message(error)),
                // What is wrong by itself is told first, as in Kafka.
                Ok(()) => match of_new_topic(&changes) {
                    Ok(_) => Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such topic"),
                    Err(error) => Refusal::new(ErrorCode::INVALID_CONFIG, errors::message(error)),
                },
            }),
        },
        resource_type::BROKER if !name.is_empty() && broker_named(ctx, name).is_none() => {
            Err(invalid("another broker than this is not known"))
        }
        resource_type::BROKER => check_broker(name, &changes).map(|()| None),
        resource_type::BROKER_LOGGER => {
            Err(invalid("levels of logging are set by telemetry.log, at the start"))
        }
        resource_type::CLIENT_METRICS => Err(invalid("metrics of clients are not collected")),
        resource_type::GROUP => Err(invalid("groups have no configs of their own here")),
        _ => Err(invalid(format!("resource type {resource_type} is not known"))),
    }
}

/// What the changes would make of a topic that has nothing but defaults.
fn of_new_topic(changes: &ConfigChanges) -> Result<TopicConfig, ConfigError> {
    match changes {
        ConfigChanges::Replace(pairs) => {
            TopicConfig::new(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        }
        ConfigChanges::Each(changes) => TopicConfig::default().altered(changes),
    }
}

/// Whether all of that may be set. Nothing of a broker ever was while it ran, so that there is nothing to delete.
fn check_broker(broker: &str, changes: &ConfigChanges) -> Result<(), Refusal> {
    // Name, value, and whether the value is of elements of a list.
    let asked: Vec<(&str, &str, bool)> = match changes {
        ConfigChanges::Replace(pairs) => {
            pairs.iter().map(|(name, value)| (name.as_str(), value.as_str(), false)).collect()
        }
        ConfigChanges::Each(changes) => {
            let set = changes.iter().filter_map(|change| match &change.op {
                ConfigOp::Delete => None,
                ConfigOp::Set(value) => Some((change.name.as_str(), value.as_str(), false)),
                ConfigOp::Append(value) | ConfigOp::Subtract(value) => {
                    Some((change.name.as_str(), value.as_str(), true))
                }
            });
            set.collect()
        }
    };
    check_updates(broker, asked.iter().map(|(name, ..)| *name))?;
    let idle = asked.iter().filter_map(|(name, value, of_list)| Some((find(name)?, value, *of_list)));
    for (config, value, of_list) in idle {
        config.check(value, of_list).map_err(|error| {
            // Kafka says INVALID_CONFIG of a topic's values, and of what is no list.
            let is_no_list = matches!(error, ConfigError::NotAList { .. });
            let code = if is_no_list { ErrorCode::INVALID_CONFIG } else { ErrorCode::INVALID_REQUEST };
            Refusal::new(code, errors::message(error))
        })?;
    }
    Ok(())
}

/// Whether all of these may be set while the broker runs: one, or all when it has no name.
fn check_updates<'a>(broker: &str, names: impl Iterator<Item = &'a str> + Clone) -> Result<(), Refusal> {
    let update = |name| find(name).map_or(Update::Never, |config| config.update);
    let refused = [
        (
            Update::Never,
            "Cannot update these configs dynamically",
            "those that have a meaning here are set in the broker's configuration, for its next start",
        ),
        (
            Update::Listener,
            "These configs can be updated only for one listener, by its prefix",
            "there is no listener here that has them",
        ),
        (Update::Broker, "Cannot update these configs for all brokers", "say which one"),
    ];
    for (kind, what, advice) in refused {
        // What is known of one broker may be set of one.
        if kind == Update::Broker && !broker.is_empty() {
            continue;
        }
        let refused: Vec<&str> = names.clone().filter(|name| update(name) == kind).collect();
        if !refused.is_empty() {
            return Err(invalid(errors::message(format!("{what}: {}; {advice}", refused.join(", ")))));
        }
    }
    Ok(())
}
