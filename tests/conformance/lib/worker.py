"""A client program on the other end of a pipe, driven line by line.

One program per client stays up for all cases (a JVM per case would cost more than the cases). Lines are
fields separated by tabs; the program's stderr goes to a file.

    runner  -> client   run <case> <bootstrap> <topic> <name>=<value> ...
    client  -> runner   restart term|kill        please restart the broker, then answer `done`
    client  -> runner   value <name> <text>      a result that the runner compares
    client  -> runner   ok | fail <why>              the case is over
"""

import os
import select
import signal
import subprocess
import time


class ClientFailed(Exception):
    """The case failed in the client: its own words, or how it ended."""


class ClientSkipped(Exception):
    """The client that this machine has cannot do this case."""


class Worker:
    """The program of one client. Started at the first case, and again after one that hung or crashed."""

    def __init__(self, command, log_path):
        self._command = command
        self._log_path = log_path
        self._process = None
        self._unread = b""

    def run(self, case, bootstrap, topic, args, timeout_s, on_restart):
        """Runs one case and returns its values. `on_restart(how)` restarts the broker on the client's wish."""
        if self._process is None:
            self._start()
        deadline = time.monotonic() + timeout_s
        self._send("run", case, bootstrap, topic, *(f"{name}={value}" for name, value in args.items()))
        values = {}
        while True:
            kind, *fields = self._receive(deadline)
            match kind:
                case "restart":
                    on_restart(fields[0])
                    self._send("done")
                case "value":
                    values[fields[0]] = fields[1]
                case "ok":
                    return values
                case "fail":
                    raise ClientFailed(" ".join(fields))
                case _:
                    self.close()
                    raise ClientFailed(f"the client sent an unknown line: {kind}")

    def close(self):
        """Kills the program with all that it started."""
        process, self._process = self._process, None
        self._unread = b""
        if process is None:
            return
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        process.stdin.close()
        process.stdout.close()

    def _start(self):
        with open(self._log_path, "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                bufsize=0,
            )

    def _send(self, *fields):
        try:
            self._process.stdin.write(("\t".join(fields) + "\n").encode())
        except BrokenPipeError:
            self._ended()

    def _receive(self, deadline):
        while b"\n" not in self._unread:
            left_s = deadline - time.monotonic()
            readable, _, _ = select.select([self._process.stdout], [], [], max(left_s, 0))
            if not readable:
                self.close()
                raise ClientFailed("no answer within the time limit")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                self._ended()
            self._unread += piece
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode(errors="replace").split("\t")

    def _ended(self):
        code = self._process.wait()
        self.close()
        raise ClientFailed(f"the client program ended with code {code}; see {self._log_path}")
