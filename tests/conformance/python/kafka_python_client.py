"""kafka-python as an adapter of cases.py."""

import concurrent.futures
import os
import re

from kafka import (
    ConsumerRebalanceListener,
    IsolationLevel,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    OffsetAndMetadata,
    OffsetSpec,
    TopicPartition,
)
from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

import cases
from cases import SESSION_MS, WAIT_S, Topic, messages

STRATEGIES = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "sticky": StickyPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}
# Restarts are what these cases are about; the defaults wait up to 30 s between attempts.
QUICK = {"retry_backoff_ms": 20, "reconnect_backoff_ms": 20, "reconnect_backoff_max_ms": 100}
# Long against what lies between two polls of a member and against a round of joining; short for who would commit.
MEMBER_POLL_MS = 500


class Producer:
    def __init__(self, bootstrap, codec="none", acks=-1, idempotent=False, linger_ms=0, batch_bytes=16_384,
                 request_bytes_max=1_048_576, patience_s=WAIT_S):  # fmt: skip
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            acks=acks,
            enable_idempotence=idempotent,
            linger_ms=linger_ms,
            batch_size=batch_bytes,
            max_request_size=request_bytes_max,
            delivery_timeout_ms=max(patience_s * 1000, 31_000),
            max_block_ms=patience_s * 1000,
            **QUICK,
        )

    def start(self, topic, records):
        return Pending([
            self._producer.send(topic, value, key, headers, partition, timestamp)
            for partition, key, value, headers, timestamp in records
        ])  # fmt: skip

    def close(self):
        self._producer.close(WAIT_S)


class Pending:
    def __init__(self, futures):
        self._futures = futures

    def wait(self, count):
        """(partition, offset) of the first `count` records, when they are acknowledged."""
        done = [future.get(WAIT_S) for future in self._futures[:count]]
        return [(metadata.partition, metadata.offset) for metadata in done]


class Reader:
    def __init__(self, bootstrap, topic, starts, read_committed=False, fetch_wait_ms=500,
                 fetch_bytes_max=1_048_576, reset="none"):  # fmt: skip
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level="read_committed" if read_committed else "read_uncommitted",
            fetch_max_wait_ms=fetch_wait_ms,
            max_partition_fetch_bytes=fetch_bytes_max,
            auto_offset_reset=reset,
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            **QUICK,
        )
        self._consumer.assign([TopicPartition(topic, p) for p in starts])
        for p, offset in starts.items():
            self._consumer.seek(TopicPartition(topic, p), offset)

    def poll(self, wait_s=0.05):
        return messages(self._consumer.poll(int(wait_s * 1000)))

    def close(self):
        self._consumer.close()


class Member(ConsumerRebalanceListener):
    """A consumer with a thread of its own, which does nothing but poll, as users run it.

    kafka-python (3.0.12) goes on joining when a poll's time is up; but where that ends between two polls, the
    next one forgets the outcome and joins again, and if the member leads the group, so must all others. Were
    members polled in turn by one thread, most rounds would end while the leader is not polled: the group would
    begin anew until one ended at the right moment, from no time at all to more than a minute later.
    """

    def __init__(self, bootstrap, group, topic, strategy, instance=None, session_ms=SESSION_MS):
        self.rebalances = 0
        self.records = []
        self._topic = topic
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            group_instance_id=instance,
            partition_assignment_strategy=[STRATEGIES[strategy]],
            session_timeout_ms=int(session_ms),
            heartbeat_interval_ms=500,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            **QUICK,
        )
        self._consumer.subscribe([topic], listener=self)
        self._closing = False
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self._thread.submit(self._queue_up).result()

    def _queue_up(self):
        """Asks the thread, from within, for the next poll, behind a call that waits already."""
        self._polling = self._thread.submit(self._poll_on)

    def _poll_on(self):
        if self._closing:
            return
        for message in messages(self._consumer.poll(MEMBER_POLL_MS)):
            self.records.append((message.partition, message.offset))
        self._queue_up()

    def on_partitions_assigned(self, assigned):
        self.rebalances += 1

    def on_partitions_revoked(self, revoked):
        pass

    def assigned(self):
        return {tp.partition for tp in self._consumer.assignment()}

    def poll(self, wait_s):
        """Gives the thread time for a poll; raises what has stopped it."""
        done, _ = concurrent.futures.wait([self._polling], wait_s)
        for polling in done:
            polling.result()

    def commit(self, offsets):
        offsets = {TopicPartition(self._topic, p): OffsetAndMetadata(at, "", -1) for p, at in offsets.items()}
        self._thread.submit(self._consumer.commit, offsets, timeout_ms=WAIT_S * 1000).result()

    def close(self):
        self._closing = True
        self._thread.submit(self._consumer.close).result()
        self._thread.shutdown()


