"""Data directories that must not be opened, and kernels that will not do: refused with an exit code and a sentence that says what to do."""

import contextlib
import errno
import os
import shlex
import shutil
import struct
import subprocess
import sys

import wire
from rig import CaseSkipped, check, equal, until

FORBID = os.path.join(os.path.dirname(os.path.abspath(__file__)), "forbid.py")
# docs/FORMATS.md, Manifest.
VERSION_AT, SEQUENCE_AT, COUNT_AT, SEGMENTS_AT, SEGMENT_BYTES = 4, 8, 60, 64, 24


def refused(broker, *words):
    """Each of `words` must be in what the broker says."""
    code, text = broker.refusal()
    check(code != 0, f"it says {text!r}, but ends with code 0")
    for word in words:
        check(word in text, f"{word!r} is not in what it says: {text!r}")


def _written(rig, shards=1):
    """A broker that was stopped, with a record in it."""
    broker = rig.running(shards)
    with wire.Client(broker.kafka) as client:
        client.create_topic("t")
        client.produce("t", 0, wire.batch([b"value"]))
    broker.stop()
    return broker


def _opens_again(broker):
    broker.start()
    with wire.Client(broker.kafka) as client:
        equal(list(client.read_all("t", 0)), [(0, b"value")], "what was written before")
    broker.stop()


def newer_format(rig):
    broker = _written(rig)
    path = os.path.join(broker.data_dir, "broker.toml")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    check("format_version = 1\n" in text, "broker.toml does not tell its format")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("format_version = 1\n", "format_version = 77\n"))
    refused(broker, "77", broker.data_dir, "use")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    _opens_again(broker)


def lost_broker_file(rig):
    """A directory whose broker.toml is gone is no new directory."""
    broker = _written(rig)
    with _aside(rig, os.path.join(broker.data_dir, "broker.toml")):
        there = _all_files(broker.data_dir)
        refused(broker, "log-0", "broker.toml", "restore", broker.data_dir)
        equal(_all_files(broker.data_dir), there, "what is in the directory")
    _opens_again(broker)


def folder_of_others(rig):
    folder = os.path.join(rig.folder, "mine")
    os.makedirs(os.path.join(folder, "log-photos", "2024"))
    for name in ("log-photos/2024/x.jpg", "log-file.txt"):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(name)
    there = _all_files(folder)
    refused(rig.broker(data_dir=folder), "log-photos", "log-file.txt", "--data-dir", folder)
    equal(_all_files(folder), there, "what is in the folder")


def mount_point(rig):
    """A file system of one's own has a lost+found, a service's home has hidden files: no reason to refuse."""
    folder = os.path.join(rig.folder, "mounted")
    os.makedirs(os.path.join(folder, "lost+found"))
    with open(os.path.join(folder, ".profile"), "w", encoding="utf-8"):
        pass
    broker = rig.running(data_dir=folder)
    broker.stop()
    names = {"lost+found", ".profile", "LOCK", "broker.toml", "log-0", "log-1"}
    equal(set(os.listdir(folder)), names, "what is in the folder")


def making_that_was_killed(rig):
    """Killed as soon as one more file or folder is there, each time in the same directory."""
    broker = rig.broker(shards=3)
    # LOCK, FORMATTING and the logs; or the logs and what is there in the end.
    for entries in range(1, 7):
        broker.spawn()
        until(lambda count=entries: _count(broker.data_dir) >= count, f"no {entries} files are there")
        broker.kill()
    broker.start()
    names = {"LOCK", "broker.toml", *(f"log-{log}" for log in range(4))}
    equal(set(_seen(broker.data_dir)), names, "what is in the directory")
    with wire.Client(broker.kafka) as client:
        client.create_topic("t")
        client.produce("t", 0, wire.batch([b"value"]))
    broker.stop()
    _opens_again(broker)


def _count(folder):
    return len(_seen(folder)) if os.path.isdir(folder) else 0


def _seen(folder):
    """A broker that was killed may have left the hidden file behind with which it tries direct IO."""
    return [name for name in os.listdir(folder) if not name.startswith(".")]


def _all_files(folder):
    return sorted(os.path.join(path, name) for path, folders, files in os.walk(folder) for name in folders + files)


@contextlib.contextmanager
def _aside(rig, path):
    """Without that file or folder."""
    # Out of the data directory, wherever it lay there.
    moved = os.path.join(rig.folder, f"aside-{os.path.basename(path)}")
    os.rename(path, moved)
    yield
    os.rename(moved, path)


