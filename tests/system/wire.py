"""The Kafka protocol by hand, as far as these tests need it: frames, record batches, one plain client.

No client library stands between a test and the broker, so that a frame can be as wrong as a test wants it.
All versions are classic ones (no compact lengths, no tagged fields); shapes.py has others.
"""

import gzip
import socket
import struct
import time

PRODUCE, FETCH, LIST_OFFSETS, METADATA = 0, 1, 2, 3
OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR = 8, 9, 10
JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP, DESCRIBE_GROUPS, LIST_GROUPS = 11, 12, 13, 14, 15, 16
API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS, DELETE_RECORDS = 18, 19, 20, 21
INIT_PRODUCER_ID, OFFSET_FOR_LEADER_EPOCH, DESCRIBE_ACLS, DESCRIBE_CONFIGS, ALTER_CONFIGS = 22, 23, 29, 32, 33
DESCRIBE_LOG_DIRS, CREATE_PARTITIONS, DELETE_GROUPS, INCREMENTAL_ALTER_CONFIGS = 35, 37, 42, 44
LIST_PARTITION_REASSIGNMENTS, OFFSET_DELETE, DESCRIBE_CLIENT_QUOTAS = 46, 47, 48
DESCRIBE_USER_SCRAM_CREDENTIALS, DESCRIBE_CLUSTER = 50, 60
DESCRIBE_PRODUCERS, LIST_CONFIG_RESOURCES, DESCRIBE_TOPIC_PARTITIONS = 61, 74, 75
# The type of a resource that has configs.
TOPIC_RESOURCE = 2
# The version of each API that the client below speaks.
VERSIONS = {
    PRODUCE: 3, FETCH: 4, LIST_OFFSETS: 1, METADATA: 4, OFFSET_COMMIT: 2, OFFSET_FETCH: 1, FIND_COORDINATOR: 0,
    JOIN_GROUP: 2, HEARTBEAT: 0, LEAVE_GROUP: 0, SYNC_GROUP: 0, DESCRIBE_GROUPS: 0, LIST_GROUPS: 0, DELETE_GROUPS: 0,
    API_VERSIONS: 0, CREATE_TOPICS: 2, DELETE_TOPICS: 1, DELETE_RECORDS: 0, DESCRIBE_CONFIGS: 3,
}  # fmt: skip

# Error codes that tests name.
OFFSET_OUT_OF_RANGE, CORRUPT_MESSAGE, UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER = 1, 2, 3, 6
MESSAGE_TOO_LARGE, UNSUPPORTED_FOR_MESSAGE_FORMAT, KAFKA_STORAGE_ERROR, INVALID_RECORD = 10, 43, 56, 87
COORDINATOR_LOAD_IN_PROGRESS, INVALID_SESSION_TIMEOUT, POLICY_VIOLATION, GROUP_MAX_SIZE_REACHED = 14, 26, 44, 81
UNKNOWN_SERVER_ERROR, OFFSET_METADATA_TOO_LARGE, INVALID_TOPIC, INVALID_GROUP_ID = -1, 12, 17, 24
INVALID_COMMIT_OFFSET_SIZE, INVALID_REQUEST, NON_EMPTY_GROUP = 28, 42, 68

EARLIEST, LATEST = -2, -1
# Of all records. Not a date of the past: retention would take them for expired.
NOW_MS = time.time_ns() // 1_000_000
BATCH_HEADER = struct.Struct(">qiibIhiqqqhii")
# Bytes of a batch before those that its CRC covers.
CRC_START = 21


class KafkaError(Exception):
    """The broker answered with an error code."""

    def __init__(self, code):
        super().__init__(f"error code {code}")
        self.code = code


class Closed(ConnectionError):
    """The broker closed the connection."""


# --- encoding ---


def string(text):
    if text is None:
        return struct.pack(">h", -1)
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


def raw_bytes(data):
    return struct.pack(">i", len(data)) + data


def nested(topic, fields):
    """The shape of most requests: one topic, one partition."""
    return array([string(topic) + array([fields])])


def request(api, body, correlation_id=1, version=None, client_id="system-test"):
    """A whole frame."""
    version = VERSIONS[api] if version is None else version
    head = struct.pack(">hhi", api, version, correlation_id) + string(client_id)
    return frame(head + body)


