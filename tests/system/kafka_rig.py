"""The rig at Apache Kafka, as benches/peers assembles and starts it, for cases that hold for any Kafka broker."""

import dataclasses
import os
import sys

import wire
from rig import Rig, until

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "benches", "peers")
# Behind all others: there is a run.py, too.
sys.path.append(PEERS)
from brokers.kafka import Kafka  # noqa: E402  (the path is set above)
from brokers.peer import Variant  # noqa: E402

# Groups do not wait for a second member.
VARIANT = Variant("commands", "page cache", {"group.initial.rebalance.delay.ms": "0"})


def prepare():
    """Fetches Kafka, unless it is there. Raises toolchain.Missing or toolchain.BuildError."""
    kafka = Kafka()
    kafka.prepare()
    return kafka


class KafkaRig(Rig):
    is_kafka = True

    def __init__(self, kafka, binary, folder):
        super().__init__(binary, folder)
        self._kafka = kafka

    def endpoint(self, shards=1):
        """`shards` is for ours: a node of Kafka has all cores."""
        return self.peer({})

    def peer(self, settings):
        """Kafka with these settings besides its own."""
        variant = dataclasses.replace(VARIANT, settings={**VARIANT.settings, **settings})
        return self._start(lambda folder: self._kafka.server(variant, folder, sorted(os.sched_getaffinity(0))))

    def cluster(self):
        """Two nodes, the first of which is the controller, too."""
        first = self.endpoint()
        self._start(lambda folder: first.another(folder, 2))

        def both():
            with wire.Client(first.kafka) as client:
                return client.brokers() == 2

        until(both, "the first node does not know of the second")
        return first

    def _start(self, broker_in):
        folder = os.path.join(self.folder, f"broker-{len(self.brokers)}")
        os.makedirs(folder)
        broker = broker_in(folder)
        self.brokers.append(broker)
        self.at_end(broker.kill)
        broker.start()
        return broker

    def restart(self, broker):
        broker.kill()
        broker.start_again()
