#!/usr/bin/env python3
"""The running server on the real kernel: what neither a simulator nor a well-behaved client can show.

    python3 tests/system/run.py [--case TEXT] [--endpoint kafka] [--binary PATH] [--keep]

Flushes counted at the device, full disks, hostile clients, error codes, refused data directories, the README and the
commands typed.
With --endpoint kafka it is what holds for any Kafka broker, the commands and the tables of error codes, at Apache Kafka,
and what RingMQ and Kafka say of their configs. Kafka comes from its Maven packages as in benches/peers (Java, Maven).
Each case has brokers of its own. Where the kernel allows it, the suite runs in a mount and a network
namespace of its own (`unshare`): its mounts vanish with it, and the default ports are free. What a machine
lacks is named in a SKIP line; with CI=true in the environment that is a failure, but for ACCEPTED_LACKS (rig.py).

The last line is `N passed, N failed, N skipped`; the exit code is 1 if a case failed.
"""

import argparse
import fcntl
import functools
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "conformance")]
import admin_codes  # noqa: E402  (the path is set above)
import allowed  # noqa: E402
import cluster  # noqa: E402
import commands  # noqa: E402
import configs  # noqa: E402
import flush  # noqa: E402
import full_disk  # noqa: E402
import greedy  # noqa: E402
import group_codes  # noqa: E402
import groups  # noqa: E402
import hostile  # noqa: E402
import identity  # noqa: E402
import kafka_rig  # noqa: E402
import latency  # noqa: E402
import long_poll  # noqa: E402
import process  # noqa: E402
import produce_codes  # noqa: E402
import quick_start  # noqa: E402
import refusals  # noqa: E402
import restarts  # noqa: E402
import tags  # noqa: E402
import told  # noqa: E402
from lib import toolchain  # noqa: E402
from lib.report import Report  # noqa: E402
from rig import IN_NAMESPACES, CaseSkipped, Rig  # noqa: E402

CASES = {
    name: case
    for module in (
        quick_start, commands, cluster, group_codes, admin_codes, produce_codes, allowed, tags, refusals, process, restarts,
        identity, long_poll, told, latency, flush, hostile, greedy, groups, full_disk,
    )  # fmt: skip
    for name, case in module.CASES.items()
}
# What holds for any Kafka broker.
AT_KAFKA = {
    **commands.AT_KAFKA, **configs.AT_KAFKA, **cluster.CASES, **group_codes.CASES, **admin_codes.CASES,
    **produce_codes.CASES, **allowed.CASES, **tags.CASES,
}  # fmt: skip
NAMESPACES = ["unshare", "--mount", "--net"]


def prepare(endpoint):
    """What a case needs from the network, while there is one."""
    for need in [toolchain.librdkafka_command, *([kafka_rig.prepare] if endpoint == "kafka" else [])]:
        try:
            need()
        except (toolchain.Missing, toolchain.BuildError):
            pass  # Who needs it says so.


def enter_namespaces():
    """Starts this program again in namespaces of its own, if that is allowed."""
    for command in (NAMESPACES, [*NAMESPACES, "--user", "--map-root-user"]):
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            os.environ[IN_NAMESPACES] = "1"
            os.execvp(command[0], [*command, "--", sys.executable, *sys.argv])


def raise_loopback():
    """A new network namespace has a loopback that is down."""
    set_flags, up = 0x8914, 0x1
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH22x", b"lo", up))


def chosen(endpoint, report):
    """The cases at an endpoint, and what makes their rigs."""
    if endpoint == "ringmq":
        return CASES, Rig
    try:
        return AT_KAFKA, functools.partial(kafka_rig.KafkaRig, kafka_rig.prepare())
    except (toolchain.Missing, toolchain.BuildError) as reason:
        in_ci = os.environ.get("CI") == "true"
        (report.fail if in_ci else report.skip)("cases at Kafka", str(reason).splitlines()[0])
        return {}, Rig


def run(name, case, rig, report):
    started = time.monotonic()
    try:
        try:
            case(rig)
        finally:
            rig.close()
    except CaseSkipped as reason:
        must_run = os.environ.get("CI") == "true" and not reason.accepted
        (report.fail if must_run else report.skip)(name, reason)
        return
    # Whatever it is: the other cases run.
    except Exception as reason:
        report.fail(name, f"{type(reason).__name__}: {reason}", rig.brokers)
        return
    report.succeed(name, started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--case", default="", metavar="TEXT", help="only cases with this text in their name")
    parser.add_argument("--endpoint", choices=["ringmq", "kafka"], default="ringmq", help="which broker the cases run at")
    parser.add_argument("--binary", default=toolchain.default_binary(), help="the broker to start")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder with data and logs")
    args = parser.parse_args()
    if not os.environ.get(IN_NAMESPACES):
        prepare(args.endpoint)
        enter_namespaces()
    else:
        raise_loopback()

    # So that a stopped run leaves no broker behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report()
    folder = tempfile.mkdtemp(prefix="ringmq-system-")
    try:
        cases, rig_of = chosen(args.endpoint, report)
        for number, (name, case) in enumerate(cases.items()):
            if args.case not in name:
                continue
            rig = rig_of(os.path.abspath(args.binary), os.path.join(folder, str(number)))
            failed = report.failed
            run(name, case, rig, report)
            if not args.keep and report.failed == failed:
                shutil.rmtree(rig.folder)
    finally:
        if args.keep or report.failed:
            print(f"data and logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
