//! From options to a driver that is ready: a broker is found, the topics are there, their leader is the
//! one that is loaded, and producers have their ids.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::control::{KafkaControl, Node, connect_any, resolve};
use super::wire::Api;
use super::{KafkaDriver, Shape};
use crate::bench::error::BenchError;
use crate::bench::options::Options;
use crate::bench::payload::Random;
use crate::bench::transport::FRAME_BYTES_MAX;

/// Where the load goes, and what makes it.
///
/// # Errors
/// The broker cannot be reached or does not do what the options need; the topics have leaders on
/// several nodes.
pub fn prepare(options: &Options) -> Result<(SocketAddr, KafkaDriver), BenchError> {
    let (mut address, mut control) = connect_any(&resolve(&options.bootstrap)?)?;
    let topics = options.topics();
    if let Some(leader) = control.prepare(&topics, &options.topic_configs)? {
        (address, control) = follow(address, control, leader)?;
    }
    let producers = if options.idempotent { options.connections } else { 0 };
    if producers > 0 {
        control.require(&[Api::INIT_PRODUCER_ID])?;
    }
    let producer_ids = (0..producers).map(|_| control.producer_id()).collect::<Result<_, _>>()?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let driver = KafkaDriver::new(Shape {
        run: Random(since_epoch.as_nanos() as u64).next(),
        topics,
        acks: options.acks,
        record_bytes: options.record_bytes,
        body: options.body.clone(),
        records: options.records_per_batch,
        keys: options.keys,
        compression: options.compression,
        unpacked_bytes_max: FRAME_BYTES_MAX,
        producer_ids,
        timestamp_ms: since_epoch.as_millis() as i64,
    });
    Ok((address, driver))
}

/// Go to the topics' leader, as a client would, unless it is the one that we are connected to.
fn follow(
    address: SocketAddr,
    control: KafkaControl,
    leader: Node,
) -> Result<(SocketAddr, KafkaControl), BenchError> {
    let node = leader.address;
    let theirs = resolve(&node);
    if theirs.as_ref().is_ok_and(|theirs| theirs.contains(&address)) {
        return Ok((address, control));
    }
    theirs
        .and_then(|theirs| connect_any(&theirs))
        .map_err(|error| BenchError::Leader { node, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sink::{Null, Sink};

    #[test]
    fn the_load_goes_to_the_leader_wherever_it_is() {
        let (asked, leader) =
            (Sink::start(Null::default(), 1, None).unwrap(), Sink::start(Null::default(), 1, None).unwrap());
        let go = |address: String| {
            let control = KafkaControl::connect(asked.address()).unwrap();
            follow(asked.address(), control, Node { id: 2, address }).map(|(address, _)| address)
        };
        assert_eq!(go(leader.address().to_string()).unwrap(), leader.address());
        let accepted = asked.accepted();
        assert_eq!(go(asked.address().to_string()).unwrap(), asked.address());
        assert_eq!(asked.accepted(), accepted + 1, "it stays where it is");
        let error = go("somewhere:99999".to_owned()).unwrap_err().to_string();
        assert!(error.contains("known as somewhere:99999"), "{error}");
    }
}
