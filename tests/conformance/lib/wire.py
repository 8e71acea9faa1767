"""Two requests by hand, for what the runner asks in nobody's name."""

import socket
import struct

TIMEOUT_S = 10


class Refused(Exception):
    """The broker answered with an error."""


def ask_versions(address):
    """(key, first, last) of each API: ApiVersions, version 0."""
    body = _ask(address, 18, 0, b"")
    error, count = struct.unpack_from(">hi", body)
    if error != 0:
        raise Refused(f"ApiVersions answered with error {error}")
    return [struct.unpack_from(">hhh", body, 6 + 6 * i) for i in range(count)]


def create_topic(address, topic, partitions):
    """CreateTopics, version 2: one topic with one replica, and neither assignments nor configs."""
    asked = struct.pack(">i", 1) + _string(topic) + struct.pack(">ihii", partitions, 1, 0, 0)
    body = _ask(address, 19, 2, asked + struct.pack(">i?", TIMEOUT_S * 1000, False))
    # The throttle time, one topic, and its name.
    (error,) = struct.unpack_from(">h", body, 8 + len(_string(topic)))
    if error != 0:
        raise Refused(f"the creation of {topic} was answered with error {error}")


def _ask(address, key, version, body):
    """The answer to a request with header version 1, without the correlation id."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        request = struct.pack(">hhih", key, version, 1, -1) + body
        connection.sendall(struct.pack(">i", len(request)) + request)
        reply = connection.makefile("rb")
        (length,) = struct.unpack(">i", reply.read(4))
        return reply.read(length)[4:]


def _string(text):
    return struct.pack(">h", len(text)) + text.encode()
