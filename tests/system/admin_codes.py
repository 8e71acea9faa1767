"""Which error code answers administration: topics, partitions, records, configs, offsets, and what is described."""

import shapes
import wire
from codes import LIMIT_S, NONE, Code, Differs, Each, Row, Table, Whole, make_topic, settled
from rig import equal, until

TOPIC, PARTITIONS, RECORDS = "orders", 3, 10
TIMEOUT_MS = 10_000
INT_MAX, LONG_MAX = 2**31 - 1, 2**63 - 1
LOGGER = "levels of logging are set by telemetry.log, at the start"
METRICS = "metrics of clients are not collected"
GROUPS = "groups have no configs of their own"
NO_COMPACTION = "there is no compaction: a topic must not believe that its records stay"
NOT_WHILE_IT_RUNS = "what has a meaning here is set in the broker's configuration, for its next start"
NOBODY_KNOWS_IT = "nothing reads a config that nobody knows: most likely it is misspelt"
NO_TRANSACTIONS = "there are no transactions; of the codes that end a producer, the one of an incompatible broker"
COUNTED_TWICE = "Kafka 4.1 finds no words: it stumbles over the name when it counts the errors of its answer"
EACH_TIME = "the answer is as long as the question; Kafka answers once, with the same code"
ELIGIBLE = "Kafka sets min.insync.replicas of all brokers for its eligible leaders, and lets nobody leave it out"
EACH_BY_ITSELF = "Kafka counts the partitions of a request; here each topic is judged by itself"

UNKNOWN, INVALID_NAME = Code.UNKNOWN_TOPIC_OR_PARTITION, Code.INVALID_TOPIC_EXCEPTION
REQUEST, CONFIG = Code.INVALID_REQUEST, Code.INVALID_CONFIG
PARTITION_COUNT, REPLICATION = Code.INVALID_PARTITIONS, Code.INVALID_REPLICATION_FACTOR
ASSIGNMENT, RANGE, VERSION = Code.INVALID_REPLICA_ASSIGNMENT, Code.OFFSET_OUT_OF_RANGE, Code.UNSUPPORTED_VERSION

# Types of resources, and what is done to a config.
TOPICS, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = wire.TOPIC_RESOURCE, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


# --- Requests. ---


def create(*names, partitions=1, replication=1, assigned=(), configs=(), dry=False):
    assignments = [[index, brokers] for index, brokers in assigned]
    topics = [[name, partitions, replication, assignments, [list(pair) for pair in configs]] for name in names]
    return wire.CREATE_TOPICS, 4, [topics, TIMEOUT_MS, dry]


def grow(*names, to, assigned=None, dry=False):
    assignments = None if assigned is None else [[brokers] for brokers in assigned]
    return wire.CREATE_PARTITIONS, 1, [[[name, to, assignments] for name in names], TIMEOUT_MS, dry]


def delete(*names):
    return wire.DELETE_TOPICS, 3, [list(names), TIMEOUT_MS]


def delete_by(*topics):
    """By name or id, or both."""
    return wire.DELETE_TOPICS, 6, [[list(topic) for topic in topics], TIMEOUT_MS]


def delete_records(before, topic=TOPIC, partition=0):
    return wire.DELETE_RECORDS, 1, [[[topic, [[partition, before]]]], TIMEOUT_MS]


def alter(*configs, kind=TOPICS, name=TOPIC, times=1):
    """All configs of a resource at once. Nothing is changed."""
    return wire.ALTER_CONFIGS, 1, [[[kind, name, [list(config) for config in configs]]] * times, True]


def change(*configs, kind=TOPICS, name=TOPIC, times=1):
    """Single configs: name, operation, value. Nothing is changed."""
    return wire.INCREMENTAL_ALTER_CONFIGS, 0, [[[kind, name, [list(config) for config in configs]]] * times, True]


def list_offsets(at, version, topic=TOPIC, partition=0, epoch=-1, isolation=0, times=1):
    timeout = [TIMEOUT_MS] if version >= 10 else []
    return wire.LIST_OFFSETS, version, [-1, isolation, [[topic, [[partition, epoch, at]] * times]], *timeout]


