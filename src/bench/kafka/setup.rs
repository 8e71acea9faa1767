//! From options to a driver that is ready: a broker is found, the topics are there, their leaders can be
//! reached, and producers have their ids.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::control::{Metadata, connect_any, follow, resolve};
use super::wire::Api;
use super::{KafkaDriver, Shape};
use crate::bench::driver::Malformed;
use crate::bench::error::BenchError;
use crate::bench::leaders::Leaders;
use crate::bench::options::Options;
use crate::bench::payload::Random;
use crate::bench::transport::FRAME_BYTES_MAX;

/// Where the load goes, and what makes it.
///
/// # Errors
/// The broker or a leader of a partition cannot be reached, or does not do what the options need.
pub fn prepare(options: &Options) -> Result<(Leaders, KafkaDriver), BenchError> {
    let (address, mut control) = connect_any(&resolve(&options.bootstrap)?)?;
    let topics = options.topics();
    let metadata = control.prepare(&topics, &options.topic_configs)?;
    let leaders = reach(address, &metadata)?;
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
        several_nodes: metadata.nodes.len() > 1,
    });
    Ok((leaders, driver))
}

/// Where each leader is reached from here, as by a client.
fn reach(asked: SocketAddr, metadata: &Metadata) -> Result<Leaders, BenchError> {
    let Metadata { nodes, leaders } = metadata;
    let mut reached = BTreeMap::new();
    for leader in leaders {
        // A single node is the one that was asked, whatever it calls itself.
        if nodes.len() > 1 && !reached.contains_key(leader) {
            let node = nodes.iter().find(|node| node.id == *leader);
            let node = node.ok_or(Malformed("a leader that is none of the cluster's brokers"))?;
            let theirs = follow(asked, "a partition's leader", &node.address)?;
            reached.insert(*leader, theirs.map_or(asked, |(address, _)| address));
        }
    }
    let led_at = leaders.iter().map(|leader| reached.get(leader).copied().unwrap_or(asked));
    Ok(Leaders::new(&led_at.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::super::control::Node;
    use super::*;
    use crate::bench::sink::{Null, Sink};

    #[test]
    fn the_load_goes_to_the_leaders_wherever_they_are() {
        let (asked, other) =
            (Sink::start(Null::default(), 1, None).unwrap(), Sink::start(Null::default(), 1, None).unwrap());
        let go = |nodes: &[(i32, &str)], leaders: &[i32]| {
            let node = |&(id, address): &(i32, &str)| Node { id, address: address.to_owned() };
            let nodes = nodes.iter().map(node).collect();
            reach(asked.address(), &Metadata { nodes, leaders: leaders.to_vec() })
        };
        let (one, two) = (asked.address().to_string(), other.address().to_string());
        let nodes = [(1, one.as_str()), (2, two.as_str()), (3, "somewhere:99999")];
        assert_eq!(go(&nodes, &[2, 2]).unwrap(), Leaders::new(&[other.address(); 2]));
        let both = [asked.address(), other.address(), asked.address()];
        let accepted = asked.accepted();
        assert_eq!(go(&nodes, &[1, 2, 1]).unwrap(), Leaders::new(&both));
        // The only node is the one that was asked, wherever it says it can be reached.
        assert_eq!(go(&nodes[2..], &[3, 3]).unwrap(), Leaders::new(&[asked.address(); 2]));
        assert_eq!(asked.accepted(), accepted, "it is connected already");
        let error = go(&nodes, &[1, 3]).unwrap_err().to_string();
        assert!(error.contains("known as somewhere:99999"), "{error}");
        assert!(matches!(go(&nodes, &[1, 4]), Err(BenchError::Malformed(_))));
    }
}
