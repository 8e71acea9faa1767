//! The admin endpoints: health, metrics, latency. One ordinary thread, one small runtime.
//!
//! The server knows the broker through [`BrokerView`] only, and a shard is never waited for longer
//! than `SNAPSHOT_WAIT`: a hung shard makes `/metrics` fail, not the admin thread.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::sync::oneshot;

use super::connections::{Allowed, Connections};
use super::prometheus;
use crate::io::sched;
use crate::metrics::{ShardSnapshot, merged};
use crate::model::LogId;

/// How long the shards may take to answer. A turn takes well below a millisecond.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(2);

/// How long they may take where health is asked for, by somebody who gives up soon.
const HEALTH_WAIT: Duration = Duration::from_millis(500);

/// How long open admin requests may hold up a stop.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// How old what tools are told of the disk may be.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What the version of the text format is called in HTTP.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the admin thread may know of the broker. Called on the admin thread; nothing may block.
pub trait BrokerView: Send + Sync + 'static {
    fn info(&self) -> BrokerInfo;

    /// Every key, in the order in which `ringmq config print` has them.
    fn config(&self) -> &[ConfigValue];

    /// Notes what space there is, for those who must not ask the kernel. Called every few seconds.
    fn look_at_disk(&self);

    fn health(&self) -> Health;

    /// Asks every shard for its numbers. May take as long as it likes: the caller gives up.
    fn snapshots(&self) -> BoxFuture<'_, Vec<ShardSnapshot>>;

    /// The name of an API key, for labels.
    fn api_name(&self, api_key: i16) -> &'static str;
}

/// What does not change while the broker runs, and the disk.
#[derive(Clone, Debug, Serialize)]
pub struct BrokerInfo {
    pub version: String,
    /// What an ack means: `sync`.
    pub durability_mode: String,
    /// How a block becomes durable: `plain`, `dsync` or `write-sync`.
    pub commit_mode: String,
    /// Blocks in flight at once.
    pub commit_depth: u32,
    /// What is known of the device's cache, in words.
    pub device_class: String,
    /// `plain` commits were asked for where nothing says that the device has no volatile cache: an
    /// acknowledged record may be lost with the power.
    pub durability_at_risk: bool,
    pub shards: u32,
    pub logs: u32,
    /// The brokers that Kafka clients are told of: the node, or one for each data log.
    pub advertised: Vec<Advertised>,
    /// Features of io_uring in use.
    pub ring_features: Vec<String>,
    /// When the process started, in seconds since 1970.
    pub started_unix_seconds: u64,
    /// Now; absent where the file system does not say.
    pub disk: Option<Disk>,
}

/// A broker as Kafka clients know it.
#[derive(Clone, Debug, Serialize)]
pub struct Advertised {
    pub node_id: i32,
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broker {} at {}:{}", self.node_id, self.host, self.port)
    }
}

/// Space on the data directory's file system.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Disk {
    pub free_bytes: u64,
}

/// One key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigValue {
    /// `section.key`.
    pub name: String,
    /// As a file or a flag would have it.
    pub value: String,
    /// Where that came from, in words.
    pub origin: String,
}

/// Whether the broker lives, and whether it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Ready,
    /// Alive, but not serving: recovering, draining. The reason is for people.
    NotReady(String),
    /// Will not serve again without a restart: a shard ended.
    Dead(String),
}

impl Health {
    pub fn is_ready(&self) -> bool {
        matches!(self, Health::Ready)
    }
}

/// The running admin server. Dropping it stops it.
#[derive(Debug)]
pub struct AdminServer {
    local_addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Serves on `listener`, which is bound already, so that a port that is taken is the caller's
    /// error. The thread stays on these CPUs.
    pub fn start(
        listener: TcpListener,
        view: Arc<dyn BrokerView>,
        cpus: Vec<usize>,
    ) -> io::Result<AdminServer> {
        AdminServer::start_allowing(listener, view, cpus, Allowed::DEFAULT)
    }

