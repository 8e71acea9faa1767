"""Clients that mean harm, or are broken: each gets an error or a closed connection, and nobody else notices.

In every case a well-behaved client writes and reads beside the attack, and the broker's memory is measured.
"""

import os
import random
import resource
import select
import shlex
import socket
import struct
import time

import wire
from rig import CaseSkipped, Neighbour, admin, check, equal, metric, resident_bytes, until

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fuzz", "corpus", "kafka_request")
SEED = 20_240_601
INT_MAX, INT_MIN = 2**31 - 1, -(2**31)
# What an attack may leave behind: receive buffers, the allocator's slack.
GROWTH_BYTES_MAX = 96 << 20
ANSWER_S_MAX = 15
# Of a neighbour's write and read, on a machine that does other things besides; and of a stop.
ROUND_S_MAX = 2
STOP_S_MAX = 5
# Of the question that is asked last on each connection.
LAST = 77_777


class Attack:
    """A broker, a neighbour that must not notice, and the memory before."""

    def __init__(self, rig, settings=(), shards=2):
        self.broker = rig.running(shards=shards, settings=settings)
        self.neighbour = rig.beside(Neighbour(self.broker))
        self.neighbour.goes_on()
        self.start_of_memory()

    def start_of_memory(self):
        """What memory holds now is not the attack's."""
        self._before_bytes = resident_bytes(self.broker)

    def connect(self):
        return wire.Client(self.broker.kafka, ANSWER_S_MAX).socket

    def goes_on(self):
        """In the middle of an attack."""
        self.neighbour.goes_on()
        equal(admin(self.broker, "/livez"), "ok\n", "/livez")

    def memory(self, growth_bytes_max=GROWTH_BYTES_MAX):
        grown = resident_bytes(self.broker) - self._before_bytes
        check(grown <= growth_bytes_max, f"resident memory grew by {grown >> 20} MiB")

    def send(self, data):
        """Sends bytes on a connection of their own, then an honest question, and no more.

        Returns the responses before the one to the question, and whether that one came. The connection
        must end either way: whoever waits for more bytes must notice that there will be none.
        """
        with self.connect() as connection:
            received = bytearray()
            try:
                connection.sendall(data + wire.request(wire.API_VERSIONS, b"", LAST))
                connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65536):
                    received += piece
            except TimeoutError:
                check(False, f"neither answered nor closed within {ANSWER_S_MAX} s: {bytes(data[:60])!r}")
            except ConnectionError:
                pass  # Closed with bytes of ours unread.
        frames = []
        while received:
            (length,) = struct.unpack_from(">i", received)
            check(4 <= length <= len(received) - 4, f"half a response to {bytes(data[:60])!r}")
            frames.append(bytes(received[4 : 4 + length]))
            del received[: 4 + length]
        answered = bool(frames) and struct.unpack_from(">i", frames[-1])[0] == LAST
        return (frames[:-1], True) if answered else (frames, False)


# --- Single frames. ---


def broken_frames(rig):
    attack = Attack(rig)
    for name, data in _frames_that_close().items():
        frames, answered = attack.send(data)
        check(not frames and not answered, f"{name}: the connection should be closed without an answer")
    # Neither a panic nor silence, whatever the numbers in the body are taken for.
    bodies = [struct.pack(">i", number) * 16 for number in (INT_MAX, INT_MIN, -2, -1, 0, 1, 0x7FFF7FFF)]
    with wire.Client(attack.broker.kafka) as client:
        apis = client.api_versions()
    for api, (least, most) in apis.items():
        for version in (least - 1, *range(least, most + 1), most + 1):
            for body in bodies:
                attack.send(wire.request(api, body, version=version))
    attack.goes_on()
    attack.memory()


