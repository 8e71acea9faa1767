"""Apache Kafka's own command line tools as a client: the cases are command lines, checked by their output.

The tools are run by their main classes, which is all that the shell scripts of a Kafka download do. Each is a
JVM of its own, so a case is worth several checks.
"""

import contextlib
import json
import os
import re
import subprocess
import time

from .checks import equal
from .toolchain import CONFORMANCE
from .worker import ClientFailed

TOOLS = "org.apache.kafka.tools"
MAIN_CLASSES = {
    "kafka-acls": f"{TOOLS}.AclCommand",
    "kafka-topics": f"{TOOLS}.TopicCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-consumer-groups": f"{TOOLS}.consumer.group.ConsumerGroupCommand",
    "kafka-console-producer": f"{TOOLS}.ConsoleProducer",
    "kafka-console-consumer": f"{TOOLS}.consumer.ConsoleConsumer",
    "kafka-producer-perf-test": f"{TOOLS}.ProducerPerformance",
    "kafka-get-offsets": f"{TOOLS}.GetOffsetShell",
    "kafka-delete-records": f"{TOOLS}.DeleteRecordsCommand",
}
# Which configs there are, from the same packages; Java compiles it as it starts.
CONFIG_NAMES = os.path.join(CONFORMANCE, "kafka-tools", "ConfigNames.java")
# Their settings, at level INFO, would be most of what they say.
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


