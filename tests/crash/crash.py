#!/usr/bin/env python3
"""Crash loops: `kill -9` of the broker under load, again and again, and no promise may be broken.

    python3 tests/crash/crash.py --cycles 100 [--seed N] [--set section.key=value]... [--verify-every K]

A producer, a consumer and a committer (tests/crash/load, franz-go) run through all cycles. In each cycle the
broker is killed at a moment of one of the kinds in PLACEMENTS, then started again on the same data
directory and ports. Every few cycles, and at the end, everything acknowledged is read back. It needs Go.

The last line is `N passed, N failed`, where a cycle passes when the broker came back and no promise was
found broken; the exit code is 1 on a failure. The broker's log and data are kept then.
"""

import argparse
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "conformance"))
from lib import toolchain  # noqa: E402  (the path is set above)
from lib.broker import Broker, BrokerError  # noqa: E402
from watch import Watch  # noqa: E402

ANSWER_S_MAX = 150
# Small segments and many checkpoints, so that rolls and recycling happen within a cycle, and a life leaves
# nothing behind its last checkpoint.
SEGMENT_BYTES = 4 * 1024 * 1024
CHECKPOINT_BYTES = 1024 * 1024
# How long the broker is given to touch a file that a cycle waits for.
TOUCH_S_MAX = 10


class BrokenPromise(Exception):
    """The load found what must not be, or gave up."""


class Load:
    """The program of tests/crash/load, driven by lines."""

    def __init__(self, command, log_path):
        with open(log_path, "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                bufsize=0,
            )
        self._unread = b""

    def ask(self, question):
        try:
            self._process.stdin.write(question.encode() + b"\n")
        except BrokenPipeError:
            pass  # The answer says why.
        return self.answer(ANSWER_S_MAX)

    def answer(self, limit_s):
        """The next line; a failure is raised whenever it comes."""
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._unread:
            left_s = max(0, deadline - time.monotonic())
            readable, _, _ = select.select([self._process.stdout], [], [], left_s)
            if not readable:
                raise BrokenPromise(f"the load did not answer within {limit_s} s")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                raise BrokenPromise(f"the load ended with code {self._process.wait()}")
            self._unread += piece
        line, self._unread = self._unread.split(b"\n", 1)
        text = line.decode(errors="replace")
        if text.startswith("failed "):
            raise BrokenPromise(text.removeprefix("failed "))
        return text

    def acked_bytes(self):
        return int(self.ask("acked").split()[1])

    def close(self):
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()


