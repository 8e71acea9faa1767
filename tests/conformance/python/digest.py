"""The digest of a partition's records: the same bytes are hashed by every client program.

Per record: key, value, number of headers, and each header's name and value, each byte string led by its
length (big-endian u32; 0xffffffff is null). Timestamps (big-endian i64) go into a hash of their own,
since not every client can choose them. Order counts, and so does nothing that a client may change, such
as batching or compression.
"""

import hashlib
import struct

_U32 = struct.Struct(">I").pack
_I64 = struct.Struct(">q").pack
_NULL = b"\xff\xff\xff\xff"


class Digest:
    def __init__(self):
        self.count = 0
        self._records = hashlib.sha256()
        self._timestamps = hashlib.sha256()

    def add(self, key, value, headers, timestamp):
        parts = [_bytes(key), _bytes(value), _U32(len(headers))]
        for name, content in headers:
            parts.append(_bytes(name.encode()))
            parts.append(_bytes(content))
        self._records.update(b"".join(parts))
        self._timestamps.update(_I64(timestamp))
        self.count += 1

    def text(self):
        return f"{self.count} {self._records.hexdigest()} {self._timestamps.hexdigest()}"


def _bytes(content):
    return _NULL if content is None else _U32(len(content)) + content
