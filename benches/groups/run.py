#!/usr/bin/env python3
"""What groups and idle connections cost: each part against a broker of its own, with one shard.

    python3 benches/groups/run.py [--part NAME]... [--seconds N] [--binary PATH] [--json]

It needs Go. A line says what was measured, what is wanted, and whether it was reached; the exit code is 1 when
something was not. A line without a verdict is told beside the one above it. On a machine that is busy with other things a miss means little.
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


# Told beside what is wanted: no verdict.
JUST_TOLD = None


def rebalance(found):
    # What is configured is taken off once. The broker waits for so long again when somebody came meanwhile, as Kafka
    # does: that is charged to it.
    beyond = found["first_s"] - INITIAL_DELAY_S
    yield f"100 members, 1,000 partitions: first rebalance, beyond a delay of {INITIAL_DELAY_S} s", max(0, beyond), "s", 2
    # There is no delay any more. The members hear of it with their next heartbeats, which are part of it.
    yield f"one more member joins, heartbeats every {found['heartbeat_s'] * 1000:.0f} ms", found["next_s"], "s", 2


def commits(found):
    beside = f"{found['data_mb_per_s']:.0f} MB/s of data, p99 {found['p99_ms']:.1f} ms"
    yield f"durable offset commits beside {beside}", found["commits_per_s"], "/s", AtLeast(10_000)
    yield "what all threads of the broker took for both", found["cores"], "cores", 1


def members(found):
    idle = f"{found['cores_without_heartbeats'] * 100:.2f} % without heartbeats"
    yield f"1,000 idle members that only send heartbeats ({idle})", found["cores"] * 100, "% of a core", 1
    polls = f"{found['polls_per_s']:,.0f} fetches/s"
    yield f"the same, each long-polling an empty partition ({polls})", found["cores_polling"] * 100, "% of a core", JUST_TOLD


def connections(found):
    yield "10,000 idle connections, each", found["bytes_per_connection"] / 1024, "KiB", 16
    p99s = f"{found['p99_beside_ms']:.2f} against {found['p99_alone_ms']:.2f} ms"
    rounds = f"rounds from {found['p99_ratio_least']:.2f} to {found['p99_ratio_most']:.2f}"
    yield f"p99 beside them, of what it is alone ({p99s}; {rounds})", found["p99_ratio"], "times", 1.1


# What is wanted of it, and with how many.
PARTS = {
    "rebalance": (rebalance, 100),
    "commits": (commits, 64),
    "members": (members, 1000),
    "connections": (connections, 10_000),
}


def reached(value, wanted):
    if wanted is JUST_TOLD:
        return True
    return value >= wanted if isinstance(wanted, AtLeast) else value <= wanted


def line(what, value, unit, wanted):
    said = f"{what}: {value:,.4g} {unit}"
    if wanted is JUST_TOLD:
        return f"       {said}"
    verdict = "ok    " if reached(value, wanted) else "MISSED"
    return f"{verdict} {said}, wanted at {'least' if isinstance(wanted, AtLeast) else 'most'} {wanted:,.4g}"


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
            missed += not reached(value, wanted)
            if not args.json:
                print(line(what, value, unit, wanted), flush=True)
    if args.json:
        print(json.dumps(everything, indent=2))
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
