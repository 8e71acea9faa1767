"""The cases of the clients that are written in Python: kafka-python and aiokafka.

Each of the two is wrapped as an *adapter* (kafka_python_client.py, aiokafka_client.py) with the same methods;
`Adapter` below says what they are. Blocking calls only: aiokafka's loop runs in a thread of its own, and so do
the polls of each member of kafka-python.
"""

import os
import random
import sys
import time
from typing import NamedTuple

from digest import Digest
from harness import PARTITIONS, T0_MS, WAIT_S, check, equal, matrix_records, restart, sample_records
from member_process import MemberProcess, tell

GROUP_PARTITIONS = 6
SESSION_MS = 6_000
# Of one that comes back in time: a program takes its time to start on a busy machine.
LONG_SESSION_MS = 30_000

UNKNOWN_TOPIC_OR_PARTITION = 3
MESSAGE_TOO_LARGE = 10
INVALID_TOPIC = 17
UNKNOWN_MEMBER_ID = 25
FENCED_INSTANCE_ID = 82
TOPIC_ALREADY_EXISTS = 36
INVALID_REPLICATION_FACTOR = 38
INVALID_CONFIG = 40
INVALID_PARTITIONS = 37
OFFSET_OUT_OF_RANGE = 1


class Message(NamedTuple):
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list
    timestamp: int
    # 0 is the producer's time, 1 the time of the append.
    timestamp_type: int

    def record(self):
        return (self.partition, self.key, self.value, list(self.headers), self.timestamp)


def messages(polled):
    """Of what a poll of either client gives: records by partition."""
    return [
        Message(r.partition, r.offset, r.key, r.value, list(r.headers), r.timestamp, r.timestamp_type)
        for records in polled.values()
        for r in records
    ]


class Topic(NamedTuple):
    error: int
    id: str | None
    leaders: dict
    in_sync: dict


class Adapter:
    """What the cases ask of a client. A method that a client lacks is None."""

    name = ""
    # How a member in a process of its own is started; see `main`.
    program = ""
    # Its classes for a producer, a reader and a member of a group.
    kinds = None, None, None

    create = drop = topics = describe = cluster = topic_configs = broker_configs = delete_records = None
    # Of the nulls that a record can have, the ones that the client can write.
    can_write_null_headers = False
    can_write_null_and_null = False
    # Whether it always asks for topics with the leave to create them.
    describing_creates = False

    def producer(self, **settings):
        return self.kinds[0](self.bootstrap, **settings)

    def reader(self, topic, starts, **settings):
        return self.kinds[1](self.bootstrap, topic, starts, **settings)

    def member(self, *args):
        return self.kinds[2](self.bootstrap, *args)

    def member_process(self, *args):
        return MemberProcess(self.program, "member", self.bootstrap, *args)

    def sayable(self, record):
        """The record, with empty bytes for what must not be null."""
        partition, key, value, headers, timestamp = record
        if not self.can_write_null_and_null and key is None and value is None:
            value = b""
        if not self.can_write_null_headers:
            headers = [(name, content or b"") for name, content in headers]
        return (partition, key, value, headers, timestamp)

    bounds = lookup = max_timestamp = committed = commit = None
    groups = group_state = delete_group = None
    create_partitions = alter_configs = reset_configs = None


def error_of(call):
    """The protocol's number of the error that `call` raises, its name where there is none, or None."""
    try:
        call()
    except Exception as error:  # Each library has a base class of its own.
        return getattr(error, "errno", None) or type(error).__name__
    return None


