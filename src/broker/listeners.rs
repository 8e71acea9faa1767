//! Where Kafka clients reach this broker: the sockets that are bound, and what clients are told of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::config::{Advertise, Auto, Config, HostPort, NODE_IDS_PER_BROKER};
use crate::io::socket::{SocketHandle, listen};
use crate::kafka::identity::{BrokerIdentity, LogNodes};
use crate::model::LogId;

/// A port that is taken is tried again for this long.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(3);

/// Bound, and not served yet.
pub struct Listeners {
    /// The node's own: any request, whichever log it is about.
    pub node: Vec<SocketHandle>,
    /// Those of a data log each.
    pub logs: Vec<(LogId, SocketHandle)>,
    /// Of the first of the node's own.
    pub address: SocketAddr,
    /// Of each data log, from log 1 on; none unless logs are advertised.
    ports: Vec<u16>,
}

impl Listeners {
    /// Bind everything that clients may connect to, for a broker with so many data logs.
    pub fn bind(config: &Config, log_count: u32) -> anyhow::Result<Listeners> {
        let mut node = Vec::new();
        let mut addresses = Vec::new();
        for address in &config.kafka.listen {
            let resolved = resolve(address)?;
            let (socket, bound) = retry_in_use(|| listen(resolved, false))
                .with_context(|| format!("listening on {address} for Kafka clients (--kafka-listen)"))?;
            node.push(socket);
            addresses.push(bound);
        }
        let mut listeners = Listeners { node, logs: Vec::new(), address: addresses[0], ports: Vec::new() };
        if config.kafka.advertise == Advertise::Log {
            let hosts = distinct_hosts(addresses.iter().map(SocketAddr::ip));
            for log in (1..=log_count).map(LogId) {
                listeners.bind_log(config, &hosts, log)?;
            }
        }
        Ok(listeners)
    }

    /// The same port on every host.
    fn bind_log(&mut self, config: &Config, hosts: &[IpAddr], log: LogId) -> anyhow::Result<()> {
        let base = match config.kafka.log_base_port {
            Auto::Given(base) => base,
            Auto::Auto => config.kafka.listen[0].port,
        };
        let mut port = if base == 0 { 0 } else { port_of(base, log, "kafka.log_base_port")? };
        for host in hosts {
            let address = SocketAddr::new(*host, port);
            let (socket, bound) = retry_in_use(|| listen(address, false)).with_context(|| {
                format!("listening on {address} for log {log} (kafka.log_base_port is {base})")
            })?;
            port = bound.port();
            self.logs.push((log, socket));
        }
        self.ports.push(port);
        Ok(())
    }

    /// What clients are told.
    pub fn identity(&self, config: &Config, cluster_id: &str) -> anyhow::Result<BrokerIdentity> {
        let kafka = &config.kafka;
        let logs = match kafka.advertise {
            Advertise::Node => None,
            Advertise::Log => {
                let port = |(log, bound): (u32, &u16)| match kafka.advertised_log_base_port {
                    Auto::Given(base) => port_of(base, LogId(log), "kafka.advertised_log_base_port"),
                    Auto::Auto => Ok(*bound),
                };
                let base = kafka.log_base_node_id.clone();
                let base = base.or_else(|| config.server.broker_id * NODE_IDS_PER_BROKER);
                let ports = (1..).zip(&self.ports).map(port).collect::<anyhow::Result<_>>()?;
                Some(LogNodes { id_base: i32::try_from(base)?, ports })
            }
        };
        Ok(BrokerIdentity {
            node_id: i32::try_from(config.server.broker_id)?,
            host: advertised_host(config, self.address),
            port: kafka.advertised_port.clone().or_else(|| self.address.port()),
            cluster_id: cluster_id.to_owned(),
            logs,
        })
    }
}

/// The port of a log: the base plus the log's number.
fn port_of(base: u16, log: LogId, key: &str) -> anyhow::Result<u16> {
    let port = u16::try_from(u32::from(base) + log.0);
    port.map_err(|_| anyhow!("log {log} has no port: {key} is {base}, and ports end at {}", u16::MAX))
}

/// Hosts to listen on once more, each interface once: one that means all of them takes the others' place.
fn distinct_hosts(hosts: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut hosts: Vec<IpAddr> = hosts.collect();
    hosts.sort_unstable();
    hosts.dedup();
    if hosts.contains(&IpAddr::V6(Ipv6Addr::UNSPECIFIED)) {
        hosts.retain(|host| *host == IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    } else if hosts.contains(&IpAddr::V4(Ipv4Addr::UNSPECIFIED)) {
        hosts.retain(|host| host.is_ipv6() || host.is_unspecified());
    }
    hosts
}

/// What clients are told to connect to.
fn advertised_host(config: &Config, address: SocketAddr) -> String {
    match &config.kafka.advertised_host {
        Auto::Given(host) => host.clone(),
        Auto::Auto if address.ip().is_unspecified() => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned()),
        Auto::Auto => address.ip().to_string(),
    }
}

