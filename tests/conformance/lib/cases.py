"""The table of cases: what each client is asked to do, and in which form of the run."""

from dataclasses import dataclass, field, replace

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
ACKS = ("0", "1", "-1")

# Long enough for a restart on a busy machine with two cores; a case takes well under a second otherwise.
CASE_S_MAX = 120
DATASET_S_MAX = 300


@dataclass(frozen=True)
class Case:
    """One line of the report."""

    name: str
    # The client's function, and its arguments.
    function: str
    args: dict = field(default_factory=dict)
    # The case restarts the broker, which must then be the runner's own.
    restarts: bool = False
    # The runner makes the topic, with so many partitions: the client has no way to.
    partitions: int = 0
    timeout_s: int = CASE_S_MAX


ADMINISTRATION = (
    "topics", "invalid_creations", "many_topics", "list_offsets", "metadata", "delete_records",
    "describe_configs", "describe_cluster", "create_partitions", "alter_configs", "alter_broker_configs",
)  # fmt: skip
RECORDS = (
    "leader_epoch", "raw_errors", "raw_sweep", "long_poll", "log_append_time", "auto_create", "unknown_topic",
    "invalid_topic", "unknown_partition", "too_large", "out_of_range", "console", "console_options",
    "topic_options", "producer_perf", "recreated_topic",
)  # fmt: skip

# What a client cannot say, or leaves no way to see: these cases are none of its own, and each of its own must pass.
# Only franz-go gives access to single requests.
RAW = {
    "leader_epoch", "raw_errors", "raw_sweep", "alter_configs_live", "create_partitions_live", "log_dirs", "producers",
    "topic_partitions", "nothing_to_list",
}  # fmt: skip
TOOLS = {
    "console", "console_options", "topic_options", "producer_perf", "alter_broker_configs", "group_resets",
    "group_described",
}  # fmt: skip
# Of these, what Java's Admin can say as well.
BY_ADMIN = {"log_dirs", "producers", "nothing_to_list"}
STATIC_BY_CRASH = {"group_static_killed", "group_static_fenced"}
STATIC = {"group_static", *STATIC_BY_CRASH}
LACKS = {
    "librdkafka": RAW | TOOLS,
    "franz-go": TOOLS,
    "java-4": (RAW | TOOLS) - BY_ADMIN,
    "java-3": (RAW | TOOLS) - BY_ADMIN,
    # `many_topics` and `unknown_partition` would be the third of their kind in one language.
    "kafka-python": RAW | TOOLS | {"many_topics", "unknown_partition"},
    # Its heartbeats and commits carry no instance id: who is fenced hears that it is unknown, and takes the place back.
    "aiokafka": RAW | TOOLS | {"many_topics", "unknown_partition", "group_static_fenced"},
    # No static members.
    "kafkajs": RAW | TOOLS | STATIC | {"many_topics", "unknown_partition"},
    # sarama asks for a partition's bounds before it reads: an offset out of range is its own finding.
    "sarama": RAW | TOOLS | {"many_topics", "unknown_partition", "invalid_topic"},
    # The same librdkafka as above, below another language: what the binding adds is what counts.
    "rdkafka": RAW | TOOLS | {
        "many_topics", "describe_cluster", "log_append_time", "unknown_topic", "invalid_topic",
        "unknown_partition", "out_of_range",
    },
}  # fmt: skip
# Clients that are command lines.
HAS = {
    "kcat": {
        "roundtrip", "timestamps", "metadata", "describe_cluster", "idempotent", "unknown_topic", "too_large",
        "group_members", "group_commits", *STATIC,
    },
    "kafka-tools": {
        "topics", "topic_options", "create_partitions", "alter_configs", "describe_configs", "console",
        "console_options", "producer_perf", "list_offsets", "delete_records", "alter_broker_configs", "group_commits",
        "group_resets", "group_described",
    },
}  # fmt: skip
# What a client of this machine may be too old for, and why that is accepted where everything must run (CI=true). There,
# any other case of its own that a client skips is a failure.
MAY_SKIP = {
    "kcat group_members/cooperative-sticky": "it comes from the distribution, and below 1.7 it has the eager protocol only",
}
# kcat's topics come into being when it writes to them, with one partition, where a group has nothing to share.
CREATED_FOR_KCAT = dict.fromkeys(("group_members", "group_commits", *STATIC), 6)
# The assignors that a client offers.
ALL_STRATEGIES = ("range", "roundrobin", "sticky", "cooperative-sticky")
STRATEGIES = {
    "librdkafka": ("range", "roundrobin", "cooperative-sticky"),
    "rdkafka": ("range", "roundrobin", "cooperative-sticky"),
    "kcat": ("range", "roundrobin", "cooperative-sticky"),
    "aiokafka": ("range", "roundrobin", "sticky"),
    "kafkajs": ("roundrobin",),
}
# Clients whose every case is part of the short form; of the others, these are. They are chosen so that each
# client's whole path is walked once, a group's included, while `make test` stays short.
SHORT_IN_FULL = ("librdkafka", "kcat", "franz-go", "java-4")
SHORT = {
    "kafka-python": ("roundtrip/snappy/acks=1", "topics", "group_members/cooperative-sticky"),
    "aiokafka": ("roundtrip/lz4/acks=-1", "topics", "group_commits"),
    "kafkajs": ("roundtrip/gzip/acks=-1", "topics", "group_members/roundrobin"),
    "sarama": ("roundtrip/zstd/acks=-1", "topics", "group_members/sticky"),
    "rdkafka": ("roundtrip/zstd/acks=-1", "topics", "group_commits"),
    "kafka-tools": ("topics", "console", "delete_records", "alter_configs"),
}


