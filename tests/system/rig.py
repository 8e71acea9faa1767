"""What a case has at hand: brokers, a disk of its own, clients that run beside it. All of it ends with the case."""

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
import urllib.request

import wire
from lib.broker import Broker, by_log, free_base_port

WAIT_S_MAX = 30
POLL_S = 0.005
# Set where the suite has a mount and a network namespace of its own.
IN_NAMESPACES = "RINGMQ_SYSTEM_NAMESPACES"


# File systems that a case may have for itself.
MKFS_PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}
# Nothing is left to the kernel to initialise behind our back: it would write while we count.
MKFS_OPTIONS = {"ext4": ["-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"]}


class CaseFailed(Exception):
    """What was promised is not so."""


# What a machine may lack with good reason, also where everything must run (CI=true). Whatever else a case misses
# (a tool, space, a free port) can be had there, so that it must be.
ACCEPTED_LACKS = {
    "mounts": "not everybody may mount, and not every kernel knows XFS and btrfs",
    "flush counts": "the block layer counts flushes only of a device with a volatile cache, on a kernel that tells",
    "a refusal": "the kernel grants what the case needs to be refused",
}


class CaseSkipped(Exception):
    """This machine cannot do it; the text names what it lacks. `lack`: one of ACCEPTED_LACKS, if it is."""

    def __init__(self, reason, lack=None):
        assert lack is None or lack in ACCEPTED_LACKS
        super().__init__(reason if lack is None else f"{reason}; accepted: {ACCEPTED_LACKS[lack]}")
        self.accepted = lack is not None


def check(condition, message):
    if not condition:
        raise CaseFailed(message)


def equal(got, expected, what):
    check(got == expected, f"{what}: got {got!r}, expected {expected!r}")


def until(condition, message, limit_s=WAIT_S_MAX):
    """Waits for what must come true; returns what `condition` returned. `message` may be a function that says how
    far it got."""
    deadline = time.monotonic() + limit_s
    while not (result := condition()):
        if time.monotonic() >= deadline:
            raise CaseFailed(f"{message() if callable(message) else message} within {limit_s} s")
        time.sleep(POLL_S)
    return result


