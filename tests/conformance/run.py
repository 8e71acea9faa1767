#!/usr/bin/env python3
"""Unmodified Kafka clients from their registries against a broker: one line per case.

    python3 tests/conformance/run.py [--short | --full] [--client NAME]... [--case TEXT] [--bootstrap ADDR]
                                     [--advertise node|log] [--update-docs]

Without --bootstrap it starts target/release/ringmq (or --binary, or $RINGMQ_BIN) on free ports and a
temporary data directory, restarts it where a case asks for that, and leaves nothing behind. The client
programs are built once, into target/conformance-cache (or $RINGMQ_TEST_CACHE). A client that cannot be
built here is skipped by name, and so is a case that it cannot do here; with CI=true in the environment either is a
failure, but for what MAY_SKIP (lib/cases.py) lists.

A run of all cases ends with a look at the broker's counters: what it advertises must have been sent by a
client, or by the sweep, which sends every version of every API; and what a client has sent must stand in the table
of docs/PROTOCOLS.md, which --update-docs writes.

The last line is `N passed, N failed, N skipped`; the exit code is 1 if a case failed.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import toolchain  # noqa: E402
from lib.broker import Broker, BrokerError, by_log, free_base_port  # noqa: E402
from lib.cases import CODECS, DATASET_S_MAX, MAY_SKIP, SHORT_IN_FULL, Case, cases_of  # noqa: E402
from lib.checks import equal  # noqa: E402
from lib.coverage import SWEEP, Coverage  # noqa: E402
from lib.kafka_tools import KafkaTools  # noqa: E402
from lib.kcat import Kcat  # noqa: E402
from lib.report import Report  # noqa: E402
from lib.wire import Refused, create_topic  # noqa: E402
from lib.worker import ClientFailed, ClientSkipped, Worker  # noqa: E402

COVERAGE = "coverage of all that is advertised"
DATASET_RECORDS = {"short": 100_000, "full": 1_000_000}
DATASET_PARTITIONS = 12
DATASET_SEED = 20_240_601

# A rebalance of a new group waits 3 s for more members by default; these groups know who comes.
SETTINGS = ["kafka.group_initial_delay=200ms"]


def in_ci():
    """Must everything run?"""
    return os.environ.get("CI") == "true"


def folder_of(name):
    return os.path.join(toolchain.CONFORMANCE, name)


# How to get each client, and whether the short form runs it.
CLIENTS = {
    "librdkafka": (toolchain.librdkafka_command, Worker, True),
    "kcat": (toolchain.kcat_command, Kcat, True),
    "franz-go": (lambda: toolchain.go_command("franz", folder_of("franz")), Worker, True),
    "java-4": (lambda: toolchain.java_command("4.1.1"), Worker, True),
    "java-3": (lambda: toolchain.java_command("3.9.1"), Worker, False),
    "kafka-python": (lambda: toolchain.python_command("kafka-python"), Worker, True),
    "aiokafka": (lambda: toolchain.python_command("aiokafka"), Worker, True),
    "kafkajs": (lambda: toolchain.node_command("kafkajs"), Worker, True),
    "sarama": (lambda: toolchain.go_command("sarama", folder_of("sarama")), Worker, True),
    "rdkafka": (lambda: toolchain.rust_command("rdkafka", folder_of("rust")), Worker, True),
    "kafka-tools": (lambda: toolchain.kafka_tools_command("4.1.1"), KafkaTools, True),
}
# Those that can write and read what the cross matrix and the data set ask for.
NO_MATRIX = {"kafka-tools"}
# kcat prints headers as text, which those of the data set are not.
NO_DATASET = {"librdkafka", "kcat", "kafka-tools"}


class Target:
    """The broker that the cases run against: our own process, or an address that we were given."""

    def __init__(self, broker, bootstrap):
        self.broker = broker
        self.bootstrap = bootstrap or broker.bootstrap
        self.coverage = None if broker is None else Coverage(broker)
        self._client = None

    def serves(self, client):
        """The requests from here on are this client's; those of several at a time are nobody's."""
        self.note()
        self._client = client

    def without_client(self, act):
        """What is sent in `act` is nobody's."""
        client, self._client = self._client, None
        act()
        self.note()
        self._client = client

    def note(self):
        if self.coverage is not None:
            self.coverage.note(self._client)

    def restart(self, how):
        self.note()
        match how:
            case "term":
                self.broker.stop()
            case "kill":
                self.broker.check_alive()
                self.broker.kill()
            case _:
                raise ClientFailed(f"the client asked for an unknown restart: {how}")
        self._start()

    def _start(self):
        self.broker.start()
        self.coverage.restarted()

    def revive(self):
        """After a failed case: the next one deserves a broker that runs."""
        if self.broker is not None and not self.broker.is_running():
            self.broker.kill()
            self._start()

    def close(self):
        if self.broker is not None:
            self.broker.kill()