def epoch_end(of, topic=TOPIC, partition=0, known=-1):
    return wire.OFFSET_FOR_LEADER_EPOCH, 3, [-1, [[topic, [[partition, known, of]]]]]


def describe_configs(kind, name):
    return wire.DESCRIBE_CONFIGS, 3, [[[kind, name, None]], 0, 0]


def describe_partitions(*names, limit=2000):
    return wire.DESCRIBE_TOPIC_PARTITIONS, 0, [[[name] for name in names], limit, -1]


def describe_producers(topic, partition=0):
    return wire.DESCRIBE_PRODUCERS, 0, [[[topic, [partition]]]]


def credentials(users):
    return wire.DESCRIBE_USER_SCRAM_CREDENTIALS, 0, [users and [[user] for user in users]]


def metadata(*names):
    """Nothing is made."""
    return wire.METADATA, 8, [[[name] for name in names], 0, 0, 0]


# --- The table. Every row finds what the rows before it have left. ---


def of_topics(node):
    other = node + 1
    return [
        Row("create: dry", create("new", dry=True), NONE),
        Row("create: nothing came of it", metadata("new"), Whole(UNKNOWN)),
        Row("create", create("new"), NONE),
        Row("create: again", create("new"), Code.TOPIC_ALREADY_EXISTS),
        Row("create: again, dry", create("new", dry=True), Code.TOPIC_ALREADY_EXISTS),
        Row("create: again, no partitions", create("new", partitions=0), Code.TOPIC_ALREADY_EXISTS),
        *(Row(f"create: name {name!r:.12}", create(name), INVALID_NAME)
          for name in ("", ".", "..", "a/b", "a b", "größe", "a\0b", "x" * 250)),
        Row("create: the longest name", create("x" * 249, dry=True), NONE),
        Row("create: a name with a dot", create("a.b"), NONE),
        Row("create: metrics could not tell it", create("a_b"), INVALID_NAME),
        Row("create: metrics could not tell it, unknown config", create("a_b", configs=[("retention.ns", "1")]), INVALID_NAME),
        Row("create: bad name, no partitions", create("a/b", partitions=0), INVALID_NAME),
        *(Row(f"create: {count} partitions", create("p", partitions=count), PARTITION_COUNT) for count in (0, -2, -2**31)),
        Row("create: partitions by default", create("p", partitions=-1, dry=True), NONE),
        Row("create: 10^9 partitions", create("p", partitions=10**9),
            Differs(PARTITION_COUNT, Code.POLICY_VIOLATION, EACH_BY_ITSELF)),
        *(Row(f"create: {count} replicas", create("r", replication=count), REPLICATION) for count in (0, -2, 2, 32_767)),
        Row("create: replicas by default", create("r", replication=-1, dry=True), NONE),
        Row("create: no partitions, two replicas", create("r", partitions=0, replication=2), PARTITION_COUNT),
        Row("create: no partitions, no replicas", create("r", partitions=0, replication=0), REPLICATION),
        Row("create: config", create("c", configs=[("retention.ms", "1000")], dry=True), NONE),
        Row("create: unknown config", create("c", configs=[("retention.ns", "1")]), CONFIG),
        Row("create: config of a wrong type", create("c", configs=[("retention.ms", "soon")]), CONFIG),
        Row("create: config out of range", create("c", configs=[("retention.ms", "-2")]), CONFIG),
        Row("create: config beyond 64 bits", create("c", configs=[("retention.ms", str(2**63))]), CONFIG),
        Row("create: empty config", create("c", configs=[("retention.ms", "")]), CONFIG),
        Row("create: config without value", create("c", configs=[("retention.ms", None)]), CONFIG),
        Row("create: no such choice", create("c", configs=[("message.timestamp.type", "Never")]), CONFIG),
        Row("create: compacted", create("c", configs=[("cleanup.policy", "compact")], dry=True),
            Differs(CONFIG, NONE, NO_COMPACTION)),
        Row("create: bad config, no partitions", create("c", partitions=0, configs=[("x", "1")]), CONFIG),
        Row("create: assigned", create("d", partitions=-1, replication=-1, assigned=[(0, [node])], dry=True), NONE),
        Row("create: assigned elsewhere", create("d", partitions=-1, replication=-1, assigned=[(0, [other])]), ASSIGNMENT),
        Row("create: assigned to nobody", create("d", partitions=-1, replication=-1, assigned=[(0, [])]), ASSIGNMENT),
        Row("create: assigned to one twice", create("d", partitions=-1, replication=-1, assigned=[(0, [node, node])]),
            ASSIGNMENT),
        Row("create: a partition assigned twice",
            create("d", partitions=-1, replication=-1, assigned=[(0, [node]), (0, [node])]), ASSIGNMENT),
        Row("create: assigned from 1 on", create("d", partitions=-1, replication=-1, assigned=[(1, [node])]), ASSIGNMENT),
        Row("create: assigned, and partitions", create("d", replication=-1, assigned=[(0, [node])]), REQUEST),
        Row("create: assigned, and replicas", create("d", partitions=-1, assigned=[(0, [node])]), REQUEST),
        Row("create: one named twice", create("e", "e"), REQUEST),
        Row("create: one of two", create("a/b", "f"), Each((INVALID_NAME, NONE))),
        Row("grow: dry", grow("new", to=2, dry=True), NONE),
        Row("grow", grow("new", to=2), NONE),
        *(Row(f"grow: from 2 to {count}", grow("new", to=count), PARTITION_COUNT) for count in (2, 1, 0, -1, -2**31)),
        Row("grow: unknown topic", grow("nowhere", to=2), UNKNOWN),
        Row("grow: no topic's name", grow("a/b", to=2), UNKNOWN),
        Row("grow: no name", grow("", to=2), UNKNOWN),
        Row("grow: assigned", grow("new", to=3, assigned=[[node]], dry=True), NONE),
        Row("grow: assigned elsewhere", grow("new", to=3, assigned=[[other]]), ASSIGNMENT),
        Row("grow: too many assigned", grow("new", to=3, assigned=[[node], [node]]), ASSIGNMENT),
        Row("grow: none assigned", grow("new", to=3, assigned=[]), ASSIGNMENT),
        Row("grow: assigned, to fewer", grow("new", to=1, assigned=[[node]]), PARTITION_COUNT),
        Row("grow: one named twice", grow("new", "new", to=3), REQUEST),
        Row("grow: one of two", grow("nowhere", "new", to=3), Each((UNKNOWN, NONE))),
        Row("delete", delete("f"), NONE),
        Row("delete: again", delete("f"), UNKNOWN),
        Row("delete: no topic's name", delete("a/b"), UNKNOWN),
        Row("delete: no name", delete(""), UNKNOWN),
        Row("delete: one named twice", delete("new", "new"), REQUEST),
        Row("delete: unknown id", delete_by((None, b"\7" * 16)), Code.UNKNOWN_TOPIC_ID),
        Row("delete: by name", delete_by(("a.b", bytes(16))), NONE),
        Row("delete: by name and id", delete_by(("new", b"\7" * 16)), REQUEST),
        Row("delete: by neither", delete_by((None, bytes(16))), REQUEST),
    ]  # fmt: skip


