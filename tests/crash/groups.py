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

import sys

from loops import arguments, pause, play

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

    def kill_broker(self):
        self.broker.check_alive()
        self.broker.kill()

    def broker_dies(self):
        """Under load, while members fetch and commit."""
        pause(self.rng.uniform(0.05, 1))
        self.kill_broker()
        self.broker.start()

    def member_dies(self):
        """Between a record and its commit, perhaps; the group hears of it when the session ends."""
        pause(self.rng.uniform(0, 0.5))
        self.load.ask("kill")

    def both_die(self):
        """A member, and the broker before it could miss it: whoever is gone is still missed."""
        pause(self.rng.uniform(0, 0.5))
        self.kill_broker()
        self.load.ask("kill")
        self.broker.start()

    def broker_dies_in_a_rebalance(self):
        """Some time after a member has left and another has come."""
        self.load.ask(self.rng.choice(["leave", "kill"]))
        pause(self.rng.uniform(0, 0.6))
        self.kill_broker()
        self.broker.start()

    def all_members_die(self):
        """Nobody is left; others take over from what was committed."""
        pause(self.rng.uniform(0, 0.3))
        self.load.ask("kill all")

    def member_leaves(self):
        """In order: it commits, and says so."""
        self.load.ask("leave")

    def static_member_restarts(self):
        """It takes its old place."""
        pause(self.rng.uniform(0, 0.3))
        self.load.ask("restart static")

    def broker_dies_under_a_static_member_that_restarts(self):
        """The broker is killed before, while, or after it knows the member's new id."""
        self.load.ask("restart static")
        pause(self.rng.uniform(0, 0.15))
        self.kill_broker()
        self.broker.start()

    def static_member_and_broker_die(self):
        """Both at once: neither remembers the other."""
        self.kill_broker()
        self.load.ask("restart static")
        self.broker.start()


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


def load_args(rng):
    return ["groups"], [f"-balancer={rng.choice(['range', 'cooperative-sticky'])}"]


def main():
    args = arguments(__doc__, cycles=25, rate=2_000).parse_args()
    return play("crash loops of groups", args, SETTINGS, load_args, run)


if __name__ == "__main__":
    sys.exit(main())
