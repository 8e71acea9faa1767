//! A broker for tests: the handlers with a catalog, and answers that the test makes up.

use std::net::IpAddr;
use std::sync::Arc;

use crate::kafka::answer_room::AnswerRoom;
use crate::kafka::context::{Client, Context, KafkaSettings};
use crate::kafka::dispatch::dispatch;
use crate::kafka::handlers::Outcome;
use crate::kafka::handlers::init_producer_id::ProducerIds;
use crate::kafka::identity::{BrokerIdentity, LogNodes};
use crate::kafka::protocol::messages::describe_configs::config_type;
use crate::kafka::protocol::wire::{Reader, Writer};
use crate::kafka::protocol::{ApiKey, Message};
use crate::kafka::settings::{BrokerConfig, LogDir};
use crate::metadata::catalog::Catalog;
use crate::metadata::record::MetaRecord;
use crate::model::{LogId, Nanos, Now, PartitionKey, Term, TopicId, WallMs};
use crate::shard::call::{Answer, Call};

/// Logs 1 and 2 are open in terms 5 and 6; partitions alternate between them.
pub struct World {
    pub catalog: std::cell::RefCell<Catalog>,
    pub settings: KafkaSettings,
    broker: BrokerIdentity,
    /// The log at whose port requests come in.
    pub at: Option<LogId>,
    /// What an answer may hold.
    pub answer_bytes: usize,
    producer_ids: ProducerIds,
}

impl Default for World {
    fn default() -> Self {
        let mut catalog = Catalog::default();
        for log in [1, 2] {
            catalog.apply(&MetaRecord::LogAdded { log: LogId(log) }).expect("a new log");
        }
        Self {
            catalog: catalog.into(),
            settings: KafkaSettings {
                auto_create_topics: true,
                num_partitions: 4,
                message_bytes_max: 2_000_000,
                fetch_bytes_max: 1 << 20,
                fetch_session_bytes_max: 1 << 20,
                described: described(),
                log_dir: LogDir::new("/data".into()).into(),
            },
            broker: BrokerIdentity {
                node_id: 7,
                host: "broker.test".into(),
                port: 9092,
                cluster_id: "cluster".into(),
                logs: None,
            },
            at: None,
            answer_bytes: 100 << 20,
            producer_ids: ProducerIds::default(),
        }
    }
}

/// Some of the broker's settings.
fn described() -> Arc<[BrokerConfig]> {
    let config = |name, kind, value: &str, default: &str| BrokerConfig {
        name,
        kind,
        value: Some(value.to_owned()),
        default: Some(default.to_owned()),
        deputy: None,
        is_set: value != default,
        doc: "It is for tests.",
    };
    let age = config("log.retention.ms", config_type::LONG, "", "");
    [
        config("auto.create.topics.enable", config_type::BOOLEAN, "true", "true"),
        config("log.cleanup.policy", config_type::LIST, "delete", "delete"),
        config("log.retention.bytes", config_type::LONG, "-1", "-1"),
        BrokerConfig { value: None, default: None, deputy: Some(("log.retention.hours", "168")), ..age },
        config("log.segment.bytes", config_type::INT, "268435456", "268435456"),
        config("message.max.bytes", config_type::INT, "2000000", "1048588"),
        config("num.partitions", config_type::INT, "4", "1"),
    ]
    .into()
}

/// The id of the topic that a name's first letter says.
pub fn topic_id(name: &str) -> TopicId {
    TopicId([name.as_bytes()[0]; 16])
}

pub fn partition(topic: &str, index: i32) -> PartitionKey {
    PartitionKey { topic: topic_id(topic), index }
}

impl World {
    /// With these topics, of three partitions each.
    pub fn with_topics(names: &[&str]) -> Self {
        let world = Self::default();
        for name in names {
            world.create(name, &[]);
        }
        world
    }

    /// Clients reach it here.
    pub fn advertise(mut self, host: &str, port: u16) -> Self {
        (self.broker.host, self.broker.port) = (host.to_owned(), port);
        self
    }

    /// Each log is a broker of its own: 101 and 102, at ports 9201 and 9202.
    pub fn advertise_logs(mut self) -> Self {
        self.broker.logs = Some(LogNodes { id_base: 100, ports: vec![9201, 9202] });
        self
    }

    pub fn create(&self, name: &str, configs: &[(&str, &str)]) {
        self.apply(MetaRecord::TopicCreated {
            id: topic_id(name),
            name: name.to_owned(),
            configs: configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            partitions: vec![LogId(1), LogId(2), LogId(1)],
        });
    }

    pub fn apply(&self, record: MetaRecord) {
        self.catalog.borrow_mut().apply(&record).expect("fits");
    }

    /// The response to a request that needs no log.
    pub fn reply<'m, M: Message<'m>>(&self, version: i16, request: &M) -> Vec<u8> {
        self.ask(version, request, |_, call| panic!("{call:?}"))
    }

    /// The same for a body that need not be one.
    pub fn reply_to_bytes(&self, api: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
        self.ask_bytes(api, version, body, |_, call| panic!("{call:?}"))
    }

    /// The response to a request whose calls `answer` answers.
    pub fn ask<'m, M: Message<'m>>(
        &self,
        version: i16,
        request: &M,
        answer: impl FnMut(LogId, Call) -> Answer,
    ) -> Vec<u8> {
        let mut body = Vec::new();
        request.encode(&mut Writer::new(&mut body), version);
        self.ask_bytes(M::API, version, &body, answer)
    }

    pub fn ask_bytes(
        &self,
        api: ApiKey,
        version: i16,
        body: &[u8],
        mut answer: impl FnMut(LogId, Call) -> Answer,
    ) -> Vec<u8> {
        let mut written = Vec::new();
        let mut out = Writer::new(&mut written);
        let outcome = self.with_context(|ctx| dispatch(ctx, api, version, body, &mut out));
        match outcome.expect("the body can be decoded") {
            Outcome::Reply => {}
            Outcome::Close(reason) => panic!("closed: {reason}"),
            Outcome::Wait { mut calls, mut pending } => {
                let mut part = 0;
                while part < calls.len() {
                    // A read stands in for the call that is moved out.
                    let nothing =
                        Call::Read { partitions: Vec::new(), bytes_max: 0, at_least_one: false, park: None };
                    let (log, call) = std::mem::replace(&mut calls[part], (LogId::METADATA, nothing));
                    calls.extend(pending.on_answer(part as u32, answer(log, call)));
                    part += 1;
                }
                self.with_context(|ctx| pending.encode(ctx, &mut out));
            }
        }
        written
    }

    pub fn with_context<R>(&self, act: impl FnOnce(&Context<'_>) -> R) -> R {
        act(&Context {
            catalog: &self.catalog.borrow(),
            now: Now { mono: Nanos(0), wall: WallMs(1_000) },
            broker: &self.broker,
            settings: &self.settings,
            log_terms: &[Term(4), Term(5), Term(6)],
            producer_ids: &self.producer_ids,
            client: Client { id: "client", address: IpAddr::from([10, 0, 0, 7]), at: self.at },
            answer_room: AnswerRoom::of(self.answer_bytes),
        })
    }
}

/// A response, which must be all of the body.
pub fn decode<'m, M: Message<'m>>(body: &'m [u8], version: i16) -> M {
    let mut reader = Reader::new(body);
    let response = M::decode(&mut reader, version).expect("well-formed");
    reader.finish().expect("nothing follows");
    response
}
