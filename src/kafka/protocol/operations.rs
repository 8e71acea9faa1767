//! What whoever asks may do with a resource: a bit for each operation, at its code in access control lists.
//!
//! Without access control that is all that the kind of resource knows, as of a Kafka 4.1 without authorizer.

/// "Not asked for."
pub const OMITTED: i32 = i32::MIN;

const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

pub const ALL_OF_TOPIC: i32 =
    READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
pub const ALL_OF_GROUP: i32 = READ | DELETE | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
pub const ALL_OF_CLUSTER: i32 =
    CREATE | ALTER | DESCRIBE | CLUSTER_ACTION | DESCRIBE_CONFIGS | ALTER_CONFIGS | IDEMPOTENT_WRITE;

pub fn if_asked(is_asked: bool, all: i32) -> i32 {
    if is_asked { all } else { OMITTED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_kafka_4_1_answers() {
        assert_eq!((ALL_OF_TOPIC, ALL_OF_GROUP, ALL_OF_CLUSTER), (3576, 3400, 8096));
    }
}
