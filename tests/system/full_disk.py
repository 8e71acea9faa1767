"""A full disk: producers are told to try again, no ack is lost, consumers go on, and space that returns is used.

So it is when what lacks is not space but descriptors."""

import json
import os
import resource
import shutil
import subprocess

import wire
from rig import CaseFailed, CaseSkipped, admin, check, equal, until

# Large enough to fill a disk quickly, below `kafka.message_bytes_max`.
VALUE_BYTES = 1_040_000
# Distinct values, used in turn, so that a batch in another's place is noticed.
VALUES = [bytes([65 + index]) * VALUE_BYTES for index in range(4)]
# A request that is not answered for so long is held back.
STALLED_S = 3
RESUMED_S_MAX = 20
SMALL_LOG = ["log.initial_bytes=64MiB", "log.segment_bytes=32MiB", "log.tail_cache_bytes=16MiB"]
# Of the load, and of everything.
BENCH_S, BENCH_S_MAX = 15, 120


class Filler:
    """Writes until the broker takes no more. `acked`: what it promised to keep, by offset."""

    def __init__(self, broker, topic):
        self._address = broker.kafka
        self._topic = topic
        self._batches = [wire.batch([value]) for value in VALUES]
        self._count = 0
        self._client = None
        self.acked = {}

    def one(self, small=False):
        """Writes a batch. False when it is refused with an error to be retried, or held back."""
        if self._client is None:
            self._client = wire.Client(self._address, STALLED_S)
            self._waiting = None
        try:
            if self._waiting is None:
                self._waiting = b"small" if small else VALUES[self._count % len(VALUES)]
                records = wire.batch([b"small"]) if small else self._batches[self._count % len(VALUES)]
                self._count += 1
                self._client.send(wire.PRODUCE, wire.produce_body(self._topic, 0, records))
            _, answer = self._client.receive()
        except TimeoutError:
            return False
        value, self._waiting = self._waiting, None
        try:
            self.acked[self._client.produced(answer)] = value
        except wire.KafkaError as error:
            check(error.code == wire.KAFKA_STORAGE_ERROR, f"a full disk is told as {error}, which is not retried")
            return False
        return True

    def reconnect(self):
        self._client = None

    def fill(self):
        """To the last page: large batches, then small ones. Returns how many bytes were acknowledged."""
        before = sum(map(len, self.acked.values()))
        while self.one():
            pass
        while self.one(small=True):
            pass
        return sum(map(len, self.acked.values())) - before

    def resumes(self, why):
        until(self.one, f"{why}: writing does not resume", RESUMED_S_MAX)

    def forget(self):
        """What was written is deleted."""
        self.acked.clear()

    def verify(self, start=0):
        """Reads everything from `start` on: whatever was acknowledged is there."""
        found = 0
        with wire.Client(self._address) as client:
            for offset, value in client.read_all(self._topic, 0, start, max_bytes=8 << 20):
                if offset in self.acked:
                    check(value == self.acked[offset], f"offset {offset} holds another value than was acknowledged")
                    found += 1
        equal(found, sum(offset >= start for offset in self.acked), "acknowledged records that can be read")


def small_file_system(rig, kind):
    folder = rig.loop_disk(400 << 20, kind)
    ballast = os.path.join(folder, "ballast")
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 96 << 20)
    broker = rig.running(settings=SMALL_LOG, data_dir=os.path.join(folder, "data"))
    filler = Filler(broker, "t")
    with wire.Client(broker.kafka) as client:
        client.create_topic("t")
        filled = filler.fill()
        check(filled > 100 << 20, f"only {filled} bytes went onto the disk")
        equal(admin(broker, "/livez"), "ok\n", "/livez on a full disk")
        filler.verify()

    # A broker that is killed now must come up again: a start writes a block, too.
    broker.kill()
    _inspected(rig, broker)
    broker.start()
    filler.reconnect()
    filler.verify()
    with wire.Client(broker.kafka) as client:
        os.remove(ballast)
        filler.resumes("space is there again")
        more = filler.fill()
        check(more > 48 << 20, f"96 MiB were freed, but only {more} bytes more could be written")
        filler.verify()

        start = client.delete_records("t", 0, -1)
        filler.forget()
        filler.resumes("all records are deleted")
        check(filler.fill() > 100 << 20, "the space of deleted records is not writable again")
        filler.verify(start)
    broker.stop()
    broker.start()
    filler.verify(start)
    with wire.Client(broker.kafka) as client:
        equal(client.list_offset("t", 0, wire.EARLIEST), start, "the first offset after the restart")


