//! A small blocking client of the Kafka protocol, for commands that ask a broker a few questions.

use std::fmt;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::kafka::protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use crate::kafka::protocol::{ApiKey, ErrorCode, Message, Reader, ResponseHeader, frame};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A topic with very many partitions takes a while to be made.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest response that is believed; all topics of a large broker are much smaller.
const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// A connection to a broker, one request at a time.
pub struct Client {
    stream: TcpStream,
    bootstrap: String,
    correlation_id: i32,
    /// Key, first and last version of each API of the broker.
    versions: Vec<(i16, i16, i16)>,
    response: Vec<u8>,
}

impl Client {
    /// Connects to the first that answers of `HOST:PORT`, or of several with commas.
    pub fn connect(bootstrap: &str) -> anyhow::Result<Client> {
        let servers = servers(bootstrap)?;
        let mut failures = Vec::new();
        for server in &servers {
            match Client::connect_to(server) {
                Ok(client) => return Ok(client),
                Err(error) if servers.len() == 1 => return Err(error),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        bail!("none of {bootstrap} answers:\n  {}", failures.join("\n  "))
    }

    /// Connects, and asks what the broker speaks.
    pub fn connect_to(bootstrap: &str) -> anyhow::Result<Client> {
        let stream = open(bootstrap).with_context(|| {
            format!("no broker at {bootstrap} (is it running? `ringmq server` starts one, --bootstrap names another)")
        })?;
        let mut client = Client {
            stream,
            bootstrap: bootstrap.to_owned(),
            correlation_id: 0,
            versions: Vec::new(),
            response: Vec::new(),
        };
        let reply: ApiVersionsResponse<'_> = client.exchange(&ApiVersionsRequest::default(), 0)?;
        ensure!(!reply.error_code.is_error(), "ApiVersions: {}", reply.error_code);
        let versions = reply.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version));
        let versions = versions.collect();
        // The reply lies in the client's buffer.
        drop(reply);
        client.versions = versions;
        Ok(client)
    }

    /// Where it is, as it was named.
    pub fn address(&self) -> &str {
        &self.bootstrap
    }

    pub fn has(&self, api: ApiKey) -> bool {
        self.versions.iter().any(|(key, ..)| *key == api.key())
    }

    /// Asks in the latest version that both sides have. `R` is the response of `Q`'s API.
    pub fn ask<'m, 'r, Q: Message<'m>, R: Message<'r>>(&'r mut self, request: &Q) -> anyhow::Result<R> {
        let version = self.version_of(Q::API)?;
        self.exchange(request, version)
    }

    /// Sends a request that is not answered.
    pub fn tell<'m, Q: Message<'m>>(&mut self, request: &Q) -> anyhow::Result<()> {
        let version = self.version_of(Q::API)?;
        self.send(request, version)
    }

    /// Ends the connection, as dropping the client would.
    #[cfg(test)]
    pub fn hang_up(&self) {
        // The broker may have done so before.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    fn version_of(&self, api: ApiKey) -> anyhow::Result<i16> {
        let offered = self.versions.iter().find(|(key, ..)| *key == api.key());
        let Some((_, min, max)) = offered else {
            bail!("the broker at {} has no {}", self.bootstrap, api.name());
        };
        let (ours, version) = (api.versions(), *api.versions().end().min(max));
        ensure!(
            version >= *min && ours.contains(&version),
            "the broker at {} has {} {min} to {max}, this program {ours:?}",
            self.bootstrap,
            api.name()
        );
        Ok(version)
    }

    fn exchange<'m, 'r, Q: Message<'m>, R: Message<'r>>(
        &'r mut self,
        request: &Q,
        version: i16,
    ) -> anyhow::Result<R> {
        assert_eq!(Q::API, R::API, "a response answers its own request");
        let api = Q::API;
        self.send(request, version)?;
        let received = self.receive();
        received.with_context(|| format!("{} request to {}", api.name(), self.bootstrap))?;

        let mut reader = Reader::new(&self.response);
        let decoded = ResponseHeader::decode(&mut reader, api, version).and_then(|header| {
            let response = R::decode(&mut reader, version)?;
            Ok((header, response))
        });
        let (header, response) = decoded.with_context(|| format!("{} response", api.name()))?;
        ensure!(header.correlation_id == self.correlation_id, "{}: a response out of turn", api.name());
        Ok(response)
    }

    fn send<'m, Q: Message<'m>>(&mut self, request: &Q, version: i16) -> anyhow::Result<()> {
        self.correlation_id += 1;
        let mut bytes = Vec::new();
        // A name may be longer than any that the protocol has room for.
        frame::put_request(&mut bytes, version, self.correlation_id, Some("ringmq-cli"), request)
            .with_context(|| format!("{} request", Q::API.name()))?;
        let sent = self.stream.write_all(&bytes);
        sent.with_context(|| format!("{} request to {}", Q::API.name(), self.bootstrap))
    }

