"""Groups, as librdkafka's members see them. Cases of client.py, which lends them its pieces.

Run as a program this is a member in a process of its own, made to be killed:

    groups.py <bootstrap> <group> <topic> <partition assignment strategy> [<instance id> <session timeout in ms>]
"""

import os
import sys
import time

from confluent_kafka import Consumer, ConsumerGroupState, KafkaError, KafkaException, TopicPartition

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))
from harness import check  # noqa: E402  (the path is set above)
from member_process import MemberProcess, tell  # noqa: E402

SESSION_MS = 6_000
# Of one that comes back in time: a program takes its time to start on a busy machine.
LONG_SESSION_MS = 30_000
# More than a session, a rebalance and a restart of the broker take on a busy machine.
PATIENCE_S = 60


class Member:
    """A consumer of a group that counts what it is told."""

    def __init__(self, bootstrap, group, topic, strategy, instance=None, session_ms=SESSION_MS):
        self._assigned = set()
        self.rebalances = 0
        self.records = []
        self.is_fenced = False
        settings = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "partition.assignment.strategy": strategy,
            "session.timeout.ms": int(session_ms),
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
        self._assigned |= {tp.partition for tp in partitions}

    def _on_revoke(self, _, partitions):
        self._assigned -= {tp.partition for tp in partitions}

    def _on_lost(self, _, partitions):
        self._assigned -= {tp.partition for tp in partitions}

    def assigned(self):
        return self._assigned

    def poll(self, wait_s=0.02):
        for message in self.consumer.consume(100, timeout=wait_s):
            error = message.error()
            if error is None:
                self.records.append((message.partition(), message.offset()))
            elif error.code() == KafkaError._FATAL:
                self.is_fenced |= "fenced" in error.str()

    def close(self):
        self.consumer.close()
        self._assigned = set()


def until(members, holds, what):
    """Polls all members until the condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        check(time.monotonic() < deadline, f"{what}: {[sorted(m.assigned()) for m in members]}")
        for member in members:
            member.poll()


def share(members, partitions):
    """Do the members share all partitions, each partition with one owner?"""
    owned = [partition for member in members for partition in member.assigned()]
    return sorted(owned) == list(range(partitions)) and all(member.assigned() for member in members)


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
    with MemberProcess(__file__, bootstrap, group, topic, strategy) as third:
        # The others are polled until it has told: a cooperative rebalance has more than one step.
        three = [first, second, third]
        until(three, lambda: share(three, partitions), "a third member")
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

    before = set(members[0].assigned())
    members[0].close()
    members[0] = join("one")
    until(members, lambda: members[0].assigned() == before, "the first came back")

    for how in ("kill", "term"):
        for partition in range(partitions):
            owner = next(member for member in members if partition in member.assigned())
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


def static_member_dies(bootstrap, topic, partitions=6):
    """Who comes back within its session finds its partitions, and nobody is rebalanced; who stays away loses them."""
    group = f"{topic}-killed"
    others = [Member(bootstrap, group, topic, "range", name) for name in ("one", "two")]

    def third(session_ms):
        return MemberProcess(__file__, bootstrap, group, topic, "range", "three", str(session_ms))

    with third(LONG_SESSION_MS) as killed:
        members = [*others, killed]
        until(members, lambda: share(members, partitions), "three static members")
    counts = [member.rebalances for member in others]
    with third(SESSION_MS) as again:
        members = [*others, again]
        until(members, lambda: again.assigned() == killed.assigned(), "the third came back")
        check([member.rebalances for member in others] == counts, "a rebalance without need")
        check(share(members, partitions), "the members lost their partitions")
    until(others, lambda: share(others, partitions), "the third stayed away")
    for member in others:
        member.close()


def static_member_is_fenced(bootstrap, topic, partitions=6):
    """Who comes with the instance id of one that lives takes its place, and the other is told so."""
    group = f"{topic}-fenced"

    def join(instance):
        return Member(bootstrap, group, topic, "range", instance)

    first, second = join("one"), join("two")
    until([first, second], lambda: share([first, second], partitions), "two static members")
    place, count = set(first.assigned()), second.rebalances
    again = join("one")
    members = [first, second, again]
    until(members, lambda: again.assigned() == place, "another one")
    until(members, lambda: first.is_fenced, "the first is told")
    check(second.rebalances == count, "a rebalance without need")
    check(share([second, again], partitions) and not again.is_fenced, "the other one did not stay")
    for member in members:
        member.close()


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
    tell(Member(*sys.argv[1:]))


if __name__ == "__main__":
    main()
