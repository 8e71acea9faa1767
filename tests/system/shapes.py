"""Requests and responses by the shapes of their fields, classic or flexible from the same words.

A shape has a word for each field: `b`, `h`, `i`, `q` are numbers of 1, 2, 4 and 8 bytes, `s` is a string, `n` one that
may be null, `y` bytes, `u` a topic's id, `e` an error code; `*i` is an array of such, `[s i]` one of structs. Values
are given, and found, in lists as deep as that; None is an array that is null.
"""

import struct
from typing import NamedTuple

import wire

NUMBERS = {"b": "b", "h": "h", "i": "i", "q": "q", "e": "h"}
# How a flexible struct ends that has no tagged fields, and one that has some that nobody knows.
NO_TAGS = b"\0"
UNKNOWN_TAGS = b"\2" + wire.unsigned_varint(77) + b"\3abc" + wire.unsigned_varint(1_000_000) + b"\0"

# The first version that is flexible, None where none is yet; then the shapes, by the versions that have them.
SHAPES = {
    wire.PRODUCE: (9, {
        (8, 9): ("n h i [s [i y]]", "[s [i e q q q [i n] n]] i"),
    }),
    wire.FETCH: (12, {
        (12, 12): ("i i i i b i i [s [i i q i q i]] [s *i] s", "i e i [s [i e q q q [q q] i y]]"),
    }),
    wire.LIST_OFFSETS: (6, {
        (4, 9): ("i b [s [i i q]]", "i [s [i e q q i]]"),
        (10, 11): ("i b [s [i i q]] i", "i [s [i e q q i]]"),
    }),
    wire.METADATA: (9, {
        (8, 9): ("[s] b b b", "i [i s i n] n i [e s b [e i i i *i *i *i] i] i"),
        (12, 12): ("[u n] b b", "i [i s i n] n i [e n u b [e i i i *i *i *i] i]"),
    }),
    wire.OFFSET_COMMIT: (8, {
        (7, 9): ("s i s n [s [i q i n]]", "i [s [i e]]"),
    }),
    wire.OFFSET_FETCH: (6, {
        (5, 6): ("s [s *i]", "i [s [i q i n e]] e"),
    }),
    wire.FIND_COORDINATOR: (3, {
        (2, 3): ("s b", "i e n i s i"),
    }),
    wire.JOIN_GROUP: (6, {
        (5, 6): ("s i i s n s [s y]", "i e i n s s [s n y]"),
    }),
    wire.HEARTBEAT: (4, {
        (3, 4): ("s i s n", "i e"),
    }),
    wire.LEAVE_GROUP: (4, {
        (3, 4): ("s [s n]", "i e [s n e]"),
    }),
    wire.SYNC_GROUP: (4, {
        (3, 4): ("s i s n [s y]", "i e y"),
        (5, 5): ("s i s n n n [s y]", "i e n n y"),
    }),
    wire.DESCRIBE_GROUPS: (5, {
        (4, 5): ("*s b", "i [e s s s s [s n s s y y] i]"),
        (6, 6): ("*s b", "i [e n s s s s [s n s s y y] i]"),
    }),
    wire.LIST_GROUPS: (3, {
        (1, 3): ("", "i e [s s]"),
    }),
    wire.API_VERSIONS: (3, {
        (3, 4): ("s s", "e [h h h] i"),
    }),
    wire.CREATE_TOPICS: (5, {
        (4, 4): ("[s i h [i *i] [s n]] i b", "i [s e n]"),
        (5, 6): ("[s i h [i *i] [s n]] i b", "i [s e n i h [s n b b b]]"),
    }),
    wire.DELETE_TOPICS: (4, {
        (3, 4): ("*s i", "i [s e]"),
        (6, 6): ("[n u] i", "i [n u e n]"),
    }),
    wire.DELETE_RECORDS: (2, {
        (1, 2): ("[s [i q]] i", "i [s [i q e]]"),
    }),
    wire.INIT_PRODUCER_ID: (2, {
        (1, 2): ("n i", "i e q h"),
        (3, 5): ("n i q h", "i e q h"),
    }),
    wire.OFFSET_FOR_LEADER_EPOCH: (4, {
        (3, 4): ("i [s [i i i]]", "i [s [e i i q]]"),
    }),
    wire.DESCRIBE_ACLS: (2, {
        (1, 2): ("b n b n n b b", "i e n [b s b [s s b b]]"),
    }),
    wire.DESCRIBE_CONFIGS: (4, {
        (3, 4): ("[b s *s] b b", "i [e n b s [s n b b b [s n b] b n]]"),
    }),
    wire.ALTER_CONFIGS: (2, {
        (1, 2): ("[b s [s n]] b", "i [e n b s]"),
    }),
    wire.DESCRIBE_LOG_DIRS: (2, {
        (1, 2): ("[s *i]", "i [e s [s [i q q b]]]"),
    }),
    wire.CREATE_PARTITIONS: (2, {
        (1, 3): ("[s i [*i]] i b", "i [s e n]"),
    }),
    wire.DELETE_GROUPS: (2, {
        (1, 2): ("*s", "i [s e]"),
    }),
    wire.INCREMENTAL_ALTER_CONFIGS: (1, {
        (0, 1): ("[b s [s b n]] b", "i [e n b s]"),
    }),
    wire.LIST_PARTITION_REASSIGNMENTS: (0, {
        (0, 0): ("i [s *i]", "i e n [s [i *i *i *i]]"),
    }),
    wire.OFFSET_DELETE: (None, {
        (0, 0): ("s [s [i]]", "e i [s [i e]]"),
    }),
    wire.DESCRIBE_CLIENT_QUOTAS: (1, {
        (0, 1): ("[s b n] b", "i e n [[s n] [s q]]"),
    }),
    wire.DESCRIBE_USER_SCRAM_CREDENTIALS: (0, {
        (0, 0): ("[s]", "i e n [s e n [b i]]"),
    }),
    wire.DESCRIBE_CLUSTER: (0, {
        (0, 0): ("b", "i e n s i [i s i n] i"),
        (1, 1): ("b b", "i e n b s i [i s i n] i"),
    }),
    wire.DESCRIBE_PRODUCERS: (0, {
        (0, 0): ("[s *i]", "i [s [i e n [q i i q i q]]]"),
    }),
    wire.LIST_CONFIG_RESOURCES: (0, {
        (0, 0): ("", "i e [s]"),
        (1, 1): ("*b", "i e [s b]"),
    }),
    # The last field of both is a cursor, and -1 that there is none.
    wire.DESCRIBE_TOPIC_PARTITIONS: (0, {
        (0, 0): ("[s] i b", "i [e n u b [e i i i *i *i *i *i *i] i] b"),
    }),
}  # fmt: skip