class KafkaPython(cases.Adapter):
    name = "kafka-python"
    program = os.path.abspath(__file__)
    kinds = Producer, Reader, Member

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self._admin = KafkaAdminClient(bootstrap_servers=bootstrap, **QUICK)

    def create(self, topic, partitions, config=None, replicas=1, validate_only=False):
        new = {"num_partitions": partitions, "replication_factor": replicas, "configs": config or {}}
        self._admin.create_topics({topic: new}, validate_only=validate_only)

    def drop(self, topic):
        self._admin.delete_topics([topic])

    def topics(self):
        return set(self._admin.list_topics())

    def describe(self, topic):
        (found,) = self._admin.describe_topics([topic])
        leaders = {p["partition_index"]: p["leader_id"] for p in found["partitions"]}
        in_sync = {p["partition_index"]: p["isr_nodes"] for p in found["partitions"]}
        return Topic(found["error_code"], str(found.get("topic_id")), leaders, in_sync)

    def cluster(self):
        found = self._admin.describe_cluster()
        nodes = {broker["broker_id"]: (broker["host"], broker["port"]) for broker in found["brokers"]}
        return found["cluster_id"], found["controller_id"], nodes

    def _configs(self, kind, name):
        described = self._admin.describe_configs([ConfigResource(kind, name)], config_filter="all")
        (found,) = described[kind.name.lower()].values()
        return {key: (entry["value"], entry["config_source"] == "DEFAULT_CONFIG") for key, entry in found.items()}

    def topic_configs(self, topic):
        return self._configs(ConfigResourceType.TOPIC, topic)

    def broker_configs(self, node):
        return self._configs(ConfigResourceType.BROKER, str(node))

    def create_partitions(self, topic, count):
        self._admin.create_partitions({topic: count})

    def alter_configs(self, topic, configs):
        self._altered(topic, self._admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)]))

    def reset_configs(self, topic, names):
        self._altered(topic, self._admin.reset_configs([ConfigResource(ConfigResourceType.TOPIC, topic, names)]))

    @staticmethod
    def _altered(topic, outcome):
        """The outcome of an alteration is returned as a text, not raised."""
        failed = re.search(r"\[Error (\d+)\]", outcome["topic"][topic])
        if failed:
            raise errors.for_code(int(failed[1]))(outcome["topic"][topic])

    def delete_records(self, topic, partition, offset):
        asked = TopicPartition(topic, partition)
        answer = self._admin.delete_records({asked: offset})[asked]
        return answer["low_watermark"]

    def _offsets(self, topic, partitions, spec, read_committed=False):
        asked = {TopicPartition(topic, p): spec for p in range(partitions)}
        isolation = IsolationLevel.READ_COMMITTED if read_committed else IsolationLevel.READ_UNCOMMITTED
        found = self._admin.list_partition_offsets(asked, isolation)
        return [found[TopicPartition(topic, p)] for p in range(partitions)]

    def bounds(self, topic, partitions, read_committed=False):
        starts = self._offsets(topic, partitions, OffsetSpec.EARLIEST, read_committed)
        ends = self._offsets(topic, partitions, OffsetSpec.LATEST, read_committed)
        return [(start.offset, end.offset) for start, end in zip(starts, ends)]

    def lookup(self, topic, time_ms):
        (found,) = self._offsets(topic, 1, time_ms)
        return None if found.offset < 0 else (found.offset, found.timestamp)

    def max_timestamp(self, topic):
        (found,) = self._offsets(topic, 1, OffsetSpec.MAX_TIMESTAMP)
        return found.offset, found.timestamp

    def committed(self, group, topic, partitions):
        found = self._admin.list_group_offsets([group])[group]
        offsets = [found.get(TopicPartition(topic, p)) for p in range(partitions)]
        return [None if at is None or at.offset < 0 else (at.offset, at.metadata) for at in offsets]

    def commit(self, group, topic, offsets):
        asked = {TopicPartition(topic, p): OffsetAndMetadata(at, text, -1) for p, (at, text) in offsets.items()}
        for error in self._admin.alter_group_offsets(group, asked).values():
            if error is not errors.NoError:
                raise error

    def groups(self):
        return {group["group_id"] for group in self._admin.list_groups()}

    def group_state(self, group):
        found = self._admin.describe_groups([group])[group]
        return found["group_state"], [member.get("group_instance_id") for member in found["members"]]

    def delete_group(self, group):
        outcome = self._admin.delete_groups([group])[group]
        return None if outcome == "OK" else getattr(errors, outcome).errno


if __name__ == "__main__":
    cases.main(KafkaPython)
