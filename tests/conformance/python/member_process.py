"""A member of a group in a process of its own, made to be killed: the one side runs it, the other is its program."""

import subprocess
import sys
import threading


class MemberProcess:
    """Runs a program that calls `tell`. Among other members it is one that polls by itself; the block's end kills it."""

    def __init__(self, *command):
        self._owned = set()
        self._process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._follow)
        self._reader.start()

    def _follow(self):
        for line in self._process.stdout:
            self._owned = {int(partition) for partition in line.split(",") if partition.strip()}

    def assigned(self):
        """What it told last, also when it is dead."""
        return self._owned

    def poll(self, wait_s=0):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()


def tell(member):
    """Polls until it is killed, and prints which partitions the member owns each time that they change."""
    told = set()
    while True:
        member.poll(0.02)
        owned = set(member.assigned())
        if owned != told:
            told = owned
            print(",".join(map(str, sorted(owned))), flush=True)
