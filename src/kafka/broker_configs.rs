//! The broker configs of Apache Kafka 4.1 that do nothing here.
//!
//! Kafka's tools list, copy and compare every config that a broker of Kafka has, so all are known. Those that
//! have a meaning here are told with their true values by `broker::kafka_configs`, the others are in this table:
//! with Kafka's default, and why it says nothing. What Kafka can change of them while it runs is accepted, if it
//! is such a value, and not kept: there is nothing that would look at it.

use crate::metadata::config_def::{ConfigError, no_effect};
use crate::metadata::config_kind::{ConfigKind, GZIP_LEVEL, LZ4_LEVEL, ZSTD_LEVEL};

/// One config without effect.
#[derive(Debug)]
pub struct IdleConfig {
    pub name: &'static str,
    pub kind: ConfigKind,
    /// Kafka's; `None` for none.
    pub default: Option<&'static str>,
    pub update: Update,
    pub doc: &'static str,
}

/// How Kafka lets a config be changed while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    Never,
    /// Of one listener, by a name that begins with the listener's.
    Listener,
    /// Of one broker.
    Broker,
    /// Of one broker or of all.
    Cluster,
}

impl Update {
    /// Whether it can be set here: there are no listeners with names.
    pub fn is_allowed(self) -> bool {
        matches!(self, Update::Broker | Update::Cluster)
    }
}

impl IdleConfig {
    /// Whether that may be set, or, `of_list`, appended or subtracted.
    pub fn check(&self, value: &str, of_list: bool) -> Result<(), ConfigError> {
        if of_list && self.kind != ConfigKind::List {
            return Err(ConfigError::NotAList { name: self.name });
        }
        self.kind.check(value.trim()).map_err(|expected| ConfigError::Invalid {
            name: self.name,
            value: value.to_owned(),
            expected,
        })
    }
}

/// The config with this name, if it is one that does nothing.
pub fn find(name: &str) -> Option<&'static IdleConfig> {
    IDLE.binary_search_by_key(&name, |config| config.name).ok().map(|index| &IDLE[index])
}

const AGE: &str = no_effect!("log.retention.ms says it.");
const AUTH: &str = no_effect!("There is no authentication yet.");
const CODECS: &str = no_effect!("Batches are stored as producers compressed them.");
const COMPACTION: &str = no_effect!("There is no compaction yet.");
const CONTROLLERS: &str = no_effect!("There are no controllers.");
const GROUPS: &str = no_effect!("Groups are of the classic protocol, and live in the data logs.");
const LISTENERS: &str = no_effect!("Listeners have no names here.");
const LOG: &str = no_effect!("Partitions share the log and its segments.");
const METRICS: &str = no_effect!("Metrics are served by admin.listen.");
const OFFSETS: &str = no_effect!("Committed offsets live in the data logs.");
const POLICIES: &str = no_effect!("There are no classes of Java that could be asked.");
const QUOTAS: &str = no_effect!("There are no quotas.");
const REPLICAS: &str = no_effect!("There is one replica of each partition.");
const SESSIONS: &str = no_effect!("Fetch sessions have their memory in kafka.fetch_session_bytes_max.");
const SHARE: &str = no_effect!("There are no share groups.");
const SOCKETS: &str = no_effect!("Sockets have the buffers that the kernel gives them.");
const THREADS: &str = no_effect!("Shards do all work: one thread for each core.");
const TIERS: &str = no_effect!("There is no remote storage.");
const TLS: &str = no_effect!("There is no TLS yet.");
const TXN: &str = no_effect!("There are no transactions yet.");

