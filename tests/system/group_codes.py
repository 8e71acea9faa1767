"""Which error code a group answers with: each request in each state of a group, and what is special."""

import struct

import shapes
import wire
from codes import NONE, Code, Differs, Each, Row, Table, Whole, make_topic, settled
from rig import equal, until

SESSION_MS = 600_000
TOPIC, OTHER_TOPIC = "read", "unread"
# Kafka's defaults, and ours.
SESSION_MS_MIN, SESSION_MS_MAX = 6_000, 1_800_000
NOTE_CHARACTERS_MAX = 4096
STRANGER = "a-member-of-another-group"


def _subscription(topic):
    return struct.pack(">h", 0) + wire.array([wire.string(topic)]) + struct.pack(">i", -1)


# --- Requests. Each is made for somebody who has been a member of a group, or is: a `Scene`. ---


class Scene:
    """A group, and who somebody is in it."""

    def __init__(self, group, generation=1, member=STRANGER, instance=None):
        self.group = group
        self.generation = generation
        self.member = member
        self.instance = instance


# Who asks: generation, member and instance.
WHO = {
    "the member": lambda s: (s.generation, s.member, s.instance),
    "a stale generation": lambda s: (s.generation - 1, s.member, s.instance),
    "a future generation": lambda s: (s.generation + 1, s.member, s.instance),
    "no generation": lambda s: (-1, s.member, s.instance),
    "a stranger": lambda s: (s.generation, STRANGER, None),
    "a stranger under its instance": lambda s: (s.generation, STRANGER, s.instance),
    "an unknown instance": lambda s: (s.generation, s.member, "nobody"),
    "without its instance": lambda s: (s.generation, s.member, None),
    "nobody": lambda s: (-1, "", None),
    "its instance": lambda s: (-1, "", s.instance),
    "another instance": lambda s: (-1, "", "nobody"),
}


def heartbeat(who="the member"):
    return lambda s: (wire.HEARTBEAT, 3, [s.group, *WHO[who](s)])


def sync(who="the member"):
    def request(s):
        generation, member, instance = WHO[who](s)
        return wire.SYNC_GROUP, 3, [s.group, generation, member, instance, [[member, b"mine"]]]

    return request


def sync_as(kind, protocol):
    """With what the member takes for the group's protocol."""
    return lambda s: (wire.SYNC_GROUP, 5, [s.group, s.generation, s.member, s.instance, kind, protocol, []])


def join(member="", instance=None, kind="consumer", protocols=("range",), session_ms=SESSION_MS):
    said = [[protocol, _subscription(TOPIC)] for protocol in protocols]
    head = [session_ms, SESSION_MS]
    return lambda s: (wire.JOIN_GROUP, 5, [s.group, *head, member, instance, kind, said])


def join_again(**words):
    return lambda s: join(member=s.member, instance=s.instance, **words)(s)


def leave(who="the member"):
    def request(s):
        _, member, instance = WHO[who](s)
        return wire.LEAVE_GROUP, 3, [s.group, [[member, instance]]]

    return request


def commit(who="the member", topic=TOPIC, partition=0, offset=5, note=None, version=7):
    parts = [[topic, [[partition, offset, -1, note]]]]
    return lambda s: (wire.OFFSET_COMMIT, version, [s.group, *WHO[who](s), parts])


def fetch_offsets(topic=TOPIC, partition=0):
    return lambda s: (wire.OFFSET_FETCH, 5, [s.group, [[topic, [partition]]]])


def describe(version=4):
    return lambda s: (wire.DESCRIBE_GROUPS, version, [[s.group], 0])


def delete():
    return lambda s: (wire.DELETE_GROUPS, 1, [[s.group]])


def delete_offsets(*topics, partition=0):
    return lambda s: (wire.OFFSET_DELETE, 0, [s.group, [[topic, [[partition]]] for topic in topics]])


# --- Each request in each state. ---

