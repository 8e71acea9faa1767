"""One broker process under test: started, awaited, stopped, killed, and never left behind.

`Server` is any broker as a process, `Broker` is ours; benches/peers has others. It runs in a process group
of its own, so that whatever it starts dies with it. Its data directory and ports stay the same across
restarts: that is what the clients are meant to survive.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

READY_S_MAX = 30
STOP_S_MAX = 20
# Between two polls of the broker's state: short against a start, long against a poll's own cost.
POLL_S = 0.01
LOG_TAIL_LINES = 40


class BrokerError(Exception):
    """The broker did not start, did not stop, or died by itself."""


def free_port():
    """A TCP port that nobody has. Of those that the kernel gives to outgoing connections it is none: one of them
    could take it before the broker, which is started with it again and again, does."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        first, last = map(int, file.read().split())
    below, above = range(10_000, first), range(last + 1, 65_536)
    ports = max(below, above, key=len) or range(10_000, 65_536)
    while True:
        port = random.choice(ports)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def free_base_port(count):
    """A port after which so many in a row are free."""
    while True:
        base = free_port()
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError, OverflowError):
            for port in range(base + 1, base + 1 + count):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return base


def by_log(base_port):
    """Settings with which each log is a broker of its own, at this port plus its number."""
    return ["kafka.advertise=log", f"kafka.log_base_port={base_port}"]


class Server:
    """A process on a data directory. Its kind has `command` and `is_ready`. Not started until `start`."""

    ready_s_max = READY_S_MAX

    def __init__(self, directory, data_dir=None):
        self.directory = directory
        self.data_dir = data_dir or os.path.join(directory, "data")
        self.log_path = os.path.join(directory, "broker.log")
        self.kafka = f"127.0.0.1:{free_port()}"
        self._process = None

    @property
    def bootstrap(self):
        return self.kafka

    def spawn(self):
        """Starts the process and returns at once: it is probably not ready yet."""
        assert self._process is None, "one process at a time on a data directory"
        # The log is appended to, so that a failure shows what happened before the restart, too.
        with open(self.log_path, "ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def await_ready(self):
        """Returns when it is ready; fails when the process ends or the time is up."""
        deadline = time.monotonic() + self.ready_s_max
        while time.monotonic() < deadline:
            code = self._process.poll()
            if code is not None:
                raise BrokerError(f"the broker ended during its start with code {code}")
            if self.is_ready():
                return
            time.sleep(POLL_S)
        raise BrokerError(f"the broker was not ready within {self.ready_s_max} s")

    def start(self):
        self.spawn()
        self.await_ready()

    @property
    def pid(self):
        return self._process.pid

    def refusal(self):
        """Starts a broker that must not come up: its exit code, and what it said."""
        said = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        self.spawn()
        try:
            code = self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            raise BrokerError("the broker came up where it should have refused to") from None
        finally:
            self.kill()
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            log.seek(said)
            return code, log.read()

    def is_running(self):
        return self._process is not None and self._process.poll() is None

    def stop(self):
        """SIGTERM: the broker must finish its commits and leave with code 0."""
        process, self._process = self._process, None
        if process.poll() is not None:
            raise BrokerError(f"the broker had ended by itself with code {process.returncode}")
        process.terminate()
        try:
            code = process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            raise BrokerError(f"the broker did not stop within {STOP_S_MAX} s of SIGTERM") from None
        finally:
            _kill_group(process)
        if code != 0:
            raise BrokerError(f"the broker ended with code {code} after SIGTERM")

    def signal(self, number):
        """Sends a signal and does not wait: what follows is the caller's."""
        self._process.send_signal(number)

    def kill(self):
        """`kill -9` of the whole group. No error when it is dead already: see `died_by_itself`."""
        process, self._process = self._process, None
        if process is not None:
            _kill_group(process)

    def died_by_itself(self):
        """The exit code of a broker that nobody stopped, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def check_alive(self):
        """Fails when it has ended although nobody stopped it. To be asked before it is killed: the next start would
        hide it."""
        code = self.died_by_itself()
        if code is not None:
            raise BrokerError(f"the broker ended by itself with code {code}")

    def panics(self):
        """The lines of its log that tell of one, over all its lives."""
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return [line.strip() for line in log if "panicked at" in line]
        except FileNotFoundError:
            return []

    def log_tail(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return "".join(log.readlines()[-LOG_TAIL_LINES:])
        except FileNotFoundError:
            return ""


class Broker(Server):
    """`ringmq server`; it is ready when /readyz answers 200."""

    def __init__(self, binary, directory, shards=2, extra_args=(), data_dir=None):
        super().__init__(directory, data_dir)
        self.admin = f"127.0.0.1:{free_port()}"
        self.shards = shards
        self.binary = binary
        self._extra_args = list(extra_args)

    def log_folders(self):
        """One per log of the data directory."""
        return sorted(entry.path for entry in os.scandir(self.data_dir) if entry.name.startswith("log-"))

    def command(self):
        return [
            self.binary,
            "server",
            "--data-dir", self.data_dir,
            "--kafka-listen", self.kafka,
            "--admin-listen", self.admin,
            "--shards", str(self.shards),
            *self._extra_args,
        ]  # fmt: skip

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://{self.admin}/readyz", timeout=1) as reply:
                return reply.status == 200
        except (urllib.error.URLError, OSError):
            return False


def _kill_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
