"""Waits for the broker to touch one of its files: inotify, by libc."""

import ctypes
import os
import select
import struct
import time

IN_MODIFY, IN_CREATE, IN_OPEN = 0x2, 0x100, 0x20
# wd, mask, cookie, length of the name that follows.
EVENT = struct.Struct("iIII")


class Watch:
    """Opens and writes of files in some folders, from its making on."""

    def __init__(self, folders):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        for folder in folders:
            mask = IN_MODIFY | IN_CREATE | IN_OPEN
            if self._libc.inotify_add_watch(self._fd, folder.encode(), mask) < 0:
                raise OSError(ctypes.get_errno(), f"inotify_add_watch {folder}")

    def await_file(self, prefix, limit_s):
        """Returns the name of the first file that begins with `prefix` and is touched; None after limit_s."""
        deadline = time.monotonic() + limit_s
        while (left_s := deadline - time.monotonic()) > 0:
            if not select.select([self._fd], [], [], left_s)[0]:
                break
            for name in self._names():
                if name.startswith(prefix):
                    return name
        return None

    def _names(self):
        events, at = os.read(self._fd, 65536), 0
        while at < len(events):
            _, _, _, length = EVENT.unpack_from(events, at)
            at += EVENT.size
            yield events[at : at + length].rstrip(b"\0").decode()
            at += length

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._fd)