U, G, R = Code.UNKNOWN_MEMBER_ID, Code.ILLEGAL_GENERATION, Code.REBALANCE_IN_PROGRESS
P, N, F = Code.INCONSISTENT_GROUP_PROTOCOL, Code.MEMBER_ID_REQUIRED, Code.GROUP_ID_NOT_FOUND
ok, full, read, fenced = NONE, Code.NON_EMPTY_GROUP, Code.GROUP_SUBSCRIBED_TO_TOPIC, Code.FENCED_INSTANCE_ID
no_group = Whole(F)

STATES = ["absent", "offsets", "empty", "deleted", "preparing", "completing", "stable"]
# As DescribeGroups calls them.
STATE_NAMES = dict(zip(
    STATES, ["Dead", "Empty", "Empty", "Dead", "PreparingRebalance", "CompletingRebalance", "Stable"], strict=True
))  # fmt: skip
IN_EACH_STATE = [
    #                                           absent offsets empty deleted preparing completing stable
    ("heartbeat", heartbeat(),                      [U, U, U, U, R, ok, ok]),
    ("heartbeat, stale", heartbeat("a stale generation"), [U, U, U, U, G, G, G]),
    ("heartbeat, future", heartbeat("a future generation"), [U, U, U, U, G, G, G]),
    ("heartbeat, no generation", heartbeat("no generation"), [U, U, U, U, G, G, G]),
    ("heartbeat, stranger", heartbeat("a stranger"), [U, U, U, U, U, U, U]),
    ("heartbeat, no member", heartbeat("nobody"),   [U, U, U, U, U, U, U]),
    ("heartbeat, instance", heartbeat("an unknown instance"), [U, U, U, U, U, U, U]),
    ("sync", sync(),                                [U, U, U, U, R, ok, ok]),
    ("sync, stale", sync("a stale generation"),     [U, U, U, U, G, G, G]),
    ("sync, future", sync("a future generation"),   [U, U, U, U, G, G, G]),
    ("sync, stranger", sync("a stranger"),          [U, U, U, U, U, U, U]),
    ("sync, instance", sync("an unknown instance"), [U, U, U, U, U, U, U]),
    ("sync, right protocol", sync_as("consumer", "range"), [U, U, U, U, R, ok, ok]),
    ("sync, other protocol", sync_as("consumer", "sticky"), [U, U, U, U, P, P, P]),
    ("sync, other type", sync_as("connect", "range"), [U, U, U, U, P, P, P]),
    ("sync, protocol not said", sync_as("consumer", None), [P, P, P, P, P, P, P]),
    ("sync, type not said", sync_as(None, "range"), [P, P, P, P, P, P, P]),
    ("join", join(),                                [N, N, N, N, N, N, N]),
    ("join again", join_again(),                    [U, U, U, U, ok, ok, ok]),
    ("join, stranger", join(member=STRANGER),       [U, U, U, U, U, U, U]),
    ("join, stranger's instance", join(member=STRANGER, instance="i"), [U, U, U, U, U, U, U]),
    ("join, other type", join(kind="connect"),      [N, N, N, N, P, P, P]),
    ("join, other protocol", join(protocols=["sticky"]), [N, N, N, N, P, P, P]),
    ("join, one of two protocols", join(protocols=["sticky", "range"]), [N, N, N, N, N, N, N]),
    ("join, no protocol", join(protocols=[]),       [P, P, P, P, P, P, P]),
    ("join, no type", join(kind=""),                [P, P, P, P, P, P, P]),
    ("join again, other protocol", join_again(protocols=["sticky"]), [U, U, U, U, P, P, P]),
    ("leave", leave(),                              [U, U, U, U, ok, ok, ok]),
    ("leave, stranger", leave("a stranger"),        [U, U, U, U, U, U, U]),
    ("leave, unknown instance", leave("another instance"), [U, U, U, U, U, U, U]),
    ("leave, nobody", leave("nobody"),              [U, U, U, U, U, U, U]),
    ("commit", commit(),                            [G, U, U, G, ok, R, ok]),
    ("commit, stale", commit("a stale generation"), [G, U, U, G, G, G, G]),
    ("commit, future", commit("a future generation"), [G, U, U, G, G, G, G]),
    ("commit, stranger", commit("a stranger"),      [G, U, U, G, U, U, U]),
    ("commit, instance", commit("an unknown instance"), [G, U, U, G, U, U, U]),
    ("commit, nobody", commit("nobody"),            [ok, ok, ok, ok, U, U, U]),
    ("commit, no generation", commit("no generation"), [ok, ok, ok, ok, G, G, G]),
    ("commit 9", commit(version=9),                 [F, U, U, F, ok, R, ok]),
    ("fetch offsets", fetch_offsets(),              [ok, ok, ok, ok, ok, ok, ok]),
    ("describe", describe(),                        [ok, ok, ok, ok, ok, ok, ok]),
    ("describe 6", describe(6),                     [F, ok, ok, F, ok, ok, ok]),
    ("delete", delete(),                            [F, ok, ok, F, full, full, full]),
    ("delete offsets", delete_offsets(TOPIC),       [no_group, ok, ok, no_group, read, read, read]),
    ("delete offsets, unread", delete_offsets(OTHER_TOPIC), [no_group, ok, ok, no_group, ok, ok, ok]),
]  # fmt: skip

