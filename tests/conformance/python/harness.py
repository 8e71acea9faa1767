"""What the client programs in Python share: failing, the records that are sent, and the runner's lines.

../lib/worker.py describes those lines. A case is a function of its name; it fails by raising, and returns
the values that the runner compares, or None.
"""

import random
import sys
import traceback

PARTITIONS = 3
WAIT_S = 60
# 2023-11-14: any fixed past time will do; it must only not be "now".
T0_MS = 1_700_000_000_000


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def equal(got, expected, what):
    check(got == expected, f"{what}: got {str(got)[:200]!r}, expected {str(expected)[:200]!r}")


def restart(how):
    """Has the runner restart the broker: "term" or "kill"."""
    print(f"restart\t{how}", flush=True)
    equal(sys.stdin.readline(), "done\n", "the runner's answer")


def sample_records(count, partitions=PARTITIONS, seed=1):
    """(partition, key, value, headers, timestamp), of every kind: null, empty, binary, text, compressible."""
    rng = random.Random(seed)
    records = []
    for i in range(count):
        key = [None, b"", f"key-{i}".encode(), rng.randbytes(rng.randrange(40))][i % 4]
        value = [
            None,
            b"",
            rng.randbytes(rng.randrange(2000)),
            f"value {i} ".encode() * rng.randrange(500),
            f"value {i}".encode(),
        ][i % 5]
        headers = [
            [],
            [("trace", f"t-{i}".encode())],
            [("null", None), ("empty", b""), ("binary", rng.randbytes(16))],
            [("twice", b"1"), ("twice", b"2"), ("größe", "ünï".encode())],
        ][i % 4]
        records.append((i % partitions, key, value, headers, T0_MS + i * 10))
    return records


def matrix_records(client):
    """One side of the cross matrix: what a client writes under its name."""
    records = []
    for i in range(300):
        key = [None, b"", b"key-%d" % i][i % 3]
        value = [None, b"", b"%s %d " % (client.encode(), i) * (i % 50), bytes(range(256))][i % 4]
        headers = [[], [("a", b"%d" % i), ("b", b"")], [("a", b"x"), ("a", b"y")]][i % 3]
        records.append((i // 7 % PARTITIONS, key, value, headers, T0_MS + i))
    return records


def serve(cases):
    """Reads the runner's lines and runs the cases that they name."""
    for line in sys.stdin:
        _, name, bootstrap, topic, *pairs = line.rstrip("\n").split("\t")
        case = cases.get(name)
        if case is None:
            print("fail\tnot a case of this client", flush=True)
            continue
        try:
            values = case(bootstrap, topic, **dict(pair.split("=", 1) for pair in pairs))
        except Exception as failure:  # Whatever a client library raises is a failure of the case.
            traceback.print_exc()
            text = " ".join(f"{type(failure).__name__}: {failure}".split())
            print(f"fail\t{text[:600]}", flush=True)
            continue
        for key, value in (values or {}).items():
            print(f"value\t{key}\t{value}")
        print("ok", flush=True)
