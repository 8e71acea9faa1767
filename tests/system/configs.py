"""DescribeConfigs beside Apache Kafka's: of a topic and of the broker, config by config.

RingMQ lists every config that Kafka has, so that tools find what they look for. Where it says something else of one,
that is written down here with its reason (INTENDED). Any other difference fails, and so does one that is written down
and not found.
"""

import fnmatch
import struct
from typing import NamedTuple

import wire
from rig import check, equal, until

TOPIC, BROKER = 2, 4
TYPES = ["?", "boolean", "string", "int", "short", "long", "double", "list", "class", "password"]
SOURCES = {1: "topic", 2: "broker, as it runs", 3: "all brokers, as they run", 4: "broker", 5: "default"}
# Of both brokers.
NODE_ID = "1"


class Synonym(NamedTuple):
    source: str
    name: str
    value: str


class Config(NamedTuple):
    """What is said of a config, but for its name."""

    value: str
    read_only: bool
    source: str
    sensitive: bool
    synonyms: list
    type: str
    doc: str

    def default(self):
        """What it is when nobody sets it, by whichever name; None for nothing."""
        if not self.synonyms:
            return self.value if self.source == "default" else None
        last = self.synonyms[-1]
        return last.value if last.source == "default" else None


class Intended(NamedTuple):
    """A difference that is meant to be."""

    why: str
    # "topic" or "broker".
    resource: str
    # What RingMQ says, by the field that `facts` names, and by names and patterns of names.
    ours: dict


def _all(value, names):
    return dict.fromkeys(names.split(), value)


INTENDED = [
    Intended("only the default is accepted: another value would promise what is not done", "topic", {
        "read-only": _all(
            True, "cleanup.policy compression.type flush.messages flush.ms min.insync.replicas remote.storage.enable"
        ),
    }),
    Intended("a record is acknowledged when it is on stable storage; Kafka leaves that to the kernel", "topic", {
        "default": {"flush.messages": "1", "flush.ms": "0"},
        "synonyms": {"flush.ms": ["default log.flush.interval.ms"]},
    }),
    Intended("the same", "broker", {
        "default": {"log.flush.interval.messages": "1", "log.flush.interval.ms": "0"},
        "synonyms": {"log.flush.interval.ms": ["default log.flush.interval.ms"]},
    }),
    Intended("the partitions of a log share its segments, which are smaller", "topic", {
        "default": {"segment.bytes": "268435456"},
    }),
    Intended("the same", "broker", {
        "default": {"log.segment.bytes": "268435456"},
    }),
    Intended("what has a meaning is read at the start, and not again", "broker", {
        "read-only": _all(True, """
            compression.type listeners log.cleanup.policy log.flush.interval.messages log.flush.interval.ms
            log.message.timestamp.after.max.ms log.message.timestamp.before.max.ms log.message.timestamp.type
            log.retention.bytes log.retention.ms log.segment.bytes max.connection.creation.rate max.connections
            max.connections.per.ip max.connections.per.ip.overrides message.max.bytes min.insync.replicas
            producer.id.expiration.ms unclean.leader.election.enable
        """),
    }),
    Intended("Kafka lets them be set of one listener, by its name; listeners have no names here", "broker", {
        "read-only": _all(True, "sasl.* ssl.*"),
    }),
    Intended("a broker that was given no number has one", "broker", {
        "default": {"broker.id": "1", "node.id": "1"},
        "synonyms": {"node.id": ["default node.id"]},
    }),
    Intended("there is no authentication yet: nobody comes from outside unless that is asked for", "broker", {
        "default": {"listeners": "PLAINTEXT://127.0.0.1:9092"},
    }),
    Intended("there is one directory, under both names", "broker", {
        "default": {"log.dir": "./ringmq-data", "log.dirs": "./ringmq-data"},
        "synonyms": {"log.dirs": ["default log.dirs"]},
    }),
    Intended("memory is bounded: of a reader that stops, of a group, of all connections", "broker", {
        "default": {"fetch.max.bytes": "16777216", "group.max.size": "10000", "max.connections": "10000"},
    }),
    Intended("groups are of the classic protocol", "broker", {
        "default": {"group.coordinator.rebalance.protocols": "classic"},
    }),
    Intended("retention looks at what is due, and does not walk through everything", "broker", {
        "default": {"log.retention.check.interval.ms": "1000"},
    }),
]  # fmt: skip