class Rig:
    """The folder of one case, and what runs in it."""

    is_kafka = False

    def __init__(self, binary, folder):
        self.binary = binary
        os.makedirs(folder)
        self.folder = folder
        self.brokers = []
        self._end = contextlib.ExitStack()
        self.at_end = self._end.callback

    def broker(self, shards=1, settings=(), data_dir=None):
        """Not started. `settings`: "section.key=value"."""
        folder = os.path.join(self.folder, f"broker-{len(self.brokers)}")
        os.makedirs(folder)
        args = [text for setting in settings for text in ("--set", setting)]
        broker = Broker(self.binary, folder, shards, args, data_dir)
        self.brokers.append(broker)
        self.at_end(broker.kill)
        return broker

    def running(self, shards=1, settings=(), data_dir=None):
        broker = self.broker(shards, settings, data_dir)
        broker.start()
        return broker

    def endpoint(self, shards=1):
        """What runs for a case that holds for any Kafka broker. Its groups do not wait for a second member."""
        return self.running(shards, ["kafka.group_initial_delay=1ms"])

    def cluster(self):
        """Two brokers, of which the first is returned: here they are two logs of one process."""
        return self.running(2, [*by_log(free_base_port(2)), "kafka.group_initial_delay=1ms"])

    def restart(self, broker):
        """As after a crash, on the same data."""
        broker.check_alive()
        broker.kill()
        broker.start()

    def mount(self, kind, source="none", options=()):
        """A file system that goes with the case: the folder it is mounted on."""
        point = os.path.join(self.folder, f"mounted-{kind}")
        os.makedirs(point)
        _tool("mount", "-t", kind, *options, source, point, lack="mounts")
        self.at_end(_tool, "umount", "--lazy", point)
        return point

    def loop_disk(self, size_bytes, kind="ext4"):
        """A file system of its own in a sparse file: the folder it is mounted on. Its device serves nobody else."""
        if os.geteuid() != 0:
            raise CaseSkipped("a loop device needs root", "mounts")
        mkfs = shutil.which(f"mkfs.{kind}", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        if mkfs is None:
            raise CaseSkipped(f"a loop device needs mkfs.{kind} (Debian package: {MKFS_PACKAGES[kind]})")
        image = os.path.join(self.folder, "image")
        with open(image, "wb") as file:
            file.truncate(size_bytes)
        _tool(mkfs, "-q", *MKFS_OPTIONS.get(kind, ()), image)
        return self.mount(kind, image, ["-o", "loop"])

    def pretend(self, path, text):
        """Another content for a file of /proc, until the case ends: for who is in the suite's namespace, and nobody
        else."""
        if not os.environ.get(IN_NAMESPACES):
            raise CaseSkipped("`unshare --mount` is not allowed here", "mounts")
        if not os.path.exists(path):
            raise CaseSkipped(f"this kernel has no {path}", "a refusal")
        content = os.path.join(self.folder, os.path.basename(path))
        with open(content, "w", encoding="ascii") as file:
            file.write(text)
        _tool("mount", "--bind", content, path, lack="mounts")
        self.at_end(_tool, "umount", "--lazy", path)

    def beside(self, thread):
        """Starts a thread; it is told to end, and awaited, before the brokers are killed."""
        thread.start()
        self.at_end(thread.end)
        return thread

    def close(self):
        """Ends everything, last things first. Fails when a broker has panicked."""
        self._end.close()
        for broker in self.brokers:
            panics = broker.panics()
            check(not panics, f"the broker panicked: {panics[:1]}")


def _tool(*command, lack=None):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise CaseSkipped(f"{command[0]} does not work here: {done.stderr.strip()}", lack)


# --- What a broker says of itself. ---


def admin(broker, path):
    with urllib.request.urlopen(f"http://{broker.admin}{path}", timeout=WAIT_S_MAX) as reply:
        return reply.read().decode()


def admin_json(broker, path):
    return json.loads(admin(broker, path))


def metric(broker, name):
    """The sum of a metric over all its labels."""
    lines = admin(broker, "/metrics").splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def resident_bytes(broker):
    with open(f"/proc/{broker.pid}/status", encoding="ascii") as status:
        (line,) = (line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


# --- Clients that run beside a case. ---


class Beside(threading.Thread):
    """Does `step` again and again until it is told to end. What goes wrong is kept for whoever asks."""

    def __init__(self):
        super().__init__(daemon=True)
        self.error = None
        self._ending = threading.Event()

    def run(self):
        try:
            self.begin()
            while not self._ending.is_set():
                self.step()
        except Exception as error:  # noqa: BLE001 (told by `sound`)
            self.error = error

    def begin(self):
        pass

    def end(self):
        self._ending.set()
        self.join(WAIT_S_MAX)

    def sound(self):
        """Fails when something went wrong."""
        check(self.error is None, f"{type(self).__name__}: {type(self.error).__name__}: {self.error}")


class Neighbour(Beside):
    """A well-behaved client: writes a record, reads it back, compares; no error is allowed for it."""

    TOPIC = "neighbour"

    def __init__(self, broker):
        super().__init__()
        self._address = broker.kafka
        self.rounds = 0
        # The longest round: a write and a read.
        self.round_s_max = 0

    def begin(self):
        self._client = wire.Client(self._address)
        self._client.create_topic(self.TOPIC)

    def step(self):
        began = time.monotonic()
        value = b"round %d" % self.rounds
        equal(self._client.produce(self.TOPIC, 0, wire.batch([value])), self.rounds, "offset")
        data, _ = self._client.fetch(self.TOPIC, 0, self.rounds)
        equal(list(wire.records(data)), [(self.rounds, value)], "what comes back")
        self.round_s_max = max(self.round_s_max, time.monotonic() - began)
        self.rounds += 1

    def goes_on(self, rounds=20):
        """Waits for so many more rounds."""
        wanted = self.rounds + rounds

        def there():
            self.sound()
            return self.rounds >= wanted

        until(there, f"the neighbour gets no further than round {self.rounds}")


class Writer(Beside):
    """Writes numbered values to one partition, a few requests at a time, and remembers what was acknowledged.

    `acked` maps an offset to the number of the value that lies there. It ends when the broker does.
    """

    def __init__(self, broker, topic, partition, depth=4, value_bytes=100):
        super().__init__()
        self._address = broker.kafka
        self._where = (topic, partition)
        self._depth = depth
        self._value_bytes = value_bytes
        self._next = 0
        self._asked = []
        self.acked = {}

    def value(self, number):
        return (b"%s/%d value %d " % (self._where[0].encode(), self._where[1], number)).ljust(self._value_bytes, b".")

    def begin(self):
        self._client = wire.Client(self._address)

    def step(self):
        try:
            while len(self._asked) < self._depth:
                body = wire.produce_body(*self._where, wire.batch([self.value(self._next)]))
                self._client.send(wire.PRODUCE, body)
                self._asked.append(self._next)
                self._next += 1
            self._take_ack()
        except ConnectionError:
            self._drain()
            self._ending.set()

    def _take_ack(self):
        _, reader = self._client.receive()
        self.acked[self._client.produced(reader)] = self._asked.pop(0)

    def _drain(self):
        """What the broker had sent before it closed the connection counts."""
        with contextlib.suppress(ConnectionError):
            while self._asked:
                self._take_ack()
