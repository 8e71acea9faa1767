"""One comparison: every scenario against every system, by turns, each time with a new broker on an empty disk.

What was measured is a plain dictionary that is written after every run: the table and the report are made
from it alone, so that they can be made again later.
"""

import datetime
import json
import os
import shutil
import time

import machine
from generator import GeneratorFailed
from lib.broker import BrokerError
from scenarios import rate_of
from summary import nice_rate

SCHEMA = 1
RESULT = "result.json"
RAW_S = 1
CEILING_S = 5
PROBE_S = 5
# Bytes that each topic keeps. RingMQ uses the space of what is older again; Kafka looks every five minutes, so
# that it never deletes in a run.
RETENTION_BYTES = 8 << 30
# What a run may leave on disk per second: more than any broker wrote here.
BYTES_PER_S_MAX = 800_000_000
# A broker's start and end, the topic, the disk at rest: measured here, for the time that is left.
OVERHEAD_S = {"RingMQ": 6, "Kafka": 14}


class System:
    """A peer in one of its variants."""

    def __init__(self, peer, variant):
        self.peer = peer
        self.variant = variant
        self.key = variant.key

    def label(self):
        return f"{self.peer.name} {self.peer.version()}, {self.variant.durability}"


class Session:
    """`missing`: peers that cannot be measured here, and why. Results go to `folder`."""

    def __init__(self, options, generator, ours, peers, missing, scenarios, folder):
        self._options = options
        self._generator = generator
        self._systems = [System(peer, variant) for peer in (*peers, ours) for variant in peer.variants]
        self._ours = next(system for system in self._systems if system.peer is ours)
        self._scenarios = scenarios
        self._folder = folder
        self._data = os.path.join(options.dir, f"ringmq-peers-{os.getpid()}")
        self._plan = 0.0
        self._done = 0.0
        self._began = time.monotonic()
        now = datetime.datetime.now(datetime.timezone.utc)
        self.result = {
            "schema": SCHEMA,
            "date": now.strftime("%Y-%m-%d %H:%M UTC"),
            "complete": False,
            "seconds": options.seconds,
            "warmup_s": options.warmup,
            "alternations": options.alternations,
            "broker_cpus": options.broker_cpus,
            "load_cpus": options.load_cpus,
            "retention_bytes": RETENTION_BYTES,
            "rate": options.rate,
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
                    "configuration": system.peer.configuration(system.variant, options.broker_cpus),
                }
                for system in self._systems
            ],
            "missing": missing,
            "scenarios": [
                {"key": s.key, "title": s.title, "loop": s.loop, "latency": s.latency, "flags": " ".join(s.shape)}
                for s in scenarios
            ],
            "raw": [],
            "ceilings": {},
            "runs": [],
        }  # fmt: skip

    def run(self):
        os.makedirs(self._data)
        try:
            self._measure()
        finally:
            shutil.rmtree(self._data, ignore_errors=True)
            self.result["load_average_after"] = machine.load_average()
            self.result["steal_share"] = machine.Times().steal_share(self._times)
            self._write()

    # --- In the order in which it happens ---

    def _measure(self):
        self._times = machine.Times()
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
            self._raw()
            for scenario in self._scenarios:
                for system in self._systems:
                    self._cell(number, scenario, system)
        self.result["complete"] = True

    def _find_rate(self):
        """Half of what the slowest reaches in a closed loop of the same requests."""
        scenario = next((s for s in self._scenarios if s.loop != "closed"), None)
        if scenario is None:
            self.result["rate"] = 0
            return
        reached = []
        for system in self._systems:
            run = self._load(scenario, system, scenario.probe(PROBE_S, self._options.warmup), "probe", PROBE_S)
            self.result["probe"].append({"system": system.key, **run})
            if run["valid"]:
                reached.append(run["records_per_s"])
            self._say(f"probe: {system.label()}: {verdict(run)}")
        if not reached:
            raise BrokerError("no system can be loaded: see the reasons above")
        self.result["rate"] = nice_rate(min(reached) / 2)

    def _raw(self):
        machine.settle(self._data)
        path = self._path("raw", len(self.result["raw"]))
        rows = self._generator.raw(self._data, RAW_S, path)
        self.result["raw"].append(rows)
        best = max(row["bytes_per_s"] for row in rows if row["direction"] == "durable_write")
        self._say(f"raw device: {best / 1e6:,.0f} MB/s at most")
        self._done += 30 * RAW_S + 5

    def _ceiling(self, scenario):
        path = self._path(f"ceiling-{scenario.key}", 0)
        flags = scenario.ceiling(self.result["rate"], CEILING_S)
        report = self._generator.ceiling(self._options.broker_cpus[-1], flags, path, CEILING_S)
        kept = ("records_per_s", "bytes_per_s", "response", "service", "invalid")
        self.result["ceilings"][scenario.key] = {name: report[name] for name in kept}
        self._say(f"null sink, {scenario.title}: {report['records_per_s']:,.0f} records/s")
        self._done += CEILING_S + 1

    def _cell(self, number, scenario, system):
        flags = scenario.flags(self.result["rate"], self._options.seconds, self._options.warmup)
        name = f"{scenario.key}-{system.key}"
        run = self._load(scenario, system, flags, f"{name}-{number + 1}", self._options.seconds)
        self.result["runs"].append({"round": number, "scenario": scenario.key, "system": system.key, **run})
        self._write()
        self._say(f"{number + 1}/{self._options.alternations} {scenario.title}: {system.label()}: {verdict(run)}")

    def _load(self, scenario, system, flags, name, seconds):
        """One run against a new broker. Never raises for what a broker or a run does wrong: that is the finding."""
        options = self._options
        folder = os.path.join(self._data, name)
        os.makedirs(folder)
        peers_everything = scenario.both_cores and system is not self._ours
        cpus = sorted({*options.broker_cpus, *options.load_cpus}) if peers_everything else options.broker_cpus
        server = system.peer.server(system.variant, folder, cpus)
        machine.settle(self._data)
        began, before = time.time(), machine.Times()
        try:
            server.start()
            keep = RETENTION_BYTES // int(scenario.shape[scenario.shape.index("--partitions") + 1])
            result = self._generator.load(
                server, system.variant.durability,
                ["--label", scenario.key, "--topic-config", f"retention.bytes={keep}", *flags],
                self._path(name, 0), seconds + options.warmup,
            )  # fmt: skip
            code = server.died_by_itself()
            if code is not None:
                raise BrokerError(f"the broker ended by itself with code {code}")
            run = _digest(scenario, result)
        except (BrokerError, GeneratorFailed, OSError) as reason:
            run = {"valid": False, "fatal": True, "reasons": [str(reason)]}
        finally:
            server.kill()
            self._keep_log(server, name)
            shutil.rmtree(folder, ignore_errors=True)
        self._done += self._seconds_of(system, seconds)
        return {"began": began, "steal_share": machine.Times().steal_share(before), **run}

    # --- Files and words ---

    def _path(self, name, index):
        folder = os.path.join(self._folder, "runs")
        os.makedirs(folder, exist_ok=True)
        return os.path.join(folder, f"{name}-{index + 1}.json" if index else f"{name}.json")

    def _keep_log(self, server, name):
        """The broker's own words, which are short and say why when something is wrong."""
        if os.path.exists(server.log_path):
            shutil.copyfile(server.log_path, self._path(name, 0).removesuffix(".json") + ".log")

    def _write(self):
        path = os.path.join(self._folder, RESULT)
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(self.result, file, indent=1)
        os.replace(path + ".new", path)

    def _check_space(self):
        needed = RETENTION_BYTES + BYTES_PER_S_MAX * (self._options.seconds + self._options.warmup)
        free = shutil.disk_usage(self._data).free
        if free < needed:
            raise BrokerError(
                f"{self._options.dir} has {free / 1e9:.0f} GB free; a broker that deletes nothing may write "
                f"{needed / 1e9:.0f} GB in a run: choose another --dir, or fewer --seconds"
            )

    def _seconds_of(self, system, seconds):
        return seconds + self._options.warmup + OVERHEAD_S.get(system.peer.name, 10)

    def _seconds_planned(self):
        alternations = self._options.alternations
        cells = len(self._scenarios) * alternations
        seconds = sum(self._seconds_of(system, self._options.seconds) for system in self._systems) * cells
        if self._options.rate is None:
            seconds += sum(self._seconds_of(system, PROBE_S) for system in self._systems)
        ceilings = sum(1 for scenario in self._scenarios if scenario.has_ceiling)
        return seconds + alternations * (30 * RAW_S + 5) + ceilings * (CEILING_S + 1)

    def _say(self, text):
        """With the time left: what was planned of it, at the pace so far."""
        spent = time.monotonic() - self._began
        pace = spent / self._done if self._done > 60 else 1.0
        left = max(self._plan - self._done, 0) * pace
        print(f"[{minutes(spent)}, {minutes(left)} left] {text}", flush=True)


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


