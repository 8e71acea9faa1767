"""`ringmq topic`, `ringmq record` and `ringmq group` as people and scripts use them: exit codes, tables, JSON, pipes.

They are for any Kafka cluster: but for what says otherwise, the cases run at RingMQ and at Apache Kafka.
"""

import json
import os
import struct
import subprocess

import wire
from lib import toolchain
from lib.broker import by_log, free_base_port
from rig import WAIT_S_MAX, CaseSkipped, check, equal, until

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


class Shell:
    """Types commands at a broker."""

    def __init__(self, rig, broker):
        self.binary = rig.binary
        self.broker = broker

    def start(self, line, **pipes):
        command = [self.binary, *line.split(), "--bootstrap", self.broker.kafka]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **pipes)

    def run(self, line, typed=b"", limit_s=WAIT_S_MAX):
        process = self.start(line, stdin=subprocess.PIPE)
        try:
            told, errors = process.communicate(typed, limit_s)
        finally:
            # If it has not ended.
            process.kill()
        return process.returncode, told, errors.decode()

    def does(self, line, typed=b""):
        """What it prints; it must succeed."""
        code, told, errors = self.run(line, typed)
        check(code == 0, f"ringmq {line}: code {code}, {errors}")
        return told

    def finds(self, line):
        return json.loads(self.does(f"{line} --json"))

    def refuses(self, line, *words, typed=b""):
        code, told, errors = self.run(line, typed)
        check(code == 1 and told == b"", f"ringmq {line}: code {code}, prints {told!r}")
        for word in words:
            check(word in errors, f"ringmq {line}: {word!r} is not in {errors!r}")


def _lines(told):
    return [json.loads(line) for line in told.splitlines()]


