//! What tests of groups, and of those above them, begin with.

use std::time::Duration;

use bytes::Bytes;

use super::{GroupRules, JoinCall};

/// Small ones; tests about a limit set it.
pub const RULES: GroupRules = GroupRules {
    session_min: Duration::from_secs(6),
    session_max: Duration::from_secs(1800),
    initial_delay: Duration::from_secs(3),
    members_max: 100,
    bytes_max: 16 << 10,
    total_bytes_max: 64 << 10,
};

/// Of somebody new, who knows one way to assign.
pub fn join() -> JoinCall {
    JoinCall {
        member: String::new(),
        instance: None,
        client_id: "client".into(),
        client_host: "/10.0.0.1".into(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(60),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"topics"))],
        needs_id: false,
        can_skip: false,
    }
}
