"""RingMQ as it comes: one shard a core, acks after the write is on stable storage."""

import subprocess

from lib.broker import Broker

from .peer import Peer, Variant


class RingMQ(Peer):
    name = "RingMQ"
    variants = (Variant("ringmq", "durable: on stable storage before the ack"),)
    recycles = True

    def __init__(self, binary):
        self._binary = binary
        self._version = None

    def prepare(self):
        done = subprocess.run([self._binary, "--version"], capture_output=True, text=True, check=True)
        self._version = done.stdout.split()[-1]

    def version(self):
        return self._version

    def configuration(self, variant, cpus):
        flags = " ".join(_flags(cpus))
        printed = subprocess.run([self._binary, "config", "print"], capture_output=True, text=True, check=True)
        return f"ringmq server --shards {len(cpus)} {flags}\n\nwhat `ringmq config print` says besides:\n{printed.stdout}"

    def server(self, variant, folder, cpus):
        return Broker(self._binary, folder, shards=len(cpus), extra_args=_flags(cpus))


def _flags(cpus):
    return ["--cpus", ",".join(map(str, cpus))]
