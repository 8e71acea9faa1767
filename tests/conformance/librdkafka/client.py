"""librdkafka, through confluent-kafka, as a client program of the conformance runner (see ../lib/worker.py).

Each case is a function of its name. It gets the bootstrap address, a topic name of its own, and its
arguments; it returns the values to compare, and fails by raising.
"""

import functools
import os
import random
import sys
import time

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

for folder in ("python", "dataset"):
    sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", folder))
import groups  # noqa: E402  (the path is set above)
from access_log import AccessLog  # noqa: E402
from digest import Digest  # noqa: E402
from harness import (  # noqa: E402
    PARTITIONS,
    T0_MS,
    WAIT_S,
    check,
    equal,
    matrix_records,
    restart,
    sample_records,
    serve,
)

# --- the pieces ---------------------------------------------------------------------------------


@functools.cache
def admin_of(bootstrap):
    """One admin client for all cases: its futures fail when it is dropped before they are done."""
    return AdminClient({"bootstrap.servers": bootstrap})


def new_producer(bootstrap, **settings):
    settings = {name.replace("_", "."): value for name, value in settings.items()}
    return Producer({"bootstrap.servers": bootstrap, "message.timeout.ms": WAIT_S * 1000, **settings})


def new_consumer(bootstrap, **settings):
    settings = {name.replace("_", "."): value for name, value in settings.items()}
    return Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": "unused",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "allow.auto.create.topics": False,
        "check.crcs": True,
        **settings,
    })  # fmt: skip


def create(bootstrap, topic, partitions=PARTITIONS, **config):
    # The records carry timestamps of the past, which retention by age would act upon.
    config = {"retention_ms": "-1", **config}
    config = {name.replace("_", "."): value for name, value in config.items()}
    new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config)
    admin_of(bootstrap).create_topics([new], operation_timeout=WAIT_S)[topic].result(WAIT_S)
    # Apache Kafka answers a creation before its brokers lead the partitions; a case begins after that.
    consumer = new_consumer(bootstrap)
    ends(consumer, topic, partitions)
    consumer.close()


def drop(bootstrap, topic):
    admin_of(bootstrap).delete_topics([topic], operation_timeout=WAIT_S)[topic].result(WAIT_S)


def error_of(call):
    """The name of the Kafka error that `call` raises, or None."""
    try:
        call()
    except KafkaException as error:
        return error.args[0].name()
    return None


