"""Tagged fields that nobody knows yet, in the header and in every struct of every flexible request: they are ignored.

A client of next year may send them. Each API that has a flexible version is asked so, and does what it was asked for;
what only reads is answered like the same question without them.
"""

import shapes
import wire
from codes import NONE, PASSING, Code, settled
from rig import check, equal, until

TIMEOUT_MS = 10_000
GROUP, TOPIC = "tagged", "tagged"
VALUES = [b"record %d" % number for number in range(10)]
# What changes nothing, and is answered with nothing that passes.
READING = {
    wire.API_VERSIONS, wire.METADATA, wire.FETCH, wire.LIST_OFFSETS, wire.OFFSET_FOR_LEADER_EPOCH, wire.DESCRIBE_CONFIGS,
    wire.DESCRIBE_LOG_DIRS, wire.DESCRIBE_PRODUCERS, wire.DESCRIBE_TOPIC_PARTITIONS, wire.DESCRIBE_CLUSTER,
    wire.DESCRIBE_CLIENT_QUOTAS, wire.DESCRIBE_ACLS, wire.LIST_PARTITION_REASSIGNMENTS, wire.LIST_CONFIG_RESOURCES,
    wire.FIND_COORDINATOR, wire.OFFSET_FETCH, wire.DESCRIBE_GROUPS, wire.LIST_GROUPS,
    wire.DESCRIBE_USER_SCRAM_CREDENTIALS,
}  # fmt: skip


class Tagged:
    """One connection, on which each request has such fields: one that were misread would spoil the next."""

    def __init__(self, client):
        self.client = client
        self.asked = set()

    def ask(self, api, version, *values, code=NONE):
        """The answer's fields. All of its codes that are not NONE must be this one."""
        check(shapes.is_flexible(api, version), f"version {version} of API {api} has no tagged fields")
        self.asked.add(api)

        plain = []

        def usable():
            if api in READING:
                plain.append(shapes.ask(self.client, api, version, list(values)).fields)
            got = shapes.ask(self.client, api, version, list(values), shapes.UNKNOWN_TAGS)
            if api in READING:
                plain.append(shapes.ask(self.client, api, version, list(values)).fields)
            # A topic that was just made is not known at once, everywhere.
            passes = PASSING | ({Code.UNKNOWN_TOPIC_OR_PARTITION} if code == NONE else set())
            return None if passes & set(got.codes) else got

        answer = until(usable, f"API {api} does not know the topic")
        equal(set(answer.codes) - {NONE}, {code} - {NONE}, f"the codes of API {api}, version {version}")
        # Before or after: what was changed may become known in between.
        said = f"API {api}, version {version}, answers {answer.fields!r:.300}, and without tagged fields {plain[-1:]!r:.300}"
        check(api not in READING or answer.fields in plain[-2:], said)
        return answer.fields


def unknown_fields(rig):
    broker = rig.endpoint(shards=2)
    with wire.Client(broker.kafka) as client:
        settled(client, wire.FIND_COORDINATOR, 2, [GROUP, 0])
        advertised = client.api_versions()
        tagged = Tagged(client)
        tagged.ask(wire.API_VERSIONS, 3, "system-test", "1")
        _data(tagged)
        _administration(tagged)
        _group(tagged)
        tagged.ask(wire.DELETE_TOPICS, 4, [TOPIC, "assigned"], TIMEOUT_MS)
        flexible = {api for api, (since, _) in shapes.SHAPES.items() if since is not None}
        equal(tagged.asked, flexible, "APIs that were asked with tagged fields")
        if not rig.is_kafka:
            # Whoever adds an API says its shape, and asks it here.
            equal(set(advertised), set(shapes.SHAPES), "APIs whose shapes are known")


def _data(tagged):
    """Topics are made, written and read."""
    configs = [["retention.ms", "86400000"]]
    tagged.ask(wire.CREATE_TOPICS, 5, [[TOPIC, 1, 1, [], configs]], TIMEOUT_MS, False)
    brokers = tagged.ask(wire.DESCRIBE_CLUSTER, 0, 0)[5]
    node = brokers[0][0]
    tagged.ask(wire.CREATE_TOPICS, 5, [["assigned", -1, -1, [[0, [node]]], []]], TIMEOUT_MS, False)
    where = [TOPIC, [[0, -1, -1]]]
    tagged.ask(wire.LIST_OFFSETS, 6, -1, 0, [where])
    tagged.ask(wire.METADATA, 9, [[TOPIC]], 0, 0, 0)
    written = tagged.ask(wire.PRODUCE, 9, None, -1, TIMEOUT_MS, [[TOPIC, [[0, wire.batch(VALUES)]]]])
    ((_, ((_, _, base, *_),)),) = written[0]
    equal(base, 0, "the offset of the first record")
    wanted = [TOPIC, [[0, -1, 0, -1, -1, 1 << 20]]]
    # The whole log: no session, nothing forgotten.
    fetched = tagged.ask(wire.FETCH, 12, -1, 500, 1, 1 << 20, 0, 0, -1, [wanted], [[TOPIC, [0]]], "")
    ((_, (partition,)),) = fetched[3]
    equal(list(wire.records(partition[-1])), list(enumerate(VALUES)), "records")
    ((_, ((*_, end, _),)),) = tagged.ask(wire.LIST_OFFSETS, 6, -1, 0, [where])[1]
    equal(end, len(VALUES), "the end")
    tagged.ask(wire.OFFSET_FOR_LEADER_EPOCH, 4, -1, [[TOPIC, [[0, -1, 0]]]])
    ((_, ((_, start, _),)),) = tagged.ask(wire.DELETE_RECORDS, 2, [[TOPIC, [[0, 3]]]], TIMEOUT_MS)[1]
    equal(start, 3, "the start")
    tagged.ask(wire.INIT_PRODUCER_ID, 2, None, 60_000)


