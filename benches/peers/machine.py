"""The machine: what it is, what else it does while we measure, and when its disk is at rest."""

import os
import platform
import time

QUIET_S = 2.0
SETTLE_S_MAX = 8.0
POLL_S = 0.1
WRITEBACK = (
    "dirty_background_ratio", "dirty_background_bytes", "dirty_ratio", "dirty_bytes",
    "dirty_expire_centisecs", "dirty_writeback_centisecs",
)  # fmt: skip


def facts(folder):
    """Name and value of what numbers depend on, as far as the machine says it."""
    disk = _disk(folder)
    mount = _mount(folder)
    known = {
        "kernel": platform.release(),
        "processor": _field("/proc/cpuinfo", "model name"),
        "cores": str(len(os.sched_getaffinity(0))),
        "governor": _line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "none: no frequency scaling",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "transparent huge pages": _chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "file system": mount.get("type"),
        "mount options": mount.get("options"),
        "device": mount.get("source"),
        "I/O scheduler": disk and _chosen(f"{disk}/queue/scheduler"),
        "write cache": disk and _line(f"{disk}/queue/write_cache"),
        "FUA": disk and {"1": "yes", "0": "no"}.get(_line(f"{disk}/queue/fua")),
        # When the kernel begins to write out what a broker left in the page cache, and when it lets the broker wait.
        **{f"vm.{name}": _line(f"/proc/sys/vm/{name}") for name in WRITEBACK},
    }
    return {name: value for name, value in known.items() if value}


def load_average():
    return float(_line("/proc/loadavg").split()[0])


class Times:
    """Processor time of the whole machine so far, in ticks."""

    def __init__(self):
        with open("/proc/stat", encoding="ascii") as file:
            # user nice system idle iowait irq softirq steal: proc_stat(5)
            fields = [int(field) for field in file.readline().split()[1:9]]
        self.total, self.idle, self.stolen = sum(fields), fields[3] + fields[4], fields[7]

    def steal_share(self, before):
        """Of the time since `before`, the share in which the hypervisor ran somebody else."""
        return (self.stolen - before.stolen) / max(self.total - before.total, 1)

    def busy_share(self, before):
        return 1 - (self.idle - before.idle) / max(self.total - before.total, 1)


def settle(folder):
    """Returns when the disk under `folder` has had nothing to do for two seconds, or after 8 s.

    What the last run left to be written or discarded would be charged to the next.
    """
    os.sync()
    disk = _disk(folder)
    stat = disk and f"{disk}/stat"
    deadline = time.monotonic() + SETTLE_S_MAX
    seen, since = None, time.monotonic()
    while time.monotonic() < deadline:
        now = _line(stat).split() if stat else []
        # Completed writes and discards, requests in flight: the kernel's Documentation/block/stat.rst.
        now = [now[field] for field in (4, 8, 11) if field < len(now)]
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since >= QUIET_S:
            return
        time.sleep(POLL_S)


def cpu_list(text):
    """`0-1,3` as numbers."""
    cpus = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def _device(folder):
    number = os.stat(folder).st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def _disk(folder):
    """The folder of /sys of the disk that `folder` lies on: a partition's queue is its disk's."""
    node = os.path.realpath(f"/sys/dev/block/{_device(folder)}")
    for candidate in (node, os.path.dirname(node)):
        if os.path.exists(os.path.join(candidate, "queue")):
            return candidate
    return None


def _mount(folder):
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            before, after = before.split(), after.split()
            if before[2] == _device(folder):
                return {"type": after[0], "source": after[1], "options": f"{before[5]},{after[2]}"}
    return {}


def _line(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _field(path, name):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith(name)), "")
    except OSError:
        return ""


def _chosen(path):
    """The word in brackets, where a file of /sys lists the choices."""
    text = _line(path)
    return text.partition("[")[2].partition("]")[0] or text
