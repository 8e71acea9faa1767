"""Groups, as librdkafka's members see them. Cases of client.py, which lends them its pieces.

Run as a program this is a member in a process of its own, made to be killed:

    groups.py <bootstrap> <group> <topic> <partition assignment strategy>
"""

import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, ConsumerGroupState, KafkaException, TopicPartition

SESSION_MS = 6_000
# More than a session, a rebalance and a restart of the broker take on a busy machine.
PATIENCE_S = 60


def check(condition, message):
    if not condition:
        raise AssertionError(message)


class Member:
    """A consumer of a group that counts what it is told."""

    def __init__(self, bootstrap, group, topic, strategy, instance=None):
        self.assigned = set()
        self.rebalances = 0
        self.records = []
        settings = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "partition.assignment.strategy": strategy,
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 500,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
        if instance is not None:
            settings["group.instance.id"] = instance
        self.consumer = Consumer(settings)
        self.consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _on_assign(self, _, partitions):
        self.rebalances += 1
        self.assigned |= {tp.partition for tp in partitions}

    def _on_revoke(self, _, partitions):
        self.assigned -= {tp.partition for tp in partitions}

    def _on_lost(self, _, partitions):
        self.assigned -= {tp.partition for tp in partitions}

    def poll(self):
        for message in self.consumer.consume(100, timeout=0.02):
            if message.error() is None:
                self.records.append((message.partition(), message.offset()))

    def close(self):
        self.consumer.close()
        self.assigned = set()


def until(members, holds, what):
    """Polls all members until the condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        check(time.monotonic() < deadline, f"{what}: {[sorted(m.assigned) for m in members]}")
        for member in members:
            member.poll()


def share(members, partitions):
    """Do the members share all partitions, each partition with one owner?"""
    owned = [partition for member in members for partition in member.assigned]
    return sorted(owned) == list(range(partitions)) and all(member.assigned for member in members)


def poll_for(members, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for member in members:
            member.poll()


def members_come_and_go(bootstrap, topic, strategy, partitions=6):
    """Three share the partitions; one leaves, one is killed, and the last takes over."""
    group = f"{topic}-members"

    def join():
        return Member(bootstrap, group, topic, strategy)

    first, second = join(), join()
    until([first, second], lambda: share([first, second], partitions), "two members")
    third = subprocess.Popen(
        [sys.executable, __file__, bootstrap, group, topic, strategy], stdout=subprocess.PIPE, text=True
    )
    told = []
    reader = threading.Thread(target=lambda: told.extend(iter(third.stdout.readline, "")))
    reader.start()
    try:
        # It tells how many partitions it has, each time that this changes. The others are polled until it has
        # told: a cooperative rebalance has more than one step.
        thirds = lambda: told[-1:] == ["2\n"] and len(first.assigned | second.assigned) == 4  # noqa: E731
        until([first, second], thirds, "a third member")
    finally:
        third.kill()
        third.wait()
        reader.join()
        third.stdout.close()
    until([first, second], lambda: share([first, second], partitions), "the third was killed")
    second.close()
    until([first], lambda: share([first], partitions), "the second has left")
    first.close()
    return group


def first_offsets(bootstrap, group, topic, count, before_leaving=lambda member: None):
    """The first offset of each partition that a new, only member gets, and no more than `count` records."""
    member = Member(bootstrap, group, topic, "range")
    until([member], lambda: len(member.records) >= count, f"{count} records")
    poll_for([member], 0.1)
    check(len(member.records) == count, f"{len(member.records)} records, expected {count}")
    before_leaving(member)
    member.close()
    return [min(offset for q, offset in member.records if q == p) for p in sorted({p for p, _ in member.records})]


def static_members(bootstrap, topic, restart, admin, partitions=6):
    """A static member that restarts, and a broker that does, are no reason to rebalance; and what was
    committed stays."""
    group = f"{topic}-static"

    def join(instance):
        return Member(bootstrap, group, topic, "range", instance)

    members = [join(name) for name in ("one", "two", "three")]
    until(members, lambda: share(members, partitions), "three static members")
    poll_for(members, 1)
    counts = [member.rebalances for member in members]

    before = set(members[0].assigned)
    members[0].close()
    members[0] = join("one")
    until(members, lambda: members[0].assigned == before, "the first came back")

    for how in ("kill", "term"):
        for partition in range(partitions):
            owner = next(member for member in members if partition in member.assigned)
            asked = [TopicPartition(topic, partition, 10 + partition + (how == "term"))]
            commit(owner, asked)
        restart(how)
        # Longer than a session: whoever was not recognised would be gone by then.
        poll_for(members, SESSION_MS / 1000 + 2)
        check(share(members, partitions), f"the members lost their partitions: {how}")
    check([member.rebalances for member in members[1:]] == counts[1:], "a rebalance without need")

    described = admin.describe_consumer_groups([group])[group].result(PATIENCE_S)
    check(described.state == ConsumerGroupState.STABLE, f"state {described.state}")
    names = sorted(member.group_instance_id for member in described.members)
    check(names == ["one", "three", "two"], f"members {names}")
    found = members[0].consumer.committed([TopicPartition(topic, p) for p in range(partitions)], PATIENCE_S)
    check([tp.offset for tp in found] == [11 + p for p in range(partitions)], f"committed: {found}")
    for member in members:
        member.close()
    return group


def commit(member, offsets):
    """A commit that is tried again while the coordinator is away."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            for done in member.consumer.commit(offsets=offsets, asynchronous=False):
                check(done.error is None, f"commit: {done.error}")
            return
        except KafkaException as error:
            check(time.monotonic() < deadline, f"commit: {error}")
            member.poll()


def main():
    member = Member(*sys.argv[1:])
    told = 0
    while True:
        member.poll()
        if len(member.assigned) != told:
            told = len(member.assigned)
            print(told, flush=True)


if __name__ == "__main__":
    main()