def of_records(epoch):
    return [
        Row("offsets: latest", list_offsets(-1, 4), NONE),
        Row("offsets: earliest", list_offsets(-2, 4), NONE),
        Row("offsets: by time", list_offsets(0, 4), NONE),
        Row("offsets: behind all", list_offsets(LONG_MAX, 4), NONE),
        Row("offsets: unknown topic", list_offsets(-1, 4, topic="nowhere"), UNKNOWN),
        Row("offsets: no topic's name", list_offsets(-1, 4, topic="a/b"), UNKNOWN),
        *(Row(f"offsets: partition {index}", list_offsets(-1, 4, partition=index), UNKNOWN)
          for index in (PARTITIONS, -1, INT_MAX, -2**31)),
        Row("offsets: present epoch", list_offsets(-1, 4, epoch=epoch), NONE),
        Row("offsets: former epoch", list_offsets(-1, 4, epoch=epoch - 1), Code.FENCED_LEADER_EPOCH),
        Row("offsets: later epoch", list_offsets(-1, 4, epoch=epoch + 1), Code.UNKNOWN_LEADER_EPOCH),
        Row("offsets: unknown topic, former epoch", list_offsets(-1, 4, topic="nowhere", epoch=epoch - 1), UNKNOWN),
        *(Row(f"offsets: {at}, version {version}", list_offsets(at, version), expected)
          for at, version, expected in (
              (-3, 6, VERSION), (-3, 7, NONE), (-4, 7, VERSION), (-4, 8, NONE), (-5, 8, VERSION), (-5, 9, NONE),
              (-6, 10, VERSION), (-6, 11, NONE), (-7, 11, VERSION), (-2**63, 4, VERSION),
          )),
        Row("offsets: twice in one", list_offsets(-1, 4, times=2),
            Differs(Each((REQUEST, REQUEST)), REQUEST, EACH_TIME)),
        Row("offsets: committed", list_offsets(-1, 4, isolation=1), NONE),
        Row("epoch: its end", epoch_end(epoch), NONE),
        Row("epoch: of one to come", epoch_end(epoch + 1), NONE),
        Row("epoch: of -1", epoch_end(-1), NONE),
        Row("epoch: unknown topic", epoch_end(epoch, topic="nowhere"), UNKNOWN),
        Row("epoch: unknown partition", epoch_end(epoch, partition=PARTITIONS), UNKNOWN),
        Row("epoch: negative partition", epoch_end(epoch, partition=-1), UNKNOWN),
        Row("epoch: present", epoch_end(epoch, known=epoch), NONE),
        Row("epoch: former", epoch_end(epoch, known=epoch - 1), Code.FENCED_LEADER_EPOCH),
        Row("epoch: later", epoch_end(epoch, known=epoch + 1), Code.UNKNOWN_LEADER_EPOCH),
        Row("delete records", delete_records(5), NONE),
        Row("delete records: fewer than that", delete_records(2), NONE),
        Row("delete records: beyond the end", delete_records(RECORDS + 1), RANGE),
        Row("delete records: beyond all", delete_records(LONG_MAX), RANGE),
        Row("delete records: before -2", delete_records(-2), RANGE),
        Row("delete records: before the least", delete_records(-2**63), RANGE),
        Row("delete records: unknown topic", delete_records(1, topic="nowhere"), UNKNOWN),
        Row("delete records: no topic's name", delete_records(1, topic="a/b"), UNKNOWN),
        Row("delete records: unknown partition", delete_records(1, partition=PARTITIONS), UNKNOWN),
        Row("delete records: negative partition", delete_records(1, partition=-1), UNKNOWN),
        Row("delete records: all", delete_records(-1), NONE),
        Row("delete records: of nothing", delete_records(0, partition=1), NONE),
        Row("delete records: beyond nothing", delete_records(1, partition=1), RANGE),
    ]  # fmt: skip