def topics(rig, per_log):
    """A topic grows, is configured, and says what it takes. Asked of a broker per log, nothing is counted twice."""
    broker = rig.running(shards=2, settings=by_log(free_base_port(2))) if per_log else rig.endpoint(shards=2)
    shell = Shell(rig, broker)
    create = "topic create orders --partitions 2 --config retention.ms=86400000"
    for flag in ("--dry-run", "--validate-only"):
        equal(shell.does(f"{create} {flag}"), b"orders could be created\n", "what a dry run says")
    equal(shell.finds("topic list"), [], "topics after a dry run")
    equal(shell.finds(create), {"name": "orders", "result": "created"}, "what a creation says")
    shell.refuses(create, "TOPIC_ALREADY_EXISTS")
    equal(shell.finds(f"{create} --if-not-exists")["result"], "exists", "what a second creation says")
    shell.refuses("topic create wrong --config retention.ns=5", "retention.ns", "INVALID_CONFIG")
    shell.does("topic create empty --partitions 1")

    grow = "topic add-partitions orders --partitions"
    shell.refuses(f"{grow} 2", 'partitions to topic "orders"', "INVALID_PARTITIONS")
    shell.refuses("topic add-partitions order --partitions 5", 'did you mean "orders"?')
    equal(shell.finds(f"{grow} 5 --dry-run")["result"], "valid", "what a dry run says")
    equal(len(shell.finds("topic describe orders")["partitions"]), 2, "partitions after a dry run")
    equal(shell.does(f"{grow} 5").decode(), "orders has 5 partitions, it had 2\n", "what growing says")

    value = b"x" * 1000 + b"\n"
    for partition, count in ((1, 1), (4, 50)):
        shell.does(f"record produce orders --partition {partition}", value * count)
    described = shell.finds("topic describe orders")
    sizes = [one["bytes"] for one in described["partitions"]]
    equal([size > 0 for size in sizes], [False, True, False, False, True], f"partitions with bytes, {sizes}")
    check(50_000 < sizes[4] < 100_000 and sizes[1] < sizes[4], f"bytes of the partitions: {sizes}")
    equal([one["end"] for one in described["partitions"]], [0, 1, 0, 0, 50], "ends")
    equal(described["bytes"], sum(sizes), "bytes of the topic")
    listed = {one["name"]: (one["partitions"], one["bytes"]) for one in shell.finds("topic list")}
    equal(listed, {"empty": (1, 0), "orders": (5, sum(sizes))}, "topics")
    for line in ("topic list", "topic describe orders"):
        told = shell.does(line).decode()
        check(" SIZE" in told and " KiB" in told, f"ringmq {line}: no sizes in {told!r}")

    def configs():
        found = shell.finds("topic config orders")
        return {one["name"]: (one["value"], one["source"]) for one in found}

    before = configs()
    equal(before["retention.ms"], ("86400000", "topic"), "what was set at the creation")
    equal(before["max.message.bytes"][1], "default", "where the other comes from")
    change = "topic config orders --set max.message.bytes=5000 --delete retention.ms"
    equal(shell.finds(f"{change} --dry-run")["result"], "valid", "what a dry run says")
    equal(configs(), before, "configs after a dry run")
    shell.does(change)
    after = configs()
    equal(after["max.message.bytes"], ("5000", "topic"), "what was set")
    value, source = after["retention.ms"]
    check(value == "604800000" and source != "topic", f"what was taken back: {value} of {source}")
    changed = {name for name, found in after.items() if before[name] != found}
    equal(changed, {"max.message.bytes", "retention.ms"}, "configs that have changed")
    shell.refuses("record produce orders", "MESSAGE_TOO_LARGE", typed=b"x" * 6000 + b"\n")
    told = shell.does("topic config orders").decode()
    check("CONFIG" in told and "max.message.bytes" in told and "SOURCE" in told, told)
    described = {one["name"]: one["value"] for one in shell.finds("topic describe orders")["configs"]}
    equal(described, {"max.message.bytes": "5000"}, "configs that are described")
    described = shell.finds("topic describe orders --all-configs")["configs"]
    equal({one["name"] for one in described}, set(after), "configs that are described, all")
    shell.refuses("topic config orders --set retention.ms=soon", "INVALID_CONFIG")
    shell.refuses("topic config orders --set retention.ns=5", 'did you mean "retention.ms"?')
    shell.refuses("topic config orders --delete retention.m", 'did you mean "retention.ms"?')
    shell.refuses("topic config order", 'did you mean "orders"?')
    for line in ("topic create", "topic describe", "group describe"):
        shell.refuses(f"{line} {'x' * 40_000}", "a name or value of 40000 bytes")
    equal(shell.run("topic config orders --dry-run")[0], 2, "exit code of a dry run of nothing")
    equal(configs(), after, "configs after what was refused")
    shell.refuses("topic delete nothing", "UNKNOWN_TOPIC_OR_PARTITION")
    gone = shell.finds("topic delete orders nothing empty --if-exists")
    equal((sorted(gone["deleted"]), gone["missing"]), (["empty", "orders"], ["nothing"]), "what deletion says")
    equal(shell.finds("topic list"), [], "topics that are left")


def records(rig):
    """Lines in, lines out; JSON that keeps every byte; every codec."""
    shell = Shell(rig, rig.endpoint(shards=2))
    shell.does("topic create orders --partitions 3")
    told = shell.does("record produce orders --key-separator :", b"a:1\nb:2\na:3\n").decode()
    check(told.startswith("3 records written to orders\n"), told)
    found = _lines(shell.does("record consume orders --json"))
    equal(sorted((one["key"], one["value"]) for one in found), [("a", "1"), ("a", "3"), ("b", "2")], "records")
    equal(len({one["partition"] for one in found if one["key"] == "a"}), 1, "partitions of a key")
    with_keys = shell.does("record consume orders --keys --separator =").splitlines()
    equal(sorted(with_keys), [b"a=1", b"a=3", b"b=2"], "lines with keys")
    shell.refuses("record produce orders --key-separator :", "line 1", typed=b"nothing\n")

    shell.does("topic create codecs --partitions 1")
    lines = [b"%s line %d \xff\x00" % (codec.encode(), number) for codec in CODECS for number in range(50)]
    for at, codec in enumerate(CODECS):
        typed = b"\n".join(lines[50 * at : 50 * at + 50]) + b"\n"
        shell.does(f"record produce codecs --compression {codec} --acks {['all', '1'][at % 2]}", typed)
    equal(shell.does("record consume codecs").splitlines(), lines, "lines of all codecs")
    equal(shell.does("record consume codecs --from 7 --max 2 --partition 0").splitlines(), lines[7:9], "from an offset")
    equal(shell.does("record consume codecs --from end"), b"", "from the end")
    some = shell.does("record consume orders --partition 0 --partition 1 --json").splitlines()
    equal(len(some), len([one for one in found if one["partition"] < 2]), "records of two partitions of three")
    check(shell.does("record produce codecs --acks 0", b"unheard\n") == b"1 record sent to codecs\n", "acks 0")
    until(lambda: shell.finds("topic describe codecs")["partitions"][0]["end"] == 251, "acks 0 writes nothing")