def frame(payload):
    return struct.pack(">i", len(payload)) + payload


def produce_body(topic, partition, records, acks=-1, timeout_ms=10_000):
    fields = struct.pack(">ii", partition, len(records)) + records
    return string(None) + struct.pack(">hi", acks, timeout_ms) + nested(topic, fields)


def join_body(group, protocol="range", metadata=b"", session_ms=30_000, member=""):
    said = array([string(protocol) + raw_bytes(metadata)])
    # As long for a rebalance as for a session.
    head = string(group) + struct.pack(">ii", session_ms, session_ms) + string(member) + string("consumer")
    return head + said


def commit_body(group, topic, commits):
    """`commits`: (partition, offset, note), by nobody who is in the group."""
    head = string(group) + struct.pack(">i", -1) + string("") + struct.pack(">q", -1)
    fields = [struct.pack(">iq", partition, offset) + string(note) for partition, offset, note in commits]
    return head + array([string(topic) + array(fields)])


def fetch_body(topic, partition, offset, max_bytes=1 << 20, wait_ms=500, min_bytes=1):
    head = struct.pack(">iiiib", -1, wait_ms, min_bytes, max_bytes, 0)
    return head + nested(topic, struct.pack(">iqi", partition, offset, max_bytes))


# --- record batches ---


def _crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    table = _CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def varint(value):
    return unsigned_varint((value << 1) ^ (value >> 63))


def unsigned_varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _record(index, value, after_ms=0):
    body = b"\0" + varint(after_ms) + varint(index) + varint(-1) + varint(len(value)) + value + varint(0)
    return varint(len(body)) + body


def batch(values, producer=(-1, -1, -1), packed=False, at_ms=NOW_MS, step_ms=0):
    """A batch with these values, as a producer sends it: of this id, epoch and first sequence. `packed`: by gzip.
    The first record is of the time `at_ms`, each further one `step_ms` later."""
    records = b"".join(_record(index, value, index * step_ms) for index, value in enumerate(values))
    last = len(values) - 1
    if packed:
        records = gzip.compress(records)
    tail = struct.pack(">hiqqqhii", int(packed), last, at_ms, at_ms + last * step_ms, *producer, len(values)) + records
    return struct.pack(">qiibI", 0, len(tail) + 9, -1, 2, crc32c(tail)) + tail


def altered(data, at, layout, value):
    """The bytes with this number in them."""
    changed = bytearray(data)
    struct.pack_into(">" + layout, changed, at, value)
    return bytes(changed)


def signed(data):
    """With a CRC that fits."""
    return altered(data, 17, "I", crc32c(data[CRC_START :]))


def _read_varint(data, at):
    shift = result = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (result >> 1) ^ -(result & 1), at
        shift += 7


def batches(data):
    """(base offset, record count, the batch's bytes from the first record on) of each fetched batch."""
    at = 0
    while at < len(data):
        base_offset, length = struct.unpack_from(">qi", data, at)
        (count,) = struct.unpack_from(">i", data, at + BATCH_HEADER.size - 4)
        end = at + 12 + length
        if end > len(data):
            raise ValueError("a batch is cut off")
        yield base_offset, count, data[at + BATCH_HEADER.size : end]
        at = end


def records(data):
    """(offset, value) of each fetched record."""
    for base_offset, count, body in batches(data):
        at = 0
        for _ in range(count):
            length, at = _read_varint(body, at)
            end = at + length
            at += 1
            _, at = _read_varint(body, at)
            delta, at = _read_varint(body, at)
            _, at = _read_varint(body, at)
            value_bytes, at = _read_varint(body, at)
            yield base_offset + delta, bytes(body[at : at + value_bytes])
            at = end


# --- decoding ---