class Answer(NamedTuple):
    fields: list
    # Every error code in it, in order.
    codes: list


def ask(client, api, version, values, tags=NO_TAGS):
    """Asks, and reads the answer to its last byte. `tags`: at the end of the header and of each struct, if any."""
    reader = client.ask(api, body(api, version, values, tags), version)
    _, response = shapes_of(api, version)
    flexible = is_flexible(api, version)
    if flexible and api != wire.API_VERSIONS:
        _skip_tags(reader)
    codes = []
    fields = _decode(response, reader, flexible, codes)
    if reader.left():
        raise ValueError(f"{reader.left()} bytes are left of the answer to API {api}, version {version}")
    return Answer(fields, codes)


def body(api, version, values, tags=NO_TAGS):
    """What follows the client's name. A flexible header ends like a struct, too."""
    request, _ = shapes_of(api, version)
    flexible = is_flexible(api, version)
    end = tags if flexible else b""
    return end + _encode(request, values, flexible, end)


def shapes_of(api, version):
    """Of request and response, parsed."""
    _, by_versions = SHAPES[api]
    (found,) = (shapes for (first, last), shapes in by_versions.items() if first <= version <= last)
    return tuple(_parse(shape) for shape in found)


def is_flexible(api, version):
    since, _ = SHAPES[api]
    return since is not None and version >= since


def code_count(api, version):
    """How many codes an answer has about one thing."""
    _, response = shapes_of(api, version)
    return _count_codes(response)


def _count_codes(fields):
    return sum(_count_codes(kind) if isinstance(kind, tuple) else kind == "e" for kind in fields)


def _parse(shape):
    """`s [i e]` becomes ("s", ("i", "e"))."""
    fields, outer = [], []
    for word in shape.replace("[", " [ ").replace("]", " ] ").split():
        if word == "[":
            outer.append(fields)
            fields = []
        elif word == "]":
            outer[-1].append(tuple(fields))
            fields = outer.pop()
        else:
            fields.append(word)
    return tuple(fields)


# --- encoding ---


def _encode(fields, values, flexible, end):
    encoded = bytearray()
    for kind, value in zip(fields, values, strict=True):
        if isinstance(kind, tuple):
            encoded += _length(value, flexible, "i")
            encoded += b"".join(_encode(kind, one, flexible, end) for one in value or ())
        elif kind.startswith("*"):
            encoded += _length(value, flexible, "i")
            encoded += b"".join(_primitive(kind[1:], one, flexible) for one in value or ())
        else:
            encoded += _primitive(kind, value, flexible)
    return bytes(encoded) + end


def _primitive(kind, value, flexible):
    if kind in NUMBERS:
        return struct.pack(">" + NUMBERS[kind], value)
    if kind == "u":
        return value
    raw = value.encode() if isinstance(value, str) else value
    return _length(raw, flexible, "i" if kind == "y" else "h") + (raw or b"")


def _length(value, flexible, layout):
    """Of a string, bytes or an array."""
    if flexible:
        return wire.unsigned_varint(0 if value is None else len(value) + 1)
    return struct.pack(">" + layout, -1 if value is None else len(value))


# --- decoding ---


def _decode(fields, reader, flexible, codes):
    values = []
    for kind in fields:
        if isinstance(kind, tuple):
            count = _read_length(reader, flexible, "i")
            values.append([_decode(kind, reader, flexible, codes) for _ in range(count)])
        elif kind.startswith("*"):
            count = _read_length(reader, flexible, "i")
            values.append([_read_primitive(kind[1:], reader, flexible) for _ in range(count)])
        else:
            values.append(_read_primitive(kind, reader, flexible))
            if kind == "e":
                codes.append(values[-1])
    if flexible:
        _skip_tags(reader)
    return values


def _read_primitive(kind, reader, flexible):
    if kind in NUMBERS:
        return reader.number(NUMBERS[kind])
    if kind == "u":
        return bytes(reader.raw(16))
    length = _read_length(reader, flexible, "i" if kind == "y" else "h")
    if length < 0:
        return None
    raw = bytes(reader.raw(length))
    return raw if kind == "y" else raw.decode()


def _read_length(reader, flexible, layout):
    return _read_varint(reader) - 1 if flexible else reader.number(layout)


def _read_varint(reader):
    shift = result = 0
    while True:
        byte = reader.number("B")
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result
        shift += 7


def _skip_tags(reader):
    for _ in range(_read_varint(reader)):
        _read_varint(reader)
        reader.raw(_read_varint(reader))