def records_as_json(rig):
    """A copy through two pipes is the same, and moments find their records."""
    shell = Shell(rig, rig.endpoint())
    wanted = [
        {"timestamp": wire.NOW_MS, "key": "k", "value": "v", "headers": [{"key": "h", "value": "x"}]},
        {"timestamp": wire.NOW_MS + 1000, "key": None, "value": {"base64": "/wA="}, "headers": []},
        {"timestamp": wire.NOW_MS + 2000, "key": "", "value": None, "headers": [{"key": "h", "value": None}]},
    ]
    for topic in ("one", "two"):
        shell.does(f"topic create {topic} --partitions 1")
    typed = b"".join(json.dumps(one).encode() + b"\n" for one in wanted)
    report = json.loads(shell.does("record produce one --json", typed))
    equal(report["partitions"], [{"partition": 0, "records": 3, "first": 0, "last": 2}], "where they are")
    copied = shell.does("record consume one --json")
    shell.does("record produce two --json", copied)
    for topic in ("one", "two"):
        expected = [{"topic": topic, "partition": 0, "offset": n, **one} for n, one in enumerate(wanted)]
        equal(_lines(shell.does(f"record consume {topic} --json")), expected, topic)
    equal(len(_lines(shell.does(f"record consume one --json --from @{wire.NOW_MS + 1000}"))), 2, "from a moment")
    told = shell.does("record consume one --partition 0 --positions --keys --headers --separator | --max 1").decode()
    first = told.rstrip("\n").split("|")
    equal(first[:2] + first[3:], ["0", "0", "k", "h=x", "v"], "a line with everything")
    equal(shell.does(f"record consume one --from {first[2]} --max 1"), b"v\n", "from the moment that was printed")
    equal(shell.does(f"record consume one --json --from @{wire.NOW_MS + 2001}"), b"", "from a moment behind all")
    shell.refuses("record produce one --json", "line 2", typed=b'{"value": "a"}\n{"worth": "b"}\n')


def records_as_they_come(rig):
    """A line is written while the next one is being typed, and read by whoever follows."""
    shell = Shell(rig, rig.endpoint())
    shell.does("topic create live --partitions 2")
    reader = shell.start("record consume live --follow --max 3", stdin=subprocess.DEVNULL)
    rig.at_end(reader.kill)
    writer = shell.start("record produce live --partition 1", stdin=subprocess.PIPE)
    rig.at_end(writer.kill)
    for number in range(3):
        writer.stdin.write(b"line %d\n" % number)
        writer.stdin.flush()
        equal(reader.stdout.readline(), b"line %d\n" % number, "what the reader sees before the next line")
    equal(reader.wait(WAIT_S_MAX), 0, "exit code of the reader")
    told, _ = writer.communicate(timeout=WAIT_S_MAX)
    equal(told.decode(), "3 records written to live\npartition 1: 3 records, offsets 0 to 2\n", "the writer's report")
    # Whoever has seen enough closes the pipe, and that is no failure.
    shell.does("record produce live --partition 0", b"".join(b"line %d\n" % number for number in range(50_000)))
    reader = shell.start("record consume live --partition 0", stdin=subprocess.DEVNULL)
    rig.at_end(reader.kill)
    equal(reader.stdout.readline(), b"line 0\n", "the first line")
    reader.stdout.close()
    equal(reader.wait(WAIT_S_MAX), 0, "exit code after a closed pipe")


