"""Which error code answers a producer: acks, transactions, times; and what tells one that wants no answer."""

import shapes
import wire
from codes import LIMIT_S, NONE, Code, Differs, Row, Table, make_topic, settled
from rig import check, equal, until

TOPIC, PARTITIONS, LIMITED, STAMPED = "orders", 4, "limited", "stamped"
TIMEOUT_MS = 10_000
HOUR_MS = 3600 * 1000
NO_TIMESTAMP = -1
# A bit each of a batch's attributes, and where they are.
LOG_APPEND_TIME, TRANSACTIONAL, ATTRIBUTES_AT = 0x08, 0x10, 21
NO_TRANSACTIONS = "there are no transactions: who names one would take its batches for a part of it"
NOT_CORRECTED = "batches are stored as they come; Kafka corrects the header"
BEFORE_1970 = "Kafka's own times begin in 1970, and -1 says that there is none"

ACKS, TRANSACTION, TIMESTAMP = Code.INVALID_REQUIRED_ACKS, Code.INVALID_TXN_STATE, Code.INVALID_TIMESTAMP
UNKNOWN = Code.UNKNOWN_TOPIC_OR_PARTITION


def produce(*parts, topic=TOPIC, acks=-1, transaction=None):
    """`parts`: a batch for each of the first partitions, or partitions with theirs."""
    parts = [list(part) if isinstance(part, tuple) else [index, part] for index, part in enumerate(parts)]
    return wire.PRODUCE, 8, [transaction, acks, TIMEOUT_MS, [[topic, parts]]]


def marked(batch, attributes):
    return wire.signed(wire.altered(batch, ATTRIBUTES_AT, "h", attributes))


def at(after_ms, **more):
    return wire.batch([b"value"], at_ms=wire.NOW_MS + after_ms, **more)


# --- The table. ---


def rows(producer):
    """`producer`: id, epoch and first sequence of one that has begun no transaction."""
    good, of_transaction = at(0), marked(at(0, producer=producer), TRANSACTIONAL)
    late_in_it = wire.batch([b"in time", b"late"], step_ms=3 * HOUR_MS)
    of_the_log = marked(good, LOG_APPEND_TIME)
    return [
        *(Row(f"acks {acks}", produce(good, acks=acks), NONE) for acks in (-1, 1)),
        *(Row(f"acks {acks}", produce(good, acks=acks), ACKS) for acks in (2, -2, 32_767, -32_768)),
        Row("acks 2, unknown topic", produce(good, topic="nowhere", acks=2), UNKNOWN),
        Row("acks 2, unknown partition", produce((PARTITIONS, good), acks=2), UNKNOWN),
        Row("transaction", produce(of_transaction, transaction="t"), TRANSACTION),
        Row("transaction: no name", produce(of_transaction),
            Differs(TRANSACTION, Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, NO_TRANSACTIONS)),
        Row("transaction: nothing but a name", produce(good, transaction="t"), Differs(TRANSACTION, NONE, NO_TRANSACTIONS)),
        *(Row(f"time: {name}, {hours} h", produce(at(hours * HOUR_MS), topic=topic), expected)
          for name, topic, hours, expected in (
              ("limited", LIMITED, -3, TIMESTAMP), ("limited", LIMITED, -1, NONE),
              ("limited", LIMITED, 1, NONE), ("limited", LIMITED, 3, TIMESTAMP),
              ("by default", TOPIC, -10_000, NONE), ("by default", TOPIC, 2, TIMESTAMP),
              ("stamped", STAMPED, -10_000, NONE), ("stamped", STAMPED, 2, NONE),
          )),
        Row("time: one of two", produce(late_in_it, topic=LIMITED), TIMESTAMP),
        Row("time: none", produce(wire.batch([b"value"], at_ms=NO_TIMESTAMP), topic=LIMITED), NONE),
        Row("time: before 1970", produce(wire.batch([b"value"], at_ms=-2)), Differs(TIMESTAMP, NONE, BEFORE_1970)),
        Row("time: the log's", produce(of_the_log), Differs(TIMESTAMP, NONE, NOT_CORRECTED)),
        Row("time: the log's, stamped", produce(of_the_log, topic=STAMPED), TIMESTAMP),
    ]  # fmt: skip


def producers(rig):
    with wire.Client(rig.endpoint(shards=2).kafka) as client:
        make_topic(client, TOPIC, PARTITIONS)
        limits = [(f"message.timestamp.{side}.max.ms", str(2 * HOUR_MS)) for side in ("before", "after")]
        make_topic(client, LIMITED, configs=limits)
        make_topic(client, STAMPED, configs=[("message.timestamp.type", "LogAppendTime")])
        table = Table(rig, client)
        for row in rows(_producer(client, "t" if rig.is_kafka else None)):
            table.check(row)
        table.close()


def _producer(client, transaction=None):
    """Id, epoch and first sequence of a new producer."""
    if transaction is not None:
        # With it Kafka makes the topic that transactions need.
        settled(client, wire.FIND_COORDINATOR, 2, [transaction, 1])
    answer = settled(client, wire.INIT_PRODUCER_ID, 3, [transaction, 60_000, -1, -1])
    equal(answer.codes, [NONE], "the code for a new producer")
    _, _, producer, epoch = answer.fields
    return producer, epoch, 0


# --- Without acks. ---


def silent(rig):
    """Who wants no answer gets none, and the end of the connection says that something was refused."""
    broker = rig.endpoint(shards=2)
    good, last = at(0), PARTITIONS - 1
    with wire.Client(broker.kafka) as client:
        make_topic(client, TOPIC, PARTITIONS)
        identity = _producer(client)
        for index in range(PARTITIONS):
            client.produce(TOPIC, index, at(0, producer=identity))
        _say(client, produce(*[good] * PARTITIONS, acks=0))
        # The next answer is the one to the next question.
        client.api_versions()
        for index in range(PARTITIONS):
            _ends_at(client, index, 2)
    of_gap = at(0, producer=(*identity[:2], 5))
    refused = {
        "a wrong CRC": produce(wire.altered(good, len(good) - 1, "b", 1), acks=0),
        "an unknown topic": produce(good, topic="nowhere", acks=0),
        "an unknown partition": produce((PARTITIONS, good), acks=0),
        "a time": produce(wire.batch([b"value"], at_ms=2 * wire.NOW_MS), acks=0),
        "a transaction": produce(marked(at(0, producer=identity), TRANSACTIONAL), acks=0),
        **{f"a gap in partition {index}": produce((index, of_gap), acks=0) for index in range(PARTITIONS)},
        "one of all": produce(*[good] * last, of_gap, acks=0),
    }
    for name, request in refused.items():
        # Two in a row come to both shards: what one refuses itself, another refuses for it.
        for _ in range(2):
            with wire.Client(broker.kafka) as client:
                _say(client, request)
                try:
                    client.api_versions()
                except ConnectionError:
                    continue
            check(False, f"{name}: the connection should be closed")
    with wire.Client(broker.kafka) as client:
        for index in range(PARTITIONS):
            # Nothing was taken but what came beside the one.
            _ends_at(client, index, 2 if index == last else 4)


def _say(client, request):
    api, version, values = request
    client.send(api, shapes.body(api, version, values), version)


def _ends_at(client, index, expected):
    def there():
        return client.list_offset(TOPIC, index, wire.LATEST) == expected

    until(there, f"partition {index} does not end at {expected}", LIMIT_S)


CASES = {"codes/producers": producers, "codes/producers without acks": silent}