def of_configs(node):
    broker, other = str(node), str(node + 1)
    rows = [
        Row("alter", alter(("retention.ms", "1000")), NONE),
        Row("alter: nothing", alter(), NONE),
        Row("alter: no value", alter(("retention.ms", None)), REQUEST),
        Row("change", change(("retention.ms", SET, "1000")), NONE),
        Row("change: nothing", change(), NONE),
        Row("change: no value", change(("retention.ms", SET, None)), REQUEST),
        Row("change: append no value", change(("cleanup.policy", APPEND, None)), REQUEST),
        Row("change: take back", change(("retention.ms", DELETE, None)), NONE),
        Row("change: take back what is unknown", change(("retention.ns", DELETE, None)), NONE),
        Row("change: append to a number", change(("retention.ms", APPEND, "1")), CONFIG),
        Row("change: subtract from a number", change(("retention.ms", SUBTRACT, "1")), CONFIG),
        Row("change: append to what is unknown", change(("retention.ns", APPEND, "1")), CONFIG),
        Row("change: append to a list", change(("follower.replication.throttled.replicas", APPEND, "0:1")), NONE),
        Row("change: subtract what is not there", change(("cleanup.policy", SUBTRACT, "compact")), NONE),
        Row("change: append compaction", change(("cleanup.policy", APPEND, "compact")), Differs(CONFIG, NONE, NO_COMPACTION)),
        Row("change: unknown operation", change(("retention.ms", 9, "1")),
            Differs(REQUEST, Code.UNKNOWN_SERVER_ERROR, "the mistake is the client's, and no failure of the broker")),
        Row("change: a broker's, append to a number", change(("background.threads", APPEND, "1"), kind=BROKER, name=broker),
            CONFIG),
        Row("describe: topic", describe_configs(TOPICS, TOPIC), NONE),
        Row("describe: unknown topic", describe_configs(TOPICS, "nowhere"), UNKNOWN),
        Row("describe: no name", describe_configs(TOPICS, ""), INVALID_NAME),
        Row("describe: no topic's name", describe_configs(TOPICS, "a/b"), INVALID_NAME),
        Row("describe: broker", describe_configs(BROKER, broker), NONE),
        Row("describe: all brokers", describe_configs(BROKER, ""), NONE),
        Row("describe: another broker", describe_configs(BROKER, other), REQUEST),
        Row("describe: no broker's name", describe_configs(BROKER, "x"), REQUEST),
        Row("describe: unknown type", describe_configs(0, "x"), REQUEST),
        Row("describe: type -1", describe_configs(-1, "x"), REQUEST),
        Row("describe: loggers", describe_configs(BROKER_LOGGER, broker), Differs(REQUEST, NONE, LOGGER)),
        Row("describe: metrics", describe_configs(CLIENT_METRICS, "m"), Differs(REQUEST, NONE, METRICS)),
        Row("describe: group", describe_configs(GROUP, "g"), Differs(REQUEST, NONE, GROUPS)),
    ]  # fmt: skip

    # What both requests say of a value: of resource and config, and a code.
    either = [
        ("unknown config", TOPICS, TOPIC, [("retention.ns", "1")], CONFIG),
        ("wrong type", TOPICS, TOPIC, [("retention.ms", "soon")], CONFIG),
        ("out of range", TOPICS, TOPIC, [("retention.ms", "-2")], CONFIG),
        ("empty", TOPICS, TOPIC, [("retention.ms", "")], CONFIG),
        ("given twice", TOPICS, TOPIC, [("retention.ms", "1"), ("retention.ms", "2")], REQUEST),
        ("one of two", TOPICS, TOPIC, [("retention.ms", "1"), ("retention.bytes", "x")], CONFIG),
        ("unknown topic", TOPICS, "nowhere", [("retention.ms", "1")], UNKNOWN),
        ("unknown topic, wrong type", TOPICS, "nowhere", [("retention.ms", "soon")], CONFIG),
        ("no name", TOPICS, "", [("retention.ms", "1")], REQUEST),
        ("no topic's name", TOPICS, "a/b", [("retention.ms", "1")], INVALID_NAME),
        ("compaction", TOPICS, TOPIC, [("cleanup.policy", "compact")], Differs(CONFIG, NONE, NO_COMPACTION)),
        ("broker", BROKER, broker, [("background.threads", "8")], NONE),
        ("broker, wrong type", BROKER, broker, [("background.threads", "many")], REQUEST),
        ("broker, out of range", BROKER, broker, [("background.threads", "0")], REQUEST),
        ("broker, read-only", BROKER, broker, [("num.partitions", "4")], REQUEST),
        ("broker, its id", BROKER, broker, [("node.id", "7")], REQUEST),
        ("all brokers, read-only", BROKER, "", [("broker.rack", "r")], REQUEST),
        ("all brokers, of one", BROKER, "", [("principal.builder.class", "a.B")], REQUEST),
        ("broker, has a meaning", BROKER, broker, [("message.max.bytes", "100000")],
            Differs(REQUEST, NONE, NOT_WHILE_IT_RUNS)),
        ("broker, unknown", BROKER, broker, [("no.such.config", "1")], Differs(REQUEST, NONE, NOBODY_KNOWS_IT)),
        ("another broker", BROKER, other, [("background.threads", "8")], REQUEST),
        ("no broker's name", BROKER, "x", [("background.threads", "8")], REQUEST),
        ("unknown type", 0, "x", [("x", "1")], REQUEST),
        ("type -1", -1, "x", [("x", "1")], REQUEST),
    ]  # fmt: skip
    for name, kind, resource, pairs, expected in either:
        rows.append(Row(f"alter: {name}", alter(*pairs, kind=kind, name=resource), expected))
        sets = [(config, SET, value) for config, value in pairs]
        rows.append(Row(f"change: {name}", change(*sets, kind=kind, name=resource), expected))
    twice = Each((REQUEST, REQUEST))
    return [
        *rows,
        Row("change: all brokers", change(("background.threads", SET, "8"), kind=BROKER, name=""), NONE),
        Row("alter: all brokers", alter(("background.threads", "8"), kind=BROKER, name=""), Differs(NONE, CONFIG, ELIGIBLE)),
        Row("alter: a resource twice", alter(("retention.ms", "1"), times=2), Differs(twice, None, COUNTED_TWICE)),
        Row("change: a resource twice", change(("retention.ms", SET, "1"), times=2), twice),
        Row("change: loggers", change(("root", SET, "DEBUG"), kind=BROKER_LOGGER, name=broker),
            Differs(REQUEST, NONE, LOGGER)),
        Row("change: metrics", change(("interval.ms", SET, "1000"), kind=CLIENT_METRICS, name="m"),
            Differs(REQUEST, NONE, METRICS)),
        Row("change: group", change(("consumer.session.timeout.ms", SET, "50000"), kind=GROUP, name="g"),
            Differs(REQUEST, NONE, GROUPS)),
    ]  # fmt: skip