class KafkaTools:
    """Cases are methods named `_case_<function>`, as with kcat."""

    def __init__(self, command, log_path):
        self._command = [command[0], QUIET, *command[1:]]
        self._log_path = log_path

    def run(self, case, bootstrap, topic, args, timeout_s, on_restart):
        method = getattr(self, f"_case_{case}", None)
        if method is None:
            raise ClientFailed("not a case of this client")
        deadline = time.monotonic() + timeout_s
        return method(Call(self._command, bootstrap, self._log_path, deadline), topic, **args)

    def close(self):
        pass

    def _file(self, name, text):
        """The path of a file for a tool to read."""
        path = os.path.join(os.path.dirname(self._log_path), name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def _case_topics(self, call, topic):
        call.create(topic, 3, "--config", "retention.ms=7200000")
        again = call.refused("kafka-topics", "--create", "--topic", topic, "--partitions", "3")
        _contains(again, "already exists", "second creation")
        _contains(call.run("kafka-topics", "--list"), f"{topic}\n", "list")
        described = call.run("kafka-topics", "--describe", "--topic", topic)
        _matches(described, rf"Topic: {topic}\s+TopicId: \S{{22}}\s+PartitionCount: 3\s+ReplicationFactor: 1")
        _contains(described, "retention.ms=7200000", "describe")
        _matches(described, rf"Topic: {topic}\s+Partition: 2\s+Leader: \d+\s+Replicas: \d+\s+Isr: \d+")
        call.run("kafka-topics", "--delete", "--topic", topic)
        if topic in call.run("kafka-topics", "--list").split():
            raise ClientFailed("a deleted topic is listed")
        _contains(call.refused("kafka-topics", "--describe", "--topic", topic), "does not exist", "a deleted topic")

    def _case_topic_options(self, call, topic):
        """kafka-topics: topics found by id, by pattern, and by what is odd about them; and what need not be there."""
        plain, both = f"{topic}-plain", f"{topic}.*"
        call.create(topic, 2, "--config", "retention.ms=7200000")
        call.create(plain, 1)
        described = call.run("kafka-topics", "--describe", "--topic", topic)
        topic_id = re.search(r"TopicId: (\S{22})", described)[1]
        # By an id it asks for metadata, which say nothing of eligible leader replicas.
        by_id = call.run("kafka-topics", "--describe", "--topic-id", topic_id).replace("N/A", "")
        equal(by_id, described, "a topic by its id")
        equal(call.run("kafka-topics", "--list", "--topic", both).split(), [topic, plain], "topics by a pattern")
        overridden = call.run("kafka-topics", "--describe", "--topics-with-overrides", "--topic", both)
        equal(re.findall(r"Topic: (\S+)", overridden), [topic], "topics with configs of their own")
        for odd in ("--under-replicated-partitions", "--unavailable-partitions"):
            equal(call.run("kafka-topics", "--describe", odd, "--topic", both).strip(), "", odd)
        call.run("kafka-topics", "--delete", "--topic", both)
        equal(call.run("kafka-topics", "--list", "--topic", both).strip(), "", "topics after their deletion")
        gone = ["--if-exists", "--topic", topic]
        for action in (["--describe"], ["--alter", "--partitions", "3"], ["--delete"]):
            call.run("kafka-topics", *action, *gone)

    def _case_create_partitions(self, call, topic):
        call.create(topic, 2)
        call.run("kafka-topics", "--alter", "--topic", topic, "--partitions", "5")
        _matches(call.run("kafka-topics", "--describe", "--topic", topic), r"PartitionCount: 5\s")
        fewer = call.refused("kafka-topics", "--alter", "--topic", topic, "--partitions", "3")
        _matches(fewer, r"(?i)partition")
        call.console(topic, "".join(f"{i}\n" for i in range(50)))
        ends = call.run("kafka-get-offsets", "--topic", topic)
        total = sum(int(line.rsplit(":", 1)[1]) for line in ends.split())
        equal((len(ends.split()), total), (5, 50), "partitions and records")

    def _case_alter_configs(self, call, topic):
        call.create(topic, 1, "--config", "max.message.bytes=500000")
        of_topic = ["--entity-type", "topics", "--entity-name", topic]
        call.run("kafka-configs", "--alter", *of_topic, "--add-config", "retention.ms=3600000")
        described = call.run("kafka-configs", "--describe", *of_topic)
        _contains(described, "retention.ms=3600000", "the added config")
        _matches(described, r"max\.message\.bytes=500000 .*DEFAULT_CONFIG:message\.max\.bytes=\d+")
        _contains(described, "max.message.bytes=500000", "the config from the creation")
        call.run("kafka-configs", "--alter", *of_topic, "--delete-config", "retention.ms")
        described = call.run("kafka-configs", "--describe", *of_topic)
        if "retention.ms=3600000" in described:
            raise ClientFailed(f"a deleted config is described: {described}")
        _contains(described, "max.message.bytes=500000", "the config that was left alone")
        path = self._file(f"{topic}.properties", "retention.ms=1800000\nmax.message.bytes=700000\n")
        call.run("kafka-configs", "--alter", "--topic", topic, "--add-config-file", path)
        described = call.run("kafka-configs", "--describe", "--topic", topic)
        for config in ("retention.ms=1800000", "max.message.bytes=700000"):
            _contains(described, config, "a config from a file")
        for wrong in ("no.such.config=1", "retention.ms=soon"):
            call.refused("kafka-configs", "--alter", *of_topic, "--add-config", wrong)

    def _case_describe_configs(self, call, topic):
        call.create(topic, 1, "--config", "retention.ms=7200000")
        described = call.run(
            "kafka-configs", "--describe", "--all", "--entity-type", "topics", "--entity-name", topic
        )
        _matches(described, r"retention\.ms=7200000 sensitive=false synonyms=\{DYNAMIC_TOPIC_CONFIG:")
        _contains(described, "cleanup.policy=delete", "a default")
        call.lists_all("topics", described)
        broker = ["--entity-type", "brokers", "--entity-name", call.node()]
        described = call.run("kafka-configs", "--describe", "--all", *broker)
        call.lists_all("brokers", described)
        # Asks which there are, by ListConfigResources.
        metrics = call.run("kafka-configs", "--describe", "--entity-type", "client-metrics")
        equal(metrics.strip(), "", "metrics of clients")
        quotas = call.run("kafka-configs", "--describe", "--entity-type", "clients")
        equal(quotas.strip(), "", "quotas of clients")
        for who in (["--entity-type", "users"], ["--user", "somebody"]):
            users = call.run("kafka-configs", "--describe", *who)
            equal(users.strip(), "", f"quotas and credentials, {who}")
        password = "SCRAM-SHA-256=[iterations=8192,password=secret]"
        refused = call.refused("kafka-configs", "--alter", "--user", "somebody", "--add-config", password)
        _contains(refused, "ALTER_USER_SCRAM_CREDENTIALS", "a password where there are none")
        _contains(call.refused("kafka-acls", "--list"), "SecurityDisabledException", "ACLs without authorizer")

    def _case_alter_broker_configs(self, call, _):
        """A config without meaning here is accepted and not kept; one that has a meaning is refused in Kafka's words."""
        node = call.node()
        broker = ["--entity-type", "brokers", "--entity-name", node]
        alter = ["kafka-configs", "--alter", *broker, "--add-config"]
        for place, named in ((broker, f"broker {node}"), (["--entity-type", "brokers", "--entity-default"], "brokers")):
            said = call.run("kafka-configs", "--alter", *place, "--add-config", "log.cleaner.threads=2")
            _matches(said, rf"^Completed updating .*config for {named}")
            described = call.run("kafka-configs", "--describe", *place)
            _matches(described, rf"^(Dynamic|Default) configs for {named}")
            if "log.cleaner.threads" in described:
                raise ClientFailed(f"a config without meaning was kept: {described}")
        fixed = call.refused(*alter, "log.dirs=/elsewhere")
        _matches(fixed, r"InvalidRequestException: Cannot update these configs dynamically: .*log\.dirs")
        wrong = call.refused(*alter, "log.cleaner.threads=many")
        _matches(wrong, r"InvalidRequestException: .*log\.cleaner\.threads")

    def _case_console(self, call, topic):
        """Lines with keys and headers go in at one terminal and come out at another, the group's offset kept."""
        call.create(topic, 1)
        lines = [f"a:{i},b:größe\tkey-{i}\tvalue {i}" for i in range(100)]
        call.console(
            topic, "\n".join(lines[:60]) + "\n",
            "--property", "parse.key=true", "--property", "parse.headers=true", "--compression-codec", "zstd",
        )  # fmt: skip

        def consume(count):
            return call.run(
                "kafka-console-consumer", "--topic", topic, "--group", f"{topic}-console", "--from-beginning",
                "--max-messages", str(count), "--timeout-ms", "30000",
                "--property", "print.key=true", "--property", "print.headers=true",
            ).splitlines()  # fmt: skip

        equal(consume(60), lines[:60], "the lines")
        call.console(
            topic, "\n".join(lines[60:]) + "\n", "--property", "parse.key=true", "--property", "parse.headers=true"
        )
        equal(consume(40), lines[60:], "the lines after those of the last time")
        group = ["--group", f"{topic}-console"]
        described = call.run("kafka-consumer-groups", "--describe", *group)
        _matches(described, rf"{topic}-console\s+{topic}\s+0\s+100\s+100\s+0\s")
        to_start = ["--reset-offsets", *group, "--topic", topic, "--to-earliest", "--execute"]
        _matches(call.run("kafka-consumer-groups", *to_start), rf"{topic}-console\s+{topic}\s+0\s+0\s")

    def _case_console_options(self, call, topic):
        """Separators and nulls of one's own; read from an offset of a partition, with all that there is to a record."""
        call.create(topic, 1)
        values = ["NULL" if i % 3 == 0 else f"value {i}" for i in range(20)]
        lines = [f"key-{i}|{value}" for i, value in enumerate(values)]
        call.console(
            topic, "\n".join(lines) + "\n", "--property", "parse.key=true", "--property", "key.separator=|",
            "--property", "null.marker=NULL", "--request-required-acks", "1",
            # One by one, and none waits for the next.
            "--sync", "--producer-property", "linger.ms=0",
        )  # fmt: skip
        printed = ("timestamp", "partition", "offset", "key")
        said = call.run(
            "kafka-console-consumer", "--topic", topic, "--partition", "0", "--offset", "5", "--max-messages", "10",
            "--isolation-level", "read_committed", "--timeout-ms", "30000", "--property", "key.separator=|",
            "--property", "null.literal=none", *(word for what in printed for word in ("--property", f"print.{what}=true")),
        )  # fmt: skip
        expected = [f"Partition:0|Offset:{i}|{lines[i].replace('NULL', 'none')}" for i in range(5, 15)]
        equal([re.sub(r"^CreateTime:\d{13}\|", "", line) for line in said.splitlines()], expected, "the lines")

    def _case_producer_perf(self, call, topic):
        call.create(topic, 3)
        said = call.run(
            "kafka-producer-perf-test", "--topic", topic, "--num-records", "5000", "--record-size", "200",
            "--throughput", "-1", "--producer-props", f"bootstrap.servers={call.bootstrap}", "acks=all",
            connect=False,
        )  # fmt: skip
        _matches(said, r"5000 records sent, [\d.]+ records/sec .* ms 99\.9th")
        ends = call.run("kafka-get-offsets", "--topic", topic)
        equal(sum(int(line.rsplit(":", 1)[1]) for line in ends.split()), 5000, "records")
        # What to send, and how, from files.
        payloads = ["short", "a longer line", "größe"]
        own = f"{topic}-payloads"
        call.create(own, 1)
        said = call.run(
            "kafka-producer-perf-test", "--topic", own, "--num-records", "300", "--throughput", "1000000",
            "--payload-file", self._file(f"{own}.txt", "\n".join(payloads) + "\n"), "--print-metrics",
            "--producer.config",
            # In one batch: a few short records by themselves become longer.
            self._file(f"{own}.properties", f"bootstrap.servers={call.bootstrap}\ncompression.type=lz4\nlinger.ms=5000\n"),
            connect=False,
        )  # fmt: skip
        _matches(said, r"300 records sent, ")
        _matches(said, r"producer-topic-metrics:compression-rate.* : 0\.")
        read = call.run("kafka-console-consumer", "--topic", own, "--from-beginning", "--max-messages", "300",
                        "--timeout-ms", "30000").splitlines()  # fmt: skip
        equal((len(read), set(read)), (300, set(payloads)), "payloads")

    def _case_list_offsets(self, call, topic):
        call.create(topic, 1)
        call.console(topic, "one\ntwo\nthree\n")
        offsets = (
            ("earliest", 0), ("latest", 3), ("-1", 3), ("-2", 0), ("0", 0), ("earliest-local", 0), ("-4", 0),
            # Nothing is tiered: there is no such offset, and the tool says nothing.
            ("latest-tiered", None), ("-5", None),
        )  # fmt: skip
        for when, expected in offsets:
            said = call.run("kafka-get-offsets", "--topic", topic, "--time", when)
            equal(said.strip(), "" if expected is None else f"{topic}:0:{expected}", f"offset at {when}")
        largest = call.run("kafka-get-offsets", "--topic", topic, "--time", "max-timestamp")
        _matches(largest, rf"{topic}:0:[012]$")
        # Of which topics, and which of their partitions.
        other = f"{topic}-other"
        call.create(other, 3)
        for asked, expected in (
            (["--topic", f"{topic}.*"], [f"{other}:0:0", f"{other}:1:0", f"{other}:2:0", f"{topic}:0:3"]),
            (["--topic", other, "--partitions", "0,2"], [f"{other}:0:0", f"{other}:2:0"]),
            (["--topic-partitions", f"{topic}:0,{other}:1-3"], [f"{other}:1:0", f"{other}:2:0", f"{topic}:0:3"]),
        ):
            equal(sorted(call.run("kafka-get-offsets", *asked).split()), sorted(expected), f"ends by {asked}")
        every = call.run("kafka-get-offsets", "--exclude-internal-topics").split()
        if not {f"{topic}:0:3", f"{other}:2:0"} <= set(every):
            raise ClientFailed(f"not all topics: {every}")

    def _case_delete_records(self, call, topic):
        call.create(topic, 2)
        call.run(
            "kafka-producer-perf-test", "--topic", topic, "--num-records", "200", "--record-size", "10",
            "--throughput", "-1", "--producer-props", f"bootstrap.servers={call.bootstrap}", "batch.size=0",
            connect=False,
        )  # fmt: skip
        # -1: all that there is.
        offsets = [{"topic": topic, "partition": p, "offset": offset} for p, offset in enumerate((5, -1))]
        path = self._file(f"{topic}.json", json.dumps({"version": 1, "partitions": offsets}))
        said = call.run("kafka-delete-records", "--offset-json-file", path)
        end = call.run("kafka-get-offsets", "--topic", topic, "--partitions", "1").strip().rsplit(":", 1)[1]
        for partition, start in ((0, 5), (1, end)):
            _matches(said, rf"partition: {topic}-{partition}\s+low_watermark: {start}\b")
        for when in ("earliest", "earliest-local"):
            starts = call.run("kafka-get-offsets", "--topic", topic, "--time", when)
            equal(starts.split(), [f"{topic}:0:5", f"{topic}:1:{end}"], f"starts, {when}")

    def _case_group_commits(self, call, topic):
        """kafka-consumer-groups: list, describe with lag, reset with and without a dry run, delete."""
        call.create(topic, 1)
        call.console(topic, "".join(f"{i}\n" for i in range(40)))
        group = f"{topic}-tools"
        call.run(
            "kafka-console-consumer", "--topic", topic, "--group", group, "--from-beginning",
            "--max-messages", "40", "--timeout-ms", "30000",
        )  # fmt: skip
        call.console(topic, "".join(f"{i}\n" for i in range(10)))
        tool = ["kafka-consumer-groups"]
        of_group = ["--group", group]
        _contains(call.run(*tool, "--list"), group, "list")

        def lags():
            said = call.run(*tool, "--describe", *of_group)
            rows = re.findall(rf"{group}\s+{topic}\s+\d+\s+(\d+)\s+(\d+)\s+(\d+)", said)
            return [sum(int(row[i]) for row in rows) for i in range(3)]

        equal(lags(), [40, 50, 10], "committed, ends and lag")
        _matches(call.run(*tool, "--describe", "--state", *of_group), rf"{group}\s.*Empty\s+0")
        reset = [*tool, "--reset-offsets", *of_group, "--topic", topic]
        _matches(call.run(*reset, "--to-earliest", "--dry-run"), rf"{group}\s+{topic}\s+0\s+0\s")
        equal(lags(), [40, 50, 10], "after a dry run")
        call.run(*reset, "--to-earliest", "--execute")
        equal(lags(), [0, 50, 50], "after a reset to the start")
        call.run(*reset, "--shift-by", "5", "--execute")
        equal(lags(), [5, 50, 45], "after a reset by 5")
        call.run(*reset, "--to-datetime", "2020-01-01T00:00:00.000", "--execute")
        equal(lags(), [0, 50, 50], "after a reset by time")
        _contains(call.run(*tool, "--delete-offsets", *of_group, "--topic", topic), "Successful", "delete offsets")
        call.run(*reset, "--to-latest", "--execute")
        _contains(call.run(*tool, "--delete", *of_group), "was successful", "delete")
        if group in call.run(*tool, "--list").split():
            raise ClientFailed("a deleted group is listed")

    def _case_group_resets(self, call, topic):
        """kafka-consumer-groups: all groups at once, and all topics of one, reset by age and by a file."""
        other = f"{topic}-other"
        call.create(topic, 1)
        call.create(other, 1)
        call.console(topic, "".join(f"{i}\n" for i in range(20)))
        call.console(other, "".join(f"{i}\n" for i in range(10)))
        group = f"{topic}-tools"
        call.run(
            "kafka-console-consumer", "--include", f"{topic}.*", "--group", group, "--from-beginning",
            "--max-messages", "30", "--timeout-ms", "30000",
        )  # fmt: skip
        # Those of all cases before this one are there, too.
        every = ["kafka-consumer-groups", "--all-groups", "--timeout", "60000"]
        if group not in call.run(*every, "--list").split():
            raise ClientFailed("the group is not among all groups")

        def committed():
            """By topic, from the description of all groups."""
            said = call.run(*every, "--describe")
            rows = re.findall(rf"^{group}\s+(\S+)\s+0\s+(\d+)\s+(\d+)\s", said, re.MULTILINE)
            equal({name: int(end) for name, _, end in rows}, {topic: 20, other: 10}, "ends")
            return {name: int(offset) for name, offset, _ in rows}

        equal(committed(), {topic: 20, other: 10}, "what was read")
        reset = ["kafka-consumer-groups", "--reset-offsets", "--group", group]
        # No record is an hour old, and none is younger than now.
        for duration, offsets in (("PT1H", (0, 0)), ("PT0S", (20, 10))):
            plan = call.run(*reset, "--all-topics", "--by-duration", duration, "--dry-run", "--export")
            # Long names are quoted.
            rows = re.findall(r'^"?([\w-]+)"?,0,(\d+)$', plan, re.MULTILINE)
            planned = {name: int(offset) for name, offset in rows}
            equal(planned, dict(zip((topic, other), offsets)), f"the plan for {duration}")
        path = self._file(f"{topic}.csv", f"{topic},0,7\n{other},0,3\n")
        _matches(call.run(*reset, "--from-file", path, "--dry-run"), rf"^{group}\s+{other}\s+0\s+3\s")
        equal(committed(), {topic: 20, other: 10}, "after dry runs")
        call.run(*reset, "--from-file", path, "--execute")
        equal(committed(), {topic: 7, other: 3}, "after a reset by a file")
        call.run(*reset, "--all-topics", "--by-duration", "PT1H", "--execute")
        equal(committed(), {topic: 0, other: 0}, "after a reset by age")
        call.run(*reset, "--topic", f"{topic}:0", "--topic", other, "--to-offset", "6", "--execute")
        equal(committed(), {topic: 6, other: 6}, "after a reset to an offset")
        call.run(*reset, "--topic", topic, "--shift-by", "-2", "--execute")
        equal(committed(), {topic: 4, other: 6}, "after a reset by -2")
        plan = call.run(*reset, "--all-topics", "--to-current", "--dry-run", "--export")
        planned = dict(re.findall(r'^"?([\w-]+)"?,0,(\d+)$', plan, re.MULTILINE))
        equal(planned, {topic: "4", other: "6"}, "the plan to stay")

    def _case_group_described(self, call, topic):
        """kafka-consumer-groups: the members of a group that is alive, with what they read, and its state."""
        call.create(topic, 4)
        group = f"{topic}-alive"
        describe = ["kafka-consumer-groups", "--describe", "--group", group]
        consumer = ["kafka-console-consumer", "--topic", topic, "--group", group]
        names = ("one", "two")

        def assigned():
            """By what id, place and client which partitions are read, as soon as everybody has some."""
            who = r"place-(\w+)-\S+\s+place-(\w+)\s+/127\.0\.0\.1\s+reader-(\w+)"
            row = rf"^{group}\s+{who}\s+2\s.*\s{topic}:(\d,\d)\s"
            while True:
                # An error at first: there is no such group before one of them has joined.
                said = call.says(*describe, "--members", "--verbose")
                rows = re.findall(row, said, re.MULTILINE)
                if len(rows) == len(names):
                    return rows
                if time.monotonic() > call.deadline:
                    raise ClientFailed(f"not as many members as expected: {said}")

        with contextlib.ExitStack() as consumers:
            for name in names:
                properties = [f"client.id=reader-{name}", f"group.instance.id=place-{name}"]
                properties = [text for one in properties for text in ("--consumer-property", one)]
                consumers.enter_context(call.beside(*consumer, *properties))
            rows = assigned()
            equal(sorted(row[:3] for row in rows), [(name, name, name) for name in names], "members")
            equal(sorted(",".join(row[3] for row in rows).split(",")), list("0123"), "partitions")
            state = call.run(*describe, "--state")
            _matches(state, rf"^{group}\s+127\.0\.0\.1:\d+\s+\(\d+\)\s+range\s+Stable\s+{len(names)}\s*$")
            listed = call.run("kafka-consumer-groups", "--list", "--state", "stable")
            _matches(listed, rf"^{group}\s+.*Stable\s*$")


class Call:
    """What one case needs to call the tools."""

    def __init__(self, command, bootstrap, log_path, deadline):
        self.bootstrap = bootstrap
        self._command = command
        self._log_path = log_path
        self.deadline = deadline

    def _try(self, tool, *args, text="", connect=True):
        command = [*self._command, MAIN_CLASSES[tool]]
        if connect:
            command += ["--bootstrap-server", self.bootstrap]
        left_s = max(1, self.deadline - time.monotonic())
        try:
            result = subprocess.run([*command, *args], input=text, capture_output=True, timeout=left_s, text=True)
        except subprocess.TimeoutExpired:
            raise ClientFailed(f"{tool} {args[0]} did not end in time") from None
        with open(self._log_path, "a", encoding="utf-8") as log:
            log.write(f"$ {tool} {' '.join(args)}\n{result.stdout}{result.stderr}\n")
        return result

    def run(self, tool, *args, **settings):
        """The output of a tool that must succeed. Not every one tells by its exit code."""
        result = self._try(tool, *args, **settings)
        if result.returncode != 0 or "\nError:" in result.stdout or "Exception" in result.stdout:
            raise ClientFailed(f"{tool} {args[0]} ended with code {result.returncode}: {_words(result)}")
        return result.stdout

    def says(self, tool, *args):
        """The output of a tool that may fail."""
        return self._try(tool, *args).stdout

    @contextlib.contextmanager
    def beside(self, tool, *args):
        """A tool that goes on until the block ends."""
        command = [*self._command, MAIN_CLASSES[tool], "--bootstrap-server", self.bootstrap, *args]
        with open(self._log_path, "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def lists_all(self, kind, described):
        """Compares the names that kafka-configs has listed with Kafka's own definition of such a thing's configs."""
        command = [*self._command, CONFIG_NAMES, kind]
        left_s = max(1, self.deadline - time.monotonic())
        result = subprocess.run(command, capture_output=True, timeout=left_s, text=True)
        if result.returncode != 0:
            raise ClientFailed(f"ConfigNames {kind} ended with code {result.returncode}: {_words(result)}")
        expected = set(result.stdout.split())
        listed = set(re.findall(r"^  ([\w.]+)=.* sensitive=", described, re.MULTILINE))
        equal(sorted(listed ^ expected), [], f"configs of {kind} that only one of the two has")

    def refused(self, tool, *args):
        """What a tool says that must fail."""
        result = self._try(tool, *args)
        if result.returncode == 0:
            raise ClientFailed(f"{tool} {' '.join(args)} should have failed: {_words(result)}")
        return result.stdout + result.stderr

    def create(self, topic, partitions, *args):
        said = self.run("kafka-topics", "--create", "--topic", topic, "--partitions", str(partitions), *args)
        _contains(said, f"Created topic {topic}.", "create")

    def console(self, topic, text, *args):
        self.run("kafka-console-producer", "--topic", topic, *args, text=text)

    def node(self):
        """The id of a broker, as kafka-topics tells it."""
        self.run("kafka-topics", "--create", "--if-not-exists", "--topic", "conform-node", "--partitions", "1")
        return re.search(r"Leader: (\d+)", self.run("kafka-topics", "--describe", "--topic", "conform-node"))[1]


def _words(result):
    return " ".join((result.stdout + result.stderr).split())[-300:]


def _contains(text, part, what):
    if part not in text:
        raise ClientFailed(f"{what}: no {part!r} in {' '.join(text.split())[-300:]!r}")


def _matches(text, pattern):
    if re.search(pattern, text, re.MULTILINE) is None:
        raise ClientFailed(f"nothing matches {pattern!r} in {' '.join(text.split())[-300:]!r}")