def _digest(scenario, result):
    """What the table and the report need of a `result.json`."""
    runs = result["runs"]
    if not runs:
        return {"valid": False, "fatal": True, "reasons": [result.get("finding") or "nothing was run"]}
    reasons = [reason for run in runs for reason in run["invalid"]]
    faults = [
        f"ledger: {count} {name.replace('_', ' ')}"
        for run in runs
        for name, count in run["ledger"].items()
        if count and name not in ("acked", "read")
    ]
    stopped = result.get("finding") or ""
    stopped = [stopped] if stopped.startswith("stopped") else []
    run = runs[-1]
    records_per_s, bytes_per_s = rate_of(scenario, runs)
    valid = result["passed"] and not reasons and not faults and not stopped
    return {
        "valid": valid,
        # A record that was lost or a run that was not made is no number of a slow broker.
        "fatal": bool(faults or stopped),
        "reasons": [*stopped, *faults, *reasons] or ([] if valid else ["ringmq bench did not pass it"]),
        "records_per_s": records_per_s,
        "bytes_per_s": bytes_per_s,
        "latency": run[scenario.latency] if scenario.latency else None,
        "curve": run["curves"][scenario.latency] if scenario.latency else None,
        "service": run["service"],
        "per_second": [second["records"] for second in run["timeline"]],
        "broker": run["broker"],
        "measured_s": run["seconds"],
        "stages": run["stages"],
    }
