"""Clients that ask for more memory or time than there is: they get an error, and nobody else waits.

Each takes little to ask. As in every attack, a well-behaved client goes on beside it.
"""

import socket
import struct
import time

import wire
from attack import GROWTH_BYTES_MAX, Attack
from rig import check, equal, metric, until

# Of a neighbour's write and read, on a machine that does other things besides; and of a stop.
ROUND_S_MAX = 2
STOP_S_MAX = 5


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


def joins_that_are_refused(rig):
    """More names than a broker could remember, each in a join that is refused: nothing is left of them."""
    names, breath = 110_000, 1000
    attack = Attack(rig, ["kafka.group_initial_delay=1ms"])
    with wire.Client(attack.broker.kafka) as client:
        for first in range(0, names, breath):
            for number in range(first, first + breath):
                client.send(wire.JOIN_GROUP, wire.join_body(f"name-{number}", session_ms=1))
            for _ in range(breath):
                equal(client.join_code(client.receive()[1]), wire.INVALID_SESSION_TIMEOUT, "the answer to a join")
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
                equal(error.code, wire.COORDINATOR_LOAD_IN_PROGRESS, "the answer to a join")
                refused += 1
        attack.memory()
    # Two logs, each with room for two of those, which count twice.
    check(1 <= taken <= 4, f"{taken} groups of 7 MiB were taken where each log has 32 MiB")
    equal(taken + refused, groups, "answers")
    attack.goes_on()
    with wire.Client(attack.broker.kafka) as client:
        reader = client.ask(wire.JOIN_GROUP, wire.join_body("too large", "range", bytes(9 << 20), 20_000))
        equal(client.join_code(reader), wire.GROUP_MAX_SIZE_REACHED, "the answer to more than a group may have")
        generation, _ = client.join_group("small", session_ms=20_000)
        equal(generation, 1, "the generation of a small group beside the large ones")

    def room_again():
        try:
            with wire.Client(attack.broker.kafka) as client:
                return client.join_group("large again", metadata=metadata, session_ms=1000)
        except wire.KafkaError as error:
            equal(error.code, wire.COORDINATOR_LOAD_IN_PROGRESS, "the answer to a join")

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
    bomb = wire.signed(wire.altered(wire.batch([bytes(inflated_bytes)], packed=True), 35, "q", wire.NOW_MS + 1))
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


def the_same_partition_again_and_again(rig):
    """A frame has room for a partition a hundred thousand times; one turn has time for it once."""
    times, topic, several = 400_000, "again", 2_000
    attack = Attack(rig)
    batch = wire.batch([b"value"])

    def named(fields, count=times):
        return wire.array([wire.string(topic) + struct.pack(">i", count) + fields])

    with wire.Client(attack.broker.kafka, timeout_s=90) as client:
        client.create_topic(topic, several)
        attack.neighbour.round_s_max = 0
        fields = struct.pack(">ii", 0, len(batch)) + batch
        reader = client.ask(wire.PRODUCE, wire.string(None) + struct.pack(">hi", -1, 10_000) + named(fields * times))
        equal((reader.number("i"), reader.string(), reader.number("i")), (1, topic, times), "produced")
        answers = [reader.take("ihqq")[1:3] for _ in range(times)]
        equal(answers[0], (0, 0), "the first batch")
        equal(set(answers[1:]), {(wire.INVALID_REQUEST, -1)}, "all others")
        attack.goes_on()

        # Each write to the partition wakes it, and it looks again. The last time counts.
        first, last = (struct.pack(">iqi", 0, offset, 1 << 20) for offset in (1, 0))
        head = struct.pack(">iiiib", -1, 30_000, 50 * len(batch), 1 << 20, 0)
        asked = client.send(wire.FETCH, head + named(first * (times - 1) + last))
        with wire.Client(attack.broker.kafka) as other:
            for offset in range(1, 50):
                equal(other.produce(topic, 0, batch), offset, "the offset of a batch beside it")
        answered, reader = client.receive()
        equal(answered, asked, "the question answered")
        reader.number("i")
        equal((reader.number("i"), reader.string(), reader.number("i")), (1, topic, 1), "fetched")
        _, code, high_watermark, _, _ = reader.take("ihqqi")
        records = list(wire.records(reader.raw(reader.number("i"))))
        equal((code, high_watermark, len(records)), (0, 50, 50), "what is found")
    longest_s = attack.neighbour.round_s_max
    check(longest_s < ROUND_S_MAX, f"a round took the neighbour {longest_s:.1f} s")

    # Nobody is told without acks, but by this.
    with wire.Client(attack.broker.kafka) as client:
        client.send(wire.PRODUCE, wire.string(None) + struct.pack(">hi", 0, 10_000) + named(fields * 2, 2))
        try:
            client.receive()
            check(False, "twice in a request without acks: the connection should be closed")
        except ConnectionError:
            pass

    # Retries, the last one first: each is answered as the first time, in flight or not.
    def frame(partitions):
        stamped = wire.batch([b"value"], (77, 0, 0))
        fields = b"".join(struct.pack(">ii", index, len(stamped)) + stamped for index in partitions)
        return wire.string(None) + struct.pack(">hi", -1, 10_000) + named(fields, several)

    with wire.Client(attack.broker.kafka) as client:
        asked = [client.send(wire.PRODUCE, frame(order)) for order in (range(several), range(several - 1, -1, -1))]
        offsets = []
        for correlation_id in asked:
            answered, reader = client.receive()
            equal(answered, correlation_id, "the order of the answers")
            equal((reader.number("i"), reader.string(), reader.number("i")), (1, topic, several), "produced")
            rows = [reader.take("ihqq") for _ in range(several)]
            equal({code for _, code, *_ in rows}, {0}, "error codes")
            offsets.append({index: offset for index, _, offset, *_ in rows})
        equal(offsets[1], offsets[0], "the offsets of the retries")
    attack.goes_on()
    attack.memory()


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
    "hostile/memory runs short": memory_runs_short,
    "hostile/joins that are refused": joins_that_are_refused,
    "hostile/groups that fill memory": groups_that_fill_memory,
    "hostile/answers of gigabytes": answers_of_gigabytes,
    "hostile/lookups in bombs": lookups_in_bombs,
    "hostile/the same partition again and again": the_same_partition_again_and_again,
    "hostile/more producers than remembered": more_producers_than_remembered,
}