    fn start_allowing(
        listener: TcpListener,
        view: Arc<dyn BrokerView>,
        cpus: Vec<usize>,
        allowed: Allowed,
    ) -> io::Result<AdminServer> {
        let local_addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connections = {
            let _inside = runtime.enter();
            Connections::new(tokio::net::TcpListener::from_std(listener)?, allowed)
        };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("admin".to_owned()).spawn(move || {
            if let Err(error) = sched::keep_to(&cpus) {
                tracing::warn!(%error, "admin requests are served on any CPU, the shards' too");
            }
            runtime.spawn(look_at_disk(view.clone()));
            runtime.block_on(serve(connections, router(view), stopped));
        })?;
        Ok(AdminServer { local_addr, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens: the port that was taken when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Answers the requests that are open, and ends.
    pub fn stop(self) {}
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error says that the thread has ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin thread panicked");
        }
    }
}

async fn look_at_disk(view: Arc<dyn BrokerView>) {
    let mut times = tokio::time::interval(LOOK_EVERY);
    loop {
        times.tick().await;
        view.look_at_disk();
    }
}

async fn serve(connections: Connections, router: Router, stopped: oneshot::Receiver<()>) {
    let (drain, draining) = oneshot::channel::<()>();
    let server = axum::serve(connections, router).with_graceful_shutdown(async {
        let _ = draining.await;
    });
    let mut server = std::pin::pin!(server.into_future());
    tokio::select! {
        result = &mut server => {
            if let Err(error) = result {
                tracing::error!(%error, "the admin server ended");
            }
            return;
        }
        // The sender's drop means the same as its message.
        _ = stopped => {}
    }
    let _ = drain.send(());
    if tokio::time::timeout(STOP_WAIT, server).await.is_err() {
        tracing::warn!("closing admin connections that did not end");
    }
}

fn router(view: Arc<dyn BrokerView>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/latency", get(latency))
        .route("/info", get(info))
        .route("/config", get(config))
        .with_state(view)
}

type View = State<Arc<dyn BrokerView>>;

async fn index(State(view): View) -> String {
    format!(
        "RingMQ {}\n\n\
         /livez     is the process able to serve\n\
         /readyz    does it serve now; 503 and the reason while not\n\
         /metrics   Prometheus text\n\
         /latency   where produce requests spend their time, JSON in microseconds\n\
         /info      version, durability, device, ring features, JSON\n\
         /config    every key, its value and where that came from, JSON\n",
        view.info().version
    )
}

/// Up while a restart would change nothing, or would take away what can still be done: one log of several
/// may have failed.
async fn livez(State(view): View) -> Response {
    match view.health() {
        Health::NotReady(_) => "ok\n".into_response(),
        Health::Dead(reason) => unavailable(&reason),
        Health::Ready => match Logs::ask(&*view).await {
            Some(logs) if logs.all_failed() => unavailable(&logs.reason()),
            Some(logs) if !logs.failed.is_empty() => format!("ok, but {}\n", logs.reason()).into_response(),
            // Shards that are slow to answer may be so under load: no reason to be killed.
            Some(_) | None => "ok\n".into_response(),
        },
    }
}

async fn readyz(State(view): View) -> Response {
    match view.health() {
        Health::NotReady(reason) | Health::Dead(reason) => unavailable(&reason),
        Health::Ready => match Logs::ask(&*view).await {
            Some(logs) if logs.failed.is_empty() => "ok\n".into_response(),
            Some(logs) => unavailable(&logs.reason()),
            None => unavailable("the shards do not answer"),
        },
    }
}

/// The logs of all shards, as far as health goes.
struct Logs {
    failed: Vec<LogId>,
    /// Logs with partitions that have not.
    good: usize,
}

impl Logs {
    /// `None` if the shards do not answer in time.
    async fn ask(view: &dyn BrokerView) -> Option<Logs> {
        let snapshots = tokio::time::timeout(HEALTH_WAIT, view.snapshots()).await.ok()?;
        let logs = || snapshots.iter().flat_map(|snapshot| &snapshot.logs);
        let mut failed: Vec<LogId> = logs().filter(|log| log.failed).map(|log| log.log).collect();
        failed.sort_unstable();
        let good = logs().filter(|log| !log.failed && log.log != LogId::METADATA).count();
        Some(Logs { failed, good })
    }

