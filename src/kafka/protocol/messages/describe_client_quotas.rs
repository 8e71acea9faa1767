//! DescribeClientQuotas: limits of users, clients and addresses.

use crate::kafka::protocol::error_code::ErrorCode;
use crate::kafka::protocol::schema::{Array, message};

/// How a component of the filter fits an entity.
pub mod match_type {
    /// The entity of that name.
    pub const EXACT: i8 = 0;
    /// The default of all entities of the type.
    pub const DEFAULT: i8 = 1;
    /// Any that is named.
    pub const SPECIFIED: i8 = 2;
}

message! {
    /// Asks for the quotas that a filter lets pass.
    pub struct DescribeClientQuotasRequest<'a> {
        components: Array<ComponentData<'a>>, 0+;
        /// Entities with further types do not fit.
        strict: bool, 0+;
    }

    /// A part of the filter.
    pub struct ComponentData<'a> {
        entity_type: &'a str, 0+;
        /// One of [`match_type`].
        match_type: i8, 0+;
        /// Kafka's `match`, which is a word of Rust.
        _match: Option<&'a str>, 0+;
    }

    /// The quotas.
    pub struct DescribeClientQuotasResponse<'a> {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<&'a str>, 0+;
        /// Null with an error.
        entries: Option<Array<EntryData<'a>>>, 0+;
    }

    /// The quotas of an entity.
    pub struct EntryData<'a> {
        entity: Array<EntityData<'a>>, 0+;
        values: Array<ValueData<'a>>, 0+;
    }

    /// A part of an entity's name.
    pub struct EntityData<'a> {
        entity_type: &'a str, 0+;
        /// Null for the default.
        entity_name: Option<&'a str>, 0+;
    }

    /// A limit.
    pub struct ValueData<'a> {
        key: &'a str, 0+;
        value: f64, 0+;
    }
}
