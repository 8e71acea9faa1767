#!/usr/bin/env python3
"""RingMQ beside other brokers: the same load, the same machine, by turns, in one run.

    python3 benches/peers/run.py [--full] [--dir DIR] [--seconds S] [--alternations N] [--write-readme]
    python3 benches/peers/run.py --from RESULTS [--write-readme]

By turns each broker is started on an empty data directory in DIR, warmed up, and loaded by `ringmq bench`. The
peers are fetched once, into ~/.cache/ringmq-peers (or $RINGMQ_PEERS_CACHE). Results go to a folder below --out:
table.md, report.html, result.json, and what every run and broker said. --from makes table and report again.

The exit code is 1 when the comparison must not be used: a broker or a run failed, a record was lost, or a
system has no valid run in a scenario. README.md beside this file says how everything is configured.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "tests", "conformance")]
import page  # noqa: E402  (the path is set above)
import scenarios  # noqa: E402
import table  # noqa: E402
from brokers import OURS, PEERS  # noqa: E402
from generator import Generator, GeneratorFailed  # noqa: E402
from lib import toolchain  # noqa: E402
from lib.broker import BrokerError  # noqa: E402
from machine import cpu_list  # noqa: E402
from session import RESULT, SCHEMA, Session  # noqa: E402
from summary import rows, void_reasons  # noqa: E402

README = os.path.join(HERE, "..", "README.md")
SECONDS, WARMUP_S, PREHEAT_S, ALTERNATIONS = 30, 5, 12, 3


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every scenario, not only the four of the table")
    parser.add_argument("--scenario", action="append", metavar="KEY", choices=[s.key for s in scenarios.FULL],
                        help="only this one; may be repeated: " + ", ".join(s.key for s in scenarios.FULL))  # fmt: skip
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="only this one; may be repeated")
    parser.add_argument("--dir", default="ringmq-bench", help="where the brokers' data goes: the file system that is "
                        "measured, with 40 GB free (default: ./ringmq-bench)")  # fmt: skip
    parser.add_argument("--out", default="ringmq-bench-results", help="where the folder of the results is made "
                        "(default: ./ringmq-bench-results)")  # fmt: skip
    parser.add_argument("--binary", default=toolchain.default_binary(), help="the ringmq that is measured and measures")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"of each run (default: {SECONDS})")
    parser.add_argument("--warmup", type=int, default=WARMUP_S, help=f"seconds before each run (default: {WARMUP_S})")
    parser.add_argument("--preheat", type=int, default=PREHEAT_S, help="seconds that a new broker is loaded with each "
                        f"scenario before any is measured (default: {PREHEAT_S})")  # fmt: skip
    parser.add_argument("--alternations", type=int, default=ALTERNATIONS, help=f"(default: {ALTERNATIONS})")
    parser.add_argument("--rate", type=int, help="records per second of the open loops; without it half of what "
                        "the slowest can take, rounded down to 1, 2 or 5")  # fmt: skip
    parser.add_argument("--broker-cpus", type=cpu_list, default=[1], metavar="LIST", help="cores of each broker, one "
                        "shard of RingMQ on each (default: 1, where the disk interrupts)")  # fmt: skip
    parser.add_argument("--load-cpus", type=cpu_list, default=[0], metavar="LIST", help="(default: 0)")
    parser.add_argument("--write-readme", action="store_true", help="put the table into benches/README.md")
    parser.add_argument("--from", dest="results", metavar="RESULTS", help="a results folder: measure nothing")
    args = parser.parse_args()
    if min(args.seconds, args.alternations) < 1 or min(args.warmup, args.preheat) < 0:
        parser.error("--seconds and --alternations are at least 1, --warmup and --preheat at least 0")
    return args


def prepare(names):
    """The peers that can be measured here, and why others cannot."""
    peers, missing = [], {}
    for name in names:
        peer = PEERS[name]()
        print(f"preparing {peer.name}", flush=True)
        try:
            peer.prepare()
        except (toolchain.Missing, toolchain.BuildError, OSError, subprocess.SubprocessError) as reason:
            print(f"{peer.name}: {reason}", file=sys.stderr)
            missing[peer.name] = str(reason).splitlines()[0]
            continue
        peers.append(peer)
    return peers, missing


def measure(args):
    """The results folder; None when nothing can be compared."""
    peers, missing = prepare(args.peer or list(PEERS))
    if not peers:
        print("no peer can be measured here; Kafka needs a JDK and Maven (Debian: apt install "
              "openjdk-21-jdk-headless maven, or openjdk-17-jdk-headless where there is no 21)", file=sys.stderr)  # fmt: skip
        return None
    binary = os.path.abspath(args.binary)
    ours = OURS(binary)
    try:
        ours.prepare()
    except (OSError, subprocess.SubprocessError) as reason:
        print(f"{binary} does not run: {reason}; build it with `make build`, or name another with --binary", file=sys.stderr)
        return None
    own_folder = not os.path.isdir(args.dir)
    folder = os.path.join(os.path.abspath(args.out), time.strftime("peers-%Y-%m-%d-%H%M%S", time.gmtime()))
    for flag, needed in (("--dir", args.dir), ("--out", folder)):
        try:
            os.makedirs(needed, exist_ok=True)
        except OSError as reason:
            print(f"{needed} cannot be made: {reason.strerror}; choose another {flag}", file=sys.stderr)
            return None
    args.dir = os.path.abspath(args.dir)
    chosen = [s for s in scenarios.FULL if s.key in args.scenario] if args.scenario else None
    chosen = chosen or (scenarios.FULL if args.full else scenarios.CORE)
    try:
        Session(args, Generator(binary, args.load_cpus), ours, peers, missing, chosen, folder).run()
    except (BrokerError, GeneratorFailed, OSError) as reason:
        print(f"stopped: {reason}", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped; what was measured is kept", file=sys.stderr)
    finally:
        if own_folder and not os.listdir(args.dir):
            os.rmdir(args.dir)
    return folder


def load(folder):
    """What was measured. Raises ValueError with what is wrong with the folder."""
    path = os.path.join(folder, RESULT)
    try:
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
    except OSError as reason:
        raise ValueError(f"{path}: {reason.strerror}; name a folder that this program has made") from None
    except ValueError as reason:
        raise ValueError(f"{path} is not whole: {reason}") from None
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        raise ValueError(f"{path} is no result of schema {SCHEMA}: only the program that made it can read it")
    for run in result["runs"]:
        # Earlier results do not have it, but what `ringmq bench` wrote for each run lies beside them.
        name = f"{run['scenario']}-{run['system']}-{run['round'] + 1}.json"
        run.setdefault("revision", revision(os.path.join(folder, "runs", name)))
    return result


def revision(path):
    """Of the program that loaded and, here, was loaded; None when the file does not say it."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)["generator"]["revision"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(folder, result):
    """Table and report; the table is printed, too."""
    text = table.markdown(result)
    with open(os.path.join(folder, "table.md"), "w", encoding="utf-8") as file:
        file.write(text)
    report = os.path.join(folder, "report.html")
    with open(report, "w", encoding="utf-8") as file:
        file.write(page.page(result))
    print(f"\n{text}\nreport: {report}", flush=True)
    return text


def main():
    args = parse()
    # A stopped run ends its broker, removes its data and keeps what it has measured.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = args.results or measure(args)
    if folder is None:
        return 1
    try:
        result = load(folder)
    except ValueError as reason:
        print(reason, file=sys.stderr)
        return 1
    try:
        text = write(folder, result)
    except OSError as reason:
        print(f"{reason.filename} cannot be written: {reason.strerror}", file=sys.stderr)
        return 1
    void = void_reasons(result, rows(result))
    if args.write_readme:
        if void or result["seconds"] < SECONDS or result["alternations"] < ALTERNATIONS:
            print("benches/README.md is left as it is: a rehearsal, or a comparison that must not be used", file=sys.stderr)
            return 1
        table.write_readme(README, text)
        print("written into benches/README.md", flush=True)
    return 1 if void else 0


if __name__ == "__main__":
    sys.exit(main())