def send(producer, topic, records):
    """Produces (partition, key, value, headers, timestamp) and fails unless each is acknowledged."""
    errors = []
    acked = []

    def on_delivery(error, message):
        if error is not None:
            errors.append(error.name())
        else:
            acked.append((message.partition(), message.offset()))

    for partition, key, value, headers, timestamp in records:
        while True:
            try:
                producer.produce(
                    topic, value, key, partition, on_delivery, timestamp=timestamp, headers=headers
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(WAIT_S)
    equal(left, 0, "records without an answer")
    check(not errors, f"{len(errors)} records failed, the first with {errors[:1]}")
    return acked


def ends(consumer, topic, partitions):
    """(start, end) of each partition, asked again while a new or restarted broker does not lead it yet."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return [consumer.get_watermark_offsets(TopicPartition(topic, p), WAIT_S) for p in range(partitions)]
        except KafkaException as error:
            check(time.monotonic() < deadline, f"no leaders for {topic}: {error}")
            time.sleep(0.01)


def partition_count(consumer, topic):
    return len(consumer.list_topics(topic, timeout=WAIT_S).topics[topic].partitions)


def read(bootstrap, topic, visit, partitions=PARTITIONS, start=0, **settings):
    """Visits every message of the topic, by assigned partitions, from `start` to the ends of now."""
    consumer = new_consumer(bootstrap, **settings)
    try:
        left = {}
        for p, (low, high) in enumerate(ends(consumer, topic, partitions)):
            first = max(low, start)
            if high > first:
                left[p] = (first, high)
        consumer.assign([TopicPartition(topic, p, first) for p, (first, _) in left.items()])
        deadline = time.monotonic() + WAIT_S
        while left:
            check(time.monotonic() < deadline, f"records missing in partitions {sorted(left)}")
            for message in consumer.consume(500, timeout=0.05):
                check(message.error() is None, f"consume: {message.error()}")
                visit(message)
                _, high = left.get(message.partition(), (0, 0))
                if message.offset() + 1 == high:
                    del left[message.partition()]
    finally:
        consumer.close()


def as_record(message):
    headers = message.headers() or []
    return (message.partition(), message.key(), message.value(), headers, message.timestamp()[1])


def read_all(bootstrap, topic, partitions=PARTITIONS, **settings):
    """The records of each partition, whose offsets must run from 0 without a gap."""
    records = [[] for _ in range(partitions)]

    def visit(message):
        equal(message.offset(), len(records[message.partition()]), "offset")
        records[message.partition()].append(as_record(message))

    read(bootstrap, topic, visit, partitions, **settings)
    return records


def expect_records(bootstrap, topic, sent, partitions=PARTITIONS, **settings):
    got = read_all(bootstrap, topic, partitions, **settings)
    for p in range(partitions):
        expected = [record for record in sent if record[0] == p]
        equal(len(got[p]), len(expected), f"records in partition {p}")
        for offset, (a, b) in enumerate(zip(got[p], expected)):
            equal(a, b, f"record {p}/{offset}")


# --- the cases ----------------------------------------------------------------------------------


def roundtrip(bootstrap, topic, codec, acks):
    create(bootstrap, topic)
    sent = sample_records(600)
    producer = new_producer(bootstrap, acks=acks, compression_type=codec, linger_ms=20)
    acked = send(producer, topic, sent)
    if acks != "0":
        equal(len(set(acked)), len(sent), "distinct acknowledged offsets")
    else:
        await_end(bootstrap, topic, len(sent))
    expect_records(bootstrap, topic, sent)
    expect_records(bootstrap, topic, sent, isolation_level="read_committed")
    drop(bootstrap, topic)


def await_end(bootstrap, topic, count):
    """With acks=0 nothing tells when the records have arrived, so the ends are polled."""
    consumer = new_consumer(bootstrap)
    deadline = time.monotonic() + WAIT_S
    while sum(high for _, high in ends(consumer, topic, PARTITIONS)) < count:
        check(time.monotonic() < deadline, "records sent with acks=0 did not arrive")
        time.sleep(0.01)
    consumer.close()


def timestamps(bootstrap, topic, codec):
    create(bootstrap, topic, partitions=1)
    count = 500
    step_ms = 1000
    # Two records per timestamp: a lookup must find the first of them, inside a batch.
    sent = [(0, b"k", f"{i}".encode(), [], T0_MS + i // 2 * step_ms) for i in range(count)]
    send(new_producer(bootstrap, linger_ms=50, compression_type=codec), topic, sent)
    consumer = new_consumer(bootstrap)

    def lookup(time_ms):
        found = consumer.offsets_for_times([TopicPartition(topic, 0, time_ms)], WAIT_S)[0]
        check(found.error is None, f"lookup of {time_ms}: {found.error}")
        return found.offset

    for i in (0, 1, 17, 123, 249):
        equal(lookup(T0_MS + i * step_ms), 2 * i, f"offset at the time of pair {i}")
        equal(lookup(T0_MS + i * step_ms - 1), 2 * i, f"offset just before pair {i}")
    equal(lookup(0), 0, "offset at the beginning of time")
    equal(lookup(T0_MS + count * step_ms), OFFSET_END, "offset after the last record")
    spec = {TopicPartition(topic, 0): OffsetSpec.max_timestamp()}
    latest = admin_of(bootstrap).list_offsets(spec)[TopicPartition(topic, 0)].result(WAIT_S)
    check(latest.offset in (count - 2, count - 1), f"offset of the maximum timestamp: {latest.offset}")
    equal(latest.timestamp, T0_MS + (count // 2 - 1) * step_ms, "maximum timestamp")
    start = lookup(T0_MS + 200 * step_ms)
    seen = []
    read(bootstrap, topic, lambda message: seen.append(message.offset()), partitions=1, start=start)
    equal(seen, list(range(400, count)), "offsets consumed from a timestamp")
    consumer.close()


def topics(bootstrap, topic):
    admin = admin_of(bootstrap)
    create(bootstrap, topic, partitions=5)
    equal(len(admin.list_topics(timeout=WAIT_S).topics[topic].partitions), 5, "partitions")
    first_id = topic_id(bootstrap, topic)
    equal(error_of(lambda: create(bootstrap, topic)), "TOPIC_ALREADY_EXISTS", "second creation")
    send(new_producer(bootstrap), topic, sample_records(10))
    drop(bootstrap, topic)
    check(topic not in admin.list_topics(timeout=WAIT_S).topics, "a deleted topic is listed")
    equal(error_of(lambda: drop(bootstrap, topic)), "UNKNOWN_TOPIC_OR_PART", "second deletion")
    create(bootstrap, topic, partitions=2)
    check(topic_id(bootstrap, topic) != first_id, "a topic created again has its old id")
    consumer = new_consumer(bootstrap)
    equal(ends(consumer, topic, 2), [(0, 0)] * 2, "a topic created again begins empty")
    consumer.close()
    drop(bootstrap, topic)


def topic_id(bootstrap, topic):
    described = admin_of(bootstrap).describe_topics(TopicCollection([topic]))[topic].result(WAIT_S)
    return str(described.topic_id)


def invalid_creations(bootstrap, topic):
    admin = admin_of(bootstrap)

    def attempt(name, partitions=1, replicas=1, config=None):
        new = NewTopic(name, num_partitions=partitions, replication_factor=replicas, config=config or {})
        return error_of(lambda: admin.create_topics([new])[name].result(WAIT_S))

    equal(attempt("bad/name"), "TOPIC_EXCEPTION", "a slash in the name")
    equal(attempt("x" * 250), "TOPIC_EXCEPTION", "250 characters")
    equal(attempt(".."), "TOPIC_EXCEPTION", "two dots")
    equal(attempt(topic, replicas=3), "INVALID_REPLICATION_FACTOR", "more replicas than brokers")
    equal(attempt(topic, config={"no.such.config": "1"}), "INVALID_CONFIG", "an unknown config")
    equal(attempt(topic, config={"retention.ms": "soon"}), "INVALID_CONFIG", "a config without a number")
    new = NewTopic(topic, num_partitions=1, replication_factor=1)
    admin.create_topics([new], validate_only=True)[topic].result(WAIT_S)
    check(topic not in admin.list_topics(timeout=WAIT_S).topics, "validate_only created a topic")


def many_topics(bootstrap, topic):
    """One request for many topics and partitions, one record in each, and one request to delete all."""
    names = [f"{topic}-{i}" for i in range(20)]
    admin = admin_of(bootstrap)
    new = [NewTopic(name, num_partitions=10, replication_factor=1) for name in names]
    for future in admin.create_topics(new, operation_timeout=WAIT_S).values():
        future.result(WAIT_S)
    producer = new_producer(bootstrap, linger_ms=5)
    for name in names:
        for p in range(10):
            producer.produce(name, f"{name}/{p}".encode(), partition=p)
    equal(producer.flush(WAIT_S), 0, "records without an answer")
    consumer = new_consumer(bootstrap)
    consumer.assign([TopicPartition(name, p, OFFSET_BEGINNING) for name in names for p in range(10)])
    seen = set()
    deadline = time.monotonic() + WAIT_S
    while len(seen) < 200:
        check(time.monotonic() < deadline, f"only {len(seen)} of 200 partitions delivered")
        for message in consumer.consume(200, timeout=0.05):
            check(message.error() is None, f"consume: {message.error()}")
            equal(message.value(), f"{message.topic()}/{message.partition()}".encode(), "value")
            seen.add(message.value())
    consumer.close()
    for future in admin.delete_topics(names, operation_timeout=WAIT_S).values():
        future.result(WAIT_S)


def list_offsets(bootstrap, topic):
    create(bootstrap, topic)
    admin = admin_of(bootstrap)

    def listed(spec, **settings):
        asked = {TopicPartition(topic, p): spec for p in range(PARTITIONS)}
        answers = admin.list_offsets(asked, **settings)
        return [answers[tp].result(WAIT_S).offset for tp in sorted(answers, key=lambda tp: tp.partition)]

    equal(listed(OffsetSpec.earliest()), [0, 0, 0], "earliest of an empty topic")
    equal(listed(OffsetSpec.latest()), [0, 0, 0], "latest of an empty topic")
    send(new_producer(bootstrap), topic, sample_records(100))
    equal(listed(OffsetSpec.earliest()), [0, 0, 0], "earliest")
    equal(listed(OffsetSpec.latest()), [34, 33, 33], "latest")
    committed = IsolationLevel.READ_COMMITTED
    equal(listed(OffsetSpec.latest(), isolation_level=committed), [34, 33, 33], "latest, committed")
    asked = TopicPartition(topic, PARTITIONS)
    future = admin.list_offsets({asked: OffsetSpec.latest()})[asked]
    check(error_of(lambda: future.result(WAIT_S)) is not None, "a partition that does not exist has an end")


def metadata(bootstrap, topic):
    create(bootstrap, topic)
    found = admin_of(bootstrap).list_topics(timeout=WAIT_S)
    check(found.cluster_id, "no cluster id")
    check(found.controller_id in found.brokers, "the controller is not among the brokers")
    for partition in found.topics[topic].partitions.values():
        check(partition.leader in found.brokers, f"leader {partition.leader} is not among the brokers")
        check(partition.leader in partition.isrs, "the leader is not in sync with itself")
        check(partition.error is None, f"partition: {partition.error}")
    one = admin_of(bootstrap).list_topics(topic, timeout=WAIT_S)
    equal(sorted(one.topics[topic].partitions), [0, 1, 2], "partitions")


def idempotent(bootstrap, topic, how):
    """An idempotent producer goes on while the broker is restarted under it, twice."""
    create(bootstrap, topic)
    producer = new_producer(
        bootstrap,
        enable_idempotence=True,
        enable_gapless_guarantee=True,
        linger_ms=1,
        batch_size=4000,
        retry_backoff_ms=20,
        retry_backoff_max_ms=100,
        reconnect_backoff_ms=20,
        reconnect_backoff_max_ms=100,
    )
    count = 15_000
    errors = []
    acked = [0]

    def on_delivery(error, _):
        acked[0] += 1
        if error is not None:
            errors.append(error.name())

    # Apache Kafka forgets a producer at a restart when its last record's timestamp is a day old.
    now = int(time.time() * 1000)
    sent = [(i % PARTITIONS, b"%d" % i, b"value %d" % i, [("i", b"%d" % i)], now + i) for i in range(count)]
    for i, (partition, key, value, headers, timestamp) in enumerate(sent):
        producer.produce(topic, value, key, partition, on_delivery, timestamp=timestamp, headers=headers)
        producer.poll(0)
        if i in (count // 3, 2 * count // 3):
            while acked[0] < i // 2:
                producer.poll(0.1)
            restart(how)
    equal(producer.flush(WAIT_S), 0, "records without an answer")
    check(not errors, f"{len(errors)} records failed, the first with {errors[:1]}")
    expect_records(bootstrap, topic, sent)
    restart(how)
    expect_records(bootstrap, topic, sent)


def delete_records(bootstrap, topic):
    create(bootstrap, topic)
    admin = admin_of(bootstrap)
    sent = sample_records(300)
    send(new_producer(bootstrap), topic, sent)

    def delete(partition, offset):
        answer = admin.delete_records([TopicPartition(topic, partition, offset)])
        return next(iter(answer.values())).result(WAIT_S).low_watermark

    equal(delete(0, 40), 40, "new start of partition 0")
    equal(delete(1, OFFSET_END), 100, "new start of partition 1")
    equal(error_of(lambda: delete(2, 101)), "OFFSET_OUT_OF_RANGE", "deletion past the end")
    consumer = new_consumer(bootstrap)
    equal(ends(consumer, topic, PARTITIONS), [(40, 100), (100, 100), (0, 100)], "starts and ends")
    consumer.close()
    got = []
    read(bootstrap, topic, lambda message: got.append((message.offset(), as_record(message))), start=40)
    expected = [record for record in sent if record[0] == 0]
    equal([r for o, r in got if r[0] == 0], expected[40:], "what is left of partition 0")


def describe_configs(bootstrap, topic):
    create(bootstrap, topic, retention_ms="7200000", max_message_bytes="500000")
    admin = admin_of(bootstrap)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    found = admin.describe_configs([resource])[resource].result(WAIT_S)
    equal(found["retention.ms"].value, "7200000", "retention.ms")
    equal(found["max.message.bytes"].value, "500000", "max.message.bytes")
    equal(found["cleanup.policy"].value, "delete", "cleanup.policy")
    check(not found["retention.ms"].is_default, "a value that was set is called a default")
    check(found["cleanup.policy"].is_default, "a default is called a value that was set")
    for name in ("retention.bytes", "segment.bytes", "message.timestamp.type", "compression.type"):
        check(name in found, f"{name} is not listed")
    missing = ConfigResource(ConfigResource.Type.TOPIC, topic + "-missing")
    failure = error_of(lambda: admin.describe_configs([missing])[missing].result(WAIT_S))
    equal(failure, "UNKNOWN_TOPIC_OR_PART", "configs of a topic that does not exist")
    node = next(iter(admin.list_topics(timeout=WAIT_S).brokers))
    broker = ConfigResource(ConfigResource.Type.BROKER, str(node))
    check(admin.describe_configs([broker])[broker].result(WAIT_S), "a broker without configs")


def create_partitions(bootstrap, topic):
    create(bootstrap, topic, partitions=2)

    def grow(count):
        admin_of(bootstrap).create_partitions([NewPartitions(topic, count)])[topic].result(WAIT_S)

    grow(5)
    consumer = new_consumer(bootstrap)
    equal(partition_count(consumer, topic), 5, "partitions")
    for count in (3, 5):
        equal(error_of(lambda: grow(count)), "INVALID_PARTITIONS", f"{count} partitions where there are 5")
    send(new_producer(bootstrap), topic, sample_records(50, partitions=5))
    equal(ends(consumer, topic, 5), [(0, 10)] * 5, "starts and ends")
    consumer.close()


def alter_configs(bootstrap, topic):
    create(bootstrap, topic, max_message_bytes="500000")
    admin = admin_of(bootstrap)

    def alter(name, value, operation):
        entry = ConfigEntry(name, value, incremental_operation=operation)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        admin.incremental_alter_configs([resource])[resource].result(WAIT_S)

    def described(name):
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        found = admin.describe_configs([resource])[resource].result(WAIT_S)[name]
        return found.value, found.is_default

    alter("retention.ms", "3600000", AlterConfigOpType.SET)
    equal(described("retention.ms"), ("3600000", False), "retention.ms, and whether it is a default")
    alter("retention.ms", None, AlterConfigOpType.DELETE)
    check(described("retention.ms")[1], "a config that was taken back")
    equal(described("max.message.bytes"), ("500000", False), "the config that was left alone")
    for name, value in (("no.such.config", "1"), ("retention.ms", "soon")):
        failure = error_of(lambda: alter(name, value, AlterConfigOpType.SET))
        equal(failure, "INVALID_CONFIG", f"{name}={value}")


def describe_cluster(bootstrap, topic, own_address):
    admin = admin_of(bootstrap)
    found = admin.describe_cluster().result(WAIT_S)
    equal(found.cluster_id, admin.list_topics(timeout=WAIT_S).cluster_id, "cluster id")
    host, port = bootstrap.rsplit(":", 1)
    listed = (host, int(port)) in [(node.host, node.port) for node in found.nodes]
    equal(listed, own_address == "listed", "whether the own address is listed")
    check(found.controller.id in [node.id for node in found.nodes], "the controller is not a node")


def group_offsets(bootstrap, topic):
    """Offsets committed under a group id, with assigned partitions, survive restarts of both kinds."""
    create(bootstrap, topic)
    sent = sample_records(90)
    send(new_producer(bootstrap), topic, sent)
    group = topic + "-group"

    def committed():
        consumer = new_consumer(bootstrap, group_id=group)
        asked = [TopicPartition(topic, p) for p in range(PARTITIONS)]
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                found = consumer.committed(asked, WAIT_S)
                break
            except KafkaException as error:
                # A coordinator that is not ready after a restart says so with a retriable error.
                check(error.args[0].retriable() or error.args[0].code() == KafkaError.NOT_COORDINATOR, str(error))
                check(time.monotonic() < deadline, f"no coordinator: {error}")
                time.sleep(0.01)
        consumer.close()
        return [(tp.offset, tp.metadata or "") for tp in found]

    def commit(offsets):
        consumer = new_consumer(bootstrap, group_id=group)
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
        asked = [TopicPartition(topic, p, offset, text) for p, (offset, text) in enumerate(offsets)]
        for done in consumer.commit(offsets=asked, asynchronous=False):
            check(done.error is None, f"commit: {done.error}")
        consumer.close()

    none = (-1001, "")
    equal(committed(), [none] * PARTITIONS, "before any commit")
    commit([(5, "five"), (7, "")])
    equal(committed(), [(5, "five"), (7, ""), none], "after the first commit")
    restart("term")
    equal(committed(), [(5, "five"), (7, ""), none], "after a restart")
    commit([(6, ""), (30, "end"), (0, "zero")])
    restart("kill")
    equal(committed(), [(6, ""), (30, "end"), (0, "zero")], "after kill -9")
    consumer = new_consumer(bootstrap, group_id=group)
    consumer.assign([TopicPartition(topic, 0)])
    message = consumer.poll(WAIT_S)
    check(message is not None and message.error() is None, "no record from the committed offset on")
    equal(message.offset(), 6, "first record after the committed offset")
    consumer.close()
    admin = admin_of(bootstrap)
    listed = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(WAIT_S)
    found = sorted((tp.partition, tp.offset) for tp in listed.topic_partitions)
    equal(found, [(0, 6), (1, 30), (2, 0)], "all offsets of the group")


def group_members(bootstrap, topic, strategy):
    """Members that join, leave and crash share the partitions among those who are there."""
    create(bootstrap, topic, partitions=6)
    group = groups.members_come_and_go(bootstrap, topic, strategy)
    admin = admin_of(bootstrap)
    listed = admin.list_consumer_groups().result(WAIT_S)
    check(group in {found.group_id for found in listed.valid}, "the group is listed")
    admin.delete_consumer_groups([group])[group].result(WAIT_S)
    failure = error_of(lambda: admin.delete_consumer_groups([group])[group].result(WAIT_S))
    equal(failure, "GROUP_ID_NOT_FOUND", "a group that is gone")


def group_commits(bootstrap, topic):
    """A group reads on where it committed, from the start when it was reset, and only its members commit."""
    create(bootstrap, topic)
    send(new_producer(bootstrap), topic, sample_records(90))
    group = topic + "-commits"

    def commit(offsets):
        consumer = new_consumer(bootstrap, group_id=group)
        asked = [TopicPartition(topic, p, offset) for p, offset in enumerate(offsets)]
        try:
            consumer.commit(offsets=asked, asynchronous=False)
        finally:
            consumer.close()

    def intrude(_):
        equal(error_of(lambda: commit([0, 0, 0])), "UNKNOWN_MEMBER_ID", "a commit into a group that has members")

    def first_commit(member):
        asked = [TopicPartition(topic, p, offset) for p, offset in enumerate((5, 10, 29))]
        groups.commit(member, asked)

    equal(groups.first_offsets(bootstrap, group, topic, 90, first_commit), [0, 0, 0], "a new group")
    equal(groups.first_offsets(bootstrap, group, topic, 46, intrude), [5, 10, 29], "after the commit")
    commit([0, 0, 0])
    equal(groups.first_offsets(bootstrap, group, topic, 90), [0, 0, 0], "after the reset")


def group_static(bootstrap, topic):
    """Restarts of static members, and of the broker, are no reason to rebalance."""
    create(bootstrap, topic, partitions=6)
    groups.static_members(bootstrap, topic, restart, admin_of(bootstrap))


def group_static_killed(bootstrap, topic):
    """A static member that dies has a session's time to come back to its partitions."""
    create(bootstrap, topic, partitions=6)
    groups.static_member_dies(bootstrap, topic)


def group_static_fenced(bootstrap, topic):
    """An instance id belongs to who came with it last."""
    create(bootstrap, topic, partitions=6)
    groups.static_member_is_fenced(bootstrap, topic)


def restart_keeps(bootstrap, topic):
    """What a topic is (id, partitions, configs, records) outlives both kinds of restart."""
    create(bootstrap, topic, partitions=4, retention_ms="630720000000")
    sent = sample_records(400, partitions=4)
    send(new_producer(bootstrap), topic, sent)
    gone = topic + "-gone"
    create(bootstrap, gone)
    drop(bootstrap, gone)
    before = topic_id(bootstrap, topic)
    cluster = admin_of(bootstrap).list_topics(timeout=WAIT_S).cluster_id
    for how in ("term", "kill"):
        restart(how)
        equal(topic_id(bootstrap, topic), before, f"topic id after {how}")
        found = admin_of(bootstrap).list_topics(timeout=WAIT_S)
        equal(found.cluster_id, cluster, f"cluster id after {how}")
        check(gone not in found.topics, f"a deleted topic is back after {how}")
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        configs = admin_of(bootstrap).describe_configs([resource])[resource].result(WAIT_S)
        equal(configs["retention.ms"].value, "630720000000", f"retention.ms after {how}")
        expect_records(bootstrap, topic, sent, partitions=4)


def unknown_topic(bootstrap, topic):
    consumer = new_consumer(bootstrap)
    error = consumer.list_topics(topic, timeout=WAIT_S).topics[topic].error
    equal(error and error.code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "metadata of an unknown topic")
    failure = error_of(lambda: consumer.get_watermark_offsets(TopicPartition(topic, 0), WAIT_S))
    check(failure is not None, "a topic that does not exist has offsets")
    consumer.close()
    check(topic not in admin_of(bootstrap).list_topics(timeout=WAIT_S).topics, "reading created the topic")
    asked = TopicPartition(topic, 0, 0)
    answer = admin_of(bootstrap).delete_records([asked])
    failure = error_of(lambda: next(iter(answer.values())).result(WAIT_S))
    # librdkafka looks for the leader first, and so fails by itself.
    check(failure is not None, "records of a topic that does not exist can be deleted")


def auto_create(bootstrap, topic):
    """Producing to a topic that does not exist creates it, as stock clients expect by default."""
    send(new_producer(bootstrap), topic, [(0, b"k", b"v", [], int(time.time() * 1000))])
    got = []
    read(bootstrap, topic, lambda message: got.append(message.value()), partitions=1)
    equal(got, [b"v"], "records")


def too_large(bootstrap, topic):
    create(bootstrap, topic)
    producer = new_producer(bootstrap, message_max_bytes=3_000_000)
    rng = random.Random(3)
    largest = (0, b"k", rng.randbytes(1_048_000), [], T0_MS)
    send(producer, topic, [largest])
    failed = []
    producer.produce(topic, rng.randbytes(1_048_600), partition=0, on_delivery=lambda e, _: failed.append(e))
    producer.flush(WAIT_S)
    equal([e and e.name() for e in failed], ["MSG_SIZE_TOO_LARGE"], "a record above the limit")
    after = (0, None, b"after", [], T0_MS)
    send(producer, topic, [after])
    expect_records(bootstrap, topic, [largest, after])
    # A reader whose limit is far below the record must still get it, or it would stand still for ever.
    expect_records(
        bootstrap, topic, [largest, after], fetch_message_max_bytes=1000, fetch_max_bytes=70_000,
        message_max_bytes=66_000,
    )  # fmt: skip


def invalid_topic(bootstrap, topic):
    producer = new_producer(bootstrap, message_timeout_ms=5000)
    failed = []
    name = topic + " with blanks"
    producer.produce(name, b"v", on_delivery=lambda e, _: failed.append(e))
    producer.flush(WAIT_S)
    check(len(failed) == 1 and failed[0] is not None, "a record in a topic with an invalid name was acked")
    check(name not in admin_of(bootstrap).list_topics(timeout=WAIT_S).topics, "an invalid topic exists")


def unknown_partition(bootstrap, topic):
    create(bootstrap, topic)
    producer = new_producer(bootstrap, message_timeout_ms=5000)
    failed = []

    def attempt():
        producer.produce(topic, b"v", partition=7, on_delivery=lambda e, _: failed.append(e.name()))
        producer.flush(WAIT_S)

    # librdkafka fails the call itself once it knows the topic, and the delivery before.
    name = error_of(attempt) or failed[0]
    equal(name, "_UNKNOWN_PARTITION", "a partition that does not exist")
    send(new_producer(bootstrap), topic, sample_records(3))


def long_poll(bootstrap, topic):
    """A parked fetch is answered when a record becomes durable, not when its wait is over."""
    create(bootstrap, topic, partitions=1)
    wait_ms = 6_000
    consumer = new_consumer(
        bootstrap, fetch_wait_max_ms=wait_ms, fetch_min_bytes=1, socket_timeout_ms=60_000
    )
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    producer = new_producer(bootstrap, linger_ms=0)
    for i in range(5):
        check(consumer.poll(0.2) is None, "a record out of nowhere")
        sent_at = time.monotonic()
        send(producer, topic, [(0, None, b"%d" % i, [], T0_MS)])
        message = consumer.poll(WAIT_S)
        took_s = time.monotonic() - sent_at
        check(message is not None and message.error() is None, "the record did not come")
        equal(message.value(), b"%d" % i, "value")
        check(took_s < wait_ms / 1000 / 2, f"the record took {took_s:.1f} s")
    consumer.close()


def log_append_time(bootstrap, topic):
    create(bootstrap, topic, message_timestamp_type="LogAppendTime")
    before_ms = int(time.time() * 1000)
    send(new_producer(bootstrap, linger_ms=20), topic, [(0, None, b"v", [], T0_MS) for _ in range(10)])
    after_ms = int(time.time() * 1000)
    kinds = []
    read(bootstrap, topic, lambda message: kinds.append(message.timestamp()))
    for kind, time_ms in kinds:
        equal(kind, 2, "timestamp type (2 is log-append time)")
        check(before_ms - 1000 <= time_ms <= after_ms + 1000, f"append time {time_ms} is not now")


def out_of_range(bootstrap, topic):
    create(bootstrap, topic)
    sent = sample_records(30)
    send(new_producer(bootstrap), topic, sent)
    consumer = new_consumer(bootstrap)
    consumer.assign([TopicPartition(topic, 0, 5000)])
    message = consumer.poll(WAIT_S)
    check(message is not None and message.error() is not None, "an offset past the end is readable")
    equal(message.error().name(), "_AUTO_OFFSET_RESET", "error")
    consumer.close()
    consumer = new_consumer(bootstrap, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0, 5000)])
    message = consumer.poll(WAIT_S)
    check(message is not None and message.error() is None, "no reset to the earliest offset")
    equal(message.offset(), 0, "offset after the reset")
    consumer.close()


