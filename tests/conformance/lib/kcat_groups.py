"""Groups, as the members see them that kcat makes: each is a process, and tells on stderr what it owns."""

import re
import signal
import subprocess
import threading
import time

from .checks import equal, until
from .worker import ClientFailed, ClientSkipped

PARTITIONS = 6
SESSION_S = 6
# Of one that comes back in time: a program takes its time to start on a busy machine.
LONG_SESSION_S = 30
# "assigned: t [0], t [1]" in the eager protocol, "incremental assignment of 2 partition(s) (...): t [0], t [1]" in
# the cooperative one.
REBALANCED = re.compile(r"% Group .* rebalanced.*?(assign|revoke)(.*)")
SETTINGS = (
    "-X", f"session.timeout.ms={SESSION_S * 1000}", "-X", "heartbeat.interval.ms=500", "-X", "auto.offset.reset=earliest",
    "-X", "fetch.wait.max.ms=100", "-f", "%p %o\n", "-u",
)  # fmt: skip


class Member:
    """A kcat that consumes as a member of a group until it is ended."""

    def __init__(self, call, group, topic, *args):
        self.owned = set()
        self.rebalances = 0
        self.records = []
        self.is_fenced = False
        self._process = subprocess.Popen(
            call.command("-G", group, *SETTINGS, *args, topic),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        readers = ((self._process.stderr, self._told), (self._process.stdout, self._got))
        self._threads = [threading.Thread(target=self._follow, args=one, daemon=True) for one in readers]
        for thread in self._threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end(signal.SIGKILL)

    def end(self, how):
        """SIGTERM lets it leave the group, SIGKILL does not."""
        self._process.send_signal(how)
        try:
            code = self._process.wait(30)
        except subprocess.TimeoutExpired:
            raise ClientFailed("a member did not end") from None
        for thread in self._threads:
            thread.join()
        self._process.stdout.close()
        self._process.stderr.close()
        return code

    @staticmethod
    def _follow(pipe, note):
        for line in pipe:
            note(line)

    def _told(self, line):
        self.is_fenced |= "fenced by other consumer" in line
        if change := REBALANCED.search(line):
            self.rebalances += 1
            partitions = {int(number) for number in re.findall(r"\[(\d+)\]", change[2])}
            self.owned = self.owned | partitions if change[1] == "assign" else self.owned - partitions

    def _got(self, line):
        self.records.append(tuple(int(number) for number in line.split()))


def _await_shares(what, *members):
    """Waits until these own all partitions, each partition one of them."""

    def shared():
        owned = [partition for member in members for partition in member.owned]
        return sorted(owned) == list(range(PARTITIONS)) and all(member.owned for member in members)

    until(shared, lambda: f"{what}: {[sorted(member.owned) for member in members]}", 60)


def members(call, topic, strategy):
    """Three share the partitions; one is killed, one leaves, and the last takes over."""
    if strategy == "cooperative-sticky" and b"IncrementalAssign" not in call.kcat("-V"):
        raise ClientSkipped("this kcat has the eager protocol only")
    group = f"{topic}-members"
    join = lambda: Member(call, group, topic, "-X", f"partition.assignment.strategy={strategy}")  # noqa: E731
    with join() as first, join() as second:
        _await_shares("two members", first, second)
        with join() as third:
            _await_shares("a third member", first, second, third)
            third.end(signal.SIGKILL)
        _await_shares("the third was killed", first, second)
        second.end(signal.SIGTERM)
        _await_shares("the second has left", first)


def commits(call, topic):
    """Who comes goes on where the last one committed, also when that one was killed before it did."""
    group = f"{topic}-commits"
    produce(call, topic, 0, 30)

    def consume(*args):
        """(partition, offset) of what a new, only member gets."""
        said = call.kcat("-G", group, *SETTINGS, *args, topic)
        return sorted(tuple(int(number) for number in line.split()) for line in said.decode().splitlines())

    def records(first, last):
        return [(partition, offset) for partition in range(PARTITIONS) for offset in range(first, last)]

    # kcat commits when it ends.
    some = consume("-c", "50")
    equal(len(some), 50, "records where so many were asked for")
    rest = consume("-e")
    equal(sorted(some + rest), records(0, 30), "what two got that came one after the other")
    equal(consume("-e"), [], "records beyond the committed offsets")
    produce(call, topic, 30, 40)
    # kcat insists on committing by the clock; what was not stored is not committed.
    with Member(call, group, topic, "-X", "enable.auto.offset.store=false") as killed:
        until(lambda: len(killed.records) >= 10 * PARTITIONS, lambda: f"{len(killed.records)} new records")
        killed.end(signal.SIGKILL)
        equal(sorted(killed.records), records(30, 40), "what the third got")
    equal(consume("-e"), records(30, 40), "what the third did not commit")
    equal(consume("-e"), [], "records after the last commit")


def _join_as(call, group, topic, instance, *args, session_s=SESSION_S):
    """A static member."""
    args = ("-X", f"group.instance.id={instance}", "-X", f"session.timeout.ms={session_s * 1000}", *args)
    return Member(call, group, topic, "-X", "partition.assignment.strategy=range", *args)


def static_members(call, topic):
    """A static member that restarts, and a broker that does, are no reason to rebalance."""
    group = f"{topic}-static"

    def join(instance):
        # -E: a broker that is away for a while is no reason to end.
        return _join_as(call, group, topic, instance, "-E", "-X", "reconnect.backoff.max.ms=100")

    with join("one") as first, join("two") as second, join("three") as third:
        _await_shares("three static members", first, second, third)
        before, counts = set(first.owned), [second.rebalances, third.rebalances]
        # It says that it ends, but as a static member it does not leave.
        first.end(signal.SIGTERM)
        with join("one") as again:
            until(lambda: again.owned == before, lambda: f"the first had {before}, came back to {again.owned}")
            members = (again, second, third)
            for turn, how in enumerate(("kill", "term")):
                call.on_restart(how)
                # Longer than a session: whoever was not recognised would be gone by then.
                over = time.monotonic() + SESSION_S + 2
                until(lambda: time.monotonic() > over, "the clock stands still")  # noqa: B023
                produce(call, topic, 10 * turn, 10 * turn + 10)
                expected = [(partition, offset) for partition in range(PARTITIONS) for offset in range(10 * turn + 10)]
                got = lambda: sorted(record for member in members for record in member.records)  # noqa: E731
                until(lambda: len(got()) >= len(expected), lambda: f"{len(got())} records after {how}")  # noqa: B023
                equal(got(), expected, f"what the members got after {how}")
                for member in members:
                    own = {partition for partition, _ in member.records}
                    equal(own, member.owned, f"partitions that a member reads after {how}")
            _await_shares("after the restarts", *members)
            equal([second.rebalances, third.rebalances], counts, "rebalances of those that stayed")
            equal(again.rebalances, 1, "rebalances of the one that came back")


def static_member_dies(call, topic):
    """Who comes back within its session finds its partitions, and nobody is rebalanced; who stays away loses them."""
    group = f"{topic}-killed"

    def join(instance, **session):
        return _join_as(call, group, topic, instance, **session)

    with join("one") as first, join("two") as second:
        with join("three", session_s=LONG_SESSION_S) as killed:
            _await_shares("three static members", first, second, killed)
            left, counts = set(killed.owned), [first.rebalances, second.rebalances]
            killed.end(signal.SIGKILL)
        with join("three") as again:
            until(lambda: again.owned == left, lambda: f"the third had {left}, came back to {again.owned}")
            equal([first.rebalances, second.rebalances], counts, "rebalances of those that stayed")
            _await_shares("the third came back", first, second, again)
            again.end(signal.SIGKILL)
        _await_shares("the third stayed away", first, second)


def static_member_is_fenced(call, topic):
    """Who comes with the instance id of one that lives takes its place, and the other is told so."""
    group = f"{topic}-fenced"
    join = lambda instance: _join_as(call, group, topic, instance)  # noqa: E731
    with join("one") as first, join("two") as second:
        _await_shares("two static members", first, second)
        place, count = set(first.owned), second.rebalances
        with join("one") as again:
            until(lambda: again.owned == place, lambda: f"the first had {place}, another one got {again.owned}")
            until(lambda: first.is_fenced, "the first was not told")
            equal(second.rebalances, count, "rebalances of the one that stayed")
            _await_shares("the first was told", second, again)


def produce(call, topic, first, last):
    for partition in range(PARTITIONS):
        lines = b"".join(b"value %d\n" % i for i in range(first, last))
        call.kcat("-P", "-t", topic, "-p", str(partition), data=lines)