def of_descriptions():
    described = Each((NONE,) * (PARTITIONS + 1))
    return [
        Row("metadata", metadata(TOPIC), described),
        Row("metadata: unknown topic", metadata("nowhere"), Whole(UNKNOWN)),
        Row("metadata: no topic's name", metadata("a/b"), Whole(INVALID_NAME)),
        Row("metadata: no name", metadata(""), Whole(INVALID_NAME)),
        Row("partitions", describe_partitions(TOPIC), described),
        Row("partitions: unknown topic", describe_partitions("nowhere"), Whole(UNKNOWN)),
        Row("partitions: no topic's name", describe_partitions("a/b"), Whole(INVALID_NAME)),
        Row("producers", describe_producers(TOPIC), NONE),
        Row("producers: unknown topic", describe_producers("nowhere"), UNKNOWN),
        Row("producers: no topic's name", describe_producers("a/b"), INVALID_NAME),
        Row("producers: unknown partition", describe_producers(TOPIC, PARTITIONS), UNKNOWN),
        Row("producers: negative partition", describe_producers(TOPIC, -1), UNKNOWN),
        Row("log dirs: unknown topic", (wire.DESCRIBE_LOG_DIRS, 1, [[["nowhere", [0]]]]), NONE),
        Row("reassignments: unknown topic", (wire.LIST_PARTITION_REASSIGNMENTS, 0, [TIMEOUT_MS, [["nowhere", [0]]]]), NONE),
        Row("cluster: controllers", (wire.DESCRIBE_CLUSTER, 1, [0, 2]), Code.MISMATCHED_ENDPOINT_TYPE),
        Row("cluster: what there is not", (wire.DESCRIBE_CLUSTER, 1, [0, 9]), Code.UNSUPPORTED_ENDPOINT_TYPE),
        Row("resources: what there is not", (wire.LIST_CONFIG_RESOURCES, 1, [[99]]), VERSION),
        Row("access", (wire.DESCRIBE_ACLS, 1, [2, None, 3, None, None, 1, 1]), Code.SECURITY_DISABLED),
        Row("quotas", (wire.DESCRIBE_CLIENT_QUOTAS, 0, [[["user", 0, "u"]], 0]), NONE),
        Row("quotas: no such match", (wire.DESCRIBE_CLIENT_QUOTAS, 0, [[["user", 9, None]], 0]), REQUEST),
        Row("quotas: no type", (wire.DESCRIBE_CLIENT_QUOTAS, 0, [[["", 1, None]], 0]), REQUEST),
        Row("quotas: a type of its own", (wire.DESCRIBE_CLIENT_QUOTAS, 0, [[["shoe", 1, None]], 0]), VERSION),
        Row("quotas: a type twice", (wire.DESCRIBE_CLIENT_QUOTAS, 0, [[["user", 1, None]] * 2, 0]), REQUEST),
        Row("credentials: of all", credentials(None), Whole(NONE)),
        Row("credentials: of nobody named", credentials([]), Whole(NONE)),
        Row("credentials", credentials(["u"]), Code.RESOURCE_NOT_FOUND),
        Row("credentials: no name", credentials([""]), Code.RESOURCE_NOT_FOUND),
        Row("credentials: one twice", credentials(["u", "u"]), Code.DUPLICATE_RESOURCE),
        Row("credentials: one of two twice", credentials(["u", "v", "u"]),
            Each((NONE, Code.DUPLICATE_RESOURCE, Code.RESOURCE_NOT_FOUND))),
        Row("producer id", (wire.INIT_PRODUCER_ID, 3, [None, 60_000, -1, -1]), NONE),
        Row("producer id: no epoch", (wire.INIT_PRODUCER_ID, 3, [None, 60_000, 5, -1]), REQUEST),
        Row("producer id: no id", (wire.INIT_PRODUCER_ID, 3, [None, 60_000, -1, 5]), REQUEST),
        Row("producer id: transactions of no name", (wire.INIT_PRODUCER_ID, 3, ["", 60_000, -1, -1]), REQUEST),
        # With it Kafka makes the topic that the next row needs.
        Row("find: a transaction", (wire.FIND_COORDINATOR, 2, ["t", 1]), Differs(REQUEST, NONE, NO_TRANSACTIONS)),
        Row("producer id: transactions", (wire.INIT_PRODUCER_ID, 3, ["t", 60_000, -1, -1]),
            Differs(REQUEST, NONE, NO_TRANSACTIONS)),
    ]  # fmt: skip