class Reader:
    """The body of a response, read from its front."""

    def __init__(self, data):
        self._data = data
        self._at = 0

    def take(self, layout):
        values = struct.unpack_from(">" + layout, self._data, self._at)
        self._at += struct.calcsize(">" + layout)
        return values

    def number(self, layout):
        return self.take(layout)[0]

    def raw(self, length):
        piece = self._data[self._at : self._at + max(length, 0)]
        self._at += max(length, 0)
        return piece

    def left(self):
        return len(self._data) - self._at

    def string(self):
        length = self.number("h")
        return None if length < 0 else bytes(self.raw(length)).decode()

    def enter(self):
        """Into the only partition of the only topic: past both counts, the name and the index."""
        if self.number("i") != 1:
            raise ValueError("an answer for another number of topics")
        self.string()
        if self.number("i") != 1:
            raise ValueError("an answer for another number of partitions")
        self.number("i")


def _check(code):
    if code != 0:
        raise KafkaError(code)


class Client:
    """One connection. Requests may be pipelined: `send` several times, then `receive` as often."""

    def __init__(self, address, timeout_s=30, client_id="system-test"):
        self._client_id = client_id
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._correlation_id = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, api, body, version=None):
        self._correlation_id += 1
        self.socket.sendall(request(api, body, self._correlation_id, version, self._client_id))
        return self._correlation_id

    def receive(self):
        """The next response: its correlation id, and a reader of its body."""
        (length,) = struct.unpack(">i", self._read(4))
        data = self._read(length)
        return struct.unpack_from(">i", data)[0], Reader(memoryview(data)[4:])

    def ask(self, api, body, version=None):
        asked = self.send(api, body, version)
        answered, reader = self.receive()
        if answered != asked:
            raise ValueError(f"the answer to {answered} where that to {asked} belongs")
        return reader

    def _read(self, length):
        data = bytearray(length)
        view = memoryview(data)
        while view:
            got = self.socket.recv_into(view)
            if got == 0:
                raise Closed("the broker closed the connection")
            view = view[got:]
        return data

    # --- APIs ---

    def produce(self, topic, partition, records, acks=-1):
        """The base offset that the batch got."""
        return self.produced(self.ask(PRODUCE, produce_body(topic, partition, records, acks)))

    @staticmethod
    def produced(reader):
        reader.enter()
        code, base_offset = reader.take("hq")
        _check(code)
        return base_offset

    def fetch(self, topic, partition, offset, max_bytes=1 << 20, wait_ms=500):
        """The bytes of whole batches, and the high watermark."""
        return self.fetched(self.ask(FETCH, fetch_body(topic, partition, offset, max_bytes, wait_ms)))

    @staticmethod
    def fetched(reader):
        reader.number("i")
        reader.enter()
        code, high_watermark, _, aborted = reader.take("hqqi")
        _check(code)
        if aborted > 0:
            raise ValueError("aborted transactions where there are none")
        return reader.raw(reader.number("i")), high_watermark

    def read_all(self, topic, partition, start=0, max_bytes=1 << 20):
        """Yields (offset, value) from `start` to the high watermark of the first answer."""
        end = None
        while end is None or start < end:
            data, high_watermark = self.fetch(topic, partition, start, max_bytes)
            end = high_watermark if end is None else end
            for offset, value in records(data):
                if start <= offset < end:
                    yield offset, value
                start = max(start, offset + 1)

    def list_offset(self, topic, partition, timestamp):
        body = struct.pack(">i", -1) + nested(topic, struct.pack(">iq", partition, timestamp))
        reader = self.ask(LIST_OFFSETS, body)
        reader.enter()
        code, _, offset = reader.take("hqq")
        _check(code)
        return offset

    def brokers(self):
        """How many the cluster has, as far as this one knows."""
        reader = self.ask(METADATA, array([]) + b"\0")
        reader.number("i")
        return reader.number("i")

    def create_topic(self, topic, partitions=1, configs=()):
        pairs = [string(key) + string(value) for key, value in configs]
        wanted = string(topic) + struct.pack(">ih", partitions, 1) + array([]) + array(pairs)
        reader = self.ask(CREATE_TOPICS, array([wanted]) + struct.pack(">ib", 10_000, 0))
        reader.take("ii")
        reader.string()
        _check(reader.number("h"))

    def delete_topic(self, topic):
        reader = self.ask(DELETE_TOPICS, array([string(topic)]) + struct.pack(">i", 10_000))
        reader.take("ii")
        reader.string()
        _check(reader.number("h"))

    def delete_records(self, topic, partition, before):
        """The partition's new start."""
        body = nested(topic, struct.pack(">iq", partition, before)) + struct.pack(">i", 10_000)
        reader = self.ask(DELETE_RECORDS, body)
        reader.number("i")
        reader.enter()
        start, code = reader.take("qh")
        _check(code)
        return start

    def commit_offset(self, group, topic, partition, offset, note=None):
        reader = self.ask(OFFSET_COMMIT, commit_body(group, topic, [(partition, offset, note)]))
        reader.enter()
        _check(reader.number("h"))

    def commit_offsets(self, group, topic, commits):
        """The error code of each of `commits`: (partition, offset, note)."""
        reader = self.ask(OFFSET_COMMIT, commit_body(group, topic, commits))
        reader.number("i")
        reader.string()
        return [reader.take("ih")[1] for _ in range(reader.number("i"))]

    def committed_offset(self, group, topic, partition):
        ((offset, _),) = self.committed(group, topic, [partition])
        return offset

    def committed(self, group, topic, partitions):
        """Offset and note of each; -1 and "" where there is none."""
        indexes = array([struct.pack(">i", partition) for partition in partitions])
        reader = self.ask(OFFSET_FETCH, string(group) + array([string(topic) + indexes]))
        reader.number("i")
        reader.string()
        found = []
        for _ in range(reader.number("i")):
            reader.number("i")
            found.append((reader.number("q"), reader.string()))
            _check(reader.number("h"))
        return found

    def join_group(self, group, protocol="range", metadata=b"", session_ms=30_000, member=""):
        """Returns when the rebalance ends: the generation, and this member's id."""
        reader = self.ask(JOIN_GROUP, join_body(group, protocol, metadata, session_ms, member))
        _check(self.join_code(reader))
        generation = reader.number("i")
        reader.string()
        reader.string()
        return generation, reader.string()

    @staticmethod
    def join_code(reader):
        """The error code of the answer to a join."""
        _, code = reader.take("ih")
        return code

    def sync_group(self, group, generation, member, assignments):
        """What this member is assigned. `assignments`: bytes by member, of the leader."""
        given = array([string(to) + raw_bytes(assigned) for to, assigned in assignments.items()])
        reader = self.ask(SYNC_GROUP, string(group) + struct.pack(">i", generation) + string(member) + given)
        _check(reader.number("h"))
        return bytes(reader.raw(reader.number("i")))

    def heartbeat(self, group, generation, member):
        body = string(group) + struct.pack(">i", generation) + string(member)
        _check(self.ask(HEARTBEAT, body).number("h"))

    def leave_group(self, group, member):
        _check(self.ask(LEAVE_GROUP, string(group) + string(member)).number("h"))

    def list_groups(self):
        reader = self.ask(LIST_GROUPS, b"")
        code, count = reader.take("hi")
        _check(code)
        return sorted((reader.string(), reader.string())[0] for _ in range(count))

    def describe_groups(self, groups):
        """By name: state, protocol type, protocol, and (id, client id, metadata, assignment) of each member."""
        reader = self.ask(DESCRIBE_GROUPS, array([string(group) for group in groups]))
        described = {}
        for _ in range(reader.number("i")):
            _check(reader.number("h"))
            name, state, kind, protocol = (reader.string() for _ in range(4))
            members = []
            for _ in range(reader.number("i")):
                member, client, _ = (reader.string() for _ in range(3))
                metadata, assignment = (bytes(reader.raw(reader.number("i"))) for _ in range(2))
                members.append((member, client, metadata, assignment))
            described[name] = (state, kind, protocol, members)
        return described

    def delete_group(self, group):
        (code,) = self.delete_groups([group]).values()
        _check(code)

    def delete_groups(self, groups):
        """Their error codes, by name."""
        reader = self.ask(DELETE_GROUPS, array([string(group) for group in groups]))
        reader.number("i")
        return {reader.string(): reader.number("h") for _ in range(reader.number("i"))}

    def api_versions(self):
        reader = self.ask(API_VERSIONS, b"")
        code, count = reader.take("hi")
        _check(code)
        return {key: (least, most) for key, least, most in (reader.take("hhh") for _ in range(count))}