class Loop:
    """The cycles. Between two of them the broker runs and is ready."""

    def __init__(self, broker, load, rng):
        self.broker = broker
        self.load = load
        self.rng = rng

    def any_moment(self):
        """Under load, after up to a second and a half."""
        self._pause(self.rng.uniform(0.02, 1.5))
        self.broker.kill()

    def first_acks(self):
        """Just after the first new acknowledgement: the first blocks after a recovery."""
        self._await_acked(self.load.acked_bytes() + 1)
        self._pause(self.rng.uniform(0, 0.02))
        self.broker.kill()

    def roll(self):
        """Around the next multiple of the segment size in acknowledged bytes."""
        acked = self.load.acked_bytes()
        # Headers and padding put the roll a little before the multiple.
        boundary = (acked // SEGMENT_BYTES + 1) * SEGMENT_BYTES - self.rng.randrange(SEGMENT_BYTES // 16)
        self._await_acked(boundary)
        self._pause(self.rng.uniform(0, 0.05))
        self.broker.kill()

    def recovery(self):
        """During the start after a kill, up to three times in a row."""
        self._pause(self.rng.uniform(0.02, 0.5))
        self.broker.kill()
        for _ in range(self.rng.randint(1, 3)):
            self.broker.spawn()
            self._pause(self.rng.uniform(0, 0.2))
            self.broker.kill()

    def recycle(self):
        """After DeleteRecords has made segments dead: while they are recycled, or just after."""
        self.load.ask("verify")
        self._pause(self.rng.uniform(0, 0.1))
        self.broker.kill()

    def checkpoint(self):
        """While a checkpoint is being written, or just after."""
        self._when_touched("checkpoint-")

    def manifest(self):
        """While the list of segments is being written: one was made, recycled or removed."""
        self._when_touched("manifest-")

    def segment(self):
        """While a segment is being made, or written to."""
        self._when_touched("0")

    def shutdown(self):
        """During the graceful stop: after SIGTERM and before its end, or just not."""
        self.broker.signal(signal.SIGTERM)
        self._pause(self.rng.uniform(0, 0.05))
        self.broker.kill()

    def _when_touched(self, prefix):
        with Watch(self.broker.log_folders()) as watch:
            if watch.await_file(prefix, TOUCH_S_MAX) is None:
                self._check_broker()
                self.load.acked_bytes()  # If the load has failed, this says why.
                raise BrokenPromise(f"under load, no file {prefix}* was written in {TOUCH_S_MAX} s")
            # From before the first byte to after the last.
            self._pause(self.rng.choice([0, self.rng.uniform(0, 0.001), self.rng.uniform(0, 0.01)]))
            self.broker.kill()

    def _await_acked(self, bytes_wanted):
        deadline = time.monotonic() + ANSWER_S_MAX
        while self.load.acked_bytes() < bytes_wanted:
            if time.monotonic() > deadline:
                raise BrokenPromise("the broker is up, but acknowledges nothing")
            self._check_broker()
            time.sleep(0.002)

    def _pause(self, seconds):
        """Lets the load run: the length of the pause is the experiment, and nothing relies on it."""
        time.sleep(seconds)

    def _check_broker(self):
        code = self.broker.died_by_itself()
        if code is not None:
            raise BrokerError(f"the broker ended by itself with code {code}")


# What a cycle does, and how often.
PLACEMENTS = [
    (Loop.any_moment, 6),
    (Loop.first_acks, 3),
    (Loop.roll, 4),
    (Loop.recovery, 4),
    (Loop.recycle, 2),
    (Loop.checkpoint, 3),
    (Loop.manifest, 2),
    (Loop.segment, 1),
    (Loop.shutdown, 1),
]


def run(args, broker, load, rng):
    """Yields the name of each cycle when it is done, then that of the last check."""
    loop = Loop(broker, load, rng)
    kinds, weights = zip(*PLACEMENTS, strict=True)
    for cycle in range(1, args.cycles + 1):
        kind = rng.choices(kinds, weights)[0]
        kind(loop)
        broker.start()
        text = f"cycle {cycle} {kind.__name__}"
        if cycle % args.verify_every == 0:
            text += f": {load.ask('verify')}, {load.acked_bytes() >> 20} MiB acknowledged"
        yield text
    yield f"the end: {load.ask('finish')} records"
    broker.stop()
    yield "the broker ends on SIGTERM"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--verify-every", type=int, default=10, metavar="K", help="cycles between full checks")
    parser.add_argument("--seed", type=int, default=None, help="of the moments and sizes; printed")
    parser.add_argument("--rate", type=int, default=20_000, help="records per second at most")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--binary", default=toolchain.default_binary(), help="the broker to start")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for the broker")
    parser.add_argument("--lenient", action="store_true", help="DeleteRecords need not outlive kill -9")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    try:
        load_command = toolchain.go_command("crash-load", os.path.join(HERE, "load"))
    except toolchain.Missing as reason:
        # In CI this test must run; elsewhere the machine may lack the tool, and the line names it.
        in_ci = os.environ.get("CI") == "true"
        print(f"{'FAIL' if in_ci else 'SKIP'} crash loops ({reason})\n0 passed, {int(in_ci)} failed")
        return int(in_ci)

    folder = tempfile.mkdtemp(prefix="ringmq-crash-", dir=os.environ.get("RINGMQ_CRASH_DIR"))
    settings = [f"log.checkpoint_bytes={CHECKPOINT_BYTES}B", f"log.segment_bytes={SEGMENT_BYTES}B", *args.set]
    broker = Broker(args.binary, folder, args.shards, [text for s in settings for text in ("--set", s)])
    load = None
    passed = failed = 0
    print(f"seed {seed}", flush=True)
    try:
        broker.start()
        load = Load(
            [
                *load_command,
                f"-bootstrap={broker.bootstrap}",
                f"-partitions={args.partitions}",
                f"-rate={args.rate}",
                f"-seed={seed}",
                f"-keep-deleted={str(not args.lenient).lower()}",
            ],
            os.path.join(folder, "load.log"),
        )
        load.answer(ANSWER_S_MAX)
        started = time.monotonic()
        for text in run(args, broker, load, random.Random(seed)):
            passed += 1
            print(f"PASS {text} ({time.monotonic() - started:.1f} s)", flush=True)
    except (BrokenPromise, BrokerError, OSError) as reason:
        failed += 1
        print(f"FAIL {reason}\n  --- end of the broker's log")
        for line in broker.log_tail().splitlines():
            print(f"  {line}")
    finally:
        if load is not None:
            load.close()
        broker.kill()
        if failed:
            print(f"data and logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
