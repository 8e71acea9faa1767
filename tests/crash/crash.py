#!/usr/bin/env python3
"""Crash loops: `kill -9` of the broker under load, again and again, and no promise may be broken.

    python3 tests/crash/crash.py --cycles 100 [--seed N] [--set section.key=value]... [--verify-every K]

A producer, a consumer and a committer (tests/crash/load, franz-go) run through all cycles. In each cycle the
broker is killed at a moment of one of the kinds in PLACEMENTS, then started again on the same data
directory and ports. Every few cycles, and at the end, everything acknowledged is read back. It needs Go.
In which phases the kills fell is read from the broker's log (phases.py), and printed; over 100 cycles each phase
must have been hit three times.

The last line is `N passed, N failed`, where a cycle passes when the broker came back and no promise was
found broken; the exit code is 1 on a failure. The broker's log and data are kept then.
"""

import contextlib
import os
import signal
import sys
import time

import phases
from loops import ANSWER_S_MAX, BrokenPromise, BrokerError, arguments, pause, play
from phases import Phases
from watch import Watch

# Small segments and many checkpoints, so that rolls and recycling happen within a cycle, and a life leaves
# nothing behind its last checkpoint.
SEGMENT_BYTES = 4 * 1024 * 1024
CHECKPOINT_BYTES = 1024 * 1024
SETTINGS = [f"log.checkpoint_bytes={CHECKPOINT_BYTES}B", f"log.segment_bytes={SEGMENT_BYTES}B", *phases.SETTINGS]
# How long the broker is given to touch a file, or to begin a phase, that a cycle waits for.
TOUCH_S_MAX = 10
# How long a log may take to its next roll, at which it recycles a segment that is dead; else none is.
RECYCLING_S_MAX = 0.5
# With fewer cycles, where the kills fell is told, and nothing more. With as many, each phase must be hit; with so many
# times as many, so many times.
CYCLES_TO_HIT_ALL = 33
HITS_WANTED_MAX = 3


class Loop:
    """The cycles. Between two of them the broker runs and is ready."""

    def __init__(self, broker, load, rng, hits_wanted):
        self.broker = broker
        self.load = load
        self.rng = rng
        self.phases = Phases(broker.log_path, hits_wanted)

    def kill(self):
        self.broker.check_alive()
        self.broker.kill()
        self.phases.on_kill()

    def any_moment(self):
        """Under load, after up to a second and a half."""
        pause(self.rng.uniform(0.02, 1.5))
        self.kill()

    def first_acks(self):
        """Just after the first new acknowledgement: the first blocks after a recovery."""
        self.await_acked(self.load.acked_bytes() + 1)
        pause(self.rng.uniform(0, 0.02))
        self.kill()

    def roll(self):
        """While a log goes over to its next segment, or just after."""
        self._when_begun("roll")

    def recovery(self):
        """During the start after a kill, up to three times in a row."""
        pause(self.rng.uniform(0.02, 0.5))
        self.kill()
        for _ in range(self.rng.randint(1, 3)):
            before = self.phases.begun["recovery"]
            self.broker.spawn()
            if self._aims_at("recovery"):
                self._when_begun("recovery", before)
            else:
                pause(self.rng.uniform(0, 0.2))
                self.kill()

    def recycle(self):
        """After DeleteRecords has made segments dead: while one is recycled, or just after."""
        deadline = time.monotonic() + TOUCH_S_MAX
        while True:
            # Each time half of what is left is deleted: soon a whole segment is dead.
            self.load.ask("verify")
            before = self.phases.count("recycling")
            if self.phases.await_begin("recycling", before, RECYCLING_S_MAX) or time.monotonic() > deadline:
                break
        self._when_begun("recycling", before)

    def checkpoint(self):
        """While a checkpoint is taken and written, or just after."""
        self._when_begun("checkpoint")

    def manifest(self):
        """While the list of segments is being written: one was made, recycled or removed."""
        self._when_touched("manifest-")

    def segment(self):
        """While a segment is being made, or written to."""
        self._when_touched("0")

    def shutdown(self):
        """During the graceful stop: after SIGTERM and before its end, or just not."""
        self.broker.signal(signal.SIGTERM)
        pause(self.rng.uniform(0, 0.05))
        if code := self.broker.died_by_itself():
            raise BrokerError(f"the broker stopped with code {code}")
        self.broker.kill()
        self.phases.on_kill()

    def _when_touched(self, prefix):
        with Watch(self.broker.log_folders()) as watch:
            if watch.await_file(prefix, TOUCH_S_MAX) is None:
                self.broker.check_alive()
                self.load.acked_bytes()  # If the load has failed, this says why.
                raise BrokenPromise(f"under load, no file {prefix}* was written in {TOUCH_S_MAX} s")
            # From before the first byte to after the last.
            pause(self.rng.choice([0, self.rng.uniform(0, 0.001), self.rng.uniform(0, 0.01)]))
            self.kill()

    def _when_begun(self, phase, before=None):
        """Kills when the phase begins for more than the `before`th time; without it, for the next time."""
        before = self.phases.count(phase) if before is None else before
        if not self.phases.await_begin(phase, before, TOUCH_S_MAX):
            self.broker.check_alive()
            self.load.acked_bytes()  # If the load has failed, this says why.
            raise BrokenPromise(f"no {phase} began in {TOUCH_S_MAX} s")
        if not self._aims_at(phase):
            pause(self.rng.choice([0, self.rng.uniform(0, 0.001), self.rng.uniform(0, 0.01)]))
        self.kill()

    def _aims_at(self, phase):
        """Until enough kills have fallen into the phase, and after that every other time."""
        return phase in self.phases.missing() or self.rng.random() < 0.5

    def await_acked(self, bytes_wanted):
        deadline = time.monotonic() + ANSWER_S_MAX
        while self.load.acked_bytes() < bytes_wanted:
            if time.monotonic() > deadline:
                raise BrokenPromise("the broker is up, but acknowledges nothing")
            self.broker.check_alive()
            time.sleep(0.002)


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
# What hits a phase the surest. When half of the cycles are over, it is done until none is left, after the last one too
# (at most as often again): a busy machine may let the killer come late each time.
SUREST = {
    "recovery": Loop.recovery,
    "roll": Loop.roll,
    "checkpoint": Loop.checkpoint,
    "recycling": Loop.recycle,
    phases.LOAD: Loop.any_moment,
}