def patient(call):
    """The result of `call`, tried again while a leader or coordinator is not ready after a restart."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return call()
        except Exception as error:
            again = getattr(error, "retriable", False) or isinstance(error, OSError)
            if not again or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def until(condition, what, poll=lambda: time.sleep(0.01)):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        check(time.monotonic() < deadline, what() if callable(what) else what)
        poll()


def sample(client, count, partitions=PARTITIONS):
    return [client.sayable(record) for record in sample_records(count, partitions)]


def create(client, topic, partitions=PARTITIONS, config=None):
    # The records carry timestamps of the past, which retention by age would act upon.
    client.create(topic, partitions, {"retention.ms": "-1", **(config or {})})
    # Apache Kafka answers a creation before its brokers lead the partitions; a case begins after that.
    patient(lambda: client.bounds(topic, partitions))


def send(client, topic, records, **settings):
    """Produces and fails unless each record is acknowledged; returns (partition, offset) of each."""
    producer = client.producer(**settings)
    try:
        return producer.start(topic, records).wait(len(records))
    finally:
        producer.close()


def read(client, topic, visit, partitions=PARTITIONS, start=0, **settings):
    """Visits every message of the topic, by assigned partitions, from `start` to the ends of now."""
    left = {}
    for p, (low, high) in enumerate(patient(lambda: client.bounds(topic, partitions))):
        if high > max(low, start):
            left[p] = (max(low, start), high)
    if not left:
        return
    reader = client.reader(topic, {p: first for p, (first, _) in left.items()}, **settings)
    try:
        def poll():
            for message in reader.poll():
                visit(message)
                if message.offset + 1 == left.get(message.partition, (0, 0))[1]:
                    del left[message.partition]

        until(lambda: not left, lambda: f"records missing in partitions {sorted(left)}", poll)
    finally:
        reader.close()


def expect_records(client, topic, sent, partitions=PARTITIONS, **settings):
    got = [[] for _ in range(partitions)]

    def visit(message):
        equal(message.offset, len(got[message.partition]), "offset")
        got[message.partition].append(message.record())

    read(client, topic, visit, partitions, **settings)
    for p in range(partitions):
        expected = [record for record in sent if record[0] == p]
        equal(len(got[p]), len(expected), f"records in partition {p}")
        for offset, (a, b) in enumerate(zip(got[p], expected)):
            equal(a, b, f"record {p}/{offset}")


# --- records ------------------------------------------------------------------------------------


def roundtrip(client, topic, codec, acks):
    create(client, topic)
    sent = sample(client, 600)
    acked = send(client, topic, sent, codec=codec, acks=int(acks), linger_ms=20)
    if acks == "0":
        # Nothing tells when the records have arrived, so the ends are polled.
        arrived = lambda: sum(high for _, high in client.bounds(topic, PARTITIONS)) >= len(sent)  # noqa: E731
        until(arrived, "records sent with acks=0 did not arrive")
    else:
        equal(len(set(acked)), len(sent), "distinct acknowledged offsets")
    expect_records(client, topic, sent)
    expect_records(client, topic, sent, read_committed=True)
    client.drop(topic)


def idempotent(client, topic, how):
    """An idempotent producer goes on while the broker is restarted under it, twice."""
    create(client, topic)
    count = 9_000
    # Apache Kafka forgets a producer at a restart when its last record's timestamp is a day old.
    now = int(time.time() * 1000)
    sent = [(i % PARTITIONS, b"%d" % i, b"value %d" % i, [("i", b"%d" % i)], now + i) for i in range(count)]
    producer = client.producer(idempotent=True, batch_bytes=4000)
    third = count // 3
    pending = []
    for first in range(0, count, third):
        pending.append(producer.start(topic, sent[first : first + third]))
        if first + third < count:
            pending[-1].wait(third // 2)
            restart(how)
    for part in pending:
        part.wait(third)
    producer.close()
    expect_records(client, topic, sent)
    restart(how)
    expect_records(client, topic, sent)


def too_large(client, topic):
    create(client, topic)
    rng = random.Random(3)
    largest = (0, b"k", rng.randbytes(1_048_000), [], T0_MS)
    send(client, topic, [largest], request_bytes_max=3_000_000)
    larger = (0, None, rng.randbytes(1_048_600), [], T0_MS)
    failure = error_of(lambda: send(client, topic, [larger], request_bytes_max=3_000_000))
    equal(failure, MESSAGE_TOO_LARGE, "a record above the limit")
    after = (0, None, b"after", [], T0_MS)
    send(client, topic, [after])
    expect_records(client, topic, [largest, after])
    # A reader whose limit is far below the record must still get it, or it would stand still for ever.
    expect_records(client, topic, [largest, after], fetch_bytes_max=1000)


def auto_create(client, topic):
    """Producing to a topic that does not exist creates it, as stock clients expect by default."""
    send(client, topic, [(0, b"k", b"v", [], int(time.time() * 1000))])
    got = []
    read(client, topic, got.append, partitions=1)
    equal([message.value for message in got], [b"v"], "records")


def long_poll(client, topic):
    """A parked fetch is answered when a record becomes durable, not when its wait is over."""
    create(client, topic, partitions=1)
    wait_ms = 6_000
    reader = client.reader(topic, {0: 0}, fetch_wait_ms=wait_ms)
    producer = client.producer()
    for i in range(5):
        equal(reader.poll(0.2), [], "records out of nowhere")
        sent_at = time.monotonic()
        producer.start(topic, [(0, None, b"%d" % i, [], T0_MS)]).wait(1)
        messages = reader.poll(WAIT_S)
        took_s = time.monotonic() - sent_at
        equal([message.value for message in messages], [b"%d" % i], "records")
        check(took_s < wait_ms / 1000 / 2, f"the record took {took_s:.1f} s")
    producer.close()
    reader.close()


def log_append_time(client, topic):
    create(client, topic, config={"message.timestamp.type": "LogAppendTime"})
    before_ms = int(time.time() * 1000)
    send(client, topic, [(0, None, b"v", [], T0_MS) for _ in range(10)], linger_ms=20)
    after_ms = int(time.time() * 1000)
    got = []
    read(client, topic, got.append)
    equal(len(got), 10, "records")
    for message in got:
        equal(message.timestamp_type, 1, "timestamp type (1 is log-append time)")
        now = before_ms - 1000 <= message.timestamp <= after_ms + 1000
        check(now, f"append time {message.timestamp} is not now")


def out_of_range(client, topic):
    create(client, topic)
    send(client, topic, sample(client, 30))
    reader = client.reader(topic, {0: 5000}, reset="none")
    failure = error_of(lambda: reader.poll(WAIT_S))
    check(failure in (OFFSET_OUT_OF_RANGE, "OffsetOutOfRangeError"), f"an offset past the end: {failure}")
    reader.close()
    reader = client.reader(topic, {0: 5000}, reset="earliest")
    equal(reader.poll(WAIT_S)[0].offset, 0, "offset after the reset")
    reader.close()


def recreated_topic(client, topic):
    """A producer and a consumer go on when their topic was deleted and created again."""
    create(client, topic)
    producer = client.producer()
    reader = client.reader(topic, {p: 0 for p in range(PARTITIONS)}, reset="earliest")
    # The second topic never gets as long as the first was: a position in that one is beyond its end.
    for count in (90, 30):
        sent = sample(client, count)
        producer.start(topic, sent).wait(count)
        got = [[] for _ in range(PARTITIONS)]

        def poll():
            for message in reader.poll():
                equal(message.offset, len(got[message.partition]), "offset")
                got[message.partition].append(message.record())

        until(lambda: sum(map(len, got)) >= count, lambda: f"{[len(records) for records in got]} of {count}", poll)
        equal(got, [[record for record in sent if record[0] == p] for p in range(PARTITIONS)], "records")
        expect_records(client, topic, sent)
        if count == 90:
            client.drop(topic)
            create_again(client, topic)
    reader.close()
    producer.close()
    client.drop(topic)


def create_again(client, topic):
    """Creates a topic that was deleted, which aiokafka's reader may have done before, in the broker's way."""
    failure = error_of(lambda: create(client, topic))
    if client.describing_creates and failure == TOPIC_ALREADY_EXISTS:
        client.alter_configs(topic, {"retention.ms": "-1"})
        failure = error_of(lambda: client.create_partitions(topic, PARTITIONS))
    check(failure is None, f"the second creation: {failure}")


def unknown_topic(client, topic):
    if not client.describing_creates:
        equal(client.describe(topic).error, UNKNOWN_TOPIC_OR_PARTITION, "metadata of an unknown topic")
    check(topic not in client.topics(), "an unknown topic is listed")
    failure = error_of(lambda: client.drop(topic))
    equal(failure, UNKNOWN_TOPIC_OR_PARTITION, "deletion of an unknown topic")


def invalid_topic(client, topic):
    name = topic + " with blanks"
    failure = error_of(lambda: send(client, name, [(0, None, b"v", [], T0_MS)], patience_s=3))
    check(failure is not None, "a record in a topic with an invalid name was acked")
    check(name not in client.topics(), "an invalid topic exists")


# --- offsets ------------------------------------------------------------------------------------


def timestamps(client, topic, codec):
    create(client, topic, partitions=1)
    count = 500
    step_ms = 1000
    # Two records per timestamp: a lookup must find the first of them, inside a batch.
    sent = [(0, b"k", b"%d" % i, [], T0_MS + i // 2 * step_ms) for i in range(count)]
    send(client, topic, sent, codec=codec, linger_ms=50)
    for i in (0, 1, 17, 123, 249):
        at = T0_MS + i * step_ms
        equal(client.lookup(topic, at), (2 * i, at), f"offset at the time of pair {i}")
        equal(client.lookup(topic, at - 1), (2 * i, at), f"offset just before pair {i}")
    equal(client.lookup(topic, T0_MS + count * step_ms), None, "offset after the last record")
    if client.max_timestamp is not None:
        offset, timestamp = client.max_timestamp(topic)
        check(offset in (count - 2, count - 1), f"offset of the maximum timestamp: {offset}")
        equal(timestamp, T0_MS + (count // 2 - 1) * step_ms, "maximum timestamp")
    start, _ = client.lookup(topic, T0_MS + 200 * step_ms)
    seen = []
    read(client, topic, lambda message: seen.append(message.offset), partitions=1, start=start)
    equal(seen, list(range(400, count)), "offsets consumed from a timestamp")


def list_offsets(client, topic):
    create(client, topic)
    for read_committed in (False, True):
        bounds = client.bounds(topic, PARTITIONS, read_committed)
        equal(bounds, [(0, 0)] * 3, "starts and ends of an empty topic")
    send(client, topic, sample(client, 100))
    for read_committed in (False, True):
        bounds = client.bounds(topic, PARTITIONS, read_committed)
        equal(bounds, [(0, 34), (0, 33), (0, 33)], "starts and ends")


def delete_records(client, topic):
    create(client, topic)
    sent = sample(client, 300)
    send(client, topic, sent)
    equal(client.delete_records(topic, 0, 40), 40, "new start of partition 0")
    equal(client.delete_records(topic, 1, -1), 100, "new start of partition 1")
    failure = error_of(lambda: client.delete_records(topic, 2, 101))
    check(failure in (OFFSET_OUT_OF_RANGE, "UnknownError"), f"deletion past the end: {failure}")
    bounds = client.bounds(topic, PARTITIONS)
    equal(bounds, [(40, 100), (100, 100), (0, 100)], "starts and ends")
    got = []
    read(client, topic, lambda message: got.append(message.record()), start=40)
    expected = [record for record in sent if record[0] == 0]
    equal([record for record in got if record[0] == 0], expected[40:], "what is left of partition 0")


def group_offsets(client, topic):
    """Offsets committed under a group id, without members, survive restarts of both kinds."""
    create(client, topic)
    send(client, topic, sample(client, 90))
    group = topic + "-group"

    def expect(expected, when):
        equal(patient(lambda: client.committed(group, topic, PARTITIONS)), expected, when)

    expect([None] * PARTITIONS, "before any commit")
    client.commit(group, topic, {0: (5, "five"), 1: (7, "")})
    expect([(5, "five"), (7, ""), None], "after the first commit")
    restart("term")
    expect([(5, "five"), (7, ""), None], "after a restart")
    offsets = {0: (6, ""), 1: (30, "end"), 2: (0, "zero")}
    patient(lambda: client.commit(group, topic, offsets))
    restart("kill")
    expect([(6, ""), (30, "end"), (0, "zero")], "after kill -9")


# --- topics and the cluster ---------------------------------------------------------------------


def topics(client, topic):
    create(client, topic, partitions=5)
    first = client.describe(topic)
    equal(sorted(first.leaders), list(range(5)), "partitions")
    equal(error_of(lambda: create(client, topic)), TOPIC_ALREADY_EXISTS, "second creation")
    send(client, topic, sample(client, 10))
    client.drop(topic)
    check(topic not in client.topics(), "a deleted topic is listed")
    equal(error_of(lambda: client.drop(topic)), UNKNOWN_TOPIC_OR_PARTITION, "second deletion")
    create(client, topic, partitions=2)
    if first.id is not None:
        check(client.describe(topic).id != first.id, "a topic created again has its old id")
    equal(client.bounds(topic, 2), [(0, 0)] * 2, "a topic created again begins empty")
    client.drop(topic)


def invalid_creations(client, topic):
    def attempt(name, replicas=1, config=None):
        return error_of(lambda: client.create(name, 1, config, replicas=replicas))

    equal(attempt("bad/name"), INVALID_TOPIC, "a slash in the name")
    equal(attempt("x" * 250), INVALID_TOPIC, "250 characters")
    equal(attempt(".."), INVALID_TOPIC, "two dots")
    equal(attempt(topic, replicas=3), INVALID_REPLICATION_FACTOR, "more replicas than brokers")
    equal(attempt(topic, config={"no.such.config": "1"}), INVALID_CONFIG, "an unknown config")
    equal(attempt(topic, config={"retention.ms": "soon"}), INVALID_CONFIG, "a config without a number")
    client.create(topic, 1, validate_only=True)
    check(topic not in client.topics(), "a validation created the topic")


def metadata(client, topic):
    create(client, topic)
    cluster_id, controller, nodes = client.cluster()
    check(cluster_id, "no cluster id")
    check(controller in nodes, "the controller is not among the brokers")
    found = client.describe(topic)
    equal(sorted(found.leaders), [0, 1, 2], "partitions")
    for partition, leader in found.leaders.items():
        check(leader in nodes, f"leader {leader} is not among the brokers")
        check(leader in found.in_sync[partition], "the leader is not in sync with itself")


def describe_cluster(client, topic, own_address):
    _, controller, nodes = client.cluster()
    host, port = client.bootstrap.rsplit(":", 1)
    check(((host, int(port)) in nodes.values()) == (own_address == "listed"), f"own address: {nodes}")
    check(controller in nodes, "the controller is not a node")


def describe_configs(client, topic):
    create(client, topic, config={"retention.ms": "7200000", "max.message.bytes": "500000"})
    found = client.topic_configs(topic)
    equal(found["retention.ms"], ("7200000", False), "retention.ms, and whether it is a default")
    equal(found["max.message.bytes"], ("500000", False), "max.message.bytes")
    equal(found["cleanup.policy"], ("delete", True), "cleanup.policy")
    for name in ("retention.bytes", "segment.bytes", "message.timestamp.type", "compression.type"):
        check(name in found, f"{name} is not listed")
    _, _, nodes = client.cluster()
    check(client.broker_configs(next(iter(nodes))), "a broker without configs")


def create_partitions(client, topic):
    create(client, topic, partitions=2)
    send(client, topic, sample(client, 20, partitions=2))
    client.create_partitions(topic, 5)
    equal(sorted(client.describe(topic).leaders), list(range(5)), "partitions")
    for count in (3, 5):
        failure = error_of(lambda: client.create_partitions(topic, count))
        equal(failure, INVALID_PARTITIONS, f"{count} partitions where there are 5")
    send(client, topic, sample(client, 50, partitions=5))
    equal(client.bounds(topic, 5), [(0, 20), (0, 20), (0, 10), (0, 10), (0, 10)], "starts and ends")


def alter_configs(client, topic):
    """Sets a config and takes it back; with AlterConfigs, what is not named goes back to its default."""
    create(client, topic, config={"retention.ms": "-1"})
    client.alter_configs(topic, {"retention.ms": "3600000", "max.message.bytes": "600000"})
    found = client.topic_configs(topic)
    equal(found["retention.ms"], ("3600000", False), "retention.ms, and whether it is a default")
    equal(found["max.message.bytes"], ("600000", False), "max.message.bytes")
    for wrong in ({"no.such.config": "1"}, {"retention.ms": "soon"}):
        failure = error_of(lambda: client.alter_configs(topic, wrong))
        check(failure in (INVALID_CONFIG, "ValueError"), f"an alteration to {wrong}: {failure}")
    client.reset_configs(topic, ["retention.ms", "max.message.bytes"])
    found = client.topic_configs(topic)
    check(found["retention.ms"][1] and found["max.message.bytes"][1], f"not the defaults: {found}")


def restart_keeps(client, topic):
    """What a topic is (id, partitions, configs, records) outlives both kinds of restart."""
    create(client, topic, partitions=4, config={"retention.ms": "630720000000"})
    sent = sample(client, 400, partitions=4)
    send(client, topic, sent)
    gone = topic + "-gone"
    # Not with `create`: of a topic whose ends aiokafka has looked up it asks ever again, with the leave to create it.
    client.create(gone, PARTITIONS)
    client.drop(gone)
    before = client.describe(topic).id
    cluster_id, _, _ = client.cluster()
    for how in ("term", "kill"):
        restart(how)
        equal(patient(client.cluster)[0], cluster_id, f"cluster id after {how}")
        equal(patient(lambda: client.describe(topic)).id, before, f"topic id after {how}")
        check(gone not in client.topics(), f"a deleted topic is back after {how}")
        configs = patient(lambda: client.topic_configs(topic))
        equal(configs["retention.ms"], ("630720000000", False), f"retention.ms after {how}")
        expect_records(client, topic, sent, partitions=4)


# --- groups -------------------------------------------------------------------------------------


def shared(members):
    """Do the members share all partitions, each partition with one owner?"""
    owned = [partition for member in members for partition in member.assigned()]
    return sorted(owned) == list(range(GROUP_PARTITIONS)) and all(member.assigned() for member in members)


def poll_all(members):
    for member in members:
        member.poll(0.02)


def await_shares(members, what):
    said = lambda: f"{what}: {[sorted(member.assigned()) for member in members]}"  # noqa: E731
    until(lambda: shared(members), said, lambda: poll_all(members))


def group_members(client, topic, strategy):
    """Three share the partitions; one is killed, one leaves, and the last takes over."""
    create(client, topic, partitions=GROUP_PARTITIONS)
    group = topic + "-members"
    first, second = (client.member(group, topic, strategy) for _ in range(2))
    both = [first, second]
    await_shares(both, "two members")
    with client.member_process(group, topic, strategy) as third:
        # The others are polled until it has told: a cooperative rebalance has more than one step.
        await_shares([*both, third], "a third member")
    await_shares(both, "the third was killed")
    second.close()
    await_shares([first], "the second has left")
    check(group in client.groups(), "the group is not listed")
    equal(client.group_state(group)[0], "Stable", "state")
    first.close()
    if client.delete_group is not None:
        equal(client.delete_group(group), None, "deletion of a group without members")
        equal(client.delete_group(group), 69, "deletion of a group that is gone")


def group_static(client, topic):
    """A static member that restarts, and a broker that does, are no reason to rebalance; commits stay."""
    create(client, topic, partitions=GROUP_PARTITIONS)
    group = topic + "-static"
    members = [client.member(group, topic, "range", name) for name in ("one", "two", "three")]
    await_shares(members, "three static members")
    poll_for(members, 1)
    before = [member.rebalances for member in members]
    owned = members[0].assigned()
    members[0].close()
    members[0] = client.member(group, topic, "range", "one")
    until(lambda: members[0].assigned() == owned, "the first came back", lambda: poll_all(members))
    for number, how in enumerate(("kill", "term")):
        for member in members:
            patient(lambda: member.commit({p: 10 + p + number for p in member.assigned()}))
        restart(how)
        # Longer than a session: whoever was not recognised would be gone by then.
        poll_for(members, SESSION_MS / 1000 + 2)
        check(shared(members), f"the members lost their partitions: {how}")
    equal([member.rebalances for member in members[1:]], before[1:], "rebalances of members that never went")
    state, names = patient(lambda: client.group_state(group))
    equal(state, "Stable", "state")
    if names is not None:
        equal(sorted(names), ["one", "three", "two"], "static members")
    found = [offset for offset, _ in client.committed(group, topic, GROUP_PARTITIONS)]
    equal(found, [11 + p for p in range(GROUP_PARTITIONS)], "committed offsets")
    for member in members:
        member.close()


def group_static_killed(client, topic):
    """Who comes back within its session finds its partitions, and nobody is rebalanced; who stays away loses them."""
    create(client, topic, partitions=GROUP_PARTITIONS)
    group = topic + "-killed"
    others = [client.member(group, topic, "range", name) for name in ("one", "two")]

    def third(session_ms):
        return client.member_process(group, topic, "range", "three", str(session_ms))

    with third(LONG_SESSION_MS) as killed:
        await_shares([*others, killed], "three static members")
    before = [member.rebalances for member in others]
    with third(SESSION_MS) as again:
        came_back = lambda: again.assigned() == killed.assigned()  # noqa: E731
        until(came_back, lambda: f"the third came back to {again.assigned()}", lambda: poll_all(others))
        equal([member.rebalances for member in others], before, "rebalances of members that never went")
        check(shared([*others, again]), "the members lost their partitions")
    await_shares(others, "the third stayed away")
    for member in others:
        member.close()


def group_static_fenced(client, topic):
    """Who comes with the instance id of one that lives takes its place, and the other is told so."""
    create(client, topic, partitions=GROUP_PARTITIONS)
    group = topic + "-fenced"
    first, second = (client.member(group, topic, "range", name) for name in ("one", "two"))
    await_shares([first, second], "two static members")
    place, before = first.assigned(), second.rebalances
    again = client.member(group, topic, "range", "one")
    there = lambda: again.assigned() == place  # noqa: E731
    until(there, lambda: f"another one came to {again.assigned()}", lambda: poll_all([second, again]))
    # Of its heartbeats, which are refused, kafka-python says nothing.
    equal(error_of(lambda: first.commit({p: 1 for p in place})), FENCED_INSTANCE_ID, "a commit of the first")
    again.commit({p: 2 for p in place})
    equal(second.rebalances, before, "rebalances of a member that never went")
    check(shared([second, again]), "the other one did not stay")
    for member in [first, second, again]:
        member.close()


def poll_for(members, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        poll_all(members)


def group_commits(client, topic):
    """A group reads on where it committed, from the start when it was reset, and only its members commit."""
    create(client, topic)
    send(client, topic, sample(client, 90))
    group = topic + "-commits"

    def first_offsets(before_leaving=lambda member: None):
        """The first offset that a new, only member gets of each partition, and how many records."""
        member = client.member(group, topic, "range")
        until(lambda: len(member.assigned()) == PARTITIONS, "an only member", lambda: member.poll(0.02))
        records = member.records
        expected = sum(30 - offset for offset in committed_or_zero())
        until(lambda: len(records) >= expected, "records of the group", lambda: member.poll(0.02))
        before_leaving(member)
        member.close()
        firsts = {p: min(offset for q, offset in records if q == p) for p, _ in records}
        return [firsts.get(p) for p in range(PARTITIONS)], len(records)

    def committed_or_zero():
        return [0 if found is None else found[0] for found in client.committed(group, topic, PARTITIONS)]

    equal(first_offsets(lambda m: m.commit({0: 5, 1: 10, 2: 29})), ([0, 0, 0], 90), "a new group")

    def intrude(_):
        failure = error_of(lambda: client.commit(group, topic, {0: (0, "")}))
        refused = failure in (UNKNOWN_MEMBER_ID, "CommitFailedError")
        check(refused, f"a commit into a group that has members: {failure}")

    equal(first_offsets(intrude), ([5, 10, 29], 46), "after the commit")
    client.commit(group, topic, {p: (0, "") for p in range(PARTITIONS)})
    equal(first_offsets(), ([0, 0, 0], 90), "after the reset")
    equal(committed_or_zero(), [0, 0, 0], "committed offsets at the end")


# --- the cross matrix ---------------------------------------------------------------------------


def write(client, topic, codec):
    create(client, topic)
    digests = [Digest() for _ in range(PARTITIONS)]
    records = [client.sayable(record) for record in matrix_records(client.name)]
    for partition, key, value, headers, timestamp in records:
        digests[partition].add(key, value, headers, timestamp)
    send(client, topic, records, codec=codec, linger_ms=20)
    return {f"p{p}": digest.text() for p, digest in enumerate(digests)}


def read_digests(client, topic):
    partitions = len(client.describe(topic).leaders)
    digests = [Digest() for _ in range(partitions)]

    def visit(message):
        digest = digests[message.partition]
        equal(message.offset, digest.count, "offset")
        digest.add(message.key, message.value, message.headers, message.timestamp)

    read(client, topic, visit, partitions)
    return {f"p{p}": digest.text() for p, digest in enumerate(digests)}


CASES = {
    case.__name__: case
    for case in (
        roundtrip, idempotent, too_large, auto_create, long_poll, log_append_time, out_of_range, recreated_topic, unknown_topic,
        invalid_topic, timestamps, list_offsets, delete_records, group_offsets, topics, invalid_creations,
        metadata, describe_cluster, describe_configs, create_partitions, alter_configs,
        restart_keeps, group_members, group_static, group_static_killed, group_static_fenced,
        group_commits, write, read_digests,
    )
}  # fmt: skip


def cases_with(connect):
    """The cases for the runner; `connect(bootstrap)` makes the adapter, once for each address."""
    clients = {}

    def bound(case):
        def call(bootstrap, topic, **args):
            if bootstrap not in clients:
                clients[bootstrap] = connect(bootstrap)
            return case(clients[bootstrap], topic, **args)

        return call

    return {name: bound(case) for name, case in CASES.items()}


def main(adapter):
    """The program of an adapter: serves the runner, or is a member of a group."""
    from harness import serve

    if sys.argv[1:2] == ["member"]:
        _, _, bootstrap, *args = sys.argv
        client = adapter(bootstrap)
        tell(client.member(*args))
    else:
        serve(cases_with(adapter))
        # Clients that are open may have threads which outlive the cases.
        sys.stdout.flush()
        os._exit(0)