# A static member, and one whose place another process has taken under its instance.
STATIC_STATES = ["static", "replaced"]
OF_STATIC_MEMBERS = [
    ("heartbeat", heartbeat(),                                      [ok, fenced]),
    ("heartbeat, without instance", heartbeat("without its instance"), [ok, U]),
    ("heartbeat, stranger", heartbeat("a stranger under its instance"), [fenced, fenced]),
    ("heartbeat, unknown instance", heartbeat("an unknown instance"), [U, U]),
    ("heartbeat, stale", heartbeat("a stale generation"),           [G, fenced]),
    ("sync", sync(),                                                [ok, fenced]),
    ("sync, stranger", sync("a stranger under its instance"),       [fenced, fenced]),
    ("sync, unknown instance", sync("an unknown instance"),         [U, U]),
    ("commit", commit(),                                            [ok, fenced]),
    ("commit, without instance", commit("without its instance"),    [ok, U]),
    ("commit, stranger", commit("a stranger under its instance"),   [fenced, fenced]),
    ("commit, stale", commit("a stale generation"),                 [G, fenced]),
    ("commit, instance alone", commit("its instance"),              [fenced, fenced]),
    ("join again", join_again(),                                    [ok, fenced]),
    ("join, instance alone", join(instance="i"),                    [ok, ok]),
    ("join, stranger", join(member=STRANGER, instance="i"),         [fenced, fenced]),
    ("leave", leave(),                                              [ok, fenced]),
    ("leave, without instance", leave("without its instance"),      [ok, U]),
    ("leave, instance alone", leave("its instance"),                [ok, ok]),
    ("leave, stranger", leave("a stranger under its instance"),     [fenced, fenced]),
    ("leave, another instance", leave("another instance"),          [U, U]),
]  # fmt: skip

LONG_NAME = "g" * 1025
LONG = "a name may have 1,024 bytes here, so that it can be stored and told; Kafka has no limit"
NO_TRANSACTIONS = "there are no transactions; a code that passes would make producers wait"
UNKNOWN_TOPIC = Code.UNKNOWN_TOPIC_OR_PARTITION


def _both(who):
    """A commit for a topic that is there and one that is not."""
    parts = [[topic, [[0, 5, -1, None]]] for topic in (TOPIC, "nowhere")]
    return lambda s: (wire.OFFSET_COMMIT, 7, [s.group, *WHO[who](s), parts])


def find(key_type):
    return lambda s: (wire.FIND_COORDINATOR, 2, [s.group, key_type])