def hurry():
    """Goes before what else wants a CPU, where that is allowed: phases are over in a millisecond. Not inherited."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def run(args, broker, load, rng):
    """Yields the name of each cycle when it is done, then those of the last checks."""
    hits_wanted = min(args.cycles // CYCLES_TO_HIT_ALL, HITS_WANTED_MAX)
    loop = Loop(broker, load, rng, hits_wanted)
    hurry()
    # A client whose producer never had an id gives up when the broker goes away.
    loop.await_acked(1)
    kinds, weights = zip(*PLACEMENTS, strict=True)
    for cycle in range(1, 2 * args.cycles + 1):
        kind = rng.choices(kinds, weights)[0]
        missing = loop.phases.missing()
        if cycle > args.cycles and not missing:
            break
        if missing and cycle > args.cycles / 2:
            kind = SUREST[rng.choice(missing)]
        kind(loop)
        broker.start()
        text = f"cycle {cycle} {kind.__name__}, in {' and '.join(loop.phases.last)}"
        if cycle % args.verify_every == 0:
            text += f": {load.ask('verify')}, {load.acked_bytes() >> 20} MiB acknowledged"
        yield text
    yield f"the end: {load.ask('finish')} records"
    broker.stop()
    yield "the broker ends on SIGTERM"
    missing = loop.phases.missing()
    if missing:
        raise BrokenPromise(f"fewer than {hits_wanted} kills fell into {', '.join(missing)}: {loop.phases.summary()}")
    yield loop.phases.summary()


def main():
    parser = arguments(__doc__, cycles=100, rate=20_000)
    parser.add_argument("--verify-every", type=int, default=10, metavar="K", help="cycles between full checks")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--lenient", action="store_true", help="DeleteRecords need not outlive kill -9")
    args = parser.parse_args()
    flags = [f"-partitions={args.partitions}", f"-keep-deleted={str(not args.lenient).lower()}"]
    return play("crash loops", args, SETTINGS, lambda rng: ([], flags), run)


if __name__ == "__main__":
    sys.exit(main())
