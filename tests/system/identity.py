"""Who the broker is to its clients: one node, or one for each log; and what a consumer need not say twice."""

import json
import os
import struct
import subprocess

import wire
from lib.broker import by_log, free_base_port
from rig import CaseSkipped, admin, admin_json, check, equal, metric

LOGS = 2
PARTITIONS = 6
BENCH_S_MAX = 120


def a_broker_per_log(rig):
    """Each log is a broker at its own port, served by its shard; any port does what is asked of it."""
    broker = rig.running(shards=LOGS, settings=by_log(free_base_port(LOGS)))
    nodes = _advertised(broker)
    equal(sorted(nodes), [1001, 1002], "node ids")
    with wire.Client(broker.kafka) as client:
        client.create_topic("t", PARTITIONS)
        _, leaders = _metadata(client, "t")
    for leader in set(leaders.values()):
        check(leader in nodes, f"partitions are led by {leader}, which nobody is told of")
    check(len(set(leaders.values())) == LOGS, f"all partitions are led by one log: {leaders}")
    for number, address in enumerate(nodes.values()):
        with wire.Client(address) as client:
            brokers, seen = _metadata(client, "t")
            equal((brokers, seen), (nodes, leaders), f"metadata at {address}")
            for partition in range(PARTITIONS):
                equal(client.produce("t", partition, wire.batch([b"value %d" % number])), number, "offset")
                _, high_watermark = client.fetch("t", partition, 0)
                equal(high_watermark, number + 1, "high watermark")
    _connections_stay(broker, nodes)
    broker.stop()


def _connections_stay(broker, nodes):
    """Those of a log's port are with the shard that hosts the log: the number of one is that of the other, less 1."""
    clients = []
    for node, address in nodes.items():
        before = _connections(broker)
        for _ in range(5):
            clients.append(wire.Client(address))
            clients[-1].api_versions()
        grown = {shard: count - before[shard] for shard, count in _connections(broker).items()}
        equal(grown, {shard: 5 * (shard == node - 1001) for shard in range(LOGS)}, f"connections of each shard, {node}")
    for client in clients:
        client.close()


def _connections(broker):
    return _by_shard(broker, "ringmq_connections_opened_total")


def _by_shard(broker, name, label=""):
    lines = [line for line in admin(broker, "/metrics").splitlines() if line.startswith(name + "{") and label in line]
    counts = {int(line.split('shard="', 1)[1].split('"', 1)[0]): float(line.rsplit(" ", 1)[1]) for line in lines}
    return {shard: counts.get(shard, 0) for shard in range(LOGS)}


def other_numbers_of_shards(rig):
    """2 → 1 → 2 shards: a log keeps its number and its port, its partitions and its groups."""
    broker = rig.broker(shards=LOGS, settings=by_log(free_base_port(LOGS)))
    first = None
    for round_, shards in enumerate((2, 1, 2)):
        broker.shards = shards
        broker.start()
        with wire.Client(broker.kafka) as client:
            if round_ == 0:
                client.create_topic("t", PARTITIONS)
                for group in range(4):
                    at = _coordinator(client, f"g{group}")
                    with wire.Client(_advertised(broker)[at]) as coordinator:
                        coordinator.commit_offset(f"g{group}", "t", 0, group)
            coordinators = [_coordinator(client, f"g{group}") for group in range(4)]
            identity = (*_metadata(client, "t"), coordinators, _advertised(broker))
        first = first or identity
        equal(identity, first, f"the identity with {shards} shards")
        brokers, leaders, coordinators, _ = identity
        for partition, leader in leaders.items():
            with wire.Client(brokers[leader]) as client:
                equal(client.produce("t", partition, wire.batch([b"value"])), round_, "offset")
        for group, at in enumerate(coordinators):
            with wire.Client(brokers[at]) as client:
                equal(client.committed_offset(f"g{group}", "t", 0), group, "what the group committed")
        broker.stop()


def behind_a_router(rig):
    """Clients are told what the configuration says, not what is bound."""
    base = free_base_port(LOGS)
    settings = [*by_log(base), "kafka.advertised_host=kafka.example.com", "kafka.advertised_log_base_port=30000"]
    broker = rig.running(shards=LOGS, settings=settings)
    told = {1001: "kafka.example.com:30001", 1002: "kafka.example.com:30002"}
    equal(_advertised(broker), told, "what /info says")
    with wire.Client(f"127.0.0.1:{base + 1}") as client:
        equal(_metadata(client, "none")[0], told, "what metadata says")
    broker.stop()
    broker = rig.running(settings=["kafka.advertised_host=kafka.example.com", "kafka.advertised_port=19092"])
    equal(_advertised(broker), {1: "kafka.example.com:19092"}, "what /info says")
    with wire.Client(broker.kafka) as client:
        equal(_metadata(client, "none")[0], {1: "kafka.example.com:19092"}, "what metadata says")
    broker.stop()