# What the state has little to do with: a state, or the group's name.
SPECIAL = [
    ("a session as short as can be", "absent", join(session_ms=SESSION_MS_MIN), N),
    ("a session as long as can be", "absent", join(session_ms=SESSION_MS_MAX), N),
    ("a session too short", "absent", join(session_ms=SESSION_MS_MIN - 1), Code.INVALID_SESSION_TIMEOUT),
    ("a session too long", "absent", join(session_ms=SESSION_MS_MAX + 1), Code.INVALID_SESSION_TIMEOUT),
    ("a session of -1", "stable", join(session_ms=-1), Code.INVALID_SESSION_TIMEOUT),
    ("a session too short, stranger", "stable", join(STRANGER, session_ms=1), Code.INVALID_SESSION_TIMEOUT),
    ("a session too short, no protocol", "absent", join(session_ms=1, protocols=[]), Code.INVALID_SESSION_TIMEOUT),
    ("a session too short, no name", Scene(""), join(session_ms=1), Code.INVALID_GROUP_ID),
    ("no name: join", Scene(""), join(), Code.INVALID_GROUP_ID),
    ("no name: sync", Scene(""), sync(), Code.INVALID_GROUP_ID),
    ("no name: heartbeat", Scene(""), heartbeat(), Code.INVALID_GROUP_ID),
    ("no name: leave", Scene(""), leave(), Whole(Code.INVALID_GROUP_ID)),
    ("no name: delete, absent", Scene(""), delete(), F),
    ("no name: describe", Scene(""), describe(), ok),
    ("no name: describe 6", Scene(""), describe(6), F),
    ("no name: commit", Scene(""), commit("nobody"), ok),
    ("no name: fetch offsets", Scene(""), fetch_offsets(), ok),
    ("no name: delete offsets", Scene(""), delete_offsets(TOPIC), Whole(Code.INVALID_GROUP_ID)),
    ("no name: delete", Scene(""), delete(), ok),
    ("a long name: join", Scene(LONG_NAME), join(), Differs(Code.INVALID_GROUP_ID, N, LONG)),
    ("a long name: heartbeat", Scene(LONG_NAME), heartbeat(), Differs(Code.INVALID_GROUP_ID, U, LONG)),
    ("a long name: commit", Scene(LONG_NAME), commit("nobody"), Differs(Code.INVALID_GROUP_ID, ok, LONG)),
    ("commit: a note as long as can be", "stable", commit(note="n" * NOTE_CHARACTERS_MAX), ok),
    ("commit: a note too long", "stable", commit(note="n" * (NOTE_CHARACTERS_MAX + 1)), Code.OFFSET_METADATA_TOO_LARGE),
    ("commit: stale and too long", "stable", commit("a stale generation", note="n" * 5000), G),
    ("commit: unknown topic", "stable", commit(topic="nowhere"), UNKNOWN_TOPIC),
    ("commit: unknown partition", "stable", commit(partition=7), UNKNOWN_TOPIC),
    ("commit: negative partition", "stable", commit(partition=-1), UNKNOWN_TOPIC),
    ("commit: unknown topic, absent group", "absent", commit(topic="nowhere"), UNKNOWN_TOPIC),
    ("commit: a topic of two", "stable", _both("the member"), Each((ok, UNKNOWN_TOPIC))),
    ("commit: a topic of two, stale", "stable", _both("a stale generation"), Each((G, UNKNOWN_TOPIC))),
    ("commit: offset -1", "stable", commit(offset=-1), ok),
    ("commit: offset -2", "stable", commit(offset=-2), ok),
    ("commit: offset beyond all", "stable", commit(offset=1 << 62), ok),
    ("fetch offsets: unknown topic", "stable", fetch_offsets("nowhere"), ok),
    ("fetch offsets: unknown partition", "stable", fetch_offsets(partition=7), ok),
    ("delete offsets: unknown topic", "stable", delete_offsets("nowhere"), UNKNOWN_TOPIC),
    ("delete offsets: unknown partition", "empty", delete_offsets(TOPIC, partition=7), UNKNOWN_TOPIC),
    ("delete offsets: unknown topic, absent", "absent", delete_offsets("nowhere"), no_group),
    ("delete offsets: one of two", "stable", delete_offsets(TOPIC, OTHER_TOPIC), Each((ok, read, ok))),
    ("delete twice in one", "empty", lambda s: (wire.DELETE_GROUPS, 1, [[s.group, s.group]]), ok),
    ("delete several", "empty", lambda s: (wire.DELETE_GROUPS, 1, [["nothing", s.group]]), Each((F, ok))),
    ("leave: several", "stable", lambda s: (wire.LEAVE_GROUP, 3, [s.group, [[STRANGER, None], [s.member, None]]]),
        Each((ok, U, ok))),
    ("leave: twice in one", "stable", lambda s: (wire.LEAVE_GROUP, 3, [s.group, [[s.member, None]] * 2]),
        Each((ok, ok, U))),
    ("find: a group", "absent", find(0), ok),
    ("find: a transaction", "absent", find(1), Differs(Code.INVALID_REQUEST, ok, NO_TRANSACTIONS)),
    ("find: a share", "absent", find(2), Code.INVALID_REQUEST),
    ("find: what there is not", "absent", find(9), Code.INVALID_REQUEST),
]  # fmt: skip