def describe(client, kind, name):
    """Configs by name, with synonyms and documentation; None where there is no such topic."""
    resource = struct.pack(">b", kind) + wire.string(name) + struct.pack(">i", -1)
    reader = client.ask(wire.DESCRIBE_CONFIGS, wire.array([resource]) + struct.pack(">??", True, True))
    _, count, code = reader.take("iih")
    equal(count, 1, "resources in the answer")
    reader.string()
    if code == wire.UNKNOWN_TOPIC_OR_PARTITION:
        return None
    equal((code, reader.number("b"), reader.string()), (0, kind, name), "the resource in the answer")
    found = {}
    for _ in range(reader.number("i")):
        config, value = reader.string(), reader.string()
        read_only, source, sensitive = reader.take("?b?")
        synonyms = [_read_synonym(reader) for _ in range(reader.number("i"))]
        value_type, doc = TYPES[reader.number("b")], reader.string()
        check(config not in found, f"{config} is described twice")
        found[config] = Config(value, read_only, SOURCES[source], sensitive, synonyms, value_type, doc)
    return found


def _read_synonym(reader):
    name, value = reader.string(), reader.string()
    return Synonym(SOURCES[reader.number("b")], name, value)


def described(broker, configs):
    """A topic with these configs, and the broker."""
    with wire.Client(broker.kafka) as client:
        client.create_topic("t", configs=configs)
        topic = until(lambda: describe(client, TOPIC, "t"), "the topic is not known")
        return {"topic": topic, "broker": describe(client, BROKER, NODE_ID)}


def facts(config, set_at_both):
    """What is compared. What only one has set is left out: addresses, folders, and what Kafka has from its start."""
    kept = [one for one in config.synonyms if one.source in ("topic", "default") or one.name in set_at_both]
    # Defaults have a line of their own.
    names = [f"{one.source} {one.name}{'' if one.source == 'default' else '=' + one.value}" for one in kept]
    return {
        "type": config.type,
        "default": config.default(),
        "read-only": config.read_only,
        "sensitive": config.sensitive,
        "synonyms": names,
    }


def differences(ours, theirs, set_at_both):
    """By resource, field and name: what RingMQ says, and Kafka."""
    found = {}
    for resource, configs in ours.items():
        for name in sorted(configs.keys() ^ theirs[resource].keys()):
            found[resource, "name", name] = (name in configs, name in theirs[resource])
        for name in sorted(configs.keys() & theirs[resource].keys()):
            our_facts, their_facts = (facts(of[resource][name], set_at_both) for of in (ours, theirs))
            for field, said in our_facts.items():
                if said != their_facts[field]:
                    found[resource, field, name] = (said, their_facts[field])
    return found


def check_own(described):
    """What holds of RingMQ's by itself."""
    for resource, configs in described.items():
        equal(list(configs), sorted(configs), f"order of the configs of a {resource}")
        for name, config in configs.items():
            first = config.synonyms[0] if config.synonyms else None
            told = (first.source, first.value) if first else ("default", config.value)
            equal((config.source, config.value), told, f"source and value of {name} by its synonyms")
            check(config.doc and config.doc.endswith("."), f"{name} is not explained: {config.doc!r}")
            check(not (config.sensitive and config.value), f"{name} is told")


def as_kafka(rig, set_at_both=None, configs=()):
    """`set_at_both`: of Kafka's names, a value and how RingMQ is told the same."""
    set_at_both = set_at_both or {}
    kafka = rig.peer({name: value for name, (value, _) in set_at_both.items()})
    ringmq = rig.running(settings=[setting for _, setting in set_at_both.values()])
    ours, theirs = described(ringmq, configs), described(kafka, configs)
    check_own(ours)
    found = differences(ours, theirs, set_at_both)
    missing = []
    for why, resource, ours in INTENDED:
        for field, pattern, value in ((field, *one) for field, values in ours.items() for one in values.items()):
            keys = [key for key in found if key[:2] == (resource, field) and fnmatch.fnmatchcase(key[2], pattern)]
            as_intended = [key for key in keys if found[key][0] == value]
            for key in as_intended:
                del found[key]
            if not as_intended:
                missing.append(f"{field} of {resource} config {pattern}: {value!r} is no difference any more ({why})")
    lines = [
        f"{field} of {resource} config {name}: {ours!r}, at Kafka {theirs!r}"
        for (resource, field, name), (ours, theirs) in found.items()
    ]
    check(not lines + missing, "\n  ".join(["DescribeConfigs differs from Kafka's:", *lines, *missing]))


SET = {
    "log.retention.ms": ("86400000", "log.retention=1d"),
    "message.max.bytes": ("2000000", "kafka.message_bytes_max=2000000B"),
    "num.partitions": ("1", "kafka.num_partitions=1"),
}
OF_TOPIC = [
    ("compression.zstd.level", "5"), ("leader.replication.throttled.replicas", "0:1"),
    ("max.message.bytes", "5000"), ("preallocate", "true"), ("retention.ms", "7200000"), ("segment.ms", "3600000"),
]  # fmt: skip
# They start both brokers.
AT_KAFKA = {
    "configs/by default": as_kafka,
    "configs/some of them set": lambda rig: as_kafka(rig, SET, OF_TOPIC),
}