def a_log_port_that_is_taken(rig):
    base = free_base_port(LOGS)
    first = rig.running(shards=LOGS, settings=by_log(base))
    code, text = rig.broker(shards=LOGS, settings=by_log(base)).refusal()
    check(code != 0, "it ends with code 0")
    for word in (f"127.0.0.1:{base + 1}", "log 1", "kafka.log_base_port"):
        check(word in text, f"{word!r} is not in what it says: {text!r}")
    check(first.is_ready(), "the first broker is disturbed")


# --- The load generator. ---


def load_of_each_log(rig):
    """`ringmq bench` gives each log, at its own port, only what it leads; consumers and groups read it all."""
    broker = rig.running(shards=LOGS, settings=by_log(free_base_port(LOGS)))
    for topic, groups, more in (
        ("assigned", 1, ("--consumers", "3")),
        ("verified", 1, ("--verify",)),
        ("members", 4, ("--consumers", "2", "--groups", "4", "--group-protocol", "classic")),
    ):
        before = _produce_requests(broker)
        options = ("--topic", topic, "--partitions", PARTITIONS, "--connections", 4, *more)
        result, said = _bench(rig, "--bootstrap", broker.kafka, *options)
        (run,) = result["runs"]
        _check_ledger(run, groups, said)
        with wire.Client(broker.kafka) as client:
            brokers, leaders = _metadata(client, topic)
            coordinators = {_coordinator(client, f"{topic}-group-{group}") for group in range(groups)}
        records = dict.fromkeys(brokers, 0)
        for partition, leader in leaders.items():
            with wire.Client(brokers[leader]) as client:
                _, high_watermark = client.fetch(topic, partition, 0)
            check(high_watermark > 0, f"partition {partition} of {topic} got nothing")
            records[leader] += high_watermark
        equal(run["leaders"], LOGS, "nodes that lead the partitions, as the result has it")
        check(len(records) == LOGS and all(records.values()), f"records of each log: {records}")
        equal(sum(records.values()), run["ledger"]["acked"], f"records of all logs: {records}")
        # A record a request, and the port of a log is served by the shard of the same number, less 1.
        came = {1001 + shard: count - before[shard] for shard, count in _produce_requests(broker).items()}
        equal(came, records, "requests that came to each log's port, and records that it has")
        if groups > 1:
            equal(len(coordinators), LOGS, "logs that coordinate groups")
            equal((run["group_work"]["members"], run["group_work"]["offsets_wrong"]), (8, 0), "members, wrong offsets")
    for option in ("--connections", "--consumers"):
        counts = {"--partitions": PARTITIONS, "--connections": LOGS, "--consumers": LOGS, option: 1}
        _, said = _bench(rig, "--bootstrap", broker.kafka, *(word for pair in counts.items() for word in pair))
        check(f"give {option} {LOGS} or more, not 1" in said, f"with too few: {said}")
    broker.stop()


def load_of_an_own_broker(rig):
    """`ringmq bench` starts a broker that is one for each log, if it is told to."""
    cpus = sorted(os.sched_getaffinity(0))[:LOGS]
    if len(cpus) < LOGS:
        raise CaseSkipped("two shards of a broker that is started by `ringmq bench` need two CPUs")
    options = ["--broker-cpus", ",".join(map(str, cpus)), "--partitions", PARTITIONS, "--connections", 2]
    settings = [word for setting in by_log(0) for word in ("--set", setting)]
    result, said = _bench(rig, *options, *settings, "--consumers", 2)
    equal([node["node_id"] for node in result["broker"]["info"]["advertised"]], [1001, 1002], "node ids")
    _check_ledger(result["runs"][0], 1, said)


def _bench(rig, *options):
    """Its result, if there is one, and what it said. The machine decides whether the run counts."""
    path = os.path.join(rig.folder, "bench.json")
    if os.path.exists(path):
        os.remove(path)
    command = [
        rig.binary, "bench", "--out", rig.folder, "--no-report", "--json", path, "--quiet", "--rate", 2000,
        "--batch-records", 1, "--seconds", 2, "--warmup", 0, *options,
    ]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BENCH_S_MAX
    )
    if not os.path.exists(path):
        return None, done.stdout + done.stderr
    with open(path, encoding="utf-8") as file:
        return json.load(file), done.stdout + done.stderr


def _check_ledger(run, groups, said):
    """Whatever was acknowledged was read by every group."""
    ledger = run["ledger"]
    faults = {name: ledger[name] for name in ("lost", "duplicated", "reordered", "corrupt", "read_offsets_skipped")}
    check(not any(faults.values()) and run["errors"] == 0, f"{faults}: {said}")
    check(ledger["acked"] > 0, f"nothing was acknowledged: {said}")
    equal(ledger["read"], ledger["acked"] * groups, f"records read; it said: {said}")


def _produce_requests(broker):
    """Of each shard."""
    return _by_shard(broker, "ringmq_requests_total", 'api="Produce"')


def _advertised(broker):
    """The address of each node id, as /info has it."""
    return {node["node_id"]: f"{node['host']}:{node['port']}" for node in admin_json(broker, "/info")["advertised"]}


