"""Apache Kafka from its Maven Central packages: KRaft, one node that is broker and controller.

The Java flags are those that Kafka's documentation gives as typical ("Operations, Java Version": 6 GiB of
heap, G1 with a pause target of 20 ms) and those that its start script adds; less heap on a machine whose
memory it would take a third of. The configuration is the one that Kafka ships, ../kafka/server.properties.
"""

import base64
import os
import shutil
import socket
import struct
import subprocess
import uuid

from lib import toolchain
from lib.broker import BrokerError, Server, free_port

from . import java
from .peer import Peer, Variant

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "kafka")
MAIN = "kafka.Kafka"
FORMAT_S_MAX = 60
READY_S_MAX = 120
HEAP_MIB = 6 * 1024
# The page cache is where Kafka keeps its log: a heap of more than this share would take it away.
HEAP_SHARE_MAX = 1 / 3

# The same page recommends the latest long-term release, and names this one.
JAVA_RECOMMENDED = 21

# "Typical arguments" of https://kafka.apache.org/41/operations/java-version, besides the heap.
DOCUMENTED_FLAGS = [
    "-XX:MetaspaceSize=96m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:G1HeapRegionSize=16M", "-XX:MinMetaspaceFreeRatio=50", "-XX:MaxMetaspaceFreeRatio=80",
    "-XX:+ExplicitGCInvokesConcurrent",
]  # fmt: skip
# What bin/kafka-run-class.sh has besides them.
SCRIPT_FLAGS = ["-server", "-Djava.awt.headless=true"]


class Kafka(Peer):
    name = "Kafka"
    variants = (
        Variant("kafka", "page cache: acked before it is on stable storage"),
        Variant("kafka-fsync", "fsync before the ack", {"log.flush.interval.messages": "1"}),
    )

    def __init__(self):
        self._libs = None
        self._java = None
        self._version = None

    def prepare(self):
        toolchain.require("mvn", "taskset")
        self._java = java.find(JAVA_RECOMMENDED)
        pom = os.path.join(SOURCE, "pom.xml")
        folder = toolchain.cached(
            "kafka", [pom], lambda folder: toolchain.copy_packages(pom, os.path.join(folder, "libs")), parent=cache()
        )
        self._libs = os.path.join(folder, "libs")
        core = next(name for name in os.listdir(self._libs) if name.startswith("kafka_2.13-"))
        self._version = core.removeprefix("kafka_2.13-").removesuffix(".jar")

    def version(self):
        return f"{self._version}"

    def runtime(self):
        below = f", below Java {JAVA_RECOMMENDED}, which its documentation recommends"
        return f"Kafka on {self._java.title}{below if self._java.major < JAVA_RECOMMENDED else ''}"

    def configuration(self, variant, cpus):
        command = ["taskset", "--cpu-list", _list(cpus), self._java.program, *flags(), MAIN, "server.properties"]
        with open(os.path.join(SOURCE, "server.properties"), encoding="ascii") as file:
            lines = file.read()
        return f"{' '.join(command)}\n{self._java.title}\n\n{lines}" + _lines(variant.settings)

    def server(self, variant, folder, cpus):
        return KafkaServer(self._java.program, self._libs, variant, folder, cpus)


class KafkaServer(Server):
    """A node, broker and controller. `kill` ends it as a crash would; `start` is for an empty data directory."""

    ready_s_max = READY_S_MAX

    def __init__(self, program, libs, variant, folder, cpus):
        super().__init__(folder)
        self._java = program
        self._libs = libs
        self._cpus = cpus
        self._variant = variant
        self._number = 1
        self._controller = f"127.0.0.1:{free_port()}"
        self._cluster = _cluster_id()
        self._properties = os.path.join(folder, "server.properties")

    def another(self, folder, number):
        """A further broker of its cluster; it is not a controller. `number`: of the node, from 2 on."""
        broker = KafkaServer(self._java, self._libs, self._variant, folder, self._cpus)
        broker._controller, broker._cluster = self._controller, self._cluster
        broker._number = number
        return broker

    def command(self):
        return ["taskset", "--cpu-list", _list(self._cpus), *self._program(flags()), MAIN, self._properties]

    def spawn(self):
        is_first = self._number == 1
        listeners = f"PLAINTEXT://{self.kafka}" + (f",CONTROLLER://{self._controller}" if is_first else "")
        shutil.copyfile(os.path.join(SOURCE, "server.properties"), self._properties)
        with open(self._properties, "a", encoding="ascii") as file:
            file.write(_lines({
                "process.roles": "broker,controller" if is_first else "broker",
                "node.id": self._number,
                "listeners": listeners,
                "advertised.listeners": listeners,
                "controller.quorum.bootstrap.servers": self._controller,
                "log.dirs": self.data_dir,
                **self._variant.settings,
            }))  # fmt: skip
        self._format()
        super().spawn()

    def start_again(self):
        """On the data that is there."""
        super().spawn()
        self.await_ready()

    def is_ready(self):
        """Its port opens early; it answers when the broker may be used."""
        host, port = self.kafka.split(":")
        # ApiVersions, version 0, correlation 1, no client id.
        request = struct.pack(">ihhih", 10, 18, 0, 1, -1)
        try:
            with socket.create_connection((host, int(port)), timeout=1) as stream:
                stream.sendall(request)
                return len(stream.recv(4)) > 0
        except OSError:
            return False

    def _format(self):
        """A data directory, as Kafka's quick start makes it."""
        command = [
            *self._program(["-Xmx256m"]), "kafka.tools.StorageTool", "format",
            *(["--standalone"] if self._number == 1 else []),
            "--cluster-id", self._cluster, "--config", self._properties,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_S_MAX, errors="replace")
        if done.returncode != 0:
            lines = (done.stdout + done.stderr).strip().splitlines() or ["it says nothing"]
            why = next((line for line in lines if "Exception" in line), lines[-1])
            raise BrokerError(f"Kafka's data directory cannot be formatted: {why}")

    def _program(self, java_flags):
        log = f"-Dlog4j2.configurationFile={os.path.join(SOURCE, 'log4j2.properties')}"
        return [self._java, *java_flags, log, "-cp", f"{self._libs}/*"]


def _cluster_id():
    first, *rest = uuid.uuid4().bytes
    # A bit less: an id that begins with "-" would be taken for an option.
    return base64.urlsafe_b64encode(bytes([first & 0x7F, *rest])).decode().rstrip("=")


def cache():
    """Outside the tree: a clean checkout needs no other download."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("RINGMQ_PEERS_CACHE") or os.path.join(home, "ringmq-peers")


def flags():
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    heap = f"{min(HEAP_MIB, int(memory_mib * HEAP_SHARE_MAX))}m"
    return [f"-Xms{heap}", f"-Xmx{heap}", *DOCUMENTED_FLAGS, *SCRIPT_FLAGS]


def _list(cpus):
    return ",".join(map(str, cpus))


def _lines(settings):
    return "".join(f"{key}={value}\n" for key, value in settings.items())