def recreated_topic(bootstrap, topic):
    """A producer and a consumer go on when their topic was deleted and created again."""
    create(bootstrap, topic)
    producer = new_producer(bootstrap, enable_idempotence=True)
    consumer = new_consumer(bootstrap, auto_offset_reset="earliest", retry_backoff_ms=20)
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
    # The second topic never gets as long as the first was: a position in that one is beyond its end.
    for count in (90, 30):
        sent = sample_records(count)
        send(producer, topic, sent)
        got = [[] for _ in range(PARTITIONS)]
        deadline = time.monotonic() + WAIT_S
        while sum(map(len, got)) < count:
            check(time.monotonic() < deadline, f"only {[len(records) for records in got]} of {count} records")
            for message in consumer.consume(100, timeout=0.05):
                # It tells of the partitions that were away.
                if message.error() is None:
                    equal(message.offset(), len(got[message.partition()]), "offset")
                    got[message.partition()].append(as_record(message))
        equal(got, [[record for record in sent if record[0] == p] for p in range(PARTITIONS)], "records")
        expect_records(bootstrap, topic, sent)
        drop(bootstrap, topic)
        if count == 90:
            create(bootstrap, topic)
    consumer.close()


def write(bootstrap, topic, codec):
    """One side of the cross matrix: records that every client can print, and their digests."""
    create(bootstrap, topic)
    digests = [Digest() for _ in range(PARTITIONS)]
    records = matrix_records("librdkafka")
    for partition, key, value, headers, timestamp in records:
        digests[partition].add(key, value, headers, timestamp)
    send(new_producer(bootstrap, compression_type=codec, linger_ms=20), topic, records)
    return {f"p{p}": digest.text() for p, digest in enumerate(digests)}