    /// Reads one frame, without its length.
    fn receive(&mut self) -> std::io::Result<()> {
        use std::io::{Error, ErrorKind};
        let mut length = [0; frame::LENGTH_BYTES];
        self.stream.read_exact(&mut length)?;
        let speaks = |what| {
            Err(Error::new(ErrorKind::InvalidData, format!("{what}: this is no port for Kafka clients")))
        };
        match &length {
            b"HTTP" => return speaks("it answers in HTTP"),
            // A record of TLS 1: an alert.
            [0x15, 3, ..] => return speaks("it answers in TLS, which is not spoken here"),
            _ => {}
        }
        let length = u32::from_be_bytes(length) as usize;
        if !(frame::RESPONSE_BYTES_MIN..=RESPONSE_BYTES_MAX).contains(&length) {
            return Err(Error::new(
                ErrorKind::InvalidData,
                format!("a response of {length} bytes: is this a Kafka broker?"),
            ));
        }
        self.response.clear();
        // Not an allocation of the announced size: the buffer grows with what comes.
        let received = Read::by_ref(&mut self.stream).take(length as u64).read_to_end(&mut self.response)?;
        if received < length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// The brokers that `HOST:PORT,HOST:PORT` names, one or more.
fn servers(bootstrap: &str) -> anyhow::Result<Vec<&str>> {
    let servers: Vec<&str> =
        bootstrap.split(',').map(str::trim).filter(|server| !server.is_empty()).collect();
    ensure!(
        !servers.is_empty(),
        "--bootstrap names no broker: HOST:PORT is expected, or several with commas"
    );
    for server in &servers {
        let port = match server.rsplit_once(':') {
            // The colons of an address without brackets.
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => None,
            Some((host, port)) if !host.is_empty() => Some(port),
            _ => None,
        };
        let Some(port) = port else {
            bail!(
                "--bootstrap {server:?} has no port: HOST:PORT is expected, such as localhost:9092 or [::1]:9092"
            );
        };
        ensure!(
            port.parse::<u16>().is_ok_and(|port| port > 0),
            "--bootstrap {server:?}: {port:?} is no port, which is a number from 1 to 65535"
        );
    }
    Ok(servers)
}

/// Tries every address that the name stands for.
fn open(bootstrap: &str) -> anyhow::Result<TcpStream> {
    let addresses = bootstrap.to_socket_addrs()?;
    let mut last = anyhow::anyhow!("the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
                stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// The answer to a request about one thing, which is `what`.
pub fn only<'r, T>(answers: &'r [T], what: &str) -> anyhow::Result<&'r T> {
    answers.first().with_context(|| format!("the broker says nothing about {what}"))
}

/// A broker's no: its error code, with its words if it has any.
#[derive(Debug, thiserror::Error)]
pub struct Refused {
    pub code: ErrorCode,
    message: Option<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{message} ({})", self.code),
            None => write!(f, "{}", self.code),
        }
    }
}

/// An error if this is the code of one.
pub fn check(code: ErrorCode, message: Option<&str>) -> anyhow::Result<()> {
    if !code.is_error() {
        return Ok(());
    }
    let message = message.filter(|message| !message.is_empty()).map(str::to_owned);
    Err(Refused { code, message }.into())
}

/// Whether a broker has refused for one of these reasons.
pub fn is_refusal(error: &anyhow::Error, codes: &[ErrorCode]) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| codes.contains(&refused.code))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn one_broker_or_several() {
        assert_eq!(servers("a:1").expect("one"), ["a:1"]);
        assert_eq!(servers(" a:1, [::1]:9092,").expect("two"), ["a:1", "[::1]:9092"]);
        let table = [
            ("", "names no broker"),
            (" , ", "names no broker"),
            ("localhost", "\"localhost\" has no port"),
            ("a:1,b", "\"b\" has no port"),
            ("::1", "has no port"),
            ("[::1]", "has no port"),
            (":9092", "has no port"),
            ("a:", "\"\" is no port"),
            ("a:0", "\"0\" is no port"),
            ("a:99999", "\"99999\" is no port"),
            ("http://a", "\"//a\" is no port"),
        ];
        for (bootstrap, expected) in table {
            let error = servers(bootstrap).expect_err(bootstrap).to_string();
            assert!(error.contains(expected), "{bootstrap}: {error}");
        }
    }

    /// Takes one connection and answers whatever comes with these bytes.
    fn answering(bytes: &'static [u8]) -> (String, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("bound").to_string();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the client connects");
            let mut length = [0; 4];
            stream.read_exact(&mut length).expect("a length");
            // All of it: a connection that ends with bytes unread may take the answer with it.
            let mut question = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut question).expect("a request");
            stream.write_all(bytes).expect("sent");
        });
        (address, thread)
    }

    #[test]
    fn what_is_no_broker_is_told_as_such() {
        let table: [(&[u8], &str); 3] = [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it answers in HTTP: this is no port for Kafka clients"),
            (&[0x15, 3, 3, 0, 2, 2, 70], "it answers in TLS"),
            (b"SSH-2.0-x", "is this a Kafka broker?"),
        ];
        for (bytes, expected) in table {
            let (address, thread) = answering(bytes);
            let error = format!("{:#}", Client::connect(&address).err().expect("no broker"));
            assert!(error.contains(&address) && error.contains(expected), "{error}");
            thread.join().expect("sent");
        }
    }

    #[test]
    fn each_broker_of_a_list_is_tried() {
        // Nobody listens there.
        let free = "127.0.0.1:1";
        let (http, first) = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let nobody = format!("{free},{http}");
        let error = format!("{:#}", Client::connect(&nobody).err().expect("no broker"));
        assert!(error.starts_with(&format!("none of {nobody} answers")), "{error}");
        assert!(error.contains(&format!("no broker at {free}")) && error.contains("in HTTP"), "{error}");
        first.join().expect("sent");
        // ApiVersions 0: correlation id 1, no error, no API.
        let (broker, second) = answering(&[0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        let client = Client::connect(&format!("{free},{broker}")).expect("the second answers");
        assert_eq!(client.address(), broker);
        second.join().expect("sent");
    }
}
