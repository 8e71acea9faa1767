"""aiokafka as an adapter of cases.py. Its event loop runs in a thread, where heartbeats go on between calls."""

import asyncio
import os
import threading

from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    OffsetAndMetadata,
    TopicPartition,
)
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import for_code

import cases
from cases import SESSION_MS, WAIT_S, Topic, messages

STRATEGIES = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
}
DEFAULT_CONFIG = 5

LOOP = asyncio.new_event_loop()


def call(coroutine, limit_s=2 * WAIT_S):
    return asyncio.run_coroutine_threadsafe(coroutine, LOOP).result(limit_s)


async def started(kind, *args, **settings):
    """Made within the loop, as all of aiokafka must be."""
    client = kind(*args, **settings)
    await client.start()
    return client


def raise_for(code, message=None):
    if code:
        raise for_code(code)(message)


class Producer:
    def __init__(self, bootstrap, codec="none", acks=-1, idempotent=False, linger_ms=0, batch_bytes=16_384,
                 request_bytes_max=1_048_576, patience_s=WAIT_S):  # fmt: skip
        self._producer = call(started(
            AIOKafkaProducer,
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            acks=acks,
            enable_idempotence=idempotent,
            linger_ms=linger_ms,
            max_batch_size=max(batch_bytes, request_bytes_max if request_bytes_max > 1_048_576 else 0),
            max_request_size=request_bytes_max,
            request_timeout_ms=patience_s * 1000,
            retry_backoff_ms=20,
        ))  # fmt: skip

    def start(self, topic, records):
        return Pending(call(self._send(topic, records)))

    async def _send(self, topic, records):
        return [
            await self._producer.send(topic, value, key, partition, timestamp, headers)
            for partition, key, value, headers, timestamp in records
        ]

    def close(self):
        call(self._producer.stop())


class Pending:
    def __init__(self, futures):
        self._futures = futures

    def wait(self, count):
        """(partition, offset) of the first `count` records, when they are acknowledged."""
        done = call(_all(self._futures[:count]))
        return [(metadata.partition, metadata.offset) for metadata in done if metadata is not None]


async def _all(futures):
    return await asyncio.wait_for(asyncio.gather(*futures), WAIT_S)


class Reader:
    def __init__(self, bootstrap, topic, starts, read_committed=False, fetch_wait_ms=500,
                 fetch_bytes_max=1_048_576, reset="none"):  # fmt: skip
        self._consumer = call(started(
            AIOKafkaConsumer,
            bootstrap_servers=bootstrap,
            isolation_level="read_committed" if read_committed else "read_uncommitted",
            fetch_max_wait_ms=fetch_wait_ms,
            max_partition_fetch_bytes=fetch_bytes_max,
            auto_offset_reset=reset,
            enable_auto_commit=False,
            retry_backoff_ms=20,
        ))  # fmt: skip
        call(self._seek(topic, starts))

    async def _seek(self, topic, starts):
        self._consumer.assign([TopicPartition(topic, p) for p in starts])
        for p, offset in starts.items():
            self._consumer.seek(TopicPartition(topic, p), offset)

    def poll(self, wait_s=0.05):
        return messages(call(self._consumer.getmany(timeout_ms=int(wait_s * 1000))))

    def close(self):
        call(self._consumer.stop())


class Member(ConsumerRebalanceListener):
    def __init__(self, bootstrap, group, topic, strategy, instance=None, session_ms=SESSION_MS):
        self.rebalances = 0
        self.records = []
        self._topic = topic
        self._consumer = call(self._start(
            bootstrap_servers=bootstrap,
            group_id=group,
            group_instance_id=instance,
            partition_assignment_strategy=[STRATEGIES[strategy]],
            session_timeout_ms=int(session_ms),
            heartbeat_interval_ms=500,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            retry_backoff_ms=20,
        ))  # fmt: skip

    async def _start(self, **settings):
        consumer = AIOKafkaConsumer(**settings)
        consumer.subscribe([self._topic], listener=self)
        # Starting a member waits for its first assignment, which may need the other members' polls.
        self._starting = asyncio.ensure_future(consumer.start())
        return consumer

    def on_partitions_assigned(self, assigned):
        self.rebalances += 1

    def on_partitions_revoked(self, revoked):
        pass

    def assigned(self):
        return {tp.partition for tp in self._consumer.assignment()}

    def poll(self, wait_s):
        if not self._starting.done():
            return
        for message in messages(call(self._consumer.getmany(timeout_ms=int(wait_s * 1000)))):
            self.records.append((message.partition, message.offset))

    def commit(self, offsets):
        call(self._consumer.commit({TopicPartition(self._topic, p): (at, "") for p, at in offsets.items()}))

    def close(self):
        call(self._consumer.stop())


