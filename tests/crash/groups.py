#!/usr/bin/env python3
"""Crash loops of consumer groups: `kill -9` of the broker, of members, and of both at once.

    python3 tests/crash/groups.py --cycles 25 [--seed N] [--set section.key=value]...

A producer writes, and two groups read and commit, each member a process of its own (`crash-load member`). The
members of one group are killed, leave, and are replaced; those of the other are static, are killed, and come back
within their session. In each cycle something of CYCLES happens under load. What must hold, all the time:

  - every acknowledged record is processed at least once by each group;
  - a committed offset never goes back behind a commit that was acknowledged, nor behind one that was read;
  - the static members keep their partitions and their generation: nobody is rebalanced for a restart.

It needs Go. The last line is `N passed, N failed`; the exit code is 1 on a failure, and the logs are kept.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time

from crash import ANSWER_S_MAX, HERE, BrokenPromise, Load
from lib import toolchain
from lib.broker import Broker, BrokerError

# The members that come and go have sessions of 3 s, so that a cycle or two sees the end of one.
SETTINGS = ["kafka.group_session_min=1s", "kafka.group_initial_delay=500ms", "log.segment_bytes=4194304B"]

# Cycles after which the members that come and go are left to go on with their work.
PROGRESS_SHARE = 0.5


class Loop:
    """The cycles. Between two of them the broker runs, and members may still be on their way in."""

    def __init__(self, broker, load, rng):
        self.broker = broker
        self.load = load
        self.rng = rng

    def broker_dies(self):
        """Under load, while members fetch and commit."""
        self._pause(0.05, 1)
        self.broker.kill()
        self.broker.start()

    def member_dies(self):
        """Between a record and its commit, perhaps; the group hears of it when the session ends."""
        self._pause(0, 0.5)
        self.load.ask("kill")

    def both_die(self):
        """A member, and the broker before it could miss it: whoever is gone is still missed."""
        self._pause(0, 0.5)
        self.broker.kill()
        self.load.ask("kill")
        self.broker.start()

    def broker_dies_in_a_rebalance(self):
        """Some time after a member has left and another has come."""
        self.load.ask(self.rng.choice(["leave", "kill"]))
        self._pause(0, 0.6)
        self.broker.kill()
        self.broker.start()

    def all_members_die(self):
        """Nobody is left; others take over from what was committed."""
        self._pause(0, 0.3)
        self.load.ask("kill all")

    def member_leaves(self):
        """In order: it commits, and says so."""
        self.load.ask("leave")

    def static_member_restarts(self):
        """It takes its old place."""
        self._pause(0, 0.3)
        self.load.ask("restart static")

    def broker_dies_under_a_static_member_that_restarts(self):
        """The broker is killed before, while, or after it knows the member's new id."""
        self.load.ask("restart static")
        self._pause(0, 0.15)
        self.broker.kill()
        self.broker.start()

    def static_member_and_broker_die(self):
        """Both at once: neither remembers the other."""
        self.broker.kill()
        self.load.ask("restart static")
        self.broker.start()

    def _pause(self, least_s, most_s):
        """Lets the load run: the length of the pause is the experiment, and nothing relies on it."""
        time.sleep(self.rng.uniform(least_s, most_s))


# What a cycle does, and how often.
CYCLES = [
    (Loop.broker_dies, 4),
    (Loop.member_dies, 2),
    (Loop.both_die, 3),
    (Loop.broker_dies_in_a_rebalance, 4),
    (Loop.all_members_die, 1),
    (Loop.member_leaves, 1),
    (Loop.static_member_restarts, 2),
    (Loop.broker_dies_under_a_static_member_that_restarts, 4),
    (Loop.static_member_and_broker_die, 3),
]


def run(args, broker, load, rng):
    """Yields what to say of each cycle when it is done, then of the end."""
    loop = Loop(broker, load, rng)
    kinds, weights = zip(*CYCLES, strict=True)
    # Each kind once, as far as the cycles go; then by weight.
    first = rng.sample(kinds, len(kinds))
    for cycle in range(1, args.cycles + 1):
        kind = first.pop() if first else rng.choices(kinds, weights)[0]
        kind(loop)
        # Sometimes the next blow falls while the group has not recovered from the last one.
        if rng.random() < PROGRESS_SHARE:
            load.ask("progress")
        yield f"cycle {cycle} {kind.__name__}: {load.ask('check')}"
    yield f"the end: {load.ask('finish')}"
    broker.stop()
    yield "the broker ends on SIGTERM"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cycles", type=int, default=25)
    parser.add_argument("--seed", type=int, default=None, help="of the moments and choices; printed")
    parser.add_argument("--rate", type=int, default=2_000, help="records per second at most")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--binary", default=toolchain.default_binary(), help="the broker to start")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for the broker")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    try:
        load_command = toolchain.go_command("crash-load", os.path.join(HERE, "load"))
    except toolchain.Missing as reason:
        # In CI this test must run; elsewhere the machine may lack the tool, and the line names it.
        in_ci = os.environ.get("CI") == "true"
        print(f"{'FAIL' if in_ci else 'SKIP'} crash loops of groups ({reason})\n0 passed, {int(in_ci)} failed")
        return int(in_ci)

    folder = tempfile.mkdtemp(prefix="ringmq-groups-", dir=os.environ.get("RINGMQ_CRASH_DIR"))
    settings = [text for setting in [*SETTINGS, *args.set] for text in ("--set", setting)]
    broker = Broker(args.binary, folder, args.shards, settings)
    rng = random.Random(seed)
    load = None
    passed = failed = 0
    print(f"seed {seed}", flush=True)
    try:
        broker.start()
        load = Load(
            [
                *load_command,
                "groups",
                f"-bootstrap={broker.bootstrap}",
                f"-rate={args.rate}",
                f"-seed={seed}",
                f"-balancer={rng.choice(['range', 'cooperative-sticky'])}",
            ],
            os.path.join(folder, "load.log"),
        )
        load.answer(ANSWER_S_MAX)
        started = time.monotonic()
        for text in run(args, broker, load, rng):
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