class ClientReport(Report):
    """A failure shows the end of the broker's log."""

    def __init__(self, target):
        super().__init__()
        self._target = target

    def run(self, name, action):
        """Runs one case; returns what it returned, or None."""
        started = time.monotonic()
        try:
            result = action()
            self._check_broker()
        except ClientSkipped as reason:
            accepted = MAY_SKIP.get(name)
            if accepted is not None:
                self.skip(name, f"{reason}; accepted: {accepted}")
            else:
                (self.fail if in_ci() else self.skip)(name, reason)
            return None
        except (ClientFailed, BrokerError, Refused, toolchain.BuildError) as reason:
            self.fail(name, reason)
            self._target.revive()
            return None
        self.succeed(name, started)
        return result

    def fail(self, name, reason):
        broker = self._target.broker
        super().fail(name, reason, [broker] if broker is not None else [])

    def _check_broker(self):
        if self._target.broker is not None:
            self._target.broker.check_alive()


def prepare(names, report, folder):
    """The clients that can be run here, by name."""
    clients = {}
    for name in names:
        command_of, kind, _ = CLIENTS[name]
        try:
            command = command_of()
        except toolchain.Missing as reason:
            (report.fail if in_ci() else report.skip)(name, reason)
            continue
        except toolchain.BuildError as reason:
            report.fail(name, reason)
            continue
        clients[name] = kind(command, os.path.join(folder, f"{name}.log"))
    return clients


class Session:
    """Runs cases of clients against the target, each with a topic of its own."""

    def __init__(self, target, report, wanted, advertise):
        self._advertise = advertise
        self._target = target
        self._report = report
        self._wanted = wanted
        self._topics = 0

    def topic(self, label):
        self._topics += 1
        # The time keeps runs apart that share a broker.
        return f"conform-{int(time.time())}-{self._topics}-{label}"

    def run_all(self, client_name, client, form):
        for case in cases_of(client_name, form):
            self._target.serves(SWEEP if case.function == "raw_sweep" else client_name)
            self.run(client_name, client, case)
        # Whatever it has open would go on sending while others are counted.
        client.close()
        self._target.serves(None)

    def run(self, client_name, client, case, topic=None):
        name = f"{client_name} {case.name}"
        if self._wanted not in name:
            return None
        if case.restarts and self._target.broker is None:
            self._report.skip(name, "the broker is not ours to restart")
            return None
        topic = topic or self.topic(case.function)
        return self._report.run(name, lambda: self._call(client, case, topic))

    def _call(self, client, case, topic):
        args = case.args
        if case.function == "describe_cluster":
            # With a port for each log, the one where clients begin is none of theirs.
            args = {"own_address": "listed" if self._advertise == "node" else "unlisted"}
        if case.partitions:
            self._target.without_client(lambda: create_topic(self._target.bootstrap, topic, case.partitions))
        return client.run(case.function, self._target.bootstrap, topic, args, case.timeout_s, self._target.restart)

    def matrix(self, clients, form):
        """Each client writes once per codec, and each reads what all have written.

        In the short form those whose cases are only sampled meet librdkafka, and each writes in one codec.
        """
        sampled = [name for name in clients if form == "short" and name not in SHORT_IN_FULL]
        for writer_name, writer in clients.items():
            codecs = CODECS if writer_name not in sampled else [CODECS[sampled.index(writer_name) % len(CODECS)]]
            for codec in codecs:
                topic = self.topic(f"{writer_name}-{codec}")
                case = Case(f"matrix/write/{codec}", "write", {"codec": codec})
                written = self.run(writer_name, writer, case, topic)
                if written is None:
                    continue
                for reader_name, reader in clients.items():
                    pair = {writer_name, reader_name}
                    if pair & set(sampled) and "librdkafka" in clients and "librdkafka" not in pair:
                        continue
                    case = Case(f"matrix/read/{writer_name}/{codec}", "read_digests")
                    self._compare(reader_name, reader, case, topic, written)

    def dataset(self, clients, form):
        """The access log goes in through librdkafka and comes out through the others, byte for byte."""
        if "librdkafka" not in clients:
            self._report.skip("dataset", "needs librdkafka, which writes it")
            return
        records = DATASET_RECORDS[form]
        topic = self.topic("dataset")
        args = {"records": str(records), "partitions": str(DATASET_PARTITIONS), "seed": str(DATASET_SEED)}
        case = Case(f"dataset/write/{records}", "write_dataset", args, timeout_s=DATASET_S_MAX)
        written = self.run("librdkafka", clients["librdkafka"], case, topic)
        if written is None:
            return
        for name, client in clients.items():
            if name in NO_DATASET or (form == "short" and name not in SHORT_IN_FULL):
                continue
            case = Case("dataset/read", "read_digests", timeout_s=DATASET_S_MAX)
            self._compare(name, client, case, topic, written)

    def _compare(self, name, reader, case, topic, written):
        def action():
            found = self._call(reader, case, topic)
            for partition, digest in written.items():
                got = found.get(partition, "nothing")
                # A star stands for a digest that the writer cannot know.
                if any(a not in (b, "*") for a, b in zip(digest.split(), got.split(), strict=True)):
                    raise ClientFailed(f"{partition} differs: written {digest}, read {got}")

        self._report.run(f"{name} {case.name}", action)


