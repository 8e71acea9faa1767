"""`ringmq bench` as a child: one call, its result, its reasons when there is none."""

import json
import os
import signal
import subprocess

# Beyond the seconds of load: topics, draining, reading back.
EXTRA_S_MAX = 180
RAW_S_MAX = 600


class GeneratorFailed(Exception):
    """The load generator wrote no result; the text is its last word."""


# What `ringmq bench` speaks, and the flags that choose it.
DRIVERS = {"kafka": []}


class Generator:
    def __init__(self, binary, cpus):
        self._binary = binary
        self._cpus = ",".join(map(str, cpus))

    def load(self, server, driver, durability, flags, result, seconds):
        """Loads `server`; the result as `ringmq bench` wrote it to `result`. An invalid run is a result, too."""
        if driver not in DRIVERS:
            raise GeneratorFailed(f"ringmq bench does not speak {driver}, but {', '.join(DRIVERS)}")
        admin = getattr(server, "admin", None)
        command = [
            self._binary, "bench", *DRIVERS[driver], "--bootstrap", server.bootstrap, *(["--admin", admin] if admin else []),
            "--broker-pid", str(server.pid), "--durability", durability, "--cpus", self._cpus,
            *flags, "--json", result, "--no-report", "--quiet",
        ]  # fmt: skip
        return self._run(command, result, seconds + EXTRA_S_MAX)

    def command_line(self, *words):
        """Another command of the program, for peers that speak what it speaks."""
        subprocess.run([self._binary, *words], capture_output=True, check=True, timeout=EXTRA_S_MAX)

    def ceiling(self, sink_cpu, flags, result, seconds):
        """The same load against a sink that stores nothing."""
        command = [
            self._binary, "bench", "ceiling", "--sink-cpu", str(sink_cpu), "--load-cpu", self._cpus.split(",")[0],
            *flags, "--json", result,
        ]  # fmt: skip
        return self._run(command, result, seconds + EXTRA_S_MAX)

    def raw(self, folder, seconds, result):
        """The device without a broker."""
        command = [self._binary, "bench", "raw", "--dir", folder, "--seconds", str(seconds), "--json", result]
        return self._run(command, result, RAW_S_MAX)

    def _run(self, command, result, timeout_s):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise GeneratorFailed(f"ringmq bench did not end within {timeout_s} s") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if not os.path.exists(result):
            # The last line only points to those before it.
            lines = [line for line in said.splitlines() if line and "see above" not in line]
            raise GeneratorFailed(lines[-1] if lines else f"ringmq bench ended with code {process.returncode}")
        with open(result, encoding="utf-8") as file:
            return json.load(file)
