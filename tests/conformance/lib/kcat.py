"""kcat as a client: the cases are command lines, driven from here.

It has the interface of a `Worker`. What kcat cannot say (an explicit timestamp, null keys one by one)
is left to the other clients.
"""

import json
import os
import re
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "python"))
from digest import Digest  # noqa: E402  (the path is set above; it needs the standard library only)

from . import kcat_groups
from .checks import equal, until
from .worker import ClientFailed

RECORDS = 600
# One line per record: offset, timestamp, key and value lengths, headers; then key, value, newline.
FORMAT = "%o %T %K %S %h\n%k%s\n"
RECORD_HEAD = re.compile(rb"(\d+) (-?\d+) (-?\d+) (-?\d+) ([^\n]*)\n")


class Kcat:
    def __init__(self, command, log_path):
        self._command = command
        self._log_path = log_path

    def close(self):
        """Nothing outlives a case."""

    def run(self, case, bootstrap, topic, args, timeout_s, on_restart):
        method = getattr(self, f"_case_{case}")
        call = Call(self._command, bootstrap, self._log_path, time.monotonic() + timeout_s, on_restart)
        return method(call, topic, **args) or {}

    def _case_roundtrip(self, call, topic, codec, acks):
        lines = [b"key-%d:%s" % (i, b"value %d " % i * (i % 60 + 1)) for i in range(RECORDS)]
        call.kcat(
            "-P", "-t", topic, "-p", "0", "-K:", "-z", codec, "-H", "trace=kcat", "-X", f"acks={acks}",
            "-X", "linger.ms=20", data=b"\n".join(lines) + b"\n",
        )  # fmt: skip
        if acks == "0":
            until(lambda: call.end(topic) == RECORDS, "records sent with acks=0 did not arrive")
        got = list(_parse(call.consume(topic, "-p", "0", "-o", "beginning")))
        equal([record[0] for record in got], list(range(RECORDS)), "offsets")
        equal([record[2] + b":" + record[3] for record in got], lines, "keys and values")
        equal({tuple(record[4]) for record in got}, {(("trace", b"kcat"),)}, "headers")

    def _case_metadata(self, call, topic):
        call.kcat("-P", "-t", topic, data=b"v\n")
        found = json.loads(call.kcat("-L", "-J"))
        listed = {entry["topic"]: entry["partitions"] for entry in found["topics"]}
        equal([p["partition"] for p in listed[topic]], [0], "partitions of the new topic")

    def _case_describe_cluster(self, call, topic, own_address):
        names = [broker["name"] for broker in json.loads(call.kcat("-L", "-J"))["brokers"]]
        equal(call.bootstrap in names, own_address == "listed", f"whether the own address is among {names}")

    def _case_timestamps(self, call, topic, codec):
        before_ms = int(time.time() * 1000)
        call.kcat("-P", "-t", topic, "-p", "0", "-z", codec, data=b"old\n")
        until(lambda: int(time.time() * 1000) > before_ms + 100, "the clock stands still")
        middle_ms = int(time.time() * 1000)
        until(lambda: int(time.time() * 1000) > middle_ms, "the clock stands still")
        call.kcat("-P", "-t", topic, "-p", "0", "-z", codec, data=b"new\nnewer\n")
        found = call.kcat("-Q", "-t", f"{topic}:0:{middle_ms}").decode()
        equal(found.strip(), f"{topic} [0] offset 1", "offset at a time")
        got = call.consume(topic, "-p", "0", "-o", f"s@{middle_ms}")
        equal([record[3] for record in _parse(got)], [b"new", b"newer"], "values from a time on")

    def _case_idempotent(self, call, topic, how):
        """One kcat reads its records from a pipe while the broker is restarted under it."""
        call.kcat("-P", "-t", topic, "-p", "0", data=b"first\n")
        command = call.command(
            "-P", "-t", topic, "-p", "0", "-X", "enable.idempotence=true", "-X", "linger.ms=1",
            # -E: a broker that is away for a while is no reason to end.
            "-E", "-X", "batch.size=4000", "-X", "retry.backoff.ms=20", "-X", "reconnect.backoff.max.ms=100",
        )  # fmt: skip
        lines = [b"value %d" % i for i in range(3000)]
        with open(self._log_path, "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            process.stdin.write(b"\n".join(lines[:1000]) + b"\n")
            process.stdin.flush()
            until(lambda: call.end(topic) > 100, "no record arrived before the restart")
            call.on_restart(how)
            process.stdin.write(b"\n".join(lines[1000:]) + b"\n")
            process.stdin.close()
            code = process.wait(max(1, call.deadline - time.monotonic()))
        finally:
            process.kill()
            process.wait()
        equal(code, 0, "exit code")
        got = [record[3] for record in _parse(call.consume(topic, "-p", "0", "-o", "beginning"))]
        equal(got, [b"first", *lines], "values after the restart")

    def _case_unknown_topic(self, call, topic):
        result = call.try_kcat("-C", "-t", topic, "-p", "0", "-e", "-X", "allow.auto.create.topics=false")
        if result.returncode == 0 or b"Unknown topic" not in result.stderr:
            raise ClientFailed(f"a topic that does not exist: code {result.returncode}, {result.stderr}")

    def _case_too_large(self, call, topic):
        call.kcat("-P", "-t", topic, "-p", "0", data=b"small\n")
        large = os.urandom(1_100_000).replace(b"\n", b"x")
        result = call.try_kcat(
            "-P", "-t", topic, "-p", "0", "-X", "message.max.bytes=3000000", data=large + b"\n"
        )
        if b"too large" not in result.stderr:
            raise ClientFailed(f"a record above the limit: code {result.returncode}, {result.stderr}")
        equal(call.end(topic), 1, "end offset")

    def _case_group_members(self, call, topic, strategy):
        kcat_groups.members(call, topic, strategy)

    def _case_group_commits(self, call, topic):
        kcat_groups.commits(call, topic)

    def _case_group_static(self, call, topic):
        kcat_groups.static_members(call, topic)

    def _case_group_static_killed(self, call, topic):
        kcat_groups.static_member_dies(call, topic)

    def _case_group_static_fenced(self, call, topic):
        kcat_groups.static_member_is_fenced(call, topic)

    def _case_write(self, call, topic, codec):
        digest = Digest()
        lines = []
        for i in range(300):
            value = b"kcat %d " % i * (i % 50 + 1)
            lines.append(b"key-%d:%s" % (i, value))
            digest.add(b"key-%d" % i, value, [("a", b"1"), ("b", b"two")], 0)
        call.kcat(
            "-P", "-t", topic, "-p", "0", "-K:", "-z", codec, "-H", "a=1", "-H", "b=two",
            "-X", "linger.ms=20", data=b"\n".join(lines) + b"\n",
        )  # fmt: skip
        # kcat cannot choose timestamps, so that part of the digest is what the readers must agree on.
        count, records, _ = digest.text().split()
        return {"p0": f"{count} {records} *"}

    def _case_read_digests(self, call, topic):
        found = json.loads(call.kcat("-L", "-J", "-t", topic))
        values = {}
        for partition in (entry["partition"] for entry in found["topics"][0]["partitions"]):
            digest = Digest()
            output = call.consume(topic, "-p", str(partition), "-o", "beginning")
            for offset, timestamp, key, value, headers in _parse(output):
                equal(offset, digest.count, "offset")
                digest.add(key, value, headers, timestamp)
            values[f"p{partition}"] = digest.text()
        return values


class Call:
    """What one case needs to call kcat."""

    def __init__(self, command, bootstrap, log_path, deadline, on_restart):
        self.bootstrap = bootstrap
        self.deadline = deadline
        self.on_restart = on_restart
        self._command = command
        self._log_path = log_path

    def command(self, *args):
        return [*self._command, "-b", self.bootstrap, *args]

    def try_kcat(self, *args, data=b""):
        left_s = max(1, self.deadline - time.monotonic())
        try:
            result = subprocess.run(self.command(*args), input=data, capture_output=True, timeout=left_s)
        except subprocess.TimeoutExpired:
            raise ClientFailed(f"kcat {args[0]} did not end in time") from None
        with open(self._log_path, "ab") as log:
            log.write(result.stderr)
        return result

    def kcat(self, *args, data=b""):
        """The output of a kcat that must succeed."""
        result = self.try_kcat(*args, data=data)
        if result.returncode != 0:
            words = result.stderr.decode(errors="replace").strip()[-300:]
            raise ClientFailed(f"kcat {args[0]} ended with code {result.returncode}: {words}")
        return result.stdout

    def consume(self, topic, *args):
        return self.kcat(
            "-C", "-q", "-e", "-t", topic, "-f", FORMAT, "-X", "check.crcs=true",
            # Else the end of a partition is reported half a second late.
            "-X", "fetch.wait.max.ms=10", *args,
        )  # fmt: skip

    def end(self, topic):
        """The end offset of partition 0, or 0 while the topic is not there."""
        result = self.try_kcat("-Q", "-t", f"{topic}:0:-1")
        found = re.search(rb"offset (\d+)", result.stdout)
        return int(found[1]) if found else 0


def _parse(output):
    """(offset, timestamp, key, value, headers) of each record in kcat's output."""
    at = 0
    while at < len(output):
        head = RECORD_HEAD.match(output, at)
        if head is None:
            raise ClientFailed(f"kcat printed something unexpected: {output[at : at + 80]!r}")
        offset, timestamp, key_bytes, value_bytes = (int(head[i]) for i in range(1, 5))
        at = head.end()
        key = None if key_bytes < 0 else output[at : at + key_bytes]
        at += max(key_bytes, 0)
        value = None if value_bytes < 0 else output[at : at + value_bytes]
        at += max(value_bytes, 0) + 1
        headers = [tuple(pair.split(b"=", 1)) for pair in head[5].split(b",")] if head[5] else []
        yield offset, timestamp, key, value, [(name.decode(), content) for name, content in headers]
