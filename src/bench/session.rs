//! One call of `ringmq bench`: a broker, given or our own; a scenario against it; the results on disk.

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::Command;

use super::broker::{Broker, Launch};
use super::environment::Environment;
use super::error::BenchError;
use super::options::Options;
use super::output::{BenchResult, BrokerFacts, Generator, SCHEMA};
use super::report::Report;
use super::scenario::{self, Scenario};
use super::stages;

/// Which broker is loaded.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// One that runs already.
    Given {
        /// HOST:PORT of its Kafka listener.
        bootstrap: String,
        /// HOST:PORT of its admin listener, when it is a RingMQ.
        admin: Option<String>,
        /// What an ack means there, when it does not say so itself.
        durability: Option<String>,
    },
    /// One that is started, and ended and removed afterwards.
    Own(Launch),
}

/// A broker under load.
pub struct Target {
    pub address: String,
    pub admin: Option<SocketAddr>,
    /// Ours, which may be restarted.
    pub own: Option<Broker>,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub endpoint: Endpoint,
    pub scenario: Scenario,
    pub options: Options,
    /// Everything is run so often.
    pub repeat: usize,
    /// As it was typed.
    pub command: Vec<String>,
}

/// Run the scenario. `told` is given every report when its run is over.
///
/// # Errors
/// There is no broker to be loaded. What goes wrong later is in the result, with what was measured
/// until then.
pub fn run(session: &Session, mut told: impl FnMut(&Report)) -> Result<BenchResult, BenchError> {
    let data = match &session.endpoint {
        Endpoint::Own(launch) => Some(launch.dir.path()),
        Endpoint::Given { .. } => None,
    };
    // Before the run: afterwards the load is our own.
    let environment = Environment::read(data);
    let mut target = Target::reach(&session.endpoint)?;
    let broker = target.facts(&session.endpoint);
    let outcome = scenario::run(&session.scenario, session.repeat, &session.options, &mut target, &mut told);
    // The numbers are as good with the data still there: that is said, and nothing else changes.
    let left = target.own.take().and_then(|own| own.discard().err()).map(|error| error.to_string());
    let passed = outcome.complete && !outcome.runs.is_empty() && outcome.judged().all(Report::passed);
    Ok(BenchResult {
        schema: SCHEMA,
        generator: Generator::this(),
        began_unix_ms: outcome.runs.first().map_or(0, |report| report.began_unix_ms),
        command: session.command.clone(),
        scenario: session.scenario.name().to_owned(),
        finding: [outcome.finding, left]
            .into_iter()
            .flatten()
            .reduce(|finding, left| format!("{finding}; {left}")),
        maxima: outcome.maxima,
        environment,
        broker,
        passed,
        runs: outcome.runs,
    })
}

impl Target {
    fn reach(endpoint: &Endpoint) -> Result<Target, BenchError> {
        match endpoint {
            Endpoint::Given { bootstrap, admin, .. } => Ok(Target {
                address: bootstrap.clone(),
                admin: admin.as_deref().map(resolve_admin).transpose()?,
                own: None,
            }),
            Endpoint::Own(launch) => {
                let own = Broker::fresh(launch)?;
                Ok(Target { address: own.address().to_string(), admin: Some(own.admin()), own: Some(own) })
            }
        }
    }

    /// `options`, pointed at this broker.
    pub fn aim(&self, options: &Options) -> Options {
        Options {
            bootstrap: self.address.clone(),
            admin: self.admin,
            broker_pid: self.own.as_ref().map(Broker::pid).or(options.broker_pid),
            ..options.clone()
        }
    }

    fn facts(&self, endpoint: &Endpoint) -> BrokerFacts {
        let info = self.admin.and_then(|admin| stages::get(admin, "/info").ok());
        let info: Option<serde_json::Value> = info.and_then(|text| serde_json::from_str(&text).ok());
        let said = info.as_ref().and_then(|info| info["durability_mode"].as_str());
        let (told, config) = match endpoint {
            Endpoint::Given { durability, .. } => (durability.clone(), self.admin.and_then(config_at)),
            Endpoint::Own(launch) => (None, config_of(launch)),
        };
        let durability = match (told, said) {
            (Some(told), _) => told,
            (None, Some("sync")) => "sync, acks mean on stable storage".to_owned(),
            (None, Some(mode)) => mode.to_owned(),
            (None, None) => "unknown, the endpoint does not say".to_owned(),
        };
        BrokerFacts { endpoint: self.address.clone(), own: self.own.is_some(), durability, info, config }
    }
}

fn resolve_admin(admin: &str) -> Result<SocketAddr, BenchError> {
    let unknown = |reason| BenchError::Address { bootstrap: admin.to_owned(), reason };
    let found = admin.to_socket_addrs().map_err(unknown)?.next();
    found.ok_or_else(|| unknown(std::io::ErrorKind::NotFound.into()))
}

/// What `ringmq config print` says for a broker that is started like this.
fn config_of(launch: &Launch) -> Option<String> {
    let output =
        Command::new(&launch.program).args(["config", "print"]).args(launch.arguments()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What a broker says at its admin address, a key a line; `None` where it does not: another broker, an earlier
/// version.
fn config_at(admin: SocketAddr) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Value {
        name: String,
        value: String,
        origin: String,
    }
    let values: Vec<Value> = serde_json::from_str(&stages::get(admin, "/config").ok()?).ok()?;
    let line = |Value { name, value, origin }: &Value| {
        let setting = format!("{name} = {value}");
        format!("{setting:<56} # {origin}\n")
    };
    Some(values.iter().map(line).collect())
}

/// The name of a result's folder: the time, so that they sort.
pub fn result_name(unix_ms: u64) -> String {
    super::output::utc(unix_ms).replace(" UTC", "").replace(' ', "-").replace(':', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brokers_configuration_is_read_from_its_admin_address() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers = [
            ("200 OK", r#"[{"name":"log.segment_bytes","value":"1GiB","origin":"flag --set"}]"#),
            ("404 Not Found", ""),
            ("200 OK", "pages"),
        ];
        let server = std::thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.extend(byte);
                }
                assert!(request.starts_with(b"GET /config "));
                write!(stream, "HTTP/1.1 {status}\r\n\r\n{body}").unwrap();
            }
        });
        let config = config_at(address).unwrap();
        assert!(
            config.starts_with("log.segment_bytes = 1GiB") && config.ends_with("# flag --set\n"),
            "{config}"
        );
        assert_eq!((config_at(address), config_at(address)), (None, None), "no RingMQ, or an earlier one");
        server.join().unwrap();
    }

    #[test]
    fn result_folders_sort_by_time() {
        assert_eq!(result_name(1_795_263_661_000), "2026-11-21-122101");
    }
}
