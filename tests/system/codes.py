"""Which error code answers what: tables of rows, each sent over the wire to RingMQ and to Apache Kafka.

A row names what is asked and the code that Kafka gives. Where RingMQ means to answer another one, the row has both, and
says why. What is not asserted is text: clients act on codes. The tables: group_codes.py, admin_codes.py,
produce_codes.py.
"""

import enum
import struct
from typing import NamedTuple

import shapes
import wire
from rig import CaseFailed, until

LIMIT_S = 60


class Code(enum.IntEnum):
    """Those that the tables name, as the protocol numbers them."""

    UNKNOWN_SERVER_ERROR = -1
    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_OR_FOLLOWER = 6
    OFFSET_METADATA_TOO_LARGE = 12
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    INVALID_TOPIC_EXCEPTION = 17
    INVALID_REQUIRED_ACKS = 21
    ILLEGAL_GENERATION = 22
    INCONSISTENT_GROUP_PROTOCOL = 23
    INVALID_GROUP_ID = 24
    UNKNOWN_MEMBER_ID = 25
    INVALID_SESSION_TIMEOUT = 26
    REBALANCE_IN_PROGRESS = 27
    INVALID_TIMESTAMP = 32
    UNSUPPORTED_VERSION = 35
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_REPLICA_ASSIGNMENT = 39
    INVALID_CONFIG = 40
    INVALID_REQUEST = 42
    POLICY_VIOLATION = 44
    INVALID_TXN_STATE = 48
    INVALID_TRANSACTION_TIMEOUT = 50
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    SECURITY_DISABLED = 54
    NON_EMPTY_GROUP = 68
    GROUP_ID_NOT_FOUND = 69
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    MEMBER_ID_REQUIRED = 79
    FENCED_INSTANCE_ID = 82
    GROUP_SUBSCRIBED_TO_TOPIC = 86
    RESOURCE_NOT_FOUND = 91
    DUPLICATE_RESOURCE = 92
    UNKNOWN_TOPIC_ID = 100
    MISMATCHED_ENDPOINT_TYPE = 114
    UNSUPPORTED_ENDPOINT_TYPE = 115


NONE = Code.NONE
# What passes by itself, of a broker that has just started or a topic that was just made: asked again.
PASSING = {
    Code.LEADER_NOT_AVAILABLE, Code.NOT_LEADER_OR_FOLLOWER, Code.COORDINATOR_LOAD_IN_PROGRESS,
    Code.COORDINATOR_NOT_AVAILABLE, Code.NOT_COORDINATOR,
}  # fmt: skip


class Whole(NamedTuple):
    """The code of the answer as a whole, where there could be one for each of its parts, too: there are no parts."""

    code: Code


class Each(NamedTuple):
    """Every code of the answer, in any order: whoever asks finds its own by name."""

    codes: tuple


class Differs(NamedTuple):
    """What RingMQ answers, what Kafka answers, and why they do not answer the same. Kafka is not asked for None."""

    here: object
    kafka: object
    why: str


class Row(NamedTuple):
    name: str
    # API, version and values.
    request: tuple
    # A code, for the one thing that is asked about; or one of the above.
    expected: object


class Table:
    """Compares the answers at one endpoint, and tells all that are wrong at the end."""

    def __init__(self, rig, client):
        self._is_kafka = rig.is_kafka
        self._client = client
        self._versions = client.api_versions()
        self._wrong = []
        self.rows = 0

    def check(self, row):
        api, version, values = row.request
        expected = row.expected
        if isinstance(expected, Differs):
            # Or it would be no difference.
            assert expected.here != expected.kafka and expected.why, row
            expected = expected.kafka if self._is_kafka else expected.here
        if expected is None:
            return
        if version > self._versions[api][1]:
            if not self._is_kafka:
                self._wrong.append(f"{row.name}: version {version} of API {api} is not spoken")
            return
        self.rows += 1
        try:
            codes = settled(self._client, api, version, values).codes
        except CaseFailed as reason:
            self._wrong.append(f"{row.name}: {reason}")
            return
        # No answer at all: the next rows would have none on this connection either.
        except (OSError, ValueError, LookupError, struct.error) as reason:
            self._wrong.append(f"{row.name}: {type(reason).__name__}: {reason}")
            self.close()
        if not _is(codes, expected, shapes.code_count(api, version)):
            self._wrong.append(f"{row.name}: got {_text(codes)}, expected {_told(expected)}")

    def close(self):
        """Fails for each row whose answer was another one."""
        if self._wrong:
            lines = "\n    ".join(self._wrong)
            raise CaseFailed(f"{len(self._wrong)} of {self.rows} answers have another code:\n    {lines}")


def make_topic(client, topic, partitions=1, configs=()):
    """Returns when it can be used."""
    client.create_topic(topic, partitions, configs)
    asked = [-1, 0, [[topic, [[index, -1, wire.LATEST] for index in range(partitions)]]]]

    def usable():
        return not any(shapes.ask(client, wire.LIST_OFFSETS, 4, asked).codes)

    until(usable, f"topic {topic} cannot be used", LIMIT_S)


def settled(client, api, version, values):
    """The answer, when it is none that passes by itself."""

    def answer():
        got = shapes.ask(client, api, version, values)
        return None if PASSING & set(got.codes) else got

    return until(answer, f"API {api} has no lasting answer to {values!r:.100}", LIMIT_S)


def _is(codes, expected, count):
    match expected:
        case Each(wanted):
            return sorted(codes) == sorted(wanted)
        case Whole(code):
            return codes == [code] and count > 1
        case _:
            # About one thing an answer has all of its codes, and at most one of them is an error.
            return sorted(codes, key=bool) == [NONE] * (count - 1) + [expected]


def _told(expected):
    match expected:
        case Each(wanted):
            return _text(wanted)
        case Whole(code):
            return f"{_text([code])} for the whole"
        case _:
            return _text([expected])


def _text(codes):
    known = {code.value: code.name for code in Code}
    return ", ".join(known.get(code, str(code)) for code in codes) or "no code"
