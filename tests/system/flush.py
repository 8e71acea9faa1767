"""Every group commit flushes the device: counted where the kernel counts it, in /proc/diskstats.

`kill -9` cannot tell a write from a durable write, since the page cache outlives the process. These counts can:
with `plain` commits, which do not flush, the same requests leave them where they were.
"""

import os

import wire
from rig import CaseSkipped, check, metric

REQUESTS = 200
# XFS is never smaller than 300 MB.
DISK_BYTES = 320 << 20
# In a line of /proc/diskstats: flush requests completed (Documentation/admin-guide/iostats.rst).
FLUSHES_FIELD = 18


def commits_that_flush(rig, mode):
    try:
        folder = rig.loop_disk(DISK_BYTES)
    except CaseSkipped:
        # Others may flush the disk behind the folder, too: that makes the count less sharp, not wrong.
        folder = rig.folder
    _each_flushes(rig, folder, mode)


def commits_that_flush_on_xfs(rig, mode):
    _each_flushes(rig, rig.loop_disk(DISK_BYTES, "xfs"), mode)


def _each_flushes(rig, folder, mode):
    commits, flushes = _count(rig, folder, mode)
    check(flushes >= commits, f"{commits} commits one after another, but only {flushes} flushes of the device")


def plain_commits_do_not(rig):
    """The control: without the sync the counts of the other cases would not be reached."""
    # A device of our own: nobody else's flushes are in its counts.
    commits, flushes = _count(rig, rig.loop_disk(DISK_BYTES), "plain")
    # Idle moments write the manifest, and the file system's journal its own blocks.
    check(flushes < commits / 4, f"{flushes} flushes for {commits} plain commits: what do the others prove?")


def _count(rig, folder, mode):
    """Commits of the log and flushes of the device for single requests, each sent when the last was answered."""
    device = _device(folder, mode)
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


def _device(folder, mode):
    """The block device behind a folder, if the kernel must send it a flush for each commit."""
    number = os.stat(folder).st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    queue = os.path.join(os.path.realpath(f"/sys/dev/block/{device}"), "queue")
    if not os.path.exists(queue):
        # A partition has the queue of its disk.
        queue = os.path.join(os.path.dirname(os.path.dirname(queue)), "queue")
    if not os.path.exists(queue):
        raise CaseSkipped(f"no block device is behind {folder}", "flush counts")
    cache, fua = (_text(os.path.join(queue, name)) for name in ("write_cache", "fua"))
    if cache != "write back":
        raise CaseSkipped(f"the device has no volatile cache ({cache}): no flush is sent", "flush counts")
    if mode == "dsync" and fua == "1":
        raise CaseSkipped("the device has FUA: a dsync write is one command without a flush", "flush counts")
    return device


def _text(path):
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def _flushes(device):
    with open("/proc/diskstats", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if f"{fields[0]}:{fields[1]}" == device:
                if len(fields) <= FLUSHES_FIELD:
                    raise CaseSkipped("this kernel does not count flushes (Linux 5.5 does)", "flush counts")
                return int(fields[FLUSHES_FIELD])
    raise CaseSkipped(f"/proc/diskstats does not know the device {device}", "flush counts")


CASES = {
    "flush/dsync": lambda rig: commits_that_flush(rig, "dsync"),
    "flush/write-sync": lambda rig: commits_that_flush(rig, "write-sync"),
    "flush/dsync on XFS": lambda rig: commits_that_flush_on_xfs(rig, "dsync"),
    "flush/write-sync on XFS": lambda rig: commits_that_flush_on_xfs(rig, "write-sync"),
    "flush/control without a sync": plain_commits_do_not,
}
