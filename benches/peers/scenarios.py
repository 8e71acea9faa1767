"""What is run: the same flags of `ringmq bench` against every broker."""

from dataclasses import dataclass

# One partition a connection, and what an idempotent producer may have in flight, in every scenario of batches.
BATCHED = ["--partitions", "8", "--connections", "8", "--in-flight", "5"]
KILOBYTE = ["--record-bytes", "1024", "--batch-bytes", "16KiB"]
TENS = ["--record-bytes", "1024", "--batch-records", "10"]
# As many as Kafka's developers recommend at most for one broker (KIP-578).
MANY_PARTITIONS = "4000"
# Seconds of a catch-up. Its backlog is written in a third of them: more would leave the page cache of the broker
# that relies on it.
CATCH_UP_S_MAX = 24


@dataclass(frozen=True)
class Scenario:
    key: str
    title: str
    shape: tuple
    # "closed": as fast as the answers come; "open": at the rate that all can hold; "catch-up": a backlog is read.
    loop: str = "closed"
    # Whose percentiles are reported: "response" counts from the moment at which a request was due.
    latency: str = ""
    # The null sink takes these flags, too.
    has_ceiling: bool = False
    # Everything is read back afterwards: a record that was lost voids the run.
    verify: bool = False
    # The peers may use every core that brokers and load have; RingMQ keeps its own.
    both_cores: bool = False

    def flags(self, rate, seconds, warmup):
        """`rate`: records per second of an open loop."""
        if self.loop == "catch-up":
            seconds = min(seconds, CATCH_UP_S_MAX)
            warmup = min(warmup, seconds)
        pace = ["--closed"] if self.loop == "closed" else ["--rate", str(rate)]
        play = ["--scenario", "catch-up"] if self.loop == "catch-up" else []
        read_back = ["--verify"] if self.verify else []
        return [*self.shape, *pace, *play, *read_back, "--seconds", str(seconds), "--warmup", str(warmup)]

    def preheat(self, seconds):
        """The same requests as fast as they go: compilers and caches are not what is compared."""
        return [*self.shape, "--closed", "--seconds", str(seconds), "--warmup", "0"]

    def partitions(self):
        return int(self.shape[self.shape.index("--partitions") + 1])

    def probe(self, seconds, warmup):
        """The same requests in a closed loop: what a broker can take at most."""
        return [*self.shape, "--closed", "--seconds", str(seconds), "--warmup", str(warmup)]

    def ceiling(self, rate, seconds):
        pace = ["--closed"] if self.loop == "closed" else ["--rate", str(rate)]
        return [*self.shape, *pace, "--seconds", str(seconds), "--warmup", "1"]


def _both_cores(scenario):
    return Scenario(
        f"{scenario.key}-both-cores",
        f"{scenario.title}; the peers may use both cores",
        scenario.shape,
        scenario.loop,
        scenario.latency,
        verify=scenario.verify,
        both_cores=True,
    )


CORE = [
    Scenario("1k", "1 KB records, batches of 16 KiB", (*BATCHED, *KILOBYTE), has_ceiling=True),
    Scenario(
        "100b", "100 B records, batches of 16 KiB",
        (*BATCHED, "--record-bytes", "100", "--batch-bytes", "16KiB"), has_ceiling=True,
    ),
    Scenario(
        "single", "one 128 B record a request, 64 connections x 16 in flight",
        ("--partitions", "64", "--connections", "64", "--in-flight", "16",
         "--record-bytes", "128", "--batch-records", "1"),
        has_ceiling=True, verify=True,
    ),
    Scenario(
        "open", "1 KB records in batches of 10", (*BATCHED, *TENS), "open", "response", has_ceiling=True, verify=True
    ),
]  # fmt: skip

FULL = [
    *CORE,
    Scenario(
        "1k-64k", "1 KB records, batches of 64 KiB",
        (*BATCHED, "--record-bytes", "1024", "--batch-bytes", "64KiB"), has_ceiling=True,
    ),
    Scenario(
        "1k-idempotent", "1 KB records, batches of 16 KiB, idempotent producers", (*BATCHED, *KILOBYTE, "--idempotent")
    ),
    Scenario("tail", "1 KB records, batches of 16 KiB, and a consumer that keeps up",
             (*BATCHED, *KILOBYTE, "--consumers", "1")),
    Scenario("open-tail", "1 KB records in batches of 10, from due to received by a consumer",
             (*BATCHED, *TENS, "--consumers", "1"), "open", "end_to_end"),
    Scenario("catch-up", "a reader catches up with a backlog, beside producers and a reader of the tail: records read of it",
             (*BATCHED, *TENS, "--consumers", "1"), "catch-up"),
    Scenario(
        "partitions", f"1 KB records, batches of 16 KiB, {int(MANY_PARTITIONS):,} partitions",
        ("--partitions", MANY_PARTITIONS, "--connections", "8", "--in-flight", "5", *KILOBYTE),
    ),
    *map(_both_cores, CORE),
]  # fmt: skip


def rate_of(scenario, runs):
    """Records and bytes per second that the scenario is about, of the runs of one result."""
    run = runs[-1]
    if scenario.loop != "catch-up":
        return run["records_per_s"], run["bytes_per_s"]
    # The timeline has what the reader of the tail reads, too.
    # None if it was stopped before.
    backlog = run["backlog"] or {"records": 0, "bytes": 0, "read_after_ns": None}
    seconds = (backlog["read_after_ns"] or run["seconds"] * 1e9) / 1e9
    return backlog["records"] / seconds, backlog["bytes"] / seconds
