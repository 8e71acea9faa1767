"""The broker as the machine sees it: where its threads may run, what it costs while nothing happens, what it holds."""

import contextlib
import os
import time

import wire
from rig import check, equal, until

# Nothing happens for so long, and of that a core may be busy for this share. The rest is a second's housekeeping.
IDLE_S = 1
IDLE_SHARE_MAX = 0.2
PARTITIONS = 1000


def threads_and_cpus(rig):
    """Each shard has its CPU to itself, as far as there are others for whoever works beside it."""
    allowed = sorted(os.sched_getaffinity(0))
    ours = allowed[-1]
    others = set(allowed[:-1]) or {ours}
    _check_places(rig, [ours], others)
    # The second round has a CPU left only where there are three.
    _check_places(rig, allowed[:2], set(allowed[2:]) or set(allowed))


def _check_places(rig, shard_cpus, others):
    cpus = ",".join(map(str, shard_cpus))
    # What touches the caches is near its shard, and soon over.
    broker = rig.running(len(shard_cpus), [f"server.cpus={cpus}", "log.pretouch=false"])

    def misplaced():
        wanted = {f"shard-{shard}": [{cpu}] for shard, cpu in enumerate(shard_cpus)}
        found = {}
        for task, name, places in _threads(broker):
            # The main thread waits for signals; the kernel's own threads serve rings.
            if task != broker.pid and not name.startswith("iou-"):
                found.setdefault(name, []).append(places)
        lacking = {"admin", "background", *wanted} - found.keys()
        wrong = {
            name: places
            for name, places in found.items()
            if places != wanted.get(name, places) or (name not in wanted and not all(one <= others for one in places))
        }
        return lacking or wrong

    until(lambda: not misplaced(), lambda: f"with shards on {cpus} there are threads out of place: {misplaced()}")
    broker.stop()


def _threads(broker):
    """The number and the name of each, and the CPUs that it may run on."""
    for task in map(int, os.listdir(f"/proc/{broker.pid}/task")):
        # It may end meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield task, _name(broker, task), os.sched_getaffinity(task)


def _name(broker, task):
    with open(f"/proc/{broker.pid}/task/{task}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip()


def what_idle_shards_cost(rig):
    """A core each in `busy`, and next to nothing in the others."""
    for mode in ("block", "adaptive", "busy"):
        broker = rig.running(settings=[f"server.poll={mode}", "log.pretouch=false"])
        with wire.Client(broker.kafka) as client:
            client.create_topic("t")
            client.produce("t", 0, wire.batch([b"value"]))
            equal(list(client.read_all("t", 0)), [(0, b"value")], f"records in mode {mode}")
        before_s = _shard_s(broker)
        if mode == "busy":
            # On a machine that others use, too.
            until(lambda: _shard_s(broker) - before_s > IDLE_S / 2, "a shard that never sleeps sleeps")
        else:
            # It has at least one such while with nothing to do.
            until(lambda: _share_of_a_while(broker) < IDLE_SHARE_MAX, f"in mode {mode} an idle shard does not rest")
        broker.stop()


def _share_of_a_while(broker):
    began, before_s = time.monotonic(), _shard_s(broker)
    time.sleep(IDLE_S)
    return (_shard_s(broker) - before_s) / (time.monotonic() - began)


def _shard_s(broker):
    """How long the first shard has run."""
    (task,) = (task for task, name, _ in _threads(broker) if name == "shard-0")
    with open(f"/proc/{broker.pid}/task/{task}/stat", encoding="utf-8", errors="replace") as file:
        # Behind the name; user and system time are the fields 14 and 15 of proc_pid_stat(5).
        fields = file.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def nothing_for_each_partition(rig):
    """Neither a file, nor a descriptor, nor a mapping: all partitions of a shard are in its logs."""
    broker = rig.running(shards=2, settings=["log.pretouch=false"])
    with wire.Client(broker.kafka) as client:
        client.create_topic("one")
        client.produce("one", 0, wire.batch([b"value"]))
        before = _held(broker)
        client.create_topic("many", PARTITIONS)
        for partition in range(PARTITIONS):
            client.produce("many", partition, wire.batch([b"value"]))
        after = _held(broker)
    for what, count in after.items():
        # Segments and the allocator's arenas come and go.
        more = count - before[what]
        check(more < PARTITIONS // 10, f"{PARTITIONS} partitions that were written to take {more} {what}")


def _held(broker):
    with open(f"/proc/{broker.pid}/maps", encoding="utf-8", errors="replace") as file:
        mappings = sum(1 for _ in file)
    return {
        "descriptors": len(os.listdir(f"/proc/{broker.pid}/fd")),
        "mappings": mappings,
        "files": sum(len(names) for _, _, names in os.walk(broker.data_dir)),
    }


CASES = {
    "process/threads and CPUs": threads_and_cpus,
    "process/idle shards": what_idle_shards_cost,
    "process/many partitions": nothing_for_each_partition,
}
