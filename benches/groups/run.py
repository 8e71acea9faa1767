#!/usr/bin/env python3
"""What groups and idle connections cost: each part against a broker of its own, with one shard.

    python3 benches/groups/run.py [--part NAME]... [--seconds N] [--binary PATH] [--json]

It needs Go. A line says what was measured, what is wanted, and whether it was reached; the exit code is 1 when
something was not. On a machine that is busy with other things a miss means little.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "conformance"))
from lib import toolchain  # noqa: E402  (the path is set above)
from lib.broker import Broker  # noqa: E402

INITIAL_DELAY_S = 0.5
# Ten thousand connections have two ends, and each process its own files besides.
FILES = 12_000


class AtLeast(float):
    """What is wanted where more is better."""


def rebalance(found):
    # The first wait is extended once when somebody came meanwhile.
    beyond = [found["first_s"] - 2 * INITIAL_DELAY_S, found["next_s"] - found["heartbeat_s"]]
    yield "100 members, 1,000 partitions: first rebalance, beyond its delay", max(0, beyond[0]), "s", 2
    yield "one more member joins", max(0, beyond[1]), "s", 2


def commits(found):
    beside = f"{found['data_mb_per_s']:.0f} MB/s of data, p99 {found['p99_ms']:.1f} ms, {found['cores']:.2f} cores"
    yield f"durable offset commits beside {beside}", found["commits_per_s"], "/s", AtLeast(10_000)


def members(found):
    idle = f"{found['cores_without_heartbeats'] * 100:.2f} % without heartbeats"
    yield f"1,000 idle members ({idle})", found["cores"] * 100, "% of a core", 1


def connections(found):
    yield "10,000 idle connections, each", found["bytes_per_connection"] / 1024, "KiB", 16
    alone_ms = found["p99_alone_ms"]
    yield f"p99 beside them, alone {alone_ms:.2f} ms", found["p99_beside_ms"], "ms", alone_ms * 1.1


# What is wanted of it, and with how many.
PARTS = {
    "rebalance": (rebalance, 100),
    "commits": (commits, 64),
    "members": (members, 1000),
    "connections": (connections, 10_000),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; may be repeated")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--dir", default=None, help="where the brokers' data is put")
    parser.add_argument("--binary", default=toolchain.default_binary(), help="the broker to start")
    parser.add_argument("--json", action="store_true", help="what was found, as it is")
    args = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, most), most))
    program = toolchain.go_command("bench-groups", HERE)

    missed, everything = 0, {}
    for name in args.part or PARTS:
        judge, count = PARTS[name]
        with tempfile.TemporaryDirectory(prefix="ringmq-bench-groups-", dir=args.dir) as folder:
            settings = [f"kafka.group_initial_delay={INITIAL_DELAY_S * 1000:.0f}ms", f"kafka.connections_max={FILES}"]
            broker = Broker(args.binary, folder, 1, [text for setting in settings for text in ("--set", setting)])
            try:
                broker.start()
                asked = [f"-bootstrap={broker.kafka}", f"-pid={broker.pid}", f"-count={count}", f"-for={args.seconds}s"]
                done = subprocess.run([*program, name, *asked], stdout=subprocess.PIPE, text=True, check=True)
                broker.stop()
            finally:
                broker.kill()
        found = everything[name] = json.loads(done.stdout)
        for what, value, unit, wanted in judge(found):
            more = isinstance(wanted, AtLeast)
            reached = value >= wanted if more else value <= wanted
            missed += not reached
            if not args.json:
                verdict = "ok    " if reached else "MISSED"
                limit = f"at {'least' if more else 'most'} {wanted:,.4g}"
                print(f"{verdict} {what}: {value:,.4g} {unit}, wanted {limit}", flush=True)
    if args.json:
        print(json.dumps(everything, indent=2))
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