def _frames_that_close():
    head = struct.pack(">hhi", wire.METADATA, 4, 1)
    topics = wire.string("system-test") + struct.pack(">i", 1)
    return {
        "a length of 0": struct.pack(">i", 0),
        "a length of -1": struct.pack(">i", -1),
        "the least length": struct.pack(">i", INT_MIN),
        "a length of 2 GiB": struct.pack(">i", INT_MAX) + bytes(100),
        "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "TLS": bytes.fromhex("16030100f8010000f40303") + bytes(100),
        "no header": wire.frame(b""),
        "half a header": wire.frame(b"\0\3\0"),
        "an unknown API": wire.request(999, bytes(32), version=0),
        "a negative API": wire.request(-1, bytes(32), version=0),
        "an unknown version": wire.request(wire.METADATA, bytes(32), version=99),
        "a negative version": wire.request(wire.PRODUCE, bytes(32), version=-1),
        "a client id beyond the frame": wire.frame(head + struct.pack(">h", 1000)),
        "a client id that is not UTF-8": wire.frame(head + struct.pack(">h", 2) + b"\xff\xfe" + bytes(8)),
        "2^31-1 topics": wire.frame(head + wire.string("x") + struct.pack(">i", INT_MAX) + bytes(64)),
        "-2 topics": wire.frame(head + wire.string("x") + struct.pack(">i", -2) + bytes(64)),
        "a name beyond the frame": wire.frame(head + topics + struct.pack(">h", 500) + b"short"),
        "a frame cut off": wire.request(wire.METADATA, wire.array([wire.string("t")]) + b"\1")[:-3],
    }