pub fn resolve(address: &HostPort) -> anyhow::Result<SocketAddr> {
    (address.host.as_str(), address.port)
        .to_socket_addrs()
        .with_context(|| format!("resolving {address}"))?
        .next()
        .with_context(|| format!("{address} has no address"))
}

/// Bind, waiting a little for a broker that was killed: its sockets stay open until the kernel has
/// ended what its rings had under way.
pub fn retry_in_use<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + PREDECESSOR_WAIT;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Assignment, Origin, Sources};

    fn config(settings: &[(&str, &str)]) -> Config {
        let flag = |(name, text): &(&str, &str)| Assignment {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
            origin: Origin::Flag { flag: "--set".to_owned() },
        };
        let flags = settings.iter().map(flag).collect();
        Config::load(&Sources { flags, ..Sources::default() }).expect("a good configuration")
    }

    #[test]
    fn the_node_alone() {
        let config = config(&[("kafka.listen", "127.0.0.1:0"), ("kafka.advertised_port", "19092")]);
        let listeners = Listeners::bind(&config, 3).expect("free ports");
        let identity = listeners.identity(&config, "c").expect("in range");
        assert_eq!((identity.node_id, &*identity.host, identity.port), (1, "127.0.0.1", 19092));
        assert_eq!((identity.logs, listeners.logs.len()), (None, 0));
    }

    #[test]
    fn a_port_for_each_log_and_what_a_router_makes_of_it() {
        let settings = [("kafka.listen", "127.0.0.1:0"), ("kafka.advertise", "log")];
        let by_log = config(&settings);
        let listeners = Listeners::bind(&by_log, 3).expect("free ports");
        let logs = listeners.identity(&by_log, "c").expect("in range").logs.expect("by log");
        assert_eq!(logs.id_base, 1000);
        assert_eq!(logs.ports, listeners.ports, "as bound");
        let numbers: Vec<u32> = listeners.logs.iter().map(|(log, _)| log.0).collect();
        assert_eq!((numbers, logs.ports.len()), (vec![1, 2, 3], 3));

        // The next start takes the same ones, and says which is not free.
        let base = (logs.ports[0] - 1).to_string();
        let fixed = [("kafka.log_base_port", &*base), ("kafka.log_base_node_id", "7")];
        let fixed = config(&[&settings[..], &fixed].concat());
        let Err(error) = Listeners::bind(&fixed, 1) else { panic!("the port is taken") };
        let text = format!("{error:#}");
        assert!(text.contains(&format!("127.0.0.1:{}", logs.ports[0])), "{text}");
        assert!(text.contains("kafka.log_base_port"), "{text}");
        drop(listeners);
        let again = Listeners::bind(&fixed, 1).expect("free again");
        let same = again.identity(&fixed, "c").expect("in range").logs.expect("by log");
        assert_eq!((same.id_base, &same.ports[..]), (7, &logs.ports[..1]));

        let behind = [("kafka.log_base_port", &*base), ("kafka.advertised_log_base_port", "30000")];
        let behind = config(&[&settings[..], &behind].concat());
        let logs = again.identity(&behind, "c").expect("in range").logs.expect("by log");
        assert_eq!(logs.ports, [30001]);
    }

    #[test]
    fn ports_end() {
        let settings =
            [("kafka.listen", "127.0.0.1:0"), ("kafka.advertise", "log"), ("kafka.log_base_port", "65535")];
        let Err(error) = Listeners::bind(&config(&settings), 1) else { panic!("there is no port 65536") };
        assert!(error.to_string().contains("log 1 has no port: kafka.log_base_port is 65535"), "{error}");
    }

    #[test]
    fn each_interface_once() {
        let table: [(&[&str], &[&str]); 4] = [
            (&["127.0.0.1", "10.0.0.1", "127.0.0.1"], &["10.0.0.1", "127.0.0.1"]),
            (&["127.0.0.1", "0.0.0.0"], &["0.0.0.0"]),
            (&["::1", "0.0.0.0", "10.0.0.1"], &["0.0.0.0", "::1"]),
            (&["::", "0.0.0.0", "::1"], &["::"]),
        ];
        let parse = |hosts: &[&str]| -> Vec<IpAddr> {
            hosts.iter().map(|host| host.parse().expect("an address")).collect()
        };
        for (hosts, expected) in table {
            assert_eq!(distinct_hosts(parse(hosts).into_iter()), parse(expected));
        }
    }
}