def _metadata(client, topic):
    """The address of each broker, and the leader of each of the topic's partitions."""
    reader = client.ask(wire.METADATA, wire.array([wire.string(topic)]) + b"\0")
    reader.number("i")
    brokers = {}
    for _ in range(reader.number("i")):
        node = reader.number("i")
        host = reader.string()
        brokers[node] = f"{host}:{reader.number('i')}"
        reader.string()
    reader.string()
    controller = reader.number("i")
    check(controller in brokers, f"the controller {controller} is none of {brokers}")
    leaders = {}
    for _ in range(reader.number("i")):
        reader.number("h")
        reader.string()
        reader.number("b")
        for _ in range(reader.number("i")):
            _, partition, leader = reader.take("hii")
            for what in ("replicas", "in-sync replicas"):
                equal([reader.number("i") for _ in range(reader.number("i"))], [leader], f"{what} of {partition}")
            leaders[partition] = leader
    return brokers, leaders


def _coordinator(client, group):
    reader = client.ask(wire.FIND_COORDINATOR, wire.string(group))
    code, node = reader.take("hi")
    equal(code, 0, "error code of FindCoordinator")
    return node


# --- Fetch sessions. ---

SESSION_PARTITIONS = 300


def sessions(rig):
    """A consumer of many partitions names them once, and hears only of those with news, on either shard."""
    broker = rig.running(shards=2)
    with wire.Client(broker.kafka) as client, wire.Client(broker.kafka) as other:
        client.create_topic("t", SESSION_PARTITIONS)
        everything = {partition: 0 for partition in range(SESSION_PARTITIONS)}
        code, session, answers = _fetch(client, (0, 0), everything, wait_ms=1)
        equal((code, sorted(answers)), (0, sorted(everything)), "the first answer")
        check(session != 0, "there is no session")
        equal(metric(broker, "ringmq_fetch_sessions"), 1, "sessions")

        epoch = 1
        for partition in (7, 8, 7, 299):
            offset = other.produce("t", partition, wire.batch([b"value"]))
            code, same, answers = _fetch(client, (session, epoch), {})
            equal((code, same, list(answers)), (0, session, [partition]), "an answer to nothing named")
            equal([at for at, _ in wire.records(answers[partition][1])], [offset], "offsets")
            # What was read is not sent again once the consumer says so; nothing else is either.
            code, _, answers = _fetch(client, (session, epoch + 1), {partition: offset + 1}, wait_ms=1)
            equal((code, answers), (0, {}), "an answer where nothing has happened")
            epoch += 2

        equal(_fetch(client, (session, 1), {})[0], 71, "a wrong epoch")
        equal(_fetch(client, (session + 1, 1), {})[0], 70, "another session")
        equal(_fetch(other, (session, epoch), {})[0], 70, "the session of another connection")
        # A partition that is forgotten is not heard of; a deleted topic is.
        other.produce("t", 9, wire.batch([b"value"]))
        code, _, answers = _fetch(client, (session, epoch), {}, forgotten=[9], wait_ms=1)
        equal((code, answers), (0, {}), "an answer about what was forgotten")
        client.send(wire.FETCH, _fetch_body((session, epoch + 1), {}, (), 30_000), version=7)
        other.delete_topic("t")
        code, _, answers = _fetched(client.receive()[1])
        unknown = {partition for partition, (code, _) in answers.items() if code == wire.UNKNOWN_TOPIC_OR_PARTITION}
        check(unknown and unknown == set(answers), f"the topic is gone, and the answer is {answers}")
    broker.stop()


def _fetch(client, session, offsets, forgotten=(), wait_ms=10_000):
    client.send(wire.FETCH, _fetch_body(session, offsets, forgotten, wait_ms), version=7)
    return _fetched(client.receive()[1])


def _fetch_body(session, offsets, forgotten, wait_ms):
    """Version 7."""
    named = [struct.pack(">iqqi", partition, offset, -1, 1 << 20) for partition, offset in offsets.items()]
    topics = wire.array([wire.string("t") + wire.array(named)] if named else [])
    gone = [struct.pack(">i", partition) for partition in forgotten]
    head = struct.pack(">iiiibii", -1, wait_ms, 1, 1 << 20, 0, *session)
    return head + topics + wire.array([wire.string("t") + wire.array(gone)] if gone else [])


def _fetched(reader):
    """The error, the session, and for each partition its error and its records."""
    _, code, session, topics = reader.take("ihii")
    answers = {}
    for _ in range(topics):
        reader.string()
        for _ in range(reader.number("i")):
            partition, error, _, _, _, aborted = reader.take("ihqqqi")
            check(aborted <= 0, "aborted transactions where there are none")
            check(partition not in answers, f"partition {partition} twice in an answer")
            answers[partition] = (error, reader.raw(reader.number("i")))
    return code, session, answers


CASES = {
    "identity/a broker per log": a_broker_per_log,
    "identity/2, 1, 2 shards": other_numbers_of_shards,
    "identity/behind a router": behind_a_router,
    "identity/a log's port that is taken": a_log_port_that_is_taken,
    "identity/load of each log": load_of_each_log,
    "identity/load of an own broker": load_of_an_own_broker,
    "identity/fetch sessions": sessions,
}
