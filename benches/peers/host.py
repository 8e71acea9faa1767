"""A system that runs while its scenarios are played: started when first needed, started again when it has died."""

import os
import shutil
import subprocess
import time

import machine
from generator import GeneratorFailed
from lib.broker import BrokerError
from scenarios import rate_of

# Bytes that each topic keeps. RingMQ uses the space of what is older again; Kafka looks every five minutes, so
# that it never deletes in a run.
RETENTION_BYTES = 8 << 30


class System:
    """A peer in one of its variants."""

    def __init__(self, peer, variant):
        self.peer = peer
        self.variant = variant
        self.key = variant.key

    def label(self):
        return f"{self.peer.name} {self.peer.version()}, {self.variant.durability}"


class Host:
    """Use it in a `with`: at its end the broker is killed and its data is gone. `files`: where words are kept."""

    def __init__(self, system, generator, cpus, folder, files):
        self._system = system
        self._generator = generator
        self._cpus = cpus
        self._folder = folder
        self._files = files
        self._server = None
        # Why it does not start: it is not tried again.
        self._broken = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._end()

    def play(self, scenario, flags, name, seconds):
        """One run on a topic of its own. Never raises for what a broker or a run does wrong: that is the finding."""
        began, before = time.time(), machine.Times()
        try:
            server = self._running()
            machine.settle(self._folder)
            began, before = time.time(), machine.Times()
            keep = RETENTION_BYTES // scenario.partitions()
            result = self._generator.load(
                server, self._system.peer.driver, self._system.variant.durability,
                ["--label", scenario.key, "--topic", name, "--topic-config", f"retention.bytes={keep}", *flags],
                os.path.join(self._files, f"{name}.json"), seconds,
            )  # fmt: skip
            self._check_alive()
            run = digest(scenario, result)
        except (BrokerError, GeneratorFailed, OSError, subprocess.SubprocessError) as reason:
            run = {"valid": False, "fatal": True, "reasons": [str(reason)]}
        stolen = machine.Times().steal_share(before)
        self._tidy(name)
        return {"began": began, "steal_share": stolen, **run}

    def _running(self):
        if self._broken is not None:
            raise BrokerError(self._broken)
        if self._server is None:
            os.makedirs(self._folder)
            machine.settle(self._folder)
            self._server = self._system.peer.server(self._system.variant, self._folder, self._cpus)
            try:
                self._server.start()
            except (BrokerError, OSError, subprocess.SubprocessError) as reason:
                log = self._server.log_tail()
                self._broken = f"{reason}: {last_line(log)}" if log else str(reason)
                self._end()
                raise BrokerError(self._broken) from None
        return self._server

    def _check_alive(self):
        code = self._server.died_by_itself()
        if code is not None:
            raise BrokerError(f"the broker ended by itself with code {code}: {last_line(self._server.log_tail())}")

    def _tidy(self, topic):
        if self._server is not None and not self._server.is_running():
            self._end()
        if self._server is not None:
            try:
                self._system.peer.delete_topic(self._server, topic, self._generator.command_line)
            except (OSError, subprocess.SubprocessError) as reason:
                # All that is lost is space.
                print(f"topic {topic} is still there: {reason}", flush=True)

    def _end(self):
        server, self._server = self._server, None
        if server is not None:
            server.kill()
            if os.path.exists(server.log_path):
                name = f"{os.path.basename(self._folder)}.log"
                shutil.copyfile(server.log_path, os.path.join(self._files, name))
        shutil.rmtree(self._folder, ignore_errors=True)


def digest(scenario, result):
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
    generator = result.get("generator") or {}
    # A closed loop has no intended times.
    has_latency = bool(scenario.latency) and run[scenario.latency]["samples"] > 0
    records_per_s, bytes_per_s = rate_of(scenario, runs)
    valid = result["passed"] and not reasons and not faults and not stopped
    return {
        "valid": valid,
        # A record that was lost or a run that was not made is no number of a slow broker.
        "fatal": bool(faults or stopped),
        "reasons": [*stopped, *faults, *reasons] or ([] if valid else ["ringmq bench did not pass it"]),
        "records_per_s": records_per_s,
        "bytes_per_s": bytes_per_s,
        # Of the program that loads, which is the RingMQ that is measured, too.
        "revision": generator.get("revision"),
        "latency": _by_requests(scenario.latency, run) if has_latency else None,
        "curve": run["curves"][scenario.latency] if has_latency else None,
        "per_second": [second["records"] for second in run["timeline"]],
        "broker": run["broker"],
        # Of the measured seconds, as the broker's processor time is.
        "bytes_all": run["bytes_per_s"] * run["seconds"],
        "stages": run["stages"],
    }


def _by_requests(kind, run):
    """The percentiles of a kind of latency, with as many samples as there were requests: the records of a batch are
    read together, and are one observation."""
    if kind != "end_to_end" or not run["requests_per_s"]:
        return run[kind]
    mean = max(run["records_per_s"] / run["requests_per_s"], 1)
    return {**run[kind], "samples": round(run[kind]["samples"] / mean)}


def last_line(log):
    lines = [line for line in log.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "its log is empty"