def administration(rig):
    broker = rig.endpoint(shards=2)
    with wire.Client(broker.kafka) as client:
        make_topic(client, TOPIC, PARTITIONS)
        client.produce(TOPIC, 0, wire.batch([b"record %d" % number for number in range(RECORDS)]))
    # So that there is a former epoch.
    rig.restart(broker)
    with wire.Client(broker.kafka) as client:
        table = Table(rig, client)
        node, epoch = _node_and_epoch(client)
        for rows in (of_topics(node), of_records(epoch), of_configs(node), of_descriptions()):
            for row in rows:
                table.check(row)
        table.close()
        # Nothing was lost or made by what was refused.
        names = {topic[1] for topic in shapes.ask(client, wire.METADATA, 8, [None, 0, 0, 0]).fields[4]}
        # Kafka keeps what groups and transactions are about in topics of its own.
        ours = {name for name in names if not name.startswith("__")}
        equal(ours, {TOPIC, "new"}, "topics that are left")


def _node_and_epoch(client):
    """Who leads the first partition, and since when: there is a former epoch."""

    def found():
        answer = settled(client, *metadata(TOPIC))
        ((*_, partitions, _),) = answer.fields[4]
        _, _, leader, epoch, *_ = next(partition for partition in partitions if partition[1] == 0)
        return (leader, epoch) if epoch > 0 else None

    return until(found, "the restart made no new epoch", LIMIT_S)


CASES = {"codes/administration": administration}
