"""What all crash loops share: the program that loads the broker, the way to a verdict, and what is kept of a failure."""

import argparse
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "conformance"))
from lib import toolchain  # noqa: E402  (the path is set above)
from lib.broker import Broker, BrokerError  # noqa: E402

ANSWER_S_MAX = 150


class BrokenPromise(Exception):
    """The load found what must not be, or gave up."""


class Load:
    """The program of tests/crash/load, driven by lines."""

    def __init__(self, command, log_path):
        with open(log_path, "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                bufsize=0,
            )
        self._unread = b""

    def ask(self, question):
        try:
            self._process.stdin.write(question.encode() + b"\n")
        except BrokenPipeError:
            pass  # The answer says why.
        return self.answer(ANSWER_S_MAX)

    def answer(self, limit_s):
        """The next line; a failure is raised whenever it comes."""
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._unread:
            left_s = max(0, deadline - time.monotonic())
            readable, _, _ = select.select([self._process.stdout], [], [], left_s)
            if not readable:
                raise BrokenPromise(f"the load did not answer within {limit_s} s")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                raise BrokenPromise(f"the load ended with code {self._process.wait()}")
            self._unread += piece
        line, self._unread = self._unread.split(b"\n", 1)
        text = line.decode(errors="replace")
        if text.startswith("failed "):
            raise BrokenPromise(text.removeprefix("failed "))
        return text

    def acked_bytes(self):
        return int(self.ask("acked").split()[1])

    def close(self):
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()


def arguments(description, cycles, rate):
    """The flags that all have; whoever has more adds them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cycles", type=int, default=cycles)
    parser.add_argument("--seed", type=int, default=None, help="of the moments and choices; printed")
    parser.add_argument("--rate", type=int, default=rate, help="records per second at most")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--binary", default=toolchain.default_binary(), help="the broker to start")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for the broker")
    return parser


def pause(seconds):
    """Lets the load run: the length of the pause is the experiment, and nothing relies on it."""
    time.sleep(seconds)


def play(name, args, settings, load_args, run):
    """Returns the exit code of the loops `name`.

    `load_args(rng)` is what the load is started with besides address, rate and seed; `run(args, broker, load, rng)`
    yields what to say of each cycle when it is done.
    """
    seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    rng = random.Random(seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        load_command = toolchain.go_command("crash-load", os.path.join(HERE, "load"))
    except toolchain.Missing as reason:
        # In CI this test must run; elsewhere the machine may lack the tool, and the line names it.
        in_ci = os.environ.get("CI") == "true"
        print(f"{'FAIL' if in_ci else 'SKIP'} {name} ({reason})")
        print(f"0 passed, {int(in_ci)} failed, {int(not in_ci)} skipped")
        return int(in_ci)

    folder = tempfile.mkdtemp(prefix="ringmq-crash-", dir=os.environ.get("RINGMQ_CRASH_DIR"))
    settings = [text for setting in [*settings, *args.set] for text in ("--set", setting)]
    broker = Broker(args.binary, folder, args.shards, settings)
    load = None
    passed = failed = 0
    print(f"seed {seed}", flush=True)
    try:
        broker.start()
        asked = [f"-bootstrap={broker.bootstrap}", f"-rate={args.rate}", f"-seed={seed}"]
        mode, flags = load_args(rng)
        load = Load([*load_command, *mode, *asked, *flags], os.path.join(folder, "load.log"))
        load.answer(ANSWER_S_MAX)
        started = time.monotonic()
        for text in run(args, broker, load, rng):
            passed += 1
            print(f"PASS {text} ({time.monotonic() - started:.1f} s)", flush=True)
        if panics := broker.panics():
            raise BrokenPromise(f"the broker panicked {len(panics)} times: {panics[0]}")
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