def errors_that_help(rig):
    broker = rig.endpoint()
    shell = Shell(rig, broker)
    shell.does("topic create orders --partitions 2")
    shell.refuses("record consume order", "no topic", 'did you mean "orders"?')
    shell.refuses("record produce order", "no topic", 'did you mean "orders"?', typed=b"a\n")
    shell.refuses("record consume orders --partition 7", "no partition 7", "2")
    shell.refuses("group describe nobody", 'no group "nobody"')
    # Kafka keeps what groups have committed in a topic of its own.
    names = {one["name"] for one in shell.finds("topic list")} - {"__consumer_offsets"}
    equal(names, {"orders"}, "topics; asking made none")
    broker.kill()
    # The kernel closes a ring's sockets some time after its process has died.
    until(lambda: "reset by peer" not in shell.run("group list")[2], "connections are still accepted")
    shell.refuses("group list", broker.kafka, "is it running?")


def _subscription(topic):
    """A consumer's wish to read one topic."""
    return struct.pack(">h", 0) + wire.array([wire.string(topic)]) + struct.pack(">i", -1)


def _assigned(partitions):
    """A consumer's assignment of topic t, as leaders write it."""
    numbers = [struct.pack(">i", partition) for partition in partitions]
    topics = wire.array([wire.string("t") + wire.array(numbers)])
    return struct.pack(">h", 0) + topics + struct.pack(">i", -1)


def groups(rig):
    """A group with a member, which is left alone, and without, when its offsets can be moved."""
    broker = rig.endpoint(shards=2)
    shell = Shell(rig, broker)
    member = wire.Client(broker.kafka)
    rig.at_end(member.close)
    shell.does("topic create t --partitions 2")
    # Whoever comes first waits until there is a coordinator; the member need not know of that.
    shell.refuses("group describe billing", 'no group "billing"')
    for partition in (0, 1):
        member.produce("t", partition, wire.batch([b"value %d" % number for number in range(10)]))
    member.commit_offset("billing", "t", 0, 4)
    generation, name = member.join_group("billing", metadata=_subscription("t"))
    assigned = _assigned([0, 1])
    equal(member.sync_group("billing", generation, name, {name: assigned}), assigned, "what the member has")

    equal(shell.finds("group list"), [{"group": "billing", "state": "Stable", "protocol_type": "consumer"}], "groups")
    described = shell.finds("group describe billing")
    equal((described["state"], described["protocol"], described["lag"]), ("Stable", "range", 6), "the group")
    (line,) = described["members"]
    equal((line["member"], line["assigned"]), (name, {"t": [0, 1]}), "its member")
    got = [(one["partition"], one["committed"], one["end"], one["lag"]) for one in described["partitions"]]
    equal(got, [(0, 4, 10, 6), (1, None, 10, None)], "its partitions")
    check("lag 6\n" in shell.does("group describe billing").decode(), "the table shows no lag")
    for command in ("--to-earliest", "--to-latest --execute"):
        shell.refuses(f"group reset-offsets billing --topic t {command}", "is active (Stable, 1 member)")
    shell.refuses("group delete billing", "has members", "NON_EMPTY_GROUP")
    shell.refuses("group delete-offsets billing --topic t", "read topic", "GROUP_SUBSCRIBED_TO_TOPIC")
    equal(member.committed_offset("billing", "t", 0), 4, "what was refused")

    member.leave_group("billing", name)
    plan = shell.does("group reset-offsets billing --topic t --to-earliest").decode()
    check("nothing was changed: --execute does it" in plan, plan)
    equal(member.committed_offset("billing", "t", 0), 4, "committed after a dry run")
    for target, moved in [
        ("--topic t:0 --shift-by -1", {0: 3}),
        ("--topic t --to-offset 7", {0: 7, 1: 7}),
        ("--topic t:1 --to-offset 99", {1: 10}),
        ("--topic t:0 --shift-by -99", {0: 0}),
        ("--all-topics --to-latest", {0: 10, 1: 10}),
        (f"--topic t --to-datetime @{wire.NOW_MS}", {0: 0, 1: 0}),
        (f"--topic t --to-datetime @{wire.NOW_MS + 1}", {0: 10, 1: 10}),
        ("--topic t:0 --topic t:1 --to-datetime 2020-01-01T00:00:00Z", {0: 0, 1: 0}),
        ("--all-topics --to-latest", {0: 10, 1: 10}),
    ]:
        done = shell.finds(f"group reset-offsets billing {target} --execute")
        equal({one["partition"]: one["to"] for one in done["partitions"]}, moved, target)
        check(done["executed"], f"{target} was not done")
        for partition, offset in moved.items():
            equal(member.committed_offset("billing", "t", partition), offset, f"committed after {target}")
    shell.refuses("group reset-offsets new --topic t --shift-by 1", "no committed offset")
    shell.does("group reset-offsets new --topic t --to-offset 2 --execute")
    equal(member.committed_offset("new", "t", 1), 2, "committed for a group that nobody knew")

    shell.does("group delete-offsets billing --topic t:0")
    equal(member.committed_offset("billing", "t", 0), -1, "a deleted offset")
    equal(member.committed_offset("billing", "t", 1), 10, "the other one")
    shell.does("group delete billing new")
    equal(shell.finds("group list"), [], "groups that are left")
    shell.refuses("group delete billing", 'no group "billing"')
    equal(shell.finds("group delete billing --if-exists"), {"deleted": [], "missing": ["billing"]}, "--if-exists")