class AioKafka(cases.Adapter):
    name = "aiokafka"
    program = os.path.abspath(__file__)
    kinds = Producer, Reader, Member
    describing_creates = True

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self._admin = call(started(AIOKafkaAdminClient, bootstrap_servers=bootstrap, retry_backoff_ms=20))
        # These ask for offsets.
        self._consumers = [
            call(started(AIOKafkaConsumer, bootstrap_servers=bootstrap, isolation_level=level, retry_backoff_ms=20))
            for level in ("read_uncommitted", "read_committed")
        ]

    def create(self, topic, partitions, config=None, replicas=1, validate_only=False):
        new = NewTopic(topic, partitions, replicas, topic_configs=config or {})
        reply = call(self._admin.create_topics([new], validate_only=validate_only))
        for _, code, *message in reply.topic_errors:
            raise_for(code, message)

    def drop(self, topic):
        for _, code in call(self._admin.delete_topics([topic])).topic_error_codes:
            raise_for(code)

    def topics(self):
        return set(call(self._admin.list_topics()))

    def describe(self, topic):
        (found,) = call(self._admin.describe_topics([topic]))
        leaders = {p["partition"]: p["leader"] for p in found["partitions"]}
        in_sync = {p["partition"]: p["isr"] for p in found["partitions"]}
        # aiokafka speaks no version of Metadata with topic ids.
        return Topic(found["error_code"], None, leaders, in_sync)

    def cluster(self):
        found = call(self._admin.describe_cluster())
        nodes = {broker["node_id"]: (broker["host"], broker["port"]) for broker in found["brokers"]}
        return found["cluster_id"], found["controller_id"], nodes

    def _configs(self, kind, name):
        (reply,) = call(self._admin.describe_configs([ConfigResource(kind, name)]))
        ((code, message, _, _, entries),) = reply.resources
        raise_for(code, message)
        return {key: (value, source == DEFAULT_CONFIG) for key, value, _, source, *_ in entries}

    def topic_configs(self, topic):
        return self._configs(ConfigResourceType.TOPIC, topic)

    def broker_configs(self, node):
        return self._configs(ConfigResourceType.BROKER, str(node))

    def create_partitions(self, topic, count):
        call(self._admin.create_partitions({topic: NewPartitions(count)}))

    def alter_configs(self, topic, configs):
        replies = call(self._admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)]))
        for code, message, *_ in (resource for reply in replies for resource in reply.resources):
            raise_for(code, message)

    def reset_configs(self, topic, names):
        # aiokafka has AlterConfigs only, which resets what it does not name.
        self.alter_configs(topic, {})

    def delete_records(self, topic, partition, offset):
        asked = TopicPartition(topic, partition)
        return call(self._admin.delete_records({asked: RecordsToDelete(offset)}))[asked]

    def bounds(self, topic, partitions, read_committed=False):
        asked = [TopicPartition(topic, p) for p in range(partitions)]
        consumer = self._consumers[read_committed]
        starts = call(consumer.beginning_offsets(asked))
        ends = call(consumer.end_offsets(asked))
        return [(starts[tp], ends[tp]) for tp in asked]

    def lookup(self, topic, time_ms):
        asked = TopicPartition(topic, 0)
        found = call(self._consumers[0].offsets_for_times({asked: time_ms}))[asked]
        return None if found is None else (found.offset, found.timestamp)

    def committed(self, group, topic, partitions):
        asked = [TopicPartition(topic, p) for p in range(partitions)]
        found = call(self._admin.list_consumer_group_offsets(group, partitions=asked))
        return [None if found[tp].offset < 0 else (found[tp].offset, found[tp].metadata) for tp in asked]

    def commit(self, group, topic, offsets):
        call(self._commit(group, topic, offsets))

    async def _commit(self, group, topic, offsets):
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False, retry_backoff_ms=20
        )
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, p) for p in offsets])
            await consumer.commit({
                TopicPartition(topic, p): OffsetAndMetadata(at, text) for p, (at, text) in offsets.items()
            })  # fmt: skip
        finally:
            await consumer.stop()

    def groups(self):
        return {group for group, *_ in call(self._admin.list_consumer_groups())}

    def group_state(self, group):
        (reply,) = call(self._admin.describe_consumer_groups([group]))
        ((code, _, state, *_),) = reply.groups
        raise_for(code)
        return state, None


if __name__ == "__main__":
    threading.Thread(target=LOOP.run_forever, daemon=True).start()
    cases.main(AioKafka)
