"""In which phases of the broker's life the kills fell: by what its log says had begun and had not ended."""

import collections
import os
import re
import time

from watch import Watch

# With these the broker tells where each phase begins and ends.
SETTINGS = ["telemetry.log=info,ringmq::log=debug,ringmq::broker=debug"]
# What a log says at both ends of a phase. A roll lasts until the new segment's first block is durable.
PHASES = {
    "recovery": (r"is being opened", r"(ends|closed in order) at "),
    "roll": (r"rolls into segment ", r"has rolled into segment "),
    "checkpoint": (r"checkpoint \d+ begins", r"checkpoint \d+ is durable"),
    "recycling": (r"recycles segment ", r"segment \d+ is ready"),
}
LOAD = "plain load"
MUST_BE_HIT = [*PHASES, LOAD]
# Of all logs together, and which of the others a kill may also fall in.
START, STOP = "start, no log open", "stop"
READY, STOPPING = re.compile(r"RingMQ \S+ is ready after "), re.compile(r"SIG[A-Z]+: stopping;")
OF_A_LOG = re.compile(r" log (\d+): (.*)")
ENDS = [
    (phase, begins, re.compile(text))
    for phase, texts in PHASES.items()
    for begins, text in zip((True, False), texts, strict=True)
]


class Phases:
    """Follows the log of a broker over its lives."""

    def __init__(self, log_path, hits_wanted):
        self._path = log_path
        self._hits_wanted = hits_wanted
        self._file = open(log_path, "rb")  # noqa: SIM115 (for as long as the test runs)
        self._unread = b""
        self._new_life()
        # How often each phase began, and how many kills fell into it.
        self.begun = collections.Counter()
        self.hit = collections.Counter()
        # The phases that the last kill fell into: more than one, if the logs were at it.
        self.last = []

    def _new_life(self):
        self._open = set()
        self._ready = self._stopping = False

    def missing(self):
        """Those that too few kills fell into."""
        return [phase for phase in MUST_BE_HIT if self.hit[phase] < self._hits_wanted]

    def count(self, phase):
        """How often it has begun until now."""
        self._read()
        return self.begun[phase]

    def await_begin(self, phase, before, limit_s):
        """Waits until the phase has begun more than `before` times; whether it has."""
        name = os.path.basename(self._path)
        deadline = time.monotonic() + limit_s
        with Watch([os.path.dirname(self._path)]) as watch:
            while True:
                # What it wrote before the watch was there counts, too.
                if self.count(phase) > before:
                    return True
                if watch.await_file(name, deadline - time.monotonic()) is None:
                    return False

    def on_kill(self):
        """The broker is dead: notes what it was at."""
        self._read()
        found = {phase for phase, _ in self._open}
        if self._stopping:
            found.add(STOP)
        if not found:
            found.add(LOAD if self._ready else START)
        self.hit.update(found)
        self._new_life()
        # Of a line that the kill cut off nobody knows the rest.
        self._unread = b""
        self.last = sorted(found)

    def _read(self):
        *lines, self._unread = (self._unread + self._file.read()).split(b"\n")
        for line in lines:
            self._take(line.decode(errors="replace"))

    def _take(self, line):
        if READY.search(line):
            self._ready = True
        elif STOPPING.search(line):
            self._stopping = True
        elif of_a_log := OF_A_LOG.search(line):
            log, text = of_a_log.groups()
            for phase, begins, pattern in ENDS:
                if not pattern.match(text):
                    continue
                if begins:
                    self.begun[phase] += 1
                    self._open.add((phase, log))
                else:
                    self._open.discard((phase, log))

    def summary(self):
        hits = ", ".join(f"{phase} {self.hit[phase]}" for phase in [*MUST_BE_HIT, STOP, START])
        begun = ", ".join(f"{phase} {self.begun[phase]}" for phase in PHASES)
        return f"kills in {hits}; begun: {begun}"