    fn all_failed(&self) -> bool {
        self.good == 0 && !self.failed.is_empty()
    }

    fn reason(&self) -> String {
        let names: Vec<String> = self.failed.iter().map(LogId::to_string).collect();
        let (log, names) = (if names.len() == 1 { "log" } else { "logs" }, names.join(", "));
        format!("{log} {names} failed: a write did not succeed, and appends are refused until a restart")
    }
}

async fn metrics(State(view): View) -> Response {
    let Ok(snapshots) = tokio::time::timeout(SNAPSHOT_WAIT, view.snapshots()).await else {
        return unavailable("the shards do not answer");
    };
    let text = prometheus::render(&view.info(), &view.health(), &snapshots, |api_key| view.api_name(api_key));
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response()
}

async fn latency(State(view): View) -> Response {
    match tokio::time::timeout(SNAPSHOT_WAIT, view.snapshots()).await {
        Ok(snapshots) => Json(merged(&snapshots).produce().report()).into_response(),
        Err(_) => unavailable("the shards do not answer"),
    }
}

async fn info(State(view): View) -> Json<BrokerInfo> {
    Json(view.info())
}

async fn config(State(view): View) -> Response {
    Json(view.config()).into_response()
}

fn unavailable(reason: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::Mutex;

    use super::super::prometheus::tests::{parse, sample_info, sample_snapshots};
    use super::*;

    struct FakeBroker {
        health: Mutex<Health>,
        /// Logs that have failed.
        failed: Mutex<Vec<LogId>>,
        config: Vec<ConfigValue>,
    }

    impl BrokerView for FakeBroker {
        fn info(&self) -> BrokerInfo {
            sample_info()
        }

        fn config(&self) -> &[ConfigValue] {
            &self.config
        }

        fn look_at_disk(&self) {}

        fn health(&self) -> Health {
            self.health.lock().expect("no test panics with it").clone()
        }

        fn snapshots(&self) -> BoxFuture<'_, Vec<ShardSnapshot>> {
            let failed = self.failed.lock().expect("no test panics with it").clone();
            let mut snapshots = sample_snapshots();
            for log in snapshots.iter_mut().flat_map(|snapshot| &mut snapshot.logs) {
                log.failed = failed.contains(&log.log);
            }
            Box::pin(async move { snapshots })
        }

        fn api_name(&self, api_key: i16) -> &'static str {
            ["Produce", "Fetch"][api_key as usize]
        }
    }

    /// Status and body of one request on a connection of its own.
    fn get(server: &AdminServer, path: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(server.local_addr()).expect("a listening server");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sent");
        let mut response = String::new();
        socket.read_to_string(&mut response).expect("an answer");
        let (head, body) = response.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    fn start() -> (AdminServer, Arc<FakeBroker>) {
        start_allowing(Allowed::DEFAULT)
    }

    fn start_allowing(allowed: Allowed) -> (AdminServer, Arc<FakeBroker>) {
        let [name, value, origin] = ["log.segment_bytes", "1GiB", "default"].map(str::to_owned);
        let config = vec![ConfigValue { name, value, origin }];
        let broker = FakeBroker { health: Mutex::new(Health::Ready), failed: Mutex::default(), config };
        let broker = Arc::new(broker);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        (
            AdminServer::start_allowing(listener, broker.clone(), Vec::new(), allowed).expect("a server"),
            broker,
        )
    }

    #[test]
    fn health_is_told_with_its_reason() {
        let (server, broker) = start();
        let ok = (200, "ok\n".to_owned());
        let table = [
            (Health::Ready, ok.clone(), ok.clone()),
            (Health::NotReady("recovering".into()), ok.clone(), (503, "recovering\n".into())),
            (
                Health::Dead("log 1 failed".into()),
                (503, "log 1 failed\n".into()),
                (503, "log 1 failed\n".into()),
            ),
        ];
        for (health, live, ready) in table {
            *broker.health.lock().expect("no test panics with it") = health;
            assert_eq!((get(&server, "/livez"), get(&server, "/readyz")), (live, ready));
        }
    }

    #[test]
    fn a_failed_log_is_named() {
        let (server, broker) = start();
        let names = sample_snapshots().into_iter().flat_map(|snapshot| snapshot.logs).map(|log| log.log);
        let names: Vec<LogId> = names.collect();
        assert_eq!(names, [LogId(1), LogId(2)]);
        let failed = |which: &[LogId]| {
            *broker.failed.lock().expect("no test panics with it") = which.to_vec();
            (get(&server, "/livez"), get(&server, "/readyz"))
        };
        let reason = "failed: a write did not succeed, and appends are refused until a restart";
        let (live, ready) = failed(&names[1..]);
        assert_eq!(live, (200, format!("ok, but log 2 {reason}\n")), "the other log is served");
        assert_eq!(ready, (503, format!("log 2 {reason}\n")));
        let (live, ready) = failed(&names);
        assert_eq!(live, (503, format!("logs 1, 2 {reason}\n")));
        assert_eq!(ready.0, 503);
        assert_eq!(failed(&[]), ((200, "ok\n".into()), (200, "ok\n".into())));
    }

    #[test]
    fn metrics_are_well_formed() {
        let (server, _) = start();
        let (status, body) = get(&server, "/metrics");
        assert_eq!(status, 200);
        let samples = parse(&body).expect("well-formed");
        let stages: f64 = samples
            .iter()
            .filter(|(series, _)| series.starts_with("ringmq_produce_stage_seconds_sum"))
            .map(|(_, value)| value)
            .sum();
        let whole = samples["ringmq_produce_seconds_sum"];
        assert!((stages - whole).abs() < whole * 0.05, "{stages} for {whole}");
    }

    #[test]
    fn latency_and_info_are_json_and_the_index_lists_them() {
        let (server, _) = start();
        let json = |path: &str| -> serde_json::Value {
            let (status, body) = get(&server, path);
            assert_eq!(status, 200, "{path}");
            serde_json::from_str(&body).expect("JSON")
        };
        let latency = json("/latency");
        assert_eq!(latency["requests"], 2);
        assert_eq!(latency["tails"][2]["slowest_stage"], "device_write");
        assert_eq!(latency["buckets"][0]["stage_sum_us"]["commit_wait"], 88.0);
        assert_eq!(json("/info")["commit_depth"], 4);
        let key = serde_json::json!({"name": "log.segment_bytes", "value": "1GiB", "origin": "default"});
        assert_eq!(json("/config"), serde_json::json!([key]));
        let (_, index) = get(&server, "/");
        for path in
            index.lines().filter_map(|line| line.split(' ').next()).filter(|word| word.starts_with('/'))
        {
            assert_eq!(get(&server, path).0, 200, "{path}");
        }
        assert_eq!(get(&server, "/nothing").0, 404);
    }

    #[test]
    fn a_stop_ends_idle_connections_and_frees_the_port() {
        let (server, _) = start();
        let address = server.local_addr();
        let mut idle = TcpStream::connect(address).expect("a listening server");
        server.stop();
        assert_eq!(idle.read(&mut [0; 1]).unwrap_or(0), 0, "the connection is closed");
        TcpListener::bind(address).expect("the port is free again");
    }

    #[test]
    fn connections_that_ask_nothing_hold_up_no_request_for_good() {
        let patience = Duration::from_millis(100);
        let (server, _) = start_allowing(Allowed { connections: 2, patience });
        // More than fit at once, and ahead of it.
        let half_open: Vec<TcpStream> = (0..7)
            .map(|index| {
                let mut socket = TcpStream::connect(server.local_addr()).expect("a listening server");
                let head = b"GET /livez HTTP/1.1\r\n";
                socket.write_all(&head[..index]).expect("sent");
                socket
            })
            .collect();
        assert_eq!(get(&server, "/livez"), (200, "ok\n".to_owned()));
        for mut socket in half_open {
            // Whether with a word or without: hyper may say that it was too late.
            let mut said = Vec::new();
            let _ = socket.read_to_end(&mut said);
            assert!(!said.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&said));
        }
    }
}
