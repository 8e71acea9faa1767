"""What whoever asks may do with topics, groups and the cluster, as answers tell it when they are asked: without access
control everything that such a resource knows, a bit for each operation. RingMQ and Apache Kafka answer the same.
"""

import shapes
import wire
from codes import Code, make_topic, settled
from rig import equal

TOPIC, GROUP = "allowed", "allowed"
# By their codes in access control lists.
READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE = 3, 4, 5, 6, 7, 8
CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE = 9, 10, 11, 12

OF_TOPIC = {READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS}
OF_GROUP = {READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS}
OF_CLUSTER = {CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE}
NOT_ASKED = None
NAMES = [TOPIC, "nowhere", "a/b"]


def operations(bits):
    return NOT_ASKED if bits == -(2**31) else {code for code in range(32) if bits >> code & 1}


def allowed(rig):
    broker = rig.endpoint(shards=2)
    with wire.Client(broker.kafka) as client:
        make_topic(client, TOPIC)
        settled(client, wire.FIND_COORDINATOR, 2, [GROUP, 0])
        # A group that is there, by what it has committed.
        answer = settled(client, wire.OFFSET_COMMIT, 7, [GROUP, -1, "", None, [[TOPIC, [[0, 0, -1, None]]]]])
        equal(answer.codes, [Code.NONE], "the answer to a commit")
        _of_cluster(client)
        _of_topics(client)
        _of_groups(client)


def _of_cluster(client):
    def told(version, values, code=Code.NONE):
        answer = shapes.ask(client, wire.DESCRIBE_CLUSTER, version, values)
        equal(answer.codes, [code], f"the code of DescribeCluster {version}, {values}")
        return operations(answer.fields[-1])

    equal(told(0, [0]), NOT_ASKED, "the cluster, not asked")
    equal(told(0, [1]), OF_CLUSTER, "the cluster")
    equal(told(1, [1, 1]), OF_CLUSTER, "the cluster, version 1")
    equal(told(1, [1, 2], Code.MISMATCHED_ENDPOINT_TYPE), NOT_ASKED, "the cluster, of controllers")
    equal(told(1, [1, 9], Code.UNSUPPORTED_ENDPOINT_TYPE), NOT_ASKED, "the cluster, of what there is not")


def _of_topics(client):
    def told(version, topics, *flags):
        """Of the cluster, and of each topic by its name."""
        fields = shapes.ask(client, wire.METADATA, version, [topics, 0, *flags]).fields
        by_name = {topic[1]: operations(topic[-1]) for topic in fields[4]}
        return (operations(fields[5]) if version <= 10 else NOT_ASKED), by_name

    def everywhere(expected):
        return dict.fromkeys(NAMES, expected)

    for version in (8, 9):
        named = [[name] for name in NAMES]
        equal(told(version, named, 0, 0), (NOT_ASKED, everywhere(NOT_ASKED)), f"Metadata {version}, not asked")
        equal(told(version, named, 0, 1), (NOT_ASKED, everywhere(OF_TOPIC)), f"Metadata {version}, of topics")
        equal(told(version, named, 1, 0), (OF_CLUSTER, everywhere(NOT_ASKED)), f"Metadata {version}, of the cluster")
        of_all = told(version, None, 1, 1)
        equal((of_all[0], of_all[1][TOPIC]), (OF_CLUSTER, OF_TOPIC), f"Metadata {version}, of all topics")
    nil, nobodys = bytes(16), b"\7" * 16
    named = [[nil, name] for name in NAMES]
    equal(told(12, named, 0), (NOT_ASKED, everywhere(NOT_ASKED)), "Metadata 12, not asked")
    equal(told(12, named, 1), (NOT_ASKED, everywhere(OF_TOPIC)), "Metadata 12, of topics")
    equal(told(12, [[nobodys, None]], 1), (NOT_ASKED, {None: NOT_ASKED}), "Metadata 12, by an id of no topic")

    # It has nothing to ask with.
    answer = shapes.ask(client, wire.DESCRIBE_TOPIC_PARTITIONS, 0, [[[name] for name in NAMES], 2000, -1])
    by_name = {topic[1]: operations(topic[-1]) for topic in answer.fields[1]}
    equal(by_name, everywhere(OF_TOPIC), "DescribeTopicPartitions")


def _of_groups(client):
    def told(version, is_asked):
        answer = settled(client, wire.DESCRIBE_GROUPS, version, [[GROUP, "nobody's"], is_asked])
        name = 2 if version >= 6 else 1
        return {group[name]: operations(group[-1]) for group in answer.fields[1]}

    advertised = client.api_versions()[wire.DESCRIBE_GROUPS][1]
    for version in range(4, min(advertised, 6) + 1):
        equal(told(version, 0), {GROUP: NOT_ASKED, "nobody's": NOT_ASKED}, f"DescribeGroups {version}, not asked")
        # Before version 6, one that is not there is described as dead.
        of_none = OF_GROUP if version < 6 else NOT_ASKED
        equal(told(version, 1), {GROUP: OF_GROUP, "nobody's": of_none}, f"DescribeGroups {version}")


CASES = {"codes/allowed operations": allowed}