def _administration(tagged):
    alone = [wire.TOPIC_RESOURCE, TOPIC]
    tagged.ask(wire.INCREMENTAL_ALTER_CONFIGS, 1, [[*alone, [["max.message.bytes", 0, "5000"]]]], False)
    until(lambda: _configs(tagged) == ("86400000", "5000"), "the change of one config is not seen")
    tagged.ask(wire.ALTER_CONFIGS, 2, [[*alone, [["retention.ms", "3600000"]]]], False)
    until(lambda: _configs(tagged)[0] == "3600000", "the change of all configs is not seen")
    node = tagged.ask(wire.DESCRIBE_CLUSTER, 0, 0)[5][0][0]
    tagged.ask(wire.CREATE_PARTITIONS, 2, [[TOPIC, 2, [[[node]]]]], TIMEOUT_MS, False)

    def grown():
        ((_, _, _, _, partitions, *_),) = tagged.ask(wire.DESCRIBE_TOPIC_PARTITIONS, 0, [[TOPIC]], 2000, -1)[1]
        return len(partitions) == 2

    until(grown, "the topic does not grow")
    tagged.ask(wire.DESCRIBE_PRODUCERS, 0, [[TOPIC, [0]]])
    tagged.ask(wire.DESCRIBE_LOG_DIRS, 2, [[TOPIC, [0]]])
    tagged.ask(wire.LIST_PARTITION_REASSIGNMENTS, 0, TIMEOUT_MS, [[TOPIC, [0]]])
    tagged.ask(wire.DESCRIBE_CLIENT_QUOTAS, 1, [["user", 0, "u"]], False)
    tagged.ask(wire.DESCRIBE_USER_SCRAM_CREDENTIALS, 0, [["u"]], code=Code.RESOURCE_NOT_FOUND)
    tagged.ask(wire.LIST_CONFIG_RESOURCES, 0)
    tagged.ask(wire.DESCRIBE_ACLS, 2, 2, None, 3, None, None, 1, 1, code=Code.SECURITY_DISABLED)


def _configs(tagged):
    ((_, _, _, _, configs),) = tagged.ask(wire.DESCRIBE_CONFIGS, 4, [[wire.TOPIC_RESOURCE, TOPIC, None]], 1, 0)[1]
    values = {config[0]: config[1] for config in configs}
    return values["retention.ms"], values["max.message.bytes"]


def _group(tagged):
    """A member comes, commits, and goes."""
    tagged.ask(wire.FIND_COORDINATOR, 3, GROUP, 0)

    def join(member, code):
        return tagged.ask(
            wire.JOIN_GROUP, 6, GROUP, 30_000, 30_000, member, None, "consumer", [["range", b"said"]], code=code
        )

    member = join("", Code.MEMBER_ID_REQUIRED)[5]
    _, _, generation, protocol, leader, same, members = join(member, NONE)
    equal((protocol, leader, same, members), ("range", member, member, [[member, None, b"said"]]), "who has joined")
    _, _, given = tagged.ask(wire.SYNC_GROUP, 4, GROUP, generation, member, None, [[member, b"mine"]])
    equal(given, b"mine", "an assignment")
    tagged.ask(wire.HEARTBEAT, 4, GROUP, generation, member, None)
    tagged.ask(wire.OFFSET_COMMIT, 8, GROUP, generation, member, None, [[TOPIC, [[0, 7, -1, "note"]]]])
    ((_, (found,)),) = tagged.ask(wire.OFFSET_FETCH, 6, GROUP, [[TOPIC, [0]]])[1]
    equal(found, [0, 7, -1, "note", NONE], "what was committed")
    tagged.ask(wire.DESCRIBE_GROUPS, 5, [GROUP], 0)
    equal(tagged.ask(wire.LIST_GROUPS, 3)[2], [[GROUP, "consumer"]], "groups")
    tagged.ask(wire.LEAVE_GROUP, 4, GROUP, [[member, None]])
    tagged.ask(wire.DELETE_GROUPS, 2, [GROUP])


CASES = {"codes/unknown tagged fields": unknown_fields}