# --- Groups in these states. ---


class Stage:
    """Makes groups at a broker."""

    def __init__(self, rig, address):
        self._rig = rig
        self._address = address
        self.client = self._connect()
        self._groups = 0

    def _connect(self):
        client = wire.Client(self._address)
        self._rig.at_end(client.close)
        return client

    def scene(self, state):
        """A new group in this state. What it needs of others ends with the stage."""
        self._groups += 1
        group = f"{state}-{self._groups}"
        return getattr(self, f"_{state}")(group)

    def in_state(self, state, name):
        """The same, and it is seen to be there."""
        scene = self.scene(state)

        def there():
            answer = settled(self.client, *describe()(scene))
            ((_, _, found, *_),) = answer.fields[1]
            return found == name

        until(there, f"{scene.group} is not {name}")
        return scene

    def ask(self, request, scene):
        answer = settled(self.client, *request(scene))
        equal(set(answer.codes), {NONE}, f"the codes of {request(scene)!r:.100}")
        return answer

    def _absent(self, group):
        return Scene(group)

    def _offsets(self, group):
        scene = Scene(group)
        self.ask(commit("nobody"), scene)
        return scene

    def _completing(self, group, instance=None):
        scene = Scene(group, instance=instance)
        first = settled(self.client, *join(instance=instance)(scene))
        if instance is None:
            equal(first.codes, [N], "the first answer to somebody new")
            scene.member = first.fields[5]
            first = self.ask(join_again(), scene)
        equal(first.codes, [NONE], "the answer to a join")
        scene.generation, scene.member = first.fields[2], first.fields[5]
        return scene

    def _stable(self, group, instance=None):
        scene = self._completing(group, instance)
        self.ask(sync(), scene)
        return scene

    def _preparing(self, group):
        """Another member joins, and waits for the first one."""
        scene = self._stable(group)
        other = self._connect()
        invited = shapes.ask(other, *join()(scene))
        equal(invited.codes, [N], "the answer to somebody new")
        api, version, values = join(member=invited.fields[5])(scene)
        other.send(api, shapes.body(api, version, values), version)
        return scene

    def _empty(self, group):
        scene = self._stable(group)
        self.ask(commit(), scene)
        self.ask(leave(), scene)
        return scene

    def _deleted(self, group):
        scene = self._empty(group)
        self.ask(delete(), scene)
        return scene

    def _static(self, group):
        return self._stable(group, "i")

    def _replaced(self, group):
        scene = self._static(group)
        self.ask(join(instance=scene.instance), scene)
        return scene


def groups(rig):
    stage = Stage(rig, rig.endpoint(shards=2).kafka)
    table = Table(rig, stage.client)
    # At Kafka, the first who looks for a coordinator has it made.
    settled(stage.client, wire.FIND_COORDINATOR, 2, ["any", 0])
    for topic in (TOPIC, OTHER_TOPIC):
        make_topic(stage.client, topic)
    for states, names, rows in (
        (STATES, STATE_NAMES, IN_EACH_STATE),
        (STATIC_STATES, dict.fromkeys(STATIC_STATES, "Stable"), OF_STATIC_MEMBERS),
    ):
        for name, request, by_state in rows:
            for state, expected in zip(states, by_state, strict=True):
                scene = stage.in_state(state, names[state])
                table.check(Row(f"{name} ({state})", request(scene), expected))
    for name, where, request, expected in SPECIAL:
        scene = where if isinstance(where, Scene) else stage.scene(where)
        table.check(Row(name, request(scene), expected))
    table.close()


CASES = {"codes/groups": groups}
