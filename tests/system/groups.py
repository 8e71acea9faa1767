"""Groups of clients that mean harm: ever more of them, with names that are no names, that say more than may be.

As in every attack, a well-behaved client goes on beside it, and the broker's memory is measured.
"""

import itertools
import json
import re
import struct
import subprocess
import unicodedata

import told
import wire
from attack import Attack
from rig import WAIT_S_MAX, admin, check, equal, metric

# Of each of the two logs.
GROUPS_BYTES = 3 << 20
NOTE_BYTES_MAX = 4096
CACHES = ["log.tail_cache_bytes=16MiB", "log.read_cache_bytes=16MiB"]
# Longer than those that fill the room, which so has none for it.
ANOTHER = "a group that comes too late"
# Each is good for a group, as in Kafka, and one for a topic.
NAMES = [
    ".", "..", " ", "/", "../../etc/passwd", "%s%n", "{}", "$(reboot)", "'; DROP TABLE groups; --", "back\\slash",
    "\0", "a\0b", "a\nb", "a\r\nb", "\t", "\b\b\b", "\a", "\x7f", "\x85", "\x9b31m",
    "\x1b[2J\x1b[31mred", "\x1b]0;title\a", 'quote"s', 'a="b",c', '"} 1\nringmq_forged_total{x="', "#HELP\n",
    "\u202egnp.exe", "\u2028\u2029", "\u2066\u2069", "\ufeff", "\ufffd", "größe", "グループ", "👩\u200d💻", "e\u0301",
    "x" * 249, "x" * 250, "ü" * 125, "g" * 1024,
]  # fmt: skip
LOG_LINE = re.compile(r"20\d\d-\d\d-\d\dT[0-9:.]+Z +(ERROR|WARN|INFO|DEBUG|TRACE) ")


# --- Ever more. ---


