//! Cases of topics, their offsets and configs, and the cluster.

use futures_executor::block_on;
use rdkafka::admin::{AlterConfig, ConfigSource, NewPartitions, ResourceSpecifier};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::clients::{
    PARTITIONS, admin, bounds, code_of, consumer, create, drop_topic, expect, options, read, sample_records,
    send, try_create,
};
use crate::{Run, WAIT_MAX};

fn listed(run: &Run, name: &str) -> bool {
    let found = consumer(run, &[]).fetch_metadata(None, WAIT_MAX).expect("metadata");
    found.topics().iter().any(|topic| topic.name() == name)
}

pub fn topics(run: &Run) {
    create(run, 5, &[]);
    assert_eq!(bounds(run, 5), [(0, 0); 5], "a new topic");
    let again = try_create(run, &run.topic, 5, 1, &[], &options());
    assert_eq!(again, Err(RDKafkaErrorCode::TopicAlreadyExists), "second creation");
    send(run, &sample_records(10, 5), &[]);
    drop_topic(run).expect("delete the topic");
    assert!(!listed(run, &run.topic), "a deleted topic is listed");
    assert_eq!(drop_topic(run), Err(RDKafkaErrorCode::UnknownTopicOrPartition), "second deletion");
    create(run, 2, &[]);
    assert_eq!(bounds(run, 2), [(0, 0); 2], "a topic created again begins empty");
    drop_topic(run).expect("delete the topic");
}

pub fn invalid_creations(run: &Run) {
    let long = "x".repeat(250);
    type Attempt<'a> = (&'a str, i32, &'a [(&'a str, &'a str)], RDKafkaErrorCode);
    let attempts: [Attempt<'_>; 6] = [
        ("bad/name", 1, &[], RDKafkaErrorCode::InvalidTopic),
        ("..", 1, &[], RDKafkaErrorCode::InvalidTopic),
        (&long, 1, &[], RDKafkaErrorCode::InvalidTopic),
        (&run.topic, 3, &[], RDKafkaErrorCode::InvalidReplicationFactor),
        (&run.topic, 1, &[("no.such.config", "1")], RDKafkaErrorCode::InvalidConfig),
        (&run.topic, 1, &[("retention.ms", "soon")], RDKafkaErrorCode::InvalidConfig),
    ];
    for (name, replicas, configs, expected) in attempts {
        let outcome = try_create(run, name, 1, replicas, configs, &options());
        assert_eq!(outcome, Err(expected), "creation of {name:.20} with {configs:?}");
    }
    let validation = options().validate_only(true);
    try_create(run, &run.topic, 1, 1, &[], &validation).expect("validate a creation");
    assert!(!listed(run, &run.topic), "a validation created the topic");
}

pub fn metadata(run: &Run) {
    create(run, PARTITIONS, &[]);
    let consumer = consumer(run, &[]);
    assert!(consumer.client().fetch_cluster_id(WAIT_MAX).is_some(), "no cluster id");
    let found = consumer.fetch_metadata(Some(&run.topic), WAIT_MAX).expect("metadata");
    let nodes: Vec<i32> = found.brokers().iter().map(|broker| broker.id()).collect();
    let topic = &found.topics()[0];
    assert_eq!(topic.partitions().len(), PARTITIONS as usize, "partitions");
    for partition in topic.partitions() {
        assert!(nodes.contains(&partition.leader()), "the leader is not among the brokers");
        assert!(partition.isr().contains(&partition.leader()), "the leader is not in sync with itself");
    }
}

pub fn list_offsets(run: &Run) {
    create(run, PARTITIONS, &[]);
    assert_eq!(bounds(run, PARTITIONS), [(0, 0); 3], "starts and ends of an empty topic");
    send(run, &sample_records(100, PARTITIONS), &[]);
    assert_eq!(bounds(run, PARTITIONS), [(0, 34), (0, 33), (0, 33)], "starts and ends");
}

pub fn delete_records(run: &Run) {
    create(run, PARTITIONS, &[]);
    let sent = sample_records(300, PARTITIONS);
    send(run, &sent, &[]);
    let delete = |partition: i32, offset: Offset| {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(&run.topic, partition, offset).expect("a partition");
        let results = block_on(admin(run).delete_records(&asked, &options()));
        results.map(|results| results.elements()[0].error().map_err(|error| code_of(&error)))
    };
    assert!(matches!(delete(0, Offset::Offset(40)), Ok(Ok(()))), "delete to 40");
    assert!(matches!(delete(1, Offset::End), Ok(Ok(()))), "delete to the end");
    let past = delete(2, Offset::Offset(101)).expect("an answer");
    assert_eq!(past, Err(Some(RDKafkaErrorCode::OffsetOutOfRange)), "deletion past the end");
    assert_eq!(bounds(run, PARTITIONS), [(40, 100), (100, 100), (0, 100)], "starts and ends");
    let mut next = 40;
    read(run, 1, 0, &[], |offset, record| {
        assert_eq!(offset, next, "offset");
        assert_eq!(record, sent[next as usize * PARTITIONS as usize]);
        next += 1;
    });
    assert_eq!(next, 100, "end of what is left of partition 0");
}

