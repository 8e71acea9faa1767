//! What holds of a config: a topic's own value, the broker's, or a default; and where that comes from.

use crate::kafka::broker_configs::{self, IdleConfig};
use crate::kafka::context::Context;
use crate::kafka::protocol::messages::describe_configs::{
    DescribeConfigsSynonym, config_source, config_type,
};
use crate::kafka::settings::BrokerConfig;
use crate::metadata::config_def::{ConfigDef, Effect};
use crate::metadata::config_kind::ConfigKind;
use crate::metadata::topic_config::ConfigValue;

/// A config of the broker, of those that have a meaning and those that do nothing alike.
#[derive(Clone, Copy)]
pub(super) struct BrokerValue<'a> {
    pub name: &'static str,
    /// One of `config_type`, as the protocol numbers them.
    pub kind: i8,
    pub value: Option<&'a str>,
    default: Option<&'a str>,
    deputy: Option<(&'static str, &'static str)>,
    is_set: bool,
    pub read_only: bool,
    pub doc: &'static str,
}

impl<'a> From<&'a BrokerConfig> for BrokerValue<'a> {
    fn from(config: &'a BrokerConfig) -> BrokerValue<'a> {
        BrokerValue {
            name: config.name,
            kind: config.kind,
            value: config.value.as_deref(),
            default: config.default.as_deref(),
            deputy: config.deputy,
            is_set: config.is_set,
            read_only: true,
            doc: config.doc,
        }
    }
}

impl From<&'static IdleConfig> for BrokerValue<'_> {
    /// It has Kafka's default, whatever it was set to.
    fn from(config: &'static IdleConfig) -> Self {
        BrokerValue {
            name: config.name,
            kind: type_of(config.kind),
            value: config.default,
            default: config.default,
            deputy: None,
            is_set: false,
            read_only: !config.update.is_allowed(),
            doc: config.doc,
        }
    }
}

impl<'a> BrokerValue<'a> {
    pub fn source(&self) -> i8 {
        if self.is_set { config_source::STATIC_BROKER } else { config_source::DEFAULT }
    }

    /// As in Kafka what has no value is none, and a deputy comes behind a value only.
    pub fn synonyms(&self) -> impl Iterator<Item = DescribeConfigsSynonym<'a>> + use<'a> {
        let synonym = |name, value, source| DescribeConfigsSynonym { name, value: Some(value), source };
        let set = self.value.filter(|_| self.is_set);
        let set = set.map(|value| synonym(self.name, value, config_source::STATIC_BROKER));
        let default = self.default.map(|value| synonym(self.name, value, config_source::DEFAULT));
        let deputy = self.deputy.filter(|_| self.is_set);
        let deputy = deputy.map(|(name, value)| synonym(name, value, config_source::DEFAULT));
        set.into_iter().chain(default).chain(deputy)
    }
}

/// The broker's config that holds for topics which say nothing.
pub(super) fn fallback<'c>(ctx: &Context<'c>, def: &ConfigDef) -> Option<BrokerValue<'c>> {
    let name = def.broker?;
    let described: &'c [BrokerConfig] = &ctx.settings.described;
    match described.binary_search_by_key(&name, |config| config.name) {
        Ok(at) => Some((&described[at]).into()),
        Err(_) => broker_configs::find(name).map(BrokerValue::from),
    }
}

/// The value of a topic's config that holds, and its source, as the protocol numbers it.
pub(super) fn effective<'c>(ctx: &Context<'c>, config: &ConfigValue<'c>) -> (&'c str, i8) {
    holds(config, fallback(ctx, config.def))
}

/// The same, where the broker's is known already.
pub(super) fn holds<'c>(config: &ConfigValue<'c>, fallback: Option<BrokerValue<'c>>) -> (&'c str, i8) {
    if config.overridden {
        return (config.value, config_source::DYNAMIC_TOPIC);
    }
    let from_broker = fallback.and_then(|broker| Some((broker.value?, broker.source())));
    from_broker.unwrap_or((config.value, config_source::DEFAULT))
}

/// Whether only the default is accepted.
pub(super) fn is_read_only(config: &ConfigValue<'_>) -> bool {
    matches!(config.def.effect, Effect::Refused(_))
}

/// The number of its type in the protocol.
pub(crate) fn type_of(kind: ConfigKind) -> i8 {
    match kind {
        ConfigKind::Boolean => config_type::BOOLEAN,
        ConfigKind::Short { .. } => config_type::SHORT,
        ConfigKind::Int { .. } | ConfigKind::IntIn(_) => config_type::INT,
        ConfigKind::Long { .. } => config_type::LONG,
        ConfigKind::Double | ConfigKind::Ratio => config_type::DOUBLE,
        ConfigKind::Choice(_) | ConfigKind::Text => config_type::STRING,
        ConfigKind::List => config_type::LIST,
        ConfigKind::Class => config_type::CLASS,
        ConfigKind::Password => config_type::PASSWORD,
    }
}
