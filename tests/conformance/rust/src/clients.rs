//! rdkafka as the cases use it: producers, consumers by assigned partitions, records and their digests.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use sha2::{Digest as _, Sha256};

use crate::{Run, WAIT_MAX, patient};

pub const PARTITIONS: i32 = 3;
/// 2023-11-14: any fixed past time will do; it must only not be "now".
pub const T0_MS: i64 = 1_700_000_000_000;

#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: i64,
}

pub fn record(partition: i32, value: &[u8], timestamp: i64) -> Record {
    Record { partition, key: None, value: Some(value.to_vec()), headers: Vec::new(), timestamp }
}

/// Counts what became of the records of a producer.
#[derive(Default)]
pub struct Deliveries(Mutex<(usize, Vec<RDKafkaErrorCode>)>);

pub struct OnDelivery(Arc<Deliveries>);

impl ClientContext for OnDelivery {}

impl ProducerContext for OnDelivery {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut counts = self.0.0.lock().expect("no panic within");
        match result {
            Ok(_) => counts.0 += 1,
            Err((error, _)) => counts.1.extend(error.rdkafka_error_code()),
        }
    }
}

pub struct Sender {
    producer: ThreadedProducer<OnDelivery>,
    deliveries: Arc<Deliveries>,
}

impl Sender {
    pub fn new(run: &Run, settings: &[(&str, &str)]) -> Sender {
        let deliveries = Arc::new(Deliveries::default());
        let producer = config(run, settings)
            .set("message.timeout.ms", "60000")
            .create_with_context(OnDelivery(Arc::clone(&deliveries)))
            .expect("a producer");
        Sender { producer, deliveries }
    }

    pub fn start(&self, topic: &str, record: &Record) {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: value.as_ref() });
        }
        let mut made = BaseRecord::<[u8], [u8]> {
            topic,
            partition: Some(record.partition),
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: Some(record.timestamp),
            headers: Some(headers),
            delivery_opaque: (),
        };
        while let Err((error, back)) = self.producer.send(made) {
            assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
            std::thread::sleep(Duration::from_millis(5));
            made = back;
        }
    }

    pub fn acked(&self) -> usize {
        self.deliveries.0.lock().expect("no panic within").0
    }

    /// Waits for all answers; returns the errors.
    pub fn finish(&self) -> Vec<RDKafkaErrorCode> {
        self.producer.flush(WAIT_MAX).expect("every record is answered");
        self.deliveries.0.lock().expect("no panic within").1.clone()
    }
}

fn config(run: &Run, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &run.bootstrap);
    // Restarts are what these cases are about.
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "100");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

pub fn admin(run: &Run) -> AdminClient<DefaultClientContext> {
    config(run, &[]).create().expect("an admin client")
}

pub fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(WAIT_MAX)).operation_timeout(Some(WAIT_MAX))
}

pub fn consumer(run: &Run, settings: &[(&str, &str)]) -> BaseConsumer {
    let mut config = config(run, &[("group.id", "unused"), ("auto.offset.reset", "error")]);
    config.set("enable.auto.commit", "false").set("check.crcs", "true");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().expect("a consumer")
}

/// Creates a topic; the error of that topic if it has one.
pub fn try_create(
    run: &Run,
    name: &str,
    partitions: i32,
    replicas: i32,
    configs: &[(&str, &str)],
    options: &AdminOptions,
) -> Result<(), RDKafkaErrorCode> {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
    for (name, value) in configs {
        topic = topic.set(name, value);
    }
    let mut results = block_on(admin(run).create_topics([&topic], options)).expect("create topics");
    results.remove(0).map(|_| ()).map_err(|(_, code)| code)
}

pub fn create(run: &Run, partitions: i32, configs: &[(&str, &str)]) {
    // The records carry timestamps of the past, which retention by age would act upon.
    let mut all = vec![("retention.ms", "-1")];
    all.retain(|(name, _)| configs.iter().all(|(other, _)| other != name));
    all.extend(configs);
    try_create(run, &run.topic, partitions, 1, &all, &options()).expect("create the topic");
}

pub fn drop_topic(run: &Run) -> Result<(), RDKafkaErrorCode> {
    let mut results = block_on(admin(run).delete_topics(&[&run.topic], &options())).expect("delete topics");
    results.remove(0).map(|_| ()).map_err(|(_, code)| code)
}

/// (start, end) of each partition.
pub fn bounds(run: &Run, partitions: i32) -> Vec<(i64, i64)> {
    let consumer = consumer(run, &[]);
    (0..partitions).map(|p| patient(|| consumer.fetch_watermarks(&run.topic, p, WAIT_MAX))).collect()
}

