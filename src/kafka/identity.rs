//! Who this broker is, to its clients: one node, or one node for each of its data logs.
//!
//! With `advertise = "log"` a client sees as many brokers as there are data logs. Each leads the partitions
//! of its log and coordinates its groups, and its port belongs to the shard that hosts the log, so that
//! clients come to the core that has what they want. Numbers and ports follow from the log's, which never
//! changes: neither a restart nor another number of shards moves an identity.
//!
//! What is asked at another identity's port is done all the same, by mail: being at the right one is a
//! matter of speed, never of success.

use crate::model::LogId;

/// A broker as clients know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    pub id: i32,
    /// What clients can resolve; not what the listener is bound to.
    pub host: &'a str,
    pub port: u16,
}

/// The identity of each data log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogNodes {
    /// Log `n` is node `id_base + n`.
    pub id_base: i32,
    /// Where clients reach each log, from log 1 on.
    pub ports: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerIdentity {
    /// The node itself: what clients are told of unless each log has an identity.
    pub node_id: i32,
    pub host: String,
    pub port: u16,
    /// The same for the life of the data directory.
    pub cluster_id: String,
    /// `None` where the node is the only identity.
    pub logs: Option<LogNodes>,
}

impl BrokerIdentity {
    fn node(&self) -> Node<'_> {
        Node { id: self.node_id, host: &self.host, port: self.port }
    }

    /// The logs that are nodes of their own; none if the node is the only identity.
    pub fn log_nodes(&self) -> impl Iterator<Item = (LogId, Node<'_>)> {
        self.logs.iter().flat_map(move |logs| {
            let node = move |(log, port): (u32, &u16)| {
                (LogId(log), Node { id: logs.id_base + log as i32, host: &self.host, port: *port })
            };
            (1..).zip(&logs.ports).map(node)
        })
    }

    /// The brokers that clients are told of.
    pub fn advertised(&self) -> impl Iterator<Item = Node<'_>> {
        let node = self.logs.is_none().then(|| self.node());
        node.into_iter().chain(self.log_nodes().map(|(_, node)| node))
    }

    /// Who leads a log's partitions and coordinates its groups.
    pub fn of_log(&self, log: LogId) -> Node<'_> {
        let own = self.logs.as_ref().and_then(|logs| {
            let port = *logs.ports.get(usize::try_from(log.0.checked_sub(1)?).ok()?)?;
            Some(Node { id: logs.id_base + log.0 as i32, host: &self.host, port })
        });
        own.unwrap_or_else(|| self.node())
    }

    /// Who does administration. One of those that are advertised: the first log's shard has the metadata
    /// log, too, whatever the number of shards.
    pub fn controller(&self) -> Node<'_> {
        self.of_log(LogId(1))
    }

    /// The identity with this number. The node itself always has one, advertised or not.
    pub fn find(&self, id: i32) -> Option<Node<'_>> {
        self.advertised().chain([self.node()]).find(|node| node.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(logs: Option<LogNodes>) -> BrokerIdentity {
        BrokerIdentity { node_id: 1, host: "h".into(), port: 9092, cluster_id: "c".into(), logs }
    }

    fn ids<'a>(nodes: impl Iterator<Item = Node<'a>>) -> Vec<(i32, u16)> {
        nodes.map(|node| (node.id, node.port)).collect()
    }

    #[test]
    fn one_node_leads_every_log() {
        let broker = identity(None);
        assert_eq!(ids(broker.advertised()), [(1, 9092)]);
        for log in 0..5 {
            assert_eq!(broker.of_log(LogId(log)).id, 1);
        }
        assert_eq!(broker.controller().id, 1);
        assert_eq!((broker.find(1).is_some(), broker.find(1001)), (true, None));
    }

    #[test]
    fn each_log_is_a_node() {
        let broker = identity(Some(LogNodes { id_base: 1000, ports: vec![9093, 9094, 9095] }));
        assert_eq!(ids(broker.advertised()), [(1001, 9093), (1002, 9094), (1003, 9095)]);
        assert_eq!(ids((1..=3).map(|log| broker.of_log(LogId(log)))), ids(broker.advertised()));
        assert!(broker.advertised().any(|node| node == broker.controller()));
        assert_eq!(broker.find(1003).map(|node| node.port), Some(9095));
        assert_eq!(broker.find(1).map(|node| node.port), Some(9092), "known, though nobody is told of it");
        assert_eq!(broker.find(1004), None);
    }
}
