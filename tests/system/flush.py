"""Every group commit flushes the device: counted where the kernel counts it, in /proc/diskstats.

`kill -9` cannot tell a write from a durable write, since the page cache outlives the process. These counts can:
with `plain` commits, which do not flush, the same requests leave them where they were.
"""

import os

import wire
from rig import CaseSkipped, check, metric

REQUESTS = 200
# In a line of /proc/diskstats: flush requests completed (Documentation/admin-guide/iostats.rst).
FLUSHES_FIELD = 18


def commits_that_flush(rig, mode):
    commits, flushes = _count(rig, mode)
    check(flushes >= commits, f"{commits} commits one after another, but only {flushes} flushes of the device")


def plain_commits_do_not(rig):
    """The control: without the sync the counts of the other cases would not be reached."""
    commits, flushes = _count(rig, "plain")
    # Idle moments write the manifest, and the file system's journal its own blocks.
    check(flushes < commits / 4, f"{flushes} flushes for {commits} plain commits: what do the others prove?")


def _count(rig, mode):
    """Commits of the log and flushes of the device for single requests, each sent when the last was answered."""
    # A device of our own: nobody else's flushes are in its counts. Without the cache that a flush would
    # empty, the kernel would drop the flushes.
    folder = rig.loop_disk(256 << 20)
    device = _device(folder)
    settings = [f"log.commit_mode={mode}", "log.commit_depth=1", "log.initial_bytes=64MiB", "log.segments_ahead=1"]
    broker = rig.running(settings=settings, data_dir=os.path.join(folder, "data"))
    with wire.Client(broker.kafka) as client:
        client.create_topic("t")
        client.produce("t", 0, wire.batch([b"the partition is opened"]))
        before = _commits(broker), _flushes(device)
        for number in range(REQUESTS):
            client.produce("t", 0, wire.batch([b"%d" % number]))
        after = _commits(broker), _flushes(device)
    commits, flushes = (now - then for now, then in zip(after, before, strict=True))
    check(commits >= REQUESTS, f"{REQUESTS} requests one after another, but only {commits} commits")
    return commits, flushes


def _commits(broker):
    return int(metric(broker, "ringmq_log_write_seconds_count"))


def _device(folder):
    """The block device behind a folder, if it has a volatile cache to flush."""
    number = os.stat(folder).st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    try:
        with open(f"/sys/dev/block/{device}/queue/write_cache", encoding="ascii") as file:
            cache = file.read().strip()
    except FileNotFoundError:
        raise CaseSkipped(f"no block device is behind {folder}") from None
    if cache != "write back":
        raise CaseSkipped(f"the loop device has no write cache to flush ({cache})")
    return device


def _flushes(device):
    with open("/proc/diskstats", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if f"{fields[0]}:{fields[1]}" == device:
                if len(fields) <= FLUSHES_FIELD:
                    raise CaseSkipped("this kernel does not count flushes (Linux 5.5 does)")
                return int(fields[FLUSHES_FIELD])
    raise CaseSkipped(f"/proc/diskstats does not know the device {device}")


CASES = {
    "flush/dsync": lambda rig: commits_that_flush(rig, "dsync"),
    "flush/write-sync": lambda rig: commits_that_flush(rig, "write-sync"),
    "flush/control without a sync": plain_commits_do_not,
}
