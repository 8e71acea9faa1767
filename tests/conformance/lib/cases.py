"""The table of cases: what each client is asked to do, and in which form of the run."""

from dataclasses import dataclass, field

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
    timeout_s: int = CASE_S_MAX


# What kcat can say on its command line.
KCAT = {"roundtrip", "timestamps", "metadata", "idempotent", "unknown_topic", "too_large"}
# Only franz-go gives access to these requests.
FRANZ_ONLY = {
    "leader_epoch", "raw_errors", "alter_configs", "create_partitions", "log_dirs", "producers",
    "topic_partitions", "nothing_to_list",
}  # fmt: skip


def cases_of(client):
    """The cases that this client has, in the order in which they run."""
    for case in _all_cases():
        if client == "kcat" and case.function not in KCAT:
            continue
        if client != "franz-go" and case.function in FRANZ_ONLY:
            continue
        yield case


def _all_cases():
    for codec in CODECS:
        for acks in ACKS:
            yield Case(f"roundtrip/{codec}/acks={acks}", "roundtrip", {"codec": codec, "acks": acks})
    for codec in ("none", "zstd"):
        yield Case(f"timestamps/{codec}", "timestamps", {"codec": codec})
    for name in (
        "topics", "invalid_creations", "many_topics", "list_offsets", "metadata", "delete_records",
        "describe_configs", "describe_cluster", "leader_epoch", "raw_errors", "long_poll", "log_append_time",
        "auto_create", "unknown_topic", "invalid_topic", "unknown_partition", "too_large", "out_of_range",
    ):  # fmt: skip
        yield Case(name, name)
    for name in ("alter_configs", "create_partitions"):
        yield Case(name, name, restarts=True)
    for name in ("log_dirs", "producers", "topic_partitions", "nothing_to_list"):
        yield Case(name, name)
    for how in ("term", "kill"):
        yield Case(f"idempotent/{how}", "idempotent", {"how": how}, restarts=True)
    yield Case("group_offsets", "group_offsets", restarts=True)
    for strategy in ("range", "cooperative-sticky"):
        yield Case(f"group_members/{strategy}", "group_members", {"strategy": strategy})
    yield Case("group_static", "group_static", restarts=True)
    yield Case("restart_keeps", "restart_keeps", restarts=True)
