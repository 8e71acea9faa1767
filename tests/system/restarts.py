"""Restarts in good order: with another number of shards, and in the middle of load."""

import signal

import wire
from rig import Writer, check, equal, until

PARTITIONS = 6
RECORDS = 20


def other_numbers_of_shards(rig):
    """2 → 1 → 2 shards: what was written under each stays, in order, with its offsets and those of groups."""
    broker = rig.broker(shards=2)
    for round_, shards in enumerate((2, 1, 2)):
        broker.shards = shards
        broker.start()
        with wire.Client(broker.kafka) as client:
            if round_ == 0:
                client.create_topic("t", PARTITIONS)
            for partition in range(PARTITIONS):
                _check_partition(client, partition, round_ * RECORDS)
                equal(_group_offset(client, partition), 0 if round_ == 0 else round_ * 10 + partition, "group offset")
                for number in range(round_ * RECORDS, (round_ + 1) * RECORDS):
                    equal(client.produce("t", partition, wire.batch([_value(partition, number)])), number, "offset")
                client.commit_offset("g", "t", partition, (round_ + 1) * 10 + partition)
                _check_partition(client, partition, (round_ + 1) * RECORDS)
        broker.stop()


def _group_offset(client, partition):
    """0 where nothing was committed: the protocol says -1."""
    return max(client.committed_offset("g", "t", partition), 0)


def _value(partition, number):
    return b"partition %d number %d" % (partition, number)


def _check_partition(client, partition, count):
    wanted = [(number, _value(partition, number)) for number in range(count)]
    equal(list(client.read_all("t", partition)), wanted, f"partition {partition}")
    equal(client.list_offset("t", partition, wire.EARLIEST), 0, f"start of partition {partition}")
    equal(client.list_offset("t", partition, wire.LATEST), count, f"end of partition {partition}")


def offsets_of_a_deleted_topic(rig):
    """What was committed for a topic goes with it, for good: also when the broker is killed right after."""
    broker = rig.running(shards=2)
    groups = [f"group {number}" for number in range(6)]
    with wire.Client(broker.kafka) as client:
        for topic in ("stays", "goes"):
            client.create_topic(topic, PARTITIONS)
        for group in groups:
            client.commit_offset(group, "goes", 0, 5)
        client.commit_offset(groups[0], "stays", 0, 6)
        client.delete_topic("goes")
        equal(client.list_groups(), groups[:1], "groups after the topic is deleted")
    for end in (broker.kill, broker.stop, broker.stop):
        end()
        broker.start()
        with wire.Client(broker.kafka) as client:
            equal(client.list_groups(), groups[:1], "groups after a restart")
            equal(client.committed_offset(groups[0], "stays", 0), 6, "what is committed for another topic")
    broker.stop()


def stop_under_load(rig):
    """SIGTERM while requests are under way: what was taken up is answered, and the next start reads nothing again."""
    partitions = 4
    broker = rig.running(shards=2)
    parked = wire.Client(broker.kafka)
    parked.create_topic("t", partitions)
    parked.create_topic("quiet")
    writers = [rig.beside(Writer(broker, "t", partition)) for partition in range(partitions)]
    for writer in writers:
        until(lambda writer=writer: len(writer.acked) > 200, "the load does not run")
        writer.sound()
    # A long poll that has nothing to hope for, and a connection that has nothing to say.
    parked.send(wire.FETCH, wire.fetch_body("quiet", 0, 0, wait_ms=60_000))
    idle = wire.Client(broker.kafka)
    idle.api_versions()
    broker.stop()
    for writer in writers:
        writer.join(10)
        check(not writer.is_alive(), "a connection is open although the broker has ended")
        writer.sound()
    equal(parked.fetched(parked.receive()[1]), (b"", 0), "the answer to the long poll")

    broker.start()
    with open(broker.log_path, encoding="utf-8") as log:
        starts = [line for line in log if "closed in order" in line]
    equal(len(starts), 3, "logs that the next start finds closed in order")
    with wire.Client(broker.kafka) as client:
        for partition, writer in enumerate(writers):
            found = {offset: value for offset, value in client.read_all("t", partition, max_bytes=4 << 20)}
            wanted = {offset: writer.value(number) for offset, number in writer.acked.items()}
            lost = wanted.items() - found.items()
            check(not lost, f"partition {partition}: {len(lost)} acknowledged records are lost")
            unanswered = found.keys() - wanted.keys()
            check(not unanswered, f"partition {partition}: {len(unanswered)} records were written, but never answered")
    broker.stop()


def two_signals_at_once(rig):
    """As `timeout` sends them, to its child and then to the group: the stop stays one in good order."""
    broker = rig.running()
    with wire.Client(broker.kafka) as client:
        client.create_topic("t")
        client.produce("t", 0, wire.batch([b"value"]))
    # Two kinds, because the kernel makes one of two that are the same.
    broker.signal(signal.SIGTERM)
    broker.signal(signal.SIGINT)
    code = until(lambda: [broker.died_by_itself()] if not broker.is_running() else None, "it does not stop")
    equal(code, [0], "exit codes")
    broker.kill()
    broker.start()
    with open(broker.log_path, encoding="utf-8") as log:
        starts = [line for line in log if "closed in order" in line]
    equal(len(starts), 2, "logs that the next start finds closed in order")
    broker.stop()


CASES = {
    "restarts/2, 1, 2 shards": other_numbers_of_shards,
    "restarts/offsets of a deleted topic": offsets_of_a_deleted_topic,
    "restarts/SIGTERM under load": stop_under_load,
    "restarts/two signals at once": two_signals_at_once,
}