def another_number_of_logs(rig):
    """With fewer than the catalog knows, a client's request would be for a log that nobody has."""
    broker = _written(rig, shards=2)
    for count, words in (("1", ("logs = 1", "log 2")), ("3", ("log-3 is missing",))):
        with _changed(os.path.join(broker.data_dir, "broker.toml"), "logs = 2\n", f"logs = {count}\n"):
            refused(broker, "broker.toml", "estore", broker.data_dir, *words)
    _opens_again(broker)


def damaged_broker_file(rig):
    broker = _written(rig)
    path = os.path.join(broker.data_dir, "broker.toml")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for damaged in ("", text[: len(text) // 2], text.replace("logs = 1", "logs = 0")):
        with _changed(path, text, damaged):
            refused(broker, path, "damaged", "restore")
    _opens_again(broker)


@contextlib.contextmanager
def _changed(path, old, new):
    """With other text in that file."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    check(old in text, f"no {old!r} in {path}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(old, new))
    yield
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def missing_files(rig):
    """They are named."""
    broker = _written(rig)
    for name in ("log-1", "log-1/00000001.segment"):
        path = os.path.join(broker.data_dir, name)
        with _aside(rig, path):
            refused(broker, path, "estore")
    _opens_again(broker)


def newer_manifest(rig):
    broker = _written(rig)
    path = _manifest(broker)
    with open(path, "rb") as file:
        good = file.read()
    with open(path, "wb") as file:
        file.write(_of_version(good, 77))
    refused(broker, "77", "newer")
    with open(path, "wb") as file:
        file.write(good)
    _opens_again(broker)


def _manifest(broker):
    """The copy that counts, of the first log of partitions."""
    folder = os.path.join(broker.data_dir, "log-1")
    copies = []
    for name in ("manifest-0", "manifest-1"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, "rb") as file:
                copies.append((struct.unpack_from("<Q", file.read(), SEQUENCE_AT)[0], path))
    return max(copies)[1]


def _of_version(manifest, version):
    changed = bytearray(manifest)
    struct.pack_into("<H", changed, VERSION_AT, version)
    end = SEGMENTS_AT + struct.unpack_from("<I", changed, COUNT_AT)[0] * SEGMENT_BYTES
    equal(struct.unpack_from("<I", manifest, end)[0], wire.crc32c(manifest[:end]), "the manifest's checksum")
    struct.pack_into("<I", changed, end, wire.crc32c(changed[:end]))
    return changed


def another_broker(rig):
    """A log that was copied from another broker's directory."""
    mine, other = _written(rig), _written(rig)
    log = os.path.join(mine.data_dir, "log-1")
    aside = os.path.join(rig.folder, "aside")
    os.rename(log, aside)
    shutil.copytree(os.path.join(other.data_dir, "log-1"), log)
    refused(mine, "another broker", "log-1")
    shutil.rmtree(log)
    os.rename(aside, log)
    _opens_again(mine)


def in_use(rig):
    first = rig.running()
    second = rig.broker(data_dir=first.data_dir)
    refused(second, "in use", str(first.pid), "--data-dir", first.data_dir)
    check(first.is_ready(), "the first broker is disturbed")
    # One that was killed leaves nothing that would have to be removed by hand.
    first.kill()
    second.start()
    second.stop()


def no_direct_io(rig):
    """ramfs is nothing but page cache, on any kernel."""
    folder = rig.mount("ramfs")
    try:
        os.close(os.open(os.path.join(folder, "probe"), os.O_RDWR | os.O_CREAT | os.O_DIRECT))
    except OSError:
        refused(rig.broker(data_dir=os.path.join(folder, "data")), "direct IO", "ext4", folder)
    else:
        raise CaseSkipped("ramfs can do direct IO here", "a refusal")


def copy_on_write(rig):
    """Direct IO works there; what is overwritten in place comes to lie elsewhere."""
    folder = rig.loop_disk(256 << 20, "btrfs")
    refused(rig.broker(data_dir=os.path.join(folder, "data")), "copy-on-write", "btrfs", "XFS or ext4", folder)


def io_uring_that_is_forbidden(rig):
    for error, *words in [
        (errno.EPERM, "forbidden", "seccomp", "io_uring_setup", "--security-opt"),
        (errno.ENOSYS, "without io_uring", "CONFIG_IO_URING"),
        (errno.ENOMEM, "locked memory", "ulimit -l", "LimitMEMLOCK"),
    ]:
        _refused_without_a_trace(rig, error, *words)


def io_uring_that_is_disabled(rig):
    for value in ("1", "2"):
        rig.pretend("/proc/sys/kernel/io_uring_disabled", value + "\n")
        found, fix = f"kernel.io_uring_disabled = {value}", "sysctl -w kernel.io_uring_disabled=0"
        _refused_without_a_trace(rig, errno.EPERM, "disabled", found, fix, "kernel.io_uring_group")


def kernel_that_is_too_old(rig):
    rig.pretend("/proc/sys/kernel/osrelease", "5.15.0-91-generic\n")
    _refused_without_a_trace(rig, None, "5.15.0-91-generic", "6.1", "newer kernel")


def _refused_without_a_trace(rig, error, *words):
    """`error`: with which the kernel refuses io_uring."""
    broker = rig.broker() if error is None else _without_io_uring(rig, error)
    refused(broker, *words)
    check(not os.path.exists(broker.data_dir), "a directory was made all the same")


def _without_io_uring(rig, error):
    forbid = [sys.executable, FORBID, str(error)]
    tried = subprocess.run([*forbid, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        raise CaseSkipped(f"no system call can be forbidden here: {tried.stderr.strip()}", "a refusal")
    broker = rig.broker()
    script = os.path.join(broker.directory, "forbidden")
    with open(script, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\nexec {shlex.join([*forbid, rig.binary])} "$@"\n')
    os.chmod(script, 0o700)
    broker.binary = script
    return broker


def port_that_is_taken(rig):
    """Found before anything is written."""
    first, second = rig.running(), rig.broker()
    second.kafka = first.kafka
    refused(second, first.kafka, "--kafka-listen")
    check(not os.path.exists(os.path.join(second.data_dir, "broker.toml")), "a directory was made all the same")
    check(first.is_ready(), "the first broker is disturbed")


def configurations(rig):
    """Code 78 whatever is wrong, so that a supervisor does not try again; `config check` says the same."""
    missing, latin = os.path.join(rig.folder, "missing.toml"), os.path.join(rig.folder, "latin.toml")
    with open(latin, "wb") as file:
        file.write(b"# caf\xe9\n")
    data_dir = os.path.join(rig.folder, "data")
    table = [
        (["-c", missing], {}, "flag --config", missing),
        (["-c", latin], {}, "flag --config", latin),
        ([], {"RINGMQ_CONFIG": missing}, "environment RINGMQ_CONFIG", missing),
        ([], {"RINGMQ_SHARDS": "1"}, "RINGMQ_SERVER__SHARDS", "section"),
        (["--cpus", "8191"], {}, "server.cpus", "8191"),
        (["--cpus", "0,0"], {}, "flag --cpus", "CPU 0 twice"),
    ]
    for arguments, variables, *words in table:
        for command in (["server"], ["config", "check"]):
            done = subprocess.run(
                [rig.binary, *command, "--data-dir", data_dir, *arguments],
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=30,
            )
            what = f"{command} {arguments} {variables}"
            equal(done.returncode, 78, f"exit code of {what}; it said {done.stderr!r}")
            for word in words:
                check(word in done.stderr, f"{word!r} is not in what {what} says: {done.stderr!r}")
    check(not os.path.exists(data_dir), "a directory was made all the same")


CASES = {
    "refused/a newer format": newer_format,
    "refused/a lost broker.toml": lost_broker_file,
    "refused/a damaged broker.toml": damaged_broker_file,
    "refused/another number of logs": another_number_of_logs,
    "refused/missing files": missing_files,
    "refused/a folder of others": folder_of_others,
    "refused/a mount point is not": mount_point,
    "refused/making that was killed is not": making_that_was_killed,
    "refused/a newer manifest": newer_manifest,
    "refused/a log of another broker": another_broker,
    "refused/a directory in use": in_use,
    "refused/a file system without direct IO": no_direct_io,
    "refused/a copy-on-write file system": copy_on_write,
    "refused/io_uring forbidden": io_uring_that_is_forbidden,
    "refused/io_uring disabled": io_uring_that_is_disabled,
    "refused/an old kernel": kernel_that_is_too_old,
    "refused/a port that is taken": port_that_is_taken,
    "refused/configurations": configurations,
}