def check_coverage(target, report):
    """Fails for versions that are advertised and that nobody has sent."""

    def action():
        target.note()
        missing = target.coverage.missing()
        if missing:
            raise ClientFailed("never sent: " + ", ".join(f"{api} {version}" for api, version in missing))

    report.run(COVERAGE, action)


def check_table(target, report):
    """Fails for what a client has sent, and docs/PROTOCOLS.md does not say of it."""

    def action():
        unlisted = target.coverage.unlisted()
        if unlisted:
            said = ", ".join(f"{client} sends {api} {version}" for client, api, version in unlisted)
            raise ClientFailed(f"docs/PROTOCOLS.md is out of date, run --full --update-docs: {said}")

    report.run("who sends which, in docs/PROTOCOLS.md", action)


def settings(args):
    """What the broker is started with."""
    chosen = [*SETTINGS, *(by_log(free_base_port(args.shards)) if args.advertise == "log" else [])]
    return [word for setting in chosen for word in ("--set", setting)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", dest="form", action="store_const", const="short", help="the default")
    form.add_argument("--full", dest="form", action="store_const", const="full", help="all clients, all data")
    parser.add_argument("--client", action="append", choices=list(CLIENTS), help="only this one; repeatable")
    parser.add_argument("--case", default="", metavar="TEXT", help="only lines with this text in their name")
    parser.add_argument("--bootstrap", metavar="ADDR", help="a broker that runs already; nothing restarts it")
    parser.add_argument("--binary", default=toolchain.default_binary(), help="the broker to start")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--advertise", choices=["node", "log"], default="node", help="the listening mode")
    parser.add_argument("--update-docs", action="store_true", help="write who sent what into docs/PROTOCOLS.md")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder with data and logs")
    args = parser.parse_args()
    form = args.form or "short"
    names = args.client or [name for name, (_, _, short) in CLIENTS.items() if short or form == "full"]

    # So that a stopped run leaves no broker behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="ringmq-conform-")
    broker = None if args.bootstrap else Broker(args.binary, folder, shards=args.shards, extra_args=settings(args))
    target = Target(broker, args.bootstrap)
    report = ClientReport(target)
    clients = {}
    try:
        clients = prepare(names, report, folder)
        if broker is not None:
            broker.start()
        session = Session(target, report, args.case, args.advertise)
        for name, client in clients.items():
            session.run_all(name, client, form)
        writers = {name: client for name, client in clients.items() if name not in NO_MATRIX}
        session.matrix(writers, form)
        session.dataset(writers, form)
        if not args.client and not args.case:
            if broker is None:
                report.skip(COVERAGE, "it is in the counters of our own broker")
            elif "franz-go" not in clients:
                report.skip(COVERAGE, "it needs franz-go, which sends what nobody else does")
            else:
                check_coverage(target, report)
            if args.update_docs and list(clients) == list(CLIENTS):
                target.coverage.write_table(list(clients))
            elif args.update_docs:
                report.fail("docs/PROTOCOLS.md", "its table needs all clients: run --full where none is skipped")
            elif broker is not None and form == "full":
                check_table(target, report)
        if broker is not None:
            report.run("broker ends on SIGTERM", broker.stop)
            report.run("broker has never panicked", lambda: equal(broker.panics(), [], "panics"))
    except (BrokerError, OSError) as reason:
        report.fail("the broker", reason)
    finally:
        for client in clients.values():
            client.close()
        target.close()
        if args.keep or report.failed:
            print(f"data and logs: {folder}")
        else:
            shutil.rmtree(folder)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