def groups_of_a_client(rig, protocol, assignor):
    """A group as librdkafka joins it, seen while it reads, and changed when it has left."""
    try:
        python, _ = toolchain.librdkafka_command()
    except (toolchain.Missing, toolchain.BuildError) as reason:
        raise CaseSkipped(str(reason).splitlines()[0]) from None
    broker = rig.endpoint(shards=2)
    shell = Shell(rig, broker)
    shell.does("topic create t --partitions 2")
    for partition in (0, 1):
        shell.does(f"record produce t --partition {partition}", b"a line\n" * 10)
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reader.py")
    command = [python, program, broker.kafka, "billing", "t", "2", protocol, "4"]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    rig.at_end(reader.wait)
    rig.at_end(reader.kill)
    equal(reader.stdout.readline(), b"ready\n", "what the reader says")

    described = shell.finds("group describe billing")
    got = (described["state"], described["protocol"], described["lag"])
    equal(got, ("Stable", assignor, 6), "the group")
    (line,) = described["members"]
    equal((line["client"], line["host"], line["assigned"]), ("reader", "127.0.0.1", {"t": [0, 1]}), "its member")
    got = [(one["committed"], one["end"], one["lag"], one["member"]) for one in described["partitions"]]
    equal(got, [(4, 10, 6, line["member"]), (None, 10, None, line["member"])], "its partitions")
    equal([one["state"] for one in shell.finds("group list")], ["Stable"], "states of groups")
    for command in ("--to-earliest", "--to-latest --execute"):
        shell.refuses(f"group reset-offsets billing --topic t {command}", "is active (Stable, 1 member)")
    shell.refuses("group delete billing", "has members", "NON_EMPTY_GROUP")
    shell.refuses("group delete-offsets billing --topic t", "read topic", "GROUP_SUBSCRIBED_TO_TOPIC")
    reader.stdin.close()
    equal(reader.wait(WAIT_S_MAX), 0, "exit code of the reader")

    until(lambda: shell.finds("group describe billing")["state"] == "Empty", "the member has not left")
    done = shell.finds("group reset-offsets billing --topic t --to-earliest --execute")
    equal([(one["from"], one["to"], one["lag"]) for one in done["partitions"]], [(4, 0, 10), (None, 0, 10)], "moved")
    equal(shell.finds("group describe billing")["lag"], 20, "lag of a group that begins again")
    shell.does("group delete-offsets billing --topic t:1")
    equal(len(shell.finds("group describe billing")["partitions"]), 1, "partitions that are left")
    shell.does("group delete billing")
    equal(shell.finds("group list"), [], "groups that are left")


# At any Kafka broker.
AT_KAFKA = {
    "commands/topics": lambda rig: topics(rig, per_log=False),
    "commands/records": records,
    "commands/records as JSON": records_as_json,
    "commands/records as they come": records_as_they_come,
    "commands/errors that help": errors_that_help,
    "commands/groups": groups,
    "commands/groups of a client": lambda rig: groups_of_a_client(rig, "classic", "range"),
}
CASES = {**AT_KAFKA, "commands/topics of a broker per log": lambda rig: topics(rig, per_log=True)}
# RingMQ does not have this protocol.
AT_KAFKA = {
    **AT_KAFKA,
    "commands/groups of the protocol of KIP-848": lambda rig: groups_of_a_client(rig, "consumer", "uniform"),
}