/// By name.
pub static IDLE: &[IdleConfig] = {
    use ConfigKind::{Boolean, Class, Double, Int, List, Long, Password, Ratio, Short, Text};
    use Update::{Broker, Cluster, Listener, Never};
    const fn idle(
        name: &'static str,
        kind: ConfigKind,
        default: &'static str,
        update: Update,
        doc: &'static str,
    ) -> IdleConfig {
        IdleConfig { name, kind, default: Some(default), update, doc }
    }
    const fn null(name: &'static str, kind: ConfigKind, update: Update, doc: &'static str) -> IdleConfig {
        IdleConfig { name, kind, default: None, update, doc }
    }
    #[rustfmt::skip]
    let configs = &[
        idle("add.partitions.to.txn.retry.backoff.max.ms", Int { min: 0 }, "100", Never, TXN),
        idle("add.partitions.to.txn.retry.backoff.ms", Int { min: 1 }, "20", Never, TXN),
        null("alter.config.policy.class.name", Class, Never, POLICIES),
        idle("alter.log.dirs.replication.quota.window.num", Int { min: 1 }, "11", Never, QUOTAS),
        idle("alter.log.dirs.replication.quota.window.size.seconds", Int { min: 1 }, "1", Never, QUOTAS),
        idle("authorizer.class.name", Text, "", Never, AUTH),
        idle("auto.leader.rebalance.enable", Boolean, "true", Never, REPLICAS),
        idle("background.threads", Int { min: 1 }, "10", Cluster, THREADS),
        idle("broker.heartbeat.interval.ms", Int { min: i32::MIN }, "2000", Never, CONTROLLERS),
        null("broker.rack", Text, Never, REPLICAS),
        idle("broker.session.timeout.ms", Int { min: i32::MIN }, "9000", Never, CONTROLLERS),
        null("client.quota.callback.class", Class, Never, QUOTAS),
        idle("compression.gzip.level", GZIP_LEVEL, "-1", Cluster, CODECS),
        idle("compression.lz4.level", LZ4_LEVEL, "9", Cluster, CODECS),
        idle("compression.zstd.level", ZSTD_LEVEL, "3", Cluster, CODECS),
        idle("connection.failed.authentication.delay.ms", Int { min: 0 }, "100", Never, AUTH),
        idle("connections.max.reauth.ms", Long { min: i64::MIN }, "0", Never, AUTH),
        idle("controlled.shutdown.enable", Boolean, "true", Never, CONTROLLERS),
        null("controller.listener.names", Text, Never, CONTROLLERS),
        idle("controller.quorum.append.linger.ms", Int { min: 0 }, "25", Never, CONTROLLERS),
        idle("controller.quorum.bootstrap.servers", List, "", Never, CONTROLLERS),
        idle("controller.quorum.election.backoff.max.ms", Int { min: 0 }, "1000", Never, CONTROLLERS),
        idle("controller.quorum.election.timeout.ms", Int { min: 0 }, "1000", Never, CONTROLLERS),
        idle("controller.quorum.fetch.timeout.ms", Int { min: 0 }, "2000", Never, CONTROLLERS),
        idle("controller.quorum.request.timeout.ms", Int { min: 0 }, "2000", Never, CONTROLLERS),
        idle("controller.quorum.retry.backoff.ms", Int { min: 0 }, "20", Never, CONTROLLERS),
        idle("controller.quorum.voters", List, "", Never, CONTROLLERS),
        idle("controller.quota.window.num", Int { min: 1 }, "11", Never, QUOTAS),
        idle("controller.quota.window.size.seconds", Int { min: 1 }, "1", Never, QUOTAS),
        idle("controller.socket.timeout.ms", Int { min: i32::MIN }, "30000", Never, CONTROLLERS),
        null("create.topic.policy.class.name", Class, Never, POLICIES),
        idle("delegation.token.expiry.check.interval.ms", Long { min: 1 }, "3600000", Never, AUTH),
        idle("delegation.token.expiry.time.ms", Long { min: 1 }, "86400000", Never, AUTH),
        idle("delegation.token.max.lifetime.ms", Long { min: 1 }, "604800000", Never, AUTH),
        null("delegation.token.secret.key", Password, Never, AUTH),
        idle("delete.records.purgatory.purge.interval.requests", Int { min: i32::MIN }, "1", Never, THREADS),
        null("early.start.listeners", Text, Never, AUTH),
        idle("fetch.purgatory.purge.interval.requests", Int { min: i32::MIN }, "1000", Never, THREADS),
        idle("group.consumer.assignors", List, "uniform,range", Never, GROUPS),
        idle("group.consumer.heartbeat.interval.ms", Int { min: 1 }, "5000", Never, GROUPS),
        idle("group.consumer.max.heartbeat.interval.ms", Int { min: 1 }, "15000", Never, GROUPS),
        idle("group.consumer.max.session.timeout.ms", Int { min: 1 }, "60000", Never, GROUPS),
        idle("group.consumer.max.size", Int { min: 1 }, "2147483647", Never, GROUPS),
        idle("group.consumer.migration.policy", Text, "bidirectional", Never, GROUPS),
        idle("group.consumer.min.heartbeat.interval.ms", Int { min: 1 }, "5000", Never, GROUPS),
        idle("group.consumer.min.session.timeout.ms", Int { min: 1 }, "45000", Never, GROUPS),
        idle("group.consumer.session.timeout.ms", Int { min: 1 }, "45000", Never, GROUPS),
        idle("group.coordinator.append.linger.ms", Int { min: 0 }, "5", Never, GROUPS),
        idle("group.coordinator.threads", Int { min: 1 }, "4", Never, GROUPS),
        idle("group.share.assignors", List, "simple", Never, SHARE),
        idle("group.share.delivery.count.limit", Int { min: 2 }, "5", Never, SHARE),
        idle("group.share.heartbeat.interval.ms", Int { min: 1 }, "5000", Never, SHARE),
        idle("group.share.max.heartbeat.interval.ms", Int { min: 1 }, "15000", Never, SHARE),
        idle("group.share.max.record.lock.duration.ms", Int { min: 30000 }, "60000", Never, SHARE),
        idle("group.share.max.session.timeout.ms", Int { min: 1 }, "60000", Never, SHARE),
        idle("group.share.max.share.sessions", Int { min: 1 }, "2000", Never, SHARE),
        idle("group.share.max.size", Int { min: 1 }, "200", Never, SHARE),
        idle("group.share.min.heartbeat.interval.ms", Int { min: 1 }, "5000", Never, SHARE),
        idle("group.share.min.record.lock.duration.ms", Int { min: 1000 }, "15000", Never, SHARE),
        idle("group.share.min.session.timeout.ms", Int { min: 1 }, "45000", Never, SHARE),
        idle("group.share.partition.max.record.locks", Int { min: 100 }, "2000", Never, SHARE),
        idle("group.share.record.lock.duration.ms", Int { min: 1000 }, "30000", Never, SHARE),
        idle("group.share.session.timeout.ms", Int { min: 1 }, "45000", Never, SHARE),
        idle("group.streams.heartbeat.interval.ms", Int { min: 1 }, "5000", Never, GROUPS),
        idle("group.streams.max.heartbeat.interval.ms", Int { min: 1 }, "15000", Never, GROUPS),
        idle("group.streams.max.session.timeout.ms", Int { min: 1 }, "60000", Never, GROUPS),
        idle("group.streams.max.size", Int { min: 1 }, "2147483647", Never, GROUPS),
        idle("group.streams.max.standby.replicas", Int { min: 0 }, "2", Never, GROUPS),
        idle("group.streams.min.heartbeat.interval.ms", Int { min: 1 }, "5000", Never, GROUPS),
        idle("group.streams.min.session.timeout.ms", Int { min: 1 }, "45000", Never, GROUPS),
        idle("group.streams.num.standby.replicas", Int { min: 0 }, "0", Never, GROUPS),
        idle("group.streams.session.timeout.ms", Int { min: 1 }, "45000", Never, GROUPS),
        idle("initial.broker.registration.timeout.ms", Int { min: i32::MIN }, "60000", Never, CONTROLLERS),
        null("inter.broker.listener.name", Text, Never, REPLICAS),
        idle("kafka.metrics.polling.interval.secs", Int { min: 1 }, "10", Never, METRICS),
        idle("kafka.metrics.reporters", List, "", Never, METRICS),
        idle("leader.imbalance.check.interval.seconds", Long { min: 1 }, "300", Never, REPLICAS),
        idle("listener.security.protocol.map", Text, "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", Broker, LISTENERS),
        idle("log.cleaner.backoff.ms", Long { min: 0 }, "15000", Cluster, COMPACTION),
        idle("log.cleaner.dedupe.buffer.size", Long { min: i64::MIN }, "134217728", Cluster, COMPACTION),
        idle("log.cleaner.delete.retention.ms", Long { min: 0 }, "86400000", Cluster, COMPACTION),
        idle("log.cleaner.enable", Boolean, "true", Never, COMPACTION),
        idle("log.cleaner.io.buffer.load.factor", Double, "0.9", Cluster, COMPACTION),
        idle("log.cleaner.io.buffer.size", Int { min: 0 }, "524288", Cluster, COMPACTION),
        idle("log.cleaner.io.max.bytes.per.second", Double, "1.7976931348623157E308", Cluster, COMPACTION),
        idle("log.cleaner.max.compaction.lag.ms", Long { min: 1 }, "9223372036854775807", Cluster, COMPACTION),
        idle("log.cleaner.min.cleanable.ratio", Ratio, "0.5", Cluster, COMPACTION),
        idle("log.cleaner.min.compaction.lag.ms", Long { min: 0 }, "0", Cluster, COMPACTION),
        idle("log.cleaner.threads", Int { min: 0 }, "1", Cluster, COMPACTION),
        idle("log.dir.failure.timeout.ms", Long { min: 1 }, "30000", Never, LOG),
        idle("log.flush.offset.checkpoint.interval.ms", Int { min: 0 }, "60000", Never, LOG),
        idle("log.flush.scheduler.interval.ms", Long { min: i64::MIN }, "9223372036854775807", Never, LOG),
        idle("log.flush.start.offset.checkpoint.interval.ms", Int { min: 0 }, "60000", Never, LOG),
        idle("log.index.interval.bytes", Int { min: 0 }, "4096", Cluster, LOG),
        idle("log.index.size.max.bytes", Int { min: 4 }, "10485760", Cluster, LOG),
        idle("log.local.retention.bytes", Long { min: -2 }, "-2", Cluster, TIERS),
        idle("log.local.retention.ms", Long { min: -2 }, "-2", Cluster, TIERS),
        idle("log.preallocate", Boolean, "false", Cluster, LOG),
        null("log.retention.minutes", Int { min: i32::MIN }, Never, AGE),
        idle("log.roll.hours", Int { min: 1 }, "168", Never, LOG),
        idle("log.roll.jitter.hours", Int { min: 0 }, "0", Never, LOG),
        null("log.roll.jitter.ms", Long { min: i64::MIN }, Cluster, LOG),
        null("log.roll.ms", Long { min: i64::MIN }, Cluster, LOG),
        idle("log.segment.delete.delay.ms", Long { min: 0 }, "60000", Cluster, LOG),
        idle("max.incremental.fetch.session.cache.slots", Int { min: 0 }, "1000", Never, SESSIONS),
        null("metadata.log.dir", Text, Never, CONTROLLERS),
        idle("metadata.log.max.record.bytes.between.snapshots", Long { min: 1 }, "20971520", Never, CONTROLLERS),
        idle("metadata.log.max.snapshot.interval.ms", Long { min: 0 }, "3600000", Never, CONTROLLERS),
        idle("metadata.log.segment.bytes", Int { min: 8388608 }, "1073741824", Never, CONTROLLERS),
        idle("metadata.log.segment.ms", Long { min: i64::MIN }, "604800000", Never, CONTROLLERS),
        idle("metadata.max.idle.interval.ms", Int { min: 0 }, "500", Never, CONTROLLERS),
        idle("metadata.max.retention.bytes", Long { min: i64::MIN }, "104857600", Never, CONTROLLERS),
        idle("metadata.max.retention.ms", Long { min: i64::MIN }, "604800000", Never, CONTROLLERS),
        idle("metric.reporters", List, "org.apache.kafka.common.metrics.JmxReporter", Cluster, METRICS),
        idle("metrics.num.samples", Int { min: 1 }, "2", Never, METRICS),
        idle("metrics.recording.level", Text, "INFO", Never, METRICS),
        idle("metrics.sample.window.ms", Long { min: 1 }, "30000", Never, METRICS),
        idle("num.io.threads", Int { min: 1 }, "8", Cluster, THREADS),
        idle("num.network.threads", Int { min: 1 }, "3", Cluster, THREADS),
        idle("num.recovery.threads.per.data.dir", Int { min: 1 }, "2", Cluster, THREADS),
        null("num.replica.alter.log.dirs.threads", Int { min: i32::MIN }, Never, REPLICAS),
        idle("num.replica.fetchers", Int { min: i32::MIN }, "1", Cluster, REPLICAS),
        idle("offsets.commit.timeout.ms", Int { min: 1 }, "5000", Never, OFFSETS),
        idle("offsets.load.buffer.size", Int { min: 1 }, "5242880", Never, OFFSETS),
        idle("offsets.retention.check.interval.ms", Long { min: 1 }, "600000", Never, OFFSETS),
        idle("offsets.topic.compression.codec", Int { min: i32::MIN }, "0", Never, OFFSETS),
        idle("offsets.topic.num.partitions", Int { min: 1 }, "50", Never, OFFSETS),
        idle("offsets.topic.replication.factor", Short { min: 1 }, "3", Never, OFFSETS),
        idle("offsets.topic.segment.bytes", Int { min: 1 }, "104857600", Never, OFFSETS),
        idle("principal.builder.class", Class, "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder", Broker, AUTH),
        null("process.roles", List, Never, CONTROLLERS),
        idle("producer.purgatory.purge.interval.requests", Int { min: i32::MIN }, "1000", Never, THREADS),
        idle("queued.max.request.bytes", Long { min: i64::MIN }, "-1", Never, THREADS),
        idle("queued.max.requests", Int { min: 1 }, "500", Never, THREADS),
        idle("quota.window.num", Int { min: 1 }, "11", Never, QUOTAS),
        idle("quota.window.size.seconds", Int { min: 1 }, "1", Never, QUOTAS),
        idle("remote.fetch.max.wait.ms", Int { min: 1 }, "500", Cluster, TIERS),
        idle("remote.list.offsets.request.timeout.ms", Long { min: 1 }, "30000", Cluster, TIERS),
        idle("remote.log.index.file.cache.total.size.bytes", Long { min: 1 }, "1073741824", Cluster, TIERS),
        idle("remote.log.manager.copier.thread.pool.size", Int { min: 1 }, "10", Cluster, TIERS),
        idle("remote.log.manager.copy.max.bytes.per.second", Long { min: 1 }, "9223372036854775807", Cluster, TIERS),
        idle("remote.log.manager.copy.quota.window.num", Int { min: 1 }, "11", Never, TIERS),
        idle("remote.log.manager.copy.quota.window.size.seconds", Int { min: 1 }, "1", Never, TIERS),
        idle("remote.log.manager.expiration.thread.pool.size", Int { min: 1 }, "10", Cluster, TIERS),
        idle("remote.log.manager.fetch.max.bytes.per.second", Long { min: 1 }, "9223372036854775807", Cluster, TIERS),
        idle("remote.log.manager.fetch.quota.window.num", Int { min: 1 }, "11", Never, TIERS),
        idle("remote.log.manager.fetch.quota.window.size.seconds", Int { min: 1 }, "1", Never, TIERS),
        idle("remote.log.manager.task.interval.ms", Long { min: 1 }, "30000", Never, TIERS),
        idle("remote.log.manager.thread.pool.size", Int { min: 1 }, "2", Never, TIERS),
        idle("remote.log.metadata.custom.metadata.max.bytes", Int { min: 0 }, "128", Never, TIERS),
        idle("remote.log.metadata.manager.class.name", Text, "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager", Never, TIERS),
        null("remote.log.metadata.manager.class.path", Text, Never, TIERS),
        idle("remote.log.metadata.manager.impl.prefix", Text, "rlmm.config.", Never, TIERS),
        null("remote.log.metadata.manager.listener.name", Text, Never, TIERS),
        idle("remote.log.reader.max.pending.tasks", Int { min: 1 }, "100", Never, TIERS),
        idle("remote.log.reader.threads", Int { min: 1 }, "10", Cluster, TIERS),
        null("remote.log.storage.manager.class.name", Text, Never, TIERS),
        null("remote.log.storage.manager.class.path", Text, Never, TIERS),
        idle("remote.log.storage.manager.impl.prefix", Text, "rsm.config.", Never, TIERS),
        idle("remote.log.storage.system.enable", Boolean, "false", Never, TIERS),
        idle("replica.fetch.backoff.ms", Int { min: 0 }, "1000", Never, REPLICAS),
        idle("replica.fetch.max.bytes", Int { min: 0 }, "1048576", Never, REPLICAS),
        idle("replica.fetch.min.bytes", Int { min: i32::MIN }, "1", Never, REPLICAS),
        idle("replica.fetch.response.max.bytes", Int { min: 0 }, "10485760", Never, REPLICAS),
        idle("replica.fetch.wait.max.ms", Int { min: i32::MIN }, "500", Never, REPLICAS),
        idle("replica.high.watermark.checkpoint.interval.ms", Long { min: i64::MIN }, "5000", Never, REPLICAS),
        idle("replica.lag.time.max.ms", Long { min: i64::MIN }, "30000", Never, REPLICAS),
        null("replica.selector.class", Text, Never, REPLICAS),
        idle("replica.socket.receive.buffer.bytes", Int { min: i32::MIN }, "65536", Never, REPLICAS),
        idle("replica.socket.timeout.ms", Int { min: i32::MIN }, "30000", Never, REPLICAS),
        idle("replication.quota.window.num", Int { min: 1 }, "11", Never, QUOTAS),
        idle("replication.quota.window.size.seconds", Int { min: 1 }, "1", Never, QUOTAS),
        idle("request.timeout.ms", Int { min: i32::MIN }, "30000", Never, REPLICAS),
        null("sasl.client.callback.handler.class", Class, Never, AUTH),
        idle("sasl.enabled.mechanisms", List, "GSSAPI", Listener, AUTH),
        null("sasl.jaas.config", Password, Listener, AUTH),
        idle("sasl.kerberos.kinit.cmd", Text, "/usr/bin/kinit", Listener, AUTH),
        idle("sasl.kerberos.min.time.before.relogin", Long { min: i64::MIN }, "60000", Listener, AUTH),
        idle("sasl.kerberos.principal.to.local.rules", List, "DEFAULT", Listener, AUTH),
        null("sasl.kerberos.service.name", Text, Listener, AUTH),
        idle("sasl.kerberos.ticket.renew.jitter", Double, "0.05", Listener, AUTH),
        idle("sasl.kerberos.ticket.renew.window.factor", Double, "0.8", Listener, AUTH),
        null("sasl.login.callback.handler.class", Class, Never, AUTH),
        null("sasl.login.class", Class, Never, AUTH),
        null("sasl.login.connect.timeout.ms", Int { min: i32::MIN }, Never, AUTH),
        null("sasl.login.read.timeout.ms", Int { min: i32::MIN }, Never, AUTH),
        idle("sasl.login.refresh.buffer.seconds", Short { min: i16::MIN }, "300", Listener, AUTH),
        idle("sasl.login.refresh.min.period.seconds", Short { min: i16::MIN }, "60", Listener, AUTH),
        idle("sasl.login.refresh.window.factor", Double, "0.8", Listener, AUTH),
        idle("sasl.login.refresh.window.jitter", Double, "0.05", Listener, AUTH),
        idle("sasl.login.retry.backoff.max.ms", Long { min: i64::MIN }, "10000", Never, AUTH),
        idle("sasl.login.retry.backoff.ms", Long { min: i64::MIN }, "100", Never, AUTH),
        idle("sasl.mechanism.controller.protocol", Text, "GSSAPI", Never, AUTH),
        idle("sasl.mechanism.inter.broker.protocol", Text, "GSSAPI", Listener, AUTH),
        idle("sasl.oauthbearer.assertion.algorithm", Text, "RS256", Never, AUTH),
        null("sasl.oauthbearer.assertion.claim.aud", Text, Never, AUTH),
        idle("sasl.oauthbearer.assertion.claim.exp.seconds", Int { min: 0 }, "300", Never, AUTH),
        null("sasl.oauthbearer.assertion.claim.iss", Text, Never, AUTH),
        idle("sasl.oauthbearer.assertion.claim.jti.include", Boolean, "false", Never, AUTH),
        idle("sasl.oauthbearer.assertion.claim.nbf.seconds", Int { min: 0 }, "60", Never, AUTH),
        null("sasl.oauthbearer.assertion.claim.sub", Text, Never, AUTH),
        null("sasl.oauthbearer.assertion.file", Text, Never, AUTH),
        null("sasl.oauthbearer.assertion.private.key.file", Text, Never, AUTH),
        null("sasl.oauthbearer.assertion.private.key.passphrase", Password, Never, AUTH),
        null("sasl.oauthbearer.assertion.template.file", Text, Never, AUTH),
        null("sasl.oauthbearer.client.credentials.client.id", Text, Never, AUTH),
        null("sasl.oauthbearer.client.credentials.client.secret", Password, Never, AUTH),
        idle("sasl.oauthbearer.clock.skew.seconds", Int { min: i32::MIN }, "30", Never, AUTH),
        null("sasl.oauthbearer.expected.audience", List, Never, AUTH),
        null("sasl.oauthbearer.expected.issuer", Text, Never, AUTH),
        idle("sasl.oauthbearer.jwks.endpoint.refresh.ms", Long { min: i64::MIN }, "3600000", Never, AUTH),
        idle("sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", Long { min: i64::MIN }, "10000", Never, AUTH),
        idle("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", Long { min: i64::MIN }, "100", Never, AUTH),
        null("sasl.oauthbearer.jwks.endpoint.url", Text, Never, AUTH),
        idle("sasl.oauthbearer.jwt.retriever.class", Class, "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever", Never, AUTH),
        idle("sasl.oauthbearer.jwt.validator.class", Class, "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator", Never, AUTH),
        null("sasl.oauthbearer.scope", Text, Never, AUTH),
        idle("sasl.oauthbearer.scope.claim.name", Text, "scope", Never, AUTH),
        idle("sasl.oauthbearer.sub.claim.name", Text, "sub", Never, AUTH),
        null("sasl.oauthbearer.token.endpoint.url", Text, Never, AUTH),
        null("sasl.server.callback.handler.class", Class, Never, AUTH),
        idle("sasl.server.max.receive.size", Int { min: i32::MIN }, "524288", Never, AUTH),
        idle("security.inter.broker.protocol", Text, "PLAINTEXT", Never, AUTH),
        null("security.providers", Text, Never, TLS),
        idle("share.coordinator.append.linger.ms", Int { min: 0 }, "5", Never, SHARE),
        idle("share.coordinator.load.buffer.size", Int { min: 1 }, "5242880", Never, SHARE),
        idle("share.coordinator.snapshot.update.records.per.snapshot", Int { min: 0 }, "500", Never, SHARE),
        idle("share.coordinator.state.topic.compression.codec", Int { min: i32::MIN }, "0", Never, SHARE),
        idle("share.coordinator.state.topic.min.isr", Short { min: 1 }, "2", Never, SHARE),
        idle("share.coordinator.state.topic.num.partitions", Int { min: 1 }, "50", Never, SHARE),
        idle("share.coordinator.state.topic.replication.factor", Short { min: 1 }, "3", Never, SHARE),
        idle("share.coordinator.state.topic.segment.bytes", Int { min: 1 }, "104857600", Never, SHARE),
        idle("share.coordinator.threads", Int { min: 1 }, "1", Never, SHARE),
        idle("share.coordinator.write.timeout.ms", Int { min: 1 }, "5000", Never, SHARE),
        idle("share.fetch.purgatory.purge.interval.requests", Int { min: i32::MIN }, "1000", Never, SHARE),
        idle("socket.connection.setup.timeout.max.ms", Long { min: i64::MIN }, "30000", Never, SOCKETS),
        idle("socket.connection.setup.timeout.ms", Long { min: i64::MIN }, "10000", Never, SOCKETS),
        idle("socket.listen.backlog.size", Int { min: 1 }, "50", Never, SOCKETS),
        idle("socket.receive.buffer.bytes", Int { min: i32::MIN }, "102400", Never, SOCKETS),
        idle("socket.send.buffer.bytes", Int { min: i32::MIN }, "102400", Never, SOCKETS),
        idle("ssl.allow.dn.changes", Boolean, "false", Never, TLS),
        idle("ssl.allow.san.changes", Boolean, "false", Never, TLS),
        idle("ssl.cipher.suites", List, "", Listener, TLS),
        idle("ssl.client.auth", Text, "none", Listener, TLS),
        idle("ssl.enabled.protocols", List, "TLSv1.2,TLSv1.3", Listener, TLS),
        idle("ssl.endpoint.identification.algorithm", Text, "https", Listener, TLS),
        null("ssl.engine.factory.class", Class, Listener, TLS),
        null("ssl.key.password", Password, Listener, TLS),
        idle("ssl.keymanager.algorithm", Text, "SunX509", Listener, TLS),
        null("ssl.keystore.certificate.chain", Password, Listener, TLS),
        null("ssl.keystore.key", Password, Listener, TLS),
        null("ssl.keystore.location", Text, Listener, TLS),
        null("ssl.keystore.password", Password, Listener, TLS),
        idle("ssl.keystore.type", Text, "JKS", Listener, TLS),
        idle("ssl.principal.mapping.rules", Text, "DEFAULT", Never, TLS),
        idle("ssl.protocol", Text, "TLSv1.3", Listener, TLS),
        null("ssl.provider", Text, Listener, TLS),
        null("ssl.secure.random.implementation", Text, Listener, TLS),
        idle("ssl.trustmanager.algorithm", Text, "PKIX", Listener, TLS),
        null("ssl.truststore.certificates", Password, Listener, TLS),
        null("ssl.truststore.location", Text, Listener, TLS),
        null("ssl.truststore.password", Password, Listener, TLS),
        idle("ssl.truststore.type", Text, "JKS", Listener, TLS),
        idle("telemetry.max.bytes", Int { min: 1 }, "1048576", Never, METRICS),
        idle("transaction.abort.timed.out.transaction.cleanup.interval.ms", Int { min: 1 }, "10000", Never, TXN),
        idle("transaction.max.timeout.ms", Int { min: 1 }, "900000", Never, TXN),
        idle("transaction.partition.verification.enable", Boolean, "true", Cluster, TXN),
        idle("transaction.remove.expired.transaction.cleanup.interval.ms", Int { min: 1 }, "3600000", Never, TXN),
        idle("transaction.state.log.load.buffer.size", Int { min: 1 }, "5242880", Never, TXN),
        idle("transaction.state.log.min.isr", Int { min: 1 }, "2", Never, TXN),
        idle("transaction.state.log.num.partitions", Int { min: 1 }, "50", Never, TXN),
        idle("transaction.state.log.replication.factor", Short { min: 1 }, "3", Never, TXN),
        idle("transaction.state.log.segment.bytes", Int { min: 1 }, "104857600", Never, TXN),
        idle("transaction.two.phase.commit.enable", Boolean, "false", Never, TXN),
        idle("transactional.id.expiration.ms", Int { min: 1 }, "604800000", Never, TXN),
    ];
    configs
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::config_def::NO_EFFECT;

    #[test]
    fn the_table_is_sound() {
        assert!(IDLE.is_sorted_by(|a, b| a.name < b.name), "sorted, and nothing twice");
        for IdleConfig { name, kind, default, doc, .. } in IDLE {
            assert_eq!(default.map_or(Ok(()), |default| kind.check(default)), Ok(()), "{name}");
            assert!(doc.starts_with(NO_EFFECT) && doc.ends_with('.'), "{name}: {doc}");
            assert!(*kind != ConfigKind::Password || default.is_none(), "{name}: it would be told");
            assert_eq!(find(name).map(|found| found.name), Some(*name));
        }
        assert!(find("no.such").is_none() && find("").is_none());
    }

    #[test]
    fn values_that_may_be_set() {
        let table = [
            ("background.threads", " 3 ", false, None),
            ("background.threads", "0", false, Some("a number from 1 to 2147483647")),
            ("background.threads", "many", false, Some("is no value for background.threads")),
            ("background.threads", "3", true, Some("is no list")),
            ("metric.reporters", "a.B", true, None),
            ("compression.gzip.level", "0", false, Some("a number from 1 to 9 or -1")),
            ("compression.lz4.level", "18", false, Some("a number from 1 to 17")),
            ("compression.zstd.level", "23", false, Some("a number from -131072 to 22")),
            ("log.cleaner.min.cleanable.ratio", "1.5", false, Some("a number from 0 to 1")),
        ];
        for (name, value, of_list, refused) in table {
            let result = find(name).expect("known").check(value, of_list);
            match (&result, refused) {
                (Ok(()), None) => {}
                (Err(error), Some(text)) => assert!(error.to_string().contains(text), "{error}"),
                _ => panic!("{name}={value}: {result:?}"),
            }
        }
    }
}
