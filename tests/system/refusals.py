"""Data directories that must not be opened: refused with an exit code and a sentence that says what to do."""

import os
import shutil
import struct

import wire
from rig import CaseSkipped, check, equal

# docs/FORMATS.md, Manifest.
VERSION_AT, SEQUENCE_AT, COUNT_AT, SEGMENTS_AT, SEGMENT_BYTES = 4, 8, 60, 64, 24


def refused(broker, *words):
    """Each of `words` must be in what the broker says."""
    code, text = broker.refusal()
    check(code != 0, f"it says {text!r}, but ends with code 0")
    for word in words:
        check(word in text, f"{word!r} is not in what it says: {text!r}")


def _written(rig):
    """A broker that was stopped, with a record in it."""
    broker = rig.running()
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
        raise CaseSkipped("ramfs can do direct IO here")


def port_that_is_taken(rig):
    """Found before anything is written."""
    first, second = rig.running(), rig.broker()
    second.kafka = first.kafka
    refused(second, first.kafka, "--kafka-listen")
    check(not os.path.exists(os.path.join(second.data_dir, "broker.toml")), "a directory was made all the same")
    check(first.is_ready(), "the first broker is disturbed")


CASES = {
    "refused/a newer format": newer_format,
    "refused/a newer manifest": newer_manifest,
    "refused/a log of another broker": another_broker,
    "refused/a directory in use": in_use,
    "refused/a file system without direct IO": no_direct_io,
    "refused/a port that is taken": port_that_is_taken,
}
