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

import wire
from attack import ANSWER_S_MAX, LAST, Attack
from rig import CaseSkipped, check, equal, metric, until

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fuzz", "corpus", "kafka_request")
SEED = 20_240_601
INT_MAX, INT_MIN = 2**31 - 1, -(2**31)


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
        # Advertised, because librdkafka asks for it; what it would have to answer is gone since Kafka 4.0.
        **{f"Produce {version}": wire.request(wire.PRODUCE, bytes(32), version=version) for version in range(3)},
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
        "magic 1": (wire.altered(good, 16, "b", 1), wire.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        "magic 77": (wire.altered(good, 16, "b", 77), wire.UNSUPPORTED_FOR_MESSAGE_FORMAT),
        "a batch cut off": (good[:-1], wire.CORRUPT_MESSAGE),
        "half a header": (good[:30], wire.CORRUPT_MESSAGE),
        "a length beyond the bytes": (wire.altered(good, 8, "i", INT_MAX), wire.CORRUPT_MESSAGE),
        "a negative length": (wire.altered(good, 8, "i", -1), wire.CORRUPT_MESSAGE),
        "2^31-1 records": (wire.signed(wire.altered(good, 57, "i", INT_MAX)), wire.INVALID_RECORD),
        "2^31-1 records, compressed": (wire.signed(_claiming(INT_MAX)), wire.INVALID_RECORD),
        "2^24+1 records, compressed": (wire.signed(_claiming((1 << 24) + 1)), wire.INVALID_RECORD),
        "-1 records": (wire.signed(wire.altered(good, 57, "i", -1)), wire.INVALID_RECORD),
        "no record": (wire.signed(wire.altered(good, 57, "i", 0)), wire.INVALID_RECORD),
        "a last offset of 2^31-1": (wire.signed(wire.altered(good, 23, "i", INT_MAX)), wire.INVALID_RECORD),
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


def _claiming(count):
    """A compressed batch that claims so many records: only whoever inflates it can tell."""
    packed = wire.batch([b"value"], packed=True)
    return wire.altered(wire.altered(packed, 23, "i", count - 1), 57, "i", count)


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
        # Those that are turned away have a descriptor each for the moment that this takes.
        attack.goes_on()
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
        # In that moment the manifest of a log that has become silent may find none: it is written half a second later.
        told = [line.strip() for line in log if "could not be" in line and "manifest" not in line]
    check(not told, f"there were no descriptors left: {told[:1]}")
    # Nobody gives up a connection but the broker.
    attack.goes_on()
    for connection in taken + half_open:
        connection.close()
    attack.goes_on()


def more_in_flight_than_allowed(rig):
    """A thousand requests in one breath; no answer is read before the last is sent."""
    allowed = 8
    attack = Attack(rig, [f"kafka.connection_in_flight_max={allowed}"])
    requests = 1000
    with wire.Client(attack.broker.kafka) as client:
        client.create_topic("t")
        client.create_topic("quiet")
        # Fetches that have nothing to hope for: as many as are allowed wait for it, the others for them.
        with wire.Client(attack.broker.kafka) as patient:
            for _ in range(4 * allowed):
                patient.send(wire.FETCH, wire.fetch_body("quiet", 0, 0, wait_ms=60_000))
            until(lambda: metric(attack.broker, "ringmq_fetches_parked") == allowed, f"no {allowed} fetches wait")
            attack.goes_on()
            equal(metric(attack.broker, "ringmq_fetches_parked"), allowed, "fetches that wait")
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
}
