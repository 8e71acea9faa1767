"""One comparison: every scenario against every system, by turns, one broker at a time.

In each alternation each system is started on an empty data directory, warmed up with every scenario, measured
with every scenario, and removed. What was measured is a plain dictionary that is written after every run: the
table and the report are made from it alone, so that they can be made again later.
"""

import datetime
import json
import os
import shutil
import time

import machine
from generator import GeneratorFailed
from host import RETENTION_BYTES, Host, System
from lib.broker import BrokerError
from summary import nice_rate

SCHEMA = 1
RESULT = "result.json"
RAW_S = 1
CEILING_S = 5
PROBE_S = 5
# Free at the begin, in what topics keep: their data, and segments that are made ahead or not yet deleted.
SPACE_FACTOR = 2
# A run may be so much faster than the fastest before it.
FASTER_MAX = 1.5
# For the time that is left, about: a broker's start and end; a run's topic, and the disk at rest. Seen: 5 s for
# RingMQ, and for Kafka, whose page cache is written while we wait, as long as `machine.settle` lasts, and 2 s.
START_S = 10
RUN_S = 8
RAW_ALL_S = 40


class Session:
    """`missing`: peers that cannot be measured here, and why. Results go to `folder`."""

    def __init__(self, options, generator, ours, peers, missing, scenarios, folder):
        self._options = options
        self._generator = generator
        self._systems = [System(peer, variant) for peer in (*peers, ours) for variant in peer.variants]
        self._ours = next(system for system in self._systems if system.peer is ours)
        self._scenarios = scenarios
        self._folder = folder
        # What every run and every broker said.
        self._files = os.path.join(folder, "runs")
        self._data = os.path.join(options.dir, f"ringmq-peers-{os.getpid()}")
        self._plan = 0.0
        self._done = 0.0
        self._began = time.monotonic()
        # The most bytes/s that each system has written so far.
        self._fastest = {}
        now = datetime.datetime.now(datetime.timezone.utc)
        self.result = {
            "schema": SCHEMA,
            "date": now.strftime("%Y-%m-%d %H:%M UTC"),
            "complete": False,
            "seconds": options.seconds,
            "warmup_s": options.warmup,
            "preheat_s": options.preheat,
            "alternations": options.alternations,
            "broker_cpus": options.broker_cpus,
            "load_cpus": options.load_cpus,
            "retention_bytes": RETENTION_BYTES,
            "rate": options.rate,
            "rotated": True,
            "probe": [],
            "machine": {},
            "ours": self._ours.key,
            "systems": [
                {
                    "key": system.key,
                    "name": system.peer.name,
                    "version": system.peer.version(),
                    "durability": system.variant.durability,
                    "label": system.label(),
                    "runtime": system.peer.runtime(),
                    "configuration": system.peer.configuration(system.variant, options.broker_cpus),
                }
                for system in self._systems
            ],
            "missing": missing,
            # What else could not be measured.
            "notes": [],
            "scenarios": [
                {"key": s.key, "title": s.title, "loop": s.loop, "latency": s.latency, "flags": " ".join(s.shape)}
                for s in scenarios
            ],
            "raw": [],
            "ceilings": {},
            "runs": [],
        }  # fmt: skip

    def run(self):
        self._times = machine.Times()
        os.makedirs(self._data)
        os.makedirs(self._files)
        try:
            self._measure()
        finally:
            shutil.rmtree(self._data, ignore_errors=True)
            self.result["load_average_after"] = machine.load_average()
            self.result["steal_share"] = machine.Times().steal_share(self._times)
            self._write()

    # --- In the order in which it happens ---

    def _measure(self):
        self.result["load_average_before"] = machine.load_average()
        self.result["machine"] = machine.facts(self._data)
        self._check_space()
        self._plan = self._seconds_planned()
        self._say(f"{len(self._systems)} systems, {len(self._scenarios)} scenarios, "
                  f"{self._options.alternations} alternations: about {minutes(self._plan)}")  # fmt: skip
        if self._options.rate is None:
            self._find_rate()
        self._say(f"the open loops run at {self.result['rate']:,} records/s")
        for scenario in self._scenarios:
            if scenario.has_ceiling:
                self._ceiling(scenario)
        for number in range(self._options.alternations):
            self._raw(number)
            for system in rotated(self._systems, number):
                for scenarios in self._legs():
                    self._leg(number, system, scenarios)
        self.result["complete"] = True

    def _legs(self):
        """Scenarios that one broker plays, on the same cores."""
        for both_cores in (False, True):
            if scenarios := [s for s in self._scenarios if s.both_cores == both_cores]:
                yield scenarios

    def _find_rate(self):
        """Half of what the slowest reaches in a closed loop of the same requests."""
        scenario = next((s for s in self._scenarios if s.loop != "closed"), None)
        if scenario is None:
            self.result["rate"] = 0
            return
        reached = []
        for system in self._systems:
            warmup = self._options.preheat + self._options.warmup
            flags = scenario.probe(PROBE_S, warmup)
            with self._host(system, f"probe-{system.key}", [scenario]) as host:
                run = host.play(scenario, flags, f"probe-{system.key}", PROBE_S + warmup)
            self._seen(system, run)
            self._spent(START_S + RUN_S + warmup + PROBE_S)
            self.result["probe"].append({"system": system.key, **run})
            if run["valid"]:
                reached.append(run["records_per_s"])
            self._say(f"probe: {system.label()}: {verdict(run)}")
        if not reached:
            raise BrokerError("no system can be loaded: see the reasons above")
        self.result["rate"] = nice_rate(min(reached) / 2)

    def _raw(self, number):
        machine.settle(self._data)
        path = os.path.join(self._files, f"raw-{number + 1}.json")
        self._spent(RAW_ALL_S)
        try:
            rows = self._generator.raw(self._data, RAW_S, path)
        except GeneratorFailed as reason:
            self._note(f"the raw device, alternation {number + 1}: {reason}")
            return
        self.result["raw"].append(rows)
        best = max(row["bytes_per_s"] for row in rows if row["direction"] == "durable_write")
        self._say(f"raw device: {best / 1e6:,.0f} MB/s at most")

    def _ceiling(self, scenario):
        path = os.path.join(self._files, f"ceiling-{scenario.key}.json")
        flags = scenario.ceiling(self.result["rate"], CEILING_S)
        self._spent(CEILING_S + 1)
        try:
            report = self._generator.ceiling(self._options.broker_cpus[-1], flags, path, CEILING_S)
        except GeneratorFailed as reason:
            self._note(f"{scenario.title}, null sink: {reason}")
            return
        kept = ("records_per_s", "bytes_per_s", "response", "service", "invalid")
        self.result["ceilings"][scenario.key] = {name: report[name] for name in kept}
        self._say(f"null sink, {scenario.title}: {report['records_per_s']:,.0f} records/s")

    def _leg(self, number, system, scenarios):
        """One broker's turn."""
        options = self._options
        kind = "-both-cores" if scenarios[0].both_cores else ""
        with self._host(system, f"{system.key}{kind}-{number + 1}", scenarios) as host:
            self._spent(START_S)
            for scenario in scenarios if options.preheat else []:
                name = f"warmup-{scenario.key}-{system.key}-{number + 1}"
                run = host.play(scenario, scenario.preheat(options.preheat), name, options.preheat)
                self._seen(system, run)
                if run.get("fatal"):
                    # What follows would be measured on a broker that is not warm, or not at all.
                    self._keep(number, scenario, system, run)
                self._spent(options.preheat + RUN_S)
                self._say(f"warming up: {system.label()}: {scenario.title}: {verdict(run)}")
            for scenario in scenarios:
                flags = scenario.flags(self.result["rate"], options.seconds, options.warmup)
                name = f"{scenario.key}-{system.key}-{number + 1}"
                self._check_room(system, options.seconds + options.warmup)
                run = host.play(scenario, flags, name, options.seconds + options.warmup)
                self._keep(number, scenario, system, run)
                self._seen(system, run)
                self._spent(options.seconds + options.warmup + RUN_S)
                self._say(f"{number + 1}/{options.alternations} {system.label()}: {scenario.title}: {verdict(run)}")

    def _host(self, system, name, scenarios):
        options = self._options
        everything = scenarios[0].both_cores and system is not self._ours
        cpus = sorted({*options.broker_cpus, *options.load_cpus}) if everything else options.broker_cpus
        return Host(system, self._generator, cpus, os.path.join(self._data, name), self._files)

    # --- Files and words ---

    def _keep(self, number, scenario, system, run):
        self.result["runs"].append({"round": number, "scenario": scenario.key, "system": system.key, **run})
        self._write()

    def _write(self):
        path = os.path.join(self._folder, RESULT)
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(self.result, file, indent=1)
        os.replace(path + ".new", path)

    def _check_space(self):
        needed = SPACE_FACTOR * RETENTION_BYTES
        free = shutil.disk_usage(self._data).free
        if free < needed:
            raise BrokerError(
                f"{self._options.dir} has {free / 1e9:.0f} GB free; brokers are loaded with topics that keep "
                f"{RETENTION_BYTES / 1e9:.0f} GB and need {needed / 1e9:.0f} GB: choose another --dir"
            )

    def _check_room(self, system, seconds):
        """Before a run: a full disk would be found in its middle, as an error of the broker."""
        needed = room_needed(system.peer.recycles, self._fastest.get(system.key, 0), seconds)
        free = shutil.disk_usage(self._data).free
        if free < needed:
            raise BrokerError(
                f"{self._options.dir} has {free / 1e9:.0f} GB free; {system.label()} may write {needed / 1e9:.0f} GB "
                f"in {seconds} s, as fast as it was: choose another --dir, or fewer --seconds"
            )

    def _seen(self, system, run):
        self._fastest[system.key] = max(self._fastest.get(system.key, 0), run.get("bytes_per_s", 0))

    def _seconds_planned(self):
        options = self._options
        legs, scenarios = len(list(self._legs())), len(self._scenarios)
        heat = options.preheat + RUN_S if options.preheat else 0
        seconds = legs * START_S + scenarios * (heat + options.seconds + options.warmup + RUN_S)
        seconds = (len(self._systems) * seconds + RAW_ALL_S) * options.alternations
        if options.rate is None:
            seconds += len(self._systems) * (START_S + RUN_S + options.preheat + options.warmup + PROBE_S)
        return seconds + sum(CEILING_S + 1 for scenario in self._scenarios if scenario.has_ceiling)

    def _note(self, text):
        self.result["notes"].append(text)
        self._say(text)

    def _spent(self, planned):
        self._done += planned

    def _say(self, text):
        """With the time left: what was planned of it, at the pace so far."""
        spent = time.monotonic() - self._began
        pace = spent / self._done if self._done > 60 else 1.0
        left = max(self._plan - self._done, 0) * pace
        print(f"[{minutes(spent)}, {minutes(left)} left] {text}", flush=True)


def rotated(systems, number):
    """Another begins each time: who comes first finds another disk and another processor than who comes last."""
    first = number % len(systems)
    return [*systems[first:], *systems[:first]]


def room_needed(recycles, bytes_per_s, seconds):
    """What a system that was so fast may have on disk after a run."""
    return RETENTION_BYTES if recycles else FASTER_MAX * bytes_per_s * seconds


def minutes(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def verdict(run):
    """One run in a line."""
    text = ""
    if "records_per_s" in run:
        text = f"{run['records_per_s']:,.0f} records/s"
    if run.get("latency"):
        text += f", p50 {run['latency']['p50_ns'] / 1e6:.2f} ms, p99 {run['latency']['p99_ns'] / 1e6:.2f} ms"
    if run["valid"]:
        return text
    return f"INVALID: {'; '.join(run['reasons'])}{f' ({text})' if text else ''}"