def thousands_of_groups(rig):
    """One client makes small groups until it is told that there is no room; others go on, and deletion makes room."""
    attack = Attack(rig, ["kafka.group_initial_delay=1ms", f"kafka.groups_bytes_max={GROUPS_BYTES}B", *CACHES])
    with wire.Client(attack.broker.kafka) as client:
        client.create_topic("t")
        first = _member(client, "first")
        client.commit_offset("simple", "t", 0, 1, "note")
        attack.start_of_memory()
        simple = list(_fill(attack, client, "simple", wire.OFFSET_COMMIT, _commit, _committed))
        check(len(simple) > 2000, f"only {len(simple)} groups that have committed something")
        _others_go_on(client, first, 2)
        equal(client.list_groups(), sorted([*simple, "first", "simple"]), "groups")
        equal(metric(attack.broker, "ringmq_groups"), 1, "groups that somebody has joined")
        equal(metric(attack.broker, "ringmq_groups_with_offsets"), len(simple) + 1, "groups that have committed")
        grown = metric(attack.broker, "ringmq_groups_bytes")
        # Somewhat more: a commit counts once it is durable, and others may be accepted until then.
        check(1.9 * GROUPS_BYTES < grown <= 2.1 * GROUPS_BYTES, f"memory of groups in the metrics: {grown}")
        # A third of them makes room for others, and for no more than that.
        third = len(simple) // 3
        _delete(client, simple[:third])
        joined = _fill(attack, client, "joined", wire.JOIN_GROUP, _join, _joined)
        for name, member in joined.items():
            # Which takes no more, and is what a kill cannot undo.
            equal(client.sync_group(name, 1, member, {member: b""}), b"", "an assignment")
        check(third // 8 < len(joined) < third, f"{len(joined)} have joined in place of {third}")
        # What does not suffice for one of those may do for one of these.
        simple += _fill(attack, client, "topped", wire.OFFSET_COMMIT, _commit, _committed)
        _others_go_on(client, first, 3)
        codes = set(client.delete_groups(list(joined)[:10]).values())
        equal(codes, {wire.NON_EMPTY_GROUP}, "the answer to the deletion of groups with members")
        listed = client.list_groups()
    attack.neighbour.end()
    attack.neighbour.sound()

    # A kill makes no room.
    attack.broker.kill()
    attack.broker.start()
    with wire.Client(attack.broker.kafka) as client:
        equal(client.list_groups(), listed, "groups after a kill")
        _others_go_on(client, first, 4)
        _delete(client, simple[third:])
        client.commit_offset(ANOTHER, "t", 0, 1)
        equal(client.list_groups(), sorted([*joined, "first", "simple", ANOTHER]), "groups that are left")


def _commit(name):
    return wire.commit_body(name, "t", [(0, 7, None)])


def _committed(reader):
    """The error code, and what else there is to know."""
    reader.enter()
    return reader.number("h"), None


def _join(name):
    return wire.join_body(name, session_ms=600_000)


def _joined(reader):
    _, code, _ = reader.take("ihi")
    _, _, member = (reader.string() for _ in range(3))
    return code, member


def _fill(attack, client, prefix, api, body_of, answer_of, breath=500):
    """Makes groups by a request each, in one breath so many, until all of one are refused. Those that were made."""
    made, codes = {}, {0}
    for first in itertools.count(0, breath):
        if 0 not in codes:
            break
        names = [f"{prefix}-{number:06}" for number in range(first, first + breath)]
        for name in names:
            client.send(api, body_of(name))
        answers = {name: answer_of(client.receive()[1]) for name in names}
        codes = {code for code, _ in answers.values()}
        check(codes <= {0, wire.COORDINATOR_LOAD_IN_PROGRESS}, f"answers behind {len(made)} groups: {codes}")
        made.update((name, more) for name, (code, more) in answers.items() if code == 0)
        # Two logs, and no group takes less than this.
        check(len(made) * 1000 < 2 * GROUPS_BYTES, f"{len(made)} groups were made")
        attack.memory()
    attack.goes_on()
    return made


def _others_go_on(client, first, offset):
    """Who is there already may do what takes no more, and nobody else comes in."""
    client.heartbeat("first", *first)
    equal(client.sync_group("first", *first, {}), b"all", "an assignment")
    client.commit_offset("simple", "t", 0, offset, "note")
    equal(client.committed("simple", "t", [0]), [(offset, "note")], "what was committed")
    for call in (lambda: client.join_group(ANOTHER), lambda: client.commit_offset(ANOTHER, "t", 0, 1)):
        equal(_code_of(call), wire.COORDINATOR_LOAD_IN_PROGRESS, "the answer where there is no room")


def _code_of(call):
    try:
        call()
    except wire.KafkaError as error:
        return error.code
    return 0


def _member(client, group, metadata=b"", assignment=b"all"):
    """A group of one, stable: generation and member id."""
    generation, member = client.join_group(group, metadata=metadata, session_ms=600_000)
    equal(client.sync_group(group, generation, member, {member: assignment}), assignment, "an assignment")
    return generation, member


def _delete(client, groups):
    for first in range(0, len(groups), 1000):
        some = groups[first : first + 1000]
        equal(client.delete_groups(some), dict.fromkeys(some, 0), "deleted groups")


# --- Names. ---


def names_of_groups(rig):
    """Whatever a group is called, it is a group of that name; and nobody else is taken in by it."""
    attack = Attack(rig, ["kafka.group_initial_delay=1ms", "telemetry.log=info,ringmq=trace"])
    with wire.Client(attack.broker.kafka) as client:
        client.create_topic("t")
    members = {}
    for name in NAMES:
        # The client is called like that, too, and what it speaks.
        with wire.Client(attack.broker.kafka, client_id=name) as client:
            client.commit_offset(name, "t", 0, len(name), name)
            generation, member = client.join_group(name, name, name.encode(), session_ms=600_000)
            given = client.sync_group(name, generation, member, {member: name.encode()})
            equal(given, name.encode(), f"the assignment of {name!r}")
            client.heartbeat(name, generation, member)
            members[name] = member
    with wire.Client(attack.broker.kafka) as client:
        equal(client.list_groups(), sorted(NAMES), "groups")
        described = client.describe_groups(NAMES)
        for name in NAMES:
            said = name.encode()
            expected = ("Stable", "consumer", name, [(members[name], name, said, said)])
            equal(described[name], expected, f"the group {name!r}")
            equal(client.committed_offset(name, "t", 0), len(name), f"what {name!r} has committed")
        # Kafka's longest strings are no names here. Consumers that are in no group commit under none.
        for name, code in (("", 0), ("g" * 1025, wire.INVALID_GROUP_ID), ("g" * 32_767, wire.INVALID_GROUP_ID)):
            equal(_code_of(lambda: client.join_group(name)), wire.INVALID_GROUP_ID, "a join")  # noqa: B023
            equal(client.commit_offsets(name, "t", [(0, 1, None)]), [code], "a commit")
            equal(client.delete_groups([name]), {name: code}, "a deletion")
    # In a name's place, what is none.
    for raw in (b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80"):
        body = struct.pack(">h", len(raw)) + raw + wire.join_body("")[2:]
        frames, answered = attack.send(wire.request(wire.JOIN_GROUP, body))
        check(not frames and not answered, f"{raw!r}: the connection should be closed without an answer")
    attack.goes_on()
    attack.memory()
    _told_in_lines(attack.broker)
    _printed(rig, attack.broker)

    attack.neighbour.end()
    attack.broker.kill()
    attack.broker.start()
    with wire.Client(attack.broker.kafka) as client:
        equal(client.describe_groups(NAMES), described, "groups after a kill")
        for name in NAMES:
            client.leave_group(name, members[name])
        equal(client.delete_groups(NAMES), dict.fromkeys(NAMES, 0), "deleted groups")


def names_of_topics(rig):
    """A topic can be called by few of them; the others are told so wherever they are named."""
    attack = Attack(rig, ["telemetry.log=info,ringmq=trace"])
    names = ["", *NAMES, "x" * 32_767]
    legal, value = ["x" * 249], wire.batch([b"value"])
    with wire.Client(attack.broker.kafka) as client:
        told_of = _created(client, names)
        equal(told_of, {name: 0 if name in legal else wire.INVALID_TOPIC for name in names}, "topics made")
        equal(_metadata(client, names), told_of, "topics looked for, or made")
        no_config = wire.array([wire.string("no.such.config")])
        resources = [struct.pack(">b", 2) + wire.string(name) + no_config for name in names]
        reader = client.ask(wire.DESCRIBE_CONFIGS, wire.array(resources) + b"\0\0")
        described = {}
        for _ in range(reader.take("ii")[1]):
            code = reader.number("h")
            reader.string()
            reader.number("b")
            described[reader.string()] = code
            equal(reader.number("i"), 0, "configs")
        equal(described, told_of, "topics' configs")
        for name in names:
            code = 0 if name in legal else wire.UNKNOWN_TOPIC_OR_PARTITION
            equal(client.commit_offsets("g", name, [(0, 1, None)]), [code], f"a commit for {name!r}")
            equal(_code_of(lambda: client.produce(name, 0, value)), code, f"a record for {name!r}")  # noqa: B023
            equal(_code_of(lambda: client.fetch(name, 0, 0)), code, f"a fetch of {name!r}")  # noqa: B023
            equal(_code_of(lambda: client.list_offset(name, 0, -1)), code, f"the end of {name!r}")  # noqa: B023
            equal(_code_of(lambda: client.delete_topic(name)), code, f"a deletion of {name!r}")  # noqa: B023
    attack.goes_on()
    attack.memory()
    _told_in_lines(attack.broker)


def _created(client, names):
    topics = [wire.string(name) + struct.pack(">ihii", 1, 1, 0, 0) for name in names]
    reader = client.ask(wire.CREATE_TOPICS, wire.array(topics) + struct.pack(">ib", 10_000, 0))
    reader.number("i")
    codes = {}
    for _ in range(reader.number("i")):
        name, codes[name], _ = reader.string(), reader.number("h"), reader.string()
    return codes


def _metadata(client, names):
    """Codes of topics that are to be made if they are not there."""
    reader = client.ask(wire.METADATA, wire.array([wire.string(name) for name in names]) + b"\1")
    reader.number("i")
    for _ in range(reader.number("i")):
        reader.number("i")
        reader.string()
        reader.number("i")
        reader.string()
    reader.string()
    reader.number("i")
    codes = {}
    for _ in range(reader.number("i")):
        code = reader.number("h")
        codes[reader.string()] = code
        reader.number("b")
        for _ in range(reader.number("i")):
            reader.take("hii")
            for _ in range(2):
                reader.raw(4 * reader.number("i"))
    return codes


def _is_harmless(text):
    """Moves no cursor, rings no bell, turns nothing around."""
    turns = {"\u200e", "\u200f", "\u2028", "\u2029", *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
    return not any(unicodedata.category(c) == "Cc" or c in turns for c in text)


def _told_in_lines(broker):
    """Metrics are what a scraper can read, and the log has nothing but lines of the broker's own."""
    samples, _ = told.parse(admin(broker, "/metrics"))
    check(samples and not any("forged" in series for series in samples), "a sample that somebody made up")
    with open(broker.log_path, encoding="utf-8", newline="\n") as log:
        for line in log.read().split("\n")[:-1]:
            check(_is_harmless(line) and LOG_LINE.match(line), f"a line of the log: {line!r}")


def _printed(rig, broker):
    """What the commands print of it corrupts no terminal, and scripts get every byte."""

    def run(action, *arguments, code=0):
        command = [rig.binary, "group", action, "--bootstrap", broker.kafka, *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT_S_MAX)
        equal(done.returncode, code, f"exit code of {command}; it said {done.stderr!r}")
        for line in (done.stdout + done.stderr).decode().split("\n"):
            check(_is_harmless(line), f"{command} prints {line!r}")
        return done.stdout.decode()

    table = run("list").split("\n")
    equal(len(table), 2 + len(NAMES), "lines of the list, its header and its end")
    listed = json.loads(run("list", "--json"))
    equal(sorted(line["group"] for line in listed), sorted(NAMES), "groups of the list for scripts")
    for name in NAMES:
        if "\0" in name:
            continue  # No argument can have it.
        # A line of the group, one of its member, one of its partition, two headers and three empty ones, the lag.
        lines = run("describe", "--", name).split("\n")
        starts = [line.split(" ")[0] for line in lines]
        starts = [starts[at] for at in (0, 2, 5, 6, 8)]
        equal(starts, ["group", "MEMBER", "TOPIC", "t", "lag"], f"what is told of {name!r}")
        equal(len(lines), 10, f"lines that are told of {name!r}")
        run("describe", "--", name[:1000] + "?", code=1)


# --- More than may be. ---


def more_than_may_be_said(rig):
    """Notes, subscriptions and assignments beyond their limits are refused; what else was asked for is done."""
    partitions, limits = 2000, ["kafka.group_bytes_max=1MiB", f"kafka.groups_bytes_max={2 * GROUPS_BYTES}B"]
    attack = Attack(rig, ["kafka.group_initial_delay=1ms", *limits, *CACHES])
    with wire.Client(attack.broker.kafka) as client:
        client.create_topic("t", partitions)
        _long_notes(attack, client, partitions)
        _large_subscriptions(attack, client)
        _large_assignments(attack, client)
        everything = client.describe_groups(["subscribed", "assigned"])
    attack.goes_on()
    attack.neighbour.end()
    attack.neighbour.sound()
    attack.broker.kill()
    attack.broker.start()
    with wire.Client(attack.broker.kafka) as client:
        equal(client.describe_groups(["subscribed", "assigned"]), everything, "groups after a kill")
        equal(client.committed("noted", "t", range(600)), _notes(600), "notes after a kill")


def _note(partition):
    return "n" * (0, NOTE_BYTES_MAX, NOTE_BYTES_MAX + 1, 32_767)[partition % 4]


def _notes(count):
    """What is kept of such commits: offsets and notes."""
    return [(partition, _note(partition)) if partition % 4 < 2 else (-1, "") for partition in range(count)]


def _long_notes(attack, client, partitions):
    # Six megabytes, of which a tenth is kept; a second time it takes no more.
    commits = [(partition, partition, _note(partition)) for partition in range(600)]
    codes = [0, 0, wire.OFFSET_METADATA_TOO_LARGE, wire.OFFSET_METADATA_TOO_LARGE] * 150
    for _ in range(20):
        equal(client.commit_offsets("noted", "t", commits), codes, "the answer to long notes")
        attack.memory()
    equal(client.committed("noted", "t", range(600)), _notes(600), "notes")
    # A group that would fill all memory with notes that may be: none of these is kept.
    filling = [(partition, 1, "n" * NOTE_BYTES_MAX) for partition in range(partitions)]
    refused = [wire.INVALID_COMMIT_OFFSET_SIZE] * partitions
    for group in ("noted", "others"):
        for _ in range(5):
            equal(client.commit_offsets(group, "t", filling), refused, "the answer to ever so many notes")
            attack.memory()
    equal(client.committed("noted", "t", range(600)), _notes(600), "notes after others were refused")
    equal(client.list_groups(), ["noted"], "groups")
    # No string of the protocol is longer than 32,767 bytes, although a newer version could say so: as in Kafka.
    for note_bytes, is_answered in ((32_767, True), (32_768, False), (4 << 20, False)):
        frames, answered = attack.send(_compact_commit("noted", "t", bytes(note_bytes)))
        equal((len(frames), answered), (int(is_answered), is_answered), f"answers to a note of {note_bytes} bytes")
        if is_answered:
            # Behind it are the tags of partition, topic and response.
            code = struct.pack(">h", wire.OFFSET_METADATA_TOO_LARGE)
            check(frames[0].endswith(code + bytes(3)), "a note that is too long is kept")
    attack.goes_on()
    attack.memory()


def _compact_commit(group, topic, note):
    """A whole frame of version 8, the first of its kind: for one partition."""

    def text(raw):
        return wire.unsigned_varint(len(raw) + 1) + raw

    partition = struct.pack(">iqi", 0, 7, -1) + text(note) + b"\0"
    topics = b"\2" + text(topic.encode()) + b"\2" + partition + b"\0"
    body = text(group.encode()) + struct.pack(">i", -1) + text(b"") + b"\0" + topics + b"\0"
    # The header has tags, too.
    return wire.request(wire.OFFSET_COMMIT, b"\0" + body, version=8)


def _large_subscriptions(attack, client):
    """Of somebody new, in a new group, and of a member that has become greedy."""
    who = _member(client, "subscribed", bytes(100_000))
    _, member = who
    greedy = [("subscribed", ""), ("subscribed", member), ("nobody's", "")]
    for _ in range(10):
        for group, as_member in greedy:
            body = wire.join_body(group, metadata=bytes(2 << 20), session_ms=600_000, member=as_member)
            code = client.join_code(client.ask(wire.JOIN_GROUP, body))
            equal(code, wire.GROUP_MAX_SIZE_REACHED, f"the answer to a large subscription to {group}")
        client.heartbeat("subscribed", *who)
        attack.memory()
    equal(client.sync_group("subscribed", *who, {}), b"all", "an assignment")
    equal(client.list_groups(), ["noted", "subscribed"], "groups")
    attack.goes_on()


def _large_assignments(attack, client):
    generation, member = client.join_group("assigned", session_ms=600_000)
    large, small = {member: bytes(2 << 20)}, {member: b"mine"}
    for _ in range(10):
        code = _code_of(lambda: client.sync_group("assigned", generation, member, large))  # noqa: B023
        equal(code, wire.UNKNOWN_SERVER_ERROR, "the answer to a large assignment")
        attack.memory()
        # What clients do about it.
        generation, same = client.join_group("assigned", session_ms=600_000, member=member)
        equal(same, member, "the member's id")
    equal(client.sync_group("assigned", generation, member, small), b"mine", "an assignment")
    client.heartbeat("assigned", generation, member)
    # To members that do not exist, or one of them twice.
    strangers = {f"stranger-{number}": bytes(100_000) for number in range(20)}
    generation, _ = client.join_group("assigned", session_ms=600_000, member=member)
    equal(client.sync_group("assigned", generation, member, {**strangers, **small}), b"mine", "an assignment")
    attack.memory()
    attack.goes_on()


CASES = {
    "hostile/thousands of groups": thousands_of_groups,
    "hostile/names of groups": names_of_groups,
    "hostile/names of topics": names_of_topics,
    "hostile/more than may be said": more_than_may_be_said,
}
