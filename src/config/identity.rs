//! What the keys about who the broker is to its clients must hold, alone and together.

use super::schema::{Kafka, Server};
use super::value::Auto;
use super::{Advertise, Check};

/// Longest name of the domain name system.
const HOST_BYTES_MAX: usize = 253;

/// Node ids are numbered from here; they stay in the protocol's range with all logs that there can be.
const NODE_ID_BASE_MAX: u32 = i32::MAX as u32 - u16::MAX as u32;

pub(super) fn check(check: &mut Check<'_>, server: &Server, kafka: &Kafka) {
    if let Auto::Given(host) = &kafka.advertised_host
        && let Err(why) = check_host(host)
    {
        check.that("kafka.advertised_host", false, why);
    }
    let says_zero = |port: &Auto<u16>| *port == Auto::Given(0);
    let never = "is no port that a client can connect to: give one from 1 to 65535, or auto";
    check.that("kafka.advertised_port", !says_zero(&kafka.advertised_port), never);
    check.that("kafka.advertised_log_base_port", !says_zero(&kafka.advertised_log_base_port), never);
    let by_log = kafka.advertise == Advertise::Log;
    check.that(
        "kafka.advertised_port",
        !by_log || kafka.advertised_port == Auto::Auto,
        "is told to nobody with kafka.advertise = log: set kafka.advertised_log_base_port instead",
    );
    check.that(
        "kafka.advertised_log_base_port",
        by_log || kafka.advertised_log_base_port == Auto::Auto,
        "is told to nobody with kafka.advertise = node: set kafka.advertised_port instead",
    );
    check.that(
        "kafka.advertised_log_base_port",
        kafka.advertised_log_base_port == Auto::Auto || !says_zero(&kafka.log_base_port),
        "cannot stand for ports that are chosen at every start: give kafka.log_base_port, too",
    );
    if let Auto::Given(base) = kafka.log_base_node_id {
        check.range("kafka.log_base_node_id", base, 0, NODE_ID_BASE_MAX);
    }
    if by_log && kafka.log_base_node_id == Auto::Auto {
        let fits = server.broker_id <= NODE_ID_BASE_MAX / NODE_IDS_PER_BROKER;
        check.that("server.broker_id", fits, "is too large to number logs by: give kafka.log_base_node_id");
    }
}

/// Node ids that a broker has for its logs, unless it is told where to begin.
pub const NODE_IDS_PER_BROKER: u32 = 1000;

/// A host that clients can be sent to: a name or an address, without a port.
fn check_host(host: &str) -> Result<(), &'static str> {
    if let Ok(address) = host.parse::<std::net::IpAddr>() {
        let anywhere = address.is_unspecified() || address.is_multicast();
        return if anywhere { Err("is no address that a client can connect to") } else { Ok(()) };
    }
    if host.contains([':', '/', '[', ']']) {
        return Err("must be a host name or an address alone, without port, brackets or protocol");
    }
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if host.len() > HOST_BYTES_MAX || !host.strip_suffix('.').unwrap_or(host).split('.').all(label) {
        return Err("is not a host name: letters, digits, - and _, in parts with dots between them");
    }
    // What looks like an address and is none would be looked up as a name, in vain.
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err("is not an IPv4 address");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_a_client_can_be_sent_to() {
        let good = ["localhost", "b-1.example.com", "broker_1", "example.com.", "10.0.0.1", "::1", "fe80::1"];
        for host in good {
            assert_eq!(check_host(host), Ok(()), "{host}");
        }
        let long = "a".repeat(254);
        let bad = [
            "",
            " ",
            "a b",
            "a..b",
            ".",
            "host:9092",
            "10.0.0.1:9092",
            "[::1]",
            "http://a",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "1.2.3",
            "999.1.1.1",
            "a,b",
            "ä",
            &long,
        ];
        for host in bad {
            assert!(check_host(host).is_err(), "{host}");
        }
    }
}