pub fn describe_configs(run: &Run) {
    create(run, PARTITIONS, &[("retention.ms", "7200000"), ("max.message.bytes", "500000")]);
    let describe = |resource: ResourceSpecifier<'_>| {
        block_on(admin(run).describe_configs([&resource], &options())).expect("describe configs").remove(0)
    };
    let found = describe(ResourceSpecifier::Topic(&run.topic)).expect("configs of the topic");
    let value = |name: &str| found.get(name).and_then(|entry| entry.value.as_deref());
    assert_eq!(value("retention.ms"), Some("7200000"));
    assert_eq!(value("max.message.bytes"), Some("500000"));
    assert_eq!(value("cleanup.policy"), Some("delete"));
    let is_default = |name: &str| found.get(name).expect("a config").source == ConfigSource::Default;
    assert!(!is_default("retention.ms"), "a value that was set is called a default");
    assert!(is_default("cleanup.policy"), "a default is called a value that was set");
    for name in ["retention.bytes", "segment.bytes", "message.timestamp.type", "compression.type"] {
        assert!(found.get(name).is_some(), "{name} is not listed");
    }
    // The crate drops the error of a single resource: what is left of it is that there are no configs.
    let missing = describe(ResourceSpecifier::Topic(&format!("{}-missing", run.topic)));
    assert!(missing.is_ok_and(|found| found.entries.is_empty()), "a topic that does not exist has configs");
    let node = consumer(run, &[]).fetch_metadata(None, WAIT_MAX).expect("metadata").brokers()[0].id();
    assert!(!describe(ResourceSpecifier::Broker(node)).expect("configs of the broker").entries.is_empty());
}

pub fn create_partitions(run: &Run) {
    create(run, 2, &[]);
    let grow = |count: usize| {
        let asked = NewPartitions::new(&run.topic, count);
        let mut results = block_on(admin(run).create_partitions([&asked], &options())).expect("an answer");
        results.remove(0).map(|_| ()).map_err(|(_, code)| code)
    };
    assert_eq!(grow(5), Ok(()), "grow to 5");
    for count in [3, 5] {
        assert_eq!(grow(count), Err(RDKafkaErrorCode::InvalidPartitions), "{count} where there are 5");
    }
    let sent = sample_records(50, 5);
    send(run, &sent, &[]);
    expect(run, 5, &sent, &[]);
}

/// The crate has AlterConfigs only, which resets what it does not name.
pub fn alter_configs(run: &Run) {
    create(run, PARTITIONS, &[("max.message.bytes", "500000")]);
    let alter = |name: &str, value: &str| {
        let asked = AlterConfig::new(ResourceSpecifier::Topic(&run.topic)).set(name, value);
        let mut results = block_on(admin(run).alter_configs([&asked], &options())).expect("an answer");
        results.remove(0).map(|_| ()).map_err(|(_, code)| code)
    };
    let described = |name: &str| {
        let resource = ResourceSpecifier::Topic(&run.topic);
        let mut found =
            block_on(admin(run).describe_configs([&resource], &options())).expect("describe configs");
        let found = found.remove(0).expect("configs of the topic");
        let entry = found.get(name).expect("a config");
        (entry.value.clone(), entry.source == ConfigSource::Default)
    };
    alter("retention.ms", "3600000").expect("alter retention.ms");
    assert_eq!(described("retention.ms"), (Some("3600000".to_owned()), false));
    assert!(described("max.message.bytes").1, "a config that was not named is not its default");
    // The crate drops the error of a single resource: what is left of it is that nothing has changed.
    for (name, value) in [("no.such.config", "1"), ("retention.ms", "soon")] {
        alter(name, value).expect("an answer");
        assert_eq!(described("retention.ms"), (Some("3600000".to_owned()), false), "after {name}={value}");
    }
}

/// What a topic is outlives both kinds of restart.
pub fn restart_keeps(run: &Run) {
    create(run, 4, &[("retention.ms", "630720000000")]);
    let sent = sample_records(400, 4);
    send(run, &sent, &[]);
    for how in ["term", "kill"] {
        run.restart(how);
        expect(run, 4, &sent, &[]);
        let resource = ResourceSpecifier::Topic(&run.topic);
        let described =
            block_on(admin(run).describe_configs([&resource], &options())).expect("describe configs");
        let found = described[0].as_ref().expect("configs of the topic");
        assert_eq!(found.get("retention.ms").expect("a config").value.as_deref(), Some("630720000000"));
    }
}
