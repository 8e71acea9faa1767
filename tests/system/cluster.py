"""`ringmq bench` at two brokers: each is given and asked for what it leads, and nothing is lost between them.

At Apache Kafka these are two nodes; at RingMQ two logs of one process, each of which is a broker of its own. Whether
the numbers may be used depends on what else the machine does: that is not judged.
"""

import json
import os

from commands import Shell
from rig import check, equal

PARTITIONS = 4
LOAD = (
    "bench --no-report --quiet --warmup 0 --seconds 2 --rate 2k --record-bytes 100 --batch-records 10"
    f" --partitions {PARTITIONS}"
)
# Topic: how it is written and read, and how often each record is read.
LOADS = {
    "tail": ("--idempotent --consumers 3", 1),
    "members": ("--consumers 2 --groups 2 --group-protocol classic", 2),
    "afterwards": ("--verify --acks 1 --compression lz4", 1),
}
RECORDS = 4000
# After the load, what is overdue is waited for, and what was written is read.
LOAD_S_MAX = 120


def bench(rig):
    shell = Shell(rig, rig.cluster())
    for topic, (flags, groups) in LOADS.items():
        run = _result(rig, shell, f"--topic {topic} --connections 3 {flags}")
        equal((run["leaders"], run["errors"], run["unsent"]), (2, 0, 0), f"{topic}: leaders, errors, unsent")
        ledger = dict(run["ledger"])
        equal((ledger.pop("acked"), ledger.pop("read")), (RECORDS, RECORDS * groups), f"{topic}: acked and read")
        equal(set(ledger.values()), {0}, f"{topic}: faults in {ledger}")
        if run["group_work"] is not None:
            equal(run["group_work"]["offsets_wrong"], 0, "committed offsets that are not what was read")
        partitions = shell.finds(f"topic describe {topic}")["partitions"]
        equal(len({one["leader"] for one in partitions}), 2, f"{topic}: nodes that lead the partitions")
        ends = [one["end"] for one in partitions]
        equal((min(ends) > 0, sum(ends)), (True, RECORDS), f"{topic}: records in the partitions, {ends}")
    for few, enough in (("--connections 1", "--connections 2"), ("--connections 2 --consumers 1", "--consumers 2")):
        code, told, errors = shell.run(f"{LOAD} --topic few {few}", limit_s=LOAD_S_MAX)
        said = told.decode() + errors
        check(code == 1 and "led by 2 nodes" in said and f"give {enough} or more" in said, f"{few}: code {code}, {said}")


def _result(rig, shell, flags):
    """What its only run found."""
    path = os.path.join(rig.folder, "result.json")
    _, told, errors = shell.run(f"{LOAD} {flags} --json {path}", limit_s=LOAD_S_MAX)
    check(os.path.exists(path), f"{flags}: no result: {told.decode()}{errors}")
    with open(path, encoding="utf-8") as file:
        result = json.load(file)
    os.remove(path)
    check(len(result["runs"]) == 1, f"{flags}: {result['finding']}")
    return result["runs"][0]


# At any Kafka broker.
CASES = {"commands/bench at two brokers": bench}