def cases_of(client, form):
    """The cases that this client has, in the order in which they run."""
    for case in _all_cases(STRATEGIES.get(client, ALL_STRATEGIES)):
        if client in HAS and case.function not in HAS[client]:
            continue
        if case.function in LACKS.get(client, ()):
            continue
        if form == "short" and not _in_short(client, case):
            continue
        if client == "kcat" and case.function in CREATED_FOR_KCAT:
            case = replace(case, partitions=CREATED_FOR_KCAT[case.function])
        yield case


def _in_short(client, case):
    if client in SHORT_IN_FULL:
        # Every crash is a session's wait; an eager and a cooperative rebalance are enough here, and static members of
        # one client of each kind.
        if case.function in STATIC_BY_CRASH and client not in ("librdkafka", "java-4"):
            return False
        return case.args.get("strategy") not in ("roundrobin", "sticky")
    return case.name in SHORT[client]


def _all_cases(strategies):
    for codec in CODECS:
        for acks in ACKS:
            yield Case(f"roundtrip/{codec}/acks={acks}", "roundtrip", {"codec": codec, "acks": acks})
    for codec in ("none", "zstd"):
        yield Case(f"timestamps/{codec}", "timestamps", {"codec": codec})
    for name in (*ADMINISTRATION, *RECORDS):
        yield Case(name, name)
    for name in ("alter_configs_live", "create_partitions_live"):
        yield Case(name, name, restarts=True)
    for name in ("log_dirs", "producers", "topic_partitions", "nothing_to_list"):
        yield Case(name, name)
    for how in ("term", "kill"):
        yield Case(f"idempotent/{how}", "idempotent", {"how": how}, restarts=True)
    yield Case("group_offsets", "group_offsets", restarts=True)
    for strategy in strategies:
        yield Case(f"group_members/{strategy}", "group_members", {"strategy": strategy})
    yield Case("group_commits", "group_commits")
    for name in ("group_resets", "group_described"):
        yield Case(name, name)
    yield Case("group_static", "group_static", restarts=True)
    for name in sorted(STATIC_BY_CRASH, reverse=True):
        yield Case(name, name)
    yield Case("restart_keeps", "restart_keeps", restarts=True)