def wrong_batches(rig):
    attack = Attack(rig)
    good = wire.batch([b"value"])
    broken = bytes([good[-1] ^ 1])
    table = {
        "a wrong CRC": (good[:-1] + broken, wire.CORRUPT_MESSAGE),
        "magic 1": (_with(good, 16, "b", 1), wire.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        "magic 77": (_with(good, 16, "b", 77), wire.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        "a batch cut off": (good[:-1], wire.CORRUPT_MESSAGE),
        "half a header": (good[:30], wire.CORRUPT_MESSAGE),
        "a length beyond the bytes": (_with(good, 8, "i", INT_MAX), wire.CORRUPT_MESSAGE),
        "a negative length": (_with(good, 8, "i", -1), wire.CORRUPT_MESSAGE),
        "2^31-1 records": (_signed(_with(good, 57, "i", INT_MAX)), wire.INVALID_RECORD),
        "-1 records": (_signed(_with(good, 57, "i", -1)), wire.INVALID_RECORD),
        "no record": (_signed(_with(good, 57, "i", 0)), wire.INVALID_RECORD),
        "a last offset of 2^31-1": (_signed(_with(good, 23, "i", INT_MAX)), wire.INVALID_RECORD),
        "bytes behind the batch": (good + b"more", wire.INVALID_RECORD),
        "two batches": (good + good, wire.INVALID_RECORD),
        "no bytes": (b"", wire.CORRUPT_MESSAGE),
        "more than a batch may have": (wire.batch([bytes(1_100_000)]), wire.MESSAGE_TOO_LARGE),
    }
    with wire.Client(attack.broker.kafka) as client:
        client.create_topic("t")
        for name, (data, code) in table.items():
            try:
                offset = client.produce("t", 0, data)
                check(False, f"{name}: taken, at offset {offset}")
            except wire.KafkaError as error:
                equal(error.code, code, name)
        equal(client.produce("t", 0, good), 0, "the offset of a good batch after all the bad ones")
    attack.goes_on()
    attack.memory()


def _with(data, at, layout, value):
    changed = bytearray(data)
    struct.pack_into(">" + layout, changed, at, value)
    return bytes(changed)


def _signed(data):
    """With a CRC that fits."""
    return _with(data, 17, "I", wire.crc32c(data[wire.CRC_START :]))


def mutated_frames(rig):
    """Well-formed requests of every API, with bytes changed, cut out, or put in."""
    rng = random.Random(SEED)
    seeds = []
    for name in sorted(os.listdir(CORPUS)):
        if name.startswith("ok-"):
            with open(os.path.join(CORPUS, name), "rb") as file:
                seeds.append(file.read()[4:])
    attack = Attack(rig)
    for _ in range(1500):
        body = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(body))
            match rng.randrange(4):
                case 0:
                    body[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
                case 1:
                    del body[max(at, 1) :]
                case 2:
                    body[at:at] = rng.randbytes(rng.randint(1, 8))
                case 3:
                    body[at : at + 4] = struct.pack(">i", rng.choice([INT_MAX, INT_MIN, -1, 0, 1000]))
        attack.send(wire.frame(bytes(body)))
        attack.neighbour.sound()
    attack.goes_on()
    attack.memory()


# --- Connections. ---


def slow_and_silent(rig):
    attack = Attack(rig, ["kafka.connection_idle=2s"])
    # One byte at a time, all of them side by side.
    slow = [attack.connect() for _ in range(50)]
    question = wire.request(wire.API_VERSIONS, b"", LAST)
    for at in range(len(question)):
        for connection in slow:
            connection.sendall(question[at : at + 1])
    for connection in slow:
        equal(struct.unpack(">ii", connection.recv(8, socket.MSG_WAITALL))[1], LAST, "the answer to a slow client")
    # Nothing at all, and half a frame, and then silence. No question is left unanswered, so they may go.
    silent = [attack.connect() for _ in range(50)]
    for index, connection in enumerate(silent):
        connection.sendall(question[: index % len(question)])
    for connection in silent + slow:
        while connection.recv(65536):
            pass
        connection.close()
    # Gone without a word, with a request under way.
    with wire.Client(attack.broker.kafka) as client:
        client.create_topic("quiet")
    for _ in range(200):
        connection = attack.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(wire.request(wire.FETCH, wire.fetch_body("quiet", 0, 0, wait_ms=30_000)))
        connection.close()
    attack.goes_on()
    attack.memory()


def many_connections(rig):
    wanted = 2000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * wanted:
        raise CaseSkipped(f"may open only {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * wanted), hard))
    attack = Attack(rig)
    connections = [attack.connect() for _ in range(wanted)]
    for number, connection in enumerate(connections):
        connection.sendall(wire.request(wire.API_VERSIONS, b"", number))
    for number, connection in enumerate(connections):
        equal(struct.unpack(">ii", connection.recv(8, socket.MSG_WAITALL))[1], number, "the answer")
    attack.goes_on()
    attack.memory()
    for connection in connections:
        connection.close()
    attack.goes_on()


def more_connections_than_allowed(rig):
    allowed = 40
    attack = Attack(rig, [f"kafka.connections_max={allowed}"])
    connections = [attack.connect() for _ in range(3 * allowed)]
    served = 0
    for connection in connections:
        try:
            connection.sendall(wire.request(wire.API_VERSIONS, b"", LAST))
            served += bool(connection.recv(1))
        except ConnectionError:
            pass  # Turned away.
    # One is the neighbour's.
    check(served < allowed, f"{served} connections and the neighbour's were served where {allowed} are allowed")
    check(served >= allowed - 2, f"only {served} connections were served where {allowed} are allowed")
    attack.goes_on()
    for connection in connections:
        connection.close()

    def room_again():
        try:
            with wire.Client(attack.broker.kafka) as client:
                return client.api_versions()
        except ConnectionError:
            return None

    until(room_again, "the connections are closed, but new ones are turned away")


def few_descriptors(rig):
    """Whoever takes all connections of all ports, and says nothing, takes no descriptor that a log needs."""
    nofile = 320
    limited = os.path.join(rig.folder, "limited")
    with open(limited, "w", encoding="utf-8") as script:
        script.write(f'#!/bin/sh\nulimit -n {nofile}\nexec {shlex.quote(rig.binary)} "$@"\n')
    os.chmod(limited, 0o700)
    rig.binary = limited
    attack = Attack(rig, ["log.segment_bytes=8MiB", "log.initial_bytes=64MiB"])
    host, port = attack.broker.admin.rsplit(":", 1)
    with wire.Client(attack.broker.kafka) as client:
        client.create_topic("t")
        taken = [attack.connect() for _ in range(nofile)]
        # More than are served at once; the others are when these have been silent for 10 s.
        half_open = [socket.create_connection((host, int(port)), ANSWER_S_MAX) for _ in range(100)]
        for connection in half_open[::2]:
            connection.sendall(b"GET /livez HTTP/1.1\r\n")
        # Segments are made and begun meanwhile.
        batch = wire.batch([bytes(1_000_000)])
        for number in range(100):
            equal(client.produce("t", 0, batch), number, "offset")
        attack.neighbour.goes_on()
    with open(attack.broker.log_path, encoding="utf-8", errors="replace") as log:
        told = [line.strip() for line in log if "could not be" in line]
    check(not told, f"there were no descriptors left: {told[:1]}")
    # Nobody gives up a connection but the broker.
    attack.goes_on()
    for connection in taken + half_open:
        connection.close()
    attack.goes_on()


def more_in_flight_than_allowed(rig):
    """A thousand requests in one breath; no answer is read before the last is sent."""
    attack = Attack(rig, ["kafka.connection_in_flight_max=8"])
    requests = 1000
    with wire.Client(attack.broker.kafka) as client:
        client.create_topic("t")
        first = client.send(wire.API_VERSIONS, b"")
        body = wire.produce_body("t", 0, wire.batch([b"value"]))
        for _ in range(requests):
            client.send(wire.PRODUCE, body)
        equal(client.receive()[0], first, "the first answer")
        for number in range(requests):
            answered, reader = client.receive()
            equal((answered, client.produced(reader)), (first + 1 + number, number), "answer and offset")
    attack.goes_on()
    attack.memory()


def responses_never_read(rig):
    """Each of many clients asks for far more than its socket holds, and reads nothing."""
    # Caches that hold little of what is asked for: most of it comes from the device.
    caches = ["log.tail_cache_bytes=16MiB", "log.read_cache_bytes=16MiB"]
    attack = Attack(rig, [*caches, "kafka.connection_idle=5s"], shards=1)
    batch = wire.batch([bytes(1_000_000)])
    with wire.Client(attack.broker.kafka) as client:
        client.create_topic("large")
        offsets = [client.produce("large", 0, batch) for _ in range(128)]
    hung = []
    for index in range(24):
        connection = attack.connect()
        for round_ in range(40):
            offset = offsets[(index * 5 + round_ * 8) % len(offsets)]
            connection.sendall(wire.request(wire.FETCH, wire.fetch_body("large", 0, offset, max_bytes=8 << 20)))
        hung.append(connection)
    # The first bytes are on their way to everyone.
    for connection in hung:
        readable, _, _ = select.select([connection], [], [], ANSWER_S_MAX)
        check(readable, "a fetch is not answered")
    for _ in range(5):
        attack.goes_on()
        attack.memory(growth_bytes_max=256 << 20)
    for connection in hung:
        connection.close()
    attack.goes_on()


def memory_runs_short(rig):
    """More is begun, and more is asked for, than a small budget holds."""
    budget, request_max = 24 << 20, 8 << 20
    settings = [
        f"kafka.request_bytes_max={request_max >> 20}MiB",
        f"kafka.connection_memory_max={(request_max >> 20) + 2}MiB",
        f"kafka.shard_memory_max={budget >> 20}MiB",
        "kafka.fetch_bytes_max=4MiB",
        "log.tail_cache_bytes=16MiB",
        "log.read_cache_bytes=16MiB",
    ]
    attack = Attack(rig, settings, shards=1)
    equal(metric(attack.broker, "ringmq_buffered_bytes_max"), budget, "the budget")
    batch = wire.batch([bytes(900_000)])
    with wire.Client(attack.broker.kafka) as client:
        client.create_topic("large")
        offsets = [client.produce("large", 0, batch) for _ in range(40)]

    def bounded():
        held = metric(attack.broker, "ringmq_buffered_bytes")
        check(held <= budget + request_max + (4 << 20), f"clients hold {held / (1 << 20):.0f} MiB")
        # Besides, both caches and what readers may hold of them: some 80 MiB.
        attack.memory(growth_bytes_max=budget + request_max + (80 << 20) + GROWTH_BYTES_MAX)

    # Frames that end a byte later than what is sent: as much as the broker takes.
    cut_off = wire.frame(bytes(request_max - 100))[:-1]
    greedy = [(attack.connect(), memoryview(cut_off)) for _ in range(40)]
    for connection, _ in greedy:
        # So that what was sent has left for the broker.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        connection.setblocking(False)
    for _ in range(20):
        for index, (connection, rest) in enumerate(greedy):
            try:
                greedy[index] = (connection, rest[connection.send(rest) :])
            except BlockingIOError:
                pass  # Not read from.
        attack.neighbour.goes_on(rounds=2)
        bounded()
    unread = sum(len(rest) for _, rest in greedy)
    check(unread > 40 * request_max // 2, "the broker has read more than it may hold")
    for connection, _ in greedy:
        connection.close()
    until(lambda: metric(attack.broker, "ringmq_buffered_bytes") < budget / 4, "the memory does not come back")

    # The same, whole: every one is taken, however many there are at a time.
    request = wire.request(wire.PRODUCE, wire.produce_body("large", 0, batch))
    producers = [(attack.connect(), memoryview(request)) for _ in range(60)]
    answered = set()
    for connection, _ in producers:
        connection.setblocking(False)

    def all_answered():
        for index, (connection, rest) in enumerate(producers):
            try:
                producers[index] = (connection, rest[connection.send(rest) :] if rest else rest)
                if index not in answered and not rest and connection.recv(65536):
                    answered.add(index)
            except BlockingIOError:
                pass  # Later.
        return len(answered) == len(producers)

    until(all_answered, "large requests are not answered")
    bounded()
    for connection, _ in producers:
        connection.close()

    # Responses that nobody reads, from the tail and from behind it.
    hung = []
    for index in range(40):
        connection = attack.connect()
        for round_ in range(8):
            offset = offsets[(index + round_ * 5) % len(offsets)]
            connection.sendall(wire.request(wire.FETCH, wire.fetch_body("large", 0, offset, max_bytes=4 << 20)))
        hung.append(connection)
    for _ in range(10):
        attack.goes_on()
        bounded()
    with wire.Client(attack.broker.kafka) as client:
        for _ in range(20):
            client.produce("large", 0, batch)
    for connection in hung:
        connection.close()
    attack.goes_on()
    until(lambda: metric(attack.broker, "ringmq_buffered_bytes") < budget / 4, "the memory does not come back")


# --- Groups. ---


def joins_that_are_refused(rig):
    """More names than a broker could remember, each in a join that is refused: nothing is left of them."""
    names, breath = 110_000, 1000
    attack = Attack(rig, ["kafka.group_initial_delay=1ms"])
    with wire.Client(attack.broker.kafka) as client:
        for first in range(0, names, breath):
            for number in range(first, first + breath):
                client.send(wire.JOIN_GROUP, wire.join_body(f"name-{number}", session_ms=1))
            for _ in range(breath):
                equal(client.receive()[1].number("h"), wire.INVALID_SESSION_TIMEOUT, "the answer to a join")
    attack.goes_on()
    attack.memory()
    attack.neighbour.end()
    for round_ in range(2):
        with wire.Client(attack.broker.kafka) as client:
            equal(client.list_groups(), [], "groups after joins that were refused")
            generation, member = client.join_group("honest")
            equal(client.sync_group("honest", generation, member, {member: b"all"}), b"all", "an assignment")
            client.leave_group("honest", member)
            equal(client.list_groups(), ["honest"], "groups")
            client.delete_group("honest")
        if round_ == 0:
            attack.broker.stop()
            attack.broker.start()


def groups_that_fill_memory(rig):
    """Large members in ever new groups, whose connections are gone: so many are taken, and then no more."""
    metadata, groups = bytes(7 << 20), 40
    settings = ["kafka.group_initial_delay=1ms", "kafka.group_session_min=100ms", "kafka.groups_bytes_max=32MiB"]
    attack = Attack(rig, settings)
    taken = refused = 0
    for number in range(groups):
        with wire.Client(attack.broker.kafka) as client:
            try:
                client.join_group(f"large-{number}", metadata=metadata, session_ms=20_000)
                taken += 1
            except wire.KafkaError as error:
                equal(error.code, wire.GROUP_MAX_SIZE_REACHED, "the answer to a join")
                refused += 1
        attack.memory()
    # Two logs, each with room for two of those, which count twice.
    check(1 <= taken <= 4, f"{taken} groups of 7 MiB were taken where each log has 32 MiB")
    equal(taken + refused, groups, "answers")
    attack.goes_on()
    with wire.Client(attack.broker.kafka) as client:
        generation, _ = client.join_group("small", session_ms=20_000)
        equal(generation, 1, "the generation of a small group beside the large ones")

    def room_again():
        try:
            with wire.Client(attack.broker.kafka) as client:
                return client.join_group("large again", metadata=metadata, session_ms=1000)
        except wire.KafkaError as error:
            equal(error.code, wire.GROUP_MAX_SIZE_REACHED, "the answer to a join")

    until(room_again, "the members are missed, but their memory is not free", limit_s=60)
    attack.goes_on()


def answers_of_gigabytes(rig):
    """Small requests that name many times what takes much to tell."""
    connection_bytes = 10 << 20
    settings = [
        "kafka.request_bytes_max=8MiB",
        f"kafka.connection_memory_max={connection_bytes >> 20}MiB",
        "kafka.shard_memory_max=48MiB",
        "kafka.fetch_bytes_max=1MiB",
        "log.tail_cache_bytes=16MiB",
        "log.read_cache_bytes=16MiB",
    ]
    attack = Attack(rig, settings)
    with wire.Client(attack.broker.kafka) as client:
        # A list, of which the broker knows nothing but that it is one.
        throttled = ",".join(["0:1"] * 8000)
        client.create_topic("long", configs=[("leader.replication.throttled.replicas", throttled)])
        client.commit_offset("noted", "long", 0, 7, note="n" * 4000)
        for group in ("large", "larger"):
            generation, member = client.join_group(group, metadata=bytes(6 << 20), session_ms=60_000)
            client.sync_group(group, generation, member, {member: b"all"})

    def ask(what, api, body):
        """The answer, which comes, and is no larger than a connection may hold, but for what errors take."""
        frames, answered = attack.send(wire.request(api, body))
        check(answered and len(frames) == 1, f"{what}: the connection was closed")
        check(len(frames[0]) <= connection_bytes + (8 << 20), f"{what}: an answer of {len(frames[0])} bytes")
        attack.goes_on()
        # What is held, what it becomes on the way out, and what readers have of it.
        attack.memory(growth_bytes_max=4 * connection_bytes + GROWTH_BYTES_MAX)
        return wire.Reader(memoryview(frames[0])[4:])

    resource = struct.pack(">b", 2) + wire.string("long") + struct.pack(">i", -1)
    reader = ask("a topic's configs", wire.DESCRIBE_CONFIGS, wire.array([resource] * 36_000) + b"\0\0")
    codes = [_read_configs(reader) for _ in range(reader.take("ii")[1])]
    told = codes.count(0)
    equal(codes, [0] * told + [wire.POLICY_VIOLATION] * (36_000 - told), "what is told of each time")
    check(100 < told < 400, f"{told} times 32 KB are told")

    reader = ask("two groups", wire.DESCRIBE_GROUPS, wire.array([wire.string("large"), wire.string("larger")] * 310))
    equal(reader.number("i"), 2, "groups that are told")
    equal(reader.number("h"), 0, "the first one's error code")
    reader = ask("a group", wire.DESCRIBE_GROUPS, wire.array([wire.string("larger")] * 310))
    equal(reader.take("ih"), (1, 0), "groups that are told, and the error code")

    indexes = wire.array([struct.pack(">i", 0)] * 500_000)
    reader = ask("offsets", wire.OFFSET_FETCH, wire.string("noted") + wire.array([wire.string("long") + indexes]))
    equal((reader.number("i"), reader.string(), reader.number("i")), (1, "long", 500_000), "what is answered")
    _, _, note, code = reader.number("i"), reader.number("q"), reader.string(), reader.number("h")
    equal((note, code), ("", wire.POLICY_VIOLATION), "note and error code")
    with wire.Client(attack.broker.kafka) as client:
        equal(client.committed_offset("noted", "long", 0), 7, "what an honest client is told")


def _read_configs(reader):
    """Past a resource of DescribeConfigs: its error code."""
    code = reader.number("h")
    reader.string()
    reader.number("b")
    reader.string()
    for _ in range(reader.number("i")):
        reader.string()
        reader.string()
        equal(reader.take("bbbi")[3], 0, "synonyms")
        reader.number("b")
        reader.string()
    return code


def lookups_in_bombs(rig):
    """Small questions whose answers lie behind gigabytes of zeros."""
    attack = Attack(rig)
    partitions, inflated_bytes = 60, 60 << 20
    # Its largest timestamp is that of no record: whoever looks for it reads all of them.
    bomb = _signed(_with(wire.batch([bytes(inflated_bytes)], packed=True), 35, "q", wire.NOW_MS + 1))
    wanted = [struct.pack(">iq", partition, wire.NOW_MS + 1) for partition in range(partitions)]
    body = struct.pack(">i", -1) + wire.array([wire.string("bombs") + wire.array(wanted)])
    with wire.Client(attack.broker.kafka, timeout_s=90) as client:
        client.create_topic("bombs", partitions)
        for partition in range(partitions):
            client.produce("bombs", partition, bomb)
        attack.goes_on()
        attack.neighbour.round_s_max = 0
        # The answer to the first question comes when all of it is found, that to others meanwhile.
        asked = client.send(wire.LIST_OFFSETS, body)
        with wire.Client(attack.broker.kafka) as other:
            equal(other.list_offset("neighbour", 0, wire.NOW_MS), 0, "the neighbour's first record")
        answered, reader = client.receive()
        equal(answered, asked, "the question answered")
        equal((reader.number("i"), reader.string(), reader.number("i")), (1, "bombs", partitions), "topics")
        for _ in range(partitions):
            _, code, _, offset = reader.take("ihqq")
            equal((code, offset), (0, 0), "error and offset")
    attack.goes_on()
    longest_s = attack.neighbour.round_s_max
    check(longest_s < ROUND_S_MAX, f"a round took the neighbour {longest_s:.1f} s")
    attack.memory()

    # Nobody waits for these any more: neither does the broker when it is told to stop.
    for _ in range(20):
        with attack.connect() as connection:
            connection.sendall(wire.request(wire.LIST_OFFSETS, body))
    attack.goes_on()
    attack.neighbour.end()
    attack.neighbour.sound()
    began = time.monotonic()
    attack.broker.stop()
    took_s = time.monotonic() - began
    check(took_s < STOP_S_MAX, f"a stop took {took_s:.1f} s")


def more_producers_than_remembered(rig):
    """A new producer id for each batch, in thousands of partitions; the broker has handed out none of them."""
    remembered_max, partitions, frames = 5_000, 2_000, 300
    settings = [
        f"kafka.producer_states_max={remembered_max}",
        # Full before it is measured.
        "log.tail_cache_bytes=16MiB",
        "log.read_cache_bytes=16MiB",
    ]
    attack = Attack(rig, settings)

    def flood(client, producer):
        data = wire.batch([b"value"], producer)
        fields = [struct.pack(">ii", partition, len(data)) + data for partition in range(partitions)]
        topics = wire.array([wire.string("flooded") + wire.array(fields)])
        reader = client.ask(wire.PRODUCE, wire.string(None) + struct.pack(">hi", -1, 10_000) + topics)
        reader.number("i")
        reader.string()
        codes = {reader.take("ihqq")[1] for _ in range(reader.number("i"))}
        equal(codes, {0}, "error codes of a flood")

    def remembered():
        logs = metric(attack.broker, "ringmq_log_producers")
        check(logs <= 2 * remembered_max, f"two logs remember {logs:.0f} producers")
        return logs

    with wire.Client(attack.broker.kafka) as client, wire.Client(attack.broker.kafka) as honest:
        client.create_topic("flooded", partitions)
        honest.create_topic("honest")
        for _ in range(200):
            flood(client, (-1, -1, -1))
        attack.start_of_memory()
        for number in range(frames):
            flood(client, (1_000_000 + number, 0, 0))
            sent = wire.batch([b"mine"], (7, 0, number))
            equal(honest.produce("honest", 0, sent), number, "the offset of the next batch")
            # Another thousand strangers in each of the two logs: fewer than are remembered.
            if number % 10 == 0:
                flood(client, (2_000_000 + number, 0, 0))
            equal(honest.produce("honest", 0, sent), number, "the offset of a retry")
    attack.goes_on()
    attack.memory(growth_bytes_max=48 << 20)
    remembered()
    check(metric(attack.broker, "ringmq_log_producers_evicted_total") > 0, "nobody was forgotten")
    attack.neighbour.end()
    attack.broker.kill()
    attack.broker.start()
    check(remembered() > 0, "a restart has forgotten everybody")
    with wire.Client(attack.broker.kafka) as client:
        equal(client.produce("honest", 0, sent), frames - 1, "the offset of a retry after the restart")


CASES = {
    "hostile/broken frames": broken_frames,
    "hostile/wrong batches": wrong_batches,
    "hostile/mutated frames": mutated_frames,
    "hostile/slow and silent connections": slow_and_silent,
    "hostile/2,000 connections": many_connections,
    "hostile/more connections than allowed": more_connections_than_allowed,
    "hostile/few descriptors": few_descriptors,
    "hostile/more in flight than allowed": more_in_flight_than_allowed,
    "hostile/responses never read": responses_never_read,
    "hostile/memory runs short": memory_runs_short,
    "hostile/joins that are refused": joins_that_are_refused,
    "hostile/groups that fill memory": groups_that_fill_memory,
    "hostile/answers of gigabytes": answers_of_gigabytes,
    "hostile/lookups in bombs": lookups_in_bombs,
    "hostile/more producers than remembered": more_producers_than_remembered,
}