def _inspected(rig, broker):
    """Every checksum in its data directory is right."""
    done = subprocess.run(
        [rig.binary, "inspect", "verify", broker.data_dir], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    equal(done.returncode, 0, f"the exit code of inspect verify; it said: {done.stdout + done.stderr}")


def deleted_topic(rig):
    """Two gigabytes, at the limit of `log.log_bytes_max`: deleting them makes them writable again."""
    if shutil.disk_usage(rig.folder).free < 6 << 30:
        raise CaseSkipped("needs 6 GiB of free space")
    limit_bytes, segment_bytes = 2304 << 20, 128 << 20
    limits = [f"log.log_bytes_max={limit_bytes}B", f"log.segment_bytes={segment_bytes}B"]
    broker = rig.running(settings=[*limits, "log.tail_cache_bytes=32MiB"])
    with wire.Client(broker.kafka) as client:
        client.create_topic("old")
        client.create_topic("new")
        filled = Filler(broker, "old").fill()
        check(filled >= 2_000_000_000, f"only {filled} bytes fit into a log of {limit_bytes}")
        new = Filler(broker, "new")
        if new.one():
            raise CaseFailed("the log was said to be full, but takes more")
        client.delete_topic("old")
        new.resumes("the topic is deleted")
        again = new.fill()
    # The segment in which one topic ends and the other begins has records of both.
    enough = again >= filled - segment_bytes - 2 * VALUE_BYTES
    check(enough, f"{filled} bytes were deleted, but only {again} could be written again")
    # Reading all of it again would show no more.
    new.verify(start=max(new.acked) - 200)


def no_descriptors(rig):
    """Without descriptors neither a segment nor a manifest can be written. When there are some again, both are."""
    broker = rig.running(settings=SMALL_LOG)
    filler = Filler(broker, "t")
    with wire.Client(broker.kafka) as client:
        client.create_topic("t")
    check(filler.one(), "the first batch is refused")
    limits = resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    while filler.one():
        pass

    def told(what):
        with open(broker.log_path, encoding="utf-8", errors="replace") as log:
            return any(what in line and "Too many open files" in line for line in log)

    until(lambda: told("log 1: the manifest could not be written"), "nothing is told of the manifest")
    resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, limits)
    filler.resumes("there are descriptors again")
    for _ in range(2 * (64 << 20) // VALUE_BYTES):
        filler.resumes("there have been descriptors for a while")
    equal(admin(broker, "/livez"), "ok\n", "/livez")
    filler.verify()
    broker.stop()
    broker.start()
    filler.verify()


def under_bench(rig):
    """`ringmq bench` on a disk that its own broker fills: it names the reason, fails, and keeps what it measured."""
    folder = rig.loop_disk(400 << 20)
    settings = [text for setting in SMALL_LOG for text in ("--set", setting)]
    command = [
        rig.binary, "bench", "--out", folder, "--rate", "50k", "--seconds", str(BENCH_S), "--warmup", "0", "--verify",
        "--quiet", *settings,
    ]  # fmt: skip
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=BENCH_S_MAX
    )
    said = done.stdout + done.stderr
    equal(done.returncode, 1, f"its exit code; it said: {said}")
    for word in ("INVALID", "KAFKA_STORAGE_ERROR", "ledger ok"):
        check(word in said, f"it does not say {word}: {said}")
    (results,) = (entry.path for entry in os.scandir(folder) if entry.name != "lost+found")
    with open(os.path.join(results, "result.json"), encoding="utf-8") as file:
        result = json.load(file)
    (run,) = result["runs"]
    check(not result["passed"], "the result is said to be good")
    check(any("KAFKA_STORAGE_ERROR" in reason for reason in run["invalid"]), f"its reasons: {run['invalid']}")
    check(run["response"]["samples"] > 0 and run["timeline"], "nothing of what was measured is kept")
    acked = run["ledger"]["acked"]
    check(acked > 100_000, f"only {acked} records of 1 KiB went onto the disk")
    equal(run["ledger"]["read"], acked, "records that are read back from the full disk")
    check(os.path.exists(os.path.join(results, "report.html")), "there is no report")
    check(not os.path.exists(os.path.join(results, "broker")), "the broker's data is still there")


CASES = {
    "full disk/small ext4": lambda rig: small_file_system(rig, "ext4"),
    "full disk/small XFS": lambda rig: small_file_system(rig, "xfs"),
    "full disk/under ringmq bench": under_bench,
    "full disk/no descriptors left": no_descriptors,
    "full disk/a deleted topic of 2 GB": deleted_topic,
}