def read_digests(bootstrap, topic):
    """The other side: the digest of every partition, whoever wrote it."""
    consumer = new_consumer(bootstrap)
    partitions = partition_count(consumer, topic)
    consumer.close()
    digests = [Digest() for _ in range(partitions)]

    def visit(message):
        digest = digests[message.partition()]
        equal(message.offset(), digest.count, "offset")
        digest.add(message.key(), message.value(), message.headers() or [], message.timestamp()[1])

    read(bootstrap, topic, visit, partitions)
    return {f"p{p}": digest.text() for p, digest in enumerate(digests)}


def write_dataset(bootstrap, topic, records, partitions, seed):
    """The access log of ../dataset, each record in the partition of its visitor."""
    partitions = int(partitions)
    create(bootstrap, topic, partitions=partitions)
    digests = [Digest() for _ in range(partitions)]
    producer = new_producer(
        bootstrap,
        enable_idempotence=True,
        compression_type="lz4",
        linger_ms=20,
        queue_buffering_max_messages=200_000,
    )

    def generate():
        for visitor, key, value, headers, timestamp in AccessLog(int(seed), int(records)):
            partition = visitor % partitions
            digests[partition].add(key, value, headers, timestamp)
            yield partition, key, value, headers, timestamp

    send(producer, topic, generate())
    return {f"p{p}": digest.text() for p, digest in enumerate(digests)}


CASES = {
    case.__name__: case
    for case in (
        roundtrip, timestamps, topics, invalid_creations, many_topics, list_offsets, metadata, idempotent,
        delete_records, describe_configs, describe_cluster, create_partitions, alter_configs, group_offsets,
        group_members, group_commits, group_static, group_static_killed, group_static_fenced, restart_keeps, unknown_topic,
        auto_create, too_large, invalid_topic, unknown_partition, long_poll, log_append_time, out_of_range,
        recreated_topic, write, read_digests, write_dataset,
    )
}  # fmt: skip


if __name__ == "__main__":
    serve(CASES)