/// Produces and fails unless each record is acknowledged.
pub fn send(run: &Run, records: &[Record], settings: &[(&str, &str)]) {
    let sender = Sender::new(run, settings);
    for record in records {
        sender.start(&run.topic, record);
    }
    let failed = sender.finish();
    assert!(failed.is_empty(), "records that failed: {failed:?}");
    assert_eq!(sender.acked(), records.len(), "acknowledged records");
}

pub fn offset_of(message: &impl Message) -> (i32, i64) {
    (message.partition(), message.offset())
}

pub fn as_record(message: &impl Message) -> Record {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Record {
        partition: message.partition(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect(),
        timestamp: message.timestamp().to_millis().expect("a timestamp"),
    }
}

/// Visits every record by assigned partitions, from `from` on, up to the ends of now.
pub fn read(
    run: &Run,
    partitions: i32,
    from: i64,
    settings: &[(&str, &str)],
    mut visit: impl FnMut(i64, Record),
) {
    let consumer = consumer(run, settings);
    let mut assigned = TopicPartitionList::new();
    let mut left = 0;
    for (p, (low, high)) in (0..).zip(bounds(run, partitions)) {
        let first = low.max(from);
        if first < high {
            left += high - first;
            assigned.add_partition_offset(&run.topic, p, Offset::Offset(first)).expect("a partition");
        }
    }
    consumer.assign(&assigned).expect("assign");
    let deadline = Instant::now() + WAIT_MAX;
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} records missing");
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let message = message.expect("consume");
        visit(message.offset(), as_record(&message));
        left -= 1;
    }
}

/// Reads the topic and compares it with what was sent, in order per partition.
pub fn expect(run: &Run, partitions: i32, sent: &[Record], settings: &[(&str, &str)]) {
    let mut got = vec![Vec::new(); partitions as usize];
    read(run, partitions, 0, settings, |offset, record| {
        let partition = &mut got[record.partition as usize];
        assert_eq!(offset, partition.len() as i64, "offset in partition {}", record.partition);
        partition.push(record);
    });
    for (p, got) in (0..).zip(got) {
        let expected: Vec<_> = sent.iter().filter(|record| record.partition == p).cloned().collect();
        assert_eq!(got.len(), expected.len(), "records in partition {p}");
        assert!(got == expected, "the records of partition {p} differ");
    }
}

/// Keys, values and headers of every kind: null, empty, binary, text, compressible.
pub fn sample_records(count: usize, partitions: i32) -> Vec<Record> {
    let mut state = 1_u64;
    let mut noise = |limit: usize| -> Vec<u8> {
        let bytes = (0..limit).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        });
        bytes.collect()
    };
    let some = |text: String| Some(text.into_bytes());
    let records = (0..count).map(|i| Record {
        partition: i as i32 % partitions,
        key: [None, Some(vec![]), some(format!("key-{i}")), Some(noise(i % 40))][i % 4].clone(),
        value: [
            None,
            Some(vec![]),
            Some(noise(i * 37 % 2000)),
            some(format!("value {i} ").repeat(i * 13 % 500)),
            some(format!("value {i}")),
        ][i % 5]
            .clone(),
        headers: [
            vec![],
            vec![("trace".to_owned(), some(format!("t-{i}")))],
            vec![
                ("null".to_owned(), None),
                ("empty".to_owned(), Some(vec![])),
                ("b".to_owned(), Some(noise(16))),
            ],
            vec![
                ("twice".to_owned(), some("1".to_owned())),
                ("twice".to_owned(), None),
                ("größe".to_owned(), None),
            ],
        ][i % 4]
            .clone(),
        timestamp: T0_MS + i as i64 * 10,
    });
    records.collect()
}

/// `../../python/digest.py` says which bytes go in.
#[derive(Default)]
pub struct Digest {
    pub count: i64,
    records: Sha256,
    timestamps: Sha256,
}

impl Digest {
    pub fn add(&mut self, record: &Record) {
        put(&mut self.records, record.key.as_deref());
        put(&mut self.records, record.value.as_deref());
        self.records.update((record.headers.len() as u32).to_be_bytes());
        for (name, value) in &record.headers {
            put(&mut self.records, Some(name.as_bytes()));
            put(&mut self.records, value.as_deref());
        }
        self.timestamps.update(record.timestamp.to_be_bytes());
        self.count += 1;
    }

    pub fn text(self) -> String {
        format!("{} {:x} {:x}", self.count, self.records.finalize(), self.timestamps.finalize())
    }
}

fn put(hash: &mut Sha256, content: Option<&[u8]>) {
    match content {
        None => hash.update([0xff; 4]),
        Some(content) => {
            hash.update((content.len() as u32).to_be_bytes());
            hash.update(content);
        }
    }
}

pub fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    error.rdkafka_error_code()
}
